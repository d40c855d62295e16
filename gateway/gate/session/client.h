/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One MQTT connection, from the finished TLS handshake to its end: plaintext in, plaintext out.
 *
 *     CONNECT ──► GUEST_5 ─────────────────► OPEN ──► CLOSED
 *        │  └───► GUEST_311 (CONNACK sent) ──► ↑
 *        └───────────── no attestation ────────┘
 *
 * Until OPEN a client is a guest: it holds its identity's guest place and changes nothing else (docs/protocol.md 2). Which
 * packets are in turn in which state is one table in client_in.c. The owner (gate/conn) embeds the struct, gives it
 * bytes, and looks after a turn at the list home->dirty for what is to be written or closed.
 */
#ifndef SP_GATEWAY_GATE_SESSION_CLIENT_H
#define SP_GATEWAY_GATE_SESSION_CLIENT_H

#include "gateway/gate/core/buf.h"
#include "gateway/gate/core/names.h"
#include "gateway/gate/core/peer.h"
#include "gateway/gate/session/home.h"
#include "gateway/metrics/metrics.h"
#include "libs/link/link.h"
#include "libs/mqtt/mqtt.h"

struct sp_aliases;
struct sp_visitor;

enum sp_client_state {
    SP_CLIENT_CONNECT,   /**< waits for CONNECT */
    SP_CLIENT_GUEST_5,   /**< MQTT 5: AUTH was sent, no verdict yet */
    SP_CLIENT_GUEST_311, /**< MQTT 3.1.1: CONNACK was sent, no verdict yet */
    SP_CLIENT_OPEN,      /**< admitted */
    SP_CLIENT_CLOSED,    /**< nothing is read any more; what is in `out` is to be written */
    SP_CLIENT_STATES
};

/** The challenge that is open, if any; there is at most one. */
enum sp_guard_state {
    SP_GUARD_IDLE,
    SP_GUARD_ASKED,      /**< keys was asked for a nonce */
    SP_GUARD_NONCE,      /**< a nonce is there; the challenge waits for room in the peer's window */
    SP_GUARD_CHALLENGED, /**< the token has to come before attest_due_ms */
    SP_GUARD_APPRAISING, /**< keys has the token */
};

/**
 * What a client has from its beginning to its admission, and later only while something is in flight: sp_client_work()
 * gives it one, sp_client_rest() takes it back.
 */
struct sp_client_work {
    struct sp_buf in;           /* an incomplete packet */
    struct sp_buf out;          /**< plaintext to be written; the owner consumes it */
    struct sp_buf unsent;       /**< the owner's: bytes that the socket did not take yet */
    struct sp_buf grant;        /* waits for room in the peer's window */
    uint64_t owner_due_ms;      /**< set by the owner, for home->due(); 0: never */
    struct sp_visitor *visitor; /**< the owner's, until it is admitted or closing; then NULL */
    uint64_t progress_ms;       /**< the owner's: when the socket took something of `unsent` last */
    struct sp_receipt *receipts; /* answers that wait for kept sessions, in order */
    union {
        uint8_t *nonce; /* SP_LINK_NONCE_LEN bytes until the challenge is sent */
        sp_ref next;    /* nobody's: home->spare */
    };
    uint64_t row_version;    /* of the registry's row; once it is OPEN, the session has it */
    uint64_t lines_until_ms; /* end of the minute in which `lines` are counted */
    uint64_t last_ticket;    /* of its last message for the store; looked at while `unacked` */
    uint16_t lines;          /* in the log, about single messages */
    uint16_t keep_alive_s;   /* as asked for */
    uint16_t unacked;        /* messages and PUBRELs of the peer that wait for their answer */
    uint16_t held;           /* answers in `receipts` */
    uint16_t unreleased;     /* QoS 2 messages of this connection that wait for their PUBREL */
    bool clean_start;        /* before OPEN, as the next three */
    bool assigned_id;
    bool wants_response; /* it asked for Response Information */
    bool blocked;        /* keys has refused too many of its tokens */
    bool resting; /**< it had its share of this turn: the owner reads no more until the next */
};

/** What few clients have, until their end. */
struct sp_client_more {
    struct sp_will *will;
    struct sp_name *group;      /* of the row; NULL: none */
    struct sp_aliases *aliases; /* MQTT 5, and it uses them; else NULL */
    uint32_t answer_timeout_ms; /* of the row; 0: the configuration's */
    struct sp_peer peer;        /* unless its address is an IPv4 one */
};

/* Most of what an idle device costs is here, so it is packed: what points at things in slabs is a ref, read and written by functions. */
struct sp_client {
    struct sp_home *home;
    struct sp_wheel_node deadline; /* in home->deadlines */
    /* What outlives a packet is carried over an upgrade: a field that is added here has its place in carry_out.c and carry_in.c. */
    uint64_t heard_ms;      /* last input; once stalled, when that was */
    uint64_t attest_due_ms; /* answer timeout or next challenge; UINT64_MAX: none */
    sp_ref next_dirty;
    sp_ref device_ref;   /* sp_client_device() */
    sp_ref session_ref;  /* sp_client_session() */
    sp_ref work_ref;     /* sp_client_now(), sp_client_work() */
    sp_ref more_ref;     /* sp_client_more(), sp_client_have_more() */
    uint32_t slot;       /* in home->clients, + 1; 0: none yet. sp_client_tag() */
    uint32_t max_packet; /* of the peer */
    uint32_t session_expiry_s;
    uint32_t debt;      /* of its bucket (gate/core/debt.h), as it was at heard_ms */
    uint8_t address[4]; /* for sp_client_peer(), as is the next */
    uint16_t port;
    uint16_t window;          /* QoS 1 and 2 messages that may be in flight to the peer */
    uint16_t receive_maximum; /* as CONNACK said */
    uint16_t keep_alive_s;    /* silent for half as long again it is closed; 0 before OPEN */
    uint16_t role;            /* sp_client_role() */
    unsigned state : 3;       /**< enum sp_client_state */
    unsigned guard : 3;       /* enum sp_guard_state */
    unsigned version : 3;     /* 0 before CONNECT, then enum sp_mqtt_version */
    unsigned attestation : 4; /* of the row, as are the next two */
    bool dirty : 1;
    bool paused : 1;  /* nothing of it is handled before something else has happened */
    bool stalled : 1; /* 3.1.1: paused for good, for a message that could not be stored */
    unsigned binding : 4;
    unsigned records : 4;
    unsigned unopened : 4; /* protected records that did not open */
    bool lost : 1;         /**< the transport is gone: nothing can be written */
    bool starved : 1;      /**< lost since there is no memory for it */
    bool linger : 1;       /**< we ended it: let the peer read why before the socket is closed */
    bool early : 1;        /**< set by the owner: the transport holds the beginning of more input */
    bool method : 1;       /* MQTT 5: the CONNECT named the method */
    bool attested : 1;     /* the last verdict was ok */
    bool again : 1;        /* challenge once more after this one */
    bool challenge_unacked : 1;
    bool nonce_open : 1; /* keys may hold an open nonce for this tag */
    bool judged : 1;     /* keys was given a token under this tag, and may hold a verdict */
    bool holding : 1;    /* paused until a protected record is stored: one at a time keeps order */
    bool keeping : 1; /* paused until its session is loaded, or what it changed in it is durable */
    bool grant_unacked : 1; /* a grant waits for its PUBACK */
    bool guest : 1;         /* it has its identity's place for guests */
    bool terse : 1;         /* it asked for no Reason Strings but with CONNACK and DISCONNECT */
    bool slowed : 1; /* the same, until its bucket has messages again (limits: message_rate) */
    bool fast : 1;   /* it has been slowed since its bucket was full */
    bool ipv4 : 1;   /* the peer's address is in `address`, and its port in `port` */
};
_Static_assert(SP_REF_IS_POINTER || sizeof(struct sp_client) == 88, "what an idle device costs");

/** Who it is: from sp_client_identify() to CLOSED; else NULL. */
static inline struct sp_device *sp_client_device(const struct sp_client *client)
{
    return sp_ref_get(client->device_ref);
}

/** While OPEN; else NULL. */
static inline struct sp_session *sp_client_session(const struct sp_client *client)
{
    return sp_ref_get(client->session_ref);
}

/** Once it has one, which keys says: client->role is not 0. */
static inline const struct sp_role_config *sp_client_role(const struct sp_client *client)
{
    return sp_home_role(client->home, client->role);
}

/** Names it to keys, store and the ring of acks; 0: it has no name yet, or none any more. */
static inline sp_slot_tag sp_client_tag(const struct sp_client *client)
{
    return client->slot == 0 ? 0 : sp_slots_tag(&client->home->clients, client->slot - 1);
}

/** Silence after which it is closed; 0: before OPEN. */
static inline uint32_t sp_client_silence_ms(const struct sp_client *client)
{
    return client->keep_alive_s * 1500U;
}

/** What is in flight; NULL: nothing. */
static inline struct sp_client_work *sp_client_in_flight(const struct sp_client *client)
{
    return sp_ref_get(client->work_ref);
}

/** NULL: it has nothing of it. */
static inline struct sp_client_more *sp_client_own_more(const struct sp_client *client)
{
    return sp_ref_get(client->more_ref);
}

/** What sp_client_now() shows of one with nothing in flight. */
extern const struct sp_client_work sp_client_idle;

/** To look at what is in flight. */
static inline const struct sp_client_work *sp_client_now(const struct sp_client *client)
{
    return client->work_ref == 0 ? &sp_client_idle : sp_ref_at(client->work_ref);
}

/** What sp_client_more() shows of one that has nothing of it. */
extern const struct sp_client_more sp_client_plain;

/** To look at what few have. */
static inline const struct sp_client_more *sp_client_more(const struct sp_client *client)
{
    return client->more_ref == 0 ? &sp_client_plain : sp_ref_at(client->more_ref);
}

/** To change it. NULL: no memory. */
struct sp_client_more *sp_client_have_more(struct sp_client *client);

/** Where it is connected from: set by the owner. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_client_set_peer(struct sp_client *client, const struct sp_peer *peer);
struct sp_peer sp_client_peer(const struct sp_client *client);

/** As sp_peer_format(). */
const char *sp_client_peer_text(const struct sp_client *client, char *out);

/** Takes the will of its CONNECT, also with an error; NULL: it has none. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_client_keep_will(struct sp_client *client, struct sp_will *will);

/** The row's own time to answer a challenge; 0: the configuration's. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_client_keep_timeout(struct sp_client *client, uint32_t answer_ms);

/** To change what is in flight: there always is one before OPEN, and while input is handled. NULL: no memory. */
struct sp_client_work *sp_client_work(struct sp_client *client);

/** The owner has written what was in `out`. */
void sp_client_written(struct sp_client *client);

/**
 * At the end of a turn: give back what is not needed while nothing is in flight. One that has had its share of the turn is
 * settled again in the next.
 */
void sp_client_rest(struct sp_client *client);

/* ---- for the owner ---- */

/**
 * Zeroed storage of which only the owner knows: it has sp_client_work, a deadline (sp_client_arm()), and a home that may change while there is
 * no deadline.
 */
void sp_client_prepare(struct sp_client *client, struct sp_home *home);

/**
 * Zeroed or prepared storage becomes a client with a tag.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_client_init(struct sp_client *client, struct sp_home *home);

/**
 * keys knows the identity. After an error the client must not go on.
 * @retval SP_ERR_NOT_FOUND The row's role is not in the configuration.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_client_identify(struct sp_client *client, struct sp_view identity,
                                             const struct sp_msg_psk_answer *answer);

/** Its deadline has come: do what is due, and set it anew. */
void sp_client_due(struct sp_client *client);

/** Decrypted bytes, borrowed for the call. */
void sp_client_input(struct sp_client *client, struct sp_view bytes);

/** The owner may read; else what comes is not handled before later. */
static inline bool sp_client_reads(const struct sp_client *client)
{
    return !client->paused && !client->slowed;
}

/** The transport is gone without a word from the client. */
void sp_client_lost(struct sp_client *client);

/** There is no memory to go on with it: its owner ends it after this turn, and counts it. */
void sp_client_starve(struct sp_client *client);

/** What waited in the socket was written: queued messages may follow. */
void sp_client_writable(struct sp_client *client);

/** Handle what waited in `in` while the client was paused; the owner calls it for each dirty client. */
void sp_client_resume(struct sp_client *client);

/** The gateway stops. */
void sp_client_shutdown(struct sp_client *client);

/** Close if need be, give back everything and the tag. */
void sp_client_deinit(struct sp_client *client);

/** A new turn: those that have had their share of the last are dirty again. */
void sp_client_wake_all(struct sp_home *home);

/** Free what sp_client_rest() has kept to be used again. */
void sp_client_trim(struct sp_home *home);

/** Give back all that is in flight and what few have, as sp_client_deinit() does; for one that never got a tag. */
void sp_client_free_work(struct sp_client *client);

/** Take the next client off home->dirty; NULL at the end. */
struct sp_client *sp_client_take_dirty(struct sp_home *home);

/** The version of its row. */
uint64_t sp_client_row(const struct sp_client *client);

/** Put a new one into a group, by name; empty: none. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_client_join(struct sp_client *client, struct sp_view group);

/** Of the row of its identity; empty: none. */
struct sp_view sp_client_group(const struct sp_client *client);

/** Empty before sp_client_identify() and after CLOSED. */
struct sp_view sp_client_identity(const struct sp_client *client);

/* ---- for the rest of the gate ---- */

/** Why a client is closed: one counter, one log line, one code on the wire. */
struct sp_refusal {
    enum sp_metric metric;
    const char *event;
    const char *check;  /**< field `check`; may be NULL */
    const char *detail; /**< field `detail`; may be NULL */
    const char *reason; /**< MQTT 5 Reason String; may be NULL */
    uint8_t code;       /**< CONNACK before OPEN, DISCONNECT afterwards */
    bool untrusted;     /**< its will is not published */
    bool end_session;   /**< whatever expiry it asked for */
};

/** Count, log, say it on the wire, close. Nothing happens to one that is closed already. */
void sp_client_refuse(struct sp_client *client, const struct sp_refusal *refusal);

/** The same for malformed and out-of-turn packets. */
void sp_client_protocol_error(struct sp_client *client, uint8_t code, const char *detail);

/** The same with the code for what a decoder of libs/mqtt said. */
void sp_client_malformed(struct sp_client *client, enum sp_err err, const char *packet);

/** The client ends it, or is lost. `with_will`: not by a plain DISCONNECT. */
void sp_client_end(struct sp_client *client, bool with_will);

/** Everything is in order: it becomes the client of its identity. */
void sp_client_admit(struct sp_client *client);

/** What this answers was stored, or refused (its `reason`). */
void sp_client_stored(struct sp_client *client, const struct sp_client_answer *answer);

/** Some that its answers wait for have settled: say what can be said. */
void sp_client_receipted(struct sp_client *client);

/** As sp_client_acknowledge() with success, once a receipt is settled; 0: there is none. */
void sp_client_accept(struct sp_client *client, const struct sp_mqtt_publish *publish,
                      sp_slot_tag receipt);

/** PUBACK or PUBREC now, or in its turn behind those that wait for the store. */
void sp_client_acknowledge(struct sp_client *client, const struct sp_mqtt_publish *publish,
                           uint8_t reason);

/** A PUBREL cannot be stored: close. */
void sp_client_no_release(struct sp_client *client);

/** It has published a message of those that its role's message_rate counts. */
void sp_client_count(struct sp_client *client);

/** Its role has changed: it may publish one message at least, whatever it has published before. */
void sp_client_recount(struct sp_client *client);

/** A 3.1.1 client's message cannot be stored: read no more, close in 10 s (docs/protocol.md 3.5). */
void sp_client_stall(struct sp_client *client);

/** QoS 1 and 2 messages that may be in flight to it now. */
uint16_t sp_client_window(const struct sp_client *client);

/** Another `size` bytes may be queued for writing. */
bool sp_client_room(struct sp_client *client, size_t size);

/** The peer accepts packets of that size. */
bool sp_client_fits(const struct sp_client *client, const struct sp_mqtt_publish *publish);

/** Queue packets. Out of memory ends the client. */
void sp_client_publish(struct sp_client *client, const struct sp_mqtt_publish *publish);
void sp_client_send_connack(struct sp_client *client, const struct sp_mqtt_connack *connack);
void sp_client_send_ack(struct sp_client *client, enum sp_mqtt_type type, uint16_t packet_id,
                        uint8_t reason);
void sp_client_send_suback(struct sp_client *client, enum sp_mqtt_type type,
                           const struct sp_mqtt_suback *suback);
void sp_client_send_reasoned(struct sp_client *client, enum sp_mqtt_type type,
                             const struct sp_mqtt_reasoned *reasoned);

/** A QoS 0 PUBLISH under `$sp/`. */
void sp_client_tell(struct sp_client *client, const char *topic, struct sp_view payload);

/** keys sends an app key for this client: SP_MSG_GRANT, published on `$sp/key/grant` once there is room. */
void sp_client_grant(struct sp_client *client, struct sp_view grant);

/** Send a grant that waited for room. */
void sp_client_pump_grant(struct sp_client *client);

/** A line in the log about one message of this client: so many a minute, then one that says so, then none. */
bool sp_client_may_log(struct sp_client *client);

/** Put it on home->dirty. */
void sp_client_mark(struct sp_client *client);

/** Set the deadline to the earliest of keep-alive, attestation and what the owner waits for. */
void sp_client_arm(struct sp_client *client);

/** For home->deadlines: when that is, and that it has come. */
uint64_t sp_client_deadline(const struct sp_wheel_node *node);
void sp_client_fire(struct sp_wheel_node *node);

/** The packets that a state lets in; each gets a whole body. */
typedef void (*sp_packet_fn)(struct sp_client *client, const struct sp_mqtt_header *header,
                             struct sp_view body);

void sp_on_connect(struct sp_client *client, const struct sp_mqtt_header *header,
                   struct sp_view body);
void sp_on_publish(struct sp_client *client, const struct sp_mqtt_header *header,
                   struct sp_view body);
void sp_on_guest_publish(struct sp_client *client, const struct sp_mqtt_header *header,
                         struct sp_view body);
/** PUBACK and PUBCOMP. */
void sp_on_ack(struct sp_client *client, const struct sp_mqtt_header *header, struct sp_view body);
void sp_on_pubrec(struct sp_client *client, const struct sp_mqtt_header *header,
                  struct sp_view body);
void sp_on_pubrel(struct sp_client *client, const struct sp_mqtt_header *header,
                  struct sp_view body);
void sp_on_subscribe(struct sp_client *client, const struct sp_mqtt_header *header,
                     struct sp_view body);
void sp_on_guest_subscribe(struct sp_client *client, const struct sp_mqtt_header *header,
                           struct sp_view body);
void sp_on_unsubscribe(struct sp_client *client, const struct sp_mqtt_header *header,
                       struct sp_view body);
void sp_on_guest_auth(struct sp_client *client, const struct sp_mqtt_header *header,
                      struct sp_view body);

#endif
