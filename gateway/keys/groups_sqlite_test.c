/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Groups in the registry, and who is granted what when. */
#include "gateway/keys/grants.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/log/log.h"
#include "libs/base/test.h"
#include "libs/record/grant.h"

static char folder[64];
static char key_file[96];
static struct sp_registry *reg;
static struct sp_groups *groups;
static struct sp_grants *grants;
static struct sp_grants_now now;

/* ---- what was sent ---- */

static struct {
    uint64_t tag;
    size_t len;
    uint8_t bytes[SP_GRANT_MAX];
} sent[32];
static size_t sent_count;

static void keep(void *arg, unsigned loop, uint64_t tag, struct sp_view grant)
{
    (void)arg;
    (void)loop;
    sent[sent_count % 32].tag = tag;
    sent[sent_count % 32].len = grant.len;
    sp_copy(sent[sent_count % 32].bytes, grant.ptr, grant.len);
    sent_count++;
}

static struct sp_device_secrets secrets_numbered(uint8_t n)
{
    struct sp_device_secrets s = {.psk_len = 20, .iak_len = 32};
    memset(s.psk, n, s.psk_len);
    memset(s.iak, n, s.iak_len);
    memset(s.kek, n, sizeof(s.kek));
    s.psk[0] = 'p';
    s.iak[0] = 'i';
    return s;
}

static struct sp_device device_of(const char *id, const char *role, const char *group)
{
    struct sp_device d = {.iak_algorithm = SP_ATTEST_HMAC256};
    sp_copy(d.id, id, strlen(id));
    sp_copy(d.row.role, role, strlen(role));
    sp_copy(d.group, group, strlen(group));
    return d;
}

static enum sp_err add(const char *id, uint8_t n, const char *role, const char *group)
{
    struct sp_device d = device_of(id, role, group);
    struct sp_device_secrets s = secrets_numbered(n);
    return sp_registry_device_add(reg, &d, &s);
}

static enum sp_err add_group(const char *name, uint32_t grace_s)
{
    struct sp_group g = {.mode = SP_GROUP_OPEN, .algorithm = 10, .grace_s = grace_s};
    sp_copy(g.name, name, strlen(name));
    return sp_registry_group_add(reg, &g);
}

static void reload(void)
{
    struct sp_groups *fresh = NULL;
    SP_CHECK(sp_groups_load(reg, now.wall_ms, &fresh) == SP_OK);
    sp_groups_inherit(fresh, groups, now.now_ms);
    sp_groups_destroy(groups);
    groups = fresh;
}

static void begin(void)
{
    struct sp_fault fault;
    sp_log_init("test", SP_LOG_ERROR);
    (void)snprintf(folder, sizeof(folder), "/tmp/sp-groups-test-XXXXXX");
    SP_CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(key_file, sizeof(key_file), "%s/master.key", folder);
    SP_CHECK(sp_registry_create(folder, key_file, &fault) == SP_OK);
    SP_CHECK(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault) == SP_OK);
    const struct sp_grants_ops ops = {NULL, keep};
    SP_CHECK(sp_grants_create(reg, &ops, &grants) == SP_OK);
    now = (struct sp_grants_now){1000, 1700000000000};
    sent_count = 0;
    groups = NULL;
}

static void end(void)
{
    char command[128];
    sp_grants_destroy(grants);
    sp_groups_destroy(groups);
    sp_registry_close(reg);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    SP_CHECK_INT(system(command), 0);
}

/* ---- the device's side ---- */

static struct sp_grant open_last(uint8_t n, const char *id, uint8_t *plain)
{
    struct sp_grant g = {0};
    uint8_t kek_bytes[SP_KEK_LEN];
    memset(kek_bytes, n, sizeof(kek_bytes));
    const struct sp_grant_kek kek = sp_grant_kek(kek_bytes);
    size_t last = (sent_count - 1) % 32;
    SP_CHECK(sent_count > 0 && sp_grant_open(sp_view(sent[last].bytes, sent[last].len), &kek,
                                             sp_view_str(id), plain, &g) == SP_OK);
    return g;
}

static void answer(uint64_t tag, uint8_t n, const char *id, enum sp_grant_status status,
                   uint64_t next, uint64_t mark)
{
    uint8_t plain[SP_GRANT_PLAIN_MAX];
    uint8_t bytes[SP_ACK_MAX];
    uint8_t kek_bytes[SP_KEK_LEN];
    size_t len = 0;
    struct sp_grant g = open_last(n, id, plain);
    memset(kek_bytes, n, sizeof(kek_bytes));
    const struct sp_grant_kek kek = sp_grant_kek(kek_bytes);
    const struct sp_grant_ack ack = {g.serial, g.group, g.epoch, status, next};
    SP_CHECK(sp_ack_seal(&ack, &kek, sp_view_str(id), bytes, sizeof(bytes), &len) == SP_OK);
    sp_grants_ack(grants, 0, tag, sp_view(bytes, len), mark, groups, now);
}

static void come(uint64_t tag, const char *id, const char *role, const char *group)
{
    struct sp_device d = device_of(id, role, group);
    SP_CHECK(sp_grants_attested(grants, 0, tag, &d) == SP_OK);
    sp_grants_ready(grants, 0, tag, groups, now);
}

/* ---- the registry ---- */

static void groups_have_names_numbers_and_keys_of_their_own(void)
{
    begin();
    struct sp_group g;
    SP_CHECK(add_group("hall", 600) == SP_OK);
    SP_CHECK(add_group("hall", 600) == SP_ERR_EXISTS);
    SP_CHECK(add_group("a/b", 600) == SP_ERR_ARGUMENT);
    SP_CHECK(add_group("yard", 600) == SP_OK);
    SP_CHECK(sp_registry_group_find(reg, "hall", &g) == SP_OK && g.last_epoch == 1);
    SP_CHECK(sp_registry_group_rotate(reg, "hall", false) == SP_OK);
    SP_CHECK(sp_registry_group_rotate(reg, "none", false) == SP_ERR_NOT_FOUND);
    reload();
    SP_CHECK_INT(sp_groups_count(groups), 2);
    struct sp_keys_group *hall = sp_groups_find(groups, "hall");
    SP_CHECK(hall->count == 2 && sp_groups_current(hall)->epoch == 1 &&
             sp_groups_waiting(hall)->epoch == 2);
    SP_CHECK(memcmp(hall->epochs[0].key, hall->epochs[1].key, SP_GROUP_KEY_LEN) != 0);
    SP_CHECK(sp_registry_group_activate(reg, "hall", 2) == SP_OK);
    reload();
    hall = sp_groups_find(groups, "hall");
    SP_CHECK(sp_groups_current(hall)->epoch == 2 && sp_groups_waiting(hall) == NULL);
    SP_CHECK(hall->epochs[0].until_ms != 0 && hall->epochs[1].until_ms == 0);
    now.wall_ms = hall->epochs[0].until_ms;
    reload();
    SP_CHECK_INT(sp_groups_find(groups, "hall")->count, 1);
    end();
}

static void a_group_that_comes_back_goes_on_with_its_numbers(void)
{
    begin();
    struct sp_group g;
    SP_CHECK(add_group("hall", 600) == SP_OK);
    SP_CHECK(sp_registry_group_rotate(reg, "hall", false) == SP_OK);
    SP_CHECK(add("dev", 1, "sensor", "hall") == SP_OK);
    SP_CHECK(sp_registry_group_remove(reg, "hall") == SP_ERR_DENIED);
    SP_CHECK(sp_registry_device_remove(reg, "dev") == SP_OK);
    SP_CHECK(sp_registry_group_remove(reg, "hall") == SP_OK);
    SP_CHECK(sp_registry_group_find(reg, "hall", &g) == SP_ERR_NOT_FOUND);
    SP_CHECK(add_group("hall", 600) == SP_OK);
    SP_CHECK(sp_registry_group_find(reg, "hall", &g) == SP_OK && g.last_epoch == 3);
    end();
}

static uint32_t last_epoch(void)
{
    struct sp_group g = {0};
    SP_CHECK(sp_registry_group_find(reg, "hall", &g) == SP_OK);
    return g.last_epoch;
}

static void who_leaves_or_comes_back_makes_a_new_epoch(void)
{
    begin();
    struct sp_device_secrets fresh = secrets_numbered(9);
    SP_CHECK(add_group("hall", 600) == SP_OK);
    SP_CHECK(add("mon", 1, "monitor", "nowhere") == SP_ERR_NOT_FOUND);
    SP_CHECK(add("mon", 1, "monitor", "hall") == SP_OK);
    SP_CHECK(add("dev", 2, "sensor", "hall") == SP_OK);
    SP_CHECK_INT(last_epoch(), 1);
    SP_CHECK(sp_registry_device_set_state(reg, "dev", SP_DEVICE_REVOKED) == SP_OK);
    SP_CHECK_INT(last_epoch(), 1); /* a sensor's R dies with it */
    SP_CHECK(sp_registry_device_set_state(reg, "mon", SP_DEVICE_REVOKED) == SP_OK);
    SP_CHECK_INT(last_epoch(), 2);
    SP_CHECK(sp_registry_device_rotate(reg, "dev", &fresh) == SP_OK);
    SP_CHECK_INT(last_epoch(), 3);
    SP_CHECK(sp_registry_device_remove(reg, "dev") == SP_OK);
    SP_CHECK_INT(last_epoch(), 3);
    SP_CHECK(add("dev", 3, "sensor", "hall") == SP_OK);
    SP_CHECK_INT(last_epoch(), 4);
    end();
}

static void rotation_stops_at_the_bound_and_revocation_does_not(void)
{
    begin();
    SP_CHECK(add_group("hall", 600) == SP_OK);
    for (unsigned i = 1; i < SP_EPOCHS_MAX; i++) {
        SP_CHECK(sp_registry_group_rotate(reg, "hall", false) == SP_OK);
    }
    SP_CHECK(sp_registry_group_rotate(reg, "hall", false) == SP_ERR_LIMIT);
    SP_CHECK(sp_registry_group_rotate(reg, "hall", true) == SP_OK);
    reload();
    SP_CHECK_INT(sp_groups_find(groups, "hall")->count, SP_EPOCHS_MAX);
    end();
}

/* ---- grants ---- */

static void a_sensor_gets_its_record_key_and_a_monitor_the_group_key(void)
{
    begin();
    uint8_t plain[SP_GRANT_PLAIN_MAX];
    uint8_t want[SP_RECORD_KEY_MAX];
    SP_CHECK(add_group("hall", 600) == SP_OK && add("dev", 1, "sensor", "hall") == SP_OK &&
             add("mon", 2, "monitor", "hall") == SP_OK);
    reload();
    const struct sp_group_epoch *e = sp_groups_current(sp_groups_find(groups, "hall"));
    const struct sp_crypto_key key = {.bytes = SP_VIEW_ARRAY(e->key)};
    SP_CHECK(sp_record_key(&key, SP_COSE_AES_CCM_16_64_128, SP_VIEW_LIT("dev"), want) == SP_OK);
    come(11, "dev", "sensor", "hall");
    SP_CHECK(sent_count == 1 && sent[0].tag == 11);
    struct sp_grant g = open_last(1, "dev", plain);
    SP_CHECK(g.kind == SP_GRANT_RECORD_KEY && sp_view_equal(g.key, sp_view(want, 16)));
    SP_CHECK(g.serial == 1700000000000 && g.epoch == 1);
    come(12, "mon", "monitor", "hall");
    g = open_last(2, "mon", plain);
    SP_CHECK(g.kind == SP_GRANT_GROUP_KEY && sp_view_equal(g.key, SP_VIEW_ARRAY(e->key)));
    answer(12, 2, "mon", SP_GRANT_IN_USE, 0, 0);
    SP_CHECK_INT(sent_count, 2);
    end();
}

static void an_unanswered_grant_is_sent_three_times_and_no_more(void)
{
    begin();
    uint8_t plain[SP_GRANT_PLAIN_MAX];
    SP_CHECK(add_group("hall", 600) == SP_OK && add("dev", 1, "sensor", "hall") == SP_OK);
    reload();
    come(11, "dev", "sensor", "hall");
    uint64_t serial = open_last(1, "dev", plain).serial;
    now.now_ms += SP_GRANT_WAIT_MS - 1;
    sp_grants_tick(grants, groups, now);
    SP_CHECK_INT(sent_count, 1);
    for (unsigned i = 2; i <= 3; i++) {
        now.now_ms += SP_GRANT_WAIT_MS;
        sp_grants_tick(grants, groups, now);
        SP_CHECK_INT(sent_count, i);
        SP_CHECK(open_last(1, "dev", plain).serial > serial);
        serial = open_last(1, "dev", plain).serial;
    }
    now.now_ms += SP_GRANT_WAIT_MS;
    sp_grants_tick(grants, groups, now);
    now.now_ms += SP_GRANT_WAIT_MS;
    sp_grants_tick(grants, groups, now);
    SP_CHECK_INT(sent_count, 3);
    uint64_t kept = 0;
    SP_CHECK(sp_registry_serial_read(reg, "dev", &kept) == SP_OK && kept == serial);
    end();
}

static void serials_rise_although_the_clock_goes_back(void)
{
    begin();
    uint8_t plain[SP_GRANT_PLAIN_MAX];
    SP_CHECK(add_group("hall", 600) == SP_OK && add("dev", 1, "sensor", "hall") == SP_OK);
    reload();
    come(11, "dev", "sensor", "hall");
    uint64_t serial = open_last(1, "dev", plain).serial;
    sp_grants_tick(grants, groups, now);
    sp_grants_gone(grants, 0, 11);
    now.wall_ms -= 1000000;
    come(12, "dev", "sensor", "hall");
    SP_CHECK(open_last(1, "dev", plain).serial == serial + 1);
    end();
}

static void monitors_get_a_new_epoch_first_and_sensors_after_their_answer(void)
{
    begin();
    uint8_t plain[SP_GRANT_PLAIN_MAX];
    SP_CHECK(add_group("hall", 600) == SP_OK && add("dev", 1, "sensor", "hall") == SP_OK &&
             add("mon", 2, "monitor", "hall") == SP_OK);
    reload();
    come(11, "dev", "sensor", "hall");
    answer(11, 1, "dev", SP_GRANT_IN_USE, 1, 0);
    come(12, "mon", "monitor", "hall");
    answer(12, 2, "mon", SP_GRANT_IN_USE, 0, 0);
    SP_CHECK_INT(sent_count, 2);
    SP_CHECK(sp_registry_group_rotate(reg, "hall", false) == SP_OK);
    reload();
    sp_grants_tick(grants, groups, now);
    SP_CHECK(sent_count == 3 && sent[2].tag == 12 && open_last(2, "mon", plain).epoch == 2);
    sp_grants_tick(grants, groups, now);
    reload();
    sp_grants_tick(grants, groups, now);
    SP_CHECK_INT(sent_count, 3); /* the sensor waits for the monitor's answer */
    answer(12, 2, "mon", SP_GRANT_IN_USE, 0, 0);
    sp_grants_tick(grants, groups, now);
    reload();
    sp_grants_tick(grants, groups, now);
    SP_CHECK(sent_count == 4 && sent[3].tag == 11 && open_last(1, "dev", plain).epoch == 2);
    end();
}

static void a_silent_monitor_holds_sensors_up_for_ten_seconds(void)
{
    begin();
    SP_CHECK(add_group("hall", 600) == SP_OK && add("mon", 2, "monitor", "hall") == SP_OK);
    reload();
    come(12, "mon", "monitor", "hall");
    SP_CHECK(sp_registry_group_rotate(reg, "hall", false) == SP_OK);
    reload();
    now.now_ms += SP_GRANT_WAIT_MS - 1;
    sp_grants_tick(grants, groups, now);
    reload();
    SP_CHECK(sp_groups_waiting(sp_groups_find(groups, "hall")) != NULL);
    now.now_ms += 1;
    sp_grants_tick(grants, groups, now);
    reload();
    SP_CHECK(sp_groups_waiting(sp_groups_find(groups, "hall")) == NULL);
    end();
}

static void a_counter_that_went_back_rotates_the_group(void)
{
    begin();
    SP_CHECK(add_group("hall", 600) == SP_OK && add("dev", 1, "sensor", "hall") == SP_OK);
    reload();
    come(11, "dev", "sensor", "hall");
    answer(11, 1, "dev", SP_GRANT_HAD_IT, 6, 5);
    SP_CHECK_INT(last_epoch(), 1);
    sp_grants_gone(grants, 0, 11);
    come(12, "dev", "sensor", "hall");
    answer(12, 1, "dev", SP_GRANT_IN_USE, 1, 5);
    SP_CHECK_INT(last_epoch(), 2);
    end();
}

static void a_revoked_device_is_granted_nothing_more(void)
{
    begin();
    SP_CHECK(add_group("hall", 600) == SP_OK && add("mon", 2, "monitor", "hall") == SP_OK);
    reload();
    come(12, "mon", "monitor", "hall");
    SP_CHECK_INT(sent_count, 1);
    SP_CHECK(sp_registry_device_set_state(reg, "mon", SP_DEVICE_REVOKED) == SP_OK);
    sp_grants_lost(grants, SP_VIEW_LIT("mon"));
    reload();
    now.now_ms += SP_GRANT_WAIT_MS;
    sp_grants_tick(grants, groups, now);
    sp_grants_ready(grants, 0, 12, groups, now);
    SP_CHECK_INT(sent_count, 1);
    end();
}

static void an_answer_that_does_not_open_changes_nothing(void)
{
    begin();
    SP_CHECK(add_group("hall", 600) == SP_OK && add("dev", 1, "sensor", "hall") == SP_OK);
    reload();
    come(11, "dev", "sensor", "hall");
    uint8_t plain[SP_GRANT_PLAIN_MAX];
    struct sp_grant g = open_last(1, "dev", plain);
    uint8_t wrong_kek[SP_KEK_LEN] = {7};
    uint8_t bytes[SP_ACK_MAX];
    size_t len = 0;
    const struct sp_grant_kek kek = sp_grant_kek(wrong_kek);
    const struct sp_grant_ack ack = {g.serial, g.group, g.epoch, SP_GRANT_IN_USE, 1};
    SP_CHECK(sp_ack_seal(&ack, &kek, SP_VIEW_LIT("dev"), bytes, sizeof(bytes), &len) == SP_OK);
    sp_grants_ack(grants, 0, 11, sp_view(bytes, len), 0, groups, now);
    now.now_ms += SP_GRANT_WAIT_MS;
    sp_grants_tick(grants, groups, now);
    SP_CHECK_INT(sent_count, 2);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(groups_have_names_numbers_and_keys_of_their_own),
    SP_TEST(a_group_that_comes_back_goes_on_with_its_numbers),
    SP_TEST(who_leaves_or_comes_back_makes_a_new_epoch),
    SP_TEST(rotation_stops_at_the_bound_and_revocation_does_not),
    SP_TEST(a_sensor_gets_its_record_key_and_a_monitor_the_group_key),
    SP_TEST(an_unanswered_grant_is_sent_three_times_and_no_more),
    SP_TEST(serials_rise_although_the_clock_goes_back),
    SP_TEST(monitors_get_a_new_epoch_first_and_sensors_after_their_answer),
    SP_TEST(a_silent_monitor_holds_sensors_up_for_ten_seconds),
    SP_TEST(a_counter_that_went_back_rotates_the_group),
    SP_TEST(a_revoked_device_is_granted_nothing_more),
    SP_TEST(an_answer_that_does_not_open_changes_nothing),
};

SP_TEST_MAIN(tests)
