/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/log/log.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libs/base/test.h"

static char captured[8192];
static int pipe_ends[2];
static int real_stderr;

static void capture_start(void)
{
    if (pipe(pipe_ends) != 0) {
        abort();
    }
    real_stderr = dup(STDERR_FILENO);
    dup2(pipe_ends[1], STDERR_FILENO);
}

static void capture_end(void)
{
    dup2(real_stderr, STDERR_FILENO);
    close(real_stderr);
    close(pipe_ends[1]);
    ssize_t n = read(pipe_ends[0], captured, sizeof(captured) - 1U);
    captured[n > 0 ? n : 0] = '\0';
    close(pipe_ends[0]);
}

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text);
    size_t b = strlen(end);
    return a >= b && strcmp(text + a - b, end) == 0;
}

static void a_line_has_time_level_process_and_fields(void)
{
    sp_log_init("gate", SP_LOG_INFO);
    capture_start();
    sp_log_warn(SP_EVENT("attest_refused"), SP_F_STR("device", "dev1"), SP_F_INT("n", -7));
    capture_end();
    SP_CHECK(ends_with(captured, "Z warn gate event=attest_refused device=dev1 n=-7\n"));
    SP_CHECK(strncmp(captured, "20", 2) == 0);
    SP_CHECK(captured[4] == '-' && captured[10] == 'T' && captured[19] == '.');
}

static void the_date_is_that_of_the_system(void)
{
    char today[16];
    FILE *date = popen("date -u +%F", "r");
    SP_CHECK(date != NULL && fgets(today, sizeof(today), date) != NULL);
    pclose(date);
    capture_start();
    sp_log_info(SP_EVENT("x"));
    capture_end();
    SP_CHECK(strncmp(captured, today, 10) == 0);
}

static void less_important_lines_are_left_out(void)
{
    sp_log_init("gate", SP_LOG_WARN);
    capture_start();
    sp_log_info(SP_EVENT("x"));
    sp_log_error(SP_EVENT("y"));
    capture_end();
    SP_CHECK(strstr(captured, "event=x") == NULL);
    SP_CHECK(strstr(captured, "event=y") != NULL);
}

static void hostile_bytes_are_escaped(void)
{
    static const struct {
        const char *name;
        struct sp_view value;
        const char *want;
    } cases[] = {
        {"newline", SP_VIEW_INIT("a\nevent=ready"), "v=\"a\\nevent=ready\"\n"},
        {"quote", SP_VIEW_INIT("a\" b=\"c"), "v=\"a\\\" b=\\\"c\"\n"},
        {"backslash", SP_VIEW_INIT("a\\"), "v=\"a\\\\\"\n"},
        {"nul", SP_VIEW_INIT("dev1\0evil"), "v=\"dev1\\x00evil\"\n"},
        {"escape", SP_VIEW_INIT("\x1b[2J"), "v=\"\\x1b[2J\"\n"},
        {"high", SP_VIEW_INIT("\xff\xc3\xa4"), "v=\"\\xff\\xc3\\xa4\"\n"},
        {"delete", SP_VIEW_INIT("\x7f"), "v=\"\\x7f\"\n"},
        {"carriage return", SP_VIEW_INIT("a\rb\tc"), "v=\"a\\rb\\tc\"\n"},
        {"space", SP_VIEW_INIT("a b"), "v=\"a b\"\n"},
        {"equals", SP_VIEW_INIT("a=b"), "v=\"a=b\"\n"},
        {"empty", SP_VIEW_INIT(""), "v=\"\"\n"},
        {"plain", SP_VIEW_INIT("dt/+/climate"), "v=dt/+/climate\n"},
    };
    sp_log_init("gate", SP_LOG_INFO);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        capture_start();
        sp_log_info(SP_EVENT("x"), SP_F_VIEW("v", cases[i].value));
        capture_end();
        SP_CHECK_CASE(ends_with(captured, cases[i].want), cases[i].name);
    }
}

static void a_long_line_is_cut_at_2_kib_and_says_so(void)
{
    static uint8_t noise[5000];
    static const uint8_t fills[] = {'a', '\n', 0xff, '"'};
    for (size_t i = 0; i < sizeof(fills); i++) {
        memset(noise, fills[i], sizeof(noise));
        capture_start();
        sp_log_info(SP_EVENT("x"), SP_F_VIEW("v", SP_VIEW_ARRAY(noise)), SP_F_STR("after", "y"));
        capture_end();
        SP_CHECK(strlen(captured) <= 2048U);
        SP_CHECK(strlen(captured) >= 2030U);
        SP_CHECK(ends_with(captured, "...\n") || ends_with(captured, "...\"\n"));
        SP_CHECK(strstr(captured, "after") == NULL);
    }
}

static void many_fields_are_cut_too(void)
{
    struct sp_log_field fields[400];
    for (size_t i = 0; i < 399; i++) {
        fields[i] = SP_F_STR("key", "value");
    }
    fields[399] = (struct sp_log_field){.kind = SP_LOG_END};
    capture_start();
    sp_log(SP_LOG_ERROR, fields);
    capture_end();
    SP_CHECK(strlen(captured) <= 2048U);
    SP_CHECK(captured[strlen(captured) - 1U] == '\n');
}

static void errors_are_told_in_words(void)
{
    capture_start();
    sp_log_error(SP_EVENT("x"), SP_F_ERRNO(ENOENT), SP_F_ERR(SP_ERR_LIMIT));
    sp_log_error(SP_EVENT("x"), SP_F_ERRNO(123456), SP_F_STR("null", NULL));
    capture_end();
    SP_CHECK(strstr(captured, "error=\"No such file or directory\"") != NULL);
    SP_CHECK(strstr(captured, "error=\"a limit would be exceeded\"") != NULL);
    SP_CHECK(ends_with(captured, "error=\"\" null=\"\"\n"));
}

static void under_systemd_a_priority_stands_in_place_of_the_time(void)
{
    setenv("JOURNAL_STREAM", "8:1", 1);
    sp_log_init("keys", SP_LOG_INFO);
    capture_start();
    sp_log_warn(SP_EVENT("x"));
    capture_end();
    SP_CHECK(strcmp(captured, "<4>warn keys event=x\n") == 0);
    unsetenv("JOURNAL_STREAM");
    sp_log_init("keys", SP_LOG_INFO);
}

static void lines_that_others_cause_are_counted_when_they_are_too_many(void)
{
    static char all[65536];
    sp_log_limit(1);
    int written = 0;
    for (int i = 0; i < 300; i++) {
        capture_start();
        written += sp_log_limited(SP_EVENT("tls_refused"), SP_F_INT("n", i));
        capture_end();
        strcat(all, captured);
    }
    SP_CHECK(written >= (int)SP_LOG_BURST && written < 200);
    SP_CHECK(strstr(all, "event=tls_refused n=99\n") != NULL);
    SP_CHECK(sp_log_has_left_out());
    capture_start();
    SP_CHECK(sp_log_limited(SP_EVENT("another_kind")));
    SP_CHECK_INT((long)sp_log_left_out(), 300 - written);
    SP_CHECK(!sp_log_has_left_out());
    SP_CHECK_INT((long)sp_log_left_out(), 0);
    capture_end();
    char line[80];
    (void)snprintf(line, sizeof(line), "event=log_left_out kind=tls_refused more=%d\n",
                   300 - written);
    SP_CHECK(strstr(captured, line) != NULL);
    SP_CHECK(strstr(captured, "kind=another_kind") == NULL);
    sp_log_limit(0);
    capture_start();
    SP_CHECK(sp_log_limited(SP_EVENT("tls_refused")));
    for (unsigned i = 0; i < 2 * SP_LOG_BURST; i++) {
        SP_CHECK(sp_log_limited(SP_EVENT("without_a_limit")));
    }
    sp_log_limit(1); /* nothing was taken off what it may say */
    SP_CHECK(sp_log_limited(SP_EVENT("without_a_limit")));
    sp_log_limit(0);
    capture_end();
}

static const struct sp_test tests[] = {
    SP_TEST(a_line_has_time_level_process_and_fields),
    SP_TEST(the_date_is_that_of_the_system),
    SP_TEST(less_important_lines_are_left_out),
    SP_TEST(hostile_bytes_are_escaped),
    SP_TEST(a_long_line_is_cut_at_2_kib_and_says_so),
    SP_TEST(many_fields_are_cut_too),
    SP_TEST(errors_are_told_in_words),
    SP_TEST(under_systemd_a_priority_stands_in_place_of_the_time),
    SP_TEST(lines_that_others_cause_are_counted_when_they_are_too_many),
};
SP_TEST_MAIN(tests)
