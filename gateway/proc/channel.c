/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Two buffers, each a window [from, to) into malloc'ed memory. Pre-shared keys pass through here, so bytes that
 * are done with are wiped, not only forgotten (by explicit_bzero(), fast enough for whole batches).
 */
#include "gateway/proc/channel.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define READ_MAX (256U << 10)
#define KEEP_MAX (1U << 20)  /* an empty buffer larger than this is given back at once … */
#define KEEP_MIN (16U << 10) /* … and one larger than this by sp_channel_trim() */

struct buffer {
    uint8_t *ptr;
    size_t from; /* first byte in use */
    size_t to;   /* behind the last byte in use */
    size_t cap;
};

struct sp_channel {
    int fd;
    bool failed;
    struct buffer in;
    struct buffer out;
};

static void buffer_free(struct buffer *b)
{
    if (b->ptr != NULL) {
        explicit_bzero(b->ptr, b->cap);
    }
    free(b->ptr);
    *b = (struct buffer){0};
}

/* Room for `len` bytes behind `to`; what is in use may move. */
static bool buffer_reserve(struct buffer *b, size_t len)
{
    size_t used = b->to - b->from;
    if (b->ptr != NULL && b->cap - b->to >= len) {
        return true;
    }
    size_t want = b->cap < 4096U ? 4096U : b->cap;
    while (want - used < len) {
        want *= 2U;
    }
    if (want == b->cap) {
        memmove(b->ptr, b->ptr + b->from, used);
        explicit_bzero(b->ptr + used, b->to - used);
        b->from = 0;
        b->to = used;
        return true;
    }
    uint8_t *ptr = malloc(want);
    if (ptr == NULL) {
        return false;
    }
    struct buffer larger = {.ptr = ptr, .to = used, .cap = want};
    sp_copy(ptr, used > 0 ? b->ptr + b->from : NULL, used);
    buffer_free(b);
    *b = larger;
    return true;
}

static void buffer_append(struct buffer *b, const void *bytes, size_t len)
{
    sp_copy(b->ptr + b->to, bytes, len);
    b->to += len;
}

static void buffer_consume(struct buffer *b, size_t len)
{
    explicit_bzero(b->ptr + b->from, len);
    b->from += len;
    if (b->from == b->to) {
        b->from = 0;
        b->to = 0;
        if (b->cap > KEEP_MAX) {
            buffer_free(b);
        }
    }
}

static void buffer_trim(struct buffer *b)
{
    if (b->from == b->to && b->cap > KEEP_MIN) {
        buffer_free(b);
    }
}

enum sp_err sp_channel_create(int fd, struct sp_channel **out)
{
    *out = NULL;
    struct sp_channel *c = calloc(1, sizeof(*c));
    if (c == NULL) {
        return SP_ERR_NOMEM;
    }
    c->fd = fd;
    (void)fcntl(fd, F_SETFL, O_NONBLOCK);
    (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
    *out = c;
    return SP_OK;
}

void sp_channel_destroy(struct sp_channel *c)
{
    if (c == NULL) {
        return;
    }
    close(c->fd);
    buffer_free(&c->in);
    buffer_free(&c->out);
    free(c);
}

int sp_channel_fd(const struct sp_channel *c)
{
    return c->fd;
}

/* The other end is told at once, whenever the owner gets round to sp_channel_destroy(). */
static enum sp_err fail(struct sp_channel *c, enum sp_err err)
{
    c->failed = true;
    (void)shutdown(c->fd, SHUT_RDWR);
    buffer_free(&c->out);
    return err;
}

enum sp_err sp_channel_send(struct sp_channel *c, uint16_t type, uint64_t tag,
                            const struct sp_view *parts, size_t count)
{
    if (c->failed) {
        return SP_ERR_CLOSED;
    }
    size_t length = 0;
    for (size_t i = 0; i < count; i++) {
        if (parts[i].len > SP_CHANNEL_FRAME_MAX - length) {
            return SP_ERR_LIMIT;
        }
        length += parts[i].len;
    }
    struct sp_frame frame = {.length = (uint32_t)length, .type = type, .tag = tag};
    if (sp_channel_pending(c) + sizeof(frame) + length > SP_CHANNEL_BACKLOG_MAX ||
        !buffer_reserve(&c->out, sizeof(frame) + length)) {
        return SP_ERR_LIMIT;
    }
    buffer_append(&c->out, &frame, sizeof(frame));
    for (size_t i = 0; i < count; i++) {
        buffer_append(&c->out, parts[i].ptr, parts[i].len);
    }
    return SP_OK;
}

enum sp_err sp_channel_flush(struct sp_channel *c)
{
    if (c->failed) {
        return SP_ERR_CLOSED;
    }
    while (c->out.to > c->out.from) {
        ssize_t n = send(c->fd, c->out.ptr + c->out.from, c->out.to - c->out.from, MSG_NOSIGNAL);
        if (n >= 0) {
            buffer_consume(&c->out, (size_t)n);
        } else if (errno == EAGAIN) {
            return SP_OK;
        } else if (errno != EINTR) {
            return fail(c, SP_ERR_CLOSED);
        }
    }
    return SP_OK;
}

size_t sp_channel_pending(const struct sp_channel *c)
{
    return c->out.to - c->out.from;
}

void sp_channel_trim(struct sp_channel *c)
{
    buffer_trim(&c->in);
    buffer_trim(&c->out);
}

/* Hand over the first message when it is whole, else SP_ERR_AGAIN. */
static enum sp_err next_message(struct sp_channel *c, sp_channel_fn fn, void *arg)
{
    struct sp_frame frame;
    size_t used = c->in.to - c->in.from;
    if (used < sizeof(frame)) {
        return SP_ERR_AGAIN;
    }
    memcpy(&frame, c->in.ptr + c->in.from, sizeof(frame));
    if (frame.length > SP_CHANNEL_FRAME_MAX || frame.flags != 0) {
        return SP_ERR_MALFORMED;
    }
    if (used - sizeof(frame) < frame.length) {
        return SP_ERR_AGAIN;
    }
    enum sp_err err =
        fn(arg, &frame, sp_view(c->in.ptr + c->in.from + sizeof(frame), frame.length));
    buffer_consume(&c->in, sizeof(frame) + frame.length);
    return err == SP_ERR_AGAIN ? SP_ERR_PROTOCOL : err;
}

enum sp_err sp_channel_receive(struct sp_channel *c, sp_channel_fn fn, void *arg)
{
    if (c->failed) {
        return SP_ERR_CLOSED;
    }
    if (!buffer_reserve(&c->in, READ_MAX)) {
        return SP_OK; /* what came stays where it is, and is told of again */
    }
    ssize_t n = recv(c->fd, c->in.ptr + c->in.to, READ_MAX, 0);
    if (n < 0 && (errno == EAGAIN || errno == EINTR)) {
        return SP_OK;
    }
    if (n <= 0) {
        return fail(c, SP_ERR_CLOSED);
    }
    c->in.to += (size_t)n;
    enum sp_err err;
    do {
        err = next_message(c, fn, arg);
    } while (err == SP_OK);
    return err == SP_ERR_AGAIN ? SP_OK : fail(c, err);
}
