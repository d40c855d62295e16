/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The CMSDK APB UART: one byte of buffer each way. */
#include "device/port/freertos/uart.h"

#include "board.h"

#define BAUD_RATE 115200U

struct uart {
    volatile uint32_t data;
    volatile uint32_t state;
    volatile uint32_t ctrl;
    volatile uint32_t interrupts; /* write to clear */
    volatile uint32_t divider;
};

#define STATE_TX_FULL (1U << 0)
#define STATE_RX_FULL (1U << 1)
#define CTRL_TX       (1U << 0)
#define CTRL_RX       (1U << 1)
#define CTRL_TX_INT   (1U << 2)
#define CTRL_RX_INT   (1U << 3)

static struct uart *at(uint32_t n)
{
    return (struct uart *)(uintptr_t)BOARD_UART_CMSDK(n);
}

static void set(volatile uint32_t *reg, uint32_t bit, bool on)
{
    *reg = on ? *reg | bit : *reg & ~bit;
}

void sp_uart_start(uint32_t n, bool receive)
{
    struct uart *uart = at(n);
    uart->divider = BOARD_CLOCK_HZ / BAUD_RATE;
    uart->ctrl = CTRL_TX | (receive ? CTRL_RX | CTRL_RX_INT : 0U);
}

bool sp_uart_put(uint32_t n, uint8_t byte)
{
    if ((at(n)->state & STATE_TX_FULL) != 0) {
        return false;
    }
    at(n)->data = byte;
    return true;
}

bool sp_uart_get(uint32_t n, uint8_t *byte)
{
    if ((at(n)->state & STATE_RX_FULL) == 0) {
        return false;
    }
    *byte = (uint8_t)at(n)->data;
    return true;
}

void sp_uart_want_room(uint32_t n, bool wanted)
{
    set(&at(n)->ctrl, CTRL_TX_INT, wanted);
}

void sp_uart_want_bytes(uint32_t n, bool wanted)
{
    set(&at(n)->ctrl, CTRL_RX_INT, wanted);
}

void sp_uart_acknowledge(uint32_t n)
{
    at(n)->interrupts = at(n)->interrupts;
}
