/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A peer's address, small enough to be kept with every connection; text only for logs. */
#ifndef SP_GATEWAY_GATE_CORE_PEER_H
#define SP_GATEWAY_GATE_CORE_PEER_H

#include <stdint.h>

#define SP_PEER_TEXT_MAX 56U

struct sockaddr_storage;

struct sp_peer {
    uint16_t port;   /**< host byte order */
    uint16_t family; /**< AF_INET, AF_INET6; else unknown */
    uint8_t address[16];
};

void sp_peer_set(struct sp_peer *peer, const struct sockaddr_storage *address);

/** `127.0.0.1:4711` or `[::1]:4711`, into SP_PEER_TEXT_MAX bytes. @return `out` */
const char *sp_peer_format(const struct sp_peer *peer, char *out);

#endif
