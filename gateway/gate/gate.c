/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The process that faces the wire.
 *
 * Its rights:
 * - listening sockets, and the connections accepted on them: devices talk to it;
 * - one channel per loop to keys: it asks for the key of one identity at a time, and gets verdicts, not keys to judge by;
 * - one channel per loop to store: it hands messages over, and gets commands.
 * What it never has: files, connect(), the registry, attestation keys, the cloud's key. Whoever takes it over sees the traffic
 * of the devices that are connected, and nothing else.
 */
#include "gateway/gate/worker.h"

#include "gateway/gate/handover/handover.h"
#include "gateway/gate/route/retained.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/proc/sandbox.h"

#include <malloc.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <unistd.h>

#define LOOPS_MAX 62U /* as many as there are slots for metrics */

/* Orders from the parent, read by loop 0. */
struct orders {
    struct sp_watch watch; /* first: ready() casts back */
    struct sp_gate *gate;
};

struct thread {
    pthread_t id;
    bool started;
};

static void stop_all(struct sp_gate *gate)
{
    for (uint16_t i = 0; i < gate->count; i++) {
        sp_worker_stop(&gate->workers[i]);
    }
}

/* Every loop moves by itself; the last one that does lets the old configuration go. */
static void reload(struct sp_gate *gate, int fd)
{
    struct sp_config *config = NULL;
    enum sp_err err =
        fd < 0 ? SP_ERR_ARGUMENT : sp_config_load_fd(fd, "configuration", stderr, &config);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("configuration_refused"), SP_F_ERR(err));
        return;
    }
    for (uint16_t i = 0; i < gate->count; i++) {
        sp_worker_configure(&gate->workers[i], config);
    }
    sp_log_limit(config->limits.log_lines);
    sp_config_destroy(config);
}

static void obey(struct sp_gate *gate, const struct sp_control *order, int fd)
{
    switch (order->type) {
    case SP_CONTROL_STOP:
        stop_all(gate);
        break;
    case SP_CONTROL_CHANNEL:
        if (fd >= 0 && order->loop < gate->count &&
            (order->peer == SP_PROCESS_KEYS || order->peer == SP_PROCESS_STORE)) {
            sp_worker_reconnect(&gate->workers[order->loop], (enum sp_process)order->peer, fd);
            fd = -1;
        }
        break;
    case SP_CONTROL_RELOAD:
        reload(gate, fd);
        break;
    case SP_CONTROL_HANDOVER:
        if (fd >= 0) {
            sp_handover_begin(gate, fd);
            fd = -1;
        }
        break;
    default:
        break;
    }
    if (fd >= 0) {
        close(fd);
    }
}

static void control_ready(struct sp_watch *watch, uint32_t events)
{
    (void)events;
    struct orders *orders = (struct orders *)watch;
    struct sp_control order;
    int fd = -1;
    enum sp_err err;
    while ((err = sp_control_receive(watch->fd, &order, &fd)) == SP_OK) {
        obey(orders->gate, &order, fd);
    }
    if (err != SP_ERR_AGAIN) {
        /* The parent is gone. */
        (void)sp_loop_remove(&orders->gate->workers[0].loop, watch);
        stop_all(orders->gate);
    }
}

static enum sp_err make_servers(struct sp_gate *gate)
{
    const struct sp_config *config = gate->config;
    gate->servers = calloc(config->listener_count + 1, sizeof(struct sp_tls_server *));
    if (gate->servers == NULL) {
        return SP_ERR_NOMEM;
    }
    for (size_t i = 0; i < config->listener_count; i++) {
        char why[160] = "";
        enum sp_err err =
            sp_tls_server_create(&config->listeners[i], why, sizeof(why), &gate->servers[i]);
        if (err != SP_OK) {
            sp_log_error(SP_EVENT("listener_unusable"),
                         SP_F_STR("address", config->listeners[i].address), SP_F_ERR(err),
                         SP_F_STR("detail", why));
            return err;
        }
    }
    return SP_OK;
}

/* One store of retained messages for all homes. */
static enum sp_err share_retained(struct sp_gate *gate)
{
    struct sp_retained *retained = NULL;
    SP_TRY(sp_retained_create(&retained));
    for (uint16_t i = 0; i < gate->count; i++) {
        gate->workers[i].home.retained = retained;
    }
    return SP_OK;
}

static enum sp_err make_workers(struct sp_gate *gate, const struct sp_child *child)
{
    gate->workers = calloc(gate->count, sizeof(struct sp_worker));
    if (gate->workers == NULL) {
        return SP_ERR_NOMEM;
    }
    SP_TRY(sp_subs_create(gate->count, &gate->subs));
    atomic_init(&gate->loading, gate->count);
    for (uint16_t i = 0; i < gate->count; i++) {
        SP_TRY(sp_worker_init(&gate->workers[i], gate, i, child));
    }
    return share_retained(gate);
}

static void free_gate(struct sp_gate *gate)
{
    for (uint16_t i = 0; gate->workers != NULL && i < gate->count; i++) {
        sp_worker_deinit(&gate->workers[i]);
    }
    struct sp_retained *retained = gate->workers == NULL ? NULL : gate->workers[0].home.retained;
    free(gate->workers);
    sp_handover_deinit(gate);
    sp_subs_destroy(gate->subs);
    sp_retained_destroy(retained);
    for (size_t i = 0; gate->servers != NULL && i < gate->config->listener_count; i++) {
        sp_tls_server_destroy(gate->servers[i]);
    }
    free(gate->servers);
}

static void *run_thread(void *arg)
{
    sp_worker_run(arg);
    return NULL;
}

/* Loop 0 runs here, the others in threads of their own. */
static int serve(struct sp_gate *gate)
{
    struct thread threads[LOOPS_MAX] = {{.started = false}};
    int status = 0;
    /* What starting up has left. Here, before there are threads: glibc 2.36 sets itself up in this call when nothing was ever
     * allocated of it (a sanitizer's allocator stands before it), and two loops doing that at once crash. */
    (void)malloc_trim(0);
    for (uint16_t i = 1; i < gate->count; i++) {
        threads[i].started =
            pthread_create(&threads[i].id, NULL, run_thread, &gate->workers[i]) == 0;
        if (!threads[i].started) {
            sp_log_error(SP_EVENT("thread_failed"), SP_F_INT("loop", i));
            status = 1;
        }
    }
    if (status != 0) {
        stop_all(gate);
    }
    sp_worker_run(&gate->workers[0]);
    stop_all(gate);
    for (uint16_t i = 1; i < gate->count; i++) {
        if (threads[i].started) {
            pthread_join(threads[i].id, NULL);
        }
    }
    return atomic_load(&gate->failed) ? 1 : status;
}

/* What the limit of open files leaves for connections: dup() takes the first that is free. */
static uint32_t descriptors_left(void)
{
    struct rlimit limit = {.rlim_cur = 1024};
    int used = dup(STDERR_FILENO);
    (void)getrlimit(RLIMIT_NOFILE, &limit);
    if (used >= 0) {
        close(used);
    }
    rlim_t most = limit.rlim_cur > UINT32_MAX ? UINT32_MAX : limit.rlim_cur;
    return used < 0 || most < (rlim_t)used ? 0 : (uint32_t)(most - (rlim_t)used);
}

/* What was begun and not finished belongs to the other process: it is not to be closed, said good-bye to, or have its will published. */
static void take_over(struct sp_gate *gate, const struct sp_child *child)
{
    const struct sp_control arrived = {.type = SP_CONTROL_ARRIVED};
    if (sp_handover_take(gate, child->handover) != SP_OK) {
        _exit(1);
    }
    if (sp_control_send(child->control, &arrived, -1) != SP_OK) {
        sp_log_error(SP_EVENT("parent_unheard"));
    }
}

static int start(struct sp_gate *gate, const struct sp_child *child)
{
    struct orders orders = {.watch = {.fd = child->control}, .gate = gate};
    const struct sp_control ready = {.type = SP_CONTROL_READY};
    enum sp_err err = make_servers(gate);
    if (err == SP_OK) {
        err = make_workers(gate, child);
    }
    if (err == SP_OK) {
        err = sp_loop_add(&gate->workers[0].loop, &orders.watch, EPOLLIN, control_ready);
    }
    gate->descriptors = descriptors_left();
    sp_log_limit(gate->config->limits.log_lines);
    if (err == SP_OK) {
        err = sp_sandbox_enter(SP_PROCESS_GATE, gate->config);
    }
    if (err == SP_OK) {
        err = sp_control_send(child->control, &ready, -1);
    }
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("gate_not_started"), SP_F_ERR(err));
        return 1;
    }
    if (child->beside && child->handover >= 0) {
        take_over(gate, child);
    }
    return serve(gate);
}

int sp_gate_main(const struct sp_child *child)
{
    uint32_t threads = child->config->threads;
    struct sp_gate gate = {
        .config = child->config,
        .control = child->control,
        .count = (uint16_t)(threads < 1           ? 1
                            : threads > LOOPS_MAX ? LOOPS_MAX
                                                  : threads),
    };
    int status = start(&gate, child);
    free_gate(&gate);
    return status;
}
