/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/subs.h"

#include "gateway/gate/core/table.h"
#include "libs/mqtt/topic.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

/* The subscriptions on one filter. */
struct entry {
    struct sp_subscriber *items;
    uint32_t count;
    uint32_t cap;
};

/* A filter without wildcards. */
struct exact {
    struct sp_table_node link; /* first: found by casting back */
    struct entry entry;
    size_t len;
    uint8_t filter[];
};

/* One level of wildcard filters; `#` and `+` are levels like any other. */
struct node {
    struct sp_table_node link; /* first: found by casting back */
    struct node *parent;
    struct entry entry; /* of the filter that ends here */
    uint32_t children;
    size_t len;
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
    struct sp_table exacts;
    struct sp_table edges;
    struct node *root; /* not in the table */
};

void sp_matches_deinit(struct sp_matches *matches)
{
    free(matches->items);
    *matches = (struct sp_matches){NULL, 0, 0};
}

/* ---- entries ---- */

static struct sp_subscriber *entry_find(const struct entry *entry, uint16_t loop,
                                        sp_slot_tag session)
{
    for (uint32_t i = 0; i < entry->count; i++) {
        if (entry->items[i].session == session && entry->items[i].loop == loop) {
            return &entry->items[i];
        }
    }
    return NULL;
}

static enum sp_err entry_add(struct entry *entry, const struct sp_subscriber *subscriber,
                             bool *existed)
{
    struct sp_subscriber *found = entry_find(entry, subscriber->loop, subscriber->session);
    *existed = found != NULL;
    if (found != NULL) {
        *found = *subscriber;
        return SP_OK;
    }
    if (entry->count == entry->cap) {
        uint32_t cap = entry->cap == 0 ? 1 : entry->cap * 2;
        struct sp_subscriber *items = realloc(entry->items, cap * sizeof(*items));
        if (items == NULL) {
            return SP_ERR_NOMEM;
        }
        entry->items = items;
        entry->cap = cap;
    }
    entry->items[entry->count++] = *subscriber;
    return SP_OK;
}

static bool entry_remove(struct entry *entry, uint16_t loop, sp_slot_tag session)
{
    struct sp_subscriber *found = entry_find(entry, loop, session);
    if (found == NULL) {
        return false;
    }
    *found = entry->items[--entry->count];
    if (entry->count == 0) {
        free(entry->items);
        *entry = (struct entry){NULL, 0, 0};
    }
    return true;
}

/* ---- filters without wildcards ---- */

static struct exact *exact_find(const struct sp_subs *subs, struct sp_view filter, uint64_t hash)
{
    struct sp_table_node *link = sp_table_find(&subs->exacts, hash);
    while (link != NULL) {
        struct exact *exact = (struct exact *)link;
        if (sp_view_equal(sp_view(exact->filter, exact->len), filter)) {
            return exact;
        }
        link = sp_table_next(link);
    }
    return NULL;
}

static struct exact *exact_make(struct sp_subs *subs, struct sp_view filter, uint64_t hash)
{
    struct exact *exact = exact_find(subs, filter, hash);
    if (exact != NULL) {
        return exact;
    }
    exact = calloc(1, sizeof(*exact) + filter.len);
    if (exact == NULL) {
        return NULL;
    }
    exact->len = filter.len;
    sp_copy(exact->filter, filter.ptr, filter.len);
    if (sp_table_insert(&subs->exacts, &exact->link, hash) != SP_OK) {
        free(exact);
        return NULL;
    }
    return exact;
}

static void exact_prune(struct sp_subs *subs, struct exact *exact)
{
    if (exact->entry.count == 0) {
        sp_table_remove(&subs->exacts, &exact->link);
        free(exact);
    }
}

/* ---- the trie ---- */

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
    node = calloc(1, sizeof(*node) + level.len);
    if (node == NULL) {
        return NULL;
    }
    node->parent = parent;
    node->len = level.len;
    sp_copy(node->level, level.ptr, level.len);
    if (sp_table_insert(&subs->edges, &node->link, edge_hash(subs, parent, level)) != SP_OK) {
        free(node);
        return NULL;
    }
    parent->children++;
    return node;
}

/* Take away what no filter needs any more, from a leaf upwards. */
static void node_prune(struct sp_subs *subs, struct node *node)
{
    while (node->parent != NULL && node->children == 0 && node->entry.count == 0) {
        struct node *parent = node->parent;
        sp_table_remove(&subs->edges, &node->link);
        parent->children--;
        free(node);
        node = parent;
    }
}

static struct node *trie_find(const struct sp_subs *subs, struct sp_view filter)
{
    struct node *node = subs->root;
    struct sp_view level;
    while (node != NULL && sp_topic_next(&filter, &level)) {
        node = child_find(subs, node, level);
    }
    return node;
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
    while ((link = sp_table_any(&subs->exacts)) != NULL) {
        struct exact *exact = (struct exact *)link;
        sp_table_remove(&subs->exacts, link);
        free(exact->entry.items);
        free(exact);
    }
    while ((link = sp_table_any(&subs->edges)) != NULL) {
        struct node *node = (struct node *)link;
        sp_table_remove(&subs->edges, link);
        free(node->entry.items);
        free(node);
    }
    sp_table_deinit(&subs->exacts);
    sp_table_deinit(&subs->edges);
    free(subs->root);
    for (uint16_t i = 0; i < subs->loops; i++) {
        pthread_mutex_destroy(&subs->locks[i].mutex);
    }
    free(subs->locks);
    free(subs);
}

static enum sp_err add_wildcard(struct sp_subs *subs, struct sp_view filter,
                                const struct sp_subscriber *subscriber, bool *existed)
{
    struct node *node = trie_make(subs, filter);
    if (node == NULL) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = entry_add(&node->entry, subscriber, existed);
    node_prune(subs, node);
    return err;
}

static enum sp_err add_exact(struct sp_subs *subs, struct sp_view filter,
                             const struct sp_subscriber *subscriber, bool *existed)
{
    struct exact *exact = exact_make(subs, filter, sp_hash(subs->seed, filter));
    if (exact == NULL) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = entry_add(&exact->entry, subscriber, existed);
    exact_prune(subs, exact);
    return err;
}

enum sp_err sp_subs_add(struct sp_subs *subs, struct sp_view filter,
                        const struct sp_subscriber *subscriber, bool *existed)
{
    lock_all(subs);
    enum sp_err err = has_wildcard(filter) ? add_wildcard(subs, filter, subscriber, existed)
                                           : add_exact(subs, filter, subscriber, existed);
    unlock_all(subs);
    return err;
}

bool sp_subs_remove(struct sp_subs *subs, struct sp_view filter, uint16_t loop, sp_slot_tag session)
{
    bool removed = false;
    lock_all(subs);
    if (has_wildcard(filter)) {
        struct node *node = trie_find(subs, filter);
        if (node != NULL) {
            removed = entry_remove(&node->entry, loop, session);
            node_prune(subs, node);
        }
    } else {
        struct exact *exact = exact_find(subs, filter, sp_hash(subs->seed, filter));
        if (exact != NULL) {
            removed = entry_remove(&exact->entry, loop, session);
            exact_prune(subs, exact);
        }
    }
    unlock_all(subs);
    return removed;
}

/* ---- matching ---- */

struct matching {
    const struct sp_subs *subs;
    struct sp_matches *out;
    sp_slot_tag publisher;
    uint16_t loop;
    unsigned sources; /* entries that gave something */
    enum sp_err err;
};

static void collect(struct matching *m, const struct entry *entry)
{
    struct sp_matches *out = m->out;
    if (entry->count == 0) {
        return;
    }
    if (entry->count > out->cap - out->count) {
        size_t cap = (out->count + entry->count) * 2;
        struct sp_subscriber *items = realloc(out->items, cap * sizeof(*items));
        if (items == NULL) {
            m->err = SP_ERR_NOMEM;
            return;
        }
        out->items = items;
        out->cap = cap;
    }
    m->sources++;
    for (uint32_t i = 0; i < entry->count; i++) {
        const struct sp_subscriber *item = &entry->items[i];
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
            collect(m, &all->entry);
        }
    }
    struct sp_view level;
    if (!sp_topic_next(&rest, &level)) {
        collect(m, &node->entry);
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
    const struct exact *exact = exact_find(subs, topic, sp_hash(subs->seed, topic));
    if (exact != NULL) {
        collect(&m, &exact->entry);
    }
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
    size_t size = subs->exacts.count + subs->edges.count;
    unlock_all(subs);
    return size;
}
