/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file One loop of the gate: its connections, its home, its channels to keys and store. Private to gate/. */
#ifndef SP_GATEWAY_GATE_WORKER_H
#define SP_GATEWAY_GATE_WORKER_H

#include "gateway/gate/conn/conn.h"
#include "gateway/gate/session/home.h"
#include "gateway/loop/loop.h"
#include "gateway/proc/channel.h"
#include "gateway/proc/proc.h"

#include <stdatomic.h>

#define SP_WORKER_BUFFER 65536U /* bytes: one read, and what it decrypts to */

struct sp_gate;

struct sp_listener {
    struct sp_watch watch; /* first: ready() casts back */
    struct sp_worker *worker;
    struct sp_tls_server *server;
    int batch; /* connections to accept in its next turn */
};

/* A channel to keys or store. */
struct sp_link {
    struct sp_watch watch; /* first: ready() casts back */
    struct sp_worker *worker;
    struct sp_channel *channel; /* NULL: the other end is down */
    sp_channel_fn message;
    void (*lost)(struct sp_worker *worker);
};

#define SP_WORKER_ORDERS 8U /* from other threads that need no memory, at a time */

struct sp_order; /* private to worker_*.c */

struct sp_worker {
    struct sp_home home; /* first: parcels get it as their owner */
    struct sp_loop loop;
    struct sp_inbox inbox;
    struct sp_gate *gate;
    struct sp_config *config; /* a reference of its own to home.config */
    struct sp_listener *listeners;
    struct sp_link keys;
    struct sp_link store;
    uint32_t open;                /* connections of this loop */
    struct sp_timer accept_timer; /* accepting goes on then */
    struct sp_timer trim_timer;   /* the heap is given back then */
    struct sp_timer serve_timer;  /* visitors that wait are looked at then */
    struct sp_timer log_timer;    /* the log tells then what it left out */
    uint32_t stirred;             /* connections that came since it was */
    uint64_t trimmed_ms;
    bool trims;              /* the timer is set */
    struct sp_tls_out out;   /* ciphertext of one connection, then of the next */
    struct sp_order *orders; /* SP_WORKER_ORDERS, for when there is no memory */
    uint8_t *cipher;         /* SP_WORKER_BUFFER bytes as read from a socket */
    uint8_t *plain;          /* SP_WORKER_BUFFER bytes, decrypted */
    struct sp_admission admission;
    bool accepting; /* listeners are watched */
    bool short_of_fds;
    bool told_short; /* and the log knows */
    bool stopping;
    bool shares;  /* another process has, or had, descriptors of connections too */
    bool leaving; /* another process is to take over: no new connections */
    atomic_uint
        waiting;      /* who is in a handshake or about to be, while leaving, for other threads */
    uint64_t stop_ms; /* the last moment to write, while stopping */
};

/** What all loops share. */
struct sp_gate {
    const struct sp_config *config; /* of the start: listeners and loops */
    struct sp_worker *workers;
    uint16_t count;
    struct sp_subs *subs;
    struct sp_tls_server **servers; /* one per listener of the configuration */
    atomic_uint connections;
    int control;                  /* to the parent */
    struct sp_handover *handover; /* under way, to another process; loop 0 sets it; NULL: none */
    uint32_t descriptors;         /* for connections and the reserve */
    atomic_bool failed;  /* this process cannot go on: it ends, and the parent starts it again */
    atomic_uint loading; /* loops that have not loaded their sessions yet */
};

/** Everything that must exist before the sandbox. @retval SP_ERR_NOMEM, SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_worker_init(struct sp_worker *worker, struct sp_gate *gate,
                                         uint16_t index, const struct sp_child *child);

/** Wait for something to happen, and do all of it. @return false: the loop has failed. */
bool sp_worker_turn(struct sp_worker *worker);

/** Run until told to stop. */
void sp_worker_run(struct sp_worker *worker);

/** After the threads have ended. */
void sp_worker_deinit(struct sp_worker *worker);

/** From any thread: a channel is lost that the parent will renew with a new process only. */
void sp_gate_fail(struct sp_gate *gate);

/** From any thread: stop, use `fd` as the channel to `peer`, which is new, or go over to a configuration. */
void sp_worker_stop(struct sp_worker *worker);
void sp_worker_reconnect(struct sp_worker *worker, enum sp_process peer, int fd);
void sp_worker_configure(struct sp_worker *worker, const struct sp_config *config);

/** From any thread: accept nothing more, and count that it is so; then stand still (sp_handover_park()). */
void sp_worker_leave(struct sp_worker *worker, atomic_uint *count);
void sp_worker_freeze(struct sp_worker *worker);

/**
 * In place of a turn while it stands still: hear other loops, keys and store, without waiting; send what there is to send, and
 * journal what is in memory alone. Nothing is read from devices.
 */
void sp_worker_listen(struct sp_worker *worker);

/** Nothing waits for keys or store any more. */
bool sp_worker_is_quiet(const struct sp_worker *worker);

/** The other process did not take over: go on. In the loop's own thread. */
void sp_worker_thaw(struct sp_worker *worker);

/** The other process took over: good-bye to those who could not go along, as far as it goes at once. */
void sp_worker_farewell(struct sp_worker *worker);

/**
 * Before the loop runs: hear keys until it has told its groups, which it does at once if there are any.
 * @retval SP_ERR_CLOSED, SP_ERR_AGAIN It has not within `wait_ms`, and there is a client here that belongs to one.
 */
SP_MUST_CHECK enum sp_err sp_worker_await_keys(struct sp_worker *worker, int wait_ms);

/** A walk over all connections of a loop. Zeroed = at the beginning. */
struct sp_worker_walk {
    uint32_t client;            /* those with a client: the next slot */
    bool clients_done;          /* then the others, which all are visitors … */
    struct sp_visitor *visitor; /* … the next one */
};

/** The next connection, which may be closed before the one after it is asked for; NULL: that was all. */
struct sp_conn *sp_worker_next(const struct sp_worker *worker, struct sp_worker_walk *walk);

/** A connection came to this loop, or left it. */
void sp_worker_link(struct sp_worker *worker, struct sp_conn *conn);
void sp_worker_unlink(struct sp_worker *worker, struct sp_conn *conn);

#endif
