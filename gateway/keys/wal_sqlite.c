/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * What a failed sync covered can still be read, until a power cut takes it and all that was built on it; Linux calls it
 * clean meanwhile. Whoever saw the failure may be dead. So before a tool promises anything, and before anybody carries
 * the log into the database, the log is written anew and synced, under the lock of writers.
 */
#include "gateway/keys/registry_internal.h"

#include <sqlite3.h>
#include <string.h>

#define TIDY_FRAMES 1000 /* as SQLite would by itself */

/* SQLite's own handle: the file may be opened no more in the sandbox. It has no methods where there is no log. */
static enum sp_err find_log(struct sp_registry *reg, sqlite3_file **out)
{
    *out = NULL;
    int rc = sqlite3_file_control(reg->db, "main", SQLITE_FCNTL_JOURNAL_POINTER, (void *)out);
    if (*out != NULL && (*out)->pMethods == NULL) {
        *out = NULL;
    }
    return rc == SQLITE_OK ? SP_OK : sp_registry_sql_error(reg, rc);
}

static int write_anew(sqlite3_file *log)
{
    uint8_t chunk[16384];
    sqlite3_int64 size = 0;
    int rc = log->pMethods->xFileSize(log, &size);
    for (sqlite3_int64 at = 0; rc == SQLITE_OK && at < size;) {
        sqlite3_int64 left = size - at;
        int len = left < (sqlite3_int64)sizeof(chunk) ? (int)left : (int)sizeof(chunk);
        rc = log->pMethods->xRead(log, chunk, len, at);
        if (rc == SQLITE_OK) {
            rc = log->pMethods->xWrite(log, chunk, len, at);
        }
        at += len;
    }
    return rc == SQLITE_OK ? log->pMethods->xSync(log, SQLITE_SYNC_NORMAL) : rc;
}

enum sp_err sp_registry_wal_renew(struct sp_registry *reg)
{
    sqlite3_file *log = NULL;
    SP_TRY(find_log(reg, &log));
    int rc = log == NULL ? SQLITE_OK : write_anew(log);
    reg->sound = rc == SQLITE_OK;
    if (!reg->sound) {
        sp_fault_set(&reg->fault, "registry: its log cannot be synced");
        return SP_ERR_IO;
    }
    return SP_OK;
}

/* In place of SQLite's own, which would carry over what a failed sync covered. */
static int log_grew(void *arg, sqlite3 *db, const char *name, int frames)
{
    struct sp_registry *reg = arg;
    (void)db;
    (void)name;
    reg->log_frames = frames;
    return SQLITE_OK;
}

void sp_registry_wal_watch(struct sp_registry *reg)
{
    (void)sqlite3_wal_hook(reg->db, log_grew, reg);
}

static enum sp_err renew_locked(struct sp_registry *reg)
{
    SP_TRY(sp_registry_run(reg, "BEGIN IMMEDIATE"));
    enum sp_err err = sp_registry_wal_renew(reg);
    enum sp_err end = sp_registry_run(reg, "ROLLBACK");
    return err == SP_OK ? end : err;
}

/* What cannot be done now is tried again after the next commit: the sentence for the user stays as it is. */
void sp_registry_wal_tidy(struct sp_registry *reg)
{
    struct sp_fault fault = reg->fault;
    bool grown = reg->log_frames >= TIDY_FRAMES;
    reg->log_frames = 0;
    if (grown && renew_locked(reg) == SP_OK) {
        (void)sqlite3_wal_checkpoint_v2(reg->db, "main", SQLITE_CHECKPOINT_PASSIVE, NULL, NULL);
    }
    reg->fault = fault;
}

static bool empty(struct sp_registry *reg)
{
    sqlite3_file *log = NULL;
    sqlite3_int64 size = 0;
    return find_log(reg, &log) == SP_OK &&
           (log == NULL || (log->pMethods->xFileSize(log, &size) == SQLITE_OK && size == 0));
}

/* The last one to close a database carries the log over and deletes it. A tool that has only read leaves what it found. */
void sp_registry_wal_leave(struct sp_registry *reg)
{
    bool sound = empty(reg) || (reg->durable ? reg->sound : renew_locked(reg) == SP_OK);
    (void)sqlite3_db_config(reg->db, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, sound ? 0 : 1, NULL);
}
