/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The algorithms of the crypto service in firmware: TF-M's Profile Small and AES-GCM. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_MBEDTLS_PSA_CONFIG_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_MBEDTLS_PSA_CONFIG_H

#define PSA_WANT_KEY_TYPE_AES        1
#define PSA_WANT_KEY_TYPE_HMAC       1
#define PSA_WANT_KEY_TYPE_DERIVE     1
#define PSA_WANT_KEY_TYPE_RAW_DATA   1
#define PSA_WANT_ALG_CCM             1
#define PSA_WANT_ALG_GCM             1
#define PSA_WANT_ALG_HMAC            1
#define PSA_WANT_ALG_SHA_256         1
#define PSA_WANT_ALG_TLS12_PRF       1
#define PSA_WANT_ALG_TLS12_PSK_TO_MS 1

#endif
