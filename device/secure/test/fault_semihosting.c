/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* In the place of start/fault_reset.c in test builds: 100 + what happened is the emulator's exit status. */
#include "device/secure/start/fault.h"

#include "device/secure/test/ns/semihosting.h"

void sp_fault(uint32_t exception)
{
    sp_semihosting_exit(100U + exception);
}
