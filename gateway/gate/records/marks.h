/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file The highest counter accepted from each device under each epoch of its group (docs/protocol.md 5).
 *
 * A mark moves when the record that moves it is durable, or at once where nothing makes it durable. While one is on its
 * way, `pending` says so: of each (device, group, epoch) there is one on its way at a time, so that a refusal by the store
 * leaves nothing behind that was accepted out of order.
 */
#ifndef SP_GATEWAY_GATE_RECORDS_MARKS_H
#define SP_GATEWAY_GATE_RECORDS_MARKS_H

#include "gateway/gate/core/table.h"
#include "gateway/gate/records/keyring.h"
#include "libs/record/record.h"

struct sp_mark {
    struct sp_table_node node; /* first: found by casting back */
    struct sp_mark *next;      /* all of them */
    uint64_t counter;          /**< highest accepted; 0: none */
    uint64_t pending;          /**< on its way into the journal; 0: none */
    uint64_t fed;              /**< highest that was given to fusions */
    uint32_t epoch;
    uint8_t device_len;
    uint8_t group_len;
    bool has_key;
    uint8_t device[SP_LINK_IDENTITY_MAX];
    uint8_t group[SP_RECORD_GROUP_MAX];
    uint8_t key[SP_RECORD_KEY_MAX]; /**< the device's record key, once it was needed */
};

/** Zeroed = empty. */
struct sp_marks {
    struct sp_table table;
    struct sp_mark *all;
    bool complete; /**< store has told all that are on disk; until then nothing can be judged */
};

/** Find or make. NULL: no memory. */
struct sp_mark *sp_marks_get(struct sp_marks *marks, struct sp_view device, struct sp_view group,
                             uint32_t epoch);
/** NULL: nothing was accepted yet. */
struct sp_mark *sp_marks_find(const struct sp_marks *marks, struct sp_view device,
                              struct sp_view group, uint32_t epoch);

/** What was pending is durable, or refused. */
void sp_mark_settle(struct sp_mark *mark, bool durable);

/** SP_MSG_MARKS; those of devices that have their home elsewhere are left out. @retval SP_ERR_MALFORMED, SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_marks_load(struct sp_marks *marks, struct sp_view body, bool last,
                                        uint16_t loop, uint16_t loops);

/** Forget those of epochs that are not accepted any more, with their keys. */
void sp_marks_prune(struct sp_marks *marks, const struct sp_keyring *ring, uint64_t wall_ms);

void sp_marks_deinit(struct sp_marks *marks);

#endif
