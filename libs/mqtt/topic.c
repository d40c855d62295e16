/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/mqtt/topic.h"

#include <string.h>

#define TOPIC_MAX 65535U

#define EACH(byte) (UINT64_C(0x0101010101010101) * (byte))

/* The high bit of some byte is set if, and only if, there is a byte of zero. */
static uint64_t zeros(uint64_t word)
{
    return (word - EACH(1U)) & ~word & EACH(0x80U);
}

/* Eight bytes, of which none can be more than ASCII or stand for something but itself in a name. */
static bool plain(uint64_t word)
{
    uint64_t controls =
        (word - EACH(0x20U)) & ~word & EACH(0x80U); /* the same for those below 0x20 */
    return ((word & EACH(0x80U)) | controls | zeros(word ^ EACH(0x7FU)) | zeros(word ^ EACH('+')) |
            zeros(word ^ EACH('#'))) == 0;
}

static bool has_unwanted(struct sp_view name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        if (c < 0x20 || c == 0x7F || c == '+' || c == '#') {
            return true;
        }
    }
    return false;
}

/* Eight bytes at a time over ASCII, which nearly all names are; byte by byte only when there is more. */
bool sp_topic_name_valid(struct sp_view name)
{
    if (name.len == 0 || name.len > TOPIC_MAX) {
        return false;
    }
    uint64_t word;
    bool good = true;
    size_t at = 0;
    for (; good && name.len - at >= sizeof(word); at += sizeof(word)) {
        memcpy(&word, name.ptr + at, sizeof(word));
        good = plain(word);
    }
    if (good) {
        word = EACH('a');
        memcpy(&word, name.ptr + at, name.len - at);
        good = plain(word);
    }
    return good || (!has_unwanted(name) && sp_utf8_valid(name));
}

bool sp_topic_filter_valid(struct sp_view filter)
{
    if (filter.len == 0 || filter.len > TOPIC_MAX || !sp_utf8_valid(filter)) {
        return false;
    }
    for (size_t i = 0; i < filter.len; i++) {
        uint8_t c = filter.ptr[i];
        if (c != '+' && c != '#') {
            continue;
        }
        bool starts = i == 0 || filter.ptr[i - 1] == '/';
        bool last = i + 1 == filter.len;
        bool ends = last || (c == '+' && filter.ptr[i + 1] == '/');
        if (!starts || !ends) {
            return false;
        }
    }
    return true;
}

size_t sp_topic_levels(struct sp_view topic)
{
    size_t levels = 1;
    for (size_t i = 0; i < topic.len; i++) {
        levels += topic.ptr[i] == '/';
    }
    return levels;
}

bool sp_topic_next(struct sp_view *rest, struct sp_view *level)
{
    if (rest->ptr == NULL) {
        return false;
    }
    const uint8_t *slash = rest->len == 0 ? NULL : memchr(rest->ptr, '/', rest->len);
    if (slash == NULL) {
        *level = *rest;
        *rest = (struct sp_view){NULL, 0};
        return true;
    }
    size_t len = (size_t)(slash - rest->ptr);
    *level = sp_view(rest->ptr, len);
    *rest = sp_view(slash + 1, rest->len - len - 1); /* not NULL, even if empty: one more level */
    return true;
}

static bool starts_with_dollar(struct sp_view topic)
{
    return topic.len > 0 && topic.ptr[0] == '$';
}

static bool starts_with_wildcard(struct sp_view filter)
{
    return filter.len > 0 && (filter.ptr[0] == '+' || filter.ptr[0] == '#');
}

bool sp_topic_matches(struct sp_view filter, struct sp_view name)
{
    if (starts_with_dollar(name) && starts_with_wildcard(filter)) { /* MQTT-4.7.2-1 */
        return false;
    }
    size_t at = 0; /* in name */
    for (size_t i = 0; i < filter.len; i++) {
        uint8_t c = filter.ptr[i];
        if (c == '#') {
            return true;
        }
        if (c == '+') {
            while (at < name.len && name.ptr[at] != '/') {
                at++;
            }
            continue;
        }
        if (at == name.len) { /* `a/#` matches `a` too (4.7.1.2) */
            return sp_view_equal(sp_view_from(filter, i), SP_VIEW_LIT("/#"));
        }
        if (c != name.ptr[at]) {
            return false;
        }
        at++;
    }
    return at == name.len;
}

static bool is(struct sp_view level, char c)
{
    return level.len == 1 && level.ptr[0] == (uint8_t)c;
}

/* `#` would also stand for no level at all, and `/#` for a single empty one; but no name is empty. */
static struct sp_view normal(struct sp_view filter)
{
    if (is(filter, '#')) {
        return SP_VIEW_LIT("+/#");
    }
    return sp_view_equal(filter, SP_VIEW_LIT("/#")) ? SP_VIEW_LIT("/+/#") : filter;
}

bool sp_topic_covers(struct sp_view outer, struct sp_view inner)
{
    if (starts_with_wildcard(outer) && starts_with_dollar(inner)) {
        return false;
    }
    inner = normal(inner);
    for (;;) {
        struct sp_view a;
        struct sp_view b;
        bool more_a = sp_topic_next(&outer, &a);
        bool more_b = sp_topic_next(&inner, &b);
        if (more_a && is(a, '#')) {
            return true;
        }
        if (!more_a || !more_b) {
            return !more_a && !more_b;
        }
        bool same = sp_view_equal(a, b);
        bool any = is(a, '+') && !is(b, '#');
        if (!same && !any) {
            return false;
        }
    }
}

bool sp_topic_overlaps(struct sp_view a, struct sp_view b)
{
    if ((starts_with_wildcard(a) && starts_with_dollar(b)) ||
        (starts_with_wildcard(b) && starts_with_dollar(a))) {
        return false;
    }
    a = normal(a);
    b = normal(b);
    for (;;) {
        struct sp_view in_a;
        struct sp_view in_b;
        bool more_a = sp_topic_next(&a, &in_a);
        bool more_b = sp_topic_next(&b, &in_b);
        if ((more_a && is(in_a, '#')) || (more_b && is(in_b, '#'))) {
            return true;
        }
        if (!more_a || !more_b) {
            return !more_a && !more_b;
        }
        if (!is(in_a, '+') && !is(in_b, '+') && !sp_view_equal(in_a, in_b)) {
            return false;
        }
    }
}

enum sp_err sp_topic_share(struct sp_view filter, struct sp_view *name, struct sp_view *inner)
{
    struct sp_view prefix = SP_VIEW_INIT("$share/");
    if (!sp_view_starts(filter, prefix)) {
        return SP_ERR_NOT_FOUND;
    }
    struct sp_view rest = sp_view_from(filter, prefix.len);
    struct sp_view group;
    if (!sp_topic_next(&rest, &group) || !sp_topic_name_valid(group) ||
        !sp_topic_filter_valid(rest)) {
        return SP_ERR_MALFORMED;
    }
    *name = group;
    *inner = rest;
    return SP_OK;
}
