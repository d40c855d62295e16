/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/vault.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>

#include "gateway/crypto/midstates.h"
#include "gateway/keys/locked.h"
#include "gateway/keys/master_key.h"
#include "libs/cose/crypto.h"

#define NONCE_LEN 12U
#define TAG_LEN   16U
#define KEY_LEN   32U

_Static_assert(NONCE_LEN + TAG_LEN == SP_VAULT_OVERHEAD, "documented in vault.h");

struct sp_vault {
    gnutls_aead_cipher_hd_t aead;
    uint8_t fingerprint_key[KEY_LEN];
    struct sp_crypto_midstates decoys;
};

static enum sp_err derive(const uint8_t *master, const char *label, uint8_t *out)
{
    struct sp_crypto_key key = {.bytes = sp_view(master, SP_MASTER_KEY_LEN)};
    struct sp_view part = sp_view_str(label);
    return sp_crypto_hmac(SP_SHA256, &key, &part, 1, out);
}

static enum sp_err start_decoys(struct sp_vault *vault, const uint8_t *master)
{
    uint8_t key[KEY_LEN];
    SP_TRY(derive(master, "sp-registry-decoy-1", key));
    enum sp_err err = sp_midstates_make(SP_SHA256, SP_VIEW_ARRAY(key), &vault->decoys);
    sp_wipe(key, sizeof(key));
    return err;
}

static enum sp_err start_aead(struct sp_vault *vault, const uint8_t *master)
{
    uint8_t key[KEY_LEN];
    SP_TRY(derive(master, "sp-registry-seal-1", key));
    gnutls_datum_t datum = {key, sizeof(key)};
    int rc = gnutls_aead_cipher_init(&vault->aead, GNUTLS_CIPHER_AES_256_GCM, &datum);
    sp_wipe(key, sizeof(key));
    return rc == 0 ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err sp_vault_create(const uint8_t *master, struct sp_vault **out)
{
    *out = NULL;
    struct sp_vault *vault = sp_locked_alloc(sizeof(*vault));
    if (vault == NULL) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = derive(master, "sp-registry-fingerprint-1", vault->fingerprint_key);
    if (err == SP_OK) {
        err = start_decoys(vault, master);
    }
    if (err == SP_OK) {
        err = start_aead(vault, master);
    }
    if (err != SP_OK) {
        sp_locked_free(vault, sizeof(*vault));
        return err;
    }
    *out = vault;
    return SP_OK;
}

void sp_vault_destroy(struct sp_vault *vault)
{
    if (vault != NULL) {
        gnutls_aead_cipher_deinit(vault->aead);
        sp_locked_free(vault, sizeof(*vault));
    }
}

enum sp_err sp_vault_seal(struct sp_vault *vault, struct sp_view context, struct sp_view plain,
                          uint8_t *out, size_t cap, size_t *out_len)
{
    if (cap < SP_VAULT_OVERHEAD || cap - SP_VAULT_OVERHEAD < plain.len) {
        return SP_ERR_SPACE;
    }
    SP_TRY(sp_vault_random(out, NONCE_LEN));
    size_t len = cap - NONCE_LEN;
    if (gnutls_aead_cipher_encrypt(vault->aead, out, NONCE_LEN, context.ptr, context.len, TAG_LEN,
                                   plain.ptr, plain.len, out + NONCE_LEN, &len) != 0) {
        return SP_ERR_CRYPTO;
    }
    *out_len = NONCE_LEN + len;
    return SP_OK;
}

enum sp_err sp_vault_unseal(struct sp_vault *vault, struct sp_view context, struct sp_view sealed,
                            uint8_t *out, size_t cap, size_t *out_len)
{
    if (sealed.len < SP_VAULT_OVERHEAD) {
        return SP_ERR_UNTRUSTED;
    }
    if (cap < sealed.len - SP_VAULT_OVERHEAD) {
        return SP_ERR_SPACE;
    }
    struct sp_view body = sp_view_from(sealed, NONCE_LEN);
    size_t len = cap;
    if (gnutls_aead_cipher_decrypt(vault->aead, sealed.ptr, NONCE_LEN, context.ptr, context.len,
                                   TAG_LEN, body.ptr, body.len, out, &len) != 0) {
        sp_wipe(out, cap);
        return SP_ERR_UNTRUSTED;
    }
    *out_len = len;
    return SP_OK;
}

enum sp_err sp_vault_fingerprint(const struct sp_vault *vault, struct sp_view secret, uint8_t *out)
{
    struct sp_crypto_key key = {.bytes = SP_VIEW_ARRAY(vault->fingerprint_key)};
    return sp_crypto_hmac(SP_SHA256, &key, &secret, 1, out);
}

void sp_vault_decoy(const struct sp_vault *vault, struct sp_view identity, uint8_t *out)
{
    sp_midstates_hmac(&vault->decoys, &identity, 1, out);
}

enum sp_err sp_vault_random(uint8_t *out, size_t len)
{
    return gnutls_rnd(GNUTLS_RND_KEY, out, len) == 0 ? SP_OK : SP_ERR_CRYPTO;
}

/* The same generator, which is given a new key after bytes for keys only. */
enum sp_err sp_vault_nonce(uint8_t *out, size_t len)
{
    return gnutls_rnd(GNUTLS_RND_RANDOM, out, len) == 0 ? SP_OK : SP_ERR_CRYPTO;
}
