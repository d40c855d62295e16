/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file A row as the cloud is to see it: payload in the route's format, and who it is (docs/delivery.md D8).
 * The same row gives the same bytes each time, but for the expiry that is left.
 */
#ifndef SP_GATEWAY_STORE_LETTER_H
#define SP_GATEWAY_STORE_LETTER_H

#include "gateway/config/config.h"
#include "gateway/store/row.h"
#include "libs/mqtt/mqtt.h"

/** What all letters of this gateway share; borrowed strings. */
struct sp_letter_office {
    const char *gateway;
    const char *epoch;
    enum sp_mqtt_version version;
    const struct sp_cloud_limits *limits;
};

/** Room for formatted payloads and properties; all zero to start with, grows as needed. */
struct sp_letter_room {
    uint8_t *buf;
    size_t cap;
    size_t packet; /**< bytes of the packet that was written last */
};

void sp_letter_room_deinit(struct sp_letter_room *room);

/**
 * @param[in]  now_ms Milliseconds since 1970, for the expiry.
 * @param[out] out    On SP_OK: borrowed from row and room until either changes.
 * @param[out] reason When the row can never go: why, static text for the dead letter.
 * @retval SP_ERR_LIMIT     It expired, or it breaks a limit of the cloud.
 * @retval SP_ERR_MALFORMED It cannot be put into the format.
 * @retval SP_ERR_NOMEM     Try again later.
 */
SP_MUST_CHECK enum sp_err sp_letter_write(const struct sp_letter_office *office,
                                          const struct sp_row *row, uint64_t now_ms,
                                          struct sp_letter_room *room, struct sp_mqtt_publish *out,
                                          const char **reason);

#endif
