/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/link/ring.h"

void sp_ring_init(struct sp_ring *ring, uint8_t *bytes, uint32_t size)
{
    *ring = (struct sp_ring){.bytes = bytes, .size = size};
}

uint32_t sp_ring_used(const struct sp_ring *ring)
{
    return ring->put - ring->taken;
}

uint32_t sp_ring_room(const struct sp_ring *ring)
{
    return ring->size - sp_ring_used(ring);
}

/* The counter moves after the byte: the other side sees no byte before it is there. */
size_t sp_ring_put(struct sp_ring *ring, struct sp_view bytes)
{
    size_t count = 0;
    while (count < bytes.len && sp_ring_room(ring) != 0) {
        ((volatile uint8_t *)ring->bytes)[ring->put & (ring->size - 1U)] = bytes.ptr[count];
        ring->put = ring->put + 1U;
        count++;
    }
    return count;
}

size_t sp_ring_take(struct sp_ring *ring, uint8_t *out, size_t cap)
{
    size_t count = 0;
    while (count < cap && sp_ring_used(ring) != 0) {
        out[count] = ((volatile uint8_t *)ring->bytes)[ring->taken & (ring->size - 1U)];
        ring->taken = ring->taken + 1U;
        count++;
    }
    return count;
}
