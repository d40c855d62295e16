/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * libs/cose/crypto.h over PSA Crypto. A key given as bytes is imported for the one operation: slower, and fine for
 * what comes as bytes on a device (derived record keys). Hash and MAC use the multi-part calls: they take parts, and
 * TF-M's Profile Small has no others.
 */
#include "device/port/crypto_psa.h"

#include "libs/cose/crypto.h"

#include <psa/crypto.h>

static psa_algorithm_t hash_alg(enum sp_hash hash)
{
    return hash == SP_SHA256   ? PSA_ALG_SHA_256
           : hash == SP_SHA384 ? PSA_ALG_SHA_384
           : hash == SP_SHA512 ? PSA_ALG_SHA_512
                               : PSA_ALG_NONE;
}

static enum sp_err from_psa(psa_status_t status)
{
    switch (status) {
    case PSA_SUCCESS:
        return SP_OK;
    case PSA_ERROR_NOT_SUPPORTED:
        return SP_ERR_UNSUPPORTED;
    case PSA_ERROR_BUFFER_TOO_SMALL:
        return SP_ERR_SPACE;
    case PSA_ERROR_INVALID_SIGNATURE:
        return SP_ERR_UNTRUSTED;
    default:
        return SP_ERR_CRYPTO;
    }
}

enum sp_err sp_crypto_hash(enum sp_hash hash, const struct sp_view *parts, size_t count,
                           uint8_t *out)
{
    psa_hash_operation_t operation = PSA_HASH_OPERATION_INIT;
    uint8_t digest[SP_HASH_MAX];
    size_t len = 0;
    psa_status_t status = psa_hash_setup(&operation, hash_alg(hash));
    for (size_t i = 0; i < count && status == PSA_SUCCESS; i++) {
        status = psa_hash_update(&operation, parts[i].ptr, parts[i].len);
    }
    if (status == PSA_SUCCESS) {
        status = psa_hash_finish(&operation, digest, sizeof(digest), &len);
    }
    if (status != PSA_SUCCESS) {
        (void)psa_hash_abort(&operation);
        return from_psa(status);
    }
    sp_copy(out, digest, len);
    return SP_OK;
}

/* A key to use and, when it was imported for this use, to destroy. */
struct key {
    mbedtls_svc_key_id_t id;
    bool imported;
};

static psa_status_t take_key(const struct sp_crypto_key *from, psa_key_type_t type,
                             psa_algorithm_t alg, psa_key_usage_t usage, struct key *out)
{
    *out = (struct key){.id = sp_crypto_own_key(from->id)};
    if (from->bytes.len == 0) {
        return PSA_SUCCESS;
    }
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, type);
    psa_set_key_algorithm(&attributes, alg);
    psa_set_key_usage_flags(&attributes, usage);
    psa_status_t status = psa_import_key(&attributes, from->bytes.ptr, from->bytes.len, &out->id);
    out->imported = status == PSA_SUCCESS;
    return status;
}

static void give_key(const struct key *key)
{
    if (key->imported) {
        (void)psa_destroy_key(key->id);
    }
}

static psa_status_t mac(mbedtls_svc_key_id_t id, psa_algorithm_t alg, const struct sp_view *parts,
                        size_t count, struct sp_writer *out)
{
    psa_mac_operation_t operation = PSA_MAC_OPERATION_INIT;
    uint8_t tag[SP_HASH_MAX];
    size_t len = 0;
    psa_status_t status = psa_mac_sign_setup(&operation, id, alg);
    for (size_t i = 0; i < count && status == PSA_SUCCESS; i++) {
        status = psa_mac_update(&operation, parts[i].ptr, parts[i].len);
    }
    if (status == PSA_SUCCESS) {
        status = psa_mac_sign_finish(&operation, tag, sizeof(tag), &len);
    }
    if (status == PSA_SUCCESS) {
        sp_write_view(out, sp_view(tag, len));
    } else {
        (void)psa_mac_abort(&operation);
    }
    return status;
}

enum sp_err sp_crypto_hmac(enum sp_hash hash, const struct sp_crypto_key *key,
                           const struct sp_view *parts, size_t count, uint8_t *out)
{
    psa_algorithm_t alg = PSA_ALG_HMAC(hash_alg(hash));
    struct sp_writer w;
    struct key used;
    sp_writer_init(&w, out, (size_t)hash);
    psa_status_t status = take_key(key, PSA_KEY_TYPE_HMAC, alg, PSA_KEY_USAGE_SIGN_MESSAGE, &used);
    if (status == PSA_SUCCESS) {
        status = mac(used.id, alg, parts, count, &w);
    }
    give_key(&used);
    return status == PSA_SUCCESS ? w.err : from_psa(status);
}

static psa_algorithm_t ccm(const struct sp_crypto_aead *aead)
{
    return PSA_ALG_AEAD_WITH_SHORTENED_TAG(PSA_ALG_CCM, aead->tag_len);
}

enum sp_err sp_crypto_seal(const struct sp_crypto_aead *aead, struct sp_view plain, uint8_t *out,
                           size_t cap, size_t *out_len)
{
    struct key used;
    psa_status_t status =
        take_key(&aead->key, PSA_KEY_TYPE_AES, ccm(aead), PSA_KEY_USAGE_ENCRYPT, &used);
    if (status == PSA_SUCCESS) {
        status =
            psa_aead_encrypt(used.id, ccm(aead), aead->nonce.ptr, aead->nonce.len, aead->aad.ptr,
                             aead->aad.len, plain.ptr, plain.len, out, cap, out_len);
    }
    give_key(&used);
    return from_psa(status);
}

enum sp_err sp_crypto_open(const struct sp_crypto_aead *aead, struct sp_view sealed, uint8_t *out,
                           size_t cap, size_t *out_len)
{
    if (sealed.len < aead->tag_len) {
        return SP_ERR_UNTRUSTED;
    }
    struct key used;
    psa_status_t status =
        take_key(&aead->key, PSA_KEY_TYPE_AES, ccm(aead), PSA_KEY_USAGE_DECRYPT, &used);
    if (status == PSA_SUCCESS) {
        status =
            psa_aead_decrypt(used.id, ccm(aead), aead->nonce.ptr, aead->nonce.len, aead->aad.ptr,
                             aead->aad.len, sealed.ptr, sealed.len, out, cap, out_len);
    }
    give_key(&used);
    return from_psa(status);
}
