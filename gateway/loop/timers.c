/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/loop/timers.h"

#include <stddef.h>

/* Of two heaps, the later root becomes the first child of the earlier one. */
static struct sp_timer *meld(struct sp_timer *a, struct sp_timer *b)
{
    if (a == NULL || b == NULL) {
        return a == NULL ? b : a;
    }
    if (b->when < a->when) {
        struct sp_timer *swap = a;
        a = b;
        b = swap;
    }
    b->previous = a;
    b->next = a->child;
    if (b->next != NULL) {
        b->next->previous = b;
    }
    a->child = b;
    return a;
}

/* Meld siblings in pairs from left to right, then the pairs from right to left: this order is what makes
 * the removal cheap on average. Iterative, since a list may be as long as there are connections. */
static struct sp_timer *meld_children(struct sp_timer *first)
{
    struct sp_timer *pairs = NULL;
    while (first != NULL) {
        struct sp_timer *a = first;
        struct sp_timer *b = a->next;
        first = b == NULL ? NULL : b->next;
        a->next = NULL;
        a->previous = NULL;
        if (b != NULL) {
            b->next = NULL;
            b->previous = NULL;
        }
        struct sp_timer *pair = meld(a, b);
        pair->next = pairs;
        pairs = pair;
    }
    struct sp_timer *root = NULL;
    while (pairs != NULL) {
        struct sp_timer *pair = pairs;
        pairs = pair->next;
        pair->next = NULL;
        root = meld(root, pair);
    }
    return root;
}

void sp_timer_clear(struct sp_timers *timers, struct sp_timer *timer)
{
    if (timer->when == 0) {
        return;
    }
    struct sp_timer *rest = meld_children(timer->child);
    if (timer == timers->root) {
        timers->root = rest;
    } else {
        if (timer->previous->child == timer) {
            timer->previous->child = timer->next;
        } else {
            timer->previous->next = timer->next;
        }
        if (timer->next != NULL) {
            timer->next->previous = timer->previous;
        }
        timers->root = meld(timers->root, rest);
    }
    timer->child = NULL;
    timer->next = NULL;
    timer->previous = NULL;
    timer->when = 0;
}

void sp_timer_set(struct sp_timers *timers, struct sp_timer *timer, uint64_t when)
{
    sp_timer_clear(timers, timer);
    timer->when = when == 0 ? 1 : when;
    timers->root = meld(timers->root, timer);
}

uint64_t sp_timers_next(const struct sp_timers *timers)
{
    return timers->root == NULL ? UINT64_MAX : timers->root->when;
}

void sp_timers_run(struct sp_timers *timers, uint64_t now)
{
    while (timers->root != NULL && timers->root->when <= now) {
        struct sp_timer *due = timers->root;
        sp_timer_clear(timers, due);
        due->fire(due);
    }
}
