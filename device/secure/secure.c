/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/secure.h"

#include "device/secure/partitions/appkeys/appkeys_service.h"
#include "device/secure/partitions/crypto/crypto_keys.h"
#include "device/secure/partitions/initial_attestation/attestation_service.h"
#include "device/secure/partitions/its/its_service.h"
#include "device/secure/partitions/sensor/sensor_service.h"
#include "device/secure/spm/services.h"

psa_status_t sp_secure_start(const struct sp_secure_platform *platform)
{
    sp_spm_init(sp_services, sp_service_count);
    psa_status_t status = sp_its_entry_init(&platform->storage);
    if (status == PSA_SUCCESS) {
        status = sp_crypto_entry_init();
    }
    if (status == PSA_SUCCESS) {
        status = sp_attestation_entry_init(platform->boot);
    }
    if (status == PSA_SUCCESS && platform->clock_ms != NULL) {
        sp_attestation_limit(platform->clock_ms);
    }
    if (status == PSA_SUCCESS) {
        status = sp_appkeys_entry_init();
    }
    if (status == PSA_SUCCESS) {
        status = sp_sensor_entry_init(&platform->sensor);
    }
    return status;
}

psa_status_t sp_secure_provision(const struct sp_secure_secrets *secrets, bool persistent)
{
    if (secrets->psk.len < 16 || secrets->psk.len > 64 || secrets->iak.len < 32 ||
        secrets->iak.len > 64) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    psa_status_t status = sp_sensor_provision(secrets->device);
    if (status == PSA_SUCCESS) {
        status = sp_crypto_import_psk(secrets->psk, persistent);
    }
    if (status == PSA_SUCCESS) {
        status = sp_attestation_provision(secrets->iak, secrets->iak_algorithm, persistent);
    }
    if (status == PSA_SUCCESS) {
        struct sp_appkeys_bundle app = secrets->app;
        app.device = secrets->device;
        status = sp_appkeys_take_bundle(&app);
    }
    return status;
}

bool sp_secure_provisioned(void)
{
    return sp_crypto_key_psk() != 0 && sp_crypto_key_iak() != 0;
}
