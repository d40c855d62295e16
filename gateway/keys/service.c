/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/service.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/keys/appraisal.h"
#include "gateway/keys/devices.h"
#include "gateway/keys/grants.h"
#include "gateway/keys/nonces.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"

#define NONCES_MAX               (1U << 20)
#define IDENTITY_ON_THE_WIRE_MAX 65535U
#define HISTORY_INTERVAL_MS      1000U
#define FINISH_BATCHES           400U

struct link {
    struct sp_keys_service *service;
    struct sp_channel *channel; /* NULL: not served */
    struct sp_nonces *nonces;
    bool broken; /* something could not be told: the loop must start anew */
};

/* What of the configuration counts here. */
struct rules {
    unsigned lifecycles;
    bool allow_no_software;
    uint32_t attempts;
    uint32_t answer_timeout_ms;
    uint32_t preauth_timeout_ms;
    size_t nonces_per_loop;
};

struct sp_keys_service {
    struct sp_registry *reg;
    struct sp_devices *devices;
    struct sp_reference_set *references;
    uint64_t reference_version;
    struct sp_groups *groups;
    struct sp_grants *grants;
    uint64_t group_version;
    size_t group_count;             /* that the loops were told of */
    int64_t groups_due_ms;          /* wall clock: when the next epoch ends; 0: none does */
    struct sp_registry_heard heard; /* as it is in the registry */
    struct rules rules;
    uint64_t now_ms;
    uint64_t history_due_ms;
    bool behind;      /* the registry has changes that could not be read yet */
    bool complained;  /* that it cannot be read was logged */
    bool tell_policy; /* the loops are yet to be told of new references or rules */
    struct sp_registry_heard told;
    struct link *links;
    unsigned link_count;
};

/* --- to all loops --- */

static void broadcast(struct sp_keys_service *s, uint16_t type, uint64_t tag, struct sp_view body)
{
    for (unsigned loop = 0; loop < s->link_count; loop++) {
        struct link *link = &s->links[loop];
        if (link->channel != NULL && sp_channel_send(link->channel, type, tag, &body, 1) != SP_OK) {
            link->broken = true;
        }
    }
}

static void tell_lost(void *arg, struct sp_view id, uint64_t version)
{
    struct sp_keys_service *s = arg;
    sp_grants_lost(s->grants, id);
    broadcast(arg, SP_MSG_REVOKED, version, id);
}

/* --- the registry --- */

static enum sp_err reload_devices(struct sp_keys_service *s)
{
    struct sp_devices_reload r;
    enum sp_err err = sp_devices_reload(s->devices, s->reg, s->heard.devices, tell_lost, s, &r);
    sp_metric_set(SP_M_DEVICES, (int64_t)sp_devices_count(s->devices));
    if (r.added + r.changed + r.removed + r.unreadable > 0) {
        sp_log_info(SP_EVENT("devices_changed"), SP_F_INT("added", r.added),
                    SP_F_INT("changed", r.changed), SP_F_INT("removed", r.removed),
                    SP_F_INT("unreadable", r.unreadable),
                    SP_F_INT("devices", sp_devices_count(s->devices)));
    }
    return err;
}

static enum sp_err reload_references(struct sp_keys_service *s)
{
    uint64_t version = 0;
    struct sp_reference_set *fresh = NULL;
    SP_TRY(sp_registry_reference_version(s->reg, &version));
    if (s->references != NULL && version == s->reference_version) {
        return SP_OK;
    }
    SP_TRY(sp_reference_set_load(s->reg, &fresh));
    sp_reference_set_destroy(s->references);
    s->references = fresh;
    s->reference_version = version;
    s->tell_policy |= version != s->heard.references;
    sp_metric_set(SP_M_REFERENCES, (int64_t)sp_reference_set_count(fresh));
    sp_log_info(SP_EVENT("references_changed"),
                SP_F_INT("references", sp_reference_set_count(fresh)));
    return SP_OK;
}

/* --- groups --- */

static int64_t wall_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static struct sp_grants_now time_of(const struct sp_keys_service *s)
{
    return (struct sp_grants_now){s->now_ms, wall_ms()};
}

/* Only what the gate has to know: no key of a group that it must not read. */
static void fill_epoch(const struct sp_keys_group *group, const struct sp_group_epoch *e,
                       struct sp_msg_epoch *out)
{
    memset(out, 0, sizeof(*out));
    sp_copy(out->group, group->group.name, sizeof(out->group));
    out->mode = group->group.mode;
    out->algorithm = group->group.algorithm;
    out->epoch = e->epoch;
    out->until_ms = (uint64_t)e->until_ms;
    if (group->group.mode == SP_GROUP_OPEN) {
        sp_copy(out->key, e->key, sizeof(out->key));
    }
}

static struct sp_msg_epoch *gate_table(struct sp_keys_service *s, size_t *count)
{
    size_t total = 0;
    size_t used = 0;
    for (size_t i = 0; i < sp_groups_count(s->groups); i++) {
        total += sp_groups_at(s->groups, i)->count;
    }
    struct sp_msg_epoch *table = malloc((total + 1) * sizeof(*table));
    for (size_t i = 0; table != NULL && i < sp_groups_count(s->groups); i++) {
        const struct sp_keys_group *g = sp_groups_at(s->groups, i);
        for (size_t n = 0; n < g->count; n++) {
            fill_epoch(g, &g->epochs[n], &table[used++]);
        }
    }
    *count = used;
    return table;
}

/* `only` < 0: to every loop. */
static void tell_groups(struct sp_keys_service *s, int only)
{
    size_t count = 0;
    struct sp_msg_epoch *table = gate_table(s, &count);
    for (unsigned loop = 0; loop < s->link_count; loop++) {
        struct link *link = &s->links[loop];
        const struct sp_view body = sp_view(table, count * sizeof(*table));
        if (link->channel == NULL || (only >= 0 && loop != (unsigned)only)) {
            continue;
        }
        link->broken |=
            table == NULL || sp_channel_send(link->channel, SP_MSG_GROUPS, 0, &body, 1) != SP_OK;
    }
    if (table != NULL) {
        sp_wipe(table, count * sizeof(*table));
        free(table);
    }
}

/* When an epoch's grace period ends, its key is dropped here and in the gate. */
static int64_t next_end(struct sp_keys_service *s)
{
    int64_t next = 0;
    for (size_t i = 0; i < sp_groups_count(s->groups); i++) {
        const struct sp_keys_group *g = sp_groups_at(s->groups, i);
        for (size_t n = 0; n < g->count; n++) {
            int64_t until = g->epochs[n].until_ms;
            next = until != 0 && (next == 0 || until < next) ? until : next;
        }
    }
    return next;
}

static enum sp_err reload_groups(struct sp_keys_service *s)
{
    uint64_t version = 0;
    struct sp_groups *fresh = NULL;
    int64_t wall = wall_ms();
    SP_TRY(sp_registry_group_version(s->reg, &version));
    bool ended = s->groups_due_ms != 0 && wall >= s->groups_due_ms;
    if (s->groups != NULL && version == s->group_version && !ended) {
        return SP_OK;
    }
    SP_TRY(sp_groups_load(s->reg, wall, &fresh));
    sp_groups_inherit(fresh, s->groups, s->now_ms);
    sp_groups_destroy(s->groups);
    s->groups = fresh;
    s->group_version = version;
    s->groups_due_ms = next_end(s);
    if (sp_groups_count(s->groups) + s->group_count > 0) {
        tell_groups(s, -1);
    }
    s->group_count = sp_groups_count(s->groups);
    return SP_OK;
}

static void send_grant(void *arg, unsigned loop, uint64_t tag, struct sp_view grant)
{
    struct sp_keys_service *s = arg;
    struct link *link = &s->links[loop];
    if (link->channel != NULL &&
        sp_channel_send(link->channel, SP_MSG_GRANT, tag, &grant, 1) != SP_OK) {
        link->broken = true;
    }
}

static enum sp_err reload(struct sp_keys_service *s)
{
    SP_TRY(reload_devices(s));
    SP_TRY(reload_references(s));
    return reload_groups(s);
}

/* Until it can be read again the old state counts. */
static void complain(struct sp_keys_service *s, enum sp_err err)
{
    if (err != SP_ERR_AGAIN && !s->complained) {
        s->complained = true;
        sp_log_error(SP_EVENT("registry_unreadable"), SP_F_ERR(err),
                     SP_F_STR("reason", sp_registry_fault(s->reg)));
    }
}

static void follow_registry(struct sp_keys_service *s)
{
    bool changed = false;
    enum sp_err err = sp_registry_poll(s->reg, &changed);
    s->behind |= changed;
    if (err == SP_OK && s->behind) {
        err = reload(s);
        s->behind = err != SP_OK;
    }
    if (err != SP_OK) {
        complain(s, err);
    } else {
        s->complained = false;
    }
}

static bool all_told(struct sp_keys_service *s)
{
    for (unsigned loop = 0; loop < s->link_count; loop++) {
        if (s->links[loop].channel != NULL && sp_channel_pending(s->links[loop].channel) > 0) {
            return false;
        }
    }
    return true;
}

/* A keys process that is started after this one was killed need not tell again what the gate has read. */
static void remember_heard(struct sp_keys_service *s)
{
    if (memcmp(&s->told, &s->heard, sizeof(s->told)) != 0 && all_told(s) &&
        sp_registry_heard_write(s->reg, &s->told) == SP_OK) {
        s->heard = s->told;
    }
}

void sp_keys_service_tick(struct sp_keys_service *s, uint64_t now_ms)
{
    s->now_ms = now_ms;
    remember_heard(s); /* of earlier ticks: what is told below waits for its flush */
    follow_registry(s);
    if (s->tell_policy) {
        s->tell_policy = false;
        broadcast(s, SP_MSG_POLICY_CHANGED, 0, (struct sp_view){NULL, 0});
    }
    if (s->groups_due_ms != 0 && wall_ms() >= s->groups_due_ms && reload_groups(s) != SP_OK) {
        s->behind = true;
    }
    sp_grants_tick(s->grants, s->groups, time_of(s));
    if (reload_groups(s) !=
        SP_OK) { /* what the tick has brought into use; polling sees others' changes only */
        s->behind = true;
    }
    if (!s->behind) {
        s->told = (struct sp_registry_heard){sp_devices_version(s->devices), s->reference_version};
    }
    if (now_ms >= s->history_due_ms) {
        s->history_due_ms = now_ms + HISTORY_INTERVAL_MS;
        enum sp_err err = sp_devices_write_history(s->devices, s->reg);
        if (err != SP_OK) {
            complain(s, err);
        }
    }
}

/* --- requests --- */

static struct sp_view identity_of(const uint8_t *bytes, uint8_t len)
{
    return sp_view(bytes, len);
}

static void open_nonce(struct link *link, uint64_t tag, const struct sp_keys_device *d,
                       const uint8_t *nonce)
{
    const struct sp_keys_service *s = link->service;
    uint32_t answer_ms = d->row.row.answer_timeout_ms != 0 ? d->row.row.answer_timeout_ms
                                                           : s->rules.answer_timeout_ms;
    /* The gate counts the answer's time from sending, which comes after the handshake. */
    struct sp_open_nonce open = {
        .expires_ms = s->now_ms + s->rules.preauth_timeout_ms + answer_ms,
        .identity_len = (uint8_t)strlen(d->row.id),
    };
    sp_copy(open.nonce, nonce, SP_LINK_NONCE_LEN);
    sp_copy(open.identity, d->row.id, open.identity_len);
    sp_nonces_open(link->nonces, tag, &open);
}

static bool make_nonce(struct link *link, uint64_t tag, const struct sp_keys_device *d,
                       uint8_t *nonce)
{
    const struct sp_keys_service *s = link->service;
    if (!sp_devices_may_attest(d, s->rules.attempts, s->now_ms)) {
        sp_nonces_forget(link->nonces, tag);
        return false;
    }
    open_nonce(link, tag, d, nonce);
    return true;
}

static void fill_known(struct link *link, uint64_t tag, const struct sp_keys_device *d,
                       struct sp_msg_psk_answer *answer)
{
    answer->known = 1;
    answer->row = d->row.row;
    answer->row.version = d->row.version;
    sp_copy(answer->group, d->row.group, sizeof(answer->group));
    answer->psk_len = (uint8_t)d->psk_len;
    sp_copy(answer->psk, d->psk, sizeof(answer->psk));
    answer->nonce_ok = make_nonce(link, tag, d, answer->nonce);
}

/*
 * Known or not: a look at the registry (under a microsecond while nothing has changed, so that a device can connect right
 * after it was added), a lookup, a decoy, a nonce, one answer of one size.
 */
static enum sp_err on_psk(struct link *link, uint64_t tag, struct sp_view identity)
{
    struct sp_keys_service *s = link->service;
    if (identity.len > IDENTITY_ON_THE_WIRE_MAX) {
        return SP_ERR_MALFORMED;
    }
    follow_registry(s);
    struct sp_msg_psk_answer answer;
    memset(&answer, 0, sizeof(answer)); /* padding too: it goes to another process */
    const struct sp_keys_device *d = sp_devices_find(s->devices, identity);
    sp_vault_decoy(sp_registry_vault(s->reg), identity, answer.psk);
    SP_TRY(sp_vault_nonce(answer.nonce, sizeof(answer.nonce)));
    answer.psk_len = SP_VAULT_DECOY_LEN;
    if (d != NULL) {
        fill_known(link, tag, d, &answer);
    } else {
        sp_nonces_forget(link->nonces, tag);
    }
    struct sp_view body = sp_view(&answer, sizeof(answer));
    enum sp_err err = sp_channel_send(link->channel, SP_MSG_PSK_ANSWER, tag, &body, 1);
    sp_wipe(&answer, sizeof(answer));
    return err;
}

static enum sp_err on_nonce(struct link *link, uint64_t tag, struct sp_view body)
{
    struct sp_msg_nonce ask;
    if (body.len != sizeof(ask)) {
        return SP_ERR_MALFORMED;
    }
    sp_copy(&ask, body.ptr, sizeof(ask));
    if (ask.identity_len > SP_LINK_IDENTITY_MAX) {
        return SP_ERR_MALFORMED;
    }
    struct sp_msg_nonce_answer answer;
    memset(&answer, 0, sizeof(answer));
    const struct sp_keys_device *d =
        sp_devices_find(link->service->devices, identity_of(ask.identity, ask.identity_len));
    SP_TRY(sp_vault_nonce(answer.nonce, sizeof(answer.nonce)));
    if (d != NULL) {
        answer.ok = make_nonce(link, tag, d, answer.nonce);
    } else {
        sp_nonces_forget(link->nonces, tag);
    }
    struct sp_view parts = sp_view(&answer, sizeof(answer));
    return sp_channel_send(link->channel, SP_MSG_NONCE_ANSWER, tag, &parts, 1);
}

static void set_verdict(struct sp_attest_verdict *verdict, enum sp_attest_check check,
                        const char *detail)
{
    *verdict = (struct sp_attest_verdict){.check = check};
    sp_copy(verdict->detail, detail, strlen(detail) + 1);
}

/*
 * The challenge that the token has to show. Without an open nonce of this device, or without the exporter that its
 * binding needs, it is one that nobody knows: the token is looked at all the same and fails at `nonce` at the latest.
 */
static enum sp_err expected_challenge(const struct sp_keys_device *d,
                                      const struct sp_msg_appraise *ask,
                                      const struct sp_open_nonce *open, uint8_t *challenge)
{
    struct sp_view identity = identity_of(ask->identity, ask->identity_len);
    enum sp_link_binding binding = (enum sp_link_binding)d->row.row.binding;
    bool ours =
        open != NULL && sp_view_equal(identity_of(open->identity, open->identity_len), identity);
    if (!ours || (binding == SP_LINK_BINDING_TLS && ask->has_exporter != 1)) {
        return sp_vault_random(challenge, SP_LINK_CHALLENGE_LEN);
    }
    return sp_link_challenge(binding, SP_VIEW_ARRAY(open->nonce), SP_VIEW_ARRAY(ask->exporter),
                             identity, challenge);
}

static enum sp_err appraise(struct sp_keys_service *s, const struct sp_msg_appraise *ask,
                            struct sp_view token, const struct sp_open_nonce *open,
                            struct sp_attest_verdict *verdict)
{
    struct sp_keys_device *d =
        sp_devices_find(s->devices, identity_of(ask->identity, ask->identity_len));
    if (d == NULL) {
        set_verdict(verdict, SP_ATTEST_NONCE, "no open challenge");
        return SP_OK;
    }
    uint8_t challenge[SP_LINK_CHALLENGE_LEN];
    SP_TRY(expected_challenge(d, ask, open, challenge));
    struct sp_appraisal a = {.device = d,
                             .references = s->references,
                             .token = token,
                             .challenge = SP_VIEW_ARRAY(challenge),
                             .lifecycles = s->rules.lifecycles,
                             .allow_no_software = s->rules.allow_no_software};
    sp_appraise(&a, verdict);
    if (verdict->check == SP_ATTEST_OK && (open == NULL || s->now_ms > open->expires_ms)) {
        set_verdict(verdict, SP_ATTEST_TIMEOUT, "the answer came too late");
    }
    sp_devices_note(s->devices, d, verdict->check, s->now_ms);
    return SP_OK;
}

static unsigned loop_of(const struct link *link)
{
    return (unsigned)(link - link->service->links);
}

/* Whose verdict is ok may be granted app keys on this connection; whose is not, no longer. */
static enum sp_err note_session(struct link *link, uint64_t tag, const struct sp_msg_appraise *ask,
                                bool ok)
{
    struct sp_keys_service *s = link->service;
    const struct sp_keys_device *d =
        sp_devices_find(s->devices, identity_of(ask->identity, ask->identity_len));
    if (!ok || d == NULL) {
        sp_grants_gone(s->grants, loop_of(link), tag);
        return SP_OK;
    }
    return sp_grants_attested(s->grants, loop_of(link), tag, &d->row);
}

static enum sp_err on_grant_ready(struct link *link, uint64_t tag, struct sp_view body)
{
    struct sp_keys_service *s = link->service;
    sp_grants_ready(s->grants, loop_of(link), tag, s->groups, time_of(s));
    return body.len == 0 ? SP_OK : SP_ERR_MALFORMED;
}

static enum sp_err on_grant_ack(struct link *link, uint64_t tag, struct sp_view body)
{
    struct sp_keys_service *s = link->service;
    struct sp_msg_grant_ack head;
    if (body.len < sizeof(head)) {
        return SP_ERR_MALFORMED;
    }
    sp_copy(&head, body.ptr, sizeof(head));
    struct sp_view ack = sp_view_from(body, sizeof(head));
    if (head.ack_len != ack.len) {
        return SP_ERR_MALFORMED;
    }
    sp_grants_ack(s->grants, loop_of(link), tag, ack, head.mark, s->groups, time_of(s));
    return SP_OK;
}

static enum sp_err on_appraise(struct link *link, uint64_t tag, struct sp_view body)
{
    struct sp_msg_appraise ask;
    if (body.len < sizeof(ask)) {
        return SP_ERR_MALFORMED;
    }
    sp_copy(&ask, body.ptr, sizeof(ask));
    struct sp_view token = sp_view_from(body, sizeof(ask));
    if (ask.identity_len > SP_LINK_IDENTITY_MAX || ask.token_len != token.len ||
        token.len > SP_LINK_TOKEN_MAX + 1) {
        return SP_ERR_MALFORMED;
    }
    struct sp_open_nonce open;
    bool is_open = sp_nonces_take(link->nonces, tag, &open);
    struct sp_attest_verdict verdict = {0};
    enum sp_err err = appraise(link->service, &ask, token, is_open ? &open : NULL, &verdict);
    if (err == SP_OK) {
        err = note_session(link, tag, &ask, verdict.check == SP_ATTEST_OK);
    }
    struct sp_msg_verdict answer;
    memset(&answer, 0, sizeof(answer));
    answer.unavailable = err != SP_OK;
    answer.check = (uint8_t)verdict.check;
    sp_copy(answer.detail, verdict.detail, sizeof(answer.detail));
    struct sp_view parts = sp_view(&answer, sizeof(answer));
    return sp_channel_send(link->channel, SP_MSG_VERDICT, tag, &parts, 1);
}

static enum sp_err on_forget(struct link *link, uint64_t tag, struct sp_view body)
{
    sp_nonces_forget(link->nonces, tag);
    sp_grants_gone(link->service->grants, loop_of(link), tag);
    return body.len == 0 ? SP_OK : SP_ERR_MALFORMED;
}

static enum sp_err on_frame(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    static enum sp_err (*const handlers[])(struct link *, uint64_t, struct sp_view) = {
        [SP_MSG_PSK] = on_psk,
        [SP_MSG_NONCE] = on_nonce,
        [SP_MSG_APPRAISE] = on_appraise,
        [SP_MSG_FORGET] = on_forget,
        [SP_MSG_GRANT_READY] = on_grant_ready,
        [SP_MSG_GRANT_ACK] = on_grant_ack,
    };
    if (frame->type >= sizeof(handlers) / sizeof(handlers[0]) || handlers[frame->type] == NULL) {
        return SP_ERR_MALFORMED;
    }
    return handlers[frame->type](arg, frame->tag, body);
}

enum sp_err sp_keys_service_receive(struct sp_keys_service *s, unsigned loop, uint64_t now_ms)
{
    s->now_ms = now_ms;
    return sp_channel_receive(s->links[loop].channel, on_frame, &s->links[loop]);
}

/* --- life --- */

static struct rules rules_of(const struct sp_config *config)
{
    size_t nonces = config->limits.connections;
    nonces = nonces == 0 || nonces > NONCES_MAX ? NONCES_MAX : nonces;
    return (struct rules){
        .lifecycles = config->attestation.lifecycles,
        .allow_no_software = config->attestation.allow_no_software,
        .attempts = config->limits.attempts,
        .answer_timeout_ms = config->attestation.answer_timeout_ms,
        .preauth_timeout_ms = config->limits.preauth_timeout_ms,
        .nonces_per_loop = nonces,
    };
}

enum sp_err sp_keys_service_create(const struct sp_config *config, struct sp_registry *reg,
                                   struct sp_keys_service **out)
{
    *out = NULL;
    struct sp_keys_service *s = calloc(1, sizeof(*s));
    if (s == NULL) {
        return SP_ERR_NOMEM;
    }
    s->reg = reg;
    s->rules = rules_of(config);
    s->links = calloc(config->threads, sizeof(*s->links));
    const struct sp_grants_ops ops = {s, send_grant};
    if (s->links == NULL || sp_devices_create(&s->devices) != SP_OK ||
        sp_grants_create(reg, &ops, &s->grants) != SP_OK) {
        sp_keys_service_destroy(s);
        return SP_ERR_NOMEM;
    }
    s->link_count = config->threads;
    for (unsigned loop = 0; loop < s->link_count; loop++) {
        s->links[loop].service = s;
    }
    *out = s;
    return SP_OK;
}

enum sp_err sp_keys_service_start(struct sp_keys_service *s, uint64_t now_ms)
{
    s->now_ms = now_ms;
    SP_TRY(sp_registry_heard_read(s->reg, &s->heard));
    s->told = s->heard;
    SP_TRY(reload(s));
    sp_keys_service_tick(s, now_ms);
    return SP_OK;
}

void sp_keys_service_destroy(struct sp_keys_service *s)
{
    if (s == NULL) {
        return;
    }
    for (unsigned loop = 0; loop < s->link_count; loop++) {
        sp_keys_service_detach(s, loop);
    }
    sp_grants_destroy(s->grants);
    sp_groups_destroy(s->groups);
    sp_devices_destroy(s->devices);
    sp_reference_set_destroy(s->references);
    free(s->links);
    free(s);
}

enum sp_err sp_keys_service_attach(struct sp_keys_service *s, unsigned loop, int fd)
{
    if (loop >= s->link_count) {
        return SP_ERR_ARGUMENT;
    }
    struct sp_nonces *nonces = NULL;
    struct sp_channel *channel = NULL;
    SP_TRY(sp_nonces_create(s->rules.nonces_per_loop, &nonces));
    enum sp_err err = sp_channel_create(fd, &channel);
    if (err != SP_OK) {
        sp_nonces_destroy(nonces);
        return err;
    }
    sp_keys_service_detach(s, loop);
    s->links[loop].channel = channel;
    s->links[loop].nonces = nonces;
    if (sp_groups_count(s->groups) > 0) { /* a new loop knows of none */
        tell_groups(s, (int)loop);
    }
    return SP_OK;
}

void sp_keys_service_detach(struct sp_keys_service *s, unsigned loop)
{
    struct link *link = &s->links[loop];
    sp_channel_destroy(link->channel);
    sp_nonces_destroy(link->nonces);
    if (s->grants != NULL) {
        sp_grants_loop_gone(s->grants, loop);
    }
    *link = (struct link){.service = s};
}

int sp_keys_service_fd(const struct sp_keys_service *s, unsigned loop)
{
    const struct sp_channel *channel = s->links[loop].channel;
    return channel == NULL ? -1 : sp_channel_fd(channel);
}

enum sp_err sp_keys_service_flush(struct sp_keys_service *s, unsigned loop, bool *waiting)
{
    struct link *link = &s->links[loop];
    if (link->broken) {
        return SP_ERR_LIMIT;
    }
    SP_TRY(sp_channel_flush(link->channel));
    *waiting = sp_channel_pending(link->channel) > 0;
    return SP_OK;
}

void sp_keys_service_configure(struct sp_keys_service *s, const struct sp_config *config)
{
    struct rules fresh = rules_of(config);
    s->tell_policy |= fresh.lifecycles != s->rules.lifecycles ||
                      fresh.allow_no_software != s->rules.allow_no_software;
    s->rules = fresh;
}

void sp_keys_service_finish(struct sp_keys_service *s)
{
    remember_heard(s);
    for (unsigned i = 0; i < FINISH_BATCHES; i++) {
        if (sp_devices_write_history(s->devices, s->reg) != SP_OK) {
            return;
        }
    }
}

size_t sp_keys_service_open_nonces(const struct sp_keys_service *s, unsigned loop)
{
    return s->links[loop].nonces == NULL ? 0 : sp_nonces_count(s->links[loop].nonces);
}
