/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* `sallyport record open`: what a consumer behind the cloud does with records that the gateway forwards unread. */
#include <cjson/cJSON.h>
#include <string.h>
#include <time.h>

#include "libs/record/record.h"
#include "libs/senml/senml.h"
#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/options.h"

static const char help[] =
    "sallyport record: protected sensor records\n"
    "\n"
    "  sallyport record open --keys FILE --topic TOPIC RECORD|-   check a record and print what is "
    "in it\n"
    "\n"
    "  --keys FILE     the group's keys, as `sallyport group export` wrote them\n"
    "  --topic TOPIC   what the device published it under, dt/DEVICE/...: the user property "
    "`topic` of\n"
    "                  the message in the cloud\n"
    "  --raw           print the clear record as it is (SenML in CBOR), not as JSON\n"
    "\n"
    "RECORD is a file with the payload, raw or in hex. No gateway is needed.\n"
    "Exit status: 0 it is what the device sealed; 1 it is not, or no key fits; 2 wrong usage.\n";

#define KEYS_MAX   65536U
#define RECORD_MAX (2U * (SP_RECORD_PLAIN_MAX + SP_RECORD_OVERHEAD) + 2U)
#define LINE_MAX   SP_SENML_JSON_MAX(SP_RECORD_PLAIN_MAX)

struct group_key {
    enum sp_cose_algorithm algorithm;
    uint8_t bytes[SP_RECORD_GROUP_KEY];
};

static int refuse(const char *why)
{
    (void)fprintf(stderr, "sallyport record: refused: %s\n", why);
    return SP_EXIT_FAILED;
}

/* ---- keys ---- */

static struct sp_view text_of(const cJSON *object, const char *name)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    return cJSON_IsString(item) ? sp_view_str(item->valuestring) : (struct sp_view){NULL, 0};
}

static bool take_key(const cJSON *root, const struct sp_record_head *head, struct group_key *out)
{
    const cJSON *epoch = NULL;
    struct sp_view algorithm = text_of(root, "algorithm");
    if (!sp_view_equal(text_of(root, "group"), head->group)) {
        return false;
    }
    out->algorithm = sp_view_equal(algorithm, SP_VIEW_LIT("ccm"))   ? SP_COSE_AES_CCM_16_64_128
                     : sp_view_equal(algorithm, SP_VIEW_LIT("mac")) ? SP_COSE_HMAC256
                                                                    : SP_COSE_NO_ALGORITHM;
    cJSON_ArrayForEach(epoch, cJSON_GetObjectItemCaseSensitive(root, "epochs"))
    {
        const cJSON *number = cJSON_GetObjectItemCaseSensitive(epoch, "epoch");
        size_t len = 0;
        if (cJSON_IsNumber(number) && number->valuedouble == (double)head->epoch) {
            return sp_hex_parse(text_of(epoch, "key"), out->bytes, sizeof(out->bytes), &len) ==
                       SP_OK &&
                   len == sizeof(out->bytes);
        }
    }
    return false;
}

static bool find_key(const char *file, const struct sp_record_head *head, struct group_key *out)
{
    static char text[KEYS_MAX];
    FILE *keys = fopen(file, "re");
    if (keys == NULL) {
        return false;
    }
    size_t len = fread(text, 1, sizeof(text) - 1, keys);
    (void)fclose(keys);
    cJSON *root = cJSON_ParseWithLength(text, len);
    bool found = root != NULL && take_key(root, head, out);
    cJSON_Delete(root);
    sp_wipe(text, sizeof(text));
    return found;
}

/* ---- records ---- */

static int64_t wall_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static int print(struct sp_view plain, struct sp_view device, const struct sp_record_head *head)
{
    static char line[LINE_MAX];
    struct sp_senml_record record;
    struct sp_writer w;
    const struct sp_senml_context context = {
        .device = device,
        .accepted_ms = wall_ms(),
        .protection = head->algorithm == SP_COSE_HMAC256 ? "mac" : "sealed",
        .has_sequence = true,
        .sequence = head->counter,
    };
    if (sp_senml_parse(plain, device, &record) != SP_OK) {
        return refuse("it opens, but holds no sensor record; --raw shows it");
    }
    sp_writer_init(&w, line, sizeof(line));
    sp_senml_to_line(&record, &context, &w);
    (void)printf("%.*s\n", (int)w.used, line);
    return SP_EXIT_DONE;
}

static int open_record(const char *keys, struct sp_view topic, struct sp_view payload, bool raw)
{
    uint8_t plain[SP_RECORD_PLAIN_MAX];
    uint8_t record_key[SP_RECORD_KEY_MAX];
    struct group_key group = {0};
    struct sp_record_head head;
    struct sp_view device = sp_record_device(topic);
    size_t len = 0;
    if (device.len == 0) {
        return sp_tool_error(SP_EXIT_USAGE, "record", "--topic is dt/DEVICE/...");
    }
    if (sp_record_peek(payload, &head) != SP_OK) {
        return refuse("form: not a protected record");
    }
    if (!find_key(keys, &head, &group)) {
        return refuse("key: none in that file for the record's group and epoch");
    }
    const struct sp_crypto_key from = {.bytes = SP_VIEW_ARRAY(group.bytes)};
    enum sp_err err = sp_record_key(&from, group.algorithm, device, record_key);
    if (err == SP_OK) {
        const struct sp_crypto_key key = {
            .bytes = sp_view(record_key, sp_record_key_len(group.algorithm))};
        err = sp_record_unprotect(payload, group.algorithm, &key, topic, &head, plain, &len);
    }
    sp_wipe(record_key, sizeof(record_key));
    sp_wipe(&group, sizeof(group));
    if (err != SP_OK) {
        return refuse("open: it was changed, or sealed by another device or for another topic");
    }
    if (raw) {
        return fwrite(plain, 1, len, stdout) == len ? SP_EXIT_DONE : SP_EXIT_FAILED;
    }
    return print(sp_view(plain, len), device, &head);
}

int sp_cmd_record(int argc, char **argv)
{
    const char *keys = NULL;
    const char *topic = NULL;
    const char *file = NULL;
    bool raw = false;
    const struct sp_option options[] = {{.name = "--keys", .value = &keys},
                                        {.name = "--topic", .value = &topic},
                                        {.name = "--raw", .on = &raw},
                                        {.name = NULL}};
    uint8_t payload[RECORD_MAX];
    size_t len = 0;
    bool known = argc > 1 && strcmp(argv[1], "open") == 0;
    if (known) {
        argv[1] = argv[0];
    }
    int status = sp_options_read(known ? argc - 1 : argc, known ? argv + 1 : argv, options, NULL,
                                 help, &file);
    if (status >= 0) {
        return status;
    }
    if (!known || keys == NULL || topic == NULL || file == NULL) {
        return sp_tool_error(SP_EXIT_USAGE, "record",
                             "say open --keys FILE --topic TOPIC RECORD; see --help");
    }
    if (sp_bytes_read("record", file, payload, sizeof(payload), &len) != SP_OK) {
        return SP_EXIT_FAILED;
    }
    return open_record(keys, sp_view_str(topic), sp_view(payload, len), raw);
}
