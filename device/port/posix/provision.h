/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Getting the secrets from the bundle file into the secure services, once. */
#ifndef SP_DEVICE_PORT_POSIX_PROVISION_H
#define SP_DEVICE_PORT_POSIX_PROVISION_H

#include "device/app/profile.h"

/**
 * Make sure that the device is provisioned: with the state of an earlier start, or from the bundle. A bundle that is
 * not the one that the state came from (a rotated device) is provisioned in its place. The bundle's bytes are wiped.
 *
 * @param[in]  bundle     File name; NULL, or a file that is gone: the state must do.
 * @param[in]  persistent There is a state to keep keys in.
 * @param[out] out        On SP_OK only.
 * @param[out] why        On failure: what to tell the user.
 */
SP_MUST_CHECK enum sp_err sp_provision(const char *bundle, bool persistent, struct sp_profile *out,
                                       const char **why);

#endif
