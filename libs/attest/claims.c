/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/attest/attest_internal.h"

/* Labels: PSA_IOT_PROFILE_1 from draft-tschofenig-rats-psa-token-07 and TF-M, the others from RFC 9783 and
 * TF-M up to 2.1, which had the boot seed at 2397 where RFC 9783 uses EAT's 268. */
#define LENGTHS_ANY               \
    {                             \
        0, SP_ATTEST_TOKEN_MAX, 1 \
    }
#define LENGTHS_DIGEST \
    {                  \
        32, 64, 16     \
    }
#define LENGTHS(n) \
    {              \
        n, n, 1    \
    }
#define NO_LENGTHS \
    {              \
        0, 0, 1    \
    }
#define ALWAYS                  \
    {                           \
        false, true, true, true \
    }
#define NEVER                      \
    {                              \
        false, false, false, false \
    }

const struct sp_attest_lengths sp_attest_digest_lengths = LENGTHS_DIGEST;

const struct sp_attest_rule sp_attest_rules[SP_ATTEST_CLAIM_COUNT] = {
    [SP_ATTEST_CLAIM_NONCE] = {"nonce",
                               SP_ATTEST_KIND_BYTES,
                               {0, -75008, 10, 10},
                               ALWAYS,
                               LENGTHS_DIGEST,
                               LENGTHS_DIGEST},
    [SP_ATTEST_CLAIM_BOOT_SEED] = {"boot-seed",
                                   SP_ATTEST_KIND_BYTES,
                                   {0, -75004, 2397, 268},
                                   {false, true, false, false},
                                   LENGTHS(32),
                                   {8, 32, 1}},
    [SP_ATTEST_CLAIM_INSTANCE_ID] = {"instance-id",
                                     SP_ATTEST_KIND_BYTES,
                                     {0, -75009, 256, 256},
                                     ALWAYS,
                                     LENGTHS(SP_ATTEST_UEID_LEN),
                                     LENGTHS(SP_ATTEST_UEID_LEN)},
    [SP_ATTEST_CLAIM_IMPLEMENTATION_ID] = {"implementation-id",
                                           SP_ATTEST_KIND_BYTES,
                                           {0, -75003, 2396, 2396},
                                           ALWAYS,
                                           LENGTHS(32),
                                           LENGTHS(32)},
    [SP_ATTEST_CLAIM_CLIENT_ID] = {"client-id",
                                   SP_ATTEST_KIND_CLIENT_ID,
                                   {0, -75001, 2394, 2394},
                                   ALWAYS,
                                   NO_LENGTHS,
                                   NO_LENGTHS},
    [SP_ATTEST_CLAIM_LIFECYCLE] = {"lifecycle",
                                   SP_ATTEST_KIND_LIFECYCLE,
                                   {0, -75002, 2395, 2395},
                                   ALWAYS,
                                   NO_LENGTHS,
                                   NO_LENGTHS},
    /* PSA_IOT_PROFILE_1 has either components or no-software: see decode.c. */
    [SP_ATTEST_CLAIM_COMPONENTS] = {"software-components",
                                    SP_ATTEST_KIND_COMPONENTS,
                                    {0, -75006, 2399, 2399},
                                    {false, false, true, true},
                                    NO_LENGTHS,
                                    NO_LENGTHS},
    [SP_ATTEST_CLAIM_NO_SOFTWARE] = {"no-software",
                                     SP_ATTEST_KIND_NO_SOFTWARE,
                                     {0, -75007, 0, 0},
                                     NEVER,
                                     NO_LENGTHS,
                                     NO_LENGTHS},
    [SP_ATTEST_CLAIM_PROFILE] = {"profile",
                                 SP_ATTEST_KIND_TEXT,
                                 {0, -75000, 265, 265},
                                 {false, false, true, true},
                                 LENGTHS_ANY,
                                 LENGTHS_ANY},
    [SP_ATTEST_CLAIM_VERIFICATION_SERVICE] = {"verification-service",
                                              SP_ATTEST_KIND_TEXT,
                                              {0, -75010, 2400, 2400},
                                              NEVER,
                                              LENGTHS_ANY,
                                              LENGTHS_ANY},
    /* The old profile asks for 13 digits, TF-M sends 13-5 under it too. */
    [SP_ATTEST_CLAIM_CERTIFICATION_REFERENCE] = {"certification-reference",
                                                 SP_ATTEST_KIND_TEXT,
                                                 {0, -75005, 2398, 2398},
                                                 NEVER,
                                                 {13, 19, 6},
                                                 LENGTHS(19)},
};

bool sp_attest_length_fits(size_t len, struct sp_attest_lengths lengths)
{
    return len >= lengths.min && len <= lengths.max && (len - lengths.min) % lengths.step == 0;
}

struct sp_attest_lengths sp_attest_rule_lengths(const struct sp_attest_rule *rule,
                                                enum sp_attest_profile profile)
{
    return profile == SP_ATTEST_PROFILE_IOT_1 ? rule->old_lengths : rule->new_lengths;
}

struct sp_view *sp_attest_claim_slot(struct sp_attest_claims *claims, enum sp_attest_claim claim)
{
    switch (claim) {
    case SP_ATTEST_CLAIM_NONCE:
        return &claims->nonce;
    case SP_ATTEST_CLAIM_BOOT_SEED:
        return &claims->boot_seed;
    case SP_ATTEST_CLAIM_INSTANCE_ID:
        return &claims->instance_id;
    case SP_ATTEST_CLAIM_IMPLEMENTATION_ID:
        return &claims->implementation_id;
    case SP_ATTEST_CLAIM_PROFILE:
        return &claims->profile_text;
    case SP_ATTEST_CLAIM_VERIFICATION_SERVICE:
        return &claims->verification_service;
    case SP_ATTEST_CLAIM_CERTIFICATION_REFERENCE:
        return &claims->certification_reference;
    case SP_ATTEST_CLAIM_CLIENT_ID:
    case SP_ATTEST_CLAIM_LIFECYCLE:
    case SP_ATTEST_CLAIM_COMPONENTS:
    case SP_ATTEST_CLAIM_NO_SOFTWARE:
    case SP_ATTEST_CLAIM_COUNT:
    default:
        return NULL;
    }
}

const char *sp_attest_check_name(enum sp_attest_check check)
{
    static const char *const names[] = {
#define X(name, text) text,
        SP_ATTEST_CHECK_MAP(X)
#undef X
    };
    return (unsigned)check < SP_ATTEST_CHECK_COUNT ? names[check] : "unknown";
}

const char *sp_attest_profile_name(enum sp_attest_profile profile)
{
    switch (profile) {
    case SP_ATTEST_PROFILE_IOT_1:
        return "PSA_IOT_PROFILE_1";
    case SP_ATTEST_PROFILE_PSA_2_0_0:
        return "http://arm.com/psa/2.0.0";
    case SP_ATTEST_PROFILE_RFC9783:
        return "tag:psacertified.org,2023:psa#tfm";
    case SP_ATTEST_PROFILE_UNKNOWN:
    default:
        return "unknown";
    }
}

/* PSA Security Model 1.1, lifecycle; the low byte is the implementation's own. */
const char *sp_attest_lifecycle_name(uint16_t lifecycle)
{
    switch (lifecycle >> 8) {
    case 0x00:
        return "unknown";
    case 0x10:
        return "assembly-and-test";
    case 0x20:
        return "psa-rot-provisioning";
    case 0x30:
        return "secured";
    case 0x40:
        return "non-psa-rot-debug";
    case 0x50:
        return "recoverable-psa-rot-debug";
    case 0x60:
        return "decommissioned";
    default:
        return "invalid";
    }
}

void sp_attest_decide(struct sp_attest_verdict *verdict, enum sp_attest_check check,
                      struct sp_view subject, const char *text)
{
    struct sp_view parts[2] = {subject, sp_view_str(text)};
    size_t used = 0;
    verdict->check = check;
    for (size_t part = 0; part < 2; part++) {
        for (size_t i = 0; i < parts[part].len && used < SP_ATTEST_DETAIL_MAX - 1; i++) {
            uint8_t c = parts[part].ptr[i];
            verdict->detail[used++] = c >= 0x20 && c < 0x7F ? (char)c : '?';
        }
    }
    verdict->detail[used] = '\0';
}
