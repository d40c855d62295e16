/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/rules.h"

#include <string.h>

struct name {
    const char *text;
    uint32_t number;
};

/* Tables end with text NULL. */
static const struct name mode_names[] = {{"required", SP_ATTESTATION_REQUIRED},
                                         {"optional", SP_ATTESTATION_OPTIONAL},
                                         {"none", SP_ATTESTATION_NONE},
                                         {NULL, 0}};
static const struct name binding_names[] = {
    {"tls", SP_LINK_BINDING_TLS}, {"none", SP_LINK_BINDING_NONE}, {NULL, 0}};
static const struct name records_names[] = {
    {"any", SP_RECORDS_ANY}, {"mac", SP_RECORDS_MAC}, {"sealed", SP_RECORDS_SEALED}, {NULL, 0}};
static const struct name algorithm_names[] = {{"hmac256", SP_ATTEST_HMAC256},
                                              {"hmac384", SP_ATTEST_HMAC384},
                                              {"hmac512", SP_ATTEST_HMAC512},
                                              {NULL, 0}};
static const struct name group_mode_names[] = {
    {"open", SP_GROUP_OPEN}, {"end-to-end", SP_GROUP_END_TO_END}, {NULL, 0}};
static const struct name group_algorithm_names[] = {{"ccm", 10}, {"mac", 5}, {NULL, 0}};
static const struct name suites_names[] = {{"profile-small", SP_SUITES_PROFILE_SMALL},
                                           {"forward-secret", SP_SUITES_FORWARD_SECRET},
                                           {"all", SP_SUITES_ALL},
                                           {"null-encryption", SP_SUITES_NULL_ENCRYPTION},
                                           {NULL, 0}};
#define SUITES_KNOWN \
    (SP_SUITES_PROFILE_SMALL | SP_SUITES_FORWARD_SECRET | SP_SUITES_ALL | SP_SUITES_NULL_ENCRYPTION)

static const char *name_of(const struct name *names, uint32_t number)
{
    for (; names->text != NULL; names++) {
        if (names->number == number) {
            return names->text;
        }
    }
    return NULL;
}

static bool number_of(const struct name *names, struct sp_view text, uint32_t *out)
{
    for (; names->text != NULL; names++) {
        if (sp_view_equal(sp_view_str(names->text), text)) {
            *out = names->number;
            return true;
        }
    }
    return false;
}

static bool byte_of(const struct name *names, const char *text, uint8_t *out)
{
    uint32_t number = 0;
    if (!number_of(names, sp_view_str(text), &number)) {
        return false;
    }
    *out = (uint8_t)number;
    return true;
}

const char *sp_attestation_mode_name(unsigned mode)
{
    return name_of(mode_names, mode);
}

const char *sp_binding_name(unsigned binding)
{
    return name_of(binding_names, binding);
}

const char *sp_records_name(unsigned records)
{
    return name_of(records_names, records);
}

const char *sp_algorithm_name(unsigned algorithm)
{
    return name_of(algorithm_names, algorithm);
}

const char *sp_suites_name(uint32_t bit)
{
    return name_of(suites_names, bit);
}

bool sp_attestation_mode_parse(const char *name, uint8_t *out)
{
    return byte_of(mode_names, name, out);
}

bool sp_binding_parse(const char *name, uint8_t *out)
{
    return byte_of(binding_names, name, out);
}

const char *sp_group_mode_name(unsigned mode)
{
    return name_of(group_mode_names, mode);
}

const char *sp_group_algorithm_name(unsigned algorithm)
{
    return name_of(group_algorithm_names, algorithm);
}

bool sp_group_mode_parse(const char *name, uint8_t *out)
{
    return byte_of(group_mode_names, name, out);
}

bool sp_group_algorithm_parse(const char *name, uint8_t *out)
{
    return byte_of(group_algorithm_names, name, out);
}

bool sp_records_parse(const char *name, uint8_t *out)
{
    return byte_of(records_names, name, out);
}

bool sp_role_holds_group_key(const char *role)
{
    return strcmp(role, "monitor") == 0;
}

bool sp_algorithm_parse(const char *name, enum sp_attest_algorithm *out)
{
    uint8_t number = 0;
    if (!byte_of(algorithm_names, name, &number)) {
        return false;
    }
    *out = (enum sp_attest_algorithm)number;
    return true;
}

bool sp_suites_parse(const char *names, uint32_t *out)
{
    uint32_t sum = 0;
    for (;;) {
        size_t len = strcspn(names, ",");
        uint32_t bit = 0;
        if (!number_of(suites_names, sp_view(names, len), &bit)) {
            return false;
        }
        sum |= bit;
        if (names[len] == '\0') {
            *out = sum;
            return true;
        }
        names += len + 1;
    }
}

size_t sp_iak_length(enum sp_attest_algorithm algorithm)
{
    switch (algorithm) {
    case SP_ATTEST_HMAC256:
        return 32;
    case SP_ATTEST_HMAC384:
        return 48;
    case SP_ATTEST_HMAC512:
        return 64;
    default:
        return 0;
    }
}

enum sp_err sp_device_secrets_make(enum sp_attest_algorithm algorithm,
                                   struct sp_device_secrets *secrets)
{
    if (secrets->psk_len == 0) {
        SP_TRY(sp_vault_random(secrets->psk, SP_PSK_NEW));
        secrets->psk_len = SP_PSK_NEW;
    }
    if (secrets->iak_len == 0) {
        SP_TRY(sp_vault_random(secrets->iak, sp_iak_length(algorithm)));
        secrets->iak_len = sp_iak_length(algorithm);
    }
    return sp_vault_random(secrets->kek, sizeof(secrets->kek));
}

static bool terminated(const char *text, size_t cap)
{
    return memchr(text, '\0', cap) != NULL;
}

static enum sp_err refuse(struct sp_fault *fault, const char *why)
{
    sp_fault_set(fault, "%s", why);
    return SP_ERR_ARGUMENT;
}

enum sp_err sp_rules_check_device(const struct sp_device *device, struct sp_fault *fault)
{
    const struct sp_device_row *row = &device->row;
    if (!terminated(device->id, sizeof(device->id)) ||
        !sp_link_identity_valid(sp_view_str(device->id))) {
        return refuse(fault, "a device id is 1 to 64 letters, digits, '.', '_' and '-', and begins "
                             "with a letter or digit");
    }
    if (!terminated(row->role, sizeof(row->role)) || row->role[0] == '\0' ||
        !sp_utf8_valid(sp_view_str(row->role))) {
        return refuse(fault, "a role name is 1 to 31 bytes of text");
    }
    if (!terminated(device->group, sizeof(device->group)) ||
        (device->group[0] != '\0' && !sp_link_identity_valid(sp_view_str(device->group)))) {
        return refuse(fault, "a group name is 1 to 32 letters, digits, '.', '_' and '-'");
    }
    if (sp_attestation_mode_name(row->attestation) == NULL ||
        sp_binding_name(row->binding) == NULL || sp_records_name(row->records) == NULL ||
        (row->suites & ~SUITES_KNOWN) != 0 || sp_iak_length(device->iak_algorithm) == 0) {
        return refuse(fault,
                      "attestation, binding, records, suites or algorithm has no such value");
    }
    return SP_OK;
}

enum sp_err sp_rules_check_secrets(const struct sp_device_secrets *secrets,
                                   enum sp_attest_algorithm algorithm, struct sp_fault *fault)
{
    if (secrets->psk_len < SP_PSK_MIN || secrets->psk_len > SP_PSK_MAX) {
        sp_fault_set(fault, "a PSK has %u to %u bytes; this one has %zu", SP_PSK_MIN, SP_PSK_MAX,
                     secrets->psk_len);
        return SP_ERR_DENIED;
    }
    if (secrets->iak_len != sp_iak_length(algorithm)) {
        sp_fault_set(fault, "an attestation key for %s has %zu bytes; this one has %zu",
                     sp_algorithm_name(algorithm), sp_iak_length(algorithm), secrets->iak_len);
        return SP_ERR_DENIED;
    }
    if (sp_attest_development_key(sp_view(secrets->psk, secrets->psk_len)) ||
        sp_attest_development_key(sp_view(secrets->iak, secrets->iak_len))) {
        sp_fault_set(fault, "that is a published development key; give the device one of its own");
        return SP_ERR_DENIED;
    }
    return SP_OK;
}

static bool digest_length(size_t len)
{
    return len == 32 || len == 48 || len == 64;
}

static bool component_valid(const struct sp_reference_component *c)
{
    return terminated(c->type, sizeof(c->type)) && terminated(c->version, sizeof(c->version)) &&
           (c->type[0] == '\0' || sp_utf8_valid(sp_view_str(c->type))) &&
           (c->version[0] == '\0' || sp_utf8_valid(sp_view_str(c->version))) &&
           digest_length(c->value_len) &&
           (c->signer_id_len == 0 || digest_length(c->signer_id_len));
}

enum sp_err sp_rules_check_reference(const struct sp_reference *reference, struct sp_fault *fault)
{
    if (reference->implementation_id_len < 32 ||
        reference->implementation_id_len > SP_REFERENCE_BYTES_MAX) {
        return refuse(fault, "an implementation id has 32 to 64 bytes");
    }
    if (reference->component_count == 0 || reference->component_count > SP_ATTEST_COMPONENTS_MAX) {
        return refuse(fault, "a reference has 1 to 16 components");
    }
    for (size_t i = 0; i < reference->component_count; i++) {
        if (!component_valid(&reference->components[i])) {
            return refuse(fault,
                          "a component has a type and a version of at most 63 bytes of text, "
                          "and a value and a signer of 32, 48 or 64 bytes");
        }
        for (size_t j = 0; j < i; j++) {
            if (strcmp(reference->components[i].type, reference->components[j].type) == 0) {
                return refuse(fault, "a reference names each component type once");
            }
        }
    }
    return SP_OK;
}
