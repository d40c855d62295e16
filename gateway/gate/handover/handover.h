/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One gate process hands all its devices over to another one, which may be another build (docs/decisions/0005-upgrade.md).
 *
 *     going:   accept nothing more ─► stand still ─► write everything ─►            TAKEN ─► good-bye, GO ─► gone
 *     coming:                                        read everything  ─► TAKEN ─►                       GO ─► serve
 *
 * Between them is a socket pair of the parent's: items of gateway/gate/session/carry.h, sockets with SCM_RIGHTS. Until the going side has read
 * TAKEN, nothing has changed for it: whatever happens, it carries on. The coming side touches no socket before GO, or before it
 * sees that the other one has died.
 */
#ifndef SP_GATEWAY_GATE_HANDOVER_HANDOVER_H
#define SP_GATEWAY_GATE_HANDOVER_HANDOVER_H

#include "gateway/gate/worker.h"

/** What the two say to each other, one byte each, after the last item. */
#define SP_HANDOVER_TAKEN 'T' /**< coming → going */
#define SP_HANDOVER_GO    'G' /**< going → coming: serve */
#define SP_HANDOVER_NO    'N' /**< going → coming: I carry on */

/** Going: begin. In loop 0's thread; takes `fd` over. SP_CONTROL_KEPT follows when it fails; when it does not, the process ends. */
void sp_handover_begin(struct sp_gate *gate, int fd);

/** Going: a loop stands still. In its thread; returns when it is to go on. */
void sp_handover_park(struct sp_worker *worker);

/** Going: the gate stops for another reason. After the threads have ended. */
void sp_handover_deinit(struct sp_gate *gate);

/**
 * Coming: take everything over, before the loops run. Takes `fd` over.
 * @retval SP_ERR_CLOSED The other side, or the parent, has given it up.
 * @return Else what was wrong with what came. After an error the process is of no use.
 */
SP_MUST_CHECK enum sp_err sp_handover_take(struct sp_gate *gate, int fd);

#endif
