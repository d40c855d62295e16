/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/config/config.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "gateway/config/config_internal.h"
#include "gateway/config/route_map.h"
#include "libs/base/test.h"

#define HEAD "gateway:\n  id: gw-1\n  state_dir: /var/lib/sallyport\n"
#define DOOR "listeners:\n  - address: 127.0.0.1:8883\n"
#define BASE HEAD DOOR /* five lines */
#define CLOUD                                                                             \
    "cloud:\n  endpoint: broker.example.org:8883\n  ca: /ca.pem\n  certificate: /c.pem\n" \
    "  key: /k.pem\n"
#define AWS CLOUD "  limits: aws\n"

/* Faults of a text, for the caller to free; `*out` as from sp_config_parse(). */
static char *faults_of(const char *text, size_t len, struct sp_config **out)
{
    char *faults = NULL;
    size_t faults_len = 0;
    FILE *stream = open_memstream(&faults, &faults_len);
    enum sp_err err = sp_config_parse("f.yaml", sp_view(text, len), false, stream, out);
    fclose(stream);
    SP_CHECK((err == SP_OK) == (faults_len == 0));
    SP_CHECK((err == SP_OK) == (*out != NULL));
    return faults;
}

static struct sp_config *load(const char *text)
{
    struct sp_config *config;
    char *faults = faults_of(text, strlen(text), &config);
    SP_CHECK_CASE(config != NULL, faults);
    if (config == NULL) {
        (void)fflush(stdout);
        abort();
    }
    free(faults);
    return config;
}

static char *printed(const struct sp_config *config)
{
    char *text = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&text, &len);
    sp_config_print(config, stream);
    fclose(stream);
    return text;
}

struct golden {
    const char *text;
    const char *want; /* all faults, in their order */
};

static void check_goldens(const struct golden *cases, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        struct sp_config *config;
        char *faults = faults_of(cases[i].text, strlen(cases[i].text), &config);
        if (strcmp(faults, cases[i].want) != 0) {
            printf("have: %swant: %s", faults, cases[i].want);
        }
        SP_CHECK_CASE(strcmp(faults, cases[i].want) == 0, cases[i].text);
        free(faults);
        sp_config_destroy(config);
    }
}
#define CHECK_GOLDENS(cases) check_goldens((cases), sizeof(cases) / sizeof((cases)[0]))

static void keys_and_values_are_held_against_the_tables(void)
{
    static const struct golden cases[] = {
        {BASE, ""},
        {"", "f.yaml:1: no configuration here: sections like `gateway:` are expected\n"},
        {"- a\n", "f.yaml:1: no configuration here: sections like `gateway:` are expected\n"},
        {DOOR, "f.yaml:1: the section `gateway` is missing\n"},
        {HEAD, "f.yaml:1: the section `listeners` is missing\n"},
        {"gateway: {}\n" DOOR, "f.yaml:1: `gateway` needs the key `id`\n"
                               "f.yaml:1: `gateway` needs the key `state_dir`\n"},
        {"gateway: 5\n" DOOR, "f.yaml:1: `gateway` holds `key: value` lines\n"},
        {HEAD "listeners: {address: x}\n",
         "f.yaml:4: `listeners` is a list of `- key: value` entries\n"},
        {HEAD "listeners: []\n",
         "f.yaml:4: `listeners` is empty: devices need at least one door\n"},
        {HEAD "listeners: [a]\n", "f.yaml:4: `listeners` holds `key: value` lines\n"},
        {BASE "lissteners: 1\n", "f.yaml:6: unknown section `lissteners`: did you mean "
                                 "`listeners`?\n"},
        {BASE "zzz: 1\n",
         "f.yaml:6: unknown section `zzz`: known are gateway, listeners, roles, attestation, "
         "cloud, routes, commands, fusions, limits, include, http\n"},
        {BASE "http: {}\n", "f.yaml:6: `http` comes with a later release: leave the section out\n"},
        {BASE "fusions:\n  - name: hall\n", "f.yaml:7: `fusions` needs the key `inputs`\n"},
        {BASE "fusions:\n  - {name: a b, inputs: dt/+/climate}\n",
         "f.yaml:7: `a b` is not a name: a letter or digit, then up to 63 of letters, digits, `.`, "
         "`_`, `-`\n"},
        {BASE "fusions:\n  - {name: hall, inputs: dt/#}\n",
         "f.yaml:7: only sensor records, dt/+/climate, can be fused\n"},
        {BASE "fusions:\n  - {name: hall, inputs: dt/+/climate, window: 1s}\n",
         "f.yaml:7: `late` is longer than `window`\n"},
        {BASE "fusions:\n  - {name: hall, inputs: dt/+/climate, cloud: x}\n",
         "f.yaml:7: a fusion for the cloud, but there is no section `cloud`\n"},
        {BASE "fusions:\n  - {name: hall, inputs: dt/+/climate}\n"
              "  - {name: hall, inputs: dt/a/climate}\n",
         "f.yaml:8: `hall` is taken by an earlier fusion\n"},
        {BASE "limits:\n", "f.yaml:6: `limits` is empty: fill it in, or leave it out\n"},
        {BASE "limits:\n  pakcet: 1KiB\n",
         "f.yaml:7: unknown key of `limits` `pakcet`: did you mean `packet`?\n"},
        {BASE "limits:\n  packet:\n", "f.yaml:7: `packet` has no value\n"},
        {BASE "limits:\n  packet: [1]\n", "f.yaml:7: `packet` is a single value\n"},
        {BASE "limits:\n  packet: 16 KB\n",
         "f.yaml:7: `packet: 16 KB` is not a size, like 4096, 64KiB or 1GiB\n"},
        {BASE "limits:\n  packet: -1\n",
         "f.yaml:7: `packet: -1` is not a size, like 4096, 64KiB or 1GiB\n"},
        {BASE "limits:\n  packet: 1KiB\n  journal: 999999999999999999GiB\n",
         "f.yaml:7: `packet: 1KiB` is out of range: 4608B to 16MiB\n"
         "f.yaml:8: `journal: 999999999999999999GiB` is not a size, like 4096, 64KiB or 1GiB\n"},
        {BASE "limits: {tls_timeout: 5, connect_timeout: 1.5s, session_expiry: 1500ms}\n",
         "f.yaml:6: `tls_timeout: 5` is not a duration, like 500ms, 10s or 1h\n"
         "f.yaml:6: `connect_timeout: 1.5s` is not a duration, like 500ms, 10s or 1h\n"
         "f.yaml:6: `session_expiry: 1500ms` is not a duration of whole seconds, like 10s, 5m or "
         "1h\n"},
        {BASE "limits: {handshakes: 0}\n",
         "f.yaml:6: `handshakes: 0` is out of range: 1 to 65536\n"},
        {BASE "limits: {handshakes: many, receive_maximum: 99999999999999999999}\n",
         "f.yaml:6: `handshakes: many` is not a whole number, like 10\n"
         "f.yaml:6: `receive_maximum: 99999999999999999999` is not a whole number, like 10\n"},
        {BASE "attestation: {allow_no_software: yes, lifecycle: [secure]}\n",
         "f.yaml:6: `allow_no_software: yes`: write true or false\n"
         "f.yaml:6: unknown lifecycle `secure`: did you mean `secured`?\n"},
        {BASE "attestation: {lifecycle: [], reattest_interval: 1s}\n",
         "f.yaml:6: `lifecycle` is empty: at least one is needed\n"
         "f.yaml:6: `reattest_interval: 1s` is out of range: 1m to 30d\n"},
        {BASE "attestation: {lifecycle: secured}\n", "f.yaml:6: `lifecycle` is a list: [a, b]\n"},
        {"gateway: {id: 'gw 1', state_dir: '', threads: 63}\n" DOOR,
         "f.yaml:1: `gw 1` is not a name: a letter or digit, then up to 63 of letters, digits, "
         "`.`, `_`, `-`\n"
         "f.yaml:1: `state_dir` is empty\n"
         "f.yaml:1: `threads: 63` is out of range: 0 to 62\n"},
    };
    CHECK_GOLDENS(cases);
}

static void yaml_is_taken_in_a_plain_subset(void)
{
    static const struct golden cases[] = {
        {"gateway: &a {id: x}\nother: *a\n",
         "f.yaml:1: anchors and aliases are not taken: write the value out\n"},
        {BASE "x: *a\n", "f.yaml:6: anchors and aliases are not taken: write the value out\n"},
        {BASE "x: !!str a\n", "f.yaml:6: tags are not taken: leave the `!…` out\n"},
        {BASE "x: !a [b]\n", "f.yaml:6: tags are not taken: leave the `!…` out\n"},
        {BASE "? [a]\n: b\n", "f.yaml:6: a key must be a word\n"},
        {BASE "x: \"a\\nb\"\n",
         "f.yaml:6: control characters and line breaks have no place in a value\n"},
        {BASE "x: \"\\0\"\n",
         "f.yaml:6: control characters and line breaks have no place in a value\n"},
        {BASE "\"a\\e[2J\": 1\n",
         "f.yaml:6: control characters and line breaks have no place in a value\n"},
        {BASE "---\na: b\n", "f.yaml:6: a second document: one file is one configuration\n"},
        {BASE "gateway: {}\n", "f.yaml:6: `gateway` is given twice, first in line 1\n"},
        {BASE "x: [[[[[[[[[[[[[[1]]]]]]]]]]]]]]\n",
         "f.yaml:6: lists and maps lie too deep within each other\n"},
        {BASE "x: [a\n", "f.yaml:7: not YAML: did not find expected ',' or ']'\n"},
        {BASE "x: {a: b\n", "f.yaml:7: not YAML: did not find expected ',' or '}'\n"},
        {BASE "\tx: 1\n", "f.yaml:6: not YAML: found a tab character that violates indentation\n"},
        {"a: \xff\xfe\n", "f.yaml:1: not YAML: invalid leading UTF-8 octet (it must be UTF-8 "
                          "text)\n"},
        {BASE "include: a.yaml\n", "f.yaml:6: `include` is not possible here\n"},
    };
    CHECK_GOLDENS(cases);
}

static void listeners_are_checked(void)
{
    static const struct golden cases[] = {
        {HEAD "listeners: [{address: 'localhost:8883'}]\n",
         "f.yaml:4: `address: localhost:8883` is not an address and port, like 127.0.0.1:8883 or "
         "\"[::]:8883\"\n"},
        {HEAD "listeners: [{address: '1.2.3.4:65536'}, {address: '::1:80'}, {address: ':80'}, "
              "{address: '[::1]'}]\n",
         "f.yaml:4: `address: 1.2.3.4:65536` is not an address and port, like 127.0.0.1:8883 or "
         "\"[::]:8883\"\n"
         "f.yaml:4: `address: ::1:80` is not an address and port, like 127.0.0.1:8883 or "
         "\"[::]:8883\"\n"
         "f.yaml:4: `address: :80` is not an address and port, like 127.0.0.1:8883 or "
         "\"[::]:8883\"\n"
         "f.yaml:4: `address: [::1]` is not an address and port, like 127.0.0.1:8883 or "
         "\"[::]:8883\"\n"},
        {HEAD "listeners:\n  - address: 0.0.0.0:1\n  - address: 0.0.0.0:1\n  - address: 0.0.0.0:2\n"
              "  - address: 0.0.0.0:0\n  - address: 0.0.0.0:0\n",
         "f.yaml:6: `address: 0.0.0.0:1` is taken by an earlier listener\n"},
        {HEAD "listeners:\n  - suites: [small]\n",
         "f.yaml:5: `listeners` needs the key `address`\n"
         "f.yaml:5: unknown suite (a set, or an IANA name like TLS_PSK_WITH_…) `small`: known are "
         "profile-small, forward-secret, all, null-encryption\n"},
        {BASE "    suites: []\n", "f.yaml:6: `suites` is a list with at least one set or suite, "
                                  "like [profile-small]\n"},
        {BASE "    suites: all\n", "f.yaml:6: `suites` is a list with at least one set or suite, "
                                   "like [profile-small]\n"},
        {BASE "    suites: [all, TLS_PSK_WITH_RC4_128_SHA, TLS_PSK_WITH_RC4_128_SHA]\n",
         "f.yaml:6: `TLS_PSK_WITH_RC4_128_SHA` is named twice\n"},
        {BASE "    suites: [TLS_RSA_PSK_WITH_RC4_128_SHA]\n",
         "f.yaml:6: `TLS_RSA_PSK_WITH_RC4_128_SHA` needs a `certificate` and a `key`\n"},
        {BASE "    certificate: /a.pem\n",
         "f.yaml:5: `certificate` and `key` go together: one is missing\n"},
    };
    CHECK_GOLDENS(cases);
}

static void roles_are_checked(void)
{
    static const struct golden cases[] = {
        {BASE "roles:\n  sensor: {publish: ['#']}\n  monitor: {}\n",
         "f.yaml:7: the role `sensor` is built in: choose another name\n"
         "f.yaml:8: the role `monitor` is built in: choose another name\n"},
        {BASE "roles:\n  a b: {}\n", "f.yaml:7: `a b` is not a role's name: a letter or digit, "
                                     "then up to 30 of letters, digits, `.`, `_`, `-`\n"},
        {BASE "roles:\n  a: {publish: [a/#/b, '$sp/x', '{devise}/x', 'x{device}/+']}\n",
         "f.yaml:7: `a/#/b` is not a topic filter: `+` stands alone on its level, `#` alone on "
         "the last\n"
         "f.yaml:7: `$sp/x`: `$sp/` is between the gateway and one device\n"
         "f.yaml:7: unknown placeholder `{devise}`: did you mean `{device}`?\n"},
        {BASE "roles:\n  a: {subscribe: ['$share/g/x'], publish: x}\n",
         "f.yaml:7: `publish` is a list: [a, b]\n"
         "f.yaml:7: `$share/g/x`: `$share/…` is for subscribers, not for a filter here\n"},
        {BASE "roles:\n  a: 1\n", "f.yaml:7: `roles` holds `key: value` lines\n"},
    };
    CHECK_GOLDENS(cases);
}

static void cloud_routes_and_commands_are_held_against_the_cloud(void)
{
    static const struct golden cases[] = {
        {BASE CLOUD "routes:\n  - {from: dt/#, cloud: 'a/{gateway}/{rest}'}\n", ""},
        {BASE "cloud: {}\n", "f.yaml:6: `cloud` needs the key `endpoint`\n"
                             "f.yaml:6: `cloud` needs the key `ca`\n"
                             "f.yaml:6: `cloud` needs the key `certificate`\n"
                             "f.yaml:6: `cloud` needs the key `key`\n"},
        {BASE "cloud: {endpoint: 'https://x:8883', ca: a, certificate: b, key: c, limits: awz}\n",
         "f.yaml:6: `endpoint` is a host name and port, like broker.example.org:8883\n"
         "f.yaml:6: unknown limits `awz`: did you mean `aws`?\n"},
        {BASE "routes:\n  - {from: dt/#, cloud: x}\n",
         "f.yaml:7: a route to the cloud, but there is no section `cloud`\n"},
        {BASE "commands:\n  - {cloud: a, to: b}\n",
         "f.yaml:7: commands come from the cloud, but there is no section `cloud`\n"},
        {BASE CLOUD "routes:\n  - {from: dt/#, cloud: 'x/{rst}'}\n",
         "f.yaml:12: unknown placeholder `{rst}`: did you mean `{rest}`?\n"},
        {BASE CLOUD "routes:\n  - {from: dt/#, cloud: 'x/{'}\n",
         "f.yaml:12: unknown placeholder `{`: known are {gateway}, {device}, {rest}\n"},
        {BASE CLOUD "routes:\n  - {from: dt/+/x, cloud: 'x/{rest}'}\n",
         "f.yaml:12: `{rest}` is what `#` stands for, but `from: dt/+/x` has none\n"},
        {BASE CLOUD "routes:\n  - {from: dt/+/x, cloud: 'x/#'}\n",
         "f.yaml:12: `x/#` is not a topic to publish to\n"},
        {BASE CLOUD "routes:\n  - {from: dt/+x, cloud: none}\n",
         "f.yaml:12: `dt/+x` is not a topic filter: `+` stands alone on its level, `#` alone on "
         "the last\n"},
        {BASE CLOUD "routes:\n  - {from: dt/#, cloud: x, qos: 2, format: jsn}\n",
         "f.yaml:12: `qos: 2` is out of range: 0 to 1\n"
         "f.yaml:12: unknown format `jsn`: did you mean `json`?\n"},
        {BASE CLOUD "routes:\n  - {from: dt/#, cloud: x, format: json}\n",
         "f.yaml:12: only sensor records, dt/+/climate, can be sent in another format than raw\n"},
        {BASE CLOUD "routes:\n  - {from: dt/+/climate, cloud: x, format: json}\n"
                    "  - {from: dt/#, cloud: y}\n  - {from: dt/+/log, cloud: z}\n",
         "f.yaml:14: never reached: `from: dt/#` in line 13 takes all of it\n"},
        {BASE AWS "routes:\n  - {from: dt/+/x, cloud: 'a/b/c/d/e/f/g/{device}'}\n"
                  "  - {from: dt/+/y, cloud: 'a/b/c/d/e/f/g/{device}/i'}\n",
         "f.yaml:14: `a/b/c/d/e/f/g/{device}/i` has at least 9 levels, the cloud takes 8\n"},
        {BASE AWS "routes:\n  - {from: dt/+/x, cloud: '{device}/{device}/{device}/{device}'}\n",
         "f.yaml:13: `{device}/{device}/{device}/{device}` can be 259 bytes long, the cloud takes "
         "256\n"},
        {BASE AWS "routes:\n  - {from: dt/+/x, cloud: a}\nlimits: {packet: 1MiB}\n",
         "f.yaml:14: `limits: packet` lets devices send 1048576 bytes, the cloud takes 131072\n"},
        {BASE AWS "commands:\n  - {cloud: 'a/{gateway}/#', to: 'cmd/{rest}'}\n"
                  "  - {cloud: 'a/{device}/#', to: 'cmd/{rest}'}\n  - {cloud: 'a/b', to: "
                  "'cmd/{rest}'}\n"
                  "  - {cloud: 'c', to: '$sp/x'}\n  - {cloud: 'a/gw-1/#', to: 'cmd/x'}\n"
                  "  - {cloud: '1/2/3/4/5/6/7/8/9', to: x}\n  - {cloud: 'x/{rest}', to: y}\n",
         "f.yaml:14: unknown placeholder `{device}`: known are {gateway}, {rest}\n"
         "f.yaml:15: `{rest}` is what `#` stands for, but `cloud: a/b` has none\n"
         "f.yaml:16: `$sp/x` is not a topic to publish to\n"
         "f.yaml:17: `a/gw-1/#` is taken by an earlier command\n"
         "f.yaml:18: `1/2/3/4/5/6/7/8/9` has at least 9 levels, the cloud takes 8\n"
         "f.yaml:19: `{rest}` belongs into `to`: it is what `#` stands for here\n"},
    };
    CHECK_GOLDENS(cases);
}

static void limits_that_contradict_each_other_are_named(void)
{
    static const struct golden cases[] = {
        {BASE "limits: {keep_alive_min: 1h}\n",
         "f.yaml:6: `keep_alive_min` is larger than `keep_alive_max`\n"},
        {BASE "limits: {preauth_timeout: 1s}\n",
         "f.yaml:6: `tls_timeout` is larger than `preauth_timeout`\n"
         "f.yaml:6: `connect_timeout` is larger than `preauth_timeout`\n"},
    };
    CHECK_GOLDENS(cases);
}

static void defaults_are_the_safe_ones(void)
{
    struct sp_config *c = load(BASE);
    SP_CHECK(c->threads >= 1 && c->threads <= 62);
    SP_CHECK(strcmp(c->master_key, "/var/lib/sallyport/master.key") == 0);
    SP_CHECK(c->user == NULL && !c->cloud.enabled);
    SP_CHECK_INT(c->listeners[0].suites, SP_SUITES_PROFILE_SMALL);
    SP_CHECK_INT(c->listeners[0].port, 8883);
    SP_CHECK(strcmp(c->listeners[0].host, "127.0.0.1") == 0);
    SP_CHECK_INT(c->attestation.lifecycles, SP_ATTEST_LIFECYCLE_SECURED);
    SP_CHECK_INT(c->attestation.reattest_interval_s, 3600);
    SP_CHECK_INT(c->attestation.answer_timeout_ms, 10000);
    SP_CHECK_INT(c->limits.packet, 16384);
    SP_CHECK_INT(c->limits.preauth_timeout_ms, 10000);
    SP_CHECK_INT(c->limits.session_expiry_s, 7 * 86400);
    SP_CHECK(c->limits.journal_bytes == 1ULL << 30);
    SP_CHECK_INT(c->limits.keep_alive_max_s, 1800);
    sp_config_destroy(c);
}

static void roles_have_the_built_in_ones_first(void)
{
    struct sp_config *c = load(BASE "roles:\n  client: {publish: ['#'], retain: false}\n");
    SP_CHECK_INT(c->role_count, 3);
    SP_CHECK(strcmp(c->roles[0].publish[0], "dt/{device}/#") == 0);
    SP_CHECK(strcmp(c->roles[1].subscribe[1], "dt/+/climate") == 0);
    SP_CHECK(!sp_config_role(c, "client")->retain);
    SP_CHECK(sp_config_role(c, "client")->shared_subscriptions);
    SP_CHECK(!c->roles[0].retain && !c->roles[0].shared_subscriptions && !c->roles[0].any_will);
    SP_CHECK(sp_config_role(c, "client")->subscribe == NULL);
    SP_CHECK(sp_config_role(c, "nobody") == NULL);
    sp_config_destroy(c);
}

static void the_message_rate_of_sensors_is_a_limit_and_that_of_other_roles_their_own(void)
{
    struct sp_config *c = load(BASE "roles:\n  camera: {publish: ['#'], message_rate: 9}\n"
                                    "limits: {message_burst: 7}\n");
    SP_CHECK_INT(sp_config_role(c, "sensor")->message_rate, 50);
    SP_CHECK_INT(sp_config_role(c, "sensor")->message_burst, 7);
    SP_CHECK_INT(sp_config_role(c, "monitor")->message_rate, 0);
    SP_CHECK_INT(sp_config_role(c, "camera")->message_rate, 9);
    SP_CHECK_INT(sp_config_role(c, "camera")->message_burst, 200);
    sp_config_destroy(c);
}

static void the_cloud_s_limits_follow_its_endpoint_unless_they_are_given(void)
{
    struct sp_config *c = load(BASE CLOUD);
    SP_CHECK_INT(c->cloud.limits.publishes_per_second, 0);
    SP_CHECK_INT(c->cloud.limits.in_flight, 1000);
    SP_CHECK(!c->cloud.alpn && strcmp(c->cloud.client_id, "gw-1") == 0);
    sp_config_destroy(c);
    c = load(BASE "cloud: {endpoint: 'x-ats.iot.eu-west-1.amazonaws.com:443', ca: /a, certificate: "
                  "/b, key: /c}\n");
    SP_CHECK(c->cloud.alpn);
    SP_CHECK_INT(c->cloud.limits.publishes_per_second, 100);
    SP_CHECK_INT(c->cloud.limits.bytes_per_second, 524288);
    SP_CHECK_INT(c->cloud.limits.in_flight, 100);
    SP_CHECK_INT(c->cloud.limits.packet, 131072);
    SP_CHECK_INT(c->cloud.limits.topic_levels, 8);
    SP_CHECK_INT(c->cloud.limits.topic_bytes, 256);
    sp_config_destroy(c);
}

static void what_is_printed_loads_to_the_same(void)
{
    static const char *const texts[] = {
        BASE,
        BASE AWS "routes:\n  - {from: 'dt/+/climate', cloud: 'a/{device}', format: json, qos: 0}\n"
                 "  - {from: 'dt/#', cloud: none}\n"
                 "commands:\n  - {cloud: 'a/{gateway}/#', to: 'cmd/{rest}'}\n",
        BASE "    suites: [forward-secret, all, null-encryption, TLS_PSK_WITH_RC4_128_SHA]\n"
             "    certificate: '/with \"quotes\" \\ and ä'\n    key: '/k: v'\n"
             "  - address: '[::1]:0'\n"
             "roles:\n  client: {publish: ['#'], subscribe: ['a b/#', '- x'], retain: true}\n"
             "  empty: {}\n"
             "attestation: {lifecycle: [secured, debug], reattest_interval: 90s}\n"
             "limits: {journal: 5GiB, packet: 5001, tls_timeout: 1500ms, session_expiry: 0s}\n",
        "gateway: {id: '1', state_dir: '/', user: 'null', threads: 2, master_key: '/~'}\n" DOOR
        "cloud: {endpoint: '[::1]:1', ca: /a, certificate: /b, key: /c, client_id: '- a', "
        "version: 3.1.1, connections: 3, alpn: true, limits: {in_flight: 7}}\n",
    };
    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        struct sp_config *first = load(texts[i]);
        char *once = printed(first);
        struct sp_config *second = load(once);
        char *twice = printed(second);
        SP_CHECK_CASE(strcmp(once, twice) == 0, once);
        free(once);
        free(twice);
        sp_config_destroy(first);
        sp_config_destroy(second);
    }
}

static void the_canonical_form_is_the_golden_one(void)
{
    struct sp_config *c =
        load("gateway: {id: gw-1, state_dir: /s, threads: 2}\n" DOOR AWS
             "routes: [{from: dt/#, cloud: 'x/{rest}'}]\nroles: {client: {publish: ['#']}}\n");
    char *text = printed(c);
    SP_CHECK_CASE(strcmp(text, "gateway:\n"
                               "  id: gw-1\n"
                               "  state_dir: /s\n"
                               "  master_key: /s/master.key\n"
                               "  threads: 2\n"
                               "listeners:\n"
                               "  - address: \"127.0.0.1:8883\"\n"
                               "    suites: [profile-small]\n"
                               "roles:\n"
                               "  client:\n"
                               "    publish: [\"#\"]\n"
                               "    subscribe: []\n"
                               "    retain: true\n"
                               "    shared_subscriptions: true\n"
                               "    any_will: true\n"
                               "    topic_aliases: 16\n"
                               "    message_rate: 0\n"
                               "    message_burst: 200\n"
                               "attestation:\n"
                               "  reattest_interval: 1h\n"
                               "  answer_timeout: 10s\n"
                               "  lifecycle: [secured]\n"
                               "  allow_no_software: false\n"
                               "cloud:\n"
                               "  endpoint: \"broker.example.org:8883\"\n"
                               "  ca: /ca.pem\n"
                               "  certificate: /c.pem\n"
                               "  key: /k.pem\n"
                               "  client_id: gw-1\n"
                               "  connections: 1\n"
                               "  keep_alive: 1m\n"
                               "  alpn: false\n"
                               "  version: 5\n"
                               "  limits:\n"
                               "    publishes_per_second: 100\n"
                               "    bytes_per_second: 512KiB\n"
                               "    in_flight: 100\n"
                               "    packet: 128KiB\n"
                               "    topic_levels: 8\n"
                               "    topic_bytes: 256\n"
                               "routes:\n"
                               "  - from: \"dt/#\"\n"
                               "    cloud: \"x/{rest}\"\n"
                               "    format: raw\n"
                               "    qos: 1\n"
                               "limits:\n"
                               "  handshakes: 256\n"
                               "  handshakes_per_address: 64\n"
                               "  handshakes_per_identity: 8\n"
                               "  waiting: 8192\n"
                               "  waiting_per_address: 2048\n"
                               "  connections_per_address: 20000\n"
                               "  connects_per_second: 500\n"
                               "  connects_burst: 2000\n"
                               "  crowded_timeout: 1s\n"
                               "  connections: 100000\n"
                               "  descriptor_reserve: 64\n"
                               "  turn_messages: 256\n"
                               "  message_rate: 50\n"
                               "  message_burst: 200\n"
                               "  log_lines: 10\n"
                               "  preauth_timeout: 10s\n"
                               "  tls_timeout: 5s\n"
                               "  connect_timeout: 2s\n"
                               "  packet: 16KiB\n"
                               "  receive_maximum: 16\n"
                               "  in_flight: 64\n"
                               "  session_queue: 64KiB\n"
                               "  session_queues: 256MiB\n"
                               "  sessions: 256MiB\n"
                               "  session_expiry: 7d\n"
                               "  write_buffer: 256KiB\n"
                               "  write_buffers: 64MiB\n"
                               "  stall_timeout: 10s\n"
                               "  keep_alive_min: 10s\n"
                               "  keep_alive_max: 30m\n"
                               "  topic_levels: 16\n"
                               "  topic_bytes: 256\n"
                               "  subscriptions: 16\n"
                               "  user_properties: 8\n"
                               "  user_property_bytes: 1KiB\n"
                               "  retained: 10000\n"
                               "  retained_bytes: 16MiB\n"
                               "  retained_device: 1000\n"
                               "  retained_device_bytes: 1MiB\n"
                               "  journal: 1GiB\n"
                               "  journal_device: 64MiB\n"
                               "  sensors: 100000\n"
                               "  history: 32\n"
                               "  attempts: 30\n") == 0,
                  text);
    free(text);
    sp_config_destroy(c);
}

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[256];
    (void)snprintf(path, sizeof(path), "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (file == NULL || fputs(text, file) < 0 || fclose(file) != 0) {
        abort();
    }
}

static void files_include_others_in_the_order_of_their_names(void)
{
    char folder[] = "/tmp/sallyport-config-XXXXXX";
    char path[300];
    char command[300];
    SP_CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(path, sizeof(path), "%s/conf.d", folder);
    SP_CHECK_INT(mkdir(path, 0700), 0);
    write_file(folder, "main.yaml",
               "gateway: {id: gw-1, state_dir: state}\ninclude: conf.d/*.yaml\n" DOOR
               "routes:\n  - {from: dt/a/x, cloud: one}\nlimits: {packet: 8KiB}\n");
    write_file(folder, "conf.d/20.yaml", "routes:\n  - {from: dt/c/x, cloud: three}\n");
    write_file(folder, "conf.d/10.yaml",
               "limits: {handshakes: 5}\n"
               "routes:\n  - {from: dt/b/x, cloud: two}\n" CLOUD);
    (void)snprintf(path, sizeof(path), "%s/main.yaml", folder);
    struct sp_config *c = NULL;
    SP_CHECK_INT(sp_config_load(path, stdout, &c), SP_OK);
    if (c != NULL) {
        char state[300];
        (void)snprintf(state, sizeof(state), "%s/state", folder);
        SP_CHECK(strcmp(c->state_dir, state) == 0);
        SP_CHECK_INT(c->route_count, 3);
        SP_CHECK(strcmp(c->routes[1].cloud, "two") == 0);
        SP_CHECK(strcmp(c->routes[2].cloud, "three") == 0);
        SP_CHECK_INT(c->limits.handshakes, 5);
        SP_CHECK_INT(c->limits.packet, 8192);
    }
    sp_config_destroy(c);

    write_file(folder, "conf.d/20.yaml", "limits: {packet: 9KiB}\ninclude: x\n");
    write_file(folder, "conf.d/30.yaml", "limits: {packet: 9KiB, wrong: 1}\n");
    char *faults = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&faults, &len);
    SP_CHECK_INT(sp_config_load(path, stream, &c), SP_ERR_MALFORMED);
    fclose(stream);
    SP_CHECK_CASE(strstr(faults, "conf.d/20.yaml:2: an included file cannot include others\n"),
                  faults);
    SP_CHECK_CASE(strstr(faults, "conf.d/30.yaml:1: `packet` is given twice, first in "), faults);
    SP_CHECK_CASE(strstr(faults, "conf.d/30.yaml:1: unknown key of `limits` `wrong`"), faults);
    free(faults);
    (void)snprintf(command, sizeof(command), "rm -r %s", folder);
    SP_CHECK_INT(system(command), 0);
}

static void a_file_that_cannot_be_read_has_no_line(void)
{
    static const struct {
        const char *file, *faults;
    } rows[] = {{"/nonexistent/f.yaml", "/nonexistent/f.yaml: No such file or directory\n"},
                {"/", "/: Is a directory\n"}};
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct sp_config *c = NULL;
        char *faults = NULL;
        size_t len = 0;
        FILE *stream = open_memstream(&faults, &len);
        SP_CHECK_INT(sp_config_load(rows[i].file, stream, &c), SP_ERR_MALFORMED);
        fclose(stream);
        SP_CHECK_CASE(c == NULL && strcmp(faults, rows[i].faults) == 0, faults);
        free(faults);
    }
}

static void hostile_texts_are_refused_and_nothing_breaks(void)
{
    struct sp_config *c;
    size_t size = SP_CONFIG_FILE_MAX + 1U;
    char *big = malloc(size);
    static const char fills[] = "[{-\"&* a:#\n";
    for (size_t i = 0; i < sizeof(fills) - 1U; i++) {
        memset(big, fills[i], size);
        for (size_t len = 1; len <= size; len *= 32U) {
            free(faults_of(big, len, &c));
            SP_CHECK(c == NULL);
        }
    }
    char *faults = faults_of(big, size, &c);
    SP_CHECK(strcmp(faults, "f.yaml:1: larger than 1048576 bytes\n") == 0);
    free(faults);
    size_t used = 0;
    while (used + 8U < SP_CONFIG_FILE_MAX) { /* a list of very many */
        memcpy(big + used, "- a: b\n ", 7);
        used += 7U;
    }
    faults = faults_of(big, used, &c);
    SP_CHECK(strstr(faults, "the file has too many values\n") != NULL);
    free(faults);
    free(big);
    const char *whole = BASE AWS "routes:\n  - {from: dt/#, cloud: \"x/{rest}\"}\n";
    for (size_t cut = 0; cut < strlen(whole); cut++) {
        free(faults_of(whole, cut, &c));
        sp_config_destroy(c);
    }
}

static void at_most_a_hundred_faults_are_named(void)
{
    struct sp_config *c;
    char text[8192] = BASE "limits:\n";
    for (unsigned i = 0; i < 250; i++) {
        char line[32];
        (void)snprintf(line, sizeof(line), "  key_%u: 1\n", i);
        strcat(text, line);
    }
    char *faults = faults_of(text, strlen(text), &c);
    SP_CHECK(strstr(faults, "f.yaml:107: and more faults\n") != NULL);
    SP_CHECK(strstr(faults, "f.yaml:108:") == NULL);
    free(faults);
}

static void templates_are_filled_in(void)
{
    static const struct {
        const char *text;
        const char *filter;
        const char *topic;
        size_t cap;
        enum sp_err err;
        const char *want;
    } cases[] = {
        {"a/{gateway}/{device}/climate", "dt/+/climate", "dt/d1/climate", 99, SP_OK,
         "a/gw/d1/climate"},
        {"a/{rest}", "dt/#", "dt/d1/x/y", 99, SP_OK, "a/d1/x/y"},
        {"a/{rest}", "dt/+/#", "dt/d1/x/y", 99, SP_OK, "a/x/y"},
        {"{rest}", "#", "dt/d1", 99, SP_OK, "dt/d1"},
        {"a/{rest}", "dt/#", "dt", 99, SP_OK, "a/"},
        {"{rest}", "dt/#", "dt", 99, SP_ERR_MALFORMED, ""},
        {"a/{rest}", "dt/#", "dt/+/x", 99, SP_ERR_MALFORMED, ""},
        {"a/{rest}", "dt/#", "dt/1234567", 8, SP_ERR_SPACE, ""},
        {"a/{rest}", "dt/#", "dt/123456", 8, SP_OK, "a/123456"},
        {"{gateway}{device}{rest}", "+/#", "/x", 99, SP_OK, "gwd1x"},
        {"a/{other}", "dt/#", "dt/x", 99, SP_OK, "a/{other}"},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        char out[100];
        size_t len = 0;
        enum sp_err err = sp_route_map(cases[i].text, cases[i].filter, "gw", SP_VIEW_LIT("d1"),
                                       sp_view_str(cases[i].topic), out, cases[i].cap, &len);
        SP_CHECK_INT(err, cases[i].err);
        SP_CHECK_CASE(sp_view_equal(sp_view(out, len), sp_view_str(cases[i].want)), cases[i].text);
    }
}

static void the_first_route_that_matches_decides(void)
{
    struct sp_config *c = load(BASE CLOUD "routes:\n  - {from: dt/+/secret, cloud: none}\n"
                                          "  - {from: dt/+/climate, cloud: a}\n"
                                          "  - {from: dt/#, cloud: b}\n");
    SP_CHECK(sp_route_find(c, SP_VIEW_LIT("dt/d/secret")) == NULL);
    SP_CHECK(sp_route_find(c, SP_VIEW_LIT("dt/d/climate")) == &c->routes[1]);
    SP_CHECK(sp_route_find(c, SP_VIEW_LIT("dt/d/other")) == &c->routes[2]);
    SP_CHECK(sp_route_find(c, SP_VIEW_LIT("other")) == NULL);
    sp_config_destroy(c);
}

/* The part of a manual page from a heading of a section to the next. */
static char *manual_section(const char *page, const char *name)
{
    char heading[64];
    size_t used = (size_t)snprintf(heading, sizeof(heading), "\n.Sh ");
    for (const char *c = name; *c != '\0' && *c != '.' && used < sizeof(heading) - 2U; c++) {
        heading[used++] = (char)toupper((unsigned char)*c);
    }
    heading[used++] = '\n';
    heading[used] = '\0';
    const char *start = strstr(page, heading);
    const char *end = start != NULL ? strstr(start + 1, "\n.Sh ") : NULL;
    return end != NULL ? strndup(start, (size_t)(end - start)) : strdup("");
}

static void check_manual_key(const char *section, const struct sp_field *field)
{
    char item[64];
    char plain[64];
    char list[64];
    (void)snprintf(item, sizeof(item), "\n.It Ic %s\n", field->key);
    const char *at = strstr(section, item);
    SP_CHECK_CASE(at != NULL, field->key);
    if (at == NULL || field->fallback == NULL) {
        return;
    }
    const char *end = strstr(at + 1, "\n.It ");
    char *text = strndup(at, end != NULL ? (size_t)(end - at) : strlen(at));
    (void)snprintf(plain, sizeof(plain), "default %s", field->fallback);
    (void)snprintf(list, sizeof(list), "default [%s]", field->fallback);
    SP_CHECK_CASE(strstr(text, plain) != NULL || strstr(text, list) != NULL, field->key);
    free(text);
}

static void the_manual_page_has_every_key_and_its_default(void)
{
    static const struct sp_schema *const schemas[] = {
        &sp_schema_gateway, &sp_schema_listener,     &sp_schema_role,
        &sp_schema_cloud,   &sp_schema_cloud_limits, &sp_schema_attestation,
        &sp_schema_route,   &sp_schema_command,      &sp_schema_limits};
    static char page[65536];
    FILE *file = fopen("docs/man/sallyport.yaml.5", "r");
    SP_CHECK(file != NULL);
    if (file == NULL) {
        return;
    }
    page[fread(page, 1, sizeof(page) - 1U, file)] = '\0';
    fclose(file);
    for (size_t i = 0; i < sizeof(schemas) / sizeof(schemas[0]); i++) {
        char *section = manual_section(page, schemas[i]->name);
        for (size_t k = 0; k < schemas[i]->count; k++) {
            check_manual_key(section, &schemas[i]->fields[k]);
        }
        free(section);
    }
}

static const struct sp_test tests[] = {
    SP_TEST(keys_and_values_are_held_against_the_tables),
    SP_TEST(yaml_is_taken_in_a_plain_subset),
    SP_TEST(listeners_are_checked),
    SP_TEST(roles_are_checked),
    SP_TEST(cloud_routes_and_commands_are_held_against_the_cloud),
    SP_TEST(limits_that_contradict_each_other_are_named),
    SP_TEST(defaults_are_the_safe_ones),
    SP_TEST(roles_have_the_built_in_ones_first),
    SP_TEST(the_message_rate_of_sensors_is_a_limit_and_that_of_other_roles_their_own),
    SP_TEST(the_cloud_s_limits_follow_its_endpoint_unless_they_are_given),
    SP_TEST(what_is_printed_loads_to_the_same),
    SP_TEST(the_canonical_form_is_the_golden_one),
    SP_TEST(the_manual_page_has_every_key_and_its_default),
    SP_TEST(files_include_others_in_the_order_of_their_names),
    SP_TEST(a_file_that_cannot_be_read_has_no_line),
    SP_TEST(hostile_texts_are_refused_and_nothing_breaks),
    SP_TEST(at_most_a_hundred_faults_are_named),
    SP_TEST(templates_are_filled_in),
    SP_TEST(the_first_route_that_matches_decides),
};
SP_TEST_MAIN(tests)
