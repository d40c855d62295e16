/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file From a machine whose isolation stands to running secure services. */
#ifndef SP_DEVICE_SECURE_START_PLATFORM_H
#define SP_DEVICE_SECURE_START_PLATFORM_H

#include "device/boards/ns_header.h"

#include <stdbool.h>
#include <stdint.h>

/**
 * Measure both images, start the services, take over what provisioning left.
 * @param[in] image The non-secure image's header; checked.
 * @return false when the device cannot work.
 */
bool sp_platform_start(const struct sp_ns_header *image);

/** Whether the non-secure image that was measured may run (accept.h). */
bool sp_platform_image_accepted(void);

/** For the stack canary; 0 on a device that has no randomness yet. */
uint32_t sp_platform_random_word(void);

#endif
