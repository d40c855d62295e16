/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/spm/spm_ns.h"

#include <arm_cmse.h>

/* The checks below take a pointer to what they only look at. */
static void *plain(const void *base)
{
    return (void *)(uintptr_t)base;
}

bool sp_spm_ns_readable(const void *base, size_t len)
{
    return cmse_check_address_range(plain(base), len, CMSE_NONSECURE | CMSE_MPU_READ) != NULL;
}

bool sp_spm_ns_writable(const void *base, size_t len)
{
    return cmse_check_address_range(plain(base), len, CMSE_NONSECURE | CMSE_MPU_READWRITE) != NULL;
}
