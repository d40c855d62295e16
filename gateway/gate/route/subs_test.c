/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/subs.h"

#include "libs/base/test.h"
#include "libs/mqtt/topic.h"

#include <stdlib.h>
#include <string.h>

#define FILTERS  400
#define SESSIONS 20

struct held {
    char filter[64];
    struct sp_subscriber subscriber;
    bool used;
};

static struct held held[FILTERS];

static const char *random_topic(char *out, bool wildcards)
{
    static const char *const names[] = {"a", "b", "dt", "", "$sp", "climate"};
    size_t levels = 1 + (size_t)(rand() % 4);
    out[0] = '\0';
    for (size_t i = 0; i < levels; i++) {
        strcat(out, i == 0 ? "" : "/");
        int pick = rand() % (wildcards ? 10 : 6);
        if (pick >= 8 && i + 1 == levels) {
            strcat(out, "#");
        } else {
            strcat(out, pick >= 6 ? "+" : names[pick]);
        }
    }
    return out[0] == '\0' ? strcpy(out, "a") : out;
}

/* What should come out, by holding every filter against the name. -1: not matched, else the QoS. */
static int oracle(const char *topic, uint16_t loop, sp_slot_tag session, sp_slot_tag publisher)
{
    int qos = -1;
    for (size_t i = 0; i < FILTERS; i++) {
        const struct sp_subscriber *s = &held[i].subscriber;
        if (!held[i].used || s->loop != loop || s->session != session ||
            (session == publisher && loop == 0 && (s->options & SP_SUB_NO_LOCAL) != 0) ||
            !sp_topic_matches(sp_view_str(held[i].filter), sp_view_str(topic))) {
            continue;
        }
        qos = s->qos > qos ? s->qos : qos;
    }
    return qos;
}

static void check_match(struct sp_subs *subs, struct sp_matches *out, const char *topic)
{
    sp_slot_tag publisher = 1 + (sp_slot_tag)(rand() % SESSIONS);
    SP_CHECK(sp_subs_match(subs, sp_view_str(topic), 0, publisher, out) == SP_OK);
    size_t expected = 0;
    for (uint16_t loop = 0; loop < 2; loop++) {
        for (sp_slot_tag session = 1; session <= SESSIONS; session++) {
            expected += oracle(topic, loop, session, publisher) >= 0;
        }
    }
    SP_CHECK_CASE(out->count == expected, topic);
    for (size_t i = 0; i < out->count; i++) {
        const struct sp_subscriber *s = &out->items[i];
        SP_CHECK_CASE(oracle(topic, s->loop, s->session, publisher) == s->qos, topic);
    }
}

static struct held *find(const char *filter, const struct sp_subscriber *subscriber)
{
    struct held *empty = NULL;
    for (size_t i = 0; i < FILTERS; i++) {
        if (!held[i].used) {
            empty = &held[i];
        } else if (strcmp(held[i].filter, filter) == 0 &&
                   held[i].subscriber.loop == subscriber->loop &&
                   held[i].subscriber.session == subscriber->session) {
            return &held[i];
        }
    }
    return empty;
}

static void the_index_gives_what_comparing_every_filter_gives(void)
{
    struct sp_subs *subs = NULL;
    struct sp_matches out = {NULL, 0, 0};
    char text[64];
    SP_CHECK(sp_subs_create(2, &subs) == SP_OK);
    srand(11);
    for (int step = 0; step < 6000; step++) {
        struct sp_subscriber s = {
            .session = 1 + (sp_slot_tag)(rand() % SESSIONS),
            .loop = (uint16_t)(rand() % 2),
            .qos = (uint8_t)(rand() % 2),
            .options = (uint8_t)(rand() % 2 == 0 ? SP_SUB_NO_LOCAL : 0U),
        };
        struct held *place = find(random_topic(text, true), &s);
        bool existed = false;
        struct sp_filter *filter = NULL;
        if (rand() % 3 > 0 && place != NULL) {
            SP_CHECK(sp_subs_add(subs, sp_view_str(text), &s, &existed, &filter) == SP_OK);
            SP_CHECK(sp_view_equal(sp_filter_text(filter), sp_view_str(text)));
            SP_CHECK(existed == place->used);
            place->used = true;
            place->subscriber = s;
            strcpy(place->filter, text);
        } else {
            bool there = place != NULL && place->used;
            filter = sp_subs_find(subs, sp_view_str(text), s.loop, s.session);
            SP_CHECK((filter != NULL) == there);
            if (there && filter != NULL) {
                sp_subs_remove(subs, filter, s.loop, s.session);
                place->used = false;
            }
        }
        check_match(subs, &out, random_topic(text, false));
    }
    for (size_t i = 0; i < FILTERS; i++) {
        if (held[i].used) {
            held[i].used = false;
            const struct sp_subscriber *was = &held[i].subscriber;
            struct sp_filter *filter =
                sp_subs_find(subs, sp_view_str(held[i].filter), was->loop, was->session);
            SP_CHECK(filter != NULL);
            if (filter != NULL) {
                sp_subs_remove(subs, filter, was->loop, was->session);
            }
        }
    }
    SP_CHECK_INT(sp_subs_size(subs), 0);
    sp_matches_deinit(&out);
    sp_subs_destroy(subs);
}

static void an_index_with_subscriptions_frees_everything(void)
{
    struct sp_subs *subs = NULL;
    bool existed = false;
    struct sp_filter *filter = NULL;
    struct sp_subscriber s = {.session = 1, .qos = 1};
    SP_CHECK(sp_subs_create(2, &subs) == SP_OK);
    SP_CHECK(sp_subs_add(subs, SP_VIEW_LIT("a/+/c"), &s, &existed, &filter) == SP_OK);
    SP_CHECK(sp_subs_add(subs, SP_VIEW_LIT("a/b/c"), &s, &existed, &filter) == SP_OK);
    SP_CHECK_INT(sp_subs_size(subs), 5);
    sp_subs_destroy(subs);
}

static const struct sp_test tests[] = {
    SP_TEST(the_index_gives_what_comparing_every_filter_gives),
    SP_TEST(an_index_with_subscriptions_frees_everything),
};
SP_TEST_MAIN(tests)
