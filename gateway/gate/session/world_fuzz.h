/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file For fuzzers: one home with several connections, played by a list of moves. Whatever the home writes must decode, and at
 * the end nothing may be left: no subscription, no timer, no memory.
 */
#ifndef SP_GATEWAY_GATE_SESSION_WORLD_FUZZ_H
#define SP_GATEWAY_GATE_SESSION_WORLD_FUZZ_H

#include "gateway/gate/attest/guard.h"
#include "gateway/gate/route/retained.h"
#include "gateway/gate/route/route.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/house_fuzz.h"
#include "gateway/log/log.h"
#include "gateway/slab/slab.h"
#include "libs/mqtt/any_packet_test.h"

#include <string.h>

#define WORLD_SEATS 4U
#define WORLD_INBOX 70000U

/* ---- the world ---- */

struct seat {
    struct sp_client client; /* first: flush casts back */
    bool taken;
    size_t received; /* bytes in `inbox` that are no whole packet yet */
    uint8_t *inbox;  /* WORLD_INBOX bytes */
};

struct world {
    struct sp_timers timers;
    struct sp_outbox outbox;
    struct sp_home home;
    struct seat *seats; /* WORLD_SEATS of them, in a slab */
    uint64_t appended;  /* messages that went to store */
    void (*heard)(struct seat *seat, const struct any_packet *packet); /* may be NULL */
};

static struct world world;
static uint8_t world_inboxes[WORLD_SEATS][WORLD_INBOX];
static struct sp_slab world_seats = SP_SLAB_INIT(WORLD_SEATS * sizeof(struct seat));

/* Whole packets that the home has sent: each must be one that a server may send. */
static inline void world_read(struct seat *seat)
{
    struct any_packet packet;
    enum sp_mqtt_version version =
        seat->client.version == 0 ? SP_MQTT_5 : (enum sp_mqtt_version)seat->client.version;
    size_t at = 0;
    while (at < seat->received) {
        enum sp_err err =
            any_decode(version, sp_view(seat->inbox + at, seat->received - at), &packet);
        if (err == SP_ERR_AGAIN) {
            break;
        }
        fuzz_require(err == SP_OK);
        fuzz_require(packet.type != SP_MQTT_CONNECT && packet.type != SP_MQTT_SUBSCRIBE &&
                     packet.type != SP_MQTT_UNSUBSCRIBE && packet.type != SP_MQTT_PINGREQ);
        at += packet.size;
        if (world.heard != NULL) {
            world.heard(seat, &packet);
        }
    }
    memmove(seat->inbox, seat->inbox + at, seat->received - at);
    seat->received -= at;
}

static inline void world_flush(struct sp_client *client)
{
    struct seat *seat = (struct seat *)(void *)client;
    struct sp_view out = sp_buf_view(&sp_client_now(client)->out);
    if (seat->received + out.len <= WORLD_INBOX) {
        sp_copy(seat->inbox + seat->received, out.ptr, out.len);
        seat->received += out.len;
        world_read(seat);
    } else {
        seat->received = 0; /* more than anybody reads: from here on it is not looked at */
    }
    sp_client_written(client);
}

/* The journal takes every change to sessions. */
static inline void world_keep(void)
{
    const struct sp_msg_durable durable = {.up_to = world.home.keep.last_ticket};
    sp_keep_flush(&world.home);
    if (world.home.tickets.store.send != NULL) {
        fuzz_require(sp_keep_durable(&world.home, &durable) == SP_OK);
    }
}

static inline void world_turn(void)
{
    struct sp_client *client;
    sp_tickets_flush(&world.home);
    world_keep();
    while ((client = sp_client_take_dirty(&world.home)) != NULL) {
        sp_client_resume(client);
        world_flush(client);
        sp_client_rest(client);
        sp_tickets_flush(&world.home);
    }
}

static inline void world_pass(uint64_t ms)
{
    world.timers.now_ms += ms;
    world.timers.wall_ms += ms;
    sp_timers_run(&world.timers, world.timers.now_ms);
    world_turn();
}

static inline enum sp_err world_exporter(struct sp_client *client, uint8_t *out)
{
    (void)client;
    memset(out, 0xEE, 32);
    return SP_OK;
}

static inline enum sp_err world_store(void *arg, uint16_t type, uint64_t tag,
                                      const struct sp_view *parts, size_t count)
{
    (void)arg, (void)parts, (void)count;
    world.appended += type == SP_MSG_APPEND ? tag : 0;
    return SP_OK;
}

/* @return false: no memory. */
static inline bool world_begin(const struct sp_config *config, struct sp_edge keys)
{
    memset(&world, 0, offsetof(struct world, seats));
    world.appended = 0;
    world.seats = world.seats != NULL ? world.seats : sp_slab_take(&world_seats);
    if (world.seats == NULL) {
        return false;
    }
    for (size_t i = 0; i < WORLD_SEATS; i++) {
        world.seats[i].taken = false;
        world.seats[i].inbox = world_inboxes[i];
    }
    world.timers.now_ms = 1000000;
    world.timers.wall_ms = 1700000000000;
    world.home.config = config;
    world.home.timers = &world.timers;
    world.home.outboxes = &world.outbox;
    world.home.loops = 1;
    world.home.exporter = world_exporter;
    world.home.flush = world_flush;
    world.home.keys = keys;
    world.home.tickets.store = (struct sp_edge){world_store, NULL};
    if (sp_subs_create(1, &world.home.subs) != SP_OK ||
        sp_retained_create(&world.home.retained) != SP_OK) {
        return false;
    }
    sp_log_init("fuzz", SP_LOG_ERROR);
    sp_home_init(&world.home);
    return true;
}

static inline void world_leave(struct seat *seat)
{
    if (seat->taken) {
        sp_client_deinit(&seat->client);
        seat->taken = false;
        world_turn();
    }
}

/* A connection whose TLS handshake is done. @return false: it may not go on. */
static inline bool world_sit(struct seat *seat, const char *identity,
                             const struct sp_msg_psk_answer *answer)
{
    world_leave(seat);
    memset(&seat->client, 0, sizeof(seat->client));
    seat->received = 0;
    if (sp_client_init(&seat->client, &world.home) != SP_OK) {
        return false;
    }
    seat->taken = true;
    if (sp_client_identify(&seat->client, sp_view_str(identity), answer) != SP_OK) {
        world_leave(seat);
        return false;
    }
    return true;
}

static inline void world_say(struct seat *seat, struct sp_view bytes)
{
    if (seat->taken) {
        sp_client_input(&seat->client, bytes);
        world_turn();
    }
}

static inline void world_say_packet(struct seat *seat, const struct sp_writer *packet)
{
    if (packet->err == SP_OK) {
        world_say(seat, sp_writer_view(packet));
    }
}

static inline void world_end(void)
{
    for (size_t i = 0; i < WORLD_SEATS; i++) {
        world_leave(&world.seats[i]);
    }
    world_turn();
    sp_home_deinit(&world.home);
    fuzz_require(sp_subs_size(world.home.subs) == 0);
    fuzz_require(world.timers.root == NULL);
    sp_subs_destroy(world.home.subs);
    sp_retained_destroy(world.home.retained);
}

#endif
