/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/journal_internal.h"

#include <sqlite3.h>
#include <stdio.h>

#include "gateway/store/statement_internal.h"

#define EPOCHS_KEPT 64 /* of a device in a group; older ones are accepted nowhere any more */

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)

/* clang-format off */
#define COLUMNS                                                                                    \
    "seq,stream,time_ms,expiry_s,qos,format,protection,flags,device,topic,origin,payload"
#define COST                                                                                       \
    "(length(CAST(device AS BLOB))+length(CAST(topic AS BLOB))+length(CAST(origin AS BLOB))"      \
    "+length(payload)+64)"

enum statement {
    ST_BEGIN, ST_COMMIT, ST_ROLLBACK, ST_LAST, ST_GIVEN, ST_BURY, ST_VERSION,
    ST_MARK, ST_UNMARK, ST_FORGET, ST_COUNT
};

static const char *const statements[] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_LAST] = "SELECT seq FROM sqlite_sequence WHERE name='messages'",
    [ST_GIVEN] = "UPDATE sqlite_sequence SET seq=?1 WHERE name='messages'",
    [ST_BURY] = "INSERT OR REPLACE INTO dead_letters(" COLUMNS ",reason,dead_ms)"
                " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    /* ?5: first sequence of this commit, 0 without messages; ?6: last one of those before */
    [ST_MARK] = "INSERT INTO marks VALUES(?1,?2,?3,?4,0,?5) ON CONFLICT DO UPDATE"
                " SET before=CASE WHEN seq>?6 THEN before ELSE counter END,"
                " counter=max(counter,excluded.counter), seq=excluded.seq",
    [ST_UNMARK] = "DELETE FROM marks WHERE device=?1 AND name=?2 AND epoch<=?3",
    [ST_FORGET] = "DELETE FROM dead_letters WHERE seq=(SELECT seq FROM dead_letters"
                  " WHERE device=?1 AND " SP_JOURNAL_IS_REFUSED " ORDER BY seq DESC LIMIT 1 OFFSET "
                  TEXT(SP_JOURNAL_REFUSED) ") RETURNING " COST,
    [ST_VERSION] = "PRAGMA data_version",
};
/* clang-format on */

_Static_assert(ST_COUNT == SP_JOURNAL_STATEMENTS, "all of them are prepared");

/* ---- statements ---- */

static int run(struct sp_journal *j, enum statement which)
{
    return sp_statement_run(j->prepared[which]);
}

int sp_journal_prepare(struct sp_journal *j)
{
    int rc = sp_statements_prepare(j->db, statements, ST_COUNT, j->prepared);
    rc = rc == SQLITE_OK ? sp_packets_connect(&j->packets, j->db) : rc;
    rc = rc == SQLITE_OK ? sp_messages_connect(j->messages, j->db) : rc;
    return rc == SQLITE_OK ? sp_sessions_connect(j->sessions, j->db) : rc;
}

void sp_journal_unprepare(struct sp_journal *j)
{
    sp_sessions_disconnect(j->sessions);
    sp_messages_disconnect(j->messages);
    sp_packets_disconnect(&j->packets);
    sp_statements_finalize(j->prepared, ST_COUNT);
}

/* ---- what it holds, and how it is ---- */

int sp_journal_take_stock(struct sp_journal *j)
{
    struct sp_journal_stats s = {0};
    struct sp_messages_walk walk;
    struct sp_stored message = {.seq = 0};
    int rc = sp_messages_walk(j->messages, 0, &walk);
    rc = rc == SQLITE_OK ? sp_messages_next(&walk, &message) : rc;
    for (; rc == SQLITE_ROW; rc = sp_messages_next(&walk, &message)) {
        s.messages++;
        s.bytes += sp_stored_cost(&message);
    }
    sp_messages_end(&walk);
    if (rc == SQLITE_DONE) {
        s.dead_letters =
            (uint64_t)sp_statement_number(j->db, "SELECT count(*) FROM dead_letters", &rc);
    }
    if (rc == SQLITE_OK) {
        s.dead_bytes =
            (uint64_t)sp_statement_number(j->db, "SELECT sum" COST " FROM dead_letters", &rc);
    }
    if (rc == SQLITE_OK) {
        j->stats = s;
    }
    return rc;
}

int sp_journal_read_last(struct sp_journal *j, uint64_t *last)
{
    sqlite3_stmt *st = j->prepared[ST_LAST];
    int rc = sqlite3_step(st);
    int64_t value = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    int reset = sqlite3_reset(st);
    if (rc != SQLITE_ROW || reset != SQLITE_OK) {
        return rc == SQLITE_DONE ? SQLITE_CORRUPT : rc == SQLITE_ROW ? reset : rc;
    }
    *last = (uint64_t)value;
    return value < 0 ? SQLITE_CORRUPT : SQLITE_OK;
}

bool sp_journal_changed(struct sp_journal *journal)
{
    if (journal->broken) {
        return false;
    }
    sqlite3_stmt *st = journal->prepared[ST_VERSION];
    int64_t version =
        sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : journal->version;
    (void)sqlite3_reset(st);
    if (version == journal->version) {
        return false;
    }
    journal->version = version;
    int rc = sp_journal_take_stock(journal);
    rc = rc == SQLITE_OK ? sp_journal_read_last(journal, &journal->last) : rc;
    if (rc != SQLITE_OK) {
        (void)sp_journal_failed(journal, rc);
    }
    return rc == SQLITE_OK;
}

const char *sp_journal_epoch(const struct sp_journal *journal)
{
    return journal->epoch;
}

struct sp_journal_stats sp_journal_stats(const struct sp_journal *journal)
{
    return journal->stats;
}

uint64_t sp_journal_last(const struct sp_journal *journal)
{
    return journal->last;
}

bool sp_journal_broken(const struct sp_journal *journal)
{
    return journal->broken;
}

const char *sp_journal_error(const struct sp_journal *journal)
{
    return journal->error[0] != '\0' ? journal->error : "cannot be used";
}

enum sp_err sp_journal_failed(struct sp_journal *journal, int result)
{
    (void)snprintf(journal->error, sizeof(journal->error), "%s",
                   sp_statement_words(journal->db, result));
    journal->broken = true;
    return sp_statement_err(result);
}

struct sp_sessions *sp_journal_sessions(const struct sp_journal *journal)
{
    return journal->sessions;
}

/* ---- commit ---- */

static int bind_mark(sqlite3_stmt *st, const struct sp_row *row, int64_t epoch)
{
    int rc = sp_statement_text(st, 1, row->device);
    rc = rc == SQLITE_OK ? sp_statement_text(st, 2, row->group) : rc;
    return rc == SQLITE_OK ? sqlite3_bind_int64(st, 3, epoch) : rc;
}

/* With the first record of an epoch, marks that nobody can need any more go. */
static int move_mark(struct sp_journal *j, const struct sp_row *row)
{
    sqlite3_stmt *mark = j->prepared[ST_MARK];
    int rc = bind_mark(mark, row, row->epoch);
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(mark, 4, (int64_t)row->counter) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(mark, 5, (int64_t)j->first) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(mark, 6, (int64_t)j->last) : rc;
    rc = rc == SQLITE_OK ? run(j, ST_MARK) : rc;
    if (rc == SQLITE_OK && row->epoch > EPOCHS_KEPT && row->counter == 1) {
        rc = bind_mark(j->prepared[ST_UNMARK], row, (int64_t)row->epoch - EPOCHS_KEPT);
        rc = rc == SQLITE_OK ? run(j, ST_UNMARK) : rc;
    }
    return rc;
}

static int bury(struct sp_journal *j, const struct sp_row *row)
{
    sqlite3_stmt *st = j->prepared[ST_BURY];
    const int64_t numbers[] = {(int64_t)row->seq, row->stream, (int64_t)row->time_ms, row->expiry_s,
                               row->qos,          row->format, row->protection,       row->flags};
    int rc = SQLITE_OK;
    for (int i = 0; i < 8 && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_int64(st, i + 1, numbers[i]);
    }
    rc = rc == SQLITE_OK ? sp_statement_text(st, 9, row->device) : rc;
    rc = rc == SQLITE_OK ? sp_statement_text(st, 10, row->topic) : rc;
    rc = rc == SQLITE_OK ? sp_statement_text(st, 11, row->origin) : rc;
    rc = rc == SQLITE_OK ? sp_statement_blob(st, 12, row->payload) : rc;
    rc = rc == SQLITE_OK ? sp_statement_text(st, 13, sp_view_str(row->reason)) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 14, (int64_t)row->end_ms) : rc;
    return rc == SQLITE_OK ? run(j, ST_BURY) : rc;
}

/* A message gets its sequence. One that was refused never is among the messages. */
static int insert(struct sp_journal *j, struct sp_row *row)
{
    int rc = row->counter != 0 ? move_mark(j, row) : SQLITE_OK;
    if (rc != SQLITE_OK || (row->flags & SP_RECORD_MARK) != 0) {
        return rc;
    }
    row->seq = ++j->given;
    return (row->flags & SP_RECORD_REFUSED) != 0 ? bury(j, row)
                                                 : sp_messages_append(j->messages, row);
}

static int append_packet(struct sp_journal *j, struct sp_row *row)
{
    if ((row->flags & SP_RECORD_RELEASE) != 0) {
        return sp_packets_release(&j->packets, row);
    }
    bool repeat = false;
    int rc = sp_packets_is_repeat(&j->packets, row, &repeat);
    if (rc != SQLITE_OK || repeat) {
        return rc;
    }
    rc = insert(j, row);
    return rc == SQLITE_OK ? sp_packets_receive(&j->packets, row) : rc;
}

struct leaving {
    struct sp_journal *journal;
    struct sp_journal_stats *stats;
};

static int let_go(void *arg, const struct sp_row *row)
{
    const struct leaving *l = arg;
    struct sp_journal *j = l->journal;
    int rc = SQLITE_OK;
    l->stats->messages--;
    l->stats->bytes -= sp_row_cost(row);
    if (row->end == SP_ROW_DEAD) {
        rc = bury(j, row);
        l->stats->dead_letters++;
        l->stats->dead_bytes += sp_row_cost(row);
    }
    return rc;
}

/* It is among the dead letters when this commit is; the device's oldest may have to go. */
static int count_refused(struct sp_journal *j, struct sp_row *row, struct sp_journal_stats *s)
{
    sqlite3_stmt *forget = j->prepared[ST_FORGET];
    int rc = sp_statement_text(forget, 1, row->device);
    rc = rc == SQLITE_OK ? sqlite3_step(forget) : rc;
    s->dead_letters++;
    s->dead_bytes += sp_row_cost(row);
    if (rc == SQLITE_ROW) { /* the device had as many as are kept */
        s->dead_letters--;
        s->dead_bytes -= (uint64_t)sqlite3_column_int64(forget, 0);
        rc = SQLITE_DONE;
    }
    int reset = sqlite3_reset(forget);
    row->seq = 0;
    return rc == SQLITE_DONE ? reset : rc;
}

static int append_row(struct sp_journal *j, struct sp_row *row, struct sp_journal_stats *s)
{
    int rc = row->packet_id != 0 ? append_packet(j, row) : insert(j, row);
    if (rc != SQLITE_OK || row->seq == 0) {
        return rc;
    }
    if ((row->flags & SP_RECORD_REFUSED) != 0) {
        return count_refused(j, row, s);
    }
    s->messages++;
    s->bytes += sp_row_cost(row);
    return SQLITE_OK;
}

static int append_all(struct sp_journal *j, struct sp_row_list *append, struct sp_journal_stats *s)
{
    uint64_t before = 0;
    int rc = sp_journal_read_last(j, &before); /* an operator may have given some */
    j->first = 0;
    j->given = before;
    for (const struct sp_row *row = append->head; row != NULL && j->first == 0; row = row->next) {
        j->first = (row->flags & (SP_RECORD_MARK | SP_RECORD_RELEASE)) == 0 ? j->last + 1 : 0;
    }
    sp_messages_begin(j->messages);
    for (struct sp_row *row = append->head; row != NULL && rc == SQLITE_OK; row = row->next) {
        rc = append_row(j, row, s);
    }
    rc = rc == SQLITE_OK ? sp_messages_flush(j->messages) : rc;
    if (rc == SQLITE_OK && j->given > before) {
        rc = sqlite3_bind_int64(j->prepared[ST_GIVEN], 1, (int64_t)j->given);
        rc = rc == SQLITE_OK ? run(j, ST_GIVEN) : rc;
    }
    return rc;
}

static int write_all(struct sp_journal *j, struct sp_row_list *append,
                     const struct sp_row_list *ended, struct sp_journal_stats *s)
{
    struct leaving leaving = {.journal = j, .stats = s};
    int rc = run(j, ST_BEGIN);
    rc = rc == SQLITE_OK ? append_all(j, append, s) : rc;
    rc = rc == SQLITE_OK ? sp_messages_let_go(j->messages, ended, let_go, &leaving) : rc;
    rc = rc == SQLITE_OK ? sp_sessions_write(j->sessions) : rc;
    return rc == SQLITE_OK ? run(j, ST_COMMIT) : rc;
}

enum sp_err sp_journal_commit(struct sp_journal *journal, struct sp_row_list *append,
                              const struct sp_row_list *ended)
{
    struct sp_journal_stats stats = journal->stats;
    int rc = journal->broken ? SQLITE_IOERR : write_all(journal, append, ended, &stats);
    sp_sessions_written(journal->sessions, rc == SQLITE_OK);
    if (rc == SQLITE_OK) {
        journal->stats = stats;
        journal->last = journal->given;
        return SP_OK;
    }
    if (!journal->broken) {
        (void)sp_journal_failed(journal, rc);
        (void)run(journal, ST_ROLLBACK);
    }
    for (struct sp_row *row = append->head; row != NULL; row = row->next) {
        row->seq = 0;
    }
    return SP_ERR_IO;
}
