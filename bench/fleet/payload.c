/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/payload.h"

#include <string.h>

#define CBOR_DOUBLE 0xFBU /* RFC 8949, 3.3: an IEEE 754 binary64 follows */

/* RFC 8428, table 4 */
enum senml_label { SENML_BN = 0x21, SENML_BT = 0x22, SENML_N = 0, SENML_U = 1, SENML_V = 2 };

static void write_double(struct sp_writer *w, double value)
{
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof(bits));
    sp_write_u8(w, CBOR_DOUBLE);
    sp_write_u64(w, bits);
}

static void write_text(struct sp_writer *w, struct sp_view head, const char *tail)
{
    size_t len = head.len + strlen(tail);
    if (len < 24) {
        sp_write_u8(w, (uint8_t)(0x60U + len));
    } else {
        sp_write_u8(w, 0x78U);
        sp_write_u8(w, (uint8_t)len);
    }
    sp_write_view(w, head);
    sp_write_str(w, tail);
}

/* A decimal fraction with two digits (RFC 8949, 3.4.4): tag 4 [-2, hundredths]. */
static void write_quantity(struct sp_writer *w, const char *name, const char *unit,
                           uint16_t hundredths)
{
    sp_write_u8(w, SENML_N);
    write_text(w, sp_view_str(name), "");
    sp_write_u8(w, SENML_U);
    write_text(w, sp_view_str(unit), "");
    sp_write_u8(w, SENML_V);
    sp_write_view(w, SP_VIEW_LIT("\xC4\x82\x21\x19"));
    sp_write_u16(w, hundredths);
}

void sp_payload_climate(struct sp_writer *w, struct sp_view device, double time, uint32_t number)
{
    sp_write_u8(w, 0x82U);
    sp_write_u8(w, 0xA5U);
    sp_write_u8(w, SENML_BN);
    write_text(w, device, "/");
    sp_write_u8(w, SENML_BT);
    write_double(w, time);
    write_quantity(w, "temperature", "Cel", (uint16_t)(2000U + number % 1000U));
    sp_write_u8(w, 0xA3U);
    write_quantity(w, "humidity", "%RH", (uint16_t)(4000U + number % 1000U));
}

void sp_payload_raw(struct sp_writer *w, size_t size, double time)
{
    size_t before = w->used;
    write_double(w, time);
    size_t written = w->used - before;
    if (size > written) {
        uint8_t *rest = sp_write_reserve(w, size - written);
        if (rest != NULL) {
            memset(rest, 'x', size - written);
        }
    }
}

/* Leave the cursor before the time of a climate record. */
static void skip_to_time(struct sp_reader *r)
{
    sp_read_bytes(r, 3);
    size_t len = sp_read_u8(r) & 0x1FU;
    if (len == 24) {
        len = sp_read_u8(r);
    }
    sp_read_bytes(r, len);
    if (sp_read_u8(r) != SENML_BT) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
    }
}

bool sp_payload_time(struct sp_view payload, double *time)
{
    struct sp_reader r;
    sp_reader_init(&r, payload);
    if (sp_peek_u8(&r) == 0x82U) {
        skip_to_time(&r);
    }
    if (sp_read_u8(&r) != CBOR_DOUBLE) {
        return false;
    }
    uint64_t bits = sp_read_u64(&r);
    if (r.err != SP_OK) {
        return false;
    }
    memcpy(time, &bits, sizeof(bits));
    return true;
}
