/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What writing (carry_out.c) and reading (carry_in.c) have in common: numbers in items of carry.h. Private to them. */
#ifndef SP_GATEWAY_GATE_SESSION_CARRY_INTERNAL_H
#define SP_GATEWAY_GATE_SESSION_CARRY_INTERNAL_H

#include "gateway/gate/session/carry.h"

#define SP_CARRY_NO_MAIL UINT32_MAX /**< in place of the number of a message: there is none */

/* What a SP_CARRY_DEVICE has. */
#define SP_CARRY_HAS_SESSION 1U
#define SP_CARRY_HAS_CLIENT  2U
#define SP_CARRY_HAS_WAIT    4U

/* Flags of a client, in two bytes of their own so that the bits of the struct may change. */
#define SP_CARRY_CLIENT_PAUSED            1U
#define SP_CARRY_CLIENT_STALLED           2U
#define SP_CARRY_CLIENT_ATTESTED          4U
#define SP_CARRY_CLIENT_AGAIN             8U
#define SP_CARRY_CLIENT_CHALLENGE_UNACKED 16U
#define SP_CARRY_CLIENT_GRANT_UNACKED     32U
#define SP_CARRY_CLIENT_METHOD            64U
#define SP_CARRY_CLIENT_CHALLENGED        128U
#define SP_CARRY_CLIENT_TERSE             256U

#endif
