/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/loop/loop.h"

#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#define EVENTS_PER_TURN 256

static uint64_t clock_ms(clockid_t clock)
{
    struct timespec t = {0, 0};
    clock_gettime(clock, &t);
    return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

void sp_loop_nap(void)
{
    const struct timespec time = {.tv_nsec = 200000};
    (void)clock_nanosleep(CLOCK_MONOTONIC, 0, &time, NULL);
}

uint64_t sp_clock_ms(void)
{
    return clock_ms(CLOCK_MONOTONIC);
}

uint64_t sp_clock_wall_ms(void)
{
    return clock_ms(CLOCK_REALTIME);
}

void sp_loop_read_clocks(struct sp_loop *loop)
{
    loop->timers.now_ms = sp_clock_ms();
    loop->timers.wall_ms = sp_clock_wall_ms();
}

enum sp_err sp_loop_init(struct sp_loop *loop)
{
    *loop = (struct sp_loop){.epoll = epoll_create1(EPOLL_CLOEXEC)};
    sp_loop_read_clocks(loop);
    return loop->epoll < 0 ? SP_ERR_IO : SP_OK;
}

void sp_loop_deinit(struct sp_loop *loop)
{
    if (loop->epoll >= 0) {
        close(loop->epoll);
        loop->epoll = -1;
    }
}

static enum sp_err control(struct sp_loop *loop, int op, struct sp_watch *watch, uint32_t events)
{
    struct epoll_event event = {.events = events, .data = {.ptr = watch}};
    if (epoll_ctl(loop->epoll, op, watch->fd, &event) != 0) {
        return SP_ERR_IO;
    }
    watch->events = (uint16_t)events;
    return SP_OK;
}

enum sp_err sp_loop_add(struct sp_loop *loop, struct sp_watch *watch, uint32_t events,
                        sp_ready_fn ready)
{
    uint16_t kind = 0;
    while (kind < SP_LOOP_KINDS && loop->ready[kind] != NULL && loop->ready[kind] != ready) {
        kind++;
    }
    if (kind == SP_LOOP_KINDS) {
        return SP_ERR_LIMIT;
    }
    loop->ready[kind] = ready;
    watch->kind = kind;
    return control(loop, EPOLL_CTL_ADD, watch, events);
}

enum sp_err sp_loop_change(struct sp_loop *loop, struct sp_watch *watch, uint32_t events)
{
    return events == watch->events ? SP_OK : control(loop, EPOLL_CTL_MOD, watch, events);
}

int sp_loop_remove(struct sp_loop *loop, struct sp_watch *watch)
{
    int fd = watch->fd;
    if (fd >= 0) {
        /* Fails only for an fd that is not watched, and then there is nothing to undo. */
        (void)control(loop, EPOLL_CTL_DEL, watch, 0);
        watch->fd = -1;
    }
    return fd;
}

void sp_loop_close(struct sp_watch *watch)
{
    if (watch->fd >= 0) {
        close(watch->fd);
        watch->fd = -1;
    }
}

static int wait_ms(const struct sp_loop *loop)
{
    uint64_t next = sp_timers_next(&loop->timers);
    if (next == UINT64_MAX) {
        return -1;
    }
    uint64_t now = sp_clock_ms();
    if (next <= now) {
        return 0;
    }
    return next - now > INT_MAX ? INT_MAX : (int)(next - now);
}

void sp_loop_tell(struct sp_loop *loop, struct sp_watch *watch, uint32_t events)
{
    loop->ready[watch->kind](watch, events);
}

enum sp_err sp_loop_turn(struct sp_loop *loop)
{
    struct epoll_event events[EVENTS_PER_TURN];
    int count = epoll_wait(loop->epoll, events, EVENTS_PER_TURN, wait_ms(loop));
    if (count < 0 && errno != EINTR) {
        return SP_ERR_IO;
    }
    sp_loop_read_clocks(loop);
    for (int i = 0; i < count; i++) {
        struct sp_watch *watch = events[i].data.ptr;
        if (watch->fd >= 0) {
            sp_loop_tell(loop, watch, events[i].events);
        }
    }
    sp_timers_run(&loop->timers, loop->timers.now_ms);
    return SP_OK;
}

void sp_outbox_put(struct sp_outbox *outbox, struct sp_parcel *parcel)
{
    parcel->next = NULL;
    if (outbox->first == NULL) {
        outbox->first = parcel;
    } else {
        outbox->last->next = parcel;
    }
    outbox->last = parcel;
}

static void inbox_ready(struct sp_watch *watch, uint32_t events)
{
    (void)events;
    struct sp_inbox *inbox = (struct sp_inbox *)watch;
    eventfd_t count = 0;
    /* Before the list is taken: a post after that signals anew. */
    (void)eventfd_read(watch->fd, &count);
    sp_inbox_drain(inbox);
}

enum sp_err sp_inbox_init(struct sp_inbox *inbox, struct sp_loop *loop, void *owner)
{
    *inbox = (struct sp_inbox){.owner = owner};
    inbox->watch.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (inbox->watch.fd < 0) {
        return SP_ERR_IO;
    }
    pthread_mutex_init(&inbox->lock, NULL);
    return sp_loop_add(loop, &inbox->watch, EPOLLIN, inbox_ready);
}

void sp_inbox_post(struct sp_inbox *inbox, struct sp_outbox *outbox)
{
    if (outbox->first == NULL) {
        return;
    }
    pthread_mutex_lock(&inbox->lock);
    bool was_empty = inbox->parcels.first == NULL;
    if (was_empty) {
        inbox->parcels = *outbox;
    } else {
        inbox->parcels.last->next = outbox->first;
        inbox->parcels.last = outbox->last;
    }
    pthread_mutex_unlock(&inbox->lock);
    *outbox = (struct sp_outbox){NULL, NULL};
    if (was_empty) {
        (void)eventfd_write(inbox->watch.fd, 1);
    }
}

bool sp_inbox_is_empty(struct sp_inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    bool empty = inbox->parcels.first == NULL;
    pthread_mutex_unlock(&inbox->lock);
    return empty;
}

void sp_inbox_drain(struct sp_inbox *inbox)
{
    pthread_mutex_lock(&inbox->lock);
    struct sp_parcel *parcel = inbox->parcels.first;
    inbox->parcels = (struct sp_outbox){NULL, NULL};
    pthread_mutex_unlock(&inbox->lock);
    while (parcel != NULL) {
        struct sp_parcel *next = parcel->next;
        parcel->run(inbox->owner, parcel);
        parcel = next;
    }
}

void sp_inbox_deinit(struct sp_inbox *inbox)
{
    if (inbox->watch.fd >= 0) {
        close(inbox->watch.fd);
        inbox->watch.fd = -1;
        pthread_mutex_destroy(&inbox->lock);
    }
}
