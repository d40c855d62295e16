/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/journal.h"

#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "libs/base/test.h"

static char dir[64];
static char file[96];
static char folder[128];
static char why[256];

static void fresh(void)
{
    (void)snprintf(dir, sizeof(dir), "/tmp/sp-journal-test-XXXXXX");
    SP_CHECK(mkdtemp(dir) != NULL);
    (void)snprintf(folder, sizeof(folder), "%s/" SP_JOURNAL_FOLDER, dir);
    (void)snprintf(file, sizeof(file), "%s/" SP_JOURNAL_FILE, dir);
    (void)mkdir(folder, 0700);
}

static void sweep(void)
{
    static const char *const ends[] = {"", "-wal", "-shm"};
    for (size_t i = 0; i < 3; i++) {
        char path[128];
        (void)snprintf(path, sizeof(path), "%s%s", file, ends[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
    (void)rmdir(dir);
}

static struct sp_journal *open_journal(void)
{
    struct sp_journal *j;
    if (sp_journal_open(dir, why, sizeof(why), &j) != SP_OK) {
        printf("cannot go on: %s\n", why);
        exit(1);
    }
    return j;
}

static struct sp_row *new_row(const char *device, const char *payload)
{
    struct sp_row *row = sp_row_create(sp_view_str(device), SP_VIEW_LIT("dt/x/climate"),
                                       SP_VIEW_LIT("dt/dev/climate"), sp_view_str(payload));
    row->time_ms = 1700000000123U;
    row->expiry_s = 60;
    row->qos = 1;
    row->format = SP_FORMAT_JSON;
    row->protection = SP_PROTECTION_MAC;
    row->flags = SP_RECORD_ATTESTED;
    return row;
}

static const struct sp_row_list none;

/* Append `count` rows of one device with payloads `from`, `from` + 1, … in one commit. */
static enum sp_err append(struct sp_journal *j, const char *device, int from, int count)
{
    struct sp_row_list list = {0};
    for (int i = 0; i < count; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", from + i);
        sp_row_list_push(&list, new_row(device, text));
    }
    enum sp_err err = sp_journal_commit(j, &list, &none);
    sp_row_list_clear(&list);
    return err;
}

static struct sp_row_list read_all(struct sp_journal *j, uint32_t link, uint32_t links)
{
    struct sp_row_list rows = {0};
    struct sp_journal_want want = {
        .link = link, .links = links, .max_rows = 100000, .max_bytes = 1U << 30};
    while (want.after != sp_journal_last(j)) {
        uint64_t reached;
        enum sp_err err = sp_journal_read(j, &want, &rows, &reached);
        SP_CHECK_INT(err, SP_OK);
        if (err != SP_OK || reached == want.after) {
            break;
        }
        want.after = reached;
    }
    return rows;
}

static void check_payload(const struct sp_row *row, int number)
{
    char text[16];
    (void)snprintf(text, sizeof(text), "%d", number);
    SP_CHECK(sp_view_equal(row->payload, sp_view_str(text)));
}

static void let_go(struct sp_journal *j, uint64_t seq, enum sp_row_end end)
{
    struct sp_row_list ended = {0};
    struct sp_row_list nothing = {0};
    struct sp_row *row = new_row("dev-1", "1");
    row->seq = seq;
    row->end = end;
    row->reason = "the cloud said no";
    row->end_ms = 5;
    sp_row_list_push(&ended, row);
    SP_CHECK_INT(sp_journal_commit(j, &nothing, &ended), SP_OK);
    sp_row_list_clear(&ended);
}

static void what_is_committed_comes_back_whole_and_in_order(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 3), SP_OK);
    SP_CHECK_INT(append(j, "dev-1", 4, 2), SP_OK);
    sp_journal_close(j);
    j = open_journal();
    struct sp_row_list rows = read_all(j, 0, 1);
    SP_CHECK_INT(rows.count, 5);
    uint64_t seq = 0;
    for (struct sp_row *row = rows.head; row != NULL; row = row->next) {
        SP_CHECK_INT(row->seq, ++seq);
        check_payload(row, (int)seq);
        SP_CHECK(sp_view_equal(row->device, SP_VIEW_LIT("dev-1")));
        SP_CHECK(sp_view_equal(row->topic, SP_VIEW_LIT("dt/x/climate")));
        SP_CHECK(sp_view_equal(row->origin, SP_VIEW_LIT("dt/dev/climate")));
        SP_CHECK_INT(row->time_ms, 1700000000123);
        SP_CHECK_INT(row->expiry_s, 60);
        SP_CHECK_INT(row->qos, 1);
        SP_CHECK_INT(row->format, SP_FORMAT_JSON);
        SP_CHECK_INT(row->protection, SP_PROTECTION_MAC);
        SP_CHECK_INT(row->flags, SP_RECORD_ATTESTED);
        SP_CHECK_INT(row->stream, sp_row_stream(SP_VIEW_LIT("dev-1")));
    }
    sp_row_list_clear(&rows);
    sp_journal_close(j);
    sweep();
}

static void an_empty_payload_and_a_large_one_survive(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    static uint8_t large[300000];
    memset(large, 0x5a, sizeof(large));
    struct sp_row_list list = {0};
    sp_row_list_push(&list, new_row("dev-1", ""));
    sp_row_list_push(&list, sp_row_create(SP_VIEW_LIT("dev-1"), SP_VIEW_LIT("t"), SP_VIEW_LIT("o"),
                                          SP_VIEW_ARRAY(large)));
    SP_CHECK_INT(sp_journal_commit(j, &list, &none), SP_OK);
    struct sp_row_list rows = read_all(j, 0, 1);
    SP_CHECK_INT(rows.count, 2);
    SP_CHECK_INT(rows.head->payload.len, 0);
    SP_CHECK(sp_view_equal(rows.tail->payload, SP_VIEW_ARRAY(large)));
    SP_CHECK_INT(sp_journal_stats(j).bytes, list.bytes);
    sp_row_list_clear(&rows);
    sp_row_list_clear(&list);
    sp_journal_close(j);
    sweep();
}

static void the_file_is_for_its_owner_only(void)
{
    fresh();
    mode_t old = umask(0);
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 1), SP_OK);
    (void)umask(old);
    struct stat st;
    SP_CHECK_INT(stat(file, &st), 0);
    SP_CHECK_INT(st.st_mode & 0777, 0600);
    char wal[128];
    (void)snprintf(wal, sizeof(wal), "%s-wal", file);
    SP_CHECK_INT(stat(wal, &st), 0);
    SP_CHECK_INT(st.st_mode & 0777, 0600);
    sp_journal_close(j);
    sweep();
}

static void rows_let_go_are_gone_and_counted(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 4), SP_OK);
    let_go(j, 1, SP_ROW_DELIVERED);
    let_go(j, 2, SP_ROW_DEAD);
    let_go(j, 2, SP_ROW_DEAD); /* once more, as after a failure */
    let_go(j, 1, SP_ROW_DELIVERED);
    struct sp_journal_stats before = sp_journal_stats(j);
    sp_journal_close(j);
    j = open_journal();
    struct sp_journal_stats after = sp_journal_stats(j);
    SP_CHECK_INT(after.messages, 2);
    SP_CHECK_INT(after.dead_letters, 1);
    SP_CHECK_INT(before.messages, after.messages);
    SP_CHECK_INT(before.bytes, after.bytes);
    SP_CHECK_INT(before.dead_letters, after.dead_letters);
    SP_CHECK_INT(before.dead_bytes, after.dead_bytes);
    SP_CHECK_INT(sp_journal_oldest_ms(j), 1700000000123);
    struct sp_row_list rows = read_all(j, 0, 1);
    SP_CHECK_INT(rows.count, 2);
    SP_CHECK_INT(rows.head->seq, 3);
    sp_row_list_clear(&rows);
    sp_journal_close(j);
    sweep();
}

/* Commit one QoS 2 row; its sequence, 0 when it was no new message. */
static uint64_t receive(struct sp_journal *j, uint16_t packet_id, const char *payload,
                        unsigned flags)
{
    struct sp_row_list list = {0};
    struct sp_row *row = new_row("dev", payload);
    row->packet_id = packet_id;
    row->flags = (uint8_t)flags;
    sp_row_list_push(&list, row);
    SP_CHECK_INT(sp_journal_commit(j, &list, &none), SP_OK);
    uint64_t seq = row->seq;
    sp_row_list_clear(&list);
    return seq;
}

static void a_repeat_is_no_new_message_until_its_release(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(receive(j, 7, "one", 0), 1);
    SP_CHECK_INT(receive(j, 7, "one", SP_RECORD_REPEAT), 0);
    sp_journal_close(j); /* a restart does not forget */
    j = open_journal();
    SP_CHECK_INT(receive(j, 7, "one", SP_RECORD_REPEAT), 0);
    SP_CHECK_INT(sp_journal_stats(j).messages, 1);
    SP_CHECK_INT(sp_journal_last(j), 1);
    SP_CHECK_INT(receive(j, 7, "", SP_RECORD_RELEASE), 0);
    SP_CHECK_INT(receive(j, 7, "one", SP_RECORD_REPEAT), 2); /* of something that we never saw */
    sp_journal_close(j);
    sweep();
}

static void a_packet_id_used_for_something_else_is_never_taken_for_a_repeat(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(receive(j, 7, "one", 0), 1);
    SP_CHECK_INT(receive(j, 7, "one", 0), 2); /* no DUP: a device without its state */
    SP_CHECK_INT(receive(j, 7, "two", SP_RECORD_REPEAT), 3); /* DUP, other text */
    SP_CHECK_INT(receive(j, 7, "two", SP_RECORD_REPEAT), 0);
    SP_CHECK_INT(receive(j, 8, "two", SP_RECORD_REPEAT), 4);
    sp_journal_close(j);
    sweep();
}

static void only_so_many_packet_ids_of_a_device_are_kept(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    for (uint16_t id = 1; id <= SP_JOURNAL_PACKET_IDS + 1; id++) {
        SP_CHECK_INT(receive(j, id, "x", 0), id);
    }
    SP_CHECK_INT(receive(j, 2, "x", SP_RECORD_REPEAT), 0);
    SP_CHECK(receive(j, 1, "x", SP_RECORD_REPEAT) != 0);
    sp_journal_close(j);
    sweep();
}

static void a_sequence_is_never_used_twice(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    char epoch[SP_JOURNAL_EPOCH_LEN + 1];
    (void)snprintf(epoch, sizeof(epoch), "%s", sp_journal_epoch(j));
    SP_CHECK_INT(strlen(epoch), SP_JOURNAL_EPOCH_LEN);
    SP_CHECK_INT(append(j, "dev-1", 1, 1), SP_OK);
    let_go(j, 1, SP_ROW_DELIVERED);
    sp_journal_close(j);
    j = open_journal();
    SP_CHECK_INT(strcmp(epoch, sp_journal_epoch(j)), 0);
    SP_CHECK_INT(sp_journal_last(j), 1);
    SP_CHECK_INT(append(j, "dev-1", 2, 1), SP_OK);
    SP_CHECK_INT(sp_journal_last(j), 2);
    sp_journal_close(j);
    sweep();
    fresh();
    j = open_journal();
    SP_CHECK(strcmp(epoch, sp_journal_epoch(j)) != 0); /* another journal, another epoch */
    sp_journal_close(j);
    sweep();
}

static void each_link_reads_its_own_devices_in_order(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    for (int i = 0; i < 50; i++) {
        char device[16];
        (void)snprintf(device, sizeof(device), "dev-%d", i % 10);
        SP_CHECK_INT(append(j, device, i, 1), SP_OK);
    }
    size_t total = 0;
    for (uint32_t link = 0; link < 3; link++) {
        struct sp_row_list rows = read_all(j, link, 3);
        uint64_t last = 0;
        for (struct sp_row *row = rows.head; row != NULL; row = row->next) {
            SP_CHECK(row->seq > last);
            SP_CHECK_INT(row->stream % 3, link);
            last = row->seq;
        }
        total += rows.count;
        sp_row_list_clear(&rows);
    }
    SP_CHECK_INT(total, 50);
    sp_journal_close(j);
    sweep();
}

static void a_read_stops_where_it_is_told_and_goes_on_there(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 5000), SP_OK);
    struct sp_row_list rows = {0};
    struct sp_journal_want want = {.links = 1, .max_rows = 3, .max_bytes = 1U << 20};
    uint64_t reached;
    SP_CHECK_INT(sp_journal_read(j, &want, &rows, &reached), SP_OK);
    SP_CHECK_INT(rows.count, 3);
    SP_CHECK_INT(reached, 3);
    want.after = reached;
    want.max_bytes = 1; /* one row is always brought */
    SP_CHECK_INT(sp_journal_read(j, &want, &rows, &reached), SP_OK);
    SP_CHECK_INT(rows.count, 4);
    SP_CHECK_INT(reached, 4);
    sp_row_list_clear(&rows);
    want = (struct sp_journal_want){.links = 1, .max_rows = 99999, .max_bytes = 1U << 30};
    SP_CHECK_INT(sp_journal_read(j, &want, &rows, &reached), SP_OK);
    SP_CHECK(rows.count < 5000); /* a bounded piece */
    sp_row_list_clear(&rows);
    rows = read_all(j, 0, 1);
    SP_CHECK_INT(rows.count, 5000);
    sp_row_list_clear(&rows);
    sp_journal_close(j);
    sweep();
}

static void write_file(const char *bytes, size_t len)
{
    int fd = open(file, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    SP_CHECK_INT(write(fd, bytes, len), (ssize_t)len);
    (void)close(fd);
}

/* Let go of every row from `first` to `last`, but those whose sequence is a multiple of `but`; the last comes first. */
static void let_go_of_many(struct sp_journal *j, uint64_t first, uint64_t last, uint64_t but)
{
    struct sp_row_list ended = {0};
    struct sp_row_list nothing = {0};
    for (uint64_t seq = last; seq >= first; seq--) {
        if (seq % but != 0) {
            char text[16];
            (void)snprintf(text, sizeof(text), "%d", (int)seq);
            struct sp_row *row = new_row("dev-1", text);
            row->seq = seq;
            sp_row_list_push(&ended, row);
        }
    }
    SP_CHECK_INT(sp_journal_commit(j, &nothing, &ended), SP_OK);
    sp_row_list_clear(&ended);
}

/* What is there are the rows of that sequence `step`, 2 * `step` … up to `last`; counted right, now and when counted anew. */
static void check_left(struct sp_journal **j, uint64_t step, uint64_t last)
{
    for (int again = 0; again < 2; again++) {
        struct sp_row_list rows = read_all(*j, 0, 1);
        struct sp_journal_stats stats = sp_journal_stats(*j);
        uint64_t seq = 0;
        for (const struct sp_row *row = rows.head; row != NULL; row = row->next) {
            seq += step;
            SP_CHECK_INT(row->seq, seq);
            check_payload(row, (int)seq);
        }
        SP_CHECK_INT(rows.count, last / step);
        SP_CHECK_INT(stats.messages, rows.count);
        SP_CHECK_INT(stats.bytes, rows.bytes);
        sp_row_list_clear(&rows);
        sp_journal_close(*j);
        *j = open_journal();
    }
}

static void what_is_left_of_a_batch_stays_in_its_order(void)
{
    static const uint64_t steps[] = {2, 3, 5, 50, 128};
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        fresh();
        struct sp_journal *j = open_journal();
        SP_CHECK_INT(append(j, "dev-1", 1, 700), SP_OK);
        SP_CHECK_INT(append(j, "dev-1", 701, 1), SP_OK);
        SP_CHECK_INT(append(j, "dev-1", 702, 99), SP_OK);
        let_go_of_many(j, 1, 300, steps[i]);
        let_go_of_many(j, 200, 800, steps[i]); /* some of them once more */
        check_left(&j, steps[i], 800);
        let_go_of_many(j, 1, 800, UINT64_MAX);
        check_left(&j, 801, 800);
        sp_journal_close(j);
        sweep();
    }
}

static void a_read_may_begin_in_the_middle_of_a_batch(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 300), SP_OK);
    let_go_of_many(j, 120, 140, 3);
    for (uint64_t after = 0; after <= 300; after += 7) {
        struct sp_row_list rows = {0};
        struct sp_journal_want want = {
            .after = after, .links = 1, .max_rows = 1000, .max_bytes = 1U << 30};
        uint64_t reached;
        uint64_t due = after + 1;
        SP_CHECK_INT(sp_journal_read(j, &want, &rows, &reached), SP_OK);
        SP_CHECK_INT(reached, 300);
        for (const struct sp_row *row = rows.head; row != NULL; row = row->next, due++) {
            while (due >= 120 && due <= 140 && due % 3 != 0) {
                due++;
            }
            SP_CHECK_INT(row->seq, due);
        }
        SP_CHECK(rows.count == 0 ? after >= 300 : due == 301);
        sp_row_list_clear(&rows);
    }
    sp_journal_close(j);
    sweep();
}

static void a_few_that_stay_do_not_keep_the_disk_of_all(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    for (int i = 0; i < 100; i++) { /* one of a hundred is never acknowledged */
        SP_CHECK_INT(append(j, "dev-1", 1 + 100 * i, 100), SP_OK);
        let_go_of_many(j, 1 + 100U * (unsigned)i, 100U + 100U * (unsigned)i, 100);
    }
    check_left(&j, 100, 10000);
    sp_journal_close(j);
    struct stat st;
    SP_CHECK_INT(stat(file, &st), 0);
    SP_CHECK(st.st_size < 200 * 1024); /* all of them would take 1 MB */
    sweep();
}

static void a_file_that_is_no_journal_is_refused_and_left_alone(void)
{
    fresh();
    char noise[8192];
    memset(noise, 'x', sizeof(noise));
    write_file(noise, sizeof(noise));
    struct sp_journal *j;
    SP_CHECK_INT(sp_journal_open(dir, why, sizeof(why), &j), SP_ERR_MALFORMED);
    SP_CHECK(j == NULL);
    SP_CHECK(strstr(why, "not a database") != NULL);
    char back[sizeof(noise)];
    int fd = open(file, O_RDONLY);
    SP_CHECK_INT(read(fd, back, sizeof(back)), (ssize_t)sizeof(back));
    (void)close(fd);
    SP_CHECK(memcmp(noise, back, sizeof(noise)) == 0);
    sweep();
}

static void a_damaged_journal_is_refused(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 3000), SP_OK);
    sp_journal_close(j); /* moves everything into the database */
    int fd = open(file, O_WRONLY);
    char noise[4096];
    memset(noise, 0xee, sizeof(noise));
    for (off_t page = 2; page < 12; page++) {
        SP_CHECK_INT(pwrite(fd, noise, sizeof(noise), page * 4096), (ssize_t)sizeof(noise));
    }
    (void)close(fd);
    SP_CHECK_INT(sp_journal_open(dir, why, sizeof(why), &j), SP_ERR_MALFORMED);
    SP_CHECK(strstr(why, "malformed") != NULL);
    sweep();
}

static void a_symlink_in_place_of_the_file_is_refused(void)
{
    fresh();
    SP_CHECK_INT(symlink("/tmp/sp-journal-test-elsewhere", file), 0);
    struct sp_journal *j;
    SP_CHECK_INT(sp_journal_open(dir, why, sizeof(why), &j), SP_ERR_IO);
    sweep();
}

/* Runs in a child: commit after commit, each told through the pipe once it has returned. */
static void write_until_killed(int told)
{
    struct sp_journal *j = open_journal();
    for (int n = (int)sp_journal_last(j) + 1;; n += 7) {
        if (append(j, "dev-1", n, 7) != SP_OK) {
            _exit(1);
        }
        int upto = n + 6;
        if (write(told, &upto, sizeof(upto)) != (ssize_t)sizeof(upto)) {
            _exit(0);
        }
    }
}

static void what_was_acknowledged_survives_kill_9(void)
{
    fresh();
    int acked = 0;
    for (int round = 0; round < 8; round++) {
        int told[2];
        SP_CHECK_INT(pipe(told), 0);
        pid_t pid = fork();
        if (pid == 0) {
            (void)close(told[0]);
            write_until_killed(told[1]);
        }
        (void)close(told[1]);
        for (int i = 0, upto; i < 20 + 9 * round; i++) {
            SP_CHECK_INT(read(told[0], &upto, sizeof(upto)), (ssize_t)sizeof(upto));
            acked = upto;
        }
        (void)usleep((useconds_t)(37 * round));
        (void)kill(pid, SIGKILL);
        for (int upto; read(told[0], &upto, sizeof(upto)) == (ssize_t)sizeof(upto);) {
            acked = upto; /* what was acknowledged before the signal */
        }
        (void)close(told[0]);
        (void)waitpid(pid, NULL, 0);
        struct sp_journal *j = open_journal();
        struct sp_row_list rows = read_all(j, 0, 1);
        SP_CHECK((int)rows.count >= acked);
        int n = 0;
        for (struct sp_row *row = rows.head; row != NULL; row = row->next) {
            check_payload(row, ++n);
        }
        sp_row_list_clear(&rows);
        sp_journal_close(j);
    }
    sweep();
}

static void set_file_limit(rlim_t bytes)
{
    struct rlimit limit;
    SP_CHECK_INT(getrlimit(RLIMIT_FSIZE, &limit), 0);
    limit.rlim_cur = bytes == RLIM_INFINITY ? limit.rlim_max : bytes;
    SP_CHECK_INT(setrlimit(RLIMIT_FSIZE, &limit), 0);
}

static void a_disk_that_fails_refuses_and_loses_nothing(void)
{
    fresh();
    (void)signal(SIGXFSZ, SIG_IGN);
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 10), SP_OK);
    set_file_limit(65536);
    int taken = 10;
    enum sp_err err = SP_OK;
    for (int i = 0; i < 100 && err == SP_OK; i++) {
        err = append(j, "dev-1", taken + 1, 200);
        taken += err == SP_OK ? 200 : 0;
    }
    SP_CHECK_INT(err, SP_ERR_IO);
    SP_CHECK(sp_journal_broken(j));
    SP_CHECK_INT(append(j, "dev-1", 0, 1), SP_ERR_IO); /* nothing more before recovery */
    set_file_limit(1);
    SP_CHECK_INT(sp_journal_recover(j), SP_ERR_IO); /* which needs a disk */
    SP_CHECK(sp_journal_broken(j));
    set_file_limit(RLIM_INFINITY);
    SP_CHECK_INT(sp_journal_recover(j), SP_OK);
    SP_CHECK_INT(sp_journal_stats(j).messages, taken);
    SP_CHECK_INT(append(j, "dev-1", taken + 1, 1), SP_OK);
    sp_journal_close(j);
    j = open_journal();
    struct sp_row_list rows = read_all(j, 0, 1);
    SP_CHECK_INT(rows.count, taken + 1);
    uint64_t last = 0;
    int n = 0;
    for (struct sp_row *row = rows.head; row != NULL; row = row->next) {
        check_payload(row, ++n);
        SP_CHECK(row->seq > last);
        last = row->seq;
    }
    sp_row_list_clear(&rows);
    sp_journal_close(j);
    sweep();
}

static void a_refused_batch_has_no_sequences(void)
{
    fresh();
    (void)signal(SIGXFSZ, SIG_IGN);
    struct sp_journal *j = open_journal();
    set_file_limit(4096);
    struct sp_row_list list = {0};
    sp_row_list_push(&list, new_row("dev-1", "a"));
    sp_row_list_push(&list, new_row("dev-1", "b"));
    SP_CHECK_INT(sp_journal_commit(j, &list, &none), SP_ERR_IO);
    SP_CHECK_INT(list.head->seq, 0);
    SP_CHECK_INT(list.tail->seq, 0);
    SP_CHECK(strlen(sp_journal_error(j)) > 0);
    set_file_limit(RLIM_INFINITY);
    SP_CHECK_INT(sp_journal_recover(j), SP_OK);
    SP_CHECK_INT(sp_journal_stats(j).messages, 0);
    SP_CHECK_INT(sp_journal_commit(j, &list, &none), SP_OK);
    SP_CHECK(list.head->seq < list.tail->seq);
    sp_row_list_clear(&list);
    sp_journal_close(j);
    sweep();
}

struct mark {
    size_t count;
    uint64_t counter;
};

static enum sp_err see_mark(void *arg, const struct sp_journal_mark *m)
{
    struct mark *seen = arg;
    SP_CHECK(sp_view_equal(m->device, SP_VIEW_LIT("dev-1")) && m->epoch == 3 &&
             sp_view_equal(m->group, SP_VIEW_LIT("hall")));
    seen->count++;
    seen->counter = m->counter;
    return SP_OK;
}

static uint64_t mark_of(struct sp_journal *j)
{
    struct mark seen = {0};
    SP_CHECK_INT(sp_journal_marks(j, see_mark, &seen), SP_OK);
    SP_CHECK(seen.count <= 1);
    return seen.counter;
}

static enum sp_err commit_marked(struct sp_journal *j, uint64_t counter, uint8_t flags, size_t size)
{
    static uint8_t payload[65536];
    const struct sp_view nothing = {NULL, 0};
    bool only = (flags & SP_RECORD_MARK) != 0;
    struct sp_view topic = only ? nothing : SP_VIEW_LIT("dt/x/climate");
    struct sp_row_list list = {0};
    struct sp_row *row = sp_row_create_marked(SP_VIEW_LIT("dev-1"), topic, topic,
                                              sp_view(payload, size), SP_VIEW_LIT("hall"));
    row->epoch = 3;
    row->counter = counter;
    row->flags = flags;
    sp_row_list_push(&list, row);
    enum sp_err err = sp_journal_commit(j, &list, &none);
    sp_row_list_clear(&list);
    return err;
}

static void a_mark_moves_with_its_message_and_never_back(void)
{
    fresh();
    (void)signal(SIGXFSZ, SIG_IGN);
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(commit_marked(j, 5, 0, 3), SP_OK);
    SP_CHECK_INT(commit_marked(j, 4, 0, 3), SP_OK);
    SP_CHECK_INT(mark_of(j), 5);
    SP_CHECK_INT(commit_marked(j, 6, SP_RECORD_MARK, 0), SP_OK);
    SP_CHECK_INT(mark_of(j), 6);
    SP_CHECK_INT(sp_journal_stats(j).messages, 2);
    struct sp_row_list rows = read_all(j, 0, 1);
    SP_CHECK(rows.count == 2 && rows.head->counter == 5);
    sp_row_list_clear(&rows);
    set_file_limit(65536);
    enum sp_err err = SP_OK;
    uint64_t kept = 6;
    for (uint64_t counter = 7; err == SP_OK && counter < 100; counter++) {
        err = commit_marked(j, counter, 0, 40000);
        kept = err == SP_OK ? counter : kept;
    }
    SP_CHECK_INT(err, SP_ERR_IO);
    set_file_limit(RLIM_INFINITY);
    SP_CHECK_INT(sp_journal_recover(j), SP_OK);
    SP_CHECK_INT(mark_of(j), kept); /* a refused message may come again */
    sp_journal_close(j);
    j = open_journal();
    SP_CHECK_INT(mark_of(j), kept);
    sp_journal_close(j);
    sweep();
}

struct seen {
    size_t count;
    uint64_t last_seq;
    bool sound;
};

static void look(void *arg, const struct sp_journal_entry *entry)
{
    struct seen *seen = arg;
    bool dead = entry->dead_ms != 0;
    seen->count++;
    seen->last_seq = entry->seq;
    seen->sound = sp_view_equal(entry->device, SP_VIEW_LIT("dev-1")) && entry->payload.len == 1 &&
                  entry->time_ms == 1700000000123U &&
                  sp_view_equal(entry->reason, sp_view_str(dead ? "the cloud said no" : ""));
}

static void a_dead_letter_put_back_gets_a_new_sequence_and_the_store_notices(void)
{
    fresh();
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 3), SP_OK);
    let_go(j, 2, SP_ROW_DEAD);
    (void)sp_journal_changed(j);
    SP_CHECK(!sp_journal_changed(j));
    uint64_t count = 9;
    SP_CHECK_INT(sp_journal_requeue(dir, 7, &count, why, sizeof(why)), SP_OK);
    SP_CHECK_INT(count, 0);
    SP_CHECK_INT(sp_journal_requeue(dir, 2, &count, why, sizeof(why)), SP_OK);
    SP_CHECK_INT(count, 1);
    SP_CHECK(sp_journal_changed(j));
    SP_CHECK(!sp_journal_changed(j));
    SP_CHECK_INT(sp_journal_last(j), 4);
    SP_CHECK_INT(sp_journal_stats(j).messages, 3);
    SP_CHECK_INT(sp_journal_stats(j).dead_letters, 0);
    SP_CHECK_INT(append(j, "dev-1", 4, 1), SP_OK);
    SP_CHECK_INT(sp_journal_last(j), 5);
    sp_journal_close(j);
    sweep();
}

static void look_at_refused(void *arg, const struct sp_journal_entry *entry)
{
    struct seen *seen = arg;
    seen->sound = (seen->count == 0 || (seen->sound && entry->seq > seen->last_seq)) &&
                  sp_view_equal(entry->reason, SP_VIEW_LIT("refused record: open"));
    seen->count++;
    seen->last_seq = entry->seq;
}

static enum sp_err append_refused(struct sp_journal *j, const char *device, int from, int count)
{
    struct sp_row_list list = {0};
    for (int i = 0; i < count; i++) {
        char text[16];
        (void)snprintf(text, sizeof(text), "%d", from + i);
        struct sp_row *row = new_row(device, text);
        row->flags = SP_RECORD_REFUSED;
        row->reason = "refused record: open";
        row->end_ms = 7;
        sp_row_list_push(&list, row);
    }
    sp_row_list_push(&list, new_row("dev-1", "good"));
    enum sp_err err = sp_journal_commit(j, &list, &none);
    SP_CHECK(err != SP_OK || (list.head->seq == 0 && list.tail->seq != 0));
    sp_row_list_clear(&list);
    return err;
}

static void refused_records_are_dead_letters_at_once_and_stay_so(void)
{
    fresh();
    uint64_t count = 9;
    struct seen seen = {0};
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append_refused(j, "dev-1", 1, 3), SP_OK);
    struct sp_journal_stats stats = sp_journal_stats(j);
    SP_CHECK(stats.messages == 1 && stats.dead_letters == 3 && sp_journal_last(j) == 4);
    struct sp_row_list rows = read_all(j, 0, 1);
    SP_CHECK(rows.count == 1 && rows.head->seq == 4);
    sp_row_list_clear(&rows);
    SP_CHECK_INT(sp_journal_requeue(dir, 0, &count, why, sizeof(why)), SP_OK);
    SP_CHECK_INT(count, 0);
    SP_CHECK_INT(sp_journal_requeue(dir, 2, &count, why, sizeof(why)), SP_OK);
    SP_CHECK_INT(count, 0);
    sp_journal_close(j);
    j = open_journal();
    SP_CHECK_INT(sp_journal_stats(j).dead_letters, 3);
    SP_CHECK_INT(append_refused(j, "dev-1", 4, 1), SP_OK); /* no sequence is given twice */
    SP_CHECK_INT(sp_journal_visit(dir, true, look_at_refused, &seen, why, sizeof(why)), SP_OK);
    SP_CHECK(seen.count == 4 && seen.sound && seen.last_seq == 5);
    sp_journal_close(j);
    sweep();
}

static void of_a_devices_refused_records_the_latest_are_kept(void)
{
    fresh();
    struct seen seen = {0};
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append_refused(j, "dev-2", 1, 2), SP_OK);
    SP_CHECK_INT(append(j, "dev-1", 1, 1), SP_OK);
    let_go(j, sp_journal_last(j), SP_ROW_DEAD);
    for (int i = 0; i < 5; i++) {
        SP_CHECK_INT(append_refused(j, "dev-1", 100 * i, 30), SP_OK);
    }
    struct sp_journal_stats stats = sp_journal_stats(j);
    SP_CHECK_INT(stats.dead_letters, 2 + 1 + SP_JOURNAL_REFUSED);
    sp_journal_close(j);
    j = open_journal(); /* counts anew */
    SP_CHECK_INT(sp_journal_stats(j).dead_letters, stats.dead_letters);
    SP_CHECK_INT(sp_journal_stats(j).dead_bytes, stats.dead_bytes);
    SP_CHECK_INT(sp_journal_stats(j).bytes, stats.bytes);
    SP_CHECK_INT(sp_journal_visit(dir, true, look_at_refused, &seen, why, sizeof(why)), SP_OK);
    SP_CHECK(seen.last_seq == sp_journal_last(j) - 1);
    sp_journal_close(j);
    sweep();
}

static void refused_records_of_a_failed_commit_are_nowhere(void)
{
    fresh();
    (void)signal(SIGXFSZ, SIG_IGN);
    struct sp_journal *j = open_journal();
    set_file_limit(4096);
    SP_CHECK_INT(append_refused(j, "dev-1", 1, 3), SP_ERR_IO);
    set_file_limit(RLIM_INFINITY);
    SP_CHECK_INT(sp_journal_recover(j), SP_OK);
    SP_CHECK_INT(sp_journal_stats(j).dead_letters, 0);
    SP_CHECK_INT(append_refused(j, "dev-1", 1, 3), SP_OK);
    SP_CHECK_INT(sp_journal_stats(j).dead_letters, 3);
    sp_journal_close(j);
    sweep();
}

static void an_operator_sees_messages_and_dead_letters_of_a_running_store(void)
{
    fresh();
    struct seen seen = {0};
    SP_CHECK_INT(sp_journal_visit(dir, false, look, &seen, why, sizeof(why)), SP_ERR_NOT_FOUND);
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(append(j, "dev-1", 1, 4), SP_OK);
    let_go(j, 2, SP_ROW_DEAD);
    SP_CHECK_INT(sp_journal_visit(dir, false, look, &seen, why, sizeof(why)), SP_OK);
    SP_CHECK_INT(seen.count, 3);
    SP_CHECK_INT(seen.last_seq, 4);
    SP_CHECK(seen.sound);
    seen = (struct seen){0};
    SP_CHECK_INT(sp_journal_visit(dir, true, look, &seen, why, sizeof(why)), SP_OK);
    SP_CHECK_INT(seen.count, 1);
    SP_CHECK_INT(seen.last_seq, 2);
    SP_CHECK(seen.sound);
    SP_CHECK_INT(append(j, "dev-1", 5, 1), SP_OK);
    sp_journal_close(j);
    SP_CHECK_INT(sp_journal_visit(dir, true, look, &seen, why, sizeof(why)), SP_OK);
    sweep();
}

/* What is there are the rows `first` to `last`. */
static void check_left_from(struct sp_journal *j, uint64_t first, uint64_t last)
{
    struct sp_row_list rows = read_all(j, 0, 1);
    uint64_t seq = first;
    for (const struct sp_row *row = rows.head; row != NULL; row = row->next, seq++) {
        SP_CHECK_INT(row->seq, seq);
        check_payload(row, (int)seq);
    }
    SP_CHECK_INT(seq, last + 1);
    sp_row_list_clear(&rows);
}

/* A journal as version 2 left it: a row for each message. */
static void make_old(const char *tables)
{
    char command[2048];
    (void)snprintf(command, sizeof(command),
                   "/usr/bin/python3 -c \"import sqlite3,sys\n"
                   "db = sqlite3.connect(sys.argv[1])\n"
                   "db.executescript(sys.argv[2])\" %s \"%s\"",
                   file, tables);
    SP_CHECK_INT(system(command), 0);
}

static void a_journal_of_version_2_is_read_and_goes_on(void)
{
    fresh();
    make_old("PRAGMA journal_mode=WAL; PRAGMA application_id=1397770801; PRAGMA user_version=2;"
             "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
             "CREATE TABLE messages(seq INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL,"
             " time_ms INTEGER NOT NULL, expiry_s INTEGER NOT NULL, qos INTEGER NOT NULL,"
             " format INTEGER NOT NULL, protection INTEGER NOT NULL, flags INTEGER NOT NULL,"
             " device TEXT NOT NULL, topic TEXT NOT NULL, origin TEXT NOT NULL,"
             " payload BLOB NOT NULL, counter INTEGER NOT NULL DEFAULT 0);"
             "CREATE TABLE dead_letters(seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL,"
             " time_ms INTEGER NOT NULL, expiry_s INTEGER NOT NULL, qos INTEGER NOT NULL,"
             " format INTEGER NOT NULL, protection INTEGER NOT NULL, flags INTEGER NOT NULL,"
             " device TEXT NOT NULL, topic TEXT NOT NULL, origin TEXT NOT NULL,"
             " payload BLOB NOT NULL, reason TEXT NOT NULL, dead_ms INTEGER NOT NULL);"
             "CREATE TABLE marks(device TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL,"
             " counter INTEGER NOT NULL, before INTEGER NOT NULL, seq INTEGER NOT NULL,"
             " PRIMARY KEY(device, name, epoch)) WITHOUT ROWID;"
             "INSERT INTO meta VALUES('epoch','0123456789abcdef');"
             "INSERT INTO messages VALUES(1,7,1700000000123,60,1,2,1,1,'dev-1','t','o',x'31',0);"
             "INSERT INTO messages VALUES(2,7,1700000000123,60,1,2,1,1,'dev-1','t','o',x'32',5);"
             "INSERT INTO messages VALUES(3,7,1700000000123,60,1,2,1,1,'dev-1','t','o',x'33',0);");
    struct seen seen = {0};
    SP_CHECK_INT(sp_journal_visit(dir, false, look, &seen, why, sizeof(why)), SP_OK);
    SP_CHECK(seen.count == 3 && seen.last_seq == 3 && seen.sound); /* before anybody opened it */
    struct sp_journal *j = open_journal();
    SP_CHECK_INT(strcmp(sp_journal_epoch(j), "0123456789abcdef"), 0);
    SP_CHECK_INT(sp_journal_stats(j).messages, 3);
    SP_CHECK_INT(append(j, "dev-1", 4, 3), SP_OK);
    check_left_from(j, 1, 6);
    let_go(j, 2, SP_ROW_DEAD);
    let_go(j, 1, SP_ROW_DELIVERED);
    let_go(j, 3, SP_ROW_DELIVERED);
    sp_journal_close(j);
    j = open_journal();
    check_left_from(j, 4, 6);
    SP_CHECK_INT(sp_journal_stats(j).dead_letters, 1);
    sp_journal_close(j);
    sweep();
}

static const struct sp_test tests[] = {
    SP_TEST(a_dead_letter_put_back_gets_a_new_sequence_and_the_store_notices),
    SP_TEST(an_operator_sees_messages_and_dead_letters_of_a_running_store),
    SP_TEST(refused_records_are_dead_letters_at_once_and_stay_so),
    SP_TEST(of_a_devices_refused_records_the_latest_are_kept),
    SP_TEST(refused_records_of_a_failed_commit_are_nowhere),
    SP_TEST(what_is_committed_comes_back_whole_and_in_order),
    SP_TEST(an_empty_payload_and_a_large_one_survive),
    SP_TEST(the_file_is_for_its_owner_only),
    SP_TEST(rows_let_go_are_gone_and_counted),
    SP_TEST(a_repeat_is_no_new_message_until_its_release),
    SP_TEST(a_packet_id_used_for_something_else_is_never_taken_for_a_repeat),
    SP_TEST(only_so_many_packet_ids_of_a_device_are_kept),
    SP_TEST(a_sequence_is_never_used_twice),
    SP_TEST(each_link_reads_its_own_devices_in_order),
    SP_TEST(a_read_stops_where_it_is_told_and_goes_on_there),
    SP_TEST(a_file_that_is_no_journal_is_refused_and_left_alone),
    SP_TEST(a_damaged_journal_is_refused),
    SP_TEST(a_symlink_in_place_of_the_file_is_refused),
    SP_TEST(what_was_acknowledged_survives_kill_9),
    SP_TEST(a_disk_that_fails_refuses_and_loses_nothing),
    SP_TEST(a_refused_batch_has_no_sequences),
    SP_TEST(a_mark_moves_with_its_message_and_never_back),
    SP_TEST(what_is_left_of_a_batch_stays_in_its_order),
    SP_TEST(a_read_may_begin_in_the_middle_of_a_batch),
    SP_TEST(a_few_that_stay_do_not_keep_the_disk_of_all),
    SP_TEST(a_journal_of_version_2_is_read_and_goes_on),
};
SP_TEST_MAIN(tests)
