/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What the client functions of psa/crypto.h (device/secure/ns/crypto_client.c) and the crypto service say to each
 * other. The type of the call is the function; its first input is struct sp_crypto_request.
 */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_PROTOCOL_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_PROTOCOL_H

#include <stdint.h>

#define SP_CRYPTO_NONCE_MAX 16U

/** Inputs behind the request; outputs. `op` = uint32_t handle of a multi-part operation. */
enum sp_crypto_function {
    SP_CRYPTO_GENERATE_RANDOM = 1, /**< out: bytes */
    SP_CRYPTO_IMPORT_KEY,          /**< in: attributes, key; out: uint32_t id */
    SP_CRYPTO_GENERATE_KEY,        /**< in: attributes; out: uint32_t id */
    SP_CRYPTO_DESTROY_KEY,
    SP_CRYPTO_GET_KEY_ATTRIBUTES, /**< out: attributes */
    SP_CRYPTO_EXPORT_KEY,         /**< out: key */

    SP_CRYPTO_HASH_COMPUTE, /**< in: data; out: hash */
    SP_CRYPTO_HASH_COMPARE, /**< in: data, hash */
    SP_CRYPTO_HASH_SETUP,   /**< out: op */
    SP_CRYPTO_HASH_UPDATE,  /**< in: data */
    SP_CRYPTO_HASH_CLONE,   /**< out: op */
    SP_CRYPTO_HASH_FINISH,  /**< out: hash */
    SP_CRYPTO_HASH_VERIFY,  /**< in: hash */

    SP_CRYPTO_MAC_COMPUTE, /**< in: data; out: MAC */
    SP_CRYPTO_MAC_VERIFY,  /**< in: data, MAC */
    SP_CRYPTO_MAC_SIGN_SETUP,
    SP_CRYPTO_MAC_VERIFY_SETUP,
    SP_CRYPTO_MAC_UPDATE, /**< in: data */
    SP_CRYPTO_MAC_SIGN_FINISH,
    SP_CRYPTO_MAC_VERIFY_FINISH,

    SP_CRYPTO_AEAD_ENCRYPT, /**< in: additional data, plaintext; out: ciphertext and tag */
    SP_CRYPTO_AEAD_DECRYPT, /**< in: additional data, ciphertext and tag; out: plaintext */
    SP_CRYPTO_AEAD_ENCRYPT_SETUP,
    SP_CRYPTO_AEAD_DECRYPT_SETUP,
    SP_CRYPTO_AEAD_SET_LENGTHS, /**< sizes: additional data, plaintext */
    SP_CRYPTO_AEAD_SET_NONCE,
    SP_CRYPTO_AEAD_UPDATE_AD, /**< in: data */
    SP_CRYPTO_AEAD_UPDATE,    /**< in: data; out: data */
    SP_CRYPTO_AEAD_FINISH,    /**< out: ciphertext, tag */
    SP_CRYPTO_AEAD_VERIFY,    /**< in: tag; out: plaintext */

    SP_CRYPTO_DERIVATION_SETUP,        /**< out: op */
    SP_CRYPTO_DERIVATION_SET_CAPACITY, /**< sizes[0] */
    SP_CRYPTO_DERIVATION_GET_CAPACITY, /**< out: uint32_t */
    SP_CRYPTO_DERIVATION_INPUT_BYTES,  /**< in: data */
    SP_CRYPTO_DERIVATION_INPUT_KEY,
    SP_CRYPTO_DERIVATION_OUTPUT_BYTES, /**< out: data */
    SP_CRYPTO_DERIVATION_OUTPUT_KEY,   /**< in: attributes; out: uint32_t id */

    SP_CRYPTO_ABORT, /**< any operation; fine when there is none */
    SP_CRYPTO_FUNCTION_END,
};

struct sp_crypto_request {
    uint32_t operation; /**< 0: none */
    uint32_t key;
    uint32_t algorithm;
    uint32_t step; /**< of a derivation */
    uint32_t sizes[2];
    uint32_t nonce_len;
    uint8_t nonce[SP_CRYPTO_NONCE_MAX];
};

struct sp_crypto_attributes {
    uint32_t id;
    uint32_t lifetime;
    uint32_t type; /**< psa_key_type_t, 16 bits */
    uint32_t bits;
    uint32_t usage;
    uint32_t algorithm;
};

#endif
