/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/slab/slab.h"

static struct sp_slab *slab_for(struct sp_slabs *slabs, size_t bytes)
{
    size_t steps = bytes == 0 ? 1 : (bytes + SP_SLAB_STEP - 1) / SP_SLAB_STEP;
    size_t large = 0;
    if (steps <= SP_SLAB_SIZES) {
        return &slabs->by_size[steps - 1];
    }
    while (large < SP_SLABS_LARGE - 1 && slabs->large[large].size < bytes) {
        large++;
    }
    return &slabs->large[large];
}

void *sp_slabs_take(struct sp_slabs *slabs, size_t bytes)
{
    return bytes > SP_SLABS_MAX ? NULL : sp_slab_take(slab_for(slabs, bytes));
}

void sp_slabs_give(struct sp_slabs *slabs, void *item, size_t bytes)
{
    sp_slab_give(slab_for(slabs, bytes), item);
}
