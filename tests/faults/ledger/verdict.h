/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The checker: does what the cloud got agree with what the devices were promised (docs/delivery.md)?
 *
 * Feed it the producers' entries, then what the test found in the gateway (dead letters, expired), then the cloud's, each in
 * the order in which they were written.
 */
#ifndef SP_TESTS_FAULTS_LEDGER_VERDICT_H
#define SP_TESTS_FAULTS_LEDGER_VERDICT_H

#include "tests/faults/ledger/entry.h"

struct sp_verdict; /* opaque */

/** Everything counts messages unless said otherwise. */
struct sp_findings {
    uint64_t sent;      /**< numbers given out */
    uint64_t acked;     /**< with success */
    uint64_t refused;   /**< at least once, and never acked */
    uint64_t delivered; /**< the cloud answered with success */
    uint64_t dead;
    uint64_t expired;
    uint64_t repeats; /**< arrivals of a gateway sequence that had arrived before */
    uint64_t most;    /**< of them on one connection */
    uint64_t copies;  /**< further gateway sequences for one message: the device sent it again */
    uint64_t connections; /**< of the cloud */
    uint64_t
        unexplained; /**< dead, though the cloud neither refused it for good nor hung up on it */
    /* what must be 0 */
    uint64_t lost;      /**< acked, and neither delivered nor dead nor expired */
    uint64_t invented;  /**< arrived, never sent */
    uint64_t altered;   /**< arrived with other bytes */
    uint64_t disorder;  /**< first arrivals of one device not in order */
    uint64_t overtaken; /**< taken for the first time behind a later message of its device */
    uint64_t backwards; /**< a repeat behind a later message of its device, on one connection */
    uint64_t renamed; /**< one gateway sequence for two messages, or more sequences than sendings */
    uint64_t swamped; /**< connections with more repeats than the bound */
};

/** @param[in] bound Repeats that one connection may carry. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_verdict_create(uint64_t bound, struct sp_verdict **out);
void sp_verdict_destroy(struct sp_verdict *v); /**< NULL is fine */

/** @retval SP_ERR_MALFORMED No entry of ours. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_verdict_add(struct sp_verdict *v, const struct sp_entry *entry);

/** Look at all of it. */
struct sp_findings sp_verdict_find(struct sp_verdict *v);

/** Nothing that must be 0 is more. */
bool sp_findings_good(const struct sp_findings *f);

typedef void (*sp_verdict_visit_fn)(void *arg, uint32_t device, uint64_t number);

/** Show every lost message. */
void sp_verdict_lost(const struct sp_verdict *v, sp_verdict_visit_fn fn, void *arg);

#endif
