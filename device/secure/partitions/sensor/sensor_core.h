/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file From a reading to a record: checks it, names it, packs it. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_SENSOR_CORE_H
#define SP_DEVICE_SECURE_PARTITIONS_SENSOR_CORE_H

#include "libs/base/bytes.h"
#include "psa/error.h"
#include "sallyport/sensor.h"

/** What the sensor says. */
struct sp_sensor_reading {
    int32_t temperature_mc; /**< thousandths of a degree Celsius */
    int32_t humidity_mp;    /**< thousandths of a per cent of relative humidity */
};

/** The sensor hardware. */
struct sp_sensor_hal {
    void *ctx;
    enum sp_err (*read)(void *ctx, struct sp_sensor_reading *out);
};

/**
 * Pack a reading for `device`: topic `dt/<device>/climate` and a clear SenML-CBOR record.
 * @retval PSA_ERROR_HARDWARE_FAILURE Outside of what a sensor can measure: below -100 or above 200 Cel, or a
 *                                    humidity that is not 0..100 %RH.
 */
psa_status_t sp_sensor_pack(struct sp_view device, const struct sp_sensor_reading *reading,
                            int64_t utc_seconds, struct sp_sensor_record *out);

#endif
