/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/sensor_posix.h"
#include "device/port/posix/socket_posix.h"
#include "device/port/suites.h"
#include "libs/base/test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void sensors_are_read_as_they_are_described(void)
{
    static const struct {
        const char *spec;
        bool valid;
        struct sp_sensor_reading want;
    } cases[] = {
        {"constant:23.5,41.0", true, {23500, 41000}},
        {"constant:-0.125 7", true, {-125, 7000}},
        {"constant:20,50\n", true, {20000, 50000}},
        {"constant:23.5", false, {0, 0}},
        {"constant:", false, {0, 0}},
        {"constant:1,2,3", false, {0, 0}},
        {"constant:1.2.3,4", false, {0, 0}},
        {"constant:1.2345,4", false, {0, 0}},
        {"constant:1234567,4", false, {0, 0}},
        {"constant:1e3,4", false, {0, 0}},
        {"constant:-,4", false, {0, 0}},
        {"file:", false, {0, 0}},
        {"waves", false, {0, 0}},
        {"", false, {0, 0}},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_sensor_hal hal;
        struct sp_sensor_reading have = {0, 0};
        enum sp_err err = sp_sensor_posix_init(cases[i].spec, &hal);
        SP_CHECK_CASE((err == SP_OK) == cases[i].valid, cases[i].spec);
        if (err == SP_OK) {
            SP_CHECK_INT(hal.read(hal.ctx, &have), SP_OK);
            SP_CHECK_CASE(have.temperature_mc == cases[i].want.temperature_mc &&
                              have.humidity_mp == cases[i].want.humidity_mp,
                          cases[i].spec);
        }
    }
}

static void a_wave_stays_within_its_bounds(void)
{
    struct sp_sensor_hal hal;
    struct sp_sensor_reading have;
    SP_CHECK_INT(sp_sensor_posix_init("wave", &hal), SP_OK);
    SP_CHECK_INT(hal.read(hal.ctx, &have), SP_OK);
    SP_CHECK(have.temperature_mc >= 18000 && have.temperature_mc <= 26000);
    SP_CHECK(have.humidity_mp >= 35000 && have.humidity_mp <= 55000);
}

static void a_sensor_file_is_read_each_time(void)
{
    char path[] = "/tmp/sp-port-test-XXXXXX";
    char spec[64];
    struct sp_sensor_hal hal;
    struct sp_sensor_reading have;
    int fd = mkstemp(path);
    SP_CHECK(fd >= 0 && write(fd, "1.5 2.5\n", 8) == 8);
    (void)snprintf(spec, sizeof(spec), "file:%s", path);
    SP_CHECK_INT(sp_sensor_posix_init(spec, &hal), SP_OK);
    SP_CHECK_INT(hal.read(hal.ctx, &have), SP_OK);
    SP_CHECK_INT(have.temperature_mc, 1500);
    SP_CHECK(pwrite(fd, "9.5 junk", 8, 0) == 8);
    SP_CHECK_INT(hal.read(hal.ctx, &have), SP_ERR_MALFORMED);
    (void)close(fd);
    (void)unlink(path);
    SP_CHECK_INT(hal.read(hal.ctx, &have), SP_ERR_IO);
}

static void a_target_is_host_and_port(void)
{
    static const struct {
        const char *text;
        const char *host; /* NULL: refused */
        const char *port;
    } cases[] = {
        {"127.0.0.1:8883", "127.0.0.1", "8883"},
        {"gateway.example:1", "gateway.example", "1"},
        {"[::1]:65535", "::1", "65535"},
        {"::1:8883", NULL, NULL},
        {"host", NULL, NULL},
        {"host:", NULL, NULL},
        {":8883", NULL, NULL},
        {"[]:8883", NULL, NULL},
        {"host:0", NULL, NULL},
        {"host:65536", NULL, NULL},
        {"host:123456", NULL, NULL},
        {"host:88x", NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_socket s;
        enum sp_err err = sp_socket_init(&s, cases[i].text);
        SP_CHECK_CASE((err == SP_OK) == (cases[i].host != NULL), cases[i].text);
        SP_CHECK_CASE(err != SP_OK || (strcmp(s.host, cases[i].host) == 0 &&
                                       strcmp(s.port, cases[i].port) == 0),
                      cases[i].text);
    }
}

static void suites_come_best_first(void)
{
    int codes[SP_DEVICE_SUITES_MAX + 1U];
    uint32_t mask = 0;
    SP_CHECK(sp_device_suites_add(SP_VIEW_LIT("TLS_PSK_WITH_AES_128_CCM"), &mask));
    SP_CHECK(sp_device_suites_add(SP_VIEW_LIT("TLS_DHE_PSK_WITH_AES_128_CCM"), &mask));
    SP_CHECK(sp_device_suites_add(SP_VIEW_LIT("TLS_ECDHE_PSK_WITH_AES_128_CBC_SHA256"), &mask));
    sp_device_suites_list(mask, codes);
    SP_CHECK(codes[0] == 0xC037 && codes[1] == 0xC0A6 && codes[2] == 0xC0A4 && codes[3] == 0);
}

static void a_forward_secret_set_has_no_plain_psk(void)
{
    int codes[SP_DEVICE_SUITES_MAX + 1U];
    uint32_t mask = 0;
    SP_CHECK(sp_device_suites_add(SP_VIEW_LIT("forward-secret"), &mask));
    sp_device_suites_list(mask, codes);
    SP_CHECK(codes[0] != 0);
    for (size_t i = 0; codes[i] != 0; i++) {
        SP_CHECK(strstr(sp_device_suite_name(codes[i]), "DHE") != NULL);
    }
}

static void unknown_suites_change_nothing(void)
{
    uint32_t mask = 5;
    SP_CHECK(!sp_device_suites_add(SP_VIEW_LIT("null-encryption"), &mask));
    SP_CHECK(!sp_device_suites_add((struct sp_view){0}, &mask));
    SP_CHECK_INT(mask, 5);
    SP_CHECK(strcmp(sp_device_suite_name(1), "unknown") == 0);
}

static const struct sp_test tests[] = {
    SP_TEST(sensors_are_read_as_they_are_described),
    SP_TEST(a_wave_stays_within_its_bounds),
    SP_TEST(a_sensor_file_is_read_each_time),
    SP_TEST(a_target_is_host_and_port),
    SP_TEST(suites_come_best_first),
    SP_TEST(a_forward_secret_set_has_no_plain_psk),
    SP_TEST(unknown_suites_change_nothing),
};
SP_TEST_MAIN(tests)
