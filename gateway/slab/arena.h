/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Where the pages of all slabs of a process lie: one range of addresses, so that a number says where a thing is (ref.h).
 *
 * The range is reserved with the first page: 32 GB of addresses, or half of that, and so on, where the kernel grants less. A page
 * is memory from when it is taken until it is given back; what is only reserved costs nothing and counts for nothing. Thread-safe.
 */
#ifndef SP_GATEWAY_SLAB_ARENA_H
#define SP_GATEWAY_SLAB_ARENA_H

#include <stddef.h>

#define SP_ARENA_PAGE ((size_t)65536) /**< size and alignment */

/** Zeroed. NULL: no memory, or no addresses. */
void *sp_arena_take(void);

/** Its memory goes back to the kernel, its place to who takes next. */
void sp_arena_give(void *page);

#endif
