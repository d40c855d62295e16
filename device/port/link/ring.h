/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Bytes on their way between an interrupt handler and a task: one side only puts, the other only takes, so neither
 * has to hold the other off (single core).
 */
#ifndef SP_DEVICE_PORT_LINK_RING_H
#define SP_DEVICE_PORT_LINK_RING_H

#include "libs/base/bytes.h"

struct sp_ring {
    uint8_t *bytes;        /* caller's */
    uint32_t size;         /* a power of two */
    volatile uint32_t put; /* bytes ever put in; wraps */
    volatile uint32_t taken;
};

/** @param[in] size Of `bytes`; a power of two. */
void sp_ring_init(struct sp_ring *ring, uint8_t *bytes, uint32_t size);

uint32_t sp_ring_used(const struct sp_ring *ring);
uint32_t sp_ring_room(const struct sp_ring *ring);

/** Put as many of the bytes as there is room for. @return How many. */
size_t sp_ring_put(struct sp_ring *ring, struct sp_view bytes);

/** Take up to `cap` bytes. @return How many. */
size_t sp_ring_take(struct sp_ring *ring, uint8_t *out, size_t cap);

#endif
