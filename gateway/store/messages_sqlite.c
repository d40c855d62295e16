/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/messages_internal.h"

#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/store/statement_internal.h"

#define BITS_BYTES (SP_BATCH_ROWS / 8U)
#define THIN       4U /* a batch with no more than one in so many left is dissolved into rows */

#define ROWS(counter)                                                                          \
    "SELECT seq,time_ms," counter ",expiry_s,qos,format,protection,flags,device,topic,origin," \
    "payload FROM messages WHERE seq>?1 ORDER BY seq"

/* clang-format off */
enum statement {
    ST_ROWS, ST_INSERT, ST_DELETE, ST_ADD, ST_OF, ST_FROM, ST_DATA, ST_DROP, ST_MARK, ST_UNMARK, ST_COUNT
};

static const char *const statements[ST_COUNT] = {
    [ST_ROWS] = ROWS("counter"),
    [ST_INSERT] = "INSERT INTO messages(seq,time_ms,counter,expiry_s,qos,format,protection,flags,device,"
                  "topic,origin,payload,stream) VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13)",
    [ST_DELETE] = "DELETE FROM messages WHERE seq=?1",
    [ST_ADD] = "INSERT INTO batches(first,count,data) VALUES(?1,?2,?3)",
    [ST_OF] = "SELECT b.first,b.count,g.bits FROM batches b LEFT JOIN gone g ON g.first=b.first"
              " WHERE b.first<=?1 ORDER BY b.first DESC LIMIT 1",
    [ST_FROM] = "SELECT b.first,b.count,g.bits,b.data FROM batches b LEFT JOIN gone g ON g.first=b.first"
                " WHERE b.first>=?1 ORDER BY b.first",
    [ST_DATA] = "SELECT data FROM batches WHERE first=?1",
    [ST_DROP] = "DELETE FROM batches WHERE first=?1",
    [ST_MARK] = "INSERT OR REPLACE INTO gone(first,bits) VALUES(?1,?2)",
    [ST_UNMARK] = "DELETE FROM gone WHERE first=?1",
};
/* clang-format on */

struct sp_messages {
    sqlite3 *db;
    sqlite3_stmt *prepared[ST_COUNT];
    /* the batch that is being written */
    uint8_t *data; /* malloc'ed, kept */
    size_t cap;
    size_t used;
    uint64_t first;
    uint32_t count;
    const struct sp_row **order; /* of rows that are let go; malloc'ed, kept */
    size_t order_cap;
};

/* Which messages of a batch are gone. */
struct bits {
    uint64_t first;
    uint32_t count;
    uint32_t left;
    bool stored; /* some were before */
    uint8_t gone[BITS_BYTES];
};

static bool has_bit(const uint8_t *bits, uint64_t i)
{
    return (bits[i / 8U] >> (i % 8U) & 1U) != 0;
}

/* ---- life ---- */

struct sp_messages *sp_messages_create(void)
{
    return calloc(1, sizeof(struct sp_messages));
}

void sp_messages_disconnect(struct sp_messages *messages)
{
    sp_statements_finalize(messages->prepared, ST_COUNT);
    messages->db = NULL;
}

void sp_messages_destroy(struct sp_messages *messages)
{
    if (messages != NULL) {
        sp_messages_disconnect(messages);
        free(messages->data);
        free(messages->order);
        free(messages);
    }
}

static int prepare(struct sp_messages *m, enum statement which, const char *sql)
{
    return sqlite3_prepare_v3(m->db, sql, -1, SQLITE_PREPARE_PERSISTENT, &m->prepared[which], NULL);
}

static int has_batches(sqlite3 *db, bool *has)
{
    sqlite3_stmt *st = NULL;
    int rc =
        sqlite3_prepare_v2(db, "SELECT 1 FROM sqlite_master WHERE name='batches'", -1, &st, NULL);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    *has = rc == SQLITE_ROW;
    (void)sqlite3_finalize(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_OK : rc;
}

int sp_messages_connect(struct sp_messages *messages, struct sqlite3 *db)
{
    bool has = false;
    messages->db = db;
    int rc = has_batches(db, &has);
    if (rc == SQLITE_OK && !has) {
        return prepare(messages, ST_ROWS, ROWS("0"));
    }
    for (size_t i = 0; i < ST_COUNT && rc == SQLITE_OK; i++) {
        rc = prepare(messages, (enum statement)i, statements[i]);
    }
    return rc;
}

/* Run a statement whose first parameter is a sequence. */
static int run_with(struct sp_messages *m, enum statement which, uint64_t seq)
{
    sqlite3_stmt *st = m->prepared[which];
    int rc = sqlite3_bind_int64(st, 1, (int64_t)seq);
    return rc == SQLITE_OK ? sp_statement_run(st) : rc;
}

/* ---- appending ---- */

void sp_messages_begin(struct sp_messages *messages)
{
    messages->count = 0;
    messages->used = 0;
}

int sp_messages_flush(struct sp_messages *messages)
{
    struct sp_messages *m = messages;
    if (m->count == 0) {
        return SQLITE_OK;
    }
    sqlite3_stmt *st = m->prepared[ST_ADD];
    int rc = sqlite3_bind_int64(st, 2, m->count);
    rc = rc == SQLITE_OK ? sp_statement_blob(st, 3, sp_view(m->data, m->used)) : rc;
    rc = rc == SQLITE_OK ? run_with(m, ST_ADD, m->first) : rc;
    sp_messages_begin(m);
    return rc;
}

static bool reserve(struct sp_messages *m, size_t size)
{
    if (m->used + size > m->cap) {
        size_t cap = m->used + size + SP_BATCH_BYTES;
        uint8_t *grown = realloc(m->data, cap);
        if (grown == NULL) {
            return false;
        }
        m->data = grown;
        m->cap = cap;
    }
    return true;
}

int sp_messages_append(struct sp_messages *messages, const struct sp_row *row)
{
    struct sp_messages *m = messages;
    bool fits =
        m->count < SP_BATCH_ROWS && m->used < SP_BATCH_BYTES && row->seq == m->first + m->count;
    int rc = m->count > 0 && !fits ? sp_messages_flush(m) : SQLITE_OK;
    if (rc != SQLITE_OK || !reserve(m, sp_batch_size(row))) {
        return rc != SQLITE_OK ? rc : SQLITE_NOMEM;
    }
    struct sp_writer w;
    sp_writer_init(&w, m->data + m->used, m->cap - m->used);
    sp_batch_write(&w, row);
    m->first = m->count == 0 ? row->seq : m->first;
    m->used += w.used;
    m->count++;
    return SQLITE_OK;
}

/* ---- letting go ---- */

static int by_seq(const void *a, const void *b)
{
    const struct sp_row *const *x = a;
    const struct sp_row *const *y = b;
    return ((*x)->seq > (*y)->seq) - ((*x)->seq < (*y)->seq);
}

static bool sort(struct sp_messages *m, const struct sp_row_list *list)
{
    if (list->count > m->order_cap) {
        const struct sp_row **grown =
            realloc(m->order, list->count * sizeof(*grown)); // NOLINT(bugprone-sizeof-expression)
        if (grown == NULL) {
            return false;
        }
        m->order = grown;
        m->order_cap = list->count;
    }
    size_t i = 0;
    bool sorted = true;
    for (const struct sp_row *row = list->head; row != NULL; row = row->next) {
        sorted = sorted && (i == 0 || m->order[i - 1]->seq <= row->seq);
        m->order[i++] = row;
    }
    if (!sorted) {
        qsort(m->order, i, sizeof(*m->order), by_seq);
    }
    return true;
}

/* The columns first, count and bits of a batch, from column 0 on. */
static int read_bits(sqlite3_stmt *st, struct bits *b)
{
    int64_t first = sqlite3_column_int64(st, 0);
    int64_t count = sqlite3_column_int64(st, 1);
    struct sp_view gone = sp_statement_column(st, 2);
    *b = (struct bits){.first = (uint64_t)first, .stored = gone.ptr != NULL};
    if (first < 1 || first > INT64_MAX - SP_BATCH_ROWS || count < 1 || count > SP_BATCH_ROWS ||
        (b->stored && gone.len != BITS_BYTES)) {
        return SQLITE_CORRUPT;
    }
    b->count = (uint32_t)count;
    b->left = b->count;
    sp_copy(b->gone, gone.ptr, gone.len);
    for (uint32_t i = 0; b->stored && i < b->count; i++) {
        b->left -= has_bit(b->gone, i);
    }
    return SQLITE_OK;
}

/* The batch with this sequence. @return SQLITE_ROW, SQLITE_DONE when there is none, or what failed. */
static int find_batch(struct sp_messages *m, uint64_t seq, struct bits *b)
{
    sqlite3_stmt *st = m->prepared[ST_OF];
    int rc = sqlite3_bind_int64(st, 1, (int64_t)seq);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    if (rc == SQLITE_ROW) {
        int sound = read_bits(st, b);
        rc = sound != SQLITE_OK ? sound : seq < b->first + b->count ? SQLITE_ROW : SQLITE_DONE;
    }
    int reset = sqlite3_reset(st);
    return (rc == SQLITE_ROW || rc == SQLITE_DONE) && reset != SQLITE_OK ? reset : rc;
}

static int drop(struct sp_messages *m, const struct bits *b)
{
    int rc = run_with(m, ST_DROP, b->first);
    return rc == SQLITE_OK && b->stored ? run_with(m, ST_UNMARK, b->first) : rc;
}

static int insert_row(struct sp_messages *m, const struct sp_stored *message)
{
    sqlite3_stmt *st = m->prepared[ST_INSERT];
    const int64_t numbers[] = {
        (int64_t)message->time_ms, (int64_t)message->counter, message->expiry_s, message->qos,
        message->format,           message->protection,       message->flags};
    const struct sp_view texts[] = {message->device, message->topic, message->origin};
    int rc = SQLITE_OK;
    for (int i = 0; i < 7 && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_int64(st, 2 + i, numbers[i]);
    }
    for (int i = 0; i < 3 && rc == SQLITE_OK; i++) {
        rc = sp_statement_text(st, 9 + i, texts[i]);
    }
    rc = rc == SQLITE_OK ? sp_statement_blob(st, 12, message->payload) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 13, sp_row_stream(message->device)) : rc;
    return rc == SQLITE_OK ? run_with(m, ST_INSERT, message->seq) : rc;
}

/* What is left of a batch become rows, so that a few that stay long do not keep much more than themselves on the disk. */
static int dissolve(struct sp_messages *m, const struct bits *b)
{
    sqlite3_stmt *st = m->prepared[ST_DATA];
    struct sp_reader r;
    int rc = sqlite3_bind_int64(st, 1, (int64_t)b->first);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    rc = rc == SQLITE_DONE ? SQLITE_CORRUPT : rc == SQLITE_ROW ? SQLITE_OK : rc;
    sp_reader_init(&r, rc == SQLITE_OK ? sp_statement_column(st, 0) : sp_view(NULL, 0));
    for (uint32_t i = 0; i < b->count && rc == SQLITE_OK; i++) {
        struct sp_stored message;
        if (sp_batch_next(&r, &message) != SP_OK) {
            rc = SQLITE_CORRUPT;
        } else if (!has_bit(b->gone, i)) {
            message.seq = b->first + i;
            rc = insert_row(m, &message);
        }
    }
    int reset = sqlite3_reset(st);
    rc = rc == SQLITE_OK ? reset : rc;
    return rc == SQLITE_OK ? drop(m, b) : rc;
}

static int write_bits(struct sp_messages *m, const struct bits *b)
{
    int rc = sp_statement_blob(m->prepared[ST_MARK], 2, SP_VIEW_ARRAY(b->gone));
    return rc == SQLITE_OK ? run_with(m, ST_MARK, b->first) : rc;
}

static int write_batch(struct sp_messages *m, const struct bits *b)
{
    if (b->left == 0) {
        return drop(m, b);
    }
    return b->left <= b->count / THIN ? dissolve(m, b) : write_bits(m, b);
}

/* Rows of a batch, from *at on; moves *at behind them. */
static int let_go_batched(struct sp_messages *m, struct bits *b, size_t count, size_t *at,
                          sp_messages_fn fn, void *arg)
{
    int rc = SQLITE_OK;
    uint32_t before = b->left;
    for (; *at < count && m->order[*at]->seq < b->first + b->count && rc == SQLITE_OK; (*at)++) {
        uint32_t i = (uint32_t)(m->order[*at]->seq - b->first);
        if (!has_bit(b->gone, i)) {
            b->gone[i / 8U] |= (uint8_t)(1U << (i % 8U));
            b->left--;
            rc = fn(arg, m->order[*at]);
        }
    }
    return rc == SQLITE_OK && b->left < before ? write_batch(m, b) : rc;
}

static int let_go_row(struct sp_messages *m, const struct sp_row *row, sp_messages_fn fn, void *arg)
{
    int rc = run_with(m, ST_DELETE, row->seq);
    return rc == SQLITE_OK && sqlite3_changes(m->db) > 0 ? fn(arg, row) : rc;
}

int sp_messages_let_go(struct sp_messages *messages, const struct sp_row_list *ended,
                       sp_messages_fn fn, void *arg)
{
    struct sp_messages *m = messages;
    struct bits b;
    int rc = sort(m, ended) ? SQLITE_OK : SQLITE_NOMEM;
    for (size_t at = 0; at < ended->count && rc == SQLITE_OK;) {
        rc = find_batch(m, m->order[at]->seq, &b);
        if (rc == SQLITE_ROW) {
            rc = let_go_batched(m, &b, ended->count, &at, fn, arg);
        } else if (rc == SQLITE_DONE) {
            rc = let_go_row(m, m->order[at++], fn, arg);
        }
    }
    return rc;
}

/* ---- walking ---- */

/* The next of the table `messages` into walk->row. */
static int step_rows(struct sp_messages_walk *walk)
{
    sqlite3_stmt *st = walk->messages->prepared[ST_ROWS];
    int rc = sqlite3_step(st);
    walk->row_is_next = true;
    if (rc != SQLITE_ROW) {
        walk->row.seq = UINT64_MAX;
        return rc == SQLITE_DONE ? SQLITE_OK : rc;
    }
    walk->row = (struct sp_stored){
        .seq = (uint64_t)sqlite3_column_int64(st, 0),
        .time_ms = (uint64_t)sqlite3_column_int64(st, 1),
        .counter = (uint64_t)sqlite3_column_int64(st, 2),
        .expiry_s = (uint32_t)sqlite3_column_int64(st, 3),
        .qos = (uint8_t)sqlite3_column_int(st, 4),
        .format = (uint8_t)sqlite3_column_int(st, 5),
        .protection = (uint8_t)sqlite3_column_int(st, 6),
        .flags = (uint8_t)sqlite3_column_int(st, 7),
        .device = sp_statement_column(st, 8),
        .topic = sp_statement_column(st, 9),
        .origin = sp_statement_column(st, 10),
        .payload = sp_statement_column(st, 11),
    };
    return sp_stored_sound(&walk->row) ? SQLITE_OK : SQLITE_CORRUPT;
}

static bool is_gone(const struct sp_messages_walk *walk, uint64_t seq)
{
    return seq <= walk->after ||
           (walk->gone != NULL && has_bit(walk->gone, seq - walk->batch_first));
}

/* Go to the next message in a batch that is not gone; its sequence is in `batch_seq` then, and what it is comes next. */
static int step_batches(struct sp_messages_walk *walk)
{
    sqlite3_stmt *st = walk->messages->prepared[ST_FROM];
    for (;;) {
        for (; walk->batch_seq < walk->batch_end; walk->batch_seq++) {
            struct sp_stored passed_over;
            if (!is_gone(walk, walk->batch_seq)) {
                return SQLITE_OK;
            }
            if (sp_batch_next(&walk->batch, &passed_over) != SP_OK) {
                return SQLITE_CORRUPT;
            }
        }
        struct bits b;
        int rc = st == NULL || walk->batches_over ? SQLITE_DONE : sqlite3_step(st);
        if (rc != SQLITE_ROW) {
            walk->batches_over = true;
            walk->batch_seq = UINT64_MAX;
            walk->batch_end = UINT64_MAX;
            return rc == SQLITE_DONE ? SQLITE_OK : rc;
        }
        rc = read_bits(st, &b);
        if (rc != SQLITE_OK) {
            return rc;
        }
        walk->batch_first = b.first;
        walk->batch_seq = b.first;
        walk->batch_end = b.first + b.count;
        walk->gone = sp_statement_column(st, 2).ptr;
        sp_reader_init(&walk->batch, sp_statement_column(st, 3));
    }
}

int sp_messages_walk(struct sp_messages *messages, uint64_t after, struct sp_messages_walk *walk)
{
    struct sp_messages *m = messages;
    struct bits b = {.first = 0};
    *walk = (struct sp_messages_walk){.messages = m, .after = after};
    int rc = sqlite3_bind_int64(m->prepared[ST_ROWS], 1, (int64_t)after);
    if (rc == SQLITE_OK && m->prepared[ST_FROM] != NULL) {
        rc = find_batch(m, after, &b); /* it may be in the middle of one */
        uint64_t from = rc == SQLITE_ROW ? b.first : after;
        rc = rc == SQLITE_ROW || rc == SQLITE_DONE
                 ? sqlite3_bind_int64(m->prepared[ST_FROM], 1, (int64_t)from)
                 : rc;
    }
    return rc;
}

int sp_messages_next(struct sp_messages_walk *walk, struct sp_stored *out)
{
    int rc = walk->row_is_next ? SQLITE_OK : step_rows(walk);
    rc = rc == SQLITE_OK ? step_batches(walk) : rc;
    if (rc != SQLITE_OK) {
        return rc;
    }
    if (walk->row.seq < walk->batch_seq) {
        *out = walk->row;
        walk->row_is_next = false;
        return SQLITE_ROW;
    }
    if (walk->batches_over) {
        return SQLITE_DONE;
    }
    if (sp_batch_next(&walk->batch, out) != SP_OK) {
        return SQLITE_CORRUPT;
    }
    out->seq = walk->batch_seq++;
    return SQLITE_ROW;
}

void sp_messages_end(struct sp_messages_walk *walk)
{
    (void)sqlite3_reset(walk->messages->prepared[ST_ROWS]);
    (void)sqlite3_reset(walk->messages->prepared[ST_FROM]);
}
