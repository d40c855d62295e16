/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Memory for secrets: kept out of swap and core dumps as far as the system lets us, wiped when given back. */
#ifndef SP_GATEWAY_KEYS_LOCKED_H
#define SP_GATEWAY_KEYS_LOCKED_H

#include <stdbool.h>
#include <stddef.h>

/** `size` zero bytes in whole pages of their own, or NULL. Released with sp_locked_free(). */
void *sp_locked_alloc(size_t size);

/** Wipe and unmap; `size` as given to sp_locked_alloc(). NULL is fine. */
void sp_locked_free(void *memory, size_t size);

/** False once a page could not be locked (RLIMIT_MEMLOCK): it may reach swap, never a core dump. */
bool sp_locked_complete(void);

#endif
