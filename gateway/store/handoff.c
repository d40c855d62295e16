/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/handoff.h"

#include <pthread.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

struct side {
    int fd;
    bool woken; /* the eventfd is readable, or will be at once: no need to write again */
};

struct link_lists {
    struct sp_row_list rows;
    size_t unreleased;
    bool up;
};

/* A command that gate is done with. */
struct taken {
    uint64_t tag;
    uint8_t reason;
};

struct sp_handoff {
    pthread_mutex_t lock; /* over everything below */
    struct side journal;
    struct side cloud;
    struct sp_row_list ended;
    struct sp_command *commands;
    struct sp_command **last_command;
    size_t
        command_count; /* given and not taken by gate yet, those with QoS 0 until they are fetched */
    struct taken taken[SP_HANDOFF_COMMANDS_MAX];
    size_t taken_count;
    struct sp_config *config; /* new, for the cloud thread; NULL: none */
    bool stop;
    uint32_t stop_wait_ms;
    uint32_t links;
    struct link_lists link[];
};

enum sp_err sp_handoff_create(uint32_t links, struct sp_handoff **out)
{
    *out = NULL;
    struct sp_handoff *h = calloc(1, sizeof(*h) + links * sizeof(h->link[0]));
    if (h == NULL) {
        return SP_ERR_NOMEM;
    }
    h->links = links;
    h->last_command = &h->commands;
    h->journal.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    h->cloud.fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (h->journal.fd < 0 || h->cloud.fd < 0 || pthread_mutex_init(&h->lock, NULL) != 0) {
        free(h);
        return SP_ERR_IO;
    }
    *out = h;
    return SP_OK;
}

static void free_commands(struct sp_command *command)
{
    while (command != NULL) {
        struct sp_command *next = command->next;
        free(command);
        command = next;
    }
}

void sp_handoff_destroy(struct sp_handoff *h)
{
    if (h == NULL) {
        return;
    }
    for (uint32_t i = 0; i < h->links; i++) {
        sp_row_list_clear(&h->link[i].rows);
    }
    sp_row_list_clear(&h->ended);
    free_commands(h->commands);
    sp_config_destroy(h->config);
    (void)close(h->journal.fd);
    (void)close(h->cloud.fd);
    (void)pthread_mutex_destroy(&h->lock);
    free(h);
}

static void lock(struct sp_handoff *h)
{
    (void)pthread_mutex_lock(&h->lock);
}

static void unlock(struct sp_handoff *h)
{
    (void)pthread_mutex_unlock(&h->lock);
}

/* Unlock, and wake the side if it is not awake. In this order: who wakes up wants the lock. */
static void unlock_and_wake(struct sp_handoff *h, struct side *side)
{
    bool asleep = !side->woken;
    side->woken = true;
    unlock(h);
    if (asleep) {
        (void)eventfd_write(side->fd, 1);
    }
}

static void unwake(struct side *side)
{
    uint64_t count;
    if (side->woken && read(side->fd, &count, sizeof(count)) == (ssize_t)sizeof(count)) {
        side->woken = false;
    }
}

int sp_handoff_journal_fd(const struct sp_handoff *h)
{
    return h->journal.fd;
}

void sp_handoff_give(struct sp_handoff *h, uint32_t link, struct sp_row_list *rows)
{
    if (rows->head == NULL) {
        return;
    }
    lock(h);
    sp_row_list_append(&h->link[link].rows, rows);
    unlock_and_wake(h, &h->cloud);
}

bool sp_handoff_is_up(struct sp_handoff *h, uint32_t link)
{
    lock(h);
    bool up = h->link[link].up;
    unlock(h);
    return up;
}

void sp_handoff_take_ended(struct sp_handoff *h, struct sp_row_list *ended,
                           struct sp_command **commands)
{
    lock(h);
    unwake(&h->journal);
    sp_row_list_append(ended, &h->ended);
    *commands = h->commands;
    h->commands = NULL;
    h->last_command = &h->commands;
    for (const struct sp_command *c = *commands; c != NULL; c = c->next) {
        h->command_count -= c->qos == 0;
    }
    unlock(h);
}

void sp_handoff_released(struct sp_handoff *h, const struct sp_row_list *ended)
{
    lock(h);
    for (const struct sp_row *row = ended->head; row != NULL; row = row->next) {
        if (row->seq > 0) {
            h->link[row->stream % h->links].unreleased--;
        }
    }
    unlock_and_wake(h, &h->cloud);
}

void sp_handoff_command_taken(struct sp_handoff *h, uint64_t tag, uint8_t reason)
{
    lock(h);
    if (h->taken_count < SP_HANDOFF_COMMANDS_MAX) {
        h->taken[h->taken_count++] = (struct taken){tag, reason};
    }
    h->command_count--;
    unlock_and_wake(h, &h->cloud);
}

void sp_handoff_configure(struct sp_handoff *h, struct sp_config *config)
{
    lock(h);
    struct sp_config *passed_over = h->config;
    h->config = config;
    unlock_and_wake(h, &h->cloud);
    sp_config_destroy(passed_over);
}

void sp_handoff_stop(struct sp_handoff *h, uint32_t wait_ms)
{
    lock(h);
    h->stop = true;
    h->stop_wait_ms = wait_ms;
    unlock_and_wake(h, &h->cloud);
}

int sp_handoff_cloud_fd(const struct sp_handoff *h)
{
    return h->cloud.fd;
}

void sp_handoff_clear_cloud_fd(struct sp_handoff *h)
{
    lock(h);
    unwake(&h->cloud);
    unlock(h);
}

bool sp_handoff_stopping(struct sp_handoff *h, uint32_t *wait_ms)
{
    lock(h);
    bool stop = h->stop;
    *wait_ms = stop ? h->stop_wait_ms : *wait_ms;
    unlock(h);
    return stop;
}

struct sp_config *sp_handoff_take_config(struct sp_handoff *h)
{
    lock(h);
    struct sp_config *config = h->config;
    h->config = NULL;
    unlock(h);
    return config;
}

void sp_handoff_take(struct sp_handoff *h, uint32_t link, struct sp_row_list *rows)
{
    lock(h);
    sp_row_list_append(rows, &h->link[link].rows);
    unlock(h);
}

void sp_handoff_end(struct sp_handoff *h, struct sp_row_list *ended)
{
    if (ended->head == NULL) {
        return;
    }
    lock(h);
    for (const struct sp_row *row = ended->head; row != NULL; row = row->next) {
        if (row->seq > 0) {
            h->link[row->stream % h->links].unreleased++;
        }
    }
    sp_row_list_append(&h->ended, ended);
    if (h->ended.count >= SP_HANDOFF_ENDED_ROWS || h->ended.bytes >= SP_HANDOFF_ENDED_BYTES) {
        unlock_and_wake(h, &h->journal);
    } else {
        unlock(h);
    }
}

void sp_handoff_set_up(struct sp_handoff *h, uint32_t link, bool up)
{
    lock(h);
    h->link[link].up = up;
    unlock(h);
}

size_t sp_handoff_unreleased(struct sp_handoff *h, uint32_t link)
{
    lock(h);
    size_t count = h->link[link].unreleased;
    unlock(h);
    return count;
}

static struct sp_command *copy_command(const struct sp_command *from)
{
    struct sp_command *c = malloc(sizeof(*c) + from->topic.len + from->payload.len);
    if (c != NULL) {
        *c = (struct sp_command){.tag = from->tag, .qos = from->qos, .retain = from->retain};
        sp_copy(c->data, from->topic.ptr, from->topic.len);
        sp_copy(c->data + from->topic.len, from->payload.ptr, from->payload.len);
        c->topic = sp_view(c->data, from->topic.len);
        c->payload = sp_view(c->data + from->topic.len, from->payload.len);
    }
    return c;
}

enum sp_err sp_handoff_command(struct sp_handoff *h, const struct sp_command *command)
{
    struct sp_command *copy = copy_command(command);
    if (copy == NULL) {
        return SP_ERR_NOMEM;
    }
    lock(h);
    bool room = h->command_count < SP_HANDOFF_COMMANDS_MAX;
    if (room) {
        *h->last_command = copy;
        h->last_command = &copy->next;
        h->command_count++;
        unlock_and_wake(h, &h->journal);
        return SP_OK;
    }
    unlock(h);
    free(copy);
    return SP_ERR_LIMIT;
}

bool sp_handoff_next_taken(struct sp_handoff *h, uint64_t *tag, uint8_t *reason)
{
    lock(h);
    bool any = h->taken_count > 0;
    if (any) {
        *tag = h->taken[0].tag;
        *reason = h->taken[0].reason;
        h->taken_count--;
        for (size_t i = 0; i < h->taken_count; i++) {
            h->taken[i] = h->taken[i + 1];
        }
    }
    unlock(h);
    return any;
}
