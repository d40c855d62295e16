/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The smallest non-secure image: the framework answers, and a request to nobody is refused. */
#include "device/secure/test/ns/semihosting.h"
#include "psa/client.h"
#include "psa_manifest/sid.h"

#include <stdbool.h>

int main(void)
{
    uint8_t in = 0;
    const psa_invec vector[] = {{&in, sizeof(in)}};
    bool ok =
        psa_framework_version() == PSA_FRAMEWORK_VERSION &&
        psa_version(TFM_ATTESTATION_SERVICE_SID) == 1U &&
        psa_version(0xDEADU) == PSA_VERSION_NONE &&
        psa_call(SP_SERVICE_HANDLE(31), 0, vector, 1, NULL, 0) == PSA_ERROR_PROGRAMMER_ERROR &&
        psa_call(TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE, 0x7FFF, vector, 1, NULL, 0) !=
            PSA_SUCCESS;
    sp_semihosting_write(ok ? "hello from the non-secure world\n"
                            : "the boundary does not answer\n");
    return ok ? 0 : 1;
}
