/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* First fit over blocks that lie one behind the other; neighbours that are free are joined while looking for room. */
#include "device/secure/partitions/crypto/heap.h"

#include "libs/base/bytes.h"

#include <stdalign.h>

struct block {
    alignas(8) uint32_t size; /* with this header */
    uint32_t used;
};

static union {
    struct block first;
    uint8_t bytes[SP_HEAP_SIZE];
} arena;

static size_t in_use;
static size_t peak;

static struct block *next(struct block *block)
{
    return (struct block *)(void *)((uint8_t *)block + block->size);
}

static bool inside(const struct block *block)
{
    return (const uint8_t *)block < arena.bytes + sizeof(arena);
}

static void join_free(struct block *block)
{
    struct block *after = next(block);
    while (inside(after) && !after->used) {
        block->size += after->size;
        after = next(block);
    }
}

static void take(struct block *block, size_t need)
{
    if (block->size - need > sizeof(*block)) {
        struct block *rest = (struct block *)(void *)((uint8_t *)block + need);
        rest->size = block->size - (uint32_t)need;
        rest->used = 0;
        block->size = (uint32_t)need;
    }
    block->used = 1;
    in_use += block->size;
    peak = in_use > peak ? in_use : peak;
}

void *sp_heap_calloc(size_t count, size_t size)
{
    if (arena.first.size == 0) {
        arena.first.size = sizeof(arena);
    }
    if (count == 0 || size == 0 || size > SP_HEAP_SIZE / count) {
        return NULL;
    }
    size_t need = (count * size + sizeof(struct block) + 7U) & ~(size_t)7U;
    for (struct block *block = &arena.first; inside(block); block = next(block)) {
        if (block->used) {
            continue;
        }
        join_free(block);
        if (block->size >= need) {
            take(block, need);
            sp_wipe(block + 1, block->size - sizeof(*block));
            return block + 1;
        }
    }
    return NULL;
}

void sp_heap_free(void *memory)
{
    if (memory == NULL) {
        return;
    }
    struct block *block = (struct block *)memory - 1;
    in_use -= block->size;
    block->used = 0;
    sp_wipe(memory, block->size - sizeof(*block));
}

size_t sp_heap_peak(void)
{
    return peak;
}
