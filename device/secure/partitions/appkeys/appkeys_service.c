/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/appkeys/appkeys_service.h"

#include "device/secure/spm/spm.h"
#include "psa_manifest/pid.h"

#define TOPIC_MAX  256U
#define RECORD_MAX (SP_APPKEYS_PLAIN_MAX + SP_RECORD_OVERHEAD)

static struct sp_appkeys keys;

psa_status_t sp_appkeys_entry_init(void)
{
    if (!sp_spm_enter(SP_PARTITION_APPKEYS)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    /* What is damaged seals nothing; the device starts all the same, and can be provisioned anew. */
    (void)sp_appkeys_load(&keys);
    sp_spm_leave();
    return PSA_SUCCESS;
}

psa_status_t sp_appkeys_take_bundle(const struct sp_appkeys_bundle *bundle)
{
    if (!sp_spm_enter(SP_PARTITION_APPKEYS)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = sp_appkeys_provision(&keys, bundle);
    sp_spm_leave();
    return status;
}

static psa_status_t read_input(const psa_msg_t *msg, uint32_t index, uint8_t *out, size_t cap,
                               struct sp_view *view)
{
    if (msg->in_size[index] == 0 || msg->in_size[index] > cap) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    *view = sp_view(out, psa_read(msg->handle, index, out, cap));
    return PSA_SUCCESS;
}

static psa_status_t grant(const psa_msg_t *msg)
{
    uint8_t in[SP_GRANT_MAX];
    uint8_t ack[SP_ACK_MAX];
    struct sp_view bytes;
    size_t len = 0;
    psa_status_t status = read_input(msg, 0, in, sizeof(in), &bytes);
    if (status == PSA_SUCCESS) {
        status = sp_appkeys_obey(&keys, bytes, ack, sizeof(ack), &len);
    }
    if (status == PSA_SUCCESS && len > msg->out_size[0]) {
        status = PSA_ERROR_BUFFER_TOO_SMALL;
    }
    if (status == PSA_SUCCESS) {
        psa_write(msg->handle, 0, ack, len);
    }
    return status;
}

static psa_status_t open_record(const psa_msg_t *msg)
{
    static struct sp_appkeys_record record; /* one at a time, and too large for the stack */
    uint8_t topic_bytes[TOPIC_MAX];
    uint8_t payload_bytes[RECORD_MAX];
    struct sp_view topic;
    struct sp_view payload;
    if (msg->out_size[0] != sizeof(record)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = read_input(msg, 0, topic_bytes, sizeof(topic_bytes), &topic);
    if (status == PSA_SUCCESS) {
        status = read_input(msg, 1, payload_bytes, sizeof(payload_bytes), &payload);
    }
    record = (struct sp_appkeys_record){.len = 0};
    if (status == PSA_SUCCESS) {
        status = sp_appkeys_unseal(&keys, topic, payload, &record);
    }
    if (status == PSA_SUCCESS) {
        psa_write(msg->handle, 0, &record, sizeof(record));
    }
    sp_wipe(&record, sizeof(record));
    return status;
}

static psa_status_t seal_record(const psa_msg_t *msg)
{
    uint8_t topic_bytes[TOPIC_MAX];
    uint8_t plain_bytes[256];
    uint8_t out[256 + SP_RECORD_OVERHEAD];
    struct sp_view topic;
    struct sp_view plain;
    size_t len = 0;
    if (msg->client_id != SP_PARTITION_SENSOR) {
        return PSA_ERROR_NOT_PERMITTED; /* nobody else says what this device has measured */
    }
    psa_status_t status = read_input(msg, 0, topic_bytes, sizeof(topic_bytes), &topic);
    if (status == PSA_SUCCESS) {
        status = read_input(msg, 1, plain_bytes, sizeof(plain_bytes), &plain);
    }
    if (status == PSA_SUCCESS) {
        status = sp_appkeys_seal(&keys, topic, plain, out, sizeof(out), &len);
    }
    if (status == PSA_SUCCESS && len > msg->out_size[0]) {
        status = PSA_ERROR_BUFFER_TOO_SMALL;
    }
    if (status == PSA_SUCCESS) {
        psa_write(msg->handle, 0, out, len);
    }
    return status;
}

psa_status_t sp_appkeys_sfn(const psa_msg_t *msg)
{
    switch (msg->type) {
    case SP_APPKEYS_GRANT:
        return grant(msg);
    case SP_APPKEYS_OPEN:
        return open_record(msg);
    case SP_APPKEYS_SEAL:
        return seal_record(msg);
    default:
        return PSA_ERROR_NOT_SUPPORTED;
    }
}
