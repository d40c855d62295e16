/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/proc/proc.h"

#define FDS_MAX 4U /* more than one is a fault; they must be received to be closed */

enum sp_err sp_control_send(int control, const struct sp_control *message, int fd)
{
    struct sp_control copy = *message;
    struct iovec part = {.iov_base = &copy, .iov_len = sizeof(copy)};
    struct msghdr header = {.msg_iov = &part, .msg_iovlen = 1};
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE(sizeof(int))];
    } extra;
    if (fd >= 0) {
        memset(&extra, 0, sizeof(extra));
        header.msg_control = extra.bytes;
        header.msg_controllen = sizeof(extra.bytes);
        struct cmsghdr *c = CMSG_FIRSTHDR(&header);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof(int));
        memcpy(CMSG_DATA(c), &fd, sizeof(fd));
    }
    ssize_t n;
    do {
        n = sendmsg(control, &header, MSG_NOSIGNAL | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? SP_ERR_AGAIN : SP_ERR_CLOSED;
    }
    return SP_OK;
}

/* The first fd that came along, or -1; others are closed and counted. */
static int take_fds(struct msghdr *header, size_t *count)
{
    int first = -1;
    *count = 0;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(header); c != NULL; c = CMSG_NXTHDR(header, c)) {
        if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS) {
            continue;
        }
        size_t fds = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);
        for (size_t i = 0; i < fds; i++) {
            int fd;
            memcpy(&fd, CMSG_DATA(c) + i * sizeof(int), sizeof(fd));
            if ((*count)++ == 0) {
                first = fd;
            } else {
                close(fd);
            }
        }
    }
    return first;
}

enum sp_err sp_control_receive(int control, struct sp_control *message, int *fd)
{
    struct sp_control body;
    struct iovec part = {.iov_base = &body, .iov_len = sizeof(body)};
    union {
        struct cmsghdr align;
        unsigned char bytes[CMSG_SPACE(FDS_MAX * sizeof(int))];
    } extra;
    struct msghdr header = {.msg_iov = &part,
                            .msg_iovlen = 1,
                            .msg_control = extra.bytes,
                            .msg_controllen = sizeof(extra.bytes)};
    ssize_t n;
    do {
        n = recvmsg(control, &header, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    } while (n < 0 && errno == EINTR);
    if (n < 0) {
        return errno == EAGAIN ? SP_ERR_AGAIN : SP_ERR_CLOSED;
    }
    if (n == 0) {
        return SP_ERR_CLOSED;
    }
    size_t count;
    int received = take_fds(&header, &count);
    if ((size_t)n != sizeof(body) || (header.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) != 0 ||
        count > 1) {
        if (received >= 0) {
            close(received);
        }
        return SP_ERR_MALFORMED;
    }
    *message = body;
    *fd = received;
    return SP_OK;
}
