/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Each loop has a socket of its own on every address (SO_REUSEPORT), and the kernel spreads the connections.
 * SO_REUSEPORT would also let a second gateway of the same user slip in beside us, so the address is first
 * tried without it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/proc/parent_internal.h"

#define BACKLOG 4096 /* the kernel cuts it to net.core.somaxconn */

union address {
    struct sockaddr any;
    struct sockaddr_in v4;
    struct sockaddr_in6 v6;
};

/* @return the length of the address. */
static socklen_t address_of(const struct sp_listener_config *listener, uint16_t port,
                            union address *out)
{
    memset(out, 0, sizeof(*out));
    if (inet_pton(AF_INET, listener->host, &out->v4.sin_addr) == 1) {
        out->v4.sin_family = AF_INET;
        out->v4.sin_port = htons(port);
        return sizeof(out->v4);
    }
    (void)inet_pton(AF_INET6, listener->host, &out->v6.sin6_addr);
    out->v6.sin6_family = AF_INET6;
    out->v6.sin6_port = htons(port);
    return sizeof(out->v6);
}

static bool switch_on(int fd, int level, int option)
{
    const int on = 1;
    return setsockopt(fd, level, option, &on, sizeof(on)) == 0;
}

/* A listening socket, or -1 with errno. TCP_NODELAY is inherited by what it accepts. */
static int open_socket(const struct sp_listener_config *listener, uint16_t port, bool shared)
{
    union address address;
    socklen_t len = address_of(listener, port, &address);
    int fd = socket(address.any.sa_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    if (switch_on(fd, SOL_SOCKET, SO_REUSEADDR) &&
        (!shared || switch_on(fd, SOL_SOCKET, SO_REUSEPORT)) &&
        (address.any.sa_family == AF_INET || switch_on(fd, IPPROTO_IPV6, IPV6_V6ONLY)) &&
        switch_on(fd, IPPROTO_TCP, TCP_NODELAY) && bind(fd, &address.any, len) == 0 &&
        listen(fd, BACKLOG) == 0) {
        return fd;
    }
    int saved = errno;
    close(fd);
    errno = saved;
    return -1;
}

static uint16_t port_of(int fd)
{
    union address address = {.any = {0}};
    socklen_t len = sizeof(address);
    if (getsockname(fd, &address.any, &len) != 0) {
        return 0;
    }
    return ntohs(address.any.sa_family == AF_INET ? address.v4.sin_port : address.v6.sin6_port);
}

static void log_listening(const struct sp_listener_config *listener, uint16_t port)
{
    char text[96];
    bool v6 = strchr(listener->host, ':') != NULL;
    (void)snprintf(text, sizeof(text), "%s%s%s:%u", v6 ? "[" : "", listener->host, v6 ? "]" : "",
                   port);
    sp_log_info(SP_EVENT("listening"), SP_F_STR("address", text));
    if ((listener->suites & SP_SUITES_NULL_ENCRYPTION) != 0) {
        sp_log_warn(SP_EVENT("null_encryption"), SP_F_STR("address", text),
                    SP_F_STR("meaning", "suites without encryption are on: anyone can read along"));
    }
}

/* How many listeners before this one have the same address, as with two on any free port. */
static size_t namesakes(const struct sp_parent *parent, size_t index)
{
    const struct sp_listener_config *all = parent->config->listeners;
    size_t count = 0;
    for (size_t i = 0; i < index; i++) {
        count += strcmp(all[i].address, all[index].address) == 0;
    }
    return count;
}

/* The socket of a loop that another program has opened for the same listener; NULL: it has not. */
static const struct sp_given_listener *find_given(const struct sp_parent *parent, size_t index,
                                                  uint32_t loop)
{
    const struct sp_baton *baton = parent->upgrade.baton;
    size_t before = namesakes(parent, index);
    for (size_t i = 0; baton != NULL && i < baton->listener_count; i++) {
        const struct sp_given_listener *given = &baton->listeners[i];
        if (given->loop == loop &&
            strcmp(given->address, parent->config->listeners[index].address) == 0 &&
            before-- == 0) {
            return given;
        }
    }
    return NULL;
}

/* What is there is used; only what is missing is opened. A socket that was opened for one loop alone cannot have others beside it: they share it. */
static enum sp_err reuse_listener(struct sp_parent *parent, size_t index)
{
    const struct sp_listener_config *listener = &parent->config->listeners[index];
    const struct sp_given_listener *first = find_given(parent, index, 0);
    bool alone = find_given(parent, index, 1) == NULL;
    for (uint32_t loop = 0; loop < parent->config->threads; loop++) {
        const struct sp_given_listener *given = find_given(parent, index, loop);
        int fd = given != NULL ? dup(given->fd) : -1;
        if (given == NULL) {
            fd = alone ? dup(first->fd) : open_socket(listener, (uint16_t)first->port, true);
        }
        if (fd < 0) {
            sp_log_error(SP_EVENT("cannot_listen"), SP_F_STR("address", listener->address),
                         SP_F_ERRNO(errno));
            return SP_ERR_IO;
        }
        (void)fcntl(fd, F_SETFD, FD_CLOEXEC);
        parent->listeners[loop * parent->listener_count + index] = fd;
    }
    parent->ports[index] = (uint16_t)first->port;
    return SP_OK;
}

/* The sockets of one listener, one per loop. */
static enum sp_err open_listener(struct sp_parent *parent, size_t index)
{
    const struct sp_listener_config *listener = &parent->config->listeners[index];
    uint32_t threads = parent->config->threads;
    int probe = open_socket(listener, listener->port, false);
    uint16_t port = probe >= 0 ? port_of(probe) : 0;
    if (probe >= 0 && threads == 1) {
        parent->listeners[index] = probe;
    } else if (probe >= 0) {
        close(probe);
    }
    bool ok = probe >= 0;
    for (uint32_t loop = 0; ok && threads > 1 && loop < threads; loop++) {
        int fd = open_socket(listener, port, true);
        parent->listeners[loop * parent->listener_count + index] = fd;
        ok = fd >= 0;
    }
    if (!ok) {
        enum sp_err err = errno == EACCES || errno == EPERM ? SP_ERR_DENIED : SP_ERR_IO;
        sp_log_error(SP_EVENT("cannot_listen"), SP_F_STR("address", listener->address),
                     SP_F_ERRNO(errno));
        return err;
    }
    parent->ports[index] = port;
    log_listening(listener, port);
    return SP_OK;
}

enum sp_err sp_parent_listen(struct sp_parent *parent)
{
    size_t count = parent->config->listener_count;
    size_t all = count * parent->config->threads;
    parent->listener_count = count;
    parent->listeners = malloc(all * sizeof(*parent->listeners));
    parent->ports = calloc(count, sizeof(*parent->ports));
    if (parent->listeners == NULL || parent->ports == NULL) {
        return SP_ERR_NOMEM;
    }
    memset(parent->listeners, 0xFF, all * sizeof(*parent->listeners)); /* all -1 */
    for (size_t i = 0; i < count; i++) {
        bool given = find_given(parent, i, 0) != NULL;
        SP_TRY(given ? reuse_listener(parent, i) : open_listener(parent, i));
    }
    return SP_OK;
}

void sp_parent_listen_prune(struct sp_parent *parent)
{
    struct sp_baton *baton = parent->upgrade.baton;
    for (size_t i = 0; i < baton->listener_count; i++) {
        close(baton->listeners[i].fd);
        baton->listeners[i].fd = -1;
    }
}

void sp_parent_listen_close(struct sp_parent *parent)
{
    size_t all = parent->listeners != NULL ? parent->listener_count * parent->config->threads : 0;
    for (size_t i = 0; i < all; i++) {
        if (parent->listeners[i] >= 0) {
            close(parent->listeners[i]);
        }
    }
    free(parent->listeners);
    free(parent->ports);
}
