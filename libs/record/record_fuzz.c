/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Records, grants and acknowledgements from outside: nothing may open under keys that the fuzzer does not know. */
#include "libs/record/grant.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint8_t secret[SP_GRANT_KEK_LEN] = {0xA5, 1, 2, 3};
    const struct sp_view input = {data, size};
    const struct sp_view topic = SP_VIEW_LIT("dt/dev-1/climate");
    const struct sp_crypto_key ccm = {.bytes = sp_view(secret, 16)};
    const struct sp_crypto_key mac = {.bytes = sp_view(secret, 32)};
    const struct sp_grant_kek kek = sp_grant_kek(secret);
    struct sp_record_head head;
    struct sp_grant grant;
    struct sp_grant_ack ack;
    uint8_t out[SP_RECORD_PLAIN_MAX];
    size_t len = 0;
    bool opened =
        sp_record_unprotect(input, SP_COSE_AES_CCM_16_64_128, &ccm, topic, &head, out, &len) ==
            SP_OK ||
        sp_record_unprotect(input, SP_COSE_HMAC256, &mac, topic, &head, out, &len) == SP_OK ||
        sp_grant_open(input, &kek, SP_VIEW_LIT("dev-1"), out, &grant) == SP_OK ||
        sp_ack_open(input, &kek, SP_VIEW_LIT("dev-1"), &ack) == SP_OK;
    if (opened) {
        abort();
    }
    return 0;
}
