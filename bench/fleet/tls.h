/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file TLS 1.2 PSK client sessions without I/O, for the fleet. Only tls_gnutls.c knows GnuTLS. */
#ifndef SP_BENCH_FLEET_TLS_H
#define SP_BENCH_FLEET_TLS_H

#include "libs/base/bytes.h"

struct sp_fleet_tls; /**< one session */

/** Who connects. Borrowed for the life of the session. */
struct sp_fleet_tls_key {
    struct sp_view identity;
    struct sp_view psk;
};

/**
 * Shared state, once per process.
 * @param[in] suite `ccm-8`, `ccm` or `gcm`: PSK-AES128-CCM-8, -CCM, -GCM-SHA256.
 * @retval SP_ERR_ARGUMENT No such suite.
 */
SP_MUST_CHECK enum sp_err sp_fleet_tls_init(const char *suite);
void sp_fleet_tls_deinit(void);

/** Takes ciphertext to be sent; copies it. */
typedef void sp_fleet_tls_send(void *context, struct sp_view ciphertext);

SP_MUST_CHECK enum sp_err sp_fleet_tls_create(const struct sp_fleet_tls_key *key,
                                              sp_fleet_tls_send *send, void *context,
                                              struct sp_fleet_tls **out);

/** NULL is fine. */
void sp_fleet_tls_destroy(struct sp_fleet_tls *tls);

/** Ciphertext from the socket; borrowed until handshake or read have answered SP_ERR_AGAIN. */
void sp_fleet_tls_input(struct sp_fleet_tls *tls, struct sp_view ciphertext);

/** @retval SP_ERR_AGAIN Needs more input. @retval SP_ERR_UNTRUSTED Failed: sp_fleet_tls_error(). */
SP_MUST_CHECK enum sp_err sp_fleet_tls_handshake(struct sp_fleet_tls *tls);

/** @retval SP_ERR_AGAIN The input is used up. @retval SP_ERR_CLOSED Closed, or broken. */
SP_MUST_CHECK enum sp_err sp_fleet_tls_read(struct sp_fleet_tls *tls, uint8_t *buf, size_t cap,
                                            size_t *len);

/** Send `plain` as one record. @retval SP_ERR_CLOSED The session is broken. */
SP_MUST_CHECK enum sp_err sp_fleet_tls_write(struct sp_fleet_tls *tls, struct sp_view plain);

/** Send a close_notify. */
void sp_fleet_tls_close(struct sp_fleet_tls *tls);

/** The 32 bytes of RFC 9266, context present and empty. */
SP_MUST_CHECK enum sp_err sp_fleet_tls_exporter(struct sp_fleet_tls *tls, uint8_t out[32]);

/** What went wrong last, in English; static. */
const char *sp_fleet_tls_error(const struct sp_fleet_tls *tls);

#endif
