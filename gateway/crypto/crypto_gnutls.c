/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The crypto seam of the libraries over GnuTLS. One part goes through GnuTLS's one-shot calls, which
 * need no allocation of a context; several parts through a context that is gone before we return.
 */
#include "libs/cose/crypto.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "gateway/crypto/midstates.h"

#define CCM_NONCE_LEN 13U
#define CCM_KEY_LEN   16U

static enum sp_err from_gnutls(int rc)
{
    switch (rc) {
    case GNUTLS_E_SUCCESS:
        return SP_OK;
    case GNUTLS_E_MEMORY_ERROR:
        return SP_ERR_NOMEM;
    case GNUTLS_E_DECRYPTION_FAILED:
        return SP_ERR_UNTRUSTED;
    default:
        return SP_ERR_CRYPTO;
    }
}

static enum sp_err hash_algorithm(enum sp_hash hash, gnutls_digest_algorithm_t *out)
{
    switch (hash) {
    case SP_SHA256:
        *out = GNUTLS_DIG_SHA256;
        return SP_OK;
    case SP_SHA384:
        *out = GNUTLS_DIG_SHA384;
        return SP_OK;
    case SP_SHA512:
        *out = GNUTLS_DIG_SHA512;
        return SP_OK;
    default:
        return SP_ERR_UNSUPPORTED;
    }
}

/* GnuTLS numbers its HMACs like its hashes. */
static gnutls_mac_algorithm_t hmac_algorithm(gnutls_digest_algorithm_t digest)
{
    return (gnutls_mac_algorithm_t)digest;
}

enum sp_err sp_crypto_hash(enum sp_hash hash, const struct sp_view *parts, size_t count,
                           uint8_t *out)
{
    gnutls_digest_algorithm_t algorithm = GNUTLS_DIG_NULL;
    SP_TRY(hash_algorithm(hash, &algorithm));
    if (count == 1) {
        return from_gnutls(gnutls_hash_fast(algorithm, parts[0].ptr, parts[0].len, out));
    }
    gnutls_hash_hd_t context = NULL;
    int rc = gnutls_hash_init(&context, algorithm);
    if (rc != GNUTLS_E_SUCCESS) {
        return from_gnutls(rc);
    }
    for (size_t i = 0; i < count && rc == GNUTLS_E_SUCCESS; i++) {
        rc = gnutls_hash(context, parts[i].ptr, parts[i].len);
    }
    gnutls_hash_deinit(context, rc == GNUTLS_E_SUCCESS ? out : NULL);
    return from_gnutls(rc);
}

enum sp_err sp_crypto_hmac(enum sp_hash hash, const struct sp_crypto_key *key,
                           const struct sp_view *parts, size_t count, uint8_t *out)
{
    gnutls_digest_algorithm_t digest = GNUTLS_DIG_NULL;
    SP_TRY(hash_algorithm(hash, &digest));
    if (key->bytes.len == 0) { /* this side has no numbered keys */
        return SP_ERR_UNSUPPORTED;
    }
    if (key->midstates != NULL) {
        if (key->midstates->hash != hash) {
            return SP_ERR_ARGUMENT;
        }
        sp_midstates_hmac(key->midstates, parts, count, out);
        return SP_OK;
    }
    gnutls_mac_algorithm_t algorithm = hmac_algorithm(digest);
    if (count == 1) {
        return from_gnutls(gnutls_hmac_fast(algorithm, key->bytes.ptr, key->bytes.len, parts[0].ptr,
                                            parts[0].len, out));
    }
    gnutls_hmac_hd_t context = NULL;
    int rc = gnutls_hmac_init(&context, algorithm, key->bytes.ptr, key->bytes.len);
    if (rc != GNUTLS_E_SUCCESS) {
        return from_gnutls(rc);
    }
    for (size_t i = 0; i < count && rc == GNUTLS_E_SUCCESS; i++) {
        rc = gnutls_hmac(context, parts[i].ptr, parts[i].len);
    }
    gnutls_hmac_deinit(context, rc == GNUTLS_E_SUCCESS ? out : NULL);
    return from_gnutls(rc);
}

static enum sp_err ccm_open_context(const struct sp_crypto_aead *aead,
                                    gnutls_aead_cipher_hd_t *context)
{
    bool tag_ok = aead->tag_len == 8 || aead->tag_len == 16;
    if (!tag_ok || aead->nonce.len != CCM_NONCE_LEN || aead->key.bytes.len != CCM_KEY_LEN) {
        return SP_ERR_UNSUPPORTED;
    }
    gnutls_cipher_algorithm_t algorithm =
        aead->tag_len == 8 ? GNUTLS_CIPHER_AES_128_CCM_8 : GNUTLS_CIPHER_AES_128_CCM;
    /* The datum is not const, but is only read. */
    uint8_t key_bytes[CCM_KEY_LEN];
    sp_copy(key_bytes, aead->key.bytes.ptr, CCM_KEY_LEN);
    gnutls_datum_t key = {key_bytes, CCM_KEY_LEN};
    int rc = gnutls_aead_cipher_init(context, algorithm, &key);
    sp_wipe(key_bytes, sizeof(key_bytes));
    return from_gnutls(rc);
}

enum sp_err sp_crypto_seal(const struct sp_crypto_aead *aead, struct sp_view plain, uint8_t *out,
                           size_t cap, size_t *out_len)
{
    if (cap < aead->tag_len || cap - aead->tag_len < plain.len) {
        return SP_ERR_SPACE;
    }
    gnutls_aead_cipher_hd_t context = NULL;
    SP_TRY(ccm_open_context(aead, &context));
    size_t len = cap;
    int rc =
        gnutls_aead_cipher_encrypt(context, aead->nonce.ptr, aead->nonce.len, aead->aad.ptr,
                                   aead->aad.len, aead->tag_len, plain.ptr, plain.len, out, &len);
    gnutls_aead_cipher_deinit(context);
    if (rc == GNUTLS_E_SUCCESS) {
        *out_len = len;
    }
    return from_gnutls(rc);
}

enum sp_err sp_crypto_open(const struct sp_crypto_aead *aead, struct sp_view sealed, uint8_t *out,
                           size_t cap, size_t *out_len)
{
    if (sealed.len < aead->tag_len) {
        return SP_ERR_UNTRUSTED;
    }
    if (cap < sealed.len - aead->tag_len) {
        return SP_ERR_SPACE;
    }
    gnutls_aead_cipher_hd_t context = NULL;
    SP_TRY(ccm_open_context(aead, &context));
    size_t len = cap;
    int rc =
        gnutls_aead_cipher_decrypt(context, aead->nonce.ptr, aead->nonce.len, aead->aad.ptr,
                                   aead->aad.len, aead->tag_len, sealed.ptr, sealed.len, out, &len);
    gnutls_aead_cipher_deinit(context);
    if (rc == GNUTLS_E_SUCCESS) {
        *out_len = len;
    } else {
        sp_wipe(out, sealed.len - aead->tag_len); /* CCM decrypts before it checks */
    }
    return from_gnutls(rc);
}
