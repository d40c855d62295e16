/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The secure services together, through the PSA APIs, as the application sees them. */
#include "device/secure/partitions/crypto/crypto_keys.h"
#include "device/secure/secure.h"
#include "libs/base/test.h"
#include "libs/link/link.h"
#include "libs/senml/senml.h"
#include "psa/client.h"
#include "psa/initial_attestation.h"
#include "psa/internal_trusted_storage.h"
#include "psa_manifest/sid.h"
#include "sallyport/sensor.h"

#include <psa/crypto.h>
#include <string.h>

static uint8_t medium[SP_ITS_MEDIUM_SIZE];
static struct sp_boot_record boot = {
    .implementation_id = {0x11, 0x22},
    .boot_seed = {0x33},
    .lifecycle = 0x3000,
    .component_count = 1,
    .components = {{.type = "NSPE", .version = "1.2.3", .value = {0x44}, .signer_id = {0x55}}},
};
static struct sp_sensor_reading reading;
static enum sp_err sensor_result;

static enum sp_err ram_read(void *ctx, size_t offset, uint8_t *out, size_t len)
{
    (void)ctx;
    memcpy(out, medium + offset, len);
    return SP_OK;
}

static enum sp_err ram_write(void *ctx, size_t offset, struct sp_view bytes)
{
    (void)ctx;
    sp_copy(medium + offset, bytes.ptr, bytes.len);
    return SP_OK;
}

static enum sp_err ram_sync(void *ctx)
{
    (void)ctx;
    return SP_OK;
}

static enum sp_err read_sensor(void *ctx, struct sp_sensor_reading *out)
{
    (void)ctx;
    *out = reading;
    return sensor_result;
}

static const uint8_t psk[32] = {1, 2, 3, 4, 5, 6, 7, 8};
static const uint8_t iak[64] = {0xA1, 0xB2, 0xC3, 0xD4, 0xE5, 0xF6, 0x07, 0x18, 0x29, 0x3A, 0x4B};

static void start(void)
{
    const struct sp_secure_platform platform = {
        .storage = {.read = ram_read, .write = ram_write, .sync = ram_sync},
        .sensor = {.read = read_sensor},
        .boot = &boot,
    };
    mbedtls_psa_crypto_free(); /* a restart */
    SP_CHECK_INT(sp_secure_start(&platform), PSA_SUCCESS);
}

static void provision(size_t iak_len, enum sp_attest_algorithm algorithm)
{
    const struct sp_secure_secrets secrets = {
        .device = SP_VIEW_LIT("dev-1"),
        .psk = SP_VIEW_ARRAY(psk),
        .iak = sp_view(iak, iak_len),
        .iak_algorithm = algorithm,
    };
    memset(medium, 0xFF, sizeof(medium));
    start();
    SP_CHECK_INT(sp_secure_provision(&secrets, true), PSA_SUCCESS);
    SP_CHECK(sp_secure_provisioned());
}

static void a_device_without_keys_attests_nothing(void)
{
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    uint8_t challenge[32] = {0};
    struct sp_sensor_record record;
    size_t len = 0;
    memset(medium, 0xFF, sizeof(medium));
    start();
    SP_CHECK(!sp_secure_provisioned());
    SP_CHECK_INT(psa_initial_attest_get_token(challenge, 32, token, sizeof(token), &len),
                 PSA_ERROR_SERVICE_FAILURE);
    SP_CHECK_INT(sp_sensor_read_record(0, &record), PSA_ERROR_DOES_NOT_EXIST);
}

static void check_token(size_t challenge_len, size_t iak_len, enum sp_attest_algorithm algorithm)
{
    uint8_t challenge[64];
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    size_t size = 0;
    size_t len = 0;
    memset(challenge, 0x5A, sizeof(challenge));
    SP_CHECK_INT(psa_initial_attest_get_token_size(challenge_len, &size), PSA_SUCCESS);
    SP_CHECK_INT(psa_initial_attest_get_token(challenge, challenge_len, token, sizeof(token), &len),
                 PSA_SUCCESS);
    SP_CHECK_INT(len, size);
    uint8_t ueid[SP_ATTEST_UEID_LEN];
    SP_CHECK_INT(sp_attest_ueid(sp_view(iak, iak_len), ueid), SP_OK);
    const struct sp_attest_reference_component component = {
        .type = SP_VIEW_LIT("NSPE"),
        .value = SP_VIEW_ARRAY(boot.components[0].value),
        .signer_id = SP_VIEW_ARRAY(boot.components[0].signer_id),
        .version = SP_VIEW_LIT("1.2.3"),
    };
    const struct sp_attest_reference reference = {
        .implementation_id = SP_VIEW_ARRAY(boot.implementation_id),
        .components = &component,
        .component_count = 1,
    };
    const struct sp_attest_policy policy = {
        .key = {.bytes = sp_view(iak, iak_len)},
        .algorithm = algorithm,
        .challenge = sp_view(challenge, challenge_len),
        .instance_id = SP_VIEW_ARRAY(ueid),
        .lifecycles = SP_ATTEST_LIFECYCLE_SECURED,
        .references = &reference,
        .reference_count = 1,
    };
    struct sp_attest_verdict verdict;
    struct sp_attest_claims claims;
    sp_attest_appraise(sp_view(token, len), &policy, &claims, &verdict);
    SP_CHECK_CASE(verdict.check == SP_ATTEST_OK, sp_attest_check_name(verdict.check));
    SP_CHECK_INT(claims.client_id, -1);
    SP_CHECK_INT(claims.lifecycle, 0x3000);
    SP_CHECK_INT(claims.profile, SP_ATTEST_PROFILE_RFC9783);
}

static void a_token_is_accepted_for_each_challenge_size_and_algorithm(void)
{
    static const struct {
        size_t iak_len;
        enum sp_attest_algorithm algorithm;
    } keys[] = {{32, SP_ATTEST_HMAC256},
                {48, SP_ATTEST_HMAC384},
                {64, SP_ATTEST_HMAC512},
                {64, SP_ATTEST_HMAC256}};
    for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++) {
        provision(keys[i].iak_len, keys[i].algorithm);
        check_token(32, keys[i].iak_len, keys[i].algorithm);
        check_token(48, keys[i].iak_len, keys[i].algorithm);
        check_token(64, keys[i].iak_len, keys[i].algorithm);
    }
}

static void other_challenge_sizes_are_invalid(void)
{
    static const size_t sizes[] = {0, 1, 31, 33, 47, 49, 63, 65, 4096};
    static uint8_t challenge[4096];
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    size_t len = 0;
    provision(32, SP_ATTEST_HMAC256);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        SP_CHECK_INT(psa_initial_attest_get_token(challenge, sizes[i], token, sizeof(token), &len),
                     PSA_ERROR_INVALID_ARGUMENT);
        SP_CHECK_INT(psa_initial_attest_get_token_size(sizes[i], &len), PSA_ERROR_INVALID_ARGUMENT);
    }
}

static void a_buffer_that_is_too_small_is_said_and_not_written(void)
{
    uint8_t challenge[32] = {0};
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    size_t size = 0;
    size_t len = 77;
    provision(32, SP_ATTEST_HMAC256);
    SP_CHECK_INT(psa_initial_attest_get_token_size(32, &size), PSA_SUCCESS);
    memset(token, 0xEE, sizeof(token));
    SP_CHECK_INT(psa_initial_attest_get_token(challenge, 32, token, size - 1, &len),
                 PSA_ERROR_BUFFER_TOO_SMALL);
    SP_CHECK_INT(len, 77);
    SP_CHECK_INT(token[0], 0xEE);
    SP_CHECK_INT(psa_initial_attest_get_token(challenge, 32, token, size, &len), PSA_SUCCESS);
}

static void keys_outlive_a_restart_and_cannot_be_read(void)
{
    uint8_t out[64];
    size_t len = 0;
    provision(32, SP_ATTEST_HMAC256);
    start();
    SP_CHECK(sp_secure_provisioned());
    check_token(32, 32, SP_ATTEST_HMAC256);
    SP_CHECK_INT(sp_crypto_key_psk(), SP_KEY_PSK);
    SP_CHECK_INT(psa_export_key(SP_KEY_PSK, out, sizeof(out), &len), PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(psa_export_key(SP_KEY_IAK, out, sizeof(out), &len), PSA_ERROR_NOT_PERMITTED);
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    mbedtls_svc_key_id_t copy = 0;
    psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_EXPORT);
    SP_CHECK_INT(psa_copy_key(SP_KEY_PSK, &attributes, &copy), PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(
        psa_mac_compute(SP_KEY_PSK, PSA_ALG_HMAC(PSA_ALG_SHA_256), psk, 1, out, sizeof(out), &len),
        PSA_ERROR_NOT_PERMITTED);
}

static void the_application_cannot_read_the_secure_partitions_assets(void)
{
    uint8_t out[SP_ITS_ASSET_MAX];
    size_t len = 0;
    provision(32, SP_ATTEST_HMAC256);
    SP_CHECK(memmem(medium, sizeof(medium), psk, sizeof(psk)) != NULL); /* it is in there */
    SP_CHECK_INT(psa_its_get(1, 0, sizeof(out), out, &len), PSA_ERROR_DOES_NOT_EXIST);
    SP_CHECK_INT(psa_its_get(SP_KEY_PSK, 0, sizeof(out), out, &len), PSA_ERROR_DOES_NOT_EXIST);
    SP_CHECK_INT(psa_its_get(SP_KEY_IAK, 0, sizeof(out), out, &len), PSA_ERROR_DOES_NOT_EXIST);
    SP_CHECK_INT(psa_its_set(5, 3, "abc", PSA_STORAGE_FLAG_NONE), PSA_SUCCESS);
    SP_CHECK_INT(psa_its_get(5, 1, sizeof(out), out, &len), PSA_SUCCESS);
    SP_CHECK(len == 2 && memcmp(out, "bc", 2) == 0);
    SP_CHECK_INT(psa_its_remove(5), PSA_SUCCESS);
}

static void a_new_key_takes_the_place_of_the_old_one(void)
{
    provision(32, SP_ATTEST_HMAC256);
    uint8_t other[32];
    memset(other, 0x77, sizeof(other));
    const struct sp_secure_secrets secrets = {
        .device = SP_VIEW_LIT("dev-2"),
        .psk = SP_VIEW_ARRAY(other),
        .iak = sp_view(iak, 48),
        .iak_algorithm = SP_ATTEST_HMAC384,
    };
    SP_CHECK_INT(sp_secure_provision(&secrets, true), PSA_SUCCESS);
    SP_CHECK(memmem(medium, sizeof(medium), psk, sizeof(psk)) == NULL);
    start();
    check_token(32, 48, SP_ATTEST_HMAC384);
}

static void short_secrets_are_refused(void)
{
    struct sp_secure_secrets secrets = {
        .device = SP_VIEW_LIT("dev-1"),
        .psk = sp_view(psk, 15),
        .iak = sp_view(iak, 32),
        .iak_algorithm = SP_ATTEST_HMAC256,
    };
    memset(medium, 0xFF, sizeof(medium));
    start();
    SP_CHECK_INT(sp_secure_provision(&secrets, true), PSA_ERROR_INVALID_ARGUMENT);
    secrets.psk = SP_VIEW_ARRAY(psk);
    secrets.iak = sp_view(iak, 31);
    SP_CHECK_INT(sp_secure_provision(&secrets, true), PSA_ERROR_INVALID_ARGUMENT);
    secrets.iak = sp_view(iak, 32);
    secrets.device = SP_VIEW_LIT("-dev");
    SP_CHECK_INT(sp_secure_provision(&secrets, true), PSA_ERROR_INVALID_ARGUMENT);
}

static void a_record_is_the_vector_of_the_protocol(void)
{
    /* docs/protocol.md 8: dev-1, 23.50 Cel, 41.00 %RH */
    uint8_t want[64];
    size_t want_len = 0;
    SP_CHECK_INT(sp_hex_parse(SP_VIEW_LIT("82a421666465762d312f006b74656d706572617475726501634365"
                                          "6c02c4822119092ea3006868756d6964697479016325524802c482"
                                          "21191004"),
                              want, sizeof(want), &want_len),
                 SP_OK);
    struct sp_sensor_record record;
    provision(32, SP_ATTEST_HMAC256);
    sensor_result = SP_OK;
    reading = (struct sp_sensor_reading){.temperature_mc = 23504, .humidity_mp = 40995};
    SP_CHECK_INT(sp_sensor_read_record(0, &record), PSA_SUCCESS);
    SP_CHECK(sp_view_equal(sp_view(record.payload, record.payload_len), sp_view(want, want_len)));
    SP_CHECK(
        sp_view_equal(sp_view(record.topic, record.topic_len), SP_VIEW_LIT("dt/dev-1/climate")));
}

static void a_record_says_the_time_that_is_known(void)
{
    struct sp_sensor_record record;
    struct sp_senml_record parsed;
    provision(32, SP_ATTEST_HMAC256);
    reading = (struct sp_sensor_reading){.temperature_mc = -40005, .humidity_mp = 0};
    SP_CHECK_INT(sp_sensor_read_record(1700000000, &record), PSA_SUCCESS);
    SP_CHECK_INT(
        sp_senml_parse(sp_view(record.payload, record.payload_len), SP_VIEW_LIT("dev-1"), &parsed),
        SP_OK);
    SP_CHECK(parsed.temperature != NULL && parsed.temperature->number.mantissa == -4001);
    SP_CHECK(parsed.temperature != NULL &&
             sp_senml_time_ms(parsed.temperature, 0) == 1700000000000);
}

static void a_sensor_that_fails_or_talks_nonsense_gives_no_record(void)
{
    static const struct sp_sensor_reading nonsense[] = {
        {-100001, 0}, {200001, 0}, {0, -1}, {0, 100001}, {INT32_MIN, 0}, {0, INT32_MAX}};
    struct sp_sensor_record record;
    provision(32, SP_ATTEST_HMAC256);
    for (size_t i = 0; i < sizeof(nonsense) / sizeof(nonsense[0]); i++) {
        reading = nonsense[i];
        SP_CHECK_INT(sp_sensor_read_record(0, &record), PSA_ERROR_HARDWARE_FAILURE);
    }
    reading = (struct sp_sensor_reading){20000, 50000};
    sensor_result = SP_ERR_IO;
    SP_CHECK_INT(sp_sensor_read_record(0, &record), PSA_ERROR_HARDWARE_FAILURE);
    sensor_result = SP_OK;
}

static void calls_that_no_service_could_take_are_programmer_errors(void)
{
    uint8_t byte = 0;
    psa_invec in[] = {{&byte, 1}, {NULL, 1}};
    psa_outvec out[] = {{NULL, 1}};
    provision(32, SP_ATTEST_HMAC256);
    SP_CHECK_INT(psa_call(0, 1001, in, 1, NULL, 0), PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(psa_call(TFM_ATTESTATION_SERVICE_HANDLE, -1, in, 1, NULL, 0),
                 PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(psa_call(TFM_ATTESTATION_SERVICE_HANDLE, 1001, in, 2, NULL, 0),
                 PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(psa_call(TFM_ATTESTATION_SERVICE_HANDLE, 1001, in, 1, out, 1),
                 PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(psa_call(TFM_ATTESTATION_SERVICE_HANDLE, 1001, in, 5, NULL, 0),
                 PSA_ERROR_PROGRAMMER_ERROR);
    SP_CHECK_INT(psa_call(TFM_ATTESTATION_SERVICE_HANDLE, 7, in, 1, NULL, 0),
                 PSA_ERROR_NOT_SUPPORTED);
    SP_CHECK_INT(psa_call(TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE, 1001, in, 1, NULL, 0),
                 PSA_ERROR_PROGRAMMER_ERROR);
}

static const struct sp_test tests[] = {
    SP_TEST(a_device_without_keys_attests_nothing),
    SP_TEST(a_token_is_accepted_for_each_challenge_size_and_algorithm),
    SP_TEST(other_challenge_sizes_are_invalid),
    SP_TEST(a_buffer_that_is_too_small_is_said_and_not_written),
    SP_TEST(keys_outlive_a_restart_and_cannot_be_read),
    SP_TEST(the_application_cannot_read_the_secure_partitions_assets),
    SP_TEST(a_new_key_takes_the_place_of_the_old_one),
    SP_TEST(short_secrets_are_refused),
    SP_TEST(a_record_is_the_vector_of_the_protocol),
    SP_TEST(a_record_says_the_time_that_is_known),
    SP_TEST(a_sensor_that_fails_or_talks_nonsense_gives_no_record),
    SP_TEST(calls_that_no_service_could_take_are_programmer_errors),
};
SP_TEST_MAIN(tests)
