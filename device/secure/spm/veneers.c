/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/spm/veneers.h"

#include "device/secure/spm/spm.h"
#include "device/secure/spm/spm_ns.h"
#include "psa_manifest/pid.h"

#include <arm_cmse.h>

#define ENTRY __attribute__((cmse_nonsecure_entry))

/* An interrupt handler of the non-secure world calls: it would run in the middle of another call. */
static bool from_handler(void)
{
    uint32_t exception = 0;
    __asm volatile("mrs %0, ipsr" : "=r"(exception));
    return exception != 0;
}

ENTRY psa_status_t sp_psa_call_veneer(psa_handle_t handle, uint32_t control, const psa_invec *in,
                                      psa_outvec *out)
{
    return from_handler() ? PSA_ERROR_PROGRAMMER_ERROR : sp_spm_ns_call(handle, control, in, out);
}

ENTRY uint32_t sp_psa_framework_version_veneer(void)
{
    return PSA_FRAMEWORK_VERSION;
}

ENTRY uint32_t sp_psa_version_veneer(uint32_t sid)
{
    return sp_spm_version(SP_CLIENT_NON_SECURE, sid);
}
