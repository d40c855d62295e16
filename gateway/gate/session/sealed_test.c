/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* A device of a group: its protected records on their way through a session, its grants, and what it answers to them. */
#include "gateway/gate/session/world_test.h"
#include "libs/record/grant.h"
#include "libs/record/record.h"
#include "libs/senml/senml.h"

#define CLIMATE "dt/dev1/climate"

static struct sp_view sealed(uint32_t epoch, uint64_t counter, const char *topic)
{
    static uint8_t out[512];
    uint8_t plain[128];
    uint8_t group_key[SP_RECORD_GROUP_KEY];
    uint8_t key_bytes[SP_RECORD_KEY_MAX];
    size_t plain_len = 0;
    size_t len = 0;
    const struct sp_senml_climate climate = {
        .device = SP_VIEW_LIT("dev1"), .temperature = {20, 0}, .humidity = {40, 0}};
    SP_CHECK_INT(sp_senml_encode_climate(&climate, plain, sizeof(plain), &plain_len), SP_OK);
    memset(group_key, (int)epoch, sizeof(group_key));
    const struct sp_crypto_key from = {.bytes = SP_VIEW_ARRAY(group_key)};
    SP_CHECK_INT(sp_record_key(&from, SP_COSE_AES_CCM_16_64_128, SP_VIEW_LIT("dev1"), key_bytes),
                 SP_OK);
    const struct sp_crypto_key key = {.bytes = sp_view(key_bytes, 16)};
    const struct sp_record_head head = {SP_COSE_AES_CCM_16_64_128, epoch, counter,
                                        SP_VIEW_LIT("hall")};
    SP_CHECK_INT(sp_record_protect(&head, &key, sp_view_str(topic), sp_view(plain, plain_len), out,
                                   sizeof(out), &len),
                 SP_OK);
    return sp_view(out, len);
}

static void know_groups(enum sp_group_mode mode)
{
    struct sp_msg_epoch epoch = {
        .group = "hall", .mode = (uint8_t)mode, .algorithm = 10, .epoch = 3};
    memset(epoch.key, 3, sizeof(epoch.key));
    w->home.marks.complete = true;
    SP_CHECK_INT(sp_home_groups(&w->home, sp_view(&epoch, sizeof(epoch))), SP_OK);
}

/* `dev1`, of the group `hall`, in. */
static struct peer *member(enum sp_mqtt_version version, enum sp_attestation_mode mode)
{
    struct sp_view body;
    struct sp_msg_psk_answer answer = {
        .known = 1,
        .nonce_ok = 1,
        .group = "hall",
        .row = {.attestation = (uint8_t)mode, .records = SP_RECORDS_MAC, .version = 4}};
    strcpy(answer.row.role, sensor_name);
    struct peer *peer = dial_as("dev1", &answer);
    struct sp_mqtt_connect packet = hello(peer, version);
    if (mode == SP_ATTESTATION_REQUIRED) {
        present_token(peer, &packet);
        judge(peer, SP_ATTEST_OK);
    } else {
        say_connect(peer, &packet);
    }
    SP_CHECK_INT(connack_code(peer), 0);
    while (hear(peer, &body).type != 0) {
    }
    return peer;
}

static struct peer *begin_with_member(void)
{
    begin();
    know_groups(SP_GROUP_OPEN);
    return member(SP_MQTT_5, SP_ATTESTATION_REQUIRED);
}

static void say_payload(struct peer *peer, const char *topic, struct sp_view payload, uint8_t qos,
                        uint16_t id)
{
    uint8_t buf[1024];
    struct sp_writer out;
    const struct sp_mqtt_publish packet = {.qos = qos,
                                           .packet_id = id,
                                           .dup = qos == 2,
                                           .topic = sp_view_str(topic),
                                           .payload = payload};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_publish(&out, peer->version, &packet);
    say(peer, &out);
}

/* Messages that the store was given. */
static size_t appended(void)
{
    size_t count = 0;
    for (size_t i = 0; i < w->store.count; i++) {
        count += w->store.items[i].type == SP_MSG_APPEND;
    }
    return count;
}

static void one_record_at_a_time_is_on_its_way_to_the_store(void)
{
    struct peer *peer = begin_with_member();
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 1, 1);
    say_payload(peer, CLIMATE, sealed(3, 6, CLIMATE), 1, 2);
    SP_CHECK(peer->client.holding && peer->client.paused);
    SP_CHECK_INT(appended(), 1);
    durable(1, SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    SP_CHECK_INT(appended(), 2);
    durable(2, SP_OK);
    SP_CHECK_INT(puback(peer, 2), 0);
    SP_CHECK(!peer->client.paused);
    /* What the gate has taken before is acknowledged, and goes nowhere. */
    say_payload(peer, CLIMATE, sealed(3, 6, CLIMATE), 1, 3);
    SP_CHECK_INT(puback(peer, 3), 0);
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 0, 0);
    SP_CHECK_INT(appended(), 2);
    say_payload(peer, CLIMATE, sealed(3, 7, CLIMATE), 0, 0);
    SP_CHECK_INT(appended(), 3);
    hang_up(peer);
    end();
}

static void a_record_that_the_store_refused_is_taken_when_it_comes_again_and_fed_once(void)
{
    struct peer *peer = begin_with_member();
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 1, 1);
    durable(1, SP_ERR_IO);
    SP_CHECK_INT(puback(peer, 1), SP_MQTT_RC_QUOTA_EXCEEDED);
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 1, 2);
    durable(2, SP_OK);
    SP_CHECK_INT(puback(peer, 2), 0);
    struct sp_mark *mark =
        sp_marks_find(&w->home.marks, SP_VIEW_LIT("dev1"), SP_VIEW_LIT("hall"), 3);
    SP_CHECK(mark != NULL && mark->counter == 5 && mark->fed == 5);
    hang_up(peer);
    end();
}

static void without_groups_a_record_is_for_later(void)
{
    struct peer *peer = begin_with_member();
    w->home.keyring.known = false;
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 1, 1);
    SP_CHECK_INT(puback(peer, 1), SP_MQTT_RC_QUOTA_EXCEEDED);
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 0, 0);
    SP_CHECK(peer->len == 0 && !peer->closed);
    hang_up(peer);
    peer = member(SP_MQTT_311, SP_ATTESTATION_NONE);
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 2, 1);
    SP_CHECK(peer->client.stalled && peer->len == 0);
    SP_CHECK_INT(appended(), 0);
    pass(10000);
    SP_CHECK(peer->closed);
    hang_up(peer);
    end();
}

static void ten_records_that_do_not_open_close_the_connection(void)
{
    struct peer *peer = begin_with_member();
    for (uint16_t i = 1; i <= 10; i++) {
        SP_CHECK(!peer->closed);
        say_payload(peer, CLIMATE, sealed(3, i, "dt/dev1/other"), 1, i);
        SP_CHECK_INT(puback(peer, i), SP_MQTT_RC_PAYLOAD_FORMAT_INVALID);
    }
    SP_CHECK_INT(disconnect_code(peer), SP_MQTT_RC_PAYLOAD_FORMAT_INVALID);
    SP_CHECK(peer->closed);
    hang_up(peer);
    end();
}

static void a_record_on_another_topic_is_judged_as_one(void)
{
    struct peer *peer = begin_with_member();
    say_payload(peer, "dt/dev1/other", sealed(3, 5, CLIMATE), 1, 1);
    SP_CHECK_INT(puback(peer, 1), SP_MQTT_RC_PAYLOAD_FORMAT_INVALID);
    say_payload(peer, "dt/dev1/other", sealed(3, 5, "dt/dev1/other"), 1, 2);
    durable(1, SP_OK);
    SP_CHECK_INT(puback(peer, 2), 0);
    hang_up(peer);
    end();
}

static void an_end_to_end_record_passes_unread(void)
{
    struct peer *peer = begin_with_member();
    know_groups(SP_GROUP_END_TO_END);
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 1, 1);
    SP_CHECK(!peer->client.holding);
    durable(1, SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    hang_up(peer);
    end();
}

static void a_bad_record_over_3_1_1_waits_for_its_place_among_the_dead_letters(void)
{
    begin();
    know_groups(SP_GROUP_OPEN);
    struct peer *peer = member(SP_MQTT_311, SP_ATTESTATION_NONE);
    struct sp_view body;
    peer->client.attested = true;
    say_payload(peer, CLIMATE, SP_VIEW_LIT("23.5"), 2, 1);
    SP_CHECK_INT(appended(), 1);
    durable(1, SP_OK);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBREC);
    peer->client.attested = false;
    w->home.tickets.waiting = 1U << 30;
    say_payload(peer, CLIMATE, SP_VIEW_LIT("23.5"), 1, 2);
    SP_CHECK(peer->client.stalled);
    hang_up(peer);
    config.cloud.enabled = false;
    peer = member(SP_MQTT_311, SP_ATTESTATION_NONE);
    say_payload(peer, CLIMATE, SP_VIEW_LIT("23.5"), 1, 3);
    SP_CHECK_INT(puback(peer, 3), 0); /* without a cloud there are none */
    hang_up(peer);
    end();
}

static void marks_move_without_a_store(void)
{
    struct peer *peer = begin_with_member();
    config.cloud.enabled = false;
    say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 1, 1);
    SP_CHECK_INT(puback(peer, 1), 0);
    w->home.tickets.store = (struct sp_edge){NULL, NULL};
    say_payload(peer, CLIMATE, sealed(3, 6, CLIMATE), 1, 2);
    SP_CHECK_INT(puback(peer, 2), 0);
    const struct sp_mark *mark =
        sp_marks_find(&w->home.marks, SP_VIEW_LIT("dev1"), SP_VIEW_LIT("hall"), 3);
    SP_CHECK(mark != NULL && mark->counter == 6);
    hang_up(peer);
    end();
}

/* ---- grants ---- */

static void an_answer_to_a_grant_goes_to_keys_with_the_mark(void)
{
    struct peer *peer = begin_with_member();
    uint8_t kek_bytes[SP_GRANT_KEK_LEN] = {1};
    uint8_t buf[SP_ACK_MAX];
    size_t len = 0;
    const struct sp_grant_kek kek = sp_grant_kek(kek_bytes);
    const struct sp_grant_ack ack = {.serial = 1, .group = SP_VIEW_LIT("hall"), .epoch = 3};
    SP_CHECK_INT(sp_ack_seal(&ack, &kek, SP_VIEW_LIT("dev1"), buf, sizeof(buf), &len), SP_OK);
    for (uint64_t mark = 0; mark < 2; mark++) {
        say_payload(peer, SP_LINK_TOPIC_ACK, sp_view(buf, len), 1, 1);
        SP_CHECK_INT(puback(peer, 1), 0);
        const struct posted *told = last(&w->keys, SP_MSG_GRANT_ACK);
        struct sp_msg_grant_ack head = {.mark = 99};
        SP_CHECK(told != NULL && told->len == sizeof(head) + len);
        if (told != NULL) {
            memcpy(&head, told->body, sizeof(head));
        }
        SP_CHECK_INT(head.mark, mark * 5);
        say_payload(peer, CLIMATE, sealed(3, 5, CLIMATE), 0, 0);
    }
    w->keys.count = 0;
    say_payload(peer, SP_LINK_TOPIC_ACK, SP_VIEW_LIT("nonsense"), 0, 0);
    SP_CHECK(last(&w->keys, SP_MSG_GRANT_ACK) == NULL && !peer->closed);
    hang_up(peer);
    end();
}

static void a_grant_waits_for_room_and_a_newer_one_takes_its_place(void)
{
    struct peer *peer = begin_with_member();
    struct sp_mqtt_publish got;
    peer->client.window = 1;
    sp_client_grant(&peer->client, SP_VIEW_LIT("one"));
    turn();
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "one") &&
             is(got.topic, SP_LINK_TOPIC_GRANT));
    sp_client_grant(&peer->client, SP_VIEW_LIT("two"));
    sp_client_grant(&peer->client, SP_VIEW_LIT("three"));
    turn();
    SP_CHECK(!hear_publish(peer, &got));
    say_puback(peer, got.packet_id == 0 ? SP_GRANT_ID : got.packet_id);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "three"));
    say_puback(peer, SP_GRANT_ID);
    peer->client.challenge_unacked = true; /* the one place there is */
    sp_client_grant(&peer->client, SP_VIEW_LIT("four"));
    turn();
    SP_CHECK(!hear_publish(peer, &got));
    SP_CHECK_INT(sp_client_window(&peer->client), 0);
    say_puback(peer, SP_CHALLENGE_ID);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "four"));
    sp_client_lost(&peer->client);
    sp_client_grant(&peer->client, SP_VIEW_LIT("five")); /* nobody is there */
    hang_up(peer);
    end();
}

static void new_keys_challenge_the_members_of_groups_and_nobody_else(void)
{
    struct peer *peer = begin_with_member();
    struct peer *other = admitted("dev2", sensor_name);
    w->keys.count = 0;
    sp_home_regrant(&w->home);
    SP_CHECK_INT(w->keys.count, 1);
    SP_CHECK(last(&w->keys, SP_MSG_NONCE) != NULL);
    SP_CHECK_INT(peer->client.guard, SP_GUARD_ASKED);
    SP_CHECK_INT(other->client.guard, SP_GUARD_IDLE);
    /* Without a nonce it is asked for later. */
    const struct sp_msg_nonce_answer none = {.ok = 0};
    sp_guard_nonce(&peer->client, &none);
    SP_CHECK_INT(peer->client.guard, SP_GUARD_IDLE);
    SP_CHECK(!peer->closed && peer->client.attested);
    sp_guard_nonce(&other->client, &none); /* unasked */
    hang_up(peer);
    hang_up(other);
    end();
}

static void a_row_that_is_new_ends_those_of_the_old_one(void)
{
    struct peer *peer = begin_with_member();
    struct peer *other = admitted("dev2", sensor_name);
    sp_home_revoke(&w->home, SP_VIEW_LIT("dev1"), 4); /* the row that it has */
    turn();
    SP_CHECK(!peer->closed);
    sp_home_revoke(&w->home, SP_VIEW_LIT("nobody"), 4);
    sp_home_revoke(&w->home, SP_VIEW_LIT("dev1"), 5);
    turn();
    SP_CHECK(peer->closed && !other->closed);
    SP_CHECK_INT(disconnect_code(peer), SP_MQTT_RC_ADMINISTRATIVE_ACTION);
    hang_up(peer);
    hang_up(other);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(one_record_at_a_time_is_on_its_way_to_the_store),
    SP_TEST(a_record_that_the_store_refused_is_taken_when_it_comes_again_and_fed_once),
    SP_TEST(without_groups_a_record_is_for_later),
    SP_TEST(ten_records_that_do_not_open_close_the_connection),
    SP_TEST(a_record_on_another_topic_is_judged_as_one),
    SP_TEST(an_end_to_end_record_passes_unread),
    SP_TEST(a_bad_record_over_3_1_1_waits_for_its_place_among_the_dead_letters),
    SP_TEST(marks_move_without_a_store),
    SP_TEST(an_answer_to_a_grant_goes_to_keys_with_the_mark),
    SP_TEST(a_grant_waits_for_room_and_a_newer_one_takes_its_place),
    SP_TEST(new_keys_challenge_the_members_of_groups_and_nobody_else),
    SP_TEST(a_row_that_is_new_ends_those_of_the_old_one),
};
SP_TEST_MAIN(tests)
