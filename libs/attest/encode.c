/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/attest/attest_internal.h"
#include "libs/cbor/cbor.h"

static void write_optional(struct sp_writer *w, int64_t label, struct sp_view value, bool text)
{
    if (value.len == 0) {
        return;
    }
    sp_cbor_write_int(w, label);
    if (text) {
        sp_cbor_write_text(w, value);
    } else {
        sp_cbor_write_bytes(w, value);
    }
}

/* The order of MCUboot's boot records, which TF-M passes on. */
static void write_component(struct sp_writer *w, const struct sp_attest_component *component)
{
    size_t fields = 1U + (component->type.len != 0) + (component->version.len != 0) +
                    (component->signer_id.len != 0) + (component->description.len != 0);
    sp_cbor_write_map(w, fields);
    write_optional(w, 1, component->type, true);
    write_optional(w, 4, component->version, true);
    write_optional(w, 5, component->signer_id, false);
    write_optional(w, 6, component->description, true);
    write_optional(w, 2, component->value, false);
}

static bool component_fits(const struct sp_attest_component *component,
                           enum sp_attest_profile profile)
{
    bool signer_absent = component->signer_id.len == 0;
    bool signer_fits =
        signer_absent ? profile != SP_ATTEST_PROFILE_RFC9783
                      : sp_attest_length_fits(component->signer_id.len, sp_attest_digest_lengths);
    return signer_fits && sp_attest_length_fits(component->value.len, sp_attest_digest_lengths);
}

static bool software_fits(const struct sp_attest_claims *claims)
{
    if (claims->no_software) {
        return claims->profile == SP_ATTEST_PROFILE_IOT_1 && claims->component_count == 0;
    }
    if (claims->component_count == 0 || claims->component_count > SP_ATTEST_COMPONENTS_MAX) {
        return false;
    }
    for (size_t i = 0; i < claims->component_count; i++) {
        if (!component_fits(&claims->components[i], claims->profile)) {
            return false;
        }
    }
    return true;
}

static struct sp_view string_of(struct sp_attest_claims *claims, enum sp_attest_claim claim)
{
    const struct sp_view *slot = sp_attest_claim_slot(claims, claim);
    return slot == NULL ? (struct sp_view){NULL, 0} : *slot;
}

static bool string_fits(struct sp_attest_claims *claims, enum sp_attest_claim claim)
{
    const struct sp_attest_rule *rule = &sp_attest_rules[claim];
    struct sp_view value = string_of(claims, claim);
    return value.len == 0
               ? !rule->required[claims->profile]
               : sp_attest_length_fits(value.len, sp_attest_rule_lengths(rule, claims->profile));
}

static bool is_string(enum sp_attest_claim claim)
{
    enum sp_attest_kind kind = sp_attest_rules[claim].kind;
    return kind == SP_ATTEST_KIND_BYTES || kind == SP_ATTEST_KIND_TEXT;
}

static bool claims_fit(struct sp_attest_claims *claims)
{
    if (claims->profile == SP_ATTEST_PROFILE_UNKNOWN || !software_fits(claims)) {
        return false;
    }
    for (unsigned i = 0; i < SP_ATTEST_CLAIM_COUNT; i++) {
        enum sp_attest_claim claim = (enum sp_attest_claim)i;
        if (is_string(claim) && !string_fits(claims, claim)) {
            return false;
        }
    }
    return true;
}

static bool present(struct sp_attest_claims *claims, enum sp_attest_claim claim)
{
    if (claim == SP_ATTEST_CLAIM_COMPONENTS) {
        return !claims->no_software;
    }
    if (claim == SP_ATTEST_CLAIM_NO_SOFTWARE) {
        return claims->no_software;
    }
    return !is_string(claim) || string_of(claims, claim).len != 0;
}

static void write_claim(struct sp_writer *w, struct sp_attest_claims *claims,
                        enum sp_attest_claim claim)
{
    const struct sp_attest_rule *rule = &sp_attest_rules[claim];
    sp_cbor_write_int(w, rule->labels[claims->profile]);
    switch (rule->kind) {
    case SP_ATTEST_KIND_CLIENT_ID:
        sp_cbor_write_int(w, claims->client_id);
        break;
    case SP_ATTEST_KIND_LIFECYCLE:
        sp_cbor_write_int(w, claims->lifecycle);
        break;
    case SP_ATTEST_KIND_NO_SOFTWARE:
        sp_cbor_write_int(w, 1);
        break;
    case SP_ATTEST_KIND_COMPONENTS:
        sp_cbor_write_array(w, claims->component_count);
        for (size_t i = 0; i < claims->component_count; i++) {
            write_component(w, &claims->components[i]);
        }
        break;
    case SP_ATTEST_KIND_TEXT:
        sp_cbor_write_text(w, string_of(claims, claim));
        break;
    case SP_ATTEST_KIND_BYTES:
    default:
        sp_cbor_write_bytes(w, string_of(claims, claim));
        break;
    }
}

static void write_claims(struct sp_writer *w, struct sp_attest_claims *claims)
{
    size_t count = 0;
    for (unsigned i = 0; i < SP_ATTEST_CLAIM_COUNT; i++) {
        count += present(claims, (enum sp_attest_claim)i);
    }
    sp_cbor_write_map(w, count);
    for (unsigned i = 0; i < SP_ATTEST_CLAIM_COUNT; i++) {
        if (present(claims, (enum sp_attest_claim)i)) {
            write_claim(w, claims, (enum sp_attest_claim)i);
        }
    }
}

enum sp_err sp_attest_encode(const struct sp_attest_claims *claims,
                             enum sp_attest_algorithm algorithm, const struct sp_crypto_key *key,
                             uint8_t *out, size_t cap, size_t *out_len)
{
    enum sp_cose_algorithm cose_algorithm = (enum sp_cose_algorithm)algorithm;
    struct sp_attest_claims said = *claims;
    said.profile_text = sp_view_str(sp_attest_profile_name(said.profile));
    if (!claims_fit(&said) || sp_cose_hmac_len(cose_algorithm) == 0) {
        return SP_ERR_ARGUMENT;
    }
    /* The payload's length stands before it: written once to learn it, then in its place. */
    struct sp_writer w;
    sp_writer_init(&w, out, cap);
    write_claims(&w, &said);
    size_t payload_len = sp_writer_view(&w).len;
    SP_TRY(w.err);
    sp_writer_init(&w, out, cap);
    sp_cose_mac0_begin(&w, cose_algorithm, payload_len);
    write_claims(&w, &said);
    SP_TRY(sp_cose_mac0_end(&w, cose_algorithm, key, (struct sp_view){NULL, 0}, payload_len));
    *out_len = sp_writer_view(&w).len;
    return SP_OK;
}
