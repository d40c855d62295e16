/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A token held against its device's row, the reference values and the configuration (docs/protocol.md 3.4). */
#ifndef SP_GATEWAY_KEYS_APPRAISAL_H
#define SP_GATEWAY_KEYS_APPRAISAL_H

#include "gateway/keys/devices.h"

struct sp_reference_set; /* opaque: every reference of the registry, in memory */

/** @param[out] out On SP_OK owned by the caller: sp_reference_set_destroy(). Else NULL. */
SP_MUST_CHECK enum sp_err sp_reference_set_load(struct sp_registry *reg,
                                                struct sp_reference_set **out);

/** NULL is fine. */
void sp_reference_set_destroy(struct sp_reference_set *set);

size_t sp_reference_set_count(const struct sp_reference_set *set);

/** All borrowed. */
struct sp_appraisal {
    const struct sp_keys_device *device;
    const struct sp_reference_set *references;
    struct sp_view token;
    struct sp_view challenge; /**< SP_LINK_CHALLENGE_LEN bytes */
    unsigned lifecycles;      /**< SP_ATTEST_LIFECYCLE_* of the configuration */
    bool allow_no_software;   /**< of the configuration; the row can allow it too */
};

/** @param[out] verdict Always filled. */
void sp_appraise(const struct sp_appraisal *a, struct sp_attest_verdict *verdict);

#endif
