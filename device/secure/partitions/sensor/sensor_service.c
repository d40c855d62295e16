/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/sensor/sensor_service.h"

#include "device/secure/partitions/appkeys/appkeys_service.h"
#include "device/secure/spm/spm.h"
#include "libs/link/link.h"
#include "psa/internal_trusted_storage.h"
#include "psa_manifest/pid.h"
#include "psa_manifest/sid.h"

static struct sp_sensor_hal sensor;

psa_status_t sp_sensor_entry_init(const struct sp_sensor_hal *hal)
{
    sensor = *hal;
    return PSA_SUCCESS;
}

psa_status_t sp_sensor_provision(struct sp_view device)
{
    if (!sp_link_identity_valid(device)) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    if (!sp_spm_enter(SP_PARTITION_SENSOR)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status =
        psa_its_set(SP_SENSOR_DEVICE_UID, device.len, device.ptr, PSA_STORAGE_FLAG_NONE);
    sp_spm_leave();
    return status;
}

/* A device in a group never hands out a clear record: without a key there is none. */
static psa_status_t protect(struct sp_sensor_record *record)
{
    uint8_t plain[SP_SENSOR_RECORD_MAX];
    size_t len = record->payload_len;
    sp_copy(plain, record->payload, len);
    psa_invec in[] = {{record->topic, record->topic_len}, {plain, len}};
    psa_outvec out[] = {{record->payload, sizeof(record->payload)}};
    psa_status_t status = psa_call(SP_APPKEYS_SERVICE_HANDLE, SP_APPKEYS_SEAL, in, 2, out, 1);
    if (status == PSA_ERROR_NOT_SUPPORTED) {
        sp_copy(record->payload, plain, len);
        return PSA_SUCCESS;
    }
    record->payload_len = status == PSA_SUCCESS ? out[0].len : 0;
    sp_wipe(plain, sizeof(plain));
    return status;
}

static psa_status_t read_record(const psa_msg_t *msg)
{
    uint8_t device[SP_LINK_IDENTITY_MAX];
    size_t device_len = 0;
    int64_t utc = 0;
    if (msg->in_size[0] != sizeof(utc) ||
        psa_read(msg->handle, 0, &utc, sizeof(utc)) != sizeof(utc)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = psa_its_get(SP_SENSOR_DEVICE_UID, 0, sizeof(device), device, &device_len);
    if (status != PSA_SUCCESS) {
        return status;
    }
    struct sp_sensor_reading reading;
    if (sensor.read(sensor.ctx, &reading) != SP_OK) {
        return PSA_ERROR_HARDWARE_FAILURE;
    }
    struct sp_sensor_record record;
    status = sp_sensor_pack(sp_view(device, device_len), &reading, utc, &record);
    if (status != PSA_SUCCESS) {
        return status;
    }
    status = protect(&record);
    if (status != PSA_SUCCESS) {
        return status;
    }
    if (record.topic_len > msg->out_size[0] || record.payload_len > msg->out_size[1]) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    psa_write(msg->handle, 0, record.topic, record.topic_len);
    psa_write(msg->handle, 1, record.payload, record.payload_len);
    return PSA_SUCCESS;
}

psa_status_t sp_sensor_sfn(const psa_msg_t *msg)
{
    return msg->type == SP_SENSOR_READ_RECORD ? read_record(msg) : PSA_ERROR_NOT_SUPPORTED;
}
