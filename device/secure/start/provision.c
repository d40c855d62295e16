/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/secure/start/provision.h"

#include "device/secure/partitions/crypto/random.h"
#include "device/secure/secure.h"
#include "device/secure/spm/spm.h"
#include "libs/cose/crypto.h"
#include "psa_manifest/pid.h"

#define MAGIC         0x53505056U /* "SPPV" */
#define VERSION       1U
#define HEAD_LEN      40U
#define LIFECYCLE_UID 2U /* asset of the attestation partition; 1 is its identity */

struct parcel {
    struct sp_secure_secrets secrets;
    struct sp_view seed;
    struct sp_view lifecycle;
    struct sp_appkeys_preshared app_keys[SP_APPKEYS_SLOTS];
};

/* Length of the body; 0: no parcel here. */
static size_t read_head(struct sp_view raw, struct sp_view *hash)
{
    struct sp_reader r;
    sp_reader_init(&r, raw);
    bool good = sp_read_u32(&r) == MAGIC && sp_read_u16(&r) == VERSION << 8;
    size_t len = sp_read_u16(&r);
    *hash = sp_read_rest(&r);
    return good && len <= SP_PROVISION_BODY_MAX ? len : 0;
}

static psa_status_t set_asset(int32_t owner, psa_storage_uid_t uid, struct sp_view content)
{
    if (!sp_spm_enter(owner)) {
        return PSA_ERROR_PROGRAMMER_ERROR;
    }
    psa_status_t status = psa_its_set(uid, content.len, content.ptr, PSA_STORAGE_FLAG_NONE);
    sp_spm_leave();
    return status;
}

static psa_status_t take_app_key(struct sp_reader *r, struct parcel *out)
{
    struct sp_appkeys_bundle *app = &out->secrets.app;
    if (app->key_count == SP_APPKEYS_SLOTS) {
        return PSA_ERROR_DATA_CORRUPT;
    }
    struct sp_appkeys_preshared *key = &out->app_keys[app->key_count++];
    key->epoch = sp_read_u32(r);
    key->algorithm = (enum sp_cose_algorithm)sp_read_u8(r);
    key->kind = (enum sp_grant_kind)sp_read_u8(r);
    key->key = sp_read_rest(r);
    app->keys = out->app_keys;
    return r->err == SP_OK ? PSA_SUCCESS : PSA_ERROR_DATA_CORRUPT;
}

static psa_status_t take_item(uint8_t tag, struct sp_view content, struct parcel *out)
{
    struct sp_reader r;
    sp_reader_init(&r, content);
    switch (tag) {
    case SP_PROVISION_DEVICE:
        out->secrets.device = content;
        return PSA_SUCCESS;
    case SP_PROVISION_PSK:
        out->secrets.psk = content;
        return PSA_SUCCESS;
    case SP_PROVISION_IAK:
        out->secrets.iak = content;
        return PSA_SUCCESS;
    case SP_PROVISION_IAK_ALGORITHM:
        out->secrets.iak_algorithm = (enum sp_attest_algorithm)sp_read_u8(&r);
        return sp_reader_finish(&r) == SP_OK ? PSA_SUCCESS : PSA_ERROR_DATA_CORRUPT;
    case SP_PROVISION_SEED:
        out->seed = content;
        return PSA_SUCCESS;
    case SP_PROVISION_LIFECYCLE:
        out->lifecycle = content;
        return content.len == 2 ? PSA_SUCCESS : PSA_ERROR_DATA_CORRUPT;
    case SP_PROVISION_ASSET: {
        uint32_t uid = sp_read_u32(&r);
        struct sp_view rest = sp_read_rest(&r);
        return r.err == SP_OK ? set_asset(SP_CLIENT_NON_SECURE, uid, rest) : PSA_ERROR_DATA_CORRUPT;
    }
    case SP_PROVISION_KEK:
        out->secrets.app.kek = content;
        return PSA_SUCCESS;
    case SP_PROVISION_GROUP:
        out->secrets.app.group = content;
        return PSA_SUCCESS;
    case SP_PROVISION_APP_KEY:
        return take_app_key(&r, out);
    default:
        return PSA_ERROR_DATA_CORRUPT;
    }
}

static psa_status_t take_body(struct sp_view body)
{
    struct parcel parcel = {.secrets = {.iak_algorithm = SP_ATTEST_HMAC256}};
    struct sp_reader r;
    sp_reader_init(&r, body);
    psa_status_t status = PSA_SUCCESS;
    while (sp_reader_left(&r) != 0 && status == PSA_SUCCESS) {
        uint8_t tag = sp_read_u8(&r);
        struct sp_view content = sp_read_bytes(&r, sp_read_u16(&r));
        status = r.err == SP_OK ? take_item(tag, content, &parcel) : PSA_ERROR_DATA_CORRUPT;
    }
    if (status == PSA_SUCCESS) {
        status = sp_random_provision(parcel.seed);
    }
    if (status == PSA_SUCCESS) {
        status = sp_secure_provision(&parcel.secrets, true);
    }
    return status == PSA_SUCCESS ? set_asset(SP_PARTITION_ATTEST, LIFECYCLE_UID, parcel.lifecycle)
                                 : status;
}

/* The body first: as long as the head is there, the next boot knows that something is left to do. */
static enum sp_err erase(const struct sp_its_medium *storage, size_t body_len)
{
    static const uint8_t zeros[64];
    for (size_t done = 0; done < body_len; done += sizeof(zeros)) {
        struct sp_view part = sp_view_first(SP_VIEW_ARRAY(zeros), body_len - done);
        SP_TRY(storage->write(storage->ctx, SP_PROVISION_OFFSET + HEAD_LEN + done, part));
    }
    SP_TRY(storage->sync(storage->ctx));
    SP_TRY(storage->write(storage->ctx, SP_PROVISION_OFFSET, sp_view(zeros, HEAD_LEN)));
    return storage->sync(storage->ctx);
}

psa_status_t sp_provision_take(const struct sp_its_medium *storage)
{
    uint8_t head[HEAD_LEN];
    uint8_t body[SP_PROVISION_BODY_MAX];
    uint8_t real[32];
    struct sp_view hash;
    if (storage->read(storage->ctx, SP_PROVISION_OFFSET, head, sizeof(head)) != SP_OK) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    size_t len = read_head(SP_VIEW_ARRAY(head), &hash);
    if (len == 0) {
        return PSA_SUCCESS;
    }
    if (storage->read(storage->ctx, SP_PROVISION_OFFSET + HEAD_LEN, body, len) != SP_OK) {
        return PSA_ERROR_STORAGE_FAILURE;
    }
    struct sp_view content = sp_view(body, len);
    psa_status_t status = PSA_ERROR_SERVICE_FAILURE;
    if (sp_crypto_hash(SP_SHA256, &content, 1, real) == SP_OK) {
        if (sp_view_equal(hash, SP_VIEW_ARRAY(real))) {
            status = take_body(content);
        } else {
            status = sp_secure_provisioned() ? PSA_SUCCESS : PSA_ERROR_DATA_CORRUPT;
        }
    }
    sp_wipe(body, sizeof(body));
    if (status == PSA_SUCCESS && erase(storage, len) != SP_OK) {
        status = PSA_ERROR_STORAGE_FAILURE;
    }
    return status;
}

uint16_t sp_provision_lifecycle(void)
{
    uint8_t raw[2] = {SP_LIFECYCLE_ASSEMBLY >> 8, SP_LIFECYCLE_ASSEMBLY & 0xFFU};
    size_t len = 0;
    if (sp_spm_enter(SP_PARTITION_ATTEST)) {
        (void)psa_its_get(LIFECYCLE_UID, 0, sizeof(raw), raw, &len);
        sp_spm_leave();
    }
    return (uint16_t)(raw[0] << 8 | raw[1]);
}
