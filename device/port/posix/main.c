/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* sallyport-device: the device application as a POSIX process. */
#include "device/app/app.h"
#include "device/app/monitor.h"
#include "device/app/profile.h"
#include "device/port/posix/boot_posix.h"
#include "device/port/posix/log_posix.h"
#include "device/port/posix/options.h"
#include "device/port/posix/provision.h"
#include "device/port/posix/sensor_posix.h"
#include "device/port/posix/socket_posix.h"
#include "device/port/posix/storage_posix.h"
#include "device/port/suites.h"
#include "device/secure/partitions/crypto/crypto_keys.h"
#include "device/secure/secure.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define KEEP_ALIVE_S   30U
#define BACKOFF_MIN_MS 500U
#define POLL_MAX_MS    60000U

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2 };

static volatile sig_atomic_t stop_wanted;

static struct sp_boot_record boot;
static struct sp_app app;

static void on_signal(int number)
{
    (void)number;
    stop_wanted = 1;
}

static int64_t clock_ms(clockid_t clock)
{
    struct timespec now;
    (void)clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static uint32_t seam_random(void *ctx)
{
    (void)ctx;
    uint32_t value = 0;
    if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value)) {
        return 0; /* jitter only */
    }
    return value;
}

static void seam_log(void *ctx, const char *event, int32_t code, struct sp_view text)
{
    (void)ctx;
    sp_device_log(event, code, text);
}

static void seam_record(void *ctx, struct sp_view topic, struct sp_view payload,
                        int64_t utc_seconds)
{
    (void)ctx;
    (void)utc_seconds; /* this system has a clock of its own */
    static uint8_t line[SP_MONITOR_LINE_MAX(SP_APP_BUFFER)];
    struct sp_writer w;
    sp_writer_init(&w, line, sizeof(line));
    enum sp_err err = sp_monitor_line(topic, payload, clock_ms(CLOCK_REALTIME), &w);
    if (err == SP_ERR_EXISTS) {
        return; /* a repeat */
    }
    if (err != SP_OK) {
        sp_device_log("record_not_shown", (int32_t)err, topic);
        return;
    }
    struct sp_view text = sp_writer_view(&w);
    (void)fwrite(text.ptr, 1, text.len, stdout);
    (void)fputc('\n', stdout);
    (void)fflush(stdout);
}

static int fail(const char *what, const char *why)
{
    (void)fprintf(stderr, "sallyport-device: %s%s%s\n", what, why[0] != 0 ? ": " : "", why);
    return EXIT_FAILED;
}

static int print_measurement(void)
{
    char id[2 * sizeof(boot.implementation_id) + 1];
    char value[2 * sizeof(boot.components[0].value) + 1];
    if (sp_boot_posix_measure(&boot) != SP_OK) {
        return fail("this program cannot be measured", "");
    }
    sp_hex_format(SP_VIEW_ARRAY(boot.implementation_id), id);
    sp_hex_format(SP_VIEW_ARRAY(boot.components[0].value), value);
    printf("--implementation-id %s --component %s=%s\n", id, boot.components[0].type, value);
    return EXIT_DONE;
}

static enum sp_err start_secure(const struct sp_options *options, const char **why)
{
    struct sp_secure_platform platform = {.boot = &boot};
    *why = "should be constant:23.5,41.0, wave, or file:PATH";
    SP_TRY(sp_sensor_posix_init(options->sensor, &platform.sensor));
    SP_TRY(sp_storage_posix_open(options->state, &platform.storage, why));
    *why = "this program cannot be measured";
    SP_TRY(sp_boot_posix_measure(&boot));
    sp_tamper_boot(options->tamper, &boot);
    psa_status_t status = sp_secure_start(&platform);
    *why = status == PSA_ERROR_DATA_CORRUPT
               ? "the state is damaged: remove it, and start with the bundle"
               : "the secure services do not start";
    return status == PSA_SUCCESS ? SP_OK : SP_ERR_STATE;
}

/* Until --count is reached, a refusal that is to end it, or a signal. */
static int serve(const struct sp_options *options, const struct sp_socket *link)
{
    sigset_t blocked;
    sigset_t during_poll;
    (void)sigemptyset(&blocked);
    (void)sigaddset(&blocked, SIGTERM);
    (void)sigaddset(&blocked, SIGINT);
    (void)sigprocmask(SIG_BLOCK, &blocked, &during_poll);
    while (!stop_wanted) {
        uint64_t now = (uint64_t)clock_ms(CLOCK_MONOTONIC);
        uint64_t next = sp_app_step(&app, now);
        if (sp_app_done(&app)) {
            return app.rejected == 0 ? EXIT_DONE : EXIT_FAILED;
        }
        if (options->exit_on_refusal && app.refusals != 0) {
            return EXIT_FAILED;
        }
        uint64_t wait = next <= now ? 0 : next - now < POLL_MAX_MS ? next - now : POLL_MAX_MS;
        struct timespec timeout = {.tv_sec = (time_t)(wait / 1000U),
                                   .tv_nsec = (long)(wait % 1000U) * 1000000L};
        struct pollfd fd = {.fd = link->fd, .events = POLLIN};
        fd.events |= link->want_write ? POLLOUT : 0;
        (void)ppoll(&fd, 1, &timeout, &during_poll);
    }
    return EXIT_DONE;
}

static int run(const struct sp_options *options)
{
    const char *why = "";

    /* 1. The secure services, over the state if there is one. */
    enum sp_err err = start_secure(options, &why);
    if (err == SP_ERR_MALFORMED) {
        (void)fail("--sensor", why);
        return EXIT_USAGE;
    }
    if (err != SP_OK) {
        return fail(options->state != NULL ? options->state : "start", why);
    }

    /* 2. Keys: from the state, or from the bundle. */
    struct sp_profile profile;
    err = sp_provision(options->bundle, options->state != NULL, &profile, &why);
    if (err != SP_OK) {
        return fail(options->bundle != NULL ? options->bundle : options->state, why);
    }
    struct sp_view identity = sp_view(profile.identity, profile.identity_len);
    sp_device_log_name(identity);

    /* 3. The way to the gateway: TCP, TLS with the PSK's key id. */
    struct sp_socket link;
    if (sp_socket_init(&link, options->gateway) != SP_OK) {
        (void)fail("--gateway should be HOST:PORT, or [ADDRESS]:PORT", "");
        return EXIT_USAGE;
    }
    struct sp_tls_client_opts tls_opts = {
        .stream = sp_socket_stream(&link),
        .psk = sp_crypto_key_psk(),
        .identity = identity,
        .suites = options->suites != 0 ? options->suites : profile.suites,
    };
    struct sp_tls_client *tls = NULL;
    if (sp_tls_client_create(&tls_opts, &tls) != SP_OK) {
        return fail("TLS cannot be set up with this key and these suites", "");
    }

    /* 4. The application. */
    const struct sp_app_config config = {
        .identity = identity,
        .binding = profile.binding,
        .role = profile.role,
        .period_ms = options->period_ms,
        .count = options->count,
        .keep_alive = KEEP_ALIVE_S,
        .backoff_min_ms =
            options->backoff_max_ms < BACKOFF_MIN_MS ? options->backoff_max_ms : BACKOFF_MIN_MS,
        .backoff_max_ms = options->backoff_max_ms,
    };
    const struct sp_app_seams seams = {
        .channel = sp_tls_client_channel(tls),
        .attest = sp_tamper_attest(options->tamper),
        .random = seam_random,
        .log = seam_log,
        .record = seam_record,
    };
    int code = sp_app_init(&app, &config, &seams) == SP_OK
                   ? serve(options, &link)
                   : fail("the configuration makes no sense", "");

    /* 5. Goodbye. */
    sp_app_stop(&app);
    sp_tls_client_destroy(tls);
    return code;
}

int main(int argc, char **argv)
{
    struct sp_options options;
    struct sigaction action = {.sa_handler = on_signal};
    if (sp_options_parse(argc, argv, &options) != SP_OK) {
        return EXIT_USAGE;
    }
    if (options.help) {
        sp_options_help();
        return EXIT_DONE;
    }
    if (options.print_measurement) {
        return print_measurement();
    }
    (void)prctl(PR_SET_DUMPABLE, 0); /* no core dump, no debugger: there are keys in here */
    (void)sigaction(SIGTERM, &action, NULL);
    (void)sigaction(SIGINT, &action, NULL);
    return run(&options);
}
