/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The clock is a free-running timer of the board and not the kernel's tick count: ticks are lost when an emulator is
 * held off, and a little with every sleep.
 */
#include "board.h"
#include "device/port/freertos/firmware.h"

#include "FreeRTOS.h"
#include "task.h"

#define CYCLES_PER_MS (BOARD_CLOCK_HZ / 1000U)

/* CMSDK APB timer: counts down, then starts over from its reload value. */
struct timer {
    volatile uint32_t ctrl;
    volatile uint32_t value;
    volatile uint32_t reload;
};

#define CTRL_ENABLE 1U

static struct timer *const timer = (struct timer *)(uintptr_t)BOARD_TIMER_BASE;

void sp_firmware_clock_start(void)
{
    timer->ctrl = 0;
    timer->reload = UINT32_MAX;
    timer->value = UINT32_MAX;
    timer->ctrl = CTRL_ENABLE;
}

/* To be called before the counter has gone round: at 20 MHz in less than 214 seconds. */
uint64_t sp_firmware_now(void)
{
    static uint32_t last = UINT32_MAX;
    static uint32_t rest; /* cycles of the running millisecond */
    static uint64_t now_ms;
    taskENTER_CRITICAL();
    uint32_t value = timer->value;
    uint32_t passed = last - value;
    last = value;
    now_ms += passed / CYCLES_PER_MS;
    rest += passed % CYCLES_PER_MS;
    now_ms += rest / CYCLES_PER_MS;
    rest %= CYCLES_PER_MS;
    uint64_t result = now_ms;
    taskEXIT_CRITICAL();
    return result;
}
