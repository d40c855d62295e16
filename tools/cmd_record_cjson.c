/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* `sallyport record open`: what a consumer behind the cloud does with records that the gateway forwards unread. */
#include <cjson/cJSON.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "libs/link/link.h"
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
    "  sallyport record open --keys FILE --lines FILE|-           the same with many, and without "
    "repeats\n"
    "\n"
    "  --keys FILE     the group's keys, as `sallyport group export` wrote them; read anew for "
    "each record\n"
    "  --topic TOPIC   what the device published it under, dt/DEVICE/...: the user property "
    "`topic` of\n"
    "                  the message in the cloud\n"
    "  --raw           print the clear record as it is (SenML in CBOR), not as JSON\n"
    "  --lines FILE    one record a line, in the order of arrival: TOPIC, a blank, the payload in "
    "hex\n"
    "\n"
    "RECORD is a file with the payload, raw or in hex. No gateway is needed.\n"
    "Of an end-to-end group nobody but the consumer can notice a repeat: with --lines a record is "
    "refused\n"
    "whose counter is not above the highest that was opened of its device under that key. That is "
    "known as\n"
    "long as the command runs; who starts it anew compares `sequence` with the highest of before.\n"
    "Exit status: 0 it is what the device sealed (with --lines: all of them, and new); 1 it is "
    "not, "
    "or no\n"
    "key fits; 2 wrong usage.\n";

#define KEYS_MAX   65536U
#define RECORD_MAX (2U * (SP_RECORD_PLAIN_MAX + SP_RECORD_OVERHEAD) + 2U)
#define LINE_MAX   SP_SENML_JSON_MAX(SP_RECORD_PLAIN_MAX)
#define INPUT_MAX  (RECORD_MAX + 1024U) /* a line: topic, blank, payload in hex */
#define MARKS_MAX  65536U               /* devices, each under each key */

struct group_key {
    enum sp_cose_algorithm algorithm;
    uint8_t bytes[SP_RECORD_GROUP_KEY];
};

/* One record: what was said about it, and what is in it. */
struct opened {
    struct sp_view topic;
    struct sp_view payload;
    struct sp_view device;
    struct sp_record_head head; /* borrows the payload */
    uint8_t plain[SP_RECORD_PLAIN_MAX];
    size_t len;
};

/* The highest counter that was opened. */
struct mark {
    uint64_t counter;
    uint32_t epoch;
    char device[SP_LINK_IDENTITY_MAX + 1];
    char group[SP_RECORD_GROUP_MAX + 1];
};

struct marks {
    struct mark *all; /* MARKS_MAX */
    size_t count;
};

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

/* Why it cannot be written, or NULL. */
static const char *print(const struct opened *o)
{
    static char line[LINE_MAX];
    struct sp_senml_record record;
    struct sp_writer w;
    const struct sp_senml_context context = {
        .device = o->device,
        .accepted_ms = wall_ms(),
        .protection = o->head.algorithm == SP_COSE_HMAC256 ? "mac" : "sealed",
        .has_sequence = true,
        .sequence = o->head.counter,
    };
    if (sp_senml_parse(sp_view(o->plain, o->len), o->device, &record) != SP_OK) {
        return "it opens, but holds no sensor record; --raw shows it";
    }
    sp_writer_init(&w, line, sizeof(line));
    sp_senml_to_line(&record, &context, &w);
    (void)printf("%.*s\n", (int)w.used, line);
    return NULL;
}

/* Why it does not open, or NULL. */
static const char *open_record(const char *keys, struct opened *o)
{
    uint8_t record_key[SP_RECORD_KEY_MAX];
    struct group_key group = {0};
    o->device = sp_record_device(o->topic);
    if (o->device.len == 0) {
        return "form: the topic is not dt/DEVICE/...";
    }
    if (sp_record_peek(o->payload, &o->head) != SP_OK) {
        return "form: not a protected record";
    }
    if (!find_key(keys, &o->head, &group)) {
        return "key: none in that file for the record's group and epoch";
    }
    const struct sp_crypto_key from = {.bytes = SP_VIEW_ARRAY(group.bytes)};
    enum sp_err err = sp_record_key(&from, group.algorithm, o->device, record_key);
    if (err == SP_OK) {
        const struct sp_crypto_key key = {
            .bytes = sp_view(record_key, sp_record_key_len(group.algorithm))};
        err = sp_record_unprotect(o->payload, group.algorithm, &key, o->topic, &o->head, o->plain,
                                  &o->len);
    }
    sp_wipe(record_key, sizeof(record_key));
    sp_wipe(&group, sizeof(group));
    return err == SP_OK ? NULL
                        : "open: it was changed, or sealed by another device or for another topic";
}

/* ---- many ---- */

static struct mark *mark_of(struct marks *marks, const struct opened *o)
{
    for (size_t i = 0; i < marks->count; i++) {
        struct mark *m = &marks->all[i];
        if (m->epoch == o->head.epoch && sp_view_equal(sp_view_str(m->device), o->device) &&
            sp_view_equal(sp_view_str(m->group), o->head.group)) {
            return m;
        }
    }
    if (marks->count == MARKS_MAX) {
        return NULL;
    }
    struct mark *m = &marks->all[marks->count++];
    *m = (struct mark){.epoch = o->head.epoch};
    sp_copy(m->device, o->device.ptr, o->device.len);
    sp_copy(m->group, o->head.group.ptr, o->head.group.len);
    return m;
}

/* Only what opens comes here, so nobody fills the table but devices. */
static const char *hold_against(struct marks *marks, const struct opened *o)
{
    struct mark *m = mark_of(marks, o);
    if (m == NULL) {
        return "repeat: of too many devices to know";
    }
    if (o->head.counter <= m->counter) {
        return "repeat: its counter is not above the highest of its device";
    }
    m->counter = o->head.counter;
    return NULL;
}

static const char *open_line(const char *keys, char *line, struct marks *marks)
{
    static struct opened o;
    uint8_t payload[RECORD_MAX];
    size_t len = 0;
    char *blank = strchr(line, ' ');
    if (blank == NULL) {
        return "form: not TOPIC, a blank, the payload in hex";
    }
    *blank = '\0';
    if (sp_hex_parse(sp_view_str(blank + 1), payload, sizeof(payload), &len) != SP_OK) {
        return "form: the payload is not hex, or too long";
    }
    o.topic = sp_view_str(line);
    o.payload = sp_view(payload, len);
    const char *why = open_record(keys, &o);
    if (why == NULL) {
        why = hold_against(marks, &o);
    }
    if (why == NULL) {
        why = print(&o);
    }
    sp_wipe(o.plain, sizeof(o.plain));
    return why;
}

/* Without its end; false: there is no other. A line that is too long is empty. */
static bool next_line(FILE *from, char *line, size_t cap)
{
    if (fgets(line, (int)cap, from) == NULL) {
        return false;
    }
    size_t len = strcspn(line, "\r\n");
    if (line[len] == '\0' && len == cap - 1) {
        for (int c = 0; c != EOF && c != '\n';) {
            c = fgetc(from);
        }
        len = 0;
    }
    line[len] = '\0';
    return true;
}

static int open_lines(const char *keys, const char *file)
{
    static char line[INPUT_MAX];
    bool is_stdin = strcmp(file, "-") == 0;
    struct marks marks = {.all = calloc(MARKS_MAX, sizeof(*marks.all))};
    FILE *from = is_stdin ? stdin : fopen(file, "re");
    int status = SP_EXIT_DONE;
    if (from == NULL || marks.all == NULL) {
        free(marks.all);
        return sp_tool_error(SP_EXIT_FAILED, "record", "cannot read %s", file);
    }
    for (unsigned long number = 1; next_line(from, line, sizeof(line)); number++) {
        const char *why = open_line(keys, line, &marks);
        if (why != NULL) {
            status = sp_tool_error(SP_EXIT_FAILED, "record", "line %lu: refused: %s", number, why);
        }
        (void)fflush(stdout);
    }
    if (!is_stdin) {
        (void)fclose(from);
    }
    free(marks.all);
    return status;
}

/* ---- one ---- */

static int open_one(const char *keys, const char *topic, const char *file, bool raw)
{
    static struct opened o;
    uint8_t payload[RECORD_MAX];
    size_t len = 0;
    if (sp_record_device(sp_view_str(topic)).len == 0) {
        return sp_tool_error(SP_EXIT_USAGE, "record", "--topic is dt/DEVICE/...");
    }
    if (sp_bytes_read("record", file, payload, sizeof(payload), &len) != SP_OK) {
        return SP_EXIT_FAILED;
    }
    o.topic = sp_view_str(topic);
    o.payload = sp_view(payload, len);
    const char *why = open_record(keys, &o);
    if (why == NULL && !raw) {
        why = print(&o);
    }
    bool written = why == NULL && (!raw || fwrite(o.plain, 1, o.len, stdout) == o.len);
    sp_wipe(o.plain, sizeof(o.plain));
    if (why != NULL) {
        return sp_tool_error(SP_EXIT_FAILED, "record", "refused: %s", why);
    }
    return written ? SP_EXIT_DONE : SP_EXIT_FAILED;
}

int sp_cmd_record(int argc, char **argv)
{
    const char *keys = NULL;
    const char *topic = NULL;
    const char *lines = NULL;
    const char *file = NULL;
    bool raw = false;
    const struct sp_option options[] = {{.name = "--keys", .value = &keys},
                                        {.name = "--topic", .value = &topic},
                                        {.name = "--lines", .value = &lines},
                                        {.name = "--raw", .on = &raw},
                                        {.name = NULL}};
    bool known = argc > 1 && strcmp(argv[1], "open") == 0;
    if (known) {
        argv[1] = argv[0];
    }
    int status = sp_options_read(known ? argc - 1 : argc, known ? argv + 1 : argv, options, NULL,
                                 help, &file);
    if (status >= 0) {
        return status;
    }
    if (known && keys != NULL && lines != NULL && topic == NULL && file == NULL && !raw) {
        return open_lines(keys, lines);
    }
    if (!known || keys == NULL || topic == NULL || file == NULL || lines != NULL) {
        return sp_tool_error(SP_EXIT_USAGE, "record",
                             "say open --keys FILE --topic TOPIC RECORD, or open --keys FILE "
                             "--lines FILE; see --help");
    }
    return open_one(keys, topic, file, raw);
}
