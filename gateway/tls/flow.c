/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/flow.h"

#include <stdlib.h>
#include <string.h>

/* ---- output ---- */

void sp_tls_out_deinit(struct sp_tls_out *out)
{
    free(out->buf);
    *out = (struct sp_tls_out){NULL, 0, 0};
}

/* Room for `len` more bytes behind what is used; NULL: no memory. */
static uint8_t *out_reserve(struct sp_tls_out *out, size_t len)
{
    if (len > out->cap - out->used) {
        size_t cap = out->cap == 0 ? 1024 : out->cap;
        while (cap - out->used < len) {
            cap *= 2;
        }
        uint8_t *grown = realloc(out->buf, cap);
        if (grown == NULL) {
            return NULL;
        }
        out->buf = grown;
        out->cap = cap;
    }
    return out->buf + out->used;
}

bool sp_tls_out_append(struct sp_tls_out *out, const void *bytes, size_t len)
{
    uint8_t *at = out_reserve(out, len);
    if (at == NULL) {
        return false;
    }
    sp_copy(at, bytes, len);
    out->used += len;
    return true;
}

/* ---- what is held ---- */

struct sp_flow *sp_flow_create(void)
{
    struct sp_flow *flow = malloc(sizeof(*flow));
    if (flow != NULL) {
        *flow = (struct sp_flow){.held = NULL};
    }
    return flow;
}

void sp_flow_destroy(struct sp_flow *flow)
{
    if (flow != NULL) {
        free(flow->held);
        free(flow);
    }
}

bool sp_flow_is_empty(const struct sp_flow *flow)
{
    return flow->in.len == 0 && flow->held_len == 0;
}

enum sp_err sp_flow_hold(struct sp_flow *flow, size_t len, size_t max)
{
    struct sp_view taken = sp_view_first(flow->in, len);
    if (taken.len > max - flow->held_len) {
        return SP_ERR_LIMIT;
    }
    uint8_t *grown = realloc(flow->held, flow->held_len + taken.len + 1);
    if (grown == NULL) {
        return SP_ERR_NOMEM;
    }
    flow->held = grown;
    sp_copy(flow->held + flow->held_len, taken.ptr, taken.len);
    flow->held_len += (uint32_t)taken.len;
    flow->in = sp_view_from(flow->in, taken.len);
    return SP_OK;
}

void sp_flow_unhold(struct sp_flow *flow, size_t used)
{
    if (used >= flow->held_len) {
        sp_flow_forget(flow);
    } else {
        flow->held_len -= (uint32_t)used;
        memmove(flow->held, flow->held + used, flow->held_len);
    }
}

void sp_flow_forget(struct sp_flow *flow)
{
    free(flow->held);
    flow->held = NULL;
    flow->held_len = 0;
}

/* ---- records ---- */

/* Complete the record at the front of what is held, as far as there is input. */
static enum sp_err top_up(struct sp_flow *flow)
{
    size_t size = sp_record_wire_size(sp_view(flow->held, flow->held_len));
    while (flow->held_len < size && flow->in.len > 0) {
        SP_TRY(sp_flow_hold(flow, size - flow->held_len, SP_RECORD_WIRE_MAX));
        size = sp_record_wire_size(sp_view(flow->held, flow->held_len));
    }
    return SP_OK;
}

/* One record from what is held, which is older, or from the input. */
static enum sp_err open_record(struct sp_flow *flow, struct sp_tls_record *record, uint8_t *buf,
                               size_t cap, struct sp_record_in *found)
{
    bool held = flow->held_len > 0;
    if (held) {
        SP_TRY(top_up(flow));
    }
    struct sp_view raw = held ? sp_view(flow->held, flow->held_len) : flow->in;
    enum sp_err err = sp_record_open(record, raw, buf, cap, found);
    if (err == SP_ERR_AGAIN && !held && flow->in.len > 0) {
        SP_TRY(sp_flow_hold(flow, flow->in.len, SP_RECORD_WIRE_MAX));
    } else if (held && found->used > 0) {
        sp_flow_unhold(flow, found->used);
    } else if (!held) {
        flow->in = sp_view_from(flow->in, found->used);
    }
    return err;
}

enum sp_err sp_flow_read(struct sp_flow *flow, struct sp_tls_record *record, uint8_t *buf,
                         size_t cap, struct sp_record_in *found)
{
    enum sp_err err = SP_OK;
    do {
        err = open_record(flow, record, buf, cap, found);
    } while (err == SP_OK && found->len == 0);
    return err;
}

enum sp_err sp_flow_write(struct sp_tls_record *record, struct sp_view plain,
                          struct sp_tls_out *out)
{
    while (plain.len > 0) {
        struct sp_view part = sp_view_first(plain, record->send_max);
        size_t size = sp_record_sealed(record, part.len);
        uint8_t *at = out_reserve(out, size);
        if (at == NULL || sp_record_seal(record, SP_RECORD_DATA, part, at) != SP_OK) {
            return SP_ERR_CRYPTO;
        }
        out->used += size;
        plain = sp_view_from(plain, part.len);
    }
    return SP_OK;
}

void sp_flow_say(struct sp_tls_record *record, enum sp_alert alert, struct sp_tls_out *out)
{
    size_t size = sp_record_sealed(record, 2);
    uint8_t *at = out_reserve(out, size);
    if (at != NULL && sp_record_seal_alert(record, alert, at) == SP_OK) {
        out->used += size;
    }
}
