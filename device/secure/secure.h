/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The whole secure side: starting it, and giving it its secrets. */
#ifndef SP_DEVICE_SECURE_SECURE_H
#define SP_DEVICE_SECURE_SECURE_H

#include "device/secure/partitions/appkeys/appkeys_core.h"
#include "device/secure/partitions/its/its_core.h"
#include "device/secure/partitions/sensor/sensor_core.h"
#include "libs/attest/attest.h"
#include "sallyport/boot_record.h"

/** What the platform supplies. */
struct sp_secure_platform {
    struct sp_its_medium storage; /**< copied */
    struct sp_sensor_hal sensor;  /**< copied */
    const struct sp_boot_record
        *boot;                  /**< borrowed for good; may be filled in until the first token */
    uint64_t (*clock_ms)(void); /**< for rate limits, any epoch; NULL: none */
};

/** Start storage, crypto, attestation and sensor services. */
psa_status_t sp_secure_start(const struct sp_secure_platform *platform);

/** A device's secrets, as they come from provisioning; the caller wipes its copy. */
struct sp_secure_secrets {
    struct sp_view device; /**< identity */
    struct sp_view psk;    /**< 16..64 bytes */
    struct sp_view iak;    /**< 32..64 bytes */
    enum sp_attest_algorithm iak_algorithm;
    struct sp_appkeys_bundle app; /**< KEK, group, app keys; its `device` is not looked at */
};

/**
 * Take the secrets over: from now on they are PSA keys that cannot be read back.
 * @param[in] persistent Keep the keys in storage, else until the process ends.
 */
psa_status_t sp_secure_provision(const struct sp_secure_secrets *secrets, bool persistent);

/** The device holds a PSK and an attestation key. */
bool sp_secure_provisioned(void);

#endif
