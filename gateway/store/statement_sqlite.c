/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/statement_internal.h"

#include <sqlite3.h>

int sp_statements_prepare(struct sqlite3 *db, const char *const *sql, size_t count,
                          struct sqlite3_stmt **out)
{
    int rc = SQLITE_OK;
    for (size_t i = 0; i < count && rc == SQLITE_OK; i++) {
        rc = sqlite3_prepare_v3(db, sql[i], -1, SQLITE_PREPARE_PERSISTENT, &out[i], NULL);
    }
    return rc;
}

void sp_statements_finalize(struct sqlite3_stmt **statements, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        (void)sqlite3_finalize(statements[i]);
        statements[i] = NULL;
    }
}

int sp_statement_text(struct sqlite3_stmt *st, int index, struct sp_view text)
{
    const char *ptr = text.len == 0 ? "" : (const char *)text.ptr;
    return sqlite3_bind_text64(st, index, ptr, text.len, SQLITE_STATIC, SQLITE_UTF8);
}

int sp_statement_blob(struct sqlite3_stmt *st, int index, struct sp_view bytes)
{
    const void *ptr = bytes.len == 0 ? "" : (const void *)bytes.ptr;
    return sqlite3_bind_blob64(st, index, ptr, bytes.len, SQLITE_STATIC);
}

struct sp_view sp_statement_column(struct sqlite3_stmt *st, int index)
{
    const void *ptr = sqlite3_column_blob(st, index);
    return sp_view(ptr, ptr != NULL ? (size_t)sqlite3_column_bytes(st, index) : 0);
}

int sp_statement_run(struct sqlite3_stmt *st)
{
    int rc = sqlite3_step(st);
    int reset = sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? reset : rc;
}

int64_t sp_statement_number(struct sqlite3 *db, const char *sql, int *rc)
{
    sqlite3_stmt *st = NULL;
    int64_t value = 0;
    *rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (*rc == SQLITE_OK) {
        *rc = sqlite3_step(st);
        if (*rc == SQLITE_ROW) {
            value = sqlite3_column_int64(st, 0);
            *rc = SQLITE_OK;
        } else if (*rc == SQLITE_DONE) {
            *rc = SQLITE_OK;
        }
    }
    (void)sqlite3_finalize(st);
    return value;
}

enum sp_err sp_statement_err(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return SP_ERR_MALFORMED;
    case SQLITE_NOMEM:
        return SP_ERR_NOMEM;
    default:
        return SP_ERR_IO;
    }
}

const char *sp_statement_words(struct sqlite3 *db, int rc)
{
    int code = db == NULL ? SQLITE_OK : sqlite3_errcode(db);
    bool told = code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE;
    return told ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
}
