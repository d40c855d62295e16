/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Drawing the line between the worlds in hardware, as the board's map.h and board.h say. */
#ifndef SP_DEVICE_SECURE_START_ISOLATION_H
#define SP_DEVICE_SECURE_START_ISOLATION_H

#include <stdbool.h>

/**
 * Set SAU, memory and peripheral protection controllers, the secure MPU (writable memory is never executable),
 * fault priorities and interrupt targets; lock what can be locked; then read all of it back.
 *
 * @return false when anything reads back otherwise: the non-secure world must not be started then.
 */
bool sp_isolation_set(void);

#endif
