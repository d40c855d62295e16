/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/packets_internal.h"

#include <sqlite3.h>

#include "gateway/store/journal.h"
#include "gateway/store/statement_internal.h"

/* clang-format off */
enum statement { ST_RECEIVED, ST_RECEIVE, ST_RELEASE, ST_PRUNE, ST_COUNT };

static const char *const statements[] = {
    [ST_RECEIVED] = "SELECT digest FROM received WHERE device=?1 AND packet_id=?2",
    [ST_RECEIVE] = "INSERT OR REPLACE INTO received(device,packet_id,seq,digest)"
                   " VALUES(?1,?2,?3,?4)",
    [ST_RELEASE] = "DELETE FROM received WHERE device=?1 AND packet_id=?2",
    [ST_PRUNE] = "DELETE FROM received WHERE device=?1 AND seq<=(SELECT seq FROM received"
                 " WHERE device=?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
};
/* clang-format on */

_Static_assert(ST_COUNT == SP_PACKETS_STATEMENTS, "all of them are prepared");

int sp_packets_connect(struct sp_packets *packets, struct sqlite3 *db)
{
    return sp_statements_prepare(db, statements, ST_COUNT, packets->prepared);
}

void sp_packets_disconnect(struct sp_packets *packets)
{
    sp_statements_finalize(packets->prepared, ST_COUNT);
}

static int bind_packet(sqlite3_stmt *st, const struct sp_row *row)
{
    int rc = sp_statement_text(st, 1, row->device);
    return rc == SQLITE_OK ? sqlite3_bind_int64(st, 2, row->packet_id) : rc;
}

/* FNV-1a, 64 bits: tells a device's own messages apart, protects against nobody. */
static uint64_t digest_add(uint64_t digest, struct sp_view bytes)
{
    for (size_t i = 0; i < bytes.len; i++) {
        digest = (digest ^ bytes.ptr[i]) * 0x100000001b3U;
    }
    return (digest ^ bytes.len) * 0x100000001b3U;
}

static int64_t digest_of(const struct sp_row *row)
{
    uint64_t digest = digest_add(digest_add(0xcbf29ce484222325U, row->origin), row->payload);
    return (int64_t)(digest >> 1);
}

int sp_packets_is_repeat(struct sp_packets *packets, const struct sp_row *row, bool *repeat)
{
    *repeat = false;
    if ((row->flags & SP_RECORD_REPEAT) == 0) {
        return SQLITE_OK;
    }
    sqlite3_stmt *st = packets->prepared[ST_RECEIVED];
    int rc = bind_packet(st, row);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    *repeat = rc == SQLITE_ROW && sqlite3_column_int64(st, 0) == digest_of(row);
    int reset = sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? reset : rc;
}

int sp_packets_receive(struct sp_packets *packets, const struct sp_row *row)
{
    sqlite3_stmt *st = packets->prepared[ST_RECEIVE];
    sqlite3_stmt *prune = packets->prepared[ST_PRUNE];
    int rc = bind_packet(st, row);
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 3, (int64_t)row->seq) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 4, digest_of(row)) : rc;
    rc = rc == SQLITE_OK ? sp_statement_run(st) : rc;
    rc = rc == SQLITE_OK ? sp_statement_text(prune, 1, row->device) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int(prune, 2, SP_JOURNAL_PACKET_IDS) : rc;
    return rc == SQLITE_OK ? sp_statement_run(prune) : rc;
}

int sp_packets_release(struct sp_packets *packets, const struct sp_row *row)
{
    sqlite3_stmt *st = packets->prepared[ST_RELEASE];
    int rc = bind_packet(st, row);
    return rc == SQLITE_OK ? sp_statement_run(st) : rc;
}
