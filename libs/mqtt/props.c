/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Properties (MQTT 5, 2.2.2): one table says where each may stand, what it looks like on the wire and
 * into which field it goes; reading and writing follow it. */
#include "libs/mqtt/codec_internal.h"

#define PROPERTY_ID_LIMIT 0x2BU /* ids are below */

enum kind {
    KIND_FLAG,         /* uint8_t, 0 or 1 */
    KIND_U16,          /* uint16_t */
    KIND_U16_POSITIVE, /* not 0 */
    KIND_U32,          /* uint32_t */
    KIND_U32_POSITIVE, /* not 0 */
    KIND_VARINT,       /* uint32_t, not 0 */
    KIND_BINARY,       /* struct sp_view */
    KIND_TEXT,         /* struct sp_view, UTF-8 */
    KIND_TOPIC,        /* struct sp_view, a topic name */
    KIND_PAIR,         /* name and value */
};

struct property {
    uint8_t id;
    uint8_t kind;
    uint16_t places;
    uint16_t offset; /* of the field in sp_mqtt_props */
};

#define IN(type)   (1U << SP_MQTT_##type)
#define WILL       (1U << SP_MQTT_PLACE_WILL)
#define PUB_ACKS   (IN(PUBACK) | IN(PUBREC) | IN(PUBREL) | IN(PUBCOMP))
#define SUB_ACKS   (IN(SUBACK) | IN(UNSUBACK))
#define EVERYWHERE 0xCFFFU /* but in PINGREQ and PINGRESP, which have no properties */

#define PLACES_PAYLOAD_FORMAT            (IN(PUBLISH) | WILL)
#define PLACES_MESSAGE_EXPIRY            (IN(PUBLISH) | WILL)
#define PLACES_CONTENT_TYPE              (IN(PUBLISH) | WILL)
#define PLACES_RESPONSE_TOPIC            (IN(PUBLISH) | WILL)
#define PLACES_CORRELATION_DATA          (IN(PUBLISH) | WILL)
#define PLACES_SUBSCRIPTION_ID           (IN(PUBLISH) | IN(SUBSCRIBE))
#define PLACES_SESSION_EXPIRY            (IN(CONNECT) | IN(CONNACK) | IN(DISCONNECT))
#define PLACES_ASSIGNED_CLIENT_ID        IN(CONNACK)
#define PLACES_SERVER_KEEP_ALIVE         IN(CONNACK)
#define PLACES_AUTH_METHOD               (IN(CONNECT) | IN(CONNACK) | IN(AUTH))
#define PLACES_AUTH_DATA                 (IN(CONNECT) | IN(CONNACK) | IN(AUTH))
#define PLACES_REQUEST_PROBLEM_INFO      IN(CONNECT)
#define PLACES_WILL_DELAY                WILL
#define PLACES_REQUEST_RESPONSE_INFO     IN(CONNECT)
#define PLACES_RESPONSE_INFO             IN(CONNACK)
#define PLACES_SERVER_REFERENCE          (IN(CONNACK) | IN(DISCONNECT))
#define PLACES_REASON_STRING             (IN(CONNACK) | PUB_ACKS | SUB_ACKS | IN(DISCONNECT) | IN(AUTH))
#define PLACES_RECEIVE_MAXIMUM           (IN(CONNECT) | IN(CONNACK))
#define PLACES_TOPIC_ALIAS_MAXIMUM       (IN(CONNECT) | IN(CONNACK))
#define PLACES_TOPIC_ALIAS               IN(PUBLISH)
#define PLACES_MAXIMUM_QOS               IN(CONNACK)
#define PLACES_RETAIN_AVAILABLE          IN(CONNACK)
#define PLACES_USER_PROPERTY             EVERYWHERE
#define PLACES_MAXIMUM_PACKET_SIZE       (IN(CONNECT) | IN(CONNACK))
#define PLACES_WILDCARD_AVAILABLE        IN(CONNACK)
#define PLACES_SUBSCRIPTION_ID_AVAILABLE IN(CONNACK)
#define PLACES_SHARED_AVAILABLE          IN(CONNACK)

#define PROPERTY(name, wire_id, wire_kind, field)  \
    [SP_MQTT_P_##name] = {.id = (wire_id),         \
                          .kind = (wire_kind),     \
                          .places = PLACES_##name, \
                          .offset = offsetof(struct sp_mqtt_props, field)}

#define EVERY ((UINT32_C(1) << SP_MQTT_PROPERTY_COUNT) - 1U) /* of `present` */

static const struct property properties[SP_MQTT_PROPERTY_COUNT] = {
    PROPERTY(PAYLOAD_FORMAT, 0x01, KIND_FLAG, payload_format),
    PROPERTY(MESSAGE_EXPIRY, 0x02, KIND_U32, message_expiry),
    PROPERTY(CONTENT_TYPE, 0x03, KIND_TEXT, content_type),
    PROPERTY(RESPONSE_TOPIC, 0x08, KIND_TOPIC, response_topic),
    PROPERTY(CORRELATION_DATA, 0x09, KIND_BINARY, correlation_data),
    PROPERTY(SUBSCRIPTION_ID, 0x0B, KIND_VARINT, subscription_id),
    PROPERTY(SESSION_EXPIRY, 0x11, KIND_U32, session_expiry),
    PROPERTY(ASSIGNED_CLIENT_ID, 0x12, KIND_TEXT, assigned_client_id),
    PROPERTY(SERVER_KEEP_ALIVE, 0x13, KIND_U16, server_keep_alive),
    PROPERTY(AUTH_METHOD, 0x15, KIND_TEXT, auth_method),
    PROPERTY(AUTH_DATA, 0x16, KIND_BINARY, auth_data),
    PROPERTY(REQUEST_PROBLEM_INFO, 0x17, KIND_FLAG, request_problem_info),
    PROPERTY(WILL_DELAY, 0x18, KIND_U32, will_delay),
    PROPERTY(REQUEST_RESPONSE_INFO, 0x19, KIND_FLAG, request_response_info),
    PROPERTY(RESPONSE_INFO, 0x1A, KIND_TEXT, response_info),
    PROPERTY(SERVER_REFERENCE, 0x1C, KIND_TEXT, server_reference),
    PROPERTY(REASON_STRING, 0x1F, KIND_TEXT, reason_string),
    PROPERTY(RECEIVE_MAXIMUM, 0x21, KIND_U16_POSITIVE, receive_maximum),
    PROPERTY(TOPIC_ALIAS_MAXIMUM, 0x22, KIND_U16, topic_alias_maximum),
    PROPERTY(TOPIC_ALIAS, 0x23, KIND_U16_POSITIVE, topic_alias),
    PROPERTY(MAXIMUM_QOS, 0x24, KIND_FLAG, maximum_qos),
    PROPERTY(RETAIN_AVAILABLE, 0x25, KIND_FLAG, retain_available),
    PROPERTY(USER_PROPERTY, 0x26, KIND_PAIR, user),
    PROPERTY(MAXIMUM_PACKET_SIZE, 0x27, KIND_U32_POSITIVE, max_packet_size),
    PROPERTY(WILDCARD_AVAILABLE, 0x28, KIND_FLAG, wildcard_available),
    PROPERTY(SUBSCRIPTION_ID_AVAILABLE, 0x29, KIND_FLAG, subscription_id_available),
    PROPERTY(SHARED_AVAILABLE, 0x2A, KIND_FLAG, shared_available),
};

/* The header's list is the one that users see: the two must agree. */
#define X(name, wire_id) \
    _Static_assert((wire_id) < PROPERTY_ID_LIMIT, "the lookup below covers every id");
SP_MQTT_PROPERTY_MAP(X)
#undef X

/* Wire id to index + 1. */
static const uint8_t index_of_id[PROPERTY_ID_LIMIT] = {
#define X(name, wire_id) [wire_id] = SP_MQTT_P_##name + 1,
    SP_MQTT_PROPERTY_MAP(X)
#undef X
};

static const struct property *find_property(uint8_t id)
{
    if (id >= PROPERTY_ID_LIMIT || index_of_id[id] == 0) {
        return NULL;
    }
    return &properties[index_of_id[id] - 1];
}

static void *field_of(struct sp_mqtt_props *props, const struct property *property)
{
    return (uint8_t *)props + property->offset;
}

static const void *const_field_of(const struct sp_mqtt_props *props,
                                  const struct property *property)
{
    return (const uint8_t *)props + property->offset;
}

static uint32_t read_positive(struct sp_reader *r, uint32_t value)
{
    if (value == 0) {
        sp_reader_fail(r, SP_ERR_PROTOCOL);
    }
    return value;
}

static uint8_t read_flag(struct sp_reader *r)
{
    uint8_t value = sp_read_u8(r);
    if (value > 1) {
        sp_reader_fail(r, SP_ERR_PROTOCOL);
    }
    return value;
}

/* A wildcard in it is no better than a flag of 2 (MQTT-3.3.2-14). */
static struct sp_view read_response_topic(struct sp_reader *r)
{
    struct sp_view topic = sp_mqtt_read_binary(r);
    if (sp_mqtt_check_topic(topic) != SP_OK) {
        sp_reader_fail(r, sp_utf8_valid(topic) ? SP_ERR_PROTOCOL : SP_ERR_MALFORMED);
    }
    return topic;
}

static void read_value(struct sp_reader *r, enum kind kind, void *field)
{
    switch (kind) {
    case KIND_FLAG:
        *(uint8_t *)field = read_flag(r);
        return;
    case KIND_U16:
        *(uint16_t *)field = sp_read_u16(r);
        return;
    case KIND_U16_POSITIVE:
        *(uint16_t *)field = (uint16_t)read_positive(r, sp_read_u16(r));
        return;
    case KIND_U32:
        *(uint32_t *)field = sp_read_u32(r);
        return;
    case KIND_U32_POSITIVE:
        *(uint32_t *)field = read_positive(r, sp_read_u32(r));
        return;
    case KIND_VARINT:
        *(uint32_t *)field = read_positive(r, sp_mqtt_read_varint(r));
        return;
    case KIND_BINARY:
        *(struct sp_view *)field = sp_mqtt_read_binary(r);
        return;
    case KIND_TEXT:
        *(struct sp_view *)field = sp_mqtt_read_text(r);
        return;
    case KIND_TOPIC:
        *(struct sp_view *)field = read_response_topic(r);
        return;
    case KIND_PAIR: /* has no field of its own: read_pair() */
        return;
    }
}

static void read_pair(struct sp_reader *r)
{
    (void)sp_mqtt_read_text(r);
    (void)sp_mqtt_read_text(r);
}

static bool may_repeat(const struct property *property, unsigned place)
{
    return property->kind == KIND_PAIR ||
           (property->kind == KIND_VARINT && place == SP_MQTT_PUBLISH);
}

/* The block in `user` is kept as short as it can be: first to last user property. */
static void read_block(struct sp_reader *r, unsigned place, struct sp_mqtt_props *out)
{
    struct sp_view block = sp_view(r->ptr, r->left);
    size_t user_from = 0;
    while (sp_reader_left(r) > 0) {
        size_t from = block.len - sp_reader_left(r);
        const struct property *property = find_property(sp_read_u8(r));
        if (property == NULL || (property->places & (1U << place)) == 0) {
            sp_reader_fail(r, SP_ERR_PROTOCOL);
            return;
        }
        uint32_t bit = (uint32_t)SP_MQTT_HAS(property - properties);
        if ((out->present & bit) != 0 && !may_repeat(property, place)) {
            sp_reader_fail(r, SP_ERR_PROTOCOL);
            return;
        }
        user_from = property->kind == KIND_PAIR && (out->present & bit) == 0 ? from : user_from;
        out->present |= bit;
        if (property->kind != KIND_PAIR) {
            read_value(r, (enum kind)property->kind, field_of(out, property));
            continue;
        }
        read_pair(r);
        size_t to = block.len - sp_reader_left(r);
        out->user = sp_view_from(sp_view_first(block, to), user_from);
        out->user_count = (uint16_t)(out->user_count + (out->user_count < UINT16_MAX));
    }
}

void sp_mqtt_read_props(struct sp_reader *r, unsigned place, struct sp_mqtt_props *out)
{
    struct sp_view block = sp_read_bytes(r, sp_mqtt_read_varint(r));
    if (block.len == 0) {
        return;
    }
    struct sp_reader inner;
    sp_reader_init(&inner, block);
    read_block(&inner, place, out);
    bool data = (out->present & SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA)) != 0;
    bool method = (out->present & SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD)) != 0;
    if (data && !method) { /* MQTT 5, 3.1.2.11.10 */
        sp_reader_fail(&inner, SP_ERR_PROTOCOL);
    }
    if (inner.err != SP_OK) {
        sp_reader_fail(r, inner.err);
    }
}

/* Pass over a value that has been checked before, without looking at its UTF-8 again. */
static void skip_value(struct sp_reader *r, enum kind kind)
{
    union {
        uint8_t byte;
        uint16_t half;
        uint32_t word;
        struct sp_view view;
    } ignored;
    bool bytes = kind == KIND_TEXT || kind == KIND_TOPIC;
    read_value(r, bytes ? KIND_BINARY : kind, &ignored);
}

/* The user property that `rest` begins with. */
static bool take_user(struct sp_view *rest, struct sp_view *name, struct sp_view *value)
{
    const uint8_t *p = rest->ptr;
    size_t len = rest->len;
    if (len < 5) {
        return false;
    }
    size_t first = (size_t)p[1] << 8 | p[2];
    if (len - 5 < first) {
        return false;
    }
    size_t second = (size_t)p[3 + first] << 8 | p[4 + first];
    if (len - 5 - first < second) {
        return false;
    }
    *name = sp_view(p + 3, first);
    *value = sp_view(p + 5 + first, second);
    *rest = sp_view(p + 5 + first + second, len - 5 - first - second);
    return true;
}

/* Nothing is left when it is not sound. */
static struct sp_view without_first(struct sp_view rest)
{
    struct sp_reader r;
    sp_reader_init(&r, rest);
    const struct property *property = find_property(sp_read_u8(&r));
    if (property == NULL) {
        return (struct sp_view){NULL, 0};
    }
    skip_value(&r, (enum kind)property->kind);
    return sp_read_rest(&r);
}

bool sp_mqtt_user_next(struct sp_view *rest, struct sp_view *name, struct sp_view *value)
{
    struct sp_view left = *rest;
    while (left.len > 0 && left.ptr[0] != properties[SP_MQTT_P_USER_PROPERTY].id) {
        left = without_first(left);
    }
    if (!take_user(&left, name, value)) {
        return false;
    }
    *rest = left;
    return true;
}

void sp_mqtt_user_encode(struct sp_writer *w, struct sp_view name, struct sp_view value)
{
    sp_write_u8(w, properties[SP_MQTT_P_USER_PROPERTY].id);
    sp_mqtt_write_binary(w, name);
    sp_mqtt_write_binary(w, value);
}

bool sp_mqtt_props_empty(const struct sp_mqtt_props *props)
{
    return props->present == 0;
}

/* Bytes of one property's value on the wire; 0 when it cannot be encoded. */
static size_t value_size(const struct sp_mqtt_props *props, const struct property *property)
{
    const void *field = const_field_of(props, property);
    switch ((enum kind)property->kind) {
    case KIND_FLAG:
        return *(const uint8_t *)field <= 1 ? 1 : 0;
    case KIND_U16:
        return 2;
    case KIND_U16_POSITIVE:
        return *(const uint16_t *)field != 0 ? 2 : 0;
    case KIND_U32:
        return 4;
    case KIND_U32_POSITIVE:
        return *(const uint32_t *)field != 0 ? 4 : 0;
    case KIND_BINARY:
    case KIND_TEXT:
    case KIND_TOPIC: {
        size_t len = ((const struct sp_view *)field)->len;
        return len <= SP_MQTT_STRING_MAX ? 2 + len : 0;
    }
    case KIND_VARINT: /* ids_size() */
    case KIND_PAIR:   /* user_size() */
        break;
    }
    return 0;
}

/* The subscription identifiers to be written: one, or those of a PUBLISH. */
static const uint32_t *ids_of(const struct sp_mqtt_props *props, size_t *count)
{
    bool several = props->subscription_id_count > 0;
    *count = several ? props->subscription_id_count : 1;
    return several ? props->subscription_ids : &props->subscription_id;
}

/* Bytes of all of them with their property ids; 0 when one cannot be encoded. */
static size_t ids_size(const struct sp_mqtt_props *props, unsigned place)
{
    size_t count;
    size_t size = 0;
    const uint32_t *ids = ids_of(props, &count);
    for (size_t i = 0; i < count; i++) {
        if (ids[i] == 0 || ids[i] > SP_MQTT_VARINT_MAX) {
            return 0;
        }
        size += 1 + sp_mqtt_varint_size(ids[i]);
    }
    return count > 1 && place != SP_MQTT_PUBLISH ? 0 : size;
}

static size_t user_size(struct sp_view user)
{
    size_t size = 0;
    struct sp_view name;
    struct sp_view value;
    while (sp_mqtt_user_next(&user, &name, &value)) {
        size += 1 + 2 + name.len + 2 + value.len;
    }
    return size;
}

bool sp_mqtt_props_size(const struct sp_mqtt_props *props, unsigned place, size_t *size)
{
    size_t sum = 0;
    if ((props->present & ~EVERY) != 0) {
        return false;
    }
    for (uint32_t left = props->present; left != 0; left &= left - 1U) {
        int i = __builtin_ctz(left);
        if ((properties[i].places & (1U << place)) == 0) {
            return false;
        }
        if (properties[i].kind == KIND_PAIR) {
            sum += user_size(props->user);
            continue;
        }
        bool ids = properties[i].kind == KIND_VARINT;
        size_t bytes = ids ? ids_size(props, place) : value_size(props, &properties[i]);
        if (bytes == 0) {
            return false;
        }
        sum += bytes + (ids ? 0 : 1);
    }
    *size = sum;
    return sum <= SP_MQTT_VARINT_MAX;
}

static void write_value(struct sp_writer *w, const struct sp_mqtt_props *props,
                        const struct property *property)
{
    const void *field = const_field_of(props, property);
    sp_write_u8(w, property->id);
    switch ((enum kind)property->kind) {
    case KIND_FLAG:
        sp_write_u8(w, *(const uint8_t *)field);
        return;
    case KIND_U16:
    case KIND_U16_POSITIVE:
        sp_write_u16(w, *(const uint16_t *)field);
        return;
    case KIND_U32:
    case KIND_U32_POSITIVE:
        sp_write_u32(w, *(const uint32_t *)field);
        return;
    case KIND_BINARY:
    case KIND_TEXT:
    case KIND_TOPIC:
        sp_mqtt_write_binary(w, *(const struct sp_view *)field);
        return;
    case KIND_VARINT: /* write_ids() */
    case KIND_PAIR:   /* write_user() */
        return;
    }
}

static void write_user(struct sp_writer *w, struct sp_view user)
{
    struct sp_view name;
    struct sp_view value;
    while (sp_mqtt_user_next(&user, &name, &value)) {
        /* as it stands there, from its id on */
        sp_write_view(w, sp_view(name.ptr - 3, 5 + name.len + value.len));
    }
}

static void write_ids(struct sp_writer *w, const struct sp_mqtt_props *props)
{
    size_t count;
    const uint32_t *ids = ids_of(props, &count);
    for (size_t i = 0; i < count; i++) {
        sp_write_u8(w, properties[SP_MQTT_P_SUBSCRIPTION_ID].id);
        sp_mqtt_write_varint(w, ids[i]);
    }
}

void sp_mqtt_write_props(struct sp_writer *w, const struct sp_mqtt_props *props, size_t size)
{
    sp_mqtt_write_varint(w, (uint32_t)size);
    for (uint32_t left = size == 0 ? 0 : props->present & EVERY; left != 0; left &= left - 1U) {
        int i = __builtin_ctz(left);
        if (properties[i].kind == KIND_PAIR) {
            write_user(w, props->user);
        } else if (properties[i].kind == KIND_VARINT) {
            write_ids(w, props);
        } else {
            write_value(w, props, &properties[i]);
        }
    }
}
