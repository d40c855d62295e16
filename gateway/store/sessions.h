/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Kept sessions in the journal's file: that they exist, what they subscribe to, and what waits for their devices.
 *
 * They are part of the journal: what is staged here becomes durable with the next sp_journal_commit(), in its transaction
 * and under its sync, and what a failed commit refused is not taken for durable. All functions belong to the journal's
 * thread.
 */
#ifndef SP_GATEWAY_STORE_SESSIONS_H
#define SP_GATEWAY_STORE_SESSIONS_H

#include "gateway/proc/kept.h"
#include "gateway/store/journal.h"

struct sp_sessions_stats {
    uint64_t sessions;
    uint64_t messages; /**< in their queues */
    uint64_t bytes;    /**< of them, each with SP_SESSIONS_OVERHEAD */
};

#define SP_SESSIONS_OVERHEAD 64U

/** Committed and staged. */
struct sp_sessions_stats sp_sessions_stats(const struct sp_journal *journal);

/**
 * Write down a change for the next commit; copied. Changes of one device keep their order.
 * @retval SP_ERR_IO    The journal is broken.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_sessions_stage(struct sp_journal *journal,
                                            const struct sp_kept *change);

/** Something is staged. */
bool sp_sessions_staged(const struct sp_journal *journal);

/** Where a walk over all sessions is. Zeroed = at the beginning. */
struct sp_sessions_walk {
    char device[SP_LINK_IDENTITY_MAX + 1]; /* the one before, or the one that the walk is in */
    uint64_t number;                       /* of its last message that was shown */
    bool inside;                           /* its messages are not all shown */
};

typedef enum sp_err (*sp_sessions_fn)(void *arg, const struct sp_kept *record);

/**
 * Show what is committed: of each device its session, its subscriptions, its messages in order, as records to be applied to
 * nothing. Stops once so many bytes were shown, to be called again.
 *
 * @param[in,out] walk
 * @param[in]     bytes At least 1.
 * @param[out]    done  There is no more.
 * @retval SP_ERR_IO @return Else what `fn` returned.
 */
SP_MUST_CHECK enum sp_err sp_sessions_walk(struct sp_journal *journal,
                                           struct sp_sessions_walk *walk, size_t bytes,
                                           sp_sessions_fn fn, void *arg, bool *done);

#endif
