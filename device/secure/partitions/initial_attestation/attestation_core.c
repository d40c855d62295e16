/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/initial_attestation/attestation_core.h"

static bool challenge_size_valid(size_t len)
{
    return len == 32 || len == 48 || len == 64;
}

static void fill_claims(const struct sp_boot_record *boot, struct sp_attest_claims *claims)
{
    claims->profile = SP_ATTEST_PROFILE_RFC9783;
    claims->implementation_id = SP_VIEW_ARRAY(boot->implementation_id);
    claims->boot_seed = SP_VIEW_ARRAY(boot->boot_seed);
    claims->lifecycle = boot->lifecycle;
    claims->component_count = boot->component_count;
    for (size_t i = 0; i < boot->component_count; i++) {
        const struct sp_boot_component *from = &boot->components[i];
        claims->components[i] = (struct sp_attest_component){
            .type = sp_view_str(from->type),
            .value = SP_VIEW_ARRAY(from->value),
            .signer_id = SP_VIEW_ARRAY(from->signer_id),
            .version = sp_view_str(from->version),
        };
    }
}

psa_status_t sp_attestation_token(const struct sp_boot_record *boot,
                                  const struct sp_attestation_identity *identity,
                                  struct sp_view challenge, int32_t client_id, uint8_t *out,
                                  size_t cap, size_t *out_len)
{
    if (!challenge_size_valid(challenge.len)) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    struct sp_attest_claims claims = {
        .nonce = challenge,
        .instance_id = SP_VIEW_ARRAY(identity->instance_id),
        .client_id = client_id,
    };
    fill_claims(boot, &claims);
    enum sp_err err =
        sp_attest_encode(&claims, identity->algorithm, &identity->key, out, cap, out_len);
    if (err == SP_ERR_SPACE) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    return err == SP_OK ? PSA_SUCCESS : PSA_ERROR_SERVICE_FAILURE;
}
