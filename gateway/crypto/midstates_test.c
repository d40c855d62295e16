/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Against GnuTLS's HMAC, which the seam uses where there are no midstates. */
#include "gateway/crypto/midstates.h"

#include "libs/base/test.h"

#include <string.h>

static const enum sp_hash hashes[] = {SP_SHA256, SP_SHA384, SP_SHA512};
static uint8_t bytes[1024];

static void fill(void)
{
    for (size_t i = 0; i < sizeof(bytes); i++) {
        bytes[i] = (uint8_t)(i * 7 + (i >> 8));
    }
}

/* Both ways, of the same parts. */
static void compare(enum sp_hash hash, size_t key_len, const struct sp_view *parts, size_t count)
{
    uint8_t usual[SP_HASH_MAX] = {0};
    uint8_t ready[SP_HASH_MAX] = {0};
    struct sp_crypto_midstates midstates;
    struct sp_crypto_key key = {.bytes = sp_view(bytes + 3, key_len)};
    SP_CHECK(sp_crypto_hmac(hash, &key, parts, count, usual) == SP_OK);
    SP_CHECK(sp_midstates_make(hash, key.bytes, &midstates) == SP_OK);
    key.midstates = &midstates;
    SP_CHECK(sp_crypto_hmac(hash, &key, parts, count, ready) == SP_OK);
    SP_CHECK(memcmp(usual, ready, sizeof(usual)) == 0);
    SP_CHECK(sp_crypto_hmac(hash, &key, parts, count, ready) == SP_OK); /* they are not used up */
    SP_CHECK(memcmp(usual, ready, sizeof(usual)) == 0);
}

static void the_same_as_without_for_every_length_of_message(void)
{
    fill();
    for (size_t h = 0; h < 3; h++) {
        for (size_t len = 0; len < 300; len++) {
            const struct sp_view part = sp_view(bytes, len);
            compare(hashes[h], 32, &part, 1);
        }
    }
}

static void the_same_as_without_for_every_length_of_key(void)
{
    fill();
    const struct sp_view part = sp_view(bytes, 100);
    for (size_t h = 0; h < 3; h++) {
        for (size_t len = 1; len < 200; len++) { /* longer than a block: hashed first */
            compare(hashes[h], len, &part, 1);
        }
    }
}

static void a_message_may_come_in_parts(void)
{
    fill();
    const struct sp_view parts[] = {sp_view(bytes, 1), sp_view(NULL, 0), sp_view(bytes + 1, 63),
                                    sp_view(bytes + 64, 200), sp_view(bytes, 129)};
    for (size_t h = 0; h < 3; h++) {
        for (size_t count = 0; count <= 5; count++) {
            compare(hashes[h], 48, parts, count);
        }
    }
}

static void midstates_of_another_hash_are_refused(void)
{
    uint8_t out[SP_HASH_MAX];
    struct sp_crypto_midstates midstates;
    const struct sp_view part = SP_VIEW_LIT("abc");
    fill();
    SP_CHECK(sp_midstates_make((enum sp_hash)20, sp_view(bytes, 32), &midstates) ==
             SP_ERR_UNSUPPORTED);
    SP_CHECK(sp_midstates_make(SP_SHA384, sp_view(bytes, 32), &midstates) == SP_OK);
    struct sp_crypto_key key = {.bytes = sp_view(bytes, 32), .midstates = &midstates};
    SP_CHECK(sp_crypto_hmac(SP_SHA512, &key, &part, 1, out) == SP_ERR_ARGUMENT);
}

static const struct sp_test tests[] = {
    SP_TEST(the_same_as_without_for_every_length_of_message),
    SP_TEST(the_same_as_without_for_every_length_of_key),
    SP_TEST(a_message_may_come_in_parts),
    SP_TEST(midstates_of_another_hash_are_refused),
};

SP_TEST_MAIN(tests)
