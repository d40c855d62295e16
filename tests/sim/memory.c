/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* malloc() and its family, with a list of what each process has: who is killed frees nothing. */
#include "tests/sim/kernel.h"

#include <stdlib.h>
#include <string.h>

struct block {
    struct block *next;
    struct block *previous;
    size_t size;
    uint32_t process;
    uint32_t offset; /* of this header in what malloc() gave */
};

struct arena {
    struct block all; /* a ring */
    size_t used;
};

static struct arena arenas[SIM_PROCESSES];

void *__real_malloc(size_t size);
void *__real_realloc(void *ptr, size_t size);
void __real_free(void *ptr);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_aligned_alloc(size_t alignment, size_t size);
void *__wrap_realloc(void *ptr, size_t size);
void __wrap_free(void *ptr);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t max);

static void link_block(struct block *b)
{
    struct arena *arena = &arenas[b->process];
    if (arena->all.next == NULL) {
        arena->all.next = &arena->all;
        arena->all.previous = &arena->all;
    }
    b->next = arena->all.next;
    b->previous = &arena->all;
    b->next->previous = b;
    arena->all.next = b;
    arena->used += b->size;
}

static void unlink_block(struct block *b)
{
    b->previous->next = b->next;
    b->next->previous = b->previous;
    arenas[b->process].used -= b->size;
}

static void *put_in(enum sim_process process, void *raw, uint32_t offset, size_t size)
{
    struct block *b = (struct block *)(void *)((uint8_t *)raw + offset);
    b->size = size;
    b->process = (uint32_t)process;
    b->offset = offset;
    link_block(b);
    return b + 1;
}

static void give_back(struct block *b)
{
    unlink_block(b);
    __real_free((uint8_t *)b - b->offset);
}

static void *take(enum sim_process process, size_t size)
{
    void *raw = __real_malloc(sizeof(struct block) + size);
    if (raw == NULL) {
        abort();
    }
    return put_in(process, raw, 0, size);
}

static void *resize(enum sim_process process, void *ptr, size_t size)
{
    if (ptr == NULL) {
        return take(process, size);
    }
    struct block *b = (struct block *)ptr - 1;
    unlink_block(b);
    b = __real_realloc(b, sizeof(*b) + size);
    if (b == NULL) {
        abort();
    }
    b->size = size;
    link_block(b);
    return b + 1;
}

void *__wrap_malloc(size_t size)
{
    return take(sim_current(), size);
}

void *__wrap_calloc(size_t count, size_t size)
{
    return memset(take(sim_current(), count * size), 0, count * size);
}

/* Never given to realloc(), as the C standard has nothing to say about its alignment then. */
void *__wrap_aligned_alloc(size_t alignment, size_t size)
{
    uint8_t *raw = __real_malloc(sizeof(struct block) + size + alignment);
    if (raw == NULL) {
        abort();
    }
    size_t offset = alignment - (uintptr_t)(raw + sizeof(struct block)) % alignment;
    return put_in(sim_current(), raw, (uint32_t)offset, size);
}

void *__wrap_realloc(void *ptr, size_t size)
{
    return resize(sim_current(), ptr, size);
}

void __wrap_free(void *ptr)
{
    if (ptr != NULL) {
        give_back((struct block *)ptr - 1);
    }
}

char *__wrap_strndup(const char *text, size_t max)
{
    size_t len = strnlen(text, max);
    char *copy = take(sim_current(), len + 1);
    memcpy(copy, text, len);
    copy[len] = '\0';
    return copy;
}

char *__wrap_strdup(const char *text)
{
    return __wrap_strndup(text, strlen(text));
}

void *sim_keep(size_t bytes)
{
    return memset(take(SIM_WORLD, bytes), 0, bytes);
}

void *sim_keep_more(void *ptr, size_t bytes)
{
    return resize(SIM_WORLD, ptr, bytes);
}

void sim_memory_clear(enum sim_process process)
{
    struct arena *arena = &arenas[process];
    while (arena->all.next != NULL && arena->all.next != &arena->all) {
        give_back(arena->all.next);
    }
}

size_t sim_memory_used(enum sim_process process)
{
    return arenas[process].used;
}
