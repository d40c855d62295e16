/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/conn_internal.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "gateway/slab/slab.h"

static struct sp_slab slab = SP_SLAB_INIT(sizeof(struct sp_conn));

/* ---- from the first to the last ---- */

struct sp_conn *sp_conn_of(struct sp_client *client)
{
    return (struct sp_conn *)(void *)((char *)client - offsetof(struct sp_conn, client));
}

struct sp_conn *sp_conn_take(struct sp_worker *worker)
{
    struct sp_conn *conn = sp_slab_take(&slab);
    if (conn != NULL) {
        sp_client_prepare(&conn->client, &worker->home);
    }
    return conn;
}

void sp_conn_free(struct sp_conn *conn)
{
    if (conn != NULL) {
        sp_client_free_work(&conn->client);
        sp_tls_destroy(sp_conn_tls(conn));
        sp_slab_give(&slab, conn);
    }
}

static enum sp_err accept_tls(struct sp_conn *conn, struct sp_tls_server *server)
{
    struct sp_tls *tls;
    enum sp_err err = sp_tls_accept(server, &tls);
    conn->tls_ref = sp_ref_of(tls);
    return err;
}

void sp_conn_open(struct sp_worker *worker, struct sp_tls_server *server, int fd,
                  const struct sp_peer *peer)
{
    const struct sp_limits_config *limits = &worker->home.config->limits;
    uint64_t now_ms = worker->loop.timers.now_ms;
    struct sp_visitor *visitor = NULL;
    enum sp_shed why = SP_SHED_MEMORY;
    if (sp_admission_enter(&worker->admission, limits, peer, now_ms, &visitor, &why) != SP_OK) {
        close(fd);
        sp_conn_turned_away(peer, sp_view(NULL, 0), why);
        return;
    }
    struct sp_conn *conn = sp_conn_take(worker);
    if (conn == NULL || sp_client_work(&conn->client) == NULL ||
        sp_client_set_peer(&conn->client, peer) != SP_OK || accept_tls(conn, server) != SP_OK) {
        sp_conn_free(conn);
        sp_admission_leave(&worker->admission, limits, visitor, false);
        sp_admission_gone(&worker->admission, peer, now_ms);
        close(fd);
        sp_conn_turned_away(peer, sp_view(NULL, 0), SP_SHED_MEMORY);
        return;
    }
    visitor->owner = conn;
    visitor->preauth_ms = now_ms + limits->preauth_timeout_ms;
    sp_client_in_flight(&conn->client)->visitor = visitor;
    conn->watch = (struct sp_watch){.fd = fd};
    sp_worker_link(worker, conn);
    if (sp_loop_add(&worker->loop, &conn->watch, EPOLLIN, sp_conn_ready) != SP_OK) {
        sp_conn_close(conn);
        return;
    }
    sp_conn_set_deadline(conn, sp_conn_stage_deadline(conn, limits->tls_timeout_ms));
}

void sp_conn_enter(struct sp_conn *conn, enum sp_conn_stage stage)
{
    bool visited = sp_conn_is_visitor(conn);
    conn->stage = (uint8_t)stage;
    if (visited && !sp_conn_is_visitor(conn)) {
        struct sp_client_work *work = sp_client_in_flight(&conn->client);
        sp_admission_leave(&sp_conn_worker(conn)->admission, sp_conn_limits(conn), work->visitor,
                           stage == SP_CONN_ADMITTED);
        work->visitor = NULL;
        work->progress_ms = sp_conn_now(conn);
    }
}

/* ---- deadlines and events ---- */

void sp_conn_set_deadline(struct sp_conn *conn, uint64_t when)
{
    struct sp_client_work *work = sp_client_work(&conn->client);
    if (work == NULL) { /* there always is one before it is homed */
        sp_client_starve(&conn->client);
        return;
    }
    work->owner_due_ms = when;
    sp_client_arm(&conn->client);
}

void sp_conn_clear_deadline(struct sp_conn *conn)
{
    struct sp_client_work *work = sp_client_in_flight(&conn->client);
    if (work != NULL) {
        work->owner_due_ms = 0;
    }
    sp_client_arm(&conn->client);
}

uint64_t sp_conn_stage_deadline(const struct sp_conn *conn, uint32_t timeout_ms)
{
    uint64_t when = sp_conn_now(conn) + timeout_ms;
    uint64_t preauth_ms = sp_conn_work(conn)->visitor->preauth_ms;
    return when < preauth_ms ? when : preauth_ms;
}

void sp_conn_watch_for(struct sp_conn *conn, uint32_t events)
{
    if (conn->watch.fd >= 0) {
        /* Where the kernel has no memory for it, the next turn asks again. */
        (void)!sp_loop_change(&sp_conn_worker(conn)->loop, &conn->watch, events);
    }
}

void sp_conn_ready(struct sp_watch *watch, uint32_t events)
{
    struct sp_conn *conn = (struct sp_conn *)watch;
    if ((events & EPOLLOUT) != 0) {
        sp_conn_send_unsent(conn);
    }
    bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (broken && (conn->watch.events & EPOLLIN) == 0) {
        conn->client.lost = true;
        sp_conn_close(conn);
    } else if ((events & EPOLLIN) != 0 || broken) {
        sp_conn_read(conn);
    }
}

enum sp_err sp_conn_exporter(struct sp_client *client, uint8_t *out)
{
    return sp_tls_exporter(sp_conn_tls(sp_conn_of(client)), out);
}
