/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Sessions out of the journal, when the gate begins. */
#include "gateway/gate/route/acl.h"
#include "gateway/gate/route/mail.h"
#include "gateway/gate/route/route.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/keep_internal.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"

#include <stdlib.h>

struct sp_keep_parked {
    struct sp_keep_parked *next;
    bool is_command; /* else a revocation: the identity in `payload`, the version in `tag` */
    uint8_t qos;
    uint64_t tag;
    uint32_t connection;
    struct sp_view topic;
    struct sp_view payload;
    uint8_t data[];
};

/* ---- what waits for the sessions ---- */

static struct sp_keep_parked *take_spare(struct sp_keep *keep)
{
    struct sp_keep_parked *spare = keep->spare;
    if (spare != NULL) {
        keep->spare = spare->next;
    }
    return spare;
}

static void drop_spares(struct sp_keep *keep)
{
    struct sp_keep_parked *spare;
    while ((spare = take_spare(keep)) != NULL) {
        free(spare);
    }
}

void sp_keep_lay_in(struct sp_home *home)
{
    struct sp_keep *keep = &home->keep;
    drop_spares(keep);
    for (size_t i = 0; i < SP_KEEP_PARKED_RESERVE; i++) {
        struct sp_keep_parked *spare = malloc(sizeof(*spare) + SP_LINK_IDENTITY_MAX);
        if (spare == NULL) {
            return;
        }
        spare->next = keep->spare;
        keep->spare = spare;
    }
}

static enum sp_err park(struct sp_home *home, const struct sp_keep_parked *what)
{
    struct sp_keep *keep = &home->keep;
    struct sp_keep_parked *parked = malloc(sizeof(*parked) + what->topic.len + what->payload.len);
    if (parked == NULL && !what->is_command) {
        parked = take_spare(keep);
    }
    if (parked == NULL) {
        return SP_ERR_NOMEM;
    }
    *parked = *what;
    sp_copy(parked->data, what->topic.ptr, what->topic.len);
    sp_copy(parked->data + what->topic.len, what->payload.ptr, what->payload.len);
    parked->topic = sp_view(parked->data, what->topic.len);
    parked->payload = sp_view(parked->data + what->topic.len, what->payload.len);
    parked->connection = keep->connection;
    *keep->parked_end = parked;
    keep->parked_end = &parked->next;
    return SP_OK;
}

bool sp_keep_park_command(struct sp_home *home, struct sp_view topic, struct sp_view payload,
                          uint8_t qos, uint64_t tag)
{
    const struct sp_keep_parked command = {
        .is_command = true, .qos = qos, .tag = tag, .topic = topic, .payload = payload};
    if (!home->keep.loading) {
        return false;
    }
    if (park(home, &command) != SP_OK) {
        sp_route_command_refused(home, qos, tag);
    }
    return true;
}

bool sp_keep_park_revocation(struct sp_home *home, struct sp_view identity, uint64_t version)
{
    if (!home->keep.loading) {
        return false;
    }
    if (park(home, &(struct sp_keep_parked){.tag = version, .payload = identity}) != SP_OK) {
        abort(); /* none may be lost, and the reserve is used up: the parent starts us again */
    }
    return true;
}

static struct sp_keep_parked *take_parked(struct sp_keep *keep)
{
    struct sp_keep_parked *parked = keep->parked;
    if (parked != NULL) {
        keep->parked = parked->next;
        if (keep->parked == NULL) {
            keep->parked_end = &keep->parked;
        }
    }
    return parked;
}

void sp_keep_unpark(struct sp_home *home)
{
    struct sp_keep_parked *parked;
    while ((parked = take_parked(&home->keep)) != NULL) {
        free(parked);
    }
    drop_spares(&home->keep);
}

static void do_parked(struct sp_home *home)
{
    struct sp_keep_parked *parked;
    while ((parked = take_parked(&home->keep)) != NULL) {
        if (!parked->is_command) {
            sp_home_revoke(home, parked->payload, parked->tag);
        } else if (parked->connection == home->keep.connection) {
            /* Another store process sends it again. */
            sp_route_command(home, parked->topic, parked->payload, parked->qos, parked->tag);
        }
        free(parked);
    }
}

/* ---- one session ---- */

static struct sp_session *find(const struct sp_home *home, struct sp_view identity)
{
    const struct sp_device *device = sp_device_find(home, identity);
    return device == NULL ? NULL : sp_device_session(device);
}

static bool over(const struct sp_home *home, const struct sp_kept *record)
{
    uint64_t ends_ms = record->head.time_ms + (uint64_t)record->head.expiry_s * 1000;
    return record->head.time_ms != 0 && ends_ms <= home->timers->wall_ms;
}

static enum sp_err load_session(struct sp_home *home, const struct sp_kept *record)
{
    char name[SP_ROLE_NAME_MAX] = "";
    sp_copy(name, record->part.ptr, record->part.len); /* shorter: sp_kept_next() has looked */
    const struct sp_role_config *role = sp_config_role(home->config, name);
    if (role == NULL || over(home, record)) {
        sp_log_info(SP_EVENT("session_ended"), SP_F_VIEW("device", record->device),
                    SP_F_STR("detail", role == NULL ? "its role is gone" : "it has expired"));
        sp_keep_forget(home, record->device);
        return SP_OK;
    }
    struct sp_device *device = sp_device_get(home, record->device);
    if (device == NULL) {
        return SP_ERR_NOMEM;
    }
    struct sp_session *session;
    SP_TRY(sp_session_create(home, device, &session));
    struct sp_session_more *more = sp_session_numbers(home, session);
    if (more == NULL) {
        return SP_ERR_NOMEM;
    }
    session->role = sp_role_number(home->roles, role);
    session->kept = true;
    session->begun = true;
    session->version = record->head.version;
    session->expiry_s = record->head.expiry_s;
    more->sent = record->head.number;
    more->number = more->number > more->sent ? more->number : more->sent;
    session->cut_off = record->head.time_ms == 0;
    more->left_ms = session->cut_off ? home->timers->wall_ms : record->head.time_ms;
    return sp_device_wait_for(device, more->left_ms + (uint64_t)session->expiry_s * 1000);
}

static enum sp_err load_subscription(struct sp_home *home, struct sp_session *session,
                                     const struct sp_kept *record)
{
    if (!sp_acl_may_keep(sp_session_role(session), record->device, record->part)) {
        sp_log_warn(SP_EVENT("subscription_dropped"), SP_F_VIEW("device", record->device),
                    SP_F_VIEW("filter", record->part));
        sp_keep_unsubscribe(home, session, record->part);
        return SP_OK;
    }
    struct sp_subscriber how = {
        .qos = record->head.qos, .options = record->head.options, .id = record->head.identifier};
    if (sp_view_starts(record->part, SP_VIEW_LIT("$share/"))) {
        how.options |= SP_SUB_AWAY; /* until its client is back */
    }
    bool existed;
    home->keep.applying = true;
    enum sp_err err = sp_session_subscribe(home, session, record->part, how, &existed);
    home->keep.applying = false;
    return err == SP_ERR_LIMIT ? SP_OK : err; /* the limit has become lower */
}

static enum sp_err load_message(struct sp_home *home, struct sp_session *session,
                                const struct sp_kept *record)
{
    struct sp_mqtt_header header;
    struct sp_mqtt_publish publish;
    SP_TRY(sp_mqtt_peek(record->part, SP_KEPT_PART_MAX, &header));
    struct sp_view body = sp_view_from(record->part, header.header_len);
    if (header.type != SP_MQTT_PUBLISH || body.len != header.body_len) {
        return SP_ERR_MALFORMED;
    }
    SP_TRY(sp_mqtt_decode_publish(SP_MQTT_5, header.flags, body, &publish));
    struct sp_mail *message = sp_mail_create(&publish, home->timers->now_ms);
    if (message == NULL) {
        return SP_ERR_NOMEM;
    }
    uint64_t wall = home->timers->wall_ms;
    uint64_t left = record->head.time_ms > wall ? record->head.time_ms - wall : 0;
    /* What has expired is looked at when it would be sent. */
    message->expires_ms = record->head.time_ms == 0 ? 0
                          : left == 0               ? 1
                                                    : home->timers->now_ms + left;
    bool sent = session->cut_off || record->head.number <= sp_session_more(session)->sent;
    uint32_t id = publish.props.subscription_id;
    bool has_id = (publish.props.present & SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID)) != 0;
    const struct sp_offer offer = {.message = message,
                                   .ids = &id,
                                   .id_count = has_id,
                                   .qos = publish.qos,
                                   .retain = publish.retain};
    enum sp_err err = sp_session_restore(home, session, &offer, record->head.number, sent);
    sp_mail_release(message);
    return err;
}

static enum sp_err load_one(struct sp_home *home, const struct sp_kept *record)
{
    if (sp_home_of(record->device, home->loops) != home->index) {
        return SP_OK;
    }
    struct sp_session *session = find(home, record->device);
    if (record->head.kind == SP_KEPT_SESSION) {
        return session == NULL ? load_session(home, record) : SP_ERR_MALFORMED;
    }
    if (session == NULL) {
        return SP_OK; /* it is over */
    }
    switch (record->head.kind) {
    case SP_KEPT_SUBSCRIBE:
        return load_subscription(home, session, record);
    case SP_KEPT_QUEUE:
        return load_message(home, session, record);
    default:
        return SP_ERR_MALFORMED;
    }
}

/* ---- all of them ---- */

static void forget_all(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_session *session;
    while ((session = sp_slots_each(&home->sessions, &index)) != NULL) {
        struct sp_device *device = sp_session_device(session);
        device->session_ref = 0;
        sp_session_destroy(home, session);
        sp_device_settle(device);
    }
}

/* Sessions whose devices were there when the gate ended: they have left now. */
static void mark_left(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_session *session;
    while ((session = sp_slots_each(&home->sessions, &index)) != NULL) {
        if (session->cut_off) {
            session->cut_off = false;
            struct sp_session_more *more = sp_session_numbers(home, session);
            if (more != NULL) { /* it got them when it was loaded */
                more->sent = more->number;
            }
            sp_keep_change(home, session);
        }
    }
}

static void begin_to_serve(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_client *client;
    home->keep.loading = false;
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        if (client->keeping && client->state == SP_CLIENT_CONNECT) {
            client->keeping = false;
            client->paused = false;
            sp_client_mark(client);
        }
    }
    do_parked(home);
    drop_spares(&home->keep);
}

static void go(void *owner, struct sp_parcel *parcel)
{
    begin_to_serve(owner);
    free(parcel);
}

static void loaded(struct sp_home *home)
{
    mark_left(home);
    if (atomic_fetch_sub(home->keep.homes, 1) != 1) {
        return;
    }
    for (uint16_t loop = 0; loop < home->loops; loop++) {
        if (loop == home->index) {
            begin_to_serve(home);
            continue;
        }
        struct sp_parcel *parcel = calloc(1, sizeof(*parcel));
        if (parcel == NULL) {
            abort(); /* that loop would never serve: the parent starts us again */
        }
        parcel->run = go;
        sp_home_post(home, loop, parcel);
    }
}

enum sp_err sp_keep_records(struct sp_home *home, uint64_t tag, struct sp_view body)
{
    struct sp_kept record;
    enum sp_err err = SP_OK;
    if (!home->keep.loading || home->keep.loaded) {
        return SP_ERR_PROTOCOL;
    }
    if (tag == SP_KEPT_FIRST) {
        forget_all(home);
        return body.len == 0 ? SP_OK : SP_ERR_MALFORMED;
    }
    while (err == SP_OK && (err = sp_kept_next(&body, &record)) == SP_OK) {
        err = load_one(home, &record);
    }
    if (err != SP_ERR_NOT_FOUND) {
        return err;
    }
    if (tag == SP_KEPT_LAST) {
        home->keep.loaded = true;
        loaded(home);
    }
    return SP_OK;
}
