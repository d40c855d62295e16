/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/start/clock.h"

#include "device/secure/start/registers.h"

#define TICKS_PER_SECOND 32768U

static uint32_t last;
static uint64_t ticks;

void sp_clock_start(void)
{
    SP_REG(S32K_TIMER_RELOAD) = 0xFFFFFFFFU;
    SP_REG(S32K_TIMER_VALUE) = 0xFFFFFFFFU;
    SP_REG(S32K_TIMER_CTRL) = 1;
    last = SP_REG(S32K_TIMER_VALUE);
}

uint64_t sp_clock_ms(void)
{
    uint32_t now = SP_REG(S32K_TIMER_VALUE);
    ticks += last - now; /* it counts down */
    last = now;
    return ticks * 1000U / TICKS_PER_SECOND;
}
