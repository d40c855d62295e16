/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Kept sessions written down: one form for what gate tells store, for what store gives back, and for tests.
 *
 * A record is struct sp_msg_kept, the device's name, and one part. Either side may have been taken over: nothing in a
 * record is believed unchecked.
 */
#ifndef SP_GATEWAY_PROC_KEPT_H
#define SP_GATEWAY_PROC_KEPT_H

#include "gateway/proc/messages.h"
#include "libs/base/bytes.h"

#define SP_KEPT_PART_MAX \
    ((16U << 20) + 65536U) /**< bytes: the largest packet that limits allow, and its head */

/** One record; the views are borrowed. */
struct sp_kept {
    struct sp_msg_kept head; /**< device_len and part_len are filled in by sp_kept_write() */
    struct sp_view device;
    struct sp_view part;
};

/** Bytes that sp_kept_write() needs. */
size_t sp_kept_size(const struct sp_kept *record);

/** Append a record. */
void sp_kept_write(struct sp_writer *w, const struct sp_kept *record);

/**
 * Take the next record.
 *
 * @param[in,out] rest Start with the body; shortened by what was taken.
 * @retval SP_ERR_NOT_FOUND The end.
 * @retval SP_ERR_MALFORMED A length, a kind, a name or a number that cannot be.
 */
SP_MUST_CHECK enum sp_err sp_kept_next(struct sp_view *rest, struct sp_kept *out);

#endif
