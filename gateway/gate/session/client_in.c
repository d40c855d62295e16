/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What a client sends: whole packets, each to the one who handles it in this state; and the log about them. */
#include "gateway/gate/session/client_internal.h"
#include "gateway/log/log.h"

#define GUEST_PACKET_MAX 8192U /* a packet before the verdict: a token, or a CONNECT */
#define TAIL_KEEP_MAX    1024U /* an empty input buffer larger than this is given back */
#define LINES_PER_MINUTE 100U  /* in the log, about single messages of one client */

static void on_ping(struct sp_client *client, const struct sp_mqtt_header *header,
                    struct sp_view body)
{
    (void)header;
    if (body.len != 0) {
        sp_client_protocol_error(client, SP_MQTT_RC_MALFORMED_PACKET, "PINGREQ with a body");
        return;
    }
    sp_client_send_ack(client, SP_MQTT_PINGRESP, 0, 0);
}

static void on_disconnect(struct sp_client *client, const struct sp_mqtt_header *header,
                          struct sp_view body)
{
    struct sp_mqtt_reasoned packet;
    enum sp_err err =
        sp_mqtt_decode_reasoned((enum sp_mqtt_version)client->version, header->type, body, &packet);
    if (err != SP_OK) {
        sp_client_malformed(client, err, "DISCONNECT");
        return;
    }
    if ((packet.props.present & SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY)) != 0) {
        uint32_t wanted = packet.props.session_expiry;
        uint32_t longest = client->home->config->limits.session_expiry_s;
        if (client->session_expiry_s == 0 && wanted != 0) {
            sp_client_protocol_error(client, SP_MQTT_RC_PROTOCOL_ERROR, "session expiry from 0");
            return;
        }
        client->session_expiry_s = wanted < longest ? wanted : longest;
    }
    sp_client_end(client, packet.reason != SP_MQTT_RC_SUCCESS);
}

/* Which packet is in turn when; everything else is a protocol error. */
static const sp_packet_fn handlers[SP_CLIENT_STATES][16] = {
    [SP_CLIENT_CONNECT] = {[SP_MQTT_CONNECT] = sp_on_connect},
    [SP_CLIENT_GUEST_5] = {[SP_MQTT_AUTH] = sp_on_guest_auth, [SP_MQTT_DISCONNECT] = on_disconnect},
    [SP_CLIENT_GUEST_311] = {[SP_MQTT_PUBLISH] = sp_on_guest_publish,
                             [SP_MQTT_PUBACK] = sp_on_ack,
                             [SP_MQTT_SUBSCRIBE] = sp_on_guest_subscribe,
                             [SP_MQTT_PINGREQ] = on_ping,
                             [SP_MQTT_DISCONNECT] = on_disconnect},
    [SP_CLIENT_OPEN] = {[SP_MQTT_PUBLISH] = sp_on_publish,
                        [SP_MQTT_PUBACK] = sp_on_ack,
                        [SP_MQTT_PUBREC] = sp_on_pubrec,
                        [SP_MQTT_PUBREL] = sp_on_pubrel,
                        [SP_MQTT_PUBCOMP] = sp_on_ack,
                        [SP_MQTT_SUBSCRIBE] = sp_on_subscribe,
                        [SP_MQTT_UNSUBSCRIBE] = sp_on_unsubscribe,
                        [SP_MQTT_PINGREQ] = on_ping,
                        [SP_MQTT_DISCONNECT] = on_disconnect},
};

static uint32_t packet_limit(const struct sp_client *client)
{
    uint32_t limit = client->home->config->limits.packet;
    bool guest = client->state != SP_CLIENT_OPEN;
    return guest && limit > GUEST_PACKET_MAX ? GUEST_PACKET_MAX : limit;
}

/* The limit that CONNACK tells is for a whole packet, header included. */
static enum sp_err peek(const struct sp_client *client, struct sp_view in,
                        struct sp_mqtt_header *header)
{
    uint32_t limit = packet_limit(client);
    SP_TRY(sp_mqtt_peek(in, limit, header));
    return header->body_len <= limit - header->header_len ? SP_OK : SP_ERR_LIMIT;
}

static void out_of_turn(struct sp_client *client)
{
    if (client->state == SP_CLIENT_GUEST_5 || client->state == SP_CLIENT_GUEST_311) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_GUEST_EARLY,
                                                      .event = "guest_out_of_turn",
                                                      .code = SP_MQTT_RC_PROTOCOL_ERROR});
    } else {
        sp_client_protocol_error(client, SP_MQTT_RC_PROTOCOL_ERROR, "packet out of turn");
    }
}

static void dispatch(struct sp_client *client, const struct sp_mqtt_header *header,
                     struct sp_view body)
{
    sp_packet_fn handle = handlers[client->state][header->type & 15U];
    if (handle == NULL) {
        out_of_turn(client);
    } else {
        handle(client, header, body);
    }
}

/* Handle whole packets at the start of `in`, as many as a turn has for one client. @return The bytes used. */
static size_t take_packets(struct sp_client *client, struct sp_view in)
{
    size_t used = 0;
    uint32_t left = client->home->config->limits.turn_messages;
    if (client->state == SP_CLIENT_CONNECT && client->home->keep.loading && in.len > 0) {
        /* Its session may come yet (gate/session/keep.h). */
        client->keeping = true;
        client->paused = true;
    }
    while (in.len > 0 && sp_client_reads(client) && !sp_client_in_flight(client)->resting &&
           client->state != SP_CLIENT_CLOSED) {
        struct sp_mqtt_header header;
        enum sp_err err = peek(client, in, &header);
        if (err == SP_ERR_AGAIN) {
            break;
        }
        if (err != SP_OK) {
            sp_client_protocol_error(client,
                                     err == SP_ERR_LIMIT ? SP_MQTT_RC_PACKET_TOO_LARGE
                                                         : SP_MQTT_RC_MALFORMED_PACKET,
                                     "packet header");
            break;
        }
        size_t size = header.header_len + (size_t)header.body_len;
        if (in.len < size) {
            break;
        }
        dispatch(client, &header,
                 sp_view_first(sp_view_from(in, header.header_len), header.body_len));
        in = sp_view_from(in, size);
        used += size;
        if (--left == 0) {
            sp_client_in_flight(client)->resting = true;
            sp_client_mark(client);
        }
    }
    return used;
}

/* Packets in the buffer of the connection, once it holds a tail. */
static void take_buffered(struct sp_client *client)
{
    struct sp_buf *in = &sp_client_in_flight(client)->in;
    size_t used = take_packets(client, sp_buf_view(in));
    sp_buf_consume(in, used);
    if (in->used == 0 && (in->cap > TAIL_KEEP_MAX || sp_client_reads(client))) {
        sp_buf_free(in);
    }
}

/* What is not a whole packet is kept. */
static void take_input(struct sp_client *client, struct sp_view bytes)
{
    struct sp_buf *in = &sp_client_in_flight(client)->in;
    if (in->used == 0) {
        bytes = sp_view_from(bytes, take_packets(client, bytes));
        if (client->state == SP_CLIENT_CLOSED) {
            return;
        }
    }
    if (bytes.len > 0) {
        bool had = in->used > 0;
        if (sp_buf_append(in, bytes) != SP_OK) {
            sp_client_end(client, true);
            return;
        }
        if (had) {
            take_buffered(client);
        }
    }
}

void sp_client_input(struct sp_client *client, struct sp_view bytes)
{
    if (client->state == SP_CLIENT_CLOSED) {
        return;
    }
    if (!client->stalled) {
        sp_client_hear(client);
    }
    if (sp_client_work(client) == NULL) {
        sp_client_starve(client);
        return;
    }
    take_input(client, bytes);
    sp_client_rest(client);
}

void sp_client_resume(struct sp_client *client)
{
    if (sp_client_reads(client) && sp_client_now(client)->in.used > 0 &&
        client->state != SP_CLIENT_CLOSED && !client->home->frozen) {
        take_buffered(client);
    }
}

bool sp_client_may_log(struct sp_client *client)
{
    uint64_t now = client->home->timers->now_ms;
    struct sp_client_work *work = sp_client_work(client);
    if (work == NULL) {
        return false;
    }
    if (now >= work->lines_until_ms) {
        work->lines_until_ms = now + 60000;
        work->lines = 0;
    }
    if (work->lines == LINES_PER_MINUTE) {
        sp_log_warn(SP_EVENT("log_limited"), SP_F_VIEW("device", sp_client_identity(client)),
                    SP_F_STR("detail", "no more lines about its messages this minute"));
    }
    if (work->lines <= LINES_PER_MINUTE) {
        work->lines++;
    }
    return work->lines <= LINES_PER_MINUTE;
}
