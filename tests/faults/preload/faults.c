/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Between the gateway and its disk: makes writes fail, be short or not be there after a power cut, and ends a process at
 * a chosen system call. What a process did in memory between two system calls is seen by nobody else, so a death at
 * every call is a death at every instruction.
 *
 * Before a write, what it overwrites is kept in the shared block; a successful sync of the file forgets that. A power cut is: all
 * processes are killed, then faults.py puts a random part of what was kept back. After a sync that failed, Linux calls
 * the lost pages clean: what it covered is kept as lost until it is written anew, whatever later syncs say.
 */
#include "tests/faults/preload/block.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#define FDS 4096

static struct sp_faults_block *block;
static char directory[512];
static bool writer; /* this process writes what can be undone; nobody else touches the records */
static uint8_t file_of[FDS]; /* number + 1; 0: not tracked */
static const char *const names[] = SP_FAULTS_FILES;
#define NAMES (sizeof(names) / sizeof(names[0]))

static struct {
    int (*open)(const char *path, int flags, ...);
    int (*close)(int fd);
    ssize_t (*pwrite)(int fd, const void *buf, size_t len, off64_t at);
    ssize_t (*pread)(int fd, void *buf, size_t len, off64_t at);
    int (*fdatasync)(int fd);
    int (*fsync)(int fd);
    int (*ftruncate)(int fd, off64_t len);
    int (*unlink)(const char *path);
    ssize_t (*send)(int fd, const void *buf, size_t len, int flags);
    ssize_t (*sendmsg)(int fd, const struct msghdr *m, int flags);
    ssize_t (*recv)(int fd, void *buf, size_t len, int flags);
    ssize_t (*recvmsg)(int fd, struct msghdr *m, int flags);
    ssize_t (*write)(int fd, const void *buf, size_t len);
    ssize_t (*writev)(int fd, const struct iovec *v, int count);
    ssize_t (*read)(int fd, void *buf, size_t len);
    int (*clock_gettime)(clockid_t clock, struct timespec *t);
} real;

#define FIND(field, name) (*(void **)(&real.field) = dlsym(RTLD_NEXT, name))

__attribute__((constructor)) static void set_up(void)
{
    FIND(open, "open64");
    FIND(close, "close");
    FIND(pwrite, "pwrite64");
    FIND(pread, "pread64");
    FIND(fdatasync, "fdatasync");
    FIND(fsync, "fsync");
    FIND(ftruncate, "ftruncate64");
    FIND(unlink, "unlink");
    FIND(send, "send");
    FIND(sendmsg, "sendmsg");
    FIND(recv, "recv");
    FIND(recvmsg, "recvmsg");
    FIND(write, "write");
    FIND(writev, "writev");
    FIND(read, "read");
    FIND(clock_gettime, "clock_gettime");
    const char *path = getenv("SP_FAULTS");
    const char *dir = getenv("SP_FAULTS_DIR");
    int fd = path == NULL || dir == NULL ? -1 : real.open(path, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        return;
    }
    (void)strncpy(directory, dir, sizeof(directory) - 1);
    void *map = mmap(NULL, sizeof(*block), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)real.close(fd);
    if (map != MAP_FAILED && ((struct sp_faults_block *)map)->magic == SP_FAULTS_MAGIC) {
        block = map;
    }
}

/* ---- traps ---- */

/* By number: the libraries' functions are no part of what is tried. */
static long do_deed(uint32_t deed)
{
    static char data[4096] __attribute__((aligned(4096)));
    char program[] = "/bin/true";
    char *const words[] = {program, NULL};
    switch (deed) {
    case SP_FAULTS_OPEN:
        return syscall(SYS_openat, AT_FDCWD, "/etc/passwd", O_RDONLY);
    case SP_FAULTS_SOCKET:
        return syscall(SYS_socket, AF_INET, SOCK_STREAM, 0);
    case SP_FAULTS_CONNECT:
        return syscall(SYS_connect, -1, NULL, 0);
    case SP_FAULTS_LISTEN:
        return syscall(SYS_listen, -1, 1);
    case SP_FAULTS_EXECUTE:
        return syscall(SYS_execve, program, words, NULL);
    case SP_FAULTS_FORK:
        return syscall(SYS_clone, SIGCHLD, NULL, NULL, NULL, NULL);
    case SP_FAULTS_TRACE:
        return syscall(SYS_ptrace, PTRACE_TRACEME, 0, NULL, NULL);
    case SP_FAULTS_SPY:
        return syscall(SYS_process_vm_readv, 1, NULL, 0, NULL, 0, 0);
    case SP_FAULTS_CODE:
        return syscall(SYS_mprotect, data, sizeof(data), PROT_READ | PROT_EXEC);
    default:
        return syscall(SYS_exit_group, 137); /* the sandbox has no kill(); nothing runs after it */
    }
}

static void spring(void)
{
    int error = errno;
    block->pid = 0;
    block->sprung++;
    block->answer = do_deed(block->deed) < 0 ? 1U + (uint32_t)errno : 1U;
    errno = error;
}

/* It is this process's turn at this call. */
static bool trapped(enum sp_faults_call call)
{
    if (block == NULL || block->pid == 0 || block->call != (uint32_t)call ||
        (block->pid != SP_FAULTS_ANYBODY && block->pid != (uint32_t)getpid())) {
        return false;
    }
    return __atomic_sub_fetch(&block->count, 1, __ATOMIC_SEQ_CST) == 0;
}

static void around(bool now, enum sp_faults_moment moment)
{
    if (now && (block->moment == (uint32_t)moment ||
                (moment == SP_FAULTS_BEFORE && block->moment == SP_FAULTS_HALFWAY))) {
        spring();
    }
}

/* ---- what can be undone ---- */

static struct sp_faults_undo *record_at(uint64_t at)
{
    return (struct sp_faults_undo *)(void *)(block->undo[block->area] + at);
}

static uint64_t used(void)
{
    return block->used[block->area];
}

/* One database at a time; and never a wal-index, which is rebuilt and not synced. */
static bool undoable(uint32_t file)
{
    return file != 2 && file != 5 && (file >= 3) == (block->registry != 0);
}

/* A record with room for `old_len` bytes, not valid before its state is set. */
static struct sp_faults_undo *new_record(uint32_t file, uint64_t old_len)
{
    uint64_t size = (sizeof(struct sp_faults_undo) + old_len + 7U) & ~7ULL;
    if (used() + size > SP_FAULTS_UNDO) {
        block->overflows++;
        return NULL;
    }
    struct sp_faults_undo *r = record_at(used());
    *r = (struct sp_faults_undo){.size = (uint32_t)size, .file = file, .old_len = old_len};
    block->used[block->area] += size;
    return r;
}

static uint64_t size_of(int fd)
{
    struct stat s;
    return fstat(fd, &s) == 0 ? (uint64_t)s.st_size : 0;
}

static void keep(int fd, uint32_t file, uint32_t kind, uint64_t offset, uint64_t len)
{
    uint64_t size = size_of(fd);
    uint64_t end = offset + len < size ? offset + len : size;
    uint64_t old_len = end > offset ? end - offset : 0;
    struct sp_faults_undo *r = undoable(file) ? new_record(file, old_len) : NULL;
    if (r != NULL) {
        if (old_len > 0 && real.pread(fd, r + 1, old_len, (off64_t)offset) != (ssize_t)old_len) {
            block->overflows++;
        }
        r->kind = kind;
        r->offset = offset;
        r->len = len;
        r->old_size = size;
        r->state = 1;
    }
}

/* Pages lost by a failed sync are dirty again once they are written anew. */
static void renew(uint32_t file, uint64_t offset, uint64_t len)
{
    if (!undoable(file)) {
        return;
    }
    for (uint64_t at = 0; at < used(); at += record_at(at)->size) {
        struct sp_faults_undo *r = record_at(at);
        if (r->state == 3 && r->file == file && r->offset < offset + len &&
            offset < r->offset + r->len) {
            r->state = 1;
        }
    }
}

/* Drop what is synced: otherwise one record that is lost for good would keep all later ones. A process that is killed in here
 * leaves the records as they were: the other area counts when all is in it. */
static void compact(void)
{
    uint64_t other = 1 - block->area;
    uint64_t to = 0;
    for (uint64_t at = 0; at < used(); at += record_at(at)->size) {
        if (record_at(at)->state != 2) {
            memcpy(block->undo[other] + to, record_at(at), record_at(at)->size);
            to += record_at(at)->size;
        }
    }
    block->used[other] = to;
    __atomic_store_n(&block->area, other, __ATOMIC_SEQ_CST);
}

static void settle(uint32_t file, uint32_t from, uint32_t to)
{
    if (!writer || (file != SP_FAULTS_DIRECTORY && !undoable(file))) {
        return;
    }
    bool all = true;
    for (uint64_t at = 0; at < used(); at += record_at(at)->size) {
        struct sp_faults_undo *r = record_at(at);
        bool mine = file == SP_FAULTS_DIRECTORY ? r->kind == 3 : r->file == file && r->kind != 3;
        if (mine && r->state == from) {
            r->state = to;
        }
        all = all && r->state == 2;
    }
    if (all) {
        block->used[block->area] = 0;
    } else if (used() > SP_FAULTS_UNDO / 4) {
        compact();
    }
}

/* The file is gone, and with it all that could be undone in it. */
static void forget(uint32_t file)
{
    if (!writer) {
        return;
    }
    for (uint64_t at = 0; at < used(); at += record_at(at)->size) {
        if (record_at(at)->file == file) {
            record_at(at)->state = 2;
        }
    }
}

/* ---- files ---- */

static uint8_t number_of(const char *path)
{
    size_t len = strlen(directory);
    if (block == NULL || len == 0 || strncmp(path, directory, len) != 0) {
        return 0;
    }
    if (path[len] == '\0' || strcmp(path + len, "/journal") == 0) {
        return SP_FAULTS_DIRECTORY + 1;
    }
    for (size_t i = 0; path[len] == '/' && i < NAMES; i++) {
        if (strcmp(path + len + 1, names[i]) == 0) {
            return (uint8_t)(i + 1);
        }
    }
    return 0;
}

static int open_any(const char *path, int flags, mode_t mode)
{
    uint8_t number = number_of(path);
    bool fresh = number != 0 && (flags & O_CREAT) != 0 && access(path, F_OK) != 0;
    int fd = real.open(path, flags, mode);
    if (fd >= 0 && fd < FDS) {
        file_of[fd] = number;
        bool ours = number != 0 && number <= NAMES && undoable(number - 1U);
        writer = writer || (ours && (flags & O_ACCMODE) != O_RDONLY);
        if (fresh && ours) {
            struct sp_faults_undo *r = new_record(number - 1U, 0);
            if (r != NULL) {
                r->kind = 3;
                r->state = 1;
            }
        }
    }
    return fd;
}

static mode_t mode_of(int flags, va_list more)
{
    return (flags & O_CREAT) != 0 ? (mode_t)va_arg(more, int) : 0;
}

int open64(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_of(flags, more);
    va_end(more);
    return open_any(path, flags, mode);
}

int open(const char *path, int flags, ...)
{
    va_list more;
    va_start(more, flags);
    mode_t mode = mode_of(flags, more);
    va_end(more);
    return open_any(path, flags, mode);
}

int close(int fd)
{
    if (fd >= 0 && fd < FDS) {
        file_of[fd] = 0;
    }
    return real.close(fd);
}

static int tracked(int fd)
{
    return block != NULL && fd >= 0 && fd < FDS ? (int)file_of[fd] - 1 : -1;
}

static bool take_one(uint32_t *counter)
{
    if (*counter == 0) {
        return false;
    }
    (*counter)--;
    return true;
}

static ssize_t failed(int error)
{
    errno = error;
    return -1;
}

ssize_t pwrite64(int fd, const void *buf, size_t len, off64_t at)
{
    int file = tracked(fd);
    if (file < 0) {
        return real.pwrite(fd, buf, len, at);
    }
    bool now = trapped(SP_FAULTS_PWRITE);
    if (now && block->moment == SP_FAULTS_HALFWAY) {
        keep(fd, (uint32_t)file, 1, (uint64_t)at, len / 2);
        (void)real.pwrite(fd, buf, len / 2, at);
    }
    around(now, SP_FAULTS_BEFORE);
    if (take_one(&block->fail_writes)) {
        return failed(EIO);
    }
    size_t most = take_one(&block->short_writes) && len > 1 ? len / 2 : len;
    if (block->full != 0 && (uint64_t)at + most > size_of(fd)) {
        uint64_t size = size_of(fd);
        if ((uint64_t)at >= size) {
            return failed(ENOSPC);
        }
        most = (size_t)(size - (uint64_t)at);
    }
    keep(fd, (uint32_t)file, 1, (uint64_t)at, most);
    ssize_t n = real.pwrite(fd, buf, most, at);
    renew((uint32_t)file, (uint64_t)at, most);
    around(now, SP_FAULTS_AFTER);
    return n;
}

ssize_t pwrite(int fd, const void *buf, size_t len, off_t at)
{
    return pwrite64(fd, buf, len, at);
}

static int sync_any(int fd, int (*how)(int fd))
{
    int file = tracked(fd);
    if (file < 0) {
        return how(fd);
    }
    bool now = trapped(SP_FAULTS_SYNC);
    around(now, SP_FAULTS_BEFORE);
    block->syncs++;
    if (block->lies != 0) {
        return 0;
    }
    if (block->fail_syncs != 0 && block->spared > 0) {
        block->spared--;
    } else if (take_one(&block->fail_syncs)) {
        if (file !=
            SP_FAULTS_DIRECTORY) { /* names that were not synced may be synced the next time */
            settle((uint32_t)file, 1, 3);
        }
        return (int)failed(EIO);
    }
    /* The real disk is not what is tested here: the records are. */
    settle((uint32_t)file, 1, 2);
    around(now, SP_FAULTS_AFTER);
    return 0;
}

int fdatasync(int fd)
{
    return sync_any(fd, real.fdatasync);
}

int fsync(int fd)
{
    return sync_any(fd, real.fsync);
}

int ftruncate64(int fd, off64_t len)
{
    int file = tracked(fd);
    if (file < 0) {
        return real.ftruncate(fd, len);
    }
    bool now = trapped(SP_FAULTS_TRUNCATE);
    around(now, SP_FAULTS_BEFORE);
    uint64_t size = size_of(fd);
    if (block->full != 0 && (uint64_t)len > size) {
        return (int)failed(ENOSPC);
    }
    if ((uint64_t)len < size) {
        keep(fd, (uint32_t)file, 2, (uint64_t)len, size - (uint64_t)len);
    }
    int result = real.ftruncate(fd, len);
    around(now, SP_FAULTS_AFTER);
    return result;
}

int ftruncate(int fd, off_t len)
{
    return ftruncate64(fd, len);
}

/* Taken for durable at once: what SQLite removes it has made worthless before. */
int unlink(const char *path)
{
    uint8_t number = number_of(path);
    if (number != 0) {
        forget(number - 1U);
    }
    return real.unlink(path);
}

/* ---- the time of day ---- */

int clock_gettime(clockid_t clock, struct timespec *t)
{
    if (real.clock_gettime == NULL) { /* somebody's constructor came before ours */
        return (int)syscall(SYS_clock_gettime, clock, t);
    }
    int result = real.clock_gettime(clock, t);
    if (result == 0 && block != NULL &&
        (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) {
        t->tv_sec += block->clock;
    }
    return result;
}

time_t time(time_t *out)
{
    struct timespec t = {0};
    (void)clock_gettime(CLOCK_REALTIME, &t);
    if (out != NULL) {
        *out = t.tv_sec;
    }
    return t.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec t = {0};
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    *out = (struct timeval){.tv_sec = t.tv_sec, .tv_usec = t.tv_nsec / 1000};
    return 0;
}

/* ---- sockets and pipes: only traps ---- */

ssize_t send(int fd, const void *buf, size_t len, int flags)
{
    bool now = trapped(SP_FAULTS_SEND);
    if (now && block->moment == SP_FAULTS_HALFWAY) {
        (void)real.send(fd, buf, len / 2, flags);
    }
    around(now, SP_FAULTS_BEFORE);
    ssize_t n = real.send(fd, buf, len, flags);
    around(now, SP_FAULTS_AFTER);
    return n;
}

ssize_t sendmsg(int fd, const struct msghdr *m, int flags)
{
    bool now = trapped(SP_FAULTS_SEND);
    around(now, SP_FAULTS_BEFORE);
    ssize_t n = real.sendmsg(fd, m, flags);
    around(now, SP_FAULTS_AFTER);
    return n;
}

ssize_t write(int fd, const void *buf, size_t len)
{
    bool now = trapped(SP_FAULTS_SEND);
    around(now, SP_FAULTS_BEFORE);
    ssize_t n = real.write(fd, buf, len);
    around(now, SP_FAULTS_AFTER);
    return n;
}

ssize_t writev(int fd, const struct iovec *v, int count)
{
    bool now = trapped(SP_FAULTS_SEND);
    around(now, SP_FAULTS_BEFORE);
    ssize_t n = real.writev(fd, v, count);
    around(now, SP_FAULTS_AFTER);
    return n;
}

ssize_t recv(int fd, void *buf, size_t len, int flags)
{
    bool now = trapped(SP_FAULTS_RECEIVE);
    around(now, SP_FAULTS_BEFORE);
    ssize_t n = real.recv(fd, buf, len, flags);
    around(now, SP_FAULTS_AFTER);
    return n;
}

ssize_t recvmsg(int fd, struct msghdr *m, int flags)
{
    bool now = trapped(SP_FAULTS_RECEIVE);
    around(now, SP_FAULTS_BEFORE);
    ssize_t n = real.recvmsg(fd, m, flags);
    around(now, SP_FAULTS_AFTER);
    return n;
}

ssize_t read(int fd, void *buf, size_t len)
{
    bool now = trapped(SP_FAULTS_RECEIVE);
    around(now, SP_FAULTS_BEFORE);
    ssize_t n = real.read(fd, buf, len);
    around(now, SP_FAULTS_AFTER);
    return n;
}
