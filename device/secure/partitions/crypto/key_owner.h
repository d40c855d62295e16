/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Naming a key to the core: a build that tags keys with their owner (key_owner_tagged.c), or not (key_owner_none.c). */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_KEY_OWNER_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_KEY_OWNER_H

#include <psa/crypto.h>

/** The key that a client or partition knows by this number; number 0 is no key. */
mbedtls_svc_key_id_t sp_crypto_key_of(int32_t owner, psa_key_id_t number);

#endif
