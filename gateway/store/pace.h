/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file When to try again, and how fast one may go. Pure: time and randomness come in as arguments. */
#ifndef SP_GATEWAY_STORE_PACE_H
#define SP_GATEWAY_STORE_PACE_H

#include <stdbool.h>
#include <stdint.h>

#define SP_BACKOFF_BASE_MS 1000U   /**< longest first wait; doubles from failure to failure … */
#define SP_BACKOFF_CAP_MS  120000U /**< … up to this */
#define SP_BACKOFF_STABLE_MS \
    30000U /**< a connection that lasted so long starts again at the base */

/** Exponential back-off with full jitter: the wait is anything from 0 to the current longest. */
struct sp_backoff {
    unsigned failures; /**< in a row; 0 to start with */
};

/** Count a failure. @return Milliseconds to wait. */
uint32_t sp_backoff_next(struct sp_backoff *backoff, uint64_t random);

/**
 * A token bucket that never lets more than `per_second` through in any second: it holds a twentieth of that,
 * and fills with the rest. What is larger than the bucket goes when it is full, and is paid for afterwards.
 */
struct sp_bucket {
    uint64_t fill;    /**< units per second; 0 = no limit */
    int64_t capacity; /**< thousandths of a unit */
    int64_t level;    /**< the same; negative while something large is being paid for */
    uint64_t last_ms;
};

void sp_bucket_init(struct sp_bucket *bucket, uint32_t per_second, uint64_t now_ms);

/** Something of `units` may go now. */
bool sp_bucket_ready(struct sp_bucket *bucket, uint64_t units, uint64_t now_ms);

/** It went (also what was not asked for). */
void sp_bucket_take(struct sp_bucket *bucket, uint64_t units);

/** Milliseconds until sp_bucket_ready() will say yes; 0: now. */
uint64_t sp_bucket_wait(struct sp_bucket *bucket, uint64_t units, uint64_t now_ms);

#endif
