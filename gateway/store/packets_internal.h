/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Packet ids of QoS 2 that wait for their PUBREL (docs/delivery.md, D6): the table `received` in the journal's file.
 * Everything happens inside the commit that is open. Results are SQLite's. Private to the files *_sqlite.c of this folder.
 */
#ifndef SP_GATEWAY_STORE_PACKETS_INTERNAL_H
#define SP_GATEWAY_STORE_PACKETS_INTERNAL_H

#include "gateway/store/row.h"

#define SP_PACKETS_STATEMENTS 4

struct sqlite3;
struct sqlite3_stmt;

/** Zeroed = not connected. */
struct sp_packets {
    struct sqlite3_stmt *prepared[SP_PACKETS_STATEMENTS];
};

/** sp_packets_disconnect() is due whatever comes. */
int sp_packets_connect(struct sp_packets *packets, struct sqlite3 *db);

/** Before the database is closed. */
void sp_packets_disconnect(struct sp_packets *packets);

/** Is it a message that is here already: marked as a repeat, and its packet id kept with the same topic and payload? */
int sp_packets_is_repeat(struct sp_packets *packets, const struct sp_row *row, bool *repeat);

/** Keep the packet id of a message that has its `seq`; of a device the latest SP_JOURNAL_PACKET_IDS are kept. */
int sp_packets_receive(struct sp_packets *packets, const struct sp_row *row);

/** Forget the packet id of a row with SP_RECORD_RELEASE; one that is not kept is no failure. */
int sp_packets_release(struct sp_packets *packets, const struct sp_row *row);

#endif
