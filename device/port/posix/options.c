/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/options.h"

#include "device/port/suites.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define PERIOD_MAX_MS 86400000U

/* A duration such as 5s, 500ms, 1m, 1h; 0 is refused. */
static bool parse_duration(const char *text, uint32_t *out)
{
    static const struct {
        const char *name;
        uint32_t ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}, {"h", 3600000}};
    uint64_t value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 9) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10U + (uint64_t)(text[i] - '0');
    }
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(text + digits, units[i].name) == 0 && value != 0 &&
            value * units[i].ms <= PERIOD_MAX_MS) {
            *out = (uint32_t)(value * units[i].ms);
            return true;
        }
    }
    return false;
}

static bool set_bundle(struct sp_options *o, const char *text)
{
    o->bundle = text;
    return true;
}

static bool set_gateway(struct sp_options *o, const char *text)
{
    o->gateway = text;
    return true;
}

static bool set_state(struct sp_options *o, const char *text)
{
    o->state = text;
    return true;
}

static bool set_sensor(struct sp_options *o, const char *text)
{
    o->sensor = text;
    return true;
}

static bool set_period(struct sp_options *o, const char *text)
{
    return parse_duration(text, &o->period_ms);
}

static bool set_backoff(struct sp_options *o, const char *text)
{
    return parse_duration(text, &o->backoff_max_ms);
}

static bool set_count(struct sp_options *o, const char *text)
{
    char *end = NULL;
    size_t digits = strspn(text, "0123456789");
    o->count = strtoull(text, &end, 10);
    return digits != 0 && digits <= 18 && *end == 0 && o->count != 0;
}

static bool set_suite(struct sp_options *o, const char *text)
{
    return sp_device_suites_add(sp_view_str(text), &o->suites);
}

static bool set_tamper(struct sp_options *o, const char *text)
{
    return sp_tamper_parse(text, &o->tamper) == SP_OK;
}

static bool set_exit_on_refusal(struct sp_options *o, const char *text)
{
    (void)text;
    o->exit_on_refusal = true;
    return true;
}

static bool set_print_measurement(struct sp_options *o, const char *text)
{
    (void)text;
    o->print_measurement = true;
    return true;
}

static bool set_help(struct sp_options *o, const char *text)
{
    (void)text;
    o->help = true;
    return true;
}

static const struct option {
    const char *name;
    const char *value; /* what --help calls it; NULL: takes none */
    bool (*set)(struct sp_options *o, const char *text);
    const char *help;
} options[] = {
    {"--bundle", "FILE", set_bundle,
     "what provisioning made: sallyport device add ID … --bundle FILE"},
    {"--gateway", "HOST:PORT", set_gateway, "where the gateway listens, e.g. 127.0.0.1:8883"},
    {"--state", "DIR", set_state,
     "keep keys in DIR; after the first start the bundle is not needed"},
    {"--sensor", "SPEC", set_sensor, "constant:23.5,41.0 | wave | file:PATH (default: wave)"},
    {"--period", "TIME", set_period, "between readings: 500ms, 5s, 1m (default: 5s)"},
    {"--count", "N", set_count, "end after N records; exit 0 when each was acknowledged"},
    {"--suite", "NAME", set_suite,
     "a set (profile-small, forward-secret, all) or one suite by IANA name; may be repeated"},
    {"--tamper", "HOW", set_tamper, "lie: none | measurement | lifecycle | mac | replay"},
    {"--backoff", "TIME", set_backoff, "longest wait between attempts to connect (default: 1m)"},
    {"--exit-on-refusal", NULL, set_exit_on_refusal, "exit 1 when the gateway refuses the device"},
    {"--print-measurement", NULL, set_print_measurement,
     "print this program's measurement as arguments of: sallyport reference add"},
    {"--help", NULL, set_help, "print this"},
};

void sp_options_help(void)
{
    printf("usage: sallyport-device --bundle FILE --gateway HOST:PORT [options]\n"
           "       sallyport-device --print-measurement\n\n"
           "A device as a process: attests itself to the gateway, then publishes readings (role\n"
           "sensor) or prints what others published, one JSON object per line (role monitor).\n\n");
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        char head[40];
        (void)snprintf(head, sizeof(head), "%s %s", options[i].name,
                       options[i].value != NULL ? options[i].value : "");
        printf("  %-22s %s\n", head, options[i].help);
    }
}

static const struct option *find_option(const char *arg, size_t len)
{
    for (size_t i = 0; i < sizeof(options) / sizeof(options[0]); i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, arg, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static enum sp_err wrong(const char *what, const char *arg)
{
    (void)fprintf(stderr, "sallyport-device: %s: %s (see --help)\n", arg, what);
    return SP_ERR_ARGUMENT;
}

/* Takes argv[*i], and argv[*i + 1] when that is its value. */
static enum sp_err parse_one(int argc, char **argv, int *i, struct sp_options *out)
{
    const char *arg = argv[*i];
    const char *equals = strchr(arg, '=');
    size_t len = equals != NULL ? (size_t)(equals - arg) : strlen(arg);
    const struct option *option = find_option(arg, len);
    if (option == NULL) {
        return wrong("no such option", arg);
    }
    const char *value = equals != NULL ? equals + 1 : NULL;
    if (option->value == NULL && value != NULL) {
        return wrong("takes no value", option->name);
    }
    if (option->value != NULL && value == NULL) {
        if (*i + 1 >= argc) {
            return wrong("a value is missing", option->name);
        }
        value = argv[++*i];
    }
    if (!option->set(out, value)) {
        (void)fprintf(stderr, "sallyport-device: %s %s: should be %s: %s\n", option->name, value,
                      option->value, option->help);
        return SP_ERR_ARGUMENT;
    }
    return SP_OK;
}

enum sp_err sp_options_parse(int argc, char **argv, struct sp_options *out)
{
    *out = (struct sp_options){.sensor = "wave", .period_ms = 5000, .backoff_max_ms = 60000};
    for (int i = 1; i < argc; i++) {
        SP_TRY(parse_one(argc, argv, &i, out));
    }
    if (out->help || out->print_measurement) {
        return SP_OK;
    }
    if (out->bundle == NULL && out->state == NULL) {
        return wrong("missing; where are the device's keys?", "--bundle FILE");
    }
    if (out->gateway == NULL) {
        return wrong("missing; where is the gateway?", "--gateway HOST:PORT");
    }
    return SP_OK;
}
