/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Memory of the crypto partition and its core: a fixed arena that nobody else uses. What is freed is wiped. */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_HEAP_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_HEAP_H

#include <stddef.h>

/** Bytes; a build with larger pointers may say more. */
#ifndef SP_HEAP_SIZE
#define SP_HEAP_SIZE 3072U
#endif

/** Zeroed memory, aligned to 8 bytes, or NULL. */
void *sp_heap_calloc(size_t count, size_t size);

/** NULL is fine. */
void sp_heap_free(void *memory);

/** The most bytes, with headers, that were ever in use. */
size_t sp_heap_peak(void);

#endif
