/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/attester.h"

#include <string.h>

/* SHA-256 of "sallyport-fleet", of "sallyport-fleet 1.0.0" and of "sallyport-fleet signer". */
const uint8_t sp_attester_implementation_id[32] = {
    0x40, 0x35, 0xDE, 0x69, 0x09, 0x07, 0x3B, 0x0E, 0x90, 0x26, 0x5B, 0x7C, 0x34, 0x92, 0x66, 0x0F,
    0x40, 0x84, 0xDD, 0x27, 0xAA, 0x58, 0xEB, 0x59, 0x7D, 0xE9, 0xA2, 0x37, 0x4F, 0xFA, 0x28, 0x67};
const uint8_t sp_attester_measurement[32] = {
    0x6E, 0xE9, 0x49, 0x12, 0x68, 0x32, 0x30, 0x7B, 0xC2, 0x90, 0x18, 0xC8, 0x6E, 0x29, 0x16, 0xE8,
    0xBA, 0xA1, 0xF3, 0xD0, 0xE5, 0xEF, 0x4E, 0x70, 0x84, 0x1B, 0x34, 0x7C, 0x02, 0xD8, 0x25, 0x58};
const uint8_t sp_attester_signer_id[32] = {
    0x7E, 0x97, 0xFC, 0xF8, 0x5E, 0x8E, 0xCC, 0x19, 0xE3, 0x5B, 0x26, 0xD3, 0x25, 0x9F, 0xE7, 0x7B,
    0x11, 0xA5, 0x7E, 0x54, 0xE6, 0xB3, 0xB7, 0x6C, 0x18, 0x31, 0xBB, 0x2F, 0x52, 0x40, 0xC8, 0x2A};

static const uint8_t boot_seed[32] = "the fleet boots once per process";

enum sp_err sp_attester_init(struct sp_attester *attester, struct sp_view iak)
{
    if (iak.len != sizeof(attester->iak)) {
        return SP_ERR_ARGUMENT;
    }
    SP_TRY(sp_attest_ueid(iak, attester->ueid));
    memcpy(attester->iak, iak.ptr, iak.len);
    return SP_OK;
}

enum sp_err sp_attester_answer(const struct sp_attester *attester,
                               const struct sp_attester_question *question, uint8_t *out,
                               size_t *out_len)
{
    uint8_t challenge[SP_LINK_CHALLENGE_LEN];
    SP_TRY(sp_link_challenge(question->binding, question->nonce, question->exporter,
                             question->identity, challenge));
    struct sp_attest_claims claims = {
        .profile = SP_ATTEST_PROFILE_RFC9783,
        .nonce = SP_VIEW_ARRAY(challenge),
        .instance_id = SP_VIEW_ARRAY(attester->ueid),
        .implementation_id = SP_VIEW_ARRAY(sp_attester_implementation_id),
        .boot_seed = SP_VIEW_ARRAY(boot_seed),
        .client_id = -1,
        .lifecycle = 0x3000,
        .component_count = 1,
    };
    claims.components[0] = (struct sp_attest_component){
        .type = SP_VIEW_INIT(SP_ATTESTER_COMPONENT_TYPE),
        .value = SP_VIEW_ARRAY(sp_attester_measurement),
        .signer_id = SP_VIEW_ARRAY(sp_attester_signer_id),
        .version = SP_VIEW_INIT(SP_ATTESTER_COMPONENT_VERSION),
    };
    struct sp_crypto_key key = {.bytes = SP_VIEW_ARRAY(attester->iak)};
    return sp_attest_encode(&claims, SP_ATTEST_HMAC256, &key, out, SP_ATTESTER_TOKEN_MAX, out_len);
}
