/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * One turn: wait; read what all gate loops sent; one commit for all of it together with the rows that the cloud
 * thread is done with; answer every loop; hand the new rows on. When messages come thick, a turn may do no more
 * than read them, and leave the rest to the one that commits (gather.h).
 *
 * A link is either level with the journal (everything committed was handed to it, new rows go to it from
 * memory) or behind (its next rows are read back from the journal when it has room). So what is in memory is bounded, a
 * backlog drains in order, and without one nothing is read twice.
 */
#include "gateway/store/keeper.h"

#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/proc/channel.h"
#include "gateway/store/batch.h"
#include "gateway/store/gather.h"
#include "gateway/store/intake.h"
#include "gateway/store/rest.h"
#include "gateway/store/sessions.h"
#include "gateway/store/shares.h"
#include "libs/mqtt/mqtt.h"

#define EVENTS_MAX 64
#define ID_CONTROL UINT32_MAX
#define ID_HANDOFF (UINT32_MAX - 1U)
#define RECOVER_MS 1000U
#define SHOW_BYTES (256U << 10) /* of sessions in one turn */
#define PAYLOAD_MIN_MAX \
    65536U /* payloads up to this are taken whatever the devices' packet limit is */

#define FATES_KEPT 65536U /* tickets whose fate is remembered, for those that come after them */

/* Tickets up to `up_to` share a fate. */
struct run {
    uint64_t up_to;
    enum sp_err err;
};

/* The tickets of one kind of messages, on their way to an answer. */
struct answers {
    uint16_t type; /* of the answer */
    uint64_t last_ticket;
    struct run *runs; /* of this turn */
    size_t count;
    size_t cap;
};

/* One gate loop. */
struct door {
    struct sp_channel *channel; /* NULL while gate is away */
    struct sp_keeper *keeper;
    struct answers messages;
    struct answers sessions;
    uint64_t answered;                 /* ticket of a message */
    uint64_t refused[FATES_KEPT / 64]; /* a bit for each of the latest tickets of messages */
    uint32_t interest;                 /* what epoll knows */
    bool shows;                        /* gate has asked for the sessions there are */
    struct sp_sessions_walk walk;      /* how far it has got them */
};

/* One link to the cloud, seen from here. */
struct feed {
    struct sp_row_list give;
    size_t held_rows; /* given and not ended, or not out of the journal yet */
    size_t held_bytes;
    size_t loose_rows;
    size_t loose_bytes;
    uint64_t handed; /* sequence of the last row that was given, or passed over as another link's */
    bool level;
};

struct sp_keeper {
    struct sp_config *config; /* a reference of its own */
    struct sp_journal *journal;
    struct sp_handoff *handoff;
    int epoll;
    int control;
    bool stop;
    bool failed;
    bool hurry;
    uint32_t level;      /* of pressure, as gate was told */
    bool refused_full;   /* a message did not fit, this turn */
    uint64_t free_below; /* bytes; when full: what it takes to be free again */
    uint64_t now;
    uint64_t tick_at; /* gauges, and what has ended */
    uint64_t recover_at;
    struct sp_gather gather;
    bool called; /* the parent has a message, which is for after the commit */
    uint32_t payload_max;
    struct sp_row_list batch; /* of this turn, not committed yet */
    struct sp_row_list marks; /* of what needs no journal; for the next commit */
    uint64_t marks_since;     /* when the oldest of them came; 0: none */
    struct sp_shares *shares; /* bytes in journal and batch, by device */
    struct sp_row_list ended;
    struct sp_command *commands; /* not taken by gate yet, oldest first */
    size_t kept_waiting; /* changes to sessions that wait for the next commit to be answered */
    uint32_t links;
    struct feed *feeds;
    uint32_t door_count;
    struct door doors[];
};

static uint64_t monotonic_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000U + (uint64_t)t.tv_nsec / 1000000U;
}

/* ---- doors ---- */

static bool watch(const struct sp_keeper *k, int fd, uint32_t id)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = id}};
    return epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

/* The parent renews a channel when one of its ends dies, so an end that cannot go on has to. */
static void fail(struct sp_keeper *k)
{
    k->failed = true;
    k->stop = true;
}

static void close_door(struct door *d, const char *reason)
{
    if (d->channel != NULL) {
        sp_log_warn(SP_EVENT("gate_away"), SP_F_INT("loop", d - d->keeper->doors),
                    SP_F_STR("reason", reason));
        sp_channel_destroy(d->channel);
        d->channel = NULL;
    }
}

static void tell(struct door *d, uint16_t type, uint64_t tag, const struct sp_view *parts,
                 size_t count)
{
    if (d->channel != NULL && sp_channel_send(d->channel, type, tag, parts, count) != SP_OK) {
        close_door(d, "it does not read");
        fail(d->keeper);
    }
}

static void tell_level(struct door *d)
{
    const struct sp_msg_pressure message = {.level = d->keeper->level};
    const struct sp_view part = sp_view(&message, sizeof(message));
    tell(d, SP_MSG_PRESSURE, 0, &part, 1);
}

/* What has been committed; marks on their way follow from gate itself, which counts on. */
struct marks {
    struct door *door;
    size_t count;
    struct sp_msg_mark batch[256];
};

static void send_marks(struct marks *m, uint64_t last)
{
    const struct sp_view part = sp_view(m->batch, m->count * sizeof(m->batch[0]));
    tell(m->door, SP_MSG_MARKS, last, &part, 1);
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
static void tell_marks(struct door *d)
{
    static struct marks m; /* one thread; large */
    m = (struct marks){.door = d};
    if (sp_journal_marks(d->keeper->journal, add_mark, &m) == SP_OK) {
        send_marks(&m, 1);
    } else {
        close_door(d, "the marks cannot be read");
    }
}

static void start_answers(struct answers *a, uint16_t type)
{
    a->type = type;
    a->last_ticket = 0;
    a->count = 0;
}

static enum sp_err open_door(struct sp_keeper *k, uint32_t loop, int fd)
{
    struct door *d = &k->doors[loop];
    close_door(d, "replaced");
    SP_TRY(sp_channel_create(fd, &d->channel));
    start_answers(&d->messages, SP_MSG_DURABLE);
    start_answers(&d->sessions, SP_MSG_KEPT_DURABLE);
    d->answered = 0;
    d->shows = false;
    d->interest = EPOLLIN;
    if (!watch(k, sp_channel_fd(d->channel), loop)) {
        close_door(d, "cannot be watched");
        return SP_ERR_IO;
    }
    tell_level(d);
    tell_marks(d);
    return SP_OK;
}

/* What becomes of a ticket if the commit succeeds. @retval SP_ERR_PROTOCOL It does not rise. */
static enum sp_err note(struct answers *a, uint64_t ticket, enum sp_err err)
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
        struct run *grown = realloc(a->runs, cap * sizeof(*grown));
        if (grown == NULL) {
            return SP_ERR_NOMEM;
        }
        a->runs = grown;
        a->cap = cap;
    }
    a->runs[a->count++] = (struct run){.up_to = ticket, .err = err};
    return SP_OK;
}

/* ---- intake ---- */

/* By enum sp_record_refusal: what the gateway found wrong, as in the name of its counter. */
static const char *const refusals[SP_REFUSAL_COUNT] = {
    [SP_REFUSAL_WEAKER] = "refused record: weaker",
    [SP_REFUSAL_FORM] = "refused record: form",
    [SP_REFUSAL_KEY] = "refused record: key",
    [SP_REFUSAL_EPOCH] = "refused record: epoch",
    [SP_REFUSAL_OPEN] = "refused record: open",
    [SP_REFUSAL_CONTENT] = "refused record: content",
    [SP_REFUSAL_RANGE] = "refused record: range",
    [SP_REFUSAL_TIME] = "refused record: time",
};

static struct sp_row *make_row(const struct sp_intake_record *r)
{
    struct sp_row *row = sp_row_create_marked(r->device, r->topic, r->origin, r->payload, r->group);
    if (row != NULL) {
        row->time_ms = r->head.time_ms;
        row->expiry_s = r->head.expiry_s;
        row->qos = r->head.qos;
        row->format = r->head.format;
        row->protection = r->head.protection;
        row->flags = r->head.flags;
        row->epoch = r->head.epoch;
        row->counter = r->head.counter;
        row->packet_id = r->head.packet_id;
        if ((r->head.flags & SP_RECORD_REFUSED) != 0) {
            row->reason = refusals[r->head.refusal];
            row->end_ms = r->head.time_ms;
        }
    }
    return row;
}

/* The mark of what is not in the journal itself goes with the next commit, soon. Lost in a crash: it repeats. */
static void take_mark(struct sp_keeper *k, const struct sp_intake_record *r)
{
    static const struct sp_view nothing = {NULL, 0};
    const struct sp_intake_record mark = {
        .head = {.flags = SP_RECORD_MARK, .epoch = r->head.epoch, .counter = r->head.counter},
        .device = r->device,
        .topic = nothing,
        .origin = nothing,
        .group = r->group,
    };
    struct sp_row *row = sp_journal_broken(k->journal) ? NULL : make_row(&mark);
    if (row != NULL) {
        k->marks_since = k->marks_since == 0 ? k->now : k->marks_since;
        sp_row_list_push(&k->marks, row);
    }
}

static void take_loose(struct sp_keeper *k, const struct sp_intake_record *r)
{
    if (r->head.counter != 0) {
        take_mark(k, r);
    }
    if ((r->head.flags & SP_RECORD_MARK) != 0) {
        return;
    }
    uint32_t link = k->links == 0 ? 0 : sp_row_stream(r->device) % k->links;
    struct feed *f = k->links == 0 ? NULL : &k->feeds[link];
    struct sp_row *row = NULL;
    if (f != NULL && f->loose_rows < SP_KEEPER_LOOSE_ROWS &&
        f->loose_bytes < SP_KEEPER_LOOSE_BYTES && sp_handoff_is_up(k->handoff, link)) {
        row = make_row(r);
    }
    if (row == NULL) {
        sp_metric_inc(SP_M_CLOUD_DROPPED);
        return;
    }
    f->loose_rows++;
    f->loose_bytes += sp_row_cost(row);
    sp_row_list_push(&f->give, row);
}

static uint64_t used_bytes(const struct sp_keeper *k)
{
    struct sp_journal_stats s = sp_journal_stats(k->journal);
    return s.bytes + s.dead_bytes + k->batch.bytes;
}

static enum sp_err take_durable(struct sp_keeper *k, const struct sp_intake_record *r)
{
    if (k->links == 0) {
        return SP_ERR_UNSUPPORTED;
    }
    if (sp_journal_broken(k->journal)) {
        return SP_ERR_IO;
    }
    struct sp_row *row = make_row(r);
    if (row == NULL) {
        return SP_ERR_NOMEM;
    }
    bool release = (r->head.flags & SP_RECORD_RELEASE) != 0; /* makes room, if anything */
    if (!release && sp_shares_of(k->shares, row->device) + sp_row_cost(row) >
                        k->config->limits.journal_device_bytes) {
        sp_row_destroy(row);
        return SP_ERR_LIMIT;
    }
    if (!release && used_bytes(k) + sp_row_cost(row) > k->config->limits.journal_bytes) {
        sp_row_destroy(row);
        k->refused_full = true;
        return SP_ERR_LIMIT;
    }
    if (sp_shares_add(k->shares, row->device, sp_row_cost(row)) != SP_OK) {
        sp_row_destroy(row);
        return SP_ERR_NOMEM;
    }
    sp_row_list_push(&k->batch, row);
    return SP_OK;
}

static void keep_fate(struct door *d, uint64_t ticket, bool refused)
{
    uint64_t *word = &d->refused[ticket % FATES_KEPT / 64U];
    uint64_t bit = UINT64_C(1) << (ticket % 64U);
    *word = refused ? *word | bit : *word & ~bit;
}

/* It may not be stored before the one that it follows. */
static bool follows_refused(const struct door *d, const struct sp_msg_record *head)
{
    uint64_t after = head->after;
    if (after == 0) {
        return false;
    }
    bool known = after < head->ticket && head->ticket - after < FATES_KEPT;
    return !known || (d->refused[after % FATES_KEPT / 64U] >> (after % 64U) & 1U) != 0;
}

static enum sp_err take_record(struct door *d, const struct sp_intake_record *r)
{
    if (r->head.qos == 0) {
        take_loose(d->keeper, r);
        return SP_OK;
    }
    if (r->head.ticket <= d->messages.last_ticket) {
        return SP_ERR_PROTOCOL;
    }
    enum sp_err err = follows_refused(d, &r->head) ? SP_ERR_LIMIT : take_durable(d->keeper, r);
    if (err != SP_OK) {
        sp_metric_inc(SP_M_JOURNAL_REFUSED);
    }
    keep_fate(d, r->head.ticket, err != SP_OK);
    return note(&d->messages, r->head.ticket, err);
}

static enum sp_err take_batch(struct door *d, struct sp_view body)
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

/* ---- kept sessions ---- */

static enum sp_err take_kept(struct door *d, const struct sp_kept *change)
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

static enum sp_err take_kept_batch(struct door *d, struct sp_view body)
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

/* Sessions on their way to a gate that has just begun. */
struct show {
    uint8_t *ptr; /* malloc'ed */
    size_t used;
    size_t cap;
};

static enum sp_err add_shown(void *arg, const struct sp_kept *record)
{
    struct show *show = arg;
    size_t size = sp_kept_size(record);
    if (show->used + size > show->cap) {
        size_t cap = (show->used + size) * 2;
        uint8_t *grown = realloc(show->ptr, cap);
        if (grown == NULL) {
            return SP_ERR_NOMEM;
        }
        show->ptr = grown;
        show->cap = cap;
    }
    struct sp_writer w;
    sp_writer_init(&w, show->ptr + show->used, size);
    sp_kept_write(&w, record);
    show->used += size;
    return w.err;
}

/* From the beginning: gate is to forget what it got before. */
static void start_show(struct door *d)
{
    d->shows = true;
    d->walk = (struct sp_sessions_walk){.number = 0};
    tell(d, SP_MSG_KEPT, SP_KEPT_FIRST, NULL, 0);
}

/* A bounded part, so that everybody gets a turn. @return There is more that can be sent at once. */
static bool show_sessions(struct door *d)
{
    struct sp_journal *journal = d->keeper->journal;
    struct show show = {.ptr = NULL};
    bool done = false;
    if (d->channel == NULL || !d->shows || sp_journal_broken(journal) ||
        sp_channel_pending(d->channel) > SHOW_BYTES) {
        return false;
    }
    enum sp_err err = sp_sessions_walk(journal, &d->walk, SHOW_BYTES, add_shown, &show, &done);
    if (err == SP_OK) {
        const struct sp_view part = sp_view(show.ptr, show.used);
        d->shows = !done;
        tell(d, SP_MSG_KEPT, done ? SP_KEPT_LAST : 0, &part, 1);
    } else {
        sp_log_error(SP_EVENT("sessions_unreadable"), SP_F_ERR(err));
        start_show(d);
    }
    free(show.ptr);
    return err == SP_OK && d->shows;
}

static void command_taken(struct sp_keeper *k, uint64_t tag, uint8_t reason)
{
    for (struct sp_command **at = &k->commands; *at != NULL; at = &(*at)->next) {
        struct sp_command *c = *at;
        if (c->tag == tag) {
            *at = c->next;
            free(c);
            sp_handoff_command_taken(k->handoff, tag, reason);
            return;
        }
    }
}

static enum sp_err on_message(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    struct door *d = arg;
    switch (frame->type) {
    case SP_MSG_APPEND:
        return take_batch(d, body);
    case SP_MSG_COMMAND_TAKEN:
        command_taken(d->keeper, frame->tag, SP_MQTT_RC_SUCCESS);
        return SP_OK;
    case SP_MSG_COMMAND_REFUSED:
        command_taken(d->keeper, frame->tag, SP_MQTT_RC_QUOTA_EXCEEDED);
        return SP_OK;
    case SP_MSG_KEPT:
        return take_kept_batch(d, body);
    case SP_MSG_KEPT_LOAD:
        start_show(d);
        return SP_OK;
    default:
        return SP_ERR_PROTOCOL;
    }
}

static void read_door(struct door *d)
{
    if (d->channel == NULL) {
        return;
    }
    enum sp_err err = sp_channel_receive(d->channel, on_message, d);
    if (err != SP_OK) {
        close_door(d, sp_err_text(err));
        if (err != SP_ERR_CLOSED) {
            fail(d->keeper);
        }
    }
}

/* ---- commands from the cloud ---- */

static bool send_command(struct sp_keeper *k, const struct sp_command *c)
{
    const struct sp_msg_command head = {
        .payload_len = (uint32_t)c->payload.len,
        .topic_len = (uint16_t)c->topic.len,
        .qos = c->qos,
        .retain = c->retain,
    };
    const struct sp_view parts[] = {sp_view(&head, sizeof(head)), c->topic, c->payload};
    for (uint32_t i = 0; i < k->door_count; i++) {
        if (k->doors[i].channel != NULL) {
            tell(&k->doors[i], SP_MSG_COMMAND, c->tag, parts, 3);
            return true;
        }
    }
    return false;
}

static void take_commands(struct sp_keeper *k, struct sp_command *list)
{
    struct sp_command **end = &k->commands;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    while (list != NULL) {
        struct sp_command *c = list;
        list = c->next;
        c->next = NULL;
        (void)send_command(k, c); /* one that is waited for is sent again when gate is back */
        if (c->qos == 0) {
            free(c);
        } else {
            *end = c;
            end = &c->next;
        }
    }
}

static void resend_commands(struct sp_keeper *k)
{
    for (const struct sp_command *c = k->commands; c != NULL; c = c->next) {
        (void)send_command(k, c);
    }
}

/* ---- control ---- */

static void change_door(struct sp_keeper *k, const struct sp_control *message, int fd)
{
    if (fd < 0 || message->peer != SP_PROCESS_GATE || message->loop >= k->door_count) {
        if (fd >= 0) {
            (void)close(fd);
        }
        return;
    }
    enum sp_err err = open_door(k, message->loop, fd);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("channel_failed"), SP_F_INT("loop", message->loop), SP_F_ERR(err));
        fail(k);
    } else {
        resend_commands(k);
    }
}

static void new_configuration(struct sp_keeper *k, int fd)
{
    struct sp_config *config = NULL;
    enum sp_err err =
        fd < 0 ? SP_ERR_ARGUMENT : sp_config_load_fd(fd, "configuration", stderr, &config);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("configuration_refused"), SP_F_ERR(err));
        return;
    }
    sp_config_destroy(k->config);
    k->config = config;
    k->free_below = UINT64_MAX; /* was reckoned from the old quota */
    if (k->handoff != NULL) {
        sp_handoff_configure(k->handoff, sp_config_hold(config));
    }
}

static void read_control(struct sp_keeper *k)
{
    struct sp_control message;
    int fd = -1;
    enum sp_err err = sp_control_receive(k->control, &message, &fd);
    if (err == SP_ERR_AGAIN) {
        return;
    }
    if (err != SP_OK || message.type == SP_CONTROL_STOP) {
        k->stop = true;
        k->hurry = err == SP_OK && message.loop == 1;
    } else if (message.type == SP_CONTROL_CHANNEL) {
        change_door(k, &message, fd);
        return;
    } else if (message.type == SP_CONTROL_RELOAD) {
        new_configuration(k, fd);
    }
    if (fd >= 0) {
        (void)close(fd);
    }
}

/* ---- commit ---- */

static void log_dead(const struct sp_keeper *k)
{
    for (const struct sp_row *row = k->ended.head; row != NULL; row = row->next) {
        if (row->end == SP_ROW_DEAD) {
            sp_metric_inc(SP_M_JOURNAL_DEAD);
            sp_log_warn(SP_EVENT("dead_letter"), SP_F_VIEW("device", row->device),
                        SP_F_INT("sequence", row->seq), SP_F_VIEW("topic", row->topic),
                        SP_F_STR("reason", row->reason));
        }
    }
}

static void release_ended(struct sp_keeper *k)
{
    if (k->ended.head == NULL) {
        return;
    }
    log_dead(k);
    sp_handoff_released(k->handoff, &k->ended);
    for (const struct sp_row *row = k->ended.head; row != NULL; row = row->next) {
        struct feed *f = &k->feeds[row->stream % k->links];
        f->held_rows--;
        f->held_bytes -= sp_row_cost(row);
        sp_shares_take(k->shares, row->device, sp_row_cost(row));
    }
    sp_row_list_clear(&k->ended);
}

/* Rows that are no messages: all of a failed commit; releases, repeats, refused ones. Marks never had a share. */
static void give_back_shares(struct sp_keeper *k)
{
    for (const struct sp_row *row = k->batch.head; row != NULL; row = row->next) {
        if (row->seq == 0 && (row->flags & SP_RECORD_MARK) == 0) {
            sp_shares_take(k->shares, row->device, sp_row_cost(row));
        }
    }
}

static void note_share(void *arg, struct sp_view device, uint64_t bytes)
{
    struct sp_keeper *k = arg;
    if (sp_shares_add(k->shares, device, bytes) != SP_OK) {
        sp_log_warn(SP_EVENT("share_unknown"), SP_F_VIEW("device", device));
    }
}

static enum sp_err count_shares(struct sp_keeper *k)
{
    sp_shares_clear(k->shares);
    return sp_journal_shares(k->journal, note_share, k);
}

/* An operator has put dead letters back: they are read from the journal, and what is behind them too. */
static void look_for_others(struct sp_keeper *k)
{
    if (sp_journal_changed(k->journal)) {
        for (uint32_t i = 0; i < k->links; i++) {
            k->feeds[i].level = false;
        }
        (void)count_shares(k); /* a failure makes the journal broken, and is dealt with there */
    }
}

/* New rows go to links that are level; for a link that has no room they stay in the journal only. */
static void hand_on(struct sp_keeper *k)
{
    for (struct sp_row *row = sp_row_list_pop(&k->batch); row != NULL;
         row = sp_row_list_pop(&k->batch)) {
        if (row->seq == 0) { /* a release, a mark, a repeat of what is here, or a refused record */
            sp_metric_add(SP_M_JOURNAL_DEAD, (row->flags & SP_RECORD_REFUSED) != 0);
            sp_row_destroy(row);
            continue;
        }
        struct feed *f = &k->feeds[row->stream % k->links];
        f->level = f->level && f->held_rows < SP_KEEPER_WINDOW_ROWS &&
                   f->held_bytes < SP_KEEPER_WINDOW_BYTES;
        if (!f->level) {
            sp_row_destroy(row);
            continue;
        }
        f->handed = row->seq;
        f->held_rows++;
        f->held_bytes += sp_row_cost(row);
        sp_row_list_push(&f->give, row);
    }
}

static void commit_failed(struct sp_keeper *k)
{
    sp_log_error(SP_EVENT("journal_failed"), SP_F_STR("error", sp_journal_error(k->journal)),
                 SP_F_INT("refused", k->batch.count));
    sp_metric_add(SP_M_JOURNAL_REFUSED, (int64_t)k->batch.count);
    give_back_shares(k);
    sp_row_list_clear(&k->batch);
    k->recover_at = k->now;
}

static bool marks_due(const struct sp_keeper *k)
{
    return k->marks.head != NULL && (k->stop || k->marks.count >= SP_KEEPER_MARKS ||
                                     k->now - k->marks_since >= SP_KEEPER_MARKS_MS);
}

static bool commit_due(const struct sp_keeper *k)
{
    if (sp_journal_broken(k->journal)) {
        return false;
    }
    return k->batch.head != NULL || k->kept_waiting > 0 || marks_due(k) ||
           k->ended.count >= SP_HANDOFF_ENDED_ROWS || k->ended.bytes >= SP_HANDOFF_ENDED_BYTES ||
           ((k->ended.head != NULL || sp_sessions_staged(k->journal)) &&
            (k->stop || k->now >= k->tick_at));
}

/* @return SP_OK, or what the rows of the batch are refused with. */
static enum sp_err commit(struct sp_keeper *k)
{
    if (!commit_due(k)) {
        return SP_OK;
    }
    size_t count = k->batch.count;
    sp_gather_begin(&k->gather, sp_rest_now(), count + k->kept_waiting);
    sp_row_list_append(&k->batch, &k->marks);
    k->marks_since = 0;
    k->kept_waiting = 0;
    enum sp_err err = sp_journal_commit(k->journal, &k->batch, &k->ended);
    if (err != SP_OK) {
        commit_failed(k);
        return err;
    }
    sp_metric_inc(SP_M_JOURNAL_COMMITS);
    sp_metric_add(SP_M_JOURNAL_APPENDED, (int64_t)count);
    release_ended(k);
    give_back_shares(k);
    look_for_others(k);
    hand_on(k);
    return SP_OK;
}

/* A commit that failed: what had been taken is refused after all. */
static void refuse_turn(struct door *d)
{
    uint64_t last = d->messages.last_ticket;
    uint64_t oldest = last > FATES_KEPT ? last - FATES_KEPT : 0;
    oldest = d->answered > oldest ? d->answered : oldest;
    for (uint64_t ticket = last; ticket > oldest; ticket--) {
        keep_fate(d, ticket, true);
    }
}

static void answer(struct door *d, struct answers *a, enum sp_err committed)
{
    for (size_t i = 0; i < a->count; i++) {
        const struct run *run = &a->runs[i];
        const struct sp_msg_durable message = {
            .up_to = run->up_to,
            .err = (uint32_t)(run->err == SP_OK ? committed : run->err),
        };
        const struct sp_view part = sp_view(&message, sizeof(message));
        tell(d, a->type, 0, &part, 1);
    }
    a->count = 0;
}

static void answer_door(struct door *d, enum sp_err committed)
{
    if (committed != SP_OK) {
        refuse_turn(d);
    }
    answer(d, &d->messages, committed);
    answer(d, &d->sessions, committed);
    d->answered = d->messages.last_ticket;
}

static void recover(struct sp_keeper *k)
{
    if (!sp_journal_broken(k->journal) || k->now < k->recover_at) {
        return;
    }
    if (sp_journal_recover(k->journal) == SP_OK) {
        sp_log_info(SP_EVENT("journal_recovered"),
                    SP_F_INT("messages", sp_journal_stats(k->journal).messages));
        return;
    }
    sp_log_error(SP_EVENT("journal_failed"), SP_F_STR("error", sp_journal_error(k->journal)));
    k->recover_at = k->now + RECOVER_MS;
}

/* ---- feeding the links ---- */

/* Read the next rows of a link that is behind. @return There may be more at once. */
static bool catch_up(struct sp_keeper *k, uint32_t link)
{
    struct feed *f = &k->feeds[link];
    if (f->level || sp_journal_broken(k->journal) || f->held_rows > SP_KEEPER_WINDOW_ROWS / 2 ||
        f->held_bytes > SP_KEEPER_WINDOW_BYTES / 2) {
        return false;
    }
    const struct sp_journal_want want = {
        .after = f->handed,
        .link = link,
        .links = k->links,
        .max_rows = SP_KEEPER_WINDOW_ROWS - f->held_rows,
        .max_bytes = SP_KEEPER_WINDOW_BYTES - f->held_bytes,
    };
    struct sp_row_list rows = {0};
    uint64_t reached = f->handed;
    enum sp_err err = sp_journal_read(k->journal, &want, &rows, &reached);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("journal_failed"), SP_F_STR("error", sp_journal_error(k->journal)));
        k->recover_at = k->now + RECOVER_MS;
    }
    f->handed = reached;
    f->level = err == SP_OK && reached == sp_journal_last(k->journal);
    f->held_rows += rows.count;
    f->held_bytes += rows.bytes;
    sp_row_list_append(&f->give, &rows);
    return err == SP_OK && !f->level && f->held_rows <= SP_KEEPER_WINDOW_ROWS / 2;
}

/* @return Some link may be fed more without waiting. */
static bool feed_links(struct sp_keeper *k)
{
    bool more = false;
    for (uint32_t i = 0; i < k->links; i++) {
        more = catch_up(k, i) || more;
        sp_handoff_give(k->handoff, i, &k->feeds[i].give);
    }
    return more;
}

static void take_back(struct sp_keeper *k)
{
    struct sp_row_list back = {0};
    struct sp_command *commands = NULL;
    sp_handoff_take_ended(k->handoff, &back, &commands);
    for (struct sp_row *row = sp_row_list_pop(&back); row != NULL; row = sp_row_list_pop(&back)) {
        if (row->seq == 0) {
            struct feed *f = &k->feeds[row->stream % k->links];
            f->loose_rows--;
            f->loose_bytes -= sp_row_cost(row);
            sp_row_destroy(row);
            continue;
        }
        sp_row_list_push(&k->ended, row);
    }
    take_commands(k, commands);
}

/* ---- pressure and gauges ---- */

/* Up at 80 percent and when full, down again below 70 and 95 percent of what was full. */
static uint32_t next_level(struct sp_keeper *k)
{
    uint64_t quota = k->config->limits.journal_bytes;
    uint64_t used = used_bytes(k);
    bool full = used >= quota || (k->refused_full && used >= quota - quota / 20U);
    k->refused_full = false;
    if (full) {
        k->free_below = used - used / 20U;
    }
    if (full || sp_journal_broken(k->journal) || used > k->free_below) {
        return 2;
    }
    k->free_below = UINT64_MAX;
    uint64_t bound = k->level > 0 ? quota / 10U * 7U : quota / 10U * 8U;
    return used >= bound && used > 0 ? 1 : 0;
}

static void look_at_pressure(struct sp_keeper *k)
{
    uint32_t level = next_level(k);
    if (level == k->level) {
        return;
    }
    k->level = level;
    sp_log_warn(SP_EVENT("journal_pressure"), SP_F_INT("level", level),
                SP_F_INT("bytes", used_bytes(k)),
                SP_F_INT("quota", k->config->limits.journal_bytes));
    for (uint32_t i = 0; i < k->door_count; i++) {
        tell_level(&k->doors[i]);
    }
}

static void set_gauges(struct sp_keeper *k)
{
    if (k->now < k->tick_at) {
        return;
    }
    k->tick_at = k->now + SP_KEEPER_TICK_MS;
    look_for_others(k);
    struct sp_journal_stats s = sp_journal_stats(k->journal);
    sp_metric_set(SP_M_JOURNAL_DEPTH, (int64_t)s.messages);
    sp_metric_set(SP_M_JOURNAL_BYTES, (int64_t)s.bytes);
    uint64_t oldest = sp_journal_oldest_ms(k->journal);
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    int64_t age = oldest == 0 ? 0 : (int64_t)t.tv_sec - (int64_t)(oldest / 1000U);
    sp_metric_set(SP_M_JOURNAL_OLDEST, age > 0 ? age : 0);
    struct sp_sessions_stats kept = sp_sessions_stats(k->journal);
    sp_metric_set(SP_M_SESSIONS_KEPT, (int64_t)kept.sessions);
    sp_metric_set(SP_M_SESSION_MESSAGES, (int64_t)kept.messages);
    sp_metric_set(SP_M_SESSION_BYTES, (int64_t)kept.bytes);
}

/* ---- the loop ---- */

static void flush_door(struct sp_keeper *k, uint32_t loop)
{
    struct door *d = &k->doors[loop];
    if (d->channel == NULL) {
        return;
    }
    if (sp_channel_flush(d->channel) != SP_OK) {
        close_door(d, "closed");
        return;
    }
    uint32_t want = EPOLLIN | (sp_channel_pending(d->channel) > 0 ? (uint32_t)EPOLLOUT : 0U);
    struct epoll_event event = {.events = want, .data = {.u32 = loop}};
    if (want != d->interest &&
        epoll_ctl(k->epoll, EPOLL_CTL_MOD, sp_channel_fd(d->channel), &event) == 0) {
        d->interest = want;
    }
}

static void dispatch(struct sp_keeper *k, const struct epoll_event *event)
{
    if (event->data.u32 == ID_CONTROL) {
        k->called = true;
    } else if (event->data.u32 != ID_HANDOFF) {
        read_door(&k->doors[event->data.u32]);
    }
}

static int patience(const struct sp_keeper *k, bool more)
{
    uint64_t due = k->tick_at;
    if (sp_journal_broken(k->journal)) {
        due = k->recover_at < due ? k->recover_at : due;
    } else if (k->marks_since != 0) {
        uint64_t marks = k->marks_since + SP_KEEPER_MARKS_MS;
        due = marks < due ? marks : due;
    }
    uint64_t now = monotonic_ms();
    return more || due <= now ? 0 : (int)(due - now);
}

/* Changes gather: this turn commits nothing, and answers nobody. */
static bool gathers(struct sp_keeper *k)
{
    bool full = k->ended.count >= SP_HANDOFF_ENDED_ROWS ||
                k->ended.bytes >= SP_HANDOFF_ENDED_BYTES || k->batch.bytes >= SP_BATCH_BYTES;
    size_t count = full ? SP_GATHER_FULL : k->batch.count + k->kept_waiting;
    return sp_gather_waits(&k->gather, sp_rest_now(), count) && !k->called && !k->stop &&
           !sp_journal_broken(k->journal);
}

static void take_in(struct sp_keeper *k, const struct epoll_event *events, int count)
{
    k->now = monotonic_ms();
    k->called = false;
    if (k->links > 0) {
        take_back(k);
    }
    for (int i = 0; i < count; i++) {
        dispatch(k, &events[i]);
    }
}

/* @return There is more to be done at once. */
static bool finish_turn(struct sp_keeper *k)
{
    enum sp_err committed = commit(k);
    for (uint32_t i = 0; i < k->door_count; i++) {
        answer_door(&k->doors[i], committed);
    }
    if (k->called) { /* a new gate is told of all that the old one sent */
        read_control(k);
    }
    recover(k);
    bool more = feed_links(k);
    for (uint32_t i = 0; i < k->door_count; i++) {
        more = show_sessions(&k->doors[i]) || more;
    }
    look_at_pressure(k);
    set_gauges(k);
    return more;
}

bool sp_keeper_run(struct sp_keeper *keeper)
{
    struct sp_keeper *k = keeper;
    bool more = true;
    while (!k->stop) {
        struct epoll_event events[EVENTS_MAX];
        sp_rest_until(k->gather.look_us);
        more = more || k->gather.look_us != 0;
        int n = epoll_wait(k->epoll, events, EVENTS_MAX, patience(k, more));
        take_in(k, events, n);
        more = !gathers(k) && finish_turn(k);
        for (uint32_t i = 0; i < k->door_count; i++) {
            flush_door(k, i);
        }
    }
    return !k->failed;
}

bool sp_keeper_in_a_hurry(const struct sp_keeper *keeper)
{
    return keeper->hurry;
}

void sp_keeper_finish(struct sp_keeper *keeper)
{
    keeper->stop = true;
    keeper->now = monotonic_ms();
    if (keeper->links > 0) {
        take_back(keeper);
    }
    (void)commit(keeper);
}

enum sp_err sp_keeper_create(const struct sp_child *child, struct sp_journal *journal,
                             struct sp_handoff *handoff, struct sp_keeper **out)
{
    *out = NULL;
    const struct sp_config *config = child->config;
    uint32_t doors = config->threads;
    struct sp_keeper *k = calloc(1, sizeof(*k) + doors * sizeof(k->doors[0]));
    if (k == NULL) {
        return SP_ERR_NOMEM;
    }
    k->config = sp_config_hold(config);
    k->journal = journal;
    k->handoff = handoff;
    k->control = child->control;
    k->links = handoff == NULL ? 0 : config->cloud.connections;
    k->feeds = calloc(k->links + 1U, sizeof(*k->feeds));
    k->payload_max =
        config->limits.packet > PAYLOAD_MIN_MAX ? config->limits.packet : PAYLOAD_MIN_MAX;
    k->epoll = epoll_create1(EPOLL_CLOEXEC);
    enum sp_err err = k->feeds == NULL || k->epoll < 0 ? SP_ERR_NOMEM : SP_OK;
    if (err == SP_OK &&
        (!watch(k, k->control, ID_CONTROL) ||
         (handoff != NULL && !watch(k, sp_handoff_journal_fd(handoff), ID_HANDOFF)))) {
        err = SP_ERR_IO;
    }
    if (err == SP_OK) {
        err = sp_shares_create(&k->shares);
    }
    if (err == SP_OK) {
        err = count_shares(k);
    }
    k->free_below = UINT64_MAX;
    k->level = next_level(k);
    for (; err == SP_OK && k->door_count < doors; k->door_count++) {
        k->doors[k->door_count].keeper = k;
        err = open_door(k, k->door_count, child->store[k->door_count]);
    }
    if (err != SP_OK) {
        sp_keeper_destroy(k);
        return err;
    }
    *out = k;
    return SP_OK;
}

void sp_keeper_destroy(struct sp_keeper *keeper)
{
    if (keeper == NULL) {
        return;
    }
    for (uint32_t i = 0; i < keeper->door_count; i++) {
        sp_channel_destroy(keeper->doors[i].channel);
        free(keeper->doors[i].messages.runs);
        free(keeper->doors[i].sessions.runs);
    }
    for (uint32_t i = 0; i < keeper->links; i++) {
        sp_row_list_clear(&keeper->feeds[i].give);
    }
    sp_row_list_clear(&keeper->batch);
    sp_row_list_clear(&keeper->marks);
    sp_row_list_clear(&keeper->ended);
    for (struct sp_command *c = keeper->commands; c != NULL;) {
        struct sp_command *next = c->next;
        free(c);
        c = next;
    }
    if (keeper->epoll >= 0) {
        (void)close(keeper->epoll);
    }
    sp_config_destroy(keeper->config);
    free(keeper->feeds);
    sp_shares_destroy(keeper->shares);
    free(keeper);
}
