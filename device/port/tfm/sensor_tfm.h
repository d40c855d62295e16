/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The sensor partition in TF-M: what the board's own source file, SALLYPORT_SENSOR_SOURCES, has to define. */
#ifndef SP_DEVICE_PORT_TFM_SENSOR_TFM_H
#define SP_DEVICE_PORT_TFM_SENSOR_TFM_H

#include "device/secure/partitions/sensor/sensor_core.h"

/** Start the sensor, and say how to read it; once, at start. */
struct sp_sensor_hal sp_sensor_tfm_hal(void);

/**
 * The device's identity at the gateway, 1..64 bytes that stay valid, from wherever the board keeps what the factory wrote
 * (OTP, a secure page). Asked for until the partition has stored one, never after that.
 */
struct sp_view sp_sensor_tfm_identity(void);

/** entry_init of sallyport_sensor.yaml. */
psa_status_t sp_sensor_tfm_init(void);

#endif
