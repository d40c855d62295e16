/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file A token bucket in four bytes: what is missing in it, its debt. Pure: when it was settled last, its owner knows.
 *
 * A debt is in thousandths of a message, so that `rate` messages a second pay off `rate` of them in a millisecond. Zeroed = full.
 */
#ifndef SP_GATEWAY_GATE_CORE_DEBT_H
#define SP_GATEWAY_GATE_CORE_DEBT_H

#include <stdbool.h>
#include <stdint.h>

#define SP_DEBT_MESSAGE   1000U    /**< what one message adds */
#define SP_DEBT_BURST_MAX 1000000U /**< of a bucket; a debt never exceeds what it holds */

/** What is left after `ms` without a message. */
uint32_t sp_debt_after(uint32_t debt, uint64_t ms, uint32_t rate);

/** A bucket of `burst` messages has none left. */
bool sp_debt_is_full(uint32_t debt, uint32_t burst);

/**
 * Milliseconds until an empty bucket may be used again: when a tenth of a second's messages are in it, or all that it
 * holds; so who is held back does not wake its loop for every message.
 *
 * @param[in] rate Not 0.
 */
uint64_t sp_debt_wait(uint32_t debt, uint32_t rate, uint32_t burst);

#endif
