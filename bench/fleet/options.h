/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What the user asked the fleet to do. Strings are borrowed from argv. */
#ifndef SP_BENCH_FLEET_OPTIONS_H
#define SP_BENCH_FLEET_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sp_fleet_options {
    const char *gateway; /**< numeric IPv4 address:port */
    const char *fleet;   /**< fleet file */
    const char *suite;
    const char *topic; /**< template of a publisher's topic: {id} */
    const char *
        filter; /**< template of a subscriber's filter: {id}; {peer}: the publisher with its number */
    const char *prefix; /**< keys */
    const char *psk_file;
    const char *attestation;
    uint32_t count;       /**< connect: cycles; hold: devices; publish: messages, 0 = by time */
    uint32_t concurrency; /**< connections under way at once */
    uint32_t publishers;
    uint32_t subscribers;
    uint32_t window;  /**< messages under way at once, over all publishers */
    uint32_t rate;    /**< messages per second; 0 = as the window allows */
    uint32_t seconds; /**< publish: how long; storm: at most */
    uint32_t warmup;  /**< messages or cycles that are not counted */
    uint32_t qos;
    uint32_t payload; /**< bytes that no parser knows; 0: climate records */
    uint32_t keep_alive;
    uint32_t sensors; /**< keys */
    uint32_t monitors;
    bool no_attest;
    bool publish; /**< connect: a message on each connection */
    bool paced;   /**< wait for a line on stdin after `ready` and after `done` */
};

/** What each subcommand may be told; see the table in options.c. */
enum sp_fleet_command {
    SP_FLEET_KEYS = 1,
    SP_FLEET_CONNECT = 2,
    SP_FLEET_HOLD = 4,
    SP_FLEET_PUBLISH = 8,
    SP_FLEET_STORM = 16,
};

/**
 * Read `argv[1..]` into options that hold the defaults for whatever is not named.
 * @return false after a message on stderr that says what is wrong.
 */
bool sp_fleet_options_parse(enum sp_fleet_command command, int argc, char **argv,
                            struct sp_fleet_options *options);

/** Print the options of one subcommand. */
void sp_fleet_options_help(enum sp_fleet_command command);

#endif
