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
    struct sp_view identity = sp_device_identity(session->device);
    for (uint32_t i = session->sub_count; i > 0; i--) {
        struct sp_view filter = sp_filter_text(sp_session_sub(session, i - 1));
        if (!sp_acl_may_keep(session->role, identity, filter)) {
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
                                 .detail = client->role->name,
                                 .code = SP_MQTT_RC_ADMINISTRATIVE_ACTION,
                                 .untrusted = true,
                                 .end_session = true,
                             });
    client->role = NULL;
}

static void reload_client(struct sp_client *client, const struct sp_config *config)
{
    if (client->role == NULL || client->state == SP_CLIENT_CLOSED) {
        return; /* keys has not said yet who it is, or it does not matter any more */
    }
    const struct sp_role_config *role = sp_config_role(config, client->role->name);
    if (role == NULL) {
        close_roleless(client);
        return;
    }
    client->role = role;
    sp_client_recount(client);
    if (client->more != NULL) {
        client->more->will = keep_will(client->more->will, role, sp_client_identity(client));
    }
    sp_guard_configure(client);
}

static void reload_session(struct sp_home *home, struct sp_session *session,
                           const struct sp_config *config)
{
    struct sp_device *device = session->device;
    session->role = sp_config_role(config, session->role->name);
    if (session->role == NULL) { /* nobody is connected: reload_client() has ended those sessions */
        sp_log_warn(SP_EVENT("session_ended"), SP_F_VIEW("device", sp_device_identity(device)),
                    SP_F_STR("detail", "its role is gone"));
        sp_device_return(device); /* and its will is not published */
        sp_device_end_session(device);
        sp_device_settle(device);
        return;
    }
    if (device->wait != NULL) {
        device->wait->will =
            keep_will(device->wait->will, session->role, sp_device_identity(device));
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
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        reload_client(client, config);
    }
    index = 0;
    while ((session = sp_slots_each(&home->sessions, &index)) != NULL) {
        reload_session(home, session, config);
    }
}
