/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/carry.h"

#include "gateway/gate/route/mail.h"
#include "gateway/gate/route/retained.h"
#include "gateway/gate/session/aliases.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/slab/slab.h"
#include "libs/mqtt/topic.h"

#include <stdlib.h>
#include <string.h>

#define HAS_SESSION 1U
#define HAS_CLIENT  2U
#define HAS_WAIT    4U
#define NO_MAIL     UINT32_MAX

/* Flags of a client, in two bytes of their own so that the bits of the struct may change. */
#define CLIENT_PAUSED            1U
#define CLIENT_STALLED           2U
#define CLIENT_ATTESTED          4U
#define CLIENT_AGAIN             8U
#define CLIENT_CHALLENGE_UNACKED 16U
#define CLIENT_GRANT_UNACKED     32U
#define CLIENT_METHOD            64U
#define CLIENT_CHALLENGED        128U
#define CLIENT_TERSE             256U

/* ---- writing ---- */

static void put_raw(struct sp_carry_out *out, struct sp_view bytes)
{
    out->failed = out->failed || sp_buf_append(&out->buf, bytes) != SP_OK;
}

void sp_carry_number(struct sp_carry_out *out, uint64_t value, size_t bytes)
{
    uint8_t text[8];
    for (size_t i = 0; i < bytes; i++) {
        text[i] = (uint8_t)(value >> (8U * (bytes - 1U - i)));
    }
    put_raw(out, sp_view(text, bytes));
}

void sp_carry_block(struct sp_carry_out *out, struct sp_view block)
{
    sp_carry_number(out, block.len, 4);
    put_raw(out, block);
}

size_t sp_carry_begin(struct sp_carry_out *out, enum sp_carry_item type)
{
    size_t begun = out->buf.used;
    sp_carry_number(out, type, 1);
    sp_carry_number(out, 0, 4);
    return begun;
}

void sp_carry_end(struct sp_carry_out *out, size_t begun)
{
    struct sp_writer w;
    if (out->failed) {
        return;
    }
    size_t len = out->buf.used - begun - SP_CARRY_HEADER;
    sp_writer_init(&w, out->buf.ptr + begun + 1, 4);
    sp_write_u32(&w, (uint32_t)len);
    out->failed = len > SP_CARRY_ITEM_MAX;
}

/* A message that was written, by its address. */
struct numbered {
    struct sp_table_node node; /* first: found by casting back */
    const struct sp_mail *mail;
    uint32_t number;
};

static struct sp_slab numbers = SP_SLAB_INIT(sizeof(struct numbered));

static uint64_t hash_of(const struct sp_mail *mail)
{
    return sp_hash(0, sp_view(&mail, sizeof(mail)));
}

static uint64_t hash_of_numbered(const struct sp_table_node *node)
{
    return hash_of(((const struct numbered *)node)->mail);
}

static uint32_t number_of(const struct sp_carry_out *out, const struct sp_mail *mail)
{
    struct sp_table_node *node = sp_table_find(&out->numbers, hash_of(mail));
    for (; node != NULL; node = sp_table_next(node)) {
        if (((struct numbered *)node)->mail == mail) {
            return ((struct numbered *)node)->number;
        }
    }
    return NO_MAIL;
}

static void remember(struct sp_carry_out *out, const struct sp_mail *mail)
{
    struct numbered *n = sp_slab_take(&numbers);
    if (n != NULL) {
        n->mail = mail;
    }
    if (n == NULL || sp_table_insert(&out->numbers, &n->node, hash_of_numbered) != SP_OK) {
        sp_slab_give(&numbers, n);
        out->failed = true;
        return;
    }
    n->number = out->mails++;
}

/* As an MQTT 5 PUBLISH, which has a place for everything that a message may have. */
static void put_mail(struct sp_carry_out *out, const struct sp_mail *mail)
{
    struct sp_mqtt_publish publish = {.qos = mail->qos,
                                      .packet_id = mail->qos > 0, /* any */
                                      .retain = mail->retain,
                                      .topic = mail->topic,
                                      .payload = mail->payload};
    struct sp_writer w;
    if (out->failed || number_of(out, mail) != NO_MAIL) {
        return;
    }
    if (mail->props != NULL) {
        publish.props = *mail->props;
    }
    size_t begun = sp_carry_begin(out, SP_CARRY_MAIL);
    sp_carry_number(out, mail->expires_ms, 8);
    size_t size = sp_mqtt_publish_size(SP_MQTT_5, &publish);
    uint8_t *at = out->failed || size == 0 ? NULL : sp_buf_reserve(&out->buf, size);
    if (at == NULL) {
        out->failed = true;
        return;
    }
    sp_writer_init(&w, at, size);
    sp_mqtt_encode_publish(&w, SP_MQTT_5, &publish);
    out->failed = w.err != SP_OK;
    out->buf.used += (uint32_t)w.used;
    sp_carry_end(out, begun);
    remember(out, mail);
}

static void put_will(struct sp_carry_out *out, const struct sp_will *will)
{
    sp_carry_number(out, will == NULL ? NO_MAIL : number_of(out, will->message), 4);
    if (will != NULL) {
        sp_carry_number(out, will->delay_s, 4);
        sp_carry_number(out, will->qos, 1);
        sp_carry_number(out, will->attested, 1);
    }
}

static void put_wait(struct sp_carry_out *out, const struct sp_device_wait *wait)
{
    put_will(out, wait->will);
    sp_carry_number(out, wait->session_ends_ms, 8);
    sp_carry_number(out, wait->will_due_ms, 8);
    sp_carry_number(out, wait->refusals_until_ms, 8);
    sp_carry_number(out, wait->refusals, 4);
}

static void put_subscriptions(struct sp_carry_out *out, const struct sp_session *session)
{
    const struct sp_home *home = sp_session_device(session)->home;
    sp_carry_number(out, session->sub_count, 4);
    for (uint32_t i = 0; i < session->sub_count; i++) {
        struct sp_subscriber how = {.qos = 0};
        (void)sp_subs_get(home->subs, sp_session_sub(session, i), home->index,
                          sp_session_tag(session), &how);
        sp_carry_block(out, sp_filter_text(sp_session_sub(session, i)));
        sp_carry_number(out, how.qos, 1);
        sp_carry_number(out, how.options & ~(SP_SUB_AWAY | SP_SUB_KEPT), 1);
        sp_carry_number(out, how.id, 4);
    }
}

/* The group that gave it is known by its filter, if the session still belongs to it. */
static void put_share(struct sp_carry_out *out, const struct sp_session *session, sp_slot_tag share)
{
    const struct sp_home *home = sp_session_device(session)->home;
    struct sp_view filter = {NULL, 0};
    for (uint16_t i = 0; share != 0 && i < session->sub_count; i++) {
        if (sp_filter_shared(sp_session_sub(session, i)) &&
            sp_subs_share(home->subs, sp_session_sub(session, i), home->index) == share) {
            filter = sp_filter_text(sp_session_sub(session, i));
        }
    }
    sp_carry_block(out, filter);
}

static void put_delivery(struct sp_carry_out *out, const struct sp_session *session,
                         const struct sp_delivery *d)
{
    sp_carry_number(out, number_of(out, d->message), 4);
    sp_carry_number(out, d->size, 4);
    sp_carry_number(out, d->number, 8);
    sp_carry_number(out, d->place == SP_PLACE_JOURNAL, 1);
    sp_carry_number(out, d->packet_id, 2);
    sp_carry_number(out, d->qos, 1);
    sp_carry_number(out, d->released, 1);
    sp_carry_number(out, d->retain, 1);
    sp_carry_number(out, d->loaded, 1);
    put_share(out, session, d->share);
    sp_carry_number(out, d->id_count, 2);
    for (uint16_t i = 0; i < d->id_count; i++) {
        sp_carry_number(out, d->ids[i], 4);
    }
}

/* What was sent on a connection that goes along is not sent again. */
static void put_deliveries(struct sp_carry_out *out, const struct sp_session *session,
                           bool goes_along)
{
    uint32_t count = 0;
    uint32_t sent = 0;
    const struct sp_queue *queue = sp_session_queue(session);
    const struct sp_delivery *d;
    for (d = queue->first; d != NULL; d = d->next) {
        sent = d == queue->unsent ? count : sent;
        count++;
    }
    sent = queue->unsent == NULL ? count : sent;
    sp_carry_number(out, count, 4);
    sp_carry_number(out, goes_along ? sent : 0, 4);
    for (d = queue->first; d != NULL; d = d->next) {
        put_delivery(out, session, d);
    }
}

/* QoS 2 packet identifiers that the client has not released. */
static void put_received(struct sp_carry_out *out, const struct sp_session_more *more)
{
    uint32_t count = more != NULL ? more->received_count : 0;
    sp_carry_number(out, count, 4);
    for (uint32_t i = 0; i < count; i++) {
        sp_carry_number(out, more->received[i], 2);
    }
}

/* Retained messages that are still to be sent for a subscription. */
static void put_replays(struct sp_carry_out *out, const struct sp_session_more *more)
{
    const struct sp_replay *replay;
    uint32_t count = 0;
    for (replay = more != NULL ? more->replays : NULL; replay != NULL; replay = replay->next) {
        count++;
    }
    sp_carry_number(out, count, 4);
    for (replay = more != NULL ? more->replays : NULL; replay != NULL; replay = replay->next) {
        sp_carry_block(out, sp_view(replay->filter, replay->len));
        sp_carry_number(out, replay->qos, 1);
        sp_carry_number(out, replay->id, 4);
        sp_carry_number(out, replay->last != NULL ? number_of(out, replay->last) : NO_MAIL, 4);
    }
}

static void put_session(struct sp_carry_out *out, const struct sp_session *session, bool goes_along)
{
    const struct sp_home *home = sp_session_device(session)->home;
    bool leaves = sp_session_client(session) != NULL && !goes_along;
    sp_carry_block(out, sp_view_str(sp_session_role(session)->name));
    sp_carry_number(out, sp_session_more(session)->base, 8);
    sp_carry_number(out, sp_session_more(session)->number, 8);
    sp_carry_number(out, sp_session_more(session)->sent, 8);
    sp_carry_number(out, session->version, 8);
    sp_carry_number(out, leaves ? home->timers->wall_ms : sp_session_more(session)->left_ms, 8);
    sp_carry_number(out, session->expiry_s, 4);
    sp_carry_number(out, session->full, 1);
    sp_carry_number(out, session->kept, 1);
    sp_carry_number(out, session->begun, 1);
    put_subscriptions(out, session);
    put_deliveries(out, session, goes_along);
    put_received(out, session->more);
    put_replays(out, session->more);
}

static uint64_t flags_of(const struct sp_client *client)
{
    bool challenged = client->guard == SP_GUARD_CHALLENGED;
    return (client->paused ? CLIENT_PAUSED : 0U) | (client->stalled ? CLIENT_STALLED : 0U) |
           (client->attested ? CLIENT_ATTESTED : 0U) | (client->again ? CLIENT_AGAIN : 0U) |
           (client->challenge_unacked ? CLIENT_CHALLENGE_UNACKED : 0U) |
           (client->grant_unacked ? CLIENT_GRANT_UNACKED : 0U) |
           (client->method ? CLIENT_METHOD : 0U) | (challenged ? CLIENT_CHALLENGED : 0U) |
           (client->terse ? CLIENT_TERSE : 0U);
}

static void put_aliases(struct sp_carry_out *out, const struct sp_aliases *aliases)
{
    struct sp_writer w;
    size_t size = aliases != NULL ? sp_aliases_size(aliases) : 0;
    sp_carry_number(out, size, 4);
    uint8_t *at = size > 0 && !out->failed ? sp_buf_reserve(&out->buf, size) : NULL;
    if (at != NULL) {
        sp_writer_init(&w, at, size);
        sp_aliases_write(aliases, &w);
        out->buf.used += (uint32_t)w.used;
    }
    out->failed = out->failed || (size > 0 && at == NULL);
}

static void put_client(struct sp_carry_out *out, const struct sp_client *client)
{
    size_t begun = out->buf.used;
    bool idle = client->guard == SP_GUARD_IDLE || client->guard == SP_GUARD_CHALLENGED;
    sp_carry_number(out, 0, 4);
    sp_carry_block(out, sp_view_str(sp_client_role(client)->name));
    sp_carry_number(out, client->version, 1);
    sp_carry_number(out, client->attestation, 1);
    sp_carry_number(out, client->binding, 1);
    sp_carry_number(out, client->records, 1);
    sp_carry_number(out, flags_of(client), 2);
    sp_carry_number(out, client->heard_ms, 8);
    /* A nonce that was asked for or not sent yet is of no use to anybody else: ask again. */
    sp_carry_number(out, idle ? client->attest_due_ms : client->home->timers->now_ms, 8);
    sp_carry_number(out, client->session_expiry_s, 4);
    sp_carry_number(out, sp_client_silence_ms(client), 4);
    sp_carry_number(out, sp_client_more(client)->answer_timeout_ms, 4);
    sp_carry_number(out, client->max_packet, 4);
    sp_carry_number(out, client->window, 2);
    sp_carry_number(out, client->receive_maximum, 2);
    sp_carry_number(out, sp_client_now(client)->unreleased, 2);
    sp_carry_number(out, client->unopened, 1);
    sp_carry_block(out, sp_client_group(client));
    sp_carry_block(out, sp_buf_view(&sp_client_now(client)->in));
    sp_carry_block(out, sp_buf_view(&sp_client_now(client)->grant));
    put_aliases(out, sp_client_more(client)->aliases);
    put_will(out, sp_client_more(client)->will);
    struct sp_peer peer = sp_client_peer(client);
    sp_carry_number(out, peer.port, 2);
    sp_carry_number(out, peer.family, 2);
    put_raw(out, SP_VIEW_ARRAY(peer.address));
    if (!out->failed) {
        struct sp_writer w;
        sp_writer_init(&w, out->buf.ptr + begun, 4);
        sp_write_u32(&w, (uint32_t)(out->buf.used - begun - 4));
    }
}

/* What a connection leaves that stays behind: its session, for as long as it asked, without a will. */
static bool left_behind(const struct sp_device *device, struct sp_device_wait *wait)
{
    const struct sp_client *client = sp_device_client(device);
    if (client == NULL || client->session_expiry_s == 0) {
        return sp_device_session(device) != NULL && client == NULL;
    }
    wait->session_ends_ms =
        device->home->timers->now_ms + (uint64_t)client->session_expiry_s * 1000;
    return sp_device_session(device) != NULL;
}

/* Everything that a session refers to. */
static void put_mails(struct sp_carry_out *out, const struct sp_session *session)
{
    for (const struct sp_delivery *d = sp_session_queue(session)->first; d != NULL; d = d->next) {
        put_mail(out, d->message);
    }
    const struct sp_replay *replay = session->more != NULL ? session->more->replays : NULL;
    for (; replay != NULL; replay = replay->next) {
        if (replay->last != NULL) {
            put_mail(out, replay->last);
        }
    }
}

bool sp_carry_device(struct sp_carry_out *out, const struct sp_device *device,
                     const struct sp_client *client, struct sp_view connection)
{
    struct sp_device_wait wait = {.session_ends_ms = UINT64_MAX};
    if (sp_device_wait(device) != NULL) {
        wait = *sp_device_wait(device);
    }
    bool session = client != NULL || left_behind(device, &wait);
    bool waits = sp_device_wait(device) != NULL || (session && client == NULL);
    if (!session && !waits) {
        return false;
    }
    if (session) {
        put_mails(out, sp_device_session(device));
    }
    if (wait.will != NULL) {
        put_mail(out, wait.will->message);
    }
    if (client != NULL && sp_client_more(client)->will != NULL) {
        put_mail(out, sp_client_own_more(client)->will->message);
    }
    size_t begun = sp_carry_begin(out, SP_CARRY_DEVICE);
    sp_carry_block(out, sp_device_identity(device));
    sp_carry_number(out,
                    (session ? HAS_SESSION : 0U) | (client != NULL ? HAS_CLIENT : 0U) |
                        (waits ? HAS_WAIT : 0U),
                    1);
    if (waits) {
        put_wait(out, &wait);
    }
    if (session) {
        put_session(out, sp_device_session(device), client != NULL);
    }
    if (client != NULL) {
        put_client(out, client);
        sp_carry_block(out, connection);
    }
    sp_carry_end(out, begun);
    return true;
}

void sp_carry_mark(struct sp_carry_out *out, const struct sp_mark *mark)
{
    size_t begun = sp_carry_begin(out, SP_CARRY_MARK);
    sp_carry_block(out, sp_view(mark->device, mark->device_len));
    sp_carry_block(out, sp_view(mark->group, mark->group_len));
    sp_carry_number(out, mark->epoch, 4);
    sp_carry_number(out, mark->counter, 8);
    sp_carry_number(out, mark->fed, 8);
    sp_carry_end(out, begun);
}

void sp_carry_retained(struct sp_carry_out *out, struct sp_view owner, struct sp_mail *message)
{
    put_mail(out, message);
    size_t begun = sp_carry_begin(out, SP_CARRY_RETAINED);
    sp_carry_block(out, owner);
    sp_carry_number(out, number_of(out, message), 4);
    sp_carry_end(out, begun);
}

void sp_carry_out_deinit(struct sp_carry_out *out)
{
    struct sp_table_node *node;
    while ((node = sp_table_any(&out->numbers)) != NULL) {
        sp_table_remove(&out->numbers, node);
        sp_slab_give(&numbers, node);
    }
    sp_table_deinit(&out->numbers);
    if (out->buf.ptr != NULL) {
        sp_wipe(out->buf.ptr, out->buf.cap);
    }
    sp_buf_free(&out->buf);
}

/* ---- reading ---- */

static struct sp_view get_block(struct sp_reader *r)
{
    return sp_read_bytes(r, sp_read_u32(r));
}

static enum sp_err keep_mail(struct sp_carry_in *in, struct sp_mail *mail)
{
    if (in->mail_count == in->mail_cap) {
        uint32_t cap = in->mail_cap == 0 ? 64 : in->mail_cap * 2;
        struct sp_mail **grown = realloc(in->mails, cap * sizeof(struct sp_mail *));
        if (grown == NULL) {
            sp_mail_release(mail);
            return SP_ERR_NOMEM;
        }
        in->mails = grown;
        in->mail_cap = cap;
    }
    in->mails[in->mail_count++] = mail;
    return SP_OK;
}

enum sp_err sp_carry_read_mail(struct sp_carry_in *in, struct sp_view body)
{
    struct sp_reader r;
    struct sp_mqtt_header header;
    struct sp_mqtt_publish publish;
    sp_reader_init(&r, body);
    uint64_t expires_ms = sp_read_u64(&r);
    struct sp_view packet = sp_read_rest(&r);
    if (sp_mqtt_peek(packet, SP_CARRY_ITEM_MAX, &header) != SP_OK ||
        header.type != SP_MQTT_PUBLISH ||
        packet.len != header.header_len + (size_t)header.body_len ||
        sp_mqtt_decode_publish(SP_MQTT_5, header.flags, sp_view_from(packet, header.header_len),
                               &publish) != SP_OK) {
        return SP_ERR_MALFORMED;
    }
    struct sp_mail *mail = sp_mail_create(&publish, 0);
    if (mail == NULL) {
        return SP_ERR_NOMEM;
    }
    mail->expires_ms = expires_ms;
    return keep_mail(in, mail);
}

/* The number of a role that has only its name, for sp_home_configure() to find the real one by; 0: none. */
static uint16_t role_named(struct sp_carry_in *in, struct sp_home *home, struct sp_view name)
{
    enum { ROLES_MAX = 1024 };
    for (size_t i = 0; i < in->role_count; i++) {
        if (sp_view_equal(sp_view_str(in->roles[i].name), name)) {
            home->roles = in->roles;
            return (uint16_t)(i + 1);
        }
    }
    if (in->roles == NULL) {
        in->roles = calloc(ROLES_MAX, sizeof(*in->roles)); /* they must not move */
    }
    if (in->roles == NULL || in->role_count == ROLES_MAX || name.len == 0 ||
        name.len >= SP_ROLE_NAME_MAX) {
        return 0;
    }
    char *text = strndup((const char *)name.ptr, name.len);
    if (text == NULL) {
        return 0;
    }
    home->roles = in->roles;
    in->roles[in->role_count].name = text;
    return (uint16_t)++in->role_count;
}

/* NULL and an error in the reader when there is no such message; NULL alone: there is no will. */
static struct sp_will *get_will(struct sp_carry_in *in, struct sp_reader *r)
{
    uint32_t number = sp_read_u32(r);
    if (r->err != SP_OK || number == NO_MAIL) {
        return NULL;
    }
    struct sp_will *will = number < in->mail_count ? calloc(1, sizeof(*will)) : NULL;
    if (will == NULL) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
        return NULL;
    }
    will->message = sp_mail_hold(in->mails[number]);
    will->delay_s = sp_read_u32(r);
    will->qos = sp_read_u8(r);
    will->attested = sp_read_u8(r) > 0;
    if (will->qos > 2) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
    }
    return will;
}

static enum sp_err get_wait(struct sp_carry_in *in, struct sp_reader *r, struct sp_device *device)
{
    struct sp_device_wait *wait = sp_device_may_wait(device);
    if (wait == NULL) {
        return SP_ERR_NOMEM;
    }
    wait->will = get_will(in, r);
    wait->session_ends_ms = sp_read_u64(r);
    wait->will_due_ms = sp_read_u64(r);
    wait->refusals_until_ms = sp_read_u64(r);
    wait->refusals = sp_read_u32(r);
    return r->err;
}

static enum sp_err get_subscriptions(struct sp_home *home, struct sp_reader *r,
                                     struct sp_session *session)
{
    uint32_t count = sp_read_u32(r);
    for (uint32_t i = 0; i < count && r->err == SP_OK; i++) {
        struct sp_view filter = get_block(r);
        struct sp_subscriber how = {.qos = sp_read_u8(r)};
        how.options = sp_read_u8(r);
        how.id = sp_read_u32(r);
        if (r->err != SP_OK || how.qos > 2 || !sp_topic_filter_valid(filter)) {
            return SP_ERR_MALFORMED;
        }
        bool existed;
        enum sp_err err = sp_session_subscribe(home, session, filter, how, &existed);
        if (err != SP_OK && err != SP_ERR_LIMIT) { /* fewer are allowed now */
            return err;
        }
    }
    return r->err;
}

static sp_slot_tag get_share(struct sp_home *home, struct sp_reader *r,
                             const struct sp_session *session)
{
    struct sp_view text = get_block(r);
    const struct sp_filter *filter =
        r->err == SP_OK && text.len > 0
            ? sp_subs_find(home->subs, text, home->index, sp_session_tag(session))
            : NULL;
    return filter != NULL && sp_filter_shared(filter)
               ? sp_subs_share(home->subs, filter, home->index)
               : 0;
}

static enum sp_err get_delivery(struct sp_carry_in *in, struct sp_reader *r, struct sp_home *home,
                                struct sp_session *session, bool sent)
{
    const struct sp_delivery *last = sp_session_queue(session)->last;
    uint32_t number = sp_read_u32(r);
    struct sp_delivery head = {.size = sp_read_u32(r)};
    head.number = sp_read_u64(r);
    head.place = sp_read_u8(r) != 0 ? SP_PLACE_JOURNAL : SP_PLACE_MEMORY;
    head.packet_id = sp_read_u16(r);
    head.qos = sp_read_u8(r);
    head.released = sp_read_u8(r) != 0;
    head.retain = sp_read_u8(r) != 0;
    head.loaded = sp_read_u8(r) != 0;
    head.share = get_share(home, r, session);
    head.id_count = sp_read_u16(r);
    if (r->err != SP_OK || number >= in->mail_count || head.qos < 1 || head.qos > 2 ||
        (sent && head.packet_id == 0) || head.number == 0 ||
        head.number > sp_session_more(session)->number ||
        (last != NULL && head.number <= last->number)) {
        return SP_ERR_MALFORMED;
    }
    struct sp_delivery *d = malloc(sizeof(*d) + head.id_count * sizeof(d->ids[0]));
    if (d == NULL) {
        return SP_ERR_NOMEM;
    }
    *d = head;
    for (uint16_t i = 0; i < head.id_count; i++) {
        d->ids[i] = sp_read_u32(r);
    }
    d->message = sp_mail_hold(in->mails[number]);
    SP_TRY(sp_session_queue_up(home, session, d, sent));
    return r->err;
}

static enum sp_err get_received(struct sp_reader *r, struct sp_session *session)
{
    uint32_t count = sp_read_u32(r);
    for (uint32_t i = 0; i < count && r->err == SP_OK; i++) {
        SP_TRY(sp_session_take(session, sp_read_u16(r), UINT16_MAX));
    }
    return r->err;
}

static enum sp_err get_replays(struct sp_carry_in *in, struct sp_reader *r, struct sp_home *home,
                               struct sp_session *session)
{
    uint32_t count = sp_read_u32(r);
    for (uint32_t i = 0; i < count && r->err == SP_OK; i++) {
        struct sp_view filter = get_block(r);
        uint8_t qos = sp_read_u8(r);
        uint32_t id = sp_read_u32(r);
        uint32_t last = sp_read_u32(r);
        if (r->err != SP_OK || qos > 2 || !sp_topic_filter_valid(filter) ||
            (last != NO_MAIL && last >= in->mail_count)) {
            return SP_ERR_MALFORMED;
        }
        /* Sends nothing yet: there is no client. */
        SP_TRY(sp_session_replay(home, session, filter, qos, id));
        struct sp_replay *made = session->more->replays;
        while (made->next != NULL) {
            made = made->next;
        }
        made->last = last != NO_MAIL ? sp_mail_hold(in->mails[last]) : NULL;
    }
    return r->err;
}

/* Of its messages. */
static enum sp_err get_numbers(struct sp_reader *r, struct sp_home *home,
                               struct sp_session *session)
{
    uint64_t base = sp_read_u64(r);
    uint64_t number = sp_read_u64(r);
    uint64_t sent = sp_read_u64(r);
    if (r->err != SP_OK || base > number || sent > number) {
        return SP_ERR_MALFORMED;
    }
    if (number > 0) {
        struct sp_session_more *more = sp_session_numbers(home, session);
        if (more == NULL) {
            return SP_ERR_NOMEM;
        }
        more->base = base;
        more->number = number;
        more->sent = sent;
    }
    return SP_OK;
}

static enum sp_err get_session(struct sp_carry_in *in, struct sp_reader *r, struct sp_home *home,
                               struct sp_device *device)
{
    struct sp_session *session;
    SP_TRY(sp_session_create(home, device, &session));
    session->role = role_named(in, home, get_block(r));
    SP_TRY(get_numbers(r, home, session));
    session->version = sp_read_u64(r);
    sp_session_left(session, sp_read_u64(r));
    session->expiry_s = sp_read_u32(r);
    session->full = sp_read_u8(r) != 0;
    session->kept = sp_read_u8(r) != 0;
    session->begun = sp_read_u8(r) != 0;
    if (r->err != SP_OK || session->role == 0) {
        return SP_ERR_MALFORMED;
    }
    SP_TRY(get_subscriptions(home, r, session));
    uint32_t count = sp_read_u32(r);
    uint32_t sent = sp_read_u32(r);
    if (sent > UINT16_MAX || sent > count) {
        return SP_ERR_MALFORMED;
    }
    for (uint32_t i = 0; i < count; i++) {
        SP_TRY(get_delivery(in, r, home, session, i < sent));
    }
    SP_TRY(get_received(r, session));
    return get_replays(in, r, home, session);
}

struct sp_view sp_carry_identity(struct sp_view body)
{
    struct sp_reader r;
    sp_reader_init(&r, body);
    struct sp_view identity = get_block(&r);
    return r.err == SP_OK && sp_link_identity_valid(identity) ? identity : sp_view(NULL, 0);
}

enum sp_err sp_carry_read_device(struct sp_carry_in *in, struct sp_home *home, struct sp_view body,
                                 struct sp_carried *out)
{
    struct sp_reader r;
    *out = (struct sp_carried){.device = NULL};
    sp_reader_init(&r, body);
    struct sp_view identity = get_block(&r);
    uint8_t has = sp_read_u8(&r);
    if (r.err != SP_OK || ((has & HAS_CLIENT) != 0 && (has & HAS_SESSION) == 0) ||
        ((has & (HAS_CLIENT | HAS_WAIT)) == 0)) {
        return SP_ERR_MALFORMED;
    }
    if (sp_device_find(home, identity) != NULL) {
        return SP_ERR_EXISTS;
    }
    struct sp_device *device = sp_device_get(home, identity);
    if (device == NULL) {
        return SP_ERR_NOMEM;
    }
    if ((has & HAS_WAIT) != 0) {
        SP_TRY(get_wait(in, &r, device));
    }
    if ((has & HAS_SESSION) != 0) {
        home->keep.applying = true; /* the journal knows it all */
        enum sp_err err = get_session(in, &r, home, device);
        home->keep.applying = false;
        SP_TRY(err);
    }
    out->device = device;
    if ((has & HAS_CLIENT) != 0) {
        out->client = get_block(&r);
        out->connection = get_block(&r);
    }
    SP_TRY(sp_reader_finish(&r));
    if ((has & HAS_CLIENT) == 0) {
        sp_device_settle(device);
    }
    return SP_OK;
}

/* Keys' new process knows of no verdict: whoever may need app keys is asked again, not all of them at once. */
static uint64_t attest_due(const struct sp_client *client, uint64_t carried)
{
    const struct sp_home *home = client->home;
    if (!client->attested || sp_client_more(client)->group == NULL ||
        client->guard != SP_GUARD_IDLE) {
        return carried;
    }
    uint64_t spread = sp_hash(home->seed, sp_client_identity(client)) % SP_CARRY_REGRANT_MS;
    uint64_t due = home->timers->now_ms + spread;
    return due < carried ? due : carried;
}

static void get_flags(struct sp_client *client, uint16_t flags)
{
    client->terse = (flags & CLIENT_TERSE) != 0;
    client->paused = (flags & CLIENT_PAUSED) != 0;
    client->stalled = (flags & CLIENT_STALLED) != 0;
    client->attested = (flags & CLIENT_ATTESTED) != 0;
    client->again = (flags & CLIENT_AGAIN) != 0;
    client->challenge_unacked = (flags & CLIENT_CHALLENGE_UNACKED) != 0;
    client->grant_unacked = (flags & CLIENT_GRANT_UNACKED) != 0;
    client->method = (flags & CLIENT_METHOD) != 0;
    client->guard = (flags & CLIENT_CHALLENGED) != 0 ? SP_GUARD_CHALLENGED : SP_GUARD_IDLE;
}

static enum sp_err get_peer(struct sp_client *client, struct sp_reader *r)
{
    struct sp_peer peer = {.port = sp_read_u16(r)};
    peer.family = sp_read_u16(r);
    struct sp_view address = sp_read_bytes(r, sizeof(peer.address));
    sp_copy(peer.address, address.ptr, address.len);
    return sp_client_set_peer(client, &peer);
}

static enum sp_err get_aliases(struct sp_reader *r, struct sp_client *client)
{
    struct sp_reader part;
    struct sp_view packed = get_block(r);
    if (r->err != SP_OK || packed.len == 0) {
        return r->err;
    }
    sp_reader_init(&part, packed);
    struct sp_client_more *more = sp_client_have_more(client);
    if (more == NULL) {
        return SP_ERR_NOMEM;
    }
    more->aliases = sp_aliases_read(&part);
    return sp_reader_finish(&part);
}

/* Told as the silence that is allowed, half as long again. */
static uint16_t get_keep_alive(struct sp_reader *r)
{
    uint32_t seconds = sp_read_u32(r) / 1500U;
    return seconds < UINT16_MAX ? (uint16_t)seconds : UINT16_MAX;
}

static enum sp_err get_client(struct sp_carry_in *in, struct sp_client *client, struct sp_reader *r)
{
    client->role = role_named(in, client->home, get_block(r));
    uint8_t version = sp_read_u8(r);
    uint8_t attestation = sp_read_u8(r);
    uint8_t binding = sp_read_u8(r);
    uint8_t records = sp_read_u8(r);
    get_flags(client, sp_read_u16(r));
    client->heard_ms = sp_read_u64(r);
    uint64_t due = sp_read_u64(r);
    client->session_expiry_s = sp_read_u32(r);
    client->keep_alive_s = get_keep_alive(r);
    uint32_t answer_timeout_ms = sp_read_u32(r);
    client->max_packet = sp_read_u32(r);
    client->window = sp_read_u16(r);
    client->receive_maximum = sp_read_u16(r);
    sp_client_in_flight(client)->unreleased = sp_read_u16(r);
    client->unopened = sp_read_u8(r) & 15U;
    struct sp_view group = get_block(r);
    struct sp_view buffered = get_block(r);
    struct sp_view grant = get_block(r);
    SP_TRY(get_aliases(r, client));
    SP_TRY(sp_client_keep_will(client, get_will(in, r)));
    SP_TRY(get_peer(client, r));
    SP_TRY(sp_reader_finish(r));
    if (client->role == 0 || (version != SP_MQTT_311 && version != SP_MQTT_5) ||
        attestation > SP_ATTESTATION_NONE || binding > SP_LINK_BINDING_NONE ||
        records > SP_RECORDS_SEALED || client->window == 0 || client->receive_maximum == 0 ||
        group.len >= SP_GROUP_NAME_MAX) {
        return SP_ERR_MALFORMED;
    }
    client->version = version & 7U;
    client->attestation = attestation & 15U;
    client->binding = binding & 15U;
    client->records = records & 15U;
    client->attest_due_ms = due;
    SP_TRY(sp_client_keep_timeout(client, answer_timeout_ms));
    SP_TRY(sp_client_join(client, group));
    SP_TRY(buffered.len == 0 ? SP_OK : sp_buf_append(&sp_client_in_flight(client)->in, buffered));
    return grant.len == 0 ? SP_OK : sp_buf_append(&sp_client_in_flight(client)->grant, grant);
}

enum sp_err sp_carry_read_client(struct sp_carry_in *in, struct sp_client *client,
                                 const struct sp_carried *carried)
{
    struct sp_device *device = carried->device;
    struct sp_session *session = sp_device_session(device);
    struct sp_reader r;
    sp_reader_init(&r, carried->client);
    SP_TRY(get_client(in, client, &r));
    client->device_ref = sp_ref_of(device);
    client->session_ref = sp_ref_of(session);
    client->state = SP_CLIENT_OPEN;
    device->client_ref = sp_ref_of(client);
    device->users++;
    session->client_ref = sp_ref_of(client);
    session->role = client->role;
    sp_session_tell_groups(client->home, session, false);
    client->attest_due_ms = attest_due(client, client->attest_due_ms);
    sp_metric_add(SP_M_SESSIONS_OFFLINE, -1);
    sp_metric_inc(SP_M_DEVICES_ONLINE);
    sp_metric_add(SP_M_DEVICES_ATTESTED, client->attested ? 1 : 0);
    sp_device_settle(device);
    sp_client_arm(client);
    if (sp_client_now(client)->in.used > 0) {
        sp_client_mark(client);
    }
    return SP_OK;
}

enum sp_err sp_carry_read_mark(struct sp_home *home, struct sp_view body)
{
    struct sp_reader r;
    sp_reader_init(&r, body);
    struct sp_view device = get_block(&r);
    struct sp_view group = get_block(&r);
    uint32_t epoch = sp_read_u32(&r);
    uint64_t counter = sp_read_u64(&r);
    uint64_t fed = sp_read_u64(&r);
    SP_TRY(sp_reader_finish(&r));
    struct sp_mark *mark = sp_marks_get(&home->marks, device, group, epoch);
    if (mark == NULL) {
        return SP_ERR_NOMEM;
    }
    mark->counter = counter;
    mark->fed = fed;
    return SP_OK;
}

enum sp_err sp_carry_read_retained(struct sp_carry_in *in, struct sp_home *home,
                                   struct sp_view body)
{
    struct sp_reader r;
    sp_reader_init(&r, body);
    struct sp_view owner = get_block(&r);
    uint32_t number = sp_read_u32(&r);
    SP_TRY(sp_reader_finish(&r));
    if (owner.len == 0 || number >= in->mail_count || home->retained == NULL) {
        return SP_ERR_MALFORMED;
    }
    return sp_retained_put(home->retained, owner, in->mails[number]);
}

void sp_carry_in_deinit(struct sp_carry_in *in)
{
    for (uint32_t i = 0; i < in->mail_count; i++) {
        sp_mail_release(in->mails[i]);
    }
    free(in->mails);
    for (size_t i = 0; i < in->role_count; i++) {
        free(in->roles[i].name);
    }
    free(in->roles);
    *in = (struct sp_carry_in){.mails = NULL};
}
