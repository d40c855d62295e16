/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What a client is sent: packets encoded straight into the connection's output. */
#include "gateway/gate/session/aliases.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/session.h"

#define SMALL        64U    /* any packet without strings */
#define REASON_MAX   64U    /* a Reason String of explain() */
#define FLUSH_AT     65536U /* bytes of plaintext that a turn collects before it writes */
#define STRINGS_FROM 512U   /* a peer that takes less gets no Reason String */

/* Room for one packet; false: the client has ended. */
static bool begin(struct sp_client *client, struct sp_writer *w, size_t size)
{
    struct sp_client_work *work = client->lost ? NULL : sp_client_work(client);
    uint8_t *at = work == NULL ? NULL : sp_buf_reserve(&work->out, size);
    if (at == NULL) {
        sp_client_starve(client);
        return false;
    }
    sp_writer_init(w, at, size);
    return true;
}

static void finish(struct sp_client *client, const struct sp_writer *w)
{
    if (w->err == SP_OK) {
        sp_client_in_flight(client)->out.used += (uint32_t)w->used;
        sp_client_mark(client);
    } else {
        client->lost = true;
        sp_client_mark(client);
    }
}

bool sp_client_room(struct sp_client *client, size_t size)
{
    if (client->lost) {
        return false;
    }
    size_t most = client->home->config->limits.write_buffer;
    const struct sp_client_work *work = sp_client_now(client);
    if (work->out.used + size > FLUSH_AT ||
        (size_t)work->out.used + work->unsent.used + size > most) {
        client->home->flush(client);
    }
    return (size_t)work->out.used + work->unsent.used + size <= most;
}

bool sp_client_fits(const struct sp_client *client, const struct sp_mqtt_publish *publish)
{
    size_t size = sp_mqtt_publish_size((enum sp_mqtt_version)client->version, publish);
    return size != 0 && size <= client->max_packet;
}

void sp_client_publish(struct sp_client *client, const struct sp_mqtt_publish *publish)
{
    struct sp_writer w;
    struct sp_mqtt_publish aliased;
    enum sp_mqtt_version version = (enum sp_mqtt_version)client->version;
    size_t size = sp_mqtt_publish_size(version, publish);
    if (sp_client_more(client)->aliases != NULL && size <= client->max_packet) {
        aliased = *publish;
        publish = &aliased;
        sp_aliases_apply(sp_client_own_more(client)->aliases, &aliased, client->max_packet - size);
        size = sp_mqtt_publish_size(version, publish);
    }
    if (begin(client, &w, size)) {
        sp_mqtt_encode_publish(&w, version, publish);
        finish(client, &w);
        sp_metric_inc(SP_M_PUBLISH_OUT);
    }
}

void sp_client_tell(struct sp_client *client, const char *topic, struct sp_view payload)
{
    const struct sp_mqtt_publish publish = {.topic = sp_view_str(topic), .payload = payload};
    if (sp_client_fits(client, &publish)) {
        sp_client_publish(client, &publish);
    }
}

static size_t strings_of(const struct sp_mqtt_props *props)
{
    return props->auth_method.len + props->auth_data.len + props->reason_string.len +
           props->assigned_client_id.len + props->response_info.len;
}

static void fit_strings(const struct sp_client *client, struct sp_mqtt_props *props)
{
    if (client->max_packet < STRINGS_FROM) {
        props->present &= ~(uint32_t)SP_MQTT_HAS(SP_MQTT_P_REASON_STRING);
        props->reason_string.len = 0;
    }
}

/* In words what a refusal of one packet says (MQTT 5, 3.1.2.11.7: unless the client wants none). */
static void explain(const struct sp_client *client, uint8_t reason, struct sp_mqtt_props *props)
{
    const char *text = NULL;
    switch (reason) {
    case SP_MQTT_RC_NOT_AUTHORIZED:
        text = "the role does not allow it";
        break;
    case SP_MQTT_RC_QUOTA_EXCEEDED:
        text = "a limit is reached";
        break;
    case SP_MQTT_RC_PAYLOAD_FORMAT_INVALID:
        text = "not a record that is accepted here";
        break;
    case SP_MQTT_RC_TOPIC_FILTER_INVALID:
        text = "not a filter, or too long";
        break;
    case SP_MQTT_RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED:
        text = "the role has no shared subscriptions";
        break;
    default:
        return;
    }
    if (client->version == SP_MQTT_5 && !client->terse && client->max_packet >= STRINGS_FROM) {
        props->present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_REASON_STRING);
        props->reason_string = sp_view_str(text);
    }
}

/* The first filter that was refused. */
static uint8_t refused_code(struct sp_view codes)
{
    for (size_t i = 0; i < codes.len; i++) {
        if (codes.ptr[i] >= 0x80) {
            return codes.ptr[i];
        }
    }
    return 0;
}

void sp_client_send_connack(struct sp_client *client, const struct sp_mqtt_connack *connack)
{
    struct sp_mqtt_connack packet = *connack;
    struct sp_writer w;
    fit_strings(client, &packet.props);
    if (begin(client, &w, SMALL + strings_of(&packet.props))) {
        sp_mqtt_encode_connack(&w, (enum sp_mqtt_version)client->version, &packet);
        finish(client, &w);
    }
}

void sp_client_send_ack(struct sp_client *client, enum sp_mqtt_type type, uint16_t packet_id,
                        uint8_t reason)
{
    struct sp_writer w;
    if (!begin(client, &w, SMALL + REASON_MAX)) {
        return;
    }
    if (type == SP_MQTT_PINGRESP) {
        sp_mqtt_encode_ping(&w, type);
    } else {
        struct sp_mqtt_ack ack = {.packet_id = packet_id, .reason = reason};
        explain(client, reason, &ack.props);
        sp_mqtt_encode_ack(&w, (enum sp_mqtt_version)client->version, type, &ack);
    }
    finish(client, &w);
}

void sp_client_send_suback(struct sp_client *client, enum sp_mqtt_type type,
                           const struct sp_mqtt_suback *suback)
{
    struct sp_mqtt_suback packet = *suback;
    struct sp_writer w;
    explain(client, refused_code(packet.codes), &packet.props);
    if (begin(client, &w, SMALL + REASON_MAX + packet.codes.len)) {
        sp_mqtt_encode_suback(&w, (enum sp_mqtt_version)client->version, type, &packet);
        finish(client, &w);
    }
}

void sp_client_send_reasoned(struct sp_client *client, enum sp_mqtt_type type,
                             const struct sp_mqtt_reasoned *reasoned)
{
    struct sp_mqtt_reasoned packet = *reasoned;
    struct sp_writer w;
    fit_strings(client, &packet.props);
    if (begin(client, &w, SMALL + strings_of(&packet.props))) {
        sp_mqtt_encode_reasoned(&w, (enum sp_mqtt_version)client->version, type, &packet);
        finish(client, &w);
    }
}

uint16_t sp_client_window(const struct sp_client *client)
{
    /* Challenges and grants count like any other QoS 1 message, and go first. */
    unsigned reserved = client->challenge_unacked || client->guard == SP_GUARD_NONCE;
    reserved += client->grant_unacked || sp_client_now(client)->grant.used > 0;
    return reserved < client->window ? (uint16_t)(client->window - reserved) : 0;
}

void sp_client_pump_grant(struct sp_client *client)
{
    if (sp_client_now(client)->grant.used == 0 || client->grant_unacked ||
        client->state != SP_CLIENT_OPEN ||
        sp_session_queue(sp_client_session(client))->in_flight +
                (unsigned)client->challenge_unacked >=
            client->window) {
        return;
    }
    const struct sp_mqtt_publish publish = {
        .qos = 1,
        .packet_id = SP_GRANT_ID,
        .topic = SP_VIEW_LIT(SP_LINK_TOPIC_GRANT),
        .payload = sp_buf_view(&sp_client_in_flight(client)->grant),
    };
    client->grant_unacked = true;
    sp_client_publish(client, &publish);
    sp_buf_free(&sp_client_in_flight(client)->grant);
}

void sp_client_grant(struct sp_client *client, struct sp_view grant)
{
    if (client->state != SP_CLIENT_OPEN) {
        return;
    }
    struct sp_client_work *work = sp_client_work(client);
    if (work == NULL) {
        return;
    }
    work->grant.used = 0; /* one that still waits is stale: its successor has a higher serial */
    if (sp_buf_append(&work->grant, grant) == SP_OK) {
        sp_client_pump_grant(client);
    }
}

void sp_client_writable(struct sp_client *client)
{
    if (sp_client_session(client) != NULL) {
        sp_session_pump(client->home, sp_client_session(client));
    }
}
