/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/statement_internal.h"

#include <sqlite3.h>

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
