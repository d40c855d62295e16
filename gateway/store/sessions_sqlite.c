/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/sessions_internal.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/store/statement_internal.h"

/* clang-format off */
static const char schema[] =
    "CREATE TABLE IF NOT EXISTS sessions(device TEXT PRIMARY KEY, role TEXT NOT NULL,"
    " version INTEGER NOT NULL, expiry_s INTEGER NOT NULL, left_ms INTEGER NOT NULL,"
    " sent INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS subscriptions(device TEXT NOT NULL, filter TEXT NOT NULL,"
    " qos INTEGER NOT NULL, options INTEGER NOT NULL, identifier INTEGER NOT NULL,"
    " PRIMARY KEY(device, filter)) WITHOUT ROWID;"
    "CREATE TABLE IF NOT EXISTS deliveries(device TEXT NOT NULL, number INTEGER NOT NULL,"
    " expires_ms INTEGER NOT NULL, packet BLOB NOT NULL, PRIMARY KEY(device, number));";

enum statement {
    ST_CHANGE, ST_INSERT, ST_DELETE, ST_SUBSCRIBE, ST_UNSUBSCRIBE, ST_UNSUBSCRIBE_ALL,
    ST_QUEUE, ST_WEIGH, ST_SETTLE, ST_NEXT, ST_FILTERS, ST_MESSAGES, ST_COUNT
};

static const char *const statements[ST_COUNT] = {
    [ST_CHANGE] = "UPDATE sessions SET role=?2,version=?3,expiry_s=?4,left_ms=?5,sent=?6 WHERE device=?1",
    [ST_INSERT] = "INSERT INTO sessions(device,role,version,expiry_s,left_ms,sent)"
                  " VALUES(?1,?2,?3,?4,?5,?6)",
    [ST_DELETE] = "DELETE FROM sessions WHERE device=?1",
    [ST_SUBSCRIBE] = "INSERT OR REPLACE INTO subscriptions(device,filter,qos,options,identifier)"
                     " VALUES(?1,?2,?3,?4,?5)",
    [ST_UNSUBSCRIBE] = "DELETE FROM subscriptions WHERE device=?1 AND filter=?2",
    [ST_UNSUBSCRIBE_ALL] = "DELETE FROM subscriptions WHERE device=?1",
    /* A number never names another message. */
    [ST_QUEUE] = "INSERT OR IGNORE INTO deliveries(device,number,expires_ms,packet)"
                 " VALUES(?1,?2,?3,?4)",
    [ST_WEIGH] = "SELECT count(*),coalesce(sum(length(packet)),0) FROM deliveries"
                 " WHERE device=?1 AND number BETWEEN ?2 AND ?3",
    [ST_SETTLE] = "DELETE FROM deliveries WHERE device=?1 AND number BETWEEN ?2 AND ?3",
    [ST_NEXT] = "SELECT device,role,version,expiry_s,left_ms,sent FROM sessions WHERE device>?1"
                " ORDER BY device LIMIT 1",
    [ST_FILTERS] = "SELECT filter,qos,options,identifier FROM subscriptions WHERE device=?1",
    [ST_MESSAGES] = "SELECT number,expires_ms,packet FROM deliveries WHERE device=?1 AND number>?2"
                    " ORDER BY number",
};
/* clang-format on */

struct staged {
    struct staged *next;
    struct sp_kept change; /* its views point behind the struct */
    uint8_t data[];
};

struct sp_sessions {
    sqlite3 *db;
    sqlite3_stmt *prepared[ST_COUNT];
    struct sp_sessions_stats stats;  /* with what the open transaction has done */
    struct sp_sessions_stats before; /* what is committed */
    struct staged *first;
    struct staged **end;
    uint64_t staged_bytes; /* of messages */
};

static uint64_t weight(const struct sp_kept *change)
{
    return change->head.kind == SP_KEPT_QUEUE ? change->part.len + SP_SESSIONS_OVERHEAD : 0;
}

/* ---- life ---- */

struct sp_sessions *sp_sessions_create(void)
{
    struct sp_sessions *s = calloc(1, sizeof(*s));
    if (s != NULL) {
        s->end = &s->first;
    }
    return s;
}

static void drop_staged(struct sp_sessions *s)
{
    while (s->first != NULL) {
        struct staged *staged = s->first;
        s->first = staged->next;
        free(staged);
    }
    s->end = &s->first;
    s->staged_bytes = 0;
}

void sp_sessions_disconnect(struct sp_sessions *sessions)
{
    sp_statements_finalize(sessions->prepared, ST_COUNT);
    sessions->db = NULL;
}

void sp_sessions_destroy(struct sp_sessions *sessions)
{
    if (sessions != NULL) {
        sp_sessions_disconnect(sessions);
        drop_staged(sessions);
        free(sessions);
    }
}

static int run(struct sp_sessions *s, enum statement which)
{
    return sp_statement_run(s->prepared[which]);
}

static int take_stock(struct sp_sessions *s)
{
    static const char sql[] = "SELECT (SELECT count(*) FROM sessions),count(*),"
                              "coalesce(sum(length(packet)),0) FROM deliveries";
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(s->db, sql, -1, &st, NULL);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (rc == SQLITE_ROW) {
        s->stats.sessions = (uint64_t)sqlite3_column_int64(st, 0);
        s->stats.messages = (uint64_t)sqlite3_column_int64(st, 1);
        s->stats.bytes =
            (uint64_t)sqlite3_column_int64(st, 2) + s->stats.messages * SP_SESSIONS_OVERHEAD;
        s->before = s->stats;
        rc = SQLITE_OK;
    }
    (void)sqlite3_finalize(st);
    return rc;
}

int sp_sessions_connect(struct sp_sessions *sessions, struct sqlite3 *db)
{
    sessions->db = db;
    int rc = sqlite3_exec(db, schema, NULL, NULL, NULL);
    rc = rc == SQLITE_OK ? sp_statements_prepare(db, statements, ST_COUNT, sessions->prepared) : rc;
    return rc == SQLITE_OK ? take_stock(sessions) : rc;
}

int sp_sessions_tidy(struct sp_sessions *sessions)
{
    int rc = sqlite3_exec(
        sessions->db,
        "BEGIN IMMEDIATE;"
        "DELETE FROM deliveries WHERE device NOT IN (SELECT device FROM sessions);"
        "DELETE FROM subscriptions WHERE device NOT IN (SELECT device FROM sessions);COMMIT;",
        NULL, NULL, NULL);
    return rc == SQLITE_OK ? take_stock(sessions) : rc;
}

/* ---- changes ---- */

/* The device, and numbers from the second parameter or, with a text there, from the third on. */
static int bind(sqlite3_stmt *st, const struct sp_kept *k, const struct sp_view *text,
                const uint64_t *numbers, int count)
{
    int rc = sp_statement_text(st, 1, k->device);
    int next = 2;
    if (text != NULL) {
        rc = rc == SQLITE_OK ? sp_statement_text(st, next++, *text) : rc;
    }
    for (int i = 0; i < count && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_int64(st, next + i, (int64_t)numbers[i]);
    }
    return rc;
}

static int run_with(struct sp_sessions *s, enum statement which, const struct sp_kept *k,
                    const struct sp_view *text, const uint64_t *numbers, int count)
{
    int rc = bind(s->prepared[which], k, text, numbers, count);
    return rc == SQLITE_OK ? run(s, which) : rc;
}

static int settle(struct sp_sessions *s, const struct sp_kept *k, uint64_t first, uint64_t last)
{
    const uint64_t range[] = {first, last};
    sqlite3_stmt *st = s->prepared[ST_WEIGH];
    int rc = bind(st, k, NULL, range, 2);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (rc != SQLITE_ROW) {
        (void)sqlite3_reset(st);
        return rc;
    }
    uint64_t count = (uint64_t)sqlite3_column_int64(st, 0);
    uint64_t bytes = (uint64_t)sqlite3_column_int64(st, 1);
    rc = sqlite3_reset(st);
    if (rc != SQLITE_OK || count == 0) {
        return rc;
    }
    s->stats.messages -= count;
    s->stats.bytes -= bytes + count * SP_SESSIONS_OVERHEAD;
    return run_with(s, ST_SETTLE, k, NULL, range, 2);
}

static int put_session(struct sp_sessions *s, const struct sp_kept *k)
{
    int rc = SQLITE_OK;
    uint64_t sent = k->head.number;
    if ((k->head.options & SP_KEPT_NEW) != 0) {
        rc = run_with(s, ST_UNSUBSCRIBE_ALL, k, NULL, NULL, 0);
        rc = rc == SQLITE_OK && sent > 0 ? settle(s, k, 0, sent) : rc;
    }
    const uint64_t numbers[] = {k->head.version, k->head.expiry_s, k->head.time_ms, sent};
    rc = rc == SQLITE_OK ? run_with(s, ST_CHANGE, k, &k->part, numbers, 4) : rc;
    if (rc == SQLITE_OK && sqlite3_changes(s->db) == 0) {
        rc = run_with(s, ST_INSERT, k, &k->part, numbers, 4);
        s->stats.sessions++;
    }
    return rc;
}

static int queue(struct sp_sessions *s, const struct sp_kept *k)
{
    const uint64_t numbers[] = {k->head.number, k->head.time_ms};
    sqlite3_stmt *st = s->prepared[ST_QUEUE];
    int rc = bind(st, k, NULL, numbers, 2);
    rc = rc == SQLITE_OK ? sqlite3_bind_blob64(st, 4, k->part.ptr, k->part.len, SQLITE_STATIC) : rc;
    rc = rc == SQLITE_OK ? run(s, ST_QUEUE) : rc;
    if (rc == SQLITE_OK && sqlite3_changes(s->db) > 0) {
        s->stats.messages++;
        s->stats.bytes += weight(k);
    }
    return rc;
}

static int end(struct sp_sessions *s, const struct sp_kept *k)
{
    int rc = run_with(s, ST_DELETE, k, NULL, NULL, 0);
    s->stats.sessions -= rc == SQLITE_OK && sqlite3_changes(s->db) > 0;
    rc = rc == SQLITE_OK ? run_with(s, ST_UNSUBSCRIBE_ALL, k, NULL, NULL, 0) : rc;
    return rc == SQLITE_OK ? settle(s, k, 0, INT64_MAX) : rc;
}

static int apply(struct sp_sessions *s, const struct sp_kept *k)
{
    const uint64_t how[] = {k->head.qos, k->head.options, k->head.identifier};
    switch (k->head.kind) {
    case SP_KEPT_SESSION:
        return put_session(s, k);
    case SP_KEPT_SUBSCRIBE:
        return run_with(s, ST_SUBSCRIBE, k, &k->part, how, 3);
    case SP_KEPT_UNSUBSCRIBE:
        return k->part.len == 0 ? run_with(s, ST_UNSUBSCRIBE_ALL, k, NULL, NULL, 0)
                                : run_with(s, ST_UNSUBSCRIBE, k, &k->part, NULL, 0);
    case SP_KEPT_QUEUE:
        return queue(s, k);
    case SP_KEPT_SETTLED:
        return settle(s, k, k->head.number, k->head.last);
    default:
        return end(s, k);
    }
}

int sp_sessions_write(struct sp_sessions *sessions)
{
    int rc = SQLITE_OK;
    for (const struct staged *staged = sessions->first; staged != NULL && rc == SQLITE_OK;
         staged = staged->next) {
        rc = apply(sessions, &staged->change);
    }
    return rc;
}

void sp_sessions_written(struct sp_sessions *sessions, bool committed)
{
    if (committed) {
        sessions->before = sessions->stats;
    } else {
        sessions->stats = sessions->before;
    }
    drop_staged(sessions);
}

struct sp_sessions_stats sp_sessions_stats(const struct sp_journal *journal)
{
    const struct sp_sessions *s = sp_journal_sessions(journal);
    struct sp_sessions_stats stats = s->before;
    stats.bytes += s->staged_bytes;
    return stats;
}

bool sp_sessions_staged(const struct sp_journal *journal)
{
    return sp_journal_sessions(journal)->first != NULL;
}

static struct sp_view keep(uint8_t **at, struct sp_view bytes)
{
    sp_copy(*at, bytes.ptr, bytes.len);
    struct sp_view kept = sp_view(*at, bytes.len);
    *at += bytes.len;
    return kept;
}

enum sp_err sp_sessions_stage(struct sp_journal *journal, const struct sp_kept *change)
{
    struct sp_sessions *s = sp_journal_sessions(journal);
    if (sp_journal_broken(journal)) {
        return SP_ERR_IO;
    }
    struct staged *staged = malloc(sizeof(*staged) + change->device.len + change->part.len);
    if (staged == NULL) {
        return SP_ERR_NOMEM;
    }
    uint8_t *at = staged->data;
    staged->next = NULL;
    staged->change.head = change->head;
    staged->change.device = keep(&at, change->device);
    staged->change.part = keep(&at, change->part);
    *s->end = staged;
    s->end = &staged->next;
    s->staged_bytes += weight(change);
    return SP_OK;
}

/* ---- showing ---- */

struct showing {
    struct sp_sessions *s;
    struct sp_sessions_walk *walk;
    struct sp_view device;
    size_t left; /* bytes that may still be shown */
    sp_sessions_fn fn;
    void *arg;
    enum sp_err err; /* of fn */
};

static uint64_t number(sqlite3_stmt *st, int index)
{
    return (uint64_t)sqlite3_column_int64(st, index);
}

static void show(struct showing *w, const struct sp_kept *record)
{
    size_t size = sp_kept_size(record);
    w->err = w->fn(w->arg, record);
    w->left -= size < w->left ? size : w->left;
}

/* @return SQLITE_ROW: shown; SQLITE_DONE: there is none behind it. */
static int show_session(struct showing *w)
{
    sqlite3_stmt *st = w->s->prepared[ST_NEXT];
    int rc = sp_statement_text(st, 1, sp_view_str(w->walk->device));
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (rc == SQLITE_ROW) {
        struct sp_view device =
            sp_view_first(sp_statement_column(st, 0), sizeof(w->walk->device) - 1);
        const struct sp_kept record = {
            .head = {.kind = SP_KEPT_SESSION,
                     .version = number(st, 2),
                     .expiry_s = (uint32_t)number(st, 3),
                     .time_ms = number(st, 4),
                     .number = number(st, 5)},
            .device = device,
            .part = sp_statement_column(st, 1),
        };
        show(w, &record);
        memset(w->walk->device, 0, sizeof(w->walk->device));
        sp_copy(w->walk->device, device.ptr, device.len);
        w->walk->number = 0;
        w->walk->inside = true;
    }
    (void)sqlite3_reset(st);
    return rc;
}

static int show_filters(struct showing *w)
{
    sqlite3_stmt *st = w->s->prepared[ST_FILTERS];
    int rc = sp_statement_text(st, 1, w->device);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    while (rc == SQLITE_ROW && w->err == SP_OK) {
        const struct sp_kept record = {
            .head = {.kind = SP_KEPT_SUBSCRIBE,
                     .qos = (uint8_t)number(st, 1),
                     .options = (uint8_t)number(st, 2),
                     .identifier = (uint32_t)number(st, 3)},
            .device = w->device,
            .part = sp_statement_column(st, 0),
        };
        show(w, &record);
        rc = sqlite3_step(st);
    }
    (void)sqlite3_reset(st);
    return rc;
}

static int show_messages(struct showing *w)
{
    sqlite3_stmt *st = w->s->prepared[ST_MESSAGES];
    int rc = sp_statement_text(st, 1, w->device);
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 2, (int64_t)w->walk->number) : rc;
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    while (rc == SQLITE_ROW && w->err == SP_OK && w->left > 0) {
        const struct sp_kept record = {
            .head = {.kind = SP_KEPT_QUEUE, .number = number(st, 0), .time_ms = number(st, 1)},
            .device = w->device,
            .part = sp_statement_column(st, 2),
        };
        show(w, &record);
        w->walk->number = record.head.number;
        rc = sqlite3_step(st);
    }
    w->walk->inside = rc == SQLITE_ROW;
    (void)sqlite3_reset(st);
    return rc;
}

enum sp_err sp_sessions_walk(struct sp_journal *journal, struct sp_sessions_walk *walk,
                             size_t bytes, sp_sessions_fn fn, void *arg, bool *done)
{
    struct showing w = {
        .s = sp_journal_sessions(journal), .walk = walk, .left = bytes, .fn = fn, .arg = arg};
    int rc = SQLITE_ROW;
    *done = false;
    if (sp_journal_broken(journal)) {
        return SP_ERR_IO;
    }
    while (w.err == SP_OK && w.left > 0 && rc == SQLITE_ROW) {
        bool begins = !walk->inside;
        rc = begins ? show_session(&w) : SQLITE_ROW;
        if (rc != SQLITE_ROW) {
            break;
        }
        w.device = sp_view_str(walk->device);
        rc = begins && w.err == SP_OK ? show_filters(&w) : SQLITE_DONE;
        rc = rc == SQLITE_DONE ? show_messages(&w) : rc;
        rc = rc == SQLITE_DONE ? SQLITE_ROW : rc;
    }
    if (w.err != SP_OK) {
        return w.err;
    }
    *done = rc == SQLITE_DONE;
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? SP_OK : sp_journal_failed(journal, rc);
}
