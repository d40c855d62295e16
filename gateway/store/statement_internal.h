/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What every statement of the journal's file needs. Results are SQLite's. Private to the files *_sqlite.c of this folder. */
#ifndef SP_GATEWAY_STORE_STATEMENT_INTERNAL_H
#define SP_GATEWAY_STORE_STATEMENT_INTERNAL_H

#include "libs/base/bytes.h"

struct sqlite3;
struct sqlite3_stmt;

/** Prepare `count` statements for as long as the file is open. After an error some are: give them back all the same. */
int sp_statements_prepare(struct sqlite3 *db, const char *const *sql, size_t count,
                          struct sqlite3_stmt **out);

/** Give them back; those that are NULL too. All are NULL afterwards. */
void sp_statements_finalize(struct sqlite3_stmt **statements, size_t count);

/** Bind bytes, which stay the caller's until the statement has run; an empty view is an empty value, not NULL. */
int sp_statement_text(struct sqlite3_stmt *st, int index, struct sp_view text);
int sp_statement_blob(struct sqlite3_stmt *st, int index, struct sp_view bytes);

/** The bytes of a column, until the statement is stepped or reset; no bytes for NULL. */
struct sp_view sp_statement_column(struct sqlite3_stmt *st, int index);

/** Step once and reset. @return SQLITE_OK, or what failed. */
int sp_statement_run(struct sqlite3_stmt *st);

/** The one number that a query gives; 0 for none and NULL. @param[out] rc SQLITE_OK, or what failed. */
int64_t sp_statement_number(struct sqlite3 *db, const char *sql, int *rc);

/** What a failure is to our callers: SP_ERR_MALFORMED, SP_ERR_NOMEM or SP_ERR_IO. */
enum sp_err sp_statement_err(int rc);

/** A failure in the database's words, until it is used again; of what it holds it says nothing itself. */
const char *sp_statement_words(struct sqlite3 *db, int rc);

#endif
