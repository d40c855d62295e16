/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The machine that the simulated gateway runs on: processes, threads, memory, descriptors, a clock, chance.
 *
 * The gateway's own code runs unchanged. What it asks of the operating system is answered here (libc.c; the linker puts our
 * functions before the C library's). A thread is a coroutine that gives way only where a thread would sleep; who goes on is
 * drawn from one seed, and so is everything else. Nothing here waits, and nothing outside is touched.
 */
#ifndef SP_TESTS_SIM_KERNEL_H
#define SP_TESTS_SIM_KERNEL_H

#include "gateway/proc/proc.h"

/* ---- chance ---- */

void sim_seed(uint64_t seed);
uint64_t sim_random(void);
/** 0 … n - 1; n ≥ 1. */
uint32_t sim_below(uint32_t n);
/** low … high, both included. */
uint32_t sim_between(uint32_t low, uint32_t high);
bool sim_chance(uint32_t per_mille);

/* ---- time, in microseconds ---- */

uint64_t sim_now_us(void);
void sim_advance(uint64_t us);
/** Of the wall clock, milliseconds since 1970. */
uint64_t sim_wall_ms(void);
/** Set the wall clock on or back. */
void sim_jump_wall(int64_t ms);

/** Something that the world around the gateway does later. Lives in its owner; zeroed = not set. */
struct sim_timer {
    uint64_t due_us; /**< 0: not set */
    void (*fire)(void *arg);
    void *arg;
    bool known; /* to the kernel */
};
void sim_timer_set(struct sim_timer *timer, uint64_t in_us);

/* ---- memory ---- */

enum sim_process { SIM_WORLD, SIM_GATE, SIM_STORE, SIM_PROCESSES };

/** Memory of the world, zeroed, whoever runs now; free() it, or leave it to sim_memory_clear(). Never NULL. */
void *sim_keep(size_t bytes);
void *sim_keep_more(void *ptr, size_t bytes);
/** Whatever a process has not freed. */
void sim_memory_clear(enum sim_process process);
size_t sim_memory_used(enum sim_process process);

/* ---- streams: both ends of a connection ---- */

struct sim_end;

/** A pair of connected ends; what each may have under way before send() takes no more: `cap` bytes. */
void sim_pair(size_t cap, struct sim_end **a, struct sim_end **b);

/** An end of the world's: `input` runs when bytes or the end of them have come; it reads with sim_end_read(). */
void sim_end_listen(struct sim_end *end, void (*input)(void *arg), void *arg);

/** What has come; borrowed. Drop what was used with sim_end_take(). */
struct sp_view sim_end_view(const struct sim_end *end);
void sim_end_take(struct sim_end *end, size_t bytes);
/** No more will come: the other end is closed, or the connection was cut. */
bool sim_end_over(const struct sim_end *end);
void sim_end_send(struct sim_end *end, struct sp_view bytes);
/** What was sent still arrives, then the end. */
void sim_end_close(struct sim_end *end);
/** Both ends find the connection reset; what was under way is gone. The caller's end stays to be closed. */
void sim_end_reset(struct sim_end *end);
/** Nothing arrives there for so long. */
void sim_end_stall(struct sim_end *end, uint64_t us);

/* ---- descriptors ---- */

#define SIM_FD_END 1256 /* all are below */

/** The end becomes a descriptor of that process. */
int sim_fd_of_end(enum sim_process process, struct sim_end *end);
/** A listening socket. sim_dial() queues connections there; NULL: it is not there any more. */
int sim_fd_listener(enum sim_process process);
struct sim_end *sim_dial(int listener, size_t cap);
/** A channel of orders from the parent. */
int sim_fd_control(enum sim_process process);
void sim_order(int control, const struct sp_control *order, int fd);

/* What libc.c offers to the gateway; errno and results as of the calls. */
int sim_sys_close(int fd);
int sim_sys_eventfd(unsigned count);
int sim_sys_eventfd_write(int fd, uint64_t value);
int sim_sys_eventfd_read(int fd, uint64_t *value);
int sim_sys_epoll_create(void);
struct epoll_event;
int sim_sys_epoll_ctl(int epoll, int op, int fd, const struct epoll_event *event);
int sim_sys_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout_ms);
int sim_sys_accept(int fd);
int sim_sys_socket(void);
int sim_sys_connect(int fd);
int sim_sys_socket_error(int fd);
long sim_sys_send(int fd, const void *bytes, size_t len);
long sim_sys_recv(int fd, void *bytes, size_t len);
int sim_sys_shutdown(int fd);
void sim_sys_sleep_until(uint64_t us);
uint64_t sim_sys_thread(void *(*run)(void *), void *arg);
void sim_sys_join(uint64_t thread);
enum sp_err sim_sys_control_receive(int control, struct sp_control *message, int *fd);

/** Whoever dials out gets this: the other end, or NULL for "connection refused". */
extern struct sim_end *(*sim_on_dial_out)(struct sim_end *other);

/* ---- processes ---- */

/** Begin `main(child)`. */
void sim_start(enum sim_process process, int (*main)(const struct sp_child *),
               const struct sp_child *child);
/** It is gone, between two instructions of its threads. Descriptors close, memory is free. */
void sim_kill(enum sim_process process);
bool sim_alive(enum sim_process process);
/** It has ended by itself; with what. */
bool sim_exited(enum sim_process process, int *status);
/** Who runs now. */
enum sim_process sim_current(void);

/**
 * The process that runs now dies here. It goes on to where it would sleep, but nothing that it does has an effect any more:
 * its calls ask sim_doomed().
 */
void sim_doom(void);
bool sim_doomed(void);
/** One has come to its end that way. */
bool sim_is_doomed(enum sim_process process);
/** It dies at its n-th send() from now; 0: not. */
void sim_doom_at_send(enum sim_process process, uint32_t n);

/* ---- the run ---- */

/** Everything back to nothing. */
void sim_reset(void);

/**
 * Do one thing of those that can be done now, or else pass the time to the next that is due.
 * @return false: nothing is due any more.
 */
bool sim_step(void);

extern bool sim_tracing;
/** A line of the trace; nothing unless it was asked for. */
void sim_trace(const char *who, const char *format, ...) __attribute__((format(printf, 2, 3)));

#endif
