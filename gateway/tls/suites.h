/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Every TLS-PSK suite we know (RFC 4279, 4785, 5487, 5489, 6655, 7905), in the gateway's order of preference, and the
 * suite sets of docs/protocol.md 1 that each belongs to.
 */
#ifndef SP_GATEWAY_TLS_SUITES_H
#define SP_GATEWAY_TLS_SUITES_H

#include "libs/base/bytes.h"

struct sp_tls_suite {
    uint16_t code;    /**< IANA number */
    uint8_t sets;     /**< SP_SUITES_* it is part of; 0: only when named by itself (RC4, 3DES) */
    bool needs_etm;   /**< acceptable with encrypt-then-MAC only (RFC 7366) */
    const char *name; /**< IANA name */
    const char *priority; /**< the TLS library's words for exactly this suite */
};

/** All of them, best first: ECDHE-PSK, DHE-PSK, RSA-PSK, plain PSK. */
extern const struct sp_tls_suite sp_tls_suites[];
extern const size_t sp_tls_suite_count;

/** TLS 1.3 with psk_dhe_ke, tried before all of the above where the listener has a set of SP_TLS13_SETS. */
extern const char sp_tls13_priority[];

/** The suite with that IANA name, or NULL. */
const struct sp_tls_suite *sp_tls_suite_find(const char *name);

#endif
