/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/worker.h"

#include "gateway/gate/fuse/fuse.h"
#include "gateway/gate/handover/handover.h"
#include "gateway/gate/worker_internal.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/slab/slab.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <sys/mman.h>

#define TRIM_FROM      64U    /* connections, after which the heap is given back … */
#define TRIM_MS        1000U  /* … so long after the last handshake … */
#define TRIM_LATEST_MS 10000U /* … or, when there is no last one, as often */
#define PAGE           4096U  /* bytes: alignment of a loop's buffers */
#define LOG_MS         1000U  /* before the log tells what it left out */

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

/* ---- one turn after the other ---- */

void sp_worker_settle(struct sp_worker *worker)
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

uint32_t sp_worker_in_the_middle(const struct sp_worker *worker)
{
    return worker->admission.in_service + worker->admission.ready;
}

void sp_worker_finish_turn(struct sp_worker *worker)
{
    struct sp_home *home = &worker->home;
    sp_client_wake_all(home);
    if (!home->frozen) {
        sp_worker_serve(worker);
    }
    do {
        sp_worker_settle(worker);
        sp_tickets_flush(home);
        sp_keep_flush(home);
        sp_worker_flush_link(&worker->keys);
        sp_worker_flush_link(&worker->store);
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
    sp_worker_watch_listeners(worker);
    if (worker->leaving) {
        atomic_store(&worker->waiting, sp_worker_in_the_middle(worker));
    }
}

/* ---- life ---- */

enum sp_err sp_worker_init(struct sp_worker *worker, struct sp_gate *gate, uint16_t index,
                           const struct sp_child *child)
{
    worker->gate = gate;
    worker->config = sp_config_hold(gate->config);
    worker->trim_timer.fire = trim;
    worker->log_timer.fire = log_left_out;
    worker->orders = calloc(SP_WORKER_ORDERS, sizeof(*worker->orders));
    worker->cipher = aligned_alloc(PAGE, SP_WORKER_BUFFER);
    worker->plain = aligned_alloc(PAGE, SP_WORKER_BUFFER);
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
    SP_TRY(sp_worker_use_keys(worker, child->keys[index]));
    SP_TRY(sp_worker_use_store(worker, child->store[index]));
    return sp_worker_init_listeners(worker, child->listeners);
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
    sp_worker_settle(worker);
    sp_worker_drop_link(&worker->keys, SP_ERR_CLOSED);
    sp_worker_drop_link(&worker->store, SP_ERR_CLOSED);
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
    sp_worker_finish_turn(worker);
    return true;
}

static bool is_done(const struct sp_worker *worker)
{
    return worker->stopping && (worker->open == 0 || worker->loop.timers.now_ms >= worker->stop_ms);
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
