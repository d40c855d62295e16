/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The secure world's own clock: for rate limits, not for time of day. */
#ifndef SP_DEVICE_SECURE_START_CLOCK_H
#define SP_DEVICE_SECURE_START_CLOCK_H

#include <stdint.h>

void sp_clock_start(void);

/** Milliseconds since sp_clock_start(). Look at it once in 36 hours, or time is lost. */
uint64_t sp_clock_ms(void);

#endif
