/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Kept sessions with a journal whose answers the test gives, and another gate that begins with what the journal has. */
#include "gateway/gate/session/keep_internal.h"
#include "gateway/gate/session/world_test.h"
#include "gateway/log/log.h"
#include "gateway/slab/starve_test.h"

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

static void durable_up_to(uint64_t ticket, enum sp_err err)
{
    const struct sp_msg_durable durable = {.up_to = ticket, .err = (uint32_t)err};
    SP_CHECK_INT(sp_keep_durable(&w->home, &durable), SP_OK);
    turn();
}

/* CONNACK does not wait for the session to be durable: so nothing that builds on it may count without it. */
static void nothing_counts_that_builds_on_a_session_which_the_journal_lacks(void)
{
    begin_kept();
    struct sp_view body;
    struct peer *peer = tool("t2", false);
    turn();
    uint64_t session = w->home.keep.last_ticket;
    struct peer *publisher = tool("t1", true);
    say_filters(peer, SP_MQTT_SUBSCRIBE, "news/#", 1);
    SP_CHECK(hear(peer, &body).type != SP_MQTT_SUBACK); /* it waits for the session */
    hang_up(peer);
    say_publish(publisher, "news/a", "one", 1, 1);
    SP_CHECK_INT(count_told(SP_KEPT_QUEUE), 1);
    durable_up_to(session, SP_ERR_IO);
    durable_up_to(w->home.keep.last_ticket, SP_OK); /* another commit, which did not fail */
    SP_CHECK_INT(puback(publisher, 1), 0xFFFF);
    hang_up(publisher);
    publisher = tool("t1", true);
    say_publish(publisher, "news/a", "two", 1, 2);
    SP_CHECK_INT(count_told(SP_KEPT_QUEUE), 1);
    SP_CHECK_INT(puback(publisher, 2), 0xFFFF);
    hang_up(publisher);
    told_len = 0;
    pass(1100);
    SP_CHECK_INT(count_told(SP_KEPT_SESSION), 1);
    SP_CHECK_INT(count_told(SP_KEPT_SUBSCRIBE), 1);
    answered(SP_OK);
    publisher = tool("t1", true);
    say_publish(publisher, "news/a", "three", 1, 3);
    SP_CHECK_INT(puback(publisher, 3), 0xFFFF);
    answered(SP_OK);
    SP_CHECK_INT(puback(publisher, 3), 0);
    hang_up(publisher);
    end();
}

static void a_suback_without_memory_is_that_of_a_subscription_which_was_told(void)
{
    uint64_t failed = 1;
    sp_log_init("test", SP_LOG_ERROR);
    for (uint64_t nth = 1; failed > 0; nth++) {
        begin_kept();
        struct sp_view body;
        struct peer *peer = tool("t2", false);
        answered(SP_OK);
        sp_buf_free(&w->home.keep.batch);
        starve(nth, 1);
        say_filters(peer, SP_MQTT_SUBSCRIBE, "news/#", 1);
        failed = starve_end();
        answered(SP_OK);
        bool welcome = !peer->closed && hear(peer, &body).type == SP_MQTT_SUBACK && body.len > 0 &&
                       body.ptr[body.len - 1] == 1;
        SP_CHECK(failed > 0 || welcome);
        SP_CHECK(!welcome || count_told(SP_KEPT_SUBSCRIBE) == 1);
        hang_up(peer);
        end();
    }
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

/* All kinds of sessions: of one that is away, one that was cut off, one with a shared subscription, one of another loop. */
static void write_sessions(struct sp_writer *out)
{
    uint64_t wall = w->timers.wall_ms;
    const struct sp_msg_kept away = {
        .kind = SP_KEPT_SESSION, .number = 11, .expiry_s = 60, .time_ms = wall - 1000};
    const struct sp_msg_kept cut = {.kind = SP_KEPT_SESSION, .number = 3, .expiry_s = 60};
    const struct sp_msg_kept filter = {.kind = SP_KEPT_SUBSCRIBE, .qos = 1, .identifier = 7};
    write(out, "t1", away, SP_VIEW_LIT("client"));
    write(out, "t1", filter, SP_VIEW_LIT("news/#"));
    write(out, "t1", filter, SP_VIEW_LIT("$share/g/news/#"));
    write_message(out, "t1", 11, "sent before");
    write_message(out, "t1", 12, "perhaps sent");
    write(out, "t2", cut, SP_VIEW_LIT("sensor"));
    write(out, "t2", filter, SP_VIEW_LIT("cmd/t2/#"));
    write(out, "t2", filter, SP_VIEW_LIT("cmd/t9/#")); /* its role does not allow it any more */
    write_message(out, "t2", 4, "while it was cut off");
}

static void without_memory_no_session_is_half_loaded(void)
{
    uint8_t buf[4096];
    struct sp_writer out;
    uint64_t failed = 1;
    sp_log_init("test", SP_LOG_ERROR);
    for (uint64_t nth = 1; failed > 0; nth++) {
        int64_t before = starve_live();
        begin_loading();
        sp_writer_init(&out, buf, sizeof(buf));
        write_sessions(&out);
        starve(nth, 1);
        sp_route_command(&w->home, SP_VIEW_LIT("down/t1"), SP_VIEW_LIT("early"), 1, 77);
        sp_route_command(&w->home, SP_VIEW_LIT("down/t1"), SP_VIEW_LIT("early"), 0, 78);
        enum sp_err err = load(SP_KEPT_FIRST, NULL);
        err = err == SP_OK ? load(SP_KEPT_LAST, &out) : err;
        failed = starve_end();
        SP_CHECK(err == SP_OK || (err == SP_ERR_NOMEM && failed > 0));
        bool answered_command = last(&w->store, SP_MSG_COMMAND_REFUSED) != NULL;
        SP_CHECK(!answered_command || failed > 0);
        if (err == SP_OK) {
            answered(SP_OK);
            SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t1")) != NULL);
            SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t2")) != NULL);
            SP_CHECK_INT(w->home.keep.stale && failed == 0, false);
        }
        end();
        SP_CHECK_INT(starve_live(), before);
    }
}

/* As many as are provided for, while there is no memory at all. */
static void revocations_are_heard_without_memory_before_the_sessions_are_there(void)
{
    uint8_t buf[4096];
    struct sp_writer out;
    int64_t before = starve_live();
    begin_loading();
    sp_writer_init(&out, buf, sizeof(buf));
    write_sessions(&out);
    SP_CHECK_INT(load(SP_KEPT_FIRST, NULL), SP_OK);
    starve(1, UINT64_MAX);
    for (unsigned i = 1; i < SP_KEEP_PARKED_RESERVE; i++) {
        sp_home_revoke(&w->home, SP_VIEW_LIT("somebody"), 0);
    }
    sp_home_revoke(&w->home, SP_VIEW_LIT("t1"), 0);
    SP_CHECK(starve_end() == SP_KEEP_PARKED_RESERVE);
    SP_CHECK_INT(load(SP_KEPT_LAST, &out), SP_OK);
    answered(SP_OK);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t1")) == NULL);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t2")) != NULL);
    SP_CHECK_INT(count_told(SP_KEPT_END), 1);
    end();
    SP_CHECK_INT(starve_live(), before);
}

/* Sessions end while there is no memory at all. */
static void ends_are_remembered_without_memory(void)
{
    static const char *const names[] = {"a", "b", "c"};
    begin_kept();
    for (size_t i = 0; i < 3; i++) {
        leave_session(names[i]);
    }
    starve(1, UINT64_MAX);
    for (size_t i = 0; i < 3; i++) {
        sp_home_revoke(&w->home, sp_view_str(names[i]), 0);
    }
    SP_CHECK(starve_end() >= 3);
    answered(SP_ERR_IO); /* the journal has none of them */
    told_len = 0;
    pass(1100);
    SP_CHECK_INT(count_told(SP_KEPT_END), 3); /* but they are told again */
    SP_CHECK(!sp_keep_is_calm(&w->home));
    answered(SP_OK);
    told_len = 0;
    pass(1100);
    SP_CHECK_INT(count_told(SP_KEPT_END), 0);
    SP_CHECK(sp_keep_is_calm(&w->home));
    end();
}

static void a_session_without_memory_for_its_end_ends_in_time_nevertheless(void)
{
    begin_kept();
    leave_session("t1");
    struct peer *peer = tool("t1", false);
    starve(1, UINT64_MAX);
    sp_client_lost(&peer->client);
    SP_CHECK(starve_end() > 0);
    hang_up(peer);
    struct sp_device *device = sp_device_find(&w->home, SP_VIEW_LIT("t1"));
    SP_CHECK(device != NULL && sp_device_session(device) != NULL);
    answered(SP_OK);
    pass(1100);
    answered(SP_OK);
    pass(597000);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t1")) != NULL);
    pass(3000);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("t1")) == NULL);
    answered(SP_OK);
    end();
}

static void a_publisher_gets_0x97_when_there_is_no_memory_to_wait_for_receivers(void)
{
    begin_kept();
    leave_session("t1");
    struct peer *peer = dial("t2", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0);
    say_publish(peer, "news/a", "one", 1, 1); /* its answer waits: buffers are there from now on */
    starve(1, 1);
    say_publish(peer, "news/a", "two", 1, 2);
    SP_CHECK_INT(starve_end(), 1);
    answered(SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    SP_CHECK_INT(puback(peer, 2), SP_MQTT_RC_QUOTA_EXCEEDED);
    SP_CHECK_INT(count_told(SP_KEPT_QUEUE), 1);
    say_publish(peer, "news/a", "two", 1, 3);
    answered(SP_OK);
    SP_CHECK_INT(puback(peer, 3), 0);
    hang_up(peer);
    end();
}

static enum sp_err broken(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                          size_t count)
{
    (void)arg;
    (void)type;
    (void)tag;
    (void)parts;
    (void)count;
    return SP_ERR_CLOSED;
}

static void a_store_that_breaks_in_the_middle_is_told_all_again_by_the_next(void)
{
    begin_kept();
    leave_session("t1");
    struct peer *peer = tool("t2", true);
    w->home.tickets.store = (struct sp_edge){broken, NULL};
    say_publish(peer, "news/a", "one", 1, 1);
    SP_CHECK(w->home.keep.failed && !sp_keep_is_calm(&w->home));
    w->home.tickets.store = (struct sp_edge){NULL, NULL};
    pass(10);
    SP_CHECK(!w->home.keep.failed && w->home.keep.ring_count == 0);
    SP_CHECK_INT(puback(peer, 1), 0xFFFF);
    hang_up(peer);
    peer = dial("t3", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    packet.clean_start = false;
    say_connect(peer, &packet);
    sp_keep_lost(&w->home);
    sp_tickets_lost(&w->home);
    turn();
    hang_up(peer);
    const struct sp_edge store = {listen, &w->store};
    told_len = 0;
    sp_tickets_connected(&w->home, &store);
    sp_keep_connected(&w->home);
    answered(SP_OK);
    SP_CHECK(count_told(SP_KEPT_SESSION) >= 1);
    const struct sp_msg_durable never = {.up_to = 1000000};
    SP_CHECK_INT(sp_keep_durable(&w->home, &never), SP_ERR_MALFORMED);
    end();
}

static void what_is_in_memory_alone_is_stored_before_another_gate_takes_over(void)
{
    begin_kept();
    struct sp_mqtt_publish got;
    leave_session("t1");
    leave_session("t2");
    struct peer *readers[] = {tool("t1", false), tool("t2", false)};
    struct peer *peer = tool("t3", true);
    answered(SP_OK);
    say_publish(peer, "news/a", "one", 1, 1);
    SP_CHECK(hear_publish(readers[0], &got) && hear_publish(readers[1], &got));
    SP_CHECK(!sp_keep_is_calm(&w->home));
    SP_CHECK_INT(count_told(SP_KEPT_QUEUE), 0);
    sp_keep_store_all(&w->home);
    answered(SP_OK);
    SP_CHECK_INT(count_told(SP_KEPT_QUEUE), 2);
    SP_CHECK_INT(puback(peer, 1), 0);
    SP_CHECK(sp_keep_is_calm(&w->home));
    hang_up(readers[0]);
    hang_up(readers[1]);
    hang_up(peer);
    end();
}

static void messages_out_of_the_journal_expire_when_they_would_have(void)
{
    begin_loading();
    uint8_t buf[4096];
    uint8_t packet_buf[64];
    struct sp_writer out;
    struct sp_writer packet;
    struct sp_mqtt_publish got;
    uint64_t wall = w->timers.wall_ms;
    const struct sp_mqtt_publish publish = {
        .qos = 1, .packet_id = 1, .topic = SP_VIEW_LIT("news/a"), .payload = SP_VIEW_LIT("x")};
    sp_writer_init(&packet, packet_buf, sizeof(packet_buf));
    sp_mqtt_encode_publish(&packet, SP_MQTT_5, &publish);
    sp_writer_init(&out, buf, sizeof(buf));
    write(&out, "t1",
          (struct sp_msg_kept){
              .kind = SP_KEPT_SESSION, .number = 4, .expiry_s = 600, .time_ms = wall - 1000},
          SP_VIEW_LIT("client"));
    const uint64_t ends[] = {0, wall - 500, wall + 2000, wall + 50000};
    for (size_t i = 0; i < 4; i++) {
        write(&out, "t1",
              (struct sp_msg_kept){.kind = SP_KEPT_QUEUE, .number = 10 + i, .time_ms = ends[i]},
              sp_writer_view(&packet));
    }
    SP_CHECK_INT(load(SP_KEPT_LAST, &out), SP_OK);
    pass(3000);
    struct peer *peer = tool("t1", false);
    SP_CHECK(hear_publish(peer, &got) && got.packet_id == 10);
    SP_CHECK(hear_publish(peer, &got) && got.packet_id == 13);
    SP_CHECK(!hear_publish(peer, &got));
    hang_up(peer);
    end();
}

static void nonsense_among_the_records_is_refused(void)
{
    uint8_t buf[4096];
    struct sp_writer out;
    static const struct sp_view parts[] = {
        {(const uint8_t *)"", 0},
        {(const uint8_t *)"\xC0\x00", 2},                      /* a PINGREQ */
        {(const uint8_t *)"\x32\x08\x00\x01x\x00\x01\x00", 8}, /* half a PUBLISH */
        {(const uint8_t *)"\x32\x06\x00\x01#\x00\x01\x00", 8}, /* to a filter */
    };
    for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
        begin_loading();
        sp_writer_init(&out, buf, sizeof(buf));
        write(&out, "t1",
              (struct sp_msg_kept){
                  .kind = SP_KEPT_SESSION, .expiry_s = 60, .time_ms = w->timers.wall_ms},
              SP_VIEW_LIT("client"));
        write(&out, "t1", (struct sp_msg_kept){.kind = SP_KEPT_QUEUE, .number = 5}, parts[i]);
        SP_CHECK(load(0, &out) != SP_OK);
        SP_CHECK(load(SP_KEPT_FIRST, &out) != SP_OK); /* it is to be empty */
        end();
    }
    begin_loading();
    sp_writer_init(&out, buf, sizeof(buf));
    write_sessions(&out);
    write(&out, "t1", (struct sp_msg_kept){.kind = SP_KEPT_END}, SP_VIEW_LIT(""));
    SP_CHECK_INT(load(0, &out), SP_ERR_MALFORMED);
    end();
}

static void loops_serve_once_all_of_them_have_loaded(void)
{
    begin_loading();
    atomic_store(&homes, 2);
    w->home.loops = 2;
    struct sp_writer out;
    uint8_t buf[4096];
    sp_writer_init(&out, buf, sizeof(buf));
    write_sessions(&out);
    SP_CHECK_INT(load(SP_KEPT_LAST, &out), SP_OK);
    SP_CHECK(w->home.keep.loading && w->outboxes[1].first == NULL); /* the other one has not */
    w->home.keep.loaded = false;
    SP_CHECK_INT(load(SP_KEPT_LAST, NULL), SP_OK);
    SP_CHECK(!w->home.keep.loading && w->outboxes[1].first != NULL);
    w->home.keep.loading = true;
    w->outboxes[1].first->run(&w->home, w->outboxes[1].first); /* as if this were the other one */
    SP_CHECK(!w->home.keep.loading);
    w->home.loops = 1;
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(a_suback_waits_until_the_subscription_is_durable_or_closes),
    SP_TEST(nothing_counts_that_builds_on_a_session_which_the_journal_lacks),
    SP_TEST(a_suback_without_memory_is_that_of_a_subscription_which_was_told),
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
    SP_TEST(without_memory_no_session_is_half_loaded),
    SP_TEST(revocations_are_heard_without_memory_before_the_sessions_are_there),
    SP_TEST(ends_are_remembered_without_memory),
    SP_TEST(a_session_without_memory_for_its_end_ends_in_time_nevertheless),
    SP_TEST(a_publisher_gets_0x97_when_there_is_no_memory_to_wait_for_receivers),
    SP_TEST(a_store_that_breaks_in_the_middle_is_told_all_again_by_the_next),
    SP_TEST(what_is_in_memory_alone_is_stored_before_another_gate_takes_over),
    SP_TEST(messages_out_of_the_journal_expire_when_they_would_have),
    SP_TEST(nonsense_among_the_records_is_refused),
    SP_TEST(loops_serve_once_all_of_them_have_loaded),
};
SP_TEST_MAIN(tests)
