/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One TCP connection: socket, TLS session, deadlines, and the client that it carries.
 *
 * It is accepted on any loop. As soon as the PSK identity is known, it moves to the identity's home loop and stays there.
 * Reading goes through buffers of the loop; writing is collected and done once per turn. A connection without traffic
 * holds no buffer.
 */
#ifndef SP_GATEWAY_GATE_CONN_CONN_H
#define SP_GATEWAY_GATE_CONN_CONN_H

#include "gateway/gate/conn/admission.h"
#include "gateway/gate/session/client.h"
#include "gateway/loop/loop.h"
#include "gateway/tls/tls.h"

struct sp_worker;

enum sp_conn_stage {
    SP_CONN_WAITING,   /**< for a whole ClientHello, then for a place */
    SP_CONN_HANDSHAKE, /**< TLS needs input */
    SP_CONN_PSK,       /**< keys was asked */
    SP_CONN_GUEST,     /**< TLS is open; not admitted yet */
    SP_CONN_ADMITTED,
    SP_CONN_CLOSING, /**< the client is closed: what is left is written */
    SP_CONN_LINGER,  /**< our side is shut down; the peer may read what we said */
    SP_CONN_DEAD,    /**< freed when the turn is over */
};

struct sp_conn {
    struct sp_watch watch;   /* first: ready() casts back */
    struct sp_client client; /* its home is the loop's, from the start; its deadline is ours too */
    sp_ref tls_ref;          /* sp_conn_tls() */
    uint8_t stage;           /* enum sp_conn_stage */
    bool homed : 1;          /* `client` is in use */
    bool unknown : 1;        /* keys does not know the identity */
};
_Static_assert(SP_REF_IS_POINTER || sizeof(struct sp_conn) == 104, "what an idle device costs");

static inline struct sp_tls *sp_conn_tls(const struct sp_conn *conn)
{
    return sp_ref_get(conn->tls_ref);
}

/** Take over an accepted, non-blocking socket. Errors close it. */
void sp_conn_open(struct sp_worker *worker, struct sp_tls_server *server, int fd,
                  const struct sp_peer *peer);

/** The connection of a client. */
struct sp_conn *sp_conn_of(struct sp_client *client);

/** keys answered; `answer` is wiped by the caller. */
void sp_conn_psk(struct sp_conn *conn, const struct sp_msg_psk_answer *answer);

/** keys is gone, and what it was asked with it. */
void sp_conn_keys_lost(struct sp_conn *conn);

/** A visitor's place is there: its handshake begins. */
void sp_conn_start(struct sp_conn *conn);

/** End a connection for a limit. */
void sp_conn_shed(struct sp_conn *conn, enum sp_shed why);

/** Count and log that a connection of `peer` is not taken in. */
void sp_conn_turned_away(const struct sp_peer *peer, struct sp_view device, enum sp_shed why);

/** Nothing is done for it at present but waiting for its peer. */
bool sp_conn_idles(const struct sp_visitor *visitor);

/** Read what is there, without waiting, before a guest's verdict: client.early says that part of a record was. */
void sp_conn_read_early(struct sp_conn *conn);

/** Read what is there, without waiting. */
void sp_conn_read(struct sp_conn *conn);

/** Write what the client has put out, and do what its state asks for; once per turn. */
void sp_conn_settle(struct sp_conn *conn);

/** Close at once. Its client is dirty then: it stays in memory until it is taken off home->dirty, for sp_conn_free(); NULL is fine there. */
void sp_conn_close(struct sp_conn *conn);
void sp_conn_free(struct sp_conn *conn);

/** Another process can carry on with it: it is admitted, its TLS session detached, and it does not end just now. */
bool sp_conn_can_go(const struct sp_conn *conn);

/** Append what another process needs for that, the socket apart. Secret. Nothing changes. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_conn_pack(const struct sp_conn *conn, struct sp_buf *out);

/**
 * A connection as sp_conn_pack() wrote it, on its client's home loop. Takes `fd` over, also with an error. Its client has been initialised,
 * and knows nothing yet; sp_conn_go_on() when it does.
 * @retval SP_ERR_MALFORMED, SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_conn_unpack(struct sp_worker *worker, int fd, struct sp_view packed,
                                         struct sp_conn **out);

/** From now on its socket is watched. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_conn_go_on(struct sp_conn *conn);

/** For struct sp_home. */
enum sp_err sp_conn_exporter(struct sp_client *client, uint8_t *out);
void sp_conn_flush(struct sp_client *client);
void sp_conn_due(struct sp_client *client);

#endif
