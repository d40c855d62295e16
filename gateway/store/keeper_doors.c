/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/keeper_internal.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "libs/mqtt/mqtt.h"

/* ---- the channel ---- */

static void close_door(struct sp_door *d, const char *reason)
{
    if (d->channel != NULL) {
        sp_log_warn(SP_EVENT("gate_away"), SP_F_INT("loop", d - d->keeper->doors),
                    SP_F_STR("reason", reason));
        sp_channel_destroy(d->channel);
        d->channel = NULL;
    }
}

void sp_door_tell(struct sp_door *d, uint16_t type, uint64_t tag, const struct sp_view *parts,
                  size_t count)
{
    if (d->channel != NULL && sp_channel_send(d->channel, type, tag, parts, count) != SP_OK) {
        close_door(d, "it does not read");
        sp_keeper_fail(d->keeper);
    }
}

void sp_door_tell_level(struct sp_door *d)
{
    const struct sp_msg_pressure message = {.level = d->keeper->level};
    const struct sp_view part = sp_view(&message, sizeof(message));
    sp_door_tell(d, SP_MSG_PRESSURE, 0, &part, 1);
}

/* What has been committed; marks on their way follow from gate itself, which counts on. */
struct marks {
    struct sp_door *door;
    size_t count;
    struct sp_msg_mark batch[256];
};

static void send_marks(struct marks *m, uint64_t last)
{
    const struct sp_view part = sp_view(m->batch, m->count * sizeof(m->batch[0]));
    sp_door_tell(m->door, SP_MSG_MARKS, last, &part, 1);
    m->count = 0;
}

static enum sp_err add_mark(void *arg, const struct sp_journal_mark *mark)
{
    struct marks *m = arg;
    struct sp_msg_mark *out = &m->batch[m->count];
    memset(out, 0, sizeof(*out));
    if (mark->device.len > sizeof(out->device) || mark->group.len > sizeof(out->group)) {
        return SP_OK; /* nothing that gate ever sent */
    }
    out->counter = mark->counter;
    out->epoch = mark->epoch;
    out->device_len = (uint8_t)mark->device.len;
    out->group_len = (uint8_t)mark->group.len;
    sp_copy(out->device, mark->device.ptr, mark->device.len);
    sp_copy(out->group, mark->group.ptr, mark->group.len);
    m->count++;
    if (m->count == sizeof(m->batch) / sizeof(m->batch[0])) {
        send_marks(m, 0);
    }
    return SP_OK;
}

/* Without its end gate takes no protected record. */
static void tell_marks(struct sp_door *d)
{
    static struct marks m; /* one thread; large */
    m = (struct marks){.door = d};
    if (sp_journal_marks(d->keeper->journal, add_mark, &m) == SP_OK) {
        send_marks(&m, 1);
    } else {
        close_door(d, "the marks cannot be read");
    }
}

static void start_answers(struct sp_door_answers *a, uint16_t type)
{
    a->type = type;
    a->last_ticket = 0;
    a->count = 0;
}

enum sp_err sp_door_open(struct sp_keeper *k, uint32_t loop, int fd)
{
    struct sp_door *d = &k->doors[loop];
    close_door(d, "replaced");
    SP_TRY(sp_channel_create(fd, &d->channel));
    start_answers(&d->messages, SP_MSG_DURABLE);
    start_answers(&d->sessions, SP_MSG_KEPT_DURABLE);
    d->answered = 0;
    d->shows = false;
    d->interest = EPOLLIN;
    if (!sp_keeper_watch(k, sp_channel_fd(d->channel), loop)) {
        close_door(d, "cannot be watched");
        return SP_ERR_IO;
    }
    sp_door_tell_level(d);
    tell_marks(d);
    return SP_OK;
}

void sp_door_flush(struct sp_door *d)
{
    if (d->channel == NULL) {
        return;
    }
    if (sp_channel_flush(d->channel) != SP_OK) {
        close_door(d, "closed");
        return;
    }
    uint32_t want = EPOLLIN | (sp_channel_pending(d->channel) > 0 ? (uint32_t)EPOLLOUT : 0U);
    struct epoll_event event = {.events = want, .data = {.u32 = (uint32_t)(d - d->keeper->doors)}};
    if (want != d->interest &&
        epoll_ctl(d->keeper->epoll, EPOLL_CTL_MOD, sp_channel_fd(d->channel), &event) == 0) {
        d->interest = want;
    }
}

/* ---- answers and fates ---- */

/* What becomes of a ticket if the commit succeeds. @retval SP_ERR_PROTOCOL It does not rise. */
static enum sp_err note(struct sp_door_answers *a, uint64_t ticket, enum sp_err err)
{
    if (ticket <= a->last_ticket) {
        return SP_ERR_PROTOCOL;
    }
    a->last_ticket = ticket;
    if (a->count > 0 && a->runs[a->count - 1].err == err) {
        a->runs[a->count - 1].up_to = ticket;
        return SP_OK;
    }
    if (a->count == a->cap) {
        size_t cap = a->cap == 0 ? 16 : a->cap * 2;
        struct sp_door_run *grown = realloc(a->runs, cap * sizeof(*grown));
        if (grown == NULL) {
            return SP_ERR_NOMEM;
        }
        a->runs = grown;
        a->cap = cap;
    }
    a->runs[a->count++] = (struct sp_door_run){.up_to = ticket, .err = err};
    return SP_OK;
}

static void keep_fate(struct sp_door *d, uint64_t ticket, bool refused)
{
    uint64_t *word = &d->refused[ticket % SP_DOOR_FATES / 64U];
    uint64_t bit = UINT64_C(1) << (ticket % 64U);
    *word = refused ? *word | bit : *word & ~bit;
}

/* It may not be stored before the one that it follows. */
static bool follows_refused(const struct sp_door *d, const struct sp_msg_record *head)
{
    uint64_t after = head->after;
    if (after == 0) {
        return false;
    }
    bool known = after < head->ticket && head->ticket - after < SP_DOOR_FATES;
    return !known || (d->refused[after % SP_DOOR_FATES / 64U] >> (after % 64U) & 1U) != 0;
}

/* A commit that failed: what had been taken is refused after all. */
static void refuse_turn(struct sp_door *d)
{
    uint64_t last = d->messages.last_ticket;
    uint64_t oldest = last > SP_DOOR_FATES ? last - SP_DOOR_FATES : 0;
    oldest = d->answered > oldest ? d->answered : oldest;
    for (uint64_t ticket = last; ticket > oldest; ticket--) {
        keep_fate(d, ticket, true);
    }
}

static void answer(struct sp_door *d, struct sp_door_answers *a, enum sp_err committed)
{
    for (size_t i = 0; i < a->count; i++) {
        const struct sp_door_run *run = &a->runs[i];
        const struct sp_msg_durable message = {
            .up_to = run->up_to,
            .err = (uint32_t)(run->err == SP_OK ? committed : run->err),
        };
        const struct sp_view part = sp_view(&message, sizeof(message));
        sp_door_tell(d, a->type, 0, &part, 1);
    }
    a->count = 0;
}

void sp_door_answer(struct sp_door *d, enum sp_err committed)
{
    if (committed != SP_OK) {
        refuse_turn(d);
    }
    answer(d, &d->messages, committed);
    answer(d, &d->sessions, committed);
    d->answered = d->messages.last_ticket;
}

/* ---- what gate says ---- */

static enum sp_err take_record(struct sp_door *d, const struct sp_intake_record *r)
{
    if (r->head.qos == 0) {
        sp_keeper_take_loose(d->keeper, r);
        return SP_OK;
    }
    if (r->head.ticket <= d->messages.last_ticket) {
        return SP_ERR_PROTOCOL;
    }
    enum sp_err err =
        follows_refused(d, &r->head) ? SP_ERR_LIMIT : sp_keeper_take_durable(d->keeper, r);
    if (err != SP_OK) {
        sp_metric_inc(SP_M_JOURNAL_REFUSED);
    }
    keep_fate(d, r->head.ticket, err != SP_OK);
    return note(&d->messages, r->head.ticket, err);
}

static enum sp_err take_batch(struct sp_door *d, struct sp_view body)
{
    struct sp_intake_record record;
    enum sp_err err = sp_intake_next(&body, d->keeper->payload_max, &record);
    while (err == SP_OK) {
        err = take_record(d, &record);
        if (err == SP_OK) {
            err = sp_intake_next(&body, d->keeper->payload_max, &record);
        }
    }
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

static enum sp_err take_kept(struct sp_door *d, const struct sp_kept *change)
{
    struct sp_keeper *k = d->keeper;
    uint64_t size = change->part.len + SP_SESSIONS_OVERHEAD;
    enum sp_err err = SP_OK;
    if (change->head.ticket != 0 && change->head.ticket <= d->sessions.last_ticket) {
        return SP_ERR_PROTOCOL;
    }
    if (change->head.kind == SP_KEPT_QUEUE &&
        sp_sessions_stats(k->journal).bytes + size > k->config->limits.sessions_bytes) {
        err = SP_ERR_LIMIT;
    } else {
        err = sp_sessions_stage(k->journal, change);
    }
    if (change->head.ticket == 0) {
        return SP_OK; /* a repeat after a crash is all that can come of it */
    }
    k->kept_waiting++;
    return note(&d->sessions, change->head.ticket, err);
}

static enum sp_err take_kept_batch(struct sp_door *d, struct sp_view body)
{
    struct sp_kept change;
    enum sp_err err = sp_kept_next(&body, &change);
    while (err == SP_OK) {
        err = take_kept(d, &change);
        if (err == SP_OK) {
            err = sp_kept_next(&body, &change);
        }
    }
    return err == SP_ERR_NOT_FOUND ? SP_OK : err;
}

static enum sp_err on_message(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    struct sp_door *d = arg;
    switch (frame->type) {
    case SP_MSG_APPEND:
        return take_batch(d, body);
    case SP_MSG_COMMAND_TAKEN:
        sp_keeper_command_taken(d->keeper, frame->tag, SP_MQTT_RC_SUCCESS);
        return SP_OK;
    case SP_MSG_COMMAND_REFUSED:
        sp_keeper_command_taken(d->keeper, frame->tag, SP_MQTT_RC_QUOTA_EXCEEDED);
        return SP_OK;
    case SP_MSG_KEPT:
        return take_kept_batch(d, body);
    case SP_MSG_KEPT_LOAD:
        sp_door_start_show(d);
        return SP_OK;
    default:
        return SP_ERR_PROTOCOL;
    }
}

void sp_door_read(struct sp_door *d)
{
    if (d->channel == NULL) {
        return;
    }
    enum sp_err err = sp_channel_receive(d->channel, on_message, d);
    if (err != SP_OK) {
        close_door(d, sp_err_text(err));
        if (err != SP_ERR_CLOSED) {
            sp_keeper_fail(d->keeper);
        }
    }
}
