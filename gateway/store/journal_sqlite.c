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

#include "gateway/store/sessions_internal.h"

#define APPLICATION_ID 0x53504a31 /* "SPJ1" */
#define SCHEMA_VERSION 2
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
/* What version 2 adds. */
static const char upgrade[] =
    "ALTER TABLE messages ADD COLUMN counter INTEGER NOT NULL DEFAULT 0;"
    "CREATE TABLE marks(device TEXT NOT NULL, name TEXT NOT NULL, epoch INTEGER NOT NULL,"
    " counter INTEGER NOT NULL, before INTEGER NOT NULL, seq INTEGER NOT NULL,"
    " PRIMARY KEY(device, name, epoch)) WITHOUT ROWID;"
    "PRAGMA user_version=2;";

#define COLUMNS                                                                                    \
    "seq,stream,time_ms,expiry_s,qos,format,protection,flags,device,topic,origin,payload"
#define ALL_COLUMNS COLUMNS ",counter"
#define COST                                                                                       \
    "(length(CAST(device AS BLOB))+length(CAST(topic AS BLOB))+length(CAST(origin AS BLOB))"      \
    "+length(payload)+64)"

enum statement {
    ST_BEGIN, ST_COMMIT, ST_ROLLBACK, ST_INSERT, ST_DELETE, ST_BURY, ST_SCAN, ST_OLDEST,
    ST_RECEIVED, ST_RECEIVE, ST_RELEASE, ST_PRUNE, ST_VERSION,
    ST_MARK, ST_UNMARK, ST_FORGET, ST_COUNT
};

static const char *const statements[ST_COUNT] = {
    [ST_BEGIN] = "BEGIN IMMEDIATE",
    [ST_COMMIT] = "COMMIT",
    [ST_ROLLBACK] = "ROLLBACK",
    [ST_INSERT] = "INSERT INTO messages(stream,time_ms,expiry_s,qos,format,protection,flags,"
                  "device,topic,origin,payload,counter)"
                  " VALUES(?1,?2,?3,?4,?5,?6,?7,?8,?9,?10,?11,?12)",
    [ST_DELETE] = "DELETE FROM messages WHERE seq BETWEEN ?1 AND ?2",
    [ST_BURY] = "INSERT OR REPLACE INTO dead_letters(" COLUMNS ",reason,dead_ms)"
                " SELECT " COLUMNS ",?2,?3 FROM messages WHERE seq=?1",
    [ST_SCAN] = "SELECT " ALL_COLUMNS " FROM messages WHERE seq>?1 ORDER BY seq",
    /* ?5: first sequence of this commit, 0 without messages; ?6: last one of those before */
    [ST_MARK] = "INSERT INTO marks VALUES(?1,?2,?3,?4,0,?5) ON CONFLICT DO UPDATE"
                " SET before=CASE WHEN seq>?6 THEN before ELSE counter END,"
                " counter=max(counter,excluded.counter), seq=excluded.seq",
    [ST_UNMARK] = "DELETE FROM marks WHERE device=?1 AND name=?2 AND epoch<=?3",
    [ST_FORGET] = "DELETE FROM dead_letters WHERE seq=(SELECT seq FROM dead_letters"
                  " WHERE device=?1 AND " REFUSED " ORDER BY seq DESC LIMIT 1 OFFSET "
                  TEXT(SP_JOURNAL_REFUSED) ") RETURNING " COST,
    [ST_OLDEST] = "SELECT time_ms FROM messages ORDER BY seq LIMIT 1",
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
    struct sp_journal_stats stats;
    uint64_t last;
    uint64_t first;  /* of the commit that is being written; 0: it has no messages */
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

/* Remember what went wrong, and take nothing more until sp_journal_recover(). */
static enum sp_err fail(struct sp_journal *j, int rc)
{
    bool told = j->db != NULL && sqlite3_errcode(j->db) != SQLITE_OK;
    (void)snprintf(j->error, sizeof(j->error), "%s",
                   told ? sqlite3_errmsg(j->db) : sqlite3_errstr(rc));
    j->broken = true;
    return err_of(rc);
}

static int run(struct sp_journal *j, enum statement which)
{
    sqlite3_stmt *st = j->prepared[which];
    int rc = sqlite3_step(st);
    int reset = sqlite3_reset(st);
    return rc == SQLITE_DONE || rc == SQLITE_ROW ? reset : rc;
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
        "PRAGMA wal_autocheckpoint=2000;PRAGMA journal_size_limit=16777216;";
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
    char sql[sizeof(schema) + sizeof(upgrade) + 320];
    (void)snprintf(sql, sizeof(sql),
                   "BEGIN IMMEDIATE;%s"
                   "INSERT INTO meta VALUES('epoch','%08" PRIx32 "%08" PRIx32 "');"
                   "PRAGMA application_id=%d;%sCOMMIT;",
                   schema, (uint32_t)time(NULL), random, APPLICATION_ID, upgrade);
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
        char sql[sizeof(upgrade) + 32];
        (void)snprintf(sql, sizeof(sql), "BEGIN IMMEDIATE;%sCOMMIT;", upgrade);
        rc = sqlite3_exec(j->db, sql, NULL, NULL, NULL);
    }
    if (rc == SQLITE_OK) {
        rc = sqlite3_exec(j->db, more_schema, NULL, NULL, NULL);
    }
    return rc == SQLITE_OK ? SP_OK : fail(j, rc);
}

/* One scan over both tables: what they hold. */
static int take_stock(struct sp_journal *j, struct sp_journal_stats *stats)
{
    int rc;
    struct sp_journal_stats s = {0};
    s.messages = (uint64_t)number(j, "SELECT count(*) FROM messages", &rc);
    if (rc == SQLITE_OK) {
        s.bytes = (uint64_t)number(j, "SELECT sum" COST " FROM messages", &rc);
    }
    if (rc == SQLITE_OK) {
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
    return rc == SQLITE_OK ? sp_sessions_connect(j->sessions, j->db) : rc;
}

static enum sp_err open_all(struct sp_journal *j)
{
    SP_TRY(make_file(j));
    int rc = connect_db(j);
    if (rc != SQLITE_OK) {
        return fail(j, rc);
    }
    SP_TRY(check_schema(j));
    rc = take_stock(j, &j->stats);
    if (rc == SQLITE_OK) {
        rc = prepare_all(j);
    }
    if (rc == SQLITE_OK) {
        j->last = (uint64_t)number(
            j, "SELECT coalesce(max(seq),0) FROM sqlite_sequence WHERE name='messages'", &rc);
    }
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
    enum sp_err err = j->sessions == NULL ? SP_ERR_NOMEM : make_folder(j);
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
        if (journal->sessions != NULL) {
            shut(journal);
        }
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

static int bind_text(sqlite3_stmt *st, int index, struct sp_view text)
{
    const char *ptr = text.len == 0 ? "" : (const char *)text.ptr;
    return sqlite3_bind_text64(st, index, ptr, text.len, SQLITE_STATIC, SQLITE_UTF8);
}

static int bind_blob(sqlite3_stmt *st, int index, struct sp_view bytes)
{
    const void *ptr = bytes.len == 0 ? "" : (const void *)bytes.ptr;
    return sqlite3_bind_blob64(st, index, ptr, bytes.len, SQLITE_STATIC);
}

static int bind_mark(sqlite3_stmt *st, const struct sp_row *row, int64_t epoch)
{
    int rc = bind_text(st, 1, row->device);
    rc = rc == SQLITE_OK ? bind_text(st, 2, row->group) : rc;
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

static int insert(struct sp_journal *j, struct sp_row *row)
{
    sqlite3_stmt *st = j->prepared[ST_INSERT];
    const int64_t numbers[] = {row->stream, (int64_t)row->time_ms, row->expiry_s, row->qos,
                               row->format, row->protection,       row->flags};
    int rc = row->counter != 0 ? move_mark(j, row) : SQLITE_OK;
    if ((row->flags & SP_RECORD_MARK) != 0) {
        return rc;
    }
    for (int i = 0; i < 7 && rc == SQLITE_OK; i++) {
        rc = sqlite3_bind_int64(st, i + 1, numbers[i]);
    }
    rc = rc == SQLITE_OK ? bind_text(st, 8, row->device) : rc;
    rc = rc == SQLITE_OK ? bind_text(st, 9, row->topic) : rc;
    rc = rc == SQLITE_OK ? bind_text(st, 10, row->origin) : rc;
    rc = rc == SQLITE_OK ? bind_blob(st, 11, row->payload) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 12, (int64_t)row->counter) : rc;
    if (rc == SQLITE_OK) {
        rc = run(j, ST_INSERT);
    }
    row->seq = rc == SQLITE_OK ? (uint64_t)sqlite3_last_insert_rowid(j->db) : 0;
    return rc;
}

/* ---- packet ids of QoS 2 ---- */

static int bind_packet(struct sp_journal *j, enum statement which, const struct sp_row *row)
{
    int rc = bind_text(j->prepared[which], 1, row->device);
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
    rc = rc == SQLITE_OK ? bind_text(prune, 1, row->device) : rc;
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

static int bury(struct sp_journal *j, const struct sp_row *row)
{
    sqlite3_stmt *st = j->prepared[ST_BURY];
    int rc = sqlite3_bind_int64(st, 1, (int64_t)row->seq);
    rc = rc == SQLITE_OK ? bind_text(st, 2, sp_view_str(row->reason)) : rc;
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 3, (int64_t)row->end_ms) : rc;
    return rc == SQLITE_OK ? run(j, ST_BURY) : rc;
}

/* Delete rows `first` to `last`, both included. */
static int delete_run(struct sp_journal *j, uint64_t first, uint64_t last)
{
    sqlite3_stmt *st = j->prepared[ST_DELETE];
    int rc = sqlite3_bind_int64(st, 1, (int64_t)first);
    rc = rc == SQLITE_OK ? sqlite3_bind_int64(st, 2, (int64_t)last) : rc;
    return rc == SQLITE_OK ? run(j, ST_DELETE) : rc;
}

/* Let go of `*at` and the rows behind it as long as their sequence has no gap; moves `*at` on. */
static int let_go(struct sp_journal *j, const struct sp_row **at, struct sp_journal_stats *s)
{
    const struct sp_row *row = *at;
    uint64_t first = row->seq;
    uint64_t next = first;
    int rc = SQLITE_OK;
    for (; row != NULL && row->seq == next && rc == SQLITE_OK; row = row->next, next++) {
        s->bytes -= sp_row_cost(row);
        if (row->end == SP_ROW_DEAD) {
            rc = bury(j, row);
            s->dead_letters++;
            s->dead_bytes += sp_row_cost(row);
        }
    }
    *at = row;
    rc = rc == SQLITE_OK ? delete_run(j, first, next - 1) : rc;
    s->messages -= next - first;
    if (rc == SQLITE_OK && (uint64_t)sqlite3_changes(j->db) != next - first) {
        rc = take_stock(j, s); /* somebody else deleted some */
    }
    return rc;
}

/* One that is refused was never a message: it is among the dead letters when this commit is. */
static int bury_refused(struct sp_journal *j, struct sp_row *row, struct sp_journal_stats *s)
{
    sqlite3_stmt *forget = j->prepared[ST_FORGET];
    int rc = bury(j, row);
    rc = rc == SQLITE_OK ? delete_run(j, row->seq, row->seq) : rc;
    rc = rc == SQLITE_OK ? bind_text(forget, 1, row->device) : rc;
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

static int append_row(struct sp_journal *j, struct sp_row *row, struct sp_journal_stats *s,
                      uint64_t *last)
{
    int rc = row->packet_id != 0 ? append_packet(j, row) : insert(j, row);
    if (rc != SQLITE_OK || row->seq == 0) {
        return rc;
    }
    *last = row->seq;
    if ((row->flags & SP_RECORD_REFUSED) != 0) {
        return bury_refused(j, row, s);
    }
    s->messages++;
    s->bytes += sp_row_cost(row);
    return SQLITE_OK;
}

static int write_all(struct sp_journal *j, struct sp_row_list *append,
                     const struct sp_row_list *ended, struct sp_journal_stats *s, uint64_t *last)
{
    int rc = run(j, ST_BEGIN);
    j->first = 0;
    for (const struct sp_row *row = append->head; row != NULL && j->first == 0; row = row->next) {
        j->first = (row->flags & (SP_RECORD_MARK | SP_RECORD_RELEASE)) == 0 ? j->last + 1 : 0;
    }
    for (struct sp_row *row = append->head; row != NULL && rc == SQLITE_OK; row = row->next) {
        rc = append_row(j, row, s, last);
    }
    const struct sp_row *row = ended->head;
    while (row != NULL && rc == SQLITE_OK) {
        rc = let_go(j, &row, s);
    }
    rc = rc == SQLITE_OK ? sp_sessions_write(j->sessions) : rc;
    return rc == SQLITE_OK ? run(j, ST_COMMIT) : rc;
}

enum sp_err sp_journal_commit(struct sp_journal *journal, struct sp_row_list *append,
                              const struct sp_row_list *ended)
{
    struct sp_journal_stats stats = journal->stats;
    uint64_t last = journal->last;
    int rc = journal->broken ? SQLITE_IOERR : write_all(journal, append, ended, &stats, &last);
    sp_sessions_written(journal->sessions, rc == SQLITE_OK);
    if (rc == SQLITE_OK) {
        journal->stats = stats;
        journal->last = last;
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

static struct sp_view column(sqlite3_stmt *st, int index)
{
    const void *ptr = sqlite3_column_blob(st, index);
    return sp_view(ptr, ptr != NULL ? (size_t)sqlite3_column_bytes(st, index) : 0);
}

static struct sp_row *row_of(sqlite3_stmt *st)
{
    struct sp_row *row =
        sp_row_create(column(st, 8), column(st, 9), column(st, 10), column(st, 11));
    if (row != NULL) {
        row->seq = (uint64_t)sqlite3_column_int64(st, 0);
        row->stream = (uint32_t)sqlite3_column_int64(st, 1);
        row->time_ms = (uint64_t)sqlite3_column_int64(st, 2);
        row->expiry_s = (uint32_t)sqlite3_column_int64(st, 3);
        row->qos = (uint8_t)sqlite3_column_int(st, 4);
        row->format = (uint8_t)sqlite3_column_int(st, 5);
        row->protection = (uint8_t)sqlite3_column_int(st, 6);
        row->flags = (uint8_t)sqlite3_column_int(st, 7);
        row->counter = (uint64_t)sqlite3_column_int64(st, 12);
    }
    return row;
}

enum sp_err sp_journal_read(struct sp_journal *journal, const struct sp_journal_want *want,
                            struct sp_row_list *rows, uint64_t *reached)
{
    if (journal->broken) {
        return SP_ERR_IO;
    }
    sqlite3_stmt *scan = journal->prepared[ST_SCAN];
    int rc = sqlite3_bind_int64(scan, 1, (int64_t)want->after);
    size_t count = rows->count + want->max_rows;
    size_t bytes = rows->bytes + want->max_bytes;
    uint64_t seen = want->after;
    enum sp_err err = rc == SQLITE_OK ? SP_OK : fail(journal, rc);
    size_t looked = 0;
    for (rc = SQLITE_ROW; err == SP_OK && looked < READ_SCAN_MAX; looked++) {
        rc = sqlite3_step(scan);
        if (rc != SQLITE_ROW) {
            break;
        }
        int64_t seq = sqlite3_column_int64(scan, 0);
        if ((uint32_t)sqlite3_column_int64(scan, 1) % want->links == want->link) {
            if (rows->count >= count || rows->bytes >= bytes) {
                break;
            }
            struct sp_row *row = row_of(scan);
            if (row == NULL) {
                err = SP_ERR_NOMEM;
                break;
            }
            sp_row_list_push(rows, row);
        }
        seen = (uint64_t)seq;
    }
    if (rc == SQLITE_DONE) {
        seen = journal->last;
    } else if (rc != SQLITE_ROW && err == SP_OK) {
        err = fail(journal, rc);
    }
    (void)sqlite3_reset(scan);
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
            .device = column(st, 0),
            .group = column(st, 1),
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
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(
        journal->db, "SELECT device,sum" COST " FROM messages GROUP BY device", -1, &st, NULL);
    rc = rc == SQLITE_OK ? sqlite3_step(st) : rc;
    while (rc == SQLITE_ROW) {
        fn(arg, column(st, 0), (uint64_t)sqlite3_column_int64(st, 1));
        rc = sqlite3_step(st);
    }
    (void)sqlite3_finalize(st);
    return rc == SQLITE_DONE ? SP_OK : fail(journal, rc);
}

uint64_t sp_journal_oldest_ms(struct sp_journal *journal)
{
    if (journal->broken) {
        return 0;
    }
    sqlite3_stmt *st = journal->prepared[ST_OLDEST];
    uint64_t ms = sqlite3_step(st) == SQLITE_ROW ? (uint64_t)sqlite3_column_int64(st, 0) : 0;
    (void)sqlite3_reset(st);
    return ms;
}

/* The highest sequence ever given. */
static int read_last(struct sp_journal *j)
{
    int rc;
    int64_t last =
        number(j, "SELECT coalesce(max(seq),0) FROM sqlite_sequence WHERE name='messages'", &rc);
    j->last = rc == SQLITE_OK ? (uint64_t)last : j->last;
    return rc;
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
    rc = rc == SQLITE_OK ? read_last(journal) : rc;
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
        char sql[384];
        (void)snprintf(sql, sizeof(sql),
                       "BEGIN IMMEDIATE;DELETE FROM messages WHERE seq>%" PRIu64 ";"
                       "DELETE FROM dead_letters WHERE seq>%" PRIu64 ";"
                       "UPDATE marks SET counter=before,seq=0 WHERE seq>%" PRIu64 ";"
                       "DELETE FROM received WHERE seq>%" PRIu64 ";"
                       "INSERT OR REPLACE INTO meta VALUES('recovered','%lld');COMMIT;",
                       journal->last, journal->last, journal->last, journal->last,
                       (long long)time(NULL));
        rc = sqlite3_exec(journal->db, sql, NULL, NULL, NULL);
    }
    rc = rc == SQLITE_OK ? take_stock(journal, &journal->stats) : rc;
    rc = rc == SQLITE_OK ? prepare_all(journal) : rc;
    if (rc != SQLITE_OK) {
        (void)fail(journal, rc);
        return SP_ERR_IO;
    }
    SP_TRY(sync_directory(journal));
    journal->broken = false;
    return SP_OK;
}

/* ---- for the operator ---- */

static int visit(sqlite3 *db, const char *sql, sp_journal_visit_fn fn, void *arg)
{
    sqlite3_stmt *st = NULL;
    int rc = sqlite3_prepare_v2(db, sql, -1, &st, NULL);
    if (rc == SQLITE_OK) {
        rc = sqlite3_step(st);
    }
    while (rc == SQLITE_ROW) {
        const struct sp_journal_entry entry = {
            .seq = (uint64_t)sqlite3_column_int64(st, 0),
            .time_ms = (uint64_t)sqlite3_column_int64(st, 1),
            .device = column(st, 2),
            .topic = column(st, 3),
            .payload = column(st, 4),
            .dead_ms = (uint64_t)sqlite3_column_int64(st, 5),
            .reason = column(st, 6),
            .origin = column(st, 7),
        };
        fn(arg, &entry);
        rc = sqlite3_step(st);
    }
    (void)sqlite3_finalize(st);
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
        (void)snprintf(why, why_cap, "%s: %s", SP_JOURNAL_FILE, sqlite3_errmsg(db));
    }
    (void)sqlite3_close(db);
    return rc == SQLITE_OK ? SP_OK : err_of(rc);
}

enum sp_err sp_journal_visit(const char *state_dir, bool dead_letters, sp_journal_visit_fn fn,
                             void *arg, char *why, size_t why_cap)
{
    static const char messages[] =
        "SELECT seq,time_ms,device,topic,payload,0,'',origin FROM messages ORDER BY seq";
    static const char dead[] = "SELECT seq,time_ms,device,topic,payload,dead_ms,reason,origin"
                               " FROM dead_letters ORDER BY seq";
    sqlite3 *db = NULL;
    SP_TRY(open_beside(state_dir, SQLITE_OPEN_READONLY, &db, why, why_cap));
    int rc = visit(db, dead_letters ? dead : messages, fn, arg);
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
