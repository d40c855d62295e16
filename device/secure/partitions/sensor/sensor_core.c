/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/sensor/sensor_core.h"

#include "libs/senml/senml.h"

static bool plausible(const struct sp_sensor_reading *reading)
{
    return reading->temperature_mc >= -100000 && reading->temperature_mc <= 200000 &&
           reading->humidity_mp >= 0 && reading->humidity_mp <= 100000;
}

/* Thousandths to the hundredths that such sensors are good for, rounded half away from zero. */
static struct sp_decimal hundredths(int32_t thousandths)
{
    int32_t half = thousandths < 0 ? -5 : 5;
    return (struct sp_decimal){.mantissa = (thousandths + half) / 10, .exponent = -2};
}

psa_status_t sp_sensor_pack(struct sp_view device, const struct sp_sensor_reading *reading,
                            int64_t utc_seconds, struct sp_sensor_record *out)
{
    if (!plausible(reading)) {
        return PSA_ERROR_HARDWARE_FAILURE;
    }
    struct sp_senml_climate climate = {
        .device = device,
        .temperature = hundredths(reading->temperature_mc),
        .humidity = hundredths(reading->humidity_mp),
        .has_time = utc_seconds > 0,
        .time = utc_seconds,
    };
    size_t payload_len = 0;
    if (sp_senml_encode_climate(&climate, out->payload, sizeof(out->payload), &payload_len) !=
        SP_OK) {
        return PSA_ERROR_GENERIC_ERROR;
    }
    struct sp_writer topic;
    sp_writer_init(&topic, out->topic, sizeof(out->topic));
    sp_write_str(&topic, "dt/");
    sp_write_view(&topic, device);
    sp_write_str(&topic, "/climate");
    if (topic.err != SP_OK) {
        return PSA_ERROR_GENERIC_ERROR;
    }
    out->topic_len = sp_writer_view(&topic).len;
    out->payload_len = payload_len;
    return PSA_SUCCESS;
}
