/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/pace.h"

#define SCALE 1000

uint32_t sp_backoff_next(struct sp_backoff *backoff, uint64_t random)
{
    uint32_t longest = SP_BACKOFF_CAP_MS;
    if (backoff->failures < 7) {
        uint32_t doubled = SP_BACKOFF_BASE_MS << backoff->failures;
        longest = doubled < longest ? doubled : longest;
        backoff->failures++;
    }
    return (uint32_t)(random % (longest + 1U));
}

void sp_bucket_init(struct sp_bucket *bucket, uint32_t per_second, uint64_t now_ms)
{
    uint32_t burst = per_second / 20U > 0 ? per_second / 20U : 1U;
    bucket->fill = per_second > 1U ? per_second - burst : per_second;
    bucket->capacity = (int64_t)burst * SCALE;
    bucket->level = bucket->capacity;
    bucket->last_ms = now_ms;
}

static void refill(struct sp_bucket *bucket, uint64_t now_ms)
{
    uint64_t passed = now_ms > bucket->last_ms ? now_ms - bucket->last_ms : 0;
    bucket->last_ms = now_ms;
    if (passed > 3600000U) {
        passed = 3600000U;
    }
    bucket->level += (int64_t)(passed * bucket->fill); /* ms * units/s = thousandths */
    if (bucket->level > bucket->capacity) {
        bucket->level = bucket->capacity;
    }
}

static int64_t needed(const struct sp_bucket *bucket, uint64_t units)
{
    int64_t need = units > INT32_MAX ? INT64_MAX : (int64_t)units * SCALE;
    return need < bucket->capacity ? need : bucket->capacity;
}

bool sp_bucket_ready(struct sp_bucket *bucket, uint64_t units, uint64_t now_ms)
{
    return sp_bucket_wait(bucket, units, now_ms) == 0;
}

void sp_bucket_take(struct sp_bucket *bucket, uint64_t units)
{
    if (bucket->fill > 0) {
        bucket->level -= (int64_t)(units < INT32_MAX ? units : INT32_MAX) * SCALE;
    }
}

uint64_t sp_bucket_wait(struct sp_bucket *bucket, uint64_t units, uint64_t now_ms)
{
    if (bucket->fill == 0) {
        return 0;
    }
    refill(bucket, now_ms);
    int64_t missing = needed(bucket, units) - bucket->level;
    return missing <= 0 ? 0 : ((uint64_t)missing + bucket->fill - 1) / bucket->fill;
}
