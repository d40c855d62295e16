/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What becomes of each kind of record, against a keyring and marks of the test. */
#include "gateway/gate/records/records.h"

#include <string.h>

#include "gateway/gate/session/home.h"
#include "libs/base/test.h"

#define NOW 1700000000000U
#define ME  SP_VIEW_LIT("dev-1")
#define AT  SP_VIEW_LIT("dt/dev-1/climate")

static struct sp_keyring ring;
static struct sp_marks marks;
static struct sp_record_in in;

static struct sp_msg_epoch epoch_of(const char *group, uint32_t epoch, enum sp_group_mode mode,
                                    uint64_t until_ms)
{
    struct sp_msg_epoch e = {
        .mode = (uint8_t)mode, .algorithm = 10, .epoch = epoch, .until_ms = until_ms};
    sp_copy(e.group, group, strlen(group));
    memset(e.key, (int)epoch, sizeof(e.key));
    return e;
}

static void begin(void)
{
    const struct sp_msg_epoch epochs[] = {
        epoch_of("hall", 3, SP_GROUP_OPEN, 0),
        epoch_of("hall", 1, SP_GROUP_OPEN, NOW),
        epoch_of("hall", 2, SP_GROUP_OPEN, NOW + 1),
        epoch_of("private", 1, SP_GROUP_END_TO_END, 0),
    };
    sp_keyring_deinit(&ring);
    sp_marks_deinit(&marks);
    marks = (struct sp_marks){.complete = true};
    SP_CHECK(sp_keyring_replace(&ring, sp_view(epochs, sizeof(epochs))) == SP_OK);
}

static void end(void)
{
    sp_keyring_deinit(&ring);
    sp_marks_deinit(&marks);
}

static struct sp_view clear_record(int64_t temperature, int64_t time)
{
    static uint8_t bytes[128];
    size_t len = 0;
    const struct sp_senml_climate climate = {.device = ME,
                                             .temperature = {temperature, 0},
                                             .humidity = {40, 0},
                                             .has_time = time != 0,
                                             .time = time};
    SP_CHECK(sp_senml_encode_climate(&climate, bytes, sizeof(bytes), &len) == SP_OK);
    return sp_view(bytes, len);
}

static struct sp_view seal_as(const char *group, uint32_t epoch, uint64_t counter,
                              struct sp_view plain)
{
    static uint8_t out[512];
    uint8_t group_key[SP_RECORD_GROUP_KEY];
    uint8_t key_bytes[SP_RECORD_KEY_MAX];
    size_t len = 0;
    memset(group_key, (int)epoch, sizeof(group_key));
    const struct sp_crypto_key from = {.bytes = SP_VIEW_ARRAY(group_key)};
    SP_CHECK(sp_record_key(&from, SP_COSE_AES_CCM_16_64_128, ME, key_bytes) == SP_OK);
    const struct sp_crypto_key key = {.bytes = sp_view(key_bytes, 16)};
    const struct sp_record_head head = {SP_COSE_AES_CCM_16_64_128, epoch, counter,
                                        sp_view_str(group)};
    SP_CHECK(sp_record_protect(&head, &key, AT, plain, out, sizeof(out), &len) == SP_OK);
    return sp_view(out, len);
}

static enum sp_record_fate check(struct sp_view payload, const char *group, enum sp_records allowed)
{
    const struct sp_record_room room = {&ring, &marks, NOW};
    const struct sp_record_sender sender = {ME, sp_view_str(group), allowed, true};
    return sp_record_check(&room, &sender, AT, payload, &in);
}

static bool refused(struct sp_view payload, const char *group, enum sp_metric kind)
{
    return check(payload, group, SP_RECORDS_SEALED) == SP_FATE_REFUSE && in.kind == kind;
}

static void each_refusal_has_its_kind(void)
{
    begin();
    struct sp_view good = clear_record(20, 0);
    SP_CHECK(refused(good, "hall", SP_M_RECORD_WEAKER));
    SP_CHECK(refused(SP_VIEW_LIT(""), "hall", SP_M_RECORD_FORM));
    SP_CHECK(refused(SP_VIEW_LIT("\xD2"), "hall", SP_M_RECORD_FORM));
    SP_CHECK(refused(SP_VIEW_LIT("\xD0\x83"), "hall", SP_M_RECORD_FORM));
    SP_CHECK(refused(seal_as("yard", 3, 1, good), "hall", SP_M_RECORD_KEY));
    SP_CHECK(refused(seal_as("hall", 3, 1, good), "", SP_M_RECORD_KEY));
    SP_CHECK(refused(seal_as("hall", 1, 1, good), "hall", SP_M_RECORD_OLD));
    SP_CHECK(refused(seal_as("hall", 9, 1, good), "hall", SP_M_RECORD_OLD));
    SP_CHECK(refused(seal_as("hall", 3, 1, SP_VIEW_LIT("?")), "hall", SP_M_RECORD_CONTENT));
    SP_CHECK(refused(seal_as("hall", 3, 1, clear_record(2001, 0)), "hall", SP_M_RECORD_RANGE));
    SP_CHECK(refused(seal_as("hall", 3, 1, clear_record(-274, 0)), "hall", SP_M_RECORD_RANGE));
    SP_CHECK(
        refused(seal_as("hall", 3, 1, clear_record(20, 99999999999)), "hall", SP_M_RECORD_TIME));
    SP_CHECK(check(seal_as("hall", 2, 1, clear_record(20, 0)), "hall", SP_RECORDS_SEALED) ==
             SP_FATE_TAKE);
    end();
}

static void a_mark_moves_only_when_it_is_settled(void)
{
    begin();
    struct sp_view record = seal_as("hall", 3, 5, clear_record(20, 0));
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_TAKE);
    SP_CHECK(in.counter == 5 && in.parsed && in.protection == SP_PROTECTION_SEALED);
    struct sp_mark *mark = in.mark;
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_TAKE);
    mark->pending = 5;
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_LATER);
    sp_mark_settle(mark, false);
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_TAKE);
    mark->pending = 5;
    sp_mark_settle(mark, true);
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_REPEAT);
    record = seal_as("hall", 3, 4, clear_record(20, 0));
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_REPEAT);
    record = seal_as("hall", 2, 1, clear_record(20, 0));
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_TAKE);
    end();
}

static void nothing_is_judged_before_keys_and_store_have_told(void)
{
    begin();
    struct sp_view record = seal_as("hall", 3, 5, clear_record(20, 0));
    marks.complete = false;
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_LATER);
    marks.complete = true;
    ring.known = false;
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_LATER);
    end();
}

static void an_end_to_end_record_is_taken_unread(void)
{
    begin();
    struct sp_view record = seal_as("private", 1, 5, SP_VIEW_LIT("whatever"));
    SP_CHECK(check(record, "private", SP_RECORDS_SEALED) == SP_FATE_TAKE);
    SP_CHECK(!in.readable && !in.parsed && in.mark == NULL && in.counter == 0);
    end();
}

static void marks_come_from_the_disk_and_go_with_their_epoch(void)
{
    begin();
    struct sp_msg_mark m = {.counter = 7, .epoch = 3, .device_len = 5, .group_len = 4};
    memcpy(m.device, "dev-1", 5);
    memcpy(m.group, "hall", 4);
    marks.complete = false;
    SP_CHECK(sp_marks_load(&marks, sp_view(&m, sizeof(m)), true, 0, 1) == SP_OK && marks.complete);
    SP_CHECK(sp_marks_load(&marks, sp_view(&m, sizeof(m) - 1), true, 0, 1) == SP_ERR_MALFORMED);
    struct sp_view record = seal_as("hall", 3, 7, clear_record(20, 0));
    SP_CHECK(check(record, "hall", SP_RECORDS_SEALED) == SP_FATE_REPEAT);
    const struct sp_msg_epoch only = epoch_of("hall", 4, SP_GROUP_OPEN, 0);
    SP_CHECK(sp_keyring_replace(&ring, sp_view(&only, sizeof(only))) == SP_OK);
    sp_marks_prune(&marks, &ring, NOW);
    SP_CHECK(sp_marks_find(&marks, ME, SP_VIEW_LIT("hall"), 3) == NULL);
    end();
}

static void a_keyring_that_makes_no_sense_changes_nothing(void)
{
    begin();
    struct sp_msg_epoch bad = epoch_of("hall", 4, SP_GROUP_OPEN, 0);
    bad.algorithm = 30;
    SP_CHECK(sp_keyring_replace(&ring, sp_view(&bad, sizeof(bad))) == SP_ERR_MALFORMED);
    bad = epoch_of("a/b", 4, SP_GROUP_OPEN, 0);
    SP_CHECK(sp_keyring_replace(&ring, sp_view(&bad, sizeof(bad))) == SP_ERR_MALFORMED);
    SP_CHECK(sp_keyring_replace(&ring, sp_view(&bad, 3)) == SP_ERR_MALFORMED);
    SP_CHECK(sp_keyring_find(&ring, SP_VIEW_LIT("hall"), 3, NOW) != NULL);
    SP_CHECK(sp_keyring_find(&ring, SP_VIEW_LIT("hal"), 3, NOW) == NULL);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(each_refusal_has_its_kind),
    SP_TEST(a_mark_moves_only_when_it_is_settled),
    SP_TEST(nothing_is_judged_before_keys_and_store_have_told),
    SP_TEST(an_end_to_end_record_is_taken_unread),
    SP_TEST(marks_come_from_the_disk_and_go_with_their_epoch),
    SP_TEST(a_keyring_that_makes_no_sense_changes_nothing),
};

SP_TEST_MAIN(tests)
