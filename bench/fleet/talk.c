/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/talk.h"

#include <stdio.h>
#include <string.h>

static void refuse(struct sp_talk_event *event, const char *packet, uint8_t reason,
                   struct sp_view text)
{
    event->kind = SP_TALK_REFUSED;
    event->reason = reason;
    snprintf(event->text, sizeof(event->text), "%s 0x%02X %.*s", packet, reason, (int)text.len,
             text.len == 0 ? "" : (const char *)text.ptr);
}

static void broken(struct sp_talk_event *event, const char *what)
{
    event->kind = SP_TALK_REFUSED;
    event->reason = 0;
    snprintf(event->text, sizeof(event->text), "%s", what);
}

static void add_method(const struct sp_talk *talk, struct sp_mqtt_props *props)
{
    props->present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD);
    props->auth_method = sp_view_str(sp_link_method(talk->binding));
}

void sp_talk_start(struct sp_talk *talk, struct sp_writer *w)
{
    struct sp_mqtt_connect connect = {
        .version = SP_MQTT_5,
        .clean_start = true,
        .keep_alive = talk->keep_alive_s,
        .client_id = talk->identity,
    };
    if (talk->attester != NULL) {
        add_method(talk, &connect.props);
    }
    talk->challenged = false;
    talk->admitted = false;
    sp_mqtt_encode_connect(w, &connect);
}

static enum sp_err make_token(const struct sp_talk *talk, struct sp_view nonce, uint8_t *token,
                              size_t *len)
{
    struct sp_attester_question question = {
        .binding = talk->binding,
        .identity = talk->identity,
        .nonce = nonce,
        .exporter = SP_VIEW_ARRAY(talk->exporter),
    };
    return sp_attester_answer(talk->attester, &question, token, len);
}

static void on_auth(struct sp_talk *talk, struct sp_view body, struct sp_writer *reply,
                    struct sp_talk_event *event)
{
    struct sp_mqtt_reasoned auth;
    uint8_t token[SP_ATTESTER_TOKEN_MAX];
    size_t len = 0;
    if (talk->attester == NULL || talk->admitted || talk->challenged ||
        sp_mqtt_decode_reasoned(SP_MQTT_5, SP_MQTT_AUTH, body, &auth) != SP_OK ||
        auth.reason != SP_MQTT_RC_CONTINUE_AUTHENTICATION ||
        !sp_view_equal(auth.props.auth_method, sp_view_str(sp_link_method(talk->binding))) ||
        make_token(talk, auth.props.auth_data, token, &len) != SP_OK) {
        broken(event, "unexpected AUTH");
        return;
    }
    talk->challenged = true;
    struct sp_mqtt_reasoned answer = {.reason = SP_MQTT_RC_CONTINUE_AUTHENTICATION};
    add_method(talk, &answer.props);
    answer.props.present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA);
    answer.props.auth_data = sp_view(token, len);
    sp_mqtt_encode_reasoned(reply, SP_MQTT_5, SP_MQTT_AUTH, &answer);
}

static void on_connack(struct sp_talk *talk, struct sp_view body, struct sp_talk_event *event)
{
    struct sp_mqtt_connack ack;
    if (talk->admitted || sp_mqtt_decode_connack(SP_MQTT_5, body, &ack) != SP_OK) {
        broken(event, "unexpected CONNACK");
        return;
    }
    if (ack.reason != SP_MQTT_RC_SUCCESS) {
        refuse(event, "CONNACK", ack.reason, ack.props.reason_string);
        return;
    }
    if (talk->attester != NULL && !talk->challenged) {
        broken(event, "admitted without a challenge");
        return;
    }
    talk->receive_maximum = UINT16_MAX;
    if ((ack.props.present & SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM)) != 0) {
        talk->receive_maximum = ack.props.receive_maximum;
    }
    if ((ack.props.present & SP_MQTT_HAS(SP_MQTT_P_SERVER_KEEP_ALIVE)) != 0) {
        talk->keep_alive_s = ack.props.server_keep_alive;
    }
    talk->admitted = true;
    event->kind = SP_TALK_ADMITTED;
}

/* What the gateway itself says on `$sp/`; a challenge in mid-session is answered there too. */
static void on_link_message(const struct sp_talk *talk, const struct sp_mqtt_publish *message,
                            struct sp_writer *reply, struct sp_talk_event *event)
{
    if (!sp_view_equal(message->topic, SP_VIEW_LIT(SP_LINK_TOPIC_CHALLENGE))) {
        return;
    }
    uint8_t token[SP_ATTESTER_TOKEN_MAX];
    size_t len = 0;
    if (talk->attester == NULL || make_token(talk, message->payload, token, &len) != SP_OK) {
        broken(event, "unexpected challenge");
        return;
    }
    struct sp_mqtt_publish answer = {.topic = SP_VIEW_INIT(SP_LINK_TOPIC_TOKEN),
                                     .payload = sp_view(token, len)};
    sp_mqtt_encode_publish(reply, SP_MQTT_5, &answer);
}

static void on_publish(const struct sp_talk *talk, const struct sp_mqtt_header *header,
                       struct sp_view body, struct sp_writer *reply, struct sp_talk_event *event)
{
    struct sp_mqtt_publish *message = &event->message;
    if (!talk->admitted ||
        sp_mqtt_decode_publish(SP_MQTT_5, header->flags, body, message) != SP_OK ||
        message->qos > 1) {
        broken(event, "unexpected PUBLISH");
        return;
    }
    if (message->qos == 1) {
        struct sp_mqtt_ack ack = {.packet_id = message->packet_id};
        sp_mqtt_encode_ack(reply, SP_MQTT_5, SP_MQTT_PUBACK, &ack);
    }
    if (sp_view_starts(message->topic, SP_VIEW_LIT(SP_LINK_TOPIC_PREFIX))) {
        on_link_message(talk, message, reply, event);
        return;
    }
    event->kind = SP_TALK_MESSAGE;
}

static void on_puback(struct sp_view body, struct sp_talk_event *event)
{
    struct sp_mqtt_ack ack;
    if (sp_mqtt_decode_ack(SP_MQTT_5, SP_MQTT_PUBACK, body, &ack) != SP_OK) {
        broken(event, "broken PUBACK");
        return;
    }
    event->kind = SP_TALK_ACKED;
    event->packet_id = ack.packet_id;
    event->reason = ack.reason;
}

static void on_suback(struct sp_view body, struct sp_talk_event *event)
{
    struct sp_mqtt_suback ack;
    if (sp_mqtt_decode_suback(SP_MQTT_5, SP_MQTT_SUBACK, body, &ack) != SP_OK) {
        broken(event, "broken SUBACK");
        return;
    }
    event->kind = SP_TALK_SUBSCRIBED;
    for (size_t i = 0; i < ack.codes.len; i++) {
        if (ack.codes.ptr[i] >= SP_MQTT_RC_UNSPECIFIED_ERROR) {
            refuse(event, "SUBACK", ack.codes.ptr[i], ack.props.reason_string);
        }
    }
}

static void on_disconnect(struct sp_view body, struct sp_talk_event *event)
{
    struct sp_mqtt_reasoned bye;
    if (sp_mqtt_decode_reasoned(SP_MQTT_5, SP_MQTT_DISCONNECT, body, &bye) != SP_OK) {
        broken(event, "broken DISCONNECT");
        return;
    }
    refuse(event, "DISCONNECT", bye.reason, bye.props.reason_string);
}

void sp_talk_packet(struct sp_talk *talk, const struct sp_mqtt_header *header, struct sp_view body,
                    struct sp_writer *reply, struct sp_talk_event *event)
{
    event->kind = SP_TALK_NOTHING;
    switch ((int)header->type) {
    case SP_MQTT_PUBLISH:
        on_publish(talk, header, body, reply, event);
        break;
    case SP_MQTT_PUBACK:
        on_puback(body, event);
        break;
    case SP_MQTT_AUTH:
        on_auth(talk, body, reply, event);
        break;
    case SP_MQTT_CONNACK:
        on_connack(talk, body, event);
        break;
    case SP_MQTT_SUBACK:
        on_suback(body, event);
        break;
    case SP_MQTT_DISCONNECT:
        on_disconnect(body, event);
        break;
    case SP_MQTT_PINGRESP:
        break;
    default:
        broken(event, "a packet that no server sends");
        break;
    }
}
