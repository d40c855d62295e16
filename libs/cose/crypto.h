/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The crypto seam: the few primitives that the libraries need, supplied at link time.
 *
 * gateway/crypto/crypto_gnutls.c implements it over GnuTLS, device/port/crypto_psa.c over PSA Crypto.
 * A key is either bytes in memory or the number of a key that lives elsewhere (a PSA key id).
 */
#ifndef SP_LIBS_COSE_CRYPTO_H
#define SP_LIBS_COSE_CRYPTO_H

#include "libs/base/bytes.h"

enum sp_hash {
    SP_SHA256 = 32,
    SP_SHA384 = 48,
    SP_SHA512 = 64
}; /**< value = digest length in bytes */
#define SP_HASH_MAX 64U

/** What HMAC makes of one key before it sees a message (RFC 2104, 4). As secret as the key. */
struct sp_crypto_midstates {
    enum sp_hash hash;
    uint64_t inner[8];
    uint64_t outer[8];
};

/** `bytes` when it is not empty, else the key with number `id`. Borrowed. */
struct sp_crypto_key {
    struct sp_view bytes;
    uint32_t id;
    const struct sp_crypto_midstates
        *midstates; /**< of `bytes`, to save their time: gateway/crypto/midstates.h; NULL: none */
};

/**
 * Hash the concatenation of `count` parts into `out` (as many bytes as the value of `hash`).
 * @retval SP_ERR_CRYPTO      The library failed.
 * @retval SP_ERR_UNSUPPORTED This build lacks the hash.
 */
SP_MUST_CHECK enum sp_err sp_crypto_hash(enum sp_hash hash, const struct sp_view *parts,
                                         size_t count, uint8_t *out);

/** HMAC (RFC 2104) over the concatenation of `count` parts; `out` as in sp_crypto_hash(). */
SP_MUST_CHECK enum sp_err sp_crypto_hmac(enum sp_hash hash, const struct sp_crypto_key *key,
                                         const struct sp_view *parts, size_t count, uint8_t *out);

/** One AES-CCM operation (NIST SP 800-38C) with a 13-byte nonce; keys of 16 bytes. */
struct sp_crypto_aead {
    struct sp_crypto_key key;
    struct sp_view nonce; /**< 13 bytes */
    struct sp_view aad;
    size_t tag_len; /**< 8 or 16 */
};

/**
 * Encrypt. `out` gets plain.len + tag_len bytes, ciphertext then tag; must not overlap `plain`.
 * @retval SP_ERR_SPACE `cap` is too small.
 */
SP_MUST_CHECK enum sp_err sp_crypto_seal(const struct sp_crypto_aead *aead, struct sp_view plain,
                                         uint8_t *out, size_t cap, size_t *out_len);

/**
 * Check and decrypt `sealed` (ciphertext then tag) to `out`.
 * @retval SP_ERR_UNTRUSTED The tag is wrong; nothing was written.
 */
SP_MUST_CHECK enum sp_err sp_crypto_open(const struct sp_crypto_aead *aead, struct sp_view sealed,
                                         uint8_t *out, size_t cap, size_t *out_len);

#endif
