/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The bundle: what provisioning hands to a device (docs/protocol.md, cli.md), as a JSON file. */
#ifndef SP_DEVICE_PORT_POSIX_BUNDLE_CJSON_H
#define SP_DEVICE_PORT_POSIX_BUNDLE_CJSON_H

#include "device/app/profile.h"
#include "device/secure/partitions/appkeys/appkeys_core.h"
#include "libs/attest/attest.h"

#define SP_BUNDLE_TEXT_MAX 16384U /**< bytes of a bundle file */

/** Holds secrets: wipe it when they were handed over. */
struct sp_bundle {
    struct sp_profile profile; /**< `source` is left to the caller */
    uint8_t psk[64];
    size_t psk_len;
    uint8_t iak[64];
    size_t iak_len;
    enum sp_attest_algorithm iak_algorithm;
    uint8_t kek[SP_GRANT_KEK_LEN];
    size_t kek_len; /**< 0: no app keys ever */
    uint8_t group[SP_RECORD_GROUP_MAX];
    size_t group_len;
    struct sp_appkeys_preshared
        app_keys[SP_APPKEYS_SLOTS]; /**< their keys point into `app_key_bytes` */
    uint8_t app_key_bytes[SP_APPKEYS_SLOTS][SP_RECORD_GROUP_KEY];
    size_t app_key_count;
};

/**
 * @param[in]  text The file's content.
 * @param[out] out  Zeros on failure. Not to be copied: views point into it.
 * @param[out] why  On failure: which field, and what about it.
 * @retval SP_ERR_MALFORMED   Not a bundle.
 * @retval SP_ERR_UNSUPPORTED A bundle of another version, a role or suites that this device does not have.
 */
SP_MUST_CHECK enum sp_err sp_bundle_parse(struct sp_view text, struct sp_bundle *out,
                                          const char **why);

#endif
