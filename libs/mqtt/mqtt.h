/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file MQTT 3.1.1 and MQTT 5 packets: bytes to structs and back, for server and client alike.
 *
 * Sources: OASIS MQTT 3.1.1 (2014) and MQTT 5.0 (2019). Decoders work in place: every view in a decoded
 * packet is borrowed from the input. They check all that can be checked without a session: reserved bits,
 * lengths, UTF-8, property ids allowed in that packet, properties given twice, topic names. A filter of a
 * SUBSCRIBE is only checked to be 1..65535 bytes of UTF-8: where its wildcards stand is for the server to look
 * at (sp_topic_filter_valid()), since it answers filter by filter.
 * Nothing allocates, nothing is global, all is thread-safe.
 */
#ifndef SP_LIBS_MQTT_MQTT_H
#define SP_LIBS_MQTT_MQTT_H

#include "libs/base/bytes.h"

enum sp_mqtt_version { SP_MQTT_311 = 4, SP_MQTT_5 = 5 };

/** Control packet types (MQTT 5, 2.1.2). */
enum sp_mqtt_type {
    SP_MQTT_CONNECT = 1,
    SP_MQTT_CONNACK = 2,
    SP_MQTT_PUBLISH = 3,
    SP_MQTT_PUBACK = 4,
    SP_MQTT_PUBREC = 5,
    SP_MQTT_PUBREL = 6,
    SP_MQTT_PUBCOMP = 7,
    SP_MQTT_SUBSCRIBE = 8,
    SP_MQTT_SUBACK = 9,
    SP_MQTT_UNSUBSCRIBE = 10,
    SP_MQTT_UNSUBACK = 11,
    SP_MQTT_PINGREQ = 12,
    SP_MQTT_PINGRESP = 13,
    SP_MQTT_DISCONNECT = 14,
    SP_MQTT_AUTH = 15,
};

/** Reason codes (MQTT 5, 2.4). For 3.1.1 the encoders translate where 3.1.1 has a code of its own. */
enum sp_mqtt_reason {
    SP_MQTT_RC_SUCCESS = 0x00,
    SP_MQTT_RC_GRANTED_QOS_1 = 0x01,
    SP_MQTT_RC_GRANTED_QOS_2 = 0x02,
    SP_MQTT_RC_DISCONNECT_WITH_WILL = 0x04,
    SP_MQTT_RC_NO_MATCHING_SUBSCRIBERS = 0x10,
    SP_MQTT_RC_NO_SUBSCRIPTION_EXISTED = 0x11,
    SP_MQTT_RC_CONTINUE_AUTHENTICATION = 0x18,
    SP_MQTT_RC_REAUTHENTICATE = 0x19,
    SP_MQTT_RC_UNSPECIFIED_ERROR = 0x80,
    SP_MQTT_RC_MALFORMED_PACKET = 0x81,
    SP_MQTT_RC_PROTOCOL_ERROR = 0x82,
    SP_MQTT_RC_IMPLEMENTATION_SPECIFIC_ERROR = 0x83,
    SP_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION = 0x84,
    SP_MQTT_RC_CLIENT_IDENTIFIER_NOT_VALID = 0x85,
    SP_MQTT_RC_BAD_USER_NAME_OR_PASSWORD = 0x86,
    SP_MQTT_RC_NOT_AUTHORIZED = 0x87,
    SP_MQTT_RC_SERVER_UNAVAILABLE = 0x88,
    SP_MQTT_RC_SERVER_BUSY = 0x89,
    SP_MQTT_RC_BANNED = 0x8A,
    SP_MQTT_RC_SERVER_SHUTTING_DOWN = 0x8B,
    SP_MQTT_RC_BAD_AUTHENTICATION_METHOD = 0x8C,
    SP_MQTT_RC_KEEP_ALIVE_TIMEOUT = 0x8D,
    SP_MQTT_RC_SESSION_TAKEN_OVER = 0x8E,
    SP_MQTT_RC_TOPIC_FILTER_INVALID = 0x8F,
    SP_MQTT_RC_TOPIC_NAME_INVALID = 0x90,
    SP_MQTT_RC_PACKET_IDENTIFIER_IN_USE = 0x91,
    SP_MQTT_RC_PACKET_IDENTIFIER_NOT_FOUND = 0x92,
    SP_MQTT_RC_RECEIVE_MAXIMUM_EXCEEDED = 0x93,
    SP_MQTT_RC_TOPIC_ALIAS_INVALID = 0x94,
    SP_MQTT_RC_PACKET_TOO_LARGE = 0x95,
    SP_MQTT_RC_MESSAGE_RATE_TOO_HIGH = 0x96,
    SP_MQTT_RC_QUOTA_EXCEEDED = 0x97,
    SP_MQTT_RC_ADMINISTRATIVE_ACTION = 0x98,
    SP_MQTT_RC_PAYLOAD_FORMAT_INVALID = 0x99,
    SP_MQTT_RC_RETAIN_NOT_SUPPORTED = 0x9A,
    SP_MQTT_RC_QOS_NOT_SUPPORTED = 0x9B,
    SP_MQTT_RC_USE_ANOTHER_SERVER = 0x9C,
    SP_MQTT_RC_SERVER_MOVED = 0x9D,
    SP_MQTT_RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED = 0x9E,
    SP_MQTT_RC_CONNECTION_RATE_EXCEEDED = 0x9F,
    SP_MQTT_RC_MAXIMUM_CONNECT_TIME = 0xA0,
    SP_MQTT_RC_SUBSCRIPTION_IDENTIFIERS_NOT_SUPPORTED = 0xA1,
    SP_MQTT_RC_WILDCARD_SUBSCRIPTIONS_NOT_SUPPORTED = 0xA2,
};

/** Properties (MQTT 5, 2.2.2.2): name, wire id. The position in this list is the bit in `present`. */
#define SP_MQTT_PROPERTY_MAP(X)        \
    X(PAYLOAD_FORMAT, 0x01)            \
    X(MESSAGE_EXPIRY, 0x02)            \
    X(CONTENT_TYPE, 0x03)              \
    X(RESPONSE_TOPIC, 0x08)            \
    X(CORRELATION_DATA, 0x09)          \
    X(SUBSCRIPTION_ID, 0x0B)           \
    X(SESSION_EXPIRY, 0x11)            \
    X(ASSIGNED_CLIENT_ID, 0x12)        \
    X(SERVER_KEEP_ALIVE, 0x13)         \
    X(AUTH_METHOD, 0x15)               \
    X(AUTH_DATA, 0x16)                 \
    X(REQUEST_PROBLEM_INFO, 0x17)      \
    X(WILL_DELAY, 0x18)                \
    X(REQUEST_RESPONSE_INFO, 0x19)     \
    X(RESPONSE_INFO, 0x1A)             \
    X(SERVER_REFERENCE, 0x1C)          \
    X(REASON_STRING, 0x1F)             \
    X(RECEIVE_MAXIMUM, 0x21)           \
    X(TOPIC_ALIAS_MAXIMUM, 0x22)       \
    X(TOPIC_ALIAS, 0x23)               \
    X(MAXIMUM_QOS, 0x24)               \
    X(RETAIN_AVAILABLE, 0x25)          \
    X(USER_PROPERTY, 0x26)             \
    X(MAXIMUM_PACKET_SIZE, 0x27)       \
    X(WILDCARD_AVAILABLE, 0x28)        \
    X(SUBSCRIPTION_ID_AVAILABLE, 0x29) \
    X(SHARED_AVAILABLE, 0x2A)

enum sp_mqtt_property {
#define X(name, id) SP_MQTT_P_##name,
    SP_MQTT_PROPERTY_MAP(X)
#undef X
        SP_MQTT_PROPERTY_COUNT
};

/** The bit of a property in sp_mqtt_props.present. */
#define SP_MQTT_HAS(property) (1UL << (property))

/**
 * A property block. On encoding, a property is written when its bit in `present` is set. MQTT 3.1.1
 * packets decode to an empty block and encode none.
 */
struct sp_mqtt_props {
    uint32_t present;         /**< SP_MQTT_HAS() bits */
    uint32_t message_expiry;  /**< seconds */
    uint32_t session_expiry;  /**< seconds; 0xFFFFFFFF = never */
    uint32_t will_delay;      /**< seconds */
    uint32_t max_packet_size; /**< bytes, ≥ 1 */
    uint32_t subscription_id; /**< 1..268435455; the last one where a decoded PUBLISH has several */
    uint16_t server_keep_alive;
    uint16_t receive_maximum; /**< ≥ 1 */
    uint16_t topic_alias_maximum;
    uint16_t topic_alias; /**< ≥ 1 */
    uint8_t payload_format;
    uint8_t request_problem_info;
    uint8_t request_response_info;
    uint8_t maximum_qos;
    uint8_t retain_available;
    uint8_t wildcard_available;
    uint8_t subscription_id_available;
    uint8_t shared_available;
    struct sp_view content_type;
    struct sp_view response_topic;
    struct sp_view correlation_data;
    struct sp_view assigned_client_id;
    struct sp_view auth_method;
    struct sp_view auth_data;
    struct sp_view response_info;
    struct sp_view server_reference;
    struct sp_view reason_string;
    /**
     * Encoded properties, of which only the user properties count: walk them with sp_mqtt_user_next(). Decoded:
     * the part of the block from the first user property to the last. To encode: what sp_mqtt_user_encode()
     * wrote, or what came out of a decoder; the user properties in it are written, nothing else of it.
     */
    struct sp_view user;
    uint16_t user_count; /**< decoded only; 65535 = that many or more */
    /** To encode a PUBLISH with several: these are written instead of `subscription_id`. */
    uint16_t subscription_id_count;
    const uint32_t *subscription_ids;
};

/** A fixed header (MQTT 5, 2.1). */
struct sp_mqtt_header {
    enum sp_mqtt_type type;
    uint8_t flags;      /**< low four bits of the first byte */
    uint8_t header_len; /**< 2..5 bytes */
    uint32_t body_len;  /**< bytes after the header */
};

struct sp_mqtt_will {
    bool present;
    bool retain;
    uint8_t qos;
    struct sp_view topic;
    struct sp_view payload;
    struct sp_mqtt_props props;
};

struct sp_mqtt_connect {
    enum sp_mqtt_version version;
    bool clean_start; /**< 3.1.1: Clean Session */
    uint16_t keep_alive;
    struct sp_view client_id;
    bool has_user_name;
    bool has_password;
    struct sp_view user_name;
    struct sp_view password;
    struct sp_mqtt_will will;
    struct sp_mqtt_props props;
};

struct sp_mqtt_connack {
    bool session_present;
    uint8_t reason; /**< as on the wire: 3.1.1 return code 0..5, or MQTT 5 reason code */
    struct sp_mqtt_props props;
};

struct sp_mqtt_publish {
    bool dup;
    bool retain;
    uint8_t qos;
    uint16_t packet_id;   /**< 0 when qos is 0 */
    struct sp_view topic; /**< empty when an alias stands for it (MQTT 5) */
    struct sp_view payload;
    struct sp_mqtt_props props;
};

/** PUBACK, PUBREC, PUBREL, PUBCOMP. */
struct sp_mqtt_ack {
    uint16_t packet_id;
    uint8_t reason; /**< 0 in 3.1.1 */
    struct sp_mqtt_props props;
};

/** One filter of a SUBSCRIBE, or of an UNSUBSCRIBE (filter only). */
struct sp_mqtt_filter {
    struct sp_view filter;
    uint8_t qos;
    bool no_local;
    bool retain_as_published;
    uint8_t retain_handling; /**< 0..2 */
};

/** SUBSCRIBE and UNSUBSCRIBE: walk the filters with sp_mqtt_filter_next(). */
struct sp_mqtt_subscribe {
    uint16_t packet_id;
    struct sp_mqtt_props props;
    struct sp_view filters; /**< encoded filters, checked; at least one */
    uint16_t filter_count;
};

/** SUBACK and UNSUBACK. 3.1.1's UNSUBACK has no codes. */
struct sp_mqtt_suback {
    uint16_t packet_id;
    struct sp_mqtt_props props;
    struct sp_view codes;
};

/** DISCONNECT and AUTH. */
struct sp_mqtt_reasoned {
    uint8_t reason;
    struct sp_mqtt_props props;
};

/**
 * Look at the start of a byte stream and say how long the next packet is; consumes nothing.
 *
 * @param[in]  in       Received bytes; may be empty.
 * @param[in]  max_body Largest body the caller accepts, in bytes.
 * @param[out] out      Filled on SP_OK only.
 * @retval SP_ERR_AGAIN     Fewer bytes than a whole fixed header.
 * @retval SP_ERR_MALFORMED Type 0, reserved flag bits, or a length of more than four or needlessly many bytes.
 * @retval SP_ERR_LIMIT     Well formed, but the body is longer than max_body.
 */
SP_MUST_CHECK enum sp_err sp_mqtt_peek(struct sp_view in, uint32_t max_body,
                                       struct sp_mqtt_header *out);

/**
 * Decode one packet's body (the bytes after its fixed header). `out` is written on SP_OK only.
 *
 * @retval SP_ERR_MALFORMED   Breaks the format (answer 0x81).
 * @retval SP_ERR_PROTOCOL    Well formed, but MQTT calls it a protocol error (answer 0x82): a property
 *                            twice or where it may not stand, Receive Maximum 0, an empty topic without alias, …
 * @retval SP_ERR_DENIED      CONNECT and PUBLISH: a wildcard in the topic of a message or will (answer 0x90).
 * @retval SP_ERR_UNSUPPORTED CONNECT only: the protocol name is MQTT but the level is neither 4 nor 5, or name
 *                            and level of an older MQTT (answer 0x84 or return code 1).
 */
SP_MUST_CHECK enum sp_err sp_mqtt_decode_connect(struct sp_view body, struct sp_mqtt_connect *out);
SP_MUST_CHECK enum sp_err sp_mqtt_decode_connack(enum sp_mqtt_version version, struct sp_view body,
                                                 struct sp_mqtt_connack *out);
SP_MUST_CHECK enum sp_err sp_mqtt_decode_publish(enum sp_mqtt_version version, uint8_t flags,
                                                 struct sp_view body, struct sp_mqtt_publish *out);
SP_MUST_CHECK enum sp_err sp_mqtt_decode_ack(enum sp_mqtt_version version, enum sp_mqtt_type type,
                                             struct sp_view body, struct sp_mqtt_ack *out);
SP_MUST_CHECK enum sp_err sp_mqtt_decode_subscribe(enum sp_mqtt_version version,
                                                   enum sp_mqtt_type type, struct sp_view body,
                                                   struct sp_mqtt_subscribe *out);
SP_MUST_CHECK enum sp_err sp_mqtt_decode_suback(enum sp_mqtt_version version,
                                                enum sp_mqtt_type type, struct sp_view body,
                                                struct sp_mqtt_suback *out);
/** DISCONNECT or AUTH; in 3.1.1 DISCONNECT has no body and AUTH does not exist. */
SP_MUST_CHECK enum sp_err sp_mqtt_decode_reasoned(enum sp_mqtt_version version,
                                                  enum sp_mqtt_type type, struct sp_view body,
                                                  struct sp_mqtt_reasoned *out);

/**
 * The next filter of a decoded SUBSCRIBE or UNSUBSCRIBE.
 * @param[in,out] rest Start with sp_mqtt_subscribe.filters; shortened by what was taken.
 * @return false at the end.
 */
bool sp_mqtt_filter_next(enum sp_mqtt_type type, struct sp_view *rest, struct sp_mqtt_filter *out);

/**
 * The next user property of a decoded block.
 * @param[in,out] rest Start with sp_mqtt_props.user; shortened by what was taken.
 */
bool sp_mqtt_user_next(struct sp_view *rest, struct sp_view *name, struct sp_view *value);

/** Append one encoded user property, to be given to an encoder through sp_mqtt_props.user. */
void sp_mqtt_user_encode(struct sp_writer *w, struct sp_view name, struct sp_view value);

/**
 * Append one whole packet, fixed header included. Errors stick in the writer: SP_ERR_SPACE, or
 * SP_ERR_ARGUMENT for what cannot be encoded (a string over 65535 bytes, QoS 3).
 * For SP_MQTT_311 properties are left out.
 */
void sp_mqtt_encode_connect(struct sp_writer *w, const struct sp_mqtt_connect *packet);
void sp_mqtt_encode_connack(struct sp_writer *w, enum sp_mqtt_version version,
                            const struct sp_mqtt_connack *packet);
void sp_mqtt_encode_publish(struct sp_writer *w, enum sp_mqtt_version version,
                            const struct sp_mqtt_publish *packet);
void sp_mqtt_encode_ack(struct sp_writer *w, enum sp_mqtt_version version, enum sp_mqtt_type type,
                        const struct sp_mqtt_ack *packet);
/** `filters` has `count` entries; packet->filters is not looked at. */
void sp_mqtt_encode_subscribe(struct sp_writer *w, enum sp_mqtt_version version,
                              enum sp_mqtt_type type, const struct sp_mqtt_subscribe *packet,
                              const struct sp_mqtt_filter *filters, size_t count);
void sp_mqtt_encode_suback(struct sp_writer *w, enum sp_mqtt_version version,
                           enum sp_mqtt_type type, const struct sp_mqtt_suback *packet);
/** DISCONNECT or AUTH. */
void sp_mqtt_encode_reasoned(struct sp_writer *w, enum sp_mqtt_version version,
                             enum sp_mqtt_type type, const struct sp_mqtt_reasoned *packet);
/** PINGREQ or PINGRESP. */
void sp_mqtt_encode_ping(struct sp_writer *w, enum sp_mqtt_type type);

/** Bytes that sp_mqtt_encode_publish() would write; 0 when it cannot be encoded. */
size_t sp_mqtt_publish_size(enum sp_mqtt_version version, const struct sp_mqtt_publish *packet);

/** The 3.1.1 CONNACK return code (0..5) that comes nearest to an MQTT 5 reason code. */
uint8_t sp_mqtt_connack_code_311(uint8_t reason);

#endif
