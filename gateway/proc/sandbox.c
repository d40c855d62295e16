/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/proc/sandbox.h"

#include <errno.h>
#include <grp.h>
#include <linux/capability.h>
#include <pwd.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/proc/sandbox_internal.h"

static enum sp_err failed(const char *part)
{
    sp_log_error(SP_EVENT("sandbox_failed"), SP_F_STR("part", part), SP_F_ERRNO(errno));
    return SP_ERR_DENIED;
}

/* gate: a user who owns nothing. keys and store: whoever owns the state. */
static bool find_ids(enum sp_process process, const struct sp_config *config, uid_t *uid,
                     gid_t *gid)
{
    if (process == SP_PROCESS_GATE) {
        const char *name = config->user != NULL ? config->user : "nobody";
        const struct passwd *user = getpwnam(name); /* no threads yet */
        if (user == NULL) {
            errno = ENOENT;
            sp_log_error(SP_EVENT("no_such_user"), SP_F_STR("user", name));
            return false;
        }
        *uid = user->pw_uid;
        *gid = user->pw_gid;
        return true;
    }
    struct stat state;
    if (stat(config->state_dir, &state) != 0) {
        return false;
    }
    *uid = state.st_uid;
    *gid = state.st_gid;
    return true;
}

/* A gateway of root's, with a state of root's, keeps the uid for its files and loses what else makes root. */
static bool drop_capabilities(void)
{
    struct __user_cap_header_struct header = {.version = _LINUX_CAPABILITY_VERSION_3};
    struct __user_cap_data_struct none[_LINUX_CAPABILITY_U32S_3] = {{0}};
    return prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) == 0 &&
           syscall(SYS_capset, &header, none) == 0;
}

static enum sp_err drop_user(enum sp_process process, const struct sp_config *config)
{
    uid_t uid;
    gid_t gid;
    if (geteuid() == 0) {
        if (!find_ids(process, config, &uid, &gid) || setgroups(0, NULL) != 0 ||
            setresgid(gid, gid, gid) != 0 || setresuid(uid, uid, uid) != 0) {
            return failed("user");
        }
    }
    return drop_capabilities() ? SP_OK : failed("capabilities");
}

enum sp_err sp_sandbox_enter(enum sp_process process, const struct sp_config *config)
{
    const struct rlimit none = {0, 0};
    SP_TRY(drop_user(process, config));
    /* after the user has changed, which undoes the next two */
    if (prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0) !=
        0) { /* no orphan works on beside a new gateway */
        return failed("parent");
    }
    if (prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) != 0 || setrlimit(RLIMIT_CORE, &none) != 0) {
        return failed("dumps");
    }
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) {
        return failed("no_new_privs");
    }
    SP_TRY(sp_sandbox_landlock(process, config));
    return sp_sandbox_seccomp(process) == SP_OK ? SP_OK : failed("seccomp");
}
