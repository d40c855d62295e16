/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/intake.h"

#include <string.h>

#include "libs/mqtt/topic.h"

/* A counter comes with the group and epoch that it belongs to; what carries nothing else has one. */
static bool mark_sound(const struct sp_msg_record *head)
{
    bool marked = head->counter != 0;
    bool only = (head->flags & SP_RECORD_MARK) != 0;
    return marked == (head->group_len != 0) && marked == (head->epoch != 0) &&
           head->group_len < SP_GROUP_NAME_MAX && head->counter <= SP_RECORD_COUNTER_LAST &&
           (!marked || head->device_len != 0) && (!only || (marked && head->qos == 0));
}

static bool refusal_sound(const struct sp_msg_record *head)
{
    if ((head->flags & SP_RECORD_REFUSED) == 0) {
        return head->refusal == 0;
    }
    return head->refusal < SP_REFUSAL_COUNT && head->qos == 1 && head->device_len != 0 &&
           head->counter == 0 && (head->flags & (SP_RECORD_RELEASE | SP_RECORD_MARK)) == 0;
}

static bool head_sound(const struct sp_msg_record *head, uint32_t payload_max)
{
    return head->payload_len <= payload_max && head->device_len <= SP_LINK_IDENTITY_MAX &&
           head->qos <= 1 && (head->qos == 1) == (head->ticket != 0) &&
           head->format <= SP_FORMAT_JSON && head->protection <= SP_PROTECTION_SEALED &&
           (head->flags & ~(SP_RECORD_ATTESTED | SP_RECORD_REPEAT | SP_RECORD_RELEASE |
                            SP_RECORD_MARK | SP_RECORD_REFUSED)) == 0 &&
           (head->packet_id == 0 || (head->qos == 1 && head->device_len > 0)) &&
           head->time_ms <= INT64_MAX && mark_sound(head) && refusal_sound(head);
}

static bool is_release(const struct sp_msg_record *head)
{
    return (head->flags & SP_RECORD_RELEASE) != 0;
}

static bool release_sound(const struct sp_msg_record *head)
{
    return head->packet_id != 0 && head->topic_len == 0 && head->origin_len == 0 &&
           head->payload_len == 0;
}

static bool name_sound(struct sp_view name)
{
    return sp_topic_name_valid(name) && !sp_view_starts(name, sp_view_str(SP_LINK_TOPIC_PREFIX));
}

static bool names_sound(const struct sp_intake_record *r)
{
    if ((r->head.flags & SP_RECORD_MARK) != 0) {
        return r->topic.len + r->origin.len + r->payload.len == 0;
    }
    return name_sound(r->topic) && name_sound(r->origin);
}

static struct sp_view cut(struct sp_view *rest, size_t len)
{
    struct sp_view part = sp_view_first(*rest, len);
    *rest = sp_view_from(*rest, len);
    return part;
}

enum sp_err sp_intake_next(struct sp_view *rest, uint32_t payload_max, struct sp_intake_record *out)
{
    if (rest->len == 0) {
        return SP_ERR_NOT_FOUND;
    }
    struct sp_intake_record record = {0};
    if (rest->len < sizeof(record.head)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(&record.head, rest->ptr, sizeof(record.head));
    if (!head_sound(&record.head, payload_max)) {
        return SP_ERR_MALFORMED;
    }
    struct sp_view left = sp_view_from(*rest, sizeof(record.head));
    size_t parts = (size_t)record.head.device_len + record.head.topic_len + record.head.origin_len +
                   record.head.group_len + record.head.payload_len;
    if (left.len < parts) {
        return SP_ERR_MALFORMED;
    }
    record.device = cut(&left, record.head.device_len);
    record.topic = cut(&left, record.head.topic_len);
    record.origin = cut(&left, record.head.origin_len);
    record.group = cut(&left, record.head.group_len);
    record.payload = cut(&left, record.head.payload_len);
    if ((record.device.len > 0 && !sp_link_identity_valid(record.device)) ||
        (record.group.len > 0 && !sp_link_identity_valid(record.group)) ||
        !(is_release(&record.head) ? release_sound(&record.head) : names_sound(&record))) {
        return SP_ERR_MALFORMED;
    }
    *rest = left;
    *out = record;
    return SP_OK;
}
