/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/histogram.h"

#include "libs/base/test.h"

#include <string.h>

static struct sp_histogram h;

static void an_empty_histogram_says_zero(void)
{
    memset(&h, 0, sizeof(h));
    SP_CHECK_INT(sp_histogram_us(&h, 0.5), 0);
}

static void percentiles_are_within_one_percent(void)
{
    memset(&h, 0, sizeof(h));
    for (uint64_t us = 1; us <= 100000; us++) {
        sp_histogram_add(&h, us * 1000U);
    }
    static const double shares[] = {0.01, 0.5, 0.9, 0.99, 0.999, 1.0};
    for (size_t i = 0; i < sizeof(shares) / sizeof(shares[0]); i++) {
        double want = shares[i] * 100000.0;
        double have = sp_histogram_us(&h, shares[i]);
        SP_CHECK(have >= want * 0.999 && have <= want * 1.01);
    }
    SP_CHECK_INT(h.count, 100000);
}

static void one_slow_sample_shows_in_the_tail_only(void)
{
    memset(&h, 0, sizeof(h));
    for (int i = 0; i < 999; i++) {
        sp_histogram_add(&h, 50000);
    }
    sp_histogram_add(&h, 40000000);
    SP_CHECK(sp_histogram_us(&h, 0.99) < 51.0);
    SP_CHECK(sp_histogram_us(&h, 1.0) > 39000.0);
}

static void a_sample_beyond_the_range_is_kept_as_the_largest(void)
{
    memset(&h, 0, sizeof(h));
    sp_histogram_add(&h, UINT64_MAX);
    SP_CHECK_INT(h.count, 1);
    SP_CHECK(sp_histogram_us(&h, 0.5) > 1e8);
}

static const struct sp_test tests[] = {
    SP_TEST(an_empty_histogram_says_zero),
    SP_TEST(percentiles_are_within_one_percent),
    SP_TEST(one_slow_sample_shows_in_the_tail_only),
    SP_TEST(a_sample_beyond_the_range_is_kept_as_the_largest),
};
SP_TEST_MAIN(tests)
