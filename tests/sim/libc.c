/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The C library as the gateway's objects see it (linked with --wrap): calls go to the kernel and the disk of the simulation. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tests/sim/disk.h"
#include "tests/sim/kernel.h"

#define WRAPPED(type, name, ...)     \
    type __wrap_##name(__VA_ARGS__); \
    type __wrap_##name(__VA_ARGS__)

/* ---- clocks and chance ---- */

WRAPPED(int, clock_gettime, clockid_t clock, struct timespec *t)
{
    uint64_t us = clock == CLOCK_REALTIME ? sim_wall_ms() * 1000U : sim_now_us();
    *t = (struct timespec){.tv_sec = (time_t)(us / 1000000U),
                           .tv_nsec = (long)(us % 1000000U * 1000U)};
    return 0;
}

WRAPPED(int, clock_nanosleep, clockid_t clock, int flags, const struct timespec *t,
        struct timespec *left)
{
    (void)clock;
    (void)flags;
    (void)left;
    sim_sys_sleep_until((uint64_t)t->tv_sec * 1000000U + (uint64_t)t->tv_nsec / 1000U);
    return 0;
}

WRAPPED(time_t, time, time_t *out)
{
    (void)out;
    return (time_t)(sim_wall_ms() / 1000U);
}

WRAPPED(ssize_t, getrandom, void *out, size_t len, unsigned flags)
{
    uint8_t *bytes = out;
    (void)flags;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)sim_random();
    }
    return (ssize_t)len;
}

/* One for a run, where a real process makes its own. */
WRAPPED(uint64_t, sp_hash_seed, void)
{
    return 0x5a11;
}

/* All processes count in the first one, since all are one thread. */
WRAPPED(void, sp_metrics_use_slot, unsigned slot)
{
    (void)slot;
}

/* ---- threads ---- */

WRAPPED(int, pthread_create, pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *),
        void *arg)
{
    (void)attr;
    *thread = (pthread_t)sim_sys_thread(run, arg);
    return 0;
}

WRAPPED(int, pthread_join, pthread_t thread, void **result)
{
    (void)result;
    sim_sys_join((uint64_t)thread);
    return 0;
}

WRAPPED(int, malloc_trim, size_t pad)
{
    (void)pad;
    return 0;
}

typedef void (*handler)(int);

WRAPPED(handler, signal, int number, handler what)
{
    (void)number;
    (void)what;
    return SIG_DFL;
}

/* ---- descriptors ---- */

WRAPPED(int, eventfd, unsigned count, int flags)
{
    (void)flags;
    return sim_sys_eventfd(count);
}

WRAPPED(int, eventfd_write, int fd, uint64_t value)
{
    return sim_sys_eventfd_write(fd, value);
}

WRAPPED(int, eventfd_read, int fd, uint64_t *value)
{
    return sim_sys_eventfd_read(fd, value);
}

/* Only to learn which descriptor is the first that is free. */
WRAPPED(int, dup, int fd)
{
    (void)fd;
    return sim_sys_eventfd(0);
}

WRAPPED(int, getrlimit, int resource, struct rlimit *out)
{
    (void)resource;
    *out = (struct rlimit){.rlim_cur = SIM_FD_END, .rlim_max = SIM_FD_END};
    return 0;
}

WRAPPED(ssize_t, read, int fd, void *out, size_t len)
{
    return sim_sys_eventfd_read(fd, out) == 0 ? (ssize_t)len : -1;
}

/* Only the log writes: a line of the trace. */
WRAPPED(ssize_t, write, int fd, const void *bytes, size_t len)
{
    static const char *const names[] = {
        [SIM_WORLD] = "world", [SIM_GATE] = "gate", [SIM_STORE] = "store"};
    (void)fd;
    if (sim_tracing && !sim_doomed()) {
        const char *text = bytes;
        const char *event = memmem(text, len, "event=", 6);
        event = event == NULL ? text : event;
        sim_trace(names[sim_current()], "%.*s", (int)(len - (size_t)(event - text) - 1), event);
    }
    return (ssize_t)len;
}

WRAPPED(int, close, int fd)
{
    return sim_disk_is(fd) ? 0 : sim_sys_close(fd);
}

WRAPPED(int, fcntl, int fd, int command, ...)
{
    (void)fd;
    (void)command;
    return 0;
}

WRAPPED(int, epoll_create1, int flags)
{
    (void)flags;
    return sim_sys_epoll_create();
}

WRAPPED(int, epoll_ctl, int epoll, int op, int fd, struct epoll_event *event)
{
    return sim_sys_epoll_ctl(epoll, op, fd, event);
}

WRAPPED(int, epoll_wait, int epoll, struct epoll_event *events, int max, int timeout)
{
    return sim_sys_epoll_wait(epoll, events, max, timeout);
}

WRAPPED(int, accept4, int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    (void)address;
    (void)len;
    (void)flags;
    return sim_sys_accept(fd);
}

WRAPPED(int, socket, int domain, int type, int protocol)
{
    (void)domain;
    (void)type;
    (void)protocol;
    return sim_sys_socket();
}

WRAPPED(int, connect, int fd, const struct sockaddr *address, socklen_t len)
{
    (void)address;
    (void)len;
    return sim_sys_connect(fd);
}

WRAPPED(int, getsockopt, int fd, int level, int option, void *value, socklen_t *len)
{
    (void)level;
    (void)option;
    (void)len;
    *(int *)value = sim_sys_socket_error(fd);
    return 0;
}

WRAPPED(int, setsockopt, int fd, int level, int option, const void *value, socklen_t len)
{
    (void)fd;
    (void)level;
    (void)option;
    (void)value;
    (void)len;
    return 0;
}

WRAPPED(ssize_t, send, int fd, const void *bytes, size_t len, int flags)
{
    (void)flags;
    return sim_sys_send(fd, bytes, len);
}

WRAPPED(ssize_t, recv, int fd, void *bytes, size_t len, int flags)
{
    (void)flags;
    return sim_sys_recv(fd, bytes, len);
}

WRAPPED(ssize_t, __recv_chk, int fd, void *bytes, size_t len, size_t size, int flags)
{
    (void)size;
    (void)flags;
    return sim_sys_recv(fd, bytes, len);
}

WRAPPED(int, shutdown, int fd, int how)
{
    (void)how;
    return sim_sys_shutdown(fd);
}

/* ---- what the journal asks of a file system, beside SQLite ---- */

WRAPPED(int, mkdir, const char *path, mode_t mode)
{
    (void)path;
    (void)mode;
    errno = EEXIST;
    return -1;
}

WRAPPED(int, open, const char *path, int flags, ...)
{
    return sim_disk_open(path, (flags & O_DIRECTORY) != 0, (flags & O_CREAT) != 0);
}

WRAPPED(int, fsync, int fd)
{
    return sim_disk_sync(fd);
}

WRAPPED(int, fdatasync, int fd)
{
    return sim_disk_sync(fd);
}

WRAPPED(ssize_t, pread, int fd, void *out, size_t len, off_t at)
{
    return sim_disk_read(fd, out, len, (size_t)at);
}

WRAPPED(ssize_t, pwrite, int fd, const void *bytes, size_t len, off_t at)
{
    return sim_disk_write(fd, bytes, len, (size_t)at);
}

WRAPPED(int, fchmod, int fd, mode_t mode)
{
    (void)fd;
    (void)mode;
    return 0;
}

WRAPPED(int, stat, const char *path, struct stat *out)
{
    (void)path;
    memset(out, 0, sizeof(*out));
    return 0;
}

WRAPPED(uid_t, geteuid, void)
{
    return 1000;
}

WRAPPED(int, access, const char *path, int mode)
{
    (void)mode;
    return sim_disk_has(path) ? 0 : -1;
}
