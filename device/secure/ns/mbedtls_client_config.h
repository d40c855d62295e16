/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file psa/crypto.h as the non-secure world sees it: a client, with operations that are handles. A TLS build has its own
 * configuration and may add to this one; what decides about types must stay: MBEDTLS_PSA_CRYPTO_CLIENT without
 * MBEDTLS_PSA_CRYPTO_C, key ids without owners, the algorithms of ../partitions/crypto/mbedtls_psa_config.h.
 */
#ifndef SP_DEVICE_SECURE_NS_MBEDTLS_CLIENT_CONFIG_H
#define SP_DEVICE_SECURE_NS_MBEDTLS_CLIENT_CONFIG_H

#define MBEDTLS_PSA_CRYPTO_CLIENT
#define MBEDTLS_PSA_CRYPTO_CONFIG
#define MBEDTLS_PSA_CRYPTO_CONFIG_FILE "device/secure/partitions/crypto/mbedtls_psa_config.h"

#endif
