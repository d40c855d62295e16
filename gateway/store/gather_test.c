/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/gather.h"

#include "libs/base/test.h"

#define START 1000000U

/* When the next commit comes behind one of several changes, if `come[i]` of them have come by the end of millisecond i + 1. */
static uint64_t next_commit(const size_t come[8])
{
    struct sp_gather g;
    sp_gather_begin(&g, START, 2);
    uint64_t now = g.look_us;
    while (sp_gather_waits(&g, now, come[(now - START) / 1000U - 1U])) {
        if (g.look_us <= now || g.look_us > START + SP_GATHER_MAX_US) {
            return 0;
        }
        now = g.look_us;
    }
    return now - START;
}

static void what_comes_alone_is_committed_at_once(void)
{
    struct sp_gather g = {0};
    SP_CHECK(!sp_gather_waits(&g, START, 1));
    sp_gather_begin(&g, START, 1);
    SP_CHECK_INT(g.look_us, 0);
    SP_CHECK(!sp_gather_waits(&g, START + 1U, 3));
}

static void what_keeps_coming_is_committed_every_eight_milliseconds(void)
{
    static const size_t steady[8] = {5, 10, 15, 20, 25, 30, 35, 40};
    SP_CHECK_INT(next_commit(steady), SP_GATHER_MAX_US);
    static const size_t faster[8] = {1, 4, 9, 16, 25, 36, 49, 64};
    SP_CHECK_INT(next_commit(faster), SP_GATHER_MAX_US);
    static const size_t slow[8] = {1, 2, 2, 3, 4, 4, 5, 6};
    SP_CHECK_INT(next_commit(slow), SP_GATHER_MAX_US);
}

static void those_who_wait_for_their_answers_get_them(void)
{
    static const size_t all_at_once[8] = {16, 16, 16, 16, 16, 16, 16, 16};
    SP_CHECK_INT(next_commit(all_at_once), 2000);
    static const size_t ebbing[8] = {10, 20, 24, 28, 28, 28, 28, 28};
    SP_CHECK_INT(next_commit(ebbing), 4000);
    static const size_t one[8] = {1, 1, 1, 1, 1, 1, 1, 1};
    SP_CHECK_INT(next_commit(one), 2000);
}

static void a_full_row_waits_for_no_more(void)
{
    static const size_t many[8] = {64, 128, 192, 256, 320, 384, 448, 512};
    SP_CHECK_INT(next_commit(many), 2000);
    static const size_t more[8] = {500, 500, 500, 500, 500, 500, 500, 500};
    SP_CHECK_INT(next_commit(more), 1000);
}

static void after_a_pause_the_next_is_alone(void)
{
    static const size_t nothing[8] = {0};
    SP_CHECK_INT(next_commit(nothing), 1000);
    struct sp_gather g;
    sp_gather_begin(&g, START, 100);
    SP_CHECK(!sp_gather_waits(&g, g.look_us, 0));
    SP_CHECK_INT(g.look_us, 0);
    SP_CHECK(!sp_gather_waits(&g, START + 1500U, 1));
}

/* The thread slept longer than it wanted. */
static void a_late_look_does_no_harm(void)
{
    struct sp_gather g;
    sp_gather_begin(&g, START, 2);
    SP_CHECK(sp_gather_waits(&g, START + 5000U, 10));
    SP_CHECK_INT(g.look_us, START + SP_GATHER_MAX_US);
    SP_CHECK(!sp_gather_waits(&g, START + 60000000U, 20));
}

static const struct sp_test tests[] = {
    SP_TEST(what_comes_alone_is_committed_at_once),
    SP_TEST(what_keeps_coming_is_committed_every_eight_milliseconds),
    SP_TEST(those_who_wait_for_their_answers_get_them),
    SP_TEST(a_full_row_waits_for_no_more),
    SP_TEST(after_a_pause_the_next_is_alone),
    SP_TEST(a_late_look_does_no_harm),
};
SP_TEST_MAIN(tests)
