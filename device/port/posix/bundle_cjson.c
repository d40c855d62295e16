/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/bundle_cjson.h"

#include "device/port/suites.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>

#define BUNDLE_VERSION 1

/* cJSON's copies of the secrets are wiped when it frees them: the size is kept in front of each block. */
static void *wiping_malloc(size_t size)
{
    size_t *block =
        size > SIZE_MAX - sizeof(size_t) * 2U ? NULL : malloc(size + sizeof(size_t) * 2U);
    if (block == NULL) {
        return NULL;
    }
    block[0] = size;
    return block + 2; /* keeps malloc's alignment */
}

static void wiping_free(void *ptr)
{
    if (ptr != NULL) {
        size_t *block = (size_t *)ptr - 2;
        sp_wipe(ptr, block[0]);
        free(block);
    }
}

static struct sp_view text_of(const cJSON *root, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, name);
    return cJSON_IsString(item) ? sp_view_str(item->valuestring) : (struct sp_view){0};
}

static bool parse_key(const cJSON *root, const char *name, size_t min, uint8_t *out, size_t cap,
                      size_t *len)
{
    return sp_hex_parse(text_of(root, name), out, cap, len) == SP_OK && *len >= min;
}

static bool parse_identity(const cJSON *root, struct sp_profile *out)
{
    struct sp_view device = text_of(root, "device_id");
    struct sp_view identity = text_of(root, "psk_identity");
    if (!sp_link_identity_valid(identity) || !sp_view_equal(device, identity)) {
        return false;
    }
    sp_copy(out->identity, identity.ptr, identity.len);
    out->identity_len = identity.len;
    return true;
}

/* A choice among names; `values` run from 0. */
static bool parse_choice(struct sp_view text, const char *const *names, size_t count, size_t *out)
{
    for (size_t i = 0; i < count; i++) {
        if (sp_view_equal(text, sp_view_str(names[i]))) {
            *out = i;
            return true;
        }
    }
    return false;
}

static bool parse_algorithm(const cJSON *root, enum sp_attest_algorithm *out)
{
    static const char *const names[] = {"hmac256", "hmac384", "hmac512"};
    size_t which = 0;
    if (!parse_choice(text_of(root, "iak_algorithm"), names, 3, &which)) {
        return false;
    }
    *out = (enum sp_attest_algorithm)(SP_ATTEST_HMAC256 + which);
    return true;
}

static bool parse_binding(const cJSON *root, enum sp_link_binding *out)
{
    static const char *const names[] = {"tls", "none"};
    size_t which = 0;
    if (!parse_choice(text_of(root, "binding"), names, 2, &which)) {
        return false;
    }
    *out = (enum sp_link_binding)which;
    return true;
}

static bool parse_role(const cJSON *root, enum sp_app_role *out)
{
    static const char *const names[] = {"sensor", "monitor"};
    size_t which = 0;
    if (!parse_choice(text_of(root, "role"), names, 2, &which)) {
        return false;
    }
    *out = (enum sp_app_role)which;
    return true;
}

/* A name, several with commas or as an array; none at all: the default set. */
static bool parse_suites(const cJSON *root, uint32_t *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(root, "suites");
    *out = 0;
    if (item == NULL || cJSON_IsNull(item) || (cJSON_IsArray(item) && item->child == NULL)) {
        return sp_device_suites_add(SP_VIEW_LIT("profile-small"), out);
    }
    if (!cJSON_IsArray(item)) {
        return cJSON_IsString(item) && sp_device_suites_add(sp_view_str(item->valuestring), out);
    }
    bool known = false;
    for (const cJSON *one = item->child; one != NULL; one = one->next) {
        known |= cJSON_IsString(one) && sp_device_suites_add(sp_view_str(one->valuestring), out);
    }
    return known;
}

static enum sp_err parse_fields(const cJSON *root, struct sp_bundle *out, const char **why)
{
    const cJSON *version = cJSON_GetObjectItemCaseSensitive(root, "version");
    if (!cJSON_IsNumber(version)) {
        *why = "it is not a JSON object with a version";
        return SP_ERR_MALFORMED;
    }
    if (version->valueint != BUNDLE_VERSION) {
        *why = "version is not 1";
        return SP_ERR_UNSUPPORTED;
    }
    if (!parse_identity(root, &out->profile)) {
        *why = "psk_identity is not an identity, or not the same as device_id";
        return SP_ERR_MALFORMED;
    }
    if (!parse_key(root, "psk", 16, out->psk, sizeof(out->psk), &out->psk_len)) {
        *why = "psk is not 16 to 64 bytes in hex";
        return SP_ERR_MALFORMED;
    }
    if (!parse_key(root, "iak", 32, out->iak, sizeof(out->iak), &out->iak_len) ||
        !parse_algorithm(root, &out->iak_algorithm)) {
        *why = "iak is not 32 to 64 bytes in hex, or iak_algorithm is none of hmac256, hmac384, "
               "hmac512";
        return SP_ERR_MALFORMED;
    }
    if (!parse_binding(root, &out->profile.binding)) {
        *why = "binding is neither tls nor none";
        return SP_ERR_MALFORMED;
    }
    if (!parse_role(root, &out->profile.role)) {
        *why = "role is neither sensor nor monitor: nothing else runs here";
        return SP_ERR_UNSUPPORTED;
    }
    if (!parse_suites(root, &out->profile.suites)) {
        *why = "suites names nothing that this device can speak";
        return SP_ERR_UNSUPPORTED;
    }
    return SP_OK;
}

enum sp_err sp_bundle_parse(struct sp_view text, struct sp_bundle *out, const char **why)
{
    struct sp_bundle bundle = {0};
    cJSON_Hooks hooks = {.malloc_fn = wiping_malloc, .free_fn = wiping_free};
    cJSON_InitHooks(&hooks);
    cJSON *root = cJSON_ParseWithLength((const char *)text.ptr, text.len);
    enum sp_err err = parse_fields(root, &bundle, why);
    cJSON_Delete(root);
    if (err == SP_OK) {
        *out = bundle;
    }
    sp_wipe(&bundle, sizeof(bundle));
    return err;
}
