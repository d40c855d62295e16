/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/subs.h"

#include "libs/base/test.h"
#include "libs/mqtt/topic.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define FILTERS  400
#define SESSIONS 20

struct held {
    char filter[80];
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

/* Now and then in front of a filter. */
static const char *shared(char *out, const char *filter)
{
    static const char *const groups[] = {"$share/g/", "$share/h/"};
    sprintf(out, "%s%s", rand() % 4 == 0 ? groups[rand() % 2] : "", filter);
    return out;
}

static bool matches(const char *filter, const char *topic, bool *share)
{
    struct sp_view name;
    struct sp_view inner = sp_view_str(filter);
    *share = sp_topic_share(inner, &name, &inner) == SP_OK;
    return sp_topic_matches(inner, sp_view_str(topic));
}

/* How many groups match: filters with `$share/`, each counted at its first holder. */
static size_t groups_of(const char *topic)
{
    size_t count = 0;
    for (size_t i = 0; i < FILTERS; i++) {
        bool share;
        if (!held[i].used || !matches(held[i].filter, topic, &share) || !share) {
            continue;
        }
        size_t first = 0;
        while (!held[first].used || strcmp(held[first].filter, held[i].filter) != 0) {
            first++;
        }
        count += first == i;
    }
    return count;
}

/* Some group that matches has it as a member, with that QoS and identifier. */
static bool is_member(const char *topic, const struct sp_match *match, const uint32_t *ids)
{
    for (size_t i = 0; i < FILTERS; i++) {
        const struct sp_subscriber *s = &held[i].subscriber;
        bool share;
        if (held[i].used && matches(held[i].filter, topic, &share) && share &&
            s->session == match->session && s->loop == match->loop && s->qos == match->qos &&
            match->id_count == (s->id != 0) && (s->id == 0 || ids[match->ids_at] == s->id)) {
            return true;
        }
    }
    return false;
}

/* What should come out, by holding every filter against the name. -1: not matched, else the QoS. */
static int oracle(const char *topic, uint16_t loop, sp_slot_tag session, sp_slot_tag publisher,
                  uint32_t *ids)
{
    int qos = -1;
    *ids = 0;
    for (size_t i = 0; i < FILTERS; i++) {
        const struct sp_subscriber *s = &held[i].subscriber;
        bool share;
        if (!held[i].used || s->loop != loop || s->session != session ||
            (session == publisher && loop == 0 && (s->options & SP_SUB_NO_LOCAL) != 0) ||
            !matches(held[i].filter, topic, &share) || share) {
            continue;
        }
        *ids += s->id;
        qos = s->qos > qos ? s->qos : qos;
    }
    return qos;
}

static void check_match(struct sp_subs *subs, struct sp_matches *out, const char *topic)
{
    sp_slot_tag publisher = 1 + (sp_slot_tag)(rand() % SESSIONS);
    SP_CHECK(sp_subs_match(subs, sp_view_str(topic), 0, publisher, out) == SP_OK);
    size_t expected = groups_of(topic);
    uint32_t ids;
    for (uint16_t loop = 0; loop < 2; loop++) {
        for (sp_slot_tag session = 1; session <= SESSIONS; session++) {
            expected += oracle(topic, loop, session, publisher, &ids) >= 0;
        }
    }
    SP_CHECK_CASE(out->count == expected, topic);
    for (size_t i = 0; i < out->count; i++) {
        const struct sp_match *match = &out->items[i];
        uint32_t sum = 0;
        for (uint16_t k = 0; k < match->id_count; k++) {
            sum += out->ids[match->ids_at + k];
        }
        if (match->share != 0) {
            SP_CHECK_CASE(is_member(topic, match, out->ids), topic);
            continue;
        }
        SP_CHECK_CASE(oracle(topic, match->loop, match->session, publisher, &ids) == match->qos,
                      topic);
        SP_CHECK_CASE(sum == ids, topic);
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
    struct sp_matches out = {.count = 0};
    char inner[64];
    char text[80];
    SP_CHECK(sp_subs_create(2, &subs) == SP_OK);
    srand(11);
    for (int step = 0; step < 6000; step++) {
        struct sp_subscriber s = {
            .session = 1 + (sp_slot_tag)(rand() % SESSIONS),
            .loop = (uint16_t)(rand() % 2),
            .qos = (uint8_t)(rand() % 2),
            .options = (uint8_t)(rand() % 2 == 0 ? SP_SUB_NO_LOCAL : 0U),
            .id = rand() % 3 == 0 ? (uint32_t)(1 + rand() % 1000) : 0,
        };
        struct held *place = find(shared(text, random_topic(inner, true)), &s);
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
        check_match(subs, &out, random_topic(inner, false));
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

/* Whom the group gives `topic` to. */
static sp_slot_tag given(struct sp_subs *subs, struct sp_matches *out)
{
    SP_CHECK(sp_subs_match(subs, SP_VIEW_LIT("a/b"), 0, 0, out) == SP_OK);
    return out->count == 1 ? out->items[0].session : 0;
}

static void a_group_takes_turns_and_leaves_out_who_is_away(void)
{
    struct sp_subs *subs = NULL;
    struct sp_matches out = {.count = 0};
    bool existed = false;
    struct sp_filter *filter = NULL;
    struct sp_match match;
    uint32_t id = 0;
    unsigned seen[4] = {0};
    SP_CHECK(sp_subs_create(2, &subs) == SP_OK);
    for (sp_slot_tag session = 1; session <= 3; session++) {
        struct sp_subscriber s = {
            .session = session, .loop = session % 2, .qos = 1, .id = (uint32_t)session + 10};
        SP_CHECK(sp_subs_add(subs, SP_VIEW_LIT("$share/g/a/+"), &s, &existed, &filter) == SP_OK);
    }
    for (int i = 0; i < 300; i++) {
        seen[given(subs, &out) & 3U]++;
    }
    SP_CHECK(seen[1] == 100 && seen[2] == 100 && seen[3] == 100);
    sp_subs_mark(subs, filter, 1, 1, SP_SUB_AWAY, true);
    sp_subs_mark(subs, filter, 0, 2, SP_SUB_AWAY, true);
    SP_CHECK(given(subs, &out) == 3 && given(subs, &out) == 3 && given(subs, &out) == 3);
    /* The last one that is there gives a message back: then to one that is away, but never to itself. */
    sp_slot_tag share = out.items[0].share;
    SP_CHECK(sp_subs_pick(subs, share, 1, 3, &match, &id));
    SP_CHECK(match.session != 3 && id == match.session + 10);
    sp_subs_remove(subs, filter, 1, 1);
    sp_subs_remove(subs, filter, 0, 2);
    SP_CHECK(!sp_subs_pick(subs, share, 1, 3, &match, &id));
    sp_subs_remove(subs, filter, 1, 3);
    SP_CHECK(!sp_subs_pick(subs, share, 1, 0, &match, &id));
    SP_CHECK_INT(sp_subs_size(subs), 0);
    sp_matches_deinit(&out);
    sp_subs_destroy(subs);
}

static const struct sp_test tests[] = {
    SP_TEST(a_group_takes_turns_and_leaves_out_who_is_away),
    SP_TEST(the_index_gives_what_comparing_every_filter_gives),
    SP_TEST(an_index_with_subscriptions_frees_everything),
};
SP_TEST_MAIN(tests)
