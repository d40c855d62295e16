/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Connections: how they begin, stay alive and end, and what a server may not send. Messages and
 * subscriptions are in client_message_test.c. */
#include "libs/mqtt/client_script_test.h"

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
