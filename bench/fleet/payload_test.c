/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/payload.h"

#include "libs/base/test.h"

#include <string.h>

/* docs/protocol.md 8, with the base time added. */
static void a_climate_record_is_the_vector_of_the_protocol_with_a_time(void)
{
    static const char want[] =
        "82a521666465762d312f22fb41d9000000000000006b74656d7065726174757265016343656c02c482211907d0"
        "a3006868756d6964697479016325524802c48221190fa0";
    uint8_t buf[128];
    char hex[2 * sizeof(buf) + 1];
    struct sp_writer w;
    sp_writer_init(&w, buf, sizeof(buf));
    sp_payload_climate(&w, SP_VIEW_LIT("dev-1"), 1677721600.0, 0);
    sp_hex_format(sp_writer_view(&w), hex);
    SP_CHECK(strcmp(hex, want) == 0);
}

static void the_time_comes_back_from_every_payload(void)
{
    static const char *const names[] = {"d", "a-name-of-24-characters-",
                                        "a-name-that-takes-two-bytes-of-length-in-cbor"};
    uint8_t buf[256];
    double time = 0;
    struct sp_writer w;
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        sp_writer_init(&w, buf, sizeof(buf));
        sp_payload_climate(&w, sp_view_str(names[i]), 1700000000.25, 7);
        SP_CHECK_CASE(sp_payload_time(sp_writer_view(&w), &time), names[i]);
        SP_CHECK_CASE(time > 1700000000.24 && time < 1700000000.26, names[i]);
    }
    sp_writer_init(&w, buf, sizeof(buf));
    sp_payload_raw(&w, 100, 1700000001.5);
    SP_CHECK_INT(w.used, 100);
    SP_CHECK(sp_payload_time(sp_writer_view(&w), &time) && time > 1700000001.4);
}

static void somebody_elses_payload_has_no_time(void)
{
    static const struct sp_view cases[] = {
        SP_VIEW_INIT(""),
        SP_VIEW_INIT("\x82"),
        SP_VIEW_INIT("21.5"),
        SP_VIEW_INIT("\xFB\x01\x02\x03"),
        SP_VIEW_INIT("\x82\xA5\x21\x78\xFF"
                     "short"),
        SP_VIEW_INIT("\x82\xA4\x21\x62"
                     "d/\x00\x61"
                     "t"),
    };
    double time = 0;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK(!sp_payload_time(cases[i], &time));
    }
}

static const struct sp_test tests[] = {
    SP_TEST(a_climate_record_is_the_vector_of_the_protocol_with_a_time),
    SP_TEST(the_time_comes_back_from_every_payload),
    SP_TEST(somebody_elses_payload_has_no_time),
};
SP_TEST_MAIN(tests)
