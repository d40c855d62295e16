/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file PSA Attestation API 1.0: a signed statement of what this device is and what it booted. */
#ifndef SP_DEVICE_SECURE_PSA_INITIAL_ATTESTATION_H
#define SP_DEVICE_SECURE_PSA_INITIAL_ATTESTATION_H

#include "psa/error.h"

#include <stddef.h>

#define PSA_INITIAL_ATTEST_API_VERSION_MAJOR 1
#define PSA_INITIAL_ATTEST_API_VERSION_MINOR 0

#define PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE 704U /**< no token of this device is larger */

#define PSA_INITIAL_ATTEST_CHALLENGE_SIZE_32 32U
#define PSA_INITIAL_ATTEST_CHALLENGE_SIZE_48 48U
#define PSA_INITIAL_ATTEST_CHALLENGE_SIZE_64 64U

/**
 * Make a token over a challenge.
 *
 * @param[in]  auth_challenge 32, 48 or 64 bytes from the verifier.
 * @param[out] token_buf      The token: COSE_Mac0 under the device's attestation key.
 * @param[out] token_size     Its size; on PSA_SUCCESS only.
 * @retval PSA_ERROR_INVALID_ARGUMENT Another challenge size.
 * @retval PSA_ERROR_BUFFER_TOO_SMALL The token needs more than token_buf_size bytes.
 * @retval PSA_ERROR_SERVICE_FAILURE  No attestation key, or a service below failed.
 */
psa_status_t psa_initial_attest_get_token(const uint8_t *auth_challenge, size_t challenge_size,
                                          uint8_t *token_buf, size_t token_buf_size,
                                          size_t *token_size);

/** The exact size of the token for a challenge of that size. Errors as above. */
psa_status_t psa_initial_attest_get_token_size(size_t challenge_size, size_t *token_size);

#endif
