/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/lanes.h"

#include <stddef.h>

void sp_lanes_init(struct sp_lanes *lanes, uint32_t links, uint32_t depth)
{
    *lanes = (struct sp_lanes){.links = links, .depth = depth, .wake_at = UINT64_MAX};
}

void sp_lanes_clear(struct sp_lanes *lanes)
{
    for (size_t i = 0; i < SP_LANES; i++) {
        sp_row_list_clear(&lanes->lane[i].rows);
    }
    sp_lanes_init(lanes, lanes->links, lanes->depth);
}

static size_t number_of(const struct sp_lanes *lanes, const struct sp_row *row)
{
    return row->stream / lanes->links % SP_LANES;
}

static void line_up(struct sp_lanes *lanes, struct sp_lane *lane)
{
    lane->next = NULL;
    lane->listed = true;
    if (lanes->ready == NULL) {
        lanes->ready = lane;
    } else {
        lanes->last_ready->next = lane;
    }
    lanes->last_ready = lane;
}

/* It is ready if it has a row that may go, and not if it waits. */
static void look_at(struct sp_lanes *lanes, struct sp_lane *lane)
{
    if (!lane->listed && lane->rows.head != NULL && lane->taken < lanes->depth) {
        line_up(lanes, lane);
    }
}

static void push_front(struct sp_lanes *lanes, struct sp_row *row)
{
    struct sp_lane *lane = &lanes->lane[number_of(lanes, row)];
    struct sp_row_list all = {0};
    sp_row_list_push(&all, row);
    sp_row_list_append(&all, &lane->rows);
    lane->rows = all;
    lane->taken--;
    lanes->count++;
}

void sp_lanes_push(struct sp_lanes *lanes, struct sp_row *row)
{
    struct sp_lane *lane = &lanes->lane[number_of(lanes, row)];
    sp_row_list_push(&lane->rows, row);
    lanes->count++;
    look_at(lanes, lane);
}

struct sp_row *sp_lanes_peek(const struct sp_lanes *lanes)
{
    return lanes->ready == NULL ? NULL : lanes->ready->rows.head;
}

struct sp_row *sp_lanes_take(struct sp_lanes *lanes)
{
    struct sp_lane *lane = lanes->ready;
    struct sp_row *row = sp_row_list_pop(&lane->rows);
    lanes->ready = lane->next;
    lane->listed = false;
    lane->taken++;
    lanes->count--;
    look_at(lanes, lane);
    return row;
}

void sp_lanes_done(struct sp_lanes *lanes, const struct sp_row *row)
{
    struct sp_lane *lane = &lanes->lane[number_of(lanes, row)];
    lane->taken--;
    lane->refused.failures = 0;
    look_at(lanes, lane);
}

uint32_t sp_lanes_refuse(struct sp_lanes *lanes, struct sp_row *row, uint64_t now_ms,
                         uint64_t random)
{
    struct sp_lane *lane = &lanes->lane[number_of(lanes, row)];
    uint32_t wait = sp_backoff_next(&lane->refused, random);
    push_front(lanes, row);
    if (!lane->listed) {
        lane->listed = true;
        lane->wait_until = now_ms + wait;
        lane->next = lanes->waiting;
        lanes->waiting = lane;
        lanes->wake_at = lane->wait_until < lanes->wake_at ? lane->wait_until : lanes->wake_at;
    }
    return wait;
}

void sp_lanes_give_back(struct sp_lanes *lanes, struct sp_row_list *rows)
{
    struct sp_lane *others[SP_LANES];
    struct sp_lane *first[SP_LANES]; /* lanes of the rows, that of the last row at the beginning */
    struct sp_row *backwards = NULL;
    size_t other_count = 0;
    size_t count = 0;
    for (; lanes->ready != NULL; lanes->ready = lanes->ready->next) {
        lanes->ready->listed = false;
        others[other_count++] = lanes->ready;
    }
    for (struct sp_row *row = sp_row_list_pop(rows); row != NULL; row = sp_row_list_pop(rows)) {
        row->next = backwards;
        backwards = row;
    }
    while (backwards != NULL) {
        struct sp_row *row = backwards;
        struct sp_lane *lane = &lanes->lane[number_of(lanes, row)];
        backwards = row->next;
        push_front(lanes, row);
        if (lane->taken == 0) {
            first[count++] = lane;
        }
    }
    while (count > 0) {
        look_at(lanes, first[--count]);
    }
    for (size_t i = 0; i < other_count; i++) {
        look_at(lanes, others[i]);
    }
}

void sp_lanes_wake(struct sp_lanes *lanes, uint64_t now_ms)
{
    if (now_ms < lanes->wake_at) {
        return;
    }
    struct sp_lane *list = lanes->waiting;
    lanes->waiting = NULL;
    lanes->wake_at = UINT64_MAX;
    while (list != NULL) {
        struct sp_lane *lane = list;
        list = lane->next;
        if (lane->wait_until <= now_ms) {
            lane->listed = false;
            look_at(lanes, lane);
        } else {
            lane->next = lanes->waiting;
            lanes->waiting = lane;
            lanes->wake_at = lane->wait_until < lanes->wake_at ? lane->wait_until : lanes->wake_at;
        }
    }
}
