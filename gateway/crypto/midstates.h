/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file HMAC under a key that is used often: its first two blocks are hashed once, and kept.
 */
#ifndef SP_GATEWAY_CRYPTO_MIDSTATES_H
#define SP_GATEWAY_CRYPTO_MIDSTATES_H

#include "libs/cose/crypto.h"

/** Of a key of any length, for one hash; sp_wipe() them in the end. @retval SP_ERR_UNSUPPORTED No such hash. */
SP_MUST_CHECK enum sp_err sp_midstates_make(enum sp_hash hash, struct sp_view key,
                                            struct sp_crypto_midstates *out);

/** HMAC over the concatenation of `count` parts; `out` gets as many bytes as the value of the hash. */
void sp_midstates_hmac(const struct sp_crypto_midstates *midstates, const struct sp_view *parts,
                       size_t count, uint8_t *out);

#endif
