/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file How many bytes each device has in the journal (docs/delivery.md, D10). Knows only devices that have some. */
#ifndef SP_GATEWAY_STORE_SHARES_H
#define SP_GATEWAY_STORE_SHARES_H

#include "libs/base/bytes.h"

struct sp_shares; /* opaque */

/** @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_shares_create(struct sp_shares **out);
void sp_shares_destroy(struct sp_shares *shares); /**< NULL is fine */

/** Forget all devices. */
void sp_shares_clear(struct sp_shares *shares);

/** Bytes of a device; 0 when it has none. */
uint64_t sp_shares_of(const struct sp_shares *shares, struct sp_view device);

/** @retval SP_ERR_NOMEM Nothing has changed. */
SP_MUST_CHECK enum sp_err sp_shares_add(struct sp_shares *shares, struct sp_view device,
                                        uint64_t bytes);

/** Take away at most what there is. */
void sp_shares_take(struct sp_shares *shares, struct sp_view device, uint64_t bytes);

#endif
