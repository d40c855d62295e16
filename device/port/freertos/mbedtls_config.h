/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Mbed TLS 3.6 for the non-secure world: a TLS 1.2 client with pre-shared keys that does no cryptography of its
 * own. Hashes, record protection and key derivation are calls of the secure world's crypto service.
 */
#ifndef SP_DEVICE_PORT_FREERTOS_MBEDTLS_CONFIG_H
#define SP_DEVICE_PORT_FREERTOS_MBEDTLS_CONFIG_H

#include "device/secure/ns/mbedtls_client_config.h"

#define MBEDTLS_USE_PSA_CRYPTO
#define MBEDTLS_SSL_TLS_C
#define MBEDTLS_SSL_CLI_C
#define MBEDTLS_SSL_PROTO_TLS1_2
#define MBEDTLS_SSL_EXTENDED_MASTER_SECRET
#define MBEDTLS_SSL_KEYING_MATERIAL_EXPORT
#define MBEDTLS_SSL_IN_CONTENT_LEN \
    16384 /* a gateway may send full records; it has no duty to know the extension */
#define MBEDTLS_SSL_OUT_CONTENT_LEN 2048
#define MBEDTLS_KEY_EXCHANGE_PSK_ENABLED
#define MBEDTLS_CIPHER_C
#define MBEDTLS_MD_C
#define MBEDTLS_PSK_MAX_LEN 64

/* Memory: one block given at start, no malloc. */
#define MBEDTLS_PLATFORM_C
#define MBEDTLS_PLATFORM_MEMORY
#define MBEDTLS_PLATFORM_NO_STD_FUNCTIONS
#define MBEDTLS_MEMORY_BUFFER_ALLOC_C

#endif
