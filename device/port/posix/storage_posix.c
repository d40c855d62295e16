/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/storage_posix.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

static int store_fd = -1;
static uint8_t ram[SP_ITS_MEDIUM_SIZE];

static enum sp_err ram_read(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    (void)ctx;
    sp_copy(out, ram + offset, len);
    return SP_OK;
}

static enum sp_err ram_write(void *ctx, size_t offset, struct sp_view bytes)
{
    (void)ctx;
    sp_copy(ram + offset, bytes.ptr, bytes.len);
    return SP_OK;
}

static enum sp_err ram_sync(void *ctx)
{
    (void)ctx;
    return SP_OK;
}

static enum sp_err file_read(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    (void)ctx;
    size_t done = 0;
    while (done < len) {
        ssize_t got = pread(store_fd, out + done, len - done, (off_t)(offset + done));
        if (got <= 0) {
            return SP_ERR_IO; /* the file always has its whole size */
        }
        done += (size_t)got;
    }
    return SP_OK;
}

static enum sp_err file_write(void *ctx, size_t offset, struct sp_view bytes)
{
    (void)ctx;
    size_t done = 0;
    while (done < bytes.len) {
        ssize_t put = pwrite(store_fd, bytes.ptr + done, bytes.len - done, (off_t)(offset + done));
        if (put <= 0) {
            return SP_ERR_IO;
        }
        done += (size_t)put;
    }
    return SP_OK;
}

static enum sp_err file_sync(void *ctx)
{
    (void)ctx;
    return fdatasync(store_fd) == 0 ? SP_OK : SP_ERR_IO;
}

/* Give a new file its size, and make file and directory entry durable. */
static enum sp_err prepare_file(int dir_fd, const char **why)
{
    struct stat st;
    *why = "its.img cannot be prepared";
    if (fstat(store_fd, &st) != 0) {
        return SP_ERR_IO;
    }
    if ((st.st_mode & 077) != 0) {
        *why = "its.img holds keys and others may read it: its mode must be 0600";
        return SP_ERR_DENIED;
    }
    if (flock(store_fd, LOCK_EX | LOCK_NB) != 0) {
        *why = "another process uses this state directory";
        return SP_ERR_EXISTS;
    }
    if (st.st_size < (off_t)SP_ITS_MEDIUM_SIZE && (ftruncate(store_fd, SP_ITS_MEDIUM_SIZE) != 0 ||
                                                   fsync(store_fd) != 0 || fsync(dir_fd) != 0)) {
        return SP_ERR_IO;
    }
    return SP_OK;
}

static enum sp_err open_file(const char *dir, const char **why)
{
    *why = "the state directory cannot be made";
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return SP_ERR_IO;
    }
    *why = "the state directory cannot be opened";
    int dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir_fd < 0) {
        return SP_ERR_IO;
    }
    enum sp_err err = SP_ERR_IO;
    *why = "its.img in the state directory cannot be opened";
    store_fd = openat(dir_fd, "its.img", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (store_fd >= 0) {
        err = prepare_file(dir_fd, why);
    }
    (void)close(dir_fd);
    return err;
}

enum sp_err sp_storage_posix_open(const char *dir, struct sp_its_medium *out, const char **why)
{
    if (dir == NULL) {
        *out = (struct sp_its_medium){.read = ram_read, .write = ram_write, .sync = ram_sync};
        return SP_OK;
    }
    enum sp_err err = open_file(dir, why);
    if (err == SP_OK) {
        *out = (struct sp_its_medium){.read = file_read, .write = file_write, .sync = file_sync};
    }
    return err;
}
