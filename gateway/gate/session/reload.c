/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* A new configuration: what it means for those who are connected, and for the sessions of those who are away. */
#include "gateway/gate/attest/guard.h"
#include "gateway/gate/fuse/fuse.h"
#include "gateway/gate/route/acl.h"
#include "gateway/gate/route/mail.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"

/* @return The will, or NULL when it had to go. */
static struct sp_will *keep_will(struct sp_will *will, const struct sp_role_config *role,
                                 struct sp_view identity)
{
    if (will != NULL && !sp_acl_may_will(role, identity, will->message->topic)) {
        sp_log_warn(SP_EVENT("will_dropped"), SP_F_VIEW("device", identity),
                    SP_F_VIEW("topic", will->message->topic));
        sp_will_destroy(will);
        will = NULL;
    }
    return will;
}

static void keep_subscriptions(struct sp_home *home, struct sp_session *session)
{
    struct sp_view identity = sp_device_identity(sp_session_device(session));
    for (uint32_t i = session->sub_count; i > 0; i--) {
        struct sp_view filter = sp_filter_text(sp_session_sub(session, i - 1));
        if (!sp_acl_may_keep(sp_session_role(session), identity, filter)) {
            sp_metric_inc(SP_M_SUBSCRIBE_DENIED);
            sp_log_warn(SP_EVENT("subscription_dropped"), SP_F_VIEW("device", identity),
                        SP_F_VIEW("filter", filter));
            (void)sp_session_unsubscribe(home, session, filter);
        }
    }
}

static void close_roleless(struct sp_client *client)
{
    sp_client_refuse(client, &(struct sp_refusal){
                                 .metric = SP_M_REVOKED_CLOSED,
                                 .event = "role_gone",
                                 .detail = sp_client_role(client)->name,
                                 .code = SP_MQTT_RC_ADMINISTRATIVE_ACTION,
                                 .untrusted = true,
                                 .end_session = true,
                             });
    client->role = 0;
}

static bool is_gone(const struct sp_config *config, const struct sp_role_config *role)
{
    return sp_config_role(config, role->name) == NULL;
}

/* Nobody is connected: with the clients whose role is gone their sessions ended. */
static void end_roleless(struct sp_device *device)
{
    sp_log_warn(SP_EVENT("session_ended"), SP_F_VIEW("device", sp_device_identity(device)),
                SP_F_STR("detail", "its role is gone"));
    sp_device_return(device); /* and its will is not published */
    sp_device_end_session(device);
    sp_device_settle(device);
}

/* Keys has said who it is, and it matters still. */
static bool has_role(const struct sp_client *client)
{
    return client->role != 0 && client->state != SP_CLIENT_CLOSED;
}

static void end_all_roleless(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_client *client;
    struct sp_session *session;
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        if (has_role(client) && is_gone(home->config, sp_client_role(client))) {
            close_roleless(client);
        }
    }
    index = 0;
    while ((session = sp_slots_each(&home->sessions, &index)) != NULL) {
        if (is_gone(home->config, sp_session_role(session))) {
            end_roleless(sp_session_device(session));
        }
    }
}

static uint16_t new_number(const struct sp_home *home, uint16_t number)
{
    const struct sp_config *config = home->config;
    return number == 0 ? 0
                       : sp_role_number(config->roles,
                                        sp_config_role(config, sp_home_role(home, number)->name));
}

/* All at once: a number means something only in its list. */
static void number_roles(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_client *client;
    struct sp_session *session;
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        client->role = new_number(home, client->role);
    }
    index = 0;
    while ((session = sp_slots_each(&home->sessions, &index)) != NULL) {
        session->role = new_number(home, session->role);
    }
    home->roles = home->config->roles;
}

static void reload_client(struct sp_client *client)
{
    struct sp_client_more *more = sp_client_own_more(client);
    if (!has_role(client)) {
        return;
    }
    sp_client_recount(client);
    if (more != NULL) {
        more->will = keep_will(more->will, sp_client_role(client), sp_client_identity(client));
    }
    sp_guard_configure(client);
}

static void reload_session(struct sp_home *home, struct sp_session *session)
{
    const struct sp_device *device = sp_session_device(session);
    struct sp_device_wait *wait = sp_device_wait(device);
    if (wait != NULL) {
        wait->will = keep_will(wait->will, sp_session_role(session), sp_device_identity(device));
    }
    keep_subscriptions(home, session);
}

/* Windows that are open and the short history start anew: fusions and their bounds may be others now. */
static void reload_fusions(struct sp_home *home)
{
    const struct sp_limits_config *limits = &home->config->limits;
    home->generation++;
    if (home->fuse == NULL) {
        return;
    }
    sp_fuse_destroy(home->fuse);
    sp_sensors_deinit(&home->sensors);
    sp_sensors_init(&home->sensors, limits->sensors, limits->history, home->config->fusion_count);
    enum sp_err err = sp_fuse_create(home, &home->fuse);
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("fusions_lost"), SP_F_ERR(err));
    }
}

void sp_home_configure(struct sp_home *home, const struct sp_config *config)
{
    uint32_t index = 0;
    struct sp_client *client;
    struct sp_session *session;
    home->config = config;
    reload_fusions(home);
    end_all_roleless(home);
    number_roles(home);
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        reload_client(client);
    }
    index = 0;
    while ((session = sp_slots_each(&home->sessions, &index)) != NULL) {
        reload_session(home, session);
    }
}
