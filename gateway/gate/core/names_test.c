/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/names.h"
#include "libs/base/test.h"

static void a_name_is_kept_once(void)
{
    struct sp_table names = {.count = 0};
    struct sp_name *one = sp_name_hold(&names, SP_VIEW_LIT("cold-chain"));
    struct sp_name *two = sp_name_hold(&names, SP_VIEW_LIT("cold-chain"));
    struct sp_name *other = sp_name_hold(&names, SP_VIEW_LIT("cold"));
    SP_CHECK(one != NULL && one == two && other != one);
    SP_CHECK_INT(names.count, 2);
    SP_CHECK(sp_view_equal(sp_name_text(one), SP_VIEW_LIT("cold-chain")));
    SP_CHECK(sp_view_equal(sp_name_text(other), SP_VIEW_LIT("cold")));
    sp_name_release(&names, other);
    sp_name_release(&names, two);
    SP_CHECK_INT(names.count, 1);
    sp_name_release(&names, one);
    SP_CHECK_INT(names.count, 0);
    sp_table_deinit(&names);
}

static void no_name_is_an_empty_one(void)
{
    struct sp_table names = {.count = 0};
    static const uint8_t longest[256];
    SP_CHECK(sp_name_hold(&names, (struct sp_view){NULL, 0}) == NULL);
    SP_CHECK(sp_name_hold(&names, SP_VIEW_ARRAY(longest)) == NULL);
    SP_CHECK_INT(sp_name_text(NULL).len, 0);
    sp_name_release(&names, NULL);
    SP_CHECK_INT(names.count, 0);
}

static const struct sp_test tests[] = {
    SP_TEST(a_name_is_kept_once),
    SP_TEST(no_name_is_an_empty_one),
};
SP_TEST_MAIN(tests)
