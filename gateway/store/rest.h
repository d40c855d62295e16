/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file A rest between two turns of a busy thread. What comes meanwhile gathers and is done in one go, and, since
 * nobody waits on the fds, whoever sends it does not pay for waking us.
 */
#ifndef SP_GATEWAY_STORE_REST_H
#define SP_GATEWAY_STORE_REST_H

#include <stdint.h>

/** Microseconds of the monotonic clock. */
uint64_t sp_rest_now(void);

/** The same clock in milliseconds. */
uint64_t sp_rest_now_ms(void);

/** Sleep until that time; not at all when it has passed. */
void sp_rest_until(uint64_t us);

#endif
