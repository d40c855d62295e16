/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file The ledger: what producers, cloud and tests write down, one entry of fixed size after another. */
#ifndef SP_TESTS_FAULTS_LEDGER_ENTRY_H
#define SP_TESTS_FAULTS_LEDGER_ENTRY_H

#include "libs/base/bytes.h"

enum sp_entry_kind {
    SP_ENTRY_SENT = 1, /**< producer: written to the socket, for the first or another time */
    SP_ENTRY_ACKED, /**< producer: PUBACK or PUBREC with `code` came; from 0x80 on it is a refusal */
    SP_ENTRY_GOT,   /**< cloud: arrived, with `sequence` and `connection`; `code` 1: altered */
    SP_ENTRY_ANSWERED, /**< cloud: answered with `code` */
    SP_ENTRY_LINK,     /**< cloud: a connection was admitted */
    SP_ENTRY_DEAD,     /**< test: found among the dead letters */
    SP_ENTRY_EXPIRED,  /**< test: the gateway said that it had expired */
    SP_ENTRY_KINDS
};

/** A code of SP_ENTRY_ANSWERED: the cloud closed the connection because of this message. */
#define SP_ENTRY_HUNG_UP 0xFFU

/** As in the file, in the machine's byte order. */
struct sp_entry {
    uint8_t kind; /**< enum sp_entry_kind */
    uint8_t code;
    uint16_t reserved;
    uint32_t device;     /**< number of the producer's device */
    uint64_t number;     /**< of the message, from 1, per device */
    uint64_t sequence;   /**< cloud: the gateway's; 0: it gave none */
    uint32_t connection; /**< cloud: number of the connection, from 1 */
    uint32_t ms;         /**< milliseconds since the writer began */
};
_Static_assert(sizeof(struct sp_entry) == 32, "tests/faults/ledger.py knows it too");

/** A file that is appended to. */
struct sp_ledger {
    int fd;
    size_t count;
    struct sp_entry entries[2048]; /* not written yet */
    uint64_t began_ns;
};

/** Create or append. @retval SP_ERR_IO */
SP_MUST_CHECK enum sp_err sp_ledger_open(struct sp_ledger *ledger, const char *path);

/** Note an entry; its `ms` is filled in. Ends the program when the disk does not take it. */
void sp_ledger_note(struct sp_ledger *ledger, struct sp_entry entry);

/** Everything noted is in the file; `sync`: and on the disk. */
void sp_ledger_flush(struct sp_ledger *ledger, bool sync);

#endif
