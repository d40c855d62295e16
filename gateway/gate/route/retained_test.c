/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/retained.h"

#include "libs/base/test.h"
#include "libs/mqtt/topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NOW 1000U

static const struct sp_limits_config limits = {.retained = 6,
                                               .retained_bytes = 6 * 192 + 100,
                                               .retained_device = 4,
                                               .retained_device_bytes = 4 * 192 + 60};

/* As a gate does it: room, then put. */
static enum sp_err keep(struct sp_retained *retained, const char *owner, const char *topic,
                        const char *payload, uint32_t expiry_s)
{
    struct sp_mqtt_publish publish = {
        .retain = true, .topic = sp_view_str(topic), .payload = sp_view_str(payload)};
    if (expiry_s > 0) {
        publish.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_MESSAGE_EXPIRY);
        publish.props.message_expiry = expiry_s;
    }
    SP_TRY(sp_retained_room(retained, &limits, sp_view_str(owner), &publish, NOW));
    struct sp_mail *mail = sp_mail_create(&publish, NOW);
    enum sp_err err = sp_retained_put(retained, sp_view_str(owner), mail);
    sp_mail_release(mail);
    return err;
}

/* All that a filter matches, as text, asked for in batches of two. */
static const char *found(struct sp_retained *retained, const char *filter, uint64_t now_ms)
{
    static char text[512];
    struct sp_mail *last = NULL;
    struct sp_mail *batch[2];
    size_t count;
    text[0] = '\0';
    do {
        struct sp_view after = last == NULL ? sp_view(NULL, 0) : last->topic;
        count = sp_retained_next(retained, sp_view_str(filter), after, now_ms, batch, 2);
        for (size_t i = 0; i < count; i++) {
            size_t used = strlen(text);
            snprintf(text + used, sizeof(text) - used, "%.*s=%.*s ", (int)batch[i]->topic.len,
                     (const char *)batch[i]->topic.ptr, (int)batch[i]->payload.len,
                     (const char *)batch[i]->payload.ptr);
            sp_mail_release(last);
            last = batch[i];
        }
    } while (count == 2);
    sp_mail_release(last);
    return text;
}

static void a_filter_finds_what_it_matches_in_order(void)
{
    struct sp_retained *r = NULL;
    SP_CHECK(sp_retained_create(&r) == SP_OK);
    SP_CHECK(keep(r, "x", "a/b", "1", 0) == SP_OK);
    SP_CHECK(keep(r, "x", "a", "2", 0) == SP_OK);
    SP_CHECK(keep(r, "y", "a/b/c", "3", 0) == SP_OK);
    SP_CHECK(keep(r, "y", "ab", "4", 0) == SP_OK);
    SP_CHECK(strcmp(found(r, "#", NOW), "a=2 a/b=1 a/b/c=3 ab=4 ") == 0);
    SP_CHECK(strcmp(found(r, "a/#", NOW), "a=2 a/b=1 a/b/c=3 ") == 0);
    SP_CHECK(strcmp(found(r, "a/+", NOW), "a/b=1 ") == 0);
    SP_CHECK(strcmp(found(r, "+", NOW), "a=2 ab=4 ") == 0);
    SP_CHECK(strcmp(found(r, "a/b/c", NOW), "a/b/c=3 ") == 0);
    SP_CHECK(strcmp(found(r, "b", NOW), "") == 0);
    SP_CHECK(keep(r, "y", "a/b", "5", 0) == SP_OK);
    SP_CHECK(strcmp(found(r, "a/b", NOW), "a/b=5 ") == 0);
    SP_CHECK(keep(r, "z", "a/b", "", 0) == SP_OK);
    SP_CHECK(keep(r, "z", "never", "", 0) == SP_OK);
    SP_CHECK(strcmp(found(r, "a/+", NOW), "") == 0);
    SP_CHECK_INT(sp_retained_count(r), 3);
    sp_retained_destroy(r);
}

static void caps_hold_in_number_and_bytes_for_each_device_and_in_all(void)
{
    struct sp_retained *r = NULL;
    char topic[16];
    SP_CHECK(sp_retained_create(&r) == SP_OK);
    for (int i = 0; i < 4; i++) {
        snprintf(topic, sizeof(topic), "x/%d", i);
        SP_CHECK(keep(r, "x", topic, "1", 0) == SP_OK);
    }
    SP_CHECK(keep(r, "x", "x/4", "1", 0) == SP_ERR_LIMIT);
    SP_CHECK(keep(r, "x", "x/3", "2", 0) == SP_OK); /* in place of another */
    SP_CHECK(keep(r, "x", "x/3", "012345678901234567890123456789012345678901234", 0) == SP_OK);
    SP_CHECK(keep(r, "x", "x/3", "01234567890123456789012345678901234567890123456789", 0) ==
             SP_ERR_LIMIT);
    SP_CHECK(keep(r, "y", "y/0", "1", 0) == SP_OK);
    SP_CHECK(keep(r, "y", "y/1", "1", 2) == SP_OK);
    SP_CHECK(keep(r, "z", "z", "1", 0) == SP_ERR_LIMIT);
    SP_CHECK(keep(r, "x", "x/0", "", 0) == SP_OK);
    SP_CHECK(keep(r, "z", "z", "1", 0) == SP_OK);
    /* One device takes over another's topic: the books follow. */
    SP_CHECK(keep(r, "z", "x/1", "1", 0) == SP_OK);
    SP_CHECK(keep(r, "x", "x/9", "1", 0) == SP_ERR_LIMIT);
    SP_CHECK(keep(r, "x", "z", "1", 0) == SP_OK);
    sp_retained_destroy(r);
}

static void expired_messages_are_forgotten_and_make_room(void)
{
    struct sp_retained *r = NULL;
    char topic[16];
    SP_CHECK(sp_retained_create(&r) == SP_OK);
    for (int i = 0; i < 4; i++) {
        snprintf(topic, sizeof(topic), "x/%d", i);
        SP_CHECK(keep(r, "x", topic, "1", 1U + (uint32_t)i) == SP_OK);
    }
    SP_CHECK(strcmp(found(r, "x/+", NOW + 1500), "x/1=1 x/2=1 x/3=1 ") == 0);
    SP_CHECK_INT(sp_retained_count(r), 3);
    struct sp_mqtt_publish publish = {.topic = SP_VIEW_LIT("x/5"), .payload = SP_VIEW_LIT("1")};
    SP_CHECK(keep(r, "x", "x/4", "1", 9) == SP_OK);
    SP_CHECK(sp_retained_room(r, &limits, SP_VIEW_LIT("x"), &publish, NOW) == SP_ERR_LIMIT);
    SP_CHECK(sp_retained_room(r, &limits, SP_VIEW_LIT("x"), &publish, NOW + 2500) == SP_OK);
    SP_CHECK_INT(sp_retained_count(r), 3);
    sp_retained_destroy(r);
}

static void the_row_gives_what_comparing_every_topic_gives(void)
{
    static const char *const levels[] = {"a", "b", "", "ab", "a+"};
    static const struct sp_limits_config wide = {.retained = 999,
                                                 .retained_bytes = 999999,
                                                 .retained_device = 999,
                                                 .retained_device_bytes = 999999};
    struct sp_retained *r = NULL;
    char topics[300][32];
    size_t count = 0;
    SP_CHECK(sp_retained_create(&r) == SP_OK);
    srand(5);
    for (int i = 0; i < 300; i++) {
        snprintf(topics[count], 32, "%s/%s/%s", levels[rand() % 4], levels[rand() % 4],
                 levels[rand() % 4]);
        struct sp_mqtt_publish publish = {.topic = sp_view_str(topics[count]),
                                          .payload = SP_VIEW_LIT("1")};
        bool known = false;
        for (size_t k = 0; k < count; k++) {
            known = known || strcmp(topics[k], topics[count]) == 0;
        }
        SP_CHECK(sp_retained_room(r, &wide, SP_VIEW_LIT("x"), &publish, NOW) == SP_OK);
        struct sp_mail *mail = sp_mail_create(&publish, NOW);
        SP_CHECK(sp_retained_put(r, SP_VIEW_LIT("x"), mail) == SP_OK);
        sp_mail_release(mail);
        count += !known;
    }
    static const char *const filters[] = {"#",      "a/#", "a/b/#", "a/b/ab", "a/b/ab/#", "+/b/#",
                                          "a/+/ab", "/#",  "+/+/+", "//a",    "ab/+/#"};
    for (size_t f = 0; f < sizeof(filters) / sizeof(filters[0]); f++) {
        struct sp_mail *out[300];
        size_t expected = 0;
        for (size_t k = 0; k < count; k++) {
            expected += sp_topic_matches(sp_view_str(filters[f]), sp_view_str(topics[k]));
        }
        size_t got = sp_retained_next(r, sp_view_str(filters[f]), sp_view(NULL, 0), NOW, out, 300);
        SP_CHECK_CASE(got == expected, filters[f]);
        while (got > 0) {
            sp_mail_release(out[--got]);
        }
    }
    sp_retained_destroy(r);
}

static const struct sp_test tests[] = {
    SP_TEST(a_filter_finds_what_it_matches_in_order),
    SP_TEST(caps_hold_in_number_and_bytes_for_each_device_and_in_all),
    SP_TEST(expired_messages_are_forgotten_and_make_room),
    SP_TEST(the_row_gives_what_comparing_every_topic_gives),
};
SP_TEST_MAIN(tests)
