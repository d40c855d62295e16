/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * `sallyport reload --exec`: another program in place of this one, in the same process, under the devices' connections
 * (docs/decisions/0005-upgrade.md).
 *
 * The old program asks the new one, in a process of its own, whether it would run; then it becomes the new one by exec(), and its children go
 * on serving. The new program starts keys and gate beside them and lets gate hand over to gate. Until that is done everything can be undone: the
 * new children are killed, and the old program is called back by exec(), by the file that it was. Then store and keys follow.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/proc/parent_internal.h"

#define PROBE_MS  10000U /* for the new program to say that it would run */
#define START_MS  15000U /* for keys and gate to be ready */
#define MOVE_MS   15000U /* for gate to hand over */
#define FOLLOW_MS 5000U  /* for the old store and keys to end */

static void end_step(struct sp_upgrade *u, const char *result)
{
    u->step = SP_UPGRADE_NONE;
    u->due_ms = 0;
    (void)snprintf(u->result, sizeof(u->result), "%s", result);
}

static void begin_step(struct sp_upgrade *u, enum sp_upgrade_step step, uint64_t allowed_ms)
{
    u->step = step;
    u->due_ms = sp_parent_now() + allowed_ms;
}

/* What the old program says when it stays. */
static void refuse(struct sp_parent *parent, const char *why)
{
    sp_log_error(SP_EVENT("upgrade_refused"), SP_F_STR("reason", why));
    end_step(&parent->upgrade, why);
    sp_notify("READY=1");
}

/* ---- the old program ---- */

/* The path by which this program was started; a link in it may lead elsewhere next time. */
static char *own_path(void)
{
    const char *path = (const char *)getauxval(AT_EXECFN); /* NOLINT: the kernel's interface */
    char *folder = path != NULL && path[0] != '/' ? getcwd(NULL, 0) : NULL;
    char *whole = NULL;
    if (path == NULL || asprintf(&whole, "%s%s%s", folder != NULL ? folder : "",
                                 folder != NULL ? "/" : "", path) < 0) {
        whole = NULL;
    }
    free(folder);
    return whole;
}

static void run_probe(const struct sp_parent *parent, int out)
{
    char name[] = "sallyport";
    char run[] = "run";
    char check[] = "--check";
    char option[] = "-c";
    char *const argv[] = {name, run, check, option, parent->config->file, NULL};
    sigset_t none;
    (void)sigemptyset(&none);
    (void)sigprocmask(SIG_SETMASK, &none, NULL);
    if (dup2(out, STDOUT_FILENO) >= 0) {
        (void)execv(parent->upgrade.program, argv);
    }
    _exit(127);
}

static void start_probe(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    int ends[2];
    if (u->program == NULL || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0) {
        refuse(parent, "no way to ask the new program");
        return;
    }
    u->probe = fork();
    if (u->probe == 0) {
        run_probe(parent, ends[1]);
    }
    close(ends[1]);
    u->said = ends[0];
    begin_step(u, SP_UPGRADE_PROBING, PROBE_MS);
    if (u->probe < 0) {
        close(u->said);
        u->probe = 0;
        refuse(parent, "no process for the new program");
    }
}

void sp_upgrade_ask(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    u->attempts++;
    sp_log_info(SP_EVENT("upgrade"), SP_F_STR("program", u->program != NULL ? u->program : "?"));
    sp_notify("RELOADING=1");
    if (!sp_children_all_ready(parent)) {
        refuse(parent, "the gateway is degraded: not every process is ready");
        return;
    }
    start_probe(parent);
}

static int config_fd(const struct sp_config *config)
{
    int fd = memfd_create("sallyport.yaml", MFD_CLOEXEC);
    int copy = fd >= 0 ? dup(fd) : -1;
    FILE *out = copy >= 0 ? fdopen(copy, "w") : NULL;
    if (out != NULL) {
        sp_config_print(config, out);
        if (fclose(out) == 0) {
            return fd;
        }
    } else if (copy >= 0) {
        close(copy);
    }
    if (fd >= 0) {
        close(fd);
    }
    return -1;
}

static bool list_listeners(const struct sp_parent *parent, struct sp_baton *baton)
{
    size_t count = parent->listener_count * parent->config->threads;
    baton->listeners = calloc(count + 1U, sizeof(*baton->listeners));
    for (size_t i = 0; baton->listeners != NULL && i < count; i++) {
        size_t index = i % parent->listener_count;
        baton->listeners[i] = (struct sp_given_listener){
            .address = parent->config->listeners[index].address,
            .loop = (unsigned)(i / parent->listener_count),
            .port = parent->ports[index],
            .fd = parent->listeners[i],
        };
    }
    baton->listener_count = count;
    return baton->listeners != NULL;
}

/* Become the new program. Returns only when that does not work. */
static void pass_on(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    struct sp_baton baton = {
        .attempts = u->attempts,
        .started_ms = parent->started_ms,
        .program = u->program,
        .state_dir = parent->config->state_dir,
        .lock = parent->lock,
        .status = parent->status,
        .metrics = sp_metrics_fd(),
        .config = config_fd(parent->config),
        .exe = open("/proc/self/exe", O_RDONLY | O_CLOEXEC),
    };
    memcpy(baton.children, parent->children, sizeof(baton.children));
    if (baton.config >= 0 && baton.exe >= 0 && list_listeners(parent, &baton)) {
        sp_baton_pass(&baton, u->program, -1, parent->config->file);
    }
    char why[120];
    (void)snprintf(why, sizeof(why), "the new program cannot be run: %s", strerror(errno));
    free(baton.listeners);
    if (baton.config >= 0) {
        close(baton.config);
    }
    if (baton.exe >= 0) {
        close(baton.exe);
    }
    refuse(parent, why);
}

static void probe_ended(struct sp_parent *parent, int status)
{
    struct sp_upgrade *u = &parent->upgrade;
    char said[64] = "";
    unsigned version = 0;
    ssize_t n = read(u->said, said, sizeof(said) - 1U);
    close(u->said);
    u->said = -1;
    u->probe = 0;
    if (u->step != SP_UPGRADE_PROBING || parent->state != SP_PARENT_SERVING) {
        return;
    }
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        refuse(parent, "the new program does not start with this configuration; see the log");
    } else if (n <= 0 || sscanf(said, "handover %u", &version) != 1 ||
               version != SP_HANDOVER_VERSION) {
        refuse(parent, "the new program hands over in another way: it needs a restart");
    } else {
        pass_on(parent);
    }
}

/* ---- the new program ---- */

static void close_given(const int *fds, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (fds[i] >= 0) {
            close(fds[i]);
        }
    }
}

/* Nothing is given back any more. */
static void forget_baton(struct sp_parent *parent)
{
    const struct sp_baton *b = parent->upgrade.baton;
    const int fds[] = {b->metrics, b->config, b->exe};
    close_given(fds, sizeof(fds) / sizeof(fds[0]));
    sp_parent_listen_prune(parent);
}

/* Called back: our own children, whom we know from before. */
static void resume(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    const struct sp_baton *b = u->baton;
    sp_children_adopt(parent, b->children);
    parent->state = SP_PARENT_SERVING;
    end_step(u, b->why != NULL ? b->why : "called back");
}

void sp_upgrade_begin(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    struct sp_baton *b = sp_baton_given();
    u->baton = b;
    u->said = -1;
    u->passage = -1;
    u->program = b != NULL ? strdup(b->program) : own_path();
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        u->old[p].control = -1;
    }
    if (b == NULL) {
        return;
    }
    u->attempts = b->attempts;
    u->began_ms = sp_parent_now();
    parent->started_ms = b->started_ms;
    if (b->back) {
        resume(parent);
        return;
    }
    memcpy(u->old, b->children, sizeof(u->old));
    parent->state = SP_PARENT_UPGRADING;
}

/* A way for gate to gate. */
static enum sp_err make_passage(struct sp_upgrade *u, int *gate)
{
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends) != 0) {
        return SP_ERR_IO;
    }
    u->passage = ends[0];
    *gate = ends[1];
    return SP_OK;
}

static enum sp_err start_beside(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    int gate;
    if (strcmp(u->baton->state_dir, parent->config->state_dir) != 0) {
        sp_log_error(SP_EVENT("other_state"), SP_F_STR("state_dir", u->baton->state_dir));
        return SP_ERR_UNSUPPORTED;
    }
    SP_TRY(sp_metrics_init());
    sp_metrics_inherit(u->baton->metrics);
    SP_TRY(sp_parent_listen(parent));
    SP_TRY(make_passage(u, &gate));
    begin_step(u, SP_UPGRADE_STARTING, START_MS);
    enum sp_err err = sp_children_start_beside(parent, gate);
    close(gate);
    return err;
}

enum sp_err sp_upgrade_start(struct sp_parent *parent)
{
    struct sp_baton *b = parent->upgrade.baton;
    parent->lock = b->lock;
    parent->status = b->status;
    if (b->back) {
        enum sp_err err = sp_metrics_adopt(b->metrics);
        b->metrics = err == SP_OK ? -1 : b->metrics;
        SP_TRY(err == SP_OK ? SP_OK : sp_metrics_init());
        SP_TRY(sp_parent_listen(parent));
        forget_baton(parent);
        sp_log_info(SP_EVENT("called_back"), SP_F_STR("reason", parent->upgrade.result));
        sp_notify("READY=1");
    } else if (start_beside(parent) != SP_OK) {
        sp_upgrade_give_back(parent, "the new program cannot start its processes; see the log");
    }
    return SP_OK;
}

enum sp_err sp_parent_load(const char *file, FILE *faults, struct sp_config **out)
{
    struct sp_baton *b = sp_baton_given();
    if (b != NULL && b->back) {
        return sp_config_load_fd(b->config, file, faults, out);
    }
    enum sp_err err = sp_config_load(file, faults, out);
    if (err != SP_OK && b != NULL) {
        char why[] = "the configuration has become faulty";
        int exe = b->exe;
        b->back = true;
        b->why = why;
        b->exe = -1;
        sp_baton_pass(b, NULL, exe, file);
    }
    return err;
}

void sp_upgrade_abandon(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    if (parent->state != SP_PARENT_UPGRADING) {
        return;
    }
    sp_children_discard(parent);
    sp_wires_close(&u->wires, parent->config->threads);
    if (u->passage >= 0) {
        close(u->passage);
        u->passage = -1;
    }
    sp_children_adopt(parent, u->old);
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        u->old[p] = (struct sp_offspring){.control = -1};
    }
    parent->state = SP_PARENT_SERVING;
}

void sp_upgrade_give_back(struct sp_parent *parent, const char *why)
{
    struct sp_upgrade *u = &parent->upgrade;
    struct sp_baton *b = u->baton;
    char reason[160];
    (void)snprintf(reason, sizeof(reason), "%s", why);
    sp_log_error(SP_EVENT("upgrade_undone"), SP_F_STR("reason", reason));
    sp_upgrade_abandon(parent);
    int exe = b->exe;
    memcpy(b->children, parent->children, sizeof(b->children));
    b->back = true;
    b->why = reason;
    b->exe = -1;
    b->attempts = u->attempts;
    sp_baton_pass(b, NULL, exe, parent->config->file);
    /* The old program's file cannot be run any more. Its children can be looked after from here as well. */
    sp_log_error(SP_EVENT("old_program_lost"), SP_F_ERRNO(errno));
    b->why = NULL;
    b->exe = exe;
    if (sp_metrics_adopt(b->metrics) == SP_OK) {
        b->metrics = -1;
    }
    end_step(u, reason);
    sp_notify("READY=1");
}

/* Ours are ready: the old gate may begin. */
static void begin_move(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    const struct sp_control order = {.type = SP_CONTROL_HANDOVER};
    if (u->old[SP_PROCESS_GATE].pid == 0 || u->old[SP_PROCESS_GATE].control < 0 ||
        sp_control_send(u->old[SP_PROCESS_GATE].control, &order, u->passage) != SP_OK) {
        sp_upgrade_give_back(parent, "the old gate process does not answer");
        return;
    }
    close(u->passage);
    u->passage = -1;
    begin_step(u, SP_UPGRADE_MOVING, MOVE_MS);
}

static void tell_old(struct sp_upgrade *u, enum sp_process process, uint32_t hurry)
{
    const struct sp_control stop = {.type = SP_CONTROL_STOP, .loop = hurry};
    struct sp_offspring *o = &u->old[process];
    if (o->pid != 0 && (o->control < 0 || sp_control_send(o->control, &stop, -1) != SP_OK)) {
        (void)kill(o->pid, SIGKILL);
    }
}

/* From here on there is no way back, and none is needed. */
static void gate_has_moved(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    parent->state = SP_PARENT_SERVING;
    u->gate = parent->children[SP_PROCESS_GATE].pid;
    tell_old(u, SP_PROCESS_STORE, 1);
    tell_old(u, SP_PROCESS_KEYS, 0);
    begin_step(u, SP_UPGRADE_FOLLOWING, FOLLOW_MS);
}

static void finish(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    sp_metrics_inherit(u->baton->metrics);
    forget_baton(parent);
    end_step(u, "done");
    sp_log_info(SP_EVENT("upgraded"), SP_F_STR("gateway", parent->config->id),
                SP_F_STR("version", SP_VERSION),
                SP_F_INT("milliseconds", sp_parent_now() - u->began_ms));
    sp_notify("READY=1");
}

static bool old_are_gone(const struct sp_upgrade *u)
{
    bool gone = true;
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        gone = gone && u->old[p].pid == 0;
    }
    return gone;
}

static void follow(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    struct sp_offspring *store = &parent->children[SP_PROCESS_STORE];
    if (u->old[SP_PROCESS_STORE].pid == 0 && u->wires.peer[SP_PROCESS_STORE] != NULL) {
        sp_children_start_store(parent);
    }
    if (old_are_gone(u) && store->ready && sp_children_all_ready(parent)) {
        finish(parent);
    } else if (u->due_ms != 0 && sp_parent_now() >= u->due_ms) {
        for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
            if (u->old[p].pid != 0) {
                (void)kill(u->old[p].pid, SIGKILL);
            }
        }
        u->due_ms = 0;
    }
}

/* ---- what happens ---- */

static bool ours_died(const struct sp_parent *parent)
{
    return parent->children[SP_PROCESS_KEYS].pid == 0 || parent->children[SP_PROCESS_GATE].pid == 0;
}

static bool theirs_died(const struct sp_upgrade *u)
{
    bool died = false;
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        died = died || u->old[p].pid == 0;
    }
    return died;
}

static void hear_old_gate(struct sp_parent *parent)
{
    struct sp_control message;
    if (sp_children_listen(&parent->upgrade.old[SP_PROCESS_GATE], &message) &&
        message.type == SP_CONTROL_KEPT && parent->upgrade.step == SP_UPGRADE_MOVING) {
        sp_upgrade_give_back(parent, "the old gate process could not hand over; see the log");
    }
}

/* The new program, while there is a way back. */
static void go_on(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    bool late = sp_parent_now() >= u->due_ms;
    hear_old_gate(parent);
    if (parent->state != SP_PARENT_UPGRADING) {
        return;
    }
    if (ours_died(parent)) {
        sp_upgrade_give_back(parent, "a process of the new program died; see the log");
    } else if (theirs_died(u) && u->step == SP_UPGRADE_STARTING) {
        sp_upgrade_give_back(parent, "a process of the old program died meanwhile");
    } else if (late) {
        sp_upgrade_give_back(parent, u->step == SP_UPGRADE_STARTING
                                         ? "the new program does not become ready"
                                         : "handing over takes too long");
    } else if (u->step == SP_UPGRADE_STARTING && parent->children[SP_PROCESS_KEYS].ready &&
               parent->children[SP_PROCESS_GATE].ready) {
        begin_move(parent);
    }
}

void sp_upgrade_turn(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    if (parent->state == SP_PARENT_UPGRADING) {
        go_on(parent);
    } else if (u->step == SP_UPGRADE_FOLLOWING && parent->state == SP_PARENT_SERVING) {
        follow(parent);
    } else if (u->step == SP_UPGRADE_PROBING && u->probe > 0 && u->due_ms != 0 &&
               sp_parent_now() >= u->due_ms) {
        (void)kill(u->probe, SIGKILL);
        u->due_ms = 0;
    }
}

void sp_upgrade_reaped(struct sp_parent *parent, pid_t pid, int status)
{
    struct sp_upgrade *u = &parent->upgrade;
    if (u->probe == pid) {
        probe_ended(parent, status);
        return;
    }
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        struct sp_offspring *o = &u->old[p];
        if (o->pid == pid) {
            (void)sp_children_log_forbidden((enum sp_process)p, status);
            o->pid = 0;
            if (o->control >= 0) {
                close(o->control);
            }
            o->control = -1;
        }
    }
}

void sp_upgrade_heard(struct sp_parent *parent, enum sp_process process, uint32_t type)
{
    if (process == SP_PROCESS_GATE && type == SP_CONTROL_ARRIVED &&
        parent->upgrade.step == SP_UPGRADE_MOVING) {
        gate_has_moved(parent);
    }
}

void sp_upgrade_end(struct sp_parent *parent)
{
    struct sp_upgrade *u = &parent->upgrade;
    sp_wires_close(&u->wires, parent->config->threads);
    free(u->program);
}
