/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Slots in one array; a slot is in a bucket's chain and in the list by age, or in the list of free ones. Slots that were
 * never used are handed out in order, so that an array for many connections costs nothing while there are few.
 */
#include "gateway/keys/nonces.h"

#include <stdlib.h>

#define NONE UINT32_MAX

struct slot {
    struct sp_open_nonce nonce;
    uint64_t tag;
    uint32_t chain; /* next in the bucket, or next free */
    uint32_t older;
    uint32_t newer;
};

struct sp_nonces {
    struct slot *slots;
    uint32_t *buckets;
    uint32_t capacity;
    uint32_t touched; /* slots below were used once */
    uint32_t bucket_bits;
    uint32_t free;
    uint32_t oldest;
    uint32_t newest;
    uint32_t count;
};

enum sp_err sp_nonces_create(size_t capacity, struct sp_nonces **out)
{
    *out = NULL;
    struct sp_nonces *t = calloc(1, sizeof(*t));
    if (t == NULL) {
        return SP_ERR_NOMEM;
    }
    uint32_t bits = 4;
    while (((size_t)1 << bits) < capacity) {
        bits++;
    }
    *t = (struct sp_nonces){.slots = calloc(capacity, sizeof(struct slot)),
                            .buckets = malloc(sizeof(uint32_t) << bits),
                            .capacity = (uint32_t)capacity,
                            .bucket_bits = bits,
                            .free = NONE,
                            .oldest = NONE,
                            .newest = NONE};
    if (t->slots == NULL || t->buckets == NULL) {
        sp_nonces_destroy(t);
        return SP_ERR_NOMEM;
    }
    for (size_t i = 0; i < (size_t)1 << bits; i++) {
        t->buckets[i] = NONE;
    }
    *out = t;
    return SP_OK;
}

void sp_nonces_destroy(struct sp_nonces *t)
{
    if (t != NULL) {
        free(t->slots);
        free(t->buckets);
        free(t);
    }
}

static uint32_t *bucket_of(struct sp_nonces *t, uint64_t tag)
{
    /* Fibonacci hashing: neighbouring tags go far apart. */
    return &t->buckets[(tag * UINT64_C(0x9E3779B97F4A7C15)) >> (64 - t->bucket_bits)];
}

/* The place that holds the slot's number, so that it can be taken out of its chain. */
static uint32_t *find(struct sp_nonces *t, uint64_t tag)
{
    uint32_t *at = bucket_of(t, tag);
    while (*at != NONE && t->slots[*at].tag != tag) {
        at = &t->slots[*at].chain;
    }
    return at;
}

static void close_at(struct sp_nonces *t, uint32_t *at)
{
    uint32_t index = *at;
    struct slot *slot = &t->slots[index];
    *at = slot->chain;
    *(slot->older == NONE ? &t->oldest : &t->slots[slot->older].newer) = slot->newer;
    *(slot->newer == NONE ? &t->newest : &t->slots[slot->newer].older) = slot->older;
    sp_wipe(&slot->nonce, sizeof(slot->nonce));
    slot->chain = t->free;
    t->free = index;
    t->count--;
}

static uint32_t take_slot(struct sp_nonces *t)
{
    if (t->free == NONE && t->touched < t->capacity) {
        return t->touched++;
    }
    if (t->free == NONE) {
        close_at(t, find(t, t->slots[t->oldest].tag));
    }
    uint32_t index = t->free;
    t->free = t->slots[index].chain;
    return index;
}

void sp_nonces_open(struct sp_nonces *t, uint64_t tag, const struct sp_open_nonce *nonce)
{
    sp_nonces_forget(t, tag);
    uint32_t index = take_slot(t);
    uint32_t *bucket = bucket_of(t, tag);
    t->slots[index] = (struct slot){
        .nonce = *nonce, .tag = tag, .chain = *bucket, .older = t->newest, .newer = NONE};
    *bucket = index;
    *(t->newest == NONE ? &t->oldest : &t->slots[t->newest].newer) = index;
    t->newest = index;
    t->count++;
}

bool sp_nonces_take(struct sp_nonces *t, uint64_t tag, struct sp_open_nonce *out)
{
    uint32_t *at = find(t, tag);
    if (*at == NONE) {
        return false;
    }
    *out = t->slots[*at].nonce;
    close_at(t, at);
    return true;
}

void sp_nonces_forget(struct sp_nonces *t, uint64_t tag)
{
    uint32_t *at = find(t, tag);
    if (*at != NONE) {
        close_at(t, at);
    }
}

size_t sp_nonces_count(const struct sp_nonces *t)
{
    return t->count;
}
