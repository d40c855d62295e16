/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "device/port/posix/provision.h"

#include "device/port/posix/bundle_cjson.h"
#include "device/secure/secure.h"
#include "libs/cose/crypto.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

/* Reads the whole file; `text` has SP_BUNDLE_TEXT_MAX bytes. SP_ERR_NOT_FOUND: there is none. */
static enum sp_err read_bundle(const char *path, uint8_t *text, size_t *len, const char **why)
{
    struct stat st;
    enum sp_err err = SP_ERR_IO;
    *why = "the bundle cannot be read";
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return errno == ENOENT ? SP_ERR_NOT_FOUND : SP_ERR_IO;
    }
    if (fstat(fd, &st) != 0) {
        goto out;
    }
    if ((st.st_mode & 077) != 0) {
        *why = "the bundle holds keys and others may read it: its mode must be 0600";
        err = SP_ERR_DENIED;
        goto out;
    }
    *len = 0;
    for (ssize_t got = 1; got > 0 && *len < SP_BUNDLE_TEXT_MAX; *len += (size_t)got) {
        got = read(fd, text + *len, SP_BUNDLE_TEXT_MAX - *len);
        if (got < 0) {
            goto out;
        }
    }
    if (*len == SP_BUNDLE_TEXT_MAX) {
        *why = "the bundle is too large to be one";
        err = SP_ERR_LIMIT;
        goto out;
    }
    err = SP_OK;
out:
    (void)close(fd);
    return err;
}

/* The profile goes first and comes last: a cut between leaves a device that is provisioned again. */
static psa_status_t take_over(const struct sp_bundle *bundle, bool persistent)
{
    const struct sp_secure_secrets secrets = {
        .device = sp_view(bundle->profile.identity, bundle->profile.identity_len),
        .psk = sp_view(bundle->psk, bundle->psk_len),
        .iak = sp_view(bundle->iak, bundle->iak_len),
        .iak_algorithm = bundle->iak_algorithm,
        .app = {.kek = sp_view(bundle->kek, bundle->kek_len),
                .group = sp_view(bundle->group, bundle->group_len),
                .keys = bundle->app_keys,
                .key_count = bundle->app_key_count},
    };
    psa_status_t status = sp_profile_remove();
    if (status == PSA_SUCCESS) {
        status = sp_secure_provision(&secrets, persistent);
    }
    return status == PSA_SUCCESS ? sp_profile_save(&bundle->profile) : status;
}

static enum sp_err from_bundle(struct sp_view text, bool persistent, bool have,
                               struct sp_profile *profile, const char **why)
{
    uint8_t source[32];
    *why = "the crypto service failed";
    SP_TRY(sp_crypto_hash(SP_SHA256, &text, 1, source));
    if (have && sp_view_equal(SP_VIEW_ARRAY(source), SP_VIEW_ARRAY(profile->source))) {
        return SP_OK;
    }
    struct sp_bundle bundle;
    SP_TRY(sp_bundle_parse(text, &bundle, why));
    sp_copy(bundle.profile.source, source, sizeof(source));
    if (bundle.group_len > 0 && bundle.profile.role == SP_APP_SENSOR && !persistent) {
        sp_wipe(&bundle, sizeof(bundle));
        *why = "it is in a group: the counters of its records must outlive it; give --state DIR";
        return SP_ERR_DENIED;
    }
    psa_status_t status = take_over(&bundle, persistent);
    *profile = bundle.profile;
    sp_wipe(&bundle, sizeof(bundle));
    *why = "the secure services do not take the keys";
    return status == PSA_SUCCESS ? SP_OK : SP_ERR_CRYPTO;
}

enum sp_err sp_provision(const char *bundle, bool persistent, struct sp_profile *out,
                         const char **why)
{
    struct sp_profile profile;
    psa_status_t status = sp_profile_load(&profile);
    bool have = status == PSA_SUCCESS && sp_secure_provisioned();
    *why = "the state is damaged: remove it, and start with the bundle";
    if (status != PSA_SUCCESS && status != PSA_ERROR_DOES_NOT_EXIST) {
        return SP_ERR_MALFORMED;
    }
    enum sp_err err = SP_ERR_NOT_FOUND;
    if (bundle != NULL) {
        uint8_t text[SP_BUNDLE_TEXT_MAX];
        size_t len = 0;
        err = read_bundle(bundle, text, &len, why);
        if (err == SP_OK) {
            err = from_bundle(sp_view(text, len), persistent, have, &profile, why);
        }
        sp_wipe(text, sizeof(text));
    }
    if (err == SP_ERR_NOT_FOUND) {
        *why = "there is no bundle, and no state of an earlier start";
        err = have ? SP_OK : SP_ERR_NOT_FOUND;
    }
    if (err == SP_OK) {
        *out = profile;
    }
    return err;
}
