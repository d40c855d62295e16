/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Preloaded into a gateway (tests/lib/odds.py): another wall clock for all its processes, an allocation that fails in one of
 * them, how much of its heap one of them has in use, and accepting that fails. The block is a file that every process maps before it
 * enters its sandbox; the test writes it while they run.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

struct block {
    atomic_llong seconds; /* added to the wall clock */
    atomic_llong
        monotonic;  /* seconds added to the clock that never jumps, as if so much time had passed */
    atomic_int pid; /* of the process whose allocations are counted; 0: none */
    atomic_int count;       /* allocations left until one fails; below 0: it has */
    atomic_int accepts_pid; /* of the process in which accept4() fails; 0: none */
    atomic_int accepts;     /* its errno */
    atomic_int watched;     /* pid of the process that says how much it has in use; 0: none */
    atomic_int unused;      /* so that the next one is aligned everywhere alike */
    atomic_llong in_use;    /* bytes of that process's heap */
};

static struct block *block;
static void *(*real_malloc)(size_t);
static void *(*real_calloc)(size_t, size_t);
static void *(*real_realloc)(void *, size_t);
static void (*real_free)(void *);
static int (*real_clock)(clockid_t, struct timespec *);

__attribute__((constructor)) static void open_block(void)
{
    const char *path = getenv("SP_ODDS");
    int fd = path == NULL ? -1 : open(path, O_RDWR | O_CLOEXEC);
    if (fd >= 0) {
        void *at = mmap(NULL, sizeof(*block), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
        block = at == MAP_FAILED ? NULL : at;
        close(fd);
    }
}

static _Alignas(16) char first_room[4096]; /* for what dlsym() asks for */
static atomic_llong in_use;

/* What was given out, or taken back with a minus. A fork goes on with its parent's number. */
static void count_bytes(long long bytes)
{
    long long now = atomic_fetch_add(&in_use, bytes) + bytes;
    if (block != NULL && block->watched != 0 && block->watched == getpid()) {
        block->in_use = now;
    }
}

static void *given(void *at)
{
    count_bytes(at == NULL ? 0 : (long long)malloc_usable_size(at));
    return at;
}

static bool is_first(const void *at)
{
    return (const char *)at >= first_room && (const char *)at < first_room + sizeof(first_room);
}

static int fails(void)
{
    if (block == NULL || block->pid == 0 || block->pid != getpid()) {
        return 0;
    }
    if (atomic_fetch_sub(&block->count, 1) != 1) {
        return 0;
    }
    errno = ENOMEM;
    return 1;
}

void *malloc(size_t size)
{
    if (real_malloc == NULL) {
        *(void **)&real_malloc = dlsym(RTLD_NEXT, "malloc");
    }
    return fails() ? NULL : given(real_malloc(size));
}

/* dlsym() itself asks for memory the first time. */
static void *first_calloc(size_t count, size_t size)
{
    static size_t used;
    size_t need = (count * size + 15U) & ~(size_t)15;
    void *at = used + need <= sizeof(first_room) ? first_room + used : NULL;
    used += need;
    return at;
}

void *calloc(size_t count, size_t size)
{
    static int looking;
    if (real_calloc == NULL) {
        if (looking) {
            return first_calloc(count, size);
        }
        looking = 1;
        *(void **)&real_calloc = dlsym(RTLD_NEXT, "calloc");
    }
    return fails() ? NULL : given(real_calloc(count, size));
}

void *realloc(void *old, size_t size)
{
    if (real_realloc == NULL) {
        *(void **)&real_realloc = dlsym(RTLD_NEXT, "realloc");
    }
    if (fails()) {
        return NULL;
    }
    long long before = old == NULL ? 0 : (long long)malloc_usable_size(old);
    void *at = real_realloc(old, size);
    if (at != NULL || size == 0) {
        count_bytes((at == NULL ? 0 : (long long)malloc_usable_size(at)) - before);
    }
    return at;
}

void free(void *at)
{
    if (at == NULL || is_first(at)) {
        return;
    }
    if (real_free == NULL) {
        *(void **)&real_free = dlsym(RTLD_NEXT, "free");
    }
    count_bytes(-(long long)malloc_usable_size(at));
    real_free(at);
}

/* Aligned pieces go back by free() too. */
void *aligned_alloc(size_t alignment, size_t size)
{
    static void *(*real)(size_t, size_t);
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "aligned_alloc");
    }
    return given(real(alignment, size));
}

void *memalign(size_t alignment, size_t size)
{
    return aligned_alloc(alignment, size);
}

int posix_memalign(void **out, size_t alignment, size_t size)
{
    void *at = aligned_alloc(alignment, size);
    if (at != NULL) {
        *out = at;
    }
    return at != NULL ? 0 : ENOMEM;
}

int accept4(int fd, struct sockaddr *address, socklen_t *len, int flags)
{
    static int (*real)(int, struct sockaddr *, socklen_t *, int);
    if (block != NULL && block->accepts_pid != 0 && block->accepts_pid == getpid()) {
        errno = block->accepts;
        return -1;
    }
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "accept4");
    }
    return real(fd, address, len, flags);
}

int clock_gettime(clockid_t clock, struct timespec *out)
{
    if (real_clock == NULL) {
        *(void **)&real_clock = dlsym(RTLD_NEXT, "clock_gettime");
    }
    int rc = real_clock(clock, out);
    if (rc == 0 && block != NULL) {
        bool wall = clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE;
        out->tv_sec += (time_t)(wall ? block->seconds : block->monotonic);
    }
    return rc;
}

/* Whoever waits until a moment means one of the clock that he was shown. */
int clock_nanosleep(clockid_t clock, int flags, const struct timespec *until, struct timespec *left)
{
    static int (*real)(clockid_t, int, const struct timespec *, struct timespec *);
    struct timespec moment = *until;
    if (real == NULL) {
        *(void **)&real = dlsym(RTLD_NEXT, "clock_nanosleep");
    }
    if (block != NULL && (flags & TIMER_ABSTIME) != 0) {
        moment.tv_sec -= (time_t)(clock == CLOCK_REALTIME ? block->seconds : block->monotonic);
    }
    return real(clock, flags, &moment, left);
}

time_t time(time_t *out)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    if (out != NULL) {
        *out = now.tv_sec;
    }
    return now.tv_sec;
}

int gettimeofday(struct timeval *restrict out, void *restrict zone)
{
    struct timespec now;
    (void)zone;
    (void)clock_gettime(CLOCK_REALTIME, &now);
    out->tv_sec = now.tv_sec;
    out->tv_usec = now.tv_nsec / 1000;
    return 0;
}
