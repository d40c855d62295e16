/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Another process takes over: what a loop does while it stands still, and when that is over. */
#include "gateway/gate/worker_internal.h"

#include <sys/epoll.h>

void sp_worker_listen(struct sp_worker *worker)
{
    struct sp_watch *watches[] = {&worker->inbox.watch, &worker->keys.watch, &worker->store.watch};
    sp_loop_read_clocks(&worker->loop);
    for (size_t i = 0; i < sizeof(watches) / sizeof(watches[0]); i++) {
        if (watches[i]->fd >= 0) {
            sp_loop_tell(&worker->loop, watches[i], EPOLLIN); /* there may be nothing */
        }
    }
    sp_keep_store_all(&worker->home);
    sp_worker_finish_turn(worker);
}

bool sp_worker_is_quiet(const struct sp_worker *worker)
{
    const struct sp_home *home = &worker->home;
    const struct sp_client *client;
    uint32_t index = 0;
    if (home->tickets.ring_count > 0 || !sp_keep_is_calm(home) ||
        (worker->store.channel != NULL && sp_channel_pending(worker->store.channel) > 0)) {
        return false;
    }
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        if (client->state == SP_CLIENT_OPEN && client->guard == SP_GUARD_APPRAISING) {
            return false;
        }
    }
    return true;
}

void sp_worker_thaw(struct sp_worker *worker)
{
    struct sp_client *client;
    uint32_t index = 0;
    worker->leaving = false;
    worker->home.frozen = false;
    while ((client = sp_slots_each(&worker->home.clients, &index)) != NULL) {
        if (sp_client_now(client)->in.used > 0) {
            sp_client_mark(client); /* what it said before */
        }
    }
    sp_worker_finish_turn(worker);
}

void sp_worker_farewell(struct sp_worker *worker)
{
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        if (conn->stage == SP_CONN_ADMITTED && !sp_conn_can_go(conn)) {
            sp_client_shutdown(&conn->client);
        }
    }
    sp_worker_settle(worker);
    walk = (struct sp_worker_walk){0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        sp_tls_destroy(sp_conn_tls(conn));
        conn->tls_ref = 0;
    }
}
