/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/locked.h"

#include <sys/mman.h>

#include "libs/base/bytes.h"

static bool complete = true;

void *sp_locked_alloc(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        return NULL;
    }
    (void)madvise(memory, size, MADV_DONTDUMP);
    (void)madvise(memory, size, MADV_DONTFORK);
    if (mlock(memory, size) != 0) {
        complete = false;
    }
    return memory;
}

void sp_locked_free(void *memory, size_t size)
{
    if (memory != NULL) {
        sp_wipe(memory, size);
        (void)munmap(memory, size);
    }
}

bool sp_locked_complete(void)
{
    return complete;
}
