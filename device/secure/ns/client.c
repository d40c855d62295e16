/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* psa/client.h over the veneers. */
#include "psa/client.h"
#include "device/secure/ns/ns.h"
#include "device/secure/spm/spm_ns.h"
#include "device/secure/spm/veneers.h"

psa_status_t psa_call(psa_handle_t handle, int32_t type, const psa_invec *in_vec, size_t in_len,
                      psa_outvec *out_vec, size_t out_len)
{
    if (type < 0 || type > PSA_CALL_TYPE_MAX || in_len > PSA_MAX_IOVEC ||
        out_len > PSA_MAX_IOVEC - in_len) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    sp_ns_lock();
    psa_status_t status =
        sp_psa_call_veneer(handle, SP_SPM_CONTROL(type, in_len, out_len), in_vec, out_vec);
    sp_ns_unlock();
    return status;
}

uint32_t psa_framework_version(void)
{
    return sp_psa_framework_version_veneer();
}

uint32_t psa_version(uint32_t sid)
{
    return sp_psa_version_veneer(sid);
}
