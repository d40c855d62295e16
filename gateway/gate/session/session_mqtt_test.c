/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What MQTT promises a client with all rights: QoS 2, subscription options and identifiers, shared subscriptions. */
#include "gateway/gate/session/world_test.h"

#include <stdio.h>

/* A tool that speaks MQTT 5 and keeps its session; the cloud is off, so that everything stays here. */
static struct peer *tool_5_with(const char *identity,
                                void (*change)(struct sp_mqtt_connect *packet))
{
    config.cloud.enabled = false;
    struct peer *peer = dial(identity, client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    packet.clean_start = false;
    packet.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY);
    packet.props.session_expiry = 100;
    if (change != NULL) {
        change(&packet);
    }
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0);
    return peer;
}

static struct peer *tool_5(const char *identity)
{
    return tool_5_with(identity, NULL);
}

static void no_session(struct sp_mqtt_connect *packet)
{
    packet->clean_start = true;
    packet->props.present = 0;
}

static void say_ack(struct peer *peer, enum sp_mqtt_type type, uint16_t id, uint8_t reason)
{
    uint8_t buf[16];
    struct sp_writer out;
    const struct sp_mqtt_ack packet = {.packet_id = id, .reason = reason};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_ack(&out, peer->version, type, &packet);
    say(peer, &out);
}

/* @return The reason of that answer for `id`, 0xFFFF when something else came. */
static unsigned hear_ack(struct peer *peer, enum sp_mqtt_type type, uint16_t id)
{
    struct sp_view body;
    struct sp_mqtt_ack ack;
    struct sp_mqtt_header header = hear(peer, &body);
    if (header.type != type ||
        sp_mqtt_decode_ack(peer->version, header.type, body, &ack) != SP_OK ||
        ack.packet_id != id) {
        return 0xFFFF;
    }
    return ack.reason;
}

static void say_qos2(struct peer *peer, const char *payload, uint16_t id)
{
    say_publish(peer, "a/b", payload, 2, id);
    SP_CHECK_INT(hear_ack(peer, SP_MQTT_PUBREC, id), 0);
}

static void a_qos_2_message_is_handed_on_once_until_it_is_released(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *reader = tool_5("reader");
    struct peer *peer = tool_5("writer");
    SP_CHECK_INT(subscribe(reader, "a/#", 1), 1);
    say_qos2(peer, "one", 7);
    say_qos2(peer, "one", 7);
    hang_up(peer);
    peer = tool_5("writer");
    say_qos2(peer, "one", 7);
    SP_CHECK(hear_publish(reader, &got) && is(got.payload, "one"));
    SP_CHECK_INT(reader->len, 0);
    say_ack(peer, SP_MQTT_PUBREL, 7, 0);
    SP_CHECK_INT(hear_ack(peer, SP_MQTT_PUBCOMP, 7), 0);
    say_ack(peer, SP_MQTT_PUBREL, 7, 0);
    SP_CHECK_INT(hear_ack(peer, SP_MQTT_PUBCOMP, 7), 0x92);
    say_qos2(peer, "two", 7);
    SP_CHECK(hear_publish(reader, &got) && is(got.payload, "two"));
    hang_up(peer);
    hang_up(reader);
    end();
}

static void a_311_client_cannot_leave_messages_unreleased_without_end(void)
{
    begin();
    struct peer *peer = tool("t1", true);
    config.cloud.enabled = false;
    for (uint16_t id = 1; id <= 1024; id++) {
        say_qos2(peer, "x", id);
    }
    say_publish(peer, "a/b", "one more", 2, 1025);
    SP_CHECK(peer->closed);
    hang_up(peer);
    end();
}

static void qos_2_to_a_client_takes_all_four_steps(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *reader = tool_5("reader");
    struct peer *peer = tool_5("writer");
    SP_CHECK_INT(subscribe(reader, "a/b", 2), 2);
    say_qos2(peer, "one", 1);
    SP_CHECK(hear_publish(reader, &got) && got.qos == 2 && !got.dup);
    uint16_t id = got.packet_id;
    /* The wrong acknowledgements change nothing. */
    say_ack(reader, SP_MQTT_PUBACK, id, 0);
    say_ack(reader, SP_MQTT_PUBCOMP, id, 0);
    SP_CHECK_INT(sp_session_queue(sp_client_session(&reader->client))->in_flight, 1);
    say_ack(reader, SP_MQTT_PUBREC, id, 0);
    SP_CHECK_INT(hear_ack(reader, SP_MQTT_PUBREL, id), 0);
    SP_CHECK_INT(sp_session_queue(sp_client_session(&reader->client))->in_flight, 1);
    say_ack(reader, SP_MQTT_PUBCOMP, id, 0);
    SP_CHECK_INT(sp_session_queue(sp_client_session(&reader->client))->in_flight, 0);
    SP_CHECK(sp_session_queue(sp_client_session(&reader->client))->first == NULL);
    say_ack(reader, SP_MQTT_PUBREC, 99, 0);
    SP_CHECK_INT(hear_ack(reader, SP_MQTT_PUBREL, 99), 0x92);
    hang_up(peer);
    hang_up(reader);
    end();
}

static void a_qos_2_exchange_goes_on_where_the_connection_broke(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *reader = tool_5("reader");
    struct peer *peer = tool_5("writer");
    SP_CHECK_INT(subscribe(reader, "a/b", 2), 2);
    say_qos2(peer, "one", 1);
    say_qos2(peer, "two", 2);
    SP_CHECK(hear_publish(reader, &got));
    uint16_t one = got.packet_id;
    SP_CHECK(hear_publish(reader, &got));
    uint16_t two = got.packet_id;
    say_ack(reader, SP_MQTT_PUBREC, one, 0);
    SP_CHECK_INT(hear_ack(reader, SP_MQTT_PUBREL, one), 0);
    hang_up(reader);
    reader = tool_5("reader");
    SP_CHECK_INT(hear_ack(reader, SP_MQTT_PUBREL, one), 0);
    SP_CHECK(hear_publish(reader, &got) && got.dup && got.packet_id == two &&
             is(got.payload, "two"));
    say_ack(reader, SP_MQTT_PUBCOMP, one, 0);
    say_ack(reader, SP_MQTT_PUBREC, two, 0x83); /* refused: the end of it */
    SP_CHECK(reader->len == 0 &&
             sp_session_queue(sp_client_session(&reader->client))->first == NULL);
    hang_up(peer);
    hang_up(reader);
    end();
}

static void say_subscribe(struct peer *peer, const struct sp_mqtt_filter *filter, uint32_t id)
{
    uint8_t buf[512];
    struct sp_writer out;
    struct sp_view body;
    struct sp_mqtt_subscribe packet = {.packet_id = 78};
    packet.props.present = id == 0 ? 0 : (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID);
    packet.props.subscription_id = id;
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_subscribe(&out, peer->version, SP_MQTT_SUBSCRIBE, &packet, filter, 1);
    say(peer, &out);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_SUBACK);
}

/* The identifiers of the next PUBLISH, in order and as text: `3 5 `. */
static const char *hear_ids(struct peer *peer)
{
    static char text[128];
    struct sp_view body;
    struct sp_mqtt_header header = hear(peer, &body);
    text[0] = '\0';
    SP_CHECK_INT(header.type, SP_MQTT_PUBLISH);
    size_t at = 2U + (size_t)body.ptr[1] + ((header.flags & 6U) != 0 ? 2U : 0U);
    size_t end = at + 1U + body.ptr[at];
    for (at++; at < end && body.ptr[at] == 0x0B; at += 2) {
        char one[8];
        snprintf(one, sizeof(one), "%u ", body.ptr[at + 1]);
        strcat(text, one);
    }
    return text;
}

static void a_message_carries_the_identifiers_of_all_that_match(void)
{
    begin();
    const struct sp_mqtt_filter filters[] = {
        {.filter = SP_VIEW_LIT("a/b"), .qos = 1},
        {.filter = SP_VIEW_LIT("a/+"), .qos = 2},
        {.filter = SP_VIEW_LIT("#")},
    };
    struct peer *peer = tool_5("t1");
    say_subscribe(peer, &filters[0], 3);
    say_subscribe(peer, &filters[1], 5);
    say_subscribe(peer, &filters[2], 0);
    say_publish(peer, "a/b", "one", 1, 1);
    const char *ids = hear_ids(peer);
    SP_CHECK_INT(puback(peer, 1), 0);
    SP_CHECK_CASE(strcmp(ids, "3 5 ") == 0 || strcmp(ids, "5 3 ") == 0, ids);
    say_publish(peer, "x", "two", 0, 0);
    SP_CHECK(strcmp(hear_ids(peer), "") == 0);
    say_subscribe(peer, &filters[1], 9); /* instead of 5 */
    say_publish(peer, "a/c", "three", 0, 0);
    SP_CHECK(strcmp(hear_ids(peer), "9 ") == 0);
    hang_up(peer);
    end();
}

static void retain_is_passed_on_to_those_who_asked_for_it(void)
{
    begin();
    uint8_t buf[64];
    struct sp_writer out;
    struct sp_mqtt_publish got;
    const struct sp_mqtt_filter as_published = {.filter = SP_VIEW_LIT("a/b"),
                                                .retain_as_published = true};
    const struct sp_mqtt_filter not_mine = {.filter = SP_VIEW_LIT("a/#"), .no_local = true};
    const struct sp_mqtt_publish packet = {
        .retain = true, .topic = SP_VIEW_LIT("a/b"), .payload = SP_VIEW_LIT("x")};
    struct peer *reader = tool_5("reader");
    struct peer *peer = tool_5("writer");
    say_subscribe(reader, &as_published, 0);
    say_subscribe(peer, &not_mine, 0);
    SP_CHECK_INT(subscribe(peer, "a/+", 1), 1);
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_publish(&out, SP_MQTT_5, &packet);
    say(peer, &out);
    SP_CHECK(hear_publish(reader, &got) && got.retain);
    SP_CHECK(hear_publish(peer, &got) && !got.retain); /* of `a/+`, once */
    SP_CHECK_INT(peer->len, 0);
    say_publish(peer, "a/b", "y", 0, 0);
    SP_CHECK(hear_publish(reader, &got) && !got.retain);
    hang_up(peer);
    hang_up(reader);
    end();
}

static void a_group_gets_each_message_once_and_what_a_member_leaves_goes_to_another(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *a = tool_5_with("a", no_session);
    struct peer *b = tool_5("b");
    struct peer *peer = tool_5("writer");
    SP_CHECK_INT(subscribe(a, "$share/g/a/+", 2), 2);
    SP_CHECK_INT(subscribe(b, "$share/g/a/+", 1), 1);
    SP_CHECK_INT(subscribe(b, "$share//a", 1), 0x8F);
    SP_CHECK_INT(subscribe(b, "$share/g/$sp/time", 1), 0x87);
    for (uint16_t i = 1; i <= 4; i++) {
        say_publish(peer, "a/b", "work", 1, i);
        SP_CHECK_INT(puback(peer, i), 0);
    }
    SP_CHECK_INT(sp_session_queue(sp_client_session(&a->client))->in_flight, 2);
    SP_CHECK_INT(sp_session_queue(sp_client_session(&b->client))->in_flight, 2);
    SP_CHECK(hear_publish(a, &got));
    say_puback(a, got.packet_id);
    hang_up(a); /* with one unacknowledged, and no session that stays */
    for (int i = 0; i < 3; i++) {
        SP_CHECK(hear_publish(b, &got) && is(got.payload, "work"));
        say_puback(b, got.packet_id);
    }
    SP_CHECK_INT(b->len, 0);
    /* One who is away gets nothing while there are others. */
    a = tool_5("a");
    SP_CHECK_INT(subscribe(a, "$share/g/a/+", 1), 1);
    hang_up(b);
    for (uint16_t i = 5; i <= 6; i++) {
        say_publish(peer, "a/b", "more", 1, i);
        SP_CHECK_INT(puback(peer, i), 0);
        SP_CHECK(hear_publish(a, &got) && is(got.payload, "more"));
        say_puback(a, got.packet_id);
    }
    say_filters(a, SP_MQTT_UNSUBSCRIBE, "$share/g/a/+", 0);
    struct sp_view body;
    SP_CHECK_INT(hear(a, &body).type, SP_MQTT_UNSUBACK);
    say_publish(peer, "a/b", "last", 1, 7);
    SP_CHECK_INT(puback(peer, 7), 0);
    SP_CHECK_INT(a->len, 0);
    b = tool_5("b");
    SP_CHECK(hear_publish(b, &got) && is(got.payload, "last"));
    hang_up(a);
    hang_up(b);
    hang_up(peer);
    end();
}

static void say_retained(struct peer *peer, const char *topic, const char *payload, uint8_t qos,
                         uint16_t id)
{
    uint8_t buf[4096];
    struct sp_writer out;
    const struct sp_mqtt_publish packet = {.retain = true,
                                           .qos = qos,
                                           .packet_id = id,
                                           .topic = sp_view_str(topic),
                                           .payload = sp_view_str(payload)};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_publish(&out, peer->version, &packet);
    say(peer, &out);
}

static void retained_messages_are_sent_as_retain_handling_says(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct sp_mqtt_filter filter = {.filter = SP_VIEW_LIT("a/+"), .qos = 2};
    struct peer *peer = tool_5("writer");
    struct peer *reader = tool_5("reader");
    say_retained(peer, "a/b", "one", 1, 1);
    SP_CHECK_INT(puback(peer, 1), 0);
    say_subscribe(reader, &filter, 7);
    SP_CHECK(hear_publish(reader, &got) && got.retain && got.qos == 1 && is(got.payload, "one"));
    say_puback(reader, got.packet_id);
    say_subscribe(reader, &filter, 7); /* 0: again */
    SP_CHECK(strcmp(hear_ids(reader), "7 ") == 0);
    filter.retain_handling = 1;
    say_subscribe(reader, &filter, 7);
    SP_CHECK_INT(reader->len, 0);
    filter.filter = SP_VIEW_LIT("#");
    say_subscribe(reader, &filter, 0);
    SP_CHECK(hear_publish(reader, &got) && got.retain && is(got.payload, "one"));
    filter.filter = SP_VIEW_LIT("a/b");
    filter.retain_handling = 2;
    say_subscribe(reader, &filter, 0);
    filter.filter = SP_VIEW_LIT("$share/g/a/b");
    filter.retain_handling = 0;
    say_subscribe(reader, &filter, 0);
    SP_CHECK_INT(reader->len, 0);
    say_retained(peer, "a/b", "", 0, 0);
    SP_CHECK_INT(sp_retained_count(w->home.retained), 0);
    hang_up(peer);
    hang_up(reader);
    end();
}

static void more_retained_messages_than_a_queue_holds_all_arrive(void)
{
    begin();
    struct sp_mqtt_publish got;
    char topic[32];
    char payload[301];
    memset(payload, 'x', 300);
    payload[300] = '\0';
    struct peer *peer = tool_5("writer");
    struct peer *reader = tool_5("reader");
    for (int i = 0; i < 40; i++) { /* 12,000 bytes; the queue is 2,000, and 3 may be in flight */
        snprintf(topic, sizeof(topic), "a/%02d", i);
        say_retained(peer, topic, payload, 1, 1);
        SP_CHECK_INT(puback(peer, 1), 0);
    }
    say_retained(peer, "a/one too many", payload, 1, 1);
    SP_CHECK_INT(puback(peer, 1), 0x97);
    SP_CHECK_INT(subscribe(reader, "a/+", 1), 1);
    for (int i = 0; i < 40; i++) {
        snprintf(topic, sizeof(topic), "a/%02d", i);
        SP_CHECK_CASE(hear_publish(reader, &got) && got.retain && is(got.topic, topic), topic);
        say_puback(reader, got.packet_id);
    }
    SP_CHECK(reader->len == 0 &&
             sp_session_more(sp_client_session(&reader->client))->replays == NULL);
    SP_CHECK_INT(subscribe(reader, "+/00", 0), 0);
    SP_CHECK(hear_publish(reader, &got) && got.qos == 0);
    hang_up(peer);
    hang_up(reader);
    end();
}

static void leave_a_retained_will(struct sp_mqtt_connect *packet)
{
    packet->props.present = 0;
    packet->will = (struct sp_mqtt_will){.present = true,
                                         .retain = true,
                                         .qos = 2,
                                         .topic = SP_VIEW_LIT("gone/a"),
                                         .payload = SP_VIEW_LIT("bye")};
}

static void a_will_may_be_retained_and_go_with_qos_2(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = tool_5_with("a", leave_a_retained_will);
    sp_client_lost(&peer->client);
    hang_up(peer);
    SP_CHECK_INT(sp_retained_count(w->home.retained), 1);
    peer = tool_5("b");
    SP_CHECK_INT(subscribe(peer, "gone/#", 2), 2);
    SP_CHECK(hear_publish(peer, &got) && got.retain && got.qos == 2 && is(got.payload, "bye"));
    hang_up(peer);
    end();
}

static void run_parcels(uint16_t loop)
{
    struct sp_parcel *parcel = w->outboxes[loop].first;
    w->outboxes[loop] = (struct sp_outbox){NULL, NULL};
    while (parcel != NULL) {
        struct sp_parcel *next = parcel->next;
        parcel->run(&w->home, parcel);
        parcel = next;
    }
    turn();
}

static void a_member_that_left_before_the_parcel_came_is_replaced(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *a = tool_5_with("a", no_session);
    const struct sp_mqtt_filter share = {.filter = SP_VIEW_LIT("$share/g/a/b"), .qos = 1};
    say_subscribe(a, &share, 21);
    /* The same home, seen from loop 1. */
    const struct sp_mqtt_publish publish = {
        .qos = 1, .topic = SP_VIEW_LIT("a/b"), .payload = SP_VIEW_LIT("x")};
    w->home.index = 1;
    w->home.loops = 2;
    sp_route_local(&w->home, &publish, 0);
    w->home.index = 0;
    w->home.loops = 1;
    struct peer *b = tool_5("b");
    say_subscribe(b, &share, 22);
    hang_up(a);
    SP_CHECK_INT(b->len, 0);
    run_parcels(0);
    SP_CHECK(strcmp(hear_ids(b), "22 ") == 0);
    SP_CHECK(!hear_publish(b, &got));
    hang_up(b);
    end();
}

static void say_aliased(struct peer *peer, const char *topic, uint16_t alias, const char *payload)
{
    uint8_t buf[256];
    struct sp_writer out;
    struct sp_mqtt_publish packet = {.topic = sp_view_str(topic), .payload = sp_view_str(payload)};
    packet.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS);
    packet.props.topic_alias = alias;
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_publish(&out, SP_MQTT_5, &packet);
    say(peer, &out);
}

static void an_alias_stands_for_the_topic_that_it_was_set_with_last(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *reader = tool_5("reader");
    struct peer *peer = tool_5("writer");
    SP_CHECK_INT(subscribe(reader, "#", 0), 0);
    say_aliased(peer, "a/b", 1, "one");
    SP_CHECK(hear_publish(reader, &got) && is(got.topic, "a/b") && is(got.payload, "one"));
    SP_CHECK((got.props.present & SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS)) == 0);
    say_aliased(peer, "", 1, "two");
    SP_CHECK(hear_publish(reader, &got) && is(got.topic, "a/b") && is(got.payload, "two"));
    say_aliased(peer, "c", 1, "three");
    say_aliased(peer, "", 1, "four");
    SP_CHECK(hear_publish(reader, &got) && hear_publish(reader, &got) && is(got.topic, "c"));
    say_aliased(peer, "", 2, "never set");
    SP_CHECK_INT(disconnect_code(peer), 0x82);
    hang_up(peer);
    peer = tool_5("writer");
    say_aliased(peer, "", 1, "of the last connection");
    SP_CHECK_INT(disconnect_code(peer), 0x82);
    hang_up(peer);
    peer = tool_5("writer");
    say_aliased(peer, "x", 3, "above the maximum");
    SP_CHECK_INT(disconnect_code(peer), 0x94);
    hang_up(peer);
    hang_up(reader);
    end();
}

static void take_one_alias(struct sp_mqtt_connect *packet)
{
    packet->props.present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS_MAXIMUM);
    packet->props.topic_alias_maximum = 1;
}

static void a_client_that_takes_aliases_gets_each_topic_once(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *reader = tool_5_with("reader", take_one_alias);
    struct peer *peer = tool_5("writer");
    SP_CHECK_INT(subscribe(reader, "#", 1), 1);
    say_publish(peer, "a/b", "one", 0, 0);
    SP_CHECK(hear_publish(reader, &got) && is(got.topic, "a/b") && got.props.topic_alias == 1);
    say_publish(peer, "a/b", "two", 0, 0);
    SP_CHECK(hear_publish(reader, &got) && got.topic.len == 0 && got.props.topic_alias == 1);
    say_publish(peer, "c", "three", 0, 0);
    SP_CHECK(hear_publish(reader, &got) && is(got.topic, "c") && got.props.present == 0);
    say_publish(peer, "a/b", "four", 1, 1);
    SP_CHECK(hear_publish(reader, &got) && got.topic.len == 0);
    hang_up(reader); /* the next connection starts without any */
    reader = tool_5_with("reader", take_one_alias);
    SP_CHECK(hear_publish(reader, &got) && got.dup && is(got.topic, "a/b"));
    hang_up(peer);
    hang_up(reader);
    end();
}

static void ask_for_response_information(struct sp_mqtt_connect *packet)
{
    packet->props.present |= (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_REQUEST_RESPONSE_INFO) |
                                        SP_MQTT_HAS(SP_MQTT_P_REQUEST_PROBLEM_INFO));
    packet->props.request_response_info = 1;
    packet->props.request_problem_info = 0;
}

static void a_client_is_told_what_there_is_and_what_it_asked_for(void)
{
    begin();
    struct sp_mqtt_connack connack;
    struct sp_view body;
    struct peer *peer = dial("t1", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    ask_for_response_information(&packet);
    say_connect(peer, &packet);
    SP_CHECK_INT(hear_connack(peer, &connack), 0);
    SP_CHECK(is(connack.props.response_info, "cmd/t1/"));
    SP_CHECK(connack.props.retain_available == 1 && connack.props.shared_available == 1);
    SP_CHECK(connack.props.subscription_id_available == 1);
    SP_CHECK(connack.props.topic_alias_maximum == 2);
    say_publish(peer, "$SYS/x", "no", 1, 1);
    SP_CHECK(hear(peer, &body).body_len == 3); /* id and code, no Reason String */
    hang_up(peer);
    peer = tool_5("t1");
    say_publish(peer, "$SYS/x", "no", 1, 1);
    SP_CHECK(hear(peer, &body).body_len > 10);
    hang_up(peer);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(an_alias_stands_for_the_topic_that_it_was_set_with_last),
    SP_TEST(a_client_that_takes_aliases_gets_each_topic_once),
    SP_TEST(a_client_is_told_what_there_is_and_what_it_asked_for),
    SP_TEST(a_qos_2_message_is_handed_on_once_until_it_is_released),
    SP_TEST(a_311_client_cannot_leave_messages_unreleased_without_end),
    SP_TEST(qos_2_to_a_client_takes_all_four_steps),
    SP_TEST(a_qos_2_exchange_goes_on_where_the_connection_broke),
    SP_TEST(a_message_carries_the_identifiers_of_all_that_match),
    SP_TEST(retain_is_passed_on_to_those_who_asked_for_it),
    SP_TEST(retained_messages_are_sent_as_retain_handling_says),
    SP_TEST(more_retained_messages_than_a_queue_holds_all_arrive),
    SP_TEST(a_will_may_be_retained_and_go_with_qos_2),
    SP_TEST(a_group_gets_each_message_once_and_what_a_member_leaves_goes_to_another),
    SP_TEST(a_member_that_left_before_the_parcel_came_is_replaced),
};
SP_TEST_MAIN(tests)
