/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The file with the key under which the registry's secrets lie: 32 random bytes, raw or as 64 hex digits. */
#ifndef SP_GATEWAY_KEYS_MASTER_KEY_H
#define SP_GATEWAY_KEYS_MASTER_KEY_H

#include "gateway/keys/fault.h"
#include "libs/base/bytes.h"

#define SP_MASTER_KEY_LEN 32U

/**
 * Read a master key file: a regular file, not a link, open to its owner only, who is us or root (to root: anybody).
 *
 * @param[out] key   SP_MASTER_KEY_LEN bytes; written on SP_OK only. The caller wipes them.
 * @param[out] fault Filled on any error.
 * @retval SP_ERR_NOT_FOUND There is no such file.
 * @retval SP_ERR_DENIED    It is a link, or others may read or write it.
 * @retval SP_ERR_MALFORMED It does not hold a key.
 * @retval SP_ERR_IO        It could not be read.
 */
SP_MUST_CHECK enum sp_err sp_master_key_read(const char *file, uint8_t *key,
                                             struct sp_fault *fault);

/**
 * Make a master key file, mode 0600, with a new random key, durable on return.
 * @retval SP_ERR_EXISTS There is a file of that name; it was left alone.
 * @retval SP_ERR_IO     It could not be written.
 * @retval SP_ERR_CRYPTO No random bytes.
 */
SP_MUST_CHECK enum sp_err sp_master_key_make(const char *file, struct sp_fault *fault);

#endif
