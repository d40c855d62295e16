/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/sessions.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include "libs/base/test.h"

static char dir[64];
static struct sp_journal *j;
static char shown[4096]; /* one line per record */

static void open_it(void)
{
    char why[256];
    if (sp_journal_open(dir, why, sizeof(why), &j) != SP_OK) {
        printf("cannot go on: %s\n", why);
        exit(1);
    }
}

static void begin(void)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/sp-sessions-test-XXXXXX");
    SP_CHECK(mkdtemp(dir) != NULL);
    open_it();
}

static void again(void)
{
    sp_journal_close(j);
    open_it();
}

static void end(void)
{
    char command[128];
    sp_journal_close(j);
    (void)snprintf(command, sizeof(command), "rm -r '%s'", dir);
    SP_CHECK_INT(system(command), 0);
}

static void stage(const char *device, struct sp_msg_kept head, const char *part)
{
    const struct sp_kept change = {
        .head = head, .device = sp_view_str(device), .part = sp_view_str(part)};
    SP_CHECK_INT(sp_sessions_stage(j, &change), SP_OK);
}

static void session(const char *device, uint64_t base, uint8_t options)
{
    stage(device,
          (struct sp_msg_kept){.kind = SP_KEPT_SESSION,
                               .number = base,
                               .expiry_s = 60,
                               .time_ms = 1700000000000,
                               .version = 7,
                               .options = options},
          "sensor");
}

static void queue(const char *device, uint64_t number, const char *packet)
{
    stage(device, (struct sp_msg_kept){.kind = SP_KEPT_QUEUE, .number = number}, packet);
}

static enum sp_err commit(void)
{
    struct sp_row_list none = {NULL, NULL, 0, 0};
    const struct sp_row_list ended = {NULL, NULL, 0, 0};
    return sp_journal_commit(j, &none, &ended);
}

static enum sp_err show(void *arg, const struct sp_kept *record)
{
    (void)arg;
    char line[256];
    (void)snprintf(line, sizeof(line), "%u %.*s %llu %.*s\n", record->head.kind,
                   (int)record->device.len, (const char *)record->device.ptr,
                   (unsigned long long)record->head.number, (int)record->part.len,
                   (const char *)record->part.ptr);
    strncat(shown, line, sizeof(shown) - strlen(shown) - 1);
    return SP_OK;
}

/* Everything there is, read in portions of so many bytes. */
static const char *all(size_t bytes)
{
    struct sp_sessions_walk walk = {.number = 0};
    bool done = false;
    shown[0] = '\0';
    for (int i = 0; i < 1000 && !done; i++) {
        SP_CHECK_INT(sp_sessions_walk(j, &walk, bytes, show, NULL, &done), SP_OK);
    }
    SP_CHECK(done);
    return shown;
}

static void what_was_committed_is_there_after_the_journal_is_opened_again(void)
{
    begin();
    session("b", 10, SP_KEPT_NEW);
    session("a", 10, SP_KEPT_NEW);
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_SUBSCRIBE, .qos = 1}, "cmd/a/#");
    queue("a", 12, "second");
    queue("a", 11, "first");
    SP_CHECK_INT(sp_sessions_stats(j).sessions, 0);
    SP_CHECK_INT(commit(), SP_OK);
    queue("a", 13, "never committed");
    again();
    SP_CHECK(strcmp(all(4096), "1 a 10 sensor\n2 a 0 cmd/a/#\n4 a 11 first\n4 a 12 second\n"
                               "1 b 10 sensor\n") == 0);
    SP_CHECK_INT(sp_sessions_stats(j).sessions, 2);
    SP_CHECK_INT(sp_sessions_stats(j).messages, 2);
    SP_CHECK_INT(sp_sessions_stats(j).bytes, 11 + 2 * SP_SESSIONS_OVERHEAD);
    end();
}

static void sessions_can_be_read_in_any_portions(void)
{
    begin();
    for (int i = 0; i < 5; i++) {
        const char name[] = {(char)('a' + i), '\0'};
        session(name, 1, SP_KEPT_NEW);
        for (uint64_t n = 2; n < 8; n++) {
            queue(name, n, "x");
        }
    }
    SP_CHECK_INT(commit(), SP_OK);
    char whole[sizeof(shown)];
    strcpy(whole, all(SIZE_MAX));
    for (size_t bytes = 1; bytes < 700; bytes += 37) {
        SP_CHECK(strcmp(all(bytes), whole) == 0);
    }
    end();
}

static void what_is_settled_leaves_and_what_is_queued_twice_is_there_once(void)
{
    begin();
    session("a", 1, SP_KEPT_NEW);
    for (uint64_t n = 2; n < 7; n++) {
        queue("a", n, "x");
    }
    SP_CHECK_INT(commit(), SP_OK);
    queue("a", 6, "x");
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_SETTLED, .number = 2, .last = 4}, "");
    SP_CHECK_INT(commit(), SP_OK);
    SP_CHECK(strcmp(all(4096), "1 a 1 sensor\n4 a 5 x\n4 a 6 x\n") == 0);
    SP_CHECK_INT(sp_sessions_stats(j).messages, 2);
    SP_CHECK_INT(sp_sessions_stats(j).bytes, 2 * (1 + SP_SESSIONS_OVERHEAD));
    end();
}

static void a_session_that_begins_or_ends_leaves_nothing_of_the_one_before(void)
{
    begin();
    session("a", 1, SP_KEPT_NEW);
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_SUBSCRIBE}, "old/#");
    queue("a", 2, "old");
    SP_CHECK_INT(commit(), SP_OK);
    queue("a", 12, "new, and known before the session is");
    session("a", 10, SP_KEPT_NEW);
    SP_CHECK_INT(commit(), SP_OK);
    SP_CHECK(strcmp(all(4096), "1 a 10 sensor\n4 a 12 new, and known before the session is\n") ==
             0);
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_END}, "");
    SP_CHECK_INT(commit(), SP_OK);
    SP_CHECK(strcmp(all(4096), "") == 0);
    SP_CHECK_INT(sp_sessions_stats(j).sessions, 0);
    SP_CHECK_INT(sp_sessions_stats(j).bytes, 0);
    end();
}

static void subscriptions_change_and_go(void)
{
    begin();
    session("a", 1, SP_KEPT_NEW);
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_SUBSCRIBE, .qos = 0}, "x");
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_SUBSCRIBE, .qos = 1}, "x");
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_SUBSCRIBE}, "y");
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_UNSUBSCRIBE}, "y");
    SP_CHECK_INT(commit(), SP_OK);
    SP_CHECK(strcmp(all(4096), "1 a 1 sensor\n2 a 0 x\n") == 0);
    stage("a", (struct sp_msg_kept){.kind = SP_KEPT_UNSUBSCRIBE}, "");
    SP_CHECK_INT(commit(), SP_OK);
    SP_CHECK(strcmp(all(4096), "1 a 1 sensor\n") == 0);
    end();
}

static void a_failed_commit_leaves_what_there_was_and_takes_nothing_until_recovery(void)
{
    begin();
    session("a", 1, SP_KEPT_NEW);
    SP_CHECK_INT(commit(), SP_OK);
    (void)signal(SIGXFSZ, SIG_IGN);
    struct rlimit old;
    SP_CHECK_INT(getrlimit(RLIMIT_FSIZE, &old), 0);
    struct rlimit small = {.rlim_cur = 4096, .rlim_max = old.rlim_max};
    SP_CHECK_INT(setrlimit(RLIMIT_FSIZE, &small), 0);
    queue("a", 2, "refused");
    SP_CHECK_INT(commit(), SP_ERR_IO);
    SP_CHECK_INT(setrlimit(RLIMIT_FSIZE, &old), 0);
    const struct sp_kept more = {.head = {.kind = SP_KEPT_END}, .device = SP_VIEW_LIT("a")};
    SP_CHECK_INT(sp_sessions_stage(j, &more), SP_ERR_IO);
    SP_CHECK(!sp_sessions_staged(j));
    SP_CHECK_INT(sp_sessions_stats(j).bytes, 0);
    SP_CHECK_INT(sp_journal_recover(j), SP_OK);
    SP_CHECK(strcmp(all(4096), "1 a 1 sensor\n") == 0);
    end();
}

static void what_gate_cannot_mean_is_malformed(void)
{
    const struct sp_kept good = {.head = {.kind = SP_KEPT_QUEUE, .number = 1},
                                 .device = SP_VIEW_LIT("dev"),
                                 .part = SP_VIEW_LIT("packet")};
    struct sp_kept bad[6];
    for (size_t i = 0; i < 6; i++) {
        bad[i] = good;
    }
    bad[0].head.kind = 99;
    bad[1].head.number = 0;
    bad[2].head.number = UINT64_MAX;
    bad[3].device = SP_VIEW_LIT("a/b");
    bad[4].part = sp_view(NULL, 0);
    bad[5].head = (struct sp_msg_kept){.kind = SP_KEPT_SUBSCRIBE};
    bad[5].part = SP_VIEW_LIT("\xff");
    for (size_t i = 0; i < 7; i++) {
        uint8_t buf[256];
        struct sp_writer w;
        struct sp_kept out;
        sp_writer_init(&w, buf, sizeof(buf));
        sp_kept_write(&w, i < 6 ? &bad[i] : &good);
        struct sp_view rest = sp_writer_view(&w);
        struct sp_view cut = sp_view_first(rest, rest.len - 1);
        SP_CHECK_INT(sp_kept_next(&rest, &out), i < 6 ? SP_ERR_MALFORMED : SP_OK);
        SP_CHECK_INT(sp_kept_next(&cut, &out), SP_ERR_MALFORMED);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(what_was_committed_is_there_after_the_journal_is_opened_again),
    SP_TEST(sessions_can_be_read_in_any_portions),
    SP_TEST(what_is_settled_leaves_and_what_is_queued_twice_is_there_once),
    SP_TEST(a_session_that_begins_or_ends_leaves_nothing_of_the_one_before),
    SP_TEST(subscriptions_change_and_go),
    SP_TEST(a_failed_commit_leaves_what_there_was_and_takes_nothing_until_recovery),
    SP_TEST(what_gate_cannot_mean_is_malformed),
};

SP_TEST_MAIN(tests)
