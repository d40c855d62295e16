/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/slab/arena.h"

#include <pthread.h>
#include <stdbool.h>
#include <sys/mman.h>

#include "gateway/slab/ref.h"

#define PAGES_MAX \
    (SP_REF_UNIT * ((size_t)UINT32_MAX + 1) / SP_ARENA_PAGE) /* all that a ref can name */
#define PAGES_MIN ((size_t)16)

char *sp_arena_base;

static struct {
    pthread_mutex_t lock;
    size_t pages;                   /* reserved; 0: none yet */
    size_t fresh;                   /* those from here on were never taken */
    size_t low;                     /* none of those before was given back */
    uint64_t given[PAGES_MAX / 64]; /* a bit for each that was given back */
} arena = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* Not MAP_NORESERVE: what cannot be written is not counted as promised, and a page is, once it can be. */
static void *reserve(size_t bytes)
{
    void *at = mmap(NULL, bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    return at == MAP_FAILED ? NULL : at;
}

/* One page more than is used, for the alignment. */
static bool begin(void)
{
    char *at = NULL;
    size_t pages = PAGES_MAX * 2;
    while (at == NULL && pages > PAGES_MIN) {
        pages /= 2;
        at = reserve((pages + 1) * SP_ARENA_PAGE);
    }
    if (at == NULL) {
        return false;
    }
    size_t over = (uintptr_t)at % SP_ARENA_PAGE;
    sp_arena_base = at + (over == 0 ? 0 : SP_ARENA_PAGE - over);
    arena.pages = pages;
    return true;
}

/* The lowest page that was given back; arena.fresh: there is none. */
static size_t lowest_given(void)
{
    size_t word = arena.low / 64;
    while (word * 64 < arena.fresh && arena.given[word] == 0) {
        word++;
    }
    arena.low = word * 64 < arena.fresh ? word * 64 + (size_t)__builtin_ctzll(arena.given[word])
                                        : arena.fresh;
    return arena.low;
}

static void *take(void)
{
    if (arena.pages == 0 && !begin()) {
        return NULL;
    }
    size_t index = lowest_given();
    char *page = sp_arena_base + index * SP_ARENA_PAGE;
    if (index == arena.pages || mprotect(page, SP_ARENA_PAGE, PROT_READ | PROT_WRITE) != 0) {
        return NULL;
    }
    if (index == arena.fresh) {
        arena.fresh++;
    } else {
        arena.given[index / 64] &= ~(UINT64_C(1) << index % 64);
    }
    return page;
}

void *sp_arena_take(void)
{
    pthread_mutex_lock(&arena.lock);
    void *page = take();
    pthread_mutex_unlock(&arena.lock);
    return page;
}

static void give(char *page)
{
    size_t index = (size_t)(page - sp_arena_base) / SP_ARENA_PAGE;
    /* Mapped anew: mprotect() would leave it counted as promised. */
    if (mmap(page, SP_ARENA_PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) ==
        MAP_FAILED) {
        (void)madvise(page, SP_ARENA_PAGE, MADV_DONTNEED);
    }
    arena.given[index / 64] |= UINT64_C(1) << index % 64;
    arena.low = index < arena.low ? index : arena.low;
}

void sp_arena_give(void *page)
{
    pthread_mutex_lock(&arena.lock);
    give(page);
    pthread_mutex_unlock(&arena.lock);
}
