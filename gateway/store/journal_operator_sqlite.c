/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What `sallyport journal` asks: on a connection of its own, beside a store that may be running. */
#include "gateway/store/journal_internal.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#include "gateway/store/statement_internal.h"

static int visit_dead(sqlite3 *db, sp_journal_visit_fn fn, void *arg)
{
    static const char sql[] = "SELECT seq,time_ms,device,topic,payload,dead_ms,reason,origin"
                              " FROM dead_letters ORDER BY seq";
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
    }
    while (rc == SQLITE_ROW) {
        const struct sp_journal_entry entry = {
            .seq = (uint64_t)sqlite3_column_int64(st, 0),
            .time_ms = (uint64_t)sqlite3_column_int64(st, 1),
            .device = sp_statement_column(st, 2),
            .topic = sp_statement_column(st, 3),
            .payload = sp_statement_column(st, 4),
            .dead_ms = (uint64_t)sqlite3_column_int64(st, 5),
            .reason = sp_statement_column(st, 6),
            .origin = sp_statement_column(st, 7),
        };
        fn(arg, &entry);
        rc = sqlite3_step(st);
    }
    (void)sqlite3_finalize(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int visit_messages(sqlite3 *db, sp_journal_visit_fn fn, void *arg)
{
    struct sp_messages *messages = sp_messages_create();
    struct sp_messages_walk walk;
    struct sp_stored m = {.seq = 0};
    int rc = messages == NULL ? SQLITE_NOMEM : sp_messages_connect(messages, db);
    rc = rc == SQLITE_OK ? sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) : rc;
    if (rc == SQLITE_OK) {
        rc = sp_messages_walk(messages, 0, &walk);
        rc = rc == SQLITE_OK ? sp_messages_next(&walk, &m) : rc;
        for (; rc == SQLITE_ROW; rc = sp_messages_next(&walk, &m)) {
            const struct sp_journal_entry entry = {
                .seq = m.seq,
                .time_ms = m.time_ms,
                .device = m.device,
                .topic = m.topic,
                .origin = m.origin,
                .payload = m.payload,
            };
            fn(arg, &entry);
        }
        sp_messages_end(&walk);
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    sp_messages_destroy(messages);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Beside a store that may be running. */
static enum sp_err open_beside(const char *state_dir, int how, sqlite3 **db, char *why,
                               size_t why_cap)
{
    char path[4096];
    int len = snprintf(path, sizeof(path), "%s/" SP_JOURNAL_FILE, state_dir);
    if (len < 0 || (size_t)len >= sizeof(path) || access(path, F_OK) != 0) {
        (void)snprintf(why, why_cap, "no journal in %s", state_dir);
        return SP_ERR_NOT_FOUND;
    }
    int rc = sqlite3_open_v2(path, db, how | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        (void)snprintf(why, why_cap, "%s: %s", path, sqlite3_errstr(rc));
        (void)sqlite3_close(*db);
        return sp_statement_err(rc);
    }
    (void)sqlite3_busy_timeout(*db, 5000);
    return SP_OK;
}

static enum sp_err close_beside(sqlite3 *db, int rc, char *why, size_t why_cap)
{
    if (rc != SQLITE_OK) {
        (void)snprintf(why, why_cap, "%s: %s", SP_JOURNAL_FILE, sp_statement_words(db, rc));
    }
    (void)sqlite3_close(db);
    return rc == SQLITE_OK ? SP_OK : sp_statement_err(rc);
}

enum sp_err sp_journal_visit(const char *state_dir, bool dead_letters, sp_journal_visit_fn fn,
                             void *arg, char *why, size_t why_cap)
{
    sqlite3 *db = NULL;
    SP_TRY(open_beside(state_dir, SQLITE_OPEN_READONLY, &db, why, why_cap));
    int rc = dead_letters ? visit_dead(db, fn, arg) : visit_messages(db, fn, arg);
    return close_beside(db, rc, why, why_cap);
}

static int requeue(sqlite3 *db, uint64_t seq, uint64_t *count)
{
    char sql[512];
    const char *which = seq == 0 ? "seq>" : "seq=";
    (void)snprintf(sql, sizeof(sql),
                   "BEGIN IMMEDIATE;INSERT INTO messages(stream,time_ms,expiry_s,qos,format,"
                   "protection,flags,device,topic,origin,payload) SELECT stream,time_ms,expiry_s,"
                   "qos,format,protection,flags,device,topic,origin,payload FROM dead_letters"
                   " WHERE NOT " SP_JOURNAL_IS_REFUSED " AND %s%" PRIu64 " ORDER BY seq;"
                   "DELETE FROM dead_letters WHERE NOT " SP_JOURNAL_IS_REFUSED " AND %s%" PRIu64,
                   which, seq, which, seq);
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    *count = rc == SQLITE_OK ? (uint64_t)sqlite3_changes(db) : 0;
    return rc == SQLITE_OK ? sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) : rc;
}

enum sp_err sp_journal_requeue(const char *state_dir, uint64_t seq, uint64_t *count, char *why,
                               size_t why_cap)
{
    sqlite3 *db = NULL;
    SP_TRY(open_beside(state_dir, SQLITE_OPEN_READWRITE, &db, why, why_cap));
    int rc = sqlite3_exec(db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
    rc = rc == SQLITE_OK ? requeue(db, seq, count) : rc;
    return close_beside(db, rc, why, why_cap);
}
