/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file One message on its way to the cloud, in memory, and lists of them. */
#ifndef SP_GATEWAY_STORE_ROW_H
#define SP_GATEWAY_STORE_ROW_H

#include "gateway/proc/messages.h"

/** What became of a row that the cloud thread was given. */
enum sp_row_end {
    SP_ROW_DELIVERED, /**< the cloud acknowledged it */
    SP_ROW_DEAD,      /**< it goes to the dead letters, for `reason` */
};

/** Heap block of its own; in at most one list at a time. The views point behind the struct. */
struct sp_row {
    struct sp_row *next;
    uint64_t
        seq; /**< place in the journal, from 1; 0: not in the journal (QoS 0, or not committed yet) */
    uint64_t time_ms;   /**< acceptance, milliseconds since 1970 */
    uint64_t end_ms;    /**< when it left, milliseconds since 1970 */
    const char *reason; /**< of SP_ROW_DEAD, and with SP_RECORD_REFUSED; static text */
    uint32_t stream;    /**< hash of the device: all its messages go one way */
    uint32_t expiry_s;  /**< after acceptance; 0 = none */
    enum sp_row_end end;
    uint8_t qos;
    uint8_t format;     /**< enum sp_format */
    uint8_t protection; /**< enum sp_protection */
    uint8_t flags;      /**< SP_RECORD_* */
    uint32_t epoch;     /**< of the mark; looked at when `counter` is not 0 and before the commit */
    uint64_t counter;   /**< of a protected record that was opened; 0: none */
    struct sp_view group; /**< of the mark */
    uint16_t packet_id;   /**< QoS 2, until it is committed; else 0 */
    struct sp_view device;
    struct sp_view topic;
    struct sp_view origin;
    struct sp_view payload;
    uint8_t data[];
};

/** First in, first out. All zero is empty. */
struct sp_row_list {
    struct sp_row *head;
    struct sp_row *tail;
    size_t count;
    size_t bytes; /**< sum of sp_row_cost() */
};

/**
 * A row with copies of its parts and its stream; everything else 0. Release with sp_row_destroy().
 * @return NULL when there is no memory.
 */
struct sp_row *sp_row_create(struct sp_view device, struct sp_view topic, struct sp_view origin,
                             struct sp_view payload);

/** The same with the group of a mark. */
struct sp_row *sp_row_create_marked(struct sp_view device, struct sp_view topic,
                                    struct sp_view origin, struct sp_view payload,
                                    struct sp_view group);
void sp_row_destroy(struct sp_row *row); /**< NULL is fine */

/** What a row counts against a quota: its bytes, and SP_ROW_OVERHEAD so that empty ones count too. */
size_t sp_row_cost(const struct sp_row *row);
#define SP_ROW_OVERHEAD 64U

/** FNV-1a over the device's name; kept in the journal, so it never changes. */
uint32_t sp_row_stream(struct sp_view device);

void sp_row_list_push(struct sp_row_list *list,
                      struct sp_row *row);                /**< at the end; takes the row */
struct sp_row *sp_row_list_pop(struct sp_row_list *list); /**< the first, or NULL */
void sp_row_list_append(struct sp_row_list *list, struct sp_row_list *from); /**< empties `from` */
void sp_row_list_clear(struct sp_row_list *list); /**< destroys the rows */

#endif
