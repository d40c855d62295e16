/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The sensor side of the application: readings into a queue, the queue to the gateway, in order. */
#include "device/app/app_internal.h"

#define RETRY_MIN_MS 1000U
#define RETRY_MAX_MS 30000U
#define COOKIE_ACK   1U /* records have 0 */

static bool readings_wanted(const struct sp_app *app)
{
    return app->started && app->config.role == SP_APP_SENSOR &&
           app->queue_used < SP_APP_QUEUE_MAX &&
           (app->config.count == 0 || app->readings < app->config.count);
}

void sp_app_sample(struct sp_app *app, uint64_t now_ms)
{
    if (!readings_wanted(app) || now_ms < app->next_reading_ms) {
        return;
    }
    size_t tail = (app->queue_head + app->queue_used) % SP_APP_QUEUE_MAX;
    psa_status_t status = sp_sensor_read_record(sp_app_utc(app, now_ms), &app->queue[tail]);
    if (status == PSA_SUCCESS) {
        app->queue_used++;
        app->readings++;
    } else if (status != PSA_ERROR_DOES_NOT_EXIST || app->readings != 0) { /* else: no key yet */
        sp_app_log(app, "sensor_failed", status, (struct sp_view){0});
    }
    app->next_reading_ms += app->config.period_ms;
    if (app->next_reading_ms <= now_ms) { /* slept, or rested: no burst to catch up */
        app->next_reading_ms = now_ms + app->config.period_ms;
    }
}

/* Answers to grants go before records; an answer of an earlier connection is given up. */
static bool next_is_ack(struct sp_app *app, bool *again)
{
    uint64_t cookie = 0;
    *again = sp_mqtt_client_unsent(&app->mqtt, &cookie);
    while (*again && cookie == COOKIE_ACK) {
        sp_mqtt_client_skip(&app->mqtt);
        *again = sp_mqtt_client_unsent(&app->mqtt, &cookie);
    }
    return !*again && app->ack_len != 0;
}

static struct sp_mqtt_publish packet_of(const struct sp_app *app, bool ack)
{
    const struct sp_sensor_record *record = &app->queue[app->queue_head];
    return (struct sp_mqtt_publish){
        .qos = 1,
        .topic = ack ? SP_VIEW_LIT(SP_LINK_TOPIC_ACK) : sp_view(record->topic, record->topic_len),
        .payload =
            ack ? sp_view(app->ack, app->ack_len) : sp_view(record->payload, record->payload_len),
    };
}

bool sp_app_publish(struct sp_app *app, uint64_t now_ms)
{
    if (app->in_flight || now_ms < app->publish_ms) {
        return true;
    }
    bool again = false;
    bool ack = next_is_ack(app, &again);
    if (!ack && app->queue_used == 0) {
        return true;
    }
    struct sp_mqtt_publish packet = packet_of(app, ack);
    struct sp_writer w = sp_app_writer(app);
    enum sp_err err =
        again ? sp_mqtt_client_resend(&app->mqtt, now_ms, &packet, &w)
              : sp_mqtt_client_publish(&app->mqtt, now_ms, &packet, ack ? COOKIE_ACK : 0, &w);
    if (err == SP_OK) {
        sp_app_sent(app, &w);
        app->in_flight = true;
        app->ack_in_flight = ack;
        return true;
    }
    if (err == SP_ERR_SPACE || err == SP_ERR_AGAIN) {
        return true; /* after the next flush or acknowledgement */
    }
    sp_app_fail(app, now_ms, "publish_failed", (int32_t)err, sp_view_str(sp_err_text(err)));
    return false;
}

/* A refusal that may pass: the same record again, later. */
static bool temporary(uint8_t reason)
{
    return reason == SP_MQTT_RC_QUOTA_EXCEEDED || reason == SP_MQTT_RC_UNSPECIFIED_ERROR ||
           reason == SP_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR;
}

void sp_app_published(struct sp_app *app, uint64_t now_ms, uint8_t reason)
{
    app->in_flight = false;
    if (app->ack_in_flight) {
        app->ack_in_flight = false;
        app->ack_len = 0;
        return;
    }
    if (temporary(reason)) {
        app->publish_wait = app->publish_wait == 0 ? RETRY_MIN_MS : app->publish_wait * 2U;
        if (app->publish_wait > RETRY_MAX_MS) {
            app->publish_wait = RETRY_MAX_MS;
        }
        app->publish_ms = now_ms + app->publish_wait;
        sp_app_log(app, "record_postponed", reason, (struct sp_view){0});
        return;
    }
    app->publish_wait = 0;
    app->queue_head = (app->queue_head + 1U) % SP_APP_QUEUE_MAX;
    app->queue_used--;
    if (reason >= SP_MQTT_RC_UNSPECIFIED_ERROR) {
        app->rejected++;
        sp_app_log(app, "record_refused", reason, (struct sp_view){0});
    } else {
        app->accepted++;
    }
}
