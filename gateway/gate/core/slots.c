/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/slots.h"

#include <stdlib.h>

static enum sp_err grow(struct sp_slots *slots)
{
    uint32_t cap = slots->cap < 16 ? 16 : slots->cap + slots->cap / 4;
    sp_ref *grown = realloc(slots->items, cap * sizeof(*grown));
    slots->items = grown == NULL ? slots->items : grown;
    uint32_t *generations =
        grown == NULL ? NULL : realloc(slots->generations, cap * sizeof(*generations));
    if (generations == NULL) {
        return SP_ERR_NOMEM;
    }
    slots->generations = generations;
    slots->cap = cap;
    return SP_OK;
}

enum sp_err sp_slots_put(struct sp_slots *slots, void *item, sp_slot_tag *out)
{
    if (slots->first_free == 0 && slots->fresh == slots->cap) {
        SP_TRY(grow(slots));
    }
    uint32_t index = slots->first_free == 0 ? slots->fresh++ : slots->first_free - 1;
    if (slots->first_free == 0) {
        slots->generations[index] = 0;
    } else {
        slots->first_free = (uint32_t)slots->items[index];
    }
    slots->generations[index]++; /* odd now; after a very long time it begins anew */
    slots->items[index] = sp_ref_of(item);
    *out = sp_slots_tag(slots, index);
    return SP_OK;
}

static bool is_used(const struct sp_slots *slots, uint32_t index)
{
    return (slots->generations[index] & 1U) != 0;
}

static bool is_there(const struct sp_slots *slots, sp_slot_tag tag)
{
    uint32_t index = (uint32_t)tag;
    return index < slots->fresh && is_used(slots, index) &&
           slots->generations[index] == (uint32_t)(tag >> 32);
}

void *sp_slots_find(const struct sp_slots *slots, sp_slot_tag tag)
{
    return is_there(slots, tag) ? sp_ref_at(slots->items[(uint32_t)tag]) : NULL;
}

void sp_slots_remove(struct sp_slots *slots, sp_slot_tag tag)
{
    uint32_t index = (uint32_t)tag;
    if (is_there(slots, tag)) {
        slots->generations[index]++;
        slots->items[index] = slots->first_free;
        slots->first_free = index + 1;
    }
}

void *sp_slots_each(const struct sp_slots *slots, uint32_t *index)
{
    while (*index < slots->fresh) {
        uint32_t at = (*index)++;
        if (is_used(slots, at)) {
            return sp_ref_at(slots->items[at]);
        }
    }
    return NULL;
}

void sp_slots_deinit(struct sp_slots *slots)
{
    free(slots->items);
    free(slots->generations);
    *slots = (struct sp_slots){.items = NULL};
}
