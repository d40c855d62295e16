/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What happens when something happens that must not. */
#ifndef SP_DEVICE_SECURE_START_FAULT_H
#define SP_DEVICE_SECURE_START_FAULT_H

#include <stdint.h>

/** Why the secure world gives up. Below 32: the number of the exception that was taken. */
enum sp_fault {
    SP_FAULT_HARD = 3,
    SP_FAULT_MEMORY = 4,
    SP_FAULT_BUS = 5,
    SP_FAULT_USAGE = 6,
    SP_FAULT_SECURE = 7,
    SP_FAULT_ISOLATION = 32, /**< protection did not read back as set */
    SP_FAULT_IMAGE =
        33, /**< there is no non-secure image that could be started, or not the one to start */
    SP_FAULT_RETURNED = 34, /**< the non-secure world came back */
    SP_FAULT_SERVICES = 35, /**< the secure services do not start */
    SP_FAULT_STACK = 36,    /**< a function wrote behind its buffer */
};

/**
 * The end: resets the device (fault_reset.c); in test builds says why and ends the emulator (fault_semihosting.c).
 * @param[in] exception What was being handled, as enum sp_fault.
 */
_Noreturn void sp_fault(uint32_t exception);

#endif
