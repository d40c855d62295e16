/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/sim/run.h"

#include <stdio.h>

#include "gateway/metrics/metrics.h"
#include "tests/sim/disk.h"
#include "tests/sim/world.h"

#define BEAT_US    200000U               /* the nemesis comes so often, about */
#define STORM_US   UINT64_C(40000000)    /* and so long */
#define HEAL_US    UINT64_C(14400000000) /* what is left must be through by then */
#define CALM_US    2500000U              /* longer than the gauges' second */
#define STEPS_MAX  2000000U              /* more than any run needs */
#define MEMORY_MAX (48U << 20)           /* of a process (D10) */
#define DISK_MAX   (16U << 20)

struct sim_plan sim_plan;
bool sim_healing;

static struct sim_timer nemesis;
static struct sim_timer clear_sky;

/* ---- the plan ---- */

static uint32_t sometimes(uint32_t per_mille, uint32_t most)
{
    return sim_chance(per_mille) ? 1 + sim_below(most) : 0;
}

static void draw_plan(void)
{
    static const uint32_t sizes[] = {20, 200, 1500, 3500};
    sim_plan = (struct sim_plan){
        .devices = sim_between(1, SIM_DEVICES_MAX),
        .messages = sim_chance(100) ? sim_between(100, 250) : sim_between(5, 60),
        .loops = sim_between(1, SIM_LOOPS_MAX),
        .links = sim_between(1, 2),
        .payload_max = sizes[sim_below(4)],
        .trouble = sim_chance(100) ? 0 : sim_between(20, 400),
        .deaths = sim_below(10),
        .disk = sim_below(10),
        .weather = sim_below(10),
        .network = sim_below(10),
        .cloud_5 = sim_chance(800),
        .poison = sometimes(100, 20),
        .unwanted = sometimes(200, 50),
        .expiring = sometimes(200, 200),
        .attested = sometimes(300, SIM_DEVICES_MAX),
    };
}

/* ---- the nemesis ---- */

static void disk_trouble(void)
{
    struct sim_weather *w = &sim_disk_weather;
    uint32_t what = sim_below(5);
    sim_trace("nemesis", "disk, %u", what);
    switch (what) {
    case 0:
        w->fail_syncs = sim_between(1, 4);
        break;
    case 1:
        w->fail_writes = sim_between(1, 4);
        w->halves = sim_chance(500);
        break;
    case 2:
        w->full = true;
        break;
    case 3:
        w->full = false;
        break;
    default:
        sim_jump_wall((int64_t)sim_below(4000) - 2000);
        break;
    }
}

static void death(void)
{
    uint32_t what = sim_below(12);
    switch (what) {
    case 0:
        sim_parent_power_cut();
        break;
    case 1:
    case 2:
        sim_parent_kill(SIM_GATE);
        break;
    case 3:
    case 4:
        sim_parent_kill(SIM_STORE);
        break;
    case 5:
        sim_parent_kill_keys();
        break;
    case 6:
    case 7:
    case 8:
        sim_disk_doom_at(sim_between(1, 30));
        break;
    case 9:
        sim_doom_at_send(SIM_GATE, sim_between(1, 20));
        break;
    case 10:
        sim_doom_at_send(SIM_STORE, sim_between(1, 20));
        break;
    default:
        sim_parent_stop(sim_chance(500) ? SIM_GATE : SIM_STORE);
        break;
    }
}

static void strike(void)
{
    uint32_t all = sim_plan.deaths + sim_plan.disk + sim_plan.weather + sim_plan.network + 1;
    uint32_t at = sim_below(all);
    if (at < sim_plan.deaths) {
        death();
    } else if ((at -= sim_plan.deaths) < sim_plan.disk) {
        disk_trouble();
    } else if ((at -= sim_plan.disk) < sim_plan.weather) {
        sim_cloud_trouble();
    } else {
        sim_devices_trouble();
    }
}

static void beat(void *arg)
{
    (void)arg;
    if (sim_healing) {
        return;
    }
    if (sim_chance(sim_plan.trouble)) {
        strike();
    }
    sim_timer_set(&nemesis, sim_below(2 * BEAT_US));
}

static void heal(void *arg)
{
    (void)arg;
    if (sim_healing) {
        return;
    }
    sim_trace("nemesis", "all is well again");
    sim_healing = true;
    sim_disk_weather = (struct sim_weather){.excused = sim_disk_weather.excused};
    sim_disk_doom_at(0);
    sim_doom_at_send(SIM_GATE, 0);
    sim_doom_at_send(SIM_STORE, 0);
    sim_cloud_heal();
}

/* ---- a run ---- */

static void begin(uint64_t seed)
{
    sim_disk_reset();
    sim_reset();
    sp_metrics_clear_gauges(0, 0);
    sim_seed(seed);
    draw_plan();
    sim_config_draw();
    sim_ledger_reset();
    sim_healing = false;
    sim_keys_reset();
    sim_cloud_reset();
    sim_devices_reset();
    nemesis = (struct sim_timer){.fire = beat};
    clear_sky = (struct sim_timer){.fire = heal};
    sim_timer_set(&nemesis, sim_below(BEAT_US));
    sim_timer_set(&clear_sky, STORM_US);
    sim_parent_start();
}

static void check_caps(void)
{
    for (enum sim_process p = SIM_GATE; p < SIM_PROCESSES; p++) {
        if (sim_memory_used(p) > MEMORY_MAX) {
            sim_fail("process %d has %zu bytes", (int)p, sim_memory_used(p));
        }
    }
    if (sim_disk_used() > DISK_MAX) {
        sim_fail("%zu bytes on disk", sim_disk_used());
    }
}

/* Until it has failed, or everything has been said, answered and delivered for a while. */
static uint32_t play(void)
{
    uint64_t end_us = UINT64_MAX;
    uint64_t busy_us = sim_now_us();
    uint32_t steps = 0;
    while (sim_failure() == NULL && sim_now_us() < end_us && sim_now_us() < busy_us + CALM_US) {
        if (++steps == STEPS_MAX || !sim_step()) {
            sim_fail("it does not come to an end");
        }
        sim_parent_look();
        check_caps();
        bool settled = sim_devices_done() && sp_metric_read(SP_M_JOURNAL_DEPTH) == 0;
        if (!sim_healing || !settled) {
            busy_us = sim_now_us();
        }
        if (sim_healing && end_us == UINT64_MAX) {
            end_us = sim_now_us() + HEAL_US;
        } else if (!sim_healing && sim_devices_done() && clear_sky.due_us > sim_now_us() + 1) {
            sim_timer_set(&clear_sky, 0);
        }
    }
    return steps;
}

bool sim_run(uint64_t seed, char *summary, size_t cap)
{
    begin(seed);
    uint32_t steps = play();
    if (sim_failure() == NULL && !sim_devices_done()) {
        sim_fail("a device still waits for an answer");
    }
    if (sim_failure() == NULL) {
        sim_parent_power_cut();
        sim_ledger_check();
    }
    struct sim_ledger_sums s = sim_ledger_sums();
    (void)snprintf(summary, cap,
                   "seed %llu: %u devices, %u messages, %u accepted, %u delivered, %u repeats, "
                   "%u dead; %u steps, %.1f s: %s",
                   (unsigned long long)seed, sim_plan.devices, s.sent, s.accepted, s.delivered,
                   s.repeats, s.dead, steps, (double)sim_now_us() / 1e6,
                   sim_failure() == NULL ? "well" : sim_failure());
    return sim_failure() == NULL;
}
