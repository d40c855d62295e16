/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The sensor partition's door: request types, its secure function, and its provisioning. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_SENSOR_SERVICE_H
#define SP_DEVICE_SECURE_PARTITIONS_SENSOR_SERVICE_H

#include "device/secure/partitions/sensor/sensor_core.h"
#include "psa/service.h"

enum sp_sensor_request {
    SP_SENSOR_READ_RECORD = 1001, /**< in: int64_t utc seconds; out: topic; out: payload */
};

/** Start with the sensor (copied). */
psa_status_t sp_sensor_entry_init(const struct sp_sensor_hal *hal);

/** Keep under which name this device reports: its identity, 1..64 bytes. */
psa_status_t sp_sensor_provision(struct sp_view device);

psa_status_t sp_sensor_sfn(const psa_msg_t *msg);

#endif
