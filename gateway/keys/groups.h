/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Every key group in memory, with the epochs that are accepted now and their keys, in locked memory. */
#ifndef SP_GATEWAY_KEYS_GROUPS_H
#define SP_GATEWAY_KEYS_GROUPS_H

#include "gateway/keys/registry.h"

struct sp_keys_group {
    struct sp_group group;
    size_t count; /**< epochs, rising; the last one is the newest */
    struct sp_group_epoch epochs[SP_EPOCHS_MAX];
    uint64_t
        seen_ms; /**< monotonic: since when the newest epoch waits to be used by sensors; 0: it does not */
};

struct sp_groups; /* opaque */

/** Read all groups. @param[out] out On SP_OK owned by the caller: sp_groups_destroy(). Else NULL. */
SP_MUST_CHECK enum sp_err sp_groups_load(struct sp_registry *reg, int64_t wall_ms,
                                         struct sp_groups **out);

/** Wipes the keys. NULL is fine. */
void sp_groups_destroy(struct sp_groups *groups);

size_t sp_groups_count(const struct sp_groups *groups);
struct sp_keys_group *sp_groups_at(struct sp_groups *groups, size_t index);

/** NULL when there is none of that name; `groups` may be NULL. */
struct sp_keys_group *sp_groups_find(struct sp_groups *groups, const char *name);

/** Keep what `old` knew about waiting epochs; a new one waits from `now_ms` on. */
void sp_groups_inherit(struct sp_groups *groups, struct sp_groups *old, uint64_t now_ms);

/** An epoch may be used by devices: its grace period, if it has one, is not over. */
bool sp_epoch_accepted(const struct sp_group_epoch *epoch, int64_t wall_ms);

/** The epoch that sensors are to use: the newest that is in use. NULL: none. */
const struct sp_group_epoch *sp_groups_current(const struct sp_keys_group *group);

/** The newest epoch, when sensors do not use it yet; else NULL. */
const struct sp_group_epoch *sp_groups_waiting(const struct sp_keys_group *group);

#endif
