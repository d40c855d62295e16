/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/conn.h"

#include "gateway/gate/attest/guard.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/worker.h"
#include "gateway/log/log.h"
#include "gateway/slab/slab.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define LINGER_MS 1000U /* to read our last words */

static void conn_ready(struct sp_watch *watch, uint32_t events);
static void arrive(void *owner, struct sp_parcel *parcel);
static void carry_on(struct sp_conn *conn);

static struct sp_slab slab = SP_SLAB_INIT(sizeof(struct sp_conn));

/* Every home is the first thing in its worker. */
static struct sp_worker *worker_of(const struct sp_conn *conn)
{
    return (struct sp_worker *)conn->client.home;
}

struct sp_conn *sp_conn_of(struct sp_client *client)
{
    return (struct sp_conn *)(void *)((char *)client - offsetof(struct sp_conn, client));
}

static uint64_t now_of(const struct sp_conn *conn)
{
    return worker_of(conn)->loop.timers.now_ms;
}

static void set_deadline(struct sp_conn *conn, uint64_t when)
{
    struct sp_client_work *work = sp_client_work(&conn->client);
    if (work == NULL) { /* there always is one before it is homed */
        sp_client_starve(&conn->client);
        return;
    }
    work->owner_due_ms = when;
    sp_client_arm(&conn->client);
}

static void clear_deadline(struct sp_conn *conn)
{
    struct sp_client_work *work = sp_client_in_flight(&conn->client);
    if (work != NULL) {
        work->owner_due_ms = 0;
    }
    sp_client_arm(&conn->client);
}

static const struct sp_limits_config *limits_of(const struct sp_conn *conn)
{
    return &worker_of(conn)->home.config->limits;
}

static const struct sp_client_work *work_of(const struct sp_conn *conn)
{
    return sp_client_now(&conn->client);
}

static uint64_t stall_ends(const struct sp_conn *conn)
{
    return work_of(conn)->progress_ms + limits_of(conn)->stall_timeout_ms;
}

static uint64_t stage_deadline(const struct sp_conn *conn, uint32_t timeout_ms)
{
    uint64_t when = now_of(conn) + timeout_ms;
    uint64_t preauth_ms = work_of(conn)->visitor->preauth_ms;
    return when < preauth_ms ? when : preauth_ms;
}

static void watch_for(struct sp_conn *conn, uint32_t events)
{
    if (conn->watch.fd >= 0) {
        /* Where the kernel has no memory for it, the next turn asks again. */
        (void)!sp_loop_change(&worker_of(conn)->loop, &conn->watch, events);
    }
}

static struct sp_conn *take_conn(struct sp_worker *worker)
{
    struct sp_conn *conn = sp_slab_take(&slab);
    if (conn != NULL) {
        sp_client_prepare(&conn->client, &worker->home);
    }
    return conn;
}

static void free_conn(struct sp_conn *conn)
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
    struct sp_conn *conn = take_conn(worker);
    if (conn == NULL || sp_client_work(&conn->client) == NULL ||
        sp_client_set_peer(&conn->client, peer) != SP_OK || accept_tls(conn, server) != SP_OK) {
        free_conn(conn);
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
    if (sp_loop_add(&worker->loop, &conn->watch, EPOLLIN, conn_ready) != SP_OK) {
        sp_conn_close(conn);
        return;
    }
    set_deadline(conn, stage_deadline(conn, limits->tls_timeout_ms));
}

/* ---- the end ---- */

static bool is_visitor(const struct sp_conn *conn)
{
    return conn->stage < SP_CONN_ADMITTED;
}

static void enter_stage(struct sp_conn *conn, enum sp_conn_stage stage)
{
    bool visited = is_visitor(conn);
    conn->stage = (uint8_t)stage;
    if (visited && !is_visitor(conn)) {
        struct sp_client_work *work = sp_client_in_flight(&conn->client);
        sp_admission_leave(&worker_of(conn)->admission, limits_of(conn), work->visitor,
                           stage == SP_CONN_ADMITTED);
        work->visitor = NULL;
        work->progress_ms = now_of(conn);
    }
}

void sp_conn_close(struct sp_conn *conn)
{
    if (conn->stage == SP_CONN_DEAD) {
        return;
    }
    if (worker_of(conn)->shares) {
        conn->watch.fd = sp_loop_remove(&worker_of(conn)->loop, &conn->watch);
    }
    sp_loop_close(&conn->watch);
    enter_stage(conn, SP_CONN_DEAD);
    clear_deadline(conn);
    sp_worker_unlink(worker_of(conn), conn);
    if (conn->homed) {
        sp_client_deinit(&conn->client);
    }
    sp_client_mark(&conn->client);
}

void sp_conn_free(struct sp_conn *conn)
{
    free_conn(conn);
}

void sp_conn_turned_away(const struct sp_peer *peer, struct sp_view device, enum sp_shed why)
{
    static const struct {
        enum sp_metric metric;
        const char *text;
    } reasons[] = {
#define X(name, label, text) {SP_M_SHED_##name, (text)},
        SP_SHED_MAP(X)
#undef X
    };
    char text[SP_PEER_TEXT_MAX];
    sp_metric_inc(SP_M_CONNECTIONS_SHED);
    sp_metric_inc(reasons[why].metric);
    sp_log_limited(SP_EVENT("connection_shed"), SP_F_VIEW("device", device),
                   SP_F_STR("peer", sp_peer_format(peer, text)),
                   SP_F_STR("detail", reasons[why].text));
}

void sp_conn_shed(struct sp_conn *conn, enum sp_shed why)
{
    struct sp_peer peer = sp_client_peer(&conn->client);
    sp_conn_turned_away(&peer, sp_tls_identity(sp_conn_tls(conn)), why);
    sp_conn_close(conn);
}

bool sp_conn_idles(const struct sp_visitor *visitor)
{
    const struct sp_conn *conn = visitor->owner;
    return conn->stage == SP_CONN_HANDSHAKE ||
           (conn->stage == SP_CONN_GUEST && conn->client.guard != SP_GUARD_APPRAISING);
}

/* One counter and one line for a connection that ends before its client says anything. */
static void refuse(struct sp_conn *conn, enum sp_metric metric, const char *event,
                   const char *detail)
{
    char peer[SP_PEER_TEXT_MAX];
    struct sp_view device = sp_client_identity(&conn->client);
    if (device.len == 0) {
        device = sp_tls_identity(sp_conn_tls(conn));
    }
    sp_metric_inc(metric);
    sp_log_limited(SP_EVENT(event), SP_F_VIEW("device", device),
                   SP_F_STR("peer", sp_client_peer_text(&conn->client, peer)),
                   SP_F_STR("detail", detail));
    sp_conn_close(conn);
}

/* ---- writing ---- */

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
        if (!conn->client.lost && work_of(conn)->unsent.used > 0 &&
            (slowest == NULL || work_of(conn)->unsent.used > work_of(slowest)->unsent.used)) {
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
        if (!is_visitor(conn)) {
            work->progress_ms = now_of(conn);
            set_deadline(conn, stall_ends(conn));
        }
        watch_for(conn, conn->watch.events | EPOLLOUT);
    }
    if (sp_buf_append(&work->unsent, rest) != SP_OK) {
        conn->client.starved = true;
        conn->client.lost = true;
        return;
    }
    conn->client.home->unread += rest.len;
    if (is_over(conn->client.home)) {
        end_slowest(worker_of(conn));
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

/* Send the loop's ciphertext buffer, which holds what this connection is to be sent now. */
static void send_out(struct sp_conn *conn)
{
    struct sp_tls_out *out = &worker_of(conn)->out;
    struct sp_view bytes = sp_view(out->buf, out->used);
    out->used = 0;
    if (bytes.len > 0 && conn->watch.fd >= 0 && !conn->client.lost) {
        if (work_of(conn)->unsent.used == 0) {
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

static void send_unsent(struct sp_conn *conn)
{
    struct sp_client_work *work = sp_client_in_flight(&conn->client);
    if (work == NULL) {
        return; /* nothing is unsent */
    }
    size_t sent = try_send(conn, sp_buf_view(&work->unsent));
    if (sent > 0) {
        if (!is_visitor(conn)) {
            work->progress_ms = now_of(conn);
        }
        sp_buf_consume(&work->unsent, sent);
        conn->client.home->unread -= sent;
    }
    if (work->unsent.used == 0) {
        sp_buf_free(&work->unsent);
        if (conn->stage == SP_CONN_ADMITTED) {
            clear_deadline(conn);
        }
        watch_for(conn, conn->watch.events & ~(uint32_t)EPOLLOUT);
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
    if (work_of(conn)->out.used > 0 && !client->lost) {
        struct sp_view plain = sp_buf_view(&work_of(conn)->out);
        if (sp_tls_write(sp_conn_tls(conn), plain, &worker_of(conn)->out) != SP_OK) {
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
    send_out(conn);
}

/* The client is closed: let the peer read why, then close the socket. */
static void finish(struct sp_conn *conn)
{
    if (conn->stage == SP_CONN_CLOSING && work_of(conn)->unsent.used == 0) {
        if (!conn->client.linger || shutdown(conn->watch.fd, SHUT_WR) != 0) {
            sp_conn_close(conn);
            return;
        }
        enter_stage(conn, SP_CONN_LINGER);
        set_deadline(conn, now_of(conn) + LINGER_MS);
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
        enter_stage(conn, SP_CONN_CLOSING);
        sp_tls_close(sp_conn_tls(conn), &worker_of(conn)->out);
        set_deadline(conn, now_of(conn) + limits_of(conn)->stall_timeout_ms);
    }
    send_out(conn);
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
        enter_stage(conn, SP_CONN_ADMITTED);
        if (work_of(conn)->unsent.used > 0) {
            set_deadline(conn, stall_ends(conn));
        } else {
            clear_deadline(conn);
        }
    }
    if (client->state == SP_CLIENT_CLOSED) {
        finish(conn);
    }
    if (conn->stage != SP_CONN_DEAD) {
        /* Who does not read is not read from either: what we owe it stays bounded. */
        bool reads = sp_client_reads(client) && conn->stage != SP_CONN_CLOSING &&
                     work_of(conn)->unsent.used <= client->home->config->limits.write_buffer / 2;
        watch_for(conn, (reads ? EPOLLIN : 0U) | (work_of(conn)->unsent.used > 0 ? EPOLLOUT : 0U));
        sp_client_rest(client);
    }
}

/* ---- reading ---- */

static void take_plaintext(struct sp_conn *conn)
{
    struct sp_worker *worker = worker_of(conn);
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
        send_out(conn);
        if (used > 0) {
            sp_client_input(&conn->client, sp_view(worker->plain, used));
        }
    }
    if (err == SP_ERR_CLOSED && conn->client.state != SP_CLIENT_CLOSED) {
        sp_client_lost(&conn->client);
    } else if (err == SP_ERR_NOMEM) {
        sp_client_starve(&conn->client);
    } else if (err == SP_ERR_MALFORMED) {
        refuse(conn, SP_M_TLS_BAD_RECORD, "tls_bad_record", sp_tls_error(sp_conn_tls(conn)));
    }
}

static void tls_failed(struct sp_conn *conn)
{
    enum sp_metric metric = SP_M_TLS_FAILED;
    const char *detail = sp_tls_error(sp_conn_tls(conn));
    if (sp_tls_wrong_key(sp_conn_tls(conn))) {
        metric = conn->unknown ? SP_M_TLS_UNKNOWN_IDENTITY : SP_M_TLS_WRONG_KEY;
        detail = conn->unknown ? "unknown identity" : "wrong key";
    }
    send_out(conn);
    refuse(conn, metric, "tls_refused", detail);
}

static void opened(struct sp_conn *conn)
{
    if (conn->unknown) {
        /* A key that nobody can guess was guessed: never go on. */
        refuse(conn, SP_M_TLS_UNKNOWN_IDENTITY, "tls_refused", "unknown identity");
        return;
    }
    sp_metric_inc(SP_M_TLS_OK);
    enter_stage(conn, SP_CONN_GUEST);
    set_deadline(conn,
                 stage_deadline(conn, worker_of(conn)->home.config->limits.connect_timeout_ms));
    take_plaintext(conn);
}

/* ---- the way home ---- */

static void ask_psk(struct sp_conn *conn)
{
    struct sp_view identity = sp_tls_identity(sp_conn_tls(conn));
    struct sp_home *home = &worker_of(conn)->home;
    if (sp_client_init(&conn->client, home) != SP_OK) {
        sp_conn_shed(conn, SP_SHED_MEMORY);
        return;
    }
    conn->homed = true;
    enter_stage(conn, SP_CONN_PSK);
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
    const struct sp_visitor *visitor = work_of(conn)->visitor;
    uint64_t when = visitor->since_ms + limits_of(conn)->tls_timeout_ms;
    return when < visitor->preauth_ms ? when : visitor->preauth_ms;
}

/* The identity is known: its home is where this connection belongs. */
static void go_home(struct sp_conn *conn)
{
    struct sp_worker *worker = worker_of(conn);
    uint16_t home = sp_home_of(sp_tls_identity(sp_conn_tls(conn)), worker->home.loops);
    if (home == worker->home.index) {
        ask_psk(conn);
        return;
    }
    struct sp_visitor *visitor = work_of(conn)->visitor;
    visitor->fd = sp_loop_remove(&worker->loop, &conn->watch);
    clear_deadline(conn);
    sp_admission_detach(&worker->admission, limits_of(conn), visitor, now_of(conn));
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
    uint32_t events = EPOLLIN | (work_of(conn)->unsent.used > 0 ? EPOLLOUT : 0U);
    struct sp_peer peer = sp_client_peer(&conn->client);
    if (sp_admission_adopt(&worker->admission, &peer, visitor) != SP_OK) {
        sp_conn_turned_away(&peer, sp_tls_identity(sp_conn_tls(conn)), SP_SHED_MEMORY);
        close(visitor->fd);
        sp_visitor_free(visitor);
        sp_conn_free(conn);
        return;
    }
    sp_worker_link(worker, conn);
    if (worker->stopping || sp_loop_add(&worker->loop, &conn->watch, events, conn_ready) != SP_OK) {
        sp_conn_close(conn);
        return;
    }
    set_deadline(conn, handshake_deadline(conn));
    ask_psk(conn);
}

static void carry_on(struct sp_conn *conn)
{
    enum sp_tls_state state = sp_tls_step(sp_conn_tls(conn), &worker_of(conn)->out);
    if (state == SP_TLS_CLOSED) {
        tls_failed(conn);
        return;
    }
    send_out(conn);
    if (state == SP_TLS_NEED_PSK) {
        go_home(conn);
    } else if (state == SP_TLS_OPEN) {
        opened(conn);
    }
}

void sp_conn_start(struct sp_conn *conn)
{
    enter_stage(conn, SP_CONN_HANDSHAKE);
    set_deadline(conn, handshake_deadline(conn));
    carry_on(conn);
}

/* Nobody can keep a device out by handshakes under its name: the oldest has to go for the newest. */
static void thin_out(struct sp_conn *conn)
{
    const struct sp_device *device = sp_client_device(&conn->client);
    struct sp_conn *oldest = NULL;
    uint32_t found = 0;
    if (device->users <= limits_of(conn)->handshakes_per_identity) {
        return;
    }
    for (struct sp_visitor *v = worker_of(conn)->admission.served.first; v != NULL; v = v->next) {
        struct sp_conn *other = v->owner;
        if (other != conn && other->stage == SP_CONN_HANDSHAKE &&
            sp_client_device(&other->client) == device) {
            oldest = found++ == 0 ? other : oldest;
        }
    }
    if (found >= limits_of(conn)->handshakes_per_identity) {
        sp_conn_shed(oldest, SP_SHED_IDENTITY);
    }
}

void sp_conn_psk(struct sp_conn *conn, const struct sp_msg_psk_answer *answer)
{
    if (conn->stage != SP_CONN_PSK || conn->client.state == SP_CLIENT_CLOSED) {
        return;
    }
    struct sp_view identity = sp_tls_identity(sp_conn_tls(conn));
    enter_stage(conn, SP_CONN_HANDSHAKE);
    watch_for(conn, conn->watch.events | EPOLLIN);
    conn->unknown = answer->known == 0 || !sp_link_identity_valid(identity);
    enum sp_err err = conn->unknown ? SP_OK : sp_client_identify(&conn->client, identity, answer);
    if (err == SP_ERR_NOT_FOUND) {
        refuse(conn, SP_M_CONNECT_REFUSED, "role_unknown", answer->row.role);
        return;
    }
    if (err != SP_OK) {
        sp_conn_shed(conn, SP_SHED_MEMORY);
        return;
    }
    if (!conn->unknown) {
        thin_out(conn);
    }
    uint32_t usual_ms = worker_of(conn)->home.config->attestation.answer_timeout_ms;
    if (!conn->unknown && answer->row.answer_timeout_ms > usual_ms) {
        work_of(conn)->visitor->preauth_ms += answer->row.answer_timeout_ms - usual_ms;
    }
    size_t len = answer->psk_len <= SP_PSK_MAX ? answer->psk_len : SP_PSK_MAX;
    sp_tls_set_psk(sp_conn_tls(conn), sp_view(answer->psk, len),
                   conn->unknown ? 0 : answer->row.suites);
    carry_on(conn);
}

/* ---- events ---- */

/* @return Bytes read into the loop's buffer; 0: nothing, or the connection has ended. */
static size_t receive(struct sp_conn *conn)
{
    ssize_t got = recv(conn->watch.fd, worker_of(conn)->cipher, SP_WORKER_BUFFER, MSG_DONTWAIT);
    if (got > 0) {
        return (size_t)got;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return 0;
    }
    if (conn->stage < SP_CONN_GUEST) {
        refuse(conn, SP_M_TLS_FAILED, "tls_refused", "closed by the peer");
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
        watch_for(conn, conn->watch.events & ~(uint32_t)EPOLLIN);
        return;
    }
    if (conn->stage == SP_CONN_DEAD || conn->stage == SP_CONN_CLOSING || work_of(conn)->resting) {
        return;
    }
    size_t len = receive(conn);
    if (len == 0 || conn->stage == SP_CONN_LINGER) {
        return;
    }
    sp_tls_input(sp_conn_tls(conn), sp_view(worker_of(conn)->cipher, len));
    if (conn->stage == SP_CONN_WAITING) {
        struct sp_visitor *visitor = work_of(conn)->visitor;
        if (sp_tls_greet(sp_conn_tls(conn)) && visitor->state == SP_VISITOR_SILENT) {
            sp_admission_ready(&worker_of(conn)->admission, visitor, limits_of(conn));
        }
    } else if (conn->stage == SP_CONN_HANDSHAKE) {
        carry_on(conn);
    } else {
        take_plaintext(conn);
    }
}

void sp_conn_read_early(struct sp_conn *conn)
{
    sp_conn_read(conn);
    conn->client.early = sp_tls_has_part(sp_conn_tls(conn));
}

static void conn_ready(struct sp_watch *watch, uint32_t events)
{
    struct sp_conn *conn = (struct sp_conn *)watch;
    if ((events & EPOLLOUT) != 0) {
        send_unsent(conn);
    }
    bool broken = (events & (EPOLLERR | EPOLLHUP)) != 0;
    if (broken && (conn->watch.events & EPOLLIN) == 0) {
        conn->client.lost = true;
        sp_conn_close(conn);
    } else if ((events & EPOLLIN) != 0 || broken) {
        sp_conn_read(conn);
    }
}

static void guest_deadline(struct sp_conn *conn)
{
    struct sp_client *client = &conn->client;
    if (client->guard == SP_GUARD_CHALLENGED) {
        sp_guard_due(client);
        return;
    }
    sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_DEADLINE_TIMEOUTS,
                                                  .event = "deadline_passed",
                                                  .detail = client->state == SP_CLIENT_CONNECT
                                                                ? "no CONNECT"
                                                                : "no verdict",
                                                  .code = SP_MQTT_RC_SERVER_UNAVAILABLE});
}

/*
 * For its ClientHello, or for a place. Half of its time is kept for the handshake: nobody is served who cannot be
 * served to the end.
 */
static void waited(struct sp_conn *conn)
{
    const struct sp_visitor *visitor = work_of(conn)->visitor;
    uint64_t ends = visitor->preauth_ms - limits_of(conn)->preauth_timeout_ms / 2;
    if (visitor->state == SP_VISITOR_SILENT) {
        refuse(conn, SP_M_DEADLINE_TIMEOUTS, "deadline_passed", "no ClientHello");
    } else if (now_of(conn) < ends) {
        set_deadline(conn, ends);
    } else {
        sp_conn_shed(conn, SP_SHED_QUEUE);
    }
}

static void deadline_passed(struct sp_conn *conn)
{
    switch ((enum sp_conn_stage)conn->stage) {
    case SP_CONN_WAITING:
        waited(conn);
        break;
    case SP_CONN_HANDSHAKE:
    case SP_CONN_PSK:
        refuse(conn, SP_M_DEADLINE_TIMEOUTS, "deadline_passed", "TLS handshake not finished");
        break;
    case SP_CONN_GUEST:
        if (conn->client.state != SP_CLIENT_CONNECT &&
            now_of(conn) < work_of(conn)->visitor->preauth_ms) {
            set_deadline(conn, work_of(conn)->visitor->preauth_ms);
        } else {
            guest_deadline(conn);
        }
        break;
    case SP_CONN_ADMITTED:
        if (work_of(conn)->unsent.used > 0 && now_of(conn) < stall_ends(conn)) {
            set_deadline(conn, stall_ends(conn));
        } else if (work_of(conn)->unsent.used > 0) {
            refuse(conn, SP_M_SLOW_CLOSED, "slow_reader", "nothing read for stall_timeout");
        }
        break;
    case SP_CONN_CLOSING:
    case SP_CONN_LINGER:
        sp_conn_close(conn);
        break;
    case SP_CONN_DEAD:
        break;
    }
}

/* One deadline for the connection and its client. */
void sp_conn_due(struct sp_client *client)
{
    struct sp_conn *conn = sp_conn_of(client);
    if (work_of(conn)->owner_due_ms != 0 && now_of(conn) >= work_of(conn)->owner_due_ms) {
        sp_client_in_flight(client)->owner_due_ms = 0;
        deadline_passed(conn);
    }
    if (conn->homed && conn->stage != SP_CONN_DEAD) {
        sp_client_due(client);
    }
}

enum sp_err sp_conn_exporter(struct sp_client *client, uint8_t *out)
{
    return sp_tls_exporter(sp_conn_tls(sp_conn_of(client)), out);
}

/* ---- to another process, and from one ---- */

bool sp_conn_can_go(const struct sp_conn *conn)
{
    const struct sp_client *client = &conn->client;
    return conn->stage == SP_CONN_ADMITTED && client->state == SP_CLIENT_OPEN && !client->lost &&
           sp_client_now(client)->out.used == 0 && sp_tls_can_pack(sp_conn_tls(conn));
}

enum sp_err sp_conn_pack(const struct sp_conn *conn, struct sp_buf *out)
{
    struct sp_writer w;
    size_t size = SP_TLS_PACK_MAX + 4U + work_of(conn)->unsent.used;
    uint8_t *at = sp_buf_reserve(out, size);
    if (at == NULL) {
        return SP_ERR_NOMEM;
    }
    sp_writer_init(&w, at, size);
    SP_TRY(sp_tls_pack(sp_conn_tls(conn), &w));
    sp_write_u32(&w, work_of(conn)->unsent.used);
    sp_write_view(&w, sp_buf_view(&work_of(conn)->unsent));
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
    struct sp_conn *conn = take_conn(worker);
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
    SP_TRY(sp_admission_admitted(&worker_of(conn)->admission, &peer));
    uint32_t unsent = work_of(conn)->unsent.used;
    bool reads = sp_client_reads(client) && unsent <= client->home->config->limits.write_buffer / 2;
    uint32_t events = (reads ? EPOLLIN : 0U) | (unsent > 0 ? EPOLLOUT : 0U);
    if (unsent > 0) {
        sp_client_in_flight(client)->progress_ms = now_of(conn);
        set_deadline(conn, stall_ends(conn));
    }
    sp_client_rest(client);
    return sp_loop_add(&worker_of(conn)->loop, &conn->watch, events, conn_ready);
}
