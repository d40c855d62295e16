/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The server is a script: packets encoded by the codec, or bytes by hand. */
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

static struct sp_mqtt_connect connect_packet(enum sp_mqtt_version version)
{
    return (struct sp_mqtt_connect){
        .version = version, .keep_alive = 60, .client_id = SP_VIEW_INIT("dev1")};
}

static void start(void)
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

static void clear_out(void)
{
    sp_writer_init(&out, out_bytes, sizeof(out_bytes));
}

/* Give everything the server wrote as one packet. */
static enum sp_err deliver(void)
{
    size_t size = 0;
    struct sp_view in = sp_writer_view(&server);
    enum sp_err err = sp_mqtt_client_input(&client, now, in, &size, &event);
    SP_CHECK(err != SP_OK || size == in.len);
    sp_writer_init(&server, server_bytes, sizeof(server_bytes));
    return err;
}

static enum sp_err deliver_bytes(const void *bytes, size_t len)
{
    sp_write_view(&server, sp_view(bytes, len));
    return deliver();
}

static enum sp_err deliver_connack(const struct sp_mqtt_connack *connack)
{
    sp_mqtt_encode_connack(&server, client.version, connack);
    return deliver();
}

static void connect_with(const struct sp_mqtt_connect *packet, const struct sp_mqtt_connack *answer)
{
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, packet, &out), SP_OK);
    SP_CHECK_INT(client.state, SP_MQTT_CLIENT_CONNECTING);
    SP_CHECK_INT(deliver_connack(answer), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_CONNECTED);
    SP_CHECK_INT(client.state, SP_MQTT_CLIENT_UP);
    clear_out();
}

static void connect_plain(enum sp_mqtt_version version)
{
    struct sp_mqtt_connect packet = connect_packet(version);
    struct sp_mqtt_connack answer = {0};
    connect_with(&packet, &answer);
}

static struct sp_mqtt_publish message(uint8_t qos)
{
    return (struct sp_mqtt_publish){
        .qos = qos, .topic = SP_VIEW_INIT("dt/dev1/x"), .payload = SP_VIEW_INIT("hello")};
}

static enum sp_err publish(uint64_t cookie)
{
    struct sp_mqtt_publish m = message(1);
    return sp_mqtt_client_publish(&client, now, &m, cookie, &out);
}

static enum sp_err puback(uint16_t id, uint8_t reason)
{
    struct sp_mqtt_ack ack = {.packet_id = id, .reason = reason};
    sp_mqtt_encode_ack(&server, client.version, SP_MQTT_PUBACK, &ack);
    return deliver();
}

/* The next PUBLISH among what the client wrote; `out` is emptied from the front. */
static struct sp_mqtt_publish sent_publish(void)
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

static void connect_writes_what_it_was_given_and_takes_limits_from_connack(void)
{
    start();
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    packet.clean_start = true;
    packet.props.present = SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY);
    packet.props.session_expiry = 3600;
    packet.will = (struct sp_mqtt_will){
        .present = true, .qos = 1, .topic = SP_VIEW_INIT("w"), .payload = SP_VIEW_INIT("gone")};
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);

    struct sp_mqtt_header h;
    struct sp_mqtt_connect seen;
    struct sp_view all = sp_writer_view(&out);
    SP_CHECK_INT(sp_mqtt_peek(all, 4096, &h), SP_OK);
    SP_CHECK_INT(h.header_len + h.body_len, all.len);
    SP_CHECK_INT(sp_mqtt_decode_connect(sp_view_from(all, h.header_len), &seen), SP_OK);
    SP_CHECK_INT(seen.props.max_packet_size, 256);
    SP_CHECK_INT(seen.props.session_expiry, 3600);
    SP_CHECK(seen.clean_start && seen.will.present && seen.will.qos == 1);
    SP_CHECK(sp_view_equal(seen.will.payload, SP_VIEW_LIT("gone")));

    struct sp_mqtt_connack answer = {0};
    answer.props.present =
        SP_MQTT_HAS(SP_MQTT_P_SERVER_KEEP_ALIVE) | SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM) |
        SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_PACKET_SIZE) | SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_QOS) |
        SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS_MAXIMUM) | SP_MQTT_HAS(SP_MQTT_P_ASSIGNED_CLIENT_ID) |
        SP_MQTT_HAS(SP_MQTT_P_RETAIN_AVAILABLE);
    answer.props.server_keep_alive = 20;
    answer.props.receive_maximum = 2;
    answer.props.max_packet_size = 100;
    answer.props.maximum_qos = 1;
    answer.props.topic_alias_maximum = 3;
    answer.props.assigned_client_id = SP_VIEW_LIT("auto");
    SP_CHECK_INT(deliver_connack(&answer), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_CONNECTED);
    SP_CHECK(!event.unchallenged);
    SP_CHECK(!event.connack.session_present);
    SP_CHECK(sp_view_equal(event.connack.props.assigned_client_id, SP_VIEW_LIT("auto")));
    SP_CHECK_INT(client.limits.keep_alive, 20);
    SP_CHECK_INT(client.limits.receive_maximum, 2);
    SP_CHECK_INT(client.limits.max_packet_size, 100);
    SP_CHECK_INT(client.limits.maximum_qos, 1);
    SP_CHECK_INT(client.limits.topic_alias_maximum, 3);
    SP_CHECK_INT(client.limits.session_expiry, 3600);
    SP_CHECK(!client.limits.retain_available && client.limits.shared_available);
    SP_CHECK_INT(sp_mqtt_client_window(&client), 2);
}

static void impossible_options_are_refused(void)
{
    struct sp_mqtt_client c;
    struct sp_mqtt_client_opts opts = {.max_packet = 63};
    SP_CHECK_INT(sp_mqtt_client_init(&c, &opts), SP_ERR_ARGUMENT);
    opts.max_packet = 64;
    opts.slot_count = SP_MQTT_CLIENT_SLOTS_MAX + 1;
    SP_CHECK_INT(sp_mqtt_client_init(&c, &opts), SP_ERR_ARGUMENT);
    start();
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    packet.props.present = SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS_MAXIMUM);
    packet.props.topic_alias_maximum = 1;
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_ERR_ARGUMENT);
    packet = connect_packet((enum sp_mqtt_version)3);
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_ERR_ARGUMENT);
    sp_writer_init(&out, out_bytes, 10);
    packet = connect_packet(SP_MQTT_5);
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_ERR_SPACE);
    SP_CHECK_INT(out.used, 0);
    SP_CHECK_INT(out.err, SP_OK);
    SP_CHECK_INT(client.state, SP_MQTT_CLIENT_IDLE);
}

static void a_refusal_ends_the_connection(void)
{
    start();
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    struct sp_mqtt_connack answer = {.reason = SP_MQTT_RC_NOT_AUTHORIZED};
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
    SP_CHECK_INT(deliver_connack(&answer), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_REFUSED);
    SP_CHECK_INT(event.connack.reason, 0x87);
    SP_CHECK_INT(client.state, SP_MQTT_CLIENT_IDLE);
    SP_CHECK_INT(publish(1), SP_ERR_STATE);
    SP_CHECK_INT(deliver_bytes("\xD0\x00", 2), SP_ERR_STATE);
}

static struct sp_mqtt_connect connect_with_method(void)
{
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    packet.props.present = SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD);
    packet.props.auth_method = SP_VIEW_LIT("sp-psa-iat-1");
    return packet;
}

static enum sp_err challenge(uint8_t reason, const char *method)
{
    struct sp_mqtt_reasoned auth = {.reason = reason};
    auth.props.present = SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) | SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA);
    auth.props.auth_method = sp_view_str(method);
    auth.props.auth_data = SP_VIEW_LIT("nonce");
    sp_mqtt_encode_reasoned(&server, SP_MQTT_5, SP_MQTT_AUTH, &auth);
    return deliver();
}

static void a_challenge_is_answered_before_connack(void)
{
    start();
    struct sp_mqtt_connect packet = connect_with_method();
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_auth(&client, now, SP_VIEW_LIT("early"), &out), SP_ERR_STATE);
    SP_CHECK_INT(challenge(0x18, "sp-psa-iat-1"), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_CHALLENGE);
    SP_CHECK(sp_view_equal(event.auth.props.auth_data, SP_VIEW_LIT("nonce")));
    clear_out();
    SP_CHECK_INT(sp_mqtt_client_auth(&client, now, SP_VIEW_LIT("token"), &out), SP_OK);
    struct sp_mqtt_reasoned answer;
    SP_CHECK_INT(out_bytes[0], 0xF0);
    SP_CHECK_INT(sp_mqtt_decode_reasoned(SP_MQTT_5, SP_MQTT_AUTH,
                                         sp_view(out_bytes + 2, out_bytes[1]), &answer),
                 SP_OK);
    SP_CHECK_INT(answer.reason, 0x18);
    SP_CHECK(sp_view_equal(answer.props.auth_data, SP_VIEW_LIT("token")));
    SP_CHECK(sp_view_equal(answer.props.auth_method, SP_VIEW_LIT("sp-psa-iat-1")));
    SP_CHECK_INT(sp_mqtt_client_auth(&client, now, SP_VIEW_LIT("again"), &out), SP_ERR_STATE);

    struct sp_mqtt_connack connack = {0};
    connack.props = packet.props;
    SP_CHECK_INT(deliver_connack(&connack), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_CONNECTED);
    SP_CHECK(!event.unchallenged);
    SP_CHECK_INT(client.challenges, 1);
    SP_CHECK_INT(challenge(0x18, "sp-psa-iat-1"), SP_ERR_PROTOCOL);
}

static void success_without_a_challenge_shows(void)
{
    struct sp_mqtt_connect packet = connect_with_method();
    struct sp_mqtt_connack connack = {0};
    start();
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
    SP_CHECK_INT(deliver_connack(&connack), SP_OK);
    SP_CHECK(event.unchallenged);

    start();
    connack.props = packet.props; /* it knows the method but does not use it */
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
    SP_CHECK_INT(deliver_connack(&connack), SP_OK);
    SP_CHECK(event.unchallenged);

    start(); /* it does not wait for the answer */
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
    SP_CHECK_INT(challenge(0x18, "sp-psa-iat-1"), SP_OK);
    SP_CHECK_INT(deliver_connack(&connack), SP_OK);
    SP_CHECK(event.unchallenged);
}

static void a_server_that_plays_with_the_method_is_refused(void)
{
    static const struct {
        const char *name;
        uint8_t reason;
        const char *method;
        bool ours; /* we sent a method */
    } cases[] = {
        {"another method", 0x18, "sp-psa-iat-raw-1", true},
        {"re-authentication", 0x19, "sp-psa-iat-1", true},
        {"success", 0x00, "sp-psa-iat-1", true},
        {"nobody asked", 0x18, "sp-psa-iat-1", false},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start();
        struct sp_mqtt_connect packet =
            cases[i].ours ? connect_with_method() : connect_packet(SP_MQTT_5);
        SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
        SP_CHECK_CASE(challenge(cases[i].reason, cases[i].method) == SP_ERR_PROTOCOL,
                      cases[i].name);
    }
    start(); /* two challenges without an answer between them */
    struct sp_mqtt_connect packet = connect_with_method();
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
    SP_CHECK_INT(challenge(0x18, "sp-psa-iat-1"), SP_OK);
    SP_CHECK_INT(challenge(0x18, "sp-psa-iat-1"), SP_ERR_PROTOCOL);
    struct sp_mqtt_connack connack = {0}; /* challenged, but no method in CONNACK */
    SP_CHECK_INT(sp_mqtt_client_auth(&client, now, SP_VIEW_LIT("t"), &out), SP_OK);
    SP_CHECK_INT(deliver_connack(&connack), SP_ERR_PROTOCOL);
    start(); /* a method out of the blue */
    packet = connect_packet(SP_MQTT_5);
    connack.props = connect_with_method().props;
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
    SP_CHECK_INT(deliver_connack(&connack), SP_ERR_PROTOCOL);
}

static void publishes_get_ids_and_their_cookies_come_back(void)
{
    enum sp_mqtt_version versions[] = {SP_MQTT_5, SP_MQTT_311};
    for (size_t v = 0; v < 2; v++) {
        start();
        connect_plain(versions[v]);
        for (uint16_t i = 0; i < SLOTS; i++) {
            SP_CHECK_INT(sp_mqtt_client_window(&client), SLOTS - i);
            SP_CHECK_INT(publish(100U + i), SP_OK);
        }
        SP_CHECK_INT(publish(200), SP_ERR_AGAIN);
        for (uint16_t i = 0; i < SLOTS; i++) {
            struct sp_mqtt_publish m = sent_publish();
            SP_CHECK_INT(m.packet_id, i + 1);
            SP_CHECK(!m.dup && m.qos == 1 && sp_view_equal(m.payload, SP_VIEW_LIT("hello")));
        }
        SP_CHECK_INT(puback(3, 0), SP_OK); /* out of order */
        SP_CHECK_INT(event.type, SP_MQTT_EVENT_PUBACK);
        SP_CHECK_INT(event.cookie, 102);
        SP_CHECK_INT(publish(200), SP_ERR_AGAIN); /* order is kept in the ring */
        SP_CHECK_INT(puback(1, 0), SP_OK);
        SP_CHECK_INT(event.cookie, 100);
        SP_CHECK_INT(publish(104), SP_OK);
        SP_CHECK_INT(sent_publish().packet_id, 5);
        SP_CHECK_INT(puback(2, 0), SP_OK);
        SP_CHECK_INT(event.cookie, 101);
        SP_CHECK_INT(sp_mqtt_client_window(&client), 2);
        SP_CHECK_INT(puback(4, 0), SP_OK);
        SP_CHECK_INT(puback(5, 0), SP_OK);
        SP_CHECK_INT(event.cookie, 104);
        SP_CHECK_INT(sp_mqtt_client_window(&client), SLOTS);
    }
}

static void a_refused_message_frees_its_slot_too(void)
{
    start();
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(publish(7), SP_OK);
    SP_CHECK_INT(puback(1, SP_MQTT_RC_QUOTA_EXCEEDED), SP_OK);
    SP_CHECK_INT(event.ack.reason, 0x97);
    SP_CHECK_INT(event.cookie, 7);
    SP_CHECK_INT(sp_mqtt_client_window(&client), SLOTS);
}

static void packet_ids_wrap_without_touching_those_of_requests(void)
{
    start();
    connect_plain(SP_MQTT_5);
    for (uint32_t i = 0; i < 140000; i++) {
        clear_out();
        SP_CHECK_INT(publish(i), SP_OK);
        uint16_t id = sent_publish().packet_id;
        if (id != i % 65520 + 1 || puback(id, 0) != SP_OK || event.cookie != i) {
            SP_CHECK(false);
            return;
        }
    }
}

static void acknowledgements_nobody_waits_for_are_refused(void)
{
    static const uint16_t ids[] = {2, 5, 65520, 65521, 65535};
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        start();
        connect_plain(SP_MQTT_5);
        SP_CHECK_INT(publish(1), SP_OK);
        SP_CHECK_INT(puback(ids[i], 0), SP_ERR_PROTOCOL);
    }
    start();
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(puback(1, 0), SP_ERR_PROTOCOL);
    SP_CHECK_INT(publish(1), SP_OK);
    SP_CHECK_INT(publish(2), SP_OK);
    SP_CHECK_INT(puback(2, 0), SP_OK);
    SP_CHECK_INT(puback(2, 0), SP_ERR_PROTOCOL);
}

static void the_servers_receive_maximum_bounds_the_window(void)
{
    start();
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    struct sp_mqtt_connack answer = {0};
    answer.props.present = SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM);
    answer.props.receive_maximum = 1;
    connect_with(&packet, &answer);
    SP_CHECK_INT(publish(1), SP_OK);
    SP_CHECK_INT(publish(2), SP_ERR_AGAIN);
    struct sp_mqtt_publish free_of_charge = message(0);
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &free_of_charge, 0, &out), SP_OK);
    SP_CHECK_INT(puback(1, 0), SP_OK);
    SP_CHECK_INT(publish(2), SP_OK);
}

static void messages_the_server_will_not_take_are_told_apart(void)
{
    start();
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    struct sp_mqtt_connack answer = {0};
    answer.props.present =
        SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_QOS) | SP_MQTT_HAS(SP_MQTT_P_RETAIN_AVAILABLE) |
        SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_PACKET_SIZE) | SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS_MAXIMUM);
    answer.props.max_packet_size = 30;
    answer.props.topic_alias_maximum = 2;
    connect_with(&packet, &answer);
    SP_CHECK_INT(publish(1), SP_ERR_UNSUPPORTED); /* Maximum QoS 0 */
    struct sp_mqtt_publish m = message(0);
    m.retain = true;
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_ERR_UNSUPPORTED);
    m = message(2);
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_ERR_UNSUPPORTED);
    m = message(0);
    m.payload = SP_VIEW_LIT("this is longer than the server likes");
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_ERR_LIMIT);
    m = message(0);
    m.topic = SP_VIEW_LIT("a/+");
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_ERR_ARGUMENT);
    m.topic = (struct sp_view){NULL, 0};
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_ERR_ARGUMENT);
    m.props.present = SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS);
    m.props.topic_alias = 3;
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_ERR_ARGUMENT);
    m.props.topic_alias = 2;
    SP_CHECK_INT(out.used, 0);
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_OK);
    m = message(0);
    m.props.present = SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID);
    m.props.subscription_id = 1;
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_ERR_ARGUMENT);
}

static void a_full_writer_changes_nothing(void)
{
    start();
    connect_plain(SP_MQTT_5);
    sp_writer_init(&out, out_bytes, 25);
    SP_CHECK_INT(publish(1), SP_OK);
    size_t used = out.used;
    SP_CHECK_INT(publish(2), SP_ERR_SPACE);
    SP_CHECK_INT(out.used, used);
    SP_CHECK_INT(out.err, SP_OK);
    SP_CHECK_INT(sp_mqtt_client_window(&client), SLOTS - 1);
    clear_out();
    SP_CHECK_INT(publish(2), SP_OK);
    SP_CHECK_INT(sent_publish().packet_id, 2);
}

static void resend_all(bool dup, uint64_t first, size_t count)
{
    uint64_t cookie = 0;
    struct sp_mqtt_publish m = message(1);
    for (size_t i = 0; i < count; i++) {
        SP_CHECK(sp_mqtt_client_unsent(&client, &cookie));
        SP_CHECK_INT(cookie, first + i);
        SP_CHECK_INT(sp_mqtt_client_resend(&client, now, &m, &out), SP_OK);
        SP_CHECK_INT(sent_publish().dup, dup);
    }
    SP_CHECK(!sp_mqtt_client_unsent(&client, &cookie));
    SP_CHECK_INT(sp_mqtt_client_resend(&client, now, &m, &out), SP_ERR_STATE);
}

static void unacknowledged_messages_are_sent_again_first_and_in_order(void)
{
    for (int resumed = 0; resumed < 2; resumed++) {
        start();
        connect_plain(SP_MQTT_5);
        SP_CHECK_INT(publish(10), SP_OK);
        SP_CHECK_INT(publish(11), SP_OK);
        SP_CHECK_INT(publish(12), SP_OK);
        SP_CHECK_INT(puback(1, 0), SP_OK);
        sp_mqtt_client_close(&client);
        SP_CHECK_INT(publish(13), SP_ERR_STATE);
        struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
        struct sp_mqtt_connack answer = {.session_present = resumed == 1};
        connect_with(&packet, &answer);
        SP_CHECK_INT(publish(13), SP_ERR_STATE);
        SP_CHECK_INT(puback(2, 0), SP_ERR_PROTOCOL); /* not sent on this connection yet */
        resend_all(resumed == 1, 11, 2);
        SP_CHECK_INT(publish(13), SP_OK);
        SP_CHECK_INT(sent_publish().packet_id, 4);
        SP_CHECK_INT(puback(2, 0), SP_OK);
        SP_CHECK_INT(event.cookie, 11);
        SP_CHECK_INT(puback(4, 0), SP_OK);
        SP_CHECK_INT(event.cookie, 13);
    }
}

static void what_was_acknowledged_out_of_order_is_not_sent_again(void)
{
    start();
    connect_plain(SP_MQTT_5);
    for (uint64_t i = 0; i < 4; i++) {
        SP_CHECK_INT(publish(i), SP_OK);
    }
    SP_CHECK_INT(puback(2, 0), SP_OK);
    SP_CHECK_INT(puback(4, 0), SP_OK);
    clear_out();
    connect_plain(SP_MQTT_5);
    uint64_t cookie = 9;
    struct sp_mqtt_publish m = message(1);
    SP_CHECK(sp_mqtt_client_unsent(&client, &cookie) && cookie == 0);
    SP_CHECK_INT(sp_mqtt_client_resend(&client, now, &m, &out), SP_OK);
    SP_CHECK_INT(sent_publish().packet_id, 1);
    SP_CHECK(sp_mqtt_client_unsent(&client, &cookie) && cookie == 2);
    sp_mqtt_client_skip(&client);
    SP_CHECK(!sp_mqtt_client_unsent(&client, &cookie));
    SP_CHECK_INT(puback(1, 0), SP_OK);
    SP_CHECK_INT(event.cookie, 0);
    SP_CHECK_INT(sp_mqtt_client_window(&client), SLOTS);
    SP_CHECK_INT(publish(20), SP_OK);
    SP_CHECK_INT(sent_publish().packet_id, 5);
}

static void resending_keeps_to_a_smaller_receive_maximum(void)
{
    start();
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(publish(1), SP_OK);
    SP_CHECK_INT(publish(2), SP_OK);
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    struct sp_mqtt_connack answer = {.session_present = true};
    answer.props.present = SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM);
    answer.props.receive_maximum = 1;
    connect_with(&packet, &answer);
    struct sp_mqtt_publish m = message(1);
    SP_CHECK_INT(sp_mqtt_client_resend(&client, now, &m, &out), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_resend(&client, now, &m, &out), SP_ERR_AGAIN);
    SP_CHECK_INT(puback(1, 0), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_resend(&client, now, &m, &out), SP_OK);
}

static void forgetting_frees_all_slots_between_connections(void)
{
    start();
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(publish(1), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_forget(&client), SP_ERR_STATE);
    sp_mqtt_client_close(&client);
    SP_CHECK_INT(sp_mqtt_client_forget(&client), SP_OK);
    connect_plain(SP_MQTT_5);
    uint64_t cookie;
    SP_CHECK(!sp_mqtt_client_unsent(&client, &cookie));
    SP_CHECK_INT(sp_mqtt_client_window(&client), SLOTS);
    SP_CHECK_INT(publish(2), SP_OK);
    SP_CHECK_INT(sent_publish().packet_id, 2);
}

static enum sp_err receive(uint8_t qos, uint16_t id)
{
    struct sp_mqtt_publish m = message(qos);
    m.packet_id = id;
    sp_mqtt_encode_publish(&server, client.version, &m);
    return deliver();
}

static void messages_are_received_and_acknowledged_when_the_caller_likes(void)
{
    enum sp_mqtt_version versions[] = {SP_MQTT_5, SP_MQTT_311};
    for (size_t v = 0; v < 2; v++) {
        start();
        connect_plain(versions[v]);
        SP_CHECK_INT(receive(0, 0), SP_OK);
        SP_CHECK_INT(event.type, SP_MQTT_EVENT_MESSAGE);
        SP_CHECK(sp_view_equal(event.publish.topic, SP_VIEW_LIT("dt/dev1/x")));
        SP_CHECK_INT(sp_mqtt_client_ack(&client, now, 1, 0, &out), SP_ERR_STATE);
        SP_CHECK_INT(receive(1, 77), SP_OK);
        SP_CHECK_INT(event.publish.packet_id, 77);
        SP_CHECK_INT(out.used, 0);
        SP_CHECK_INT(sp_mqtt_client_ack(&client, now, 0, 0, &out), SP_ERR_ARGUMENT);
        SP_CHECK_INT(sp_mqtt_client_ack(&client, now, 77, 0, &out), SP_OK);
        SP_CHECK(sp_view_equal(sp_writer_view(&out), SP_VIEW_LIT("\x40\x02\x00\x4D")));
        SP_CHECK_INT(sp_mqtt_client_ack(&client, now, 77, 0, &out), SP_ERR_STATE);
    }
    SP_CHECK_INT(receive(2, 1), SP_ERR_PROTOCOL);
}

static void more_messages_than_our_receive_maximum_are_refused(void)
{
    start();
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    struct sp_mqtt_connack answer = {0};
    packet.props.present = SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM);
    packet.props.receive_maximum = 2;
    connect_with(&packet, &answer);
    SP_CHECK_INT(receive(1, 1), SP_OK);
    SP_CHECK_INT(receive(1, 2), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_ack(&client, now, 1, 0, &out), SP_OK);
    SP_CHECK_INT(receive(1, 1), SP_OK);
    SP_CHECK_INT(receive(1, 3), SP_ERR_PROTOCOL);
}

static enum sp_err suback(enum sp_mqtt_type type, uint16_t id, const char *codes)
{
    struct sp_mqtt_suback answer = {.packet_id = id, .codes = sp_view_str(codes)};
    sp_mqtt_encode_suback(&server, client.version, type, &answer);
    return deliver();
}

static void subscriptions_are_answered_by_events(void)
{
    static const struct sp_mqtt_filter filters[] = {
        {.filter = SP_VIEW_INIT("cmd/dev1/#"), .qos = 1}, {.filter = SP_VIEW_INIT("a"), .qos = 0}};
    start();
    connect_plain(SP_MQTT_5);
    uint16_t id = 0;
    uint16_t other = 0;
    SP_CHECK_INT(sp_mqtt_client_subscribe(&client, now, filters, 2, &out, &id), SP_OK);
    SP_CHECK_INT(out_bytes[0], 0x82);
    SP_CHECK_INT(sp_mqtt_client_unsubscribe(&client, now, filters, 1, &out, &other), SP_OK);
    SP_CHECK(id != 0 && other != 0 && id != other);
    SP_CHECK_INT(suback(SP_MQTT_SUBACK, other, "\x01"), SP_ERR_PROTOCOL);
    SP_CHECK_INT(suback(SP_MQTT_SUBACK, id, "\x01"), SP_ERR_PROTOCOL);
    SP_CHECK_INT(suback(SP_MQTT_SUBACK, 1, "\x01\x01"), SP_ERR_PROTOCOL);
    SP_CHECK_INT(suback(SP_MQTT_SUBACK, id, "\x01\x87"), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_SUBACK);
    SP_CHECK_INT(event.suback.packet_id, id);
    SP_CHECK(sp_view_equal(event.suback.codes, SP_VIEW_LIT("\x01\x87")));
    SP_CHECK_INT(suback(SP_MQTT_SUBACK, id, "\x01\x01"), SP_ERR_PROTOCOL);
    SP_CHECK_INT(suback(SP_MQTT_UNSUBACK, other, "\x11"), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_UNSUBACK);
    for (unsigned i = 0; i < SP_MQTT_CLIENT_REQUESTS; i++) {
        SP_CHECK_INT(sp_mqtt_client_subscribe(&client, now, filters, 1, &out, &id), SP_OK);
    }
    SP_CHECK_INT(sp_mqtt_client_subscribe(&client, now, filters, 1, &out, &id), SP_ERR_AGAIN);
    start();
    connect_plain(SP_MQTT_311);
    SP_CHECK_INT(sp_mqtt_client_unsubscribe(&client, now, filters, 2, &out, &id), SP_OK);
    SP_CHECK_INT(suback(SP_MQTT_UNSUBACK, id, ""), SP_OK);
}

static void bad_filters_are_our_own_mistake(void)
{
    static const struct sp_mqtt_filter bad[] = {{.filter = SP_VIEW_INIT("a/#/b")},
                                                {.filter = SP_VIEW_INIT("a"), .qos = 2},
                                                {.filter = {NULL, 0}}};
    start();
    connect_plain(SP_MQTT_5);
    uint16_t id = 0;
    for (size_t i = 0; i < 3; i++) {
        SP_CHECK_INT(sp_mqtt_client_subscribe(&client, now, &bad[i], 1, &out, &id),
                     SP_ERR_ARGUMENT);
    }
    SP_CHECK_INT(sp_mqtt_client_subscribe(&client, now, bad, 0, &out, &id), SP_ERR_ARGUMENT);
    SP_CHECK_INT(out.used, 0);
    SP_CHECK_INT(id, 0);
}

static void silence_is_broken_by_a_ping_and_a_missing_answer_shows(void)
{
    start();
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(sp_mqtt_client_deadline(&client), now + 52500);
    now += 52499;
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now, &out), SP_OK);
    SP_CHECK_INT(out.used, 0);
    now += 1;
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now, &out), SP_OK);
    SP_CHECK(sp_view_equal(sp_writer_view(&out), SP_VIEW_LIT("\xC0\x00")));
    SP_CHECK_INT(sp_mqtt_client_deadline(&client), now + 5000);
    now += 4000;
    SP_CHECK_INT(deliver_bytes("\xD0\x00", 2), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_NONE);
    SP_CHECK_INT(deliver_bytes("\xD0\x00", 2), SP_ERR_PROTOCOL);
    SP_CHECK_INT(sp_mqtt_client_deadline(&client), now - 4000 + 52500);
    now = sp_mqtt_client_deadline(&client);
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now, &out), SP_OK);
    now += 5000;
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now, &out), SP_ERR_CLOSED);
    SP_CHECK_INT(client.late, SP_MQTT_LATE_PINGRESP);
}

static void sending_alone_does_not_hide_a_dead_server(void)
{
    start();
    connect_plain(SP_MQTT_5);
    uint64_t up = now;
    struct sp_mqtt_publish m = message(0);
    while (now < up + 52500) {
        clear_out();
        SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &out), SP_OK);
        now += 500;
    }
    clear_out();
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now, &out), SP_OK);
    SP_CHECK(sp_view_equal(sp_writer_view(&out), SP_VIEW_LIT("\xC0\x00")));
}

static void late_answers_of_every_kind_show(void)
{
    start();
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_deadline(&client), now + 10000);
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now + 9999, &out), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now + 10000, &out), SP_ERR_CLOSED);
    SP_CHECK_INT(client.late, SP_MQTT_LATE_CONNACK);

    start();
    now = 0xFFFFFF00U; /* the low half of the clock wraps meanwhile */
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(publish(1), SP_OK);
    now += 10000;
    SP_CHECK_INT(publish(2), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_deadline(&client), now + 10000);
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now + 9999, &out), SP_OK);
    SP_CHECK_INT(puback(1, 0), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_deadline(&client), now + 20000);
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now + 20000, &out), SP_ERR_CLOSED);
    SP_CHECK_INT(client.late, SP_MQTT_LATE_PUBACK);

    start();
    connect_plain(SP_MQTT_5);
    struct sp_mqtt_filter filter = {.filter = SP_VIEW_INIT("a")};
    uint16_t id;
    SP_CHECK_INT(sp_mqtt_client_subscribe(&client, now, &filter, 1, &out, &id), SP_OK);
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now + 20000, &out), SP_ERR_CLOSED);
    SP_CHECK_INT(client.late, SP_MQTT_LATE_SUBACK);
}

static void no_keep_alive_means_no_ping(void)
{
    start();
    struct sp_mqtt_connect packet = connect_packet(SP_MQTT_5);
    struct sp_mqtt_connack answer = {0};
    packet.keep_alive = 0;
    connect_with(&packet, &answer);
    SP_CHECK(sp_mqtt_client_deadline(&client) == SP_MQTT_CLIENT_NEVER);
    SP_CHECK_INT(sp_mqtt_client_tick(&client, now + 1000000, &out), SP_OK);
    SP_CHECK_INT(out.used, 0);
}

static void incomplete_packets_say_how_much_is_needed(void)
{
    static const uint8_t packet[] = {0x30, 0x80, 0x01, 0x00, 0x01, 'a'}; /* 131 bytes in all */
    static const size_t needed[] = {2, 2, 3, 131, 131, 131};
    for (size_t len = 0; len <= sizeof(packet) - 1; len++) {
        start();
        connect_plain(SP_MQTT_311);
        size_t size = 0;
        struct sp_view in = sp_view(packet, len);
        SP_CHECK_INT(sp_mqtt_client_input(&client, now, in, &size, &event), SP_ERR_AGAIN);
        SP_CHECK_INT(size, needed[len]);
    }
}

static void packets_above_the_limit_are_refused_by_their_header(void)
{
    start();
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(deliver_bytes("\x30\xFE\x01", 3), SP_ERR_LIMIT); /* 3 + 254 */
    SP_CHECK_INT(deliver_bytes("\x30\xFF\xFF\xFF\x7F", 5), SP_ERR_LIMIT);
    SP_CHECK_INT(deliver_bytes("\x30\xFD\x01", 3), SP_ERR_AGAIN); /* 3 + 253 = 256 */
    SP_CHECK_INT(sp_mqtt_client_reason(SP_ERR_LIMIT), 0x95);
    SP_CHECK_INT(sp_mqtt_client_reason(SP_ERR_PROTOCOL), 0x82);
    SP_CHECK_INT(sp_mqtt_client_reason(SP_ERR_MALFORMED), 0x81);
}

static void packets_out_of_turn_are_refused(void)
{
    static const struct {
        const char *name;
        enum sp_mqtt_version version;
        bool up;
        const char *bytes;
        size_t len;
        enum sp_err err;
    } cases[] = {
        {"PUBLISH before CONNACK", SP_MQTT_5, false, "\x30\x04\x00\x01\x61\x00", 6,
         SP_ERR_PROTOCOL},
        {"PINGRESP before CONNACK", SP_MQTT_5, false, "\xD0\x00", 2, SP_ERR_PROTOCOL},
        {"DISCONNECT before CONNACK", SP_MQTT_5, false, "\xE0\x00", 2, SP_ERR_PROTOCOL},
        {"session nobody asked for", SP_MQTT_5, false, "\x20\x03\x01\x00\x00", 5, SP_ERR_PROTOCOL},
        {"the same in 3.1.1", SP_MQTT_311, false, "\x20\x02\x01\x00", 4, SP_ERR_PROTOCOL},
        {"CONNACK without properties", SP_MQTT_5, false, "\x20\x02\x00\x00", 4, SP_ERR_MALFORMED},
        {"second CONNACK", SP_MQTT_5, true, "\x20\x03\x00\x00\x00", 5, SP_ERR_PROTOCOL},
        {"CONNECT", SP_MQTT_5, true, "\x10\x00", 2, SP_ERR_PROTOCOL},
        {"PUBREC", SP_MQTT_5, true, "\x50\x02\x00\x01", 4, SP_ERR_PROTOCOL},
        {"PUBREL", SP_MQTT_5, true, "\x62\x02\x00\x01", 4, SP_ERR_PROTOCOL},
        {"PUBCOMP", SP_MQTT_5, true, "\x70\x02\x00\x01", 4, SP_ERR_PROTOCOL},
        {"SUBSCRIBE", SP_MQTT_5, true, "\x82\x00", 2, SP_ERR_PROTOCOL},
        {"PINGREQ", SP_MQTT_5, true, "\xC0\x00", 2, SP_ERR_PROTOCOL},
        {"PINGRESP unasked", SP_MQTT_5, true, "\xD0\x00", 2, SP_ERR_PROTOCOL},
        {"AUTH in 3.1.1", SP_MQTT_311, true, "\xF0\x00", 2, SP_ERR_PROTOCOL},
        {"DISCONNECT in 3.1.1", SP_MQTT_311, true, "\xE0\x00", 2, SP_ERR_PROTOCOL},
        {"DISCONNECT with garbage", SP_MQTT_5, true, "\xE0\x02\x8B\x7F", 4, SP_ERR_MALFORMED},
        {"topic alias never offered", SP_MQTT_5, true, "\x30\x07\x00\x01\x61\x03\x23\x00\x01", 9,
         SP_ERR_PROTOCOL},
        {"reserved type 0", SP_MQTT_5, true, "\x00\x00", 2, SP_ERR_MALFORMED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        start();
        struct sp_mqtt_connect packet = connect_packet(cases[i].version);
        struct sp_mqtt_connack answer = {0};
        packet.clean_start = true;
        if (cases[i].up) {
            connect_with(&packet, &answer);
        } else {
            SP_CHECK_INT(sp_mqtt_client_connect(&client, now, &packet, &out), SP_OK);
        }
        event.type = SP_MQTT_EVENT_SUBACK;
        enum sp_err err = deliver_bytes(cases[i].bytes, cases[i].len);
        SP_CHECK_CASE(err == cases[i].err, cases[i].name);
        SP_CHECK_CASE(event.type == SP_MQTT_EVENT_SUBACK, cases[i].name); /* untouched */
    }
}

static void the_servers_disconnect_is_an_event(void)
{
    start();
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(deliver_bytes("\xE0\x01\x8E", 3), SP_OK);
    SP_CHECK_INT(event.type, SP_MQTT_EVENT_DISCONNECTED);
    SP_CHECK_INT(event.disconnect.reason, 0x8E);
    SP_CHECK_INT(client.state, SP_MQTT_CLIENT_IDLE);
    SP_CHECK(sp_mqtt_client_deadline(&client) == SP_MQTT_CLIENT_NEVER);
}

static void disconnect_writes_its_reason(void)
{
    start();
    connect_plain(SP_MQTT_5);
    SP_CHECK_INT(sp_mqtt_client_disconnect(&client, 0x82, &out), SP_OK);
    SP_CHECK(sp_view_equal(sp_writer_view(&out), SP_VIEW_LIT("\xE0\x01\x82")));
    SP_CHECK_INT(sp_mqtt_client_disconnect(&client, 0, &out), SP_ERR_STATE);
    start();
    connect_plain(SP_MQTT_311);
    SP_CHECK_INT(sp_mqtt_client_disconnect(&client, 0x82, &out), SP_OK);
    SP_CHECK_INT(out.used, 0);
    connect_plain(SP_MQTT_311);
    SP_CHECK_INT(sp_mqtt_client_disconnect(&client, 0, &out), SP_OK);
    SP_CHECK(sp_view_equal(sp_writer_view(&out), SP_VIEW_LIT("\xE0\x00")));
}

static const struct sp_test tests[] = {
    SP_TEST(connect_writes_what_it_was_given_and_takes_limits_from_connack),
    SP_TEST(impossible_options_are_refused),
    SP_TEST(a_refusal_ends_the_connection),
    SP_TEST(a_challenge_is_answered_before_connack),
    SP_TEST(success_without_a_challenge_shows),
    SP_TEST(a_server_that_plays_with_the_method_is_refused),
    SP_TEST(publishes_get_ids_and_their_cookies_come_back),
    SP_TEST(a_refused_message_frees_its_slot_too),
    SP_TEST(packet_ids_wrap_without_touching_those_of_requests),
    SP_TEST(acknowledgements_nobody_waits_for_are_refused),
    SP_TEST(the_servers_receive_maximum_bounds_the_window),
    SP_TEST(messages_the_server_will_not_take_are_told_apart),
    SP_TEST(a_full_writer_changes_nothing),
    SP_TEST(unacknowledged_messages_are_sent_again_first_and_in_order),
    SP_TEST(what_was_acknowledged_out_of_order_is_not_sent_again),
    SP_TEST(resending_keeps_to_a_smaller_receive_maximum),
    SP_TEST(forgetting_frees_all_slots_between_connections),
    SP_TEST(messages_are_received_and_acknowledged_when_the_caller_likes),
    SP_TEST(more_messages_than_our_receive_maximum_are_refused),
    SP_TEST(subscriptions_are_answered_by_events),
    SP_TEST(bad_filters_are_our_own_mistake),
    SP_TEST(silence_is_broken_by_a_ping_and_a_missing_answer_shows),
    SP_TEST(sending_alone_does_not_hide_a_dead_server),
    SP_TEST(late_answers_of_every_kind_show),
    SP_TEST(no_keep_alive_means_no_ping),
    SP_TEST(incomplete_packets_say_how_much_is_needed),
    SP_TEST(packets_above_the_limit_are_refused_by_their_header),
    SP_TEST(packets_out_of_turn_are_refused),
    SP_TEST(the_servers_disconnect_is_an_event),
    SP_TEST(disconnect_writes_its_reason),
};
SP_TEST_MAIN(tests)
