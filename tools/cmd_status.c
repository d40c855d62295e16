/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <cjson/cJSON.h>
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "gateway/metrics/metrics.h"
#include "gateway/proc/status_socket.h"
#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/options.h"

#define MIB 1048576.0

static const char help[] = "sallyport status: what the running gateway is doing\n"
                           "\n"
                           "  sallyport status [--json] [--watch] -c FILE\n"
                           "\n"
                           "  -c, --config FILE   the gateway's configuration\n"
                           "  --json              one JSON document: processes, listeners, cloud, "
                           "journal, every metric by name\n"
                           "  --watch             again every two seconds, until Ctrl-C\n"
                           "\n"
                           "Rates are per second, from two samples one second apart. Single "
                           "devices: sallyport device list.\n"
                           "Exit status: 0 done, 1 no gateway runs, 2 wrong usage.\n";

/* One document, and when it was asked for. */
struct sample {
    cJSON *doc;
    double seconds;
};

static double now_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* The text that the gateway sends, for the caller to free; NULL after saying why. */
static char *ask(const struct sp_config *config)
{
    char *text;
    enum sp_err err = sp_status_ask(config->state_dir, &text);
    if (err == SP_ERR_CLOSED) {
        (void)sp_tool_error(SP_EXIT_FAILED, "status",
                            "no gateway runs on %s: start it with sallyport run -c FILE",
                            config->state_dir);
    } else if (err != SP_OK) {
        (void)sp_tool_error(SP_EXIT_FAILED, "status", "%s: %s", config->state_dir, strerror(errno));
    }
    return text;
}

static bool take_sample(const struct sp_config *config, struct sample *out)
{
    char *text = ask(config);
    if (text == NULL) {
        return false;
    }
    out->seconds = now_seconds();
    out->doc = cJSON_Parse(text);
    free(text);
    if (out->doc == NULL) {
        (void)sp_tool_error(SP_EXIT_FAILED, "status", "the gateway's answer is not JSON");
    }
    return out->doc != NULL;
}

/* ---- looking into a document; what is missing is 0 or "" ---- */

static double number_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsNumber(item) ? item->valuedouble : 0;
}

static const char *text_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : "";
}

static const cJSON *part_of(const cJSON *object, const char *name)
{
    return cJSON_GetObjectItemCaseSensitive(object, name);
}

static double metric_of(const struct sample *s, enum sp_metric metric)
{
    char name[96];
    sp_metric_name(metric, name, sizeof(name));
    return number_of(part_of(s->doc, "metrics"), name);
}

static double rate_of(const struct sample *a, const struct sample *b, enum sp_metric metric)
{
    double span = b->seconds - a->seconds;
    return span > 0 ? (metric_of(b, metric) - metric_of(a, metric)) / span : 0;
}

/* ---- the screen ---- */

static void print_uptime(double seconds)
{
    long s = (long)seconds;
    if (s >= 86400) {
        printf("%ld d %ld h", s / 86400, s % 86400 / 3600);
    } else if (s >= 3600) {
        printf("%ld h %ld min", s / 3600, s % 3600 / 60);
    } else if (s >= 60) {
        printf("%ld min %ld s", s / 60, s % 60);
    } else {
        printf("%ld s", s);
    }
}

static void print_bytes(double bytes)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB"};
    size_t unit = 0;
    while (bytes >= 1024 && unit < 3) {
        bytes /= 1024;
        unit++;
    }
    printf(unit == 0 ? "%.0f %s" : "%.1f %s", bytes, units[unit]);
}

static void print_gateway(const struct sample *s)
{
    printf("%-13s %s: %s, up ", "Gateway", text_of(s->doc, "gateway"), text_of(s->doc, "state"));
    print_uptime(number_of(s->doc, "uptime_seconds"));
    printf(" (version %s, pid %.0f)\n%-13s", text_of(s->doc, "version"), number_of(s->doc, "pid"),
           "Listening");
    const cJSON *item;
    cJSON_ArrayForEach(item, part_of(s->doc, "listeners"))
    {
        const char *host = text_of(item, "host");
        bool v6 = strchr(host, ':') != NULL;
        printf(" %s%s%s:%.0f", v6 ? "[" : "", host, v6 ? "]" : "", number_of(item, "port"));
    }
    printf("\n%-13s", "Processes");
    const char *comma = "";
    cJSON_ArrayForEach(item, part_of(s->doc, "processes"))
    {
        printf("%s %s %s", comma, item->string, text_of(item, "state"));
        if (number_of(item, "restarts") > 0) {
            printf(" (restarted %.0f x)", number_of(item, "restarts"));
        }
        comma = ",";
    }
    if (metric_of(s, SP_M_FORBIDDEN_CALLS) > 0) {
        printf("\n%-13s %.0f times a process made a system call that its sandbox forbids; see the "
               "log",
               "Sandbox", metric_of(s, SP_M_FORBIDDEN_CALLS));
    }
    printf("\n\n");
}

static void print_devices(const struct sample *s)
{
    printf("%-13s %.0f registered, %.0f connected, %.0f attested, %.0f waiting for a verdict, %.0f "
           "sessions away\n",
           "Devices", metric_of(s, SP_M_DEVICES), metric_of(s, SP_M_DEVICES_ONLINE),
           metric_of(s, SP_M_DEVICES_ATTESTED), metric_of(s, SP_M_GUESTS),
           metric_of(s, SP_M_SESSIONS_OFFLINE));
}

static void print_attestation(const struct sample *a, const struct sample *b)
{
    static const char *const names[] = {
#define X(name, text) text,
        SP_ATTEST_CHECK_MAP(X)
#undef X
    };
    double refused = 0;
    for (unsigned c = 1; c < SP_ATTEST_CHECK_COUNT; c++) {
        refused += metric_of(b, (enum sp_metric)(SP_M_ATTEST_REFUSED + c));
    }
    printf("%-13s %.0f ok (%.1f/s), %.0f refused", "Attestation", metric_of(b, SP_M_ATTEST_OK),
           rate_of(a, b, SP_M_ATTEST_OK), refused);
    const char *lead = ": ";
    for (unsigned c = 1; c < SP_ATTEST_CHECK_COUNT; c++) {
        double count = metric_of(b, (enum sp_metric)(SP_M_ATTEST_REFUSED + c));
        if (count > 0) {
            printf("%s%.0f %s", lead, count, names[c]);
            lead = ", ";
        }
    }
    printf("\n");
}

static void print_tls(const struct sample *a, const struct sample *b)
{
    printf("%-13s %.0f handshakes (%.1f/s), %.0f failed: %.0f unknown identity, %.0f wrong key\n",
           "TLS", metric_of(b, SP_M_TLS_OK), rate_of(a, b, SP_M_TLS_OK),
           metric_of(b, SP_M_TLS_FAILED), metric_of(b, SP_M_TLS_UNKNOWN_IDENTITY),
           metric_of(b, SP_M_TLS_WRONG_KEY));
}

/* What limits do: who waits, who was closed by which, since the start. */
static void print_limits(const struct sample *s)
{
    static const enum sp_metric shed[] = {
        SP_M_SHED_CONNECTIONS, SP_M_SHED_ADDRESS, SP_M_SHED_WAITING,  SP_M_SHED_WAITING_ADDRESS,
        SP_M_SHED_QUEUE,       SP_M_SHED_CROWDED, SP_M_SHED_IDENTITY, SP_M_SHED_DESCRIPTORS,
        SP_M_SHED_MEMORY,      SP_M_SHED_KEYS};
    const cJSON *limits = part_of(s->doc, "limits");
    printf("%-13s %.0f of %.0f handshakes, %.0f of %.0f waiting, %.1f of %.0f MiB unread, %.1f of "
           "%.0f MiB queued, "
           "%.0f slow readers closed, accept paused %.0f x, %.0f shed",
           "Limits", metric_of(s, SP_M_HANDSHAKES), number_of(limits, "handshakes"),
           metric_of(s, SP_M_CONNECTIONS_WAITING), number_of(limits, "waiting"),
           metric_of(s, SP_M_WRITE_BUFFERS) / MIB, number_of(limits, "write_buffers") / MIB,
           metric_of(s, SP_M_SESSION_QUEUES) / MIB, number_of(limits, "session_queues") / MIB,
           metric_of(s, SP_M_SLOW_CLOSED), metric_of(s, SP_M_ACCEPT_PAUSED),
           metric_of(s, SP_M_CONNECTIONS_SHED));
    const char *lead = ": ";
    for (size_t i = 0; i < sizeof(shed) / sizeof(shed[0]); i++) {
        char name[96];
        double number = metric_of(s, shed[i]);
        sp_metric_name(shed[i], name, sizeof(name));
        if (number > 0) {
            const char *label = strchr(name, '"') + 1;
            printf("%s%.0f %.*s", lead, number, (int)strcspn(label, "\""), label);
            lead = ", ";
        }
    }
    printf("\n");
}

static void print_messages(const struct sample *a, const struct sample *b)
{
    printf("%-13s %.0f received (%.1f/s), %.0f delivered (%.1f/s), %.0f denied, %.0f dropped\n",
           "Messages", metric_of(b, SP_M_PUBLISH_IN), rate_of(a, b, SP_M_PUBLISH_IN),
           metric_of(b, SP_M_PUBLISH_OUT), rate_of(a, b, SP_M_PUBLISH_OUT),
           metric_of(b, SP_M_PUBLISH_DENIED), metric_of(b, SP_M_PUBLISH_DROPPED));
}

static void print_cloud(const struct sample *a, const struct sample *b)
{
    const cJSON *cloud = part_of(b->doc, "cloud");
    if (!cJSON_IsTrue(part_of(cloud, "configured"))) {
        printf("%-13s not configured\n", "Cloud");
        return;
    }
    printf("%-13s %s: %.0f of %.0f links up, %.0f acknowledged (%.1f/s), %.0f commands\n", "Cloud",
           text_of(cloud, "endpoint"), number_of(cloud, "connected"), number_of(cloud, "links"),
           metric_of(b, SP_M_CLOUD_PUBLISHED), rate_of(a, b, SP_M_CLOUD_PUBLISHED),
           metric_of(b, SP_M_CLOUD_COMMANDS));
}

/* When the journal is full, or empty, if everything goes on as in the last seconds. */
static void print_outlook(const struct sample *a, const struct sample *b)
{
    double used = metric_of(b, SP_M_JOURNAL_BYTES);
    double limit = number_of(part_of(b->doc, "journal"), "limit_bytes");
    double rate = rate_of(a, b, SP_M_JOURNAL_BYTES);
    if (rate > 0) {
        printf("; full in %.0f s at this rate", (limit - used) / rate);
    } else if (rate < 0) {
        printf("; empty in %.0f s at this rate", used / -rate);
    }
}

static void print_journal(const struct sample *a, const struct sample *b)
{
    printf("%-13s %.0f messages held, ", "Journal", metric_of(b, SP_M_JOURNAL_DEPTH));
    print_bytes(metric_of(b, SP_M_JOURNAL_BYTES));
    printf(" of ");
    print_bytes(number_of(part_of(b->doc, "journal"), "limit_bytes"));
    printf(", oldest %.0f s, %.1f/s in, %.0f dead letters, %.0f refused",
           metric_of(b, SP_M_JOURNAL_OLDEST), rate_of(a, b, SP_M_JOURNAL_APPENDED),
           metric_of(b, SP_M_JOURNAL_DEAD), metric_of(b, SP_M_JOURNAL_REFUSED));
    print_outlook(a, b);
    printf("\n");
}

static void print_screen(const struct sample *a, const struct sample *b)
{
    print_gateway(b);
    print_devices(b);
    print_attestation(a, b);
    print_tls(a, b);
    print_limits(b);
    print_messages(a, b);
    print_cloud(a, b);
    print_journal(a, b);
    (void)fflush(stdout);
}

static void nap(time_t seconds)
{
    const struct timespec time = {.tv_sec = seconds};
    (void)nanosleep(&time, NULL);
}

static int show_text(const struct sp_config *config, bool watch)
{
    struct sample before = {0};
    struct sample after = {0};
    if (!take_sample(config, &before)) {
        return SP_EXIT_FAILED;
    }
    nap(1);
    bool ok = take_sample(config, &after);
    while (ok) {
        if (watch && isatty(STDOUT_FILENO)) {
            printf("\033[H\033[2J");
        }
        print_screen(&before, &after);
        if (!watch) {
            break;
        }
        cJSON_Delete(before.doc);
        before = after;
        after.doc = NULL;
        nap(2);
        ok = take_sample(config, &after);
    }
    cJSON_Delete(before.doc);
    cJSON_Delete(after.doc);
    return ok ? SP_EXIT_DONE : SP_EXIT_FAILED;
}

static int show_json(const struct sp_config *config, bool watch)
{
    char *text = ask(config);
    while (text != NULL) {
        printf("%s\n", text);
        free(text);
        if (!watch || fflush(stdout) != 0) {
            return SP_EXIT_DONE;
        }
        nap(2);
        text = ask(config);
    }
    return SP_EXIT_FAILED;
}

int sp_cmd_status(int argc, char **argv)
{
    const char *file = NULL;
    bool json = false;
    bool watch = false;
    const struct sp_option options[] = {{.name = "--config", .letter = "-c", .value = &file},
                                        {.name = "--json", .on = &json},
                                        {.name = "--watch", .on = &watch},
                                        {.name = NULL}};
    struct sp_config *config;
    int status = sp_options_config(argc, argv, options, help, &file, sp_config_load, SP_EXIT_FAILED,
                                   &config);
    if (status >= 0) {
        return status;
    }
    status = json ? show_json(config, watch) : show_text(config, watch);
    sp_config_destroy(config);
    return status;
}
