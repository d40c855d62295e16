/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file An MQTT session: subscriptions, and messages on their way to one device, with or without a connection.
 */
#ifndef SP_GATEWAY_GATE_SESSION_SESSION_H
#define SP_GATEWAY_GATE_SESSION_SESSION_H

#include "gateway/gate/route/receipts.h"
#include "gateway/gate/route/subs.h"
#include "libs/mqtt/mqtt.h"

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

/* One QoS 1 or 2 message for this session. */
struct sp_delivery {
    struct sp_delivery *next;
    struct sp_mail *message;
    uint64_t number;   /* rises; gives the packet id */
    uint64_t since_ms; /* when it was offered */
    struct sp_receipt_ref receipt;
    sp_slot_tag share;  /* the group that gave it to this session; 0: none */
    uint32_t size;      /* counted against the queue */
    uint16_t packet_id; /* 0: never sent */
    uint8_t qos;        /* 1 or 2 */
    uint8_t place;      /* enum sp_place */
    bool released : 1;  /* QoS 2: PUBREC came, PUBREL is what is sent */
    bool retain : 1;
    bool
        loaded : 1; /* out of the journal: it goes out with DUP, for nobody knows any more whether it did before */
    uint16_t id_count;
    uint32_t ids[]; /* Subscription Identifiers */
};

/* Retained messages on their way to a session, a few at a time. */
struct sp_replay {
    struct sp_replay *next;
    struct sp_mail *last; /* that was offered; NULL: none yet */
    uint32_t id;          /* Subscription Identifier; 0: none */
    uint8_t qos;
    uint16_t len;
    uint8_t filter[];
};

/* QoS 1 and 2 messages on their way to a device. */
struct sp_queue {
    struct sp_delivery
        *first; /* sent on this connection, unacknowledged, in order; then the others */
    struct sp_delivery *last;
    struct sp_delivery *unsent;    /* the first that is not sent on this connection */
    struct sp_delivery *storing;   /* the first that is on its way to the journal, or behind it */
    struct sp_session *fresh_next; /* in the list of those with messages in memory alone … */
    struct sp_session **fresh_at;  /* … where it hangs; NULL: not in it */
    uint32_t bytes;                /* of all deliveries */
    uint16_t in_flight;            /* sent on this connection, unacknowledged */
};

/* What few sessions have. */
struct sp_session_more {
    /* Of its messages; all 0 before it was kept, or had one of QoS 1 or 2. */
    uint64_t base;   /* lower ones belong to earlier sessions */
    uint64_t number; /* of the last message */
    uint64_t sent;   /* the highest number that was ever sent */
    uint64_t
        left_ms; /* since 1970: when the client left; 0: it is there, never was, or there was no memory to note it */
    struct sp_queue *queue; /* NULL: nothing is on its way; to read it, sp_session_queue() */
    struct sp_replay *replays;
    uint16_t *received; /* QoS 2 packet identifiers taken, and not released yet */
    uint32_t received_count;
    uint32_t received_cap;
};

/** A message for a session, and how it gets it; all borrowed for the call. */
struct sp_offer {
    struct sp_mail *message;
    const uint32_t *ids; /**< Subscription Identifiers */
    sp_slot_tag share;   /**< as in struct sp_match */
    struct sp_receipt_ref
        receipt; /**< settled once the device has it, or the journal if the session is kept, or it was refused */
    uint16_t id_count;
    uint8_t qos; /**< of the subscription; it goes at the lower of this and its own */
    bool retain;
};

struct sp_session {
    struct sp_session_more *more; /* NULL: nothing of it; to read it, sp_session_more() */
    union {                       /* what it subscribes to; how lies in the index */
        struct sp_filter *sub;    /* sub_bits 0: here */
        struct sp_filter **subs;
    };
    uint64_t version;  /* of the registry's row for which it was begun */
    sp_ref client_ref; /* sp_session_client() */
    sp_ref device_ref; /* sp_session_device() */
    uint32_t slot;     /* in home->sessions; sp_session_tag() */
    uint32_t expiry_s; /* for so long it is kept from when its client left */
    uint16_t role;     /* of the client that is, or was, connected; sp_session_role() */
    uint16_t sub_count;
    uint8_t sub_bits; /* subs has room for 1 << sub_bits; 0: there is one at most, here */
    bool full : 1;    /* the queue overflowed and it was logged */
    bool kept : 1;    /* it outlives its connection, and the gate (gate/session/keep.h) */
    bool begun : 1;   /* the journal knows of it */
    bool cut_off : 1; /* while loading: the gate ended before its device left */
};
_Static_assert(SP_REF_IS_POINTER || sizeof(struct sp_session) == 48, "what an idle device costs");

/** NULL: away. */
static inline struct sp_client *sp_session_client(const struct sp_session *session)
{
    return sp_ref_get(session->client_ref);
}

static inline struct sp_device *sp_session_device(const struct sp_session *session)
{
    return sp_ref_at(session->device_ref);
}

const struct sp_role_config *sp_session_role(const struct sp_session *session);

/** Names it in its home. */
sp_slot_tag sp_session_tag(const struct sp_session *session);

/** What sp_session_more() shows of one that has nothing of it. */
extern const struct sp_session_more sp_session_plain;

/** To look at what few have. */
static inline const struct sp_session_more *sp_session_more(const struct sp_session *session)
{
    return session->more == NULL ? &sp_session_plain : session->more;
}

/** To change it; NULL: nothing is on its way. */
static inline struct sp_queue *sp_session_own_queue(const struct sp_session *session)
{
    return session->more == NULL ? NULL : session->more->queue;
}

/** What sp_session_queue() shows of one with nothing on its way. */
extern const struct sp_queue sp_queue_empty;

/** To look at what is on its way. */
static inline const struct sp_queue *sp_session_queue(const struct sp_session *session)
{
    const struct sp_queue *queue = sp_session_own_queue(session);
    return queue == NULL ? &sp_queue_empty : queue;
}

/** Number its messages from now on, if that has not begun yet. NULL: no memory. */
struct sp_session_more *sp_session_numbers(const struct sp_home *home, struct sp_session *session);

/** Where a session begins to number now: above all that earlier ones have used. */
uint64_t sp_session_fresh_number(const struct sp_home *home);

/** Its subscription number 0..sub_count - 1. */
static inline struct sp_filter *sp_session_sub(const struct sp_session *session, uint32_t index)
{
    return session->sub_bits == 0 ? session->sub : session->subs[index];
}

/** The session of a device that has none. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_session_create(struct sp_home *home, struct sp_device *device,
                                            struct sp_session **out);

/** Its subscriptions go with it; what it held for a group goes to another member. NULL is fine. */
void sp_session_destroy(struct sp_home *home, struct sp_session *session);

/** A client is there: send again what it did not acknowledge, then what waits. */
void sp_session_attach(struct sp_home *home, struct sp_session *session, struct sp_client *client);

/** Note since when it is away, as far as there is memory; milliseconds since 1970; 0: it is there. */
void sp_session_left(struct sp_session *session, uint64_t wall_ms);

/** The groups of its shared subscriptions: give to others first while it is away. */
void sp_session_tell_groups(struct sp_home *home, struct sp_session *session, bool away);

/** The client is gone; what it did not acknowledge is kept. */
void sp_session_detach(struct sp_home *home, struct sp_session *session);

/**
 * A message for this session. QoS 0 is sent now or dropped; QoS 1 and 2 are sent as soon as the client's window has
 * room, and kept until they are acknowledged. A full queue drops it, counted.
 */
void sp_session_offer(struct sp_home *home, struct sp_session *session,
                      const struct sp_offer *offer);

/**
 * Put a delivery with its number, message, size and place behind all others. It is taken over, and gone after an error.
 * @param[in] sent On this connection already, as all before it.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_session_queue_up(struct sp_home *home, struct sp_session *session,
                                              struct sp_delivery *delivery, bool sent);

/**
 * A message out of the journal, behind all others.
 *
 * @param[in] offer `qos` is its own; no receipt.
 * @param[in] sent  The journal says that its device may have it: it is sent although it has expired.
 * @retval SP_ERR_NOMEM, SP_ERR_MALFORMED
 */
SP_MUST_CHECK enum sp_err sp_session_restore(struct sp_home *home, struct sp_session *session,
                                             const struct sp_offer *offer, uint64_t number,
                                             bool sent);

/** The journal has a message, or refused it. */
void sp_session_stored(struct sp_home *home, struct sp_session *session, uint64_t number,
                       bool durable);

/** `kept` has changed: who publishes has to know. */
void sp_session_mark_kept(struct sp_home *home, struct sp_session *session);

/** PUBACK, or PUBCOMP of a released one. @return false: no such packet is in flight. */
bool sp_session_acked(struct sp_home *home, struct sp_session *session, enum sp_mqtt_type type,
                      uint16_t packet_id);

/** PUBREC; `refused`: it ends the exchange. @return false: no such QoS 2 packet is in flight. */
bool sp_session_received(struct sp_home *home, struct sp_session *session, uint16_t packet_id,
                         bool refused);

/** The QoS 2 messages of the client that were taken and wait for PUBREL, by packet identifier. */
bool sp_session_took(const struct sp_session *session, uint16_t packet_id);
/** @retval SP_ERR_LIMIT `max` of them wait already. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_session_take(struct sp_session *session, uint16_t packet_id,
                                          uint32_t max);
/** PUBREL, or it was not taken after all. @return It was there. */
bool sp_session_release(struct sp_session *session, uint16_t packet_id);

/** Send what the window has room for. */
void sp_session_pump(struct sp_home *home, struct sp_session *session);

/**
 * @param[in]  wanted  QoS, options and identifier; the rest is filled in.
 * @param[out] existed It was there before.
 * @retval SP_ERR_LIMIT     Too many subscriptions.
 * @retval SP_ERR_MALFORMED `$share/` without a name and a filter behind it.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_session_subscribe(struct sp_home *home, struct sp_session *session,
                                               struct sp_view filter, struct sp_subscriber wanted,
                                               bool *existed);

/** Send what is retained under a filter to which it has just subscribed. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_session_replay(struct sp_home *home, struct sp_session *session,
                                            struct sp_view filter, uint8_t qos, uint32_t id);

/** @return It was there. */
bool sp_session_unsubscribe(struct sp_home *home, struct sp_session *session,
                            struct sp_view filter);

#endif
