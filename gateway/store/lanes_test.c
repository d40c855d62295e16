/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/lanes.h"

#include "libs/base/test.h"

#define DEVICES 7U

static struct sp_lanes lanes;
static uint64_t given;

static struct sp_row *give(uint32_t device)
{
    static const struct sp_view none = {NULL, 0};
    struct sp_row *row = sp_row_create(none, none, none, none);
    row->stream = device;
    row->seq = ++given;
    sp_lanes_push(&lanes, row);
    return row;
}

static void start(uint32_t depth)
{
    sp_lanes_init(&lanes, 1, depth);
    given = 0;
}

static uint64_t peek(void)
{
    const struct sp_row *row = sp_lanes_peek(&lanes);
    return row == NULL ? 0 : row->seq;
}

static void end(struct sp_row *row)
{
    sp_lanes_done(&lanes, row);
    sp_row_destroy(row);
}

static void a_device_has_one_message_under_way_and_others_go_on(void)
{
    start(1);
    (void)give(1);
    (void)give(1);
    (void)give(2);
    struct sp_row *first = sp_lanes_take(&lanes);
    SP_CHECK_INT(first->seq, 1);
    SP_CHECK_INT(peek(), 3);
    struct sp_row *other = sp_lanes_take(&lanes);
    SP_CHECK_INT(peek(), 0);
    SP_CHECK_INT(lanes.count, 1);
    end(first);
    SP_CHECK_INT(peek(), 2);
    end(other);
    sp_lanes_clear(&lanes);
    SP_CHECK_INT(lanes.count, 0);
}

static void what_is_refused_for_now_stays_before_what_came_later(void)
{
    start(1);
    (void)give(1);
    (void)give(1);
    (void)give(2);
    SP_CHECK_INT(sp_lanes_refuse(&lanes, sp_lanes_take(&lanes), 1000, 500), 500);
    SP_CHECK_INT(peek(), 3); /* only that device waits */
    end(sp_lanes_take(&lanes));
    SP_CHECK_INT(peek(), 0);
    SP_CHECK_INT(lanes.wake_at, 1500);
    (void)give(1);
    sp_lanes_wake(&lanes, 1499);
    SP_CHECK_INT(peek(), 0);
    sp_lanes_wake(&lanes, 1500);
    SP_CHECK(lanes.wake_at == UINT64_MAX);
    for (uint64_t seq = 1; seq <= 4; seq += seq == 1 ? 1 : 2) {
        SP_CHECK_INT(peek(), seq);
        end(sp_lanes_take(&lanes));
    }
    SP_CHECK_INT(peek(), 0);
}

static void waits_of_a_device_grow_until_something_of_it_has_gone(void)
{
    start(1);
    (void)give(1);
    SP_CHECK_INT(sp_lanes_refuse(&lanes, sp_lanes_take(&lanes), 0, 1000), 1000);
    sp_lanes_wake(&lanes, 1000);
    SP_CHECK_INT(sp_lanes_refuse(&lanes, sp_lanes_take(&lanes), 1000, 2000), 2000);
    sp_lanes_wake(&lanes, 3000);
    end(sp_lanes_take(&lanes));
    (void)give(1);
    SP_CHECK_INT(sp_lanes_refuse(&lanes, sp_lanes_take(&lanes), 3000, 1000), 1000);
    sp_lanes_clear(&lanes);
}

static void what_was_under_way_goes_first_and_in_the_same_order_again(void)
{
    struct sp_row_list flying = {0};
    start(1);
    for (uint32_t device = 3; device > 0; device--) {
        (void)give(device);
        (void)give(device);
    }
    sp_row_list_push(&flying, sp_lanes_take(&lanes));
    sp_row_list_push(&flying, sp_lanes_take(&lanes));
    sp_lanes_give_back(&lanes, &flying);
    SP_CHECK(flying.head == NULL);
    SP_CHECK_INT(lanes.count, 6);
    for (uint64_t seq = 1; seq <= 5; seq += 2) {
        SP_CHECK_INT(peek(), seq);
        sp_row_list_push(&flying, sp_lanes_take(&lanes));
    }
    sp_lanes_give_back(&lanes, &flying);
    SP_CHECK_INT(peek(), 1);
    sp_lanes_clear(&lanes);
}

static void with_more_depth_a_device_may_have_more_under_way(void)
{
    struct sp_row_list flying = {0};
    start(3);
    for (int i = 0; i < 5; i++) {
        (void)give(1);
    }
    (void)give(2);
    while (peek() != 0) {
        sp_row_list_push(&flying, sp_lanes_take(&lanes));
    }
    SP_CHECK_INT(flying.count, 4);
    SP_CHECK_INT(lanes.count, 2);
    sp_lanes_give_back(&lanes, &flying);
    uint64_t of_one = 0;
    while (peek() != 0) {
        struct sp_row *row = sp_lanes_take(&lanes);
        SP_CHECK(row->stream != 1 || row->seq > of_one);
        of_one = row->stream == 1 ? row->seq : of_one;
        end(row);
    }
    SP_CHECK_INT(lanes.count, 0);
}

static uint32_t chance(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005U + 1442695040888963407U;
    return (uint32_t)(*seed >> 33);
}

/* Refusals, lost connections and waits at random: every message ends once, each device's in order. */
static void whatever_happens_a_device_s_messages_end_in_order(void)
{
    for (uint64_t seed = 1; seed <= 200; seed++) {
        uint64_t random = seed;
        uint64_t last[DEVICES] = {0};
        uint64_t now = 1;
        uint64_t ended = 0;
        struct sp_row_list flying = {0};
        start(1);
        for (int step = 0; step < 400 || ended < given; step++) {
            uint32_t what = chance(&random) % 8U;
            if (what < 3 && step < 400) {
                (void)give(chance(&random) % DEVICES);
            } else if (what < 5 && peek() != 0) {
                sp_row_list_push(&flying, sp_lanes_take(&lanes));
            } else if (what == 5 && chance(&random) % 8U == 0) {
                sp_lanes_give_back(&lanes, &flying);
            } else if (what == 6 && flying.head != NULL) {
                (void)sp_lanes_refuse(&lanes, sp_row_list_pop(&flying), now, chance(&random));
            } else if (flying.head != NULL) {
                struct sp_row *row = sp_row_list_pop(&flying);
                SP_CHECK(row->seq > last[row->stream]);
                last[row->stream] = row->seq;
                ended++;
                end(row);
            }
            now += chance(&random) % 5000U;
            sp_lanes_wake(&lanes, now);
        }
        SP_CHECK_INT(lanes.count, 0);
        SP_CHECK(flying.head == NULL);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(a_device_has_one_message_under_way_and_others_go_on),
    SP_TEST(what_is_refused_for_now_stays_before_what_came_later),
    SP_TEST(waits_of_a_device_grow_until_something_of_it_has_gone),
    SP_TEST(what_was_under_way_goes_first_and_in_the_same_order_again),
    SP_TEST(with_more_depth_a_device_may_have_more_under_way),
    SP_TEST(whatever_happens_a_device_s_messages_end_in_order),
};
SP_TEST_MAIN(tests)
