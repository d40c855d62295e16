/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/its/its_service.h"

static struct sp_its store;

psa_status_t sp_its_entry_init(const struct sp_its_medium *medium)
{
    return sp_its_open(&store, medium);
}

static psa_status_t do_set(const psa_msg_t *msg, const struct sp_its_address *at)
{
    uint8_t data[SP_ITS_ASSET_MAX];
    if (msg->in_size[1] > sizeof(data)) {
        return PSA_ERROR_INSUFFICIENT_STORAGE;
    }
    size_t len = psa_read(msg->handle, 1, data, sizeof(data));
    psa_status_t status =
        sp_its_set(&store, msg->client_id, at->uid, sp_view(data, len), at->flags);
    sp_wipe(data, sizeof(data));
    return status;
}

static psa_status_t do_get(const psa_msg_t *msg, const struct sp_its_address *at)
{
    struct sp_view data;
    psa_status_t status =
        sp_its_get(&store, msg->client_id, at->uid, at->offset, msg->out_size[0], &data);
    if (status == PSA_SUCCESS) {
        psa_write(msg->handle, 0, data.ptr, data.len);
    }
    return status;
}

static psa_status_t do_get_info(const psa_msg_t *msg, const struct sp_its_address *at)
{
    struct psa_storage_info_t info;
    if (msg->out_size[0] != sizeof(info)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = sp_its_get_info(&store, msg->client_id, at->uid, &info);
    if (status == PSA_SUCCESS) {
        psa_write(msg->handle, 0, &info, sizeof(info));
    }
    return status;
}

static psa_status_t do_remove(const psa_msg_t *msg, const struct sp_its_address *at)
{
    return sp_its_remove(&store, msg->client_id, at->uid);
}

psa_status_t sp_its_sfn(const psa_msg_t *msg)
{
    static const struct {
        int32_t type;
        psa_status_t (*run)(const psa_msg_t *msg, const struct sp_its_address *at);
    } requests[] = {
        {SP_ITS_SET, do_set},
        {SP_ITS_GET, do_get},
        {SP_ITS_GET_INFO, do_get_info},
        {SP_ITS_REMOVE, do_remove},
    };
    struct sp_its_address at;
    if (msg->in_size[0] != sizeof(at) || psa_read(msg->handle, 0, &at, sizeof(at)) != sizeof(at)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    for (size_t i = 0; i < sizeof(requests) / sizeof(requests[0]); i++) {
        if (requests[i].type == msg->type) {
            return requests[i].run(msg, &at);
        }
    }
    return PSA_ERROR_NOT_SUPPORTED;
}
