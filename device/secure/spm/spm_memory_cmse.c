/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Two questions, both must be answered with yes: is it memory that this board gave to the non-secure world, and does the
 * processor let the caller use it. The second one alone is not enough: the system control space (0xE000E000) belongs
 * to both worlds, each sees its own registers there, and the processor's answer may be about the caller's.
 */
#include "device/secure/spm/spm_ns.h"

#include "board.h"

#include <arm_cmse.h>

static bool inside(const void *base, size_t len, uintptr_t from, size_t size)
{
    uintptr_t offset = (uintptr_t)base - from;
    return (uintptr_t)base >= from && offset < size && len <= size - offset;
}

static bool allowed(const void *base, size_t len, int flags)
{
    return cmse_check_address_range((void *)(uintptr_t)base, len, flags) != NULL;
}

bool sp_spm_ns_readable(const void *base, size_t len)
{
    return (inside(base, len, MAP_NS_RAM, MAP_NS_RAM_SIZE) ||
            inside(base, len, MAP_NS_CODE, MAP_NS_CODE_SIZE)) &&
           allowed(base, len, CMSE_NONSECURE | CMSE_MPU_READ);
}

bool sp_spm_ns_writable(const void *base, size_t len)
{
    return inside(base, len, MAP_NS_RAM, MAP_NS_RAM_SIZE) &&
           allowed(base, len, CMSE_NONSECURE | CMSE_MPU_READWRITE);
}
