/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A registry that somebody without the master key has written to, opened by keys' own code. It is refused with a reason, or all of
 * it can be walked and changed; secrets that were exchanged or altered do not open.
 */
#include "gateway/keys/registry.h"
#include "gateway/log/log.h"
#include "tests/fuzz/database.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const struct fuzz_cell cells[] = {
    {"meta", "value"},
    {"device", "id"},
    {"device", "role"},
    {"device", "attestation"},
    {"device", "binding"},
    {"device", "records"},
    {"device", "suites"},
    {"device", "answer_timeout_ms"},
    {"device", "allow_no_software"},
    {"device", "iak_algorithm"},
    {"device", "instance_id"},
    {"device", "group_name"},
    {"device", "state"},
    {"device", "version"},
    {"secret", "device"},
    {"secret", "kind"},
    {"secret", "sealed"},
    {"secret", "fingerprint"},
    {"former", "version"},
    {"device_state", "last_check"},
    {"device_state", "ok"},
    {"software", "implementation_id"},
    {"software", "digest"},
    {"software_component", "position"},
    {"software_component", "type"},
    {"software_component", "value"},
    {"software_component", "signer_id"},
    {"software_component", "version"},
    {"key_group", "name"},
    {"key_group", "mode"},
    {"key_group", "algorithm"},
    {"key_group", "grace_s"},
    {"key_group", "last_epoch"},
    {"key_epoch", "epoch"},
    {"key_epoch", "sealed"},
    {"key_epoch", "until_ms"},
    {"grant_serial", "serial"},
};

static const char *folder;
static char path[128];
static char key[128];
static struct fuzz_file sound;

static void add_device(struct sp_registry *reg, const char *id, uint8_t number)
{
    struct sp_device device = {.iak_algorithm = SP_ATTEST_HMAC256};
    struct sp_device_secrets secrets = {.psk_len = 20, .iak_len = 32};
    strcpy(device.id, id);
    strcpy(device.row.role, "sensor");
    device.row.records = SP_RECORDS_SEALED;
    strcpy(device.group, "g");
    memset(secrets.psk, number, secrets.psk_len);
    memset(secrets.iak, number, secrets.iak_len);
    memset(secrets.kek, number, sizeof(secrets.kek));
    secrets.psk[0] = 'p';
    secrets.iak[0] = 'i';
    fuzz_require(sp_registry_device_add(reg, &device, &secrets) == SP_OK);
}

static void set_up(void)
{
    struct sp_registry *reg = NULL;
    struct sp_fault fault;
    int64_t number = 0;
    const struct sp_group group = {.name = "g", .algorithm = 10, .grace_s = 600};
    struct sp_reference reference = {.implementation_id_len = 32, .component_count = 1};
    const struct sp_device_history history = {.id = "a", .last_time = 5, .ok = 1};
    sp_log_init("fuzz", SP_LOG_ERROR);
    folder = fuzz_folder();
    (void)snprintf(path, sizeof(path), "%s/" SP_REGISTRY_FILE, folder);
    (void)snprintf(key, sizeof(key), "%s/master.key", folder);
    strcpy(reference.components[0].type, "NSPE");
    reference.components[0].value_len = 32;
    fuzz_require(sp_registry_create(folder, key, &fault) == SP_OK);
    fuzz_require(sp_registry_open(folder, key, SP_REGISTRY_TOOL, &reg, &fault) == SP_OK);
    fuzz_require(sp_registry_group_add(reg, &group) == SP_OK);
    add_device(reg, "a", 1);
    add_device(reg, "b", 2);
    fuzz_require(sp_registry_group_rotate(reg, "g", false) == SP_OK);
    fuzz_require(sp_registry_reference_add(reg, &reference, &number) == SP_OK);
    fuzz_require(sp_registry_history_add(reg, &history, 1) == SP_OK);
    sp_registry_close(reg);
    sound = fuzz_read(path);
    fuzz_require(sound.len > 4096);
}

static enum sp_err see_device(void *arg, const struct sp_device *device,
                              const struct sp_device_history *history)
{
    (void)arg, (void)history;
    fuzz_require(memchr(device->id, 0, sizeof(device->id)) != NULL);
    fuzz_require(memchr(device->row.role, 0, sizeof(device->row.role)) != NULL);
    fuzz_require(memchr(device->group, 0, sizeof(device->group)) != NULL);
    return SP_OK;
}

/* Only what was sealed under the master key, for this device, comes out. */
static enum sp_err see_change(void *arg, const struct sp_device *device,
                              const struct sp_device_secrets *secrets)
{
    (void)arg;
    if (secrets != NULL) {
        uint8_t number = device->id[0] == 'a' ? 1 : 2;
        fuzz_require(secrets->psk_len == 20 && secrets->psk[0] == 'p' && secrets->psk[1] == number);
        fuzz_require(secrets->iak_len == 32 && secrets->iak[0] == 'i' && secrets->iak[1] == number);
    }
    return SP_OK;
}

static enum sp_err see_removed(void *arg, const char *id)
{
    (void)arg, (void)id;
    return SP_OK;
}

static enum sp_err see_group(void *arg, const struct sp_group *group)
{
    (void)arg;
    fuzz_require(memchr(group->name, 0, sizeof(group->name)) != NULL);
    return SP_OK;
}

static enum sp_err see_epoch(void *arg, const struct sp_group_epoch *epoch)
{
    (void)arg, (void)epoch;
    return SP_OK;
}

static enum sp_err see_reference(void *arg, const struct sp_reference *reference)
{
    (void)arg;
    fuzz_require(reference->component_count <= SP_ATTEST_COMPONENTS_MAX);
    fuzz_require(reference->implementation_id_len <= SP_REFERENCE_BYTES_MAX);
    for (size_t i = 0; i < reference->component_count; i++) {
        fuzz_require(reference->components[i].value_len <= SP_REFERENCE_BYTES_MAX &&
                     reference->components[i].signer_id_len <= SP_REFERENCE_BYTES_MAX);
    }
    return SP_OK;
}

static void use(struct sp_registry *reg, bool change)
{
    const struct sp_registry_changes changes = {.device = see_change, .removed = see_removed};
    struct sp_registry_heard heard;
    struct sp_device device;
    struct sp_device_history history;
    uint8_t kek[SP_KEK_LEN];
    uint64_t version = 0;
    bool changed = false;
    (void)!sp_registry_device_each(reg, see_device, NULL);
    (void)!sp_registry_changes_since(reg, &version, &changes);
    (void)!sp_registry_group_each(reg, see_group, NULL);
    (void)!sp_registry_group_epochs(reg, "g", see_epoch, NULL);
    (void)!sp_registry_reference_each(reg, see_reference, NULL);
    (void)!sp_registry_device_find(reg, "a", &device, &history);
    (void)!sp_registry_heard_read(reg, &heard);
    (void)!sp_registry_serial_read(reg, "a", &version);
    (void)!sp_registry_group_version(reg, &version);
    (void)!sp_registry_reference_version(reg, &version);
    (void)!sp_registry_poll(reg, &changed);
    if (sp_registry_device_kek(reg, "a", kek) == SP_OK) {
        fuzz_require(kek[0] == 1 && kek[SP_KEK_LEN - 1] == 1);
    }
    if (change) {
        (void)!sp_registry_device_set_state(reg, "a", SP_DEVICE_REVOKED);
        (void)!sp_registry_group_rotate(reg, "g", true);
        (void)!sp_registry_device_remove(reg, "b");
        (void)!sp_registry_reference_remove(reg, 1);
    }
    (void)sp_registry_fault(reg);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_registry *reg = NULL;
    struct sp_fault fault = {{0}};
    if (folder == NULL) {
        set_up();
    }
    fuzz_damage(path, &sound, cells, sizeof(cells) / sizeof(cells[0]), sp_view(data, size));
    if (sp_registry_open(folder, key, SP_REGISTRY_SERVICE, &reg, &fault) == SP_OK) {
        use(reg, (size & 1) != 0);
        sp_registry_close(reg);
    } else {
        fuzz_require(fault.text[0] != '\0');
    }
    return 0;
}
