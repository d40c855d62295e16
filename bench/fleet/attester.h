/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The fleet's software attester: tokens like those of a device, from a key in memory. */
#ifndef SP_BENCH_FLEET_ATTESTER_H
#define SP_BENCH_FLEET_ATTESTER_H

#include "libs/attest/attest.h"
#include "libs/link/link.h"

#define SP_ATTESTER_KEY_LEN   32U
#define SP_ATTESTER_TOKEN_MAX 640U /**< bytes that one of these tokens needs at most */

/** What every device of the fleet claims to be and to run: the reference entry that the gateway needs. */
extern const uint8_t sp_attester_implementation_id[32];
extern const uint8_t sp_attester_measurement[32];
extern const uint8_t sp_attester_signer_id[32];
#define SP_ATTESTER_COMPONENT_TYPE    "ARoT"
#define SP_ATTESTER_COMPONENT_VERSION "1.0.0"

struct sp_attester {
    uint8_t iak[SP_ATTESTER_KEY_LEN];
    uint8_t ueid[SP_ATTEST_UEID_LEN];
};

/** The key is copied, the UEID derived from it. @retval SP_ERR_ARGUMENT Not 32 bytes. */
SP_MUST_CHECK enum sp_err sp_attester_init(struct sp_attester *attester, struct sp_view iak);

/** What a token answers: one challenge of one connection. Borrowed. */
struct sp_attester_question {
    enum sp_link_binding binding;
    struct sp_view identity;
    struct sp_view nonce;
    struct sp_view exporter; /**< looked at with SP_LINK_BINDING_TLS only */
};

/**
 * Make the token.
 * @param[out] out SP_ATTESTER_TOKEN_MAX bytes.
 * @retval SP_ERR_ARGUMENT A part of the question has a wrong length.
 */
SP_MUST_CHECK enum sp_err sp_attester_answer(const struct sp_attester *attester,
                                             const struct sp_attester_question *question,
                                             uint8_t *out, size_t *out_len);

#endif
