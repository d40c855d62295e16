/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file An MQTT session: subscriptions, and messages on their way to one device, with or without a connection.
 */
#ifndef SP_GATEWAY_GATE_SESSION_SESSION_H
#define SP_GATEWAY_GATE_SESSION_SESSION_H

#include "gateway/gate/route/receipts.h"
#include "gateway/gate/route/subs.h"

struct sp_client;
struct sp_device;
struct sp_home;
struct sp_mail;
struct sp_role_config;

/** Packet identifiers of challenges and grants; sessions use 1..SP_SESSION_ID_MAX. */
#define SP_CHALLENGE_ID   65535U
#define SP_GRANT_ID       65534U
#define SP_SESSION_ID_MAX 65533U

/** Where a message of a kept session is. */
enum sp_place {
    SP_PLACE_MEMORY,
    SP_PLACE_STORING, /**< on its way to the journal */
    SP_PLACE_JOURNAL,
};

/* One QoS 1 message for this session. */
struct sp_delivery {
    struct sp_delivery *next;
    struct sp_mail *message;
    uint64_t number;   /* rises; gives the packet id */
    uint64_t since_ms; /* when it was offered */
    struct sp_receipt_ref receipt;
    uint32_t size;      /* counted against the queue */
    uint16_t packet_id; /* 0: never sent */
    uint8_t place;      /* enum sp_place */
};

struct sp_session {
    struct sp_client *client; /**< NULL: away */
    struct sp_device *device;
    const struct sp_role_config *role; /**< of the client that is, or was, connected */
    sp_slot_tag tag;
    struct sp_filter **subs; /* what it subscribes to; how lies in the index */
    uint32_t sub_count;
    uint32_t sub_cap;
    struct sp_delivery
        *first; /* sent on this connection, unacknowledged, in order; then the others */
    struct sp_delivery *last;
    struct sp_delivery *unsent;    /* the first that is not sent on this connection */
    struct sp_delivery *storing;   /* the first that is on its way to the journal, or behind it */
    struct sp_session *fresh_next; /* in the list of those with messages in memory alone … */
    struct sp_session **fresh_at;  /* … where it hangs; NULL: not in it */
    uint64_t base;                 /* of its numbers: lower ones belong to earlier sessions */
    uint64_t number;               /* of the last message */
    uint64_t sent;                 /* the highest number that was ever sent */
    uint64_t version;              /* of the registry's row for which it was begun */
    uint64_t left_ms;   /* since 1970: when the client left; 0: it is there, or never was */
    uint32_t expiry_s;  /* from then on */
    uint32_t bytes;     /* of all deliveries */
    uint16_t in_flight; /* sent on this connection, unacknowledged */
    bool full : 1;      /* the queue overflowed and it was logged */
    bool kept : 1;      /* it outlives its connection, and the gate (gate/session/keep.h) */
    bool begun : 1;     /* the journal knows of it */
    bool cut_off : 1;   /* while loading: the gate ended before its device left */
};

/** @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_session_create(struct sp_home *home, struct sp_device *device,
                                            struct sp_session **out);

/** Its subscriptions go with it. NULL is fine. */
void sp_session_destroy(struct sp_home *home, struct sp_session *session);

/** A client is there: send again what it did not acknowledge, then what waits. */
void sp_session_attach(struct sp_home *home, struct sp_session *session, struct sp_client *client);

/** The client is gone; what it did not acknowledge is kept. */
void sp_session_detach(struct sp_home *home, struct sp_session *session);

/**
 * A message for this session. QoS 0 is sent now or dropped; QoS 1 is sent as soon as the client's window has room,
 * and kept until it is acknowledged. A full queue drops it, counted.
 *
 * @param[in] receipt Settled once the device has the message, or the journal if the session is kept, or it was refused.
 */
void sp_session_offer(struct sp_home *home, struct sp_session *session, struct sp_mail *message,
                      uint8_t qos, struct sp_receipt_ref receipt);

/** A message out of the journal, behind all others; `sent`: its device may have it. @retval SP_ERR_NOMEM, SP_ERR_MALFORMED */
SP_MUST_CHECK enum sp_err sp_session_restore(struct sp_session *session, struct sp_mail *message,
                                             uint64_t number, bool sent);

/** The journal has a message, or refused it. */
void sp_session_stored(struct sp_home *home, struct sp_session *session, uint64_t number,
                       bool durable);

/** `kept` has changed: who publishes has to know. */
void sp_session_mark_kept(struct sp_home *home, struct sp_session *session);

/** PUBACK. @return false: no such packet is in flight. */
bool sp_session_acked(struct sp_home *home, struct sp_session *session, uint16_t packet_id);

/** Send what the window has room for. */
void sp_session_pump(struct sp_home *home, struct sp_session *session);

/**
 * @param[in] wanted QoS and options; the rest is filled in.
 * @retval SP_ERR_LIMIT  Too many subscriptions.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_session_subscribe(struct sp_home *home, struct sp_session *session,
                                               struct sp_view filter, struct sp_subscriber wanted);

/** @return It was there. */
bool sp_session_unsubscribe(struct sp_home *home, struct sp_session *session,
                            struct sp_view filter);

#endif
