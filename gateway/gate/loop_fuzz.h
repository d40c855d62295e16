/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file For fuzzers of whole loops of gate: one loop, with the far ends of its channels in the fuzzer's hands. */
#ifndef SP_GATEWAY_GATE_LOOP_FUZZ_H
#define SP_GATEWAY_GATE_LOOP_FUZZ_H

#include <sys/socket.h>
#include <unistd.h>

#include "gateway/gate/route/retained.h"
#include "gateway/gate/session/house_fuzz.h"
#include "gateway/gate/worker.h"
#include "gateway/log/log.h"

struct house {
    struct sp_gate gate;
    struct sp_worker worker;
    int keys; /* far ends */
    int store;
    int control; /* the parent's end */
};

static struct house house;
static struct sp_config *house_config; /* one reference that is never given back */

static inline void house_set_up(void)
{
    static char name[] = "client";
    static char everything[] = "#";
    static char *all[] = {everything, NULL};
    static struct sp_role_config role = {
        .name = name, .publish = all, .subscribe = all, .retain = true, .topic_aliases = 4};
    struct sp_config *config = calloc(1, sizeof(*config)); /* the loop takes a reference */
    fuzz_require(config != NULL);
    sp_log_init("fuzz", (enum sp_log_level)0); /* what it refuses needs no line each */
    *config = fuzz_config(&role, 1);
    config->limits.handshakes = 16;
    config->limits.handshakes_per_address = 64;
    config->limits.handshakes_per_identity = 8;
    config->limits.waiting = 1000;
    config->limits.waiting_per_address = 1000;
    config->limits.connections = 16;
    config->limits.connections_per_address = 1000;
    config->limits.connects_per_second = 100000;
    config->limits.connects_burst = 100000;
    config->limits.crowded_timeout_ms = 1000;
    config->limits.descriptor_reserve = 16;
    config->limits.stall_timeout_ms = 10000;
    config->limits.turn_messages = 256;
    config->limits.preauth_timeout_ms = 10000;
    config->limits.tls_timeout_ms = 10000;
    config->limits.connect_timeout_ms = 10000;
    house_config = sp_config_hold(config);
}

static inline void house_pair(int *ours, int *theirs, int flags)
{
    int pair[2];
    fuzz_require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | flags, 0, pair) == 0);
    *ours = pair[0];
    *theirs = pair[1];
}

/* `beside`: next to another gate that hands over. */
static inline void house_begin(bool beside)
{
    int keys;
    int store;
    if (house_config == NULL) {
        house_set_up();
    }
    house = (struct house){.gate = {.config = house_config, .count = 1}};
    house.gate.workers = &house.worker;
    house_pair(&keys, &house.keys, 0);
    house_pair(&store, &house.store, 0);
    house_pair(&house.gate.control, &house.control, 0);
    const struct sp_child child = {
        .config = house_config, .keys = &keys, .store = &store, .beside = beside, .handover = -1};
    fuzz_require(sp_subs_create(1, &house.gate.subs) == SP_OK);
    fuzz_require(sp_worker_init(&house.worker, &house.gate, 0, &child) == SP_OK);
    house.worker.home.keep.loading = !beside;
    fuzz_require(sp_retained_create(&house.worker.home.retained) == SP_OK);
}

static inline void house_end(void)
{
    (void)close(house.keys);
    (void)close(house.store);
    (void)close(house.control);
    (void)close(house.gate.control);
    struct sp_retained *retained = house.worker.home.retained;
    sp_worker_deinit(&house.worker);
    sp_retained_destroy(retained);
    sp_subs_destroy(house.gate.subs);
}

#endif
