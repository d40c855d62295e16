/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Requests about key derivation: what TLS 1.2 with a pre-shared key takes. */
#include "device/secure/partitions/crypto/crypto_service_internal.h"
#include "libs/base/bytes.h"

#define INPUT_MAX 256U /* bytes of one input: a label, a seed */

psa_status_t sp_crypto_do_derivation_setup(struct sp_crypto_call *call)
{
    struct sp_crypto_operation *operation = sp_crypto_begin(call, SP_CRYPTO_DERIVATION);
    if (operation == NULL) {
        return PSA_ERROR_INSUFFICIENT_MEMORY;
    }
    psa_status_t status =
        psa_key_derivation_setup(&operation->as.derivation, call->request.algorithm);
    if (status == PSA_SUCCESS) {
        status = sp_crypto_reply(call, &operation->handle, sizeof(operation->handle));
    }
    if (status != PSA_SUCCESS) {
        sp_crypto_end(operation);
    }
    return status;
}

psa_status_t sp_crypto_do_derivation_set_capacity(struct sp_crypto_call *call)
{
    return psa_key_derivation_set_capacity(&call->operation->as.derivation, call->request.sizes[0]);
}

psa_status_t sp_crypto_do_derivation_get_capacity(struct sp_crypto_call *call)
{
    size_t capacity = 0;
    psa_status_t status =
        psa_key_derivation_get_capacity(&call->operation->as.derivation, &capacity);
    uint32_t answer = capacity > UINT32_MAX ? UINT32_MAX : (uint32_t)capacity;
    return status == PSA_SUCCESS ? sp_crypto_reply(call, &answer, sizeof(answer)) : status;
}

psa_status_t sp_crypto_do_derivation_input_bytes(struct sp_crypto_call *call)
{
    uint8_t bytes[INPUT_MAX];
    if (call->msg->in_size[1] > sizeof(bytes)) {
        return PSA_ERROR_INSUFFICIENT_MEMORY;
    }
    size_t len = psa_read(call->msg->handle, 1, bytes, sizeof(bytes));
    psa_status_t status = psa_key_derivation_input_bytes(
        &call->operation->as.derivation, (psa_key_derivation_step_t)call->request.step, bytes, len);
    sp_wipe(bytes, sizeof(bytes));
    return status;
}

psa_status_t sp_crypto_do_derivation_input_key(struct sp_crypto_call *call)
{
    return psa_key_derivation_input_key(&call->operation->as.derivation,
                                        (psa_key_derivation_step_t)call->request.step,
                                        sp_crypto_client_key(call));
}

psa_status_t sp_crypto_do_derivation_output_bytes(struct sp_crypto_call *call)
{
    uint8_t chunk[SP_CRYPTO_CHUNK];
    psa_key_derivation_operation_t *operation = &call->operation->as.derivation;
    size_t left = call->msg->out_size[0];
    size_t capacity = 0;
    psa_status_t status = psa_key_derivation_get_capacity(operation, &capacity);
    if (status == PSA_SUCCESS && capacity < left) {
        status = PSA_ERROR_INSUFFICIENT_DATA;
    }
    while (left != 0 && status == PSA_SUCCESS) {
        size_t len = left < sizeof(chunk) ? left : sizeof(chunk);
        status = psa_key_derivation_output_bytes(operation, chunk, len);
        if (status == PSA_SUCCESS) {
            psa_write(call->msg->handle, 0, chunk, len);
        }
        left -= len;
    }
    sp_wipe(chunk, sizeof(chunk));
    return status;
}

psa_status_t sp_crypto_do_derivation_output_key(struct sp_crypto_call *call)
{
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    mbedtls_svc_key_id_t key = MBEDTLS_SVC_KEY_ID_INIT;
    psa_status_t status = sp_crypto_read_attributes(call, &attributes);
    if (status == PSA_SUCCESS) {
        status = psa_key_derivation_output_key(&attributes, &call->operation->as.derivation, &key);
    }
    if (status != PSA_SUCCESS) {
        return status;
    }
    uint32_t id = MBEDTLS_SVC_KEY_ID_GET_KEY_ID(key);
    return sp_crypto_reply(call, &id, sizeof(id));
}
