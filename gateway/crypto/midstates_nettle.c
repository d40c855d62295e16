/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* nettle, since GnuTLS gives no states out and keeps half a kilobyte of heap for each key. */
#include "gateway/crypto/midstates.h"

#include <nettle/sha2.h>
#include <string.h>

#define INNER 0x36U
#define OUTER 0x5CU

/* One hash under way; SHA-384 is SHA-512 from another beginning, cut off. */
struct digest {
    enum sp_hash hash;
    union {
        struct sha256_ctx small;
        struct sha512_ctx large;
    };
};

static size_t block_of(enum sp_hash hash)
{
    return hash == SP_SHA256 ? SHA256_BLOCK_SIZE : SHA512_BLOCK_SIZE;
}

static void begin(struct digest *d, enum sp_hash hash)
{
    d->hash = hash;
    if (hash == SP_SHA256) {
        sha256_init(&d->small);
    } else if (hash == SP_SHA384) {
        sha384_init(&d->large);
    } else {
        sha512_init(&d->large);
    }
}

static void update(struct digest *d, struct sp_view bytes)
{
    if (d->hash == SP_SHA256) {
        sha256_update(&d->small, bytes.len, bytes.ptr);
    } else {
        sha512_update(&d->large, bytes.len, bytes.ptr);
    }
}

static void end(struct digest *d, uint8_t *out)
{
    if (d->hash == SP_SHA256) {
        sha256_digest(&d->small, SHA256_DIGEST_SIZE, out);
    } else if (d->hash == SP_SHA384) {
        sha384_digest(&d->large, SHA384_DIGEST_SIZE, out);
    } else {
        sha512_digest(&d->large, SHA512_DIGEST_SIZE, out);
    }
}

static void *state_of(struct digest *d, size_t *size)
{
    *size = d->hash == SP_SHA256 ? sizeof(d->small.state) : sizeof(d->large.state);
    return d->hash == SP_SHA256 ? (void *)d->small.state : (void *)d->large.state;
}

/* The state behind the block of a padded key. */
static void keep(struct digest *d, const uint8_t *key, uint8_t pad, uint64_t *state)
{
    uint8_t block[SHA512_BLOCK_SIZE];
    size_t size = 0;
    for (size_t i = 0; i < block_of(d->hash); i++) {
        block[i] = key[i] ^ pad;
    }
    begin(d, d->hash);
    update(d, sp_view(block, block_of(d->hash)));
    const void *reached = state_of(d, &size);
    memcpy(state, reached, size);
    sp_wipe(block, sizeof(block));
}

/* Carry on behind that block. */
static void resume(struct digest *d, enum sp_hash hash, const uint64_t *state)
{
    size_t size = 0;
    begin(d, hash);
    void *at = state_of(d, &size);
    memcpy(at, state, size);
    if (hash == SP_SHA256) {
        d->small.count = 1;
    } else {
        d->large.count_low = 1;
    }
}

enum sp_err sp_midstates_make(enum sp_hash hash, struct sp_view key,
                              struct sp_crypto_midstates *out)
{
    struct digest d;
    uint8_t padded[SHA512_BLOCK_SIZE] = {0};
    if (hash != SP_SHA256 && hash != SP_SHA384 && hash != SP_SHA512) {
        return SP_ERR_UNSUPPORTED;
    }
    begin(&d, hash);
    if (key.len > block_of(hash)) {
        update(&d, key);
        end(&d, padded);
    } else {
        sp_copy(padded, key.ptr, key.len);
    }
    *out = (struct sp_crypto_midstates){.hash = hash};
    keep(&d, padded, INNER, out->inner);
    keep(&d, padded, OUTER, out->outer);
    sp_wipe(padded, sizeof(padded));
    sp_wipe(&d, sizeof(d));
    return SP_OK;
}

void sp_midstates_hmac(const struct sp_crypto_midstates *midstates, const struct sp_view *parts,
                       size_t count, uint8_t *out)
{
    struct digest d;
    uint8_t inner[SP_HASH_MAX];
    resume(&d, midstates->hash, midstates->inner);
    for (size_t i = 0; i < count; i++) {
        update(&d, parts[i]);
    }
    end(&d, inner);
    resume(&d, midstates->hash, midstates->outer);
    update(&d, sp_view(inner, (size_t)midstates->hash));
    end(&d, out);
    sp_wipe(inner, sizeof(inner));
    sp_wipe(&d, sizeof(d));
}
