/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Output and exit of test images through the emulator's semihosting. Never in an image that is shipped. */
#ifndef SP_DEVICE_SECURE_TEST_NS_SEMIHOSTING_H
#define SP_DEVICE_SECURE_TEST_NS_SEMIHOSTING_H

#include <stdint.h>

static inline uint32_t sp_semihosting(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm("r0") = operation;
    register const void *r1 __asm("r1") = argument;
    __asm volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static inline void sp_semihosting_write(const char *text)
{
    (void)sp_semihosting(0x04, text); /* SYS_WRITE0 */
}

/** End the emulator with this exit status. */
_Noreturn static inline void sp_semihosting_exit(uint32_t code)
{
    const uint32_t block[] = {0x20026U, code}; /* ADP_Stopped_ApplicationExit */
    for (;;) {
        (void)sp_semihosting(0x20, block); /* SYS_EXIT_EXTENDED */
    }
}

#endif
