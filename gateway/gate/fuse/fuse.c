/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/fuse/fuse.h"

#include "gateway/gate/fuse/document.h"
#include "gateway/gate/session/home.h"
#include "gateway/log/log.h"
#include "libs/mqtt/topic.h"

#include <stdlib.h>

#define JOINS_MAX 4U /* windows of one fusion that wait for another loop's sums */

/* One fusion on this loop. */
struct part {
    const struct sp_fusion_config *config;
    int64_t next_close; /* index of the oldest window that is open */
    uint32_t known;     /* devices of this loop that were ever seen */
    bool told;          /* that sealed records are left out */
    struct sp_fuse_window windows[2];
};

/* Loop 0: sums of several loops for one window. */
struct join {
    bool used;
    unsigned arrived;
    uint32_t known;
    struct sp_fuse_window window;
};

struct sp_fuse {
    struct sp_home *home;
    struct sp_timer timer;
    size_t count;
    struct part *parts;
    struct join (*joins)[JOINS_MAX]; /* loop 0 only */
};

/* One loop's sums on their way to loop 0. */
struct delivery {
    struct sp_parcel parcel; /* first: cast back */
    size_t fusion;
    uint32_t generation; /* of the configuration that `fusion` is an index of */
    uint32_t known;
    struct sp_fuse_window window;
};

static void timer_due(struct sp_timer *timer);

/* ---- sums ---- */

static void add(struct sp_fuse_sum *sum, double value)
{
    if (sum->count == 0 || value < sum->min) {
        sum->min = value;
    }
    if (sum->count == 0 || value > sum->max) {
        sum->max = value;
    }
    sum->sum += value;
    sum->count++;
}

static void join_sums(struct sp_fuse_sum *into, const struct sp_fuse_sum *from)
{
    if (from->count == 0) {
        return;
    }
    into->min = into->count == 0 || from->min < into->min ? from->min : into->min;
    into->max = into->count == 0 || from->max > into->max ? from->max : into->max;
    into->sum += from->sum;
    into->count += from->count;
}

/* ---- loop 0: joining and publishing ---- */

static void publish(struct sp_fuse *fuse, size_t fusion, struct join *join)
{
    if (join->known > 0) {
        sp_fuse_publish(fuse->home, fuse->parts[fusion].config, &join->window, join->known);
    }
    *join = (struct join){.used = false};
}

static struct join *join_of(struct sp_fuse *fuse, size_t fusion, int64_t index)
{
    struct join *oldest = NULL;
    struct join *room = NULL;
    for (size_t i = 0; i < JOINS_MAX; i++) {
        struct join *j = &fuse->joins[fusion][i];
        if (j->used && j->window.index == index) {
            return j;
        }
        if (!j->used) {
            room = j;
        } else if (oldest == NULL || j->window.index < oldest->window.index) {
            oldest = j;
        }
    }
    if (room == NULL) { /* a loop that is stuck does not hold up the others' document for ever */
        publish(fuse, fusion, oldest);
        room = oldest;
    }
    *room = (struct join){.used = true, .window = {.index = index}};
    return room;
}

static void arrive(struct sp_fuse *fuse, size_t fusion, const struct sp_fuse_window *window,
                   uint32_t known)
{
    struct join *j = join_of(fuse, fusion, window->index);
    join_sums(&j->window.temperature, &window->temperature);
    join_sums(&j->window.humidity, &window->humidity);
    j->window.seen += window->seen;
    j->window.late += window->late;
    j->window.declassified |= window->declassified;
    j->known += known;
    j->arrived++;
    if (j->arrived == fuse->home->loops) {
        publish(fuse, fusion, j);
    }
}

static void deliver(void *owner, struct sp_parcel *parcel)
{
    struct sp_home *home = owner;
    struct delivery *d = (struct delivery *)parcel;
    if (home->fuse != NULL && d->generation == home->generation) {
        arrive(home->fuse, d->fusion, &d->window, d->known);
    }
    free(d);
}

/* ---- windows ---- */

static void hand_in(struct sp_fuse *fuse, size_t fusion, const struct sp_fuse_window *window)
{
    uint32_t known = fuse->parts[fusion].known;
    if (fuse->home->index == 0) {
        arrive(fuse, fusion, window, known);
        return;
    }
    struct delivery *d = malloc(sizeof(*d));
    if (d == NULL) {
        sp_metric_add(SP_M_FUSION_REFUSED, (int64_t)window->temperature.count);
        return;
    }
    *d = (struct delivery){.parcel = {.run = deliver},
                           .fusion = fusion,
                           .generation = fuse->home->generation,
                           .known = known,
                           .window = *window};
    sp_home_post(fuse->home, 0, &d->parcel);
}

static int64_t wall_of(const struct sp_fuse *fuse)
{
    return (int64_t)fuse->home->timers->wall_ms;
}

static int64_t end_of(const struct part *part, int64_t index)
{
    return (index + 1) * (int64_t)part->config->window_ms + (int64_t)part->config->late_ms;
}

static void close_next(struct sp_fuse *fuse, size_t fusion)
{
    struct part *part = &fuse->parts[fusion];
    struct sp_fuse_window *w = &part->windows[part->next_close & 1];
    struct sp_fuse_window closed = {.index = part->next_close};
    if (w->open && w->index == part->next_close) {
        closed = *w;
    }
    *w = (struct sp_fuse_window){.open = false};
    part->next_close++;
    hand_in(fuse, fusion, &closed);
}

static void roll_one(struct sp_fuse *fuse, size_t fusion, int64_t wall_ms)
{
    struct part *part = &fuse->parts[fusion];
    for (unsigned i = 0; i < 2 && end_of(part, part->next_close) <= wall_ms; i++) {
        close_next(fuse, fusion);
    }
    int64_t now = wall_ms / (int64_t)part->config->window_ms;
    if (end_of(part, part->next_close) <=
        wall_ms) { /* asleep, or the clock was set: go on from now */
        part->next_close = end_of(part, now - 1) > wall_ms ? now - 1 : now;
    }
}

void sp_fuse_roll(struct sp_fuse *fuse)
{
    int64_t wall = wall_of(fuse);
    int64_t next = INT64_MAX;
    for (size_t i = 0; i < fuse->count; i++) {
        roll_one(fuse, i, wall);
        int64_t end = end_of(&fuse->parts[i], fuse->parts[i].next_close);
        next = end < next ? end : next;
    }
    if (fuse->count > 0) {
        sp_timer_set(fuse->home->timers, &fuse->timer,
                     fuse->home->timers->now_ms + (uint64_t)(next - wall));
    }
}

static void timer_due(struct sp_timer *timer)
{
    sp_fuse_roll((struct sp_fuse *)(void *)((char *)timer - offsetof(struct sp_fuse, timer)));
}

/* The window for a record; NULL: it is late. */
static struct sp_fuse_window *window_for(struct part *part, int64_t time_ms, int64_t wall_ms)
{
    int64_t now = wall_ms / (int64_t)part->config->window_ms;
    int64_t index = time_ms / (int64_t)part->config->window_ms;
    index = index > now ? now : index;
    if (index < part->next_close) {
        return NULL;
    }
    struct sp_fuse_window *w = &part->windows[index & 1];
    if (!w->open || w->index != index) {
        *w = (struct sp_fuse_window){.index = index, .open = true};
    }
    return w;
}

static void take_into(struct part *part, struct sp_member *member, const struct sp_record_in *in,
                      int64_t wall_ms)
{
    const struct sp_senml_entry *t = in->record.temperature;
    const struct sp_senml_entry *h = in->record.humidity;
    const struct sp_senml_entry *timed = t != NULL ? t : h;
    int64_t time_ms = timed == NULL ? wall_ms : sp_senml_time_ms(timed, wall_ms);
    struct sp_fuse_window *w = window_for(part, time_ms, wall_ms);
    part->known += !member->known;
    member->known = true;
    if (w == NULL) {
        sp_metric_inc(SP_M_FUSION_LATE);
        w = window_for(part, wall_ms, wall_ms);
        if (w != NULL) {
            w->late++;
        }
        return;
    }
    if (member->seen[w->index & 1] != w->index) {
        member->seen[w->index & 1] = w->index;
        w->seen++;
    }
    if (t != NULL && t->kind == SP_SENML_NUMBER) {
        add(&w->temperature, sp_decimal_to_double(t->number));
    }
    if (h != NULL && h->kind == SP_SENML_NUMBER) {
        add(&w->humidity, sp_decimal_to_double(h->number));
    }
    w->declassified |= in->protection == SP_PROTECTION_SEALED;
    sp_metric_inc(SP_M_FUSION_RECORDS);
}

/* What is sealed becomes readable in the document: only where the configuration says that it may. */
static bool may_take(struct part *part, const struct sp_record_in *in)
{
    if (in->protection != SP_PROTECTION_SEALED || part->config->declassify) {
        return true;
    }
    sp_metric_inc(SP_M_FUSION_REFUSED);
    if (!part->told) {
        part->told = true;
        sp_log_warn(
            SP_EVENT("fusion_needs_declassify"), SP_F_STR("fusion", part->config->name),
            SP_F_STR("detail", "sealed records are left out; `declassify: true` takes them"));
    }
    return false;
}

void sp_fuse_take(struct sp_fuse *fuse, struct sp_sensor *sensor, struct sp_view topic,
                  const struct sp_record_in *in)
{
    int64_t wall = wall_of(fuse);
    for (size_t i = 0; i < fuse->count; i++) {
        struct part *part = &fuse->parts[i];
        struct sp_member *member = &sensor->members[i];
        if (!member->asked) { /* a device has one climate topic: it matches always or never */
            member->asked = true;
            member->seen[0] = member->seen[1] = -1;
            member->matches = sp_topic_matches(sp_view_str(part->config->inputs), topic);
        }
        if (member->matches && may_take(part, in)) {
            roll_one(fuse, i, wall);
            take_into(part, member, in, wall);
        }
    }
}

void sp_fuse_forget(struct sp_fuse *fuse, const struct sp_sensor *sensor)
{
    for (size_t i = 0; i < fuse->count; i++) {
        fuse->parts[i].known -= sensor->members[i].known;
    }
}

/* ---- life ---- */

enum sp_err sp_fuse_create(struct sp_home *home, struct sp_fuse **out)
{
    *out = NULL;
    struct sp_fuse *fuse = calloc(1, sizeof(*fuse));
    if (fuse == NULL) {
        return SP_ERR_NOMEM;
    }
    fuse->home = home;
    fuse->timer.fire = timer_due;
    fuse->count = home->config->fusion_count;
    fuse->parts = calloc(fuse->count + 1, sizeof(*fuse->parts));
    if (home->index == 0) {
        fuse->joins = calloc(fuse->count + 1, sizeof(*fuse->joins));
    }
    if (fuse->parts == NULL || (home->index == 0 && fuse->joins == NULL)) {
        sp_fuse_destroy(fuse);
        return SP_ERR_NOMEM;
    }
    for (size_t i = 0; i < fuse->count; i++) {
        fuse->parts[i].config = &home->config->fusions[i];
        fuse->parts[i].next_close = wall_of(fuse) / (int64_t)fuse->parts[i].config->window_ms;
    }
    sp_fuse_roll(fuse);
    *out = fuse;
    return SP_OK;
}

void sp_fuse_destroy(struct sp_fuse *fuse)
{
    if (fuse != NULL) {
        sp_timer_clear(fuse->home->timers, &fuse->timer);
        free(fuse->parts);
        free(fuse->joins);
        free(fuse);
    }
}
