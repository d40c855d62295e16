/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/registry.h"

#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/keys/master_key.h"
#include "libs/base/test.h"

/* --- a registry in a folder of its own --- */

static char folder[64];
static char key_file[96];
static char db_file[96];
static struct sp_fault fault;

static void begin(void)
{
    (void)snprintf(folder, sizeof(folder), "/tmp/sp-registry-test-XXXXXX");
    SP_CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(key_file, sizeof(key_file), "%s/master.key", folder);
    (void)snprintf(db_file, sizeof(db_file), "%s/%s", folder, SP_REGISTRY_FILE);
    SP_CHECK_INT(sp_registry_create(folder, key_file, &fault), SP_OK);
}

static void end(void)
{
    char command[128];
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    SP_CHECK_INT(system(command), 0);
}

static struct sp_registry *open_registry(void)
{
    struct sp_registry *reg = NULL;
    enum sp_err err = sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault);
    if (err != SP_OK) {
        SP_CHECK_INT(err, SP_OK);
        printf("%s\n", fault.text);
        exit(1);
    }
    return reg;
}

static struct sp_device device_named(const char *id)
{
    struct sp_device d = {.iak_algorithm = SP_ATTEST_HMAC256};
    sp_copy(d.id, id, strlen(id));
    sp_copy(d.row.role, "sensor", 6);
    return d;
}

/* All three keys tell their generation, so that a mixture would be seen. */
static struct sp_device_secrets secrets_numbered(uint8_t n)
{
    struct sp_device_secrets s = {.psk_len = 32, .iak_len = 32};
    memset(s.psk, n, 32);
    memset(s.iak, n, 32);
    memset(s.kek, n, sizeof(s.kek));
    s.psk[0] = 'p';
    s.iak[0] = 'i';
    s.kek[0] = 'k';
    return s;
}

static enum sp_err add(struct sp_registry *reg, const char *id, uint8_t n)
{
    struct sp_device d = device_named(id);
    struct sp_device_secrets s = secrets_numbered(n);
    return sp_registry_device_add(reg, &d, &s);
}

static enum sp_err rotate(struct sp_registry *reg, const char *id, uint8_t n)
{
    struct sp_device_secrets s = secrets_numbered(n);
    return sp_registry_device_rotate(reg, id, &s);
}

/* --- what a reader sees --- */

struct seen {
    size_t devices;
    size_t removed;
    size_t unreadable;
    struct sp_device last;
    struct sp_device_secrets secrets;
    char last_removed[SP_LINK_IDENTITY_MAX + 1];
};

static enum sp_err see_device(void *arg, const struct sp_device *d,
                              const struct sp_device_secrets *secrets)
{
    struct seen *seen = arg;
    seen->devices++;
    seen->last = *d;
    if (secrets == NULL) {
        seen->unreadable++;
    } else {
        seen->secrets = *secrets;
    }
    return SP_OK;
}

static enum sp_err see_removed(void *arg, const char *id)
{
    struct seen *seen = arg;
    seen->removed++;
    (void)snprintf(seen->last_removed, sizeof(seen->last_removed), "%s", id);
    return SP_OK;
}

static struct seen look(struct sp_registry *reg, uint64_t *version)
{
    struct seen seen = {0};
    struct sp_registry_changes changes = {&seen, see_device, see_removed};
    SP_CHECK_INT(sp_registry_changes_since(reg, version, &changes), SP_OK);
    return seen;
}

static struct seen look_at_all(struct sp_registry *reg)
{
    uint64_t version = 0;
    return look(reg, &version);
}

/* Run SQL behind the registry's back. */
static void tamper(const char *sql)
{
    sqlite3 *db = NULL;
    char *why = NULL;
    SP_CHECK_INT(sqlite3_open(db_file, &db), SQLITE_OK);
    if (sqlite3_exec(db, sql, NULL, NULL, &why) != SQLITE_OK) {
        printf("%s\n", why);
        SP_CHECK(false);
    }
    sqlite3_free(why);
    SP_CHECK_INT(sqlite3_close(db), SQLITE_OK);
}

/* --- devices --- */

static void a_device_comes_back_as_it_was_added(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    struct sp_device d = device_named("dev-1");
    d.row.attestation = SP_ATTESTATION_OPTIONAL;
    d.row.binding = SP_LINK_BINDING_NONE;
    d.row.suites = SP_SUITES_FORWARD_SECRET;
    d.row.answer_timeout_ms = 1234;
    d.allow_no_software = true;
    d.iak_algorithm = SP_ATTEST_HMAC512;
    struct sp_device_secrets s = secrets_numbered(7);
    s.iak_len = 64;
    uint8_t ueid[SP_ATTEST_UEID_LEN];
    SP_CHECK_INT(sp_registry_device_add(reg, &d, &s), SP_OK);
    SP_CHECK_INT(sp_attest_ueid(sp_view(s.iak, s.iak_len), ueid), SP_OK);
    sp_registry_close(reg);

    reg = open_registry();
    struct seen seen = look_at_all(reg);
    SP_CHECK_INT(seen.devices, 1);
    SP_CHECK_INT(seen.unreadable, 0);
    SP_CHECK(strcmp(seen.last.id, "dev-1") == 0 && strcmp(seen.last.row.role, "sensor") == 0);
    SP_CHECK_INT(seen.last.row.attestation, SP_ATTESTATION_OPTIONAL);
    SP_CHECK_INT(seen.last.row.binding, SP_LINK_BINDING_NONE);
    SP_CHECK_INT(seen.last.row.suites, SP_SUITES_FORWARD_SECRET);
    SP_CHECK_INT(seen.last.row.answer_timeout_ms, 1234);
    SP_CHECK_INT(seen.last.iak_algorithm, SP_ATTEST_HMAC512);
    SP_CHECK(seen.last.allow_no_software && seen.last.state == SP_DEVICE_ACTIVE);
    SP_CHECK(seen.last.created != 0 && seen.last.rotated == 0 && seen.last.group[0] == '\0');
    SP_CHECK(memcmp(seen.last.instance_id, ueid, sizeof(ueid)) == 0);
    SP_CHECK(seen.secrets.psk_len == 32 && memcmp(seen.secrets.psk, s.psk, 32) == 0);
    SP_CHECK(seen.secrets.iak_len == 64 && memcmp(seen.secrets.iak, s.iak, 64) == 0);
    sp_registry_close(reg);
    end();
}

static void the_file_holds_no_key_and_is_closed_to_others(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    SP_CHECK_INT(add(reg, "dev-1", 'Z'), SP_OK);
    sp_registry_close(reg);
    struct stat st;
    SP_CHECK_INT(stat(db_file, &st), 0);
    SP_CHECK_INT(st.st_mode & 0777, 0600);
    SP_CHECK_INT(stat(key_file, &st), 0);
    SP_CHECK_INT(st.st_mode & 0777, 0600);
    static char file[1 << 18];
    FILE *f = fopen(db_file, "rb");
    size_t len = f == NULL ? 0 : fread(file, 1, sizeof(file), f);
    SP_CHECK(len > 4096 && memmem(file, len, "dev-1", 5) != NULL);
    SP_CHECK(memmem(file, len, "ZZZZZZZZ", 8) == NULL);
    if (f != NULL) {
        (void)fclose(f);
    }
    end();
}

static void changed_or_moved_ciphertexts_do_not_open(void)
{
    static const char *const ways[] = {
        "UPDATE secret SET sealed = zeroblob(60) WHERE device = 'a' AND kind = 'psk'",
        "UPDATE secret SET sealed = CAST(substr(sealed, 1, length(sealed) - 1) AS BLOB)"
        " WHERE device = 'a' AND kind = 'iak'",
        "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE device = 'a' AND kind = 'iak')"
        " WHERE device = 'a' AND kind = 'psk'",
        "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE device = 'b' AND kind = 'psk')"
        " WHERE device = 'a' AND kind = 'psk'",
        "DELETE FROM secret WHERE device = 'a' AND kind = 'iak'",
        "UPDATE device SET iak_algorithm = 7 WHERE id = 'a'",
    };
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        begin();
        struct sp_registry *reg = open_registry();
        SP_CHECK_INT(add(reg, "a", 1), SP_OK);
        SP_CHECK_INT(add(reg, "b", 2), SP_OK);
        SP_CHECK_INT(look_at_all(reg).unreadable, 0);
        sp_registry_close(reg);
        tamper(ways[i]);
        reg = open_registry();
        struct seen seen = look_at_all(reg);
        SP_CHECK_CASE(seen.devices == 2 && seen.unreadable == 1, ways[i]);
        sp_registry_close(reg);
        end();
    }
}

static void impossible_rows_are_an_error(void)
{
    static const char *const ways[] = {
        "UPDATE device SET role = ''",
        "UPDATE device SET role = 'x' || char(0) || 'y'",
        "UPDATE device SET role = hex(zeroblob(40))",
        "UPDATE device SET attestation = 3",
        "UPDATE device SET binding = 2",
        "UPDATE device SET suites = 4096",
        "UPDATE device SET instance_id = x'00'",
        "PRAGMA foreign_keys = OFF; UPDATE device SET id = 'no such id!'",
    };
    for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
        begin();
        struct sp_registry *reg = open_registry();
        SP_CHECK_INT(add(reg, "a", 1), SP_OK);
        tamper(ways[i]);
        struct seen seen = {0};
        uint64_t version = 0;
        struct sp_registry_changes changes = {&seen, see_device, see_removed};
        SP_CHECK_CASE(sp_registry_changes_since(reg, &version, &changes) != SP_OK, ways[i]);
        SP_CHECK_CASE(version == 0 && seen.devices == 0, ways[i]);
        sp_registry_close(reg);
        end();
    }
}

static void no_two_keys_are_the_same(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    SP_CHECK_INT(add(reg, "a", 1), SP_OK);
    struct sp_device d = device_named("b");
    struct sp_device_secrets s = secrets_numbered(2);
    sp_copy(s.psk, secrets_numbered(1).psk, 32);
    SP_CHECK_INT(sp_registry_device_add(reg, &d, &s), SP_ERR_DENIED); /* another's PSK */
    sp_copy(s.psk, secrets_numbered(1).iak, 32);
    SP_CHECK_INT(sp_registry_device_add(reg, &d, &s), SP_ERR_DENIED); /* another's IAK */
    sp_copy(s.psk, s.iak, 32);
    SP_CHECK_INT(sp_registry_device_add(reg, &d, &s), SP_ERR_DENIED); /* its own IAK */
    s = secrets_numbered(2);
    sp_copy(s.iak, secrets_numbered(1).iak, 32);
    SP_CHECK_INT(sp_registry_device_add(reg, &d, &s), SP_ERR_DENIED);
    SP_CHECK_INT(rotate(reg, "a", 1), SP_ERR_DENIED); /* not new */
    SP_CHECK_INT(look_at_all(reg).devices, 1);
    SP_CHECK_INT(add(reg, "b", 2), SP_OK);
    SP_CHECK_INT(rotate(reg, "b", 1), SP_ERR_DENIED);
    SP_CHECK_INT(add(reg, "b", 3), SP_ERR_EXISTS);
    SP_CHECK_INT(look_at_all(reg).devices, 2);
    sp_registry_close(reg);
    end();
}

static void weak_and_published_keys_are_refused(void)
{
    static const char tfm_iak[] =
        "a9b454b26d6f90a4ea31193564cba91fec6f9a002a7dc0504b92a1937134585f";
    static const struct {
        size_t psk;
        size_t iak;
        enum sp_attest_algorithm algorithm;
        enum sp_err err;
    } cases[] = {
        {15, 32, SP_ATTEST_HMAC256, SP_ERR_DENIED},
        {0, 32, SP_ATTEST_HMAC256, SP_ERR_DENIED},
        {65, 32, SP_ATTEST_HMAC256, SP_ERR_DENIED},
        {32, 31, SP_ATTEST_HMAC256, SP_ERR_DENIED},
        {32, 48, SP_ATTEST_HMAC256, SP_ERR_DENIED},
        {32, 32, SP_ATTEST_HMAC384, SP_ERR_DENIED},
        {32, 32, (enum sp_attest_algorithm)4, SP_ERR_ARGUMENT},
        {16, 48, SP_ATTEST_HMAC384, SP_OK},
    };
    begin();
    struct sp_registry *reg = open_registry();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_device d = device_named("dev");
        struct sp_device_secrets s = secrets_numbered((uint8_t)(i + 1));
        s.psk_len = cases[i].psk;
        s.iak_len = cases[i].iak;
        d.iak_algorithm = cases[i].algorithm;
        SP_CHECK_INT(sp_registry_device_add(reg, &d, &s), cases[i].err);
    }
    struct sp_device d = device_named("dummy");
    struct sp_device_secrets s = secrets_numbered(99);
    SP_CHECK_INT(sp_hex_parse(sp_view_str(tfm_iak), s.iak, sizeof(s.iak), &s.iak_len), SP_OK);
    SP_CHECK_INT(sp_registry_device_add(reg, &d, &s), SP_ERR_DENIED);
    SP_CHECK(strstr(sp_registry_fault(reg), "published") != NULL);
    sp_registry_close(reg);
    end();
}

static void ids_that_are_no_identities_are_refused(void)
{
    static const char *const ids[] = {
        "", "-a", ".a", "_a", "a b", "a/b", "a+", "\xc3\xa9", "a\n", "a\"b",
        /* 65 letters: no room for the NUL */
        "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"};
    begin();
    struct sp_registry *reg = open_registry();
    for (size_t i = 0; i < sizeof(ids) / sizeof(ids[0]); i++) {
        struct sp_device d = device_named("x");
        memset(d.id, 0, sizeof(d.id));
        sp_copy(d.id, ids[i], strlen(ids[i]) < sizeof(d.id) ? strlen(ids[i]) : sizeof(d.id));
        struct sp_device_secrets s = secrets_numbered((uint8_t)i);
        SP_CHECK_CASE(sp_registry_device_add(reg, &d, &s) == SP_ERR_ARGUMENT, ids[i]);
    }
    sp_registry_close(reg);
    end();
}

static void a_reader_sees_each_change_once(void)
{
    begin();
    struct sp_registry *writer = open_registry();
    struct sp_registry *reader = NULL;
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_SERVICE, &reader, &fault), SP_OK);
    uint64_t version = 0;
    bool changed = true;
    (void)look(reader, &version);
    SP_CHECK(sp_registry_poll(reader, &changed) == SP_OK && !changed);
    SP_CHECK_INT(add(writer, "a", 1), SP_OK);
    SP_CHECK_INT(add(writer, "b", 2), SP_OK);
    SP_CHECK(sp_registry_poll(reader, &changed) == SP_OK && changed);
    SP_CHECK(sp_registry_poll(reader, &changed) == SP_OK && !changed);
    SP_CHECK_INT(look(reader, &version).devices, 2);
    SP_CHECK_INT(look(reader, &version).devices, 0);
    SP_CHECK_INT(rotate(writer, "b", 3), SP_OK);
    struct seen seen = look(reader, &version);
    SP_CHECK(seen.devices == 1 && seen.secrets.psk[1] == 3 && seen.last.rotated != 0);
    SP_CHECK_INT(sp_registry_device_set_state(writer, "a", SP_DEVICE_REVOKED), SP_OK);
    seen = look(reader, &version);
    SP_CHECK(seen.devices == 1 && seen.last.state == SP_DEVICE_REVOKED);
    SP_CHECK_INT(sp_registry_device_remove(writer, "a"), SP_OK);
    seen = look(reader, &version);
    SP_CHECK(seen.devices == 0 && seen.removed == 1 && strcmp(seen.last_removed, "a") == 0);
    SP_CHECK_INT(add(writer, "a", 4), SP_OK);
    seen = look(reader, &version);
    SP_CHECK(seen.devices == 1 && seen.removed == 0 && seen.secrets.psk[1] == 4);
    SP_CHECK_INT(sp_registry_device_remove(writer, "nobody"), SP_ERR_NOT_FOUND);
    SP_CHECK_INT(sp_registry_device_set_state(writer, "nobody", SP_DEVICE_ACTIVE),
                 SP_ERR_NOT_FOUND);
    SP_CHECK_INT(rotate(writer, "nobody", 9), SP_ERR_NOT_FOUND);
    SP_CHECK_INT(look(reader, &version).devices, 0);
    sp_registry_close(reader);
    sp_registry_close(writer);
    end();
}

static void a_batch_is_all_or_nothing(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    SP_CHECK_INT(sp_registry_batch_begin(reg), SP_OK);
    SP_CHECK_INT(add(reg, "a", 1), SP_OK);
    SP_CHECK_INT(add(reg, "b", 2), SP_OK);
    SP_CHECK_INT(add(reg, "c", 1), SP_ERR_DENIED);
    SP_CHECK_INT(sp_registry_batch_end(reg, SP_ERR_DENIED), SP_ERR_DENIED);
    SP_CHECK_INT(look_at_all(reg).devices, 0);
    SP_CHECK_INT(sp_registry_batch_begin(reg), SP_OK);
    SP_CHECK_INT(add(reg, "a", 1), SP_OK);
    SP_CHECK_INT(add(reg, "a", 1), SP_ERR_EXISTS);
    SP_CHECK_INT(sp_registry_batch_end(reg, SP_OK),
                 SP_ERR_STATE); /* a failure cannot be passed over */
    SP_CHECK_INT(look_at_all(reg).devices, 0);
    SP_CHECK_INT(sp_registry_batch_begin(reg), SP_OK);
    SP_CHECK_INT(add(reg, "a", 1), SP_OK);
    SP_CHECK_INT(add(reg, "b", 2), SP_OK);
    SP_CHECK_INT(sp_registry_batch_end(reg, SP_OK), SP_OK);
    SP_CHECK_INT(look_at_all(reg).devices, 2);
    sp_registry_close(reg);
    end();
}

static void history_adds_up_and_ends_with_its_device(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    SP_CHECK_INT(add(reg, "a", 1), SP_OK);
    struct sp_device_history h[] = {{"a", SP_ATTEST_OK, 1000, 2, 0},
                                    {"gone", SP_ATTEST_OK, 1000, 1, 0},
                                    {"a", SP_ATTEST_MAC, 1001, 0, 1}};
    SP_CHECK_INT(sp_registry_history_add(reg, h, 3), SP_OK);
    SP_CHECK_INT(sp_registry_history_add(reg, h, 1), SP_OK);
    struct sp_device d;
    struct sp_device_history found;
    SP_CHECK_INT(sp_registry_device_find(reg, "a", &d, &found), SP_OK);
    SP_CHECK(found.ok == 4 && found.refused == 1 && found.last_check == SP_ATTEST_OK);
    SP_CHECK_INT(sp_registry_device_find(reg, "gone", &d, &found), SP_ERR_NOT_FOUND);
    SP_CHECK_INT(sp_registry_device_remove(reg, "a"), SP_OK);
    SP_CHECK_INT(add(reg, "a", 2), SP_OK);
    SP_CHECK_INT(sp_registry_device_find(reg, "a", &d, &found), SP_OK);
    SP_CHECK(found.ok == 0 && found.last_time == 0);
    sp_registry_close(reg);
    end();
}

/* --- files --- */

static void another_master_key_does_not_open_it(void)
{
    begin();
    SP_CHECK_INT(unlink(key_file), 0);
    SP_CHECK_INT(sp_master_key_make(key_file, &fault), SP_OK);
    struct sp_registry *reg = NULL;
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault),
                 SP_ERR_UNTRUSTED);
    SP_CHECK(reg == NULL);
    end();
}

static void files_that_others_can_reach_are_refused(void)
{
    struct sp_registry *reg = NULL;
    char aside[128];
    begin();
    (void)snprintf(aside, sizeof(aside), "%s/aside", folder);
    for (mode_t bit = 1; bit <= 040; bit <<= 1) {
        SP_CHECK_INT(chmod(key_file, 0600 | bit), 0);
        SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault),
                     SP_ERR_DENIED);
    }
    SP_CHECK_INT(chmod(key_file, 0600), 0);
    SP_CHECK_INT(chmod(db_file, 0640), 0);
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault), SP_ERR_DENIED);
    SP_CHECK_INT(chmod(db_file, 0600), 0);
    SP_CHECK_INT(rename(key_file, aside), 0);
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault),
                 SP_ERR_NOT_FOUND);
    SP_CHECK_INT(symlink(aside, key_file), 0);
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault), SP_ERR_DENIED);
    SP_CHECK_INT(unlink(key_file), 0);
    SP_CHECK_INT(rename(aside, key_file), 0);
    SP_CHECK_INT(rename(db_file, aside), 0);
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault),
                 SP_ERR_NOT_FOUND);
    SP_CHECK_INT(symlink(aside, db_file), 0);
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault), SP_ERR_DENIED);
    SP_CHECK(reg == NULL);
    end();
}

static void write_file(const char *name, const void *bytes, size_t len)
{
    int fd = open(name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    SP_CHECK(fd >= 0 && write(fd, bytes, len) == (ssize_t)len);
    (void)close(fd);
}

static void a_master_key_is_32_bytes_or_64_hex_digits(void)
{
    static const char hex[] = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1F";
    static const struct {
        size_t len;
        const char *tail;
        enum sp_err err;
    } cases[] = {{64, "", SP_OK},
                 {64, "\n", SP_OK},
                 {63, "", SP_ERR_MALFORMED},
                 {32, "", SP_OK},
                 {0, "", SP_ERR_MALFORMED},
                 {31, "", SP_ERR_MALFORMED},
                 {64, "x", SP_ERR_MALFORMED},
                 {64, "\n\n", SP_ERR_MALFORMED}};
    begin();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char text[80];
        uint8_t key[SP_MASTER_KEY_LEN] = {0};
        int len = snprintf(text, sizeof(text), "%.*s%s", (int)cases[i].len, hex, cases[i].tail);
        write_file(key_file, text, (size_t)len);
        SP_CHECK_INT(sp_master_key_read(key_file, key, &fault), cases[i].err);
        SP_CHECK(cases[i].err != SP_OK || key[31] == (cases[i].len == 32 ? 'f' : 0x1f));
    }
    SP_CHECK_INT(sp_master_key_make(key_file, &fault), SP_ERR_EXISTS);
    end();
}

static void a_registry_is_never_made_over_another(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    SP_CHECK_INT(add(reg, "a", 1), SP_OK);
    sp_registry_close(reg);
    SP_CHECK_INT(sp_registry_create(folder, key_file, &fault), SP_ERR_EXISTS);
    reg = open_registry();
    SP_CHECK_INT(look_at_all(reg).devices, 1);
    sp_registry_close(reg);
    end();
}

static void files_that_are_no_registries_do_not_open(void)
{
    struct sp_registry *reg = NULL;
    begin();
    write_file(db_file, "", 0);
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault),
                 SP_ERR_UNSUPPORTED);
    static char junk[8192];
    memset(junk, 'j', sizeof(junk));
    write_file(db_file, junk, sizeof(junk));
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault),
                 SP_ERR_MALFORMED);
    SP_CHECK(reg == NULL);
    end();
    begin();
    tamper("PRAGMA user_version = 3");
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &reg, &fault),
                 SP_ERR_UNSUPPORTED);
    end();
}

/* --- references --- */

static struct sp_reference reference_numbered(uint8_t n)
{
    struct sp_reference ref = {.implementation_id_len = 32, .component_count = 2};
    memset(ref.implementation_id, n, 32);
    for (size_t i = 0; i < 2; i++) {
        struct sp_reference_component *c = &ref.components[i];
        sp_copy(c->type, i == 0 ? "SPE" : "NSPE", i == 0 ? 3 : 4);
        memset(c->value, n + (int)i, 32);
        c->value_len = 32;
    }
    ref.components[1].signer_id_len = 48;
    sp_copy(ref.components[1].version, "1.0", 3);
    return ref;
}

struct references {
    size_t count;
    struct sp_reference last;
};

static enum sp_err see_reference(void *arg, const struct sp_reference *ref)
{
    struct references *seen = arg;
    seen->count++;
    seen->last = *ref;
    return SP_OK;
}

static void references_are_kept_once_each(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    struct sp_reference one = reference_numbered(1);
    struct sp_reference two = reference_numbered(2);
    int64_t number = 0;
    uint64_t before = 0;
    uint64_t after = 0;
    SP_CHECK_INT(sp_registry_reference_version(reg, &before), SP_OK);
    SP_CHECK_INT(sp_registry_reference_add(reg, &one, &number), SP_OK);
    SP_CHECK_INT(sp_registry_reference_add(reg, &two, &number), SP_OK);
    SP_CHECK_INT(number, 2);
    SP_CHECK_INT(sp_registry_reference_add(reg, &one, &number), SP_ERR_EXISTS);
    SP_CHECK_INT(number, 1);
    SP_CHECK_INT(sp_registry_reference_version(reg, &after), SP_OK);
    SP_CHECK_INT(after, before + 2);
    struct references seen = {0};
    SP_CHECK_INT(sp_registry_reference_each(reg, see_reference, &seen), SP_OK);
    SP_CHECK_INT(seen.count, 2);
    SP_CHECK_INT(seen.last.component_count, 2);
    SP_CHECK(memcmp(seen.last.components, two.components, sizeof(two.components)) == 0);
    SP_CHECK(memcmp(seen.last.implementation_id, two.implementation_id, 32) == 0);
    SP_CHECK_INT(sp_registry_reference_remove(reg, 2), SP_OK);
    SP_CHECK_INT(sp_registry_reference_remove(reg, 2), SP_ERR_NOT_FOUND);
    SP_CHECK_INT(sp_registry_reference_add(reg, &two, &number), SP_OK);
    SP_CHECK_INT(number, 3); /* a number is never used again */
    sp_registry_close(reg);
    end();
}

static void references_that_no_token_can_match_are_refused(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    int64_t number = 0;
    struct sp_reference ref = reference_numbered(1);
    ref.implementation_id_len = 31;
    SP_CHECK_INT(sp_registry_reference_add(reg, &ref, &number), SP_ERR_ARGUMENT);
    ref = reference_numbered(1);
    ref.component_count = 0;
    SP_CHECK_INT(sp_registry_reference_add(reg, &ref, &number), SP_ERR_ARGUMENT);
    ref.component_count = SP_ATTEST_COMPONENTS_MAX + 1;
    SP_CHECK_INT(sp_registry_reference_add(reg, &ref, &number), SP_ERR_ARGUMENT);
    ref = reference_numbered(1);
    ref.components[0] = ref.components[1];
    SP_CHECK_INT(sp_registry_reference_add(reg, &ref, &number), SP_ERR_ARGUMENT);
    ref = reference_numbered(1);
    ref.components[0].value_len = 20;
    SP_CHECK_INT(sp_registry_reference_add(reg, &ref, &number), SP_ERR_ARGUMENT);
    ref = reference_numbered(1);
    ref.components[0].signer_id_len = 65;
    SP_CHECK_INT(sp_registry_reference_add(reg, &ref, &number), SP_ERR_ARGUMENT);
    ref = reference_numbered(1);
    memset(ref.components[0].type, 'x', sizeof(ref.components[0].type));
    SP_CHECK_INT(sp_registry_reference_add(reg, &ref, &number), SP_ERR_ARGUMENT);
    sp_registry_close(reg);
    end();
}

/* --- the write-ahead log --- */

static long long log_size(void)
{
    char path[128];
    struct stat st;
    (void)snprintf(path, sizeof(path), "%s-wal", db_file);
    return stat(path, &st) == 0 ? (long long)st.st_size : -1;
}

static void a_service_that_writes_for_long_keeps_its_log_short(void)
{
    begin();
    struct sp_registry *reg = NULL;
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_SERVICE, &reg, &fault), SP_OK);
    long long most = 0;
    for (uint64_t i = 1; i <= 3000; i++) {
        SP_CHECK_INT(sp_registry_heard_write(reg, &(struct sp_registry_heard){i, i}), SP_OK);
        most = log_size() > most ? log_size() : most;
    }
    SP_CHECK(most > 500 * 4096 && most < 1100 * 4200);
    sp_registry_close(reg);
    SP_CHECK_INT(log_size(), -1);
    reg = open_registry();
    struct sp_registry_heard heard = {0, 0};
    SP_CHECK_INT(sp_registry_heard_read(reg, &heard), SP_OK);
    SP_CHECK_INT(heard.devices, 3000);
    sp_registry_close(reg);
    end();
}

/* As a gateway that was killed leaves one. */
static void leave_a_log(void)
{
    pid_t child = fork();
    if (child == 0) {
        struct sp_registry *reg = open_registry();
        (void)raise(add(reg, "logged", 1) == SP_OK ? SIGKILL : SIGTERM);
    }
    int status = 0;
    SP_CHECK(waitpid(child, &status, 0) == child);
    SP_CHECK(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL);
}

static void a_log_that_was_found_stays_until_somebody_writes(void)
{
    begin();
    leave_a_log();
    struct sp_registry *reg = open_registry();
    SP_CHECK_INT(look_at_all(reg).devices, 1);
    sp_registry_close(reg);
    SP_CHECK(log_size() > 0);
    reg = open_registry();
    SP_CHECK_INT(add(reg, "another", 2), SP_OK);
    sp_registry_close(reg);
    SP_CHECK_INT(log_size(), -1);
    reg = open_registry();
    SP_CHECK_INT(look_at_all(reg).devices, 2);
    sp_registry_close(reg);
    SP_CHECK_INT(log_size(), -1); /* nor does one who only reads leave one */
    end();
}

/* --- kill -9 at every write that SQLite makes --- */

static int writes_to_live = -1; /* -1 = for ever */

static void count_write(void)
{
    if (writes_to_live == 0) {
        (void)raise(SIGKILL);
    }
    writes_to_live -= writes_to_live > 0;
}

/* These stand in front of the C library's; SQLite calls them through the same names. */
ssize_t pwrite64(int fd, const void *bytes, size_t len, off64_t at)
{
    count_write();
    return syscall(SYS_pwrite64, fd, bytes, len, at);
}

int fdatasync(int fd)
{
    count_write();
    return (int)syscall(SYS_fdatasync, fd);
}

int ftruncate64(int fd, off64_t len)
{
    count_write();
    return (int)syscall(SYS_ftruncate, fd, len);
}

/* True when the child lived to the end of it. */
static bool in_a_child(int writes,
                       enum sp_err (*change)(struct sp_registry *, const char *, uint8_t),
                       uint8_t n)
{
    pid_t child = fork();
    if (child == 0) {
        struct sp_registry *reg = open_registry();
        writes_to_live = writes;
        enum sp_err err = change(reg, "crash", n);
        sp_registry_close(reg);
        _exit(err == SP_OK ? 0 : 1);
    }
    int status = 0;
    SP_CHECK(waitpid(child, &status, 0) == child);
    SP_CHECK(WIFSIGNALED(status) || WEXITSTATUS(status) == 0);
    return WIFEXITED(status);
}

static void a_kill_in_add_leaves_all_of_the_device_or_nothing(void)
{
    begin();
    size_t absent = 0;
    bool done = false;
    for (int writes = 0; !done && writes < 500; writes++) {
        done = in_a_child(writes, add, 1);
        struct sp_registry *reg = open_registry();
        struct seen seen = look_at_all(reg);
        SP_CHECK(seen.unreadable == 0 && seen.devices <= 1);
        SP_CHECK(!done || seen.devices == 1);
        absent += seen.devices == 0;
        if (seen.devices == 1) {
            SP_CHECK(seen.secrets.psk[1] == 1 && seen.secrets.iak[1] == 1);
            SP_CHECK_INT(sp_registry_device_remove(reg, "crash"), SP_OK);
        }
        sp_registry_close(reg);
    }
    SP_CHECK(done && absent > 2);
    end();
}

static void a_kill_in_rotate_leaves_all_old_keys_or_all_new_ones(void)
{
    begin();
    struct sp_registry *reg = open_registry();
    SP_CHECK_INT(add(reg, "crash", 1), SP_OK);
    sp_registry_close(reg);
    size_t old = 0;
    uint8_t current = 1;
    bool done = false;
    for (uint8_t n = 2; !done && n < 250; n++) {
        done = in_a_child(n - 2, rotate, n);
        reg = open_registry();
        struct seen seen = look_at_all(reg);
        uint8_t found = seen.secrets.psk[1];
        uint8_t ueid[SP_ATTEST_UEID_LEN];
        SP_CHECK_INT(sp_attest_ueid(sp_view(seen.secrets.iak, 32), ueid), SP_OK);
        SP_CHECK(seen.unreadable == 0 && seen.devices == 1);
        SP_CHECK(found == current || found == n);
        SP_CHECK(seen.secrets.iak[1] == found);
        SP_CHECK(memcmp(ueid, seen.last.instance_id, sizeof(ueid)) == 0);
        SP_CHECK(!done || found == n);
        old += found == current;
        current = found;
        /* Who writes looks after the log that the dead one left. */
        SP_CHECK_INT(sp_registry_heard_write(reg, &(struct sp_registry_heard){0, 0}), SP_OK);
        sp_registry_close(reg);
    }
    SP_CHECK(done && old > 2);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(a_device_comes_back_as_it_was_added),
    SP_TEST(the_file_holds_no_key_and_is_closed_to_others),
    SP_TEST(changed_or_moved_ciphertexts_do_not_open),
    SP_TEST(impossible_rows_are_an_error),
    SP_TEST(no_two_keys_are_the_same),
    SP_TEST(weak_and_published_keys_are_refused),
    SP_TEST(ids_that_are_no_identities_are_refused),
    SP_TEST(a_reader_sees_each_change_once),
    SP_TEST(a_batch_is_all_or_nothing),
    SP_TEST(history_adds_up_and_ends_with_its_device),
    SP_TEST(another_master_key_does_not_open_it),
    SP_TEST(files_that_others_can_reach_are_refused),
    SP_TEST(a_master_key_is_32_bytes_or_64_hex_digits),
    SP_TEST(a_registry_is_never_made_over_another),
    SP_TEST(files_that_are_no_registries_do_not_open),
    SP_TEST(references_are_kept_once_each),
    SP_TEST(references_that_no_token_can_match_are_refused),
    SP_TEST(a_service_that_writes_for_long_keeps_its_log_short),
    SP_TEST(a_log_that_was_found_stays_until_somebody_writes),
    SP_TEST(a_kill_in_add_leaves_all_of_the_device_or_nothing),
    SP_TEST(a_kill_in_rotate_leaves_all_old_keys_or_all_new_ones),
};
SP_TEST_MAIN(tests)
