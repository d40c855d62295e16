/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file A strict subset of CBOR (RFC 8949): definite lengths, nesting up to SP_CBOR_DEPTH_MAX, well-formed
 * UTF-8. Reading and writing over the cursors of libs/base, with their sticky error.
 *
 * Nothing is allocated, nothing recurses; a length or count beyond the input fails before it is used.
 * Refused everywhere: indefinite lengths, breaks, reserved additional information (28 to 30), simple values below 32
 * in two bytes. Integers, lengths and tags that are not in their shortest form are taken, unless the
 * reader was opened with `shortest`.
 */
#ifndef SP_LIBS_CBOR_CBOR_H
#define SP_LIBS_CBOR_CBOR_H

#include "libs/base/bytes.h"

#define SP_CBOR_DEPTH_MAX 8U /**< arrays, maps and tags around an item */

enum sp_cbor_major {
    SP_CBOR_UINT,
    SP_CBOR_NEGINT,
    SP_CBOR_BYTES,
    SP_CBOR_TEXT,
    SP_CBOR_ARRAY,
    SP_CBOR_MAP,
    SP_CBOR_TAG,
    SP_CBOR_SIMPLE,  /**< false, true, null, other simple values, floats */
    SP_CBOR_NOTHING, /**< the input is at its end, or the reader has failed */
};

#define SP_CBOR_FALSE 0xF4U
#define SP_CBOR_TRUE  0xF5U
#define SP_CBOR_NULL  0xF6U

struct sp_cbor_reader {
    struct sp_reader
        in; /**< `in.err` may be looked at; SP_ERR_MALFORMED, or SP_ERR_LIMIT for depth and size */
    bool shortest;
};

/** Read from `input`; with `shortest`, heads longer than needed are malformed. */
void sp_cbor_reader_init(struct sp_cbor_reader *r, struct sp_view input, bool shortest);

/** SP_OK when nothing failed and nothing is left. */
SP_MUST_CHECK enum sp_err sp_cbor_finish(const struct sp_cbor_reader *r);

/** The kind of the next item, which stays. */
enum sp_cbor_major sp_cbor_peek(const struct sp_cbor_reader *r);

/** An item of that kind, or failure (SP_ERR_MALFORMED) and 0 or the empty view. */
uint64_t sp_cbor_read_uint(struct sp_cbor_reader *r);
int64_t sp_cbor_read_int(struct sp_cbor_reader *r); /**< SP_ERR_LIMIT outside int64_t */
struct sp_view sp_cbor_read_bytes(struct sp_cbor_reader *r);
struct sp_view sp_cbor_read_text(struct sp_cbor_reader *r);
bool sp_cbor_read_bool(struct sp_cbor_reader *r);
uint64_t sp_cbor_read_tag(struct sp_cbor_reader *r);

/** Entries of the array or pairs of the map that begins here; never more than the input has room for. */
size_t sp_cbor_read_array(struct sp_cbor_reader *r);
size_t sp_cbor_read_map(struct sp_cbor_reader *r);

/** A floating-point number as it stands in the input. */
struct sp_cbor_float {
    unsigned width; /**< 16, 32 or 64 bits; 0 after a failure */
    uint64_t bits;
};
struct sp_cbor_float sp_cbor_read_float(struct sp_cbor_reader *r);

/** The label of a map's entry. */
struct sp_cbor_label {
    bool is_text;
    int64_t number;      /**< when it is not text */
    struct sp_view text; /**< when it is */
};
/** Fails for anything but an integer or a text. */
struct sp_cbor_label sp_cbor_read_label(struct sp_cbor_reader *r);
bool sp_cbor_label_equal(struct sp_cbor_label a, struct sp_cbor_label b);

/**
 * Step over one item of any kind, nested at most `depth` (up to SP_CBOR_DEPTH_MAX) levels deep.
 * @return The bytes of the item, borrowed; empty after a failure (SP_ERR_LIMIT for depth).
 * Uses under 150 bytes of stack, whatever the input.
 */
struct sp_view sp_cbor_skip(struct sp_cbor_reader *r, unsigned depth);

/**
 * Check a whole map that begins here, without consuming it: labels are integers or texts, none twice, at most
 * `max_pairs`, values well formed and at most `depth` levels deep. Work grows with max_pairs times the map's length.
 * @retval SP_ERR_MALFORMED Not such a map.
 * @retval SP_ERR_LIMIT     Too many pairs, or too deep.
 */
SP_MUST_CHECK enum sp_err sp_cbor_check_map(const struct sp_cbor_reader *r, size_t max_pairs,
                                            unsigned depth);

/** Write one head or item in its shortest form. */
void sp_cbor_write_int(struct sp_writer *w, int64_t value);
void sp_cbor_write_bytes(struct sp_writer *w, struct sp_view bytes);
void sp_cbor_write_bytes_head(struct sp_writer *w, size_t len); /**< the bytes follow */
void sp_cbor_write_text(struct sp_writer *w, struct sp_view text);
void sp_cbor_write_array(struct sp_writer *w, size_t count); /**< the items follow */
void sp_cbor_write_map(struct sp_writer *w, size_t pairs);   /**< the pairs follow */
void sp_cbor_write_tag(struct sp_writer *w, uint64_t tag);   /**< the item follows */

#endif
