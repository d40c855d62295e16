/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file What tools/provision.py leaves for the first boot: a parcel in the storage, behind the banks of internal trusted
 * storage. It is taken over once, then erased.
 *
 * Parcel, at SP_PROVISION_OFFSET: magic "SPPV", version 1, 0, length of the body (2 bytes), SHA-256 of the body, body. Body:
 * items of tag (1 byte), length (2), content. Numbers are big-endian.
 */
#ifndef SP_DEVICE_SECURE_START_PROVISION_H
#define SP_DEVICE_SECURE_START_PROVISION_H

#include "device/secure/partitions/its/its_core.h"

#define SP_PROVISION_OFFSET   0x6000U
#define SP_PROVISION_BODY_MAX 640U

enum sp_provision_tag {
    SP_PROVISION_DEVICE = 1,        /**< identity */
    SP_PROVISION_PSK = 2,           /**< 16..64 bytes */
    SP_PROVISION_IAK = 3,           /**< 32..64 bytes */
    SP_PROVISION_IAK_ALGORITHM = 4, /**< 1 byte: enum sp_attest_algorithm */
    SP_PROVISION_SEED = 5,          /**< 64 random bytes */
    SP_PROVISION_LIFECYCLE = 6,     /**< 2 bytes */
    SP_PROVISION_ASSET =
        7, /**< an asset of the non-secure world: 4 bytes uid, content; any number of these */
    SP_PROVISION_KEK = 8,   /**< 48 bytes */
    SP_PROVISION_GROUP = 9, /**< name of the key group */
    SP_PROVISION_APP_KEY =
        10, /**< 4 bytes epoch, 1 algorithm as in COSE, 1 kind, key; up to SP_APPKEYS_SLOTS */
};

/**
 * Take a parcel over, when there is one. A cut at any time leaves a parcel that is taken over again, or one that is
 * being erased. The services must run.
 * @retval PSA_ERROR_DATA_CORRUPT A damaged parcel on a device that has no keys yet.
 */
psa_status_t sp_provision_take(const struct sp_its_medium *storage);

/** The lifecycle that provisioning stored; SP_LIFECYCLE_ASSEMBLY when there is none. */
uint16_t sp_provision_lifecycle(void);

#define SP_LIFECYCLE_ASSEMBLY 0x1000U

#endif
