/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/socket_posix.h"

#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static bool port_valid(const char *text)
{
    size_t len = strlen(text);
    unsigned value = 0;
    for (size_t i = 0; i < len && i < 6; i++) {
        if (text[i] < '0' || text[i] > '9') {
            return false;
        }
        value = value * 10U + (unsigned)(text[i] - '0');
    }
    return len >= 1 && len <= 5 && value >= 1 && value <= 65535;
}

enum sp_err sp_socket_init(struct sp_socket *s, const char *target)
{
    *s = (struct sp_socket){.fd = -1, .what = ""};
    const char *colon = strrchr(target, ':');
    if (colon == NULL || !port_valid(colon + 1)) {
        return SP_ERR_MALFORMED;
    }
    struct sp_view host = sp_view(target, (size_t)(colon - target));
    if (host.len >= 2 && host.ptr[0] == '[' && host.ptr[host.len - 1] == ']') {
        host = sp_view_first(sp_view_from(host, 1), host.len - 2U);
    } else if (memchr(host.ptr, ':', host.len) != NULL) {
        return SP_ERR_MALFORMED;
    }
    if (host.len == 0 || host.len >= sizeof(s->host)) {
        return SP_ERR_MALFORMED;
    }
    sp_copy(s->host, host.ptr, host.len);
    sp_copy(s->port, colon + 1, strlen(colon + 1));
    return SP_OK;
}

static enum sp_err fail(struct sp_socket *s, const char *what)
{
    s->what = what;
    return SP_ERR_IO;
}

static enum sp_err connect_to(struct sp_socket *s, const struct addrinfo *address)
{
    int on = 1;
    s->fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (s->fd < 0) {
        return fail(s, strerror(errno));
    }
    (void)setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    s->want_write = true;
    if (connect(s->fd, address->ai_addr, address->ai_addrlen) != 0 && errno != EINPROGRESS) {
        return fail(s, strerror(errno));
    }
    return SP_OK;
}

static enum sp_err socket_open(void *ctx)
{
    struct sp_socket *s = ctx;
    struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int code = getaddrinfo(s->host, s->port, &hints, &list);
    if (code != 0) {
        return fail(s, gai_strerror(code));
    }
    unsigned count = 1;
    for (const struct addrinfo *a = list->ai_next; a != NULL; a = a->ai_next) {
        count++;
    }
    const struct addrinfo *chosen = list;
    for (unsigned i = s->attempt++ % count; i > 0; i--) {
        chosen = chosen->ai_next;
    }
    enum sp_err err = connect_to(s, chosen);
    freeaddrinfo(list);
    return err;
}

static enum sp_err socket_ready(void *ctx)
{
    struct sp_socket *s = ctx;
    int error = 0;
    socklen_t len = sizeof(error);
    struct sockaddr_storage peer;
    socklen_t peer_len = sizeof(peer);
    if (getsockopt(s->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0 || error != 0) {
        return fail(s, strerror(error != 0 ? error : errno));
    }
    if (getpeername(s->fd, (struct sockaddr *)&peer, &peer_len) != 0) {
        return errno == ENOTCONN ? SP_ERR_AGAIN : fail(s, strerror(errno));
    }
    s->want_write = false;
    s->attempt--; /* this address works: again the next time */
    return SP_OK;
}

static enum sp_err socket_read(void *ctx, uint8_t *out, size_t cap, size_t *len)
{
    struct sp_socket *s = ctx;
    ssize_t got = recv(s->fd, out, cap, 0);
    if (got > 0) {
        *len = (size_t)got;
        return SP_OK;
    }
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) {
        return SP_ERR_AGAIN;
    }
    return SP_ERR_CLOSED;
}

static enum sp_err socket_write(void *ctx, struct sp_view bytes, size_t *len)
{
    struct sp_socket *s = ctx;
    ssize_t put = send(s->fd, bytes.ptr, bytes.len, MSG_NOSIGNAL);
    s->want_write = false;
    if (put >= 0) {
        *len = (size_t)put;
        return SP_OK;
    }
    if (errno == EAGAIN || errno == EINTR) {
        s->want_write = true;
        return SP_ERR_AGAIN;
    }
    return SP_ERR_CLOSED;
}

static void socket_close(void *ctx)
{
    struct sp_socket *s = ctx;
    if (s->fd >= 0) {
        (void)close(s->fd);
    }
    s->fd = -1;
    s->want_write = false;
}

static const char *socket_describe(void *ctx)
{
    const struct sp_socket *s = ctx;
    return s->what;
}

struct sp_stream sp_socket_stream(struct sp_socket *s)
{
    return (struct sp_stream){
        .ctx = s,
        .open = socket_open,
        .ready = socket_ready,
        .read = socket_read,
        .write = socket_write,
        .close = socket_close,
        .describe = socket_describe,
    };
}
