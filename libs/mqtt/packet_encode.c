/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Each encoder first adds up the length of the body, which stands in front of it on the wire. */
#include "libs/mqtt/codec_internal.h"

/* The length of a body in the making; one part that cannot be encoded spoils it. */
struct sizer {
    size_t size;
    size_t props;
    size_t will_props;
    bool bad;
};

static void add_binary(struct sizer *s, struct sp_view bytes)
{
    s->bad = s->bad || bytes.len > SP_MQTT_STRING_MAX;
    s->size += 2 + bytes.len;
}

/* Adds a property block with its length, and returns the block's own size. */
static size_t add_props(struct sizer *s, const struct sp_mqtt_props *props, unsigned place)
{
    size_t size = 0;
    if (!sp_mqtt_props_empty(props) && !sp_mqtt_props_size(props, place, &size)) {
        s->bad = true;
        return 0;
    }
    s->size += sp_mqtt_varint_size(size) + size;
    return size;
}

/* Writes the fixed header and makes sure that the whole packet fits; false when it is not to be. */
static bool begin(struct sp_writer *w, enum sp_mqtt_type type, uint8_t flags, const struct sizer *s)
{
    if (s->bad || s->size > SP_MQTT_VARINT_MAX) {
        sp_writer_fail(w, SP_ERR_ARGUMENT);
        return false;
    }
    if (w->err == SP_OK && 1 + sp_mqtt_varint_size(s->size) + s->size > w->cap - w->used) {
        sp_writer_fail(w, SP_ERR_SPACE);
    }
    sp_write_u8(w, (uint8_t)((unsigned)type << 4 | flags));
    sp_mqtt_write_varint(w, (uint32_t)s->size);
    return w->err == SP_OK;
}

static bool version_valid(enum sp_mqtt_version version)
{
    return version == SP_MQTT_5 || version == SP_MQTT_311;
}

static uint8_t connect_flags(const struct sp_mqtt_connect *packet)
{
    unsigned flags = packet->clean_start ? 0x02U : 0;
    if (packet->will.present) {
        flags |= 0x04U | (unsigned)packet->will.qos << 3 | (packet->will.retain ? 0x20U : 0);
    }
    flags |= packet->has_password ? 0x40U : 0;
    flags |= packet->has_user_name ? 0x80U : 0;
    return (uint8_t)flags;
}

static void size_connect(const struct sp_mqtt_connect *packet, struct sizer *s)
{
    bool v5 = packet->version == SP_MQTT_5;
    bool password_alone = packet->has_password && !packet->has_user_name;
    s->bad = !version_valid(packet->version) || packet->will.qos > 2 || (!v5 && password_alone);
    s->size = 10;
    if (v5) {
        s->props = add_props(s, &packet->props, SP_MQTT_CONNECT);
    }
    add_binary(s, packet->client_id);
    if (packet->will.present) {
        if (v5) {
            s->will_props = add_props(s, &packet->will.props, SP_MQTT_PLACE_WILL);
        }
        add_binary(s, packet->will.topic);
        add_binary(s, packet->will.payload);
    }
    if (packet->has_user_name) {
        add_binary(s, packet->user_name);
    }
    if (packet->has_password) {
        add_binary(s, packet->password);
    }
}

void sp_mqtt_encode_connect(struct sp_writer *w, const struct sp_mqtt_connect *packet)
{
    struct sizer s = {0};
    size_connect(packet, &s);
    if (!begin(w, SP_MQTT_CONNECT, 0, &s)) {
        return;
    }
    sp_mqtt_write_binary(w, SP_VIEW_LIT("MQTT"));
    sp_write_u8(w, (uint8_t)packet->version);
    sp_write_u8(w, connect_flags(packet));
    sp_write_u16(w, packet->keep_alive);
    if (packet->version == SP_MQTT_5) {
        sp_mqtt_write_props(w, &packet->props, s.props);
    }
    sp_mqtt_write_binary(w, packet->client_id);
    if (packet->will.present) {
        if (packet->version == SP_MQTT_5) {
            sp_mqtt_write_props(w, &packet->will.props, s.will_props);
        }
        sp_mqtt_write_binary(w, packet->will.topic);
        sp_mqtt_write_binary(w, packet->will.payload);
    }
    if (packet->has_user_name) {
        sp_mqtt_write_binary(w, packet->user_name);
    }
    if (packet->has_password) {
        sp_mqtt_write_binary(w, packet->password);
    }
}

void sp_mqtt_encode_connack(struct sp_writer *w, enum sp_mqtt_version version,
                            const struct sp_mqtt_connack *packet)
{
    struct sizer s = {.size = 2, .bad = packet->session_present && packet->reason != 0};
    uint8_t reason = packet->reason;
    if (version == SP_MQTT_5) {
        s.props = add_props(&s, &packet->props, SP_MQTT_CONNACK);
    } else if (reason > 5) {
        reason = sp_mqtt_connack_code_311(reason);
    }
    if (!begin(w, SP_MQTT_CONNACK, 0, &s)) {
        return;
    }
    sp_write_u8(w, packet->session_present ? 1 : 0);
    sp_write_u8(w, reason);
    if (version == SP_MQTT_5) {
        sp_mqtt_write_props(w, &packet->props, s.props);
    }
}

static void size_publish(enum sp_mqtt_version version, const struct sp_mqtt_publish *packet,
                         struct sizer *s)
{
    s->bad = packet->qos > 2 || (packet->dup && packet->qos == 0) ||
             packet->payload.len > SP_MQTT_VARINT_MAX;
    s->size = packet->payload.len + (packet->qos == 0 ? 0 : 2);
    add_binary(s, packet->topic);
    if (version == SP_MQTT_5) {
        s->props = add_props(s, &packet->props, SP_MQTT_PUBLISH);
    }
}

void sp_mqtt_encode_publish(struct sp_writer *w, enum sp_mqtt_version version,
                            const struct sp_mqtt_publish *packet)
{
    struct sizer s = {0};
    size_publish(version, packet, &s);
    s.bad = s.bad || (packet->qos != 0 && packet->packet_id == 0);
    unsigned flags = (packet->dup ? 8U : 0) | (packet->qos & 3U) << 1 | (packet->retain ? 1U : 0);
    if (!begin(w, SP_MQTT_PUBLISH, (uint8_t)flags, &s)) {
        return;
    }
    sp_mqtt_write_binary(w, packet->topic);
    if (packet->qos != 0) {
        sp_write_u16(w, packet->packet_id);
    }
    if (version == SP_MQTT_5) {
        sp_mqtt_write_props(w, &packet->props, s.props);
    }
    sp_write_view(w, packet->payload);
}

size_t sp_mqtt_publish_size(enum sp_mqtt_version version, const struct sp_mqtt_publish *packet)
{
    struct sizer s = {0};
    size_publish(version, packet, &s);
    if (s.bad || s.size > SP_MQTT_VARINT_MAX) {
        return 0;
    }
    return 1 + sp_mqtt_varint_size(s.size) + s.size;
}

void sp_mqtt_encode_ack(struct sp_writer *w, enum sp_mqtt_version version, enum sp_mqtt_type type,
                        const struct sp_mqtt_ack *packet)
{
    bool v5 = version == SP_MQTT_5;
    bool props = v5 && !sp_mqtt_props_empty(&packet->props);
    bool reason = v5 && (packet->reason != 0 || props);
    struct sizer s = {.size = reason ? 3 : 2, .bad = packet->packet_id == 0};
    if (props) {
        s.props = add_props(&s, &packet->props, type);
    }
    if (!begin(w, type, type == SP_MQTT_PUBREL ? 2 : 0, &s)) {
        return;
    }
    sp_write_u16(w, packet->packet_id);
    if (reason) {
        sp_write_u8(w, packet->reason);
    }
    if (props) {
        sp_mqtt_write_props(w, &packet->props, s.props);
    }
}

static uint8_t filter_options(enum sp_mqtt_version version, const struct sp_mqtt_filter *filter)
{
    if (version != SP_MQTT_5) {
        return filter->qos;
    }
    return (uint8_t)(filter->qos | (filter->no_local ? 4U : 0) |
                     (filter->retain_as_published ? 8U : 0) |
                     (unsigned)filter->retain_handling << 4);
}

void sp_mqtt_encode_subscribe(struct sp_writer *w, enum sp_mqtt_version version,
                              enum sp_mqtt_type type, const struct sp_mqtt_subscribe *packet,
                              const struct sp_mqtt_filter *filters, size_t count)
{
    bool subscribe = type == SP_MQTT_SUBSCRIBE;
    struct sizer s = {.size = 2, .bad = packet->packet_id == 0 || count == 0};
    if (version == SP_MQTT_5) {
        s.props = add_props(&s, &packet->props, type);
    }
    for (size_t i = 0; i < count; i++) {
        add_binary(&s, filters[i].filter);
        s.size += subscribe ? 1 : 0;
        s.bad = s.bad || filters[i].filter.len == 0 || filters[i].qos > 2 ||
                filters[i].retain_handling > 2;
    }
    if (!begin(w, type, 2, &s)) {
        return;
    }
    sp_write_u16(w, packet->packet_id);
    if (version == SP_MQTT_5) {
        sp_mqtt_write_props(w, &packet->props, s.props);
    }
    for (size_t i = 0; i < count; i++) {
        sp_mqtt_write_binary(w, filters[i].filter);
        if (subscribe) {
            sp_write_u8(w, filter_options(version, &filters[i]));
        }
    }
}

void sp_mqtt_encode_suback(struct sp_writer *w, enum sp_mqtt_version version,
                           enum sp_mqtt_type type, const struct sp_mqtt_suback *packet)
{
    bool v5 = version == SP_MQTT_5;
    struct sp_view codes = packet->codes;
    if (!v5 && type == SP_MQTT_UNSUBACK) {
        codes = (struct sp_view){NULL, 0};
    }
    bool codes_missing = packet->codes.len == 0 && (v5 || type == SP_MQTT_SUBACK);
    struct sizer s = {.size = 2 + codes.len,
                      .bad = packet->packet_id == 0 || codes_missing ||
                             codes.len > SP_MQTT_VARINT_MAX};
    if (v5) {
        s.props = add_props(&s, &packet->props, type);
    }
    if (!begin(w, type, 0, &s)) {
        return;
    }
    sp_write_u16(w, packet->packet_id);
    if (v5) {
        sp_mqtt_write_props(w, &packet->props, s.props);
        sp_write_view(w, codes);
        return;
    }
    for (size_t i = 0; i < codes.len; i++) {
        sp_write_u8(w, codes.ptr[i] >= 0x80 ? 0x80 : codes.ptr[i]);
    }
}

void sp_mqtt_encode_reasoned(struct sp_writer *w, enum sp_mqtt_version version,
                             enum sp_mqtt_type type, const struct sp_mqtt_reasoned *packet)
{
    bool v5 = version == SP_MQTT_5;
    bool props = v5 && !sp_mqtt_props_empty(&packet->props);
    bool reason = v5 && (packet->reason != 0 || props);
    struct sizer s = {.size = reason ? 1 : 0, .bad = !v5 && type == SP_MQTT_AUTH};
    if (props) {
        s.props = add_props(&s, &packet->props, type);
    }
    if (!begin(w, type, 0, &s)) {
        return;
    }
    if (reason) {
        sp_write_u8(w, packet->reason);
    }
    if (props) {
        sp_mqtt_write_props(w, &packet->props, s.props);
    }
}

void sp_mqtt_encode_ping(struct sp_writer *w, enum sp_mqtt_type type)
{
    struct sizer s = {0};
    (void)begin(w, type, 0, &s);
}
