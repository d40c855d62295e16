/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/letter.h"

#include <stdlib.h>
#include <string.h>

#include "libs/mqtt/topic.h"
#include "libs/senml/senml.h"

#define NUMBER_MAX     24U
#define PROPERTIES_MAX (512U + 3U * SP_LINK_IDENTITY_MAX) /* beside the origin's own length */
#define MESSAGE_ID_MAX 512U

static const char *const protections[] = {
    [SP_PROTECTION_CLEAR] = "clear",
    [SP_PROTECTION_MAC] = "mac",
    [SP_PROTECTION_SEALED] = "sealed",
};

void sp_letter_room_deinit(struct sp_letter_room *room)
{
    free(room->buf);
    *room = (struct sp_letter_room){0};
}

static bool grow(struct sp_letter_room *room, size_t cap)
{
    if (cap > room->cap) {
        uint8_t *buf = realloc(room->buf, cap);
        if (buf == NULL) {
            return false;
        }
        room->buf = buf;
        room->cap = cap;
    }
    return true;
}

/* AWS does not count the prefix of Basic Ingest. */
static struct sp_view counted_topic(struct sp_view topic)
{
    static const struct sp_view ingest = SP_VIEW_INIT("$aws/rules/");
    if (!sp_view_starts(topic, ingest)) {
        return topic;
    }
    struct sp_view rest = sp_view_from(topic, ingest.len);
    const uint8_t *slash = rest.len > 0 ? memchr(rest.ptr, '/', rest.len) : NULL;
    return slash != NULL ? sp_view_from(rest, (size_t)(slash - rest.ptr) + 1U) : topic;
}

static const char *topic_fault(const struct sp_cloud_limits *limits, struct sp_view topic)
{
    if (!sp_topic_name_valid(topic)) {
        return "not a topic name";
    }
    struct sp_view counted = counted_topic(topic);
    if (limits->topic_bytes > 0 && counted.len > limits->topic_bytes) {
        return "topic longer than the cloud allows";
    }
    if (limits->topic_levels > 0 && sp_topic_levels(counted) > limits->topic_levels) {
        return "topic with more levels than the cloud allows";
    }
    return NULL;
}

static struct sp_view message_id(const struct sp_letter_office *office, const struct sp_row *row,
                                 char *out, size_t cap)
{
    if (row->seq == 0) {
        return (struct sp_view){NULL, 0};
    }
    struct sp_writer w;
    sp_writer_init(&w, out, cap);
    sp_write_str(&w, office->gateway);
    sp_write_u8(&w, '/');
    sp_write_str(&w, office->epoch);
    sp_write_u8(&w, '/');
    sp_write_view(&w, row->device);
    sp_write_u8(&w, '/');
    sp_write_dec(&w, (int64_t)row->seq);
    return sp_writer_view(&w);
}

static enum sp_err write_payload(const struct sp_letter_office *office, const struct sp_row *row,
                                 struct sp_writer *w, const char **reason)
{
    struct sp_senml_record record;
    if (sp_senml_parse(row->payload, row->device, &record) != SP_OK) {
        *reason = "not a sensor record that can be formatted";
        return SP_ERR_MALFORMED;
    }
    char id[MESSAGE_ID_MAX];
    const struct sp_senml_context context = {
        .device = row->device,
        .accepted_ms = (int64_t)row->time_ms,
        .attested = (row->flags & SP_RECORD_ATTESTED) != 0,
        .protection = protections[row->protection],
        .has_sequence = row->counter != 0,
        .sequence = row->counter,
        .message_id = message_id(office, row, id, sizeof(id)),
    };
    if (row->format == SP_FORMAT_JSON) {
        sp_senml_to_json(&record, &context, w);
    } else {
        sp_senml_to_senml_json(&record, &context, w);
    }
    *reason = w->err != SP_OK ? "cannot be formatted" : NULL;
    return w->err != SP_OK ? SP_ERR_MALFORMED : SP_OK;
}

static void property(struct sp_writer *w, const char *name, struct sp_view value)
{
    sp_mqtt_user_encode(w, sp_view_str(name), value);
}

static void write_properties(const struct sp_letter_office *office, const struct sp_row *row,
                             struct sp_writer *w)
{
    if (row->format == SP_FORMAT_RAW) {
        property(w, "topic", row->origin);
    }
    if (row->seq == 0) {
        return;
    }
    char digits[NUMBER_MAX];
    struct sp_writer number;
    sp_writer_init(&number, digits, sizeof(digits));
    sp_write_dec(&number, (int64_t)row->seq);
    property(w, "gateway", sp_view_str(office->gateway));
    property(w, "epoch", sp_view_str(office->epoch));
    property(w, "device", row->device);
    property(w, "sequence", sp_writer_view(&number));
}

/* Seconds left; 0: it is too late. */
static uint32_t expiry_left(const struct sp_row *row, uint64_t now_ms)
{
    uint64_t age_s = now_ms > row->time_ms ? (now_ms - row->time_ms) / 1000U : 0;
    return age_s < row->expiry_s ? row->expiry_s - (uint32_t)age_s : 0;
}

enum sp_err sp_letter_write(const struct sp_letter_office *office, const struct sp_row *row,
                            uint64_t now_ms, struct sp_letter_room *room,
                            struct sp_mqtt_publish *out, const char **reason)
{
    struct sp_mqtt_publish publish = {.qos = row->qos, .topic = row->topic};
    *reason = topic_fault(office->limits, row->topic);
    if (*reason == NULL && row->expiry_s > 0) {
        publish.props.present |= SP_MQTT_HAS(SP_MQTT_P_MESSAGE_EXPIRY);
        publish.props.message_expiry = expiry_left(row, now_ms);
        *reason = publish.props.message_expiry == 0 ? "expired" : NULL;
    }
    if (*reason != NULL) {
        return SP_ERR_LIMIT;
    }
    size_t payload_cap =
        row->format == SP_FORMAT_RAW ? 0 : SP_SENML_JSON_MAX(row->payload.len) + MESSAGE_ID_MAX;
    size_t properties_cap = PROPERTIES_MAX + row->origin.len + strlen(office->gateway);
    if (!grow(room, payload_cap + properties_cap)) {
        return SP_ERR_NOMEM;
    }
    publish.payload = row->payload;
    if (row->format != SP_FORMAT_RAW) {
        struct sp_writer w;
        sp_writer_init(&w, room->buf, payload_cap);
        SP_TRY(write_payload(office, row, &w, reason));
        publish.payload = sp_writer_view(&w);
    }
    if (office->version == SP_MQTT_5) {
        struct sp_writer w;
        sp_writer_init(&w, room->buf + payload_cap, properties_cap);
        write_properties(office, row, &w);
        publish.props.present |= SP_MQTT_HAS(SP_MQTT_P_USER_PROPERTY);
        publish.props.user = sp_writer_view(&w);
    }
    size_t size = sp_mqtt_publish_size(office->version, &publish);
    if (size == 0 || (office->limits->packet > 0 && size > office->limits->packet)) {
        *reason = "packet larger than the cloud allows";
        return SP_ERR_LIMIT;
    }
    room->packet = size;
    *out = publish;
    return SP_OK;
}
