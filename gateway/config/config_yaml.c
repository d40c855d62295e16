/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * YAML to a tree of our own, by libyaml's events. A plain subset: no anchors, aliases (the billion laughs), tags, second
 * documents, keys that are not text, or keys given twice.
 */
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "gateway/config/config_internal.h"

struct parse {
    struct sp_config_reader *reader;
    const char *file;
    yaml_parser_t yaml;
    size_t nodes;
};

static void fault_at(struct parse *p, yaml_mark_t mark, const char *text)
{
    sp_config_fault(p->reader, p->file, mark.line + 1U, "%s", text);
}

/* false: named. The event is the caller's to delete on true. */
static bool next_event(struct parse *p, yaml_event_t *event)
{
    if (yaml_parser_parse(&p->yaml, event) != 0) {
        return true;
    }
    size_t line = p->yaml.problem_mark.line + 1U;
    sp_config_fault(p->reader, p->file, line, "not YAML: %s%s",
                    p->yaml.problem != NULL ? p->yaml.problem : "out of memory",
                    p->yaml.error == YAML_READER_ERROR ? " (it must be UTF-8 text)" : "");
    return false;
}

/* What this subset leaves out, or NULL. */
static const char *refusal(const yaml_event_t *event)
{
    static const char anchors[] = "anchors and aliases are not taken: write the value out";
    static const char tags[] = "tags are not taken: leave the `!…` out";
    switch (event->type) {
    case YAML_ALIAS_EVENT:
        return anchors;
    case YAML_SCALAR_EVENT:
        if (event->data.scalar.anchor != NULL) {
            return anchors;
        }
        if (event->data.scalar.tag != NULL) {
            return tags;
        }
        return sp_utf8_valid(sp_view(event->data.scalar.value, event->data.scalar.length))
                   ? NULL
                   : "control characters and line breaks have no place in a value";
    case YAML_SEQUENCE_START_EVENT:
        if (event->data.sequence_start.anchor != NULL) {
            return anchors;
        }
        return event->data.sequence_start.tag != NULL ? tags : NULL;
    case YAML_MAPPING_START_EVENT:
        if (event->data.mapping_start.anchor != NULL) {
            return anchors;
        }
        return event->data.mapping_start.tag != NULL ? tags : NULL;
    case YAML_NO_EVENT:
    case YAML_STREAM_START_EVENT:
    case YAML_STREAM_END_EVENT:
    case YAML_DOCUMENT_START_EVENT:
    case YAML_DOCUMENT_END_EVENT:
    case YAML_SEQUENCE_END_EVENT:
    case YAML_MAPPING_END_EVENT:
        break;
    }
    return NULL;
}

static struct sp_node *node_create(struct parse *p, enum sp_node_kind kind, yaml_mark_t mark)
{
    if (++p->nodes > SP_CONFIG_NODES_MAX) {
        fault_at(p, mark, "the file has too many values");
        return NULL;
    }
    struct sp_node *node = calloc(1, sizeof(*node));
    if (node == NULL) {
        fault_at(p, mark, "out of memory");
        return NULL;
    }
    node->kind = kind;
    node->file = p->file;
    node->line = mark.line + 1U;
    return node;
}

static struct sp_node *parse_value(struct parse *p, const yaml_event_t *event, unsigned depth);

static void append(struct sp_node *parent, struct sp_node *child)
{
    if (parent->last == NULL) {
        parent->first = child;
    } else {
        parent->last->next = child;
    }
    parent->last = child;
    parent->count++;
}

static bool parse_list(struct parse *p, struct sp_node *list, unsigned depth)
{
    for (;;) {
        yaml_event_t event;
        if (!next_event(p, &event)) {
            return false;
        }
        bool end = event.type == YAML_SEQUENCE_END_EVENT;
        struct sp_node *child = end ? NULL : parse_value(p, &event, depth);
        yaml_event_delete(&event);
        if (child == NULL) {
            return end;
        }
        append(list, child);
    }
}

/* A key, copied; NULL when it was refused, and that was named. */
static char *parse_key(struct parse *p, const struct sp_node *map, const yaml_event_t *event)
{
    const char *why = refusal(event);
    if (why == NULL && event->type != YAML_SCALAR_EVENT) {
        why = "a key must be a word";
    }
    if (why != NULL) {
        fault_at(p, event->start_mark, why);
        return NULL;
    }
    const char *text = (const char *)event->data.scalar.value;
    const struct sp_node *twin = sp_node_find(map, text);
    if (twin != NULL) {
        sp_config_fault(p->reader, p->file, event->start_mark.line + 1U,
                        "`%s` is given twice, first in line %zu", text, twin->line);
        return NULL;
    }
    char *key = strdup(text);
    if (key == NULL) {
        fault_at(p, event->start_mark, "out of memory");
    }
    return key;
}

static bool parse_map(struct parse *p, struct sp_node *map, unsigned depth)
{
    for (;;) {
        yaml_event_t event;
        if (!next_event(p, &event)) {
            return false;
        }
        bool end = event.type == YAML_MAPPING_END_EVENT;
        char *key = end ? NULL : parse_key(p, map, &event);
        size_t line = event.start_mark.line + 1U;
        yaml_event_delete(&event);
        if (key == NULL) {
            return end;
        }
        if (map->count >= SP_CONFIG_LIST_MAX) {
            sp_config_fault(p->reader, p->file, line, "more than %u keys", SP_CONFIG_LIST_MAX);
            free(key);
            return false;
        }
        struct sp_node *child = NULL;
        if (next_event(p, &event)) {
            child = parse_value(p, &event, depth);
            yaml_event_delete(&event);
        }
        if (child == NULL) {
            free(key);
            return false;
        }
        child->key = key;
        child->line = line;
        append(map, child);
    }
}

static struct sp_node *parse_value(struct parse *p, const yaml_event_t *event, unsigned depth)
{
    const char *why = refusal(event);
    if (why == NULL && depth >= SP_CONFIG_DEPTH_MAX) {
        why = "lists and maps lie too deep within each other";
    }
    if (why != NULL) {
        fault_at(p, event->start_mark, why);
        return NULL;
    }
    enum sp_node_kind kind = SP_NODE_SCALAR;
    if (event->type == YAML_SEQUENCE_START_EVENT) {
        kind = SP_NODE_LIST;
    } else if (event->type == YAML_MAPPING_START_EVENT) {
        kind = SP_NODE_MAP;
    }
    struct sp_node *node = node_create(p, kind, event->start_mark);
    if (node == NULL) {
        return NULL;
    }
    bool ok;
    if (kind == SP_NODE_LIST) {
        ok = parse_list(p, node, depth + 1U);
    } else if (kind == SP_NODE_MAP) {
        ok = parse_map(p, node, depth + 1U);
    } else {
        node->text = strdup((const char *)event->data.scalar.value);
        node->quoted = event->data.scalar.style != YAML_PLAIN_SCALAR_STYLE;
        ok = node->text != NULL;
    }
    if (!ok) {
        sp_node_destroy(node);
        return NULL;
    }
    return node;
}

static struct sp_node *parse_document(struct parse *p)
{
    struct sp_node *root = NULL;
    bool end = false;
    while (!end) {
        yaml_event_t event;
        if (!next_event(p, &event)) {
            break;
        }
        bool value = event.type == YAML_SCALAR_EVENT || event.type == YAML_ALIAS_EVENT ||
                     event.type == YAML_SEQUENCE_START_EVENT ||
                     event.type == YAML_MAPPING_START_EVENT;
        if (value && root == NULL) {
            root = parse_value(p, &event, 0);
            if (root == NULL) {
                yaml_event_delete(&event);
                return NULL;
            }
        } else if (event.type == YAML_DOCUMENT_START_EVENT && root != NULL) {
            fault_at(p, event.start_mark, "a second document: one file is one configuration");
            yaml_event_delete(&event);
            break;
        }
        end = event.type == YAML_STREAM_END_EVENT;
        yaml_event_delete(&event);
    }
    if (end && (root == NULL || root->kind != SP_NODE_MAP)) {
        sp_config_fault(p->reader, p->file, root == NULL ? 1U : root->line,
                        "no configuration here: sections like `gateway:` are expected");
        end = false;
    }
    if (!end) {
        sp_node_destroy(root);
        return NULL;
    }
    return root;
}

struct sp_node *sp_yaml_parse(struct sp_config_reader *reader, const char *file,
                              struct sp_view text)
{
    struct parse p = {.reader = reader, .file = file};
    if (text.len > SP_CONFIG_FILE_MAX) {
        sp_config_fault(reader, file, 1, "larger than %u bytes", SP_CONFIG_FILE_MAX);
        return NULL;
    }
    if (yaml_parser_initialize(&p.yaml) == 0) {
        sp_config_fault(reader, file, 1, "out of memory");
        return NULL;
    }
    yaml_parser_set_encoding(&p.yaml, YAML_UTF8_ENCODING);
    yaml_parser_set_input_string(&p.yaml, text.ptr, text.len);
    struct sp_node *root = parse_document(&p);
    yaml_parser_delete(&p.yaml);
    return root;
}
