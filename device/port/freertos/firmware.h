/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What the files of the firmware's non-secure world share. */
#ifndef SP_DEVICE_PORT_FREERTOS_FIRMWARE_H
#define SP_DEVICE_PORT_FREERTOS_FIRMWARE_H

#include "libs/base/bytes.h"

/** Clock, console, the lock of the secure world; before the first task is made. */
void sp_firmware_start(void);

/** Nothing sensible can follow: says where on the console and resets the device. */
_Noreturn void sp_firmware_halt(const char *file, int line);

void sp_firmware_clock_start(void);

/** Milliseconds since the clock was started; from tasks. */
uint64_t sp_firmware_now(void);

/** Four random bytes of the secure world, for what needs no secret. */
uint32_t sp_firmware_random(void);

/** Something happened on the network: the application is to look. From interrupts. */
void sp_firmware_wake(void);

/** Let the interrupt through, at a priority from which the kernel may be called. */
void sp_firmware_irq_enable(uint32_t irq);

#endif
