/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file For the tests of the client: one client, and a server that is a script (packets encoded by the
 * codec, or bytes by hand). */
#ifndef SP_LIBS_MQTT_CLIENT_SCRIPT_TEST_H
#define SP_LIBS_MQTT_CLIENT_SCRIPT_TEST_H

#include "libs/base/test.h"
#include "libs/mqtt/client.h"

#include <string.h>

#define SLOTS 4

static struct sp_mqtt_slot slots[SLOTS];
static struct sp_mqtt_client client;
static struct sp_mqtt_event event;
static uint8_t out_bytes[4096];
static struct sp_writer out;
static uint8_t server_bytes[4096];
static struct sp_writer server;
static uint64_t now;

static inline struct sp_mqtt_connect connect_packet(enum sp_mqtt_version version)
{
    return (struct sp_mqtt_connect){
        .version = version, .keep_alive = 60, .client_id = SP_VIEW_INIT("dev1")};
}

static inline void start(void)
{
    struct sp_mqtt_client_opts opts = {.slots = slots,
                                       .slot_count = SLOTS,
                                       .max_packet = 256,
                                       .connect_timeout_ms = 10000,
                                       .ping_timeout_ms = 5000,
                                       .ack_timeout_ms = 20000};
    memset(slots, 0xAA, sizeof(slots));
    now = 1000;
    sp_writer_init(&out, out_bytes, sizeof(out_bytes));
    sp_writer_init(&server, server_bytes, sizeof(server_bytes));
    SP_CHECK(sp_mqtt_client_init(&client, &opts) == SP_OK);
}

static inline void clear_out(void)
{
    sp_writer_init(&out, out_bytes, sizeof(out_bytes));
}

/* Give everything the server wrote as one packet. */
static inline enum sp_err deliver(void)
{
    size_t size = 0;
    struct sp_view in = sp_writer_view(&server);
    enum sp_err err = sp_mqtt_client_input(&client, now, in, &size, &event);
    SP_CHECK(err != SP_OK || size == in.len);
    sp_writer_init(&server, server_bytes, sizeof(server_bytes));
    return err;
}

static inline enum sp_err deliver_bytes(const void *bytes, size_t len)
{
    sp_write_view(&server, sp_view(bytes, len));
    return deliver();
}

static inline enum sp_err deliver_connack(const struct sp_mqtt_connack *connack)
{
    sp_mqtt_encode_connack(&server, client.version, connack);
    return deliver();
}

static inline void connect_with(const struct sp_mqtt_connect *packet,
                                const struct sp_mqtt_connack *answer)
{
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, packet, &out), SP_OK);
    SP_CHECK_INT(client.state, SP_MQTT_CLIENT_CONNECTING);
    SP_CHECK_INT(deliver_connack(answer), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_CONNECTED);
    SP_CHECK_INT(client.state, SP_MQTT_CLIENT_UP);
    clear_out();
}

static inline void connect_plain(enum sp_mqtt_version version)
{
    struct sp_mqtt_connect packet = connect_packet(version);
    struct sp_mqtt_connack answer = {0};
    connect_with(&packet, &answer);
}

static inline struct sp_mqtt_publish message(uint8_t qos)
{
    return (struct sp_mqtt_publish){
        .qos = qos, .topic = SP_VIEW_INIT("dt/dev1/x"), .payload = SP_VIEW_INIT("hello")};
}

static inline enum sp_err publish(uint64_t cookie)
{
    struct sp_mqtt_publish m = message(1);
    return sp_mqtt_client_publish(&client, now, &m, cookie, &out);
}

static inline enum sp_err puback(uint16_t id, uint8_t reason)
{
    struct sp_mqtt_ack ack = {.packet_id = id, .reason = reason};
    sp_mqtt_encode_ack(&server, client.version, SP_MQTT_PUBACK, &ack);
    return deliver();
}

/* The next PUBLISH among what the client wrote; `out` is emptied from the front. */
static inline struct sp_mqtt_publish sent_publish(void)
{
    struct sp_mqtt_header h = {0};
    struct sp_mqtt_publish m = {0};
    struct sp_view all = sp_writer_view(&out);
    SP_CHECK_INT(sp_mqtt_peek(all, 4096, &h), SP_OK);
    SP_CHECK_INT(h.type, SP_MQTT_PUBLISH);
    struct sp_view body = sp_view_first(sp_view_from(all, h.header_len), h.body_len);
    SP_CHECK_INT(sp_mqtt_decode_publish(client.version, h.flags, body, &m), SP_OK);
    size_t size = (size_t)h.header_len + h.body_len;
    memmove(out_bytes, out_bytes + size, all.len - size);
    out.used = all.len - size;
    return m;
}

#endif
