/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file PSA attestation tokens under a symmetric key: decode, appraise, encode.
 *
 * The envelope is COSE_Mac0 (RFC 9052), the claims are those of three profiles: PSA_IOT_PROFILE_1,
 * http://arm.com/psa/2.0.0 and tag:psacertified.org,2023:psa#tfm (RFC 9783). Roles as in RFC 9334: the
 * device is the Attester, the gateway is Verifier and Relying Party.
 */
#ifndef SP_LIBS_ATTEST_ATTEST_H
#define SP_LIBS_ATTEST_ATTEST_H

#include "libs/base/bytes.h"
#include "libs/cose/crypto.h"

#define SP_ATTEST_COMPONENTS_MAX 16U
#define SP_ATTEST_UEID_LEN       33U
#define SP_ATTEST_DETAIL_MAX     96U

/** The checks of docs/protocol.md 3.4, in the order they are made; the names are API. */
#define SP_ATTEST_CHECK_MAP(X)                \
    X(OK, "ok")                               \
    X(SIZE, "size")                           \
    X(FORM, "form")                           \
    X(ALGORITHM, "algorithm")                 \
    X(KEY, "key")                             \
    X(MAC, "mac")                             \
    X(CLAIMS, "claims")                       \
    X(PROFILE, "profile")                     \
    X(NONCE, "nonce")                         \
    X(INSTANCE_ID, "instance-id")             \
    X(CLIENT_ID, "client-id")                 \
    X(LIFECYCLE, "lifecycle")                 \
    X(IMPLEMENTATION_ID, "implementation-id") \
    X(SOFTWARE, "software")                   \
    X(TIMEOUT, "timeout")

enum sp_attest_check {
#define X(name, text) SP_ATTEST_##name,
    SP_ATTEST_CHECK_MAP(X)
#undef X
        SP_ATTEST_CHECK_COUNT
};

const char *sp_attest_check_name(enum sp_attest_check check);

enum sp_attest_profile {
    SP_ATTEST_PROFILE_UNKNOWN,
    SP_ATTEST_PROFILE_IOT_1,     /**< PSA_IOT_PROFILE_1 */
    SP_ATTEST_PROFILE_PSA_2_0_0, /**< http://arm.com/psa/2.0.0 */
    SP_ATTEST_PROFILE_RFC9783,   /**< tag:psacertified.org,2023:psa#tfm */
};

const char *sp_attest_profile_name(enum sp_attest_profile profile);

/** HMAC with SHA-256, -384 or -512, full length: COSE algorithms 5, 6, 7. */
enum sp_attest_algorithm { SP_ATTEST_HMAC256 = 5, SP_ATTEST_HMAC384 = 6, SP_ATTEST_HMAC512 = 7 };

struct sp_attest_component {
    struct sp_view type;        /**< text; empty when absent */
    struct sp_view value;       /**< 32, 48 or 64 bytes */
    struct sp_view signer_id;   /**< 32, 48 or 64 bytes; empty when absent */
    struct sp_view version;     /**< text; empty when absent */
    struct sp_view description; /**< text; empty when absent */
};

/** The claims, borrowed from the token. Absent optional claims are empty views. 1.4 KiB (64 bits), 0.7 KiB (32 bits). */
struct sp_attest_claims {
    enum sp_attest_profile profile;
    struct sp_view profile_text; /**< as in the token; empty when it has none */
    struct sp_view nonce;
    struct sp_view instance_id;
    struct sp_view implementation_id;
    struct sp_view boot_seed;
    struct sp_view certification_reference;
    struct sp_view verification_service;
    int32_t client_id;
    uint16_t lifecycle;
    bool no_software; /**< the token says that it has no measurements (PSA_IOT_PROFILE_1 only) */
    size_t component_count;
    struct sp_attest_component components[SP_ATTEST_COMPONENTS_MAX];
};

/** A reference entry for one component: empty signer_id or version = any. */
struct sp_attest_reference_component {
    struct sp_view type;
    struct sp_view value;
    struct sp_view signer_id;
    struct sp_view version;
};

/** One accepted set of software for one implementation id. */
struct sp_attest_reference {
    struct sp_view implementation_id;
    const struct sp_attest_reference_component *components;
    size_t component_count;
};

#define SP_ATTEST_LIFECYCLE_SECURED 1U /**< 0x3000..0x30FF */
#define SP_ATTEST_LIFECYCLE_DEBUG   2U /**< 0x4000..0x40FF, non-PSA-RoT debug */

/** What a token is held against. All borrowed. */
struct sp_attest_policy {
    struct sp_crypto_key key;           /**< the device's IAK */
    enum sp_attest_algorithm algorithm; /**< the one pinned for the device */
    struct sp_view challenge;           /**< expected nonce claim */
    struct sp_view instance_id;         /**< enrolled UEID; empty = not checked */
    unsigned lifecycles;                /**< SP_ATTEST_LIFECYCLE_* bits */
    bool allow_development_key;         /**< skip the check `key` */
    bool allow_no_software;             /**< accept a token without measurements */
    bool any_software; /**< skip reference values (token verify without a registry) */
    const struct sp_attest_reference *references;
    size_t reference_count;
};

/** The outcome: SP_ATTEST_OK, or the first check that failed and why. */
struct sp_attest_verdict {
    enum sp_attest_check check;
    char detail[SP_ATTEST_DETAIL_MAX]; /**< printable ASCII, names no expected value */
};

/**
 * Hold a token against a policy: every check of docs/protocol.md 3.4 but `timeout`, in that order.
 *
 * Nothing behind a wrong MAC is looked at: a payload that is not one well-formed map is named `form`, but only
 * after the MAC held. Heads longer than needed are tolerated (RFC 9783, 5.1), but not in the tag.
 * Uses 1.6 KiB of stack on a Cortex-M33 with the crypto library's own to come.
 *
 * @param[out] claims  Filled when the verdict is SP_ATTEST_OK or a check after `claims` failed; may be NULL.
 * @param[out] verdict Always filled.
 */
void sp_attest_appraise(struct sp_view token, const struct sp_attest_policy *policy,
                        struct sp_attest_claims *claims, struct sp_attest_verdict *verdict);

/** Decode without any key: size, form and claims only, for `token show`; the profile may be SP_ATTEST_PROFILE_UNKNOWN. */
void sp_attest_decode(struct sp_view token, struct sp_attest_claims *claims,
                      struct sp_attest_verdict *verdict);

/**
 * Make a token, as the device's attestation service does.
 *
 * @param[in]  claims  What to say; profile picks labels and order (TF-M's).
 * @param[in]  key     The IAK.
 * @param[out] out     `cap` bytes for the token; 600 are enough for one component.
 * @retval SP_ERR_SPACE    It does not fit.
 * @retval SP_ERR_ARGUMENT A claim has an impossible size, or the profile needs one that is absent.
 * Uses 1.5 KiB of stack on a Cortex-M33 with the crypto library's own to come.
 */
SP_MUST_CHECK enum sp_err sp_attest_encode(const struct sp_attest_claims *claims,
                                           enum sp_attest_algorithm algorithm,
                                           const struct sp_crypto_key *key, uint8_t *out,
                                           size_t cap, size_t *out_len);

/** UEID of a symmetric key: 01 || SHA-256(SHA-256(IAK)) (RFC 9783 A.2). `out` has 33 bytes. */
SP_MUST_CHECK enum sp_err sp_attest_ueid(struct sp_view iak, uint8_t *out);

/** The key is one that is published (TF-M's dummy IAK, RFC 9783's example, …); compared by hash. */
bool sp_attest_development_key(struct sp_view key);

/** `secured`, `non-psa-rot-debug`, …; `invalid` outside the ranges of the PSA security model. */
const char *sp_attest_lifecycle_name(uint16_t lifecycle);

#endif
