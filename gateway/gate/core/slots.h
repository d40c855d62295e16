/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Numbers for things that come and go: a slot has an index that is used again and a generation that
 * tells its users apart, so that a late answer for one that is gone finds nobody.
 */
#ifndef SP_GATEWAY_GATE_CORE_SLOTS_H
#define SP_GATEWAY_GATE_CORE_SLOTS_H

#include "gateway/slab/ref.h"
#include "libs/base/bytes.h"

/** index in the low half, generation in the high half; never 0 */
typedef uint64_t sp_slot_tag;

/** Zeroed = empty. For each 8 bytes, in two lists that grow by a quarter. */
struct sp_slots {
    sp_ref *items;         /* while nothing is in a slot: index + 1 of the next such one; 0: none */
    uint32_t *generations; /* of the slots: odd while something is in it */
    uint32_t cap;
    uint32_t fresh;      /* those from here on were never used, and their memory never touched */
    uint32_t first_free; /* index + 1 of one that was; 0: none */
};

/** `item` lies in a slab. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_slots_put(struct sp_slots *slots, void *item, sp_slot_tag *out);

/** What has that tag, borrowed; NULL when it is gone. */
void *sp_slots_find(const struct sp_slots *slots, sp_slot_tag tag);

/** The tag of what is at an index: the low half of its tag. */
static inline sp_slot_tag sp_slots_tag(const struct sp_slots *slots, uint32_t index)
{
    return (uint64_t)slots->generations[index] << 32 | index;
}

void sp_slots_remove(struct sp_slots *slots, sp_slot_tag tag);

/** Walk all: the first item at or behind *index, which is moved behind it; NULL at the end. */
void *sp_slots_each(const struct sp_slots *slots, uint32_t *index);

void sp_slots_deinit(struct sp_slots *slots);

#endif
