/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The client's bookkeeping, shared by what writes (client.c) and what reads (client_input.c).
 *
 * Messages wait in a ring of slots in sending order: `used` of them from slot `head` on. The packet id of
 * the oldest is `head_id`, the others count up from it, so an id says where its slot is. The first `sent` of them
 * went out on this connection. Acknowledgements may come in any order; the ring shrinks at its head only.
 */
#ifndef SP_LIBS_MQTT_CLIENT_INTERNAL_H
#define SP_LIBS_MQTT_CLIENT_INTERNAL_H

#include "libs/mqtt/client.h"

#define SP_MQTT_CLIENT_IDS 65520U /**< ids 1..65520 are for PUBLISH */
#define SP_MQTT_CLIENT_FIRST_REQUEST \
    65521U /**< the ones after that for SUBSCRIBE and UNSUBSCRIBE */

/** The slot `offset` places behind the oldest. */
struct sp_mqtt_slot *sp_mqtt_client_slot(const struct sp_mqtt_client *c, size_t offset);

/** The packet id of that slot. */
uint16_t sp_mqtt_client_slot_id(const struct sp_mqtt_client *c, size_t offset);

/** Where the slot of a packet id is; `used` or more when there is none. */
size_t sp_mqtt_client_slot_find(const struct sp_mqtt_client *c, uint16_t packet_id);

/** Free the acknowledged slots at the head, and pass over those that need not be sent again. */
void sp_mqtt_client_slots_tidy(struct sp_mqtt_client *c);

#endif
