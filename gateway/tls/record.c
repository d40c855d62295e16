/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/record.h"

#include "gateway/tls/record_cipher.h"

#define VERSION  0x0303U /* TLS 1.2 */
#define EXPLICIT 8U      /* the part of the nonce that is on the wire */

static void put_u64(uint8_t *out, uint64_t value)
{
    for (int i = 7; i >= 0; i--) {
        out[i] = (uint8_t)value;
        value >>= 8;
    }
}

/* RFC 5246 6.2.3.3: sequence number, type, version, length of the plaintext */
static void make_aad(uint8_t *aad, uint64_t sequence, uint8_t type, size_t len)
{
    put_u64(aad, sequence);
    aad[8] = type;
    aad[9] = VERSION >> 8;
    aad[10] = VERSION & 0xFFU;
    aad[11] = (uint8_t)(len >> 8);
    aad[12] = (uint8_t)len;
}

static enum sp_err refused(struct sp_record_in *found, enum sp_alert alert, const char *why)
{
    found->alert = (uint8_t)alert;
    found->why = why;
    return SP_ERR_MALFORMED;
}

static size_t body_len(struct sp_view in)
{
    return (size_t)in.ptr[3] << 8 | in.ptr[4];
}

size_t sp_record_wire_size(struct sp_view in)
{
    if (in.len < SP_RECORD_HEADER) {
        return SP_RECORD_HEADER;
    }
    size_t size = SP_RECORD_HEADER + body_len(in);
    return size < SP_RECORD_WIRE_MAX ? size : SP_RECORD_WIRE_MAX;
}

/* What a header alone is refused for, so that nobody makes us wait for a body that is not wanted. */
static enum sp_err look_at_header(const struct sp_tls_record *record, struct sp_view in,
                                  struct sp_record_in *found)
{
    size_t growth = EXPLICIT + sp_record_tag((enum sp_record_suite)record->suite);
    uint8_t type = in.ptr[0];
    if (type < 20 || type > 24) {
        return refused(found, SP_ALERT_UNEXPECTED_MESSAGE, "not a record");
    }
    if ((in.ptr[1] << 8 | in.ptr[2]) != VERSION) {
        return refused(found, SP_ALERT_PROTOCOL_VERSION, "record of another version");
    }
    if (body_len(in) > SP_RECORD_PLAIN_MAX + growth) {
        return refused(found, SP_ALERT_RECORD_OVERFLOW, "record too large");
    }
    if (body_len(in) < growth) {
        return refused(found, SP_ALERT_BAD_RECORD_MAC, "record too short");
    }
    return SP_OK;
}

static enum sp_err decrypt(struct sp_tls_record *record, struct sp_view wire, uint8_t *out,
                           size_t len)
{
    uint8_t nonce[SP_RECORD_NONCE];
    uint8_t aad[SP_RECORD_AAD];
    struct sp_view body = sp_view_from(wire, SP_RECORD_HEADER);
    sp_copy(nonce, record->read_salt, sizeof(record->read_salt));
    sp_copy(nonce + sizeof(record->read_salt), body.ptr, EXPLICIT);
    make_aad(aad, record->read_sequence, wire.ptr[0], len);
    const struct sp_record_cipher cipher = {(enum sp_record_suite)record->suite, record->read_key,
                                            nonce, aad};
    if (!sp_record_decrypt(&cipher, sp_view_from(body, EXPLICIT), out)) {
        sp_wipe(out, len);
        return SP_ERR_MALFORMED;
    }
    record->read_sequence++;
    return SP_OK;
}

/* Nothing in it for the caller. Endless streams of such records are not served. */
static enum sp_err quiet(struct sp_tls_record *record, struct sp_record_in *found)
{
    found->len = 0;
    if (record->quiet >= SP_RECORD_QUIET_MAX) {
        return refused(found, SP_ALERT_UNEXPECTED_MESSAGE,
                       "too many empty records or warning alerts");
    }
    record->quiet++;
    return SP_OK;
}

static enum sp_err on_alert(struct sp_tls_record *record, const uint8_t *alert,
                            struct sp_record_in *found)
{
    if (found->len != 2) {
        return refused(found, SP_ALERT_DECODE_ERROR, "malformed alert");
    }
    if (alert[0] != SP_ALERT_WARNING && alert[0] != SP_ALERT_FATAL) {
        return refused(found, SP_ALERT_ILLEGAL_PARAMETER, "malformed alert");
    }
    if (alert[0] == SP_ALERT_FATAL || alert[1] == SP_ALERT_CLOSE_NOTIFY) {
        found->alert = alert[1];
        found->why = alert[1] == SP_ALERT_CLOSE_NOTIFY ? "closed" : "the peer sent a fatal alert";
        return SP_ERR_CLOSED;
    }
    return quiet(record, found);
}

enum sp_err sp_record_open(struct sp_tls_record *record, struct sp_view in, uint8_t *out,
                           size_t cap, struct sp_record_in *found)
{
    *found = (struct sp_record_in){.why = NULL};
    if (in.len < SP_RECORD_HEADER) {
        return SP_ERR_AGAIN;
    }
    SP_TRY(look_at_header(record, in, found));
    size_t size = SP_RECORD_HEADER + body_len(in);
    size_t len = body_len(in) - EXPLICIT - sp_record_tag((enum sp_record_suite)record->suite);
    if (in.len < size) {
        return SP_ERR_AGAIN;
    }
    if (len > cap) {
        return SP_ERR_SPACE;
    }
    if (record->read_sequence == UINT64_MAX ||
        decrypt(record, sp_view_first(in, size), out, len) != SP_OK) {
        return refused(found, SP_ALERT_BAD_RECORD_MAC, "record cannot be decrypted");
    }
    found->used = size;
    found->len = len;
    switch (in.ptr[0]) {
    case SP_RECORD_DATA:
        if (len == 0) {
            return quiet(record, found);
        }
        record->quiet = 0;
        return SP_OK;
    case SP_RECORD_ALERT:
        return on_alert(record, out, found);
    case SP_RECORD_HANDSHAKE:
        return refused(found, SP_ALERT_NO_RENEGOTIATION, "renegotiation");
    default:
        return refused(found, SP_ALERT_UNEXPECTED_MESSAGE, "record of an unwanted type");
    }
}

size_t sp_record_sealed(const struct sp_tls_record *record, size_t len)
{
    return SP_RECORD_HEADER + EXPLICIT + len + sp_record_tag((enum sp_record_suite)record->suite);
}

enum sp_err sp_record_seal(struct sp_tls_record *record, enum sp_record_type type,
                           struct sp_view plain, uint8_t *out)
{
    if (plain.len > record->send_max) {
        return SP_ERR_ARGUMENT;
    }
    if (record->write_sequence == UINT64_MAX) {
        return SP_ERR_LIMIT;
    }
    uint8_t nonce[SP_RECORD_NONCE];
    uint8_t aad[SP_RECORD_AAD];
    size_t body = sp_record_sealed(record, plain.len) - SP_RECORD_HEADER;
    out[0] = (uint8_t)type;
    out[1] = VERSION >> 8;
    out[2] = VERSION & 0xFFU;
    out[3] = (uint8_t)(body >> 8);
    out[4] = (uint8_t)body;
    /* The sequence number as the explicit part: never the same nonce twice, and what GnuTLS did before us. */
    put_u64(out + SP_RECORD_HEADER, record->write_sequence);
    sp_copy(nonce, record->write_salt, sizeof(record->write_salt));
    sp_copy(nonce + sizeof(record->write_salt), out + SP_RECORD_HEADER, EXPLICIT);
    make_aad(aad, record->write_sequence, (uint8_t)type, plain.len);
    const struct sp_record_cipher cipher = {(enum sp_record_suite)record->suite, record->write_key,
                                            nonce, aad};
    sp_record_encrypt(&cipher, plain, out + SP_RECORD_HEADER + EXPLICIT);
    record->write_sequence++;
    return SP_OK;
}

enum sp_err sp_record_seal_alert(struct sp_tls_record *record, enum sp_alert alert, uint8_t *out)
{
    bool warning = alert == SP_ALERT_CLOSE_NOTIFY || alert == SP_ALERT_NO_RENEGOTIATION;
    const uint8_t plain[2] = {warning ? SP_ALERT_WARNING : SP_ALERT_FATAL, (uint8_t)alert};
    return sp_record_seal(record, SP_RECORD_ALERT, SP_VIEW_ARRAY(plain), out);
}
