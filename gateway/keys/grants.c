/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/grants.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "libs/record/grant.h"

#include <uthash.h>

#define SERIAL_BATCH 256U

struct where {
    uint64_t tag;
    uint64_t loop;
};

struct session {
    struct where where;
    char id[SP_LINK_IDENTITY_MAX + 1];
    char group[SP_GROUP_NAME_MAX];
    bool group_key; /* it gets G, and every epoch */
    bool ready;
    bool unwritten; /* the serial is not in the registry yet */
    uint64_t serial;
    uint32_t pending;                /* epoch that was granted and not acknowledged; 0: none */
    uint32_t settled[SP_EPOCHS_MAX]; /* epochs that it has, or that were given up */
    size_t settled_count;
    unsigned tries;
    uint64_t due_ms;
    UT_hash_handle hh;
};

struct sp_grants {
    struct sp_registry *reg;
    struct sp_grants_ops ops;
    struct session *sessions;
    struct sp_grant_serial batch[SERIAL_BATCH];
};

enum sp_err sp_grants_create(struct sp_registry *reg, const struct sp_grants_ops *ops,
                             struct sp_grants **out)
{
    *out = calloc(1, sizeof(**out));
    if (*out == NULL) {
        return SP_ERR_NOMEM;
    }
    (*out)->reg = reg;
    (*out)->ops = *ops;
    return SP_OK;
}

static void drop(struct sp_grants *g, struct session *s)
{
    HASH_DELETE(hh, g->sessions, s);
    free(s);
}

void sp_grants_destroy(struct sp_grants *g)
{
    struct session *s;
    struct session *next;
    if (g == NULL) {
        return;
    }
    HASH_ITER(hh, g->sessions, s, next)
    {
        drop(g, s);
    }
    free(g);
}

size_t sp_grants_count(const struct sp_grants *g)
{
    return HASH_COUNT(g->sessions);
}

static struct session *find(struct sp_grants *g, unsigned loop, uint64_t tag)
{
    const struct where where = {tag, loop};
    struct session *s = NULL;
    HASH_FIND(hh, g->sessions, &where, sizeof(where), s);
    return s;
}

enum sp_err sp_grants_attested(struct sp_grants *g, unsigned loop, uint64_t tag,
                               const struct sp_device *device)
{
    struct session *s = find(g, loop, tag);
    bool again =
        s != NULL && strcmp(s->id, device->id) == 0 && strcmp(s->group, device->group) == 0;
    if (again || device->group[0] == '\0') {
        return SP_OK;
    }
    if (s != NULL) {
        drop(g, s);
    }
    s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return SP_ERR_NOMEM;
    }
    s->where = (struct where){tag, loop};
    sp_copy(s->id, device->id, sizeof(s->id));
    sp_copy(s->group, device->group, sizeof(s->group));
    s->group_key = sp_role_holds_group_key(device->row.role);
    HASH_ADD(hh, g->sessions, where, sizeof(s->where), s);
    return SP_OK;
}

void sp_grants_gone(struct sp_grants *g, unsigned loop, uint64_t tag)
{
    struct session *s = find(g, loop, tag);
    if (s != NULL) {
        drop(g, s);
    }
}

void sp_grants_loop_gone(struct sp_grants *g, unsigned loop)
{
    struct session *s;
    struct session *next;
    HASH_ITER(hh, g->sessions, s, next)
    {
        if (s->where.loop == loop) {
            drop(g, s);
        }
    }
}

void sp_grants_lost(struct sp_grants *g, struct sp_view id)
{
    struct session *s;
    struct session *next;
    HASH_ITER(hh, g->sessions, s, next)
    {
        if (sp_view_equal(sp_view_str(s->id), id)) {
            drop(g, s);
        }
    }
}

/* ---- what a session needs ---- */

static bool is_settled(const struct session *s, uint32_t epoch)
{
    for (size_t i = 0; i < s->settled_count; i++) {
        if (s->settled[i] == epoch) {
            return true;
        }
    }
    return false;
}

static void settle(struct session *s, uint32_t epoch)
{
    if (s->settled_count == SP_EPOCHS_MAX) { /* the oldest is not accepted any more */
        memmove(&s->settled[0], &s->settled[1], (SP_EPOCHS_MAX - 1) * sizeof(s->settled[0]));
        s->settled_count--;
    }
    s->settled[s->settled_count++] = epoch;
    s->pending = 0;
}

/* The next epoch to grant. The newest goes first: it is what new records are under. */
static const struct sp_group_epoch *needed(const struct session *s,
                                           const struct sp_keys_group *group, int64_t wall_ms)
{
    if (!s->group_key) {
        const struct sp_group_epoch *current = sp_groups_current(group);
        return current != NULL && !is_settled(s, current->epoch) ? current : NULL;
    }
    for (size_t i = group->count; i > 0; i--) {
        const struct sp_group_epoch *e = &group->epochs[i - 1];
        if (!is_settled(s, e->epoch) && sp_epoch_accepted(e, wall_ms)) {
            return e;
        }
    }
    return NULL;
}

static const struct sp_group_epoch *epoch_of(const struct sp_keys_group *group, uint32_t number)
{
    for (size_t i = 0; i < group->count; i++) {
        if (group->epochs[i].epoch == number) {
            return &group->epochs[i];
        }
    }
    return NULL;
}

/* ---- sending ---- */

static enum sp_err next_serial(struct sp_grants *g, struct session *s, int64_t wall_ms)
{
    if (s->serial == 0) {
        SP_TRY(sp_registry_serial_read(g->reg, s->id, &s->serial));
    }
    s->serial = s->serial + 1 > (uint64_t)wall_ms ? s->serial + 1 : (uint64_t)wall_ms;
    s->unwritten = true;
    return SP_OK;
}

static enum sp_err seal(struct sp_grants *g, const struct session *s,
                        const struct sp_keys_group *group, const struct sp_group_epoch *e,
                        struct sp_writer *out)
{
    uint8_t kek_bytes[SP_KEK_LEN];
    uint8_t record_key[SP_RECORD_KEY_MAX];
    uint8_t iv[SP_COSE_IV_LEN];
    size_t len = 0;
    const enum sp_cose_algorithm algorithm = (enum sp_cose_algorithm)group->group.algorithm;
    const struct sp_crypto_key group_key = {.bytes = SP_VIEW_ARRAY(e->key)};
    struct sp_grant grant = {
        .serial = s->serial,
        .group = sp_view_str(group->group.name),
        .epoch = e->epoch,
        .algorithm = algorithm,
        .kind = s->group_key ? SP_GRANT_GROUP_KEY : SP_GRANT_RECORD_KEY,
        .key = SP_VIEW_ARRAY(e->key),
        .has_not_after = e->until_ms != 0,
        .not_after = (uint64_t)(e->until_ms / 1000),
    };
    enum sp_err err = sp_registry_device_kek(g->reg, s->id, kek_bytes);
    if (err == SP_OK && !s->group_key) {
        err = sp_record_key(&group_key, algorithm, sp_view_str(s->id), record_key);
        grant.key = sp_view(record_key, sp_record_key_len(algorithm));
    }
    if (err == SP_OK) {
        err = sp_vault_random(iv, sizeof(iv));
    }
    if (err == SP_OK) {
        const struct sp_grant_kek kek = sp_grant_kek(kek_bytes);
        err = sp_grant_seal(&grant, &kek, SP_VIEW_ARRAY(iv), sp_view_str(s->id), out->ptr, out->cap,
                            &len);
    }
    sp_wipe(kek_bytes, sizeof(kek_bytes));
    sp_wipe(record_key, sizeof(record_key));
    out->used = len;
    return err;
}

static void alarm_about(const struct session *s, uint32_t epoch, const char *why)
{
    sp_metric_inc(SP_M_APP_KEY_ALARMS);
    sp_log_error(SP_EVENT("app_key_alarm"), SP_F_STR("device", s->id), SP_F_STR("group", s->group),
                 SP_F_INT("epoch", epoch), SP_F_STR("reason", why));
}

static void send_grant(struct sp_grants *g, struct session *s, const struct sp_keys_group *group,
                       const struct sp_group_epoch *e, struct sp_grants_now now)
{
    uint8_t bytes[SP_GRANT_MAX];
    struct sp_writer w;
    sp_writer_init(&w, bytes, sizeof(bytes));
    if (s->pending != e->epoch) {
        s->pending = e->epoch;
        s->tries = 0;
    }
    enum sp_err err = next_serial(g, s, now.wall_ms);
    if (err == SP_OK) {
        err = seal(g, s, group, e, &w);
    }
    if (err != SP_OK) { /* the registry is busy: at the next tick */
        s->due_ms = now.now_ms;
        if (err != SP_ERR_AGAIN) {
            alarm_about(s, e->epoch, sp_err_text(err));
            settle(s, e->epoch);
        }
        return;
    }
    s->tries++;
    s->due_ms = now.now_ms + SP_GRANT_WAIT_MS;
    sp_metric_inc(SP_M_GRANTS_SENT);
    g->ops.send(g->ops.arg, (unsigned)s->where.loop, s->where.tag, sp_writer_view(&w));
}

/* Send the next grant, or the last one again. */
static void serve(struct sp_grants *g, struct session *s, struct sp_groups *groups,
                  struct sp_grants_now now)
{
    const struct sp_keys_group *group = sp_groups_find(groups, s->group);
    if (!s->ready || group == NULL) {
        return;
    }
    if (s->pending != 0) {
        const struct sp_group_epoch *e = epoch_of(group, s->pending);
        if (e == NULL) {
            s->pending = 0;
        } else if (now.now_ms < s->due_ms) {
            return;
        } else if (s->tries < SP_GRANT_TRIES) {
            send_grant(g, s, group, e, now);
            return;
        } else {
            alarm_about(s, s->pending, "no acknowledgement after three grants");
            settle(s, s->pending);
        }
    }
    const struct sp_group_epoch *next = needed(s, group, now.wall_ms);
    if (next != NULL) {
        send_grant(g, s, group, next, now);
    }
}

void sp_grants_ready(struct sp_grants *g, unsigned loop, uint64_t tag, struct sp_groups *groups,
                     struct sp_grants_now now)
{
    struct session *s = find(g, loop, tag);
    if (s != NULL && !s->ready) {
        s->ready = true;
        serve(g, s, groups, now);
    }
}

/* ---- answers ---- */

static void rotate_for(struct sp_grants *g, const struct session *s, uint32_t epoch,
                       const char *why)
{
    alarm_about(s, epoch, why);
    enum sp_err err = sp_registry_group_rotate(g->reg, s->group, true);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("rotation_failed"), SP_F_STR("group", s->group), SP_F_ERR(err));
    }
}

static enum sp_err open_ack(struct sp_grants *g, const struct session *s, struct sp_view bytes,
                            struct sp_grant_ack *ack)
{
    uint8_t kek_bytes[SP_KEK_LEN];
    SP_TRY(sp_registry_device_kek(g->reg, s->id, kek_bytes));
    const struct sp_grant_kek kek = sp_grant_kek(kek_bytes);
    enum sp_err err = sp_ack_open(bytes, &kek, sp_view_str(s->id), ack);
    sp_wipe(kek_bytes, sizeof(kek_bytes));
    return err;
}

static void obey(struct sp_grants *g, struct session *s, const struct sp_grant_ack *ack,
                 uint64_t mark)
{
    bool has_it = ack->status == SP_GRANT_IN_USE || ack->status == SP_GRANT_HAD_IT;
    sp_metric_inc(SP_M_GRANTS_ACKED);
    if (has_it && !s->group_key && ack->next_counter <= mark) {
        settle(s, ack->epoch);
        rotate_for(g, s, ack->epoch, "the device's counter went back: it lost its store");
    } else if (has_it) {
        settle(s, ack->epoch);
    } else if (ack->status == SP_GRANT_STALE) {
        s->due_ms = 0; /* once more, with a higher serial, until the tries are used up */
    } else {
        alarm_about(s, ack->epoch,
                    ack->status == SP_GRANT_DIFFERS ? "the device has another key for that epoch"
                                                    : "the device has no room for the key");
        settle(s, ack->epoch);
    }
}

void sp_grants_ack(struct sp_grants *g, unsigned loop, uint64_t tag, struct sp_view bytes,
                   uint64_t mark, struct sp_groups *groups, struct sp_grants_now now)
{
    struct session *s = find(g, loop, tag);
    struct sp_grant_ack ack;
    if (s == NULL) {
        return;
    }
    enum sp_err err = open_ack(g, s, bytes, &ack);
    if (err == SP_ERR_AGAIN) {
        return; /* the grant is repeated, and so is the answer */
    }
    bool ours = err == SP_OK && s->pending != 0 && ack.epoch == s->pending &&
                ack.serial == s->serial && sp_view_equal(ack.group, sp_view_str(s->group));
    if (!ours) {
        sp_metric_inc(SP_M_GRANT_ACKS_REFUSED);
        sp_log_warn(
            SP_EVENT("grant_ack_refused"), SP_F_STR("device", s->id),
            SP_F_STR("reason", err == SP_OK ? "not the grant that is open" : sp_err_text(err)));
        return;
    }
    obey(g, s, &ack, mark);
    serve(g, s, groups, now);
}

/* ---- time ---- */

static void write_serials(struct sp_grants *g)
{
    struct session *s;
    struct session *next;
    size_t count = 0;
    HASH_ITER(hh, g->sessions, s, next)
    {
        if (s->unwritten && count < SERIAL_BATCH) {
            sp_copy(g->batch[count].id, s->id, sizeof(s->id));
            g->batch[count++].serial = s->serial;
        }
    }
    if (count == 0 || sp_registry_serials_write(g->reg, g->batch, count) != SP_OK) {
        return;
    }
    size_t written = 0;
    HASH_ITER(hh, g->sessions, s, next)
    {
        if (s->unwritten && written < count) {
            s->unwritten = false;
            written++;
        }
    }
}

/* Every monitor that is here has the newest epoch, or was given up. */
static bool monitors_have(const struct sp_grants *g, const struct sp_keys_group *group,
                          uint32_t epoch)
{
    for (const struct session *s = g->sessions; s != NULL; s = s->hh.next) {
        if (s->ready && s->group_key && strcmp(s->group, group->group.name) == 0 &&
            !is_settled(s, epoch)) {
            return false;
        }
    }
    return true;
}

static void bring_into_use(struct sp_grants *g, struct sp_keys_group *group, uint64_t now_ms)
{
    const struct sp_group_epoch *waiting = sp_groups_waiting(group);
    if (waiting == NULL ||
        (now_ms - group->seen_ms < SP_GRANT_WAIT_MS && !monitors_have(g, group, waiting->epoch))) {
        return;
    }
    if (sp_registry_group_activate(g->reg, group->group.name, waiting->epoch) == SP_OK) {
        sp_metric_inc(SP_M_ROTATIONS);
        sp_log_info(SP_EVENT("epoch_in_use"), SP_F_STR("group", group->group.name),
                    SP_F_INT("epoch", waiting->epoch), SP_F_INT("grace_s", group->group.grace_s));
    }
}

void sp_grants_tick(struct sp_grants *g, struct sp_groups *groups, struct sp_grants_now now)
{
    struct session *s;
    struct session *next;
    HASH_ITER(hh, g->sessions, s, next)
    {
        serve(g, s, groups, now);
    }
    for (size_t i = 0; i < sp_groups_count(groups); i++) {
        bring_into_use(g, sp_groups_at(groups, i), now.now_ms);
    }
    write_serials(g);
}
