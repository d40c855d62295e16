/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/handover/passage.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/loop/loop.h"

#define READ_MAX 65536U

union room {
    struct cmsghdr align;
    unsigned char bytes[CMSG_SPACE((SP_PASSAGE_FDS_MAX + 53U) * sizeof(int))];
};

static void attach(struct msghdr *header, union room *room, const int *fds, size_t count)
{
    size_t len = count * sizeof(int);
    memset(room, 0, sizeof(*room));
    header->msg_control = room->bytes;
    header->msg_controllen = CMSG_SPACE(len);
    struct cmsghdr *c = &room->align; /* the first */
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(len);
    memcpy(CMSG_DATA(c), fds, len);
}

enum sp_err sp_passage_send(int fd, struct sp_view bytes, const int *fds, size_t count, int wait_ms)
{
    union room room;
    uint64_t end_ms = sp_clock_ms() + (uint64_t)wait_ms;
    while (bytes.len > 0) {
        struct iovec part = {.iov_base = (void *)(uintptr_t)bytes.ptr, .iov_len = bytes.len};
        struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
        if (count > 0) {
            attach(&header, &room, fds, count);
        }
        ssize_t sent = sendmsg(fd, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (sent > 0) {
            bytes = sp_view_from(bytes, (size_t)sent);
            count = 0;
        } else if (errno == EAGAIN || errno == ETOOMANYREFS) {
            if (sp_clock_ms() >= end_ms) {
                return SP_ERR_AGAIN;
            }
            sp_loop_nap();
        } else if (errno != EINTR) {
            return errno == EPIPE || errno == ECONNRESET ? SP_ERR_CLOSED : SP_ERR_IO;
        }
    }
    return SP_OK;
}

static enum sp_err keep_fd(struct sp_passage *passage, int fd)
{
    if (passage->first == passage->count) {
        passage->first = 0;
        passage->count = 0;
    }
    if (passage->count == passage->cap) {
        size_t cap = passage->cap == 0 ? 256 : passage->cap * 2;
        int *grown = realloc(passage->fds, cap * sizeof(int));
        if (grown == NULL) {
            close(fd);
            return SP_ERR_NOMEM;
        }
        passage->fds = grown;
        passage->cap = cap;
    }
    passage->fds[passage->count++] = fd;
    return SP_OK;
}

static enum sp_err keep_fds(struct sp_passage *passage, struct msghdr *header)
{
    enum sp_err err = SP_OK;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t count = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < count; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            enum sp_err kept = keep_fd(passage, fd);
            err = err == SP_OK ? kept : err;
        }
    }
    return err;
}

enum sp_err sp_passage_receive(struct sp_passage *passage)
{
    union room room;
    uint8_t *at = sp_buf_reserve(&passage->bytes, READ_MAX);
    if (at == NULL) {
        return SP_ERR_NOMEM;
    }
    struct iovec part = {.iov_base = at, .iov_len = READ_MAX};
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = room.bytes,
                            .msg_controllen = sizeof(room.bytes)};
    ssize_t got = recvmsg(passage->fd, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (got < 0) {
        return errno == EAGAIN || errno == EINTR ? SP_OK : SP_ERR_IO;
    }
    if (got == 0) {
        return SP_ERR_CLOSED;
    }
    passage->bytes.used += (uint32_t)got;
    SP_TRY(keep_fds(passage, &header));
    /* Some files could not be opened here: too many. */
    return (header.msg_flags & MSG_CTRUNC) != 0 ? SP_ERR_IO : SP_OK;
}

int sp_passage_take_fd(struct sp_passage *passage)
{
    return passage->first < passage->count ? passage->fds[passage->first++] : -1;
}

void sp_passage_consume(struct sp_passage *passage, size_t used)
{
    if (used > 0) {
        sp_wipe(passage->bytes.ptr, used);
        sp_buf_consume(&passage->bytes, used);
    }
}

void sp_passage_deinit(struct sp_passage *passage)
{
    while (passage->first < passage->count) {
        close(passage->fds[passage->first++]);
    }
    free(passage->fds);
    if (passage->bytes.ptr != NULL) {
        sp_wipe(passage->bytes.ptr, passage->bytes.cap);
    }
    sp_buf_free(&passage->bytes);
    if (passage->fd >= 0) {
        close(passage->fd);
    }
    *passage = (struct sp_passage){.fd = -1};
}
