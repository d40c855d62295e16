/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/sim/world.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/metrics/metrics.h"
#include "tests/sim/disk.h"
#include "tests/sim/run.h"

#define CHANNEL_BYTES (256U << 10)
#define REFERENCES    1000000U /* more than anybody gives back */

/* ---- the configuration ---- */

static char name[] = "sim";
static char gateway_id[] = SIM_GATEWAY;
static char state_dir[] = SIM_STATE_DIR;
static char own_topics[] = "dt/{device}/#";
static char route_from[] = "dt/#";
static char route_cloud[] = "up/{gateway}/{rest}";
static char client_name[] = "client";
static char host[] = "cloud";
static char *filters[] = {own_topics, NULL};
static struct sp_listener_config listeners[] = {{.address = host, .host = host}};
static struct sp_role_config roles[] = {
    {.name = client_name, .publish = filters, .subscribe = filters}};
static struct sp_route_config routes[] = {{.from = route_from, .cloud = route_cloud, .qos = 1}};
static struct sp_config config;

const struct sp_config *sim_config(void)
{
    return &config;
}

void sim_config_draw(void)
{
    static const uint32_t quotas[] = {8000, 30000, 1U << 20, 1U << 30};
    /* Dead letters count, and nobody takes them away here. */
    uint32_t least = sim_plan.unwanted + sim_plan.poison + sim_plan.expiring > 0 ? 2 : 0;
    config = (struct sp_config){
        .references = REFERENCES,
        .file = name,
        .id = gateway_id,
        .state_dir = state_dir,
        .threads = sim_plan.loops,
        .listeners = listeners,
        .listener_count = 1,
        .roles = roles,
        .role_count = 1,
        .routes = routes,
        .route_count = 1,
        .attestation = {.reattest_interval_s = sim_between(20, 3600), .answer_timeout_ms = 10000},
        .cloud = {.enabled = true,
                  .host = host,
                  .port = 8883,
                  .client_id = gateway_id,
                  .connections = sim_plan.links,
                  .keep_alive_s = sim_between(5, 120),
                  .version = sim_plan.cloud_5 ? SP_CLOUD_MQTT_5 : SP_CLOUD_MQTT_311,
                  .limits = {.in_flight = sim_chance(500) ? sim_between(1, 20) : 200}},
        .limits = {.handshakes = 64,
                   .handshakes_per_address = 64,
                   .handshakes_per_identity = 8,
                   .waiting = 1000,
                   .waiting_per_address = 1000,
                   .connections_per_address = 1000,
                   .connects_per_second = 100000,
                   .connects_burst = 100000,
                   .crowded_timeout_ms = 1000,
                   .descriptor_reserve = 16,
                   .stall_timeout_ms = 10000,
                   .turn_messages = 256,
                   .connections = 64,
                   .preauth_timeout_ms = 30000,
                   .tls_timeout_ms = 10000,
                   .connect_timeout_ms = 10000,
                   .packet = 16384,
                   .receive_maximum = sim_between(1, 20),
                   .in_flight = 16,
                   .session_queue_bytes = 20000,
                   .session_queues_bytes = 10000000,
                   .session_expiry_s = 600,
                   .write_buffer = 100000,
                   .write_buffers = 10000000,
                   .keep_alive_min_s = 10,
                   .keep_alive_max_s = 1800,
                   .topic_levels = 8,
                   .topic_bytes = 256,
                   .subscriptions = 4,
                   .user_properties = 2,
                   .journal_bytes = quotas[sim_between(least, 3)],
                   .journal_device_bytes = quotas[sim_between(least, 3)],
                   .sensors = 8,
                   .history = 4,
                   .attempts = 1000},
    };
}

/* ---- the parent ---- */

struct offspring {
    struct sp_child child;
    int control;
    int fds[3 * SIM_LOOPS_MAX]; /* listeners, keys, store */
    uint64_t start_us;
};

static struct offspring offspring[SIM_PROCESSES];
static bool keys_dead;
static uint64_t keys_start_us;
static bool power_goes;

static void hand_over(enum sim_process to, enum sp_process peer, uint32_t loop, struct sim_end *end)
{
    if (!sim_alive(to)) {
        sim_end_close(end);
        return;
    }
    const struct sp_control order = {
        .type = SP_CONTROL_CHANNEL, .peer = (uint32_t)peer, .loop = loop};
    sim_order(offspring[to].control, &order, sim_fd_of_end(to, end));
}

static void start_gate(void)
{
    struct offspring *o = &offspring[SIM_GATE];
    int *fds = o->fds;
    o->control = sim_fd_control(SIM_GATE);
    for (uint32_t i = 0; i < sim_plan.loops; i++) {
        struct sim_end *ours;
        struct sim_end *theirs;
        fds[i] = sim_fd_listener(SIM_GATE);
        sim_pair(CHANNEL_BYTES, &ours, &theirs);
        fds[SIM_LOOPS_MAX + i] = sim_fd_of_end(SIM_GATE, ours);
        if (keys_dead) {
            sim_end_close(theirs);
        } else {
            sim_keys_attach(i, theirs);
        }
        sim_pair(CHANNEL_BYTES, &ours, &theirs);
        fds[2 * SIM_LOOPS_MAX + i] = sim_fd_of_end(SIM_GATE, ours);
        hand_over(SIM_STORE, SP_PROCESS_GATE, i, theirs);
    }
    o->child = (struct sp_child){.config = &config,
                                 .control = o->control,
                                 .listeners = fds,
                                 .keys = fds + SIM_LOOPS_MAX,
                                 .store = fds + 2 * SIM_LOOPS_MAX};
    sim_trace("parent", "starts gate");
    sim_start(SIM_GATE, sp_gate_main, &o->child);
    sim_devices_listeners(fds);
}

static void start_store(void)
{
    struct offspring *o = &offspring[SIM_STORE];
    o->control = sim_fd_control(SIM_STORE);
    for (uint32_t i = 0; i < sim_plan.loops; i++) {
        struct sim_end *ours;
        struct sim_end *theirs;
        sim_pair(CHANNEL_BYTES, &ours, &theirs);
        o->fds[i] = sim_fd_of_end(SIM_STORE, ours);
        hand_over(SIM_GATE, SP_PROCESS_STORE, i, theirs);
    }
    o->child = (struct sp_child){.config = &config, .control = o->control, .store = o->fds};
    sim_trace("parent", "starts store");
    sim_start(SIM_STORE, sp_store_main, &o->child);
}

void sim_parent_start(void)
{
    memset(offspring, 0, sizeof(offspring));
    keys_dead = false;
    power_goes = false;
    start_store();
    start_gate();
}

static void plan_start(enum sim_process process)
{
    if (process == SIM_STORE) {
        sp_metric_set(SP_M_JOURNAL_DEPTH, 1); /* unknown, until the next one has looked */
    }
    offspring[process].start_us = sim_now_us() + sim_below(sim_chance(200) ? 15000000 : 300000);
}

static void bury(enum sim_process process)
{
    if (process == SIM_STORE) {
        sim_disk_abandon();
    }
    sim_kill(process);
    plan_start(process);
    if (process == SIM_STORE) {
        sim_ledger_caps();
    }
}

void sim_parent_kill(enum sim_process process)
{
    if (sim_alive(process)) {
        sim_trace("parent", "%s is killed", process == SIM_GATE ? "gate" : "store");
        bury(process);
    }
}

void sim_parent_power_cut(void)
{
    sim_parent_kill(SIM_GATE);
    sim_disk_abandon();
    sim_kill(SIM_STORE);
    sim_parent_kill_keys();
    sim_disk_power_cut();
    plan_start(SIM_STORE);
    plan_start(SIM_GATE);
    power_goes = false;
    sim_ledger_caps();
}

void sim_parent_plan_power_cut(void)
{
    power_goes = true;
}

void sim_parent_stop(enum sim_process process)
{
    if (sim_alive(process)) {
        const struct sp_control order = {.type = SP_CONTROL_STOP};
        sim_trace("parent", "%s is told to stop", process == SIM_GATE ? "gate" : "store");
        sim_order(offspring[process].control, &order, -1);
        offspring[process].start_us = UINT64_MAX; /* it ends because we said so */
    }
}

void sim_parent_kill_keys(void)
{
    if (!keys_dead) {
        sim_trace("parent", "keys is killed");
        sim_keys_die();
        keys_dead = true;
        keys_start_us = sim_now_us() + sim_below(2000000);
    }
}

static void start_keys(void)
{
    keys_dead = false;
    sim_trace("parent", "starts keys");
    for (uint32_t i = 0; i < sim_plan.loops; i++) {
        struct sim_end *ours;
        struct sim_end *theirs;
        sim_pair(CHANNEL_BYTES, &ours, &theirs);
        sim_keys_attach(i, ours);
        hand_over(SIM_GATE, SP_PROCESS_KEYS, i, theirs);
    }
}

/* A store may refuse to start while the disk fails; otherwise nobody ends unasked (D11). */
static void look_at_exit(enum sim_process process, int status)
{
    bool told = offspring[process].start_us == UINT64_MAX;
    bool trouble = process == SIM_STORE && sim_disk_weather.excused;
    sim_trace("parent", "%s has ended, %d", process == SIM_GATE ? "gate" : "store", status);
    if (!trouble && (!told || status != 0)) {
        sim_fail("%s ended by itself with %d", process == SIM_GATE ? "gate" : "store", status);
    }
    sim_disk_weather.excused = false;
    bury(process);
}

void sim_parent_look(void)
{
    for (enum sim_process p = SIM_GATE; p < SIM_PROCESSES; p++) {
        int status;
        if (sim_is_doomed(p) && (power_goes || sim_chance(300))) {
            sim_parent_power_cut();
        } else if (sim_is_doomed(p)) {
            sim_parent_kill(p);
        } else if (sim_alive(p) && sim_exited(p, &status)) {
            look_at_exit(p, status);
        } else if (!sim_alive(p) && sim_now_us() >= offspring[p].start_us) {
            offspring[p].start_us = 0;
            (p == SIM_GATE ? start_gate : start_store)();
        }
    }
    if (keys_dead && sim_now_us() >= keys_start_us) {
        start_keys();
    }
}
