/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One epoll loop of one thread: watched fds, timers, and an inbox that other threads may post to.
 *
 * A turn waits, calls what is ready, then fires timers. The owner does what is to be done once per turn (collected
 * writes, batches to other threads) after each sp_loop_turn().
 */
#ifndef SP_GATEWAY_LOOP_LOOP_H
#define SP_GATEWAY_LOOP_LOOP_H

#include "gateway/loop/timers.h"
#include "libs/base/err.h"

#include <pthread.h>
#include <stdbool.h>

/**
 * A watched fd; lives in its owner. After sp_loop_remove() the memory must stay until the turn has ended: events
 * of this turn that were fetched already are skipped by looking at `fd`. Aligned as its owner, which is found by casting back.
 */
struct sp_watch {
    _Alignas(8) int fd; /**< -1 while not watched */
    uint16_t events;    /**< what it is watched for, EPOLL* bits */
    uint16_t kind;      /* which of its loop's functions is told; private */
};
_Static_assert(sizeof(struct sp_watch) == 8, "what an idle connection costs");

/** Something has come of what is watched for, or an error: EPOLL* bits. */
typedef void (*sp_ready_fn)(struct sp_watch *watch, uint32_t events);

#define SP_LOOP_KINDS 8U /* different functions in one loop */

struct sp_loop {
    int epoll;
    sp_ready_fn ready[SP_LOOP_KINDS]; /* the first that is NULL ends the list */
    struct sp_timers timers;          /**< with the time, read once per turn */
};

/** @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_loop_init(struct sp_loop *loop);
void sp_loop_deinit(struct sp_loop *loop);

/** Watch watch->fd, level-triggered. @retval SP_ERR_IO @retval SP_ERR_LIMIT More than SP_LOOP_KINDS functions. */
SP_MUST_CHECK enum sp_err sp_loop_add(struct sp_loop *loop, struct sp_watch *watch, uint32_t events,
                                      sp_ready_fn ready);
/** Nothing is asked of the kernel where nothing changes. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_loop_change(struct sp_loop *loop, struct sp_watch *watch,
                                         uint32_t events);
/** As sp_loop_turn() does when something is ready. */
void sp_loop_tell(struct sp_loop *loop, struct sp_watch *watch, uint32_t events);

/** Stop watching and forget the fd (it is not closed). @return The fd, -1 when it was not watched. */
int sp_loop_remove(struct sp_loop *loop, struct sp_watch *watch);

/**
 * Close the fd, which ends the watch without a call of its own. Not for an fd that another process has, or has had: the kernel would
 * go on to report what happens there.
 */
void sp_loop_close(struct sp_watch *watch);

/** Wait until something is ready or a timer is due, and handle it. @retval SP_ERR_IO epoll failed. */
SP_MUST_CHECK enum sp_err sp_loop_turn(struct sp_loop *loop);

/** Read the clocks outside of a turn. */
void sp_loop_read_clocks(struct sp_loop *loop);

/** Sleep a fraction of a millisecond: for the few places that look again and again, since no sandbox lets them poll(). */
void sp_loop_nap(void);

/** Milliseconds of the monotonic clock. */
uint64_t sp_clock_ms(void);
/** Milliseconds since 1970. */
uint64_t sp_clock_wall_ms(void);

/** Work handed to another thread; embedded in what it carries. `run` gets the inbox's owner. */
struct sp_parcel {
    struct sp_parcel *next;
    void (*run)(void *owner, struct sp_parcel *parcel);
};

/** A list of parcels in order, collected by one thread during a turn. Zeroed = empty. */
struct sp_outbox {
    struct sp_parcel *first;
    struct sp_parcel *last;
};

void sp_outbox_put(struct sp_outbox *outbox, struct sp_parcel *parcel);

/** Where other threads leave parcels for a loop. */
struct sp_inbox {
    struct sp_watch watch; /* first: ready() casts back */
    pthread_mutex_t lock;
    struct sp_outbox parcels;
    void *owner;
};

/** `owner` is given to each parcel's run(), in the loop's thread. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_inbox_init(struct sp_inbox *inbox, struct sp_loop *loop, void *owner);

/** Take over everything in `outbox`, in order; one lock and at most one system call. From any thread. */
void sp_inbox_post(struct sp_inbox *inbox, struct sp_outbox *outbox);

/** Nothing is there. From any thread. */
bool sp_inbox_is_empty(struct sp_inbox *inbox);

/** Run what is there; also what sp_loop_turn() does when the inbox is signalled. */
void sp_inbox_drain(struct sp_inbox *inbox);
void sp_inbox_deinit(struct sp_inbox *inbox);

#endif
