/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/loop/wheel.h"

#include <stdbool.h>
#include <stddef.h>

#define LOOKED_AT SP_WHEEL_SLOTS /* the list of the nodes that were in the slot which is walked */

static void run(struct sp_timer *timer);

void sp_wheel_init(struct sp_wheel *wheel, struct sp_timers *timers,
                   uint64_t (*when)(const struct sp_wheel_node *node),
                   void (*fire)(struct sp_wheel_node *node))
{
    *wheel = (struct sp_wheel){.timers = timers,
                               .when = when,
                               .fire = fire,
                               .timer = {.fire = run},
                               .tick = timers->now_ms / SP_WHEEL_TICK_MS};
}

void sp_wheel_deinit(struct sp_wheel *wheel)
{
    if (wheel->timers != NULL) {
        sp_timer_clear(wheel->timers, &wheel->timer);
    }
}

static struct sp_wheel_node *first_of(const struct sp_wheel *wheel, uint64_t list)
{
    return sp_ref_get(wheel->lists[list]);
}

static struct sp_wheel_node *next_of(const struct sp_wheel_node *node)
{
    return sp_ref_get(node->next);
}

static void hang(struct sp_wheel *wheel, uint64_t list, struct sp_wheel_node *node)
{
    struct sp_wheel_node *next = first_of(wheel, list);
    node->next = wheel->lists[list];
    node->before = (sp_ref)list + 1;
    wheel->lists[list] = sp_ref_of(node);
    if (next != NULL) {
        next->before = wheel->lists[list];
    }
}

/* It is the first of the list that `before` numbers. A ref of another node may look like a number, but then it is the first of none. */
static bool is_first(const struct sp_wheel *wheel, const struct sp_wheel_node *node)
{
    return node->before <= LOOKED_AT + 1 && first_of(wheel, node->before - 1) == node;
}

void sp_wheel_clear(struct sp_wheel *wheel, struct sp_wheel_node *node)
{
    struct sp_wheel_node *next = next_of(node);
    if (node->before == 0) {
        return;
    }
    if (is_first(wheel, node)) {
        wheel->lists[node->before - 1] = node->next;
    } else {
        struct sp_wheel_node *before = sp_ref_get(node->before);
        before->next = node->next;
    }
    if (next != NULL) {
        next->before = node->before;
    }
    *node = (struct sp_wheel_node){.next = 0};
}

/* Into the slot of its time, or into the one that is nearest to that. */
static void put(struct sp_wheel *wheel, struct sp_wheel_node *node, uint64_t when)
{
    uint64_t tick = when / SP_WHEEL_TICK_MS;
    if (tick < wheel->tick) {
        tick = wheel->tick;
    } else if (tick - wheel->tick >= SP_WHEEL_SLOTS) {
        tick = wheel->tick + SP_WHEEL_SLOTS - 1;
    }
    uint64_t slot = tick % SP_WHEEL_SLOTS;
    hang(wheel, slot, node);
    wheel->used[slot / 64] |= UINT64_C(1) << slot % 64;
}

void sp_wheel_set(struct sp_wheel *wheel, struct sp_wheel_node *node)
{
    uint64_t when = wheel->when(node);
    sp_wheel_clear(wheel, node);
    if (when == UINT64_MAX) {
        return;
    }
    put(wheel, node, when);
    if (wheel->timer.when == 0 || when < wheel->timer.when) {
        sp_timer_set(wheel->timers, &wheel->timer, when);
    }
}

/* Take all out of a slot: fire what is due, and put the rest where it belongs. Who fires may clear others. */
static void walk(struct sp_wheel *wheel, uint64_t slot, uint64_t now)
{
    struct sp_wheel_node *node = first_of(wheel, slot);
    wheel->lists[LOOKED_AT] = wheel->lists[slot];
    wheel->lists[slot] = 0;
    wheel->used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    if (node != NULL) {
        node->before = LOOKED_AT + 1;
    }
    while ((node = first_of(wheel, LOOKED_AT)) != NULL) {
        uint64_t when = wheel->when(node);
        sp_wheel_clear(wheel, node);
        if (when <= now) {
            wheel->fire(node);
        } else if (when != UINT64_MAX) {
            put(wheel, node, when);
        }
    }
}

/* From `tick` on, the first in use; false: none is. */
static bool first_used(const struct sp_wheel *wheel, uint64_t *tick)
{
    uint64_t end = *tick + SP_WHEEL_SLOTS;
    while (*tick < end) {
        uint64_t slot = *tick % SP_WHEEL_SLOTS;
        uint64_t bits = wheel->used[slot / 64] >> slot % 64;
        if (bits != 0) {
            *tick += (unsigned)__builtin_ctzll(bits);
            return *tick < end;
        }
        *tick += 64 - slot % 64;
    }
    return false;
}

/* When the first slot in use has to be looked at: when one of its nodes is due, or when it is over. */
static void plan(struct sp_wheel *wheel)
{
    uint64_t tick = wheel->tick;
    while (first_used(wheel, &tick)) {
        uint64_t slot = tick % SP_WHEEL_SLOTS;
        uint64_t next = (tick + 1) * SP_WHEEL_TICK_MS;
        const struct sp_wheel_node *node = first_of(wheel, slot);
        if (node != NULL) {
            for (; node != NULL; node = next_of(node)) {
                uint64_t when = wheel->when(node);
                next = when < next ? when : next;
            }
            sp_timer_set(wheel->timers, &wheel->timer, next);
            return;
        }
        wheel->used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    }
    sp_timer_clear(wheel->timers, &wheel->timer);
}

static void run(struct sp_timer *timer)
{
    struct sp_wheel *wheel =
        (struct sp_wheel *)(void *)((char *)timer - offsetof(struct sp_wheel, timer));
    uint64_t now = wheel->timers->now_ms;
    uint64_t from = wheel->tick;
    uint64_t last = now / SP_WHEEL_TICK_MS;
    uint64_t count = last - from >= SP_WHEEL_SLOTS ? SP_WHEEL_SLOTS : last - from + 1;
    wheel->tick = last;
    for (uint64_t i = 0; i < count; i++) {
        walk(wheel, (from + i) % SP_WHEEL_SLOTS, now);
    }
    plan(wheel);
}
