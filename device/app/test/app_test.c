/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The application against a gateway that the test plays: bytes in two pipes, a clock that the test moves. */
#include "device/app/app.h"

#include "libs/base/test.h"

#include <string.h>

#define NOW_START 1000U

struct pipe {
    uint8_t bytes[8192];
    size_t used;
};

static struct pipe up;   /* device to gateway */
static struct pipe down; /* gateway to device */
static size_t write_max; /* bytes that a write takes at most */
static enum sp_err open_result;
static enum sp_err secure_result;
static unsigned opened;
static bool is_open;
static uint8_t exporter_fill;
static uint64_t now;
static char last_event[32];
static unsigned events_seen;
static uint8_t last_challenge[32];
static unsigned tokens;
static unsigned records_read;
static int64_t last_utc;
static psa_status_t sensor_status;
static char shown[64];
static struct sp_app app;

/* Stands in for the sensor service. */
psa_status_t sp_sensor_read_record(int64_t utc_seconds, struct sp_sensor_record *out)
{
    static const char topic[] = "dt/dev-1/climate";
    if (sensor_status != PSA_SUCCESS) {
        return sensor_status;
    }
    last_utc = utc_seconds;
    out->topic_len = sizeof(topic) - 1U;
    sp_copy(out->topic, topic, out->topic_len);
    out->payload[0] = (uint8_t)('a' + records_read++);
    out->payload_len = 1;
    return PSA_SUCCESS;
}

static enum sp_err fake_open(void *ctx)
{
    (void)ctx;
    opened++;
    up.used = 0;
    down.used = 0;
    is_open = open_result == SP_OK;
    return open_result;
}

static enum sp_err fake_secure(void *ctx)
{
    (void)ctx;
    return secure_result;
}

static enum sp_err fake_read(void *ctx, uint8_t *out, size_t cap, size_t *len)
{
    (void)ctx;
    if (!is_open) {
        return SP_ERR_CLOSED;
    }
    if (down.used == 0) {
        return SP_ERR_AGAIN;
    }
    *len = down.used < cap ? down.used : cap;
    memcpy(out, down.bytes, *len);
    down.used -= *len;
    memmove(down.bytes, down.bytes + *len, down.used);
    return SP_OK;
}

static enum sp_err fake_write(void *ctx, struct sp_view bytes, size_t *len)
{
    (void)ctx;
    if (!is_open) {
        return SP_ERR_CLOSED;
    }
    if (write_max == 0) {
        return SP_ERR_AGAIN;
    }
    struct sp_view part = sp_view_first(bytes, write_max);
    SP_CHECK(up.used + part.len <= sizeof(up.bytes));
    memcpy(up.bytes + up.used, part.ptr, part.len);
    up.used += part.len;
    *len = part.len;
    return SP_OK;
}

static enum sp_err fake_exporter(void *ctx, uint8_t *out)
{
    (void)ctx;
    memset(out, exporter_fill, SP_LINK_EXPORTER_LEN);
    return SP_OK;
}

static void fake_close(void *ctx)
{
    (void)ctx;
    is_open = false;
}

static const char *fake_describe(void *ctx)
{
    (void)ctx;
    return "the test says so";
}

static psa_status_t fake_attest(const uint8_t *challenge, size_t challenge_len, uint8_t *token,
                                size_t cap, size_t *token_len)
{
    SP_CHECK_INT(challenge_len, sizeof(last_challenge));
    SP_CHECK(cap >= 300);
    memcpy(last_challenge, challenge, sizeof(last_challenge));
    memset(token, 0x70, 300);
    *token_len = 300;
    tokens++;
    return PSA_SUCCESS;
}

static uint32_t fake_random(void *ctx)
{
    (void)ctx;
    return UINT32_MAX; /* 2^32-1 mod (bound + 1): some value within the bound */
}

static void fake_log(void *ctx, const char *event, int32_t code, struct sp_view text)
{
    (void)ctx;
    (void)code;
    (void)text;
    if (strcmp(event, "waiting_ms") != 0) {
        (void)snprintf(last_event, sizeof(last_event), "%s", event);
    }
    events_seen++;
}

static void fake_record(void *ctx, struct sp_view topic, struct sp_view payload,
                        int64_t utc_seconds)
{
    (void)ctx;
    (void)utc_seconds;
    (void)snprintf(shown, sizeof(shown), "%.*s %.*s", (int)topic.len, (const char *)topic.ptr,
                   (int)payload.len, (const char *)payload.ptr);
}

static void start(enum sp_app_role role, enum sp_link_binding binding, uint64_t count)
{
    const struct sp_app_config config = {
        .identity = SP_VIEW_LIT("dev-1"),
        .binding = binding,
        .role = role,
        .period_ms = 1000,
        .count = count,
        .keep_alive = 30,
        .backoff_min_ms = 400,
        .backoff_max_ms = 3000,
    };
    const struct sp_app_seams seams = {
        .channel = {NULL, fake_open, fake_secure, fake_read, fake_write, fake_exporter, fake_close,
                    fake_describe},
        .attest = fake_attest,
        .random = fake_random,
        .log = fake_log,
        .record = fake_record,
    };
    up.used = 0;
    down.used = 0;
    write_max = SIZE_MAX;
    open_result = SP_OK;
    secure_result = SP_OK;
    opened = 0;
    tokens = 0;
    records_read = 0;
    sensor_status = PSA_SUCCESS;
    exporter_fill = 0xE0;
    now = NOW_START;
    shown[0] = 0;
    last_event[0] = 0;
    SP_CHECK_INT(sp_app_init(&app, &config, &seams), SP_OK);
}

/* Run until the application wants to sleep. */
static uint64_t step(void)
{
    uint64_t next = sp_app_step(&app, now);
    for (unsigned i = 0; next <= now && i < 50; i++) {
        next = sp_app_step(&app, now);
    }
    return next;
}

/* The next packet that the device sent, checked to be of that type; its body. */
static struct sp_view took;
static uint8_t took_bytes[4096];
static uint8_t took_flags;

static bool take(enum sp_mqtt_type type)
{
    struct sp_mqtt_header header;
    if (sp_mqtt_peek(sp_view(up.bytes, up.used), 4096, &header) != SP_OK ||
        up.used < header.header_len + header.body_len) {
        SP_CHECK_CASE(false, "no packet");
        return false;
    }
    SP_CHECK_INT(header.type, type);
    took_flags = header.flags;
    memcpy(took_bytes, up.bytes + header.header_len, header.body_len);
    took = sp_view(took_bytes, header.body_len);
    size_t all = header.header_len + header.body_len;
    up.used -= all;
    memmove(up.bytes, up.bytes + all, up.used);
    return header.type == type;
}

static struct sp_writer to_device(void)
{
    struct sp_writer w;
    sp_writer_init(&w, down.bytes + down.used, sizeof(down.bytes) - down.used);
    return w;
}

static void deliver(const struct sp_writer *w)
{
    down.used += sp_writer_view(w).len;
}

static const uint8_t nonce[32] = {9, 9, 9};

static void challenge(void)
{
    struct sp_writer w = to_device();
    struct sp_mqtt_reasoned auth = {
        .reason = SP_MQTT_RC_CONTINUE_AUTHENTICATION,
        .props = {.present = (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) |
                                        SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA)),
                  .auth_method = sp_view_str(sp_link_method(app.config.binding)),
                  .auth_data = SP_VIEW_ARRAY(nonce)},
    };
    sp_mqtt_encode_reasoned(&w, SP_MQTT_5, SP_MQTT_AUTH, &auth);
    deliver(&w);
}

static void connack(uint8_t reason, bool session)
{
    struct sp_writer w = to_device();
    struct sp_mqtt_connack packet = {
        .reason = reason,
        .session_present = session,
        .props = {.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD),
                  .auth_method = sp_view_str(sp_link_method(app.config.binding))},
    };
    sp_mqtt_encode_connack(&w, SP_MQTT_5, &packet);
    deliver(&w);
}

static void publish(const char *topic, struct sp_view payload, uint8_t qos)
{
    struct sp_writer w = to_device();
    struct sp_mqtt_publish packet = {
        .qos = qos, .packet_id = qos, .topic = sp_view_str(topic), .payload = payload};
    sp_mqtt_encode_publish(&w, SP_MQTT_5, &packet);
    deliver(&w);
}

/* The device's publish is on its way: check it, answer it. */
static void expect_record(char letter, bool dup, int reason)
{
    struct sp_mqtt_publish packet;
    if (!take(SP_MQTT_PUBLISH) ||
        sp_mqtt_decode_publish(SP_MQTT_5, took_flags, took, &packet) != SP_OK) {
        SP_CHECK_CASE(false, "no record");
        return;
    }
    SP_CHECK_INT(packet.qos, 1);
    SP_CHECK_INT(packet.dup, dup);
    SP_CHECK(packet.payload.len == 1 && packet.payload.ptr[0] == (uint8_t)letter);
    if (reason >= 0) {
        struct sp_writer w = to_device();
        struct sp_mqtt_ack ack = {.packet_id = packet.packet_id, .reason = (uint8_t)reason};
        sp_mqtt_encode_ack(&w, SP_MQTT_5, SP_MQTT_PUBACK, &ack);
        deliver(&w);
    }
}

/* From nothing to attested; the SUBSCRIBE is taken. */
static void come_online(void)
{
    (void)step();
    SP_CHECK(take(SP_MQTT_CONNECT));
    challenge();
    (void)step();
    SP_CHECK(take(SP_MQTT_AUTH));
    connack(0, false);
    (void)step();
    SP_CHECK_INT(app.state, SP_APP_ONLINE);
    SP_CHECK(take(SP_MQTT_SUBSCRIBE));
}

static void connect_names_method_and_identity(void)
{
    struct sp_mqtt_connect packet;
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    (void)step();
    SP_CHECK(take(SP_MQTT_CONNECT));
    SP_CHECK_INT(sp_mqtt_decode_connect(took, &packet), SP_OK);
    SP_CHECK_INT(packet.version, SP_MQTT_5);
    SP_CHECK(sp_view_equal(packet.client_id, SP_VIEW_LIT("dev-1")));
    SP_CHECK(sp_view_equal(packet.props.auth_method, SP_VIEW_LIT("sp-psa-iat-1")));
    SP_CHECK((packet.props.present & SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA)) == 0);
    SP_CHECK_INT(up.used, 0); /* and nothing more until the verdict */
}

static void the_challenge_binds_to_the_connection(void)
{
    static const enum sp_link_binding bindings[] = {SP_LINK_BINDING_TLS, SP_LINK_BINDING_NONE};
    for (size_t i = 0; i < 2; i++) {
        uint8_t exporter[32];
        uint8_t want[32];
        struct sp_mqtt_reasoned auth;
        start(SP_APP_SENSOR, bindings[i], 0);
        (void)step();
        SP_CHECK(take(SP_MQTT_CONNECT));
        challenge();
        (void)step();
        memset(exporter, 0xE0, sizeof(exporter));
        SP_CHECK_INT(sp_link_challenge(bindings[i], SP_VIEW_ARRAY(nonce), SP_VIEW_ARRAY(exporter),
                                       SP_VIEW_LIT("dev-1"), want),
                     SP_OK);
        SP_CHECK(memcmp(want, last_challenge, sizeof(want)) == 0);
        SP_CHECK(take(SP_MQTT_AUTH));
        SP_CHECK_INT(sp_mqtt_decode_reasoned(SP_MQTT_5, SP_MQTT_AUTH, took, &auth), SP_OK);
        SP_CHECK_INT(auth.reason, 0x18);
        SP_CHECK_INT(auth.props.auth_data.len, 300);
    }
}

static void a_nonce_of_another_size_is_not_answered(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    (void)step();
    SP_CHECK(take(SP_MQTT_CONNECT));
    struct sp_writer w = to_device();
    struct sp_mqtt_reasoned auth = {
        .reason = SP_MQTT_RC_CONTINUE_AUTHENTICATION,
        .props = {.present = (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) |
                                        SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA)),
                  .auth_method = SP_VIEW_LIT("sp-psa-iat-1"),
                  .auth_data = SP_VIEW_LIT("short")},
    };
    sp_mqtt_encode_reasoned(&w, SP_MQTT_5, SP_MQTT_AUTH, &auth);
    deliver(&w);
    (void)step();
    SP_CHECK_INT(tokens, 0);
    SP_CHECK(!is_open);
}

static void success_without_a_challenge_is_no_success(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    (void)step();
    connack(0, false);
    (void)step();
    SP_CHECK_INT(app.state, SP_APP_WAITING);
    SP_CHECK(!is_open);
    SP_CHECK_INT(records_read, 0);
}

static void a_refused_device_waits_longer_and_longer(void)
{
    uint64_t longest = 0;
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    for (unsigned i = 1; i <= 8; i++) {
        uint64_t next = step();
        SP_CHECK_INT(opened, i);
        connack(SP_MQTT_RC_NOT_AUTHORIZED, false);
        next = step();
        SP_CHECK(strcmp(last_event, "refused") == 0);
        SP_CHECK_INT(app.refusals, i);
        uint64_t bound = (uint64_t)400 << (i - 1);
        bound = bound > 3000 ? 3000 : bound;
        SP_CHECK(next > now && next - now <= bound);
        longest = next - now > longest ? next - now : longest;
        SP_CHECK(sp_app_step(&app, next - 1) == next); /* not a millisecond too early */
        SP_CHECK_INT(opened, i);
        now = next;
    }
    SP_CHECK(longest > 400);
}

static void a_gateway_that_cannot_be_reached_is_tried_again(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    open_result = SP_ERR_IO;
    now = step();
    SP_CHECK_INT(app.state, SP_APP_WAITING);
    open_result = SP_OK;
    secure_result = SP_ERR_PROTOCOL;
    now = step();
    secure_result = SP_ERR_AGAIN;
    now = step(); /* a handshake that never ends … */
    SP_CHECK_INT(app.state, SP_APP_SECURING);
    now = step(); /* … is given up */
    SP_CHECK_INT(app.state, SP_APP_WAITING);
    secure_result = SP_OK;
    come_online();
}

static void a_sensor_publishes_in_order_one_at_a_time(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 3);
    come_online();
    expect_record('a', false, -1);
    now += 1000;
    (void)step();
    now += 1000;
    (void)step();
    SP_CHECK_INT(records_read, 3);
    SP_CHECK_INT(up.used, 0); /* b waits for a's acknowledgement */
    struct sp_writer w = to_device();
    struct sp_mqtt_ack ack = {.packet_id = 1};
    sp_mqtt_encode_ack(&w, SP_MQTT_5, SP_MQTT_PUBACK, &ack);
    deliver(&w);
    (void)step();
    expect_record('b', false, 0x10); /* no subscribers: success */
    (void)step();
    SP_CHECK(!sp_app_done(&app));
    expect_record('c', false, 0);
    (void)step();
    SP_CHECK(sp_app_done(&app));
    SP_CHECK_INT(app.accepted, 3);
    now += 5000;
    (void)step();
    SP_CHECK_INT(records_read, 3); /* the count is reached */
}

static void a_record_without_acknowledgement_comes_first_after_a_reconnect(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 2);
    come_online();
    expect_record('a', false, -1);
    is_open = false;
    now = step();
    now += 1000;
    (void)step();
    SP_CHECK_INT(app.state, SP_APP_JOINING);
    SP_CHECK(take(SP_MQTT_CONNECT));
    challenge();
    (void)step();
    SP_CHECK(take(SP_MQTT_AUTH));
    connack(0, true);
    (void)step();
    SP_CHECK(take(SP_MQTT_SUBSCRIBE));
    expect_record('a', true, 0);
    (void)step();
    expect_record('b', false, 0);
    (void)step();
    SP_CHECK(sp_app_done(&app));
}

static void a_record_that_cannot_be_stored_now_is_repeated_before_the_next(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 2);
    come_online();
    expect_record('a', false, SP_MQTT_RC_QUOTA_EXCEEDED);
    uint64_t next = step();
    SP_CHECK_INT(up.used, 0);
    SP_CHECK_INT(next, now + 1000);
    now = next;
    (void)step();
    expect_record('a', false, 0);
    (void)step();
    expect_record('b', false, 0);
    (void)step();
    SP_CHECK(sp_app_done(&app) && app.rejected == 0);
}

static void a_record_that_is_refused_for_good_is_counted_and_left(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 2);
    come_online();
    expect_record('a', false, SP_MQTT_RC_PAYLOAD_FORMAT_INVALID);
    now += 1000;
    (void)step();
    expect_record('b', false, 0);
    (void)step();
    SP_CHECK_INT(app.rejected, 1);
    SP_CHECK_INT(app.accepted, 1);
    SP_CHECK(sp_app_done(&app));
}

static void the_sensor_rests_while_the_queue_is_full(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    come_online();
    for (unsigned i = 0; i < 2 * SP_APP_QUEUE_MAX; i++) {
        now += 1000;
        publish("$sp/time", SP_VIEW_LIT("1700000000"),
                0); /* the gateway is alive, its store is not */
        (void)step();
    }
    SP_CHECK_INT(records_read, SP_APP_QUEUE_MAX);
}

static void a_broken_sensor_is_logged_and_asked_again(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    sensor_status = PSA_ERROR_HARDWARE_FAILURE;
    come_online();
    SP_CHECK(strcmp(last_event, "sensor_failed") == 0);
    sensor_status = PSA_SUCCESS;
    now += 1000;
    (void)step();
    expect_record('a', false, 0);
}

static void time_from_the_gateway_goes_into_records(void)
{
    static const char *const bad[] = {"", "abc", "17000000000000", "-5"};
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    come_online();
    SP_CHECK_INT(last_utc, 0);
    publish("$sp/time", SP_VIEW_LIT("1700000000"), 0);
    (void)step();
    now += 5000;
    (void)step();
    SP_CHECK_INT(last_utc, 1700000005);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        publish("$sp/time", sp_view_str(bad[i]), 0);
        (void)step();
        now += 1000;
        (void)step();
        SP_CHECK_CASE(last_utc > 1700000000 && last_utc < 1700000020, bad[i]);
    }
}

static void attestation_can_be_asked_for_again(void)
{
    struct sp_mqtt_publish packet;
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 0);
    come_online();
    expect_record('a', false, -1); /* also while a record is on its way */
    publish("$sp/attest/challenge", SP_VIEW_ARRAY(nonce), 1);
    (void)step();
    SP_CHECK(take(SP_MQTT_PUBACK));
    SP_CHECK(take(SP_MQTT_PUBLISH));
    SP_CHECK_INT(sp_mqtt_decode_publish(SP_MQTT_5, took_flags, took, &packet), SP_OK);
    SP_CHECK(sp_view_equal(packet.topic, SP_VIEW_LIT("$sp/attest/token")));
    SP_CHECK(packet.payload.len == 300 && packet.qos == 0);
    publish("$sp/attest/verdict", SP_VIEW_LIT("ok"), 0);
    (void)step();
    SP_CHECK(strcmp(last_event, "attested_again") == 0);
    publish("$sp/attest/verdict", SP_VIEW_LIT("software: unknown"), 0);
    (void)step();
    SP_CHECK(strcmp(last_event, "attestation_refused") == 0);
    SP_CHECK_INT(app.refusals, 1);
}

static void a_monitor_hands_records_out_and_acknowledges_them(void)
{
    start(SP_APP_MONITOR, SP_LINK_BINDING_TLS, 1);
    (void)step();
    SP_CHECK(take(SP_MQTT_CONNECT));
    challenge();
    (void)step();
    SP_CHECK(take(SP_MQTT_AUTH));
    connack(0, false);
    (void)step();
    SP_CHECK(take(SP_MQTT_SUBSCRIBE));
    SP_CHECK(memmem(took.ptr, took.len, "dt/+/climate", 12) != NULL);
    SP_CHECK(memmem(took.ptr, took.len, "cmd/dev-1/#", 11) != NULL);
    SP_CHECK_INT(records_read, 0);
    publish("dt/other/climate", SP_VIEW_LIT("hello"), 1);
    (void)step();
    SP_CHECK(take(SP_MQTT_PUBACK));
    SP_CHECK(strcmp(shown, "dt/other/climate hello") == 0);
    SP_CHECK(sp_app_done(&app));
}

static void small_writes_lose_nothing(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 1);
    write_max = 7;
    come_online();
    expect_record('a', false, 0);
    (void)step();
    SP_CHECK(sp_app_done(&app));
}

static void a_gateway_that_breaks_the_rules_is_left(void)
{
    start(SP_APP_SENSOR, SP_LINK_BINDING_TLS, 1);
    come_online();
    expect_record('a', false, -1);
    memcpy(down.bytes, "\x20\x03\x00\x00\x00", 5); /* a second CONNACK */
    down.used = 5;
    (void)step();
    SP_CHECK_INT(app.state, SP_APP_WAITING);
    SP_CHECK(take(SP_MQTT_DISCONNECT));
}

static void a_silent_gateway_is_left(void)
{
    start(SP_APP_MONITOR, SP_LINK_BINDING_TLS, 0);
    come_online();
    for (unsigned i = 0; i < 10 && app.state == SP_APP_ONLINE; i++) {
        now = step();
    }
    SP_CHECK_INT(app.state, SP_APP_WAITING);
    SP_CHECK(now < NOW_START + 60000);
}

static void stopping_says_goodbye(void)
{
    start(SP_APP_MONITOR, SP_LINK_BINDING_TLS, 0);
    come_online();
    sp_app_stop(&app);
    SP_CHECK(take(SP_MQTT_DISCONNECT));
    SP_CHECK(!is_open);
}

static const struct sp_test tests[] = {
    SP_TEST(connect_names_method_and_identity),
    SP_TEST(the_challenge_binds_to_the_connection),
    SP_TEST(a_nonce_of_another_size_is_not_answered),
    SP_TEST(success_without_a_challenge_is_no_success),
    SP_TEST(a_refused_device_waits_longer_and_longer),
    SP_TEST(a_gateway_that_cannot_be_reached_is_tried_again),
    SP_TEST(a_sensor_publishes_in_order_one_at_a_time),
    SP_TEST(a_record_without_acknowledgement_comes_first_after_a_reconnect),
    SP_TEST(a_record_that_cannot_be_stored_now_is_repeated_before_the_next),
    SP_TEST(a_record_that_is_refused_for_good_is_counted_and_left),
    SP_TEST(the_sensor_rests_while_the_queue_is_full),
    SP_TEST(a_broken_sensor_is_logged_and_asked_again),
    SP_TEST(time_from_the_gateway_goes_into_records),
    SP_TEST(attestation_can_be_asked_for_again),
    SP_TEST(a_monitor_hands_records_out_and_acknowledges_them),
    SP_TEST(small_writes_lose_nothing),
    SP_TEST(a_gateway_that_breaks_the_rules_is_left),
    SP_TEST(a_silent_gateway_is_left),
    SP_TEST(stopping_says_goodbye),
};
SP_TEST_MAIN(tests)
