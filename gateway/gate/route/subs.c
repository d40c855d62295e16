/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/subs.h"

#include "gateway/gate/core/table.h"
#include "gateway/slab/slab.h"
#include "libs/mqtt/topic.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

/* Subscriptions on a filter that has, or had, more than one. */
struct many {
    uint32_t count;
    uint32_t cap;
    struct sp_subscriber items[];
};

enum crowd { CROWD_NONE, CROWD_ONE, CROWD_MANY };

struct sp_filter {
    struct sp_table_node link; /* first: found by casting back */
    uint16_t len;
    uint8_t crowd; /* enum crowd */
    union {
        struct sp_subscriber one; /* CROWD_ONE */
        struct many *many;        /* CROWD_MANY; malloc'ed */
    };
    uint8_t text[];
};
_Static_assert(SP_REF_IS_POINTER || offsetof(struct sp_filter, text) == 24,
               "what an idle device costs");

/* One level of wildcard filters; `#` and `+` are levels like any other. */
struct node {
    struct sp_table_node link; /* first: found by casting back */
    struct node *parent;
    struct sp_filter *filter; /* which ends here; NULL: none */
    uint32_t children;
    uint16_t len;
    uint8_t level[];
};

/* A shared subscription: its filter, findable by what stands behind the group's name. */
struct group {
    struct sp_table_node link; /* first: found by casting back */
    struct sp_filter *filter;
    sp_slot_tag tag;
    atomic_uint turn; /* whose it is; loops that publish share it */
    uint16_t inner_at;
};

/* Alone on its cache lines, or loops would meet there after all. */
struct loop_lock {
    _Alignas(128) pthread_mutex_t mutex;
};

struct sp_subs {
    struct loop_lock *locks; /* one per loop */
    uint16_t loops;
    uint64_t seed;           /* sp_hash_seed() */
    struct sp_table filters; /* by text */
    struct sp_table edges;
    struct node *root;      /* not in the table */
    struct sp_table groups; /* by the inner filter */
    struct sp_slots shares; /* groups, by tag */
    struct node *shared;    /* like root, for inner filters; a node's filter is any of its groups */
};

static struct sp_slabs slabs = SP_SLABS_INIT;
static struct sp_slab group_slab = SP_SLAB_INIT(sizeof(struct group));

void sp_matches_deinit(struct sp_matches *matches)
{
    free(matches->items);
    free(matches->ids);
    *matches = (struct sp_matches){.count = 0};
}

struct sp_view sp_filter_text(const struct sp_filter *filter)
{
    return sp_view(filter->text, filter->len);
}

bool sp_filter_shared(const struct sp_filter *filter)
{
    return sp_view_starts(sp_filter_text(filter), SP_VIEW_LIT("$share/"));
}

/* ---- the subscriptions on a filter ---- */

static struct sp_subscriber *items_of(struct sp_filter *filter)
{
    return filter->crowd == CROWD_MANY ? filter->many->items : &filter->one;
}

static uint32_t count_of(const struct sp_filter *filter)
{
    return filter->crowd == CROWD_MANY ? filter->many->count : filter->crowd;
}

static struct sp_subscriber *subscriber_find(struct sp_filter *filter, uint16_t loop,
                                             sp_slot_tag session)
{
    struct sp_subscriber *items = items_of(filter);
    uint32_t count = count_of(filter);
    for (uint32_t i = 0; i < count; i++) {
        if (items[i].session == session && items[i].loop == loop) {
            return &items[i];
        }
    }
    return NULL;
}

/* Where the next one goes, counted already; NULL: no memory. */
static struct sp_subscriber *one_more(struct sp_filter *filter)
{
    struct many *many = filter->crowd == CROWD_MANY ? filter->many : NULL;
    if (filter->crowd == CROWD_NONE) {
        filter->crowd = CROWD_ONE;
        return &filter->one;
    }
    if (many == NULL || many->count == many->cap) {
        uint32_t cap = many == NULL ? 4 : many->cap * 2;
        struct many *grown = realloc(many, sizeof(*grown) + cap * sizeof(grown->items[0]));
        if (grown == NULL) {
            return NULL;
        }
        if (many == NULL) {
            grown->count = 1;
            grown->items[0] = filter->one;
        }
        grown->cap = cap;
        filter->many = grown;
        filter->crowd = CROWD_MANY;
        many = grown;
    }
    return &many->items[many->count++];
}

static void one_less(struct sp_filter *filter, struct sp_subscriber *which)
{
    if (filter->crowd == CROWD_MANY) {
        *which = filter->many->items[--filter->many->count];
    } else {
        filter->crowd = CROWD_NONE;
    }
}

static enum sp_err subscriber_add(struct sp_filter *filter, const struct sp_subscriber *subscriber,
                                  bool *existed)
{
    struct sp_subscriber *found = subscriber_find(filter, subscriber->loop, subscriber->session);
    *existed = found != NULL;
    found = found == NULL ? one_more(filter) : found;
    if (found == NULL) {
        return SP_ERR_NOMEM;
    }
    *found = *subscriber;
    return SP_OK;
}

/* ---- the trie ---- */

static void node_free(struct node *node)
{
    sp_slabs_give(&slabs, node, offsetof(struct node, level) + node->len);
}

static uint64_t edge_hash(uint64_t seed, const struct node *parent, struct sp_view level)
{
    return sp_hash(seed ^ (uint64_t)(uintptr_t)parent, level);
}

static uint64_t node_hash(const struct sp_table_node *link)
{
    const struct node *node = (const struct node *)link;
    return edge_hash(sp_hash_seed(), node->parent, sp_view(node->level, node->len));
}

static struct node *child_find(const struct sp_subs *subs, const struct node *parent,
                               struct sp_view level)
{
    if (parent->children == 0) {
        return NULL;
    }
    struct sp_table_node *link = sp_table_find(&subs->edges, edge_hash(subs->seed, parent, level));
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
    node = sp_slabs_take(&slabs, offsetof(struct node, level) + level.len);
    if (node == NULL) {
        return NULL;
    }
    node->parent = parent;
    node->len = (uint16_t)level.len;
    sp_copy(node->level, level.ptr, level.len);
    if (sp_table_insert(&subs->edges, &node->link, node_hash) != SP_OK) {
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

static struct node *trie_make(struct sp_subs *subs, struct node *root, struct sp_view filter)
{
    struct node *node = root;
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

/* Where a filter ends in the trie; NULL: it has not been put there. */
static struct node *trie_find(const struct sp_subs *subs, struct node *root, struct sp_view filter)
{
    struct node *node = root;
    struct sp_view level;
    while (node != NULL && sp_topic_next(&filter, &level)) {
        node = child_find(subs, node, level);
    }
    return node;
}

static bool has_wildcard(struct sp_view filter)
{
    return memchr(filter.ptr, '#', filter.len) != NULL ||
           memchr(filter.ptr, '+', filter.len) != NULL;
}

/* ---- filters ---- */

static uint64_t filter_hash(const struct sp_table_node *link)
{
    return sp_hash(sp_hash_seed(), sp_filter_text((const struct sp_filter *)link));
}

static struct sp_filter *filter_find(const struct sp_subs *subs, struct sp_view text)
{
    struct sp_table_node *link = sp_table_find(&subs->filters, sp_hash(subs->seed, text));
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
    if (filter->crowd == CROWD_MANY) {
        free(filter->many);
    }
    sp_slabs_give(&slabs, filter, offsetof(struct sp_filter, text) + filter->len);
}

/* ---- groups ---- */

static struct sp_view group_inner(const struct group *group)
{
    return sp_view_from(sp_filter_text(group->filter), group->inner_at);
}

static uint64_t group_hash(const struct sp_table_node *link)
{
    return sp_hash(sp_hash_seed(), group_inner((const struct group *)link));
}

/* The first group with that inner filter at or behind a link of its chain. */
static struct group *group_from(struct sp_table_node *link, struct sp_view inner)
{
    while (link != NULL && !sp_view_equal(group_inner((struct group *)link), inner)) {
        link = sp_table_next(link);
    }
    return (struct group *)link;
}

static struct group *group_first(const struct sp_subs *subs, struct sp_view inner)
{
    return group_from(sp_table_find(&subs->groups, sp_hash(subs->seed, inner)), inner);
}

static struct group *group_next(const struct group *group)
{
    return group_from(sp_table_next(&group->link), group_inner(group));
}

static struct sp_view inner_of(const struct sp_filter *filter)
{
    struct sp_view name;
    struct sp_view inner = {NULL, 0};
    return sp_topic_share(sp_filter_text(filter), &name, &inner) == SP_OK
               ? inner
               : (struct sp_view){NULL, 0};
}

static struct group *group_of(const struct sp_subs *subs, const struct sp_filter *filter)
{
    struct group *group = group_first(subs, inner_of(filter));
    while (group != NULL && group->filter != filter) {
        group = group_next(group);
    }
    return group;
}

static enum sp_err group_make(struct sp_subs *subs, struct sp_filter *filter)
{
    struct sp_view inner = inner_of(filter);
    struct group *group = sp_slab_take(&group_slab);
    if (group == NULL) {
        return SP_ERR_NOMEM;
    }
    group->filter = filter;
    group->inner_at = (uint16_t)(filter->len - inner.len);
    enum sp_err err = sp_slots_put(&subs->shares, group, &group->tag);
    if (err == SP_OK) {
        err = sp_table_insert(&subs->groups, &group->link, group_hash);
        if (err != SP_OK) {
            sp_slots_remove(&subs->shares, group->tag);
        }
    }
    if (err != SP_OK) {
        sp_slab_give(&group_slab, group);
    }
    return err;
}

static void group_remove(struct sp_subs *subs, const struct sp_filter *filter)
{
    struct group *group = group_of(subs, filter);
    if (group != NULL) {
        sp_table_remove(&subs->groups, &group->link);
        sp_slots_remove(&subs->shares, group->tag);
        sp_slab_give(&group_slab, group);
    }
}

/* Take a filter that nobody subscribes to any more out of the index. */
static void filter_prune(struct sp_subs *subs, struct sp_filter *filter)
{
    if (count_of(filter) > 0) {
        return;
    }
    struct sp_view text = sp_filter_text(filter);
    struct node *root = subs->root;
    struct group *other = NULL;
    if (sp_filter_shared(filter)) {
        group_remove(subs, filter);
        text = inner_of(filter);
        root = subs->shared;
        other = group_first(subs, text);
    }
    struct node *node = has_wildcard(text) ? trie_find(subs, root, text) : NULL;
    if (node != NULL) {
        node->filter = other == NULL ? NULL : other->filter;
        node_prune(subs, node);
    }
    sp_table_remove(&subs->filters, &filter->link);
    filter_free(filter);
}

/* Where matching looks for it, beside the table of texts. */
static enum sp_err place(struct sp_subs *subs, struct sp_filter *filter)
{
    struct sp_view text = sp_filter_text(filter);
    struct node *root = subs->root;
    if (sp_filter_shared(filter)) {
        SP_TRY(group_make(subs, filter));
        text = inner_of(filter);
        root = subs->shared;
    }
    if (has_wildcard(text)) {
        struct node *node = trie_make(subs, root, text);
        if (node == NULL) {
            return SP_ERR_NOMEM;
        }
        node->filter = filter;
    }
    return SP_OK;
}

static struct sp_filter *filter_make(struct sp_subs *subs, struct sp_view text)
{
    struct sp_filter *filter = filter_find(subs, text);
    if (filter != NULL || text.len > UINT16_MAX) {
        return filter;
    }
    filter = sp_slabs_take(&slabs, offsetof(struct sp_filter, text) + text.len);
    if (filter == NULL) {
        return NULL;
    }
    filter->len = (uint16_t)text.len;
    sp_copy(filter->text, text.ptr, text.len);
    if (sp_table_insert(&subs->filters, &filter->link, filter_hash) != SP_OK) {
        filter_free(filter);
        return NULL;
    }
    if (place(subs, filter) != SP_OK) {
        filter_prune(subs, filter);
        return NULL;
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
    subs->shared = calloc(1, sizeof(*subs->shared));
    subs->locks = aligned_alloc(_Alignof(struct loop_lock), loops * sizeof(struct loop_lock));
    if (subs->root == NULL || subs->shared == NULL || subs->locks == NULL) {
        free(subs->root);
        free(subs->shared);
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
    while ((link = sp_table_any(&subs->groups)) != NULL) {
        sp_table_remove(&subs->groups, link);
        sp_slab_give(&group_slab, link);
    }
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
    sp_table_deinit(&subs->groups);
    sp_slots_deinit(&subs->shares);
    free(subs->root);
    free(subs->shared);
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
    struct sp_filter *found = filter_find(subs, filter);
    if (found != NULL && subscriber_find(found, loop, session) == NULL) {
        found = NULL;
    }
    pthread_mutex_unlock(&subs->locks[loop].mutex);
    return found;
}

sp_slot_tag sp_subs_share(struct sp_subs *subs, const struct sp_filter *filter, uint16_t loop)
{
    pthread_mutex_lock(&subs->locks[loop].mutex);
    const struct group *group = group_of(subs, filter);
    sp_slot_tag tag = group != NULL ? group->tag : 0;
    pthread_mutex_unlock(&subs->locks[loop].mutex);
    return tag;
}

void sp_subs_remove(struct sp_subs *subs, struct sp_filter *filter, uint16_t loop,
                    sp_slot_tag session)
{
    lock_all(subs);
    struct sp_subscriber *found = subscriber_find(filter, loop, session);
    if (found != NULL) {
        one_less(filter, found);
        filter_prune(subs, filter);
    }
    unlock_all(subs);
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

void sp_subs_mark(struct sp_subs *subs, struct sp_filter *filter, uint16_t loop,
                  sp_slot_tag session, uint8_t option, bool on)
{
    lock_all(subs);
    struct sp_subscriber *found = subscriber_find(filter, loop, session);
    if (found != NULL) {
        found->options = (uint8_t)((found->options & ~option) | (on ? option : 0));
    }
    unlock_all(subs);
}

/* ---- matching ---- */

struct matching {
    const struct sp_subs *subs;
    struct sp_matches *out;
    sp_slot_tag publisher;
    uint16_t loop;
    bool shared;      /* walking the filters behind groups */
    bool ids;         /* somebody wants an identifier */
    unsigned sources; /* filters that gave something */
    enum sp_err err;
};

static enum sp_err matches_room(struct sp_matches *out, size_t more)
{
    if (more <= out->cap - out->count) {
        return SP_OK;
    }
    size_t cap = (out->count + more) * 2;
    struct sp_match *items = realloc(out->items, cap * sizeof(*items));
    if (items != NULL) {
        out->items = items;
    }
    uint32_t *ids = items == NULL ? NULL : realloc(out->ids, cap * sizeof(*ids));
    if (ids == NULL) {
        return SP_ERR_NOMEM;
    }
    out->ids = ids;
    out->cap = cap;
    return SP_OK;
}

/* `ids_at` holds the identifier itself until fold(). */
static void take(struct matching *m, const struct sp_subscriber *from, sp_slot_tag share)
{
    m->ids = m->ids || from->id != 0;
    m->out->items[m->out->count++] = (struct sp_match){
        .session = from->session,
        .share = share,
        .ids_at = from->id,
        .loop = from->loop,
        .qos = from->qos,
        .options = from->options,
    };
}

static void collect(struct matching *m, struct sp_filter *filter)
{
    uint32_t count = count_of(filter);
    if (matches_room(m->out, count) != SP_OK) {
        m->err = SP_ERR_NOMEM;
        return;
    }
    m->sources++;
    const struct sp_subscriber *items = items_of(filter);
    for (uint32_t i = 0; i < count; i++) {
        const struct sp_subscriber *item = &items[i];
        bool own = item->session == m->publisher && item->loop == m->loop;
        if (!own || (item->options & SP_SUB_NO_LOCAL) == 0) {
            take(m, item, 0);
        }
    }
}

/* Whose turn it is; those who are away only when all are. NULL: there is only the one that is left out. */
static const struct sp_subscriber *next_member(struct group *group, uint16_t loop,
                                               sp_slot_tag except)
{
    const struct sp_subscriber *items = items_of(group->filter);
    const struct sp_subscriber *away = NULL;
    uint32_t count = count_of(group->filter);
    uint32_t turn = atomic_fetch_add_explicit(&group->turn, 1, memory_order_relaxed);
    for (uint32_t i = 0; i < count; i++) {
        const struct sp_subscriber *item = &items[(turn + i) % count];
        if (item->session == except && item->loop == loop) {
            continue;
        }
        if ((item->options & SP_SUB_AWAY) == 0) {
            return item;
        }
        away = away == NULL ? item : away;
    }
    return away;
}

/* One member of every group with that inner filter. */
static void collect_groups(struct matching *m, struct sp_view inner)
{
    for (struct group *g = group_first(m->subs, inner); g != NULL; g = group_next(g)) {
        if (matches_room(m->out, 1) != SP_OK) {
            m->err = SP_ERR_NOMEM;
            return;
        }
        m->sources++;
        take(m, next_member(g, 0, 0), g->tag);
    }
}

static void collect_node(struct matching *m, const struct node *node)
{
    if (node->filter == NULL) {
        return;
    }
    if (m->shared) {
        collect_groups(m, inner_of(node->filter));
    } else {
        collect(m, node->filter);
    }
}

/* Depth = levels of the longest filter that matches so far, which the limit on filters bounds. */
static void walk(struct matching *m, const struct node *node, struct sp_view rest, bool wildcards)
{
    if (wildcards) {
        /* `#` stands for what follows, and for nothing at all (MQTT 5, 4.7.1.2). */
        const struct node *all = child_find(m->subs, node, SP_VIEW_LIT("#"));
        if (all != NULL) {
            collect_node(m, all);
        }
    }
    struct sp_view level;
    if (!sp_topic_next(&rest, &level)) {
        collect_node(m, node);
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
    const struct sp_match *a = left;
    const struct sp_match *b = right;
    if (a->loop != b->loop) {
        return a->loop < b->loop ? -1 : 1;
    }
    if (a->session != b->session) {
        return a->session < b->session ? -1 : 1;
    }
    if (a->share != b->share) {
        return a->share < b->share ? -1 : 1;
    }
    return 0;
}

/* Make one of the entries of one session; what a share gives is apart from the session's own (MQTT 5, 4.8.2). */
static void fold(struct sp_matches *out)
{
    size_t kept = 0;
    uint32_t ids = 0;
    for (size_t i = 0; i < out->count; i++) {
        struct sp_match item = out->items[i];
        struct sp_match *last = kept == 0 ? NULL : &out->items[kept - 1];
        uint32_t id = item.ids_at;
        if (last == NULL || by_session(last, &item) != 0) {
            last = &out->items[kept++];
            *last = item;
            last->ids_at = ids;
        }
        last->qos = last->qos > item.qos ? last->qos : item.qos;
        last->options |= item.options;
        if (id != 0) {
            out->ids[ids++] = id;
            last->id_count++;
        }
    }
    out->count = kept;
}

enum sp_err sp_subs_match(struct sp_subs *subs, struct sp_view topic, uint16_t loop,
                          sp_slot_tag publisher, struct sp_matches *out)
{
    struct matching m = {.subs = subs, .out = out, .publisher = publisher, .loop = loop};
    /* A leading wildcard does not match a name that starts with `$` (MQTT 5, 4.7.2). */
    bool wildcards = topic.len > 0 && topic.ptr[0] != '$';
    out->count = 0;
    pthread_mutex_lock(&subs->locks[loop].mutex);
    struct sp_filter *exact = filter_find(subs, topic);
    if (exact != NULL && (wildcards || !sp_filter_shared(exact))) {
        collect(&m, exact);
    }
    if (subs->root->children > 0) {
        walk(&m, subs->root, topic, wildcards);
    }
    if (subs->groups.count > 0) {
        collect_groups(&m, topic);
        m.shared = true;
        walk(&m, subs->shared, topic, wildcards);
    }
    pthread_mutex_unlock(&subs->locks[loop].mutex);
    if (m.sources > 1 && out->count > 1) {
        qsort(out->items, out->count, sizeof(out->items[0]), by_session);
        fold(out);
    } else if (m.ids) {
        fold(out);
    }
    return m.err;
}

bool sp_subs_pick(struct sp_subs *subs, sp_slot_tag share, uint16_t loop, sp_slot_tag except,
                  struct sp_match *out, uint32_t *id)
{
    const struct sp_subscriber *member = NULL;
    pthread_mutex_lock(&subs->locks[loop].mutex);
    struct group *group = sp_slots_find(&subs->shares, share);
    if (group != NULL) {
        member = next_member(group, loop, except);
    }
    if (member != NULL) {
        *out = (struct sp_match){.session = member->session,
                                 .share = share,
                                 .loop = member->loop,
                                 .qos = member->qos,
                                 .options = member->options};
        *id = member->id;
    }
    pthread_mutex_unlock(&subs->locks[loop].mutex);
    return member != NULL;
}

size_t sp_subs_size(struct sp_subs *subs)
{
    lock_all(subs);
    size_t size = subs->filters.count + subs->edges.count + subs->groups.count;
    unlock_all(subs);
    return size;
}
