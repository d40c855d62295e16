/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Ours against the one-shot functions of Mbed TLS's PSA core: same bytes, same errors. */
#include "device/port/tfm/aead_one_shot.h"

#include "libs/base/bytes.h"
#include "libs/base/test.h"

#include <string.h>

#define TEXT_MAX 300U
#define TAG_MAX  16U
#define CAP      (TEXT_MAX + TAG_MAX + 8U)

#define CCM   PSA_ALG_CCM
#define CCM_8 PSA_ALG_AEAD_WITH_SHORTENED_TAG(PSA_ALG_CCM, 8)
#define GCM   PSA_ALG_GCM

static const struct algorithm {
    const char *name;
    psa_algorithm_t alg;
    size_t tag;
} algorithms[] = {{"CCM", CCM, 16}, {"CCM-8", CCM_8, 8}, {"GCM", GCM, 16}};
#define ALGORITHMS (sizeof(algorithms) / sizeof(algorithms[0]))

static const size_t text_sizes[] = {0,  1,  7,  8,  15, 16,  17,  31,
                                    32, 33, 63, 64, 65, 255, 256, TEXT_MAX};
static const size_t ad_sizes[] = {0, 1, 13, 16, 17, 32};
#define TEXTS (sizeof(text_sizes) / sizeof(text_sizes[0]))
#define ADS   (sizeof(ad_sizes) / sizeof(ad_sizes[0]))

static const uint8_t nonce[12] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12};
static uint8_t ad[32];
static uint8_t text[TEXT_MAX];

static mbedtls_svc_key_id_t import(psa_algorithm_t alg, psa_key_usage_t usage)
{
    static const uint8_t bytes[16] = "a key of 16 byte";
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    mbedtls_svc_key_id_t id = MBEDTLS_SVC_KEY_ID_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_AES);
    psa_set_key_algorithm(&attributes, alg);
    psa_set_key_usage_flags(&attributes, usage);
    SP_CHECK_INT(psa_import_key(&attributes, bytes, sizeof(bytes), &id), PSA_SUCCESS);
    return id;
}

static mbedtls_svc_key_id_t key_for(psa_algorithm_t alg)
{
    return import(alg, PSA_KEY_USAGE_ENCRYPT | PSA_KEY_USAGE_DECRYPT);
}

static bool all(const uint8_t *bytes, size_t len, uint8_t value)
{
    for (size_t i = 0; i < len; i++) {
        if (bytes[i] != value) {
            return false;
        }
    }
    return true;
}

static void one_size(const struct algorithm *a, mbedtls_svc_key_id_t key, size_t ad_len, size_t len)
{
    uint8_t want[CAP];
    uint8_t have[CAP];
    size_t want_len = 0;
    size_t have_len = 0;
    size_t plain_len = 0;
    memset(have, 0xEE, sizeof(have));
    SP_CHECK_INT(psa_aead_encrypt(key, a->alg, nonce, sizeof(nonce), ad, ad_len, text, len, want,
                                  sizeof(want), &want_len),
                 PSA_SUCCESS);
    SP_CHECK_INT(sp_aead_encrypt(key, a->alg, nonce, sizeof(nonce), ad, ad_len, text, len, have,
                                 len + a->tag, &have_len),
                 PSA_SUCCESS);
    SP_CHECK_INT(have_len, len + a->tag);
    SP_CHECK_INT(have_len, want_len);
    SP_CHECK_CASE(memcmp(have, want, want_len) == 0, a->name);
    SP_CHECK_CASE(all(have + have_len, sizeof(have) - have_len, 0xEE), a->name);
    memset(have, 0xEE, sizeof(have));
    SP_CHECK_INT(sp_aead_decrypt(key, a->alg, nonce, sizeof(nonce), ad, ad_len, want, want_len,
                                 have, len, &plain_len),
                 PSA_SUCCESS);
    SP_CHECK_INT(plain_len, len);
    SP_CHECK_CASE(memcmp(have, text, len) == 0, a->name);
    SP_CHECK_CASE(all(have + len, sizeof(have) - len, 0xEE), a->name);
}

static void it_makes_and_takes_what_the_core_makes_at_every_size(void)
{
    for (size_t i = 0; i < ALGORITHMS; i++) {
        mbedtls_svc_key_id_t key = key_for(algorithms[i].alg);
        for (size_t j = 0; j < ADS * TEXTS; j++) {
            one_size(&algorithms[i], key, ad_sizes[j / TEXTS], text_sizes[j % TEXTS]);
        }
        SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
    }
}

static void the_tls_client_s_way_in_place_works(void)
{
    for (size_t i = 0; i < ALGORITHMS; i++) {
        const struct algorithm *a = &algorithms[i];
        mbedtls_svc_key_id_t key = key_for(a->alg);
        for (size_t j = 0; j < TEXTS; j++) {
            uint8_t buffer[CAP];
            size_t len = text_sizes[j];
            size_t sealed = 0;
            size_t opened = 0;
            sp_copy(buffer, text, len);
            SP_CHECK_INT(sp_aead_encrypt(key, a->alg, nonce, sizeof(nonce), ad, 13, buffer, len,
                                         buffer, sizeof(buffer), &sealed),
                         PSA_SUCCESS);
            SP_CHECK_INT(sp_aead_decrypt(key, a->alg, nonce, sizeof(nonce), ad, 13, buffer, sealed,
                                         buffer, sizeof(buffer), &opened),
                         PSA_SUCCESS);
            SP_CHECK_INT(opened, len);
            SP_CHECK_CASE(memcmp(buffer, text, len) == 0, a->name);
        }
        SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
    }
}

static void refused(const struct algorithm *a, mbedtls_svc_key_id_t key, const uint8_t *nonce_used,
                    size_t ad_len, const uint8_t *sealed, size_t sealed_len)
{
    uint8_t plain[CAP];
    size_t len = 99;
    memset(plain, 0xEE, sizeof(plain));
    SP_CHECK_INT(sp_aead_decrypt(key, a->alg, nonce_used, sizeof(nonce), ad, ad_len, sealed,
                                 sealed_len, plain, sizeof(plain), &len),
                 PSA_ERROR_INVALID_SIGNATURE);
    SP_CHECK_INT(len, 0);
    SP_CHECK_CASE(all(plain, sizeof(plain), 0), a->name);
}

static void every_flipped_bit_is_refused_and_leaves_nothing(void)
{
    enum { LEN = 37, AD = 13 };
    for (size_t i = 0; i < ALGORITHMS; i++) {
        const struct algorithm *a = &algorithms[i];
        mbedtls_svc_key_id_t key = key_for(a->alg);
        uint8_t sealed[CAP];
        uint8_t other[sizeof(nonce)];
        size_t len = 0;
        SP_CHECK_INT(sp_aead_encrypt(key, a->alg, nonce, sizeof(nonce), ad, AD, text, LEN, sealed,
                                     sizeof(sealed), &len),
                     PSA_SUCCESS);
        for (size_t bit = 0; bit < 8 * len; bit++) {
            sealed[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            refused(a, key, nonce, AD, sealed, len);
            sealed[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
        for (size_t bit = 0; bit < 8 * sizeof(nonce); bit++) {
            sp_copy(other, nonce, sizeof(nonce));
            other[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            refused(a, key, other, AD, sealed, len);
        }
        for (size_t bit = 0; bit < 8 * AD; bit++) {
            ad[bit / 8] ^= (uint8_t)(1U << (bit % 8));
            refused(a, key, nonce, AD, sealed, len);
            ad[bit / 8] ^= (uint8_t)(1U << (bit % 8));
        }
        refused(a, key, nonce, AD - 1, sealed, len);
        refused(a, key, nonce, AD, sealed, len - 1);
        SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
    }
}

static void sizes_that_do_not_fit_are_refused_as_the_core_does(void)
{
    for (size_t i = 0; i < ALGORITHMS; i++) {
        const struct algorithm *a = &algorithms[i];
        mbedtls_svc_key_id_t key = key_for(a->alg);
        uint8_t sealed[CAP];
        uint8_t out[CAP];
        size_t sealed_len = 0;
        size_t len = 0;
        SP_CHECK_INT(sp_aead_encrypt(key, a->alg, nonce, sizeof(nonce), ad, 13, text, 40, sealed,
                                     sizeof(sealed), &sealed_len),
                     PSA_SUCCESS);
        for (size_t size = 0; size < 40 + a->tag; size++) {
            memset(out, 0xEE, sizeof(out));
            SP_CHECK_INT(sp_aead_encrypt(key, a->alg, nonce, sizeof(nonce), ad, 13, text, 40, out,
                                         size, &len),
                         PSA_ERROR_BUFFER_TOO_SMALL);
            SP_CHECK_INT(len, 0);
            SP_CHECK_CASE(all(out, size, 0) && all(out + size, CAP - size, 0xEE), a->name);
        }
        for (size_t size = 0; size < 40; size++) {
            memset(out, 0xEE, sizeof(out));
            SP_CHECK_INT(sp_aead_decrypt(key, a->alg, nonce, sizeof(nonce), ad, 13, sealed,
                                         sealed_len, out, size, &len),
                         PSA_ERROR_BUFFER_TOO_SMALL);
            SP_CHECK_CASE(all(out, size, 0) && all(out + size, CAP - size, 0xEE), a->name);
        }
        for (size_t size = 0; size < a->tag; size++) {
            SP_CHECK_INT(sp_aead_decrypt(key, a->alg, nonce, sizeof(nonce), ad, 13, sealed, size,
                                         out, sizeof(out), &len),
                         psa_aead_decrypt(key, a->alg, nonce, sizeof(nonce), ad, 13, sealed, size,
                                          out, sizeof(out), &len));
        }
        SP_CHECK_INT(psa_destroy_key(key), PSA_SUCCESS);
    }
}

static void a_key_does_what_its_policy_says_and_no_more(void)
{
    uint8_t out[CAP];
    size_t len = 0;
    mbedtls_svc_key_id_t seal_only = import(CCM, PSA_KEY_USAGE_ENCRYPT);
    mbedtls_svc_key_id_t open_only = import(CCM, PSA_KEY_USAGE_DECRYPT);
    mbedtls_svc_key_id_t none = mbedtls_svc_key_id_make(0, 0x1234);
    const struct {
        const char *name;
        mbedtls_svc_key_id_t key;
        psa_algorithm_t alg;
        size_t nonce_len;
    } cases[] = {{"usage", open_only, CCM, 12},
                 {"another tag", seal_only, CCM_8, 12},
                 {"another algorithm", seal_only, GCM, 12},
                 {"no such key", none, CCM, 12},
                 {"not an AEAD", seal_only, PSA_ALG_SHA_256, 12},
                 {"nonce of 6", seal_only, CCM, 6},
                 {"nonce of none", seal_only, CCM, 0}};
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        psa_status_t want = psa_aead_encrypt(cases[i].key, cases[i].alg, nonce, cases[i].nonce_len,
                                             ad, 13, text, 40, out, sizeof(out), &len);
        psa_status_t have = sp_aead_encrypt(cases[i].key, cases[i].alg, nonce, cases[i].nonce_len,
                                            ad, 13, text, 40, out, sizeof(out), &len);
        SP_CHECK_CASE(want != PSA_SUCCESS && have == want, cases[i].name);
        SP_CHECK_CASE(all(out, sizeof(out), 0), cases[i].name);
    }
    SP_CHECK_INT(sp_aead_decrypt(seal_only, CCM, nonce, sizeof(nonce), ad, 13, text, 40, out,
                                 sizeof(out), &len),
                 PSA_ERROR_NOT_PERMITTED);
    SP_CHECK_INT(psa_destroy_key(seal_only), PSA_SUCCESS);
    SP_CHECK_INT(psa_destroy_key(open_only), PSA_SUCCESS);
}

int main(void)
{
    static const struct sp_test tests[] = {
        SP_TEST(it_makes_and_takes_what_the_core_makes_at_every_size),
        SP_TEST(the_tls_client_s_way_in_place_works),
        SP_TEST(every_flipped_bit_is_refused_and_leaves_nothing),
        SP_TEST(sizes_that_do_not_fit_are_refused_as_the_core_does),
        SP_TEST(a_key_does_what_its_policy_says_and_no_more),
    };
    for (size_t i = 0; i < sizeof(text); i++) {
        text[i] = (uint8_t)(i * 7 + 1);
        ad[i % sizeof(ad)] = (uint8_t)i;
    }
    SP_CHECK_INT(psa_crypto_init(), PSA_SUCCESS);
    return sp_test_run_all(tests, sizeof(tests) / sizeof(tests[0]));
}
