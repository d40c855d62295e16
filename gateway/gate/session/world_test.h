/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file For tests that hold whole conversations in plaintext: the test is the device, keys, store and the loop at once. What the home
 * sends to keys and store lands in two mailboxes; what it sends to a device lands in that device's inbox.
 */
#ifndef SP_GATEWAY_GATE_SESSION_WORLD_TEST_H
#define SP_GATEWAY_GATE_SESSION_WORLD_TEST_H

#include "gateway/gate/attest/guard.h"
#include "gateway/gate/route/retained.h"
#include "gateway/gate/route/route.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/slab/slab.h"
#include "libs/base/test.h"

#include <stdlib.h>
#include <string.h>

#define HELPER static __attribute__((unused))

/* ---- the world around one home ---- */

struct posted {
    uint16_t type;
    uint64_t tag;
    uint8_t body[9000];
    size_t len;
};

struct mailbox {
    struct posted items[64];
    size_t count;
};

struct world {
    struct sp_timers timers;
    struct sp_outbox outboxes[2];
    struct sp_home home;
    struct mailbox keys;
    struct mailbox store;
    bool store_waits; /* changes to sessions are not answered by themselves */
};

static char own_data[] = "dt/{device}/#";
static char own_commands[] = "cmd/{device}/#";
static char records[] = "dt/+/climate";
static char everything[] = "#";
static char sensor_name[] = "sensor";
static char monitor_name[] = "monitor";
static char client_name[] = "client";
static char *sensor_publish[] = {own_data, NULL};
static char *sensor_subscribe[] = {own_commands, NULL};
static char *monitor_subscribe[] = {own_commands, records, NULL};
static char *all[] = {everything, NULL};
static struct sp_role_config roles[] = {
    {.name = sensor_name, .publish = sensor_publish, .subscribe = sensor_subscribe},
    {.name = monitor_name, .publish = sensor_publish, .subscribe = monitor_subscribe},
    {.name = client_name,
     .publish = all,
     .subscribe = all,
     .retain = true,
     .shared_subscriptions = true,
     .topic_aliases = 2,
     .any_will = true},
};

static char gateway_id[] = "gw-1";
static char route_from[] = "dt/#";
static char route_cloud[] = "up/{gateway}/{rest}";
static struct sp_route_config routes[] = {{.from = route_from, .cloud = route_cloud, .qos = 1}};
static char command_cloud[] = "down/#";
static char command_to[] = "cmd/{rest}";
static struct sp_command_config commands[] = {{.cloud = command_cloud, .to = command_to}};

static struct sp_config config = {
    .id = gateway_id,
    .threads = 1,
    .roles = roles,
    .role_count = 3,
    .attestation = {.reattest_interval_s = 3600, .answer_timeout_ms = 10000},
    .routes = routes,
    .route_count = 1,
    .commands = commands,
    .command_count = 1,
    .limits = {.packet = 16384,
               .receive_maximum = 4,
               .in_flight = 3,
               .session_queue_bytes = 2000,
               .session_queues_bytes = 10000000,
               .session_expiry_s = 600,
               .write_buffer = 100000,
               .write_buffers = 10000000,
               .turn_messages = 64,
               .keep_alive_min_s = 10,
               .keep_alive_max_s = 1800,
               .topic_levels = 8,
               .topic_bytes = 256,
               .subscriptions = 4,
               .user_properties = 2,
               .user_property_bytes = 100,
               .retained = 100,
               .retained_bytes = 100000,
               .retained_device = 40,
               .retained_device_bytes = 40000,
               .attempts = 2},
};

static struct world *w; /* of the running test */

HELPER enum sp_err post(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                        size_t count)
{
    struct mailbox *box = arg;
    struct posted *item = &box->items[box->count % 64];
    box->count++;
    item->type = type;
    item->tag = tag;
    item->len = 0;
    for (size_t i = 0; i < count; i++) {
        if (item->len + parts[i].len <= sizeof(item->body)) {
            sp_copy(item->body + item->len, parts[i].ptr, parts[i].len);
            item->len += parts[i].len;
        }
    }
    return SP_OK;
}

HELPER enum sp_err exporter(struct sp_client *client, uint8_t *out)
{
    (void)client;
    memset(out, 0xEE, 32);
    return SP_OK;
}

/* ---- one device of the test ---- */

struct peer {
    struct sp_client client;
    uint8_t inbox[60000]; /* what the gateway sent and the test has not looked at */
    size_t len;
    bool closed;
    enum sp_mqtt_version version;
};

static struct sp_slab peer_slab = SP_SLAB_INIT(sizeof(struct peer));

HELPER void flush(struct sp_client *client)
{
    struct peer *peer = (struct peer *)client; /* first member */
    struct sp_view out = sp_buf_view(&sp_client_now(client)->out);
    if (peer->len + out.len <= sizeof(peer->inbox)) {
        sp_copy(peer->inbox + peer->len, out.ptr, out.len);
        peer->len += out.len;
    }
    sp_client_written(client);
}

/* The journal has taken all changes to sessions, or none of them. */
HELPER void keep_answer(enum sp_err err)
{
    const struct sp_msg_durable durable = {.up_to = w->home.keep.last_ticket, .err = (uint32_t)err};
    sp_keep_flush(&w->home);
    SP_CHECK_INT(sp_keep_durable(&w->home, &durable), SP_OK);
}

/* What the owner does at the end of a turn. */
HELPER void turn(void)
{
    struct sp_client *client;
    sp_tickets_flush(&w->home);
    sp_keep_flush(&w->home);
    if (w->home.tickets.store.send != NULL && !w->store_waits) {
        while (w->home.keep.fresh != NULL) { /* what devices do not acknowledge at once */
            sp_keep_store(&w->home, w->home.keep.fresh);
        }
        keep_answer(SP_OK);
    }
    while ((client = sp_client_take_dirty(&w->home)) != NULL) {
        struct peer *peer = (struct peer *)client;
        sp_client_resume(client);
        flush(client);
        if (client->lost && client->state != SP_CLIENT_CLOSED) {
            sp_client_lost(client);
        }
        sp_client_rest(client);
        peer->closed = client->state == SP_CLIENT_CLOSED;
        sp_tickets_flush(&w->home);
    }
}

HELPER void pass(uint64_t ms)
{
    w->timers.now_ms += ms;
    sp_timers_run(&w->timers, w->timers.now_ms);
    turn();
}

HELPER void begin(void)
{
    w = calloc(1, sizeof(*w));
    config.cloud.enabled = true;
    w->timers.now_ms = 1000000;
    w->timers.wall_ms = 1700000000000;
    w->home.config = &config;
    w->home.timers = &w->timers;
    w->home.outboxes = w->outboxes;
    w->home.loops = 1;
    w->home.exporter = exporter;
    w->home.flush = flush;
    w->home.keys = (struct sp_edge){post, &w->keys};
    w->home.tickets.store = (struct sp_edge){post, &w->store};
    SP_CHECK(sp_subs_create(2, &w->home.subs) == SP_OK);
    SP_CHECK(sp_retained_create(&w->home.retained) == SP_OK);
    sp_home_init(&w->home);
}

HELPER void hang_up(struct peer *peer)
{
    if (peer != NULL) {
        sp_client_deinit(&peer->client);
        turn();
        sp_slab_give(&peer_slab, peer);
    }
}

HELPER void end(void)
{
    turn();
    sp_home_deinit(&w->home);
    SP_CHECK_INT(sp_subs_size(w->home.subs), 0);
    SP_CHECK(w->timers.root == NULL);
    sp_subs_destroy(w->home.subs);
    sp_retained_destroy(w->home.retained);
    free(w);
}

/* A device whose TLS handshake is finished. */
HELPER struct peer *dial_as(const char *identity, const struct sp_msg_psk_answer *answer)
{
    struct peer *peer = sp_slab_take(&peer_slab);
    SP_CHECK(sp_client_init(&peer->client, &w->home) == SP_OK);
    SP_CHECK_INT(sp_client_identify(&peer->client, sp_view_str(identity), answer), SP_OK);
    return peer;
}

HELPER struct peer *dial(const char *identity, const char *role, enum sp_attestation_mode mode)
{
    struct sp_msg_psk_answer answer = {
        .known = 1, .nonce_ok = 1, .row = {.attestation = (uint8_t)mode}};
    strcpy(answer.row.role, role);
    memset(answer.nonce, 0xAB, sizeof(answer.nonce));
    return dial_as(identity, &answer);
}

HELPER void say(struct peer *peer, const struct sp_writer *packet)
{
    SP_CHECK(packet->err == SP_OK);
    sp_client_input(&peer->client, sp_writer_view(packet));
    turn();
}

/* The next packet that the gateway sent; type 0 when there is none. The body stays valid until the next call. */
HELPER struct sp_mqtt_header hear(struct peer *peer, struct sp_view *body)
{
    static uint8_t kept[65536];
    struct sp_mqtt_header header = {.type = 0};
    *body = sp_view(NULL, 0);
    if (sp_mqtt_peek(sp_view(peer->inbox, peer->len), sizeof(peer->inbox), &header) != SP_OK) {
        return (struct sp_mqtt_header){.type = 0};
    }
    size_t size = header.header_len + (size_t)header.body_len;
    memcpy(kept, peer->inbox, size);
    memmove(peer->inbox, peer->inbox + size, peer->len - size);
    peer->len -= size;
    *body = sp_view(kept + header.header_len, header.body_len);
    return header;
}

HELPER struct sp_mqtt_connect hello(struct peer *peer, enum sp_mqtt_version version)
{
    peer->version = version;
    struct sp_mqtt_connect packet = {.version = version,
                                     .clean_start = true,
                                     .keep_alive = 60,
                                     .client_id = sp_client_identity(&peer->client)};
    if (version == SP_MQTT_5 && peer->client.attestation == SP_ATTESTATION_REQUIRED) {
        packet.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD);
        packet.props.auth_method = SP_VIEW_LIT("sp-psa-iat-1");
    }
    return packet;
}

HELPER void say_connect(struct peer *peer, const struct sp_mqtt_connect *packet)
{
    uint8_t buf[4096];
    struct sp_writer out;
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_connect(&out, packet);
    say(peer, &out);
}

/* @return The reason of a CONNACK, 0xFFFF when something else came. */
HELPER unsigned hear_connack(struct peer *peer, struct sp_mqtt_connack *out)
{
    struct sp_view body;
    struct sp_mqtt_header header = hear(peer, &body);
    if (header.type != SP_MQTT_CONNACK ||
        sp_mqtt_decode_connack(peer->version, body, out) != SP_OK) {
        return 0xFFFF;
    }
    return out->reason;
}

HELPER unsigned connack_code(struct peer *peer)
{
    struct sp_mqtt_connack connack;
    return hear_connack(peer, &connack);
}

/* @return The reason of a DISCONNECT, 0xFFFF when something else came. */
HELPER unsigned disconnect_code(struct peer *peer)
{
    struct sp_view body;
    struct sp_mqtt_reasoned packet;
    struct sp_mqtt_header header = hear(peer, &body);
    if (header.type != SP_MQTT_DISCONNECT ||
        sp_mqtt_decode_reasoned(peer->version, header.type, body, &packet) != SP_OK) {
        return 0xFFFF;
    }
    return packet.reason;
}

HELPER struct posted *last(struct mailbox *box, uint16_t type)
{
    for (size_t i = box->count; i > 0; i--) {
        if (box->items[(i - 1) % 64].type == type) {
            return &box->items[(i - 1) % 64];
        }
    }
    return NULL;
}

HELPER void judge(struct peer *peer, enum sp_attest_check check)
{
    struct sp_msg_verdict verdict = {.check = (uint8_t)check, .detail = "because"};
    sp_guard_verdict(&peer->client, &verdict);
    turn();
}

HELPER void say_auth(struct peer *peer, uint8_t reason, const char *method, const char *token)
{
    uint8_t buf[9000];
    struct sp_writer out;
    struct sp_mqtt_reasoned packet = {.reason = reason};
    packet.props.present = (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) |
                                      (token == NULL ? 0 : SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA)));
    packet.props.auth_method = sp_view_str(method);
    packet.props.auth_data = sp_view_str(token);
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_reasoned(&out, SP_MQTT_5, SP_MQTT_AUTH, &packet);
    say(peer, &out);
}

/* CONNECT, challenge and token in MQTT 5; the verdict is still to come. */
HELPER void present_token(struct peer *peer, const struct sp_mqtt_connect *packet)
{
    struct sp_view body;
    say_connect(peer, packet);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_AUTH);
    say_auth(peer, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1", "token");
}

/* An attested MQTT 5 device, admitted. */
HELPER struct peer *admitted_with(const char *identity, const char *role,
                                  void (*change)(struct sp_mqtt_connect *packet))
{
    struct sp_view body;
    struct peer *peer = dial(identity, role, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    if (change != NULL) {
        change(&packet);
    }
    present_token(peer, &packet);
    judge(peer, SP_ATTEST_OK);
    SP_CHECK_INT(connack_code(peer), 0);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBLISH); /* $sp/time */
    return peer;
}

HELPER struct peer *admitted(const char *identity, const char *role)
{
    return admitted_with(identity, role, NULL);
}

/* An unattested 3.1.1 client, admitted. */
HELPER struct peer *tool(const char *identity, bool clean)
{
    struct peer *peer = dial(identity, client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    packet.clean_start = clean;
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0);
    return peer;
}

HELPER void say_publish(struct peer *peer, const char *topic, const char *payload, uint8_t qos,
                        uint16_t id)
{
    uint8_t buf[4096];
    struct sp_writer out;
    const struct sp_mqtt_publish packet = {
        .qos = qos, .packet_id = id, .topic = sp_view_str(topic), .payload = sp_view_str(payload)};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_publish(&out, peer->version, &packet);
    say(peer, &out);
}

HELPER void say_puback(struct peer *peer, uint16_t id)
{
    uint8_t buf[16];
    struct sp_writer out;
    const struct sp_mqtt_ack packet = {.packet_id = id};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_ack(&out, peer->version, SP_MQTT_PUBACK, &packet);
    say(peer, &out);
}

HELPER void say_filters(struct peer *peer, enum sp_mqtt_type type, const char *filter, uint8_t qos)
{
    uint8_t buf[512];
    struct sp_writer out;
    const struct sp_mqtt_subscribe packet = {.packet_id = 77};
    const struct sp_mqtt_filter one = {.filter = sp_view_str(filter), .qos = qos};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_subscribe(&out, peer->version, type, &packet, &one, 1);
    say(peer, &out);
}

/* SUBSCRIBE to one filter. @return Its code, 0xFFFF when no SUBACK came. */
HELPER unsigned subscribe(struct peer *peer, const char *filter, uint8_t qos)
{
    struct sp_view body;
    struct sp_mqtt_suback suback;
    say_filters(peer, SP_MQTT_SUBSCRIBE, filter, qos);
    struct sp_mqtt_header header = hear(peer, &body);
    if (header.type != SP_MQTT_SUBACK ||
        sp_mqtt_decode_suback(peer->version, header.type, body, &suback) != SP_OK) {
        return 0xFFFF;
    }
    return suback.codes.ptr[0];
}

/* @return The reason of a PUBACK for `id`, 0xFFFF when something else came. */
HELPER unsigned puback(struct peer *peer, uint16_t id)
{
    struct sp_view body;
    struct sp_mqtt_ack ack;
    struct sp_mqtt_header header = hear(peer, &body);
    if (header.type != SP_MQTT_PUBACK ||
        sp_mqtt_decode_ack(peer->version, header.type, body, &ack) != SP_OK ||
        ack.packet_id != id) {
        return 0xFFFF;
    }
    return ack.reason;
}

/* The next PUBLISH; false when there is none. Views as in hear(). */
HELPER bool hear_publish(struct peer *peer, struct sp_mqtt_publish *out)
{
    struct sp_view body;
    struct sp_mqtt_header header = hear(peer, &body);
    return header.type == SP_MQTT_PUBLISH &&
           sp_mqtt_decode_publish(peer->version, header.flags, body, out) == SP_OK;
}

HELPER bool is(struct sp_view view, const char *text)
{
    return sp_view_equal(view, sp_view_str(text));
}

HELPER void durable(uint64_t up_to, enum sp_err err)
{
    const struct sp_msg_durable message = {.up_to = up_to, .err = (uint32_t)err};
    SP_CHECK(sp_tickets_durable(&w->home, &message) == SP_OK);
    turn();
}

HELPER void disconnect(struct peer *peer, uint8_t reason)
{
    uint8_t buf[16];
    struct sp_writer out;
    const struct sp_mqtt_reasoned packet = {.reason = reason};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_reasoned(&out, peer->version, SP_MQTT_DISCONNECT, &packet);
    say(peer, &out);
}

#endif
