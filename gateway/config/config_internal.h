/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file How a configuration is read, private to this folder:
 * text → tree (config_yaml.c) → object by tables (config_schema.c, config.c) → cross checks (config_check.c).
 */
#ifndef SP_GATEWAY_CONFIG_CONFIG_INTERNAL_H
#define SP_GATEWAY_CONFIG_CONFIG_INTERNAL_H

#include "gateway/config/config.h"

#define SP_CONFIG_FILE_MAX  (1U << 20) /**< bytes of one file */
#define SP_CONFIG_DEPTH_MAX 12U        /**< of lists and maps within each other */
#define SP_CONFIG_NODES_MAX 20000U     /**< values in one file */
#define SP_CONFIG_LIST_MAX  256U       /**< entries of one list or map */

enum sp_node_kind { SP_NODE_SCALAR, SP_NODE_LIST, SP_NODE_MAP };

/** One value, with the place where it stands. Owns its children, its text and its key. */
struct sp_node {
    enum sp_node_kind kind;
    const char *file; /**< borrowed from the reader */
    size_t line;      /**< from 1 */
    char *key;        /**< in a map; else NULL */
    char *text;       /**< of a scalar: valid UTF-8 without control characters; else NULL */
    bool quoted;
    size_t count; /**< children */
    struct sp_node *first;
    struct sp_node *last;
    struct sp_node *next;
};

/** Where faults go, and the names of the files that nodes borrow. */
struct sp_config_reader {
    FILE *out;
    size_t faults;
    char *files[SP_CONFIG_LIST_MAX + 1U];
    size_t file_count;
};

/** Name a fault: `FILE:LINE: text`. The text is one line; outside text goes into it as a node's text or key only. */
void sp_config_fault(struct sp_config_reader *reader, const char *file, size_t line,
                     const char *format, ...) __attribute__((format(printf, 4, 5)));
#define SP_FAULT(reader, node, ...) \
    sp_config_fault((reader), (node)->file, (node)->line, __VA_ARGS__)

/** Parse one file's text. @return A map the caller owns, sp_node_destroy(); NULL when a fault was named. */
struct sp_node *sp_yaml_parse(struct sp_config_reader *reader, const char *file,
                              struct sp_view text);

void sp_node_destroy(struct sp_node *node);

/** The child of a map with that key, or NULL, also when `map` is NULL. */
const struct sp_node *sp_node_find(const struct sp_node *map, const char *key);

/** The entry of a list with that number; NULL behind the end and for NULL. */
const struct sp_node *sp_node_at(const struct sp_node *list, size_t index);

/** Nothing was written behind the key: empty, `~` or `null`. */
bool sp_node_is_null(const struct sp_node *node);

/* ---- tables: one row per key ---- */

enum sp_field_kind {
    SP_FIELD_TEXT,    /**< char * */
    SP_FIELD_PATH,    /**< char *, made absolute beside the file it stands in */
    SP_FIELD_BOOL,    /**< bool */
    SP_FIELD_U8,      /**< uint8_t */
    SP_FIELD_U32,     /**< uint32_t */
    SP_FIELD_SECONDS, /**< uint32_t; a duration of whole seconds; range in seconds */
    SP_FIELD_MILLIS,  /**< uint32_t; a duration; range in milliseconds */
    SP_FIELD_SIZE,    /**< uint32_t; bytes */
    SP_FIELD_SIZE64,  /**< uint64_t; bytes */
    SP_FIELD_CHOICE,  /**< an enum; one of `names` */
    SP_FIELD_FLAGS,   /**< uint32_t; a list of `names`, at least one */
    SP_FIELD_TEXTS,   /**< char **, NULL-terminated; a list of texts */
    SP_FIELD_CUSTOM,  /**< `read` and `print` */
};

struct sp_choice {
    const char *name; /**< NULL ends a table */
    uint32_t value;
};

struct sp_field {
    const char *key;
    enum sp_field_kind kind;
    size_t offset; /**< where it goes, in the section's struct */
    uint64_t min;
    uint64_t max;
    const char *fallback; /**< default, as it would be written; NULL: absent stays zero */
    const struct sp_choice *choices;
    bool required;
    /** CUSTOM: read the node into the section. Others: a further check, after the value was stored. May be NULL. */
    void (*read)(struct sp_config_reader *reader, const struct sp_node *node, void *section);
    void (*print)(const void *section, FILE *out); /**< CUSTOM: ` value\n`, or a block */
};

struct sp_schema {
    const char *name; /**< `gateway`, `listeners[]` … for messages */
    const struct sp_field *fields;
    size_t count;
};

#define SP_SCHEMA(text, table)                                                         \
    {                                                                                  \
        .name = (text), .fields = (table), .count = sizeof(table) / sizeof((table)[0]) \
    }

/** Fill a zeroed section from a map; `map` NULL gives the defaults. Unknown and missing keys are faults. */
void sp_schema_read(struct sp_config_reader *reader, const struct sp_schema *schema,
                    const struct sp_node *map, void *section);

/** Print every field; `indent` spaces before each line, the first line's come from the caller as `lead`. */
void sp_schema_print(const struct sp_schema *schema, const void *section, const char *lead,
                     const char *indent, FILE *out);

/** Free what fields of a section own. */
void sp_schema_deinit(const struct sp_schema *schema, void *section);

/** Name an unknown word and the nearest of `known` (NULL-terminated). */
void sp_config_unknown(struct sp_config_reader *reader, const struct sp_node *node,
                       const char *what, const char *word, const char *const *known);

/** Print a text as a YAML scalar, quoted where needed. */
void sp_config_print_text(FILE *out, const char *text);

/** Append a copy to a NULL-terminated list. false: no memory. */
bool sp_texts_add(char ***list, const char *text);
size_t sp_texts_count(char *const *list);
void sp_texts_destroy(char **list);

/* ---- sections ---- */

extern const struct sp_schema sp_schema_gateway, sp_schema_listener, sp_schema_role,
    sp_schema_attestation, sp_schema_cloud, sp_schema_cloud_limits, sp_schema_route,
    sp_schema_command, sp_schema_fusion, sp_schema_limits;

/** The limits called `aws` or `none`; false for another name. */
bool sp_cloud_limits_named(const char *name, struct sp_cloud_limits *out);

/** What no single key can know. `root` gives the lines. */
void sp_config_check(struct sp_config_reader *reader, const struct sp_node *root,
                     struct sp_config *config);

/** Read a configuration from text; `include` only when `may_include`. Else as sp_config_load(). */
SP_MUST_CHECK enum sp_err sp_config_parse(const char *name, struct sp_view text, bool may_include,
                                          FILE *faults, struct sp_config **out);

#endif
