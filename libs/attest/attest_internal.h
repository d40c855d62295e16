/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What decoder, appraiser and encoder share: the table of claims, and how a verdict is written. */
#ifndef SP_LIBS_ATTEST_ATTEST_INTERNAL_H
#define SP_LIBS_ATTEST_ATTEST_INTERNAL_H

#include "libs/attest/attest.h"
#include "libs/cose/cose.h"

#define SP_ATTEST_TOKEN_MAX  4096U /**< bytes; SP_LINK_TOKEN_MAX */
#define SP_ATTEST_CLAIMS_MAX 64U   /**< labels in a token, unknown ones included */

/** In the order in which TF-M writes them. */
enum sp_attest_claim {
    SP_ATTEST_CLAIM_NONCE,
    SP_ATTEST_CLAIM_BOOT_SEED,
    SP_ATTEST_CLAIM_INSTANCE_ID,
    SP_ATTEST_CLAIM_IMPLEMENTATION_ID,
    SP_ATTEST_CLAIM_CLIENT_ID,
    SP_ATTEST_CLAIM_LIFECYCLE,
    SP_ATTEST_CLAIM_COMPONENTS,
    SP_ATTEST_CLAIM_NO_SOFTWARE,
    SP_ATTEST_CLAIM_PROFILE,
    SP_ATTEST_CLAIM_VERIFICATION_SERVICE,
    SP_ATTEST_CLAIM_CERTIFICATION_REFERENCE,
    SP_ATTEST_CLAIM_COUNT
};

enum sp_attest_kind {
    SP_ATTEST_KIND_BYTES,
    SP_ATTEST_KIND_TEXT,
    SP_ATTEST_KIND_CLIENT_ID,
    SP_ATTEST_KIND_LIFECYCLE,
    SP_ATTEST_KIND_COMPONENTS,
    SP_ATTEST_KIND_NO_SOFTWARE,
};

/** Lengths min, min + step, … max. */
struct sp_attest_lengths {
    uint16_t min;
    uint16_t max;
    uint16_t step;
};

/** One claim in the three profiles; arrays are indexed by enum sp_attest_profile, without `unknown`. */
struct sp_attest_rule {
    const char *name;
    enum sp_attest_kind kind;
    int32_t labels[4]; /**< 0: the profile has no such claim */
    bool required[4];
    struct sp_attest_lengths old_lengths; /**< PSA_IOT_PROFILE_1 */
    struct sp_attest_lengths new_lengths; /**< the other two */
};

extern const struct sp_attest_rule sp_attest_rules[SP_ATTEST_CLAIM_COUNT];
extern const struct sp_attest_lengths sp_attest_digest_lengths;

bool sp_attest_length_fits(size_t len, struct sp_attest_lengths lengths);
struct sp_attest_lengths sp_attest_rule_lengths(const struct sp_attest_rule *rule,
                                                enum sp_attest_profile profile);

/** Where a claim of bytes or text lies; NULL for the others. */
struct sp_view *sp_attest_claim_slot(struct sp_attest_claims *claims, enum sp_attest_claim claim);

/** Write a verdict; `subject` and `text` are joined and cut to what fits, anything unprintable is a `?`. */
void sp_attest_decide(struct sp_attest_verdict *verdict, enum sp_attest_check check,
                      struct sp_view subject, const char *text);

/** Checks `size` and `form` of the envelope. False when one failed; the verdict says which. */
bool sp_attest_open(struct sp_view token, struct sp_cose_message *message,
                    struct sp_attest_verdict *verdict);

/** The form of the payload, and the check `claims`. */
bool sp_attest_read_claims(struct sp_view payload, struct sp_attest_claims *claims,
                           struct sp_attest_verdict *verdict);

#endif
