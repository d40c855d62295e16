/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/sim/disk.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <string.h>

#include "tests/sim/kernel.h"

#define NODES_MAX 8
#define SECTOR    512U
#define FOLDER_FD 5000
#define REGION    32768
#define REGIONS   64
#define HANDLES   4

enum sector_state { CLEAN, DIRTY, LOST };

struct node {
    char *name;  /* NULL: free */
    bool linked; /* its folder was synced since it was made */
    uint8_t *now;
    uint8_t *safe;
    uint8_t *sectors; /* enum sector_state */
    size_t size;
    size_t safe_size;
    size_t cap;
    void *regions[REGIONS]; /* shared memory: what no cut and no death leaves behind */
};

struct handle {
    sqlite3_file base; /* first: SQLite knows only this */
    struct node *node;
    bool read_only;
};

struct sim_weather sim_disk_weather;

static struct node nodes[NODES_MAX];
static uint32_t doom_at;
static sqlite3 *open_dbs[HANDLES];

int __real_sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs);
int __wrap_sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs);
int __real_sqlite3_close(sqlite3 *db);
int __wrap_sqlite3_close(sqlite3 *db);

/* ---- connections, to be closed for those who die with one ---- */

int __wrap_sqlite3_open_v2(const char *path, sqlite3 **db, int flags, const char *vfs)
{
    int rc = __real_sqlite3_open_v2(path, db, flags, vfs);
    for (int i = 0; i < HANDLES; i++) {
        if (open_dbs[i] == NULL) {
            open_dbs[i] = *db;
            break;
        }
    }
    return rc;
}

int __wrap_sqlite3_close(sqlite3 *db)
{
    for (int i = 0; i < HANDLES; i++) {
        open_dbs[i] = open_dbs[i] == db ? NULL : open_dbs[i];
    }
    return __real_sqlite3_close(db);
}

static bool abandoned; /* the connections that are being closed belong to somebody dead */

static bool has_no_effect(void)
{
    return abandoned || sim_doomed();
}

void sim_disk_abandon(void)
{
    abandoned = true;
    for (int i = 0; i < HANDLES; i++) {
        sqlite3 *db = open_dbs[i];
        open_dbs[i] = NULL;
        sqlite3_stmt *st;
        while (db != NULL && (st = sqlite3_next_stmt(db, NULL)) != NULL) {
            (void)sqlite3_finalize(st);
        }
        (void)__real_sqlite3_close(db);
    }
    abandoned = false;
    for (int i = 0; i < NODES_MAX; i++) {
        for (int r = 0; r < REGIONS; r++) {
            free(nodes[i].regions[r]);
            nodes[i].regions[r] = NULL;
        }
    }
}

/* ---- nodes ---- */

static struct node *find(const char *name)
{
    for (int i = 0; i < NODES_MAX; i++) {
        if (nodes[i].name != NULL && strcmp(nodes[i].name, name) == 0) {
            return &nodes[i];
        }
    }
    return NULL;
}

static struct node *make(const char *name)
{
    for (int i = 0; i < NODES_MAX; i++) {
        if (nodes[i].name == NULL) {
            nodes[i] = (struct node){.name = sim_keep(strlen(name) + 1)};
            memcpy(nodes[i].name, name, strlen(name));
            return &nodes[i];
        }
    }
    abort();
}

static void drop(struct node *n)
{
    free(n->name);
    free(n->now);
    free(n->safe);
    free(n->sectors);
    for (int r = 0; r < REGIONS; r++) {
        free(n->regions[r]);
    }
    *n = (struct node){.name = NULL};
}

static void reserve(struct node *n, size_t size)
{
    if (size <= n->cap) {
        return;
    }
    size_t cap = (size * 2 + SECTOR) / SECTOR * SECTOR;
    n->now = sim_keep_more(n->now, cap);
    n->safe = sim_keep_more(n->safe, cap);
    n->sectors = sim_keep_more(n->sectors, cap / SECTOR);
    memset(n->now + n->cap, 0, cap - n->cap);
    memset(n->safe + n->cap, 0, cap - n->cap);
    memset(n->sectors + n->cap / SECTOR, CLEAN, (cap - n->cap) / SECTOR);
    n->cap = cap;
}

/* A hole reads as zeros. */
static void resize(struct node *n, size_t size)
{
    reserve(n, size);
    if (size < n->size) {
        memset(n->now + size, 0, n->size - size);
        memset(n->sectors + size / SECTOR, DIRTY, (n->size + SECTOR - 1) / SECTOR - size / SECTOR);
    }
    n->size = size;
}

static void put(struct node *n, const void *bytes, size_t len, size_t at)
{
    if (len == 0) { /* a short write may be that short */
        return;
    }
    if (at + len > n->size) {
        resize(n, at + len);
    }
    memcpy(n->now + at, bytes, len);
    memset(n->sectors + at / SECTOR, DIRTY, (at + len + SECTOR - 1) / SECTOR - at / SECTOR);
}

static void save_sector(struct node *n, size_t sector)
{
    memcpy(n->safe + sector * SECTOR, n->now + sector * SECTOR, SECTOR);
    n->sectors[sector] = CLEAN;
}

/* What a failed sync covered is called clean, and a part of it never gets there. */
static void sync_node(struct node *n, bool works)
{
    for (size_t s = 0; s < n->cap / SECTOR; s++) {
        if (n->sectors[s] == DIRTY) {
            if (works || sim_chance(300)) {
                save_sector(n, s);
            } else {
                n->sectors[s] = LOST;
            }
        }
    }
    n->safe_size = works ? n->size : n->safe_size;
}

static void lose_power(struct node *n, uint32_t kept_per_mille)
{
    for (size_t s = 0; s < n->cap / SECTOR; s++) {
        if (n->sectors[s] == DIRTY && sim_chance(kept_per_mille)) {
            save_sector(n, s);
        }
        n->sectors[s] = CLEAN;
    }
    memcpy(n->now, n->safe, n->cap);
    if (n->size != n->safe_size && sim_chance(500)) {
        n->safe_size = n->size; /* the new length had got there */
    }
    n->size = n->safe_size;
    if (n->size < n->cap) {
        memset(n->now + n->size, 0, n->cap - n->size);
        memset(n->safe + n->size, 0, n->cap - n->size);
    }
}

void sim_disk_power_cut(void)
{
    static const uint32_t kept[] = {0, 500, 900, 1000};
    uint32_t per_mille = kept[sim_below(4)];
    for (int i = 0; i < NODES_MAX; i++) {
        if (nodes[i].name == NULL) {
            continue;
        }
        if (!nodes[i].linked && sim_chance(500)) {
            sim_trace("disk", "power cut: %s is gone", nodes[i].name);
            drop(&nodes[i]);
        } else if (nodes[i].cap > 0) {
            lose_power(&nodes[i], per_mille);
        }
    }
    sim_trace("disk", "power cut: %u/1000 of what was not safe is there", per_mille);
}

size_t sim_disk_used(void)
{
    size_t used = 0;
    for (int i = 0; i < NODES_MAX; i++) {
        used += nodes[i].name != NULL ? nodes[i].size : 0;
    }
    return used;
}

/* ---- faults ---- */

void sim_disk_doom_at(uint32_t n)
{
    doom_at = n;
}

static bool dies(void)
{
    if (sim_current() == SIM_WORLD || doom_at == 0 || --doom_at > 0) {
        return false;
    }
    sim_trace("disk", "death at a write or sync");
    return true;
}

static bool spend(uint32_t *faults)
{
    bool any = *faults > 0 && sim_current() != SIM_WORLD;
    *faults -= any;
    sim_disk_weather.excused = sim_disk_weather.excused || any;
    return any;
}

/* ---- reading, writing, syncing, for SQLite and beside it ---- */

static size_t node_read(const struct node *n, void *out, size_t len, size_t at)
{
    size_t there = at < n->size ? n->size - at : 0;
    there = there < len ? there : len;
    if (there > 0) {
        memcpy(out, n->now + at, there);
    }
    return there;
}

/* @return SQLITE_OK, SQLITE_FULL or SQLITE_IOERR_WRITE */
static int node_write(struct node *n, const void *bytes, size_t len, size_t at)
{
    if (has_no_effect()) {
        return SQLITE_IOERR_WRITE;
    }
    if (dies()) {
        put(n, bytes, sim_below((uint32_t)len + 1), at);
        sim_doom();
        return SQLITE_IOERR_WRITE;
    }
    if (sim_disk_weather.full && at + len > n->size && sim_current() != SIM_WORLD) {
        sim_disk_weather.excused = true;
        return SQLITE_FULL;
    }
    if (spend(&sim_disk_weather.fail_writes)) {
        if (sim_disk_weather.halves) {
            put(n, bytes, len / 2, at);
        }
        return SQLITE_IOERR_WRITE;
    }
    put(n, bytes, len, at);
    return SQLITE_OK;
}

static bool node_sync(struct node *n)
{
    if (has_no_effect()) {
        return false;
    }
    if (dies()) {
        if (sim_chance(500)) {
            sync_node(n, true);
        }
        sim_doom();
        return false;
    }
    bool works = !spend(&sim_disk_weather.fail_syncs);
    sync_node(n, works);
    return works;
}

/* ---- SQLite's file ---- */

static struct node *node_of(sqlite3_file *file)
{
    return ((struct handle *)file)->node;
}

static int x_close(sqlite3_file *file)
{
    (void)file;
    return SQLITE_OK;
}

static int x_read(sqlite3_file *file, void *out, int len, sqlite3_int64 at)
{
    if (has_no_effect()) {
        return SQLITE_IOERR_READ;
    }
    size_t there = node_read(node_of(file), out, (size_t)len, (size_t)at);
    memset((uint8_t *)out + there, 0, (size_t)len - there);
    return there == (size_t)len ? SQLITE_OK : SQLITE_IOERR_SHORT_READ;
}

static int x_write(sqlite3_file *file, const void *bytes, int len, sqlite3_int64 at)
{
    return node_write(node_of(file), bytes, (size_t)len, (size_t)at);
}

static int x_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    if (has_no_effect()) {
        return SQLITE_IOERR_TRUNCATE;
    }
    resize(node_of(file), (size_t)size);
    return SQLITE_OK;
}

static int x_sync(sqlite3_file *file, int flags)
{
    (void)flags;
    return node_sync(node_of(file)) ? SQLITE_OK : SQLITE_IOERR_FSYNC;
}

static int x_size(sqlite3_file *file, sqlite3_int64 *size)
{
    *size = (sqlite3_int64)node_of(file)->size;
    return SQLITE_OK;
}

static int x_lock(sqlite3_file *file, int level)
{
    bool refused = ((struct handle *)file)->read_only && level > SQLITE_LOCK_SHARED;
    return refused ? SQLITE_IOERR_LOCK : SQLITE_OK;
}

static int x_check_lock(sqlite3_file *file, int *held)
{
    (void)file;
    *held = 0;
    return SQLITE_OK;
}

static int x_control(sqlite3_file *file, int op, void *arg)
{
    (void)file;
    (void)op;
    (void)arg;
    return SQLITE_NOTFOUND;
}

static int x_sector_size(sqlite3_file *file)
{
    (void)file;
    return (int)SECTOR;
}

static int x_device(sqlite3_file *file)
{
    (void)file;
    return SQLITE_IOCAP_UNDELETABLE_WHEN_OPEN;
}

static int x_shm_map(sqlite3_file *file, int page, int size, int extend, void volatile **out)
{
    struct node *n = node_of(file);
    *out = NULL;
    if (has_no_effect() || page >= REGIONS || size > REGION) {
        return SQLITE_IOERR_SHMMAP;
    }
    if (n->regions[page] == NULL && extend != 0) {
        n->regions[page] = sim_keep(REGION);
    }
    *out = n->regions[page];
    return SQLITE_OK;
}

static int x_shm_lock(sqlite3_file *file, int offset, int count, int flags)
{
    (void)file;
    (void)offset;
    (void)count;
    (void)flags;
    return SQLITE_OK;
}

static void x_shm_barrier(sqlite3_file *file)
{
    (void)file;
}

static int x_shm_unmap(sqlite3_file *file, int drop_it)
{
    struct node *n = node_of(file);
    for (int r = 0; drop_it != 0 && r < REGIONS; r++) {
        free(n->regions[r]);
        n->regions[r] = NULL;
    }
    return SQLITE_OK;
}

static const sqlite3_io_methods methods = {
    .iVersion = 2,
    .xClose = x_close,
    .xRead = x_read,
    .xWrite = x_write,
    .xTruncate = x_truncate,
    .xSync = x_sync,
    .xFileSize = x_size,
    .xLock = x_lock,
    .xUnlock = x_lock,
    .xCheckReservedLock = x_check_lock,
    .xFileControl = x_control,
    .xSectorSize = x_sector_size,
    .xDeviceCharacteristics = x_device,
    .xShmMap = x_shm_map,
    .xShmLock = x_shm_lock,
    .xShmBarrier = x_shm_barrier,
    .xShmUnmap = x_shm_unmap,
};

/* ---- SQLite's file system ---- */

static int x_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *file, int flags, int *out_flags)
{
    (void)vfs;
    struct handle *h = (struct handle *)file;
    h->base.pMethods = NULL;
    if (has_no_effect() || name == NULL) {
        return SQLITE_CANTOPEN;
    }
    h->node = find(name);
    if (h->node == NULL && (flags & SQLITE_OPEN_CREATE) == 0) {
        return SQLITE_CANTOPEN;
    }
    h->node = h->node == NULL ? make(name) : h->node;
    h->base.pMethods = &methods;
    h->read_only = (flags & SQLITE_OPEN_READONLY) != 0;
    if (out_flags != NULL) {
        *out_flags = flags;
    }
    return SQLITE_OK;
}

static int x_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
    (void)vfs;
    (void)sync;
    struct node *n = find(name);
    if (has_no_effect()) {
        return SQLITE_IOERR_DELETE;
    }
    if (n == NULL) {
        return SQLITE_IOERR_DELETE_NOENT;
    }
    drop(n);
    return SQLITE_OK;
}

static int x_access(sqlite3_vfs *vfs, const char *name, int flags, int *out)
{
    (void)vfs;
    const struct node *n = find(name);
    *out = n != NULL && (flags != SQLITE_ACCESS_EXISTS || n->size > 0);
    return SQLITE_OK;
}

static int x_full_name(sqlite3_vfs *vfs, const char *name, int cap, char *out)
{
    (void)vfs;
    (void)sqlite3_snprintf(cap, out, "%s", name);
    return SQLITE_OK;
}

static int x_randomness(sqlite3_vfs *vfs, int len, char *out)
{
    (void)vfs;
    memset(out, 0x5a,
           (size_t)len); /* asked for once in a while: it must not shift what the seed draws */
    return len;
}

static int x_sleep(sqlite3_vfs *vfs, int us)
{
    (void)vfs;
    sim_advance((uint64_t)us);
    return us;
}

static int x_time(sqlite3_vfs *vfs, sqlite3_int64 *out)
{
    (void)vfs;
    *out = (sqlite3_int64)sim_wall_ms() + 210866760000000;
    return SQLITE_OK;
}

static int x_last_error(sqlite3_vfs *vfs, int cap, char *out)
{
    (void)vfs;
    (void)cap;
    (void)out;
    return 0;
}

void sim_disk_init(void)
{
    static sqlite3_vfs vfs = {
        .iVersion = 2,
        .szOsFile = sizeof(struct handle),
        .mxPathname = 256,
        .zName = "sim",
        .xOpen = x_open,
        .xDelete = x_delete,
        .xAccess = x_access,
        .xFullPathname = x_full_name,
        .xRandomness = x_randomness,
        .xSleep = x_sleep,
        .xGetLastError = x_last_error,
        .xCurrentTimeInt64 = x_time,
    };
    (void)sqlite3_config(SQLITE_CONFIG_MEMSTATUS, 0);
    if (sqlite3_vfs_register(&vfs, 1) != SQLITE_OK) {
        abort();
    }
}

void sim_disk_reset(void)
{
    sim_disk_abandon();
    for (int i = 0; i < NODES_MAX; i++) {
        drop(&nodes[i]);
    }
    sim_disk_weather = (struct sim_weather){.full = false};
    doom_at = 0;
    (void)sqlite3_test_control(SQLITE_TESTCTRL_PRNG_RESET);
}

/* ---- beside SQLite ---- */

static struct node *node_of_fd(int fd)
{
    return &nodes[fd - FOLDER_FD - 1];
}

int sim_disk_open(const char *path, bool folder, bool create)
{
    struct node *n = find(path);
    if (sim_doomed() || (!folder && n == NULL && !create)) {
        errno = sim_doomed() ? EIO : ENOENT;
        return -1;
    }
    if (folder) {
        return FOLDER_FD;
    }
    n = n == NULL ? make(path) : n;
    return FOLDER_FD + 1 + (int)(n - nodes);
}

bool sim_disk_is(int fd)
{
    return fd >= FOLDER_FD && fd <= FOLDER_FD + NODES_MAX;
}

long sim_disk_read(int fd, void *out, size_t len, size_t at)
{
    return (long)node_read(node_of_fd(fd), out, len, at);
}

long sim_disk_write(int fd, const void *bytes, size_t len, size_t at)
{
    int rc = node_write(node_of_fd(fd), bytes, len, at);
    errno = rc == SQLITE_FULL ? ENOSPC : EIO;
    return rc == SQLITE_OK ? (long)len : -1;
}

/* There is one folder; its sync makes safe which files there are. */
static bool folder_sync(void)
{
    if (sim_doomed() || spend(&sim_disk_weather.fail_syncs)) {
        return false;
    }
    for (int i = 0; i < NODES_MAX; i++) {
        nodes[i].linked = nodes[i].name != NULL;
    }
    return true;
}

int sim_disk_sync(int fd)
{
    errno = EIO;
    return (fd == FOLDER_FD ? folder_sync() : node_sync(node_of_fd(fd))) ? 0 : -1;
}

bool sim_disk_has(const char *path)
{
    return find(path) != NULL;
}
