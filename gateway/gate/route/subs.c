/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/subs.h"

#include "gateway/gate/core/table.h"
#include "gateway/slab/slab.h"
#include "libs/mqtt/topic.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct sp_filter {
    struct sp_table_node link; /* first: found by casting back */
    struct node *node;         /* where it ends in the trie; NULL: no wildcards in it */
    union {
        struct sp_subscriber one;    /* cap 0: here */
        struct sp_subscriber *items; /* malloc'ed */
    };
    uint32_t count; /* of its subscriptions */
    uint32_t cap;
    uint16_t len;
    uint8_t text[];
};

/* One level of wildcard filters; `#` and `+` are levels like any other. */
struct node {
    struct sp_table_node link; /* first: found by casting back */
    struct node *parent;
    struct sp_filter *filter; /* which ends here; NULL: none */
    uint32_t children;
    uint16_t len;
    uint8_t level[];
};

/* Alone on its cache lines, or loops would meet there after all. */
struct loop_lock {
    _Alignas(128) pthread_mutex_t mutex;
};

struct sp_subs {
    struct loop_lock *locks; /* one per loop */
    uint16_t loops;
    uint64_t seed;
    struct sp_table filters; /* by text */
    struct sp_table edges;
    struct node *root; /* not in the table */
};

static struct sp_slabs slabs = SP_SLABS_INIT;

void sp_matches_deinit(struct sp_matches *matches)
{
    free(matches->items);
    *matches = (struct sp_matches){NULL, 0, 0};
}

struct sp_view sp_filter_text(const struct sp_filter *filter)
{
    return sp_view(filter->text, filter->len);
}

/* ---- the subscriptions on a filter ---- */

static struct sp_subscriber *items_of(struct sp_filter *filter)
{
    return filter->cap == 0 ? &filter->one : filter->items;
}

static struct sp_subscriber *subscriber_find(struct sp_filter *filter, uint16_t loop,
                                             sp_slot_tag session)
{
    struct sp_subscriber *items = items_of(filter);
    for (uint32_t i = 0; i < filter->count; i++) {
        if (items[i].session == session && items[i].loop == loop) {
            return &items[i];
        }
    }
    return NULL;
}

/* Room for one more. */
static enum sp_err grow(struct sp_filter *filter)
{
    if (filter->count == 0 || filter->count < filter->cap) {
        return SP_OK;
    }
    uint32_t cap = filter->cap == 0 ? 4 : filter->cap * 2;
    struct sp_subscriber *items =
        realloc(filter->cap == 0 ? NULL : filter->items, cap * sizeof(*items));
    if (items == NULL) {
        return SP_ERR_NOMEM;
    }
    if (filter->cap == 0) {
        items[0] = filter->one;
    }
    filter->items = items;
    filter->cap = cap;
    return SP_OK;
}

static enum sp_err subscriber_add(struct sp_filter *filter, const struct sp_subscriber *subscriber,
                                  bool *existed)
{
    struct sp_subscriber *found = subscriber_find(filter, subscriber->loop, subscriber->session);
    *existed = found != NULL;
    if (found == NULL) {
        SP_TRY(grow(filter));
        found = &items_of(filter)[filter->count++];
    }
    *found = *subscriber;
    return SP_OK;
}

/* ---- the trie ---- */

static void node_free(struct node *node)
{
    sp_slabs_give(&slabs, node, sizeof(*node) + node->len);
}

static uint64_t edge_hash(const struct sp_subs *subs, const struct node *parent,
                          struct sp_view level)
{
    return sp_hash(subs->seed ^ (uint64_t)(uintptr_t)parent, level);
}

static struct node *child_find(const struct sp_subs *subs, const struct node *parent,
                               struct sp_view level)
{
    if (parent->children == 0) {
        return NULL;
    }
    struct sp_table_node *link = sp_table_find(&subs->edges, edge_hash(subs, parent, level));
    while (link != NULL) {
        struct node *node = (struct node *)link;
        if (node->parent == parent && sp_view_equal(sp_view(node->level, node->len), level)) {
            return node;
        }
        link = sp_table_next(link);
    }
    return NULL;
}

static struct node *child_make(struct sp_subs *subs, struct node *parent, struct sp_view level)
{
    struct node *node = child_find(subs, parent, level);
    if (node != NULL) {
        return node;
    }
    node = sp_slabs_take(&slabs, sizeof(*node) + level.len);
    if (node == NULL) {
        return NULL;
    }
    node->parent = parent;
    node->len = (uint16_t)level.len;
    sp_copy(node->level, level.ptr, level.len);
    if (sp_table_insert(&subs->edges, &node->link, edge_hash(subs, parent, level)) != SP_OK) {
        node_free(node);
        return NULL;
    }
    parent->children++;
    return node;
}

/* Take away what no filter needs any more, from a leaf upwards. */
static void node_prune(struct sp_subs *subs, struct node *node)
{
    while (node->parent != NULL && node->children == 0 && node->filter == NULL) {
        struct node *parent = node->parent;
        sp_table_remove(&subs->edges, &node->link);
        parent->children--;
        node_free(node);
        node = parent;
    }
}

static struct node *trie_make(struct sp_subs *subs, struct sp_view filter)
{
    struct node *node = subs->root;
    struct sp_view level;
    while (sp_topic_next(&filter, &level)) {
        struct node *child = child_make(subs, node, level);
        if (child == NULL) {
            node_prune(subs, node);
            return NULL;
        }
        node = child;
    }
    return node;
}

static bool has_wildcard(struct sp_view filter)
{
    return memchr(filter.ptr, '#', filter.len) != NULL ||
           memchr(filter.ptr, '+', filter.len) != NULL;
}

/* ---- filters ---- */

static struct sp_filter *filter_find(const struct sp_subs *subs, struct sp_view text, uint64_t hash)
{
    struct sp_table_node *link = sp_table_find(&subs->filters, hash);
    while (link != NULL) {
        struct sp_filter *filter = (struct sp_filter *)link;
        if (sp_view_equal(sp_filter_text(filter), text)) {
            return filter;
        }
        link = sp_table_next(link);
    }
    return NULL;
}

static void filter_free(struct sp_filter *filter)
{
    if (filter->cap > 0) {
        free(filter->items);
    }
    sp_slabs_give(&slabs, filter, sizeof(*filter) + filter->len);
}

/* Take a filter that nobody subscribes to any more out of the index. */
static void filter_prune(struct sp_subs *subs, struct sp_filter *filter)
{
    if (filter->count > 0) {
        return;
    }
    if (filter->node != NULL) {
        filter->node->filter = NULL;
        node_prune(subs, filter->node);
    }
    sp_table_remove(&subs->filters, &filter->link);
    filter_free(filter);
}

static struct sp_filter *filter_make(struct sp_subs *subs, struct sp_view text)
{
    uint64_t hash = sp_hash(subs->seed, text);
    struct sp_filter *filter = filter_find(subs, text, hash);
    if (filter != NULL || text.len > UINT16_MAX) {
        return filter;
    }
    filter = sp_slabs_take(&slabs, sizeof(*filter) + text.len);
    if (filter == NULL) {
        return NULL;
    }
    filter->len = (uint16_t)text.len;
    sp_copy(filter->text, text.ptr, text.len);
    if (sp_table_insert(&subs->filters, &filter->link, hash) != SP_OK) {
        filter_free(filter);
        return NULL;
    }
    if (has_wildcard(text)) {
        filter->node = trie_make(subs, text);
        if (filter->node == NULL) {
            filter_prune(subs, filter);
            return NULL;
        }
        filter->node->filter = filter;
    }
    return filter;
}

/* ---- the door ---- */

/* Always in the same order, so that two writers cannot wait for each other. */
static void lock_all(struct sp_subs *subs)
{
    for (uint16_t i = 0; i < subs->loops; i++) {
        pthread_mutex_lock(&subs->locks[i].mutex);
    }
}

static void unlock_all(struct sp_subs *subs)
{
    for (uint16_t i = 0; i < subs->loops; i++) {
        pthread_mutex_unlock(&subs->locks[i].mutex);
    }
}

enum sp_err sp_subs_create(uint16_t loops, struct sp_subs **out)
{
    *out = NULL;
    struct sp_subs *subs = calloc(1, sizeof(*subs));
    if (subs == NULL) {
        return SP_ERR_NOMEM;
    }
    subs->root = calloc(1, sizeof(*subs->root));
    subs->locks = aligned_alloc(_Alignof(struct loop_lock), loops * sizeof(struct loop_lock));
    if (subs->root == NULL || subs->locks == NULL) {
        free(subs->root);
        free(subs->locks);
        free(subs);
        return SP_ERR_NOMEM;
    }
    subs->seed = sp_hash_seed();
    subs->loops = loops;
    for (uint16_t i = 0; i < loops; i++) {
        pthread_mutex_init(&subs->locks[i].mutex, NULL);
    }
    *out = subs;
    return SP_OK;
}

void sp_subs_destroy(struct sp_subs *subs)
{
    if (subs == NULL) {
        return;
    }
    struct sp_table_node *link;
    while ((link = sp_table_any(&subs->filters)) != NULL) {
        sp_table_remove(&subs->filters, link);
        filter_free((struct sp_filter *)link);
    }
    while ((link = sp_table_any(&subs->edges)) != NULL) {
        sp_table_remove(&subs->edges, link);
        node_free((struct node *)link);
    }
    sp_table_deinit(&subs->filters);
    sp_table_deinit(&subs->edges);
    free(subs->root);
    for (uint16_t i = 0; i < subs->loops; i++) {
        pthread_mutex_destroy(&subs->locks[i].mutex);
    }
    free(subs->locks);
    free(subs);
}

enum sp_err sp_subs_add(struct sp_subs *subs, struct sp_view filter,
                        const struct sp_subscriber *subscriber, bool *existed,
                        struct sp_filter **out)
{
    enum sp_err err = SP_ERR_NOMEM;
    lock_all(subs);
    struct sp_filter *made = filter_make(subs, filter);
    if (made != NULL) {
        err = subscriber_add(made, subscriber, existed);
        filter_prune(subs, made);
    }
    if (err == SP_OK) {
        *out = made;
    }
    unlock_all(subs);
    return err;
}

struct sp_filter *sp_subs_find(struct sp_subs *subs, struct sp_view filter, uint16_t loop,
                               sp_slot_tag session)
{
    pthread_mutex_lock(&subs->locks[loop].mutex);
    struct sp_filter *found = filter_find(subs, filter, sp_hash(subs->seed, filter));
    if (found != NULL && subscriber_find(found, loop, session) == NULL) {
        found = NULL;
    }
    pthread_mutex_unlock(&subs->locks[loop].mutex);
    return found;
}

bool sp_subs_get(struct sp_subs *subs, struct sp_filter *filter, uint16_t loop, sp_slot_tag session,
                 struct sp_subscriber *out)
{
    pthread_mutex_lock(&subs->locks[loop].mutex);
    const struct sp_subscriber *found = subscriber_find(filter, loop, session);
    if (found != NULL) {
        *out = *found;
    }
    pthread_mutex_unlock(&subs->locks[loop].mutex);
    return found != NULL;
}

void sp_subs_remove(struct sp_subs *subs, struct sp_filter *filter, uint16_t loop,
                    sp_slot_tag session)
{
    lock_all(subs);
    struct sp_subscriber *found = subscriber_find(filter, loop, session);
    if (found != NULL) {
        *found = items_of(filter)[--filter->count];
        filter_prune(subs, filter);
    }
    unlock_all(subs);
}

/* ---- matching ---- */

struct matching {
    const struct sp_subs *subs;
    struct sp_matches *out;
    sp_slot_tag publisher;
    uint16_t loop;
    unsigned sources; /* filters that gave something */
    enum sp_err err;
};

static void collect(struct matching *m, struct sp_filter *filter)
{
    struct sp_matches *out = m->out;
    if (filter == NULL) {
        return;
    }
    if (filter->count > out->cap - out->count) {
        size_t cap = (out->count + filter->count) * 2;
        struct sp_subscriber *items = realloc(out->items, cap * sizeof(*items));
        if (items == NULL) {
            m->err = SP_ERR_NOMEM;
            return;
        }
        out->items = items;
        out->cap = cap;
    }
    m->sources++;
    const struct sp_subscriber *items = items_of(filter);
    for (uint32_t i = 0; i < filter->count; i++) {
        const struct sp_subscriber *item = &items[i];
        bool own = item->session == m->publisher && item->loop == m->loop;
        if (!own || (item->options & SP_SUB_NO_LOCAL) == 0) {
            out->items[out->count++] = *item;
        }
    }
}

/* Depth = levels of the longest filter that matches so far, which the limit on filters bounds. */
static void walk(struct matching *m, const struct node *node, struct sp_view rest, bool wildcards)
{
    if (wildcards) {
        /* `#` stands for what follows, and for nothing at all (MQTT 5, 4.7.1.2). */
        const struct node *all = child_find(m->subs, node, SP_VIEW_LIT("#"));
        if (all != NULL) {
            collect(m, all->filter);
        }
    }
    struct sp_view level;
    if (!sp_topic_next(&rest, &level)) {
        collect(m, node->filter);
        return;
    }
    const struct node *any = wildcards ? child_find(m->subs, node, SP_VIEW_LIT("+")) : NULL;
    if (any != NULL) {
        walk(m, any, rest, true);
    }
    const struct node *same = child_find(m->subs, node, level);
    if (same != NULL) {
        walk(m, same, rest, true);
    }
}

static int by_session(const void *left, const void *right)
{
    const struct sp_subscriber *a = left;
    const struct sp_subscriber *b = right;
    if (a->loop != b->loop) {
        return a->loop < b->loop ? -1 : 1;
    }
    if (a->session != b->session) {
        return a->session < b->session ? -1 : 1;
    }
    return (int)b->qos - (int)a->qos; /* the highest first: it stays */
}

static void merge(struct sp_matches *out)
{
    qsort(out->items, out->count, sizeof(out->items[0]), by_session);
    size_t kept = 1;
    for (size_t i = 1; i < out->count; i++) {
        const struct sp_subscriber *last = &out->items[kept - 1];
        if (out->items[i].session != last->session || out->items[i].loop != last->loop) {
            out->items[kept++] = out->items[i];
        }
    }
    out->count = kept;
}

enum sp_err sp_subs_match(struct sp_subs *subs, struct sp_view topic, uint16_t loop,
                          sp_slot_tag publisher, struct sp_matches *out)
{
    struct matching m = {.subs = subs, .out = out, .publisher = publisher, .loop = loop};
    out->count = 0;
    pthread_mutex_lock(&subs->locks[loop].mutex);
    collect(&m, filter_find(subs, topic, sp_hash(subs->seed, topic)));
    if (subs->root->children > 0) {
        /* A leading wildcard does not match a name that starts with `$` (MQTT 5, 4.7.2). */
        walk(&m, subs->root, topic, topic.len > 0 && topic.ptr[0] != '$');
    }
    pthread_mutex_unlock(&subs->locks[loop].mutex);
    if (m.sources > 1 && out->count > 1) {
        merge(out);
    }
    return m.err;
}

size_t sp_subs_size(struct sp_subs *subs)
{
    lock_all(subs);
    size_t size = subs->filters.count + subs->edges.count;
    unlock_all(subs);
    return size;
}
