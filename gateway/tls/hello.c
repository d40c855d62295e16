/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/tls/hello.h"

enum { RECORD_HANDSHAKE = 22 };
enum {
    EXT_ENCRYPT_THEN_MAC = 22,
    EXT_EXTENDED_MASTER_SECRET = 23,
    EXT_RECORD_SIZE_LIMIT = 28,
    EXT_PRE_SHARED_KEY = 41,
    EXT_SUPPORTED_VERSIONS = 43,
    EXT_PSK_MODES = 45
};
enum { TLS12 = 0x0303, TLS13 = 0x0304, PSK_DHE_KE = 1 };
enum { RECORD_SIZE_MIN = 64 }; /* RFC 8449, 4: less is no limit that counts */

/* Length of the message's body, or -1 while its header is not whole. */
static long message_length(const uint8_t *message, size_t have)
{
    if (have < 4) {
        return -1;
    }
    return (long)message[1] << 16 | (long)message[2] << 8 | (long)message[3];
}

enum sp_err sp_hello_gather(struct sp_view raw, enum sp_hello_type type, uint8_t *scratch,
                            struct sp_view *body)
{
    struct sp_reader r;
    sp_reader_init(&r, raw);
    size_t have = 0;
    while (sp_reader_left(&r) >= 5) {
        uint8_t record = sp_read_u8(&r);
        uint8_t major = sp_read_u8(&r);
        sp_read_u8(&r);
        size_t len = sp_read_u16(&r);
        if (record != RECORD_HANDSHAKE || major != 3 || len == 0) {
            return SP_ERR_NOT_FOUND;
        }
        size_t part = len < sp_reader_left(&r) ? len : sp_reader_left(&r);
        size_t room = SP_HELLO_MAX - have;
        struct sp_view bytes = sp_read_bytes(&r, part);
        sp_copy(scratch + have, bytes.ptr, part < room ? part : room);
        have += part < room ? part : room;
        if (have > 0 && scratch[0] != (uint8_t)type) {
            return SP_ERR_NOT_FOUND;
        }
        long want = message_length(scratch, have);
        if (want > (long)SP_HELLO_MAX - 4) {
            return SP_ERR_LIMIT;
        }
        if (want >= 0 && have - 4 >= (size_t)want) {
            *body = sp_view(scratch + 4, (size_t)want);
            return SP_OK;
        }
        if (part < len) {
            break;
        }
    }
    return SP_ERR_AGAIN;
}

static void parse_versions(struct sp_view data, struct sp_client_hello *out)
{
    struct sp_reader r;
    sp_reader_init(&r, data);
    size_t len = sp_read_u8(&r);
    out->tls12 = false; /* this list alone counts (RFC 8446, 4.2.1) */
    for (size_t i = 0; i + 1 < len && r.err == SP_OK; i += 2) {
        uint16_t version = sp_read_u16(&r);
        out->tls12 = out->tls12 || version == TLS12;
        out->tls13 = out->tls13 || version == TLS13;
    }
}

static void parse_modes(struct sp_view data, struct sp_client_hello *out)
{
    struct sp_reader r;
    sp_reader_init(&r, data);
    size_t len = sp_read_u8(&r);
    for (size_t i = 0; i < len && r.err == SP_OK; i++) {
        out->psk_dhe = out->psk_dhe || sp_read_u8(&r) == PSK_DHE_KE;
    }
}

static void parse_extension(uint16_t type, struct sp_view data, struct sp_client_hello *out)
{
    struct sp_reader r;
    sp_reader_init(&r, data);
    if (type == EXT_SUPPORTED_VERSIONS) {
        parse_versions(data, out);
    } else if (type == EXT_PSK_MODES) {
        parse_modes(data, out);
    } else if (type == EXT_ENCRYPT_THEN_MAC) {
        out->encrypt_then_mac = true;
    } else if (type == EXT_EXTENDED_MASTER_SECRET) {
        out->extended_master_secret = true;
    } else if (type == EXT_RECORD_SIZE_LIMIT) {
        uint16_t limit = sp_read_u16(&r);
        out->record_size_limit = limit < RECORD_SIZE_MIN ? 0 : limit;
    } else if (type == EXT_PRE_SHARED_KEY) {
        struct sp_reader list;
        sp_reader_init(&list, sp_read_bytes(&r, sp_read_u16(&r)));
        out->psk_identity = sp_read_bytes(&list, sp_read_u16(&list));
    }
}

enum sp_err sp_hello_parse(struct sp_view body, struct sp_client_hello *out)
{
    struct sp_client_hello hello = {0};
    struct sp_reader r;
    sp_reader_init(&r, body);
    hello.tls12 = sp_read_u16(&r) >= TLS12;
    sp_read_bytes(&r, 32);
    sp_read_bytes(&r, sp_read_u8(&r));
    hello.suites = sp_read_bytes(&r, sp_read_u16(&r));
    sp_read_bytes(&r, sp_read_u8(&r));
    if (r.err == SP_OK && sp_reader_left(&r) > 0) {
        struct sp_reader extensions;
        sp_reader_init(&extensions, sp_read_bytes(&r, sp_read_u16(&r)));
        while (sp_reader_left(&extensions) > 0) {
            uint16_t type = sp_read_u16(&extensions);
            struct sp_view data = sp_read_bytes(&extensions, sp_read_u16(&extensions));
            parse_extension(type, data, &hello);
        }
        SP_TRY(sp_reader_finish(&extensions));
    }
    SP_TRY(sp_reader_finish(&r));
    *out = hello;
    return SP_OK;
}

bool sp_hello_offers(const struct sp_client_hello *hello, uint16_t suite)
{
    struct sp_reader r;
    sp_reader_init(&r, hello->suites);
    while (sp_reader_left(&r) >= 2) {
        if (sp_read_u16(&r) == suite) {
            return true;
        }
    }
    return false;
}

enum sp_err sp_hello_identity(struct sp_view body, struct sp_view *identity)
{
    struct sp_reader r;
    sp_reader_init(&r, body);
    struct sp_view found = sp_read_bytes(&r, sp_read_u16(&r));
    SP_TRY(r.err);
    *identity = found;
    return SP_OK;
}
