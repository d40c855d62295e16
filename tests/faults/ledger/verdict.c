/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/faults/ledger/verdict.h"

#include <stdlib.h>
#include <string.h>

#define DEVICES_MAX 65536U
#define NUMBERS_MAX (1U << 28)
#define ACKED       1U
#define REFUSED     2U
#define DELIVERED   4U
#define ARRIVED     8U
#define DEAD        16U
#define EXPIRED     32U
#define CONDEMNED   64U /* the cloud refused it for good */

struct message {
    uint16_t sent; /* times */
    uint16_t sequences;
    uint8_t state;
};

struct device {
    struct message *messages; /* by number - 1 */
    uint64_t cap;
    uint64_t highest;  /* of the first arrivals */
    uint64_t taken;    /* the highest that the cloud took */
    uint64_t sequence; /* the last on `connection` */
    uint32_t connection;
};

/* Who has a gateway sequence. */
struct name {
    uint32_t device;
    uint32_t number; /* 0: nobody */
    bool refused;    /* the last answer was no: it comes again, whenever */
};

struct sp_verdict {
    uint64_t bound;
    struct device *devices;
    uint32_t device_cap;
    struct name *names; /* by sequence */
    uint64_t name_cap;
    uint32_t *repeats; /* by connection */
    uint64_t repeat_cap;
    struct sp_findings found;
};

/* Room for `index`, what is new zeroed. */
static bool reserve(void **array, uint64_t *cap, uint64_t index, size_t size)
{
    if (index < *cap) {
        return true;
    }
    uint64_t grown = *cap == 0 ? 1024 : *cap;
    while (grown <= index) {
        grown *= 2;
    }
    uint8_t *bytes = realloc(*array, grown * size);
    if (bytes == NULL) {
        return false;
    }
    memset(bytes + *cap * size, 0, (grown - *cap) * size);
    *array = bytes;
    *cap = grown;
    return true;
}

enum sp_err sp_verdict_create(uint64_t bound, struct sp_verdict **out)
{
    struct sp_verdict *v = calloc(1, sizeof(*v));
    *out = v;
    if (v == NULL) {
        return SP_ERR_NOMEM;
    }
    v->bound = bound;
    v->devices = calloc(DEVICES_MAX, sizeof(*v->devices));
    if (v->devices == NULL) {
        free(v);
        *out = NULL;
        return SP_ERR_NOMEM;
    }
    return SP_OK;
}

void sp_verdict_destroy(struct sp_verdict *v)
{
    if (v == NULL) {
        return;
    }
    for (uint32_t i = 0; i < DEVICES_MAX; i++) {
        free(v->devices[i].messages);
    }
    free(v->devices);
    free(v->names);
    free(v->repeats);
    free(v);
}

static struct message *message_of(struct sp_verdict *v, const struct sp_entry *e)
{
    struct device *d = &v->devices[e->device];
    void *array = d->messages;
    bool room = reserve(&array, &d->cap, e->number - 1, sizeof(*d->messages));
    d->messages = array;
    return room ? &d->messages[e->number - 1] : NULL;
}

static struct name *name_of(struct sp_verdict *v, uint64_t sequence)
{
    void *array = v->names;
    bool room = reserve(&array, &v->name_cap, sequence, sizeof(*v->names));
    v->names = array;
    return room ? &v->names[sequence] : NULL;
}

static enum sp_err count_repeat(struct sp_verdict *v, uint32_t connection)
{
    void *array = v->repeats;
    bool room = reserve(&array, &v->repeat_cap, connection, sizeof(*v->repeats));
    v->repeats = array;
    if (!room) {
        return SP_ERR_NOMEM;
    }
    v->found.repeats++;
    v->repeats[connection]++;
    return SP_OK;
}

/* One arrival with a gateway sequence. */
static enum sp_err look_at_name(struct sp_verdict *v, const struct sp_entry *e, struct message *m)
{
    struct device *d = &v->devices[e->device];
    struct name *n = name_of(v, e->sequence);
    if (n == NULL) {
        return SP_ERR_NOMEM;
    }
    bool excused = n->refused;
    if (n->number == 0) {
        *n = (struct name){.device = e->device, .number = (uint32_t)e->number};
        m->sequences++;
        v->found.copies += m->sequences > 1;
    } else if (n->device != e->device || n->number != e->number) {
        v->found.renamed++;
    } else if (!excused) {
        SP_TRY(count_repeat(v, e->connection));
    }
    if (d->connection == e->connection && e->sequence <= d->sequence && !excused) {
        v->found.backwards++;
    }
    n->refused = false;
    d->sequence =
        d->connection == e->connection && d->sequence > e->sequence ? d->sequence : e->sequence;
    d->connection = e->connection;
    return SP_OK;
}

static enum sp_err arrive(struct sp_verdict *v, const struct sp_entry *e, struct message *m)
{
    struct device *d = &v->devices[e->device];
    v->found.altered += e->code != 0;
    v->found.invented += m->sent == 0;
    if ((m->state & ARRIVED) == 0) {
        v->found.disorder += e->number < d->highest;
        d->highest = e->number > d->highest ? e->number : d->highest;
    }
    m->state |= ARRIVED;
    return e->sequence == 0 ? SP_OK : look_at_name(v, e, m);
}

/* Answers that no repetition changes (docs/delivery.md, D9), and SP_ENTRY_HUNG_UP. */
static bool for_good(uint8_t code)
{
    static const uint8_t codes[] = {0x87, 0x90, 0x95, 0x99, 0x9A, 0x9B, SP_ENTRY_HUNG_UP};
    return memchr(codes, code, sizeof(codes)) != NULL;
}

static void answer(struct sp_verdict *v, const struct sp_entry *e, struct message *m)
{
    if (e->code < 0x80) {
        struct device *d = &v->devices[e->device];
        /* a copy of what was refused for good may be taken, whenever it comes */
        v->found.overtaken += (m->state & (DELIVERED | CONDEMNED)) == 0 && e->number < d->taken;
        d->taken = e->number > d->taken ? e->number : d->taken;
        m->state |= DELIVERED;
        return;
    }
    m->state = (uint8_t)(m->state | (for_good(e->code) ? CONDEMNED : 0U));
    if (e->sequence != 0 && e->sequence < v->name_cap) {
        v->names[e->sequence].refused = true;
    }
}

enum sp_err sp_verdict_add(struct sp_verdict *v, const struct sp_entry *entry)
{
    if (entry->kind == SP_ENTRY_LINK) {
        v->found.connections++;
        return SP_OK;
    }
    if (entry->device >= DEVICES_MAX || entry->number == 0 || entry->number > NUMBERS_MAX ||
        entry->sequence > NUMBERS_MAX * 4ULL) {
        return SP_ERR_MALFORMED;
    }
    struct message *m = message_of(v, entry);
    if (m == NULL) {
        return SP_ERR_NOMEM;
    }
    switch ((enum sp_entry_kind)entry->kind) {
    case SP_ENTRY_SENT:
        m->sent = (uint16_t)(m->sent < UINT16_MAX ? m->sent + 1 : UINT16_MAX);
        return SP_OK;
    case SP_ENTRY_ACKED:
        m->state |= entry->code < 0x80 ? ACKED : REFUSED;
        return SP_OK;
    case SP_ENTRY_GOT:
        return arrive(v, entry, m);
    case SP_ENTRY_ANSWERED:
        answer(v, entry, m);
        return SP_OK;
    case SP_ENTRY_DEAD:
        m->state |= DEAD;
        return SP_OK;
    case SP_ENTRY_EXPIRED:
        m->state |= EXPIRED;
        return SP_OK;
    case SP_ENTRY_LINK:
    case SP_ENTRY_KINDS:
        break;
    }
    return SP_ERR_MALFORMED;
}

static bool is_lost(const struct message *m)
{
    return (m->state & ACKED) != 0 && (m->state & (DELIVERED | DEAD | EXPIRED)) == 0;
}

static void count(struct sp_findings *f, const struct message *m)
{
    f->sent += m->sent > 0;
    f->acked += (m->state & ACKED) != 0;
    f->refused += (m->state & (REFUSED | ACKED)) == REFUSED;
    f->delivered += (m->state & DELIVERED) != 0;
    f->dead += (m->state & DEAD) != 0;
    f->unexplained += (m->state & (DEAD | CONDEMNED)) == DEAD;
    f->expired += (m->state & EXPIRED) != 0;
    f->lost += is_lost(m);
    f->renamed += m->sequences > m->sent;
}

struct sp_findings sp_verdict_find(struct sp_verdict *v)
{
    struct sp_findings f = v->found;
    for (uint32_t i = 0; i < DEVICES_MAX; i++) {
        for (uint64_t k = 0; k < v->devices[i].cap; k++) {
            count(&f, &v->devices[i].messages[k]);
        }
    }
    for (uint64_t i = 0; i < v->repeat_cap; i++) {
        f.most = v->repeats[i] > f.most ? v->repeats[i] : f.most;
        f.swamped += v->repeats[i] > v->bound;
    }
    return f;
}

bool sp_findings_good(const struct sp_findings *f)
{
    return (f->lost | f->invented | f->altered | f->disorder | f->overtaken | f->backwards |
            f->renamed | f->swamped) == 0;
}

void sp_verdict_lost(const struct sp_verdict *v, sp_verdict_visit_fn fn, void *arg)
{
    for (uint32_t i = 0; i < DEVICES_MAX; i++) {
        for (uint64_t k = 0; k < v->devices[i].cap; k++) {
            if (is_lost(&v->devices[i].messages[k])) {
                fn(arg, i, k + 1);
            }
        }
    }
}
