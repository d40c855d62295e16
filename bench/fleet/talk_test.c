/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/talk.h"

#include "libs/base/test.h"

#include <string.h>

/* docs/protocol.md 8: nonce, exporter and identity give this challenge. */
static const char exporter_hex[] =
    "4602740d3df0e9222931c031cec0b550616fb7be1c93b24ed5be85e70cd1052a";
static const char challenge_hex[] =
    "f52e1558f6b97d6877994f56756639f51efaea2ca481c5d5422586404217735c";

static const uint8_t iak[SP_ATTESTER_KEY_LEN] = "thirty-two bytes that are no key";
static struct sp_attester attester;
static uint8_t nonce[SP_LINK_NONCE_LEN];
static uint8_t challenge[SP_LINK_CHALLENGE_LEN];

static uint8_t out_bytes[SP_TALK_REPLY_MAX];
static struct sp_writer out;
static struct sp_talk_event event;

static void talk_begin(struct sp_talk *talk)
{
    size_t len = 0;
    for (size_t i = 0; i < sizeof(nonce); i++) {
        nonce[i] = (uint8_t)i;
    }
    SP_CHECK_INT(sp_attester_init(&attester, SP_VIEW_ARRAY(iak)), SP_OK);
    *talk = (struct sp_talk){.identity = SP_VIEW_INIT("dev-1"), .attester = &attester};
    SP_CHECK_INT(sp_hex_parse(sp_view_str(exporter_hex), talk->exporter, 32, &len), SP_OK);
    SP_CHECK_INT(sp_hex_parse(sp_view_str(challenge_hex), challenge, 32, &len), SP_OK);
    sp_writer_init(&out, out_bytes, sizeof(out_bytes));
    sp_talk_start(talk, &out);
}

static struct sp_view body_of(struct sp_view packet, struct sp_mqtt_header *header)
{
    SP_CHECK_INT(sp_mqtt_peek(packet, 65536, header), SP_OK);
    SP_CHECK_INT(packet.len, header->header_len + header->body_len);
    return sp_view_from(packet, header->header_len);
}

static void hear(struct sp_talk *talk, struct sp_view packet)
{
    struct sp_mqtt_header header;
    struct sp_view body = body_of(packet, &header);
    sp_writer_init(&out, out_bytes, sizeof(out_bytes));
    sp_talk_packet(talk, &header, body, &out, &event);
}

static void hear_auth(struct sp_talk *talk, uint8_t reason, const char *method)
{
    uint8_t bytes[128];
    struct sp_writer w;
    struct sp_mqtt_reasoned auth = {.reason = reason};
    auth.props.present =
        (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) | SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA));
    auth.props.auth_method = sp_view_str(method);
    auth.props.auth_data = SP_VIEW_ARRAY(nonce);
    sp_writer_init(&w, bytes, sizeof(bytes));
    sp_mqtt_encode_reasoned(&w, SP_MQTT_5, SP_MQTT_AUTH, &auth);
    hear(talk, sp_writer_view(&w));
}

static void hear_connack(struct sp_talk *talk, uint8_t reason)
{
    uint8_t bytes[128];
    struct sp_writer w;
    struct sp_mqtt_connack ack = {.reason = reason};
    ack.props.present = (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM) |
                                   SP_MQTT_HAS(SP_MQTT_P_SERVER_KEEP_ALIVE));
    ack.props.receive_maximum = 17;
    ack.props.server_keep_alive = 30;
    sp_writer_init(&w, bytes, sizeof(bytes));
    sp_mqtt_encode_connack(&w, SP_MQTT_5, &ack);
    hear(talk, sp_writer_view(&w));
}

static void hear_publish(struct sp_talk *talk, const struct sp_mqtt_publish *publish)
{
    uint8_t bytes[256];
    struct sp_writer w;
    sp_writer_init(&w, bytes, sizeof(bytes));
    sp_mqtt_encode_publish(&w, SP_MQTT_5, publish);
    hear(talk, sp_writer_view(&w));
}

static void appraise(struct sp_view token, struct sp_attest_verdict *verdict)
{
    struct sp_attest_reference_component component = {
        .type = SP_VIEW_INIT(SP_ATTESTER_COMPONENT_TYPE),
        .value = SP_VIEW_ARRAY(sp_attester_measurement),
        .signer_id = SP_VIEW_ARRAY(sp_attester_signer_id),
        .version = SP_VIEW_INIT(SP_ATTESTER_COMPONENT_VERSION),
    };
    struct sp_attest_reference reference = {SP_VIEW_ARRAY(sp_attester_implementation_id),
                                            &component, 1};
    struct sp_attest_policy policy = {
        .key = {.bytes = SP_VIEW_ARRAY(iak)},
        .algorithm = SP_ATTEST_HMAC256,
        .challenge = SP_VIEW_ARRAY(challenge),
        .instance_id = SP_VIEW_ARRAY(attester.ueid),
        .lifecycles = SP_ATTEST_LIFECYCLE_SECURED,
        .references = &reference,
        .reference_count = 1,
    };
    sp_attest_appraise(token, &policy, NULL, verdict);
}

static void the_connect_names_the_method_and_holds_no_data(void)
{
    struct sp_talk talk;
    struct sp_mqtt_header header;
    struct sp_mqtt_connect connect;
    talk_begin(&talk);
    struct sp_view body = body_of(sp_writer_view(&out), &header);
    SP_CHECK_INT(sp_mqtt_decode_connect(body, &connect), SP_OK);
    SP_CHECK_INT(connect.version, SP_MQTT_5);
    SP_CHECK(sp_view_equal(connect.client_id, SP_VIEW_LIT("dev-1")));
    SP_CHECK(sp_view_equal(connect.props.auth_method, SP_VIEW_LIT("sp-psa-iat-1")));
    SP_CHECK((connect.props.present & SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA)) == 0);
}

static void the_answer_to_a_challenge_is_a_token_that_passes(void)
{
    struct sp_talk talk;
    struct sp_mqtt_header header;
    struct sp_mqtt_reasoned answer;
    struct sp_attest_verdict verdict;
    talk_begin(&talk);
    hear_auth(&talk, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1");
    SP_CHECK_INT(event.kind, SP_TALK_NOTHING);
    struct sp_view body = body_of(sp_writer_view(&out), &header);
    SP_CHECK_INT(header.type, SP_MQTT_AUTH);
    SP_CHECK_INT(sp_mqtt_decode_reasoned(SP_MQTT_5, SP_MQTT_AUTH, body, &answer), SP_OK);
    SP_CHECK_INT(answer.reason, SP_MQTT_RC_CONTINUE_AUTHENTICATION);
    appraise(answer.props.auth_data, &verdict);
    SP_CHECK_CASE(verdict.check == SP_ATTEST_OK, verdict.detail);
    challenge[0] ^= 1U;
    appraise(answer.props.auth_data, &verdict);
    SP_CHECK_INT(verdict.check, SP_ATTEST_NONCE);
}

static void the_verdict_admits_and_brings_the_limits(void)
{
    struct sp_talk talk;
    talk_begin(&talk);
    hear_auth(&talk, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1");
    hear_connack(&talk, SP_MQTT_RC_SUCCESS);
    SP_CHECK_INT(event.kind, SP_TALK_ADMITTED);
    SP_CHECK_INT(talk.receive_maximum, 17);
    SP_CHECK_INT(talk.keep_alive_s, 30);
}

static void a_refused_token_is_told_with_its_reason(void)
{
    struct sp_talk talk;
    talk_begin(&talk);
    hear_auth(&talk, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1");
    hear_connack(&talk, SP_MQTT_RC_NOT_AUTHORIZED);
    SP_CHECK_INT(event.kind, SP_TALK_REFUSED);
    SP_CHECK_INT(event.reason, SP_MQTT_RC_NOT_AUTHORIZED);
}

static void an_unchallenged_admission_is_not_trusted(void)
{
    struct sp_talk talk;
    talk_begin(&talk);
    hear_connack(&talk, SP_MQTT_RC_SUCCESS);
    SP_CHECK_INT(event.kind, SP_TALK_REFUSED);
    talk_begin(&talk);
    talk.attester = NULL;
    hear_connack(&talk, SP_MQTT_RC_SUCCESS);
    SP_CHECK_INT(event.kind, SP_TALK_ADMITTED);
}

static void a_challenge_that_breaks_the_rules_is_not_answered(void)
{
    struct sp_talk talk;
    talk_begin(&talk);
    hear_auth(&talk, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-raw-1");
    SP_CHECK_INT(event.kind, SP_TALK_REFUSED);
    hear_auth(&talk, SP_MQTT_RC_REAUTHENTICATE, "sp-psa-iat-1");
    SP_CHECK_INT(event.kind, SP_TALK_REFUSED);
    hear_auth(&talk, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1");
    SP_CHECK_INT(event.kind, SP_TALK_NOTHING);
    hear_auth(&talk, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1");
    SP_CHECK_INT(event.kind, SP_TALK_REFUSED);
    SP_CHECK_INT(out.used, 0);
}

static void a_message_is_acknowledged_and_told(void)
{
    struct sp_talk talk;
    talk_begin(&talk);
    talk.admitted = true;
    struct sp_mqtt_publish publish = {.qos = 1,
                                      .packet_id = 9,
                                      .topic = SP_VIEW_INIT("dt/a/climate"),
                                      .payload = SP_VIEW_INIT("x")};
    hear_publish(&talk, &publish);
    SP_CHECK_INT(event.kind, SP_TALK_MESSAGE);
    SP_CHECK_INT(out.used, 4);
    SP_CHECK(sp_view_equal(event.message.topic, publish.topic));
}

static void a_challenge_in_mid_session_is_answered_on_the_token_topic(void)
{
    struct sp_talk talk;
    struct sp_mqtt_header header;
    struct sp_mqtt_publish answer;
    struct sp_attest_verdict verdict;
    talk_begin(&talk);
    talk.admitted = true;
    struct sp_mqtt_publish publish = {.topic = SP_VIEW_INIT(SP_LINK_TOPIC_CHALLENGE),
                                      .payload = SP_VIEW_ARRAY(nonce)};
    hear_publish(&talk, &publish);
    SP_CHECK_INT(event.kind, SP_TALK_NOTHING);
    struct sp_view body = body_of(sp_writer_view(&out), &header);
    SP_CHECK_INT(sp_mqtt_decode_publish(SP_MQTT_5, header.flags, body, &answer), SP_OK);
    SP_CHECK(sp_view_equal(answer.topic, SP_VIEW_LIT(SP_LINK_TOPIC_TOKEN)));
    appraise(answer.payload, &verdict);
    SP_CHECK_CASE(verdict.check == SP_ATTEST_OK, verdict.detail);
}

static const struct sp_test tests[] = {
    SP_TEST(the_connect_names_the_method_and_holds_no_data),
    SP_TEST(the_answer_to_a_challenge_is_a_token_that_passes),
    SP_TEST(the_verdict_admits_and_brings_the_limits),
    SP_TEST(a_refused_token_is_told_with_its_reason),
    SP_TEST(an_unchallenged_admission_is_not_trusted),
    SP_TEST(a_challenge_that_breaks_the_rules_is_not_answered),
    SP_TEST(a_message_is_acknowledged_and_told),
    SP_TEST(a_challenge_in_mid_session_is_answered_on_the_token_topic),
};
SP_TEST_MAIN(tests)
