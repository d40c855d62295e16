/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The client side of one MQTT connection as a state machine: no I/O, clock, heap or global.
 *
 * The caller owns the transport, the receive buffer, the messages and the time. A connection goes so:
 *
 *     sp_mqtt_client_init()                    once
 *     sp_mqtt_client_connect()                 after each TCP and TLS set-up, then send what it wrote
 *     loop: sp_mqtt_client_input()             for every packet received: one event
 *           sp_mqtt_client_publish(), …        whatever the application wants
 *           sp_mqtt_client_tick()              at the latest at sp_mqtt_client_deadline()
 *     sp_mqtt_client_disconnect()              or
 *     sp_mqtt_client_close()                   when the transport broke
 *
 * QoS 0 and 1 in both directions; MQTT 5 and 3.1.1. A QoS 1 message stays in the caller's journal under
 * a `cookie` until the event PUBACK returns that cookie; the client itself keeps 16 bytes for it, in the
 * caller's slot array, in sending order. What was not acknowledged when a connection ended is sent again
 * by the caller on the next one, before anything new: see sp_mqtt_client_unsent().
 *
 * Every function that writes takes a writer into which several packets may be put one behind the other.
 * On any error the writer and the client are as they were, unless said otherwise. `now_ms` is a
 * monotonic clock in milliseconds, never going back; any origin will do.
 *
 * One client belongs to one thread at a time. Stack: under 1 KiB, apart from sp_mqtt_connect and
 * sp_mqtt_event which the caller places.
 */
#ifndef SP_LIBS_MQTT_CLIENT_H
#define SP_LIBS_MQTT_CLIENT_H

#include "libs/mqtt/mqtt.h"

#define SP_MQTT_CLIENT_REQUESTS  8U         /**< SUBSCRIBE and UNSUBSCRIBE that may wait at once */
#define SP_MQTT_CLIENT_SLOTS_MAX 65000U     /**< largest slot_count */
#define SP_MQTT_CLIENT_NEVER     UINT64_MAX /**< no deadline */

enum sp_mqtt_client_state {
    SP_MQTT_CLIENT_IDLE,       /**< no connection, or it ended: only connect() helps */
    SP_MQTT_CLIENT_CONNECTING, /**< CONNECT written, AUTH may go to and fro, no CONNACK yet */
    SP_MQTT_CLIENT_UP,         /**< CONNACK with success seen */
};

/** What sp_mqtt_client_tick() missed. */
enum sp_mqtt_client_late {
    SP_MQTT_LATE_NOTHING,
    SP_MQTT_LATE_CONNACK,  /**< no CONNACK connect_timeout_ms after CONNECT */
    SP_MQTT_LATE_PINGRESP, /**< no PINGRESP ping_timeout_ms after PINGREQ */
    SP_MQTT_LATE_PUBACK,   /**< the oldest message was not acknowledged in ack_timeout_ms */
    SP_MQTT_LATE_SUBACK,   /**< nor was a SUBSCRIBE or UNSUBSCRIBE */
};

/** One QoS 1 message on its way. Fields are for the client only. */
struct sp_mqtt_slot {
    uint64_t cookie;
    uint32_t sent_ms; /* low 32 bits of the time it was last sent */
    bool acked;       /* acknowledged before an older one was */
};

struct sp_mqtt_client_opts {
    /** Borrowed for the life of the client; need not be initialized. */
    struct sp_mqtt_slot *slots;
    /** Own window: QoS 1 messages on their way, 0..SP_MQTT_CLIENT_SLOTS_MAX. */
    uint16_t slot_count;
    /** Largest packet taken from the server, at least 64 bytes; told in an MQTT 5 CONNECT. */
    uint32_t max_packet;
    /** CONNECT to CONNACK, the AUTH exchange included; 0 = no limit. */
    uint32_t connect_timeout_ms;
    /** PINGREQ to PINGRESP; 0 = no limit. */
    uint32_t ping_timeout_ms;
    /** PUBLISH to PUBACK, SUBSCRIBE to SUBACK; 0 = no limit; below 2^31. */
    uint32_t ack_timeout_ms;
};

/** What the server allows; from CONNACK, else MQTT's defaults. */
struct sp_mqtt_limits {
    uint32_t max_packet_size;     /**< bytes of a whole packet; UINT32_MAX = no limit told */
    uint32_t session_expiry;      /**< seconds, in force: what we asked for or what CONNACK says */
    uint16_t receive_maximum;     /**< QoS 1 messages without PUBACK; 65535 if not told */
    uint16_t topic_alias_maximum; /**< 0 = none */
    uint16_t keep_alive;          /**< seconds, in force: ours or Server Keep Alive; 0 = off */
    uint8_t maximum_qos;          /**< 0, 1, 2 */
    bool retain_available;
    bool wildcard_available;
    bool shared_available;
    bool subscription_id_available;
};

/** Caller's storage. `state`, `limits`, `late`, `challenges` may be read; the rest is private. */
struct sp_mqtt_client {
    enum sp_mqtt_client_state state;
    enum sp_mqtt_client_late
        late; /**< why sp_mqtt_client_tick() returned SP_ERR_CLOSED; until close() */
    enum sp_mqtt_version version;
    uint16_t challenges;          /**< AUTH packets from the server on this connection */
    struct sp_mqtt_limits limits; /**< valid while state is UP */
    struct sp_mqtt_client_opts opts;
    struct sp_view method; /* borrowed from the caller's CONNECT */
    bool clean_start;
    bool session_resumed;
    bool ping_sent;
    bool challenge_open;
    uint16_t own_receive_maximum;
    uint16_t received;  /* QoS 1 messages not acknowledged by us */
    uint16_t head;      /* ring of slots: index of the oldest … */
    uint16_t used;      /* … how many are in the ring … */
    uint16_t sent;      /* … how many of them went out on this connection … */
    uint16_t in_flight; /* … and how many of those wait for PUBACK */
    uint16_t head_id;   /* packet id of the oldest; the others count up from it */
    struct {
        uint32_t sent_ms;
        uint16_t filters;
        uint8_t type; /* 0 = free, else SP_MQTT_SUBSCRIBE or SP_MQTT_UNSUBSCRIBE */
    } requests[SP_MQTT_CLIENT_REQUESTS];
    uint64_t connect_ms;
    uint64_t last_out_ms;
    uint64_t last_in_ms;
    uint64_t ping_ms;
};
_Static_assert(sizeof(struct sp_mqtt_client) <= 320,
               "said to be small; 4 KiB of slots beside it is usual");
_Static_assert(sizeof(struct sp_mqtt_slot) <= 16, "documented above");

enum sp_mqtt_event_type {
    /** A packet that needs nobody's attention (PINGRESP). */
    SP_MQTT_EVENT_NONE,
    /** Connected: `connack`, `unchallenged`; client.limits are valid now. */
    SP_MQTT_EVENT_CONNECTED,
    /** CONNACK that refuses: `connack.reason`. Close the transport. */
    SP_MQTT_EVENT_REFUSED,
    /** AUTH 0x18: `auth.props.auth_data` (may be empty). Answer with sp_mqtt_client_auth(). */
    SP_MQTT_EVENT_CHALLENGE,
    /** A message: `publish`. With QoS 1: call sp_mqtt_client_ack() for it now or later. */
    SP_MQTT_EVENT_MESSAGE,
    /** PUBACK: `cookie` and `ack.reason`; ≥ 0x80 means the server refused the message. Its slot is free. */
    SP_MQTT_EVENT_PUBACK,
    /** SUBACK: `suback.packet_id`, `suback.codes` (one per filter; ≥ 0x80 = refused). */
    SP_MQTT_EVENT_SUBACK,
    /** UNSUBACK: `suback.packet_id`; `suback.codes` is empty in 3.1.1. */
    SP_MQTT_EVENT_UNSUBACK,
    /** MQTT 5 DISCONNECT from the server: `disconnect.reason`. Close the transport. */
    SP_MQTT_EVENT_DISCONNECTED,
};

/** One event. All views are borrowed from the input given to sp_mqtt_client_input(). */
struct sp_mqtt_event {
    enum sp_mqtt_event_type type;
    /** CONNECTED: we sent an authentication method, and the server did not challenge, or did not wait for
     *  the answer. A device must close. */
    bool unchallenged;
    uint64_t cookie; /**< PUBACK: what sp_mqtt_client_publish() was given */
    union {
        struct sp_mqtt_connack connack;
        struct sp_mqtt_reasoned auth;
        struct sp_mqtt_reasoned disconnect;
        struct sp_mqtt_publish publish;
        struct sp_mqtt_ack ack;
        struct sp_mqtt_suback suback;
    };
};

/**
 * @param[in] opts Copied; its slots are borrowed.
 * @retval SP_ERR_ARGUMENT max_packet below 64, or too many slots.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_init(struct sp_mqtt_client *c,
                                              const struct sp_mqtt_client_opts *opts);

/**
 * Begin a connection: writes CONNECT. Allowed in every state; what an earlier connection left behind is
 * dropped, apart from the messages that wait to be sent again.
 *
 * @param[in] packet Version, client id, clean start, keep alive, will, user name and password, and for MQTT 5 the
 *                   properties (session expiry, receive maximum, authentication method, …). Maximum Packet Size
 *                   is filled in by the client from opts.max_packet; Topic Alias Maximum must be absent or 0.
 *                   Borrowed for the call, but the bytes of `props.auth_method` for the whole connection.
 * @retval SP_ERR_ARGUMENT Topic Alias Maximum set, or something that cannot be encoded.
 * @retval SP_ERR_SPACE    It does not fit into `w`.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_connect(struct sp_mqtt_client *c, uint64_t now_ms,
                                                 const struct sp_mqtt_connect *packet,
                                                 struct sp_writer *w);

/**
 * Take one packet from the bytes received.
 *
 * @param[in]  in    Everything received and not yet taken; may be empty.
 * @param[out] size  SP_OK: how many bytes of `in` the packet was; drop them when done with the event.
 *                   SP_ERR_AGAIN: how many bytes `in` must have before calling again makes sense, > in.len and
 *                   ≤ opts.max_packet. Otherwise untouched.
 * @param[out] event Filled on SP_OK.
 * @retval SP_ERR_AGAIN     The packet is not complete.
 * @retval SP_ERR_MALFORMED The server's bytes break the format.
 * @retval SP_ERR_PROTOCOL  The server broke the rules: a packet out of turn, an acknowledgement nobody asked for, more
 *                          messages than our Receive Maximum, QoS 2, a topic alias, another authentication method.
 * @retval SP_ERR_LIMIT     A packet above opts.max_packet; seen as soon as its header is there.
 * @retval SP_ERR_STATE     No connection.
 * After any error but SP_ERR_AGAIN write sp_mqtt_client_disconnect(sp_mqtt_client_reason(err)), send it, and close.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_input(struct sp_mqtt_client *c, uint64_t now_ms,
                                               struct sp_view in, size_t *size,
                                               struct sp_mqtt_event *event);

/** The MQTT 5 reason code to disconnect with for an error of sp_mqtt_client_input(). */
uint8_t sp_mqtt_client_reason(enum sp_err err);

/**
 * Answer a challenge: writes AUTH 0x18 with the method of CONNECT and `data`.
 *
 * @retval SP_ERR_STATE No challenge is open.
 * @retval SP_ERR_SPACE It does not fit into `w`.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_auth(struct sp_mqtt_client *c, uint64_t now_ms,
                                              struct sp_view data, struct sp_writer *w);

/**
 * Send a message. `packet->dup` and `packet->packet_id` are not looked at.
 *
 * @param[in] cookie QoS 1: returned by the event PUBACK; any value.
 * @retval SP_ERR_STATE       Not connected, or older messages must be sent again first (sp_mqtt_client_unsent()).
 * @retval SP_ERR_AGAIN       QoS 1: the window (ours or the server's) is full; try again after a PUBACK.
 * @retval SP_ERR_SPACE       It does not fit into `w` now.
 * @retval SP_ERR_LIMIT       Larger than the server's Maximum Packet Size: will never go on this connection.
 * @retval SP_ERR_UNSUPPORTED QoS 2, or QoS or RETAIN that the server does not have.
 * @retval SP_ERR_ARGUMENT    Bad topic, an alias above the server's maximum, or not encodable.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_publish(struct sp_mqtt_client *c, uint64_t now_ms,
                                                 const struct sp_mqtt_publish *packet,
                                                 uint64_t cookie, struct sp_writer *w);

/** QoS 1 messages that sp_mqtt_client_publish() would take now; 0 when not connected. */
size_t sp_mqtt_client_window(const struct sp_mqtt_client *c);

/**
 * The oldest message that was not acknowledged on an earlier connection and has not been sent on this one.
 * After CONNECTED, with or without a resumed session, the caller walks them in order:
 *
 *     while (sp_mqtt_client_unsent(c, &cookie)) { find the message; sp_mqtt_client_resend() or _skip(); }
 *
 * @return false when there is none: new messages may go.
 */
bool sp_mqtt_client_unsent(const struct sp_mqtt_client *c, uint64_t *cookie);

/**
 * Send that message again, under its old packet id, and with DUP if the server resumed the session. Errors as
 * for sp_mqtt_client_publish(); SP_ERR_ARGUMENT also for QoS 0, SP_ERR_STATE when there is none.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_resend(struct sp_mqtt_client *c, uint64_t now_ms,
                                                const struct sp_mqtt_publish *packet,
                                                struct sp_writer *w);

/** Give that message up: its slot is freed. Nothing happens when there is none. */
void sp_mqtt_client_skip(struct sp_mqtt_client *c);

/** Give up all messages on their way, for a caller who sends them again from its journal as new ones.
 *  Only between connections. @retval SP_ERR_STATE A connection is open. */
SP_MUST_CHECK enum sp_err sp_mqtt_client_forget(struct sp_mqtt_client *c);

/**
 * Acknowledge a QoS 1 message of this connection: writes PUBACK.
 *
 * @param[in] reason 0, or an MQTT 5 reason code; 3.1.1 has none, it is left out.
 * @retval SP_ERR_STATE    Not connected, or no message waits for an acknowledgement.
 * @retval SP_ERR_ARGUMENT packet_id 0.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_ack(struct sp_mqtt_client *c, uint64_t now_ms,
                                             uint16_t packet_id, uint8_t reason,
                                             struct sp_writer *w);

/**
 * Subscribe, or unsubscribe (of the filters only the names count).
 *
 * @param[in]  count     1..65535 filters.
 * @param[out] packet_id Comes back in the event SUBACK or UNSUBACK.
 * @retval SP_ERR_STATE    Not connected.
 * @retval SP_ERR_AGAIN    SP_MQTT_CLIENT_REQUESTS are waiting already.
 * @retval SP_ERR_LIMIT    Larger than the server's Maximum Packet Size.
 * @retval SP_ERR_ARGUMENT An invalid filter, QoS above 1, count 0.
 * @retval SP_ERR_SPACE    It does not fit into `w`.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_subscribe(struct sp_mqtt_client *c, uint64_t now_ms,
                                                   const struct sp_mqtt_filter *filters,
                                                   size_t count, struct sp_writer *w,
                                                   uint16_t *packet_id);
SP_MUST_CHECK enum sp_err sp_mqtt_client_unsubscribe(struct sp_mqtt_client *c, uint64_t now_ms,
                                                     const struct sp_mqtt_filter *filters,
                                                     size_t count, struct sp_writer *w,
                                                     uint16_t *packet_id);

/**
 * Do what is due: writes PINGREQ when nothing went one way or the other for 7/8 of the keep alive time.
 *
 * @retval SP_ERR_CLOSED The server is silent where it must not be: `c->late` says what is missing. Close.
 * @retval SP_ERR_SPACE  PINGREQ does not fit into `w`; call again soon.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_tick(struct sp_mqtt_client *c, uint64_t now_ms,
                                              struct sp_writer *w);

/** When sp_mqtt_client_tick() has something to do next; SP_MQTT_CLIENT_NEVER without a connection. */
uint64_t sp_mqtt_client_deadline(const struct sp_mqtt_client *c);

/**
 * Write DISCONNECT (5: with `reason`, e.g. SP_MQTT_RC_DISCONNECT_WITH_WILL; 3.1.1: only for reason 0, otherwise
 * nothing is written and closing alone makes the server publish the will) and end the connection. The state is
 * IDLE afterwards, whatever is returned. @retval SP_ERR_STATE There was none. @retval SP_ERR_SPACE Not written.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_client_disconnect(struct sp_mqtt_client *c, uint8_t reason,
                                                    struct sp_writer *w);

/** The transport is gone. Messages without PUBACK wait for the next connection. Fine in every state. */
void sp_mqtt_client_close(struct sp_mqtt_client *c);

#endif
