/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Unit tests, for the host and for the emulated board alike: needs nothing but stdio.h.
 *
 *     static void a_reader_stays_failed(void) { SP_CHECK(…); }
 *     static const struct sp_test tests[] = {SP_TEST(a_reader_stays_failed)};
 *     SP_TEST_MAIN(tests)
 *
 * The program ends with the line `N passed, N failed` and exit 0 only when nothing failed.
 */
#ifndef SP_LIBS_BASE_TEST_H
#define SP_LIBS_BASE_TEST_H

#include <stdio.h>

struct sp_test {
    const char *name;
    void (*run)(void);
};

static int sp_test_failures_; /* in the running test */

#define SP_TEST(fn)              \
    {                            \
        .name = #fn, .run = (fn) \
    }

/** Count a failure and carry on. */
#define SP_CHECK(condition)                                                  \
    do {                                                                     \
        if (!(condition)) {                                                  \
            sp_test_failures_++;                                             \
            printf("%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
        }                                                                    \
    } while (0)

/** Compare integers, print both. */
#define SP_CHECK_INT(have, want)                                                         \
    do {                                                                                 \
        long long sp_have_ = (long long)(have);                                          \
        long long sp_want_ = (long long)(want);                                          \
        if (sp_have_ != sp_want_) {                                                      \
            sp_test_failures_++;                                                         \
            printf("%s:%d: %s is %lld, not %lld\n", __FILE__, __LINE__, #have, sp_have_, \
                   sp_want_);                                                            \
        }                                                                                \
    } while (0)

/** Name the table entry that a check belongs to, when it fails. */
#define SP_CHECK_CASE(condition, name)                                                        \
    do {                                                                                      \
        if (!(condition)) {                                                                   \
            sp_test_failures_++;                                                              \
            printf("%s:%d: case %s: not true: %s\n", __FILE__, __LINE__, (name), #condition); \
        }                                                                                     \
    } while (0)

static inline int sp_test_run_all(const struct sp_test *tests, size_t count)
{
    int failed = 0;
    for (size_t i = 0; i < count; i++) {
        sp_test_failures_ = 0;
        tests[i].run();
        printf("%s %s\n", sp_test_failures_ == 0 ? "ok  " : "FAIL", tests[i].name);
        failed += sp_test_failures_ != 0;
    }
    printf("%d passed, %d failed\n", (int)count - failed, failed);
    return failed == 0 ? 0 : 1;
}

#define SP_TEST_MAIN(tests)                                                \
    int main(void)                                                         \
    {                                                                      \
        return sp_test_run_all(tests, sizeof(tests) / sizeof((tests)[0])); \
    }

#endif
