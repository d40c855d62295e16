/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/mqtt/codec_internal.h"

#define CONNECT_USER_NAME   0x80U
#define CONNECT_PASSWORD    0x40U
#define CONNECT_WILL_RETAIN 0x20U
#define CONNECT_WILL        0x04U
#define CONNECT_CLEAN       0x02U
#define CONNECT_RESERVED    0x01U

/* The low bits of the first byte where they are fixed (MQTT 5, 2.1.3). */
static uint8_t fixed_flags(unsigned type)
{
    return type == SP_MQTT_PUBREL || type == SP_MQTT_SUBSCRIBE || type == SP_MQTT_UNSUBSCRIBE ? 2
                                                                                              : 0;
}

static enum sp_err peek_length(struct sp_view in, struct sp_mqtt_header *out)
{
    uint32_t value = 0;
    for (unsigned i = 1; i <= 4; i++) {
        if (i >= in.len) {
            return SP_ERR_AGAIN;
        }
        uint8_t byte = in.ptr[i];
        value |= (uint32_t)(byte & 0x7FU) << (7 * (i - 1));
        if ((byte & 0x80U) == 0) {
            out->header_len = (uint8_t)(i + 1);
            out->body_len = value;
            return byte == 0 && i > 1 ? SP_ERR_MALFORMED : SP_OK;
        }
    }
    return SP_ERR_MALFORMED;
}

enum sp_err sp_mqtt_peek(struct sp_view in, uint32_t max_body, struct sp_mqtt_header *out)
{
    if (in.len == 0) {
        return SP_ERR_AGAIN;
    }
    unsigned type = in.ptr[0] >> 4;
    uint8_t flags = in.ptr[0] & 0x0FU;
    if (type == 0 || (type != SP_MQTT_PUBLISH && flags != fixed_flags(type))) {
        return SP_ERR_MALFORMED;
    }
    struct sp_mqtt_header header = {.type = (enum sp_mqtt_type)type, .flags = flags};
    SP_TRY(peek_length(in, &header));
    bool ping = type == SP_MQTT_PINGREQ || type == SP_MQTT_PINGRESP;
    if (ping && header.body_len != 0) {
        return SP_ERR_MALFORMED;
    }
    if (header.body_len > max_body) {
        return SP_ERR_LIMIT;
    }
    *out = header;
    return SP_OK;
}

static void read_props_of(struct sp_reader *r, enum sp_mqtt_version version, unsigned place,
                          struct sp_mqtt_props *out)
{
    if (version == SP_MQTT_5) {
        sp_mqtt_read_props(r, place, out);
    }
}

/* Name and level (3.1.2.1, 3.1.2.2); what is not MQTT at all is malformed. */
static enum sp_err read_protocol(struct sp_reader *r, enum sp_mqtt_version *version)
{
    struct sp_view name = sp_mqtt_read_binary(r);
    uint8_t level = sp_read_u8(r);
    if (r->err != SP_OK) {
        return r->err;
    }
    if (sp_view_equal(name, SP_VIEW_LIT("MQTT"))) {
        *version = (enum sp_mqtt_version)level;
        return level == SP_MQTT_311 || level == SP_MQTT_5 ? SP_OK : SP_ERR_UNSUPPORTED;
    }
    bool mqtt_31 = level == 3 && sp_view_equal(name, SP_VIEW_LIT("MQIsdp"));
    return mqtt_31 ? SP_ERR_UNSUPPORTED : SP_ERR_MALFORMED;
}

static bool connect_flags_valid(enum sp_mqtt_version version, uint8_t flags)
{
    bool will = (flags & CONNECT_WILL) != 0;
    unsigned will_qos = flags >> 3 & 3U;
    if ((flags & CONNECT_RESERVED) != 0 || will_qos == 3) {
        return false;
    }
    if (!will && (will_qos != 0 || (flags & CONNECT_WILL_RETAIN) != 0)) {
        return false;
    }
    bool password_alone = (flags & CONNECT_PASSWORD) != 0 && (flags & CONNECT_USER_NAME) == 0;
    return version == SP_MQTT_5 || !password_alone; /* MQTT-3.1.2-22 of 3.1.1 */
}

static void read_will(struct sp_reader *r, enum sp_mqtt_version version, uint8_t flags,
                      struct sp_mqtt_will *out)
{
    out->present = true;
    out->qos = flags >> 3 & 3U;
    out->retain = (flags & CONNECT_WILL_RETAIN) != 0;
    read_props_of(r, version, SP_MQTT_PLACE_WILL, &out->props);
    out->topic = sp_mqtt_read_topic(r);
    out->payload = sp_mqtt_read_binary(r);
}

enum sp_err sp_mqtt_decode_connect(struct sp_view body, struct sp_mqtt_connect *out)
{
    struct sp_mqtt_connect packet = {0};
    struct sp_reader r;
    sp_reader_init(&r, body);
    SP_TRY(read_protocol(&r, &packet.version));
    uint8_t flags = sp_read_u8(&r);
    if (!connect_flags_valid(packet.version, flags)) {
        return SP_ERR_MALFORMED;
    }
    packet.clean_start = (flags & CONNECT_CLEAN) != 0;
    packet.has_user_name = (flags & CONNECT_USER_NAME) != 0;
    packet.has_password = (flags & CONNECT_PASSWORD) != 0;
    packet.keep_alive = sp_read_u16(&r);
    read_props_of(&r, packet.version, SP_MQTT_CONNECT, &packet.props);
    packet.client_id = sp_mqtt_read_text(&r);
    if ((flags & CONNECT_WILL) != 0) {
        read_will(&r, packet.version, flags, &packet.will);
    }
    if (packet.has_user_name) {
        packet.user_name = sp_mqtt_read_text(&r);
    }
    if (packet.has_password) {
        packet.password = sp_mqtt_read_binary(&r);
    }
    SP_TRY(sp_reader_finish(&r));
    *out = packet;
    return SP_OK;
}

enum sp_err sp_mqtt_decode_connack(enum sp_mqtt_version version, struct sp_view body,
                                   struct sp_mqtt_connack *out)
{
    struct sp_mqtt_connack packet = {0};
    struct sp_reader r;
    sp_reader_init(&r, body);
    uint8_t flags = sp_read_u8(&r);
    packet.session_present = flags == 1;
    packet.reason = sp_read_u8(&r);
    if (flags > 1) {
        sp_reader_fail(&r, SP_ERR_MALFORMED);
    }
    bool known = version == SP_MQTT_5 ? sp_mqtt_reason_allowed(SP_MQTT_CONNACK, packet.reason)
                                      : packet.reason <= 5;
    if (!known || (packet.session_present && packet.reason != 0)) {
        sp_reader_fail(&r, SP_ERR_PROTOCOL);
    }
    read_props_of(&r, version, SP_MQTT_CONNACK, &packet.props);
    SP_TRY(sp_reader_finish(&r));
    *out = packet;
    return SP_OK;
}

/* An empty topic stands for the one of its alias, which only MQTT 5 has (3.3.2.3.4). */
static enum sp_err check_publish_topic(enum sp_mqtt_version version,
                                       const struct sp_mqtt_publish *packet)
{
    bool aliased = (packet->props.present & SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS)) != 0;
    if (packet->topic.len == 0 && version == SP_MQTT_5 && aliased) {
        return SP_OK;
    }
    return sp_mqtt_check_topic(packet->topic);
}

enum sp_err sp_mqtt_decode_publish(enum sp_mqtt_version version, uint8_t flags, struct sp_view body,
                                   struct sp_mqtt_publish *out)
{
    struct sp_mqtt_publish packet = {
        .dup = (flags & 8U) != 0, .retain = (flags & 1U) != 0, .qos = flags >> 1 & 3U};
    if (flags > 15 || packet.qos == 3 || (packet.dup && packet.qos == 0)) {
        return SP_ERR_MALFORMED;
    }
    struct sp_reader r;
    sp_reader_init(&r, body);
    packet.topic = sp_mqtt_read_binary(&r);
    if (packet.qos != 0) {
        packet.packet_id = sp_mqtt_read_id(&r);
    }
    read_props_of(&r, version, SP_MQTT_PUBLISH, &packet.props);
    packet.payload = sp_read_rest(&r);
    SP_TRY(sp_reader_finish(&r));
    SP_TRY(check_publish_topic(version, &packet));
    *out = packet;
    return SP_OK;
}

enum sp_err sp_mqtt_decode_ack(enum sp_mqtt_version version, enum sp_mqtt_type type,
                               struct sp_view body, struct sp_mqtt_ack *out)
{
    struct sp_mqtt_ack packet = {0};
    struct sp_reader r;
    sp_reader_init(&r, body);
    packet.packet_id = sp_mqtt_read_id(&r);
    if (version == SP_MQTT_5 && sp_reader_left(&r) > 0) { /* 3.4.2.1: may be left out */
        packet.reason = sp_read_u8(&r);
        if (!sp_mqtt_reason_allowed(type, packet.reason)) {
            sp_reader_fail(&r, SP_ERR_PROTOCOL);
        }
    }
    if (version == SP_MQTT_5 && sp_reader_left(&r) > 0) { /* 3.4.2.2.1: this too */
        sp_mqtt_read_props(&r, type, &packet.props);
    }
    SP_TRY(sp_reader_finish(&r));
    *out = packet;
    return SP_OK;
}

static uint8_t read_options(struct sp_reader *r, enum sp_mqtt_version version)
{
    uint8_t options = sp_read_u8(r);
    uint8_t reserved = version == SP_MQTT_5 ? 0xC0U : 0xFCU;
    if ((options & reserved) != 0) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
    }
    if ((options & 3U) == 3 || (options & 0x30U) == 0x30U) { /* 3.8.3.1 */
        sp_reader_fail(r, SP_ERR_PROTOCOL);
    }
    return options;
}

/* Unchecked UTF-8, since sp_mqtt_filter_next() reads again what was checked before. */
static void read_filter(struct sp_reader *r, enum sp_mqtt_version version, enum sp_mqtt_type type,
                        struct sp_mqtt_filter *out)
{
    *out = (struct sp_mqtt_filter){.filter = sp_mqtt_read_binary(r)};
    if (type == SP_MQTT_SUBSCRIBE) {
        uint8_t options = read_options(r, version);
        out->qos = options & 3U;
        out->no_local = (options & 4U) != 0;
        out->retain_as_published = (options & 8U) != 0;
        out->retain_handling = options >> 4 & 3U;
    }
}

static enum sp_err check_filter(const struct sp_mqtt_filter *filter)
{
    if (!sp_utf8_valid(filter->filter)) {
        return SP_ERR_MALFORMED;
    }
    bool shared = sp_view_starts(filter->filter, SP_VIEW_LIT("$share/"));
    return filter->filter.len == 0 || (shared && filter->no_local) ? SP_ERR_PROTOCOL : SP_OK;
}

enum sp_err sp_mqtt_decode_subscribe(enum sp_mqtt_version version, enum sp_mqtt_type type,
                                     struct sp_view body, struct sp_mqtt_subscribe *out)
{
    struct sp_mqtt_subscribe packet = {0};
    struct sp_reader r;
    sp_reader_init(&r, body);
    packet.packet_id = sp_mqtt_read_id(&r);
    read_props_of(&r, version, type, &packet.props);
    packet.filters = sp_view(r.ptr, sp_reader_left(&r));
    if (packet.filters.len == 0) { /* MQTT-3.8.3-2 */
        sp_reader_fail(&r, SP_ERR_PROTOCOL);
    }
    while (sp_reader_left(&r) > 0) {
        struct sp_mqtt_filter filter;
        read_filter(&r, version, type, &filter);
        enum sp_err err = r.err == SP_OK ? check_filter(&filter) : r.err;
        if (err == SP_OK && packet.filter_count == UINT16_MAX) {
            err = SP_ERR_LIMIT;
        }
        if (err != SP_OK) {
            return err;
        }
        packet.filter_count++;
    }
    SP_TRY(sp_reader_finish(&r));
    *out = packet;
    return SP_OK;
}

bool sp_mqtt_filter_next(enum sp_mqtt_type type, struct sp_view *rest, struct sp_mqtt_filter *out)
{
    struct sp_reader r;
    struct sp_mqtt_filter filter;
    sp_reader_init(&r, *rest);
    if (sp_reader_left(&r) == 0) {
        return false;
    }
    read_filter(&r, SP_MQTT_5, type, &filter);
    if (r.err != SP_OK) {
        return false;
    }
    *out = filter;
    *rest = sp_read_rest(&r);
    return true;
}

static bool suback_codes_valid(enum sp_mqtt_version version, enum sp_mqtt_type type,
                               struct sp_view codes)
{
    for (size_t i = 0; i < codes.len; i++) {
        bool known = version == SP_MQTT_5 ? sp_mqtt_reason_allowed(type, codes.ptr[i])
                                          : codes.ptr[i] <= 2 || codes.ptr[i] == 0x80;
        if (!known) {
            return false;
        }
    }
    return true;
}

enum sp_err sp_mqtt_decode_suback(enum sp_mqtt_version version, enum sp_mqtt_type type,
                                  struct sp_view body, struct sp_mqtt_suback *out)
{
    struct sp_mqtt_suback packet = {0};
    struct sp_reader r;
    sp_reader_init(&r, body);
    packet.packet_id = sp_mqtt_read_id(&r);
    read_props_of(&r, version, type, &packet.props);
    bool has_codes = version == SP_MQTT_5 || type == SP_MQTT_SUBACK;
    if (has_codes) {
        packet.codes = sp_read_rest(&r);
        if (packet.codes.len == 0) {
            sp_reader_fail(&r, SP_ERR_MALFORMED);
        }
        if (!suback_codes_valid(version, type, packet.codes)) {
            sp_reader_fail(&r, SP_ERR_PROTOCOL);
        }
    }
    SP_TRY(sp_reader_finish(&r));
    *out = packet;
    return SP_OK;
}

enum sp_err sp_mqtt_decode_reasoned(enum sp_mqtt_version version, enum sp_mqtt_type type,
                                    struct sp_view body, struct sp_mqtt_reasoned *out)
{
    struct sp_mqtt_reasoned packet = {0};
    struct sp_reader r;
    if (version != SP_MQTT_5 && type == SP_MQTT_AUTH) {
        return SP_ERR_MALFORMED; /* a reserved type there */
    }
    sp_reader_init(&r, body);
    if (version == SP_MQTT_5 && sp_reader_left(&r) > 0) { /* 3.14.2.1, 3.15.2.1: may be left out */
        packet.reason = sp_read_u8(&r);
        if (!sp_mqtt_reason_allowed(type, packet.reason)) {
            sp_reader_fail(&r, SP_ERR_PROTOCOL);
        }
    }
    if (version == SP_MQTT_5 && sp_reader_left(&r) > 0) {
        sp_mqtt_read_props(&r, type, &packet.props);
    }
    SP_TRY(sp_reader_finish(&r));
    bool method = (packet.props.present & SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD)) != 0;
    if (type == SP_MQTT_AUTH && !method) { /* 3.15.2.2.2 */
        return SP_ERR_PROTOCOL;
    }
    *out = packet;
    return SP_OK;
}
