/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What differs between builds of the TLS client: tls_mbedtls_forward.c for all suites of suites.h,
 * tls_mbedtls_small.c for plain PSK with AEAD only.
 */
#ifndef SP_DEVICE_PORT_TLS_MBEDTLS_INTERNAL_H
#define SP_DEVICE_PORT_TLS_MBEDTLS_INTERNAL_H

#include <stdbool.h>

#define MBEDTLS_ALLOW_PRIVATE_ACCESS /* as in the library itself, for ssl_misc.h */
#include <mbedtls/ssl.h>

/** Set what only such suites need. */
void sp_tls_variant_configure(mbedtls_ssl_config *config);

/** The suite and extensions that the gateway chose go together. */
bool sp_tls_variant_acceptable(const mbedtls_ssl_session *session);

#endif
