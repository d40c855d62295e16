/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Messages on their way to the store process: batches, tickets, and the acknowledgements that wait for them.
 *
 * A QoS 1 message gets a ticket, and its PUBACK waits in a ring until the store says that the ticket is durable. Acks of
 * messages that need no ticket queue up behind those of the same client, so that PUBACKs keep the order of their
 * PUBLISHes (MQTT 5, 4.6.0-2).
 */
#ifndef SP_GATEWAY_GATE_ROUTE_TICKETS_H
#define SP_GATEWAY_GATE_ROUTE_TICKETS_H

#include "gateway/gate/core/buf.h"
#include "gateway/gate/core/slots.h"
#include "gateway/proc/messages.h"

struct sp_home;
struct sp_mark;

/** A way to another process. */
struct sp_edge {
    /** As sp_channel_send(); NULL while the other end is down. */
    enum sp_err (*send)(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                        size_t count);
    void *arg;
};

/** @retval SP_ERR_CLOSED The other end is down. */
SP_MUST_CHECK enum sp_err sp_edge_send(const struct sp_edge *edge, uint16_t type, uint64_t tag,
                                       const struct sp_view *parts, size_t count);

/** PUBACK, PUBREC or PUBCOMP. */
struct sp_client_answer {
    sp_slot_tag receipt; /**< of kept sessions that it waits for too; 0: none */
    uint16_t packet_id;
    uint8_t reason;
    uint8_t type; /**< enum sp_mqtt_type */
};

struct sp_ticket_ack {
    uint64_t ticket;    /* released when this one is durable */
    sp_slot_tag client; /* 0: nobody waits */
    struct sp_client_answer answer;
    bool stored;          /* the ticket is its own: a refusal is its refusal */
    struct sp_mark *mark; /* moves when the ticket is durable; may be NULL */
};

struct sp_tickets {
    struct sp_edge store;
    size_t waiting;    /**< bytes in the channel, set by the owner after each turn */
    size_t taken;      /**< bytes since then: the owner sets it to 0 */
    uint32_t pressure; /**< as in struct sp_msg_pressure */
    /* private */
    struct sp_buf batch;
    uint32_t batch_count;
    uint64_t last_ticket;
    struct sp_ticket_ack *ring;
    size_t ring_cap; /* a power of two, or 0 */
    size_t ring_head;
    size_t ring_count;
};

/** One message; all views are borrowed for the call. */
struct sp_tickets_message {
    struct sp_view device;
    struct sp_view topic;  /**< as the cloud will see it */
    struct sp_view origin; /**< as the device published it */
    struct sp_view payload;
    uint32_t expiry_s; /**< 0: none */
    uint8_t qos;       /**< 0 or 1, towards the cloud */
    uint8_t format;    /**< enum sp_format */
    uint8_t protection;
    uint8_t flags;   /**< SP_RECORD_* */
    uint8_t refusal; /**< enum sp_record_refusal, with SP_RECORD_REFUSED */
    bool
        twice; /**< the device published with QoS 2: PUBREC is its answer, and the packet id is kept */
    struct sp_mark *mark; /**< of an opened record: moves with it; NULL: none */
    uint64_t counter;     /**< to where; 0 without a mark */
};

/** The store takes messages of this QoS now. */
bool sp_tickets_takes(const struct sp_tickets *tickets, uint8_t qos);

/**
 * Add a message to the batch of this turn. With QoS 1, `client` gets sp_client_stored() for `packet_id` later. With
 * SP_RECORD_RELEASE it is a PUBREL, and the answer PUBCOMP.
 * @retval SP_ERR_NOMEM Nothing was added.
 */
SP_MUST_CHECK enum sp_err sp_tickets_put(struct sp_home *home,
                                         const struct sp_tickets_message *message,
                                         sp_slot_tag client, uint16_t packet_id);

/** Keep a mark that no message carries to the store, as soon as it can be; it moves at once. */
void sp_tickets_mark(struct sp_home *home, struct sp_mark *mark, uint64_t counter);

/** sp_client_stored() with `reason` once everything before it is answered. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_tickets_follow(struct sp_home *home, sp_slot_tag client,
                                            const struct sp_client_answer *answer);

/** The answer that was put in last waits for a receipt too. */
void sp_tickets_receipt(struct sp_home *home, sp_slot_tag receipt);

/** Send the batch; once per turn. */
void sp_tickets_flush(struct sp_home *home);

/** SP_MSG_DURABLE. @retval SP_ERR_MALFORMED A ticket that was never given. */
SP_MUST_CHECK enum sp_err sp_tickets_durable(struct sp_home *home,
                                             const struct sp_msg_durable *durable);

/** The store process is gone: all that waits is refused. */
void sp_tickets_lost(struct sp_home *home);

/** A new store process. */
void sp_tickets_connected(struct sp_home *home, const struct sp_edge *store);

void sp_tickets_deinit(struct sp_tickets *tickets);

#endif
