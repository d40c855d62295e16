/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/crypto/crypto_service.h"

#include "device/secure/partitions/crypto/crypto_service_internal.h"
#include "device/secure/partitions/crypto/heap.h"
#include "libs/base/bytes.h"

#define OPERATIONS 4U /* at a time; a TLS 1.2 handshake has three */

static struct sp_crypto_operation *operations[OPERATIONS]; /* on the crypto heap; NULL: free */
static uint32_t serial;                                    /* makes handles new */

/* What a function works on, and what becomes of it. */
enum use {
    ALONE,   /* no operation, or a new one */
    GOES_ON, /* an operation, which is over when this fails */
    ENDS,    /* an operation, which is over */
};

static psa_status_t do_abort(struct sp_crypto_call *call)
{
    (void)call;
    return PSA_SUCCESS; /* being over is all that there is to it */
}

static const struct {
    sp_crypto_handler *run;
    enum use use;
    enum sp_crypto_kind kind;
} functions[SP_CRYPTO_FUNCTION_END] = {
    [SP_CRYPTO_GENERATE_RANDOM] = {sp_crypto_do_random, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_IMPORT_KEY] = {sp_crypto_do_import, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_GENERATE_KEY] = {sp_crypto_do_generate, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_DESTROY_KEY] = {sp_crypto_do_destroy, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_GET_KEY_ATTRIBUTES] = {sp_crypto_do_attributes, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_EXPORT_KEY] = {sp_crypto_do_export, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_HASH_COMPUTE] = {sp_crypto_do_hash_compute, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_HASH_COMPARE] = {sp_crypto_do_hash_compare, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_HASH_SETUP] = {sp_crypto_do_hash_setup, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_HASH_UPDATE] = {sp_crypto_do_hash_update, GOES_ON, SP_CRYPTO_HASH},
    [SP_CRYPTO_HASH_CLONE] = {sp_crypto_do_hash_clone, GOES_ON, SP_CRYPTO_HASH},
    [SP_CRYPTO_HASH_FINISH] = {sp_crypto_do_hash_finish, ENDS, SP_CRYPTO_HASH},
    [SP_CRYPTO_HASH_VERIFY] = {sp_crypto_do_hash_verify, ENDS, SP_CRYPTO_HASH},
    [SP_CRYPTO_MAC_COMPUTE] = {sp_crypto_do_mac_compute, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_MAC_VERIFY] = {sp_crypto_do_mac_verify, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_MAC_SIGN_SETUP] = {sp_crypto_do_mac_sign_setup, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_MAC_VERIFY_SETUP] = {sp_crypto_do_mac_verify_setup, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_MAC_UPDATE] = {sp_crypto_do_mac_update, GOES_ON, SP_CRYPTO_MAC},
    [SP_CRYPTO_MAC_SIGN_FINISH] = {sp_crypto_do_mac_sign_finish, ENDS, SP_CRYPTO_MAC},
    [SP_CRYPTO_MAC_VERIFY_FINISH] = {sp_crypto_do_mac_verify_finish, ENDS, SP_CRYPTO_MAC},
    [SP_CRYPTO_AEAD_ENCRYPT] = {sp_crypto_do_aead_encrypt, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_AEAD_DECRYPT] = {sp_crypto_do_aead_decrypt, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_AEAD_ENCRYPT_SETUP] = {sp_crypto_do_aead_encrypt_setup, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_AEAD_DECRYPT_SETUP] = {sp_crypto_do_aead_decrypt_setup, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_AEAD_SET_LENGTHS] = {sp_crypto_do_aead_set_lengths, GOES_ON, SP_CRYPTO_AEAD},
    [SP_CRYPTO_AEAD_SET_NONCE] = {sp_crypto_do_aead_set_nonce, GOES_ON, SP_CRYPTO_AEAD},
    [SP_CRYPTO_AEAD_UPDATE_AD] = {sp_crypto_do_aead_update_ad, GOES_ON, SP_CRYPTO_AEAD},
    [SP_CRYPTO_AEAD_UPDATE] = {sp_crypto_do_aead_update, GOES_ON, SP_CRYPTO_AEAD},
    [SP_CRYPTO_AEAD_FINISH] = {sp_crypto_do_aead_finish, ENDS, SP_CRYPTO_AEAD},
    [SP_CRYPTO_AEAD_VERIFY] = {sp_crypto_do_aead_verify, ENDS, SP_CRYPTO_AEAD},
    [SP_CRYPTO_DERIVATION_SETUP] = {sp_crypto_do_derivation_setup, ALONE, SP_CRYPTO_NONE},
    [SP_CRYPTO_DERIVATION_SET_CAPACITY] = {sp_crypto_do_derivation_set_capacity, GOES_ON,
                                           SP_CRYPTO_DERIVATION},
    [SP_CRYPTO_DERIVATION_GET_CAPACITY] = {sp_crypto_do_derivation_get_capacity, GOES_ON,
                                           SP_CRYPTO_DERIVATION},
    [SP_CRYPTO_DERIVATION_INPUT_BYTES] = {sp_crypto_do_derivation_input_bytes, GOES_ON,
                                          SP_CRYPTO_DERIVATION},
    [SP_CRYPTO_DERIVATION_INPUT_KEY] = {sp_crypto_do_derivation_input_key, GOES_ON,
                                        SP_CRYPTO_DERIVATION},
    [SP_CRYPTO_DERIVATION_OUTPUT_BYTES] = {sp_crypto_do_derivation_output_bytes, GOES_ON,
                                           SP_CRYPTO_DERIVATION},
    [SP_CRYPTO_DERIVATION_OUTPUT_KEY] = {sp_crypto_do_derivation_output_key, GOES_ON,
                                         SP_CRYPTO_DERIVATION},
    [SP_CRYPTO_ABORT] = {do_abort, ENDS, SP_CRYPTO_NONE},
};

mbedtls_svc_key_id_t sp_crypto_client_key(const struct sp_crypto_call *call)
{
    return mbedtls_svc_key_id_make(call->msg->client_id, call->request.key);
}

static struct sp_crypto_operation *find_operation(const struct sp_crypto_call *call)
{
    for (size_t i = 0; i < OPERATIONS; i++) {
        struct sp_crypto_operation *operation = operations[i];
        if (operation != NULL && operation->owner == call->msg->client_id &&
            operation->handle == call->request.operation) {
            return operation;
        }
    }
    return NULL;
}

static size_t size_of(enum sp_crypto_kind kind)
{
    static const size_t sizes[] = {
        [SP_CRYPTO_HASH] = sizeof(psa_hash_operation_t),
        [SP_CRYPTO_MAC] = sizeof(psa_mac_operation_t),
        [SP_CRYPTO_AEAD] = sizeof(psa_aead_operation_t),
        [SP_CRYPTO_DERIVATION] = sizeof(psa_key_derivation_operation_t),
    };
    return offsetof(struct sp_crypto_operation, as) + sizes[kind];
}

struct sp_crypto_operation *sp_crypto_begin(struct sp_crypto_call *call, enum sp_crypto_kind kind)
{
    size_t place = 0;
    while (place < OPERATIONS && operations[place] != NULL) {
        place++;
    }
    if (place == OPERATIONS) {
        return NULL;
    }
    struct sp_crypto_operation *operation = sp_heap_calloc(1, size_of(kind));
    if (operation != NULL) {
        serial = serial == UINT32_MAX ? 1U : serial + 1U;
        operation->kind = kind;
        operation->owner = call->msg->client_id;
        operation->handle = serial;
        operations[place] = operation;
    }
    return operation;
}

static void abort_operation(struct sp_crypto_operation *operation)
{
    switch (operation->kind) {
    case SP_CRYPTO_HASH:
        (void)psa_hash_abort(&operation->as.hash);
        break;
    case SP_CRYPTO_MAC:
        (void)psa_mac_abort(&operation->as.mac);
        break;
    case SP_CRYPTO_AEAD:
        (void)psa_aead_abort(&operation->as.aead);
        break;
    case SP_CRYPTO_DERIVATION:
        (void)psa_key_derivation_abort(&operation->as.derivation);
        break;
    case SP_CRYPTO_NONE:
        break;
    }
}

void sp_crypto_end(struct sp_crypto_operation *operation)
{
    for (size_t i = 0; i < OPERATIONS; i++) {
        if (operations[i] == operation) {
            abort_operation(operation);
            sp_heap_free(operation);
            operations[i] = NULL;
        }
    }
}

psa_status_t sp_crypto_feed(const struct sp_crypto_call *call, uint32_t input, size_t len,
                            sp_crypto_update *update, void *operation)
{
    uint8_t chunk[SP_CRYPTO_CHUNK];
    psa_status_t status = PSA_SUCCESS;
    while (len != 0 && status == PSA_SUCCESS) {
        size_t got =
            psa_read(call->msg->handle, input, chunk, len < sizeof(chunk) ? len : sizeof(chunk));
        status = got == 0 ? PSA_ERROR_PROGRAMMER_ERROR : update(operation, chunk, got);
        len -= got;
    }
    sp_wipe(chunk, sizeof(chunk));
    return status;
}

psa_status_t sp_crypto_reply(const struct sp_crypto_call *call, const void *bytes, size_t len)
{
    if (len > call->msg->out_size[0]) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    psa_write(call->msg->handle, 0, bytes, len);
    return PSA_SUCCESS;
}

psa_status_t sp_crypto_sfn(const psa_msg_t *msg)
{
    struct sp_crypto_call call = {.msg = msg};
    if (msg->in_size[0] != sizeof(call.request) ||
        psa_read(msg->handle, 0, &call.request, sizeof(call.request)) != sizeof(call.request) ||
        call.request.nonce_len > SP_CRYPTO_NONCE_MAX) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    if (msg->type >= SP_CRYPTO_FUNCTION_END || functions[msg->type].run == NULL) {
        return PSA_ERROR_NOT_SUPPORTED;
    }
    enum use use = functions[msg->type].use;
    if (use != ALONE) {
        call.operation = find_operation(&call);
        enum sp_crypto_kind kind = functions[msg->type].kind;
        if (call.operation == NULL || (kind != SP_CRYPTO_NONE && call.operation->kind != kind)) {
            return kind == SP_CRYPTO_NONE ? PSA_SUCCESS : PSA_ERROR_BAD_STATE;
        }
    }
    psa_status_t status = functions[msg->type].run(&call);
    if (use == ENDS || (use == GOES_ON && status != PSA_SUCCESS)) {
        sp_crypto_end(call.operation);
    }
    return status;
}
