/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/cbor/cbor.h"
#include "libs/senml/senml.h"

static void write_escaped(struct sp_writer *w, struct sp_view text)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c == '"' || c == '\\') {
            sp_write_u8(w, '\\');
            sp_write_u8(w, c);
        } else if (c < 0x20 || c == 0x7F) {
            sp_write_str(w, "\\u00");
            sp_write_u8(w, (uint8_t)digits[c >> 4]);
            sp_write_u8(w, (uint8_t)digits[c & 15]);
        } else {
            sp_write_u8(w, c);
        }
    }
}

void sp_json_write_string(struct sp_writer *w, struct sp_view text)
{
    sp_write_u8(w, '"');
    write_escaped(w, text);
    sp_write_u8(w, '"');
}

static void write_seconds(struct sp_writer *w, int64_t ms)
{
    sp_decimal_write(w, (struct sp_decimal){ms, -3});
}

static void write_quantity(struct sp_writer *w, const char *key, const struct sp_senml_entry *entry)
{
    sp_write_str(w, key);
    if (entry == NULL) {
        sp_write_str(w, "null");
    } else {
        sp_decimal_write(w, entry->number);
    }
}

/* Both climate entries point into one array: the later one has the higher address. */
static const struct sp_senml_entry *last_climate(const struct sp_senml_record *record)
{
    if (record->temperature == NULL || record->humidity == NULL) {
        return record->temperature != NULL ? record->temperature : record->humidity;
    }
    return record->temperature > record->humidity ? record->temperature : record->humidity;
}

static void write_unsigned(struct sp_writer *w, uint64_t value)
{
    if (value >= 10) {
        sp_write_dec(w, (int64_t)(value / 10)); /* sp_write_dec() is signed */
    }
    sp_write_u8(w, (uint8_t)('0' + value % 10));
}

/* device, time, values and sequence: how both documents begin */
static void write_reading(const struct sp_senml_record *record,
                          const struct sp_senml_context *context, struct sp_writer *w)
{
    const struct sp_senml_entry *last = last_climate(record);
    sp_write_str(w, "{\"device\":");
    sp_json_write_string(w, context->device);
    sp_write_str(w, ",\"time\":");
    write_seconds(w, last == NULL ? context->accepted_ms
                                  : sp_senml_time_ms(last, context->accepted_ms));
    write_quantity(w, ",\"temperature_celsius\":", record->temperature);
    write_quantity(w, ",\"humidity_percent\":", record->humidity);
    sp_write_str(w, ",\"sequence\":");
    if (context->has_sequence) {
        write_unsigned(w, context->sequence);
    } else {
        sp_write_str(w, "null");
    }
}

void sp_senml_to_line(const struct sp_senml_record *record, const struct sp_senml_context *context,
                      struct sp_writer *w)
{
    write_reading(record, context, w);
    sp_write_str(w, ",\"protection\":");
    sp_json_write_string(w, sp_view_str(context->protection));
    sp_write_str(w, "}");
}

void sp_senml_to_json(const struct sp_senml_record *record, const struct sp_senml_context *context,
                      struct sp_writer *w)
{
    write_reading(record, context, w);
    sp_write_str(w, context->attested ? ",\"attested\":true" : ",\"attested\":false");
    sp_write_str(w, ",\"protection\":");
    sp_json_write_string(w, sp_view_str(context->protection));
    sp_write_str(w, ",\"message_id\":");
    if (context->message_id.len != 0) {
        sp_json_write_string(w, context->message_id);
    } else {
        sp_write_str(w, "null");
    }
    sp_write_str(w, "}");
}

/* RFC 4648, 5, without padding, as RFC 8428 (4.3) wants data values. */
static void write_base64url(struct sp_writer *w, struct sp_view bytes)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for (size_t i = 0; i < bytes.len; i += 3) {
        size_t have = bytes.len - i < 3 ? bytes.len - i : 3;
        uint32_t group = 0;
        for (size_t j = 0; j < 3; j++) {
            group = group << 8 | (j < have ? bytes.ptr[i + j] : 0U);
        }
        for (size_t j = 0; j <= have; j++) {
            sp_write_u8(w, (uint8_t)digits[group >> (18 - 6 * j) & 63]);
        }
    }
}

static void write_value(struct sp_writer *w, const struct sp_senml_entry *entry)
{
    switch (entry->kind) {
    case SP_SENML_NUMBER:
        sp_write_str(w, ",\"v\":");
        sp_decimal_write(w, entry->number);
        break;
    case SP_SENML_TEXT:
        sp_write_str(w, ",\"vs\":");
        sp_json_write_string(w, entry->bytes);
        break;
    case SP_SENML_DATA:
        sp_write_str(w, ",\"vd\":\"");
        write_base64url(w, entry->bytes);
        sp_write_str(w, "\"");
        break;
    case SP_SENML_BOOL:
        sp_write_str(w, entry->flag ? ",\"vb\":true" : ",\"vb\":false");
        break;
    case SP_SENML_NONE:
    default:
        break;
    }
}

static void write_entry(struct sp_writer *w, const struct sp_senml_entry *entry)
{
    sp_write_str(w, "\"n\":");
    sp_json_write_string(w, entry->name);
    if (entry->unit.len != 0) {
        sp_write_str(w, ",\"u\":");
        sp_json_write_string(w, entry->unit);
    }
    write_value(w, entry);
    if (entry->has_sum) {
        sp_write_str(w, ",\"s\":");
        sp_decimal_write(w, entry->sum);
    }
    if (entry->update_time.mantissa != 0) {
        sp_write_str(w, ",\"ut\":");
        sp_decimal_write(w, entry->update_time);
    }
}

static bool one_time(const struct sp_senml_record *record, int64_t accepted_ms)
{
    for (size_t i = 1; i < record->count; i++) {
        if (sp_senml_time_ms(&record->entries[i], accepted_ms) !=
            sp_senml_time_ms(&record->entries[0], accepted_ms)) {
            return false;
        }
    }
    return true;
}

void sp_senml_to_senml_json(const struct sp_senml_record *record,
                            const struct sp_senml_context *context, struct sp_writer *w)
{
    bool shared = one_time(record, context->accepted_ms);
    sp_write_str(w, "[{\"bn\":\"");
    write_escaped(w, context->device);
    sp_write_str(w, "/\",");
    for (size_t i = 0; i < record->count; i++) {
        int64_t ms = sp_senml_time_ms(&record->entries[i], context->accepted_ms);
        sp_write_str(w, i == 0 ? "" : ",{");
        if (shared && i == 0) {
            sp_write_str(w, "\"bt\":");
            write_seconds(w, ms);
            sp_write_str(w, ",");
        }
        write_entry(w, &record->entries[i]);
        if (!shared) {
            sp_write_str(w, ",\"t\":");
            write_seconds(w, ms);
        }
        sp_write_str(w, "}");
    }
    sp_write_str(w, "]");
}

static void write_cbor_number(struct sp_writer *w, struct sp_decimal number)
{
    if (number.exponent == 0) {
        sp_cbor_write_int(w, number.mantissa);
        return;
    }
    sp_cbor_write_tag(w, 4);
    sp_cbor_write_array(w, 2);
    sp_cbor_write_int(w, number.exponent);
    sp_cbor_write_int(w, number.mantissa);
}

static void write_cbor_entry(struct sp_writer *w, const char *name, const char *unit,
                             struct sp_decimal value)
{
    sp_cbor_write_int(w, 0);
    sp_cbor_write_text(w, sp_view_str(name));
    sp_cbor_write_int(w, 1);
    sp_cbor_write_text(w, sp_view_str(unit));
    sp_cbor_write_int(w, 2);
    write_cbor_number(w, value);
}

enum sp_err sp_senml_encode_climate(const struct sp_senml_climate *climate, uint8_t *out,
                                    size_t cap, size_t *out_len)
{
    uint8_t name[256];
    struct sp_writer base_name;
    sp_writer_init(&base_name, name, sizeof(name));
    sp_write_view(&base_name, climate->device);
    sp_write_str(&base_name, "/");
    SP_TRY(base_name.err);
    struct sp_writer w;
    sp_writer_init(&w, out, cap);
    sp_cbor_write_array(&w, 2);
    sp_cbor_write_map(&w, climate->has_time ? 5 : 4);
    sp_cbor_write_int(&w, -2);
    sp_cbor_write_text(&w, sp_writer_view(&base_name));
    if (climate->has_time) {
        sp_cbor_write_int(&w, -3);
        sp_cbor_write_int(&w, climate->time);
    }
    write_cbor_entry(&w, "temperature", "Cel", climate->temperature);
    sp_cbor_write_map(&w, 3);
    write_cbor_entry(&w, "humidity", "%RH", climate->humidity);
    SP_TRY(w.err);
    *out_len = sp_writer_view(&w).len;
    return SP_OK;
}
