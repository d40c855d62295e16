/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/scenario.h"

#define SECOND_NS 1000000000ULL
#define STUCK_NS  (20 * SECOND_NS)

bool sp_scenario_pause(struct sp_fleet *fleet, struct sp_device *devices, size_t count)
{
    fflush(stdout);
    if (!fleet->options->paced) {
        return !fleet->stop;
    }
    fleet->told = false;
    while (!fleet->told && !fleet->stop) {
        sp_fleet_poll(fleet, SECOND_NS);
        for (size_t i = 0; i < count; i++) {
            sp_device_keep_alive(&devices[i]);
        }
    }
    return !fleet->stop;
}

static size_t count_in(const struct sp_device *devices, size_t count, enum sp_device_phase low,
                       enum sp_device_phase high)
{
    size_t found = 0;
    for (size_t i = 0; i < count; i++) {
        found += devices[i].phase >= low && devices[i].phase <= high;
    }
    return found;
}

bool sp_scenario_gather(struct sp_fleet *fleet, struct sp_device *devices, size_t count)
{
    size_t next = 0;
    size_t ready = 0;
    uint64_t complaints = fleet->complaints[0].count;
    uint64_t moved_ns = sp_fleet_clock();
    while (ready < count && !fleet->stop && fleet->complaints[0].count == complaints &&
           sp_fleet_clock() < moved_ns + STUCK_NS) {
        size_t under_way = count_in(devices, next, SP_DEVICE_CONNECTING, SP_DEVICE_TALKING);
        for (; next < count && under_way < fleet->options->concurrency; next++, under_way++) {
            sp_device_open(&devices[next]);
        }
        sp_fleet_poll(fleet, SECOND_NS / 10);
        size_t before = ready;
        ready = count_in(devices, count, SP_DEVICE_READY, SP_DEVICE_READY);
        moved_ns = ready > before ? fleet->now_ns : moved_ns;
    }
    return ready == count;
}

void sp_scenario_dismiss(struct sp_fleet *fleet, struct sp_device *devices, size_t count)
{
    uint64_t end_ns = sp_fleet_clock() + 10 * SECOND_NS;
    for (size_t i = 0; i < count; i++) {
        if (devices[i].phase == SP_DEVICE_READY) {
            sp_device_close(&devices[i]);
        }
        if (i % 64 == 63) {
            sp_fleet_poll(fleet, 0);
        }
    }
    while (count_in(devices, count, SP_DEVICE_CLOSING, SP_DEVICE_CLOSING) > 0 &&
           sp_fleet_clock() < end_ns) {
        sp_fleet_poll(fleet, SECOND_NS / 10);
    }
    for (size_t i = 0; i < count; i++) {
        sp_device_deinit(&devices[i]);
    }
}

void sp_scenario_print_latency(const char *name, const struct sp_histogram *h)
{
    if (h->count != 0) {
        printf(",\"%s\":{\"p50\":%.1f,\"p99\":%.1f,\"p999\":%.1f,\"max\":%.1f}", name,
               sp_histogram_us(h, 0.5), sp_histogram_us(h, 0.99), sp_histogram_us(h, 0.999),
               sp_histogram_us(h, 1.0));
    }
}

void sp_scenario_print_end(const struct sp_fleet *fleet)
{
    printf(",\"complaints\":{");
    for (size_t i = 0; i < SP_FLEET_COMPLAINTS && fleet->complaints[i].count != 0; i++) {
        printf("%s\"", i == 0 ? "" : ",");
        for (const char *c = fleet->complaints[i].text; *c != '\0'; c++) {
            putchar(*c < ' ' || *c == '"' || *c == '\\' || *c > '~' ? '?' : *c);
        }
        printf("\":%llu", (unsigned long long)fleet->complaints[i].count);
    }
    printf("}}\n");
    fflush(stdout);
}
