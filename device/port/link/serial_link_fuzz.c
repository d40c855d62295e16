/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A line into the device's end of a serial link, with the application's calls in between: the input is bytes of the
 * line, or, when its first byte is odd, frames that are well formed, so that a CRC does not keep the rest unreached.
 */
#include "device/port/link/ring.h"
#include "device/port/link/serial_link.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len);

struct line {
    struct sp_ring in;
    uint8_t bytes[4096];
};

static size_t wire_room(void *ctx)
{
    (void)ctx;
    return 2U * SP_FRAME_WIRE_MAX;
}

static void wire_put(void *ctx, struct sp_view bytes)
{
    (void)ctx;
    (void)bytes;
}

static size_t wire_take(void *ctx, uint8_t *out, size_t cap)
{
    struct line *line = ctx;
    return sp_ring_take(&line->in, out, cap);
}

static uint32_t wire_random(void *ctx)
{
    (void)ctx;
    return 0x01010101U; /* so that inputs can hit it */
}

/* What the application does next; the upper bits of a byte say so when the lower ones are zero. */
static void act(struct sp_stream *stream, uint8_t what)
{
    uint8_t buf[300];
    size_t count = 0;
    if (what < 0x40) {
        (void)stream->read(stream->ctx, buf, what + 1U, &count);
    } else if (what < 0x80) {
        (void)stream->ready(stream->ctx);
    } else if (what < 0xC0) {
        static const uint8_t text[300];
        (void)stream->write(stream->ctx, sp_view(text, what), &count);
    } else {
        stream->close(stream->ctx);
        (void)stream->open(stream->ctx);
    }
}

/* A frame of the input: type, sequence, length, payload. @return Bytes used. */
static size_t put_frame(struct line *line, const uint8_t *data, size_t len)
{
    uint8_t buf[SP_FRAME_WIRE_MAX];
    struct sp_reader r;
    struct sp_writer w;
    sp_reader_init(&r, sp_view(data, len));
    uint8_t type = sp_read_u8(&r);
    struct sp_frame frame = {.type = type & 7U,
                             .epoch = (type & 0x80U) != 0 ? 0U : 0x01010101U,
                             .sequence = sp_read_u8(&r)};
    size_t count = sp_read_u8(&r) % (SP_FRAME_PAYLOAD_MAX + 1U);
    frame.payload = sp_read_bytes(&r, count < sp_reader_left(&r) ? count : sp_reader_left(&r));
    sp_writer_init(&w, buf, sizeof(buf));
    if (sp_frame_encode(&frame, &w) == SP_OK) {
        (void)sp_ring_put(&line->in, sp_writer_view(&w));
    }
    return len - sp_reader_left(&r);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static struct line line;
    static struct sp_serial_link device_end;
    const struct sp_serial_wire wire = {
        .ctx = &line, .room = wire_room, .put = wire_put, .take = wire_take, .random = wire_random};
    sp_ring_init(&line.in, line.bytes, sizeof(line.bytes));
    sp_serial_link_init(&device_end, &wire);
    struct sp_stream stream = sp_serial_link_stream(&device_end);
    (void)stream.open(stream.ctx);
    bool frames = len != 0 && (data[0] & 1U) != 0;
    for (size_t i = 0; i < len;) {
        uint8_t what = data[i];
        if (frames) {
            i += put_frame(&line, data + i, len - i);
        } else {
            (void)sp_ring_put(&line.in, sp_view(data + i, 1));
            i++;
        }
        if (frames || what % 16U == 15U) {
            sp_serial_link_poll(&device_end, i * 100U);
            act(&stream, what);
        }
    }
    stream.close(stream.ctx);
    return 0;
}
