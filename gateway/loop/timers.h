/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Timers of one thread and what time it is there. An intrusive pairing heap: setting one never allocates and
 * never fails.
 *
 * Times are milliseconds of one monotonic clock. Nothing here reads a clock.
 */
#ifndef SP_GATEWAY_LOOP_TIMERS_H
#define SP_GATEWAY_LOOP_TIMERS_H

#include <stdint.h>

/** A timer lives in its owner. Zeroed = not set. `fire` is set by the owner, the rest is private. */
struct sp_timer {
    void (*fire)(struct sp_timer *timer);
    uint64_t when;          /* 0: not set */
    struct sp_timer *child; /* the first of those that are later than this one */
    struct sp_timer *next;  /* next child of the same parent */
    struct sp_timer
        *previous; /* previous child, or the parent for the first one; NULL for the root */
};

struct sp_timers {
    struct sp_timer *root; /**< the earliest; NULL: none */
    uint64_t now_ms; /**< monotonic; set by the owner once per turn, so that all of a turn agrees */
    uint64_t wall_ms; /**< since 1970; the same */
};

/** Set, or move, a timer. */
void sp_timer_set(struct sp_timers *timers, struct sp_timer *timer, uint64_t when);

/** Fine on a timer that is not set. */
void sp_timer_clear(struct sp_timers *timers, struct sp_timer *timer);

/** When the earliest is due; UINT64_MAX when none is set. */
uint64_t sp_timers_next(const struct sp_timers *timers);

/** Fire every timer that is due at `now`; each is cleared first, and may set itself again for later than `now`. */
void sp_timers_run(struct sp_timers *timers, uint64_t now);

#endif
