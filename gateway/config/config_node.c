/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/config/config_internal.h"

#define FAULTS_MAX 100U /* more help nobody */

void sp_config_fault(struct sp_config_reader *reader, const char *file, size_t line,
                     const char *format, ...)
{
    reader->faults++;
    if (reader->faults > FAULTS_MAX) {
        if (reader->faults == FAULTS_MAX + 1U) {
            (void)fprintf(reader->out, "%s:%zu: and more faults\n", file, line);
        }
        return;
    }
    va_list args;
    va_start(args, format);
    (void)fprintf(reader->out, "%s:%zu: ", file, line);
    (void)vfprintf(reader->out, format, args);
    (void)fputc('\n', reader->out);
    va_end(args);
}

void sp_node_destroy(struct sp_node *node)
{
    if (node == NULL) {
        return;
    }
    struct sp_node *child = node->first;
    while (child != NULL) {
        struct sp_node *next = child->next;
        sp_node_destroy(child);
        child = next;
    }
    free(node->key);
    free(node->text);
    free(node);
}

const struct sp_node *sp_node_find(const struct sp_node *map, const char *key)
{
    if (map == NULL || map->kind != SP_NODE_MAP) {
        return NULL;
    }
    for (const struct sp_node *n = map->first; n != NULL; n = n->next) {
        if (strcmp(n->key, key) == 0) {
            return n;
        }
    }
    return NULL;
}

const struct sp_node *sp_node_at(const struct sp_node *list, size_t index)
{
    const struct sp_node *n = list != NULL && list->kind != SP_NODE_SCALAR ? list->first : NULL;
    while (n != NULL && index > 0) {
        n = n->next;
        index--;
    }
    return n;
}

bool sp_node_is_null(const struct sp_node *node)
{
    return node->kind == SP_NODE_SCALAR && !node->quoted &&
           (node->text[0] == '\0' || strcmp(node->text, "~") == 0 ||
            strcmp(node->text, "null") == 0);
}

/* Edits that make one word of the other, or more than 9. Words longer than 40 are not compared. */
static unsigned distance(const char *a, const char *b)
{
    unsigned row[41];
    size_t b_len = strlen(b);
    if (strlen(a) > 40 || b_len > 40) {
        return 10;
    }
    for (unsigned j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (unsigned i = 1; a[i - 1U] != '\0'; i++) {
        unsigned diagonal = row[0];
        row[0] = i;
        for (unsigned j = 1; j <= b_len; j++) {
            unsigned best = diagonal + (a[i - 1U] != b[j - 1U]);
            diagonal = row[j];
            if (row[j - 1U] + 1U < best) {
                best = row[j - 1U] + 1U;
            }
            row[j] = diagonal + 1U < best ? diagonal + 1U : best;
        }
    }
    return row[b_len];
}

void sp_config_unknown(struct sp_config_reader *reader, const struct sp_node *node,
                       const char *what, const char *word, const char *const *known)
{
    const char *nearest = NULL;
    unsigned least = 4;
    for (size_t i = 0; known[i] != NULL; i++) {
        unsigned d = distance(word, known[i]);
        bool near = d < least && d * 2U <= strlen(known[i]);
        if (near || (strlen(word) > 2 && strncmp(word, known[i], strlen(word)) == 0)) {
            least = near ? d : least;
            nearest = known[i];
        }
    }
    if (nearest != NULL) {
        SP_FAULT(reader, node, "unknown %s `%s`: did you mean `%s`?", what, word, nearest);
        return;
    }
    char list[512];
    size_t used = 0;
    for (size_t i = 0; known[i] != NULL && used < sizeof(list); i++) {
        int n = snprintf(list + used, sizeof(list) - used, "%s%s", i > 0 ? ", " : "", known[i]);
        used += n > 0 ? (size_t)n : 0U;
    }
    SP_FAULT(reader, node, "unknown %s `%s`: known are %s", what, word, list);
}
