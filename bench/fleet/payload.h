/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What the fleet publishes: records that carry the time they were sent. */
#ifndef SP_BENCH_FLEET_PAYLOAD_H
#define SP_BENCH_FLEET_PAYLOAD_H

#include "libs/base/bytes.h"

/**
 * Append a sensor record as docs/protocol.md 5 wants it in the clear (SenML-CBOR), with the base time in
 * seconds since 1970.
 *
 * @param[in] device  Its identity: the base name is `<device>/`.
 * @param[in] number  Varies the values from record to record.
 */
void sp_payload_climate(struct sp_writer *w, struct sp_view device, double time, uint32_t number);

/** Append `size` bytes (at least 9) that no sensor parser knows, with the time in front. */
void sp_payload_raw(struct sp_writer *w, size_t size, double time);

/** The time that a payload of either kind carries. @return false when it is not one of ours. */
bool sp_payload_time(struct sp_view payload, double *time);

#endif
