/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/receipts.h"

#include "gateway/gate/session/client.h"
#include "gateway/gate/session/home.h"
#include "gateway/log/log.h"
#include "gateway/slab/slab.h"

#include <stdlib.h>

/* To the home of a receipt. */
struct settlement {
    struct sp_parcel parcel; /* first: arrive() casts back */
    struct sp_receipt_ref ref;
    bool refused;
};

static struct sp_slab slab = SP_SLAB_INIT(sizeof(struct sp_receipt));

struct sp_receipt *sp_receipt_open(struct sp_home *home, sp_slot_tag client, uint32_t waits)
{
    struct sp_receipt *receipt = sp_slab_take(&slab);
    if (receipt == NULL || sp_slots_put(&home->receipts, receipt, &receipt->tag) != SP_OK) {
        sp_slab_give(&slab, receipt);
        return NULL;
    }
    receipt->client = client;
    receipt->waits = waits;
    return receipt;
}

enum sp_err sp_receipt_reserve(struct sp_home *home)
{
    if (home->spare_receipt == NULL) {
        home->spare_receipt = sp_receipt_open(home, 0, 0);
    }
    return home->spare_receipt == NULL ? SP_ERR_NOMEM : SP_OK;
}

struct sp_receipt *sp_receipt_open_reserved(struct sp_home *home, uint32_t waits)
{
    struct sp_receipt *receipt = home->spare_receipt;
    home->spare_receipt = NULL;
    receipt->waits = waits;
    return receipt;
}

bool sp_receipts_none(const struct sp_home *home)
{
    uint32_t index = 0;
    const struct sp_receipt *receipt;
    while ((receipt = sp_slots_each(&home->receipts, &index)) != NULL) {
        if (receipt != home->spare_receipt) {
            return false;
        }
    }
    return true;
}

struct sp_receipt *sp_receipt_find(const struct sp_home *home, sp_slot_tag tag)
{
    return tag == 0 ? NULL : sp_slots_find(&home->receipts, tag);
}

void sp_receipt_free(struct sp_home *home, struct sp_receipt *receipt)
{
    sp_slots_remove(&home->receipts, receipt->tag);
    sp_slab_give(&slab, receipt);
}

/* Another store process knows nothing of it: it gets the command again from the cloud. */
static void answer_cloud(struct sp_home *home, const struct sp_receipt *receipt)
{
    uint16_t type = receipt->refused ? SP_MSG_COMMAND_REFUSED : SP_MSG_COMMAND_TAKEN;
    if (receipt->connection == home->keep.connection) {
        (void)!sp_edge_send(&home->tickets.store, type, receipt->command, NULL, 0);
    }
}

static void settled(struct sp_home *home, struct sp_receipt *receipt)
{
    if (receipt->is_command) {
        answer_cloud(home, receipt);
        sp_receipt_free(home, receipt);
        return;
    }
    struct sp_client *client = sp_slots_find(&home->clients, receipt->client);
    if (client == NULL) {
        sp_receipt_free(home, receipt);
    } else if (receipt->held) {
        sp_client_receipted(client);
    }
}

static void settle_here(struct sp_home *home, sp_slot_tag tag, bool refused)
{
    struct sp_receipt *receipt = sp_receipt_find(home, tag);
    if (receipt == NULL || receipt->waits == 0) {
        return;
    }
    receipt->refused = receipt->refused || refused;
    if (--receipt->waits == 0) {
        settled(home, receipt);
    }
}

static void arrive(void *owner, struct sp_parcel *parcel)
{
    const struct settlement *settlement = (const struct settlement *)parcel;
    settle_here(owner, settlement->ref.tag, settlement->refused);
    free(parcel);
}

void sp_receipt_settle(struct sp_home *home, struct sp_receipt_ref ref, bool refused)
{
    if (ref.tag == 0) {
        return;
    }
    if (ref.loop == home->index) {
        settle_here(home, ref.tag, refused);
        return;
    }
    struct settlement *settlement = malloc(sizeof(*settlement));
    if (settlement == NULL) {
        /* The publisher gets no answer, and sends again. */
        sp_log_error(SP_EVENT("receipt_lost"), SP_F_ERR(SP_ERR_NOMEM));
        return;
    }
    settlement->parcel.run = arrive;
    settlement->ref = ref;
    settlement->refused = refused;
    sp_home_post(home, ref.loop, &settlement->parcel);
}

void sp_receipt_orphan(struct sp_home *home, sp_slot_tag tag)
{
    struct sp_receipt *receipt = sp_receipt_find(home, tag);
    if (receipt == NULL) {
        return;
    }
    receipt->client = 0;
    receipt->held = false;
    if (receipt->waits == 0) {
        sp_receipt_free(home, receipt);
    }
}

void sp_receipts_deinit(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_receipt *receipt;
    while ((receipt = sp_slots_each(&home->receipts, &index)) != NULL) {
        sp_slab_give(&slab, receipt);
    }
    home->spare_receipt = NULL;
    sp_slots_deinit(&home->receipts);
}
