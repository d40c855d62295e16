/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/worker.h"

#include "gateway/gate/attest/guard.h"
#include "gateway/gate/fuse/fuse.h"
#include "gateway/gate/handover/handover.h"
#include "gateway/gate/route/route.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/slab/slab.h"
#include "libs/mqtt/topic.h"
#include "libs/record/grant.h"

#include <errno.h>
#include <malloc.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#define ACCEPTS_PER_TURN 32
#define SERVES_PER_TURN  32     /* handshakes that begin */
#define FD_PAUSE_MS      500U   /* without accepting, after the fds ran out */
#define TRIM_FROM        64U    /* connections, after which the heap is given back … */
#define TRIM_MS          1000U  /* … so long after the last handshake … */
#define TRIM_LATEST_MS   10000U /* … or, when there is no last one, as often */
#define PAGE             4096U  /* bytes: alignment of a loop's buffers */
#define LOG_MS           1000U  /* before the log tells what it left out */
#define STOP_MS          2000U  /* for last words */

static void listener_ready(struct sp_watch *watch, uint32_t events);
static void link_ready(struct sp_watch *watch, uint32_t events);
static void accept_again(struct sp_timer *timer);
static void trim(struct sp_timer *timer);
static void log_left_out(struct sp_timer *timer);
static void serve_again(struct sp_timer *timer);

/* ---- connections of this loop ---- */

void sp_worker_link(struct sp_worker *worker, struct sp_conn *conn)
{
    worker->open++;
    worker->stirred++;
    worker->home.unread += sp_client_now(&conn->client)->unsent.used;
    atomic_fetch_add_explicit(&worker->gate->connections, 1, memory_order_relaxed);
    sp_metric_inc(SP_M_CONNECTIONS_OPEN);
}

void sp_worker_unlink(struct sp_worker *worker, struct sp_conn *conn)
{
    worker->open--;
    if (conn->stage >= SP_CONN_ADMITTED) { /* else it is a visitor that moves: detached already */
        struct sp_peer peer = sp_client_peer(&conn->client);
        sp_admission_gone(&worker->admission, &peer, worker->loop.timers.now_ms);
    }
    worker->home.unread -= sp_client_now(&conn->client)->unsent.used;
    atomic_fetch_sub_explicit(&worker->gate->connections, 1, memory_order_relaxed);
    sp_metric_add(SP_M_CONNECTIONS_OPEN, -1);
}

struct sp_conn *sp_worker_next(const struct sp_worker *worker, struct sp_worker_walk *walk)
{
    struct sp_client *client =
        walk->clients_done ? NULL : sp_slots_each(&worker->home.clients, &walk->client);
    if (client != NULL) {
        return sp_conn_of(client);
    }
    if (!walk->clients_done) {
        walk->clients_done = true;
        walk->visitor = LIST_FIRST(&worker->admission.all);
    }
    while (walk->visitor != NULL) {
        struct sp_conn *conn = walk->visitor->owner;
        walk->visitor = LIST_NEXT(walk->visitor, among_all);
        if (!conn->homed) {
            return conn;
        }
    }
    return NULL;
}

/* ---- accepting ---- */

static void watch_listeners(struct sp_worker *worker, bool on)
{
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

/* Nothing new is taken in that could not be judged or would be one too many. */
static bool may_accept(const struct sp_worker *worker)
{
    return !worker->stopping && !worker->leaving && !worker->short_of_fds &&
           worker->keys.channel != NULL;
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

/* ---- messages from keys ---- */

static struct sp_client *client_of(struct sp_worker *worker, const struct sp_frame *frame)
{
    return sp_slots_find(&worker->home.clients, frame->tag);
}

static enum sp_err psk_answer(struct sp_worker *worker, const struct sp_frame *frame,
                              struct sp_view body)
{
    struct sp_msg_psk_answer answer;
    struct sp_client *client = client_of(worker, frame);
    if (body.len != sizeof(answer)) {
        return SP_ERR_MALFORMED;
    }
    if (client != NULL) {
        memcpy(&answer, body.ptr, sizeof(answer));
        answer.row.role[sizeof(answer.row.role) - 1] = '\0';
        sp_conn_psk(sp_conn_of(client), &answer);
        sp_wipe(&answer, sizeof(answer));
    }
    return SP_OK;
}

static enum sp_err nonce_answer(struct sp_worker *worker, const struct sp_frame *frame,
                                struct sp_view body)
{
    struct sp_msg_nonce_answer answer;
    struct sp_client *client = client_of(worker, frame);
    if (body.len != sizeof(answer)) {
        return SP_ERR_MALFORMED;
    }
    if (client != NULL) {
        memcpy(&answer, body.ptr, sizeof(answer));
        sp_guard_nonce(client, &answer);
    }
    return SP_OK;
}

static enum sp_err verdict(struct sp_worker *worker, const struct sp_frame *frame,
                           struct sp_view body)
{
    struct sp_msg_verdict message;
    struct sp_client *client = client_of(worker, frame);
    if (body.len != sizeof(message)) {
        return SP_ERR_MALFORMED;
    }
    if (client == NULL) {
        return SP_OK;
    }
    memcpy(&message, body.ptr, sizeof(message));
    message.detail[sizeof(message.detail) - 1] = '\0';
    if (client->state != SP_CLIENT_OPEN) {
        /* What can be read without waiting was sent before the verdict (docs/protocol.md 3.2). */
        sp_conn_read_early(sp_conn_of(client));
    }
    sp_guard_verdict(client, &message);
    return SP_OK;
}

static enum sp_err grant(struct sp_worker *worker, const struct sp_frame *frame,
                         struct sp_view body)
{
    struct sp_client *client = client_of(worker, frame);
    if (body.len == 0 || body.len > SP_GRANT_MAX) {
        return SP_ERR_MALFORMED;
    }
    if (client != NULL) {
        sp_client_grant(client, body);
    }
    return SP_OK;
}

static enum sp_err revoked(struct sp_worker *worker, const struct sp_frame *frame,
                           struct sp_view body)
{
    if (!sp_link_identity_valid(body)) {
        return SP_ERR_MALFORMED;
    }
    sp_home_revoke(&worker->home, body, frame->tag);
    return SP_OK;
}

static enum sp_err keys_message(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    struct sp_worker *worker = arg;
    switch (frame->type) {
    case SP_MSG_PSK_ANSWER:
        return psk_answer(worker, frame, body);
    case SP_MSG_NONCE_ANSWER:
        return nonce_answer(worker, frame, body);
    case SP_MSG_VERDICT:
        return verdict(worker, frame, body);
    case SP_MSG_REVOKED:
        return revoked(worker, frame, body);
    case SP_MSG_GRANT:
        return grant(worker, frame, body);
    case SP_MSG_GROUPS:
        return sp_home_groups(&worker->home, body);
    case SP_MSG_POLICY_CHANGED:
        sp_home_reattest(&worker->home);
        return SP_OK;
    default:
        return SP_ERR_PROTOCOL;
    }
}

static void keys_lost(struct sp_worker *worker)
{
    sp_home_keys_lost(&worker->home);
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        sp_conn_keys_lost(conn);
    }
}

/* ---- messages from store ---- */

static enum sp_err durable(struct sp_worker *worker, uint16_t type, struct sp_view body)
{
    struct sp_msg_durable message;
    if (body.len != sizeof(message)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(&message, body.ptr, sizeof(message));
    return type == SP_MSG_DURABLE ? sp_tickets_durable(&worker->home, &message)
                                  : sp_keep_durable(&worker->home, &message);
}

static enum sp_err pressure(struct sp_worker *worker, struct sp_view body)
{
    struct sp_msg_pressure message;
    if (body.len != sizeof(message)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(&message, body.ptr, sizeof(message));
    worker->home.tickets.pressure = message.level;
    sp_log_info(SP_EVENT("store_pressure"), SP_F_INT("level", message.level));
    return SP_OK;
}

static enum sp_err command(struct sp_worker *worker, const struct sp_frame *frame,
                           struct sp_view body)
{
    struct sp_msg_command message;
    if (body.len < sizeof(message)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(&message, body.ptr, sizeof(message));
    struct sp_view topic = sp_view_from(body, sizeof(message));
    struct sp_view payload = sp_view_from(topic, message.topic_len);
    topic = sp_view_first(topic, message.topic_len);
    if (body.len != sizeof(message) + message.topic_len + (size_t)message.payload_len ||
        !sp_topic_name_valid(topic)) {
        return SP_ERR_MALFORMED;
    }
    sp_route_command(&worker->home, topic, payload, message.qos, frame->tag);
    return SP_OK;
}

static enum sp_err store_message(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    struct sp_worker *worker = arg;
    switch (frame->type) {
    case SP_MSG_DURABLE:
    case SP_MSG_KEPT_DURABLE:
        return durable(worker, frame->type, body);
    case SP_MSG_KEPT:
        return sp_keep_records(&worker->home, frame->tag, body);
    case SP_MSG_PRESSURE:
        return pressure(worker, body);
    case SP_MSG_COMMAND:
        return command(worker, frame, body);
    case SP_MSG_MARKS:
        return sp_marks_load(&worker->home.marks, body, frame->tag == 1, worker->home.index,
                             worker->home.loops);
    default:
        return SP_ERR_PROTOCOL;
    }
}

static void store_lost(struct sp_worker *worker)
{
    sp_tickets_lost(&worker->home);
    sp_keep_lost(&worker->home);
}

/* ---- channels ---- */

static enum sp_err channel_send(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                                size_t count)
{
    return sp_channel_send(arg, type, tag, parts, count);
}

void sp_gate_fail(struct sp_gate *gate)
{
    atomic_store(&gate->failed, true);
    for (uint16_t i = 0; i < gate->count; i++) {
        sp_worker_stop(&gate->workers[i]);
    }
}

/* The parent renews a channel when one of its ends dies, so an end that cannot go on has to. */
static void drop_link(struct sp_link *link, enum sp_err err)
{
    struct sp_worker *worker = link->worker;
    if (link->channel == NULL) {
        return;
    }
    (void)sp_loop_remove(&worker->loop, &link->watch);
    sp_channel_destroy(link->channel);
    link->channel = NULL;
    if (!worker->stopping) {
        sp_log_warn(SP_EVENT("channel_lost"),
                    SP_F_STR("to", link == &worker->keys ? "keys" : "store"), SP_F_ERR(err));
    }
    link->lost(worker);
    if (err != SP_ERR_CLOSED && !worker->stopping) {
        sp_gate_fail(worker->gate);
    }
}

static void link_ready(struct sp_watch *watch, uint32_t events)
{
    struct sp_link *link = (struct sp_link *)watch;
    enum sp_err err = SP_OK;
    if ((events & EPOLLOUT) != 0) {
        err = sp_channel_flush(link->channel);
    }
    if (err == SP_OK && (events & ~(uint32_t)EPOLLOUT) != 0) {
        err = sp_channel_receive(link->channel, link->message, link->worker);
    }
    if (err != SP_OK) {
        drop_link(link, err);
    }
}

/* Start to use a channel; its edge goes to `edge`. */
static enum sp_err use_channel(struct sp_worker *worker, struct sp_link *link, int fd,
                               struct sp_edge *edge)
{
    drop_link(link, SP_ERR_CLOSED);
    enum sp_err err = sp_channel_create(fd, &link->channel);
    if (err != SP_OK) {
        close(fd);
        return err;
    }
    link->worker = worker;
    link->watch = (struct sp_watch){.fd = fd};
    *edge = (struct sp_edge){channel_send, link->channel};
    return sp_loop_add(&worker->loop, &link->watch, EPOLLIN, link_ready);
}

static enum sp_err use_keys(struct sp_worker *worker, int fd)
{
    worker->home.keyring.known = false; /* until the new process has told */
    return use_channel(worker, &worker->keys, fd, &worker->home.keys);
}

static enum sp_err use_store(struct sp_worker *worker, int fd)
{
    struct sp_edge edge;
    SP_TRY(use_channel(worker, &worker->store, fd, &edge));
    sp_tickets_connected(&worker->home, &edge);
    sp_keep_connected(&worker->home);
    return SP_OK;
}

/* Once per turn: one write for all that was queued. */
static void flush_link(struct sp_link *link)
{
    if (link->channel == NULL) {
        return;
    }
    enum sp_err err = sp_channel_flush(link->channel);
    if (err != SP_OK) {
        drop_link(link, err);
        return;
    }
    uint32_t events = EPOLLIN | (sp_channel_pending(link->channel) > 0 ? EPOLLOUT : 0U);
    /* Where the kernel has no memory for it, the next turn asks again. */
    (void)!sp_loop_change(&link->worker->loop, &link->watch, events);
}

/* ---- orders from other threads ---- */

struct sp_order {
    struct sp_parcel parcel; /* first: the functions below cast back */
    enum sp_process peer;
    int fd;
    struct sp_config *config;
    atomic_uint *count;
    atomic_bool taken; /* one of worker->orders */
};

/* Few are ever under way at a time. NULL: no memory, and too many. */
static struct sp_order *take_order(struct sp_worker *worker)
{
    struct sp_order *order = calloc(1, sizeof(*order));
    for (size_t i = 0; order == NULL && i < SP_WORKER_ORDERS; i++) {
        bool taken = false;
        if (atomic_compare_exchange_strong(&worker->orders[i].taken, &taken, true)) {
            order = &worker->orders[i];
        }
    }
    return order;
}

static void free_order(struct sp_worker *worker, struct sp_order *order)
{
    if (order >= worker->orders && order < worker->orders + SP_WORKER_ORDERS) {
        atomic_store(&order->taken, false);
    } else {
        free(order);
    }
}

static void obey_stop(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    free_order(worker, (struct sp_order *)parcel);
    if (worker->stopping) {
        return;
    }
    worker->stopping = true;
    worker->stop_ms = worker->loop.timers.now_ms + STOP_MS;
    sp_timer_set(&worker->loop.timers, &worker->accept_timer, worker->stop_ms);
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        if (conn->stage == SP_CONN_GUEST || conn->stage == SP_CONN_ADMITTED) {
            sp_client_shutdown(&conn->client);
        } else if (conn->stage < SP_CONN_GUEST) {
            sp_conn_close(conn);
        }
    }
}

static void obey_reconnect(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    struct sp_order *order = (struct sp_order *)parcel;
    bool keys = order->peer == SP_PROCESS_KEYS;
    enum sp_err err = keys ? use_keys(worker, order->fd) : use_store(worker, order->fd);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("channel_unusable"), SP_F_STR("to", keys ? "keys" : "store"),
                     SP_F_ERR(err));
        sp_gate_fail(worker->gate);
    } else {
        sp_log_info(SP_EVENT("channel_renewed"), SP_F_STR("to", keys ? "keys" : "store"));
        if (keys) {
            sp_home_regrant(&worker->home);
        }
    }
    free_order(worker, order);
}

static void obey_configure(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    struct sp_order *order = (struct sp_order *)parcel;
    struct sp_config *old = worker->config;
    worker->config = order->config;
    sp_home_configure(&worker->home, order->config);
    sp_config_destroy(old);
    free_order(worker, order);
}

/* Who has begun a handshake, or waits for a place with a whole ClientHello. */
static uint32_t in_the_middle(const struct sp_worker *worker)
{
    return worker->admission.in_service + worker->admission.ready;
}

static void obey_leave(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    struct sp_order *order = (struct sp_order *)parcel;
    worker->leaving = true;
    atomic_store(&worker->waiting, in_the_middle(worker));
    atomic_fetch_add(order->count, 1);
    free_order(worker, order);
}

static void obey_freeze(void *owner, struct sp_parcel *parcel)
{
    struct sp_worker *worker = owner;
    free_order(worker, (struct sp_order *)parcel);
    worker->shares = true;
    worker->home.frozen = !worker->stopping;
}

static void give_order(struct sp_worker *worker, void (*obey)(void *, struct sp_parcel *),
                       const struct sp_order *given)
{
    struct sp_outbox outbox = {NULL, NULL};
    struct sp_order *order = take_order(worker);
    if (order == NULL) {
        abort(); /* none may be lost: the parent starts us again */
    }
    order->peer = given->peer;
    order->fd = given->fd;
    order->config = given->config;
    order->count = given->count;
    order->parcel.run = obey;
    sp_outbox_put(&outbox, &order->parcel);
    sp_inbox_post(&worker->inbox, &outbox);
}

void sp_worker_stop(struct sp_worker *worker)
{
    give_order(worker, obey_stop, &(struct sp_order){.fd = -1});
}

void sp_worker_reconnect(struct sp_worker *worker, enum sp_process peer, int fd)
{
    give_order(worker, obey_reconnect, &(struct sp_order){.peer = peer, .fd = fd});
}

void sp_worker_configure(struct sp_worker *worker, const struct sp_config *config)
{
    give_order(worker, obey_configure,
               &(struct sp_order){.fd = -1, .config = sp_config_hold(config)});
}

void sp_worker_leave(struct sp_worker *worker, atomic_uint *count)
{
    give_order(worker, obey_leave, &(struct sp_order){.fd = -1, .count = count});
}

void sp_worker_freeze(struct sp_worker *worker)
{
    give_order(worker, obey_freeze, &(struct sp_order){.fd = -1});
}

/* ---- one turn after the other ---- */

static void settle_connections(struct sp_worker *worker)
{
    struct sp_client *client;
    while ((client = sp_client_take_dirty(&worker->home)) != NULL) {
        struct sp_conn *conn = sp_conn_of(client);
        if (conn->stage == SP_CONN_DEAD) {
            sp_conn_free(conn);
        } else {
            sp_conn_settle(conn);
        }
    }
}

/* Give back what the loop's own buffers have come to since. Nothing is in them between two events. */
static void trim_buffers(struct sp_worker *worker)
{
    const struct sp_link *links[] = {&worker->keys, &worker->store};
    for (size_t i = 0; i < sizeof(links) / sizeof(links[0]); i++) {
        if (links[i]->channel != NULL) {
            sp_channel_trim(links[i]->channel);
        }
    }
    if (worker->out.used == 0) {
        sp_tls_out_deinit(&worker->out);
    }
    (void)madvise(worker->cipher, SP_WORKER_BUFFER, MADV_DONTNEED); /* refused with larger pages */
    (void)madvise(worker->plain, SP_WORKER_BUFFER, MADV_DONTNEED);
}

/* Handshakes need much memory for a moment. What they leave of the heap is empty pages, since what lives on lies in slabs. */
static void trim(struct sp_timer *timer)
{
    struct sp_worker *worker =
        (struct sp_worker *)(void *)((char *)timer - offsetof(struct sp_worker, trim_timer));
    uint64_t now_ms = worker->loop.timers.now_ms;
    worker->trims = false;
    if (worker->admission.in_service == 0 || now_ms >= worker->trimmed_ms + TRIM_LATEST_MS) {
        worker->stirred = 0;
        worker->trimmed_ms = now_ms;
        sp_client_trim(&worker->home);
        trim_buffers(worker);
        sp_slab_trim();
        (void)malloc_trim(0);
    }
}

static void plan_trim(struct sp_worker *worker)
{
    if (worker->stirred >= TRIM_FROM && !worker->trims) {
        worker->trims = true;
        sp_timer_set(&worker->loop.timers, &worker->trim_timer,
                     worker->loop.timers.now_ms + TRIM_MS);
    }
}

/* ---- visitors ---- */

static void serve_again(struct sp_timer *timer)
{
    (void)timer; /* serve() comes once per turn */
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

/* Begin handshakes while there are places, and come back when there will be. */
static void serve(struct sp_worker *worker)
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

/* ---- the log ---- */

static void log_left_out(struct sp_timer *timer)
{
    (void)timer;
    sp_metric_add(SP_M_LOG_LINES_LEFT_OUT, (int64_t)sp_log_left_out());
}

static void plan_log(struct sp_worker *worker)
{
    if (worker->log_timer.when == 0 && sp_log_has_left_out()) {
        sp_timer_set(&worker->loop.timers, &worker->log_timer, worker->loop.timers.now_ms + LOG_MS);
    }
}

/* What is collected during a turn: writes, the dead, batches, parcels. */
static void finish_turn(struct sp_worker *worker)
{
    struct sp_home *home = &worker->home;
    sp_client_wake_all(home);
    if (!home->frozen) {
        serve(worker);
    }
    do {
        settle_connections(worker);
        sp_tickets_flush(home);
        sp_keep_flush(home);
        flush_link(&worker->keys);
        flush_link(&worker->store);
    } while (home->dirty != 0);
    home->tickets.waiting =
        worker->store.channel == NULL ? 0 : sp_channel_pending(worker->store.channel);
    home->tickets.taken = 0;
    for (uint16_t i = 0; i < home->loops; i++) {
        sp_inbox_post(&worker->gate->workers[i].inbox, &home->outboxes[i]);
    }
    if (home->resting != 0) {
        sp_timer_set(&worker->loop.timers, &worker->serve_timer, worker->loop.timers.now_ms);
    }
    sp_metric_set(SP_M_WRITE_BUFFERS, (int64_t)home->unread);
    sp_metric_set(SP_M_SESSION_QUEUES, (int64_t)home->queued);
    plan_trim(worker);
    plan_log(worker);
    watch_listeners(worker, may_accept(worker));
    if (worker->leaving) {
        atomic_store(&worker->waiting, in_the_middle(worker));
    }
}

/* ---- another process takes over ---- */

void sp_worker_listen(struct sp_worker *worker)
{
    struct sp_watch *watches[] = {&worker->inbox.watch, &worker->keys.watch, &worker->store.watch};
    sp_loop_read_clocks(&worker->loop);
    for (size_t i = 0; i < sizeof(watches) / sizeof(watches[0]); i++) {
        if (watches[i]->fd >= 0) {
            sp_loop_tell(&worker->loop, watches[i], EPOLLIN); /* there may be nothing */
        }
    }
    sp_keep_store_all(&worker->home);
    finish_turn(worker);
}

bool sp_worker_is_quiet(const struct sp_worker *worker)
{
    const struct sp_home *home = &worker->home;
    const struct sp_client *client;
    uint32_t index = 0;
    if (home->tickets.ring_count > 0 || !sp_keep_is_calm(home) ||
        (worker->store.channel != NULL && sp_channel_pending(worker->store.channel) > 0)) {
        return false;
    }
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        if (client->state == SP_CLIENT_OPEN && client->guard == SP_GUARD_APPRAISING) {
            return false;
        }
    }
    return true;
}

void sp_worker_thaw(struct sp_worker *worker)
{
    struct sp_client *client;
    uint32_t index = 0;
    worker->leaving = false;
    worker->home.frozen = false;
    while ((client = sp_slots_each(&worker->home.clients, &index)) != NULL) {
        if (sp_client_now(client)->in.used > 0) {
            sp_client_mark(client); /* what it said before */
        }
    }
    finish_turn(worker);
}

void sp_worker_farewell(struct sp_worker *worker)
{
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        if (conn->stage == SP_CONN_ADMITTED && !sp_conn_can_go(conn)) {
            sp_client_shutdown(&conn->client);
        }
    }
    settle_connections(worker);
    walk = (struct sp_worker_walk){0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        sp_tls_destroy(sp_conn_tls(conn));
        conn->tls_ref = 0;
    }
}

static bool has_group(const struct sp_home *home)
{
    const struct sp_client *client;
    uint32_t index = 0;
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        if (sp_client_more(client)->group != NULL) {
            return true;
        }
    }
    return false;
}

enum sp_err sp_worker_await_keys(struct sp_worker *worker, int wait_ms)
{
    uint64_t end_ms = sp_clock_ms() + (uint64_t)wait_ms;
    bool grouped = has_group(&worker->home);
    while (worker->keys.channel != NULL && !worker->home.keyring.known) {
        sp_loop_read_clocks(&worker->loop);
        link_ready(&worker->keys.watch, EPOLLIN);
        if (!grouped) {
            break;
        }
        if (worker->loop.timers.now_ms >= end_ms) {
            return SP_ERR_AGAIN;
        }
        sp_loop_nap();
    }
    if (worker->keys.channel == NULL) {
        return SP_ERR_CLOSED;
    }
    return SP_OK;
}

static bool is_done(const struct sp_worker *worker)
{
    return worker->stopping && (worker->open == 0 || worker->loop.timers.now_ms >= worker->stop_ms);
}

/* ---- life ---- */

static enum sp_err init_listeners(struct sp_worker *worker, const int *fds)
{
    size_t count = worker->home.config->listener_count;
    const int on = 1;
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

enum sp_err sp_worker_init(struct sp_worker *worker, struct sp_gate *gate, uint16_t index,
                           const struct sp_child *child)
{
    worker->gate = gate;
    worker->config = sp_config_hold(gate->config);
    worker->accept_timer.fire = accept_again;
    worker->trim_timer.fire = trim;
    worker->serve_timer.fire = serve_again;
    worker->log_timer.fire = log_left_out;
    worker->orders = calloc(SP_WORKER_ORDERS, sizeof(*worker->orders));
    worker->cipher = aligned_alloc(PAGE, SP_WORKER_BUFFER);
    worker->plain = aligned_alloc(PAGE, SP_WORKER_BUFFER);
    worker->keys.message = keys_message;
    worker->keys.lost = keys_lost;
    worker->store.message = store_message;
    worker->store.lost = store_lost;
    worker->home = (struct sp_home){
        .config = gate->config,
        .subs = gate->subs,
        .timers = &worker->loop.timers,
        .outboxes = calloc(gate->count, sizeof(struct sp_outbox)),
        .index = index,
        .loops = gate->count,
        /* What another process hands over is in the journal, and nothing else is. */
        .keep = {.homes = &gate->loading, .loading = !child->beside || child->handover < 0},
        .exporter = sp_conn_exporter,
        .due = sp_conn_due,
        .flush = sp_conn_flush,
    };
    sp_home_init(&worker->home);
    if (worker->orders == NULL || worker->cipher == NULL || worker->plain == NULL ||
        worker->home.outboxes == NULL) {
        return SP_ERR_NOMEM;
    }
    SP_TRY(sp_loop_init(&worker->loop));
    SP_TRY(sp_fuse_create(&worker->home, &worker->home.fuse));
    SP_TRY(sp_inbox_init(&worker->inbox, &worker->loop, &worker->home));
    SP_TRY(use_keys(worker, child->keys[index]));
    SP_TRY(use_store(worker, child->store[index]));
    return init_listeners(worker, child->listeners);
}

void sp_worker_deinit(struct sp_worker *worker)
{
    if (worker->gate == NULL) {
        return;
    }
    worker->stopping = true;
    sp_inbox_drain(&worker->inbox);
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        sp_conn_close(conn);
    }
    sp_client_wake_all(&worker->home);
    settle_connections(worker);
    drop_link(&worker->keys, SP_ERR_CLOSED);
    drop_link(&worker->store, SP_ERR_CLOSED);
    sp_admission_deinit(&worker->admission);
    sp_home_deinit(&worker->home);
    sp_inbox_deinit(&worker->inbox);
    sp_loop_deinit(&worker->loop);
    if (worker->out.used == 0) {
        sp_tls_out_deinit(&worker->out);
    }
    free(worker->home.outboxes);
    free(worker->listeners);
    free(worker->orders);
    free(worker->cipher);
    free(worker->plain);
    sp_config_destroy(worker->config);
}

bool sp_worker_turn(struct sp_worker *worker)
{
    if (sp_loop_turn(&worker->loop) != SP_OK) {
        sp_log_error(SP_EVENT("loop_failed"), SP_F_ERRNO(errno));
        return false;
    }
    finish_turn(worker);
    return true;
}

void sp_worker_run(struct sp_worker *worker)
{
    sp_metrics_use_slot(worker->home.index);
    while (!is_done(worker) && sp_worker_turn(worker)) {
        if (worker->home.frozen) {
            sp_handover_park(worker);
        }
    }
}
