/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One connection to the cloud: TCP, TLS, MQTT; what is sent, what is acknowledged, what is sent again
 * (docs/delivery.md D5, D7, D9). Belongs to the cloud thread, which owns the epoll set and calls in.
 *
 * Rows come from the hand-off in journal order and stay here until the cloud has them or they are dead. All that
 * the cloud did not acknowledge when a connection ended goes out again, first and in order, on the next.
 */
#ifndef SP_GATEWAY_STORE_UPLINK_H
#define SP_GATEWAY_STORE_UPLINK_H

#include "gateway/config/config.h"
#include "gateway/store/handoff.h"
#include "gateway/store/letter.h"
#include "gateway/store/resolve.h"
#include "gateway/tls/tls.h"

/** Rows of a link that were sent and are still in the journal: what a crash repeats at most (D5's R). */
#define SP_UPLINK_REPEATS_MAX 256U

/** What all links share. Borrowed by them; one thread. */
struct sp_uplink_env {
    const struct sp_config *config;
    struct sp_tls_client *tls;
    struct sp_handoff *handoff;
    struct sp_resolver *resolver;
    struct sp_letter_office office;
    struct sp_letter_room room;
    int epoll;
    uint8_t *scratch; /**< packets on their way into TLS; grows */
    size_t scratch_cap;
};

struct sp_uplink; /* opaque */

/** @param index From 0; its connection is made at the first sp_uplink_turn(). @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_uplink_create(struct sp_uplink_env *env, uint32_t index,
                                           struct sp_uplink **out);
void sp_uplink_destroy(struct sp_uplink *link); /**< with its rows; NULL is fine */

/** env->config is a new one. @param old The limits until now. */
void sp_uplink_configure(struct sp_uplink *link, const struct sp_cloud_limits *old,
                         uint64_t now_ms);

/** Its socket is ready; `events` of epoll. */
void sp_uplink_ready(struct sp_uplink *link, uint32_t events, uint64_t now_ms);

/** Take what was handed over, do what is due, send what may go. */
void sp_uplink_turn(struct sp_uplink *link, uint64_t now_ms);

/** The latest time for the next sp_uplink_turn(). */
uint64_t sp_uplink_deadline(const struct sp_uplink *link);

/** Rows that wait for the cloud's acknowledgement. */
size_t sp_uplink_flying(const struct sp_uplink *link);

/** Rows that were handed over and could not be sent yet. */
size_t sp_uplink_waiting(const struct sp_uplink *link);

/** A command that came over this connection was taken by its receivers. */
void sp_uplink_command_taken(struct sp_uplink *link, uint64_t tag, uint8_t reason, uint64_t now_ms);

/** Send nothing new from now on. */
void sp_uplink_stop(struct sp_uplink *link);

/** After sp_uplink_stop(): nothing is waiting for the cloud's acknowledgement any more, and no QoS 0 for being sent. */
bool sp_uplink_is_quiet(const struct sp_uplink *link);

/** DISCONNECT and close. */
void sp_uplink_farewell(struct sp_uplink *link, uint64_t now_ms);

#endif
