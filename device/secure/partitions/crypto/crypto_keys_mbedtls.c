/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/crypto/crypto_keys.h"

#include "device/port/crypto_psa.h"
#include "device/secure/partitions/crypto/key_owner.h"
#include "device/secure/spm/spm.h"
#include "psa/internal_trusted_storage.h"
#include "psa_manifest/pid.h"

#include <psa/crypto.h>

/*
 * A key has a fixed number when it is persistent; a volatile one gets its number from the core. Where the core knows
 * owners (firmware), it can be used by its owner only.
 */
struct slot {
    psa_key_id_t fixed;
    int32_t owner;
    mbedtls_svc_key_id_t current; /* number 0: none */
};

static struct slot psk = {.fixed = SP_KEY_PSK, .owner = SP_CLIENT_NON_SECURE};
static struct slot iak = {.fixed = SP_KEY_IAK, .owner = SP_PARTITION_ATTEST};

static void find_persistent(struct slot *slot)
{
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    mbedtls_svc_key_id_t id = sp_crypto_key_of(slot->owner, slot->fixed);
    bool there = psa_get_key_attributes(id, &attributes) == PSA_SUCCESS;
    slot->current = there ? id : sp_crypto_key_of(0, 0);
    psa_reset_key_attributes(&attributes);
}

psa_status_t sp_crypto_entry_init(void)
{
    psa_status_t status = psa_crypto_init();
    if (status == PSA_SUCCESS) {
        find_persistent(&psk);
        find_persistent(&iak);
    }
    return status;
}

static psa_status_t import(struct slot *slot, psa_key_attributes_t *attributes,
                           struct sp_view bytes, bool persistent)
{
    if (!mbedtls_svc_key_id_is_null(slot->current)) {
        psa_status_t status = psa_destroy_key(slot->current);
        if (status != PSA_SUCCESS) {
            return status;
        }
        slot->current = sp_crypto_key_of(0, 0);
    }
    mbedtls_svc_key_id_t id = sp_crypto_key_of(slot->owner, persistent ? slot->fixed : 0);
    psa_set_key_id(attributes, id);
    if (!persistent) {
        psa_set_key_lifetime(attributes, PSA_KEY_LIFETIME_VOLATILE);
    }
    psa_status_t status = psa_import_key(attributes, bytes.ptr, bytes.len, &id);
    if (status == PSA_SUCCESS) {
        slot->current = id;
    }
    return status;
}

psa_status_t sp_crypto_import_psk(struct sp_view bytes, bool persistent)
{
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_DERIVE);
    psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_DERIVE);
    psa_set_key_algorithm(&attributes, PSA_ALG_TLS12_PSK_TO_MS(PSA_ALG_SHA_256));
    return import(&psk, &attributes, bytes, persistent);
}

psa_status_t sp_crypto_import_iak(struct sp_view bytes, size_t hash_len, bool persistent)
{
    psa_algorithm_t hash = hash_len == 32   ? PSA_ALG_SHA_256
                           : hash_len == 48 ? PSA_ALG_SHA_384
                           : hash_len == 64 ? PSA_ALG_SHA_512
                                            : PSA_ALG_NONE;
    if (hash == PSA_ALG_NONE) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_HMAC);
    psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_SIGN_MESSAGE);
    psa_set_key_algorithm(&attributes, PSA_ALG_HMAC(hash));
    return import(&iak, &attributes, bytes, persistent);
}

uint32_t sp_crypto_key_psk(void)
{
    return MBEDTLS_SVC_KEY_ID_GET_KEY_ID(psk.current);
}

uint32_t sp_crypto_key_iak(void)
{
    return MBEDTLS_SVC_KEY_ID_GET_KEY_ID(iak.current);
}

mbedtls_svc_key_id_t sp_crypto_own_key(psa_key_id_t number)
{
    return sp_crypto_key_of(sp_spm_current(), number);
}

/*
 * The core keeps keys under the names below (see CMakeLists.txt), so that storage sees the crypto partition and
 * not whoever called the core: nobody else can read a key's asset.
 */
psa_status_t sp_crypto_its_set(psa_storage_uid_t uid, size_t len, const void *data,
                               psa_storage_create_flags_t flags);
psa_status_t sp_crypto_its_get(psa_storage_uid_t uid, size_t offset, size_t size, void *data,
                               size_t *len);
psa_status_t sp_crypto_its_get_info(psa_storage_uid_t uid, struct psa_storage_info_t *info);
psa_status_t sp_crypto_its_remove(psa_storage_uid_t uid);

psa_status_t sp_crypto_its_set(psa_storage_uid_t uid, size_t len, const void *data,
                               psa_storage_create_flags_t flags)
{
    if (!sp_spm_enter(SP_PARTITION_CRYPTO)) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    psa_status_t status = psa_its_set(uid, len, data, flags);
    sp_spm_leave();
    return status;
}

psa_status_t sp_crypto_its_get(psa_storage_uid_t uid, size_t offset, size_t size, void *data,
                               size_t *len)
{
    if (!sp_spm_enter(SP_PARTITION_CRYPTO)) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    psa_status_t status = psa_its_get(uid, offset, size, data, len);
    sp_spm_leave();
    return status;
}

psa_status_t sp_crypto_its_get_info(psa_storage_uid_t uid, struct psa_storage_info_t *info)
{
    if (!sp_spm_enter(SP_PARTITION_CRYPTO)) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    psa_status_t status = psa_its_get_info(uid, info);
    sp_spm_leave();
    return status;
}

psa_status_t sp_crypto_its_remove(psa_storage_uid_t uid)
{
    if (!sp_spm_enter(SP_PARTITION_CRYPTO)) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    psa_status_t status = psa_its_remove(uid);
    sp_spm_leave();
    return status;
}
