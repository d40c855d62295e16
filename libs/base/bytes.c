/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/base/bytes.h"

#include <string.h>

struct sp_view sp_view(const void *ptr, size_t len)
{
    return (struct sp_view){ptr, len};
}

struct sp_view sp_view_str(const char *text)
{
    return text == NULL ? (struct sp_view){NULL, 0} : sp_view(text, strlen(text));
}

bool sp_view_equal(struct sp_view a, struct sp_view b)
{
    return a.len == b.len && (a.len == 0 || memcmp(a.ptr, b.ptr, a.len) == 0);
}

bool sp_view_starts(struct sp_view view, struct sp_view prefix)
{
    return view.len >= prefix.len && sp_view_equal(sp_view_first(view, prefix.len), prefix);
}

struct sp_view sp_view_from(struct sp_view view, size_t from)
{
    return from >= view.len ? (struct sp_view){NULL, 0} : sp_view(view.ptr + from, view.len - from);
}

struct sp_view sp_view_first(struct sp_view view, size_t len)
{
    return sp_view(view.ptr, len < view.len ? len : view.len);
}

void sp_copy(void *to, const void *from, size_t len)
{
    if (len != 0) {
        memcpy(to, from, len);
    }
}

bool sp_ct_equal(const uint8_t *a, const uint8_t *b, size_t len)
{
    volatile uint8_t difference = 0;
    for (size_t i = 0; i < len; i++) {
        difference = (uint8_t)(difference | (a[i] ^ b[i]));
    }
    return difference == 0;
}

void sp_wipe(void *secret, size_t len)
{
    volatile uint8_t *p = secret;
    for (size_t i = 0; i < len; i++) {
        p[i] = 0;
    }
}

void sp_hex_format(struct sp_view view, char *out)
{
    static const char digits[] = "0123456789abcdef";
    for (size_t i = 0; i < view.len; i++) {
        out[2 * i] = digits[view.ptr[i] >> 4];
        out[2 * i + 1] = digits[view.ptr[i] & 15];
    }
    out[2 * view.len] = '\0';
}

static int hex_value(uint8_t c)
{
    if (c >= '0' && c <= '9') {
        return c - '0';
    }
    if (c >= 'a' && c <= 'f') {
        return c - 'a' + 10;
    }
    return c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

enum sp_err sp_hex_parse(struct sp_view text, uint8_t *out, size_t cap, size_t *out_len)
{
    if (text.len % 2 != 0) {
        return SP_ERR_MALFORMED;
    }
    if (text.len / 2 > cap) {
        return SP_ERR_SPACE;
    }
    for (size_t i = 0; i < text.len; i++) {
        if (hex_value(text.ptr[i]) < 0) {
            return SP_ERR_MALFORMED;
        }
    }
    for (size_t i = 0; i < text.len / 2; i++) {
        out[i] = (uint8_t)(hex_value(text.ptr[2 * i]) * 16 + hex_value(text.ptr[2 * i + 1]));
    }
    *out_len = text.len / 2;
    return SP_OK;
}

/* How many bytes follow the first one, or -1; the bounds of the second byte rule out overlong
 * forms, surrogates and what lies above U+10FFFF (Unicode, table 3-7). */
static int utf8_tail(uint8_t first, uint8_t *low, uint8_t *high)
{
    *low = 0x80;
    *high = 0xBF;
    if (first >= 0xC2 && first <= 0xDF) {
        return 1;
    }
    if (first >= 0xE0 && first <= 0xEF) {
        *low = first == 0xE0 ? 0xA0 : 0x80;
        *high = first == 0xED ? 0x9F : 0xBF;
        return 2;
    }
    if (first >= 0xF0 && first <= 0xF4) {
        *low = first == 0xF0 ? 0x90 : 0x80;
        *high = first == 0xF4 ? 0x8F : 0xBF;
        return 3;
    }
    return -1;
}

bool sp_utf8_valid(struct sp_view text)
{
    struct sp_reader r;
    sp_reader_init(&r, text);
    while (sp_reader_left(&r) > 0) {
        uint8_t first = sp_read_u8(&r);
        if (first < 0x80) {
            if (first < 0x20 || first == 0x7F) {
                return false;
            }
            continue;
        }
        uint8_t low = 0;
        uint8_t high = 0;
        int tail = utf8_tail(first, &low, &high);
        if (tail < 0 || sp_reader_left(&r) < (size_t)tail) {
            return false;
        }
        uint32_t code = first & (0x3FU >> tail);
        for (int i = 0; i < tail; i++) {
            uint8_t next = sp_read_u8(&r);
            if (next < low || next > high) {
                return false;
            }
            code = code << 6 | (next & 0x3FU);
            low = 0x80;
            high = 0xBF;
        }
        bool control = code < 0xA0;
        bool noncharacter = (code & 0xFFFE) == 0xFFFE || (code >= 0xFDD0 && code <= 0xFDEF);
        if (control || noncharacter) {
            return false;
        }
    }
    return true;
}

void sp_reader_init(struct sp_reader *r, struct sp_view in)
{
    *r = (struct sp_reader){in.ptr, in.len, SP_OK};
}

void sp_reader_fail(struct sp_reader *r, enum sp_err err)
{
    if (r->err == SP_OK) {
        r->err = err;
        r->left = 0;
    }
}

struct sp_view sp_read_bytes(struct sp_reader *r, size_t len)
{
    if (len > r->left) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
    }
    if (r->err != SP_OK || len == 0) {
        return (struct sp_view){NULL, 0};
    }
    struct sp_view out = {r->ptr, len};
    r->ptr += len;
    r->left -= len;
    return out;
}

/* Byte by byte, each in its own term: compilers make one load of it. */

uint8_t sp_read_u8(struct sp_reader *r)
{
    if (r->left == 0) { /* as it is after any error */
        sp_reader_fail(r, SP_ERR_MALFORMED);
        return 0;
    }
    r->left--;
    return *r->ptr++;
}

uint16_t sp_read_u16(struct sp_reader *r)
{
    const uint8_t *at = sp_read_bytes(r, 2).ptr;
    return at == NULL ? 0 : (uint16_t)((unsigned)at[0] << 8 | at[1]);
}

static uint32_t u32_at(const uint8_t *at)
{
    return (uint32_t)at[0] << 24 | (uint32_t)at[1] << 16 | (uint32_t)at[2] << 8 | at[3];
}

uint32_t sp_read_u32(struct sp_reader *r)
{
    const uint8_t *at = sp_read_bytes(r, 4).ptr;
    return at == NULL ? 0 : u32_at(at);
}

uint64_t sp_read_u64(struct sp_reader *r)
{
    const uint8_t *at = sp_read_bytes(r, 8).ptr;
    return at == NULL ? 0 : (uint64_t)u32_at(at) << 32 | u32_at(at + 4);
}

uint8_t sp_peek_u8(struct sp_reader *r)
{
    if (r->left == 0) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
        return 0;
    }
    return r->ptr[0];
}

size_t sp_reader_left(const struct sp_reader *r)
{
    return r->left;
}

struct sp_view sp_read_rest(struct sp_reader *r)
{
    return sp_read_bytes(r, r->left);
}

enum sp_err sp_reader_finish(const struct sp_reader *r)
{
    if (r->err != SP_OK) {
        return r->err;
    }
    return r->left == 0 ? SP_OK : SP_ERR_MALFORMED;
}

void sp_writer_init(struct sp_writer *w, void *buf, size_t cap)
{
    *w = (struct sp_writer){buf, cap, 0, SP_OK};
}

void sp_writer_fail(struct sp_writer *w, enum sp_err err)
{
    if (w->err == SP_OK) {
        w->err = err;
    }
}

uint8_t *sp_write_reserve(struct sp_writer *w, size_t len)
{
    if (len > w->cap - w->used) {
        sp_writer_fail(w, SP_ERR_SPACE);
    }
    if (w->err != SP_OK) {
        return NULL;
    }
    uint8_t *at = w->ptr + w->used;
    w->used += len;
    return at;
}

void sp_write_u8(struct sp_writer *w, uint8_t value)
{
    uint8_t *at = sp_write_reserve(w, 1);
    if (at != NULL) {
        at[0] = value;
    }
}

void sp_write_u16(struct sp_writer *w, uint16_t value)
{
    uint8_t *at = sp_write_reserve(w, 2);
    if (at != NULL) {
        at[0] = (uint8_t)(value >> 8);
        at[1] = (uint8_t)value;
    }
}

static void put_u32(uint8_t *at, uint32_t value)
{
    at[0] = (uint8_t)(value >> 24);
    at[1] = (uint8_t)(value >> 16);
    at[2] = (uint8_t)(value >> 8);
    at[3] = (uint8_t)value;
}

void sp_write_u32(struct sp_writer *w, uint32_t value)
{
    uint8_t *at = sp_write_reserve(w, 4);
    if (at != NULL) {
        put_u32(at, value);
    }
}

void sp_write_u64(struct sp_writer *w, uint64_t value)
{
    uint8_t *at = sp_write_reserve(w, 8);
    if (at != NULL) {
        put_u32(at, (uint32_t)(value >> 32));
        put_u32(at + 4, (uint32_t)value);
    }
}

void sp_write_view(struct sp_writer *w, struct sp_view bytes)
{
    uint8_t *at = sp_write_reserve(w, bytes.len);
    if (at != NULL) {
        sp_copy(at, bytes.ptr, bytes.len);
    }
}

void sp_write_str(struct sp_writer *w, const char *text)
{
    sp_write_view(w, sp_view_str(text));
}

void sp_write_dec(struct sp_writer *w, int64_t value)
{
    char digits[20];
    size_t at = sizeof(digits);
    uint64_t left = value < 0 ? 0 - (uint64_t)value : (uint64_t)value;
    do {
        digits[--at] = (char)('0' + left % 10);
        left /= 10;
    } while (left != 0);
    if (value < 0) {
        digits[--at] = '-';
    }
    sp_write_view(w, sp_view(digits + at, sizeof(digits) - at));
}

struct sp_view sp_writer_view(const struct sp_writer *w)
{
    return w->err == SP_OK ? sp_view(w->ptr, w->used) : (struct sp_view){NULL, 0};
}
