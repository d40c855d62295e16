/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * One function per check, called in the order of docs/protocol.md 3.4 until one says no. Details speak of
 * what the token has, never of what would have been right.
 */
#include "libs/attest/attest_internal.h"

/* SHA-256 of keys that are published, or that stand for no key at all. */
static const uint8_t development_keys[][32] = {
    /* TF-M's dummy IAK */
    {0xfc, 0x15, 0xd5, 0x75, 0x54, 0x28, 0xeb, 0x71, 0x65, 0x7c, 0xdc,
     0x8f, 0x00, 0x4f, 0x9a, 0x82, 0x68, 0x4c, 0x5d, 0x0f, 0x85, 0x36,
     0x3e, 0x20, 0x30, 0x14, 0xc6, 0x7c, 0x7e, 0xbc, 0x8b, 0xa9},
    /* RFC 9783, A.2 */
    {0x7b, 0x0e, 0x4e, 0x29, 0xc2, 0xc0, 0xed, 0xf2, 0xf5, 0xa2, 0x37,
     0x39, 0xd5, 0x85, 0x61, 0xdf, 0xe3, 0x20, 0xe8, 0xa6, 0x41, 0xd7,
     0xd1, 0xd4, 0x26, 0x1c, 0x37, 0xf2, 0x2c, 0xaa, 0x68, 0xde},
    /* RFC 9783, A.1: the scalar of the signing key */
    {0x93, 0x94, 0x31, 0x92, 0x48, 0xd6, 0xe5, 0xcc, 0x4f, 0x23, 0xe9,
     0xd0, 0x4e, 0x44, 0x05, 0x0a, 0x35, 0xa3, 0x21, 0x41, 0xba, 0xe2,
     0x51, 0xe9, 0x7a, 0x1e, 0x4b, 0x7e, 0x7c, 0x49, 0x9c, 0x74},
    /* COSE working group, HMac-enc-01 */
    {0x73, 0xec, 0x74, 0x45, 0x80, 0x59, 0xc7, 0x0c, 0xae, 0x3f, 0x0a,
     0xde, 0x86, 0x63, 0xfe, 0x0d, 0xa1, 0xdc, 0x4b, 0x11, 0x4e, 0xd8,
     0xcd, 0xac, 0x75, 0x36, 0x41, 0x40, 0xb4, 0x45, 0x8a, 0x4c},
    /* COSE working group, HMac-enc-02 */
    {0xc8, 0xb3, 0x24, 0x8b, 0x50, 0x08, 0x70, 0x58, 0x29, 0xb2, 0x9c,
     0xf8, 0xda, 0x5d, 0x33, 0xf6, 0x8c, 0x06, 0x93, 0x86, 0x11, 0xd7,
     0x8f, 0x77, 0x48, 0x19, 0x5a, 0x5a, 0xc9, 0x2f, 0x2d, 0x0b},
    /* COSE working group, HMac-enc-03 */
    {0x78, 0x12, 0xa8, 0xe0, 0xdb, 0xa0, 0xc1, 0x3e, 0x8d, 0x0e, 0xb7,
     0xef, 0xff, 0x92, 0xf5, 0x56, 0x2c, 0x5a, 0x19, 0x1d, 0xc9, 0x2b,
     0xf2, 0xc4, 0x79, 0x9a, 0x34, 0x3c, 0x45, 0x02, 0x57, 0x2e},
    /* 16 bytes of zeros */
    {0x37, 0x47, 0x08, 0xff, 0xf7, 0x71, 0x9d, 0xd5, 0x97, 0x9e, 0xc8,
     0x75, 0xd5, 0x6c, 0xd2, 0x28, 0x6f, 0x6d, 0x3c, 0xf7, 0xec, 0x31,
     0x7a, 0x3b, 0x25, 0x63, 0x2a, 0xab, 0x28, 0xec, 0x37, 0xbb},
    /* 32 bytes of zeros */
    {0x66, 0x68, 0x7a, 0xad, 0xf8, 0x62, 0xbd, 0x77, 0x6c, 0x8f, 0xc1,
     0x8b, 0x8e, 0x9f, 0x8e, 0x20, 0x08, 0x97, 0x14, 0x85, 0x6e, 0xe2,
     0x33, 0xb3, 0x90, 0x2a, 0x59, 0x1d, 0x0d, 0x5f, 0x29, 0x25},
    /* 48 bytes of zeros */
    {0x17, 0xb0, 0x76, 0x1f, 0x87, 0xb0, 0x81, 0xd5, 0xcf, 0x10, 0x75,
     0x7c, 0xcc, 0x89, 0xf1, 0x2b, 0xe3, 0x55, 0xc7, 0x0e, 0x2e, 0x29,
     0xdf, 0x28, 0x8b, 0x65, 0xb3, 0x07, 0x10, 0xdc, 0xbc, 0xd1},
    /* 64 bytes of zeros */
    {0xf5, 0xa5, 0xfd, 0x42, 0xd1, 0x6a, 0x20, 0x30, 0x27, 0x98, 0xef,
     0x6e, 0xd3, 0x09, 0x97, 0x9b, 0x43, 0x00, 0x3d, 0x23, 0x20, 0xd9,
     0xf0, 0xe8, 0xea, 0x98, 0x31, 0xa9, 0x27, 0x59, 0xfb, 0x4b},
    /* 16 bytes of ones */
    {0x5a, 0xc6, 0xa5, 0x94, 0x5f, 0x16, 0x50, 0x09, 0x11, 0x21, 0x91,
     0x29, 0x98, 0x4b, 0xa8, 0xb3, 0x87, 0xa0, 0x6f, 0x24, 0xfe, 0x38,
     0x3c, 0xe4, 0xe8, 0x1a, 0x73, 0x29, 0x40, 0x65, 0x46, 0x1b},
    /* 32 bytes of ones */
    {0xaf, 0x96, 0x13, 0x76, 0x0f, 0x72, 0x63, 0x5f, 0xbd, 0xb4, 0x4a,
     0x5a, 0x0a, 0x63, 0xc3, 0x9f, 0x12, 0xaf, 0x30, 0xf9, 0x50, 0xa6,
     0xee, 0x5c, 0x97, 0x1b, 0xe1, 0x88, 0xe8, 0x9c, 0x40, 0x51},
    /* 48 bytes of ones */
    {0x80, 0xa7, 0x6a, 0x18, 0xac, 0xf8, 0xcb, 0x64, 0xfe, 0xc3, 0xa6,
     0x59, 0xff, 0xc4, 0xba, 0xb4, 0xa8, 0x7c, 0xd9, 0xa6, 0xfd, 0xe4,
     0xda, 0xb2, 0x16, 0x1a, 0x87, 0x51, 0xd1, 0x36, 0xc9, 0xd2},
    /* 64 bytes of ones */
    {0x86, 0x67, 0xe7, 0x18, 0x29, 0x4e, 0x9e, 0x0d, 0xf1, 0xd3, 0x06,
     0x00, 0xba, 0x3e, 0xeb, 0x20, 0x1f, 0x76, 0x4a, 0xad, 0x2d, 0xad,
     0x72, 0x74, 0x86, 0x43, 0xe4, 0xa2, 0x85, 0xe1, 0xd1, 0xf7},
};

bool sp_attest_development_key(struct sp_view key)
{
    uint8_t digest[32];
    if (sp_crypto_hash(SP_SHA256, &key, 1, digest) != SP_OK) {
        return true; /* not known to be a good one */
    }
    bool found = false;
    for (size_t i = 0; i < sizeof(development_keys) / sizeof(development_keys[0]); i++) {
        found = sp_ct_equal(digest, development_keys[i], sizeof(digest)) || found;
    }
    sp_wipe(digest, sizeof(digest));
    return found;
}

enum sp_err sp_attest_ueid(struct sp_view iak, uint8_t *out)
{
    uint8_t once[32];
    SP_TRY(sp_crypto_hash(SP_SHA256, &iak, 1, once));
    const struct sp_view inner = SP_VIEW_ARRAY(once);
    uint8_t twice[32];
    enum sp_err err = sp_crypto_hash(SP_SHA256, &inner, 1, twice);
    sp_wipe(once, sizeof(once)); /* for a long key this is the effective HMAC key */
    if (err == SP_OK) {
        struct sp_writer w;
        sp_writer_init(&w, out, SP_ATTEST_UEID_LEN);
        sp_write_u8(&w, 0x01);
        sp_write_view(&w, SP_VIEW_ARRAY(twice));
    }
    return err;
}

/* What the checks look at. */
struct appraisal {
    const struct sp_attest_policy *policy;
    struct sp_cose_message message;
    struct sp_attest_claims *claims;
    struct sp_attest_verdict *verdict;
};

static bool refuse(struct appraisal *a, enum sp_attest_check check, const char *text)
{
    sp_attest_decide(a->verdict, check, SP_VIEW_LIT(""), text);
    return false;
}

static bool check_algorithm(struct appraisal *a)
{
    int64_t algorithm = a->message.protected_header.algorithm;
    size_t len = sp_cose_hmac_len(algorithm);
    if (len == 0) {
        return refuse(a, SP_ATTEST_ALGORITHM, "not HMAC 256/256, 384/384 or 512/512");
    }
    if (algorithm != (int64_t)a->policy->algorithm) {
        return refuse(a, SP_ATTEST_ALGORITHM, "not the one of this device");
    }
    if (a->message.tag.len != len) {
        return refuse(a, SP_ATTEST_ALGORITHM, "the tag has not its full length");
    }
    return true;
}

static bool check_key(struct appraisal *a)
{
    struct sp_view key = a->policy->key.bytes;
    if (!a->policy->allow_development_key && key.len != 0 && sp_attest_development_key(key)) {
        return refuse(a, SP_ATTEST_KEY, "a published development key");
    }
    return true;
}

static bool check_mac(struct appraisal *a)
{
    enum sp_err err = sp_cose_mac0_verify(&a->message, (enum sp_cose_algorithm)a->policy->algorithm,
                                          &a->policy->key, (struct sp_view){NULL, 0});
    if (err != SP_OK) {
        return refuse(a, SP_ATTEST_MAC, err == SP_ERR_UNTRUSTED ? "wrong" : "can't be computed");
    }
    return true;
}

static bool check_claims(struct appraisal *a)
{
    return sp_attest_read_claims(a->message.content, a->claims, a->verdict);
}

static bool check_profile(struct appraisal *a)
{
    if (a->claims->profile == SP_ATTEST_PROFILE_UNKNOWN) {
        return refuse(a, SP_ATTEST_PROFILE, "unknown, or not that of the labels");
    }
    return true;
}

static bool equal_secret(struct sp_view a, struct sp_view b)
{
    return a.len == b.len && sp_ct_equal(a.ptr, b.ptr, a.len);
}

static bool check_nonce(struct appraisal *a)
{
    if (!equal_secret(a->claims->nonce, a->policy->challenge)) {
        return refuse(a, SP_ATTEST_NONCE, "not the challenge of this connection");
    }
    return true;
}

static bool check_instance_id(struct appraisal *a)
{
    struct sp_view enrolled = a->policy->instance_id;
    if (enrolled.len != 0 && !sp_view_equal(a->claims->instance_id, enrolled)) {
        return refuse(a, SP_ATTEST_INSTANCE_ID, "not that of this device");
    }
    return true;
}

static bool check_client_id(struct appraisal *a)
{
    if (a->claims->client_id >= 0) { /* RFC 9783, 4.1.2: negative = from the non-secure world */
        return refuse(a, SP_ATTEST_CLIENT_ID, "not of the non-secure world");
    }
    return true;
}

static bool check_lifecycle(struct appraisal *a)
{
    unsigned state = a->claims->lifecycle >> 8;
    bool secured = state == 0x30 && (a->policy->lifecycles & SP_ATTEST_LIFECYCLE_SECURED) != 0;
    bool debug = state == 0x40 && (a->policy->lifecycles & SP_ATTEST_LIFECYCLE_DEBUG) != 0;
    if (!secured && !debug) {
        return refuse(a, SP_ATTEST_LIFECYCLE, sp_attest_lifecycle_name(a->claims->lifecycle));
    }
    return true;
}

static bool reference_applies(const struct appraisal *a, const struct sp_attest_reference *set)
{
    return sp_view_equal(set->implementation_id, a->claims->implementation_id);
}

static bool check_implementation_id(struct appraisal *a)
{
    if (a->policy->any_software) {
        return true;
    }
    for (size_t i = 0; i < a->policy->reference_count; i++) {
        if (reference_applies(a, &a->policy->references[i])) {
            return true;
        }
    }
    return refuse(a, SP_ATTEST_IMPLEMENTATION_ID, "no reference values for it");
}

static bool entry_matches(const struct sp_attest_reference_component *entry,
                          const struct sp_attest_component *component)
{
    return sp_view_equal(entry->type, component->type) &&
           sp_view_equal(entry->value, component->value) &&
           (entry->signer_id.len == 0 || sp_view_equal(entry->signer_id, component->signer_id)) &&
           (entry->version.len == 0 || sp_view_equal(entry->version, component->version));
}

static bool set_knows(const struct sp_attest_reference *set,
                      const struct sp_attest_component *component)
{
    for (size_t i = 0; i < set->component_count; i++) {
        if (entry_matches(&set->components[i], component)) {
            return true;
        }
    }
    return false;
}

static bool token_has_type(const struct sp_attest_claims *claims, struct sp_view type)
{
    for (size_t i = 0; i < claims->component_count; i++) {
        if (sp_view_equal(claims->components[i].type, type)) {
            return true;
        }
    }
    return false;
}

static bool set_matches(const struct sp_attest_reference *set,
                        const struct sp_attest_claims *claims)
{
    for (size_t i = 0; i < claims->component_count; i++) {
        if (!set_knows(set, &claims->components[i])) {
            return false;
        }
    }
    for (size_t i = 0; i < set->component_count; i++) {
        if (!token_has_type(claims, set->components[i].type)) {
            return false;
        }
    }
    return true;
}

static bool some_type_twice(const struct sp_attest_claims *claims)
{
    for (size_t i = 1; i < claims->component_count; i++) {
        for (size_t j = 0; j < i; j++) {
            if (sp_view_equal(claims->components[i].type, claims->components[j].type)) {
                return true;
            }
        }
    }
    return false;
}

/* No set matches: name the first component that none of them knows, if that is why. */
static bool refuse_software(struct appraisal *a)
{
    for (size_t i = 0; i < a->claims->component_count; i++) {
        const struct sp_attest_component *component = &a->claims->components[i];
        bool known = false;
        for (size_t j = 0; j < a->policy->reference_count && !known; j++) {
            const struct sp_attest_reference *set = &a->policy->references[j];
            known = reference_applies(a, set) && set_knows(set, component);
        }
        if (!known) {
            sp_attest_decide(a->verdict, SP_ATTEST_SOFTWARE, sp_view_first(component->type, 32),
                             ": not a reference value");
            return false;
        }
    }
    return refuse(a, SP_ATTEST_SOFTWARE, "not all of one reference set");
}

static bool check_software(struct appraisal *a)
{
    if (a->claims->no_software) {
        return a->policy->allow_no_software || refuse(a, SP_ATTEST_SOFTWARE, "no measurements");
    }
    if (some_type_twice(a->claims)) {
        return refuse(a, SP_ATTEST_SOFTWARE, "a type twice");
    }
    if (a->policy->any_software) {
        return true;
    }
    for (size_t i = 0; i < a->policy->reference_count; i++) {
        const struct sp_attest_reference *set = &a->policy->references[i];
        if (reference_applies(a, set) && set_matches(set, a->claims)) {
            return true;
        }
    }
    return refuse_software(a);
}

void sp_attest_appraise(struct sp_view token, const struct sp_attest_policy *policy,
                        struct sp_attest_claims *claims, struct sp_attest_verdict *verdict)
{
    static bool (*const checks[])(struct appraisal *) = {
        check_algorithm,   check_key,
        check_mac,         check_claims,
        check_profile,     check_nonce,
        check_instance_id, check_client_id,
        check_lifecycle,   check_implementation_id,
        check_software,
    };
    struct sp_attest_claims own;
    struct appraisal a = {
        .policy = policy, .claims = claims != NULL ? claims : &own, .verdict = verdict};
    if (!sp_attest_open(token, &a.message, verdict)) {
        return;
    }
    for (size_t i = 0; i < sizeof(checks) / sizeof(checks[0]); i++) {
        if (!checks[i](&a)) {
            return;
        }
    }
    sp_attest_decide(verdict, SP_ATTEST_OK, SP_VIEW_LIT(""), "");
}
