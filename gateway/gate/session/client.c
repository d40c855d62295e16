/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/client.h"

#include "gateway/gate/attest/guard.h"
#include "gateway/gate/session/aliases.h"
#include "gateway/gate/session/client_internal.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/slab/slab.h"

#include <string.h>
#include <sys/socket.h>

#define SPARES_MAX       256U /* struct sp_client_work that a loop keeps to use them again … */
#define SPARE_BUFFER_MAX 512U /* … with an output buffer of at most so many bytes */

/* ---- what is in flight ---- */

static struct sp_slab works = SP_SLAB_INIT(sizeof(struct sp_client_work));
const struct sp_client_work sp_client_idle;

struct sp_client_work *sp_client_work(struct sp_client *client)
{
    struct sp_home *home = client->home;
    if (client->work_ref != 0) {
        return sp_ref_at(client->work_ref);
    }
    if (home->spare == 0) {
        client->work_ref = sp_ref_of(sp_slab_take(&works));
        return sp_client_in_flight(client);
    }
    struct sp_client_work *work = sp_ref_at(home->spare);
    client->work_ref = home->spare;
    home->spare = work->next;
    home->spares--;
    work->nonce = NULL;
    sp_metric_add(SP_M_SLAB_BYTES, (int64_t)sizeof(*work));
    return work;
}

/* Nothing is in it but a buffer, which the next one needs too. */
static void spare(struct sp_home *home, sp_ref ref)
{
    struct sp_client_work *work = sp_ref_at(ref);
    if (home->spares >= SPARES_MAX) {
        sp_buf_free(&work->out);
        sp_slab_give(&works, work);
        return;
    }
    if (work->out.cap > SPARE_BUFFER_MAX) {
        sp_buf_free(&work->out);
    }
    *work = (struct sp_client_work){.out = work->out, .next = home->spare};
    home->spare = ref;
    home->spares++;
    sp_metric_add(SP_M_SLAB_BYTES, -(int64_t)sizeof(*work)); /* nobody's */
}

void sp_client_trim(struct sp_home *home)
{
    while (home->spare != 0) {
        struct sp_client_work *work = sp_ref_at(home->spare);
        home->spare = work->next;
        sp_buf_free(&work->out);
        sp_metric_add(SP_M_SLAB_BYTES, (int64_t)sizeof(*work)); /* as it was when it was given */
        sp_slab_give(&works, work);
    }
    home->spares = 0;
}

static bool is_idle(const struct sp_client_work *work, uint64_t now)
{
    return work->in.ptr == NULL && work->out.used == 0 && work->unsent.used == 0 &&
           work->grant.ptr == NULL && work->nonce == NULL && work->receipts == NULL &&
           work->visitor == NULL && work->owner_due_ms == 0 && work->unacked == 0 &&
           work->unreleased == 0 && (work->lines == 0 || now >= work->lines_until_ms);
}

void sp_client_written(struct sp_client *client)
{
    struct sp_client_work *work = sp_client_in_flight(client);
    if (work != NULL) {
        work->out.used = 0;
    }
}

/* ---- what few have ---- */

static struct sp_slab mores = SP_SLAB_INIT(sizeof(struct sp_client_more));
const struct sp_client_more sp_client_plain;

struct sp_client_more *sp_client_have_more(struct sp_client *client)
{
    if (client->more_ref == 0) {
        client->more_ref = sp_ref_of(sp_slab_take(&mores));
    }
    return sp_client_own_more(client);
}

enum sp_err sp_client_set_peer(struct sp_client *client, const struct sp_peer *peer)
{
    client->ipv4 = peer->family == AF_INET;
    if (client->ipv4) {
        client->port = peer->port;
        memcpy(client->address, peer->address, sizeof(client->address));
        return SP_OK;
    }
    struct sp_client_more *more = sp_client_have_more(client);
    if (more == NULL) {
        return SP_ERR_NOMEM;
    }
    more->peer = *peer;
    return SP_OK;
}

struct sp_peer sp_client_peer(const struct sp_client *client)
{
    if (!client->ipv4) {
        return sp_client_more(client)->peer;
    }
    struct sp_peer peer = {.family = AF_INET, .port = client->port};
    memcpy(peer.address, client->address, sizeof(client->address));
    return peer;
}

const char *sp_client_peer_text(const struct sp_client *client, char *out)
{
    struct sp_peer peer = sp_client_peer(client);
    return sp_peer_format(&peer, out);
}

enum sp_err sp_client_keep_will(struct sp_client *client, struct sp_will *will)
{
    struct sp_client_more *more = will == NULL ? NULL : sp_client_have_more(client);
    if (more != NULL) {
        more->will = will;
    } else {
        sp_will_destroy(will);
    }
    return more != NULL || will == NULL ? SP_OK : SP_ERR_NOMEM;
}

enum sp_err sp_client_keep_timeout(struct sp_client *client, uint32_t answer_ms)
{
    struct sp_client_more *more =
        answer_ms == 0 ? sp_client_own_more(client) : sp_client_have_more(client);
    if (more != NULL) {
        more->answer_timeout_ms = answer_ms;
    }
    return more != NULL || answer_ms == 0 ? SP_OK : SP_ERR_NOMEM;
}

static void forget_more(struct sp_client *client)
{
    struct sp_client_more *more = sp_client_own_more(client);
    client->more_ref = 0;
    if (more != NULL) {
        sp_will_destroy(more->will);
        sp_aliases_destroy(more->aliases);
        sp_name_release(&client->home->names, more->group);
        sp_slab_give(&mores, more);
    }
}

/* ---- the beginning ---- */

void sp_client_prepare(struct sp_client *client, struct sp_home *home)
{
    client->home = home;
    client->attest_due_ms = UINT64_MAX;
}

enum sp_err sp_client_init(struct sp_client *client, struct sp_home *home)
{
    sp_client_prepare(client, home);
    client->heard_ms = home->timers->now_ms;
    client->max_packet = UINT32_MAX;
    if (sp_client_work(client) == NULL) {
        return SP_ERR_NOMEM;
    }
    sp_slot_tag tag;
    SP_TRY(sp_slots_put(&home->clients, client, &tag));
    client->slot = (uint32_t)tag + 1;
    return SP_OK;
}

enum sp_err sp_client_join(struct sp_client *client, struct sp_view group)
{
    if (group.len == 0) {
        return SP_OK;
    }
    struct sp_client_more *more = sp_client_have_more(client);
    if (more == NULL) {
        return SP_ERR_NOMEM;
    }
    more->group = sp_name_hold(&client->home->names, group);
    return more->group != NULL ? SP_OK : SP_ERR_NOMEM;
}

enum sp_err sp_client_identify(struct sp_client *client, struct sp_view identity,
                               const struct sp_msg_psk_answer *answer)
{
    struct sp_device *device = sp_device_get(client->home, identity);
    client->device_ref = sp_ref_of(device);
    if (device == NULL) {
        return SP_ERR_NOMEM;
    }
    device->users++;
    client->attestation = answer->row.attestation & 15U;
    client->binding = answer->row.binding & 15U;
    client->records = answer->row.records & 15U;
    size_t group_len = strnlen(answer->group, sizeof(answer->group) - 1);
    SP_TRY(sp_client_join(client, sp_view((const uint8_t *)answer->group, group_len)));
    SP_TRY(sp_client_keep_timeout(client, answer->row.answer_timeout_ms));
    sp_client_in_flight(client)->row_version = answer->row.version;
    client->nonce_open = answer->nonce_ok != 0;
    sp_client_in_flight(client)->blocked = answer->nonce_ok == 0;
    client->role =
        sp_role_number(client->home->roles, sp_config_role(client->home->config, answer->row.role));
    if (client->role == 0) {
        return SP_ERR_NOT_FOUND;
    }
    return sp_guard_keep_nonce(client, answer->nonce) ? SP_OK : SP_ERR_NOMEM;
}

struct sp_view sp_client_identity(const struct sp_client *client)
{
    const struct sp_device *device = sp_client_device(client);
    return device == NULL ? (struct sp_view){NULL, 0} : sp_device_identity(device);
}

struct sp_view sp_client_group(const struct sp_client *client)
{
    return sp_name_text(sp_client_more(client)->group);
}

uint64_t sp_client_row(const struct sp_client *client)
{
    const struct sp_session *session = sp_client_session(client);
    return session != NULL ? session->version : sp_client_now(client)->row_version;
}

/* ---- turns ---- */

void sp_client_mark(struct sp_client *client)
{
    if (!client->dirty) {
        client->dirty = true;
        client->next_dirty = client->home->dirty;
        client->home->dirty = sp_ref_of(client);
    }
}

struct sp_client *sp_client_take_dirty(struct sp_home *home)
{
    struct sp_client *client = sp_ref_get(home->dirty);
    if (client != NULL) {
        home->dirty = client->next_dirty;
        client->next_dirty = 0;
        client->dirty = false;
    }
    return client;
}

void sp_client_rest(struct sp_client *client)
{
    struct sp_client_work *work = sp_client_in_flight(client);
    if (work != NULL && work->resting && !client->dirty) {
        client->dirty = true;
        client->next_dirty = client->home->resting;
        client->home->resting = sp_ref_of(client);
    }
    if (work == NULL || client->dirty) {
        return;
    }
    if (client->state == SP_CLIENT_OPEN && is_idle(work, client->home->timers->now_ms)) {
        spare(client->home, client->work_ref);
        client->work_ref = 0;
    } else if (work->out.used == 0) {
        sp_buf_free(&work->out);
    }
}

void sp_client_wake_all(struct sp_home *home)
{
    while (home->resting != 0) {
        struct sp_client *client = sp_ref_get(home->resting);
        home->resting = client->next_dirty;
        sp_client_in_flight(client)->resting = false;
        client->dirty = false;
        sp_client_mark(client);
    }
}

/* One that is closed in the turn in which it rests. */
static void leave_resting(struct sp_client *client)
{
    sp_ref *at = &client->home->resting;
    while (*at != 0 && sp_ref_get(*at) != client) {
        at = &((struct sp_client *)sp_ref_get(*at))->next_dirty;
    }
    if (*at != 0) {
        *at = client->next_dirty;
        client->dirty = false;
    }
}

/* ---- giving back ---- */

void sp_client_free_work(struct sp_client *client)
{
    struct sp_client_work *work = sp_client_in_flight(client);
    client->work_ref = 0;
    if (work != NULL) {
        sp_buf_free(&work->in);
        sp_buf_free(&work->out);
        sp_buf_free(&work->unsent);
        sp_buf_free(&work->grant);
        sp_client_forget_receipts(work, client->home);
        sp_slab_give(&works, work);
    }
    forget_more(client);
}

void sp_client_deinit(struct sp_client *client)
{
    if (client->state != SP_CLIENT_CLOSED) {
        sp_client_lost(client);
    }
    if (sp_client_now(client)->resting) {
        leave_resting(client);
    }
    sp_client_free_work(client);
    sp_slots_remove(&client->home->clients, sp_client_tag(client));
    client->slot = 0;
}
