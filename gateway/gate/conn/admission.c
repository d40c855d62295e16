/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/admission.h"

#include <string.h>
#include <sys/socket.h>

#include "gateway/metrics/metrics.h"
#include "gateway/slab/slab.h"

#define SOURCES_MAX 65536U   /* remembered without a connection */
#define KNOWN_MS    3600000U /* how long somebody is known without a connection */
#define SOON_MS     50U      /* before a crowd is looked at again */
#define KNOWN_SHARE 4U       /* one place of so many goes to strangers first */

/* One address, while it has connections, or its bucket is not full again, or somebody of it was admitted lately. */
struct sp_source {
    struct sp_table_node node; /* first: found entries are cast back */
    struct sp_source *next;    /* in a ring, or idle */
    struct sp_source *previous;
    struct sp_line queue; /* READY */
    uint64_t full_us;     /* when its bucket is full again */
    uint64_t keep_ms;     /* idle: forgotten then */
    uint32_t open;        /* connections */
    uint32_t waiting;
    uint32_t in_service;
    bool known;   /* somebody of it was admitted */
    bool in_ring; /* of known or strangers, as `known` said then */
    uint8_t ring;
    uint8_t family;
    uint8_t address[16]; /* IPv6: its first 8 bytes */
};

static struct sp_slab visitors = SP_SLAB_INIT(sizeof(struct sp_visitor));
static struct sp_slab source_slab = SP_SLAB_INIT(sizeof(struct sp_source));

/* ---- lists ---- */

static void line_put(struct sp_line *line, struct sp_visitor *v)
{
    v->next = NULL;
    v->previous = line->last;
    if (line->last != NULL) {
        line->last->next = v;
    } else {
        line->first = v;
    }
    line->last = v;
}

static void line_drop(struct sp_line *line, struct sp_visitor *v)
{
    if (v->previous != NULL) {
        v->previous->next = v->next;
    } else {
        line->first = v->next;
    }
    if (v->next != NULL) {
        v->next->previous = v->previous;
    } else {
        line->last = v->previous;
    }
}

static void ring_put(struct sp_ring *ring, struct sp_source *s)
{
    s->next = NULL;
    s->previous = ring->last;
    if (ring->last != NULL) {
        ring->last->next = s;
    } else {
        ring->first = s;
    }
    ring->last = s;
}

static void ring_drop(struct sp_ring *ring, struct sp_source *s)
{
    if (s->previous != NULL) {
        s->previous->next = s->next;
    } else {
        ring->first = s->next;
    }
    if (s->next != NULL) {
        s->next->previous = s->previous;
    } else {
        ring->last = s->previous;
    }
}

/* ---- sources ---- */

static void key_of(const struct sp_peer *peer, uint8_t *key)
{
    memset(key, 0, 16);
    memcpy(key, peer->address, peer->family == AF_INET6 ? 8 : 4);
}

static uint64_t hash_of(unsigned family, const uint8_t *key)
{
    return sp_hash(sp_hash_seed() ^ family, sp_view(key, 16));
}

static uint64_t hash_of_source(const struct sp_table_node *node)
{
    const struct sp_source *s = (const struct sp_source *)(const void *)node;
    return hash_of(s->family, s->address);
}

static struct sp_source *find(const struct sp_admission *a, const struct sp_peer *peer,
                              const uint8_t *key)
{
    struct sp_table_node *node = sp_table_find(&a->sources, hash_of((uint8_t)peer->family, key));
    for (; node != NULL; node = sp_table_next(node)) {
        struct sp_source *s = (struct sp_source *)(void *)node;
        if (s->family == (uint8_t)peer->family && memcmp(s->address, key, 16) == 0) {
            return s;
        }
    }
    return NULL;
}

static void forget(struct sp_admission *a, struct sp_source *s)
{
    ring_drop(&a->idle, s);
    sp_table_remove(&a->sources, &s->node);
    sp_slab_give(&source_slab, s);
}

/* Idle ones whose time has come; at most two, so that each newcomer pays for itself. */
static void forget_some(struct sp_admission *a, uint64_t now_ms)
{
    for (int i = 0; i < 2 && a->idle.first != NULL; i++) {
        struct sp_source *oldest = a->idle.first;
        if (oldest->keep_ms <= now_ms || a->sources.count > SOURCES_MAX) {
            forget(a, oldest);
        } else if (!oldest->known) {
            return;
        } else {
            ring_drop(&a->idle, oldest); /* looked at again when all others were */
            ring_put(&a->idle, oldest);
        }
    }
}

/* The source of an address, made if need be; NULL: no memory. */
static struct sp_source *get(struct sp_admission *a, const struct sp_peer *peer)
{
    uint8_t key[16];
    key_of(peer, key);
    struct sp_source *s = find(a, peer, key);
    if (s != NULL) {
        return s;
    }
    s = sp_slab_take(&source_slab);
    if (s == NULL) {
        return NULL;
    }
    s->family = (uint8_t)peer->family;
    memcpy(s->address, key, sizeof(key));
    if (sp_table_insert(&a->sources, &s->node, hash_of_source) != SP_OK) {
        sp_slab_give(&source_slab, s);
        return NULL;
    }
    ring_put(&a->idle, s);
    return s;
}

static void open_one(struct sp_admission *a, struct sp_source *s)
{
    if (s->open++ == 0) {
        ring_drop(&a->idle, s);
    }
}

static void close_one(struct sp_admission *a, struct sp_source *s, uint64_t now_ms)
{
    if (--s->open == 0) {
        uint64_t full_ms = s->full_us / 1000 + 1;
        s->keep_ms = s->known ? now_ms + KNOWN_MS : now_ms;
        s->keep_ms = full_ms > s->keep_ms ? full_ms : s->keep_ms;
        ring_put(&a->idle, s);
    }
}

/* Microseconds between two handshakes at the allowed rate. */
static uint64_t pace_us(const struct sp_limits_config *limits)
{
    return 1000000U / limits->connects_per_second;
}

/* When its bucket has a token. */
static uint64_t token_us(const struct sp_source *s, const struct sp_limits_config *limits)
{
    uint64_t depth = pace_us(limits) * (limits->connects_burst - 1U);
    return s->full_us > depth ? s->full_us - depth : 0;
}

static void take_token(struct sp_source *s, const struct sp_limits_config *limits, uint64_t now_us)
{
    s->full_us = (s->full_us > now_us ? s->full_us : now_us) + pace_us(limits);
}

/* In a ring is who has somebody READY and a place left of its own. */
static void place(struct sp_admission *a, struct sp_source *s,
                  const struct sp_limits_config *limits)
{
    bool wants = s->queue.first != NULL && s->in_service < limits->handshakes_per_address;
    if (wants && !s->in_ring) {
        s->ring = s->known;
        s->in_ring = true;
        ring_put(&a->rings[s->ring], s);
    } else if (!wants && s->in_ring) {
        s->in_ring = false;
        ring_drop(&a->rings[s->ring], s);
    }
}

/* ---- visitors ---- */

static void count(struct sp_admission *a, struct sp_visitor *v, int by)
{
    uint32_t step = (uint32_t)by;
    if (v->state == SP_VISITOR_SERVED) {
        a->in_service += step;
        v->source->in_service += step;
        sp_metric_add(SP_M_HANDSHAKES, by);
    } else {
        a->waiting += step;
        v->source->waiting += step;
        a->ready += v->state == SP_VISITOR_READY ? step : 0;
        sp_metric_add(SP_M_CONNECTIONS_WAITING, by);
    }
}

static struct sp_line *line_of(struct sp_admission *a, struct sp_visitor *v)
{
    return v->state == SP_VISITOR_SILENT   ? &a->silent
           : v->state == SP_VISITOR_SERVED ? &a->served
                                           : &v->source->queue;
}

/* Among all, and counted. */
static void come(struct sp_admission *a, struct sp_visitor *v)
{
    LIST_INSERT_HEAD(&a->all, v, among_all);
    count(a, v, 1);
}

static void go(struct sp_admission *a, struct sp_visitor *v)
{
    LIST_REMOVE(v, among_all);
    count(a, v, -1);
}

static void set_state(struct sp_admission *a, struct sp_visitor *v, enum sp_visitor_state state)
{
    line_drop(line_of(a, v), v);
    count(a, v, -1);
    v->state = (uint8_t)state;
    count(a, v, 1);
    line_put(line_of(a, v), v);
}

enum sp_err sp_admission_enter(struct sp_admission *a, const struct sp_limits_config *limits,
                               const struct sp_peer *peer, uint64_t now_ms, struct sp_visitor **out,
                               enum sp_shed *why)
{
    forget_some(a, now_ms);
    struct sp_source *s = get(a, peer);
    struct sp_visitor *v = s == NULL ? NULL : sp_slab_take(&visitors);
    if (v == NULL) {
        *why = SP_SHED_MEMORY;
        return SP_ERR_NOMEM;
    }
    if (s->open >= limits->connections_per_address || s->waiting >= limits->waiting_per_address ||
        a->waiting >= limits->waiting) {
        *why = s->open >= limits->connections_per_address  ? SP_SHED_ADDRESS
               : s->waiting >= limits->waiting_per_address ? SP_SHED_WAITING_ADDRESS
                                                           : SP_SHED_WAITING;
        sp_slab_give(&visitors, v);
        return SP_ERR_LIMIT;
    }
    open_one(a, s);
    v->source = s;
    v->since_ms = now_ms;
    v->state = SP_VISITOR_SILENT;
    come(a, v);
    line_put(&a->silent, v);
    *out = v;
    return SP_OK;
}

enum sp_err sp_admission_adopt(struct sp_admission *a, const struct sp_peer *peer,
                               struct sp_visitor *v)
{
    struct sp_source *s = get(a, peer);
    if (s == NULL) {
        return SP_ERR_NOMEM;
    }
    open_one(a, s);
    v->source = s;
    v->state = SP_VISITOR_SERVED;
    come(a, v);
    line_put(&a->served, v);
    return SP_OK;
}

enum sp_err sp_admission_admitted(struct sp_admission *a, const struct sp_peer *peer)
{
    struct sp_source *s = get(a, peer);
    if (s == NULL) {
        return SP_ERR_NOMEM;
    }
    open_one(a, s);
    s->known = true;
    return SP_OK;
}

void sp_admission_ready(struct sp_admission *a, struct sp_visitor *v,
                        const struct sp_limits_config *limits)
{
    set_state(a, v, SP_VISITOR_READY);
    place(a, v->source, limits);
}

/* The first of a ring that has a token; those that have none go to the end. */
static struct sp_source *turn_ring(struct sp_ring *ring, const struct sp_limits_config *limits,
                                   uint64_t now_us)
{
    struct sp_source *begin = ring->first;
    struct sp_source *s = begin;
    while (s != NULL && token_us(s, limits) > now_us) {
        ring_drop(ring, s);
        ring_put(ring, s);
        s = ring->first == begin ? NULL : ring->first;
    }
    return s;
}

struct sp_visitor *sp_admission_next(struct sp_admission *a, const struct sp_limits_config *limits,
                                     uint64_t now_ms)
{
    if (a->ready == 0 || a->in_service >= limits->handshakes) {
        return NULL;
    }
    uint64_t now_us = now_ms * 1000U;
    unsigned first = a->turn++ % KNOWN_SHARE == 0 ? 0 : 1;
    struct sp_source *s = turn_ring(&a->rings[first], limits, now_us);
    if (s == NULL) {
        s = turn_ring(&a->rings[1 - first], limits, now_us);
    }
    if (s == NULL) {
        return NULL;
    }
    struct sp_visitor *v = s->queue.first;
    take_token(s, limits, now_us);
    ring_drop(&a->rings[s->ring], s);
    s->in_ring = false;
    set_state(a, v, SP_VISITOR_SERVED);
    v->since_ms = now_ms;
    place(a, s, limits);
    return v;
}

uint64_t sp_admission_due(const struct sp_admission *a, const struct sp_limits_config *limits,
                          uint64_t now_ms)
{
    uint64_t due = UINT64_MAX;
    if (a->ready == 0) {
        return due;
    }
    if (a->in_service >= limits->handshakes) {
        due = a->served.first->since_ms + limits->crowded_timeout_ms;
        return due < now_ms + SOON_MS ? now_ms + SOON_MS : due;
    }
    for (int i = 0; i < 2; i++) {
        for (const struct sp_source *s = a->rings[i].first; s != NULL; s = s->next) {
            uint64_t at = token_us(s, limits) / 1000U + 1U;
            due = at < due ? at : due;
        }
    }
    return due;
}

struct sp_visitor *sp_admission_silent(const struct sp_admission *a)
{
    return a->silent.first;
}

struct sp_visitor *sp_admission_slow(const struct sp_admission *a, uint64_t before_ms,
                                     bool (*may)(const struct sp_visitor *visitor))
{
    struct sp_visitor *known = NULL;
    for (struct sp_visitor *v = a->served.first; v != NULL; v = v->next) {
        if (v->since_ms >= before_ms || !may(v)) {
            continue;
        }
        if (!v->source->known) {
            return v;
        }
        known = known == NULL ? v : known;
    }
    return known;
}

static void take_out(struct sp_admission *a, const struct sp_limits_config *limits,
                     struct sp_visitor *v)
{
    line_drop(line_of(a, v), v);
    go(a, v);
    place(a, v->source, limits);
}

void sp_admission_detach(struct sp_admission *a, const struct sp_limits_config *limits,
                         struct sp_visitor *v, uint64_t now_ms)
{
    take_out(a, limits, v);
    close_one(a, v->source, now_ms);
    v->source = NULL;
}

void sp_admission_leave(struct sp_admission *a, const struct sp_limits_config *limits,
                        struct sp_visitor *v, bool admitted)
{
    take_out(a, limits, v);
    v->source->known = v->source->known || admitted;
    sp_slab_give(&visitors, v);
}

void sp_visitor_free(struct sp_visitor *v)
{
    sp_slab_give(&visitors, v);
}

void sp_admission_gone(struct sp_admission *a, const struct sp_peer *peer, uint64_t now_ms)
{
    uint8_t key[16];
    key_of(peer, key);
    struct sp_source *s = find(a, peer, key);
    if (s != NULL && s->open > 0) {
        close_one(a, s, now_ms);
    }
}

void sp_admission_deinit(struct sp_admission *a)
{
    while (a->idle.first != NULL) {
        forget(a, a->idle.first);
    }
    sp_table_deinit(&a->sources);
}
