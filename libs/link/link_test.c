/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/link/link.h"

#include "libs/base/test.h"

#include <string.h>

static void fill_counting(uint8_t *out, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        out[i] = (uint8_t)i;
    }
}

static bool hex_is(const uint8_t *bytes, size_t len, const char *want)
{
    char have[2 * 32 + 1];
    sp_hex_format(sp_view(bytes, len), have);
    return strcmp(have, want) == 0;
}

static const char exporter_hex[] =
    "4602740d3df0e9222931c031cec0b550616fb7be1c93b24ed5be85e70cd1052a";

static void challenges_are_those_of_the_protocol_page(void)
{
    uint8_t nonce[SP_LINK_NONCE_LEN];
    uint8_t exporter[SP_LINK_EXPORTER_LEN];
    uint8_t out[SP_LINK_CHALLENGE_LEN];
    size_t len = 0;
    fill_counting(nonce, sizeof(nonce));
    SP_CHECK(sp_hex_parse(sp_view_str(exporter_hex), exporter, sizeof(exporter), &len) == SP_OK);
    struct sp_view identity = SP_VIEW_LIT("dev-1");
    SP_CHECK(sp_link_challenge(SP_LINK_BINDING_TLS, SP_VIEW_ARRAY(nonce), SP_VIEW_ARRAY(exporter),
                               identity, out) == SP_OK);
    SP_CHECK(hex_is(out, sizeof(out),
                    "f52e1558f6b97d6877994f56756639f51efaea2ca481c5d5422586404217735c"));
    SP_CHECK(sp_link_challenge(SP_LINK_BINDING_NONE, SP_VIEW_ARRAY(nonce), SP_VIEW_ARRAY(exporter),
                               identity, out) == SP_OK);
    SP_CHECK(hex_is(out, sizeof(out),
                    "8f87834adb448e20be169686e192f24db014502720a8d40b9554102c2e67449f"));
}

static void a_challenge_needs_all_its_parts(void)
{
    uint8_t bytes[33] = {0};
    uint8_t out[SP_LINK_CHALLENGE_LEN];
    struct sp_view good = sp_view(bytes, 32);
    struct sp_view none = {NULL, 0};
    struct sp_view dev = SP_VIEW_LIT("dev-1");
    SP_CHECK(sp_link_challenge(SP_LINK_BINDING_TLS, sp_view(bytes, 31), good, dev, out) ==
             SP_ERR_ARGUMENT);
    SP_CHECK(sp_link_challenge(SP_LINK_BINDING_TLS, good, none, dev, out) == SP_ERR_ARGUMENT);
    SP_CHECK(sp_link_challenge(SP_LINK_BINDING_TLS, good, sp_view(bytes, 33), dev, out) ==
             SP_ERR_ARGUMENT);
    SP_CHECK(sp_link_challenge(SP_LINK_BINDING_TLS, good, good, none, out) == SP_ERR_ARGUMENT);
    SP_CHECK(sp_link_challenge(SP_LINK_BINDING_NONE, good, none, dev, out) == SP_OK);
}

static void methods_have_their_names(void)
{
    SP_CHECK(strcmp(sp_link_method(SP_LINK_BINDING_TLS), "sp-psa-iat-1") == 0);
    SP_CHECK(strcmp(sp_link_method(SP_LINK_BINDING_NONE), "sp-psa-iat-raw-1") == 0);
}

static void identities_keep_to_their_alphabet(void)
{
    static const char longest[] =
        "a123456789a123456789a123456789a123456789a123456789a123456789a123";
    static const struct {
        struct sp_view identity;
        bool valid;
        const char *name;
    } cases[] = {
        {SP_VIEW_INIT("dev1"), true, "plain"},
        {SP_VIEW_INIT("0"), true, "one digit"},
        {SP_VIEW_INIT("A-b_c.d"), true, "marks inside"},
        {SP_VIEW_INIT("dev."), true, "mark at the end"},
        {SP_VIEW_INIT(""), false, "empty"},
        {SP_VIEW_INIT(".dev"), false, "dot first"},
        {SP_VIEW_INIT("-dev"), false, "hyphen first"},
        {SP_VIEW_INIT("_dev"), false, "underscore first"},
        {SP_VIEW_INIT("dev1\0evil"), false, "NUL inside"},
        {SP_VIEW_INIT("dev1\0"), false, "NUL at the end"},
        {SP_VIEW_INIT("dev/1"), false, "slash"},
        {SP_VIEW_INIT("dev+"), false, "plus"},
        {SP_VIEW_INIT("dev#"), false, "hash"},
        {SP_VIEW_INIT("dev 1"), false, "space"},
        {SP_VIEW_INIT("dev\n"), false, "newline"},
        {SP_VIEW_INIT("d\xC3\xA9v"), false, "not ASCII"},
        {SP_VIEW_INIT("dev\x7F"), false, "delete"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_CASE(sp_link_identity_valid(cases[i].identity) == cases[i].valid, cases[i].name);
    }
    SP_CHECK(sp_link_identity_valid(sp_view(longest, 64)));
    SP_CHECK(!sp_link_identity_valid(
        SP_VIEW_LIT("a123456789a123456789a123456789a123456789a123456789a123456789a1234")));
}

static const struct sp_test tests[] = {
    SP_TEST(challenges_are_those_of_the_protocol_page),
    SP_TEST(a_challenge_needs_all_its_parts),
    SP_TEST(methods_have_their_names),
    SP_TEST(identities_keep_to_their_alphabet),
};

SP_TEST_MAIN(tests)
