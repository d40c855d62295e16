/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/slab/slab.h"

#include <stdlib.h>

static struct sp_slab *slab_for(struct sp_slabs *slabs, size_t bytes)
{
    size_t steps = bytes == 0 ? 1 : (bytes + SP_SLAB_STEP - 1) / SP_SLAB_STEP;
    return steps > SP_SLAB_SIZES ? NULL : &slabs->by_size[steps - 1];
}

void *sp_slabs_take(struct sp_slabs *slabs, size_t bytes)
{
    struct sp_slab *slab = slab_for(slabs, bytes);
    return slab == NULL ? calloc(1, bytes) : sp_slab_take(slab);
}

void sp_slabs_give(struct sp_slabs *slabs, void *item, size_t bytes)
{
    struct sp_slab *slab = slab_for(slabs, bytes);
    if (slab == NULL) {
        free(item);
    } else {
        sp_slab_give(slab, item);
    }
}
