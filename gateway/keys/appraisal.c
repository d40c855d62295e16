/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/appraisal.h"

#include <stdlib.h>

/* One reference as the registry keeps it, and views of it as libs/attest wants them. */
struct kept {
    struct kept *next;
    struct sp_reference reference;
    struct sp_attest_reference_component components[SP_ATTEST_COMPONENTS_MAX];
};

struct sp_reference_set {
    struct kept *kept;
    size_t count;
    struct sp_attest_reference *views; /* count of them */
};

static void make_views(struct kept *k)
{
    for (size_t i = 0; i < k->reference.component_count; i++) {
        const struct sp_reference_component *from = &k->reference.components[i];
        k->components[i] = (struct sp_attest_reference_component){
            .type = sp_view_str(from->type),
            .value = sp_view(from->value, from->value_len),
            .signer_id = sp_view(from->signer_id, from->signer_id_len),
            .version = sp_view_str(from->version),
        };
    }
}

static enum sp_err keep(void *arg, const struct sp_reference *reference)
{
    struct sp_reference_set *set = arg;
    struct kept *k = malloc(sizeof(*k));
    if (k == NULL) {
        return SP_ERR_NOMEM;
    }
    k->reference = *reference;
    make_views(k);
    k->next = set->kept;
    set->kept = k;
    set->count++;
    return SP_OK;
}

static enum sp_err list_views(struct sp_reference_set *set)
{
    set->views = calloc(set->count + 1, sizeof(*set->views));
    if (set->views == NULL) {
        return SP_ERR_NOMEM;
    }
    size_t i = set->count;
    for (const struct kept *k = set->kept; k != NULL; k = k->next) {
        set->views[--i] = (struct sp_attest_reference){
            .implementation_id =
                sp_view(k->reference.implementation_id, k->reference.implementation_id_len),
            .components = k->components,
            .component_count = k->reference.component_count,
        };
    }
    return SP_OK;
}

enum sp_err sp_reference_set_load(struct sp_registry *reg, struct sp_reference_set **out)
{
    *out = NULL;
    struct sp_reference_set *set = calloc(1, sizeof(*set));
    if (set == NULL) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = sp_registry_reference_each(reg, keep, set);
    if (err == SP_OK) {
        err = list_views(set);
    }
    if (err != SP_OK) {
        sp_reference_set_destroy(set);
        return err;
    }
    *out = set;
    return SP_OK;
}

void sp_reference_set_destroy(struct sp_reference_set *set)
{
    if (set == NULL) {
        return;
    }
    while (set->kept != NULL) {
        struct kept *k = set->kept;
        set->kept = k->next;
        free(k);
    }
    free(set->views);
    free(set);
}

size_t sp_reference_set_count(const struct sp_reference_set *set)
{
    return set->count;
}

void sp_appraise(const struct sp_appraisal *a, struct sp_attest_verdict *verdict)
{
    const struct sp_keys_device *d = a->device;
    struct sp_attest_policy policy = {
        .key = {.bytes = sp_view(d->iak, d->iak_len), .midstates = &d->iak_midstates},
        .allow_development_key = true, /* the registry has none: sp_rules_check_secrets() */
        .algorithm = d->row.iak_algorithm,
        .challenge = a->challenge,
        .instance_id = SP_VIEW_ARRAY(d->row.instance_id),
        .lifecycles = a->lifecycles,
        .allow_no_software = a->allow_no_software || d->row.allow_no_software,
        .references = a->references->views,
        .reference_count = a->references->count,
    };
    sp_attest_appraise(a->token, &policy, NULL, verdict);
}
