/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Topic aliases of one connection (MQTT 5, 3.3.2.3.4), both ways. Only a client that sets one, or says that it takes them,
 * has this.
 */
#ifndef SP_GATEWAY_GATE_SESSION_ALIASES_H
#define SP_GATEWAY_GATE_SESSION_ALIASES_H

#include "libs/mqtt/mqtt.h"

struct sp_aliases;

/**
 * @param[in] in_max  The highest that the client may set.
 * @param[in] out_max The highest that is set towards it.
 * @return NULL: no memory.
 */
struct sp_aliases *sp_aliases_create(uint16_t in_max, uint16_t out_max);
/** NULL is fine. */
void sp_aliases_destroy(struct sp_aliases *aliases);

/**
 * A PUBLISH with an alias from the client: remember its topic, or put the one that is meant in its place.
 *
 * @param[in,out] publish Afterwards it has a topic, borrowed from the table until the next call, and no alias.
 * @retval SP_ERR_LIMIT    Above `in_max` (0x94).
 * @retval SP_ERR_PROTOCOL It was never set, and there is no topic (0x82).
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_aliases_resolve(struct sp_aliases *aliases,
                                             struct sp_mqtt_publish *publish);

/**
 * A PUBLISH to the client: an alias instead of the topic where it has one, or beside it where it gets one.
 * @param[in] room Bytes by which the packet may grow.
 */
void sp_aliases_apply(struct sp_aliases *aliases, struct sp_mqtt_publish *publish, size_t room);

/* For carry.h. */

/** Bytes that sp_aliases_write() writes. */
size_t sp_aliases_size(const struct sp_aliases *aliases);
void sp_aliases_write(const struct sp_aliases *aliases, struct sp_writer *w);
/** NULL: `r` has failed, with SP_ERR_MALFORMED or SP_ERR_NOMEM. */
struct sp_aliases *sp_aliases_read(struct sp_reader *r);

#endif
