/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Windows, late records, silent devices, bounds; and what a fusion over 10,000 devices costs per record. */
#include "gateway/gate/fuse/fuse.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "gateway/gate/fuse/document.h"
#include "gateway/gate/session/home.h"
#include "gateway/log/log.h"
#include "gateway/proc/messages.h"
#include "libs/base/test.h"

#define DEVICES 10000U
#define ROUNDS  100U

static char id[] = "gw-1";
static char hall[] = "hall";
static char yard[] = "yard";
static char all[] = "dt/+/climate";
static char one[] = "dt/dev-1/climate";
static char cloud_topic[] = "up/{gateway}/hall";
static struct sp_fusion_config fusions[] = {
    {.name = hall, .inputs = all, .window_ms = 10000, .late_ms = 2000, .cloud = cloud_topic},
    {.name = yard, .inputs = one, .window_ms = 60000, .late_ms = 0, .declassify = true},
};
static struct sp_config config = {
    .id = id,
    .fusions = fusions,
    .fusion_count = 2,
    .cloud = {.enabled = true},
    .limits = {.sensors = DEVICES, .history = 4, .topic_levels = 8, .topic_bytes = 256},
};
static struct sp_timers timers;
static struct sp_outbox outboxes[1];
static struct sp_home home;
static char sent[4][2048];
static size_t sent_count;

/* What goes to the store: the last part of a batch is a document. */
static enum sp_err take(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                        size_t count)
{
    (void)arg;
    (void)tag;
    struct sp_view rest = parts[0];
    while (type == SP_MSG_APPEND && count == 1 && rest.len >= sizeof(struct sp_msg_record)) {
        struct sp_msg_record r;
        memcpy(&r, rest.ptr, sizeof(r));
        rest =
            sp_view_from(rest, sizeof(r) + r.device_len + r.topic_len + r.origin_len + r.group_len);
        (void)snprintf(sent[sent_count % 4], sizeof(sent[0]), "%.*s", (int)r.payload_len,
                       (const char *)rest.ptr);
        sent_count++;
        rest = sp_view_from(rest, r.payload_len);
    }
    return SP_OK;
}

static void at(uint64_t wall_ms)
{
    timers.now_ms += wall_ms > timers.wall_ms ? wall_ms - timers.wall_ms : 0;
    timers.wall_ms = wall_ms;
    if (home.fuse != NULL) {
        sp_fuse_roll(home.fuse);
        sp_tickets_flush(&home);
    }
}

static void begin(uint64_t wall_ms)
{
    sp_log_init("test", SP_LOG_ERROR);
    timers = (struct sp_timers){.now_ms = 1000, .wall_ms = wall_ms};
    memset(&home, 0, sizeof(home));
    home.config = &config;
    home.timers = &timers;
    home.outboxes = outboxes;
    home.loops = 1;
    SP_CHECK(sp_subs_create(1, &home.subs) == SP_OK);
    sp_home_init(&home);
    const struct sp_edge store = {take, NULL};
    sp_tickets_connected(&home, &store);
    SP_CHECK(sp_fuse_create(&home, &home.fuse) == SP_OK);
    sent_count = 0;
}

static void end(void)
{
    sp_home_deinit(&home);
    sp_subs_destroy(home.subs);
}

static void topic_of(unsigned device, struct sp_view *identity, struct sp_view *topic)
{
    static char text[64];
    int len = snprintf(text, sizeof(text), "dt/dev-%u/climate", device);
    *topic = sp_view(text, (size_t)len);
    *identity = sp_view(text + 3, (size_t)len - 11);
}

static void give(unsigned device, int64_t temperature, int64_t time_s,
                 enum sp_protection protection)
{
    struct sp_view identity;
    struct sp_view topic;
    static struct sp_record_in in;
    topic_of(device, &identity, &topic);
    in.protection = protection;
    in.parsed = true;
    in.record = (struct sp_senml_record){.count = 1};
    in.record.entries[0] = (struct sp_senml_entry){.quantity = SP_SENML_TEMPERATURE,
                                                   .kind = SP_SENML_NUMBER,
                                                   .number = {temperature, 0},
                                                   .has_time = true,
                                                   .time = {time_s, 0}};
    in.record.temperature = &in.record.entries[0];
    in.record.humidity = NULL;
    struct sp_sensor *sensor = sp_sensors_get(&home.sensors, identity);
    SP_CHECK(sensor != NULL);
    if (sensor != NULL) {
        sp_sensor_note(&home.sensors, sensor, &in, timers.wall_ms);
        sp_fuse_take(home.fuse, sensor, topic, &in);
    }
}

static bool said(size_t which, const char *what)
{
    bool found = strstr(sent[which % 4], what) != NULL;
    if (!found) {
        printf("  %s\n  lacks %s\n", sent[which % 4], what);
    }
    return found;
}

#define T0 1700000000U /* seconds: the start of a window of ten */

static void a_window_closes_when_late_records_had_their_time(void)
{
    begin(T0 * 1000ULL);
    give(1, 20, T0 + 1, SP_PROTECTION_CLEAR);
    give(2, 30, T0 + 2, SP_PROTECTION_CLEAR);
    at((T0 + 11) * 1000ULL);
    give(2, 40, T0 + 9, SP_PROTECTION_CLEAR); /* after its end, within `late` */
    give(1, 50, T0 + 11, SP_PROTECTION_CLEAR);
    SP_CHECK_INT(sent_count, 0);
    at((T0 + 12) * 1000ULL);
    SP_CHECK_INT(sent_count, 1);
    SP_CHECK(said(0, "\"window_start\":1700000000,\"window_seconds\":10"));
    SP_CHECK(said(0, "\"temperature_celsius\":{\"count\":3,\"min\":20,\"mean\":30,\"max\":40}"));
    SP_CHECK(said(0, "\"humidity_percent\":{\"count\":0,\"min\":null,\"mean\":null,\"max\":null}"));
    SP_CHECK(said(0, "\"devices_seen\":2,\"devices_silent\":0,\"late_records\":0"));
    give(2, 99, T0 + 3, SP_PROTECTION_CLEAR); /* too late: counted, left out */
    at((T0 + 22) * 1000ULL);
    SP_CHECK_INT(sent_count, 2);
    SP_CHECK(said(1, "\"count\":1,\"min\":50,\"mean\":50,\"max\":50"));
    SP_CHECK(said(1, "\"devices_seen\":1,\"devices_silent\":1,\"late_records\":1"));
    end();
}

static void a_record_from_the_future_counts_as_now(void)
{
    begin(T0 * 1000ULL);
    give(1, 20, T0 + 100000, SP_PROTECTION_CLEAR);
    at((T0 + 12) * 1000ULL);
    SP_CHECK(sent_count == 1 && said(0, "\"count\":1,"));
    end();
}

static void a_window_without_records_says_who_is_silent(void)
{
    begin(T0 * 1000ULL);
    give(1, 20, T0, SP_PROTECTION_CLEAR);
    give(2, 20, T0, SP_PROTECTION_CLEAR);
    at((T0 + 12) * 1000ULL);
    at((T0 + 22) * 1000ULL);
    SP_CHECK(sent_count == 2 && said(1, "\"devices_seen\":0,\"devices_silent\":2"));
    struct sp_view identity;
    struct sp_view topic;
    topic_of(2, &identity, &topic);
    sp_home_revoke(&home, identity, 0);
    at((T0 + 32) * 1000ULL);
    SP_CHECK(sent_count == 3 && said(2, "\"devices_seen\":0,\"devices_silent\":1"));
    end();
}

static void nothing_is_said_before_anybody_reported(void)
{
    begin(T0 * 1000ULL);
    at((T0 + 500) * 1000ULL);
    SP_CHECK_INT(sent_count, 0);
    end();
}

static void sealed_records_need_declassify(void)
{
    begin(T0 * 1000ULL);
    give(1, 20, T0, SP_PROTECTION_SEALED);
    give(1, 21, T0, SP_PROTECTION_MAC);
    at((T0 + 12) * 1000ULL);
    SP_CHECK(sent_count == 1 && said(0, "\"count\":1,\"min\":21") &&
             said(0, "\"declassified\":false"));
    at((T0 + 62) * 1000ULL); /* yard takes both; it has no topic in the cloud */
    end();
}

static void a_clock_that_jumps_neither_stops_nor_floods(void)
{
    begin(T0 * 1000ULL);
    give(1, 20, T0, SP_PROTECTION_CLEAR);
    at((T0 + 1000000) * 1000ULL);
    SP_CHECK(sent_count >= 1 && sent_count <= 3);
    size_t before = sent_count;
    give(1, 20, T0 + 1000001, SP_PROTECTION_CLEAR);
    at((T0 + 1000012) * 1000ULL);
    SP_CHECK(sent_count > before && said(sent_count - 1, "\"count\":1,"));
    end();
}

static void history_is_short_and_bounded(void)
{
    begin(T0 * 1000ULL);
    for (int n = 0; n < 10; n++) {
        give(1, n, T0, SP_PROTECTION_CLEAR);
    }
    struct sp_view identity;
    struct sp_view topic;
    topic_of(1, &identity, &topic);
    struct sp_sensor *sensor = sp_sensors_find(&home.sensors, identity);
    SP_CHECK(sensor != NULL && sensor->history_count == 4);
    const struct sp_reading *last = sensor == NULL ? NULL : sp_sensor_last(&home.sensors, sensor);
    SP_CHECK(last != NULL && last->temperature > 8.9 && last->temperature < 9.1 &&
             last->time_ms == (int64_t)T0 * 1000);
    for (size_t i = 0; sensor != NULL && i < 4; i++) { /* the latest four, oldest first */
        const struct sp_reading *r = &sensor->history[(sensor->history_next + i) % 4];
        SP_CHECK(r->temperature > 5.9 + (double)i && r->temperature < 6.1 + (double)i &&
                 r->humidity != r->humidity);
    }
    home.sensors.max = 1;
    topic_of(2, &identity, &topic);
    SP_CHECK(sp_sensors_get(&home.sensors, identity) == NULL);
    topic_of(1, &identity, &topic);
    SP_CHECK(sp_sensors_get(&home.sensors, identity) == sensor); /* who has a place keeps it */
    sp_home_revoke(&home, identity, 0);
    SP_CHECK(sp_sensors_find(&home.sensors, identity) == NULL);
    topic_of(2, &identity, &topic);
    SP_CHECK(sp_sensors_get(&home.sensors, identity) != NULL); /* there is room again */
    end();
}

static double cpu_us(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* The bound has room for sanitizers and a busy machine; the figure is for docs/performance.md. */
static void a_fusion_over_ten_thousand_devices_is_cheap(void)
{
    static struct sp_sensor *sensors[DEVICES];
    static struct sp_record_in in;
    struct sp_view identity;
    struct sp_view topic;
    begin(T0 * 1000ULL);
    config.fusion_count = 1;
    for (unsigned n = 0; n < DEVICES; n++) {
        topic_of(n, &identity, &topic);
        sensors[n] = sp_sensors_get(&home.sensors, identity);
        SP_CHECK(sensors[n] != NULL);
    }
    in.parsed = true;
    in.record.count = 1;
    in.record.entries[0] = (struct sp_senml_entry){
        .quantity = SP_SENML_TEMPERATURE, .kind = SP_SENML_NUMBER, .number = {2350, -2}};
    in.record.temperature = &in.record.entries[0];
    double began = cpu_us();
    for (unsigned round = 0; round < ROUNDS; round++) {
        for (unsigned n = 0; n < DEVICES; n++) {
            sp_fuse_take(home.fuse, sensors[n], topic, &in);
        }
    }
    double each = (cpu_us() - began) / ((double)DEVICES * ROUNDS);
    printf("  a record into a fusion of %u devices: %.3f us\n", DEVICES, each);
    SP_CHECK(each < 10.0);
    end();
    config.fusion_count = 2;
}

static const struct sp_test tests[] = {
    SP_TEST(a_window_closes_when_late_records_had_their_time),
    SP_TEST(a_record_from_the_future_counts_as_now),
    SP_TEST(a_window_without_records_says_who_is_silent),
    SP_TEST(nothing_is_said_before_anybody_reported),
    SP_TEST(sealed_records_need_declassify),
    SP_TEST(a_clock_that_jumps_neither_stops_nor_floods),
    SP_TEST(history_is_short_and_bounded),
    SP_TEST(a_fusion_over_ten_thousand_devices_is_cheap),
};

SP_TEST_MAIN(tests)
