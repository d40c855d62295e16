/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The kernel as the firmware uses it: static allocation only, no software timers, tickless idle. */
#ifndef FREERTOS_CONFIG_H
#define FREERTOS_CONFIG_H

#include "board.h"

#include <stdint.h>

#define configCPU_CLOCK_HZ       BOARD_CLOCK_HZ
#define configTICK_RATE_HZ       1000
#define configUSE_16_BIT_TICKS   0
#define configUSE_PREEMPTION     1
#define configUSE_TIME_SLICING   1
#define configUSE_TICKLESS_IDLE  1
#define configUSE_IDLE_HOOK      0
#define configUSE_TICK_HOOK      0
#define configMAX_PRIORITIES     4
#define configMAX_TASK_NAME_LEN  8
#define configMINIMAL_STACK_SIZE 128
#define configSTACK_DEPTH_TYPE   uint32_t
#define configIDLE_SHOULD_YIELD  1

#define configSUPPORT_STATIC_ALLOCATION     1
#define configSUPPORT_DYNAMIC_ALLOCATION    0
#define configKERNEL_PROVIDED_STATIC_MEMORY 0

#define configUSE_MUTEXES                   1
#define configUSE_TASK_NOTIFICATIONS        1
#define configUSE_TIMERS                    0
#define configUSE_CO_ROUTINES               0
#define configCHECK_FOR_STACK_OVERFLOW      0 /* the processor checks: PSPLIM */
#define configENABLE_BACKWARD_COMPATIBILITY 0

#define INCLUDE_vTaskSuspend           1
#define INCLUDE_xTaskGetSchedulerState 1
#define INCLUDE_vTaskDelay             1

/*
 * Priorities of interrupts, as bytes of which at least the upper three bits exist. The kernel runs at the lowest; what
 * is above MAX_SYSCALL may not call it.
 */
#define configKERNEL_INTERRUPT_PRIORITY      0xE0U
#define configMAX_SYSCALL_INTERRUPT_PRIORITY 0x40U

void sp_firmware_halt(const char *file, int line);
#define configASSERT(condition)                   \
    do {                                          \
        if (!(condition)) {                       \
            sp_firmware_halt(__FILE__, __LINE__); \
        }                                         \
    } while (0)

#endif
