/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Connect, be admitted, maybe publish, disconnect, again and again: what one connection costs. */
#include "bench/fleet/payload.h"
#include "bench/fleet/scenario.h"

#include <stdlib.h>

#define SECOND_NS 1000000000ULL

struct cycles {
    struct sp_device *slots;
    uint32_t slot_count;
    uint32_t started;
    uint32_t finished;
    uint32_t admitted;
    struct sp_histogram *admission; /* from connect() to CONNACK */
};

static void publish(struct sp_device *device)
{
    uint8_t bytes[256];
    char topic[256];
    struct sp_writer w;
    sp_writer_init(&w, bytes, sizeof(bytes));
    sp_payload_climate(&w, device->talk.identity, sp_fleet_time(), 0);
    size_t len =
        sp_device_fill(device->fleet->options->topic, device->who, NULL, topic, sizeof(topic));
    sp_device_publish(device, sp_view(topic, len), sp_writer_view(&w), 1);
    sp_device_flush(device);
}

static void on_admitted(struct sp_device *device)
{
    struct cycles *c = device->fleet->scenario;
    c->admitted++;
    sp_histogram_add(c->admission, device->fleet->now_ns - device->opened_ns);
    if (device->fleet->options->publish) {
        publish(device);
    } else {
        sp_device_close(device);
    }
}

static void on_closed(struct sp_device *device, bool asked)
{
    struct cycles *c = device->fleet->scenario;
    (void)asked;
    c->finished++;
}

static void on_message(struct sp_device *device, const struct sp_mqtt_publish *message)
{
    (void)device;
    (void)message;
}

static void on_acked(struct sp_device *device, uint8_t reason, uint64_t ns)
{
    (void)ns;
    if (reason >= SP_MQTT_RC_UNSPECIFIED_ERROR) {
        sp_fleet_complain(device->fleet, "a message was refused");
    }
    sp_device_close(device);
}

static const struct sp_fleet_hooks hooks = {on_admitted, on_message, on_acked, on_closed};

/* A slot walks through members of its own, so that no two connections share a name. */
static void slot_reopen(const struct sp_scenario *scenario, struct cycles *c, uint32_t slot)
{
    struct sp_device *device = &c->slots[slot];
    size_t next = (size_t)(device->who - scenario->roll->members) + c->slot_count;
    device->who = &scenario->roll->members[next < scenario->roll->count ? next : slot];
    c->started++;
    sp_device_open(device);
}

static void run(const struct sp_scenario *scenario, struct cycles *c, uint32_t count)
{
    struct sp_fleet *fleet = scenario->fleet;
    uint64_t moved_ns = sp_fleet_clock();
    c->started = c->finished = c->admitted = 0;
    while (c->finished < count && !fleet->stop && sp_fleet_clock() < moved_ns + 20 * SECOND_NS) {
        uint32_t before = c->finished;
        for (uint32_t i = 0; i < c->slot_count && c->started < count; i++) {
            if (c->slots[i].phase == SP_DEVICE_AWAY) {
                slot_reopen(scenario, c, i);
            }
        }
        sp_fleet_poll(fleet, SECOND_NS / 10);
        moved_ns = c->finished > before ? fleet->now_ns : moved_ns;
    }
}

static void print_result(const struct sp_fleet *fleet, const struct cycles *c, double seconds)
{
    printf("{\"event\":\"done\",\"connections\":%u,\"admitted\":%u,\"seconds\":%.4f,"
           "\"per_second\":%.1f",
           c->finished, c->admitted, seconds, c->admitted / seconds);
    sp_scenario_print_latency("admission_us", c->admission);
    sp_scenario_print_end(fleet);
}

int sp_scenario_connect(const struct sp_scenario *scenario)
{
    struct sp_fleet *fleet = scenario->fleet;
    const struct sp_fleet_options *options = fleet->options;
    struct cycles c = {.slot_count = options->concurrency};
    if (c.slot_count > scenario->roll->count) {
        c.slot_count = (uint32_t)scenario->roll->count;
    }
    c.slots = calloc(c.slot_count, sizeof(*c.slots));
    c.admission = calloc(1, sizeof(*c.admission));
    if (c.slots == NULL || c.admission == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < c.slot_count; i++) {
        c.slots[i] = (struct sp_device){.fleet = fleet, .who = &scenario->roll->members[i]};
        c.slots[i].published_ns = calloc(SP_FLEET_IN_FLIGHT, sizeof(uint64_t));
        if (c.slots[i].published_ns == NULL) {
            abort();
        }
    }
    fleet->hooks = &hooks;
    fleet->scenario = &c;
    run(scenario, &c, options->warmup);
    *c.admission = (struct sp_histogram){0};
    printf("{\"event\":\"ready\"}\n");
    if (sp_scenario_pause(fleet, c.slots, c.slot_count)) {
        uint64_t start_ns = sp_fleet_clock();
        run(scenario, &c, options->count);
        print_result(fleet, &c, (double)(sp_fleet_clock() - start_ns) / 1e9);
        (void)sp_scenario_pause(fleet, c.slots, c.slot_count);
    }
    sp_scenario_dismiss(fleet, c.slots, c.slot_count);
    for (uint32_t i = 0; i < c.slot_count; i++) {
        free(c.slots[i].published_ns);
    }
    free(c.slots);
    free(c.admission);
    return c.admitted == options->count ? 0 : 1;
}
