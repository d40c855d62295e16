/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The sensor partition's door: its secure function, and its provisioning. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_SENSOR_SERVICE_H
#define SP_DEVICE_SECURE_PARTITIONS_SENSOR_SERVICE_H

#include "device/secure/partitions/sensor/sensor_core.h"
#include "psa/service.h"

#define SP_SENSOR_DEVICE_UID 1U /**< the partition's asset that holds the device's identity */

/** Start with the sensor (copied). */
psa_status_t sp_sensor_entry_init(const struct sp_sensor_hal *hal);

/** Keep under which name this device reports: its identity, 1..64 bytes. */
psa_status_t sp_sensor_provision(struct sp_view device);

psa_status_t sp_sensor_sfn(const psa_msg_t *msg);

#endif
