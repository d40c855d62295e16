/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One connection to the cloud: TCP, TLS, MQTT; what is sent, what is acknowledged, what is sent again
 * (docs/delivery.md D5, D7, D9). Belongs to the cloud thread, which owns the epoll set and calls in.
 *
 * Rows come from the hand-off in journal order and stay here until the cloud has them or they are dead. All that
 * the cloud did not acknowledge when a connection ended goes out again, first and in order, on the next.
 */
#ifndef SP_GATEWAY_STORE_LINK_H
#define SP_GATEWAY_STORE_LINK_H

#include "gateway/config/config.h"
#include "gateway/store/handoff.h"
#include "gateway/store/letter.h"
#include "gateway/store/resolve.h"
#include "gateway/tls/tls.h"

/** Rows of a link that were sent and are still in the journal: what a crash repeats at most (D5's R). */
#define SP_LINK_REPEATS_MAX 256U
256U /**< sent and still in the journal, unless the window is larger (D5's R) */

    /** What all links share. Borrowed by them; one thread. */
    struct sp_link_env {
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

struct sp_link; /* opaque */

/** @param index From 0; its connection is made at the first sp_link_turn(). @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_link_create(struct sp_link_env *env, uint32_t index,
                                         struct sp_link **out);
void sp_link_destroy(struct sp_link *link); /**< with its rows; NULL is fine */

/** Its socket is ready; `events` of epoll. */
void sp_link_ready(struct sp_link *link, uint32_t events, uint64_t now_ms);

/** Take what was handed over, do what is due, send what may go. */
void sp_link_turn(struct sp_link *link, uint64_t now_ms);

/** The latest time for the next sp_link_turn(). */
uint64_t sp_link_deadline(const struct sp_link *link);

/** A command that came over this connection was taken by its receivers. */
void sp_link_command_taken(struct sp_link *link, uint64_t tag, uint64_t now_ms);

/** Send nothing new from now on. */
void sp_link_stop(struct sp_link *link);

/** After sp_link_stop(): nothing is waiting for the cloud's acknowledgement any more. */
bool sp_link_is_quiet(const struct sp_link *link);

/** DISCONNECT and close. */
void sp_link_farewell(struct sp_link *link, uint64_t now_ms);

#endif
