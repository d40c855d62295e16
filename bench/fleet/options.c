/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/options.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define NETWORK (SP_FLEET_CONNECT | SP_FLEET_HOLD | SP_FLEET_PUBLISH | SP_FLEET_STORM)
#define ALL     (SP_FLEET_KEYS | NETWORK)

enum kind { TEXT, NUMBER, FLAG };

/* TEXT: offset of a const char *; NUMBER: of a uint32_t, within low..high; FLAG: of a bool. */
static const struct option_row {
    const char *name;
    enum kind kind;
    int commands;
    size_t offset;
    uint32_t low;
    uint32_t high;
    const char *help;
} rows[] = {
#define AT(field) offsetof(struct sp_fleet_options, field)
    {"fleet", TEXT, ALL, AT(fleet), 0, 0, "the fleet file (JSON lines)"},
    {"sensors", NUMBER, SP_FLEET_KEYS, AT(sensors), 0, 100000, "devices of role sensor to make"},
    {"monitors", NUMBER, SP_FLEET_KEYS, AT(monitors), 0, 100000, "devices of role monitor to make"},
    {"prefix", TEXT, SP_FLEET_KEYS, AT(prefix), 0, 0, "begin of every device's name (bench)"},
    {"attestation", TEXT, SP_FLEET_KEYS, AT(attestation), 0, 0,
     "required | optional | none (required)"},
    {"psk-file", TEXT, SP_FLEET_KEYS, AT(psk_file), 0, 0,
     "write the PSKs in mosquitto's format too"},
    {"gateway", TEXT, NETWORK, AT(gateway), 0, 0, "numeric ADDRESS:PORT (127.0.0.1:8883)"},
    {"suite", TEXT, NETWORK, AT(suite), 0, 0, "ccm-8 | ccm | gcm (ccm-8)"},
    {"no-attest", FLAG, NETWORK, AT(no_attest), 0, 0,
     "offer no attestation, whatever the file says"},
    {"paced", FLAG, NETWORK, AT(paced), 0, 0, "wait for a line on stdin after `ready` and `done`"},
    {"concurrency", NUMBER, NETWORK, AT(concurrency), 1, 10000,
     "connections being made at once (8)"},
    {"keep-alive", NUMBER, NETWORK, AT(keep_alive), 0, 65535, "seconds (600)"},
    {"publish", FLAG, SP_FLEET_CONNECT, AT(publish), 0, 0,
     "one climate record with QoS 1 on each connection"},
    {"count", NUMBER, NETWORK, AT(count), 0, 100000000, "cycles | devices | messages (1000)"},
    {"warmup", NUMBER, SP_FLEET_CONNECT | SP_FLEET_PUBLISH, AT(warmup), 0, 1000000,
     "cycles or messages before the count starts (0)"},
    {"publishers", NUMBER, SP_FLEET_PUBLISH, AT(publishers), 1, 100000, "of role sensor (1)"},
    {"subscribers", NUMBER, SP_FLEET_PUBLISH, AT(subscribers), 0, 100000, "of role monitor (1)"},
    {"topic", TEXT, SP_FLEET_PUBLISH, AT(topic), 0, 0, "of a publisher (dt/{id}/climate)"},
    {"filter", TEXT, SP_FLEET_PUBLISH | SP_FLEET_HOLD, AT(filter), 0, 0,
     "of a subscriber (dt/+/climate; hold: none); with {peer}: one publisher each"},
    {"qos", NUMBER, SP_FLEET_PUBLISH, AT(qos), 0, 1, "(0)"},
    {"payload", NUMBER, SP_FLEET_PUBLISH, AT(payload), 0, 8192,
     "bytes; 0: climate records of about 90 bytes (0)"},
    {"window", NUMBER, SP_FLEET_PUBLISH, AT(window), 1, 60000, "messages under way at once (64)"},
    {"rate", NUMBER, SP_FLEET_PUBLISH, AT(rate), 0, 1000000,
     "messages/s; 0: what the window allows (0)"},
    {"seconds", NUMBER, SP_FLEET_PUBLISH | SP_FLEET_STORM, AT(seconds), 0, 86400,
     "publish: how long, with --count 0; storm: at most (0: 300)"},
#undef AT
};
#define ROWS (sizeof(rows) / sizeof(rows[0]))

static const struct option_row *row_find(enum sp_fleet_command command, const char *argument)
{
    for (size_t i = 0; i < ROWS; i++) {
        if ((rows[i].commands & (int)command) != 0 && strncmp(argument, "--", 2) == 0 &&
            strcmp(argument + 2, rows[i].name) == 0) {
            return &rows[i];
        }
    }
    return NULL;
}

static bool number_parse(const struct option_row *row, const char *text, uint32_t *out)
{
    char *end = NULL;
    errno = 0;
    unsigned long value = strtoul(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || *end != '\0' || errno != 0 || value < row->low ||
        value > row->high) {
        fprintf(stderr, "sallyport-fleet: --%s wants a number from %u to %u, not %s\n", row->name,
                row->low, row->high, text);
        return false;
    }
    *out = (uint32_t)value;
    return true;
}

bool sp_fleet_options_parse(enum sp_fleet_command command, int argc, char **argv,
                            struct sp_fleet_options *options)
{
    for (int i = 1; i < argc; i++) {
        const struct option_row *row = row_find(command, argv[i]);
        if (row == NULL) {
            fprintf(stderr, "sallyport-fleet: %s is no option here; see --help\n", argv[i]);
            return false;
        }
        void *field = (char *)options + row->offset;
        if (row->kind == FLAG) {
            memcpy(field, &(bool){true}, sizeof(bool));
            continue;
        }
        if (i + 1 == argc) {
            fprintf(stderr, "sallyport-fleet: %s wants a value\n", argv[i]);
            return false;
        }
        const char *value = argv[++i];
        uint32_t number = 0;
        if (row->kind == TEXT) {
            memcpy(field, &value, sizeof(value));
        } else if (number_parse(row, value, &number)) {
            memcpy(field, &number, sizeof(number));
        } else {
            return false;
        }
    }
    if (options->fleet == NULL) {
        fprintf(stderr, "sallyport-fleet: --fleet FILE is needed\n");
    }
    return options->fleet != NULL;
}

void sp_fleet_options_help(enum sp_fleet_command command)
{
    static const char *const values[] = {[TEXT] = "X", [NUMBER] = "N", [FLAG] = ""};
    for (size_t i = 0; i < ROWS; i++) {
        if ((rows[i].commands & (int)command) != 0) {
            printf("  --%-12s %-2s %s\n", rows[i].name, values[rows[i].kind], rows[i].help);
        }
    }
}
