/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/retained.h"

#include "gateway/gate/core/table.h"
#include "gateway/metrics/metrics.h"
#include "gateway/slab/slab.h"
#include "libs/mqtt/topic.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define MESSAGE_COST 192U /* bytes counted beside what was published */

/* What one device has kept; there is one while it has something. */
struct owner {
    struct sp_table_node link; /* first: found by casting back */
    uint32_t count;
    uint64_t bytes;
    uint8_t len;
    uint8_t name[];
};

struct kept {
    struct sp_mail *message;
    struct owner *owner;
    uint32_t size;
};

struct sp_retained {
    pthread_mutex_t mutex;
    struct kept *items; /* by topic */
    size_t count;
    size_t cap;
    uint64_t bytes;
    struct sp_table owners;
};

enum sp_err sp_retained_create(struct sp_retained **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL) {
        return SP_ERR_NOMEM;
    }
    pthread_mutex_init(&(*out)->mutex, NULL);
    return SP_OK;
}

/* ---- owners ---- */

static struct sp_view name_of(const struct owner *owner)
{
    return sp_view(owner->name, owner->len);
}

static uint64_t owner_hash(const struct sp_table_node *link)
{
    return sp_hash(sp_hash_seed(), name_of((const struct owner *)link));
}

static struct sp_slabs slabs = SP_SLABS_INIT;

static struct owner *owner_find(const struct sp_retained *retained, struct sp_view name)
{
    struct sp_table_node *link = sp_table_find(&retained->owners, sp_hash(sp_hash_seed(), name));
    while (link != NULL) {
        struct owner *owner = (struct owner *)link;
        if (sp_view_equal(name_of(owner), name)) {
            return owner;
        }
        link = sp_table_next(link);
    }
    return NULL;
}

static void owner_free(struct owner *owner)
{
    sp_slabs_give(&slabs, owner, sizeof(*owner) + owner->len);
}

static struct owner *owner_get(struct sp_retained *retained, struct sp_view name)
{
    struct owner *owner = owner_find(retained, name);
    if (owner != NULL || name.len > UINT8_MAX) {
        return owner;
    }
    owner = sp_slabs_take(&slabs, sizeof(*owner) + name.len);
    if (owner == NULL) {
        return NULL;
    }
    owner->len = (uint8_t)name.len;
    sp_copy(owner->name, name.ptr, name.len);
    if (sp_table_insert(&retained->owners, &owner->link, owner_hash) != SP_OK) {
        owner_free(owner);
        return NULL;
    }
    return owner;
}

static void owner_settle(struct sp_retained *retained, struct owner *owner)
{
    if (owner->count == 0) {
        sp_table_remove(&retained->owners, &owner->link);
        owner_free(owner);
    }
}

/* ---- the sorted row ---- */

static int compare(struct sp_view a, struct sp_view b)
{
    size_t len = a.len < b.len ? a.len : b.len;
    int order = len == 0 ? 0 : memcmp(a.ptr, b.ptr, len);
    return order != 0 ? order : a.len < b.len ? -1 : a.len > b.len;
}

/* The first that is not below `topic`; *same: it is that topic. */
static size_t find(const struct sp_retained *retained, struct sp_view topic, bool *same)
{
    size_t low = 0;
    size_t high = retained->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (compare(retained->items[middle].message->topic, topic) < 0) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    *same = low < retained->count && sp_view_equal(retained->items[low].message->topic, topic);
    return low;
}

static uint32_t size_of(struct sp_view topic, struct sp_view payload,
                        const struct sp_mqtt_props *props)
{
    size_t size = MESSAGE_COST + topic.len + payload.len;
    if (props != NULL) {
        size += props->content_type.len + props->response_topic.len + props->correlation_data.len +
                props->user.len;
    }
    return (uint32_t)size;
}

static void add(struct sp_retained *retained, const struct kept *kept)
{
    kept->owner->count++;
    kept->owner->bytes += kept->size;
    retained->bytes += kept->size;
}

/* Take the books of one back, and its message. */
static void give_up(struct sp_retained *retained, const struct kept *kept)
{
    kept->owner->count--;
    kept->owner->bytes -= kept->size;
    retained->bytes -= kept->size;
    owner_settle(retained, kept->owner);
    sp_mail_release(kept->message);
}

static void remove_at(struct sp_retained *retained, size_t at)
{
    give_up(retained, &retained->items[at]);
    retained->count--;
    memmove(&retained->items[at], &retained->items[at + 1],
            (retained->count - at) * sizeof(retained->items[0]));
    sp_metric_add(SP_M_RETAINED, -1);
}

static bool is_expired(const struct kept *kept, uint64_t now_ms)
{
    return kept->message->expires_ms != 0 && now_ms >= kept->message->expires_ms;
}

static void sweep(struct sp_retained *retained, uint64_t now_ms)
{
    for (size_t i = retained->count; i > 0; i--) {
        if (is_expired(&retained->items[i - 1], now_ms)) {
            remove_at(retained, i - 1);
        }
    }
}

void sp_retained_destroy(struct sp_retained *retained)
{
    if (retained == NULL) {
        return;
    }
    while (retained->count > 0) {
        remove_at(retained, retained->count - 1);
    }
    free(retained->items);
    sp_table_deinit(&retained->owners);
    pthread_mutex_destroy(&retained->mutex);
    free(retained);
}

/* ---- the door ---- */

static bool fits(const struct sp_retained *retained, const struct sp_limits_config *limits,
                 struct sp_view owner, const struct sp_mqtt_publish *publish)
{
    bool same;
    size_t at = find(retained, publish->topic, &same);
    const struct kept *old = same ? &retained->items[at] : NULL;
    const struct owner *mine = owner_find(retained, owner);
    uint64_t size = size_of(publish->topic, publish->payload, &publish->props);
    uint64_t count = retained->count + 1 - (old != NULL);
    uint64_t bytes = retained->bytes + size - (old != NULL ? old->size : 0);
    uint64_t my_count = 1;
    uint64_t my_bytes = size;
    if (mine != NULL) {
        bool my_own = old != NULL && old->owner == mine;
        my_count += mine->count - (my_own ? 1U : 0U);
        my_bytes += mine->bytes - (my_own ? old->size : 0U);
    }
    return count <= limits->retained && bytes <= limits->retained_bytes &&
           my_count <= limits->retained_device && my_bytes <= limits->retained_device_bytes;
}

enum sp_err sp_retained_room(struct sp_retained *retained, const struct sp_limits_config *limits,
                             struct sp_view owner, const struct sp_mqtt_publish *publish,
                             uint64_t now_ms)
{
    pthread_mutex_lock(&retained->mutex);
    bool room = publish->payload.len == 0 || fits(retained, limits, owner, publish);
    if (!room) {
        sweep(retained, now_ms);
        room = fits(retained, limits, owner, publish);
    }
    pthread_mutex_unlock(&retained->mutex);
    return room ? SP_OK : SP_ERR_LIMIT;
}

static enum sp_err grow(struct sp_retained *retained)
{
    if (retained->count < retained->cap) {
        return SP_OK;
    }
    size_t cap = retained->cap == 0 ? 16 : retained->cap * 2;
    struct kept *items = realloc(retained->items, cap * sizeof(*items));
    if (items == NULL) {
        return SP_ERR_NOMEM;
    }
    retained->items = items;
    retained->cap = cap;
    return SP_OK;
}

static enum sp_err put(struct sp_retained *retained, struct sp_view name, struct sp_mail *message)
{
    bool same;
    size_t at = find(retained, message->topic, &same);
    if (message->payload.len == 0) {
        if (same) {
            remove_at(retained, at);
        }
        return SP_OK;
    }
    SP_TRY(grow(retained));
    struct owner *owner = owner_get(retained, name);
    if (owner == NULL) {
        return SP_ERR_NOMEM;
    }
    const struct kept kept = {
        .message = sp_mail_hold(message),
        .owner = owner,
        .size = size_of(message->topic, message->payload, message->props),
    };
    add(retained, &kept);
    if (same) {
        give_up(retained, &retained->items[at]);
    } else {
        memmove(&retained->items[at + 1], &retained->items[at],
                (retained->count - at) * sizeof(retained->items[0]));
        retained->count++;
        sp_metric_inc(SP_M_RETAINED);
    }
    retained->items[at] = kept;
    return SP_OK;
}

enum sp_err sp_retained_put(struct sp_retained *retained, struct sp_view owner,
                            struct sp_mail *message)
{
    pthread_mutex_lock(&retained->mutex);
    enum sp_err err = put(retained, owner, message);
    pthread_mutex_unlock(&retained->mutex);
    return err;
}

/* What every topic that the filter matches begins with; `a/#` matches `a` too. */
static struct sp_view literal_start(struct sp_view filter)
{
    size_t len = 0;
    while (len < filter.len && filter.ptr[len] != '+' && filter.ptr[len] != '#') {
        len++;
    }
    bool parent = len > 0 && len < filter.len && filter.ptr[len] == '#';
    return sp_view_first(filter, parent ? len - 1 : len);
}

size_t sp_retained_next(struct sp_retained *retained, struct sp_view filter, struct sp_view after,
                        uint64_t now_ms, struct sp_mail **out, size_t max)
{
    struct sp_view start = literal_start(filter);
    size_t found = 0;
    bool same;
    pthread_mutex_lock(&retained->mutex);
    size_t at = find(retained, compare(after, start) > 0 ? after : start, &same);
    at += same && after.len > 0 && sp_view_equal(after, retained->items[at].message->topic);
    while (found < max && at < retained->count &&
           sp_view_starts(retained->items[at].message->topic, start)) {
        if (is_expired(&retained->items[at], now_ms)) {
            remove_at(retained, at);
            continue;
        }
        if (sp_topic_matches(filter, retained->items[at].message->topic)) {
            out[found++] = sp_mail_hold(retained->items[at].message);
        }
        at++;
    }
    pthread_mutex_unlock(&retained->mutex);
    return found;
}

void sp_retained_each(struct sp_retained *retained, sp_retained_fn fn, void *arg)
{
    pthread_mutex_lock(&retained->mutex);
    for (size_t i = 0; i < retained->count; i++) {
        const struct kept *kept = &retained->items[i];
        fn(arg, sp_view(kept->owner->name, kept->owner->len), kept->message);
    }
    pthread_mutex_unlock(&retained->mutex);
}

size_t sp_retained_count(struct sp_retained *retained)
{
    pthread_mutex_lock(&retained->mutex);
    size_t count = retained->count;
    pthread_mutex_unlock(&retained->mutex);
    return count;
}
