/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/spm/spm_ns.h"

#include "device/secure/spm/spm.h"
#include "libs/base/bytes.h"
#include "psa_manifest/pid.h"

#include <stdatomic.h>

/* One call at a time: set by a caller that may be interrupted by another one. */
static atomic_flag busy = ATOMIC_FLAG_INIT;

static bool overlap(const void *a, size_t a_len, const void *b, size_t b_len)
{
    uintptr_t from_a = (uintptr_t)a;
    uintptr_t from_b = (uintptr_t)b;
    return a_len != 0 && b_len != 0 && from_a < from_b + b_len && from_b < from_a + a_len;
}

static bool inputs_good(const struct sp_spm_vectors *v)
{
    for (size_t i = 0; i < v->in_count; i++) {
        if (v->in[i].len != 0 && !sp_spm_ns_readable(v->in[i].base, v->in[i].len)) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (overlap(v->in[i].base, v->in[i].len, v->in[k].base, v->in[k].len)) {
                return false;
            }
        }
    }
    return true;
}

static bool outputs_good(const struct sp_spm_vectors *v)
{
    for (size_t i = 0; i < v->out_count; i++) {
        if (v->out[i].len != 0 && !sp_spm_ns_writable(v->out[i].base, v->out[i].len)) {
            return false;
        }
        for (size_t k = 0; k < i; k++) {
            if (overlap(v->out[i].base, v->out[i].len, v->out[k].base, v->out[k].len)) {
                return false;
            }
        }
    }
    return true;
}

/* Copy the vectors, then check the copy. */
static bool take_vectors(uint32_t control, const psa_invec *in, const psa_outvec *out,
                         struct sp_spm_vectors *v)
{
    size_t in_count = control >> 24;
    size_t out_count = (control >> 16) & 0xFFU;
    *v = (struct sp_spm_vectors){.in_count = in_count, .out_count = out_count};
    if (in_count + out_count > PSA_MAX_IOVEC ||
        (in_count != 0 && !sp_spm_ns_readable(in, in_count * sizeof(*in))) ||
        (out_count != 0 && !sp_spm_ns_writable(out, out_count * sizeof(*out)))) {
        return false;
    }
    sp_copy(v->in, in, in_count * sizeof(*in));
    sp_copy(v->out, out, out_count * sizeof(*out));
    return inputs_good(v) && outputs_good(v);
}

static psa_status_t serve(psa_handle_t handle, uint32_t control, const psa_invec *in,
                          psa_outvec *out)
{
    struct sp_spm_vectors vectors;
    if (!take_vectors(control, in, out, &vectors)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status =
        sp_spm_deliver(SP_CLIENT_NON_SECURE, handle, (int32_t)(control & 0xFFFFU), &vectors);
    for (size_t i = 0; i < vectors.out_count && status == PSA_SUCCESS; i++) {
        out[i].len = vectors.out[i].len;
    }
    return status;
}

psa_status_t sp_spm_ns_call(psa_handle_t handle, uint32_t control, const psa_invec *in,
                            psa_outvec *out)
{
    if (atomic_flag_test_and_set(&busy)) {
        return PSA_ERROR_CONNECTION_BUSY;
    }
    psa_status_t status = serve(handle, control, in, out);
    atomic_flag_clear(&busy);
    return status;
}
