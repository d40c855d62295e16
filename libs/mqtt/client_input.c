/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What the server may send, packet by packet; whatever is not in the table below is out of turn. */
#include "libs/mqtt/client.h"
#include "libs/mqtt/client_internal.h"

struct packet {
    uint8_t flags;
    struct sp_view body;
};

static bool has(const struct sp_mqtt_props *props, enum sp_mqtt_property property)
{
    return (props->present & SP_MQTT_HAS(property)) != 0;
}

static void take_limits(struct sp_mqtt_limits *limits, const struct sp_mqtt_props *props)
{
    if (has(props, SP_MQTT_P_MAXIMUM_PACKET_SIZE)) {
        limits->max_packet_size = props->max_packet_size;
    }
    if (has(props, SP_MQTT_P_SESSION_EXPIRY)) {
        limits->session_expiry = props->session_expiry;
    }
    if (has(props, SP_MQTT_P_RECEIVE_MAXIMUM)) {
        limits->receive_maximum = props->receive_maximum;
    }
    if (has(props, SP_MQTT_P_SERVER_KEEP_ALIVE)) {
        limits->keep_alive = props->server_keep_alive;
    }
    if (has(props, SP_MQTT_P_MAXIMUM_QOS)) {
        limits->maximum_qos = props->maximum_qos;
    }
    limits->topic_alias_maximum = props->topic_alias_maximum; /* 0 when absent */
    limits->retain_available =
        !has(props, SP_MQTT_P_RETAIN_AVAILABLE) || props->retain_available != 0;
    limits->wildcard_available =
        !has(props, SP_MQTT_P_WILDCARD_AVAILABLE) || props->wildcard_available != 0;
    limits->shared_available =
        !has(props, SP_MQTT_P_SHARED_AVAILABLE) || props->shared_available != 0;
    limits->subscription_id_available =
        !has(props, SP_MQTT_P_SUBSCRIPTION_ID_AVAILABLE) || props->subscription_id_available != 0;
}

/* The method must be ours, and there once the server challenged (MQTT-4.12.0-5). A server that knows
 * nothing of methods says nothing: that is for the caller to see (`unchallenged`). */
static bool method_valid(const struct sp_mqtt_client *c, const struct sp_mqtt_props *props)
{
    if (!has(props, SP_MQTT_P_AUTH_METHOD)) {
        return c->challenges == 0;
    }
    return c->method.ptr != NULL && sp_view_equal(props->auth_method, c->method);
}

static enum sp_err on_connack(struct sp_mqtt_client *c, const struct packet *packet,
                              struct sp_mqtt_event *event)
{
    if (c->state != SP_MQTT_CLIENT_CONNECTING) {
        return SP_ERR_PROTOCOL;
    }
    SP_TRY(sp_mqtt_decode_connack(c->version, packet->body, &event->connack));
    if (event->connack.reason != SP_MQTT_RC_SUCCESS) {
        event->type = SP_MQTT_EVENT_REFUSED;
        sp_mqtt_client_close(c);
        return SP_OK;
    }
    bool session_unasked = event->connack.session_present && c->clean_start;
    if (session_unasked || !method_valid(c, &event->connack.props)) {
        return SP_ERR_PROTOCOL;
    }
    event->type = SP_MQTT_EVENT_CONNECTED;
    event->unchallenged = c->method.ptr != NULL && (c->challenges == 0 || c->challenge_open);
    c->challenge_open = false;
    c->session_resumed = event->connack.session_present;
    take_limits(&c->limits, &event->connack.props);
    c->state = SP_MQTT_CLIENT_UP;
    return SP_OK;
}

static enum sp_err on_auth(struct sp_mqtt_client *c, const struct packet *packet,
                           struct sp_mqtt_event *event)
{
    if (c->state != SP_MQTT_CLIENT_CONNECTING || c->method.ptr == NULL || c->challenge_open) {
        return SP_ERR_PROTOCOL;
    }
    SP_TRY(sp_mqtt_decode_reasoned(c->version, SP_MQTT_AUTH, packet->body, &event->auth));
    if (event->auth.reason != SP_MQTT_RC_CONTINUE_AUTHENTICATION ||
        !sp_view_equal(event->auth.props.auth_method, c->method)) {
        return SP_ERR_PROTOCOL;
    }
    event->type = SP_MQTT_EVENT_CHALLENGE;
    c->challenges = (uint16_t)(c->challenges + (c->challenges < UINT16_MAX));
    c->challenge_open = true;
    return SP_OK;
}

/* We offer no topic aliases, and never subscribe with QoS 2. Receive Maximum is MQTT 5 only (3.1.2.11.3). */
static enum sp_err on_publish(struct sp_mqtt_client *c, const struct packet *packet,
                              struct sp_mqtt_event *event)
{
    struct sp_mqtt_publish *message = &event->publish;
    SP_TRY(sp_mqtt_decode_publish(c->version, packet->flags, packet->body, message));
    if (message->qos > 1 || has(&message->props, SP_MQTT_P_TOPIC_ALIAS)) {
        return SP_ERR_PROTOCOL;
    }
    if (message->qos == 1) {
        if (c->received >= c->own_receive_maximum) {
            return SP_ERR_PROTOCOL;
        }
        c->received++;
    }
    event->type = SP_MQTT_EVENT_MESSAGE;
    return SP_OK;
}

static enum sp_err on_puback(struct sp_mqtt_client *c, const struct packet *packet,
                             struct sp_mqtt_event *event)
{
    SP_TRY(sp_mqtt_decode_ack(c->version, SP_MQTT_PUBACK, packet->body, &event->ack));
    size_t offset = sp_mqtt_client_slot_find(c, event->ack.packet_id);
    if (offset >= c->sent) {
        return SP_ERR_PROTOCOL;
    }
    struct sp_mqtt_slot *slot = sp_mqtt_client_slot(c, offset);
    if (slot->acked) {
        return SP_ERR_PROTOCOL;
    }
    slot->acked = true;
    event->cookie = slot->cookie;
    event->type = SP_MQTT_EVENT_PUBACK;
    c->in_flight--;
    sp_mqtt_client_slots_tidy(c);
    return SP_OK;
}

static enum sp_err on_answer(struct sp_mqtt_client *c, enum sp_mqtt_type asked,
                             const struct sp_mqtt_suback *answer)
{
    size_t at = (size_t)answer->packet_id - SP_MQTT_CLIENT_FIRST_REQUEST; /* wraps for others */
    if (at >= SP_MQTT_CLIENT_REQUESTS || c->requests[at].type != asked) {
        return SP_ERR_PROTOCOL;
    }
    bool codes = c->version == SP_MQTT_5 || asked == SP_MQTT_SUBSCRIBE;
    if (codes && answer->codes.len != c->requests[at].filters) {
        return SP_ERR_PROTOCOL;
    }
    c->requests[at].type = 0;
    return SP_OK;
}

static enum sp_err on_suback(struct sp_mqtt_client *c, const struct packet *packet,
                             struct sp_mqtt_event *event)
{
    SP_TRY(sp_mqtt_decode_suback(c->version, SP_MQTT_SUBACK, packet->body, &event->suback));
    event->type = SP_MQTT_EVENT_SUBACK;
    return on_answer(c, SP_MQTT_SUBSCRIBE, &event->suback);
}

static enum sp_err on_unsuback(struct sp_mqtt_client *c, const struct packet *packet,
                               struct sp_mqtt_event *event)
{
    SP_TRY(sp_mqtt_decode_suback(c->version, SP_MQTT_UNSUBACK, packet->body, &event->suback));
    event->type = SP_MQTT_EVENT_UNSUBACK;
    return on_answer(c, SP_MQTT_UNSUBSCRIBE, &event->suback);
}

static enum sp_err on_pingresp(struct sp_mqtt_client *c, const struct packet *packet,
                               struct sp_mqtt_event *event)
{
    (void)packet;
    event->type = SP_MQTT_EVENT_NONE;
    if (!c->ping_sent) {
        return SP_ERR_PROTOCOL;
    }
    c->ping_sent = false;
    return SP_OK;
}

static enum sp_err on_disconnect(struct sp_mqtt_client *c, const struct packet *packet,
                                 struct sp_mqtt_event *event)
{
    if (c->version != SP_MQTT_5) {
        return SP_ERR_PROTOCOL;
    }
    SP_TRY(
        sp_mqtt_decode_reasoned(c->version, SP_MQTT_DISCONNECT, packet->body, &event->disconnect));
    event->type = SP_MQTT_EVENT_DISCONNECTED;
    sp_mqtt_client_close(c);
    return SP_OK;
}

typedef enum sp_err packet_handler(struct sp_mqtt_client *c, const struct packet *packet,
                                   struct sp_mqtt_event *event);

static packet_handler *handler_of(const struct sp_mqtt_client *c, enum sp_mqtt_type type)
{
    static packet_handler *const handlers[] = {
        [SP_MQTT_CONNACK] = on_connack,   [SP_MQTT_PUBLISH] = on_publish,
        [SP_MQTT_PUBACK] = on_puback,     [SP_MQTT_SUBACK] = on_suback,
        [SP_MQTT_UNSUBACK] = on_unsuback, [SP_MQTT_PINGRESP] = on_pingresp,
        [SP_MQTT_AUTH] = on_auth,         [SP_MQTT_DISCONNECT] = on_disconnect,
    };
    bool early = type == SP_MQTT_CONNACK || type == SP_MQTT_AUTH;
    if (c->state == SP_MQTT_CLIENT_CONNECTING && !early) {
        return NULL;
    }
    return handlers[type];
}

enum sp_err sp_mqtt_client_input(struct sp_mqtt_client *c, uint64_t now_ms, struct sp_view in,
                                 size_t *size, struct sp_mqtt_event *event)
{
    struct sp_mqtt_header header;
    struct sp_mqtt_event found = {.type = SP_MQTT_EVENT_NONE};
    if (c->state == SP_MQTT_CLIENT_IDLE) {
        return SP_ERR_STATE;
    }
    enum sp_err err = sp_mqtt_peek(in, c->opts.max_packet, &header);
    if (err == SP_ERR_AGAIN) {
        *size = in.len == 0 ? 2 : in.len + 1;
        return SP_ERR_AGAIN;
    }
    SP_TRY(err);
    size_t total = (size_t)header.header_len + header.body_len;
    if (total > c->opts.max_packet) {
        return SP_ERR_LIMIT;
    }
    packet_handler *handler = handler_of(c, header.type);
    if (handler == NULL) {
        return SP_ERR_PROTOCOL;
    }
    if (in.len < total) {
        *size = total;
        return SP_ERR_AGAIN;
    }
    struct sp_view body = sp_view_first(sp_view_from(in, header.header_len), header.body_len);
    struct packet packet = {.flags = header.flags, .body = body};
    SP_TRY(handler(c, &packet, &found));
    c->last_in_ms = now_ms;
    *size = total;
    *event = found;
    return SP_OK;
}

uint8_t sp_mqtt_client_reason(enum sp_err err)
{
    if (err == SP_ERR_MALFORMED) {
        return SP_MQTT_RC_MALFORMED_PACKET;
    }
    if (err == SP_ERR_PROTOCOL) {
        return SP_MQTT_RC_PROTOCOL_ERROR;
    }
    return err == SP_ERR_LIMIT ? SP_MQTT_RC_PACKET_TOO_LARGE : SP_MQTT_RC_UNSPECIFIED_ERROR;
}
