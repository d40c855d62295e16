/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/loop/timers.h"

#include "libs/base/test.h"

#include <stdlib.h>

#define TIMERS 500

struct entry {
    struct sp_timer timer; /* first: fire() casts back */
    uint64_t want;         /* 0: not set */
    unsigned fired;
};

static struct entry entries[TIMERS];
static uint64_t last_fired;
static int out_of_order;

static void note(struct sp_timer *timer)
{
    struct entry *entry = (struct entry *)timer;
    out_of_order += entry->want < last_fired;
    last_fired = entry->want;
    entry->want = 0;
    entry->fired++;
}

static uint64_t earliest(void)
{
    uint64_t at = UINT64_MAX;
    for (size_t i = 0; i < TIMERS; i++) {
        if (entries[i].want != 0 && entries[i].want < at) {
            at = entries[i].want;
        }
    }
    return at;
}

static void timers_fire_in_order_and_once_under_random_sets_and_clears(void)
{
    struct sp_timers timers = {NULL, 0, 0};
    uint64_t now = 1;
    srand(7);
    for (size_t i = 0; i < TIMERS; i++) {
        entries[i].timer.fire = note;
    }
    for (int step = 0; step < 20000; step++) {
        struct entry *entry = &entries[rand() % TIMERS];
        if (rand() % 3 == 0) {
            sp_timer_clear(&timers, &entry->timer);
            entry->want = 0;
        } else {
            entry->want = now + 1 + (uint64_t)(rand() % 1000);
            sp_timer_set(&timers, &entry->timer, entry->want);
        }
        SP_CHECK(sp_timers_next(&timers) == earliest());
        if (step % 50 == 0) {
            now += (uint64_t)(rand() % 300);
            last_fired = 0;
            sp_timers_run(&timers, now);
            SP_CHECK(earliest() > now);
        }
    }
    sp_timers_run(&timers, UINT64_MAX - 1);
    SP_CHECK(timers.root == NULL);
    SP_CHECK_INT(out_of_order, 0);
}

static struct sp_timers again_timers;
static uint64_t again_when = 10;

static void set_again(struct sp_timer *timer)
{
    struct entry *entry = (struct entry *)timer;
    if (++entry->fired < 3) {
        again_when += 10;
        sp_timer_set(&again_timers, timer, again_when);
    }
}

static void a_timer_may_set_itself_again(void)
{
    struct entry entry = {.timer = {.fire = set_again}};
    sp_timer_set(&again_timers, &entry.timer, 10);
    sp_timers_run(&again_timers, 10);
    SP_CHECK_INT(entry.fired, 1);
    sp_timers_run(&again_timers, 100);
    SP_CHECK_INT(entry.fired, 3);
    SP_CHECK(sp_timers_next(&again_timers) == UINT64_MAX);
}

static const struct sp_test tests[] = {
    SP_TEST(timers_fire_in_order_and_once_under_random_sets_and_clears),
    SP_TEST(a_timer_may_set_itself_again),
};
SP_TEST_MAIN(tests)
