/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * One turn: wait; read what all gate loops sent; one commit for all of it together with the rows that the cloud
 * thread is done with; answer every loop; hand the new rows on. When messages come thick, a turn may do no more
 * than read them, and leave the rest to the one that commits (gather.h).
 */
#include "gateway/store/keeper_internal.h"

#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/store/batch.h"
#include "gateway/store/rest.h"

#define EVENTS_MAX 64
#define ID_CONTROL UINT32_MAX
#define ID_HANDOFF (UINT32_MAX - 1U)
#define RECOVER_MS 1000U
#define PAYLOAD_MIN_MAX \
    65536U /* payloads up to this are taken whatever the devices' packet limit is */

/* ---- for all of its files ---- */

bool sp_keeper_watch(const struct sp_keeper *k, int fd, uint32_t id)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = id}};
    return epoll_ctl(k->epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

void sp_keeper_fail(struct sp_keeper *k)
{
    k->failed = true;
    k->stop = true;
}

uint64_t sp_keeper_used(const struct sp_keeper *k)
{
    struct sp_journal_stats s = sp_journal_stats(k->journal);
    return s.bytes + s.dead_bytes + k->batch.bytes;
}

void sp_keeper_journal_failed(struct sp_keeper *k)
{
    sp_log_error(SP_EVENT("journal_failed"), SP_F_STR("error", sp_journal_error(k->journal)));
    k->recover_at = k->now + RECOVER_MS;
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
    enum sp_err err = sp_door_open(k, message->loop, fd);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("channel_failed"), SP_F_INT("loop", message->loop), SP_F_ERR(err));
        sp_keeper_fail(k);
    } else {
        sp_keeper_resend_commands(k);
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
    sp_keeper_release_ended(k);
    give_back_shares(k);
    look_for_others(k);
    sp_keeper_hand_on(k);
    return SP_OK;
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
    sp_keeper_journal_failed(k);
}

/* ---- pressure and gauges ---- */

/* Up at 80 percent and when full, down again below 70 and 95 percent of what was full. */
static uint32_t next_level(struct sp_keeper *k)
{
    uint64_t quota = k->config->limits.journal_bytes;
    uint64_t used = sp_keeper_used(k);
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
                SP_F_INT("bytes", sp_keeper_used(k)),
                SP_F_INT("quota", k->config->limits.journal_bytes));
    for (uint32_t i = 0; i < k->door_count; i++) {
        sp_door_tell_level(&k->doors[i]);
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

static void dispatch(struct sp_keeper *k, const struct epoll_event *event)
{
    if (event->data.u32 == ID_CONTROL) {
        k->called = true;
    } else if (event->data.u32 != ID_HANDOFF) {
        sp_door_read(&k->doors[event->data.u32]);
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
    uint64_t now = sp_rest_now_ms();
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
    k->now = sp_rest_now_ms();
    k->called = false;
    if (k->links > 0) {
        sp_keeper_take_back(k);
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
        sp_door_answer(&k->doors[i], committed);
    }
    if (k->called) { /* a new gate is told of all that the old one sent */
        read_control(k);
    }
    recover(k);
    bool more = sp_keeper_feed_links(k);
    for (uint32_t i = 0; i < k->door_count; i++) {
        more = sp_door_show(&k->doors[i]) || more;
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
            sp_door_flush(&k->doors[i]);
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
    keeper->now = sp_rest_now_ms();
    if (keeper->links > 0) {
        sp_keeper_take_back(keeper);
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
        (!sp_keeper_watch(k, k->control, ID_CONTROL) ||
         (handoff != NULL && !sp_keeper_watch(k, sp_handoff_journal_fd(handoff), ID_HANDOFF)))) {
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
        err = sp_door_open(k, k->door_count, child->store[k->door_count]);
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
