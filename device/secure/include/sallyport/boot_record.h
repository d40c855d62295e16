/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What was measured when this device booted; filled by the platform before the secure services start. */
#ifndef SP_DEVICE_SECURE_SALLYPORT_BOOT_RECORD_H
#define SP_DEVICE_SECURE_SALLYPORT_BOOT_RECORD_H

#include <stddef.h>
#include <stdint.h>

#define SP_BOOT_COMPONENTS_MAX 4U

struct sp_boot_component {
    const char *type;      /**< "SPE", "NSPE", …; a static string */
    const char *version;   /**< a static string; may be empty */
    uint8_t value[32];     /**< SHA-256 of the image */
    uint8_t signer_id[32]; /**< SHA-256 of the key that signed it; zeros: nobody did */
};

struct sp_boot_record {
    uint8_t implementation_id[32];
    uint8_t boot_seed[32]; /**< random, new at each boot */
    uint16_t lifecycle;    /**< PSA security lifecycle, 0x3000 = secured */
    size_t component_count;
    struct sp_boot_component components[SP_BOOT_COMPONENTS_MAX];
};

#endif
