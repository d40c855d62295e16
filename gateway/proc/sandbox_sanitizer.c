/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What the address and leak sanitizers do behind our back: read /proc, and stop the world from a traced clone. */
#include "gateway/proc/sandbox_internal.h"

#define CALL(name)                                            \
    {                                                         \
        .number = SCMP_SYS(name), .processes = SP_SANDBOX_ALL \
    }

const struct sp_sandbox_rule sp_sandbox_extra_rules[] = {
    CALL(prctl),      CALL(clone),      CALL(wait4),     CALL(getppid),     CALL(kill),
    CALL(pread64),    CALL(stat),       CALL(pipe2),     CALL(getdents64),  CALL(getdents),
    CALL(ptrace),     CALL(readlinkat), CALL(readlink),  CALL(dup),         CALL(tkill),
    CALL(capget),     CALL(getcwd),     CALL(open),      CALL(openat),      CALL(newfstatat),
    CALL(access),     CALL(tgkill),     CALL(setitimer), CALL(sigaltstack), CALL(getrusage),
    CALL(membarrier), CALL(mlock),      CALL(munlock),   CALL(lstat),       CALL(set_robust_list),
    CALL(rseq),       CALL(exit),       CALL(unlink),
};
const size_t sp_sandbox_extra_rule_count =
    sizeof(sp_sandbox_extra_rules) / sizeof(sp_sandbox_extra_rules[0]);
const char *const sp_sandbox_extra_folders[] = {"/proc", NULL};
