/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Requests about keys, and randomness. */
#include "device/secure/partitions/crypto/crypto_keys.h"
#include "device/secure/partitions/crypto/crypto_service_internal.h"
#include "libs/base/bytes.h"

#define KEY_MAX 128U /* bytes of a key that goes in or out */

psa_status_t sp_crypto_do_random(struct sp_crypto_call *call)
{
    uint8_t chunk[SP_CRYPTO_CHUNK];
    size_t left = call->msg->out_size[0];
    psa_status_t status = PSA_SUCCESS;
    while (left != 0 && status == PSA_SUCCESS) {
        size_t len = left < sizeof(chunk) ? left : sizeof(chunk);
        status = psa_generate_random(chunk, len);
        if (status == PSA_SUCCESS) {
            psa_write(call->msg->handle, 0, chunk, len);
        }
        left -= len;
    }
    sp_wipe(chunk, sizeof(chunk));
    return status;
}

psa_status_t sp_crypto_read_attributes(const struct sp_crypto_call *call, psa_key_attributes_t *out)
{
    struct sp_crypto_attributes from;
    if (call->msg->in_size[1] != sizeof(from) ||
        psa_read(call->msg->handle, 1, &from, sizeof(from)) != sizeof(from)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    if (from.type > UINT16_MAX || from.bits > KEY_MAX * 8U) {
        return PSA_ERROR_NOT_SUPPORTED;
    }
    psa_set_key_type(out, (psa_key_type_t)from.type);
    psa_set_key_bits(out, from.bits);
    psa_set_key_usage_flags(out, from.usage);
    psa_set_key_algorithm(out, from.algorithm);
    mbedtls_set_key_owner_id(out, call->msg->client_id);
    if (!PSA_KEY_LIFETIME_IS_VOLATILE(from.lifetime)) {
        psa_set_key_id(out, mbedtls_svc_key_id_make(call->msg->client_id, from.id));
    }
    psa_set_key_lifetime(out, from.lifetime);
    return PSA_SUCCESS;
}

static psa_status_t reply_id(const struct sp_crypto_call *call, mbedtls_svc_key_id_t key)
{
    uint32_t id = MBEDTLS_SVC_KEY_ID_GET_KEY_ID(key);
    psa_status_t status = sp_crypto_reply(call, &id, sizeof(id));
    if (status != PSA_SUCCESS) {
        (void)psa_destroy_key(key);
    }
    return status;
}

psa_status_t sp_crypto_do_import(struct sp_crypto_call *call)
{
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    mbedtls_svc_key_id_t key = MBEDTLS_SVC_KEY_ID_INIT;
    uint8_t bytes[KEY_MAX];
    psa_status_t status = sp_crypto_read_attributes(call, &attributes);
    if (status != PSA_SUCCESS) {
        return status;
    }
    if (call->msg->in_size[2] > sizeof(bytes)) {
        return PSA_ERROR_NOT_SUPPORTED;
    }
    size_t len = psa_read(call->msg->handle, 2, bytes, sizeof(bytes));
    status = psa_import_key(&attributes, bytes, len, &key);
    sp_wipe(bytes, sizeof(bytes));
    return status == PSA_SUCCESS ? reply_id(call, key) : status;
}

psa_status_t sp_crypto_do_generate(struct sp_crypto_call *call)
{
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    mbedtls_svc_key_id_t key = MBEDTLS_SVC_KEY_ID_INIT;
    psa_status_t status = sp_crypto_read_attributes(call, &attributes);
    if (status == PSA_SUCCESS) {
        status = psa_generate_key(&attributes, &key);
    }
    return status == PSA_SUCCESS ? reply_id(call, key) : status;
}

/* The pre-shared key is the client's to use, and the secure world's to keep. */
psa_status_t sp_crypto_do_destroy(struct sp_crypto_call *call)
{
    return call->request.key == sp_crypto_key_psk() ? PSA_ERROR_NOT_PERMITTED
                                                    : psa_destroy_key(sp_crypto_client_key(call));
}

psa_status_t sp_crypto_do_attributes(struct sp_crypto_call *call)
{
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_status_t status = psa_get_key_attributes(sp_crypto_client_key(call), &attributes);
    if (status != PSA_SUCCESS) {
        return status;
    }
    const struct sp_crypto_attributes out = {
        .id = MBEDTLS_SVC_KEY_ID_GET_KEY_ID(psa_get_key_id(&attributes)),
        .lifetime = psa_get_key_lifetime(&attributes),
        .type = psa_get_key_type(&attributes),
        .bits = (uint32_t)psa_get_key_bits(&attributes),
        .usage = psa_get_key_usage_flags(&attributes),
        .algorithm = psa_get_key_algorithm(&attributes),
    };
    psa_reset_key_attributes(&attributes);
    return sp_crypto_reply(call, &out, sizeof(out));
}

psa_status_t sp_crypto_do_export(struct sp_crypto_call *call)
{
    uint8_t bytes[KEY_MAX];
    size_t len = 0;
    psa_status_t status = psa_export_key(sp_crypto_client_key(call), bytes, sizeof(bytes), &len);
    if (status == PSA_SUCCESS) {
        status = sp_crypto_reply(call, bytes, len);
    }
    sp_wipe(bytes, sizeof(bytes));
    return status;
}
