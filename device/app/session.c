/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The MQTT side of the application: joining, attestation, what comes in. */
#include "device/app/app_internal.h"

#include "psa/initial_attestation.h"

#include <string.h>

#define SESSION_EXPIRY_S 3600U
#define RECEIVE_MAXIMUM  16U
#define TX_ROOM          (PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE + 256U) /* for any answer to one packet */

struct sp_writer sp_app_writer(struct sp_app *app)
{
    struct sp_writer w;
    sp_writer_init(&w, app->tx + app->tx_used, sizeof(app->tx) - app->tx_used);
    return w;
}

void sp_app_sent(struct sp_app *app, const struct sp_writer *w)
{
    app->tx_used += sp_writer_view(w).len;
}

static bool lost(struct sp_app *app, uint64_t now_ms, const char *why)
{
    sp_app_fail(app, now_ms, "connection_lost", -1, sp_view_str(why));
    return false;
}

bool sp_app_join(struct sp_app *app, uint64_t now_ms)
{
    struct sp_mqtt_connect packet = {
        .version = SP_MQTT_5,
        .clean_start = false,
        .keep_alive = app->config.keep_alive,
        .client_id = app->config.identity,
        .props = {.present = (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY) |
                                        SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM) |
                                        SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD)),
                  .session_expiry = SESSION_EXPIRY_S,
                  .receive_maximum = RECEIVE_MAXIMUM,
                  .auth_method = sp_view_str(sp_link_method(app->config.binding))},
    };
    struct sp_writer w = sp_app_writer(app);
    if (sp_mqtt_client_connect(&app->mqtt, now_ms, &packet, &w) != SP_OK) {
        return lost(app, now_ms, "CONNECT cannot be written");
    }
    sp_app_sent(app, &w);
    app->state = SP_APP_JOINING;
    return true;
}

/* The token for a nonce of the gateway, bound to this connection if the device is provisioned so. */
static enum sp_err make_token(struct sp_app *app, struct sp_view nonce, uint8_t *token, size_t *len)
{
    uint8_t exporter[SP_LINK_EXPORTER_LEN] = {0};
    uint8_t challenge[SP_LINK_CHALLENGE_LEN];
    const struct sp_channel *channel = &app->seams.channel;
    if (app->config.binding == SP_LINK_BINDING_TLS) {
        SP_TRY(channel->exporter(channel->ctx, exporter));
    }
    enum sp_err err = sp_link_challenge(app->config.binding, nonce, SP_VIEW_ARRAY(exporter),
                                        app->config.identity, challenge);
    sp_wipe(exporter, sizeof(exporter));
    SP_TRY(err);
    psa_status_t status = app->seams.attest(challenge, sizeof(challenge), token,
                                            PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE, len);
    return status == PSA_SUCCESS ? SP_OK : SP_ERR_CRYPTO;
}

static bool on_challenge(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_event *event)
{
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    size_t len = 0;
    struct sp_writer w = sp_app_writer(app);
    if (make_token(app, event->auth.props.auth_data, token, &len) != SP_OK ||
        sp_mqtt_client_auth(&app->mqtt, now_ms, sp_view(token, len), &w) != SP_OK) {
        return lost(app, now_ms, "the challenge cannot be answered");
    }
    sp_app_sent(app, &w);
    return true;
}

/* Commands for this device; for a monitor, what the others report and what is fused of it. */
static bool subscribe(struct sp_app *app, uint64_t now_ms)
{
    uint8_t commands[SP_LINK_IDENTITY_MAX + 8U];
    struct sp_writer name;
    sp_writer_init(&name, commands, sizeof(commands));
    sp_write_str(&name, "cmd/");
    sp_write_view(&name, app->config.identity);
    sp_write_str(&name, "/#");
    struct sp_mqtt_filter filters[] = {
        {.filter = sp_writer_view(&name), .qos = 1},
        {.filter = SP_VIEW_LIT("dt/+/climate"), .qos = 1},
        {.filter = SP_VIEW_LIT("fused/+"), .qos = 1},
    };
    size_t count = app->config.role == SP_APP_MONITOR ? 3 : 1;
    uint16_t packet_id = 0;
    struct sp_writer w = sp_app_writer(app);
    if (sp_mqtt_client_subscribe(&app->mqtt, now_ms, filters, count, &w, &packet_id) != SP_OK) {
        return lost(app, now_ms, "SUBSCRIBE cannot be written");
    }
    sp_app_sent(app, &w);
    return true;
}

static bool on_connected(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_event *event)
{
    if (event->unchallenged) {
        return lost(app, now_ms, "the gateway did not challenge us");
    }
    sp_app_log(app, "attested", -1, (struct sp_view){0});
    app->state = SP_APP_ONLINE;
    app->failures = 0;
    app->in_flight = false;
    app->ack_in_flight = false;
    app->ack_len = 0; /* of an earlier connection: there will be a new grant */
    app->publish_ms = now_ms;
    if (!app->started) {
        app->started = true;
        app->next_reading_ms = now_ms;
        sp_app_sample(app, now_ms);
    }
    return subscribe(app, now_ms);
}

static bool on_refused(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_event *event)
{
    app->refusals++;
    sp_app_fail(app, now_ms, "refused", event->connack.reason, event->connack.props.reason_string);
    return false;
}

static bool on_disconnected(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_event *event)
{
    const struct sp_mqtt_reasoned *packet = &event->disconnect;
    app->refusals += packet->reason == SP_MQTT_RC_NOT_AUTHORIZED ||
                     packet->reason == SP_MQTT_RC_ADMINISTRATIVE_ACTION;
    sp_app_fail(app, now_ms, "disconnected", packet->reason, packet->props.reason_string);
    return false;
}

static bool on_suback(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_event *event)
{
    (void)now_ms;
    for (size_t i = 0; i < event->suback.codes.len; i++) {
        if (event->suback.codes.ptr[i] >= SP_MQTT_RC_UNSPECIFIED_ERROR) {
            sp_app_log(app, "subscription_refused", event->suback.codes.ptr[i],
                       event->suback.props.reason_string);
        }
    }
    return true;
}

static bool on_puback(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_event *event)
{
    sp_app_published(app, now_ms, event->ack.reason);
    return true;
}

/* Re-attestation. The answer goes with QoS 0: repeated on another connection it would be out of turn. */
static bool on_topic_challenge(struct sp_app *app, uint64_t now_ms, struct sp_view nonce)
{
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    size_t len = 0;
    if (make_token(app, nonce, token, &len) != SP_OK) {
        return lost(app, now_ms, "the challenge cannot be answered");
    }
    struct sp_mqtt_publish packet = {
        .topic = SP_VIEW_LIT(SP_LINK_TOPIC_TOKEN),
        .payload = sp_view(token, len),
    };
    struct sp_writer w = sp_app_writer(app);
    if (sp_mqtt_client_publish(&app->mqtt, now_ms, &packet, 0, &w) != SP_OK) {
        return lost(app, now_ms, "the token cannot be sent");
    }
    sp_app_sent(app, &w);
    return true;
}

static bool on_verdict(struct sp_app *app, uint64_t now_ms, struct sp_view text)
{
    (void)now_ms;
    bool ok = sp_view_equal(text, SP_VIEW_LIT(SP_LINK_VERDICT_OK));
    sp_app_log(app, ok ? "attested_again" : "attestation_refused", -1, text);
    app->refusals += !ok;
    return true;
}

static bool on_time(struct sp_app *app, uint64_t now_ms, struct sp_view text)
{
    int64_t seconds = 0;
    if (text.len == 0 || text.len > 12) {
        return true;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (text.ptr[i] < '0' || text.ptr[i] > '9') {
            return true;
        }
        seconds = seconds * 10 + (text.ptr[i] - '0');
    }
    app->utc_offset = seconds - (int64_t)(now_ms / 1000U);
    return true;
}

/* An app key. What does not open is not answered: the gateway repeats it, and raises the alarm in the end. */
static bool on_grant(struct sp_app *app, uint64_t now_ms, struct sp_view grant)
{
    uint8_t ack[SP_APPKEYS_ACK_MAX];
    size_t len = 0;
    psa_status_t status = sp_appkeys_grant(grant.ptr, grant.len, ack, sizeof(ack), &len);
    if (status != PSA_SUCCESS) {
        sp_app_log(app, "grant_refused", status, (struct sp_view){0});
        return true;
    }
    sp_app_log(app, "key_granted", -1, (struct sp_view){0});
    sp_copy(app->ack, ack, len);
    app->ack_len = len;
    app->publish_ms = now_ms;
    if (app->next_reading_ms > now_ms && app->readings == 0) {
        app->next_reading_ms = now_ms; /* the first record had to wait for its key */
    }
    return true;
}

static void on_data(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_publish *packet)
{
    if (sp_view_starts(packet->topic, SP_VIEW_LIT("cmd/"))) {
        sp_app_log(app, "command", -1, packet->topic);
    } else if (app->config.role == SP_APP_MONITOR) {
        app->received++;
        app->seams.record(app->seams.ctx, packet->topic, packet->payload, sp_app_utc(app, now_ms));
    }
}

static bool on_message(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_event *event)
{
    static const struct {
        struct sp_view topic;
        bool (*run)(struct sp_app *app, uint64_t now_ms, struct sp_view payload);
    } topics[] = {
        {SP_VIEW_INIT(SP_LINK_TOPIC_CHALLENGE), on_topic_challenge},
        {SP_VIEW_INIT(SP_LINK_TOPIC_VERDICT), on_verdict},
        {SP_VIEW_INIT(SP_LINK_TOPIC_TIME), on_time},
        {SP_VIEW_INIT(SP_LINK_TOPIC_GRANT), on_grant},
    };
    const struct sp_mqtt_publish *packet = &event->publish;
    struct sp_writer w = sp_app_writer(app);
    if (packet->qos != 0) {
        if (sp_mqtt_client_ack(&app->mqtt, now_ms, packet->packet_id, SP_MQTT_RC_SUCCESS, &w) !=
            SP_OK) {
            return lost(app, now_ms, "PUBACK cannot be written");
        }
        sp_app_sent(app, &w);
    }
    for (size_t i = 0; i < sizeof(topics) / sizeof(topics[0]); i++) {
        if (sp_view_equal(packet->topic, topics[i].topic)) {
            return topics[i].run(app, now_ms, packet->payload);
        }
    }
    on_data(app, now_ms, packet);
    return true;
}

static bool on_event(struct sp_app *app, uint64_t now_ms, const struct sp_mqtt_event *event)
{
    static bool (*const handlers[])(struct sp_app * app, uint64_t now_ms,
                                    const struct sp_mqtt_event *event) = {
        [SP_MQTT_EVENT_CONNECTED] = on_connected,
        [SP_MQTT_EVENT_REFUSED] = on_refused,
        [SP_MQTT_EVENT_CHALLENGE] = on_challenge,
        [SP_MQTT_EVENT_MESSAGE] = on_message,
        [SP_MQTT_EVENT_PUBACK] = on_puback,
        [SP_MQTT_EVENT_SUBACK] = on_suback,
        [SP_MQTT_EVENT_DISCONNECTED] = on_disconnected,
    };
    size_t type = (size_t)event->type;
    if (type >= sizeof(handlers) / sizeof(handlers[0]) || handlers[type] == NULL) {
        return true;
    }
    return handlers[type](app, now_ms, event);
}

static bool flush(struct sp_app *app, uint64_t now_ms)
{
    const struct sp_channel *channel = &app->seams.channel;
    while (app->tx_used != 0) {
        size_t sent = 0;
        enum sp_err err = channel->write(channel->ctx, sp_view(app->tx, app->tx_used), &sent);
        if (err == SP_ERR_AGAIN) {
            return true;
        }
        if (err != SP_OK) {
            return lost(app, now_ms, channel->describe(channel->ctx));
        }
        app->tx_used -= sent;
        memmove(app->tx, app->tx + sent, app->tx_used);
    }
    return true;
}

/* The gateway broke the rules: say so, as MQTT asks, and close. */
static bool protest(struct sp_app *app, uint64_t now_ms, enum sp_err err)
{
    struct sp_writer w = sp_app_writer(app);
    if (sp_mqtt_client_disconnect(&app->mqtt, sp_mqtt_client_reason(err), &w) == SP_OK) {
        sp_app_sent(app, &w);
        (void)flush(app, now_ms);
    }
    return lost(app, now_ms, sp_err_text(err));
}

/* Handle the packets in rx, as long as there is room for what they may be answered with. */
static bool take_packets(struct sp_app *app, uint64_t now_ms)
{
    while (sizeof(app->tx) - app->tx_used >= TX_ROOM) {
        struct sp_mqtt_event event;
        size_t size = 0;
        enum sp_err err =
            sp_mqtt_client_input(&app->mqtt, now_ms, sp_view(app->rx, app->rx_used), &size, &event);
        if (err == SP_ERR_AGAIN) {
            return true;
        }
        if (err != SP_OK) {
            return protest(app, now_ms, err);
        }
        if (!on_event(app, now_ms, &event)) {
            return false;
        }
        app->rx_used -= size;
        memmove(app->rx, app->rx + size, app->rx_used);
    }
    return true;
}

static bool tick(struct sp_app *app, uint64_t now_ms)
{
    struct sp_writer w = sp_app_writer(app);
    if (sp_mqtt_client_tick(&app->mqtt, now_ms, &w) == SP_ERR_CLOSED) {
        return lost(app, now_ms, "the gateway is silent");
    }
    sp_app_sent(app, &w);
    return true;
}

bool sp_app_exchange(struct sp_app *app, uint64_t now_ms)
{
    const struct sp_channel *channel = &app->seams.channel;
    while (flush(app, now_ms)) {
        if (app->state == SP_APP_WAITING || !take_packets(app, now_ms) || !flush(app, now_ms)) {
            return false;
        }
        size_t len = 0;
        if (app->rx_used == sizeof(app->rx)) {
            return true; /* answers must leave first */
        }
        enum sp_err err = channel->read(channel->ctx, app->rx + app->rx_used,
                                        sizeof(app->rx) - app->rx_used, &len);
        if (err == SP_ERR_AGAIN) {
            return tick(app, now_ms) && flush(app, now_ms);
        }
        if (err != SP_OK) {
            return lost(app, now_ms, channel->describe(channel->ctx));
        }
        app->rx_used += len;
    }
    return false;
}
