/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * What each process may ask the kernel for. The default is the death of the process: a call that is not named here
 * is one that we never make, so whoever makes it is not us any more.
 *
 * Some calls are refused with an errno instead, because a library tries them and has another way: glibc's malloc
 * opens /proc/sys/vm/overcommit_memory when it shrinks an arena, GnuTLS looks for its configuration file, the
 * resolver asks nscd first, pthread_create() tries clone3() (whose flags no filter can see) before clone().
 */
#include <errno.h>
#include <linux/f2fs.h>
#include <linux/sched.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/proc/sandbox_internal.h"

#define G     SP_SANDBOX_GATE
#define K     SP_SANDBOX_KEYS
#define S     SP_SANDBOX_STORE
#define FILES SP_SANDBOX_FILES
#define ALL   SP_SANDBOX_ALL

#define CALL(name, who)                              \
    {                                                \
        .number = SCMP_SYS(name), .processes = (who) \
    }
#define CALL_IF(name, who, ...)                                                         \
    {                                                                                   \
        .number = SCMP_SYS(name), .processes = (who), .args = 1, .arg = { __VA_ARGS__ } \
    }
#define REFUSE(name, who, error)                                         \
    {                                                                    \
        .number = SCMP_SYS(name), .processes = (who), .refusal = (error) \
    }
#define REFUSE_IF(name, who, error, ...)                                                      \
    {                                                                                         \
        .number = SCMP_SYS(name), .processes = (who), .refusal = (error), .args = 1, .arg = { \
            __VA_ARGS__                                                                       \
        }                                                                                     \
    }

/* clang-format off */
static const struct sp_sandbox_rule rules[] = {
    /* bytes in and out, of what is open already; readv and writev for other C libraries and for glibc's last words before abort() */
    CALL(read, ALL), CALL(readv, ALL), CALL(write, ALL), CALL(writev, ALL), CALL(close, ALL),
    CALL(recvfrom, ALL), CALL(recvmsg, ALL), CALL(sendto, ALL), CALL(sendmsg, ALL),
    CALL(shutdown, ALL), CALL(fcntl, ALL), CALL(lseek, ALL), CALL(fstat, ALL),
    REFUSE_IF(ioctl, ALL, ENOTTY, 1, SCMP_CMP_EQ, TCGETS, 0), /* stdio asks about stderr */

    /* waiting: epoll_pwait and ppoll are what arm64 has for epoll_wait and poll; the clocks are for machines without a vDSO */
    CALL(epoll_ctl, ALL), CALL(epoll_wait, ALL), CALL(epoll_pwait, ALL), CALL(poll, ALL),
    CALL(ppoll, ALL), CALL(nanosleep, ALL), CALL(clock_nanosleep, ALL), CALL(clock_gettime, ALL),
    CALL(clock_getres, ALL), CALL(gettimeofday, ALL), CALL(time, ALL),

    /* threads, which start after the sandbox is entered, and none in keys; never another process */
    CALL_IF(clone, G | S, 0, SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD),
    REFUSE(clone3, G | S, ENOSYS),
    CALL(set_robust_list, G | S), CALL(rseq, G | S), CALL(exit, G | S), CALL(futex, ALL),
    CALL(sched_yield, ALL), CALL(sched_getaffinity, ALL), /* malloc counts processors before it makes an arena */
    CALL(getcpu, ALL),

    /* memory: never executable */
    CALL_IF(mmap, ALL, 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
    REFUSE_IF(mmap, ALL, EACCES, 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, PROT_EXEC),
    CALL_IF(mprotect, ALL, 2, SCMP_CMP_MASKED_EQ, PROT_EXEC, 0),
    CALL(munmap, ALL), CALL(mremap, ALL), CALL(madvise, ALL), CALL(brk, ALL), CALL(mlock, K),
    CALL(munlock, K),
    REFUSE_IF(prctl, ALL, EINVAL, 0, SCMP_CMP_EQ, PR_SET_VMA, 0), /* newer glibc may name its mappings */

    /* signals (abort() needs four of them), facts about this process and machine, the end */
    CALL(rt_sigaction, ALL), CALL(rt_sigprocmask, ALL), CALL(rt_sigreturn, ALL),
    CALL(restart_syscall, ALL), CALL(gettid, ALL), CALL(getpid, ALL), CALL(getuid, ALL),
    CALL(geteuid, ALL), CALL(getgid, ALL), CALL(getegid, ALL), CALL(uname, ALL),
    CALL(sysinfo, ALL), /* glibc's qsort(), of more than 1 KiB, asks how much memory there is */
    CALL_IF(prlimit64, ALL, 2, SCMP_CMP_EQ, 0, 0), /* to read a limit, not to set one */
    CALL(getrandom, ALL), CALL(exit_group, ALL),

    /* gate: new connections on sockets that the parent has opened */
    CALL(accept4, G), CALL(setsockopt, G | S), CALL(getsockopt, G | S),
    REFUSE(open, G, EACCES), REFUSE(openat, G, EACCES), REFUSE(stat, G, EACCES),
    REFUSE(lstat, G, EACCES), REFUSE(newfstatat, G, EACCES), REFUSE(statx, G, EACCES),
    REFUSE(access, G, EACCES), REFUSE(faccessat, G, EACCES), REFUSE(faccessat2, G, EACCES),
    REFUSE(readlink, G, EACCES), REFUSE(readlinkat, G, EACCES),

    /* keys, store: their database; Landlock says where. SQLite follows links and relative paths itself; arm64 has only the calls in …at. */
    CALL(open, FILES), CALL(openat, FILES), CALL(stat, FILES), CALL(lstat, FILES),
    CALL(newfstatat, FILES), CALL(statx, FILES), CALL(access, FILES), CALL(faccessat, FILES),
    CALL(faccessat2, FILES), CALL(readlink, FILES), CALL(readlinkat, FILES), CALL(getcwd, FILES),
    CALL(pread64, FILES), CALL(pwrite64, FILES), CALL(fsync, FILES), CALL(fdatasync, FILES),
    CALL(ftruncate, FILES), CALL(unlink, FILES), CALL(unlinkat, FILES), CALL(fchmod, FILES),
    CALL(fchown, FILES), /* SQLite gives its journal the owner of the database */
    REFUSE_IF(ioctl, FILES, ENOTTY, 1, SCMP_CMP_EQ, F2FS_IOC_GET_FEATURES, 0), /* SQLite, where it is built to use what F2FS can do */

    /* store: names, and connections to the cloud; Landlock says to which ports */
    CALL_IF(socket, S, 0, SCMP_CMP_EQ, AF_INET, 0),
    CALL_IF(socket, S, 0, SCMP_CMP_EQ, AF_INET6, 0),
    CALL_IF(socket, S, 0, SCMP_CMP_EQ, AF_NETLINK, 0), /* getaddrinfo() asks which families there are */
    REFUSE_IF(socket, S, EACCES, 0, SCMP_CMP_EQ, AF_UNIX, 0), /* the resolver tries nscd */
    CALL(connect, S), CALL(bind, S), /* the netlink socket's */
    CALL(getsockname, S), CALL(getpeername, S), /* DNS over TCP asks whom it is connected to */
    CALL(sendmmsg, S),
    CALL_IF(ioctl, S, 1, SCMP_CMP_EQ, FIONREAD, 0), /* the resolver, of an answer's length */
};
/* clang-format on */

/* What a build lets through for its own sake stands above the table. */
static bool is_extra(int number)
{
    for (size_t i = 0; i < sp_sandbox_extra_rule_count; i++) {
        if (sp_sandbox_extra_rules[i].number == number) {
            return true;
        }
    }
    return false;
}

static bool add_rules(scmp_filter_ctx filter, enum sp_process process,
                      const struct sp_sandbox_rule *table, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct sp_sandbox_rule *rule = &table[i];
        if ((rule->processes & (1U << process)) == 0 || rule->number < 0 ||
            (table == rules && is_extra(rule->number))) {
            continue; /* below 0: not on this architecture */
        }
        uint32_t action =
            rule->refusal == 0 ? SCMP_ACT_ALLOW : SCMP_ACT_ERRNO((uint32_t)rule->refusal);
        if (seccomp_rule_add_array(filter, action, rule->number, rule->args, &rule->arg) != 0) {
            sp_log_error(SP_EVENT("sandbox_failed"), SP_F_STR("part", "seccomp"),
                         SP_F_INT("call", rule->number));
            return false;
        }
    }
    return true;
}

/* tgkill() to this process itself: abort() and pthread_kill(). */
static bool add_own_signals(scmp_filter_ctx filter)
{
    struct scmp_arg_cmp own = {.arg = 0, .op = SCMP_CMP_EQ, .datum_a = (scmp_datum_t)getpid()};
    return seccomp_rule_add_array(filter, SCMP_ACT_ALLOW, SCMP_SYS(tgkill), 1, &own) == 0;
}

enum sp_err sp_sandbox_seccomp(enum sp_process process)
{
    scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);
    if (filter == NULL) {
        return SP_ERR_DENIED;
    }
    bool ok = seccomp_attr_set(filter, SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS) == 0 &&
              seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2) == 0 && /* binary tree */
              add_rules(filter, process, sp_sandbox_extra_rules, sp_sandbox_extra_rule_count) &&
              add_rules(filter, process, rules, sizeof(rules) / sizeof(rules[0])) &&
              add_own_signals(filter) && seccomp_load(filter) == 0;
    seccomp_release(filter);
    return ok ? SP_OK : SP_ERR_DENIED;
}
