/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The non-secure side of the boundary. The library of this folder implements psa/client.h over the veneers, and
 * over that the client functions of psa/crypto.h (Mbed TLS built with MBEDTLS_PSA_CRYPTO_CLIENT), psa/initial_attestation.h,
 * psa/internal_trusted_storage.h and sallyport/sensor.h. The secure world serves one call at a time, so calls of
 * several tasks must queue: that is what the two hooks are for, supplied by the port.
 */
#ifndef SP_DEVICE_SECURE_NS_NS_H
#define SP_DEVICE_SECURE_NS_NS_H

/** Wait until no other task is in the secure world. Before the scheduler runs it returns at once. */
void sp_ns_lock(void);
void sp_ns_unlock(void);

/** ITS asset of the non-secure world with the gateway's address as text, `10.0.2.100:8883`; put in by provisioning. */
#define SP_NS_ASSET_GATEWAY 2U

#endif
