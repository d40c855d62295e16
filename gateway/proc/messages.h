/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Every message between the processes of one gateway.
 *
 * Bodies are the structs below, copied as they are (one machine, one build), followed by the variable parts
 * that the struct's lengths announce. A receiver checks every length and every enumeration: the sender may
 * have been taken over.
 *
 * Channels: each gate loop has one to keys and one to store. Order is kept within a channel.
 */
#ifndef SP_GATEWAY_PROC_MESSAGES_H
#define SP_GATEWAY_PROC_MESSAGES_H

#include "libs/attest/attest.h"
#include "libs/link/link.h"

#define SP_PSK_MAX        64U
#define SP_ROLE_NAME_MAX  32U
#define SP_GROUP_NAME_MAX 33U /**< with the NUL */
#define SP_EPOCHS_MAX     64U /**< of one group that are accepted at a time */

enum sp_message {
    /* gate → keys; `tag` names the connection within its loop, never reused while it is open */
    SP_MSG_PSK = 1,  /**< body: the identity as sent on the wire → SP_MSG_PSK_ANSWER */
    SP_MSG_NONCE,    /**< body: struct sp_msg_nonce → SP_MSG_NONCE_ANSWER */
    SP_MSG_APPRAISE, /**< body: struct sp_msg_appraise + token → SP_MSG_VERDICT */
    SP_MSG_FORGET,   /**< no body: the connection is gone, drop its open nonce and its verdict */
    /* keys → gate */
    SP_MSG_PSK_ANSWER,   /**< struct sp_msg_psk_answer */
    SP_MSG_NONCE_ANSWER, /**< struct sp_msg_nonce_answer */
    SP_MSG_VERDICT,      /**< struct sp_msg_verdict */
    SP_MSG_REVOKED, /**< body: identity; close it with 0x98 (revoked, removed, rotated or its row changed), and end its
                         session, unless they are of the row with version `tag`; 0: there is no row */
    SP_MSG_POLICY_CHANGED, /**< no body: re-attest every attested device */
    /* gate → store */
    SP_MSG_APPEND, /**< records, each struct sp_msg_record + parts, back to back; `tag` = count */
    SP_MSG_COMMAND_TAKEN, /**< no body: the command with this tag is with its receivers, or kept for them */
    /* store → gate */
    SP_MSG_DURABLE,  /**< struct sp_msg_durable */
    SP_MSG_PRESSURE, /**< struct sp_msg_pressure */
    SP_MSG_COMMAND, /**< struct sp_msg_command + topic + payload; answered with COMMAND_TAKEN or _REFUSED if qos > 0 */
    SP_MSG_MARKS, /**< struct sp_msg_mark, back to back; `tag` 1 with the last ones of those on disk */
    /* gate → keys */
    SP_MSG_GRANT_READY, /**< no body: the connection is admitted and can take app keys */
    SP_MSG_GRANT_ACK,   /**< struct sp_msg_grant_ack + acknowledgement, as the device sent it */
    /* keys → gate */
    SP_MSG_GRANT, /**< body: a grant for the connection with this tag, to be published as it is */
    SP_MSG_GROUPS, /**< struct sp_msg_epoch, back to back: all groups there are, in place of earlier ones */
    /* gate ⇄ store: sessions that outlive a connection (docs/decisions/0006-durable-sessions.md) */
    SP_MSG_KEPT_LOAD, /**< gate → store, no body: send all there are */
    SP_MSG_KEPT, /**< struct sp_msg_kept + parts, back to back (gateway/proc/kept.h). Gate → store: what changes;
                      store → gate: what there is, with a `tag` of SP_KEPT_FIRST or _LAST */
    SP_MSG_COMMAND_REFUSED, /**< gate → store, no body: a receiver's queue is full, or cannot be stored now */
    SP_MSG_KEPT_DURABLE, /**< store → gate: struct sp_msg_durable, for the tickets of SP_MSG_KEPT */
};

enum sp_attestation_mode {
    SP_ATTESTATION_REQUIRED = 0,
    SP_ATTESTATION_OPTIONAL = 1,
    SP_ATTESTATION_NONE = 2,
};

/** Suite sets (docs/protocol.md 1), as bits. */
#define SP_SUITES_PROFILE_SMALL   1U
#define SP_SUITES_FORWARD_SECRET  2U
#define SP_SUITES_ALL             4U
#define SP_SUITES_NULL_ENCRYPTION 8U

/** What a device may put into dt/<itself>/climate. Stronger than clear comes with app keys. */
enum sp_records { SP_RECORDS_ANY = 0, SP_RECORDS_MAC = 1, SP_RECORDS_SEALED = 2 };

/** How one device is to be treated: the registry's row without its secrets. */
struct sp_device_row {
    char role[SP_ROLE_NAME_MAX]; /**< NUL-terminated */
    uint8_t attestation;         /**< enum sp_attestation_mode */
    uint8_t binding;             /**< enum sp_link_binding */
    uint8_t records;             /**< enum sp_records */
    uint8_t reserved;
    uint32_t suites; /**< SP_SUITES_* allowed for this device; 0 = whatever the listener allows */
    uint32_t answer_timeout_ms; /**< 0 = the configuration's */
    uint64_t
        version; /**< another one after every change to the row: a session kept for an earlier one ends */
};

struct sp_msg_psk_answer {
    char group[SP_GROUP_NAME_MAX]; /**< NUL-terminated; "" = none */
    uint8_t known;                 /**< 0: the key is a decoy, row and nonce mean nothing */
    uint8_t psk_len;
    uint8_t nonce_ok; /**< 0: too many refused tokens; the nonce is not open, answer 0x97 */
    uint8_t reserved;
    struct sp_device_row row;
    uint8_t psk[SP_PSK_MAX];
    uint8_t nonce[SP_LINK_NONCE_LEN]; /**< a first nonce, open for this tag */
};

struct sp_msg_nonce {
    uint8_t identity_len;
    uint8_t identity[SP_LINK_IDENTITY_MAX];
};

struct sp_msg_nonce_answer {
    uint8_t ok; /**< 0: no such device any more, or too many attempts */
    uint8_t nonce[SP_LINK_NONCE_LEN];
};

/** keys computes the challenge from its own nonce and spends it, whatever the verdict. */
struct sp_msg_appraise {
    uint8_t identity_len;
    uint8_t has_exporter;
    uint8_t identity[SP_LINK_IDENTITY_MAX];
    uint8_t exporter[SP_LINK_EXPORTER_LEN];
    uint32_t
        token_len; /**< followed by the token, at most SP_LINK_TOKEN_MAX + 1 bytes (then: `size`) */
};

struct sp_msg_verdict {
    uint8_t check;       /**< enum sp_attest_check */
    uint8_t unavailable; /**< 1: no verdict could be made; 0x88 */
    char detail[SP_ATTEST_DETAIL_MAX];
};

enum sp_format { SP_FORMAT_RAW = 0, SP_FORMAT_SENML_JSON = 1, SP_FORMAT_JSON = 2 };
enum sp_protection { SP_PROTECTION_CLEAR = 0, SP_PROTECTION_MAC = 1, SP_PROTECTION_SEALED = 2 };

#define SP_RECORD_COUNTER_LAST ((UINT64_C(1) << 40) - 1U) /**< five bytes */
#define SP_RECORD_ATTESTED     1U                         /**< the device's last verdict was ok */
#define SP_RECORD_REPEAT       2U                         /**< QoS 2: it came with DUP */
#define SP_RECORD_RELEASE      4U /**< a PUBREL: device and packet_id only, all other parts are empty */
#define SP_RECORD_MARK \
    8U /**< nothing for the cloud: only the mark is to be kept; qos 0, no topic */
#define SP_RECORD_REFUSED 16U /**< never for the cloud: a dead letter at once; qos 1 */

/** What is wrong with a sensor record; in the order of the metrics from SP_M_RECORD_WEAKER on. */
enum sp_record_refusal {
    SP_REFUSAL_WEAKER,
    SP_REFUSAL_FORM,
    SP_REFUSAL_KEY,
    SP_REFUSAL_EPOCH,
    SP_REFUSAL_OPEN,
    SP_REFUSAL_CONTENT,
    SP_REFUSAL_RANGE,
    SP_REFUSAL_TIME,
    SP_REFUSAL_COUNT
};

/** Who can read the records of a group (docs/protocol.md 6). */
enum sp_group_mode {
    SP_GROUP_OPEN = 0,       /**< the gateway too: it checks, parses and fuses */
    SP_GROUP_END_TO_END = 1, /**< monitors and the cloud's consumer: the gateway only forwards */
};

/** One epoch of a group, as far as the gate may know it. */
struct sp_msg_epoch {
    char group[SP_GROUP_NAME_MAX];
    uint8_t mode;      /**< enum sp_group_mode */
    uint8_t algorithm; /**< 10 or 5, as in COSE */
    uint8_t reserved;
    uint32_t epoch;
    uint64_t until_ms; /**< accepted until then, milliseconds since 1970; 0: no end yet */
    uint8_t key[32];   /**< the group key; zeros when the mode is end-to-end */
};

/** What a device answered to a grant. */
struct sp_msg_grant_ack {
    uint64_t
        mark; /**< highest counter accepted from the device under (group, epoch) of the answer; 0: none */
    uint32_t ack_len;
    uint32_t reserved;
};

/** The highest counter accepted from a device under an epoch of a group. */
struct sp_msg_mark {
    uint64_t counter;
    uint32_t epoch;
    uint8_t device_len;
    uint8_t group_len;
    uint8_t reserved[2];
    uint8_t device[SP_LINK_IDENTITY_MAX];
    uint8_t group[SP_GROUP_NAME_MAX - 1];
};

/**
 * One message for the cloud. Parts: device, topic (as the cloud will see it), origin (as the device
 * published it), group, payload (as published, but opened where it is to be formatted; store formats it when it
 * sends). With a counter the mark of (device, group, epoch) moves in the same commit.
 */
struct sp_msg_record {
    uint64_t ticket;  /**< per channel, from 1, rising; qos 0 has 0 and is never answered */
    uint64_t after;   /**< an earlier ticket: refused with it, or order would be lost; 0: none */
    uint64_t time_ms; /**< acceptance, milliseconds since 1970 */
    uint32_t payload_len;
    uint32_t expiry_s; /**< MQTT 5 message expiry; 0 = none */
    uint16_t topic_len;
    uint16_t origin_len;
    uint8_t device_len;
    uint8_t qos;        /**< 0 or 1: towards the cloud */
    uint8_t format;     /**< enum sp_format */
    uint8_t protection; /**< enum sp_protection */
    uint8_t flags;      /**< SP_RECORD_* */
    uint8_t group_len;
    uint16_t packet_id; /**< of a QoS 2 message or its PUBREL, from the device; else 0 */
    uint32_t epoch;
    uint64_t counter; /**< of a protected record that was opened; 0: none */
    uint8_t refusal;  /**< enum sp_record_refusal, with SP_RECORD_REFUSED; else 0 */
    uint8_t reserved[7];
};

/** Every ticket up to `up_to` that was not answered before. */
struct sp_msg_durable {
    uint64_t up_to;
    uint32_t err; /**< SP_OK: durable; else an sp_err: refused, answer 0x97 */
    uint32_t reserved;
};

/** 0 = free, 1 = over 80 % of the quota (refuse QoS 0), 2 = full (refuse all). */
struct sp_msg_pressure {
    uint32_t level;
};

enum sp_kept_kind {
    SP_KEPT_SESSION = 1, /**< there is one, and how it is; part: the name of the role */
    SP_KEPT_SUBSCRIBE,   /**< part: the filter */
    SP_KEPT_UNSUBSCRIBE, /**< part: the filter; empty: all of them */
    SP_KEPT_QUEUE,       /**< a message for its device; part: an encoded MQTT 5 PUBLISH */
    SP_KEPT_SETTLED, /**< messages `number` to `last` of its queue are with the device, or expired */
    SP_KEPT_END,     /**< the session is over, with all that belongs to it */
};

#define SP_KEPT_FIRST 1U /**< no records: what came before is void */
#define SP_KEPT_LAST  2U /**< there are no more */
#define SP_KEPT_NEW \
    1U /**< with SP_KEPT_SESSION: it begins; nothing with a lower number is its own */

/** One change to a kept session, or one thing that there is of it. Fields that a kind does not name are 0. */
struct sp_msg_kept {
    uint64_t ticket; /**< per channel, from 1, rising: answered; 0: not */
    uint64_t
        number; /**< of a message, rising in a device's sessions; of a session: the last that was sent */
    uint64_t last; /**< SP_KEPT_SETTLED */
    uint64_t
        time_ms; /**< of a session: when its device left, 0: it has not; of a message: when it expires, 0:
                           never. Since 1970 */
    uint64_t version; /**< of a session: of the registry's row */
    uint32_t part_len;
    uint32_t expiry_s;   /**< of a session, from time_ms on */
    uint32_t identifier; /**< of a subscription; 0: none */
    uint8_t kind;        /**< enum sp_kept_kind */
    uint8_t device_len;
    uint8_t qos;     /**< of a subscription */
    uint8_t options; /**< of a subscription: as gate has them; of a session: SP_KEPT_NEW */
};

struct sp_msg_command {
    uint32_t payload_len;
    uint16_t topic_len;
    uint8_t qos;
    uint8_t retain;
};

#endif
