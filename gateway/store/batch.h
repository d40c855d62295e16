/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Messages of one commit as bytes, one behind the other: what a row of the journal's table `batches` holds
 * (docs/decisions/0007-batches.md). Their sequences follow each other. Big-endian, as written by this program only,
 * but read as anything that comes from a disk.
 */
#ifndef SP_GATEWAY_STORE_BATCH_H
#define SP_GATEWAY_STORE_BATCH_H

#include "gateway/store/row.h"

#define SP_BATCH_ROWS  128U        /**< messages of a batch */
#define SP_BATCH_BYTES (64U << 10) /**< no further message from here on */

/** A message of the journal; the views are borrowed from where it was read. */
struct sp_stored {
    uint64_t seq;
    uint64_t time_ms;  /**< acceptance, milliseconds since 1970 */
    uint64_t counter;  /**< of a protected record that was opened; 0: none */
    uint32_t expiry_s; /**< after acceptance; 0 = none */
    uint8_t qos;
    uint8_t format;     /**< enum sp_format */
    uint8_t protection; /**< enum sp_protection */
    uint8_t flags;      /**< SP_RECORD_* */
    struct sp_view device;
    struct sp_view topic;
    struct sp_view origin;
    struct sp_view payload;
};

/** Bytes that sp_batch_write() writes. */
size_t sp_batch_size(const struct sp_row *row);

/** Everything of it that a journal keeps, but the sequence. */
void sp_batch_write(struct sp_writer *w, const struct sp_row *row);

/** The next message; its `seq` is 0. After an error *out is undefined. @retval SP_ERR_MALFORMED No sound message follows. */
SP_MUST_CHECK enum sp_err sp_batch_next(struct sp_reader *r, struct sp_stored *out);

/** As sp_row_cost() of the row that it was, or will be. */
size_t sp_stored_cost(const struct sp_stored *message);

/** Its numbers can be ones that store has written. */
bool sp_stored_sound(const struct sp_stored *message);

#endif
