/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/spm/spm.h"

#include "libs/base/bytes.h"
#include "psa_manifest/pid.h"

/* A caller on the way down: who it is, and the vectors of the call it is serving, if any. */
struct frame {
    int32_t partition;
    const struct sp_spm_vectors *vectors;
    size_t in_used[PSA_MAX_IOVEC];
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

int32_t sp_spm_current(void)
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

static bool may_call(const struct sp_spm_service *service, int32_t client)
{
    return client > 0 || service->non_secure_clients;
}

static const struct sp_spm_service *find_service(psa_handle_t handle, int32_t client)
{
    for (size_t i = 0; i < service_count; i++) {
        if (services[i].handle == handle && may_call(&services[i], client)) {
            return &services[i];
        }
    }
    return NULL;
}

uint32_t sp_spm_version(int32_t client, uint32_t sid)
{
    for (size_t i = 0; i < service_count; i++) {
        if (services[i].sid == sid && may_call(&services[i], client)) {
            return services[i].version;
        }
    }
    return PSA_VERSION_NONE;
}

/* Lengths of a success; nothing at all of a failure. */
static void finish_outputs(const struct frame *frame, struct sp_spm_vectors *vectors, bool success)
{
    for (size_t i = 0; i < vectors->out_count; i++) {
        if (success) {
            vectors->out[i].len = frame->out_used[i];
        } else {
            sp_wipe(vectors->out[i].base, frame->out_used[i]);
        }
    }
}

psa_status_t sp_spm_deliver(int32_t client, psa_handle_t handle, int32_t type,
                            struct sp_spm_vectors *vectors)
{
    const struct sp_spm_service *service = find_service(handle, client);
    if (service == NULL || type < 0 || type > PSA_CALL_TYPE_MAX ||
        !sp_spm_enter(service->partition)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    struct frame *frame = &frames[depth - 1];
    frame->vectors = vectors;
    psa_msg_t msg = {.type = type, .handle = (psa_handle_t)depth, .client_id = client};
    for (size_t i = 0; i < vectors->in_count; i++) {
        msg.in_size[i] = vectors->in[i].len;
    }
    for (size_t i = 0; i < vectors->out_count; i++) {
        msg.out_size[i] = vectors->out[i].len;
    }
    psa_status_t status = service->function(&msg);
    finish_outputs(frame, vectors, status == PSA_SUCCESS);
    sp_spm_leave();
    return status;
}

/* The frame of the call that is being served now, when the handle is that call's. */
static struct frame *frame_of(psa_handle_t msg_handle)
{
    bool current = depth != 0 && msg_handle == (psa_handle_t)depth;
    return current && frames[depth - 1].vectors != NULL ? &frames[depth - 1] : NULL;
}

/* The next bytes of an input, consumed; empty when there is no such input. */
static struct sp_view take_input(psa_handle_t msg_handle, uint32_t index, size_t num_bytes)
{
    struct frame *frame = frame_of(msg_handle);
    if (frame == NULL || index >= frame->vectors->in_count) {
        return sp_view(NULL, 0);
    }
    const psa_invec *in = &frame->vectors->in[index];
    struct sp_view rest = sp_view_from(sp_view(in->base, in->len), frame->in_used[index]);
    rest = sp_view_first(rest, num_bytes);
    frame->in_used[index] += rest.len;
    return rest;
}

size_t psa_read(psa_handle_t msg_handle, uint32_t invec_idx, void *buffer, size_t num_bytes)
{
    struct sp_view bytes = take_input(msg_handle, invec_idx, num_bytes);
    sp_copy(buffer, bytes.ptr, bytes.len);
    return bytes.len;
}

size_t psa_skip(psa_handle_t msg_handle, uint32_t invec_idx, size_t num_bytes)
{
    return take_input(msg_handle, invec_idx, num_bytes).len;
}

void psa_write(psa_handle_t msg_handle, uint32_t outvec_idx, const void *buffer, size_t num_bytes)
{
    struct frame *frame = frame_of(msg_handle);
    if (frame == NULL || outvec_idx >= frame->vectors->out_count) {
        return;
    }
    const psa_outvec *out = &frame->vectors->out[outvec_idx];
    if (num_bytes == 0 || num_bytes > out->len - frame->out_used[outvec_idx]) {
        return; /* where nothing is to be written there may be no buffer either */
    }
    uint8_t *base = out->base;
    sp_copy(base + frame->out_used[outvec_idx], buffer, num_bytes);
    frame->out_used[outvec_idx] += num_bytes;
}
