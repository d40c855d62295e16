/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The key groups as keys has told them to this loop: for open ones with their keys. */
#ifndef SP_GATEWAY_GATE_RECORDS_KEYRING_H
#define SP_GATEWAY_GATE_RECORDS_KEYRING_H

#include "gateway/proc/messages.h"

/** Zeroed = empty. */
struct sp_keyring {
    struct sp_msg_epoch *epochs; /* by group, then epoch */
    size_t count;
    bool known; /**< keys has told; until then no protected record can be judged */
};

/**
 * SP_MSG_GROUPS: in place of all there was, which is wiped.
 * @retval SP_ERR_MALFORMED Not such a message; nothing has changed. @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_keyring_replace(struct sp_keyring *ring, struct sp_view body);

/** An epoch that is accepted at `wall_ms`; NULL: there is none. Borrowed until the next replacement. */
const struct sp_msg_epoch *sp_keyring_find(const struct sp_keyring *ring, struct sp_view group,
                                           uint32_t epoch, uint64_t wall_ms);

/** Wipe and free. */
void sp_keyring_deinit(struct sp_keyring *ring);

#endif
