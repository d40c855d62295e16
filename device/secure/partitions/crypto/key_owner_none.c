/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/crypto/key_owner.h"

mbedtls_svc_key_id_t sp_crypto_key_of(int32_t owner, psa_key_id_t number)
{
    (void)owner;
    return number;
}
