/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/devices.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/crypto/midstates.h"
#include "gateway/keys/locked.h"
#include "gateway/log/log.h"
#include "libs/cose/cose.h"

#define HASH_NONFATAL_OOM          1
#define uthash_nonfatal_oom(entry) ((entry)->lost = true)
#include <uthash.h>
#include <utlist.h>

#define ENTRIES_PER_CHUNK 128U
#define HISTORY_BATCH     256U
#define REFUSAL_WINDOW_MS 60000U

struct entry {
    struct sp_keys_device device; /* first: entries and devices are cast into each other */
    uint64_t window_start_ms;     /* of counting refused tokens */
    uint32_t refused_in_window;
    bool lost; /* the hash table had no memory for it */
    bool unwritten;
    struct sp_device_history history; /* not written yet */
    struct entry *prev;               /* in the list of unwritten ones */
    struct entry *next;               /* the same, or of free ones */
    UT_hash_handle hh;
};

struct chunk {
    struct chunk *next;
    struct entry entries[ENTRIES_PER_CHUNK];
};

struct sp_devices {
    struct entry *by_id;
    struct entry *unwritten;
    struct entry *free;
    struct chunk *chunks;
    uint64_t version;
    bool loaded;
    struct sp_device_history batch[HISTORY_BATCH];
};

enum sp_err sp_devices_create(struct sp_devices **out)
{
    *out = calloc(1, sizeof(**out));
    return *out == NULL ? SP_ERR_NOMEM : SP_OK;
}

void sp_devices_destroy(struct sp_devices *t)
{
    if (t == NULL) {
        return;
    }
    HASH_CLEAR(hh, t->by_id);
    while (t->chunks != NULL) {
        struct chunk *chunk = t->chunks;
        t->chunks = chunk->next;
        sp_locked_free(chunk, sizeof(*chunk));
    }
    free(t);
}

static struct entry *take_entry(struct sp_devices *t)
{
    if (t->free == NULL) {
        struct chunk *chunk = sp_locked_alloc(sizeof(*chunk));
        if (chunk == NULL) {
            return NULL;
        }
        chunk->next = t->chunks;
        t->chunks = chunk;
        for (size_t i = 0; i < ENTRIES_PER_CHUNK; i++) {
            chunk->entries[i].next = t->free;
            t->free = &chunk->entries[i];
        }
    }
    struct entry *e = t->free;
    t->free = e->next;
    e->next = NULL;
    return e;
}

static void give_entry(struct sp_devices *t, struct entry *e)
{
    sp_wipe(e, sizeof(*e));
    e->next = t->free;
    t->free = e;
}

static struct entry *find_entry(struct sp_devices *t, struct sp_view id)
{
    struct entry *found = NULL;
    if (id.len > 0 && id.len <= SP_LINK_IDENTITY_MAX) {
        HASH_FIND(hh, t->by_id, id.ptr, (unsigned)id.len, found);
    }
    return found;
}

static void drop_entry(struct sp_devices *t, struct entry *e)
{
    if (e->unwritten) {
        DL_DELETE(t->unwritten, e);
    }
    HASH_DELETE(hh, t->by_id, e);
    give_entry(t, e);
}

static enum sp_err fill_entry(struct entry *e, const struct sp_device *row,
                              const struct sp_device_secrets *secrets)
{
    struct sp_keys_device *d = &e->device;
    d->row = *row;
    sp_copy(d->psk, secrets->psk, sizeof(d->psk));
    sp_copy(d->iak, secrets->iak, sizeof(d->iak));
    d->psk_len = secrets->psk_len;
    d->iak_len = secrets->iak_len;
    return sp_midstates_make((enum sp_hash)sp_cose_hmac_len((int64_t)row->iak_algorithm),
                             sp_view(d->iak, d->iak_len), &d->iak_midstates);
}

static enum sp_err add_entry(struct sp_devices *t, const struct sp_device *row,
                             const struct sp_device_secrets *secrets)
{
    struct entry *e = take_entry(t);
    if (e == NULL) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = fill_entry(e, row, secrets);
    if (err != SP_OK) {
        give_entry(t, e);
        return err;
    }
    HASH_ADD_KEYPTR(hh, t->by_id, e->device.row.id, (unsigned)strlen(e->device.row.id), e);
    if (e->lost) {
        give_entry(t, e);
        return SP_ERR_NOMEM;
    }
    return SP_OK;
}

/* --- reload --- */

struct reload {
    struct sp_devices *t;
    bool first;
    uint64_t heard;
    sp_devices_lost_fn lost;
    void *arg;
    struct sp_devices_reload *out;
};

/* Nothing has changed that an open connection would notice. */
static bool same(const struct sp_keys_device *d, const struct sp_device *row,
                 const struct sp_device_secrets *secrets)
{
    const struct sp_device_row *a = &d->row.row;
    const struct sp_device_row *b = &row->row;
    return strcmp(a->role, b->role) == 0 && a->attestation == b->attestation &&
           a->binding == b->binding && a->records == b->records && a->suites == b->suites &&
           strcmp(d->row.group, row->group) == 0 && d->row.iak_algorithm == row->iak_algorithm &&
           d->row.allow_no_software == row->allow_no_software && d->psk_len == secrets->psk_len &&
           d->iak_len == secrets->iak_len && sp_ct_equal(d->psk, secrets->psk, sizeof(d->psk)) &&
           sp_ct_equal(d->iak, secrets->iak, sizeof(d->iak));
}

static void lose(struct reload *r, const char *id, uint64_t version)
{
    r->lost(r->arg, sp_view_str(id), version);
}

static enum sp_err take_active(struct reload *r, struct entry *old, const struct sp_device *row,
                               const struct sp_device_secrets *secrets)
{
    if (old == NULL) {
        r->out->added++;
        if (r->first && row->version > r->heard) {
            lose(r, row->id, row->version);
        }
        return add_entry(r->t, row, secrets);
    }
    if (!same(&old->device, row, secrets)) {
        r->out->changed++;
        old->refused_in_window = 0;
        lose(r, row->id, row->version);
    }
    return fill_entry(old, row, secrets);
}

static enum sp_err take_device(void *arg, const struct sp_device *row,
                               const struct sp_device_secrets *secrets)
{
    struct reload *r = arg;
    struct entry *old = find_entry(r->t, sp_view_str(row->id));
    if (secrets == NULL) {
        r->out->unreadable++;
        sp_log_error(SP_EVENT("device_unreadable"), SP_F_STR("device", row->id),
                     SP_F_STR("reason", "its keys do not open under the master key"));
    } else if (row->state == SP_DEVICE_ACTIVE) {
        return take_active(r, old, row, secrets);
    }
    if (old != NULL) {
        r->out->removed++;
        drop_entry(r->t, old);
    }
    if (old != NULL || (r->first && row->version > r->heard)) {
        lose(r, row->id, 0);
    }
    return SP_OK;
}

static enum sp_err take_removal(void *arg, const char *id)
{
    struct reload *r = arg;
    struct entry *old = find_entry(r->t, sp_view_str(id));
    if (old != NULL) {
        r->out->removed++;
        drop_entry(r->t, old);
    }
    lose(r, id, 0);
    return SP_OK;
}

/* The first load takes every row, and of the removed names those that nobody has heard of. */
static enum sp_err take_first(struct reload *r, struct sp_registry *reg)
{
    struct sp_registry_changes devices = {.arg = r, .device = take_device};
    struct sp_registry_changes removals = {.arg = r, .removed = take_removal};
    uint64_t version = r->heard;
    SP_TRY(sp_registry_changes_since(reg, &r->t->version, &devices));
    SP_TRY(sp_registry_changes_since(reg, &version, &removals));
    r->t->loaded = true;
    return SP_OK;
}

enum sp_err sp_devices_reload(struct sp_devices *t, struct sp_registry *reg, uint64_t heard,
                              sp_devices_lost_fn lost, void *arg, struct sp_devices_reload *out)
{
    *out = (struct sp_devices_reload){0};
    struct reload r = {t, !t->loaded, heard, lost, arg, out};
    if (r.first) {
        return take_first(&r, reg);
    }
    struct sp_registry_changes changes = {&r, take_device, take_removal};
    return sp_registry_changes_since(reg, &t->version, &changes);
}

size_t sp_devices_count(const struct sp_devices *t)
{
    return HASH_COUNT(t->by_id);
}

uint64_t sp_devices_version(const struct sp_devices *t)
{
    return t->version;
}

struct sp_keys_device *sp_devices_find(struct sp_devices *t, struct sp_view id)
{
    struct entry *e = find_entry(t, id);
    return e == NULL ? NULL : &e->device;
}

/* --- verdicts --- */

bool sp_devices_may_attest(const struct sp_keys_device *d, uint32_t attempts, uint64_t now_ms)
{
    const struct entry *e = (const struct entry *)(const void *)d;
    return attempts == 0 || e->refused_in_window < attempts ||
           now_ms - e->window_start_ms >= REFUSAL_WINDOW_MS;
}

static void count_refusal(struct entry *e, uint64_t now_ms)
{
    if (e->refused_in_window == 0 || now_ms - e->window_start_ms >= REFUSAL_WINDOW_MS) {
        e->window_start_ms = now_ms;
        e->refused_in_window = 0;
    }
    e->refused_in_window++;
}

void sp_devices_note(struct sp_devices *t, struct sp_keys_device *d, enum sp_attest_check check,
                     uint64_t now_ms)
{
    struct entry *e = (struct entry *)(void *)d;
    e->history.last_check = check;
    e->history.last_time = (int64_t)time(NULL);
    if (check == SP_ATTEST_OK) {
        e->history.ok++;
    } else {
        e->history.refused++;
        count_refusal(e, now_ms);
    }
    if (!e->unwritten) {
        e->unwritten = true;
        DL_APPEND(t->unwritten, e);
    }
}

enum sp_err sp_devices_write_history(struct sp_devices *t, struct sp_registry *reg)
{
    size_t count = 0;
    for (struct entry *e = t->unwritten; e != NULL && count < HISTORY_BATCH; e = e->next) {
        t->batch[count] = e->history;
        sp_copy(t->batch[count].id, e->device.row.id, sizeof(e->device.row.id));
        count++;
    }
    if (count == 0) {
        return SP_OK;
    }
    SP_TRY(sp_registry_history_add(reg, t->batch, count));
    for (; count > 0; count--) {
        struct entry *e = t->unwritten;
        DL_DELETE(t->unwritten, e);
        e->unwritten = false;
        e->history = (struct sp_device_history){0};
    }
    return SP_OK;
}
