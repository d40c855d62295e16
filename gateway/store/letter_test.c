/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/letter.h"

#include <stdlib.h>
#include <string.h>

#include "libs/base/test.h"

static struct sp_cloud_limits limits;
static const struct sp_letter_office office = {
    .gateway = "gw-1", .epoch = "0123456789abcdef", .version = SP_MQTT_5, .limits = &limits};

static const uint8_t record[] = {
    0x82, 0xa4, 0x21, 0x66, 'd',  'e',  'v',  '-',  '1',  '/',  0x00, 0x6b, 't', 'e',  'm',
    'p',  'e',  'r',  'a',  't',  'u',  'r',  'e',  0x01, 0x63, 'C',  'e',  'l', 0x02, 0xc4,
    0x82, 0x21, 0x19, 0x09, 0x2e, 0xa3, 0x00, 0x68, 'h',  'u',  'm',  'i',  'd', 'i',  't',
    'y',  0x01, 0x63, '%',  'R',  'H',  0x02, 0xc4, 0x82, 0x21, 0x19, 0x10, 0x04};

static struct sp_row *new_row(const char *topic, struct sp_view payload, enum sp_format format)
{
    struct sp_row *row = sp_row_create(SP_VIEW_LIT("dev-1"), sp_view_str(topic),
                                       SP_VIEW_LIT("dt/dev-1/climate"), payload);
    row->seq = 42;
    row->time_ms = 1700000000000U;
    row->qos = 1;
    row->format = (uint8_t)format;
    row->flags = SP_RECORD_ATTESTED;
    return row;
}

static bool has_property(struct sp_view user, const char *name, const char *value)
{
    struct sp_view n;
    struct sp_view v;
    while (sp_mqtt_user_next(&user, &n, &v)) {
        if (sp_view_equal(n, sp_view_str(name))) {
            return value != NULL && sp_view_equal(v, sp_view_str(value));
        }
    }
    return value == NULL;
}

static bool contains(struct sp_view text, const char *part)
{
    return memmem(text.ptr, text.len, part, strlen(part)) != NULL;
}

static void a_raw_letter_says_who_it_is_and_where_from(void)
{
    limits = (struct sp_cloud_limits){0};
    struct sp_letter_room room = {0};
    struct sp_mqtt_publish out;
    const char *reason;
    struct sp_row *row = new_row("up/x", SP_VIEW_LIT("\x01\x02"), SP_FORMAT_RAW);
    SP_CHECK_INT(sp_letter_write(&office, row, 0, &room, &out, &reason), SP_OK);
    SP_CHECK(sp_view_equal(out.topic, SP_VIEW_LIT("up/x")));
    SP_CHECK(sp_view_equal(out.payload, SP_VIEW_LIT("\x01\x02")));
    SP_CHECK_INT(out.qos, 1);
    SP_CHECK(!out.retain);
    SP_CHECK(has_property(out.props.user, "topic", "dt/dev-1/climate"));
    SP_CHECK(has_property(out.props.user, "gateway", "gw-1"));
    SP_CHECK(has_property(out.props.user, "epoch", "0123456789abcdef"));
    SP_CHECK(has_property(out.props.user, "device", "dev-1"));
    SP_CHECK(has_property(out.props.user, "sequence", "42"));
    row->seq = 0; /* QoS 0: no identity */
    SP_CHECK_INT(sp_letter_write(&office, row, 0, &room, &out, &reason), SP_OK);
    SP_CHECK(has_property(out.props.user, "sequence", NULL));
    sp_row_destroy(row);
    sp_letter_room_deinit(&room);
}

static void the_same_row_gives_the_same_bytes(void)
{
    static const enum sp_format formats[] = {SP_FORMAT_RAW, SP_FORMAT_SENML_JSON, SP_FORMAT_JSON};
    limits = (struct sp_cloud_limits){0};
    for (size_t i = 0; i < 3; i++) {
        uint8_t bytes[2][1024];
        size_t lens[2];
        for (size_t k = 0; k < 2; k++) {
            struct sp_letter_room room = {0};
            struct sp_mqtt_publish out;
            const char *reason;
            struct sp_row *row = new_row("up/x", SP_VIEW_ARRAY(record), formats[i]);
            SP_CHECK_INT(sp_letter_write(&office, row, 1000 * k, &room, &out, &reason), SP_OK);
            out.packet_id = 7;
            struct sp_writer w;
            sp_writer_init(&w, bytes[k], sizeof(bytes[k]));
            sp_mqtt_encode_publish(&w, SP_MQTT_5, &out);
            lens[k] = sp_writer_view(&w).len;
            sp_row_destroy(row);
            sp_letter_room_deinit(&room);
        }
        SP_CHECK(lens[0] > 0 && lens[0] == lens[1] && memcmp(bytes[0], bytes[1], lens[0]) == 0);
    }
}

static void a_record_becomes_a_document(void)
{
    limits = (struct sp_cloud_limits){0};
    struct sp_letter_room room = {0};
    struct sp_mqtt_publish out;
    const char *reason;
    struct sp_row *row = new_row("up/x", SP_VIEW_ARRAY(record), SP_FORMAT_JSON);
    SP_CHECK_INT(sp_letter_write(&office, row, 0, &room, &out, &reason), SP_OK);
    SP_CHECK(contains(out.payload, "\"temperature_celsius\":23.5"));
    SP_CHECK(contains(out.payload, "\"message_id\":\"gw-1/0123456789abcdef/dev-1/42\""));
    SP_CHECK(contains(out.payload, "\"attested\":true"));
    sp_row_destroy(row);
    row = new_row("up/x", SP_VIEW_LIT("no record"), SP_FORMAT_JSON);
    SP_CHECK_INT(sp_letter_write(&office, row, 0, &room, &out, &reason), SP_ERR_MALFORMED);
    SP_CHECK(reason != NULL);
    sp_row_destroy(row);
    sp_letter_room_deinit(&room);
}

static void the_clouds_limits_hold(void)
{
    static const struct {
        const char *topic;
        struct sp_cloud_limits limits;
        bool passes;
    } cases[] = {
        {"a/b/c", {.topic_levels = 3}, true},
        {"a/b/c/d", {.topic_levels = 3}, false},
        {"abcde", {.topic_bytes = 5}, true},
        {"abcdef", {.topic_bytes = 5}, false},
        {"$aws/rules/some_rule/a/b/c", {.topic_levels = 3, .topic_bytes = 5}, true},
        {"$aws/rules/some_rule/a/b/c/d", {.topic_levels = 3}, false},
        {"$aws/rules/some_rule", {.topic_levels = 3}, true},
        {"$aws/rules/some_rule", {.topic_levels = 2}, false},
        {"a", {.packet = 2000}, true},
        {"a", {.packet = 100}, false},
        {"a/#", {0}, false},
    };
    struct sp_letter_room room = {0};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_mqtt_publish out;
        const char *reason;
        limits = cases[i].limits;
        struct sp_row *row = new_row(cases[i].topic, SP_VIEW_LIT("x"), SP_FORMAT_RAW);
        enum sp_err err = sp_letter_write(&office, row, 0, &room, &out, &reason);
        SP_CHECK_CASE(err == (cases[i].passes ? SP_OK : SP_ERR_LIMIT), cases[i].topic);
        SP_CHECK_CASE((reason == NULL) == cases[i].passes, cases[i].topic);
        sp_row_destroy(row);
    }
    sp_letter_room_deinit(&room);
}

static void what_is_left_of_its_time_goes_along(void)
{
    limits = (struct sp_cloud_limits){0};
    struct sp_letter_room room = {0};
    struct sp_mqtt_publish out;
    const char *reason;
    struct sp_row *row = new_row("up/x", SP_VIEW_LIT("x"), SP_FORMAT_RAW);
    row->expiry_s = 60;
    SP_CHECK_INT(sp_letter_write(&office, row, row->time_ms + 20000, &room, &out, &reason), SP_OK);
    SP_CHECK_INT(out.props.message_expiry, 40);
    SP_CHECK_INT(sp_letter_write(&office, row, row->time_ms - 5000, &room, &out, &reason), SP_OK);
    SP_CHECK_INT(out.props.message_expiry, 60); /* the clock went back */
    SP_CHECK_INT(sp_letter_write(&office, row, row->time_ms + 60000, &room, &out, &reason),
                 SP_ERR_LIMIT);
    SP_CHECK(reason != NULL && strcmp(reason, "expired") == 0);
    sp_row_destroy(row);
    sp_letter_room_deinit(&room);
}

static const struct sp_test tests[] = {
    SP_TEST(a_raw_letter_says_who_it_is_and_where_from),
    SP_TEST(the_same_row_gives_the_same_bytes),
    SP_TEST(a_record_becomes_a_document),
    SP_TEST(the_clouds_limits_hold),
    SP_TEST(what_is_left_of_its_time_goes_along),
};
SP_TEST_MAIN(tests)
