/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * FreeRTOS on the non-secure side of an Armv8-M mainline processor.
 *
 * A task's context on its own stack, from its lowest address: PSPLIM, EXC_RETURN, r4 to r11, then what the hardware
 * pushed. All registers here are the non-secure world's own (SysTick, PendSV, SVCall, BASEPRI are banked).
 */
#include "FreeRTOS.h"
#include "task.h"

#define REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

#define SYST_CSR 0xE000E010U
#define SYST_RVR 0xE000E014U
#define SYST_CVR 0xE000E018U
#define ICSR     0xE000ED04U
#define SHPR2    0xE000ED1CU
#define SHPR3    0xE000ED20U

#define SYST_ENABLE    (1U << 0)
#define SYST_INTERRUPT (1U << 1)
#define SYST_CPU_CLOCK (1U << 2)
#define SYST_COUNTED   (1U << 16)
#define SYST_MAX       0x00FFFFFFU
#define SYST_MIN       32U
#define SYST_RUN       (SYST_CPU_CLOCK | SYST_INTERRUPT | SYST_ENABLE)

#define ICSR_PENDSVSET (1U << 28)
#define ICSR_PENDSTSET (1U << 26)

#define CYCLES_PER_TICK (configCPU_CLOCK_HZ / configTICK_RATE_HZ)
#define TICKS_MAX       (SYST_MAX / CYCLES_PER_TICK - 1U)

#define XPSR_THUMB         0x01000000U
#define EXC_RETURN_NS_TASK 0xFFFFFFBCU /* non-secure, thread mode, process stack, no FPU frame */

_Static_assert(configCPU_CLOCK_HZ / configTICK_RATE_HZ <= SYST_MAX, "a tick fits SysTick");

static uint32_t critical_nesting;

void sp_svcall(void);
void sp_pendsv(void);
void sp_systick(void);

static void task_returned(void)
{
    configASSERT(0); /* a task must delete itself, or run for ever */
    for (;;) {
    }
}

StackType_t *pxPortInitialiseStack(StackType_t *pxTopOfStack, TaskFunction_t pxCode,
                                   void *pvParameters)
{
    StackType_t *frame = pxTopOfStack - 18;
    for (size_t i = 0; i < 18; i++) {
        frame[i] = 0;
    }
    frame[1] = EXC_RETURN_NS_TASK;
    frame[10] = (StackType_t)(uintptr_t)pvParameters; /* r0 */
    frame[15] = (StackType_t)(uintptr_t)task_returned;
    frame[16] = (StackType_t)(uintptr_t)pxCode & ~1U;
    frame[17] = XPSR_THUMB;
    return frame;
}

void vPortSetStackLimit(volatile StackType_t *top, const StackType_t *limit)
{
    top[0] = ((uint32_t)(uintptr_t)limit + 7U) & ~7U;
}

BaseType_t xPortStartScheduler(void)
{
    critical_nesting = 0;
    REG(SHPR2) = configMAX_SYSCALL_INTERRUPT_PRIORITY << 24; /* SVCall is used once, to start */
    REG(SHPR3) = (configKERNEL_INTERRUPT_PRIORITY << 16) | (configKERNEL_INTERRUPT_PRIORITY << 24);
    REG(SYST_CSR) = 0;
    REG(SYST_RVR) = CYCLES_PER_TICK - 1U;
    REG(SYST_CVR) = 0;
    REG(SYST_CSR) = SYST_RUN;
    vPortUnmaskInterrupts(0);
    __asm volatile("cpsie i\n\tcpsie f\n\tdsb\n\tisb\n\tsvc 0\n\tnop" ::: "memory");
    return pdFALSE; /* never: the first task runs */
}

void vPortEndScheduler(void)
{
    configASSERT(0);
}

/* The first task. The main stack starts anew: from now on it belongs to interrupts. */
__attribute__((naked)) void sp_svcall(void)
{
    __asm volatile("ldr r0, =0xE000ED08\n" /* VTOR */
                   "ldr r0, [r0]\n"
                   "ldr r0, [r0]\n"
                   "msr msp, r0\n"
                   "ldr r0, =pxCurrentTCB\n"
                   "ldr r0, [r0]\n"
                   "ldr r0, [r0]\n"
                   "ldmia r0!, {r2-r11}\n"
                   "msr psplim, r2\n"
                   "msr psp, r0\n"
                   "isb\n"
                   "bx r3\n"
                   ".ltorg\n");
}

__attribute__((naked)) void sp_pendsv(void)
{
    __asm volatile("mrs r0, psp\n"
                   "mrs r2, psplim\n"
                   "mov r3, lr\n"
                   "stmdb r0!, {r2-r11}\n"
                   "ldr r4, =pxCurrentTCB\n"
                   "ldr r1, [r4]\n"
                   "str r0, [r1]\n"
                   "mov r0, %0\n"
                   "msr basepri, r0\n"
                   "dsb\n"
                   "isb\n"
                   "bl vTaskSwitchContext\n"
                   "mov r0, #0\n"
                   "msr basepri, r0\n"
                   "ldr r0, [r4]\n"
                   "ldr r0, [r0]\n"
                   "ldmia r0!, {r2-r11}\n"
                   "msr psplim, r2\n"
                   "msr psp, r0\n"
                   "isb\n"
                   "bx r3\n"
                   ".ltorg\n" ::"i"(configMAX_SYSCALL_INTERRUPT_PRIORITY));
}

void sp_systick(void)
{
    uint32_t previous = ulPortMaskInterrupts();
    if (xTaskIncrementTick() != pdFALSE) {
        REG(ICSR) = ICSR_PENDSVSET;
    }
    vPortUnmaskInterrupts(previous);
}

void vPortYield(void)
{
    REG(ICSR) = ICSR_PENDSVSET;
    __asm volatile("dsb\n\tisb" ::: "memory");
}

uint32_t ulPortMaskInterrupts(void)
{
    uint32_t previous = 0;
    __asm volatile("mrs %0, basepri\n\tmsr basepri, %1\n\tdsb\n\tisb"
                   : "=&r"(previous)
                   : "r"(configMAX_SYSCALL_INTERRUPT_PRIORITY)
                   : "memory");
    return previous;
}

void vPortUnmaskInterrupts(uint32_t previous)
{
    __asm volatile("msr basepri, %0\n\tdsb\n\tisb" ::"r"(previous) : "memory");
}

void vPortEnterCritical(void)
{
    (void)ulPortMaskInterrupts();
    critical_nesting++;
}

void vPortExitCritical(void)
{
    configASSERT(critical_nesting != 0);
    critical_nesting--;
    if (critical_nesting == 0) {
        vPortUnmaskInterrupts(0);
    }
}

BaseType_t xPortIsInsideInterrupt(void)
{
    uint32_t exception = 0;
    __asm volatile("mrs %0, ipsr" : "=r"(exception));
    return exception != 0 ? pdTRUE : pdFALSE;
}

/* Start SysTick with its next interrupt in `cycles`; the reload value in force then is the caller's to set. */
static void run_systick(uint32_t cycles)
{
    REG(SYST_RVR) = cycles;
    REG(SYST_CVR) = 0;
    REG(SYST_CSR) = SYST_RUN;
    while (REG(SYST_CVR) == 0) { /* until it was loaded */
    }
}

/* Then tick by tick. Less than a few cycles are not worth a race with the counter. */
static void resume_ticks(uint32_t cycles)
{
    run_systick(cycles < SYST_MIN ? SYST_MIN : cycles);
    REG(SYST_RVR) = CYCLES_PER_TICK - 1U;
}

/*
 * One long count in place of many ticks. `left` is what remained of the tick that was running, so the long count ends
 * when tick number `expected` from now ends; that tick is counted by the interrupt that is pending then. Woken earlier,
 * whole ticks that went by are added and SysTick goes on in the middle of the running one.
 */
void vPortSuppressTicksAndSleep(TickType_t expected)
{
    if (expected > TICKS_MAX) {
        expected = TICKS_MAX;
    }
    __asm volatile("cpsid i\n\tdsb\n\tisb" ::: "memory");
    REG(SYST_CSR) = SYST_CPU_CLOCK;
    uint32_t left = REG(SYST_CVR);
    left = left != 0 ? left : CYCLES_PER_TICK;
    if (eTaskConfirmSleepModeStatus() == eAbortSleep || (REG(ICSR) & ICSR_PENDSTSET) != 0) {
        resume_ticks(left);
        __asm volatile("cpsie i" ::: "memory");
        return;
    }
    uint32_t whole = left + CYCLES_PER_TICK * (expected - 1U);
    run_systick(whole);
    __asm volatile("dsb\n\twfi\n\tisb" ::: "memory");

    uint32_t status = REG(SYST_CSR);
    REG(SYST_CSR) = SYST_CPU_CLOCK;
    uint32_t now = REG(SYST_CVR);
    if ((status & SYST_COUNTED) != 0 || (REG(ICSR) & ICSR_PENDSTSET) != 0) {
        uint32_t over = now == 0 ? 0 : (whole - now) % CYCLES_PER_TICK;
        vTaskStepTick(expected - 1U);
        resume_ticks(CYCLES_PER_TICK - over);
    } else {
        uint32_t elapsed = whole - now + CYCLES_PER_TICK - left; /* since the last tick */
        vTaskStepTick(elapsed / CYCLES_PER_TICK);
        resume_ticks(CYCLES_PER_TICK - elapsed % CYCLES_PER_TICK);
    }
    __asm volatile("cpsie i" ::: "memory");
}
