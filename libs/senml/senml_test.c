/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/senml/senml.h"

#include "libs/base/test.h"

#include <stdlib.h>
#include <string.h>

static const struct sp_view dev1 = SP_VIEW_INIT("dev1");
static const int64_t accepted = 1800000000123;

static struct sp_senml_record record;

static enum sp_err parse_hex(const char *hex)
{
    static uint8_t payload[1024];
    char digits[512];
    size_t kept = 0;
    size_t len = 0;
    for (size_t i = 0; hex[i] != '\0' && kept < sizeof(digits); i++) {
        if (hex[i] != ' ') { /* spaces are for the eye */
            digits[kept++] = hex[i];
        }
    }
    SP_CHECK(sp_hex_parse(sp_view(digits, kept), payload, sizeof(payload), &len) == SP_OK);
    return sp_senml_parse(sp_view(payload, len), dev1, &record);
}

static const char *json_of(void)
{
    static char out[4096];
    struct sp_writer w;
    struct sp_senml_context context = {.device = dev1,
                                       .accepted_ms = accepted,
                                       .attested = true,
                                       .protection = "clear",
                                       .message_id = SP_VIEW_LIT("gw-1/7")};
    sp_writer_init(&w, out, sizeof(out) - 1);
    sp_senml_to_json(&record, &context, &w);
    out[sp_writer_view(&w).len] = '\0';
    return out;
}

static const char *senml_json_for(struct sp_view device)
{
    static char out[4096];
    struct sp_writer w;
    struct sp_senml_context context = {.device = device, .accepted_ms = accepted};
    sp_writer_init(&w, out, sizeof(out) - 1);
    sp_senml_to_senml_json(&record, &context, &w);
    out[sp_writer_view(&w).len] = '\0';
    return out;
}

static const char *senml_json_of(void)
{
    return senml_json_for(dev1);
}

static bool decimal_is(struct sp_decimal have, int64_t mantissa, int32_t exponent)
{
    struct sp_decimal want = {mantissa, exponent};
    return sp_decimal_compare(have, want) == 0;
}

static void the_protocols_example_is_read(void)
{
    SP_CHECK_INT(parse_hex("82A42165646576312F006B74656D7065726174757265016343656C02C4822018EB"
                           "A3006868756D69646974790163255248021829"),
                 SP_OK);
    SP_CHECK_INT(record.count, 2);
    SP_CHECK(record.temperature == &record.entries[0] && record.humidity == &record.entries[1]);
    SP_CHECK(decimal_is(record.temperature->number, 235, -1));
    SP_CHECK(decimal_is(record.humidity->number, 41, 0));
    SP_CHECK(!record.temperature->has_time);
    SP_CHECK(strcmp(json_of(), "{\"device\":\"dev1\",\"time\":1800000000.123,"
                               "\"temperature_celsius\":23.5,\"humidity_percent\":41,"
                               "\"sequence\":null,\"attested\":true,\"protection\":\"clear\","
                               "\"message_id\":\"gw-1/7\"}") == 0);
    SP_CHECK(strcmp(senml_json_of(),
                    "[{\"bn\":\"dev1/\",\"bt\":1800000000.123,\"n\":\"temperature\",\"u\":\"Cel\","
                    "\"v\":23.5},{\"n\":\"humidity\",\"u\":\"%RH\",\"v\":41}]") == 0);
}

static size_t read_vector(const char *name, const char *ending, void *out, size_t cap)
{
    char path[128];
    (void)snprintf(path, sizeof(path), "tests/vectors/rfc8428/%s%s", name, ending);
    FILE *file = fopen(path, "rb");
    SP_CHECK_CASE(file != NULL, path);
    size_t len = file != NULL ? fread(out, 1, cap, file) : 0;
    if (file != NULL) {
        (void)fclose(file);
    }
    return len;
}

/* What each is taken from, and that the JSON is right: tests/vectors/rfc8428/manifest.json, tests/vectors/test_vectors.py. */
static void the_examples_of_rfc_8428_come_out_right(void)
{
    static const struct {
        const char *name;
        const char *device;
        enum sp_err want;
    } cases[] = {
        {"single", "10e2073a01080063", SP_OK},
        {"multiple", "10e2073a01080063", SP_OK},
        {"multiple-times", "10e2073a0108006", SP_OK},
        {"types", "10e2073a01080063", SP_OK},
        {"one-of-collection", "2001:db8::2", SP_OK},
        {"section-6-slash", "urn:dev:ow:10e2073a0108006", SP_OK},
        {"section-6", "urn:dev:ow:10e2073a0108006", SP_ERR_MALFORMED},
        {"collection", "2001:db8::2", SP_ERR_MALFORMED},
        {"no-base-name", "10e2073a01080063", SP_ERR_MALFORMED},
        {"other-base-name", "10e2073a01080063", SP_ERR_MALFORMED},
        {"long", "10e2073a01080063", SP_ERR_MALFORMED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t payload[512];
        char want[1024];
        struct sp_view device = sp_view_str(cases[i].device);
        size_t len = read_vector(cases[i].name, ".cbor", payload, sizeof(payload));
        enum sp_err err = sp_senml_parse(sp_view(payload, len), device, &record);
        SP_CHECK_CASE(err == cases[i].want, cases[i].name);
        if (err == SP_OK) {
            len = read_vector(cases[i].name, ".json", want, sizeof(want) - 1);
            want[len] = '\0';
            SP_CHECK_CASE(strcmp(senml_json_for(device), want) == 0, cases[i].name);
        }
    }
}

static void the_protocols_vector_is_written(void)
{
    uint8_t out[128];
    char hex[257];
    size_t len = 0;
    struct sp_senml_climate climate = {
        .device = SP_VIEW_LIT("dev-1"), .temperature = {2350, -2}, .humidity = {4100, -2}};
    SP_CHECK(sp_senml_encode_climate(&climate, out, sizeof(out), &len) == SP_OK);
    sp_hex_format(sp_view(out, len), hex);
    SP_CHECK(strcmp(hex, "82a421666465762d312f006b74656d7065726174757265016343656c02c4822119092ea3"
                         "006868756d6964697479016325524802c48221191004") == 0);
    climate.device = dev1;
    climate.temperature = (struct sp_decimal){235, -1};
    climate.humidity = (struct sp_decimal){41, 0};
    SP_CHECK(sp_senml_encode_climate(&climate, out, sizeof(out), &len) == SP_OK);
    sp_hex_format(sp_view(out, len), hex);
    SP_CHECK(strcmp(hex, "82a42165646576312f006b74656d7065726174757265016343656c02c4822018eb"
                         "a3006868756d69646974790163255248021829") == 0);
    for (size_t cap = 0; cap < len; cap++) {
        size_t ignored = 0;
        SP_CHECK(sp_senml_encode_climate(&climate, out, cap, &ignored) == SP_ERR_SPACE);
    }
}

static void a_written_time_is_read_back(void)
{
    uint8_t out[128];
    size_t len = 0;
    struct sp_senml_climate climate = {.device = dev1,
                                       .temperature = {-5, -1},
                                       .humidity = {0, 0},
                                       .has_time = true,
                                       .time = 1700000000};
    SP_CHECK(sp_senml_encode_climate(&climate, out, sizeof(out), &len) == SP_OK);
    SP_CHECK(sp_senml_parse(sp_view(out, len), dev1, &record) == SP_OK);
    SP_CHECK(sp_senml_time_ms(record.humidity, accepted) == 1700000000000);
    SP_CHECK(strstr(json_of(), "\"time\":1700000000,\"temperature_celsius\":-0.5,"
                               "\"humidity_percent\":0,") != NULL);
    SP_CHECK(sp_senml_parse(sp_view(out, len), SP_VIEW_LIT("dev2"), &record) == SP_ERR_MALFORMED);
    SP_CHECK(sp_senml_parse(sp_view(out, len), SP_VIEW_LIT("dev"), &record) == SP_ERR_MALFORMED);
    SP_CHECK(record.count == 0 && record.temperature == NULL);
}

/* "dev1/" and a humidity of the given value. */
#define BASE            "2165646576312F"
#define HUMIDITY(value) "81A4" BASE "006868756D6964697479016325524802" value

static void numbers_of_every_form_are_read(void)
{
    static const struct {
        const char *value;
        const char *json;
    } cases[] = {
        {"00", "0"},
        {"20", "-1"},
        {"1829", "41"},
        {"190029", "41"},
        {"1B7FFFFFFFFFFFFFFF", "9223372036854775807"},
        {"F95120", "41"},
        {"F93555", "0.3333"},
        {"F98000", "0"},
        {"F90001", "6e-8"},
        {"FA42240000", "41"},
        {"FA3DCCCCCD", "0.1"},
        {"FA41BC0000", "23.5"},
        {"FB3FB999999999999A", "0.1"},
        {"FB4044800000000000", "41"},
        {"FB7FEFFFFFFFFFFFFF", "1.7976931348623157e308"},
        {"FB0000000000000001", "5e-324"},
        {"FBC00921FB54442D18", "-3.141592653589793"},
        {"C4822119092E", "23.5"},
        {"C482211910 04", "41"},
        {"C482382718EB", "2.35e-38"},
        {"C4820518EB", "23500000"},
        {"C4822018EB", "23.5"},
        {"C482203818", "-2.5"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char hex[160];
        (void)snprintf(hex, sizeof(hex), HUMIDITY("%s"), cases[i].value);
        SP_CHECK_CASE(parse_hex(hex) == SP_OK, cases[i].value);
        char text[64];
        struct sp_writer w;
        sp_writer_init(&w, text, sizeof(text) - 1);
        sp_decimal_write(&w, record.entries[0].number);
        text[sp_writer_view(&w).len] = '\0';
        SP_CHECK_CASE(strcmp(text, cases[i].json) == 0, text);
    }
}

static void hostile_records_are_refused(void)
{
    static const struct {
        const char *hex;
        enum sp_err want;
        const char *name;
    } cases[] = {
        {"", SP_ERR_MALFORMED, "empty"},
        {"80", SP_ERR_MALFORMED, "no entries"},
        {"A0", SP_ERR_MALFORMED, "a map alone"},
        {"9FA4" BASE "006868756D6964697479016325524802182 9FF", SP_ERR_MALFORMED,
         "indefinite array"},
        {"81BF" BASE "00616102 00FF", SP_ERR_MALFORMED, "indefinite map"},
        {HUMIDITY("1829") "00", SP_ERR_MALFORMED, "trailing byte"},
        {"82A4" BASE "006868756D69646974790163255248021829", SP_ERR_MALFORMED, "one map short"},
        {"89A3" BASE "00616102 00A2006161 0200A20061610200A20061610200A20061610200A20061610200"
         "A20061610200A20061610200A20061610200",
         SP_ERR_MALFORMED, "nine maps"},
        {"81A3006868756D69646974790163255248021829", SP_ERR_MALFORMED, "no base name"},
        {"82A3006868756D69646974790163255248021829A3" BASE "006161 0200", SP_ERR_MALFORMED,
         "base name too late"},
        {"81A42165646576322F006868756D69646974790163255248021829", SP_ERR_MALFORMED,
         "another device's base name"},
        {"81A4216464657631006868756D69646974790163255248021829", SP_ERR_MALFORMED,
         "base name without its slash"},
        {"81A42166646576312F78006868756D69646974790163255248021829", SP_ERR_MALFORMED,
         "longer base name"},
        {"82A3" BASE "0061610200A32165646576322F006161 0200", SP_ERR_MALFORMED,
         "another base name later"},
        {"81A3" BASE "006868756D6964697479021829", SP_ERR_MALFORMED, "no unit"},
        {"81A4" BASE "006868756D6964697479016343656C021829", SP_ERR_MALFORMED, "unit of the other"},
        {"81A4" BASE "006B74656D70657261747572650161 4B0200", SP_ERR_MALFORMED, "kelvin"},
        {"81A4" BASE "006868756D6964697479016325524803613 1", SP_ERR_MALFORMED,
         "humidity is a text"},
        {"81A4" BASE "006868756D6964697479016325524804F5", SP_ERR_MALFORMED, "humidity is a truth"},
        {"81A2" BASE "006161", SP_ERR_MALFORMED, "neither value nor sum"},
        {"81A4" BASE "0061610200036131", SP_ERR_MALFORMED, "two values"},
        {"81A4" BASE "00616102000201", SP_ERR_MALFORMED, "a label twice"},
        {"81A4" BASE "0061610200180201", SP_ERR_MALFORMED, "a label twice, once longer"},
        {HUMIDITY("F97E00"), SP_ERR_MALFORMED, "not a number, half"},
        {HUMIDITY("F97C00"), SP_ERR_MALFORMED, "infinite, half"},
        {HUMIDITY("FA7FC00000"), SP_ERR_MALFORMED, "not a number, single"},
        {HUMIDITY("FAFF800000"), SP_ERR_MALFORMED, "infinite, single"},
        {HUMIDITY("FB7FF8000000000000"), SP_ERR_MALFORMED, "not a number, double"},
        {HUMIDITY("FB7FF0000000000000"), SP_ERR_MALFORMED, "infinite, double"},
        {HUMIDITY("F6"), SP_ERR_MALFORMED, "null"},
        {HUMIDITY("F5"), SP_ERR_MALFORMED, "true as a number"},
        {HUMIDITY("613 1"), SP_ERR_MALFORMED, "text as a number"},
        {HUMIDITY("4131"), SP_ERR_MALFORMED, "bytes as a number"},
        {HUMIDITY("8101"), SP_ERR_MALFORMED, "array as a number"},
        {HUMIDITY("C24101"), SP_ERR_MALFORMED, "bignum"},
        {HUMIDITY("C5822001"), SP_ERR_MALFORMED, "bigfloat"},
        {HUMIDITY("C48120"), SP_ERR_MALFORMED, "decimal fraction of one"},
        {HUMIDITY("C483200101"), SP_ERR_MALFORMED, "decimal fraction of three"},
        {HUMIDITY("C48220C24101"), SP_ERR_MALFORMED, "bignum as mantissa"},
        {HUMIDITY("C482F9000001"), SP_ERR_MALFORMED, "float as exponent"},
        {HUMIDITY("C4821901 9101"), SP_ERR_LIMIT, "exponent 401"},
        {HUMIDITY("C4823901 9001"), SP_ERR_LIMIT, "exponent -401"},
        {HUMIDITY("1B8000000000000000"), SP_ERR_LIMIT, "2^63"},
        {"81A4" BASE "006161020062 785F00", SP_ERR_MALFORMED, "must be understood"},
        {"81A4" BASE "006161020020 0B", SP_ERR_MALFORMED, "version 11"},
        {"81A4" BASE "0061610200 2000", SP_ERR_MALFORMED, "version 0"},
        {"81A4" BASE "0061610200 20F94900", SP_ERR_MALFORMED, "version 10.0"},
        {"81A3" BASE "0062612B0200", SP_ERR_MALFORMED, "plus in a name"},
        {"81A3" BASE "0062610A0200", SP_ERR_MALFORMED, "newline in a name"},
        {"81A3" BASE "0062C3A90200", SP_ERR_MALFORMED, "letter beyond ASCII in a name"},
        {"81A3" BASE "0041610200", SP_ERR_MALFORMED, "name in bytes"},
        {"81A4" BASE "00616102000161FF", SP_ERR_MALFORMED, "unit that is not UTF-8"},
        {"81A4" BASE "0061610200F500", SP_ERR_MALFORMED, "label true"},
        {"81A4" BASE "0061610200186381818181818181818100", SP_ERR_LIMIT,
         "deep in an unknown label"},
        {"81A424FB7E37E43C8800759C" BASE "00616102FB0000000000000001", SP_ERR_LIMIT,
         "a base value that swallows the value"},
        {"81A4241B7FFFFFFFFFFFFFFF" BASE "0061610201", SP_ERR_LIMIT, "a sum above 64 bits"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(parse_hex(cases[i].hex) == cases[i].want, cases[i].name);
    }
}

static void every_prefix_of_a_record_is_refused(void)
{
    uint8_t payload[64];
    size_t len = 0;
    SP_CHECK(sp_hex_parse(sp_view_str("82A42165646576312F006B74656D7065726174757265016343656C02C482"
                                      "2018EBA3006868756D69646974790163255248021829"),
                          payload, sizeof(payload), &len) == SP_OK);
    for (size_t i = 0; i < len; i++) {
        SP_CHECK(sp_senml_parse(sp_view(payload, i), dev1, &record) == SP_ERR_MALFORMED);
    }
    SP_CHECK(sp_senml_parse(sp_view(payload, len), dev1, &record) == SP_OK);
}

static void entries_of_every_kind_become_senml_json(void)
{
    SP_CHECK_INT(parse_hex("84A4200A" BASE "006161036322785C"
                           "A30061620843FFEE01617800"
                           "A300616304F51863182A"
                           "A3006164050207183C"),
                 SP_OK);
    SP_CHECK(record.temperature == NULL && record.humidity == NULL);
    SP_CHECK(strcmp(senml_json_of(),
                    "[{\"bn\":\"dev1/\",\"bt\":1800000000.123,\"n\":\"a\",\"vs\":\"\\\"x\\\\\"},"
                    "{\"n\":\"b\",\"vd\":\"_-4B\"},{\"n\":\"c\",\"vb\":true},"
                    "{\"n\":\"d\",\"s\":2,\"ut\":60}]") == 0);
    SP_CHECK(strstr(json_of(), "\"time\":1800000000.123,\"temperature_celsius\":null,"
                               "\"humidity_percent\":null,") != NULL);
}

static void base_fields_apply_to_all_that_follow(void)
{
    /* bu %RH, bv 40, bt 1700000000; humidity +1 at +5 s, humidity +2.5 at +10 s, then temperature in its own unit. */
    SP_CHECK_INT(parse_hex("83A7" BASE
                           "2363255248 241828 221A6553F100 006868756D6964697479 0201 0605"
                           "A3 006868756D6964697479 02F94100 060A"
                           "A3 006B74656D7065726174757265 016343656C 0233"),
                 SP_OK);
    SP_CHECK(record.humidity == &record.entries[1]);
    SP_CHECK(decimal_is(record.entries[0].number, 41, 0));
    SP_CHECK(decimal_is(record.entries[1].number, 425, -1));
    SP_CHECK(decimal_is(record.entries[2].number, 20, 0));
    SP_CHECK(
        strcmp(senml_json_of(),
               "[{\"bn\":\"dev1/\",\"n\":\"humidity\",\"u\":\"%RH\",\"v\":41,\"t\":1700000005},"
               "{\"n\":\"humidity\",\"u\":\"%RH\",\"v\":42.5,\"t\":1700000010},"
               "{\"n\":\"temperature\",\"u\":\"Cel\",\"v\":20,\"t\":1700000000}]") == 0);
    SP_CHECK(strstr(json_of(), "\"time\":1700000000,\"temperature_celsius\":20,"
                               "\"humidity_percent\":42.5,") != NULL);
}

static void times_are_absolute_relative_or_those_of_acceptance(void)
{
    static const struct {
        struct sp_decimal time;
        int64_t want;
    } cases[] = {
        {{1700000000, 0}, 1700000000000},
        {{17000000005, -1}, 1700000000500},
        {{268435456, 0}, 268435456000},
        {{268435455, 0}, 1800000000123 + 268435455000},
        {{0, 0}, 1800000000123},
        {{-10, 0}, 1800000000123 - 10000},
        {{-1, -4}, 1800000000123},
        {{9, 300}, INT64_MAX},
        {{-9, 300}, INT64_MIN + 1800000000123},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_senml_entry entry = {.has_time = true, .time = cases[i].time};
        int64_t have = sp_senml_time_ms(&entry, accepted);
        SP_CHECK_INT(have, cases[i].want);
        entry.has_time = false;
        SP_CHECK(sp_senml_time_ms(&entry, accepted) == accepted);
    }
}

static bool writes(struct sp_decimal value, const char *want)
{
    char text[SP_DECIMAL_TEXT_MAX + 1];
    struct sp_writer w;
    sp_writer_init(&w, text, SP_DECIMAL_TEXT_MAX);
    sp_decimal_write(&w, value);
    text[sp_writer_view(&w).len] = '\0';
    return w.err == SP_OK && strcmp(text, want) == 0;
}

static void decimals_are_written_as_json_numbers(void)
{
    static const struct {
        struct sp_decimal value;
        const char *want;
    } cases[] = {
        {{2350, -2}, "23.5"},
        {{0, 7}, "0"},
        {{-5, -1}, "-0.5"},
        {{1, -6}, "0.000001"},
        {{1, -7}, "1e-7"},
        {{15, -8}, "1.5e-7"},
        {{1, 20}, "100000000000000000000"},
        {{1, 21}, "1e21"},
        {{-12, 30}, "-1.2e31"},
        {{INT64_MAX, 0}, "9223372036854775807"},
        {{INT64_MIN, 0}, "-9223372036854775808"},
        {{INT64_MIN, -400}, "-9.223372036854775808e-382"},
        {{INT64_MIN, -24}, "-0.000009223372036854775808"},
        {{INT64_MIN, -19}, "-0.9223372036854775808"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(writes(cases[i].value, cases[i].want), cases[i].want);
    }
}

/* Fewest digits and the same float: held against the C library, which rounds correctly. */
static void floats_become_the_shortest_decimal_that_reads_back(void)
{
    uint64_t state = 88172645463325252U;
    for (int i = 0; i < 20000; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        double value = 0;
        memcpy(&value, &state, sizeof(value));
        struct sp_decimal decimal = {0, 0};
        if (sp_decimal_from_double(value, &decimal) != SP_OK) {
            SP_CHECK(value - value != 0); /* infinite or not a number */
            continue;
        }
        char text[64];
        char fewest[64];
        struct sp_writer w;
        sp_writer_init(&w, text, sizeof(text) - 1);
        sp_decimal_write(&w, decimal);
        text[sp_writer_view(&w).len] = '\0';
        double back = strtod(text, NULL);
        SP_CHECK_CASE(back == value, text);
        int digits = 1;
        do {
            (void)snprintf(fewest, sizeof(fewest), "%.*e", digits - 1, value);
        } while (strtod(fewest, NULL) != value && digits++ < 17);
        int have = 0;
        for (int64_t left = decimal.mantissa; left != 0; left /= 10) {
            have++;
        }
        SP_CHECK_CASE(have <= digits, text);
    }
    struct sp_decimal decimal = {0, 0};
    SP_CHECK(sp_decimal_from_double(23.5, &decimal) == SP_OK && writes(decimal, "23.5"));
    SP_CHECK(sp_decimal_from_double(1e22, &decimal) == SP_OK && writes(decimal, "1e22"));
    SP_CHECK(sp_decimal_from_double(9007199254740993.0, &decimal) == SP_OK &&
             writes(decimal, "9007199254740992"));
    SP_CHECK(sp_decimal_from_bits(32, 0x00000001, &decimal) == SP_OK && writes(decimal, "1e-45"));
    SP_CHECK(sp_decimal_from_bits(32, 0x4B800000, &decimal) == SP_OK &&
             writes(decimal, "16777216"));
    SP_CHECK(sp_decimal_from_bits(8, 0, &decimal) == SP_ERR_ARGUMENT);
}

static void sums_are_exact_or_refused(void)
{
    struct sp_decimal sum = {0, 0};
    SP_CHECK(sp_decimal_add((struct sp_decimal){1, -1}, (struct sp_decimal){2, -1}, &sum) == SP_OK);
    SP_CHECK(writes(sum, "0.3"));
    SP_CHECK(sp_decimal_add((struct sp_decimal){1, 300}, (struct sp_decimal){0, -300}, &sum) ==
             SP_OK);
    SP_CHECK(writes(sum, "1e300"));
    SP_CHECK(sp_decimal_add((struct sp_decimal){1, 18}, (struct sp_decimal){-1, -2}, &sum) ==
             SP_ERR_LIMIT);
    SP_CHECK(sp_decimal_add((struct sp_decimal){INT64_MAX, 0}, (struct sp_decimal){1, 0}, &sum) ==
             SP_ERR_LIMIT);
    SP_CHECK(sp_decimal_add((struct sp_decimal){INT64_MIN, 0}, (struct sp_decimal){-1, 0}, &sum) ==
             SP_ERR_LIMIT);
    SP_CHECK(sp_decimal_add((struct sp_decimal){INT64_MIN, 0}, (struct sp_decimal){INT64_MAX, 0},
                            &sum) == SP_OK &&
             writes(sum, "-1"));
}

static void comparison_is_exact(void)
{
    static const struct {
        struct sp_decimal a;
        struct sp_decimal b;
        int want;
    } cases[] = {
        {{235, -1}, {2350, -2}, 0}, {{1, 0}, {1, 1}, -1},
        {{-1, 1}, {-1, 0}, -1},     {{0, 0}, {0, 99}, 0},
        {{-1, 300}, {1, -300}, -1}, {{1, 300}, {1, -300}, 1},
        {{1, -300}, {1, 300}, -1},  {{-1, 300}, {-1, -300}, -1},
        {{0, 0}, {1, -300}, -1},    {{INT64_MAX, 0}, {INT64_MAX, -1}, 1},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_INT(sp_decimal_compare(cases[i].a, cases[i].b), cases[i].want);
        SP_CHECK_INT(sp_decimal_compare(cases[i].b, cases[i].a), -cases[i].want);
    }
    SP_CHECK(sp_decimal_to_double((struct sp_decimal){235, -1}) == 23.5);
    SP_CHECK(sp_decimal_to_double((struct sp_decimal){1, 400}) > 1.7e308);
    SP_CHECK(sp_decimal_to_double((struct sp_decimal){-1, -400}) == 0.0);
}

static void strings_are_escaped(void)
{
    char text[64];
    struct sp_writer w;
    sp_writer_init(&w, text, sizeof(text) - 1);
    sp_json_write_string(&w, SP_VIEW_LIT("a\"b\\c\n\x01\x7F\xC3\xA9"));
    text[sp_writer_view(&w).len] = '\0';
    SP_CHECK(strcmp(text, "\"a\\\"b\\\\c\\u000a\\u0001\\u007f\xC3\xA9\"") == 0);
}

static void a_full_buffer_sets_the_writers_error(void)
{
    SP_CHECK_INT(parse_hex(HUMIDITY("1829")), SP_OK);
    struct sp_senml_context context = {
        .device = dev1, .protection = "mac", .has_sequence = true, .sequence = UINT64_MAX};
    uint8_t out[256];
    struct sp_writer w;
    sp_writer_init(&w, out, sizeof(out));
    sp_senml_to_json(&record, &context, &w);
    size_t len = sp_writer_view(&w).len;
    SP_CHECK(len > 0);
    out[len] = '\0';
    SP_CHECK(strstr((const char *)out, "\"sequence\":18446744073709551615,\"attested\":false,"
                                       "\"protection\":\"mac\",\"message_id\":null}") != NULL);
    for (size_t cap = 0; cap < len; cap++) {
        sp_writer_init(&w, out, cap);
        sp_senml_to_json(&record, &context, &w);
        SP_CHECK_INT(w.err, SP_ERR_SPACE);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(the_protocols_example_is_read),
    SP_TEST(the_examples_of_rfc_8428_come_out_right),
    SP_TEST(the_protocols_vector_is_written),
    SP_TEST(a_written_time_is_read_back),
    SP_TEST(numbers_of_every_form_are_read),
    SP_TEST(hostile_records_are_refused),
    SP_TEST(every_prefix_of_a_record_is_refused),
    SP_TEST(times_are_absolute_relative_or_those_of_acceptance),
    SP_TEST(decimals_are_written_as_json_numbers),
    SP_TEST(floats_become_the_shortest_decimal_that_reads_back),
    SP_TEST(sums_are_exact_or_refused),
    SP_TEST(comparison_is_exact),
    SP_TEST(strings_are_escaped),
    SP_TEST(a_full_buffer_sets_the_writers_error),
    SP_TEST(entries_of_every_kind_become_senml_json),
    SP_TEST(base_fields_apply_to_all_that_follow),
};

SP_TEST_MAIN(tests)
