/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/registry_internal.h"

#include <sqlite3.h>
#include <string.h>

static enum sp_err error_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_BUSY:
    case SQLITE_LOCKED:
        return SP_ERR_AGAIN;
    case SQLITE_CONSTRAINT:
        return SP_ERR_EXISTS;
    case SQLITE_NOMEM:
        return SP_ERR_NOMEM;
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return SP_ERR_MALFORMED;
    case SQLITE_READONLY:
    case SQLITE_PERM:
    case SQLITE_AUTH:
        return SP_ERR_DENIED;
    default:
        return SP_ERR_IO;
    }
}

enum sp_err sp_registry_sql_error(struct sp_registry *reg, int rc)
{
    enum sp_err err = error_of(rc);
    if (err == SP_ERR_AGAIN) {
        sp_fault_set(&reg->fault, "another program is writing to the registry; try again");
    } else {
        sp_fault_set(&reg->fault, "registry: %s", sqlite3_errmsg(reg->db));
    }
    return err;
}

static void query_fail(struct sp_query *q, int rc)
{
    if (q->err == SP_OK && rc != SQLITE_OK) {
        q->err = sp_registry_sql_error(q->reg, rc);
    }
}

void sp_query_start(struct sp_query *q, struct sp_registry *reg, const char *sql)
{
    *q = (struct sp_query){.reg = reg};
    query_fail(q, sqlite3_prepare_v2(reg->db, sql, -1, &q->stmt, NULL));
}

void sp_query_put_int(struct sp_query *q, int64_t value)
{
    if (q->err == SP_OK) {
        query_fail(q, sqlite3_bind_int64(q->stmt, ++q->bound, value));
    }
}

void sp_query_put_text(struct sp_query *q, const char *text)
{
    if (q->err == SP_OK) {
        query_fail(q, sqlite3_bind_text(q->stmt, ++q->bound, text, -1, SQLITE_TRANSIENT));
    }
}

void sp_query_put_blob(struct sp_query *q, struct sp_view bytes)
{
    if (q->err == SP_OK) {
        const void *at = bytes.len == 0 ? "" : (const void *)bytes.ptr;
        query_fail(q, sqlite3_bind_blob64(q->stmt, ++q->bound, at, bytes.len, SQLITE_TRANSIENT));
    }
}

/* True while there is a row to look at. */
bool sp_query_row(struct sp_query *q)
{
    if (q->err != SP_OK) {
        return false;
    }
    int rc = sqlite3_step(q->stmt);
    if (rc == SQLITE_ROW) {
        return true;
    }
    query_fail(q, rc == SQLITE_DONE ? SQLITE_OK : rc);
    return false;
}

enum sp_err sp_query_end(struct sp_query *q)
{
    (void)sqlite3_finalize(q->stmt);
    q->stmt = NULL;
    return q->err;
}

/* Run a statement that gives no rows. */
enum sp_err sp_query_run(struct sp_query *q)
{
    while (sp_query_row(q)) {
    }
    return sp_query_end(q);
}

void sp_query_damaged(struct sp_query *q)
{
    if (q->err == SP_OK) {
        sp_fault_set(&q->reg->fault, "the registry is damaged: a row holds an impossible value");
        q->err = SP_ERR_MALFORMED;
    }
}

int64_t sp_query_int(struct sp_query *q, int column)
{
    return sqlite3_column_int64(q->stmt, column);
}

struct sp_view sp_query_blob(struct sp_query *q, int column)
{
    const void *at = sqlite3_column_blob(q->stmt, column);
    return sp_view(at, at == NULL ? 0 : (size_t)sqlite3_column_bytes(q->stmt, column));
}

void sp_query_text(struct sp_query *q, int column, char *out, size_t cap)
{
    struct sp_view text = sp_query_blob(q, column);
    bool fits = text.len < cap && (text.len == 0 || memchr(text.ptr, '\0', text.len) == NULL);
    if (!fits) {
        sp_query_damaged(q);
        text.len = 0;
    }
    sp_copy(out, text.ptr, text.len);
    out[text.len] = '\0';
}

size_t sp_query_bytes(struct sp_query *q, int column, uint8_t *out, size_t cap)
{
    struct sp_view bytes = sp_query_blob(q, column);
    if (bytes.len > cap) {
        sp_query_damaged(q);
        return 0;
    }
    sp_copy(out, bytes.ptr, bytes.len);
    return bytes.len;
}

enum sp_err sp_registry_run(struct sp_registry *reg, const char *sql)
{
    int rc = sqlite3_exec(reg->db, sql, NULL, NULL, NULL);
    return rc == SQLITE_OK ? SP_OK : sp_registry_sql_error(reg, rc);
}

enum sp_err sp_registry_run_text(struct sp_registry *reg, const char *sql, const char *text)
{
    struct sp_query q;
    sp_query_start(&q, reg, sql);
    sp_query_put_text(&q, text);
    return sp_query_run(&q);
}

/* What a tool commits is only as durable as what lies before it in the log. */
static enum sp_err begin(struct sp_registry *reg, const char *how)
{
    SP_TRY(sp_registry_run(reg, how));
    bool writes = strcmp(how, "BEGIN") != 0;
    enum sp_err err = writes && reg->durable ? sp_registry_wal_renew(reg) : SP_OK;
    if (err != SP_OK) {
        (void)sqlite3_exec(reg->db, "ROLLBACK", NULL, NULL, NULL);
    }
    return err;
}

enum sp_err sp_registry_transaction_begin(struct sp_registry *reg, const char *how)
{
    if (reg->depth == 0) {
        SP_TRY(begin(reg, how));
        reg->spoilt = false;
    }
    reg->depth++;
    return SP_OK;
}

enum sp_err sp_registry_transaction_end(struct sp_registry *reg, enum sp_err err)
{
    reg->spoilt |= err != SP_OK;
    reg->depth--;
    if (reg->depth > 0) {
        return err;
    }
    if (!reg->spoilt) {
        err = sp_registry_run(reg, "COMMIT");
    }
    if (reg->spoilt || err != SP_OK) {
        (void)sqlite3_exec(reg->db, "ROLLBACK", NULL, NULL, NULL);
    } else {
        sp_registry_wal_tidy(reg);
    }
    return reg->spoilt && err == SP_OK ? SP_ERR_STATE : err;
}

enum sp_err sp_registry_refuse(struct sp_registry *reg, enum sp_err err, const char *why)
{
    sp_fault_set(&reg->fault, "%s", why);
    return err;
}

enum sp_err sp_registry_number_read(struct sp_registry *reg, const char *name, uint64_t *out)
{
    struct sp_query q;
    sp_query_start(&q, reg, "SELECT value FROM meta WHERE name = ?");
    sp_query_put_text(&q, name);
    if (sp_query_row(&q)) {
        *out = (uint64_t)sp_query_int(&q, 0);
    } else {
        sp_query_damaged(&q);
    }
    return sp_query_end(&q);
}

enum sp_err sp_registry_number_next(struct sp_registry *reg, const char *name, uint64_t *out)
{
    SP_TRY(sp_registry_run_text(reg, "UPDATE meta SET value = value + 1 WHERE name = ?", name));
    return sp_registry_number_read(reg, name, out);
}

enum sp_err sp_registry_number_write(struct sp_registry *reg, const char *name, uint64_t value)
{
    struct sp_query q;
    sp_query_start(&q, reg, "UPDATE meta SET value = ? WHERE name = ?");
    sp_query_put_int(&q, (int64_t)value);
    sp_query_put_text(&q, name);
    return sp_query_run(&q);
}
