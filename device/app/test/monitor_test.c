/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/app/monitor.h"

#include "libs/base/test.h"
#include "libs/senml/senml.h"

#include <string.h>

#define NOW_MS 1700000000250

static char line[2048];

static enum sp_err show(const char *topic, struct sp_view payload)
{
    struct sp_writer w;
    sp_writer_init(&w, line, sizeof(line) - 1U);
    enum sp_err err = sp_monitor_line(sp_view_str(topic), payload, NOW_MS, &w);
    line[sp_writer_view(&w).len] = 0;
    return err;
}

static size_t encode(uint8_t *out, size_t cap, bool has_time)
{
    const struct sp_senml_climate climate = {
        .device = SP_VIEW_LIT("dev-1"),
        .temperature = {-50, -2},
        .humidity = {4100, -2},
        .has_time = has_time,
        .time = 1600000000,
    };
    size_t len = 0;
    SP_CHECK_INT(sp_senml_encode_climate(&climate, out, cap, &len), SP_OK);
    return len;
}

static void a_record_is_one_object_with_the_documented_fields(void)
{
    uint8_t record[128];
    size_t len = encode(record, sizeof(record), true);
    SP_CHECK_INT(show("dt/dev-1/climate", sp_view(record, len)), SP_OK);
    SP_CHECK_CASE(strcmp(line, "{\"device\":\"dev-1\",\"time\":1600000000,"
                               "\"temperature_celsius\":-0.5,\"humidity_percent\":41,"
                               "\"sequence\":null,\"protection\":\"clear\"}") == 0,
                  line);
}

static void a_record_without_time_gets_that_of_its_arrival(void)
{
    uint8_t record[128];
    size_t len = encode(record, sizeof(record), false);
    SP_CHECK_INT(show("dt/dev-1/climate", sp_view(record, len)), SP_OK);
    SP_CHECK_CASE(strstr(line, "\"time\":1700000000.25,") != NULL, line);
}

static void a_protected_record_shows_no_values(void)
{
    SP_CHECK_INT(show("dt/dev-1/climate", SP_VIEW_LIT("\xD0\x83")), SP_OK);
    SP_CHECK_CASE(strstr(line, "\"temperature_celsius\":null,") != NULL, line);
    SP_CHECK_CASE(strstr(line, "\"protection\":\"sealed\"}") != NULL, line);
    SP_CHECK_INT(show("dt/dev-1/climate", SP_VIEW_LIT("\xD1\x84")), SP_OK);
    SP_CHECK_CASE(strstr(line, "\"protection\":\"mac\"}") != NULL, line);
}

static void a_fusion_document_stays_inside_its_string(void)
{
    SP_CHECK_INT(show("fused/hall", SP_VIEW_LIT("{\"mean\":1}\n\"}")), SP_OK);
    SP_CHECK_CASE(strcmp(line, "{\"fused\":\"hall\",\"document\":"
                               "\"{\\\"mean\\\":1}\\u000a\\\"}\"}") == 0,
                  line);
}

static void what_is_no_record_is_refused(void)
{
    static const struct {
        const char *name;
        const char *topic;
        struct sp_view payload;
        enum sp_err err;
    } cases[] = {
        {"empty", "dt/dev-1/climate", {0}, SP_ERR_MALFORMED},
        {"text", "dt/dev-1/climate", SP_VIEW_INIT("hello"), SP_ERR_MALFORMED},
        {"cut", "dt/dev-1/climate", SP_VIEW_INIT("\x82\xA4\x21"), SP_ERR_MALFORMED},
        {"bad device", "dt/-/climate", SP_VIEW_INIT("\xD0"), SP_ERR_MALFORMED},
        {"no device", "dt//climate", SP_VIEW_INIT("\xD0"), SP_ERR_MALFORMED},
        {"other topic", "dt/dev-1/other", SP_VIEW_INIT("\xD0"), SP_ERR_UNSUPPORTED},
        {"deeper topic", "dt/a/b/climate", SP_VIEW_INIT("\xD0"), SP_ERR_UNSUPPORTED},
        {"short topic", "dt", SP_VIEW_INIT("\xD0"), SP_ERR_UNSUPPORTED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(show(cases[i].topic, cases[i].payload) == cases[i].err, cases[i].name);
    }
}

static void another_devices_name_in_a_record_is_refused(void)
{
    uint8_t record[128];
    size_t len = encode(record, sizeof(record), false);
    SP_CHECK_INT(show("dt/dev-2/climate", sp_view(record, len)), SP_ERR_MALFORMED);
}

static const struct sp_test tests[] = {
    SP_TEST(a_record_is_one_object_with_the_documented_fields),
    SP_TEST(a_record_without_time_gets_that_of_its_arrival),
    SP_TEST(a_protected_record_shows_no_values),
    SP_TEST(a_fusion_document_stays_inside_its_string),
    SP_TEST(what_is_no_record_is_refused),
    SP_TEST(another_devices_name_in_a_record_is_refused),
};
SP_TEST_MAIN(tests)
