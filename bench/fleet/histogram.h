/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Latencies in buckets of under 1 %: constant memory, any number of samples. */
#ifndef SP_BENCH_FLEET_HISTOGRAM_H
#define SP_BENCH_FLEET_HISTOGRAM_H

#include <stdint.h>

#define SP_HISTOGRAM_SUB     128U /**< buckets per power of two */
#define SP_HISTOGRAM_BUCKETS (SP_HISTOGRAM_SUB * 40U)

/** All zero is an empty histogram. */
struct sp_histogram {
    uint64_t count;
    uint64_t max; /**< nanoseconds */
    uint64_t buckets[SP_HISTOGRAM_BUCKETS];
};

/** Count one sample, in nanoseconds; anything above about 9 minutes counts as that. */
void sp_histogram_add(struct sp_histogram *h, uint64_t ns);

/** The sample that `share` (0..1) of all samples do not exceed, in microseconds; 0 when empty. */
double sp_histogram_us(const struct sp_histogram *h, double share);

#endif
