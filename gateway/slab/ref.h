/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Names for things that lie in slabs, in half of a pointer's bytes: the place in the arena, in units of 8 bytes.
 *
 * A ref names the beginning of a thing, or of a field of it that is aligned to 8 bytes. It is as good as a pointer, and as bad once
 * the thing was given back. Under a sanitizer it is the pointer itself, so that use after that is seen.
 */
#ifndef SP_GATEWAY_SLAB_REF_H
#define SP_GATEWAY_SLAB_REF_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#if defined(__has_feature)
#define SP_REF_HAS(feature) __has_feature(feature)
#else
#define SP_REF_HAS(feature) 0
#endif

#if defined(__SANITIZE_ADDRESS__) || SP_REF_HAS(address_sanitizer)
#define SP_REF_IS_POINTER 1
#else
#define SP_REF_IS_POINTER 0
#endif

#define SP_REF_UNIT ((size_t)8)

#if SP_REF_IS_POINTER

typedef uintptr_t sp_ref; /**< 0: NULL */

static inline sp_ref sp_ref_of(const void *thing)
{
    return (uintptr_t)thing;
}

/** One that is not 0. */
static inline void *sp_ref_at(sp_ref ref)
{
    return (void *)ref;
}

static inline void *sp_ref_get(sp_ref ref)
{
    return (void *)ref;
}

#else

typedef uint32_t sp_ref; /**< 0: NULL */

/** Where the arena begins; nothing lies right there. Set once, before anything is taken from a slab. */
extern char *sp_arena_base;

/** NULL has one too. Ends the process for what lies in no slab: it would name something else. */
static inline sp_ref sp_ref_of(const void *thing)
{
    /* Turned around, what is not aligned is beyond the end too. */
    uint64_t offset = (uint64_t)((uintptr_t)thing - (uintptr_t)sp_arena_base);
    uint64_t units = offset / SP_REF_UNIT | offset << 61;
    if (thing == NULL) {
        return 0;
    }
    if (units > UINT32_MAX) {
        abort();
    }
    return (sp_ref)units;
}

/** One that is not 0. */
static inline void *sp_ref_at(sp_ref ref)
{
    return sp_arena_base + ref * SP_REF_UNIT;
}

/** Without a branch. */
static inline void *sp_ref_get(sp_ref ref)
{
    return (void *)((uintptr_t)sp_ref_at(ref) & -(uintptr_t)(ref != 0));
}

#endif

#endif
