/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/names.h"

#include "gateway/slab/slab.h"

struct sp_name {
    struct sp_table_node node; /* first: found by casting back */
    uint32_t holders;
    uint8_t len;
    uint8_t text[];
};

static struct sp_slabs slabs = SP_SLABS_INIT;

struct sp_view sp_name_text(const struct sp_name *name)
{
    return name == NULL ? (struct sp_view){NULL, 0} : sp_view(name->text, name->len);
}

static uint64_t hash_of(const struct sp_table_node *node)
{
    return sp_hash(sp_hash_seed(), sp_name_text((const struct sp_name *)node));
}

static struct sp_name *find(const struct sp_table *names, struct sp_view text)
{
    struct sp_table_node *node = sp_table_find(names, sp_hash(sp_hash_seed(), text));
    while (node != NULL && !sp_view_equal(sp_name_text((struct sp_name *)node), text)) {
        node = sp_table_next(node);
    }
    return (struct sp_name *)node;
}

struct sp_name *sp_name_hold(struct sp_table *names, struct sp_view text)
{
    if (text.len == 0 || text.len > UINT8_MAX) {
        return NULL;
    }
    struct sp_name *name = find(names, text);
    if (name == NULL) {
        name = sp_slabs_take(&slabs, sizeof(*name) + text.len);
        if (name == NULL) {
            return NULL;
        }
        name->len = (uint8_t)text.len;
        sp_copy(name->text, text.ptr, text.len);
        if (sp_table_insert(names, &name->node, hash_of) != SP_OK) {
            sp_slabs_give(&slabs, name, sizeof(*name) + text.len);
            return NULL;
        }
    }
    name->holders++;
    return name;
}

void sp_name_release(struct sp_table *names, struct sp_name *name)
{
    if (name != NULL && --name->holders == 0) {
        sp_table_remove(names, &name->node);
        sp_slabs_give(&slabs, name, sizeof(*name) + name->len);
    }
}
