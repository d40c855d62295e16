/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Starting, wiring and restarting the children. A wire is a socket pair between gate and one of the others, one per loop.
 * The parent keeps no end of any: when a process dies, the others see it at once.
 */
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/proc/parent_internal.h"

#define BACKOFF_MIN_MS 100U
#define BACKOFF_MAX_MS 10000U
#define STEADY_MS      10000U /* who lived as long starts again at the shortest back-off */

static const struct {
    const char *name;
    int (*run)(const struct sp_child *child);
    enum sp_metric restarts;
    unsigned first_slot;
    unsigned last_slot;
} kinds[SP_PROCESS_COUNT] = {
    [SP_PROCESS_GATE] = {"gate", sp_gate_main, SP_M_GATE_RESTARTS, 0, SP_METRICS_SLOT_KEYS - 1U},
    [SP_PROCESS_KEYS] = {"keys", sp_keys_main, SP_M_KEYS_RESTARTS, SP_METRICS_SLOT_KEYS,
                         SP_METRICS_SLOT_KEYS},
    [SP_PROCESS_STORE] = {"store", sp_store_main, SP_M_STORE_RESTARTS, SP_METRICS_SLOT_STORE,
                          SP_METRICS_SLOT_STORE},
};

const char *sp_process_name(enum sp_process process)
{
    return kinds[process].name;
}

/* ---- wires ---- */

static void close_all(int *fds, uint32_t count)
{
    for (uint32_t i = 0; fds != NULL && i < count; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
    free(fds);
}

void sp_wires_close(struct sp_wires *wires, uint32_t loops)
{
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        close_all(wires->gate[p], loops);
        close_all(wires->peer[p], loops);
    }
    *wires = (struct sp_wires){.gate = {NULL}};
}

static bool wires_make(struct sp_wires *wires, enum sp_process peer, uint32_t loops)
{
    int *gate = malloc(loops * sizeof(int));
    int *other = malloc(loops * sizeof(int));
    wires->gate[peer] = gate;
    wires->peer[peer] = other;
    if (gate == NULL || other == NULL) {
        return false;
    }
    memset(gate, 0xFF, loops * sizeof(int)); /* all -1 */
    memset(other, 0xFF, loops * sizeof(int));
    for (uint32_t i = 0; i < loops; i++) {
        int pair[2];
        if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0) {
            return false;
        }
        gate[i] = pair[0];
        other[i] = pair[1];
    }
    return true;
}

/* ---- the child's side of the fork ---- */

static int compare_fds(const void *a, const void *b)
{
    int x = *(const int *)a;
    int y = *(const int *)b;
    return (x > y) - (x < y);
}

static size_t keep(int *kept, size_t count, const int *fds, size_t more)
{
    for (size_t i = 0; fds != NULL && i < more; i++) {
        kept[count++] = fds[i];
    }
    return count;
}

/* Close every descriptor that is not this child's. */
static bool close_others(const struct sp_parent *parent, enum sp_process process,
                         const struct sp_child *child)
{
    size_t loops = parent->config->threads;
    size_t listening = child->listeners != NULL ? loops * parent->listener_count : 0;
    int *kept = malloc((6U + 2U * loops + listening) * sizeof(*kept));
    if (kept == NULL) {
        return false;
    }
    const int always[] = {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO, child->control};
    size_t count = keep(kept, 0, always, 4);
    count = keep(kept, count, child->listeners, listening);
    count = keep(kept, count, child->keys, loops);
    count = keep(kept, count, child->store, loops);
    count = keep(kept, count, &child->handover, child->handover >= 0);
    if (process != SP_PROCESS_GATE) {
        /* as long as one of them lives, no other gateway may touch the state */
        count = keep(kept, count, &parent->lock, 1);
    }
    qsort(kept, count, sizeof(*kept), compare_fds);
    bool ok = true;
    for (size_t i = 0; i < count && ok; i++) {
        unsigned first = (unsigned)kept[i] + 1U;
        unsigned last = i + 1U < count ? (unsigned)kept[i + 1U] : UINT_MAX;
        ok = first >= last || close_range(first, last == UINT_MAX ? last : last - 1U, 0) == 0;
    }
    free(kept);
    return ok;
}

static void reset_signals(void)
{
    static const int ignored[] = {SIGTERM, SIGINT, SIGHUP, SIGUSR2,
                                  SIGPIPE}; /* the parent says when to stop */
    sigset_t none;
    for (size_t i = 0; i < sizeof(ignored) / sizeof(ignored[0]); i++) {
        (void)signal(ignored[i], SIG_IGN);
    }
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
}

static int run_child(const struct sp_parent *parent, enum sp_process process, int control,
                     const struct sp_wires *wires, int passage)
{
    bool gate = process == SP_PROCESS_GATE;
    const struct sp_child child = {
        .config = parent->config,
        .control = control,
        .listeners = gate ? parent->listeners : NULL,
        .keys = gate ? wires->gate[SP_PROCESS_KEYS]
                     : wires->peer[process == SP_PROCESS_KEYS ? process : SP_PROCESS_GATE],
        .store = gate ? wires->gate[SP_PROCESS_STORE]
                      : wires->peer[process == SP_PROCESS_STORE ? process : SP_PROCESS_GATE],
        .beside = parent->upgrade.step != SP_UPGRADE_NONE,
        .handover = passage,
    };
    sp_log_init(kinds[process].name, SP_LOG_INFO);
    reset_signals();
    if (!close_others(parent, process, &child)) {
        return 1;
    }
    return kinds[process].run(&child);
}

/* ---- the parent's side ---- */

static bool spawn_at(struct sp_parent *parent, enum sp_process process,
                     const struct sp_wires *wires, int passage)
{
    struct sp_offspring *o = &parent->children[process];
    int control[2];
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, control) != 0) {
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        exit(run_child(parent, process, control[1], wires, passage));
    }
    close(control[1]);
    if (pid < 0) {
        close(control[0]);
        return false;
    }
    o->pid = pid;
    o->control = control[0];
    o->ready = false;
    o->due_ms = 0;
    o->started_ms = sp_parent_now();
    return true;
}

static bool spawn(struct sp_parent *parent, enum sp_process process, const struct sp_wires *wires)
{
    return spawn_at(parent, process, wires, -1);
}

/* Give a living process its ends of the wires to a peer that is new. */
static void hand_over(struct sp_parent *parent, enum sp_process to, enum sp_process peer,
                      const int *ends)
{
    for (uint32_t i = 0; i < parent->config->threads; i++) {
        const struct sp_control message = {
            .type = SP_CONTROL_CHANNEL, .peer = (uint32_t)peer, .loop = i};
        sp_children_tell(parent, to, &message, ends[i]);
    }
}

enum sp_err sp_children_start(struct sp_parent *parent)
{
    struct sp_wires wires = {0};
    uint32_t loops = parent->config->threads;
    bool ok = wires_make(&wires, SP_PROCESS_KEYS, loops) &&
              wires_make(&wires, SP_PROCESS_STORE, loops) &&
              spawn(parent, SP_PROCESS_KEYS, &wires) && spawn(parent, SP_PROCESS_STORE, &wires) &&
              spawn(parent, SP_PROCESS_GATE, &wires);
    if (!ok) {
        sp_log_error(SP_EVENT("cannot_start"), SP_F_ERRNO(errno));
    }
    sp_wires_close(&wires, loops);
    return ok ? SP_OK : SP_ERR_IO;
}

enum sp_err sp_children_start_beside(struct sp_parent *parent, int passage)
{
    struct sp_wires *wires = &parent->upgrade.wires;
    uint32_t loops = parent->config->threads;
    bool ok = wires_make(wires, SP_PROCESS_KEYS, loops) &&
              wires_make(wires, SP_PROCESS_STORE, loops) && spawn(parent, SP_PROCESS_KEYS, wires) &&
              spawn_at(parent, SP_PROCESS_GATE, wires, passage);
    close_all(wires->gate[SP_PROCESS_KEYS], loops);
    close_all(wires->peer[SP_PROCESS_KEYS], loops);
    close_all(wires->gate[SP_PROCESS_STORE], loops);
    wires->gate[SP_PROCESS_KEYS] = NULL;
    wires->peer[SP_PROCESS_KEYS] = NULL;
    wires->gate[SP_PROCESS_STORE] = NULL;
    return ok ? SP_OK : SP_ERR_IO;
}

static void plan_restart(struct sp_offspring *o)
{
    uint64_t now = sp_parent_now();
    bool steady = now - o->started_ms >= STEADY_MS;
    o->backoff_ms = steady || o->backoff_ms == 0 ? BACKOFF_MIN_MS : o->backoff_ms * 2U;
    if (o->backoff_ms > BACKOFF_MAX_MS) {
        o->backoff_ms = BACKOFF_MAX_MS;
    }
    o->due_ms = now + o->backoff_ms;
}

static bool restart(struct sp_parent *parent, enum sp_process process)
{
    static const enum sp_process links[] = {SP_PROCESS_KEYS, SP_PROCESS_STORE};
    struct sp_wires wires = {0};
    uint32_t loops = parent->config->threads;
    bool gate = process == SP_PROCESS_GATE;
    bool ok = true;
    for (size_t i = 0; i < 2; i++) {
        ok = ok && ((!gate && links[i] != process) || wires_make(&wires, links[i], loops));
    }
    ok = ok && spawn(parent, process, &wires);
    for (size_t i = 0; ok && i < 2; i++) {
        if (gate) {
            hand_over(parent, links[i], SP_PROCESS_GATE, wires.peer[links[i]]);
        } else if (links[i] == process) {
            hand_over(parent, SP_PROCESS_GATE, process, wires.gate[process]);
        }
    }
    sp_wires_close(&wires, loops);
    return ok;
}

void sp_children_start_store(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    /* A gate that died since has lost its ends of these wires. */
    bool ok = u->gate == parent->children[SP_PROCESS_GATE].pid
                  ? spawn(parent, SP_PROCESS_STORE, &u->wires)
                  : restart(parent, SP_PROCESS_STORE);
    sp_wires_close(&u->wires, parent->config->threads);
    if (!ok) {
        sp_log_error(SP_EVENT("restart_failed"), SP_F_STR("process", "store"), SP_F_ERRNO(errno));
        plan_restart(&parent->children[SP_PROCESS_STORE]);
    }
}

void sp_children_restart(struct sp_parent *parent)
{
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        struct sp_offspring *o = &parent->children[p];
        if (o->pid != 0 || o->due_ms == 0 || sp_parent_now() < o->due_ms) {
            continue;
        }
        o->restarts++;
        sp_metric_inc(kinds[p].restarts);
        if (!restart(parent, (enum sp_process)p)) {
            sp_log_error(SP_EVENT("restart_failed"), SP_F_STR("process", kinds[p].name),
                         SP_F_ERRNO(errno));
            plan_restart(o);
        }
    }
}

bool sp_children_log_forbidden(enum sp_process process, int status)
{
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGSYS) {
        return false;
    }
    sp_metric_inc(SP_M_FORBIDDEN_CALLS);
    sp_log_error(SP_EVENT("process_died"), SP_F_STR("process", kinds[process].name),
                 SP_F_STR("signal", "SYS"),
                 SP_F_STR("reason", "a system call that its sandbox forbids"));
    return true;
}

static void log_death(const struct sp_parent *parent, enum sp_process process, int status)
{
    if (sp_children_log_forbidden(process, status)) {
        return;
    }
    if (WIFSIGNALED(status)) {
        sp_log_error(SP_EVENT("process_died"), SP_F_STR("process", kinds[process].name),
                     SP_F_STR("signal", sigabbrev_np(WTERMSIG(status))));
    } else if (parent->state != SP_PARENT_STOPPING || WEXITSTATUS(status) != 0) {
        sp_log_error(SP_EVENT("process_died"), SP_F_STR("process", kinds[process].name),
                     SP_F_INT("status", WEXITSTATUS(status)));
    }
}

static void bury(struct sp_parent *parent, enum sp_process process, int status)
{
    struct sp_offspring *o = &parent->children[process];
    log_death(parent, process, status);
    sp_metrics_clear_gauges(kinds[process].first_slot, kinds[process].last_slot);
    if (o->control >= 0) {
        close(o->control);
    }
    o->control = -1;
    o->pid = 0;
    o->ready = false;
    if (parent->state == SP_PARENT_STARTING) {
        parent->failed = true;
    } else if (parent->state == SP_PARENT_UPGRADING) {
        return; /* sp_upgrade_turn() sees it */
    } else if (parent->state == SP_PARENT_SERVING) {
        plan_restart(o);
    }
}

void sp_children_reap(struct sp_parent *parent)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        unsigned p = 0;
        while (p < SP_PROCESS_COUNT && parent->children[p].pid != pid) {
            p++;
        }
        if (p < SP_PROCESS_COUNT) {
            bury(parent, (enum sp_process)p, status);
        } else {
            sp_upgrade_reaped(parent, pid, status);
        }
    }
}

bool sp_children_listen(struct sp_offspring *o, struct sp_control *message)
{
    int fd = -1;
    enum sp_err err = o->control < 0 ? SP_ERR_AGAIN : sp_control_receive(o->control, message, &fd);
    if (err == SP_OK && fd >= 0) {
        close(fd);
    }
    if (err == SP_ERR_CLOSED) { /* its end comes as a signal */
        close(o->control);
        o->control = -1;
    }
    return err == SP_OK;
}

void sp_children_hear(struct sp_parent *parent, enum sp_process process)
{
    struct sp_offspring *o = &parent->children[process];
    struct sp_control message;
    if (!sp_children_listen(o, &message)) {
        return;
    }
    if (message.type != SP_CONTROL_READY) {
        sp_upgrade_heard(parent, process, message.type);
    } else if (!o->ready) {
        o->ready = true;
        if (parent->state == SP_PARENT_SERVING && parent->upgrade.step == SP_UPGRADE_NONE) {
            sp_log_info(SP_EVENT("restarted"), SP_F_STR("process", kinds[process].name));
        }
    }
}

void sp_children_tell(struct sp_parent *parent, enum sp_process process,
                      const struct sp_control *message, int fd)
{
    struct sp_offspring *o = &parent->children[process];
    if (o->pid == 0) {
        return;
    }
    enum sp_err err = o->control >= 0 ? sp_control_send(o->control, message, fd) : SP_ERR_CLOSED;
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("child_unheard"), SP_F_STR("process", kinds[process].name),
                     SP_F_ERR(err));
        (void)kill(o->pid, SIGKILL);
    }
}

bool sp_children_all_ready(const struct sp_parent *parent)
{
    bool all = true;
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        all = all && parent->children[p].ready;
    }
    return all;
}

bool sp_children_any_alive(const struct sp_parent *parent)
{
    bool any = false;
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        any = any || parent->children[p].pid != 0 || parent->upgrade.old[p].pid != 0;
    }
    return any;
}

void sp_children_kill(struct sp_parent *parent, int signal)
{
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        if (parent->children[p].pid != 0) {
            (void)kill(parent->children[p].pid, signal);
        }
        if (parent->upgrade.old[p].pid != 0) {
            (void)kill(parent->upgrade.old[p].pid, signal);
        }
    }
}

void sp_children_discard(struct sp_parent *parent)
{
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        struct sp_offspring *o = &parent->children[p];
        if (o->pid != 0) {
            (void)kill(o->pid, SIGKILL);
            while (waitpid(o->pid, NULL, 0) < 0 && errno == EINTR) {
            }
        }
        if (o->control >= 0) {
            close(o->control);
        }
        *o = (struct sp_offspring){.control = -1};
    }
}

void sp_children_adopt(struct sp_parent *parent, const struct sp_offspring *children)
{
    uint64_t now = sp_parent_now();
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        struct sp_offspring *o = &parent->children[p];
        *o = children[p];
        o->ready = o->pid != 0;
        o->started_ms = now;
        o->due_ms = o->pid != 0 ? 0 : now; /* it died in the meantime */
    }
}
