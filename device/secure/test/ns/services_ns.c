/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The services as the non-secure world of a provisioned device sees them. Lines `name=hex` go to test_secure_world.py. */
#include "device/secure/ns/ns.h"
#include "device/secure/test/ns/semihosting.h"
#include "libs/base/bytes.h"
#include "libs/base/test.h"
#include "psa/client.h"
#include "psa/initial_attestation.h"
#include "psa/internal_trusted_storage.h"
#include "psa_manifest/sid.h"
#include "sallyport/sensor.h"

#include <psa/crypto.h>
#include <string.h>

#define PSK 0x00000010U /* device/secure/partitions/crypto/crypto_keys.h */
#define IAK 0x3FFF0010U

static uint8_t scratch[2048];

static void say(const char *name, const void *bytes, size_t len)
{
    const uint8_t *at = bytes;
    printf("%s=", name);
    for (size_t i = 0; i < len; i++) {
        printf("%02x", at[i]);
    }
    printf("\n");
}

static mbedtls_svc_key_id_t import(psa_key_type_t type, psa_key_usage_t usage, psa_algorithm_t alg,
                                   const void *bytes, size_t len)
{
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    mbedtls_svc_key_id_t key = 0;
    psa_set_key_type(&attributes, type);
    psa_set_key_usage_flags(&attributes, usage);
    psa_set_key_algorithm(&attributes, alg);
    SP_CHECK_INT(psa_import_key(&attributes, bytes, len, &key), PSA_SUCCESS);
    return key;
}

static void random_bytes_differ(void)
{
    uint8_t a[32];
    uint8_t b[32];
    SP_CHECK_INT(psa_crypto_init(), PSA_SUCCESS);
    SP_CHECK_INT(psa_generate_random(a, sizeof(a)), PSA_SUCCESS);
    SP_CHECK_INT(psa_generate_random(b, sizeof(b)), PSA_SUCCESS);
    SP_CHECK(memcmp(a, b, sizeof(a)) != 0);
    SP_CHECK_INT(psa_generate_random(scratch, 1500), PSA_SUCCESS);
    say("random", a, sizeof(a));
}

static void hashes_are_those_of_fips_180(void)
{
    static const uint8_t abc[] = {0xba, 0x78, 0x16, 0xbf, 0x8f, 0x01, 0xcf, 0xea, 0x41, 0x41, 0x40,
                                  0xde, 0x5d, 0xae, 0x22, 0x23, 0xb0, 0x03, 0x61, 0xa3, 0x96, 0x17,
                                  0x7a, 0x9c, 0xb4, 0x10, 0xff, 0x61, 0xf2, 0x00, 0x15, 0xad};
    uint8_t hash[32];
    size_t len = 0;
    SP_CHECK_INT(psa_hash_compute(PSA_ALG_SHA_256, (const uint8_t *)"abc", 3, hash, 32, &len),
                 PSA_SUCCESS);
    SP_CHECK(len == 32 && memcmp(hash, abc, 32) == 0);
    SP_CHECK_INT(psa_hash_compare(PSA_ALG_SHA_256, (const uint8_t *)"abc", 3, abc, 32),
                 PSA_SUCCESS);
    SP_CHECK_INT(psa_hash_compare(PSA_ALG_SHA_256, (const uint8_t *)"abd", 3, abc, 32),
                 PSA_ERROR_INVALID_SIGNATURE);
    SP_CHECK_INT(psa_hash_compute(PSA_ALG_SHA_256, (const uint8_t *)"abc", 3, hash, 31, &len),
                 PSA_ERROR_BUFFER_TOO_SMALL);
    SP_CHECK_INT(psa_hash_compute(PSA_ALG_SHA_512, (const uint8_t *)"abc", 3, hash, 32, &len),
                 PSA_ERROR_NOT_SUPPORTED);

    psa_hash_operation_t a = PSA_HASH_OPERATION_INIT;
    psa_hash_operation_t b = PSA_HASH_OPERATION_INIT;
    SP_CHECK_INT(psa_hash_setup(&a, PSA_ALG_SHA_256), PSA_SUCCESS);
    SP_CHECK_INT(psa_hash_setup(&a, PSA_ALG_SHA_256), PSA_ERROR_BAD_STATE);
    SP_CHECK_INT(psa_hash_update(&a, (const uint8_t *)"a", 1), PSA_SUCCESS);
    SP_CHECK_INT(psa_hash_clone(&a, &b), PSA_SUCCESS);
    SP_CHECK_INT(psa_hash_update(&a, (const uint8_t *)"bc", 2), PSA_SUCCESS);
    SP_CHECK_INT(psa_hash_finish(&a, hash, 32, &len), PSA_SUCCESS);
    SP_CHECK(memcmp(hash, abc, 32) == 0);
    SP_CHECK_INT(psa_hash_update(&b, (const uint8_t *)"bc", 2), PSA_SUCCESS);
    SP_CHECK_INT(psa_hash_verify(&b, abc, 32), PSA_SUCCESS);
    SP_CHECK_INT(psa_hash_update(&b, (const uint8_t *)"bc", 2), PSA_ERROR_BAD_STATE);
    SP_CHECK_INT(psa_hash_abort(&b), PSA_SUCCESS);
}

static void operations_run_out_and_come_back(void)
{
    psa_hash_operation_t operations[8] = {PSA_HASH_OPERATION_INIT};
    unsigned started = 0;
    while (started < 8 && psa_hash_setup(&operations[started], PSA_ALG_SHA_256) == PSA_SUCCESS) {
        started++;
    }
    SP_CHECK_INT(started, 4);
    for (unsigned i = 0; i < 8; i++) {
        SP_CHECK_INT(psa_hash_abort(&operations[i]), PSA_SUCCESS);
    }
    SP_CHECK_INT(psa_hash_setup(&operations[0], PSA_ALG_SHA_256), PSA_SUCCESS);
    psa_mac_operation_t forged = PSA_MAC_OPERATION_INIT;
    forged.handle = operations[0].handle;
    SP_CHECK_INT(psa_mac_update(&forged, (const uint8_t *)"x", 1), PSA_ERROR_BAD_STATE);
    SP_CHECK_INT(psa_hash_abort(&operations[0]), PSA_SUCCESS);
}

static void macs_are_those_of_rfc_4231(void)
{
    static const char data[] = "what do ya want for nothing?";
    static const uint8_t want[] = {0x5b, 0xdc, 0xc1, 0x46, 0xbf, 0x60, 0x75, 0x4e, 0x6a, 0x04, 0x24,
                                   0x26, 0x08, 0x95, 0x75, 0xc7, 0x5a, 0x00, 0x3f, 0x08, 0x9d, 0x27,
                                   0x39, 0x83, 0x9d, 0xec, 0x58, 0xb9, 0x64, 0xec, 0x38, 0x43};
    psa_algorithm_t alg = PSA_ALG_HMAC(PSA_ALG_SHA_256);
    mbedtls_svc_key_id_t key =
        import(PSA_KEY_TYPE_HMAC, PSA_KEY_USAGE_SIGN_MESSAGE | PSA_KEY_USAGE_VERIFY_MESSAGE, alg,
               "Jefe", 4);
    const uint8_t *bytes = (const uint8_t *)data;
    uint8_t mac[32];
    size_t len = 0;
    SP_CHECK_INT(psa_mac_compute(key, alg, bytes, 28, mac, 32, &len), PSA_SUCCESS);
    SP_CHECK(len == 32 && memcmp(mac, want, 32) == 0);
    SP_CHECK_INT(psa_mac_verify(key, alg, bytes, 28, want, 32), PSA_SUCCESS);
    SP_CHECK_INT(psa_mac_verify(key, alg, bytes, 27, want, 32), PSA_ERROR_INVALID_SIGNATURE);

    psa_mac_operation_t operation = PSA_MAC_OPERATION_INIT;
    SP_CHECK_INT(psa_mac_sign_setup(&operation, key, alg), PSA_SUCCESS);
    SP_CHECK_INT(psa_mac_update(&operation, bytes, 28), PSA_SUCCESS);
    SP_CHECK_INT(psa_mac_sign_finish(&operation, mac, 32, &len), PSA_SUCCESS);
    SP_CHECK(memcmp(mac, want, 32) == 0);
    SP_CHECK_INT(psa_mac_verify_setup(&operation, key, alg), PSA_SUCCESS);
    SP_CHECK_INT(psa_mac_update(&operation, bytes, 28), PSA_SUCCESS);
    SP_CHECK_INT(psa_mac_verify_finish(&operation, want, 31), PSA_ERROR_INVALID_SIGNATURE);
    SP_CHECK_INT(psa_mac_abort(&operation), PSA_SUCCESS);
    SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
}

static void ccm_and_gcm_are_those_of_nist(void)
{
    static const uint8_t ccm_want[] = {0x71, 0x62, 0x01, 0x5b, 0x4d, 0xac, 0x25, 0x5d};
    static const uint8_t gcm_want[] = {0x03, 0x88, 0xda, 0xce, 0x60, 0xb6, 0xa3, 0x92,
                                       0xf3, 0x28, 0xc2, 0xb9, 0x71, 0xb2, 0xfe, 0x78,
                                       0xab, 0x6e, 0x47, 0xd4, 0x2c, 0xec, 0x13, 0xbd,
                                       0xf5, 0x3a, 0x67, 0xb2, 0x12, 0x57, 0xbd, 0xdf};
    psa_algorithm_t ccm = PSA_ALG_AEAD_WITH_SHORTENED_TAG(PSA_ALG_CCM, 4);
    uint8_t bytes[16];
    uint8_t nonce[12] = {0};
    uint8_t ad[8];
    uint8_t out[32];
    size_t len = 0;
    for (unsigned i = 0; i < 16; i++) {
        bytes[i] = (uint8_t)(0x40 + i);
        nonce[i % 12] = (uint8_t)(0x10 + i % 12);
        ad[i % 8] = (uint8_t)(i % 8);
    }
    mbedtls_svc_key_id_t key = import(PSA_KEY_TYPE_AES, PSA_KEY_USAGE_ENCRYPT, ccm, bytes, 16);
    static const uint8_t plain[] = {0x20, 0x21, 0x22, 0x23};
    SP_CHECK_INT(psa_aead_encrypt(key, ccm, nonce, 7, ad, 8, plain, 4, out, sizeof(out), &len),
                 PSA_SUCCESS);
    SP_CHECK(len == 8 && memcmp(out, ccm_want, 8) == 0);
    SP_CHECK_INT(psa_aead_decrypt(key, ccm, nonce, 7, ad, 8, out, 8, scratch, 4, &len),
                 PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);

    (void)memset(bytes, 0, sizeof(bytes));
    (void)memset(nonce, 0, sizeof(nonce));
    key = import(PSA_KEY_TYPE_AES, PSA_KEY_USAGE_ENCRYPT, PSA_ALG_GCM, bytes, 16);
    SP_CHECK_INT(psa_aead_encrypt(key, PSA_ALG_GCM, nonce, 12, NULL, 0, bytes, 16, out, 32, &len),
                 PSA_SUCCESS);
    SP_CHECK(len == 32 && memcmp(out, gcm_want, 32) == 0);
    SP_CHECK_INT(psa_aead_encrypt(key, PSA_ALG_GCM, nonce, 12, NULL, 0, bytes, 16, out, 31, &len),
                 PSA_ERROR_BUFFER_TOO_SMALL);
    SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
}

/* A record as TLS has it: in place, a length that no block divides. */
static void a_record_goes_in_place_and_a_forged_one_leaves_nothing(void)
{
    static const psa_algorithm_t algs[] = {PSA_ALG_CCM, PSA_ALG_GCM};
    static const uint8_t key_bytes[16] = {7};
    static const uint8_t nonce[12] = {9};
    for (unsigned i = 0; i < 2; i++) {
        size_t len = 0;
        mbedtls_svc_key_id_t key =
            import(PSA_KEY_TYPE_AES, PSA_KEY_USAGE_ENCRYPT | PSA_KEY_USAGE_DECRYPT, algs[i],
                   key_bytes, 16);
        for (unsigned k = 0; k < 1003; k++) {
            scratch[k] = (uint8_t)k;
        }
        SP_CHECK_INT(psa_aead_encrypt(key, algs[i], nonce, 12, key_bytes, 13, scratch, 1003,
                                      scratch, sizeof(scratch), &len),
                     PSA_SUCCESS);
        SP_CHECK_INT(len, 1019);
        SP_CHECK_INT(psa_aead_decrypt(key, algs[i], nonce, 12, key_bytes, 13, scratch, 1019,
                                      scratch, 1003, &len),
                     PSA_SUCCESS);
        SP_CHECK_INT(len, 1003);
        bool same = true;
        for (unsigned k = 0; k < 1003; k++) {
            same = same && scratch[k] == (uint8_t)k;
        }
        SP_CHECK(same);
        SP_CHECK_INT(psa_aead_encrypt(key, algs[i], nonce, 12, NULL, 0, scratch, 300, scratch,
                                      sizeof(scratch), &len),
                     PSA_SUCCESS);
        scratch[310] ^= 1;
        SP_CHECK_INT(psa_aead_decrypt(key, algs[i], nonce, 12, NULL, 0, scratch, 316,
                                      scratch + 1024, 300, &len),
                     PSA_ERROR_INVALID_SIGNATURE);
        bool blank = true;
        for (unsigned k = 0; k < 300; k++) {
            blank = blank && scratch[1024 + k] == 0;
        }
        SP_CHECK(blank);
        SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
    }
}

static void aead_in_parts_equals_aead_at_once(void)
{
    static const uint8_t bytes[48] = {1, 2, 3};
    static const uint8_t ad[20] = {4, 5, 6};
    size_t len = 0;
    size_t total = 0;
    size_t tag_len = 0;
    mbedtls_svc_key_id_t key = import(
        PSA_KEY_TYPE_AES, PSA_KEY_USAGE_ENCRYPT | PSA_KEY_USAGE_DECRYPT, PSA_ALG_CCM, bytes, 16);
    SP_CHECK_INT(
        psa_aead_encrypt(key, PSA_ALG_CCM, bytes, 13, ad, 20, bytes, 40, scratch, 56, &len),
        PSA_SUCCESS);
    psa_aead_operation_t operation = PSA_AEAD_OPERATION_INIT;
    uint8_t *out = scratch + 64;
    SP_CHECK_INT(psa_aead_encrypt_setup(&operation, key, PSA_ALG_CCM), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_set_lengths(&operation, 20, 40), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_set_nonce(&operation, bytes, 13), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_update_ad(&operation, ad, 20), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_update(&operation, bytes, 16, out, 16, &len), PSA_SUCCESS);
    total += len;
    SP_CHECK_INT(psa_aead_update(&operation, bytes + 16, 24, out + total, 24, &len), PSA_SUCCESS);
    total += len;
    SP_CHECK_INT(psa_aead_finish(&operation, out + total, 0, &len, out + 40, 16, &tag_len),
                 PSA_SUCCESS);
    SP_CHECK(total == 40 && tag_len == 16 && memcmp(scratch, out, 56) == 0);

    SP_CHECK_INT(psa_aead_decrypt_setup(&operation, key, PSA_ALG_CCM), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_set_lengths(&operation, 20, 40), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_set_nonce(&operation, bytes, 13), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_update_ad(&operation, ad, 20), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_update(&operation, out, 40, out, 40, &len), PSA_SUCCESS);
    SP_CHECK_INT(psa_aead_verify(&operation, NULL, 0, &len, out + 40, 16), PSA_SUCCESS);
    SP_CHECK(memcmp(out, bytes, 40) == 0);
    SP_CHECK_INT(psa_aead_abort(&operation), PSA_SUCCESS);
    SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
}

static psa_status_t derive(psa_algorithm_t alg, mbedtls_svc_key_id_t key, const char *label,
                           struct sp_view seed, uint8_t *out, size_t len)
{
    psa_key_derivation_operation_t operation = PSA_KEY_DERIVATION_OPERATION_INIT;
    psa_status_t status = psa_key_derivation_setup(&operation, alg);
    status = status != PSA_SUCCESS ? status : psa_key_derivation_set_capacity(&operation, len);
    status = status != PSA_SUCCESS
                 ? status
                 : psa_key_derivation_input_bytes(&operation, PSA_KEY_DERIVATION_INPUT_SEED,
                                                  seed.ptr, seed.len);
    status = status != PSA_SUCCESS
                 ? status
                 : psa_key_derivation_input_key(&operation, PSA_KEY_DERIVATION_INPUT_SECRET, key);
    status = status != PSA_SUCCESS
                 ? status
                 : psa_key_derivation_input_bytes(&operation, PSA_KEY_DERIVATION_INPUT_LABEL,
                                                  (const uint8_t *)label, strlen(label));
    status = status != PSA_SUCCESS ? status : psa_key_derivation_output_bytes(&operation, out, len);
    psa_status_t again = psa_key_derivation_output_bytes(&operation, scratch, 1);
    SP_CHECK(status != PSA_SUCCESS || again == PSA_ERROR_INSUFFICIENT_DATA);
    SP_CHECK_INT(psa_key_derivation_abort(&operation), PSA_SUCCESS);
    return status;
}

static void the_tls_prf_is_that_of_rfc_5246(void)
{
    static const uint8_t secret[] = {0x9b, 0xbe, 0x43, 0x6b, 0xa9, 0x40, 0xf0, 0x17,
                                     0xb1, 0x76, 0x52, 0x84, 0x9a, 0x71, 0xdb, 0x35};
    static const uint8_t seed[] = {0xa0, 0xba, 0x9f, 0x93, 0x6c, 0xda, 0x31, 0x18,
                                   0x27, 0xa6, 0xf7, 0x96, 0xff, 0xd5, 0x19, 0x8c};
    static const uint8_t want[] = {0xe3, 0xf2, 0x29, 0xba, 0x72, 0x7b, 0xe1, 0x7b, 0x8d,
                                   0x12, 0x26, 0x20, 0x55, 0x7c, 0xd4, 0x53, 0xc2, 0xaa,
                                   0xb2, 0x1d, 0x07, 0xc3, 0xd4, 0x95, 0x32, 0x9b, 0x52,
                                   0xd4, 0xe6, 0x1e, 0xdb, 0x5a, 0x6b, 0x30, 0x17, 0x91};
    psa_algorithm_t alg = PSA_ALG_TLS12_PRF(PSA_ALG_SHA_256);
    uint8_t out[100];
    mbedtls_svc_key_id_t key =
        import(PSA_KEY_TYPE_DERIVE, PSA_KEY_USAGE_DERIVE, alg, secret, sizeof(secret));
    SP_CHECK_INT(derive(alg, key, "test label", SP_VIEW_ARRAY(seed), out, sizeof(out)),
                 PSA_SUCCESS);
    SP_CHECK(memcmp(out, want, sizeof(want)) == 0);
    SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
}

static void the_psk_makes_master_secrets_and_nothing_else(void)
{
    static const uint8_t seed[64] = {0x5e, 0xed};
    uint8_t master[48];
    SP_CHECK_INT(derive(PSA_ALG_TLS12_PSK_TO_MS(PSA_ALG_SHA_256), PSK, "master secret",
                        SP_VIEW_ARRAY(seed), master, 48),
                 PSA_SUCCESS);
    say("master", master, sizeof(master));
    SP_CHECK_INT(derive(PSA_ALG_TLS12_PRF(PSA_ALG_SHA_256), PSK, "master secret",
                        SP_VIEW_ARRAY(seed), master, 48),
                 PSA_ERROR_NOT_PERMITTED);
    size_t len = 0;
    SP_CHECK_INT(psa_export_key(PSK, scratch, sizeof(scratch), &len), PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(psa_mac_compute(PSK, PSA_ALG_HMAC(PSA_ALG_SHA_256), seed, 1, scratch, 32, &len),
                 PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(psa_destroy_key(PSK), PSA_ERROR_NOT_PERMITTED);
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    SP_CHECK_INT(psa_get_key_attributes(PSK, &attributes), PSA_SUCCESS);
    SP_CHECK_INT(psa_get_key_usage_flags(&attributes), PSA_KEY_USAGE_DERIVE);
}

static void keys_of_partitions_do_not_exist_here(void)
{
    size_t len = 0;
    psa_status_t nobodys = psa_export_key(0x3FFF0099U, scratch, sizeof(scratch), &len);
    SP_CHECK_INT(psa_export_key(IAK, scratch, sizeof(scratch), &len), nobodys);
    SP_CHECK_INT(nobodys, PSA_ERROR_INVALID_HANDLE);
    SP_CHECK_INT(
        psa_mac_compute(IAK, PSA_ALG_HMAC(PSA_ALG_SHA_256), scratch, 1, scratch + 64, 32, &len),
        nobodys);
    SP_CHECK_INT(psa_destroy_key(IAK), nobodys);
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    SP_CHECK_INT(psa_get_key_attributes(IAK, &attributes), nobodys);
}

static void a_key_is_what_its_owner_said(void)
{
    uint8_t out[16];
    size_t len = 0;
    mbedtls_svc_key_id_t key = import(PSA_KEY_TYPE_RAW_DATA, PSA_KEY_USAGE_EXPORT, 0, "secret", 6);
    SP_CHECK_INT(psa_export_key(key, out, sizeof(out), &len), PSA_SUCCESS);
    SP_CHECK(len == 6 && memcmp(out, "secret", 6) == 0);
    SP_CHECK_INT(psa_export_key(key, out, 5, &len), PSA_ERROR_BUFFER_TOO_SMALL);
    SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
    SP_CHECK_INT(psa_destroy_key(key), PSA_ERROR_INVALID_HANDLE);
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_AES);
    psa_set_key_bits(&attributes, 128);
    psa_set_key_usage_flags(&attributes, PSA_KEY_USAGE_ENCRYPT);
    psa_set_key_algorithm(&attributes, PSA_ALG_GCM);
    SP_CHECK_INT(psa_generate_key(&attributes, &key), PSA_SUCCESS);
    SP_CHECK_INT(psa_export_key(key, out, sizeof(out), &len), PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
    for (unsigned i = 0; i < 40; i++) { /* slots come back */
        key = import(PSA_KEY_TYPE_DERIVE, PSA_KEY_USAGE_DERIVE, PSA_ALG_TLS12_PRF(PSA_ALG_SHA_256),
                     scratch, 48);
        SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
    }
}

static void storage_keeps_what_is_ours(void)
{
    uint8_t out[64];
    size_t len = 0;
    struct psa_storage_info_t info;
    uint32_t boots = 0;
    if (psa_its_get(9, 0, sizeof(boots), &boots, &len) == PSA_SUCCESS) {
        SP_CHECK_INT(len, sizeof(boots));
    }
    printf("boots=%u\n", (unsigned)boots);
    boots++;
    SP_CHECK_INT(psa_its_set(9, sizeof(boots), &boots, PSA_STORAGE_FLAG_NONE), PSA_SUCCESS);
    SP_CHECK_INT(psa_its_set(10, 5, "hello", PSA_STORAGE_FLAG_NONE), PSA_SUCCESS);
    SP_CHECK_INT(psa_its_get(10, 1, sizeof(out), out, &len), PSA_SUCCESS);
    SP_CHECK(len == 4 && memcmp(out, "ello", 4) == 0);
    SP_CHECK_INT(psa_its_get_info(10, &info), PSA_SUCCESS);
    SP_CHECK_INT(info.size, 5);
    SP_CHECK_INT(psa_its_remove(10), PSA_SUCCESS);
    SP_CHECK_INT(psa_its_get(10, 0, sizeof(out), out, &len), PSA_ERROR_DOES_NOT_EXIST);
    SP_CHECK_INT(psa_its_set(0, 1, out, 0), PSA_ERROR_INVALID_ARGUMENT);
    SP_CHECK_INT(psa_its_set(11, sizeof(scratch), scratch, 0), PSA_ERROR_INSUFFICIENT_STORAGE);
    SP_CHECK_INT(psa_its_get(0x5EED, 0, sizeof(out), out, &len),
                 PSA_ERROR_DOES_NOT_EXIST); /* the crypto partition's */
    SP_CHECK_INT(psa_its_get(SP_NS_ASSET_GATEWAY, 0, sizeof(out), out, &len), PSA_SUCCESS);
    say("gateway", out, len);
}

static void the_sensor_gives_records(void)
{
    struct sp_sensor_record record = {.topic_len = 0};
    SP_CHECK_INT(sp_sensor_read_record(1700000000, &record), PSA_SUCCESS);
    say("topic", record.topic, record.topic_len);
    say("record", record.payload, record.payload_len);
}

/* Last: it uses the rate limit up. */
static void tokens_are_made_for_good_challenges_and_not_too_often(void)
{
    uint8_t challenge[64];
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    size_t len = 0;
    size_t size = 0;
    (void)memset(challenge, 0xC4, sizeof(challenge));
    SP_CHECK_INT(psa_initial_attest_get_token(challenge, 31, token, sizeof(token), &len),
                 PSA_ERROR_INVALID_ARGUMENT);
    SP_CHECK_INT(psa_initial_attest_get_token(challenge, 32, token, 100, &len),
                 PSA_ERROR_BUFFER_TOO_SMALL);
    SP_CHECK_INT(psa_initial_attest_get_token_size(32, &size), PSA_SUCCESS);
    SP_CHECK_INT(psa_initial_attest_get_token(challenge, 32, token, sizeof(token), &len),
                 PSA_SUCCESS);
    SP_CHECK_INT(len, size);
    if (len != 0) {
        say("token", token, len);
    }
    unsigned more = 0;
    while (more < 10 &&
           psa_initial_attest_get_token(challenge, 64, token, sizeof(token), &len) == PSA_SUCCESS) {
        more++;
    }
    SP_CHECK(more < 4);
    SP_CHECK_INT(psa_initial_attest_get_token(challenge, 64, token, sizeof(token), &len),
                 PSA_ERROR_CONNECTION_BUSY);
}

static const struct sp_test tests[] = {
    SP_TEST(random_bytes_differ),
    SP_TEST(hashes_are_those_of_fips_180),
    SP_TEST(operations_run_out_and_come_back),
    SP_TEST(macs_are_those_of_rfc_4231),
    SP_TEST(ccm_and_gcm_are_those_of_nist),
    SP_TEST(a_record_goes_in_place_and_a_forged_one_leaves_nothing),
    SP_TEST(aead_in_parts_equals_aead_at_once),
    SP_TEST(the_tls_prf_is_that_of_rfc_5246),
    SP_TEST(the_psk_makes_master_secrets_and_nothing_else),
    SP_TEST(keys_of_partitions_do_not_exist_here),
    SP_TEST(a_key_is_what_its_owner_said),
    SP_TEST(storage_keeps_what_is_ours),
    SP_TEST(the_sensor_gives_records),
    SP_TEST(tokens_are_made_for_good_challenges_and_not_too_often),
};

/* With the argument `linger` it stays, so that memory can be looked at from outside. */
int main(void)
{
    static char line[32];
    struct {
        char *buffer;
        int size;
    } block = {line, sizeof(line)};
    int code = sp_test_run_all(tests, sizeof(tests) / sizeof(tests[0]));
    if (sp_semihosting(0x15, &block) == 0 && strcmp(line, "linger") == 0) { /* SYS_GET_CMDLINE */
        printf("done=%02d\n", code);
        for (size_t len = 0;;) { /* mostly in the secure world */
            (void)psa_hash_compute(PSA_ALG_SHA_256, scratch, sizeof(scratch), scratch, 32, &len);
        }
    }
    return code;
}
