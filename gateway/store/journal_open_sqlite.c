/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Why a failed commit leads to a re-open with a checkpoint: after a failed fsync Linux calls the lost pages clean, so
 * a later fsync of the same log would report success over a hole, and everything behind the hole would be gone after a
 * power cut. Opening anew writes the log anew, the checkpoint moves what it holds into the database
 * and starts an empty log. What the failed commit left in it is deleted: it was refused.
 */
#include "gateway/store/journal_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

/* ---- the folder and the file ---- */

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

/* ---- the connection ---- */

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

static void shut(struct sp_journal *j)
{
    sp_journal_unprepare(j);
    (void)sqlite3_close(j->db);
    j->db = NULL;
}

/* ---- life ---- */

static enum sp_err open_all(struct sp_journal *j)
{
    SP_TRY(make_file(j));
    int rc = connect_db(j);
    if (rc != SQLITE_OK) {
        return sp_journal_failed(j, rc);
    }
    SP_TRY(sp_journal_check_schema(j));
    rc = sp_journal_prepare(j);
    rc = rc == SQLITE_OK ? sp_journal_take_stock(j) : rc;
    rc = rc == SQLITE_OK ? sp_journal_read_last(j, &j->last) : rc;
    rc = rc == SQLITE_OK ? sp_sessions_tidy(j->sessions) : rc;
    return rc == SQLITE_OK ? sync_directory(j) : sp_journal_failed(j, rc);
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

enum sp_err sp_journal_recover(struct sp_journal *journal)
{
    shut(journal);
    journal->broken = true;
    int rc = connect_db(journal);
    rc = rc == SQLITE_OK ? sp_journal_use_log(journal) : rc;
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
    rc = rc == SQLITE_OK ? sp_journal_prepare(journal) : rc;
    rc = rc == SQLITE_OK ? sp_journal_take_stock(journal) : rc;
    if (rc != SQLITE_OK) {
        (void)sp_journal_failed(journal, rc);
        return SP_ERR_IO;
    }
    SP_TRY(sync_directory(journal));
    journal->broken = false;
    return SP_OK;
}
