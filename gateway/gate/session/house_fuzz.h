/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file For fuzzers of gate: the input as moves, and a configuration with little of everything, so that its limits are met soon. */
#ifndef SP_GATEWAY_GATE_SESSION_HOUSE_FUZZ_H
#define SP_GATEWAY_GATE_SESSION_HOUSE_FUZZ_H

#include <stdbool.h>
#include <stdlib.h>

#include "gateway/config/config.h"
#include "libs/base/bytes.h"

/** What must hold whatever the input is. */
static inline void fuzz_require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* ---- the input, as numbers and bytes; zeros when it is used up ---- */

struct moves {
    const uint8_t *at;
    size_t left;
};

static inline uint8_t moves_byte(struct moves *m)
{
    if (m->left == 0) {
        return 0;
    }
    m->left--;
    return *m->at++;
}

static inline struct sp_view moves_bytes(struct moves *m, size_t len)
{
    len = len > m->left ? m->left : len;
    struct sp_view part = sp_view(m->at, len);
    m->at += len;
    m->left -= len;
    return part;
}

/* ---- the configuration ---- */

/** Everything goes to the cloud; what comes from it under down/ is a command. The roles stay the caller's. */
static inline struct sp_config fuzz_config(struct sp_role_config *roles, size_t count)
{
    static char id[] = "gw";
    static char everything[] = "#";
    static char up[] = "up/{rest}";
    static char down[] = "down/#";
    static char to[] = "cmd/{rest}";
    static struct sp_route_config route = {.from = everything, .cloud = up, .qos = 1};
    static struct sp_command_config command = {.cloud = down, .to = to};
    return (struct sp_config){
        .id = id,
        .threads = 1,
        .roles = roles,
        .role_count = count,
        .attestation = {.reattest_interval_s = 60, .answer_timeout_ms = 1000},
        .cloud = {.enabled = true},
        .routes = &route,
        .route_count = 1,
        .commands = &command,
        .command_count = 1,
        .limits = {.packet = 2048,
                   .receive_maximum = 4,
                   .in_flight = 3,
                   .session_queue_bytes = 1000,
                   .session_queues_bytes = 10000000,
                   .session_expiry_s = 60,
                   .write_buffer = 8192,
                   .write_buffers = 10000000,
                   .keep_alive_min_s = 1,
                   .keep_alive_max_s = 100,
                   .topic_levels = 6,
                   .topic_bytes = 64,
                   .subscriptions = 4,
                   .user_properties = 2,
                   .user_property_bytes = 100,
                   .retained = 4,
                   .retained_bytes = 2000,
                   .retained_device = 3,
                   .retained_device_bytes = 1500,
                   .attempts = 3},
    };
}

#endif
