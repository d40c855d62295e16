/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The parent: opens what needs rights, forks the children, and watches over them.
 *
 * Rights, and why: the configuration and the listening sockets (to hand them on), fork() and, as root, the right to change
 * the user (for children that are restarted), state_dir/lock and state_dir/control.sock. It reads no byte that came
 * from a device or from the cloud.
 */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/proc/parent_internal.h"
#include "gateway/proc/status_socket.h"

#define EXIT_STOPPED 0
#define EXIT_FAILED  1
#define EXIT_DENIED  77
#define LOCK_WAIT_MS 6000U /* what a killed gateway's children may still need */
#define STOP_GATE_MS 3000U /* then keys and store are told, whether gate has gone or not */
#define STOP_ALL_MS  5000U /* then whoever is left is killed */
#define FD_RESERVE   256U  /* descriptors beside one per connection */

uint64_t sp_parent_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000U + (uint64_t)now.tv_nsec / 1000000U;
}

/* ---- before anything runs ---- */

static int status_of(enum sp_err err)
{
    return err == SP_ERR_DENIED ? EXIT_DENIED : EXIT_FAILED;
}

static enum sp_err io_error(const char *event, const char *path)
{
    enum sp_err err = errno == EACCES || errno == EPERM ? SP_ERR_DENIED : SP_ERR_IO;
    sp_log_error(SP_EVENT(event), SP_F_STR("path", path), SP_F_ERRNO(errno));
    return err;
}

/* As root, what lies in the state belongs to whoever owns the folder, so that keys and store can be that user. */
static void give_to_owner(int folder, const char *name)
{
    struct stat state;
    if (geteuid() == 0 &&
        (fstat(folder, &state) != 0 ||
         fchownat(folder, name, state.st_uid, state.st_gid, AT_SYMLINK_NOFOLLOW) != 0)) {
        sp_log_warn(SP_EVENT("owner_unchanged"), SP_F_STR("file", name), SP_F_ERRNO(errno));
    }
}

static bool lock_within(int fd, uint64_t wait_ms)
{
    const struct timespec nap = {.tv_nsec = 50000000};
    uint64_t end = sp_parent_now() + wait_ms;
    while (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        if (errno != EWOULDBLOCK || sp_parent_now() >= end) {
            return false;
        }
        (void)nanosleep(&nap, NULL);
    }
    return true;
}

/* One gateway per state directory. */
static enum sp_err take_state(struct sp_parent *parent)
{
    const char *path = parent->config->state_dir;
    int folder = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (folder < 0) {
        return io_error("no_state_dir", path);
    }
    enum sp_err err = SP_OK;
    parent->lock = openat(folder, "lock", O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (parent->lock < 0) {
        err = io_error("no_lock", path);
    } else if (!lock_within(parent->lock, LOCK_WAIT_MS)) {
        sp_log_error(SP_EVENT("already_running"), SP_F_STR("state_dir", path));
        err = SP_ERR_EXISTS;
    } else if (sp_status_listen(path, &parent->status) != SP_OK) {
        err = io_error("no_control_socket", path);
    } else {
        give_to_owner(folder, "lock");
        give_to_owner(folder, "control.sock");
    }
    close(folder);
    return err;
}

static void raise_fd_limit(const struct sp_config *config)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) != 0) {
        return;
    }
    rlim_t want = config->limits.connections + FD_RESERVE;
    rlim_t have = limit.rlim_max;
    if (have < want && geteuid() == 0) {
        limit.rlim_max = want;
        have = setrlimit(RLIMIT_NOFILE, &limit) == 0 ? want : have;
    }
    limit.rlim_max = have;
    limit.rlim_cur = have < want ? have : want;
    (void)setrlimit(RLIMIT_NOFILE, &limit);
    if (have < want) {
        sp_log_warn(SP_EVENT("few_descriptors"), SP_F_INT("have", have), SP_F_INT("want", want),
                    SP_F_STR("hint", "raise LimitNOFILE, or lower limits: connections"));
    }
}

static enum sp_err take_signals(struct sp_parent *parent)
{
    static const int wanted[] = {SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGUSR2};
    sigset_t set;
    (void)sigemptyset(&set);
    for (size_t i = 0; i < sizeof(wanted) / sizeof(wanted[0]); i++) {
        (void)sigaddset(&set, wanted[i]);
    }
    (void)signal(SIGPIPE, SIG_IGN);
    parent->signals = sigprocmask(SIG_BLOCK, &set, NULL) == 0
                          ? signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC)
                          : -1;
    return parent->signals >= 0 ? SP_OK : io_error("no_signals", "signalfd");
}

/* The children's standard input is nothing; no core of ours shows what they inherit. */
static void harden(void)
{
    const struct rlimit none = {0, 0};
    int nothing = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (nothing >= 0) {
        (void)dup2(nothing, STDIN_FILENO);
        close(nothing);
    }
    (void)prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0);
    (void)prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
    (void)setrlimit(RLIMIT_CORE, &none);
}

static enum sp_err start(struct sp_parent *parent)
{
    harden();
    SP_TRY(take_signals(parent));
    if (parent->upgrade.baton != NULL) {
        raise_fd_limit(parent->config);
        return sp_upgrade_start(parent);
    }
    SP_TRY(take_state(parent));
    raise_fd_limit(parent->config);
    SP_TRY(sp_metrics_init());
    SP_TRY(sp_parent_listen(parent));
    return sp_children_start(parent);
}

/* ---- while it runs ---- */

static void begin_to_stop(struct sp_parent *parent)
{
    if (parent->state == SP_PARENT_STOPPING) {
        sp_children_kill(parent, SIGKILL); /* asked twice */
        return;
    }
    sp_upgrade_abandon(parent);
    parent->state = SP_PARENT_STOPPING;
    parent->stop_ms = sp_parent_now();
    sp_log_info(SP_EVENT("stopping"));
    sp_notify("STOPPING=1");
    sp_children_tell(parent, SP_PROCESS_GATE, &(struct sp_control){.type = SP_CONTROL_STOP}, -1);
}

/* gate first, so that what it still has to say and to store finds the others alive. */
static void go_on_stopping(struct sp_parent *parent)
{
    uint64_t spent = sp_parent_now() - parent->stop_ms;
    if (!parent->told_all &&
        (parent->children[SP_PROCESS_GATE].pid == 0 || spent >= STOP_GATE_MS)) {
        const struct sp_control stop = {.type = SP_CONTROL_STOP};
        parent->told_all = true;
        sp_children_tell(parent, SP_PROCESS_KEYS, &stop, -1);
        sp_children_tell(parent, SP_PROCESS_STORE, &stop, -1);
    }
    if (spent >= STOP_ALL_MS && sp_children_any_alive(parent)) {
        sp_log_warn(SP_EVENT("stop_forced"));
        sp_children_kill(parent, SIGKILL);
    }
}

static void handle_signals(struct sp_parent *parent)
{
    struct signalfd_siginfo info;
    while (read(parent->signals, &info, sizeof(info)) == (ssize_t)sizeof(info)) {
        if (info.ssi_signo == SIGCHLD) {
            sp_children_reap(parent);
        } else if (info.ssi_signo == SIGHUP) {
            parent->reload = true;
        } else if (info.ssi_signo == SIGUSR2) {
            parent->upgrade_asked = true;
        } else {
            begin_to_stop(parent);
        }
    }
}

/* Once for all signals that came, and not before every child is there to be told. */
static void reload_if_asked(struct sp_parent *parent)
{
    if (parent->state != SP_PARENT_SERVING || parent->upgrade.step != SP_UPGRADE_NONE) {
        return;
    }
    if (parent->upgrade_asked) {
        parent->upgrade_asked = false;
        sp_upgrade_ask(parent); /* which reads the configuration anew too */
    } else if (parent->reload) {
        parent->reload = false;
        sp_notify("RELOADING=1");
        sp_parent_reload(parent);
        sp_notify("READY=1");
    }
}

/* One document to whoever asks, as far as it fits into the socket's buffer; it always does. */
static void answer_status(const struct sp_parent *parent)
{
    int fd = accept4(parent->status, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    char *text = sp_parent_status(parent);
    if (text != NULL) {
        (void)send(fd, text, strlen(text), MSG_NOSIGNAL);
    }
    free(text);
    close(fd);
}

static void notice_ready(struct sp_parent *parent)
{
    if (parent->state == SP_PARENT_STARTING && sp_children_all_ready(parent)) {
        parent->state = SP_PARENT_SERVING;
        sp_log_info(SP_EVENT("ready"), SP_F_STR("gateway", parent->config->id),
                    SP_F_STR("version", SP_VERSION));
        sp_notify("READY=1");
    }
}

/* Milliseconds until something is due. */
static int time_to_wait(const struct sp_parent *parent, uint64_t watchdog_ms)
{
    uint64_t wait = watchdog_ms > 0 ? watchdog_ms : 60000U;
    uint64_t now = sp_parent_now();
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        uint64_t due = parent->children[p].due_ms;
        if (due != 0 && parent->children[p].pid == 0) {
            wait = due <= now ? 0 : (due - now < wait ? due - now : wait);
        }
    }
    bool stopping = parent->state == SP_PARENT_STOPPING;
    if ((stopping || parent->upgrade.step != SP_UPGRADE_NONE) && wait > 100U) {
        wait = 100U;
    }
    return (int)wait;
}

static void turn(struct sp_parent *parent, uint64_t watchdog_ms)
{
    const struct sp_offspring *old_gate = &parent->upgrade.old[SP_PROCESS_GATE];
    struct pollfd fds[3U + SP_PROCESS_COUNT] = {{.fd = parent->signals, .events = POLLIN},
                                                {.fd = parent->status, .events = POLLIN},
                                                {.fd = old_gate->control, .events = POLLIN}};
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        fds[3U + p] = (struct pollfd){.fd = parent->children[p].control, .events = POLLIN};
    }
    if (poll(fds, 3U + SP_PROCESS_COUNT, time_to_wait(parent, watchdog_ms)) < 0) {
        return;
    }
    for (unsigned p = 0; p < SP_PROCESS_COUNT;
         p++) { /* what they said before what became of them */
        if (fds[3U + p].revents != 0) {
            sp_children_hear(parent, (enum sp_process)p);
        }
    }
    if (fds[0].revents != 0) {
        handle_signals(parent);
    }
    if (fds[1].revents != 0) {
        answer_status(parent);
    }
}

static int supervise(struct sp_parent *parent)
{
    uint64_t watchdog_ms = sp_notify_watchdog() / 2000U;
    uint64_t fed_ms = 0;
    while (parent->state != SP_PARENT_STOPPING || sp_children_any_alive(parent)) {
        turn(parent, watchdog_ms);
        notice_ready(parent);
        sp_upgrade_turn(parent);
        reload_if_asked(parent);
        if (parent->failed && parent->state == SP_PARENT_STARTING) {
            begin_to_stop(parent);
        }
        if (parent->state == SP_PARENT_STOPPING) {
            go_on_stopping(parent);
        } else {
            sp_children_restart(parent);
        }
        if (watchdog_ms > 0 && sp_parent_now() - fed_ms >= watchdog_ms / 2U) {
            sp_notify("WATCHDOG=1");
            fed_ms = sp_parent_now();
        }
    }
    return parent->failed ? EXIT_FAILED : EXIT_STOPPED;
}

static void finish(struct sp_parent *parent)
{
    sp_parent_listen_close(parent);
    if (parent->status >= 0) {
        sp_status_unlink(parent->config->state_dir);
        close(parent->status);
    }
    if (parent->lock >= 0) {
        close(parent->lock);
    }
    if (parent->signals >= 0) {
        close(parent->signals);
    }
    sp_upgrade_end(parent);
    sp_config_destroy(parent->reloaded);
}

int sp_parent_main(const struct sp_config *config)
{
    struct sp_parent parent = {
        .config = config, .lock = -1, .signals = -1, .status = -1, .started_ms = sp_parent_now()};
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        parent.children[p].control = -1;
    }
    sp_log_init("parent", SP_LOG_INFO);
    sp_upgrade_begin(&parent);
    enum sp_err err = start(&parent);
    int status = status_of(err);
    if (err == SP_OK) {
        status = supervise(&parent);
    } else {
        sp_children_kill(&parent, SIGKILL);
    }
    finish(&parent);
    if (err == SP_OK) {
        sp_log_info(SP_EVENT("stopped"), SP_F_INT("status", status));
    }
    return status;
}
