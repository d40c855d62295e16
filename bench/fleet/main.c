/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* sallyport-fleet: thousands of TLS-PSK MQTT devices that attest, in one process. See bench/README.md. */
#include "bench/fleet/scenario.h"

#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

static struct sp_fleet fleet;

static void on_signal(int number)
{
    (void)number;
    fleet.stop = true;
}

static FILE *secret_create(const char *name)
{
    mode_t before = umask(077);
    FILE *file = fopen(name, "w");
    umask(before);
    if (file == NULL) {
        fprintf(stderr, "sallyport-fleet: %s cannot be written\n", name);
    }
    return file;
}

static enum sp_err batches_write(const struct sp_fleet_options *o, FILE *out, FILE *psk_file)
{
    char sensor[SP_LINK_IDENTITY_MAX];
    char monitor[SP_LINK_IDENTITY_MAX];
    snprintf(sensor, sizeof(sensor), "%s-s", o->prefix);
    snprintf(monitor, sizeof(monitor), "%s-m", o->prefix);
    struct sp_fleet_batch batches[] = {
        {sensor, "sensor", o->attestation, o->sensors},
        {monitor, "monitor", o->attestation, o->monitors},
    };
    SP_TRY(sp_fleet_batch_write(&batches[0], out, psk_file));
    return sp_fleet_batch_write(&batches[1], out, psk_file);
}

/* On stdout: the options of `sallyport reference add` that make these devices' software known. */
static void reference_print(void)
{
    char hex[65];
    sp_hex_format(SP_VIEW_ARRAY(sp_attester_implementation_id), hex);
    printf("--implementation-id %s", hex);
    sp_hex_format(SP_VIEW_ARRAY(sp_attester_measurement), hex);
    printf(" --component %s=%s", SP_ATTESTER_COMPONENT_TYPE, hex);
    sp_hex_format(SP_VIEW_ARRAY(sp_attester_signer_id), hex);
    printf(",signer=%s,version=%s\n", hex, SP_ATTESTER_COMPONENT_VERSION);
}

static int keys_main(const struct sp_fleet_options *options)
{
    FILE *out = secret_create(options->fleet);
    FILE *psk_file = options->psk_file == NULL ? NULL : secret_create(options->psk_file);
    bool good = out != NULL && (options->psk_file == NULL || psk_file != NULL) &&
                batches_write(options, out, psk_file) == SP_OK;
    good = (out == NULL || fclose(out) == 0) && good;
    good = (psk_file == NULL || fclose(psk_file) == 0) && good;
    if (!good) {
        fprintf(stderr, "sallyport-fleet: no fleet made; is the prefix a valid device name?\n");
        return 1;
    }
    reference_print();
    return 0;
}

static void files_allow(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
        limit.rlim_cur = limit.rlim_max;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int network_main(int (*run)(const struct sp_scenario *scenario),
                        const struct sp_fleet_options *options)
{
    struct sigaction action = {.sa_handler = on_signal};
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    signal(SIGPIPE, SIG_IGN);
    files_allow();
    struct sp_fleet_roll roll;
    fleet.options = options;
    if (sp_fleet_tls_init(options->suite) != SP_OK) {
        fprintf(stderr, "sallyport-fleet: --suite is ccm-8, ccm or gcm\n");
        return 2;
    }
    enum sp_err err = sp_fleet_open(&fleet);
    if (err != SP_OK) {
        fprintf(stderr, "sallyport-fleet: %s\n",
                err == SP_ERR_ARGUMENT ? "--gateway is a numeric IPv4 ADDRESS:PORT"
                                       : "--paced wants a pipe or a terminal on stdin");
        return 2;
    }
    int code = 1;
    if (sp_fleet_roll_load(options->fleet, &roll) == SP_OK) {
        struct sp_scenario scenario = {&fleet, &roll};
        code = roll.count == 0 ? 1 : run(&scenario);
        sp_fleet_roll_deinit(&roll);
    }
    sp_fleet_close(&fleet);
    sp_fleet_tls_deinit();
    return code;
}

static const struct command {
    const char *name;
    enum sp_fleet_command command;
    int (*run)(const struct sp_scenario *scenario); /* NULL: keys */
    const char *help;
} commands[] = {
    {"keys", SP_FLEET_KEYS, NULL, "make a fleet file; prints what `sallyport reference add` wants"},
    {"connect", SP_FLEET_CONNECT, sp_scenario_connect,
     "connect, attest, disconnect, --count times"},
    {"hold", SP_FLEET_HOLD, sp_scenario_hold, "keep --count devices connected until a signal"},
    {"publish", SP_FLEET_PUBLISH, sp_scenario_publish, "send messages and count what arrives"},
    {"storm", SP_FLEET_STORM, sp_scenario_storm,
     "--count devices at once, each again until it is admitted"},
};
#define COMMANDS (sizeof(commands) / sizeof(commands[0]))

static void help_print(void)
{
    printf("sallyport-fleet COMMAND --fleet FILE [options]: many devices, for load and "
           "measurements\n");
    for (size_t i = 0; i < COMMANDS; i++) {
        printf("\n%s: %s\n", commands[i].name, commands[i].help);
        sp_fleet_options_help(commands[i].command);
    }
    printf("\nEach prints JSON lines: `ready` when it is set up, `done` with the result.\n"
           "Example: sallyport-fleet publish --fleet f.jsonl --publishers 1000 --qos 1 --count "
           "100000\n");
}

int main(int argc, char **argv)
{
    struct sp_fleet_options options = {
        .gateway = "127.0.0.1:8883",
        .suite = "ccm-8",
        .topic = "dt/{id}/climate",
        .prefix = "bench",
        .attestation = "required",
        .count = 1000,
        .concurrency = 8,
        .publishers = 1,
        .subscribers = 1,
        .window = 64,
        .keep_alive = 600,
    };
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        help_print();
        return 0;
    }
    for (size_t i = 0; argc > 1 && i < COMMANDS; i++) {
        const struct command *command = &commands[i];
        if (strcmp(argv[1], command->name) != 0) {
            continue;
        }
        if (!sp_fleet_options_parse(command->command, argc - 1, argv + 1, &options)) {
            return 2;
        }
        if (options.filter == NULL && command->command == SP_FLEET_PUBLISH) {
            options.filter = "dt/+/climate";
        }
        return command->run == NULL ? keys_main(&options) : network_main(command->run, &options);
    }
    fprintf(stderr, "sallyport-fleet: keys, connect, hold, publish or storm? See --help\n");
    return 2;
}
