/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/start/platform.h"
#include "device/secure/partitions/its/its_service.h"
#include "device/secure/spm/spm.h"
#include "psa_manifest/pid.h"
#include "psa_manifest/sid.h"

static psa_status_t none(const psa_msg_t *m)
{
    (void)m;
    return PSA_ERROR_NOT_SUPPORTED;
}
static const struct sp_spm_service services[] = {
    {TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE, SP_PARTITION_ITS, sp_its_sfn,
     TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_SID, 1, true},
    {TFM_ATTESTATION_SERVICE_HANDLE, SP_PARTITION_ITS, none, TFM_ATTESTATION_SERVICE_SID, 1, true},
};

bool sp_platform_start(const struct sp_ns_header *image)
{
    (void)image;
    sp_spm_init(services, 2);
    return true;
}
