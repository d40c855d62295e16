/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/record/grant.h"

#include "libs/base/test.h"

static const uint8_t key_bytes[32] = {1, 2, 3};
static uint8_t kek_bytes[SP_GRANT_KEK_LEN];
static const struct sp_view me = SP_VIEW_INIT("dev-1");

static struct sp_grant_kek kek(void)
{
    for (size_t i = 0; i < sizeof(kek_bytes); i++) {
        kek_bytes[i] = (uint8_t)(0x40 + i);
    }
    return sp_grant_kek(kek_bytes);
}

static struct sp_grant sample(void)
{
    return (struct sp_grant){.serial = 1700000000000,
                             .group = SP_VIEW_LIT("hall"),
                             .epoch = 3,
                             .algorithm = SP_COSE_AES_CCM_16_64_128,
                             .kind = SP_GRANT_RECORD_KEY,
                             .key = sp_view(key_bytes, 16),
                             .has_not_after = true,
                             .not_after = 1800000000};
}

static size_t seal(const struct sp_grant *g, uint8_t *out)
{
    static const uint8_t iv[SP_COSE_IV_LEN] = {9, 8, 7};
    const struct sp_grant_kek keys = kek();
    size_t len = 0;
    SP_CHECK(sp_grant_seal(g, &keys, SP_VIEW_ARRAY(iv), me, out, SP_GRANT_MAX, &len) == SP_OK);
    return len;
}

static enum sp_err open_for(struct sp_view identity, struct sp_view sealed, struct sp_grant *out)
{
    static uint8_t plain[SP_GRANT_PLAIN_MAX];
    const struct sp_grant_kek keys = kek();
    return sp_grant_open(sealed, &keys, identity, plain, out);
}

static void a_grant_opens_for_its_device_only(void)
{
    uint8_t sealed[SP_GRANT_MAX];
    struct sp_grant g = sample();
    struct sp_grant back;
    size_t len = seal(&g, sealed);
    SP_CHECK(open_for(me, sp_view(sealed, len), &back) == SP_OK);
    SP_CHECK(back.serial == g.serial && back.epoch == 3 && back.kind == SP_GRANT_RECORD_KEY);
    SP_CHECK(sp_view_equal(back.key, g.key) && sp_view_equal(back.group, g.group));
    SP_CHECK(back.has_not_after && back.not_after == g.not_after);
    SP_CHECK(open_for(SP_VIEW_LIT("dev-2"), sp_view(sealed, len), &back) == SP_ERR_UNTRUSTED);
    g.has_not_after = false;
    g.not_after = 0;
    g.kind = SP_GRANT_GROUP_KEY;
    g.key = SP_VIEW_ARRAY(key_bytes);
    len = seal(&g, sealed);
    SP_CHECK(open_for(me, sp_view(sealed, len), &back) == SP_OK);
    SP_CHECK(!back.has_not_after && back.key.len == 32);
}

static void no_changed_byte_of_a_grant_is_accepted(void)
{
    uint8_t sealed[SP_GRANT_MAX + 1];
    struct sp_grant g = sample();
    struct sp_grant back;
    size_t len = seal(&g, sealed);
    for (size_t at = 0; at < len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            sealed[at] ^= (uint8_t)(1U << bit);
            SP_CHECK(open_for(me, sp_view(sealed, len), &back) != SP_OK);
            sealed[at] ^= (uint8_t)(1U << bit);
        }
        SP_CHECK(open_for(me, sp_view(sealed, at), &back) != SP_OK);
    }
    sealed[len] = 0;
    SP_CHECK(open_for(me, sp_view(sealed, len + 1), &back) == SP_ERR_MALFORMED);
}

static void a_grant_that_cannot_be_is_not_made(void)
{
    static const uint8_t iv[SP_COSE_IV_LEN] = {0};
    const struct sp_grant_kek keys = kek();
    uint8_t out[SP_GRANT_MAX];
    size_t len = 0;
    struct sp_grant g = sample();
    g.key = sp_view(key_bytes, 15);
    SP_CHECK(sp_grant_seal(&g, &keys, SP_VIEW_ARRAY(iv), me, out, sizeof(out), &len) ==
             SP_ERR_ARGUMENT);
    g = sample();
    g.kind = SP_GRANT_GROUP_KEY;
    SP_CHECK(sp_grant_seal(&g, &keys, SP_VIEW_ARRAY(iv), me, out, sizeof(out), &len) ==
             SP_ERR_ARGUMENT);
    g = sample();
    g.epoch = 0;
    SP_CHECK(sp_grant_seal(&g, &keys, SP_VIEW_ARRAY(iv), me, out, sizeof(out), &len) ==
             SP_ERR_ARGUMENT);
    g = sample();
    SP_CHECK(sp_grant_seal(&g, &keys, sp_view(iv, 12), me, out, sizeof(out), &len) ==
             SP_ERR_ARGUMENT);
    SP_CHECK(sp_grant_seal(&g, &keys, SP_VIEW_ARRAY(iv), me, out, 40, &len) == SP_ERR_SPACE);
}

static void an_ack_comes_back_and_changed_ones_do_not(void)
{
    const struct sp_grant_kek keys = kek();
    const struct sp_grant_ack ack = {1700000000000, SP_VIEW_LIT("hall"), 3, SP_GRANT_HAD_IT, 1025};
    uint8_t sealed[SP_ACK_MAX];
    size_t len = 0;
    struct sp_grant_ack back;
    SP_CHECK(sp_ack_seal(&ack, &keys, me, sealed, sizeof(sealed), &len) == SP_OK);
    SP_CHECK(sp_ack_open(sp_view(sealed, len), &keys, me, &back) == SP_OK);
    SP_CHECK(back.serial == ack.serial && back.epoch == 3 && back.status == SP_GRANT_HAD_IT &&
             back.next_counter == 1025 && sp_view_equal(back.group, ack.group));
    SP_CHECK(sp_ack_peek(sp_view(sealed, len), &back) == SP_OK);
    SP_CHECK(sp_ack_open(sp_view(sealed, len), &keys, SP_VIEW_LIT("dev-2"), &back) ==
             SP_ERR_UNTRUSTED);
    for (size_t at = 0; at < len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            sealed[at] ^= (uint8_t)(1U << bit);
            SP_CHECK(sp_ack_open(sp_view(sealed, len), &keys, me, &back) != SP_OK);
            sealed[at] ^= (uint8_t)(1U << bit);
        }
    }
}

static const struct sp_test tests[] = {
    SP_TEST(a_grant_opens_for_its_device_only),
    SP_TEST(no_changed_byte_of_a_grant_is_accepted),
    SP_TEST(a_grant_that_cannot_be_is_not_made),
    SP_TEST(an_ack_comes_back_and_changed_ones_do_not),
};

SP_TEST_MAIN(tests)
