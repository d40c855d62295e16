/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Whether a measured non-secure image may run. */
#ifndef SP_DEVICE_SECURE_START_ACCEPT_H
#define SP_DEVICE_SECURE_START_ACCEPT_H

#include <stdbool.h>
#include <stdint.h>

/**
 * accept_any.c starts whatever is there: the attestation token tells what it was, and the gateway decides. accept_pinned.c
 * (cmake -DSP_NS_PINNED=HEX) starts one image only.
 * @param[in] measurement SHA-256 of the image.
 */
bool sp_image_accepted(const uint8_t measurement[32]);

#endif
