/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Mbed TLS 3.6 in the secure world: the PSA Crypto core and nothing else; symmetric only. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_MBEDTLS_CONFIG_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_MBEDTLS_CONFIG_H

#define MBEDTLS_PSA_CRYPTO_C
#define MBEDTLS_PSA_CRYPTO_CONFIG
#define MBEDTLS_PSA_CRYPTO_CONFIG_FILE          "device/secure/partitions/crypto/mbedtls_psa_config.h"
#define MBEDTLS_PSA_CRYPTO_STORAGE_C            /* keys in our internal trusted storage */
#define MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG         /* random_mbedtls.c */
#define MBEDTLS_PSA_CRYPTO_KEY_ID_ENCODES_OWNER /* CVE-2021-40327: each key belongs to one client */
#define MBEDTLS_PSA_ASSUME_EXCLUSIVE_BUFFERS    /* the service hands it its own copies only */
#define MBEDTLS_PSA_KEY_SLOT_COUNT              12 /* a TLS session has five */

#define MBEDTLS_CTR_DRBG_C
#define MBEDTLS_AES_C
#define MBEDTLS_AES_ONLY_128_BIT_KEY_LENGTH
#define MBEDTLS_AES_ROM_TABLES
#define MBEDTLS_AES_FEWER_TABLES
#define MBEDTLS_BLOCK_CIPHER_NO_DECRYPT
#define MBEDTLS_SHA256_SMALLER

#define MBEDTLS_PLATFORM_C
#define MBEDTLS_PLATFORM_MEMORY
#define MBEDTLS_PLATFORM_CALLOC_MACRO sp_heap_calloc
#define MBEDTLS_PLATFORM_FREE_MACRO   sp_heap_free
#define MBEDTLS_PSK_MAX_LEN           64

#include <stddef.h>
void *sp_heap_calloc(size_t count, size_t size); /* device/secure/partitions/crypto/heap.h */
void sp_heap_free(void *memory);

#endif
