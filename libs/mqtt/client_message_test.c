/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Messages and subscriptions in both directions, within a connection and across connections. */
#include "libs/mqtt/client_script_test.h"

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
    struct sp_writer full;
    uint8_t no_room[8];
    sp_writer_init(&full, no_room,
                   sizeof(no_room)); /* trying again with more room would not help */
    SP_CHECK_INT(sp_mqtt_client_publish(&client, now, &m, 0, &full), SP_ERR_LIMIT);
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

static const struct sp_test tests[] = {
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
};
SP_TEST_MAIN(tests)
