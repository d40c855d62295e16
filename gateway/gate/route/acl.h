/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What a role may publish and subscribe to (docs/protocol.md 2 and 4). Pure. */
#ifndef SP_GATEWAY_GATE_ROUTE_ACL_H
#define SP_GATEWAY_GATE_ROUTE_ACL_H

#include "gateway/config/config.h"

/** `topic` is `dt/<device>/climate`: a sensor record. */
bool sp_acl_is_record(struct sp_view device, struct sp_view topic);

/**
 * The role's filters allow it. Whatever they say: nothing under `$sp/`, `$share/`, `$SYS` or `$CONTROL`, and no device's record
 * but one's own.
 */
bool sp_acl_may_publish(const struct sp_role_config *role, struct sp_view device,
                        struct sp_view topic);

/** As a will: what the role may publish, never a record, and under `dt/<device>/` unless the role says otherwise. */
bool sp_acl_may_will(const struct sp_role_config *role, struct sp_view device,
                     struct sp_view topic);

/** All that `filter` matches is allowed. Names under `$sp/` are always allowed: each reaches its own device only. */
bool sp_acl_may_subscribe(const struct sp_role_config *role, struct sp_view device,
                          struct sp_view filter);

/** A subscription that was granted before, `$share/…` among them, still would be. */
bool sp_acl_may_keep(const struct sp_role_config *role, struct sp_view device,
                     struct sp_view filter);

#endif
