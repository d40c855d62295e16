/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Mbed TLS 3.6 for the device as a POSIX process: one world, so TLS client and PSA Crypto core in one library.
 *
 * TLS 1.2 client with pre-shared keys only; the suites are those of docs/protocol.md 1 that Mbed TLS has and that an
 * opaque SHA-256 PSK can serve. A split build (device/port/freertos) takes the TLS half of this file with
 * MBEDTLS_PSA_CRYPTO_CLIENT in place of MBEDTLS_PSA_CRYPTO_C.
 */
#ifndef SP_DEVICE_PORT_POSIX_MBEDTLS_CONFIG_H
#define SP_DEVICE_PORT_POSIX_MBEDTLS_CONFIG_H

/* The secure half: PSA Crypto core; keys in our internal trusted storage, randomness from the port. */
#define MBEDTLS_PSA_CRYPTO_C
#define MBEDTLS_PSA_CRYPTO_CONFIG
#define MBEDTLS_PSA_CRYPTO_CONFIG_FILE "device/port/posix/mbedtls_psa_config.h"
#define MBEDTLS_PSA_CRYPTO_STORAGE_C
#define MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG
#define MBEDTLS_PSA_KEY_SLOT_COUNT 32

/* The TLS half. */
#define MBEDTLS_USE_PSA_CRYPTO
#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_SSL_PROTO_TLS1_2
#define MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#define MBEDTLS_SSL_ENCRYPT_THEN_MAC
#define MBEDTLS_SSL_KEYING_MATERIAL_EXPORT
#define MBEDTLS_SSL_MAX_FRAGMENT_LENGTH
#define MBEDTLS_SSL_IN_CONTENT_LEN \
    16384 /* a gateway may send full records; it has no duty to know the extension */
#define MBEDTLS_SSL_OUT_CONTENT_LEN 2048
#define MBEDTLS_KEY_EXCHANGE_PSK_ENABLED
#define MBEDTLS_KEY_EXCHANGE_ECDHE_PSK_ENABLED
#define MBEDTLS_KEY_EXCHANGE_DHE_PSK_ENABLED
#define MBEDTLS_DHM_C /* DHE-PSK is not served by PSA in 3.6 */
#define MBEDTLS_BIGNUM_C
#define MBEDTLS_CIPHER_C
#define MBEDTLS_MD_C

#define MBEDTLS_PLATFORM_C
#define MBEDTLS_AES_ROM_TABLES
#define MBEDTLS_HAVE_ASM
#define MBEDTLS_AESNI_C
#define MBEDTLS_PSK_MAX_LEN 64

#endif
