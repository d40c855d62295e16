/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A UART's data and interrupts; the board's build picks uart_cmsdk.c or uart_pl011.c. */
#ifndef SP_DEVICE_PORT_FREERTOS_UART_H
#define SP_DEVICE_PORT_FREERTOS_UART_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Switch number n of the board's UARTs on, 115200 8N1, receive interrupt on if `receive`. */
void sp_uart_start(uint32_t n, bool receive);

/** Give a byte to the transmitter. @return false when it has no room. */
bool sp_uart_put(uint32_t n, uint8_t byte);

/** Take a received byte. @return false when there is none. */
bool sp_uart_get(uint32_t n, uint8_t *byte);

/** Ask for an interrupt when the transmitter has room again, or no more. */
void sp_uart_want_room(uint32_t n, bool wanted);

/** Ask for an interrupt when bytes were received, or no more: then the sender is held off, if the line can. */
void sp_uart_want_bytes(uint32_t n, bool wanted);

/** Acknowledge what the UART has interrupted for. */
void sp_uart_acknowledge(uint32_t n);

#endif
