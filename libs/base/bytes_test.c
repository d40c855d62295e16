/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/base/bytes.h"
#include "libs/base/test.h"

#include <string.h>

static void a_reader_gives_big_endian_numbers_and_stays_failed(void)
{
    static const uint8_t in[] = {1, 2, 3, 4, 5, 6, 7};
    struct sp_reader r;
    sp_reader_init(&r, SP_VIEW_ARRAY(in));
    SP_CHECK_INT(sp_read_u8(&r), 1);
    SP_CHECK_INT(sp_read_u16(&r), 0x0203);
    SP_CHECK_INT(sp_reader_finish(&r), SP_ERR_MALFORMED);
    SP_CHECK_INT(sp_read_u32(&r), 0x04050607);
    SP_CHECK_INT(sp_reader_finish(&r), SP_OK);
    SP_CHECK_INT(sp_read_u8(&r), 0);
    SP_CHECK_INT(r.err, SP_ERR_MALFORMED);
    SP_CHECK_INT(sp_read_bytes(&r, 0).len, 0);
    SP_CHECK_INT(sp_reader_finish(&r), SP_ERR_MALFORMED);
}

static void a_reader_never_gives_more_than_there_is(void)
{
    struct sp_reader r;
    sp_reader_init(&r, sp_view("abc", 3));
    SP_CHECK_INT(sp_read_bytes(&r, SIZE_MAX).len, 0);
    SP_CHECK_INT(r.err, SP_ERR_MALFORMED);
    SP_CHECK_INT(sp_reader_left(&r), 0);
}

static void a_writer_never_writes_past_its_buffer(void)
{
    uint8_t buf[4] = {9, 9, 9, 9};
    struct sp_writer w;
    sp_writer_init(&w, buf, 3);
    sp_write_u16(&w, 0x0102);
    sp_write_u16(&w, 0x0304);
    SP_CHECK_INT(w.err, SP_ERR_SPACE);
    sp_write_u8(&w, 5);
    SP_CHECK_INT(buf[2], 9);
    SP_CHECK_INT(sp_writer_view(&w).len, 0);
}

static void decimal_numbers_have_their_sign_and_all_digits(void)
{
    char buf[64];
    struct sp_writer w;
    sp_writer_init(&w, buf, sizeof(buf));
    sp_write_dec(&w, INT64_MIN);
    sp_write_str(&w, " ");
    sp_write_dec(&w, 0);
    sp_write_str(&w, " ");
    sp_write_dec(&w, 1200);
    SP_CHECK(sp_view_equal(sp_writer_view(&w), SP_VIEW_LIT("-9223372036854775808 0 1200")));
}

static void hex_goes_both_ways_and_refuses_the_rest(void)
{
    uint8_t out[4];
    size_t len = 77;
    SP_CHECK_INT(sp_hex_parse(SP_VIEW_LIT("00fFA1"), out, sizeof(out), &len), SP_OK);
    SP_CHECK_INT(len, 3);
    char text[9];
    sp_hex_format(sp_view(out, len), text);
    SP_CHECK(strcmp(text, "00ffa1") == 0);
    len = 77;
    SP_CHECK_INT(sp_hex_parse(SP_VIEW_LIT("0"), out, sizeof(out), &len), SP_ERR_MALFORMED);
    SP_CHECK_INT(sp_hex_parse(SP_VIEW_LIT("0g"), out, sizeof(out), &len), SP_ERR_MALFORMED);
    SP_CHECK_INT(sp_hex_parse(SP_VIEW_LIT("0011223344"), out, sizeof(out), &len), SP_ERR_SPACE);
    SP_CHECK_INT(len, 77);
}

static void utf8_is_held_to_what_mqtt_allows(void)
{
    static const struct {
        const char *name;
        struct sp_view text;
        bool valid;
    } cases[] = {
        {"plain", SP_VIEW_INIT("dt/dev-1/climate"), true},
        {"empty", {NULL, 0}, true},
        {"two bytes", SP_VIEW_INIT("\xC3\xBC"), true},
        {"four bytes", SP_VIEW_INIT("\xF0\x9F\x94\x92"), true},
        {"NUL", SP_VIEW_INIT("a\0b"), false},
        {"newline", SP_VIEW_INIT("a\nb"), false},
        {"DEL", SP_VIEW_INIT("\x7F"), false},
        {"C1 control", SP_VIEW_INIT("\xC2\x9B"), false},
        {"overlong NUL", SP_VIEW_INIT("\xC0\x80"), false},
        {"overlong three", SP_VIEW_INIT("\xE0\x80\xAF"), false},
        {"surrogate", SP_VIEW_INIT("\xED\xA0\x80"), false},
        {"above 10FFFF", SP_VIEW_INIT("\xF4\x90\x80\x80"), false},
        {"F5", SP_VIEW_INIT("\xF5\x80\x80\x80"), false},
        {"lone tail", SP_VIEW_INIT("\x80"), false},
        {"cut short", SP_VIEW_INIT("\xE2\x82"), false},
        {"U+FFFF", SP_VIEW_INIT("\xEF\xBF\xBF"), false},
        {"U+FDD0", SP_VIEW_INIT("\xEF\xB7\x90"), false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(sp_utf8_valid(cases[i].text) == cases[i].valid, cases[i].name);
    }
}

static void constant_time_compare_looks_at_every_byte(void)
{
    uint8_t a[32] = {0};
    uint8_t b[32] = {0};
    SP_CHECK(sp_ct_equal(a, b, sizeof(a)));
    for (size_t i = 0; i < sizeof(a); i++) {
        b[i] = 0x80;
        SP_CHECK(!sp_ct_equal(a, b, sizeof(a)));
        b[i] = 0;
    }
}

static void every_error_has_a_text_and_a_class(void)
{
#define X(name, number, class, text)                                  \
    SP_CHECK_CASE(strcmp(sp_err_name(SP_##name), #name) == 0, #name); \
    SP_CHECK_CASE(strcmp(sp_err_text(SP_##name), text) == 0, #name);  \
    SP_CHECK_CASE(sp_err_class(SP_##name) == SP_CLASS_##class, #name);
    SP_ERR_MAP(X)
#undef X
    SP_CHECK(strcmp(sp_err_name((enum sp_err)250), "ERR_UNKNOWN") == 0);
    SP_CHECK_INT(sp_err_class((enum sp_err)250), SP_CLASS_BUG);
    SP_CHECK_INT(sp_err_class(SP_ERR_MALFORMED), SP_CLASS_PEER);
    SP_CHECK(strcmp(sp_err_text((enum sp_err)250), "unknown error") == 0);
}

static const struct sp_test tests[] = {
    SP_TEST(a_reader_gives_big_endian_numbers_and_stays_failed),
    SP_TEST(a_reader_never_gives_more_than_there_is),
    SP_TEST(a_writer_never_writes_past_its_buffer),
    SP_TEST(decimal_numbers_have_their_sign_and_all_digits),
    SP_TEST(hex_goes_both_ways_and_refuses_the_rest),
    SP_TEST(utf8_is_held_to_what_mqtt_allows),
    SP_TEST(constant_time_compare_looks_at_every_byte),
    SP_TEST(every_error_has_a_text_and_a_class),
};

SP_TEST_MAIN(tests)
