/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What mps2-an505 and mps2-an521 have in common: clocks, peripherals, who owns them. */
#ifndef SP_DEVICE_BOARDS_MPS2_BOARD_H
#define SP_DEVICE_BOARDS_MPS2_BOARD_H

#include "device/boards/mps2/map.h"

#define BOARD_CLOCK_HZ  20000000U
#define BOARD_IRQ_WORDS 3U /* 32 interrupts each */

/* CMSDK UARTs, non-secure. Receive interrupt 32 + 2n, transmit 33 + 2n. */
#define BOARD_UART_CMSDK(n)  (0x40200000U + (n)*0x1000U)
#define BOARD_UART_RX_IRQ(n) (32U + 2U * (n))
#define BOARD_UART_TX_IRQ(n) (33U + 2U * (n))
#define BOARD_CONSOLE_UART   0U
#define BOARD_ETHERNET_BASE  0x42000000U /* LAN9118, non-secure */
#define BOARD_ETHERNET_IRQ   48U

#define BOARD_TIMER_BASE 0x40000000U /* timer 0, non-secure, at the core's clock */

/* The interrupts that the non-secure image serves, in rising order. */
#define BOARD_CONSOLE_IRQ 33
#define BOARD_NETWORK_IRQ 48

/* SBCon, secure: EEPROM at 0x50, thermometers at 0x48 and 0x49. The lines are moved this many loops apart. */
#define BOARD_I2C_BASE 0x5020D000U
#define BOARD_I2C_WAIT 4U

/*
 * Memory protection controllers: what they guard (by its non-secure name), and the part of it that is non-secure. Blocks
 * outside of that part are secure.
 */
/* clang-format off */
#define BOARD_MPCS                                                                                    \
    {                                                                                                 \
        {.base = 0x58007000U, .memory = 0x00000000U, .ns = MAP_NS_CODE, .ns_size = MAP_NS_CODE_SIZE}, \
        {.base = 0x58008000U, .memory = 0x28000000U, .ns = MAP_NS_RAM, .ns_size = MAP_NS_RAM_SIZE},   \
        {.base = 0x58009000U, .memory = 0x28200000U},                                                 \
    }

/* Peripheral protection: registers of the secure control block, bit set = non-secure. */
#define BOARD_PPCS                                                                                    \
    {                                                                                                 \
        {.offset = 0x070U, .non_secure = 0x00000003U}, /* timers 0, 1 */                              \
        {.offset = 0x084U, .non_secure = 0x000003E0U}, /* UARTs 0 to 4; SPI and I2C stay secure */    \
        {.offset = 0x088U, .non_secure = 0x00000000U}, /* SCC, I2S, FPGAIO */                         \
        {.offset = 0x060U, .non_secure = 0x00000020U}, /* Ethernet */                                 \
    }
/* clang-format on */

#endif
