/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The randomness of the crypto core (MBEDTLS_PSA_CRYPTO_EXTERNAL_RNG): the kernel's. */
#include <psa/crypto.h>

#include <errno.h>
#include <sys/random.h>

psa_status_t mbedtls_psa_external_get_random(mbedtls_psa_external_random_context_t *context,
                                             uint8_t *output, size_t output_size,
                                             size_t *output_length)
{
    (void)context;
    size_t done = 0;
    while (done < output_size) {
        ssize_t got = getrandom(output + done, output_size - done, 0);
        if (got < 0 && errno != EINTR) {
            return PSA_ERROR_INSUFFICIENT_ENTROPY;
        }
        done += got > 0 ? (size_t)got : 0;
    }
    *output_length = done;
    return PSA_SUCCESS;
}
