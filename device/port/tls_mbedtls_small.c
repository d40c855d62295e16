/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/tls_mbedtls_internal.h"

void sp_tls_variant_configure(mbedtls_ssl_config *config)
{
    (void)config;
}

bool sp_tls_variant_acceptable(const mbedtls_ssl_session *session)
{
    (void)session;
    return true; /* every suite of this build is an AEAD */
}
