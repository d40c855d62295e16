/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/loop/wheel.h"

#include <stdbool.h>
#include <stddef.h>

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

static void hang(struct sp_wheel_node **at, struct sp_wheel_node *node)
{
    node->next = *at;
    node->at = at;
    if (node->next != NULL) {
        node->next->at = &node->next;
    }
    *at = node;
}

void sp_wheel_clear(struct sp_wheel_node *node)
{
    if (node->at != NULL) {
        *node->at = node->next;
        if (node->next != NULL) {
            node->next->at = node->at;
        }
        node->at = NULL;
    }
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
    hang(&wheel->slots[slot], node);
    wheel->used[slot / 64] |= UINT64_C(1) << slot % 64;
}

void sp_wheel_set(struct sp_wheel *wheel, struct sp_wheel_node *node)
{
    uint64_t when = wheel->when(node);
    sp_wheel_clear(node);
    if (when == UINT64_MAX) {
        return;
    }
    put(wheel, node, when);
    if (wheel->timer.when == 0 || when < wheel->timer.when) {
        sp_timer_set(wheel->timers, &wheel->timer, when);
    }
}

/* Take all out of a slot: fire what is due, and put the rest where it belongs. */
static void walk(struct sp_wheel *wheel, uint64_t slot, uint64_t now)
{
    struct sp_wheel_node *list = wheel->slots[slot];
    wheel->slots[slot] = NULL;
    wheel->used[slot / 64] &= ~(UINT64_C(1) << slot % 64);
    if (list != NULL) {
        list->at = &list; /* who fires may clear others */
    }
    while (list != NULL) {
        struct sp_wheel_node *node = list;
        uint64_t when = wheel->when(node);
        sp_wheel_clear(node);
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
        const struct sp_wheel_node *node = wheel->slots[slot];
        if (node != NULL) {
            for (; node != NULL; node = node->next) {
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
