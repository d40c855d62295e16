/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Short names that many have in common, each kept once: a struct sp_table of them, by their text. */
#ifndef SP_GATEWAY_GATE_CORE_NAMES_H
#define SP_GATEWAY_GATE_CORE_NAMES_H

#include "gateway/gate/core/table.h"

struct sp_name; /**< opaque; stays while somebody holds it */

/**
 * Hold a name, which is copied when nobody holds it yet.
 * @param[in] text At most 255 bytes.
 * @return NULL: it is empty or too long, or there is no memory.
 */
struct sp_name *sp_name_hold(struct sp_table *names, struct sp_view text);

/** NULL is fine. */
void sp_name_release(struct sp_table *names, struct sp_name *name);

/** Borrowed while it is held; empty for NULL. */
struct sp_view sp_name_text(const struct sp_name *name);

#endif
