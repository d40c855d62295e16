/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/journal_internal.h"

#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>

#include "gateway/store/statement_internal.h"

#define APPLICATION_ID 0x53504a31 /* "SPJ1" */
#define SCHEMA_VERSION 3

/* clang-format off */
static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE messages(seq INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL,"
    " time_ms INTEGER NOT NULL, expiry_s INTEGER NOT NULL, qos INTEGER NOT NULL,"
    " format INTEGER NOT NULL, protection INTEGER NOT NULL, flags INTEGER NOT NULL,"
    " device TEXT NOT NULL, topic TEXT NOT NULL, origin TEXT NOT NULL, payload BLOB NOT NULL);"
    "CREATE TABLE dead_letters(seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL,"
    " time_ms INTEGER NOT NULL, expiry_s INTEGER NOT NULL, qos INTEGER NOT NULL,"
    " format INTEGER NOT NULL, protection INTEGER NOT NULL, flags INTEGER NOT NULL,"
    " device TEXT NOT NULL, topic TEXT NOT NULL, origin TEXT NOT NULL, payload BLOB NOT NULL,"
    " reason TEXT NOT NULL, dead_ms INTEGER NOT NULL);";

/* Came with version 0.2; a journal without it is still version 1, an older program leaves it alone. */
static const char more_schema[] =
    "CREATE TABLE IF NOT EXISTS received(device TEXT NOT NULL, packet_id INTEGER NOT NULL,"
    " seq INTEGER NOT NULL, digest INTEGER NOT NULL, PRIMARY KEY(device, packet_id)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS refused ON dead_letters(device, seq)"
    " WHERE " SP_JOURNAL_IS_REFUSED ";";

/* What a version adds to the one before. */
static const char upgrade_2[] =
    "ALTER TABLE messages ADD COLUMN counter INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE marks(device TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " counter INTEGER NOT NULL, before INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(device, name, epoch)) WITHOUT ROWID;"
    "PRAGMA user_version=2;";
static const char upgrade_3[] =
    "CREATE TABLE batches(first INTEGER PRIMARY KEY, count INTEGER NOT NULL, data BLOB NOT NULL);"
    "CREATE TABLE gone(first INTEGER PRIMARY KEY, bits BLOB NOT NULL);"
    "INSERT INTO sqlite_sequence(name,seq) SELECT 'messages',0"
    " WHERE NOT EXISTS(SELECT 1 FROM sqlite_sequence WHERE name='messages');"
    "PRAGMA user_version=3;";
/* clang-format on */

static int make_schema(struct sp_journal *j)
{
    uint32_t random;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return SQLITE_IOERR;
    }
    char sql[sizeof(schema) + sizeof(upgrade_2) + sizeof(upgrade_3) + 320];
    (void)snprintf(sql, sizeof(sql),
                   "BEGIN IMMEDIATE;%s"
                   "INSERT INTO meta VALUES('epoch','%08" PRIx32 "%08" PRIx32 "');"
                   "PRAGMA application_id=%d;%s%sCOMMIT;",
                   schema, (uint32_t)time(NULL), random, APPLICATION_ID, upgrade_2, upgrade_3);
    return sqlite3_exec(j->db, sql, NULL, NULL, NULL);
}

static int read_epoch(struct sp_journal *j)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(j->db, "SELECT value FROM meta WHERE key='epoch'", -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        bool sound = rc == SQLITE_ROW && sqlite3_column_bytes(st, 0) == (int)SP_JOURNAL_EPOCH_LEN;
        if (sound) {
            memcpy(j->epoch, sqlite3_column_text(st, 0), SP_JOURNAL_EPOCH_LEN);
        }
        rc = sound ? SQLITE_OK : rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
    }
    (void)sqlite3_finalize(st);
    return rc;
}

/* Ours, and of a version that we know: looked at before anything is written, so that what is refused stays as it is. */
static enum sp_err check_origin(struct sp_journal *j, int64_t *version)
{
    int rc;
    int64_t id = sp_statement_number(j->db, "PRAGMA application_id", &rc);
    *version = rc == SQLITE_OK ? sp_statement_number(j->db, "PRAGMA user_version", &rc) : 0;
    if (rc != SQLITE_OK) {
        return sp_journal_failed(j, rc);
    }
    if (id != APPLICATION_ID) {
        (void)snprintf(j->error, sizeof(j->error), "it is a database, but no journal of ours");
        return SP_ERR_MALFORMED;
    }
    if (*version < 1 || *version > SCHEMA_VERSION) {
        (void)snprintf(j->error, sizeof(j->error), "it has version %lld, this program knows %d",
                       (long long)*version, SCHEMA_VERSION);
        return SP_ERR_UNSUPPORTED;
    }
    rc = read_epoch(j);
    return rc == SQLITE_OK ? SP_OK : sp_journal_failed(j, rc);
}

int sp_journal_use_log(struct sp_journal *j)
{
    return sqlite3_exec(j->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
}

enum sp_err sp_journal_check_schema(struct sp_journal *j)
{
    int rc;
    int64_t version = SCHEMA_VERSION;
    bool empty = sp_statement_number(j->db, "SELECT count(*) FROM sqlite_master", &rc) == 0;
    if (rc != SQLITE_OK) {
        return sp_journal_failed(j, rc);
    }
    if (!empty) {
        SP_TRY(check_origin(j, &version));
    }
    rc = sp_journal_use_log(j);
    if (rc == SQLITE_OK && empty) {
        rc = make_schema(j);
        rc = rc == SQLITE_OK ? read_epoch(j) : rc;
    }
    if (rc == SQLITE_OK && version < SCHEMA_VERSION) {
        char sql[sizeof(upgrade_2) + sizeof(upgrade_3) + 32];
        (void)snprintf(sql, sizeof(sql), "BEGIN IMMEDIATE;%s%sCOMMIT;",
                       version < 2 ? upgrade_2 : "", upgrade_3);
        rc = sqlite3_exec(j->db, sql, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(j->db, more_schema, NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? SP_OK : sp_journal_failed(j, rc);
}
