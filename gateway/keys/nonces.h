/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The open nonces of one gate loop: one per connection (tag), used up by any answer, bounded in number and age.
 */
#ifndef SP_GATEWAY_KEYS_NONCES_H
#define SP_GATEWAY_KEYS_NONCES_H

#include "libs/link/link.h"

struct sp_nonces; /* opaque */

struct sp_open_nonce {
    uint64_t expires_ms;
    uint8_t nonce[SP_LINK_NONCE_LEN];
    uint8_t identity_len;
    uint8_t identity[SP_LINK_IDENTITY_MAX]; /**< of the device that it was made for */
};

/** Room for `capacity` (1..2^20) nonces; pages that are never needed are never touched. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_nonces_create(size_t capacity, struct sp_nonces **out);

/** NULL is fine. */
void sp_nonces_destroy(struct sp_nonces *t);

/** Open a nonce for a tag; it takes the place of the tag's earlier one, or else, when all is full, of the oldest. */
void sp_nonces_open(struct sp_nonces *t, uint64_t tag, const struct sp_open_nonce *nonce);

/** Use up the nonce of a tag. False when there is none; `out` is untouched then. */
bool sp_nonces_take(struct sp_nonces *t, uint64_t tag, struct sp_open_nonce *out);

/** Drop the nonce of a tag, if there is one. */
void sp_nonces_forget(struct sp_nonces *t, uint64_t tag);

size_t sp_nonces_count(const struct sp_nonces *t);

#endif
