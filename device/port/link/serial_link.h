/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The device's end of a serial line to the gateway's TCP port: a stream for TLS; the host's end is
 * tools/lab/serial_link.py.
 *
 * The line is not trusted to deliver: it may lose, damage and invent bytes, and neither end sees when the other starts
 * anew. Nothing is repeated here. A gap ends the connection, and the application opens another, under another epoch.
 */
#ifndef SP_DEVICE_PORT_LINK_SERIAL_LINK_H
#define SP_DEVICE_PORT_LINK_SERIAL_LINK_H

#include "device/port/link/frame.h"
#include "device/port/tls_mbedtls.h"

#define SP_SERIAL_OPEN_MS 500U /**< OPEN is repeated that often */
/** That long after the last DATA an empty one follows, so that the loss of the last is noticed; at both ends. */
#define SP_SERIAL_PROBE_MS 1000U

/** The line. Nothing blocks. */
struct sp_serial_wire {
    void *ctx;
    size_t (*room)(void *ctx);                           /**< bytes that put() would take */
    void (*put)(void *ctx, struct sp_view bytes);        /**< no more than room() */
    size_t (*take)(void *ctx, uint8_t *out, size_t cap); /**< received bytes */
    uint32_t (*random)(void *ctx);                       /**< for epochs */
};

enum sp_serial_state { SP_SERIAL_CLOSED, SP_SERIAL_OPENING, SP_SERIAL_OPEN, SP_SERIAL_BROKEN };

/** Caller's storage; private but for state. */
struct sp_serial_link {
    enum sp_serial_state state;
    struct sp_serial_wire wire;
    struct sp_frame_decoder decoder;
    uint64_t now_ms;
    uint64_t due_ms; /* OPENING: when to send OPEN (again); OPEN: an empty DATA, UINT64_MAX: none */
    uint32_t epoch;
    uint16_t sent;     /* sequence of the next DATA */
    uint16_t expected; /* sequence of the next DATA to come */
    const char *what;
    size_t used;
    uint8_t bytes[4U * SP_FRAME_PAYLOAD_MAX]; /* received, not read yet */
};

/** @param[in] wire Copied. */
void sp_serial_link_init(struct sp_serial_link *link, const struct sp_serial_wire *wire);

/** Move frames; to be called when bytes came, and when it is due. */
void sp_serial_link_poll(struct sp_serial_link *link, uint64_t now_ms);
uint64_t sp_serial_link_due(const struct sp_serial_link *link, uint64_t now_ms);

/** The stream that it offers. */
struct sp_stream sp_serial_link_stream(struct sp_serial_link *link);

#endif
