/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The application's view of its way to the gateway: a stream of bytes under TLS with the device's PSK.
 *
 * Nothing blocks: SP_ERR_AGAIN means "nothing now, call again when the network moved". Any other error ends the
 * channel; then, and whenever the application has had enough, close() makes it ready for the next open().
 */
#ifndef SP_DEVICE_APP_CHANNEL_H
#define SP_DEVICE_APP_CHANNEL_H

#include "libs/base/bytes.h"

struct sp_channel {
    void *ctx;
    enum sp_err (*open)(void *ctx);   /**< begin to connect */
    enum sp_err (*secure)(void *ctx); /**< go on until SP_OK: connected, handshake done */
    enum sp_err (*read)(void *ctx, uint8_t *out, size_t cap,
                        size_t *len);                                   /**< SP_ERR_CLOSED: end */
    enum sp_err (*write)(void *ctx, struct sp_view bytes, size_t *len); /**< may take a part */
    enum sp_err (*exporter)(void *ctx,
                            uint8_t *out); /**< SP_LINK_EXPORTER_LEN bytes of this connection */
    void (*close)(void *ctx);              /**< fine in every state */
    /** After secure(): the suite. After an error: what happened. Printable ASCII, never NULL. */
    const char *(*describe)(void *ctx);
};

#endif
