/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Any bytes as a token, and, so that what lies behind the MAC is reached, any bytes as the payload of an authentic one.
 * What decodes must encode, and the encoded token must say the same.
 */
#include "libs/attest/attest.h"
#include "libs/cose/cose.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const uint8_t iak[32] = "a key that fuzzing may know, 32";
static const struct sp_crypto_key key = {.bytes = {iak, sizeof(iak)}};

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void same_claims(const struct sp_attest_claims *a, const struct sp_attest_claims *b)
{
    require(a->profile == b->profile && sp_view_equal(a->nonce, b->nonce));
    require(sp_view_equal(a->instance_id, b->instance_id));
    require(sp_view_equal(a->implementation_id, b->implementation_id));
    require(sp_view_equal(a->boot_seed, b->boot_seed));
    require(a->client_id == b->client_id && a->lifecycle == b->lifecycle);
    require(a->no_software == b->no_software && a->component_count == b->component_count);
    for (size_t i = 0; i < a->component_count; i++) {
        require(sp_view_equal(a->components[i].type, b->components[i].type));
        require(sp_view_equal(a->components[i].value, b->components[i].value));
        require(sp_view_equal(a->components[i].signer_id, b->components[i].signer_id));
    }
}

/* Encode what was decoded, decode it again. */
static void check_round_trip(const struct sp_attest_claims *claims)
{
    static uint8_t token[16384];
    size_t len = 0;
    struct sp_attest_claims again;
    struct sp_attest_verdict verdict;
    if (claims->profile == SP_ATTEST_PROFILE_UNKNOWN) {
        return;
    }
    require(sp_attest_encode(claims, SP_ATTEST_HMAC256, &key, token, sizeof(token), &len) == SP_OK);
    if (len <= 4096) {
        sp_attest_decode(sp_view(token, len), &again, &verdict);
        require(verdict.check == SP_ATTEST_OK);
        same_claims(claims, &again);
    }
}

static void appraise(struct sp_view token, bool authentic)
{
    uint8_t challenge[32] = {0};
    struct sp_attest_policy policy = {.key = key,
                                      .algorithm = SP_ATTEST_HMAC256,
                                      .challenge = SP_VIEW_ARRAY(challenge),
                                      .lifecycles = SP_ATTEST_LIFECYCLE_SECURED,
                                      .any_software = true};
    struct sp_attest_claims claims;
    struct sp_attest_verdict verdict;
    sp_attest_decode(token, &claims, &verdict);
    if (verdict.check == SP_ATTEST_OK) {
        check_round_trip(&claims);
        policy.challenge = claims.nonce;
    }
    sp_attest_appraise(token, &policy, &claims, &verdict);
    require(authentic || verdict.check != SP_ATTEST_OK);
    require(!authentic || token.len > 4096 || verdict.check > SP_ATTEST_MAC ||
            verdict.check == SP_ATTEST_FORM || verdict.check == SP_ATTEST_OK);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t token[8192];
    struct sp_writer w;
    if (size > 5000) {
        return 0;
    }
    appraise(sp_view(data, size), false);
    sp_writer_init(&w, token, sizeof(token));
    require(sp_cose_mac0_encode(&w, SP_COSE_HMAC256, &key, (struct sp_view){NULL, 0},
                                sp_view(data, size)) == SP_OK);
    appraise(sp_writer_view(&w), true);
    return 0;
}
