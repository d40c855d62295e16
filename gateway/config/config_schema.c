/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The engine of the tables: one row per key says how a value is read, checked, stored, printed and freed. */
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/config/config_internal.h"

struct unit {
    const char *name;
    uint64_t factor;
};

/* Largest first: printing takes the first that divides. */
static const struct unit durations[] = {
    {"d", 86400000U}, {"h", 3600000U}, {"m", 60000U}, {"s", 1000U}, {"ms", 1U}};
static const struct unit sizes[] = {
    {"GiB", 1U << 30}, {"MiB", 1U << 20}, {"KiB", 1U << 10}, {"B", 1U}, {"", 1U}};
#define COUNT(table) (sizeof(table) / sizeof((table)[0]))

/* ---- words to values ---- */

/* Digits, then one of the units. */
static bool parse_amount(const char *text, const struct unit *units, size_t count, uint64_t *out)
{
    uint64_t value = 0;
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || digits > 18) {
        return false;
    }
    for (size_t i = 0; i < digits; i++) {
        value = value * 10U + (uint64_t)(text[i] - '0');
    }
    for (size_t i = 0; i < count; i++) {
        if (strcmp(text + digits, units[i].name) == 0) {
            return !__builtin_mul_overflow(value, units[i].factor, out);
        }
    }
    return false;
}

static void format_amount(char out[32], const struct unit *units, size_t count, uint64_t value)
{
    for (size_t i = 0; i < count; i++) {
        if (value % units[i].factor == 0 && (value != 0 || i + 1U == count)) {
            (void)snprintf(out, 32, "%llu%s", (unsigned long long)(value / units[i].factor),
                           units[i].name);
            return;
        }
    }
}

struct scale {
    const struct unit *units;
    size_t count;
    uint64_t factor; /* stored unit, in the smallest unit of the table */
    const char *what;
    const char *example;
};

static const struct unit plain[] = {{"", 1U}};
static const struct scale scale_number = {plain, COUNT(plain), 1U, "a whole number", "10"};
static const struct scale scale_seconds = {durations, COUNT(durations), 1000U,
                                           "a duration of whole seconds", "10s, 5m or 1h"};
static const struct scale scale_millis = {durations, COUNT(durations), 1U, "a duration",
                                          "500ms, 10s or 1h"};
static const struct scale scale_size = {sizes, COUNT(sizes), 1U, "a size", "4096, 64KiB or 1GiB"};

/* How numbers of this kind are written; NULL for kinds that are not numbers. */
static const struct scale *scale_of(enum sp_field_kind kind)
{
    switch (kind) {
    case SP_FIELD_U8:
    case SP_FIELD_U32:
        return &scale_number;
    case SP_FIELD_SECONDS:
        return &scale_seconds;
    case SP_FIELD_MILLIS:
        return &scale_millis;
    case SP_FIELD_SIZE:
    case SP_FIELD_SIZE64:
        return &scale_size;
    case SP_FIELD_TEXT:
    case SP_FIELD_PATH:
    case SP_FIELD_BOOL:
    case SP_FIELD_CHOICE:
    case SP_FIELD_FLAGS:
    case SP_FIELD_TEXTS:
    case SP_FIELD_CUSTOM:
        break;
    }
    return NULL;
}

static void store_number(const struct sp_field *field, void *to, uint64_t value)
{
    if (field->kind == SP_FIELD_U8) {
        *(uint8_t *)to = (uint8_t)value;
    } else if (field->kind == SP_FIELD_SIZE64) {
        memcpy(to, &value, sizeof(value));
    } else {
        uint32_t small = (uint32_t)value;
        memcpy(to, &small, sizeof(small));
    }
}

static uint64_t load_number(const struct sp_field *field, const void *from)
{
    uint64_t value;
    uint32_t small;
    if (field->kind == SP_FIELD_U8) {
        return *(const uint8_t *)from;
    }
    if (field->kind == SP_FIELD_SIZE64) {
        memcpy(&value, from, sizeof(value));
        return value;
    }
    memcpy(&small, from, sizeof(small));
    return small;
}

static void read_number(struct sp_config_reader *reader, const struct sp_field *field,
                        const struct sp_node *node, void *to)
{
    const struct scale *scale = scale_of(field->kind);
    uint64_t value;
    if (!parse_amount(node->text, scale->units, scale->count, &value) ||
        value % scale->factor != 0) {
        SP_FAULT(reader, node, "`%s: %s` is not %s, like %s", field->key, node->text, scale->what,
                 scale->example);
        return;
    }
    if (value / scale->factor < field->min || value / scale->factor > field->max) {
        char low[32];
        char high[32];
        format_amount(low, scale->units, scale->count, field->min * scale->factor);
        format_amount(high, scale->units, scale->count, field->max * scale->factor);
        SP_FAULT(reader, node, "`%s: %s` is out of range: %s to %s", field->key, node->text, low,
                 high);
        return;
    }
    store_number(field, to, value / scale->factor);
}

/* The value of a word; UINT32_MAX after naming a fault. */
static uint32_t read_choice(struct sp_config_reader *reader, const struct sp_field *field,
                            const struct sp_node *node)
{
    const char *known[16] = {0};
    for (size_t i = 0; field->choices[i].name != NULL; i++) {
        if (strcmp(field->choices[i].name, node->text) == 0) {
            return field->choices[i].value;
        }
        known[i] = field->choices[i].name;
    }
    sp_config_unknown(reader, node, field->key, node->text, known);
    return UINT32_MAX;
}

static void read_bool(struct sp_config_reader *reader, const struct sp_field *field,
                      const struct sp_node *node, bool *to)
{
    if (strcmp(node->text, "true") == 0 || strcmp(node->text, "false") == 0) {
        *to = node->text[0] == 't';
    } else {
        SP_FAULT(reader, node, "`%s: %s`: write true or false", field->key, node->text);
    }
}

/* A path of a file is relative to the file that names it, wherever the gateway is started from. */
static char *absolute_path(const struct sp_node *node)
{
    char beside[PATH_MAX];
    char folder[PATH_MAX];
    char *path = NULL;
    if (node->text[0] == '/' || node->file == NULL) {
        return strdup(node->text);
    }
    if (snprintf(beside, sizeof(beside), "%s", node->file) >= (int)sizeof(beside) ||
        realpath(dirname(beside), folder) == NULL) {
        return NULL;
    }
    const char *rest = strncmp(node->text, "./", 2) == 0 ? node->text + 2 : node->text;
    const char *slash = strcmp(folder, "/") == 0 ? "" : "/";
    if (strcmp(rest, ".") == 0 || rest[0] == '\0') {
        return strdup(folder);
    }
    return asprintf(&path, "%s%s%s", folder, slash, rest) < 0 ? NULL : path;
}

static void read_text(struct sp_config_reader *reader, const struct sp_field *field,
                      const struct sp_node *node, char **to)
{
    size_t len = strlen(node->text);
    if (len < (field->min > 0 ? field->min : 1U) || (field->max > 0 && len > field->max)) {
        SP_FAULT(reader, node, "`%s` is %s", field->key, len == 0 ? "empty" : "too long");
        return;
    }
    char *text = field->kind == SP_FIELD_PATH ? absolute_path(node) : strdup(node->text);
    if (text == NULL) {
        SP_FAULT(reader, node, "`%s`: the path cannot be made absolute", field->key);
        return;
    }
    free(*to);
    *to = text;
}

/* Every entry of a list of words. */
static void read_list(struct sp_config_reader *reader, const struct sp_field *field,
                      const struct sp_node *node, void *to)
{
    uint32_t flags = 0;
    for (const struct sp_node *n = node->first; n != NULL; n = n->next) {
        if (n->kind != SP_NODE_SCALAR || sp_node_is_null(n)) {
            SP_FAULT(reader, n, "`%s` is a list of words", field->key);
        } else if (field->kind == SP_FIELD_FLAGS) {
            uint32_t flag = read_choice(reader, field, n);
            flags |= flag != UINT32_MAX ? flag : 0U;
        } else if (!sp_texts_add((char ***)to, n->text)) {
            SP_FAULT(reader, n, "out of memory");
        }
    }
    if (field->kind == SP_FIELD_FLAGS) {
        memcpy(to, &flags, sizeof(flags));
        if (node->count == 0) {
            SP_FAULT(reader, node, "`%s` is empty: at least one is needed", field->key);
        }
    }
}

static void read_value(struct sp_config_reader *reader, const struct sp_field *field,
                       const struct sp_node *node, void *section)
{
    uint8_t *to = (uint8_t *)section + field->offset;
    bool wants_list = field->kind == SP_FIELD_FLAGS || field->kind == SP_FIELD_TEXTS;
    size_t faults = reader->faults;
    if (field->kind == SP_FIELD_CUSTOM) {
        field->read(reader, node, section);
        return;
    }
    if (sp_node_is_null(node)) {
        SP_FAULT(reader, node, "`%s` has no value", field->key);
        return;
    }
    if (node->kind != (wants_list ? SP_NODE_LIST : SP_NODE_SCALAR)) {
        SP_FAULT(reader, node, wants_list ? "`%s` is a list: [a, b]" : "`%s` is a single value",
                 field->key);
        return;
    }
    if (scale_of(field->kind) != NULL) {
        read_number(reader, field, node, to);
    } else if (wants_list) {
        read_list(reader, field, node, to);
    } else if (field->kind == SP_FIELD_BOOL) {
        read_bool(reader, field, node, (bool *)to);
    } else if (field->kind == SP_FIELD_CHOICE) {
        uint32_t value = read_choice(reader, field, node);
        if (value != UINT32_MAX) {
            memcpy(to, &value, sizeof(value));
        }
    } else {
        char *text = NULL;
        memcpy(&text, to, sizeof(text));
        read_text(reader, field, node, &text);
        memcpy(to, &text, sizeof(text));
    }
    if (field->read != NULL && reader->faults == faults) {
        field->read(reader, node, section);
    }
}

static void read_fallback(struct sp_config_reader *reader, const struct sp_field *field,
                          void *section)
{
    char *text = strdup(field->fallback);
    struct sp_node word = {.kind = SP_NODE_SCALAR, .text = text};
    struct sp_node list = {.kind = SP_NODE_LIST, .first = &word, .count = 1};
    bool as_list = field->kind == SP_FIELD_FLAGS || field->kind == SP_FIELD_TEXTS;
    if (text != NULL) {
        read_value(reader, field, as_list ? &list : &word, section);
    }
    free(text);
}

static const struct sp_field *find_field(const struct sp_schema *schema, const char *key)
{
    for (size_t i = 0; i < schema->count; i++) {
        if (strcmp(schema->fields[i].key, key) == 0) {
            return &schema->fields[i];
        }
    }
    return NULL;
}

static void unknown_key(struct sp_config_reader *reader, const struct sp_schema *schema,
                        const struct sp_node *node)
{
    const char *known[64] = {0};
    char what[64];
    for (size_t i = 0; i < schema->count && i < COUNT(known) - 1U; i++) {
        known[i] = schema->fields[i].key;
    }
    (void)snprintf(what, sizeof(what), "key of `%s`", schema->name);
    sp_config_unknown(reader, node, what, node->key, known);
}

void sp_schema_read(struct sp_config_reader *reader, const struct sp_schema *schema,
                    const struct sp_node *map, void *section)
{
    if (map != NULL && map->kind != SP_NODE_MAP) {
        SP_FAULT(reader, map, "`%s` holds `key: value` lines", schema->name);
        map = NULL;
    } else {
        for (size_t i = 0; i < schema->count && map != NULL; i++) {
            if (schema->fields[i].required && sp_node_find(map, schema->fields[i].key) == NULL) {
                SP_FAULT(reader, map, "`%s` needs the key `%s`", schema->name,
                         schema->fields[i].key);
            }
        }
    }
    for (size_t i = 0; i < schema->count; i++) {
        const struct sp_field *field = &schema->fields[i];
        if (field->fallback != NULL && sp_node_find(map, field->key) == NULL) {
            read_fallback(reader, field, section);
        }
    }
    for (const struct sp_node *n = map != NULL ? map->first : NULL; n != NULL; n = n->next) {
        const struct sp_field *field = find_field(schema, n->key);
        if (field == NULL) {
            unknown_key(reader, schema, n);
        } else {
            read_value(reader, field, n, section);
        }
    }
}

/* ---- values to words ---- */

void sp_config_print_text(FILE *out, const char *text)
{
    static const char safe[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_./-+";
    size_t len = strlen(text);
    /* a leading sign or dot, or `null`, could mean something else to YAML */
    if (len > 0 && strspn(text, safe) == len && strchr("-+.", text[0]) == NULL &&
        strcmp(text, "null") != 0) {
        (void)fputs(text, out);
        return;
    }
    (void)fputc('"', out);
    for (const char *c = text; *c != '\0'; c++) {
        if (*c == '"' || *c == '\\') {
            (void)fputc('\\', out);
        }
        (void)fputc(*c, out);
    }
    (void)fputc('"', out);
}

static void print_texts(char *const *texts, FILE *out)
{
    (void)fputs(" [", out);
    for (size_t i = 0; texts != NULL && texts[i] != NULL; i++) {
        (void)fputs(i > 0 ? ", " : "", out);
        sp_config_print_text(out, texts[i]);
    }
    (void)fputs("]\n", out);
}

static void print_flags(const struct sp_field *field, uint32_t flags, FILE *out)
{
    const char *comma = "";
    (void)fputs(" [", out);
    for (const struct sp_choice *c = field->choices; c->name != NULL; c++) {
        if ((flags & c->value) != 0) {
            (void)fprintf(out, "%s%s", comma, c->name);
            comma = ", ";
        }
    }
    (void)fputs("]\n", out);
}

static void print_choice(const struct sp_field *field, uint32_t value, FILE *out)
{
    for (const struct sp_choice *c = field->choices; c->name != NULL; c++) {
        if (c->value == value) {
            (void)fprintf(out, " %s\n", c->name);
            return;
        }
    }
}

static void print_value(const struct sp_field *field, const void *section, FILE *out)
{
    const uint8_t *from = (const uint8_t *)section + field->offset;
    const struct scale *scale = scale_of(field->kind);
    uint32_t number;
    char *text;
    char **texts;
    if (scale != NULL) {
        char amount[32];
        format_amount(amount, scale->units, scale->count, load_number(field, from) * scale->factor);
        (void)fprintf(out, " %s\n", amount);
    } else if (field->kind == SP_FIELD_CUSTOM) {
        field->print(section, out);
    } else if (field->kind == SP_FIELD_BOOL) {
        (void)fprintf(out, " %s\n", *(const bool *)from ? "true" : "false");
    } else if (field->kind == SP_FIELD_TEXTS) {
        memcpy(&texts, from, sizeof(texts));
        print_texts(texts, out);
    } else if (field->kind == SP_FIELD_FLAGS) {
        memcpy(&number, from, sizeof(number));
        print_flags(field, number, out);
    } else if (field->kind == SP_FIELD_CHOICE) {
        memcpy(&number, from, sizeof(number));
        print_choice(field, number, out);
    } else {
        memcpy(&text, from, sizeof(text));
        (void)fputc(' ', out);
        sp_config_print_text(out, text);
        (void)fputc('\n', out);
    }
}

static bool is_text(const struct sp_field *field)
{
    return field->kind == SP_FIELD_TEXT || field->kind == SP_FIELD_PATH;
}

void sp_schema_print(const struct sp_schema *schema, const void *section, const char *lead,
                     const char *indent, FILE *out)
{
    const char *before = lead;
    for (size_t i = 0; i < schema->count; i++) {
        const struct sp_field *field = &schema->fields[i];
        char *text = NULL;
        if (is_text(field)) {
            memcpy(&text, (const uint8_t *)section + field->offset, sizeof(text));
            if (text == NULL) {
                continue;
            }
        }
        (void)fprintf(out, "%s%s:", before, field->key);
        print_value(field, section, out);
        before = indent;
    }
}

void sp_schema_deinit(const struct sp_schema *schema, void *section)
{
    for (size_t i = 0; i < schema->count; i++) {
        const struct sp_field *field = &schema->fields[i];
        void *at = (uint8_t *)section + field->offset;
        char *text;
        char **texts;
        if (is_text(field)) {
            memcpy(&text, at, sizeof(text));
            free(text);
        } else if (field->kind == SP_FIELD_TEXTS) {
            memcpy(&texts, at, sizeof(texts));
            sp_texts_destroy(texts);
        }
    }
}

/* ---- lists of texts ---- */

size_t sp_texts_count(char *const *list)
{
    size_t count = 0;
    while (list != NULL && list[count] != NULL) {
        count++;
    }
    return count;
}

bool sp_texts_add(char ***list, const char *text)
{
    size_t count = sp_texts_count(*list);
    char **larger = realloc(*list, (count + 2U) * sizeof(*larger));
    if (larger == NULL) {
        return false;
    }
    *list = larger;
    larger[count] = strdup(text);
    larger[count + 1U] = NULL;
    return larger[count] != NULL;
}

void sp_texts_destroy(char **list)
{
    for (size_t i = 0; list != NULL && list[i] != NULL; i++) {
        free(list[i]);
    }
    free(list);
}
