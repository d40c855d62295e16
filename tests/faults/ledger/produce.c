/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A device numbers its messages from 1. It sends them in order, has a window of them unanswered, and when it lost its
 * connection it sends those that were not answered again, in order, before anything new. A refusal is final for its
 * number. So the numbers that a correct gateway passes on rise, whatever happened.
 */
#include "tests/faults/ledger/produce.h"

#include "bench/fleet/device.h"
#include "tests/faults/ledger/entry.h"
#include "tests/faults/ledger/text.h"

#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND_NS  1000000000ULL
#define REOPEN_NS  (SECOND_NS / 10)
#define SILENCE_NS (5 * SECOND_NS)
#define REFUSED_NS (SECOND_NS / 20)
#define LINGER_NS  (10 * SECOND_NS)
#define WINDOW_MAX 64U

struct pending {
    uint64_t number;
    uint16_t packet_id; /* 0: not sent on this connection */
};

struct producer {
    struct sp_device device; /* first: hooks cast back */
    uint32_t index;
    uint64_t last;                      /* number given out last */
    struct pending pending[WINDOW_MAX]; /* oldest first */
    uint32_t count;
    uint64_t reopen_ns;  /* AWAY: when to try again */
    uint64_t heard_ns;   /* last answer, or when it began to wait for one */
    uint64_t refused_ns; /* after a refusal: no new ones before */
    char topic[256];
    size_t topic_len;
};

struct herd {
    const struct sp_produce_options *options;
    struct sp_fleet fleet;
    struct sp_ledger log;
    struct producer *producers;
    uint32_t count;
    uint64_t sent, acked, refused, reconnects;
    uint64_t given; /* numbers given out */
    uint64_t rate;  /* per second; 0: as fast as answers come */
    uint64_t pace_ns;
    uint64_t paced;
};

static struct herd herd;
static volatile sig_atomic_t told_to_stop;

static void on_signal(int number)
{
    (void)number;
    told_to_stop = 1;
}

static void on_ready(struct sp_device *device)
{
    struct producer *p = (struct producer *)device;
    p->heard_ns = herd.fleet.now_ns;
    herd.reconnects++;
}

static void on_message(struct sp_device *device, const struct sp_mqtt_publish *message)
{
    (void)device;
    (void)message;
}

static void on_closed(struct sp_device *device, bool asked)
{
    struct producer *p = (struct producer *)device;
    (void)asked;
    for (uint32_t i = 0; i < p->count; i++) {
        p->pending[i].packet_id = 0;
    }
    p->reopen_ns = sp_fleet_clock() + REOPEN_NS;
}

static void on_acked(struct sp_device *device, uint8_t reason, uint64_t ns)
{
    struct producer *p = (struct producer *)device;
    (void)ns;
    uint32_t i = 0;
    while (i < p->count && p->pending[i].packet_id != device->acked_id) {
        i++;
    }
    if (i == p->count) {
        sp_fleet_complain(&herd.fleet, "an answer to a question that was not asked");
        return;
    }
    sp_ledger_note(&herd.log, (struct sp_entry){.kind = SP_ENTRY_ACKED,
                                                .code = reason,
                                                .device = p->index,
                                                .number = p->pending[i].number});
    p->count--;
    memmove(&p->pending[i], &p->pending[i + 1], (p->count - i) * sizeof(p->pending[0]));
    p->heard_ns = herd.fleet.now_ns;
    if (reason >= SP_MQTT_RC_UNSPECIFIED_ERROR) {
        herd.refused++;
        p->refused_ns = herd.fleet.now_ns + REFUSED_NS;
    } else {
        herd.acked++;
    }
}

static const struct sp_fleet_hooks hooks = {on_ready, on_message, on_acked, on_closed};

static void send_one(struct producer *p, struct pending *what)
{
    uint8_t bytes[SP_TEXT_MAX];
    struct sp_writer w;
    sp_writer_init(&w, bytes, sizeof(bytes));
    sp_text_write(&w, herd.options->seed, p->index, what->number, herd.options->longest);
    sp_ledger_note(
        &herd.log,
        (struct sp_entry){.kind = SP_ENTRY_SENT, .device = p->index, .number = what->number});
    sp_device_publish(&p->device, sp_view(p->topic, p->topic_len), sp_writer_view(&w),
                      (uint8_t)herd.options->fleet.qos);
    what->packet_id = p->device.packet_id;
    herd.sent++;
}

/* Those of the connections before, in order; then new ones. */
static void fill(struct producer *p, bool more)
{
    uint32_t window = herd.options->fleet.window;
    window = window < p->device.talk.receive_maximum ? window : p->device.talk.receive_maximum;
    bool any = false;
    for (uint32_t i = 0; i < p->count && i < window; i++) {
        if (p->pending[i].packet_id == 0) {
            send_one(p, &p->pending[i]);
            any = true;
        }
    }
    while (more && p->count < window && p->count < WINDOW_MAX &&
           (herd.rate == 0 || herd.paced > 0) && p->device.unsent.len < 65536 &&
           herd.fleet.now_ns >= p->refused_ns) {
        struct pending *fresh = &p->pending[p->count++];
        *fresh = (struct pending){.number = ++p->last};
        herd.paced -= herd.rate == 0 ? 0 : 1;
        herd.given++;
        send_one(p, fresh);
        any = true;
    }
    if (any) {
        sp_device_flush(&p->device);
    }
}

static void look_after(struct producer *p, bool more)
{
    struct sp_device *d = &p->device;
    uint64_t now = herd.fleet.now_ns;
    if (d->phase == SP_DEVICE_AWAY) {
        if (now >= p->reopen_ns) {
            p->heard_ns = now;
            sp_device_open(d);
        }
        return;
    }
    if (p->count == 0 && d->phase == SP_DEVICE_READY) {
        p->heard_ns = now;
    }
    if (now > p->heard_ns + SILENCE_NS) {
        sp_fleet_complain(&herd.fleet, "silence");
        sp_device_deinit(d);
        on_closed(d, true);
        return;
    }
    if (d->phase == SP_DEVICE_READY) {
        fill(p, more);
        if (p->count == 0) {
            sp_device_keep_alive(d);
        }
    }
}

static void hand_out(void)
{
    uint64_t now = herd.fleet.now_ns;
    uint64_t due = (now - herd.pace_ns) * herd.rate / SECOND_NS;
    if (herd.rate != 0 && due > 0) {
        herd.paced = herd.paced + due > herd.rate ? herd.rate : herd.paced + due;
        herd.pace_ns = now;
    }
}

/* `rate N`. @return false when stdin was closed. */
static bool take_order(void)
{
    char line[64];
    struct pollfd in = {.fd = 0, .events = POLLIN};
    if (poll(&in, 1, 0) <= 0) {
        return true;
    }
    ssize_t got = read(0, line, sizeof(line) - 1);
    if (got <= 0) {
        return false;
    }
    line[got] = '\0';
    if (strncmp(line, "rate ", 5) == 0) {
        herd.rate = strtoull(line + 5, NULL, 10);
        herd.paced = 0;
    }
    return true;
}

static bool answered(void)
{
    for (uint32_t i = 0; i < herd.count; i++) {
        if (herd.producers[i].count != 0) {
            return false;
        }
    }
    return true;
}

static void run(void)
{
    uint64_t synced = herd.fleet.now_ns = herd.pace_ns = sp_fleet_clock();
    uint64_t end = 0;
    uint32_t first = 0;
    while (end == 0 || (herd.fleet.now_ns < end && !answered())) {
        if (end == 0 && (told_to_stop != 0 || !take_order())) {
            end = herd.fleet.now_ns + LINGER_NS;
        }
        hand_out();
        for (uint32_t i = 0; i < herd.count; i++) {
            look_after(&herd.producers[(first + i) % herd.count], end == 0);
        }
        first++;
        if (herd.fleet.now_ns > synced + SECOND_NS) {
            sp_ledger_flush(&herd.log, true);
            synced = herd.fleet.now_ns;
        }
        sp_fleet_poll(&herd.fleet, SECOND_NS / 100);
    }
    sp_ledger_flush(&herd.log, true);
}

static bool muster(const struct sp_fleet_roll *roll)
{
    herd.count = herd.options->fleet.publishers < (uint32_t)roll->count
                     ? herd.options->fleet.publishers
                     : (uint32_t)roll->count;
    herd.producers = calloc(herd.count, sizeof(*herd.producers));
    for (uint32_t i = 0; herd.producers != NULL && i < herd.count; i++) {
        struct producer *p = &herd.producers[i];
        p->device = (struct sp_device){.fleet = &herd.fleet, .who = &roll->members[i]};
        p->device.published_ns = calloc(SP_FLEET_IN_FLIGHT, sizeof(uint64_t));
        p->index = i;
        p->topic_len = sp_device_fill(herd.options->fleet.topic, p->device.who, NULL, p->topic,
                                      sizeof(p->topic));
        if (p->device.published_ns == NULL || p->topic_len == 0) {
            return false;
        }
    }
    return herd.producers != NULL;
}

static void report(void)
{
    printf("{\"event\":\"done\",\"messages\":%llu,\"sent\":%llu,\"acked\":%llu,\"refused\":%llu,"
           "\"connections\":%llu,\"complaints\":{",
           (unsigned long long)herd.given, (unsigned long long)herd.sent,
           (unsigned long long)herd.acked, (unsigned long long)herd.refused,
           (unsigned long long)herd.reconnects);
    for (size_t i = 0; i < SP_FLEET_COMPLAINTS && herd.fleet.complaints[i].count != 0; i++) {
        printf("%s\"%s\":%llu", i == 0 ? "" : ",", herd.fleet.complaints[i].text,
               (unsigned long long)herd.fleet.complaints[i].count);
    }
    printf("}}\n");
}

int sp_produce(const struct sp_produce_options *options)
{
    struct sp_fleet_roll roll;
    herd.options = options;
    herd.rate = options->fleet.rate;
    herd.fleet.options = &options->fleet;
    herd.fleet.hooks = &hooks;
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGTERM, on_signal);
    (void)signal(SIGINT, on_signal);
    if (sp_fleet_tls_init(options->fleet.suite) != SP_OK || sp_fleet_open(&herd.fleet) != SP_OK ||
        sp_ledger_open(&herd.log, options->log) != SP_OK ||
        sp_fleet_roll_load(options->fleet.fleet, &roll) != SP_OK) {
        fprintf(stderr, "sallyport-ledger: gateway, fleet or log cannot be used\n");
        return 2;
    }
    if (!muster(&roll)) {
        return 1;
    }
    printf("{\"event\":\"ready\"}\n");
    (void)fflush(stdout);
    run();
    report();
    for (uint32_t i = 0; i < herd.count; i++) {
        sp_device_deinit(&herd.producers[i].device);
        free(herd.producers[i].device.published_ns);
    }
    free(herd.producers);
    sp_fleet_roll_deinit(&roll);
    sp_fleet_close(&herd.fleet);
    sp_fleet_tls_deinit();
    return 0;
}
