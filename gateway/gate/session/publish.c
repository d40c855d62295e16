/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* PUBLISH and its answers. */
#include "gateway/gate/attest/guard.h"
#include "gateway/gate/fuse/fuse.h"
#include "gateway/gate/route/acl.h"
#include "gateway/gate/route/route.h"
#include "gateway/gate/session/aliases.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"
#include "libs/mqtt/topic.h"
#include "libs/record/grant.h"

#define UNRELEASED_311 1024U /* QoS 2 messages without their PUBREL; 3.1.1 has no Receive Maximum */

static bool decode(struct sp_client *client, const struct sp_mqtt_header *header,
                   struct sp_view body, struct sp_mqtt_publish *publish)
{
    enum sp_err err =
        sp_mqtt_decode_publish((enum sp_mqtt_version)client->version, header->flags, body, publish);
    if (err != SP_OK) {
        sp_client_malformed(client, err, "PUBLISH");
    }
    return err == SP_OK;
}

/* Put the topic in place of its alias. false: the client was closed. */
static bool resolve(struct sp_client *client, struct sp_mqtt_publish *publish)
{
    if ((publish->props.present & SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS)) == 0) {
        return true;
    }
    enum sp_err err = SP_ERR_LIMIT;
    if (sp_client_role(client)->topic_aliases > 0 && sp_client_more(client)->aliases == NULL) {
        struct sp_client_more *more = sp_client_have_more(client);
        if (more != NULL) {
            more->aliases = sp_aliases_create((uint16_t)sp_client_role(client)->topic_aliases, 0);
        }
        err = SP_ERR_NOMEM;
    }
    if (sp_client_more(client)->aliases != NULL) {
        err = sp_aliases_resolve(sp_client_own_more(client)->aliases, publish);
    }
    if (err == SP_OK) {
        return true;
    }
    uint8_t code =
        err == SP_ERR_PROTOCOL ? SP_MQTT_RC_PROTOCOL_ERROR : SP_MQTT_RC_TOPIC_ALIAS_INVALID;
    sp_client_protocol_error(client, err == SP_ERR_NOMEM ? SP_MQTT_RC_SERVER_UNAVAILABLE : code,
                             "topic alias");
    return false;
}

/* Messages of the client that wait for their answer. */
static unsigned unanswered(const struct sp_client *client)
{
    return sp_client_in_flight(client)->unacked + (unsigned)sp_client_in_flight(client)->held;
}

/* What CONNACK announced and the client has to keep to. false: it was closed. */
static bool keeps_to_limits(struct sp_client *client, const struct sp_mqtt_publish *publish)
{
    const struct sp_limits_config *limits = &client->home->config->limits;
    bool v5 = client->version == SP_MQTT_5;
    uint8_t code = 0;
    const char *detail = NULL;
    if ((publish->props.present & SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID)) != 0) {
        code = SP_MQTT_RC_PROTOCOL_ERROR; /* MQTT-3.3.4-6 */
        detail = "subscription identifier in PUBLISH";
    } else if (publish->retain && v5 && !sp_client_role(client)->retain) {
        code = SP_MQTT_RC_RETAIN_NOT_SUPPORTED;
        detail = "PUBLISH with RETAIN";
    } else if (publish->props.user_count > limits->user_properties ||
               publish->props.user.len > limits->user_property_bytes) {
        code = SP_MQTT_RC_QUOTA_EXCEEDED;
        detail = "too many user properties";
    } else if (publish->qos > 0 && v5 &&
               unanswered(client) + sp_client_in_flight(client)->unreleased >=
                   client->receive_maximum) {
        code = SP_MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED;
        detail = "receive maximum exceeded";
    } else if (publish->topic.len > limits->topic_bytes ||
               sp_topic_levels(publish->topic) > limits->topic_levels) {
        code = SP_MQTT_RC_TOPIC_NAME_INVALID;
        detail = "topic too long";
    }
    if (code != 0) {
        sp_client_protocol_error(client, code, detail);
    }
    return code == 0;
}

static void log_refused(struct sp_client *client, const char *event,
                        const struct sp_mqtt_publish *publish, const char *detail)
{
    char peer[SP_PEER_TEXT_MAX];
    if (!sp_client_may_log(client)) {
        return;
    }
    sp_log_warn(SP_EVENT(event), SP_F_VIEW("device", sp_client_identity(client)),
                SP_F_STR("peer", sp_client_peer_text(client, peer)),
                SP_F_VIEW("topic", publish->topic), SP_F_STR("detail", detail));
}

static void deny(struct sp_client *client, const struct sp_mqtt_publish *publish)
{
    if (client->version == SP_MQTT_311) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_PUBLISH_DENIED,
                                                      .event = "publish_denied",
                                                      .detail = "topic not allowed",
                                                      .code = SP_MQTT_RC_NOT_AUTHORIZED});
        return;
    }
    sp_metric_inc(SP_M_PUBLISH_DENIED);
    log_refused(client, "publish_denied", publish, "topic not allowed");
    if (publish->qos > 0) {
        sp_client_acknowledge(client, publish, SP_MQTT_RC_NOT_AUTHORIZED);
    }
}

static void cannot_store(struct sp_client *client, const struct sp_mqtt_publish *publish,
                         const char *detail)
{
    log_refused(client, "publish_refused", publish, detail);
    if (client->version == SP_MQTT_5) {
        sp_client_acknowledge(client, publish, SP_MQTT_RC_QUOTA_EXCEEDED);
    } else {
        (void)sp_session_release(sp_client_session(client), publish->packet_id);
        sp_client_stall(client);
    }
}

static void after_route(struct sp_client *client, const struct sp_mqtt_publish *publish,
                        enum sp_routed routed, sp_slot_tag receipt)
{
    if (publish->qos == 0) {
        return;
    }
    if (routed == SP_ROUTED) {
        sp_client_accept(client, publish, receipt);
    } else if (routed == SP_ROUTED_STORING) {
        sp_client_in_flight(client)->unacked++;
    } else {
        cannot_store(client, publish, "cannot be stored now");
    }
    /* 3.1.1 knows no Receive Maximum: there the socket is what holds the client back. */
    if (client->version == SP_MQTT_311 && unanswered(client) >= client->receive_maximum) {
        client->paused = true;
        sp_client_mark(client);
    }
}

/* MQTT 3.1.1 cannot say no to one message: a bad record is acknowledged once it is a dead letter. */
static enum sp_routed bury(struct sp_client *client, const struct sp_mqtt_publish *publish,
                           const struct sp_record_in *in)
{
    struct sp_home *home = client->home;
    const struct sp_tickets_message message = {
        .device = sp_client_identity(client),
        .topic = publish->topic,
        .origin = publish->topic,
        .payload = publish->payload,
        .qos = 1,
        .flags = (uint8_t)(SP_RECORD_REFUSED | (client->attested ? SP_RECORD_ATTESTED : 0U) |
                           (publish->qos == 2 && publish->dup ? SP_RECORD_REPEAT : 0U)),
        .refusal = (uint8_t)(in->kind - SP_M_RECORD_WEAKER),
        .twice = publish->qos == 2,
    };
    if (!home->config->cloud.enabled) { /* there are no dead letters */
        return SP_ROUTED;
    }
    return sp_tickets_takes(&home->tickets, 1) &&
                   sp_tickets_put(home, &message, sp_client_tag(client), publish->packet_id) ==
                       SP_OK
               ? SP_ROUTED_STORING
               : SP_ROUTED_REFUSED;
}

static void refuse_record(struct sp_client *client, const struct sp_mqtt_publish *publish,
                          const struct sp_record_in *in)
{
    struct sp_sensor *sensor = sp_sensors_get(&client->home->sensors, sp_client_identity(client));
    sp_metric_inc(SP_M_RECORD_REFUSED);
    sp_metric_inc(in->kind);
    if (sp_sensor_report(sensor, in->kind)) {
        log_refused(client, "record_refused", publish, in->detail);
    }
    if (publish->qos > 0 && client->version == SP_MQTT_5) {
        sp_client_acknowledge(client, publish, SP_MQTT_RC_PAYLOAD_FORMAT_INVALID);
    } else if (publish->qos > 0) {
        after_route(client, publish, bury(client, publish, in), 0);
    }
    if (in->kind == SP_M_RECORD_OPEN && ++client->unopened >= SP_RECORDS_UNOPENED_MAX) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_RECORD_CLOSED,
                                                      .event = "record_alarm",
                                                      .detail = "ten records that do not open",
                                                      .code = SP_MQTT_RC_PAYLOAD_FORMAT_INVALID});
    }
}

/* An accepted record: to the fusions and the history, once. */
static void feed(struct sp_client *client, struct sp_view topic, const struct sp_record_in *in)
{
    struct sp_home *home = client->home;
    if (in->mark != NULL) {
        if (in->counter <= in->mark->fed) { /* sent again, because the store had refused it */
            return;
        }
        in->mark->fed = in->counter;
        sp_metric_inc(SP_M_RECORD_OPENED);
    } else if (!in->readable) {
        sp_metric_inc(SP_M_RECORD_FORWARDED);
    }
    if (!in->parsed) {
        return;
    }
    struct sp_sensor *sensor = sp_sensors_get(&home->sensors, sp_client_identity(client));
    if (sensor == NULL) {
        sp_metric_add(SP_M_FUSION_REFUSED, home->config->fusion_count > 0);
        return;
    }
    sp_sensor_note(&home->sensors, sensor, in, home->timers->wall_ms);
    if (home->fuse != NULL) {
        sp_fuse_take(home->fuse, sensor, topic, in);
    }
}

static void take_record(struct sp_client *client, const struct sp_mqtt_publish *publish,
                        struct sp_origin *origin, struct sp_record_in *in)
{
    origin->protection = (uint8_t)in->protection;
    origin->record = in;
    sp_slot_tag receipt;
    enum sp_routed routed = sp_route_publish(client->home, origin, publish, &receipt);
    if (routed != SP_ROUTED_REFUSED) {
        feed(client, publish->topic, in);
    }
    if (routed == SP_ROUTED_STORING && in->mark != NULL) {
        client->holding = true;
        client->paused = true;
        sp_client_mark(client);
    }
    after_route(client, publish, routed, receipt);
}

static void record_later(struct sp_client *client, const struct sp_mqtt_publish *publish)
{
    if (publish->qos == 0) {
        sp_metric_inc(SP_M_PUBLISH_DROPPED);
        return;
    }
    sp_metric_inc(SP_M_PUBLISH_REFUSED);
    cannot_store(client, publish, "the record cannot be judged now");
}

static void route_record(struct sp_client *client, const struct sp_mqtt_publish *publish,
                         struct sp_origin *origin, bool climate)
{
    struct sp_home *home = client->home;
    struct sp_record_in in;
    const struct sp_record_room room = {&home->keyring, &home->marks, home->timers->wall_ms};
    const struct sp_record_sender sender = {
        .device = origin->device,
        .group = sp_client_group(client),
        .allowed = climate ? (enum sp_records)client->records : SP_RECORDS_ANY,
        .climate = climate,
    };
    switch (sp_record_check(&room, &sender, publish->topic, publish->payload, &in)) {
    case SP_FATE_TAKE:
        take_record(client, publish, origin, &in);
        break;
    case SP_FATE_REPEAT:
        sp_metric_inc(SP_M_RECORD_REPEATED);
        if (publish->qos > 0) {
            sp_client_acknowledge(client, publish, SP_MQTT_RC_SUCCESS);
        }
        break;
    case SP_FATE_LATER:
        record_later(client, publish);
        break;
    case SP_FATE_REFUSE:
        refuse_record(client, publish, &in);
        break;
    }
}

/* A QoS 2 message is taken once, until its PUBREL. false: the client was closed. */
static bool take_once(struct sp_client *client, const struct sp_mqtt_publish *publish, bool *repeat)
{
    if (publish->qos != 2) {
        return true;
    }
    *repeat = sp_session_took(sp_client_session(client), publish->packet_id);
    if (*repeat) {
        return true;
    }
    uint32_t max = client->version == SP_MQTT_5 ? client->receive_maximum : UNRELEASED_311;
    enum sp_err err = sp_session_take(sp_client_session(client), publish->packet_id, max);
    if (err != SP_OK) {
        sp_client_protocol_error(client,
                                 err == SP_ERR_LIMIT ? SP_MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED
                                                     : SP_MQTT_RC_SERVER_UNAVAILABLE,
                                 "too many QoS 2 messages without PUBREL");
    }
    return err == SP_OK;
}

static void route(struct sp_client *client, const struct sp_mqtt_publish *publish)
{
    struct sp_origin origin = {
        .device = sp_client_identity(client),
        .session = sp_session_tag(sp_client_session(client)),
        .client = sp_client_tag(client),
        .attested = client->attested,
        .protection = SP_PROTECTION_CLEAR,
    };
    if (!sp_acl_may_publish(sp_client_role(client), origin.device, publish->topic)) {
        deny(client, publish);
        return;
    }
    if (!take_once(client, publish, &origin.repeat)) {
        return;
    }
    /* A protected record belongs to its topic: carried to another one it must not pass as something else. */
    bool climate = sp_acl_is_record(origin.device, publish->topic);
    if (climate || sp_record_is_protected(publish->payload, sp_client_group(client))) {
        route_record(client, publish, &origin, climate);
        return;
    }
    sp_slot_tag receipt;
    enum sp_routed routed = sp_route_publish(client->home, &origin, publish, &receipt);
    after_route(client, publish, routed, receipt);
}

/* keys judges it; the gate adds what it has accepted from the device under that key. */
static void take_ack(struct sp_client *client, const struct sp_mqtt_publish *publish)
{
    struct sp_home *home = client->home;
    struct sp_grant_ack ack;
    struct sp_msg_grant_ack head = {.ack_len = (uint32_t)publish->payload.len};
    if (publish->qos > 0) {
        sp_client_acknowledge(client, publish, SP_MQTT_RC_SUCCESS);
    }
    if (sp_ack_peek(publish->payload, &ack) != SP_OK) {
        sp_metric_inc(SP_M_GRANT_ACKS_REFUSED);
        return;
    }
    const struct sp_mark *mark =
        sp_marks_find(&home->marks, sp_client_identity(client), ack.group, ack.epoch);
    head.mark = mark != NULL ? mark->counter : 0;
    const struct sp_view parts[] = {sp_view(&head, sizeof(head)), publish->payload};
    /* When keys is down, the next one repeats the grant, and it is answered again. */
    (void)!sp_edge_send(&home->keys, SP_MSG_GRANT_ACK, sp_client_tag(client), parts, 2);
}

/* `$sp/…` is between this device and the gateway: only what a device has to say there is in turn. */
static void own_topic(struct sp_client *client, const struct sp_mqtt_publish *publish)
{
    if (client->state == SP_CLIENT_OPEN && sp_client_more(client)->group != NULL &&
        sp_view_equal(publish->topic, SP_VIEW_LIT(SP_LINK_TOPIC_ACK))) {
        take_ack(client, publish);
        return;
    }
    if (!sp_view_equal(publish->topic, SP_VIEW_LIT(SP_LINK_TOPIC_TOKEN))) {
        deny(client, publish);
        return;
    }
    if (client->guard == SP_GUARD_CHALLENGED && publish->qos > 0) {
        sp_client_acknowledge(client, publish, SP_MQTT_RC_SUCCESS);
    }
    sp_guard_token(client, publish->payload);
}

void sp_on_publish(struct sp_client *client, const struct sp_mqtt_header *header,
                   struct sp_view body)
{
    struct sp_mqtt_publish publish;
    if (!decode(client, header, body, &publish) || !keeps_to_limits(client, &publish) ||
        !resolve(client, &publish)) {
        return;
    }
    publish.retain = publish.retain && sp_client_role(client)->retain;
    sp_metric_inc(SP_M_PUBLISH_IN);
    sp_metric_add(SP_M_PUBLISH_IN_BYTES, (int64_t)publish.payload.len);
    if (sp_client_role(client)->message_rate > 0) {
        sp_client_count(client);
    }
    if (sp_view_starts(publish.topic, SP_VIEW_LIT(SP_LINK_TOPIC_PREFIX))) {
        own_topic(client, &publish);
    } else {
        route(client, &publish);
    }
}

void sp_on_guest_publish(struct sp_client *client, const struct sp_mqtt_header *header,
                         struct sp_view body)
{
    struct sp_mqtt_publish publish;
    if (!decode(client, header, body, &publish) || !keeps_to_limits(client, &publish) ||
        !resolve(client, &publish)) {
        return;
    }
    if (!sp_view_equal(publish.topic, SP_VIEW_LIT(SP_LINK_TOPIC_TOKEN))) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_GUEST_EARLY,
                                                      .event = "guest_out_of_turn",
                                                      .detail = "PUBLISH before the verdict",
                                                      .code = SP_MQTT_RC_PROTOCOL_ERROR});
        return;
    }
    own_topic(client, &publish);
}

/* false: the client was closed. */
static bool decode_ack(struct sp_client *client, const struct sp_mqtt_header *header,
                       struct sp_view body, struct sp_mqtt_ack *ack)
{
    enum sp_err err =
        sp_mqtt_decode_ack((enum sp_mqtt_version)client->version, header->type, body, ack);
    if (err != SP_OK) {
        sp_client_malformed(client, err, "acknowledgement");
    }
    return err == SP_OK;
}

void sp_on_ack(struct sp_client *client, const struct sp_mqtt_header *header, struct sp_view body)
{
    struct sp_mqtt_ack ack;
    if (!decode_ack(client, header, body, &ack)) {
        return;
    }
    bool puback = header->type == SP_MQTT_PUBACK;
    if (puback && ack.packet_id == SP_CHALLENGE_ID) {
        client->challenge_unacked = false;
    } else if (puback && ack.packet_id == SP_GRANT_ID) {
        client->grant_unacked = false;
    } else if (sp_client_session(client) != NULL) {
        /* One for a packet that is not in flight changes nothing (MQTT 5, 4.4: it may be a late one). */
        (void)sp_session_acked(client->home, sp_client_session(client), header->type,
                               ack.packet_id);
    }
    if (client->state == SP_CLIENT_OPEN) {
        sp_guard_pump(client);
        sp_client_pump_grant(client);
        sp_client_writable(client);
    }
}

void sp_on_pubrec(struct sp_client *client, const struct sp_mqtt_header *header,
                  struct sp_view body)
{
    struct sp_mqtt_ack ack;
    if (!decode_ack(client, header, body, &ack)) {
        return;
    }
    bool refused = ack.reason >= 0x80;
    bool known =
        sp_session_received(client->home, sp_client_session(client), ack.packet_id, refused);
    if (!refused) {
        sp_client_send_ack(client, SP_MQTT_PUBREL, ack.packet_id,
                           known ? SP_MQTT_RC_SUCCESS : SP_MQTT_RC_PACKET_IDENTIFIER_NOT_FOUND);
    }
}

/* The release has to be durable before PUBCOMP, or a crash would take the next message with this id for a repeat (D6). */
static bool store_release(struct sp_client *client, uint16_t packet_id)
{
    const struct sp_tickets_message release = {
        .device = sp_client_identity(client),
        .qos = 1,
        .flags = SP_RECORD_RELEASE,
        .twice = true,
    };
    struct sp_home *home = client->home;
    if (home->tickets.store.send == NULL ||
        sp_tickets_put(home, &release, sp_client_tag(client), packet_id) != SP_OK) {
        return false;
    }
    sp_client_in_flight(client)->unacked++;
    return true;
}

void sp_on_pubrel(struct sp_client *client, const struct sp_mqtt_header *header,
                  struct sp_view body)
{
    struct sp_mqtt_ack ack;
    if (!decode_ack(client, header, body, &ack)) {
        return;
    }
    bool known = sp_session_release(sp_client_session(client), ack.packet_id);
    if (sp_client_in_flight(client)->unreleased > 0) {
        sp_client_in_flight(client)->unreleased--;
    }
    if (!client->home->config->cloud.enabled) {
        sp_client_send_ack(client, SP_MQTT_PUBCOMP, ack.packet_id,
                           known ? SP_MQTT_RC_SUCCESS : SP_MQTT_RC_PACKET_IDENTIFIER_NOT_FOUND);
    } else if (!store_release(client, ack.packet_id)) {
        sp_client_no_release(client);
    }
}
