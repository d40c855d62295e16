/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Where a message goes: local subscribers on every loop, and the cloud. */
#ifndef SP_GATEWAY_GATE_ROUTE_ROUTE_H
#define SP_GATEWAY_GATE_ROUTE_ROUTE_H

#include "gateway/gate/records/records.h"
#include "gateway/gate/session/home.h"
#include "libs/mqtt/mqtt.h"

struct sp_mail;

/** Who published. */
struct sp_origin {
    struct sp_view device;
    sp_slot_tag session; /**< in this home, for no-local; 0: none */
    sp_slot_tag client;  /**< gets sp_client_stored(); 0: nobody waits */
    bool attested;
    bool repeat;                       /**< QoS 2: local subscribers have it already */
    uint8_t protection;                /**< enum sp_protection */
    const struct sp_record_in *record; /**< what is known of a sensor record; NULL: it is none */
};

/** What became of a message; for QoS 1 and 2 it decides the answer. */
enum sp_routed {
    SP_ROUTED,         /**< handed to all there is: acknowledge now */
    SP_ROUTED_STORING, /**< sp_client_stored() will come */
    SP_ROUTED_REFUSED, /**< cannot be stored now; nobody got it */
};

/**
 * Hand a checked and allowed message to local subscribers and to the cloud, as the routes say.
 *
 * @param[out] receipt What the answer has to wait for beside the store, when the origin has a client; 0: nothing.
 */
enum sp_routed sp_route_publish(struct sp_home *home, const struct sp_origin *origin,
                                const struct sp_mqtt_publish *publish, sp_slot_tag *receipt);

/** To local subscribers alone; nobody waits for them. */
void sp_route_local(struct sp_home *home, const struct sp_mqtt_publish *publish,
                    sp_slot_tag publisher);

/** A message that a member of a group (struct sp_match) gave back: to another one, if there is one. */
void sp_route_again(struct sp_home *home, struct sp_mail *message, sp_slot_tag share,
                    sp_slot_tag except);

/**
 * A command from the cloud, mapped to the devices' topics as the configuration says. With QoS 1 the store process is told
 * once every receiver has it, or it is durable for those that are away.
 */
void sp_route_command(struct sp_home *home, struct sp_view topic, struct sp_view payload,
                      uint8_t qos, uint64_t tag);

/** One that cannot be given to anybody now: it is counted, and the cloud is told if it is to be. */
void sp_route_command_refused(struct sp_home *home, uint8_t qos, uint64_t tag);

#endif
