/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Who waits until a message is with all the kept sessions it is for: with the device, or in the journal.
 *
 * A receipt belongs to the home in which it was opened, and is closed there; sessions of other homes settle it by parcels.
 * When nothing is left to wait for, the publisher gets its answer (sp_client_receipted()), or the cloud its acknowledgement
 * of a command.
 */
#ifndef SP_GATEWAY_GATE_ROUTE_RECEIPTS_H
#define SP_GATEWAY_GATE_ROUTE_RECEIPTS_H

#include "gateway/gate/core/slots.h"
#include "gateway/gate/route/tickets.h"

struct sp_home;

/** What a session has of a receipt. {0, 0}: nobody waits. */
struct sp_receipt_ref {
    sp_slot_tag tag;
    uint16_t loop;
};

struct sp_receipt {
    struct sp_receipt *next; /* of those that the client holds */
    sp_slot_tag tag;
    sp_slot_tag client;  /* 0: a command of the cloud, or nobody any more */
    uint64_t command;    /* its tag */
    uint32_t connection; /* to store, over which the command came */
    uint32_t waits;
    bool is_command;
    bool held;     /* in its client's list: only sessions are waited for */
    bool in_cloud; /* the journal has it for the cloud: a full queue is no reason to refuse it */
    bool refused;
    struct sp_client_answer answer;
};

/** Settled `waits` times it is done. NULL: no memory. */
struct sp_receipt *sp_receipt_open(struct sp_home *home, sp_slot_tag client, uint32_t waits);

/**
 * Have one ready that sp_receipt_open_reserved() gives: for who would be half done if it had none then.
 * @retval SP_ERR_NOMEM
 */
SP_MUST_CHECK enum sp_err sp_receipt_reserve(struct sp_home *home);
struct sp_receipt *sp_receipt_open_reserved(struct sp_home *home, uint32_t waits);

/** Nobody waits for anything. */
bool sp_receipts_none(const struct sp_home *home);

/** NULL: gone. */
struct sp_receipt *sp_receipt_find(const struct sp_home *home, sp_slot_tag tag);

void sp_receipt_free(struct sp_home *home, struct sp_receipt *receipt);

/** One of those that were waited for has the message, or `refused` it. From any home. {0, 0} is fine. */
void sp_receipt_settle(struct sp_home *home, struct sp_receipt_ref ref, bool refused);

/** Its client is gone. */
void sp_receipt_orphan(struct sp_home *home, sp_slot_tag tag);

void sp_receipts_deinit(struct sp_home *home);

#endif
