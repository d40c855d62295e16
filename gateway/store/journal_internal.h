/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The journal's file, in five files: commits (journal_sqlite.c), opening and recovery (journal_open_sqlite.c), its tables and
 * their versions (journal_schema_sqlite.c), reading (journal_read_sqlite.c) and what an operator asks
 * (journal_operator_sqlite.c). Beneath them messages_sqlite.c, sessions_sqlite.c and packets_sqlite.c, each with its own tables.
 * Results are SQLite's where they are `int`.
 */
#ifndef SP_GATEWAY_STORE_JOURNAL_INTERNAL_H
#define SP_GATEWAY_STORE_JOURNAL_INTERNAL_H

#include "gateway/store/journal.h"
#include "gateway/store/messages_internal.h"
#include "gateway/store/packets_internal.h"
#include "gateway/store/sessions_internal.h"

#define SP_JOURNAL_STATEMENTS 10

/** A dead letter that is a refused record (SP_RECORD_REFUSED); part of the schema. */
#define SP_JOURNAL_IS_REFUSED "(flags&16)!=0"

struct sp_journal {
    struct sqlite3 *db;
    struct sqlite3_stmt *prepared[SP_JOURNAL_STATEMENTS];
    struct sp_packets packets;
    struct sp_sessions *sessions;
    struct sp_messages *messages;
    struct sp_journal_stats stats;
    uint64_t last;
    uint64_t first;  /* of the commit that is being written; 0: it has no messages */
    uint64_t given;  /* the last sequence that was given in it */
    int64_t version; /* of the file, as others have changed it */
    bool broken;
    char epoch[SP_JOURNAL_EPOCH_LEN + 1];
    char error[160];
    char path[]; /* of the file */
};

/* ---- journal_sqlite.c ---- */

/** All statements, on a database that has been opened. */
int sp_journal_prepare(struct sp_journal *j);

/** Before the database is closed. */
void sp_journal_unprepare(struct sp_journal *j);

/** One scan over everything: what it holds, into `stats`, which are as they were when it fails. */
int sp_journal_take_stock(struct sp_journal *j);

/** The highest sequence ever given, by us or by an operator's requeue. */
int sp_journal_read_last(struct sp_journal *j, uint64_t *last);

/* ---- journal_schema_sqlite.c ---- */

/** Commits go to a write-ahead log. Writes to the database, so it has to be one of ours. */
int sp_journal_use_log(struct sp_journal *j);

/**
 * A file of ours with our version, or an empty or older one that becomes it; what is refused is not written to.
 * Sets `epoch`, and `error` on failure.
 *
 * @retval SP_ERR_MALFORMED, SP_ERR_UNSUPPORTED, SP_ERR_IO
 */
SP_MUST_CHECK enum sp_err sp_journal_check_schema(struct sp_journal *j);

#endif
