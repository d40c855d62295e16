/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The commands' filters on the first link. What was asked for on this connection is kept as a list, and compared with
 * what the configuration wants: so a reload touches only what changed, and no retained command comes twice.
 */
#include "gateway/store/uplink_internal.h"

#include <stdlib.h>
#include <string.h>

#include "gateway/log/log.h"

#define PACKET_FILTERS 8U /* per SUBSCRIBE: as many as AWS takes */

static bool is_wanted(const struct sp_config *config, const char *filter)
{
    for (size_t i = 0; i < config->command_count; i++) {
        if (strcmp(config->commands[i].cloud, filter) == 0) {
            return true;
        }
    }
    return false;
}

static bool is_asked_for(const struct sp_uplink *l, const char *filter)
{
    for (size_t i = 0; i < l->filter_count; i++) {
        if (strcmp(l->filters[i], filter) == 0) {
            return true;
        }
    }
    return false;
}

static bool remember(struct sp_uplink *l, struct sp_view filter)
{
    char *copy = strndup((const char *)filter.ptr, filter.len);
    char **grown = realloc(l->filters, (l->filter_count + 1) * sizeof(*grown));
    l->filters = grown != NULL ? grown : l->filters;
    if (copy == NULL || grown == NULL) {
        free(copy);
        return false;
    }
    grown[l->filter_count++] = copy;
    return true;
}

void sp_uplink_forget_filters(struct sp_uplink *l)
{
    while (l->filter_count > 0) {
        free(l->filters[--l->filter_count]);
    }
    free(l->filters);
    l->filters = NULL;
    l->subscribed = false;
}

/* false: it did not go now. A refusal by our own encoder is told, and not tried again. */
static bool written(const struct sp_uplink *l, enum sp_err err)
{
    if (err == SP_ERR_AGAIN || err == SP_ERR_SPACE) {
        return false;
    }
    if (err != SP_OK) {
        sp_log_warn(SP_EVENT("commands_refused"), SP_F_STR("client_id", l->client_id),
                    SP_F_ERR(err));
    }
    return true;
}

/* @return false: not everything could be written now. */
static bool drop_old(struct sp_uplink *l, uint64_t now, struct sp_writer *w)
{
    size_t i = 0;
    while (i < l->filter_count) {
        char *filter = l->filters[i];
        if (is_wanted(l->env->config, filter)) {
            i++;
            continue;
        }
        const struct sp_mqtt_filter gone = {.filter = sp_view_str(filter)};
        uint16_t id;
        if (!written(l, sp_mqtt_client_unsubscribe(&l->mqtt, now, &gone, 1, w, &id))) {
            return false;
        }
        l->filters[i] = l->filters[--l->filter_count];
        free(filter);
    }
    return true;
}

/* The next few that are wanted and not asked for. @return How many. */
static size_t next_new(const struct sp_uplink *l, struct sp_mqtt_filter *out)
{
    const struct sp_config *config = l->env->config;
    size_t count = 0;
    for (size_t i = 0; i < config->command_count && count < PACKET_FILTERS; i++) {
        if (!is_asked_for(l, config->commands[i].cloud)) {
            out[count++] =
                (struct sp_mqtt_filter){.filter = sp_view_str(config->commands[i].cloud), .qos = 1};
        }
    }
    return count;
}

static bool add_new(struct sp_uplink *l, uint64_t now, struct sp_writer *w)
{
    struct sp_mqtt_filter filters[PACKET_FILTERS];
    size_t count;
    while ((count = next_new(l, filters)) > 0) {
        uint16_t id;
        if (!written(l, sp_mqtt_client_subscribe(&l->mqtt, now, filters, count, w, &id))) {
            return false;
        }
        for (size_t i = 0; i < count; i++) {
            if (!remember(l, filters[i].filter)) {
                return false; /* asked for again at the next turn: no harm */
            }
        }
    }
    return true;
}

void sp_uplink_subscribe(struct sp_uplink *l, uint64_t now, struct sp_writer *w)
{
    if (l->index == 0 && !l->subscribed) {
        l->subscribed = drop_old(l, now, w) && add_new(l, now, w);
    }
}
