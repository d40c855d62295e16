/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Assets in two banks of a medium, one of them always whole.
 *
 * A change is made in a copy in RAM, the copy goes to the bank that is not current, then that bank's header makes it
 * current. The header has a checksum and a generation and is written after the content was synced. So a power
 * cut at any write leaves the old state or the new one. A current bank whose content fails its checksum is
 * damage, not a cut: the store refuses to work rather than fall back to an older state in silence.
 */
#ifndef SP_DEVICE_SECURE_PARTITIONS_ITS_CORE_H
#define SP_DEVICE_SECURE_PARTITIONS_ITS_CORE_H

#include "libs/base/bytes.h"
#include "psa/internal_trusted_storage.h"

/** Bytes of a bank, its header included, and of one asset; a build for a small device may say less. */
#ifndef SP_ITS_BANK_SIZE
#define SP_ITS_BANK_SIZE 8192U
#define SP_ITS_ASSET_MAX 1024U
#endif
#define SP_ITS_HEADER_SIZE 20U
#define SP_ITS_MEDIUM_SIZE (2U * SP_ITS_BANK_SIZE)

/** Where the banks lie. Bytes that were never written read as all 0x00 or all 0xFF. */
struct sp_its_medium {
    void *ctx;
    enum sp_err (*read)(void *ctx, size_t offset, uint8_t *out, size_t len);
    enum sp_err (*write)(void *ctx, size_t offset, struct sp_view bytes);
    enum sp_err (*sync)(void *ctx); /**< returns when all that was written is durable */
};

/** Caller's storage; about 8 KiB. Fields are private. */
struct sp_its {
    struct sp_its_medium medium;
    bool usable;
    uint32_t generation; /* of the current bank; 0 = none written yet */
    size_t bank;         /* current one */
    size_t used;         /* bytes of image */
    uint8_t image[SP_ITS_BANK_SIZE - SP_ITS_HEADER_SIZE];
};

/**
 * Read what the medium holds. @param[in] medium Copied.
 * @retval PSA_ERROR_STORAGE_FAILURE The medium cannot be read.
 * @retval PSA_ERROR_DATA_CORRUPT    It holds a damaged store. All calls below then fail with STORAGE_FAILURE.
 */
psa_status_t sp_its_open(struct sp_its *its, const struct sp_its_medium *medium);

/** As the functions of psa/internal_trusted_storage.h, for the client `owner`. */
psa_status_t sp_its_set(struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                        struct sp_view data, psa_storage_create_flags_t flags);
psa_status_t sp_its_get(const struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                        size_t offset, size_t size, struct sp_view *out);
psa_status_t sp_its_get_info(const struct sp_its *its, int32_t owner, psa_storage_uid_t uid,
                             struct psa_storage_info_t *out);
psa_status_t sp_its_remove(struct sp_its *its, int32_t owner, psa_storage_uid_t uid);

#endif
