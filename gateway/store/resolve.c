/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/resolve.h"

#include <netdb.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "libs/base/bytes.h"

#define FRESH_MS 5000U

enum question { Q_NONE, Q_ASKED, Q_NEW, Q_ANSWERED };

struct sp_resolver {
    const char *host;
    char port[8];
    int fd;
    pthread_mutex_t lock; /* over everything below */
    enum question question;
    uint64_t answered_ms;
    int error; /* of getaddrinfo() */
    size_t count;
    struct sp_address addresses[SP_RESOLVE_MAX];
};

static int look_up(struct sp_resolver *r, int flags, struct sp_address *out, size_t *count)
{
    const struct addrinfo hints = {
        .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = flags | AI_NUMERICSERV};
    struct addrinfo *list = NULL;
    int error = getaddrinfo(r->host, r->port, &hints, &list);
    *count = 0;
    for (struct addrinfo *a = list; error == 0 && a != NULL && *count < SP_RESOLVE_MAX;
         a = a->ai_next) {
        if (a->ai_addrlen <= sizeof(out->storage)) {
            sp_copy(&out[*count].storage, a->ai_addr, a->ai_addrlen);
            out[(*count)++].len = a->ai_addrlen;
        }
    }
    if (list != NULL) {
        freeaddrinfo(list);
    }
    return error;
}

static bool is_numeric(struct sp_resolver *r)
{
    struct sp_address found[SP_RESOLVE_MAX];
    size_t count;
    return look_up(r, AI_NUMERICHOST, found, &count) == 0;
}

enum sp_err sp_resolver_create(const char *host, uint16_t port, struct sp_resolver **out)
{
    *out = NULL;
    struct sp_resolver *r = calloc(1, sizeof(*r));
    if (r == NULL) {
        return SP_ERR_NOMEM;
    }
    r->host = host;
    (void)snprintf(r->port, sizeof(r->port), "%u", (unsigned)port);
    r->fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (r->fd < 0 || pthread_mutex_init(&r->lock, NULL) != 0) {
        free(r);
        return SP_ERR_IO;
    }
    *out = r;
    return SP_OK;
}

void sp_resolver_destroy(struct sp_resolver *r)
{
    if (r == NULL) {
        return;
    }
    (void)pthread_mutex_lock(&r->lock);
    bool busy = r->question == Q_ASKED;
    (void)pthread_mutex_unlock(&r->lock);
    if (!busy) {
        (void)close(r->fd);
        (void)pthread_mutex_destroy(&r->lock);
        free(r);
    }
}

int sp_resolver_fd(const struct sp_resolver *r)
{
    return r->fd;
}

void sp_resolver_clear(struct sp_resolver *r)
{
    uint64_t count;
    if (read(r->fd, &count, sizeof(count)) != (ssize_t)sizeof(count)) {
        return; /* it was not readable: fine */
    }
}

void sp_resolver_warm_up(struct sp_resolver *r)
{
    if (!is_numeric(r)) {
        struct addrinfo *list = NULL;
        if (getaddrinfo("localhost", NULL, NULL, &list) == 0) {
            freeaddrinfo(list);
        }
    }
}

static void *answer(void *arg)
{
    struct sp_resolver *r = arg;
    struct sp_address found[SP_RESOLVE_MAX];
    size_t count;
    int error = look_up(r, AI_ADDRCONFIG, found, &count);
    (void)pthread_mutex_lock(&r->lock);
    r->error = error;
    r->count = count;
    memcpy(r->addresses, found, sizeof(found[0]) * count);
    r->question = Q_NEW;
    uint64_t one = 1;
    bool told = write(r->fd, &one, sizeof(one)) == (ssize_t)sizeof(one);
    (void)pthread_mutex_unlock(&r->lock);
    return told ? r : NULL;
}

static bool ask(struct sp_resolver *r)
{
    pthread_attr_t attr;
    pthread_t thread;
    if (pthread_attr_init(&attr) != 0) {
        return false;
    }
    (void)pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    bool started = pthread_create(&thread, &attr, answer, r) == 0;
    (void)pthread_attr_destroy(&attr);
    return started;
}

/* With the lock held. */
static enum sp_err current(struct sp_resolver *r, uint64_t now_ms, struct sp_address *out,
                           size_t *count, const char **why)
{
    if (r->question == Q_NEW) {
        r->question = Q_ANSWERED;
        r->answered_ms = now_ms;
    }
    bool fresh = r->question == Q_ANSWERED && now_ms - r->answered_ms < FRESH_MS;
    if (fresh && r->error == 0 && r->count > 0) {
        memcpy(out, r->addresses, sizeof(*out) * r->count);
        *count = r->count;
        return SP_OK;
    }
    if (fresh) {
        *why = r->error == 0 ? "no address" : gai_strerror(r->error);
        return SP_ERR_NOT_FOUND;
    }
    if (r->question != Q_ASKED) {
        r->question = ask(r) ? Q_ASKED : Q_NONE;
        *why = "no thread for the question";
    }
    return r->question == Q_ASKED ? SP_ERR_AGAIN : SP_ERR_NOT_FOUND;
}

enum sp_err sp_resolver_ask(struct sp_resolver *r, uint64_t now_ms, struct sp_address *out,
                            size_t *count, const char **why)
{
    if (look_up(r, AI_NUMERICHOST, out, count) == 0 && *count > 0) {
        return SP_OK;
    }
    (void)pthread_mutex_lock(&r->lock);
    enum sp_err err = current(r, now_ms, out, count, why);
    (void)pthread_mutex_unlock(&r->lock);
    return err;
}
