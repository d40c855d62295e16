/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * What a fusion costs per sealed record beyond opening it: the gate's own code, without sockets. Every round each device
 * sends one record, in an order without pattern. Rounds that only open and check (sp_record_check) take turns with rounds that also
 * look up the device, keep the value and feed the fusions, as gate/session/publish.c does; windows close and documents are
 * written meanwhile.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "gateway/gate/fuse/fuse.h"
#include "gateway/gate/session/home.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"

#define EPOCH    1U
#define NAME_MAX 24U
#define T0_MS    UINT64_C(1700000000000)

static const char help[] =
    "sallyport-fuse-bench: what a fusion costs per sealed record, beyond opening it\n"
    "\n"
    "  sallyport-fuse-bench [DEVICES [FUSIONS [ROUNDS]]]     10000, 1 and 21 where nothing is "
    "said\n";

struct device {
    char topic[NAME_MAX + 16];
    size_t topic_len;
    uint8_t key[SP_RECORD_KEY_MAX];
};

struct sent {
    uint8_t bytes[160];
    size_t len;
};

struct bench {
    uint32_t devices;
    uint32_t rounds;
    struct device *all;
    struct sent *records; /* of one round */
    uint32_t *order;
    struct sp_config config;
    struct sp_timers timers;
    struct sp_outbox outbox;
    struct sp_home home;
    uint64_t documents; /* that went to the store */
    uint64_t given;     /* records to the fusions */
};

static char id[] = "gw-1";
static char name[] = "all";
static char inputs[] = "dt/+/climate";
static char group[] = "hall";
static char cloud_topic[] = "up/{gateway}/all";

static void need(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "sallyport-fuse-bench: %s\n", what);
        exit(1);
    }
}

static struct sp_view topic_of(const struct device *d)
{
    return sp_view(d->topic, d->topic_len);
}

static struct sp_view name_of(const struct device *d)
{
    return sp_view(d->topic + 3, d->topic_len - 3 - 8);
}

static double cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static enum sp_err take(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                        size_t count)
{
    struct bench *b = arg;
    (void)parts;
    (void)count;
    b->documents += type == SP_MSG_APPEND ? tag : 0;
    return SP_OK;
}

/* ---- setting up ---- */

static void make_devices(struct bench *b, const struct sp_crypto_key *from)
{
    b->all = calloc(b->devices, sizeof(*b->all));
    b->records = calloc(b->devices, sizeof(*b->records));
    b->order = calloc(b->devices, sizeof(*b->order));
    need(b->all != NULL && b->records != NULL && b->order != NULL, "no memory");
    for (uint32_t i = 0; i < b->devices; i++) {
        struct device *d = &b->all[i];
        d->topic_len =
            (size_t)snprintf(d->topic, sizeof(d->topic), "dt/sensor-%" PRIu32 "/climate", i);
        need(sp_record_key(from, SP_COSE_AES_CCM_16_64_128, name_of(d), d->key) == SP_OK, "no key");
        b->order[i] = i;
    }
}

static void shuffle(struct bench *b, uint32_t seed)
{
    for (uint32_t i = b->devices - 1; i > 0; i--) {
        seed = seed * 1664525U + 1013904223U;
        uint32_t j = (uint32_t)(((uint64_t)seed * (i + 1)) >> 32);
        uint32_t kept = b->order[i];
        b->order[i] = b->order[j];
        b->order[j] = kept;
    }
}

static void make_home(struct bench *b, const uint8_t *group_key, size_t fusions)
{
    struct sp_fusion_config *all = calloc(fusions + 1, sizeof(*all));
    struct sp_msg_epoch epoch = {.algorithm = SP_COSE_AES_CCM_16_64_128, .epoch = EPOCH};
    need(all != NULL, "no memory");
    for (size_t i = 0; i < fusions; i++) {
        all[i] = (struct sp_fusion_config){.name = name,
                                           .inputs = inputs,
                                           .window_ms = 10000,
                                           .late_ms = 1000,
                                           .cloud = cloud_topic,
                                           .declassify = true};
    }
    b->config = (struct sp_config){
        .id = id,
        .fusions = all,
        .fusion_count = fusions,
        .cloud = {.enabled = true},
        .limits = {.sensors = b->devices, .history = 16, .topic_levels = 8, .topic_bytes = 256},
    };
    b->timers = (struct sp_timers){.now_ms = 1000, .wall_ms = T0_MS};
    b->home = (struct sp_home){
        .config = &b->config, .timers = &b->timers, .outboxes = &b->outbox, .loops = 1};
    need(sp_subs_create(1, &b->home.subs) == SP_OK, "no memory");
    sp_home_init(&b->home);
    const struct sp_edge store = {take, b};
    sp_tickets_connected(&b->home, &store);
    sp_copy(epoch.group, group, sizeof(group));
    sp_copy(epoch.key, group_key, sizeof(epoch.key));
    need(sp_keyring_replace(&b->home.keyring, sp_view(&epoch, sizeof(epoch))) == SP_OK,
         "no keyring");
    b->home.marks.complete = true;
    need(sp_fuse_create(&b->home, &b->home.fuse) == SP_OK, "no memory");
}

/* What every device sends in a round, sealed as its secure world does. */
static void seal_round(struct bench *b, uint64_t counter)
{
    for (uint32_t i = 0; i < b->devices; i++) {
        const struct device *d = &b->all[i];
        struct sent *s = &b->records[i];
        uint8_t plain[128];
        size_t len = 0;
        const struct sp_senml_climate climate = {
            .device = name_of(d),
            .temperature = {2000 + (int64_t)((i * 37U + counter) % 1000U), -2},
            .humidity = {4000 + (int64_t)((i * 11U + counter) % 2000U), -2},
            .has_time = true,
            .time = (int64_t)(b->timers.wall_ms / 1000U),
        };
        const struct sp_record_head head = {SP_COSE_AES_CCM_16_64_128, EPOCH, counter,
                                            sp_view_str(group)};
        const struct sp_crypto_key key = {.bytes = sp_view(d->key, 16)};
        need(sp_senml_encode_climate(&climate, plain, sizeof(plain), &len) == SP_OK, "no record");
        need(sp_record_protect(&head, &key, topic_of(d), sp_view(plain, len), s->bytes,
                               sizeof(s->bytes), &s->len) == SP_OK,
             "no sealed record");
    }
}

/* ---- measuring ---- */

static void feed(struct bench *b, const struct device *d, const struct sp_record_in *in)
{
    struct sp_home *home = &b->home;
    struct sp_sensor *sensor = sp_sensors_get(&home->sensors, name_of(d));
    need(sensor != NULL, "no place for a device");
    sp_sensor_note(&home->sensors, sensor, in, home->timers->wall_ms);
    sp_fuse_take(home->fuse, sensor, topic_of(d), in);
    b->given++;
}

/* CPU microseconds per record; a second of the gateway's time passes. */
static double round_of(struct bench *b, bool fuse)
{
    static struct sp_record_in in;
    const struct sp_record_room room = {&b->home.keyring, &b->home.marks, b->timers.wall_ms};
    double began = cpu_us();
    for (uint32_t i = 0; i < b->devices; i++) {
        const struct device *d = &b->all[b->order[i]];
        const struct sent *s = &b->records[b->order[i]];
        const struct sp_record_sender sender = {name_of(d), sp_view_str(group), SP_RECORDS_SEALED,
                                                true};
        need(sp_record_check(&room, &sender, topic_of(d), sp_view(s->bytes, s->len), &in) ==
                 SP_FATE_TAKE,
             "a record was refused");
        in.mark->counter = in.counter;
        if (fuse) {
            feed(b, d, &in);
        }
    }
    if (fuse) {
        b->timers.now_ms += 1000;
        b->timers.wall_ms += 1000;
        sp_fuse_roll(b->home.fuse);
        sp_tickets_flush(&b->home);
    }
    return (cpu_us() - began) / b->devices;
}

static int by_size(const void *a, const void *b)
{
    const double *x = a;
    const double *y = b;
    return (*x > *y) - (*x < *y);
}

static double median(double *values, uint32_t count)
{
    qsort(values, count, sizeof(*values), by_size);
    return values[count / 2];
}

static uint32_t number(char **argv, int argc, int at, uint32_t otherwise)
{
    char *end = NULL;
    unsigned long value = at < argc ? strtoul(argv[at], &end, 10) : otherwise;
    need(value > 0 && value <= 1000000 && (end == NULL || *end == '\0'),
         "numbers from 1 to 1000000; see --help");
    return (uint32_t)value;
}

int main(int argc, char **argv)
{
    static struct bench b;
    uint8_t group_key[SP_RECORD_GROUP_KEY];
    if (argc > 1 && strcmp(argv[1], "--help") == 0) {
        (void)fputs(help, stdout);
        return 0;
    }
    sp_log_init("fuse-bench", SP_LOG_ERROR);
    need(sp_metrics_init() == SP_OK, "no memory");
    b.devices = number(argv, argc, 1, 10000);
    uint32_t fusions = number(argv, argc, 2, 1);
    b.rounds = number(argv, argc, 3, 21);
    memset(group_key, 0x5A, sizeof(group_key));
    const struct sp_crypto_key from = {.bytes = SP_VIEW_ARRAY(group_key)};
    make_devices(&b, &from);
    make_home(&b, group_key, fusions);
    double *opened = calloc(b.rounds, sizeof(double));
    double *fused = calloc(b.rounds, sizeof(double));
    need(opened != NULL && fused != NULL, "no memory");
    uint64_t counter = 1;
    for (int warm = 0; warm < 2; warm++) { /* keys are derived and devices met in the first round */
        seal_round(&b, counter++);
        (void)round_of(&b, true);
    }
    for (uint32_t i = 0; i < b.rounds; i++) {
        shuffle(&b, i);
        seal_round(&b, counter++);
        opened[i] = round_of(&b, false);
        seal_round(&b, counter++);
        fused[i] = round_of(&b, true);
    }
    need(sp_metric_read(SP_M_FUSION_RECORDS) == (int64_t)(b.given * fusions) && b.documents > 0,
         "not every record was fused");
    double open_us = median(opened, b.rounds);
    double both_us = median(fused, b.rounds);
    printf("%" PRIu32 " devices, %" PRIu32 " fusions, %" PRIu32 " rounds, %" PRIu64 " documents\n",
           b.devices, fusions, b.rounds, b.documents);
    printf("open and check a sealed record   %.3f CPU us\n", open_us);
    printf("the same and fuse it             %.3f CPU us\n", both_us);
    printf("a fusion, beyond opening         %.3f CPU us (target < 1)\n", both_us - open_us);
    sp_home_deinit(&b.home);
    sp_subs_destroy(b.home.subs);
    free(b.config.fusions);
    free(b.all);
    free(b.records);
    free(b.order);
    free(opened);
    free(fused);
    return both_us - open_us < 1.0 ? 0 : 1;
}
