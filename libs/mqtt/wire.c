/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/mqtt/codec_internal.h"
#include "libs/mqtt/topic.h"

uint32_t sp_mqtt_read_varint(struct sp_reader *r)
{
    uint32_t value = 0;
    for (unsigned shift = 0; shift <= 21; shift += 7) {
        uint8_t byte = sp_read_u8(r);
        value |= (uint32_t)(byte & 0x7FU) << shift;
        if ((byte & 0x80U) != 0) {
            continue;
        }
        if (byte == 0 && shift > 0) {
            break; /* more bytes than needed (MQTT-1.5.5-1) */
        }
        return value;
    }
    sp_reader_fail(r, SP_ERR_MALFORMED);
    return 0;
}

void sp_mqtt_write_varint(struct sp_writer *w, uint32_t value)
{
    if (value > SP_MQTT_VARINT_MAX) {
        sp_writer_fail(w, SP_ERR_ARGUMENT);
        return;
    }
    while (value >= 0x80U) {
        sp_write_u8(w, (uint8_t)(value | 0x80U));
        value >>= 7;
    }
    sp_write_u8(w, (uint8_t)value);
}

size_t sp_mqtt_varint_size(size_t value)
{
    size_t size = 1;
    while (value >= 0x80U) {
        value >>= 7;
        size++;
    }
    return size;
}

struct sp_view sp_mqtt_read_binary(struct sp_reader *r)
{
    return sp_read_bytes(r, sp_read_u16(r));
}

struct sp_view sp_mqtt_read_text(struct sp_reader *r)
{
    struct sp_view text = sp_mqtt_read_binary(r);
    if (!sp_utf8_valid(text)) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
    }
    return text;
}

enum sp_err sp_mqtt_check_topic(struct sp_view topic)
{
    if (sp_topic_name_valid(topic)) {
        return SP_OK;
    }
    if (!sp_utf8_valid(topic)) {
        return SP_ERR_MALFORMED;
    }
    return topic.len == 0 ? SP_ERR_PROTOCOL : SP_ERR_DENIED;
}

struct sp_view sp_mqtt_read_topic(struct sp_reader *r)
{
    struct sp_view topic = sp_mqtt_read_binary(r);
    enum sp_err err = sp_mqtt_check_topic(topic);
    if (err != SP_OK) {
        sp_reader_fail(r, err);
    }
    return topic;
}

void sp_mqtt_write_binary(struct sp_writer *w, struct sp_view bytes)
{
    if (bytes.len > SP_MQTT_STRING_MAX) {
        sp_writer_fail(w, SP_ERR_ARGUMENT);
        return;
    }
    sp_write_u16(w, (uint16_t)bytes.len);
    sp_write_view(w, bytes);
}

uint16_t sp_mqtt_read_id(struct sp_reader *r)
{
    uint16_t id = sp_read_u16(r);
    if (id == 0) {
        sp_reader_fail(r, SP_ERR_PROTOCOL);
    }
    return id;
}

#define IN(type)  (1U << SP_MQTT_##type)
#define PUB_ACKS  (IN(PUBACK) | IN(PUBREC))
#define SUB_ACKS  (IN(SUBACK) | IN(UNSUBACK))
#define CONN_DISC (IN(CONNACK) | IN(DISCONNECT))

/* MQTT 5, 2.4, table 2-6 */
static const uint16_t reason_places[] = {
    [SP_MQTT_RC_SUCCESS] =
        IN(CONNACK) | PUB_ACKS | IN(PUBREL) | IN(PUBCOMP) | SUB_ACKS | IN(AUTH) | IN(DISCONNECT),
    [SP_MQTT_RC_GRANTED_QOS_1] = IN(SUBACK),
    [SP_MQTT_RC_GRANTED_QOS_2] = IN(SUBACK),
    [SP_MQTT_RC_DISCONNECT_WITH_WILL] = IN(DISCONNECT),
    [SP_MQTT_RC_NO_MATCHING_SUBSCRIBERS] = PUB_ACKS,
    [SP_MQTT_RC_NO_SUBSCRIPTION_EXISTED] = IN(UNSUBACK),
    [SP_MQTT_RC_CONTINUE_AUTHENTICATION] = IN(AUTH),
    [SP_MQTT_RC_REAUTHENTICATE] = IN(AUTH),
    [SP_MQTT_RC_UNSPECIFIED_ERROR] = CONN_DISC | PUB_ACKS | SUB_ACKS,
    [SP_MQTT_RC_MALFORMED_PACKET] = CONN_DISC,
    [SP_MQTT_RC_PROTOCOL_ERROR] = CONN_DISC,
    [SP_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR] = CONN_DISC | PUB_ACKS | SUB_ACKS,
    [SP_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION] = IN(CONNACK),
    [SP_MQTT_RC_CLIENT_IDENTIFIER_NOT_VALID] = IN(CONNACK),
    [SP_MQTT_RC_BAD_USER_NAME_OR_PASSWORD] = IN(CONNACK),
    [SP_MQTT_RC_NOT_AUTHORIZED] = CONN_DISC | PUB_ACKS | SUB_ACKS,
    [SP_MQTT_RC_SERVER_UNAVAILABLE] = IN(CONNACK),
    [SP_MQTT_RC_SERVER_BUSY] = CONN_DISC,
    [SP_MQTT_RC_BANNED] = IN(CONNACK),
    [SP_MQTT_RC_SERVER_SHUTTING_DOWN] = IN(DISCONNECT),
    [SP_MQTT_RC_BAD_AUTHENTICATION_METHOD] = CONN_DISC,
    [SP_MQTT_RC_KEEP_ALIVE_TIMEOUT] = IN(DISCONNECT),
    [SP_MQTT_RC_SESSION_TAKEN_OVER] = IN(DISCONNECT),
    [SP_MQTT_RC_TOPIC_FILTER_INVALID] = SUB_ACKS | IN(DISCONNECT),
    [SP_MQTT_RC_TOPIC_NAME_INVALID] = CONN_DISC | PUB_ACKS,
    [SP_MQTT_RC_PACKET_IDENTIFIER_IN_USE] = PUB_ACKS | SUB_ACKS,
    [SP_MQTT_RC_PACKET_IDENTIFIER_NOT_FOUND] = IN(PUBREL) | IN(PUBCOMP),
    [SP_MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED] = IN(DISCONNECT),
    [SP_MQTT_RC_TOPIC_ALIAS_INVALID] = IN(DISCONNECT),
    [SP_MQTT_RC_PACKET_TOO_LARGE] = CONN_DISC,
    [SP_MQTT_RC_MESSAGE_RATE_TOO_HIGH] = IN(DISCONNECT),
    [SP_MQTT_RC_QUOTA_EXCEEDED] = CONN_DISC | PUB_ACKS | IN(SUBACK),
    [SP_MQTT_RC_ADMINISTRATIVE_ACTION] = IN(DISCONNECT),
    [SP_MQTT_RC_PAYLOAD_FORMAT_INVALID] = CONN_DISC | PUB_ACKS,
    [SP_MQTT_RC_RETAIN_NOT_SUPPORTED] = CONN_DISC,
    [SP_MQTT_RC_QOS_NOT_SUPPORTED] = CONN_DISC,
    [SP_MQTT_RC_USE_ANOTHER_SERVER] = CONN_DISC,
    [SP_MQTT_RC_SERVER_MOVED] = CONN_DISC,
    [SP_MQTT_RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED] = IN(SUBACK) | IN(DISCONNECT),
    [SP_MQTT_RC_CONNECTION_RATE_EXCEEDED] = CONN_DISC,
    [SP_MQTT_RC_MAXIMUM_CONNECT_TIME] = IN(DISCONNECT),
    [SP_MQTT_RC_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED] = IN(SUBACK) | IN(DISCONNECT),
    [SP_MQTT_RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED] = IN(SUBACK) | IN(DISCONNECT),
};

bool sp_mqtt_reason_allowed(enum sp_mqtt_type type, uint8_t reason)
{
    size_t count = sizeof(reason_places) / sizeof(reason_places[0]);
    return reason < count && (reason_places[reason] & (1U << type)) != 0;
}

uint8_t sp_mqtt_connack_code_311(uint8_t reason)
{
    static const struct {
        uint8_t reason;
        uint8_t code;
    } codes[] = {
        {SP_MQTT_RC_SUCCESS, 0},
        {SP_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION, 1},
        {SP_MQTT_RC_CLIENT_IDENTIFIER_NOT_VALID, 2},
        {SP_MQTT_RC_UNSPECIFIED_ERROR, 3},
        {SP_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR, 3},
        {SP_MQTT_RC_SERVER_UNAVAILABLE, 3},
        {SP_MQTT_RC_SERVER_BUSY, 3},
        {SP_MQTT_RC_QUOTA_EXCEEDED, 3},
        {SP_MQTT_RC_USE_ANOTHER_SERVER, 3},
        {SP_MQTT_RC_SERVER_MOVED, 3},
        {SP_MQTT_RC_CONNECTION_RATE_EXCEEDED, 3},
        {SP_MQTT_RC_BAD_USER_NAME_OR_PASSWORD, 4},
    };
    for (size_t i = 0; i < sizeof(codes) / sizeof(codes[0]); i++) {
        if (codes[i].reason == reason) {
            return codes[i].code;
        }
    }
    return 5; /* refused, and trying again does not help */
}
