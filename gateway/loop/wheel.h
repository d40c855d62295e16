/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file A wheel of deadlines, for very many of one kind: 8 bytes for each, where a timer has 40. Setting one never allocates and never fails.
 *
 * When something is due, its owner knows: the wheel asks when(). It keeps nodes in slots by time, and one timer for all of them, which
 * fires to the millisecond as any other. A deadline may become later without a word to the wheel; one that becomes earlier is set anew.
 */
#ifndef SP_GATEWAY_LOOP_WHEEL_H
#define SP_GATEWAY_LOOP_WHEEL_H

#include "gateway/loop/timers.h"
#include "gateway/slab/ref.h"

#define SP_WHEEL_SLOTS   1024U /* a multiple of 64 */
#define SP_WHEEL_TICK_MS 128U  /* of one slot; what is later than all slots is looked at again */

/** Lives in its owner, which lies in a slab. Zeroed = not set. Private. */
struct sp_wheel_node {
    _Alignas(8) sp_ref next;
    sp_ref before; /* the node; of the first in a list: the list's number + 1; 0: not set */
};

struct sp_wheel {
    struct sp_timers *timers;
    uint64_t (*when)(const struct sp_wheel_node *node);
    void (*fire)(struct sp_wheel_node *node);
    struct sp_timer timer; /* for the earliest slot that is in use */
    uint64_t tick;         /* since the clock's beginning; the slots of earlier ones are empty */
    uint64_t used[SP_WHEEL_SLOTS / 64]; /* a bit for each slot; one that is empty may have it */
    sp_ref lists[SP_WHEEL_SLOTS +
                 1]; /* the first node of each slot, and of those that are looked at */
};

/**
 * @param[in] timers Borrowed: its clock, and one timer in it.
 * @param[in] when   Milliseconds of its clock when a node is due; UINT64_MAX: never.
 * @param[in] fire   A node is due, and not set any more; it may be set again, for later than now.
 */
void sp_wheel_init(struct sp_wheel *wheel, struct sp_timers *timers,
                   uint64_t (*when)(const struct sp_wheel_node *node),
                   void (*fire)(struct sp_wheel_node *node));

/** Set or move a node to when(node). */
void sp_wheel_set(struct sp_wheel *wheel, struct sp_wheel_node *node);

/** Fine on a node that is not set. */
void sp_wheel_clear(struct sp_wheel *wheel, struct sp_wheel_node *node);

/** Its timer; nothing fires afterwards. */
void sp_wheel_deinit(struct sp_wheel *wheel);

#endif
