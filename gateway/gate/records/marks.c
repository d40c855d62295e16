/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/records/marks.h"

#include "gateway/gate/session/home.h"
#include "gateway/slab/slab.h"

#include <stdlib.h>
#include <string.h>

static struct sp_slab slab = SP_SLAB_INIT(sizeof(struct sp_mark));

static struct sp_view device_of(const struct sp_mark *mark)
{
    return sp_view(mark->device, mark->device_len);
}

static struct sp_view group_of(const struct sp_mark *mark)
{
    return sp_view(mark->group, mark->group_len);
}

static uint64_t hash_of(struct sp_view device, struct sp_view group, uint32_t epoch)
{
    return sp_hash(sp_hash(sp_hash_seed() ^ epoch, device), group);
}

static uint64_t hash_of_mark(const struct sp_table_node *node)
{
    const struct sp_mark *mark = (const struct sp_mark *)node;
    return hash_of(device_of(mark), group_of(mark), mark->epoch);
}

struct sp_mark *sp_marks_find(const struct sp_marks *marks, struct sp_view device,
                              struct sp_view group, uint32_t epoch)
{
    struct sp_table_node *node = sp_table_find(&marks->table, hash_of(device, group, epoch));
    for (; node != NULL; node = sp_table_next(node)) {
        struct sp_mark *mark = (struct sp_mark *)node;
        if (mark->epoch == epoch && sp_view_equal(device_of(mark), device) &&
            sp_view_equal(group_of(mark), group)) {
            return mark;
        }
    }
    return NULL;
}

struct sp_mark *sp_marks_get(struct sp_marks *marks, struct sp_view device, struct sp_view group,
                             uint32_t epoch)
{
    struct sp_mark *mark = sp_marks_find(marks, device, group, epoch);
    if (mark != NULL || device.len > sizeof(mark->device) || group.len > sizeof(mark->group)) {
        return mark;
    }
    mark = sp_slab_take(&slab);
    if (mark == NULL) {
        return NULL;
    }
    mark->epoch = epoch;
    mark->device_len = (uint8_t)device.len;
    mark->group_len = (uint8_t)group.len;
    sp_copy(mark->device, device.ptr, device.len);
    sp_copy(mark->group, group.ptr, group.len);
    if (sp_table_insert(&marks->table, &mark->node, hash_of_mark) != SP_OK) {
        sp_slab_give(&slab, mark);
        return NULL;
    }
    mark->next = marks->all;
    marks->all = mark;
    return mark;
}

void sp_mark_settle(struct sp_mark *mark, bool durable)
{
    if (durable && mark->pending > mark->counter) {
        mark->counter = mark->pending;
    }
    mark->pending = 0;
}

static enum sp_err load_one(struct sp_marks *marks, const struct sp_msg_mark *m, uint16_t loop,
                            uint16_t loops)
{
    struct sp_view device = sp_view(m->device, m->device_len);
    struct sp_view group = sp_view(m->group, m->group_len);
    if (m->device_len > sizeof(m->device) || m->group_len > sizeof(m->group)) {
        return SP_ERR_MALFORMED;
    }
    if (sp_home_of(device, loops) != loop) {
        return SP_OK;
    }
    struct sp_mark *mark = sp_marks_get(marks, device, group, m->epoch);
    if (mark == NULL) {
        return SP_ERR_NOMEM;
    }
    mark->counter = m->counter > mark->counter ? m->counter : mark->counter;
    return SP_OK;
}

enum sp_err sp_marks_load(struct sp_marks *marks, struct sp_view body, bool last, uint16_t loop,
                          uint16_t loops)
{
    struct sp_msg_mark one;
    if (body.len % sizeof(one) != 0) {
        return SP_ERR_MALFORMED;
    }
    for (size_t at = 0; at < body.len; at += sizeof(one)) {
        sp_copy(&one, sp_view_from(body, at).ptr, sizeof(one));
        SP_TRY(load_one(marks, &one, loop, loops));
    }
    marks->complete |= last;
    return SP_OK;
}

static void destroy(struct sp_marks *marks, struct sp_mark *mark)
{
    sp_table_remove(&marks->table, &mark->node);
    sp_wipe(mark, sizeof(*mark));
    sp_slab_give(&slab, mark);
}

void sp_marks_prune(struct sp_marks *marks, const struct sp_keyring *ring, uint64_t wall_ms)
{
    struct sp_mark **at = &marks->all;
    while (*at != NULL) {
        struct sp_mark *mark = *at;
        if (mark->pending != 0 ||
            sp_keyring_find(ring, group_of(mark), mark->epoch, wall_ms) != NULL) {
            at = &mark->next;
        } else {
            *at = mark->next;
            destroy(marks, mark);
        }
    }
}

void sp_marks_deinit(struct sp_marks *marks)
{
    while (marks->all != NULL) {
        struct sp_mark *mark = marks->all;
        marks->all = mark->next;
        destroy(marks, mark);
    }
    sp_table_deinit(&marks->table);
}
