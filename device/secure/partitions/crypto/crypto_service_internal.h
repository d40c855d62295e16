/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Shared by the files of the crypto service. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_SERVICE_INTERNAL_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_SERVICE_INTERNAL_H

#include "device/secure/partitions/crypto/crypto_protocol.h"
#include "psa/service.h"

#include <psa/crypto.h>
#include <stdbool.h>

#define SP_CRYPTO_CHUNK 128U /* bytes of bulk data that are copied at a time */

enum sp_crypto_kind {
    SP_CRYPTO_NONE,
    SP_CRYPTO_HASH,
    SP_CRYPTO_MAC,
    SP_CRYPTO_AEAD,
    SP_CRYPTO_DERIVATION
};

/* A multi-part operation of a client; only as much of `as` is allocated as its kind takes. */
struct sp_crypto_operation {
    enum sp_crypto_kind kind;
    int32_t owner;
    uint32_t handle;
    union {
        psa_hash_operation_t hash;
        psa_mac_operation_t mac;
        psa_aead_operation_t aead;
        psa_key_derivation_operation_t derivation;
    } as;
};

/* A request being served. `operation` is the client's when the function works on one. */
struct sp_crypto_call {
    const psa_msg_t *msg;
    struct sp_crypto_request request;
    struct sp_crypto_operation *operation;
};

typedef psa_status_t sp_crypto_handler(struct sp_crypto_call *call);

/* Keys are named by their owner and the number that the client knows. */
mbedtls_svc_key_id_t sp_crypto_client_key(const struct sp_crypto_call *call);

/* Begin an operation for the client, all zeros; NULL when there are too many. */
struct sp_crypto_operation *sp_crypto_begin(struct sp_crypto_call *call, enum sp_crypto_kind kind);

/* Abort it and give its memory back. */
void sp_crypto_end(struct sp_crypto_operation *operation);

/* Feed an input to an update function, chunk by chunk. */
typedef psa_status_t sp_crypto_update(void *operation, const uint8_t *bytes, size_t len);
psa_status_t sp_crypto_feed(const struct sp_crypto_call *call, uint32_t input, size_t len,
                            sp_crypto_update *update, void *operation);

/* An output as a whole, when there is room for it. */
psa_status_t sp_crypto_reply(const struct sp_crypto_call *call, const void *bytes, size_t len);

/* Take attributes from input 1. */
psa_status_t sp_crypto_read_attributes(const struct sp_crypto_call *call,
                                       psa_key_attributes_t *out);

sp_crypto_handler sp_crypto_do_random, sp_crypto_do_import, sp_crypto_do_generate,
    sp_crypto_do_destroy, sp_crypto_do_attributes, sp_crypto_do_export;
sp_crypto_handler sp_crypto_do_hash_compute, sp_crypto_do_hash_compare, sp_crypto_do_hash_setup,
    sp_crypto_do_hash_update, sp_crypto_do_hash_clone, sp_crypto_do_hash_finish,
    sp_crypto_do_hash_verify;
sp_crypto_handler sp_crypto_do_mac_compute, sp_crypto_do_mac_verify, sp_crypto_do_mac_sign_setup,
    sp_crypto_do_mac_verify_setup, sp_crypto_do_mac_update, sp_crypto_do_mac_sign_finish,
    sp_crypto_do_mac_verify_finish;
sp_crypto_handler sp_crypto_do_aead_encrypt, sp_crypto_do_aead_decrypt,
    sp_crypto_do_aead_encrypt_setup, sp_crypto_do_aead_decrypt_setup, sp_crypto_do_aead_set_lengths,
    sp_crypto_do_aead_set_nonce, sp_crypto_do_aead_update_ad, sp_crypto_do_aead_update,
    sp_crypto_do_aead_finish, sp_crypto_do_aead_verify;
sp_crypto_handler sp_crypto_do_derivation_setup, sp_crypto_do_derivation_set_capacity,
    sp_crypto_do_derivation_get_capacity, sp_crypto_do_derivation_input_bytes,
    sp_crypto_do_derivation_input_key, sp_crypto_do_derivation_output_bytes,
    sp_crypto_do_derivation_output_key;

#endif
