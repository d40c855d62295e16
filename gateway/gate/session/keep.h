/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Kept sessions of one home, and the journal in which they outlive the gate (docs/decisions/0006-durable-sessions.md).
 *
 * What a session is lives in memory; every change goes to the store process in batches, and what others rely on waits
 * until it is durable. A session of a device that is connected and acknowledges promptly has nothing of its messages in the
 * journal. At the start every home takes its sessions from there; nobody is let in before all homes have theirs.
 */
#ifndef SP_GATEWAY_GATE_SESSION_KEEP_H
#define SP_GATEWAY_GATE_SESSION_KEEP_H

#include "gateway/gate/core/buf.h"
#include "gateway/gate/core/slots.h"
#include "gateway/gate/route/subs.h"
#include "gateway/loop/timers.h"
#include "gateway/proc/messages.h"
#include "libs/link/link.h"
#include "libs/mqtt/mqtt.h"

#include <stdatomic.h>

struct sp_client;
struct sp_delivery;
struct sp_home;
struct sp_session;

#define SP_KEEP_GRACE_MS \
    100U /**< so long a message may be on its way to a device before it is journaled */

#define SP_KEEP_ENDED_RESERVE  16U /**< ends that are remembered although there is no memory */
#define SP_KEEP_PARKED_RESERVE 16U /**< likewise revocations, until all sessions are there */

struct sp_keep_parked; /* opaque: a command or a revocation, until all sessions are there */

/* The session of a device that ended, and that is not durable; nothing may bring it back. */
struct sp_keep_ended {
    struct sp_keep_ended *next;
    uint64_t ticket;      /* 0: to be told again */
    uint8_t identity_len; /* 0: this one of the reserve is free */
    uint8_t identity[SP_LINK_IDENTITY_MAX];
};

struct sp_keep {
    atomic_uint *
        homes; /**< set by the owner: homes that have not loaded yet, shared by all; NULL: all have */
    bool loading;        /**< set by the owner when `homes` is: some home has not loaded yet */
    uint32_t connection; /* number of the channel to store */
    /* private */
    struct sp_timer timer; /* grace of messages, and the next try */
    struct sp_buf batch;
    uint32_t batch_count;
    uint64_t last_ticket;
    struct sp_keep_wait *ring;
    size_t ring_cap; /* a power of two, or 0 */
    size_t ring_head;
    size_t ring_count;
    struct sp_session *fresh; /* sessions with messages that are in memory alone */
    struct sp_keep_parked *parked;
    struct sp_keep_parked **parked_end;
    struct sp_keep_parked *spare; /* for revocations; from the beginning of a load to its end */
    struct sp_keep_ended *ended;
    struct sp_keep_ended reserve[SP_KEEP_ENDED_RESERVE];
    bool loaded; /* this home has its own */
    bool stale; /* the journal may lack something: nothing is promised until it is told all again */
    bool failed;    /* a batch could not be sent */
    bool unwatched; /* sessions may have no time at which they end */
    bool applying;  /* what is in the journal already is being made: do not tell it */
};

void sp_keep_init(struct sp_home *home);
void sp_keep_deinit(struct sp_home *home);

/* ---- for the owner of the home ---- */

/** There is a new channel to store, which home->tickets.store leads to. */
void sp_keep_connected(struct sp_home *home);
/** It is gone: nothing that waits became durable, as far as anybody knows. */
void sp_keep_lost(struct sp_home *home);
/** SP_MSG_KEPT. @retval SP_ERR_MALFORMED, SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_keep_records(struct sp_home *home, uint64_t tag, struct sp_view body);
/** SP_MSG_KEPT_DURABLE. @retval SP_ERR_MALFORMED */
SP_MUST_CHECK enum sp_err sp_keep_durable(struct sp_home *home,
                                          const struct sp_msg_durable *durable);
/** Send the batch; once per turn. */
void sp_keep_flush(struct sp_home *home);

/* ---- before all sessions are there ---- */

/** Do it again when they are. @return false: they are. */
bool sp_keep_park_command(struct sp_home *home, struct sp_view topic, struct sp_view payload,
                          uint8_t qos, uint64_t tag);
bool sp_keep_park_revocation(struct sp_home *home, struct sp_view identity, uint64_t version);

/* ---- what happens to a session ---- */

/** It begins to be kept. */
void sp_keep_begin(struct sp_home *home, struct sp_session *session);
/** Its device left, and there was no memory for the time of its end: later, then. */
void sp_keep_unwatched(struct sp_home *home);
/** Its device left, or is back (session->left_ms). */
void sp_keep_change(struct sp_home *home, const struct sp_session *session);
/** It is over, or not kept any more. Its messages are not looked at. */
void sp_keep_end(struct sp_home *home, struct sp_session *session);
void sp_keep_subscribe(struct sp_home *home, const struct sp_session *session,
                       struct sp_view filter, const struct sp_subscriber *how);
void sp_keep_unsubscribe(struct sp_home *home, const struct sp_session *session,
                         struct sp_view filter);

/** The last message in its queue is new. */
void sp_keep_offered(struct sp_home *home, struct sp_session *session);
/** Journal those that are in memory alone. */
void sp_keep_store(struct sp_home *home, struct sp_session *session);
/** The same for all sessions: a time without their devices begins. */
void sp_keep_store_all(struct sp_home *home);
/** The journal may lack something: tell it all again. */
void sp_keep_tell_again(struct sp_home *home);
/** Everything is in the journal, and nothing waits for it; or there is no store, and it all has to be told again (`stale`). */
bool sp_keep_is_calm(const struct sp_home *home);
/** It has no messages in memory alone any more, or nobody looks. */
void sp_keep_quiet(struct sp_session *session);
/** A message leaves the queue: it is settled here, in the journal, and for who waits for it. */
void sp_keep_leaves(struct sp_home *home, struct sp_session *session, struct sp_delivery *delivery,
                    bool refused);

/* ---- answers that wait until everything so far is durable; meanwhile nothing more of the client is handled ---- */

/** sp_client_admit() again then; SP_ERR_CLOSED or _NOMEM: it cannot be durable now. */
SP_MUST_CHECK enum sp_err sp_keep_admit_later(struct sp_home *home, struct sp_client *client);

/** Send a SUBACK then. The same errors. */
SP_MUST_CHECK enum sp_err sp_keep_suback_later(struct sp_home *home, struct sp_client *client,
                                               const struct sp_mqtt_suback *suback);

#endif
