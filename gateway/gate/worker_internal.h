/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One loop, in five files: its life and its turns (worker.c), who comes in (worker_accept.c), the channels to keys and
 * store (worker_links.c), what other threads tell it to do (worker_orders.c) and what it does while another process takes over
 * (worker_handover.c). Private to them.
 */
#ifndef SP_GATEWAY_GATE_WORKER_INTERNAL_H
#define SP_GATEWAY_GATE_WORKER_INTERNAL_H

#include "gateway/gate/worker.h"

/** From another thread, by way of the inbox. */
struct sp_order {
    struct sp_parcel parcel; /* first: who obeys casts back */
    enum sp_process peer;
    int fd;
    struct sp_config *config;
    atomic_uint *count;
    atomic_bool taken; /* one of worker->orders */
};

/* ---- worker.c ---- */

/** Write what the clients on home->dirty have to say, and free the dead. */
void sp_worker_settle(struct sp_worker *worker);

/** What is collected during a turn: writes, the dead, batches, parcels. */
void sp_worker_finish_turn(struct sp_worker *worker);

/** Who has begun a handshake, or waits for a place with a whole ClientHello. */
uint32_t sp_worker_in_the_middle(const struct sp_worker *worker);

/* ---- worker_accept.c ---- */

/**
 * Of sp_worker_init(), once: watch this loop's own listeners, and set the timers by which accepting and serving go on.
 * @param fds Of all loops, all of loop 0 first (struct sp_child).
 * @retval SP_ERR_NOMEM, SP_ERR_IO
 */
SP_MUST_CHECK enum sp_err sp_worker_init_listeners(struct sp_worker *worker, const int *fds);

/** At the end of a turn: watch the listeners while more may be accepted, and only then. */
void sp_worker_watch_listeners(struct sp_worker *worker);

/** Begin handshakes while there are places, and come back when there will be. */
void sp_worker_serve(struct sp_worker *worker);

/* ---- worker_links.c ---- */

/**
 * Start to use a channel in place of the one there was, if any.
 * @param fd Taken over, also with an error.
 * @retval SP_ERR_NOMEM, SP_ERR_IO
 */
SP_MUST_CHECK enum sp_err sp_worker_use_keys(struct sp_worker *worker, int fd);
SP_MUST_CHECK enum sp_err sp_worker_use_store(struct sp_worker *worker, int fd);

/**
 * The other end is down, or is to be: everybody who waits for it is told. Nothing happens to a link that is down already.
 * @param err SP_ERR_CLOSED: the other end is gone, or we are done. Any other ends the process, unless it is stopping:
 *            the parent renews a channel when one of its ends dies, so an end that cannot go on has to.
 */
void sp_worker_drop_link(struct sp_link *link, enum sp_err err);

/** Once per turn: one write for all that was queued. */
void sp_worker_flush_link(struct sp_link *link);

#endif
