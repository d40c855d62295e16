/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Give rights up for good: no_new_privs, no core dumps, own uid, Landlock, seccomp. */
#ifndef SP_GATEWAY_PROC_SANDBOX_H
#define SP_GATEWAY_PROC_SANDBOX_H

#include "gateway/proc/proc.h"

/**
 * Enter the sandbox of a process; called once, after everything it needs is open, before the first byte
 * from outside is read and before threads start (seccomp filters are for all threads to come).
 *
 * gate: no file may be opened, no connect(), no exec, no fork, no ptrace. keys: no socket calls but on its pipes, files
 * beneath state_dir only. store: files beneath state_dir, the resolver's, and outgoing TCP.
 *
 * A call that is not allowed ends the process with SIGSYS; the kernel log (audit, type=1326) has its number.
 *
 * @return SP_OK, or SP_ERR_DENIED when a lock that this kernel has could not be put on (then: do not serve).
 */
SP_MUST_CHECK enum sp_err sp_sandbox_enter(enum sp_process process, const struct sp_config *config);

#endif
