/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file Randomness where no hardware gives any: a generator (CTR_DRBG, NIST SP 800-90A) seeded from a secret that
 * provisioning stored, renewed at every boot before anything else is drawn. So no two boots give the same numbers,
 * as long as nobody puts an old storage image back. A board with a true random generator mixes it in here.
 */
#ifndef SP_DEVICE_SECURE_PARTITIONS_CRYPTO_RANDOM_H
#define SP_DEVICE_SECURE_PARTITIONS_CRYPTO_RANDOM_H

#include "libs/base/bytes.h"
#include "psa/error.h"

#define SP_RANDOM_SEED_LEN 64U

/** Put the first seed in storage: SP_RANDOM_SEED_LEN bytes of true randomness from the factory. */
psa_status_t sp_random_provision(struct sp_view seed);

/**
 * Seed the generator and replace the stored seed. Until it has succeeded there is no randomness at all.
 * @retval PSA_ERROR_DOES_NOT_EXIST There is no seed: the device is not provisioned.
 */
psa_status_t sp_random_start(void);

#endif
