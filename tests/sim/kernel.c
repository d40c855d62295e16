/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/sim/kernel.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <ucontext.h>

#define FD_BASE      1000 /* so that none is ever a real one */
#define FILES_MAX    (SIM_FD_END - FD_BASE)
#define FIBERS_MAX   16
#define TIMERS_MAX   64
#define PAIRS_MAX    128
#define WATCHED_MAX  96
#define STACK_SIZE   (512U << 10)
#define WALL_BASE_MS UINT64_C(1795000000000)
#define STEP_US      40U /* a step takes up to so long */

/* ---- chance ---- */

static uint64_t state;

void sim_seed(uint64_t seed)
{
    state = seed * 0x9E3779B97F4A7C15U + 1;
}

/* splitmix64 */
uint64_t sim_random(void)
{
    state += 0x9E3779B97F4A7C15U;
    uint64_t z = state;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9U;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBU;
    return z ^ (z >> 31);
}

uint32_t sim_below(uint32_t n)
{
    return (uint32_t)((sim_random() >> 32) % n);
}

uint32_t sim_between(uint32_t low, uint32_t high)
{
    return low + sim_below(high - low + 1);
}

bool sim_chance(uint32_t per_mille)
{
    return sim_below(1000) < per_mille;
}

/* ---- what there is ---- */

struct bytes {
    uint8_t *ptr;
    size_t from;
    size_t to;
    size_t cap;
};

struct sim_end {
    struct sim_end *other; /* in the same pair, and as long there */
    struct bytes wire;     /* sent by the other end, under way */
    struct bytes in;       /* has come */
    bool last;             /* the other end has sent its last */
    bool over;             /* and that has come too */
    bool reset;
    bool closed;
    uint64_t stalled_until;
    size_t cap;
    void (*input)(void *arg);
    void *arg;
};

struct pair {
    struct sim_end ends[2]; /* first: an end that is number 0 is the pair */
};

enum kind { FREE, EVENTS, EPOLL, STREAM, DIALING, LISTENER, CONTROL };

struct watched {
    int fd;
    uint32_t events;
    epoll_data_t data;
};

struct order {
    struct sp_control message;
    int fd;
};

struct file {
    enum kind kind;
    enum sim_process process;
    uint64_t count;              /* EVENTS */
    struct sim_end *end;         /* STREAM */
    uint64_t connected_us;       /* DIALING: when it is decided; 0: not asked yet */
    bool refused;                /* DIALING */
    struct sim_end *backlog[16]; /* LISTENER */
    struct order orders[32];     /* CONTROL */
    struct watched *watched;     /* EPOLL */
    size_t waiting;              /* in backlog, orders, watched */
};

enum fiber_state { NONE, READY, POLLS, SLEEPS, JOINS, DONE };

struct fiber {
    enum fiber_state state;
    enum sim_process process;
    ucontext_t context;
    void *stack;
    uint64_t until; /* UINT64_MAX: for ever */
    int epoll;
    int joins;
    void *(*run)(void *);
    void *arg;
    int (*main)(const struct sp_child *); /* of a first thread */
    int status;
};

struct process {
    bool alive;
    bool exited;
    bool doomed;
    int status;
    uint32_t doom_at_send;
};

static struct file files[FILES_MAX];
static struct fiber fibers[FIBERS_MAX];
static struct process processes[SIM_PROCESSES];
static struct pair *pairs[PAIRS_MAX];
static size_t pair_count;
static struct sim_timer *timers[TIMERS_MAX];
static size_t timer_count;
static ucontext_t scheduler;
static struct fiber *running;
static uint64_t now_us;
static int64_t wall_jump_ms;
static void *spare_stacks[FIBERS_MAX];
static size_t spare_count;

struct sim_end *(*sim_on_dial_out)(struct sim_end *other);
bool sim_tracing;

_Noreturn static void out_of(const char *what)
{
    fprintf(stderr, "sim: too many %s\n", what);
    abort();
}

/* ---- time ---- */

uint64_t sim_now_us(void)
{
    return now_us;
}

void sim_advance(uint64_t us)
{
    now_us += us;
}

uint64_t sim_wall_ms(void)
{
    return (uint64_t)((int64_t)(WALL_BASE_MS + now_us / 1000U) + wall_jump_ms);
}

void sim_jump_wall(int64_t ms)
{
    wall_jump_ms += ms;
}

void sim_timer_set(struct sim_timer *timer, uint64_t in_us)
{
    timer->due_us = now_us + in_us + 1;
    if (!timer->known) {
        if (timer_count == TIMERS_MAX) {
            out_of("timers");
        }
        timer->known = true;
        timers[timer_count++] = timer;
    }
}

void sim_trace(const char *who, const char *format, ...)
{
    if (!sim_tracing) {
        return;
    }
    va_list args;
    va_start(args, format);
    printf("%11.6f %-8s ", (double)now_us / 1e6, who);
    vprintf(format, args);
    printf("\n");
    va_end(args);
}

/* ---- bytes ---- */

static size_t bytes_len(const struct bytes *b)
{
    return b->to - b->from;
}

static void bytes_add(struct bytes *b, const void *from, size_t len)
{
    if (b->cap - b->to < len) {
        size_t used = bytes_len(b);
        if (b->from > 0) {
            memmove(b->ptr, b->ptr + b->from, used);
        }
        b->from = 0;
        b->to = used;
        if (b->cap - used < len) {
            b->cap = (used + len) * 2;
            b->ptr = sim_keep_more(b->ptr, b->cap);
        }
    }
    sp_copy(b->ptr + b->to, from, len);
    b->to += len;
}

static void bytes_drop(struct bytes *b, size_t len)
{
    b->from += len;
    if (b->from == b->to) {
        b->from = 0;
        b->to = 0;
    }
}

/* ---- streams ---- */

void sim_pair(size_t cap, struct sim_end **a, struct sim_end **b)
{
    struct pair *pair = sim_keep(sizeof(*pair));
    if (pair_count == PAIRS_MAX) {
        out_of("connections");
    }
    pairs[pair_count++] = pair;
    for (int i = 0; i < 2; i++) {
        pair->ends[i].other = &pair->ends[1 - i];
        pair->ends[i].cap = cap;
    }
    *a = &pair->ends[0];
    *b = &pair->ends[1];
}

static void free_pair(struct pair *pair)
{
    for (size_t i = 0; i < pair_count; i++) {
        if (pairs[i] == pair) {
            pairs[i] = pairs[--pair_count];
            break;
        }
    }
    for (int i = 0; i < 2; i++) {
        free(pair->ends[i].wire.ptr);
        free(pair->ends[i].in.ptr);
    }
    free(pair);
}

void sim_end_listen(struct sim_end *end, void (*input)(void *arg), void *arg)
{
    end->input = input;
    end->arg = arg;
}

struct sp_view sim_end_view(const struct sim_end *end)
{
    return sp_view(end->in.ptr + end->in.from, bytes_len(&end->in));
}

void sim_end_take(struct sim_end *end, size_t bytes)
{
    bytes_drop(&end->in, bytes);
}

bool sim_end_over(const struct sim_end *end)
{
    return end->over || end->reset;
}

static size_t room(const struct sim_end *end)
{
    size_t used = bytes_len(&end->other->wire) + bytes_len(&end->other->in);
    return used < end->cap ? end->cap - used : 0;
}

void sim_end_send(struct sim_end *end, struct sp_view bytes)
{
    if (!end->other->closed && !end->reset) {
        bytes_add(&end->other->wire, bytes.ptr, bytes.len);
    }
}

void sim_end_close(struct sim_end *end)
{
    end->closed = true;
    end->input = NULL;
    end->other->last = true;
    if (end->other->closed) {
        free_pair((struct pair *)(end->other < end ? end->other : end));
    }
}

void sim_end_reset(struct sim_end *end)
{
    struct sim_end *both[] = {end, end->other};
    for (int i = 0; i < 2; i++) {
        both[i]->reset = true;
        both[i]->wire.from = both[i]->wire.to = 0;
        both[i]->in.from = both[i]->in.to = 0;
    }
}

void sim_end_stall(struct sim_end *end, uint64_t us)
{
    end->stalled_until = now_us + us;
}

/* Something can arrive, now or, if it is stalled, later. */
static bool has_wire(const struct sim_end *end)
{
    return !end->closed && !end->reset && (bytes_len(&end->wire) > 0 || (end->last && !end->over));
}

static void deliver(struct sim_end *end)
{
    size_t len = bytes_len(&end->wire);
    if (len == 0) {
        end->over = true;
    } else {
        uint32_t how = sim_below(20);
        size_t some = how == 0 ? 1 : how < 7 ? 1 + sim_below((uint32_t)len) : len;
        bytes_add(&end->in, end->wire.ptr + end->wire.from, some);
        bytes_drop(&end->wire, some);
    }
    if (end->input != NULL) {
        end->input(end->arg);
    }
}

/* ---- descriptors ---- */

static struct file *file_of(int fd)
{
    if (fd < FD_BASE || fd >= FD_BASE + FILES_MAX || files[fd - FD_BASE].kind == FREE) {
        return NULL;
    }
    return &files[fd - FD_BASE];
}

/* One that has to be there: the gateway uses none after it was closed. */
static struct file *the_file(int fd)
{
    struct file *f = file_of(fd);
    if (f == NULL) {
        fprintf(stderr, "sim: %d is no descriptor\n", fd);
        abort();
    }
    return f;
}

static int new_file(enum sim_process process, enum kind kind)
{
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].kind == FREE) {
            files[i] = (struct file){.kind = kind, .process = process};
            return FD_BASE + i;
        }
    }
    out_of("descriptors");
}

int sim_fd_of_end(enum sim_process process, struct sim_end *end)
{
    int fd = new_file(process, STREAM);
    the_file(fd)->end = end;
    return fd;
}

int sim_fd_listener(enum sim_process process)
{
    return new_file(process, LISTENER);
}

int sim_fd_control(enum sim_process process)
{
    return new_file(process, CONTROL);
}

struct sim_end *sim_dial(int listener, size_t cap)
{
    struct file *f = file_of(listener);
    if (f == NULL || f->kind != LISTENER || f->waiting == 16) {
        return NULL;
    }
    struct sim_end *ours;
    sim_pair(cap, &ours, &f->backlog[f->waiting++]);
    return ours;
}

void sim_order(int control, const struct sp_control *order, int fd)
{
    struct file *f = the_file(control);
    if (f->waiting == sizeof(f->orders) / sizeof(f->orders[0])) {
        out_of("orders");
    }
    f->orders[f->waiting++] = (struct order){*order, fd};
}

enum sp_err sim_sys_control_receive(int control, struct sp_control *message, int *fd)
{
    struct file *f = the_file(control);
    if (sim_doomed() || f->waiting == 0) {
        return SP_ERR_AGAIN;
    }
    *message = f->orders[0].message;
    *fd = f->orders[0].fd;
    memmove(f->orders, f->orders + 1, --f->waiting * sizeof(f->orders[0]));
    return SP_OK;
}

static void unwatch(struct file *epoll, int fd)
{
    for (size_t i = 0; i < epoll->waiting; i++) {
        if (epoll->watched[i].fd == fd) {
            epoll->watched[i] = epoll->watched[--epoll->waiting];
            return;
        }
    }
}

static void close_file(int fd)
{
    struct file *f = the_file(fd);
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].kind == EPOLL) {
            unwatch(&files[i], fd);
        }
    }
    if (f->kind == STREAM) {
        sim_end_close(f->end);
    }
    for (size_t i = 0; f->kind == LISTENER && i < f->waiting; i++) {
        sim_end_reset(f->backlog[i]);
        sim_end_close(f->backlog[i]);
    }
    free(f->watched);
    *f = (struct file){.kind = FREE};
}

int sim_sys_close(int fd)
{
    if (file_of(fd) == NULL) {
        errno = EBADF;
        return -1;
    }
    if (!sim_doomed()) {
        close_file(fd);
    }
    return 0;
}

int sim_sys_eventfd(unsigned count)
{
    int fd = new_file(sim_current(), EVENTS);
    the_file(fd)->count = count;
    return fd;
}

int sim_sys_eventfd_write(int fd, uint64_t value)
{
    the_file(fd)->count += value;
    return 0;
}

int sim_sys_eventfd_read(int fd, uint64_t *value)
{
    struct file *f = the_file(fd);
    if (f->count == 0) {
        errno = EAGAIN;
        return -1;
    }
    *value = f->count;
    f->count = 0;
    return 0;
}

static uint32_t stream_events(const struct sim_end *end)
{
    uint32_t events = end->reset ? EPOLLERR | EPOLLHUP | EPOLLIN | EPOLLOUT : 0U;
    events |= bytes_len(&end->in) > 0 || end->over ? EPOLLIN : 0U;
    events |= room(end) > 0 || end->other->closed ? EPOLLOUT : 0U;
    return events | (end->over && end->other->closed ? EPOLLHUP : 0U);
}

static uint32_t file_events(const struct file *f)
{
    switch (f->kind) {
    case EVENTS:
        return f->count > 0 ? EPOLLIN : 0U;
    case STREAM:
        return stream_events(f->end);
    case DIALING:
        if (f->connected_us == 0 || now_us < f->connected_us) {
            return 0;
        }
        return f->refused ? EPOLLOUT | EPOLLERR | EPOLLHUP : EPOLLOUT;
    case LISTENER:
    case CONTROL:
        return f->waiting > 0 ? EPOLLIN : 0U;
    case FREE:
    case EPOLL:
        break;
    }
    return 0;
}

int sim_sys_epoll_create(void)
{
    int fd = new_file(sim_current(), EPOLL);
    the_file(fd)->watched = sim_keep(WATCHED_MAX * sizeof(struct watched));
    return fd;
}

int sim_sys_epoll_ctl(int epoll, int op, int fd, const struct epoll_event *event)
{
    struct file *f = the_file(epoll);
    if (sim_doomed()) {
        return 0;
    }
    if (op == EPOLL_CTL_DEL) {
        unwatch(f, fd);
        return 0;
    }
    size_t at = 0;
    while (at < f->waiting && f->watched[at].fd != fd) {
        at++;
    }
    if (file_of(fd) == NULL || (op == EPOLL_CTL_ADD) != (at == f->waiting)) {
        errno = op == EPOLL_CTL_ADD ? EEXIST : ENOENT;
        return -1;
    }
    if (at == WATCHED_MAX) {
        out_of("watched descriptors");
    }
    f->waiting += at == f->waiting;
    f->watched[at] = (struct watched){fd, event->events, event->data};
    return 0;
}

static uint32_t ready_events(const struct watched *w)
{
    return file_events(the_file(w->fd)) & (w->events | EPOLLERR | EPOLLHUP);
}

static bool any_ready(int epoll)
{
    const struct file *f = the_file(epoll);
    for (size_t i = 0; i < f->waiting; i++) {
        if (ready_events(&f->watched[i]) != 0) {
            return true;
        }
    }
    return false;
}

int sim_sys_accept(int fd)
{
    struct file *f = the_file(fd);
    if (f->waiting == 0) {
        errno = EAGAIN;
        return -1;
    }
    struct sim_end *end = f->backlog[0];
    memmove(f->backlog, f->backlog + 1, --f->waiting * sizeof(f->backlog[0]));
    return sim_fd_of_end(f->process, end);
}

int sim_sys_socket(void)
{
    return new_file(sim_current(), DIALING);
}

/* The result is there a little later. */
int sim_sys_connect(int fd)
{
    struct file *f = the_file(fd);
    errno = EINPROGRESS;
    f->connected_us = now_us + 1 + sim_below(20000);
    return -1;
}

int sim_sys_socket_error(int fd)
{
    struct file *f = the_file(fd);
    if (f->kind != DIALING) {
        return 0;
    }
    struct sim_end *theirs = NULL;
    struct sim_end *ours = NULL;
    sim_pair(64U << 10, &ours, &theirs);
    f->refused = sim_on_dial_out(theirs) == NULL;
    f->kind = STREAM;
    f->end = ours;
    if (f->refused) {
        sim_end_close(theirs);
    }
    return f->refused ? ECONNREFUSED : 0;
}

/* A process may die with half of its last words said. */
static bool dies_sending(size_t *len)
{
    struct process *p = &processes[sim_current()];
    if (p->doom_at_send == 0 || --p->doom_at_send > 0) {
        return false;
    }
    *len = *len == 0 ? 0 : sim_below((uint32_t)*len + 1);
    return true;
}

long sim_sys_send(int fd, const void *bytes, size_t len)
{
    struct file *f = the_file(fd);
    if (sim_doomed()) {
        return (long)len;
    }
    if (f->end->reset || f->end->other->closed || f->end->other->last) {
        errno = f->end->reset ? ECONNRESET : EPIPE;
        return -1;
    }
    size_t fits = room(f->end);
    if (fits == 0) {
        errno = EAGAIN;
        return -1;
    }
    fits = fits < len ? fits : len;
    bool dies = dies_sending(&fits);
    bytes_add(&f->end->other->wire, bytes, fits);
    if (dies) {
        sim_trace("world", "death at a send");
        sim_doom();
        return (long)len;
    }
    return (long)fits;
}

long sim_sys_recv(int fd, void *bytes, size_t len)
{
    struct file *f = the_file(fd);
    if (sim_doomed()) {
        errno = EAGAIN;
        return -1;
    }
    if (f->end->reset) {
        errno = ECONNRESET;
        return -1;
    }
    struct sp_view there = sp_view_first(sim_end_view(f->end), len);
    if (there.len == 0) {
        errno = EAGAIN;
        return f->end->over ? 0 : -1;
    }
    sp_copy(bytes, there.ptr, there.len);
    sim_end_take(f->end, there.len);
    return (long)there.len;
}

/* All that is asked for ends what is sent. */
int sim_sys_shutdown(int fd)
{
    struct file *f = the_file(fd);
    if (f->kind == STREAM && !sim_doomed()) {
        f->end->other->last = true;
    }
    return 0;
}

/* ---- threads ---- */

enum sim_process sim_current(void)
{
    return running == NULL ? SIM_WORLD : running->process;
}

bool sim_is_doomed(enum sim_process process)
{
    return processes[process].doomed;
}

bool sim_doomed(void)
{
    return processes[sim_current()].doomed;
}

void sim_doom(void)
{
    processes[sim_current()].doomed = true;
}

void sim_doom_at_send(enum sim_process process, uint32_t n)
{
    processes[process].doom_at_send = n;
}

bool sim_alive(enum sim_process process)
{
    return processes[process].alive;
}

bool sim_exited(enum sim_process process, int *status)
{
    *status = processes[process].status;
    return processes[process].exited;
}

static void give_way(void)
{
    struct fiber *self = running;
    running = NULL;
    (void)swapcontext(&self->context, &scheduler);
}

static void fiber_main(void)
{
    struct fiber *self = running;
    if (self->main != NULL) {
        self->status = self->main(self->arg);
    } else {
        (void)self->run(self->arg);
    }
    self->state = DONE;
    give_way();
}

static struct fiber *new_fiber(enum sim_process process, void *arg)
{
    struct fiber *f = fibers;
    while (f < fibers + FIBERS_MAX && f->state != NONE) {
        f++;
    }
    if (f == fibers + FIBERS_MAX) {
        out_of("threads");
    }
    *f = (struct fiber){.state = READY, .process = process, .arg = arg, .until = UINT64_MAX};
    f->stack = spare_count > 0 ? spare_stacks[--spare_count]
                               : mmap(NULL, STACK_SIZE, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (f->stack == MAP_FAILED) {
        out_of("stacks");
    }
    (void)getcontext(&f->context);
    f->context.uc_stack.ss_sp = f->stack;
    f->context.uc_stack.ss_size = STACK_SIZE;
    makecontext(&f->context, fiber_main, 0);
    return f;
}

static void free_fiber(struct fiber *f)
{
    spare_stacks[spare_count++] = f->stack;
    f->state = NONE;
}

void sim_start(enum sim_process process, int (*main)(const struct sp_child *),
               const struct sp_child *child)
{
    processes[process] = (struct process){.alive = true};
    union {
        const struct sp_child *given;
        void *taken;
    } arg = {child};
    new_fiber(process, arg.taken)->main = main;
}

void sim_kill(enum sim_process process)
{
    processes[process].alive = false;
    processes[process].doomed = false;
    processes[process].doom_at_send = 0;
    for (int i = 0; i < FIBERS_MAX; i++) {
        if (fibers[i].state != NONE && fibers[i].process == process) {
            free_fiber(&fibers[i]);
        }
    }
    for (int i = 0; i < FILES_MAX; i++) {
        if (files[i].kind != FREE && files[i].process == process) {
            close_file(FD_BASE + i);
        }
    }
    sim_memory_clear(process);
}

uint64_t sim_sys_thread(void *(*run)(void *), void *arg)
{
    struct fiber *f = new_fiber(sim_current(), arg);
    f->run = run;
    return (uint64_t)(f - fibers);
}

void sim_sys_join(uint64_t thread)
{
    running->state = JOINS;
    running->until = UINT64_MAX;
    running->joins = (int)thread;
    give_way();
    free_fiber(&fibers[thread]);
}

void sim_sys_sleep_until(uint64_t us)
{
    running->state = SLEEPS;
    running->until = us;
    give_way();
}

int sim_sys_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout_ms)
{
    running->state = POLLS;
    running->epoll = epoll;
    running->until = timeout_ms < 0 ? UINT64_MAX : now_us + (uint64_t)timeout_ms * 1000U;
    give_way();
    const struct file *f = the_file(epoll);
    size_t start = f->waiting == 0 ? 0 : sim_below((uint32_t)f->waiting);
    int count = 0;
    for (size_t i = 0; i < f->waiting && count < max; i++) {
        const struct watched *w = &f->watched[(start + i) % f->waiting];
        uint32_t ready = ready_events(w);
        if (ready != 0) {
            events[count++] = (struct epoll_event){.events = ready, .data = w->data};
        }
    }
    return count;
}

static bool can_run(const struct fiber *f)
{
    switch (f->state) {
    case READY:
        return true;
    case POLLS:
        return now_us >= f->until || any_ready(f->epoll);
    case SLEEPS:
        return now_us >= f->until;
    case JOINS:
        return fibers[f->joins].state == DONE;
    case NONE:
    case DONE:
        break;
    }
    return false;
}

static void run_fiber(struct fiber *f)
{
    struct process *p = &processes[f->process];
    running = f;
    (void)swapcontext(&scheduler, &f->context);
    running = NULL;
    if (f->state == DONE && f->main != NULL && !p->doomed) {
        p->exited = true;
        p->status = f->status;
    }
}

/* ---- the run ---- */

void sim_reset(void)
{
    for (enum sim_process p = SIM_GATE; p < SIM_PROCESSES; p++) {
        sim_kill(p);
        processes[p] = (struct process){.alive = false};
    }
    sim_memory_clear(SIM_WORLD);
    memset(files, 0, sizeof(files));
    pair_count = 0;
    timer_count = 0;
    now_us = 1000000;
    wall_jump_ms = 0;
}

/* One thing that can be done now. */
struct choice {
    struct fiber *fiber;
    struct sim_end *end;
    struct sim_timer *timer;
};

struct choices {
    struct choice list[FIBERS_MAX + TIMERS_MAX + 2 * PAIRS_MAX];
    uint32_t count;
    uint64_t next; /* when there may be more */
};

static void may_do(struct choices *c, bool now, uint64_t when, struct choice choice)
{
    if (now) {
        c->list[c->count++] = choice;
    } else if (when < c->next) {
        c->next = when;
    }
}

static uint64_t dial_due(const struct fiber *f)
{
    uint64_t due = f->until;
    const struct file *epoll = f->state == POLLS ? the_file(f->epoll) : NULL;
    for (size_t i = 0; epoll != NULL && i < epoll->waiting; i++) {
        const struct file *watched = the_file(epoll->watched[i].fd);
        bool dials = watched->kind == DIALING && watched->connected_us > now_us;
        due = dials && watched->connected_us < due ? watched->connected_us : due;
    }
    return due;
}

static void look_around(struct choices *c)
{
    for (int i = 0; i < FIBERS_MAX; i++) {
        struct fiber *f = &fibers[i];
        if (f->state != NONE && f->state != DONE) {
            may_do(c, can_run(f), dial_due(f), (struct choice){.fiber = f});
        }
    }
    for (size_t i = 0; i < 2 * pair_count; i++) {
        struct sim_end *end = &pairs[i / 2]->ends[i % 2];
        if (has_wire(end)) {
            may_do(c, now_us >= end->stalled_until, end->stalled_until,
                   (struct choice){.end = end});
        } else if (end->reset && end->input != NULL) {
            may_do(c, true, 0, (struct choice){.end = end});
        }
    }
    for (size_t i = 0; i < timer_count; i++) {
        if (timers[i]->due_us > 0) {
            may_do(c, now_us >= timers[i]->due_us, timers[i]->due_us,
                   (struct choice){.timer = timers[i]});
        }
    }
}

bool sim_step(void)
{
    static struct choices c;
    c.count = 0;
    c.next = UINT64_MAX;
    look_around(&c);
    if (c.count == 0) {
        bool more = c.next != UINT64_MAX;
        now_us = more ? c.next : now_us;
        return more;
    }
    struct choice chosen = c.list[sim_below(c.count)];
    now_us += sim_below(STEP_US);
    if (chosen.fiber != NULL) {
        run_fiber(chosen.fiber);
    } else if (chosen.timer != NULL) {
        chosen.timer->due_us = 0;
        chosen.timer->fire(chosen.timer->arg);
    } else if (chosen.end->reset) {
        chosen.end->input(chosen.end->arg);
    } else {
        deliver(chosen.end);
    }
    return true;
}
