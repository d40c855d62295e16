/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What no single key can know: defaults that depend on others, contradictions, and the cloud's limits. */
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "gateway/config/config_internal.h"
#include "gateway/config/route_map.h"
#include "gateway/tls/suites.h"
#include "libs/link/link.h"
#include "libs/mqtt/topic.h"

#define THREADS_MAX 62U /* gate's slots in gateway/metrics */

struct check {
    struct sp_config_reader *reader;
    const struct sp_node *root;
    struct sp_config *config;
};

/* ---- defaults ---- */

static bool ends_with(const char *text, const char *end)
{
    size_t a = strlen(text);
    size_t b = strlen(end);
    return a >= b && strcasecmp(text + a - b, end) == 0;
}

static void fill_cloud(struct check *c)
{
    struct sp_cloud_config *cloud = &c->config->cloud;
    const struct sp_node *node = sp_node_find(c->root, "cloud");
    if (!cloud->enabled || cloud->host == NULL) {
        return;
    }
    if (sp_node_find(node, "alpn") == NULL) {
        cloud->alpn = cloud->port == 443;
    }
    if (cloud->client_id == NULL && c->config->id != NULL) {
        cloud->client_id = strdup(c->config->id);
    }
    if (sp_node_find(node, "limits") == NULL) {
        bool aws =
            ends_with(cloud->host, ".amazonaws.com") || ends_with(cloud->host, ".amazonaws.com.cn");
        sp_cloud_limits_named(aws ? "aws" : "none", &cloud->limits);
    }
}

static void fill_defaults(struct check *c)
{
    struct sp_config *config = c->config;
    if (config->threads == 0) {
        long cores = sysconf(_SC_NPROCESSORS_ONLN);
        config->threads = cores < 1 ? 1U : (uint32_t)cores;
        config->threads = config->threads > THREADS_MAX ? THREADS_MAX : config->threads;
    }
    if (config->master_key == NULL && config->state_dir != NULL &&
        asprintf(&config->master_key, "%s/master.key", config->state_dir) < 0) {
        config->master_key = NULL;
        SP_FAULT(c->reader, c->root, "out of memory");
    }
    fill_cloud(c);
}

/* ---- listeners ---- */

static void check_listener(struct check *c, size_t index)
{
    const struct sp_listener_config *l = &c->config->listeners[index];
    const struct sp_node *node = sp_node_at(sp_node_find(c->root, "listeners"), index);
    if ((l->certificate == NULL) != (l->key == NULL)) {
        SP_FAULT(c->reader, node, "`certificate` and `key` go together: one is missing");
    }
    for (size_t i = 0; l->suite_names != NULL && l->suite_names[i] != NULL; i++) {
        if (strncmp(l->suite_names[i], "TLS_RSA_PSK_", 12) == 0 && l->certificate == NULL) {
            SP_FAULT(c->reader, sp_node_find(node, "suites"),
                     "`%s` needs a `certificate` and a `key`", l->suite_names[i]);
        }
    }
    for (size_t i = 0; i < index && l->host != NULL && l->port != 0; i++) {
        const struct sp_listener_config *other = &c->config->listeners[i];
        if (other->host != NULL && other->port == l->port && strcmp(other->host, l->host) == 0) {
            SP_FAULT(c->reader, node, "`address: %s` is taken by an earlier listener", l->address);
        }
    }
}

static void check_listeners(struct check *c)
{
    const struct sp_node *node = sp_node_find(c->root, "listeners");
    if (node != NULL && node->kind == SP_NODE_LIST && node->count == 0) {
        SP_FAULT(c->reader, node, "`listeners` is empty: devices need at least one door");
    }
    if (node != NULL && c->config->listener_count > 16) {
        SP_FAULT(c->reader, node, "more than 16 listeners");
    }
    for (size_t i = 0; i < c->config->listener_count; i++) {
        check_listener(c, i);
    }
}

/* ---- templates ---- */

static const struct {
    const char *name;
    bool in_role;
    bool in_route;
    bool in_command;
    bool in_fusion;
} placeholders[] = {
    {"{gateway}", false, true, true, true},
    {"{device}", true, true, false, false},
    {"{rest}", false, true, true, false},
};

enum place { IN_ROLE, IN_ROUTE, IN_COMMAND, IN_FUSION };

static bool allowed_in(size_t placeholder, enum place place)
{
    switch (place) {
    case IN_ROLE:
        return placeholders[placeholder].in_role;
    case IN_ROUTE:
        return placeholders[placeholder].in_route;
    case IN_COMMAND:
        return placeholders[placeholder].in_command;
    case IN_FUSION:
        return placeholders[placeholder].in_fusion;
    }
    return false;
}

/* Every `{…}` is one that has a meaning here. */
static bool check_placeholders(struct check *c, const struct sp_node *node, const char *text,
                               enum place place)
{
    const char *known[4] = {0};
    size_t count = 0;
    for (size_t i = 0; i < sizeof(placeholders) / sizeof(placeholders[0]); i++) {
        if (allowed_in(i, place)) {
            known[count++] = placeholders[i].name;
        }
    }
    for (const char *at = strpbrk(text, "{}"); at != NULL; at = strpbrk(at, "{}")) {
        size_t i = 0;
        while (i < count && strncmp(at, known[i], strlen(known[i])) != 0) {
            i++;
        }
        if (i == count) {
            char word[40];
            (void)snprintf(word, sizeof(word), "%.*s", (int)(strcspn(at, "}") + 1U), at);
            sp_config_unknown(c->reader, node, "placeholder", word, known);
            return false;
        }
        at += strlen(known[i]);
    }
    return true;
}

/* `text` with every placeholder replaced; NULL when there is no memory. */
static char *fill(const char *text, const char *gateway, const char *device, const char *rest)
{
    const char *const values[][2] = {
        {"{gateway}", gateway}, {"{device}", device}, {"{rest}", rest}};
    char *out = NULL;
    size_t len = 0;
    FILE *stream = open_memstream(&out, &len);
    if (stream == NULL) {
        return NULL;
    }
    while (*text != '\0') {
        size_t i = 0;
        while (i < 3 && strncmp(text, values[i][0], strlen(values[i][0])) != 0) {
            i++;
        }
        if (i < 3) {
            (void)fputs(values[i][1], stream);
            text += strlen(values[i][0]);
        } else {
            (void)fputc(*text++, stream);
        }
    }
    return fclose(stream) == 0 ? out : NULL;
}

static bool is_private(const char *topic)
{
    return strncmp(topic, SP_LINK_TOPIC_PREFIX, strlen(SP_LINK_TOPIC_PREFIX)) == 0 ||
           strcmp(topic, "$sp") == 0;
}

/* A filter that devices or the cloud are held against; named when it is not one. */
static bool check_filter(struct check *c, const struct sp_node *node, const char *filter)
{
    if (strncmp(filter, "$share/", 7) == 0) {
        SP_FAULT(c->reader, node, "`%s`: `$share/…` is for subscribers, not for a filter here",
                 filter);
    } else if (!sp_topic_filter_valid(sp_view_str(filter))) {
        SP_FAULT(c->reader, node,
                 "`%s` is not a topic filter: `+` stands alone on its level, `#` alone on the last",
                 filter);
    } else if (is_private(filter)) {
        SP_FAULT(c->reader, node, "`%s`: `$sp/` is between the gateway and one device", filter);
    } else {
        return true;
    }
    return false;
}

/* ---- roles ---- */

static void check_role_filters(struct check *c, const struct sp_node *role, const char *key)
{
    const struct sp_node *list = sp_node_find(role, key);
    for (const struct sp_node *n = list != NULL ? list->first : NULL; n != NULL; n = n->next) {
        if (n->kind != SP_NODE_SCALAR || !check_placeholders(c, n, n->text, IN_ROLE)) {
            continue;
        }
        char *filled = fill(n->text, "", "device", "");
        if (filled != NULL) {
            (void)check_filter(c, n, filled);
        }
        free(filled);
    }
}

static void check_roles(struct check *c)
{
    const struct sp_node *roles = sp_node_find(c->root, "roles");
    if (roles == NULL || roles->kind != SP_NODE_MAP) {
        return;
    }
    for (const struct sp_node *n = roles->first; n != NULL; n = n->next) {
        if (strcmp(n->key, "sensor") == 0 || strcmp(n->key, "monitor") == 0) {
            SP_FAULT(c->reader, n, "the role `%s` is built in: choose another name", n->key);
        } else if (!sp_link_identity_valid(sp_view_str(n->key)) ||
                   strlen(n->key) >= SP_ROLE_NAME_MAX) {
            SP_FAULT(c->reader, n,
                     "`%s` is not a role's name: a letter or digit, then up to 30 of letters, "
                     "digits, `.`, `_`, `-`",
                     n->key);
        }
        check_role_filters(c, n, "publish");
        check_role_filters(c, n, "subscribe");
    }
}

/* ---- routes and commands ---- */

static bool ends_in_wildcard(const char *filter)
{
    return ends_with(filter, "#");
}

/* The topic that a template makes, at its shortest, against what the cloud takes. */
static void check_cloud_topic(struct check *c, const struct sp_node *node, const char *shortest,
                              size_t longest)
{
    const struct sp_cloud_limits *limits = &c->config->cloud.limits;
    size_t levels = sp_topic_levels(sp_view_str(shortest));
    if (limits->topic_levels > 0 && levels > limits->topic_levels) {
        SP_FAULT(c->reader, node, "`%s` has at least %zu levels, the cloud takes %u", node->text,
                 levels, limits->topic_levels);
    }
    if (limits->topic_bytes > 0 && longest > limits->topic_bytes) {
        SP_FAULT(c->reader, node, "`%s` can be %zu bytes long, the cloud takes %u", node->text,
                 longest, limits->topic_bytes);
    }
}

static void check_route_template(struct check *c, const struct sp_node *node, const char *from)
{
    static const char longest_device[] =
        "0123456789012345678901234567890123456789012345678901234567890123";
    const char *gateway = c->config->id != NULL ? c->config->id : "gateway";
    if (!check_placeholders(c, node, node->text, IN_ROUTE)) {
        return;
    }
    if (strstr(node->text, "{rest}") != NULL && from != NULL && !ends_in_wildcard(from)) {
        SP_FAULT(c->reader, node, "`{rest}` is what `#` stands for, but `from: %s` has none", from);
    }
    char *shortest = fill(node->text, gateway, "d", "r");
    char *longest = fill(node->text, gateway, longest_device, "r");
    if (shortest == NULL || longest == NULL) {
        SP_FAULT(c->reader, node, "out of memory");
    } else if (!sp_topic_name_valid(sp_view_str(shortest)) || shortest[0] == '/') {
        SP_FAULT(c->reader, node, "`%s` is not a topic to publish to", node->text);
    } else if (is_private(shortest)) {
        SP_FAULT(c->reader, node, "`$sp/` never leaves the gateway");
    } else {
        check_cloud_topic(c, node, shortest, strlen(longest));
    }
    free(shortest);
    free(longest);
}

static void check_fusion_cloud(struct check *c, const struct sp_node *node, const char *cloud)
{
    const char *gateway = c->config->id != NULL ? c->config->id : "gateway";
    if (!c->config->cloud.enabled && sp_node_find(c->root, "cloud") == NULL) {
        SP_FAULT(c->reader, node, "a fusion for the cloud, but there is no section `cloud`");
    }
    if (!check_placeholders(c, node, cloud, IN_FUSION)) {
        return;
    }
    char *topic = fill(cloud, gateway, "", "");
    if (topic == NULL) {
        SP_FAULT(c->reader, node, "out of memory");
    } else if (!sp_topic_name_valid(sp_view_str(topic)) || topic[0] == '/' || is_private(topic)) {
        SP_FAULT(c->reader, node, "`%s` is not a topic to publish to", node->text);
    } else {
        check_cloud_topic(c, node, topic, strlen(topic));
    }
    free(topic);
}

static void check_fusion(struct check *c, size_t index)
{
    const struct sp_fusion_config *fusion = &c->config->fusions[index];
    const struct sp_node *node = sp_node_at(sp_node_find(c->root, "fusions"), index);
    const struct sp_node *inputs = sp_node_find(node, "inputs");
    if (fusion->late_ms > fusion->window_ms) {
        const struct sp_node *late = sp_node_find(node, "late");
        SP_FAULT(c->reader, late != NULL ? late : node, "`late` is longer than `window`");
    }
    if (fusion->inputs != NULL && check_filter(c, inputs, fusion->inputs) &&
        !sp_topic_covers(SP_VIEW_LIT("dt/+/climate"), sp_view_str(fusion->inputs))) {
        SP_FAULT(c->reader, inputs, "only sensor records, dt/+/climate, can be fused");
    }
    if (fusion->cloud != NULL) {
        check_fusion_cloud(c, sp_node_find(node, "cloud"), fusion->cloud);
    }
    for (size_t i = 0; i < index && fusion->name != NULL; i++) {
        const char *earlier = c->config->fusions[i].name;
        if (earlier != NULL && strcmp(earlier, fusion->name) == 0) {
            SP_FAULT(c->reader, sp_node_find(node, "name"), "`%s` is taken by an earlier fusion",
                     fusion->name);
        }
    }
}

static void check_route(struct check *c, size_t index)
{
    const struct sp_route_config *route = &c->config->routes[index];
    const struct sp_node *routes = sp_node_find(c->root, "routes");
    const struct sp_node *node = sp_node_at(routes, index);
    const struct sp_node *from = sp_node_find(node, "from");
    if (route->cloud != NULL) {
        check_route_template(c, sp_node_find(node, "cloud"), route->from);
        if (!c->config->cloud.enabled && sp_node_find(c->root, "cloud") == NULL) {
            SP_FAULT(c->reader, node, "a route to the cloud, but there is no section `cloud`");
        }
    }
    if (route->from == NULL || !check_filter(c, from, route->from)) {
        return;
    }
    struct sp_view filter = sp_view_str(route->from);
    if (route->format != SP_FORMAT_RAW && !sp_topic_covers(SP_VIEW_LIT("dt/+/climate"), filter)) {
        SP_FAULT(c->reader, sp_node_find(node, "format"),
                 "only sensor records, dt/+/climate, can be sent in another format than raw");
    }
    for (size_t i = 0; i < index; i++) {
        const char *earlier = c->config->routes[i].from;
        if (earlier != NULL && sp_topic_filter_valid(sp_view_str(earlier)) &&
            sp_topic_covers(sp_view_str(earlier), filter)) {
            SP_FAULT(c->reader, from, "never reached: `from: %s` in line %zu takes all of it",
                     earlier, sp_node_at(routes, i)->line);
            return;
        }
    }
}

static void check_command(struct check *c, size_t index)
{
    struct sp_command_config *command = &c->config->commands[index];
    const struct sp_node *node = sp_node_at(sp_node_find(c->root, "commands"), index);
    const struct sp_node *cloud = sp_node_find(node, "cloud");
    const struct sp_node *to = sp_node_find(node, "to");
    const char *gateway = c->config->id != NULL ? c->config->id : "gateway";
    if (!c->config->cloud.enabled && sp_node_find(c->root, "cloud") == NULL) {
        SP_FAULT(c->reader, node, "commands come from the cloud, but there is no section `cloud`");
    }
    if (command->cloud == NULL || command->to == NULL) {
        return;
    }
    if (strstr(command->cloud, "{rest}") != NULL) {
        SP_FAULT(c->reader, cloud, "`{rest}` belongs into `to`: it is what `#` stands for here");
        return;
    }
    if (!check_placeholders(c, cloud, command->cloud, IN_COMMAND) ||
        !check_placeholders(c, to, command->to, IN_COMMAND)) {
        return;
    }
    char *filled = fill(command->cloud, gateway, "", "");
    if (filled != NULL) {
        free(command->cloud);
        command->cloud = filled;
    }
    if (check_filter(c, cloud, command->cloud)) {
        check_cloud_topic(c, cloud, command->cloud, strlen(command->cloud));
    }
    if (strstr(command->to, "{rest}") != NULL && !ends_in_wildcard(command->cloud)) {
        SP_FAULT(c->reader, to, "`{rest}` is what `#` stands for, but `cloud: %s` has none",
                 command->cloud);
    }
    char *shortest = fill(command->to, gateway, "", "r");
    if (shortest != NULL && (!sp_topic_name_valid(sp_view_str(shortest)) || shortest[0] == '$')) {
        SP_FAULT(c->reader, to, "`%s` is not a topic to publish to", command->to);
    }
    free(shortest);
    for (size_t i = 0; i < index; i++) {
        const char *earlier = c->config->commands[i].cloud;
        if (earlier != NULL && strcmp(earlier, command->cloud) == 0) {
            SP_FAULT(c->reader, cloud, "`%s` is taken by an earlier command", command->cloud);
        }
    }
}

/* ---- limits ---- */

struct pair_rule {
    const char *small;
    size_t small_offset;
    const char *large;
    size_t large_offset;
};

#define RULE(a, a_member, b, b_member)                     \
    {                                                      \
        a, offsetof(struct sp_limits_config, a_member), b, \
            offsetof(struct sp_limits_config, b_member)    \
    }

static uint32_t number_at(const struct sp_limits_config *limits, size_t offset)
{
    uint32_t value;
    memcpy(&value, (const uint8_t *)limits + offset, sizeof(value));
    return value;
}

static void check_limits(struct check *c)
{
    static const struct pair_rule rules[] = {
        RULE("keep_alive_min", keep_alive_min_s, "keep_alive_max", keep_alive_max_s),
        RULE("tls_timeout", tls_timeout_ms, "preauth_timeout", preauth_timeout_ms),
        RULE("connect_timeout", connect_timeout_ms, "preauth_timeout", preauth_timeout_ms),
    };
    const struct sp_limits_config *limits = &c->config->limits;
    const struct sp_node *node = sp_node_find(c->root, "limits");
    for (size_t i = 0; node != NULL && i < sizeof(rules) / sizeof(rules[0]); i++) {
        if (number_at(limits, rules[i].small_offset) > number_at(limits, rules[i].large_offset)) {
            const struct sp_node *at = sp_node_find(node, rules[i].small);
            SP_FAULT(c->reader, at != NULL ? at : node, "`%s` is larger than `%s`", rules[i].small,
                     rules[i].large);
        }
    }
    const struct sp_cloud_config *cloud = &c->config->cloud;
    if (cloud->enabled && cloud->limits.packet > 0 && c->config->route_count > 0 &&
        limits->packet > cloud->limits.packet) {
        const struct sp_node *at = sp_node_find(node, "packet");
        SP_FAULT(c->reader, at != NULL ? at : c->root,
                 "`limits: packet` lets devices send %u bytes, the cloud takes %u", limits->packet,
                 cloud->limits.packet);
    }
}

void sp_config_check(struct sp_config_reader *reader, const struct sp_node *root,
                     struct sp_config *config)
{
    struct check c = {.reader = reader, .root = root, .config = config};
    fill_defaults(&c);
    check_listeners(&c);
    check_roles(&c);
    for (size_t i = 0; i < config->route_count; i++) {
        check_route(&c, i);
    }
    for (size_t i = 0; i < config->command_count; i++) {
        check_command(&c, i);
    }
    for (size_t i = 0; i < config->fusion_count; i++) {
        check_fusion(&c, i);
    }
    check_limits(&c);
}
