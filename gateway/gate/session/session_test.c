/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/world_test.h"

#include <arpa/inet.h>

/* ---- attestation ---- */

static void an_mqtt_5_device_is_challenged_judged_and_admitted(void)
{
    begin();
    struct sp_view body;
    struct sp_mqtt_reasoned auth;
    struct sp_mqtt_connack connack;
    struct sp_msg_appraise ask;
    struct sp_mqtt_publish time;
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    packet.client_id = sp_view(NULL, 0);
    say_connect(peer, &packet);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_AUTH);
    SP_CHECK(sp_mqtt_decode_reasoned(SP_MQTT_5, SP_MQTT_AUTH, body, &auth) == SP_OK);
    SP_CHECK_INT(auth.reason, 0x18);
    SP_CHECK(is(auth.props.auth_method, "sp-psa-iat-1"));
    SP_CHECK(auth.props.auth_data.len == 32 && auth.props.auth_data.ptr[31] == 0xAB);
    say_auth(peer, 0x18, "sp-psa-iat-1", "the token");
    const struct posted *asked = last(&w->keys, SP_MSG_APPRAISE);
    SP_CHECK(asked != NULL && asked->len == sizeof(ask) + 9);
    if (asked != NULL) {
        memcpy(&ask, asked->body, sizeof(ask));
        SP_CHECK(ask.has_exporter == 1 && ask.exporter[5] == 0xEE && ask.token_len == 9);
    }
    SP_CHECK_INT(peer->len, 0);
    judge(peer, SP_ATTEST_OK);
    SP_CHECK_INT(hear_connack(peer, &connack), 0);
    SP_CHECK(is(connack.props.auth_method, "sp-psa-iat-1"));
    SP_CHECK(is(connack.props.assigned_client_id, "dev1"));
    SP_CHECK_INT(connack.props.receive_maximum, 4);
    SP_CHECK((connack.props.present & SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_QOS)) == 0);
    SP_CHECK(hear_publish(peer, &time) && is(time.topic, "$sp/time"));
    SP_CHECK(is(time.payload, "1700000000"));
    hang_up(peer);
    SP_CHECK(last(&w->keys, SP_MSG_FORGET) == NULL);
    end();
}

static void a_refused_token_gives_0x87_with_the_check_and_closes(void)
{
    begin();
    struct sp_mqtt_connack connack;
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    present_token(peer, &packet);
    judge(peer, SP_ATTEST_MAC);
    SP_CHECK_INT(hear_connack(peer, &connack), 0x87);
    SP_CHECK(is(connack.props.reason_string, "mac: because"));
    SP_CHECK(peer->closed);
    hang_up(peer);
    end();
}

static void bytes_that_come_before_the_verdict_are_never_excused(void)
{
    begin();
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    present_token(peer, &packet);
    say_publish(peer, "dt/dev1/x", "early", 1, 1);
    SP_CHECK_INT(connack_code(peer), 0x82);
    SP_CHECK(peer->closed);
    hang_up(peer);

    peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    packet = hello(peer, SP_MQTT_5);
    present_token(peer, &packet);
    sp_client_input(&peer->client, SP_VIEW_LIT("\x30")); /* the first byte of a PUBLISH */
    judge(peer, SP_ATTEST_OK);
    SP_CHECK_INT(connack_code(peer), 0x82);
    SP_CHECK(peer->closed);
    hang_up(peer);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) == NULL);
    end();
}

struct bad_auth {
    const char *name;
    uint8_t reason;
    const char *method;
    const char *token;
};

static void an_auth_with_anything_wrong_in_it_is_0x82(void)
{
    static const struct bad_auth cases[] = {
        {"reason", 0x19, "sp-psa-iat-1", "t"},
        {"success", 0x00, "sp-psa-iat-1", "t"},
        {"method", 0x18, "sp-psa-iat-raw-1", "t"},
        {"no data", 0x18, "sp-psa-iat-1", NULL},
    };
    begin();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_view body;
        struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
        struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
        say_connect(peer, &packet);
        SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_AUTH);
        say_auth(peer, cases[i].reason, cases[i].method, cases[i].token);
        SP_CHECK_CASE(connack_code(peer) == 0x82 && peer->closed, cases[i].name);
        hang_up(peer);
        SP_CHECK_CASE(last(&w->keys, SP_MSG_FORGET) != NULL, cases[i].name);
        w->keys.count = 0;
    }
    end();
}

static void no_answer_in_time_is_a_refusal(void)
{
    begin();
    struct sp_view body;
    struct sp_mqtt_connack connack;
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    say_connect(peer, &packet);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_AUTH);
    pass(9999);
    SP_CHECK(!peer->closed);
    pass(1);
    SP_CHECK_INT(hear_connack(peer, &connack), 0x87);
    SP_CHECK(is(connack.props.reason_string, "timeout: no answer to the challenge"));
    hang_up(peer);
    end();
}

static void a_311_device_is_a_guest_until_its_token_is_judged(void)
{
    begin();
    struct sp_mqtt_publish challenge;
    struct sp_mqtt_publish verdict;
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0);
    SP_CHECK(hear_publish(peer, &challenge) && is(challenge.topic, "$sp/attest/challenge"));
    SP_CHECK(challenge.qos == 1 && challenge.payload.len == 32);
    say_puback(peer, challenge.packet_id);
    SP_CHECK_INT(subscribe(peer, "$sp/attest/verdict", 1), 1);
    say_publish(peer, "$sp/attest/token", "token", 1, 9);
    SP_CHECK_INT(puback(peer, 9), 0);
    SP_CHECK(w->home.devices.count == 1 && sp_client_session(&peer->client) == NULL);
    judge(peer, SP_ATTEST_OK);
    SP_CHECK(hear_publish(peer, &verdict) && is(verdict.topic, "$sp/attest/verdict"));
    SP_CHECK(is(verdict.payload, "ok"));
    SP_CHECK(hear_publish(peer, &verdict) && is(verdict.topic, "$sp/time"));
    SP_CHECK_INT(peer->client.state, SP_CLIENT_OPEN);
    hang_up(peer);
    end();
}

static void a_311_guest_that_does_anything_else_is_closed(void)
{
    begin();
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    say_connect(peer, &packet);
    say_publish(peer, "dt/dev1/x", "early", 0, 0);
    SP_CHECK(peer->closed);
    hang_up(peer);
    peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    packet = hello(peer, SP_MQTT_311);
    say_connect(peer, &packet);
    say_filters(peer, SP_MQTT_SUBSCRIBE, "cmd/dev1/#", 0);
    SP_CHECK(peer->closed);
    hang_up(peer);
    peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    packet = hello(peer, SP_MQTT_311);
    say_connect(peer, &packet);
    say_filters(peer, SP_MQTT_SUBSCRIBE, "$sp/#", 0);
    SP_CHECK(peer->closed);
    hang_up(peer);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) == NULL);
    end();
}

static void a_guest_changes_nothing_and_a_second_guest_is_refused(void)
{
    begin();
    struct sp_view body;
    struct peer *old = admitted("dev1", sensor_name);
    struct peer *guest = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(guest, SP_MQTT_5);
    say_connect(guest, &packet);
    SP_CHECK_INT(hear(guest, &body).type, SP_MQTT_AUTH);
    SP_CHECK(!old->closed && old->len == 0);
    struct peer *second = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    packet = hello(second, SP_MQTT_5);
    say_connect(second, &packet);
    SP_CHECK_INT(connack_code(second), 0x97);
    SP_CHECK(second->closed && !guest->closed && !old->closed);
    say_auth(guest, 0x18, "sp-psa-iat-1", "token");
    SP_CHECK(!old->closed);
    judge(guest, SP_ATTEST_OK);
    SP_CHECK_INT(disconnect_code(old), 0x8E);
    SP_CHECK(old->closed);
    SP_CHECK_INT(connack_code(guest), 0);
    hang_up(old);
    hang_up(second);
    SP_CHECK_INT(guest->client.state, SP_CLIENT_OPEN);
    hang_up(guest);
    end();
}

static void too_many_refused_tokens_have_to_wait_a_minute(void)
{
    begin();
    for (int i = 0; i < 2; i++) {
        struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
        struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
        present_token(peer, &packet);
        judge(peer, SP_ATTEST_SOFTWARE);
        SP_CHECK_INT(connack_code(peer), 0x87);
        hang_up(peer);
    }
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0x97);
    hang_up(peer);
    pass(60000);
    SP_CHECK_INT(w->home.devices.count, 0);
    hang_up(admitted("dev1", sensor_name));
    end();
}

static void give_nonce(struct peer *peer)
{
    const struct sp_msg_nonce_answer answer = {.ok = 1, .nonce = {1, 2, 3}};
    sp_guard_nonce(&peer->client, &answer);
    turn();
}

static void an_admitted_device_is_challenged_again_and_keeps_its_rights_until_it_fails(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted("dev1", sensor_name);
    for (int i = 0; i < 3599; i += 50) {
        say_publish(peer, "$sp/attest/x", "", 0, 0); /* any input */
        pass(50000);
    }
    SP_CHECK(last(&w->keys, SP_MSG_NONCE) != NULL);
    give_nonce(peer);
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "$sp/attest/challenge"));
    SP_CHECK(got.payload.len == 32 && got.payload.ptr[0] == 1 && got.qos == 1);
    say_puback(peer, got.packet_id);
    say_publish(peer, "dt/dev1/x", "still allowed", 0, 0);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) != NULL);
    say_publish(peer, "$sp/attest/token", "token", 0, 0);
    judge(peer, SP_ATTEST_OK);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "ok"));
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "$sp/time"));
    sp_home_reattest(&w->home);
    give_nonce(peer);
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "$sp/attest/challenge"));
    sp_home_reattest(&w->home); /* meanwhile: one more after it */
    say_publish(peer, "$sp/attest/token", "token", 0, 0);
    w->keys.count = 0;
    judge(peer, SP_ATTEST_OK);
    SP_CHECK(last(&w->keys, SP_MSG_NONCE) != NULL);
    SP_CHECK(hear_publish(peer, &got) && hear_publish(peer, &got));
    say_puback(peer, SP_CHALLENGE_ID);
    give_nonce(peer);
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "$sp/attest/challenge"));
    say_publish(peer, "$sp/attest/token", "token", 0, 0);
    judge(peer, SP_ATTEST_LIFECYCLE);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "lifecycle: because"));
    SP_CHECK_INT(disconnect_code(peer), 0x87);
    hang_up(peer);
    end();
}

static void an_unasked_token_and_auth_after_the_verdict_are_0x82(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    say_publish(peer, "$sp/attest/token", "token", 1, 1);
    SP_CHECK_INT(disconnect_code(peer), 0x82);
    hang_up(peer);
    peer = admitted("dev1", sensor_name);
    say_auth(peer, SP_MQTT_RC_REAUTHENTICATE, "sp-psa-iat-1", NULL);
    SP_CHECK_INT(disconnect_code(peer), 0x82);
    hang_up(peer);
    end();
}

static void without_keys_nobody_is_judged(void)
{
    begin();
    struct sp_view body;
    struct sp_mqtt_publish got;
    struct peer *in = admitted("dev2", sensor_name);
    struct peer *guest = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(guest, SP_MQTT_5);
    say_connect(guest, &packet);
    SP_CHECK_INT(hear(guest, &body).type, SP_MQTT_AUTH);
    sp_home_keys_lost(&w->home);
    turn();
    SP_CHECK_INT(connack_code(guest), 0x88);
    hang_up(guest);
    guest = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    packet = hello(guest, SP_MQTT_311);
    say_connect(guest, &packet);
    SP_CHECK_INT(connack_code(guest), 3);
    hang_up(guest);
    SP_CHECK(!in->closed && !hear_publish(in, &got));
    hang_up(in);
    end();
}

static void a_device_that_takes_no_challenge_does_not_keep_its_rights(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted("dev1", sensor_name);
    sp_home_reattest(&w->home);
    give_nonce(peer);
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "$sp/attest/challenge"));
    say_publish(peer, "$sp/attest/token", "token", 0, 0); /* and never a PUBACK */
    judge(peer, SP_ATTEST_OK);
    SP_CHECK(hear_publish(peer, &got) && hear_publish(peer, &got));
    sp_home_reattest(&w->home);
    give_nonce(peer);
    SP_CHECK(!hear_publish(peer, &got));
    pass(9999);
    SP_CHECK(!peer->closed);
    pass(1);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "timeout: no room for the challenge"));
    SP_CHECK_INT(disconnect_code(peer), 0x87);
    hang_up(peer);
    end();
}

static void an_answer_to_a_challenge_that_keys_has_forgotten_is_not_held_against_its_device(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted("dev1", sensor_name);
    sp_home_reattest(&w->home);
    give_nonce(peer);
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "$sp/attest/challenge"));
    say_puback(peer, got.packet_id);
    sp_home_keys_lost(&w->home);
    w->home.keys = (struct sp_edge){post, &w->keys};
    w->keys.count = 0;
    say_publish(peer, "$sp/attest/token", "token", 0, 0);
    SP_CHECK(!peer->closed && last(&w->keys, SP_MSG_APPRAISE) == NULL);
    pass(10000);
    SP_CHECK(last(&w->keys, SP_MSG_NONCE) != NULL);
    give_nonce(peer);
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "$sp/attest/challenge"));
    say_publish(peer, "$sp/attest/token", "token", 0, 0);
    judge(peer, SP_ATTEST_OK);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "ok"));
    hang_up(peer);
    /* Nor is one challenged with a nonce of the keys process before. */
    peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    sp_home_keys_lost(&w->home);
    w->home.keys = (struct sp_edge){post, &w->keys};
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0x88);
    hang_up(peer);
    end();
}

static void a_device_that_keys_will_not_judge_now_is_told_0x97(void)
{
    begin();
    struct sp_msg_psk_answer answer = {.known = 1, .row = {.attestation = SP_ATTESTATION_REQUIRED}};
    strcpy(answer.row.role, sensor_name);
    struct peer *peer = dial_as("dev1", &answer);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0x97);
    hang_up(peer);
    end();
}

/* ---- CONNECT ---- */

struct refused {
    const char *name;
    enum sp_mqtt_version version;
    enum sp_attestation_mode mode;
    const char *client_id;
    const char *method;
    const char *will;
    bool will_retain;
    uint8_t will_qos;
    bool clean;
    unsigned code;
};

static const struct refused refusals[] = {
    {"id of another", SP_MQTT_5, SP_ATTESTATION_REQUIRED, "dev2", "sp-psa-iat-1", NULL, false, 0,
     true, 0x85},
    {"id of another, 3.1.1", SP_MQTT_311, SP_ATTESTATION_REQUIRED, "dev2", NULL, NULL, false, 0,
     true, 2},
    {"empty id without clean session", SP_MQTT_311, SP_ATTESTATION_NONE, "", NULL, NULL, false, 0,
     false, 2},
    {"no method", SP_MQTT_5, SP_ATTESTATION_REQUIRED, "dev1", NULL, NULL, false, 0, true, 0x8C},
    {"unknown method", SP_MQTT_5, SP_ATTESTATION_REQUIRED, "dev1", "x", NULL, false, 0, true, 0x8C},
    {"other binding's method", SP_MQTT_5, SP_ATTESTATION_REQUIRED, "dev1", "sp-psa-iat-raw-1", NULL,
     false, 0, true, 0x8C},
    {"method where none is wanted", SP_MQTT_5, SP_ATTESTATION_NONE, "dev1", "sp-psa-iat-1", NULL,
     false, 0, true, 0x8C},
    {"wrong method, optional", SP_MQTT_5, SP_ATTESTATION_OPTIONAL, "dev1", "x", NULL, false, 0,
     true, 0x8C},
    {"will elsewhere", SP_MQTT_5, SP_ATTESTATION_NONE, "dev1", NULL, "dt/dev2/x", false, 0, true,
     0x87},
    {"will elsewhere, 3.1.1", SP_MQTT_311, SP_ATTESTATION_NONE, "dev1", NULL, "x", false, 0, true,
     5},
    {"will as a record", SP_MQTT_5, SP_ATTESTATION_NONE, "dev1", NULL, "dt/dev1/climate", false, 0,
     true, 0x87},
    {"retained will", SP_MQTT_5, SP_ATTESTATION_NONE, "dev1", NULL, "dt/dev1/x", true, 0, true,
     0x87},
    {"will under $sp", SP_MQTT_5, SP_ATTESTATION_NONE, "dev1", NULL, "$sp/x", false, 0, true, 0x87},
};

static void every_connect_that_may_not_be_has_its_code(void)
{
    begin();
    for (size_t i = 0; i < sizeof(refusals) / sizeof(refusals[0]); i++) {
        const struct refused *c = &refusals[i];
        struct peer *peer = dial("dev1", sensor_name, c->mode);
        struct sp_mqtt_connect packet = hello(peer, c->version);
        packet.client_id = sp_view_str(c->client_id);
        packet.clean_start = c->clean;
        packet.props.present = 0;
        if (c->method != NULL) {
            packet.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD);
            packet.props.auth_method = sp_view_str(c->method);
        }
        if (c->will != NULL) {
            packet.will = (struct sp_mqtt_will){.present = true,
                                                .retain = c->will_retain,
                                                .qos = c->will_qos,
                                                .topic = sp_view_str(c->will)};
        }
        say_connect(peer, &packet);
        unsigned code = connack_code(peer);
        SP_CHECK_CASE(code == c->code, c->name);
        SP_CHECK_CASE(peer->closed && peer->len == 0, c->name);
        hang_up(peer);
        SP_CHECK_CASE(w->home.devices.count == 0, c->name);
    }
    end();
}

static void versions_that_are_not_spoken_are_refused_in_their_own_words(void)
{
    begin();
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_NONE);
    peer->version = SP_MQTT_5;
    sp_client_input(&peer->client, SP_VIEW_LIT("\x10\x0D\x00\x04MQTT\x06\x02\x00\x00\x00\x00\x00"));
    turn();
    SP_CHECK_INT(connack_code(peer), 0x84);
    hang_up(peer);
    peer = dial("dev1", sensor_name, SP_ATTESTATION_NONE);
    peer->version = SP_MQTT_311;
    sp_client_input(&peer->client, SP_VIEW_LIT("\x10\x0E\x00\x06MQIsdp\x03\x02\x00\x00\x00\x00"));
    turn();
    SP_CHECK_INT(connack_code(peer), 1);
    hang_up(peer);
    peer = dial("dev1", sensor_name, SP_ATTESTATION_NONE);
    sp_client_input(&peer->client, SP_VIEW_LIT("GET / HTTP/1.1\r\n\r\n"));
    turn();
    SP_CHECK(peer->closed && peer->len == 0);
    hang_up(peer);
    end();
}

static void a_second_connect_is_a_protocol_error(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    say_connect(peer, &packet);
    SP_CHECK_INT(disconnect_code(peer), 0x82);
    hang_up(peer);
    end();
}

static void silence_beyond_one_and_a_half_keep_alives_is_0x8d(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    pass(89000);
    sp_client_input(&peer->client, SP_VIEW_LIT("\xC0\x00"));
    turn();
    struct sp_view body;
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PINGRESP);
    pass(89999);
    SP_CHECK(!peer->closed);
    pass(1);
    SP_CHECK_INT(disconnect_code(peer), 0x8D);
    hang_up(peer);
    end();
}

static void no_keep_alive_means_ours(struct sp_mqtt_connect *packet)
{
    packet->keep_alive = 0;
}

static void a_client_without_keep_alive_gets_the_servers(void)
{
    begin();
    struct sp_mqtt_connack connack;
    struct peer *peer = dial("dev1", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    no_keep_alive_means_ours(&packet);
    say_connect(peer, &packet);
    SP_CHECK_INT(hear_connack(peer, &connack), 0);
    SP_CHECK_INT(connack.props.server_keep_alive, 1800);
    pass(1800 * 1500);
    SP_CHECK(peer->closed);
    hang_up(peer);
    end();
}

/* ---- messages ---- */

static void a_qos_1_message_is_acknowledged_only_when_it_is_durable(void)
{
    begin();
    struct sp_msg_record record;
    struct peer *peer = admitted("dev1", sensor_name);
    say_publish(peer, "dt/dev1/x", "one", 1, 5);
    say_publish(peer, "dt/dev1/x", "two", 1, 6);
    SP_CHECK_INT(peer->len, 0);
    const struct posted *append = last(&w->store, SP_MSG_APPEND);
    SP_CHECK(append != NULL && append->tag == 1);
    if (append != NULL) {
        memcpy(&record, append->body, sizeof(record));
        SP_CHECK_INT(record.ticket, 2);
        SP_CHECK_INT(record.flags, SP_RECORD_ATTESTED);
        SP_CHECK_INT(record.time_ms, 1700000000000);
        struct sp_view rest = sp_view_from(sp_view(append->body, append->len), sizeof(record));
        SP_CHECK(is(rest, "dev1up/gw-1/dev1/xdt/dev1/xtwo"));
    }
    durable(1, SP_OK);
    SP_CHECK_INT(puback(peer, 5), 0);
    SP_CHECK_INT(peer->len, 0);
    durable(2, SP_ERR_SPACE);
    SP_CHECK_INT(puback(peer, 6), 0x97);
    hang_up(peer);
    end();
}

static void say_pubrel(struct peer *peer, uint16_t id)
{
    uint8_t buf[16];
    struct sp_writer out;
    const struct sp_mqtt_ack ack = {.packet_id = id};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_ack(&out, peer->version, SP_MQTT_PUBREL, &ack);
    say(peer, &out);
}

/* The reason of the next packet, which has to be `type` for `id`; 999: it is not. */
static unsigned answer(struct peer *peer, enum sp_mqtt_type type, uint16_t id)
{
    struct sp_view body;
    struct sp_mqtt_ack ack;
    struct sp_mqtt_header header = hear(peer, &body);
    bool good = header.type == type &&
                sp_mqtt_decode_ack(peer->version, type, body, &ack) == SP_OK && ack.packet_id == id;
    return good ? ack.reason : 999;
}

static void a_qos_2_message_and_its_release_are_answered_only_when_they_are_durable(void)
{
    begin();
    struct sp_msg_record record;
    struct peer *peer = admitted("dev1", sensor_name);
    say_publish(peer, "dt/dev1/x", "one", 2, 5);
    SP_CHECK_INT(peer->len, 0);
    const struct posted *append = last(&w->store, SP_MSG_APPEND);
    SP_CHECK(append != NULL);
    memcpy(&record, append->body, sizeof(record));
    SP_CHECK(record.packet_id == 5 && record.qos == 1 && record.flags == SP_RECORD_ATTESTED);
    durable(1, SP_OK);
    SP_CHECK_INT(answer(peer, SP_MQTT_PUBREC, 5), 0);
    SP_CHECK_INT(sp_client_now(&peer->client)->unreleased, 1);
    say_pubrel(peer, 5);
    SP_CHECK_INT(peer->len, 0);
    append = last(&w->store, SP_MSG_APPEND);
    memcpy(&record, append->body, sizeof(record));
    SP_CHECK(record.packet_id == 5 && record.flags == SP_RECORD_RELEASE && record.ticket == 2);
    SP_CHECK(record.topic_len == 0 && record.payload_len == 0);
    durable(2, SP_OK);
    SP_CHECK_INT(answer(peer, SP_MQTT_PUBCOMP, 5), 0);
    SP_CHECK_INT(sp_client_now(&peer->client)->unreleased, 0);
    hang_up(peer);
    end();
}

static void a_qos_2_message_that_cannot_be_stored_is_refused_and_its_release_closes(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    say_publish(peer, "dt/dev1/x", "one", 2, 5);
    durable(1, SP_ERR_SPACE);
    SP_CHECK_INT(answer(peer, SP_MQTT_PUBREC, 5), 0x97);
    SP_CHECK_INT(sp_client_now(&peer->client)->unreleased, 0);
    say_publish(peer, "cmd/dev1/x", "denied", 2, 6);
    SP_CHECK_INT(answer(peer, SP_MQTT_PUBREC, 6), 0x87);
    say_pubrel(peer, 7);
    durable(2, SP_ERR_IO);
    SP_CHECK_INT(disconnect_code(peer), 0x89);
    hang_up(peer);
    end();
}

static void messages_without_their_release_count_against_receive_maximum(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    uint16_t most = peer->client.receive_maximum;
    for (uint16_t id = 1; id <= most; id++) {
        say_publish(peer, "dt/dev1/x", "one", 2, id);
        durable(id, SP_OK);
        SP_CHECK_INT(answer(peer, SP_MQTT_PUBREC, id), 0);
    }
    say_publish(peer, "dt/dev1/x", "one more", 2, (uint16_t)(most + 1));
    SP_CHECK_INT(disconnect_code(peer), 0x93);
    hang_up(peer);
    end();
}

static void acks_keep_the_order_of_their_messages(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    say_publish(peer, "dt/dev1/x", "stored", 1, 1);
    say_publish(peer, "cmd/dev1/x", "denied", 1, 2);
    SP_CHECK_INT(peer->len, 0);
    durable(1, SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    SP_CHECK_INT(puback(peer, 2), 0x87);
    say_publish(peer, "cmd/dev1/x", "denied", 1, 3);
    SP_CHECK_INT(puback(peer, 3), 0x87);
    hang_up(peer);
    end();
}

static void what_cannot_be_stored_is_not_acknowledged(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    struct peer *old = tool("dev2", true);
    w->home.tickets.pressure = 1;
    say_publish(peer, "dt/dev1/x", "still taken", 1, 1);
    durable(1, SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    w->home.tickets.pressure = 2;
    say_publish(peer, "dt/dev1/x", "full", 1, 2);
    SP_CHECK_INT(puback(peer, 2), 0x97);
    w->home.tickets.pressure = 0;
    say_publish(peer, "dt/dev1/x", "lost store", 1, 3);
    sp_tickets_lost(&w->home);
    turn();
    SP_CHECK_INT(puback(peer, 3), 0x97);
    say_publish(peer, "dt/dev1/x", "no store", 1, 4);
    SP_CHECK_INT(puback(peer, 4), 0x97);
    say_publish(old, "dt/dev2/x", "no store", 1, 4);
    say_publish(old, "dt/dev2/x", "not read any more", 1, 5);
    SP_CHECK(old->client.paused && !old->closed && old->len == 0);
    pass(10000);
    SP_CHECK(old->closed && old->len == 0);
    hang_up(old);
    hang_up(peer);
    end();
}

static void a_311_client_is_held_back_and_a_5_client_is_told_0x93(void)
{
    begin();
    struct peer *old = tool("dev2", true);
    for (uint16_t i = 1; i <= 6; i++) {
        say_publish(old, "dt/dev2/x", "m", 1, i);
    }
    SP_CHECK(old->client.paused);
    durable(4, SP_OK);
    for (uint16_t i = 1; i <= 4; i++) {
        SP_CHECK_INT(puback(old, i), 0);
    }
    durable(6, SP_OK);
    SP_CHECK_INT(puback(old, 5), 0);
    SP_CHECK_INT(puback(old, 6), 0);
    SP_CHECK(!old->client.paused);
    hang_up(old);
    struct peer *peer = admitted("dev1", sensor_name);
    for (uint16_t i = 1; i <= 5; i++) {
        say_publish(peer, "dt/dev1/x", "m", 1, i);
    }
    SP_CHECK_INT(disconnect_code(peer), 0x93);
    hang_up(peer);
    end();
}

static const char good_record[] = "\x81\xA4\x21\x65"
                                  "dev1/\x00\x6Btemperature\x01\x63"
                                  "Cel\x02\x17";

static void say_record(struct peer *peer, struct sp_view payload, uint16_t id)
{
    uint8_t buf[256];
    struct sp_writer out;
    const struct sp_mqtt_publish packet = {.qos = id == 0 ? 0 : 1,
                                           .packet_id = id,
                                           .topic = SP_VIEW_LIT("dt/dev1/climate"),
                                           .payload = payload};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_publish(&out, peer->version, &packet);
    say(peer, &out);
}

static void records_reach_a_monitor_as_published_and_bad_ones_reach_nobody(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct sp_view good = sp_view(good_record, sizeof(good_record) - 1);
    struct peer *monitor = admitted("mon", monitor_name);
    struct peer *peer = admitted("dev1", sensor_name);
    SP_CHECK_INT(subscribe(monitor, "dt/+/climate", 0), 0);
    say_record(peer, good, 1);
    SP_CHECK(hear_publish(monitor, &got) && got.qos == 0 && sp_view_equal(got.payload, good));
    SP_CHECK(is(got.topic, "dt/dev1/climate"));
    durable(1, SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    w->store.count = 0;
    say_record(peer, SP_VIEW_LIT("23.5"), 2);
    SP_CHECK_INT(puback(peer, 2), 0x99);
    say_record(peer, SP_VIEW_LIT("\xD0\x83\x40\xA0\x40"), 3);
    SP_CHECK_INT(puback(peer, 3), 0x99);
    say_record(peer, SP_VIEW_LIT("\x81\xA0"), 0);
    SP_CHECK(peer->len == 0 && !peer->closed);
    peer->client.records = SP_RECORDS_SEALED;
    say_record(peer, good, 4);
    SP_CHECK_INT(puback(peer, 4), 0x99);
    SP_CHECK(!hear_publish(monitor, &got) && w->store.count == 0);
    hang_up(peer);
    hang_up(monitor);
    end();
}

static struct sp_msg_record last_appended(void)
{
    struct sp_msg_record record = {0};
    const struct posted *append = last(&w->store, SP_MSG_APPEND);
    SP_CHECK(append != NULL);
    if (append != NULL) {
        memcpy(&record, append->body, sizeof(record));
    }
    return record;
}

static void a_3_1_1_message_is_chained_to_the_one_before_that_is_not_answered(void)
{
    begin();
    struct peer *old = tool("dev2", true);
    struct peer *peer = admitted("dev1", sensor_name);
    say_publish(old, "dt/dev2/x", "alone", 1, 1);
    SP_CHECK(last_appended().ticket == 1 && last_appended().after == 0);
    say_publish(peer, "dt/dev1/x", "another device", 1, 1);
    SP_CHECK(last_appended().ticket == 2 && last_appended().after == 0);
    say_publish(old, "dt/dev2/x", "behind it", 1, 2);
    SP_CHECK(last_appended().ticket == 3 && last_appended().after == 1);
    say_publish(peer, "dt/dev1/x", "5 is told of a refusal", 1, 2);
    SP_CHECK(last_appended().ticket == 4 && last_appended().after == 0);
    durable(4, SP_OK);
    say_publish(old, "dt/dev2/x", "all is answered", 1, 3);
    SP_CHECK(last_appended().ticket == 5 && last_appended().after == 0);
    hang_up(old);
    hang_up(peer);
    end();
}

static void a_bad_record_over_3_1_1_is_acknowledged_once_it_is_a_dead_letter(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *monitor = admitted("mon", monitor_name);
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0);
    SP_CHECK_INT(subscribe(monitor, "dt/+/climate", 0), 0);
    say_record(peer, SP_VIEW_LIT("23.5"), 1);
    SP_CHECK_INT(peer->len, 0);
    struct sp_msg_record record = last_appended();
    SP_CHECK(record.flags == SP_RECORD_REFUSED && record.refusal == SP_REFUSAL_FORM);
    SP_CHECK(record.ticket == 1 && record.qos == 1 && record.packet_id == 0);
    durable(1, SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    say_record(peer, SP_VIEW_LIT("\x81\xA0"), 0);
    say_publish(peer, "dt/dev1/climate", "23.5", 2, 7);
    record = last_appended();
    SP_CHECK(record.ticket == 2 && record.packet_id == 7);
    durable(2, SP_OK);
    SP_CHECK_INT(answer(peer, SP_MQTT_PUBREC, 7), 0);
    say_record(peer, SP_VIEW_LIT("\x81\xA0"), 3);
    SP_CHECK_INT(last_appended().refusal, SP_REFUSAL_CONTENT);
    durable(3, SP_ERR_SPACE); /* nothing is acknowledged that is not kept */
    SP_CHECK(peer->len == 0 && !peer->closed && !hear_publish(monitor, &got));
    pass(10001);
    SP_CHECK(peer->closed);
    hang_up(peer);
    hang_up(monitor);
    end();
}

struct misuse {
    const char *name;
    const char *bytes;
    size_t len;
    unsigned code;
};

#define MISUSE(name, bytes, code)            \
    {                                        \
        name, bytes, sizeof(bytes) - 1, code \
    }

static void an_admitted_device_that_breaks_a_rule_gets_its_code(void)
{
    static const struct misuse cases[] = {
        MISUSE("retain",
               "\x31\x05\x00\x02"
               "dt\x00",
               0x9A),
        MISUSE("alias",
               "\x30\x08\x00\x02"
               "dt\x03\x23\x00\x01",
               0x94),
        MISUSE("subscription id in PUBLISH",
               "\x30\x07\x00\x02"
               "dt\x02\x0B\x01",
               0x82),
        MISUSE("empty topic", "\x30\x03\x00\x00\x00", 0x82),
        MISUSE("PUBREL with id 0", "\x62\x02\x00\x00", 0x82),
        MISUSE("CONNACK", "\x20\x03\x00\x00\x00", 0x82),
        MISUSE("type 0", "\x00\x00", 0x81),
        MISUSE("too large", "\x30\xFF\xFF\xFF\x7F", 0x95),
        MISUSE("too large by one, with its header", "\x30\xFE\x7F", 0x95),
        MISUSE("overlong length", "\xC0\x80\x00", 0x81),
        MISUSE("wildcard topic",
               "\x30\x05\x00\x02"
               "a#\x00",
               0x90),
        MISUSE("many user properties",
               "\x30\x19\x00\x02"
               "dt\x14\x26\x00\x01"
               "a\x00\x00\x26\x00\x01"
               "b\x00\x00\x26\x00\x01"
               "c\x00\x00\x01\x00",
               0x97),
    };
    begin();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct peer *peer = admitted("dev1", sensor_name);
        sp_client_input(&peer->client, sp_view(cases[i].bytes, cases[i].len));
        turn();
        unsigned code = disconnect_code(peer);
        if (code != cases[i].code) {
            printf("%s gave 0x%X\n", cases[i].name, code);
        }
        SP_CHECK_CASE(code == cases[i].code && peer->closed, cases[i].name);
        hang_up(peer);
    }
    SP_CHECK(last(&w->store, SP_MSG_APPEND) == NULL);
    end();
}

static void a_device_publishes_and_subscribes_only_where_it_may(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 2), 2);
    SP_CHECK_INT(subscribe(peer, "cmd/dev2/#", 1), 0x87);
    SP_CHECK_INT(subscribe(peer, "#", 1), 0x87);
    SP_CHECK_INT(subscribe(peer, "$share/g/cmd/dev1/#", 1), 0x9E);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/1/2/3/4/5/6/7", 1), 0x8F);
    say_publish(peer, "dt/dev2/x", "m", 1, 1);
    SP_CHECK_INT(puback(peer, 1), 0x87);
    say_publish(peer, "$SYS/x", "m", 1, 2);
    SP_CHECK_INT(puback(peer, 2), 0x87);
    say_publish(peer, "dt/dev2/x", "m", 0, 0);
    SP_CHECK(peer->len == 0 && !peer->closed);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/a", 0), 0);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/b", 0), 0);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/c", 0), 0);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/d", 0), 0x97);
    hang_up(peer);
    struct peer *old = tool("dev2", true);
    SP_CHECK_INT(subscribe(old, "$SYS/#", 1), 0x80);
    SP_CHECK_INT(subscribe(old, "$share/g/$sp/a", 1), 0x80);
    say_publish(old, "dt/dev1/climate", "forged", 0, 0);
    SP_CHECK(old->closed);
    hang_up(old);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) == NULL);
    end();
}

static void a_command_from_the_cloud_reaches_its_device(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted("dev1", sensor_name);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 1), 1);
    sp_route_command(&w->home, SP_VIEW_LIT("down/dev1/go"), SP_VIEW_LIT("now"), 1, 5);
    turn();
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "cmd/dev1/go") && is(got.payload, "now"));
    SP_CHECK_INT(got.qos, 1);
    say_puback(peer, got.packet_id);
    SP_CHECK_INT(sp_session_queue(sp_client_session(&peer->client))->in_flight, 0);
    sp_route_command(&w->home, SP_VIEW_LIT("down/dev2/go"), SP_VIEW_LIT("now"), 1, 5);
    sp_route_command(&w->home, SP_VIEW_LIT("elsewhere"), SP_VIEW_LIT("now"), 1, 5);
    turn();
    SP_CHECK(!hear_publish(peer, &got));
    say_filters(peer, SP_MQTT_UNSUBSCRIBE, "cmd/dev1/#", 0);
    struct sp_view body;
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_UNSUBACK);
    sp_route_command(&w->home, SP_VIEW_LIT("down/dev1/go"), SP_VIEW_LIT("now"), 1, 5);
    turn();
    SP_CHECK(!hear_publish(peer, &got));
    hang_up(peer);
    end();
}

static void ask_for_an_hour(struct sp_mqtt_connect *packet)
{
    packet->clean_start = false;
    packet->props.present |=
        (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY) | SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM));
    packet->props.session_expiry = 3600;
    packet->props.receive_maximum = 2;
}

static void command(const char *payload)
{
    sp_route_command(&w->home, SP_VIEW_LIT("down/dev1/go"), sp_view_str(payload), 1, 5);
    turn();
}

static void a_resumed_session_gets_what_it_missed_and_what_it_did_not_acknowledge(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct sp_mqtt_connack connack;
    struct peer *peer = admitted_with("dev1", sensor_name, ask_for_an_hour);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 1), 1);
    command("1");
    command("2");
    command("3");
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "1"));
    uint16_t first = got.packet_id;
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "2"));
    SP_CHECK(!hear_publish(peer, &got)); /* the peer's Receive Maximum */
    hang_up(peer);
    command("4");
    pass(599000);
    peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    ask_for_an_hour(&packet);
    present_token(peer, &packet);
    judge(peer, SP_ATTEST_OK);
    SP_CHECK_INT(hear_connack(peer, &connack), 0);
    SP_CHECK(connack.session_present && connack.props.session_expiry == 600);
    SP_CHECK(hear_publish(peer, &got) && got.dup && got.packet_id == first && is(got.payload, "1"));
    SP_CHECK(hear_publish(peer, &got) && got.dup && is(got.payload, "2"));
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, "$sp/time"));
    say_puback(peer, first);
    SP_CHECK(hear_publish(peer, &got) && !got.dup && is(got.payload, "3"));
    say_puback(peer, 0x1234); /* never sent: changes nothing */
    SP_CHECK(!hear_publish(peer, &got));
    say_puback(peer, got.packet_id == 0 ? 3 : got.packet_id);
    hang_up(peer);
    pass(600000);
    SP_CHECK_INT(w->home.devices.count, 0);
    end();
}

static void a_clean_start_ends_the_session_and_a_full_queue_drops(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted_with("dev1", sensor_name, ask_for_an_hour);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 1), 1);
    hang_up(peer);
    for (int i = 0; i < 100; i++) {
        command("a message of a certain length");
    }
    const struct sp_device *device = sp_device_find(&w->home, SP_VIEW_LIT("dev1"));
    SP_CHECK(device != NULL && sp_session_queue(sp_device_session(device))->bytes <=
                                   config.limits.session_queue_bytes);
    SP_CHECK(device != NULL && sp_session_queue(sp_device_session(device))->bytes > 1000);
    peer = admitted("dev1", sensor_name);
    SP_CHECK(!hear_publish(peer, &got));
    command("nobody subscribed");
    SP_CHECK(!hear_publish(peer, &got));
    hang_up(peer);
    SP_CHECK_INT(w->home.devices.count, 0);
    end();
}

static void what_waits_for_all_sessions_together_has_a_bound(void)
{
    begin();
    uint64_t usual = config.limits.session_queues_bytes;
    config.limits.session_queues_bytes = 1000;
    struct peer *peer = admitted_with("dev1", sensor_name, ask_for_an_hour);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 1), 1);
    hang_up(peer);
    for (int i = 0; i < 100; i++) {
        command("a message of a certain length");
    }
    const struct sp_device *device = sp_device_find(&w->home, SP_VIEW_LIT("dev1"));
    SP_CHECK(w->home.queued > 500 && w->home.queued <= 1000);
    SP_CHECK(device != NULL &&
             sp_session_queue(sp_device_session(device))->bytes == w->home.queued);
    config.limits.session_queues_bytes = usual;
    peer = admitted("dev1", sensor_name);
    SP_CHECK_INT((long)w->home.queued, 0);
    hang_up(peer);
    end();
}

static void a_311_session_without_clean_session_is_kept(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct sp_mqtt_connack connack;
    struct peer *peer = tool("t1", false);
    struct peer *other = tool("t2", true);
    SP_CHECK_INT(subscribe(peer, "news/#", 1), 1);
    disconnect(peer, 0);
    hang_up(peer);
    say_publish(other, "news/a", "1", 1, 1);
    SP_CHECK_INT(puback(other, 1), 0);
    say_publish(other, "news/a", "qos 0 is not kept", 0, 0);
    peer = dial("t1", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    packet.clean_start = false;
    say_connect(peer, &packet);
    SP_CHECK_INT(hear_connack(peer, &connack), 0);
    SP_CHECK(connack.session_present);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "1") && !got.dup);
    SP_CHECK(!hear_publish(peer, &got));
    hang_up(peer);
    hang_up(other);
    end();
}

static void a_session_that_ends_with_the_old_connection_is_not_promised_to_the_new_one(void)
{
    begin();
    struct sp_mqtt_connack connack;
    struct peer *old = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(old, SP_MQTT_311);
    say_connect(old, &packet);
    say_publish(old, "$sp/attest/token", "token", 0, 0);
    judge(old, SP_ATTEST_OK);
    SP_CHECK(sp_client_session(&old->client) != NULL);
    struct peer *peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    packet = hello(peer, SP_MQTT_311);
    packet.clean_start = false;
    say_connect(peer, &packet);
    SP_CHECK_INT(hear_connack(peer, &connack), 0);
    SP_CHECK(!connack.session_present);
    hang_up(peer);
    hang_up(old);
    end();
}

static void what_one_turn_hands_to_the_store_is_bounded(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    w->home.tickets.taken = (16U << 20) - 1;
    say_publish(peer, "dt/dev1/x", "m", 1, 1);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) != NULL);
    w->store.count = 0;
    say_publish(peer, "dt/dev1/x", "m", 0, 0);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) == NULL);
    w->home.tickets.taken = 0; /* the owner's next turn */
    say_publish(peer, "dt/dev1/x", "m", 0, 0);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) != NULL);
    hang_up(peer);
    end();
}

static void qos_0_does_not_take_the_room_of_what_waits_for_an_answer(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    w->home.tickets.waiting = 5U << 20;
    w->home.tickets.taken = 3U << 20;
    say_publish(peer, "dt/dev1/x", "m", 0, 0);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) == NULL);
    say_publish(peer, "dt/dev1/x", "m", 1, 1);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) != NULL);
    w->store.count = 0;
    w->home.tickets.waiting = 4U << 20;
    say_publish(peer, "dt/dev1/x", "m", 0, 0);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) != NULL);
    w->home.tickets.waiting = (16U << 20) + 1U;
    w->store.count = 0;
    say_publish(peer, "dt/dev1/x", "m", 1, 2);
    SP_CHECK(last(&w->store, SP_MSG_APPEND) == NULL);
    hang_up(peer);
    end();
}

/* ---- wills, take-over, revocation ---- */

static void leave_a_will(struct sp_mqtt_connect *packet)
{
    packet->will = (struct sp_mqtt_will){.present = true,
                                         .qos = 1,
                                         .topic = SP_VIEW_LIT("dt/dev1/status"),
                                         .payload = SP_VIEW_LIT("gone")};
}

static void leave_a_late_will(struct sp_mqtt_connect *packet)
{
    leave_a_will(packet);
    ask_for_an_hour(packet);
    packet->will.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_WILL_DELAY);
    packet->will.props.will_delay = 30;
}

static bool will_was_stored(void)
{
    turn();
    bool stored = last(&w->store, SP_MSG_APPEND) != NULL;
    w->store.count = 0;
    return stored;
}

static void a_will_is_published_when_its_device_is_lost_and_only_then(void)
{
    begin();
    hang_up(admitted_with("dev1", sensor_name, leave_a_will));
    SP_CHECK(will_was_stored());

    struct peer *peer = admitted_with("dev1", sensor_name, leave_a_will);
    disconnect(peer, 0);
    hang_up(peer);
    SP_CHECK(!will_was_stored());

    peer = admitted_with("dev1", sensor_name, leave_a_will);
    disconnect(peer, SP_MQTT_RC_DISCONNECT_WITH_WILL);
    hang_up(peer);
    SP_CHECK(will_was_stored());

    peer = dial("dev1", sensor_name, SP_ATTESTATION_REQUIRED);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    leave_a_will(&packet);
    present_token(peer, &packet);
    hang_up(peer);
    SP_CHECK(!will_was_stored()); /* a guest's */

    peer = admitted_with("dev1", sensor_name, leave_a_will);
    sp_home_revoke(&w->home, SP_VIEW_LIT("dev1"), 0);
    SP_CHECK(!will_was_stored());
    SP_CHECK_INT(disconnect_code(peer), 0x98);
    hang_up(peer);
    end();
}

static void a_delayed_will_is_cancelled_by_the_return_of_its_device(void)
{
    begin();
    hang_up(admitted_with("dev1", sensor_name, leave_a_late_will));
    SP_CHECK(!will_was_stored());
    pass(29000);
    SP_CHECK(!will_was_stored());
    struct peer *peer = admitted_with("dev1", sensor_name, leave_a_late_will);
    pass(2000);
    SP_CHECK(!will_was_stored());
    hang_up(peer);
    pass(30000);
    SP_CHECK(will_was_stored());
    end();
}

static void a_revoked_device_is_closed_at_once_with_its_session(void)
{
    begin();
    struct peer *other = admitted("dev2", sensor_name);
    struct peer *peer = admitted_with("dev1", sensor_name, ask_for_an_hour);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 1), 1);
    sp_home_revoke(&w->home, SP_VIEW_LIT("dev1"), 0);
    turn();
    SP_CHECK_INT(disconnect_code(peer), 0x98);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("dev1")) == NULL);
    SP_CHECK_INT(sp_subs_size(w->home.subs), 0);
    SP_CHECK(!other->closed);
    hang_up(peer);
    hang_up(admitted_with("dev1", sensor_name, ask_for_an_hour));
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("dev1")) != NULL);
    sp_home_revoke(&w->home, SP_VIEW_LIT("dev1"), 0);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("dev1")) == NULL);
    hang_up(other);
    end();
}

static void a_message_for_another_home_travels_as_one_parcel(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = tool("t1", true);
    SP_CHECK_INT(subscribe(peer, "a/b", 1), 1);
    /* The same home, seen from loop 1. */
    struct sp_mqtt_publish publish = {
        .qos = 1, .topic = SP_VIEW_LIT("a/b"), .payload = SP_VIEW_LIT("x")};
    w->home.index = 1;
    w->home.loops = 2;
    sp_route_local(&w->home, &publish, 0);
    w->home.index = 0;
    w->home.loops = 1;
    SP_CHECK(w->outboxes[0].first != NULL && w->outboxes[0].first == w->outboxes[0].last);
    if (w->outboxes[0].first != NULL) {
        w->outboxes[0].first->run(&w->home, w->outboxes[0].first);
    }
    turn();
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "x") && got.qos == 1);
    hang_up(peer);
    end();
}

static void offer_a_will(struct sp_mqtt_connect *packet)
{
    ask_for_an_hour(packet);
    packet->will = (struct sp_mqtt_will){.present = true,
                                         .qos = 1,
                                         .topic = SP_VIEW_LIT("dt/dev1/gone"),
                                         .payload = SP_VIEW_LIT("bye")};
}

static void a_new_configuration_drops_what_a_role_no_longer_allows_and_nothing_else(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted_with("dev1", monitor_name, offer_a_will);
    struct peer *watcher = admitted("watch", client_name);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 1), 1);
    SP_CHECK_INT(subscribe(peer, "dt/+/climate", 1), 1);
    SP_CHECK_INT(subscribe(watcher, "dt/dev1/gone", 1), 1);
    struct sp_role_config narrow[] = {roles[0], roles[1], roles[2]};
    narrow[1] = (struct sp_role_config){.name = monitor_name, .subscribe = sensor_subscribe};
    struct sp_config fresh = config;
    fresh.roles = narrow;
    fresh.limits.receive_maximum = 1;
    fresh.attestation.reattest_interval_s = 60;
    sp_home_configure(&w->home, &fresh);
    turn();
    SP_CHECK(!peer->closed && !watcher->closed);
    SP_CHECK_INT(sp_client_session(&peer->client)->sub_count, 1);
    SP_CHECK_INT(subscribe(peer, "dt/+/climate", 1), 0x87);
    command("still here");
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "still here"));
    say_publish(peer, "dt/dev1/x", "1", 1, 1);
    SP_CHECK_INT(puback(peer, 1), 0x87);
    say_publish(watcher, "dt/a/b", "1", 1, 1);
    say_publish(watcher, "dt/a/b", "2", 1, 2);
    SP_CHECK(!watcher->closed); /* its CONNACK said 4 */
    hang_up(peer);
    SP_CHECK(!hear_publish(watcher, &got)); /* the will is not allowed any more */
    size_t asked = w->keys.count;
    pass(61000);
    SP_CHECK(w->keys.count > asked && last(&w->keys, SP_MSG_NONCE) != NULL);
    sp_home_configure(&w->home, &config);
    hang_up(watcher);
    end();
}

static void whose_role_is_gone_is_closed_and_forgotten(void)
{
    begin();
    struct peer *here = admitted("dev1", monitor_name);
    struct peer *away = admitted_with("dev2", monitor_name, ask_for_an_hour);
    struct peer *other = admitted("dev3", sensor_name);
    struct peer *early = dial("dev4", monitor_name, SP_ATTESTATION_REQUIRED);
    SP_CHECK_INT(subscribe(away, "cmd/dev2/#", 1), 1);
    hang_up(away);
    struct sp_config fresh = config;
    fresh.role_count = 1;
    sp_home_configure(&w->home, &fresh);
    turn();
    SP_CHECK_INT(disconnect_code(here), 0x98);
    SP_CHECK(here->closed && early->closed && !other->closed);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("dev2")) == NULL);
    sp_home_configure(&w->home, &config); /* the closed ones are in the list still */
    hang_up(here);
    hang_up(early);
    hang_up(other);
    SP_CHECK_INT(w->home.devices.count, 0);
    end();
}

static void packets_may_come_byte_by_byte(void)
{
    begin();
    uint8_t buf[256];
    struct sp_writer out;
    struct peer *peer = dial("t1", client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_311);
    const struct sp_mqtt_publish publish = {
        .qos = 1, .packet_id = 1, .topic = SP_VIEW_LIT("a"), .payload = SP_VIEW_LIT("x")};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_connect(&out, &packet);
    sp_mqtt_encode_publish(&out, SP_MQTT_311, &publish);
    struct sp_view bytes = sp_writer_view(&out);
    for (size_t i = 0; i < bytes.len; i++) {
        sp_client_input(&peer->client, sp_view_first(sp_view_from(bytes, i), 1));
    }
    turn();
    SP_CHECK_INT(connack_code(peer), 0);
    SP_CHECK_INT(puback(peer, 1), 0);
    SP_CHECK(sp_client_in_flight(&peer->client) == NULL);
    hang_up(peer);
    end();
}

static void a_client_that_says_much_rests_until_the_next_turn(void)
{
    begin();
    uint8_t buf[300];
    struct peer *peer = tool("t1", false);
    for (size_t i = 0; i < sizeof(buf); i += 2) {
        buf[i] = 0xC0; /* PINGREQ: each is answered with two bytes */
        buf[i + 1] = 0;
    }
    size_t before = peer->len;
    const size_t answered[] = {128, 256, 300};
    sp_client_input(&peer->client, sp_view(buf, sizeof(buf)));
    for (size_t i = 0; i < 3; i++) {
        turn();
        SP_CHECK_INT((long)(peer->len - before), (long)answered[i]);
        SP_CHECK(sp_client_now(&peer->client)->resting == (i < 2));
        sp_client_rest(&peer->client);
        sp_client_wake_all(&w->home);
    }
    sp_client_input(&peer->client, sp_view(buf, sizeof(buf)));
    turn();
    sp_client_rest(&peer->client);
    hang_up(peer);
    SP_CHECK(w->home.resting == 0);
    end();
}

/* ---- more messages than its role may send ---- */

/* `count` QoS 0 messages in one input, then PINGREQ, and DISCONNECT with `leave`. */
static void shout(struct peer *peer, unsigned count, bool leave)
{
    uint8_t buf[16384];
    struct sp_writer out;
    const struct sp_mqtt_publish packet = {.topic = SP_VIEW_LIT("dt/dev1/x"),
                                           .payload = SP_VIEW_LIT("loud")};
    const struct sp_mqtt_reasoned bye = {.reason = 0};
    sp_writer_init(&out, buf, sizeof(buf));
    for (unsigned i = 0; i < count; i++) {
        sp_mqtt_encode_publish(&out, peer->version, &packet);
    }
    sp_mqtt_encode_ping(&out, SP_MQTT_PINGREQ);
    if (leave) {
        sp_mqtt_encode_reasoned(&out, peer->version, SP_MQTT_DISCONNECT, &bye);
    }
    say(peer, &out);
}

static unsigned heard(struct peer *listener)
{
    struct sp_mqtt_publish got;
    unsigned count = 0;
    while (hear_publish(listener, &got)) {
        count++;
    }
    return count;
}

static struct peer *listener_to_dev1(void)
{
    struct peer *listener = tool("t1", true);
    SP_CHECK_INT(subscribe(listener, "dt/dev1/#", 0), 0);
    return listener;
}

static void set_rate(uint32_t rate, uint32_t burst)
{
    roles[0].message_rate = rate;
    roles[0].message_burst = burst;
}

static int64_t count_slowed(void)
{
    if (sp_metrics_fd() < 0) {
        SP_CHECK_INT(sp_metrics_init(), SP_OK);
    }
    return sp_metric_read(SP_M_SLOWED);
}

static void who_publishes_too_much_is_held_back_but_neither_closed_nor_robbed(void)
{
    struct sp_view body;
    begin();
    set_rate(1, 3);
    struct peer *listener = listener_to_dev1();
    struct peer *peer = admitted("dev1", sensor_name);
    int64_t slowed = count_slowed();
    shout(peer, 200, true);
    SP_CHECK_INT(heard(listener), 3);
    SP_CHECK(!sp_client_reads(&peer->client));
    pass(999);
    SP_CHECK_INT(heard(listener), 0);
    for (int i = 0; i < 197;
         i++) { /* with a keep-alive of 60 s, it says nothing for longer than 90 s */
        pass(i == 0 ? 1 : 1000);
        SP_CHECK_INT(heard(listener), 1);
        SP_CHECK(!peer->closed && !sp_client_reads(&peer->client));
        say_puback(listener, 9); /* it is not slow; and its own keep-alive lasts */
    }
    SP_CHECK_INT(hear(peer, &body).type, 0);
    pass(1000);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PINGRESP);
    SP_CHECK(peer->closed);
    SP_CHECK_INT(count_slowed() - slowed, 1);
    hang_up(peer);
    hang_up(listener);
    set_rate(0, 0);
    end();
}

static void what_is_for_one_that_is_held_back_still_goes_out(void)
{
    struct sp_mqtt_publish got;
    begin();
    set_rate(1, 2);
    struct peer *peer = admitted("dev1", sensor_name);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 0), 0);
    say_publish(peer, "dt/dev1/x", "one", 1, 1);
    say_publish(peer, "dt/dev1/x", "two", 1, 2);
    say_publish(peer, "dt/dev1/x", "three", 1, 3);
    SP_CHECK(!sp_client_reads(&peer->client));
    sp_route_command(&w->home, SP_VIEW_LIT("down/dev1/x"), SP_VIEW_LIT("hello"), 0, 9);
    turn();
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "hello"));
    durable(2, SP_OK);
    SP_CHECK_INT(puback(peer, 1), 0);
    SP_CHECK_INT(puback(peer, 2), 0);
    SP_CHECK(!sp_client_reads(&peer->client)); /* nothing but time helps */
    pass(1000);
    durable(3, SP_OK);
    SP_CHECK_INT(puback(peer, 3), 0);
    hang_up(peer);
    set_rate(0, 0);
    end();
}

static void who_keeps_to_its_rate_is_never_held_back_and_costs_nothing_more(void)
{
    begin();
    set_rate(10, 2);
    struct peer *listener = listener_to_dev1();
    struct peer *peer = admitted("dev1", sensor_name);
    for (int i = 0; i < 100; i++) {
        say_publish(peer, "dt/dev1/x", "calm", 0, 0);
        SP_CHECK(sp_client_reads(&peer->client) && sp_client_in_flight(&peer->client) == NULL);
        pass(100);
    }
    SP_CHECK_INT(heard(listener), 100);
    pass(8000); /* not more than the burst comes together */
    shout(peer, 5, false);
    SP_CHECK_INT(heard(listener), 2);
    for (int i = 0; i < 3; i++) {
        pass(100);
        SP_CHECK_INT(heard(listener), 1);
    }
    hang_up(peer);
    hang_up(listener);
    set_rate(0, 0);
    end();
}

static void a_spell_of_being_held_back_ends_with_a_full_bucket_and_is_counted_once(void)
{
    begin();
    set_rate(10, 5);
    struct peer *peer = admitted("dev1", sensor_name);
    int64_t slowed = count_slowed();
    for (int i = 0; i < 3; i++) {
        shout(peer, 8, false);
        pass(300);
    }
    SP_CHECK_INT(count_slowed() - slowed, 1);
    pass(5000);
    shout(peer, 8, false);
    SP_CHECK_INT(count_slowed() - slowed, 2);
    hang_up(peer);
    set_rate(0, 0);
    end();
}

static void a_new_message_rate_holds_at_once(void)
{
    begin();
    set_rate(1, 1000);
    struct peer *listener = listener_to_dev1();
    struct peer *peer = admitted("dev1", sensor_name);
    w->home.config = &config;
    config.limits.turn_messages = 5000;
    shout(peer, 700, false);
    SP_CHECK_INT(heard(listener), 700);
    set_rate(10, 4); /* whatever it has published, it may send one */
    sp_home_configure(&w->home, &config);
    SP_CHECK(sp_client_reads(&peer->client));
    shout(peer, 4, false);
    SP_CHECK_INT(heard(listener), 1);
    pass(100);
    SP_CHECK_INT(heard(listener), 1);
    set_rate(0, 4);
    sp_home_configure(&w->home, &config);
    pass(1);
    SP_CHECK_INT(heard(listener), 2);
    SP_CHECK(sp_client_reads(&peer->client));
    shout(peer, 100, false);
    SP_CHECK_INT(heard(listener), 100);
    config.limits.turn_messages = 64;
    hang_up(peer);
    hang_up(listener);
    set_rate(0, 0);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(an_mqtt_5_device_is_challenged_judged_and_admitted),
    SP_TEST(a_refused_token_gives_0x87_with_the_check_and_closes),
    SP_TEST(bytes_that_come_before_the_verdict_are_never_excused),
    SP_TEST(an_auth_with_anything_wrong_in_it_is_0x82),
    SP_TEST(no_answer_in_time_is_a_refusal),
    SP_TEST(a_311_device_is_a_guest_until_its_token_is_judged),
    SP_TEST(a_311_guest_that_does_anything_else_is_closed),
    SP_TEST(a_guest_changes_nothing_and_a_second_guest_is_refused),
    SP_TEST(too_many_refused_tokens_have_to_wait_a_minute),
    SP_TEST(an_admitted_device_is_challenged_again_and_keeps_its_rights_until_it_fails),
    SP_TEST(an_unasked_token_and_auth_after_the_verdict_are_0x82),
    SP_TEST(without_keys_nobody_is_judged),
    SP_TEST(a_device_that_takes_no_challenge_does_not_keep_its_rights),
    SP_TEST(an_answer_to_a_challenge_that_keys_has_forgotten_is_not_held_against_its_device),
    SP_TEST(a_device_that_keys_will_not_judge_now_is_told_0x97),
    SP_TEST(every_connect_that_may_not_be_has_its_code),
    SP_TEST(versions_that_are_not_spoken_are_refused_in_their_own_words),
    SP_TEST(a_second_connect_is_a_protocol_error),
    SP_TEST(silence_beyond_one_and_a_half_keep_alives_is_0x8d),
    SP_TEST(a_client_without_keep_alive_gets_the_servers),
    SP_TEST(a_qos_1_message_is_acknowledged_only_when_it_is_durable),
    SP_TEST(a_qos_2_message_and_its_release_are_answered_only_when_they_are_durable),
    SP_TEST(a_qos_2_message_that_cannot_be_stored_is_refused_and_its_release_closes),
    SP_TEST(messages_without_their_release_count_against_receive_maximum),
    SP_TEST(acks_keep_the_order_of_their_messages),
    SP_TEST(what_cannot_be_stored_is_not_acknowledged),
    SP_TEST(a_311_client_is_held_back_and_a_5_client_is_told_0x93),
    SP_TEST(records_reach_a_monitor_as_published_and_bad_ones_reach_nobody),
    SP_TEST(a_3_1_1_message_is_chained_to_the_one_before_that_is_not_answered),
    SP_TEST(a_bad_record_over_3_1_1_is_acknowledged_once_it_is_a_dead_letter),
    SP_TEST(an_admitted_device_that_breaks_a_rule_gets_its_code),
    SP_TEST(a_device_publishes_and_subscribes_only_where_it_may),
    SP_TEST(a_command_from_the_cloud_reaches_its_device),
    SP_TEST(a_resumed_session_gets_what_it_missed_and_what_it_did_not_acknowledge),
    SP_TEST(a_clean_start_ends_the_session_and_a_full_queue_drops),
    SP_TEST(what_waits_for_all_sessions_together_has_a_bound),
    SP_TEST(a_311_session_without_clean_session_is_kept),
    SP_TEST(a_session_that_ends_with_the_old_connection_is_not_promised_to_the_new_one),
    SP_TEST(what_one_turn_hands_to_the_store_is_bounded),
    SP_TEST(qos_0_does_not_take_the_room_of_what_waits_for_an_answer),
    SP_TEST(a_will_is_published_when_its_device_is_lost_and_only_then),
    SP_TEST(a_delayed_will_is_cancelled_by_the_return_of_its_device),
    SP_TEST(a_revoked_device_is_closed_at_once_with_its_session),
    SP_TEST(a_message_for_another_home_travels_as_one_parcel),
    SP_TEST(a_new_configuration_drops_what_a_role_no_longer_allows_and_nothing_else),
    SP_TEST(whose_role_is_gone_is_closed_and_forgotten),
    SP_TEST(packets_may_come_byte_by_byte),
    SP_TEST(a_client_that_says_much_rests_until_the_next_turn),
    SP_TEST(who_publishes_too_much_is_held_back_but_neither_closed_nor_robbed),
    SP_TEST(what_is_for_one_that_is_held_back_still_goes_out),
    SP_TEST(who_keeps_to_its_rate_is_never_held_back_and_costs_nothing_more),
    SP_TEST(a_spell_of_being_held_back_ends_with_a_full_bucket_and_is_counted_once),
    SP_TEST(a_new_message_rate_holds_at_once),
};
SP_TEST_MAIN(tests)
