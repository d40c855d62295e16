/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file TLS with certificates, the server's side, for the scripted cloud. Only peer_gnutls.c knows GnuTLS. */
#ifndef SP_TESTS_FAULTS_LEDGER_PEER_H
#define SP_TESTS_FAULTS_LEDGER_PEER_H

#include "libs/base/bytes.h"

struct sp_peer; /**< one session */

/** Once per process; files in PEM. Clients have to show a certificate of `ca`. @retval SP_ERR_ARGUMENT */
SP_MUST_CHECK enum sp_err sp_peer_setup(const char *ca, const char *certificate, const char *key);

/** A session over a connected, non-blocking socket, which stays the caller's. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_peer_create(int fd, struct sp_peer **out);
void sp_peer_destroy(struct sp_peer *peer); /**< NULL is fine */

/** The handshake goes on by itself. @retval SP_ERR_AGAIN @retval SP_ERR_CLOSED Closed, or failed. */
SP_MUST_CHECK enum sp_err sp_peer_read(struct sp_peer *peer, uint8_t *buf, size_t cap, size_t *len);

/** @param[out] taken Bytes sent. @retval SP_ERR_AGAIN The socket is full. @retval SP_ERR_CLOSED */
SP_MUST_CHECK enum sp_err sp_peer_write(struct sp_peer *peer, struct sp_view plain, size_t *taken);

#endif
