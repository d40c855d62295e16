/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/records/records.h"

#define TIME_MAX_MS INT64_C(7258118400000) /* the year 2200 */

/* What any sensor of these quantities can say. */
static const struct sp_decimal coldest = {-27315, -2};
static const struct sp_decimal hottest = {2000, 0};
static const struct sp_decimal driest = {0, 0};
static const struct sp_decimal wettest = {100, 0};

static enum sp_record_fate refuse(struct sp_record_in *out, enum sp_metric kind, const char *detail)
{
    out->kind = kind;
    out->detail = detail;
    return SP_FATE_REFUSE;
}

/* ---- content ---- */

static bool within(const struct sp_senml_entry *entry, struct sp_decimal low,
                   struct sp_decimal high)
{
    return entry->kind != SP_SENML_NUMBER || (sp_decimal_compare(entry->number, low) >= 0 &&
                                              sp_decimal_compare(entry->number, high) <= 0);
}

static bool in_range(const struct sp_senml_entry *entry)
{
    switch (entry->quantity) {
    case SP_SENML_TEMPERATURE:
        return within(entry, coldest, hottest);
    case SP_SENML_HUMIDITY:
        return within(entry, driest, wettest);
    case SP_SENML_OTHER:
        break;
    }
    return true;
}

static enum sp_record_fate check_content(const struct sp_record_sender *sender, uint64_t wall_ms,
                                         struct sp_record_in *out)
{
    if (sp_senml_parse(out->plain, sender->device, &out->record) != SP_OK) {
        return refuse(out, SP_M_RECORD_CONTENT, "malformed record");
    }
    for (size_t i = 0; i < out->record.count; i++) {
        const struct sp_senml_entry *entry = &out->record.entries[i];
        int64_t time_ms = sp_senml_time_ms(entry, (int64_t)wall_ms);
        if (time_ms < 0 || time_ms > TIME_MAX_MS) {
            return refuse(out, SP_M_RECORD_TIME, "time out of range");
        }
        if (!in_range(entry)) {
            return refuse(out, SP_M_RECORD_RANGE, "value out of range");
        }
    }
    out->parsed = true;
    return SP_FATE_TAKE;
}

/* ---- protection ---- */

static bool derive(struct sp_mark *mark, const struct sp_msg_epoch *epoch, struct sp_view device)
{
    const struct sp_crypto_key group_key = {.bytes = SP_VIEW_ARRAY(epoch->key)};
    if (!mark->has_key) {
        mark->has_key = sp_record_key(&group_key, (enum sp_cose_algorithm)epoch->algorithm, device,
                                      mark->key) == SP_OK;
    }
    return mark->has_key;
}

static enum sp_record_fate open_record(const struct sp_record_room *room,
                                       const struct sp_record_sender *sender,
                                       const struct sp_msg_epoch *epoch, const struct sp_view at[2],
                                       struct sp_record_in *out)
{
    struct sp_view topic = at[0];
    struct sp_view payload = at[1];
    struct sp_record_head head;
    size_t len = 0;
    struct sp_mark *mark = room->marks->complete ? sp_marks_get(room->marks, sender->device,
                                                                sender->group, epoch->epoch)
                                                 : NULL;
    if (mark == NULL || !derive(mark, epoch, sender->device)) {
        return SP_FATE_LATER;
    }
    const struct sp_crypto_key key = {.bytes =
                                          sp_view(mark->key, sp_record_key_len(epoch->algorithm))};
    enum sp_err err = sp_record_unprotect(payload, (enum sp_cose_algorithm)epoch->algorithm, &key,
                                          topic, &head, out->buffer, &len);
    if (err != SP_OK) {
        return refuse(out, SP_M_RECORD_OPEN, "does not open");
    }
    if (head.counter <= mark->counter) {
        return SP_FATE_REPEAT;
    }
    if (mark->pending != 0) {
        return SP_FATE_LATER;
    }
    out->mark = mark;
    out->counter = head.counter;
    out->plain = sp_view(out->buffer, len);
    out->readable = true;
    return SP_FATE_TAKE;
}

static enum sp_record_fate check_protected(const struct sp_record_room *room,
                                           const struct sp_record_sender *sender,
                                           struct sp_view topic, struct sp_view payload,
                                           struct sp_record_in *out)
{
    struct sp_record_head head;
    if (sp_record_peek(payload, &head) != SP_OK) {
        return refuse(out, SP_M_RECORD_FORM, "not a protected record in form");
    }
    if (sender->group.len == 0 || !sp_view_equal(head.group, sender->group)) {
        return refuse(out, SP_M_RECORD_KEY, "under a group that is not the device's");
    }
    if (!room->keyring->known) {
        return SP_FATE_LATER;
    }
    const struct sp_msg_epoch *epoch =
        sp_keyring_find(room->keyring, head.group, head.epoch, room->wall_ms);
    if (epoch == NULL) {
        return refuse(out, SP_M_RECORD_OLD, "under an epoch that is not accepted");
    }
    if ((int64_t)head.algorithm != epoch->algorithm) {
        return refuse(out, SP_M_RECORD_KEY, "under another algorithm than its group's");
    }
    if (epoch->mode == SP_GROUP_END_TO_END) {
        return SP_FATE_TAKE; /* who holds the key judges it */
    }
    const struct sp_view at[2] = {topic, payload};
    return open_record(room, sender, epoch, at, out);
}

bool sp_record_is_protected(struct sp_view payload, struct sp_view group)
{
    struct sp_record_head head;
    return group.len > 0 && payload.len > 0 &&
           (payload.ptr[0] == SP_RECORD_FIRST_SEALED || payload.ptr[0] == SP_RECORD_FIRST_MAC) &&
           sp_record_peek(payload, &head) == SP_OK && sp_view_equal(head.group, group);
}

static bool protection_of(struct sp_view payload, enum sp_protection *out)
{
    uint8_t first = payload.len == 0 ? 0 : payload.ptr[0];
    *out = first == SP_RECORD_FIRST_SEALED ? SP_PROTECTION_SEALED
           : first == SP_RECORD_FIRST_MAC  ? SP_PROTECTION_MAC
                                           : SP_PROTECTION_CLEAR;
    return *out != SP_PROTECTION_CLEAR || (first >= 0x81 && first <= 0x88);
}

enum sp_record_fate sp_record_check(const struct sp_record_room *room,
                                    const struct sp_record_sender *sender, struct sp_view topic,
                                    struct sp_view payload, struct sp_record_in *out)
{
    out->mark = NULL;
    out->counter = 0;
    out->readable = false;
    out->parsed = false;
    if (!protection_of(payload, &out->protection)) {
        return refuse(out, SP_M_RECORD_FORM, "not a sensor record");
    }
    if ((int)out->protection < (int)sender->allowed) {
        return refuse(out, SP_M_RECORD_WEAKER, "weaker than the device's records must be");
    }
    if (out->protection == SP_PROTECTION_CLEAR) {
        out->plain = payload;
        out->readable = true;
    } else {
        enum sp_record_fate fate = check_protected(room, sender, topic, payload, out);
        if (fate != SP_FATE_TAKE) {
            return fate;
        }
    }
    return out->readable && sender->climate ? check_content(sender, room->wall_ms, out)
                                            : SP_FATE_TAKE;
}
