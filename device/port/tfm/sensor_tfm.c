/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The two doors as TF-M's manifest tool names them, in front of the partition as it is everywhere. */
#include "device/port/tfm/sensor_tfm.h"

#include "device/secure/partitions/sensor/sensor_service.h"
#include "device/secure/spm/spm.h"
#include "psa/internal_trusted_storage.h"
#include "psa_manifest/pid.h"
#include "psa_manifest/sallyport_sensor.h"

/* TF-M runs a partition's own code as that partition, its start included. */
bool sp_spm_enter(int32_t partition)
{
    return partition == SP_PARTITION_SENSOR;
}

void sp_spm_leave(void)
{
}

psa_status_t sp_sensor_tfm_init(void)
{
    struct sp_sensor_hal hal = sp_sensor_tfm_hal();
    struct psa_storage_info_t info;
    psa_status_t status = sp_sensor_entry_init(&hal);
    if (status == PSA_SUCCESS) {
        status = psa_its_get_info(SP_SENSOR_DEVICE_UID, &info);
    }
    if (status == PSA_ERROR_DOES_NOT_EXIST) {
        status = sp_sensor_provision(sp_sensor_tfm_identity());
    }
    return status;
}

psa_status_t sp_sensor_service_sfn(const psa_msg_t *msg)
{
    return sp_sensor_sfn(msg);
}
