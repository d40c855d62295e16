/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The record layer against records that GnuTLS's ciphers made, and everything that may be wrong with one. */
#include "gateway/tls/record.h"

#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <string.h>

#include "libs/base/test.h"

static const uint8_t key[16] = {0x10, 0x21, 0x32, 0x43, 0x54, 0x65, 0x76, 0x87,
                                0x98, 0xA9, 0xBA, 0xCB, 0xDC, 0xED, 0xFE, 0x0F};
static const uint8_t salt[4] = {0xA1, 0xB2, 0xC3, 0xD4};

static const struct {
    const char *name;
    enum sp_record_suite suite;
    gnutls_cipher_algorithm_t cipher;
    size_t tag;
} suites[] = {
    {"CCM", SP_RECORD_CCM, GNUTLS_CIPHER_AES_128_CCM, 16},
    {"CCM-8", SP_RECORD_CCM_8, GNUTLS_CIPHER_AES_128_CCM_8, 8},
    {"GCM", SP_RECORD_GCM, GNUTLS_CIPHER_AES_128_GCM, 16},
};
#define SUITES (sizeof(suites) / sizeof(suites[0]))

static struct sp_tls_record make(size_t which)
{
    struct sp_tls_record record = {.read_sequence = 1,
                                   .write_sequence = 1,
                                   .send_max = SP_RECORD_PLAIN_MAX,
                                   .suite = (uint8_t)suites[which].suite};
    memcpy(record.read_key, key, 16);
    memcpy(record.write_key, key, 16);
    memcpy(record.read_salt, salt, 4);
    memcpy(record.write_salt, salt, 4);
    return record;
}

static void u64(uint8_t *out, uint64_t value)
{
    for (int i = 7; i >= 0; i--, value >>= 8) {
        out[i] = (uint8_t)value;
    }
}

/* What a peer's record is made of; `explicit_nonce` is free to differ from the sequence number. */
struct made {
    uint8_t type;
    uint64_t sequence;
    uint64_t explicit_nonce;
    struct sp_view plain;
};

/* A record as GnuTLS's cipher makes it. @return Its size. */
static size_t peer_seal(size_t which, const struct made *made, uint8_t *wire)
{
    uint8_t nonce[12];
    uint8_t aad[13];
    memcpy(nonce, salt, 4);
    u64(nonce + 4, made->explicit_nonce);
    u64(aad, made->sequence);
    aad[8] = made->type;
    aad[9] = 3;
    aad[10] = 3;
    aad[11] = (uint8_t)(made->plain.len >> 8);
    aad[12] = (uint8_t)made->plain.len;
    gnutls_aead_cipher_hd_t handle;
    gnutls_datum_t datum = {(unsigned char *)(uintptr_t)key, 16};
    SP_CHECK_INT(gnutls_aead_cipher_init(&handle, suites[which].cipher, &datum), 0);
    size_t len = made->plain.len + 16;
    SP_CHECK_INT(gnutls_aead_cipher_encrypt(handle, nonce, 12, aad, 13, suites[which].tag,
                                            made->plain.ptr, made->plain.len, wire + 13, &len),
                 0);
    gnutls_aead_cipher_deinit(handle);
    wire[0] = made->type;
    wire[1] = 3;
    wire[2] = 3;
    wire[3] = (uint8_t)((len + 8) >> 8);
    wire[4] = (uint8_t)(len + 8);
    memcpy(wire + 5, nonce + 4, 8);
    return len + 13;
}

static size_t peer_data(size_t which, uint64_t sequence, struct sp_view plain, uint8_t *wire)
{
    const struct made made = {SP_RECORD_DATA, sequence, sequence, plain};
    return peer_seal(which, &made, wire);
}

static uint8_t pattern[SP_RECORD_PLAIN_MAX + 1];
static uint8_t wire[SP_RECORD_WIRE_MAX * 2 + 64];
static uint8_t plain[SP_RECORD_PLAIN_MAX];

static void fill(void)
{
    for (size_t i = 0; i < sizeof(pattern); i++) {
        pattern[i] = (uint8_t)(i * 7 + i / 256);
    }
}

static void records_of_every_size_are_opened(void)
{
    static const size_t sizes[] = {1,   2,   15,  16,   17,   31,   32,   100,   255,  256,
                                   257, 511, 512, 1000, 1024, 4096, 8191, 16383, 16384};
    fill();
    for (size_t s = 0; s < SUITES; s++) {
        struct sp_tls_record record = make(s);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct sp_record_in found;
            size_t size = peer_data(s, i + 1, sp_view(pattern, sizes[i]), wire);
            SP_CHECK_CASE(sp_record_wire_size(sp_view(wire, size)) == size, suites[s].name);
            SP_CHECK_INT(sp_record_open(&record, sp_view(wire, size), plain, sizeof(plain), &found),
                         SP_OK);
            SP_CHECK_INT(found.used, size);
            SP_CHECK_INT(found.len, sizes[i]);
            SP_CHECK_CASE(memcmp(plain, pattern, sizes[i]) == 0, suites[s].name);
        }
    }
}

static void what_we_seal_is_what_a_peer_would_have_made(void)
{
    static const size_t sizes[] = {0, 1, 16, 100, 1000, 16384};
    static uint8_t theirs[SP_RECORD_WIRE_MAX];
    fill();
    for (size_t s = 0; s < SUITES; s++) {
        struct sp_tls_record record = make(s);
        for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
            struct sp_view view = sp_view(pattern, sizes[i]);
            SP_CHECK_INT(sp_record_seal(&record, SP_RECORD_DATA, view, wire), SP_OK);
            size_t size = peer_data(s, i + 1, view, theirs);
            SP_CHECK_INT(sp_record_sealed(&record, sizes[i]), size);
            SP_CHECK_CASE(memcmp(wire, theirs, size) == 0, suites[s].name);
        }
        SP_CHECK_INT(record.write_sequence, 1 + sizeof(sizes) / sizeof(sizes[0]));
    }
}

static void the_explicit_nonce_is_the_peers_choice(void)
{
    for (size_t s = 0; s < SUITES; s++) {
        struct sp_tls_record record = make(s);
        struct sp_record_in found;
        const struct made made = {SP_RECORD_DATA, 1, 0xDEADBEEF01020304U, SP_VIEW_LIT("hello")};
        size_t size = peer_seal(s, &made, wire);
        SP_CHECK_INT(sp_record_open(&record, sp_view(wire, size), plain, sizeof(plain), &found),
                     SP_OK);
        SP_CHECK_INT(found.len, 5);
    }
}

static void a_record_that_is_not_whole_is_waited_for(void)
{
    for (size_t s = 0; s < SUITES; s++) {
        struct sp_tls_record record = make(s);
        struct sp_record_in found;
        size_t size = peer_data(s, 1, SP_VIEW_LIT("twenty bytes of data"), wire);
        for (size_t len = 0; len < size; len++) {
            SP_CHECK_INT(sp_record_open(&record, sp_view(wire, len), plain, sizeof(plain), &found),
                         SP_ERR_AGAIN);
            SP_CHECK_INT(found.used, 0);
            SP_CHECK_INT(sp_record_wire_size(sp_view(wire, len)), len < 5 ? 5 : size);
        }
        SP_CHECK_INT(sp_record_open(&record, sp_view(wire, size), plain, 19, &found), SP_ERR_SPACE);
        SP_CHECK_INT(sp_record_open(&record, sp_view(wire, size + 9), plain, 20, &found), SP_OK);
        SP_CHECK_INT(found.used, size);
    }
}

static void every_flipped_bit_is_noticed(void)
{
    static uint8_t bent[128];
    for (size_t s = 0; s < SUITES; s++) {
        struct sp_tls_record record = make(s);
        size_t size = peer_data(s, 1, SP_VIEW_LIT("top secret data"), wire);
        for (size_t bit = 0; bit < size * 8; bit++) {
            struct sp_tls_record fresh = record;
            struct sp_record_in found;
            memcpy(bent, wire, size);
            bent[bit / 8] ^= (uint8_t)(1U << bit % 8);
            memset(plain, 0x55, 16);
            enum sp_err err =
                sp_record_open(&fresh, sp_view(bent, size), plain, sizeof(plain), &found);
            /* A longer length waits for more; all else is refused, and gives nothing away. */
            SP_CHECK_CASE(err == SP_ERR_MALFORMED || (err == SP_ERR_AGAIN && bit / 8 < 5),
                          suites[s].name);
            SP_CHECK_CASE(err == SP_ERR_AGAIN || found.alert != 0, suites[s].name);
            SP_CHECK_CASE(bit / 8 < 5 || found.alert == SP_ALERT_BAD_RECORD_MAC, suites[s].name);
            SP_CHECK_CASE(memcmp(plain, "top", 3) != 0, suites[s].name);
            SP_CHECK_INT(fresh.read_sequence, 1);
        }
    }
}

static void replay_and_reorder_are_noticed(void)
{
    for (size_t s = 0; s < SUITES; s++) {
        struct sp_tls_record record = make(s);
        struct sp_record_in found;
        uint8_t second[64];
        size_t size = peer_data(s, 1, SP_VIEW_LIT("first"), wire);
        size_t second_size = peer_data(s, 2, SP_VIEW_LIT("second"), second);
        struct sp_tls_record other = record;
        SP_CHECK_INT(sp_record_open(&record, sp_view(wire, size), plain, sizeof(plain), &found),
                     SP_OK);
        SP_CHECK_INT(sp_record_open(&record, sp_view(wire, size), plain, sizeof(plain), &found),
                     SP_ERR_MALFORMED);
        SP_CHECK_INT(found.alert, SP_ALERT_BAD_RECORD_MAC);
        SP_CHECK_INT(
            sp_record_open(&other, sp_view(second, second_size), plain, sizeof(plain), &found),
            SP_ERR_MALFORMED);
        SP_CHECK_INT(found.alert, SP_ALERT_BAD_RECORD_MAC);
    }
}

static void bad_headers_are_refused_before_their_body_is_there(void)
{
    static const struct {
        const char *name;
        uint8_t header[5];
        uint8_t alert;
    } cases[] = {
        {"another type", {99, 3, 3, 0, 40}, SP_ALERT_UNEXPECTED_MESSAGE},
        {"plain HTTP", {'G', 'E', 'T', ' ', '/'}, SP_ALERT_UNEXPECTED_MESSAGE},
        {"TLS 1.0", {23, 3, 1, 0, 40}, SP_ALERT_PROTOCOL_VERSION},
        {"TLS 1.3", {23, 3, 4, 0, 40}, SP_ALERT_PROTOCOL_VERSION},
        {"oversize", {23, 3, 3, 0x40, 25}, SP_ALERT_RECORD_OVERFLOW},
        {"as large as can be", {23, 3, 3, 0xFF, 0xFF}, SP_ALERT_RECORD_OVERFLOW},
        {"empty", {23, 3, 3, 0, 0}, SP_ALERT_BAD_RECORD_MAC},
        {"no room for the tag", {23, 3, 3, 0, 15}, SP_ALERT_BAD_RECORD_MAC},
        {"a bare ChangeCipherSpec", {20, 3, 3, 0, 1}, SP_ALERT_BAD_RECORD_MAC},
    };
    for (size_t s = 0; s < SUITES; s++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            struct sp_tls_record record = make(s);
            struct sp_record_in found;
            SP_CHECK_CASE(sp_record_open(&record, SP_VIEW_ARRAY(cases[i].header), plain,
                                         sizeof(plain), &found) == SP_ERR_MALFORMED,
                          cases[i].name);
            SP_CHECK_CASE(found.alert == cases[i].alert, cases[i].name);
            SP_CHECK_CASE(found.why != NULL, cases[i].name);
        }
    }
}

/* Open one record of a type. */
static enum sp_err open_one(struct sp_tls_record *record, size_t which, uint8_t type,
                            struct sp_view bytes, struct sp_record_in *found)
{
    const struct made made = {type, record->read_sequence, record->read_sequence, bytes};
    size_t size = peer_seal(which, &made, wire);
    return sp_record_open(record, sp_view(wire, size), plain, sizeof(plain), found);
}

static void alerts_are_understood(void)
{
    static const struct {
        const char *name;
        uint8_t bytes[3];
        size_t len;
        enum sp_err err;
        uint8_t alert;
    } cases[] = {
        {"close_notify", {1, 0}, 2, SP_ERR_CLOSED, 0},
        {"close_notify as fatal", {2, 0}, 2, SP_ERR_CLOSED, 0},
        {"fatal", {2, 20}, 2, SP_ERR_CLOSED, 20},
        {"a warning", {1, 90}, 2, SP_OK, 0},
        {"a level of its own", {3, 90}, 2, SP_ERR_MALFORMED, SP_ALERT_ILLEGAL_PARAMETER},
        {"one byte", {1}, 1, SP_ERR_MALFORMED, SP_ALERT_DECODE_ERROR},
        {"empty", {0}, 0, SP_ERR_MALFORMED, SP_ALERT_DECODE_ERROR},
        {"three bytes", {1, 0, 0}, 3, SP_ERR_MALFORMED, SP_ALERT_DECODE_ERROR},
    };
    for (size_t s = 0; s < SUITES; s++) {
        for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
            struct sp_tls_record record = make(s);
            struct sp_record_in found;
            enum sp_err err = open_one(&record, s, SP_RECORD_ALERT,
                                       sp_view(cases[i].bytes, cases[i].len), &found);
            SP_CHECK_CASE(err == cases[i].err, cases[i].name);
            SP_CHECK_CASE(found.alert == cases[i].alert, cases[i].name);
            SP_CHECK_CASE(err != SP_OK || found.len == 0, cases[i].name);
        }
    }
}

static void endless_warnings_and_empty_records_end(void)
{
    static const uint8_t warning[] = {1, 90};
    struct sp_tls_record record = make(1);
    struct sp_record_in found;
    for (unsigned i = 0; i < SP_RECORD_QUIET_MAX; i++) {
        bool alert = i % 2 == 0;
        struct sp_view bytes = alert ? SP_VIEW_ARRAY(warning) : sp_view(warning, 0);
        SP_CHECK_INT(open_one(&record, 1, alert ? SP_RECORD_ALERT : SP_RECORD_DATA, bytes, &found),
                     SP_OK);
    }
    struct sp_tls_record same = record;
    SP_CHECK_INT(open_one(&same, 1, SP_RECORD_DATA, SP_VIEW_LIT("x"), &found), SP_OK);
    SP_CHECK_INT(same.quiet, 0);
    SP_CHECK_INT(open_one(&record, 1, SP_RECORD_ALERT, SP_VIEW_ARRAY(warning), &found),
                 SP_ERR_MALFORMED);
    SP_CHECK_INT(found.alert, SP_ALERT_UNEXPECTED_MESSAGE);
}

static void everything_but_data_and_alerts_is_refused(void)
{
    static const struct {
        uint8_t type;
        uint8_t alert;
    } cases[] = {{20, SP_ALERT_UNEXPECTED_MESSAGE},
                 {22, SP_ALERT_NO_RENEGOTIATION},
                 {24, SP_ALERT_UNEXPECTED_MESSAGE}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_tls_record record = make(0);
        struct sp_record_in found;
        SP_CHECK_INT(open_one(&record, 0, cases[i].type, SP_VIEW_LIT("\1\0\0\0"), &found),
                     SP_ERR_MALFORMED);
        SP_CHECK_INT(found.alert, cases[i].alert);
    }
}

static void sequence_numbers_never_wrap(void)
{
    struct sp_tls_record record = make(0);
    struct sp_record_in found;
    record.read_sequence = UINT64_MAX - 1;
    record.write_sequence = UINT64_MAX - 1;
    SP_CHECK_INT(open_one(&record, 0, SP_RECORD_DATA, SP_VIEW_LIT("last"), &found), SP_OK);
    SP_CHECK_INT(open_one(&record, 0, SP_RECORD_DATA, SP_VIEW_LIT("beyond"), &found),
                 SP_ERR_MALFORMED);
    SP_CHECK_INT(sp_record_seal(&record, SP_RECORD_DATA, SP_VIEW_LIT("last"), wire), SP_OK);
    SP_CHECK_INT(sp_record_seal(&record, SP_RECORD_DATA, SP_VIEW_LIT("x"), wire), SP_ERR_LIMIT);
    SP_CHECK_INT(sp_record_seal_alert(&record, SP_ALERT_CLOSE_NOTIFY, wire), SP_ERR_LIMIT);
}

static void nothing_longer_than_the_peer_takes_is_sealed(void)
{
    fill();
    struct sp_tls_record record = make(0);
    SP_CHECK_INT(sp_record_seal(&record, SP_RECORD_DATA, SP_VIEW_ARRAY(pattern), wire),
                 SP_ERR_ARGUMENT);
    record.send_max = 512;
    SP_CHECK_INT(sp_record_seal(&record, SP_RECORD_DATA, sp_view(pattern, 513), wire),
                 SP_ERR_ARGUMENT);
    SP_CHECK_INT(sp_record_seal(&record, SP_RECORD_DATA, sp_view(pattern, 512), wire), SP_OK);
}

static void our_alerts_have_the_right_level(void)
{
    static const struct {
        enum sp_alert alert;
        enum sp_err err;
        size_t len;
    } cases[] = {{SP_ALERT_CLOSE_NOTIFY, SP_ERR_CLOSED, 0},
                 {SP_ALERT_NO_RENEGOTIATION, SP_OK, 0},
                 {SP_ALERT_BAD_RECORD_MAC, SP_ERR_CLOSED, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_tls_record record = make(2);
        struct sp_record_in found;
        SP_CHECK_INT(sp_record_seal_alert(&record, cases[i].alert, wire), SP_OK);
        SP_CHECK_INT(sp_record_open(&record, sp_view(wire, sp_record_sealed(&record, 2)), plain,
                                    sizeof(plain), &found),
                     cases[i].err);
        SP_CHECK_INT(plain[0], cases[i].alert == SP_ALERT_BAD_RECORD_MAC ? 2 : 1);
        SP_CHECK_INT(plain[1], cases[i].alert);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(records_of_every_size_are_opened),
    SP_TEST(what_we_seal_is_what_a_peer_would_have_made),
    SP_TEST(the_explicit_nonce_is_the_peers_choice),
    SP_TEST(a_record_that_is_not_whole_is_waited_for),
    SP_TEST(every_flipped_bit_is_noticed),
    SP_TEST(replay_and_reorder_are_noticed),
    SP_TEST(bad_headers_are_refused_before_their_body_is_there),
    SP_TEST(alerts_are_understood),
    SP_TEST(endless_warnings_and_empty_records_end),
    SP_TEST(everything_but_data_and_alerts_is_refused),
    SP_TEST(sequence_numbers_never_wrap),
    SP_TEST(nothing_longer_than_the_peer_takes_is_sealed),
    SP_TEST(our_alerts_have_the_right_level),
};

SP_TEST_MAIN(tests)
