/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/batch.h"

#define HEAD 34U /* bytes before the parts */

size_t sp_batch_size(const struct sp_row *row)
{
    return HEAD + row->device.len + row->topic.len + row->origin.len + row->payload.len;
}

void sp_batch_write(struct sp_writer *w, const struct sp_row *row)
{
    sp_write_u64(w, row->time_ms);
    sp_write_u64(w, row->counter);
    sp_write_u32(w, row->expiry_s);
    sp_write_u8(w, row->qos);
    sp_write_u8(w, row->format);
    sp_write_u8(w, row->protection);
    sp_write_u8(w, row->flags);
    sp_write_u16(w, (uint16_t)row->device.len);
    sp_write_u16(w, (uint16_t)row->topic.len);
    sp_write_u16(w, (uint16_t)row->origin.len);
    sp_write_u32(w, (uint32_t)row->payload.len);
    sp_write_view(w, row->device);
    sp_write_view(w, row->topic);
    sp_write_view(w, row->origin);
    sp_write_view(w, row->payload);
}

enum sp_err sp_batch_next(struct sp_reader *r, struct sp_stored *out)
{
    *out = (struct sp_stored){.time_ms = sp_read_u64(r)};
    out->counter = sp_read_u64(r);
    out->expiry_s = sp_read_u32(r);
    out->qos = sp_read_u8(r);
    out->format = sp_read_u8(r);
    out->protection = sp_read_u8(r);
    out->flags = sp_read_u8(r);
    size_t device = sp_read_u16(r);
    size_t topic = sp_read_u16(r);
    size_t origin = sp_read_u16(r);
    size_t payload = sp_read_u32(r);
    out->device = sp_read_bytes(r, device);
    out->topic = sp_read_bytes(r, topic);
    out->origin = sp_read_bytes(r, origin);
    out->payload = sp_read_bytes(r, payload);
    return r->err == SP_OK && !sp_stored_sound(out) ? SP_ERR_MALFORMED : r->err;
}

size_t sp_stored_cost(const struct sp_stored *message)
{
    return message->device.len + message->topic.len + message->origin.len + message->payload.len +
           SP_ROW_OVERHEAD;
}

bool sp_stored_sound(const struct sp_stored *message)
{
    return message->format <= SP_FORMAT_JSON && message->protection <= SP_PROTECTION_SEALED;
}
