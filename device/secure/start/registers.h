/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Registers of the Armv8-M core and of the SSE subsystem that start-up needs. */
#ifndef SP_DEVICE_SECURE_START_REGISTERS_H
#define SP_DEVICE_SECURE_START_REGISTERS_H

#include <stdint.h>

#define SP_REG(address) (*(volatile uint32_t *)(uintptr_t)(address))

/* Armv8-M system control space. */
#define SCB_VTOR    0xE000ED08U
#define SCB_AIRCR   0xE000ED0CU
#define SCB_CCR     0xE000ED14U
#define SCB_SHPR1   0xE000ED18U
#define SCB_SHCSR   0xE000ED24U
#define SCB_CPACR   0xE000ED88U
#define SCB_NSACR   0xE000ED8CU
#define SCB_VTOR_NS 0xE002ED08U
#define NVIC_ITNS   0xE000E380U
#define NVIC_ICER   0xE000E180U

#define AIRCR_KEY         0x05FA0000U
#define AIRCR_KEY_MASK    0xFFFF0000U
#define AIRCR_PRIS        (1U << 14)
#define AIRCR_BFHFNMINS   (1U << 13)
#define AIRCR_SYSRESETREQ (1U << 2)

#define SHCSR_SECUREFAULTENA (1U << 19)
#define SHCSR_USGFAULTENA    (1U << 18)
#define SHCSR_BUSFAULTENA    (1U << 17)
#define SHCSR_MEMFAULTENA    (1U << 16)

#define SAU_CTRL 0xE000EDD0U
#define SAU_TYPE 0xE000EDD4U
#define SAU_RNR  0xE000EDD8U
#define SAU_RBAR 0xE000EDDCU
#define SAU_RLAR 0xE000EDE0U

#define MPU_CTRL  0xE000ED94U
#define MPU_RNR   0xE000ED98U
#define MPU_RBAR  0xE000ED9CU
#define MPU_RLAR  0xE000EDA0U
#define MPU_MAIR0 0xE000EDC0U

/* Secure privilege control block of the SSE-200 and of the IoT Kit. */
#define SPC            0x50080000U
#define SPC_SECRESPCFG (SPC + 0x10U)
#define SPC_NSCCFG     (SPC + 0x14U)

/* Memory protection controller, relative to its base. */
#define MPC_CTRL           0x00U
#define MPC_BLK_MAX        0x10U
#define MPC_BLK_CFG        0x14U
#define MPC_BLK_IDX        0x18U
#define MPC_BLK_LUT        0x1CU
#define MPC_CTRL_BUS_ERROR (1U << 4)
#define MPC_CTRL_LOCK      (1U << 31)

/* The always-on 32 kHz counter: counts down from its reload value. */
#define S32K_TIMER        0x5002F000U
#define S32K_TIMER_CTRL   (S32K_TIMER + 0x0U)
#define S32K_TIMER_VALUE  (S32K_TIMER + 0x4U)
#define S32K_TIMER_RELOAD (S32K_TIMER + 0x8U)

#endif
