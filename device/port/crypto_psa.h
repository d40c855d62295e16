/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What device/port/crypto_psa.c asks of whoever links it. */
#ifndef SP_DEVICE_PORT_CRYPTO_PSA_H
#define SP_DEVICE_PORT_CRYPTO_PSA_H

#include <psa/crypto.h>

/** The key that the running code knows by this number. In the secure world it is one of the running partition. */
mbedtls_svc_key_id_t sp_crypto_own_key(psa_key_id_t number);

#endif
