/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The medium of internal trusted storage: a file in the state directory, or RAM. */
#ifndef SP_DEVICE_PORT_POSIX_STORAGE_POSIX_H
#define SP_DEVICE_PORT_POSIX_STORAGE_POSIX_H

#include "device/secure/partitions/its/its_core.h"

/**
 * Open DIR/its.img, making directory (0700) and file (0600) where they are missing, and lock it: one device, one store.
 *
 * @param[in]  dir NULL: RAM, gone with the process.
 * @param[out] why On failure: what to tell the user.
 * @retval SP_ERR_IO, SP_ERR_DENIED (somebody else may read the file), SP_ERR_EXISTS (another process has it).
 */
SP_MUST_CHECK enum sp_err sp_storage_posix_open(const char *dir, struct sp_its_medium *out,
                                                const char **why);

#endif
