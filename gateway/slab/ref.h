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
    uintptr_t units = ((uintptr_t)thing - (uintptr_t)sp_arena_base) / SP_REF_UNIT;
    if (thing == NULL) {
        return 0;
    }
    if (units > UINT32_MAX || (uintptr_t)thing % SP_REF_UNIT != 0) {
        abort();
    }
    return (sp_ref)units;
}

/** Without a branch. */
static inline void *sp_ref_get(sp_ref ref)
{
    uintptr_t at = (uintptr_t)sp_arena_base + (uintptr_t)ref * SP_REF_UNIT;
    return (void *)(at & -(uintptr_t)(ref != 0));
}

#endif

#endif
