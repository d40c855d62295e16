/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/fuzz/database.h"

#include <fcntl.h>
#include <ftw.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char folder[64];

void fuzz_require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static int remove_one(const char *path, const struct stat *info, int kind, struct FTW *walk)
{
    (void)info, (void)kind, (void)walk;
    return remove(path);
}

static void remove_all(void)
{
    (void)nftw(folder, remove_one, 8, FTW_DEPTH | FTW_PHYS);
}

const char *fuzz_folder(void)
{
    (void)snprintf(folder, sizeof(folder), "%s/sp-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    fuzz_require(mkdtemp(folder) != NULL);
    (void)atexit(remove_all);
    return folder;
}

struct fuzz_file fuzz_read(const char *path)
{
    struct fuzz_file file = {NULL, 0};
    struct stat info;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0 && fstat(fd, &info) == 0) {
        file.bytes = malloc((size_t)info.st_size + 1);
        fuzz_require(file.bytes != NULL);
        ssize_t n = read(fd, file.bytes, (size_t)info.st_size);
        file.len = n > 0 ? (size_t)n : 0;
    }
    if (fd >= 0) {
        (void)close(fd);
    }
    return file;
}

void fuzz_write(const char *path, struct sp_view bytes)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    fuzz_require(fd >= 0 && write(fd, bytes.ptr, bytes.len) == (ssize_t)bytes.len);
    (void)close(fd);
}

static uint8_t next(struct sp_view *input)
{
    uint8_t byte = input->len > 0 ? input->ptr[0] : 0;
    *input = sp_view_from(*input, 1);
    return byte;
}

static void change_bytes(const char *path, size_t len, struct sp_view input)
{
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    fuzz_require(fd >= 0);
    while (input.len >= 4) {
        size_t at = (size_t)next(&input) << 16;
        at |= (size_t)next(&input) << 8;
        at |= next(&input);
        struct sp_view run = sp_view_first(input, 1U + (next(&input) & 7U));
        input = sp_view_from(input, run.len);
        fuzz_require(pwrite(fd, run.ptr, run.len, (off_t)(at % len)) == (ssize_t)run.len);
    }
    (void)close(fd);
}

static void set_value(sqlite3_stmt *st, struct sp_view *input)
{
    static const sqlite3_int64 numbers[] = {0,     1,         -1,        255,      256,
                                            65536, INT32_MIN, INT64_MAX, INT64_MIN};
    uint8_t kind = next(input);
    struct sp_view bytes = sp_view_first(*input, next(input));
    if (kind % 5U == 1) {
        (void)sqlite3_bind_int64(st, 1,
                                 numbers[(kind >> 3) % (sizeof(numbers) / sizeof(numbers[0]))]);
    } else if (kind % 5U == 2) {
        (void)sqlite3_bind_zeroblob(st, 1, (kind >> 3) * 300);
    } else if (kind % 5U == 3) {
        (void)sqlite3_bind_blob(st, 1, bytes.ptr, (int)bytes.len, SQLITE_TRANSIENT);
    } else if (kind % 5U == 4) {
        (void)sqlite3_bind_text(st, 1, (const char *)bytes.ptr, (int)bytes.len, SQLITE_TRANSIENT);
    }
}

static void change_cells(const char *path, const struct fuzz_cell *cells, size_t count,
                         struct sp_view input)
{
    sqlite3 *db = NULL;
    fuzz_require(sqlite3_open_v2(path, &db, SQLITE_OPEN_READWRITE, NULL) == SQLITE_OK);
    (void)sqlite3_exec(db, "PRAGMA ignore_check_constraints=ON;PRAGMA journal_mode=MEMORY;", NULL,
                       NULL, NULL);
    while (input.len >= 3) {
        char sql[160];
        sqlite3_stmt *st = NULL;
        const struct fuzz_cell *cell = &cells[next(&input) % count];
        (void)snprintf(sql, sizeof(sql), "UPDATE OR IGNORE %s SET %s=?1", cell->table,
                       cell->column);
        if (sqlite3_prepare_v2(db, sql, -1, &st, NULL) == SQLITE_OK) {
            set_value(st, &input);
            (void)sqlite3_step(st);
        }
        (void)sqlite3_finalize(st);
    }
    (void)sqlite3_close(db);
}

void fuzz_damage(const char *path, const struct fuzz_file *sound, const struct fuzz_cell *cells,
                 size_t count, struct sp_view input)
{
    char beside[256];
    uint8_t how = next(&input);
    (void)snprintf(beside, sizeof(beside), "%s-wal", path);
    (void)unlink(beside);
    (void)snprintf(beside, sizeof(beside), "%s-shm", path);
    (void)unlink(beside);
    if (how % 4U == 3) {
        fuzz_write(path, input);
        return;
    }
    struct sp_view whole = sp_view(sound->bytes, sound->len);
    fuzz_write(path, how % 4U == 2 ? sp_view_first(whole, (size_t)next(&input) * 512U) : whole);
    if (how % 4U == 1) {
        change_bytes(path, sound->len, input);
    } else if (how % 4U == 0) {
        change_cells(path, cells, count, input);
    }
}
