/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/slab/slab.h"

#include <stdint.h>
#include <string.h>

#include "libs/base/test.h"

#define COUNT 5000

static char *items[COUNT];

static void things_do_not_overlap_and_come_zeroed(void)
{
    static struct sp_slab slab = SP_SLAB_INIT(100);
    for (int round = 0; round < 3; round++) {
        for (int i = 0; i < COUNT; i++) {
            items[i] = sp_slab_take(&slab);
            SP_CHECK(items[i] != NULL && (uintptr_t)items[i] % sizeof(void *) == 0);
            SP_CHECK(items[i][0] == 0 && items[i][99] == 0);
            memset(items[i], i % 251 + 1, 100);
        }
        for (int i = 0; i < COUNT; i++) {
            SP_CHECK_INT((uint8_t)items[i][0], i % 251 + 1);
            SP_CHECK_INT((uint8_t)items[i][99], i % 251 + 1);
        }
        /* Every order of giving back: from the front, from the back, from the middle. */
        for (int i = 0; i < COUNT; i++) {
            int at = round == 0 ? i : round == 1 ? COUNT - 1 - i : i * 7 % COUNT;
            sp_slab_give(&slab, items[at]);
        }
    }
}

static void what_was_given_back_is_used_again(void)
{
    static struct sp_slab slab = SP_SLAB_INIT(4000);
    for (int i = 0; i < 100; i++) {
        items[i] = sp_slab_take(&slab);
    }
    for (int i = 0; i < 100; i += 2) {
        sp_slab_give(&slab, items[i]);
        items[i] = sp_slab_take(&slab);
        SP_CHECK(items[i] != NULL && items[i] != items[i + 1]);
    }
    for (int i = 0; i < 100; i++) {
        sp_slab_give(&slab, items[i]);
    }
    sp_slab_give(&slab, NULL);
}

static void what_is_out_outlives_a_trim(void)
{
    static struct sp_slab used = SP_SLAB_INIT(64);
    static struct sp_slab empty = SP_SLAB_INIT(64);
    char *kept = sp_slab_take(&used);
    sp_slab_give(&empty, sp_slab_take(&empty));
    memset(kept, 7, 64);
    for (int round = 0; round < 3; round++) {
        sp_slab_trim();
        SP_CHECK_INT(kept[63], 7);
        char *fresh = sp_slab_take(&empty);
        SP_CHECK(fresh != NULL && fresh[63] == 0);
        memset(fresh, 9, 64);
        sp_slab_give(&empty, fresh);
    }
    sp_slab_give(&used, kept);
}

static void things_of_every_size_come_from_where_they_belong(void)
{
    static struct sp_slabs slabs = SP_SLABS_INIT;
    for (size_t size = 1; size < 400; size++) {
        items[size] = sp_slabs_take(&slabs, size);
        SP_CHECK(items[size] != NULL);
        memset(items[size], (int)(size % 251), size);
    }
    for (size_t size = 1; size < 400; size++) {
        SP_CHECK_INT((uint8_t)items[size][size - 1], size % 251);
        sp_slabs_give(&slabs, items[size], size);
    }
    for (size_t size = 500; size <= SP_SLABS_MAX; size += size < 65000 ? 499 : 1) {
        items[0] = sp_slabs_take(&slabs, size);
        items[1] = sp_slabs_take(&slabs, size);
        SP_CHECK(items[0] != NULL && items[1] != NULL);
        memset(items[0], 1, size);
        memset(items[1], 2, size);
        SP_CHECK(items[0][0] == 1 && items[0][size - 1] == 1);
        sp_slabs_give(&slabs, items[0], size);
        sp_slabs_give(&slabs, items[1], size);
    }
    SP_CHECK(sp_slabs_take(&slabs, SP_SLABS_MAX + 1) == NULL);
}

static const struct sp_test tests[] = {
    SP_TEST(things_do_not_overlap_and_come_zeroed),
    SP_TEST(what_was_given_back_is_used_again),
    SP_TEST(what_is_out_outlives_a_trim),
    SP_TEST(things_of_every_size_come_from_where_they_belong),
};

SP_TEST_MAIN(tests)
