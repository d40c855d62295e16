/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The storage partition's door: request types, and its secure function. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_ITS_SERVICE_H
#define SP_DEVICE_SECURE_PARTITIONS_ITS_SERVICE_H

#include "device/secure/partitions/its/its_core.h"
#include "psa/service.h"

/** Request types. */
enum sp_its_request {
    SP_ITS_SET = 1001,      /**< in: struct sp_its_address, data */
    SP_ITS_GET = 1002,      /**< in: struct sp_its_address; out: data */
    SP_ITS_GET_INFO = 1003, /**< in: struct sp_its_address; out: struct psa_storage_info_t */
    SP_ITS_REMOVE = 1004,   /**< in: struct sp_its_address */
};

/** First input of every request. */
struct sp_its_address {
    psa_storage_uid_t uid;
    psa_storage_create_flags_t flags; /**< set only */
    uint32_t offset;                  /**< get only */
};

/** Open the store on its medium, once, before the first request. Returns as sp_its_open(). */
psa_status_t sp_its_entry_init(const struct sp_its_medium *medium);

psa_status_t sp_its_sfn(const psa_msg_t *msg);

#endif
