/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/tfm/aead_one_shot.h"

#include "libs/base/bytes.h"

/* What both directions give the service, and what has come out so far. */
struct job {
    psa_aead_operation_t operation;
    size_t tag_len;
    const uint8_t *nonce;
    size_t nonce_len;
    const uint8_t *ad;
    size_t ad_len;
    const uint8_t *text;
    size_t text_len;
    uint8_t *out;
    size_t out_size;
    size_t out_len;
    uint8_t last[PSA_AEAD_FINISH_OUTPUT_MAX_SIZE]; /* what a service held back */
    size_t last_len;
};

/* CCM needs the lengths before the nonce. Empty parts are left out: a service need not take a NULL. */
static psa_status_t run(struct job *job)
{
    psa_status_t status = psa_aead_set_lengths(&job->operation, job->ad_len, job->text_len);
    if (status == PSA_SUCCESS) {
        status = psa_aead_set_nonce(&job->operation, job->nonce, job->nonce_len);
    }
    if (status == PSA_SUCCESS && job->ad_len > 0) {
        status = psa_aead_update_ad(&job->operation, job->ad, job->ad_len);
    }
    if (status == PSA_SUCCESS && job->text_len > 0) {
        status = psa_aead_update(&job->operation, job->text, job->text_len, job->out, job->out_size,
                                 &job->out_len);
    }
    return status;
}

/* Put what the service held back behind the rest: as much must have come out as went in. */
static psa_status_t take_last(struct job *job)
{
    if (job->out_len > job->text_len || job->last_len != job->text_len - job->out_len ||
        job->last_len > sizeof(job->last)) {
        return PSA_ERROR_CORRUPTION_DETECTED;
    }
    sp_copy(job->out + job->out_len, job->last, job->last_len);
    return PSA_SUCCESS;
}

/* An abort after an operation that ended does nothing. */
static psa_status_t end(struct job *job, psa_status_t status)
{
    if (status != PSA_SUCCESS) {
        (void)psa_aead_abort(&job->operation);
        if (job->out_size > 0) {
            sp_wipe(job->out, job->out_size);
        }
    }
    sp_wipe(job->last, sizeof(job->last));
    return status;
}

psa_status_t sp_aead_encrypt(mbedtls_svc_key_id_t key, psa_algorithm_t alg, const uint8_t *nonce,
                             size_t nonce_length, const uint8_t *additional_data,
                             size_t additional_data_length, const uint8_t *plaintext,
                             size_t plaintext_length, uint8_t *ciphertext, size_t ciphertext_size,
                             size_t *ciphertext_length)
{
    struct job job = {.operation = PSA_AEAD_OPERATION_INIT,
                      .tag_len = PSA_ALG_AEAD_GET_TAG_LENGTH(alg),
                      .nonce = nonce,
                      .nonce_len = nonce_length,
                      .ad = additional_data,
                      .ad_len = additional_data_length,
                      .text = plaintext,
                      .text_len = plaintext_length,
                      .out = ciphertext,
                      .out_size = ciphertext_size};
    uint8_t tag[PSA_AEAD_TAG_MAX_SIZE];
    size_t tag_len = 0;
    *ciphertext_length = 0;
    psa_status_t status = psa_aead_encrypt_setup(&job.operation, key, alg);
    if (status == PSA_SUCCESS) {
        bool fits =
            ciphertext_size >= job.tag_len && ciphertext_size - job.tag_len >= plaintext_length;
        status = fits ? run(&job) : PSA_ERROR_BUFFER_TOO_SMALL;
    }
    if (status == PSA_SUCCESS) {
        status = psa_aead_finish(&job.operation, job.last, sizeof(job.last), &job.last_len, tag,
                                 sizeof(tag), &tag_len);
    }
    if (status == PSA_SUCCESS) {
        status = tag_len == job.tag_len ? take_last(&job) : PSA_ERROR_CORRUPTION_DETECTED;
    }
    if (status == PSA_SUCCESS) {
        sp_copy(ciphertext + plaintext_length, tag, tag_len);
        *ciphertext_length = plaintext_length + tag_len;
    }
    return end(&job, status);
}

psa_status_t sp_aead_decrypt(mbedtls_svc_key_id_t key, psa_algorithm_t alg, const uint8_t *nonce,
                             size_t nonce_length, const uint8_t *additional_data,
                             size_t additional_data_length, const uint8_t *ciphertext,
                             size_t ciphertext_length, uint8_t *plaintext, size_t plaintext_size,
                             size_t *plaintext_length)
{
    struct job job = {.operation = PSA_AEAD_OPERATION_INIT,
                      .tag_len = PSA_ALG_AEAD_GET_TAG_LENGTH(alg),
                      .nonce = nonce,
                      .nonce_len = nonce_length,
                      .ad = additional_data,
                      .ad_len = additional_data_length,
                      .text = ciphertext,
                      .out = plaintext,
                      .out_size = plaintext_size};
    uint8_t tag[PSA_AEAD_TAG_MAX_SIZE]; /* a copy: the output may reach over the tag in its place */
    *plaintext_length = 0;
    psa_status_t status = psa_aead_decrypt_setup(&job.operation, key, alg);
    if (status == PSA_SUCCESS && (job.tag_len > sizeof(tag) || ciphertext_length < job.tag_len)) {
        status = PSA_ERROR_INVALID_ARGUMENT;
    }
    if (status == PSA_SUCCESS) {
        job.text_len = ciphertext_length - job.tag_len;
        sp_copy(tag, ciphertext + job.text_len, job.tag_len);
        status = plaintext_size >= job.text_len ? run(&job) : PSA_ERROR_BUFFER_TOO_SMALL;
    }
    if (status == PSA_SUCCESS) {
        status = psa_aead_verify(&job.operation, job.last, sizeof(job.last), &job.last_len, tag,
                                 job.tag_len);
    }
    if (status == PSA_SUCCESS) {
        status = take_last(&job);
    }
    if (status == PSA_SUCCESS) {
        *plaintext_length = job.text_len;
    }
    return end(&job, status);
}
