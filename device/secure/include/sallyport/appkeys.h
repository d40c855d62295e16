/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The app key service: keys come in sealed, records go in and out; no key ever comes out. */
#ifndef SP_DEVICE_SECURE_SALLYPORT_APPKEYS_H
#define SP_DEVICE_SECURE_SALLYPORT_APPKEYS_H

#include "psa/error.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SP_APPKEYS_ACK_MAX   192U
#define SP_APPKEYS_PLAIN_MAX 512U /**< bytes of a record that a monitor opens */

/**
 * Obey a grant (docs/protocol.md 6).
 *
 * @param[out] ack     What to publish on `$sp/key/ack`.
 * @retval PSA_ERROR_INVALID_SIGNATURE It does not open for this device: there is no answer.
 * @retval PSA_ERROR_DOES_NOT_EXIST    The device has no key-encryption key.
 * @retval PSA_ERROR_STORAGE_FAILURE   It could not be kept; nothing has changed.
 */
psa_status_t sp_appkeys_grant(const uint8_t *grant, size_t len, uint8_t *ack, size_t cap,
                              size_t *ack_len);

/** A record that was opened. */
struct sp_appkeys_record {
    uint64_t counter;
    uint32_t epoch;
    bool sealed; /**< else authenticated only */
    size_t len;
    uint8_t plain[SP_APPKEYS_PLAIN_MAX];
};

/**
 * Open a record of another device, under the key of this device's group.
 *
 * @retval PSA_ERROR_DOES_NOT_EXIST    There is no key for its group and epoch.
 * @retval PSA_ERROR_INVALID_SIGNATURE It does not open.
 * @retval PSA_ERROR_ALREADY_EXISTS    It, or a later one, was opened before. Known since the start only.
 */
psa_status_t sp_appkeys_open(const uint8_t *topic, size_t topic_len, const uint8_t *payload,
                             size_t payload_len, struct sp_appkeys_record *out);

#endif
