/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/home.h"

#include "gateway/gate/attest/guard.h"
#include "gateway/gate/fuse/fuse.h"
#include "gateway/gate/route/receipts.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"

void sp_home_init(struct sp_home *home)
{
    home->seed = sp_hash_seed();
    home->roles = home->config->roles;
    sp_wheel_init(&home->deadlines, home->timers, sp_client_deadline, sp_client_fire);
    sp_keep_init(home);
    sp_sensors_init(&home->sensors, home->config->limits.sensors, home->config->limits.history,
                    home->config->fusion_count);
}

uint16_t sp_role_number(const struct sp_role_config *roles, const struct sp_role_config *role)
{
    size_t index = role == NULL ? SIZE_MAX : (size_t)(role - roles);
    return index < UINT16_MAX ? (uint16_t)(index + 1) : 0;
}

void sp_home_deinit(struct sp_home *home)
{
    struct sp_table_node *node;
    while ((node = sp_table_any(&home->devices)) != NULL) {
        sp_device_destroy((struct sp_device *)node);
    }
    sp_table_deinit(&home->devices);
    sp_table_deinit(&home->names);
    sp_client_trim(home);
    sp_wheel_deinit(&home->deadlines);
    sp_keep_deinit(home);
    sp_receipts_deinit(home);
    sp_slots_deinit(&home->clients);
    sp_slots_deinit(&home->sessions);
    sp_matches_deinit(&home->matches);
    sp_tickets_deinit(&home->tickets);
    sp_fuse_destroy(home->fuse);
    home->fuse = NULL;
    sp_sensors_deinit(&home->sensors);
    sp_marks_deinit(&home->marks);
    sp_keyring_deinit(&home->keyring);
}

/* The high half: the table of devices takes the low bits of the same hash. */
uint16_t sp_home_of(struct sp_view identity, uint16_t loops)
{
    return (uint16_t)((sp_hash(sp_hash_seed(), identity) >> 32) % loops);
}

void sp_home_post(struct sp_home *home, uint16_t loop, struct sp_parcel *parcel)
{
    sp_outbox_put(&home->outboxes[loop], parcel);
}

static void forget_sensor(struct sp_home *home, struct sp_view identity)
{
    struct sp_sensor *sensor = sp_sensors_find(&home->sensors, identity);
    if (sensor != NULL) {
        if (home->fuse != NULL) {
            sp_fuse_forget(home->fuse, sensor);
        }
        sp_sensors_remove(&home->sensors, sensor);
    }
}

/* A session that nobody uses, of a row that is not in force any more. */
static void revoke_session(struct sp_device *device, uint64_t version)
{
    bool current = sp_device_session(device) != NULL && version != 0 &&
                   sp_device_session(device)->version == version;
    if (device->users == 0 && !current) {
        sp_device_return(device); /* its will is not published */
        sp_device_end_session(device);
        sp_device_destroy(device);
    }
}

void sp_home_revoke(struct sp_home *home, struct sp_view identity, uint64_t version)
{
    uint32_t index = 0;
    struct sp_client *client;
    (void)sp_keep_park_revocation(home, identity, version); /* its session may come yet */
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        bool current = version != 0 && sp_client_row(client) == version;
        if (!current && sp_view_equal(sp_client_identity(client), identity)) {
            sp_client_refuse(client, &(struct sp_refusal){
                                         .metric = SP_M_REVOKED_CLOSED,
                                         .event = "device_revoked",
                                         .code = SP_MQTT_RC_ADMINISTRATIVE_ACTION,
                                         .untrusted = true,
                                         .end_session = true,
                                     });
        }
    }
    forget_sensor(home, identity);
    struct sp_device *device = sp_device_find(home, identity);
    if (device != NULL) {
        revoke_session(device, version);
    }
}

void sp_home_reattest(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_client *client;
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        bool waits = client->guard != SP_GUARD_IDLE;
        if (client->state != SP_CLIENT_CLOSED && (client->attested || waits)) {
            sp_guard_again(client);
        }
    }
}

enum sp_err sp_home_groups(struct sp_home *home, struct sp_view body)
{
    SP_TRY(sp_keyring_replace(&home->keyring, body));
    sp_marks_prune(&home->marks, &home->keyring, home->timers->wall_ms);
    return SP_OK;
}

void sp_home_regrant(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_client *client;
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        if (client->state == SP_CLIENT_OPEN && client->attested &&
            sp_client_more(client)->group != NULL) {
            sp_guard_again(client);
        }
    }
}

void sp_home_keys_lost(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_client *client;
    home->keys = (struct sp_edge){NULL, NULL};
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        if (client->state != SP_CLIENT_CLOSED) {
            sp_guard_lost(client);
        }
    }
}
