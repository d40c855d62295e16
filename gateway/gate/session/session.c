/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/session.h"

#include "gateway/gate/route/mail.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/keep.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/slab/slab.h"

#include <stdlib.h>

#define DELIVERY_COST 64U /* bytes counted beside topic and payload */

static struct sp_slabs lists = SP_SLABS_INIT; /* of subscriptions */
static struct sp_slab slab = SP_SLAB_INIT(sizeof(struct sp_session));

enum sp_err sp_session_create(struct sp_home *home, struct sp_device *device,
                              struct sp_session **out)
{
    *out = NULL;
    struct sp_session *session = sp_slab_take(&slab);
    if (session == NULL) {
        return SP_ERR_NOMEM;
    }
    session->device = device;
    /* Above all numbers of earlier sessions, so that none is ever taken for one of those; the first packet id is 1. */
    session->base = (home->timers->wall_ms << 20) / SP_SESSION_ID_MAX * SP_SESSION_ID_MAX;
    session->number = session->base;
    session->sent = session->base;
    enum sp_err err = sp_slots_put(&home->sessions, session, &session->tag);
    if (err != SP_OK) {
        sp_slab_give(&slab, session);
        return err;
    }
    sp_metric_inc(SP_M_SESSIONS_OFFLINE);
    *out = session;
    return SP_OK;
}

static void forget_subscription(struct sp_home *home, struct sp_session *session, uint32_t index)
{
    sp_subs_remove(home->subs, session->subs[index], home->index, session->tag);
    session->subs[index] = session->subs[--session->sub_count];
    sp_metric_add(SP_M_SUBSCRIPTIONS, -1);
}

static void delivery_free(struct sp_home *home, struct sp_session *session,
                          struct sp_delivery *delivery)
{
    sp_receipt_settle(home, delivery->receipt, false);
    session->bytes -= delivery->size;
    sp_mail_release(delivery->message);
    free(delivery);
}

void sp_session_destroy(struct sp_home *home, struct sp_session *session)
{
    if (session == NULL) {
        return;
    }
    while (session->sub_count > 0) {
        forget_subscription(home, session, session->sub_count - 1);
    }
    while (session->first != NULL) {
        struct sp_delivery *delivery = session->first;
        session->first = delivery->next;
        delivery_free(home, session, delivery);
    }
    sp_keep_quiet(session);
    if (session->client == NULL) {
        sp_metric_add(SP_M_SESSIONS_OFFLINE, -1);
    } else {
        session->client->session = NULL;
    }
    sp_slots_remove(&home->sessions, session->tag);
    sp_slabs_give(&lists, session->subs, session->sub_cap * sizeof(struct sp_filter *));
    sp_slab_give(&slab, session);
}

void sp_session_attach(struct sp_home *home, struct sp_session *session, struct sp_client *client)
{
    session->client = client;
    session->role = client->role;
    client->session = session;
    session->expiry_s = client->session_expiry_s;
    session->left_ms = 0;
    if (!session->kept && session->expiry_s > 0) {
        sp_keep_begin(home, session);
    } else if (session->kept && session->expiry_s > 0) {
        sp_keep_change(home, session);
    } else if (session->kept) {
        sp_keep_end(home, session);
    }
    sp_metric_add(SP_M_SESSIONS_OFFLINE, -1);
    session->full = false;
    sp_session_pump(home, session);
}

void sp_session_detach(struct sp_home *home, struct sp_session *session)
{
    session->client->session = NULL;
    session->client = NULL;
    session->unsent = session->first;
    session->in_flight = 0;
    sp_metric_inc(SP_M_SESSIONS_OFFLINE);
    session->left_ms = home->timers->wall_ms;
    if (session->kept) {
        sp_keep_store(home, session);
        sp_keep_change(home, session);
    }
}

/* ---- deliveries ---- */

static bool id_in_use(const struct sp_session *session, uint16_t id)
{
    for (const struct sp_delivery *d = session->first; d != session->unsent; d = d->next) {
        if (d->packet_id == id) {
            return true;
        }
    }
    return false;
}

/* From the number, so that it is the same on every connection, after whatever happened in between. */
static uint16_t id_of(uint64_t number)
{
    return (uint16_t)((number - 1) % SP_SESSION_ID_MAX + 1);
}

/* Take out the delivery behind `previous` (NULL: the first). */
static void drop(struct sp_home *home, struct sp_session *session, struct sp_delivery *previous,
                 struct sp_delivery *delivery, bool refused)
{
    sp_keep_leaves(home, session, delivery, refused);
    if (previous == NULL) {
        session->first = delivery->next;
    } else {
        previous->next = delivery->next;
    }
    if (session->last == delivery) {
        session->last = previous;
    }
    if (session->unsent == delivery) {
        session->unsent = delivery->next;
    }
    if (session->storing == delivery) {
        session->storing = delivery->next;
    }
    delivery_free(home, session, delivery);
}

static struct sp_delivery *before(const struct sp_session *session,
                                  const struct sp_delivery *delivery)
{
    struct sp_delivery *previous = NULL;
    for (struct sp_delivery *d = session->first; d != delivery; d = d->next) {
        previous = d;
    }
    return previous;
}

static void log_lapsed(const struct sp_session *session, const struct sp_delivery *delivery,
                       const char *detail)
{
    sp_metric_inc(SP_M_PUBLISH_DROPPED);
    if (session->kept && sp_client_may_log(session->client)) {
        sp_log_info(SP_EVENT("message_lapsed"),
                    SP_F_VIEW("device", sp_device_identity(session->device)),
                    SP_F_VIEW("topic", delivery->message->topic), SP_F_STR("detail", detail));
    }
}

/* Send the first unsent one. Expired and too large ones leave the queue instead. */
static void send_one(struct sp_home *home, struct sp_session *session)
{
    struct sp_delivery *delivery = session->unsent;
    bool again = delivery->packet_id != 0;
    struct sp_mqtt_publish publish = {.qos = 1, .dup = again};
    /* What was sent once is sent again, expired or not: the receiver may have it half. */
    bool alive = sp_mail_packet(delivery->message, home->timers->now_ms, &publish) || again;
    publish.packet_id = id_of(delivery->number);
    if (!alive || !sp_client_fits(session->client, &publish)) {
        log_lapsed(session, delivery, alive ? "too large for the device" : "it has expired");
        drop(home, session, before(session, delivery), delivery, false);
        return;
    }
    delivery->packet_id = publish.packet_id;
    session->sent = delivery->number > session->sent ? delivery->number : session->sent;
    session->unsent = delivery->next;
    session->in_flight++;
    sp_client_publish(session->client, &publish);
}

void sp_session_pump(struct sp_home *home, struct sp_session *session)
{
    while (session->unsent != NULL && session->client != NULL &&
           !id_in_use(session, id_of(session->unsent->number)) &&
           sp_client_window(session->client) > session->in_flight &&
           sp_client_room(session->client, session->unsent->size)) {
        send_one(home, session);
    }
}

static void send_qos0(struct sp_home *home, struct sp_session *session, struct sp_mail *message)
{
    struct sp_mqtt_publish publish = {.qos = 0};
    if (session->client == NULL || !sp_mail_packet(message, home->timers->now_ms, &publish)) {
        return;
    }
    if (sp_client_fits(session->client, &publish) &&
        sp_client_room(session->client, message->topic.len + message->payload.len)) {
        sp_client_publish(session->client, &publish);
    } else {
        sp_metric_inc(SP_M_PUBLISH_DROPPED);
    }
}

static void queue_full(struct sp_home *home, struct sp_session *session,
                       struct sp_receipt_ref receipt)
{
    sp_metric_inc(SP_M_PUBLISH_DROPPED);
    sp_receipt_settle(home, receipt, true);
    if (!session->full) {
        session->full = true;
        sp_log_warn(SP_EVENT("session_queue_full"),
                    SP_F_VIEW("device", sp_device_identity(session->device)),
                    SP_F_INT("bytes", session->bytes));
    }
}

/* Behind all others. NULL: no memory. */
static struct sp_delivery *append(struct sp_session *session, struct sp_mail *message,
                                  uint64_t number)
{
    struct sp_delivery *delivery = malloc(sizeof(*delivery));
    if (delivery == NULL) {
        return NULL;
    }
    *delivery = (struct sp_delivery){
        .message = sp_mail_hold(message),
        .number = number,
        .size = (uint32_t)(DELIVERY_COST + message->topic.len + message->payload.len),
    };
    session->number = number;
    session->bytes += delivery->size;
    if (session->first == NULL) {
        session->first = delivery;
    } else {
        session->last->next = delivery;
    }
    session->last = delivery;
    if (session->unsent == NULL) {
        session->unsent = delivery;
    }
    if (session->storing == NULL) {
        session->storing = delivery;
    }
    return delivery;
}

void sp_session_offer(struct sp_home *home, struct sp_session *session, struct sp_mail *message,
                      uint8_t qos, struct sp_receipt_ref receipt)
{
    if (qos == 0) {
        send_qos0(home, session, message);
        sp_receipt_settle(home, receipt, false);
        return;
    }
    size_t size = DELIVERY_COST + message->topic.len + message->payload.len;
    if (session->bytes + size > home->config->limits.session_queue_bytes) {
        queue_full(home, session, receipt);
        return;
    }
    struct sp_delivery *delivery = append(session, message, session->number + 1);
    if (delivery == NULL) {
        queue_full(home, session, receipt);
        return;
    }
    if (session->kept) {
        delivery->receipt = receipt;
        delivery->since_ms = home->timers->now_ms;
    } else {
        sp_receipt_settle(home, receipt, false);
    }
    sp_session_pump(home, session);
    if (session->kept) {
        sp_keep_offered(home, session);
    }
}

enum sp_err sp_session_restore(struct sp_session *session, struct sp_mail *message, uint64_t number,
                               bool sent)
{
    if (session->last != NULL && session->last->number >= number) {
        return SP_ERR_MALFORMED;
    }
    uint64_t highest = session->number;
    struct sp_delivery *delivery = append(session, message, number);
    if (delivery == NULL) {
        return SP_ERR_NOMEM;
    }
    session->number = highest > number ? highest : number;
    delivery->place = SP_PLACE_JOURNAL;
    delivery->packet_id = sent ? id_of(number) : 0;
    return SP_OK;
}

void sp_session_stored(struct sp_home *home, struct sp_session *session, uint64_t number,
                       bool durable)
{
    struct sp_delivery *delivery = session->storing;
    while (delivery != NULL && delivery->number < number) {
        delivery = delivery->next;
    }
    if (delivery == NULL || delivery->number != number) {
        return; /* the device has acknowledged it meanwhile */
    }
    session->storing = delivery;
    delivery->place = durable ? SP_PLACE_JOURNAL : SP_PLACE_MEMORY;
    if (durable) {
        session->storing = delivery->next;
        sp_receipt_settle(home, delivery->receipt, false);
        delivery->receipt = (struct sp_receipt_ref){0, 0};
    } else if (delivery->packet_id == 0) { /* nobody has it */
        queue_full(home, session, delivery->receipt);
        delivery->receipt = (struct sp_receipt_ref){0, 0};
        drop(home, session, before(session, delivery), delivery, true);
    } else {
        sp_receipt_settle(home, delivery->receipt, true);
        delivery->receipt = (struct sp_receipt_ref){0, 0};
    }
}

bool sp_session_acked(struct sp_home *home, struct sp_session *session, uint16_t packet_id)
{
    struct sp_delivery *previous = NULL;
    struct sp_delivery *delivery = session->first;
    while (delivery != session->unsent && delivery->packet_id != packet_id) {
        previous = delivery;
        delivery = delivery->next;
    }
    if (delivery == session->unsent) {
        return false;
    }
    drop(home, session, previous, delivery, false);
    session->in_flight--;
    session->full = false;
    sp_session_pump(home, session);
    return true;
}

/* ---- subscriptions ---- */

/* Room for one more. */
static enum sp_err grow(struct sp_session *session)
{
    if (session->sub_count < session->sub_cap) {
        return SP_OK;
    }
    const size_t each = sizeof(struct sp_filter *);
    uint32_t cap = session->sub_cap == 0 ? 2 : session->sub_cap * 2;
    struct sp_filter **subs = sp_slabs_take(&lists, cap * each);
    if (subs == NULL) {
        return SP_ERR_NOMEM;
    }
    sp_copy(subs, session->subs, session->sub_count * each);
    sp_slabs_give(&lists, session->subs, session->sub_cap * each);
    session->subs = subs;
    session->sub_cap = cap;
    return SP_OK;
}

enum sp_err sp_session_subscribe(struct sp_home *home, struct sp_session *session,
                                 struct sp_view filter, struct sp_subscriber wanted)
{
    bool existed = sp_subs_find(home->subs, filter, home->index, session->tag) != NULL;
    if (!existed && session->sub_count >= home->config->limits.subscriptions) {
        return SP_ERR_LIMIT;
    }
    SP_TRY(grow(session));
    wanted.session = session->tag;
    wanted.loop = home->index;
    wanted.options = (uint8_t)(wanted.options & ~SP_SUB_KEPT) | (session->kept ? SP_SUB_KEPT : 0);
    struct sp_filter *made = NULL;
    SP_TRY(sp_subs_add(home->subs, filter, &wanted, &existed, &made));
    if (!existed) {
        session->subs[session->sub_count++] = made;
        sp_metric_inc(SP_M_SUBSCRIPTIONS);
    }
    if (session->kept) {
        sp_keep_subscribe(home, session, filter, &wanted);
    }
    return SP_OK;
}

bool sp_session_unsubscribe(struct sp_home *home, struct sp_session *session, struct sp_view filter)
{
    const struct sp_filter *there = sp_subs_find(home->subs, filter, home->index, session->tag);
    for (uint32_t i = 0; there != NULL && i < session->sub_count; i++) {
        if (session->subs[i] == there) {
            if (session->kept) {
                sp_keep_unsubscribe(home, session, filter);
            }
            forget_subscription(home, session, i);
            return true;
        }
    }
    return false;
}

void sp_session_mark_kept(struct sp_home *home, struct sp_session *session)
{
    for (uint32_t i = 0; i < session->sub_count; i++) {
        sp_subs_mark(home->subs, session->subs[i], home->index, session->tag, SP_SUB_KEPT,
                     session->kept);
    }
}
