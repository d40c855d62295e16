/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Binary to decimal is Steele and White's free-format algorithm ("How to print floating-point numbers
 * accurately", 1990) over plain big integers: the fewest digits that read back as the same float, exactly.
 */
#include "libs/senml/decimal.h"

#include <string.h>

#define PLAIN_DIGITS_MAX 21 /* as JavaScript does, so that JSON readers see what they would write */

struct sp_decimal sp_decimal_normal(struct sp_decimal value)
{
    if (value.mantissa == 0) {
        return (struct sp_decimal){0, 0};
    }
    while (value.mantissa % 10 == 0) {
        value.mantissa /= 10;
        value.exponent++;
    }
    return value;
}

/* Decimal digits of `value`, most significant first; how many. */
static int digits_of(uint64_t value, char out[20])
{
    char reversed[20];
    int count = 0;
    do {
        reversed[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (int i = 0; i < count; i++) {
        out[i] = reversed[count - 1 - i];
    }
    return count;
}

static void write_zeros(struct sp_writer *w, int count)
{
    for (int i = 0; i < count; i++) {
        sp_write_u8(w, '0');
    }
}

static void write_digits(struct sp_writer *w, const char *digits, int from, int to)
{
    sp_write_view(w, sp_view(&digits[from], (size_t)(to - from)));
}

static void write_scientific(struct sp_writer *w, const char *digits, int count, int64_t exponent)
{
    write_digits(w, digits, 0, 1);
    if (count > 1) {
        sp_write_u8(w, '.');
        write_digits(w, digits, 1, count);
    }
    sp_write_u8(w, 'e');
    sp_write_dec(w, exponent);
}

void sp_decimal_write(struct sp_writer *w, struct sp_decimal value)
{
    char digits[20];
    struct sp_decimal normal = sp_decimal_normal(value);
    bool negative = normal.mantissa < 0;
    uint64_t magnitude = negative ? 0 - (uint64_t)normal.mantissa : (uint64_t)normal.mantissa;
    int count = digits_of(magnitude, digits);
    int64_t point = count + (int64_t)normal.exponent; /* digits in front of the decimal point */
    if (negative) {
        sp_write_u8(w, '-');
    }
    if (point > PLAIN_DIGITS_MAX || point <= -6) {
        write_scientific(w, digits, count, point - 1);
    } else if (point <= 0) {
        sp_write_str(w, "0.");
        write_zeros(w, (int)-point);
        write_digits(w, digits, 0, count);
    } else if (point >= count) {
        write_digits(w, digits, 0, count);
        write_zeros(w, (int)point - count);
    } else {
        write_digits(w, digits, 0, (int)point);
        sp_write_u8(w, '.');
        write_digits(w, digits, (int)point, count);
    }
}

double sp_decimal_to_double(struct sp_decimal value)
{
    static const double powers[] = {1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                    1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                    1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22};
    const int step = 22; /* the largest power of ten that is exact */
    struct sp_decimal normal = sp_decimal_normal(value);
    double result = (double)normal.mantissa;
    int32_t exponent = normal.exponent;
    for (; exponent > step && result < 1e300 && result > -1e300; exponent -= step) {
        result *= powers[step];
    }
    for (; exponent < -step && (result > 1e-300 || result < -1e-300); exponent += step) {
        result /= powers[step];
    }
    if (exponent > step || exponent < -step) { /* far outside: infinite, or zero */
        return exponent > 0 ? result * 1e300 : result * 0.0;
    }
    return exponent < 0 ? result / powers[-exponent] : result * powers[exponent];
}

/* ---- binary to decimal ---- */

#define WORDS 40 /* 1280 bits; a double needs at most 1140 */

#define SMALL_BITS 54
#define SMALL      (UINT64_C(1) << 60) /* eleven times as much fits into 64 bits */

struct big {
    uint32_t words[WORDS]; /* least significant first */
    int used;
};

static void big_set(struct big *b, uint64_t value)
{
    memset(b, 0, sizeof(*b));
    b->words[0] = (uint32_t)value;
    b->words[1] = (uint32_t)(value >> 32);
    b->used = b->words[1] != 0 ? 2 : b->words[0] != 0;
}

static void big_multiply(struct big *b, uint32_t factor)
{
    uint64_t carry = 0;
    for (int i = 0; i < b->used; i++) {
        carry += (uint64_t)b->words[i] * factor;
        b->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    if (carry != 0 && b->used < WORDS) {
        b->words[b->used++] = (uint32_t)carry;
    }
}

static void big_shift(struct big *b, int bits)
{
    for (; bits >= 16; bits -= 16) {
        big_multiply(b, 1U << 16);
    }
    big_multiply(b, 1U << bits);
}

static void big_times_ten_to(struct big *b, int power)
{
    for (; power >= 9; power -= 9) {
        big_multiply(b, 1000000000U);
    }
    for (; power > 0; power--) {
        big_multiply(b, 10);
    }
}

static void big_add(struct big *b, const struct big *other)
{
    uint64_t carry = 0;
    int used = b->used > other->used ? b->used : other->used;
    for (int i = 0; i < used; i++) {
        carry += (uint64_t)b->words[i] + other->words[i];
        b->words[i] = (uint32_t)carry;
        carry >>= 32;
    }
    b->used = used;
    if (carry != 0 && used < WORDS) {
        b->words[b->used++] = (uint32_t)carry;
    }
}

static int big_compare(const struct big *a, const struct big *b)
{
    if (a->used != b->used) {
        return a->used < b->used ? -1 : 1;
    }
    for (int i = a->used - 1; i >= 0; i--) {
        if (a->words[i] != b->words[i]) {
            return a->words[i] < b->words[i] ? -1 : 1;
        }
    }
    return 0;
}

/* b -= other, which is not greater. */
static void big_subtract(struct big *b, const struct big *other)
{
    uint64_t borrow = 0;
    for (int i = 0; i < b->used; i++) {
        uint64_t take = (uint64_t)other->words[i] + borrow;
        borrow = b->words[i] < take;
        b->words[i] = (uint32_t)(b->words[i] - take);
    }
    while (b->used > 0 && b->words[b->used - 1] == 0) {
        b->used--;
    }
}

/* The number r / s, and half the gaps to its neighbours, low / s and high / s. */
struct ratio {
    struct big r;
    struct big s;
    struct big low;
    struct big high;
    bool even; /* a tie reads back as the number: the bounds belong to the interval */
};

static bool reaches_one(const struct ratio *ratio)
{
    struct big sum = ratio->r;
    big_add(&sum, &ratio->high);
    int order = big_compare(&sum, &ratio->s);
    return ratio->even ? order >= 0 : order > 0;
}

/* mantissa * 2^exponent; `uneven`: the neighbour below is half as far as the one above. */
static void ratio_init(struct ratio *ratio, uint64_t mantissa, int exponent, bool uneven)
{
    int extra = uneven ? 2 : 1;
    big_set(&ratio->r, mantissa);
    big_set(&ratio->s, 1);
    big_set(&ratio->low, 1);
    ratio->even = mantissa % 2 == 0;
    big_shift(&ratio->r, extra);
    big_shift(&ratio->s, extra);
    if (exponent >= 0) {
        big_shift(&ratio->r, exponent);
        big_shift(&ratio->low, exponent);
    } else {
        big_shift(&ratio->s, -exponent);
    }
    ratio->high = ratio->low;
    if (uneven) {
        big_shift(&ratio->high, 1);
    }
}

/* The power of ten to scale with; it is never too large, and what it lacks a loop mends. */
static int guess_power(uint64_t mantissa, int exponent)
{
    int bits = 0;
    while (mantissa >> bits != 0 && bits < 63) {
        bits++;
    }
    /* log10(2) = 0.30103, from below */
    return (int)(((int64_t)(bits + exponent - 1) * 30103) / 100000) - 1;
}

/* Scale to r / s < 1 <= 10 * r / s, as seen from the upper bound; the power of ten taken out. */
static int ratio_scale(struct ratio *ratio, uint64_t mantissa, int exponent)
{
    int power = guess_power(mantissa, exponent);
    if (power >= 0) {
        big_times_ten_to(&ratio->s, power);
    } else {
        big_times_ten_to(&ratio->r, -power);
        big_times_ten_to(&ratio->low, -power);
        big_times_ten_to(&ratio->high, -power);
    }
    for (; reaches_one(ratio); power++) {
        big_multiply(&ratio->s, 10);
    }
    return power;
}

static unsigned next_digit(struct ratio *ratio)
{
    unsigned digit = 0;
    big_multiply(&ratio->r, 10);
    big_multiply(&ratio->low, 10);
    big_multiply(&ratio->high, 10);
    for (; big_compare(&ratio->r, &ratio->s) >= 0; digit++) {
        big_subtract(&ratio->r, &ratio->s);
    }
    return digit;
}

static bool below_low(const struct ratio *ratio)
{
    int order = big_compare(&ratio->r, &ratio->low);
    return ratio->even ? order <= 0 : order < 0;
}

static bool upper_half(const struct ratio *ratio)
{
    struct big twice = ratio->r;
    big_multiply(&twice, 2);
    return big_compare(&twice, &ratio->s) >= 0;
}

/* A ratio in machine words, s <= SMALL: enough for next to all that sensors report. */
struct small {
    uint64_t r;
    uint64_t s;
    uint64_t low;
    uint64_t high;
    bool even;
};

static bool small_reaches_one(const struct small *v)
{
    return v->even ? v->r + v->high >= v->s : v->r + v->high > v->s;
}

/* ratio_init() and ratio_scale(). @return false when it does not fit. */
static bool small_init(struct small *v, uint64_t mantissa, int exponent, bool uneven,
                       int32_t *power)
{
    int extra = uneven ? 2 : 1;
    if (exponent > 0 || extra - exponent > SMALL_BITS || mantissa >> 53 != 0) {
        return false;
    }
    *v = (struct small){.r = mantissa << extra,
                        .s = UINT64_C(1) << (extra - exponent),
                        .low = 1,
                        .high = uneven ? 2 : 1,
                        .even = mantissa % 2 == 0};
    *power = guess_power(mantissa, exponent);
    for (int i = 0; i > *power; i--) {
        v->r *= 10; /* stays below 1000 * s */
        v->low *= 10;
        v->high *= 10;
    }
    for (int i = 0; i < *power || small_reaches_one(v); i++) {
        if (v->s > SMALL / 10) {
            return false;
        }
        v->s *= 10;
        *power += i >= *power;
    }
    return true;
}

static bool shortest_small(uint64_t mantissa, int exponent, bool uneven, struct sp_decimal *out)
{
    struct small v;
    *out = (struct sp_decimal){0, 0};
    if (!small_init(&v, mantissa, exponent, uneven, &out->exponent)) {
        return false;
    }
    for (;;) {
        uint64_t digit = v.r * 10 / v.s;
        v.r = v.r * 10 % v.s;
        v.low *= 10;
        v.high *= 10;
        bool low = v.even ? v.r <= v.low : v.r < v.low;
        bool high = small_reaches_one(&v);
        bool up = low && high ? v.r * 2 >= v.s : high;
        out->mantissa = out->mantissa * 10 + (int64_t)digit + (up ? 1 : 0);
        out->exponent--;
        if (low || high) {
            *out = sp_decimal_normal(*out);
            return true;
        }
    }
}

static struct sp_decimal shortest(uint64_t mantissa, int exponent, bool uneven)
{
    struct sp_decimal small;
    if (shortest_small(mantissa, exponent, uneven, &small)) {
        return small;
    }
    struct ratio ratio;
    ratio_init(&ratio, mantissa, exponent, uneven);
    struct sp_decimal out = {0, ratio_scale(&ratio, mantissa, exponent)};
    for (;;) {
        unsigned digit = next_digit(&ratio);
        bool low = below_low(&ratio);
        bool high = reaches_one(&ratio);
        bool up = low && high ? upper_half(&ratio) : high;
        out.mantissa = out.mantissa * 10 + (int64_t)digit + (up ? 1 : 0);
        out.exponent--;
        if (low || high) {
            return sp_decimal_normal(out);
        }
    }
}

/* An IEEE 754 number from its fields. */
static enum sp_err from_fields(uint64_t bits, int fraction_bits, int exponent_bits,
                               struct sp_decimal *out)
{
    int exponent_max = (1 << exponent_bits) - 1;
    int bias = exponent_max / 2 + fraction_bits;
    uint64_t fraction = bits & ((UINT64_C(1) << fraction_bits) - 1);
    int exponent = (int)(bits >> fraction_bits) & exponent_max;
    bool negative = (bits >> (fraction_bits + exponent_bits) & 1) != 0;
    if (exponent == exponent_max) {
        return SP_ERR_MALFORMED;
    }
    if (exponent == 0 && fraction == 0) {
        *out = (struct sp_decimal){0, 0};
        return SP_OK;
    }
    bool normal = exponent != 0;
    uint64_t mantissa = normal ? fraction | UINT64_C(1) << fraction_bits : fraction;
    int binary_exponent = (normal ? exponent : 1) - bias;
    struct sp_decimal value = shortest(mantissa, binary_exponent, fraction == 0 && exponent > 1);
    value.mantissa = negative ? -value.mantissa : value.mantissa;
    *out = value;
    return SP_OK;
}

enum sp_err sp_decimal_from_bits(unsigned width, uint64_t bits, struct sp_decimal *out)
{
    switch (width) {
    case 16:
        return from_fields(bits, 10, 5, out);
    case 32:
        return from_fields(bits, 23, 8, out);
    case 64:
        return from_fields(bits, 52, 11, out);
    default:
        return SP_ERR_ARGUMENT;
    }
}

enum sp_err sp_decimal_from_double(double value, struct sp_decimal *out)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(bits));
    return sp_decimal_from_bits(64, bits, out);
}

/* ---- exact arithmetic ---- */

static bool times_ten(int64_t *mantissa)
{
    if (*mantissa > INT64_MAX / 10 || *mantissa < INT64_MIN / 10) {
        return false;
    }
    *mantissa *= 10;
    return true;
}

enum sp_err sp_decimal_add(struct sp_decimal a, struct sp_decimal b, struct sp_decimal *out)
{
    a = sp_decimal_normal(a);
    b = sp_decimal_normal(b);
    if (a.mantissa == 0 || b.mantissa == 0) {
        *out = a.mantissa == 0 ? b : a;
        return SP_OK;
    }
    struct sp_decimal coarse = a.exponent >= b.exponent ? a : b;
    struct sp_decimal fine = a.exponent >= b.exponent ? b : a;
    while (coarse.exponent > fine.exponent) {
        if (!times_ten(&coarse.mantissa)) {
            return SP_ERR_LIMIT;
        }
        coarse.exponent--;
    }
    bool over = fine.mantissa > 0 ? coarse.mantissa > INT64_MAX - fine.mantissa
                                  : coarse.mantissa < INT64_MIN - fine.mantissa;
    if (over) {
        return SP_ERR_LIMIT;
    }
    fine.mantissa += coarse.mantissa;
    *out = sp_decimal_normal(fine);
    return SP_OK;
}

static int sign_of(int64_t value)
{
    return (value > 0) - (value < 0);
}

int sp_decimal_compare(struct sp_decimal a, struct sp_decimal b)
{
    a = sp_decimal_normal(a);
    b = sp_decimal_normal(b);
    if (sign_of(a.mantissa) != sign_of(b.mantissa)) {
        return sign_of(a.mantissa) < sign_of(b.mantissa) ? -1 : 1;
    }
    bool swapped = a.exponent < b.exponent;
    struct sp_decimal coarse = swapped ? b : a;
    struct sp_decimal fine = swapped ? a : b;
    int order = 0;
    while (coarse.exponent > fine.exponent && order == 0) {
        if (times_ten(&coarse.mantissa)) {
            coarse.exponent--;
        } else { /* beyond what any 64-bit mantissa of the finer scale reaches */
            order = sign_of(coarse.mantissa);
        }
    }
    if (order == 0) {
        order = (coarse.mantissa > fine.mantissa) - (coarse.mantissa < fine.mantissa);
    }
    return swapped ? -order : order;
}
