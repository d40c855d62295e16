/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/tls_mbedtls_internal.h"

#include "device/port/suites.h"

#define DH_BITS_MIN 2048U

static const uint16_t groups[] = {MBEDTLS_SSL_IANA_TLS_GROUP_X25519,
                                  MBEDTLS_SSL_IANA_TLS_GROUP_SECP256R1,
                                  MBEDTLS_SSL_IANA_TLS_GROUP_NONE};

void sp_tls_variant_configure(mbedtls_ssl_config *config)
{
    mbedtls_ssl_conf_groups(config, groups);
    mbedtls_ssl_conf_dhm_min_bitlen(config, DH_BITS_MIN);
    mbedtls_ssl_conf_encrypt_then_mac(config, MBEDTLS_SSL_ETM_ENABLED);
}

bool sp_tls_variant_acceptable(const mbedtls_ssl_session *session)
{
    return !sp_device_suite_needs_etm(session->ciphersuite) ||
           session->encrypt_then_mac == MBEDTLS_SSL_ETM_ENABLED;
}
