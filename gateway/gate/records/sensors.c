/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/records/sensors.h"

#include "gateway/log/log.h"
#include "gateway/slab/slab.h"

#include <math.h>
#include <stdlib.h>

static struct sp_slabs slabs = SP_SLABS_INIT;

void sp_sensors_init(struct sp_sensors *sensors, size_t max, size_t history, size_t fusions)
{
    *sensors = (struct sp_sensors){.max = max, .history = history, .fusions = fusions};
}

static uint64_t hash_of(struct sp_view identity)
{
    return sp_hash(sp_hash_seed(), identity);
}

static uint64_t hash_of_sensor(const struct sp_table_node *node)
{
    const struct sp_sensor *sensor = (const struct sp_sensor *)node;
    return hash_of(sp_view(sensor->identity, sensor->identity_len));
}

struct sp_sensor *sp_sensors_find(const struct sp_sensors *sensors, struct sp_view identity)
{
    struct sp_table_node *node = sp_table_find(&sensors->table, hash_of(identity));
    for (; node != NULL; node = sp_table_next(node)) {
        struct sp_sensor *sensor = (struct sp_sensor *)node;
        if (sp_view_equal(sp_view(sensor->identity, sensor->identity_len), identity)) {
            return sensor;
        }
    }
    return NULL;
}

static bool full(struct sp_sensors *sensors)
{
    bool is_full = sensors->table.count >= sensors->max;
    if (is_full && !sensors->full_told) {
        sensors->full_told = true;
        sp_log_warn(SP_EVENT("sensors_full"), SP_F_INT("devices", sensors->max),
                    SP_F_STR("detail", "more devices report than `limits: sensors` allows: no "
                                       "history and no fusion for them"));
    }
    return is_full;
}

/* Of one entry. */
static size_t size_of(const struct sp_sensors *sensors)
{
    return sizeof(struct sp_sensor) +
           sensors->fusions * sizeof(((struct sp_sensor *)NULL)->members[0]);
}

struct sp_sensor *sp_sensors_get(struct sp_sensors *sensors, struct sp_view identity)
{
    struct sp_sensor *sensor = sp_sensors_find(sensors, identity);
    if (sensor != NULL || identity.len > sizeof(sensor->identity) || full(sensors)) {
        return sensor;
    }
    sensor = sp_slabs_take(&slabs, size_of(sensors));
    if (sensor == NULL) {
        return NULL;
    }
    sensor->history = calloc(sensors->history + 1, sizeof(*sensor->history));
    sensor->identity_len = (uint8_t)identity.len;
    sp_copy(sensor->identity, identity.ptr, identity.len);
    if (sensor->history == NULL ||
        sp_table_insert(&sensors->table, &sensor->node, hash_of_sensor) != SP_OK) {
        free(sensor->history);
        sp_slabs_give(&slabs, sensor, size_of(sensors));
        return NULL;
    }
    return sensor;
}

static double number_of(const struct sp_senml_entry *entry)
{
    return entry != NULL && entry->kind == SP_SENML_NUMBER ? sp_decimal_to_double(entry->number)
                                                           : (double)NAN;
}

void sp_sensor_note(struct sp_sensors *sensors, struct sp_sensor *sensor,
                    const struct sp_record_in *in, uint64_t wall_ms)
{
    const struct sp_senml_entry *timed =
        in->record.temperature != NULL ? in->record.temperature : in->record.humidity;
    if (timed == NULL || sensors->history == 0) {
        return;
    }
    sensor->history[sensor->history_next] = (struct sp_reading){
        .time_ms = sp_senml_time_ms(timed, (int64_t)wall_ms),
        .temperature = number_of(in->record.temperature),
        .humidity = number_of(in->record.humidity),
    };
    sensor->history_next = (sensor->history_next + 1) % sensors->history;
    sensor->history_count += sensor->history_count < sensors->history;
    sensor->protection = (uint8_t)in->protection;
    sensor->counter = in->counter;
}

const struct sp_reading *sp_sensor_last(const struct sp_sensors *sensors,
                                        const struct sp_sensor *sensor)
{
    if (sensor->history_count == 0) {
        return NULL;
    }
    return &sensor->history[(sensor->history_next + sensors->history - 1) % sensors->history];
}

bool sp_sensor_report(struct sp_sensor *sensor, enum sp_metric kind)
{
    uint32_t bit = UINT32_C(1) << ((unsigned)(kind - SP_M_RECORD_WEAKER) & 31U);
    if (sensor == NULL) {
        return true;
    }
    bool first = (sensor->reported & bit) == 0;
    sensor->reported |= bit;
    return first;
}

void sp_sensors_remove(struct sp_sensors *sensors, struct sp_sensor *sensor)
{
    sp_table_remove(&sensors->table, &sensor->node);
    free(sensor->history);
    sp_slabs_give(&slabs, sensor, size_of(sensors));
}

void sp_sensors_deinit(struct sp_sensors *sensors)
{
    struct sp_table_node *node;
    while ((node = sp_table_any(&sensors->table)) != NULL) {
        sp_sensors_remove(sensors, (struct sp_sensor *)node);
    }
    sp_table_deinit(&sensors->table);
}
