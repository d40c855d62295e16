/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file An intrusive hash table: entries embed a node, so that it allocates nothing but its row of buckets. For each entry that is
 * 4 bytes of node and 4 to 5 of buckets: entries lie in slabs and are named by refs; it keeps no hashes, and grows by a quarter.
 */
#ifndef SP_GATEWAY_GATE_CORE_TABLE_H
#define SP_GATEWAY_GATE_CORE_TABLE_H

#include "gateway/slab/ref.h"
#include "libs/base/bytes.h"

struct sp_table_node {
    sp_ref next;
};

/** The hash of an entry's key. */
typedef uint64_t (*sp_table_hash)(const struct sp_table_node *node);

/** Zeroed = empty. */
struct sp_table {
    sp_ref *buckets;
    size_t size; /* of them */
    size_t count;
    sp_table_hash hash;
};

/** Mix bytes into a hash; start with sp_hash_seed(), chain by giving the last result as `seed`. */
uint64_t sp_hash(uint64_t seed, struct sp_view bytes);

/** Random for each process, so that nobody outside can choose what collides. */
uint64_t sp_hash_seed(void);

/** The first of those among which one with that hash is, then the next; the caller compares keys. NULL at the end. */
struct sp_table_node *sp_table_find(const struct sp_table *table, uint64_t hash);
struct sp_table_node *sp_table_next(const struct sp_table_node *node);

/**
 * @param[in] node The first field of an entry that lies in a slab and has its key.
 * @param[in] hash The same for all entries of a table.
 * @retval SP_ERR_NOMEM Nothing was put in.
 */
SP_MUST_CHECK enum sp_err sp_table_insert(struct sp_table *table, struct sp_table_node *node,
                                          sp_table_hash hash);
void sp_table_remove(struct sp_table *table, struct sp_table_node *node);

/** Walk all, in no order: the entry behind `last`, which must still be there; NULL begins, and NULL ends. */
struct sp_table_node *sp_table_each(const struct sp_table *table, const struct sp_table_node *last);

/** Any entry, to empty the table one by one; NULL when there is none. */
struct sp_table_node *sp_table_any(const struct sp_table *table);

/** Frees the buckets, not the entries. */
void sp_table_deinit(struct sp_table *table);

#endif
