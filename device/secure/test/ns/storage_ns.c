/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Counts in internal trusted storage until the power is cut: `start=N` what it found, `stored=N` what it was told is safe. */
#include "device/secure/test/ns/semihosting.h"
#include "psa/internal_trusted_storage.h"

#include <stdio.h>

#define UID 20U

int main(void)
{
    uint32_t filler[24] = {0};
    size_t len = 0;
    psa_status_t status = psa_its_get(UID, 0, sizeof(filler), filler, &len);
    if (status != PSA_ERROR_DOES_NOT_EXIST && (status != PSA_SUCCESS || len != sizeof(filler))) {
        return 2;
    }
    for (unsigned i = 1; i < 24; i++) {
        if (filler[i] != filler[0]) {
            return 3; /* a mix of two values */
        }
    }
    printf("start=%u\n", (unsigned)filler[0]);
    for (;;) {
        for (unsigned i = 0; i < 24; i++) {
            filler[i]++;
        }
        if (psa_its_set(UID, sizeof(filler), filler, PSA_STORAGE_FLAG_NONE) != PSA_SUCCESS) {
            return 4;
        }
        printf("stored=%u\n", (unsigned)filler[0]);
    }
}
