/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What the FreeRTOS kernel (9 to 11) asks of its port: Armv8-M mainline, non-secure world, no FPU.
 *
 * A task that is inside a call of the secure world may be preempted like any other: its EXC_RETURN, which says in
 * which world it was, is part of its context. The secure world has one stack, so no second task may enter it
 * meanwhile: see sp_ns_lock(). Every task has a hardware stack limit.
 *
 * The names are the kernel's.
 */
#ifndef PORTMACRO_H
#define PORTMACRO_H

#include <stddef.h>
#include <stdint.h>

#define portCHAR      char
#define portFLOAT     float
#define portDOUBLE    double
#define portLONG      long
#define portSHORT     short
#define portBASE_TYPE long

#define portSTACK_TYPE uint32_t
typedef portSTACK_TYPE StackType_t;
typedef long BaseType_t;
typedef unsigned long UBaseType_t;
typedef uint32_t TickType_t;

#define portMAX_DELAY           ((TickType_t)0xFFFFFFFFUL)
#define portTICK_TYPE_IS_ATOMIC 1
#define portSTACK_GROWTH        (-1)
#define portTICK_PERIOD_MS      ((TickType_t)1000 / configTICK_RATE_HZ)
#define portBYTE_ALIGNMENT      8
#define portARCH_NAME           "Armv8-M non-secure"
#define portDONT_DISCARD        __attribute__((used))
#define portNOP()

/* Leave to another task: at once from a task, at the end of the interrupt from a handler. */
void vPortYield(void);
#define portYIELD() vPortYield()
#define portEND_SWITCHING_ISR(isNeeded) \
    do {                                \
        if ((isNeeded) != 0) {          \
            vPortYield();               \
        }                               \
    } while (0)
#define portYIELD_FROM_ISR(isNeeded) portEND_SWITCHING_ISR(isNeeded)

/* Critical sections hold back interrupts that use the kernel, and no others. */
void vPortEnterCritical(void);
void vPortExitCritical(void);
uint32_t ulPortMaskInterrupts(void);
void vPortUnmaskInterrupts(uint32_t previous);
#define portDISABLE_INTERRUPTS()                    ((void)ulPortMaskInterrupts())
#define portENABLE_INTERRUPTS()                     vPortUnmaskInterrupts(0)
#define portENTER_CRITICAL()                        vPortEnterCritical()
#define portEXIT_CRITICAL()                         vPortExitCritical()
#define portSET_INTERRUPT_MASK_FROM_ISR()           ulPortMaskInterrupts()
#define portCLEAR_INTERRUPT_MASK_FROM_ISR(previous) vPortUnmaskInterrupts(previous)

/* The kernel of version 9 has no parameter for a task's stack limit: it is set here, where all versions pass by. */
void vPortSetStackLimit(volatile StackType_t *top, const StackType_t *limit);
#define portSETUP_TCB(tcb) vPortSetStackLimit((tcb)->pxTopOfStack, (tcb)->pxStack)

#define portTASK_FUNCTION_PROTO(function, argument) void function(void *argument)
#define portTASK_FUNCTION(function, argument)       void function(void *argument)

/* Sleep without ticks while nobody has anything to do. */
void vPortSuppressTicksAndSleep(TickType_t expected);
#define portSUPPRESS_TICKS_AND_SLEEP(expected) vPortSuppressTicksAndSleep(expected)

BaseType_t xPortIsInsideInterrupt(void);

#define portMEMORY_BARRIER() __asm volatile("" ::: "memory")
#define portINLINE           __inline
#define portFORCE_INLINE     inline __attribute__((always_inline))

#endif
