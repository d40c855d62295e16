/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The record layer's ciphers by nettle: key schedules are made for each record and live on the stack. */
#include "gateway/tls/record_cipher.h"

#include <nettle/ccm.h>
#include <nettle/gcm.h>

size_t sp_record_tag(enum sp_record_suite suite)
{
    return suite == SP_RECORD_CCM_8 ? 8 : 16;
}

static void gcm_start(struct gcm_aes128_ctx *ctx, const struct sp_record_cipher *cipher)
{
    gcm_aes128_set_key(ctx, cipher->key);
    gcm_aes128_set_iv(ctx, SP_RECORD_NONCE, cipher->nonce);
    gcm_aes128_update(ctx, SP_RECORD_AAD, cipher->aad);
}

static void gcm_encrypt_record(const struct sp_record_cipher *cipher, struct sp_view plain,
                               uint8_t *out)
{
    struct gcm_aes128_ctx ctx;
    gcm_start(&ctx, cipher);
    gcm_aes128_encrypt(&ctx, plain.len, out, plain.ptr);
    gcm_aes128_digest(&ctx, GCM_DIGEST_SIZE, out + plain.len);
    sp_wipe(&ctx, sizeof(ctx));
}

static bool gcm_decrypt_record(const struct sp_record_cipher *cipher, struct sp_view body,
                               const uint8_t *tag, uint8_t *out)
{
    struct gcm_aes128_ctx ctx;
    uint8_t digest[GCM_DIGEST_SIZE];
    gcm_start(&ctx, cipher);
    gcm_aes128_decrypt(&ctx, body.len, out, body.ptr);
    gcm_aes128_digest(&ctx, sizeof(digest), digest);
    sp_wipe(&ctx, sizeof(ctx));
    return sp_ct_equal(digest, tag, sizeof(digest));
}

void sp_record_encrypt(const struct sp_record_cipher *cipher, struct sp_view plain, uint8_t *out)
{
    if (cipher->suite == SP_RECORD_GCM) {
        gcm_encrypt_record(cipher, plain, out);
        return;
    }
    struct ccm_aes128_ctx ctx;
    size_t tag = sp_record_tag(cipher->suite);
    ccm_aes128_set_key(&ctx, cipher->key);
    ccm_aes128_set_nonce(&ctx, SP_RECORD_NONCE, cipher->nonce, SP_RECORD_AAD, plain.len, tag);
    ccm_aes128_update(&ctx, SP_RECORD_AAD, cipher->aad);
    ccm_aes128_encrypt(&ctx, plain.len, out, plain.ptr);
    ccm_aes128_digest(&ctx, tag, out + plain.len);
    sp_wipe(&ctx, sizeof(ctx));
}

bool sp_record_decrypt(const struct sp_record_cipher *cipher, struct sp_view sealed, uint8_t *out)
{
    size_t tag = sp_record_tag(cipher->suite);
    struct sp_view body = sp_view_first(sealed, sealed.len - tag);
    if (cipher->suite == SP_RECORD_GCM) {
        return gcm_decrypt_record(cipher, body, sealed.ptr + body.len, out);
    }
    struct ccm_aes128_ctx ctx;
    uint8_t digest[CCM_DIGEST_SIZE];
    ccm_aes128_set_key(&ctx, cipher->key);
    ccm_aes128_set_nonce(&ctx, SP_RECORD_NONCE, cipher->nonce, SP_RECORD_AAD, body.len, tag);
    ccm_aes128_update(&ctx, SP_RECORD_AAD, cipher->aad);
    ccm_aes128_decrypt(&ctx, body.len, out, body.ptr);
    ccm_aes128_digest(&ctx, tag, digest);
    sp_wipe(&ctx, sizeof(ctx));
    return sp_ct_equal(digest, sealed.ptr + body.len, tag);
}
