/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The registry in SQLite, write-ahead log: the running gateway reads while the command line writes, and neither
 * waits for the other. Every change is one BEGIN IMMEDIATE … COMMIT and takes the next number of `version` with it, so
 * that a reader asks for what is newer than what it has seen. A removed name stays in `former` for the same reason.
 *
 * A secret is sealed with (schema, device, kind) as context: a ciphertext that is changed, or moved to another device
 * or column, does not open. Its fingerprint is unique over all devices and kinds.
 */
#include "gateway/keys/registry_internal.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "gateway/keys/folder.h"
#include "gateway/keys/master_key.h"
#include "gateway/keys/rules.h"

#define SCHEMA_VERSION 2
#define SEALED_VERSION \
    1 /* part of the context of every secret: changing it would lock all of them */
#define SEALED_MAX       (SP_PSK_MAX + SP_VAULT_OVERHEAD)
#define CONTEXT_MAX      128U
#define TOOL_WAIT_MS     5000
#define WAL_INDEX_REGION 32768 /* bytes: SQLite maps the index in pieces of so many */

_Static_assert(SP_IAK_MAX <= SP_PSK_MAX && SP_KEK_LEN <= SP_PSK_MAX, "SEALED_MAX fits every kind");

static const char schema[] =
    "CREATE TABLE meta(name TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE device(id TEXT PRIMARY KEY, role TEXT NOT NULL, attestation INTEGER NOT NULL,"
    " binding INTEGER NOT NULL, records INTEGER NOT NULL, suites INTEGER NOT NULL,"
    " answer_timeout_ms INTEGER NOT NULL, allow_no_software INTEGER NOT NULL,"
    " iak_algorithm INTEGER NOT NULL, instance_id BLOB NOT NULL, group_name TEXT,"
    " state INTEGER NOT NULL, created INTEGER NOT NULL, rotated INTEGER NOT NULL,"
    " version INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX device_version ON device(version);"
    "CREATE TABLE secret(device TEXT NOT NULL REFERENCES device(id) ON DELETE CASCADE,"
    " kind TEXT NOT NULL CHECK(kind IN ('psk','iak','kek')), sealed BLOB NOT NULL,"
    " fingerprint BLOB NOT NULL UNIQUE, PRIMARY KEY(device, kind)) WITHOUT ROWID;"
    "CREATE TABLE former(id TEXT PRIMARY KEY, version INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE INDEX former_version ON former(version);"
    "CREATE TABLE device_state(id TEXT PRIMARY KEY REFERENCES device(id) ON DELETE CASCADE,"
    " last_check INTEGER NOT NULL, last_time INTEGER NOT NULL, ok INTEGER NOT NULL,"
    " refused INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE software(number INTEGER PRIMARY KEY AUTOINCREMENT, added INTEGER NOT NULL,"
    " implementation_id BLOB NOT NULL, digest BLOB NOT NULL UNIQUE);"
    "CREATE TABLE software_component(software INTEGER NOT NULL"
    " REFERENCES software(number) ON DELETE CASCADE, position INTEGER NOT NULL,"
    " type TEXT NOT NULL, value BLOB NOT NULL, signer_id BLOB NOT NULL, version TEXT NOT NULL,"
    " PRIMARY KEY(software, position)) WITHOUT ROWID;"
    "INSERT INTO meta VALUES('version', 0), ('software_version', 0), ('version_heard', 0),"
    " ('software_version_heard', 0);"
    "PRAGMA user_version = 1;"; /* what came later is added by upgrade() */

static enum sp_err no_device(struct sp_registry *reg)
{
    return sp_registry_refuse(reg, SP_ERR_NOT_FOUND,
                              "there is no such device; `sallyport device list` shows all");
}

/* --- secrets --- */

struct kind {
    const char *name;
    const char *spoken;
};

static const struct kind kinds[] = {
    {"psk", "PSK"}, {"iak", "attestation key"}, {"kek", "key-encryption key"}};

static struct sp_view secret_of(const struct sp_device_secrets *secrets, size_t kind)
{
    const struct sp_view all[] = {sp_view(secrets->psk, secrets->psk_len),
                                  sp_view(secrets->iak, secrets->iak_len),
                                  SP_VIEW_ARRAY(secrets->kek)};
    return all[kind];
}

#define KIND_COUNT (sizeof(kinds) / sizeof(kinds[0]))

static struct sp_view context_of(const char *id, const char *kind, uint8_t *buf)
{
    struct sp_writer w;
    sp_writer_init(&w, buf, CONTEXT_MAX);
    sp_write_str(&w, "sp-registry");
    sp_write_u32(&w, SEALED_VERSION);
    sp_write_u8(&w, (uint8_t)strlen(id));
    sp_write_str(&w, id);
    sp_write_str(&w, kind);
    return sp_writer_view(&w);
}

static enum sp_err unseal(struct sp_registry *reg, const char *id, const char *kind,
                          struct sp_view sealed, uint8_t *out, size_t *out_len)
{
    uint8_t context[CONTEXT_MAX];
    return sp_vault_unseal(reg->vault, context_of(id, kind, context), sealed, out, SP_PSK_MAX,
                           out_len);
}

/* No two devices share a key, and no device uses one key for two things. */
static enum sp_err check_unused(struct sp_registry *reg, size_t kind, struct sp_view secret)
{
    uint8_t fingerprint[SP_VAULT_FINGERPRINT_LEN];
    SP_TRY(sp_vault_fingerprint(reg->vault, secret, fingerprint));
    struct sp_query q;
    sp_query_start(&q, reg, "SELECT device, kind FROM secret WHERE fingerprint = ?");
    sp_query_put_blob(&q, SP_VIEW_ARRAY(fingerprint));
    if (sp_query_row(&q)) {
        char id[SP_LINK_IDENTITY_MAX + 1];
        char used_as[8];
        sp_query_text(&q, 0, id, sizeof(id));
        sp_query_text(&q, 1, used_as, sizeof(used_as));
        sp_fault_set(&reg->fault, "that %s is in use already, as the %s of device %s",
                     kinds[kind].spoken, used_as, id);
        q.err = SP_ERR_DENIED;
    }
    return sp_query_end(&q);
}

static enum sp_err insert_secret(struct sp_registry *reg, const char *id, size_t kind,
                                 struct sp_view secret)
{
    uint8_t fingerprint[SP_VAULT_FINGERPRINT_LEN];
    uint8_t sealed[SEALED_MAX];
    uint8_t context[CONTEXT_MAX];
    size_t sealed_len = 0;
    SP_TRY(sp_vault_fingerprint(reg->vault, secret, fingerprint));
    SP_TRY(sp_vault_seal(reg->vault, context_of(id, kinds[kind].name, context), secret, sealed,
                         sizeof(sealed), &sealed_len));
    struct sp_query q;
    sp_query_start(&q, reg, "INSERT INTO secret VALUES(?, ?, ?, ?)");
    sp_query_put_text(&q, id);
    sp_query_put_text(&q, kinds[kind].name);
    sp_query_put_blob(&q, sp_view(sealed, sealed_len));
    sp_query_put_blob(&q, SP_VIEW_ARRAY(fingerprint));
    enum sp_err err = sp_query_run(&q);
    if (err == SP_ERR_EXISTS) {
        return sp_registry_refuse(reg, SP_ERR_DENIED, "a device uses one key for two things");
    }
    return err;
}

static enum sp_err put_secrets(struct sp_registry *reg, const char *id,
                               const struct sp_device_secrets *secrets)
{
    for (size_t kind = 0; kind < KIND_COUNT; kind++) {
        SP_TRY(check_unused(reg, kind, secret_of(secrets, kind)));
    }
    SP_TRY(sp_registry_run_text(reg, "DELETE FROM secret WHERE device = ?", id));
    for (size_t kind = 0; kind < KIND_COUNT; kind++) {
        SP_TRY(insert_secret(reg, id, kind, secret_of(secrets, kind)));
    }
    return SP_OK;
}

/* --- open and create --- */

static enum sp_err check_file(const char *path, struct sp_fault *fault)
{
    struct stat st;
    if (lstat(path, &st) != 0) {
        sp_fault_set(fault, "cannot open the registry %s: %s%s", path, strerror(errno),
                     errno == ENOENT ? "; `sallyport init` makes one" : "");
        return errno == ENOENT ? SP_ERR_NOT_FOUND : SP_ERR_IO;
    }
    if (!S_ISREG(st.st_mode)) {
        sp_fault_set(fault, "the registry %s is not a regular file", path);
        return SP_ERR_DENIED;
    }
    if ((st.st_mode & 077) != 0) {
        sp_fault_set(fault, "the registry %s is open to group or others; run: chmod 600 %s", path,
                     path);
        return SP_ERR_DENIED;
    }
    return SP_OK;
}

static enum sp_err open_database(struct sp_registry *reg, const char *path,
                                 enum sp_registry_use use)
{
    int flags = SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_PRIVATECACHE;
    int rc = sqlite3_open_v2(path, &reg->db, flags, NULL);
    if (rc != SQLITE_OK) {
        return sp_registry_sql_error(reg, rc);
    }
    (void)sqlite3_extended_result_codes(reg->db, 1);
    (void)sqlite3_db_config(reg->db, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
    (void)sqlite3_db_config(reg->db, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
    (void)sqlite3_busy_timeout(reg->db, use == SP_REGISTRY_TOOL ? TOOL_WAIT_MS : 0);
    sp_registry_wal_watch(reg);
    reg->durable = use == SP_REGISTRY_TOOL;
    SP_TRY(sp_registry_run(reg, "PRAGMA foreign_keys = ON; PRAGMA secure_delete = ON;"
                                "PRAGMA journal_size_limit = 8388608;"));
    /* Without FULL a commit is atomic all the same, and durable with the next one that is synced. */
    return sp_registry_run(reg, use == SP_REGISTRY_TOOL ? "PRAGMA synchronous = FULL"
                                                        : "PRAGMA synchronous = NORMAL");
}

static enum sp_err open_vault(struct sp_registry *reg, const char *master_key_file)
{
    uint8_t key[SP_MASTER_KEY_LEN];
    SP_TRY(sp_master_key_read(master_key_file, key, &reg->fault));
    enum sp_err err = sp_vault_create(key, &reg->vault);
    sp_wipe(key, sizeof(key));
    if (err != SP_OK) {
        sp_fault_set(&reg->fault, "cannot use the master key: %s", sp_err_text(err));
    }
    return err;
}

static enum sp_err read_version(struct sp_registry *reg, int64_t *out)
{
    struct sp_query q;
    sp_query_start(&q, reg, "PRAGMA user_version");
    *out = sp_query_row(&q) ? sp_query_int(&q, 0) : 0;
    return sp_query_end(&q);
}

/* From version 1; somebody else may have done it since we looked. */
static enum sp_err upgrade(struct sp_registry *reg)
{
    int64_t version = 0;
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    enum sp_err err = read_version(reg, &version);
    if (err == SP_OK && version == 1) {
        err = sp_registry_run(reg, sp_groups_schema);
    }
    return sp_registry_transaction_end(reg, err);
}

static enum sp_err check_schema(struct sp_registry *reg)
{
    int64_t version = 0;
    SP_TRY(read_version(reg, &version));
    if (version == 1) {
        SP_TRY(upgrade(reg));
        SP_TRY(read_version(reg, &version));
    }
    if (version != SCHEMA_VERSION) {
        sp_fault_set(&reg->fault, "the registry has format %lld; this Sallyport knows %d",
                     (long long)version, SCHEMA_VERSION);
        return SP_ERR_UNSUPPORTED;
    }
    return SP_OK;
}

#define KEY_CHECK "sallyport registry"

static enum sp_err check_key(struct sp_registry *reg)
{
    uint8_t plain[SP_PSK_MAX];
    size_t len = 0;
    struct sp_query q;
    sp_query_start(&q, reg, "SELECT value FROM meta WHERE name = 'key_check'");
    if (!sp_query_row(&q)) {
        sp_query_damaged(&q);
    } else if (unseal(reg, "", "check", sp_query_blob(&q, 0), plain, &len) != SP_OK ||
               !sp_view_equal(sp_view(plain, len), SP_VIEW_LIT(KEY_CHECK))) {
        q.err =
            sp_registry_refuse(reg, SP_ERR_UNTRUSTED,
                               "the master key is not the one that this registry was made with");
    }
    return sp_query_end(&q);
}

static enum sp_err read_data_version(struct sp_registry *reg, int64_t *out)
{
    int rc = sqlite3_step(reg->data_version);
    if (rc == SQLITE_ROW) {
        *out = sqlite3_column_int64(reg->data_version, 0);
    }
    (void)sqlite3_reset(reg->data_version);
    return rc == SQLITE_ROW ? SP_OK : sp_registry_sql_error(reg, rc);
}

/* Another mode only in a file that is damaged, or not ours: it has no index, and asking for one would make one that nobody closes. */
static bool has_log(struct sp_registry *reg)
{
    char mode[16] = "";
    struct sp_query q;
    sp_query_start(&q, reg, "PRAGMA journal_mode");
    if (sp_query_row(&q)) {
        sp_query_text(&q, 0, mode, sizeof(mode));
    }
    return sp_query_end(&q) == SP_OK && strcmp(mode, "wal") == 0;
}

/*
 * Where SQLite itself looks first when a transaction begins: the index that it has mapped already, and keeps until it is closed.
 * Opening that file once more would not do: closing it again would give up SQLite's own locks (POSIX).
 */
static void find_index(struct sp_registry *reg)
{
    sqlite3_file *file = NULL;
    void volatile *index = NULL;
    if (has_log(reg) &&
        sqlite3_file_control(reg->db, "main", SQLITE_FCNTL_FILE_POINTER, &file) == SQLITE_OK &&
        file != NULL && file->pMethods != NULL && file->pMethods->iVersion >= 2 &&
        file->pMethods->xShmMap(file, 0, WAL_INDEX_REGION, 0, &index) == SQLITE_OK) {
        reg->index = index;
    }
}

/* @return Whether something may have been committed since the last call: no lock, no system call. */
static bool index_changed(struct sp_registry *reg)
{
    uint8_t now[SP_WAL_INDEX_HEADER];
    if (reg->index == NULL) {
        return true;
    }
    for (size_t i = 0; i < sizeof(now); i++) {
        now[i] = ((const volatile uint8_t *)reg->index)[i];
    }
    bool changed = memcmp(now, reg->last_index, sizeof(now)) != 0;
    memcpy(reg->last_index, now, sizeof(now));
    return changed;
}

static enum sp_err start_polling(struct sp_registry *reg)
{
    int rc = sqlite3_prepare_v3(reg->db, "PRAGMA data_version", -1, SQLITE_PREPARE_PERSISTENT,
                                &reg->data_version, NULL);
    if (rc != SQLITE_OK) {
        return sp_registry_sql_error(reg, rc);
    }
    SP_TRY(read_data_version(reg, &reg->last_data_version));
    find_index(reg);
    return SP_OK;
}

static enum sp_err path_of(const char *state_dir, const char *name, char *out, size_t cap,
                           struct sp_fault *fault)
{
    int len = snprintf(out, cap, "%s/%s", state_dir, name);
    if (len < 0 || (size_t)len >= cap) {
        sp_fault_set(fault, "the name of the state folder is too long");
        return SP_ERR_ARGUMENT;
    }
    return SP_OK;
}

enum sp_err sp_registry_open(const char *state_dir, const char *master_key_file,
                             enum sp_registry_use use, struct sp_registry **out,
                             struct sp_fault *fault)
{
    *out = NULL;
    char path[PATH_MAX];
    SP_TRY(path_of(state_dir, SP_REGISTRY_FILE, path, sizeof(path), fault));
    SP_TRY(check_file(path, fault));
    struct sp_registry *reg = calloc(1, sizeof(*reg));
    if (reg == NULL) {
        sp_fault_set(fault, "out of memory");
        return SP_ERR_NOMEM;
    }
    enum sp_err err = open_vault(reg, master_key_file);
    if (err == SP_OK) {
        err = open_database(reg, path, use);
    }
    if (err == SP_OK) {
        err = check_schema(reg);
    }
    if (err == SP_OK) {
        err = check_key(reg);
    }
    if (err == SP_OK) {
        err = start_polling(reg);
    }
    if (err != SP_OK) {
        *fault = reg->fault;
        sp_registry_close(reg);
        return err;
    }
    *out = reg;
    return SP_OK;
}

void sp_registry_close(struct sp_registry *reg)
{
    if (reg != NULL) {
        (void)sqlite3_finalize(reg->data_version);
        if (reg->db != NULL) {
            sp_registry_wal_leave(reg);
        }
        (void)sqlite3_close(reg->db);
        sp_vault_destroy(reg->vault);
        free(reg);
    }
}

static enum sp_err write_key_check(struct sp_registry *reg)
{
    uint8_t sealed[SEALED_MAX];
    uint8_t context[CONTEXT_MAX];
    size_t len = 0;
    SP_TRY(sp_vault_seal(reg->vault, context_of("", "check", context), SP_VIEW_LIT(KEY_CHECK),
                         sealed, sizeof(sealed), &len));
    struct sp_query q;
    sp_query_start(&q, reg, "INSERT INTO meta VALUES('key_check', ?)");
    sp_query_put_blob(&q, sp_view(sealed, len));
    return sp_query_run(&q);
}

static enum sp_err write_schema(struct sp_registry *reg)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    enum sp_err err = sp_registry_run(reg, schema);
    if (err == SP_OK) {
        err = sp_registry_run(reg, sp_groups_schema);
    }
    if (err == SP_OK) {
        err = write_key_check(reg);
    }
    SP_TRY(sp_registry_transaction_end(reg, err));
    return sp_registry_run(reg, "PRAGMA journal_mode = WAL");
}

static enum sp_err build(const char *path, const char *master_key_file, struct sp_fault *fault)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        sp_fault_set(fault, "cannot make %s: %s", path, strerror(errno));
        return SP_ERR_IO;
    }
    (void)close(fd);
    struct sp_registry *reg = calloc(1, sizeof(*reg));
    if (reg == NULL) {
        sp_fault_set(fault, "out of memory");
        return SP_ERR_NOMEM;
    }
    enum sp_err err = open_vault(reg, master_key_file);
    if (err == SP_OK) {
        err = open_database(reg, path, SP_REGISTRY_TOOL);
    }
    if (err == SP_OK) {
        err = write_schema(reg);
    }
    *fault = reg->fault;
    sp_registry_close(reg);
    return err;
}

enum sp_err sp_registry_create(const char *state_dir, const char *master_key_file,
                               struct sp_fault *fault)
{
    char path[PATH_MAX];
    char unfinished[PATH_MAX];
    SP_TRY(path_of(state_dir, SP_REGISTRY_FILE, path, sizeof(path), fault));
    SP_TRY(path_of(state_dir, SP_REGISTRY_FILE ".new", unfinished, sizeof(unfinished), fault));
    if (access(path, F_OK) == 0) {
        sp_fault_set(fault, "there is a registry already: %s", path);
        return SP_ERR_EXISTS;
    }
    enum sp_err err = sp_master_key_make(master_key_file, fault);
    if (err != SP_OK && err != SP_ERR_EXISTS) {
        return err;
    }
    /* Built under another name and linked in whole, so that no half-made registry is ever seen. */
    (void)unlink(unfinished);
    err = build(unfinished, master_key_file, fault);
    if (err == SP_OK && link(unfinished, path) != 0) {
        sp_fault_set(fault, "cannot make %s: %s", path, strerror(errno));
        err = errno == EEXIST ? SP_ERR_EXISTS : SP_ERR_IO;
    }
    (void)unlink(unfinished);
    if (!sp_folder_sync(path) && err == SP_OK) {
        sp_fault_set(fault, "cannot sync %s: %s", state_dir, strerror(errno));
        err = SP_ERR_IO;
    }
    return err;
}

const char *sp_registry_fault(const struct sp_registry *reg)
{
    return reg->fault.text;
}

struct sp_vault *sp_registry_vault(struct sp_registry *reg)
{
    return reg->vault;
}

/* --- devices: changes --- */

static enum sp_err device_exists(struct sp_registry *reg, const char *id, bool *out)
{
    struct sp_query q;
    sp_query_start(&q, reg, "SELECT 1 FROM device WHERE id = ?");
    sp_query_put_text(&q, id);
    *out = sp_query_row(&q);
    return sp_query_end(&q);
}

static enum sp_err insert_device(struct sp_registry *reg, const struct sp_device *d,
                                 uint64_t version)
{
    struct sp_query q;
    sp_query_start(
        &q, reg,
        "INSERT INTO device VALUES(?, ?, ?, ?, ?, ?, ?, ?, ?, ?, nullif(?, ''), ?, ?, 0, ?)");
    sp_query_put_text(&q, d->id);
    sp_query_put_text(&q, d->row.role);
    sp_query_put_int(&q, d->row.attestation);
    sp_query_put_int(&q, d->row.binding);
    sp_query_put_int(&q, d->row.records);
    sp_query_put_int(&q, d->row.suites);
    sp_query_put_int(&q, d->row.answer_timeout_ms);
    sp_query_put_int(&q, d->allow_no_software);
    sp_query_put_int(&q, d->iak_algorithm);
    sp_query_put_blob(&q, SP_VIEW_ARRAY(d->instance_id));
    sp_query_put_text(&q, d->group);
    sp_query_put_int(&q, SP_DEVICE_ACTIVE);
    sp_query_put_int(&q, (int64_t)time(NULL));
    sp_query_put_int(&q, (int64_t)version);
    return sp_query_run(&q);
}

static enum sp_err add_in_transaction(struct sp_registry *reg, const struct sp_device *device,
                                      const struct sp_device_secrets *secrets)
{
    bool exists = false;
    uint64_t version = 0;
    SP_TRY(device_exists(reg, device->id, &exists));
    if (exists) {
        return sp_registry_refuse(
            reg, SP_ERR_EXISTS,
            "there is a device of that name; `sallyport device rotate` gives it new keys, "
            "`sallyport device remove` forgets it");
    }
    SP_TRY(sp_registry_number_next(reg, "version", &version));
    SP_TRY(sp_registry_run_text(reg, "DELETE FROM former WHERE id = ?", device->id));
    bool existed = sqlite3_changes(reg->db) > 0;
    SP_TRY(insert_device(reg, device, version));
    SP_TRY(sp_groups_device_added(reg, device, existed));
    return put_secrets(reg, device->id, secrets);
}

enum sp_err sp_registry_batch_begin(struct sp_registry *reg)
{
    return sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE");
}

enum sp_err sp_registry_batch_end(struct sp_registry *reg, enum sp_err err)
{
    return sp_registry_transaction_end(reg, err);
}

enum sp_err sp_registry_device_add(struct sp_registry *reg, const struct sp_device *device,
                                   const struct sp_device_secrets *secrets)
{
    SP_TRY(sp_rules_check_device(device, &reg->fault));
    SP_TRY(sp_rules_check_secrets(secrets, device->iak_algorithm, &reg->fault));
    struct sp_device full = *device;
    SP_TRY(sp_attest_ueid(sp_view(secrets->iak, secrets->iak_len), full.instance_id));
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, add_in_transaction(reg, &full, secrets));
}

static enum sp_err read_algorithm(struct sp_registry *reg, const char *id,
                                  enum sp_attest_algorithm *out)
{
    struct sp_query q;
    sp_query_start(&q, reg, "SELECT iak_algorithm FROM device WHERE id = ?");
    sp_query_put_text(&q, id);
    if (sp_query_row(&q)) {
        *out = (enum sp_attest_algorithm)sp_query_int(&q, 0);
    } else if (q.err == SP_OK) {
        q.err = no_device(reg);
    }
    return sp_query_end(&q);
}

static enum sp_err rotate_in_transaction(struct sp_registry *reg, const char *id,
                                         const struct sp_device_secrets *secrets)
{
    enum sp_attest_algorithm algorithm = SP_ATTEST_HMAC256;
    uint8_t instance_id[SP_ATTEST_UEID_LEN];
    uint64_t version = 0;
    SP_TRY(read_algorithm(reg, id, &algorithm));
    SP_TRY(sp_rules_check_secrets(secrets, algorithm, &reg->fault));
    SP_TRY(sp_attest_ueid(sp_view(secrets->iak, secrets->iak_len), instance_id));
    SP_TRY(sp_registry_number_next(reg, "version", &version));
    struct sp_query q;
    sp_query_start(&q, reg,
                   "UPDATE device SET instance_id = ?, rotated = ?, version = ? WHERE id = ?");
    sp_query_put_blob(&q, SP_VIEW_ARRAY(instance_id));
    sp_query_put_int(&q, (int64_t)time(NULL));
    sp_query_put_int(&q, (int64_t)version);
    sp_query_put_text(&q, id);
    SP_TRY(sp_query_run(&q));
    SP_TRY(sp_groups_rotate_of_device(reg, id));
    return put_secrets(reg, id, secrets);
}

enum sp_err sp_registry_device_rotate(struct sp_registry *reg, const char *id,
                                      const struct sp_device_secrets *secrets)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, rotate_in_transaction(reg, id, secrets));
}

/* Whoever held a group key can read what is sealed under it: the others get a new one at once. */
static enum sp_err rotate_if_group_key(struct sp_registry *reg, const char *id)
{
    struct sp_query q;
    char role[SP_ROLE_NAME_MAX] = "";
    sp_query_start(&q, reg, "SELECT role FROM device WHERE id = ?");
    sp_query_put_text(&q, id);
    if (sp_query_row(&q)) {
        sp_query_text(&q, 0, role, sizeof(role));
    }
    SP_TRY(sp_query_end(&q));
    return sp_role_holds_group_key(role) ? sp_groups_rotate_of_device(reg, id) : SP_OK;
}

static enum sp_err set_state_in_transaction(struct sp_registry *reg, const char *id,
                                            enum sp_device_state state)
{
    uint64_t version = 0;
    SP_TRY(sp_registry_number_next(reg, "version", &version));
    struct sp_query q;
    sp_query_start(&q, reg, "UPDATE device SET state = ?, version = ? WHERE id = ?");
    sp_query_put_int(&q, state);
    sp_query_put_int(&q, (int64_t)version);
    sp_query_put_text(&q, id);
    SP_TRY(sp_query_run(&q));
    if (sqlite3_changes(reg->db) != 1) {
        return no_device(reg);
    }
    return state == SP_DEVICE_REVOKED ? rotate_if_group_key(reg, id) : SP_OK;
}

enum sp_err sp_registry_device_set_state(struct sp_registry *reg, const char *id,
                                         enum sp_device_state state)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, set_state_in_transaction(reg, id, state));
}

static enum sp_err remove_in_transaction(struct sp_registry *reg, const char *id)
{
    uint64_t version = 0;
    SP_TRY(sp_registry_number_next(reg, "version", &version));
    SP_TRY(rotate_if_group_key(reg, id));
    SP_TRY(sp_registry_run_text(reg, "DELETE FROM device WHERE id = ?", id));
    if (sqlite3_changes(reg->db) != 1) {
        return no_device(reg);
    }
    struct sp_query q;
    sp_query_start(&q, reg, "INSERT INTO former VALUES(?, ?)");
    sp_query_put_text(&q, id);
    sp_query_put_int(&q, (int64_t)version);
    return sp_query_run(&q);
}

enum sp_err sp_registry_device_remove(struct sp_registry *reg, const char *id)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, remove_in_transaction(reg, id));
}

static enum sp_err add_history(struct sp_registry *reg, const struct sp_device_history *h)
{
    struct sp_query q;
    sp_query_start(&q, reg,
                   "INSERT INTO device_state SELECT id, ?, ?, ?, ? FROM device WHERE id = ? "
                   "ON CONFLICT(id) DO UPDATE SET last_check = excluded.last_check,"
                   " last_time = excluded.last_time, ok = ok + excluded.ok,"
                   " refused = refused + excluded.refused");
    sp_query_put_int(&q, h->last_check);
    sp_query_put_int(&q, h->last_time);
    sp_query_put_int(&q, (int64_t)h->ok);
    sp_query_put_int(&q, (int64_t)h->refused);
    sp_query_put_text(&q, h->id);
    return sp_query_run(&q);
}

enum sp_err sp_registry_history_add(struct sp_registry *reg,
                                    const struct sp_device_history *entries, size_t count)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    enum sp_err err = SP_OK;
    for (size_t i = 0; i < count && err == SP_OK; i++) {
        err = add_history(reg, &entries[i]);
    }
    return sp_registry_transaction_end(reg, err);
}

/* --- devices: reading --- */

#define DEVICE_COLUMNS                                                                        \
    "d.id, d.role, d.attestation, d.binding, d.records, d.suites, d.answer_timeout_ms,"       \
    " d.allow_no_software, d.iak_algorithm, d.instance_id, d.group_name, d.state, d.created," \
    " d.rotated, d.version"
#define DEVICE_COLUMN_COUNT 15

static void get_device(struct sp_query *q, struct sp_device *d)
{
    *d = (struct sp_device){0};
    sp_query_text(q, 0, d->id, sizeof(d->id));
    sp_query_text(q, 1, d->row.role, sizeof(d->row.role));
    d->row.attestation = (uint8_t)sp_query_int(q, 2);
    d->row.binding = (uint8_t)sp_query_int(q, 3);
    d->row.records = (uint8_t)sp_query_int(q, 4);
    d->row.suites = (uint32_t)sp_query_int(q, 5);
    d->row.answer_timeout_ms = (uint32_t)sp_query_int(q, 6);
    d->allow_no_software = sp_query_int(q, 7) != 0;
    d->iak_algorithm = (enum sp_attest_algorithm)sp_query_int(q, 8);
    if (sp_query_bytes(q, 9, d->instance_id, sizeof(d->instance_id)) != sizeof(d->instance_id)) {
        sp_query_damaged(q);
    }
    sp_query_text(q, 10, d->group, sizeof(d->group));
    /* Anything but a plain "active" keeps the device out. */
    d->state = sp_query_int(q, 11) == SP_DEVICE_ACTIVE ? SP_DEVICE_ACTIVE : SP_DEVICE_REVOKED;
    d->created = sp_query_int(q, 12);
    d->rotated = sp_query_int(q, 13);
    d->version = (uint64_t)sp_query_int(q, 14);
    if (q->err == SP_OK) {
        q->err = sp_rules_check_device(d, &q->reg->fault);
    }
}

static void get_history(struct sp_query *q, int column, const char *id, struct sp_device_history *h)
{
    *h = (struct sp_device_history){0};
    sp_copy(h->id, id, strlen(id));
    int64_t check = sp_query_int(q, column);
    h->last_check = check >= 0 && check < SP_ATTEST_CHECK_COUNT ? (enum sp_attest_check)check
                                                                : SP_ATTEST_CHECK_COUNT;
    h->last_time = sp_query_int(q, column + 1);
    h->ok = (uint64_t)sp_query_int(q, column + 2);
    h->refused = (uint64_t)sp_query_int(q, column + 3);
}

#define DEVICE_WITH_HISTORY                                                 \
    "SELECT " DEVICE_COLUMNS ", s.last_check, s.last_time, s.ok, s.refused" \
    " FROM device d LEFT JOIN device_state s ON s.id = d.id "

enum sp_err sp_registry_device_find(struct sp_registry *reg, const char *id, struct sp_device *out,
                                    struct sp_device_history *history)
{
    struct sp_query q;
    sp_query_start(&q, reg, DEVICE_WITH_HISTORY "WHERE d.id = ?");
    sp_query_put_text(&q, id);
    if (sp_query_row(&q)) {
        get_device(&q, out);
        if (history != NULL) {
            get_history(&q, DEVICE_COLUMN_COUNT, out->id, history);
        }
    } else if (q.err == SP_OK) {
        q.err = no_device(reg);
    }
    return sp_query_end(&q);
}

enum sp_err sp_registry_device_each(struct sp_registry *reg, sp_device_fn fn, void *arg)
{
    struct sp_query q;
    sp_query_start(&q, reg, DEVICE_WITH_HISTORY "ORDER BY d.id");
    while (sp_query_row(&q)) {
        struct sp_device device;
        struct sp_device_history history;
        get_device(&q, &device);
        get_history(&q, DEVICE_COLUMN_COUNT, device.id, &history);
        if (q.err == SP_OK) {
            q.err = fn(arg, &device, &history);
        }
    }
    return sp_query_end(&q);
}

enum sp_err sp_registry_device_kek(struct sp_registry *reg, const char *id, uint8_t *out)
{
    uint8_t plain[SP_PSK_MAX];
    size_t len = 0;
    struct sp_query q;
    sp_query_start(&q, reg,
                   "SELECT s.sealed FROM secret s JOIN device d ON d.id = s.device"
                   " WHERE s.device = ? AND s.kind = 'kek' AND d.state = 0");
    sp_query_put_text(&q, id);
    if (!sp_query_row(&q)) {
        q.err = q.err == SP_OK ? no_device(reg) : q.err;
    } else if (unseal(reg, id, "kek", sp_query_blob(&q, 0), plain, &len) != SP_OK ||
               len != SP_KEK_LEN) {
        q.err = sp_registry_refuse(reg, SP_ERR_UNTRUSTED,
                                   "the device's key-encryption key does not open");
    } else {
        sp_copy(out, plain, SP_KEK_LEN);
    }
    sp_wipe(plain, sizeof(plain));
    return sp_query_end(&q);
}

static enum sp_err hand_over_device(struct sp_query *q, const struct sp_registry_changes *changes)
{
    struct sp_device device;
    struct sp_device_secrets secrets = {0};
    get_device(q, &device);
    SP_TRY(q->err);
    bool ok = unseal(q->reg, device.id, "psk", sp_query_blob(q, DEVICE_COLUMN_COUNT), secrets.psk,
                     &secrets.psk_len) == SP_OK &&
              unseal(q->reg, device.id, "iak", sp_query_blob(q, DEVICE_COLUMN_COUNT + 1),
                     secrets.iak, &secrets.iak_len) == SP_OK &&
              sp_rules_check_secrets(&secrets, device.iak_algorithm, &q->reg->fault) == SP_OK;
    enum sp_err err = changes->device(changes->arg, &device, ok ? &secrets : NULL);
    sp_wipe(&secrets, sizeof(secrets));
    return err;
}

static enum sp_err changed_devices(struct sp_registry *reg, uint64_t since,
                                   const struct sp_registry_changes *changes)
{
    struct sp_query q;
    sp_query_start(&q, reg,
                   "SELECT " DEVICE_COLUMNS ", p.sealed, i.sealed FROM device d"
                   " LEFT JOIN secret p ON p.device = d.id AND p.kind = 'psk'"
                   " LEFT JOIN secret i ON i.device = d.id AND i.kind = 'iak'"
                   " WHERE d.version > ? ORDER BY d.version");
    sp_query_put_int(&q, (int64_t)since);
    while (sp_query_row(&q)) {
        q.err = hand_over_device(&q, changes);
    }
    return sp_query_end(&q);
}

static enum sp_err removed_devices(struct sp_registry *reg, uint64_t since,
                                   const struct sp_registry_changes *changes)
{
    struct sp_query q;
    sp_query_start(&q, reg, "SELECT id FROM former WHERE version > ?");
    sp_query_put_int(&q, (int64_t)since);
    while (sp_query_row(&q)) {
        char id[SP_LINK_IDENTITY_MAX + 1];
        sp_query_text(&q, 0, id, sizeof(id));
        if (q.err == SP_OK) {
            q.err = changes->removed(changes->arg, id);
        }
    }
    return sp_query_end(&q);
}

enum sp_err sp_registry_changes_since(struct sp_registry *reg, uint64_t *version,
                                      const struct sp_registry_changes *changes)
{
    uint64_t now = 0;
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN"));
    enum sp_err err = sp_registry_number_read(reg, "version", &now);
    if (err == SP_OK && changes->removed != NULL) {
        err = removed_devices(reg, *version, changes);
    }
    if (err == SP_OK && changes->device != NULL) {
        err = changed_devices(reg, *version, changes);
    }
    SP_TRY(sp_registry_transaction_end(reg, err));
    *version = now;
    return SP_OK;
}

enum sp_err sp_registry_poll(struct sp_registry *reg, bool *changed)
{
    int64_t now = 0;
    *changed = false;
    /* Before the question: what is committed after it shows next time. */
    if (!index_changed(reg)) {
        return SP_OK;
    }
    enum sp_err err = read_data_version(reg, &now);
    if (err != SP_OK) {
        memset(reg->last_index, 0, sizeof(reg->last_index)); /* ask again */
        return err;
    }
    *changed = now != reg->last_data_version;
    reg->last_data_version = now;
    return SP_OK;
}

enum sp_err sp_registry_heard_read(struct sp_registry *reg, struct sp_registry_heard *out)
{
    struct sp_registry_heard heard = {0};
    SP_TRY(sp_registry_number_read(reg, "version_heard", &heard.devices));
    SP_TRY(sp_registry_number_read(reg, "software_version_heard", &heard.references));
    *out = heard;
    return SP_OK;
}

enum sp_err sp_registry_heard_all(struct sp_registry *reg, bool *out)
{
    struct sp_registry_heard heard;
    struct sp_registry_heard there = {0};
    SP_TRY(sp_registry_number_read(reg, "version", &there.devices));
    SP_TRY(sp_registry_number_read(reg, "software_version", &there.references));
    SP_TRY(sp_registry_heard_read(reg, &heard));
    *out = heard.devices >= there.devices && heard.references >= there.references;
    return SP_OK;
}

enum sp_err sp_registry_heard_write(struct sp_registry *reg, const struct sp_registry_heard *heard)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    enum sp_err err = sp_registry_number_write(reg, "version_heard", heard->devices);
    if (err == SP_OK) {
        err = sp_registry_number_write(reg, "software_version_heard", heard->references);
    }
    return sp_registry_transaction_end(reg, err);
}
