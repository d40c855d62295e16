/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/device_line.h"

#include <cjson/cJSON.h>
#include <stddef.h>
#include <string.h>

static const struct {
    const char *name;
    size_t offset;
} words[] = {
    {"id", offsetof(struct sp_device_line, id)},
    {"role", offsetof(struct sp_device_line, role)},
    {"attestation", offsetof(struct sp_device_line, attestation)},
    {"binding", offsetof(struct sp_device_line, binding)},
    {"iak_algorithm", offsetof(struct sp_device_line, iak_algorithm)},
    {"suites", offsetof(struct sp_device_line, suites)},
    {"group", offsetof(struct sp_device_line, group)},
    {"records", offsetof(struct sp_device_line, records)},
};

static bool take_word(const cJSON *item, char *out)
{
    size_t len = strlen(item->valuestring);
    if (len >= SP_DEVICE_WORD_MAX) {
        return false;
    }
    sp_copy(out, item->valuestring, len + 1);
    return true;
}

static bool take_item(const cJSON *item, struct sp_device_line *out)
{
    if (!cJSON_IsString(item)) {
        return false;
    }
    struct sp_device_secrets *s = &out->secrets;
    if (strcmp(item->string, "psk") == 0) {
        return sp_hex_parse(sp_view_str(item->valuestring), s->psk, sizeof(s->psk), &s->psk_len) ==
               SP_OK;
    }
    if (strcmp(item->string, "iak") == 0) {
        return sp_hex_parse(sp_view_str(item->valuestring), s->iak, sizeof(s->iak), &s->iak_len) ==
               SP_OK;
    }
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(item->string, words[i].name) == 0) {
            return take_word(item, (char *)out + words[i].offset);
        }
    }
    return false;
}

static void wipe_texts(const cJSON *object)
{
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, object)
    {
        if (cJSON_IsString(item)) {
            sp_wipe(item->valuestring, strlen(item->valuestring));
        }
    }
}

static enum sp_err take_object(const cJSON *object, struct sp_device_line *out,
                               struct sp_fault *fault)
{
    if (!cJSON_IsObject(object)) {
        sp_fault_set(fault, "not a JSON object");
        return SP_ERR_MALFORMED;
    }
    const cJSON *item = NULL;
    cJSON_ArrayForEach(item, object)
    {
        if (!take_item(item, out)) {
            sp_fault_set(fault,
                         "a member that is unknown, or no text, or no hex, or too long; known "
                         "are id, role, attestation, binding, suites, group, records, psk, iak, "
                         "iak_algorithm");
            return SP_ERR_MALFORMED;
        }
    }
    return SP_OK;
}

enum sp_err sp_device_line_parse(const char *text, struct sp_device_line *out,
                                 struct sp_fault *fault)
{
    struct sp_device_line line = {0};
    cJSON *object = cJSON_Parse(text);
    enum sp_err err = take_object(object, &line, fault);
    wipe_texts(object);
    cJSON_Delete(object);
    if (err == SP_OK) {
        *out = line;
    }
    sp_wipe(&line, sizeof(line));
    return err;
}
