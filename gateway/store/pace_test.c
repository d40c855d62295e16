/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/pace.h"

#include "libs/base/test.h"

static void waits_grow_from_the_base_to_the_cap(void)
{
    static const uint32_t longest[] = {1000, 2000, 4000, 8000, 16000, 32000, 64000, 120000, 120000};
    struct sp_backoff b = {0};
    for (size_t i = 0; i < sizeof(longest) / sizeof(longest[0]); i++) {
        struct sp_backoff same = b;
        SP_CHECK_INT(sp_backoff_next(&same, longest[i]), longest[i]);
        SP_CHECK_INT(sp_backoff_next(&b, (uint64_t)longest[i] + 1U),
                     0); /* full jitter: from 0 on */
    }
    b.failures = 0;
    SP_CHECK_INT(sp_backoff_next(&b, 999), 999);
}

/* How many go in any one second, when as many as may go do, for `seconds`. */
static unsigned most_in_a_second(uint32_t rate, unsigned seconds, unsigned *total)
{
    static uint16_t at[100000];
    unsigned count[100] = {0};
    unsigned most = 0;
    struct sp_bucket b;
    sp_bucket_init(&b, rate, 0);
    *total = 0;
    for (unsigned ms = 0; ms < seconds * 1000U; ms++) {
        at[ms] = 0;
        while (sp_bucket_ready(&b, 1, ms)) {
            sp_bucket_take(&b, 1);
            at[ms]++;
            count[ms / 1000U]++;
            (*total)++;
        }
        unsigned window = 0;
        for (unsigned back = 0; back < 1000 && back <= ms; back++) {
            window += at[ms - back];
        }
        most = window > most ? window : most;
    }
    return most;
}

static void no_second_has_more_than_the_rate(void)
{
    static const uint32_t rates[] = {1, 2, 7, 20, 100, 1000};
    for (size_t i = 0; i < sizeof(rates) / sizeof(rates[0]); i++) {
        unsigned total;
        unsigned most = most_in_a_second(rates[i], 5, &total);
        SP_CHECK(most <= rates[i] + (rates[i] == 1 ? 1U : 0U));
        SP_CHECK(total >= rates[i] * 2U); /* and it does go on */
    }
}

static void the_wait_is_what_it_takes(void)
{
    struct sp_bucket b;
    sp_bucket_init(&b, 100, 0);
    while (sp_bucket_ready(&b, 1, 0)) {
        sp_bucket_take(&b, 1);
    }
    uint64_t wait = sp_bucket_wait(&b, 1, 0);
    SP_CHECK(wait > 0 && wait <= 11);
    SP_CHECK(!sp_bucket_ready(&b, 1, wait - 1));
    SP_CHECK(sp_bucket_ready(&b, 1, wait));
}

static void something_large_goes_and_is_paid_for(void)
{
    struct sp_bucket b;
    sp_bucket_init(&b, 1000, 0);
    SP_CHECK(sp_bucket_ready(&b, 5000, 0));
    sp_bucket_take(&b, 5000);
    SP_CHECK(!sp_bucket_ready(&b, 1, 4000));
    SP_CHECK(sp_bucket_ready(&b, 1, 5400));
}

static void without_a_rate_everything_goes(void)
{
    struct sp_bucket b;
    sp_bucket_init(&b, 0, 0);
    sp_bucket_take(&b, UINT64_MAX);
    SP_CHECK(sp_bucket_ready(&b, UINT64_MAX, 0));
    SP_CHECK_INT(sp_bucket_wait(&b, 1, 0), 0);
}

static void a_clock_that_stands_still_or_leaps_does_no_harm(void)
{
    struct sp_bucket b;
    sp_bucket_init(&b, 100, 1000);
    sp_bucket_take(&b, UINT64_MAX); /* what came in counts too, however much */
    SP_CHECK(!sp_bucket_ready(&b, 1, 500));
    SP_CHECK(!sp_bucket_ready(&b, 1, 1000));
    (void)sp_bucket_ready(&b, 1, UINT64_MAX - 1);
    SP_CHECK(b.level <= b.capacity);
}

static const struct sp_test tests[] = {
    SP_TEST(waits_grow_from_the_base_to_the_cap),
    SP_TEST(no_second_has_more_than_the_rate),
    SP_TEST(the_wait_is_what_it_takes),
    SP_TEST(something_large_goes_and_is_paid_for),
    SP_TEST(without_a_rate_everything_goes),
    SP_TEST(a_clock_that_stands_still_or_leaps_does_no_harm),
};
SP_TEST_MAIN(tests)
