/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What the parts of the MQTT codec share: variable byte integers, strings, properties, reasons. */
#ifndef SP_LIBS_MQTT_CODEC_INTERNAL_H
#define SP_LIBS_MQTT_CODEC_INTERNAL_H

#include "libs/mqtt/mqtt.h"

#define SP_MQTT_STRING_MAX 65535U
#define SP_MQTT_VARINT_MAX 268435455U

/** Where a property block stands: an sp_mqtt_type, or the will inside a CONNECT. */
#define SP_MQTT_PLACE_WILL 0U

/** A variable byte integer (MQTT 5, 1.5.5); SP_ERR_MALFORMED when needlessly long. */
uint32_t sp_mqtt_read_varint(struct sp_reader *r);
void sp_mqtt_write_varint(struct sp_writer *w, uint32_t value);
size_t sp_mqtt_varint_size(size_t value);

/** Two bytes of length and that many bytes; `_text` wants UTF-8, and `_topic` a topic name too:
 *  sp_mqtt_check_topic(). */
struct sp_view sp_mqtt_read_binary(struct sp_reader *r);
struct sp_view sp_mqtt_read_text(struct sp_reader *r);
struct sp_view sp_mqtt_read_topic(struct sp_reader *r);

/** SP_ERR_MALFORMED for bad UTF-8, SP_ERR_PROTOCOL for an empty name, SP_ERR_DENIED for a wildcard. */
enum sp_err sp_mqtt_check_topic(struct sp_view topic);

/** SP_ERR_ARGUMENT when longer than 65535 bytes. */
void sp_mqtt_write_binary(struct sp_writer *w, struct sp_view bytes);

/** A packet identifier; 0 is SP_ERR_PROTOCOL. */
uint16_t sp_mqtt_read_id(struct sp_reader *r);

/** `reason` may stand in a packet of that type (MQTT 5, 2.4). */
bool sp_mqtt_reason_allowed(enum sp_mqtt_type type, uint8_t reason);

/** Read a property block, its length included; `out` must be zeroed. */
void sp_mqtt_read_props(struct sp_reader *r, unsigned place, struct sp_mqtt_props *out);

/** Nothing to encode. */
bool sp_mqtt_props_empty(const struct sp_mqtt_props *props);

/** Bytes of the block without its length; false when it cannot be encoded at that place. */
bool sp_mqtt_props_size(const struct sp_mqtt_props *props, unsigned place, size_t *size);

/** Write a block of `size` bytes (from sp_mqtt_props_size()), its length included. */
void sp_mqtt_write_props(struct sp_writer *w, const struct sp_mqtt_props *props, size_t size);

#endif
