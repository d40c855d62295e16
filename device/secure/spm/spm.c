/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/spm/spm.h"

#include "libs/base/bytes.h"
#include "psa_manifest/pid.h"

/* A caller on the way down: who it is, and the vectors of the call it is serving, if any. */
struct frame {
    int32_t partition;
    const psa_invec *in;
    size_t in_count;
    size_t in_used[PSA_MAX_IOVEC];
    psa_outvec *out;
    size_t out_count;
    size_t out_used[PSA_MAX_IOVEC];
};

static const struct sp_spm_service *services;
static size_t service_count;
static struct frame frames[SP_SPM_DEPTH];
static size_t depth;

void sp_spm_init(const struct sp_spm_service *table, size_t count)
{
    services = table;
    service_count = count;
    depth = 0;
}

static int32_t current_client(void)
{
    return depth == 0 ? SP_CLIENT_NON_SECURE : frames[depth - 1].partition;
}

bool sp_spm_enter(int32_t partition)
{
    if (depth == SP_SPM_DEPTH) {
        return false;
    }
    frames[depth] = (struct frame){.partition = partition};
    depth++;
    return true;
}

void sp_spm_leave(void)
{
    depth--;
}

static const struct sp_spm_service *find_service(psa_handle_t handle)
{
    for (size_t i = 0; i < service_count; i++) {
        if (services[i].handle == handle) {
            return &services[i];
        }
    }
    return NULL;
}

static bool vectors_valid(const psa_invec *in, size_t in_len, const psa_outvec *out, size_t out_len)
{
    if (in_len > PSA_MAX_IOVEC || out_len > PSA_MAX_IOVEC - in_len || (in_len != 0 && in == NULL) ||
        (out_len != 0 && out == NULL)) {
        return false;
    }
    for (size_t i = 0; i < in_len; i++) {
        if (in[i].base == NULL && in[i].len != 0) {
            return false;
        }
    }
    for (size_t i = 0; i < out_len; i++) {
        if (out[i].base == NULL && out[i].len != 0) {
            return false;
        }
    }
    return true;
}

psa_status_t psa_call(psa_handle_t handle, int32_t type, const psa_invec *in_vec, size_t in_len,
                      psa_outvec *out_vec, size_t out_len)
{
    const struct sp_spm_service *service = find_service(handle);
    if (service == NULL || type < 0 || !vectors_valid(in_vec, in_len, out_vec, out_len)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    int32_t client = current_client();
    if (!sp_spm_enter(service->partition)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    struct frame *frame = &frames[depth - 1];
    frame->in = in_vec;
    frame->in_count = in_len;
    frame->out = out_vec;
    frame->out_count = out_len;
    psa_msg_t msg = {.type = type, .handle = (psa_handle_t)depth, .client_id = client};
    for (size_t i = 0; i < in_len; i++) {
        msg.in_size[i] = in_vec[i].len;
    }
    for (size_t i = 0; i < out_len; i++) {
        msg.out_size[i] = out_vec[i].len;
    }
    psa_status_t status = service->function(&msg);
    for (size_t i = 0; i < out_len; i++) {
        out_vec[i].len = frame->out_used[i];
    }
    sp_spm_leave();
    return status;
}

/* The frame of the call that is being served now, when the handle is that call's. */
static struct frame *frame_of(psa_handle_t msg_handle)
{
    return depth != 0 && msg_handle == (psa_handle_t)depth ? &frames[depth - 1] : NULL;
}

size_t psa_read(psa_handle_t msg_handle, uint32_t invec_idx, void *buffer, size_t num_bytes)
{
    struct frame *frame = frame_of(msg_handle);
    if (frame == NULL || invec_idx >= frame->in_count) {
        return 0;
    }
    struct sp_view rest = sp_view_from(sp_view(frame->in[invec_idx].base, frame->in[invec_idx].len),
                                       frame->in_used[invec_idx]);
    rest = sp_view_first(rest, num_bytes);
    sp_copy(buffer, rest.ptr, rest.len);
    frame->in_used[invec_idx] += rest.len;
    return rest.len;
}

void psa_write(psa_handle_t msg_handle, uint32_t outvec_idx, const void *buffer, size_t num_bytes)
{
    struct frame *frame = frame_of(msg_handle);
    if (frame == NULL || outvec_idx >= frame->out_count ||
        num_bytes > frame->out[outvec_idx].len - frame->out_used[outvec_idx]) {
        return;
    }
    uint8_t *base = frame->out[outvec_idx].base;
    sp_copy(base + frame->out_used[outvec_idx], buffer, num_bytes);
    frame->out_used[outvec_idx] += num_bytes;
}
