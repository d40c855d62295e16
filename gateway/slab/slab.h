/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Storage for many small things of one size: no header for each, no neighbours of another kind.
 *
 * What lives long (a connection, a session) is not mixed with what a handshake allocates for a moment; so after a
 * storm the heap's pages are empty and go back to the kernel, and so do pages of a slab that are empty; the last one
 * stays, to be used again, until sp_slab_trim(). What lies in a slab may be named by a ref (ref.h) in place of a pointer.
 * Thread-safe: what one thread took, another may give back.
 */
#ifndef SP_GATEWAY_SLAB_SLAB_H
#define SP_GATEWAY_SLAB_SLAB_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/queue.h>

struct sp_slab_page;

struct sp_slab {
    pthread_mutex_t lock;
    size_t size;                    /* bytes of one thing */
    LIST_HEAD(, sp_slab_page) room; /* pages with room; the first is used first */
    struct sp_slab *next;           /* of those that ever had a page, for sp_slab_trim() */
    bool known;                     /* it is one of them */
};

/** A slab for things of `bytes` bytes, which need no alignment beyond a pointer's. */
#define SP_SLAB_INIT(bytes)                                                        \
    {                                                                              \
        .lock = PTHREAD_MUTEX_INITIALIZER,                                         \
        .size = ((bytes) + sizeof(void *) - 1U) / sizeof(void *) * sizeof(void *), \
        .room = LIST_HEAD_INITIALIZER(0)                                           \
    }

/** One thing, zeroed; NULL: no memory. */
void *sp_slab_take(struct sp_slab *slab);

/** Give it back; NULL is fine. */
void sp_slab_give(struct sp_slab *slab, void *item);

/** Give back the empty pages of all slabs of this process; a slab must not go before its process does once it had a page. */
void sp_slab_trim(void);

/** Things of different sizes, each from the slab of its size; above SP_SLAB_STEP * SP_SLAB_SIZES bytes sizes double. */
#define SP_SLAB_STEP   8U
#define SP_SLAB_SIZES  32U
#define SP_SLABS_MAX   65408U /**< bytes of the largest thing */
#define SP_SLABS_LARGE 8U     /* 512 … 32768, SP_SLABS_MAX */
struct sp_slabs {
    struct sp_slab by_size[SP_SLAB_SIZES];
    struct sp_slab large[SP_SLABS_LARGE];
};

/** As sp_slab_take(), `bytes` bytes, at most SP_SLABS_MAX. */
void *sp_slabs_take(struct sp_slabs *slabs, size_t bytes);

/** Give it back; `bytes` as when it was taken. */
void sp_slabs_give(struct sp_slabs *slabs, void *item, size_t bytes);

#define SP_SLAB_OF(n) SP_SLAB_INIT((n)*SP_SLAB_STEP)
#define SP_SLAB_EIGHT(n)                                                                \
    SP_SLAB_OF((n) + 1), SP_SLAB_OF((n) + 2), SP_SLAB_OF((n) + 3), SP_SLAB_OF((n) + 4), \
        SP_SLAB_OF((n) + 5), SP_SLAB_OF((n) + 6), SP_SLAB_OF((n) + 7), SP_SLAB_OF((n) + 8)
#define SP_SLABS_INIT                                                                          \
    {                                                                                          \
        {SP_SLAB_EIGHT(0), SP_SLAB_EIGHT(8), SP_SLAB_EIGHT(16), SP_SLAB_EIGHT(24)},            \
        {                                                                                      \
            SP_SLAB_INIT(512U), SP_SLAB_INIT(1024U), SP_SLAB_INIT(2048U), SP_SLAB_INIT(4096U), \
                SP_SLAB_INIT(8192U), SP_SLAB_INIT(16384U), SP_SLAB_INIT(32768U),               \
                SP_SLAB_INIT(SP_SLABS_MAX)                                                     \
        }                                                                                      \
    }

#endif
