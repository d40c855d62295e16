/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/cloud.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/store/rest.h"
#include "gateway/store/uplink.h"

#define EVENTS_MAX      32
#define ID_HANDOFF      UINT32_MAX
#define ID_RESOLVER     (UINT32_MAX - 1U)
#define BUSY_US         10000U /* a turn so soon after the one before: there is traffic … */
#define REST_US         4000U  /* … and turns start so far apart */
#define BACKLOG_ROWS    64U    /* so many wait for acknowledgements of others … */
#define REST_BACKLOG_US 50U    /* … who come by sooner then, this or some more */

struct sp_cloud {
    struct sp_uplink_env env;
    struct sp_config *config; /* a reference of its own to env.config */
    pthread_t thread;
    bool started;
    bool stopping;
    uint64_t stop_at;
    uint64_t backlog_us; /* between turns with a backlog; REST_BACKLOG_US to REST_US */
    size_t flew;         /* rows that waited for acknowledgements when the last turn ended */
    uint32_t count;
    struct sp_uplink *links[];
};

static bool watch(const struct sp_cloud *c, int fd, uint32_t id)
{
    struct epoll_event event = {.events = EPOLLIN, .data = {.u32 = id}};
    return epoll_ctl(c->env.epoll, EPOLL_CTL_ADD, fd, &event) == 0;
}

static enum sp_err make_links(struct sp_cloud *c)
{
    const struct sp_cloud_config *cloud = &c->env.config->cloud;
    SP_TRY(sp_resolver_create(cloud->host, cloud->port, &c->env.resolver));
    sp_resolver_warm_up(c->env.resolver);
    c->env.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (c->env.epoll < 0 || !watch(c, sp_handoff_cloud_fd(c->env.handoff), ID_HANDOFF) ||
        !watch(c, sp_resolver_fd(c->env.resolver), ID_RESOLVER)) {
        return SP_ERR_IO;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        SP_TRY(sp_uplink_create(&c->env, i, &c->links[i]));
    }
    return SP_OK;
}

static void use_config(struct sp_cloud *c, struct sp_config *config)
{
    c->config = config;
    c->env.config = config;
    c->env.office.gateway = config->id;
    c->env.office.limits = &config->cloud.limits;
}

enum sp_err sp_cloud_create(const struct sp_config *config, struct sp_handoff *handoff,
                            const char *epoch, char *why, size_t why_cap, struct sp_cloud **out)
{
    *out = NULL;
    (void)snprintf(why, why_cap, "out of memory");
    uint32_t count = config->cloud.connections;
    struct sp_cloud *c = calloc(1, sizeof(*c) + count * sizeof(c->links[0]));
    if (c == NULL) {
        return SP_ERR_NOMEM;
    }
    c->count = count;
    c->backlog_us = REST_BACKLOG_US;
    c->env.handoff = handoff;
    c->env.epoll = -1;
    c->env.office = (struct sp_letter_office){
        .epoch = epoch,
        .version = config->cloud.version == SP_CLOUD_MQTT_5 ? SP_MQTT_5 : SP_MQTT_311,
    };
    use_config(c, sp_config_hold(config));
    enum sp_err err = sp_tls_client_create(&config->cloud, why, why_cap, &c->env.tls);
    if (err == SP_OK) {
        err = make_links(c);
    }
    if (err != SP_OK) {
        sp_cloud_destroy(c);
        return err;
    }
    *out = c;
    return SP_OK;
}

void sp_cloud_destroy(struct sp_cloud *cloud)
{
    if (cloud == NULL) {
        return;
    }
    for (uint32_t i = 0; i < cloud->count; i++) {
        sp_uplink_destroy(cloud->links[i]);
    }
    sp_tls_client_destroy(cloud->env.tls);
    sp_resolver_destroy(cloud->env.resolver);
    sp_letter_room_deinit(&cloud->env.room);
    free(cloud->env.scratch);
    if (cloud->env.epoll >= 0) {
        (void)close(cloud->env.epoll);
    }
    sp_config_destroy(cloud->config);
    free(cloud);
}

static int patience(const struct sp_cloud *c, uint64_t now)
{
    uint64_t due = c->stopping ? c->stop_at : now + 60000U;
    for (uint32_t i = 0; i < c->count; i++) {
        uint64_t deadline = sp_uplink_deadline(c->links[i]);
        due = deadline < due ? deadline : due;
    }
    return due > now ? (int)(due - now) : 0;
}

static void dispatch(struct sp_cloud *c, const struct epoll_event *event, uint64_t now)
{
    if (event->data.u32 == ID_HANDOFF) {
        sp_handoff_clear_cloud_fd(c->env.handoff);
    } else if (event->data.u32 == ID_RESOLVER) {
        sp_resolver_clear(c->env.resolver);
    } else {
        sp_uplink_ready(c->links[event->data.u32], event->events, now);
    }
}

static void look_at_stop(struct sp_cloud *c, uint64_t now)
{
    uint32_t wait_ms = 0;
    if (!c->stopping && sp_handoff_stopping(c->env.handoff, &wait_ms)) {
        c->stopping = true;
        c->stop_at = now + wait_ms;
        for (uint32_t i = 0; i < c->count; i++) {
            sp_uplink_stop(c->links[i]);
        }
    }
}

static bool finished(const struct sp_cloud *c, uint64_t now)
{
    if (!c->stopping || now >= c->stop_at) {
        return c->stopping;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        if (!sp_uplink_is_quiet(c->links[i])) {
            return false;
        }
    }
    return true;
}

static void look_at_config(struct sp_cloud *c, uint64_t now)
{
    struct sp_config *config = sp_handoff_take_config(c->env.handoff);
    struct sp_config *old = c->config;
    if (config == NULL) {
        return;
    }
    use_config(c, config);
    for (uint32_t i = 0; i < c->count; i++) {
        sp_uplink_configure(c->links[i], &old->cloud.limits, now);
    }
    sp_config_destroy(old);
}

static void turn(struct sp_cloud *c, uint64_t now)
{
    uint64_t tag;
    uint8_t reason;
    while (sp_handoff_next_taken(c->env.handoff, &tag, &reason)) {
        sp_uplink_command_taken(c->links[0], tag, reason,
                                now); /* commands come over the first link only */
    }
    for (uint32_t i = 0; i < c->count; i++) {
        sp_uplink_turn(c->links[i], now);
    }
}

static size_t flying(const struct sp_cloud *c)
{
    size_t count = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        count += sp_uplink_flying(c->links[i]);
    }
    return count;
}

/* Acknowledgements come in numbers, and the cloud is not kept waiting for the next messages. */
static void adapt_rest(struct sp_cloud *c)
{
    size_t left = flying(c);
    if (left == 0) {
        c->backlog_us -= c->backlog_us > REST_BACKLOG_US ? c->backlog_us / 8U : 0;
    } else if (left > c->flew / 4U) {
        c->backlog_us += c->backlog_us < REST_US ? c->backlog_us / 8U : 0;
    }
}

/* How far apart turns start. A few devices with a backlog have few messages under way, and all wait for them. */
static uint64_t rest_us(const struct sp_cloud *c)
{
    size_t waiting = 0;
    for (uint32_t i = 0; i < c->count; i++) {
        waiting += sp_uplink_waiting(c->links[i]);
    }
    return waiting < BACKLOG_ROWS ? REST_US : c->backlog_us;
}

static void *run(void *arg)
{
    struct sp_cloud *c = arg;
    sp_metrics_use_slot(SP_METRICS_SLOT_STORE);
    uint64_t last = 0;
    while (!finished(c, sp_rest_now_ms())) {
        struct epoll_event events[EVENTS_MAX];
        int n = epoll_wait(c->env.epoll, events, EVENTS_MAX, patience(c, sp_rest_now_ms()));
        uint64_t start = sp_rest_now();
        uint64_t now = start / 1000U;
        for (int i = 0; i < n; i++) {
            dispatch(c, &events[i], now);
        }
        look_at_stop(c, now);
        look_at_config(c, now);
        adapt_rest(c);
        turn(c, now);
        c->flew = flying(c);
        if (start - last < BUSY_US) {
            sp_rest_until(start + rest_us(c));
        }
        last = start;
    }
    for (uint32_t i = 0; i < c->count; i++) {
        sp_uplink_farewell(c->links[i], sp_rest_now_ms());
    }
    return NULL;
}

enum sp_err sp_cloud_start(struct sp_cloud *cloud)
{
    cloud->started = pthread_create(&cloud->thread, NULL, run, cloud) == 0;
    return cloud->started ? SP_OK : SP_ERR_NOMEM;
}

void sp_cloud_join(struct sp_cloud *cloud)
{
    if (cloud != NULL && cloud->started) {
        (void)pthread_join(cloud->thread, NULL);
        cloud->started = false;
    }
}
