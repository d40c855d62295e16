/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A non-secure image that does what none may: SP_GUARD_ATTEMPT, one of the functions below. It must end in a fault, whose
 * number the console shows, and a restart; the event `survived` means that nothing stopped it.
 */
#include "board.h"
#include "device/port/freertos/console.h"
#include "device/port/freertos/firmware.h"
#include "device/port/freertos/network.h"

#include "FreeRTOS.h"
#include "task.h"

#define STACK_WORDS 512U
#define THUMB_BX_LR 0x4770U

static StackType_t neighbour[STACK_WORDS] __attribute__((aligned(8)));
static StackType_t stack[STACK_WORDS] __attribute__((aligned(8)));
static StaticTask_t tcb;

void sp_network_irq(void)
{
}

__attribute__((unused)) static void execute_data(void)
{
    static volatile uint16_t code = THUMB_BX_LR;
    void (*call)(void) = (void (*)(void))((uintptr_t)&code | 1U);
    __asm volatile("dsb\n\tisb" ::: "memory");
    call();
}

__attribute__((unused)) static void write_code(void)
{
    *(volatile uint32_t *)(uintptr_t)MAP_NS_VECTORS = 0;
}

__attribute__((unused)) static void exceed_stack(void)
{
    __asm volatile("sub sp, sp, %0\n\tstr r0, [sp]" ::"r"(sizeof(stack)) : "memory");
}

static void attempt(void *arg)
{
    (void)arg;
    neighbour[0] = 0;
    SP_GUARD_ATTEMPT();
    sp_console_event("survived", -1, sp_view(NULL, 0));
    vTaskSuspend(NULL);
}

int main(void)
{
    sp_firmware_start();
    (void)xTaskCreateStatic(attempt, "attempt", STACK_WORDS, NULL, 1, stack, &tcb);
    vTaskStartScheduler();
    return 0;
}
