/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Retained messages (MQTT 5, 3.3.1.3), for all loops of the gate: at most one per topic, in memory, bounded in number and
 * bytes for each device and in all. They lie sorted by topic, so that a filter is compared with those alone that
 * begin with what stands before its first wildcard.
 */
#ifndef SP_GATEWAY_GATE_ROUTE_RETAINED_H
#define SP_GATEWAY_GATE_ROUTE_RETAINED_H

#include "gateway/config/config.h"
#include "gateway/gate/route/mail.h"

struct sp_retained; /* opaque; thread-safe */

/** @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_retained_create(struct sp_retained **out);
/** NULL is fine. */
void sp_retained_destroy(struct sp_retained *retained);

/**
 * Whether a device may keep one more message, in place of the one on that topic if there is one. Until sp_retained_put() other loops
 * may take the place: the caps are exceeded by one message per loop at most.
 *
 * @param[in] owner   The device.
 * @param[in] publish What is to be kept.
 * @retval SP_ERR_LIMIT
 */
SP_MUST_CHECK enum sp_err sp_retained_room(struct sp_retained *retained,
                                           const struct sp_limits_config *limits,
                                           struct sp_view owner,
                                           const struct sp_mqtt_publish *publish, uint64_t now_ms);

/**
 * Keep it instead of the one on its topic. With an empty payload: keep none there.
 * @param[in] message One more reference is taken.
 * @retval SP_ERR_NOMEM Nothing has changed.
 */
SP_MUST_CHECK enum sp_err sp_retained_put(struct sp_retained *retained, struct sp_view owner,
                                          struct sp_mail *message);

/**
 * Some of those that a filter matches, in the order of their topics; expired ones are forgotten.
 *
 * @param[in]  after  Topic of the last one that the caller has; an empty view: none.
 * @param[out] out    Up to `max` of them, each with a reference for the caller: sp_mail_release().
 * @return How many; less than `max`: there are no more.
 */
size_t sp_retained_next(struct sp_retained *retained, struct sp_view filter, struct sp_view after,
                        uint64_t now_ms, struct sp_mail **out, size_t max);

/** Called for each; must not call back. */
typedef void (*sp_retained_fn)(void *arg, struct sp_view owner, struct sp_mail *message);

/** All of them, in the order of their topics. */
void sp_retained_each(struct sp_retained *retained, sp_retained_fn fn, void *arg);

/** How many there are. */
size_t sp_retained_count(struct sp_retained *retained);

#endif
