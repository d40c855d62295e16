/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/route.h"

#include "gateway/config/route_map.h"
#include "gateway/gate/route/mail.h"
#include "gateway/gate/route/receipts.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "libs/mqtt/topic.h"

#include <stdlib.h>

#define TOPIC_MAX 1024U /* bytes of a mapped topic */

/* ---- local subscribers ---- */

struct target {
    sp_slot_tag session;
    uint8_t qos;
    bool counted; /* the receipt waits for it */
};

/* One message for sessions whose home is another loop. */
struct shipment {
    struct sp_parcel parcel; /* first: unpack() casts back */
    struct sp_mail *message;
    struct sp_receipt_ref receipt;
    size_t count;
    struct target targets[];
};

static uint8_t lower(uint8_t a, uint8_t b)
{
    return a < b ? a : b;
}

/* It has to get it for sure. */
static bool is_counted(const struct sp_subscriber *item, uint8_t qos)
{
    return (item->options & SP_SUB_KEPT) != 0 && lower(qos, item->qos) > 0;
}

static struct target target_of(const struct sp_subscriber *item, uint8_t qos)
{
    return (struct target){item->session, lower(qos, item->qos), is_counted(item, qos)};
}

static void offer(struct sp_home *home, const struct target *target, struct sp_mail *message,
                  struct sp_receipt_ref receipt)
{
    struct sp_session *session = sp_slots_find(&home->sessions, target->session);
    if (!target->counted) {
        receipt = (struct sp_receipt_ref){0, 0};
    }
    if (session != NULL) {
        sp_session_offer(home, session, message, target->qos, receipt);
    } else {
        sp_receipt_settle(home, receipt, false); /* it has ended meanwhile */
    }
}

static void unpack(void *owner, struct sp_parcel *parcel)
{
    struct sp_home *home = owner;
    struct shipment *shipment = (struct shipment *)parcel;
    for (size_t i = 0; i < shipment->count; i++) {
        offer(home, &shipment->targets[i], shipment->message, shipment->receipt);
    }
    sp_mail_release(shipment->message);
    free(shipment);
}

/* Targets on that loop, or those of them that are counted. */
static uint32_t count_targets(const struct sp_matches *m, uint8_t qos, uint16_t loop, bool counted)
{
    uint32_t count = 0;
    for (size_t i = 0; i < m->count; i++) {
        count += m->items[i].loop == loop && (!counted || is_counted(&m->items[i], qos));
    }
    return count;
}

static void ship(struct sp_home *home, struct sp_mail *message, uint8_t qos, uint16_t loop,
                 struct sp_receipt_ref receipt)
{
    const struct sp_matches *m = &home->matches;
    size_t count = count_targets(m, qos, loop, false);
    if (count == 0) {
        return;
    }
    struct shipment *shipment = malloc(sizeof(*shipment) + count * sizeof(struct target));
    if (shipment == NULL) {
        sp_metric_add(SP_M_PUBLISH_DROPPED, (int64_t)count);
        for (uint32_t left = count_targets(m, qos, loop, true); left > 0; left--) {
            sp_receipt_settle(home, receipt, true);
        }
        return;
    }
    shipment->parcel.run = unpack;
    shipment->message = sp_mail_hold(message);
    shipment->receipt = receipt;
    shipment->count = 0;
    for (size_t i = 0; i < m->count; i++) {
        if (m->items[i].loop == loop) {
            shipment->targets[shipment->count++] = target_of(&m->items[i], qos);
        }
    }
    sp_home_post(home, loop, &shipment->parcel);
}

static void hand_over(struct sp_home *home, struct sp_mail *message, uint8_t qos,
                      struct sp_receipt_ref receipt)
{
    const struct sp_matches *m = &home->matches;
    for (size_t i = 0; i < m->count; i++) {
        if (m->items[i].loop == home->index) {
            const struct target target = target_of(&m->items[i], qos);
            offer(home, &target, message, receipt);
        }
    }
}

static void distribute(struct sp_home *home, struct sp_mail *message, uint8_t qos,
                       struct sp_receipt_ref receipt)
{
    for (uint16_t loop = 0; loop < home->loops; loop++) {
        if (loop == home->index) {
            hand_over(home, message, qos, receipt);
        } else {
            ship(home, message, qos, loop, receipt);
        }
    }
}

/* Who subscribes to it is in home->matches. @return It may not be acknowledged: there was no memory. */
static bool match(struct sp_home *home, const struct sp_mqtt_publish *publish,
                  sp_slot_tag publisher)
{
    enum sp_err err =
        sp_subs_match(home->subs, publish->topic, home->index, publisher, &home->matches);
    sp_metric_add(SP_M_PUBLISH_DROPPED, err != SP_OK);
    return err != SP_OK;
}

static uint32_t count_kept(const struct sp_home *home, uint8_t qos)
{
    uint32_t count = 0;
    for (size_t i = 0; i < home->matches.count; i++) {
        count += is_counted(&home->matches.items[i], qos);
    }
    return count;
}

/*
 * To local subscribers. `receipt`: NULL: nobody waits; else open it for those who must get it for sure, NULL when there are
 * none. One more than those is waited for, so that it cannot be done before the caller has filled it in.
 */
static void to_subscribers(struct sp_home *home, const struct sp_mqtt_publish *publish,
                           sp_slot_tag publisher, struct sp_receipt **receipt)
{
    struct sp_receipt_ref ref = {0, home->index};
    bool failed = match(home, publish, publisher);
    uint32_t kept = receipt == NULL ? 0 : count_kept(home, publish->qos);
    if (kept > 0 || (failed && receipt != NULL)) {
        *receipt = sp_receipt_open(home, 0, kept + 1);
        if (*receipt == NULL) {
            abort(); /* it may be neither acknowledged nor refused */
        }
        (*receipt)->refused = failed;
        ref.tag = (*receipt)->tag;
    }
    if (home->matches.count == 0) {
        return;
    }
    struct sp_mail *message = sp_mail_create(publish, home->timers->now_ms);
    if (message == NULL) {
        sp_metric_add(SP_M_PUBLISH_DROPPED, (int64_t)home->matches.count);
        for (; kept > 0; kept--) {
            sp_receipt_settle(home, ref, true);
        }
        return;
    }
    distribute(home, message, publish->qos, ref);
    sp_mail_release(message);
}

void sp_route_local(struct sp_home *home, const struct sp_mqtt_publish *publish,
                    sp_slot_tag publisher)
{
    to_subscribers(home, publish, publisher, NULL);
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
            .flags = (uint8_t)((origin->attested ? SP_RECORD_ATTESTED : 0U) |
                               (publish->qos == 2 && publish->dup ? SP_RECORD_REPEAT : 0U)),
            .twice = publish->qos == 2 && qos > 0,
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

/* Local subscribers, and what the client's answer has to wait for. */
static sp_slot_tag finish(struct sp_home *home, const struct sp_origin *origin,
                          const struct sp_mqtt_publish *publish, enum sp_routed routed)
{
    struct sp_receipt *receipt = NULL;
    bool waits = origin->client != 0 && publish->qos > 0;
    to_subscribers(home, publish, origin->session, waits ? &receipt : NULL);
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
    *receipt = 0;
    enum sp_routed routed = SP_ROUTED;
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
    *receipt = finish(home, origin, publish, routed);
    return routed;
}

static void command_taken(struct sp_home *home, uint64_t tag)
{
    (void)!sp_edge_send(&home->tickets.store, SP_MSG_COMMAND_TAKEN, tag, NULL, 0);
}

static void give_command(struct sp_home *home, const struct sp_mqtt_publish *publish, uint64_t tag)
{
    struct sp_receipt *receipt = NULL;
    to_subscribers(home, publish, 0, publish->qos > 0 ? &receipt : NULL);
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
