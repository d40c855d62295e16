/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/suites.h"

#include "gateway/proc/messages.h"

#include <string.h>

#define S SP_SUITES_PROFILE_SMALL
#define F SP_SUITES_FORWARD_SECRET
#define A SP_SUITES_ALL
#define N SP_SUITES_NULL_ENCRYPTION

/* clang-format off */
const struct sp_tls_suite sp_tls_suites[] = {
    {0xCCAC, S | F | A, false, "TLS_ECDHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
     "+ECDHE-PSK:+CHACHA20-POLY1305:+AEAD"},
    {0xC037, S | F | A, true, "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256",
     "+ECDHE-PSK:+AES-128-CBC:+SHA256"},
    {0xC038, S | F | A, true, "TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA384",
     "+ECDHE-PSK:+AES-256-CBC:+SHA384"},
    {0xC035, A, false, "TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA",
     "+ECDHE-PSK:+AES-128-CBC:+SHA1"},
    {0xC036, A, false, "TLS_ECDHE_PSK_WITH_AES_256_CBC_SHA",
     "+ECDHE-PSK:+AES-256-CBC:+SHA1"},
    {0xC034, 0, false, "TLS_ECDHE_PSK_WITH_3DES_EDE_CBC_SHA",
     "+ECDHE-PSK:+3DES-CBC:+SHA1"},
    {0xC033, 0, false, "TLS_ECDHE_PSK_WITH_RC4_128_SHA",
     "+ECDHE-PSK:+ARCFOUR-128:+SHA1"},
    {0xC03B, N, false, "TLS_ECDHE_PSK_WITH_NULL_SHA384",
     "+ECDHE-PSK:+NULL:+SHA384"},
    {0xC03A, N, false, "TLS_ECDHE_PSK_WITH_NULL_SHA256",
     "+ECDHE-PSK:+NULL:+SHA256"},
    {0xC039, N, false, "TLS_ECDHE_PSK_WITH_NULL_SHA",
     "+ECDHE-PSK:+NULL:+SHA1"},
    {0xCCAD, S | F | A, false, "TLS_DHE_PSK_WITH_CHACHA20_POLY1305_SHA256",
     "+DHE-PSK:+CHACHA20-POLY1305:+AEAD"},
    {0x00AA, S | F | A, false, "TLS_DHE_PSK_WITH_AES_128_GCM_SHA256",
     "+DHE-PSK:+AES-128-GCM:+AEAD"},
    {0x00AB, S | F | A, false, "TLS_DHE_PSK_WITH_AES_256_GCM_SHA384",
     "+DHE-PSK:+AES-256-GCM:+AEAD"},
    {0xC0A6, S | F | A, false, "TLS_DHE_PSK_WITH_AES_128_CCM",
     "+DHE-PSK:+AES-128-CCM:+AEAD"},
    {0xC0A7, S | F | A, false, "TLS_DHE_PSK_WITH_AES_256_CCM",
     "+DHE-PSK:+AES-256-CCM:+AEAD"},
    {0xC0AA, S | F | A, false, "TLS_PSK_DHE_WITH_AES_128_CCM_8",
     "+DHE-PSK:+AES-128-CCM-8:+AEAD"},
    {0xC0AB, S | F | A, false, "TLS_PSK_DHE_WITH_AES_256_CCM_8",
     "+DHE-PSK:+AES-256-CCM-8:+AEAD"},
    {0x00B2, A, false, "TLS_DHE_PSK_WITH_AES_128_CBC_SHA256",
     "+DHE-PSK:+AES-128-CBC:+SHA256"},
    {0x00B3, A, false, "TLS_DHE_PSK_WITH_AES_256_CBC_SHA384",
     "+DHE-PSK:+AES-256-CBC:+SHA384"},
    {0x0090, A, false, "TLS_DHE_PSK_WITH_AES_128_CBC_SHA",
     "+DHE-PSK:+AES-128-CBC:+SHA1"},
    {0x0091, A, false, "TLS_DHE_PSK_WITH_AES_256_CBC_SHA",
     "+DHE-PSK:+AES-256-CBC:+SHA1"},
    {0x008F, 0, false, "TLS_DHE_PSK_WITH_3DES_EDE_CBC_SHA",
     "+DHE-PSK:+3DES-CBC:+SHA1"},
    {0x008E, 0, false, "TLS_DHE_PSK_WITH_RC4_128_SHA",
     "+DHE-PSK:+ARCFOUR-128:+SHA1"},
    {0x00B5, N, false, "TLS_DHE_PSK_WITH_NULL_SHA384",
     "+DHE-PSK:+NULL:+SHA384"},
    {0x00B4, N, false, "TLS_DHE_PSK_WITH_NULL_SHA256",
     "+DHE-PSK:+NULL:+SHA256"},
    {0x002D, N, false, "TLS_DHE_PSK_WITH_NULL_SHA",
     "+DHE-PSK:+NULL:+SHA1"},
    {0xCCAE, A, false, "TLS_RSA_PSK_WITH_CHACHA20_POLY1305_SHA256",
     "+RSA-PSK:+CHACHA20-POLY1305:+AEAD"},
    {0x00AC, A, false, "TLS_RSA_PSK_WITH_AES_128_GCM_SHA256",
     "+RSA-PSK:+AES-128-GCM:+AEAD"},
    {0x00AD, A, false, "TLS_RSA_PSK_WITH_AES_256_GCM_SHA384",
     "+RSA-PSK:+AES-256-GCM:+AEAD"},
    {0x00B6, A, false, "TLS_RSA_PSK_WITH_AES_128_CBC_SHA256",
     "+RSA-PSK:+AES-128-CBC:+SHA256"},
    {0x00B7, A, false, "TLS_RSA_PSK_WITH_AES_256_CBC_SHA384",
     "+RSA-PSK:+AES-256-CBC:+SHA384"},
    {0x0094, A, false, "TLS_RSA_PSK_WITH_AES_128_CBC_SHA",
     "+RSA-PSK:+AES-128-CBC:+SHA1"},
    {0x0095, A, false, "TLS_RSA_PSK_WITH_AES_256_CBC_SHA",
     "+RSA-PSK:+AES-256-CBC:+SHA1"},
    {0x0093, 0, false, "TLS_RSA_PSK_WITH_3DES_EDE_CBC_SHA",
     "+RSA-PSK:+3DES-CBC:+SHA1"},
    {0x0092, 0, false, "TLS_RSA_PSK_WITH_RC4_128_SHA",
     "+RSA-PSK:+ARCFOUR-128:+SHA1"},
    {0x00B9, N, false, "TLS_RSA_PSK_WITH_NULL_SHA384",
     "+RSA-PSK:+NULL:+SHA384"},
    {0x00B8, N, false, "TLS_RSA_PSK_WITH_NULL_SHA256",
     "+RSA-PSK:+NULL:+SHA256"},
    {0x002E, N, false, "TLS_RSA_PSK_WITH_NULL_SHA",
     "+RSA-PSK:+NULL:+SHA1"},
    {0xCCAB, A, false, "TLS_PSK_WITH_CHACHA20_POLY1305_SHA256",
     "+PSK:+CHACHA20-POLY1305:+AEAD"},
    {0x00A8, S | A, false, "TLS_PSK_WITH_AES_128_GCM_SHA256",
     "+PSK:+AES-128-GCM:+AEAD"},
    {0x00A9, A, false, "TLS_PSK_WITH_AES_256_GCM_SHA384",
     "+PSK:+AES-256-GCM:+AEAD"},
    {0xC0A4, S | A, false, "TLS_PSK_WITH_AES_128_CCM",
     "+PSK:+AES-128-CCM:+AEAD"},
    {0xC0A5, A, false, "TLS_PSK_WITH_AES_256_CCM",
     "+PSK:+AES-256-CCM:+AEAD"},
    {0xC0A8, S | A, false, "TLS_PSK_WITH_AES_128_CCM_8",
     "+PSK:+AES-128-CCM-8:+AEAD"},
    {0xC0A9, A, false, "TLS_PSK_WITH_AES_256_CCM_8",
     "+PSK:+AES-256-CCM-8:+AEAD"},
    {0x00AE, A, false, "TLS_PSK_WITH_AES_128_CBC_SHA256",
     "+PSK:+AES-128-CBC:+SHA256"},
    {0x00AF, A, false, "TLS_PSK_WITH_AES_256_CBC_SHA384",
     "+PSK:+AES-256-CBC:+SHA384"},
    {0x008C, A, false, "TLS_PSK_WITH_AES_128_CBC_SHA",
     "+PSK:+AES-128-CBC:+SHA1"},
    {0x008D, A, false, "TLS_PSK_WITH_AES_256_CBC_SHA",
     "+PSK:+AES-256-CBC:+SHA1"},
    {0x008B, 0, false, "TLS_PSK_WITH_3DES_EDE_CBC_SHA",
     "+PSK:+3DES-CBC:+SHA1"},
    {0x008A, 0, false, "TLS_PSK_WITH_RC4_128_SHA",
     "+PSK:+ARCFOUR-128:+SHA1"},
    {0x00B1, N, false, "TLS_PSK_WITH_NULL_SHA384",
     "+PSK:+NULL:+SHA384"},
    {0x00B0, N, false, "TLS_PSK_WITH_NULL_SHA256",
     "+PSK:+NULL:+SHA256"},
    {0x002C, N, false, "TLS_PSK_WITH_NULL_SHA",
     "+PSK:+NULL:+SHA1"},
};
/* clang-format on */

const size_t sp_tls_suite_count = sizeof(sp_tls_suites) / sizeof(sp_tls_suites[0]);

/* External PSKs are bound to SHA-256 (RFC 8446, 4.2.11), so only suites with that hash. */
const char sp_tls13_priority[] =
    "+ECDHE-PSK:+DHE-PSK:+AES-128-GCM:+CHACHA20-POLY1305:+AES-128-CCM:+AES-128-CCM-8:+AEAD";

const struct sp_tls_suite *sp_tls_suite_find(const char *name)
{
    for (size_t i = 0; i < sp_tls_suite_count; i++) {
        if (strcmp(sp_tls_suites[i].name, name) == 0) {
            return &sp_tls_suites[i];
        }
    }
    return NULL;
}
