/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file For the tests and the fuzzer: one packet of any type, decoded, encoded and compared. */
#ifndef SP_LIBS_MQTT_ANY_PACKET_TEST_H
#define SP_LIBS_MQTT_ANY_PACKET_TEST_H

#include "libs/mqtt/mqtt.h"

#include <string.h>

#define ANY_FILTERS 64

struct any_packet {
    enum sp_mqtt_type type;
    size_t size; /* of the whole packet */
    union {
        struct sp_mqtt_connect connect;
        struct sp_mqtt_connack connack;
        struct sp_mqtt_publish publish;
        struct sp_mqtt_ack ack;
        struct sp_mqtt_subscribe subscribe;
        struct sp_mqtt_suback suback;
        struct sp_mqtt_reasoned reasoned;
    };
};

static inline enum sp_err any_decode_body(enum sp_mqtt_version version,
                                          const struct sp_mqtt_header *h, struct sp_view body,
                                          struct any_packet *out)
{
    switch (h->type) {
    case SP_MQTT_CONNECT:
        return sp_mqtt_decode_connect(body, &out->connect);
    case SP_MQTT_CONNACK:
        return sp_mqtt_decode_connack(version, body, &out->connack);
    case SP_MQTT_PUBLISH:
        return sp_mqtt_decode_publish(version, h->flags, body, &out->publish);
    case SP_MQTT_PUBACK:
    case SP_MQTT_PUBREC:
    case SP_MQTT_PUBREL:
    case SP_MQTT_PUBCOMP:
        return sp_mqtt_decode_ack(version, h->type, body, &out->ack);
    case SP_MQTT_SUBSCRIBE:
    case SP_MQTT_UNSUBSCRIBE:
        return sp_mqtt_decode_subscribe(version, h->type, body, &out->subscribe);
    case SP_MQTT_SUBACK:
    case SP_MQTT_UNSUBACK:
        return sp_mqtt_decode_suback(version, h->type, body, &out->suback);
    case SP_MQTT_DISCONNECT:
    case SP_MQTT_AUTH:
        return sp_mqtt_decode_reasoned(version, h->type, body, &out->reasoned);
    case SP_MQTT_PINGREQ:
    case SP_MQTT_PINGRESP:
        return SP_OK;
    }
    return SP_ERR_MALFORMED;
}

/** The first packet of `in`; a CONNECT decides about its version itself. */
static inline enum sp_err any_decode(enum sp_mqtt_version version, struct sp_view in,
                                     struct any_packet *out)
{
    struct sp_mqtt_header h = {.type = SP_MQTT_CONNECT};
    memset(out, 0, sizeof(*out));
    SP_TRY(sp_mqtt_peek(in, 1000000, &h));
    out->type = h.type;
    out->size = (size_t)h.header_len + h.body_len;
    if (in.len < out->size) {
        return SP_ERR_AGAIN;
    }
    struct sp_view body = sp_view_first(sp_view_from(in, h.header_len), h.body_len);
    return any_decode_body(version, &h, body, out);
}

static inline void any_encode_subscribe(struct sp_writer *w, enum sp_mqtt_version version,
                                        const struct any_packet *packet)
{
    struct sp_mqtt_filter filters[ANY_FILTERS];
    struct sp_view rest = packet->subscribe.filters;
    size_t count = 0;
    while (count < ANY_FILTERS && sp_mqtt_filter_next(packet->type, &rest, &filters[count])) {
        count++;
    }
    sp_mqtt_encode_subscribe(w, version, packet->type, &packet->subscribe, filters, count);
}

static inline void any_encode(struct sp_writer *w, enum sp_mqtt_version version,
                              const struct any_packet *packet)
{
    switch (packet->type) {
    case SP_MQTT_CONNECT:
        sp_mqtt_encode_connect(w, &packet->connect);
        return;
    case SP_MQTT_CONNACK:
        sp_mqtt_encode_connack(w, version, &packet->connack);
        return;
    case SP_MQTT_PUBLISH:
        sp_mqtt_encode_publish(w, version, &packet->publish);
        return;
    case SP_MQTT_PUBACK:
    case SP_MQTT_PUBREC:
    case SP_MQTT_PUBREL:
    case SP_MQTT_PUBCOMP:
        sp_mqtt_encode_ack(w, version, packet->type, &packet->ack);
        return;
    case SP_MQTT_SUBSCRIBE:
    case SP_MQTT_UNSUBSCRIBE:
        any_encode_subscribe(w, version, packet);
        return;
    case SP_MQTT_SUBACK:
    case SP_MQTT_UNSUBACK:
        sp_mqtt_encode_suback(w, version, packet->type, &packet->suback);
        return;
    case SP_MQTT_DISCONNECT:
    case SP_MQTT_AUTH:
        sp_mqtt_encode_reasoned(w, version, packet->type, &packet->reasoned);
        return;
    case SP_MQTT_PINGREQ:
    case SP_MQTT_PINGRESP:
        sp_mqtt_encode_ping(w, packet->type);
        return;
    }
}

static inline bool any_users_equal(struct sp_view a, struct sp_view b)
{
    struct sp_view name_a, value_a, name_b, value_b;
    while (sp_mqtt_user_next(&a, &name_a, &value_a)) {
        if (!sp_mqtt_user_next(&b, &name_b, &value_b) || !sp_view_equal(name_a, name_b) ||
            !sp_view_equal(value_a, value_b)) {
            return false;
        }
    }
    return !sp_mqtt_user_next(&b, &name_b, &value_b);
}

static inline bool any_props_equal(const struct sp_mqtt_props *a, const struct sp_mqtt_props *b)
{
    bool numbers = memcmp(a, b, offsetof(struct sp_mqtt_props, content_type)) == 0;
    return numbers && sp_view_equal(a->content_type, b->content_type) &&
           sp_view_equal(a->response_topic, b->response_topic) &&
           sp_view_equal(a->correlation_data, b->correlation_data) &&
           sp_view_equal(a->assigned_client_id, b->assigned_client_id) &&
           sp_view_equal(a->auth_method, b->auth_method) &&
           sp_view_equal(a->auth_data, b->auth_data) &&
           sp_view_equal(a->response_info, b->response_info) &&
           sp_view_equal(a->server_reference, b->server_reference) &&
           sp_view_equal(a->reason_string, b->reason_string) && a->user_count == b->user_count &&
           any_users_equal(a->user, b->user);
}

static inline bool any_connects_equal(const struct sp_mqtt_connect *a,
                                      const struct sp_mqtt_connect *b)
{
    return a->version == b->version && a->clean_start == b->clean_start &&
           a->keep_alive == b->keep_alive && sp_view_equal(a->client_id, b->client_id) &&
           a->has_user_name == b->has_user_name && a->has_password == b->has_password &&
           sp_view_equal(a->user_name, b->user_name) && sp_view_equal(a->password, b->password) &&
           a->will.present == b->will.present && a->will.retain == b->will.retain &&
           a->will.qos == b->will.qos && sp_view_equal(a->will.topic, b->will.topic) &&
           sp_view_equal(a->will.payload, b->will.payload) &&
           any_props_equal(&a->will.props, &b->will.props) && any_props_equal(&a->props, &b->props);
}

static inline bool any_publishes_equal(const struct sp_mqtt_publish *a,
                                       const struct sp_mqtt_publish *b)
{
    return a->dup == b->dup && a->retain == b->retain && a->qos == b->qos &&
           a->packet_id == b->packet_id && sp_view_equal(a->topic, b->topic) &&
           sp_view_equal(a->payload, b->payload) && any_props_equal(&a->props, &b->props);
}

static inline bool any_equal(const struct any_packet *a, const struct any_packet *b)
{
    if (a->type != b->type) {
        return false;
    }
    switch (a->type) {
    case SP_MQTT_CONNECT:
        return any_connects_equal(&a->connect, &b->connect);
    case SP_MQTT_CONNACK:
        return a->connack.session_present == b->connack.session_present &&
               a->connack.reason == b->connack.reason &&
               any_props_equal(&a->connack.props, &b->connack.props);
    case SP_MQTT_PUBLISH:
        return any_publishes_equal(&a->publish, &b->publish);
    case SP_MQTT_PUBACK:
    case SP_MQTT_PUBREC:
    case SP_MQTT_PUBREL:
    case SP_MQTT_PUBCOMP:
        return a->ack.packet_id == b->ack.packet_id && a->ack.reason == b->ack.reason &&
               any_props_equal(&a->ack.props, &b->ack.props);
    case SP_MQTT_SUBSCRIBE:
    case SP_MQTT_UNSUBSCRIBE:
        return a->subscribe.packet_id == b->subscribe.packet_id &&
               a->subscribe.filter_count == b->subscribe.filter_count &&
               sp_view_equal(a->subscribe.filters, b->subscribe.filters) &&
               any_props_equal(&a->subscribe.props, &b->subscribe.props);
    case SP_MQTT_SUBACK:
    case SP_MQTT_UNSUBACK:
        return a->suback.packet_id == b->suback.packet_id &&
               sp_view_equal(a->suback.codes, b->suback.codes) &&
               any_props_equal(&a->suback.props, &b->suback.props);
    case SP_MQTT_DISCONNECT:
    case SP_MQTT_AUTH:
        return a->reasoned.reason == b->reasoned.reason &&
               any_props_equal(&a->reasoned.props, &b->reasoned.props);
    case SP_MQTT_PINGREQ:
    case SP_MQTT_PINGRESP:
        return true;
    }
    return false;
}

#endif
