/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/tamper.h"

#include "psa/initial_attestation.h"

#include <string.h>

#define LIFECYCLE_DEBUG 0x4000U

enum sp_err sp_tamper_parse(const char *text, enum sp_tamper *out)
{
    static const char *const names[] = {
        [SP_TAMPER_NONE] = "none",           [SP_TAMPER_MEASUREMENT] = "measurement",
        [SP_TAMPER_LIFECYCLE] = "lifecycle", [SP_TAMPER_MAC] = "mac",
        [SP_TAMPER_REPLAY] = "replay",
    };
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        if (strcmp(text, names[i]) == 0) {
            *out = (enum sp_tamper)i;
            return SP_OK;
        }
    }
    return SP_ERR_NOT_FOUND;
}

void sp_tamper_boot(enum sp_tamper tamper, struct sp_boot_record *boot)
{
    if (tamper == SP_TAMPER_MEASUREMENT) {
        boot->components[0].value[0] ^= 1U;
    } else if (tamper == SP_TAMPER_LIFECYCLE) {
        boot->lifecycle = LIFECYCLE_DEBUG;
    }
}

static psa_status_t attest_damaged(const uint8_t *challenge, size_t challenge_len, uint8_t *token,
                                   size_t cap, size_t *token_len)
{
    psa_status_t status =
        psa_initial_attest_get_token(challenge, challenge_len, token, cap, token_len);
    if (status == PSA_SUCCESS) {
        token[*token_len - 1U] ^= 1U; /* the tag is last */
    }
    return status;
}

static psa_status_t attest_old(const uint8_t *challenge, size_t challenge_len, uint8_t *token,
                               size_t cap, size_t *token_len)
{
    static const uint8_t old_challenge[SP_LINK_CHALLENGE_LEN];
    static uint8_t old[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    static size_t old_len;
    (void)challenge;
    (void)challenge_len;
    if (old_len == 0) {
        psa_status_t status = psa_initial_attest_get_token(old_challenge, sizeof(old_challenge),
                                                           old, sizeof(old), &old_len);
        if (status != PSA_SUCCESS) {
            return status;
        }
    }
    if (old_len > cap) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    sp_copy(token, old, old_len);
    *token_len = old_len;
    return PSA_SUCCESS;
}

sp_app_attest *sp_tamper_attest(enum sp_tamper tamper)
{
    return tamper == SP_TAMPER_MAC      ? attest_damaged
           : tamper == SP_TAMPER_REPLAY ? attest_old
                                        : psa_initial_attest_get_token;
}
