/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/bundle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tools/json_write.h"

static void write_suites(struct sp_writer *w, uint32_t suites)
{
    /* A row that narrows nothing: the device offers the default set. */
    uint32_t offered = suites == 0 ? SP_SUITES_PROFILE_SMALL : suites;
    sp_json_key(w, "suites");
    sp_json_open(w, '[');
    for (uint32_t bit = 1; bit <= SP_SUITES_NULL_ENCRYPTION; bit <<= 1) {
        if ((offered & bit) != 0) {
            sp_json_text(w, sp_suites_name(bit));
        }
    }
    sp_json_close(w, ']');
}

static void write_group(struct sp_writer *w, const char *group)
{
    sp_json_key(w, "group");
    if (group[0] == '\0') {
        sp_json_null(w);
    } else {
        sp_json_text(w, group);
    }
}

static void write_app_keys(struct sp_writer *w, const char *group, const struct sp_bundle_key *key)
{
    sp_json_key(w, "app_keys");
    sp_json_open(w, '[');
    if (key->epoch != 0) {
        sp_json_open(w, '{');
        sp_json_key(w, "group");
        sp_json_text(w, group);
        sp_json_key(w, "epoch");
        sp_json_number(w, key->epoch);
        sp_json_key(w, "algorithm");
        sp_json_text(w, key->algorithm);
        sp_json_key(w, "kind");
        sp_json_text(w, key->group_key ? "group" : "record");
        sp_json_key(w, "key");
        sp_json_hex(w, sp_view(key->key, key->len));
        sp_json_close(w, '}');
    }
    sp_json_close(w, ']');
}

static enum sp_err format(const struct sp_device *device, const struct sp_device_secrets *secrets,
                          const struct sp_bundle_key *key, struct sp_bundle *out)
{
    struct sp_writer w;
    sp_writer_init(&w, out->text, sizeof(out->text));
    sp_json_open(&w, '{');
    sp_json_key(&w, "version");
    sp_json_number(&w, 1);
    sp_json_key(&w, "device_id");
    sp_json_text(&w, device->id);
    sp_json_key(&w, "psk_identity");
    sp_json_text(&w, device->id);
    sp_json_key(&w, "psk");
    sp_json_hex(&w, sp_view(secrets->psk, secrets->psk_len));
    sp_json_key(&w, "iak");
    sp_json_hex(&w, sp_view(secrets->iak, secrets->iak_len));
    sp_json_key(&w, "iak_algorithm");
    sp_json_text(&w, sp_algorithm_name(device->iak_algorithm));
    sp_json_key(&w, "kek");
    sp_json_hex(&w, SP_VIEW_ARRAY(secrets->kek));
    sp_json_key(&w, "binding");
    sp_json_text(&w, sp_binding_name(device->row.binding));
    write_suites(&w, device->row.suites);
    sp_json_key(&w, "role");
    sp_json_text(&w, device->row.role);
    write_group(&w, device->group);
    sp_json_key(&w, "records");
    sp_json_text(&w, sp_records_name(device->row.records));
    write_app_keys(&w, device->group, key);
    sp_json_close(&w, '}');
    sp_write_u8(&w, '\n');
    out->len = sp_writer_view(&w).len;
    return w.err;
}

static enum sp_err io_error(struct sp_fault *fault, const char *what, const char *file)
{
    sp_fault_set(fault, "cannot %s %s: %s", what, file, strerror(errno));
    return SP_ERR_IO;
}

static enum sp_err write_beside(struct sp_bundle *b, struct sp_fault *fault)
{
    struct stat st;
    if (lstat(b->place, &st) == 0 && !S_ISREG(st.st_mode)) {
        sp_fault_set(fault, "%s is not a regular file; use - for standard output", b->place);
        return SP_ERR_DENIED;
    }
    int len = snprintf(b->beside, sizeof(b->beside), "%s.XXXXXX", b->place);
    if (len < 0 || (size_t)len >= sizeof(b->beside)) {
        b->beside[0] = '\0';
        sp_fault_set(fault, "the name of the bundle is too long");
        return SP_ERR_ARGUMENT;
    }
    int fd = mkstemp(b->beside);
    if (fd < 0) {
        b->beside[0] = '\0';
        return io_error(fault, "make the bundle", b->place);
    }
    bool ok =
        fchmod(fd, 0600) == 0 && write(fd, b->text, b->len) == (ssize_t)b->len && fsync(fd) == 0;
    ok = close(fd) == 0 && ok;
    return ok ? SP_OK : io_error(fault, "write the bundle", b->place);
}

enum sp_err sp_bundle_prepare(const char *place, const struct sp_device *device,
                              const struct sp_device_secrets *secrets,
                              const struct sp_bundle_key *key, struct sp_bundle *out,
                              struct sp_fault *fault)
{
    *out = (struct sp_bundle){.place = place};
    if (place == NULL) {
        return SP_OK;
    }
    enum sp_err err = format(device, secrets, key, out);
    if (err != SP_OK) {
        sp_fault_set(fault, "the bundle cannot be written: %s", sp_err_text(err));
        return err;
    }
    return strcmp(place, "-") == 0 ? SP_OK : write_beside(out, fault);
}

enum sp_err sp_bundle_finish(struct sp_bundle *bundle, struct sp_fault *fault)
{
    enum sp_err err = SP_OK;
    if (bundle->beside[0] != '\0') {
        if (rename(bundle->beside, bundle->place) == 0) {
            bundle->beside[0] = '\0';
        } else {
            err = io_error(fault, "put the bundle in its place,", bundle->place);
        }
    } else if (bundle->place != NULL) {
        bool ok = fwrite(bundle->text, 1, bundle->len, stdout) == bundle->len;
        if (fflush(stdout) != 0 || !ok) {
            err = io_error(fault, "write the bundle to", "standard output");
        }
    }
    sp_bundle_drop(bundle);
    return err;
}

void sp_bundle_drop(struct sp_bundle *bundle)
{
    if (bundle->beside[0] != '\0') {
        (void)unlink(bundle->beside);
    }
    sp_wipe(bundle, sizeof(*bundle));
}
