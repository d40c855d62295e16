/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/table.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

#define FIRST_BUCKETS 16U

static uint64_t process_seed;
static pthread_once_t seeded = PTHREAD_ONCE_INIT;

static void make_seed(void)
{
    if (getrandom(&process_seed, sizeof(process_seed), 0) != (ssize_t)sizeof(process_seed)) {
        abort(); /* no randomness: nothing here could be trusted */
    }
}

uint64_t sp_hash_seed(void)
{
    pthread_once(&seeded, make_seed);
    return process_seed;
}

static uint64_t mix(uint64_t a, uint64_t b)
{
    __extension__ typedef unsigned __int128 wide;
    wide product = (wide)a * b;
    return (uint64_t)product ^ (uint64_t)(product >> 64);
}

/* Eight bytes per multiplication, folded (the construction of the wyhash family). */
uint64_t sp_hash(uint64_t seed, struct sp_view bytes)
{
    uint64_t hash = seed ^ (bytes.len * 0x9E3779B97F4A7C15U);
    struct sp_view left = bytes;
    while (left.len > 0) {
        uint64_t word = 0;
        size_t len = left.len < sizeof(word) ? left.len : sizeof(word);
        sp_copy(&word, left.ptr, len);
        hash = mix(hash ^ word, 0xD6E8FEB86659FD93U ^ seed);
        left = sp_view_from(left, len);
    }
    return mix(hash, 0xA0761D6478BD642FU);
}

static void link_node(struct sp_table *table, struct sp_table_node *node)
{
    struct sp_table_node **bucket = &table->buckets[node->hash & table->mask];
    node->next = *bucket;
    *bucket = node;
}

static enum sp_err grow(struct sp_table *table)
{
    size_t size = table->buckets == NULL ? FIRST_BUCKETS : (table->mask + 1) * 2;
    struct sp_table_node **buckets = calloc(size, sizeof(struct sp_table_node *));
    if (buckets == NULL) {
        return SP_ERR_NOMEM;
    }
    struct sp_table old = *table;
    table->buckets = buckets;
    table->mask = size - 1;
    for (size_t i = 0; old.buckets != NULL && i <= old.mask; i++) {
        struct sp_table_node *node = old.buckets[i];
        while (node != NULL) {
            struct sp_table_node *next = node->next;
            link_node(table, node);
            node = next;
        }
    }
    free(old.buckets);
    return SP_OK;
}

static struct sp_table_node *same_hash(struct sp_table_node *node, uint64_t hash)
{
    while (node != NULL && node->hash != hash) {
        node = node->next;
    }
    return node;
}

struct sp_table_node *sp_table_find(const struct sp_table *table, uint64_t hash)
{
    return table->buckets == NULL ? NULL : same_hash(table->buckets[hash & table->mask], hash);
}

struct sp_table_node *sp_table_next(const struct sp_table_node *node)
{
    return same_hash(node->next, node->hash);
}

enum sp_err sp_table_insert(struct sp_table *table, struct sp_table_node *node, uint64_t hash)
{
    if (table->buckets == NULL || table->count > table->mask) {
        SP_TRY(grow(table));
    }
    node->hash = hash;
    link_node(table, node);
    table->count++;
    return SP_OK;
}

void sp_table_remove(struct sp_table *table, struct sp_table_node *node)
{
    struct sp_table_node **at = &table->buckets[node->hash & table->mask];
    while (*at != node) {
        at = &(*at)->next;
    }
    *at = node->next;
    table->count--;
}

struct sp_table_node *sp_table_any(const struct sp_table *table)
{
    for (size_t i = 0; table->count > 0 && i <= table->mask; i++) {
        if (table->buckets[i] != NULL) {
            return table->buckets[i];
        }
    }
    return NULL;
}

struct sp_table_node *sp_table_each(const struct sp_table *table, const struct sp_table_node *last)
{
    struct sp_table_node *next = last == NULL ? NULL : last->next;
    size_t i = last == NULL ? 0 : (last->hash & table->mask) + 1;
    while (next == NULL && table->buckets != NULL && i <= table->mask) {
        next = table->buckets[i++];
    }
    return next;
}

void sp_table_deinit(struct sp_table *table)
{
    free(table->buckets);
    *table = (struct sp_table){NULL, 0, 0};
}
