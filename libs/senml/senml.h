/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Sensor records: SenML-CBOR in (RFC 8428, in the narrow form of docs/protocol.md 5, "Clear"), SenML-JSON
 * and the `json` document of the same section out.
 *
 * No state, no allocation; everything is borrowed from the payload. All functions are thread-safe.
 */
#ifndef SP_LIBS_SENML_SENML_H
#define SP_LIBS_SENML_SENML_H

#include "libs/base/bytes.h"
#include "libs/senml/decimal.h"

#define SP_SENML_ENTRIES_MAX           8U
#define SP_SENML_JSON_MAX(payload_len) (8U * (payload_len) + 1024U) /**< enough for either output */

enum sp_senml_kind {
    SP_SENML_NONE,   /**< no value, only a sum */
    SP_SENML_NUMBER, /**< `number` */
    SP_SENML_TEXT,   /**< `bytes`: UTF-8 */
    SP_SENML_DATA,   /**< `bytes` */
    SP_SENML_BOOL,   /**< `flag` */
};

/** What the entry measures; everything else is SP_SENML_OTHER and passes through. */
enum sp_senml_quantity { SP_SENML_OTHER, SP_SENML_TEMPERATURE, SP_SENML_HUMIDITY };

/** One resolved entry (RFC 8428, 4.6): base fields are applied. */
struct sp_senml_entry {
    enum sp_senml_quantity quantity;
    enum sp_senml_kind kind;
    struct sp_view name;      /**< behind `<device>/`: `temperature` */
    struct sp_view unit;      /**< empty when absent */
    struct sp_decimal number; /**< base value added */
    struct sp_view bytes;
    bool flag;
    bool has_sum;
    bool has_time;
    struct sp_decimal sum;
    struct sp_decimal
        time; /**< seconds: since 1970, or relative when below 2^28; see sp_senml_time_ms() */
    struct sp_decimal update_time; /**< seconds; 0 when absent */
};

/** A parsed record; about 1.2 KiB. */
struct sp_senml_record {
    size_t count; /**< entries in use, 1..8, in the order sent */
    struct sp_senml_entry entries[SP_SENML_ENTRIES_MAX];
    const struct sp_senml_entry
        *temperature; /**< the last one, into `entries`; NULL when there is none. Cel */
    const struct sp_senml_entry *humidity; /**< the same. %RH */
};

/**
 * Parse and check a clear record.
 *
 * Refused: anything but a definite array of 1..8 definite maps without trailing bytes; a label twice; a base name
 * other than `<device>/`, or none in the first map; a value that is not finite; an entry without value and sum;
 * temperature in anything but `Cel`, humidity in anything but `%RH`, or either of them not a number; a
 * label that must be understood (text that ends in `_`); base version above 10. Other unknown labels are
 * ignored. Integers and lengths need not be in their shortest form (RFC 8428 does not ask for it).
 *
 * @param[in]  payload As published, borrowed as long as `out` is used.
 * @param[in]  device  Identity of the sender, without the slash.
 * @param[out] out     On SP_OK only. Not to be copied by assignment: `temperature` points into it.
 * @retval SP_ERR_MALFORMED Not such a record.
 * @retval SP_ERR_LIMIT     A number beyond 64 bits of mantissa or SP_DECIMAL_EXPONENT_MAX.
 *
 * Uses under 1 KiB of stack beside `out`, 1.8 KiB for binary floats.
 */
SP_MUST_CHECK enum sp_err sp_senml_parse(struct sp_view payload, struct sp_view device,
                                         struct sp_senml_record *out);

/** When the entry was measured, in milliseconds since 1970: absolute, relative to `accepted_ms`, or that. */
int64_t sp_senml_time_ms(const struct sp_senml_entry *entry, int64_t accepted_ms);

/** What the gateway knows about a record beside its content. */
struct sp_senml_context {
    struct sp_view device;
    int64_t accepted_ms;       /**< acceptance, milliseconds since 1970 */
    bool attested;             /**< the device's last verdict was ok */
    const char *protection;    /**< "clear", "mac" or "sealed" */
    bool has_sequence;         /**< false in clear: null */
    uint64_t sequence;         /**< the record's counter */
    struct sp_view message_id; /**< text; empty: null */
};

/**
 * Write the `json` document of docs/protocol.md 5: one object with device, time, temperature_celsius,
 * humidity_percent, sequence, attested, protection, message_id. A quantity that the record lacks is null;
 * of several, the last counts; time is that of the last climate entry, in seconds with up to three decimals.
 * Too small a buffer sets the writer's error.
 */
void sp_senml_to_json(const struct sp_senml_record *record, const struct sp_senml_context *context,
                      struct sp_writer *w);

/**
 * Write what a monitor prints: device, time, temperature_celsius, humidity_percent, sequence, protection. With an
 * empty record (one that cannot be read) both values are null.
 */
void sp_senml_to_line(const struct sp_senml_record *record, const struct sp_senml_context *context,
                      struct sp_writer *w);

/**
 * Write SenML-JSON (RFC 8428, 5): all entries resolved to absolute time, the base name `<device>/` and, where
 * all entries share it, the base time in the first.
 */
void sp_senml_to_senml_json(const struct sp_senml_record *record,
                            const struct sp_senml_context *context, struct sp_writer *w);

/** What a climate sensor reports. */
struct sp_senml_climate {
    struct sp_view device;
    struct sp_decimal temperature; /**< Cel */
    struct sp_decimal humidity;    /**< %RH */
    bool has_time;
    int64_t time; /**< seconds since 1970 */
};

/**
 * Write a clear record. A number with exponent 0 becomes an integer, any other a decimal fraction with
 * just that mantissa and exponent; so 2350e-2 is `C4 82 21 19 09 2E` (vectors in docs/protocol.md 8).
 *
 * @param[out] out 58 bytes and the identity at most 128 in all.
 * @retval SP_ERR_SPACE Too small a buffer.
 */
SP_MUST_CHECK enum sp_err sp_senml_encode_climate(const struct sp_senml_climate *climate,
                                                  uint8_t *out, size_t cap, size_t *out_len);

/** Write `text` as a JSON string with its quotes; for documents that are built beside these. */
void sp_json_write_string(struct sp_writer *w, struct sp_view text);

#endif
