/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/rest.h"

#include <errno.h>
#include <time.h>

uint64_t sp_rest_now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000U + (uint64_t)t.tv_nsec / 1000U;
}

uint64_t sp_rest_now_ms(void)
{
    return sp_rest_now() / 1000U;
}

void sp_rest_until(uint64_t us)
{
    const struct timespec t = {.tv_sec = (time_t)(us / 1000000U),
                               .tv_nsec = (long)(us % 1000000U * 1000U)};
    while (sp_rest_now() < us &&
           clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) == EINTR) {
    }
}
