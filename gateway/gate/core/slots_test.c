/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/core/slots.h"

#include "gateway/slab/slab.h"
#include "libs/base/test.h"

#include <stdlib.h>

#define THINGS 200

static struct sp_slots slots;
static struct sp_slab slab = SP_SLAB_INIT(8);
static void *things[THINGS];

static void a_tag_finds_its_thing_until_that_is_gone(void)
{
    sp_slot_tag tags[THINGS] = {0}; /* 0: not in */
    sp_slot_tag old[THINGS] = {0};
    srand(3);
    for (int i = 0; i < THINGS; i++) {
        things[i] = sp_slab_take(&slab);
    }
    for (int step = 0; step < 20000; step++) {
        int i = rand() % THINGS;
        if (tags[i] == 0) {
            SP_CHECK(sp_slots_put(&slots, things[i], &tags[i]) == SP_OK);
            SP_CHECK(tags[i] != 0 && tags[i] != old[i]);
        } else {
            sp_slots_remove(&slots, tags[i]);
            old[i] = tags[i];
            tags[i] = 0;
        }
        int j = rand() % THINGS;
        SP_CHECK(sp_slots_find(&slots, tags[j]) == (tags[j] != 0 ? things[j] : NULL));
        SP_CHECK(old[j] == 0 || sp_slots_find(&slots, old[j]) == NULL);
        sp_slots_remove(&slots, old[j]); /* changes nothing */
    }
    SP_CHECK(slots.fresh <= THINGS);
    uint32_t index = 0;
    int seen = 0;
    const void *thing;
    while ((thing = sp_slots_each(&slots, &index)) != NULL) {
        sp_slot_tag tag = sp_slots_tag(&slots, index - 1);
        SP_CHECK(sp_slots_find(&slots, tag) == thing);
        seen++;
    }
    for (int i = 0; i < THINGS; i++) {
        seen -= tags[i] != 0;
    }
    SP_CHECK_INT(seen, 0);
    sp_slots_deinit(&slots);
}

static void a_number_that_was_used_up_begins_anew(void)
{
    sp_slot_tag first;
    sp_slot_tag last;
    SP_CHECK(sp_slots_put(&slots, things[0], &first) == SP_OK);
    slots.generations[0] = UINT32_MAX;
    last = (uint64_t)UINT32_MAX << 32;
    SP_CHECK(sp_slots_find(&slots, last) == things[0]);
    sp_slots_remove(&slots, last);
    SP_CHECK(sp_slots_find(&slots, last) == NULL && sp_slots_find(&slots, 0) == NULL);
    SP_CHECK(sp_slots_put(&slots, things[1], &last) == SP_OK);
    SP_CHECK(last == first && sp_slots_find(&slots, last) == things[1]);
    sp_slots_deinit(&slots);
}

static const struct sp_test tests[] = {
    SP_TEST(a_tag_finds_its_thing_until_that_is_gone),
    SP_TEST(a_number_that_was_used_up_begins_anew),
};
SP_TEST_MAIN(tests)
