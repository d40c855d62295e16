/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Making the attestation token out of the boot record, the instance id and the attestation key. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_ATTESTATION_CORE_H
#define SP_DEVICE_SECURE_PARTITIONS_ATTESTATION_CORE_H

#include "libs/attest/attest.h"
#include "psa/error.h"
#include "sallyport/boot_record.h"

/** What the device is, as kept since provisioning. */
struct sp_attestation_identity {
    uint8_t instance_id[SP_ATTEST_UEID_LEN];
    enum sp_attest_algorithm algorithm;
    struct sp_crypto_key key;
};

/**
 * @param[in]  challenge 32, 48 or 64 bytes.
 * @param[in]  client_id Who asks; < 0: the non-secure world.
 * @param[out] out       The token, with claims of RFC 9783's profile.
 * @retval PSA_ERROR_INVALID_ARGUMENT Another challenge size.
 * @retval PSA_ERROR_BUFFER_TOO_SMALL It needs more than `cap` bytes.
 * @retval PSA_ERROR_SERVICE_FAILURE  The key cannot be used.
 */
psa_status_t sp_attestation_token(const struct sp_boot_record *boot,
                                  const struct sp_attestation_identity *identity,
                                  struct sp_view challenge, int32_t client_id, uint8_t *out,
                                  size_t cap, size_t *out_len);

#endif
