/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What each device of this loop reported last, and shortly before; and what was told about its bad records.
 * At most `limits: sensors` devices, `limits: history` values of each.
 */
#ifndef SP_GATEWAY_GATE_RECORDS_SENSORS_H
#define SP_GATEWAY_GATE_RECORDS_SENSORS_H

#include "gateway/gate/core/table.h"
#include "gateway/gate/records/records.h"

/** One value of the past; NAN where the record had none. */
struct sp_reading {
    int64_t time_ms; /**< milliseconds since 1970 */
    double temperature;
    double humidity;
};

/** A device's part in one fusion. */
struct sp_member {
    int64_t seen[2]; /**< the last even and the last odd window that it was seen in */
    bool known;      /**< was seen at all */
    bool asked;      /**< `matches` is filled in */
    bool matches;    /**< its records are inputs */
};

struct sp_sensor {
    struct sp_table_node node; /* first: found by casting back */
    uint32_t reported;         /* kinds of refusals that were logged, as bits */
    uint8_t identity_len;
    uint8_t protection;
    uint8_t identity[SP_LINK_IDENTITY_MAX];
    uint64_t counter;
    size_t history_next;
    size_t history_count;
    struct sp_reading *history; /* a ring */
    struct sp_member members[]; /* one per fusion */
};

struct sp_sensors {
    struct sp_table table;
    size_t max;
    size_t history; /* values per device */
    size_t fusions;
    bool full_told;
};

void sp_sensors_init(struct sp_sensors *sensors, size_t max, size_t history, size_t fusions);

/** Find or make. NULL: no memory, or too many. */
struct sp_sensor *sp_sensors_get(struct sp_sensors *sensors, struct sp_view identity);
struct sp_sensor *sp_sensors_find(const struct sp_sensors *sensors, struct sp_view identity);

/** Keep the values of a parsed record. */
void sp_sensor_note(struct sp_sensors *sensors, struct sp_sensor *sensor,
                    const struct sp_record_in *in, uint64_t wall_ms);

/** The last value; NULL: none yet. */
const struct sp_reading *sp_sensor_last(const struct sp_sensors *sensors,
                                        const struct sp_sensor *sensor);

/** The first time that a refusal of this kind is to be told. `sensor` may be NULL: always. */
bool sp_sensor_report(struct sp_sensor *sensor, enum sp_metric kind);

/** Forget a device. */
void sp_sensors_remove(struct sp_sensors *sensors, struct sp_sensor *sensor);

void sp_sensors_deinit(struct sp_sensors *sensors);

#endif
