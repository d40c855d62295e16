/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The TLS seam: TLS-PSK server for the devices' door, certificate client for the cloud's door.
 *
 * A session does no I/O. The caller owns the socket: it reads ciphertext and hands it in, and writes out what the
 * session leaves in an sp_tls_out. Sessions belong to one thread at a time and may move between threads.
 * Only the files *_gnutls.c know GnuTLS.
 *
 *     HANDSHAKE ──► (NEED_PSK ──► HANDSHAKE) ──► OPEN ──► CLOSED
 *
 * A server's session in TLS 1.2 with an AES-128 AEAD suite is detached from GnuTLS as it opens: 104 bytes are left of it.
 * The caller does not notice (docs/decisions/0004-detached-tls.md).
 */
#ifndef SP_GATEWAY_TLS_TLS_H
#define SP_GATEWAY_TLS_TLS_H

#include "gateway/config/config.h"
#include "libs/base/bytes.h"

/** Ciphertext to be written to the socket: a growing buffer, owned by the caller, one per loop or connection. */
struct sp_tls_out {
    uint8_t *buf; /**< malloc'ed; NULL while empty */
    size_t used;
    size_t cap;
};

void sp_tls_out_deinit(struct sp_tls_out *out);

struct sp_tls_server; /**< what all sessions of one listener share */
struct sp_tls_client; /**< what all cloud links share */
struct sp_tls;        /**< one session */

/**
 * Shared state for a listener: suites, DH parameters, certificate for RSA-PSK if configured. Thread-safe
 * once made.
 * @retval SP_ERR_UNSUPPORTED A named suite or the certificate cannot be used; `why` says which.
 */
SP_MUST_CHECK enum sp_err sp_tls_server_create(const struct sp_listener_config *listener, char *why,
                                               size_t why_cap, struct sp_tls_server **out);
void sp_tls_server_destroy(struct sp_tls_server *server);

/** A new session of a listener, waiting for its ClientHello. It costs half a kilobyte until the first sp_tls_step(). */
SP_MUST_CHECK enum sp_err sp_tls_accept(struct sp_tls_server *server, struct sp_tls **out);

/** Shared state for the cloud door: CA, certificate and key are read now. */
SP_MUST_CHECK enum sp_err sp_tls_client_create(const struct sp_cloud_config *cloud, char *why,
                                               size_t why_cap, struct sp_tls_client **out);
void sp_tls_client_destroy(struct sp_tls_client *client);

/** A new session towards the cloud: SNI, host name check against the CA, TLS ≥ 1.2, ALPN as configured. */
SP_MUST_CHECK enum sp_err sp_tls_connect(struct sp_tls_client *client, struct sp_tls **out);

/** Wipes and frees. NULL is fine. */
void sp_tls_destroy(struct sp_tls *tls);

enum sp_tls_state {
    SP_TLS_HANDSHAKE, /**< needs more input */
    SP_TLS_NEED_PSK,  /**< sp_tls_identity() wants a key: sp_tls_set_psk(), then sp_tls_step() */
    SP_TLS_OPEN,
    SP_TLS_CLOSED, /**< failed, or the peer said close_notify; an alert may be in `out` */
};

enum sp_tls_state sp_tls_state(const struct sp_tls *tls);

/**
 * Give ciphertext that was read from the socket. Borrowed until sp_tls_step() or sp_tls_read() has been called until
 * it asks for more; what then is left unread is kept inside (at most one record).
 */
void sp_tls_input(struct sp_tls *tls, struct sp_view ciphertext);

/**
 * A server's session may wait with its handshake, which takes some twenty times the memory, until the ClientHello is there and there is
 * room: give input to this instead of to sp_tls_step() until it says true; what came is kept.
 * @return true: the ClientHello is whole, or cannot become one.
 */
bool sp_tls_greet(struct sp_tls *tls);

/**
 * Carry the handshake on with the input given; appends what is to be sent to `out`.
 * @return The new state.
 */
enum sp_tls_state sp_tls_step(struct sp_tls *tls, struct sp_tls_out *out);

/** The PSK identity as sent by the peer, raw bytes; for NEED_PSK, empty before it and once OPEN. Borrowed from the session. */
struct sp_view sp_tls_identity(const struct sp_tls *tls);

/** Answer NEED_PSK. The key is copied, used once, wiped. `suites` narrows the listener's sets; 0 = no narrowing. */
void sp_tls_set_psk(struct sp_tls *tls, struct sp_view psk, uint32_t suites);

/** Plaintext of one record at most. */
#define SP_TLS_RECORD_MAX 16384U

/**
 * Decrypt the next piece of application data.
 *
 * @param[in] cap Size of `buf`; SP_TLS_RECORD_MAX is always enough.
 * @retval SP_OK         `*len` > 0 bytes are in `buf`.
 * @retval SP_ERR_AGAIN  The input is used up.
 * @retval SP_ERR_SPACE  The next record does not fit into `buf`; it waits.
 * @retval SP_ERR_CLOSED close_notify.
 * @retval SP_ERR_MALFORMED A broken or unwanted record; an alert was appended to `out`. The session is closed.
 * @retval SP_ERR_NOMEM  There was no memory for the input given. The session is closed.
 */
SP_MUST_CHECK enum sp_err sp_tls_read(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len,
                                      struct sp_tls_out *out);

/** After sp_tls_read() has asked for more: some bytes of a record have come, and not all. */
bool sp_tls_has_part(const struct sp_tls *tls);

/** Encrypt `plain` whole, in as few records as it takes, and append them to `out`. */
SP_MUST_CHECK enum sp_err sp_tls_write(struct sp_tls *tls, struct sp_view plain,
                                       struct sp_tls_out *out);

/** Append a close_notify; no writing afterwards. */
void sp_tls_close(struct sp_tls *tls, struct sp_tls_out *out);

/** The 32 bytes of RFC 9266, context present and empty. @retval SP_ERR_STATE Not OPEN. */
SP_MUST_CHECK enum sp_err sp_tls_exporter(struct sp_tls *tls, uint8_t out[32]);

/** Bytes that sp_tls_pack() writes at most. */
#define SP_TLS_PACK_MAX (128U + SP_TLS_RECORD_MAX + 64U)

/** It is OPEN and detached, and no input is left that was given. */
bool sp_tls_can_pack(const struct sp_tls *tls);

/**
 * Write a session down, for another process to carry on with: its record state, the exporter, and what is held of a
 * record that is not whole. Secret: wipe what was written. The session stays as it is; only one of the two may be used.
 * @retval SP_ERR_UNSUPPORTED Not one that sp_tls_can_pack().
 * @retval SP_ERR_SPACE       Less than SP_TLS_PACK_MAX bytes, and too few.
 */
SP_MUST_CHECK enum sp_err sp_tls_pack(const struct sp_tls *tls, struct sp_writer *w);

/** A session as sp_tls_pack() wrote it. @retval SP_ERR_MALFORMED @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_tls_unpack(struct sp_reader *r, struct sp_tls **out);

/** For logs: `TLS1.2 PSK AES-128-CCM`. Static until the next call in this thread. */
const char *sp_tls_describe(const struct sp_tls *tls);

/** For logs, after CLOSED: what went wrong, one line; never NULL. */
const char *sp_tls_error(const struct sp_tls *tls);

/** The failure is one that a wrong key or an unknown identity gives. */
bool sp_tls_wrong_key(const struct sp_tls *tls);

#endif
