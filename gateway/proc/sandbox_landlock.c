/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Landlock by its system calls: Debian 12's header knows files only, the kernel may know more (landlock(7)), so numbers and
 * structures of later versions are written out here.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <stdio.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/proc/sandbox_internal.h"

#define FS_TRUNCATE         (1ULL << 14) /* version 3 */
#define FS_IOCTL_DEV        (1ULL << 15) /* version 5 */
#define FS_VERSION_1        ((1ULL << 13) - 1U)
#define NET_BIND_TCP        1ULL /* version 4 */
#define NET_CONNECT_TCP     2ULL /* version 4 */
#define SCOPE_ABSTRACT_UNIX 1ULL /* version 6 */
#define SCOPE_SIGNAL        2ULL /* version 6 */
#define RULE_NET_PORT       2

#define FS_READ (LANDLOCK_ACCESS_FS_READ_FILE)
#define FS_STATE                                                                                  \
    (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR | LANDLOCK_ACCESS_FS_WRITE_FILE | \
     LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_REMOVE_FILE | LANDLOCK_ACCESS_FS_MAKE_DIR | \
     LANDLOCK_ACCESS_FS_REMOVE_DIR | FS_TRUNCATE)

struct ruleset {
    uint64_t handled_fs;
    uint64_t handled_net;
    uint64_t scoped;
};

struct net_rule {
    uint64_t allowed;
    uint64_t port;
};

/* For names only; a resolver that rewrites its file keeps it in one of the folders. What is missing is left out. */
static const char *const resolver_files[] = {
    "/etc/resolv.conf",     "/etc/hosts",
    "/etc/nsswitch.conf",   "/etc/host.conf",
    "/etc/gai.conf",        "/etc/services",
    "/run/systemd/resolve", "/run/NetworkManager",
    "/run/resolvconf",      NULL,
};

static struct ruleset ruleset_for(int version)
{
    struct ruleset set = {.handled_fs = FS_VERSION_1};
    if (version >= 2) {
        set.handled_fs |= LANDLOCK_ACCESS_FS_REFER;
    }
    if (version >= 3) {
        set.handled_fs |= FS_TRUNCATE;
    }
    if (version >= 4) {
        set.handled_net = NET_BIND_TCP | NET_CONNECT_TCP;
    }
    if (version >= 5) {
        set.handled_fs |= FS_IOCTL_DEV;
    }
    if (version >= 6) {
        set.scoped = SCOPE_ABSTRACT_UNIX | SCOPE_SIGNAL;
    }
    return set;
}

static size_t ruleset_size(int version)
{
    if (version >= 6) {
        return sizeof(struct ruleset);
    }
    return version >= 4 ? offsetof(struct ruleset, scoped) : sizeof(uint64_t);
}

/* Let `access` through beneath a path; a path that is not there is fine unless `required`. */
static bool allow_path(int fd, const struct ruleset *set, const char *path, uint64_t access,
                       bool required)
{
    int at = open(path, O_PATH | O_CLOEXEC);
    if (at < 0) {
        return !required;
    }
    struct landlock_path_beneath_attr rule = {.allowed_access = access & set->handled_fs,
                                              .parent_fd = at};
    long rc = syscall(SYS_landlock_add_rule, fd, LANDLOCK_RULE_PATH_BENEATH, &rule, 0U);
    close(at);
    return rc == 0;
}

static bool allow_port(int fd, const struct ruleset *set, uint16_t port)
{
    struct net_rule rule = {.allowed = NET_CONNECT_TCP, .port = port};
    return set->handled_net == 0 ||
           syscall(SYS_landlock_add_rule, fd, RULE_NET_PORT, &rule, 0U) == 0;
}

static bool allow_files(int fd, const struct ruleset *set, const char *const *files,
                        uint64_t access)
{
    for (size_t i = 0; files[i] != NULL; i++) {
        if (!allow_path(fd, set, files[i], access, false)) {
            return false;
        }
    }
    return true;
}

/* gate gets nothing; keys its folder; store its folder, the resolver's files, the cloud's port and DNS. */
static bool add_rules(int fd, const struct ruleset *set, enum sp_process process,
                      const struct sp_config *config)
{
    if (!allow_files(fd, set, sp_sandbox_extra_folders, FS_READ | LANDLOCK_ACCESS_FS_READ_DIR)) {
        return false;
    }
    if (process == SP_PROCESS_KEYS) {
        return allow_path(fd, set, config->state_dir, FS_STATE, true);
    }
    if (process == SP_PROCESS_STORE) {
        char journal
            [4096]; /* beside it lie the registry and the master key, which are not for store */
        (void)snprintf(journal, sizeof(journal), "%s/journal", config->state_dir);
        return allow_path(fd, set, journal, FS_STATE, true) &&
               allow_files(fd, set, resolver_files, FS_READ) && allow_port(fd, set, 53) &&
               (!config->cloud.enabled || allow_port(fd, set, config->cloud.port));
    }
    return true;
}

enum sp_err sp_sandbox_landlock(enum sp_process process, const struct sp_config *config)
{
    long version = syscall(SYS_landlock_create_ruleset, NULL, 0UL, LANDLOCK_CREATE_RULESET_VERSION);
    if (version < 1) {
        sp_log_warn(SP_EVENT("sandbox_weak"), SP_F_STR("missing", "landlock"), SP_F_ERRNO(errno));
        return SP_OK;
    }
    struct ruleset set = ruleset_for((int)version);
    long fd = syscall(SYS_landlock_create_ruleset, &set, ruleset_size((int)version), 0U);
    if (fd < 0) {
        sp_log_error(SP_EVENT("sandbox_failed"), SP_F_STR("part", "landlock"), SP_F_ERRNO(errno));
        return SP_ERR_DENIED;
    }
    bool ok = add_rules((int)fd, &set, process, config) &&
              syscall(SYS_landlock_restrict_self, (int)fd, 0U) == 0;
    if (!ok) {
        sp_log_error(SP_EVENT("sandbox_failed"), SP_F_STR("part", "landlock"), SP_F_ERRNO(errno));
    }
    close((int)fd);
    return ok ? SP_OK : SP_ERR_DENIED;
}
