/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "libs/mqtt/client.h"
#include "libs/mqtt/client_internal.h"
#include "libs/mqtt/topic.h"

#define MAX_PACKET_LEAST 64U

_Static_assert(SP_MQTT_CLIENT_FIRST_REQUEST + SP_MQTT_CLIENT_REQUESTS <= UINT16_MAX,
               "request ids lie behind those of messages");
_Static_assert(SP_MQTT_CLIENT_SLOTS_MAX <= SP_MQTT_CLIENT_IDS, "each slot has an id");

struct sp_mqtt_slot *sp_mqtt_client_slot(const struct sp_mqtt_client *c, size_t offset)
{
    return &c->opts.slots[(c->head + offset) % c->opts.slot_count];
}

uint16_t sp_mqtt_client_slot_id(const struct sp_mqtt_client *c, size_t offset)
{
    return (uint16_t)((c->head_id - 1U + offset) % SP_MQTT_CLIENT_IDS + 1U);
}

size_t sp_mqtt_client_slot_find(const struct sp_mqtt_client *c, uint16_t packet_id)
{
    if (packet_id > SP_MQTT_CLIENT_IDS) {
        return SIZE_MAX;
    }
    return (packet_id + SP_MQTT_CLIENT_IDS - c->head_id) % SP_MQTT_CLIENT_IDS;
}

void sp_mqtt_client_slots_tidy(struct sp_mqtt_client *c)
{
    while (c->used > 0 && sp_mqtt_client_slot(c, 0)->acked) {
        c->head_id = sp_mqtt_client_slot_id(c, 1);
        c->head = (uint16_t)((c->head + 1U) % c->opts.slot_count);
        c->used--;
        c->sent = (uint16_t)(c->sent - (c->sent > 0));
    }
    while (c->sent < c->used && sp_mqtt_client_slot(c, c->sent)->acked) {
        c->sent++;
    }
}

enum sp_err sp_mqtt_client_init(struct sp_mqtt_client *c, const struct sp_mqtt_client_opts *opts)
{
    if (opts->max_packet < MAX_PACKET_LEAST || opts->slot_count > SP_MQTT_CLIENT_SLOTS_MAX) {
        return SP_ERR_ARGUMENT;
    }
    *c = (struct sp_mqtt_client){.state = SP_MQTT_CLIENT_IDLE, .opts = *opts, .head_id = 1};
    return SP_OK;
}

/* Keep what was written if it is a whole packet that the server takes; else put the writer back. */
static enum sp_err commit(struct sp_mqtt_client *c, uint64_t now_ms, const struct sp_writer *before,
                          struct sp_writer *w)
{
    enum sp_err err = w->err;
    if (err == SP_OK && w->used - before->used > c->limits.max_packet_size) {
        err = SP_ERR_LIMIT;
    }
    if (err != SP_OK) {
        *w = *before;
        return err;
    }
    c->last_out_ms = now_ms;
    return SP_OK;
}

static bool has(const struct sp_mqtt_props *props, enum sp_mqtt_property property)
{
    return (props->present & SP_MQTT_HAS(property)) != 0;
}

static uint32_t session_expiry_of(const struct sp_mqtt_connect *packet)
{
    if (packet->version != SP_MQTT_5) {
        return packet->clean_start ? 0 : UINT32_MAX;
    }
    return has(&packet->props, SP_MQTT_P_SESSION_EXPIRY) ? packet->props.session_expiry : 0;
}

static struct sp_mqtt_limits limits_asked_for(const struct sp_mqtt_connect *packet)
{
    return (struct sp_mqtt_limits){
        .max_packet_size = UINT32_MAX,
        .session_expiry = session_expiry_of(packet),
        .receive_maximum = UINT16_MAX,
        .keep_alive = packet->keep_alive,
        .maximum_qos = 2,
        .retain_available = true,
        .wildcard_available = true,
        .shared_available = true,
        .subscription_id_available = true,
    };
}

static void begin_connection(struct sp_mqtt_client *c, uint64_t now_ms,
                             const struct sp_mqtt_connect *packet)
{
    bool v5 = packet->version == SP_MQTT_5;
    bool limited = v5 && has(&packet->props, SP_MQTT_P_RECEIVE_MAXIMUM);
    bool method = v5 && has(&packet->props, SP_MQTT_P_AUTH_METHOD);
    sp_mqtt_client_close(c);
    c->state = SP_MQTT_CLIENT_CONNECTING;
    c->version = packet->version;
    c->clean_start = packet->clean_start;
    c->own_receive_maximum = limited ? packet->props.receive_maximum : UINT16_MAX;
    c->method = method ? packet->props.auth_method : (struct sp_view){NULL, 0};
    c->connect_ms = now_ms;
    c->last_in_ms = now_ms;
    c->last_out_ms = now_ms;
}

enum sp_err sp_mqtt_client_connect(struct sp_mqtt_client *c, uint64_t now_ms,
                                   const struct sp_mqtt_connect *packet, struct sp_writer *w)
{
    struct sp_mqtt_connect connect = *packet;
    struct sp_writer before = *w;
    if (connect.version == SP_MQTT_5) {
        bool aliases = has(&connect.props, SP_MQTT_P_TOPIC_ALIAS_MAXIMUM);
        if (aliases && connect.props.topic_alias_maximum != 0) {
            return SP_ERR_ARGUMENT;
        }
        connect.props.present |= SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_PACKET_SIZE);
        connect.props.max_packet_size = c->opts.max_packet;
    }
    sp_mqtt_encode_connect(w, &connect);
    if (w->err != SP_OK) {
        enum sp_err err = w->err;
        *w = before;
        return err;
    }
    c->limits = limits_asked_for(&connect);
    begin_connection(c, now_ms, &connect);
    return SP_OK;
}

enum sp_err sp_mqtt_client_auth(struct sp_mqtt_client *c, uint64_t now_ms, struct sp_view data,
                                struct sp_writer *w)
{
    if (c->state != SP_MQTT_CLIENT_CONNECTING || !c->challenge_open) {
        return SP_ERR_STATE;
    }
    struct sp_mqtt_reasoned auth = {.reason = SP_MQTT_RC_CONTINUE_AUTHENTICATION};
    auth.props.present = SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) | SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA);
    auth.props.auth_method = c->method;
    auth.props.auth_data = data;
    struct sp_writer before = *w;
    sp_mqtt_encode_reasoned(w, c->version, SP_MQTT_AUTH, &auth);
    SP_TRY(commit(c, now_ms, &before, w));
    c->challenge_open = false;
    return SP_OK;
}

/* A client may not send subscription ids (MQTT-3.3.4-6), nor aliases that the server did not allow. */
static bool topic_fits(const struct sp_mqtt_client *c, const struct sp_mqtt_publish *packet)
{
    if (c->version != SP_MQTT_5) {
        return sp_topic_name_valid(packet->topic);
    }
    bool aliased = has(&packet->props, SP_MQTT_P_TOPIC_ALIAS);
    if (has(&packet->props, SP_MQTT_P_SUBSCRIPTION_ID) ||
        (aliased && packet->props.topic_alias > c->limits.topic_alias_maximum)) {
        return false;
    }
    return (aliased && packet->topic.len == 0) || sp_topic_name_valid(packet->topic);
}

static enum sp_err check_message(const struct sp_mqtt_client *c,
                                 const struct sp_mqtt_publish *packet)
{
    if (packet->qos > 1 || packet->qos > c->limits.maximum_qos ||
        (packet->retain && !c->limits.retain_available)) {
        return SP_ERR_UNSUPPORTED;
    }
    return topic_fits(c, packet) ? SP_OK : SP_ERR_ARGUMENT;
}

static enum sp_err write_message(struct sp_mqtt_client *c, uint64_t now_ms,
                                 const struct sp_mqtt_publish *packet, struct sp_writer *w)
{
    struct sp_writer before = *w;
    sp_mqtt_encode_publish(w, c->version, packet);
    /* SP_ERR_SPACE invites to try again. */
    bool never = w->err == SP_ERR_SPACE &&
                 sp_mqtt_publish_size(c->version, packet) > c->limits.max_packet_size;
    enum sp_err err = commit(c, now_ms, &before, w);
    return never ? SP_ERR_LIMIT : err;
}

size_t sp_mqtt_client_window(const struct sp_mqtt_client *c)
{
    bool flowing = c->state == SP_MQTT_CLIENT_UP && c->sent == c->used;
    if (!flowing || c->in_flight >= c->limits.receive_maximum) {
        return 0;
    }
    size_t own = (size_t)c->opts.slot_count - c->used;
    size_t theirs = (size_t)c->limits.receive_maximum - c->in_flight;
    return own < theirs ? own : theirs;
}

enum sp_err sp_mqtt_client_publish(struct sp_mqtt_client *c, uint64_t now_ms,
                                   const struct sp_mqtt_publish *packet, uint64_t cookie,
                                   struct sp_writer *w)
{
    if (c->state != SP_MQTT_CLIENT_UP || (packet->qos != 0 && c->sent < c->used)) {
        return SP_ERR_STATE;
    }
    SP_TRY(check_message(c, packet));
    struct sp_mqtt_publish message = *packet;
    message.dup = false;
    message.packet_id = 0;
    if (message.qos == 0) {
        return write_message(c, now_ms, &message, w);
    }
    if (sp_mqtt_client_window(c) == 0) {
        return SP_ERR_AGAIN;
    }
    message.packet_id = sp_mqtt_client_slot_id(c, c->used);
    SP_TRY(write_message(c, now_ms, &message, w));
    *sp_mqtt_client_slot(c, c->used) =
        (struct sp_mqtt_slot){.cookie = cookie, .sent_ms = (uint32_t)now_ms};
    c->used++;
    c->sent++;
    c->in_flight++;
    return SP_OK;
}

bool sp_mqtt_client_unsent(const struct sp_mqtt_client *c, uint64_t *cookie)
{
    if (c->sent >= c->used) {
        return false;
    }
    *cookie = sp_mqtt_client_slot(c, c->sent)->cookie;
    return true;
}

enum sp_err sp_mqtt_client_resend(struct sp_mqtt_client *c, uint64_t now_ms,
                                  const struct sp_mqtt_publish *packet, struct sp_writer *w)
{
    if (c->state != SP_MQTT_CLIENT_UP || c->sent >= c->used) {
        return SP_ERR_STATE;
    }
    if (packet->qos == 0) {
        return SP_ERR_ARGUMENT;
    }
    SP_TRY(check_message(c, packet));
    if (c->in_flight >= c->limits.receive_maximum) {
        return SP_ERR_AGAIN;
    }
    struct sp_mqtt_publish message = *packet;
    message.dup = c->session_resumed;
    message.packet_id = sp_mqtt_client_slot_id(c, c->sent);
    SP_TRY(write_message(c, now_ms, &message, w));
    sp_mqtt_client_slot(c, c->sent)->sent_ms = (uint32_t)now_ms;
    c->sent++;
    c->in_flight++;
    sp_mqtt_client_slots_tidy(c);
    return SP_OK;
}

void sp_mqtt_client_skip(struct sp_mqtt_client *c)
{
    if (c->sent < c->used) {
        sp_mqtt_client_slot(c, c->sent)->acked = true;
        sp_mqtt_client_slots_tidy(c);
    }
}

enum sp_err sp_mqtt_client_forget(struct sp_mqtt_client *c)
{
    if (c->state != SP_MQTT_CLIENT_IDLE) {
        return SP_ERR_STATE;
    }
    c->head_id = sp_mqtt_client_slot_id(c, c->used);
    c->head = 0;
    c->used = 0;
    return SP_OK;
}

enum sp_err sp_mqtt_client_ack(struct sp_mqtt_client *c, uint64_t now_ms, uint16_t packet_id,
                               uint8_t reason, struct sp_writer *w)
{
    if (c->state != SP_MQTT_CLIENT_UP || c->received == 0) {
        return SP_ERR_STATE;
    }
    struct sp_mqtt_ack ack = {.packet_id = packet_id, .reason = reason};
    struct sp_writer before = *w;
    sp_mqtt_encode_ack(w, c->version, SP_MQTT_PUBACK, &ack);
    SP_TRY(commit(c, now_ms, &before, w));
    c->received--;
    return SP_OK;
}

static bool filters_valid(const struct sp_mqtt_filter *filters, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (filters[i].qos > 1 || !sp_topic_filter_valid(filters[i].filter)) {
            return false;
        }
    }
    return count > 0 && count <= UINT16_MAX;
}

static enum sp_err request(struct sp_mqtt_client *c, uint64_t now_ms, enum sp_mqtt_type type,
                           const struct sp_mqtt_filter *filters, size_t count, struct sp_writer *w,
                           uint16_t *packet_id)
{
    size_t free_at = 0;
    if (c->state != SP_MQTT_CLIENT_UP) {
        return SP_ERR_STATE;
    }
    while (free_at < SP_MQTT_CLIENT_REQUESTS && c->requests[free_at].type != 0) {
        free_at++;
    }
    if (free_at == SP_MQTT_CLIENT_REQUESTS) {
        return SP_ERR_AGAIN;
    }
    if (!filters_valid(filters, count)) {
        return SP_ERR_ARGUMENT;
    }
    struct sp_mqtt_subscribe packet = {.packet_id =
                                           (uint16_t)(SP_MQTT_CLIENT_FIRST_REQUEST + free_at)};
    struct sp_writer before = *w;
    sp_mqtt_encode_subscribe(w, c->version, type, &packet, filters, count);
    SP_TRY(commit(c, now_ms, &before, w));
    c->requests[free_at].type = (uint8_t)type;
    c->requests[free_at].filters = (uint16_t)count;
    c->requests[free_at].sent_ms = (uint32_t)now_ms;
    *packet_id = packet.packet_id;
    return SP_OK;
}

enum sp_err sp_mqtt_client_subscribe(struct sp_mqtt_client *c, uint64_t now_ms,
                                     const struct sp_mqtt_filter *filters, size_t count,
                                     struct sp_writer *w, uint16_t *packet_id)
{
    return request(c, now_ms, SP_MQTT_SUBSCRIBE, filters, count, w, packet_id);
}

enum sp_err sp_mqtt_client_unsubscribe(struct sp_mqtt_client *c, uint64_t now_ms,
                                       const struct sp_mqtt_filter *filters, size_t count,
                                       struct sp_writer *w, uint16_t *packet_id)
{
    return request(c, now_ms, SP_MQTT_UNSUBSCRIBE, filters, count, w, packet_id);
}

/* The full time of a slot's or request's low 32 bits; nothing is sent after last_out_ms. */
static uint64_t full_time(const struct sp_mqtt_client *c, uint32_t sent_ms)
{
    return c->last_out_ms - (uint32_t)((uint32_t)c->last_out_ms - sent_ms);
}

static uint64_t keep_alive_due(const struct sp_mqtt_client *c)
{
    uint64_t quiet_since = c->last_out_ms < c->last_in_ms ? c->last_out_ms : c->last_in_ms;
    return quiet_since + (uint64_t)c->limits.keep_alive * 875U;
}

/* One thing to wait for: until when, and what is late after that. */
struct wait {
    uint64_t until_ms;
    enum sp_mqtt_client_late late;
};

static void sooner(struct wait *wait, uint64_t since_ms, uint32_t timeout_ms,
                   enum sp_mqtt_client_late late)
{
    if (timeout_ms != 0 && since_ms + timeout_ms < wait->until_ms) {
        *wait = (struct wait){since_ms + timeout_ms, late};
    }
}

/* The first of all the answers that the server owes us. */
static struct wait next_answer(const struct sp_mqtt_client *c)
{
    struct wait wait = {SP_MQTT_CLIENT_NEVER, SP_MQTT_LATE_NOTHING};
    if (c->state == SP_MQTT_CLIENT_CONNECTING) {
        sooner(&wait, c->connect_ms, c->opts.connect_timeout_ms, SP_MQTT_LATE_CONNACK);
        return wait;
    }
    if (c->ping_sent) {
        sooner(&wait, c->ping_ms, c->opts.ping_timeout_ms, SP_MQTT_LATE_PINGRESP);
    }
    if (c->sent > 0) { /* the oldest has no PUBACK, or it would not be there */
        uint64_t since = full_time(c, sp_mqtt_client_slot(c, 0)->sent_ms);
        sooner(&wait, since, c->opts.ack_timeout_ms, SP_MQTT_LATE_PUBACK);
    }
    for (size_t i = 0; i < SP_MQTT_CLIENT_REQUESTS; i++) {
        if (c->requests[i].type != 0) {
            uint64_t since = full_time(c, c->requests[i].sent_ms);
            sooner(&wait, since, c->opts.ack_timeout_ms, SP_MQTT_LATE_SUBACK);
        }
    }
    return wait;
}

static bool may_ping(const struct sp_mqtt_client *c)
{
    return c->state == SP_MQTT_CLIENT_UP && c->limits.keep_alive != 0 && !c->ping_sent;
}

enum sp_err sp_mqtt_client_tick(struct sp_mqtt_client *c, uint64_t now_ms, struct sp_writer *w)
{
    if (c->state == SP_MQTT_CLIENT_IDLE) {
        return SP_OK;
    }
    struct wait wait = next_answer(c);
    if (now_ms >= wait.until_ms) {
        c->late = wait.late;
        return SP_ERR_CLOSED;
    }
    if (!may_ping(c) || now_ms < keep_alive_due(c)) {
        return SP_OK;
    }
    struct sp_writer before = *w;
    sp_mqtt_encode_ping(w, SP_MQTT_PINGREQ);
    SP_TRY(commit(c, now_ms, &before, w));
    c->ping_sent = true;
    c->ping_ms = now_ms;
    return SP_OK;
}

uint64_t sp_mqtt_client_deadline(const struct sp_mqtt_client *c)
{
    if (c->state == SP_MQTT_CLIENT_IDLE) {
        return SP_MQTT_CLIENT_NEVER;
    }
    uint64_t answer = next_answer(c).until_ms;
    uint64_t ping = may_ping(c) ? keep_alive_due(c) : SP_MQTT_CLIENT_NEVER;
    return answer < ping ? answer : ping;
}

enum sp_err sp_mqtt_client_disconnect(struct sp_mqtt_client *c, uint8_t reason, struct sp_writer *w)
{
    if (c->state == SP_MQTT_CLIENT_IDLE) {
        return SP_ERR_STATE;
    }
    sp_mqtt_client_close(c);
    if (c->version != SP_MQTT_5 && reason != SP_MQTT_RC_SUCCESS) {
        return SP_OK;
    }
    struct sp_mqtt_reasoned packet = {.reason = reason};
    struct sp_writer before = *w;
    sp_mqtt_encode_reasoned(w, c->version, SP_MQTT_DISCONNECT, &packet);
    if (w->err != SP_OK) {
        enum sp_err err = w->err;
        *w = before;
        return err;
    }
    return SP_OK;
}

void sp_mqtt_client_close(struct sp_mqtt_client *c)
{
    c->state = SP_MQTT_CLIENT_IDLE;
    c->late = SP_MQTT_LATE_NOTHING;
    c->challenges = 0;
    c->challenge_open = false;
    c->session_resumed = false;
    c->ping_sent = false;
    c->received = 0;
    c->sent = 0;
    c->in_flight = 0;
    for (size_t i = 0; i < SP_MQTT_CLIENT_REQUESTS; i++) {
        c->requests[i].type = 0;
    }
    sp_mqtt_client_slots_tidy(c);
}
