/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/cbor/cbor.h"
#include "libs/senml/senml.h"

#define PAIRS_MAX     24U
#define VERSION_MAX   10
#define RELATIVE_TIME (INT64_C(1) << 28) /* RFC 8428, 4.5.3: times below are relative to now */

/* RFC 8428, 6, table 6. */
enum label {
    LABEL_BASE_SUM = -6,
    LABEL_BASE_VALUE = -5,
    LABEL_BASE_UNIT = -4,
    LABEL_BASE_TIME = -3,
    LABEL_BASE_NAME = -2,
    LABEL_BASE_VERSION = -1,
    LABEL_NAME = 0,
    LABEL_UNIT = 1,
    LABEL_VALUE = 2,
    LABEL_STRING = 3,
    LABEL_BOOL = 4,
    LABEL_SUM = 5,
    LABEL_TIME = 6,
    LABEL_UPDATE_TIME = 7,
    LABEL_DATA = 8,
};

#define LABEL_FIRST LABEL_BASE_SUM
#define LABEL_LAST  LABEL_DATA
#define BIT(label)  (1U << ((label)-LABEL_FIRST))
#define VALUE_BITS  (BIT(LABEL_VALUE) | BIT(LABEL_STRING) | BIT(LABEL_BOOL) | BIT(LABEL_DATA))

/* What the maps so far have set for all that follow. */
struct base {
    unsigned seen; /* BIT() of the base labels */
    struct sp_view device;
    struct sp_view unit;
    struct sp_decimal time;
    struct sp_decimal value;
    struct sp_decimal sum;
};

/* One map, as sent. */
struct raw {
    unsigned seen;
    struct sp_view name;
    struct sp_view unit;
    struct sp_view bytes; /* string or data */
    struct sp_decimal value;
    struct sp_decimal sum;
    struct sp_decimal time;
    struct sp_decimal update_time;
    bool flag;
};

static void fail_on(struct sp_cbor_reader *in, enum sp_err err)
{
    if (err != SP_OK) {
        sp_reader_fail(&in->in, err);
    }
}

static void require(struct sp_cbor_reader *in, bool condition)
{
    fail_on(in, condition ? SP_OK : SP_ERR_MALFORMED);
}

/* Tag 4: [exponent, mantissa] (RFC 8949, 3.4.4). */
static struct sp_decimal read_decimal_fraction(struct sp_cbor_reader *in)
{
    require(in, sp_cbor_read_tag(in) == 4);
    require(in, sp_cbor_read_array(in) == 2);
    int64_t exponent = sp_cbor_read_int(in);
    int64_t mantissa = sp_cbor_read_int(in);
    if (exponent < -SP_DECIMAL_EXPONENT_MAX || exponent > SP_DECIMAL_EXPONENT_MAX) {
        fail_on(in, SP_ERR_LIMIT);
        return (struct sp_decimal){0, 0};
    }
    return (struct sp_decimal){mantissa, (int32_t)exponent};
}

static struct sp_decimal read_number(struct sp_cbor_reader *in)
{
    struct sp_decimal number = {0, 0};
    switch (sp_cbor_peek(in)) {
    case SP_CBOR_TAG:
        return read_decimal_fraction(in);
    case SP_CBOR_SIMPLE: {
        struct sp_cbor_float value = sp_cbor_read_float(in);
        if (in->in.err == SP_OK) {
            fail_on(in, sp_decimal_from_bits(value.width, value.bits, &number));
        }
        return number;
    }
    case SP_CBOR_UINT:
    case SP_CBOR_NEGINT:
    case SP_CBOR_BYTES:
    case SP_CBOR_TEXT:
    case SP_CBOR_ARRAY:
    case SP_CBOR_MAP:
    case SP_CBOR_NOTHING:
    default:
        number.mantissa = sp_cbor_read_int(in);
        return number;
    }
}

/* RFC 8428, 4.5.1: what a name may consist of. */
static bool name_valid(struct sp_view name)
{
    for (size_t i = 0; i < name.len; i++) {
        uint8_t c = name.ptr[i];
        bool alphanumeric =
            (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
        if (!alphanumeric && c != '-' && c != ':' && c != '.' && c != '/' && c != '_') {
            return false;
        }
    }
    return true;
}

static void read_base_name(struct sp_cbor_reader *in, const struct base *base)
{
    struct sp_view name = sp_cbor_read_text(in);
    size_t len = base->device.len;
    require(in, name.len == len + 1 && sp_view_starts(name, base->device) &&
                    sp_view_equal(sp_view_from(name, len), SP_VIEW_LIT("/")));
}

static void read_base_version(struct sp_cbor_reader *in)
{
    int64_t version = sp_cbor_read_int(in);
    require(in, version >= 1 && version <= VERSION_MAX);
}

static void read_known(struct sp_cbor_reader *in, enum label label, struct base *base,
                       struct raw *raw)
{
    switch (label) {
    case LABEL_BASE_NAME:
        read_base_name(in, base);
        break;
    case LABEL_BASE_VERSION:
        read_base_version(in);
        break;
    case LABEL_BASE_TIME:
        base->time = read_number(in);
        break;
    case LABEL_BASE_UNIT:
        base->unit = sp_cbor_read_text(in);
        break;
    case LABEL_BASE_VALUE:
        base->value = read_number(in);
        break;
    case LABEL_BASE_SUM:
        base->sum = read_number(in);
        break;
    case LABEL_NAME:
        raw->name = sp_cbor_read_text(in);
        require(in, name_valid(raw->name));
        break;
    case LABEL_UNIT:
        raw->unit = sp_cbor_read_text(in);
        break;
    case LABEL_VALUE:
        raw->value = read_number(in);
        break;
    case LABEL_STRING:
        raw->bytes = sp_cbor_read_text(in);
        break;
    case LABEL_DATA:
        raw->bytes = sp_cbor_read_bytes(in);
        break;
    case LABEL_BOOL:
        raw->flag = sp_cbor_read_bool(in);
        break;
    case LABEL_SUM:
        raw->sum = read_number(in);
        break;
    case LABEL_TIME:
        raw->time = read_number(in);
        break;
    case LABEL_UPDATE_TIME:
    default:
        raw->update_time = read_number(in);
        break;
    }
}

/* RFC 8428, 4.4: labels that end in `_` must be understood. */
static bool must_understand(struct sp_cbor_label label)
{
    return label.is_text && label.text.len > 0 &&
           sp_view_equal(sp_view_from(label.text, label.text.len - 1), SP_VIEW_LIT("_"));
}

static void read_map(struct sp_cbor_reader *in, struct base *base, struct raw *raw)
{
    *raw = (struct raw){0};
    fail_on(in, sp_cbor_check_map(in, PAIRS_MAX, SP_CBOR_DEPTH_MAX - 2));
    size_t pairs = sp_cbor_read_map(in);
    for (size_t i = 0; i < pairs && in->in.err == SP_OK; i++) {
        struct sp_cbor_label label = sp_cbor_read_label(in);
        if (!label.is_text && label.number >= LABEL_FIRST && label.number <= LABEL_LAST) {
            read_known(in, (enum label)label.number, base, raw);
            raw->seen |= BIT(label.number);
        } else {
            require(in, !must_understand(label));
            (void)sp_cbor_skip(in, SP_CBOR_DEPTH_MAX - 2);
        }
    }
    base->seen |= raw->seen;
}

static enum sp_senml_kind kind_of(unsigned value_bits)
{
    switch (value_bits) {
    case BIT(LABEL_VALUE):
        return SP_SENML_NUMBER;
    case BIT(LABEL_STRING):
        return SP_SENML_TEXT;
    case BIT(LABEL_DATA):
        return SP_SENML_DATA;
    case BIT(LABEL_BOOL):
        return SP_SENML_BOOL;
    default:
        return SP_SENML_NONE;
    }
}

static enum sp_senml_quantity quantity_of(struct sp_view name)
{
    if (sp_view_equal(name, SP_VIEW_LIT("temperature"))) {
        return SP_SENML_TEMPERATURE;
    }
    return sp_view_equal(name, SP_VIEW_LIT("humidity")) ? SP_SENML_HUMIDITY : SP_SENML_OTHER;
}

static bool climate_fits(const struct sp_senml_entry *entry)
{
    struct sp_view cel = SP_VIEW_LIT("Cel");
    struct sp_view unit = entry->quantity == SP_SENML_HUMIDITY ? SP_VIEW_LIT("%RH") : cel;
    return entry->quantity == SP_SENML_OTHER ||
           (entry->kind == SP_SENML_NUMBER && sp_view_equal(entry->unit, unit));
}

/* RFC 8428, 4.6. */
static enum sp_err resolve(const struct base *base, const struct raw *raw,
                           struct sp_senml_entry *out)
{
    unsigned values = raw->seen & VALUE_BITS;
    bool several = (values & (values - 1)) != 0;
    bool has_sum = (raw->seen & BIT(LABEL_SUM)) != 0;
    if (several || (values == 0 && !has_sum) || (base->seen & BIT(LABEL_BASE_NAME)) == 0) {
        return SP_ERR_MALFORMED;
    }
    *out = (struct sp_senml_entry){
        .quantity = quantity_of(raw->name),
        .kind = kind_of(values),
        .name = raw->name,
        .unit = (raw->seen & BIT(LABEL_UNIT)) != 0 ? raw->unit : base->unit,
        .bytes = raw->bytes,
        .flag = raw->flag,
        .has_sum = has_sum,
        .has_time = ((base->seen & BIT(LABEL_BASE_TIME)) | (raw->seen & BIT(LABEL_TIME))) != 0,
        .update_time = raw->update_time,
    };
    SP_TRY(sp_decimal_add(base->time, raw->time, &out->time));
    if (has_sum) {
        SP_TRY(sp_decimal_add(base->sum, raw->sum, &out->sum));
    }
    if (out->kind == SP_SENML_NUMBER) {
        SP_TRY(sp_decimal_add(base->value, raw->value, &out->number));
    }
    return climate_fits(out) ? SP_OK : SP_ERR_MALFORMED;
}

static const struct sp_senml_entry *last_of(const struct sp_senml_record *record,
                                            enum sp_senml_quantity quantity)
{
    const struct sp_senml_entry *last = NULL;
    for (size_t i = 0; i < record->count; i++) {
        if (record->entries[i].quantity == quantity) {
            last = &record->entries[i];
        }
    }
    return last;
}

static enum sp_err parse(struct sp_view payload, struct sp_view device, struct sp_senml_record *out)
{
    struct sp_cbor_reader in;
    struct base base = {.device = device};
    sp_cbor_reader_init(&in, payload, false);
    size_t count = sp_cbor_read_array(&in);
    if (count == 0 || count > SP_SENML_ENTRIES_MAX) {
        return SP_ERR_MALFORMED;
    }
    for (size_t i = 0; i < count; i++) {
        struct raw raw;
        read_map(&in, &base, &raw);
        SP_TRY(in.in.err);
        SP_TRY(resolve(&base, &raw, &out->entries[i]));
    }
    out->count = count;
    out->temperature = last_of(out, SP_SENML_TEMPERATURE);
    out->humidity = last_of(out, SP_SENML_HUMIDITY);
    return sp_cbor_finish(&in);
}

enum sp_err sp_senml_parse(struct sp_view payload, struct sp_view device,
                           struct sp_senml_record *out)
{
    *out = (struct sp_senml_record){0};
    enum sp_err err = parse(payload, device, out);
    if (err != SP_OK) {
        *out = (struct sp_senml_record){0};
    }
    return err;
}

/* Whole milliseconds, towards zero; the ends of int64_t for what lies beyond. */
static int64_t to_ms(struct sp_decimal seconds)
{
    int64_t value = seconds.mantissa;
    int32_t power = seconds.exponent + 3;
    for (; power > 0 && value != 0; power--) {
        if (value > INT64_MAX / 10 || value < INT64_MIN / 10) {
            return value > 0 ? INT64_MAX : INT64_MIN;
        }
        value *= 10;
    }
    for (; power < 0 && value != 0; power++) {
        value /= 10;
    }
    return value;
}

int64_t sp_senml_time_ms(const struct sp_senml_entry *entry, int64_t accepted_ms)
{
    if (!entry->has_time) {
        return accepted_ms;
    }
    int64_t ms = to_ms(entry->time);
    if (sp_decimal_compare(entry->time, (struct sp_decimal){RELATIVE_TIME, 0}) >= 0) {
        return ms;
    }
    bool over = accepted_ms > 0 ? ms > INT64_MAX - accepted_ms : ms < INT64_MIN - accepted_ms;
    return over ? accepted_ms : accepted_ms + ms;
}
