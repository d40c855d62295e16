/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What the registry's SQLite files share: its handle, and statements with a sticky error.
 *
 * A statement is started, given its parameters in order, stepped through and ended; the first error is kept, and
 * told by sp_query_end(). Errors that SQLite tells leave a sentence in the registry's fault.
 */
#ifndef SP_GATEWAY_KEYS_REGISTRY_INTERNAL_H
#define SP_GATEWAY_KEYS_REGISTRY_INTERNAL_H

#include "gateway/keys/registry.h"

struct sqlite3;
struct sqlite3_stmt;

struct sp_registry {
    struct sqlite3 *db;
    struct sqlite3_stmt *data_version; /* kept: it is asked for five times a second */
    int64_t last_data_version;
    unsigned depth; /* of transactions: only the outermost one is SQLite's */
    bool spoilt;    /* an inner one failed */
    bool durable;   /* a tool's: what it commits is promised */
    bool sound;     /* the log was written anew under a lock of ours */
    int log_frames;
    struct sp_vault *vault;
    struct sp_fault fault;
};

struct sp_query {
    struct sp_registry *reg;
    struct sqlite3_stmt *stmt;
    int bound;
    enum sp_err err;
};

/** Tables of the key groups, which came with version 2. */
extern const char sp_groups_schema[];

/** Make a new epoch for the group of a device, if it has one; in a transaction. */
SP_MUST_CHECK enum sp_err sp_groups_rotate_of_device(struct sp_registry *reg, const char *id);

/** In a transaction, after the device was added: its group is there, and a name that existed before gets a new epoch. */
SP_MUST_CHECK enum sp_err sp_groups_device_added(struct sp_registry *reg,
                                                 const struct sp_device *device, bool existed);

/** What a result code of SQLite means, with the sentence set. */
enum sp_err sp_registry_sql_error(struct sp_registry *reg, int rc);

/** Set the sentence, give `err` back. */
enum sp_err sp_registry_refuse(struct sp_registry *reg, enum sp_err err, const char *why);

/** Run statements without parameters or results; one with a text as its only parameter. */
SP_MUST_CHECK enum sp_err sp_registry_run(struct sp_registry *reg, const char *sql);
SP_MUST_CHECK enum sp_err sp_registry_run_text(struct sp_registry *reg, const char *sql,
                                               const char *text);

/** `how` is "BEGIN", or "BEGIN IMMEDIATE" for one that writes; ignored inside another transaction. */
SP_MUST_CHECK enum sp_err sp_registry_transaction_begin(struct sp_registry *reg, const char *how);

/** Commit, or take everything back when `err` is one; the first error is the one that counts. */
SP_MUST_CHECK enum sp_err sp_registry_transaction_end(struct sp_registry *reg, enum sp_err err);

/**
 * The write-ahead log (wal_sqlite.c). Renew: in a transaction that may write; nothing in it depends on an earlier sync any more.
 * @retval SP_ERR_IO
 */
SP_MUST_CHECK enum sp_err sp_registry_wal_renew(struct sp_registry *reg);
/** From the opening on nobody but us carries the log into the database. */
void sp_registry_wal_watch(struct sp_registry *reg);
/** After a commit: carry it over if it has grown. */
void sp_registry_wal_tidy(struct sp_registry *reg);
/** Before the database is closed. */
void sp_registry_wal_leave(struct sp_registry *reg);

/** `sql` is a constant. */
void sp_query_start(struct sp_query *q, struct sp_registry *reg, const char *sql);
void sp_query_put_int(struct sp_query *q, int64_t value);
void sp_query_put_text(struct sp_query *q, const char *text);
void sp_query_put_blob(struct sp_query *q, struct sp_view bytes);

/** True while there is a row to look at. */
bool sp_query_row(struct sp_query *q);

/** Columns of the row, from 0. Views are borrowed until the next row; what does not fit is damage. */
int64_t sp_query_int(struct sp_query *q, int column);
struct sp_view sp_query_blob(struct sp_query *q, int column);
void sp_query_text(struct sp_query *q, int column, char *out, size_t cap);
size_t sp_query_bytes(struct sp_query *q, int column, uint8_t *out, size_t cap);

/** The row holds what cannot be: SP_ERR_MALFORMED. */
void sp_query_damaged(struct sp_query *q);

SP_MUST_CHECK enum sp_err sp_query_end(struct sp_query *q);

/** Step to the end, passing over rows, and end it. */
SP_MUST_CHECK enum sp_err sp_query_run(struct sp_query *q);

/** The numbers in table `meta`: read, count up and read, write. */
SP_MUST_CHECK enum sp_err sp_registry_number_read(struct sp_registry *reg, const char *name,
                                                  uint64_t *out);
SP_MUST_CHECK enum sp_err sp_registry_number_next(struct sp_registry *reg, const char *name,
                                                  uint64_t *out);
SP_MUST_CHECK enum sp_err sp_registry_number_write(struct sp_registry *reg, const char *name,
                                                   uint64_t value);

#endif
