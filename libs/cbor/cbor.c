/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/cbor/cbor.h"

/* What stands before every item (RFC 8949, 3): kind, additional information, argument. */
struct head {
    enum sp_cbor_major major;
    unsigned info;
    uint64_t argument;
};

#define INFO_MASK    31U
#define INFO_U8      24U
#define INFO_FLOAT16 25U
#define INFO_U64     27U
#define SIMPLE_FALSE 20U
#define SIMPLE_TRUE  21U
#define NO_HEAD      ((struct head){SP_CBOR_NOTHING, 0, 0})

void sp_cbor_reader_init(struct sp_cbor_reader *r, struct sp_view input, bool shortest)
{
    sp_reader_init(&r->in, input);
    r->shortest = shortest;
}

enum sp_err sp_cbor_finish(const struct sp_cbor_reader *r)
{
    return sp_reader_finish(&r->in);
}

enum sp_cbor_major sp_cbor_peek(const struct sp_cbor_reader *r)
{
    struct sp_reader in = r->in;
    uint8_t first = sp_peek_u8(&in);
    return in.err == SP_OK ? (enum sp_cbor_major)(first >> 5) : SP_CBOR_NOTHING;
}

static uint64_t read_argument(struct sp_reader *in, unsigned info)
{
    switch (info) {
    case 24:
        return sp_read_u8(in);
    case 25:
        return sp_read_u16(in);
    case 26:
        return sp_read_u32(in);
    case 27:
        return sp_read_u64(in);
    default:
        return info;
    }
}

static unsigned shortest_info(uint64_t argument)
{
    if (argument < 24) {
        return (unsigned)argument;
    }
    if (argument <= UINT8_MAX) {
        return 24;
    }
    if (argument <= UINT16_MAX) {
        return 25;
    }
    return argument <= UINT32_MAX ? 26 : 27;
}

static bool head_acceptable(const struct sp_cbor_reader *r, const struct head *head)
{
    if (head->info > INFO_U64) { /* reserved, or of indefinite length */
        return false;
    }
    if (head->major == SP_CBOR_SIMPLE) { /* 3.3: below 32 only in one byte */
        return head->info != INFO_U8 || head->argument >= 32;
    }
    return !r->shortest || head->info == shortest_info(head->argument);
}

static struct head read_head(struct sp_cbor_reader *r)
{
    uint8_t first = sp_read_u8(&r->in);
    struct head head = {(enum sp_cbor_major)(first >> 5), first & INFO_MASK, first & INFO_MASK};
    if (r->in.err == SP_OK && head.info < INFO_U8) { /* one byte, and always the shortest form */
        return head;
    }
    if (r->in.err == SP_OK) {
        head.argument = read_argument(&r->in, head.info);
    }
    if (!head_acceptable(r, &head)) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
    }
    return r->in.err == SP_OK ? head : NO_HEAD;
}

static uint64_t read_argument_of(struct sp_cbor_reader *r, enum sp_cbor_major major)
{
    struct head head = read_head(r);
    if (head.major != major) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
        return 0;
    }
    return head.argument;
}

/* A length or count that the rest of the input can hold. */
static size_t within_input(struct sp_cbor_reader *r, uint64_t count, size_t bytes_each)
{
    if (count > sp_reader_left(&r->in) / bytes_each) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
        return 0;
    }
    return (size_t)count;
}

uint64_t sp_cbor_read_uint(struct sp_cbor_reader *r)
{
    return read_argument_of(r, SP_CBOR_UINT);
}

int64_t sp_cbor_read_int(struct sp_cbor_reader *r)
{
    struct head head = read_head(r);
    if (head.major != SP_CBOR_UINT && head.major != SP_CBOR_NEGINT) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
        return 0;
    }
    if (head.argument > INT64_MAX) {
        sp_reader_fail(&r->in, SP_ERR_LIMIT);
        return 0;
    }
    int64_t value = (int64_t)head.argument;
    return head.major == SP_CBOR_UINT ? value : -1 - value;
}

/* RFC 3629. sp_utf8_valid() is MQTT's stricter rule, which also refuses control characters. */
static bool utf8_well_formed(struct sp_view text)
{
    struct sp_reader in;
    size_t ascii = 0;
    while (ascii < text.len && text.ptr[ascii] < 0x80) {
        ascii++;
    }
    sp_reader_init(&in, sp_view_from(text, ascii));
    while (sp_reader_left(&in) > 0) {
        uint32_t first = sp_read_u8(&in);
        if (first < 0x80) {
            continue;
        }
        unsigned tail = first >= 0xF0 ? 3 : first >= 0xE0 ? 2 : 1;
        static const uint32_t lowest[] = {0, 0x80, 0x800, 0x10000};
        if (first < 0xC2 || first > 0xF4) {
            return false;
        }
        uint32_t code = first & (0x3FU >> tail);
        for (unsigned i = 0; i < tail; i++) {
            uint32_t next = sp_read_u8(&in);
            if (in.err != SP_OK || (next & 0xC0U) != 0x80) {
                return false;
            }
            code = code << 6 | (next & 0x3FU);
        }
        if (code < lowest[tail] || code > 0x10FFFF || (code >= 0xD800 && code <= 0xDFFF)) {
            return false;
        }
    }
    return true;
}

static struct sp_view read_string(struct sp_cbor_reader *r, enum sp_cbor_major major)
{
    size_t len = within_input(r, read_argument_of(r, major), 1);
    struct sp_view string = sp_read_bytes(&r->in, len);
    if (major == SP_CBOR_TEXT && !utf8_well_formed(string)) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
        return (struct sp_view){NULL, 0};
    }
    return string;
}

struct sp_view sp_cbor_read_bytes(struct sp_cbor_reader *r)
{
    return read_string(r, SP_CBOR_BYTES);
}

struct sp_view sp_cbor_read_text(struct sp_cbor_reader *r)
{
    return read_string(r, SP_CBOR_TEXT);
}

bool sp_cbor_read_bool(struct sp_cbor_reader *r)
{
    struct head head = read_head(r);
    bool is_bool = head.info == SIMPLE_FALSE || head.info == SIMPLE_TRUE;
    if (head.major != SP_CBOR_SIMPLE || !is_bool) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
    }
    return r->in.err == SP_OK && head.info == SIMPLE_TRUE;
}

uint64_t sp_cbor_read_tag(struct sp_cbor_reader *r)
{
    return read_argument_of(r, SP_CBOR_TAG);
}

size_t sp_cbor_read_array(struct sp_cbor_reader *r)
{
    return within_input(r, read_argument_of(r, SP_CBOR_ARRAY), 1);
}

size_t sp_cbor_read_map(struct sp_cbor_reader *r)
{
    return within_input(r, read_argument_of(r, SP_CBOR_MAP), 2);
}

struct sp_cbor_float sp_cbor_read_float(struct sp_cbor_reader *r)
{
    struct head head = read_head(r);
    if (head.major != SP_CBOR_SIMPLE || head.info < INFO_FLOAT16) {
        sp_reader_fail(&r->in, SP_ERR_MALFORMED);
        return (struct sp_cbor_float){0, 0};
    }
    return (struct sp_cbor_float){16U << (head.info - INFO_FLOAT16), head.argument};
}

struct sp_cbor_label sp_cbor_read_label(struct sp_cbor_reader *r)
{
    struct sp_cbor_label label = {sp_cbor_peek(r) == SP_CBOR_TEXT, 0, {NULL, 0}};
    if (label.is_text) {
        label.text = sp_cbor_read_text(r);
    } else {
        label.number = sp_cbor_read_int(r);
    }
    return label;
}

bool sp_cbor_label_equal(struct sp_cbor_label a, struct sp_cbor_label b)
{
    return a.is_text == b.is_text &&
           (a.is_text ? sp_view_equal(a.text, b.text) : a.number == b.number);
}

/* Read one head, and the bytes of a string; how many items it encloses. */
static size_t skip_one(struct sp_cbor_reader *r, bool *encloses)
{
    enum sp_cbor_major major = sp_cbor_peek(r);
    *encloses = major == SP_CBOR_ARRAY || major == SP_CBOR_MAP || major == SP_CBOR_TAG;
    if (major == SP_CBOR_BYTES || major == SP_CBOR_TEXT) {
        (void)read_string(r, major);
        return 0;
    }
    if (major == SP_CBOR_ARRAY) {
        return sp_cbor_read_array(r);
    }
    if (major == SP_CBOR_MAP) {
        return 2 * sp_cbor_read_map(r);
    }
    (void)read_head(r);
    return major == SP_CBOR_TAG ? 1 : 0;
}

static void skip_item(struct sp_cbor_reader *r, unsigned depth)
{
    size_t left[SP_CBOR_DEPTH_MAX + 1] = {1}; /* items to come, per level */
    unsigned level = 0;
    while (r->in.err == SP_OK) {
        while (left[level] == 0) {
            if (level == 0) {
                return;
            }
            level--;
        }
        left[level]--;
        bool encloses = false;
        size_t inner = skip_one(r, &encloses);
        if (encloses && (level == depth || level == SP_CBOR_DEPTH_MAX)) {
            sp_reader_fail(&r->in, SP_ERR_LIMIT);
        } else if (encloses) {
            left[++level] = inner;
        }
    }
}

struct sp_view sp_cbor_skip(struct sp_cbor_reader *r, unsigned depth)
{
    struct sp_cbor_reader ahead = *r;
    skip_item(&ahead, depth);
    if (ahead.in.err != SP_OK) {
        sp_reader_fail(&r->in, ahead.in.err);
        return (struct sp_view){NULL, 0};
    }
    return sp_read_bytes(&r->in, sp_reader_left(&r->in) - sp_reader_left(&ahead.in));
}

/* Is `label` among the first `count` labels of the pairs that begin at `pairs`? */
static bool label_among(struct sp_cbor_reader pairs, size_t count, struct sp_cbor_label label)
{
    for (size_t i = 0; i < count; i++) {
        if (sp_cbor_label_equal(sp_cbor_read_label(&pairs), label)) {
            return true;
        }
        (void)sp_cbor_skip(&pairs, SP_CBOR_DEPTH_MAX);
    }
    return false;
}

/* The bit of a small whole number, which nearly every label is; 0 for the others. */
static uint64_t label_bit(struct sp_cbor_label label)
{
    bool small = !label.is_text && label.number >= -16 && label.number < 48;
    return small ? UINT64_C(1) << (label.number + 16) : 0;
}

enum sp_err sp_cbor_check_map(const struct sp_cbor_reader *r, size_t max_pairs, unsigned depth)
{
    struct sp_cbor_reader at = *r;
    size_t pairs = sp_cbor_read_map(&at);
    if (pairs > max_pairs) {
        return SP_ERR_LIMIT;
    }
    struct sp_cbor_reader start = at;
    uint64_t seen = 0;
    for (size_t i = 0; i < pairs && at.in.err == SP_OK; i++) {
        struct sp_cbor_label label = sp_cbor_read_label(&at);
        uint64_t bit = label_bit(label);
        bool again = bit != 0 ? (seen & bit) != 0 : label_among(start, i, label);
        if (at.in.err == SP_OK && again) {
            return SP_ERR_MALFORMED;
        }
        seen |= bit;
        (void)sp_cbor_skip(&at, depth);
    }
    return at.in.err;
}

static void write_head(struct sp_writer *w, enum sp_cbor_major major, uint64_t argument)
{
    unsigned info = shortest_info(argument);
    sp_write_u8(w, (uint8_t)(((unsigned)major << 5) | info));
    if (info == 24) {
        sp_write_u8(w, (uint8_t)argument);
    } else if (info == 25) {
        sp_write_u16(w, (uint16_t)argument);
    } else if (info == 26) {
        sp_write_u32(w, (uint32_t)argument);
    } else if (info == 27) {
        sp_write_u64(w, argument);
    }
}

void sp_cbor_write_int(struct sp_writer *w, int64_t value)
{
    if (value >= 0) {
        write_head(w, SP_CBOR_UINT, (uint64_t)value);
    } else {
        write_head(w, SP_CBOR_NEGINT, (uint64_t)(-1 - value));
    }
}

void sp_cbor_write_bytes_head(struct sp_writer *w, size_t len)
{
    write_head(w, SP_CBOR_BYTES, len);
}

void sp_cbor_write_bytes(struct sp_writer *w, struct sp_view bytes)
{
    write_head(w, SP_CBOR_BYTES, bytes.len);
    sp_write_view(w, bytes);
}

void sp_cbor_write_text(struct sp_writer *w, struct sp_view text)
{
    write_head(w, SP_CBOR_TEXT, text.len);
    sp_write_view(w, text);
}

void sp_cbor_write_array(struct sp_writer *w, size_t count)
{
    write_head(w, SP_CBOR_ARRAY, count);
}

void sp_cbor_write_map(struct sp_writer *w, size_t pairs)
{
    write_head(w, SP_CBOR_MAP, pairs);
}

void sp_cbor_write_tag(struct sp_writer *w, uint64_t tag)
{
    write_head(w, SP_CBOR_TAG, tag);
}
