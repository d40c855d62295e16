/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/app/app.h"

#include "device/app/app_internal.h"

#define SECURE_TIMEOUT_MS  15000U
#define CONNECT_TIMEOUT_MS 15000U
#define PING_TIMEOUT_MS    10000U
#define ACK_TIMEOUT_MS     30000U
#define BACKOFF_FLOOR_MS   50U

enum sp_err sp_app_init(struct sp_app *app, const struct sp_app_config *config,
                        const struct sp_app_seams *seams)
{
    if (!sp_link_identity_valid(config->identity) || config->period_ms == 0 ||
        config->backoff_min_ms == 0 || config->backoff_max_ms < config->backoff_min_ms) {
        return SP_ERR_ARGUMENT;
    }
    *app = (struct sp_app){.config = *config, .seams = *seams, .state = SP_APP_WAITING};
    struct sp_mqtt_client_opts opts = {
        .slots = app->slots,
        .slot_count = sizeof(app->slots) / sizeof(app->slots[0]),
        .max_packet = SP_APP_BUFFER,
        .connect_timeout_ms = CONNECT_TIMEOUT_MS,
        .ping_timeout_ms = PING_TIMEOUT_MS,
        .ack_timeout_ms = ACK_TIMEOUT_MS,
    };
    return sp_mqtt_client_init(&app->mqtt, &opts);
}

void sp_app_log(const struct sp_app *app, const char *event, int32_t code, struct sp_view text)
{
    app->seams.log(app->seams.ctx, event, code, text);
}

int64_t sp_app_utc(const struct sp_app *app, uint64_t now_ms)
{
    return app->utc_offset == 0 ? 0 : app->utc_offset + (int64_t)(now_ms / 1000U);
}

/* Full jitter: anything between nothing (but a floor) and the doubled bound. */
static uint32_t backoff_ms(const struct sp_app *app)
{
    uint64_t bound = app->config.backoff_min_ms;
    for (unsigned i = 1; i < app->failures && bound < app->config.backoff_max_ms; i++) {
        bound *= 2;
    }
    if (bound > app->config.backoff_max_ms) {
        bound = app->config.backoff_max_ms;
    }
    uint32_t wait = (uint32_t)(app->seams.random(app->seams.ctx) % (bound + 1));
    return wait < BACKOFF_FLOOR_MS ? BACKOFF_FLOOR_MS : wait;
}

static void close_all(struct sp_app *app)
{
    sp_mqtt_client_close(&app->mqtt);
    app->seams.channel.close(app->seams.channel.ctx);
    app->rx_used = 0;
    app->tx_used = 0;
    app->state = SP_APP_WAITING;
}

void sp_app_fail(struct sp_app *app, uint64_t now_ms, const char *event, int32_t code,
                 struct sp_view text)
{
    sp_app_log(app, event, code, text);
    close_all(app);
    app->failures++;
    uint32_t wait = backoff_ms(app);
    app->due_ms = now_ms + wait;
    sp_app_log(app, "waiting_ms", (int32_t)wait, (struct sp_view){0});
}

static void fail_channel(struct sp_app *app, uint64_t now_ms)
{
    const struct sp_channel *channel = &app->seams.channel;
    sp_app_fail(app, now_ms, "connection_failed", -1, sp_view_str(channel->describe(channel->ctx)));
}

/* Each state's step returns true when another step may follow at once. */

static bool step_waiting(struct sp_app *app, uint64_t now_ms)
{
    if (now_ms < app->due_ms) {
        return false;
    }
    if (app->seams.channel.open(app->seams.channel.ctx) != SP_OK) {
        fail_channel(app, now_ms);
        return false;
    }
    app->due_ms = now_ms + SECURE_TIMEOUT_MS;
    app->state = SP_APP_SECURING;
    return true;
}

static bool step_securing(struct sp_app *app, uint64_t now_ms)
{
    const struct sp_channel *channel = &app->seams.channel;
    enum sp_err err = channel->secure(channel->ctx);
    if (err == SP_ERR_AGAIN) {
        if (now_ms >= app->due_ms) {
            sp_app_fail(app, now_ms, "connection_failed", -1,
                        SP_VIEW_LIT("no TLS handshake in time"));
        }
        return false;
    }
    if (err != SP_OK) {
        fail_channel(app, now_ms);
        return false;
    }
    sp_app_log(app, "secured", -1, sp_view_str(channel->describe(channel->ctx)));
    return sp_app_join(app, now_ms);
}

static bool step_connected(struct sp_app *app, uint64_t now_ms)
{
    (void)(sp_app_exchange(app, now_ms) && app->state == SP_APP_ONLINE &&
           sp_app_publish(app, now_ms) && sp_app_exchange(app, now_ms));
    return false;
}

static uint64_t earlier(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static uint64_t next_step(const struct sp_app *app)
{
    uint64_t next = app->due_ms;
    if (app->state == SP_APP_JOINING || app->state == SP_APP_ONLINE) {
        next = sp_mqtt_client_deadline(&app->mqtt);
    }
    if (app->started && app->config.role == SP_APP_SENSOR && app->queue_used < SP_APP_QUEUE_MAX &&
        (app->config.count == 0 || app->readings < app->config.count)) {
        next = earlier(next, app->next_reading_ms);
    }
    if (app->state == SP_APP_ONLINE && (app->queue_used != 0 || app->ack_len != 0) &&
        !app->in_flight && app->tx_used == 0) { /* else the network has to move first */
        next = earlier(next, app->publish_ms);
    }
    return next;
}

uint64_t sp_app_step(struct sp_app *app, uint64_t now_ms)
{
    static bool (*const steps[])(struct sp_app * app, uint64_t now_ms) = {
        [SP_APP_WAITING] = step_waiting,
        [SP_APP_SECURING] = step_securing,
        [SP_APP_JOINING] = step_connected,
        [SP_APP_ONLINE] = step_connected,
    };
    sp_app_sample(app, now_ms);
    while (steps[app->state](app, now_ms)) {
    }
    return next_step(app);
}

bool sp_app_done(const struct sp_app *app)
{
    uint64_t so_far =
        app->config.role == SP_APP_MONITOR ? app->received : app->accepted + app->rejected;
    return app->config.count != 0 && so_far >= app->config.count;
}

void sp_app_stop(struct sp_app *app)
{
    const struct sp_channel *channel = &app->seams.channel;
    struct sp_writer w = sp_app_writer(app);
    if (app->state == SP_APP_ONLINE &&
        sp_mqtt_client_disconnect(&app->mqtt, SP_MQTT_RC_SUCCESS, &w) == SP_OK) {
        sp_app_sent(app, &w);
        size_t sent = 0;
        (void)channel->write(channel->ctx, sp_view(app->tx, app->tx_used), &sent);
    }
    close_all(app);
}
