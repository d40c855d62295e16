/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/its/its_core.h"

#include "libs/base/test.h"

#include <string.h>

#define NS     (-1)
#define CRYPTO 257

/* A medium that loses power: after `budget` bytes were written nothing gets through any more. */
struct flaky {
    uint8_t bytes[SP_ITS_MEDIUM_SIZE];
    size_t budget;
    bool dead;
};

static struct flaky medium;
static struct flaky saved;
static struct sp_its its;

static enum sp_err flaky_read(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    const struct flaky *m = ctx;
    sp_copy(out, m->bytes + offset, len);
    return SP_OK;
}

static enum sp_err flaky_write(void *ctx, size_t offset, struct sp_view bytes)
{
    struct flaky *m = ctx;
    struct sp_view now = sp_view_first(bytes, m->dead ? 0 : m->budget);
    sp_copy(m->bytes + offset, now.ptr, now.len);
    m->budget -= now.len;
    m->dead = m->dead || now.len < bytes.len;
    return m->dead ? SP_ERR_IO : SP_OK;
}

static enum sp_err flaky_sync(void *ctx)
{
    const struct flaky *m = ctx;
    return m->dead ? SP_ERR_IO : SP_OK;
}

static psa_status_t open_store(void)
{
    struct sp_its_medium seam = {
        .ctx = &medium, .read = flaky_read, .write = flaky_write, .sync = flaky_sync};
    medium.budget = SIZE_MAX;
    medium.dead = false;
    return sp_its_open(&its, &seam);
}

static void fresh(uint8_t fill)
{
    memset(medium.bytes, fill, sizeof(medium.bytes));
    SP_CHECK_INT(open_store(), PSA_SUCCESS);
}

static psa_status_t put(int32_t owner, psa_storage_uid_t uid, const char *text)
{
    return sp_its_set(&its, owner, uid, sp_view_str(text), PSA_STORAGE_FLAG_NONE);
}

static bool holds(int32_t owner, psa_storage_uid_t uid, const char *text)
{
    struct sp_view data;
    return sp_its_get(&its, owner, uid, 0, SP_ITS_ASSET_MAX, &data) == PSA_SUCCESS &&
           sp_view_equal(data, sp_view_str(text));
}

static bool missing(int32_t owner, psa_storage_uid_t uid)
{
    struct sp_view data;
    return sp_its_get(&its, owner, uid, 0, 1, &data) == PSA_ERROR_DOES_NOT_EXIST;
}

static void a_new_medium_is_an_empty_store(void)
{
    fresh(0x00);
    SP_CHECK(missing(NS, 1));
    fresh(0xFF);
    SP_CHECK(missing(NS, 1));
}

static void what_was_set_is_there_after_a_restart(void)
{
    fresh(0xFF);
    SP_CHECK_INT(put(NS, 1, "one"), PSA_SUCCESS);
    SP_CHECK_INT(put(NS, 2, ""), PSA_SUCCESS);
    SP_CHECK_INT(put(NS, 1, "another, longer"), PSA_SUCCESS);
    SP_CHECK_INT(open_store(), PSA_SUCCESS);
    SP_CHECK(holds(NS, 1, "another, longer"));
    SP_CHECK(holds(NS, 2, ""));
    SP_CHECK(missing(NS, 3));
}

static void an_owner_does_not_see_another_ones_assets(void)
{
    fresh(0xFF);
    SP_CHECK_INT(put(CRYPTO, 1, "key"), PSA_SUCCESS);
    SP_CHECK(missing(NS, 1));
    SP_CHECK_INT(sp_its_remove(&its, NS, 1), PSA_ERROR_DOES_NOT_EXIST);
    SP_CHECK_INT(put(NS, 1, "mine"), PSA_SUCCESS);
    SP_CHECK(holds(CRYPTO, 1, "key"));
}

static void a_write_once_asset_stays(void)
{
    fresh(0xFF);
    SP_CHECK_INT(sp_its_set(&its, NS, 1, SP_VIEW_LIT("x"), PSA_STORAGE_FLAG_WRITE_ONCE),
                 PSA_SUCCESS);
    SP_CHECK_INT(put(NS, 1, "y"), PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(sp_its_remove(&its, NS, 1), PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(open_store(), PSA_SUCCESS);
    SP_CHECK(holds(NS, 1, "x"));
    struct psa_storage_info_t info;
    SP_CHECK_INT(sp_its_get_info(&its, NS, 1, &info), PSA_SUCCESS);
    SP_CHECK(info.size == 1 && info.flags == PSA_STORAGE_FLAG_WRITE_ONCE);
}

static void reading_keeps_to_the_asset(void)
{
    struct sp_view data;
    fresh(0xFF);
    SP_CHECK_INT(put(NS, 1, "abcdef"), PSA_SUCCESS);
    SP_CHECK_INT(sp_its_get(&its, NS, 1, 4, 10, &data), PSA_SUCCESS);
    SP_CHECK(sp_view_equal(data, SP_VIEW_LIT("ef")));
    SP_CHECK_INT(sp_its_get(&its, NS, 1, 6, 10, &data), PSA_SUCCESS);
    SP_CHECK_INT(data.len, 0);
    SP_CHECK_INT(sp_its_get(&its, NS, 1, 7, 0, &data), PSA_ERROR_INVALID_ARGUMENT);
    SP_CHECK_INT(sp_its_get(&its, NS, 0, 0, 1, &data), PSA_ERROR_INVALID_ARGUMENT);
    SP_CHECK_INT(put(NS, 0, "x"), PSA_ERROR_INVALID_ARGUMENT);
    SP_CHECK_INT(sp_its_set(&its, NS, 2, SP_VIEW_LIT("x"), 8), PSA_ERROR_NOT_SUPPORTED);
}

static void a_full_store_refuses_and_keeps_what_it_has(void)
{
    static uint8_t big[SP_ITS_ASSET_MAX + 1];
    fresh(0xFF);
    SP_CHECK_INT(sp_its_set(&its, NS, 1, SP_VIEW_ARRAY(big), 0), PSA_ERROR_INSUFFICIENT_STORAGE);
    psa_storage_uid_t uid = 1;
    while (sp_its_set(&its, NS, uid, sp_view(big, SP_ITS_ASSET_MAX), 0) == PSA_SUCCESS) {
        uid++;
    }
    SP_CHECK_INT(uid, 8); /* 8172 bytes / 1044 */
    SP_CHECK_INT(put(NS, 1, "smaller"), PSA_SUCCESS);
    SP_CHECK_INT(open_store(), PSA_SUCCESS);
    SP_CHECK(holds(NS, 1, "smaller"));
    SP_CHECK(missing(NS, uid));
}

/* What a test of a power cut starts from: two assets, in the bank that `rounds` leaves current. */
static void prepare(unsigned rounds)
{
    fresh(0xFF);
    for (unsigned i = 0; i < rounds; i++) {
        SP_CHECK_INT(put(NS, 9, i % 2 == 0 ? "even" : "odd"), PSA_SUCCESS);
    }
    SP_CHECK_INT(put(NS, 1, "old value"), PSA_SUCCESS);
    SP_CHECK_INT(put(CRYPTO, 1, "a key"), PSA_SUCCESS);
    saved = medium;
}

static void a_cut_at_any_byte_of_a_change_leaves_old_or_new(void)
{
    for (unsigned rounds = 0; rounds < 2; rounds++) {
        size_t old = 0;
        size_t cut = 0;
        prepare(rounds);
        for (bool whole = false; !whole; cut++) {
            medium = saved;
            SP_CHECK_INT(open_store(), PSA_SUCCESS);
            medium.budget = cut;
            psa_status_t status = put(NS, 1, "the new value");
            whole = !medium.dead;
            SP_CHECK((status == PSA_SUCCESS) == whole);
            SP_CHECK_INT(open_store(), PSA_SUCCESS);
            SP_CHECK(holds(NS, 1, whole ? "the new value" : "old value"));
            SP_CHECK(holds(CRYPTO, 1, "a key"));
            SP_CHECK_INT(put(NS, 3, "it still works"), PSA_SUCCESS);
            old += !whole;
        }
        SP_CHECK(old >= 78); /* 58 bytes of content, 20 of header: cut at each of them */
    }
}

static void a_cut_at_any_byte_of_a_removal_leaves_it_or_not(void)
{
    prepare(0);
    size_t cut = 0;
    for (bool whole = false; !whole; cut++) {
        medium = saved;
        SP_CHECK_INT(open_store(), PSA_SUCCESS);
        medium.budget = cut;
        (void)sp_its_remove(&its, NS, 1);
        whole = !medium.dead;
        SP_CHECK_INT(open_store(), PSA_SUCCESS);
        SP_CHECK(holds(NS, 1, "old value") || missing(NS, 1));
        SP_CHECK(!whole || missing(NS, 1));
        SP_CHECK(holds(CRYPTO, 1, "a key"));
    }
}

static void the_very_first_change_can_be_cut_too(void)
{
    size_t cut = 0;
    for (bool whole = false; !whole; cut++) {
        fresh(0x00);
        medium.budget = cut;
        (void)put(NS, 1, "first");
        whole = !medium.dead;
        SP_CHECK_INT(open_store(), PSA_SUCCESS);
        SP_CHECK(whole ? holds(NS, 1, "first") : missing(NS, 1));
    }
    SP_CHECK(cut > 40);
}

static void a_failed_change_is_not_seen_without_a_restart_either(void)
{
    prepare(0);
    medium.budget = 10;
    SP_CHECK_INT(put(NS, 1, "new"), PSA_ERROR_STORAGE_FAILURE);
    SP_CHECK(holds(NS, 1, "old value"));
}

static void a_removed_asset_is_in_neither_bank(void)
{
    fresh(0xFF);
    SP_CHECK_INT(put(CRYPTO, 1, "S3CRETKEY"), PSA_SUCCESS);
    SP_CHECK_INT(put(CRYPTO, 2, "other"), PSA_SUCCESS);
    SP_CHECK_INT(sp_its_remove(&its, CRYPTO, 1), PSA_SUCCESS);
    SP_CHECK(memmem(medium.bytes, sizeof(medium.bytes), "S3CRETKEY", 9) == NULL);
}

static void damage_is_reported_and_nothing_older_is_used(void)
{
    prepare(0);
    /* Two changes: generation 2 is in bank 1. Damage each byte of its content. */
    for (size_t at = SP_ITS_BANK_SIZE + SP_ITS_HEADER_SIZE;
         at < SP_ITS_BANK_SIZE + SP_ITS_HEADER_SIZE + 54; at++) {
        medium = saved;
        medium.bytes[at] ^= 0x10;
        SP_CHECK_INT(open_store(), PSA_ERROR_DATA_CORRUPT);
        SP_CHECK_INT(put(NS, 1, "x"), PSA_ERROR_STORAGE_FAILURE);
        struct sp_view data;
        SP_CHECK_INT(sp_its_get(&its, NS, 1, 0, 1, &data), PSA_ERROR_STORAGE_FAILURE);
    }
}

static void two_damaged_headers_are_not_a_new_medium(void)
{
    prepare(0);
    medium.bytes[8] ^= 1;
    medium.bytes[SP_ITS_BANK_SIZE + 8] ^= 1;
    SP_CHECK_INT(open_store(), PSA_ERROR_DATA_CORRUPT);
}

static void a_bank_that_has_an_asset_twice_is_damage(void)
{
    const size_t entry = 20 + 1; /* owner 4, uid 8, flags 4, size 4, one byte of data */
    const size_t uid_low = entry + 4 + 7;
    fresh(0xFF);
    SP_CHECK_INT(put(NS, 1, "a"), PSA_SUCCESS);
    SP_CHECK_INT(put(NS, 2, "b"), PSA_SUCCESS);
    SP_CHECK_INT(its.image[uid_low], 2);
    its.image[uid_low] = 1; /* the next change writes it with checksums that hold */
    SP_CHECK_INT(put(NS, 3, "c"), PSA_SUCCESS);
    SP_CHECK_INT(open_store(), PSA_ERROR_DATA_CORRUPT);
}

static const struct sp_test tests[] = {
    SP_TEST(a_new_medium_is_an_empty_store),
    SP_TEST(what_was_set_is_there_after_a_restart),
    SP_TEST(an_owner_does_not_see_another_ones_assets),
    SP_TEST(a_write_once_asset_stays),
    SP_TEST(reading_keeps_to_the_asset),
    SP_TEST(a_full_store_refuses_and_keeps_what_it_has),
    SP_TEST(a_cut_at_any_byte_of_a_change_leaves_old_or_new),
    SP_TEST(a_cut_at_any_byte_of_a_removal_leaves_it_or_not),
    SP_TEST(the_very_first_change_can_be_cut_too),
    SP_TEST(a_failed_change_is_not_seen_without_a_restart_either),
    SP_TEST(a_removed_asset_is_in_neither_bank),
    SP_TEST(damage_is_reported_and_nothing_older_is_used),
    SP_TEST(two_damaged_headers_are_not_a_new_medium),
    SP_TEST(a_bank_that_has_an_asset_twice_is_damage),
};
SP_TEST_MAIN(tests)
