/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/app/monitor.h"

#include "device/port/posix/storage_posix.h"
#include "device/secure/secure.h"
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

static const uint8_t group_key[SP_RECORD_GROUP_KEY] = {7, 7, 7};

static enum sp_err no_reading(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    (void)out;
    return SP_ERR_IO;
}

/* Secure services that hold the group key of epoch 1. */
static void start_monitor(void)
{
    static const struct sp_boot_record boot = {.lifecycle = 0x3000};
    static const uint8_t secret[SP_GRANT_KEK_LEN] = {1, 2, 3};
    const char *why = "";
    struct sp_secure_platform platform = {.sensor = {.read = no_reading}, .boot = &boot};
    const struct sp_appkeys_preshared key = {1, SP_COSE_AES_CCM_16_64_128, SP_GRANT_GROUP_KEY,
                                             SP_VIEW_ARRAY(group_key)};
    const struct sp_secure_secrets secrets = {
        .device = SP_VIEW_LIT("mon-1"),
        .psk = sp_view(secret, 32),
        .iak = sp_view(secret, 32),
        .iak_algorithm = SP_ATTEST_HMAC256,
        .app = {.kek = SP_VIEW_ARRAY(secret),
                .group = SP_VIEW_LIT("hall"),
                .keys = &key,
                .key_count = 1},
    };
    SP_CHECK_INT(sp_storage_posix_open(NULL, &platform.storage, &why), SP_OK);
    SP_CHECK_INT(sp_secure_start(&platform), PSA_SUCCESS);
    SP_CHECK_INT(sp_secure_provision(&secrets, false), PSA_SUCCESS);
}

static size_t seal(uint32_t epoch, uint64_t counter, uint8_t *out, size_t cap)
{
    uint8_t record[128];
    uint8_t record_key[SP_RECORD_KEY_MAX];
    size_t len = encode(record, sizeof(record), true);
    const struct sp_crypto_key from = {.bytes = SP_VIEW_ARRAY(group_key)};
    SP_CHECK_INT(sp_record_key(&from, SP_COSE_AES_CCM_16_64_128, SP_VIEW_LIT("dev-1"), record_key),
                 SP_OK);
    const struct sp_crypto_key key = {.bytes = sp_view(record_key, 16)};
    const struct sp_record_head head = {SP_COSE_AES_CCM_16_64_128, epoch, counter,
                                        SP_VIEW_LIT("hall")};
    SP_CHECK_INT(sp_record_protect(&head, &key, SP_VIEW_LIT("dt/dev-1/climate"),
                                   sp_view(record, len), out, cap, &len),
                 SP_OK);
    return len;
}

static void a_protected_record_is_opened_under_the_groups_key(void)
{
    uint8_t sealed[256];
    start_monitor();
    size_t len = seal(1, 77, sealed, sizeof(sealed));
    SP_CHECK_INT(show("dt/dev-1/climate", sp_view(sealed, len)), SP_OK);
    SP_CHECK_CASE(strcmp(line, "{\"device\":\"dev-1\",\"time\":1600000000,"
                               "\"temperature_celsius\":-0.5,\"humidity_percent\":41,"
                               "\"sequence\":77,\"protection\":\"sealed\"}") == 0,
                  line);
    SP_CHECK_INT(show("dt/dev-1/climate", sp_view(sealed, len)), SP_ERR_EXISTS);
    sealed[len - 1] ^= 1;
    SP_CHECK_INT(show("dt/dev-1/climate", sp_view(sealed, len)), SP_ERR_UNTRUSTED);
    SP_CHECK_INT(show("dt/dev-1/climate", SP_VIEW_LIT("\xD1\x84")), SP_ERR_UNTRUSTED);
}

static void a_record_under_an_unknown_key_shows_no_values(void)
{
    uint8_t sealed[256];
    start_monitor();
    size_t len = seal(2, 78, sealed, sizeof(sealed));
    SP_CHECK_INT(show("dt/dev-1/climate", sp_view(sealed, len)), SP_OK);
    SP_CHECK_CASE(strstr(line, "\"temperature_celsius\":null,") != NULL, line);
    SP_CHECK_CASE(strstr(line, "\"sequence\":null,\"protection\":\"sealed\"}") != NULL, line);
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
    SP_TEST(a_protected_record_is_opened_under_the_groups_key),
    SP_TEST(a_record_under_an_unknown_key_shows_no_values),
    SP_TEST(a_fusion_document_stays_inside_its_string),
    SP_TEST(what_is_no_record_is_refused),
    SP_TEST(another_devices_name_in_a_record_is_refused),
};
SP_TEST_MAIN(tests)
