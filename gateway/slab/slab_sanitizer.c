/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Under a sanitizer each thing is an allocation of its own, so that use after it was given back is seen. */
#include "gateway/slab/slab.h"

#include <stdlib.h>

#include "gateway/metrics/metrics.h"
#include "gateway/slab/ref.h"

_Static_assert(SP_REF_IS_POINTER, "its things lie anywhere");

void *sp_slab_take(struct sp_slab *slab)
{
    void *item = calloc(1, slab->size);
    sp_metric_add(SP_M_SLAB_BYTES, item == NULL ? 0 : (int64_t)slab->size);
    return item;
}

void sp_slab_give(struct sp_slab *slab, void *item)
{
    sp_metric_add(SP_M_SLAB_BYTES, item == NULL ? 0 : -(int64_t)slab->size);
    free(item);
}

void sp_slab_trim(void)
{
    /* Nothing is kept. */
}
