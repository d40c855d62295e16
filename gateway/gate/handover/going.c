/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The gate that hands over. Loop 0 leads. First nothing new is accepted and those who are in a handshake get a moment to finish;
 * everybody else is served as always. Then every loop stands still: it reads nothing from devices, and hears the others, keys and store until nothing
 * waits for them. So when loop 0 writes everything down, each message that was read was answered, or lies in a queue.
 */
#include "gateway/gate/handover/handover.h"

#include "gateway/gate/handover/passage.h"
#include "gateway/gate/route/retained.h"
#include "gateway/gate/session/carry.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define LOOK_MS   2U     /* between two looks at who is in a handshake */
#define SETTLE_MS 2000U  /* for handshakes to end */
#define DRAIN_MS  2000U  /* for keys and store to answer what they were asked */
#define TAKE_MS   10000  /* for the other side to take it */
#define SEND_AT   49152U /* bytes */

enum phase {
    DRAINING, /* every loop hears the others, keys and store */
    STOPPED,  /* loop 0 looks at all, and writes */
    OVER,     /* it did not work */
};

struct sp_handover {
    struct sp_timer timer; /* first: look() casts back */
    struct sp_gate *gate;
    int fd;
    uint64_t settle_by_ms;
    uint64_t still_ms;   /* since when the loops stand still */
    atomic_uint leaving; /* loops that accept nothing more */
    atomic_uint quiet;   /* loops for which nothing waits any more */
    atomic_int phase;    /* enum phase */
    pthread_mutex_t lock;
    pthread_cond_t changed;
    unsigned stopped; /* loops that wait for loop 0 */
    unsigned gone;    /* loops that go on */
    /* while everything is written */
    struct sp_carry_out out;
    struct sp_buf connection; /* of the device that is being written */
    int fds[SP_PASSAGE_FDS_MAX];
    size_t fd_count;
    enum sp_err retained; /* of writing what is retained */
    uint64_t devices;
    uint64_t connections;
};

/* ---- the way there ---- */

static unsigned in_handshake(const struct sp_gate *gate)
{
    unsigned sum = 0;
    for (uint16_t i = 0; i < gate->count; i++) {
        sum += atomic_load(&gate->workers[i].waiting);
    }
    return sum;
}

static void look(struct sp_timer *timer)
{
    struct sp_handover *h = (struct sp_handover *)timer;
    struct sp_gate *gate = h->gate;
    struct sp_timers *timers = &gate->workers[0].loop.timers;
    bool all_leave = atomic_load(&h->leaving) == gate->count;
    if (!all_leave || (in_handshake(gate) > 0 && timers->now_ms < h->settle_by_ms)) {
        sp_timer_set(timers, timer, timers->now_ms + LOOK_MS);
        return;
    }
    h->still_ms = sp_clock_ms();
    for (uint16_t i = 0; i < gate->count; i++) {
        sp_worker_freeze(&gate->workers[i]);
    }
}

void sp_handover_begin(struct sp_gate *gate, int fd)
{
    struct sp_timers *timers = &gate->workers[0].loop.timers;
    struct sp_handover *h = gate->handover == NULL ? calloc(1, sizeof(*h)) : NULL;
    if (h == NULL) {
        close(fd);
        return;
    }
    h->gate = gate;
    h->fd = fd;
    h->settle_by_ms = timers->now_ms + SETTLE_MS;
    h->timer.fire = look;
    pthread_mutex_init(&h->lock, NULL);
    pthread_cond_init(&h->changed, NULL);
    gate->handover = h;
    for (uint16_t i = 0; i < gate->count; i++) {
        sp_worker_leave(&gate->workers[i], &h->leaving);
    }
    sp_timer_set(timers, &h->timer, timers->now_ms + LOOK_MS);
}

static void destroy(struct sp_handover *h)
{
    sp_carry_out_deinit(&h->out);
    if (h->connection.ptr != NULL) {
        sp_wipe(h->connection.ptr, h->connection.cap);
    }
    sp_buf_free(&h->connection);
    pthread_cond_destroy(&h->changed);
    pthread_mutex_destroy(&h->lock);
    if (h->fd >= 0) {
        close(h->fd);
    }
    free(h);
}

void sp_handover_deinit(struct sp_gate *gate)
{
    if (gate->handover != NULL) {
        destroy(gate->handover);
        gate->handover = NULL;
    }
}

/* ---- writing ---- */

static enum sp_err send_items(struct sp_handover *h)
{
    struct sp_buf *items = &h->out.buf;
    if (h->out.failed) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = sp_passage_send(h->fd, sp_buf_view(items), h->fds, h->fd_count, TAKE_MS);
    sp_wipe(items->ptr, items->used);
    items->used = 0;
    h->fd_count = 0;
    return err;
}

static enum sp_err send_when_full(struct sp_handover *h)
{
    bool full = h->out.buf.used >= SEND_AT || h->fd_count == SP_PASSAGE_FDS_MAX;
    return full || h->out.failed ? send_items(h) : SP_OK;
}

static enum sp_err write_device(struct sp_handover *h, const struct sp_device *device)
{
    const struct sp_client *client = sp_device_client(device);
    const struct sp_conn *conn =
        client == NULL ? NULL : sp_conn_of((struct sp_client *)(uintptr_t)client);
    if (conn != NULL && !sp_conn_can_go(conn)) {
        client = NULL;
    }
    if (client != NULL) {
        SP_TRY(sp_conn_pack(conn, &h->connection));
        h->fds[h->fd_count++] = conn->watch.fd;
        h->connections++;
    }
    h->devices += sp_carry_device(&h->out, device, client, sp_buf_view(&h->connection));
    if (h->connection.used > 0) {
        sp_wipe(h->connection.ptr, h->connection.used);
        h->connection.used = 0;
    }
    return send_when_full(h);
}

static enum sp_err write_home(struct sp_handover *h, const struct sp_home *home)
{
    const struct sp_table_node *node = NULL;
    for (const struct sp_mark *mark = home->marks.all; mark != NULL; mark = mark->next) {
        sp_carry_mark(&h->out, mark);
        SP_TRY(send_when_full(h));
    }
    while ((node = sp_table_each(&home->devices, node)) != NULL) {
        SP_TRY(write_device(h, (const struct sp_device *)node));
    }
    return SP_OK;
}

static void write_retained(void *arg, struct sp_view owner, struct sp_mail *message)
{
    struct sp_handover *h = arg;
    sp_carry_retained(&h->out, owner, message);
    if (h->retained == SP_OK) {
        h->retained = send_when_full(h);
    }
}

static enum sp_err write_all(struct sp_handover *h)
{
    bool marks = true;
    bool stale = false;
    const struct sp_attestation_config *rules = &h->gate->workers[0].config->attestation;
    size_t begun = sp_carry_begin(&h->out, SP_CARRY_HEAD);
    for (uint16_t i = 0; i < h->gate->count; i++) {
        marks = marks && h->gate->workers[i].home.marks.complete;
        stale = stale || h->gate->workers[i].home.keep.stale;
    }
    sp_carry_number(&h->out, SP_HANDOVER_VERSION, 4);
    sp_carry_number(&h->out, marks, 1);
    sp_carry_number(&h->out, stale, 1);
    sp_carry_number(&h->out, rules->lifecycles, 4);
    sp_carry_number(&h->out, rules->allow_no_software, 1);
    sp_carry_end(&h->out, begun);
    sp_retained_each(h->gate->workers[0].home.retained, write_retained, h);
    SP_TRY(h->retained);
    for (uint16_t i = 0; i < h->gate->count; i++) {
        SP_TRY(write_home(h, &h->gate->workers[i].home));
    }
    begun = sp_carry_begin(&h->out, SP_CARRY_END);
    sp_carry_number(&h->out, h->devices, 8);
    sp_carry_number(&h->out, h->connections, 8);
    sp_carry_end(&h->out, begun);
    return send_items(h);
}

static enum sp_err await_taken(const struct sp_handover *h)
{
    uint64_t end_ms = sp_clock_ms() + TAKE_MS;
    char said = 0;
    ssize_t got;
    while ((got = recv(h->fd, &said, 1, MSG_DONTWAIT)) < 0 && (errno == EAGAIN || errno == EINTR)) {
        if (sp_clock_ms() >= end_ms) {
            return SP_ERR_AGAIN;
        }
        sp_loop_nap();
    }
    return got == 1 && said == SP_HANDOVER_TAKEN ? SP_OK : SP_ERR_CLOSED;
}

static void say(const struct sp_handover *h, char what)
{
    (void)send(h->fd, &what, 1, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* The other process has everything. What lies in this one is wiped, and nobody is told that it ends but those who could not go along. */
static void go(struct sp_handover *h)
{
    unsigned open = atomic_load(&h->gate->connections);
    for (uint16_t i = 0; i < h->gate->count; i++) {
        sp_worker_farewell(&h->gate->workers[i]);
    }
    say(h, SP_HANDOVER_GO);
    sp_log_info(SP_EVENT("handed_over"), SP_F_INT("connections", h->connections),
                SP_F_INT("devices", h->devices), SP_F_INT("left_behind", open - h->connections),
                SP_F_INT("still_ms", sp_clock_ms() - h->still_ms));
    sp_carry_out_deinit(&h->out);
    _exit(0);
}

/* ---- standing still ---- */

static enum phase phase_of(struct sp_handover *h)
{
    return (enum phase)atomic_load(&h->phase);
}

static void enter_phase(struct sp_handover *h, enum phase phase)
{
    pthread_mutex_lock(&h->lock);
    atomic_store(&h->phase, phase);
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

/* Until one of the two counts of loops is so high. */
static void await_others(struct sp_handover *h, const unsigned *count, unsigned wanted)
{
    pthread_mutex_lock(&h->lock);
    while (*count != wanted) {
        pthread_cond_wait(&h->changed, &h->lock);
    }
    pthread_mutex_unlock(&h->lock);
}

/* Hear what there is, and say whether anything is still waited for. */
static void drain(struct sp_handover *h, struct sp_worker *worker, bool *counted)
{
    sp_worker_listen(worker);
    bool quiet = sp_worker_is_quiet(worker);
    if (quiet && !*counted) {
        atomic_fetch_add(&h->quiet, 1);
    } else if (!quiet && *counted) {
        atomic_fetch_sub(&h->quiet, 1);
    }
    *counted = quiet;
    sp_loop_nap();
}

/* A loop that is quiet may have been sent something by one that was not yet. */
static bool all_calm(const struct sp_gate *gate)
{
    bool calm = true;
    for (uint16_t i = 0; i < gate->count; i++) {
        struct sp_worker *worker = &gate->workers[i];
        calm = calm && sp_worker_is_quiet(worker) && sp_inbox_is_empty(&worker->inbox);
    }
    return calm;
}

static enum sp_err bring_to_rest(struct sp_handover *h, struct sp_worker *worker)
{
    unsigned others = h->gate->count - 1U;
    bool counted = false;
    while (sp_clock_ms() < h->still_ms + DRAIN_MS) {
        drain(h, worker, &counted);
        if (atomic_load(&h->quiet) < h->gate->count) {
            continue;
        }
        enter_phase(h, STOPPED);
        await_others(h, &h->stopped, others);
        if (all_calm(h->gate)) {
            return SP_OK;
        }
        enter_phase(h, DRAINING);
        await_others(h, &h->stopped, 0);
    }
    return SP_ERR_AGAIN;
}

/* Nothing has happened yet. */
static void stay(struct sp_handover *h, enum sp_err err)
{
    struct sp_gate *gate = h->gate;
    const struct sp_control kept = {.type = SP_CONTROL_KEPT};
    say(h, SP_HANDOVER_NO);
    sp_log_error(SP_EVENT("handover_failed"), SP_F_ERR(err),
                 SP_F_INT("still_ms", sp_clock_ms() - h->still_ms));
    enter_phase(h, OVER);
    await_others(h, &h->gone, gate->count - 1U);
    sp_handover_deinit(gate);
    if (sp_control_send(gate->control, &kept, -1) != SP_OK) {
        sp_log_error(SP_EVENT("parent_unheard"));
    }
}

static void lead(struct sp_handover *h, struct sp_worker *worker)
{
    enum sp_err err = bring_to_rest(h, worker);
    if (err == SP_OK) {
        err = write_all(h);
    }
    if (err == SP_OK) {
        err = await_taken(h);
    }
    if (err == SP_OK) {
        go(h);
    }
    stay(h, err);
}

static void follow(struct sp_handover *h, struct sp_worker *worker)
{
    bool counted = false;
    while (phase_of(h) != OVER) {
        if (phase_of(h) == DRAINING) {
            drain(h, worker, &counted);
            continue;
        }
        pthread_mutex_lock(&h->lock);
        h->stopped++;
        pthread_cond_broadcast(&h->changed);
        while (phase_of(h) == STOPPED) {
            pthread_cond_wait(&h->changed, &h->lock);
        }
        h->stopped--;
        pthread_cond_broadcast(&h->changed);
        pthread_mutex_unlock(&h->lock);
    }
    pthread_mutex_lock(&h->lock);
    h->gone++;
    pthread_cond_broadcast(&h->changed);
    pthread_mutex_unlock(&h->lock);
}

void sp_handover_park(struct sp_worker *worker)
{
    struct sp_handover *h = worker->gate->handover;
    if (worker->home.index == 0) {
        lead(h, worker);
    } else {
        follow(h, worker);
    }
    sp_worker_thaw(worker);
}
