/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The tables of the sandbox, private to this folder. */
#ifndef SP_GATEWAY_PROC_SANDBOX_INTERNAL_H
#define SP_GATEWAY_PROC_SANDBOX_INTERNAL_H

#include "gateway/proc/sandbox.h"

#include <seccomp.h>

#define SP_SANDBOX_GATE  (1U << SP_PROCESS_GATE)
#define SP_SANDBOX_KEYS  (1U << SP_PROCESS_KEYS)
#define SP_SANDBOX_STORE (1U << SP_PROCESS_STORE)
#define SP_SANDBOX_FILES (SP_SANDBOX_KEYS | SP_SANDBOX_STORE)
#define SP_SANDBOX_ALL   (SP_SANDBOX_GATE | SP_SANDBOX_KEYS | SP_SANDBOX_STORE)

/** One system call that is let through, or refused with an errno. Whatever no rule names ends the process. */
struct sp_sandbox_rule {
    int number;
    unsigned processes; /**< SP_SANDBOX_* */
    int refusal;        /**< 0 = let through, else the errno */
    unsigned args;      /**< conditions in `arg` that count: 0 or 1 */
    struct scmp_arg_cmp arg;
};

/** System calls, and folders that may be read, for what is linked into this build only: sandbox_plain.c or sandbox_sanitizer.c. */
extern const struct sp_sandbox_rule sp_sandbox_extra_rules[];
extern const size_t sp_sandbox_extra_rule_count;
extern const char *const sp_sandbox_extra_folders[]; /**< NULL-terminated */

/** Put the system call filter of a process on. */
SP_MUST_CHECK enum sp_err sp_sandbox_seccomp(enum sp_process process);

/** Put the file and network rules of a process on; SP_OK also when this kernel has none. */
SP_MUST_CHECK enum sp_err sp_sandbox_landlock(enum sp_process process,
                                              const struct sp_config *config);

#endif
