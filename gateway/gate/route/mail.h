/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A published message: stored once, counted references, shared by all receivers on all loops. */
#ifndef SP_GATEWAY_GATE_ROUTE_MAIL_H
#define SP_GATEWAY_GATE_ROUTE_MAIL_H

#include "libs/mqtt/mqtt.h"

#include <stdatomic.h>

/** Immutable but for the count. */
struct sp_mail {
    atomic_uint references;
    uint8_t qos;         /**< as published */
    bool retain;         /**< as published */
    uint64_t expires_ms; /**< monotonic; 0 = never */
    struct sp_view topic;
    struct sp_view payload;
    const struct sp_mqtt_props *props; /**< what a receiver gets too; NULL: none */
};

/**
 * Copy what was published. Properties that belong to one hop only (alias, subscription id) are left out.
 *
 * @param[in]  publish Borrowed; `user` as decoded.
 * @param[in]  now_ms  Monotonic: message expiry counts from here.
 * @return With one reference, which the caller owns: sp_mail_release(). NULL: no memory.
 */
struct sp_mail *sp_mail_create(const struct sp_mqtt_publish *publish, uint64_t now_ms);

/** One more reference. From any thread that has one. */
struct sp_mail *sp_mail_hold(struct sp_mail *message);

/** NULL is fine. */
void sp_mail_release(struct sp_mail *message);

/**
 * Topic, payload and properties of the packet to be sent at `now_ms`; borrowed from the message.
 * @return false when it has expired.
 */
bool sp_mail_packet(const struct sp_mail *message, uint64_t now_ms, struct sp_mqtt_publish *out);

#endif
