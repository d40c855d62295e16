/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/uplink.h"

#include "gateway/gate/session/client.h"
#include "gateway/gate/session/home.h"
#include "gateway/log/log.h"

#include <stdlib.h>

#define BATCH_MAX (1U << 20) /* bytes; a fuller one is sent before the turn is over */

enum sp_err sp_edge_send(const struct sp_edge *edge, uint16_t type, uint64_t tag,
                         const struct sp_view *parts, size_t count)
{
    return edge->send == NULL ? SP_ERR_CLOSED : edge->send(edge->arg, type, tag, parts, count);
}

bool sp_uplink_takes(const struct sp_uplink *uplink, uint8_t qos)
{
    uint32_t tolerated = qos == 0 ? 0 : 1;
    return uplink->store.send != NULL && !uplink->blocked && uplink->pressure <= tolerated;
}

/* ---- the ring of acks ---- */

static enum sp_err ring_grow(struct sp_uplink *uplink)
{
    size_t cap = uplink->ring_cap == 0 ? 64 : uplink->ring_cap * 2;
    struct sp_uplink_ack *ring = malloc(cap * sizeof(*ring));
    if (ring == NULL) {
        return SP_ERR_NOMEM;
    }
    for (size_t i = 0; i < uplink->ring_count; i++) {
        ring[i] = uplink->ring[(uplink->ring_head + i) & (uplink->ring_cap - 1)];
    }
    free(uplink->ring);
    uplink->ring = ring;
    uplink->ring_cap = cap;
    uplink->ring_head = 0;
    return SP_OK;
}

static enum sp_err ring_room(struct sp_uplink *uplink)
{
    return uplink->ring_count < uplink->ring_cap ? SP_OK : ring_grow(uplink);
}

static void ring_put(struct sp_uplink *uplink, struct sp_uplink_ack ack)
{
    uplink->ring[(uplink->ring_head + uplink->ring_count) & (uplink->ring_cap - 1)] = ack;
    uplink->ring_count++;
}

/* Answer everything up to a ticket, in order. */
static void release(struct sp_home *home, uint64_t up_to, bool durable)
{
    struct sp_uplink *uplink = &home->uplink;
    while (uplink->ring_count > 0) {
        struct sp_uplink_ack ack = uplink->ring[uplink->ring_head];
        if (ack.ticket > up_to) {
            return;
        }
        uplink->ring_head = (uplink->ring_head + 1) & (uplink->ring_cap - 1);
        uplink->ring_count--;
        struct sp_client *client = sp_slots_find(&home->clients, ack.client);
        if (client != NULL) {
            bool refused = ack.stored && !durable;
            sp_client_stored(client, ack.packet_id,
                             refused ? (uint8_t)SP_MQTT_RC_QUOTA_EXCEEDED : ack.reason);
        }
    }
}

/* ---- batches ---- */

enum sp_err sp_uplink_put(struct sp_home *home, const struct sp_uplink_message *m,
                          sp_slot_tag client, uint16_t packet_id)
{
    struct sp_uplink *uplink = &home->uplink;
    struct sp_msg_record record = {
        .ticket = m->qos == 0 ? 0 : uplink->last_ticket + 1,
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
    };
    const struct sp_view parts[] = {
        {(const uint8_t *)&record, sizeof(record)}, m->device, m->topic, m->origin, m->payload};
    size_t size = sizeof(record) + m->device.len + m->topic.len + m->origin.len + m->payload.len;
    if (uplink->batch.used > 0 && uplink->batch.used + size > BATCH_MAX) {
        sp_uplink_flush(home);
    }
    SP_TRY(ring_room(uplink));
    uint8_t *at = sp_buf_reserve(&uplink->batch, size);
    if (at == NULL) {
        return SP_ERR_NOMEM;
    }
    struct sp_writer w;
    sp_writer_init(&w, at, size);
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        sp_write_view(&w, parts[i]);
    }
    uplink->batch.used += size;
    uplink->batch_count++;
    if (m->qos > 0) {
        uplink->last_ticket++;
        ring_put(uplink, (struct sp_uplink_ack){uplink->last_ticket, client, packet_id, 0, true});
    }
    return SP_OK;
}

enum sp_err sp_uplink_follow(struct sp_home *home, sp_slot_tag client, uint16_t packet_id,
                             uint8_t reason)
{
    SP_TRY(ring_room(&home->uplink));
    ring_put(&home->uplink,
             (struct sp_uplink_ack){home->uplink.last_ticket, client, packet_id, reason, false});
    return SP_OK;
}

void sp_uplink_flush(struct sp_home *home)
{
    struct sp_uplink *uplink = &home->uplink;
    if (uplink->batch_count == 0) {
        return;
    }
    struct sp_view batch = sp_buf_view(&uplink->batch);
    enum sp_err err = sp_edge_send(&uplink->store, SP_MSG_APPEND, uplink->batch_count, &batch, 1);
    uplink->batch_count = 0;
    if (uplink->batch.cap > BATCH_MAX) {
        sp_buf_free(&uplink->batch);
    }
    uplink->batch.used = 0;
    if (err != SP_OK) {
        sp_log_warn(SP_EVENT("store_unreachable"), SP_F_ERR(err));
        sp_uplink_lost(home);
    }
}

enum sp_err sp_uplink_durable(struct sp_home *home, const struct sp_msg_durable *durable)
{
    if (durable->up_to > home->uplink.last_ticket) {
        return SP_ERR_MALFORMED;
    }
    release(home, durable->up_to, durable->err == SP_OK);
    return SP_OK;
}

void sp_uplink_lost(struct sp_home *home)
{
    struct sp_uplink *uplink = &home->uplink;
    uplink->store = (struct sp_edge){NULL, NULL};
    uplink->batch.used = 0;
    uplink->batch_count = 0;
    release(home, UINT64_MAX, false);
}

void sp_uplink_connected(struct sp_home *home, const struct sp_edge *store)
{
    sp_uplink_lost(home);
    home->uplink.store = *store;
    home->uplink.blocked = false;
    home->uplink.pressure = 0;
    home->uplink.last_ticket = 0;
}

void sp_uplink_deinit(struct sp_uplink *uplink)
{
    sp_buf_free(&uplink->batch);
    free(uplink->ring);
    uplink->ring = NULL;
    uplink->ring_cap = 0;
    uplink->ring_count = 0;
}
