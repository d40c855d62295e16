/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A journal that somebody has damaged, opened by the code that opens it in store and in the tool. What is no journal of ours
 * is refused with a reason and stays byte for byte as it is; what is taken for one can be read, written and recovered, or says that it is broken.
 */
#include "gateway/store/journal.h"
#include "tests/fuzz/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct fuzz_cell cells[] = {
    {"meta", "value"},           {"messages", "stream"},     {"messages", "time_ms"},
    {"messages", "expiry_s"},    {"messages", "qos"},        {"messages", "format"},
    {"messages", "protection"},  {"messages", "flags"},      {"messages", "device"},
    {"messages", "topic"},       {"messages", "origin"},     {"messages", "payload"},
    {"messages", "counter"},     {"messages", "seq"},        {"dead_letters", "device"},
    {"dead_letters", "reason"},  {"dead_letters", "topic"},  {"dead_letters", "payload"},
    {"dead_letters", "dead_ms"}, {"marks", "counter"},       {"marks", "device"},
    {"marks", "name"},           {"marks", "epoch"},         {"received", "digest"},
    {"received", "seq"},         {"sqlite_sequence", "seq"}, {"marks", "seq"},
    {"batches", "first"},        {"batches", "count"},       {"batches", "data"},
    {"gone", "first"},           {"gone", "bits"},
};

static const char *folder;
static char path[128];
static struct fuzz_file sound;

static struct sp_row *make_row(const char *device, uint64_t counter, uint16_t packet_id)
{
    struct sp_row *row = sp_row_create_marked(sp_view_str(device), SP_VIEW_LIT("up/a"),
                                              SP_VIEW_LIT("dt/a"), SP_VIEW_LIT("payload"),
                                              counter == 0 ? sp_view(NULL, 0) : SP_VIEW_LIT("g"));
    fuzz_require(row != NULL);
    row->qos = 1;
    row->time_ms = 1700000000000;
    row->counter = counter;
    row->epoch = counter == 0 ? 0 : 1;
    row->packet_id = packet_id;
    return row;
}

static void set_up(void)
{
    char why[160];
    struct sp_journal *journal = NULL;
    struct sp_row_list rows = {0};
    struct sp_row_list none = {0};
    folder = fuzz_folder();
    (void)snprintf(path, sizeof(path), "%s/" SP_JOURNAL_FILE, folder);
    fuzz_require(sp_journal_open(folder, why, sizeof(why), &journal) == SP_OK);
    sp_row_list_push(&rows, make_row("a", 0, 0));
    sp_row_list_push(&rows, make_row("b", 7, 0));
    sp_row_list_push(&rows, make_row("c", 0, 5));
    sp_row_list_push(&rows, make_row("d", 0, 0));
    fuzz_require(sp_journal_commit(journal, &rows, &none) == SP_OK);
    struct sp_row_list dead = {0};
    for (int i = 0; i < 2; i++) {
        sp_row_list_push(&dead, sp_row_list_pop(&rows));
        dead.tail->end = SP_ROW_DEAD;
        dead.tail->reason = "because";
    }
    uint64_t count = 0; /* so there is a row beside what is left of the batch */
    fuzz_require(sp_journal_commit(journal, &none, &dead) == SP_OK &&
                 sp_journal_requeue(folder, 2, &count, why, sizeof(why)) == SP_OK && count == 1);
    sp_row_list_clear(&rows);
    sp_row_list_clear(&dead);
    sp_journal_close(journal);
    sound = fuzz_read(path);
    fuzz_require(sound.len > 4096);
}

static enum sp_err look_at_mark(void *arg, const struct sp_journal_mark *mark)
{
    size_t *sum = arg;
    for (size_t i = 0; i < mark->device.len; i++) {
        *sum += mark->device.ptr[i];
    }
    for (size_t i = 0; i < mark->group.len; i++) {
        *sum += mark->group.ptr[i];
    }
    return SP_OK;
}

static void look_at_share(void *arg, struct sp_view device, uint64_t bytes)
{
    size_t *sum = arg;
    *sum += device.len + (size_t)bytes;
}

static void look_at_entry(void *arg, const struct sp_journal_entry *entry)
{
    size_t *sum = arg;
    const struct sp_view all[] = {entry->device, entry->topic, entry->origin, entry->payload,
                                  entry->reason};
    for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++) {
        *sum += all[i].len > 0 ? all[i].ptr[all[i].len - 1] : 0;
    }
}

/* As store uses it: count, read, let go of what was read, add something. */
static void use(struct sp_journal *journal)
{
    const struct sp_journal_want want = {.links = 1, .max_rows = 100, .max_bytes = 1U << 20};
    struct sp_row_list rows = {0};
    struct sp_row_list fresh = {0};
    uint64_t reached = 0;
    size_t sum = strlen(sp_journal_epoch(journal));
    (void)!sp_journal_marks(journal, look_at_mark, &sum);
    (void)!sp_journal_shares(journal, look_at_share, &sum);
    (void)sp_journal_oldest_ms(journal);
    (void)!sp_journal_read(journal, &want, &rows, &reached);
    for (struct sp_row *row = rows.head; row != NULL; row = row->next) {
        row->end = (row->seq & 1) != 0 ? SP_ROW_DELIVERED : SP_ROW_DEAD;
        row->reason = "fuzzed";
        sum += row->device.len + row->topic.len + row->origin.len + row->payload.len;
    }
    sp_row_list_push(&fresh, make_row("a", 9, 5));
    if (sp_journal_commit(journal, &fresh, &rows) != SP_OK) {
        fuzz_require(sp_journal_broken(journal) && sp_journal_error(journal)[0] != '\0');
        (void)!sp_journal_recover(journal);
    }
    (void)sp_journal_changed(journal);
    sp_row_list_clear(&rows);
    sp_row_list_clear(&fresh);
}

/* A file that belongs to somebody else, or to another version. */
static void check_untouched(const struct fuzz_file *before, bool foreign)
{
    struct fuzz_file after = fuzz_read(path);
    fuzz_require(!foreign || (after.len == before->len &&
                              memcmp(after.bytes, before->bytes, before->len) == 0));
    free(after.bytes);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    char why[160] = "";
    struct sp_journal *journal = NULL;
    uint64_t count = 0;
    size_t sum = 0;
    if (folder == NULL) {
        set_up();
    }
    fuzz_damage(path, &sound, cells, sizeof(cells) / sizeof(cells[0]), sp_view(data, size));
    struct fuzz_file before = fuzz_read(path);
    enum sp_err err = sp_journal_open(folder, why, sizeof(why), &journal);
    if (err == SP_OK) {
        use(journal);
        sp_journal_close(journal);
        (void)!sp_journal_visit(folder, (size & 1) != 0, look_at_entry, &sum, why, sizeof(why));
        (void)!sp_journal_requeue(folder, 0, &count, why, sizeof(why));
    } else {
        fuzz_require(why[0] != '\0');
        check_untouched(&before, err == SP_ERR_UNSUPPORTED || strstr(why, "of ours") != NULL);
    }
    free(before.bytes);
    return 0;
}
