/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/conn_internal.h"

#include <sys/epoll.h>
#include <unistd.h>

bool sp_conn_can_go(const struct sp_conn *conn)
{
    const struct sp_client *client = &conn->client;
    return conn->stage == SP_CONN_ADMITTED && client->state == SP_CLIENT_OPEN && !client->lost &&
           sp_client_now(client)->out.used == 0 && sp_tls_can_pack(sp_conn_tls(conn));
}

enum sp_err sp_conn_pack(const struct sp_conn *conn, struct sp_buf *out)
{
    struct sp_writer w;
    size_t size = SP_TLS_PACK_MAX + 4U + sp_conn_work(conn)->unsent.used;
    uint8_t *at = sp_buf_reserve(out, size);
    if (at == NULL) {
        return SP_ERR_NOMEM;
    }
    sp_writer_init(&w, at, size);
    SP_TRY(sp_tls_pack(sp_conn_tls(conn), &w));
    sp_write_u32(&w, sp_conn_work(conn)->unsent.used);
    sp_write_view(&w, sp_buf_view(&sp_conn_work(conn)->unsent));
    out->used += (uint32_t)w.used;
    return w.err;
}

static enum sp_err unpack(struct sp_conn *conn, struct sp_view packed)
{
    struct sp_reader r;
    struct sp_client_work *work = sp_client_work(&conn->client);
    if (work == NULL) {
        return SP_ERR_NOMEM;
    }
    sp_reader_init(&r, packed);
    struct sp_tls *tls;
    SP_TRY(sp_tls_unpack(&r, &tls));
    conn->tls_ref = sp_ref_of(tls);
    struct sp_view unsent = sp_read_bytes(&r, sp_read_u32(&r));
    SP_TRY(sp_reader_finish(&r));
    return unsent.len == 0 ? SP_OK : sp_buf_append(&work->unsent, unsent);
}

enum sp_err sp_conn_unpack(struct sp_worker *worker, int fd, struct sp_view packed,
                           struct sp_conn **out)
{
    *out = NULL;
    struct sp_conn *conn = sp_conn_take(worker);
    enum sp_err err = conn == NULL ? SP_ERR_NOMEM : unpack(conn, packed);
    if (err == SP_OK) {
        err = sp_client_init(&conn->client, &worker->home);
    }
    if (err != SP_OK) {
        if (conn != NULL) {
            sp_conn_free(conn);
        }
        close(fd);
        return err;
    }
    conn->watch = (struct sp_watch){.fd = fd};
    conn->homed = true;
    conn->stage = SP_CONN_ADMITTED; /* it never was a visitor here */
    worker->shares = true;
    sp_worker_link(worker, conn);
    *out = conn;
    return SP_OK;
}

enum sp_err sp_conn_go_on(struct sp_conn *conn)
{
    struct sp_client *client = &conn->client;
    struct sp_peer peer = sp_client_peer(client);
    SP_TRY(sp_admission_admitted(&sp_conn_worker(conn)->admission, &peer));
    uint32_t unsent = sp_conn_work(conn)->unsent.used;
    bool reads = sp_client_reads(client) && unsent <= client->home->config->limits.write_buffer / 2;
    uint32_t events = (reads ? EPOLLIN : 0U) | (unsent > 0 ? EPOLLOUT : 0U);
    if (unsent > 0) {
        sp_client_in_flight(client)->progress_ms = sp_conn_now(conn);
        sp_conn_set_deadline(conn, sp_conn_stall_ends(conn));
    }
    sp_client_rest(client);
    return sp_loop_add(&sp_conn_worker(conn)->loop, &conn->watch, events, sp_conn_ready);
}
