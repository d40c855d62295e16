/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The firmware's non-secure world. Two tasks: `app` has network, TLS and the application to itself; `watch` sees that it
 * keeps going and restarts the device if it does not. Interrupts only move bytes and wake `app`.
 */
#include "board.h"
#include "device/app/app.h"
#include "device/app/monitor.h"
#include "device/app/profile.h"
#include "device/port/freertos/console.h"
#include "device/port/freertos/firmware.h"
#include "device/port/freertos/network.h"
#include "device/port/freertos/settings.h"
#include "device/port/tls_mbedtls.h"
#include "device/secure/partitions/crypto/crypto_keys.h"
#include "psa/initial_attestation.h"

#include "FreeRTOS.h"
#include "task.h"

#include <mbedtls/memory_buffer_alloc.h>
#include <psa/crypto.h>

#define APP_STACK_WORDS   3072U
#define WATCH_STACK_WORDS 512U
#define TLS_HEAP          32768U
#define KEEP_ALIVE_S      30U
#define BACKOFF_MIN_MS    500U
#define BACKOFF_MAX_MS    30000U
#define SLEEP_MAX_MS      10000U
#define RETRY_MS          30000U
#define WATCH_PERIOD_MS   5000U
#define WATCH_LIMIT       24U /* periods without a round of the application's loop */

static StackType_t app_stack[APP_STACK_WORDS] __attribute__((aligned(8)));
static StackType_t watch_stack[WATCH_STACK_WORDS] __attribute__((aligned(8)));
static StaticTask_t app_tcb;
static StaticTask_t watch_tcb;
static TaskHandle_t app_task;
static volatile uint32_t rounds; /* of the application's loop */

static uint8_t tls_heap[TLS_HEAP] __attribute__((aligned(8)));
static struct sp_app app;
static struct sp_profile profile;
static struct sp_settings settings;

void sp_firmware_wake(void)
{
    BaseType_t yield = pdFALSE;
    if (app_task != NULL) {
        vTaskNotifyGiveFromISR(app_task, &yield);
    }
    portYIELD_FROM_ISR(yield);
}

static uint32_t seam_random(void *ctx)
{
    (void)ctx;
    return sp_firmware_random();
}

static void seam_log(void *ctx, const char *event, int32_t code, struct sp_view text)
{
    (void)ctx;
    sp_console_event(event, code, text);
}

static void seam_record(void *ctx, struct sp_view topic, struct sp_view payload,
                        int64_t utc_seconds)
{
    (void)ctx;
    static uint8_t line[SP_MONITOR_LINE_MAX(SP_APP_BUFFER)];
    struct sp_writer w;
    sp_writer_init(&w, line, sizeof(line));
    enum sp_err err = sp_monitor_line(topic, payload, utc_seconds * 1000, &w);
    if (err == SP_ERR_EXISTS) {
        return; /* a repeat */
    }
    if (err != SP_OK) {
        sp_console_event("record_not_shown", (int32_t)err, topic);
        return;
    }
    sp_console_line(sp_writer_view(&w));
}

static const char *prepare(void)
{
    struct sp_tls_client *tls = NULL;
    if (psa_crypto_init() != PSA_SUCCESS) {
        return "the crypto service does not answer";
    }
    if (sp_profile_load(&profile) != PSA_SUCCESS) {
        return "the device is not provisioned";
    }
    if (sp_settings_load(&settings) != SP_OK) {
        return "the settings make no sense";
    }
    if (!sp_network_start(&settings.network)) {
        return "the network hardware does not answer";
    }
    const struct sp_tls_client_opts opts = {
        .stream = sp_network_stream(),
        .psk = SP_KEY_PSK,
        .identity = sp_view(profile.identity, profile.identity_len),
        .suites = profile.suites,
    };
    if (sp_tls_client_create(&opts, &tls) != SP_OK) {
        return "TLS does not start";
    }
    const struct sp_app_config config = {
        .identity = opts.identity,
        .binding = profile.binding,
        .role = profile.role,
        .period_ms = settings.period_ms,
        .keep_alive = KEEP_ALIVE_S,
        .backoff_min_ms = BACKOFF_MIN_MS,
        .backoff_max_ms = BACKOFF_MAX_MS,
    };
    const struct sp_app_seams seams = {
        .channel = sp_tls_client_channel(tls),
        .attest = psa_initial_attest_get_token,
        .random = seam_random,
        .log = seam_log,
        .record = seam_record,
    };
    return sp_app_init(&app, &config, &seams) == SP_OK ? NULL : "the configuration makes no sense";
}

static void sleep_until(uint64_t due)
{
    uint64_t now = sp_firmware_now();
    uint64_t wait = due <= now ? 0 : due - now < SLEEP_MAX_MS ? due - now : SLEEP_MAX_MS;
    (void)ulTaskNotifyTake(pdTRUE, (TickType_t)wait);
}

static void run_app(void *arg)
{
    (void)arg;
    const char *why = prepare();
    if (why != NULL) {
        sp_console_event("cannot_start", -1, sp_view_str(why));
        vTaskDelay(RETRY_MS);
        sp_firmware_halt(why, __LINE__);
    }
    sp_console_event("started", -1, sp_view(profile.identity, profile.identity_len));
    for (;;) {
        uint64_t now = sp_firmware_now();
        sp_network_poll(now);
        uint64_t next = sp_app_step(&app, now);
        uint64_t due = sp_network_due(now);
        rounds++;
        sleep_until(due < next ? due : next);
    }
}

static void run_watch(void *arg)
{
    (void)arg;
    uint32_t seen = rounds;
    for (uint32_t silent = 0; silent < WATCH_LIMIT; silent++) {
        vTaskDelay(WATCH_PERIOD_MS);
        if (rounds != seen) {
            seen = rounds;
            silent = 0;
        }
    }
    sp_firmware_halt("the application hangs", __LINE__);
}

int main(void)
{
    mbedtls_memory_buffer_alloc_init(tls_heap, sizeof(tls_heap));
    sp_firmware_start();
    app_task = xTaskCreateStatic(run_app, "app", APP_STACK_WORDS, NULL, 1, app_stack, &app_tcb);
    (void)xTaskCreateStatic(run_watch, "watch", WATCH_STACK_WORDS, NULL, 2, watch_stack,
                            &watch_tcb);
    vTaskStartScheduler();
    return 0;
}
