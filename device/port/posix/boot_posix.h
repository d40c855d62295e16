/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The boot measurement of a device that is a process: its own executable is the image. */
#ifndef SP_DEVICE_PORT_POSIX_BOOT_POSIX_H
#define SP_DEVICE_PORT_POSIX_BOOT_POSIX_H

#include "libs/base/bytes.h"
#include "sallyport/boot_record.h"

/** Measure this program: one component `NSPE` (what a single image is called), not signed, lifecycle secured. */
SP_MUST_CHECK enum sp_err sp_boot_posix_measure(struct sp_boot_record *out);

#endif
