/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/route.h"

#include "gateway/config/route_map.h"
#include "gateway/gate/route/mail.h"
#include "gateway/gate/route/receipts.h"
#include "gateway/gate/route/retained.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "libs/mqtt/topic.h"

#include <stdlib.h>

#define TOPIC_MAX 1024U /* bytes of a mapped topic */

/* ---- local subscribers ---- */

struct target {
    sp_slot_tag session;
    sp_slot_tag share;
    uint32_t ids_at; /* in the shipment's ids */
    uint16_t id_count;
    uint8_t qos;
    bool retain;
    bool counted; /* the receipt waits for it */
};

/* One message for sessions whose home is another loop. */
struct shipment {
    struct sp_parcel parcel; /* first: unpack() casts back */
    struct sp_mail *message;
    struct sp_receipt_ref receipt;
    uint32_t *ids; /* behind the targets */
    size_t count;
    struct target targets[];
};

static uint8_t lower(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

static void offer(struct sp_home *home, struct sp_mail *message, const struct target *target,
                  const uint32_t *ids, struct sp_receipt_ref receipt)
{
    struct sp_session *session = sp_slots_find(&home->sessions, target->session);
    if (!target->counted) {
        receipt = (struct sp_receipt_ref){0, 0};
    }
    if (session != NULL) {
        sp_session_offer(home, session,
                         &(struct sp_offer){.message = message,
                                            .ids = ids + target->ids_at,
                                            .share = target->share,
                                            .receipt = receipt,
                                            .id_count = target->id_count,
                                            .qos = target->qos,
                                            .retain = target->retain});
        return;
    }
    if (target->share != 0) {
        sp_route_again(home, message, target->share, 0);
    }
    sp_receipt_settle(home, receipt, false); /* it has ended meanwhile */
}

static void unpack(void *owner, struct sp_parcel *parcel)
{
    struct sp_home *home = owner;
    struct shipment *shipment = (struct shipment *)parcel;
    for (size_t i = 0; i < shipment->count; i++) {
        offer(home, shipment->message, &shipment->targets[i], shipment->ids, shipment->receipt);
    }
    sp_mail_release(shipment->message);
    free(shipment);
}

/* For `count` targets with `ids` identifiers in all. NULL: no memory, counted. */
static struct shipment *shipment_make(struct sp_mail *message, size_t count, size_t ids)
{
    size_t size = sizeof(struct shipment) + count * sizeof(struct target);
    struct shipment *shipment = malloc(size + ids * sizeof(uint32_t));
    if (shipment == NULL) {
        sp_metric_add(SP_M_PUBLISH_DROPPED, (int64_t)count);
        return NULL;
    }
    shipment->parcel.run = unpack;
    shipment->message = sp_mail_hold(message);
    shipment->receipt = (struct sp_receipt_ref){0, 0};
    shipment->ids = (uint32_t *)(void *)&shipment->targets[count];
    shipment->count = 0;
    return shipment;
}

/* It has to get it for sure. */
static bool is_counted(const struct sp_match *match, uint8_t qos)
{
    return (match->options & SP_SUB_KEPT) != 0 && lower(qos, match->qos) > 0;
}

static uint32_t count_kept(const struct sp_matches *m, uint8_t qos)
{
    uint32_t count = 0;
    for (size_t i = 0; i < m->count; i++) {
        count += is_counted(&m->items[i], qos);
    }
    return count;
}

/* RETAIN reaches only those who asked for it (MQTT 5, 3.3.1.3). */
static struct target target_of(const struct sp_match *match, const struct sp_mail *message)
{
    return (struct target){
        .session = match->session,
        .share = match->share,
        .ids_at = match->ids_at,
        .id_count = match->id_count,
        .qos = match->qos,
        .retain = message->retain && (match->options & SP_SUB_RETAIN_AS_PUBLISHED) != 0,
        .counted = is_counted(match, message->qos),
    };
}

static void ship(struct sp_home *home, struct sp_mail *message, uint16_t loop,
                 struct sp_receipt_ref receipt)
{
    const struct sp_matches *m = &home->matches;
    size_t count = 0;
    size_t ids = 0;
    uint32_t counted = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->items[i].loop == loop) {
            count++;
            ids += m->items[i].id_count;
            counted += is_counted(&m->items[i], message->qos);
        }
    }
    struct shipment *shipment = count == 0 ? NULL : shipment_make(message, count, ids);
    if (shipment == NULL) {
        for (; counted > 0; counted--) {
            sp_receipt_settle(home, receipt, true);
        }
        return;
    }
    shipment->receipt = receipt;
    uint32_t ids_at = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->items[i].loop == loop) {
            struct target *target = &shipment->targets[shipment->count++];
            *target = target_of(&m->items[i], message);
            sp_copy(shipment->ids + ids_at, m->ids + target->ids_at,
                    target->id_count * sizeof(m->ids[0]));
            target->ids_at = ids_at;
            ids_at += target->id_count;
        }
    }
    sp_home_post(home, loop, &shipment->parcel);
}

static void hand_over(struct sp_home *home, struct sp_mail *message, struct sp_receipt_ref receipt)
{
    const struct sp_matches *m = &home->matches;
    for (size_t i = 0; i < m->count; i++) {
        if (m->items[i].loop == home->index) {
            const struct target target = target_of(&m->items[i], message);
            offer(home, message, &target, m->ids, receipt);
        }
    }
}

void sp_route_again(struct sp_home *home, struct sp_mail *message, sp_slot_tag share,
                    sp_slot_tag except)
{
    struct sp_match match;
    uint32_t id;
    if (!sp_subs_pick(home->subs, share, home->index, except, &match, &id)) {
        sp_metric_inc(SP_M_PUBLISH_DROPPED);
        return;
    }
    match.id_count = id != 0;
    struct target target = target_of(&match, message);
    target.counted = false; /* who waited for it has been answered */
    if (match.loop == home->index) {
        offer(home, message, &target, &id, (struct sp_receipt_ref){0, 0});
        return;
    }
    struct shipment *shipment = shipment_make(message, 1, 1);
    if (shipment != NULL) {
        shipment->targets[shipment->count++] = target;
        shipment->ids[0] = id;
        sp_home_post(home, match.loop, &shipment->parcel);
    }
}

/*
 * Opens the receipt that was reserved for those in home->matches who must get it for sure; NULL when there are none. One more than
 * those is waited for, so that it cannot be done before its owner has filled it in. `failed`: somebody may be missing there.
 */
static struct sp_receipt *open_receipt(struct sp_home *home, uint8_t qos, bool failed)
{
    uint32_t kept = count_kept(&home->matches, qos);
    if (kept == 0 && !failed) {
        return NULL;
    }
    struct sp_receipt *receipt = sp_receipt_open_reserved(home, kept + 1);
    receipt->refused = failed;
    return receipt;
}

/*
 * To those who subscribe; and kept, if it is to be, as `owner`'s. `receipt`: NULL: nobody waits; else as open_receipt()
 * gives it, and one is reserved.
 */
static void distribute(struct sp_home *home, const struct sp_mqtt_publish *publish,
                       sp_slot_tag publisher, const struct sp_view *owner,
                       struct sp_receipt **receipt)
{
    struct sp_receipt_ref ref = {0, home->index};
    enum sp_err err =
        sp_subs_match(home->subs, publish->topic, home->index, publisher, &home->matches);
    sp_metric_add(SP_M_PUBLISH_DROPPED, err != SP_OK);
    if (receipt != NULL) {
        *receipt = open_receipt(home, publish->qos, err != SP_OK);
        ref.tag = *receipt == NULL ? 0 : (*receipt)->tag;
    }
    if (home->matches.count == 0 && owner == NULL) {
        return;
    }
    struct sp_mail *message = sp_mail_create(publish, home->timers->now_ms);
    if (message == NULL) {
        sp_metric_add(SP_M_PUBLISH_DROPPED, (int64_t)home->matches.count);
        for (uint32_t left = count_kept(&home->matches, publish->qos); left > 0; left--) {
            sp_receipt_settle(home, ref, true);
        }
        return;
    }
    if (owner != NULL && sp_retained_put(home->retained, *owner, message) != SP_OK) {
        sp_metric_inc(SP_M_RETAINED_REFUSED);
    }
    for (uint16_t loop = 0; loop < home->loops; loop++) {
        if (loop == home->index) {
            hand_over(home, message, ref);
        } else {
            ship(home, message, loop, ref);
        }
    }
    sp_mail_release(message);
}

void sp_route_local(struct sp_home *home, const struct sp_mqtt_publish *publish,
                    sp_slot_tag publisher)
{
    distribute(home, publish, publisher, NULL, NULL);
}

/* ---- the cloud ---- */

static uint32_t expiry_of(const struct sp_mqtt_publish *publish)
{
    if ((publish->props.present & SP_MQTT_HAS(SP_MQTT_P_MESSAGE_EXPIRY)) == 0) {
        return 0;
    }
    return publish->props.message_expiry == 0 ? 1 : publish->props.message_expiry;
}

static enum sp_routed to_cloud(struct sp_home *home, const struct sp_origin *origin,
                               const struct sp_route_config *route,
                               const struct sp_mqtt_publish *publish)
{
    uint8_t topic[TOPIC_MAX];
    size_t topic_len = 0;
    uint8_t qos = lower(publish->qos, route->qos);
    if (!sp_tickets_takes(&home->tickets, qos)) {
        return SP_ROUTED_REFUSED;
    }
    enum sp_err err = sp_route_map(route->cloud, route->from, home->config->id, origin->device,
                                   publish->topic, topic, sizeof(topic), &topic_len);
    /* What is to be formatted goes opened; what cannot be read goes as it came, whatever the route says. */
    const struct sp_record_in *record = origin->record;
    bool sealed = record != NULL && !record->readable;
    enum sp_format format = sealed ? SP_FORMAT_RAW : route->format;
    bool opened = record != NULL && record->readable && format != SP_FORMAT_RAW;
    if (err == SP_OK) {
        const struct sp_tickets_message message = {
            .device = origin->device,
            .topic = sp_view(topic, topic_len),
            .origin = publish->topic,
            .payload = opened ? record->plain : publish->payload,
            .expiry_s = expiry_of(publish),
            .qos = qos,
            .format = (uint8_t)format,
            .protection = origin->protection,
            .flags =
                (uint8_t)((origin->attested ? SP_RECORD_ATTESTED : 0U) |
                          (publish->qos == 2 && (publish->dup || origin->repeat) ? SP_RECORD_REPEAT
                                                                                 : 0U)),
            .twice = publish->qos == 2 && qos > 0 && origin->client != 0,
            .mark = record != NULL ? record->mark : NULL,
            .counter = record != NULL ? record->counter : 0,
        };
        err = sp_tickets_put(home, &message, origin->client, publish->packet_id);
    }
    if (err != SP_OK) {
        sp_log_warn(SP_EVENT("route_failed"), SP_F_VIEW("device", origin->device),
                    SP_F_VIEW("topic", publish->topic), SP_F_ERR(err));
        return SP_ROUTED_REFUSED;
    }
    return qos == 0 ? SP_ROUTED : SP_ROUTED_STORING;
}

/* RETAIN, and it may be kept. *refused: it may not, and the publisher can be told. */
static bool keeps(struct sp_home *home, const struct sp_origin *origin,
                  const struct sp_mqtt_publish *publish, bool *refused)
{
    *refused = false;
    if (!publish->retain || origin->repeat || home->retained == NULL) {
        return false;
    }
    if (sp_retained_room(home->retained, &home->config->limits, origin->device, publish,
                         home->timers->now_ms) == SP_OK) {
        return true;
    }
    sp_metric_inc(SP_M_RETAINED_REFUSED);
    *refused = publish->qos > 0 && origin->client != 0;
    return false;
}

/* The publisher waits for an answer, which may have to wait for local subscribers. */
static bool waits(const struct sp_origin *origin, const struct sp_mqtt_publish *publish)
{
    return origin->client != 0 && publish->qos > 0 && !origin->repeat;
}

/* Local subscribers, and what the client's answer has to wait for. */
static sp_slot_tag finish(struct sp_home *home, const struct sp_origin *origin,
                          const struct sp_mqtt_publish *publish, enum sp_routed routed,
                          const struct sp_view *owner)
{
    struct sp_receipt *receipt = NULL;
    distribute(home, publish, origin->session, owner, waits(origin, publish) ? &receipt : NULL);
    if (receipt == NULL) {
        return 0;
    }
    sp_slot_tag tag = receipt->tag;
    receipt->client = origin->client;
    receipt->in_cloud = routed == SP_ROUTED_STORING;
    if (routed == SP_ROUTED_STORING) {
        sp_tickets_receipt(home, tag);
    }
    sp_receipt_settle(home, (struct sp_receipt_ref){tag, home->index}, false);
    return tag;
}

enum sp_routed sp_route_publish(struct sp_home *home, const struct sp_origin *origin,
                                const struct sp_mqtt_publish *publish, sp_slot_tag *receipt)
{
    enum sp_routed routed = SP_ROUTED;
    bool refused;
    *receipt = 0;
    bool kept = keeps(home, origin, publish, &refused);
    /* Before the store has it: afterwards it could be neither acknowledged nor refused. */
    if (refused || (waits(origin, publish) && sp_receipt_reserve(home) != SP_OK)) {
        sp_metric_inc(SP_M_PUBLISH_REFUSED);
        return SP_ROUTED_REFUSED;
    }
    struct sp_mark *mark = origin->record != NULL ? origin->record->mark : NULL;
    const struct sp_route_config *route =
        home->config->cloud.enabled ? sp_route_find(home->config, publish->topic) : NULL;
    if (route != NULL && route->cloud != NULL) {
        routed = to_cloud(home, origin, route, publish);
        if (routed == SP_ROUTED_REFUSED) {
            bool acknowledged = lower(publish->qos, route->qos) > 0 && origin->client != 0;
            sp_metric_inc(acknowledged ? SP_M_PUBLISH_REFUSED : SP_M_PUBLISH_DROPPED);
            if (acknowledged) {
                return routed;
            }
            /* Best effort: whom it can reach now, it reaches. */
            routed = SP_ROUTED;
        }
    }
    if (mark != NULL && mark->pending == 0 && mark->counter < origin->record->counter) {
        sp_tickets_mark(home, mark, origin->record->counter);
    }
    if (!origin->repeat) {
        *receipt = finish(home, origin, publish, routed, kept ? &origin->device : NULL);
    }
    return routed;
}

/* ---- commands ---- */

static void command_taken(struct sp_home *home, uint64_t tag)
{
    (void)!sp_edge_send(&home->tickets.store, SP_MSG_COMMAND_TAKEN, tag, NULL, 0);
}

void sp_route_command_refused(struct sp_home *home, uint8_t qos, uint64_t tag)
{
    sp_metric_inc(qos > 0 ? SP_M_PUBLISH_REFUSED : SP_M_PUBLISH_DROPPED);
    if (qos > 0) {
        (void)!sp_edge_send(&home->tickets.store, SP_MSG_COMMAND_REFUSED, tag, NULL, 0);
    }
}

static void give_command(struct sp_home *home, const struct sp_mqtt_publish *publish, uint64_t tag)
{
    struct sp_receipt *receipt = NULL;
    if (publish->qos > 0 && sp_receipt_reserve(home) != SP_OK) {
        sp_route_command_refused(home, publish->qos, tag);
        return;
    }
    distribute(home, publish, 0, NULL, publish->qos > 0 ? &receipt : NULL);
    if (receipt != NULL) {
        receipt->is_command = true;
        receipt->command = tag;
        receipt->connection = home->keep.connection;
        sp_receipt_settle(home, (struct sp_receipt_ref){receipt->tag, home->index}, false);
    } else if (publish->qos > 0) {
        command_taken(home, tag);
    }
}

static void command_unmapped(struct sp_home *home, struct sp_view topic, const char *to,
                             uint8_t qos, uint64_t tag)
{
    sp_metric_inc(SP_M_PUBLISH_DROPPED);
    sp_log_warn(SP_EVENT("command_unmapped"), SP_F_VIEW("topic", topic), SP_F_STR("to", to));
    if (qos > 0) {
        command_taken(home, tag);
    }
}

void sp_route_command(struct sp_home *home, struct sp_view topic, struct sp_view payload,
                      uint8_t qos, uint64_t tag)
{
    const struct sp_config *config = home->config;
    if (sp_keep_park_command(home, topic, payload, qos, tag)) {
        return;
    }
    for (size_t i = 0; i < config->command_count; i++) {
        const struct sp_command_config *command = &config->commands[i];
        uint8_t to[TOPIC_MAX];
        size_t to_len = 0;
        if (!sp_topic_matches(sp_view_str(command->cloud), topic)) {
            continue;
        }
        enum sp_err err = sp_route_map(command->to, command->cloud, config->id, sp_view(NULL, 0),
                                       topic, to, sizeof(to), &to_len);
        if (err != SP_OK || to_len == 0 || to[0] == '$') {
            command_unmapped(home, topic, command->to, qos, tag);
            return;
        }
        const struct sp_mqtt_publish publish = {
            .qos = lower(qos, 1), .topic = sp_view(to, to_len), .payload = payload};
        give_command(home, &publish, tag);
        return;
    }
    command_unmapped(home, topic, "-", qos, tag);
}
