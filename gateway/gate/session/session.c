/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/session.h"

#include "gateway/gate/route/mail.h"
#include "gateway/gate/route/retained.h"
#include "gateway/gate/route/route.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/keep.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/slab/slab.h"
#include "libs/mqtt/topic.h"

#include <stdlib.h>

#define DELIVERY_COST 64U /* bytes counted beside topic and payload */
#define SUB_BITS_MAX  15U /* what a session counts its subscriptions with has one more */
#define REPLAY_BATCH  8U  /* retained messages that are looked up at a time */

static struct sp_slabs lists = SP_SLABS_INIT; /* of subscriptions */
static struct sp_slab slab = SP_SLAB_INIT(sizeof(struct sp_session));

const struct sp_queue sp_queue_empty;
const struct sp_session_more sp_session_plain;

enum sp_err sp_session_create(struct sp_home *home, struct sp_device *device,
                              struct sp_session **out)
{
    *out = NULL;
    struct sp_session *session = sp_slab_take(&slab);
    if (session == NULL) {
        return SP_ERR_NOMEM;
    }
    session->device_ref = sp_ref_of(device);
    sp_slot_tag tag;
    enum sp_err err = sp_slots_put(&home->sessions, session, &tag);
    if (err != SP_OK) {
        sp_slab_give(&slab, session);
        return err;
    }
    session->slot = (uint32_t)tag;
    device->session_ref = sp_ref_of(session);
    sp_metric_inc(SP_M_SESSIONS_OFFLINE);
    *out = session;
    return SP_OK;
}

const struct sp_role_config *sp_session_role(const struct sp_session *session)
{
    return sp_home_role(sp_session_device(session)->home, session->role);
}

sp_slot_tag sp_session_tag(const struct sp_session *session)
{
    return sp_slots_tag(&sp_session_device(session)->home->sessions, session->slot);
}

/* Where its subscriptions are. */
static struct sp_filter **places(struct sp_session *session)
{
    return session->sub_bits == 0 ? &session->sub : session->subs;
}

/* Bytes of its list of them. */
static size_t list_size(unsigned sub_bits)
{
    return ((size_t)1 << sub_bits) * sizeof(struct sp_filter *);
}

static void forget_subscription(struct sp_home *home, struct sp_session *session, uint32_t index)
{
    sp_subs_remove(home->subs, sp_session_sub(session, index), home->index,
                   sp_session_tag(session));
    places(session)[index] = sp_session_sub(session, --session->sub_count);
    sp_metric_add(SP_M_SUBSCRIPTIONS, -1);
}

/* What this session will not acknowledge any more: another member of the group gets it, unless it is a QoS 2 message of which this
 * one may have a copy (MQTT 5, 4.8.2). */
static void give_back(struct sp_home *home, struct sp_session *session)
{
    for (struct sp_delivery *d = sp_session_queue(session)->first; d != NULL; d = d->next) {
        if (d->share != 0 && (d->qos == 1 || d->packet_id == 0)) {
            sp_route_again(home, d->message, d->share, sp_session_tag(session));
        }
    }
}

/* NULL: no memory. */
static struct sp_session_more *more_of(struct sp_session *session)
{
    if (session->more == NULL) {
        session->more = calloc(1, sizeof(*session->more));
    }
    return session->more;
}

uint64_t sp_session_fresh_number(const struct sp_home *home)
{
    /* Above all numbers of earlier sessions, so that none is ever taken for one of those; the first packet id is 1. */
    return (home->timers->wall_ms << 20) / SP_SESSION_ID_MAX * SP_SESSION_ID_MAX;
}

struct sp_session_more *sp_session_numbers(const struct sp_home *home, struct sp_session *session)
{
    struct sp_session_more *more = more_of(session);
    if (more != NULL && more->number == 0) {
        more->base = sp_session_fresh_number(home);
        more->number = more->base;
        more->sent = more->base;
    }
    return more;
}

/* Take it off the list and free it. */
static void replay_end(struct sp_replay **at)
{
    struct sp_replay *replay = *at;
    *at = replay->next;
    sp_mail_release(replay->last);
    free(replay);
}

/* Free it when it is empty. */
static void settle_more(struct sp_session *session)
{
    struct sp_session_more *more = session->more;
    if (more != NULL && more->queue == NULL && more->replays == NULL && more->received_count == 0 &&
        more->number == 0 && more->left_ms == 0) {
        free(more->received);
        free(more);
        session->more = NULL;
    }
}

static void forget_more(struct sp_session *session)
{
    while (session->more != NULL && session->more->replays != NULL) {
        replay_end(&session->more->replays);
    }
    if (session->more != NULL) {
        session->more->received_count = 0;
        session->more->number = 0;
        session->more->left_ms = 0;
        settle_more(session);
    }
}

static void delivery_free(struct sp_home *home, struct sp_delivery *delivery)
{
    sp_receipt_settle(home, delivery->receipt, false);
    home->queued -= delivery->size;
    sp_mail_release(delivery->message);
    free(delivery);
}

static void forget_queue(struct sp_home *home, struct sp_session *session)
{
    struct sp_delivery *next;
    if (session->more == NULL) {
        return;
    }
    for (struct sp_delivery *d = sp_session_queue(session)->first; d != NULL; d = next) {
        next = d->next;
        delivery_free(home, d);
    }
    sp_keep_quiet(session);
    free(session->more->queue);
    session->more->queue = NULL;
}

void sp_session_destroy(struct sp_home *home, struct sp_session *session)
{
    if (session == NULL) {
        return;
    }
    give_back(home, session);
    while (session->sub_count > 0) {
        forget_subscription(home, session, session->sub_count - 1);
    }
    forget_queue(home, session);
    forget_more(session);
    if (sp_session_client(session) == NULL) {
        sp_metric_add(SP_M_SESSIONS_OFFLINE, -1);
    } else {
        sp_session_client(session)->session_ref = 0;
    }
    sp_slots_remove(&home->sessions, sp_session_tag(session));
    if (session->sub_bits > 0) {
        sp_slabs_give(&lists, session->subs, list_size(session->sub_bits));
    }
    sp_slab_give(&slab, session);
}

void sp_session_left(struct sp_session *session, uint64_t wall_ms)
{
    struct sp_session_more *more = wall_ms == 0 ? session->more : more_of(session);
    if (more != NULL) {
        more->left_ms = wall_ms;
        settle_more(session);
    }
}

void sp_session_tell_groups(struct sp_home *home, struct sp_session *session, bool away)
{
    for (uint16_t i = 0; i < session->sub_count; i++) {
        if (sp_filter_shared(sp_session_sub(session, i))) {
            sp_subs_mark(home->subs, sp_session_sub(session, i), home->index,
                         sp_session_tag(session), SP_SUB_AWAY, away);
        }
    }
}

void sp_session_attach(struct sp_home *home, struct sp_session *session, struct sp_client *client)
{
    session->role = client->role;
    session->expiry_s = client->session_expiry_s;
    session->client_ref = sp_ref_of(client);
    client->session_ref = sp_ref_of(session);
    sp_session_left(session, 0);
    if (!session->kept && session->expiry_s > 0) {
        sp_keep_begin(home, session);
    } else if (session->kept && session->expiry_s > 0) {
        sp_keep_change(home, session);
    } else if (session->kept) {
        sp_keep_end(home, session);
    }
    sp_metric_add(SP_M_SESSIONS_OFFLINE, -1);
    session->full = false;
    sp_session_tell_groups(home, session, false);
    sp_session_pump(home, session);
}

void sp_session_detach(struct sp_home *home, struct sp_session *session)
{
    sp_session_tell_groups(home, session, true);
    sp_session_client(session)->session_ref = 0;
    session->client_ref = 0;
    struct sp_queue *queue = sp_session_own_queue(session);
    if (queue != NULL) {
        queue->unsent = queue->first;
        queue->in_flight = 0;
    }
    sp_metric_inc(SP_M_SESSIONS_OFFLINE);
    sp_session_left(session, home->timers->wall_ms);
    if (session->kept) {
        sp_keep_store(home, session);
        sp_keep_change(home, session);
    }
}

/* ---- deliveries ---- */

static bool id_in_use(const struct sp_session *session, uint16_t id)
{
    const struct sp_queue *queue = sp_session_queue(session);
    for (const struct sp_delivery *d = queue->first; d != queue->unsent; d = d->next) {
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

/* Take out the delivery behind `previous` (NULL: the first); the queue goes with the last one. */
static void drop(struct sp_home *home, struct sp_session *session, struct sp_delivery *previous,
                 struct sp_delivery *delivery, bool refused)
{
    struct sp_queue *queue = sp_session_own_queue(session);
    sp_keep_leaves(home, session, delivery, refused);
    if (previous == NULL) {
        queue->first = delivery->next;
    } else {
        previous->next = delivery->next;
    }
    if (queue->last == delivery) {
        queue->last = previous;
    }
    if (queue->unsent == delivery) {
        queue->unsent = delivery->next;
    }
    if (queue->storing == delivery) {
        queue->storing = delivery->next;
    }
    queue->bytes -= delivery->size;
    delivery_free(home, delivery);
    if (queue->first == NULL) {
        forget_queue(home, session);
    }
}

static struct sp_delivery *before(const struct sp_session *session,
                                  const struct sp_delivery *delivery)
{
    struct sp_delivery *previous = NULL;
    for (struct sp_delivery *d = session->more->queue->first; d != delivery; d = d->next) {
        previous = d;
    }
    return previous;
}

static void put_ids(struct sp_mqtt_publish *publish, const uint32_t *ids, uint16_t count)
{
    if (count > 0) {
        publish->props.present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID);
        publish->props.subscription_ids = ids;
        publish->props.subscription_id_count = count;
    }
}

static void went_out(struct sp_session *session, struct sp_delivery *delivery)
{
    session->more->queue->unsent = delivery->next;
    session->more->queue->in_flight++;
}

static void log_lapsed(const struct sp_session *session, const struct sp_delivery *delivery,
                       const char *detail)
{
    sp_metric_inc(SP_M_PUBLISH_DROPPED);
    if (session->kept && sp_client_may_log(sp_session_client(session))) {
        sp_log_info(SP_EVENT("message_lapsed"),
                    SP_F_VIEW("device", sp_device_identity(sp_session_device(session))),
                    SP_F_VIEW("topic", delivery->message->topic), SP_F_STR("detail", detail));
    }
}

/* Send the first unsent one. Expired and too large ones leave the queue instead. */
static void send_one(struct sp_home *home, struct sp_session *session)
{
    struct sp_delivery *delivery = session->more->queue->unsent;
    bool again = delivery->packet_id != 0;
    if (delivery->released) {
        went_out(session, delivery);
        sp_client_send_ack(sp_session_client(session), SP_MQTT_PUBREL, delivery->packet_id, 0);
        return;
    }
    struct sp_mqtt_publish publish = {
        .qos = delivery->qos, .dup = again || delivery->loaded, .retain = delivery->retain};
    /* What was sent once is sent again, expired or not: the receiver may have it half. */
    bool alive = sp_mail_packet(delivery->message, home->timers->now_ms, &publish) || again;
    publish.packet_id = id_of(delivery->number);
    put_ids(&publish, delivery->ids, delivery->id_count);
    if (!alive || !sp_client_fits(sp_session_client(session), &publish)) {
        log_lapsed(session, delivery, alive ? "too large for the device" : "it has expired");
        drop(home, session, before(session, delivery), delivery, false);
        return;
    }
    delivery->packet_id = publish.packet_id;
    if (delivery->number > session->more->sent) {
        session->more->sent = delivery->number;
    }
    went_out(session, delivery);
    sp_client_publish(sp_session_client(session), &publish);
}

static void pump(struct sp_home *home, struct sp_session *session)
{
    struct sp_client *client;
    const struct sp_queue *queue;
    while ((queue = sp_session_queue(session))->unsent != NULL &&
           (client = sp_session_client(session)) != NULL &&
           !id_in_use(session, id_of(queue->unsent->number)) &&
           sp_client_window(client) > queue->in_flight &&
           sp_client_room(client, queue->unsent->size)) {
        send_one(home, session);
    }
}

static void send_qos0(struct sp_home *home, struct sp_session *session,
                      const struct sp_offer *offer)
{
    const struct sp_mail *message = offer->message;
    struct sp_client *client = sp_session_client(session);
    struct sp_mqtt_publish publish = {.qos = 0, .retain = offer->retain};
    if (client == NULL || !sp_mail_packet(message, home->timers->now_ms, &publish)) {
        return;
    }
    put_ids(&publish, offer->ids, offer->id_count);
    if (sp_client_fits(client, &publish) &&
        sp_client_room(client, message->topic.len + message->payload.len)) {
        sp_client_publish(client, &publish);
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
                    SP_F_VIEW("device", sp_device_identity(sp_session_device(session))),
                    SP_F_INT("bytes", sp_session_queue(session)->bytes));
    }
}

static size_t size_of(const struct sp_offer *offer)
{
    return DELIVERY_COST + offer->message->topic.len + offer->message->payload.len +
           offer->id_count * sizeof(offer->ids[0]);
}

/* NULL: no memory. */
static struct sp_queue *queue_of(struct sp_session *session)
{
    struct sp_session_more *more = more_of(session);
    if (more != NULL && more->queue == NULL) {
        more->queue = malloc(sizeof(*more->queue));
        if (more->queue != NULL) {
            *more->queue = sp_queue_empty;
        }
    }
    return more == NULL ? NULL : more->queue;
}

enum sp_err sp_session_queue_up(struct sp_home *home, struct sp_session *session,
                                struct sp_delivery *delivery, bool sent)
{
    struct sp_queue *queue = queue_of(session);
    if (queue == NULL) {
        sp_mail_release(delivery->message);
        free(delivery);
        return SP_ERR_NOMEM;
    }
    queue->bytes += delivery->size;
    home->queued += delivery->size;
    if (queue->first == NULL) {
        queue->first = delivery;
    } else {
        queue->last->next = delivery;
    }
    queue->last = delivery;
    if (queue->storing == NULL && delivery->place != SP_PLACE_JOURNAL) {
        queue->storing = delivery;
    }
    if (sent) {
        queue->in_flight++;
    } else if (queue->unsent == NULL) {
        queue->unsent = delivery;
    }
    return SP_OK;
}

/* In its own queue, and in those of all sessions of this loop together. */
static bool has_room(const struct sp_home *home, const struct sp_session *session, size_t size)
{
    const struct sp_limits_config *limits = &home->config->limits;
    return sp_session_queue(session)->bytes + size <= limits->session_queue_bytes &&
           home->queued + size <= limits->session_queues_bytes / home->loops;
}

/* Behind all others; its numbers have begun. NULL: no memory. */
static struct sp_delivery *append(struct sp_home *home, struct sp_session *session,
                                  const struct sp_offer *offer, uint8_t qos, uint64_t number)
{
    size_t ids = offer->id_count * sizeof(offer->ids[0]);
    struct sp_delivery *delivery = malloc(sizeof(*delivery) + ids);
    if (delivery == NULL) {
        return NULL;
    }
    *delivery = (struct sp_delivery){
        .message = sp_mail_hold(offer->message),
        .number = number,
        .share = offer->share,
        .size = (uint32_t)size_of(offer),
        .qos = qos,
        .retain = offer->retain,
        .id_count = offer->id_count,
    };
    sp_copy(delivery->ids, offer->ids, ids);
    if (sp_session_queue_up(home, session, delivery, false) != SP_OK) {
        return NULL;
    }
    session->more->number = number;
    return delivery;
}

void sp_session_offer(struct sp_home *home, struct sp_session *session,
                      const struct sp_offer *offer)
{
    struct sp_mail *message = offer->message;
    uint8_t qos = offer->qos < message->qos ? offer->qos : message->qos;
    if (qos == 0) {
        send_qos0(home, session, offer);
        sp_receipt_settle(home, offer->receipt, false);
        return;
    }
    if (!has_room(home, session, size_of(offer))) {
        queue_full(home, session, offer->receipt);
        return;
    }
    const struct sp_session_more *more = sp_session_numbers(home, session);
    struct sp_delivery *delivery =
        more == NULL ? NULL : append(home, session, offer, qos, more->number + 1);
    if (delivery == NULL) {
        queue_full(home, session, offer->receipt);
        return;
    }
    if (session->kept) {
        delivery->receipt = offer->receipt;
        delivery->since_ms = home->timers->now_ms;
    } else {
        sp_receipt_settle(home, offer->receipt, false);
    }
    pump(home, session);
    if (session->kept) {
        sp_keep_offered(home, session);
    }
}

enum sp_err sp_session_restore(struct sp_home *home, struct sp_session *session,
                               const struct sp_offer *offer, uint64_t number, bool sent)
{
    const struct sp_delivery *last = sp_session_queue(session)->last;
    if (last != NULL && last->number >= number) {
        return SP_ERR_MALFORMED;
    }
    const struct sp_session_more *more = sp_session_numbers(home, session);
    uint64_t highest = sp_session_more(session)->number;
    struct sp_delivery *delivery =
        more == NULL ? NULL : append(home, session, offer, offer->qos, number);
    if (delivery == NULL) {
        return SP_ERR_NOMEM;
    }
    session->more->number = highest > number ? highest : number;
    delivery->place = SP_PLACE_JOURNAL;
    delivery->packet_id = sent ? id_of(number) : 0;
    delivery->loaded = true;
    return SP_OK;
}

void sp_session_stored(struct sp_home *home, struct sp_session *session, uint64_t number,
                       bool durable)
{
    struct sp_queue *queue = sp_session_own_queue(session);
    struct sp_delivery *delivery = queue == NULL ? NULL : queue->storing;
    while (delivery != NULL && delivery->number < number) {
        delivery = delivery->next;
    }
    if (delivery == NULL || delivery->number != number) {
        return; /* the device has acknowledged it meanwhile */
    }
    queue->storing = durable ? delivery->next : delivery;
    delivery->place = durable ? SP_PLACE_JOURNAL : SP_PLACE_MEMORY;
    if (!durable && delivery->packet_id == 0) { /* nobody has it */
        queue_full(home, session, delivery->receipt);
        delivery->receipt = (struct sp_receipt_ref){0, 0};
        drop(home, session, before(session, delivery), delivery, true);
        return;
    }
    sp_receipt_settle(home, delivery->receipt, !durable);
    delivery->receipt = (struct sp_receipt_ref){0, 0};
}

/* ---- retained messages ---- */

/* What is still on its way for a subscription that goes, or is made anew. */
static void forget_replay(struct sp_session *session, struct sp_view filter)
{
    struct sp_replay **at = session->more == NULL ? NULL : &session->more->replays;
    while (at != NULL && *at != NULL) {
        if (sp_view_equal(sp_view((*at)->filter, (*at)->len), filter)) {
            replay_end(at);
        } else {
            at = &(*at)->next;
        }
    }
}

/* It can be offered without being dropped, or never will be. */
static bool replay_fits(const struct sp_home *home, struct sp_session *session,
                        const struct sp_replay *replay, const struct sp_mail *message)
{
    size_t size = DELIVERY_COST + message->topic.len + message->payload.len + sizeof(replay->id);
    if (replay->qos > 0 && message->qos > 0) {
        return sp_session_queue(session)->bytes == 0 || has_room(home, session, size);
    }
    const struct sp_client *client = sp_session_client(session);
    return sp_client_room(sp_session_client(session), size) ||
           sp_client_now(client)->out.used + sp_client_now(client)->unsent.used == 0;
}

/* @return false: the rest has to wait. */
static bool replay_some(struct sp_home *home, struct sp_session *session, struct sp_replay *replay)
{
    struct sp_mail *found[REPLAY_BATCH];
    struct sp_view after = replay->last == NULL ? (struct sp_view){NULL, 0} : replay->last->topic;
    size_t count = sp_retained_next(home->retained, sp_view(replay->filter, replay->len), after,
                                    home->timers->now_ms, found, REPLAY_BATCH);
    bool go = true;
    for (size_t i = 0; i < count; i++) {
        go = go && replay_fits(home, session, replay, found[i]);
        if (go) {
            sp_session_offer(home, session,
                             &(struct sp_offer){.message = found[i],
                                                .ids = &replay->id,
                                                .id_count = replay->id != 0,
                                                .qos = replay->qos,
                                                .retain = true});
            sp_mail_release(replay->last);
            replay->last = found[i];
        } else {
            sp_mail_release(found[i]);
        }
    }
    if (go && count < REPLAY_BATCH) {
        replay_end(&session->more->replays);
    }
    return go;
}

void sp_session_pump(struct sp_home *home, struct sp_session *session)
{
    pump(home, session);
    while (session->more != NULL && session->more->replays != NULL &&
           sp_session_client(session) != NULL && !sp_session_client(session)->lost &&
           !sp_session_client(session)->keeping && sp_session_queue(session)->unsent == NULL &&
           replay_some(home, session, session->more->replays)) {
    }
    if (session->more != NULL) {
        settle_more(session);
    }
}

enum sp_err sp_session_replay(struct sp_home *home, struct sp_session *session,
                              struct sp_view filter, uint8_t qos, uint32_t id)
{
    forget_replay(session, filter);
    struct sp_session_more *more = more_of(session);
    struct sp_replay *replay = calloc(1, sizeof(*replay) + filter.len);
    if (more == NULL || replay == NULL) {
        free(replay);
        return SP_ERR_NOMEM;
    }
    replay->qos = qos;
    replay->id = id;
    replay->len = (uint16_t)filter.len;
    sp_copy(replay->filter, filter.ptr, filter.len);
    struct sp_replay **end = &more->replays;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = replay;
    sp_session_pump(home, session);
    return SP_OK;
}

/* The one in flight with that id; NULL: there is none. */
static struct sp_delivery *in_flight(const struct sp_session *session, uint16_t packet_id,
                                     struct sp_delivery **previous)
{
    const struct sp_queue *queue = sp_session_queue(session);
    *previous = NULL;
    for (struct sp_delivery *d = queue->first; d != queue->unsent; d = d->next) {
        if (d->packet_id == packet_id) {
            return d;
        }
        *previous = d;
    }
    return NULL;
}

static void settle(struct sp_home *home, struct sp_session *session, struct sp_delivery *previous,
                   struct sp_delivery *delivery)
{
    session->more->queue->in_flight--;
    drop(home, session, previous, delivery, false);
    session->full = false;
    sp_session_pump(home, session);
}

bool sp_session_acked(struct sp_home *home, struct sp_session *session, enum sp_mqtt_type type,
                      uint16_t packet_id)
{
    struct sp_delivery *previous;
    struct sp_delivery *delivery = in_flight(session, packet_id, &previous);
    bool ends =
        delivery != NULL && (type == SP_MQTT_PUBCOMP ? delivery->released : delivery->qos == 1);
    if (ends) {
        settle(home, session, previous, delivery);
    }
    return ends;
}

bool sp_session_received(struct sp_home *home, struct sp_session *session, uint16_t packet_id,
                         bool refused)
{
    struct sp_delivery *previous;
    struct sp_delivery *delivery = in_flight(session, packet_id, &previous);
    if (delivery == NULL || delivery->qos != 2) {
        return false;
    }
    if (refused && !delivery->released) {
        settle(home, session, previous, delivery);
        return true;
    }
    delivery->released = true;
    return true;
}

/* ---- QoS 2 from the client ---- */

static uint16_t *taken(const struct sp_session *session, uint16_t packet_id)
{
    const struct sp_session_more *more = session->more;
    for (uint32_t i = 0; more != NULL && i < more->received_count; i++) {
        if (more->received[i] == packet_id) {
            return &more->received[i];
        }
    }
    return NULL;
}

bool sp_session_took(const struct sp_session *session, uint16_t packet_id)
{
    return taken(session, packet_id) != NULL;
}

enum sp_err sp_session_take(struct sp_session *session, uint16_t packet_id, uint32_t max)
{
    struct sp_session_more *more = more_of(session);
    if (more == NULL) {
        return SP_ERR_NOMEM;
    }
    if (more->received_count >= max) {
        return SP_ERR_LIMIT;
    }
    if (more->received_count == more->received_cap) {
        uint32_t cap = more->received_cap == 0 ? 8 : more->received_cap * 2;
        uint16_t *ids = realloc(more->received, cap * sizeof(*ids));
        if (ids == NULL) {
            return SP_ERR_NOMEM;
        }
        more->received = ids;
        more->received_cap = cap;
    }
    more->received[more->received_count++] = packet_id;
    return SP_OK;
}

bool sp_session_release(struct sp_session *session, uint16_t packet_id)
{
    uint16_t *place = taken(session, packet_id);
    if (place != NULL) {
        *place = session->more->received[--session->more->received_count];
    }
    return place != NULL;
}

/* ---- subscriptions ---- */

/* Room for one more. */
static enum sp_err grow(struct sp_session *session)
{
    unsigned bits = session->sub_bits;
    if (session->sub_count < 1U << bits) {
        return SP_OK;
    }
    if (bits == SUB_BITS_MAX) {
        return SP_ERR_LIMIT;
    }
    struct sp_filter **subs = sp_slabs_take(&lists, list_size(bits + 1));
    if (subs == NULL) {
        return SP_ERR_NOMEM;
    }
    sp_copy(subs, places(session), list_size(bits));
    if (bits > 0) {
        sp_slabs_give(&lists, session->subs, list_size(bits));
    }
    session->subs = subs;
    session->sub_bits = (uint8_t)(bits + 1);
    return SP_OK;
}

enum sp_err sp_session_subscribe(struct sp_home *home, struct sp_session *session,
                                 struct sp_view filter, struct sp_subscriber wanted, bool *existed)
{
    struct sp_view name;
    struct sp_view inner;
    *existed = false;
    if (sp_topic_share(filter, &name, &inner) == SP_ERR_MALFORMED) {
        return SP_ERR_MALFORMED; /* from a client it does not come so far */
    }
    *existed = sp_subs_find(home->subs, filter, home->index, sp_session_tag(session)) != NULL;
    if (!*existed && session->sub_count >= home->config->limits.subscriptions) {
        return SP_ERR_LIMIT;
    }
    SP_TRY(grow(session));
    wanted.session = sp_session_tag(session);
    wanted.loop = home->index;
    wanted.options = (uint8_t)((wanted.options & ~(SP_SUB_KEPT | SP_SUB_AWAY)) |
                               (session->kept ? SP_SUB_KEPT : 0) |
                               (sp_session_client(session) == NULL ? SP_SUB_AWAY : 0));
    struct sp_filter *made = NULL;
    SP_TRY(sp_subs_add(home->subs, filter, &wanted, existed, &made));
    if (!*existed) {
        places(session)[session->sub_count++] = made;
        sp_metric_inc(SP_M_SUBSCRIPTIONS);
    }
    if (session->kept) {
        sp_keep_subscribe(home, session, filter, &wanted);
    }
    return SP_OK;
}

bool sp_session_unsubscribe(struct sp_home *home, struct sp_session *session, struct sp_view filter)
{
    forget_replay(session, filter);
    const struct sp_filter *there =
        sp_subs_find(home->subs, filter, home->index, sp_session_tag(session));
    for (uint32_t i = 0; there != NULL && i < session->sub_count; i++) {
        if (sp_session_sub(session, i) == there) {
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
        sp_subs_mark(home->subs, sp_session_sub(session, i), home->index, sp_session_tag(session),
                     SP_SUB_KEPT, session->kept);
    }
}
