/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Exact decimal numbers: what sensors report and JSON prints, without the surprises of binary floats.
 *
 * 23.50 stays 23.5 on its way from a decimal fraction in CBOR to a JSON text. A binary float becomes the
 * shortest decimal of at most 9 (half, single) or 17 (double) significant digits that reads back as the
 * same float.
 */
#ifndef SP_LIBS_SENML_DECIMAL_H
#define SP_LIBS_SENML_DECIMAL_H

#include "libs/base/bytes.h"

/** mantissa * 10^exponent. */
struct sp_decimal {
    int64_t mantissa;
    int32_t exponent;
};

#define SP_DECIMAL_EXPONENT_MAX 400 /**< larger exponents of either sign are refused on input */
#define SP_DECIMAL_TEXT_MAX     32U /**< bytes that sp_decimal_write() needs at most */

/** Take trailing zeros out of the mantissa; zero becomes 0 * 10^0. The value stays. */
struct sp_decimal sp_decimal_normal(struct sp_decimal value);

/** Write as a JSON number: plain when that is at most 21 digits long, else `1.5e-30`. */
void sp_decimal_write(struct sp_writer *w, struct sp_decimal value);

/**
 * As a double, for sums and means: the nearest one when the mantissa is below 2^53 and the exponent within
 * 22 of zero, else within a few units in the last place.
 */
double sp_decimal_to_double(struct sp_decimal value);

/**
 * The shortest decimal that reads back as `value`, for a mean or a sum to be printed.
 * @retval SP_ERR_MALFORMED `value` is infinite or not a number.
 */
SP_MUST_CHECK enum sp_err sp_decimal_from_double(double value, struct sp_decimal *out);

/**
 * The same for the bits of an IEEE 754 number of 16, 32 or 64 bits: single-precision 0.1 becomes 0.1.
 * Uses about 1 KiB of stack.
 * @retval SP_ERR_MALFORMED Infinite or not a number.
 * @retval SP_ERR_ARGUMENT  Another width.
 */
SP_MUST_CHECK enum sp_err sp_decimal_from_bits(unsigned width, uint64_t bits,
                                               struct sp_decimal *out);

/**
 * a + b, exactly.
 * @retval SP_ERR_LIMIT The sum has no exact form with 64 bits of mantissa.
 */
SP_MUST_CHECK enum sp_err sp_decimal_add(struct sp_decimal a, struct sp_decimal b,
                                         struct sp_decimal *out);

/** -1, 0 or 1 as a is less than, equal to or greater than b; exact. */
int sp_decimal_compare(struct sp_decimal a, struct sp_decimal b);

#endif
