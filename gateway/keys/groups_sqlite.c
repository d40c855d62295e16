/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Key groups in the registry. A group key lies sealed with (group, epoch) as context. An epoch's number is never used
 * again, not even after its group was removed: devices would meet another key under a number that they know.
 */
#include "gateway/keys/registry_internal.h"

#include <sqlite3.h>
#include <string.h>
#include <time.h>

#include "libs/record/record.h"

#define CONTEXT_MAX 64U

const char sp_groups_schema[] =
    "CREATE TABLE key_group(name TEXT PRIMARY KEY, mode INTEGER NOT NULL,"
    " algorithm INTEGER NOT NULL, grace_s INTEGER NOT NULL, last_epoch INTEGER NOT NULL,"
    " created INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE key_epoch(name TEXT NOT NULL REFERENCES key_group(name) ON DELETE CASCADE,"
    " epoch INTEGER NOT NULL, sealed BLOB NOT NULL, created_ms INTEGER NOT NULL,"
    " active_ms INTEGER NOT NULL, until_ms INTEGER NOT NULL,"
    " PRIMARY KEY(name, epoch)) WITHOUT ROWID;"
    "CREATE TABLE former_group(name TEXT PRIMARY KEY, last_epoch INTEGER NOT NULL) WITHOUT ROWID;"
    "CREATE TABLE grant_serial(device TEXT PRIMARY KEY REFERENCES device(id) ON DELETE CASCADE,"
    " serial INTEGER NOT NULL) WITHOUT ROWID;"
    "INSERT INTO meta VALUES('group_version', 0);"
    "PRAGMA user_version = 2;";

static int64_t wall_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (int64_t)t.tv_sec * 1000 + t.tv_nsec / 1000000;
}

static enum sp_err no_group(struct sp_registry *reg)
{
    return sp_registry_refuse(reg, SP_ERR_NOT_FOUND,
                              "there is no such group; `sallyport group add NAME` makes one");
}

static enum sp_err changed(struct sp_registry *reg)
{
    uint64_t version;
    return sp_registry_number_next(reg, "group_version", &version);
}

static struct sp_view context_of(const char *name, uint32_t epoch, uint8_t *buf)
{
    struct sp_writer w;
    sp_writer_init(&w, buf, CONTEXT_MAX);
    sp_write_str(&w, "sp-group-1");
    sp_write_u32(&w, epoch);
    sp_write_str(&w, name);
    return sp_writer_view(&w);
}

/* One number of one row that a name chooses; false: there is no such row. */
static bool number_of(struct sp_registry *reg, const char *sql, const char *name, int64_t *out,
                      enum sp_err *err)
{
    struct sp_query q;
    sp_query_start(&q, reg, sql);
    sp_query_put_text(&q, name);
    bool found = sp_query_row(&q);
    if (found) {
        *out = sp_query_int(&q, 0);
    }
    *err = sp_query_end(&q);
    return found && *err == SP_OK;
}

/* The last epoch of a group by name, as number_of(). */
static bool last_epoch_of(struct sp_registry *reg, const char *sql, const char *name, int64_t *out,
                          enum sp_err *err)
{
    bool found = number_of(reg, sql, name, out, err);
    if (found && (*out < 0 || *out >= UINT32_MAX)) {
        *err = sp_registry_refuse(reg, SP_ERR_MALFORMED,
                                  "the registry is damaged: a row holds an impossible value");
        return false;
    }
    return found;
}

/* ---- changes ---- */

static enum sp_err insert_epoch(struct sp_registry *reg, const char *name, uint32_t epoch,
                                int64_t active_ms)
{
    uint8_t key[SP_GROUP_KEY_LEN];
    uint8_t sealed[SP_GROUP_KEY_LEN + SP_VAULT_OVERHEAD];
    uint8_t context[CONTEXT_MAX];
    size_t len = 0;
    SP_TRY(sp_vault_random(key, sizeof(key)));
    enum sp_err err = sp_vault_seal(reg->vault, context_of(name, epoch, context),
                                    SP_VIEW_ARRAY(key), sealed, sizeof(sealed), &len);
    sp_wipe(key, sizeof(key));
    SP_TRY(err);
    struct sp_query q;
    sp_query_start(&q, reg, "INSERT INTO key_epoch VALUES(?, ?, ?, ?, ?, 0)");
    sp_query_put_text(&q, name);
    sp_query_put_int(&q, epoch);
    sp_query_put_blob(&q, sp_view(sealed, len));
    sp_query_put_int(&q, wall_ms());
    sp_query_put_int(&q, active_ms);
    SP_TRY(sp_query_run(&q));
    sp_query_start(&q, reg, "UPDATE key_group SET last_epoch = ? WHERE name = ?");
    sp_query_put_int(&q, epoch);
    sp_query_put_text(&q, name);
    return sp_query_run(&q);
}

static enum sp_err add_in_transaction(struct sp_registry *reg, const struct sp_group *g)
{
    int64_t number = 0;
    enum sp_err err = SP_OK;
    if (number_of(reg, "SELECT 1 FROM key_group WHERE name = ?", g->name, &number, &err)) {
        return sp_registry_refuse(reg, SP_ERR_EXISTS, "there is a group of that name");
    }
    SP_TRY(err);
    int64_t last = 0;
    (void)last_epoch_of(reg, "SELECT last_epoch FROM former_group WHERE name = ?", g->name, &last,
                        &err);
    SP_TRY(err);
    (void)number_of(reg, "SELECT count(*) FROM key_group WHERE name <> ?", g->name, &number, &err);
    SP_TRY(err);
    if (number >= (int64_t)SP_GROUPS_MAX) {
        return sp_registry_refuse(reg, SP_ERR_LIMIT, "there are too many groups");
    }
    struct sp_query q;
    sp_query_start(&q, reg, "INSERT INTO key_group VALUES(?, ?, ?, ?, ?, ?)");
    sp_query_put_text(&q, g->name);
    sp_query_put_int(&q, g->mode);
    sp_query_put_int(&q, g->algorithm);
    sp_query_put_int(&q, g->grace_s);
    sp_query_put_int(&q, last);
    sp_query_put_int(&q, (int64_t)time(NULL));
    SP_TRY(sp_query_run(&q));
    SP_TRY(insert_epoch(reg, g->name, (uint32_t)last + 1, wall_ms()));
    return changed(reg);
}

enum sp_err sp_registry_group_add(struct sp_registry *reg, const struct sp_group *group)
{
    if (!sp_record_group_valid(sp_view_str(group->name)) || group->mode > SP_GROUP_END_TO_END ||
        sp_record_key_len(group->algorithm) == 0 || group->grace_s == 0) {
        return sp_registry_refuse(
            reg, SP_ERR_ARGUMENT,
            "a group's name is 1 to 32 letters, digits, '.', '_' and '-', and "
            "begins with a letter or digit");
    }
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, add_in_transaction(reg, group));
}

/* How many epochs are accepted now; with `force`, the oldest make room. */
static enum sp_err make_room(struct sp_registry *reg, const char *name, bool force)
{
    static const char count[] = "SELECT count(*) FROM key_epoch WHERE name = ?1 AND"
                                " (until_ms = 0 OR until_ms > unixepoch('now') * 1000)";
    int64_t live = 0;
    enum sp_err err = SP_OK;
    (void)number_of(reg, count, name, &live, &err);
    SP_TRY(err);
    if (live < (int64_t)SP_EPOCHS_MAX) {
        return SP_OK;
    }
    if (!force) {
        return sp_registry_refuse(reg, SP_ERR_LIMIT,
                                  "too many old epochs are still accepted; wait, or give the group "
                                  "a shorter grace period");
    }
    return sp_registry_run_text(
        reg,
        "UPDATE key_epoch SET until_ms = 1 WHERE name = ?1 AND epoch ="
        " (SELECT min(epoch) FROM key_epoch WHERE name = ?1 AND (until_ms = 0 OR until_ms >"
        " unixepoch('now') * 1000))",
        name);
}

static enum sp_err rotate_in_transaction(struct sp_registry *reg, const char *name, bool force)
{
    int64_t last = 0;
    enum sp_err err = SP_OK;
    if (!last_epoch_of(reg, "SELECT last_epoch FROM key_group WHERE name = ?", name, &last, &err)) {
        return err != SP_OK ? err : no_group(reg);
    }
    SP_TRY(make_room(reg, name, force));
    SP_TRY(insert_epoch(reg, name, (uint32_t)last + 1, 0));
    struct sp_query q;
    sp_query_start(&q, reg, "DELETE FROM key_epoch WHERE name = ? AND epoch <= ?");
    sp_query_put_text(&q, name);
    sp_query_put_int(&q, last + 1 - (int64_t)SP_EPOCHS_KEPT);
    SP_TRY(sp_query_run(&q));
    return changed(reg);
}

enum sp_err sp_registry_group_rotate(struct sp_registry *reg, const char *name, bool force)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, rotate_in_transaction(reg, name, force));
}

static enum sp_err activate_in_transaction(struct sp_registry *reg, const char *name,
                                           uint32_t epoch)
{
    int64_t grace = 0;
    enum sp_err err = SP_OK;
    int64_t now = wall_ms();
    if (!number_of(reg, "SELECT grace_s FROM key_group WHERE name = ?", name, &grace, &err)) {
        return err != SP_OK ? err : no_group(reg);
    }
    struct sp_query q;
    sp_query_start(
        &q, reg,
        "UPDATE key_epoch SET active_ms = ? WHERE name = ? AND epoch = ? AND active_ms = 0");
    sp_query_put_int(&q, now);
    sp_query_put_text(&q, name);
    sp_query_put_int(&q, epoch);
    SP_TRY(sp_query_run(&q));
    sp_query_start(
        &q, reg, "UPDATE key_epoch SET until_ms = ? WHERE name = ? AND epoch < ? AND until_ms = 0");
    sp_query_put_int(&q, now + grace * 1000);
    sp_query_put_text(&q, name);
    sp_query_put_int(&q, epoch);
    SP_TRY(sp_query_run(&q));
    return changed(reg);
}

enum sp_err sp_registry_group_activate(struct sp_registry *reg, const char *name, uint32_t epoch)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, activate_in_transaction(reg, name, epoch));
}

static enum sp_err remove_in_transaction(struct sp_registry *reg, const char *name)
{
    int64_t number = 0;
    enum sp_err err = SP_OK;
    if (number_of(reg, "SELECT 1 FROM device WHERE group_name = ? LIMIT 1", name, &number, &err)) {
        return sp_registry_refuse(reg, SP_ERR_DENIED, "devices are in that group");
    }
    SP_TRY(err);
    SP_TRY(sp_registry_run_text(
        reg,
        "INSERT OR REPLACE INTO former_group SELECT name, last_epoch FROM key_group WHERE name = ?",
        name));
    if (sqlite3_changes(reg->db) != 1) {
        return no_group(reg);
    }
    SP_TRY(sp_registry_run_text(reg, "DELETE FROM key_group WHERE name = ?", name));
    return changed(reg);
}

enum sp_err sp_registry_group_remove(struct sp_registry *reg, const char *name)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    return sp_registry_transaction_end(reg, remove_in_transaction(reg, name));
}

/* ---- devices and their groups ---- */

enum sp_err sp_groups_rotate_of_device(struct sp_registry *reg, const char *id)
{
    char name[SP_GROUP_NAME_MAX] = "";
    struct sp_query q;
    sp_query_start(&q, reg,
                   "SELECT g.name FROM device d JOIN key_group g ON g.name = d.group_name"
                   " WHERE d.id = ?");
    sp_query_put_text(&q, id);
    if (sp_query_row(&q)) {
        sp_query_text(&q, 0, name, sizeof(name));
    }
    SP_TRY(sp_query_end(&q));
    return name[0] == '\0' ? SP_OK : rotate_in_transaction(reg, name, true);
}

enum sp_err sp_groups_device_added(struct sp_registry *reg, const struct sp_device *device,
                                   bool existed)
{
    int64_t found = 0;
    enum sp_err err = SP_OK;
    if (device->group[0] == '\0') {
        return SP_OK;
    }
    if (!number_of(reg, "SELECT 1 FROM key_group WHERE name = ?", device->group, &found, &err)) {
        return err != SP_OK ? err : no_group(reg);
    }
    return existed ? rotate_in_transaction(reg, device->group, true) : SP_OK;
}

/* ---- reading ---- */

#define GROUP_COLUMNS "SELECT name, mode, algorithm, grace_s, last_epoch, created FROM key_group "

static void get_group(struct sp_query *q, struct sp_group *g)
{
    *g = (struct sp_group){0};
    sp_query_text(q, 0, g->name, sizeof(g->name));
    g->mode = (uint8_t)sp_query_int(q, 1);
    g->algorithm = (uint8_t)sp_query_int(q, 2);
    g->grace_s = (uint32_t)sp_query_int(q, 3);
    g->last_epoch = (uint32_t)sp_query_int(q, 4);
    g->created = sp_query_int(q, 5);
    if (!sp_record_group_valid(sp_view_str(g->name)) || g->mode > SP_GROUP_END_TO_END ||
        sp_record_key_len(g->algorithm) == 0) {
        sp_query_damaged(q);
    }
}

enum sp_err sp_registry_group_find(struct sp_registry *reg, const char *name, struct sp_group *out)
{
    struct sp_query q;
    sp_query_start(&q, reg, GROUP_COLUMNS "WHERE name = ?");
    sp_query_put_text(&q, name);
    if (sp_query_row(&q)) {
        get_group(&q, out);
    } else if (q.err == SP_OK) {
        q.err = no_group(reg);
    }
    return sp_query_end(&q);
}

enum sp_err sp_registry_group_each(struct sp_registry *reg, sp_group_fn fn, void *arg)
{
    struct sp_query q;
    sp_query_start(&q, reg, GROUP_COLUMNS "ORDER BY name");
    while (sp_query_row(&q)) {
        struct sp_group group;
        get_group(&q, &group);
        if (q.err == SP_OK) {
            q.err = fn(arg, &group);
        }
    }
    return sp_query_end(&q);
}

enum sp_err sp_registry_group_epochs(struct sp_registry *reg, const char *name,
                                     sp_group_epoch_fn fn, void *arg)
{
    struct sp_query q;
    sp_query_start(&q, reg,
                   "SELECT epoch, created_ms, active_ms, until_ms, sealed FROM key_epoch"
                   " WHERE name = ? ORDER BY epoch");
    sp_query_put_text(&q, name);
    while (sp_query_row(&q)) {
        struct sp_group_epoch e = {.epoch = (uint32_t)sp_query_int(&q, 0),
                                   .created_ms = sp_query_int(&q, 1),
                                   .active_ms = sp_query_int(&q, 2),
                                   .until_ms = sp_query_int(&q, 3)};
        uint8_t context[CONTEXT_MAX];
        uint8_t key[SP_GROUP_KEY_LEN + SP_VAULT_OVERHEAD];
        size_t len = 0;
        enum sp_err err = sp_vault_unseal(reg->vault, context_of(name, e.epoch, context),
                                          sp_query_blob(&q, 4), key, sizeof(key), &len);
        if (err == SP_OK && len == sizeof(e.key)) {
            sp_copy(e.key, key, len);
            q.err = fn(arg, &e);
        } else {
            q.err = sp_registry_refuse(reg, SP_ERR_UNTRUSTED, "a group key does not open");
        }
        sp_wipe(key, sizeof(key));
        sp_wipe(&e, sizeof(e));
    }
    return sp_query_end(&q);
}

enum sp_err sp_registry_group_version(struct sp_registry *reg, uint64_t *version)
{
    return sp_registry_number_read(reg, "group_version", version);
}

/* ---- serials of grants ---- */

enum sp_err sp_registry_serial_read(struct sp_registry *reg, const char *id, uint64_t *out)
{
    int64_t serial = 0;
    enum sp_err err = SP_OK;
    (void)number_of(reg, "SELECT serial FROM grant_serial WHERE device = ?", id, &serial, &err);
    SP_TRY(err);
    *out = (uint64_t)serial;
    return SP_OK;
}

enum sp_err sp_registry_serials_write(struct sp_registry *reg,
                                      const struct sp_grant_serial *serials, size_t count)
{
    SP_TRY(sp_registry_transaction_begin(reg, "BEGIN IMMEDIATE"));
    enum sp_err err = SP_OK;
    for (size_t i = 0; i < count && err == SP_OK; i++) {
        struct sp_query q;
        sp_query_start(&q, reg,
                       "INSERT INTO grant_serial SELECT id, ? FROM device WHERE id = ?"
                       " ON CONFLICT(device) DO UPDATE SET serial = max(serial, excluded.serial)");
        sp_query_put_int(&q, (int64_t)serials[i].serial);
        sp_query_put_text(&q, serials[i].id);
        err = sp_query_run(&q);
    }
    return sp_registry_transaction_end(reg, err);
}
