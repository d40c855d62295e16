/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/conn_internal.h"

#include <sys/epoll.h>
#include <unistd.h>

#include "gateway/gate/session/device.h"

static void arrive(void *owner, struct sp_parcel *parcel);

/* ---- the way home ---- */

static void ask_psk(struct sp_conn *conn)
{
    struct sp_view identity = sp_tls_identity(sp_conn_tls(conn));
    struct sp_home *home = &sp_conn_worker(conn)->home;
    if (sp_client_init(&conn->client, home) != SP_OK) {
        sp_conn_shed(conn, SP_SHED_MEMORY);
        return;
    }
    conn->homed = true;
    sp_conn_enter(conn, SP_CONN_PSK);
    if (sp_edge_send(&home->keys, SP_MSG_PSK, sp_client_tag(&conn->client), &identity, 1) !=
        SP_OK) {
        sp_conn_keys_lost(conn);
        return;
    }
    conn->client.nonce_open = true; /* with the answer, which may find nobody any more */
}

void sp_conn_keys_lost(struct sp_conn *conn)
{
    if (conn->stage == SP_CONN_PSK) {
        sp_conn_shed(conn, SP_SHED_KEYS);
    }
}

/* The time that the handshake may take, from where it began. */
static uint64_t handshake_deadline(const struct sp_conn *conn)
{
    const struct sp_visitor *visitor = sp_conn_work(conn)->visitor;
    uint64_t when = visitor->since_ms + sp_conn_limits(conn)->tls_timeout_ms;
    return when < visitor->preauth_ms ? when : visitor->preauth_ms;
}

/* The identity is known: its home is where this connection belongs. */
static void go_home(struct sp_conn *conn)
{
    struct sp_worker *worker = sp_conn_worker(conn);
    uint16_t home = sp_home_of(sp_tls_identity(sp_conn_tls(conn)), worker->home.loops);
    if (home == worker->home.index) {
        ask_psk(conn);
        return;
    }
    struct sp_visitor *visitor = sp_conn_work(conn)->visitor;
    visitor->fd = sp_loop_remove(&worker->loop, &conn->watch);
    sp_conn_clear_deadline(conn);
    sp_admission_detach(&worker->admission, sp_conn_limits(conn), visitor, sp_conn_now(conn));
    sp_worker_unlink(worker, conn);
    visitor->parcel.run = arrive;
    sp_home_post(&worker->home, home, &visitor->parcel);
}

static void arrive(void *owner, struct sp_parcel *parcel)
{
    struct sp_visitor *visitor =
        (struct sp_visitor *)(void *)((char *)parcel - offsetof(struct sp_visitor, parcel));
    struct sp_conn *conn = visitor->owner;
    struct sp_worker *worker = owner;
    conn->client.home = &worker->home;
    conn->watch.fd = visitor->fd;
    uint32_t events = EPOLLIN | (sp_conn_work(conn)->unsent.used > 0 ? EPOLLOUT : 0U);
    struct sp_peer peer = sp_client_peer(&conn->client);
    if (sp_admission_adopt(&worker->admission, &peer, visitor) != SP_OK) {
        sp_conn_turned_away(&peer, sp_tls_identity(sp_conn_tls(conn)), SP_SHED_MEMORY);
        close(visitor->fd);
        sp_visitor_free(visitor);
        sp_conn_free(conn);
        return;
    }
    sp_worker_link(worker, conn);
    if (worker->stopping ||
        sp_loop_add(&worker->loop, &conn->watch, events, sp_conn_ready) != SP_OK) {
        sp_conn_close(conn);
        return;
    }
    sp_conn_set_deadline(conn, handshake_deadline(conn));
    ask_psk(conn);
}

/* ---- its turns ---- */

static void tls_failed(struct sp_conn *conn)
{
    enum sp_metric metric = SP_M_TLS_FAILED;
    const char *detail = sp_tls_error(sp_conn_tls(conn));
    if (sp_tls_wrong_key(sp_conn_tls(conn))) {
        metric = conn->unknown ? SP_M_TLS_UNKNOWN_IDENTITY : SP_M_TLS_WRONG_KEY;
        detail = conn->unknown ? "unknown identity" : "wrong key";
    }
    sp_conn_send_out(conn);
    sp_conn_refuse(conn, metric, "tls_refused", detail);
}

static void opened(struct sp_conn *conn)
{
    if (conn->unknown) {
        /* A key that nobody can guess was guessed: never go on. */
        sp_conn_refuse(conn, SP_M_TLS_UNKNOWN_IDENTITY, "tls_refused", "unknown identity");
        return;
    }
    sp_metric_inc(SP_M_TLS_OK);
    sp_conn_enter(conn, SP_CONN_GUEST);
    sp_conn_set_deadline(
        conn,
        sp_conn_stage_deadline(conn, sp_conn_worker(conn)->home.config->limits.connect_timeout_ms));
    sp_conn_take_plaintext(conn);
}

void sp_conn_carry_on(struct sp_conn *conn)
{
    enum sp_tls_state state = sp_tls_step(sp_conn_tls(conn), &sp_conn_worker(conn)->out);
    if (state == SP_TLS_CLOSED) {
        tls_failed(conn);
        return;
    }
    sp_conn_send_out(conn);
    if (state == SP_TLS_NEED_PSK) {
        go_home(conn);
    } else if (state == SP_TLS_OPEN) {
        opened(conn);
    }
}

void sp_conn_start(struct sp_conn *conn)
{
    sp_conn_enter(conn, SP_CONN_HANDSHAKE);
    sp_conn_set_deadline(conn, handshake_deadline(conn));
    sp_conn_carry_on(conn);
}

/* Nobody can keep a device out by handshakes under its name: the oldest has to go for the newest. */
static void thin_out(struct sp_conn *conn)
{
    const struct sp_device *device = sp_client_device(&conn->client);
    struct sp_conn *oldest = NULL;
    uint32_t found = 0;
    if (device->users <= sp_conn_limits(conn)->handshakes_per_identity) {
        return;
    }
    for (struct sp_visitor *v = sp_conn_worker(conn)->admission.served.first; v != NULL;
         v = v->next) {
        struct sp_conn *other = v->owner;
        if (other != conn && other->stage == SP_CONN_HANDSHAKE &&
            sp_client_device(&other->client) == device) {
            oldest = found++ == 0 ? other : oldest;
        }
    }
    if (found >= sp_conn_limits(conn)->handshakes_per_identity) {
        sp_conn_shed(oldest, SP_SHED_IDENTITY);
    }
}

void sp_conn_psk(struct sp_conn *conn, const struct sp_msg_psk_answer *answer)
{
    if (conn->stage != SP_CONN_PSK || conn->client.state == SP_CLIENT_CLOSED) {
        return;
    }
    struct sp_view identity = sp_tls_identity(sp_conn_tls(conn));
    sp_conn_enter(conn, SP_CONN_HANDSHAKE);
    sp_conn_watch_for(conn, conn->watch.events | EPOLLIN);
    conn->unknown = answer->known == 0 || !sp_link_identity_valid(identity);
    enum sp_err err = conn->unknown ? SP_OK : sp_client_identify(&conn->client, identity, answer);
    if (err == SP_ERR_NOT_FOUND) {
        sp_conn_refuse(conn, SP_M_CONNECT_REFUSED, "role_unknown", answer->row.role);
        return;
    }
    if (err != SP_OK) {
        sp_conn_shed(conn, SP_SHED_MEMORY);
        return;
    }
    if (!conn->unknown) {
        thin_out(conn);
    }
    uint32_t usual_ms = sp_conn_worker(conn)->home.config->attestation.answer_timeout_ms;
    if (!conn->unknown && answer->row.answer_timeout_ms > usual_ms) {
        sp_conn_work(conn)->visitor->preauth_ms += answer->row.answer_timeout_ms - usual_ms;
    }
    size_t len = answer->psk_len <= SP_PSK_MAX ? answer->psk_len : SP_PSK_MAX;
    sp_tls_set_psk(sp_conn_tls(conn), sp_view(answer->psk, len),
                   conn->unknown ? 0 : answer->row.suites);
    sp_conn_carry_on(conn);
}
