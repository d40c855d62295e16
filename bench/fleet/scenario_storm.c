/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* After a power cut all devices come back at once: how long until the last one is admitted? Who is turned away comes again. */
#include "bench/fleet/scenario.h"

#include <stdlib.h>

#define SECOND_NS      1000000000ULL
#define AGAIN_MIN_NS   (SECOND_NS)     /* before the second try; doubles with each, */
#define AGAIN_MAX_NS   (8 * SECOND_NS) /* up to this; both with half of it at random on top */
#define OPENS_PER_POLL 64U
#define SECONDS_MAX    300U

struct one {
    struct sp_device device; /* first: hooks cast back */
    uint64_t due_ns;         /* when it tries again */
    uint32_t tries;
};

struct storm {
    struct one *all;
    uint32_t count;
    uint32_t admitted;
    uint64_t tries;
    uint64_t start_ns;
    struct sp_histogram *admission; /* from the start of the storm */
};

static void on_ready(struct sp_device *device)
{
    struct storm *s = device->fleet->scenario;
    s->admitted++;
    sp_histogram_add(s->admission, device->fleet->now_ns - s->start_ns);
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
    struct one *one = (struct one *)(void *)device;
    unsigned doublings = one->tries < 5 ? one->tries - 1 : 4;
    uint64_t wait_ns = AGAIN_MIN_NS << doublings;
    (void)asked;
    wait_ns = wait_ns > AGAIN_MAX_NS ? AGAIN_MAX_NS : wait_ns;
    one->due_ns = sp_fleet_clock() + wait_ns + (uint64_t)rand() % (wait_ns / 2);
}

static const struct sp_fleet_hooks hooks = {on_ready, on_message, on_acked, on_closed};

static void open_due(struct sp_fleet *fleet, struct storm *s)
{
    uint32_t opened = 0;
    uint64_t now_ns = sp_fleet_clock();
    for (uint32_t i = 0; i < s->count; i++) {
        struct one *one = &s->all[i];
        if (one->device.phase == SP_DEVICE_AWAY && one->due_ns <= now_ns) {
            one->tries++;
            s->tries++;
            sp_device_open(&one->device);
            if (++opened % OPENS_PER_POLL == 0) {
                sp_fleet_poll(fleet, 0);
            }
        }
    }
}

static uint32_t count_ready(const struct storm *s)
{
    uint32_t ready = 0;
    for (uint32_t i = 0; i < s->count; i++) {
        ready += s->all[i].device.phase == SP_DEVICE_READY;
    }
    return ready;
}

static void print_served(const struct sp_fleet *fleet, const struct storm *s, uint32_t ready)
{
    double seconds = (double)(sp_fleet_clock() - s->start_ns) / 1e9;
    printf(
        "{\"event\":\"served\",\"devices\":%u,\"seconds\":%.3f,\"per_second\":%.1f,\"tries\":%llu",
        ready, seconds, ready / seconds, (unsigned long long)s->tries);
    sp_scenario_print_latency("admission_us", s->admission);
    sp_scenario_print_end(fleet);
}

static uint32_t run(struct sp_fleet *fleet, struct storm *s)
{
    uint32_t seconds = fleet->options->seconds == 0 ? SECONDS_MAX : fleet->options->seconds;
    uint32_t ready = 0;
    s->start_ns = sp_fleet_clock();
    while (ready < s->count && !fleet->stop &&
           sp_fleet_clock() < s->start_ns + seconds * SECOND_NS) {
        open_due(fleet, s);
        sp_fleet_poll(fleet, SECOND_NS / 20);
        ready = s->admitted < s->count ? 0 : count_ready(s);
    }
    return count_ready(s);
}

/* The others' functions want devices only. */
static void hold(struct sp_fleet *fleet, struct storm *s)
{
    fleet->told = !fleet->options->paced;
    while (!fleet->told && !fleet->stop) {
        sp_fleet_poll(fleet, SECOND_NS);
        for (uint32_t i = 0; i < s->count; i++) {
            sp_device_keep_alive(&s->all[i].device);
        }
    }
}

int sp_scenario_storm(const struct sp_scenario *scenario)
{
    struct sp_fleet *fleet = scenario->fleet;
    struct storm s = {.count = fleet->options->count};
    if (s.count > scenario->roll->count) {
        fprintf(stderr, "sallyport-fleet: the file has %zu devices only\n", scenario->roll->count);
        return 1;
    }
    s.all = calloc(s.count + 1U, sizeof(*s.all));
    s.admission = calloc(1, sizeof(*s.admission));
    if (s.all == NULL || s.admission == NULL) {
        abort();
    }
    for (uint32_t i = 0; i < s.count; i++) {
        s.all[i].device = (struct sp_device){
            .fleet = fleet, .who = &scenario->roll->members[i], .filter = fleet->options->filter};
    }
    fleet->hooks = &hooks;
    fleet->scenario = &s;
    printf("{\"event\":\"ready\"}\n");
    uint32_t ready = 0;
    if (sp_scenario_pause(fleet, NULL, 0)) {
        ready = run(fleet, &s);
        print_served(fleet, &s, ready);
        hold(fleet, &s);
    }
    for (uint32_t i = 0; i < s.count; i++) {
        sp_device_deinit(&s.all[i].device);
    }
    free(s.all);
    free(s.admission);
    return ready == s.count ? 0 : 1;
}
