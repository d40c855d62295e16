/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/cmd_token.h"

#include <errno.h>
#include <getopt.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "libs/attest/attest.h"
#include "libs/link/link.h"
#include "libs/senml/senml.h"
#include "tools/json_write.h"

enum { EXIT_DONE = 0, EXIT_REFUSED = 1, EXIT_USAGE = 2 };

#define KEY_MIN    16U
#define KEY_MAX    64U
#define DIGEST_MAX 64U
#define INPUT_MAX \
    (4U * SP_LINK_TOKEN_MAX) /* a token in hex with line breaks, and more than one may be */
#define JSON_MAX      (8U * SP_LINK_TOKEN_MAX)
#define TFM_CLIENT_ID (-1006632960) /* what TF-M 2.1 and later gives a lone non-secure world */
#define SECURED       0x3000
#define NON_ROT_DEBUG 0x4000

/* A byte string from the command line. */
struct bytes {
    uint8_t data[DIGEST_MAX];
    size_t len;
};

/* What a --component says; texts are borrowed from the command line. */
struct component {
    struct sp_view type;
    struct sp_view version;
    struct bytes value;
    struct bytes signer;
};

struct options {
    struct bytes key;
    struct bytes nonce;
    struct bytes ueid;
    struct bytes implementation_id;
    struct bytes boot_seed;
    enum sp_attest_algorithm algorithm;
    enum sp_attest_profile profile;
    unsigned lifecycles; /* verify: SP_ATTEST_LIFECYCLE_* */
    uint16_t lifecycle;  /* make */
    int32_t client_id;
    struct component components[SP_ATTEST_COMPONENTS_MAX];
    size_t component_count;
    const char *certification_reference;
    const char *verification_service;
    const char *key_file;
    const char *out;
    const char *token;
    bool allow_development_key;
    bool allow_no_software;
    bool any_ueid;
    bool no_software;
    bool json;
    bool hex;
    bool help;
};

static const char help_text[] =
    "Look at PSA attestation tokens (COSE_Mac0), hold them against a key, make them.\n"
    "\n"
    "  sallyport token verify --key-file F | --key-hex H  --nonce-hex N  [options]  TOKEN|-\n"
    "  sallyport token show [--json] [--hex]  TOKEN|-\n"
    "  sallyport token make --key-file F | --key-hex H  --nonce-hex N  --component TYPE=HEX  "
    "[options]\n"
    "\n"
    "verify makes the checks of the protocol in their order and stops at the first that fails: "
    "size form algorithm\n"
    "key mac claims profile nonce instance-id client-id lifecycle software. Reference values are "
    "the business of\n"
    "`sallyport reference` and of the running gateway.\n"
    "  --key-file F             the attestation key: 32, 48 or 64 raw bytes, or hex digits; - = "
    "standard input\n"
    "  --key-hex H              the same on the command line, where others can see it: for tests\n"
    "  --nonce-hex N            the challenge that the token must carry\n"
    "  --algorithm A            hmac256 (default), hmac384, hmac512\n"
    "  --lifecycle L            what is acceptable: secured (default), or secured,debug\n"
    "  --ueid-hex U             the enrolled instance id; without it, the one derived from the key "
    "(RFC 9783)\n"
    "  --any-ueid               any instance id\n"
    "  --allow-development-key  also keys that are published, such as TF-M's dummy\n"
    "  --allow-no-software      also a token that says it has no measurements\n"
    "  --hex                    TOKEN is hex text\n"
    "  --json                   print the claims as JSON\n"
    "Exit status: 0 accepted, 1 refused (`refused: CHECK: detail` on standard error), 2 wrong "
    "usage.\n"
    "\n"
    "show prints the claims; nothing is checked but the form.\n"
    "\n"
    "make is a device in software. Beside --key-file, --key-hex, --nonce-hex, --algorithm, "
    "--ueid-hex as above:\n"
    "  --profile P              rfc9783 (default), psa-2.0.0, iot-1\n"
    "  --component C            TYPE=HEX[,signer=HEX][,version=TEXT]; again for more\n"
    "  --no-software            say that there are no measurements (iot-1 only)\n"
    "  --implementation-id HEX  32 bytes (default: zeros)\n"
    "  --boot-seed HEX          8 to 32 bytes (default: 32 zeros)\n"
    "  --client-id NUMBER       default -1006632960, TF-M's\n"
    "  --lifecycle L            secured (default), debug, or a number such as 0x2000\n"
    "  --certification-reference TEXT, --verification-service TEXT\n"
    "  --out FILE               default: standard output\n"
    "\n"
    "Examples:\n"
    "  head -c 32 /dev/urandom > iak.bin; nonce=$(head -c 32 /dev/urandom | od -An -tx1 | tr -d ' "
    "\\n')\n"
    "  sallyport token make --key-file iak.bin --nonce-hex $nonce --out token.cbor \\\n"
    "      --component NSPE=$(sha256sum < firmware.bin | cut -c1-64),signer=$(sha256sum < key.pem "
    "| cut -c1-64)\n"
    "  sallyport token verify --key-file iak.bin --nonce-hex $nonce token.cbor && echo trusted\n"
    "  sallyport token show --json token.cbor\n";

__attribute__((format(printf, 1, 2))) static bool complain(const char *format, ...)
{
    va_list args;
    va_start(args, format);
    (void)fputs("sallyport token: ", stderr);
    (void)vfprintf(stderr, format, args);
    (void)fputc('\n', stderr);
    va_end(args);
    return false;
}

/* ---- values of options ---- */

static bool parse_hex(const char *name, struct sp_view text, struct bytes *out)
{
    enum sp_err err = sp_hex_parse(text, out->data, sizeof(out->data), &out->len);
    if (err == SP_OK && out->len != 0) {
        return true;
    }
    return complain("%s: %s", name,
                    err == SP_ERR_SPACE ? "more than 64 bytes"
                                        : "not an even number of hex digits");
}

struct word {
    const char *word;
    int value;
};

static bool parse_word(const char *name, const char *text, const struct word *words, int *out)
{
    for (const struct word *w = words; w->word != NULL; w++) {
        if (strcmp(text, w->word) == 0) {
            *out = w->value;
            return true;
        }
    }
    (void)complain("%s: %s is none of", name, text);
    for (const struct word *w = words; w->word != NULL; w++) {
        (void)fprintf(stderr, "  %s\n", w->word);
    }
    return false;
}

static bool parse_number(const char *name, const char *text, long long min, long long max,
                         long long *out)
{
    char *end = NULL;
    errno = 0;
    long long value = strtoll(text, &end, 0);
    if (errno != 0 || end == text || *end != '\0' || value < min || value > max) {
        return complain("%s: not a number from %lld to %lld", name, min, max);
    }
    *out = value;
    return true;
}

static bool set_algorithm(struct options *o, const char *name, const char *text)
{
    static const struct word words[] = {{"hmac256", SP_ATTEST_HMAC256},
                                        {"hmac384", SP_ATTEST_HMAC384},
                                        {"hmac512", SP_ATTEST_HMAC512},
                                        {NULL, 0}};
    int value = 0;
    bool ok = parse_word(name, text, words, &value);
    o->algorithm = (enum sp_attest_algorithm)value;
    return ok;
}

static bool set_profile(struct options *o, const char *name, const char *text)
{
    static const struct word words[] = {
        {"rfc9783", SP_ATTEST_PROFILE_RFC9783},
        {"psa-2.0.0", SP_ATTEST_PROFILE_PSA_2_0_0},
        {"iot-1", SP_ATTEST_PROFILE_IOT_1},
        {"tag:psacertified.org,2023:psa#tfm", SP_ATTEST_PROFILE_RFC9783},
        {"http://arm.com/psa/2.0.0", SP_ATTEST_PROFILE_PSA_2_0_0},
        {"PSA_IOT_PROFILE_1", SP_ATTEST_PROFILE_IOT_1},
        {NULL, 0}};
    int value = 0;
    bool ok = parse_word(name, text, words, &value);
    o->profile = (enum sp_attest_profile)value;
    return ok;
}

/* verify: a list of acceptable states. */
static bool set_lifecycles(struct options *o, const char *name, const char *text)
{
    static const struct {
        const char *list;
        unsigned bits;
    } lists[] = {{"secured", SP_ATTEST_LIFECYCLE_SECURED},
                 {"debug", SP_ATTEST_LIFECYCLE_DEBUG},
                 {"secured,debug", SP_ATTEST_LIFECYCLE_SECURED | SP_ATTEST_LIFECYCLE_DEBUG},
                 {"debug,secured", SP_ATTEST_LIFECYCLE_SECURED | SP_ATTEST_LIFECYCLE_DEBUG}};
    for (size_t i = 0; i < sizeof(lists) / sizeof(lists[0]); i++) {
        if (strcmp(text, lists[i].list) == 0) {
            o->lifecycles = lists[i].bits;
            return true;
        }
    }
    return complain("%s: secured, debug or secured,debug", name);
}

/* make: one state. */
static bool set_lifecycle(struct options *o, const char *name, const char *text)
{
    static const int high_bytes[] = {0x00, 0x10, 0x20, 0x30, 0x40, 0x50, 0x60};
    for (size_t i = 0; i < sizeof(high_bytes) / sizeof(high_bytes[0]); i++) {
        uint16_t state = (uint16_t)(high_bytes[i] << 8);
        if (strcmp(text, sp_attest_lifecycle_name(state)) == 0) {
            o->lifecycle = state;
            return true;
        }
    }
    if (strcmp(text, "debug") == 0) {
        o->lifecycle = NON_ROT_DEBUG;
        return true;
    }
    long long value = 0;
    bool ok = parse_number(name, text, 0, UINT16_MAX, &value);
    o->lifecycle = (uint16_t)value;
    return ok;
}

static bool set_client_id(struct options *o, const char *name, const char *text)
{
    long long value = 0;
    bool ok = parse_number(name, text, INT32_MIN, INT32_MAX, &value);
    o->client_id = (int32_t)value;
    return ok;
}

/* The text up to `separator`, which is consumed. */
static struct sp_view cut(struct sp_view *text, uint8_t separator)
{
    size_t at = 0;
    while (at < text->len && text->ptr[at] != separator) {
        at++;
    }
    struct sp_view head = sp_view_first(*text, at);
    *text = sp_view_from(*text, at + 1);
    return head;
}

/* TYPE=HEX[,signer=HEX][,version=TEXT] */
static bool add_component(struct options *o, const char *name, const char *text)
{
    if (o->component_count == SP_ATTEST_COMPONENTS_MAX) {
        return complain("%s: at most %u of them", name, SP_ATTEST_COMPONENTS_MAX);
    }
    struct component *component = &o->components[o->component_count++];
    struct sp_view rest = sp_view_str(text);
    component->type = cut(&rest, '=');
    if (!parse_hex(name, cut(&rest, ','), &component->value)) {
        return false;
    }
    while (rest.len != 0) {
        struct sp_view value = cut(&rest, ',');
        struct sp_view key = cut(&value, '=');
        if (sp_view_equal(key, SP_VIEW_LIT("version"))) {
            component->version = value;
        } else if (!sp_view_equal(key, SP_VIEW_LIT("signer"))) {
            return complain("%s: TYPE=HEX[,signer=HEX][,version=TEXT]", name);
        } else if (!parse_hex(name, value, &component->signer)) {
            return false;
        }
    }
    return true;
}

/* ---- the command line ---- */

enum option_id {
    OPTION_KEY_FILE = 1,
    OPTION_KEY_HEX,
    OPTION_NONCE,
    OPTION_ALGORITHM,
    OPTION_LIFECYCLE,
    OPTION_UEID,
    OPTION_ANY_UEID,
    OPTION_DEVELOPMENT_KEY,
    OPTION_ALLOW_NO_SOFTWARE,
    OPTION_HEX,
    OPTION_JSON,
    OPTION_PROFILE,
    OPTION_COMPONENT,
    OPTION_NO_SOFTWARE,
    OPTION_IMPLEMENTATION_ID,
    OPTION_BOOT_SEED,
    OPTION_CLIENT_ID,
    OPTION_CERTIFICATION,
    OPTION_VERIFICATION,
    OPTION_OUT,
    OPTION_HELP,
};

#define WITH_KEY                                                  \
    {"key-file", required_argument, NULL, OPTION_KEY_FILE},       \
        {"key-hex", required_argument, NULL, OPTION_KEY_HEX},     \
        {"nonce-hex", required_argument, NULL, OPTION_NONCE},     \
        {"algorithm", required_argument, NULL, OPTION_ALGORITHM}, \
        {"lifecycle", required_argument, NULL, OPTION_LIFECYCLE}, \
    {                                                             \
        "ueid-hex", required_argument, NULL, OPTION_UEID          \
    }
#define LAST_OPTIONS                          \
    {"help", no_argument, NULL, OPTION_HELP}, \
    {                                         \
        NULL, 0, NULL, 0                      \
    }

static const struct option verify_options[] = {
    WITH_KEY,
    {"any-ueid", no_argument, NULL, OPTION_ANY_UEID},
    {"allow-development-key", no_argument, NULL, OPTION_DEVELOPMENT_KEY},
    {"allow-no-software", no_argument, NULL, OPTION_ALLOW_NO_SOFTWARE},
    {"hex", no_argument, NULL, OPTION_HEX},
    {"json", no_argument, NULL, OPTION_JSON},
    LAST_OPTIONS};

static const struct option show_options[] = {
    {"hex", no_argument, NULL, OPTION_HEX}, {"json", no_argument, NULL, OPTION_JSON}, LAST_OPTIONS};

static const struct option make_options[] = {
    WITH_KEY,
    {"profile", required_argument, NULL, OPTION_PROFILE},
    {"component", required_argument, NULL, OPTION_COMPONENT},
    {"no-software", no_argument, NULL, OPTION_NO_SOFTWARE},
    {"implementation-id", required_argument, NULL, OPTION_IMPLEMENTATION_ID},
    {"boot-seed", required_argument, NULL, OPTION_BOOT_SEED},
    {"client-id", required_argument, NULL, OPTION_CLIENT_ID},
    {"certification-reference", required_argument, NULL, OPTION_CERTIFICATION},
    {"verification-service", required_argument, NULL, OPTION_VERIFICATION},
    {"out", required_argument, NULL, OPTION_OUT},
    LAST_OPTIONS};

struct subcommand {
    const char *name;
    const struct option *options;
    int (*run)(struct options *o);
    bool takes_token;
    bool makes;
};

static bool set_bytes(struct options *o, int id, const char *text)
{
    struct sp_view hex = sp_view_str(text);
    switch (id) {
    case OPTION_KEY_HEX:
        return parse_hex("--key-hex", hex, &o->key);
    case OPTION_NONCE:
        return parse_hex("--nonce-hex", hex, &o->nonce);
    case OPTION_UEID:
        return parse_hex("--ueid-hex", hex, &o->ueid);
    case OPTION_IMPLEMENTATION_ID:
        return parse_hex("--implementation-id", hex, &o->implementation_id);
    default:
        return parse_hex("--boot-seed", hex, &o->boot_seed);
    }
}

static bool set_flag(struct options *o, int id)
{
    bool *flags[] = {[OPTION_ANY_UEID] = &o->any_ueid,
                     [OPTION_DEVELOPMENT_KEY] = &o->allow_development_key,
                     [OPTION_ALLOW_NO_SOFTWARE] = &o->allow_no_software,
                     [OPTION_HEX] = &o->hex,
                     [OPTION_JSON] = &o->json,
                     [OPTION_NO_SOFTWARE] = &o->no_software,
                     [OPTION_HELP] = &o->help};
    *flags[id] = true;
    return true;
}

static bool set_option(struct options *o, const struct subcommand *command, int id, char *text)
{
    switch (id) {
    case OPTION_KEY_FILE:
        o->key_file = text;
        return true;
    case OPTION_ALGORITHM:
        return set_algorithm(o, "--algorithm", text);
    case OPTION_LIFECYCLE:
        return command->makes ? set_lifecycle(o, "--lifecycle", text)
                              : set_lifecycles(o, "--lifecycle", text);
    case OPTION_PROFILE:
        return set_profile(o, "--profile", text);
    case OPTION_COMPONENT:
        return add_component(o, "--component", text);
    case OPTION_CLIENT_ID:
        return set_client_id(o, "--client-id", text);
    case OPTION_CERTIFICATION:
        o->certification_reference = text;
        return true;
    case OPTION_VERIFICATION:
        o->verification_service = text;
        return true;
    case OPTION_OUT:
        o->out = text;
        return true;
    case OPTION_KEY_HEX:
    case OPTION_NONCE:
    case OPTION_UEID:
    case OPTION_IMPLEMENTATION_ID:
    case OPTION_BOOT_SEED:
        return set_bytes(o, id, text);
    case '?':
        return complain("see `sallyport token --help`");
    default:
        return set_flag(o, id);
    }
}

/* ---- input ---- */

static bool read_file(const char *name, uint8_t *out, size_t cap, size_t *out_len)
{
    FILE *file = strcmp(name, "-") == 0 ? stdin : fopen(name, "rb");
    if (file == NULL) {
        return complain("%s: %s", name, strerror(errno));
    }
    size_t len = fread(out, 1, cap, file);
    bool failed = ferror(file) != 0;
    if (file != stdin) {
        (void)fclose(file);
    }
    *out_len = len;
    return !failed || complain("%s: can't be read", name);
}

/* Hex digits with white space between them; `out` has as many bytes as `text`. */
static bool unhex(struct sp_view text, uint8_t *out, size_t *out_len)
{
    struct sp_view blanks = SP_VIEW_LIT(" \t\r\n");
    size_t kept = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (memchr(blanks.ptr, text.ptr[i], blanks.len) == NULL) {
            out[kept++] = text.ptr[i];
        }
    }
    return kept != 0 && sp_hex_parse(sp_view(out, kept), out, kept, out_len) == SP_OK;
}

static bool read_key(struct options *o)
{
    uint8_t text[4 * KEY_MAX];
    uint8_t binary[4 * KEY_MAX];
    size_t len = 0;
    size_t binary_len = 0;
    bool ok = read_file(o->key_file, text, sizeof(text), &len);
    if (ok && unhex(sp_view(text, len), binary, &binary_len) && binary_len <= KEY_MAX) {
        sp_copy(o->key.data, binary, binary_len);
        o->key.len = binary_len;
    } else if (ok && (len == 32 || len == 48 || len == 64)) {
        sp_copy(o->key.data, text, len);
        o->key.len = len;
    } else if (ok) {
        ok = complain("%s: neither 32, 48 or 64 bytes nor hex digits", o->key_file);
    }
    sp_wipe(text, sizeof(text));
    sp_wipe(binary, sizeof(binary));
    return ok;
}

/* The token lies in a buffer of this function's until the next call. */
static bool read_token(const struct options *o, struct sp_view *out)
{
    static uint8_t input[INPUT_MAX];
    static uint8_t binary[INPUT_MAX];
    size_t len = 0;
    if (!read_file(o->token, input, sizeof(input), &len)) {
        return false;
    }
    *out = sp_view(input, len);
    if (!o->hex) {
        return true;
    }
    bool ok = unhex(*out, binary, &len);
    *out = sp_view(binary, len);
    return ok || complain("%s: not hex text", o->token);
}

/* ---- output ---- */

static struct sp_view profile_of(const struct sp_attest_claims *claims)
{
    return claims->profile_text.len != 0 ? claims->profile_text
                                         : sp_view_str(sp_attest_profile_name(claims->profile));
}

static const char *profile_version(enum sp_attest_profile profile)
{
    switch (profile) {
    case SP_ATTEST_PROFILE_IOT_1:
        return "1";
    case SP_ATTEST_PROFILE_PSA_2_0_0:
        return "2.0.0";
    case SP_ATTEST_PROFILE_RFC9783:
        return "2023";
    case SP_ATTEST_PROFILE_UNKNOWN:
    default:
        return NULL;
    }
}

static void json_text(struct sp_writer *w, const char *name, struct sp_view text)
{
    sp_json_key(w, name);
    if (text.len != 0) {
        sp_json_write_string(w, text);
    } else {
        sp_json_null(w);
    }
}

static void json_bytes(struct sp_writer *w, const char *name, struct sp_view bytes)
{
    sp_json_key(w, name);
    if (bytes.len != 0) {
        sp_json_hex(w, bytes);
    } else {
        sp_json_null(w);
    }
}

static void json_components(struct sp_writer *w, const struct sp_attest_claims *claims)
{
    sp_json_key(w, "software_components");
    sp_json_open(w, '[');
    for (size_t i = 0; i < claims->component_count; i++) {
        const struct sp_attest_component *component = &claims->components[i];
        sp_json_open(w, '{');
        json_text(w, "type", component->type);
        json_bytes(w, "value", component->value);
        json_bytes(w, "signer_id", component->signer_id);
        json_text(w, "version", component->version);
        json_text(w, "description", component->description);
        sp_json_close(w, '}');
    }
    sp_json_close(w, ']');
}

static void print_json(const struct sp_attest_claims *claims)
{
    static char text[JSON_MAX];
    struct sp_writer w;
    sp_writer_init(&w, text, sizeof(text));
    sp_json_open(&w, '{');
    json_text(&w, "profile", profile_of(claims));
    json_bytes(&w, "nonce", claims->nonce);
    json_bytes(&w, "instance_id", claims->instance_id);
    json_bytes(&w, "implementation_id", claims->implementation_id);
    sp_json_key(&w, "client_id");
    sp_json_number(&w, claims->client_id);
    sp_json_key(&w, "lifecycle");
    sp_json_number(&w, claims->lifecycle);
    json_text(&w, "lifecycle_name", sp_view_str(sp_attest_lifecycle_name(claims->lifecycle)));
    json_bytes(&w, "boot_seed", claims->boot_seed);
    json_text(&w, "certification_reference", claims->certification_reference);
    json_text(&w, "verification_service", claims->verification_service);
    json_components(&w, claims);
    json_text(&w, "profile_version", sp_view_str(profile_version(claims->profile)));
    sp_json_close(&w, '}');
    struct sp_view out = sp_writer_view(&w);
    (void)fwrite(out.ptr, 1, out.len, stdout);
    (void)fputc('\n', stdout);
}

/* Text of a stranger, for a terminal. */
static void print_text(const char *name, struct sp_view text)
{
    if (text.len == 0) {
        return;
    }
    (void)printf("%-24s ", name);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.ptr[i];
        if (c >= 0x20 && c < 0x7F && c != '\\') {
            (void)putchar(c);
        } else {
            (void)printf("\\x%02x", c);
        }
    }
    (void)putchar('\n');
}

static void print_bytes(const char *name, struct sp_view bytes)
{
    if (bytes.len == 0) {
        return;
    }
    char hex[2 * DIGEST_MAX + 1];
    sp_hex_format(sp_view_first(bytes, DIGEST_MAX), hex);
    (void)printf("%-24s %s\n", name, hex);
}

static void print_claims(const struct sp_attest_claims *claims)
{
    print_text("profile", profile_of(claims));
    print_bytes("nonce", claims->nonce);
    print_bytes("instance id", claims->instance_id);
    print_bytes("implementation id", claims->implementation_id);
    (void)printf("%-24s %d\n", "client id", (int)claims->client_id);
    (void)printf("%-24s 0x%04x %s\n", "lifecycle", claims->lifecycle,
                 sp_attest_lifecycle_name(claims->lifecycle));
    print_bytes("boot seed", claims->boot_seed);
    print_text("certification reference", claims->certification_reference);
    print_text("verification service", claims->verification_service);
    if (claims->no_software) {
        (void)printf("%-24s none measured\n", "software");
    }
    for (size_t i = 0; i < claims->component_count; i++) {
        const struct sp_attest_component *component = &claims->components[i];
        (void)printf("component %zu\n", i + 1);
        print_text("  type", component->type);
        print_bytes("  value", component->value);
        print_bytes("  signer id", component->signer_id);
        print_text("  version", component->version);
        print_text("  description", component->description);
    }
}

static int report(const struct options *o, const struct sp_attest_claims *claims,
                  const struct sp_attest_verdict *verdict)
{
    if (verdict->check != SP_ATTEST_OK) {
        (void)fprintf(stderr, "refused: %s: %s\n", sp_attest_check_name(verdict->check),
                      verdict->detail);
        return EXIT_REFUSED;
    }
    if (o->json) {
        print_json(claims);
    } else {
        print_claims(claims);
    }
    return EXIT_DONE;
}

/* ---- subcommands ---- */

static struct sp_view view_of(const struct bytes *bytes)
{
    return sp_view(bytes->data, bytes->len);
}

/* The instance id to expect or to claim, unless one was given. */
static bool derive_ueid(struct options *o)
{
    if (o->ueid.len == 0) {
        if (sp_attest_ueid(view_of(&o->key), o->ueid.data) != SP_OK) {
            return complain("the instance id can't be computed");
        }
        o->ueid.len = SP_ATTEST_UEID_LEN;
    }
    return true;
}

static int run_verify(struct options *o)
{
    struct sp_view token;
    if (!read_token(o, &token) || !derive_ueid(o)) {
        return EXIT_REFUSED;
    }
    struct sp_attest_policy policy = {
        .key = {view_of(&o->key), 0},
        .algorithm = o->algorithm,
        .challenge = view_of(&o->nonce),
        .instance_id = o->any_ueid ? (struct sp_view){NULL, 0} : view_of(&o->ueid),
        .lifecycles = o->lifecycles,
        .allow_development_key = o->allow_development_key,
        .allow_no_software = o->allow_no_software,
        .any_software = true,
    };
    struct sp_attest_claims claims;
    struct sp_attest_verdict verdict;
    sp_attest_appraise(token, &policy, &claims, &verdict);
    return report(o, &claims, &verdict);
}

static int run_show(struct options *o)
{
    struct sp_view token;
    if (!read_token(o, &token)) {
        return EXIT_REFUSED;
    }
    struct sp_attest_claims claims;
    struct sp_attest_verdict verdict;
    sp_attest_decode(token, &claims, &verdict);
    return report(o, &claims, &verdict);
}

static void fill_claims(const struct options *o, struct sp_attest_claims *claims)
{
    *claims = (struct sp_attest_claims){
        .profile = o->profile,
        .nonce = view_of(&o->nonce),
        .instance_id = view_of(&o->ueid),
        .implementation_id = view_of(&o->implementation_id),
        .boot_seed = view_of(&o->boot_seed),
        .certification_reference = sp_view_str(o->certification_reference),
        .verification_service = sp_view_str(o->verification_service),
        .client_id = o->client_id,
        .lifecycle = o->lifecycle,
        .no_software = o->no_software,
        .component_count = o->component_count,
    };
    for (size_t i = 0; i < o->component_count; i++) {
        const struct component *component = &o->components[i];
        claims->components[i] = (struct sp_attest_component){
            .type = component->type,
            .value = view_of(&component->value),
            .signer_id = view_of(&component->signer),
            .version = component->version,
        };
    }
}

static bool write_token(const char *name, struct sp_view token)
{
    bool to_stdout = strcmp(name, "-") == 0;
    if (to_stdout && isatty(STDOUT_FILENO)) {
        return complain("a token is binary: give --out FILE, or a pipe");
    }
    FILE *file = to_stdout ? stdout : fopen(name, "wb");
    if (file == NULL) {
        return complain("%s: %s", name, strerror(errno));
    }
    bool ok = fwrite(token.ptr, 1, token.len, file) == token.len;
    ok = (to_stdout ? fflush(file) : fclose(file)) == 0 && ok;
    return ok || complain("%s: %s", name, strerror(errno));
}

static int run_make(struct options *o)
{
    if (o->component_count == 0 && !o->no_software) {
        (void)complain("what runs on the device? --component TYPE=HEX, or --no-software");
        return EXIT_USAGE;
    }
    if (!derive_ueid(o)) {
        return EXIT_REFUSED;
    }
    struct sp_attest_claims claims;
    struct sp_crypto_key key = {.bytes = view_of(&o->key)};
    uint8_t token[SP_LINK_TOKEN_MAX];
    size_t len = 0;
    fill_claims(o, &claims);
    enum sp_err err = sp_attest_encode(&claims, o->algorithm, &key, token, sizeof(token), &len);
    if (err == SP_ERR_ARGUMENT) {
        (void)complain(
            "a claim does not fit the profile: nonce, component and signer have 32, 48 or 64 bytes "
            "(rfc9783 "
            "needs the signer), --ueid-hex has 33, --implementation-id 32, and only iot-1 knows "
            "--no-software");
        return EXIT_USAGE;
    }
    if (err != SP_OK) {
        (void)complain("%s", sp_err_text(err));
        return EXIT_REFUSED;
    }
    return write_token(o->out, sp_view(token, len)) ? EXIT_DONE : EXIT_REFUSED;
}

static const struct subcommand subcommands[] = {
    {"verify", verify_options, run_verify, true, false},
    {"show", show_options, run_show, true, false},
    {"make", make_options, run_make, false, true},
};

/* 0 = go on; else the exit status. */
static int complete_options(struct options *o, const struct subcommand *command)
{
    bool wants_key = command->options != show_options;
    if (wants_key && (o->key_file != NULL) == (o->key.len != 0)) {
        (void)complain("one of --key-file and --key-hex is needed");
        return EXIT_USAGE;
    }
    if (wants_key && o->nonce.len == 0) {
        (void)complain("--nonce-hex is needed: the challenge that the token answers");
        return EXIT_USAGE;
    }
    if (o->key_file != NULL && o->token != NULL && strcmp(o->key_file, "-") == 0 &&
        strcmp(o->token, "-") == 0) {
        (void)complain("key and token can't both come from standard input");
        return EXIT_USAGE;
    }
    if (o->key_file != NULL && !read_key(o)) {
        return EXIT_REFUSED;
    }
    if (wants_key && o->key.len < KEY_MIN) {
        (void)complain("the key has fewer than %u bytes", KEY_MIN);
        return EXIT_USAGE;
    }
    return EXIT_DONE;
}

static bool read_options(const struct subcommand *command, int argc, char **argv, struct options *o)
{
    optind = 0; /* glibc: start afresh, an outer command line was read before */
    for (;;) {
        int id = getopt_long(argc, argv, "", command->options, NULL);
        if (id == -1) {
            break;
        }
        if (!set_option(o, command, id, optarg)) {
            return false;
        }
    }
    int wanted = command->takes_token ? 1 : 0;
    if (argc - optind != wanted && !o->help) {
        return complain(command->takes_token ? "one TOKEN file is needed, or -"
                                             : "no other words are taken");
    }
    o->token = command->takes_token ? argv[optind] : NULL;
    return true;
}

static int run_subcommand(const struct subcommand *command, int argc, char **argv)
{
    struct options o = {
        .algorithm = SP_ATTEST_HMAC256,
        .profile = SP_ATTEST_PROFILE_RFC9783,
        .lifecycles = SP_ATTEST_LIFECYCLE_SECURED,
        .lifecycle = SECURED,
        .client_id = TFM_CLIENT_ID,
        .implementation_id = {.len = 32},
        .boot_seed = {.len = 32},
        .out = "-",
    };
    int status = EXIT_USAGE;
    if (read_options(command, argc, argv, &o)) {
        if (o.help) {
            (void)fputs(help_text, stdout);
            return EXIT_DONE;
        }
        status = complete_options(&o, command);
        if (status == EXIT_DONE) {
            status = command->run(&o);
        }
    }
    sp_wipe(&o.key, sizeof(o.key));
    return status;
}

int sp_cmd_token(int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : "";
    if (strcmp(name, "--help") == 0 || strcmp(name, "help") == 0 || strcmp(name, "-h") == 0) {
        (void)fputs(help_text, stdout);
        return EXIT_DONE;
    }
    for (size_t i = 0; i < sizeof(subcommands) / sizeof(subcommands[0]); i++) {
        if (strcmp(name, subcommands[i].name) == 0) {
            return run_subcommand(&subcommands[i], argc - 1, argv + 1);
        }
    }
    (void)complain("verify, show or make? See `sallyport token --help`");
    return EXIT_USAGE;
}
