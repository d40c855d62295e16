/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Who gets which app key when (docs/protocol.md 6): grants, acknowledgements, rotation.
 *
 * A session is one connection with a verdict `ok`. A sensor needs the record key of the epoch that sensors use, a
 * monitor the group key of every epoch that is accepted; one grant at a time, repeated after SP_GRANT_WAIT_MS, three in
 * all, then an alarm. One thread. No time is read here: `now_ms` is monotonic, `wall_ms` counts since 1970.
 */
#ifndef SP_GATEWAY_KEYS_GRANTS_H
#define SP_GATEWAY_KEYS_GRANTS_H

#include "gateway/keys/groups.h"

#define SP_GRANT_WAIT_MS 10000U
#define SP_GRANT_TRIES   3U

struct sp_grants; /* opaque */

struct sp_grants_ops {
    void *arg;
    /** Send a grant to the connection `tag` of a loop. */
    void (*send)(void *arg, unsigned loop, uint64_t tag, struct sp_view grant);
};

/** The time of a call. */
struct sp_grants_now {
    uint64_t now_ms;
    int64_t wall_ms;
};

/** @param[in] reg Borrowed: KEKs and serials come from it. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_grants_create(struct sp_registry *reg, const struct sp_grants_ops *ops,
                                           struct sp_grants **out);
/** NULL is fine. */
void sp_grants_destroy(struct sp_grants *g);

/** A device of a group has got the verdict `ok` on this connection. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_grants_attested(struct sp_grants *g, unsigned loop, uint64_t tag,
                                             const struct sp_device *device);

/** The gate has admitted the connection: grants may go there. */
void sp_grants_ready(struct sp_grants *g, unsigned loop, uint64_t tag, struct sp_groups *groups,
                     struct sp_grants_now now);

/** The connection is gone, or its verdict is. */
void sp_grants_gone(struct sp_grants *g, unsigned loop, uint64_t tag);

/** All connections of a loop are gone. */
void sp_grants_loop_gone(struct sp_grants *g, unsigned loop);

/** A device was revoked, removed or changed: nothing more goes to it. */
void sp_grants_lost(struct sp_grants *g, struct sp_view id);

/** An answer; `mark` as in struct sp_msg_grant_ack. One that does not open is counted and forgotten. */
void sp_grants_ack(struct sp_grants *g, unsigned loop, uint64_t tag, struct sp_view ack,
                   uint64_t mark, struct sp_groups *groups, struct sp_grants_now now);

/**
 * Send what is due; to be called some times per second and after a change of the groups.
 * An epoch that all monitors have, or that has waited for 10 s, comes into use.
 */
void sp_grants_tick(struct sp_grants *g, struct sp_groups *groups, struct sp_grants_now now);

/** Sessions that are known. */
size_t sp_grants_count(const struct sp_grants *g);

#endif
