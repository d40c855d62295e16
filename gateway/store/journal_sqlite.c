/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Why a failed commit leads to a re-open with a checkpoint: after a failed fsync Linux calls the lost pages clean, so
 * a later fsync of the same log would report success over a hole, and everything behind the hole would be gone after a
 * power cut. Opening anew writes the log anew, the checkpoint moves what it holds into the database
 * and starts an empty log. What the failed commit left in it is deleted: it was refused.
 */
#include "gateway/store/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/store/messages_internal.h"
#include "gateway/store/sessions_internal.h"
#include "gateway/store/statement_internal.h"

#define APPLICATION_ID 0x53504a31 /* "SPJ1" */
#define SCHEMA_VERSION 3
#define EPOCHS_KEPT    64   /* of a device in a group; older ones are accepted nowhere any more */
#define READ_SCAN_MAX  4096 /* rows looked at by one read */

#define TEXT_OF(number) #number
#define TEXT(number)    TEXT_OF(number)
#define REFUSED         "(flags&16)!=0" /* SP_RECORD_REFUSED; part of the schema */

/* clang-format off */
static const char schema[] =
    "CREATE TABLE meta(key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE messages(seq INTEGER PRIMARY KEY AUTOINCREMENT, stream INTEGER NOT NULL,"
    " time_ms INTEGER NOT NULL, expiry_s INTEGER NOT NULL, qos INTEGER NOT NULL,"
    " format INTEGER NOT NULL, protection INTEGER NOT NULL, flags INTEGER NOT NULL,"
    " device TEXT NOT NULL, topic TEXT NOT NULL, origin TEXT NOT NULL, payload BLOB NOT NULL);"
    "CREATE TABLE dead_letters(seq INTEGER PRIMARY KEY, stream INTEGER NOT NULL,"
    " time_ms INTEGER NOT NULL, expiry_s INTEGER NOT NULL, qos INTEGER NOT NULL,"
    " format INTEGER NOT NULL, protection INTEGER NOT NULL, flags INTEGER NOT NULL,"
    " device TEXT NOT NULL, topic TEXT NOT NULL, origin TEXT NOT NULL, payload BLOB NOT NULL,"
    " reason TEXT NOT NULL, dead_ms INTEGER NOT NULL);";

/* Came with version 0.2; a journal without it is still version 1, an older program leaves it alone. */
static const char more_schema[] =
    "CREATE TABLE IF NOT EXISTS received(device TEXT NOT NULL, packet_id INTEGER NOT NULL,"
    " seq INTEGER NOT NULL, digest INTEGER NOT NULL, PRIMARY KEY(device, packet_id)) WITHOUT ROWID;"
    "CREATE INDEX IF NOT EXISTS refused ON dead_letters(device, seq) WHERE " REFUSED ";";
/* What a version adds to the one before. */
static const char upgrade_2[] =
    "ALTER TABLE messages ADD COLUMN counter INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE marks(device TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " counter INTEGER NOT NULL, before INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(device, name, epoch)) WITHOUT ROWID;"
    "PRAGMA user_version=2;";
static const char upgrade_3[] =
    "CREATE TABLE batches(first INTEGER PRIMARY KEY, count INTEGER NOT NULL, data BLOB NOT NULL);"
    "CREATE TABLE gone(first INTEGER PRIMARY KEY, bits BLOB NOT NULL);"
    "INSERT INTO sqlite_sequence(name,seq) SELECT 'messages',0"
    " WHERE NOT EXISTS(SELECT 1 FROM sqlite_sequence WHERE name='messages');"
    "PRAGMA user_version=3;";

#define COLUMNS                                                                                    \
    "seq,stream,time_ms,expiry_s,qos,format,protection,flags,device,topic,origin,payload"
#define COST                                                                                       \
    "(length(CAST(device AS BLOB))+length(CAST(topic AS BLOB))+length(CAST(origin AS BLOB))"      \
    "+length(payload)+64)"

enum statement {
    ST_BEGIN, ST_COMMIT, ST_ROLLBACK, ST_LAST, ST_GIVEN, ST_BURY,
    ST_RECEIVED, ST_RECEIVE, ST_RELEASE, ST_PRUNE, ST_VERSION,
    ST_MARK, ST_UNMARK, ST_FORGET, ST_COUNT
};

static const char *const statements[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_LAST] = "SELECT seq FROM sqlite_sequence WHERE name='messages'",
    [ST_GIVEN] = "UPDATE sqlite_sequence SET seq=?1 WHERE name='messages'",
    [ST_BURY] = "INSERT OR REPLACE INTO dead_letters(" COLUMNS ",reason,dead_ms)"
                " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12,?13,?14)",
    /* ?5: first sequence of this commit, 0 without messages; ?6: last one of those before */
    [ST_MARK] = "INSERT INTO marks VALUES(?1,?2,?3,?4,0,?5) ON CONFLICT DO UPDATE"
                " SET before=CASE WHEN seq>?6 THEN before ELSE counter END,"
                " counter=max(counter,excluded.counter), seq=excluded.seq",
    [ST_UNMARK] = "DELETE FROM marks WHERE device=?1 AND name=?2 AND epoch<=?3",
    [ST_FORGET] = "DELETE FROM dead_letters WHERE seq=(SELECT seq FROM dead_letters"
                  " WHERE device=?1 AND " REFUSED " ORDER BY seq DESC LIMIT 1 OFFSET "
                  TEXT(SP_JOURNAL_REFUSED) ") RETURNING " COST,
    [ST_RECEIVED] = "SELECT digest FROM received WHERE device=?1 AND packet_id=?2",
    [ST_RECEIVE] = "INSERT OR REPLACE INTO received(device,packet_id,seq,digest)"
                   " VALUES(?1,?2,?3,?4)",
    [ST_VERSION] = "PRAGMA data_version",
    [ST_RELEASE] = "DELETE FROM received WHERE device=?1 AND packet_id=?2",
    [ST_PRUNE] = "DELETE FROM received WHERE device=?1 AND seq<=(SELECT seq FROM received"
                 " WHERE device=?1 ORDER BY seq DESC LIMIT 1 OFFSET ?2)",
};
/* clang-format on */

struct sp_journal {
    sqlite3 *db;
    sqlite3_stmt *prepared[ST_COUNT];
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

static enum sp_err err_of(int rc)
{
    switch (rc & 0xff) {
    case SQLITE_CORRUPT:
    case SQLITE_NOTADB:
        return SP_ERR_MALFORMED;
    case SQLITE_NOMEM:
        return SP_ERR_NOMEM;
    default:
        return SP_ERR_IO;
    }
}

/* A failure in the database's words; of what it holds it says nothing itself. */
static const char *words(sqlite3 *db, int rc)
{
    int code = db == NULL ? SQLITE_OK : sqlite3_errcode(db);
    bool told = code != SQLITE_OK && code != SQLITE_ROW && code != SQLITE_DONE;
    return told ? sqlite3_errmsg(db) : sqlite3_errstr(rc);
}

/* Remember what went wrong, and take nothing more until sp_journal_recover(). */
static enum sp_err fail(struct sp_journal *j, int rc)
{
    (void)snprintf(j->error, sizeof(j->error), "%s", words(j->db, rc));
    j->broken = true;
    return err_of(rc);
}

static int run(struct sp_journal *j, enum statement which)
{
    return sp_statement_run(j->prepared[which]);
}

static int64_t number(struct sp_journal *j, const char *sql, int *rc)
{
    sqlite3_stmt *st = NULL;
    int64_t value = 0;
    *rc = sqlite3_prepare_v2(j->db, sql, -1, &st, NULL);
    if (*rc == SQLITE_OK) {
        *rc = sqlite3_step(st);
        if (*rc == SQLITE_ROW) {
            value = sqlite3_column_int64(st, 0);
            *rc = SQLITE_OK;
        } else if (*rc == SQLITE_DONE) {
            *rc = SQLITE_OK;
        }
    }
    (void)sqlite3_finalize(st);
    return value;
}

struct sp_sessions *sp_journal_sessions(const struct sp_journal *journal)
{
    return journal->sessions;
}

enum sp_err sp_journal_failed(struct sp_journal *journal, int result)
{
    return fail(journal, result);
}

static void shut(struct sp_journal *j)
{
    sp_sessions_disconnect(j->sessions);
    sp_messages_disconnect(j->messages);
    for (size_t i = 0; i < ST_COUNT; i++) {
        (void)sqlite3_finalize(j->prepared[i]);
        j->prepared[i] = NULL;
    }
    (void)sqlite3_close(j->db);
    j->db = NULL;
}

/*
 * What was made in the directory stays there. SQLite syncs it too when it has made the log, but does not look whether that
 * worked; a log that vanishes takes with it what was acknowledged, and the database with half a checkpoint in it.
 */
static enum sp_err sync_directory(struct sp_journal *j)
{
    char *slash = strrchr(j->path, '/');
    *slash = '\0';
    int dir = open(j->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    *slash = '/';
    bool bad = dir < 0 || fsync(dir) != 0;
    if (bad) {
        (void)snprintf(j->error, sizeof(j->error), "directory: %s", strerror(errno));
    }
    if (dir >= 0) {
        (void)close(dir);
    }
    return bad ? SP_ERR_IO : SP_OK;
}

/*
 * Started as root for somebody else's state directory, we make things before we become that user: they get the owner of
 * the folder that they are in.
 */
static bool give_to_owner(struct sp_journal *j)
{
    struct stat folder;
    char *slash = strrchr(j->path, '/');
    *slash = '\0';
    bool known = stat(j->path, &folder) == 0;
    *slash = '/';
    return known && (geteuid() != 0 || lchown(j->path, folder.st_uid, folder.st_gid) == 0);
}

/* The file itself is made here, not by SQLite, so that it never has another mode than 0600. */
static enum sp_err make_file(struct sp_journal *j)
{
    int fd = open(j->path, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        (void)snprintf(j->error, sizeof(j->error), "%s", strerror(errno));
        return SP_ERR_IO;
    }
    bool bad = fchmod(fd, 0600) != 0 || !give_to_owner(j);
    (void)close(fd);
    return bad ? SP_ERR_IO : sync_directory(j);
}

static bool write_anew(int fd)
{
    uint8_t chunk[16384];
    off_t at = 0;
    ssize_t got;
    while ((got = pread(fd, chunk, sizeof(chunk), at)) > 0) {
        ssize_t put = pwrite(fd, chunk, (size_t)got, at);
        if (put <= 0) {
            return false;
        }
        at += put;
    }
    return got == 0 && fdatasync(fd) == 0;
}

/*
 * What a failed sync covered can still be read, until a power cut takes it and all that was built on it. The process that
 * saw the failure may have died before it could act. So a log that is found here is written anew and synced first;
 * the lock keeps an operator's requeue out of it meanwhile.
 */
static int renew_log(struct sp_journal *j)
{
    char path[4096];
    int len = snprintf(path, sizeof(path), "%s-wal", j->path);
    int rc = len < 0 || (size_t)len >= sizeof(path)
                 ? SQLITE_CANTOPEN
                 : sqlite3_exec(j->db, "BEGIN IMMEDIATE", NULL, NULL, NULL);
    if (rc != SQLITE_OK) {
        return rc;
    }
    int fd = open(path, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) {
        rc = errno == ENOENT ? SQLITE_OK : SQLITE_CANTOPEN;
    } else {
        rc = write_anew(fd) ? SQLITE_OK : SQLITE_IOERR_FSYNC;
        (void)close(fd);
    }
    int end = sqlite3_exec(j->db, "ROLLBACK", NULL, NULL, NULL);
    return rc == SQLITE_OK ? end : rc;
}

static int connect_db(struct sp_journal *j)
{
    static const char pragmas[] =
        "PRAGMA synchronous=FULL;PRAGMA temp_store=MEMORY;PRAGMA mmap_size=0;"
        "PRAGMA cell_size_check=ON;PRAGMA trusted_schema=OFF;"
        "PRAGMA wal_autocheckpoint=2000;PRAGMA journal_size_limit=16777216;"
        "PRAGMA secure_delete=FAST;"; /* what is freed is not written once more */
    const int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    int rc = sqlite3_open_v2(j->path, &j->db, flags, NULL);
    if (rc == SQLITE_OK) {
        (void)sqlite3_extended_result_codes(j->db, 1);
        (void)sqlite3_busy_timeout(j->db, 1000);
        rc = sqlite3_exec(j->db, pragmas, NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? renew_log(j) : rc;
}

static int make_schema(struct sp_journal *j)
{
    uint32_t random;
    if (getrandom(&random, sizeof(random), 0) != (ssize_t)sizeof(random)) {
        return SQLITE_IOERR;
    }
    char sql[sizeof(schema) + sizeof(upgrade_2) + sizeof(upgrade_3) + 320];
    (void)snprintf(sql, sizeof(sql),
                   "BEGIN IMMEDIATE;%s"
                   "INSERT INTO meta VALUES('epoch','%08" PRIx32 "%08" PRIx32 "');"
                   "PRAGMA application_id=%d;%s%sCOMMIT;",
                   schema, (uint32_t)time(NULL), random, APPLICATION_ID, upgrade_2, upgrade_3);
    return sqlite3_exec(j->db, sql, NULL, NULL, NULL);
}

static int read_epoch(struct sp_journal *j)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(j->db, "SELECT value FROM meta WHERE key='epoch'", -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
        bool sound = rc == SQLITE_ROW && sqlite3_column_bytes(st, 0) == (int)SP_JOURNAL_EPOCH_LEN;
        if (sound) {
            memcpy(j->epoch, sqlite3_column_text(st, 0), SP_JOURNAL_EPOCH_LEN);
        }
        rc = sound ? SQLITE_OK : rc == SQLITE_ROW || rc == SQLITE_DONE ? SQLITE_CORRUPT : rc;
    }
    (void)sqlite3_finalize(st);
    return rc;
}

/* Ours, and of a version that we know: looked at before anything is written, so that what is refused stays as it is. */
static enum sp_err check_origin(struct sp_journal *j, int64_t *version)
{
    int rc;
    int64_t id = number(j, "PRAGMA application_id", &rc);
    *version = rc == SQLITE_OK ? number(j, "PRAGMA user_version", &rc) : 0;
    if (rc != SQLITE_OK) {
        return fail(j, rc);
    }
    if (id != APPLICATION_ID) {
        (void)snprintf(j->error, sizeof(j->error), "it is a database, but no journal of ours");
        return SP_ERR_MALFORMED;
    }
    if (*version < 1 || *version > SCHEMA_VERSION) {
        (void)snprintf(j->error, sizeof(j->error), "it has version %lld, this program knows %d",
                       (long long)*version, SCHEMA_VERSION);
        return SP_ERR_UNSUPPORTED;
    }
    rc = read_epoch(j);
    return rc == SQLITE_OK ? SP_OK : fail(j, rc);
}

static int use_log(struct sp_journal *j)
{
    return sqlite3_exec(j->db, "PRAGMA journal_mode=WAL", NULL, NULL, NULL);
}

/* A file of ours with our version, or an empty one that becomes it. */
static enum sp_err check_schema(struct sp_journal *j)
{
    int rc;
    int64_t version = SCHEMA_VERSION;
    bool empty = number(j, "SELECT count(*) FROM sqlite_master", &rc) == 0;
    if (rc != SQLITE_OK) {
        return fail(j, rc);
    }
    if (!empty) {
        SP_TRY(check_origin(j, &version));
    }
    rc = use_log(j);
    if (rc == SQLITE_OK && empty) {
        rc = make_schema(j);
        rc = rc == SQLITE_OK ? read_epoch(j) : rc;
    }
    if (rc == SQLITE_OK && version < SCHEMA_VERSION) {
        char sql[sizeof(upgrade_2) + sizeof(upgrade_3) + 32];
        (void)snprintf(sql, sizeof(sql), "BEGIN IMMEDIATE;%s%sCOMMIT;",
                       version < 2 ? upgrade_2 : "", upgrade_3);
        rc = sqlite3_exec(j->db, sql, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(j->db, more_schema, NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? SP_OK : fail(j, rc);
}

/* One scan over everything: what it holds. */
static int take_stock(struct sp_journal *j, struct sp_journal_stats *stats)
{
    struct sp_journal_stats s = {0};
    struct sp_messages_walk walk;
    struct sp_stored message = {.seq = 0};
    int rc = sp_messages_walk(j->messages, 0, &walk);
    rc = rc == SQLITE_OK ? sp_messages_next(&walk, &message) : rc;
    for (; rc == SQLITE_ROW; rc = sp_messages_next(&walk, &message)) {
        s.messages++;
        s.bytes += sp_stored_cost(&message);
    }
    sp_messages_end(&walk);
    if (rc == SQLITE_DONE) {
        s.dead_letters = (uint64_t)number(j, "SELECT count(*) FROM dead_letters", &rc);
    }
    if (rc == SQLITE_OK) {
        s.dead_bytes = (uint64_t)number(j, "SELECT sum" COST " FROM dead_letters", &rc);
    }
    if (rc == SQLITE_OK) {
        *stats = s;
    }
    return rc;
}

static int prepare_all(struct sp_journal *j)
{
    int rc = SQLITE_OK;
    for (size_t i = 0; i < ST_COUNT && rc == SQLITE_OK; i++) {
        rc = sqlite3_prepare_v3(j->db, statements[i], -1, SQLITE_PREPARE_PERSISTENT,
                                &j->prepared[i], NULL);
    }
    rc = rc == SQLITE_OK ? sp_messages_connect(j->messages, j->db) : rc;
    return rc == SQLITE_OK ? sp_sessions_connect(j->sessions, j->db) : rc;
}

/* The highest sequence ever given. */
static int read_last(struct sp_journal *j, uint64_t *last)
{
    sqlite3_stmt *st = j->prepared[ST_LAST];
    int rc = sqlite3_step(st);
    int64_t value = rc == SQLITE_ROW ? sqlite3_column_int64(st, 0) : -1;
    int reset = sqlite3_reset(st);
    if (rc != SQLITE_ROW || reset != SQLITE_OK) {
        return rc == SQLITE_DONE ? SQLITE_CORRUPT : rc == SQLITE_ROW ? reset : rc;
    }
    *last = (uint64_t)value;
    return value < 0 ? SQLITE_CORRUPT : SQLITE_OK;
}

static enum sp_err open_all(struct sp_journal *j)
{
    SP_TRY(make_file(j));
    int rc = connect_db(j);
    if (rc != SQLITE_OK) {
        return fail(j, rc);
    }
    SP_TRY(check_schema(j));
    rc = prepare_all(j);
    rc = rc == SQLITE_OK ? take_stock(j, &j->stats) : rc;
    rc = rc == SQLITE_OK ? read_last(j, &j->last) : rc;
    rc = rc == SQLITE_OK ? sp_sessions_tidy(j->sessions) : rc;
    return rc == SQLITE_OK ? sync_directory(j) : fail(j, rc);
}

/* Made once, beside the registry; the entry is synced, or a power cut takes the journal with it. */
static enum sp_err make_folder(struct sp_journal *j)
{
    char *slash = strrchr(j->path, '/');
    *slash = '\0';
    bool made = mkdir(j->path, 0700) == 0;
    bool bad = !made && errno != EEXIST;
    enum sp_err err = made ? sync_directory(j) : SP_OK;
    bad = bad || (made && !give_to_owner(j));
    *slash = '/';
    if (bad) {
        (void)snprintf(j->error, sizeof(j->error), "directory: %s", strerror(errno));
        err = SP_ERR_IO;
    }
    return err;
}

enum sp_err sp_journal_open(const char *state_dir, char *why, size_t why_cap,
                            struct sp_journal **out)
{
    *out = NULL;
    /* Nobody asks SQLite how much memory it uses; the count costs a lock per allocation. */
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    size_t cap = strlen(state_dir) + sizeof("/" SP_JOURNAL_FILE);
    struct sp_journal *j = calloc(1, sizeof(*j) + cap);
    if (j == NULL) {
        (void)snprintf(why, why_cap, "out of memory");
        return SP_ERR_NOMEM;
    }
    (void)snprintf(j->path, cap, "%s/" SP_JOURNAL_FILE, state_dir);
    j->sessions = sp_sessions_create();
    j->messages = sp_messages_create();
    enum sp_err err = j->sessions == NULL || j->messages == NULL ? SP_ERR_NOMEM : make_folder(j);
    if (err == SP_OK) {
        err = open_all(j);
    }
    if (err != SP_OK) {
        (void)snprintf(why, why_cap, "%s: %s", j->path, sp_journal_error(j));
        sp_journal_close(j);
        return err;
    }
    *out = j;
    return SP_OK;
}

void sp_journal_close(struct sp_journal *journal)
{
    if (journal != NULL) {
        if (journal->sessions != NULL && journal->messages != NULL) {
            shut(journal);
        }
        sp_messages_destroy(journal->messages);
        sp_sessions_destroy(journal->sessions);
        free(journal);
    }
}

const char *sp_journal_epoch(const struct sp_journal *journal)
{
    return journal->epoch;
}

struct sp_journal_stats sp_journal_stats(const struct sp_journal *journal)
{
    return journal->stats;
}

uint64_t sp_journal_last(const struct sp_journal *journal)
{
    return journal->last;
}

bool sp_journal_broken(const struct sp_journal *journal)
{
    return journal->broken;
}

const char *sp_journal_error(const struct sp_journal *journal)
{
    return journal->error[0] != '\0' ? journal->error : "cannot be used";
}

static int bind_mark(sqlite3_stmt *st, const struct sp_row *row, int64_t epoch)
{
    int rc = sp_statement_text(st, 1, row->device);
    rc = rc == SQLITE_OK ? sp_statement_text(st, 2, row->group) : rc;
    return rc == SQLITE_OK ? sqlite3_bind_int64(st, 3, epoch) : rc;
}

/* With the first record of an epoch, marks that nobody can need any more go. */
static int move_mark(struct sp_journal *j, const struct sp_row *row)
{
    sqlite3_stmt *mark = j->prepared[ST_MARK];
    int rc = bind_mark(mark, row, row->epoch);
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(mark, 4, (int64_t)row->counter) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(mark, 5, (int64_t)j->first) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(mark, 6, (int64_t)j->last) : rc;
    rc = rc == SQLITE_OK ? run(j, ST_MARK) : rc;
    if (rc == SQLITE_OK && row->epoch > EPOCHS_KEPT && row->counter == 1) {
        rc = bind_mark(j->prepared[ST_UNMARK], row, (int64_t)row->epoch - EPOCHS_KEPT);
        rc = rc == SQLITE_OK ? run(j, ST_UNMARK) : rc;
    }
    return rc;
}

static int bury(struct sp_journal *j, const struct sp_row *row)
{
    sqlite3_stmt *st = j->prepared[ST_BURY];
    const int64_t numbers[] = {(int64_t)row->seq, row->stream, (int64_t)row->time_ms, row->expiry_s,
                               row->qos,          row->format, row->protection,       row->flags};
    int rc = SQLITE_OK;
    for (int i = 0; i < 8 && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_int64(st, i + 1, numbers[i]);
    }
    rc = rc == SQLITE_OK ? sp_statement_text(st, 9, row->device) : rc;
    rc = rc == SQLITE_OK ? sp_statement_text(st, 10, row->topic) : rc;
    rc = rc == SQLITE_OK ? sp_statement_text(st, 11, row->origin) : rc;
    rc = rc == SQLITE_OK ? sp_statement_blob(st, 12, row->payload) : rc;
    rc = rc == SQLITE_OK ? sp_statement_text(st, 13, sp_view_str(row->reason)) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 14, (int64_t)row->end_ms) : rc;
    return rc == SQLITE_OK ? run(j, ST_BURY) : rc;
}

/* A message gets its sequence. One that was refused never is among the messages. */
static int insert(struct sp_journal *j, struct sp_row *row)
{
    int rc = row->counter != 0 ? move_mark(j, row) : SQLITE_OK;
    if (rc != SQLITE_OK || (row->flags & SP_RECORD_MARK) != 0) {
        return rc;
    }
    row->seq = ++j->given;
    return (row->flags & SP_RECORD_REFUSED) != 0 ? bury(j, row)
                                                 : sp_messages_append(j->messages, row);
}

/* ---- packet ids of QoS 2 ---- */

static int bind_packet(struct sp_journal *j, enum statement which, const struct sp_row *row)
{
    int rc = sp_statement_text(j->prepared[which], 1, row->device);
    return rc == SQLITE_OK ? sqlite3_bind_int64(j->prepared[which], 2, row->packet_id) : rc;
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

static int is_repeat(struct sp_journal *j, const struct sp_row *row, bool *repeat)
{
    *repeat = false;
    if ((row->flags & SP_RECORD_REPEAT) == 0) {
        return SQLITE_OK;
    }
    sqlite3_stmt *st = j->prepared[ST_RECEIVED];
    int rc = bind_packet(j, ST_RECEIVED, row);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    *repeat = rc == SQLITE_ROW && sqlite3_column_int64(st, 0) == digest_of(row);
    int reset = sqlite3_reset(st);
    return rc == SQLITE_ROW || rc == SQLITE_DONE ? reset : rc;
}

static int receive(struct sp_journal *j, const struct sp_row *row)
{
    sqlite3_stmt *st = j->prepared[ST_RECEIVE];
    sqlite3_stmt *prune = j->prepared[ST_PRUNE];
    int rc = bind_packet(j, ST_RECEIVE, row);
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 3, (int64_t)row->seq) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 4, digest_of(row)) : rc;
    rc = rc == SQLITE_OK ? run(j, ST_RECEIVE) : rc;
    rc = rc == SQLITE_OK ? sp_statement_text(prune, 1, row->device) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int(prune, 2, SP_JOURNAL_PACKET_IDS) : rc;
    return rc == SQLITE_OK ? run(j, ST_PRUNE) : rc;
}

static int append_packet(struct sp_journal *j, struct sp_row *row)
{
    if ((row->flags & SP_RECORD_RELEASE) != 0) {
        int rc = bind_packet(j, ST_RELEASE, row);
        return rc == SQLITE_OK ? run(j, ST_RELEASE) : rc;
    }
    bool repeat = false;
    int rc = is_repeat(j, row, &repeat);
    if (rc != SQLITE_OK || repeat) {
        return rc;
    }
    rc = insert(j, row);
    return rc == SQLITE_OK ? receive(j, row) : rc;
}

struct leaving {
    struct sp_journal *journal;
    struct sp_journal_stats *stats;
};

static int let_go(void *arg, const struct sp_row *row)
{
    const struct leaving *l = arg;
    struct sp_journal *j = l->journal;
    int rc = SQLITE_OK;
    l->stats->messages--;
    l->stats->bytes -= sp_row_cost(row);
    if (row->end == SP_ROW_DEAD) {
        rc = bury(j, row);
        l->stats->dead_letters++;
        l->stats->dead_bytes += sp_row_cost(row);
    }
    return rc;
}

/* It is among the dead letters when this commit is; the device's oldest may have to go. */
static int count_refused(struct sp_journal *j, struct sp_row *row, struct sp_journal_stats *s)
{
    sqlite3_stmt *forget = j->prepared[ST_FORGET];
    int rc = sp_statement_text(forget, 1, row->device);
    rc = rc == SQLITE_OK ? sqlite3_step(forget) : rc;
    s->dead_letters++;
    s->dead_bytes += sp_row_cost(row);
    if (rc == SQLITE_ROW) { /* the device had as many as are kept */
        s->dead_letters--;
        s->dead_bytes -= (uint64_t)sqlite3_column_int64(forget, 0);
        rc = SQLITE_DONE;
    }
    int reset = sqlite3_reset(forget);
    row->seq = 0;
    return rc == SQLITE_DONE ? reset : rc;
}

static int append_row(struct sp_journal *j, struct sp_row *row, struct sp_journal_stats *s)
{
    int rc = row->packet_id != 0 ? append_packet(j, row) : insert(j, row);
    if (rc != SQLITE_OK || row->seq == 0) {
        return rc;
    }
    if ((row->flags & SP_RECORD_REFUSED) != 0) {
        return count_refused(j, row, s);
    }
    s->messages++;
    s->bytes += sp_row_cost(row);
    return SQLITE_OK;
}

static int append_all(struct sp_journal *j, struct sp_row_list *append, struct sp_journal_stats *s)
{
    uint64_t before = 0;
    int rc = read_last(j, &before); /* an operator may have given some */
    j->first = 0;
    j->given = before;
    for (const struct sp_row *row = append->head; row != NULL && j->first == 0; row = row->next) {
        j->first = (row->flags & (SP_RECORD_MARK | SP_RECORD_RELEASE)) == 0 ? j->last + 1 : 0;
    }
    sp_messages_begin(j->messages);
    for (struct sp_row *row = append->head; row != NULL && rc == SQLITE_OK; row = row->next) {
        rc = append_row(j, row, s);
    }
    rc = rc == SQLITE_OK ? sp_messages_flush(j->messages) : rc;
    if (rc == SQLITE_OK && j->given > before) {
        rc = sqlite3_bind_int64(j->prepared[ST_GIVEN], 1, (int64_t)j->given);
        rc = rc == SQLITE_OK ? run(j, ST_GIVEN) : rc;
    }
    return rc;
}

static int write_all(struct sp_journal *j, struct sp_row_list *append,
                     const struct sp_row_list *ended, struct sp_journal_stats *s)
{
    struct leaving leaving = {.journal = j, .stats = s};
    int rc = run(j, ST_BEGIN);
    rc = rc == SQLITE_OK ? append_all(j, append, s) : rc;
    rc = rc == SQLITE_OK ? sp_messages_let_go(j->messages, ended, let_go, &leaving) : rc;
    rc = rc == SQLITE_OK ? sp_sessions_write(j->sessions) : rc;
    return rc == SQLITE_OK ? run(j, ST_COMMIT) : rc;
}

enum sp_err sp_journal_commit(struct sp_journal *journal, struct sp_row_list *append,
                              const struct sp_row_list *ended)
{
    struct sp_journal_stats stats = journal->stats;
    int rc = journal->broken ? SQLITE_IOERR : write_all(journal, append, ended, &stats);
    sp_sessions_written(journal->sessions, rc == SQLITE_OK);
    if (rc == SQLITE_OK) {
        journal->stats = stats;
        journal->last = journal->given;
        return SP_OK;
    }
    if (!journal->broken) {
        (void)fail(journal, rc);
        (void)run(journal, ST_ROLLBACK);
    }
    for (struct sp_row *row = append->head; row != NULL; row = row->next) {
        row->seq = 0;
    }
    return SP_ERR_IO;
}

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
    enum sp_err err = rc == SQLITE_OK ? SP_OK : fail(journal, rc);
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
        err = fail(journal, rc);
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
    return err != SP_OK || rc == SQLITE_DONE || rc == SQLITE_ROW ? err : fail(journal, rc);
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
    return rc == SQLITE_DONE ? SP_OK : fail(journal, rc);
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

bool sp_journal_changed(struct sp_journal *journal)
{
    if (journal->broken) {
        return false;
    }
    sqlite3_stmt *st = journal->prepared[ST_VERSION];
    int64_t version =
        sqlite3_step(st) == SQLITE_ROW ? sqlite3_column_int64(st, 0) : journal->version;
    (void)sqlite3_reset(st);
    if (version == journal->version) {
        return false;
    }
    journal->version = version;
    int rc = take_stock(journal, &journal->stats);
    rc = rc == SQLITE_OK ? read_last(journal, &journal->last) : rc;
    if (rc != SQLITE_OK) {
        (void)fail(journal, rc);
    }
    return rc == SQLITE_OK;
}

enum sp_err sp_journal_recover(struct sp_journal *journal)
{
    shut(journal);
    journal->broken = true;
    int rc = connect_db(journal);
    rc = rc == SQLITE_OK ? use_log(journal) : rc;
    rc = rc == SQLITE_OK
             ? sqlite3_wal_checkpoint_v2(journal->db, NULL, SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL)
             : rc;
    if (rc == SQLITE_OK) {
        char sql[512];
        (void)snprintf(sql, sizeof(sql),
                       "BEGIN IMMEDIATE;DELETE FROM messages WHERE seq>%" PRIu64 ";"
                       "DELETE FROM batches WHERE first>%" PRIu64 ";"
                       "DELETE FROM gone WHERE first>%" PRIu64 ";"
                       "DELETE FROM dead_letters WHERE seq>%" PRIu64 ";"
                       "UPDATE marks SET counter=before,seq=0 WHERE seq>%" PRIu64 ";"
                       "DELETE FROM received WHERE seq>%" PRIu64 ";"
                       "INSERT OR REPLACE INTO meta VALUES('recovered','%lld');COMMIT;",
                       journal->last, journal->last, journal->last, journal->last, journal->last,
                       journal->last, (long long)time(NULL));
        rc = sqlite3_exec(journal->db, sql, NULL, NULL, NULL);
    }
    rc = rc == SQLITE_OK ? prepare_all(journal) : rc;
    rc = rc == SQLITE_OK ? take_stock(journal, &journal->stats) : rc;
    if (rc != SQLITE_OK) {
        (void)fail(journal, rc);
        return SP_ERR_IO;
    }
    SP_TRY(sync_directory(journal));
    journal->broken = false;
    return SP_OK;
}

/* ---- for the operator ---- */

static int visit_dead(sqlite3 *db, sp_journal_visit_fn fn, void *arg)
{
    static const char sql[] = "SELECT seq,time_ms,device,topic,payload,dead_ms,reason,origin"
                              " FROM dead_letters ORDER BY seq";
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
    }
    while (rc == SQLITE_ROW) {
        const struct sp_journal_entry entry = {
            .seq = (uint64_t)sqlite3_column_int64(st, 0),
            .time_ms = (uint64_t)sqlite3_column_int64(st, 1),
            .device = sp_statement_column(st, 2),
            .topic = sp_statement_column(st, 3),
            .payload = sp_statement_column(st, 4),
            .dead_ms = (uint64_t)sqlite3_column_int64(st, 5),
            .reason = sp_statement_column(st, 6),
            .origin = sp_statement_column(st, 7),
        };
        fn(arg, &entry);
        rc = sqlite3_step(st);
    }
    (void)sqlite3_finalize(st);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

static int visit_messages(sqlite3 *db, sp_journal_visit_fn fn, void *arg)
{
    struct sp_messages *messages = sp_messages_create();
    struct sp_messages_walk walk;
    struct sp_stored m = {.seq = 0};
    int rc = messages == NULL ? SQLITE_NOMEM : sp_messages_connect(messages, db);
    rc = rc == SQLITE_OK ? sqlite3_exec(db, "BEGIN", NULL, NULL, NULL) : rc;
    if (rc == SQLITE_OK) {
        rc = sp_messages_walk(messages, 0, &walk);
        rc = rc == SQLITE_OK ? sp_messages_next(&walk, &m) : rc;
        for (; rc == SQLITE_ROW; rc = sp_messages_next(&walk, &m)) {
            const struct sp_journal_entry entry = {
                .seq = m.seq,
                .time_ms = m.time_ms,
                .device = m.device,
                .topic = m.topic,
                .origin = m.origin,
                .payload = m.payload,
            };
            fn(arg, &entry);
        }
        sp_messages_end(&walk);
        (void)sqlite3_exec(db, "ROLLBACK", NULL, NULL, NULL);
    }
    sp_messages_destroy(messages);
    return rc == SQLITE_DONE ? SQLITE_OK : rc;
}

/* Beside a store that may be running. */
static enum sp_err open_beside(const char *state_dir, int how, sqlite3 **db, char *why,
                               size_t why_cap)
{
    char path[4096];
    int len = snprintf(path, sizeof(path), "%s/" SP_JOURNAL_FILE, state_dir);
    if (len < 0 || (size_t)len >= sizeof(path) || access(path, F_OK) != 0) {
        (void)snprintf(why, why_cap, "no journal in %s", state_dir);
        return SP_ERR_NOT_FOUND;
    }
    int rc = sqlite3_open_v2(path, db, how | SQLITE_OPEN_NOMUTEX, NULL);
    if (rc != SQLITE_OK) {
        (void)snprintf(why, why_cap, "%s: %s", path, sqlite3_errstr(rc));
        (void)sqlite3_close(*db);
        return err_of(rc);
    }
    (void)sqlite3_busy_timeout(*db, 5000);
    return SP_OK;
}

static enum sp_err close_beside(sqlite3 *db, int rc, char *why, size_t why_cap)
{
    if (rc != SQLITE_OK) {
        (void)snprintf(why, why_cap, "%s: %s", SP_JOURNAL_FILE, words(db, rc));
    }
    (void)sqlite3_close(db);
    return rc == SQLITE_OK ? SP_OK : err_of(rc);
}

enum sp_err sp_journal_visit(const char *state_dir, bool dead_letters, sp_journal_visit_fn fn,
                             void *arg, char *why, size_t why_cap)
{
    sqlite3 *db = NULL;
    SP_TRY(open_beside(state_dir, SQLITE_OPEN_READONLY, &db, why, why_cap));
    int rc = dead_letters ? visit_dead(db, fn, arg) : visit_messages(db, fn, arg);
    return close_beside(db, rc, why, why_cap);
}

static int requeue(sqlite3 *db, uint64_t seq, uint64_t *count)
{
    char sql[512];
    const char *which = seq == 0 ? "seq>" : "seq=";
    (void)snprintf(sql, sizeof(sql),
                   "BEGIN IMMEDIATE;INSERT INTO messages(stream,time_ms,expiry_s,qos,format,"
                   "protection,flags,device,topic,origin,payload) SELECT stream,time_ms,expiry_s,"
                   "qos,format,protection,flags,device,topic,origin,payload FROM dead_letters"
                   " WHERE NOT " REFUSED " AND %s%" PRIu64 " ORDER BY seq;"
                   "DELETE FROM dead_letters WHERE NOT " REFUSED " AND %s%" PRIu64,
                   which, seq, which, seq);
    int rc = sqlite3_exec(db, sql, NULL, NULL, NULL);
    *count = rc == SQLITE_OK ? (uint64_t)sqlite3_changes(db) : 0;
    return rc == SQLITE_OK ? sqlite3_exec(db, "COMMIT", NULL, NULL, NULL) : rc;
}

enum sp_err sp_journal_requeue(const char *state_dir, uint64_t seq, uint64_t *count, char *why,
                               size_t why_cap)
{
    sqlite3 *db = NULL;
    SP_TRY(open_beside(state_dir, SQLITE_OPEN_READWRITE, &db, why, why_cap));
    int rc = sqlite3_exec(db, "PRAGMA synchronous=FULL", NULL, NULL, NULL);
    rc = rc == SQLITE_OK ? requeue(db, seq, count) : rc;
    return close_beside(db, rc, why, why_cap);
}
