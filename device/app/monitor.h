/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What a monitor prints: one JSON object per record. */
#ifndef SP_DEVICE_APP_MONITOR_H
#define SP_DEVICE_APP_MONITOR_H

#include "libs/base/bytes.h"

#define SP_MONITOR_LINE_MAX(payload_len) (6U * (payload_len) + 512U) /**< bytes that are enough */

/**
 * Write a received message as one line of JSON, without the line feed: `device time temperature_celsius
 * humidity_percent sequence protection` for a record, `fused document` for a fusion document.
 *
 * A protected record is opened by the secure services; without a key for it its values are null.
 *
 * @param[in] now_ms Milliseconds since 1970, for records that state no time of their own.
 * @retval SP_ERR_MALFORMED   Not a record.
 * @retval SP_ERR_UNTRUSTED   A protected record that does not open.
 * @retval SP_ERR_EXISTS      A protected record that was shown before: to be dropped in silence.
 * @retval SP_ERR_UNSUPPORTED A topic that is neither `dt/<device>/climate` nor `fused/<name>`.
 * @retval SP_ERR_SPACE       `w` is too small.
 */
SP_MUST_CHECK enum sp_err sp_monitor_line(struct sp_view topic, struct sp_view payload,
                                          int64_t now_ms, struct sp_writer *w);

#endif
