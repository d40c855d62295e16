/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The sensor service: the secure world reads its sensor and hands out finished records, never raw access. */
#ifndef SP_DEVICE_SECURE_SALLYPORT_SENSOR_H
#define SP_DEVICE_SECURE_SALLYPORT_SENSOR_H

#include "psa/error.h"

#include <stddef.h>

#define SP_SENSOR_TOPIC_MAX  96U  /**< bytes of a record's topic */
#define SP_SENSOR_RECORD_MAX 256U /**< bytes of a record */

/** Request types of the service. */
enum sp_sensor_request {
    SP_SENSOR_READ_RECORD = 1001, /**< in: int64_t utc seconds; out: topic; out: payload */
};

/** One record, ready to be published as it is. */
struct sp_sensor_record {
    uint8_t topic[SP_SENSOR_TOPIC_MAX];
    size_t topic_len;
    uint8_t payload[SP_SENSOR_RECORD_MAX];
    size_t payload_len;
};

/**
 * Read the sensor, pack the reading, and seal it when the device is in a group (docs/protocol.md 5).
 *
 * @param[in]  utc_seconds Seconds since 1970 as the caller believes, or 0 when it does not know.
 * @param[out] out         On PSA_SUCCESS only.
 * @retval PSA_ERROR_HARDWARE_FAILURE The sensor does not answer, or gives nonsense.
 * @retval PSA_ERROR_DOES_NOT_EXIST   The device has not been provisioned, or is in a group and has no app key yet.
 * @retval PSA_ERROR_STORAGE_FAILURE  The counter of its app key cannot be kept: nothing is sealed.
 */
psa_status_t sp_sensor_read_record(int64_t utc_seconds, struct sp_sensor_record *out);

#endif
