/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Records out of SP_MSG_APPEND. Gate may have been taken over: nothing in them is believed unchecked. */
#ifndef SP_GATEWAY_STORE_INTAKE_H
#define SP_GATEWAY_STORE_INTAKE_H

#include "gateway/proc/messages.h"

/** One record; the views are borrowed from the message. */
struct sp_intake_record {
    struct sp_msg_record head;
    struct sp_view device; /**< an identity, or empty for what the gateway itself says */
    struct sp_view topic;
    struct sp_view origin;
    struct sp_view group; /**< of a marked record; else empty */
    struct sp_view payload;
};

/**
 * Take the next record.
 *
 * @param[in,out] rest        Start with the body; shortened by what was taken.
 * @param[in]     payload_max Largest payload, in bytes.
 * @retval SP_ERR_NOT_FOUND The end.
 * @retval SP_ERR_MALFORMED A length, an enumeration, a name that cannot be, or anything beneath `$sp/`.
 */
SP_MUST_CHECK enum sp_err sp_intake_next(struct sp_view *rest, uint32_t payload_max,
                                         struct sp_intake_record *out);

#endif
