/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What a fleet can do. Each scenario prints JSON lines on stdout: `ready`, then `done`. */
#ifndef SP_BENCH_FLEET_SCENARIO_H
#define SP_BENCH_FLEET_SCENARIO_H

#include "bench/fleet/device.h"
#include "bench/fleet/histogram.h"

/** A fleet with its members and a scenario's options; `roll` has at least one member. */
struct sp_scenario {
    struct sp_fleet *fleet;
    const struct sp_fleet_roll *roll;
};

/** Each returns 0, or 1 when a device was refused, lost, or not enough were in the file. */
int sp_scenario_connect(const struct sp_scenario *scenario);
int sp_scenario_hold(const struct sp_scenario *scenario);
int sp_scenario_publish(const struct sp_scenario *scenario);
int sp_scenario_storm(const struct sp_scenario *scenario);

/**
 * Wait, when the fleet is paced, for a line on stdin. Devices are kept alive meanwhile.
 * @return false when the run is to stop.
 */
bool sp_scenario_pause(struct sp_fleet *fleet, struct sp_device *devices, size_t count);

/**
 * Open devices that are AWAY, at most options->concurrency at once, until all are READY.
 * @return false when one was refused or the run is to stop.
 */
bool sp_scenario_gather(struct sp_fleet *fleet, struct sp_device *devices, size_t count);

/** Close all and wait until they are, at most ten seconds; releases them. */
void sp_scenario_dismiss(struct sp_fleet *fleet, struct sp_device *devices, size_t count);

/** Print `,"NAME":{"p50":…,"p99":…,"p999":…,"max":…}`, in microseconds. */
void sp_scenario_print_latency(const char *name, const struct sp_histogram *h);

/** Print `,"complaints":{…}` and the end of the line. */
void sp_scenario_print_end(const struct sp_fleet *fleet);

#endif
