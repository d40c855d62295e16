/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What a provisioned device knows about itself that is no secret; kept as one asset beside the keys. */
#ifndef SP_DEVICE_APP_PROFILE_H
#define SP_DEVICE_APP_PROFILE_H

#include "device/app/app.h"

struct sp_profile {
    uint8_t source
        [32]; /**< SHA-256 of the bundle that it came from: another bundle is provisioned anew */
    enum sp_app_role role;
    enum sp_link_binding binding;
    uint32_t suites; /**< mask of device/port/suites.h */
    uint8_t identity[SP_LINK_IDENTITY_MAX];
    size_t identity_len;
};

/**
 * Read it from internal trusted storage.
 * @retval PSA_ERROR_DOES_NOT_EXIST The device has not been provisioned, or provisioning was cut off.
 * @retval PSA_ERROR_DATA_CORRUPT   It is there and makes no sense.
 */
psa_status_t sp_profile_load(struct sp_profile *out);

/** Write it: the last step of provisioning. */
psa_status_t sp_profile_save(const struct sp_profile *profile);

/** Remove it: the first step of provisioning. Fine when there is none. */
psa_status_t sp_profile_remove(void);

#endif
