/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/cmd_registry.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tools/json_write.h"
#include "tools/options.h"

static const char help[] =
    "sallyport reference: which software the gateway trusts\n"
    "\n"
    "  sallyport reference add --implementation-id HEX --component "
    "TYPE=HEX[,signer=HEX][,version=V]\n"
    "                          [--component …] -c FILE     one accepted set of software\n"
    "  sallyport reference add --from-token FILE -c FILE   the set that a token shows\n"
    "  sallyport reference list [--json] -c FILE\n"
    "  sallyport reference remove N -c FILE\n"
    "\n"
    "A token is accepted when its components are exactly those of one reference for its "
    "implementation\n"
    "id: same types, same measurements, and the same signer and version where the reference names "
    "them.\n"
    "A running gateway sees a change within a second and has every device attest again.\n"
    "\n"
    "  -c, --config FILE         the gateway's configuration\n"
    "  --implementation-id HEX   32 bytes that name the kind of hardware and its immutable "
    "software\n"
    "  --component …             TYPE as in the token (for instance NSPE); the measurement in hex\n"
    "  --from-token FILE         take both from a token of a device that you know to be good; its "
    "MAC\n"
    "                            is not checked here (`sallyport token verify` does). - = standard "
    "input\n"
    "\n"
    "For example:  sallyport reference add --from-token hall-1.token -c gw.yaml\n";

struct sp_request {
    const char *what;
    const char *config;
    const char *implementation_id;
    const char *from_token;
    const char *word;
    const char *components[SP_ATTEST_COMPONENTS_MAX];
    size_t component_count;
    bool json;
};

static int usage(const char *what, const char *why)
{
    return sp_tool_error(SP_EXIT_USAGE, what, "%s; see sallyport reference --help", why);
}

/* Copy text with a NUL behind it; false when it does not fit. */
static bool take_text(struct sp_view text, char *out, size_t cap)
{
    if (text.len >= cap) {
        return false;
    }
    sp_copy(out, text.ptr, text.len);
    out[text.len] = '\0';
    return true;
}

static bool take_bytes(struct sp_view bytes, uint8_t *out, size_t cap, size_t *out_len)
{
    if (bytes.len > cap) {
        return false;
    }
    sp_copy(out, bytes.ptr, bytes.len);
    *out_len = bytes.len;
    return true;
}

/* Up to the next ",signer=" or ",version=", or the end. */
static size_t part_length(const char *text)
{
    const char *signer = strstr(text, ",signer=");
    const char *version = strstr(text, ",version=");
    size_t len = strlen(text);
    if (signer != NULL && (size_t)(signer - text) < len) {
        len = (size_t)(signer - text);
    }
    if (version != NULL && (size_t)(version - text) < len) {
        len = (size_t)(version - text);
    }
    return len;
}

static bool parse_part(const char *text, size_t len, struct sp_reference_component *out)
{
    static const char signer[] = ",signer=";
    static const char version[] = ",version=";
    struct sp_view part = sp_view(text, len);
    if (sp_view_starts(part, sp_view_str(signer)) && out->signer_id_len == 0) {
        return sp_hex_parse(sp_view_from(part, sizeof(signer) - 1), out->signer_id,
                            sizeof(out->signer_id), &out->signer_id_len) == SP_OK &&
               out->signer_id_len > 0;
    }
    if (sp_view_starts(part, sp_view_str(version)) && out->version[0] == '\0') {
        struct sp_view value = sp_view_from(part, sizeof(version) - 1);
        return value.len > 0 && take_text(value, out->version, sizeof(out->version));
    }
    return false;
}

/* TYPE=HEX[,signer=HEX][,version=V] */
static bool parse_component(const char *text, struct sp_reference_component *out)
{
    size_t type_len = strcspn(text, "=");
    if (type_len == 0 || text[type_len] == '\0' ||
        !take_text(sp_view(text, type_len), out->type, sizeof(out->type))) {
        return false;
    }
    text += type_len + 1;
    size_t len = part_length(text);
    if (sp_hex_parse(sp_view(text, len), out->value, sizeof(out->value), &out->value_len) !=
        SP_OK) {
        return false;
    }
    for (text += len; *text != '\0'; text += len) {
        len = 1 + part_length(text + 1);
        if (!parse_part(text, len, out)) {
            return false;
        }
    }
    return true;
}

static int from_options(const struct sp_request *r, struct sp_reference *ref)
{
    if (r->implementation_id == NULL || r->component_count == 0) {
        return usage(r->what, "give --implementation-id and --component, or --from-token");
    }
    if (sp_hex_parse(sp_view_str(r->implementation_id), ref->implementation_id,
                     sizeof(ref->implementation_id), &ref->implementation_id_len) != SP_OK) {
        return usage(r->what, "--implementation-id wants 32 bytes in hex");
    }
    for (size_t i = 0; i < r->component_count; i++) {
        if (!parse_component(r->components[i], &ref->components[i])) {
            return usage(r->what, "--component wants TYPE=HEX[,signer=HEX][,version=V]");
        }
    }
    ref->component_count = r->component_count;
    return SP_EXIT_DONE;
}

static bool component_of(const struct sp_attest_component *from, struct sp_reference_component *to)
{
    return take_text(from->type, to->type, sizeof(to->type)) &&
           take_text(from->version, to->version, sizeof(to->version)) &&
           take_bytes(from->value, to->value, sizeof(to->value), &to->value_len) &&
           take_bytes(from->signer_id, to->signer_id, sizeof(to->signer_id), &to->signer_id_len);
}

static int from_claims(const struct sp_request *r, const struct sp_attest_claims *claims,
                       struct sp_reference *ref)
{
    if (claims->component_count == 0) {
        return sp_tool_error(SP_EXIT_FAILED, r->what,
                             "the token shows no software; `sallyport device add "
                             "--allow-no-software` is for devices that have no measurements");
    }
    bool ok = take_bytes(claims->implementation_id, ref->implementation_id,
                         sizeof(ref->implementation_id), &ref->implementation_id_len);
    for (size_t i = 0; i < claims->component_count && ok; i++) {
        ok = component_of(&claims->components[i], &ref->components[i]);
    }
    if (!ok) {
        return sp_tool_error(
            SP_EXIT_FAILED, r->what,
            "the token's component types and versions are too long for a reference");
    }
    ref->component_count = claims->component_count;
    return SP_EXIT_DONE;
}

static int from_token(const struct sp_request *r, struct sp_reference *ref)
{
    uint8_t token[SP_LINK_TOKEN_MAX];
    size_t len = 0;
    struct sp_attest_claims claims = {0};
    struct sp_attest_verdict verdict;
    if (r->implementation_id != NULL || r->component_count != 0) {
        return usage(r->what, "--from-token stands alone");
    }
    if (sp_bytes_read(r->what, r->from_token, token, sizeof(token), &len) != SP_OK) {
        return SP_EXIT_FAILED;
    }
    sp_attest_decode(sp_view(token, len), &claims, &verdict);
    if (verdict.check != SP_ATTEST_OK) {
        return sp_tool_error(SP_EXIT_FAILED, r->what, "not a token: %s: %s",
                             sp_attest_check_name(verdict.check), verdict.detail);
    }
    return from_claims(r, &claims, ref);
}

static int run_add(const struct sp_request *r, struct sp_registry_tool *tool)
{
    struct sp_reference ref = {0};
    int64_t number = 0;
    int status = r->from_token != NULL ? from_token(r, &ref) : from_options(r, &ref);
    if (status != SP_EXIT_DONE) {
        return status;
    }
    if (sp_registry_reference_add(tool->registry, &ref, &number) != SP_OK) {
        return sp_tool_registry_error(r->what, tool);
    }
    if (r->json) {
        (void)printf("{\"id\":%lld}\n", (long long)number);
    } else {
        (void)printf("reference %lld\n", (long long)number);
    }
    return SP_EXIT_DONE;
}

static void json_component(struct sp_writer *w, const struct sp_reference_component *c)
{
    sp_json_open(w, '{');
    sp_json_key(w, "type");
    sp_json_text(w, c->type);
    sp_json_key(w, "value");
    sp_json_hex(w, sp_view(c->value, c->value_len));
    sp_json_key(w, "signer_id");
    if (c->signer_id_len == 0) {
        sp_json_null(w);
    } else {
        sp_json_hex(w, sp_view(c->signer_id, c->signer_id_len));
    }
    sp_json_key(w, "version");
    if (c->version[0] == '\0') {
        sp_json_null(w);
    } else {
        sp_json_text(w, c->version);
    }
    sp_json_close(w, '}');
}

/* Every byte of a component's texts escaped, and the rest: the largest reference fits. */
#define ROW_TEXT_MAX 24576U

static void print_json(const struct sp_reference *ref, const char *before)
{
    char row[ROW_TEXT_MAX];
    struct sp_writer w;
    sp_writer_init(&w, row, sizeof(row));
    sp_json_open(&w, '{');
    sp_json_key(&w, "id");
    sp_json_number(&w, ref->number);
    sp_json_key(&w, "added");
    sp_json_time(&w, ref->added);
    sp_json_key(&w, "implementation_id");
    sp_json_hex(&w, sp_view(ref->implementation_id, ref->implementation_id_len));
    sp_json_key(&w, "components");
    sp_json_open(&w, '[');
    for (size_t i = 0; i < ref->component_count; i++) {
        json_component(&w, &ref->components[i]);
    }
    sp_json_close(&w, ']');
    sp_json_close(&w, '}');
    struct sp_view text = sp_writer_view(&w);
    (void)printf("%s%.*s", before, (int)text.len, (const char *)text.ptr);
}

static void print_hex(const char *label, const uint8_t *bytes, size_t len)
{
    char hex[2 * SP_REFERENCE_BYTES_MAX + 1];
    sp_hex_format(sp_view(bytes, len), hex);
    (void)printf("%s%s", label, hex);
}

/* Types and versions came from tokens: as JSON text nothing in them reaches the terminal raw. */
static void print_quoted(const char *label, const char *text)
{
    char quoted[6 * SP_REFERENCE_TEXT_MAX + 3];
    struct sp_writer w;
    sp_writer_init(&w, quoted, sizeof(quoted));
    sp_json_text(&w, text);
    (void)printf("%s%.*s", label, (int)sp_writer_view(&w).len, quoted);
}

static void print_text(const struct sp_reference *ref)
{
    char added[SP_TIME_TEXT_MAX];
    sp_time_format(ref->added, added);
    (void)printf("reference %lld, added %s\n", (long long)ref->number, added);
    print_hex("  implementation id ", ref->implementation_id, ref->implementation_id_len);
    (void)printf("\n");
    for (size_t i = 0; i < ref->component_count; i++) {
        const struct sp_reference_component *c = &ref->components[i];
        print_quoted("  component ", c->type);
        print_hex(" = ", c->value, c->value_len);
        if (c->signer_id_len > 0) {
            print_hex("\n    signed by ", c->signer_id, c->signer_id_len);
        }
        if (c->version[0] != '\0') {
            print_quoted("\n    version ", c->version);
        }
        (void)printf("\n");
    }
}

struct listing {
    bool json;
    size_t count;
};

static enum sp_err list_one(void *arg, const struct sp_reference *ref)
{
    struct listing *listing = arg;
    if (listing->json) {
        print_json(ref, listing->count == 0 ? "\n " : ",\n ");
    } else {
        print_text(ref);
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
    if (sp_registry_reference_each(tool->registry, list_one, &listing) != SP_OK) {
        return sp_tool_registry_error(r->what, tool);
    }
    if (r->json) {
        (void)printf("%s]\n", listing.count == 0 ? "" : "\n");
    } else if (listing.count == 0) {
        (void)sp_tool_error(0, r->what,
                            "no references yet: no token is accepted; "
                            "`sallyport reference add` makes one");
    }
    return SP_EXIT_DONE;
}

static int run_remove(const struct sp_request *r, struct sp_registry_tool *tool)
{
    char *end = NULL;
    errno = 0;
    long long number = strtoll(r->word, &end, 10);
    if (errno != 0 || *end != '\0' || end == r->word || number < 1) {
        return usage(r->what, "name one reference by its number");
    }
    if (sp_registry_reference_remove(tool->registry, number) != SP_OK) {
        return sp_tool_registry_error(r->what, tool);
    }
    return SP_EXIT_DONE;
}

static const struct sp_verb verbs[] = {
    {"reference add", NULL, false, run_add},
    {"reference list", NULL, false, run_list},
    {"reference remove", "one reference by its number", false, run_remove},
    {.what = NULL},
};

int sp_cmd_reference(int argc, char **argv)
{
    struct sp_request r = {0};
    const struct sp_option options[] = {
        {.name = "--config", .letter = "-c", .value = &r.config},
        {.name = "--json", .on = &r.json, .verbs = " add list "},
        {.name = "--implementation-id", .value = &r.implementation_id, .verbs = " add "},
        {.name = "--from-token", .value = &r.from_token, .verbs = " add "},
        {.name = "--component",
         .value = r.components,
         .verbs = " add ",
         .count = &r.component_count,
         .max = SP_ATTEST_COMPONENTS_MAX},
        {.name = NULL},
    };
    const struct sp_verbs command = {.help = help,
                                     .verbs = verbs,
                                     .options = options,
                                     .config = &r.config,
                                     .what = &r.what,
                                     .word = &r.word};
    return sp_verbs_run(argc, argv, &command, &r);
}
