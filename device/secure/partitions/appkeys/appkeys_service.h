/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The app key partition's door: request types, its secure function, and its provisioning. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_APPKEYS_SERVICE_H
#define SP_DEVICE_SECURE_PARTITIONS_APPKEYS_SERVICE_H

#include "device/secure/partitions/appkeys/appkeys_core.h"
#include "psa/service.h"

enum sp_appkeys_request {
    SP_APPKEYS_GRANT = 1001, /**< in: grant; out: acknowledgement */
    SP_APPKEYS_OPEN,         /**< in: topic, record; out: struct sp_appkeys_record */
    SP_APPKEYS_SEAL, /**< in: topic, clear record; out: record. For the sensor partition only */
};

psa_status_t sp_appkeys_entry_init(void);

/** Take over what a bundle says about app keys. */
psa_status_t sp_appkeys_take_bundle(const struct sp_appkeys_bundle *bundle);

psa_status_t sp_appkeys_sfn(const psa_msg_t *msg);

#endif
