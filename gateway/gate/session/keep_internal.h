/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Between the two halves of gate/session/keep.h. Private to them. */
#ifndef SP_GATEWAY_GATE_SESSION_KEEP_INTERNAL_H
#define SP_GATEWAY_GATE_SESSION_KEEP_INTERNAL_H

#include "gateway/gate/session/home.h"
#include "gateway/proc/kept.h"

/** Into the batch, with a ticket unless it is SP_KEPT_SETTLED. @retval SP_ERR_CLOSED, SP_ERR_NOMEM It is told again later. */
enum sp_err sp_keep_tell(struct sp_home *home, const struct sp_kept *change);

/** A session of which nothing is here ends. */
void sp_keep_forget(struct sp_home *home, struct sp_view identity);

/** A load begins: from now on some revocations find room without memory. */
void sp_keep_lay_in(struct sp_home *home);

/** Throw away what was parked. */
void sp_keep_unpark(struct sp_home *home);

#endif
