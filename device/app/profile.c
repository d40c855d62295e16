/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/app/profile.h"

#include "psa/internal_trusted_storage.h"

#define PROFILE_UID     1U
#define PROFILE_VERSION 1U
#define PROFILE_MAX     (1U + 32U + 1U + 1U + 4U + SP_LINK_IDENTITY_MAX)

static bool decode(struct sp_view asset, struct sp_profile *out)
{
    struct sp_reader r;
    sp_reader_init(&r, asset);
    uint8_t version = sp_read_u8(&r);
    struct sp_view source = sp_read_bytes(&r, sizeof(out->source));
    uint8_t role = sp_read_u8(&r);
    uint8_t binding = sp_read_u8(&r);
    uint32_t suites = sp_read_u32(&r);
    struct sp_view identity = sp_read_rest(&r);
    if (r.err != SP_OK || version != PROFILE_VERSION || role > SP_APP_MONITOR ||
        binding > SP_LINK_BINDING_NONE || !sp_link_identity_valid(identity)) {
        return false;
    }
    out->role = (enum sp_app_role)role;
    out->binding = (enum sp_link_binding)binding;
    out->suites = suites;
    out->identity_len = identity.len;
    sp_copy(out->source, source.ptr, source.len);
    sp_copy(out->identity, identity.ptr, identity.len);
    return true;
}

psa_status_t sp_profile_load(struct sp_profile *out)
{
    uint8_t asset[PROFILE_MAX];
    size_t len = 0;
    psa_status_t status = psa_its_get(PROFILE_UID, 0, sizeof(asset), asset, &len);
    if (status != PSA_SUCCESS) {
        return status;
    }
    return decode(sp_view(asset, len), out) ? PSA_SUCCESS : PSA_ERROR_DATA_CORRUPT;
}

psa_status_t sp_profile_save(const struct sp_profile *profile)
{
    uint8_t asset[PROFILE_MAX];
    struct sp_writer w;
    sp_writer_init(&w, asset, sizeof(asset));
    sp_write_u8(&w, PROFILE_VERSION);
    sp_write_view(&w, SP_VIEW_ARRAY(profile->source));
    sp_write_u8(&w, (uint8_t)profile->role);
    sp_write_u8(&w, (uint8_t)profile->binding);
    sp_write_u32(&w, profile->suites);
    sp_write_view(&w, sp_view(profile->identity, profile->identity_len));
    struct sp_view written = sp_writer_view(&w);
    return psa_its_set(PROFILE_UID, written.len, written.ptr, PSA_STORAGE_FLAG_NONE);
}

psa_status_t sp_profile_remove(void)
{
    psa_status_t status = psa_its_remove(PROFILE_UID);
    return status == PSA_ERROR_DOES_NOT_EXIST ? PSA_SUCCESS : status;
}
