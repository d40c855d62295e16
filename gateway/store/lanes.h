/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The rows of a link that wait to be sent, in lanes: a device's rows are all in one lane, one behind the other, and
 * of a lane only so many are under way at a time. With one, the cloud takes a device's messages in the order
 * of acceptance even when it refuses some for now (docs/delivery.md, D7 and D9), and only that lane waits. Lanes take turns.
 *
 * Two devices may share a lane. All functions belong to one thread and cost the same however many rows there are.
 */
#ifndef SP_GATEWAY_STORE_LANES_H
#define SP_GATEWAY_STORE_LANES_H

#include "gateway/store/pace.h"
#include "gateway/store/row.h"

#define SP_LANES 1024U

struct sp_lane {
    struct sp_row_list rows;
    struct sp_lane *next; /* among the ready or the waiting ones */
    uint64_t wait_until;
    struct sp_backoff refused;
    uint32_t taken;
    bool listed; /* it is ready, or waits */
};

struct sp_lanes {
    size_t count;     /**< rows in all lanes; what was taken does not count */
    uint32_t links;   /* the caller's: its streams have the same remainder */
    uint32_t depth;   /* rows of a lane that may be under way */
    uint64_t wake_at; /* when the first waiting lane may go on; UINT64_MAX: none waits */
    struct sp_lane *ready;
    struct sp_lane *last_ready;
    struct sp_lane *waiting;
    struct sp_lane lane[SP_LANES];
};

/** @param links Rows given here have the same stream % links. @param depth At least 1. */
void sp_lanes_init(struct sp_lanes *lanes, uint32_t links, uint32_t depth);
void sp_lanes_clear(struct sp_lanes *lanes); /**< destroys the rows */

/** A new row, behind all of its lane; taken over. */
void sp_lanes_push(struct sp_lanes *lanes, struct sp_row *row);

/** The row whose turn it is, left where it is; NULL: none may go. */
struct sp_row *sp_lanes_peek(const struct sp_lanes *lanes);

/** That row, now the caller's, who says later what became of it. Only after sp_lanes_peek() gave one. */
struct sp_row *sp_lanes_take(struct sp_lanes *lanes);

/** The taken row has ended; still the caller's. */
void sp_lanes_done(struct sp_lanes *lanes, const struct sp_row *row);

/**
 * The taken row is to be tried again: it is the first of its lane, which waits. Rows that were taken behind it will have
 * overtaken it, so this is for a depth of 1. @return How long, in milliseconds.
 */
uint32_t sp_lanes_refuse(struct sp_lanes *lanes, struct sp_row *row, uint64_t now_ms,
                         uint64_t random);

/** All taken rows come back: `rows` in the order of taking, emptied. They go first, in that order. */
void sp_lanes_give_back(struct sp_lanes *lanes, struct sp_row_list *rows);

/** Waits that are over are over. */
void sp_lanes_wake(struct sp_lanes *lanes, uint64_t now_ms);

#endif
