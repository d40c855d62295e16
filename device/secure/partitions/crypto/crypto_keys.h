/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The crypto partition's keys: which there are, and their import at provisioning.
 *
 * The core is Mbed TLS's PSA Crypto. On POSIX the application calls it directly, so key policies hold
 * (no key here can be exported or copied) but not key owners: whoever runs code in the process can use the
 * attestation key by its number. A build with a real secure world tags keys with their owner.
 */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_KEYS_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_KEYS_H

#include "libs/base/bytes.h"
#include "psa/error.h"

#define SP_KEY_PSK \
    0x00000010U /**< TLS pre-shared key; the application knows this number and no more */
#define SP_KEY_IAK 0x3FFF0010U /**< initial attestation key; for the attestation partition only */

/** Start the core. Returns a PSA status; before any other use of PSA Crypto, after storage is open. */
psa_status_t sp_crypto_entry_init(void);

/**
 * Put the TLS pre-shared key in, in place of an older one: type DERIVE, for TLS 1.2 master secrets with SHA-256
 * only, not exportable. @param[in] persistent Keep it in internal trusted storage, else in RAM.
 */
psa_status_t sp_crypto_import_psk(struct sp_view psk, bool persistent);

/** The same for the attestation key: HMAC with SHA-256, -384 or -512 (`hash_len` 32, 48, 64), to sign only. */
psa_status_t sp_crypto_import_iak(struct sp_view iak, size_t hash_len, bool persistent);

/** The number under which a key is reached: its persistent one, or that of the volatile import; 0 = none. */
uint32_t sp_crypto_key_psk(void);
uint32_t sp_crypto_key_iak(void);

#endif
