/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/base/test.h"
#include "libs/mqtt/topic.h"

#include <string.h>

struct one {
    const char *topic;
    size_t len; /* 0 = strlen */
    bool name;
    bool filter;
};

static struct sp_view view_of(const struct one *c)
{
    return sp_view(c->topic, c->len != 0 ? c->len : strlen(c->topic));
}

static void names_and_filters_are_checked_as_the_standard_says(void)
{
    static const struct one cases[] = {
        {"a", 0, true, true},
        {"/", 0, true, true},
        {"////", 0, true, true},
        {"a//b/", 0, true, true},
        {" ", 0, true, true},
        {"$SYS/x", 0, true, true},
        {"dt/gr\xC3\xBC\xC3\x9F", 0, true, true},
        {"", 0, false, false},
        {"a\0b", 3, false, false},
        {"a\nb", 0, false, false},
        {"a\x7F", 0, false, false},
        {"a\xC2\x85", 0, false, false},
        {"\x80", 0, false, false},
        {"\xC0\x80", 0, false, false},
        {"\xED\xA0\x80", 0, false, false},
        {"\xF4\x90\x80\x80", 0, false, false},
        {"\xF5\x80\x80\x80", 0, false, false},
        {"\xEF\xBF\xBF", 0, false, false},
        {"a/#", 0, false, true},
        {"#", 0, false, true},
        {"+", 0, false, true},
        {"/+", 0, false, true},
        {"+/+/#", 0, false, true},
        {"a/+/b", 0, false, true},
        {"a#", 0, false, false},
        {"a/#/b", 0, false, false},
        {"#/", 0, false, false},
        {"##", 0, false, false},
        {"a+", 0, false, false},
        {"+a", 0, false, false},
        {"a/+b/c", 0, false, false},
        {"a/b+", 0, false, false},
        {"++", 0, false, false},
        {"+#", 0, false, false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(sp_topic_name_valid(view_of(&cases[i])) == cases[i].name, cases[i].topic);
        SP_CHECK_CASE(sp_topic_filter_valid(view_of(&cases[i])) == cases[i].filter, cases[i].topic);
    }
}

static uint8_t long_topic[70000];

static void topics_of_65535_bytes_are_the_longest(void)
{
    memset(long_topic, '/', sizeof(long_topic));
    SP_CHECK(sp_topic_name_valid(sp_view(long_topic, 65535)));
    SP_CHECK(!sp_topic_name_valid(sp_view(long_topic, 65536)));
    SP_CHECK(!sp_topic_filter_valid(sp_view(long_topic, 65536)));
    SP_CHECK_INT(sp_topic_levels(sp_view(long_topic, 65535)), 65536);
    for (size_t i = 0; i < 65535; i += 2) {
        long_topic[i] = '+';
    }
    struct sp_view filter = sp_view(long_topic, 65535);
    SP_CHECK(sp_topic_filter_valid(filter));
    SP_CHECK_INT(sp_topic_levels(filter), 32768);
    SP_CHECK(sp_topic_covers(filter, filter));
    SP_CHECK(sp_topic_overlaps(filter, filter));
}

struct pair {
    const char *a;
    const char *b;
    bool yes;
};

static void a_filter_matches_the_names_it_should(void)
{
    static const struct pair cases[] = {
        {"a", "a", true},
        {"a", "b", false},
        {"a", "a/", false},
        {"a/", "a", false},
        {"a/b", "a/b", true},
        {"a/b", "a/bc", false},
        {"a/bc", "a/b", false},
        {"#", "a", true},
        {"#", "/", true},
        {"#", "$x", false},
        {"+", "a", true},
        {"+", "a/b", false},
        {"+", "/", false},
        {"+/+", "/", true},
        {"/+", "/a", true},
        {"+", "$x", false},
        {"+/x", "$x/x", false},
        {"$x/+", "$x/x", true},
        {"$x/#", "$x", true},
        {"a/#", "a", true},
        {"a/#", "a/", true},
        {"a/#", "a/b/c", true},
        {"a/#", "ab", false},
        {"a/#", "b", false},
        {"+/#", "a", true},
        {"+/#", "a/b", true},
        {"a/+", "a", false},
        {"a/+", "a/", true},
        {"a/+", "a/b", true},
        {"a/+", "a/b/c", false},
        {"a/+/c", "a/b/c", true},
        {"a/+/c", "a//c", true},
        {"a/+/c", "a/b/d", false},
        {"a/+/#", "a", false},
        {"a/+/#", "a/b", true},
        {"dt/+/climate", "dt/dev1/climate", true},
        {"dt/+/climate", "dt/dev1/climate/x", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool yes = sp_topic_matches(sp_view_str(cases[i].a), sp_view_str(cases[i].b));
        SP_CHECK_CASE(yes == cases[i].yes, cases[i].a);
    }
}

static void a_filter_covers_what_it_should(void)
{
    static const struct pair cases[] = {
        {"#", "a", true},
        {"#", "#", true},
        {"#", "+/a/#", true},
        {"#", "$x/#", false},
        {"+", "$x", false},
        {"$x/#", "$x/+", true},
        {"+/#", "#", true},
        {"+/+/#", "#", false},
        {"a/#", "a", true},
        {"a/#", "a/+/b", true},
        {"a/#", "#", false},
        {"a/+/#", "a/#", false},
        {"a/+", "a/b", true},
        {"a/+", "a/+", true},
        {"a/+", "a/#", false},
        {"a/b", "a/+", false},
        {"a/+", "a", false},
        {"a", "a/+", false},
        {"a/+/c", "a/b/+", false},
        {"cmd/dev1/#", "cmd/dev1/x/#", true},
        {"cmd/dev1/#", "cmd/dev2/x", false},
        {"cmd/dev1/#", "cmd/+/x", false},
        {"cmd/dev1/#", "cmd/dev10/x", false},
        {"dt/+/climate", "dt/#", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        bool yes = sp_topic_covers(sp_view_str(cases[i].a), sp_view_str(cases[i].b));
        SP_CHECK_CASE(yes == cases[i].yes, cases[i].a);
    }
}

static void filters_overlap_when_one_name_matches_both(void)
{
    static const struct pair cases[] = {
        {"a", "a", true},        {"a", "b", false},        {"a/+", "+/b", true},
        {"a/+", "+/b/c", false}, {"a/#", "a", true},       {"a/#", "+", true},
        {"a/#", "b/#", false},   {"#", "$x", false},       {"#", "x/+/y", true},
        {"+/x", "$s/x", false},  {"$s/+", "$s/#", true},   {"a/+/c", "a/b/#", true},
        {"+", "/", false},       {"$sp/#", "dt/#", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_view a = sp_view_str(cases[i].a);
        struct sp_view b = sp_view_str(cases[i].b);
        SP_CHECK_CASE(sp_topic_overlaps(a, b) == cases[i].yes, cases[i].a);
        SP_CHECK_CASE(sp_topic_overlaps(b, a) == cases[i].yes, cases[i].b);
    }
}

/* All filters and names of up to three levels over a small alphabet: matches() is the oracle. */
#define SMALL_MAX 400
static char small_filters[SMALL_MAX][8];
static char small_names[SMALL_MAX][8];

static size_t enumerate(const char *const *levels, size_t count, char (*out)[8])
{
    size_t made = 0;
    for (size_t i = 0; i < count * (count + 1) * (count + 1); i++) {
        size_t second = i / count % (count + 1);
        size_t third = i / count / (count + 1);
        if (second == count && third != count) {
            continue; /* a third level needs a second one */
        }
        char *at = out[made];
        strcpy(at, levels[i % count]);
        if (second < count) {
            strcat(at, "/");
            strcat(at, levels[second]);
        }
        if (third < count) {
            strcat(at, "/");
            strcat(at, levels[third]);
        }
        made += at[0] != '\0';
    }
    return made;
}

static void covers_and_overlaps_agree_with_matches_on_all_small_topics(void)
{
    static const char *const in_filters[] = {"a", "$", "", "+", "#"};
    static const char *const in_names[] = {"a", "$", "", "z"};
    size_t filters = enumerate(in_filters, 5, small_filters);
    size_t names = enumerate(in_names, 4, small_names);
    for (size_t i = 0; i < filters; i++) {
        struct sp_view a = sp_view_str(small_filters[i]);
        for (size_t k = 0; k < filters && sp_topic_filter_valid(a); k++) {
            struct sp_view b = sp_view_str(small_filters[k]);
            if (!sp_topic_filter_valid(b)) {
                continue;
            }
            bool all = true;
            bool some = false;
            for (size_t n = 0; n < names; n++) {
                bool in_a = sp_topic_matches(a, sp_view_str(small_names[n]));
                bool in_b = sp_topic_matches(b, sp_view_str(small_names[n]));
                all = all && (in_a || !in_b);
                some = some || (in_a && in_b);
            }
            /* names of four levels are not among them: only `#` could tell those apart */
            bool deep =
                strchr(small_filters[k], '#') != NULL && strchr(small_filters[i], '#') == NULL;
            SP_CHECK_CASE(sp_topic_covers(a, b) == (all && !deep), small_filters[i]);
            SP_CHECK_CASE(sp_topic_overlaps(a, b) == some, small_filters[i]);
        }
    }
}

static void levels_are_handed_out_one_by_one(void)
{
    static const struct {
        const char *topic;
        const char *levels[4];
        size_t count;
    } cases[] = {
        {"a", {"a"}, 1},    {"a/b", {"a", "b"}, 2},         {"a/", {"a", ""}, 2},
        {"/", {"", ""}, 2}, {"/a//", {"", "a", "", ""}, 4},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_view rest = sp_view_str(cases[i].topic);
        struct sp_view level;
        size_t count = 0;
        SP_CHECK_INT(sp_topic_levels(rest), cases[i].count);
        while (count < 5 && sp_topic_next(&rest, &level)) {
            bool same = count < 4 && sp_view_equal(level, sp_view_str(cases[i].levels[count]));
            SP_CHECK_CASE(same, cases[i].topic);
            count++;
        }
        SP_CHECK_INT(count, cases[i].count);
    }
}

static void shared_subscriptions_are_taken_apart(void)
{
    static const struct {
        const char *filter;
        enum sp_err err;
        const char *name;
        const char *inner;
    } cases[] = {
        {"$share/g/a/#", SP_OK, "g", "a/#"},
        {"$share/g//", SP_OK, "g", "/"},
        {"$share/g/+", SP_OK, "g", "+"},
        {"a/b", SP_ERR_NOT_FOUND, NULL, NULL},
        {"$share", SP_ERR_NOT_FOUND, NULL, NULL},
        {"$shared/g/a", SP_ERR_NOT_FOUND, NULL, NULL},
        {"$share/", SP_ERR_MALFORMED, NULL, NULL},
        {"$share/g", SP_ERR_MALFORMED, NULL, NULL},
        {"$share/g/", SP_ERR_MALFORMED, NULL, NULL},
        {"$share//x", SP_ERR_MALFORMED, NULL, NULL},
        {"$share/g+/x", SP_ERR_MALFORMED, NULL, NULL},
        {"$share/#/x", SP_ERR_MALFORMED, NULL, NULL},
        {"$share/g/a#", SP_ERR_MALFORMED, NULL, NULL},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_view name = {NULL, 0};
        struct sp_view inner = {NULL, 0};
        enum sp_err err = sp_topic_share(sp_view_str(cases[i].filter), &name, &inner);
        SP_CHECK_CASE(err == cases[i].err, cases[i].filter);
        SP_CHECK_CASE(sp_view_equal(name, sp_view_str(cases[i].name)), cases[i].filter);
        SP_CHECK_CASE(sp_view_equal(inner, sp_view_str(cases[i].inner)), cases[i].filter);
    }
}

static void a_byte_in_a_name_is_judged_alike_wherever_it_stands(void)
{
    char text[32];
    for (size_t len = 1; len <= 20; len++) {
        for (size_t at = 0; at < len; at++) {
            for (unsigned byte = 0; byte < 256; byte++) {
                bool good = byte >= 0x20 && byte < 0x7F && byte != '+' && byte != '#';
                memset(text, 'x', sizeof(text));
                text[at] = (char)byte;
                text[len] = '#'; /* no longer a part of it */
                SP_CHECK_CASE(sp_topic_name_valid(sp_view(text, len)) == good, text);
            }
        }
        memcpy(text + len, "\xC3\xBC", 2);
        memset(text, 'x', len);
        SP_CHECK(sp_topic_name_valid(sp_view(text, len + 2)));
        text[0] = '+';
        SP_CHECK(!sp_topic_name_valid(sp_view(text, len + 2)));
    }
}

static const struct sp_test tests[] = {
    SP_TEST(names_and_filters_are_checked_as_the_standard_says),
    SP_TEST(a_byte_in_a_name_is_judged_alike_wherever_it_stands),
    SP_TEST(topics_of_65535_bytes_are_the_longest),
    SP_TEST(a_filter_matches_the_names_it_should),
    SP_TEST(a_filter_covers_what_it_should),
    SP_TEST(filters_overlap_when_one_name_matches_both),
    SP_TEST(covers_and_overlaps_agree_with_matches_on_all_small_topics),
    SP_TEST(levels_are_handed_out_one_by_one),
    SP_TEST(shared_subscriptions_are_taken_apart),
};
SP_TEST_MAIN(tests)
