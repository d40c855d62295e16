/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Secrets at rest: AES-256-GCM under a key derived from the master key, and fingerprints that find equal
 * secrets without opening them.
 *
 * From the master key M three independent keys are derived, HMAC-SHA-256(M, label): one to seal, one to fingerprint, one
 * for decoys. A vault is used by one thread.
 */
#ifndef SP_GATEWAY_KEYS_VAULT_H
#define SP_GATEWAY_KEYS_VAULT_H

#include "libs/base/bytes.h"

#define SP_VAULT_OVERHEAD \
    28U /**< bytes that sealing adds: 12 of nonce in front, 16 of tag behind */
#define SP_VAULT_FINGERPRINT_LEN 32U
#define SP_VAULT_DECOY_LEN       32U

struct sp_vault; /* opaque, in locked memory */

/**
 * @param[in]  master SP_MASTER_KEY_LEN bytes, not kept.
 * @param[out] out    On SP_OK owned by the caller: sp_vault_destroy(). Else NULL.
 * @retval SP_ERR_NOMEM, SP_ERR_CRYPTO
 */
SP_MUST_CHECK enum sp_err sp_vault_create(const uint8_t *master, struct sp_vault **out);

/** Wipes its keys. NULL is fine. */
void sp_vault_destroy(struct sp_vault *vault);

/**
 * Seal `plain` under a fresh random nonce; `context` must be the same when it is opened.
 * @param[out] out `cap` bytes: nonce, ciphertext, tag.
 * @retval SP_ERR_SPACE `cap` is less than plain.len + SP_VAULT_OVERHEAD.
 */
SP_MUST_CHECK enum sp_err sp_vault_seal(struct sp_vault *vault, struct sp_view context,
                                        struct sp_view plain, uint8_t *out, size_t cap,
                                        size_t *out_len);

/**
 * Open what was sealed.
 * @retval SP_ERR_UNTRUSTED Changed, moved, or sealed under another key; `out` holds nothing.
 * @retval SP_ERR_SPACE     `cap` is too small.
 */
SP_MUST_CHECK enum sp_err sp_vault_unseal(struct sp_vault *vault, struct sp_view context,
                                          struct sp_view sealed, uint8_t *out, size_t cap,
                                          size_t *out_len);

/** Keyed fingerprint of a secret: equal for equal secrets, useless without the master key. 32 bytes. */
SP_MUST_CHECK enum sp_err sp_vault_fingerprint(const struct sp_vault *vault, struct sp_view secret,
                                               uint8_t *out);

/** The PSK that an identity has that is not in the registry: the same each time, SP_VAULT_DECOY_LEN bytes. */
void sp_vault_decoy(const struct sp_vault *vault, struct sp_view identity, uint8_t *out);

/** Random bytes fit for keys. @retval SP_ERR_CRYPTO */
SP_MUST_CHECK enum sp_err sp_vault_random(uint8_t *out, size_t len);

/** Random bytes that nobody can guess before they are told: a nonce. A quarter of the time. @retval SP_ERR_CRYPTO */
SP_MUST_CHECK enum sp_err sp_vault_nonce(uint8_t *out, size_t len);

#endif
