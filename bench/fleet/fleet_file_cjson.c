/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/fleet_file.h"

#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define NEW_PSK_LEN 32U

static enum sp_err write_member(const struct sp_fleet_batch *batch, unsigned number, FILE *fleet,
                                FILE *psk_file)
{
    uint8_t keys[NEW_PSK_LEN + SP_ATTESTER_KEY_LEN];
    char id[SP_LINK_IDENTITY_MAX + 1U];
    char psk[2 * NEW_PSK_LEN + 1];
    char iak[2 * SP_ATTESTER_KEY_LEN + 1];
    int len = snprintf(id, sizeof(id), "%s-%u", batch->prefix, number);
    if (len < 0 || (size_t)len >= sizeof(id) || !sp_link_identity_valid(sp_view_str(id))) {
        return SP_ERR_ARGUMENT;
    }
    if (getrandom(keys, sizeof(keys), 0) != (ssize_t)sizeof(keys)) {
        return SP_ERR_IO;
    }
    sp_hex_format(sp_view(keys, NEW_PSK_LEN), psk);
    sp_hex_format(sp_view(keys + NEW_PSK_LEN, SP_ATTESTER_KEY_LEN), iak);
    bool written = fprintf(fleet,
                           "{\"id\":\"%s\",\"role\":\"%s\",\"attestation\":\"%s\","
                           "\"binding\":\"tls\",\"psk\":\"%s\",\"iak\":\"%s\"}\n",
                           id, batch->role, batch->attestation, psk, iak) > 0;
    if (written && psk_file != NULL) {
        written = fprintf(psk_file, "%s:%s\n", id, psk) > 0;
    }
    sp_wipe(keys, sizeof(keys));
    sp_wipe(psk, sizeof(psk));
    sp_wipe(iak, sizeof(iak));
    return written ? SP_OK : SP_ERR_IO;
}

enum sp_err sp_fleet_batch_write(const struct sp_fleet_batch *batch, FILE *fleet, FILE *psk_file)
{
    for (unsigned i = 0; i < batch->count; i++) {
        SP_TRY(write_member(batch, i, fleet, psk_file));
    }
    return SP_OK;
}

static const char *text_of(const cJSON *object, const char *name, const char *otherwise)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? item->valuestring : otherwise;
}

static enum sp_err member_parse(const cJSON *object, struct sp_fleet_member *member)
{
    uint8_t iak[SP_ATTESTER_KEY_LEN];
    size_t iak_len = 0;
    const char *id = text_of(object, "id", "");
    const char *role = text_of(object, "role", "sensor");
    if (!sp_link_identity_valid(sp_view_str(id)) || strlen(role) >= sizeof(member->role)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(member->id, id, strlen(id) + 1);
    memcpy(member->role, role, strlen(role) + 1);
    member->attests = strcmp(text_of(object, "attestation", "required"), "none") != 0;
    member->binding = strcmp(text_of(object, "binding", "tls"), "none") == 0 ? SP_LINK_BINDING_NONE
                                                                             : SP_LINK_BINDING_TLS;
    SP_TRY(sp_hex_parse(sp_view_str(text_of(object, "psk", "")), member->psk, sizeof(member->psk),
                        &member->psk_len));
    SP_TRY(sp_hex_parse(sp_view_str(text_of(object, "iak", "")), iak, sizeof(iak), &iak_len));
    return sp_attester_init(&member->attester, sp_view(iak, iak_len));
}

static enum sp_err line_parse(const char *line, struct sp_fleet_roll *roll)
{
    struct sp_fleet_member *more =
        realloc(roll->members, (roll->count + 1) * sizeof(*roll->members));
    if (more == NULL) {
        return SP_ERR_NOMEM;
    }
    roll->members = more;
    memset(&more[roll->count], 0, sizeof(more[0]));
    cJSON *object = cJSON_Parse(line);
    enum sp_err err = object == NULL ? SP_ERR_MALFORMED : member_parse(object, &more[roll->count]);
    cJSON_Delete(object);
    roll->count += err == SP_OK;
    return err;
}

enum sp_err sp_fleet_roll_load(const char *file, struct sp_fleet_roll *roll)
{
    *roll = (struct sp_fleet_roll){0};
    FILE *in = fopen(file, "r");
    if (in == NULL) {
        fprintf(stderr, "sallyport-fleet: %s cannot be read; make it with `keys`\n", file);
        return SP_ERR_IO;
    }
    char line[1024];
    enum sp_err err = SP_OK;
    for (unsigned number = 1; err == SP_OK && fgets(line, sizeof(line), in) != NULL; number++) {
        err = line_parse(line, roll);
        if (err != SP_OK) {
            fprintf(stderr, "%s:%u: no device of a fleet file\n", file, number);
        }
    }
    sp_wipe(line, sizeof(line));
    fclose(in);
    if (err != SP_OK) {
        sp_fleet_roll_deinit(roll);
    }
    return err;
}

void sp_fleet_roll_deinit(struct sp_fleet_roll *roll)
{
    if (roll->members != NULL) {
        sp_wipe(roll->members, roll->count * sizeof(*roll->members));
    }
    free(roll->members);
    *roll = (struct sp_fleet_roll){0};
}
