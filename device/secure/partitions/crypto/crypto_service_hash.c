/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Requests about hashes and MACs. */
#include "device/secure/partitions/crypto/crypto_service_internal.h"
#include "libs/base/bytes.h"

#define TAG_MAX 64U /* bytes of a hash or MAC */

static psa_status_t update_hash(void *operation, const uint8_t *bytes, size_t len)
{
    return psa_hash_update(operation, bytes, len);
}

static psa_status_t update_mac(void *operation, const uint8_t *bytes, size_t len)
{
    return psa_mac_update(operation, bytes, len);
}

/* A hash or MAC to compare with. PSA_ERROR_INVALID_SIGNATURE: longer than any. */
static psa_status_t read_tag(const struct sp_crypto_call *call, uint32_t input, uint8_t *tag,
                             size_t *len)
{
    if (call->msg->in_size[input] > TAG_MAX) {
        return PSA_ERROR_INVALID_SIGNATURE;
    }
    *len = psa_read(call->msg->handle, input, tag, TAG_MAX);
    return PSA_SUCCESS;
}

static psa_status_t finish_hash(const struct sp_crypto_call *call, psa_hash_operation_t *operation)
{
    uint8_t hash[TAG_MAX];
    size_t len = 0;
    psa_status_t status = psa_hash_finish(operation, hash, sizeof(hash), &len);
    return status == PSA_SUCCESS ? sp_crypto_reply(call, hash, len) : status;
}

static psa_status_t verify_hash(const struct sp_crypto_call *call, uint32_t input,
                                psa_hash_operation_t *operation)
{
    uint8_t hash[TAG_MAX];
    size_t len = 0;
    psa_status_t status = read_tag(call, input, hash, &len);
    return status == PSA_SUCCESS ? psa_hash_verify(operation, hash, len) : status;
}

static psa_status_t start_hash(const struct sp_crypto_call *call, psa_hash_operation_t *operation)
{
    psa_status_t status = psa_hash_setup(operation, call->request.algorithm);
    return status == PSA_SUCCESS
               ? sp_crypto_feed(call, 1, call->msg->in_size[1], update_hash, operation)
               : status;
}

psa_status_t sp_crypto_do_hash_compute(struct sp_crypto_call *call)
{
    psa_hash_operation_t operation = PSA_HASH_OPERATION_INIT;
    psa_status_t status = start_hash(call, &operation);
    if (status == PSA_SUCCESS) {
        status = finish_hash(call, &operation);
    }
    (void)psa_hash_abort(&operation);
    return status;
}

psa_status_t sp_crypto_do_hash_compare(struct sp_crypto_call *call)
{
    psa_hash_operation_t operation = PSA_HASH_OPERATION_INIT;
    psa_status_t status = start_hash(call, &operation);
    if (status == PSA_SUCCESS) {
        status = verify_hash(call, 2, &operation);
    }
    (void)psa_hash_abort(&operation);
    return status;
}

/* Tell the client its new operation, or drop it. */
static psa_status_t hand_out(struct sp_crypto_call *call, struct sp_crypto_operation *operation,
                             psa_status_t status)
{
    if (status == PSA_SUCCESS) {
        status = sp_crypto_reply(call, &operation->handle, sizeof(operation->handle));
    }
    if (status != PSA_SUCCESS) {
        sp_crypto_end(operation);
    }
    return status;
}

psa_status_t sp_crypto_do_hash_setup(struct sp_crypto_call *call)
{
    struct sp_crypto_operation *operation = sp_crypto_begin(call, SP_CRYPTO_HASH);
    if (operation == NULL) {
        return PSA_ERROR_INSUFFICIENT_MEMORY;
    }
    return hand_out(call, operation, psa_hash_setup(&operation->as.hash, call->request.algorithm));
}

psa_status_t sp_crypto_do_hash_update(struct sp_crypto_call *call)
{
    return sp_crypto_feed(call, 1, call->msg->in_size[1], update_hash, &call->operation->as.hash);
}

/* When there is no room for a clone, the original is over too: what fails is aborted. */
psa_status_t sp_crypto_do_hash_clone(struct sp_crypto_call *call)
{
    struct sp_crypto_operation *clone = sp_crypto_begin(call, SP_CRYPTO_HASH);
    if (clone == NULL) {
        return PSA_ERROR_INSUFFICIENT_MEMORY;
    }
    return hand_out(call, clone, psa_hash_clone(&call->operation->as.hash, &clone->as.hash));
}

psa_status_t sp_crypto_do_hash_finish(struct sp_crypto_call *call)
{
    return finish_hash(call, &call->operation->as.hash);
}

psa_status_t sp_crypto_do_hash_verify(struct sp_crypto_call *call)
{
    return verify_hash(call, 1, &call->operation->as.hash);
}

static psa_status_t finish_mac(const struct sp_crypto_call *call, psa_mac_operation_t *operation)
{
    uint8_t tag[TAG_MAX];
    size_t len = 0;
    psa_status_t status = psa_mac_sign_finish(operation, tag, sizeof(tag), &len);
    return status == PSA_SUCCESS ? sp_crypto_reply(call, tag, len) : status;
}

static psa_status_t verify_mac(const struct sp_crypto_call *call, uint32_t input,
                               psa_mac_operation_t *operation)
{
    uint8_t tag[TAG_MAX];
    size_t len = 0;
    psa_status_t status = read_tag(call, input, tag, &len);
    return status == PSA_SUCCESS ? psa_mac_verify_finish(operation, tag, len) : status;
}

psa_status_t sp_crypto_do_mac_compute(struct sp_crypto_call *call)
{
    psa_mac_operation_t operation = PSA_MAC_OPERATION_INIT;
    psa_status_t status =
        psa_mac_sign_setup(&operation, sp_crypto_client_key(call), call->request.algorithm);
    if (status == PSA_SUCCESS) {
        status = sp_crypto_feed(call, 1, call->msg->in_size[1], update_mac, &operation);
    }
    if (status == PSA_SUCCESS) {
        status = finish_mac(call, &operation);
    }
    (void)psa_mac_abort(&operation);
    return status;
}

psa_status_t sp_crypto_do_mac_verify(struct sp_crypto_call *call)
{
    psa_mac_operation_t operation = PSA_MAC_OPERATION_INIT;
    psa_status_t status =
        psa_mac_verify_setup(&operation, sp_crypto_client_key(call), call->request.algorithm);
    if (status == PSA_SUCCESS) {
        status = sp_crypto_feed(call, 1, call->msg->in_size[1], update_mac, &operation);
    }
    if (status == PSA_SUCCESS) {
        status = verify_mac(call, 2, &operation);
    }
    (void)psa_mac_abort(&operation);
    return status;
}

psa_status_t sp_crypto_do_mac_sign_setup(struct sp_crypto_call *call)
{
    struct sp_crypto_operation *operation = sp_crypto_begin(call, SP_CRYPTO_MAC);
    if (operation == NULL) {
        return PSA_ERROR_INSUFFICIENT_MEMORY;
    }
    return hand_out(call, operation,
                    psa_mac_sign_setup(&operation->as.mac, sp_crypto_client_key(call),
                                       call->request.algorithm));
}

psa_status_t sp_crypto_do_mac_verify_setup(struct sp_crypto_call *call)
{
    struct sp_crypto_operation *operation = sp_crypto_begin(call, SP_CRYPTO_MAC);
    if (operation == NULL) {
        return PSA_ERROR_INSUFFICIENT_MEMORY;
    }
    return hand_out(call, operation,
                    psa_mac_verify_setup(&operation->as.mac, sp_crypto_client_key(call),
                                         call->request.algorithm));
}

psa_status_t sp_crypto_do_mac_update(struct sp_crypto_call *call)
{
    return sp_crypto_feed(call, 1, call->msg->in_size[1], update_mac, &call->operation->as.mac);
}

psa_status_t sp_crypto_do_mac_sign_finish(struct sp_crypto_call *call)
{
    return finish_mac(call, &call->operation->as.mac);
}

psa_status_t sp_crypto_do_mac_verify_finish(struct sp_crypto_call *call)
{
    return verify_mac(call, 1, &call->operation->as.mac);
}
