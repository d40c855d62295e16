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

/* Any number of buckets will do: the hash is a fraction of them. */
static sp_ref *bucket_of(const struct sp_table *table, uint64_t hash)
{
    __extension__ typedef unsigned __int128 wide;
    return &table->buckets[(size_t)((wide)hash * table->size >> 64)];
}

static void link_node(struct sp_table *table, struct sp_table_node *node)
{
    sp_ref *bucket = bucket_of(table, table->hash(node));
    node->next = *bucket;
    *bucket = sp_ref_of(node);
}

static enum sp_err grow(struct sp_table *table)
{
    size_t size = table->size < FIRST_BUCKETS ? FIRST_BUCKETS : table->size + table->size / 4;
    sp_ref *buckets = calloc(size, sizeof(*buckets));
    if (buckets == NULL) {
        return SP_ERR_NOMEM;
    }
    struct sp_table old = *table;
    table->buckets = buckets;
    table->size = size;
    for (size_t i = 0; i < old.size; i++) {
        struct sp_table_node *node = sp_ref_get(old.buckets[i]);
        while (node != NULL) {
            struct sp_table_node *next = sp_table_next(node);
            link_node(table, node);
            node = next;
        }
    }
    free(old.buckets);
    return SP_OK;
}

struct sp_table_node *sp_table_find(const struct sp_table *table, uint64_t hash)
{
    return table->buckets == NULL ? NULL : sp_ref_get(*bucket_of(table, hash));
}

struct sp_table_node *sp_table_next(const struct sp_table_node *node)
{
    return sp_ref_get(node->next);
}

enum sp_err sp_table_insert(struct sp_table *table, struct sp_table_node *node, sp_table_hash hash)
{
    table->hash = hash;
    if (table->count == table->size) {
        SP_TRY(grow(table));
    }
    link_node(table, node);
    table->count++;
    return SP_OK;
}

void sp_table_remove(struct sp_table *table, struct sp_table_node *node)
{
    sp_ref *at = bucket_of(table, table->hash(node));
    while (sp_ref_at(*at) != node) {
        at = &((struct sp_table_node *)sp_ref_at(*at))->next;
    }
    *at = node->next;
    table->count--;
}

/* The first entry from a bucket on; NULL: none. */
static struct sp_table_node *first_from(const struct sp_table *table, size_t bucket)
{
    struct sp_table_node *node = NULL;
    for (size_t i = bucket; i < table->size && node == NULL; i++) {
        node = sp_ref_get(table->buckets[i]);
    }
    return node;
}

struct sp_table_node *sp_table_any(const struct sp_table *table)
{
    return table->count > 0 ? first_from(table, 0) : NULL;
}

struct sp_table_node *sp_table_each(const struct sp_table *table, const struct sp_table_node *last)
{
    if (last == NULL) {
        return first_from(table, 0);
    }
    if (last->next != 0) {
        return sp_ref_at(last->next);
    }
    return first_from(table, (size_t)(bucket_of(table, table->hash(last)) - table->buckets) + 1);
}

void sp_table_deinit(struct sp_table *table)
{
    free(table->buckets);
    *table = (struct sp_table){.count = 0};
}
