/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Start-up of the non-secure image: its vector table, and the way from reset to main(). */
#include "board.h"
#include "device/port/freertos/console.h"
#include "device/port/freertos/firmware.h"
#include "device/port/freertos/network.h"

#include <stdlib.h>
#include <string.h>

#define IRQS (32U * BOARD_IRQ_WORDS)

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))
#define NVIC_ISER    0xE000E100U
#define NVIC_IPR     0xE000E400U
#define AIRCR        0xE000ED0CU
#define SHCSR        0xE000ED24U
#define MPU_CTRL     0xE000ED94U
#define MPU_RNR      0xE000ED98U
#define MPU_RBAR     0xE000ED9CU
#define MPU_RLAR     0xE000EDA0U
#define MPU_MAIR0    0xE000EDC0U
#define AIRCR_RESET  0x05FA0004U

#define SHCSR_FAULTS ((1U << 16) | (1U << 18)) /* memory management, usage: also a stack's limit */

#define MPU_XN     1U
#define MPU_READ   (3U << 1)
#define MPU_WRITE  (1U << 1)
#define MPU_NORMAL (0U << 1) /* attribute 0 of MAIR0 */
#define MPU_DEVICE (1U << 1)

/* What is written is never executed, and the other way round. */
static const struct {
    uint32_t base;
    uint32_t size;
    uint32_t access; /* of RBAR */
    uint32_t attributes;
} regions[] = {
    {MAP_NS_CODE, MAP_NS_CODE_SIZE, MPU_READ, MPU_NORMAL},
    {MAP_NS_RAM, MAP_NS_RAM_SIZE, MPU_WRITE | MPU_XN, MPU_NORMAL},
    {MAP_NS_PERIPHERALS, MAP_NS_PERIPHERALS_SIZE, MPU_WRITE | MPU_XN, MPU_DEVICE},
};

#define IRQ_PRIORITY 0x80U /* below what may call the kernel, above PendSV and SysTick */

extern uint32_t __data_start[];
extern uint32_t __data_end[];
extern const uint32_t __data_load[];
extern uint32_t __bss_start[];
extern uint32_t __bss_end[];
extern uint32_t __heap_end[];
extern uint32_t __stack_top[];

int main(void);
void sp_ns_reset(void);
void sp_svcall(void);
void sp_pendsv(void);
void sp_systick(void);

_Noreturn static void restart(void)
{
    __asm volatile("cpsid i\n\tdsb" ::: "memory");
    REG(AIRCR) = AIRCR_RESET;
    for (;;) {
        __asm volatile("dsb" ::: "memory");
    }
}

static void unexpected(void)
{
    uint32_t exception = 0;
    __asm volatile("mrs %0, ipsr" : "=r"(exception));
    sp_console_last_words("exception", (int32_t)exception);
    restart();
}

_Noreturn void sp_firmware_halt(const char *file, int line)
{
    sp_console_last_words(file, line);
    restart();
}

/* The C library's, for the one who finds its heap damaged (Mbed TLS). */
_Noreturn void exit(int code)
{
    sp_firmware_halt("exit", code);
}

void sp_firmware_irq_enable(uint32_t irq)
{
    ((volatile uint8_t *)(uintptr_t)NVIC_IPR)[irq] = IRQ_PRIORITY;
    REG(NVIC_ISER + 4U * (irq / 32U)) = 1U << (irq % 32U);
}

static void guard_memory(void)
{
    REG(MPU_MAIR0) = 0x000004AAU; /* 0: normal, write-through; 1: device nGnRE */
    for (uint32_t i = 0; i < sizeof(regions) / sizeof(regions[0]); i++) {
        REG(MPU_RNR) = i;
        REG(MPU_RBAR) = regions[i].base | regions[i].access;
        REG(MPU_RLAR) =
            ((regions[i].base + regions[i].size - 1U) & ~31U) | regions[i].attributes | 1U;
    }
    REG(SHCSR) |= SHCSR_FAULTS;
    REG(MPU_CTRL) = 1; /* no default map */
    __asm volatile("dsb\n\tisb" ::: "memory");
}

void sp_ns_reset(void)
{
    /* The bottom of the main stack, so that an overflow faults instead of reaching data. */
    __asm volatile("msr msplim, %0" ::"r"(__heap_end));
    (void)memcpy(__data_start, __data_load,
                 (size_t)((uintptr_t)__data_end - (uintptr_t)__data_start));
    (void)memset(__bss_start, 0, (size_t)((uintptr_t)__bss_end - (uintptr_t)__bss_start));
    guard_memory();
    (void)main();
    restart();
}

__extension__
    __attribute__((section(".vectors"), used)) static void (*const vectors[16U + IRQS])(void) = {
        [0] = (void (*)(void))(uintptr_t)__stack_top,
        [1] = sp_ns_reset,
        [2 ... 10] = unexpected,
        [11] = sp_svcall,
        [12 ... 13] = unexpected,
        [14] = sp_pendsv,
        [15] = sp_systick,
        [16 ... 15 + BOARD_CONSOLE_IRQ] = unexpected,
        [16 + BOARD_CONSOLE_IRQ] = sp_console_irq,
        [17 + BOARD_CONSOLE_IRQ... 15 + BOARD_NETWORK_IRQ] = unexpected,
        [16 + BOARD_NETWORK_IRQ] = sp_network_irq,
        [17 + BOARD_NETWORK_IRQ... 15 + IRQS] = unexpected,
};
