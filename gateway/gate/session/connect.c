/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* CONNECT: what is refused at the door, who becomes a guest, and how one is admitted. */
#include "gateway/gate/attest/guard.h"
#include "gateway/gate/route/acl.h"
#include "gateway/gate/session/aliases.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"

#define LEVEL_AT 6U /* protocol level, behind the length and the name `MQTT` */

static void refuse(struct sp_client *client, uint8_t code, const char *detail)
{
    sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_CONNECT_REFUSED,
                                                  .event = "connect_refused",
                                                  .detail = detail,
                                                  .code = code});
}

/* So that the answer to an unreadable CONNECT has the form that its sender understands. */
static uint8_t guess_version(struct sp_view body)
{
    static const uint8_t name[] = {0, 4, 'M', 'Q', 'T', 'T'};
    if (body.len <= LEVEL_AT || !sp_view_starts(body, SP_VIEW_ARRAY(name))) {
        return SP_MQTT_311;
    }
    return body.ptr[LEVEL_AT] >= SP_MQTT_5 ? SP_MQTT_5 : SP_MQTT_311;
}

static bool decode(struct sp_client *client, struct sp_view body, struct sp_mqtt_connect *packet)
{
    enum sp_err err = sp_mqtt_decode_connect(body, packet);
    if (err == SP_OK) {
        client->version = packet->version & 7U;
        return true;
    }
    client->version = guess_version(body) & 7U;
    if (err == SP_ERR_UNSUPPORTED) {
        refuse(client, SP_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION, "protocol version");
    } else {
        sp_client_malformed(client, err, "CONNECT");
    }
    return false;
}

static bool has(const struct sp_mqtt_props *props, enum sp_mqtt_property property)
{
    return (props->present & SP_MQTT_HAS(property)) != 0;
}

/* Client id: the identity, or empty (docs/protocol.md 2). */
static bool id_is_right(struct sp_client *client, const struct sp_mqtt_connect *packet)
{
    sp_client_in_flight(client)->assigned_id = packet->client_id.len == 0;
    if (sp_client_in_flight(client)->assigned_id) {
        return packet->version == SP_MQTT_5 || packet->clean_start;
    }
    return sp_view_equal(packet->client_id, sp_client_identity(client));
}

/* The method is the row's, or missing where it may be missing. */
static bool method_is_right(struct sp_client *client, const struct sp_mqtt_connect *packet)
{
    client->method = has(&packet->props, SP_MQTT_P_AUTH_METHOD);
    if (packet->version == SP_MQTT_311) {
        return true;
    }
    if (!client->method) {
        return client->attestation != SP_ATTESTATION_REQUIRED;
    }
    struct sp_view method = sp_view_str(sp_link_method((enum sp_link_binding)client->binding));
    return client->attestation != SP_ATTESTATION_NONE &&
           sp_view_equal(packet->props.auth_method, method);
}

static bool will_is_allowed(const struct sp_client *client, const struct sp_mqtt_will *will)
{
    return !will->present ||
           ((!will->retain || sp_client_role(client)->retain) &&
            sp_acl_may_will(sp_client_role(client), sp_client_identity(client), will->topic));
}

static bool too_many(const struct sp_limits_config *limits, const struct sp_mqtt_props *props)
{
    return props->user_count > limits->user_properties ||
           props->user.len > limits->user_property_bytes;
}

/* Everything that a CONNECT can be refused for by itself. false: it was. */
static bool check(struct sp_client *client, const struct sp_mqtt_connect *packet)
{
    const struct sp_limits_config *limits = &client->home->config->limits;
    if (!id_is_right(client, packet)) {
        refuse(client, SP_MQTT_RC_CLIENT_IDENTIFIER_NOT_VALID, "client id is not the identity");
    } else if (has(&packet->props, SP_MQTT_P_AUTH_DATA)) {
        sp_client_protocol_error(client, SP_MQTT_RC_PROTOCOL_ERROR,
                                 "authentication data in CONNECT");
    } else if (!method_is_right(client, packet)) {
        refuse(client, SP_MQTT_RC_BAD_AUTHENTICATION_METHOD, "authentication method");
    } else if (!will_is_allowed(client, &packet->will)) {
        refuse(client, SP_MQTT_RC_NOT_AUTHORIZED, "will not allowed");
    } else if (too_many(limits, &packet->props) || too_many(limits, &packet->will.props)) {
        refuse(client, SP_MQTT_RC_QUOTA_EXCEEDED, "too many user properties");
    } else {
        return true;
    }
    return false;
}

static uint32_t clamp(uint32_t value, uint32_t low, uint32_t high)
{
    return value < low ? low : value > high ? high : value;
}

/* Never without a limit: 0 asks for none and gets the longest. */
static uint16_t keep_alive_s(const struct sp_client *client)
{
    const struct sp_limits_config *limits = &client->home->config->limits;
    uint32_t wanted = sp_client_in_flight(client)->keep_alive_s;
    return (uint16_t)(wanted == 0
                          ? limits->keep_alive_max_s
                          : clamp(wanted, limits->keep_alive_min_s, limits->keep_alive_max_s));
}

static void keep_options(struct sp_client *client, const struct sp_mqtt_connect *packet)
{
    const struct sp_limits_config *limits = &client->home->config->limits;
    const struct sp_mqtt_props *props = &packet->props;
    uint32_t window = has(props, SP_MQTT_P_RECEIVE_MAXIMUM) ? props->receive_maximum : UINT16_MAX;
    uint32_t expiry = 0;
    if (packet->version == SP_MQTT_311) {
        expiry = packet->clean_start ? 0 : limits->session_expiry_s;
    } else if (has(props, SP_MQTT_P_SESSION_EXPIRY)) {
        expiry = clamp(props->session_expiry, 0, limits->session_expiry_s);
    }
    sp_client_in_flight(client)->clean_start = packet->clean_start;
    client->session_expiry_s = expiry;
    client->receive_maximum = (uint16_t)clamp(limits->receive_maximum, 1, UINT16_MAX);
    client->window = (uint16_t)clamp(window, 1, clamp(limits->in_flight, 1, UINT16_MAX));
    if (has(props, SP_MQTT_P_MAXIMUM_PACKET_SIZE)) {
        client->max_packet = props->max_packet_size;
    }
    sp_client_in_flight(client)->keep_alive_s = packet->keep_alive;
    client->terse = has(props, SP_MQTT_P_REQUEST_PROBLEM_INFO) && props->request_problem_info == 0;
    sp_client_in_flight(client)->wants_response = props->request_response_info != 0;
}

/* A client that takes aliases gets them, as far as its role has any. false: no memory. */
static bool keep_aliases(struct sp_client *client, const struct sp_mqtt_connect *packet)
{
    uint32_t most = sp_client_role(client)->topic_aliases;
    uint32_t taken = clamp(packet->props.topic_alias_maximum, 0, most);
    struct sp_client_more *more = taken == 0 ? NULL : sp_client_have_more(client);
    if (more != NULL) {
        more->aliases = sp_aliases_create((uint16_t)most, (uint16_t)taken);
    }
    return taken == 0 || (more != NULL && more->aliases != NULL);
}

/* The identity's place for guests, if one is needed. false: refused. */
static bool take_place(struct sp_client *client, bool guest)
{
    if (!guest) {
        return true;
    }
    if (sp_client_in_flight(client)->blocked || sp_device_blocked(sp_client_device(client))) {
        refuse(client, SP_MQTT_RC_QUOTA_EXCEEDED, "too many refused tokens");
    } else if (sp_client_device(client)->has_guest) {
        refuse(client, SP_MQTT_RC_QUOTA_EXCEEDED, "another guest waits for its verdict");
    } else if (client->home->keys.send == NULL || !client->nonce_open) {
        refuse(client, SP_MQTT_RC_SERVER_UNAVAILABLE, "appraisal not available");
    } else {
        sp_client_device(client)->has_guest = true;
        client->guest = true;
        sp_metric_inc(SP_M_GUESTS);
        return true;
    }
    return false;
}

void sp_on_connect(struct sp_client *client, const struct sp_mqtt_header *header,
                   struct sp_view body)
{
    (void)header;
    struct sp_mqtt_connect packet;
    if (!decode(client, body, &packet) || !check(client, &packet)) {
        return;
    }
    bool guest = packet.version == SP_MQTT_5 ? client->method
                                             : client->attestation == SP_ATTESTATION_REQUIRED;
    if (!take_place(client, guest)) {
        return;
    }
    keep_options(client, &packet);
    struct sp_will *will = packet.will.present ? sp_will_create(&packet.will) : NULL;
    if ((packet.will.present && will == NULL) || sp_client_keep_will(client, will) != SP_OK ||
        !keep_aliases(client, &packet)) {
        refuse(client, SP_MQTT_RC_SERVER_UNAVAILABLE, "out of memory");
        return;
    }
    if (guest) {
        sp_guard_begin(client);
    } else {
        sp_guard_forget(client);
        sp_client_admit(client);
    }
}

/* ---- admission ---- */

static void take_over(struct sp_device *device)
{
    if (sp_device_client(device) != NULL) {
        sp_client_refuse(sp_device_client(device),
                         &(struct sp_refusal){.metric = SP_M_TAKEN_OVER,
                                              .event = "taken_over",
                                              .code = SP_MQTT_RC_SESSION_TAKEN_OVER});
    }
}

/* Response Information: under what a client may subscribe to replies, `cmd/<itself>/` (MQTT 5, 3.2.2.3.15). */
static void offer_response(const struct sp_client *client, uint8_t *buf, size_t size,
                           struct sp_mqtt_props *props)
{
    struct sp_view identity = sp_client_identity(client);
    struct sp_writer w;
    sp_writer_init(&w, buf, size);
    sp_write_str(&w, "cmd/");
    sp_write_view(&w, identity);
    sp_write_str(&w, "/#");
    if (w.err == SP_OK &&
        sp_acl_may_subscribe(sp_client_role(client), identity, sp_writer_view(&w))) {
        props->present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_RESPONSE_INFO);
        props->response_info = sp_view_first(sp_writer_view(&w), w.used - 1);
    }
}

static void welcome_5(struct sp_client *client, bool present)
{
    const struct sp_limits_config *limits = &client->home->config->limits;
    uint32_t seconds = keep_alive_s(client);
    struct sp_mqtt_connack connack = {.session_present = present};
    struct sp_mqtt_props *props = &connack.props;
    props->present = (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM) |
                                SP_MQTT_HAS(SP_MQTT_P_RETAIN_AVAILABLE) |
                                SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_PACKET_SIZE) |
                                SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS_MAXIMUM) |
                                SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY) |
                                SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID_AVAILABLE) |
                                SP_MQTT_HAS(SP_MQTT_P_SHARED_AVAILABLE));
    props->receive_maximum = client->receive_maximum;
    props->retain_available = sp_client_role(client)->retain;
    props->shared_available = sp_client_role(client)->shared_subscriptions;
    props->subscription_id_available = 1;
    props->topic_alias_maximum = (uint16_t)sp_client_role(client)->topic_aliases;
    props->max_packet_size = limits->packet;
    props->session_expiry = client->session_expiry_s;
    if (seconds != sp_client_in_flight(client)->keep_alive_s) {
        props->present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SERVER_KEEP_ALIVE);
        props->server_keep_alive = (uint16_t)clamp(seconds, 1, UINT16_MAX);
    }
    if (sp_client_in_flight(client)->assigned_id) {
        props->present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_ASSIGNED_CLIENT_ID);
        props->assigned_client_id = sp_client_identity(client);
    }
    if (client->method) {
        props->present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD);
        props->auth_method = sp_view_str(sp_link_method((enum sp_link_binding)client->binding));
    }
    uint8_t response[SP_LINK_IDENTITY_MAX + 8];
    if (sp_client_in_flight(client)->wants_response) {
        offer_response(client, response, sizeof(response), props);
    }
    sp_client_send_connack(client, &connack);
}

static void log_admitted(const struct sp_client *client, bool resumed)
{
    char peer[SP_PEER_TEXT_MAX];
    sp_log_info(SP_EVENT("device_admitted"), SP_F_VIEW("device", sp_client_identity(client)),
                SP_F_STR("peer", sp_client_peer_text(client, peer)),
                SP_F_STR("role", sp_client_role(client)->name),
                SP_F_STR("mqtt", client->version == SP_MQTT_5 ? "5" : "3.1.1"),
                SP_F_STR("attested", client->attested ? "yes" : "no"),
                SP_F_STR("session", resumed ? "resumed" : "new"));
}

/*
 * A session that the device does not want any more, or that was begun for an earlier row of its name, has ended for good
 * before it is told so. @return false: wait for that, or it was refused.
 */
static bool end_former(struct sp_client *client)
{
    struct sp_device *device = sp_client_device(client);
    struct sp_session *session = sp_device_session(device);
    if (session == NULL || (!sp_client_in_flight(client)->clean_start &&
                            session->version == sp_client_in_flight(client)->row_version)) {
        return true;
    }
    bool kept = session->kept;
    sp_device_end_session(device);
    if (kept && sp_keep_admit_later(client->home, client) != SP_OK) {
        refuse(client, SP_MQTT_RC_SERVER_UNAVAILABLE, "the former session cannot be ended now");
    }
    return !kept;
}

void sp_client_admit(struct sp_client *client)
{
    struct sp_device *device = sp_client_device(client);
    bool was_guest = client->state == SP_CLIENT_GUEST_311;
    take_over(device);
    if (!end_former(client)) {
        return;
    }
    if (client->guest) {
        client->guest = false;
        device->has_guest = false;
        sp_metric_add(SP_M_GUESTS, -1);
    }
    struct sp_session *session = sp_device_session(device);
    bool present = session != NULL;
    if (!present && sp_session_create(client->home, device, &session) != SP_OK) {
        refuse(client, SP_MQTT_RC_SERVER_UNAVAILABLE, "out of memory");
        return;
    }
    session->version = sp_client_in_flight(client)->row_version;
    sp_device_return(device);
    device->client_ref = sp_ref_of(client);
    client->state = SP_CLIENT_OPEN;
    sp_metric_inc(SP_M_DEVICES_ONLINE);
    sp_metric_add(SP_M_DEVICES_ATTESTED, client->attested ? 1 : 0);
    log_admitted(client, present);
    if (client->version == SP_MQTT_5) {
        welcome_5(client, present);
    } else if (!was_guest) {
        const struct sp_mqtt_connack connack = {.session_present = present};
        sp_client_send_connack(client, &connack);
    }
    client->keep_alive_s = keep_alive_s(client);
    sp_client_arm(client);
    sp_device_settle(device);
    sp_session_attach(client->home, session, client);
    sp_guard_admitted(client);
}
