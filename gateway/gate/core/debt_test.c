/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/debt.h"
#include "libs/base/test.h"

/* Messages that a bucket lets through at once. */
static uint32_t at_once(uint32_t debt, uint32_t burst)
{
    uint32_t count = 0;
    while (!sp_debt_is_full(debt, burst)) {
        debt += SP_DEBT_MESSAGE;
        count++;
    }
    return count;
}

static void a_full_bucket_lets_exactly_its_burst_through(void)
{
    SP_CHECK_INT(at_once(0, 1), 1);
    SP_CHECK_INT(at_once(0, 200), 200);
    SP_CHECK_INT(at_once(0, SP_DEBT_BURST_MAX), SP_DEBT_BURST_MAX);
}

static void it_fills_at_the_rate_and_never_beyond_its_burst(void)
{
    const uint32_t empty = 200 * SP_DEBT_MESSAGE;
    SP_CHECK_INT(at_once(empty, 200), 0);
    SP_CHECK_INT(at_once(sp_debt_after(empty, 19, 50), 200), 0);
    SP_CHECK_INT(at_once(sp_debt_after(empty, 20, 50), 200), 1);
    SP_CHECK_INT(at_once(sp_debt_after(empty, 1000, 50), 200), 50);
    SP_CHECK_INT(sp_debt_after(empty, 3999, 50), 50);
    SP_CHECK_INT(sp_debt_after(empty, 4000, 50), 0);
    SP_CHECK_INT(sp_debt_after(empty, 4001, 50), 0);
}

static void a_rate_that_does_not_divide_a_second_loses_nothing(void)
{
    uint32_t debt = 1000 * SP_DEBT_MESSAGE;
    for (int i = 0; i < 1000; i++) {
        debt = sp_debt_after(debt, 1, 333);
    }
    SP_CHECK_INT(debt, (1000 - 333) * SP_DEBT_MESSAGE);
}

static void no_time_and_no_rate_are_too_large(void)
{
    const uint32_t most = SP_DEBT_BURST_MAX * SP_DEBT_MESSAGE;
    SP_CHECK_INT(sp_debt_after(most, UINT64_MAX, 1), 0);
    SP_CHECK_INT(sp_debt_after(most, UINT64_MAX, 1000000), 0);
    SP_CHECK_INT(sp_debt_after(most, UINT32_MAX, 1), 0);
    SP_CHECK_INT(sp_debt_after(most, 1, 1000000), most - 1000000);
    SP_CHECK_INT(sp_debt_after(most, 0, 1000000), most);
    SP_CHECK_INT(sp_debt_after(0, 0, 50), 0);
    SP_CHECK_INT(sp_debt_after(7, UINT64_MAX, 0), 7);
}

static void who_waited_has_a_tenth_of_a_second_of_messages_or_the_whole_burst(void)
{
    static const struct {
        uint32_t rate, burst, count;
    } rows[] = {{50, 200, 5},      {50, 1, 1},      {50, 3, 3},
                {1, 1, 1},         {1, 1000000, 1}, {1000000, 1000000, 100000},
                {1000000, 10, 10}, {9, 200, 1},     {333, 200, 33}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        uint32_t empty = rows[i].burst * SP_DEBT_MESSAGE;
        uint64_t wait = sp_debt_wait(empty, rows[i].rate, rows[i].burst);
        uint32_t debt = sp_debt_after(empty, wait, rows[i].rate);
        SP_CHECK(wait > 0);
        SP_CHECK_INT(sp_debt_wait(debt, rows[i].rate, rows[i].burst), 0);
        SP_CHECK(at_once(debt, rows[i].burst) >= rows[i].count);
        SP_CHECK(sp_debt_wait(sp_debt_after(empty, wait - 1, rows[i].rate), rows[i].rate,
                              rows[i].burst) == 1);
    }
    SP_CHECK_INT(sp_debt_wait(0, 50, 200), 0);
}

static const struct sp_test tests[] = {
    SP_TEST(a_full_bucket_lets_exactly_its_burst_through),
    SP_TEST(it_fills_at_the_rate_and_never_beyond_its_burst),
    SP_TEST(a_rate_that_does_not_divide_a_second_loses_nothing),
    SP_TEST(no_time_and_no_rate_are_too_large),
    SP_TEST(who_waited_has_a_tenth_of_a_second_of_messages_or_the_whole_burst),
};
SP_TEST_MAIN(tests)
