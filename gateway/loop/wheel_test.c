/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/loop/wheel.h"

#include "gateway/slab/slab.h"
#include "libs/base/test.h"

#include <stdlib.h>

#define NODES   300
#define HORIZON ((uint64_t)SP_WHEEL_SLOTS * SP_WHEEL_TICK_MS)

struct entry {
    struct sp_wheel_node node; /* first: the functions below cast back */
    uint64_t want;             /* UINT64_MAX: never */
    unsigned fired;
};

static struct sp_slab slab = SP_SLAB_INIT(sizeof(struct entry));
static struct entry *entries[NODES];
static struct sp_timers timers;
static struct sp_wheel wheel;
static int wrong;

static uint64_t when(const struct sp_wheel_node *node)
{
    return ((const struct entry *)node)->want;
}

static void note(struct sp_wheel_node *node)
{
    struct entry *entry = (struct entry *)node;
    wrong += entry->want > timers.now_ms;
    entry->want = UINT64_MAX;
    entry->fired++;
}

static void begin(void (*fire)(struct sp_wheel_node *node))
{
    wrong = 0;
    timers = (struct sp_timers){.now_ms = 1000};
    sp_wheel_init(&wheel, &timers, when, fire);
    for (size_t i = 0; i < NODES; i++) {
        entries[i] = entries[i] == NULL ? sp_slab_take(&slab) : entries[i];
        *entries[i] = (struct entry){.want = UINT64_MAX};
    }
}

static void set(struct entry *entry, uint64_t want)
{
    entry->want = want;
    sp_wheel_set(&wheel, &entry->node);
}

static void go_to(uint64_t now)
{
    timers.now_ms = now;
    sp_timers_run(&timers, now);
}

static uint64_t earliest(void)
{
    uint64_t at = UINT64_MAX;
    for (size_t i = 0; i < NODES; i++) {
        at = entries[i]->want < at ? entries[i]->want : at;
    }
    return at;
}

static void a_deadline_fires_to_the_millisecond(void)
{
    static const uint64_t after[] = {
        1, SP_WHEEL_TICK_MS - 1, SP_WHEEL_TICK_MS, 5000, HORIZON - 1, HORIZON, 3 * HORIZON + 7};
    for (size_t i = 0; i < sizeof(after) / sizeof(after[0]); i++) {
        begin(note);
        set(entries[0], 1000 + after[i]);
        while (timers.now_ms < 1000 + after[i] && sp_timers_next(&timers) <= 1000 + after[i]) {
            SP_CHECK(sp_timers_next(&timers) > timers.now_ms);
            SP_CHECK_INT(entries[0]->fired, 0);
            go_to(sp_timers_next(&timers));
        }
        SP_CHECK(timers.now_ms == 1000 + after[i]);
        SP_CHECK_INT(entries[0]->fired, 1);
        SP_CHECK(sp_timers_next(&timers) == UINT64_MAX);
    }
}

static void none_is_early_or_late_under_random_sets_clears_and_steps(void)
{
    srand(11);
    begin(note);
    for (int step = 0; step < 30000; step++) {
        struct entry *entry = entries[rand() % NODES];
        uint64_t far = rand() % 4 == 0 ? 3 * HORIZON : 4000;
        if (rand() % 4 == 0) {
            sp_wheel_clear(&wheel, &entry->node);
            entry->want = UINT64_MAX;
        } else if (rand() % 4 == 0 && entry->want != UINT64_MAX) {
            entry->want += (uint64_t)rand() % far; /* later, which the wheel is not told */
        } else {
            set(entry, timers.now_ms + 1 + (uint64_t)rand() % far);
        }
        SP_CHECK(sp_timers_next(&timers) <= earliest());
        if (step % 20 == 0) {
            go_to(timers.now_ms +
                  (uint64_t)rand() % (step % 2000 == 0 ? 2 * HORIZON : 2 * SP_WHEEL_TICK_MS));
            SP_CHECK(earliest() > timers.now_ms);
        }
    }
    SP_CHECK_INT(wrong, 0);
    go_to(timers.now_ms + 8 * HORIZON);
    SP_CHECK(earliest() == UINT64_MAX && sp_timers_next(&timers) == UINT64_MAX);
}

static void note_and_clear_others(struct sp_wheel_node *node)
{
    note(node);
    for (size_t i = 0; i < NODES; i++) {
        sp_wheel_clear(&wheel, &entries[i]->node);
    }
}

static void who_fires_may_clear_others_of_its_slot(void)
{
    begin(note_and_clear_others);
    unsigned fired = 0;
    for (size_t i = 0; i < 10; i++) {
        set(entries[i], 2000);
    }
    go_to(2000);
    for (size_t i = 0; i < 10; i++) {
        fired += entries[i]->fired;
    }
    SP_CHECK_INT(fired, 1);
    SP_CHECK(sp_timers_next(&timers) == UINT64_MAX);
}

static void note_and_set_again(struct sp_wheel_node *node)
{
    struct entry *entry = (struct entry *)node;
    note(node);
    if (entry->fired < 3) {
        set(entry, timers.now_ms + 10);
    }
}

static void a_node_may_be_set_again_by_its_firing(void)
{
    begin(note_and_set_again);
    set(entries[0], 2000);
    go_to(2000);
    SP_CHECK_INT(entries[0]->fired, 1);
    SP_CHECK(sp_timers_next(&timers) == 2010);
    go_to(2010);
    go_to(2020);
    SP_CHECK_INT(entries[0]->fired, 3);
    SP_CHECK(sp_timers_next(&timers) == UINT64_MAX);
}

static void one_that_becomes_earlier_is_set_anew(void)
{
    begin(note);
    set(entries[0], 90000);
    set(entries[0], 1500);
    SP_CHECK(sp_timers_next(&timers) == 1500);
    go_to(1500);
    SP_CHECK_INT(entries[0]->fired, 1);
    set(entries[0], 1600);
    set(entries[0], UINT64_MAX);
    go_to(1700);
    SP_CHECK_INT(entries[0]->fired, 1);
    sp_wheel_deinit(&wheel);
    SP_CHECK(timers.root == NULL);
}

static const struct sp_test tests[] = {
    SP_TEST(a_deadline_fires_to_the_millisecond),
    SP_TEST(none_is_early_or_late_under_random_sets_clears_and_steps),
    SP_TEST(who_fires_may_clear_others_of_its_slot),
    SP_TEST(a_node_may_be_set_again_by_its_firing),
    SP_TEST(one_that_becomes_earlier_is_set_anew),
};
SP_TEST_MAIN(tests)
