/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Connect many devices and let them sit there: what an idle one costs. */
#include "bench/fleet/scenario.h"

#include <stdlib.h>

#define SECOND_NS 1000000000ULL

static void on_ready(struct sp_device *device)
{
    (void)device;
}

static void on_message(struct sp_device *device, const struct sp_mqtt_publish *message)
{
    (void)device;
    (void)message;
}

static void on_acked(struct sp_device *device, uint8_t reason, uint64_t ns)
{
    (void)device;
    (void)reason;
    (void)ns;
}

static void on_closed(struct sp_device *device, bool asked)
{
    (void)device;
    (void)asked;
}

static const struct sp_fleet_hooks hooks = {on_ready, on_message, on_acked, on_closed};

static void hold(struct sp_fleet *fleet, struct sp_device *devices, size_t count)
{
    if (fleet->options->paced) {
        (void)sp_scenario_pause(fleet, devices, count);
        return;
    }
    while (!fleet->stop) {
        sp_fleet_poll(fleet, SECOND_NS);
        for (size_t i = 0; i < count; i++) {
            sp_device_keep_alive(&devices[i]);
        }
    }
}

int sp_scenario_hold(const struct sp_scenario *scenario)
{
    struct sp_fleet *fleet = scenario->fleet;
    size_t count = fleet->options->count;
    if (count > scenario->roll->count) {
        fprintf(stderr, "sallyport-fleet: the file has %zu devices only\n", scenario->roll->count);
        return 1;
    }
    struct sp_device *devices = calloc(count + 1, sizeof(*devices));
    if (devices == NULL) {
        abort();
    }
    for (size_t i = 0; i < count; i++) {
        devices[i] = (struct sp_device){
            .fleet = fleet, .who = &scenario->roll->members[i], .filter = fleet->options->filter};
    }
    fleet->hooks = &hooks;
    uint64_t start_ns = sp_fleet_clock();
    bool gathered = sp_scenario_gather(fleet, devices, count);
    double seconds = (double)(sp_fleet_clock() - start_ns) / 1e9;
    if (gathered) {
        printf("{\"event\":\"ready\",\"held\":%zu,\"seconds\":%.3f}\n", count, seconds);
        fflush(stdout);
        hold(fleet, devices, count);
    }
    size_t left = 0;
    for (size_t i = 0; i < count; i++) {
        left += devices[i].phase == SP_DEVICE_READY;
    }
    printf("{\"event\":\"done\",\"held\":%zu", left);
    sp_scenario_print_end(fleet);
    sp_scenario_dismiss(fleet, devices, count);
    free(devices);
    return left == count ? 0 : 1;
}
