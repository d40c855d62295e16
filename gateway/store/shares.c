/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/shares.h"

#include <stdlib.h>

#include "gateway/store/row.h"

#define BUCKETS_MIN 64U

struct share {
    struct share *next;
    uint64_t bytes;
    size_t len;
    uint8_t name[];
};

struct sp_shares {
    struct share **buckets;
    size_t bucket_count; /* a power of two */
    size_t count;
};

enum sp_err sp_shares_create(struct sp_shares **out)
{
    struct sp_shares *s = calloc(1, sizeof(*s));
    *out = NULL;
    if (s == NULL) {
        return SP_ERR_NOMEM;
    }
    s->bucket_count = BUCKETS_MIN;
    s->buckets = calloc(s->bucket_count, sizeof(struct share *));
    if (s->buckets == NULL) {
        free(s);
        return SP_ERR_NOMEM;
    }
    *out = s;
    return SP_OK;
}

void sp_shares_clear(struct sp_shares *shares)
{
    for (size_t i = 0; i < shares->bucket_count; i++) {
        while (shares->buckets[i] != NULL) {
            struct share *gone = shares->buckets[i];
            shares->buckets[i] = gone->next;
            free(gone);
        }
    }
    shares->count = 0;
}

void sp_shares_destroy(struct sp_shares *shares)
{
    if (shares != NULL) {
        sp_shares_clear(shares);
        free(shares->buckets);
        free(shares);
    }
}

/* Where the pointer to that device's share is, or would be. */
static struct share **find(const struct sp_shares *s, struct sp_view device)
{
    struct share **at = &s->buckets[sp_row_stream(device) & (s->bucket_count - 1U)];
    while (*at != NULL && !sp_view_equal(sp_view((*at)->name, (*at)->len), device)) {
        at = &(*at)->next;
    }
    return at;
}

uint64_t sp_shares_of(const struct sp_shares *shares, struct sp_view device)
{
    const struct share *share = *find(shares, device);
    return share == NULL ? 0 : share->bytes;
}

/* Without memory for more buckets it only gets slower. */
static void grow(struct sp_shares *s)
{
    struct sp_shares bigger = {.bucket_count = s->bucket_count * 2U, .count = s->count};
    bigger.buckets = calloc(bigger.bucket_count, sizeof(struct share *));
    if (bigger.buckets == NULL) {
        return;
    }
    for (size_t i = 0; i < s->bucket_count; i++) {
        while (s->buckets[i] != NULL) {
            struct share *share = s->buckets[i];
            s->buckets[i] = share->next;
            share->next = NULL;
            *find(&bigger, sp_view(share->name, share->len)) = share;
        }
    }
    free(s->buckets);
    *s = bigger;
}

enum sp_err sp_shares_add(struct sp_shares *shares, struct sp_view device, uint64_t bytes)
{
    struct share **at = find(shares, device);
    if (*at == NULL) {
        if (shares->count > shares->bucket_count) {
            grow(shares);
            at = find(shares, device);
        }
        struct share *fresh = calloc(1, sizeof(*fresh) + device.len);
        if (fresh == NULL) {
            return SP_ERR_NOMEM;
        }
        fresh->len = device.len;
        sp_copy(fresh->name, device.ptr, device.len);
        *at = fresh;
        shares->count++;
    }
    (*at)->bytes += bytes;
    return SP_OK;
}

void sp_shares_take(struct sp_shares *shares, struct sp_view device, uint64_t bytes)
{
    struct share **at = find(shares, device);
    struct share *share = *at;
    if (share == NULL) {
        return;
    }
    share->bytes -= bytes < share->bytes ? bytes : share->bytes;
    if (share->bytes == 0) {
        *at = share->next;
        free(share);
        shares->count--;
    }
}
