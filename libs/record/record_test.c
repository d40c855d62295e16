/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/record/record.h"

#include "libs/base/test.h"

#include <string.h>

#define MUTATIONS 1000000U

static uint8_t group_key[SP_RECORD_GROUP_KEY];
static const struct sp_view topic = SP_VIEW_INIT("dt/dev-1/climate");
static const uint8_t plain[] = "\x82\xa4\x21\x66\x64\x65\x76\x2d\x31\x2f\x00\x6b\x74\x65\x6d\x70"
                               "\x65\x72\x61\x74\x75\x72\x65\x01"
                               "\x63\x43\x65\x6c\x02\xc4\x82\x21\x19\x09\x2e\xa3\x00\x68\x68\x75"
                               "\x6d\x69\x64\x69\x74\x79\x01\x63"
                               "\x25\x52\x48\x02\xc4\x82\x21\x19\x10\x04";
#define PLAIN sp_view(plain, sizeof(plain) - 1)

struct sealed {
    uint8_t key[SP_RECORD_KEY_MAX];
    uint8_t bytes[SP_RECORD_PLAIN_MAX + SP_RECORD_OVERHEAD];
    size_t len;
    struct sp_record_head head;
};

static struct sp_crypto_key key_of(const struct sealed *s)
{
    return (struct sp_crypto_key){.bytes = sp_view(s->key, sp_record_key_len(s->head.algorithm))};
}

static void seal(enum sp_cose_algorithm algorithm, struct sealed *out)
{
    for (size_t i = 0; i < sizeof(group_key); i++) {
        group_key[i] = (uint8_t)i;
    }
    const struct sp_crypto_key group = {.bytes = SP_VIEW_ARRAY(group_key)};
    *out = (struct sealed){
        .head = {algorithm, 7, 1234567890123 & SP_RECORD_COUNTER_MAX, SP_VIEW_LIT("hall")}};
    SP_CHECK(sp_record_key(&group, algorithm, SP_VIEW_LIT("dev-1"), out->key) == SP_OK);
    const struct sp_crypto_key key = key_of(out);
    SP_CHECK(sp_record_protect(&out->head, &key, topic, PLAIN, out->bytes, sizeof(out->bytes),
                               &out->len) == SP_OK);
}

static enum sp_err open_it(const struct sealed *s, struct sp_view record, struct sp_view at)
{
    uint8_t out[SP_RECORD_PLAIN_MAX];
    size_t len = 0;
    struct sp_record_head head;
    const struct sp_crypto_key key = key_of(s);
    enum sp_err err = sp_record_unprotect(record, s->head.algorithm, &key, at, &head, out, &len);
    if (err == SP_OK) {
        SP_CHECK(sp_view_equal(sp_view(out, len), PLAIN));
        SP_CHECK(head.counter == s->head.counter && head.epoch == s->head.epoch);
        SP_CHECK(sp_view_equal(head.group, s->head.group));
    }
    return err;
}

static bool hex_is(const uint8_t *bytes, size_t len, const char *want)
{
    char have[2 * SP_RECORD_KEY_MAX + 1];
    sp_hex_format(sp_view(bytes, len), have);
    return strcmp(have, want) == 0;
}

static void record_keys_are_those_of_the_protocol_page(void)
{
    struct sealed ccm;
    struct sealed mac;
    seal(SP_COSE_AES_CCM_16_64_128, &ccm);
    seal(SP_COSE_HMAC256, &mac);
    SP_CHECK(hex_is(ccm.key, 16, "a90bcb0b5af0a6f571a2bd113810b5af"));
    SP_CHECK(
        hex_is(mac.key, 32, "93bf000ac7b12eeb7c25832535eea989c93cc2017b5907b0b7da885fd9090197"));
}

static void a_record_opens_to_what_was_sealed(void)
{
    struct sealed s;
    seal(SP_COSE_AES_CCM_16_64_128, &s);
    SP_CHECK(s.bytes[0] == SP_RECORD_FIRST_SEALED);
    SP_CHECK(open_it(&s, sp_view(s.bytes, s.len), topic) == SP_OK);
    seal(SP_COSE_HMAC256, &s);
    SP_CHECK(s.bytes[0] == SP_RECORD_FIRST_MAC);
    SP_CHECK(open_it(&s, sp_view(s.bytes, s.len), topic) == SP_OK);
}

static void the_head_is_the_one_of_the_protocol_page(void)
{
    static const uint8_t want[] = {0xD0, 0x83, 0x54, 0xA3, 0x01, 0x0A, 0x04, 0x48,
                                   0x00, 0x00, 0x00, 0x07, 'h',  'a',  'l',  'l',
                                   0x06, 0x45, 0x1F, 0x71, 0xFB, 0x04, 0xCB, 0xA0};
    struct sealed s;
    seal(SP_COSE_AES_CCM_16_64_128, &s);
    SP_CHECK(sp_view_equal(sp_view(s.bytes, sizeof(want)), SP_VIEW_ARRAY(want)));
}

static void another_place_device_or_key_opens_nothing(void)
{
    static const enum sp_cose_algorithm both[] = {SP_COSE_AES_CCM_16_64_128, SP_COSE_HMAC256};
    for (size_t i = 0; i < 2; i++) {
        struct sealed s;
        seal(both[i], &s);
        struct sp_view record = sp_view(s.bytes, s.len);
        SP_CHECK(open_it(&s, record, SP_VIEW_LIT("dt/dev-2/climate")) == SP_ERR_UNTRUSTED);
        SP_CHECK(open_it(&s, record, SP_VIEW_LIT("dt/dev-1/other")) == SP_ERR_UNTRUSTED);
        SP_CHECK(open_it(&s, record, SP_VIEW_LIT("")) == SP_ERR_UNTRUSTED);
        const struct sp_crypto_key group = {.bytes = SP_VIEW_ARRAY(group_key)};
        SP_CHECK(sp_record_key(&group, both[i], SP_VIEW_LIT("dev-2"), s.key) == SP_OK);
        SP_CHECK(open_it(&s, record, topic) == SP_ERR_UNTRUSTED);
        s.head.algorithm = both[1 - i];
        SP_CHECK(open_it(&s, record, topic) == SP_ERR_UNTRUSTED);
    }
}

static void what_cannot_be_is_not_sealed(void)
{
    static const struct {
        const char *name;
        struct sp_record_head head;
    } cases[] = {
        {"epoch 0", {SP_COSE_AES_CCM_16_64_128, 0, 1, SP_VIEW_INIT("g")}},
        {"counter 0", {SP_COSE_AES_CCM_16_64_128, 1, 0, SP_VIEW_INIT("g")}},
        {"counter of six bytes",
         {SP_COSE_AES_CCM_16_64_128, 1, SP_RECORD_COUNTER_MAX + 1, SP_VIEW_INIT("g")}},
        {"no group", {SP_COSE_AES_CCM_16_64_128, 1, 1, SP_VIEW_INIT("")}},
        {"group with a slash", {SP_COSE_AES_CCM_16_64_128, 1, 1, SP_VIEW_INIT("a/b")}},
        {"group of 33",
         {SP_COSE_AES_CCM_16_64_128, 1, 1, SP_VIEW_INIT("a23456789012345678901234567890123")}},
        {"algorithm 30", {SP_COSE_AES_CCM_16_128_128, 1, 1, SP_VIEW_INIT("g")}},
    };
    struct sealed s;
    seal(SP_COSE_AES_CCM_16_64_128, &s);
    const struct sp_crypto_key key = key_of(&s);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t len = 0;
        SP_CHECK_CASE(sp_record_protect(&cases[i].head, &key, topic, PLAIN, s.bytes,
                                        sizeof(s.bytes), &len) == SP_ERR_ARGUMENT,
                      cases[i].name);
    }
    uint8_t large[SP_RECORD_PLAIN_MAX + 1] = {0};
    size_t len = 0;
    SP_CHECK(sp_record_protect(&s.head, &key, topic, SP_VIEW_ARRAY(large), s.bytes, sizeof(s.bytes),
                               &len) == SP_ERR_ARGUMENT);
    SP_CHECK(sp_record_protect(&s.head, &key, topic, sp_view(large, SP_RECORD_PLAIN_MAX), s.bytes,
                               sizeof(s.bytes), &len) == SP_OK);
}

/* Other encodings of the same COSE message: RFC 9052 allows them, docs/protocol.md 5 has one form. */
static void other_forms_of_the_same_message_are_malformed(void)
{
    struct sealed s;
    seal(SP_COSE_AES_CCM_16_64_128, &s);
    struct sp_record_head head;
    uint8_t map_len = (uint8_t)(s.bytes[2] & 0x1FU);
    size_t unprotected = s.bytes[2] == 0x58 ? 4U + s.bytes[3] : 3U + map_len;
    SP_CHECK(s.bytes[unprotected] == 0xA0);
    uint8_t other[sizeof(s.bytes)];
    static const struct {
        const char *name;
        size_t at; /* 0: the unprotected map */
        uint8_t with[3];
        size_t with_len;
        size_t drop;
    } cases[] = {
        {"a longer array head", 1, {0x98, 0x03}, 2, 1},
        {"an indefinite array", 1, {0x9F}, 1, 1},
        {"an unprotected entry", 0, {0xA1, 0x18, 0x63}, 3, 1},
        {"a longer empty map", 0, {0xB8, 0x00}, 2, 1},
        {"no tag", 0x1000, {0}, 0, 0},
        {"two tags", 0x1001, {0xD0}, 1, 0},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        size_t at = cases[i].at == 0 ? unprotected : cases[i].at & 1U ? cases[i].at & 0xFU : 0;
        size_t drop = cases[i].at == 0x1000 ? 1 : cases[i].drop;
        at = cases[i].at >= 0x1000 ? 0 : at;
        struct sp_writer w;
        sp_writer_init(&w, other, sizeof(other));
        sp_write_view(&w, sp_view(s.bytes, at));
        sp_write_view(&w, sp_view(cases[i].with, cases[i].with_len));
        sp_write_view(&w, sp_view(s.bytes + at + drop, s.len - at - drop));
        SP_CHECK_CASE(sp_record_peek(sp_writer_view(&w), &head) == SP_ERR_MALFORMED, cases[i].name);
    }
    sp_copy(other, s.bytes, s.len);
    other[s.len] = 0;
    SP_CHECK(sp_record_peek(sp_view(other, s.len + 1), &head) == SP_ERR_MALFORMED);
    for (size_t len = 0; len < s.len; len++) {
        SP_CHECK(sp_record_peek(sp_view(s.bytes, len), &head) == SP_ERR_MALFORMED);
    }
}

/* xorshift: the same mutations every time */
static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static size_t mutate(const struct sealed *s, uint64_t *state, uint8_t *out)
{
    size_t len = s->len;
    sp_copy(out, s->bytes, len);
    uint64_t count = 1 + next_random(state) % 4;
    for (uint64_t i = 0; i < count && len > 1; i++) {
        size_t at = (size_t)(next_random(state) % len);
        uint64_t what = next_random(state);
        switch (what % 6) {
        case 0:
            out[at] = (uint8_t)(what >> 8);
            break;
        case 1:
            memmove(out + at + 1, out + at, len - at);
            out[at] = (uint8_t)(what >> 8);
            len++;
            break;
        case 2:
            memmove(out + at, out + at + 1, len - at - 1);
            len--;
            break;
        case 3:
            len = at + 1;
            break;
        default:
            out[at] ^= (uint8_t)(1U << (what >> 8 & 7U));
            break;
        }
    }
    return len;
}

static void no_mutation_of_a_million_is_accepted(void)
{
    static const enum sp_cose_algorithm both[] = {SP_COSE_AES_CCM_16_64_128, SP_COSE_HMAC256};
    uint64_t state = 0x5A11;
    size_t accepted = 0;
    for (size_t i = 0; i < 2; i++) {
        struct sealed s;
        seal(both[i], &s);
        for (size_t n = 0; n < MUTATIONS / 2; n++) {
            uint8_t bytes[sizeof(s.bytes) + 8];
            size_t len = s.len;
            do { /* some give the same bytes again */
                len = mutate(&s, &state, bytes);
            } while (len == s.len && memcmp(bytes, s.bytes, len) == 0);
            accepted += open_it(&s, sp_view(bytes, len), topic) == SP_OK;
        }
    }
    SP_CHECK_INT(accepted, 0);
}

static void the_device_is_in_the_topic(void)
{
    static const struct {
        struct sp_view topic;
        struct sp_view device;
    } cases[] = {
        {SP_VIEW_INIT("dt/dev-1/climate"), SP_VIEW_INIT("dev-1")},
        {SP_VIEW_INIT("dt/a/b/c"), SP_VIEW_INIT("a")},
        {SP_VIEW_INIT("dt/dev-1"), SP_VIEW_INIT("")},
        {SP_VIEW_INIT("dt//climate"), SP_VIEW_INIT("")},
        {SP_VIEW_INIT("cmd/dev-1/x"), SP_VIEW_INIT("")},
        {SP_VIEW_INIT("dt/+/climate"), SP_VIEW_INIT("")},
        {SP_VIEW_INIT(""), SP_VIEW_INIT("")},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK(sp_view_equal(sp_record_device(cases[i].topic), cases[i].device));
    }
}

static const struct sp_test tests[] = {
    SP_TEST(record_keys_are_those_of_the_protocol_page),
    SP_TEST(a_record_opens_to_what_was_sealed),
    SP_TEST(the_head_is_the_one_of_the_protocol_page),
    SP_TEST(another_place_device_or_key_opens_nothing),
    SP_TEST(what_cannot_be_is_not_sealed),
    SP_TEST(other_forms_of_the_same_message_are_malformed),
    SP_TEST(no_mutation_of_a_million_is_accepted),
    SP_TEST(the_device_is_in_the_topic),
};

SP_TEST_MAIN(tests)
