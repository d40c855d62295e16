/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One device's side of an MQTT 5 conversation, attestation included (docs/protocol.md 3.2 and 3.3):
 * packets in, packets and events out; no I/O.
 */
#ifndef SP_BENCH_FLEET_TALK_H
#define SP_BENCH_FLEET_TALK_H

#include "bench/fleet/attester.h"
#include "libs/mqtt/mqtt.h"

/** Room that sp_talk_start() and sp_talk_packet() need in a writer. */
#define SP_TALK_REPLY_MAX 1024U

struct sp_talk {
    /* set by the caller before sp_talk_start(), borrowed */
    struct sp_view identity;
    const struct sp_attester *attester; /**< NULL: offer no attestation */
    enum sp_link_binding binding;
    uint16_t keep_alive_s; /**< becomes what the server says in CONNACK */
    uint8_t exporter[SP_LINK_EXPORTER_LEN];
    /* results */
    uint16_t receive_maximum;
    bool challenged;
    bool admitted;
};

enum sp_talk_kind {
    SP_TALK_NOTHING,    /**< dealt with */
    SP_TALK_ADMITTED,   /**< CONNACK 0 */
    SP_TALK_SUBSCRIBED, /**< SUBACK, every filter granted */
    SP_TALK_MESSAGE, /**< a PUBLISH; already acknowledged in the reply when its QoS asks for it */
    SP_TALK_ACKED,   /**< a PUBACK for one of ours */
    SP_TALK_REFUSED, /**< CONNACK, SUBACK or DISCONNECT with `reason`, or a breach of the protocol */
};

struct sp_talk_event {
    enum sp_talk_kind kind;
    uint8_t reason;                 /**< ACKED, REFUSED; 0 when the server broke the protocol */
    uint16_t packet_id;             /**< ACKED */
    struct sp_mqtt_publish message; /**< MESSAGE; borrowed from the packet */
    char text[96];                  /**< REFUSED: which packet, and the server's reason string */
};

/** Append the CONNECT. */
void sp_talk_start(struct sp_talk *talk, struct sp_writer *w);

/** Deal with one packet of the server: append the answer, if there is one, and say what happened. */
void sp_talk_packet(struct sp_talk *talk, const struct sp_mqtt_header *header, struct sp_view body,
                    struct sp_writer *reply, struct sp_talk_event *event);

#endif
