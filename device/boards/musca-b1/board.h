/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file musca-b1: clocks, peripherals, who owns them. */
#ifndef SP_DEVICE_BOARDS_MUSCA_B1_BOARD_H
#define SP_DEVICE_BOARDS_MUSCA_B1_BOARD_H

#include "device/boards/musca-b1/map.h"

#define BOARD_NAME      "musca-b1"
#define BOARD_CLOCK_HZ  40000000U
#define BOARD_IRQ_WORDS 3U /* 32 interrupts each */

/* PL011 UARTs, non-secure. Receive interrupt and the combined one. */
#define BOARD_UART_PL011(n)        (0x40105000U + (n)*0x1000U)
#define BOARD_UART_RX_IRQ(n)       (32U + 7U + 6U * (n))
#define BOARD_UART_COMBINED_IRQ(n) (32U + 12U + 6U * (n))
#define BOARD_CONSOLE_UART         0U
#define BOARD_LINK_UART            1U

#define BOARD_TIMER_BASE 0x40000000U /* timer 0, non-secure, at the core's clock */

/* The interrupts that the non-secure image serves, in rising order: combined ones of both UARTs. */
#define BOARD_CONSOLE_IRQ 44
#define BOARD_NETWORK_IRQ 50

/* As in device/boards/mps2/board.h. */
/* clang-format off */
#define BOARD_MPCS                                                                                    \
    {                                                                                                 \
        {.base = 0x52000000U, .memory = 0x00000000U, .ns = MAP_NS_CODE, .ns_size = MAP_NS_CODE_SIZE}, \
        {.base = 0x52100000U, .memory = 0x0A400000U, .ns = MAP_NS_RAM, .ns_size = MAP_NS_RAM_SIZE},   \
        {.base = 0x52200000U, .memory = 0x0A000000U},                                                 \
        {.base = 0x52300000U, .memory = 0x0A200000U},                                                 \
        {.base = 0x50083000U, .memory = 0x20000000U},                                                 \
        {.base = 0x50084000U, .memory = 0x20020000U},                                                 \
        {.base = 0x50085000U, .memory = 0x20040000U},                                                 \
        {.base = 0x50086000U, .memory = 0x20060000U},                                                 \
    }

#define BOARD_PPCS                                                                                    \
    {                                                                                                 \
        {.offset = 0x070U, .non_secure = 0x00000003U}, /* timers 0, 1 */                              \
        {.offset = 0x084U, .non_secure = 0x00000030U}, /* UARTs 0, 1; I2C and all else secure */      \
    }
/* clang-format on */

#endif
