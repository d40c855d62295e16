/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/conn_internal.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include "gateway/log/log.h"

#define LINGER_MS 1000U /* to read our last words */

static bool is_over(const struct sp_home *home)
{
    return home->unread > home->config->limits.write_buffers / home->loops;
}

/*
 * All that this loop holds for slow readers has a bound too: the one for whom it holds most has to go. It ends with this turn,
 * since the caller may be in the middle of telling many.
 */
static void end_slowest(struct sp_worker *worker)
{
    struct sp_conn *slowest = NULL;
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        if (!conn->client.lost && sp_conn_work(conn)->unsent.used > 0 &&
            (slowest == NULL ||
             sp_conn_work(conn)->unsent.used > sp_conn_work(slowest)->unsent.used)) {
            slowest = conn;
        }
    }
    if (slowest == NULL) {
        return;
    }
    char peer[SP_PEER_TEXT_MAX];
    sp_metric_inc(SP_M_SLOW_CLOSED);
    sp_log_limited(SP_EVENT("slow_reader"),
                   SP_F_VIEW("device", sp_client_identity(&slowest->client)),
                   SP_F_STR("peer", sp_client_peer_text(&slowest->client, peer)),
                   SP_F_STR("detail", "write_buffers are full, and it had the largest"));
    worker->home.unread -= sp_client_in_flight(&slowest->client)->unsent.used;
    sp_buf_free(&sp_client_in_flight(&slowest->client)->unsent);
    slowest->client.lost = true;
    sp_client_mark(&slowest->client);
}

/* Keep what the socket did not take, and wait until it takes more. */
static void keep_unsent(struct sp_conn *conn, struct sp_view rest)
{
    struct sp_client_work *work = sp_client_work(&conn->client);
    if (work == NULL) {
        conn->client.starved = true;
        conn->client.lost = true;
        return;
    }
    if (work->unsent.used == 0) {
        if (!sp_conn_is_visitor(conn)) {
            work->progress_ms = sp_conn_now(conn);
            sp_conn_set_deadline(conn, sp_conn_stall_ends(conn));
        }
        sp_conn_watch_for(conn, conn->watch.events | EPOLLOUT);
    }
    if (sp_buf_append(&work->unsent, rest) != SP_OK) {
        conn->client.starved = true;
        conn->client.lost = true;
        return;
    }
    conn->client.home->unread += rest.len;
    if (is_over(conn->client.home)) {
        end_slowest(sp_conn_worker(conn));
    }
}

/* @return Bytes taken; 0 also when the connection is broken, which reading will tell. */
static size_t try_send(struct sp_conn *conn, struct sp_view bytes)
{
    /* Last words wait for the FIN, which comes at once (finish()): one segment, and the peer is woken once. */
    int last = conn->stage == SP_CONN_CLOSING ? MSG_MORE : 0;
    ssize_t sent = send(conn->watch.fd, bytes.ptr, bytes.len, MSG_NOSIGNAL | MSG_DONTWAIT | last);
    if (sent < 0 && errno != EAGAIN && errno != EINTR) {
        conn->client.lost = true;
    }
    return sent < 0 ? 0 : (size_t)sent;
}

void sp_conn_send_out(struct sp_conn *conn)
{
    struct sp_tls_out *out = &sp_conn_worker(conn)->out;
    struct sp_view bytes = sp_view(out->buf, out->used);
    out->used = 0;
    if (bytes.len > 0 && conn->watch.fd >= 0 && !conn->client.lost) {
        if (sp_conn_work(conn)->unsent.used == 0) {
            bytes = sp_view_from(bytes, try_send(conn, bytes));
        }
        if (bytes.len > 0) {
            keep_unsent(conn, bytes);
        }
    }
    if (out->cap > 4UL * SP_WORKER_BUFFER) {
        sp_tls_out_deinit(out);
    }
}

void sp_conn_send_unsent(struct sp_conn *conn)
{
    struct sp_client_work *work = sp_client_in_flight(&conn->client);
    if (work == NULL) {
        return; /* nothing is unsent */
    }
    size_t sent = try_send(conn, sp_buf_view(&work->unsent));
    if (sent > 0) {
        if (!sp_conn_is_visitor(conn)) {
            work->progress_ms = sp_conn_now(conn);
        }
        sp_buf_consume(&work->unsent, sent);
        conn->client.home->unread -= sent;
    }
    if (work->unsent.used == 0) {
        sp_buf_free(&work->unsent);
        if (conn->stage == SP_CONN_ADMITTED) {
            sp_conn_clear_deadline(conn);
        }
        sp_conn_watch_for(conn, conn->watch.events & ~(uint32_t)EPOLLOUT);
    }
    if (conn->homed) {
        sp_client_writable(&conn->client);
        sp_client_mark(&conn->client);
    }
}

/* What the client has put out, encrypted into the loop's buffer. */
static void seal(struct sp_conn *conn)
{
    struct sp_client *client = &conn->client;
    if (sp_conn_work(conn)->out.used > 0 && !client->lost) {
        struct sp_view plain = sp_buf_view(&sp_conn_work(conn)->out);
        if (sp_tls_write(sp_conn_tls(conn), plain, &sp_conn_worker(conn)->out) != SP_OK) {
            client->starved = true;
            client->lost = true;
        }
        sp_client_written(client);
    }
}

void sp_conn_flush(struct sp_client *client)
{
    struct sp_conn *conn = sp_conn_of(client);
    seal(conn);
    sp_conn_send_out(conn);
}

/* ---- once per turn ---- */

/* The client is closed: let the peer read why, then close the socket. */
static void finish(struct sp_conn *conn)
{
    if (conn->stage == SP_CONN_CLOSING && sp_conn_work(conn)->unsent.used == 0) {
        if (!conn->client.linger || shutdown(conn->watch.fd, SHUT_WR) != 0) {
            sp_conn_close(conn);
            return;
        }
        sp_conn_enter(conn, SP_CONN_LINGER);
        sp_conn_set_deadline(conn, sp_conn_now(conn) + LINGER_MS);
    }
}

void sp_conn_settle(struct sp_conn *conn)
{
    struct sp_client *client = &conn->client;
    if (conn->stage == SP_CONN_DEAD) {
        return;
    }
    sp_client_resume(client);
    seal(conn);
    if (client->state == SP_CLIENT_CLOSED && conn->stage < SP_CONN_CLOSING) {
        sp_conn_enter(conn, SP_CONN_CLOSING);
        sp_tls_close(sp_conn_tls(conn), &sp_conn_worker(conn)->out);
        sp_conn_set_deadline(conn, sp_conn_now(conn) + sp_conn_limits(conn)->stall_timeout_ms);
    }
    sp_conn_send_out(conn);
    if (client->starved && client->state != SP_CLIENT_CLOSED) {
        struct sp_peer peer = sp_client_peer(client);
        sp_conn_turned_away(&peer, sp_client_identity(client), SP_SHED_MEMORY);
        sp_conn_close(conn);
        return;
    }
    if (client->lost) {
        sp_conn_close(conn);
        return;
    }
    if (client->state == SP_CLIENT_OPEN && conn->stage == SP_CONN_GUEST) {
        sp_conn_enter(conn, SP_CONN_ADMITTED);
        if (sp_conn_work(conn)->unsent.used > 0) {
            sp_conn_set_deadline(conn, sp_conn_stall_ends(conn));
        } else {
            sp_conn_clear_deadline(conn);
        }
    }
    if (client->state == SP_CLIENT_CLOSED) {
        finish(conn);
    }
    if (conn->stage != SP_CONN_DEAD) {
        /* Who does not read is not read from either: what we owe it stays bounded. */
        bool reads =
            sp_client_reads(client) && conn->stage != SP_CONN_CLOSING &&
            sp_conn_work(conn)->unsent.used <= client->home->config->limits.write_buffer / 2;
        sp_conn_watch_for(conn, (reads ? EPOLLIN : 0U) |
                                    (sp_conn_work(conn)->unsent.used > 0 ? EPOLLOUT : 0U));
        sp_client_rest(client);
    }
}
