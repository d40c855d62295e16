/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The bundle: what provisioning hands to a device (docs/cli.md), JSON, for nobody else's eyes. */
#ifndef SP_TOOLS_BUNDLE_H
#define SP_TOOLS_BUNDLE_H

#include "gateway/keys/registry.h"

#include <limits.h>

#define SP_BUNDLE_MAX 2048U

/** An app key that the device starts with; epoch 0: none. The caller wipes it. */
struct sp_bundle_key {
    uint32_t epoch;
    const char *algorithm; /**< "ccm" or "mac" */
    bool group_key;        /**< the key of the group, not of the device alone */
    uint8_t key[SP_GROUP_KEY_LEN];
    size_t len;
};

/** A bundle on its way: written beside its place, moved there once the registry has the keys. */
struct sp_bundle {
    const char *place; /**< file name; "-" = standard output; NULL = none */
    char beside[PATH_MAX];
    char text[SP_BUNDLE_MAX];
    size_t len;
};

/**
 * Write the bundle to a new file beside `place`, mode 0600, durable.
 *
 * @param[in]  place Borrowed until the bundle is finished or dropped; NULL: every call does nothing.
 * @param[out] out   Give it to sp_bundle_finish() or sp_bundle_drop(), whatever the result.
 * @retval SP_ERR_IO     The file could not be written.
 * @retval SP_ERR_DENIED `place` is something else than a regular file.
 */
SP_MUST_CHECK enum sp_err sp_bundle_prepare(const char *place, const struct sp_device *device,
                                            const struct sp_device_secrets *secrets,
                                            const struct sp_bundle_key *key, struct sp_bundle *out,
                                            struct sp_fault *fault);

/** Put it in its place, over an older one; or print it. The secrets in `bundle` are wiped. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_bundle_finish(struct sp_bundle *bundle, struct sp_fault *fault);

/** Throw it away. After sp_bundle_finish() it does nothing. */
void sp_bundle_drop(struct sp_bundle *bundle);

#endif
