/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Challenges and verdicts when something is in the way of them. */
#include "gateway/gate/session/world_test.h"

static struct peer *guest_of(enum sp_link_binding binding, enum sp_mqtt_version version)
{
    struct sp_msg_psk_answer answer = {
        .known = 1,
        .nonce_ok = 1,
        .row = {.attestation = SP_ATTESTATION_REQUIRED, .binding = (uint8_t)binding}};
    strcpy(answer.row.role, sensor_name);
    struct peer *peer = dial_as("dev1", &answer);
    struct sp_mqtt_connect packet = hello(peer, version);
    if (version == SP_MQTT_5) {
        packet.props.auth_method = sp_view_str(sp_link_method(binding));
    }
    say_connect(peer, &packet);
    return peer;
}

static void say_token(struct peer *peer)
{
    say_publish(peer, SP_LINK_TOPIC_TOKEN, "token", 0, 0);
}

static struct sp_msg_appraise last_asked(void)
{
    struct sp_msg_appraise ask = {.has_exporter = 99};
    const struct posted *asked = last(&w->keys, SP_MSG_APPRAISE);
    SP_CHECK(asked != NULL);
    if (asked != NULL) {
        memcpy(&ask, asked->body, sizeof(ask));
    }
    return ask;
}

static void a_token_is_bound_to_the_session_unless_the_row_says_otherwise(void)
{
    begin();
    struct peer *peer = guest_of(SP_LINK_BINDING_TLS, SP_MQTT_311);
    say_token(peer);
    SP_CHECK_INT(last_asked().has_exporter, 1);
    hang_up(peer);
    peer = guest_of(SP_LINK_BINDING_NONE, SP_MQTT_311);
    say_token(peer);
    SP_CHECK_INT(last_asked().has_exporter, 0);
    hang_up(peer);
    end();
}

static enum sp_err no_exporter(struct sp_client *client, uint8_t *out)
{
    (void)client;
    (void)out;
    return SP_ERR_STATE;
}

static void without_a_binding_to_the_session_nobody_is_judged(void)
{
    begin();
    w->home.exporter = no_exporter;
    struct peer *peer = guest_of(SP_LINK_BINDING_TLS, SP_MQTT_5);
    struct sp_view body;
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_AUTH);
    say_auth(peer, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1", "token");
    SP_CHECK_INT(connack_code(peer), SP_MQTT_RC_SERVER_UNAVAILABLE);
    SP_CHECK(last(&w->keys, SP_MSG_APPRAISE) == NULL);
    hang_up(peer);
    end();
}

static void an_auth_that_cannot_be_decoded_has_the_code_for_that(void)
{
    static const struct {
        const char *bytes;
        size_t len;
        unsigned code;
    } cases[] = {
        {"\xF0\x02\x18\x05", 4, SP_MQTT_RC_MALFORMED_PACKET},
        {"\xF0\x0A\x18\x08\x15\x00\x01x\x15\x00\x01x", 12, SP_MQTT_RC_PROTOCOL_ERROR},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        begin();
        struct peer *peer = guest_of(SP_LINK_BINDING_TLS, SP_MQTT_5);
        struct sp_view body;
        SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_AUTH);
        sp_client_input(&peer->client, sp_view((const uint8_t *)cases[i].bytes, cases[i].len));
        turn();
        SP_CHECK_INT(connack_code(peer), cases[i].code);
        hang_up(peer);
        end();
    }
}

static void a_verdict_that_makes_no_sense_is_none(void)
{
    begin();
    struct peer *peer = guest_of(SP_LINK_BINDING_TLS, SP_MQTT_5);
    struct sp_view body;
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_AUTH);
    say_auth(peer, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1", "token");
    judge(peer, SP_ATTEST_CHECK_COUNT);
    SP_CHECK_INT(connack_code(peer), SP_MQTT_RC_SERVER_UNAVAILABLE);
    judge(peer, SP_ATTEST_OK); /* too late */
    SP_CHECK(peer->closed && peer->len == 0);
    hang_up(peer);
    end();
}

static void give_nonce(struct peer *peer)
{
    const struct sp_msg_nonce_answer answer = {.ok = 1};
    sp_guard_nonce(&peer->client, &answer);
    turn();
}

static void an_admitted_device_keeps_its_rights_while_no_verdict_can_be_had(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted("dev1", sensor_name);
    sp_home_reattest(&w->home);
    give_nonce(peer);
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, SP_LINK_TOPIC_CHALLENGE));
    sp_home_reattest(&w->home); /* once more, after this one */
    say_puback(peer, got.packet_id);
    say_token(peer);
    const struct sp_msg_verdict unavailable = {.unavailable = 1};
    sp_guard_verdict(&peer->client, &unavailable);
    turn();
    SP_CHECK(peer->client.attested && !peer->closed);
    w->keys.count = 0;
    pass(9999);
    SP_CHECK(last(&w->keys, SP_MSG_NONCE) == NULL);
    pass(1); /* ten seconds later keys is asked again */
    SP_CHECK(last(&w->keys, SP_MSG_NONCE) != NULL && !peer->closed);
    hang_up(peer);
    end();
}

static void what_is_asked_during_a_challenge_is_done_after_it(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted("dev1", sensor_name);
    sp_home_reattest(&w->home);
    give_nonce(peer);
    SP_CHECK(hear_publish(peer, &got));
    sp_home_reattest(&w->home);
    say_puback(peer, got.packet_id);
    say_token(peer);
    w->keys.count = 0;
    judge(peer, SP_ATTEST_OK);
    SP_CHECK(last(&w->keys, SP_MSG_NONCE) != NULL);
    SP_CHECK_INT(peer->client.guard, SP_GUARD_ASKED);
    hang_up(peer);
    end();
}

static void a_challenge_waits_for_room_and_goes_first(void)
{
    begin();
    struct sp_mqtt_publish got;
    struct peer *peer = admitted("dev1", sensor_name);
    SP_CHECK_INT(subscribe(peer, "cmd/dev1/#", 1), 1);
    peer->client.window = 1;
    sp_route_command(&w->home, SP_VIEW_LIT("down/dev1/a"), SP_VIEW_LIT("one"), 1, 1);
    sp_route_command(&w->home, SP_VIEW_LIT("down/dev1/a"), SP_VIEW_LIT("two"), 1, 2);
    turn();
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "one"));
    sp_home_reattest(&w->home);
    give_nonce(peer);
    SP_CHECK_INT(peer->client.guard, SP_GUARD_NONCE);
    SP_CHECK_INT(peer->len, 0);
    say_puback(peer, got.packet_id);
    SP_CHECK(hear_publish(peer, &got) && is(got.topic, SP_LINK_TOPIC_CHALLENGE));
    SP_CHECK_INT(peer->len, 0);
    say_puback(peer, got.packet_id);
    SP_CHECK(hear_publish(peer, &got) && is(got.payload, "two"));
    hang_up(peer);
    end();
}

static void the_interval_is_the_configurations_and_a_new_one_counts_at_once(void)
{
    begin();
    struct peer *peer = admitted("dev1", sensor_name);
    struct peer *tool_peer = tool("tool", true);
    SP_CHECK_INT(peer->client.attest_due_ms, w->timers.now_ms + 3600000);
    static struct sp_config shorter;
    shorter = config;
    shorter.attestation.reattest_interval_s = 60;
    sp_home_configure(&w->home, &shorter);
    SP_CHECK_INT(peer->client.attest_due_ms, w->timers.now_ms + 60000);
    SP_CHECK_INT(tool_peer->client.attest_due_ms, UINT64_MAX);
    shorter.attestation.reattest_interval_s = 0;
    struct peer *other = admitted("dev2", sensor_name);
    SP_CHECK_INT(other->client.attest_due_ms, UINT64_MAX);
    sp_home_configure(&w->home, &shorter);
    SP_CHECK_INT(other->client.attest_due_ms, UINT64_MAX);
    hang_up(peer);
    hang_up(other);
    hang_up(tool_peer);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(a_token_is_bound_to_the_session_unless_the_row_says_otherwise),
    SP_TEST(without_a_binding_to_the_session_nobody_is_judged),
    SP_TEST(an_auth_that_cannot_be_decoded_has_the_code_for_that),
    SP_TEST(a_verdict_that_makes_no_sense_is_none),
    SP_TEST(an_admitted_device_keeps_its_rights_while_no_verdict_can_be_had),
    SP_TEST(what_is_asked_during_a_challenge_is_done_after_it),
    SP_TEST(a_challenge_waits_for_room_and_goes_first),
    SP_TEST(the_interval_is_the_configurations_and_a_new_one_counts_at_once),
};
SP_TEST_MAIN(tests)
