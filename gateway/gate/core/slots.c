/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/slots.h"

#include <stdlib.h>

static enum sp_err grow(struct sp_slots *slots)
{
    uint32_t cap = slots->cap == 0 ? 16 : slots->cap * 2;
    struct sp_slot *grown = realloc(slots->slots, cap * sizeof(struct sp_slot));
    if (grown == NULL) {
        return SP_ERR_NOMEM;
    }
    slots->slots = grown;
    slots->cap = cap;
    return SP_OK;
}

enum sp_err sp_slots_put(struct sp_slots *slots, void *item, sp_slot_tag *out)
{
    if (slots->first_free == 0 && slots->fresh == slots->cap) {
        SP_TRY(grow(slots));
    }
    uint32_t index = slots->first_free == 0 ? slots->fresh++ : slots->first_free - 1;
    struct sp_slot *slot = &slots->slots[index];
    if (slots->first_free == 0) {
        slot->generation = 1;
    } else {
        slots->first_free = slot->next_free;
    }
    slot->item = item;
    *out = (uint64_t)slot->generation << 32 | index;
    return SP_OK;
}

static struct sp_slot *find(const struct sp_slots *slots, sp_slot_tag tag)
{
    uint32_t index = (uint32_t)tag;
    if (index >= slots->fresh) {
        return NULL;
    }
    struct sp_slot *slot = &slots->slots[index];
    return slot->item != NULL && slot->generation == (uint32_t)(tag >> 32) ? slot : NULL;
}

void *sp_slots_find(const struct sp_slots *slots, sp_slot_tag tag)
{
    const struct sp_slot *slot = find(slots, tag);
    return slot == NULL ? NULL : slot->item;
}

void sp_slots_remove(struct sp_slots *slots, sp_slot_tag tag)
{
    struct sp_slot *slot = find(slots, tag);
    if (slot != NULL) {
        slot->item = NULL;
        slot->generation = slot->generation == UINT32_MAX ? 1 : slot->generation + 1;
        slot->next_free = slots->first_free;
        slots->first_free = (uint32_t)tag + 1;
    }
}

void *sp_slots_each(const struct sp_slots *slots, uint32_t *index)
{
    while (*index < slots->fresh) {
        void *item = slots->slots[(*index)++].item;
        if (item != NULL) {
            return item;
        }
    }
    return NULL;
}

void sp_slots_deinit(struct sp_slots *slots)
{
    free(slots->slots);
    *slots = (struct sp_slots){.slots = NULL};
}
