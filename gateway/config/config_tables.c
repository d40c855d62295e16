/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Every key of the file: type, where it goes, range, default. sallyport.yaml(5) lists the same, and
 * config_test.c holds the two together.
 */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/config/config_internal.h"
#include "gateway/tls/suites.h"
#include "libs/link/link.h"

#define KIB (1ULL << 10)
#define MIB (1ULL << 20)
#define GIB (1ULL << 30)
#define DAY 86400U

/* ---- checks and readers of single keys ---- */

static void check_identity(struct sp_config_reader *reader, const struct sp_node *node,
                           void *section)
{
    (void)section;
    if (!sp_link_identity_valid(sp_view_str(node->text))) {
        SP_FAULT(reader, node,
                 "`%s` is not a name: a letter or digit, then up to 63 of letters, digits, `.`, "
                 "`_`, `-`",
                 node->text);
    }
}

/* Split `text` at its last colon; false unless a port of 0..65535 follows. */
static bool split_port(const char *text, char *host, size_t host_cap, uint16_t *port)
{
    const char *colon = strrchr(text, ':');
    if (colon == NULL) {
        return false;
    }
    size_t digits = strspn(colon + 1, "0123456789");
    unsigned long value = strtoul(colon + 1, NULL, 10);
    if (digits == 0 || digits > 5 || colon[1 + digits] != '\0' || value > 65535U ||
        snprintf(host, host_cap, "%.*s", (int)(colon - text), text) >= (int)host_cap) {
        return false;
    }
    *port = (uint16_t)value;
    return true;
}

static bool numeric_host(char *host)
{
    uint8_t raw[16];
    size_t len = strlen(host);
    if (len > 2 && host[0] == '[' && host[len - 1U] == ']') {
        memmove(host, host + 1, len - 2U);
        host[len - 2U] = '\0';
        return inet_pton(AF_INET6, host, raw) == 1;
    }
    return inet_pton(AF_INET, host, raw) == 1;
}

static void check_address(struct sp_config_reader *reader, const struct sp_node *node,
                          void *section)
{
    struct sp_listener_config *listener = section;
    char host[80];
    if (!split_port(node->text, host, sizeof(host), &listener->port) || !numeric_host(host)) {
        SP_FAULT(reader, node,
                 "`address: %s` is not an address and port, like 127.0.0.1:8883 or \"[::]:8883\"",
                 node->text);
        return;
    }
    listener->host = strdup(host);
}

static const struct sp_choice suite_sets[] = {{"profile-small", SP_SUITES_PROFILE_SMALL},
                                              {"forward-secret", SP_SUITES_FORWARD_SECRET},
                                              {"all", SP_SUITES_ALL},
                                              {"null-encryption", SP_SUITES_NULL_ENCRYPTION},
                                              {NULL, 0}};

static void read_suite(struct sp_config_reader *reader, const struct sp_node *node,
                       struct sp_listener_config *listener)
{
    const char *known[] = {"profile-small", "forward-secret", "all", "null-encryption", NULL};
    for (const struct sp_choice *set = suite_sets; set->name != NULL; set++) {
        if (strcmp(set->name, node->text) == 0) {
            listener->suites |= set->value;
            return;
        }
    }
    if (sp_tls_suite_find(node->text) == NULL) {
        sp_config_unknown(reader, node, "suite (a set, or an IANA name like TLS_PSK_WITH_…)",
                          node->text, known);
        return;
    }
    for (size_t i = 0; listener->suite_names != NULL && listener->suite_names[i] != NULL; i++) {
        if (strcmp(listener->suite_names[i], node->text) == 0) {
            SP_FAULT(reader, node, "`%s` is named twice", node->text);
            return;
        }
    }
    if (!sp_texts_add(&listener->suite_names, node->text)) {
        SP_FAULT(reader, node, "out of memory");
    }
}

static void read_suites(struct sp_config_reader *reader, const struct sp_node *node, void *section)
{
    struct sp_listener_config *listener = section;
    if (node->kind == SP_NODE_SCALAR && node->file == NULL) { /* the default */
        read_suite(reader, node, listener);
        return;
    }
    if (node->kind != SP_NODE_LIST || node->count == 0) {
        SP_FAULT(reader, node,
                 "`suites` is a list with at least one set or suite, like "
                 "[profile-small]");
        return;
    }
    for (const struct sp_node *n = node->first; n != NULL; n = n->next) {
        if (n->kind != SP_NODE_SCALAR) {
            SP_FAULT(reader, n, "`suites` is a list of words");
        } else {
            read_suite(reader, n, listener);
        }
    }
}

static void print_suites(const void *section, FILE *out)
{
    const struct sp_listener_config *listener = section;
    const char *comma = "";
    (void)fputs(" [", out);
    for (const struct sp_choice *set = suite_sets; set->name != NULL; set++) {
        if ((listener->suites & set->value) != 0) {
            (void)fprintf(out, "%s%s", comma, set->name);
            comma = ", ";
        }
    }
    for (size_t i = 0; listener->suite_names != NULL && listener->suite_names[i] != NULL; i++) {
        (void)fprintf(out, "%s%s", comma, listener->suite_names[i]);
        comma = ", ";
    }
    (void)fputs("]\n", out);
}

static void read_endpoint(struct sp_config_reader *reader, const struct sp_node *node,
                          void *section)
{
    struct sp_cloud_config *cloud = section;
    char host[256];
    static const char letters[] =
        "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789.-";
    if (node->kind != SP_NODE_SCALAR || !split_port(node->text, host, sizeof(host), &cloud->port) ||
        cloud->port == 0 ||
        (host[0] == '[' ? !numeric_host(host)
                        : host[0] == '\0' || strspn(host, letters) != strlen(host))) {
        SP_FAULT(reader, node, "`endpoint` is a host name and port, like broker.example.org:8883");
        return;
    }
    cloud->host = strdup(host);
}

static void print_endpoint(const void *section, FILE *out)
{
    const struct sp_cloud_config *cloud = section;
    bool v6 = strchr(cloud->host, ':') != NULL;
    (void)fprintf(out, " \"%s%s%s:%u\"\n", v6 ? "[" : "", cloud->host, v6 ? "]" : "", cloud->port);
}

/* AWS IoT Core's quotas per connection (docs: "AWS IoT Core endpoints and quotas"). */
static const struct sp_cloud_limits limits_aws = {.publishes_per_second = 100,
                                                  .bytes_per_second = 512U << 10,
                                                  .in_flight = 100,
                                                  .packet = 128U << 10,
                                                  .topic_levels = 8,
                                                  .topic_bytes = 256};
static const struct sp_cloud_limits limits_none = {.in_flight = 1000};

bool sp_cloud_limits_named(const char *name, struct sp_cloud_limits *out)
{
    if (strcmp(name, "aws") == 0) {
        *out = limits_aws;
        return true;
    }
    if (strcmp(name, "none") == 0) {
        *out = limits_none;
        return true;
    }
    return false;
}

static void read_cloud_limits(struct sp_config_reader *reader, const struct sp_node *node,
                              void *section)
{
    struct sp_cloud_config *cloud = section;
    const char *known[] = {"aws", "none", NULL};
    if (node->kind == SP_NODE_MAP) {
        sp_schema_read(reader, &sp_schema_cloud_limits, node, &cloud->limits);
    } else if (node->kind == SP_NODE_LIST || sp_node_is_null(node)) {
        SP_FAULT(reader, node, "`limits` is aws, none, or `key: value` lines");
    } else if (!sp_cloud_limits_named(node->text, &cloud->limits)) {
        sp_config_unknown(reader, node, "limits", node->text, known);
    }
}

static void print_cloud_limits(const void *section, FILE *out)
{
    const struct sp_cloud_config *cloud = section;
    (void)fputc('\n', out);
    sp_schema_print(&sp_schema_cloud_limits, &cloud->limits, "    ", "    ", out);
}

static void read_template(struct sp_config_reader *reader, const struct sp_node *node,
                          void *section)
{
    struct sp_route_config *route = section;
    if (node->kind != SP_NODE_SCALAR || node->text[0] == '\0') {
        SP_FAULT(reader, node, "`cloud` is a topic, or none");
    } else if (strcmp(node->text, "none") != 0) {
        route->cloud = strdup(node->text);
    }
}

static void print_template(const void *section, FILE *out)
{
    const struct sp_route_config *route = section;
    (void)fputc(' ', out);
    sp_config_print_text(out, route->cloud != NULL ? route->cloud : "none");
    (void)fputc('\n', out);
}

/* ---- the tables ---- */

/* clang-format off */
#define AT(type, member) .offset = offsetof(struct type, member)

static const struct sp_field gateway_fields[] = {
    {"id", SP_FIELD_TEXT, AT(sp_config, id), .required = true, .read = check_identity},
    {"state_dir", SP_FIELD_PATH, AT(sp_config, state_dir), .required = true},
    {"master_key", SP_FIELD_PATH, AT(sp_config, master_key)},
    {"threads", SP_FIELD_U32, AT(sp_config, threads), .max = 62, .fallback = "0"},
    {"user", SP_FIELD_TEXT, AT(sp_config, user), .max = 32},
};

static const struct sp_field listener_fields[] = {
    {"address", SP_FIELD_TEXT, AT(sp_listener_config, address), .required = true, .read = check_address},
    {"suites", SP_FIELD_CUSTOM, .fallback = "profile-small", .read = read_suites, .print = print_suites},
    {"certificate", SP_FIELD_PATH, AT(sp_listener_config, certificate)},
    {"key", SP_FIELD_PATH, AT(sp_listener_config, key)},
};

static const struct sp_field role_fields[] = {
    {"publish", SP_FIELD_TEXTS, AT(sp_role_config, publish)},
    {"subscribe", SP_FIELD_TEXTS, AT(sp_role_config, subscribe)},
    {"retain", SP_FIELD_BOOL, AT(sp_role_config, retain), .fallback = "true"},
    {"shared_subscriptions", SP_FIELD_BOOL, AT(sp_role_config, shared_subscriptions), .fallback = "true"},
    {"any_will", SP_FIELD_BOOL, AT(sp_role_config, any_will), .fallback = "true"},
    {"topic_aliases", SP_FIELD_U32, AT(sp_role_config, topic_aliases), 0, 1024, "16"},
    {"message_rate", SP_FIELD_U32, AT(sp_role_config, message_rate), 0, 1000000, "0"},
    {"message_burst", SP_FIELD_U32, AT(sp_role_config, message_burst), 1, 1000000, "200"},
};

static const struct sp_choice lifecycles[] = {
    {"secured", SP_ATTEST_LIFECYCLE_SECURED}, {"debug", SP_ATTEST_LIFECYCLE_DEBUG}, {NULL, 0}};

static const struct sp_field attestation_fields[] = {
    {"reattest_interval", SP_FIELD_SECONDS, AT(sp_attestation_config, reattest_interval_s), 60, 30 * DAY, "1h"},
    {"answer_timeout", SP_FIELD_MILLIS, AT(sp_attestation_config, answer_timeout_ms), 100, 300000, "10s"},
    {"lifecycle", SP_FIELD_FLAGS, AT(sp_attestation_config, lifecycles), .fallback = "secured", .choices = lifecycles},
    {"allow_no_software", SP_FIELD_BOOL, AT(sp_attestation_config, allow_no_software), .fallback = "false"},
};

static const struct sp_choice versions[] = {
    {"5", SP_CLOUD_MQTT_5}, {"3.1.1", SP_CLOUD_MQTT_311}, {NULL, 0}};

static const struct sp_field cloud_fields[] = {
    {"endpoint", SP_FIELD_CUSTOM, .required = true, .read = read_endpoint, .print = print_endpoint},
    {"ca", SP_FIELD_PATH, AT(sp_cloud_config, ca), .required = true},
    {"certificate", SP_FIELD_PATH, AT(sp_cloud_config, certificate), .required = true},
    {"key", SP_FIELD_PATH, AT(sp_cloud_config, key), .required = true},
    {"client_id", SP_FIELD_TEXT, AT(sp_cloud_config, client_id), .max = 120},
    {"connections", SP_FIELD_U32, AT(sp_cloud_config, connections), 1, 64, "1"},
    {"keep_alive", SP_FIELD_SECONDS, AT(sp_cloud_config, keep_alive_s), 5, 1200, "1m"},
    {"alpn", SP_FIELD_BOOL, AT(sp_cloud_config, alpn)},
    {"version", SP_FIELD_CHOICE, AT(sp_cloud_config, version), .fallback = "5", .choices = versions},
    {"limits", SP_FIELD_CUSTOM, .read = read_cloud_limits, .print = print_cloud_limits},
};

static const struct sp_field cloud_limit_fields[] = {
    {"publishes_per_second", SP_FIELD_U32, AT(sp_cloud_limits, publishes_per_second), 0, 10000000, "0"},
    {"bytes_per_second", SP_FIELD_SIZE, AT(sp_cloud_limits, bytes_per_second), 0, UINT32_MAX, "0"},
    {"in_flight", SP_FIELD_U32, AT(sp_cloud_limits, in_flight), 1, 65535, "1000"},
    {"packet", SP_FIELD_SIZE, AT(sp_cloud_limits, packet), 0, 256 * MIB, "0"},
    {"topic_levels", SP_FIELD_U32, AT(sp_cloud_limits, topic_levels), 0, 128, "0"},
    {"topic_bytes", SP_FIELD_U32, AT(sp_cloud_limits, topic_bytes), 0, 65535, "0"},
};

static const struct sp_choice formats[] = {
    {"raw", SP_FORMAT_RAW}, {"senml-json", SP_FORMAT_SENML_JSON}, {"json", SP_FORMAT_JSON}, {NULL, 0}};

static const struct sp_field route_fields[] = {
    {"from", SP_FIELD_TEXT, AT(sp_route_config, from), .max = 1024, .required = true},
    {"cloud", SP_FIELD_CUSTOM, .required = true, .read = read_template, .print = print_template},
    {"format", SP_FIELD_CHOICE, AT(sp_route_config, format), .fallback = "raw", .choices = formats},
    {"qos", SP_FIELD_U8, AT(sp_route_config, qos), 0, 1, "1"},
};

static const struct sp_field command_fields[] = {
    {"cloud", SP_FIELD_TEXT, AT(sp_command_config, cloud), .max = 1024, .required = true},
    {"to", SP_FIELD_TEXT, AT(sp_command_config, to), .max = 1024, .required = true},
};

static const struct sp_field fusion_fields[] = {
    {"name", SP_FIELD_TEXT, AT(sp_fusion_config, name), .max = 64, .required = true, .read = check_identity},
    {"inputs", SP_FIELD_TEXT, AT(sp_fusion_config, inputs), .max = 1024, .required = true},
    {"window", SP_FIELD_MILLIS, AT(sp_fusion_config, window_ms), 100, DAY * 1000ULL, "10s"},
    {"late", SP_FIELD_MILLIS, AT(sp_fusion_config, late_ms), 0, DAY * 1000ULL, "2s"},
    {"declassify", SP_FIELD_BOOL, AT(sp_fusion_config, declassify), .fallback = "false"},
    {"cloud", SP_FIELD_TEXT, AT(sp_fusion_config, cloud), .max = 1024},
};

static const struct sp_field limit_fields[] = {
    {"handshakes", SP_FIELD_U32, AT(sp_limits_config, handshakes), 1, 65536, "256"},
    {"handshakes_per_address", SP_FIELD_U32, AT(sp_limits_config, handshakes_per_address), 1, 65536, "64"},
    {"handshakes_per_identity", SP_FIELD_U32, AT(sp_limits_config, handshakes_per_identity), 1, 65536, "8"},
    {"waiting", SP_FIELD_U32, AT(sp_limits_config, waiting), 1, 1000000, "8192"},
    {"waiting_per_address", SP_FIELD_U32, AT(sp_limits_config, waiting_per_address), 1, 1000000, "2048"},
    {"connections_per_address", SP_FIELD_U32, AT(sp_limits_config, connections_per_address), 1, 10000000, "20000"},
    {"connects_per_second", SP_FIELD_U32, AT(sp_limits_config, connects_per_second), 1, 1000000, "500"},
    {"connects_burst", SP_FIELD_U32, AT(sp_limits_config, connects_burst), 1, 1000000, "2000"},
    {"crowded_timeout", SP_FIELD_MILLIS, AT(sp_limits_config, crowded_timeout_ms), 100, 300000, "1s"},
    {"connections", SP_FIELD_U32, AT(sp_limits_config, connections), 1, 10000000, "100000"},
    {"descriptor_reserve", SP_FIELD_U32, AT(sp_limits_config, descriptor_reserve), 16, 65536, "64"},
    {"turn_messages", SP_FIELD_U32, AT(sp_limits_config, turn_messages), 1, 65536, "256"},
    {"message_rate", SP_FIELD_U32, AT(sp_limits_config, message_rate), 0, 1000000, "50"},
    {"message_burst", SP_FIELD_U32, AT(sp_limits_config, message_burst), 1, 1000000, "200"},
    {"log_lines", SP_FIELD_U32, AT(sp_limits_config, log_lines), 0, 1000000, "10"},
    {"preauth_timeout", SP_FIELD_MILLIS, AT(sp_limits_config, preauth_timeout_ms), 100, 300000, "10s"},
    {"tls_timeout", SP_FIELD_MILLIS, AT(sp_limits_config, tls_timeout_ms), 100, 300000, "5s"},
    {"connect_timeout", SP_FIELD_MILLIS, AT(sp_limits_config, connect_timeout_ms), 100, 300000, "2s"},
    {"packet", SP_FIELD_SIZE, AT(sp_limits_config, packet), 4608, 16 * MIB, "16KiB"},
    {"receive_maximum", SP_FIELD_U32, AT(sp_limits_config, receive_maximum), 1, 65535, "16"},
    {"in_flight", SP_FIELD_U32, AT(sp_limits_config, in_flight), 1, 65535, "64"},
    {"session_queue", SP_FIELD_SIZE, AT(sp_limits_config, session_queue_bytes), 1 * KIB, 1 * GIB, "64KiB"},
    {"session_queues", SP_FIELD_SIZE64, AT(sp_limits_config, session_queues_bytes), 64 * KIB, 16384 * GIB, "256MiB"},
    {"sessions", SP_FIELD_SIZE64, AT(sp_limits_config, sessions_bytes), 64 * KIB, 16384 * GIB, "256MiB"},
    {"session_expiry", SP_FIELD_SECONDS, AT(sp_limits_config, session_expiry_s), 0, 365 * DAY, "7d"},
    {"write_buffer", SP_FIELD_SIZE, AT(sp_limits_config, write_buffer), 4 * KIB, 1 * GIB, "256KiB"},
    {"write_buffers", SP_FIELD_SIZE64, AT(sp_limits_config, write_buffers), 64 * KIB, 16384 * GIB, "64MiB"},
    {"stall_timeout", SP_FIELD_MILLIS, AT(sp_limits_config, stall_timeout_ms), 1000, 300000, "10s"},
    {"keep_alive_min", SP_FIELD_SECONDS, AT(sp_limits_config, keep_alive_min_s), 1, 65535, "10s"},
    {"keep_alive_max", SP_FIELD_SECONDS, AT(sp_limits_config, keep_alive_max_s), 1, 65535, "30m"},
    {"topic_levels", SP_FIELD_U32, AT(sp_limits_config, topic_levels), 3, 128, "16"},
    {"topic_bytes", SP_FIELD_U32, AT(sp_limits_config, topic_bytes), 80, 65535, "256"},
    {"subscriptions", SP_FIELD_U32, AT(sp_limits_config, subscriptions), 1, 32768, "16"},
    {"user_properties", SP_FIELD_U32, AT(sp_limits_config, user_properties), 0, 1024, "8"},
    {"user_property_bytes", SP_FIELD_SIZE, AT(sp_limits_config, user_property_bytes), 0, 64 * KIB, "1KiB"},
    {"retained", SP_FIELD_U32, AT(sp_limits_config, retained), 0, 1000000, "10000"},
    {"retained_bytes", SP_FIELD_SIZE, AT(sp_limits_config, retained_bytes), 0, 3 * GIB, "16MiB"},
    {"retained_device", SP_FIELD_U32, AT(sp_limits_config, retained_device), 0, 1000000, "1000"},
    {"retained_device_bytes", SP_FIELD_SIZE, AT(sp_limits_config, retained_device_bytes), 0, 3 * GIB, "1MiB"},
    {"journal", SP_FIELD_SIZE64, AT(sp_limits_config, journal_bytes), 64 * KIB, 16384 * GIB, "1GiB"},
    {"journal_device", SP_FIELD_SIZE64, AT(sp_limits_config, journal_device_bytes), 16 * KIB, 16384 * GIB, "64MiB"},
    {"sensors", SP_FIELD_U32, AT(sp_limits_config, sensors), 0, 10000000, "100000"},
    {"history", SP_FIELD_U32, AT(sp_limits_config, history), 1, 100000, "32"},
    {"attempts", SP_FIELD_U32, AT(sp_limits_config, attempts), 1, 1000000, "30"},
};
/* clang-format on */

const struct sp_schema sp_schema_gateway = SP_SCHEMA("gateway", gateway_fields);
const struct sp_schema sp_schema_listener = SP_SCHEMA("listeners", listener_fields);
const struct sp_schema sp_schema_role = SP_SCHEMA("roles", role_fields);
const struct sp_schema sp_schema_attestation = SP_SCHEMA("attestation", attestation_fields);
const struct sp_schema sp_schema_cloud = SP_SCHEMA("cloud", cloud_fields);
const struct sp_schema sp_schema_cloud_limits = SP_SCHEMA("cloud.limits", cloud_limit_fields);
const struct sp_schema sp_schema_route = SP_SCHEMA("routes", route_fields);
const struct sp_schema sp_schema_command = SP_SCHEMA("commands", command_fields);
const struct sp_schema sp_schema_fusion = SP_SCHEMA("fusions", fusion_fields);
const struct sp_schema sp_schema_limits = SP_SCHEMA("limits", limit_fields);
