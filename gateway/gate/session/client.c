/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/client.h"
#include "gateway/gate/attest/guard.h"
#include "gateway/gate/core/debt.h"
#include "gateway/gate/route/receipts.h"
#include "gateway/gate/session/aliases.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"
#include "gateway/slab/slab.h"

#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define GUEST_PACKET_MAX 8192U  /* a packet before the verdict: a token, or a CONNECT */
#define GIVE_UP_MS       10000U /* to one that is stalled */
#define TAIL_KEEP_MAX    1024U  /* an empty input buffer larger than this is given back */
#define SPARES_MAX       256U   /* struct sp_client_work that a loop keeps to use them again … */
#define SPARE_BUFFER_MAX 512U   /* … with an output buffer of at most so many bytes */
#define LINES_PER_MINUTE 100U   /* in the log, about single messages of one client */

static void on_ping(struct sp_client *client, const struct sp_mqtt_header *header,
                    struct sp_view body);
static void on_disconnect(struct sp_client *client, const struct sp_mqtt_header *header,
                          struct sp_view body);

/* Which packet is in turn when; everything else is a protocol error. */
static const sp_packet_fn handlers[SP_CLIENT_STATES][16] = {
    [SP_CLIENT_CONNECT] = {[SP_MQTT_CONNECT] = sp_on_connect},
    [SP_CLIENT_GUEST_5] = {[SP_MQTT_AUTH] = sp_on_guest_auth, [SP_MQTT_DISCONNECT] = on_disconnect},
    [SP_CLIENT_GUEST_311] = {[SP_MQTT_PUBLISH] = sp_on_guest_publish,
                             [SP_MQTT_PUBACK] = sp_on_ack,
                             [SP_MQTT_SUBSCRIBE] = sp_on_guest_subscribe,
                             [SP_MQTT_PINGREQ] = on_ping,
                             [SP_MQTT_DISCONNECT] = on_disconnect},
    [SP_CLIENT_OPEN] = {[SP_MQTT_PUBLISH] = sp_on_publish,
                        [SP_MQTT_PUBACK] = sp_on_ack,
                        [SP_MQTT_PUBREC] = sp_on_pubrec,
                        [SP_MQTT_PUBREL] = sp_on_pubrel,
                        [SP_MQTT_PUBCOMP] = sp_on_ack,
                        [SP_MQTT_SUBSCRIBE] = sp_on_subscribe,
                        [SP_MQTT_UNSUBSCRIBE] = sp_on_unsubscribe,
                        [SP_MQTT_PINGREQ] = on_ping,
                        [SP_MQTT_DISCONNECT] = on_disconnect},
};

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

void sp_client_written(struct sp_client *client)
{
    struct sp_client_work *work = sp_client_in_flight(client);
    if (work != NULL) {
        work->out.used = 0;
    }
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

/* ---- time ---- */

static uint64_t silence_ends(const struct sp_client *client)
{
    if (client->stalled) {
        return client->heard_ms + GIVE_UP_MS;
    }
    bool may_be_silent = client->keep_alive_s == 0 || client->slowed;
    return may_be_silent ? UINT64_MAX : client->heard_ms + sp_client_silence_ms(client);
}

/* When one that is slowed goes on. */
static uint64_t slowed_until(const struct sp_client *client)
{
    if (!client->slowed) {
        return UINT64_MAX;
    }
    const struct sp_role_config *role = sp_client_role(client);
    return client->heard_ms + (client->debt == 0 ? 0
                                                 : sp_debt_wait(client->debt, role->message_rate,
                                                                role->message_burst));
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static struct sp_client *client_of(const struct sp_wheel_node *node)
{
    return (struct sp_client *)(uintptr_t)((const char *)node -
                                           offsetof(struct sp_client, deadline));
}

uint64_t sp_client_deadline(const struct sp_wheel_node *node)
{
    const struct sp_client *client = client_of(node);
    uint64_t owner = sp_client_now(client)->owner_due_ms;
    uint64_t next = owner == 0 ? UINT64_MAX : owner;
    if (client->state != SP_CLIENT_CLOSED) {
        next = earlier(next, earlier(silence_ends(client), client->attest_due_ms));
        next = earlier(next, slowed_until(client));
    }
    return next;
}

/* Input does not set the deadline anew; when it comes, it looks how long ago the last input was. */
void sp_client_arm(struct sp_client *client)
{
    sp_wheel_set(&client->home->deadlines, &client->deadline);
}

void sp_client_fire(struct sp_wheel_node *node)
{
    struct sp_client *client = client_of(node);
    if (client->home->due != NULL) {
        client->home->due(client);
    } else {
        sp_client_due(client);
    }
}

/* It is heard of, and what it owes was paid off in the meantime. */
static void hear(struct sp_client *client)
{
    uint64_t now = client->home->timers->now_ms;
    if (client->debt > 0) {
        uint64_t passed = now > client->heard_ms ? now - client->heard_ms : 0;
        client->debt = sp_debt_after(client->debt, passed, sp_client_role(client)->message_rate);
        client->fast = client->fast && client->debt > 0;
    }
    client->heard_ms = now;
}

void sp_client_count(struct sp_client *client)
{
    const struct sp_role_config *role = sp_client_role(client);
    char peer[SP_PEER_TEXT_MAX];
    client->debt += SP_DEBT_MESSAGE;
    if (!sp_debt_is_full(client->debt, role->message_burst)) {
        return;
    }
    hear(client); /* it may have come from the buffer, long after the last input */
    if (!sp_debt_is_full(client->debt, role->message_burst)) {
        return;
    }
    client->slowed = true;
    sp_client_arm(client);
    sp_client_mark(client);
    if (!client->fast) {
        client->fast = true;
        sp_metric_inc(SP_M_SLOWED);
        sp_log_limited(SP_EVENT("device_slowed"), SP_F_VIEW("device", sp_client_identity(client)),
                       SP_F_STR("peer", sp_client_peer_text(client, peer)),
                       SP_F_INT("message_rate", role->message_rate));
    }
}

void sp_client_recount(struct sp_client *client)
{
    const struct sp_role_config *role = sp_client_role(client);
    uint32_t most = role->message_rate == 0 ? 0 : (role->message_burst - 1) * SP_DEBT_MESSAGE;
    client->debt = client->debt < most ? client->debt : most;
    if (client->slowed) {
        sp_client_arm(client);
    }
}

void sp_client_due(struct sp_client *client)
{
    uint64_t now = client->home->timers->now_ms;
    if (client->state == SP_CLIENT_CLOSED) {
        sp_client_arm(client);
        return;
    }
    if (now >= slowed_until(client)) {
        client->slowed = false;
        if (!client->stalled) {
            hear(client);
        }
        sp_client_mark(client);
    }
    if (now >= client->attest_due_ms) {
        client->attest_due_ms = UINT64_MAX;
        sp_guard_due(client);
    }
    if (now >= silence_ends(client) && client->stalled) {
        sp_client_end(client, true);
    } else if (now >= silence_ends(client)) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_KEEPALIVE_TIMEOUTS,
                                                      .event = "keepalive_timeout",
                                                      .code = SP_MQTT_RC_KEEP_ALIVE_TIMEOUT});
    }
    sp_client_arm(client);
}

/* ---- input ---- */

static uint32_t packet_limit(const struct sp_client *client)
{
    uint32_t limit = client->home->config->limits.packet;
    bool guest = client->state != SP_CLIENT_OPEN;
    return guest && limit > GUEST_PACKET_MAX ? GUEST_PACKET_MAX : limit;
}

/* The limit that CONNACK tells is for a whole packet, header included. */
static enum sp_err peek(const struct sp_client *client, struct sp_view in,
                        struct sp_mqtt_header *header)
{
    uint32_t limit = packet_limit(client);
    SP_TRY(sp_mqtt_peek(in, limit, header));
    return header->body_len <= limit - header->header_len ? SP_OK : SP_ERR_LIMIT;
}

static void out_of_turn(struct sp_client *client)
{
    if (client->state == SP_CLIENT_GUEST_5 || client->state == SP_CLIENT_GUEST_311) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_GUEST_EARLY,
                                                      .event = "guest_out_of_turn",
                                                      .code = SP_MQTT_RC_PROTOCOL_ERROR});
    } else {
        sp_client_protocol_error(client, SP_MQTT_RC_PROTOCOL_ERROR, "packet out of turn");
    }
}

static void dispatch(struct sp_client *client, const struct sp_mqtt_header *header,
                     struct sp_view body)
{
    sp_packet_fn handle = handlers[client->state][header->type & 15U];
    if (handle == NULL) {
        out_of_turn(client);
    } else {
        handle(client, header, body);
    }
}

/* Handle whole packets at the start of `in`, as many as a turn has for one client. @return The bytes used. */
static size_t take_packets(struct sp_client *client, struct sp_view in)
{
    size_t used = 0;
    uint32_t left = client->home->config->limits.turn_messages;
    if (client->state == SP_CLIENT_CONNECT && client->home->keep.loading && in.len > 0) {
        /* Its session may come yet (gate/session/keep.h). */
        client->keeping = true;
        client->paused = true;
    }
    while (in.len > 0 && sp_client_reads(client) && !sp_client_in_flight(client)->resting &&
           client->state != SP_CLIENT_CLOSED) {
        struct sp_mqtt_header header;
        enum sp_err err = peek(client, in, &header);
        if (err == SP_ERR_AGAIN) {
            break;
        }
        if (err != SP_OK) {
            sp_client_protocol_error(client,
                                     err == SP_ERR_LIMIT ? SP_MQTT_RC_PACKET_TOO_LARGE
                                                         : SP_MQTT_RC_MALFORMED_PACKET,
                                     "packet header");
            break;
        }
        size_t size = header.header_len + (size_t)header.body_len;
        if (in.len < size) {
            break;
        }
        dispatch(client, &header,
                 sp_view_first(sp_view_from(in, header.header_len), header.body_len));
        in = sp_view_from(in, size);
        used += size;
        if (--left == 0) {
            sp_client_in_flight(client)->resting = true;
            sp_client_mark(client);
        }
    }
    return used;
}

/* Packets in the buffer of the connection, once it holds a tail. */
static void take_buffered(struct sp_client *client)
{
    struct sp_buf *in = &sp_client_in_flight(client)->in;
    size_t used = take_packets(client, sp_buf_view(in));
    sp_buf_consume(in, used);
    if (in->used == 0 && (in->cap > TAIL_KEEP_MAX || sp_client_reads(client))) {
        sp_buf_free(in);
    }
}

/* What is not a whole packet is kept. */
static void take_input(struct sp_client *client, struct sp_view bytes)
{
    struct sp_buf *in = &sp_client_in_flight(client)->in;
    if (in->used == 0) {
        bytes = sp_view_from(bytes, take_packets(client, bytes));
        if (client->state == SP_CLIENT_CLOSED) {
            return;
        }
    }
    if (bytes.len > 0) {
        bool had = in->used > 0;
        if (sp_buf_append(in, bytes) != SP_OK) {
            sp_client_end(client, true);
            return;
        }
        if (had) {
            take_buffered(client);
        }
    }
}

void sp_client_input(struct sp_client *client, struct sp_view bytes)
{
    if (client->state == SP_CLIENT_CLOSED) {
        return;
    }
    if (!client->stalled) {
        hear(client);
    }
    if (sp_client_work(client) == NULL) {
        sp_client_starve(client);
        return;
    }
    take_input(client, bytes);
    sp_client_rest(client);
}

static void on_ping(struct sp_client *client, const struct sp_mqtt_header *header,
                    struct sp_view body)
{
    (void)header;
    if (body.len != 0) {
        sp_client_protocol_error(client, SP_MQTT_RC_MALFORMED_PACKET, "PINGREQ with a body");
        return;
    }
    sp_client_send_ack(client, SP_MQTT_PINGRESP, 0, 0);
}

static void on_disconnect(struct sp_client *client, const struct sp_mqtt_header *header,
                          struct sp_view body)
{
    struct sp_mqtt_reasoned packet;
    enum sp_err err =
        sp_mqtt_decode_reasoned((enum sp_mqtt_version)client->version, header->type, body, &packet);
    if (err != SP_OK) {
        sp_client_malformed(client, err, "DISCONNECT");
        return;
    }
    if ((packet.props.present & SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY)) != 0) {
        uint32_t wanted = packet.props.session_expiry;
        uint32_t longest = client->home->config->limits.session_expiry_s;
        if (client->session_expiry_s == 0 && wanted != 0) {
            sp_client_protocol_error(client, SP_MQTT_RC_PROTOCOL_ERROR, "session expiry from 0");
            return;
        }
        client->session_expiry_s = wanted < longest ? wanted : longest;
    }
    sp_client_end(client, packet.reason != SP_MQTT_RC_SUCCESS);
}

bool sp_client_may_log(struct sp_client *client)
{
    uint64_t now = client->home->timers->now_ms;
    struct sp_client_work *work = sp_client_work(client);
    if (work == NULL) {
        return false;
    }
    if (now >= work->lines_until_ms) {
        work->lines_until_ms = now + 60000;
        work->lines = 0;
    }
    if (work->lines == LINES_PER_MINUTE) {
        sp_log_warn(SP_EVENT("log_limited"), SP_F_VIEW("device", sp_client_identity(client)),
                    SP_F_STR("detail", "no more lines about its messages this minute"));
    }
    if (work->lines <= LINES_PER_MINUTE) {
        work->lines++;
    }
    return work->lines <= LINES_PER_MINUTE;
}

/* ---- the end ---- */

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

static void leave_device(struct sp_client *client, bool with_will, bool end_session)
{
    struct sp_device *device = sp_client_device(client);
    struct sp_will *will = sp_client_more(client)->will;
    client->device_ref = 0;
    if (sp_client_own_more(client) != NULL) {
        sp_client_own_more(client)->will = NULL;
    }
    if (device == NULL) {
        sp_will_destroy(will);
        return;
    }
    if (client->guest) {
        client->guest = false;
        device->has_guest = false;
        sp_metric_add(SP_M_GUESTS, -1);
    }
    if (sp_device_client(device) != client || !with_will) {
        sp_will_destroy(will);
        will = NULL;
    }
    if (sp_device_client(device) == client) {
        if (will != NULL) {
            will->attested = client->attested;
        }
        device->client_ref = 0;
        sp_metric_add(SP_M_DEVICES_ONLINE, -1);
        sp_metric_add(SP_M_DEVICES_ATTESTED, client->attested ? -1 : 0);
        sp_device_leave(device, end_session ? 0 : client->session_expiry_s, will);
    }
    device->users--;
    sp_device_settle(device);
}

static void close_client(struct sp_client *client, bool with_will, bool end_session)
{
    client->state = SP_CLIENT_CLOSED;
    sp_client_arm(client);
    sp_guard_forget(client);
    leave_device(client, with_will, end_session);
    sp_client_mark(client);
}

void sp_client_end(struct sp_client *client, bool with_will)
{
    if (client->state == SP_CLIENT_CLOSED) {
        return;
    }
    char peer[SP_PEER_TEXT_MAX];
    if (client->state == SP_CLIENT_OPEN) {
        sp_log_debug(SP_EVENT("device_left"), SP_F_VIEW("device", sp_client_identity(client)),
                     SP_F_STR("peer", sp_client_peer_text(client, peer)));
    }
    close_client(client, with_will, false);
}

void sp_client_lost(struct sp_client *client)
{
    client->lost = true;
    sp_client_end(client, true);
}

void sp_client_starve(struct sp_client *client)
{
    client->starved = client->starved || !client->lost;
    client->lost = true;
    sp_client_mark(client);
}

/* The 3.1.1 return code that the table in docs/protocol.md 3.5 has for a reason; 0: it has none, just close. */
static uint8_t code_311(uint8_t reason)
{
    switch (reason) {
    case SP_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION:
    case SP_MQTT_RC_CLIENT_IDENTIFIER_NOT_VALID:
    case SP_MQTT_RC_SERVER_UNAVAILABLE:
    case SP_MQTT_RC_NOT_AUTHORIZED:
        return sp_mqtt_connack_code_311(reason);
    default:
        return 0;
    }
}

static void say_why(struct sp_client *client, const struct sp_refusal *refusal)
{
    struct sp_mqtt_props props = {.present = 0};
    if (refusal->reason != NULL) {
        props.present = SP_MQTT_HAS(SP_MQTT_P_REASON_STRING);
        props.reason_string = sp_view_str(refusal->reason);
    }
    if (client->version == SP_MQTT_5 && client->state == SP_CLIENT_OPEN) {
        const struct sp_mqtt_reasoned packet = {.reason = refusal->code, .props = props};
        sp_client_send_reasoned(client, SP_MQTT_DISCONNECT, &packet);
    } else if (client->version == SP_MQTT_5) {
        const struct sp_mqtt_connack connack = {.reason = refusal->code, .props = props};
        sp_client_send_connack(client, &connack);
    } else if (client->version == SP_MQTT_311 && client->state == SP_CLIENT_CONNECT &&
               code_311(refusal->code) != 0) {
        const struct sp_mqtt_connack connack = {.reason = code_311(refusal->code)};
        sp_client_send_connack(client, &connack);
    }
}

void sp_client_refuse(struct sp_client *client, const struct sp_refusal *refusal)
{
    if (client->state == SP_CLIENT_CLOSED) {
        return;
    }
    char peer[SP_PEER_TEXT_MAX];
    sp_metric_inc(refusal->metric);
    sp_log_limited(SP_EVENT(refusal->event), SP_F_VIEW("device", sp_client_identity(client)),
                   SP_F_STR("peer", sp_client_peer_text(client, peer)),
                   SP_F_STR("check", refusal->check == NULL ? "-" : refusal->check),
                   SP_F_STR("detail", refusal->detail == NULL ? "-" : refusal->detail),
                   SP_F_INT("code", refusal->code));
    say_why(client, refusal);
    client->linger = true;
    close_client(client, !refusal->untrusted, refusal->end_session);
}

void sp_client_protocol_error(struct sp_client *client, uint8_t code, const char *detail)
{
    sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_PROTOCOL_ERRORS,
                                                  .event = "protocol_error",
                                                  .detail = detail,
                                                  .code = code});
}

void sp_client_malformed(struct sp_client *client, enum sp_err err, const char *packet)
{
    uint8_t code = SP_MQTT_RC_MALFORMED_PACKET;
    if (err == SP_ERR_PROTOCOL) {
        code = SP_MQTT_RC_PROTOCOL_ERROR;
    } else if (err == SP_ERR_DENIED) {
        code = SP_MQTT_RC_TOPIC_NAME_INVALID;
    }
    sp_client_protocol_error(client, code, packet);
}

void sp_client_shutdown(struct sp_client *client)
{
    if (client->state == SP_CLIENT_OPEN && client->version == SP_MQTT_5) {
        const struct sp_mqtt_reasoned packet = {.reason = SP_MQTT_RC_SERVER_SHUTTING_DOWN};
        sp_client_send_reasoned(client, SP_MQTT_DISCONNECT, &packet);
    }
    if (client->state != SP_CLIENT_CLOSED) {
        close_client(client, false, false);
    }
}

static void forget_receipts(struct sp_client_work *work, struct sp_home *home);

void sp_client_free_work(struct sp_client *client)
{
    struct sp_client_work *work = sp_client_in_flight(client);
    client->work_ref = 0;
    if (work != NULL) {
        sp_buf_free(&work->in);
        sp_buf_free(&work->out);
        sp_buf_free(&work->unsent);
        sp_buf_free(&work->grant);
        forget_receipts(work, client->home);
        sp_slab_give(&works, work);
    }
    forget_more(client);
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

/* ---- acknowledgements ---- */

static void say_answer(struct sp_client *client, const struct sp_client_answer *answer)
{
    if (client->state == SP_CLIENT_CLOSED || client->stalled) {
        return;
    }
    if (answer->reason == SP_MQTT_RC_QUOTA_EXCEEDED && client->version == SP_MQTT_311) {
        sp_client_stall(client);
        return;
    }
    if (answer->reason != SP_MQTT_RC_SUCCESS && answer->type == SP_MQTT_PUBCOMP) {
        sp_client_no_release(client);
        return;
    }
    if (answer->type == SP_MQTT_PUBREC && answer->reason < 0x80) {
        sp_client_in_flight(client)->unreleased++;
    } else if (answer->type == SP_MQTT_PUBREC && sp_client_session(client) != NULL) {
        (void)sp_session_release(sp_client_session(client), answer->packet_id);
    }
    sp_client_send_ack(client, (enum sp_mqtt_type)answer->type, answer->packet_id, answer->reason);
    if (client->paused && !client->holding && !client->keeping) {
        client->paused = false;
        sp_client_mark(client);
    }
}

void sp_client_receipted(struct sp_client *client)
{
    while (sp_client_now(client)->receipts != NULL && sp_client_now(client)->receipts->waits == 0) {
        struct sp_client_work *work = sp_client_in_flight(client);
        struct sp_receipt *receipt = work->receipts;
        struct sp_client_answer answer = receipt->answer;
        /* What the journal has for the cloud is accepted, whoever else has no room for it. */
        bool refused = receipt->refused && !receipt->in_cloud;
        answer.reason = refused && answer.reason == SP_MQTT_RC_SUCCESS
                            ? (uint8_t)SP_MQTT_RC_QUOTA_EXCEEDED
                            : answer.reason;
        work->receipts = receipt->next;
        work->held--;
        sp_receipt_free(client->home, receipt);
        say_answer(client, &answer);
    }
}

/* All that it still may wait for are kept sessions, its own or those of answers before it. */
static void answer_due(struct sp_client *client, const struct sp_client_answer *answer)
{
    struct sp_receipt *receipt = sp_receipt_find(client->home, answer->receipt);
    struct sp_client_work *work = sp_client_work(client);
    if (work != NULL && receipt == NULL && work->receipts == NULL) {
        say_answer(client, answer);
        return;
    }
    if (work != NULL && receipt == NULL) {
        receipt = sp_receipt_open(client->home, sp_client_tag(client), 0);
    }
    if (work == NULL || receipt == NULL) {
        sp_client_starve(client);
        return;
    }
    receipt->answer = *answer;
    receipt->held = true;
    struct sp_receipt **end = &work->receipts;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = receipt;
    work->held++;
    sp_client_receipted(client);
}

static void forget_receipts(struct sp_client_work *work, struct sp_home *home)
{
    while (work->receipts != NULL) {
        struct sp_receipt *receipt = work->receipts;
        work->receipts = receipt->next;
        sp_receipt_orphan(home, receipt->tag);
    }
}

static void acknowledge(struct sp_client *client, const struct sp_mqtt_publish *publish,
                        uint8_t reason, sp_slot_tag receipt)
{
    const struct sp_client_answer answer = {
        .receipt = receipt,
        .packet_id = publish->packet_id,
        .reason = reason,
        .type = publish->qos == 2 ? SP_MQTT_PUBREC : SP_MQTT_PUBACK,
    };
    if (sp_client_in_flight(client)->unacked == 0 ||
        sp_tickets_follow(client->home, sp_client_tag(client), &answer) != SP_OK) {
        answer_due(client, &answer);
    } else {
        sp_client_in_flight(client)->unacked++;
    }
}

void sp_client_acknowledge(struct sp_client *client, const struct sp_mqtt_publish *publish,
                           uint8_t reason)
{
    acknowledge(client, publish, reason, 0);
}

void sp_client_accept(struct sp_client *client, const struct sp_mqtt_publish *publish,
                      sp_slot_tag receipt)
{
    acknowledge(client, publish, SP_MQTT_RC_SUCCESS, receipt);
}

/* docs/protocol.md 3.5, "cannot store now", 3.1.1: it may neither be acknowledged nor refused. */
void sp_client_stall(struct sp_client *client)
{
    client->paused = true;
    client->stalled = true;
    client->heard_ms = client->home->timers->now_ms;
    sp_client_arm(client);
    sp_client_mark(client);
}

/* PUBCOMP knows no "not now": the client has to send its PUBREL again, and it does that on a new connection. */
void sp_client_no_release(struct sp_client *client)
{
    sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_PUBLISH_REFUSED,
                                                  .event = "release_refused",
                                                  .detail = "PUBREL cannot be stored now",
                                                  .code = SP_MQTT_RC_SERVER_BUSY});
}

void sp_client_stored(struct sp_client *client, const struct sp_client_answer *answer)
{
    if (sp_client_now(client)->unacked > 0) {
        sp_client_in_flight(client)->unacked--;
    }
    answer_due(client, answer);
}

void sp_client_resume(struct sp_client *client)
{
    if (sp_client_reads(client) && sp_client_now(client)->in.used > 0 &&
        client->state != SP_CLIENT_CLOSED && !client->home->frozen) {
        take_buffered(client);
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
