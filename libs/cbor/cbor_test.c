/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/cbor/cbor.h"

#include "libs/base/test.h"

static uint8_t scratch[4096];

/* The bytes of `hex`, until the next call. */
static struct sp_view from_hex(const char *hex)
{
    size_t len = 0;
    SP_CHECK(sp_hex_parse(sp_view_str(hex), scratch, sizeof(scratch), &len) == SP_OK);
    return sp_view(scratch, len);
}

static enum sp_err skip_all(struct sp_view input, bool shortest)
{
    struct sp_cbor_reader r;
    sp_cbor_reader_init(&r, input, shortest);
    (void)sp_cbor_skip(&r, SP_CBOR_DEPTH_MAX);
    return sp_cbor_finish(&r);
}

static void hostile_items_are_refused(void)
{
    static const struct {
        const char *hex;
        enum sp_err want;
        const char *name;
    } cases[] = {
        {"", SP_ERR_MALFORMED, "nothing"},
        {"18", SP_ERR_MALFORMED, "argument cut off"},
        {"1B00000000000000", SP_ERR_MALFORMED, "8-byte argument cut off"},
        {"1C", SP_ERR_MALFORMED, "reserved 28"},
        {"1D", SP_ERR_MALFORMED, "reserved 29"},
        {"1E", SP_ERR_MALFORMED, "reserved 30"},
        {"1F", SP_ERR_MALFORMED, "indefinite integer"},
        {"5C", SP_ERR_MALFORMED, "reserved in bytes"},
        {"FC", SP_ERR_MALFORMED, "reserved in simple"},
        {"FF", SP_ERR_MALFORMED, "break alone"},
        {"DF", SP_ERR_MALFORMED, "indefinite tag"},
        {"5F4100FF", SP_ERR_MALFORMED, "chunked bytes"},
        {"5FFF", SP_ERR_MALFORMED, "no chunks"},
        {"7F6161FF", SP_ERR_MALFORMED, "chunked text"},
        {"9FFF", SP_ERR_MALFORMED, "indefinite array"},
        {"BFFF", SP_ERR_MALFORMED, "indefinite map"},
        {"F800", SP_ERR_MALFORMED, "simple 0 in two bytes"},
        {"F81F", SP_ERR_MALFORMED, "simple 31 in two bytes"},
        {"5BFFFFFFFFFFFFFFFF", SP_ERR_MALFORMED, "bytes of 2^64-1"},
        {"5AFFFFFFFF", SP_ERR_MALFORMED, "bytes of 2^32-1"},
        {"7B8000000000000000", SP_ERR_MALFORMED, "text of 2^63"},
        {"9BFFFFFFFFFFFFFFFF", SP_ERR_MALFORMED, "array of 2^64-1"},
        {"BB8000000000000000", SP_ERR_MALFORMED, "map of 2^63"},
        {"BA7FFFFFFF", SP_ERR_MALFORMED, "map of 2^31-1"},
        {"8200", SP_ERR_MALFORMED, "array one short"},
        {"A100", SP_ERR_MALFORMED, "map without its value"},
        {"4261", SP_ERR_MALFORMED, "bytes one short"},
        {"0000", SP_ERR_MALFORMED, "trailing byte"},
        {"C1", SP_ERR_MALFORMED, "tag of nothing"},
        {"61FF", SP_ERR_MALFORMED, "text with FF"},
        {"62C080", SP_ERR_MALFORMED, "overlong NUL"},
        {"63EDA080", SP_ERR_MALFORMED, "surrogate"},
        {"64F4908080", SP_ERR_MALFORMED, "above U+10FFFF"},
        {"6180", SP_ERR_MALFORMED, "lone continuation"},
        {"62E282", SP_ERR_MALFORMED, "sequence cut off"},
        {"63E08080", SP_ERR_MALFORMED, "overlong in three"},
        {"64F0808080", SP_ERR_MALFORMED, "overlong in four"},
        {"818181818181818181", SP_ERR_MALFORMED, "eight levels and nothing"},
        {"81818181818181818100", SP_ERR_LIMIT, "nine levels"},
        {"8181818181818181A0", SP_ERR_LIMIT, "empty map in level nine"},
        {"C1C1C1C1C1C1C1C1C100", SP_ERR_LIMIT, "nine tags"},
        {"A100A100A100A100A100A100A100A100A10000", SP_ERR_LIMIT, "nine maps"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        enum sp_err have = skip_all(from_hex(cases[i].hex), false);
        SP_CHECK_CASE(have == cases[i].want, cases[i].name);
    }
}

static void good_items_are_skipped(void)
{
    static const char *const cases[] = {
        "00",
        "17",
        "1818",
        "1903E8",
        "1B000000E8D4A51000",
        "3BFFFFFFFFFFFFFFFF",
        "40",
        "60",
        "62C3A9",
        "64F09F9880",
        "610A",
        "6100",
        "80",
        "A0",
        "F4",
        "F5",
        "F6",
        "F7",
        "F0",
        "F820",
        "F90000",
        "FA7F800000",
        "FB7FF8000000000000",
        "C249010000000000000000",
        "818181818181818100",
        "A2616101026162",
        "D9FFFF80",
        "8301820203820405",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(skip_all(from_hex(cases[i]), true) == SP_OK, cases[i]);
    }
}

static void every_prefix_of_an_item_is_malformed(void)
{
    struct sp_view whole =
        from_hex("A301820218FF0A5820"
                 "000102030405060708090A0B0C0D0E0F101112131415161718191A1B1C1D1E1F"
                 "6161C1FB3FF0000000000000");
    SP_CHECK(skip_all(whole, true) == SP_OK);
    for (size_t len = 0; len < whole.len; len++) {
        SP_CHECK_INT(skip_all(sp_view_first(whole, len), true), SP_ERR_MALFORMED);
    }
}

static void a_hundred_thousand_levels_cost_nothing(void)
{
    static uint8_t deep[100000];
    for (size_t i = 0; i < sizeof(deep); i++) {
        deep[i] = i % 2 != 0 ? 0x81 : 0xC1;
    }
    SP_CHECK_INT(skip_all(SP_VIEW_ARRAY(deep), false), SP_ERR_LIMIT);
}

static void longer_heads_than_needed_pass_only_where_they_may(void)
{
    static const char *const cases[] = {
        "1805",   "190005", "1A00000005", "1B0000000000000005", "1900FF", "3800",
        "580100", "780161", "980100",     "B8010000",           "D80100",
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(skip_all(from_hex(cases[i]), false) == SP_OK, cases[i]);
        SP_CHECK_CASE(skip_all(from_hex(cases[i]), true) == SP_ERR_MALFORMED, cases[i]);
    }
}

static int64_t int_of(const char *hex, enum sp_err *err)
{
    struct sp_cbor_reader r;
    sp_cbor_reader_init(&r, from_hex(hex), false);
    int64_t value = sp_cbor_read_int(&r);
    *err = sp_cbor_finish(&r);
    return value;
}

static void integers_keep_to_64_bits(void)
{
    enum sp_err err = SP_OK;
    SP_CHECK(int_of("1B7FFFFFFFFFFFFFFF", &err) == INT64_MAX && err == SP_OK);
    SP_CHECK(int_of("3B7FFFFFFFFFFFFFFF", &err) == INT64_MIN && err == SP_OK);
    SP_CHECK(int_of("1B8000000000000000", &err) == 0 && err == SP_ERR_LIMIT);
    SP_CHECK(int_of("3B8000000000000000", &err) == 0 && err == SP_ERR_LIMIT);
    SP_CHECK(int_of("20", &err) == -1 && err == SP_OK);
    SP_CHECK(int_of("F90000", &err) == 0 && err == SP_ERR_MALFORMED);
    SP_CHECK(int_of("C100", &err) == 0 && err == SP_ERR_MALFORMED);
}

static void a_reader_takes_only_what_was_asked_for(void)
{
    struct sp_cbor_reader r;
    struct sp_view view = from_hex("6161");
    sp_cbor_reader_init(&r, view, true);
    SP_CHECK(sp_cbor_peek(&r) == SP_CBOR_TEXT);
    SP_CHECK(sp_cbor_read_bytes(&r).len == 0 && r.in.err == SP_ERR_MALFORMED);
    SP_CHECK(sp_cbor_peek(&r) == SP_CBOR_NOTHING);
    sp_cbor_reader_init(&r, view, true);
    SP_CHECK(sp_cbor_read_array(&r) == 0 && r.in.err == SP_ERR_MALFORMED);
    sp_cbor_reader_init(&r, from_hex("F5F4F6"), true);
    SP_CHECK(sp_cbor_read_bool(&r));
    SP_CHECK(!sp_cbor_read_bool(&r) && r.in.err == SP_OK);
    SP_CHECK(!sp_cbor_read_bool(&r) && r.in.err == SP_ERR_MALFORMED);
    sp_cbor_reader_init(&r, from_hex("FA41BC0000F93C00F6"), true);
    struct sp_cbor_float number = sp_cbor_read_float(&r);
    SP_CHECK(number.width == 32 && number.bits == 0x41BC0000);
    number = sp_cbor_read_float(&r);
    SP_CHECK(number.width == 16 && number.bits == 0x3C00);
    number = sp_cbor_read_float(&r);
    SP_CHECK(number.width == 0 && r.in.err == SP_ERR_MALFORMED);
}

static enum sp_err check_map(const char *hex, size_t max_pairs)
{
    struct sp_cbor_reader r;
    sp_cbor_reader_init(&r, from_hex(hex), false);
    return sp_cbor_check_map(&r, max_pairs, 2);
}

static void maps_have_each_label_once(void)
{
    SP_CHECK_INT(check_map("A0", 0), SP_OK);
    SP_CHECK_INT(check_map("A2010002F6", 2), SP_OK);
    SP_CHECK_INT(check_map("A201000100", 2), SP_ERR_MALFORMED);
    SP_CHECK_INT(check_map("A20100180100", 2), SP_ERR_MALFORMED);
    SP_CHECK_INT(check_map("A26161006161F6", 2), SP_ERR_MALFORMED);
    SP_CHECK_INT(check_map("A20100613100", 2), SP_OK);
    SP_CHECK_INT(check_map("A320008100008100", 3), SP_ERR_MALFORMED);
    SP_CHECK_INT(check_map("A1410000", 1), SP_ERR_MALFORMED);
    SP_CHECK_INT(check_map("A2010002F6", 1), SP_ERR_LIMIT);
    SP_CHECK_INT(check_map("A10181818100", 1), SP_ERR_LIMIT);
    SP_CHECK_INT(check_map("80", 1), SP_ERR_MALFORMED);
}

static void the_writer_uses_the_shortest_form(void)
{
    static const struct {
        int64_t value;
        const char *hex;
    } cases[] = {
        {0, "00"},
        {23, "17"},
        {24, "1818"},
        {255, "18ff"},
        {256, "190100"},
        {65535, "19ffff"},
        {65536, "1a00010000"},
        {INT64_MAX, "1b7fffffffffffffff"},
        {-1, "20"},
        {-24, "37"},
        {-25, "3818"},
        {INT64_MIN, "3b7fffffffffffffff"},
        {-75008, "3a000124ff"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t out[9];
        struct sp_writer w;
        sp_writer_init(&w, out, sizeof(out));
        sp_cbor_write_int(&w, cases[i].value);
        struct sp_view want = from_hex(cases[i].hex);
        SP_CHECK_CASE(sp_view_equal(sp_writer_view(&w), want), cases[i].hex);
        enum sp_err err = SP_OK;
        SP_CHECK_CASE(int_of(cases[i].hex, &err) == cases[i].value && err == SP_OK, cases[i].hex);
    }
}

static void strings_and_containers_are_written_as_they_are_read(void)
{
    uint8_t out[64];
    struct sp_writer w;
    sp_writer_init(&w, out, sizeof(out));
    sp_cbor_write_tag(&w, 17);
    sp_cbor_write_array(&w, 3);
    sp_cbor_write_bytes(&w, SP_VIEW_LIT("ab"));
    sp_cbor_write_map(&w, 1);
    sp_cbor_write_int(&w, 1);
    sp_cbor_write_text(&w, SP_VIEW_LIT("c"));
    sp_cbor_write_bytes_head(&w, 24);
    SP_CHECK(sp_view_equal(sp_writer_view(&w), from_hex("D183426162A10161635818")));
    sp_writer_init(&w, out, 2);
    sp_cbor_write_bytes(&w, SP_VIEW_LIT("ab"));
    SP_CHECK_INT(w.err, SP_ERR_SPACE);
}

static const struct sp_test tests[] = {
    SP_TEST(hostile_items_are_refused),
    SP_TEST(good_items_are_skipped),
    SP_TEST(every_prefix_of_an_item_is_malformed),
    SP_TEST(a_hundred_thousand_levels_cost_nothing),
    SP_TEST(longer_heads_than_needed_pass_only_where_they_may),
    SP_TEST(integers_keep_to_64_bits),
    SP_TEST(a_reader_takes_only_what_was_asked_for),
    SP_TEST(maps_have_each_label_once),
    SP_TEST(the_writer_uses_the_shortest_form),
    SP_TEST(strings_and_containers_are_written_as_they_are_read),
};

SP_TEST_MAIN(tests)
