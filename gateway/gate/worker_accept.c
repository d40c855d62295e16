/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Who comes in: connections that are accepted, and visitors whose handshakes begin. */
#include "gateway/gate/worker_internal.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 32
#define SERVES_PER_TURN  32   /* handshakes that begin */
#define FD_PAUSE_MS      500U /* without accepting, after the fds ran out */

/* ---- accepting ---- */

/* Nothing new is taken in that could not be judged or would be one too many. */
static bool may_accept(const struct sp_worker *worker)
{
    return !worker->stopping && !worker->leaving && !worker->short_of_fds &&
           worker->keys.channel != NULL;
}

void sp_worker_watch_listeners(struct sp_worker *worker)
{
    bool on = may_accept(worker);
    if (worker->accepting == on) {
        return;
    }
    for (size_t i = 0; i < worker->home.config->listener_count; i++) {
        struct sp_watch *watch = &worker->listeners[i].watch;
        if (watch->fd >= 0 && sp_loop_change(&worker->loop, watch, on ? EPOLLIN : 0U) != SP_OK) {
            sp_log_error(SP_EVENT("listener_lost"), SP_F_ERRNO(errno));
        }
    }
    worker->accepting = on;
}

static void accept_again(struct sp_timer *timer)
{
    struct sp_worker *worker =
        (struct sp_worker *)(void *)((char *)timer - offsetof(struct sp_worker, accept_timer));
    worker->short_of_fds = false;
}

/* Level-triggered events of a listener that nobody may accept from would spin. One line until somebody is accepted again. */
static void pause_accepting(struct sp_worker *worker, int error)
{
    sp_metric_inc(SP_M_ACCEPT_PAUSED);
    if (!worker->told_short) {
        sp_log_limited(SP_EVENT("accept_paused"), SP_F_ERRNO(error));
    }
    worker->told_short = true;
    worker->short_of_fds = true;
    sp_timer_set(&worker->loop.timers, &worker->accept_timer,
                 worker->loop.timers.now_ms + FD_PAUSE_MS);
}

/* Whoever has been silent for longest makes room. */
static void make_room(struct sp_worker *worker, enum sp_shed why)
{
    struct sp_visitor *oldest = sp_admission_silent(&worker->admission);
    if (oldest != NULL) {
        sp_conn_shed(oldest->owner, why);
    }
}

/* All descriptors but the reserve are in use. */
static bool is_short(const struct sp_worker *worker)
{
    uint32_t used = atomic_load_explicit(&worker->gate->connections, memory_order_relaxed);
    return used + worker->home.config->limits.descriptor_reserve >= worker->gate->descriptors;
}

/* @return Whether it is worth another try at once. */
static bool accept_failed(struct sp_worker *worker, int error)
{
    bool files = error == EMFILE || error == ENFILE;
    if (files && sp_admission_silent(&worker->admission) != NULL) {
        make_room(worker, SP_SHED_DESCRIPTORS);
        return true;
    }
    if (files || error == ENOBUFS || error == ENOMEM) {
        pause_accepting(worker, error);
    }
    return false;
}

static void welcome(struct sp_listener *listener, int fd, const struct sockaddr_storage *address)
{
    struct sp_worker *worker = listener->worker;
    const struct sp_limits_config *limits = &worker->home.config->limits;
    struct sp_peer peer;
    sp_peer_set(&peer, address);
    if (atomic_load_explicit(&worker->gate->connections, memory_order_relaxed) >=
        limits->connections) {
        sp_conn_turned_away(&peer, sp_view(NULL, 0), SP_SHED_CONNECTIONS);
        close(fd);
        return;
    }
    if (is_short(worker)) {
        make_room(worker, SP_SHED_DESCRIPTORS);
    } else if (worker->admission.waiting >= limits->waiting) {
        make_room(worker, SP_SHED_WAITING);
    }
    sp_metric_inc(SP_M_CONNECTIONS_ACCEPTED);
    sp_conn_open(worker, listener->server, fd, &peer);
}

static void listener_ready(struct sp_watch *watch, uint32_t events)
{
    (void)events;
    struct sp_listener *listener = (struct sp_listener *)watch;
    struct sp_worker *worker = listener->worker;
    /* One, which leaves out the call that finds nobody; more and more while there are. */
    int batch = listener->batch;
    listener->batch = 2 * batch < ACCEPTS_PER_TURN ? 2 * batch : ACCEPTS_PER_TURN;
    for (int i = 0; i < batch && may_accept(worker); i++) {
        if (is_short(worker) && sp_admission_silent(&worker->admission) == NULL) {
            pause_accepting(worker, EMFILE);
            return;
        }
        struct sockaddr_storage address = {.ss_family = AF_UNSPEC};
        socklen_t len = sizeof(address);
        int fd =
            accept4(watch->fd, (struct sockaddr *)&address, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (accept_failed(worker, errno)) {
                continue;
            }
            listener->batch = 1;
            return;
        }
        worker->told_short = false;
        welcome(listener, fd, &address);
    }
}

/* ---- visitors ---- */

static void serve_again(struct sp_timer *timer)
{
    (void)timer; /* sp_worker_serve() comes once per turn */
}

/* Who has been served for long without an end, while somebody waits for the place; false: nobody. */
static bool end_slow(struct sp_worker *worker)
{
    const struct sp_limits_config *limits = &worker->home.config->limits;
    struct sp_admission *a = &worker->admission;
    uint64_t now_ms = worker->loop.timers.now_ms;
    if (a->ready == 0 || a->in_service < limits->handshakes ||
        now_ms < limits->crowded_timeout_ms) {
        return false;
    }
    struct sp_visitor *slow =
        sp_admission_slow(a, now_ms - limits->crowded_timeout_ms, sp_conn_idles);
    if (slow != NULL) {
        sp_conn_shed(slow->owner, SP_SHED_CROWDED);
    }
    return slow != NULL;
}

void sp_worker_serve(struct sp_worker *worker)
{
    const struct sp_limits_config *limits = &worker->home.config->limits;
    uint64_t now_ms = worker->loop.timers.now_ms;
    struct sp_visitor *visitor = NULL;
    int begun = 0;
    if (worker->admission.ready == 0 || worker->keys.channel == NULL) {
        return;
    }
    while (begun < SERVES_PER_TURN &&
           ((visitor = sp_admission_next(&worker->admission, limits, now_ms)) != NULL ||
            end_slow(worker))) {
        if (visitor != NULL) {
            sp_conn_start(visitor->owner);
            begun++;
        }
    }
    uint64_t due =
        begun == SERVES_PER_TURN ? now_ms : sp_admission_due(&worker->admission, limits, now_ms);
    if (due != UINT64_MAX) {
        sp_timer_set(&worker->loop.timers, &worker->serve_timer, due);
    }
}

/* ---- listeners ---- */

enum sp_err sp_worker_init_listeners(struct sp_worker *worker, const int *fds)
{
    size_t count = worker->home.config->listener_count;
    const int on = 1;
    worker->accept_timer.fire = accept_again;
    worker->serve_timer.fire = serve_again;
    worker->listeners = calloc(count == 0 ? 1 : count, sizeof(struct sp_listener));
    if (worker->listeners == NULL) {
        return SP_ERR_NOMEM;
    }
    for (size_t i = 0; i < count; i++) {
        struct sp_listener *listener = &worker->listeners[i];
        int fd = fds[(size_t)worker->home.index * count + i];
        listener->watch = (struct sp_watch){.fd = fd};
        listener->worker = worker;
        listener->batch = 1;
        listener->server = worker->gate->servers[i];
        /* Accepted sockets inherit it: one system call for all of them. */
        (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
        SP_TRY(sp_loop_add(&worker->loop, &listener->watch, EPOLLIN, listener_ready));
    }
    worker->accepting = true;
    return SP_OK;
}
