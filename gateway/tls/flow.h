/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The bytes of one session on their way in and out: what was given and not used yet, what is held because it is not
 * whole, and, once the session is detached, the record layer over both. An idle session has no flow.
 */
#ifndef SP_GATEWAY_TLS_FLOW_H
#define SP_GATEWAY_TLS_FLOW_H

#include "gateway/tls/record.h"
#include "gateway/tls/tls.h"

struct sp_flow {
    struct sp_view in; /**< given by the caller, borrowed, not used yet */
    uint8_t *held;     /**< malloc'ed: older than `in`, and not whole */
    uint32_t held_len;
    const char
        *why; /**< the session's: what went wrong, static; NULL: nothing, or see the library */
};

/** An empty one; NULL: no memory. */
struct sp_flow *sp_flow_create(void);
/** NULL is fine. */
void sp_flow_destroy(struct sp_flow *flow);

/** Nothing is given or held. */
bool sp_flow_is_empty(const struct sp_flow *flow);

/** Move up to `len` bytes from `in` behind what is held. @retval SP_ERR_LIMIT More than `max` held. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_flow_hold(struct sp_flow *flow, size_t len, size_t max);

/** Take the first `used` bytes off what is held. */
void sp_flow_unhold(struct sp_flow *flow, size_t used);

/** Hold nothing any more. */
void sp_flow_forget(struct sp_flow *flow);

/**
 * Open records until one has data, and hold what is not whole. Results and `found` as of sp_record_open(); SP_OK comes with data only.
 * @retval SP_ERR_NOMEM What is not whole could not be held: the session is beyond help.
 */
SP_MUST_CHECK enum sp_err sp_flow_read(struct sp_flow *flow, struct sp_tls_record *record,
                                       uint8_t *buf, size_t cap, struct sp_record_in *found);

/** Append `plain` to `out`, in as few records as the peer takes. @retval SP_ERR_CRYPTO A record could not be made. */
SP_MUST_CHECK enum sp_err sp_flow_write(struct sp_tls_record *record, struct sp_view plain,
                                        struct sp_tls_out *out);

/** Append an alert to `out`, if that can be done. */
void sp_flow_say(struct sp_tls_record *record, enum sp_alert alert, struct sp_tls_out *out);

/** Append bytes. @return false: no memory. */
bool sp_tls_out_append(struct sp_tls_out *out, const void *bytes, size_t len);

#endif
