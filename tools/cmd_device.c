/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/cmd_registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "libs/record/record.h"
#include "tools/bundle.h"
#include "tools/device_line.h"
#include "tools/json_write.h"
#include "tools/options.h"

#define LINE_MAX_BYTES 4096U

static const char help[] =
    "sallyport device: who may connect to the gateway, and under which keys\n"
    "\n"
    "  sallyport device add ID --role ROLE [options] -c FILE    a new device\n"
    "  sallyport device add --from LIST -c FILE                 many at once, all or none\n"
    "  sallyport device list [--json] -c FILE                   every device, one line each\n"
    "  sallyport device show ID [--json] -c FILE                one device; never its keys\n"
    "  sallyport device revoke ID -c FILE                       close it out at once, keep its "
    "row\n"
    "  sallyport device restore ID -c FILE                      let a revoked device in again\n"
    "  sallyport device rotate ID [--bundle OUT] -c FILE        new keys; the old ones end at "
    "once\n"
    "  sallyport device remove ID -c FILE                       forget it\n"
    "\n"
    "A running gateway sees every change within a second; it closes the connections concerned.\n"
    "\n"
    "  -c, --config FILE       the gateway's configuration\n"
    "  --role ROLE             sensor, monitor, or a role of the configuration\n"
    "  --attestation MODE      required (default): a valid token or no access\n"
    "                          optional: a token that is offered must be valid\n"
    "                          none: for tools and services that have no token\n"
    "  --binding HOW           tls (default): tokens are tied to the TLS session\n"
    "                          none: for devices that cannot export TLS keying material\n"
    "  --suites SET[,SET]      profile-small, forward-secret, all, null-encryption; default: what\n"
    "                          the listener allows\n"
    "  --group GROUP           seal its records under the keys of that group (sallyport group "
    "--help)\n"
    "  --records WHAT          what is accepted of it: any (default without a group), mac, sealed\n"
    "                          (default in a group, as the group's algorithm is)\n"
    "  --psk-file FILE         the device's PSK, 16 to 64 bytes; default: 32 random bytes\n"
    "  --iak-file FILE         its attestation key; default: random\n"
    "  --iak-algorithm NAME    hmac256 (default, 32-byte key), hmac384 (48), hmac512 (64)\n"
    "  --answer-timeout TIME   how long it may take to answer a challenge: 500ms, 10s, 1m\n"
    "  --allow-no-software     accept its tokens although they carry no measurements\n"
    "  --bundle OUT            where to put what the device needs: its keys as JSON, mode 0600;\n"
    "                          - is standard output. The only time that keys are shown.\n"
    "  --from LIST             a line of JSON for each device, with the words above as names:\n"
    "                          "
    "{\"id\":\"d-1\",\"role\":\"sensor\",\"psk\":\"HEX\",\"iak\":\"HEX\"}\n"
    "\n"
    "Key files hold hex digits or raw bytes; - is standard input.\n"
    "\n"
    "For example:  sallyport device add hall-1 --role sensor --bundle hall-1.json -c gw.yaml\n";

struct sp_request {
    const char *what; /* "device add", for messages */
    const char *id;
    const char *config;
    const char *role;
    const char *group;
    const char *attestation;
    const char *binding;
    const char *suites;
    const char *psk_file;
    const char *iak_file;
    const char *iak_algorithm;
    const char *records;
    const char *answer_timeout;
    const char *bundle;
    const char *from;
    bool allow_no_software;
    bool json;
};

static int bad_value(const struct sp_request *r, const char *option, const char *value,
                     const char *wanted)
{
    return sp_tool_error(SP_EXIT_USAGE, r->what, "%s %s: not one of %s", option, value, wanted);
}

/* "500ms", "10s", "2m"; 1 ms to 10 minutes. */
static bool parse_duration(const char *text, uint32_t *ms)
{
    static const struct {
        const char *unit;
        unsigned long long ms;
    } units[] = {{"ms", 1}, {"s", 1000}, {"m", 60000}};
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    unsigned long long number = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].unit) == 0 && number >= 1 && number <= 600000 / units[i].ms) {
            *ms = (uint32_t)(number * units[i].ms);
            return true;
        }
    }
    return false;
}

static int check_role(const struct sp_request *r, const struct sp_config *config)
{
    if (r->role == NULL) {
        return sp_tool_error(SP_EXIT_USAGE, r->what,
                             "which role? Give --role sensor, --role "
                             "monitor, or one of the configuration");
    }
    if (sp_config_role(config, r->role) != NULL && strlen(r->role) < SP_ROLE_NAME_MAX) {
        return SP_EXIT_DONE;
    }
    (void)sp_tool_error(SP_EXIT_FAILED, r->what,
                        "the configuration has no role of that name; it has:");
    for (size_t i = 0; i < config->role_count; i++) {
        (void)fprintf(stderr, "  %s\n", config->roles[i].name);
    }
    return SP_EXIT_FAILED;
}

/* What a group's devices send is as strong as its algorithm, unless --records says otherwise. */
static int take_group(const struct sp_request *r, const struct sp_registry_tool *tool,
                      struct sp_device *device)
{
    struct sp_group group;
    if (r->group != NULL) {
        if (strlen(r->group) >= sizeof(device->group)) {
            return sp_tool_error(SP_EXIT_USAGE, r->what,
                                 "a group's name has at most 32 characters");
        }
        if (sp_registry_group_find(tool->registry, r->group, &group) != SP_OK) {
            return sp_tool_registry_error(r->what, tool);
        }
        sp_copy(device->group, group.name, sizeof(device->group));
        device->row.records = group.algorithm == 10 ? SP_RECORDS_SEALED : SP_RECORDS_MAC;
    }
    if (r->records != NULL && !sp_records_parse(r->records, &device->row.records)) {
        return bad_value(r, "--records", r->records, "any, mac, sealed");
    }
    return SP_EXIT_DONE;
}

/* Everything of a new row that comes from options. */
static int device_of(const struct sp_request *r, const struct sp_registry_tool *tool,
                     struct sp_device *device)
{
    const struct sp_config *config = tool->config;
    *device = (struct sp_device){.iak_algorithm = SP_ATTEST_HMAC256,
                                 .allow_no_software = r->allow_no_software};
    struct sp_device_row *row = &device->row;
    if (!sp_link_identity_valid(sp_view_str(r->id))) {
        return sp_tool_error(SP_EXIT_USAGE, r->what,
                             "a device id is 1 to 64 letters, digits, '.', '_' and '-', and begins "
                             "with a letter or digit");
    }
    int status = check_role(r, config);
    if (status != SP_EXIT_DONE) {
        return status;
    }
    status = take_group(r, tool, device);
    if (status != SP_EXIT_DONE) {
        return status;
    }
    if (r->attestation != NULL && !sp_attestation_mode_parse(r->attestation, &row->attestation)) {
        return bad_value(r, "--attestation", r->attestation, "required, optional, none");
    }
    if (r->binding != NULL && !sp_binding_parse(r->binding, &row->binding)) {
        return bad_value(r, "--binding", r->binding, "tls, none");
    }
    if (r->suites != NULL && !sp_suites_parse(r->suites, &row->suites)) {
        return bad_value(r, "--suites", r->suites,
                         "profile-small, forward-secret, all, null-encryption");
    }
    if (r->iak_algorithm != NULL && !sp_algorithm_parse(r->iak_algorithm, &device->iak_algorithm)) {
        return bad_value(r, "--iak-algorithm", r->iak_algorithm, "hmac256, hmac384, hmac512");
    }
    if (r->answer_timeout != NULL && !parse_duration(r->answer_timeout, &row->answer_timeout_ms)) {
        return bad_value(r, "--answer-timeout", r->answer_timeout, "1ms to 10m, as 500ms, 10s, 1m");
    }
    sp_copy(device->id, r->id, strlen(r->id));
    sp_copy(row->role, r->role, strlen(r->role));
    return SP_EXIT_DONE;
}

/* Those that were given, and random ones for the rest. */
static int secrets_of(const struct sp_request *r, enum sp_attest_algorithm algorithm,
                      struct sp_device_secrets *secrets)
{
    if (r->psk_file != NULL && r->iak_file != NULL && strcmp(r->psk_file, "-") == 0 &&
        strcmp(r->iak_file, "-") == 0) {
        return sp_tool_error(SP_EXIT_USAGE, r->what, "only one key can come from standard input");
    }
    if (r->psk_file != NULL && sp_bytes_read(r->what, r->psk_file, secrets->psk,
                                             sizeof(secrets->psk), &secrets->psk_len) != SP_OK) {
        return SP_EXIT_FAILED;
    }
    if (r->iak_file != NULL && sp_bytes_read(r->what, r->iak_file, secrets->iak,
                                             sizeof(secrets->iak), &secrets->iak_len) != SP_OK) {
        return SP_EXIT_FAILED;
    }
    enum sp_err err = sp_device_secrets_make(algorithm, secrets);
    if (err != SP_OK) {
        return sp_tool_error(SP_EXIT_FAILED, r->what, "no random numbers: %s", sp_err_text(err));
    }
    return SP_EXIT_DONE;
}

/* The newest key of the device's group, in the form that this device may have. */
static enum sp_err newest_epoch(void *arg, const struct sp_group_epoch *epoch)
{
    *(struct sp_group_epoch *)arg = *epoch;
    return SP_OK;
}

static enum sp_err app_key_of(struct sp_registry_tool *tool, const struct sp_device *device,
                              struct sp_bundle_key *out)
{
    struct sp_group group;
    struct sp_group_epoch newest = {0};
    *out = (struct sp_bundle_key){0};
    if (device->group[0] == '\0') {
        return SP_OK;
    }
    SP_TRY(sp_registry_group_find(tool->registry, device->group, &group));
    SP_TRY(sp_registry_group_epochs(tool->registry, device->group, newest_epoch, &newest));
    const struct sp_crypto_key key = {.bytes = SP_VIEW_ARRAY(newest.key)};
    out->epoch = newest.epoch;
    out->algorithm = sp_group_algorithm_name(group.algorithm);
    out->group_key = sp_role_holds_group_key(device->row.role);
    out->len = out->group_key ? sizeof(newest.key) : sp_record_key_len(group.algorithm);
    enum sp_err err = SP_OK;
    if (out->group_key) {
        sp_copy(out->key, newest.key, sizeof(newest.key));
    } else {
        err = sp_record_key(&key, (enum sp_cose_algorithm)group.algorithm, sp_view_str(device->id),
                            out->key);
    }
    sp_wipe(&newest, sizeof(newest));
    return err;
}

/* One transaction for the row and, where that means a new epoch, for the key that goes into the bundle. */
static enum sp_err store_row(struct sp_registry_tool *tool, const struct sp_device *device,
                             const struct sp_device_secrets *secrets, bool is_new,
                             struct sp_bundle_key *key)
{
    SP_TRY(sp_registry_batch_begin(tool->registry));
    enum sp_err err = is_new ? sp_registry_device_add(tool->registry, device, secrets)
                             : sp_registry_device_rotate(tool->registry, device->id, secrets);
    if (err == SP_OK) {
        err = app_key_of(tool, device, key);
    }
    return err;
}

/* Registry first, then the bundle in its place: a bundle that exists has keys that the gateway knows. */
static int store(const struct sp_request *r, struct sp_registry_tool *tool,
                 const struct sp_device *device, const struct sp_device_secrets *secrets,
                 bool is_new)
{
    struct sp_bundle bundle = {0};
    struct sp_bundle_key key = {0};
    struct sp_fault fault = {0};
    enum sp_err err = store_row(tool, device, secrets, is_new, &key);
    bool row_ok = err == SP_OK;
    if (row_ok) {
        err = sp_bundle_prepare(r->bundle, device, secrets, &key, &bundle, &fault);
    }
    bool bundle_ok = err == SP_OK;
    err = sp_registry_batch_end(tool->registry, err);
    sp_wipe(&key, sizeof(key));
    if (err == SP_OK) {
        err = sp_bundle_finish(&bundle, &fault);
        bundle_ok = err == SP_OK;
    }
    sp_bundle_drop(&bundle);
    if (err != SP_OK) {
        return row_ok && !bundle_ok ? sp_tool_error(SP_EXIT_FAILED, r->what, "%s", fault.text)
                                    : sp_tool_registry_error(r->what, tool);
    }
    if (r->bundle == NULL && (r->psk_file == NULL || r->iak_file == NULL)) {
        (void)sp_tool_error(0, r->what,
                            "keys were made, but without --bundle nobody can hand them to the "
                            "device; `sallyport device rotate %s --bundle OUT` makes new ones",
                            device->id);
    }
    return SP_EXIT_DONE;
}

static const char *given(const char *word)
{
    return word[0] == '\0' ? NULL : word;
}

/* A line of a list says what the options of one command say. */
static int add_line(const struct sp_request *r, struct sp_registry_tool *tool, const char *text)
{
    struct sp_fault fault = {0};
    struct sp_device_line line;
    struct sp_device device;
    if (sp_device_line_parse(text, &line, &fault) != SP_OK) {
        return sp_tool_error(SP_EXIT_FAILED, r->what, "%s", fault.text);
    }
    const struct sp_request one = {.what = r->what,
                                   .id = line.id,
                                   .role = given(line.role),
                                   .attestation = given(line.attestation),
                                   .binding = given(line.binding),
                                   .suites = given(line.suites),
                                   .group = given(line.group),
                                   .records = given(line.records),
                                   .iak_algorithm = given(line.iak_algorithm)};
    int status = device_of(&one, tool, &device);
    if (status == SP_EXIT_DONE && (line.secrets.psk_len == 0 || line.secrets.iak_len == 0)) {
        status = sp_tool_error(SP_EXIT_FAILED, r->what, "a line without psk or iak");
    }
    if (status == SP_EXIT_DONE) {
        status = secrets_of(&one, device.iak_algorithm, &line.secrets);
    }
    if (status == SP_EXIT_DONE &&
        sp_registry_device_add(tool->registry, &device, &line.secrets) != SP_OK) {
        status = sp_tool_registry_error(r->what, tool);
    }
    sp_wipe(&line, sizeof(line));
    return status;
}

static int add_lines(const struct sp_request *r, struct sp_registry_tool *tool, FILE *list)
{
    char text[LINE_MAX_BYTES];
    int status = SP_EXIT_DONE;
    unsigned long number = 0;
    while (status == SP_EXIT_DONE && fgets(text, sizeof(text), list) != NULL) {
        number++;
        if (strspn(text, " \t\r\n") != strlen(text)) {
            status = add_line(r, tool, text);
        }
    }
    sp_wipe(text, sizeof(text));
    if (status == SP_EXIT_DONE && ferror(list)) {
        return sp_tool_error(SP_EXIT_FAILED, r->what, "cannot read %s", r->from);
    }
    if (status != SP_EXIT_DONE) {
        return sp_tool_error(SP_EXIT_FAILED, r->what, "%s, line %lu: none of the list was added",
                             r->from, number);
    }
    return SP_EXIT_DONE;
}

static int add_list(const struct sp_request *r, struct sp_registry_tool *tool)
{
    bool from_stdin = strcmp(r->from, "-") == 0;
    FILE *list = from_stdin ? stdin : fopen(r->from, "re");
    if (list == NULL) {
        return sp_tool_error(SP_EXIT_FAILED, r->what, "cannot open %s: %s", r->from,
                             strerror(errno));
    }
    int status = SP_EXIT_FAILED;
    if (sp_registry_batch_begin(tool->registry) != SP_OK) {
        (void)sp_tool_registry_error(r->what, tool);
    } else {
        status = add_lines(r, tool, list);
        enum sp_err err = status == SP_EXIT_DONE ? SP_OK : SP_ERR_DENIED;
        if (sp_registry_batch_end(tool->registry, err) != SP_OK && status == SP_EXIT_DONE) {
            status = sp_tool_registry_error(r->what, tool);
        }
    }
    if (!from_stdin) {
        (void)fclose(list);
    }
    return status;
}

static int run_add(const struct sp_request *r, struct sp_registry_tool *tool)
{
    if (r->from != NULL) {
        if (r->id != NULL || r->role != NULL || r->bundle != NULL || r->psk_file != NULL ||
            r->iak_file != NULL) {
            return sp_tool_error(SP_EXIT_USAGE, r->what, "--from stands alone: the list says all");
        }
        return add_list(r, tool);
    }
    if (r->id == NULL) {
        return sp_options_wrong("device", "name one device");
    }
    struct sp_device device;
    struct sp_device_secrets secrets = {0};
    int status = device_of(r, tool, &device);
    if (status == SP_EXIT_DONE) {
        status = secrets_of(r, device.iak_algorithm, &secrets);
    }
    if (status == SP_EXIT_DONE) {
        status = store(r, tool, &device, &secrets, true);
    }
    sp_wipe(&secrets, sizeof(secrets));
    return status;
}

static int run_rotate(const struct sp_request *r, struct sp_registry_tool *tool)
{
    struct sp_device device;
    struct sp_device_secrets secrets = {0};
    if (sp_registry_device_find(tool->registry, r->id, &device, NULL) != SP_OK) {
        return sp_tool_registry_error(r->what, tool);
    }
    int status = secrets_of(r, device.iak_algorithm, &secrets);
    if (status == SP_EXIT_DONE) {
        status = store(r, tool, &device, &secrets, false);
    }
    sp_wipe(&secrets, sizeof(secrets));
    return status;
}

static int outcome(const struct sp_request *r, const struct sp_registry_tool *tool, enum sp_err err)
{
    return err == SP_OK ? SP_EXIT_DONE : sp_tool_registry_error(r->what, tool);
}

static int run_revoke(const struct sp_request *r, struct sp_registry_tool *tool)
{
    return outcome(r, tool, sp_registry_device_set_state(tool->registry, r->id, SP_DEVICE_REVOKED));
}

static int run_restore(const struct sp_request *r, struct sp_registry_tool *tool)
{
    return outcome(r, tool, sp_registry_device_set_state(tool->registry, r->id, SP_DEVICE_ACTIVE));
}

static int run_remove(const struct sp_request *r, struct sp_registry_tool *tool)
{
    return outcome(r, tool, sp_registry_device_remove(tool->registry, r->id));
}

static const char *state_name(const struct sp_device *d)
{
    return d->state == SP_DEVICE_ACTIVE ? "active" : "revoked";
}

static const char *last_check(const struct sp_device_history *h)
{
    if (h->last_time == 0 || h->last_check >= SP_ATTEST_CHECK_COUNT) {
        return NULL;
    }
    return sp_attest_check_name(h->last_check);
}

static void suites_text(uint32_t suites, char *out, size_t cap)
{
    struct sp_writer w;
    sp_writer_init(&w, out, cap - 1);
    for (uint32_t bit = 1; bit <= SP_SUITES_NULL_ENCRYPTION; bit <<= 1) {
        if ((suites & bit) != 0) {
            sp_write_str(&w, sp_writer_view(&w).len > 0 ? "," : "");
            sp_write_str(&w, sp_suites_name(bit));
        }
    }
    if (suites == 0) {
        sp_write_str(&w, "as the listener allows");
    }
    out[sp_writer_view(&w).len] = '\0';
}

static void json_suites(struct sp_writer *w, uint32_t suites)
{
    sp_json_key(w, "suites");
    sp_json_open(w, '[');
    for (uint32_t bit = 1; bit <= SP_SUITES_NULL_ENCRYPTION; bit <<= 1) {
        if ((suites & bit) != 0) {
            sp_json_text(w, sp_suites_name(bit));
        }
    }
    sp_json_close(w, ']');
}

static void json_text_or_null(struct sp_writer *w, const char *key, const char *text)
{
    sp_json_key(w, key);
    if (text == NULL || text[0] == '\0') {
        sp_json_null(w);
    } else {
        sp_json_text(w, text);
    }
}

static void json_device(struct sp_writer *w, const struct sp_device *d,
                        const struct sp_device_history *h)
{
    sp_json_open(w, '{');
    json_text_or_null(w, "id", d->id);
    json_text_or_null(w, "role", d->row.role);
    json_text_or_null(w, "state", state_name(d));
    json_text_or_null(w, "attestation", sp_attestation_mode_name(d->row.attestation));
    json_text_or_null(w, "binding", sp_binding_name(d->row.binding));
    json_text_or_null(w, "records", sp_records_name(d->row.records));
    json_suites(w, d->row.suites);
    json_text_or_null(w, "iak_algorithm", sp_algorithm_name(d->iak_algorithm));
    sp_json_key(w, "instance_id");
    sp_json_hex(w, SP_VIEW_ARRAY(d->instance_id));
    json_text_or_null(w, "group", d->group);
    sp_json_key(w, "answer_timeout_ms");
    sp_json_number(w, d->row.answer_timeout_ms);
    sp_json_key(w, "allow_no_software");
    sp_json_bool(w, d->allow_no_software);
    sp_json_key(w, "created");
    sp_json_time(w, d->created);
    sp_json_key(w, "rotated");
    sp_json_time(w, d->rotated);
    json_text_or_null(w, "last_verdict", last_check(h));
    sp_json_key(w, "last_verdict_time");
    sp_json_time(w, h->last_time);
    sp_json_key(w, "attestations_ok");
    sp_json_number(w, (int64_t)h->ok);
    sp_json_key(w, "attestations_refused");
    sp_json_number(w, (int64_t)h->refused);
    sp_json_close(w, '}');
}

#define ROW_TEXT_MAX 4096U

static void print_json(const struct sp_device *d, const struct sp_device_history *h,
                       const char *before, const char *after)
{
    char row[ROW_TEXT_MAX];
    struct sp_writer w;
    sp_writer_init(&w, row, sizeof(row));
    json_device(&w, d, h);
    struct sp_view text = sp_writer_view(&w);
    (void)printf("%s%.*s%s", before, (int)text.len, (const char *)text.ptr, after);
}

static void print_text(const struct sp_device *d, const struct sp_device_history *h)
{
    char instance_id[2 * SP_ATTEST_UEID_LEN + 1];
    char created[SP_TIME_TEXT_MAX];
    char rotated[SP_TIME_TEXT_MAX];
    char verdict_time[SP_TIME_TEXT_MAX];
    char suites[128];
    const char *check = last_check(h);
    sp_hex_format(SP_VIEW_ARRAY(d->instance_id), instance_id);
    sp_time_format(d->created, created);
    sp_time_format(d->rotated, rotated);
    sp_time_format(h->last_time, verdict_time);
    suites_text(d->row.suites, suites, sizeof(suites));
    (void)printf("device             %s\nrole               %s\nstate              %s\n", d->id,
                 d->row.role, state_name(d));
    (void)printf("attestation        %s\nbinding            %s\nrecords            %s\n",
                 sp_attestation_mode_name(d->row.attestation), sp_binding_name(d->row.binding),
                 sp_records_name(d->row.records));
    (void)printf("suites             %s\nattestation key    %s\ninstance id        %s\n", suites,
                 sp_algorithm_name(d->iak_algorithm), instance_id);
    (void)printf("without software   %s\n", d->allow_no_software ? "allowed" : "refused");
    if (d->row.answer_timeout_ms != 0) {
        (void)printf("answer timeout     %u ms\n", d->row.answer_timeout_ms);
    }
    (void)printf("created            %s\nkeys rotated       %s\n", created, rotated);
    (void)printf("last verdict       %s%s%s\n", check == NULL ? "none yet" : check,
                 check == NULL ? "" : " ", check == NULL ? "" : verdict_time);
    (void)printf("attestations       %llu ok, %llu refused\n", (unsigned long long)h->ok,
                 (unsigned long long)h->refused);
}

static int run_show(const struct sp_request *r, struct sp_registry_tool *tool)
{
    struct sp_device device;
    struct sp_device_history history;
    if (sp_registry_device_find(tool->registry, r->id, &device, &history) != SP_OK) {
        return sp_tool_registry_error(r->what, tool);
    }
    if (r->json) {
        print_json(&device, &history, "", "\n");
    } else {
        print_text(&device, &history);
    }
    return SP_EXIT_DONE;
}

struct listing {
    bool json;
    size_t count;
};

static enum sp_err list_one(void *arg, const struct sp_device *d, const struct sp_device_history *h)
{
    struct listing *listing = arg;
    if (listing->json) {
        print_json(d, h, listing->count == 0 ? "\n " : ",\n ", "");
    } else {
        const char *check = last_check(h);
        if (listing->count == 0) {
            (void)printf("%-24s %-10s %-8s %-11s %-7s %s\n", "DEVICE", "ROLE", "STATE",
                         "ATTESTATION", "BINDING", "LAST VERDICT");
        }
        (void)printf("%-24s %-10s %-8s %-11s %-7s %s\n", d->id, d->row.role, state_name(d),
                     sp_attestation_mode_name(d->row.attestation), sp_binding_name(d->row.binding),
                     check == NULL ? "-" : check);
    }
    listing->count++;
    return SP_OK;
}

static int run_list(const struct sp_request *r, struct sp_registry_tool *tool)
{
    struct listing listing = {.json = r->json};
    if (r->json) {
        (void)printf("[");
    }
    if (sp_registry_device_each(tool->registry, list_one, &listing) != SP_OK) {
        return sp_tool_registry_error(r->what, tool);
    }
    if (r->json) {
        (void)printf("%s]\n", listing.count == 0 ? "" : "\n");
    } else if (listing.count == 0) {
        (void)sp_tool_error(0, r->what, "no devices yet; `sallyport device add` makes one");
    }
    return SP_EXIT_DONE;
}

static const struct sp_verb verbs[] = {
    {"device add", "one device", true, run_add},
    {"device list", NULL, false, run_list},
    {"device show", "one device", false, run_show},
    {"device revoke", "one device", false, run_revoke},
    {"device restore", "one device", false, run_restore},
    {"device rotate", "one device", false, run_rotate},
    {"device remove", "one device", false, run_remove},
    {.what = NULL},
};

int sp_cmd_device(int argc, char **argv)
{
    struct sp_request r = {0};
    const struct sp_option options[] = {
        {.name = "--config", .letter = "-c", .value = &r.config},
        {.name = "--json", .on = &r.json, .verbs = " list show "},
        {.name = "--role", .value = &r.role, .verbs = " add "},
        {.name = "--group", .value = &r.group, .verbs = " add "},
        {.name = "--attestation", .value = &r.attestation, .verbs = " add "},
        {.name = "--binding", .value = &r.binding, .verbs = " add "},
        {.name = "--suites", .value = &r.suites, .verbs = " add "},
        {.name = "--psk-file", .value = &r.psk_file, .verbs = " add rotate "},
        {.name = "--iak-file", .value = &r.iak_file, .verbs = " add rotate "},
        {.name = "--iak-algorithm", .value = &r.iak_algorithm, .verbs = " add "},
        {.name = "--answer-timeout", .value = &r.answer_timeout, .verbs = " add "},
        {.name = "--allow-no-software", .on = &r.allow_no_software, .verbs = " add "},
        {.name = "--bundle", .value = &r.bundle, .verbs = " add rotate "},
        {.name = "--from", .value = &r.from, .verbs = " add "},
        {.name = "--records", .value = &r.records, .verbs = " add "},
        {.name = NULL},
    };
    const struct sp_verbs command = {.help = help,
                                     .verbs = verbs,
                                     .options = options,
                                     .config = &r.config,
                                     .what = &r.what,
                                     .word = &r.id};
    return sp_verbs_run(argc, argv, &command, &r);
}
