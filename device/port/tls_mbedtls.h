/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The channel of device/app/channel.h over Mbed TLS: TLS 1.2, PSK by PSA key id, extended master secret required. */
#ifndef SP_DEVICE_PORT_TLS_MBEDTLS_H
#define SP_DEVICE_PORT_TLS_MBEDTLS_H

#include "device/app/channel.h"

/** The stream below TLS: a socket, or a serial link. None of these blocks. */
struct sp_stream {
    void *ctx;
    enum sp_err (*open)(void *ctx);
    enum sp_err (*ready)(void *ctx); /**< SP_ERR_AGAIN while connecting */
    enum sp_err (*read)(void *ctx, uint8_t *out, size_t cap, size_t *len);
    enum sp_err (*write)(void *ctx, struct sp_view bytes, size_t *len);
    void (*close)(void *ctx);
    const char *(*describe)(void *ctx); /**< after an error: what happened */
};

struct sp_tls_client_opts {
    struct sp_stream stream; /**< copied */
    uint32_t psk;            /**< PSA key id */
    struct sp_view identity; /**< PSK identity; copied */
    uint32_t suites;         /**< mask of device/port/suites.h */
};

struct sp_tls_client; /* opaque */

/**
 * @param[out] out On SP_OK for the caller to give to sp_tls_client_destroy(); else NULL.
 * @retval SP_ERR_NOMEM    No memory.
 * @retval SP_ERR_ARGUMENT No suite, no usable key or identity.
 */
SP_MUST_CHECK enum sp_err sp_tls_client_create(const struct sp_tls_client_opts *opts,
                                               struct sp_tls_client **out);

/** NULL is fine. */
void sp_tls_client_destroy(struct sp_tls_client *tls);

/** The channel that it offers; valid as long as it is. */
struct sp_channel sp_tls_client_channel(struct sp_tls_client *tls);

#endif
