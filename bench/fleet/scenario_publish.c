/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Publishers and subscribers: what a delivered message costs and how long it takes.
 *
 * A message is under way until all its deliveries were counted and, with QoS 1, its PUBACK came. No more than `window`
 * are under way at once; with a rate, messages are due at fixed times, and their latency counts from
 * the time they were due, so that a stall of the gateway cannot hide itself.
 */
#include "bench/fleet/payload.h"
#include "bench/fleet/scenario.h"

#include <stdlib.h>
#include <string.h>

#define SECOND_NS 1000000000ULL
#define STALL_NS  (2 * SECOND_NS)

struct traffic {
    const struct sp_fleet_options *options;
    struct sp_device *devices; /* publishers, then subscribers */
    char (*topics)[256];       /* one for each publisher */
    size_t device_count;
    uint64_t deliveries; /* expected per message */
    uint64_t sent;
    uint64_t acked;
    uint64_t refused; /* PUBACK with an error */
    uint64_t received;
    uint64_t given_up; /* messages that were still under way after a stall */
    uint32_t next;     /* publisher */
    uint64_t start_ns;
    double start_time;
    struct sp_histogram *delivery;
    struct sp_histogram *ack;
};

static void on_ready(struct sp_device *device)
{
    (void)device;
}

static void on_closed(struct sp_device *device, bool asked)
{
    (void)asked;
    device->in_flight = 0;
}

static void on_message(struct sp_device *device, const struct sp_mqtt_publish *message)
{
    struct traffic *t = device->fleet->scenario;
    double time = 0;
    if (!sp_payload_time(message->payload, &time)) {
        sp_fleet_complain(device->fleet, "a payload that nobody here sent");
        return;
    }
    double late = sp_fleet_time() - time;
    t->received++;
    sp_histogram_add(t->delivery, late > 0 ? (uint64_t)(late * 1e9) : 0);
}

static void on_acked(struct sp_device *device, uint8_t reason, uint64_t ns)
{
    struct traffic *t = device->fleet->scenario;
    t->acked++;
    t->refused += reason >= SP_MQTT_RC_UNSPECIFIED_ERROR;
    sp_histogram_add(t->ack, ns);
}

static const struct sp_fleet_hooks hooks = {on_ready, on_message, on_acked, on_closed};

static uint64_t settled(const struct traffic *t)
{
    uint64_t delivered = t->deliveries == 0 ? t->sent : t->received / t->deliveries;
    uint64_t acked = t->options->qos == 0 ? t->sent : t->acked;
    uint64_t least = delivered < acked ? delivered : acked;
    return least + t->given_up > t->sent ? t->sent : least + t->given_up;
}

static bool may_publish(const struct sp_device *device)
{
    uint32_t most = device->talk.receive_maximum;
    most = most < SP_FLEET_IN_FLIGHT ? most : SP_FLEET_IN_FLIGHT;
    return device->phase == SP_DEVICE_READY && device->in_flight < most &&
           device->unsent.len < 65536;
}

static bool publish_one(struct traffic *t, double time)
{
    uint8_t bytes[8192];
    struct sp_writer w;
    struct sp_device *device = NULL;
    uint32_t number = t->next;
    for (uint32_t tried = 0; device == NULL && tried < t->options->publishers; tried++) {
        number = t->next;
        device = may_publish(&t->devices[number]) ? &t->devices[number] : NULL;
        t->next = number + 1 == t->options->publishers ? 0 : number + 1;
    }
    if (device == NULL) {
        return false;
    }
    sp_writer_init(&w, bytes, sizeof(bytes));
    if (t->options->payload == 0) {
        sp_payload_climate(&w, device->talk.identity, time, (uint32_t)t->sent);
    } else {
        sp_payload_raw(&w, t->options->payload, time);
    }
    sp_device_publish(device, sp_view_str(t->topics[number]), sp_writer_view(&w),
                      (uint8_t)t->options->qos);
    t->sent++;
    if (t->options->publishers > 1) {
        sp_device_flush(device);
    }
    return true;
}

/* Send what is due and fits into the window. */
static void fill(struct traffic *t, struct sp_fleet *fleet, uint64_t count)
{
    uint64_t rate = t->options->rate;
    uint64_t due = count;
    if (rate != 0) {
        uint64_t passed = (sp_fleet_clock() - t->start_ns) * rate / SECOND_NS + 1;
        due = passed < count ? passed : count;
    }
    fleet->now_ns = sp_fleet_clock();
    while (t->sent < due && t->sent - settled(t) < t->options->window) {
        double time = rate == 0 ? sp_fleet_time() : t->start_time + (double)t->sent / (double)rate;
        if (!publish_one(t, time)) {
            break;
        }
    }
    if (t->options->publishers == 1) {
        sp_device_flush(&t->devices[0]);
    }
}

static uint64_t patience(const struct traffic *t)
{
    if (t->options->rate == 0 || t->sent - settled(t) >= t->options->window) {
        return SECOND_NS / 10;
    }
    uint64_t due_ns = t->start_ns + t->sent * SECOND_NS / t->options->rate;
    uint64_t now_ns = sp_fleet_clock();
    return due_ns > now_ns ? due_ns - now_ns : 0;
}

/* Publish `count` messages (0: for `seconds`), then wait until all are settled or nothing moves any more. */
static void run(struct traffic *t, struct sp_fleet *fleet, uint64_t count, uint64_t seconds)
{
    t->sent = t->acked = t->refused = t->received = t->given_up = 0;
    *t->delivery = (struct sp_histogram){0};
    *t->ack = (struct sp_histogram){0};
    t->start_time = sp_fleet_time();
    t->start_ns = sp_fleet_clock();
    uint64_t end_ns = t->start_ns + seconds * SECOND_NS;
    uint64_t most = count == 0 ? UINT64_MAX : count;
    uint64_t moved_ns = t->start_ns;
    uint64_t progress = 0;
    while (!fleet->stop) {
        bool over = count == 0 ? sp_fleet_clock() >= end_ns : t->sent >= count;
        if (!over) {
            fill(t, fleet, most);
        } else if (settled(t) == t->sent) {
            break;
        }
        sp_fleet_poll(fleet, patience(t));
        if (t->received + t->acked != progress || settled(t) == t->sent) {
            progress = t->received + t->acked;
            moved_ns = fleet->now_ns;
        } else if (fleet->now_ns > moved_ns + STALL_NS) {
            t->given_up += t->sent - settled(t);
            moved_ns = fleet->now_ns;
        }
    }
}

static void print_result(const struct traffic *t, const struct sp_fleet *fleet, double seconds)
{
    printf("{\"event\":\"done\",\"seconds\":%.4f,\"sent\":%llu,\"acked\":%llu,\"refused\":%llu,"
           "\"received\":%llu,\"expected\":%llu,\"given_up\":%llu,\"delivered_per_second\":%.1f",
           seconds, (unsigned long long)t->sent, (unsigned long long)t->acked,
           (unsigned long long)t->refused, (unsigned long long)t->received,
           (unsigned long long)(t->sent * t->deliveries), (unsigned long long)t->given_up,
           (double)(t->deliveries == 0 ? t->acked : t->received) / seconds);
    sp_scenario_print_latency("latency_us", t->delivery);
    sp_scenario_print_latency("ack_us", t->ack);
    sp_scenario_print_end(fleet);
}

/* The next member of a role, from `*at` on; NULL when there are no more. */
static const struct sp_fleet_member *next_of(const struct sp_fleet_roll *roll, bool sensor,
                                             size_t *at)
{
    while (*at < roll->count) {
        const struct sp_fleet_member *member = &roll->members[(*at)++];
        if (sp_view_equal(sp_view_str(member->role), SP_VIEW_LIT("sensor")) == sensor) {
            return member;
        }
    }
    return NULL;
}

static bool enlist(struct traffic *t, const struct sp_scenario *scenario)
{
    const struct sp_fleet_options *options = t->options;
    bool paired = sp_view_str(options->filter).len != 0;
    size_t sensor = 0;
    size_t other = 0;
    for (size_t i = 0; i < t->device_count; i++) {
        bool publishes = i < options->publishers;
        struct sp_device *device = &t->devices[i];
        *device = (struct sp_device){
            .fleet = scenario->fleet,
            .who = next_of(scenario->roll, publishes, publishes ? &sensor : &other),
        };
        if (device->who == NULL) {
            fprintf(stderr, "sallyport-fleet: the file has not enough %s\n",
                    publishes ? "sensors" : "monitors");
            return false;
        }
        if (publishes) {
            size_t len = sp_device_fill(options->topic, device->who, NULL, t->topics[i],
                                        sizeof(t->topics[i]) - 1);
            t->topics[i][len] = '\0';
            device->published_ns = calloc(SP_FLEET_IN_FLIGHT, sizeof(uint64_t));
            if (device->published_ns == NULL) {
                abort();
            }
        } else if (paired) {
            device->filter = options->filter;
            device->peer = t->devices[(i - options->publishers) % options->publishers].who;
        }
    }
    return true;
}

static bool play(struct traffic *t, struct sp_fleet *fleet)
{
    const struct sp_fleet_options *options = t->options;
    if (!sp_scenario_gather(fleet, t->devices, t->device_count)) {
        printf("{\"event\":\"failed\"");
        sp_scenario_print_end(fleet);
        return false;
    }
    if (options->warmup > 0) {
        run(t, fleet, options->warmup, 0);
    }
    printf("{\"event\":\"ready\"}\n");
    if (!sp_scenario_pause(fleet, t->devices, t->device_count)) {
        return false;
    }
    uint64_t start_ns = sp_fleet_clock();
    run(t, fleet, options->count, options->seconds);
    print_result(t, fleet, (double)(sp_fleet_clock() - start_ns) / 1e9);
    (void)sp_scenario_pause(fleet, t->devices, t->device_count);
    return fleet->complaints[0].count == 0 && t->given_up == 0 && t->refused == 0;
}

int sp_scenario_publish(const struct sp_scenario *scenario)
{
    struct sp_fleet *fleet = scenario->fleet;
    const struct sp_fleet_options *options = fleet->options;
    size_t count = (size_t)options->publishers + options->subscribers;
    bool each = sp_view_str(options->filter).len != 0 && strstr(options->filter, "{peer}") != NULL;
    struct traffic t = {
        .options = options,
        .devices = calloc(count, sizeof(*t.devices)),
        .topics = calloc(options->publishers, sizeof(*t.topics)),
        .device_count = count,
        .deliveries = each && options->subscribers > 0 ? 1 : options->subscribers,
        .delivery = calloc(1, sizeof(*t.delivery)),
        .ack = calloc(1, sizeof(*t.ack)),
    };
    if (t.devices == NULL || t.topics == NULL || t.delivery == NULL || t.ack == NULL) {
        abort();
    }
    fleet->hooks = &hooks;
    fleet->scenario = &t;
    bool good = enlist(&t, scenario) && play(&t, fleet);
    for (size_t i = 0; i < count; i++) {
        t.devices[i].fleet = fleet; /* also of those that were not enlisted */
    }
    sp_scenario_dismiss(fleet, t.devices, count);
    for (size_t i = 0; i < count; i++) {
        free(t.devices[i].published_ns);
    }
    free(t.devices);
    free(t.topics);
    free(t.delivery);
    free(t.ack);
    return good ? 0 : 1;
}
