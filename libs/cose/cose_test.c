/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/cose/cose.h"

#include "libs/base/test.h"
#include "libs/cbor/cbor.h"

#include <string.h>

#define VECTORS      "tests/vectors/"
#define MESSAGES_MAX 128U

static const struct sp_view none = {NULL, 0};

static struct sp_view from_hex(const char *hex, uint8_t *out, size_t cap)
{
    size_t len = 0;
    SP_CHECK(sp_hex_parse(sp_view_str(hex), out, cap, &len) == SP_OK);
    return sp_view(out, len);
}

static struct sp_view from_file(const char *name, const char *ending, uint8_t *out, size_t cap)
{
    char path[160];
    (void)snprintf(path, sizeof(path), VECTORS "%s%s", name, ending);
    FILE *file = fopen(path, "rb");
    SP_CHECK_CASE(file != NULL, path);
    if (file == NULL) {
        return none;
    }
    size_t len = fread(out, 1, cap, file);
    (void)fclose(file);
    return sp_view(out, len);
}

static struct sp_crypto_key key_of(struct sp_view bytes)
{
    return (struct sp_crypto_key){.bytes = bytes};
}

static void the_working_groups_examples_come_out_right(void)
{
    static const struct {
        const char *name;
        enum sp_cose_algorithm algorithm;
        enum sp_cose_tagging tagging;
        const char *aad;
        enum sp_err decoded;
        enum sp_err verified;
    } cases[] = {
        {"cose-wg/hmac-examples__HMac-enc-01", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK, SP_OK},
        {"cose-wg/hmac-examples__HMac-enc-02", SP_COSE_HMAC384, SP_COSE_TAGGED, "", SP_OK, SP_OK},
        {"cose-wg/hmac-examples__HMac-enc-03", SP_COSE_HMAC512, SP_COSE_TAGGED, "", SP_OK, SP_OK},
        {"cose-wg/hmac-examples__HMac-enc-04", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK,
         SP_ERR_UNTRUSTED},
        {"cose-wg/hmac-examples__HMac-enc-05", (enum sp_cose_algorithm)4, SP_COSE_TAGGED, "", SP_OK,
         SP_ERR_UNSUPPORTED},
        {"cose-wg/mac0-tests__HMac-01", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK, SP_OK},
        {"cose-wg/mac0-tests__mac-pass-01", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK, SP_OK},
        {"cose-wg/mac0-tests__mac-pass-02", SP_COSE_HMAC256, SP_COSE_TAGGED,
         "ff00ee11dd22cc33bb44aa559966", SP_OK, SP_OK},
        {"cose-wg/mac0-tests__mac-pass-02", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK,
         SP_ERR_UNTRUSTED},
        {"cose-wg/mac0-tests__mac-pass-03", SP_COSE_HMAC256, SP_COSE_UNTAGGED, "", SP_OK, SP_OK},
        {"cose-wg/mac0-tests__mac-pass-03", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_ERR_MALFORMED,
         SP_OK},
        {"cose-wg/mac0-tests__mac-pass-01", SP_COSE_HMAC256, SP_COSE_UNTAGGED, "", SP_ERR_MALFORMED,
         SP_OK},
        {"cose-wg/mac0-tests__mac-fail-01", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_ERR_MALFORMED,
         SP_OK},
        {"cose-wg/mac0-tests__mac-fail-02", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK,
         SP_ERR_UNTRUSTED},
        {"cose-wg/mac0-tests__mac-fail-03", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK,
         SP_ERR_UNTRUSTED},
        {"cose-wg/mac0-tests__mac-fail-04", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK,
         SP_ERR_UNTRUSTED},
        {"cose-wg/mac0-tests__mac-fail-06", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK,
         SP_ERR_UNTRUSTED},
        {"cose-wg/mac0-tests__mac-fail-07", SP_COSE_HMAC256, SP_COSE_TAGGED, "", SP_OK,
         SP_ERR_UNTRUSTED},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t input[256];
        uint8_t key_text[160];
        uint8_t key[64];
        uint8_t aad[32];
        size_t key_len = 0;
        struct sp_view hex = from_file(cases[i].name, ".key.hex", key_text, sizeof(key_text));
        hex = sp_view_first(hex, hex.len - hex.len % 2); /* without the newline */
        SP_CHECK(sp_hex_parse(hex, key, sizeof(key), &key_len) == SP_OK);
        struct sp_crypto_key crypto_key = key_of(sp_view(key, key_len));
        struct sp_cose_message message;
        enum sp_err err = sp_cose_mac0_decode(
            from_file(cases[i].name, ".cbor", input, sizeof(input)), cases[i].tagging, &message);
        SP_CHECK_CASE(err == cases[i].decoded, cases[i].name);
        if (err == SP_OK) {
            err = sp_cose_mac0_verify(&message, cases[i].algorithm, &crypto_key,
                                      from_hex(cases[i].aad, aad, sizeof(aad)));
            SP_CHECK_CASE(err == cases[i].verified, cases[i].name);
        }
    }
}

/* RFC 9052, 3.1: the Partial IV, padded on the left, over the Base IV, padded on the right. */
static struct sp_view iv_of(const struct sp_cose_message *message, struct sp_view base,
                            uint8_t iv[SP_COSE_IV_LEN])
{
    struct sp_view partial = message->unprotected_header.partial_iv;
    if (base.len == 0 || partial.len > SP_COSE_IV_LEN) {
        return message->unprotected_header.iv;
    }
    memset(iv, 0, SP_COSE_IV_LEN);
    sp_copy(iv, base.ptr, base.len);
    for (size_t i = 0; i < partial.len; i++) {
        iv[SP_COSE_IV_LEN - partial.len + i] ^= partial.ptr[i];
    }
    return sp_view(iv, SP_COSE_IV_LEN);
}

struct encrypt0_example {
    const char *name;
    enum sp_cose_algorithm algorithm;
    const char *base_iv;
};

static enum sp_err open_example(const struct encrypt0_example *example, struct sp_view input,
                                const struct sp_crypto_key *key)
{
    uint8_t base[SP_COSE_IV_LEN];
    uint8_t iv[SP_COSE_IV_LEN];
    uint8_t plain[64];
    size_t len = 0;
    struct sp_cose_message message;
    SP_TRY(sp_cose_encrypt0_decode(input, SP_COSE_TAGGED, &message));
    const struct sp_cose_encrypt0 how = {
        example->algorithm, *key,
        iv_of(&message, from_hex(example->base_iv, base, sizeof(base)), iv), none};
    SP_TRY(sp_cose_encrypt0_open(&message, &how, plain, sizeof(plain), &len));
    return sp_view_equal(sp_view(plain, len), SP_VIEW_LIT("This is the content."))
               ? SP_OK
               : SP_ERR_PROTOCOL;
}

static void encrypt0_examples_open_and_no_changed_bit_does(void)
{
    static const struct encrypt0_example examples[] = {
        {"cose-encrypt0/rfc9052-c41", SP_COSE_AES_CCM_16_64_128, ""},
        {"cose-encrypt0/rfc9052-c42", SP_COSE_AES_CCM_16_64_128, "89f52f65a1c58093"},
        {"cose-encrypt0/aes-ccm-enc-01", SP_COSE_AES_CCM_16_64_128, ""},
        {"cose-encrypt0/aes-ccm-enc-02", SP_COSE_AES_CCM_16_128_128, ""},
    };
    for (size_t i = 0; i < sizeof(examples) / sizeof(examples[0]); i++) {
        uint8_t input[MESSAGES_MAX];
        uint8_t key_text[64];
        uint8_t key[16];
        size_t key_len = 0;
        struct sp_view hex = from_file(examples[i].name, ".key.hex", key_text, sizeof(key_text));
        struct sp_view message = from_file(examples[i].name, ".cbor", input, sizeof(input));
        SP_CHECK(sp_hex_parse(sp_view_first(hex, hex.len - 1), key, sizeof(key), &key_len) ==
                 SP_OK);
        struct sp_crypto_key crypto_key = key_of(sp_view(key, key_len));
        SP_CHECK_CASE(open_example(&examples[i], message, &crypto_key) == SP_OK, examples[i].name);
        for (size_t bit = 0; bit < 8 * message.len; bit++) {
            input[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            SP_CHECK_CASE(open_example(&examples[i], message, &crypto_key) != SP_OK,
                          examples[i].name);
            input[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
        for (size_t len = 0; len < message.len; len++) {
            SP_CHECK_CASE(open_example(&examples[i], sp_view(input, len), &crypto_key) != SP_OK,
                          examples[i].name);
        }
        key[15] ^= 1;
        SP_CHECK_CASE(open_example(&examples[i], message, &crypto_key) == SP_ERR_UNTRUSTED,
                      examples[i].name);
    }
}

static void hostile_envelopes_are_refused(void)
{
    static const struct {
        const char *hex;
        enum sp_err want;
        const char *name;
    } cases[] = {
        {"", SP_ERR_MALFORMED, "empty"},
        {"D1", SP_ERR_MALFORMED, "only a tag"},
        {"D28443A10105A0410041AA", SP_ERR_MALFORMED, "Sign1"},
        {"D8618443A10105A0410041AA", SP_ERR_MALFORMED, "Mac"},
        {"8443A10105A0410041AA", SP_ERR_MALFORMED, "no tag"},
        {"D1D18443A10105A0410041AA", SP_ERR_MALFORMED, "tagged twice"},
        {"D83DD18443A10105A0410041AA", SP_ERR_MALFORMED, "CWT tag around it"},
        {"D900118443A10105A0410041AA", SP_ERR_MALFORMED, "longer tag than needed"},
        {"D18343A10105A04100", SP_ERR_MALFORMED, "array of 3"},
        {"D18543A10105A0410041AA00", SP_ERR_MALFORMED, "array of 5"},
        {"D1A243A10105A0410041AA", SP_ERR_MALFORMED, "map"},
        {"D19F43A10105A0410041AAFF", SP_ERR_MALFORMED, "indefinite array"},
        {"D1844100A0410041AA", SP_ERR_MALFORMED, "protected header of an integer"},
        {"D18444A1010500A0410041AA", SP_ERR_MALFORMED, "protected header with a trailing byte"},
        {"D18445A201050105A0410041AA", SP_ERR_MALFORMED, "algorithm twice"},
        {"D18445BF0105FF00A0410041AA", SP_ERR_MALFORMED, "indefinite protected map"},
        {"D184A10105A0410041AA", SP_ERR_MALFORMED, "protected header not wrapped"},
        {"D18443A101F6A0410041AA", SP_ERR_MALFORMED, "algorithm null"},
        {"D18443A10105A10105410041AA", SP_ERR_MALFORMED, "algorithm in both headers"},
        {"D18447A2010502811863A0410041AA", SP_ERR_UNSUPPORTED, "crit, unknown label"},
        {"D18446A20105028101A0410041AA", SP_ERR_UNSUPPORTED, "crit, known label"},
        {"D18445A201050280A0410041AA", SP_ERR_UNSUPPORTED, "crit, empty"},
        {"D18443A10105A1028101410041AA", SP_ERR_UNSUPPORTED, "crit, unprotected"},
        {"D18443A10105A1046161410041AA", SP_ERR_MALFORMED, "kid is a text"},
        {"D18443A10105A204416104416141004100", SP_ERR_MALFORMED, "kid twice"},
        {"D18446A201050441 ", SP_ERR_MALFORMED, "cut in a kid"},
        {"D18443A10105A0F641AA", SP_ERR_MALFORMED, "payload detached"},
        {"D18443A10105A0A041AA", SP_ERR_MALFORMED, "payload not wrapped"},
        {"D18443A10105A0410061AA", SP_ERR_MALFORMED, "tag is a text"},
        {"D18443A10105A05F4100FF41AA", SP_ERR_MALFORMED, "payload in chunks"},
        {"D18443A10105A0410041AA00", SP_ERR_MALFORMED, "trailing byte"},
        {"D18443A10105A118638181818181818100410041AA", SP_ERR_LIMIT, "deep in a header"},
        {"D18443A10105B10700080009000A000B000C000D000E000F0010001100120013001400150016001700410041A"
         "A",
         SP_ERR_LIMIT, "17 headers"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        uint8_t input[128];
        size_t len = 0;
        struct sp_view hex = sp_view_str(cases[i].hex);
        SP_CHECK(sp_hex_parse(sp_view_first(hex, hex.len - hex.len % 2), input, sizeof(input),
                              &len) == SP_OK);
        struct sp_cose_message message;
        enum sp_err err = sp_cose_mac0_decode(sp_view(input, len), SP_COSE_TAGGED, &message);
        SP_CHECK_CASE(err == cases[i].want, cases[i].name);
    }
}

static void headers_are_taken_apart(void)
{
    uint8_t input[64];
    struct sp_cose_message message;
    SP_CHECK(sp_cose_mac0_decode(from_hex("D18445A201050641FFA30442616205421122187B00410041AA",
                                          input, sizeof(input)),
                                 SP_COSE_TAGGED, &message) == SP_ERR_MALFORMED);
    SP_CHECK(sp_cose_mac0_decode(from_hex("D18446A201050641FFA30442616205421122187B00410041AA",
                                          input, sizeof(input)),
                                 SP_COSE_TAGGED, &message) == SP_OK);
    SP_CHECK_INT(message.protected_header.seen, SP_COSE_SEEN_ALGORITHM | SP_COSE_SEEN_PARTIAL_IV);
    SP_CHECK_INT(message.unprotected_header.seen,
                 SP_COSE_SEEN_KID | SP_COSE_SEEN_IV | SP_COSE_SEEN_OTHER);
    SP_CHECK(sp_view_equal(message.unprotected_header.kid, SP_VIEW_LIT("ab")));
    SP_CHECK(sp_view_equal(message.unprotected_header.iv, SP_VIEW_LIT("\x11\x22")));
    SP_CHECK(sp_view_equal(message.protected_header.partial_iv, SP_VIEW_LIT("\xFF")));
    SP_CHECK_INT(sp_cose_message_algorithm(&message), 5);
}

static const uint8_t test_key[64] =
    "a key of sixty-four bytes, of which some tests use only a part..";

static void a_mac_is_compared_in_full(void)
{
    struct sp_crypto_key key = key_of(sp_view(test_key, 32));
    uint8_t out[128];
    struct sp_writer w;
    sp_writer_init(&w, out, sizeof(out));
    SP_CHECK(sp_cose_mac0_encode(&w, SP_COSE_HMAC256, &key, none, SP_VIEW_LIT("payload")) == SP_OK);
    struct sp_view whole = sp_writer_view(&w);
    struct sp_cose_message message;
    SP_CHECK(sp_cose_mac0_decode(whole, SP_COSE_TAGGED, &message) == SP_OK);
    SP_CHECK(sp_cose_mac0_verify(&message, SP_COSE_HMAC256, &key, none) == SP_OK);
    struct sp_view tag = message.tag;
    for (size_t len = 0; len < 32; len++) {
        message.tag.len = len;
        SP_CHECK(sp_cose_mac0_verify(&message, SP_COSE_HMAC256, &key, none) == SP_ERR_UNTRUSTED);
    }
    for (size_t bit = 0; bit < 256; bit++) {
        uint8_t changed[32];
        sp_copy(changed, tag.ptr, sizeof(changed));
        changed[bit / 8] = (uint8_t)(changed[bit / 8] ^ (1U << bit % 8));
        message.tag = SP_VIEW_ARRAY(changed);
        SP_CHECK(sp_cose_mac0_verify(&message, SP_COSE_HMAC256, &key, none) == SP_ERR_UNTRUSTED);
    }
}

static void every_algorithm_makes_what_it_accepts(void)
{
    static const enum sp_cose_algorithm algorithms[] = {SP_COSE_HMAC256, SP_COSE_HMAC384,
                                                        SP_COSE_HMAC512};
    struct sp_crypto_key key = key_of(SP_VIEW_ARRAY(test_key));
    struct sp_view aad = SP_VIEW_LIT("outside");
    for (size_t i = 0; i < 3; i++) {
        uint8_t out[128];
        struct sp_writer w;
        sp_writer_init(&w, out, sizeof(out));
        SP_CHECK(sp_cose_mac0_encode(&w, algorithms[i], &key, aad, SP_VIEW_LIT("x")) == SP_OK);
        struct sp_cose_message message;
        SP_CHECK(sp_cose_mac0_decode(sp_writer_view(&w), SP_COSE_TAGGED, &message) == SP_OK);
        for (size_t j = 0; j < 3; j++) {
            enum sp_err want = i == j ? SP_OK : SP_ERR_UNTRUSTED;
            SP_CHECK(sp_cose_mac0_verify(&message, algorithms[j], &key, aad) == want);
            SP_CHECK(sp_cose_mac0_verify(&message, algorithms[j], &key, none) == SP_ERR_UNTRUSTED);
        }
    }
}

/* Unprotected, the MAC does not cover it: only the comparison keeps it honest. */
static void an_unprotected_algorithm_is_held_against_the_expected_one(void)
{
    uint8_t input[128];
    uint8_t key_bytes[64];
    uint8_t key_text[80];
    size_t len = 0;
    struct sp_cose_message message;
    struct sp_view token =
        from_file("cose-wg/mac0-tests__mac-pass-01", ".cbor", input, sizeof(input));
    struct sp_view hex =
        from_file("cose-wg/mac0-tests__mac-pass-01", ".key.hex", key_text, sizeof(key_text));
    SP_CHECK(sp_hex_parse(sp_view_first(hex, 64), key_bytes, sizeof(key_bytes), &len) == SP_OK);
    struct sp_crypto_key key = key_of(sp_view(key_bytes, len));
    SP_CHECK(input[6] == SP_COSE_HMAC256);
    SP_CHECK(sp_cose_mac0_decode(token, SP_COSE_TAGGED, &message) == SP_OK);
    SP_CHECK(sp_cose_mac0_verify(&message, SP_COSE_HMAC256, &key, none) == SP_OK);
    input[6] = 4;
    SP_CHECK(sp_cose_mac0_decode(token, SP_COSE_TAGGED, &message) == SP_OK);
    SP_CHECK(sp_cose_mac0_verify(&message, SP_COSE_HMAC256, &key, none) == SP_ERR_UNTRUSTED);
}

static void a_small_buffer_is_an_error_and_no_overrun(void)
{
    struct sp_crypto_key key = key_of(sp_view(test_key, 32));
    uint8_t out[64];
    for (size_t cap = 0; cap < 7 + 3 + 34; cap++) {
        struct sp_writer w;
        sp_writer_init(&w, out, cap);
        SP_CHECK(sp_cose_mac0_encode(&w, SP_COSE_HMAC256, &key, none, SP_VIEW_LIT("ab")) ==
                 SP_ERR_SPACE);
    }
}

/* RFC 3610, packet vector 1: an 8-byte tag, a 13-byte nonce. */
static void ccm_gives_what_rfc_3610_says(void)
{
    uint8_t key[16];
    uint8_t nonce[13];
    uint8_t aad[8];
    uint8_t plain[23];
    uint8_t want[31];
    uint8_t out[31];
    uint8_t back[23];
    size_t len = 0;
    struct sp_crypto_aead aead = {
        key_of(from_hex("C0C1C2C3C4C5C6C7C8C9CACBCCCDCECF", key, sizeof(key))),
        from_hex("00000003020100A0A1A2A3A4A5", nonce, sizeof(nonce)),
        from_hex("0001020304050607", aad, sizeof(aad)), 8};
    struct sp_view text =
        from_hex("08090A0B0C0D0E0F101112131415161718191A1B1C1D1E", plain, sizeof(plain));
    SP_CHECK(sp_crypto_seal(&aead, text, out, sizeof(out), &len) == SP_OK);
    SP_CHECK(sp_view_equal(
        sp_view(out, len),
        from_hex("588C979A61C663D2F066D0C2C0F989806D5F6B61DAC38417E8D12CFDF926E0", want, 31)));
    SP_CHECK(sp_crypto_open(&aead, SP_VIEW_ARRAY(want), back, sizeof(back), &len) == SP_OK);
    SP_CHECK(sp_view_equal(sp_view(back, len), text));
    SP_CHECK(sp_crypto_seal(&aead, text, out, sizeof(out) - 1, &len) == SP_ERR_SPACE);
    SP_CHECK(sp_crypto_open(&aead, SP_VIEW_ARRAY(want), back, 22, &len) == SP_ERR_SPACE);
    SP_CHECK(sp_crypto_open(&aead, sp_view(want, 7), back, sizeof(back), &len) == SP_ERR_UNTRUSTED);
}

/* RFC 4231, test case 2; FIPS 180-2's "abc": in one part, in three, with an empty one among them. */
static void hashes_and_hmacs_do_not_depend_on_how_they_are_fed(void)
{
    uint8_t out[SP_HASH_MAX];
    uint8_t want[SP_HASH_MAX];
    const struct sp_view whole = SP_VIEW_LIT("abc");
    const struct sp_view parts[] = {SP_VIEW_LIT("a"), {NULL, 0}, SP_VIEW_LIT("bc")};
    from_hex("ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", want, 32);
    SP_CHECK(sp_crypto_hash(SP_SHA256, &whole, 1, out) == SP_OK && memcmp(out, want, 32) == 0);
    SP_CHECK(sp_crypto_hash(SP_SHA256, parts, 3, out) == SP_OK && memcmp(out, want, 32) == 0);
    SP_CHECK(sp_crypto_hash((enum sp_hash)20, parts, 3, out) == SP_ERR_UNSUPPORTED);
    struct sp_crypto_key key = key_of(SP_VIEW_LIT("Jefe"));
    const struct sp_view text = SP_VIEW_LIT("what do ya want for nothing?");
    const struct sp_view halves[] = {SP_VIEW_LIT("what do ya want "), SP_VIEW_LIT("for nothing?")};
    from_hex("af45d2e376484031617f78d2b58a6b1b9c7ef464f5a01b47e42ec3736322445e"
             "8e2240ca5e69e2c78b3239ecfab21649",
             want, 48);
    SP_CHECK(sp_crypto_hmac(SP_SHA384, &key, &text, 1, out) == SP_OK && memcmp(out, want, 48) == 0);
    SP_CHECK(sp_crypto_hmac(SP_SHA384, &key, halves, 2, out) == SP_OK &&
             memcmp(out, want, 48) == 0);
    struct sp_crypto_key numbered = {.id = 7};
    SP_CHECK(sp_crypto_hmac(SP_SHA256, &numbered, &text, 1, out) == SP_ERR_UNSUPPORTED);
}

/* {1: algorithm} protected, {5: IV} unprotected, as a grant has them (docs/protocol.md 6). */
static size_t make_encrypt0(enum sp_cose_algorithm algorithm, const struct sp_cose_encrypt0 *how,
                            uint8_t *out, size_t cap)
{
    uint8_t protected_map[8];
    uint8_t unprotected_map[32];
    struct sp_writer p;
    struct sp_writer u;
    sp_writer_init(&p, protected_map, sizeof(protected_map));
    sp_writer_init(&u, unprotected_map, sizeof(unprotected_map));
    sp_cbor_write_map(&p, 1);
    sp_cbor_write_int(&p, 1);
    sp_cbor_write_int(&p, algorithm);
    sp_cbor_write_map(&u, 1);
    sp_cbor_write_int(&u, 5);
    sp_cbor_write_bytes(&u, how->iv);
    struct sp_cose_headers headers = {sp_writer_view(&p), sp_writer_view(&u)};
    struct sp_writer w;
    sp_writer_init(&w, out, cap);
    SP_CHECK(sp_cose_encrypt0_seal(&w, &headers, how, SP_VIEW_LIT("the plaintext")) == SP_OK);
    return sp_writer_view(&w).len;
}

static void sealed_messages_open_unless_a_bit_changed(void)
{
    static const enum sp_cose_algorithm algorithms[] = {SP_COSE_AES_CCM_16_64_128,
                                                        SP_COSE_AES_CCM_16_128_128};
    for (size_t i = 0; i < 2; i++) {
        struct sp_cose_encrypt0 how = {algorithms[i], key_of(sp_view(test_key, 16)),
                                       SP_VIEW_LIT("thirteenbytes"),
                                       SP_VIEW_LIT("dt/dev1/climate")};
        uint8_t out[96];
        uint8_t back[64];
        size_t len = make_encrypt0(algorithms[i], &how, out, sizeof(out));
        size_t back_len = 0;
        struct sp_cose_message message;
        SP_CHECK(sp_cose_encrypt0_decode(sp_view(out, len), SP_COSE_TAGGED, &message) == SP_OK);
        SP_CHECK(sp_view_equal(message.unprotected_header.iv, how.iv));
        SP_CHECK(sp_cose_encrypt0_open(&message, &how, back, sizeof(back), &back_len) == SP_OK);
        SP_CHECK(sp_view_equal(sp_view(back, back_len), SP_VIEW_LIT("the plaintext")));
        for (size_t bit = 0; bit < 8 * len; bit++) {
            out[bit / 8] = (uint8_t)(out[bit / 8] ^ (1U << bit % 8));
            enum sp_err err = sp_cose_encrypt0_decode(sp_view(out, len), SP_COSE_TAGGED, &message);
            if (err == SP_OK) {
                how.iv = message.unprotected_header.iv;
                err = sp_cose_encrypt0_open(&message, &how, back, sizeof(back), &back_len);
            }
            SP_CHECK(err != SP_OK);
            out[bit / 8] = (uint8_t)(out[bit / 8] ^ (1U << bit % 8));
        }
    }
}

static void sealed_messages_are_bound_to_their_context(void)
{
    struct sp_cose_encrypt0 how = {SP_COSE_AES_CCM_16_128_128, key_of(sp_view(test_key, 16)),
                                   SP_VIEW_LIT("thirteenbytes"), SP_VIEW_LIT("dt/dev1/climate")};
    uint8_t out[96];
    uint8_t back[64];
    size_t back_len = 0;
    struct sp_cose_message message;
    size_t len = make_encrypt0(how.algorithm, &how, out, sizeof(out));
    SP_CHECK(sp_cose_encrypt0_decode(sp_view(out, len), SP_COSE_TAGGED, &message) == SP_OK);
    struct sp_cose_encrypt0 other = how;
    other.external_aad = SP_VIEW_LIT("dt/dev2/climate");
    SP_CHECK(sp_cose_encrypt0_open(&message, &other, back, sizeof(back), &back_len) ==
             SP_ERR_UNTRUSTED);
    other = how;
    other.algorithm = SP_COSE_AES_CCM_16_64_128;
    SP_CHECK(sp_cose_encrypt0_open(&message, &other, back, sizeof(back), &back_len) ==
             SP_ERR_UNTRUSTED);
    other = how;
    other.algorithm = SP_COSE_HMAC256;
    SP_CHECK(sp_cose_encrypt0_open(&message, &other, back, sizeof(back), &back_len) ==
             SP_ERR_UNSUPPORTED);
    other = how;
    other.iv.len = 12;
    SP_CHECK(sp_cose_encrypt0_open(&message, &other, back, sizeof(back), &back_len) ==
             SP_ERR_MALFORMED);
    static uint8_t long_topic[SP_COSE_AAD_MAX + 1];
    other = how;
    other.external_aad = SP_VIEW_ARRAY(long_topic);
    SP_CHECK(sp_cose_encrypt0_open(&message, &other, back, sizeof(back), &back_len) ==
             SP_ERR_LIMIT);
}

static const struct sp_test tests[] = {
    SP_TEST(the_working_groups_examples_come_out_right),
    SP_TEST(encrypt0_examples_open_and_no_changed_bit_does),
    SP_TEST(hostile_envelopes_are_refused),
    SP_TEST(headers_are_taken_apart),
    SP_TEST(a_mac_is_compared_in_full),
    SP_TEST(every_algorithm_makes_what_it_accepts),
    SP_TEST(an_unprotected_algorithm_is_held_against_the_expected_one),
    SP_TEST(a_small_buffer_is_an_error_and_no_overrun),
    SP_TEST(ccm_gives_what_rfc_3610_says),
    SP_TEST(hashes_and_hmacs_do_not_depend_on_how_they_are_fed),
    SP_TEST(sealed_messages_open_unless_a_bit_changed),
    SP_TEST(sealed_messages_are_bound_to_their_context),
};

SP_TEST_MAIN(tests)
