/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The algorithms that the PSA Crypto core of the POSIX device offers: Profile Small's, and what `forward-secret` suites need. */
#ifndef SP_DEVICE_PORT_POSIX_MBEDTLS_PSA_CONFIG_H
#define SP_DEVICE_PORT_POSIX_MBEDTLS_PSA_CONFIG_H

/* Profile Small: AES-128, SHA-256, HMAC, the TLS 1.2 derivations. */
#define PSA_WANT_KEY_TYPE_AES        1
#define PSA_WANT_KEY_TYPE_HMAC       1
#define PSA_WANT_KEY_TYPE_DERIVE     1
#define PSA_WANT_KEY_TYPE_RAW_DATA   1
#define PSA_WANT_ALG_CCM             1
#define PSA_WANT_ALG_HMAC            1
#define PSA_WANT_ALG_SHA_256         1
#define PSA_WANT_ALG_TLS12_PRF       1
#define PSA_WANT_ALG_TLS12_PSK_TO_MS 1

/* PSK-AES128-GCM; ECDHE-PSK with ChaCha20-Poly1305 and with AES-128-CBC (encrypt-then-MAC). */
#define PSA_WANT_ALG_GCM                        1
#define PSA_WANT_ALG_CBC_NO_PADDING             1
#define PSA_WANT_ALG_CHACHA20_POLY1305          1
#define PSA_WANT_KEY_TYPE_CHACHA20              1
#define PSA_WANT_ALG_ECDH                       1
#define PSA_WANT_ECC_SECP_R1_256                1
#define PSA_WANT_ECC_MONTGOMERY_255             1
#define PSA_WANT_KEY_TYPE_ECC_PUBLIC_KEY        1
#define PSA_WANT_KEY_TYPE_ECC_KEY_PAIR_BASIC    1
#define PSA_WANT_KEY_TYPE_ECC_KEY_PAIR_IMPORT   1
#define PSA_WANT_KEY_TYPE_ECC_KEY_PAIR_EXPORT   1
#define PSA_WANT_KEY_TYPE_ECC_KEY_PAIR_GENERATE 1

/* Attestation keys of algorithm hmac384 and hmac512. */
#define PSA_WANT_ALG_SHA_384 1
#define PSA_WANT_ALG_SHA_512 1

#endif
