/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/initial_attestation/attestation_service.h"

#include "device/secure/partitions/crypto/crypto_keys.h"
#include "device/secure/partitions/initial_attestation/attestation_core.h"
#include "device/secure/spm/spm.h"
#include "psa/initial_attestation.h"
#include "psa/internal_trusted_storage.h"
#include "psa_manifest/pid.h"

#define IDENTITY_UID 1U /* asset: algorithm (1 byte), instance id */
#define IDENTITY_LEN (1U + SP_ATTEST_UEID_LEN)

static const struct sp_boot_record *boot_record;
static struct sp_attestation_identity identity;
static bool provisioned;

/* Time that was saved up for tokens, at most a burst's worth. */
static struct {
    uint64_t (*clock_ms)(void);
    uint64_t last;
    uint64_t saved_ms;
} limit;

static void use_identity(const uint8_t *asset)
{
    identity.algorithm = (enum sp_attest_algorithm)asset[0];
    sp_copy(identity.instance_id, asset + 1, SP_ATTEST_UEID_LEN);
    identity.key = (struct sp_crypto_key){.id = sp_crypto_key_iak()};
    provisioned = identity.key.id != 0;
}

psa_status_t sp_attestation_entry_init(const struct sp_boot_record *boot)
{
    uint8_t asset[IDENTITY_LEN];
    size_t len = 0;
    boot_record = boot;
    provisioned = false;
    if (!sp_spm_enter(SP_PARTITION_ATTEST)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = psa_its_get(IDENTITY_UID, 0, sizeof(asset), asset, &len);
    sp_spm_leave();
    if (status == PSA_ERROR_DOES_NOT_EXIST) {
        return PSA_SUCCESS;
    }
    if (status != PSA_SUCCESS) {
        return status;
    }
    if (len != sizeof(asset)) {
        return PSA_ERROR_DATA_CORRUPT;
    }
    use_identity(asset);
    return PSA_SUCCESS;
}

static size_t hash_len(enum sp_attest_algorithm algorithm)
{
    return algorithm == SP_ATTEST_HMAC512 ? 64 : algorithm == SP_ATTEST_HMAC384 ? 48 : 32;
}

psa_status_t sp_attestation_provision(struct sp_view iak, enum sp_attest_algorithm algorithm,
                                      bool persistent)
{
    uint8_t asset[IDENTITY_LEN] = {(uint8_t)algorithm};
    if (sp_attest_ueid(iak, asset + 1) != SP_OK || !sp_spm_enter(SP_PARTITION_ATTEST)) {
        return PSA_ERROR_SERVICE_FAILURE;
    }
    psa_status_t status = sp_crypto_import_iak(iak, hash_len(algorithm), persistent);
    if (status == PSA_SUCCESS) {
        status = psa_its_set(IDENTITY_UID, sizeof(asset), asset, PSA_STORAGE_FLAG_NONE);
    }
    sp_spm_leave();
    if (status == PSA_SUCCESS) {
        use_identity(asset);
    }
    return status;
}

/* Makes the token of an answer; `token` has PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE bytes. */
static psa_status_t make(const psa_msg_t *msg, struct sp_view challenge, uint8_t *token,
                         size_t *token_len)
{
    if (!provisioned) {
        return PSA_ERROR_SERVICE_FAILURE;
    }
    return sp_attestation_token(boot_record, &identity, challenge, msg->client_id, token,
                                PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE, token_len);
}

void sp_attestation_limit(uint64_t (*clock_ms)(void))
{
    limit.clock_ms = clock_ms;
    limit.last = clock_ms();
    limit.saved_ms = SP_ATTESTATION_BURST * SP_ATTESTATION_INTERVAL_MS;
}

static bool within_limit(void)
{
    if (limit.clock_ms == NULL) {
        return true;
    }
    uint64_t most = SP_ATTESTATION_BURST * SP_ATTESTATION_INTERVAL_MS;
    uint64_t now = limit.clock_ms();
    limit.saved_ms += now - limit.last;
    limit.saved_ms = limit.saved_ms < most ? limit.saved_ms : most;
    limit.last = now;
    if (limit.saved_ms < SP_ATTESTATION_INTERVAL_MS) {
        return false;
    }
    limit.saved_ms -= SP_ATTESTATION_INTERVAL_MS;
    return true;
}

static psa_status_t get_token(const psa_msg_t *msg)
{
    uint8_t challenge[PSA_INITIAL_ATTEST_CHALLENGE_SIZE_64];
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    size_t token_len = 0;
    if (msg->in_size[0] > sizeof(challenge)) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    if (!within_limit()) {
        return PSA_ERROR_CONNECTION_BUSY;
    }
    size_t len = psa_read(msg->handle, 0, challenge, sizeof(challenge));
    psa_status_t status = make(msg, sp_view(challenge, len), token, &token_len);
    if (status == PSA_SUCCESS && token_len > msg->out_size[0]) {
        return PSA_ERROR_BUFFER_TOO_SMALL;
    }
    if (status == PSA_SUCCESS) {
        psa_write(msg->handle, 0, token, token_len);
    }
    return status;
}

static psa_status_t get_token_size(const psa_msg_t *msg)
{
    static const uint8_t zeros[PSA_INITIAL_ATTEST_CHALLENGE_SIZE_64];
    uint8_t token[PSA_INITIAL_ATTEST_MAX_TOKEN_SIZE];
    size_t challenge_size = 0;
    size_t token_len = 0;
    if (msg->in_size[0] != sizeof(challenge_size) || msg->out_size[0] != sizeof(token_len) ||
        psa_read(msg->handle, 0, &challenge_size, sizeof(challenge_size)) !=
            sizeof(challenge_size)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    if (challenge_size > sizeof(zeros)) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    /* The size depends on that of the challenge only, not on its bytes. */
    psa_status_t status = make(msg, sp_view(zeros, challenge_size), token, &token_len);
    sp_wipe(token, sizeof(token)); /* a valid token over zeros is nobody's business */
    if (status == PSA_SUCCESS) {
        psa_write(msg->handle, 0, &token_len, sizeof(token_len));
    }
    return status;
}

psa_status_t sp_attestation_sfn(const psa_msg_t *msg)
{
    switch (msg->type) {
    case SP_ATTESTATION_GET_TOKEN:
        return get_token(msg);
    case SP_ATTESTATION_GET_TOKEN_SIZE:
        return get_token_size(msg);
    default:
        return PSA_ERROR_NOT_SUPPORTED;
    }
}
