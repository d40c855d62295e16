/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file A connection, in six files: how it begins, its stage, deadline and events (conn.c), the handshake and the way to its home
 * loop (handshake.c), reading (read.c), writing and the end of a turn (write.c), how it ends (end.c) and on its way to
 * another process (pack.c).
 */
#ifndef SP_GATEWAY_GATE_CONN_CONN_INTERNAL_H
#define SP_GATEWAY_GATE_CONN_CONN_INTERNAL_H

#include "gateway/gate/conn/conn.h"
#include "gateway/gate/worker.h"
#include "gateway/metrics/metrics.h"

/** Its loop. Every home is the first thing in its worker. */
static inline struct sp_worker *sp_conn_worker(const struct sp_conn *conn)
{
    return (struct sp_worker *)conn->client.home;
}

/** Milliseconds of the loop's clock. */
static inline uint64_t sp_conn_now(const struct sp_conn *conn)
{
    return sp_conn_worker(conn)->loop.timers.now_ms;
}

static inline const struct sp_limits_config *sp_conn_limits(const struct sp_conn *conn)
{
    return &sp_conn_worker(conn)->home.config->limits;
}

static inline const struct sp_client_work *sp_conn_work(const struct sp_conn *conn)
{
    return sp_client_now(&conn->client);
}

/** Nobody has vouched for it yet: it has a visitor in the loop's waiting room. */
static inline bool sp_conn_is_visitor(const struct sp_conn *conn)
{
    return conn->stage < SP_CONN_ADMITTED;
}

/** When a reader that has something to read and does not is closed. */
static inline uint64_t sp_conn_stall_ends(const struct sp_conn *conn)
{
    return sp_conn_work(conn)->progress_ms + sp_conn_limits(conn)->stall_timeout_ms;
}

/* ---- conn.c ---- */

/** An empty one of this loop, not linked; NULL: no memory. sp_conn_free() ends it. */
struct sp_conn *sp_conn_take(struct sp_worker *worker);

/** A visitor whose new stage is none leaves the waiting room. */
void sp_conn_enter(struct sp_conn *conn, enum sp_conn_stage stage);

/** sp_conn_due() does what the stage asks for at `when`; one deadline at a time. */
void sp_conn_set_deadline(struct sp_conn *conn, uint64_t when);
void sp_conn_clear_deadline(struct sp_conn *conn);

/** `timeout_ms` from now, but not later than a visitor has to be admitted. */
uint64_t sp_conn_stage_deadline(const struct sp_conn *conn, uint32_t timeout_ms);

/** @param events For epoll, all that are wanted. Nothing happens without a socket. */
void sp_conn_watch_for(struct sp_conn *conn, uint32_t events);

/** For sp_loop_add(): what its socket does. */
void sp_conn_ready(struct sp_watch *watch, uint32_t events);

/* ---- handshake.c ---- */

/** A step of TLS with the input given, and what follows from it. */
void sp_conn_carry_on(struct sp_conn *conn);

/* ---- read.c ---- */

/** TLS is open: what is there of plaintext goes to the client. */
void sp_conn_take_plaintext(struct sp_conn *conn);

/* ---- write.c ---- */

/** Send the loop's ciphertext buffer, which holds what this connection is to be sent now; what the socket does not take is kept. */
void sp_conn_send_out(struct sp_conn *conn);

/** The socket takes more: of what was kept. */
void sp_conn_send_unsent(struct sp_conn *conn);

/* ---- end.c ---- */

/** One counter and one line for a connection that ends before its client says anything; then it is closed. */
void sp_conn_refuse(struct sp_conn *conn, enum sp_metric metric, const char *event,
                    const char *detail);

#endif
