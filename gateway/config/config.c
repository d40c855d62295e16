/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Files to one tree, the tree to sections by their tables, and back to text. */
#include "gateway/config/config.h"

#include <errno.h>
#include <fcntl.h>
#include <glob.h>
#include <libgen.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/config/config_internal.h"

/* ---- reading files ---- */

/* All of a descriptor, at most SP_CONFIG_FILE_MAX + 1 bytes, so that the parser can name a larger one. */
static enum sp_err read_all(int fd, uint8_t **out, size_t *out_len)
{
    size_t used = 0;
    uint8_t *buf = malloc(SP_CONFIG_FILE_MAX + 1U);
    if (buf == NULL) {
        errno = ENOMEM;
        return SP_ERR_NOMEM;
    }
    ssize_t n = 1;
    while (n > 0 && used < SP_CONFIG_FILE_MAX + 1U) {
        n = read(fd, buf + used, SP_CONFIG_FILE_MAX + 1U - used);
        used += n > 0 ? (size_t)n : 0U;
    }
    if (n < 0) {
        free(buf);
        return SP_ERR_IO;
    }
    *out = buf;
    *out_len = used;
    return SP_OK;
}

static enum sp_err read_file(const char *file, uint8_t **out, size_t *out_len)
{
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return SP_ERR_IO;
    }
    enum sp_err err = read_all(fd, out, out_len);
    int saved = errno;
    close(fd);
    errno = saved;
    return err;
}

/* The name of a file, kept as long as the reader, for the nodes to borrow. */
static const char *keep_name(struct sp_config_reader *reader, const char *file)
{
    char *copy = reader->file_count < SP_CONFIG_LIST_MAX ? strdup(file) : NULL;
    if (copy != NULL) {
        reader->files[reader->file_count++] = copy;
    }
    return copy;
}

/* ---- include ---- */

static void unlink_first(struct sp_node *parent)
{
    struct sp_node *child = parent->first;
    parent->first = child->next;
    parent->count--;
    if (parent->first == NULL) {
        parent->last = NULL;
    }
    child->next = NULL;
}

/* Move the children of `from` into `into`: maps are merged, lists appended, a value given twice is a fault. */
static void merge(struct sp_config_reader *reader, struct sp_node *into, struct sp_node *from)
{
    while (from->first != NULL) {
        struct sp_node *child = from->first;
        struct sp_node *twin = NULL;
        unlink_first(from);
        for (struct sp_node *n = into->first; n != NULL && into->kind == SP_NODE_MAP; n = n->next) {
            twin = strcmp(n->key, child->key) == 0 ? n : twin;
        }
        if (twin == NULL) {
            if (into->count >= SP_CONFIG_LIST_MAX) {
                SP_FAULT(reader, child, "more than %u entries in all files", SP_CONFIG_LIST_MAX);
                sp_node_destroy(child);
                continue;
            }
            if (into->last == NULL) {
                into->first = child;
            } else {
                into->last->next = child;
            }
            into->last = child;
            into->count++;
        } else if (twin->kind == child->kind && child->kind != SP_NODE_SCALAR) {
            merge(reader, twin, child);
            sp_node_destroy(child);
        } else {
            SP_FAULT(reader, child, "`%s` is given twice, first in %s:%zu", child->key, twin->file,
                     twin->line);
            sp_node_destroy(child);
        }
    }
}

static void include_file(struct sp_config_reader *reader, struct sp_node *root,
                         const struct sp_node *by, const char *file)
{
    uint8_t *text;
    size_t len;
    const char *name = keep_name(reader, file);
    if (name == NULL) {
        SP_FAULT(reader, by, "too many files");
        return;
    }
    if (read_file(file, &text, &len) != SP_OK) {
        SP_FAULT(reader, by, "%s: %s", file, strerrordesc_np(errno));
        return;
    }
    struct sp_node *tree = sp_yaml_parse(reader, name, sp_view(text, len));
    free(text);
    if (tree == NULL) {
        return;
    }
    const struct sp_node *nested = sp_node_find(tree, "include");
    if (nested != NULL) {
        SP_FAULT(reader, nested, "an included file cannot include others");
    } else {
        merge(reader, root, tree);
    }
    sp_node_destroy(tree);
}

static void include_pattern(struct sp_config_reader *reader, struct sp_node *root,
                            const struct sp_node *node)
{
    char beside[PATH_MAX];
    char pattern[PATH_MAX];
    glob_t found;
    (void)snprintf(beside, sizeof(beside), "%s", node->file);
    const char *folder = node->text[0] == '/' ? "" : dirname(beside);
    int n = snprintf(pattern, sizeof(pattern), "%s%s%s", folder, folder[0] != '\0' ? "/" : "",
                     node->text);
    if (n < 0 || (size_t)n >= sizeof(pattern)) {
        SP_FAULT(reader, node, "`include`: the path is too long");
        return;
    }
    if (glob(pattern, 0, NULL, &found) != 0) {
        if (strpbrk(node->text, "*?[") == NULL) {
            SP_FAULT(reader, node, "`include: %s`: no such file", node->text);
        }
        return;
    }
    for (size_t i = 0; i < found.gl_pathc; i++) {
        include_file(reader, root, node, found.gl_pathv[i]);
    }
    globfree(&found);
}

static void include_all(struct sp_config_reader *reader, struct sp_node *root, bool allowed)
{
    const struct sp_node *include = sp_node_find(root, "include");
    if (include == NULL) {
        return;
    }
    if (!allowed) {
        SP_FAULT(reader, include, "`include` is not possible here");
    } else if (include->kind == SP_NODE_MAP || sp_node_is_null(include)) {
        SP_FAULT(reader, include, "`include` is a path or a list of paths, like conf.d/*.yaml");
    } else if (include->kind == SP_NODE_SCALAR) {
        include_pattern(reader, root, include);
    } else {
        for (const struct sp_node *n = include->first; n != NULL; n = n->next) {
            if (n->kind == SP_NODE_SCALAR) {
                include_pattern(reader, root, n);
            } else {
                SP_FAULT(reader, n, "`include` is a list of paths");
            }
        }
    }
}

/* ---- sections ---- */

/* Lists and maps of sections: an array of structs, one per child, faulty ones included so that indexes agree. */
static size_t read_sections(struct sp_config_reader *reader, const struct sp_schema *schema,
                            const struct sp_node *node, size_t size, void **array)
{
    if (node == NULL || node->count == 0) {
        return 0;
    }
    if (node->count > SP_CONFIG_LIST_MAX) {
        SP_FAULT(reader, node, "`%s` has more than %u entries", schema->name, SP_CONFIG_LIST_MAX);
        return 0;
    }
    uint8_t *sections = calloc(node->count, size);
    if (sections == NULL) {
        SP_FAULT(reader, node, "out of memory");
        return 0;
    }
    size_t i = 0;
    for (const struct sp_node *n = node->first; n != NULL; n = n->next) {
        sp_schema_read(reader, schema, n, sections + i++ * size);
    }
    *array = sections;
    return node->count;
}

static bool add_role(struct sp_config *config, const char *name, const char *publish,
                     const char *const *subscribe)
{
    struct sp_role_config *role = &config->roles[config->role_count++];
    role->name = strdup(name);
    bool ok = role->name != NULL && sp_texts_add(&role->publish, publish);
    for (size_t i = 0; subscribe[i] != NULL; i++) {
        ok = ok && sp_texts_add(&role->subscribe, subscribe[i]);
    }
    return ok;
}

/* docs/protocol.md 4 */
static bool add_built_in_roles(struct sp_config *config)
{
    static const char *const sensor[] = {"cmd/{device}/#", NULL};
    static const char *const monitor[] = {"cmd/{device}/#", "dt/+/climate", "fused/+", NULL};
    return add_role(config, "sensor", "dt/{device}/#", sensor) &&
           add_role(config, "monitor", "dt/{device}/#", monitor);
}

static void read_roles(struct sp_config_reader *reader, const struct sp_node *roles,
                       struct sp_config *config)
{
    size_t own = roles != NULL ? roles->count : 0;
    config->roles = calloc(own + 2U, sizeof(*config->roles));
    if (config->roles == NULL || !add_built_in_roles(config)) {
        sp_config_fault(reader, config->file, 1, "out of memory");
        return;
    }
    for (const struct sp_node *n = own > 0 ? roles->first : NULL; n != NULL; n = n->next) {
        struct sp_role_config *role = &config->roles[config->role_count++];
        role->name = strdup(n->key);
        sp_schema_read(reader, &sp_schema_role, n, role);
    }
}

enum shape { SHAPE_MAP, SHAPE_LIST, SHAPE_INCLUDE, SHAPE_LATER };

static const struct {
    const char *key;
    enum shape shape;
} sections[] = {
    {"gateway", SHAPE_MAP},     {"listeners", SHAPE_LIST}, {"roles", SHAPE_MAP},
    {"attestation", SHAPE_MAP}, {"cloud", SHAPE_MAP},      {"routes", SHAPE_LIST},
    {"commands", SHAPE_LIST},   {"fusions", SHAPE_LIST},   {"limits", SHAPE_MAP},
    {"include", SHAPE_INCLUDE}, {"http", SHAPE_LATER},
};
#define SECTION_COUNT (sizeof(sections) / sizeof(sections[0]))

/* The section, or NULL when it is not there or, after naming it, not of the right shape. */
static const struct sp_node *section(struct sp_config_reader *reader, const struct sp_node *root,
                                     const char *key, enum shape shape)
{
    const struct sp_node *node = sp_node_find(root, key);
    enum sp_node_kind kind = shape == SHAPE_LIST ? SP_NODE_LIST : SP_NODE_MAP;
    if (node == NULL || node->kind == kind) {
        return node;
    }
    if (sp_node_is_null(node)) {
        SP_FAULT(reader, node, "`%s` is empty: fill it in, or leave it out", key);
    } else {
        SP_FAULT(reader, node,
                 shape == SHAPE_LIST ? "`%s` is a list of `- key: value` entries"
                                     : "`%s` holds `key: value` lines",
                 key);
    }
    return NULL;
}

static void check_section_names(struct sp_config_reader *reader, const struct sp_node *root)
{
    const char *known[SECTION_COUNT + 1U] = {0};
    for (size_t i = 0; i < SECTION_COUNT; i++) {
        known[i] = sections[i].key;
    }
    for (const struct sp_node *n = root->first; n != NULL; n = n->next) {
        size_t i = 0;
        while (i < SECTION_COUNT && strcmp(sections[i].key, n->key) != 0) {
            i++;
        }
        if (i == SECTION_COUNT) {
            sp_config_unknown(reader, n, "section", n->key, known);
        } else if (sections[i].shape == SHAPE_LATER) {
            SP_FAULT(reader, n, "`%s` comes with a later release: leave the section out", n->key);
        }
    }
}

static void read_config(struct sp_config_reader *reader, const struct sp_node *root,
                        struct sp_config *config)
{
    check_section_names(reader, root);
    const struct sp_node *gateway = section(reader, root, "gateway", SHAPE_MAP);
    const struct sp_node *listeners = section(reader, root, "listeners", SHAPE_LIST);
    const struct sp_node *cloud = section(reader, root, "cloud", SHAPE_MAP);
    if (sp_node_find(root, "gateway") == NULL) {
        sp_config_fault(reader, config->file, 1, "the section `gateway` is missing");
    }
    if (sp_node_find(root, "listeners") == NULL) {
        sp_config_fault(reader, config->file, 1, "the section `listeners` is missing");
    }
    sp_schema_read(reader, &sp_schema_gateway, gateway, config);
    config->listener_count = read_sections(reader, &sp_schema_listener, listeners,
                                           sizeof(*config->listeners), (void **)&config->listeners);
    read_roles(reader, section(reader, root, "roles", SHAPE_MAP), config);
    sp_schema_read(reader, &sp_schema_attestation, section(reader, root, "attestation", SHAPE_MAP),
                   &config->attestation);
    config->cloud.enabled = cloud != NULL;
    if (cloud != NULL) {
        sp_schema_read(reader, &sp_schema_cloud, cloud, &config->cloud);
    }
    config->route_count =
        read_sections(reader, &sp_schema_route, section(reader, root, "routes", SHAPE_LIST),
                      sizeof(*config->routes), (void **)&config->routes);
    config->command_count =
        read_sections(reader, &sp_schema_command, section(reader, root, "commands", SHAPE_LIST),
                      sizeof(*config->commands), (void **)&config->commands);
    config->fusion_count =
        read_sections(reader, &sp_schema_fusion, section(reader, root, "fusions", SHAPE_LIST),
                      sizeof(*config->fusions), (void **)&config->fusions);
    sp_schema_read(reader, &sp_schema_limits, section(reader, root, "limits", SHAPE_MAP),
                   &config->limits);
    if (config->role_count > 0) {
        config->roles[0].message_rate = config->limits.message_rate;
        config->roles[0].message_burst = config->limits.message_burst;
    }
}

enum sp_err sp_config_parse(const char *name, struct sp_view text, bool may_include, FILE *faults,
                            struct sp_config **out)
{
    struct sp_config_reader reader = {.out = faults};
    *out = NULL;
    struct sp_config *config = calloc(1, sizeof(*config));
    const char *file = keep_name(&reader, name);
    struct sp_node *root = NULL;
    if (config == NULL || file == NULL || (config->file = strdup(name)) == NULL) {
        sp_config_fault(&reader, name, 1, "out of memory");
    } else {
        atomic_init(&config->references, 1);
        root = sp_yaml_parse(&reader, file, text);
    }
    if (root != NULL) {
        include_all(&reader, root, may_include);
        read_config(&reader, root, config);
        sp_config_check(&reader, root, config);
    }
    sp_node_destroy(root);
    for (size_t i = 0; i < reader.file_count; i++) {
        free(reader.files[i]);
    }
    if (reader.faults > 0) {
        sp_config_destroy(config);
        return SP_ERR_MALFORMED;
    }
    *out = config;
    return SP_OK;
}

enum sp_err sp_config_load(const char *file, FILE *faults, struct sp_config **out)
{
    uint8_t *text;
    size_t len;
    *out = NULL;
    if (read_file(file, &text, &len) != SP_OK) {
        (void)fprintf(faults, "%s: %s\n", file, strerrordesc_np(errno));
        return SP_ERR_MALFORMED;
    }
    enum sp_err err = sp_config_parse(file, sp_view(text, len), true, faults, out);
    free(text);
    return err;
}

enum sp_err sp_config_load_fd(int fd, const char *name, FILE *faults, struct sp_config **out)
{
    uint8_t *text;
    size_t len;
    *out = NULL;
    if (lseek(fd, 0, SEEK_SET) != 0 || read_all(fd, &text, &len) != SP_OK) {
        (void)fprintf(faults, "%s: %s\n", name, strerrordesc_np(errno));
        return SP_ERR_MALFORMED;
    }
    enum sp_err err = sp_config_parse(name, sp_view(text, len), false, faults, out);
    free(text);
    return err;
}

static void destroy_sections(const struct sp_schema *schema, void *array, size_t count, size_t size)
{
    for (size_t i = 0; i < count; i++) {
        sp_schema_deinit(schema, (uint8_t *)array + i * size);
    }
    free(array);
}

struct sp_config *sp_config_hold(const struct sp_config *config)
{
    struct sp_config *held = (struct sp_config *)(uintptr_t)config; /* only the count changes */
    atomic_fetch_add_explicit(&held->references, 1, memory_order_relaxed);
    return held;
}

void sp_config_destroy(struct sp_config *config)
{
    if (config == NULL ||
        atomic_fetch_sub_explicit(&config->references, 1, memory_order_acq_rel) > 1) {
        return;
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        free(config->listeners[i].host);
        sp_texts_destroy(config->listeners[i].suite_names);
    }
    for (size_t i = 0; i < config->role_count; i++) {
        free(config->roles[i].name);
    }
    for (size_t i = 0; i < config->route_count; i++) {
        free(config->routes[i].cloud);
    }
    destroy_sections(&sp_schema_listener, config->listeners, config->listener_count,
                     sizeof(*config->listeners));
    destroy_sections(&sp_schema_role, config->roles, config->role_count, sizeof(*config->roles));
    destroy_sections(&sp_schema_route, config->routes, config->route_count,
                     sizeof(*config->routes));
    destroy_sections(&sp_schema_command, config->commands, config->command_count,
                     sizeof(*config->commands));
    destroy_sections(&sp_schema_fusion, config->fusions, config->fusion_count,
                     sizeof(*config->fusions));
    sp_schema_deinit(&sp_schema_cloud, &config->cloud);
    free(config->cloud.host);
    sp_schema_deinit(&sp_schema_gateway, config);
    free(config->file);
    free(config);
}

const struct sp_role_config *sp_config_role(const struct sp_config *config, const char *name)
{
    for (size_t i = 0; i < config->role_count; i++) {
        if (strcmp(config->roles[i].name, name) == 0) {
            return &config->roles[i];
        }
    }
    return NULL;
}

/* ---- printing ---- */

static void print_list(const char *name, const struct sp_schema *schema, const void *array,
                       size_t count, size_t size, FILE *out)
{
    if (count > 0) {
        (void)fprintf(out, "%s:\n", name);
    }
    for (size_t i = 0; i < count; i++) {
        sp_schema_print(schema, (const uint8_t *)array + i * size, "  - ", "    ", out);
    }
}

static void print_roles(const struct sp_config *config, FILE *out)
{
    for (size_t i = 2; i < config->role_count; i++) { /* the first two are built in */
        (void)fputs(i == 2 ? "roles:\n  " : "  ", out);
        sp_config_print_text(out, config->roles[i].name);
        (void)fputs(":\n", out);
        sp_schema_print(&sp_schema_role, &config->roles[i], "    ", "    ", out);
    }
}

void sp_config_print(const struct sp_config *config, FILE *out)
{
    (void)fputs("gateway:\n", out);
    sp_schema_print(&sp_schema_gateway, config, "  ", "  ", out);
    print_list("listeners", &sp_schema_listener, config->listeners, config->listener_count,
               sizeof(*config->listeners), out);
    print_roles(config, out);
    (void)fputs("attestation:\n", out);
    sp_schema_print(&sp_schema_attestation, &config->attestation, "  ", "  ", out);
    if (config->cloud.enabled) {
        (void)fputs("cloud:\n", out);
        sp_schema_print(&sp_schema_cloud, &config->cloud, "  ", "  ", out);
    }
    print_list("routes", &sp_schema_route, config->routes, config->route_count,
               sizeof(*config->routes), out);
    print_list("commands", &sp_schema_command, config->commands, config->command_count,
               sizeof(*config->commands), out);
    print_list("fusions", &sp_schema_fusion, config->fusions, config->fusion_count,
               sizeof(*config->fusions), out);
    (void)fputs("limits:\n", out);
    sp_schema_print(&sp_schema_limits, &config->limits, "  ", "  ", out);
}
