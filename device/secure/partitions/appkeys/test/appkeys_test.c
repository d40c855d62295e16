/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* App keys through the PSA APIs: grants, counters over restarts and cuts, sealing, opening, and who may do what. */
#include "device/secure/partitions/appkeys/appkeys_service.h"
#include "device/secure/partitions/crypto/crypto_keys.h"
#include "device/secure/secure.h"
#include "device/secure/spm/spm.h"
#include "libs/base/test.h"
#include "libs/senml/senml.h"
#include "psa/client.h"
#include "psa_manifest/pid.h"
#include "psa_manifest/sid.h"
#include "sallyport/appkeys.h"
#include "sallyport/sensor.h"

#include <psa/crypto.h>
#include <string.h>

static uint8_t medium[SP_ITS_MEDIUM_SIZE];
static int writes_left; /* then the medium fails, as in a power cut */
static const struct sp_boot_record boot = {.lifecycle = 0x3000};

static enum sp_err ram_read(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    (void)ctx;
    memcpy(out, medium + offset, len);
    return SP_OK;
}

static enum sp_err ram_write(void *ctx, size_t offset, struct sp_view bytes)
{
    (void)ctx;
    if (writes_left == 0) {
        return SP_ERR_IO;
    }
    writes_left--;
    sp_copy(medium + offset, bytes.ptr, bytes.len);
    return SP_OK;
}

static enum sp_err ram_sync(void *ctx)
{
    (void)ctx;
    return writes_left == 0 ? SP_ERR_IO : SP_OK;
}

static enum sp_err read_sensor(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    *out = (struct sp_sensor_reading){23500, 41000};
    return SP_OK;
}

static uint8_t kek_bytes[SP_GRANT_KEK_LEN];
static uint8_t group_key[SP_RECORD_GROUP_KEY];
static const uint8_t psk[32] = {1, 2, 3};
static const uint8_t iak[32] = {4, 5, 6};
#define ME SP_VIEW_LIT("dev-1")

static void start(void)
{
    const struct sp_secure_platform platform = {
        .storage = {.read = ram_read, .write = ram_write, .sync = ram_sync},
        .sensor = {.read = read_sensor},
        .boot = &boot,
    };
    writes_left = 1000000;
    mbedtls_psa_crypto_free(); /* a restart */
    SP_CHECK_INT(sp_secure_start(&platform), PSA_SUCCESS);
}

static void provision(struct sp_view group, const struct sp_appkeys_preshared *keys, size_t count)
{
    for (size_t i = 0; i < sizeof(kek_bytes); i++) {
        kek_bytes[i] = (uint8_t)(i + 1);
    }
    for (size_t i = 0; i < sizeof(group_key); i++) {
        group_key[i] = (uint8_t)i;
    }
    const struct sp_secure_secrets secrets = {
        .device = ME,
        .psk = SP_VIEW_ARRAY(psk),
        .iak = SP_VIEW_ARRAY(iak),
        .iak_algorithm = SP_ATTEST_HMAC256,
        .app = {.kek = SP_VIEW_ARRAY(kek_bytes), .group = group, .keys = keys, .key_count = count},
    };
    SP_CHECK_INT(sp_secure_provision(&secrets, true), PSA_SUCCESS);
}

static void begin(struct sp_view group)
{
    memset(medium, 0xFF, sizeof(medium));
    start();
    provision(group, NULL, 0);
}

static struct sp_view record_key(struct sp_view device)
{
    static uint8_t key[SP_RECORD_KEY_MAX];
    const struct sp_crypto_key from = {.bytes = SP_VIEW_ARRAY(group_key)};
    SP_CHECK(sp_record_key(&from, SP_COSE_AES_CCM_16_64_128, device, key) == SP_OK);
    return sp_view(key, 16);
}

static struct sp_grant grant_of(uint64_t serial, uint32_t epoch, bool group)
{
    return (struct sp_grant){.serial = serial,
                             .group = SP_VIEW_LIT("hall"),
                             .epoch = epoch,
                             .algorithm = SP_COSE_AES_CCM_16_64_128,
                             .kind = group ? SP_GRANT_GROUP_KEY : SP_GRANT_RECORD_KEY,
                             .key = group ? SP_VIEW_ARRAY(group_key) : record_key(ME)};
}

static psa_status_t grant(const struct sp_grant *g, struct sp_grant_ack *ack)
{
    static const uint8_t iv[SP_COSE_IV_LEN] = {1};
    static uint8_t answer[SP_APPKEYS_ACK_MAX];
    uint8_t bytes[SP_GRANT_MAX];
    size_t len = 0;
    const struct sp_grant_kek kek = sp_grant_kek(kek_bytes);
    SP_CHECK(sp_grant_seal(g, &kek, SP_VIEW_ARRAY(iv), ME, bytes, sizeof(bytes), &len) == SP_OK);
    psa_status_t status = sp_appkeys_grant(bytes, len, answer, sizeof(answer), &len);
    if (status == PSA_SUCCESS) {
        SP_CHECK(sp_ack_open(sp_view(answer, len), &kek, ME, ack) == SP_OK);
        SP_CHECK(ack->serial == g->serial && ack->epoch == g->epoch);
    }
    return status;
}

/* The counter of a record that is sealed now; 0: none was. */
static uint64_t counter_now(uint32_t epoch)
{
    struct sp_sensor_record record;
    struct sp_record_head head;
    struct sp_senml_record parsed;
    uint8_t plain[SP_RECORD_PLAIN_MAX];
    size_t len = 0;
    if (sp_sensor_read_record(0, &record) != PSA_SUCCESS) {
        return 0;
    }
    const struct sp_crypto_key key = {.bytes = record_key(ME)};
    SP_CHECK(sp_record_unprotect(
                 sp_view(record.payload, record.payload_len), SP_COSE_AES_CCM_16_64_128, &key,
                 sp_view(record.topic, record.topic_len), &head, plain, &len) == SP_OK);
    SP_CHECK(sp_senml_parse(sp_view(plain, len), ME, &parsed) == SP_OK);
    SP_CHECK_INT(head.epoch, epoch);
    return head.counter;
}

static void a_device_in_a_group_seals_and_never_speaks_clearly(void)
{
    struct sp_sensor_record record;
    struct sp_grant_ack ack;
    begin(SP_VIEW_LIT("hall"));
    SP_CHECK_INT(sp_sensor_read_record(0, &record), PSA_ERROR_DOES_NOT_EXIST);
    struct sp_grant g = grant_of(100, 1, false);
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    SP_CHECK(ack.status == SP_GRANT_IN_USE && ack.next_counter == 1);
    SP_CHECK(counter_now(1) == 1 && counter_now(1) == 2);
}

static void a_device_in_no_group_speaks_clearly(void)
{
    struct sp_sensor_record record;
    struct sp_senml_record parsed;
    begin((struct sp_view){NULL, 0});
    SP_CHECK_INT(sp_sensor_read_record(0, &record), PSA_SUCCESS);
    SP_CHECK(sp_senml_parse(sp_view(record.payload, record.payload_len), ME, &parsed) == SP_OK);
}

static void a_serial_is_obeyed_once(void)
{
    struct sp_grant_ack ack;
    begin(SP_VIEW_LIT("hall"));
    struct sp_grant g = grant_of(100, 1, false);
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    SP_CHECK_INT(ack.status, SP_GRANT_STALE);
    start();
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    SP_CHECK_INT(ack.status, SP_GRANT_STALE);
    g.serial = 101;
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    SP_CHECK_INT(ack.status, SP_GRANT_HAD_IT);
    uint8_t other[16] = {9};
    g.serial = 102;
    g.key = SP_VIEW_ARRAY(other);
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    SP_CHECK_INT(ack.status, SP_GRANT_DIFFERS);
    SP_CHECK(counter_now(1) > 0); /* still under the key that it had */
}

static void the_newest_epoch_is_used_and_the_oldest_makes_room(void)
{
    struct sp_grant_ack ack;
    begin(SP_VIEW_LIT("hall"));
    for (uint32_t epoch = 1; epoch <= SP_APPKEYS_SLOTS + 2; epoch++) {
        struct sp_grant g = grant_of(100 + epoch, epoch, false);
        SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
        SP_CHECK_INT(ack.status, SP_GRANT_IN_USE);
        SP_CHECK(counter_now(epoch) == 1);
    }
    struct sp_grant old = grant_of(999, 1, false);
    SP_CHECK_INT(grant(&old, &ack), PSA_SUCCESS);
    SP_CHECK_INT(ack.status, SP_GRANT_NO_ROOM);
}

static void a_counter_never_repeats_over_restarts_and_cuts(void)
{
    struct sp_grant_ack ack;
    uint64_t last = 0;
    begin(SP_VIEW_LIT("hall"));
    struct sp_grant g = grant_of(100, 1, false);
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    for (int round = 0; round < 200; round++) {
        writes_left = round % 7; /* the medium fails somewhere in this life */
        for (int n = 0; n < (round % 5) * 300; n++) {
            uint64_t counter = counter_now(1);
            SP_CHECK(counter == 0 || counter > last);
            last = counter > last ? counter : last;
        }
        start();
        uint64_t counter = counter_now(1);
        SP_CHECK(counter > last);
        last = counter;
    }
}

static void nothing_is_sealed_when_the_counter_cannot_be_kept(void)
{
    struct sp_grant_ack ack;
    struct sp_sensor_record record;
    begin(SP_VIEW_LIT("hall"));
    struct sp_grant g = grant_of(100, 1, false);
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    writes_left = 0;
    SP_CHECK_INT(sp_sensor_read_record(0, &record), PSA_ERROR_STORAGE_FAILURE);
    writes_left = 1000;
    SP_CHECK(counter_now(1) == 1);
    writes_left = 0;
    for (uint64_t n = 2; n <= SP_APPKEYS_RESERVE; n++) {
        SP_CHECK(counter_now(1) == n); /* within what was reserved */
    }
    SP_CHECK_INT(sp_sensor_read_record(0, &record), PSA_ERROR_STORAGE_FAILURE);
}

static void a_bundle_with_a_known_key_does_not_reset_its_counter(void)
{
    begin(SP_VIEW_LIT("hall"));
    const struct sp_appkeys_preshared key = {1, SP_COSE_AES_CCM_16_64_128, SP_GRANT_RECORD_KEY,
                                             record_key(ME)};
    provision(SP_VIEW_LIT("hall"), &key, 1);
    SP_CHECK(counter_now(1) == 1 && counter_now(1) == 2);
    provision(SP_VIEW_LIT("hall"), &key, 1);
    SP_CHECK(counter_now(1) == 3);
    start();
    provision(SP_VIEW_LIT("hall"), &key, 1);
    SP_CHECK(counter_now(1) == 1 + SP_APPKEYS_RESERVE);
}

static void a_monitor_opens_what_others_sealed_once(void)
{
    static const uint8_t plain[] = "anything";
    static struct sp_appkeys_record out;
    const struct sp_view topic = SP_VIEW_LIT("dt/dev-7/climate");
    struct sp_grant_ack ack;
    uint8_t bytes[256];
    size_t len = 0;
    begin(SP_VIEW_LIT("hall"));
    struct sp_grant g = grant_of(100, 2, true);
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    SP_CHECK_INT(ack.next_counter, 0);
    const struct sp_crypto_key key = {.bytes = record_key(SP_VIEW_LIT("dev-7"))};
    struct sp_record_head head = {SP_COSE_AES_CCM_16_64_128, 2, 5, SP_VIEW_LIT("hall")};
    SP_CHECK(sp_record_protect(&head, &key, topic, SP_VIEW_ARRAY(plain), bytes, sizeof(bytes),
                               &len) == SP_OK);
    SP_CHECK_INT(sp_appkeys_open(topic.ptr, topic.len, bytes, len, &out), PSA_SUCCESS);
    SP_CHECK(out.counter == 5 && out.epoch == 2 && out.sealed &&
             sp_view_equal(sp_view(out.plain, out.len), SP_VIEW_ARRAY(plain)));
    SP_CHECK_INT(sp_appkeys_open(topic.ptr, topic.len, bytes, len, &out), PSA_ERROR_ALREADY_EXISTS);
    bytes[len - 1] ^= 1;
    SP_CHECK_INT(sp_appkeys_open(topic.ptr, topic.len, bytes, len, &out),
                 PSA_ERROR_INVALID_SIGNATURE);
    bytes[len - 1] ^= 1;
    SP_CHECK_INT(sp_appkeys_open((const uint8_t *)"dt/dev-8/climate", 16, bytes, len, &out),
                 PSA_ERROR_INVALID_SIGNATURE);
    head.epoch = 9;
    SP_CHECK(sp_record_protect(&head, &key, topic, SP_VIEW_ARRAY(plain), bytes, sizeof(bytes),
                               &len) == SP_OK);
    SP_CHECK_INT(sp_appkeys_open(topic.ptr, topic.len, bytes, len, &out), PSA_ERROR_DOES_NOT_EXIST);
}

static void the_non_secure_world_seals_nothing(void)
{
    struct sp_grant_ack ack;
    uint8_t out[256];
    begin(SP_VIEW_LIT("hall"));
    struct sp_grant g = grant_of(100, 1, false);
    SP_CHECK_INT(grant(&g, &ack), PSA_SUCCESS);
    psa_invec in[] = {{"dt/dev-1/climate", 16}, {"forged", 6}};
    psa_outvec outs[] = {{out, sizeof(out)}};
    SP_CHECK_INT(psa_call(SP_APPKEYS_SERVICE_HANDLE, SP_APPKEYS_SEAL, in, 2, outs, 1),
                 PSA_ERROR_NOT_PERMITTED);
}

static void false_grants_are_not_answered(void)
{
    uint8_t answer[SP_APPKEYS_ACK_MAX];
    uint8_t bytes[SP_GRANT_MAX];
    static const uint8_t iv[SP_COSE_IV_LEN] = {1};
    size_t len = 0;
    begin(SP_VIEW_LIT("hall"));
    const struct sp_grant_kek kek = sp_grant_kek(kek_bytes);
    struct sp_grant g = grant_of(100, 1, false);
    SP_CHECK(sp_grant_seal(&g, &kek, SP_VIEW_ARRAY(iv), SP_VIEW_LIT("dev-2"), bytes, sizeof(bytes),
                           &len) == SP_OK);
    SP_CHECK_INT(sp_appkeys_grant(bytes, len, answer, sizeof(answer), &len),
                 PSA_ERROR_INVALID_SIGNATURE);
    SP_CHECK_INT(sp_appkeys_grant(bytes, 0, answer, sizeof(answer), &len),
                 PSA_ERROR_INVALID_ARGUMENT);
}

static const struct sp_test tests[] = {
    SP_TEST(a_device_in_a_group_seals_and_never_speaks_clearly),
    SP_TEST(a_device_in_no_group_speaks_clearly),
    SP_TEST(a_serial_is_obeyed_once),
    SP_TEST(the_newest_epoch_is_used_and_the_oldest_makes_room),
    SP_TEST(a_counter_never_repeats_over_restarts_and_cuts),
    SP_TEST(nothing_is_sealed_when_the_counter_cannot_be_kept),
    SP_TEST(a_bundle_with_a_known_key_does_not_reset_its_counter),
    SP_TEST(a_monitor_opens_what_others_sealed_once),
    SP_TEST(the_non_secure_world_seals_nothing),
    SP_TEST(false_grants_are_not_answered),
};

SP_TEST_MAIN(tests)
