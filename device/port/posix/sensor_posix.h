/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Sensors for a device without one: constant values, a slow wave, or a file that somebody else writes. */
#ifndef SP_DEVICE_PORT_POSIX_SENSOR_POSIX_H
#define SP_DEVICE_PORT_POSIX_SENSOR_POSIX_H

#include "device/secure/partitions/sensor/sensor_core.h"

/**
 * @param[in] spec `constant:23.5,41.0` (Cel, %RH), `wave` (18..26 Cel, 35..55 %RH, once in five minutes), or
 *                 `file:PATH`: the same two numbers with a comma or blanks between, read at each reading.
 *                 Borrowed for good.
 * @retval SP_ERR_MALFORMED Not that.
 */
SP_MUST_CHECK enum sp_err sp_sensor_posix_init(const char *spec, struct sp_sensor_hal *out);

#endif
