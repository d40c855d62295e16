/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/attest/attest_internal.h"
#include "libs/cbor/cbor.h"

#define COMPONENT_FIELDS_MAX 16U

/* RFC 9783, 4.4.1; 3 is reserved. */
enum {
    FIELD_TYPE = 1,
    FIELD_VALUE = 2,
    FIELD_VERSION = 4,
    FIELD_SIGNER = 5,
    FIELD_DESCRIPTION = 6
};

/* Which label families occur in a token. */
#define FAMILY_OLD 1U
#define FAMILY_NEW 2U

struct claims_reader {
    struct sp_cbor_reader in; /* the pairs of the payload's map; known to be well formed */
    size_t pairs;
    unsigned seen; /* bit per enum sp_attest_claim */
    struct sp_attest_claims *claims;
};

static bool fail(struct sp_attest_verdict *verdict, enum sp_attest_check check, const char *subject,
                 const char *text)
{
    sp_attest_decide(verdict, check, sp_view_str(subject), text);
    return false;
}

static const char *form_fault(enum sp_err err)
{
    if (err == SP_ERR_UNSUPPORTED) {
        return "a header has crit";
    }
    return err == SP_ERR_LIMIT ? "nested too deep, or too many headers"
                               : "not a COSE_Mac0 message with tag 17";
}

bool sp_attest_open(struct sp_view token, struct sp_cose_message *message,
                    struct sp_attest_verdict *verdict)
{
    if (token.len == 0 || token.len > SP_ATTEST_TOKEN_MAX) {
        return fail(verdict, SP_ATTEST_SIZE, "", token.len == 0 ? "empty" : "above 4096 bytes");
    }
    enum sp_err err = sp_cose_mac0_decode(token, SP_COSE_TAGGED, message);
    if (err != SP_OK) {
        return fail(verdict, SP_ATTEST_FORM, "", form_fault(err));
    }
    if (message->protected_header.seen != SP_COSE_SEEN_ALGORITHM) {
        return fail(verdict, SP_ATTEST_FORM, "", "the protected header is not just the algorithm");
    }
    return true;
}

static bool profile_has_label(enum sp_attest_profile profile, int64_t label)
{
    for (unsigned i = 0; i < SP_ATTEST_CLAIM_COUNT; i++) {
        int32_t own = sp_attest_rules[i].labels[profile];
        if (own != 0 && own == label) {
            return true;
        }
    }
    return false;
}

static unsigned families_of(struct sp_cbor_label label)
{
    if (label.is_text) {
        return 0;
    }
    bool in_new = profile_has_label(SP_ATTEST_PROFILE_PSA_2_0_0, label.number) ||
                  profile_has_label(SP_ATTEST_PROFILE_RFC9783, label.number);
    bool in_old = profile_has_label(SP_ATTEST_PROFILE_IOT_1, label.number);
    return (in_old ? FAMILY_OLD : 0) | (in_new ? FAMILY_NEW : 0);
}

static enum sp_attest_profile profile_of(struct sp_view text)
{
    for (int i = SP_ATTEST_PROFILE_IOT_1; i <= SP_ATTEST_PROFILE_RFC9783; i++) {
        enum sp_attest_profile profile = (enum sp_attest_profile)i;
        if (sp_view_equal(text, sp_view_str(sp_attest_profile_name(profile)))) {
            return profile;
        }
    }
    return SP_ATTEST_PROFILE_UNKNOWN;
}

/* Two profiles share their labels but one: the profile has to be known before the claims are read. */
static unsigned look_through(struct claims_reader pairs, struct sp_view *profile_text)
{
    unsigned families = 0;
    int32_t profile_label =
        sp_attest_rules[SP_ATTEST_CLAIM_PROFILE].labels[SP_ATTEST_PROFILE_RFC9783];
    for (size_t i = 0; i < pairs.pairs; i++) {
        struct sp_cbor_label label = sp_cbor_read_label(&pairs.in);
        families |= families_of(label);
        bool is_profile = !label.is_text && label.number == profile_label;
        if (is_profile && sp_cbor_peek(&pairs.in) == SP_CBOR_TEXT) {
            *profile_text = sp_cbor_read_text(&pairs.in);
        } else {
            (void)sp_cbor_skip(&pairs.in, SP_CBOR_DEPTH_MAX);
        }
    }
    return families;
}

static bool read_digest(struct sp_cbor_reader *in, struct sp_view *out)
{
    *out = sp_cbor_read_bytes(in);
    return sp_attest_length_fits(out->len, sp_attest_digest_lengths);
}

static bool read_component_field(struct sp_cbor_reader *in, struct sp_attest_component *out)
{
    struct sp_cbor_label label = sp_cbor_read_label(in);
    switch (label.is_text ? 0 : label.number) {
    case FIELD_TYPE:
        out->type = sp_cbor_read_text(in);
        break;
    case FIELD_VALUE:
        return read_digest(in, &out->value);
    case FIELD_VERSION:
        out->version = sp_cbor_read_text(in);
        break;
    case FIELD_SIGNER:
        return read_digest(in, &out->signer_id);
    case FIELD_DESCRIPTION:
        out->description = sp_cbor_read_text(in);
        break;
    default:
        (void)sp_cbor_skip(in, SP_CBOR_DEPTH_MAX);
        break;
    }
    return in->in.err == SP_OK;
}

static bool read_component(struct sp_cbor_reader *in, enum sp_attest_profile profile,
                           struct sp_attest_component *out)
{
    if (sp_cbor_check_map(in, COMPONENT_FIELDS_MAX, SP_CBOR_DEPTH_MAX) != SP_OK) {
        return false;
    }
    size_t fields = sp_cbor_read_map(in);
    for (size_t i = 0; i < fields; i++) {
        if (!read_component_field(in, out)) {
            return false;
        }
    }
    bool signer_missing = profile == SP_ATTEST_PROFILE_RFC9783 && out->signer_id.len == 0;
    return out->value.len != 0 && !signer_missing;
}

static bool read_components(struct sp_cbor_reader *in, struct sp_attest_claims *claims)
{
    size_t count = sp_cbor_read_array(in);
    if (count == 0 || count > SP_ATTEST_COMPONENTS_MAX) {
        return false;
    }
    for (size_t i = 0; i < count; i++) {
        if (!read_component(in, claims->profile, &claims->components[i])) {
            return false;
        }
    }
    claims->component_count = count;
    return true;
}

static bool read_client_id(struct sp_cbor_reader *in, struct sp_attest_claims *claims)
{
    int64_t value = sp_cbor_read_int(in);
    if (in->in.err != SP_OK || value < INT32_MIN || value > INT32_MAX) {
        return false;
    }
    claims->client_id = (int32_t)value;
    return true;
}

static bool read_lifecycle(struct sp_cbor_reader *in, struct sp_attest_claims *claims)
{
    uint64_t value = sp_cbor_read_uint(in);
    if (in->in.err != SP_OK || value > UINT16_MAX) {
        return false;
    }
    claims->lifecycle = (uint16_t)value;
    return true;
}

static bool read_string(struct claims_reader *r, enum sp_attest_claim claim)
{
    const struct sp_attest_rule *rule = &sp_attest_rules[claim];
    struct sp_view value =
        rule->kind == SP_ATTEST_KIND_TEXT ? sp_cbor_read_text(&r->in) : sp_cbor_read_bytes(&r->in);
    struct sp_view *slot = sp_attest_claim_slot(r->claims, claim);
    if (r->in.in.err != SP_OK || slot == NULL ||
        !sp_attest_length_fits(value.len, sp_attest_rule_lengths(rule, r->claims->profile))) {
        return false;
    }
    *slot = value;
    /* RFC 9783, 4.2.1: a UEID of type RAND. */
    return claim != SP_ATTEST_CLAIM_INSTANCE_ID || value.ptr[0] == 0x01;
}

static bool read_claim(struct claims_reader *r, enum sp_attest_claim claim)
{
    switch (sp_attest_rules[claim].kind) {
    case SP_ATTEST_KIND_CLIENT_ID:
        return read_client_id(&r->in, r->claims);
    case SP_ATTEST_KIND_LIFECYCLE:
        return read_lifecycle(&r->in, r->claims);
    case SP_ATTEST_KIND_COMPONENTS:
        return read_components(&r->in, r->claims);
    case SP_ATTEST_KIND_NO_SOFTWARE:
        r->claims->no_software = true;
        return sp_cbor_read_uint(&r->in) == 1;
    case SP_ATTEST_KIND_BYTES:
    case SP_ATTEST_KIND_TEXT:
    default:
        return read_string(r, claim);
    }
}

static enum sp_attest_claim claim_of(enum sp_attest_profile profile, struct sp_cbor_label label)
{
    for (unsigned i = 0; i < SP_ATTEST_CLAIM_COUNT; i++) {
        int32_t own = sp_attest_rules[i].labels[profile];
        if (!label.is_text && own != 0 && own == label.number) {
            return (enum sp_attest_claim)i;
        }
    }
    return SP_ATTEST_CLAIM_COUNT;
}

static bool read_all(struct claims_reader *r, struct sp_attest_verdict *verdict)
{
    for (size_t i = 0; i < r->pairs; i++) {
        struct sp_cbor_label label = sp_cbor_read_label(&r->in);
        enum sp_attest_claim claim = claim_of(r->claims->profile, label);
        if (claim == SP_ATTEST_CLAIM_COUNT) { /* RFC 9783, 5.1: unknown claims are no error */
            (void)sp_cbor_skip(&r->in, SP_CBOR_DEPTH_MAX);
        } else if (read_claim(r, claim)) {
            r->seen |= 1U << claim;
        } else {
            return fail(verdict, SP_ATTEST_CLAIMS, sp_attest_rules[claim].name,
                        ": wrong type, size or content");
        }
    }
    return true;
}

static bool none_missing(const struct claims_reader *r, struct sp_attest_verdict *verdict)
{
    enum sp_attest_profile profile = r->claims->profile;
    for (unsigned i = 0; i < SP_ATTEST_CLAIM_COUNT; i++) {
        if (sp_attest_rules[i].required[profile] && (r->seen & 1U << i) == 0) {
            return fail(verdict, SP_ATTEST_CLAIMS, sp_attest_rules[i].name, ": missing");
        }
    }
    bool has_components = (r->seen & 1U << SP_ATTEST_CLAIM_COMPONENTS) != 0;
    if (has_components == r->claims->no_software) {
        return fail(verdict, SP_ATTEST_CLAIMS, "software-components",
                    has_components ? ": present, and denied" : ": missing");
    }
    return true;
}

/* Open the payload's map; what the check `form` asks of it. */
static bool open_map(struct sp_view payload, struct claims_reader *r,
                     struct sp_attest_verdict *verdict)
{
    sp_cbor_reader_init(&r->in, payload, false);
    struct sp_cbor_reader whole = r->in;
    (void)sp_cbor_skip(&whole, SP_CBOR_DEPTH_MAX);
    if (sp_cbor_finish(&whole) != SP_OK || sp_cbor_peek(&r->in) != SP_CBOR_MAP) {
        return fail(verdict, SP_ATTEST_FORM, "", "the payload is not one well-formed map");
    }
    enum sp_err err = sp_cbor_check_map(&r->in, SP_ATTEST_CLAIMS_MAX, SP_CBOR_DEPTH_MAX);
    if (err != SP_OK) {
        return fail(verdict, SP_ATTEST_CLAIMS, "",
                    err == SP_ERR_LIMIT ? "too many" : "a label twice, or of a strange type");
    }
    r->pairs = sp_cbor_read_map(&r->in);
    return true;
}

static bool read_claims(struct sp_view payload, struct sp_attest_claims *claims,
                        struct sp_attest_verdict *verdict)
{
    struct claims_reader r = {.claims = claims};
    if (!open_map(payload, &r, verdict)) {
        return false;
    }
    struct sp_view new_profile = {NULL, 0};
    unsigned families = look_through(r, &new_profile);
    if (families == (FAMILY_OLD | FAMILY_NEW)) {
        return fail(verdict, SP_ATTEST_CLAIMS, "", "labels of two families");
    }
    enum sp_attest_profile said = profile_of(new_profile);
    if (families == FAMILY_NEW) {
        claims->profile = said == SP_ATTEST_PROFILE_PSA_2_0_0 ? said : SP_ATTEST_PROFILE_RFC9783;
    } else {
        claims->profile = SP_ATTEST_PROFILE_IOT_1;
    }
    if (!read_all(&r, verdict) || !none_missing(&r, verdict)) {
        return false;
    }
    /* From here on `profile` is what the token says, if it fits its labels. */
    bool silent = (r.seen & 1U << SP_ATTEST_CLAIM_PROFILE) == 0;
    if (!silent && profile_of(claims->profile_text) != claims->profile) {
        claims->profile = SP_ATTEST_PROFILE_UNKNOWN;
    }
    return true;
}

bool sp_attest_read_claims(struct sp_view payload, struct sp_attest_claims *claims,
                           struct sp_attest_verdict *verdict)
{
    *claims = (struct sp_attest_claims){0};
    if (!read_claims(payload, claims, verdict)) {
        *claims = (struct sp_attest_claims){0};
        return false;
    }
    return true;
}

void sp_attest_decode(struct sp_view token, struct sp_attest_claims *claims,
                      struct sp_attest_verdict *verdict)
{
    struct sp_cose_message message;
    if (sp_attest_open(token, &message, verdict) &&
        sp_attest_read_claims(message.content, claims, verdict)) {
        sp_attest_decide(verdict, SP_ATTEST_OK, SP_VIEW_LIT(""), "");
    }
}
