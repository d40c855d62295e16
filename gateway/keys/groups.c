/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/groups.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/keys/locked.h"

struct sp_groups {
    size_t count;
    size_t cap;
    struct sp_keys_group *items; /* locked, `cap` of them */
};

struct load {
    struct sp_groups *groups;
    struct sp_registry *reg;
    int64_t wall_ms;
};

static enum sp_err count_group(void *arg, const struct sp_group *group)
{
    (void)group;
    (*(size_t *)arg)++;
    return SP_OK;
}

static enum sp_err take_epoch(void *arg, const struct sp_group_epoch *epoch)
{
    const struct load *load = arg;
    struct sp_keys_group *g = &load->groups->items[load->groups->count];
    if (!sp_epoch_accepted(epoch, load->wall_ms)) {
        return SP_OK;
    }
    if (g->count == SP_EPOCHS_MAX) { /* more than the registry lets through: the oldest goes */
        memmove(&g->epochs[0], &g->epochs[1], (g->count - 1) * sizeof(g->epochs[0]));
        g->count--;
    }
    g->epochs[g->count++] = *epoch;
    return SP_OK;
}

static enum sp_err take_group(void *arg, const struct sp_group *group)
{
    struct load *load = arg;
    struct sp_groups *groups = load->groups;
    if (groups->count == groups->cap) {
        return SP_ERR_AGAIN; /* one more since they were counted */
    }
    groups->items[groups->count].group = *group;
    groups->items[groups->count].count = 0;
    SP_TRY(sp_registry_group_epochs(load->reg, group->name, take_epoch, load));
    groups->count++;
    return SP_OK;
}

enum sp_err sp_groups_load(struct sp_registry *reg, int64_t wall_ms, struct sp_groups **out)
{
    *out = NULL;
    size_t count = 0;
    SP_TRY(sp_registry_group_each(reg, count_group, &count));
    struct sp_groups *groups = calloc(1, sizeof(*groups));
    if (groups == NULL) {
        return SP_ERR_NOMEM;
    }
    groups->cap = count;
    struct load load = {groups, reg, wall_ms};
    enum sp_err err = SP_OK;
    if (count > 0) {
        groups->items = sp_locked_alloc(count * sizeof(*groups->items));
        err = groups->items == NULL ? SP_ERR_NOMEM : sp_registry_group_each(reg, take_group, &load);
    }
    if (err != SP_OK) {
        sp_groups_destroy(groups);
        return err;
    }
    *out = groups;
    return SP_OK;
}

void sp_groups_destroy(struct sp_groups *groups)
{
    if (groups != NULL) {
        sp_locked_free(groups->items, groups->cap * sizeof(*groups->items));
        free(groups);
    }
}

size_t sp_groups_count(const struct sp_groups *groups)
{
    return groups == NULL ? 0 : groups->count;
}

struct sp_keys_group *sp_groups_at(struct sp_groups *groups, size_t index)
{
    return &groups->items[index];
}

struct sp_keys_group *sp_groups_find(struct sp_groups *groups, const char *name)
{
    for (size_t i = 0; i < sp_groups_count(groups); i++) {
        if (strcmp(groups->items[i].group.name, name) == 0) {
            return &groups->items[i];
        }
    }
    return NULL;
}

void sp_groups_inherit(struct sp_groups *groups, struct sp_groups *old, uint64_t now_ms)
{
    for (size_t i = 0; i < groups->count; i++) {
        struct sp_keys_group *g = &groups->items[i];
        const struct sp_group_epoch *waiting = sp_groups_waiting(g);
        const struct sp_keys_group *was = sp_groups_find(old, g->group.name);
        bool same = was != NULL && was->group.last_epoch == g->group.last_epoch;
        g->seen_ms = waiting == NULL ? 0 : same && was->seen_ms != 0 ? was->seen_ms : now_ms;
    }
}

bool sp_epoch_accepted(const struct sp_group_epoch *epoch, int64_t wall_ms)
{
    return epoch->until_ms == 0 || epoch->until_ms > wall_ms;
}

const struct sp_group_epoch *sp_groups_current(const struct sp_keys_group *group)
{
    for (size_t i = group->count; i > 0; i--) {
        if (group->epochs[i - 1].active_ms != 0) {
            return &group->epochs[i - 1];
        }
    }
    return NULL;
}

const struct sp_group_epoch *sp_groups_waiting(const struct sp_keys_group *group)
{
    const struct sp_group_epoch *newest =
        group->count == 0 ? NULL : &group->epochs[group->count - 1];
    return newest != NULL && newest->active_ms == 0 ? newest : NULL;
}
