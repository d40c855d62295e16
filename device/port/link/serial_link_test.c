/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/link/ring.h"
#include "device/port/link/serial_link.h"
#include "libs/base/test.h"

#include <string.h>

/* Both directions of a line, and the host's end of it as a test plays it. */
static struct line {
    uint8_t to_host_bytes[4096];
    uint8_t to_device_bytes[4096];
    struct sp_ring to_host;
    struct sp_ring to_device;
    struct sp_frame_decoder host;
    uint32_t next_epoch;
} line;

static struct sp_serial_link device_link;
static struct sp_stream stream;

static size_t wire_room(void *ctx)
{
    (void)ctx;
    return sp_ring_room(&line.to_host);
}

static void wire_put(void *ctx, struct sp_view bytes)
{
    (void)ctx;
    SP_CHECK_INT(sp_ring_put(&line.to_host, bytes), bytes.len);
}

static size_t wire_take(void *ctx, uint8_t *out, size_t cap)
{
    (void)ctx;
    return sp_ring_take(&line.to_device, out, cap);
}

static uint32_t wire_random(void *ctx)
{
    (void)ctx;
    return line.next_epoch++;
}

static void start(void)
{
    const struct sp_serial_wire wire = {
        .room = wire_room, .put = wire_put, .take = wire_take, .random = wire_random};
    memset(&line, 0, sizeof(line));
    line.next_epoch = 0x01000000U; /* zeros in it, for the stuffing */
    sp_ring_init(&line.to_host, line.to_host_bytes, sizeof(line.to_host_bytes));
    sp_ring_init(&line.to_device, line.to_device_bytes, sizeof(line.to_device_bytes));
    sp_serial_link_init(&device_link, &wire);
    stream = sp_serial_link_stream(&device_link);
}

static struct sp_view encode(const struct sp_frame *frame, uint8_t *buf)
{
    struct sp_writer w;
    sp_writer_init(&w, buf, SP_FRAME_WIRE_MAX);
    SP_CHECK_INT(sp_frame_encode(frame, &w), SP_OK);
    return sp_writer_view(&w);
}

static void host_send(uint8_t type, uint32_t epoch, uint16_t sequence, const char *text)
{
    uint8_t buf[SP_FRAME_WIRE_MAX];
    const struct sp_frame frame = {type, epoch, sequence, sp_view_str(text)};
    (void)sp_ring_put(&line.to_device, encode(&frame, buf));
}

/* The next frame that the device sent; false when there is none. */
static bool host_receive(struct sp_frame *out)
{
    uint8_t byte = 0;
    while (sp_ring_take(&line.to_host, &byte, 1) == 1) {
        if (sp_frame_decode(&line.host, byte, out)) {
            return true;
        }
    }
    return false;
}

/* @return The epoch of a connection that both ends have opened. */
static uint32_t connect_both(void)
{
    struct sp_frame frame = {0};
    SP_CHECK_INT(stream.open(stream.ctx), SP_OK);
    SP_CHECK(host_receive(&frame) && frame.type == SP_FRAME_OPEN);
    uint32_t epoch = frame.epoch;
    host_send(SP_FRAME_OPENED, epoch, 0, "");
    SP_CHECK_INT(stream.ready(stream.ctx), SP_OK);
    return epoch;
}

static struct sp_view device_read(void)
{
    static uint8_t buf[4096];
    size_t len = 0;
    enum sp_err err = stream.read(stream.ctx, buf, sizeof(buf), &len);
    return sp_view(buf, err == SP_OK ? len : 0);
}

static void a_frame_is_these_bytes_on_the_line(void)
{
    uint8_t buf[SP_FRAME_WIRE_MAX];
    struct sp_frame_decoder decoder = {0};
    struct sp_frame out = {0};
    const struct sp_frame frame = {SP_FRAME_DATA, 0x00020007U, 0x0100U, SP_VIEW_LIT("a\0b")};
    struct sp_view bytes = encode(&frame, buf);
    char hex[2 * SP_FRAME_WIRE_MAX + 1];
    sp_hex_format(bytes, hex);
    SP_CHECK(strcmp(hex, "00020302020307010261066280546c6300") == 0);
    bool complete = false;
    for (size_t i = 0; i < bytes.len; i++) {
        complete = sp_frame_decode(&decoder, bytes.ptr[i], &out);
    }
    SP_CHECK(complete && out.type == SP_FRAME_DATA && out.epoch == 0x00020007U &&
             out.sequence == 0x0100U && sp_view_equal(out.payload, SP_VIEW_LIT("a\0b")));
}

static void every_payload_length_survives(void)
{
    static uint8_t payload[SP_FRAME_PAYLOAD_MAX];
    for (size_t len = 0; len <= sizeof(payload); len++) {
        for (unsigned fill = 0; fill < 2; fill++) {
            uint8_t buf[SP_FRAME_WIRE_MAX];
            struct sp_frame_decoder decoder = {0};
            struct sp_frame out = {0};
            memset(payload, fill == 0 ? 0 : 0xFF, sizeof(payload));
            const struct sp_frame frame = {SP_FRAME_DATA, 1, 2, sp_view(payload, len)};
            struct sp_view bytes = encode(&frame, buf);
            bool complete = false;
            for (size_t i = 0; i < bytes.len; i++) {
                SP_CHECK(i == 0 || i + 1 == bytes.len || bytes.ptr[i] != 0);
                complete = sp_frame_decode(&decoder, bytes.ptr[i], &out);
            }
            SP_CHECK(complete && sp_view_equal(out.payload, frame.payload));
        }
    }
    const struct sp_frame too_long = {SP_FRAME_DATA, 1, 2, {payload, SP_FRAME_PAYLOAD_MAX + 1U}};
    struct sp_writer w;
    uint8_t buf[2U * SP_FRAME_WIRE_MAX];
    sp_writer_init(&w, buf, sizeof(buf));
    SP_CHECK_INT(sp_frame_encode(&too_long, &w), SP_ERR_ARGUMENT);
}

static void a_frame_with_any_bit_flipped_is_no_frame(void)
{
    uint8_t buf[SP_FRAME_WIRE_MAX];
    const struct sp_frame frame = {SP_FRAME_DATA, 0xA1B2C3D4U, 5, SP_VIEW_LIT("some bytes")};
    struct sp_view bytes = encode(&frame, buf);
    for (size_t bit = 8; bit < (bytes.len - 1U) * 8U; bit++) {
        struct sp_frame_decoder decoder = {0};
        struct sp_frame out = {0};
        for (size_t i = 0; i < bytes.len; i++) {
            uint8_t flip = (uint8_t)(i == bit / 8U ? 1U << (bit % 8U) : 0U);
            SP_CHECK(!sp_frame_decode(&decoder, bytes.ptr[i] ^ flip, &out));
        }
    }
}

static void garbage_before_a_frame_does_not_touch_it(void)
{
    static const struct {
        const char *name;
        size_t len;
        uint8_t first;
        uint8_t step;
    } cases[] = {
        {"nothing", 0, 0, 0},          {"one byte", 1, 0x55, 0},
        {"zeros", 600, 0, 0},          {"all ones", 600, 0xFF, 0},
        {"counting", 1000, 1, 1},      {"a long run without zero", 3000, 7, 0},
        {"stuffing bytes", 300, 2, 0},
    };
    for (size_t c = 0; c < sizeof(cases) / sizeof(cases[0]); c++) {
        struct sp_frame_decoder decoder = {0};
        struct sp_frame out = {0};
        uint8_t buf[SP_FRAME_WIRE_MAX];
        const struct sp_frame frame = {SP_FRAME_OPEN, 9, 0, SP_VIEW_LIT("\x01")};
        struct sp_view bytes = encode(&frame, buf);
        uint8_t value = cases[c].first;
        for (size_t i = 0; i < cases[c].len; i++) {
            SP_CHECK_CASE(!sp_frame_decode(&decoder, value, &out), cases[c].name);
            value = (uint8_t)(value + cases[c].step);
        }
        bool complete = false;
        for (size_t i = 0; i < bytes.len; i++) {
            complete = sp_frame_decode(&decoder, bytes.ptr[i], &out);
        }
        SP_CHECK_CASE(complete && out.epoch == 9, cases[c].name);
    }
}

static void bytes_flow_both_ways(void)
{
    struct sp_frame frame = {0};
    size_t len = 0;
    start();
    uint32_t epoch = connect_both();
    SP_CHECK_INT(stream.write(stream.ctx, SP_VIEW_LIT("hello"), &len), SP_OK);
    SP_CHECK_INT(len, 5);
    SP_CHECK(host_receive(&frame) && frame.type == SP_FRAME_DATA && frame.sequence == 0 &&
             sp_view_equal(frame.payload, SP_VIEW_LIT("hello")));
    host_send(SP_FRAME_DATA, epoch, 0, "good ");
    host_send(SP_FRAME_DATA, epoch, 1, "day");
    SP_CHECK(sp_view_equal(device_read(), SP_VIEW_LIT("good day")));
    SP_CHECK_INT(stream.read(stream.ctx, (uint8_t[1]){0}, 1, &len), SP_ERR_AGAIN);
}

static void a_long_write_is_cut_into_frames_until_the_line_is_full(void)
{
    static uint8_t big[8192];
    struct sp_frame frame = {0};
    size_t len = 0;
    size_t got = 0;
    start();
    (void)connect_both();
    for (size_t i = 0; i < sizeof(big); i++) {
        big[i] = (uint8_t)i;
    }
    SP_CHECK_INT(stream.write(stream.ctx, SP_VIEW_ARRAY(big), &len), SP_OK);
    SP_CHECK(len > 3000 && len < sizeof(line.to_host_bytes));
    for (uint16_t sequence = 0; host_receive(&frame); sequence++) {
        SP_CHECK_INT(frame.sequence, sequence);
        SP_CHECK(memcmp(big + got, frame.payload.ptr, frame.payload.len) == 0);
        got += frame.payload.len;
    }
    SP_CHECK_INT(got, len);
    SP_CHECK_INT(stream.write(stream.ctx, SP_VIEW_ARRAY(big), &len), SP_OK);
    SP_CHECK_INT(stream.write(stream.ctx, SP_VIEW_ARRAY(big), &len), SP_ERR_AGAIN);
}

static void a_reader_that_rests_holds_the_line(void)
{
    size_t taken = 0;
    static char text[SP_FRAME_PAYLOAD_MAX + 1U];
    memset(text, 'x', sizeof(text) - 1U);
    start();
    uint32_t epoch = connect_both();
    for (uint16_t i = 0; i < 12; i++) {
        host_send(SP_FRAME_DATA, epoch, i, text);
    }
    sp_serial_link_poll(&device_link, 1);
    SP_CHECK(sp_ring_used(&line.to_device) > 0);
    for (struct sp_view part = device_read(); part.len != 0; part = device_read()) {
        taken += part.len;
    }
    SP_CHECK_INT(taken, 12U * SP_FRAME_PAYLOAD_MAX);
}

static void a_lost_frame_ends_the_connection(void)
{
    struct sp_frame frame = {0};
    size_t len = 0;
    start();
    uint32_t epoch = connect_both();
    host_send(SP_FRAME_DATA, epoch, 0, "first");
    host_send(SP_FRAME_DATA, epoch, 2, "third");
    SP_CHECK(sp_view_equal(device_read(), SP_VIEW_LIT("first")));
    SP_CHECK_INT(stream.read(stream.ctx, (uint8_t[1]){0}, 1, &len), SP_ERR_CLOSED);
    SP_CHECK_INT(stream.write(stream.ctx, SP_VIEW_LIT("x"), &len), SP_ERR_CLOSED);
    SP_CHECK(host_receive(&frame) && frame.type == SP_FRAME_CLOSE && frame.epoch == epoch);
}

static void open_is_repeated_until_it_is_answered(void)
{
    struct sp_frame first = {0};
    struct sp_frame second = {0};
    start();
    SP_CHECK_INT(stream.open(stream.ctx), SP_OK);
    SP_CHECK_INT(stream.ready(stream.ctx), SP_ERR_AGAIN);
    SP_CHECK(host_receive(&first) && !host_receive(&second));
    SP_CHECK_INT(sp_serial_link_due(&device_link, 0), SP_SERIAL_OPEN_MS);
    sp_serial_link_poll(&device_link, SP_SERIAL_OPEN_MS - 1U);
    SP_CHECK(!host_receive(&second));
    sp_serial_link_poll(&device_link, SP_SERIAL_OPEN_MS);
    SP_CHECK(host_receive(&second) && second.type == SP_FRAME_OPEN && second.epoch == first.epoch);
}

static void the_last_frame_is_followed_by_an_empty_one(void)
{
    struct sp_frame frame = {0};
    size_t len = 0;
    start();
    uint32_t epoch = connect_both();
    SP_CHECK(sp_serial_link_due(&device_link, 0) == UINT64_MAX);
    sp_serial_link_poll(&device_link, 100);
    SP_CHECK_INT(stream.write(stream.ctx, SP_VIEW_LIT("last"), &len), SP_OK);
    SP_CHECK(host_receive(&frame) && frame.payload.len == 4);
    SP_CHECK_INT(sp_serial_link_due(&device_link, 100), 100U + SP_SERIAL_PROBE_MS);
    sp_serial_link_poll(&device_link, 99U + SP_SERIAL_PROBE_MS);
    SP_CHECK(!host_receive(&frame));
    sp_serial_link_poll(&device_link, 100U + SP_SERIAL_PROBE_MS);
    SP_CHECK(host_receive(&frame) && frame.type == SP_FRAME_DATA && frame.sequence == 1 &&
             frame.payload.len == 0);
    SP_CHECK(sp_serial_link_due(&device_link, 0) == UINT64_MAX);
    host_send(SP_FRAME_DATA, epoch, 0, ""); /* the host's own: no bytes, and none is missing */
    SP_CHECK_INT(stream.read(stream.ctx, (uint8_t[1]){0}, 1, &len), SP_ERR_AGAIN);
    host_send(SP_FRAME_DATA, epoch, 2, "");
    SP_CHECK_INT(stream.read(stream.ctx, (uint8_t[1]){0}, 1, &len), SP_ERR_CLOSED);
}

static void a_host_that_starts_anew_ends_what_there_was(void)
{
    size_t len = 0;
    start();
    (void)connect_both();
    host_send(SP_FRAME_CLOSE, 0, 0, "");
    SP_CHECK_INT(stream.read(stream.ctx, (uint8_t[1]){0}, 1, &len), SP_ERR_CLOSED);
    SP_CHECK_INT(stream.write(stream.ctx, SP_VIEW_LIT("x"), &len), SP_ERR_CLOSED);
}

static void no_connection_has_epoch_0(void)
{
    start();
    line.next_epoch = 0;
    SP_CHECK_INT(stream.open(stream.ctx), SP_OK);
    SP_CHECK(device_link.epoch != 0);
}

static void the_host_that_cannot_reach_the_gateway_says_so(void)
{
    start();
    SP_CHECK_INT(stream.open(stream.ctx), SP_OK);
    host_send(SP_FRAME_CLOSE, device_link.epoch, 0, "");
    SP_CHECK_INT(stream.ready(stream.ctx), SP_ERR_CLOSED);
    SP_CHECK(strlen(stream.describe(stream.ctx)) != 0);
}

static void frames_of_an_earlier_connection_do_not_reach_a_later_one(void)
{
    struct sp_frame frame = {0};
    start();
    uint32_t old = connect_both();
    stream.close(stream.ctx);
    SP_CHECK(host_receive(&frame) && frame.type == SP_FRAME_CLOSE && frame.epoch == old);
    uint32_t epoch = connect_both();
    SP_CHECK(epoch != old);
    host_send(SP_FRAME_DATA, old, 0, "stale");
    host_send(SP_FRAME_CLOSE, old, 0, "");
    host_send(SP_FRAME_DATA, epoch, 0, "fresh");
    SP_CHECK(sp_view_equal(device_read(), SP_VIEW_LIT("fresh")));
    SP_CHECK(host_receive(&frame) && frame.type == SP_FRAME_CLOSE && frame.epoch == old);
}

static void garbage_on_an_idle_line_does_no_harm(void)
{
    start();
    uint32_t epoch = connect_both();
    uint32_t state = 1;
    for (size_t i = 0; i < 60000; i++) {
        state = state * 1664525U + 1013904223U;
        uint8_t byte = (uint8_t)(state >> 24);
        (void)sp_ring_put(&line.to_device, sp_view(&byte, 1));
        if (i % 1000 == 0) {
            sp_serial_link_poll(&device_link, i);
        }
    }
    sp_serial_link_poll(&device_link, 60000);
    host_send(SP_FRAME_DATA, epoch, 0, "still here");
    SP_CHECK(sp_view_equal(device_read(), SP_VIEW_LIT("still here")));
}

static void a_ring_wraps_and_keeps_order(void)
{
    uint8_t bytes[8];
    uint8_t out[8];
    struct sp_ring ring;
    sp_ring_init(&ring, bytes, sizeof(bytes));
    ring.put = ring.taken = UINT32_MAX - 2U; /* the counters wrap too */
    for (unsigned i = 0; i < 50; i++) {
        SP_CHECK_INT(sp_ring_put(&ring, SP_VIEW_LIT("abcdef")), 6);
        SP_CHECK_INT(sp_ring_put(&ring, SP_VIEW_LIT("ghi")), 2);
        SP_CHECK_INT(sp_ring_room(&ring), 0);
        SP_CHECK_INT(sp_ring_take(&ring, out, sizeof(out)), 8);
        SP_CHECK(memcmp(out, "abcdefgh", 8) == 0);
        SP_CHECK_INT(sp_ring_take(&ring, out, sizeof(out)), 0);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(a_frame_is_these_bytes_on_the_line),
    SP_TEST(every_payload_length_survives),
    SP_TEST(a_frame_with_any_bit_flipped_is_no_frame),
    SP_TEST(garbage_before_a_frame_does_not_touch_it),
    SP_TEST(bytes_flow_both_ways),
    SP_TEST(a_long_write_is_cut_into_frames_until_the_line_is_full),
    SP_TEST(a_reader_that_rests_holds_the_line),
    SP_TEST(a_lost_frame_ends_the_connection),
    SP_TEST(open_is_repeated_until_it_is_answered),
    SP_TEST(the_last_frame_is_followed_by_an_empty_one),
    SP_TEST(a_host_that_starts_anew_ends_what_there_was),
    SP_TEST(no_connection_has_epoch_0),
    SP_TEST(the_host_that_cannot_reach_the_gateway_says_so),
    SP_TEST(frames_of_an_earlier_connection_do_not_reach_a_later_one),
    SP_TEST(garbage_on_an_idle_line_does_no_harm),
    SP_TEST(a_ring_wraps_and_keeps_order),
};

SP_TEST_MAIN(tests)
