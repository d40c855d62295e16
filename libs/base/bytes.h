/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Byte views, and cursors that read and write them with a sticky error.
 *
 * Every byte from the wire is read through sp_reader and every byte to it is written through
 * sp_writer, so that pointer arithmetic lives here alone. After the first failure a cursor stays
 * failed: a decoder may read field after field and look at the error once, at the end.
 *
 * No function here allocates, none keeps state beyond the cursor it is given; all are thread-safe.
 */
#ifndef SP_LIBS_BASE_BYTES_H
#define SP_LIBS_BASE_BYTES_H

#include "libs/base/err.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/** Borrowed bytes. `{NULL, 0}` is the empty view. */
struct sp_view {
    const uint8_t *ptr;
    size_t len;
};

/** A view of a string literal, without its NUL, as a constant initializer: `{ptr, len}`. */
#define SP_VIEW_INIT(literal)                                  \
    {                                                          \
        (const uint8_t *)("" literal), sizeof("" literal) - 1U \
    }

/** The same as an expression. */
#define SP_VIEW_LIT(literal) ((struct sp_view)SP_VIEW_INIT(literal))

/** A view of a whole array. */
#define SP_VIEW_ARRAY(array) ((struct sp_view){(array), sizeof(array)})

/** A view of `len` bytes at `ptr`. */
struct sp_view sp_view(const void *ptr, size_t len);

/** A view of a NUL-terminated string, without the NUL; NULL gives the empty view. */
struct sp_view sp_view_str(const char *text);

/** Same length and bytes. Not for secrets: see sp_ct_equal(). */
bool sp_view_equal(struct sp_view a, struct sp_view b);

/** `view` begins with `prefix`. */
bool sp_view_starts(struct sp_view view, struct sp_view prefix);

/** The part of `view` from `from` to its end; empty when `from` lies behind the end. */
struct sp_view sp_view_from(struct sp_view view, size_t from);

/** At most `len` first bytes of `view`. */
struct sp_view sp_view_first(struct sp_view view, size_t len);

/** Copy `len` bytes; `len` 0 is fine with any pointers (memcpy's is not). */
void sp_copy(void *to, const void *from, size_t len);

/** Compare in time that depends on `len` only. For MACs, keys, nonces. */
bool sp_ct_equal(const uint8_t *a, const uint8_t *b, size_t len);

/** Overwrite a secret in a way the compiler keeps. */
void sp_wipe(void *secret, size_t len);

/** Write `view` as lower-case hex and a NUL into `out`, which has 2 * view.len + 1 bytes. */
void sp_hex_format(struct sp_view view, char *out);

/**
 * Read hex digits of either case, no separators.
 *
 * @param[in]  text    The digits.
 * @param[out] out     The bytes; written on SP_OK only.
 * @param[in]  cap     Size of `out`.
 * @param[out] out_len Bytes written.
 * @retval SP_ERR_MALFORMED An odd number of digits, or something that is not a digit.
 * @retval SP_ERR_SPACE     More than `cap` bytes.
 */
SP_MUST_CHECK enum sp_err sp_hex_parse(struct sp_view text, uint8_t *out, size_t cap,
                                       size_t *out_len);

/**
 * Well-formed UTF-8 as MQTT wants it (MQTT 5, 1.5.4): no surrogates, no overlong forms, nothing above
 * U+10FFFF, no U+0000. Control characters and non-characters (U+FFFE, U+FFFF, U+nFFFE…) are refused too.
 */
bool sp_utf8_valid(struct sp_view text);

/** Read cursor. Fields are for sp_reader_* only, `err` may be looked at. */
struct sp_reader {
    const uint8_t *ptr;
    size_t left;
    enum sp_err err; /**< SP_OK, or the first thing that went wrong */
};

void sp_reader_init(struct sp_reader *r, struct sp_view in);

/** Mark the cursor as failed, unless it has failed already. */
void sp_reader_fail(struct sp_reader *r, enum sp_err err);

/** Big-endian numbers. After a failure, and beyond the end (SP_ERR_MALFORMED), they return 0. */
uint8_t sp_read_u8(struct sp_reader *r);
uint16_t sp_read_u16(struct sp_reader *r);
uint32_t sp_read_u32(struct sp_reader *r);
uint64_t sp_read_u64(struct sp_reader *r);

/** The next `len` bytes, borrowed from the input; the empty view on failure. */
struct sp_view sp_read_bytes(struct sp_reader *r, size_t len);

/** The next byte without consuming it; fails like sp_read_u8() at the end. */
uint8_t sp_peek_u8(struct sp_reader *r);

/** Bytes not read yet; 0 after a failure. */
size_t sp_reader_left(const struct sp_reader *r);

/** All bytes not read yet, consumed. */
struct sp_view sp_read_rest(struct sp_reader *r);

/** SP_OK when nothing failed and nothing is left; SP_ERR_MALFORMED for trailing bytes. */
SP_MUST_CHECK enum sp_err sp_reader_finish(const struct sp_reader *r);

/** Write cursor over the caller's buffer. Fields are for sp_writer_* only. */
struct sp_writer {
    uint8_t *ptr;
    size_t cap;
    size_t used;
    enum sp_err err; /**< SP_OK or SP_ERR_SPACE or what sp_writer_fail() was given */
};

void sp_writer_init(struct sp_writer *w, void *buf, size_t cap);
void sp_writer_fail(struct sp_writer *w, enum sp_err err);

/** Big-endian numbers; a full buffer sets SP_ERR_SPACE and nothing is written. */
void sp_write_u8(struct sp_writer *w, uint8_t value);
void sp_write_u16(struct sp_writer *w, uint16_t value);
void sp_write_u32(struct sp_writer *w, uint32_t value);
void sp_write_u64(struct sp_writer *w, uint64_t value);
void sp_write_view(struct sp_writer *w, struct sp_view bytes);
void sp_write_str(struct sp_writer *w, const char *text); /**< without the NUL */
void sp_write_dec(struct sp_writer *w, int64_t value);    /**< as decimal digits */

/** Leave `len` bytes to be filled in by the caller; NULL when they do not fit. */
uint8_t *sp_write_reserve(struct sp_writer *w, size_t len);

/** What has been written, borrowed from the buffer; empty after a failure. */
struct sp_view sp_writer_view(const struct sp_writer *w);

#endif
