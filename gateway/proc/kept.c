/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/proc/kept.h"

#include <string.h>

size_t sp_kept_size(const struct sp_kept *record)
{
    return sizeof(record->head) + record->device.len + record->part.len;
}

void sp_kept_write(struct sp_writer *w, const struct sp_kept *record)
{
    struct sp_msg_kept head = record->head;
    head.device_len = (uint8_t)record->device.len;
    head.part_len = (uint32_t)record->part.len;
    sp_write_view(w, sp_view(&head, sizeof(head)));
    sp_write_view(w, record->device);
    sp_write_view(w, record->part);
}

static bool numbers_sound(const struct sp_msg_kept *head)
{
    /* They end up in columns that are signed. */
    return head->number <= INT64_MAX && head->last <= INT64_MAX && head->time_ms <= INT64_MAX &&
           head->version <= INT64_MAX && head->qos <= 2;
}

static bool part_sound(const struct sp_msg_kept *head)
{
    switch (head->kind) {
    case SP_KEPT_SESSION:
        return head->part_len > 0 && head->part_len < SP_ROLE_NAME_MAX &&
               head->options <= SP_KEPT_NEW;
    case SP_KEPT_SUBSCRIBE:
        return head->part_len > 0 && head->part_len <= UINT16_MAX;
    case SP_KEPT_UNSUBSCRIBE:
        return head->part_len <= UINT16_MAX;
    case SP_KEPT_QUEUE:
        return head->part_len > 0 && head->part_len <= SP_KEPT_PART_MAX && head->number > 0;
    case SP_KEPT_SETTLED:
        return head->part_len == 0 && head->number <= head->last;
    case SP_KEPT_END:
        return head->part_len == 0;
    default:
        return false;
    }
}

static bool text_sound(const struct sp_kept *record)
{
    return record->head.kind == SP_KEPT_QUEUE || sp_utf8_valid(record->part);
}

enum sp_err sp_kept_next(struct sp_view *rest, struct sp_kept *out)
{
    struct sp_kept record = {.device = {NULL, 0}};
    if (rest->len == 0) {
        return SP_ERR_NOT_FOUND;
    }
    if (rest->len < sizeof(record.head)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(&record.head, rest->ptr, sizeof(record.head));
    struct sp_view left = sp_view_from(*rest, sizeof(record.head));
    if (!numbers_sound(&record.head) || !part_sound(&record.head) ||
        left.len < (size_t)record.head.device_len + record.head.part_len) {
        return SP_ERR_MALFORMED;
    }
    record.device = sp_view_first(left, record.head.device_len);
    left = sp_view_from(left, record.head.device_len);
    record.part = sp_view_first(left, record.head.part_len);
    if (!sp_link_identity_valid(record.device) || !text_sound(&record)) {
        return SP_ERR_MALFORMED;
    }
    *rest = sp_view_from(left, record.head.part_len);
    *out = record;
    return SP_OK;
}
