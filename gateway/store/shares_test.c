/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/shares.h"

#include "libs/base/test.h"

#include <stdlib.h>

static struct sp_shares *make(void)
{
    struct sp_shares *s = NULL;
    if (sp_shares_create(&s) != SP_OK) {
        exit(1);
    }
    return s;
}

static void what_a_device_adds_it_can_take_away(void)
{
    struct sp_shares *s = make();
    SP_CHECK_INT(sp_shares_of(s, SP_VIEW_LIT("a")), 0);
    SP_CHECK_INT(sp_shares_add(s, SP_VIEW_LIT("a"), 10), SP_OK);
    SP_CHECK_INT(sp_shares_add(s, SP_VIEW_LIT("a"), 5), SP_OK);
    SP_CHECK_INT(sp_shares_add(s, SP_VIEW_LIT("b"), 1), SP_OK);
    SP_CHECK_INT(sp_shares_of(s, SP_VIEW_LIT("a")), 15);
    sp_shares_take(s, SP_VIEW_LIT("a"), 5);
    SP_CHECK_INT(sp_shares_of(s, SP_VIEW_LIT("a")), 10);
    sp_shares_take(s, SP_VIEW_LIT("a"), 99);
    SP_CHECK_INT(sp_shares_of(s, SP_VIEW_LIT("a")), 0);
    sp_shares_take(s, SP_VIEW_LIT("c"), 1);
    SP_CHECK_INT(sp_shares_of(s, SP_VIEW_LIT("b")), 1);
    sp_shares_clear(s);
    SP_CHECK_INT(sp_shares_of(s, SP_VIEW_LIT("b")), 0);
    sp_shares_destroy(s);
    sp_shares_destroy(NULL);
}

static void ten_thousand_devices_are_told_apart(void)
{
    struct sp_shares *s = make();
    for (uint32_t i = 0; i < 10000; i++) {
        SP_CHECK_INT(sp_shares_add(s, sp_view(&i, sizeof(i)), i + 1U), SP_OK);
    }
    uint64_t wrong = 0;
    for (uint32_t i = 0; i < 10000; i++) {
        wrong += sp_shares_of(s, sp_view(&i, sizeof(i))) != i + 1U;
        sp_shares_take(s, sp_view(&i, sizeof(i)), i + 1U);
        wrong += sp_shares_of(s, sp_view(&i, sizeof(i))) != 0;
    }
    SP_CHECK_INT(wrong, 0);
    sp_shares_destroy(s);
}

static const struct sp_test tests[] = {
    SP_TEST(what_a_device_adds_it_can_take_away),
    SP_TEST(ten_thousand_devices_are_told_apart),
};

SP_TEST_MAIN(tests)
