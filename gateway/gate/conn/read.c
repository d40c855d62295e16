/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/conn_internal.h"

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>

void sp_conn_take_plaintext(struct sp_conn *conn)
{
    struct sp_worker *worker = sp_conn_worker(conn);
    enum sp_err err = SP_OK;
    while (err == SP_OK && conn->client.state != SP_CLIENT_CLOSED) {
        size_t used = 0;
        size_t len = 0;
        while (SP_WORKER_BUFFER - used >= SP_TLS_RECORD_MAX &&
               (err = sp_tls_read(sp_conn_tls(conn), worker->plain + used, SP_WORKER_BUFFER - used,
                                  &len, &worker->out)) == SP_OK) {
            used += len;
        }
        /* Before the client runs: what it does may need the loop's buffer for other connections. */
        sp_conn_send_out(conn);
        if (used > 0) {
            sp_client_input(&conn->client, sp_view(worker->plain, used));
        }
    }
    if (err == SP_ERR_CLOSED && conn->client.state != SP_CLIENT_CLOSED) {
        sp_client_lost(&conn->client);
    } else if (err == SP_ERR_NOMEM) {
        sp_client_starve(&conn->client);
    } else if (err == SP_ERR_MALFORMED) {
        sp_conn_refuse(conn, SP_M_TLS_BAD_RECORD, "tls_bad_record",
                       sp_tls_error(sp_conn_tls(conn)));
    }
}

/* @return Bytes read into the loop's buffer; 0: nothing, or the connection has ended. */
static size_t receive(struct sp_conn *conn)
{
    ssize_t got =
        recv(conn->watch.fd, sp_conn_worker(conn)->cipher, SP_WORKER_BUFFER, MSG_DONTWAIT);
    if (got > 0) {
        return (size_t)got;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (conn->stage < SP_CONN_GUEST) {
        sp_conn_refuse(conn, SP_M_TLS_FAILED, "tls_refused", "closed by the peer");
    } else {
        conn->client.lost = true;
        sp_conn_close(conn);
    }
    return 0;
}

void sp_conn_read(struct sp_conn *conn)
{
    if (conn->stage == SP_CONN_PSK) {
        /* Rare: nothing is due from the peer now. It waits in the socket. */
        sp_conn_watch_for(conn, conn->watch.events & ~(uint32_t)EPOLLIN);
        return;
    }
    if (conn->stage == SP_CONN_DEAD || conn->stage == SP_CONN_CLOSING ||
        sp_conn_work(conn)->resting) {
        return;
    }
    size_t len = receive(conn);
    if (len == 0 || conn->stage == SP_CONN_LINGER) {
        return;
    }
    sp_tls_input(sp_conn_tls(conn), sp_view(sp_conn_worker(conn)->cipher, len));
    if (conn->stage == SP_CONN_WAITING) {
        struct sp_visitor *visitor = sp_conn_work(conn)->visitor;
        if (sp_tls_greet(sp_conn_tls(conn)) && visitor->state == SP_VISITOR_SILENT) {
            sp_admission_ready(&sp_conn_worker(conn)->admission, visitor, sp_conn_limits(conn));
        }
    } else if (conn->stage == SP_CONN_HANDSHAKE) {
        sp_conn_carry_on(conn);
    } else {
        sp_conn_take_plaintext(conn);
    }
}

void sp_conn_read_early(struct sp_conn *conn)
{
    sp_conn_read(conn);
    conn->client.early = sp_tls_has_part(sp_conn_tls(conn));
}
