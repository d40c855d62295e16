/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The client API for callers in the same address space: secure partitions, and everybody on POSIX. */
#include "device/secure/spm/spm.h"
#include "psa/client.h"

static bool take_vectors(struct sp_spm_vectors *out, const psa_invec *in_vec, size_t in_len,
                         const psa_outvec *out_vec, size_t out_len)
{
    if (in_len > PSA_MAX_IOVEC || out_len > PSA_MAX_IOVEC - in_len ||
        (in_len != 0 && in_vec == NULL) || (out_len != 0 && out_vec == NULL)) {
        return false;
    }
    *out = (struct sp_spm_vectors){.in_count = in_len, .out_count = out_len};
    bool good = true;
    for (size_t i = 0; i < in_len; i++) {
        out->in[i] = in_vec[i];
        good = good && (in_vec[i].base != NULL || in_vec[i].len == 0);
    }
    for (size_t i = 0; i < out_len; i++) {
        out->out[i] = out_vec[i];
        good = good && (out_vec[i].base != NULL || out_vec[i].len == 0);
    }
    return good;
}

psa_status_t psa_call(psa_handle_t handle, int32_t type, const psa_invec *in_vec, size_t in_len,
                      psa_outvec *out_vec, size_t out_len)
{
    struct sp_spm_vectors vectors;
    if (!take_vectors(&vectors, in_vec, in_len, out_vec, out_len)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = sp_spm_deliver(sp_spm_current(), handle, type, &vectors);
    for (size_t i = 0; i < out_len && status == PSA_SUCCESS; i++) {
        out_vec[i].len = vectors.out[i].len;
    }
    return status;
}

uint32_t psa_framework_version(void)
{
    return PSA_FRAMEWORK_VERSION;
}

uint32_t psa_version(uint32_t sid)
{
    return sp_spm_version(sp_spm_current(), sid);
}
