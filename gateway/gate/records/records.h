/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file A sensor record held against its device's row: form, key, counter, content (docs/protocol.md 5). */
#ifndef SP_GATEWAY_GATE_RECORDS_RECORDS_H
#define SP_GATEWAY_GATE_RECORDS_RECORDS_H

#include "gateway/gate/records/marks.h"
#include "gateway/metrics/metrics.h"
#include "libs/senml/senml.h"

/** Refused records of one connection that do not open before it is closed. */
#define SP_RECORDS_UNOPENED_MAX 10U

enum sp_record_fate {
    SP_FATE_TAKE,   /**< route it */
    SP_FATE_REPEAT, /**< was accepted before: acknowledge it, route it nowhere */
    SP_FATE_LATER,  /**< cannot be judged now: 0x97 */
    SP_FATE_REFUSE, /**< 0x99; see `kind` and `detail` */
};

/** Who sent it; views are borrowed. */
struct sp_record_sender {
    struct sp_view device;
    struct sp_view group;    /**< of the row; empty = none */
    enum sp_records allowed; /**< weaker is refused */
    bool climate; /**< published as a sensor record; else only its protection is looked at */
};

/** What became of it. Not to be copied: views and `record` point into it. */
struct sp_record_in {
    enum sp_metric kind; /**< SP_M_RECORD_*: of a refusal */
    const char *detail;  /**< of a refusal: static text */
    enum sp_protection protection;
    struct sp_mark *mark; /**< of an opened record; else NULL */
    uint64_t counter;     /**< the same; else 0 */
    bool readable;        /**< `plain` is what is inside, or the payload of a clear record */
    bool parsed;          /**< `record` is filled */
    struct sp_view plain;
    struct sp_senml_record record;
    uint8_t buffer[SP_RECORD_PLAIN_MAX];
};

/** What the loop knows. */
struct sp_record_room {
    const struct sp_keyring *keyring;
    struct sp_marks *marks;
    uint64_t wall_ms;
};

/** The payload is a protected record of this device's group, wherever it is published. */
bool sp_record_is_protected(struct sp_view payload, struct sp_view group);

enum sp_record_fate sp_record_check(const struct sp_record_room *room,
                                    const struct sp_record_sender *sender, struct sp_view topic,
                                    struct sp_view payload, struct sp_record_in *out);

#endif
