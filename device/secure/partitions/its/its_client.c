/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/partitions/its/its_service.h"
#include "psa/client.h"
#include "psa_manifest/sid.h"

static psa_status_t call(int32_t type, const psa_invec *in, size_t in_len, psa_outvec *out,
                         size_t out_len)
{
    return psa_call(TFM_INTERNAL_TRUSTED_STORAGE_SERVICE_HANDLE, type, in, in_len, out, out_len);
}

psa_status_t psa_its_set(psa_storage_uid_t uid, size_t data_length, const void *p_data,
                         psa_storage_create_flags_t create_flags)
{
    if (p_data == NULL && data_length != 0) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    struct sp_its_address at = {.uid = uid, .flags = create_flags};
    psa_invec in[] = {{&at, sizeof(at)}, {p_data, data_length}};
    return call(SP_ITS_SET, in, 2, NULL, 0);
}

psa_status_t psa_its_get(psa_storage_uid_t uid, size_t data_offset, size_t data_size, void *p_data,
                         size_t *p_data_length)
{
    if ((p_data == NULL && data_size != 0) || p_data_length == NULL || data_offset > UINT32_MAX) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    struct sp_its_address at = {.uid = uid, .offset = (uint32_t)data_offset};
    psa_invec in[] = {{&at, sizeof(at)}};
    psa_outvec out[] = {{p_data, data_size}};
    psa_status_t status = call(SP_ITS_GET, in, 1, out, 1);
    if (status == PSA_SUCCESS) {
        *p_data_length = out[0].len;
    }
    return status;
}

psa_status_t psa_its_get_info(psa_storage_uid_t uid, struct psa_storage_info_t *p_info)
{
    if (p_info == NULL) {
        return PSA_ERROR_INVALID_ARGUMENT;
    }
    struct sp_its_address at = {.uid = uid};
    psa_invec in[] = {{&at, sizeof(at)}};
    psa_outvec out[] = {{p_info, sizeof(*p_info)}};
    return call(SP_ITS_GET_INFO, in, 1, out, 1);
}

psa_status_t psa_its_remove(psa_storage_uid_t uid)
{
    struct sp_its_address at = {.uid = uid};
    psa_invec in[] = {{&at, sizeof(at)}};
    return call(SP_ITS_REMOVE, in, 1, NULL, 0);
}
