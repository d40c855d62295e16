/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The record layer with bytes from nowhere, and with bytes of our own that it must get back.
 *
 * First byte: suite, and whether the input is the wire or the plaintext of records.
 */
#include "gateway/tls/record.h"

#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t plain[SP_RECORD_PLAIN_MAX];
static uint8_t wire[SP_RECORD_WIRE_MAX];

static void open_all(struct sp_tls_record *record, struct sp_view in)
{
    struct sp_record_in found;
    enum sp_err err = SP_OK;
    while (err == SP_OK && in.len > 0) {
        err = sp_record_open(record, in, plain, sizeof(plain), &found);
        if (err == SP_OK && (found.used > in.len || found.used < SP_RECORD_HEADER)) {
            abort();
        }
        in = sp_view_from(in, found.used);
    }
}

/* Seal, perhaps bend one byte (`at`), open. */
static void seal_and_open(struct sp_tls_record *record, enum sp_record_type type,
                          struct sp_view body, size_t at)
{
    struct sp_record_in found;
    struct sp_view sent = sp_view_first(body, record->send_max);
    if (sp_record_seal(record, type, sent, wire) != SP_OK) {
        abort();
    }
    size_t size = sp_record_sealed(record, sent.len);
    bool bent = at < size;
    if (bent) {
        wire[at] ^= 0x41;
    }
    enum sp_err err = sp_record_open(record, sp_view(wire, size), plain, sizeof(plain), &found);
    if (bent && (err == SP_OK || err == SP_ERR_CLOSED)) {
        abort();
    }
    if (!bent && type == SP_RECORD_DATA && sent.len > 0 &&
        (err != SP_OK || found.len != sent.len || memcmp(plain, sent.ptr, sent.len) != 0)) {
        abort();
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 3) {
        return 0;
    }
    struct sp_tls_record record = {.send_max = SP_RECORD_PLAIN_MAX,
                                   .suite = (uint8_t)(1 + data[0] % 3)};
    struct sp_view rest = sp_view(data + 3, size - 3);
    if ((data[0] & 0x80) == 0) {
        open_all(&record, rest);
    } else {
        static const enum sp_record_type types[] = {SP_RECORD_ALERT, SP_RECORD_HANDSHAKE,
                                                    SP_RECORD_DATA, SP_RECORD_DATA};
        seal_and_open(&record, types[data[0] >> 4 & 3], rest, (size_t)data[1] << 8 | data[2]);
    }
    return 0;
}
