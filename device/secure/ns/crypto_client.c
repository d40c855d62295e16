/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* psa/crypto.h by calls of the crypto service: all that a TLS-PSK client, libs/cose and tests ask for. */
#include "device/port/crypto_psa.h"
#include "device/secure/partitions/crypto/crypto_protocol.h"
#include "libs/base/bytes.h"
#include "psa/client.h"
#include "psa_manifest/sid.h"

#include <psa/crypto.h>

/* One call: its request, up to two inputs and two outputs; an input or output that is not used has no length. */
struct call {
    struct sp_crypto_request request;
    psa_invec in[2];
    size_t in_count;
    psa_outvec out[2];
    size_t out_count;
};

static psa_status_t run(enum sp_crypto_function function, struct call *call)
{
    psa_invec in[3] = {{&call->request, sizeof(call->request)}, call->in[0], call->in[1]};
    return psa_call(TFM_CRYPTO_HANDLE, (int32_t)function, in, 1U + call->in_count, call->out,
                    call->out_count);
}

static psa_status_t run_for_size(enum sp_crypto_function function, struct call *call, size_t *len)
{
    psa_status_t status = run(function, call);
    if (status == PSA_SUCCESS) {
        *len = call->out[0].len;
    }
    return status;
}

/* Begin a multi-part operation. */
static psa_status_t begin(enum sp_crypto_function function, psa_algorithm_t alg,
                          mbedtls_svc_key_id_t key, uint32_t *handle)
{
    uint32_t operation = 0;
    if (*handle != 0) {
        return PSA_ERROR_BAD_STATE;
    }
    struct call call = {.request = {.algorithm = alg, .key = key},
                        .out = {{&operation, sizeof(operation)}},
                        .out_count = 1};
    psa_status_t status = run(function, &call);
    if (status == PSA_SUCCESS) {
        *handle = operation;
    }
    return status;
}

/* Give an operation an input. */
static psa_status_t feed(enum sp_crypto_function function, uint32_t handle, const uint8_t *input,
                         size_t len)
{
    struct call call = {.request = {.operation = handle}, .in = {{input, len}}, .in_count = 1};
    return run(function, &call);
}

/* Take the result of an operation, which is over then. */
static psa_status_t take(enum sp_crypto_function function, uint32_t *handle, uint8_t *out,
                         size_t cap, size_t *len)
{
    struct call call = {.request = {.operation = *handle}, .out = {{out, cap}}, .out_count = 1};
    psa_status_t status = run_for_size(function, &call, len);
    *handle = 0; /* the service ends it whatever came out */
    return status;
}

static psa_status_t compare(enum sp_crypto_function function, uint32_t *handle,
                            const uint8_t *expected, size_t len)
{
    psa_status_t status = feed(function, *handle, expected, len);
    *handle = 0;
    return status;
}

static psa_status_t stop(uint32_t *handle)
{
    if (*handle == 0) {
        return PSA_SUCCESS;
    }
    struct call call = {.request = {.operation = *handle}};
    *handle = 0;
    return run(SP_CRYPTO_ABORT, &call);
}

mbedtls_svc_key_id_t sp_crypto_own_key(psa_key_id_t number)
{
    return number;
}

psa_status_t psa_crypto_init(void)
{
    return psa_version(TFM_CRYPTO_SID) == PSA_VERSION_NONE ? PSA_ERROR_NOT_SUPPORTED : PSA_SUCCESS;
}

/* Asked by the TLS library of a client-only build. */
int psa_can_do_hash(psa_algorithm_t hash_alg);
int psa_can_do_hash(psa_algorithm_t hash_alg)
{
    return hash_alg == PSA_ALG_SHA_256;
}

psa_status_t psa_generate_random(uint8_t *output, size_t output_size)
{
    struct call call = {.out = {{output, output_size}}, .out_count = 1};
    return run(SP_CRYPTO_GENERATE_RANDOM, &call);
}

/* Keys. */

static struct sp_crypto_attributes pack(const psa_key_attributes_t *from)
{
    return (struct sp_crypto_attributes){
        .id = psa_get_key_id(from),
        .lifetime = psa_get_key_lifetime(from),
        .type = psa_get_key_type(from),
        .bits = (uint32_t)psa_get_key_bits(from),
        .usage = psa_get_key_usage_flags(from),
        .algorithm = psa_get_key_algorithm(from),
    };
}

/* A function that makes a key. */
static psa_status_t make_key(enum sp_crypto_function function, struct call *call,
                             mbedtls_svc_key_id_t *key)
{
    uint32_t id = 0;
    call->out[0] = (psa_outvec){&id, sizeof(id)};
    call->out_count = 1;
    psa_status_t status = run(function, call);
    *key = status == PSA_SUCCESS ? id : 0;
    return status;
}

psa_status_t psa_import_key(const psa_key_attributes_t *attributes, const uint8_t *data,
                            size_t data_length, mbedtls_svc_key_id_t *key)
{
    const struct sp_crypto_attributes packed = pack(attributes);
    struct call call = {.in = {{&packed, sizeof(packed)}, {data, data_length}}, .in_count = 2};
    return make_key(SP_CRYPTO_IMPORT_KEY, &call, key);
}

psa_status_t psa_generate_key(const psa_key_attributes_t *attributes, mbedtls_svc_key_id_t *key)
{
    const struct sp_crypto_attributes packed = pack(attributes);
    struct call call = {.in = {{&packed, sizeof(packed)}}, .in_count = 1};
    return make_key(SP_CRYPTO_GENERATE_KEY, &call, key);
}

psa_status_t psa_destroy_key(mbedtls_svc_key_id_t key)
{
    struct call call = {.request = {.key = key}};
    return key == 0 ? PSA_SUCCESS : run(SP_CRYPTO_DESTROY_KEY, &call);
}

psa_status_t psa_export_key(mbedtls_svc_key_id_t key, uint8_t *data, size_t data_size,
                            size_t *data_length)
{
    struct call call = {.request = {.key = key}, .out = {{data, data_size}}, .out_count = 1};
    return run_for_size(SP_CRYPTO_EXPORT_KEY, &call, data_length);
}

psa_status_t psa_get_key_attributes(mbedtls_svc_key_id_t key, psa_key_attributes_t *attributes)
{
    struct sp_crypto_attributes packed;
    struct call call = {
        .request = {.key = key}, .out = {{&packed, sizeof(packed)}}, .out_count = 1};
    *attributes = psa_key_attributes_init();
    psa_status_t status = run(SP_CRYPTO_GET_KEY_ATTRIBUTES, &call);
    if (status != PSA_SUCCESS) {
        return status;
    }
    psa_set_key_id(attributes, packed.id);
    psa_set_key_lifetime(attributes, packed.lifetime);
    psa_set_key_type(attributes, (psa_key_type_t)packed.type);
    psa_set_key_bits(attributes, packed.bits);
    psa_set_key_usage_flags(attributes, packed.usage);
    psa_set_key_algorithm(attributes, packed.algorithm);
    return PSA_SUCCESS;
}

/* Hashes. */

psa_status_t psa_hash_compute(psa_algorithm_t alg, const uint8_t *input, size_t input_length,
                              uint8_t *hash, size_t hash_size, size_t *hash_length)
{
    struct call call = {.request = {.algorithm = alg},
                        .in = {{input, input_length}},
                        .in_count = 1,
                        .out = {{hash, hash_size}},
                        .out_count = 1};
    return run_for_size(SP_CRYPTO_HASH_COMPUTE, &call, hash_length);
}

psa_status_t psa_hash_compare(psa_algorithm_t alg, const uint8_t *input, size_t input_length,
                              const uint8_t *hash, size_t hash_length)
{
    struct call call = {.request = {.algorithm = alg},
                        .in = {{input, input_length}, {hash, hash_length}},
                        .in_count = 2};
    return run(SP_CRYPTO_HASH_COMPARE, &call);
}

psa_status_t psa_hash_setup(psa_hash_operation_t *operation, psa_algorithm_t alg)
{
    return begin(SP_CRYPTO_HASH_SETUP, alg, 0, &operation->handle);
}

psa_status_t psa_hash_update(psa_hash_operation_t *operation, const uint8_t *input,
                             size_t input_length)
{
    return feed(SP_CRYPTO_HASH_UPDATE, operation->handle, input, input_length);
}

psa_status_t psa_hash_clone(const psa_hash_operation_t *source_operation,
                            psa_hash_operation_t *target_operation)
{
    uint32_t handle = 0;
    if (target_operation->handle != 0) {
        return PSA_ERROR_BAD_STATE;
    }
    struct call call = {.request = {.operation = source_operation->handle},
                        .out = {{&handle, sizeof(handle)}},
                        .out_count = 1};
    psa_status_t status = run(SP_CRYPTO_HASH_CLONE, &call);
    if (status == PSA_SUCCESS) {
        target_operation->handle = handle;
    }
    return status;
}

psa_status_t psa_hash_finish(psa_hash_operation_t *operation, uint8_t *hash, size_t hash_size,
                             size_t *hash_length)
{
    return take(SP_CRYPTO_HASH_FINISH, &operation->handle, hash, hash_size, hash_length);
}

psa_status_t psa_hash_verify(psa_hash_operation_t *operation, const uint8_t *hash,
                             size_t hash_length)
{
    return compare(SP_CRYPTO_HASH_VERIFY, &operation->handle, hash, hash_length);
}

psa_status_t psa_hash_abort(psa_hash_operation_t *operation)
{
    return stop(&operation->handle);
}

/* MACs. */

psa_status_t psa_mac_compute(mbedtls_svc_key_id_t key, psa_algorithm_t alg, const uint8_t *input,
                             size_t input_length, uint8_t *mac, size_t mac_size, size_t *mac_length)
{
    struct call call = {.request = {.key = key, .algorithm = alg},
                        .in = {{input, input_length}},
                        .in_count = 1,
                        .out = {{mac, mac_size}},
                        .out_count = 1};
    return run_for_size(SP_CRYPTO_MAC_COMPUTE, &call, mac_length);
}

psa_status_t psa_mac_verify(mbedtls_svc_key_id_t key, psa_algorithm_t alg, const uint8_t *input,
                            size_t input_length, const uint8_t *mac, size_t mac_length)
{
    struct call call = {.request = {.key = key, .algorithm = alg},
                        .in = {{input, input_length}, {mac, mac_length}},
                        .in_count = 2};
    return run(SP_CRYPTO_MAC_VERIFY, &call);
}

psa_status_t psa_mac_sign_setup(psa_mac_operation_t *operation, mbedtls_svc_key_id_t key,
                                psa_algorithm_t alg)
{
    return begin(SP_CRYPTO_MAC_SIGN_SETUP, alg, key, &operation->handle);
}

psa_status_t psa_mac_verify_setup(psa_mac_operation_t *operation, mbedtls_svc_key_id_t key,
                                  psa_algorithm_t alg)
{
    return begin(SP_CRYPTO_MAC_VERIFY_SETUP, alg, key, &operation->handle);
}

psa_status_t psa_mac_update(psa_mac_operation_t *operation, const uint8_t *input,
                            size_t input_length)
{
    return feed(SP_CRYPTO_MAC_UPDATE, operation->handle, input, input_length);
}

psa_status_t psa_mac_sign_finish(psa_mac_operation_t *operation, uint8_t *mac, size_t mac_size,
                                 size_t *mac_length)
{
    return take(SP_CRYPTO_MAC_SIGN_FINISH, &operation->handle, mac, mac_size, mac_length);
}

psa_status_t psa_mac_verify_finish(psa_mac_operation_t *operation, const uint8_t *mac,
                                   size_t mac_length)
{
    return compare(SP_CRYPTO_MAC_VERIFY_FINISH, &operation->handle, mac, mac_length);
}

psa_status_t psa_mac_abort(psa_mac_operation_t *operation)
{
    return stop(&operation->handle);
}

/* Authenticated encryption. */

/* One-shot; `text` may be `out`: what is read is read before it is written. */
static psa_status_t aead(enum sp_crypto_function function, struct call *call, struct sp_view nonce,
                         size_t *out_len)
{
    if (nonce.len > SP_CRYPTO_NONCE_MAX) {
        return PSA_ERROR_NOT_SUPPORTED;
    }
    call->request.nonce_len = (uint32_t)nonce.len;
    sp_copy(call->request.nonce, nonce.ptr, nonce.len);
    return run_for_size(function, call, out_len);
}

psa_status_t psa_aead_encrypt(mbedtls_svc_key_id_t key, psa_algorithm_t alg, const uint8_t *nonce,
                              size_t nonce_length, const uint8_t *additional_data,
                              size_t additional_data_length, const uint8_t *plaintext,
                              size_t plaintext_length, uint8_t *ciphertext, size_t ciphertext_size,
                              size_t *ciphertext_length)
{
    struct call call = {
        .request = {.key = key, .algorithm = alg},
        .in = {{additional_data, additional_data_length}, {plaintext, plaintext_length}},
        .in_count = 2,
        .out = {{ciphertext, ciphertext_size}},
        .out_count = 1};
    return aead(SP_CRYPTO_AEAD_ENCRYPT, &call, sp_view(nonce, nonce_length), ciphertext_length);
}

psa_status_t psa_aead_decrypt(mbedtls_svc_key_id_t key, psa_algorithm_t alg, const uint8_t *nonce,
                              size_t nonce_length, const uint8_t *additional_data,
                              size_t additional_data_length, const uint8_t *ciphertext,
                              size_t ciphertext_length, uint8_t *plaintext, size_t plaintext_size,
                              size_t *plaintext_length)
{
    struct call call = {
        .request = {.key = key, .algorithm = alg},
        .in = {{additional_data, additional_data_length}, {ciphertext, ciphertext_length}},
        .in_count = 2,
        .out = {{plaintext, plaintext_size}},
        .out_count = 1};
    return aead(SP_CRYPTO_AEAD_DECRYPT, &call, sp_view(nonce, nonce_length), plaintext_length);
}

psa_status_t psa_aead_encrypt_setup(psa_aead_operation_t *operation, mbedtls_svc_key_id_t key,
                                    psa_algorithm_t alg)
{
    return begin(SP_CRYPTO_AEAD_ENCRYPT_SETUP, alg, key, &operation->handle);
}

psa_status_t psa_aead_decrypt_setup(psa_aead_operation_t *operation, mbedtls_svc_key_id_t key,
                                    psa_algorithm_t alg)
{
    return begin(SP_CRYPTO_AEAD_DECRYPT_SETUP, alg, key, &operation->handle);
}

psa_status_t psa_aead_set_lengths(psa_aead_operation_t *operation, size_t ad_length,
                                  size_t plaintext_length)
{
    struct call call = {.request = {.operation = operation->handle,
                                    .sizes = {(uint32_t)ad_length, (uint32_t)plaintext_length}}};
    return run(SP_CRYPTO_AEAD_SET_LENGTHS, &call);
}

psa_status_t psa_aead_set_nonce(psa_aead_operation_t *operation, const uint8_t *nonce,
                                size_t nonce_length)
{
    struct call call = {
        .request = {.operation = operation->handle, .nonce_len = (uint32_t)nonce_length}};
    if (nonce_length > SP_CRYPTO_NONCE_MAX) {
        return PSA_ERROR_NOT_SUPPORTED;
    }
    sp_copy(call.request.nonce, nonce, nonce_length);
    return run(SP_CRYPTO_AEAD_SET_NONCE, &call);
}

psa_status_t psa_aead_update_ad(psa_aead_operation_t *operation, const uint8_t *input,
                                size_t input_length)
{
    return feed(SP_CRYPTO_AEAD_UPDATE_AD, operation->handle, input, input_length);
}

psa_status_t psa_aead_update(psa_aead_operation_t *operation, const uint8_t *input,
                             size_t input_length, uint8_t *output, size_t output_size,
                             size_t *output_length)
{
    struct call call = {.request = {.operation = operation->handle},
                        .in = {{input, input_length}},
                        .in_count = 1,
                        .out = {{output, output_size}},
                        .out_count = 1};
    return run_for_size(SP_CRYPTO_AEAD_UPDATE, &call, output_length);
}

psa_status_t psa_aead_finish(psa_aead_operation_t *operation, uint8_t *ciphertext,
                             size_t ciphertext_size, size_t *ciphertext_length, uint8_t *tag,
                             size_t tag_size, size_t *tag_length)
{
    struct call call = {.request = {.operation = operation->handle},
                        .out = {{ciphertext, ciphertext_size}, {tag, tag_size}},
                        .out_count = 2};
    psa_status_t status = run_for_size(SP_CRYPTO_AEAD_FINISH, &call, ciphertext_length);
    if (status == PSA_SUCCESS) {
        *tag_length = call.out[1].len;
    }
    operation->handle = 0;
    return status;
}

psa_status_t psa_aead_verify(psa_aead_operation_t *operation, uint8_t *plaintext,
                             size_t plaintext_size, size_t *plaintext_length, const uint8_t *tag,
                             size_t tag_length)
{
    struct call call = {.request = {.operation = operation->handle},
                        .in = {{tag, tag_length}},
                        .in_count = 1,
                        .out = {{plaintext, plaintext_size}},
                        .out_count = 1};
    psa_status_t status = run_for_size(SP_CRYPTO_AEAD_VERIFY, &call, plaintext_length);
    operation->handle = 0;
    return status;
}

psa_status_t psa_aead_abort(psa_aead_operation_t *operation)
{
    return stop(&operation->handle);
}

/* Key derivation. */

psa_status_t psa_key_derivation_setup(psa_key_derivation_operation_t *operation,
                                      psa_algorithm_t alg)
{
    return begin(SP_CRYPTO_DERIVATION_SETUP, alg, 0, &operation->handle);
}

psa_status_t psa_key_derivation_set_capacity(psa_key_derivation_operation_t *operation,
                                             size_t capacity)
{
    struct call call = {
        .request = {.operation = operation->handle, .sizes = {(uint32_t)capacity, 0}}};
    return run(SP_CRYPTO_DERIVATION_SET_CAPACITY, &call);
}

psa_status_t psa_key_derivation_get_capacity(const psa_key_derivation_operation_t *operation,
                                             size_t *capacity)
{
    uint32_t value = 0;
    struct call call = {.request = {.operation = operation->handle},
                        .out = {{&value, sizeof(value)}},
                        .out_count = 1};
    psa_status_t status = run(SP_CRYPTO_DERIVATION_GET_CAPACITY, &call);
    if (status == PSA_SUCCESS) {
        *capacity = value;
    }
    return status;
}

psa_status_t psa_key_derivation_input_bytes(psa_key_derivation_operation_t *operation,
                                            psa_key_derivation_step_t step, const uint8_t *data,
                                            size_t data_length)
{
    struct call call = {.request = {.operation = operation->handle, .step = step},
                        .in = {{data, data_length}},
                        .in_count = 1};
    return run(SP_CRYPTO_DERIVATION_INPUT_BYTES, &call);
}

psa_status_t psa_key_derivation_input_key(psa_key_derivation_operation_t *operation,
                                          psa_key_derivation_step_t step, mbedtls_svc_key_id_t key)
{
    struct call call = {.request = {.operation = operation->handle, .step = step, .key = key}};
    return run(SP_CRYPTO_DERIVATION_INPUT_KEY, &call);
}

psa_status_t psa_key_derivation_output_bytes(psa_key_derivation_operation_t *operation,
                                             uint8_t *output, size_t output_length)
{
    struct call call = {.request = {.operation = operation->handle},
                        .out = {{output, output_length}},
                        .out_count = 1};
    return run(SP_CRYPTO_DERIVATION_OUTPUT_BYTES, &call);
}

psa_status_t psa_key_derivation_output_key(const psa_key_attributes_t *attributes,
                                           psa_key_derivation_operation_t *operation,
                                           mbedtls_svc_key_id_t *key)
{
    const struct sp_crypto_attributes packed = pack(attributes);
    struct call call = {.request = {.operation = operation->handle},
                        .in = {{&packed, sizeof(packed)}},
                        .in_count = 1};
    return make_key(SP_CRYPTO_DERIVATION_OUTPUT_KEY, &call, key);
}

psa_status_t psa_key_derivation_abort(psa_key_derivation_operation_t *operation)
{
    return stop(&operation->handle);
}
