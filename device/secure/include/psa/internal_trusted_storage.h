/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file PSA Internal Trusted Storage API 1.0: small assets, kept by the secure world, separate for each caller.
 *
 * A power cut at any moment leaves each asset as it was before or after the call, never between.
 */
#ifndef SP_DEVICE_SECURE_PSA_INTERNAL_TRUSTED_STORAGE_H
#define SP_DEVICE_SECURE_PSA_INTERNAL_TRUSTED_STORAGE_H

#include "psa/error.h"

#include <stddef.h>

#define PSA_ITS_API_VERSION_MAJOR 1
#define PSA_ITS_API_VERSION_MINOR 0

typedef uint64_t psa_storage_uid_t; /**< an asset's number, chosen by its owner; 0 is not one */
typedef uint32_t psa_storage_create_flags_t;

#define PSA_STORAGE_FLAG_NONE       0U
#define PSA_STORAGE_FLAG_WRITE_ONCE (1U << 0) /**< the asset can be neither changed nor removed */

struct psa_storage_info_t {
    size_t capacity;                  /**< bytes reserved: the size */
    size_t size;                      /**< bytes stored */
    psa_storage_create_flags_t flags; /**< as given to psa_its_set() */
};

/**
 * Store an asset, whole, in the place of what it held before.
 *
 * @retval PSA_ERROR_NOT_PERMITTED        It exists and is write-once.
 * @retval PSA_ERROR_NOT_SUPPORTED        Unknown flags.
 * @retval PSA_ERROR_INVALID_ARGUMENT     uid 0, or p_data NULL with a length.
 * @retval PSA_ERROR_INSUFFICIENT_STORAGE No room.
 * @retval PSA_ERROR_STORAGE_FAILURE      The medium failed; the old content stands.
 */
psa_status_t psa_its_set(psa_storage_uid_t uid, size_t data_length, const void *p_data,
                         psa_storage_create_flags_t create_flags);

/**
 * Read up to data_size bytes of an asset from data_offset on.
 *
 * @retval PSA_ERROR_DOES_NOT_EXIST   No such asset of this caller.
 * @retval PSA_ERROR_INVALID_ARGUMENT uid 0, or an offset behind the end.
 */
psa_status_t psa_its_get(psa_storage_uid_t uid, size_t data_offset, size_t data_size, void *p_data,
                         size_t *p_data_length);

/** Size and flags of an asset. @retval PSA_ERROR_DOES_NOT_EXIST, PSA_ERROR_INVALID_ARGUMENT as above. */
psa_status_t psa_its_get_info(psa_storage_uid_t uid, struct psa_storage_info_t *p_info);

/** Remove an asset. @retval PSA_ERROR_NOT_PERMITTED It is write-once; the others as above. */
psa_status_t psa_its_remove(psa_storage_uid_t uid);

#endif
