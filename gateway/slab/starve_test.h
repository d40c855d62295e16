/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file For tests: memory that runs out at a given allocation, and a count of what is not given back.
 *
 * The linker puts these in place of the C library's and the slabs' functions, in all objects of the test that are ours (target
 * sp_starve): malloc, calloc, realloc, aligned_alloc, strdup, strndup, free, sp_slab_take, sp_slab_give. One thread only.
 */
#ifndef SP_GATEWAY_SLAB_STARVE_TEST_H
#define SP_GATEWAY_SLAB_STARVE_TEST_H

#include <stdint.h>

/** From now on, of the allocations that are asked for the `nth` (1: the next) fails, and `count` - 1 behind it. */
void starve(uint64_t nth, uint64_t count);

/** Memory is back. @return How many allocations failed. */
uint64_t starve_end(void);

/** Allocations that were not given back. */
int64_t starve_live(void);

#endif
