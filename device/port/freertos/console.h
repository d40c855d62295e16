/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The console: one UART, lines of JSON. Output waits in a ring that the transmit interrupt empties. */
#ifndef SP_DEVICE_PORT_FREERTOS_CONSOLE_H
#define SP_DEVICE_PORT_FREERTOS_CONSOLE_H

#include "libs/base/bytes.h"

void sp_console_start(void);

/**
 * Write a line; the line feed is added. From tasks. Waits for room; a line that finds none in a second, or is
 * longer than the ring, is left out whole.
 */
void sp_console_line(struct sp_view line);

/** An event as an object: `event`, `ms` since start, `code` unless it is -1, `text` unless empty (escaped). */
void sp_console_event(const char *event, int32_t code, struct sp_view text);

/** The same without interrupts and kernel, for the last words; at most what the UART takes by polling. */
void sp_console_last_words(const char *text, int32_t code);

/** The UART's interrupt. */
void sp_console_irq(void);

#endif
