/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Host names to addresses without holding up the cloud thread: numeric ones at once, others by a thread of
 * its own, because getaddrinfo() may wait for seconds. One question at a time; all links ask for the same host.
 */
#ifndef SP_GATEWAY_STORE_RESOLVE_H
#define SP_GATEWAY_STORE_RESOLVE_H

#include <sys/socket.h>

#include "libs/base/err.h"

#include <stddef.h>
#include <stdint.h>

#define SP_RESOLVE_MAX 8U

struct sp_address {
    struct sockaddr_storage storage;
    socklen_t len;
};

struct sp_resolver; /* opaque */

/**
 * @param[in] host Borrowed for the life of the process.
 * @retval SP_ERR_NOMEM, SP_ERR_IO
 */
SP_MUST_CHECK enum sp_err sp_resolver_create(const char *host, uint16_t port,
                                             struct sp_resolver **out);

/** Frees it, unless its thread is still waiting for an answer (then it is left to the end of the process). */
void sp_resolver_destroy(struct sp_resolver *r);

/** Readable when an answer came, until sp_resolver_clear(). */
int sp_resolver_fd(const struct sp_resolver *r);
void sp_resolver_clear(struct sp_resolver *r);

/**
 * Before the sandbox: have the C library load what it needs to look names up. Does not ask the network.
 */
void sp_resolver_warm_up(struct sp_resolver *r);

/**
 * The addresses, at most SP_RESOLVE_MAX. Asks when there is no answer from the last few seconds.
 * @retval SP_ERR_AGAIN     Asked; call again when the fd is readable.
 * @retval SP_ERR_NOT_FOUND No address; `why` is static text.
 */
SP_MUST_CHECK enum sp_err sp_resolver_ask(struct sp_resolver *r, uint64_t now_ms,
                                          struct sp_address *out, size_t *count, const char **why);

#endif
