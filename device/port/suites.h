/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The TLS-PSK suites that the device can speak, and the sets of docs/protocol.md 1 that they belong to. */
#ifndef SP_DEVICE_PORT_SUITES_H
#define SP_DEVICE_PORT_SUITES_H

#include "libs/base/bytes.h"

#define SP_DEVICE_SUITES_MAX 16U

/**
 * Find the suites that a name stands for: a set (`profile-small`, `forward-secret`, `all`) or one suite by its
 * IANA name (`TLS_PSK_WITH_AES_128_CCM`).
 *
 * @param[in,out] mask Their bits are added: bit i is entry i of the device's table, best first.
 * @return false when no suite of this device has the name; `mask` stays.
 */
bool sp_device_suites_add(struct sp_view name, uint32_t *mask);

/** The IANA numbers of the suites in `mask`, best first, 0-terminated: SP_DEVICE_SUITES_MAX + 1 numbers. */
void sp_device_suites_list(uint32_t mask, int *out);

/** The suite has no AEAD: encrypt-then-MAC must be agreed on (RFC 7366). */
bool sp_device_suite_needs_etm(int code);

/** Its IANA name, or "unknown". */
const char *sp_device_suite_name(int code);

#endif
