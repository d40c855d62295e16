/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The process that holds the keys.
 *
 * Rights, and why: the registry file and its companions beneath state_dir (the command line changes it while we run); one
 * pipe per gate loop, for questions; the control pipe of the parent. No network, no other file, no program: whoever
 * takes over `gate` can ask for one device's PSK at a time, and for nothing else.
 */
#include <signal.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <time.h>
#include <unistd.h>

#include "gateway/keys/locked.h"
#include "gateway/keys/service.h"
#include "gateway/log/log.h"
#include "gateway/loop/loop.h"
#include "gateway/metrics/metrics.h"
#include "gateway/proc/proc.h"
#include "gateway/proc/sandbox.h"

#define TICK_MS    200U
#define OTHER_NAPS 300U /* 3 s */

struct keys;

struct link {
    struct sp_watch watch; /* first: ready() casts back */
    struct keys *keys;
    unsigned loop;
    bool waiting; /* watched for output too */
};

struct keys {
    const struct sp_child *child;
    struct sp_registry *registry;
    struct sp_keys_service *service;
    struct sp_loop loop;
    struct sp_watch control;
    struct sp_timer tick;
    struct link *links;
    unsigned link_count;
    bool stopping;
    bool failed; /* a channel broke, and only a new process gets a new one */
};

/* The one that there is; callbacks of control and timer have no argument. */
static struct keys the_keys;

static void drop_link(struct link *link, enum sp_err why)
{
    sp_log_info(SP_EVENT("gate_loop_gone"), SP_F_INT("loop", link->loop), SP_F_ERR(why));
    (void)sp_loop_remove(&link->keys->loop, &link->watch);
    sp_keys_service_detach(link->keys->service, link->loop);
    if (why != SP_ERR_CLOSED) {
        link->keys->failed = true;
        link->keys->stopping = true;
    }
}

static void link_ready(struct sp_watch *watch, uint32_t events)
{
    struct link *link = (struct link *)(void *)watch;
    struct keys *k = link->keys;
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) == 0) {
        return; /* it can be written: flush_links() does */
    }
    enum sp_err err = sp_keys_service_receive(k->service, link->loop, sp_clock_ms());
    if (err != SP_OK) {
        drop_link(link, err);
    }
}

static enum sp_err connect_link(struct keys *k, unsigned loop, int fd)
{
    struct link *link = &k->links[loop];
    (void)sp_loop_remove(&k->loop, &link->watch);
    SP_TRY(sp_keys_service_attach(k->service, loop, fd));
    link->watch.fd = sp_keys_service_fd(k->service, loop);
    link->waiting = false;
    return sp_loop_add(&k->loop, &link->watch, EPOLLIN, link_ready);
}

/* Once per turn: what was answered and told in it goes out with one write per loop. */
static void flush_links(struct keys *k)
{
    for (unsigned loop = 0; loop < k->link_count; loop++) {
        struct link *link = &k->links[loop];
        bool waiting = false;
        if (link->watch.fd < 0) {
            continue;
        }
        enum sp_err err = sp_keys_service_flush(k->service, loop, &waiting);
        if (err == SP_OK && waiting != link->waiting) {
            link->waiting = waiting;
            err = sp_loop_change(&k->loop, &link->watch, EPOLLIN | (waiting ? EPOLLOUT : 0U));
        }
        if (err != SP_OK) {
            drop_link(link, err);
        }
    }
}

/* --- the parent --- */

/* Takes the fd over when it is of use, and sets it to -1. */
static void new_channel(struct keys *k, const struct sp_control *message, int *fd)
{
    if (*fd < 0 || message->peer != SP_PROCESS_GATE || message->loop >= k->link_count) {
        sp_log_error(SP_EVENT("control_misunderstood"), SP_F_INT("loop", message->loop));
        return;
    }
    enum sp_err err = connect_link(k, message->loop, *fd);
    if (sp_keys_service_fd(k->service, message->loop) == *fd) {
        *fd = -1;
    }
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("gate_loop_refused"), SP_F_INT("loop", message->loop), SP_F_ERR(err));
        k->failed = true;
        k->stopping = true;
    } else {
        sp_log_info(SP_EVENT("gate_loop_connected"), SP_F_INT("loop", message->loop));
    }
}

static void new_configuration(struct keys *k, int fd)
{
    struct sp_config *config = NULL;
    enum sp_err err =
        fd < 0 ? SP_ERR_ARGUMENT : sp_config_load_fd(fd, "configuration", stderr, &config);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("configuration_refused"), SP_F_ERR(err));
        return;
    }
    sp_keys_service_configure(k->service, config);
    sp_config_destroy(config);
}

static void obey(struct keys *k, const struct sp_control *message, int *fd)
{
    switch (message->type) {
    case SP_CONTROL_STOP:
        k->stopping = true;
        break;
    case SP_CONTROL_CHANNEL:
        new_channel(k, message, fd);
        break;
    case SP_CONTROL_RELOAD:
        new_configuration(k, *fd);
        break;
    default:
        sp_log_error(SP_EVENT("control_misunderstood"), SP_F_INT("type", message->type));
        break;
    }
}

static void control_ready(struct sp_watch *watch, uint32_t events)
{
    (void)events;
    struct sp_control message;
    int fd = -1;
    enum sp_err err = sp_control_receive(watch->fd, &message, &fd);
    if (err == SP_OK) {
        obey(&the_keys, &message, &fd);
        if (fd >= 0) {
            (void)close(fd);
        }
    } else if (err == SP_ERR_CLOSED) {
        the_keys.stopping = true; /* the parent is gone */
    }
}

static void tick(struct sp_timer *timer)
{
    struct keys *k = &the_keys;
    uint64_t now_ms = sp_clock_ms();
    sp_keys_service_tick(k->service, now_ms);
    sp_timer_set(&k->loop.timers, timer, now_ms + TICK_MS);
}

/* --- life --- */

static enum sp_err open_registry(struct keys *k)
{
    struct sp_fault fault = {0};
    const struct sp_config *config = k->child->config;
    enum sp_err err = sp_registry_open(config->state_dir, config->master_key, SP_REGISTRY_SERVICE,
                                       &k->registry, &fault);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("registry_unreadable"), SP_F_ERR(err),
                     SP_F_STR("reason", fault.text));
    }
    return err;
}

static enum sp_err make_links(struct keys *k)
{
    k->links = calloc(k->child->config->threads, sizeof(*k->links));
    if (k->links == NULL) {
        return SP_ERR_NOMEM;
    }
    k->link_count = k->child->config->threads;
    for (unsigned loop = 0; loop < k->link_count; loop++) {
        k->links[loop] = (struct link){.watch = {.fd = -1}, .keys = k, .loop = loop};
        SP_TRY(connect_link(k, loop, k->child->keys[loop]));
    }
    return SP_OK;
}

/* Beside another keys process: what it has not told its gate yet would count as told, or as never told, when that gate's devices come over to ours. It tells within a tick or two. */
static void await_other(struct keys *k)
{
    const struct timespec nap = {.tv_nsec = 10000000};
    bool all = false;
    for (unsigned i = 0; k->child->beside && i < OTHER_NAPS && !all; i++) {
        if (i > 0) {
            (void)nanosleep(&nap, NULL);
        }
        if (sp_registry_heard_all(k->registry, &all) != SP_OK) {
            all = false;
        }
    }
}

static enum sp_err start(struct keys *k)
{
    SP_TRY(open_registry(k));
    await_other(k);
    SP_TRY(sp_loop_init(&k->loop));
    SP_TRY(sp_keys_service_create(k->child->config, k->registry, &k->service));
    SP_TRY(make_links(k));
    SP_TRY(sp_keys_service_start(k->service, sp_clock_ms()));
    k->control = (struct sp_watch){.fd = k->child->control};
    SP_TRY(sp_loop_add(&k->loop, &k->control, EPOLLIN, control_ready));
    k->tick.fire = tick;
    sp_timer_set(&k->loop.timers, &k->tick, sp_clock_ms() + TICK_MS);
    if (!sp_locked_complete()) {
        sp_log_warn(SP_EVENT("memory_not_locked"),
                    SP_F_STR("reason", "keys may reach swap; raise the limit of locked memory"));
    }
    SP_TRY(sp_sandbox_enter(SP_PROCESS_KEYS, k->child->config));
    return sp_control_send(k->child->control, &(struct sp_control){.type = SP_CONTROL_READY}, -1);
}

static void stop(struct keys *k)
{
    sp_keys_service_destroy(k->service);
    sp_registry_close(k->registry);
    sp_loop_deinit(&k->loop);
    free(k->links);
}

int sp_keys_main(const struct sp_child *child)
{
    struct keys *k = &the_keys;
    *k = (struct keys){.child = child, .loop = {.epoll = -1}};
    sp_log_init("keys", SP_LOG_INFO);
    sp_metrics_use_slot(SP_METRICS_SLOT_KEYS);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN); /* the parent says when to stop */
    (void)signal(SIGTERM, SIG_IGN);
    enum sp_err err = start(k);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("cannot_start"), SP_F_ERR(err));
    }
    while (err == SP_OK && !k->stopping) {
        flush_links(k);
        err = sp_loop_turn(&k->loop);
    }
    if (k->stopping) {
        flush_links(k);
        sp_keys_service_finish(k->service);
    }
    stop(k);
    return err == SP_OK && !k->failed ? 0 : 1;
}
