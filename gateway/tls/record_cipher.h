/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The cipher seam of the record layer: AES-128 with a tag, one record at a time. */
#ifndef SP_GATEWAY_TLS_RECORD_CIPHER_H
#define SP_GATEWAY_TLS_RECORD_CIPHER_H

#include "gateway/tls/record.h"

#define SP_RECORD_NONCE 12U
#define SP_RECORD_AAD   13U

/** What one record is sealed under; all borrowed. */
struct sp_record_cipher {
    enum sp_record_suite suite;
    const uint8_t *key;   /**< 16 bytes */
    const uint8_t *nonce; /**< SP_RECORD_NONCE bytes */
    const uint8_t *aad;   /**< SP_RECORD_AAD bytes */
};

/** Bytes of the tag: 8 or 16. */
size_t sp_record_tag(enum sp_record_suite suite);

/** `out` gets ciphertext and tag, and does not overlap `plain`. */
void sp_record_encrypt(const struct sp_record_cipher *cipher, struct sp_view plain, uint8_t *out);

/**
 * @param[in]  sealed Ciphertext and tag, at least the tag.
 * @param[out] out    The plaintext; only to be used when the tag is right.
 * @return The tag is right (compared in constant time).
 */
bool sp_record_decrypt(const struct sp_record_cipher *cipher, struct sp_view sealed, uint8_t *out);

#endif
