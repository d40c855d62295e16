/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Kept sessions with a journal whose answers the test gives, and another gate that begins with what the journal has. */
#include "gateway/gate/session/keep_internal.h"
#include "gateway/gate/session/world_test.h"

/* All that the home ever told the journal, back to back. */
static uint8_t told[65536];
static size_t told_len;

static enum sp_err listen(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                          size_t count)
{
    if (type == SP_MSG_KEPT && told_len + parts[0].len <= sizeof(told)) {
        sp_copy(told + told_len, parts[0].ptr, parts[0].len);
        told_len += parts[0].len;
    }
    return post(arg, type, tag, parts, count);
}

static void begin_kept(void)
{
    begin();
    told_len = 0;
    w->store_waits = true;
    w->home.tickets.store = (struct sp_edge){listen, &w->store};
}

/* How many records of that kind were told. */
static size_t count_told(enum sp_kept_kind kind)
{
    struct sp_view rest = sp_view(told, told_len);
    struct sp_kept record;
    size_t count = 0;
    while (sp_kept_next(&rest, &record) == SP_OK) {
        count += record.head.kind == kind;
    }
    return count;
}

static void answered(enum sp_err err)
{
    keep_answer(err);
    turn();
}

/* A 3.1.1 client with a kept session, subscribed to everything under `news/`, and away. */
static void leave_session(const char *name)
{
    struct sp_view body;
    struct peer *peer = tool(name, false);
    say_filters(peer, SP_MQTT_SUBSCRIBE, "news/#", 1);
    SP_CHECK_INT(hear(peer, &body).type, 0);
    answered(SP_OK);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_SUBACK);
    hang_up(peer);
    answered(SP_OK);
}

static void a_suback_waits_until_the_subscription_is_durable_or_closes(void)
{
    begin_kept();
    struct sp_view body;
    leave_session("t1");
    struct peer *peer = tool("t2", false);
    say_filters(peer, SP_MQTT_SUBSCRIBE, "news/#", 1);
    answered(SP_ERR_IO);
    SP_CHECK(hear(peer, &body).type != SP_MQTT_SUBACK && peer->closed);
    hang_up(peer);
    end();
}

static void a_publisher_waits_until_the_journal_has_it_for_one_that_is_away(void)
{
    begin_kept();
    leave_session("t1");
    struct peer *peer = tool("t2", true);
    say_publish(peer, "news/a", "one", 1, 1);
    SP_CHECK_INT(puback(peer, 1), 0xFFFF);
    say_publish(peer, "other", "to nobody", 1, 2);
    SP_CHECK_INT(puback(peer, 2), 0xFFFF); /* in its turn */
    answered(SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    SP_CHECK_INT(puback(peer, 2), 0);
    SP_CHECK_INT(count_told(SP_KEPT_QUEUE), 1);
    hang_up(peer);
    end();
}

static void what_the_journal_refuses_is_not_acknowledged_and_not_kept(void)
{
    begin_kept();
    struct sp_mqtt_publish got;
    leave_session("t1");
    struct peer *peer = tool("t2", true);
    say_publish(peer, "news/a", "refused", 1, 1);
    answered(SP_ERR_LIMIT);
    SP_CHECK_INT(puback(peer, 1), 0xFFFF); /* 3.1.1 cannot be told; it is read no more */
    SP_CHECK(peer->client.stalled);
    hang_up(peer);
    peer = tool("t1", false);
    SP_CHECK(!hear_publish(peer, &got));
    hang_up(peer);
    end();
}

static void one_that_acknowledges_promptly_costs_no_record(void)
{
    begin_kept();
    struct sp_mqtt_publish got;
    leave_session("t1");
    struct peer *reader = tool("t1", false);
    struct peer *peer = tool("t2", true);
    answered(SP_OK);
    say_publish(peer, "news/a", "one", 1, 1);
    SP_CHECK_INT(puback(peer, 1), 0xFFFF);
    SP_CHECK(hear_publish(reader, &got) && !got.dup);
    say_puback(reader, got.packet_id);
    SP_CHECK_INT(puback(peer, 1), 0);
    pass(1000);
    SP_CHECK_INT(count_told(SP_KEPT_QUEUE), 0);
    /* One that is slow does. */
    say_publish(peer, "news/a", "two", 1, 2);
    SP_CHECK(hear_publish(reader, &got));
    pass(SP_KEEP_GRACE_MS + 100);
    SP_CHECK_INT(count_told(SP_KEPT_QUEUE), 1);
    SP_CHECK_INT(puback(peer, 2), 0xFFFF);
    answered(SP_OK);
    SP_CHECK_INT(puback(peer, 2), 0);
    hang_up(peer);
    hang_up(reader);
    end();
}

static void a_clean_start_is_welcomed_once_the_end_is_durable(void)
{
    begin_kept();
    leave_session("t1");
    struct peer *peer = dial("t1", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0xFFFF);
    SP_CHECK_INT(count_told(SP_KEPT_END), 1);
    answered(SP_OK);
    SP_CHECK_INT(connack_code(peer), 0);
    hang_up(peer);
    end();
}

static void an_end_that_failed_is_told_again_until_it_is_durable(void)
{
    begin_kept();
    leave_session("t1");
    struct peer *peer = dial("t1", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    say_connect(peer, &packet);
    answered(SP_ERR_IO);
    SP_CHECK_INT(connack_code(peer), 3); /* not available now */
    hang_up(peer);
    pass(1100);
    SP_CHECK_INT(count_told(SP_KEPT_END), 2);
    answered(SP_OK);
    pass(5000);
    SP_CHECK_INT(count_told(SP_KEPT_END), 2);
    end();
}

static void a_new_store_is_told_all_there_is(void)
{
    begin_kept();
    leave_session("t1");
    sp_tickets_lost(&w->home);
    sp_keep_lost(&w->home);
    told_len = 0;
    const struct sp_edge store = {listen, &w->store};
    sp_tickets_connected(&w->home, &store);
    sp_keep_connected(&w->home);
    answered(SP_OK);
    SP_CHECK_INT(count_told(SP_KEPT_SESSION), 1);
    SP_CHECK_INT(count_told(SP_KEPT_SUBSCRIBE), 1);
    end();
}

/* ---- another gate ---- */

static atomic_uint homes;

static void write(struct sp_writer *out, const char *device, struct sp_msg_kept head,
                  struct sp_view part)
{
    const struct sp_kept record = {.head = head, .device = sp_view_str(device), .part = part};
    sp_kept_write(out, &record);
}

static void write_message(struct sp_writer *out, const char *device, uint64_t number,
                          const char *payload)
{
    uint8_t buf[256];
    struct sp_writer packet;
    const struct sp_mqtt_publish publish = {
        .qos = 1, .packet_id = 1, .topic = SP_VIEW_LIT("news/a"), .payload = sp_view_str(payload)};
    sp_writer_init(&packet, buf, sizeof(buf));
    sp_mqtt_encode_publish(&packet, SP_MQTT_5, &publish);
    write(out, device, (struct sp_msg_kept){.kind = SP_KEPT_QUEUE, .number = number},
          sp_writer_view(&packet));
}

static void begin_loading(void)
{
    begin_kept();
    atomic_init(&homes, 1);
    w->home.keep.homes = &homes;
    w->home.keep.loading = true;
    sp_keep_connected(&w->home);
    SP_CHECK(last(&w->store, SP_MSG_KEPT_LOAD) != NULL);
}

static enum sp_err load(uint64_t tag, const struct sp_writer *given)
{
    struct sp_view body = given == NULL ? (struct sp_view){NULL, 0} : sp_writer_view(given);
    enum sp_err err = sp_keep_records(&w->home, tag, body);
    turn();
    return err;
}

static void sessions_come_back_with_what_waits_and_who_comes_early_waits(void)
{
    begin_loading();
    uint8_t buf[4096];
    struct sp_writer out;
    struct sp_mqtt_connack connack;
    struct sp_mqtt_publish got;
    sp_writer_init(&out, buf, sizeof(buf));
    write(&out, "t1",
          (struct sp_msg_kept){.kind = SP_KEPT_SESSION,
                               .number = 11,
                               .expiry_s = 60,
                               .time_ms = w->timers.wall_ms - 1000},
          SP_VIEW_LIT("client"));
    write(&out, "t1", (struct sp_msg_kept){.kind = SP_KEPT_SUBSCRIBE, .qos = 1},
          SP_VIEW_LIT("news/#"));
    write_message(&out, "t1", 11, "sent before");
    write_message(&out, "t1", 12, "perhaps sent");
    struct peer *peer = dial("t1", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    packet.clean_start = false;
    say_connect(peer, &packet);
    sp_route_command(&w->home, SP_VIEW_LIT("down/x"), SP_VIEW_LIT("early"), 1, 77);
    SP_CHECK(last(&w->store, SP_MSG_COMMAND_TAKEN) == NULL);
    SP_CHECK_INT(load(SP_KEPT_FIRST, NULL), SP_OK);
    SP_CHECK_INT(load(0, &out), SP_OK);
    SP_CHECK_INT(hear_connack(peer, &connack), 0xFFFF);
    SP_CHECK_INT(load(SP_KEPT_LAST, NULL), SP_OK);
    SP_CHECK_INT(hear_connack(peer, &connack), 0);
    SP_CHECK(connack.session_present);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "sent before") && got.dup);
    SP_CHECK_INT(got.packet_id, 11);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "perhaps sent") && got.dup);
    SP_CHECK(last(&w->store, SP_MSG_COMMAND_TAKEN) != NULL);
    say_puback(peer, 11);
    sp_keep_flush(&w->home);
    SP_CHECK_INT(count_told(SP_KEPT_SETTLED), 1);
    hang_up(peer);
    end();
}

static void what_has_expired_or_has_no_role_any_more_does_not_come_back(void)
{
    begin_loading();
    uint8_t buf[4096];
    struct sp_writer out;
    sp_writer_init(&out, buf, sizeof(buf));
    const struct sp_msg_kept past = {
        .kind = SP_KEPT_SESSION, .expiry_s = 60, .time_ms = w->timers.wall_ms - 61000};
    const struct sp_msg_kept now = {
        .kind = SP_KEPT_SESSION, .expiry_s = 60, .time_ms = w->timers.wall_ms};
    write(&out, "t1", past, SP_VIEW_LIT("client"));
    write_message(&out, "t1", 1, "too late");
    write(&out, "t2", now, SP_VIEW_LIT("no such role"));
    SP_CHECK_INT(load(SP_KEPT_LAST, &out), SP_OK);
    answered(SP_OK);
    SP_CHECK_INT(count_told(SP_KEPT_END), 2);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t1")) == NULL);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t2")) == NULL);
    end();
}

static void a_load_that_begins_anew_forgets_what_came_before_and_nonsense_is_refused(void)
{
    begin_loading();
    uint8_t buf[4096];
    struct sp_writer out;
    const struct sp_msg_kept now = {
        .kind = SP_KEPT_SESSION, .expiry_s = 60, .time_ms = w->timers.wall_ms};
    sp_writer_init(&out, buf, sizeof(buf));
    write(&out, "t1", now, SP_VIEW_LIT("client"));
    SP_CHECK_INT(load(0, &out), SP_OK);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t1")) != NULL);
    SP_CHECK_INT(load(0, &out), SP_ERR_MALFORMED); /* twice */
    SP_CHECK_INT(load(SP_KEPT_FIRST, NULL), SP_OK);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t1")) == NULL);
    write(&out, "t1", (struct sp_msg_kept){.kind = SP_KEPT_QUEUE, .number = 5},
          SP_VIEW_LIT("no packet"));
    SP_CHECK(load(0, &out) != SP_OK);
    SP_CHECK_INT(load(SP_KEPT_LAST, NULL), SP_OK);
    SP_CHECK_INT(load(SP_KEPT_LAST, NULL), SP_ERR_PROTOCOL);
    end();
}

static void a_row_that_has_changed_meanwhile_has_no_session(void)
{
    begin_loading();
    uint8_t buf[4096];
    struct sp_writer out;
    struct sp_mqtt_connack connack;
    sp_writer_init(&out, buf, sizeof(buf));
    write(&out, "t1",
          (struct sp_msg_kept){
              .kind = SP_KEPT_SESSION, .expiry_s = 60, .time_ms = w->timers.wall_ms, .version = 4},
          SP_VIEW_LIT("client"));
    write(&out, "t2",
          (struct sp_msg_kept){
              .kind = SP_KEPT_SESSION, .expiry_s = 60, .time_ms = w->timers.wall_ms, .version = 4},
          SP_VIEW_LIT("client"));
    sp_home_revoke(&w->home, SP_VIEW_LIT("t1"), 5);
    sp_home_revoke(&w->home, SP_VIEW_LIT("t2"), 4);
    SP_CHECK_INT(load(SP_KEPT_LAST, &out), SP_OK);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t1")) == NULL);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t2")) != NULL);
    answered(SP_OK);
    /* Nobody told of this one: the row that its device comes with says it. */
    struct sp_msg_psk_answer answer = {
        .known = 1, .nonce_ok = 1, .row = {.attestation = SP_ATTESTATION_NONE, .version = 9}};
    strcpy(answer.row.role, client_name);
    struct peer *peer = dial_as("t2", &answer);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    packet.clean_start = false;
    say_connect(peer, &packet);
    answered(SP_OK);
    SP_CHECK_INT(hear_connack(peer, &connack), 0);
    SP_CHECK(!connack.session_present);
    hang_up(peer);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(a_suback_waits_until_the_subscription_is_durable_or_closes),
    SP_TEST(a_publisher_waits_until_the_journal_has_it_for_one_that_is_away),
    SP_TEST(what_the_journal_refuses_is_not_acknowledged_and_not_kept),
    SP_TEST(one_that_acknowledges_promptly_costs_no_record),
    SP_TEST(a_clean_start_is_welcomed_once_the_end_is_durable),
    SP_TEST(an_end_that_failed_is_told_again_until_it_is_durable),
    SP_TEST(a_new_store_is_told_all_there_is),
    SP_TEST(sessions_come_back_with_what_waits_and_who_comes_early_waits),
    SP_TEST(what_has_expired_or_has_no_role_any_more_does_not_come_back),
    SP_TEST(a_load_that_begins_anew_forgets_what_came_before_and_nonsense_is_refused),
    SP_TEST(a_row_that_has_changed_meanwhile_has_no_session),
};
SP_TEST_MAIN(tests)
