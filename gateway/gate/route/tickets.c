/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/tickets.h"

#include "gateway/gate/records/marks.h"
#include "gateway/gate/route/receipts.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/home.h"
#include "gateway/log/log.h"

#include <stdlib.h>

#define BATCH_MAX (1U << 20) /* bytes; a fuller one is sent before the turn is over */

/* Bytes: both together are less than a channel holds. What is taken of QoS 0 stays below them, so that a flood of it keeps no room from
 * what waits for an answer. */
#define WAITING_MAX (16U << 20) /* more than that in the channel, and nothing new is taken */
#define TURN_MAX    (16U << 20) /* taken in one turn */
#define QOS_0_MAX   (8U << 20)  /* both */

enum sp_err sp_edge_send(const struct sp_edge *edge, uint16_t type, uint64_t tag,
                         const struct sp_view *parts, size_t count)
{
    return edge->send == NULL ? SP_ERR_CLOSED : edge->send(edge->arg, type, tag, parts, count);
}

bool sp_tickets_takes(const struct sp_tickets *tickets, uint8_t qos)
{
    if (tickets->store.send == NULL) {
        return false;
    }
    if (qos == 0) {
        return tickets->pressure == 0 && tickets->waiting + tickets->taken < QOS_0_MAX;
    }
    return tickets->pressure <= 1 && tickets->waiting <= WAITING_MAX && tickets->taken < TURN_MAX;
}

/* ---- the ring of acks ---- */

static enum sp_err ring_grow(struct sp_tickets *tickets)
{
    size_t cap = tickets->ring_cap == 0 ? 64 : tickets->ring_cap * 2;
    struct sp_ticket_ack *ring = malloc(cap * sizeof(*ring));
    if (ring == NULL) {
        return SP_ERR_NOMEM;
    }
    for (size_t i = 0; i < tickets->ring_count; i++) {
        ring[i] = tickets->ring[(tickets->ring_head + i) & (tickets->ring_cap - 1)];
    }
    free(tickets->ring);
    tickets->ring = ring;
    tickets->ring_cap = cap;
    tickets->ring_head = 0;
    return SP_OK;
}

static enum sp_err ring_room(struct sp_tickets *tickets)
{
    return tickets->ring_count < tickets->ring_cap ? SP_OK : ring_grow(tickets);
}

static void ring_put(struct sp_tickets *tickets, struct sp_ticket_ack ack)
{
    tickets->ring[(tickets->ring_head + tickets->ring_count) & (tickets->ring_cap - 1)] = ack;
    tickets->ring_count++;
}

/* Answer everything up to a ticket, in order. */
static void release(struct sp_home *home, uint64_t up_to, bool durable)
{
    struct sp_tickets *tickets = &home->tickets;
    while (tickets->ring_count > 0) {
        struct sp_ticket_ack ack = tickets->ring[tickets->ring_head];
        if (ack.ticket > up_to) {
            return;
        }
        tickets->ring_head = (tickets->ring_head + 1) & (tickets->ring_cap - 1);
        tickets->ring_count--;
        if (ack.mark != NULL) {
            sp_mark_settle(ack.mark, durable);
        }
        struct sp_client *client = sp_slots_find(&home->clients, ack.client);
        if (client != NULL && ack.mark != NULL) {
            client->holding = false;
        }
        if (client != NULL) {
            bool refused = ack.stored && !durable;
            ack.answer.reason = refused ? (uint8_t)SP_MQTT_RC_QUOTA_EXCEEDED : ack.answer.reason;
            sp_client_stored(client, &ack.answer);
        } else {
            sp_receipt_orphan(home, ack.answer.receipt);
        }
    }
}

/* ---- batches ---- */

static uint8_t answer_to(const struct sp_tickets_message *m)
{
    if ((m->flags & SP_RECORD_RELEASE) != 0) {
        return SP_MQTT_PUBCOMP;
    }
    return m->twice ? SP_MQTT_PUBREC : SP_MQTT_PUBACK;
}

/*
 * Over MQTT 3.1.1 a refusal is silence, and the client sends all that was not answered again. What it had sent behind the refused
 * message must not be stored before that message is, so it is refused too (docs/delivery.md, D7).
 */
static uint64_t chain(struct sp_home *home, const struct sp_tickets_message *m, sp_slot_tag tag)
{
    struct sp_client *client = sp_slots_find(&home->clients, tag);
    bool message = m->qos > 0 && (m->flags & SP_RECORD_RELEASE) == 0;
    if (client == NULL || sp_client_in_flight(client) == NULL || client->version != SP_MQTT_311 ||
        !message) {
        return 0;
    }
    uint64_t after =
        sp_client_in_flight(client)->unacked > 0 ? sp_client_in_flight(client)->last_ticket : 0;
    sp_client_in_flight(client)->last_ticket = home->tickets.last_ticket + 1;
    return after;
}

enum sp_err sp_tickets_put(struct sp_home *home, const struct sp_tickets_message *m,
                           sp_slot_tag client, uint16_t packet_id)
{
    struct sp_tickets *tickets = &home->tickets;
    struct sp_msg_record record = {
        .ticket = m->qos == 0 ? 0 : tickets->last_ticket + 1,
        .time_ms = home->timers->wall_ms,
        .payload_len = (uint32_t)m->payload.len,
        .expiry_s = m->expiry_s,
        .topic_len = (uint16_t)m->topic.len,
        .origin_len = (uint16_t)m->origin.len,
        .device_len = (uint8_t)m->device.len,
        .qos = m->qos,
        .format = m->format,
        .protection = m->protection,
        .flags = m->flags,
        .refusal = m->refusal,
        .packet_id = m->twice ? packet_id : 0,
    };
    struct sp_view group = {NULL, 0};
    if (m->mark != NULL) {
        group = sp_view(m->mark->group, m->mark->group_len);
        record.group_len = m->mark->group_len;
        record.epoch = m->mark->epoch;
        record.counter = m->counter;
    }
    const struct sp_view parts[] = {{(const uint8_t *)&record, sizeof(record)},
                                    m->device,
                                    m->topic,
                                    m->origin,
                                    group,
                                    m->payload};
    size_t size =
        sizeof(record) + m->device.len + m->topic.len + m->origin.len + group.len + m->payload.len;
    if (tickets->batch.used > 0 && tickets->batch.used + size > BATCH_MAX) {
        sp_tickets_flush(home);
    }
    SP_TRY(ring_room(tickets));
    uint8_t *at = sp_buf_reserve(&tickets->batch, size);
    if (at == NULL) {
        return SP_ERR_NOMEM;
    }
    record.after = chain(home, m, client);
    struct sp_writer w;
    sp_writer_init(&w, at, size);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        sp_write_view(&w, parts[i]);
    }
    tickets->batch.used += (uint32_t)size;
    tickets->batch_count++;
    tickets->taken += size;
    if (m->qos > 0) {
        tickets->last_ticket++;
        const struct sp_client_answer answer = {.packet_id = packet_id, .type = answer_to(m)};
        ring_put(tickets,
                 (struct sp_ticket_ack){tickets->last_ticket, client, answer, true, m->mark});
    }
    if (m->mark != NULL) {
        m->mark->pending = m->counter;
        if (m->qos == 0) {
            sp_mark_settle(m->mark, true);
        }
    }
    return SP_OK;
}

void sp_tickets_mark(struct sp_home *home, struct sp_mark *mark, uint64_t counter)
{
    const struct sp_tickets_message message = {
        .device = sp_view(mark->device, mark->device_len),
        .flags = SP_RECORD_MARK,
        .mark = mark,
        .counter = counter,
    };
    /* Without a store it is in memory alone: the best that can be had. */
    if (home->tickets.store.send == NULL || sp_tickets_put(home, &message, 0, 0) != SP_OK) {
        mark->pending = counter;
        sp_mark_settle(mark, true);
    }
}

enum sp_err sp_tickets_follow(struct sp_home *home, sp_slot_tag client,
                              const struct sp_client_answer *answer)
{
    SP_TRY(ring_room(&home->tickets));
    ring_put(&home->tickets,
             (struct sp_ticket_ack){home->tickets.last_ticket, client, *answer, false, NULL});
    return SP_OK;
}

void sp_tickets_receipt(struct sp_home *home, sp_slot_tag receipt)
{
    struct sp_tickets *tickets = &home->tickets;
    size_t last = (tickets->ring_head + tickets->ring_count - 1) & (tickets->ring_cap - 1);
    tickets->ring[last].answer.receipt = receipt;
}

void sp_tickets_flush(struct sp_home *home)
{
    struct sp_tickets *tickets = &home->tickets;
    if (tickets->batch_count == 0) {
        return;
    }
    struct sp_view batch = sp_buf_view(&tickets->batch);
    enum sp_err err = sp_edge_send(&tickets->store, SP_MSG_APPEND, tickets->batch_count, &batch, 1);
    tickets->batch_count = 0;
    if (tickets->batch.cap > BATCH_MAX) {
        sp_buf_free(&tickets->batch);
    }
    tickets->batch.used = 0;
    if (err != SP_OK) {
        sp_log_warn(SP_EVENT("store_unreachable"), SP_F_ERR(err));
        sp_tickets_lost(home);
    }
}

enum sp_err sp_tickets_durable(struct sp_home *home, const struct sp_msg_durable *durable)
{
    if (durable->up_to > home->tickets.last_ticket) {
        return SP_ERR_MALFORMED;
    }
    release(home, durable->up_to, durable->err == SP_OK);
    return SP_OK;
}

void sp_tickets_lost(struct sp_home *home)
{
    struct sp_tickets *tickets = &home->tickets;
    tickets->store = (struct sp_edge){NULL, NULL};
    tickets->batch.used = 0;
    tickets->batch_count = 0;
    release(home, UINT64_MAX, false);
}

void sp_tickets_connected(struct sp_home *home, const struct sp_edge *store)
{
    sp_tickets_lost(home);
    home->tickets.store = *store;
    home->tickets.waiting = 0;
    home->tickets.pressure = 0;
    home->tickets.last_ticket = 0;
}

void sp_tickets_deinit(struct sp_tickets *tickets)
{
    sp_buf_free(&tickets->batch);
    free(tickets->ring);
    tickets->ring = NULL;
    tickets->ring_cap = 0;
    tickets->ring_count = 0;
}
