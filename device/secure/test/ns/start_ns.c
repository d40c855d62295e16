/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Start-up of the non-secure test images: no interrupts, no tasks, main()'s result is the emulator's exit status. */
#include "device/secure/ns/ns.h"
#include "device/secure/test/ns/semihosting.h"

#include <stddef.h>
#include <string.h>

#define EXIT_FAULT 99U

extern uint32_t __data_start[];
extern uint32_t __data_end[];
extern const uint32_t __data_load[];
extern uint32_t __bss_start[];
extern uint32_t __bss_end[];
extern uint32_t __stack_top[];

void sp_ns_reset(void);
int main(void);

void sp_ns_lock(void)
{
}

void sp_ns_unlock(void)
{
}

void sp_ns_reset(void)
{
    (void)memcpy(__data_start, __data_load,
                 (size_t)((uintptr_t)__data_end - (uintptr_t)__data_start));
    (void)memset(__bss_start, 0, (size_t)((uintptr_t)__bss_end - (uintptr_t)__bss_start));
    sp_semihosting_exit((uint32_t)main());
}

static void fault(void)
{
    sp_semihosting_exit(EXIT_FAULT);
}

void sp_ns_systick(void);
__attribute__((weak)) void sp_ns_systick(void)
{
    fault();
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))(uintptr_t)__stack_top,
    sp_ns_reset,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    fault,
    sp_ns_systick,
};
