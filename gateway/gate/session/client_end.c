/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* How a client ends: by itself, refused, or with the gateway. */
#include "gateway/gate/attest/guard.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/log/log.h"

static void leave_device(struct sp_client *client, bool with_will, bool end_session)
{
    struct sp_device *device = sp_client_device(client);
    struct sp_will *will = sp_client_more(client)->will;
    client->device_ref = 0;
    if (sp_client_own_more(client) != NULL) {
        sp_client_own_more(client)->will = NULL;
    }
    if (device == NULL) {
        sp_will_destroy(will);
        return;
    }
    if (client->guest) {
        client->guest = false;
        device->has_guest = false;
        sp_metric_add(SP_M_GUESTS, -1);
    }
    if (sp_device_client(device) != client || !with_will) {
        sp_will_destroy(will);
        will = NULL;
    }
    if (sp_device_client(device) == client) {
        if (will != NULL) {
            will->attested = client->attested;
        }
        device->client_ref = 0;
        sp_metric_add(SP_M_DEVICES_ONLINE, -1);
        sp_metric_add(SP_M_DEVICES_ATTESTED, client->attested ? -1 : 0);
        sp_device_leave(device, end_session ? 0 : client->session_expiry_s, will);
    }
    device->users--;
    sp_device_settle(device);
}

static void close_client(struct sp_client *client, bool with_will, bool end_session)
{
    client->state = SP_CLIENT_CLOSED;
    sp_client_arm(client);
    sp_guard_forget(client);
    leave_device(client, with_will, end_session);
    sp_client_mark(client);
}

void sp_client_end(struct sp_client *client, bool with_will)
{
    if (client->state == SP_CLIENT_CLOSED) {
        return;
    }
    char peer[SP_PEER_TEXT_MAX];
    if (client->state == SP_CLIENT_OPEN) {
        sp_log_debug(SP_EVENT("device_left"), SP_F_VIEW("device", sp_client_identity(client)),
                     SP_F_STR("peer", sp_client_peer_text(client, peer)));
    }
    close_client(client, with_will, false);
}

void sp_client_lost(struct sp_client *client)
{
    client->lost = true;
    sp_client_end(client, true);
}

void sp_client_starve(struct sp_client *client)
{
    client->starved = client->starved || !client->lost;
    client->lost = true;
    sp_client_mark(client);
}

void sp_client_shutdown(struct sp_client *client)
{
    if (client->state == SP_CLIENT_OPEN && client->version == SP_MQTT_5) {
        const struct sp_mqtt_reasoned packet = {.reason = SP_MQTT_RC_SERVER_SHUTTING_DOWN};
        sp_client_send_reasoned(client, SP_MQTT_DISCONNECT, &packet);
    }
    if (client->state != SP_CLIENT_CLOSED) {
        close_client(client, false, false);
    }
}

/* ---- refusing ---- */

/* The 3.1.1 return code that the table in docs/protocol.md 3.5 has for a reason; 0: it has none, just close. */
static uint8_t code_311(uint8_t reason)
{
    switch (reason) {
    case SP_MQTT_RC_UNSUPPORTED_PROTOCOL_VERSION:
    case SP_MQTT_RC_CLIENT_IDENTIFIER_NOT_VALID:
    case SP_MQTT_RC_SERVER_UNAVAILABLE:
    case SP_MQTT_RC_NOT_AUTHORIZED:
        return sp_mqtt_connack_code_311(reason);
    default:
        return 0;
    }
}

static void say_why(struct sp_client *client, const struct sp_refusal *refusal)
{
    struct sp_mqtt_props props = {.present = 0};
    if (refusal->reason != NULL) {
        props.present = SP_MQTT_HAS(SP_MQTT_P_REASON_STRING);
        props.reason_string = sp_view_str(refusal->reason);
    }
    if (client->version == SP_MQTT_5 && client->state == SP_CLIENT_OPEN) {
        const struct sp_mqtt_reasoned packet = {.reason = refusal->code, .props = props};
        sp_client_send_reasoned(client, SP_MQTT_DISCONNECT, &packet);
    } else if (client->version == SP_MQTT_5) {
        const struct sp_mqtt_connack connack = {.reason = refusal->code, .props = props};
        sp_client_send_connack(client, &connack);
    } else if (client->version == SP_MQTT_311 && client->state == SP_CLIENT_CONNECT &&
               code_311(refusal->code) != 0) {
        const struct sp_mqtt_connack connack = {.reason = code_311(refusal->code)};
        sp_client_send_connack(client, &connack);
    }
}

void sp_client_refuse(struct sp_client *client, const struct sp_refusal *refusal)
{
    if (client->state == SP_CLIENT_CLOSED) {
        return;
    }
    char peer[SP_PEER_TEXT_MAX];
    sp_metric_inc(refusal->metric);
    sp_log_limited(SP_EVENT(refusal->event), SP_F_VIEW("device", sp_client_identity(client)),
                   SP_F_STR("peer", sp_client_peer_text(client, peer)),
                   SP_F_STR("check", refusal->check == NULL ? "-" : refusal->check),
                   SP_F_STR("detail", refusal->detail == NULL ? "-" : refusal->detail),
                   SP_F_INT("code", refusal->code));
    say_why(client, refusal);
    client->linger = true;
    close_client(client, !refusal->untrusted, refusal->end_session);
}

void sp_client_protocol_error(struct sp_client *client, uint8_t code, const char *detail)
{
    sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_PROTOCOL_ERRORS,
                                                  .event = "protocol_error",
                                                  .detail = detail,
                                                  .code = code});
}

void sp_client_malformed(struct sp_client *client, enum sp_err err, const char *packet)
{
    uint8_t code = SP_MQTT_RC_MALFORMED_PACKET;
    if (err == SP_ERR_PROTOCOL) {
        code = SP_MQTT_RC_PROTOCOL_ERROR;
    } else if (err == SP_ERR_DENIED) {
        code = SP_MQTT_RC_TOPIC_NAME_INVALID;
    }
    sp_client_protocol_error(client, code, packet);
}
