/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Devices written down (gate/session/carry.h). What is added here is read by carry_in.c. */
#include "gateway/gate/route/mail.h"
#include "gateway/gate/session/aliases.h"
#include "gateway/gate/session/carry_internal.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/slab/slab.h"

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
    return SP_CARRY_NO_MAIL;
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
    if (out->failed || number_of(out, mail) != SP_CARRY_NO_MAIL) {
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
    sp_carry_number(out, will == NULL ? SP_CARRY_NO_MAIL : number_of(out, will->message), 4);
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
        sp_carry_number(out, replay->last != NULL ? number_of(out, replay->last) : SP_CARRY_NO_MAIL,
                        4);
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
    return (client->paused ? SP_CARRY_CLIENT_PAUSED : 0U) |
           (client->stalled ? SP_CARRY_CLIENT_STALLED : 0U) |
           (client->attested ? SP_CARRY_CLIENT_ATTESTED : 0U) |
           (client->again ? SP_CARRY_CLIENT_AGAIN : 0U) |
           (client->challenge_unacked ? SP_CARRY_CLIENT_CHALLENGE_UNACKED : 0U) |
           (client->grant_unacked ? SP_CARRY_CLIENT_GRANT_UNACKED : 0U) |
           (client->method ? SP_CARRY_CLIENT_METHOD : 0U) |
           (challenged ? SP_CARRY_CLIENT_CHALLENGED : 0U) |
           (client->terse ? SP_CARRY_CLIENT_TERSE : 0U);
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
                    (session ? SP_CARRY_HAS_SESSION : 0U) |
                        (client != NULL ? SP_CARRY_HAS_CLIENT : 0U) |
                        (waits ? SP_CARRY_HAS_WAIT : 0U),
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
