/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * From reset to the non-secure world. The order is the point: stacks are limited and sealed first, isolation is set
 * and read back before the services start, images are measured before they run.
 */
#include "board.h"
#include "device/boards/ns_header.h"
#include "device/secure/start/fault.h"
#include "device/secure/start/isolation.h"
#include "device/secure/start/platform.h"
#include "device/secure/start/registers.h"

#include <arm_cmse.h>
#include <stddef.h>
#include <string.h>

#define STACK_SEAL  0xFEF5EDA5U
#define STACK_PAINT 0x5AFE5AFEU

extern uint32_t __stack_limit[];
extern uint32_t __stack_seal[];
extern uint32_t __data_start[];
extern uint32_t __data_end[];
extern const uint32_t __data_load[];
extern uint32_t __bss_start[];
extern uint32_t __bss_end[];

void sp_secure_reset(void);

typedef void ns_entry(void) __attribute__((cmse_nonsecure_call));

/* Whatever happened, the stack may be the reason: it starts anew, without a limit, and nothing is pushed before that. */
__attribute__((naked)) static void take_fault(void)
{
    __asm volatile("mrs r0, ipsr\n\t"
                   "movs r1, #0\n\t"
                   "msr msplim, r1\n\t"
                   "ldr r1, =__stack_seal\n\t"
                   "msr msp, r1\n\t"
                   "b sp_fault");
}

/* 16 system exceptions; the secure world takes no interrupts, so there is nothing behind them. */
__attribute__((section(".vectors"),
               used)) static void (*const vectors[MAP_S_VECTORS_SIZE / 4])(void) = {
    (void (*)(void))(uintptr_t)__stack_seal,
    sp_secure_reset,
    take_fault, /* NMI */
    take_fault, /* HardFault */
    take_fault, /* MemManage */
    take_fault, /* BusFault */
    take_fault, /* UsageFault */
    take_fault, /* SecureFault */
    take_fault,
    take_fault,
    take_fault,
    take_fault, /* SVCall */
    take_fault, /* DebugMonitor */
    take_fault,
    take_fault, /* PendSV */
    take_fault, /* SysTick */
};

/* The main stack serves every call; the process stack is sealed shut: nothing secure runs on it. */
static void prepare_stacks(void)
{
    uint32_t *here = NULL;
    __asm volatile("mov %0, sp" : "=r"(here));
    for (uint32_t *word = __stack_limit; word < here; word++) {
        *word = STACK_PAINT; /* so that a dump shows how deep it went */
    }
    __stack_seal[0] = STACK_SEAL;
    __stack_seal[1] = STACK_SEAL;
    __asm volatile("msr msplim, %0\n\tmsr psplim, %1\n\tmsr psp, %1\n\tisb" ::"r"(__stack_limit),
                   "r"(__stack_seal));
}

/* The non-secure image's header, or NULL when it is not one that can be measured and started. */
static const struct sp_ns_header *find_ns_image(void)
{
    const struct sp_ns_header *header = (const struct sp_ns_header *)(uintptr_t)MAP_NS_CODE;
    const uint32_t *table = (const uint32_t *)(uintptr_t)MAP_NS_VECTORS;
    bool usable = header->magic == MAP_NS_HEADER_MAGIC && header->size > MAP_NS_HEADER_SIZE + 8U &&
                  header->size <= MAP_NS_CODE_SIZE && header->vectors == MAP_NS_VECTORS &&
                  table[1] - MAP_NS_VECTORS < header->size - MAP_NS_HEADER_SIZE;
    return usable ? header : NULL;
}

_Noreturn static void start_ns(void)
{
    const uint32_t *table = (const uint32_t *)(uintptr_t)MAP_NS_VECTORS;
    SP_REG(SCB_VTOR_NS) = MAP_NS_VECTORS;
    __asm volatile("msr msp_ns, %0\n\tmsr psp_ns, %1\n\tisb" ::"r"(table[0]), "r"(0));
    ns_entry *entry = (ns_entry *)cmse_nsfptr_create((uintptr_t)table[1]);
    entry();
    sp_fault(SP_FAULT_RETURNED);
}

/* The canary of -fstack-protector-strong; what it was at reset is no secret, what it becomes below is. */
uintptr_t __stack_chk_guard = 0x5A117042U;
_Noreturn void __stack_chk_fail(void);

void __stack_chk_fail(void)
{
    sp_fault(SP_FAULT_STACK);
}

__attribute__((no_stack_protector)) void sp_secure_reset(void)
{
    /* 1. A C environment. */
    prepare_stacks();
    (void)memset(__bss_start, 0, (size_t)((uintptr_t)__bss_end - (uintptr_t)__bss_start));
    (void)memcpy(__data_start, __data_load,
                 (size_t)((uintptr_t)__data_end - (uintptr_t)__data_start));

    /* 2. The line between the worlds, drawn and looked at. */
    if (!sp_isolation_set()) {
        sp_fault(SP_FAULT_ISOLATION);
    }

    /* 3. What is about to run, and the services that vouch for it. */
    const struct sp_ns_header *image = find_ns_image();
    if (image == NULL) {
        sp_fault(SP_FAULT_IMAGE);
    }
    if (!sp_platform_start(image)) {
        sp_fault(SP_FAULT_SERVICES);
    }
    if (!sp_platform_image_accepted()) {
        sp_fault(SP_FAULT_IMAGE);
    }
    __stack_chk_guard ^= sp_platform_random_word();

    /* 4. The non-secure world. */
    start_ns();
}
