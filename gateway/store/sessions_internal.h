/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What the journal asks of the sessions in its file. Results are SQLite's. Private to the two. */
#ifndef SP_GATEWAY_STORE_SESSIONS_INTERNAL_H
#define SP_GATEWAY_STORE_SESSIONS_INTERNAL_H

#include "gateway/store/sessions.h"

struct sqlite3;
struct sp_sessions; /* opaque */

/** NULL: no memory. */
struct sp_sessions *sp_sessions_create(void);
void sp_sessions_destroy(struct sp_sessions *sessions); /**< NULL is fine */

/** Make the tables if need be, and count what is there. */
int sp_sessions_connect(struct sp_sessions *sessions, struct sqlite3 *db);

/** Before the database is closed. */
void sp_sessions_disconnect(struct sp_sessions *sessions);

/** Remove what belongs to no session: only when no gate believes that it is there. */
int sp_sessions_tidy(struct sp_sessions *sessions);

/** What is staged, inside the transaction that is open. */
int sp_sessions_write(struct sp_sessions *sessions);

/** The transaction has ended; nothing is staged any more. */
void sp_sessions_written(struct sp_sessions *sessions, bool committed);

/** Of a journal. */
struct sp_sessions *sp_journal_sessions(const struct sp_journal *journal);

/** Something failed: sp_journal_error() says what, and sp_journal_broken() is true until sp_journal_recover(). */
enum sp_err sp_journal_failed(struct sp_journal *journal, int result);

#endif
