/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Every check of docs/protocol.md 3.4 has cases here in which nothing else is wrong: a good token is taken
 * apart, one thing is changed, and the MAC is computed anew.
 */
#include "libs/attest/attest.h"

#include "libs/base/test.h"
#include "libs/cbor/cbor.h"
#include "libs/cose/cose.h"

#include <string.h>

#define PAIRS_MAX 80U

static const uint8_t iak[64] = "not a development key, and as long as the longest hash there is.";
static const uint8_t challenge[64] =
    "thirty-two bytes from a gateway, and thirty-two more after them.";
static const uint8_t implementation[32] = "implementation id of a test.....";
static const uint8_t measurement[64] =
    "measurement of the firmware that the tests know as a good one...";
static const uint8_t signer[64] =
    "the one who signed the firmware, whose key this is the hash of..";
static const uint8_t other[64] = "sixty-four bytes that are none of the values that others have...";
static uint8_t ueid[SP_ATTEST_UEID_LEN];

static const enum sp_attest_profile profiles[] = {
    SP_ATTEST_PROFILE_IOT_1, SP_ATTEST_PROFILE_PSA_2_0_0, SP_ATTEST_PROFILE_RFC9783};

static const struct sp_view none = {NULL, 0};
static const struct sp_crypto_key key = {.bytes = {iak, 32}};

/* ---- a good token and the policy it satisfies ---- */

static struct sp_attest_claims good_claims(enum sp_attest_profile profile)
{
    SP_CHECK(sp_attest_ueid(key.bytes, ueid) == SP_OK);
    return (struct sp_attest_claims){.profile = profile,
                                     .nonce = sp_view(challenge, 32),
                                     .instance_id = SP_VIEW_ARRAY(ueid),
                                     .implementation_id = SP_VIEW_ARRAY(implementation),
                                     .boot_seed = sp_view(other, 32),
                                     .client_id = -1006632960,
                                     .lifecycle = 0x3000,
                                     .component_count = 2,
                                     .components = {{.type = SP_VIEW_LIT("SPE"),
                                                     .value = sp_view(measurement, 32),
                                                     .signer_id = sp_view(signer, 32),
                                                     .version = SP_VIEW_LIT("1.2.3"),
                                                     .description = SP_VIEW_LIT("SHA256")},
                                                    {.type = SP_VIEW_LIT("NSPE"),
                                                     .value = sp_view(measurement, 48),
                                                     .signer_id = sp_view(signer, 32),
                                                     .version = SP_VIEW_LIT("4")}}};
}

static const struct sp_attest_reference_component reference_components[] = {
    {SP_VIEW_INIT("SPE"), {measurement, 32}, {signer, 32}, SP_VIEW_INIT("1.2.3")},
    {SP_VIEW_INIT("NSPE"), {measurement, 48}, {NULL, 0}, {NULL, 0}},
};

static const struct sp_attest_reference reference = {
    {implementation, sizeof(implementation)}, reference_components, 2};

static struct sp_attest_policy good_policy(void)
{
    SP_CHECK(sp_attest_ueid(key.bytes, ueid) == SP_OK);
    return (struct sp_attest_policy){
        .key = key,
        .algorithm = SP_ATTEST_HMAC256,
        .challenge = sp_view(challenge, 32),
        .instance_id = SP_VIEW_ARRAY(ueid),
        .lifecycles = SP_ATTEST_LIFECYCLE_SECURED,
        .references = &reference,
        .reference_count = 1,
    };
}

static struct sp_view make_token(const struct sp_attest_claims *claims)
{
    static uint8_t token[1024];
    size_t len = 0;
    SP_CHECK(sp_attest_encode(claims, SP_ATTEST_HMAC256, &key, token, sizeof(token), &len) ==
             SP_OK);
    return sp_view(token, len);
}

static enum sp_attest_check verdict_of(struct sp_view token, const struct sp_attest_policy *policy)
{
    struct sp_attest_verdict verdict;
    sp_attest_appraise(token, policy, NULL, &verdict);
    SP_CHECK(memchr(verdict.detail, '\0', sizeof(verdict.detail)) != NULL);
    SP_CHECK((verdict.check == SP_ATTEST_OK) == (verdict.detail[0] == '\0'));
    return verdict.check;
}

static enum sp_attest_check verdict_on(const struct sp_attest_claims *claims)
{
    struct sp_attest_policy policy = good_policy();
    return verdict_of(make_token(claims), &policy);
}

/* ---- surgery ---- */

/* A token in pieces: the payload's pairs as encoded bytes. */
struct pieces {
    size_t count;
    struct sp_view labels[PAIRS_MAX];
    struct sp_view values[PAIRS_MAX];
};

static void take_apart(struct sp_view token, struct pieces *out)
{
    struct sp_cose_message message;
    struct sp_cbor_reader r;
    SP_CHECK(sp_cose_mac0_decode(token, SP_COSE_TAGGED, &message) == SP_OK);
    sp_cbor_reader_init(&r, message.content, true);
    out->count = sp_cbor_read_map(&r);
    for (size_t i = 0; i < out->count; i++) {
        out->labels[i] = sp_cbor_skip(&r, SP_CBOR_DEPTH_MAX);
        out->values[i] = sp_cbor_skip(&r, SP_CBOR_DEPTH_MAX);
    }
    SP_CHECK(sp_cbor_finish(&r) == SP_OK);
}

static struct sp_view seal(struct sp_view payload)
{
    static uint8_t token[8192];
    struct sp_writer w;
    sp_writer_init(&w, token, sizeof(token));
    SP_CHECK(sp_cose_mac0_encode(&w, SP_COSE_HMAC256, &key, none, payload) == SP_OK);
    return sp_writer_view(&w);
}

static struct sp_view put_together(const struct pieces *pieces)
{
    static uint8_t payload[8000];
    struct sp_writer w;
    sp_writer_init(&w, payload, sizeof(payload));
    sp_cbor_write_map(&w, pieces->count);
    for (size_t i = 0; i < pieces->count; i++) {
        sp_write_view(&w, pieces->labels[i]);
        sp_write_view(&w, pieces->values[i]);
    }
    SP_CHECK(w.err == SP_OK);
    return seal(sp_writer_view(&w));
}

/* Bytes from a text of hex digits, spaces between them; `*N`: the byte before N times. They last for 16 calls. */
static struct sp_view bytes_of(const char *text)
{
    static uint8_t room[16][1024];
    static unsigned turn;
    uint8_t *out = room[turn++ % 16];
    size_t used = 0;
    while (*text != '\0') {
        size_t len = 0;
        if (*text == ' ') {
            text++;
        } else if (*text == '*') {
            unsigned times = 0;
            for (text++; *text >= '0' && *text <= '9'; text++) {
                times = times * 10 + (unsigned)(*text - '0');
            }
            memset(out + used, out[used - 1], times - 1);
            used += times - 1;
        } else {
            SP_CHECK_CASE(sp_hex_parse(sp_view(text, 2), out + used, 1, &len) == SP_OK, text);
            used++;
            text += 2;
        }
    }
    return sp_view(out, used);
}

static void put(struct pieces *pieces, const char *label, const char *value)
{
    struct sp_view name = bytes_of(label);
    for (size_t i = 0; i < pieces->count; i++) {
        if (sp_view_equal(pieces->labels[i], name)) {
            pieces->values[i] = bytes_of(value);
            return;
        }
    }
    pieces->labels[pieces->count] = name;
    pieces->values[pieces->count++] = bytes_of(value);
}

static void drop(struct pieces *pieces, const char *label)
{
    struct sp_view name = bytes_of(label);
    for (size_t i = 0; i < pieces->count; i++) {
        if (sp_view_equal(pieces->labels[i], name)) {
            pieces->count--;
            pieces->labels[i] = pieces->labels[pieces->count];
            pieces->values[i] = pieces->values[pieces->count];
            return;
        }
    }
    SP_CHECK_CASE(false, label);
}

/* Labels as encoded: those of PSA_IOT_PROFILE_1 … */
#define OLD_PROFILE        "3A000124F7"
#define OLD_CLIENT_ID      "3A000124F8"
#define OLD_LIFECYCLE      "3A000124F9"
#define OLD_IMPLEMENTATION "3A000124FA"
#define OLD_BOOT_SEED      "3A000124FB"
#define OLD_CERTIFICATION  "3A000124FC"
#define OLD_COMPONENTS     "3A000124FD"
#define OLD_NO_SOFTWARE    "3A000124FE"
#define OLD_NONCE          "3A000124FF"
#define OLD_INSTANCE       "3A00012500"
#define OLD_SERVICE        "3A00012501"
/* … and of the others. */
#define NONCE          "0A"
#define INSTANCE       "190100"
#define PROFILE        "190109"
#define BOOT_SEED      "19010C"
#define CLIENT_ID      "19095A"
#define LIFECYCLE      "19095B"
#define IMPLEMENTATION "19095C"
#define BOOT_SEED_2397 "19095D"
#define CERTIFICATION  "19095E"
#define COMPONENTS     "19095F"
#define SERVICE        "190960"

#define IOT1    SP_ATTEST_PROFILE_IOT_1
#define PSA2    SP_ATTEST_PROFILE_PSA_2_0_0
#define RFC     SP_ATTEST_PROFILE_RFC9783
#define BYTES32 "5820 00*32 "

/* One change to the claims of a good token; value NULL: taken out. */
struct change {
    enum sp_attest_profile profile;
    const char *label;
    const char *value;
    enum sp_attest_check want;
    const char *name;
};

static void check_changes(const struct change *changes, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const struct change *change = &changes[i];
        struct sp_attest_claims claims = good_claims(change->profile);
        struct sp_attest_policy policy = good_policy();
        struct pieces pieces;
        take_apart(make_token(&claims), &pieces);
        SP_CHECK(verdict_of(put_together(&pieces), &policy) == SP_ATTEST_OK);
        if (change->value == NULL) {
            drop(&pieces, change->label);
        } else {
            put(&pieces, change->label, change->value);
        }
        enum sp_attest_check have = verdict_of(put_together(&pieces), &policy);
        if (have != change->want) {
            printf("verdict is %s\n", sp_attest_check_name(have));
        }
        SP_CHECK_CASE(have == change->want, change->name);
    }
}

#define CHECK_CHANGES(changes) check_changes((changes), sizeof(changes) / sizeof((changes)[0]))

/* ---- tests ---- */

static void good_tokens_of_all_profiles_and_algorithms_are_accepted(void)
{
    static const enum sp_attest_algorithm algorithms[] = {SP_ATTEST_HMAC256, SP_ATTEST_HMAC384,
                                                          SP_ATTEST_HMAC512};
    for (size_t i = 0; i < 3; i++) {
        for (size_t j = 0; j < 3; j++) {
            struct sp_attest_claims claims = good_claims(profiles[i]);
            struct sp_attest_claims read;
            struct sp_attest_policy policy = good_policy();
            struct sp_attest_verdict verdict;
            uint8_t token[600];
            size_t len = 0;
            policy.algorithm = algorithms[j];
            SP_CHECK(sp_attest_encode(&claims, algorithms[j], &key, token, sizeof(token), &len) ==
                     SP_OK);
            sp_attest_appraise(sp_view(token, len), &policy, &read, &verdict);
            SP_CHECK_INT(verdict.check, SP_ATTEST_OK);
            SP_CHECK_INT(read.profile, profiles[i]);
            SP_CHECK(sp_view_equal(read.boot_seed, claims.boot_seed));
            SP_CHECK(read.client_id == claims.client_id && read.lifecycle == claims.lifecycle);
            SP_CHECK(read.component_count == 2);
            SP_CHECK(sp_view_equal(read.components[0].description, SP_VIEW_LIT("SHA256")));
            SP_CHECK(sp_view_equal(read.components[1].version, SP_VIEW_LIT("4")));
        }
    }
}

static void every_flipped_bit_is_noticed(void)
{
    for (size_t i = 0; i < 3; i++) {
        struct sp_attest_claims claims = good_claims(profiles[i]);
        struct sp_attest_policy policy = good_policy();
        uint8_t token[600];
        struct sp_view good = make_token(&claims);
        sp_copy(token, good.ptr, good.len);
        for (size_t bit = 0; bit < 8 * good.len; bit++) {
            token[bit / 8] = (uint8_t)(token[bit / 8] ^ (1U << bit % 8));
            SP_CHECK(verdict_of(sp_view(token, good.len), &policy) != SP_ATTEST_OK);
            token[bit / 8] = (uint8_t)(token[bit / 8] ^ (1U << bit % 8));
        }
        SP_CHECK(verdict_of(sp_view(token, good.len), &policy) == SP_ATTEST_OK);
    }
}

static void size_is_one_to_4096_bytes(void)
{
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    struct pieces pieces;
    SP_CHECK_INT(verdict_of(none, &policy), SP_ATTEST_SIZE);
    take_apart(make_token(&claims), &pieces);
    size_t base = put_together(&pieces).len;
    /* Two unknown claims, 19 FF00 and 19 FF01, of 59 hhhh bytes fill the token up. */
    static uint8_t filling[4096];
    for (size_t total = 4096; total <= 4097; total++) {
        struct pieces more = pieces;
        struct sp_writer w;
        size_t fill = total - base - 6; /* label and head of the new claim */
        sp_writer_init(&w, filling, sizeof(filling));
        sp_cbor_write_bytes_head(&w, fill);
        (void)sp_write_reserve(&w, fill);
        more.labels[more.count] = bytes_of("19FF00");
        more.values[more.count++] = sp_writer_view(&w);
        struct sp_view token = put_together(&more);
        SP_CHECK_INT(token.len, total);
        SP_CHECK_INT(verdict_of(token, &policy), total <= 4096 ? SP_ATTEST_OK : SP_ATTEST_SIZE);
    }
}

static void every_prefix_and_a_trailing_byte_are_refused(void)
{
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    uint8_t token[600] = {0};
    struct sp_view good = make_token(&claims);
    sp_copy(token, good.ptr, good.len);
    for (size_t len = 1; len < good.len; len++) {
        SP_CHECK_INT(verdict_of(sp_view(token, len), &policy), SP_ATTEST_FORM);
    }
    SP_CHECK_INT(verdict_of(sp_view(token, good.len + 1), &policy), SP_ATTEST_FORM);
}

/* A token with headers of our choice, and a tag that is right for them. */
static struct sp_view with_headers(const char *start, const char *protected_bytes,
                                   const char *unprotected)
{
    static uint8_t token[2048];
    struct sp_attest_claims claims = good_claims(RFC);
    struct sp_cose_message message;
    SP_CHECK(sp_cose_mac0_decode(make_token(&claims), SP_COSE_TAGGED, &message) == SP_OK);
    uint8_t structure[1024];
    uint8_t tag[SP_HASH_MAX];
    struct sp_writer s;
    struct sp_view header = bytes_of(protected_bytes);
    sp_writer_init(&s, structure, sizeof(structure));
    sp_cbor_write_array(&s, 4);
    sp_cbor_write_text(&s, SP_VIEW_LIT("MAC0"));
    sp_cbor_write_bytes(&s, header);
    sp_cbor_write_bytes(&s, none);
    sp_cbor_write_bytes(&s, message.content);
    struct sp_view whole = sp_writer_view(&s);
    SP_CHECK(sp_crypto_hmac(SP_SHA256, &key, &whole, 1, tag) == SP_OK);
    struct sp_writer w;
    sp_writer_init(&w, token, sizeof(token));
    sp_write_view(&w, bytes_of(start));
    sp_cbor_write_bytes(&w, header);
    sp_write_view(&w, bytes_of(unprotected));
    sp_cbor_write_bytes(&w, message.content);
    sp_cbor_write_bytes(&w, sp_view(tag, 32));
    return sp_writer_view(&w);
}

static void the_envelope_has_one_form(void)
{
    static const struct {
        const char *start;
        const char *protected_bytes;
        const char *unprotected;
        enum sp_attest_check want;
        const char *name;
    } cases[] = {
        {"D184", "A10105", "A0", SP_ATTEST_OK, "as it should be"},
        {"D184", "A10105", "A104 43010203", SP_ATTEST_OK, "any kid is ignored"},
        {"D184", "A10105", "A104 40", SP_ATTEST_OK, "an empty kid is ignored"},
        {"D184", "A10105", "A2 1863 00 04 40", SP_ATTEST_OK, "an unknown unprotected label"},
        {"D184", "A1011805", "A0", SP_ATTEST_OK, "longer integers than needed are tolerated"},
        {"84", "A10105", "A0", SP_ATTEST_FORM, "no tag"},
        {"D284", "A10105", "A0", SP_ATTEST_FORM, "Sign1's tag"},
        {"D86184", "A10105", "A0", SP_ATTEST_FORM, "Mac's tag"},
        {"D83DD184", "A10105", "A0", SP_ATTEST_FORM, "CWT's tag around it"},
        {"D1D184", "A10105", "A0", SP_ATTEST_FORM, "tagged twice"},
        {"D9001184", "A10105", "A0", SP_ATTEST_FORM, "the tag in three bytes"},
        {"D183", "A10105", "A0", SP_ATTEST_FORM, "array of 3"},
        {"D185", "A10105", "A0", SP_ATTEST_FORM, "array of 5"},
        {"D19F", "A10105", "A0", SP_ATTEST_FORM, "indefinite array"},
        {"D184", "", "A0", SP_ATTEST_FORM, "no protected header"},
        {"D184", "A0", "A0", SP_ATTEST_FORM, "an empty protected header"},
        {"D184", "", "A10105", SP_ATTEST_FORM, "algorithm only unprotected"},
        {"D184", "A10105", "A10105", SP_ATTEST_FORM, "algorithm in both"},
        {"D184", "A201050105", "A0", SP_ATTEST_FORM, "algorithm twice"},
        {"D184", "A2010504420102", "A0", SP_ATTEST_FORM, "kid protected"},
        {"D184", "A201051863F5", "A0", SP_ATTEST_FORM, "an unknown protected label"},
        {"D184", "A2010502811863", "A0", SP_ATTEST_FORM, "crit"},
        {"D184", "A20105028101", "A0", SP_ATTEST_FORM, "crit, of what is understood"},
        {"D184", "A10105", "A1028101", SP_ATTEST_FORM, "crit, unprotected"},
        {"D184", "A1010500", "A0", SP_ATTEST_FORM, "a byte behind the protected header"},
        {"D184", "BF0105FF", "A0", SP_ATTEST_FORM, "indefinite protected header"},
        {"D184", "05", "A0", SP_ATTEST_FORM, "a protected header that is no map"},
        {"D184", "A10105", "A1046161", SP_ATTEST_FORM, "kid is a text"},
        {"D184", "A10105", "A204400440", SP_ATTEST_FORM, "kid twice"},
        {"D184", "A10105", "BFFF", SP_ATTEST_FORM, "indefinite unprotected header"},
        {"D184", "A10105", "A11863 818181818181818100", SP_ATTEST_FORM, "deep in a header"},
        {"D184", "A101F6", "A0", SP_ATTEST_FORM, "algorithm null"},
        {"D184", "A1016548533235 36", "A0", SP_ATTEST_ALGORITHM, "algorithm a text"},
        {"D184", "A10104", "A0", SP_ATTEST_ALGORITHM, "HMAC 256/64"},
        {"D184", "A10106", "A0", SP_ATTEST_ALGORITHM, "HMAC 384"},
        {"D184", "A10107", "A0", SP_ATTEST_ALGORITHM, "HMAC 512"},
        {"D184", "A10126", "A0", SP_ATTEST_ALGORITHM, "ES256"},
        {"D184", "A10100", "A0", SP_ATTEST_ALGORITHM, "reserved 0"},
    };
    struct sp_attest_policy policy = good_policy();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_view token =
            with_headers(cases[i].start, cases[i].protected_bytes, cases[i].unprotected);
        SP_CHECK_CASE(verdict_of(token, &policy) == cases[i].want, cases[i].name);
    }
}

static void a_detached_payload_has_not_the_form(void)
{
    struct sp_attest_policy policy = good_policy();
    SP_CHECK_INT(verdict_of(bytes_of("D184 43A10105 A0 F6 5820 00*32"), &policy), SP_ATTEST_FORM);
    SP_CHECK_INT(verdict_of(bytes_of("D184 43A10105 A0 A0 5820 00*32"), &policy), SP_ATTEST_FORM);
    SP_CHECK_INT(verdict_of(bytes_of("D184 43A10105 A0 5F41A0FF 5820 00*32"), &policy),
                 SP_ATTEST_FORM);
}

static void the_payload_is_one_well_formed_map(void)
{
    static const struct {
        const char *payload;
        const char *name;
    } cases[] = {
        {"", "empty"},
        {"80", "array"},
        {"00", "number"},
        {"A0 00", "trailing byte"},
        {"A0 A0", "two maps"},
        {"BF FF", "indefinite map"},
        {"A1 01", "cut off"},
        {"A1 01 5F4100FF", "chunked bytes"},
        {"A1 01 7F6161FF", "chunked text"},
        {"A1 01 9F00FF", "indefinite array"},
        {"A1 01 1C", "reserved head"},
        {"A1 01 F800", "simple value 0 in two bytes"},
        {"A1 01 61FF", "text that is not UTF-8"},
        {"A1 01 5BFFFFFFFFFFFFFFFF", "bytes beyond all bounds"},
        {"A1 01 81*8 00", "nine levels"},
        {"A1 01 C1*400 00", "four hundred tags"},
        {"D9D9F7 A0", "tagged map"},
    };
    struct sp_attest_policy policy = good_policy();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(verdict_of(seal(bytes_of(cases[i].payload)), &policy) == SP_ATTEST_FORM,
                      cases[i].name);
    }
}

static void the_tag_has_its_full_length(void)
{
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    uint8_t token[600] = {0};
    struct sp_view good = make_token(&claims);
    size_t start = good.len - 34; /* 58 20, then the tag */
    for (unsigned len = 0; len <= 64; len++) {
        sp_copy(token, good.ptr, good.len);
        struct sp_writer w;
        sp_writer_init(&w, token, sizeof(token));
        (void)sp_write_reserve(&w, start);
        sp_cbor_write_bytes_head(&w, len);
        for (unsigned i = 0; i < len; i++) {
            sp_write_u8(&w, i < 32 ? good.ptr[start + 2 + i] : 0);
        }
        enum sp_attest_check want = len == 32 ? SP_ATTEST_OK : SP_ATTEST_ALGORITHM;
        SP_CHECK_INT(verdict_of(sp_writer_view(&w), &policy), want);
    }
}

static void the_algorithm_is_the_one_pinned(void)
{
    struct sp_attest_claims claims = good_claims(RFC);
    struct sp_attest_policy policy = good_policy();
    struct sp_view token = make_token(&claims);
    policy.algorithm = SP_ATTEST_HMAC384;
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_ALGORITHM);
    policy.algorithm = SP_ATTEST_HMAC512;
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_ALGORITHM);
    policy.algorithm = (enum sp_attest_algorithm)4; /* not even pinning makes another one good */
    SP_CHECK_INT(verdict_of(bytes_of("D184 43A10104 A0 40 40"), &policy), SP_ATTEST_ALGORITHM);
}

static void development_keys_are_refused_whatever_they_sign(void)
{
    static const char *const keys[] = {
        "a9b454b26d6f90a4ea31193564cba91fec6f9a002a7dc0504b92a1937134585f",
        ("de038b34aca125768c5e3357ab8d06b367b9ab0d7e8be124edca47fe033a5bb7"
         "a93d307ff229aa36ff246c1295964facf71ab7aa6ec4fd6102b7b3983255ad92"),
        "849b57219dae48de646d07dbb533566e976686457c1491be3a76dcea6c427188",
        "00*16",
        "00*32",
        "00*48",
        "00*64",
        "ff*16",
        "ff*32",
        "ff*48",
        "ff*64",
    };
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        struct sp_attest_claims claims = good_claims(RFC);
        struct sp_attest_policy policy = good_policy();
        uint8_t token[600];
        size_t len = 0;
        policy.key.bytes = bytes_of(keys[i]);
        SP_CHECK(sp_attest_encode(&claims, SP_ATTEST_HMAC256, &policy.key, token, sizeof(token),
                                  &len) == SP_OK);
        SP_CHECK_CASE(sp_attest_development_key(policy.key.bytes), keys[i]);
        SP_CHECK_CASE(verdict_of(sp_view(token, len), &policy) == SP_ATTEST_KEY, keys[i]);
        policy.allow_development_key = true;
        SP_CHECK_CASE(verdict_of(sp_view(token, len), &policy) == SP_ATTEST_OK, keys[i]);
    }
    SP_CHECK(!sp_attest_development_key(key.bytes));
    SP_CHECK(!sp_attest_development_key(bytes_of("00*31")));
}

static void behind_a_wrong_mac_nothing_is_looked_at(void)
{
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    struct sp_attest_claims read;
    struct sp_attest_verdict verdict;
    uint8_t token[600];
    memset(&read, 0xA5, sizeof(read));
    struct sp_attest_claims before = read;
    struct sp_view good = make_token(&claims);
    sp_copy(token, good.ptr, good.len);
    token[good.len - 1] ^= 1;
    sp_attest_appraise(sp_view(token, good.len), &policy, &read, &verdict);
    SP_CHECK_INT(verdict.check, SP_ATTEST_MAC);
    SP_CHECK(memcmp(&read, &before, sizeof(read)) == 0);
    /* Another key, a right tag over other claims, TF-M's unkeyed test mode, garbage as claims. */
    policy.key.bytes = sp_view(iak, 33);
    SP_CHECK_INT(verdict_of(good, &policy), SP_ATTEST_MAC);
    policy = good_policy();
    claims.lifecycle = 0x30FF;
    struct sp_view second = make_token(&claims);
    sp_copy(token + good.len - 32, second.ptr + second.len - 32, 32);
    SP_CHECK_INT(verdict_of(sp_view(token, good.len), &policy), SP_ATTEST_MAC);
    SP_CHECK_INT(verdict_of(bytes_of("D184 43A10105 A0 43 5F5F5F 5820 00*32"), &policy),
                 SP_ATTEST_MAC);
    SP_CHECK_INT(verdict_of(bytes_of("D184 43A10105 A0 40 5820 00*32"), &policy), SP_ATTEST_MAC);
    policy.key = (struct sp_crypto_key){.bytes = none};
    SP_CHECK_INT(verdict_of(second, &policy), SP_ATTEST_MAC);
}

static void no_claim_may_be_missing(void)
{
    static const struct change changes[] = {
        {IOT1, OLD_NONCE, NULL, SP_ATTEST_CLAIMS, "nonce"},
        {IOT1, OLD_BOOT_SEED, NULL, SP_ATTEST_CLAIMS, "boot seed, old"},
        {IOT1, OLD_INSTANCE, NULL, SP_ATTEST_CLAIMS, "instance id"},
        {IOT1, OLD_IMPLEMENTATION, NULL, SP_ATTEST_CLAIMS, "implementation id"},
        {IOT1, OLD_CLIENT_ID, NULL, SP_ATTEST_CLAIMS, "client id"},
        {IOT1, OLD_LIFECYCLE, NULL, SP_ATTEST_CLAIMS, "lifecycle"},
        {IOT1, OLD_COMPONENTS, NULL, SP_ATTEST_CLAIMS, "components"},
        {IOT1, OLD_PROFILE, NULL, SP_ATTEST_OK, "profile, which old tokens need not have"},
        {RFC, NONCE, NULL, SP_ATTEST_CLAIMS, "nonce"},
        {RFC, BOOT_SEED, NULL, SP_ATTEST_OK, "boot seed, which RFC 9783 made optional"},
        {RFC, INSTANCE, NULL, SP_ATTEST_CLAIMS, "instance id"},
        {RFC, IMPLEMENTATION, NULL, SP_ATTEST_CLAIMS, "implementation id"},
        {RFC, CLIENT_ID, NULL, SP_ATTEST_CLAIMS, "client id"},
        {RFC, LIFECYCLE, NULL, SP_ATTEST_CLAIMS, "lifecycle"},
        {RFC, COMPONENTS, NULL, SP_ATTEST_CLAIMS, "components"},
        {RFC, PROFILE, NULL, SP_ATTEST_CLAIMS, "profile"},
        {PSA2, PROFILE, NULL, SP_ATTEST_CLAIMS, "profile"},
        {PSA2, COMPONENTS, NULL, SP_ATTEST_CLAIMS, "components"},
        {PSA2, BOOT_SEED_2397, NULL, SP_ATTEST_OK, "boot seed"},
    };
    CHECK_CHANGES(changes);
}

static void claims_have_the_right_type_and_size(void)
{
    static const struct change changes[] = {
        {RFC, NONCE, "40", SP_ATTEST_CLAIMS, "nonce of 0"},
        {RFC, NONCE, "50 00*16", SP_ATTEST_CLAIMS, "nonce of 16"},
        {RFC, NONCE, "581F 00*31", SP_ATTEST_CLAIMS, "nonce of 31"},
        {RFC, NONCE, "5821 00*33", SP_ATTEST_CLAIMS, "nonce of 33"},
        {RFC, NONCE, "5850 00*80", SP_ATTEST_CLAIMS, "nonce of 80"},
        {RFC, NONCE, "7820 61*32", SP_ATTEST_CLAIMS, "nonce as text"},
        {RFC, NONCE, "82 5820 00*32 5820 00*32", SP_ATTEST_CLAIMS, "array of nonces"},
        {RFC, NONCE, "F6", SP_ATTEST_CLAIMS, "nonce null"},
        {RFC, NONCE, "C1 5820 00*32", SP_ATTEST_CLAIMS, "nonce tagged"},
        {RFC, INSTANCE, "5820 01*32", SP_ATTEST_CLAIMS, "instance id of 32"},
        {RFC, INSTANCE, "5822 01*34", SP_ATTEST_CLAIMS, "instance id of 34"},
        {RFC, INSTANCE, "5821 02*33", SP_ATTEST_CLAIMS, "instance id that begins with 2"},
        {RFC, IMPLEMENTATION, "581F 00*31", SP_ATTEST_CLAIMS, "implementation id of 31"},
        {RFC, IMPLEMENTATION, "5821 00*33", SP_ATTEST_CLAIMS, "implementation id of 33"},
        {RFC, BOOT_SEED, "47 00*7", SP_ATTEST_CLAIMS, "boot seed of 7"},
        {RFC, BOOT_SEED, "48 00*8", SP_ATTEST_OK, "boot seed of 8"},
        {RFC, BOOT_SEED, "5821 00*33", SP_ATTEST_CLAIMS, "boot seed of 33"},
        {IOT1, OLD_BOOT_SEED, "48 00*8", SP_ATTEST_CLAIMS, "old boot seed of 8"},
        {PSA2, BOOT_SEED_2397, "47 00*7", SP_ATTEST_CLAIMS, "boot seed of 7 at 2397"},
        {PSA2, BOOT_SEED, "00", SP_ATTEST_OK, "268 is unknown before RFC 9783"},
        {RFC, BOOT_SEED_2397, "00", SP_ATTEST_OK, "2397 is unknown to RFC 9783"},
        {RFC, CLIENT_ID, "3A 80000000", SP_ATTEST_CLAIMS, "client id below 32 bits"},
        {RFC, CLIENT_ID, "1A 80000000", SP_ATTEST_CLAIMS, "client id above 31 bits"},
        {RFC, CLIENT_ID, "3BFFFFFFFFFFFFFFFF", SP_ATTEST_CLAIMS, "client id below 64 bits"},
        {RFC, CLIENT_ID, "F9BC00", SP_ATTEST_CLAIMS, "client id -1.0"},
        {RFC, CLIENT_ID, "3A 7FFFFFFF", SP_ATTEST_OK, "smallest client id"},
        {RFC, CLIENT_ID, "20", SP_ATTEST_OK, "client id -1"},
        {RFC, CLIENT_ID, "3B 0000000000000000", SP_ATTEST_OK, "client id -1 in nine bytes"},
        {RFC, LIFECYCLE, "1A 00013000", SP_ATTEST_CLAIMS, "lifecycle 0x13000"},
        {RFC, LIFECYCLE, "39 2FFF", SP_ATTEST_CLAIMS, "lifecycle negative"},
        {RFC, LIFECYCLE, "6130", SP_ATTEST_CLAIMS, "lifecycle text"},
        {RFC, LIFECYCLE, "1B 0000000000003000", SP_ATTEST_OK, "lifecycle in nine bytes"},
        {RFC, PROFILE, "40", SP_ATTEST_CLAIMS, "profile in bytes"},
        {RFC, SERVICE, "40", SP_ATTEST_CLAIMS, "verification service in bytes"},
        {RFC, SERVICE, "6161", SP_ATTEST_OK, "verification service"},
        {RFC, CERTIFICATION, "73 31*13 2D 31*5", SP_ATTEST_OK, "certification 13-5"},
        {RFC, CERTIFICATION, "6D 31*13", SP_ATTEST_CLAIMS, "certification 13"},
        {IOT1, OLD_CERTIFICATION, "6D 31*13", SP_ATTEST_OK, "old certification 13"},
        {IOT1, OLD_CERTIFICATION, "73 31*13 2D 31*5", SP_ATTEST_OK, "old certification 13-5"},
        {IOT1, OLD_CERTIFICATION, "6E 31*14", SP_ATTEST_CLAIMS, "old certification 14"},
        {IOT1, OLD_NO_SOFTWARE, "01", SP_ATTEST_CLAIMS, "components, and the claim of none"},
    };
    CHECK_CHANGES(changes);
}

static void no_claim_comes_twice(void)
{
    static const char *const labels[] = {NONCE,     INSTANCE,  PROFILE,        BOOT_SEED,
                                         CLIENT_ID, LIFECYCLE, IMPLEMENTATION, COMPONENTS};
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    struct pieces pieces;
    take_apart(make_token(&claims), &pieces);
    for (size_t i = 0; i < sizeof(labels) / sizeof(labels[0]); i++) {
        struct pieces twice = pieces;
        struct sp_view label = bytes_of(labels[i]);
        size_t at = 0;
        while (!sp_view_equal(twice.labels[at], label)) {
            at++;
        }
        twice.labels[twice.count] = label;
        twice.values[twice.count++] = twice.values[at];
        SP_CHECK_CASE(verdict_of(put_together(&twice), &policy) == SP_ATTEST_CLAIMS, labels[i]);
    }
    /* Once longer than needed; unknown ones; one that is no label. */
    put(&pieces, "180A", BYTES32);
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_CLAIMS);
    take_apart(make_token(&claims), &pieces);
    put(&pieces, "19FFFF", "00");
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_OK);
    put(&pieces, "1A0000FFFF", "00");
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_CLAIMS);
    take_apart(make_token(&claims), &pieces);
    put(&pieces, "F5", "00");
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_CLAIMS);
}

static void unknown_claims_are_ignored_up_to_a_number(void)
{
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    struct pieces pieces;
    static uint8_t labels[PAIRS_MAX][3];
    take_apart(make_token(&claims), &pieces);
    put(&pieces, "3A 7FFFFFFF", "A2 01 82 F4 F6 6161 FB7FF8000000000000");
    put(&pieces, "6161", "C2 4101");
    put(&pieces, "19FFFE", "81*7 00");
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_OK);
    while (pieces.count <= 64) {
        SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_OK);
        uint8_t *label = labels[pieces.count];
        struct sp_writer w;
        sp_writer_init(&w, label, 3);
        sp_cbor_write_int(&w, (int64_t)(1000 + pieces.count));
        pieces.labels[pieces.count] = sp_writer_view(&w);
        pieces.values[pieces.count++] = SP_VIEW_LIT("\x00");
    }
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_CLAIMS);
}

static void label_families_do_not_mix(void)
{
    static const struct change changes[] = {
        {RFC, OLD_LIFECYCLE, "193000", SP_ATTEST_CLAIMS, "old lifecycle"},
        {RFC, OLD_NO_SOFTWARE, "01", SP_ATTEST_CLAIMS, "old no-software"},
        {RFC, OLD_SERVICE, "6161", SP_ATTEST_CLAIMS, "old service"},
        {PSA2, OLD_PROFILE, "6161", SP_ATTEST_CLAIMS, "old profile"},
        {IOT1, NONCE, BYTES32, SP_ATTEST_CLAIMS, "new nonce"},
        {IOT1, PROFILE, "71 5053415F494F545F50524F46494C455F31", SP_ATTEST_CLAIMS, "new profile"},
        {IOT1, BOOT_SEED, BYTES32, SP_ATTEST_CLAIMS, "new boot seed"},
        {IOT1, BOOT_SEED_2397, BYTES32, SP_ATTEST_CLAIMS, "boot seed of 2.0.0"},
    };
    CHECK_CHANGES(changes);
}

#define TEXT_IOT1 "71 5053415F494F545F50524F46494C455F31"
#define TEXT_PSA2 "7818 687474703A2F2F61726D2E636F6D2F7073612F322E302E30"

static void the_profile_is_known_and_fits_the_labels(void)
{
    static const struct change changes[] = {
        {RFC, PROFILE, "6161", SP_ATTEST_PROFILE, "unknown"},
        {RFC, PROFILE, "60", SP_ATTEST_PROFILE, "empty"},
        {RFC, PROFILE, TEXT_IOT1, SP_ATTEST_PROFILE, "the old one with new labels"},
        {RFC, PROFILE, TEXT_PSA2, SP_ATTEST_OK, "2.0.0, whose boot seed is then absent"},
        {IOT1, OLD_PROFILE, TEXT_PSA2, SP_ATTEST_PROFILE, "a new one with old labels"},
        {IOT1, OLD_PROFILE, "71 5053415F496F545F50524F46494C455F31", SP_ATTEST_PROFILE,
         "the spelling PSA_IoT_PROFILE_1"},
        {IOT1, OLD_PROFILE, TEXT_IOT1, SP_ATTEST_OK, "the old one"},
    };
    CHECK_CHANGES(changes);
}

static void components_are_well_formed(void)
{
    static const struct change changes[] = {
        {RFC, COMPONENTS, "80", SP_ATTEST_CLAIMS, "none"},
        {RFC, COMPONENTS, "A0", SP_ATTEST_CLAIMS, "a map"},
        {RFC, COMPONENTS, "81 00", SP_ATTEST_CLAIMS, "a number"},
        {RFC, COMPONENTS, "81 A0", SP_ATTEST_CLAIMS, "an empty component"},
        {RFC, COMPONENTS, "81 A1 05" BYTES32, SP_ATTEST_CLAIMS, "no value"},
        {RFC, COMPONENTS, "81 A1 02" BYTES32, SP_ATTEST_CLAIMS, "no signer"},
        {PSA2, COMPONENTS, "81 A1 02" BYTES32, SP_ATTEST_SOFTWARE, "no signer, before RFC 9783"},
        {RFC, COMPONENTS, "81 A2 05" BYTES32 "02 581F 00*31", SP_ATTEST_CLAIMS, "value of 31"},
        {RFC, COMPONENTS, "81 A2 05" BYTES32 "02 7820 61*32", SP_ATTEST_CLAIMS, "value a text"},
        {RFC, COMPONENTS, "81 A2 05 40 02" BYTES32, SP_ATTEST_CLAIMS, "signer of 0"},
        {RFC, COMPONENTS, "81 A3 05" BYTES32 "02" BYTES32 "01 4161", SP_ATTEST_CLAIMS,
         "type bytes"},
        {RFC, COMPONENTS, "81 A3 05" BYTES32 "02" BYTES32 "04 01", SP_ATTEST_CLAIMS, "version 1"},
        {RFC, COMPONENTS, "81 A3 05" BYTES32 "02" BYTES32 "06 01", SP_ATTEST_CLAIMS,
         "description 1"},
        {RFC, COMPONENTS, "81 A3 05" BYTES32 "02" BYTES32 "02" BYTES32, SP_ATTEST_CLAIMS,
         "value twice"},
        {RFC, COMPONENTS, "81 A2 05" BYTES32 "02" BYTES32, SP_ATTEST_SOFTWARE,
         "as short as may be"},
        {RFC, COMPONENTS, "91 80*17", SP_ATTEST_CLAIMS, "seventeen"},
    };
    CHECK_CHANGES(changes);
}

/* Nothing follows them here whose absence would be noticed instead. */
static void components_are_well_formed_also_at_the_end(void)
{
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    struct pieces pieces;
    policy.any_software = true;
    take_apart(make_token(&claims), &pieces);
    drop(&pieces, COMPONENTS);
    put(&pieces, COMPONENTS, "81 A3 05" BYTES32 "02" BYTES32 "01 4161");
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_CLAIMS);
    put(&pieces, COMPONENTS, "81 A3 05" BYTES32 "02" BYTES32 "01 6161");
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_OK);
}

static void seventeen_components_are_too_many(void)
{
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    struct pieces pieces;
    take_apart(make_token(&claims), &pieces);
    policy.any_software = true;
    for (size_t count = 16; count <= 17; count++) {
        uint8_t list[17 * 80];
        struct sp_writer w;
        sp_writer_init(&w, list, sizeof(list));
        sp_cbor_write_array(&w, count);
        for (size_t i = 0; i < count; i++) {
            uint8_t type = (uint8_t)('a' + i);
            sp_cbor_write_map(&w, 3);
            sp_cbor_write_int(&w, 1);
            sp_cbor_write_text(&w, sp_view(&type, 1));
            sp_cbor_write_int(&w, 2);
            sp_cbor_write_bytes(&w, sp_view(measurement, 32));
            sp_cbor_write_int(&w, 5);
            sp_cbor_write_bytes(&w, sp_view(signer, 32));
        }
        for (size_t i = 0; i < pieces.count; i++) {
            if (sp_view_equal(pieces.labels[i], bytes_of(COMPONENTS))) {
                pieces.values[i] = sp_writer_view(&w);
            }
        }
        SP_CHECK_INT(verdict_of(put_together(&pieces), &policy),
                     count == 16 ? SP_ATTEST_OK : SP_ATTEST_CLAIMS);
    }
}

static void the_nonce_is_the_challenge(void)
{
    for (size_t i = 0; i < 3; i++) {
        struct sp_attest_claims claims = good_claims(profiles[i]);
        struct sp_attest_policy policy = good_policy();
        claims.nonce = sp_view(other, 32);
        SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_NONCE);
        claims.nonce = sp_view(challenge, 48); /* longer, with the right beginning */
        SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_NONCE);
        policy.challenge = sp_view(challenge, 48);
        SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_OK);
        policy.challenge = none;
        SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_NONCE);
    }
}

static void the_instance_id_is_the_enrolled_one(void)
{
    uint8_t another[SP_ATTEST_UEID_LEN] = {0x01};
    struct sp_attest_claims claims = good_claims(RFC);
    struct sp_attest_policy policy = good_policy();
    claims.instance_id = SP_VIEW_ARRAY(another);
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_INSTANCE_ID);
    policy.instance_id = none;
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_OK);
}

static void the_client_is_of_the_non_secure_world(void)
{
    static const struct {
        int32_t id;
        enum sp_attest_check want;
    } cases[] = {{-1, SP_ATTEST_OK},          {INT32_MIN, SP_ATTEST_OK},
                 {0, SP_ATTEST_CLIENT_ID},    {1, SP_ATTEST_CLIENT_ID},
                 {3002, SP_ATTEST_CLIENT_ID}, {INT32_MAX, SP_ATTEST_CLIENT_ID}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_attest_claims claims = good_claims(profiles[i % 3]);
        claims.client_id = cases[i].id;
        SP_CHECK_INT(verdict_on(&claims), cases[i].want);
    }
}

static void only_the_lifecycles_of_the_policy_pass(void)
{
    for (unsigned state = 0; state <= 0xFFFF; state += state % 0x100 == 0xFF ? 1 : 0x33) {
        struct sp_attest_claims claims = good_claims(profiles[state % 3]);
        struct sp_attest_policy policy = good_policy();
        claims.lifecycle = (uint16_t)state;
        struct sp_view token = make_token(&claims);
        bool secured = state >= 0x3000 && state <= 0x30FF;
        bool debug = state >= 0x4000 && state <= 0x40FF;
        SP_CHECK((verdict_of(token, &policy) == SP_ATTEST_OK) == secured);
        SP_CHECK(secured || verdict_of(token, &policy) == SP_ATTEST_LIFECYCLE);
        policy.lifecycles = SP_ATTEST_LIFECYCLE_DEBUG;
        SP_CHECK((verdict_of(token, &policy) == SP_ATTEST_OK) == debug);
        policy.lifecycles |= SP_ATTEST_LIFECYCLE_SECURED;
        SP_CHECK((verdict_of(token, &policy) == SP_ATTEST_OK) == (secured || debug));
        policy.lifecycles = 0;
        SP_CHECK(verdict_of(token, &policy) == SP_ATTEST_LIFECYCLE);
    }
}

static void the_implementation_has_reference_values(void)
{
    struct sp_attest_claims claims = good_claims(RFC);
    struct sp_attest_policy policy = good_policy();
    claims.implementation_id = sp_view(other, 32);
    struct sp_view token = make_token(&claims);
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_IMPLEMENTATION_ID);
    policy.reference_count = 0;
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_IMPLEMENTATION_ID);
    policy.any_software = true;
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_OK);
}

static void every_component_equals_a_reference_entry(void)
{
    struct sp_attest_claims claims = good_claims(RFC);
    claims.components[0].value = sp_view(other, 32);
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    claims = good_claims(RFC);
    claims.components[0].value = sp_view(measurement, 48);
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    claims = good_claims(RFC);
    claims.components[0].type = SP_VIEW_LIT("BL");
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    claims = good_claims(RFC);
    claims.components[0].signer_id = sp_view(other, 32);
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    claims = good_claims(RFC);
    claims.components[0].version = SP_VIEW_LIT("1.2.2");
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    claims.components[0].version = none;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    claims = good_claims(RFC); /* the second entry asks for neither signer nor version */
    claims.components[1].signer_id = sp_view(other, 64);
    claims.components[1].version = none;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_OK);
}

static void every_type_of_the_set_is_there_and_none_twice(void)
{
    struct sp_attest_claims claims = good_claims(RFC);
    claims.component_count = 1;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    claims = good_claims(RFC);
    claims.component_count = 3;
    claims.components[2] = claims.components[0];
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    struct sp_attest_policy policy = good_policy();
    policy.any_software = true;
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_SOFTWARE);
    claims.components[2].type = SP_VIEW_LIT("APP");
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_OK);
}

static void all_components_are_of_one_reference_set(void)
{
    /* Two releases; the older SPE must not pass with the newer NSPE. A third set is of another implementation. */
    static const struct sp_attest_reference_component newer[] = {
        {SP_VIEW_INIT("SPE"), {other, 32}, {NULL, 0}, {NULL, 0}},
        {SP_VIEW_INIT("NSPE"), {other, 48}, {NULL, 0}, {NULL, 0}},
    };
    static const struct sp_attest_reference sets[] = {
        {{implementation, 32}, reference_components, 2},
        {{implementation, 32}, newer, 2},
        {{other, 32}, newer, 1},
    };
    struct sp_attest_policy policy = good_policy();
    policy.references = sets;
    policy.reference_count = 3;
    struct sp_attest_claims claims = good_claims(RFC);
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_OK);
    claims.components[1].value = sp_view(other, 48);
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_SOFTWARE);
    claims.components[0].value = sp_view(other, 32);
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_OK);
    policy.reference_count = 1;
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_SOFTWARE);
    claims = good_claims(RFC); /* values of another implementation's set are worth nothing */
    claims.component_count = 1;
    claims.components[0].value = sp_view(other, 32);
    policy.reference_count = 3;
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_SOFTWARE);
}

static void alternatives_of_one_type_may_share_a_set(void)
{
    static const struct sp_attest_reference_component either[] = {
        {SP_VIEW_INIT("SPE"), {measurement, 32}, {NULL, 0}, {NULL, 0}},
        {SP_VIEW_INIT("SPE"), {other, 32}, {NULL, 0}, {NULL, 0}},
        {SP_VIEW_INIT("NSPE"), {measurement, 48}, {NULL, 0}, {NULL, 0}},
    };
    static const struct sp_attest_reference set = {{implementation, 32}, either, 3};
    struct sp_attest_policy policy = good_policy();
    policy.references = &set;
    struct sp_attest_claims claims = good_claims(IOT1);
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_OK);
    claims.components[0].value = sp_view(other, 32);
    SP_CHECK_INT(verdict_of(make_token(&claims), &policy), SP_ATTEST_OK);
}

static void a_token_without_software_needs_the_policys_leave(void)
{
    struct sp_attest_claims claims = good_claims(IOT1);
    struct sp_attest_policy policy = good_policy();
    claims.component_count = 0;
    claims.no_software = true;
    struct sp_view token = make_token(&claims);
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_SOFTWARE);
    policy.any_software = true;
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_SOFTWARE);
    policy.allow_no_software = true;
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_OK);
    policy.any_software = false;
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_OK);
    policy.reference_count = 0;
    SP_CHECK_INT(verdict_of(token, &policy), SP_ATTEST_IMPLEMENTATION_ID);
    struct pieces pieces;
    policy = good_policy();
    policy.allow_no_software = true;
    take_apart(token, &pieces);
    put(&pieces, OLD_NO_SOFTWARE, "00");
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_CLAIMS);
    put(&pieces, OLD_NO_SOFTWARE, "02");
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_CLAIMS);
}

/* Tokens with all faults from some check on are refused by that check. */
static void the_first_failed_check_is_the_one_named(void)
{
    uint8_t another[SP_ATTEST_UEID_LEN] = {0x01};
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_claims claims = good_claims(RFC);
    struct sp_attest_claims good = claims;
    struct pieces pieces;
    claims.nonce = sp_view(other, 32);
    claims.instance_id = SP_VIEW_ARRAY(another);
    claims.client_id = 1;
    claims.lifecycle = 0;
    claims.implementation_id = sp_view(other, 32);
    claims.components[0].value = sp_view(other, 32);
    take_apart(make_token(&claims), &pieces);
    put(&pieces, PROFILE, "6161");
    struct pieces worse = pieces;
    drop(&worse, CLIENT_ID);
    SP_CHECK_INT(verdict_of(put_together(&worse), &policy), SP_ATTEST_CLAIMS);
    SP_CHECK_INT(verdict_of(put_together(&pieces), &policy), SP_ATTEST_PROFILE);
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_NONCE);
    claims.nonce = good.nonce;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_INSTANCE_ID);
    claims.instance_id = good.instance_id;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_CLIENT_ID);
    claims.client_id = -1;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_LIFECYCLE);
    claims.lifecycle = 0x3001;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_IMPLEMENTATION_ID);
    claims.implementation_id = good.implementation_id;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_SOFTWARE);
    claims.components[0].value = good.components[0].value;
    SP_CHECK_INT(verdict_on(&claims), SP_ATTEST_OK);
}

static bool names_expected(const char *detail, const struct sp_attest_policy *policy)
{
    char hex[2 * SP_HASH_MAX + 1];
    const struct sp_view secrets[] = {policy->challenge, policy->instance_id, policy->key.bytes,
                                      reference.implementation_id, reference_components[0].value};
    for (size_t i = 0; i < sizeof(secrets) / sizeof(secrets[0]); i++) {
        sp_hex_format(sp_view_first(secrets[i], 4), hex);
        if (strstr(detail, hex) != NULL) {
            return true;
        }
    }
    return strstr(detail, "1.2.3") != NULL || strstr(detail, "3000") != NULL;
}

static void details_are_printable_and_name_nothing_expected(void)
{
    struct sp_attest_claims claims = good_claims(RFC);
    struct sp_attest_policy policy = good_policy();
    struct sp_attest_verdict verdict;
    claims.components[0].type =
        SP_VIEW_LIT("\x1B[2J\r\nevent=fake \xC3\xA9 and a very long text "
                    "that goes on and on and on and on and on and on and on");
    sp_attest_appraise(make_token(&claims), &policy, NULL, &verdict);
    SP_CHECK_INT(verdict.check, SP_ATTEST_SOFTWARE);
    for (const char *c = verdict.detail; *c != '\0'; c++) {
        SP_CHECK(*c >= 0x20 && *c < 0x7F);
    }
    SP_CHECK(strlen(verdict.detail) < SP_ATTEST_DETAIL_MAX);
    SP_CHECK(!names_expected(verdict.detail, &policy));
    claims = good_claims(RFC);
    claims.nonce = sp_view(other, 32);
    sp_attest_appraise(make_token(&claims), &policy, NULL, &verdict);
    SP_CHECK(!names_expected(verdict.detail, &policy));
}

static void decode_asks_for_form_and_claims_only(void)
{
    struct sp_attest_claims claims = good_claims(RFC);
    struct sp_attest_claims read;
    struct sp_attest_verdict verdict;
    uint8_t token[600];
    claims.client_id = 5;
    claims.lifecycle = 0x6000;
    struct sp_view good = make_token(&claims);
    sp_copy(token, good.ptr, good.len);
    token[good.len - 1] ^= 1;
    sp_attest_decode(sp_view(token, good.len), &read, &verdict);
    SP_CHECK_INT(verdict.check, SP_ATTEST_OK);
    SP_CHECK(read.client_id == 5 && read.lifecycle == 0x6000);
    sp_attest_decode(sp_view(token, good.len - 1), &read, &verdict);
    SP_CHECK_INT(verdict.check, SP_ATTEST_FORM);
    struct pieces pieces;
    take_apart(good, &pieces);
    drop(&pieces, NONCE);
    sp_attest_decode(put_together(&pieces), &read, &verdict);
    SP_CHECK_INT(verdict.check, SP_ATTEST_CLAIMS);
    SP_CHECK(read.client_id == 0 && read.instance_id.len == 0);
}

static void impossible_claims_are_not_encoded(void)
{
    uint8_t token[600];
    size_t len = 0;
    struct sp_attest_claims base = good_claims(RFC);
    struct sp_attest_claims bad[9];
    for (size_t i = 0; i < 9; i++) {
        bad[i] = base;
    }
    bad[0].profile = SP_ATTEST_PROFILE_UNKNOWN;
    bad[1].nonce.len = 31;
    bad[2].instance_id = none;
    bad[3].components[0].signer_id = none;
    bad[4].components[0].value.len = 20;
    bad[5].component_count = 0;
    bad[6].component_count = SP_ATTEST_COMPONENTS_MAX + 1;
    bad[7].no_software = true;
    bad[8].boot_seed.len = 7;
    for (size_t i = 0; i < 9; i++) {
        SP_CHECK(sp_attest_encode(&bad[i], SP_ATTEST_HMAC256, &key, token, sizeof(token), &len) ==
                 SP_ERR_ARGUMENT);
    }
    SP_CHECK(sp_attest_encode(&base, (enum sp_attest_algorithm)4, &key, token, sizeof(token),
                              &len) == SP_ERR_ARGUMENT);
    size_t whole = make_token(&base).len;
    for (size_t cap = 0; cap < whole; cap++) {
        SP_CHECK(sp_attest_encode(&base, SP_ATTEST_HMAC256, &key, token, cap, &len) ==
                 SP_ERR_SPACE);
    }
}

/* RFC 9783, A.2. */
static void the_instance_id_is_derived_as_in_rfc_9783(void)
{
    uint8_t have[SP_ATTEST_UEID_LEN];
    SP_CHECK(
        sp_attest_ueid(bytes_of("de038b34aca125768c5e3357ab8d06b367b9ab0d7e8be124edca47fe033a5bb7"
                                "a93d307ff229aa36ff246c1295964facf71ab7aa6ec4fd6102b7b3983255ad92"),
                       have) == SP_OK);
    SP_CHECK(sp_view_equal(
        SP_VIEW_ARRAY(have),
        bytes_of("01c557bd4fadc83f756fca2cd5ea2dcc8b82159bb4e7453d6a744d4eecd6d0ac60")));
}

static void names_are_those_of_the_protocol(void)
{
    SP_CHECK(strcmp(sp_attest_check_name(SP_ATTEST_OK), "ok") == 0);
    SP_CHECK(strcmp(sp_attest_check_name(SP_ATTEST_INSTANCE_ID), "instance-id") == 0);
    SP_CHECK(strcmp(sp_attest_check_name(SP_ATTEST_TIMEOUT), "timeout") == 0);
    SP_CHECK(strcmp(sp_attest_check_name((enum sp_attest_check)99), "unknown") == 0);
    SP_CHECK(strcmp(sp_attest_profile_name(SP_ATTEST_PROFILE_IOT_1), "PSA_IOT_PROFILE_1") == 0);
    SP_CHECK(strcmp(sp_attest_lifecycle_name(0x30FF), "secured") == 0);
    SP_CHECK(strcmp(sp_attest_lifecycle_name(0x4001), "non-psa-rot-debug") == 0);
    SP_CHECK(strcmp(sp_attest_lifecycle_name(0x3100), "invalid") == 0);
    SP_CHECK(strcmp(sp_attest_lifecycle_name(0xFFFF), "invalid") == 0);
}

static const struct sp_test tests[] = {
    SP_TEST(good_tokens_of_all_profiles_and_algorithms_are_accepted),
    SP_TEST(every_flipped_bit_is_noticed),
    SP_TEST(size_is_one_to_4096_bytes),
    SP_TEST(every_prefix_and_a_trailing_byte_are_refused),
    SP_TEST(the_envelope_has_one_form),
    SP_TEST(a_detached_payload_has_not_the_form),
    SP_TEST(the_payload_is_one_well_formed_map),
    SP_TEST(the_tag_has_its_full_length),
    SP_TEST(the_algorithm_is_the_one_pinned),
    SP_TEST(development_keys_are_refused_whatever_they_sign),
    SP_TEST(behind_a_wrong_mac_nothing_is_looked_at),
    SP_TEST(no_claim_may_be_missing),
    SP_TEST(claims_have_the_right_type_and_size),
    SP_TEST(no_claim_comes_twice),
    SP_TEST(unknown_claims_are_ignored_up_to_a_number),
    SP_TEST(label_families_do_not_mix),
    SP_TEST(the_profile_is_known_and_fits_the_labels),
    SP_TEST(components_are_well_formed),
    SP_TEST(components_are_well_formed_also_at_the_end),
    SP_TEST(seventeen_components_are_too_many),
    SP_TEST(the_nonce_is_the_challenge),
    SP_TEST(the_instance_id_is_the_enrolled_one),
    SP_TEST(the_client_is_of_the_non_secure_world),
    SP_TEST(only_the_lifecycles_of_the_policy_pass),
    SP_TEST(the_implementation_has_reference_values),
    SP_TEST(every_component_equals_a_reference_entry),
    SP_TEST(every_type_of_the_set_is_there_and_none_twice),
    SP_TEST(all_components_are_of_one_reference_set),
    SP_TEST(alternatives_of_one_type_may_share_a_set),
    SP_TEST(a_token_without_software_needs_the_policys_leave),
    SP_TEST(the_first_failed_check_is_the_one_named),
    SP_TEST(details_are_printable_and_name_nothing_expected),
    SP_TEST(decode_asks_for_form_and_claims_only),
    SP_TEST(impossible_claims_are_not_encoded),
    SP_TEST(the_instance_id_is_derived_as_in_rfc_9783),
    SP_TEST(names_are_those_of_the_protocol),
};

SP_TEST_MAIN(tests)
