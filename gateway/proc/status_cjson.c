/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <cjson/cJSON.h>
#include <stdio.h>
#include <unistd.h>

#include "gateway/metrics/metrics.h"
#include "gateway/proc/parent_internal.h"

static const char *state_name(const struct sp_parent *parent)
{
    if (parent->upgrade.step != SP_UPGRADE_NONE && parent->state != SP_PARENT_STOPPING) {
        return "upgrading";
    }
    switch (parent->state) {
    case SP_PARENT_STARTING:
        return "starting";
    case SP_PARENT_UPGRADING:
        return "upgrading";
    case SP_PARENT_SERVING:
        return sp_children_all_ready(parent) ? "serving" : "degraded";
    case SP_PARENT_STOPPING:
        return "stopping";
    }
    return "unknown";
}

static const char *child_state(const struct sp_offspring *o)
{
    if (o->pid == 0) {
        return "down";
    }
    return o->ready ? "ready" : "starting";
}

static void add_metric(cJSON *to, const char *name, enum sp_metric metric)
{
    cJSON_AddNumberToObject(to, name, (double)sp_metric_read(metric));
}

static void add_processes(cJSON *doc, const struct sp_parent *parent)
{
    cJSON *all = cJSON_AddObjectToObject(doc, "processes");
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        const struct sp_offspring *o = &parent->children[p];
        cJSON *one = cJSON_AddObjectToObject(all, sp_process_name((enum sp_process)p));
        cJSON_AddNumberToObject(one, "pid", o->pid);
        cJSON_AddNumberToObject(one, "restarts", o->restarts);
        cJSON_AddStringToObject(one, "state", child_state(o));
    }
}

static void add_listeners(cJSON *doc, const struct sp_parent *parent)
{
    cJSON *all = cJSON_AddArrayToObject(doc, "listeners");
    for (size_t i = 0; i < parent->listener_count; i++) {
        const struct sp_listener_config *l = &parent->config->listeners[i];
        cJSON *one = cJSON_CreateObject();
        cJSON_AddStringToObject(one, "host", l->host);
        cJSON_AddNumberToObject(one, "port", parent->ports[i]);
        cJSON_AddItemToArray(all, one);
    }
}

static void add_cloud(cJSON *doc, const struct sp_config *config)
{
    cJSON *cloud = cJSON_AddObjectToObject(doc, "cloud");
    cJSON_AddBoolToObject(cloud, "configured", config->cloud.enabled);
    if (config->cloud.enabled) {
        char endpoint[300];
        (void)snprintf(endpoint, sizeof(endpoint), "%s:%u", config->cloud.host, config->cloud.port);
        cJSON_AddStringToObject(cloud, "endpoint", endpoint);
        cJSON_AddNumberToObject(cloud, "links", config->cloud.connections);
        add_metric(cloud, "connected", SP_M_CLOUD_CONNECTED);
    }
}

static void add_metrics(cJSON *doc)
{
    cJSON *all = cJSON_AddObjectToObject(doc, "metrics");
    for (unsigned m = 0; m < SP_METRIC_COUNT; m++) {
        char name[96];
        sp_metric_name((enum sp_metric)m, name, sizeof(name));
        add_metric(all, name, (enum sp_metric)m);
    }
}

/* In all loops together, as the gauges are. */
static void add_limits(cJSON *doc, const struct sp_config *config)
{
    const struct sp_limits_config *limits = &config->limits;
    cJSON *all = cJSON_AddObjectToObject(doc, "limits");
    cJSON_AddNumberToObject(all, "handshakes", (double)limits->handshakes * config->threads);
    cJSON_AddNumberToObject(all, "waiting", (double)limits->waiting * config->threads);
    cJSON_AddNumberToObject(all, "connections", limits->connections);
    cJSON_AddNumberToObject(all, "write_buffers", (double)limits->write_buffers);
    cJSON_AddNumberToObject(all, "session_queues", (double)limits->session_queues_bytes);
}

char *sp_parent_status(const struct sp_parent *parent)
{
    cJSON *doc = cJSON_CreateObject();
    cJSON_AddStringToObject(doc, "version", SP_VERSION);
    cJSON_AddStringToObject(doc, "gateway", parent->config->id);
    cJSON_AddStringToObject(doc, "state", state_name(parent));
    cJSON_AddNumberToObject(doc, "pid", getpid());
    cJSON_AddNumberToObject(doc, "uptime_seconds",
                            (double)((sp_parent_now() - parent->started_ms) / 1000U));
    add_processes(doc, parent);
    add_listeners(doc, parent);
    cJSON *upgrades = cJSON_AddObjectToObject(doc, "upgrades");
    cJSON_AddNumberToObject(upgrades, "asked", parent->upgrade.attempts);
    cJSON_AddBoolToObject(upgrades, "under_way", parent->upgrade.step != SP_UPGRADE_NONE);
    cJSON_AddStringToObject(upgrades, "result", parent->upgrade.result);
    add_cloud(doc, parent->config);
    cJSON *journal = cJSON_AddObjectToObject(doc, "journal");
    add_metric(journal, "messages", SP_M_JOURNAL_DEPTH);
    add_metric(journal, "bytes", SP_M_JOURNAL_BYTES);
    cJSON_AddNumberToObject(journal, "limit_bytes", (double)parent->config->limits.journal_bytes);
    add_metric(journal, "oldest_seconds", SP_M_JOURNAL_OLDEST);
    add_limits(doc, parent->config);
    add_metrics(doc);
    char *text = cJSON_Print(doc);
    cJSON_Delete(doc);
    return text;
}
