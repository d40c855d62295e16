/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The Arm PL011 with its FIFOs. */
#include "device/port/freertos/uart.h"

#include "board.h"

#define BAUD_RATE 115200U

struct uart {
    volatile uint32_t data;
    volatile uint32_t receive_status;
    uint32_t reserved0[4];
    volatile uint32_t flags;
    uint32_t reserved1[2];
    volatile uint32_t baud_integer;
    volatile uint32_t baud_fraction;
    volatile uint32_t line;
    volatile uint32_t ctrl;
    volatile uint32_t levels;
    volatile uint32_t mask;
    volatile uint32_t raw;
    volatile uint32_t masked;
    volatile uint32_t clear;
};

#define FLAG_RX_EMPTY (1U << 4)
#define FLAG_TX_FULL  (1U << 5)
#define LINE_8_BITS   (3U << 5)
#define LINE_FIFOS    (1U << 4)
#define CTRL_ENABLE   (1U << 0)
#define CTRL_TX       (1U << 8)
#define CTRL_RX       (1U << 9)
#define CTRL_RTS_FLOW (1U << 14)
#define CTRL_CTS_FLOW (1U << 15)
#define INT_RX        (1U << 4)
#define INT_TX        (1U << 5)
#define INT_RX_IDLE   (1U << 6)

static struct uart *at(uint32_t n)
{
    return (struct uart *)(uintptr_t)BOARD_UART_PL011(n);
}

void sp_uart_start(uint32_t n, bool receive)
{
    struct uart *uart = at(n);
    uint32_t divider = (BOARD_CLOCK_HZ * 4U + BAUD_RATE / 2U) / BAUD_RATE; /* in 64ths */
    uart->ctrl = 0;
    uart->baud_integer = divider >> 6;
    uart->baud_fraction = divider & 63U;
    uart->line = LINE_8_BITS | LINE_FIFOS;
    uart->levels = 0; /* interrupt at 1/8 */
    uart->mask = receive ? INT_RX | INT_RX_IDLE : 0U;
    uart->ctrl = CTRL_ENABLE | CTRL_TX | (receive ? CTRL_RX | CTRL_RTS_FLOW | CTRL_CTS_FLOW : 0U);
}

bool sp_uart_put(uint32_t n, uint8_t byte)
{
    if ((at(n)->flags & FLAG_TX_FULL) != 0) {
        return false;
    }
    at(n)->data = byte;
    return true;
}

bool sp_uart_get(uint32_t n, uint8_t *byte)
{
    if ((at(n)->flags & FLAG_RX_EMPTY) != 0) {
        return false;
    }
    *byte = (uint8_t)at(n)->data;
    return true;
}

void sp_uart_want_room(uint32_t n, bool wanted)
{
    at(n)->mask = wanted ? at(n)->mask | INT_TX : at(n)->mask & ~INT_TX;
}

void sp_uart_want_bytes(uint32_t n, bool wanted)
{
    uint32_t bits = INT_RX | INT_RX_IDLE;
    at(n)->mask = wanted ? at(n)->mask | bits : at(n)->mask & ~bits;
}

void sp_uart_acknowledge(uint32_t n)
{
    at(n)->clear = INT_RX | INT_TX | INT_RX_IDLE;
}
