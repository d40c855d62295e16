/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/conn_internal.h"

#include "gateway/gate/attest/guard.h"
#include "gateway/log/log.h"

void sp_conn_close(struct sp_conn *conn)
{
    if (conn->stage == SP_CONN_DEAD) {
        return;
    }
    if (sp_conn_worker(conn)->shares) {
        conn->watch.fd = sp_loop_remove(&sp_conn_worker(conn)->loop, &conn->watch);
    }
    sp_loop_close(&conn->watch);
    sp_conn_enter(conn, SP_CONN_DEAD);
    sp_conn_clear_deadline(conn);
    sp_worker_unlink(sp_conn_worker(conn), conn);
    if (conn->homed) {
        sp_client_deinit(&conn->client);
    }
    sp_client_mark(&conn->client);
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

void sp_conn_refuse(struct sp_conn *conn, enum sp_metric metric, const char *event,
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

/* ---- a deadline ---- */

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
    const struct sp_visitor *visitor = sp_conn_work(conn)->visitor;
    uint64_t ends = visitor->preauth_ms - sp_conn_limits(conn)->preauth_timeout_ms / 2;
    if (visitor->state == SP_VISITOR_SILENT) {
        sp_conn_refuse(conn, SP_M_DEADLINE_TIMEOUTS, "deadline_passed", "no ClientHello");
    } else if (sp_conn_now(conn) < ends) {
        sp_conn_set_deadline(conn, ends);
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
        sp_conn_refuse(conn, SP_M_DEADLINE_TIMEOUTS, "deadline_passed",
                       "TLS handshake not finished");
        break;
    case SP_CONN_GUEST:
        if (conn->client.state != SP_CLIENT_CONNECT &&
            sp_conn_now(conn) < sp_conn_work(conn)->visitor->preauth_ms) {
            sp_conn_set_deadline(conn, sp_conn_work(conn)->visitor->preauth_ms);
        } else {
            guest_deadline(conn);
        }
        break;
    case SP_CONN_ADMITTED:
        if (sp_conn_work(conn)->unsent.used > 0 && sp_conn_now(conn) < sp_conn_stall_ends(conn)) {
            sp_conn_set_deadline(conn, sp_conn_stall_ends(conn));
        } else if (sp_conn_work(conn)->unsent.used > 0) {
            sp_conn_refuse(conn, SP_M_SLOW_CLOSED, "slow_reader", "nothing read for stall_timeout");
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
    if (sp_conn_work(conn)->owner_due_ms != 0 &&
        sp_conn_now(conn) >= sp_conn_work(conn)->owner_due_ms) {
        sp_client_in_flight(client)->owner_due_ms = 0;
        deadline_passed(conn);
    }
    if (conn->homed && conn->stage != SP_CONN_DEAD) {
        sp_client_due(client);
    }
}
