/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The attestation partition's door: request types, its secure function, and its provisioning. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_ATTESTATION_SERVICE_H
#define SP_DEVICE_SECURE_PARTITIONS_ATTESTATION_SERVICE_H

#include "libs/attest/attest.h"
#include "psa/service.h"
#include "sallyport/boot_record.h"

/** Request types, as in TF-M. */
enum sp_attestation_request {
    SP_ATTESTATION_GET_TOKEN = 1001,      /**< in: challenge; out: token */
    SP_ATTESTATION_GET_TOKEN_SIZE = 1002, /**< in: size_t challenge size; out: size_t token size */
};

/** Start with what was measured (borrowed for good); a provisioned device finds itself again. */
psa_status_t sp_attestation_entry_init(const struct sp_boot_record *boot);

/**
 * Take the attestation key over: into the crypto partition, and the instance id derived from it into storage.
 * @param[in] iak 32..64 bytes; the caller wipes its copy.
 */
psa_status_t sp_attestation_provision(struct sp_view iak, enum sp_attest_algorithm algorithm,
                                      bool persistent);

#define SP_ATTESTATION_BURST       4U    /**< tokens that a client may ask for at once */
#define SP_ATTESTATION_INTERVAL_MS 1000U /**< after that, one per this time */

/**
 * Limit how often tokens are made: the attestation key is no oracle for whoever asks the most. Without a clock there
 * is no limit. A token above it is refused with PSA_ERROR_CONNECTION_BUSY.
 */
void sp_attestation_limit(uint64_t (*clock_ms)(void));

psa_status_t sp_attestation_sfn(const psa_msg_t *msg);

#endif
