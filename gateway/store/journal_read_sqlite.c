/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/journal_internal.h"

#include <sqlite3.h>

#include "gateway/store/statement_internal.h"

#define READ_SCAN_MAX 4096 /* rows looked at by one read */

static struct sp_row *row_of(const struct sp_stored *m)
{
    struct sp_row *row = sp_row_create(m->device, m->topic, m->origin, m->payload);
    if (row != NULL) {
        row->seq = m->seq;
        row->time_ms = m->time_ms;
        row->expiry_s = m->expiry_s;
        row->qos = m->qos;
        row->format = m->format;
        row->protection = m->protection;
        row->flags = m->flags;
        row->counter = m->counter;
    }
    return row;
}

enum sp_err sp_journal_read(struct sp_journal *journal, const struct sp_journal_want *want,
                            struct sp_row_list *rows, uint64_t *reached)
{
    if (journal->broken) {
        return SP_ERR_IO;
    }
    struct sp_messages_walk walk;
    struct sp_stored message = {.seq = 0};
    size_t count = rows->count + want->max_rows;
    size_t bytes = rows->bytes + want->max_bytes;
    uint64_t seen = want->after;
    int rc = sp_messages_walk(journal->messages, want->after, &walk);
    enum sp_err err = rc == SQLITE_OK ? SP_OK : sp_journal_failed(journal, rc);
    rc = SQLITE_ROW;
    for (size_t looked = 0; err == SP_OK && looked < READ_SCAN_MAX; looked++) {
        rc = sp_messages_next(&walk, &message);
        if (rc != SQLITE_ROW) {
            break;
        }
        if (sp_row_stream(message.device) % want->links == want->link) {
            if (rows->count >= count || rows->bytes >= bytes) {
                break;
            }
            struct sp_row *row = row_of(&message);
            if (row == NULL) {
                err = SP_ERR_NOMEM;
                break;
            }
            sp_row_list_push(rows, row);
        }
        seen = message.seq;
    }
    if (rc == SQLITE_DONE) {
        seen = journal->last;
    } else if (rc != SQLITE_ROW && err == SP_OK) {
        err = sp_journal_failed(journal, rc);
    }
    sp_messages_end(&walk);
    *reached = seen;
    return err;
}

enum sp_err sp_journal_marks(struct sp_journal *journal, sp_journal_mark_fn fn, void *arg)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(journal->db, "SELECT device,name,epoch,counter FROM marks", -1, &st,
                                NULL);
    enum sp_err err = SP_OK;
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
    }
    while (rc == SQLITE_ROW && err == SP_OK) {
        const struct sp_journal_mark mark = {
            .device = sp_statement_column(st, 0),
            .group = sp_statement_column(st, 1),
            .epoch = (uint32_t)sqlite3_column_int64(st, 2),
            .counter = (uint64_t)sqlite3_column_int64(st, 3),
        };
        err = fn(arg, &mark);
        rc = sqlite3_step(st);
    }
    (void)sqlite3_finalize(st);
    return err != SP_OK || rc == SQLITE_DONE || rc == SQLITE_ROW ? err
                                                                 : sp_journal_failed(journal, rc);
}

enum sp_err sp_journal_shares(struct sp_journal *journal, sp_journal_share_fn fn, void *arg)
{
    struct sp_messages_walk walk;
    struct sp_stored message = {.seq = 0};
    int rc = sp_messages_walk(journal->messages, 0, &walk);
    rc = rc == SQLITE_OK ? sp_messages_next(&walk, &message) : rc;
    for (; rc == SQLITE_ROW; rc = sp_messages_next(&walk, &message)) {
        fn(arg, message.device, sp_stored_cost(&message));
    }
    sp_messages_end(&walk);
    return rc == SQLITE_DONE ? SP_OK : sp_journal_failed(journal, rc);
}

uint64_t sp_journal_oldest_ms(struct sp_journal *journal)
{
    if (journal->broken) {
        return 0;
    }
    struct sp_messages_walk walk;
    struct sp_stored message = {.seq = 0};
    int rc = sp_messages_walk(journal->messages, 0, &walk);
    rc = rc == SQLITE_OK ? sp_messages_next(&walk, &message) : rc;
    sp_messages_end(&walk);
    return rc == SQLITE_ROW ? message.time_ms : 0;
}
