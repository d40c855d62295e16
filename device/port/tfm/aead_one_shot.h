/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file psa_aead_encrypt() and psa_aead_decrypt() over the multi-part calls, for a PSA Crypto service that has no others.
 *
 * TF-M's Profile Small answers the one-shot calls with PSA_ERROR_NOT_SUPPORTED, and the TLS client uses them. Compile what calls
 * them with -Dpsa_aead_encrypt=sp_aead_encrypt -Dpsa_aead_decrypt=sp_aead_decrypt (docs/tf-m.md). A call takes one of the
 * service's operations (Profile Small has four) and has given it back when it returns. Parameters and errors are those of the
 * functions replaced (PSA Crypto API 1.1). The output may start where the text starts, as the TLS client has it; otherwise
 * it must not overlap the inputs.
 */
#ifndef SP_DEVICE_PORT_TFM_AEAD_ONE_SHOT_H
#define SP_DEVICE_PORT_TFM_AEAD_ONE_SHOT_H

#include <psa/crypto.h>

/**
 * Encrypt: ciphertext, then the algorithm's tag. On failure all ciphertext_size bytes are zero and the length 0.
 * @retval PSA_ERROR_BUFFER_TOO_SMALL ciphertext_size is less than the plaintext and a tag.
 */
psa_status_t sp_aead_encrypt(mbedtls_svc_key_id_t key, psa_algorithm_t alg, const uint8_t *nonce,
                             size_t nonce_length, const uint8_t *additional_data,
                             size_t additional_data_length, const uint8_t *plaintext,
                             size_t plaintext_length, uint8_t *ciphertext, size_t ciphertext_size,
                             size_t *ciphertext_length);

/**
 * Check and decrypt. The multi-part calls hand out plaintext before they have seen the tag: `plaintext` holds unchecked
 * bytes while this runs. They stay, and the length is set, only when the tag was right; on any failure all plaintext_size bytes
 * are zero and the length 0.
 * @retval PSA_ERROR_INVALID_SIGNATURE The tag is wrong.
 * @retval PSA_ERROR_INVALID_ARGUMENT  ciphertext_length is less than a tag.
 * @retval PSA_ERROR_BUFFER_TOO_SMALL  plaintext_size is less than the plaintext.
 */
psa_status_t sp_aead_decrypt(mbedtls_svc_key_id_t key, psa_algorithm_t alg, const uint8_t *nonce,
                             size_t nonce_length, const uint8_t *additional_data,
                             size_t additional_data_length, const uint8_t *ciphertext,
                             size_t ciphertext_length, uint8_t *plaintext, size_t plaintext_size,
                             size_t *plaintext_length);

#endif
