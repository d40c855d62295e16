/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/link/frame.h"

#define CRC_LEN 4U

_Static_assert(SP_FRAME_BODY_MAX <= 254U, "one stuffing byte is enough");

static uint32_t crc32(struct sp_view bytes)
{
    uint32_t crc = 0xFFFFFFFFU;
    for (size_t i = 0; i < bytes.len; i++) {
        crc ^= bytes.ptr[i];
        for (unsigned bit = 0; bit < 8; bit++) {
            crc = (crc >> 1) ^ ((crc & 1U) != 0 ? 0xEDB88320U : 0U);
        }
    }
    return ~crc;
}

/* COBS: each zero is replaced by the distance to the next one; the first distance stands in front. */
static void stuff(struct sp_view body, struct sp_writer *w)
{
    size_t start = 0;
    for (size_t i = 0; i <= body.len; i++) {
        if (i == body.len || body.ptr[i] == 0) {
            sp_write_u8(w, (uint8_t)(i - start + 1U));
            sp_write_view(w, sp_view(body.ptr + start, i - start));
            start = i + 1U;
        }
    }
}

enum sp_err sp_frame_encode(const struct sp_frame *frame, struct sp_writer *w)
{
    uint8_t body[SP_FRAME_BODY_MAX];
    struct sp_writer b;
    if (frame->payload.len > SP_FRAME_PAYLOAD_MAX) {
        return SP_ERR_ARGUMENT;
    }
    sp_writer_init(&b, body, sizeof(body));
    sp_write_u8(&b, frame->type);
    sp_write_u32(&b, frame->epoch);
    sp_write_u16(&b, frame->sequence);
    sp_write_view(&b, frame->payload);
    sp_write_u32(&b, crc32(sp_writer_view(&b)));
    sp_write_u8(w, 0);
    stuff(sp_writer_view(&b), w);
    sp_write_u8(w, 0);
    return w->err;
}

/* In place: what comes out is one byte shorter. @return The length, or 0. */
static size_t unstuff(uint8_t *bytes, size_t len)
{
    size_t from = 0;
    size_t to = 0;
    while (from < len) {
        size_t run = bytes[from++];
        if (run == 0 || run - 1U > len - from) {
            return 0;
        }
        for (size_t i = 1; i < run; i++) {
            bytes[to++] = bytes[from++];
        }
        if (from < len) {
            bytes[to++] = 0;
        }
    }
    return to;
}

static bool parse(struct sp_view body, struct sp_frame *out)
{
    struct sp_reader r;
    if (body.len < 7U + CRC_LEN) {
        return false;
    }
    sp_reader_init(&r, sp_view_from(body, body.len - CRC_LEN));
    if (sp_read_u32(&r) != crc32(sp_view_first(body, body.len - CRC_LEN))) {
        return false;
    }
    sp_reader_init(&r, sp_view_first(body, body.len - CRC_LEN));
    out->type = sp_read_u8(&r);
    out->epoch = sp_read_u32(&r);
    out->sequence = sp_read_u16(&r);
    out->payload = sp_read_rest(&r);
    return out->type >= SP_FRAME_OPEN && out->type <= SP_FRAME_CLOSE;
}

bool sp_frame_decode(struct sp_frame_decoder *decoder, uint8_t byte, struct sp_frame *out)
{
    if (byte != 0) {
        if (decoder->used == sizeof(decoder->bytes)) {
            decoder->overflow = true;
        } else {
            decoder->bytes[decoder->used++] = byte;
        }
        return false;
    }
    size_t len = decoder->overflow ? 0 : unstuff(decoder->bytes, decoder->used);
    decoder->used = 0;
    decoder->overflow = false;
    return parse(sp_view(decoder->bytes, len), out);
}
