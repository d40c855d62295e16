/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What other threads tell a loop to do: orders that come through its inbox. */
#include "gateway/gate/worker_internal.h"
#include "gateway/log/log.h"

#include <stdlib.h>

#define STOP_MS 2000U /* for last words */

/* Few are ever under way at a time. NULL: no memory, and too many. */
static struct sp_order *take_order(struct sp_worker *worker)
{
    struct sp_order *order = calloc(1, sizeof(*order));
    for (size_t i = 0; order == NULL && i < SP_WORKER_ORDERS; i++) {
        bool taken = false;
        if (atomic_compare_exchange_strong(&worker->orders[i].taken, &taken, true)) {
            order = &worker->orders[i];
        }
    }
    return order;
}

static void free_order(struct sp_worker *worker, struct sp_order *order)
{
    if (order >= worker->orders && order < worker->orders + SP_WORKER_ORDERS) {
        atomic_store(&order->taken, false);
    } else {
        free(order);
    }
}

/* ---- obeying ---- */

static void obey_stop(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    free_order(worker, (struct sp_order *)parcel);
    if (worker->stopping) {
        return;
    }
    worker->stopping = true;
    worker->stop_ms = worker->loop.timers.now_ms + STOP_MS;
    sp_timer_set(&worker->loop.timers, &worker->accept_timer, worker->stop_ms);
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        if (conn->stage == SP_CONN_GUEST || conn->stage == SP_CONN_ADMITTED) {
            sp_client_shutdown(&conn->client);
        } else if (conn->stage < SP_CONN_GUEST) {
            sp_conn_close(conn);
        }
    }
}

static void obey_reconnect(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    struct sp_order *order = (struct sp_order *)parcel;
    bool keys = order->peer == SP_PROCESS_KEYS;
    enum sp_err err =
        keys ? sp_worker_use_keys(worker, order->fd) : sp_worker_use_store(worker, order->fd);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("channel_unusable"), SP_F_STR("to", keys ? "keys" : "store"),
                     SP_F_ERR(err));
        sp_gate_fail(worker->gate);
    } else {
        sp_log_info(SP_EVENT("channel_renewed"), SP_F_STR("to", keys ? "keys" : "store"));
        if (keys) {
            sp_home_regrant(&worker->home);
        }
    }
    free_order(worker, order);
}

static void obey_configure(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    struct sp_order *order = (struct sp_order *)parcel;
    struct sp_config *old = worker->config;
    worker->config = order->config;
    sp_home_configure(&worker->home, order->config);
    sp_config_destroy(old);
    free_order(worker, order);
}

static void obey_leave(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    struct sp_order *order = (struct sp_order *)parcel;
    worker->leaving = true;
    atomic_store(&worker->waiting, sp_worker_in_the_middle(worker));
    atomic_fetch_add(order->count, 1);
    free_order(worker, order);
}

static void obey_freeze(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    free_order(worker, (struct sp_order *)parcel);
    worker->shares = true;
    worker->home.frozen = !worker->stopping;
}

/* ---- giving ---- */

static void give_order(struct sp_worker *worker, void (*obey)(void *, struct sp_parcel *),
                       const struct sp_order *given)
{
    struct sp_outbox outbox = {NULL, NULL};
    struct sp_order *order = take_order(worker);
    if (order == NULL) {
        abort(); /* none may be lost: the parent starts us again */
    }
    order->peer = given->peer;
    order->fd = given->fd;
    order->config = given->config;
    order->count = given->count;
    order->parcel.run = obey;
    sp_outbox_put(&outbox, &order->parcel);
    sp_inbox_post(&worker->inbox, &outbox);
}

void sp_worker_stop(struct sp_worker *worker)
{
    give_order(worker, obey_stop, &(struct sp_order){.fd = -1});
}

void sp_worker_reconnect(struct sp_worker *worker, enum sp_process peer, int fd)
{
    give_order(worker, obey_reconnect, &(struct sp_order){.peer = peer, .fd = fd});
}

void sp_worker_configure(struct sp_worker *worker, const struct sp_config *config)
{
    give_order(worker, obey_configure,
               &(struct sp_order){.fd = -1, .config = sp_config_hold(config)});
}

void sp_worker_leave(struct sp_worker *worker, atomic_uint *count)
{
    give_order(worker, obey_leave, &(struct sp_order){.fd = -1, .count = count});
}

void sp_worker_freeze(struct sp_worker *worker)
{
    give_order(worker, obey_freeze, &(struct sp_order){.fd = -1});
}

void sp_gate_fail(struct sp_gate *gate)
{
    atomic_store(&gate->failed, true);
    for (uint16_t i = 0; i < gate->count; i++) {
        sp_worker_stop(&gate->workers[i]);
    }
}
