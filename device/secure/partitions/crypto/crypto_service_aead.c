/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Requests about authenticated encryption. One-shot functions run as multi-part ones inside, so that a record is
 * copied in chunks and never as a whole. A plaintext that turns out to be forged has been written to the client
 * by then; the partition manager clears it.
 */
#include "device/secure/partitions/crypto/crypto_service_internal.h"
#include "libs/base/bytes.h"

#define TAG_MAX 16U

static psa_status_t update_ad(void *operation, const uint8_t *bytes, size_t len)
{
    return psa_aead_update_ad(operation, bytes, len);
}

struct body {
    const struct sp_crypto_call *call;
    psa_aead_operation_t *operation;
};

static psa_status_t update_body(void *ctx, const uint8_t *bytes, size_t len)
{
    const struct body *body = ctx;
    uint8_t out[SP_CRYPTO_CHUNK];
    size_t out_len = 0;
    psa_status_t status = psa_aead_update(body->operation, bytes, len, out, sizeof(out), &out_len);
    if (status == PSA_SUCCESS) {
        psa_write(body->call->msg->handle, 0, out, out_len);
    }
    sp_wipe(out, sizeof(out));
    return status;
}

static psa_status_t set_nonce(const struct sp_crypto_call *call, psa_aead_operation_t *operation)
{
    return psa_aead_set_nonce(operation, call->request.nonce, call->request.nonce_len);
}

/* Everything up to the tag. */
static psa_status_t run(const struct sp_crypto_call *call, psa_aead_operation_t *operation,
                        size_t body_len)
{
    size_t ad_len = call->msg->in_size[1];
    psa_status_t status = psa_aead_set_lengths(operation, ad_len, body_len);
    if (status == PSA_SUCCESS) {
        status = set_nonce(call, operation);
    }
    if (status == PSA_SUCCESS) {
        status = sp_crypto_feed(call, 1, ad_len, update_ad, operation);
    }
    struct body body = {call, operation};
    return status == PSA_SUCCESS ? sp_crypto_feed(call, 2, body_len, update_body, &body) : status;
}

psa_status_t sp_crypto_do_aead_encrypt(struct sp_crypto_call *call)
{
    psa_aead_operation_t operation = PSA_AEAD_OPERATION_INIT;
    uint8_t rest[TAG_MAX];
    uint8_t tag[TAG_MAX];
    size_t rest_len = 0;
    size_t tag_len = 0;
    size_t len = call->msg->in_size[2];
    size_t room = call->msg->out_size[0];
    if (room < len || room - len < PSA_ALG_AEAD_GET_TAG_LENGTH(call->request.algorithm)) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    psa_status_t status =
        psa_aead_encrypt_setup(&operation, sp_crypto_client_key(call), call->request.algorithm);
    if (status == PSA_SUCCESS) {
        status = run(call, &operation, len);
    }
    if (status == PSA_SUCCESS) {
        status =
            psa_aead_finish(&operation, rest, sizeof(rest), &rest_len, tag, sizeof(tag), &tag_len);
    }
    if (status == PSA_SUCCESS) {
        psa_write(call->msg->handle, 0, rest, rest_len);
        psa_write(call->msg->handle, 0, tag, tag_len);
    }
    (void)psa_aead_abort(&operation);
    return status;
}

psa_status_t sp_crypto_do_aead_decrypt(struct sp_crypto_call *call)
{
    psa_aead_operation_t operation = PSA_AEAD_OPERATION_INIT;
    uint8_t rest[TAG_MAX];
    uint8_t tag[TAG_MAX];
    size_t rest_len = 0;
    size_t tag_len = PSA_ALG_AEAD_GET_TAG_LENGTH(call->request.algorithm);
    if (tag_len > sizeof(tag) || call->msg->in_size[2] < tag_len) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    size_t len = call->msg->in_size[2] - tag_len;
    if (call->msg->out_size[0] < len) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    psa_status_t status =
        psa_aead_decrypt_setup(&operation, sp_crypto_client_key(call), call->request.algorithm);
    if (status == PSA_SUCCESS) {
        status = run(call, &operation, len);
    }
    if (status == PSA_SUCCESS) {
        tag_len = psa_read(call->msg->handle, 2, tag, tag_len);
        status = psa_aead_verify(&operation, rest, sizeof(rest), &rest_len, tag, tag_len);
    }
    if (status == PSA_SUCCESS) {
        psa_write(call->msg->handle, 0, rest, rest_len);
    }
    (void)psa_aead_abort(&operation);
    return status;
}

static psa_status_t setup(struct sp_crypto_call *call, bool encrypt)
{
    struct sp_crypto_operation *operation = sp_crypto_begin(call, SP_CRYPTO_AEAD);
    if (operation == NULL) {
        return PSA_ERROR_INSUFFICIENT_MEMORY;
    }
    psa_aead_operation_t *aead = &operation->as.aead;
    mbedtls_svc_key_id_t key = sp_crypto_client_key(call);
    psa_status_t status = encrypt ? psa_aead_encrypt_setup(aead, key, call->request.algorithm)
                                  : psa_aead_decrypt_setup(aead, key, call->request.algorithm);
    if (status == PSA_SUCCESS) {
        status = sp_crypto_reply(call, &operation->handle, sizeof(operation->handle));
    }
    if (status != PSA_SUCCESS) {
        sp_crypto_end(operation);
    }
    return status;
}

psa_status_t sp_crypto_do_aead_encrypt_setup(struct sp_crypto_call *call)
{
    return setup(call, true);
}

psa_status_t sp_crypto_do_aead_decrypt_setup(struct sp_crypto_call *call)
{
    return setup(call, false);
}

psa_status_t sp_crypto_do_aead_set_lengths(struct sp_crypto_call *call)
{
    return psa_aead_set_lengths(&call->operation->as.aead, call->request.sizes[0],
                                call->request.sizes[1]);
}

psa_status_t sp_crypto_do_aead_set_nonce(struct sp_crypto_call *call)
{
    return set_nonce(call, &call->operation->as.aead);
}

psa_status_t sp_crypto_do_aead_update_ad(struct sp_crypto_call *call)
{
    return sp_crypto_feed(call, 1, call->msg->in_size[1], update_ad, &call->operation->as.aead);
}

psa_status_t sp_crypto_do_aead_update(struct sp_crypto_call *call)
{
    if (call->msg->out_size[0] < call->msg->in_size[1]) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    struct body body = {call, &call->operation->as.aead};
    return sp_crypto_feed(call, 1, call->msg->in_size[1], update_body, &body);
}

psa_status_t sp_crypto_do_aead_finish(struct sp_crypto_call *call)
{
    uint8_t rest[TAG_MAX];
    uint8_t tag[TAG_MAX];
    size_t rest_len = 0;
    size_t tag_len = 0;
    psa_status_t status = psa_aead_finish(&call->operation->as.aead, rest, sizeof(rest), &rest_len,
                                          tag, sizeof(tag), &tag_len);
    if (status != PSA_SUCCESS) {
        return status;
    }
    if (rest_len > call->msg->out_size[0] || tag_len > call->msg->out_size[1]) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    psa_write(call->msg->handle, 0, rest, rest_len);
    psa_write(call->msg->handle, 1, tag, tag_len);
    return PSA_SUCCESS;
}

psa_status_t sp_crypto_do_aead_verify(struct sp_crypto_call *call)
{
    uint8_t rest[TAG_MAX];
    uint8_t tag[TAG_MAX];
    size_t rest_len = 0;
    if (call->msg->in_size[1] > sizeof(tag)) {
        return PSA_ERROR_INVALID_SIGNATURE;
    }
    size_t tag_len = psa_read(call->msg->handle, 1, tag, sizeof(tag));
    psa_status_t status =
        psa_aead_verify(&call->operation->as.aead, rest, sizeof(rest), &rest_len, tag, tag_len);
    return status == PSA_SUCCESS ? sp_crypto_reply(call, rest, rest_len) : status;
}
