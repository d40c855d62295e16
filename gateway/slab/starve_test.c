/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/slab/starve_test.h"

#include "gateway/slab/slab.h"

#include <stdbool.h>
#include <string.h>

static uint64_t asked;
static uint64_t first; /* of those that fail; 0: none does */
static uint64_t fail_count;
static uint64_t failed;
static int64_t live;

void starve(uint64_t nth, uint64_t count)
{
    asked = 0;
    first = nth;
    fail_count = count;
    failed = 0;
}

uint64_t starve_end(void)
{
    first = 0;
    return failed;
}

int64_t starve_live(void)
{
    return live;
}

static bool fails(void)
{
    bool now = first != 0 && ++asked >= first && asked - first < fail_count;
    failed += now;
    return now;
}

static void *count(void *got)
{
    live += got != NULL;
    return got;
}

void *__real_malloc(size_t size);
void *__real_calloc(size_t number, size_t size);
void *__real_realloc(void *old, size_t size);
void *__real_aligned_alloc(size_t align, size_t size);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t max);
void __real_free(void *ptr);
void *__real_sp_slab_take(struct sp_slab *slab);
void __real_sp_slab_give(struct sp_slab *slab, void *item);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t number, size_t size);
void *__wrap_realloc(void *old, size_t size);
void *__wrap_aligned_alloc(size_t align, size_t size);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t max);
void __wrap_free(void *ptr);
void *__wrap_sp_slab_take(struct sp_slab *slab);
void __wrap_sp_slab_give(struct sp_slab *slab, void *item);

void *__wrap_malloc(size_t size)
{
    return fails() ? NULL : count(__real_malloc(size));
}

void *__wrap_calloc(size_t number, size_t size)
{
    return fails() ? NULL : count(__real_calloc(number, size));
}

void *__wrap_realloc(void *old, size_t size)
{
    if (fails()) {
        return NULL;
    }
    void *got = __real_realloc(old, size);
    live += old == NULL && got != NULL;
    return got;
}

void *__wrap_aligned_alloc(size_t align, size_t size)
{
    return fails() ? NULL : count(__real_aligned_alloc(align, size));
}

char *__wrap_strdup(const char *text)
{
    return fails() ? NULL : count(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t max)
{
    return fails() ? NULL : count(__real_strndup(text, max));
}

void __wrap_free(void *ptr)
{
    live -= ptr != NULL;
    __real_free(ptr);
}

void *__wrap_sp_slab_take(struct sp_slab *slab)
{
    return fails() ? NULL : count(__real_sp_slab_take(slab));
}

void __wrap_sp_slab_give(struct sp_slab *slab, void *item)
{
    live -= item != NULL;
    __real_sp_slab_give(slab, item);
}
