/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The journal thread: what gate appends becomes durable, in group commits, and is handed to the cloud. */
#ifndef SP_GATEWAY_STORE_KEEPER_H
#define SP_GATEWAY_STORE_KEEPER_H

#include "gateway/proc/proc.h"
#include "gateway/store/handoff.h"
#include "gateway/store/journal.h"

#define SP_KEEPER_WINDOW_ROWS  1024U      /**< rows of one link in memory */
#define SP_KEEPER_WINDOW_BYTES (1U << 20) /**< and their bytes, but always one row */
#define SP_KEEPER_LOOSE_ROWS   256U       /**< QoS 0 rows of one link in memory */
#define SP_KEEPER_LOOSE_BYTES  (256U << 10)
#define SP_KEEPER_TICK_MS      1000U /**< rows that have ended wait no longer to leave the journal */
#define SP_KEEPER_MARKS_MS \
    200U /**< a mark of what is not in the journal waits no longer for a commit */
#define SP_KEEPER_MARKS 1024U /**< nor when there are so many */

struct sp_keeper; /* opaque */

/**
 * @param[in] child   Its control fd stays the child's; its store fds, config->threads of them, are taken over.
 * @param[in] journal Borrowed until sp_keeper_destroy().
 * @param[in] handoff The same; NULL: there is no cloud, and every message is refused.
 * @retval SP_ERR_NOMEM, SP_ERR_IO
 */
SP_MUST_CHECK enum sp_err sp_keeper_create(const struct sp_child *child, struct sp_journal *journal,
                                           struct sp_handoff *handoff, struct sp_keeper **out);
void sp_keeper_destroy(struct sp_keeper *keeper); /**< NULL is fine */

/**
 * Serve until SP_CONTROL_STOP or the parent's end: what was read by then is committed and answered.
 * @return false: a channel to gate broke in another way than by gate's end. Only a new process gets a new one.
 */
bool sp_keeper_run(struct sp_keeper *keeper);

/** It was told to end because another store waits for the journal. */
bool sp_keeper_in_a_hurry(const struct sp_keeper *keeper);

/** After the cloud thread has ended: the journal lets go of what the cloud took. */
void sp_keeper_finish(struct sp_keeper *keeper);

#endif
