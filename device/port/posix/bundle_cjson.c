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

static bool parse_app_key(const cJSON *item, struct sp_bundle *out)
{
    static const char *const kinds[] = {"record", "group"};
    static const char *const algorithms[] = {"ccm", "mac"};
    struct sp_appkeys_preshared *key = &out->app_keys[out->app_key_count];
    uint8_t *bytes = out->app_key_bytes[out->app_key_count];
    const cJSON *epoch = cJSON_GetObjectItemCaseSensitive(item, "epoch");
    size_t kind = 0;
    size_t algorithm = 0;
    size_t len = 0;
    if (!cJSON_IsNumber(epoch) || epoch->valuedouble < 1 || epoch->valuedouble > UINT32_MAX ||
        !parse_choice(text_of(item, "kind"), kinds, 2, &kind) ||
        !parse_choice(text_of(item, "algorithm"), algorithms, 2, &algorithm) ||
        !sp_view_equal(text_of(item, "group"), sp_view(out->group, out->group_len)) ||
        !parse_key(item, "key", 1, bytes, SP_RECORD_GROUP_KEY, &len)) {
        return false;
    }
    *key = (struct sp_appkeys_preshared){
        .epoch = (uint32_t)epoch->valuedouble,
        .algorithm = algorithm == 0 ? SP_COSE_AES_CCM_16_64_128 : SP_COSE_HMAC256,
        .kind = kind == 0 ? SP_GRANT_RECORD_KEY : SP_GRANT_GROUP_KEY,
        .key = sp_view(bytes, len),
    };
    out->app_key_count++;
    return true;
}

/* All of it may be missing: then records are clear. */
static bool parse_app_keys(const cJSON *root, struct sp_bundle *out)
{
    const cJSON *item = NULL;
    const cJSON *list = cJSON_GetObjectItemCaseSensitive(root, "app_keys");
    struct sp_view group = text_of(root, "group");
    if (cJSON_GetObjectItemCaseSensitive(root, "kek") == NULL) {
        return true;
    }
    if (!parse_key(root, "kek", SP_GRANT_KEK_LEN, out->kek, sizeof(out->kek), &out->kek_len) ||
        (group.len > 0 && !sp_record_group_valid(group))) {
        return false;
    }
    sp_copy(out->group, group.ptr, group.len);
    out->group_len = group.len;
    cJSON_ArrayForEach(item, list)
    {
        if (out->app_key_count == SP_APPKEYS_SLOTS || !parse_app_key(item, out)) {
            return false;
        }
    }
    return true;
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
    if (!parse_app_keys(root, out)) {
        *why = "kek is not 48 bytes in hex, or group or app_keys are not what they should be";
        return SP_ERR_MALFORMED;
    }
    return SP_OK;
}

enum sp_err sp_bundle_parse(struct sp_view text, struct sp_bundle *out, const char **why)
{
    *out = (struct sp_bundle){0};
    cJSON_Hooks hooks = {.malloc_fn = wiping_malloc, .free_fn = wiping_free};
    cJSON_InitHooks(&hooks);
    cJSON *root = cJSON_ParseWithLength((const char *)text.ptr, text.len);
    enum sp_err err = parse_fields(root, out, why);
    cJSON_Delete(root);
    if (err != SP_OK) {
        sp_wipe(out, sizeof(*out));
    }
    return err;
}
