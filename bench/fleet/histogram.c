/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/histogram.h"

/* Values below SP_HISTOGRAM_SUB have a bucket each; above, the top eight bits pick it. */
static unsigned bucket_of(uint64_t value)
{
    unsigned shift = 0;
    while (value >> shift >= 2ULL * SP_HISTOGRAM_SUB) {
        shift++;
    }
    unsigned index = shift * SP_HISTOGRAM_SUB + (unsigned)(value >> shift);
    return index < SP_HISTOGRAM_BUCKETS ? index : SP_HISTOGRAM_BUCKETS - 1U;
}

static uint64_t top_of(unsigned index)
{
    if (index < 2U * SP_HISTOGRAM_SUB) {
        return index;
    }
    unsigned shift = index / SP_HISTOGRAM_SUB - 1U;
    uint64_t high = index % SP_HISTOGRAM_SUB + SP_HISTOGRAM_SUB;
    return ((high + 1U) << shift) - 1U;
}

void sp_histogram_add(struct sp_histogram *h, uint64_t ns)
{
    h->count++;
    h->max = ns > h->max ? ns : h->max;
    h->buckets[bucket_of(ns)]++;
}

double sp_histogram_us(const struct sp_histogram *h, double share)
{
    if (h->count == 0) {
        return 0;
    }
    double wanted = share * (double)h->count;
    uint64_t seen = 0;
    for (unsigned i = 0; i < SP_HISTOGRAM_BUCKETS; i++) {
        seen += h->buckets[i];
        if (h->buckets[i] != 0 && (double)seen >= wanted) {
            uint64_t top = top_of(i);
            return (double)(top < h->max ? top : h->max) / 1000.0;
        }
    }
    return (double)h->max / 1000.0;
}
