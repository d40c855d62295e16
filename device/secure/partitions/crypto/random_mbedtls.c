/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/crypto/random.h"

#include "device/secure/spm/spm.h"
#include "psa/internal_trusted_storage.h"
#include "psa_manifest/pid.h"

#include <limits.h>
#include <mbedtls/ctr_drbg.h>
#include <psa/crypto.h>
#include <psa/crypto_extra.h>

#define SEED_UID 0x5EEDU /* asset of the crypto partition; its keys have larger numbers */

static mbedtls_ctr_drbg_context generator;
static bool seeded;

/* What is left of the seed while the generator is being seeded; it asks twice, entropy and nonce. */
static struct sp_view pool;

static int draw_from_pool(void *ctx, unsigned char *out, size_t len)
{
    (void)ctx;
    if (pool.len < len) {
        return MBEDTLS_ERR_CTR_DRBG_ENTROPY_SOURCE_FAILED;
    }
    sp_copy(out, pool.ptr, len);
    pool = sp_view_from(pool, len);
    return 0;
}

static psa_status_t store(struct sp_view seed)
{
    if (!sp_spm_enter(SP_PARTITION_CRYPTO)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = psa_its_set(SEED_UID, seed.len, seed.ptr, PSA_STORAGE_FLAG_NONE);
    sp_spm_leave();
    return status;
}

static psa_status_t load(uint8_t *seed)
{
    size_t len = 0;
    if (!sp_spm_enter(SP_PARTITION_CRYPTO)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = psa_its_get(SEED_UID, 0, SP_RANDOM_SEED_LEN, seed, &len);
    sp_spm_leave();
    return status == PSA_SUCCESS && len != SP_RANDOM_SEED_LEN ? PSA_ERROR_DATA_CORRUPT : status;
}

psa_status_t sp_random_provision(struct sp_view seed)
{
    return seed.len == SP_RANDOM_SEED_LEN ? store(seed) : PSA_ERROR_INVALID_ARGUMENT;
}

/* Seed the generator with `seed`, then draw its successor into the same place. */
static psa_status_t seed_generator(uint8_t *seed)
{
    static const unsigned char label[] = "sp-random-1";
    pool = sp_view(seed, SP_RANDOM_SEED_LEN);
    mbedtls_ctr_drbg_init(&generator);
    mbedtls_ctr_drbg_set_entropy_len(&generator, SP_RANDOM_SEED_LEN * 3U / 4U);
    bool good =
        mbedtls_ctr_drbg_set_nonce_len(&generator, SP_RANDOM_SEED_LEN / 4U) == 0 &&
        mbedtls_ctr_drbg_seed(&generator, draw_from_pool, NULL, label, sizeof(label)) == 0 &&
        mbedtls_ctr_drbg_random(&generator, seed, SP_RANDOM_SEED_LEN) == 0;
    pool = sp_view(NULL, 0);
    mbedtls_ctr_drbg_set_reseed_interval(&generator,
                                         INT_MAX); /* nothing to reseed from before the next boot */
    return good ? PSA_SUCCESS : PSA_ERROR_INSUFFICIENT_ENTROPY;
}

psa_status_t sp_random_start(void)
{
    uint8_t seed[SP_RANDOM_SEED_LEN];
    seeded = false;
    psa_status_t status = load(seed);
    if (status == PSA_SUCCESS) {
        status = seed_generator(seed);
    }
    if (status == PSA_SUCCESS) {
        status = store(sp_view(seed, sizeof(seed)));
    }
    sp_wipe(seed, sizeof(seed));
    seeded = status == PSA_SUCCESS;
    return status;
}

psa_status_t mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *context,
                                             uint8_t *output, size_t output_size,
                                             size_t *output_length)
{
    (void)context;
    size_t len =
        output_size < MBEDTLS_CTR_DRBG_MAX_REQUEST ? output_size : MBEDTLS_CTR_DRBG_MAX_REQUEST;
    if (!seeded || mbedtls_ctr_drbg_random(&generator, output, len) != 0) {
        return PSA_ERROR_INSUFFICIENT_ENTROPY;
    }
    *output_length = len;
    return PSA_SUCCESS;
}
