/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The stream below TLS as a TCP socket. */
#ifndef SP_DEVICE_PORT_POSIX_SOCKET_POSIX_H
#define SP_DEVICE_PORT_POSIX_SOCKET_POSIX_H

#include "device/port/tls_mbedtls.h"

#define SP_SOCKET_HOST_MAX 256U

struct sp_socket {
    char host[SP_SOCKET_HOST_MAX];
    char port[8];
    unsigned attempt; /* which of the host's addresses is next */
    int fd;           /* -1: none; poll it for input, and for output while want_write */
    bool want_write;
    const char *what; /* for describe() */
};

/**
 * @param[in] target `HOST:PORT`, `[ADDRESS]:PORT`.
 * @retval SP_ERR_MALFORMED Not that.
 */
SP_MUST_CHECK enum sp_err sp_socket_init(struct sp_socket *s, const char *target);

/** The stream that it offers; valid as long as it is. Looking the name up blocks, nothing else does. */
struct sp_stream sp_socket_stream(struct sp_socket *s);

#endif
