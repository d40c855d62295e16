/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The messages in the journal's file, in two tables (docs/decisions/0007-batches.md): `batches`, where those of one
 * commit lie together, and `messages`, a row for each that came another way. A sequence is in one of them at most.
 * Results are SQLite's. Private to the files *_sqlite.c of this folder.
 */
#ifndef SP_GATEWAY_STORE_MESSAGES_INTERNAL_H
#define SP_GATEWAY_STORE_MESSAGES_INTERNAL_H

#include "gateway/store/batch.h"

struct sqlite3;
struct sqlite3_stmt;
struct sp_messages; /* opaque; statements for one connection at a time */

/** NULL: no memory. */
struct sp_messages *sp_messages_create(void);
void sp_messages_destroy(struct sp_messages *messages); /**< NULL is fine */

/** A file that is too old to have batches can be walked. */
int sp_messages_connect(struct sp_messages *messages, struct sqlite3 *db);

/** Before the database is closed. */
void sp_messages_disconnect(struct sp_messages *messages);

/** A transaction begins: nothing is left of the one before. */
void sp_messages_begin(struct sp_messages *messages);

/** Append a message with a `seq` above all others; it may be in memory only until sp_messages_flush(). */
int sp_messages_append(struct sp_messages *messages, const struct sp_row *row);
int sp_messages_flush(struct sp_messages *messages);

/** Called for a message that leaves, once. */
typedef int (*sp_messages_fn)(void *arg, const struct sp_row *row);

/** Let rows go by their `seq`, in its order; those that are not there, or not any more, are passed over. */
int sp_messages_let_go(struct sp_messages *messages, const struct sp_row_list *ended,
                       sp_messages_fn fn, void *arg);

/** A walk over all messages in order. One at a time; keeps a read transaction open until its end. */
struct sp_messages_walk {
    struct sp_messages *messages;
    uint64_t after;
    bool row_is_next;       /* `row` has been read and not been given out */
    struct sp_stored row;   /* of the table `messages`; seq UINT64_MAX: no more */
    struct sp_reader batch; /* what is left of a batch … */
    uint64_t batch_seq;     /* … that begins with this one */
    uint64_t batch_end;     /* … and ends before this one; the same: it is through */
    uint64_t batch_first;
    const uint8_t *gone; /* a bit for each of the batch that is gone, from the first */
    bool batches_over;
};

/** Begin behind sequence `after`. sp_messages_end() is due whatever comes. */
int sp_messages_walk(struct sp_messages *messages, uint64_t after, struct sp_messages_walk *walk);

/** SQLITE_ROW: *out is the next one, until the next call. SQLITE_DONE: there are no more. */
int sp_messages_next(struct sp_messages_walk *walk, struct sp_stored *out);
void sp_messages_end(struct sp_messages_walk *walk);

#endif
