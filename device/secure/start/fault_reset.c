/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/start/fault.h"

#include "device/secure/start/registers.h"

/* Says nothing: what the lower world did is not to be answered with addresses (TFMV-7). */
void sp_fault(uint32_t exception)
{
    (void)exception;
    __asm volatile("cpsid i\n\tdsb" ::: "memory");
    SP_REG(SCB_AIRCR) = AIRCR_KEY | AIRCR_PRIS | AIRCR_SYSRESETREQ;
    for (;;) {
        __asm volatile("dsb" ::: "memory");
    }
}
