/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/attest/guard.h"

#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define AGAIN_LATER_MS 10000U /* after keys could not judge an admitted device */

static bool is_guest(const struct sp_client *client)
{
    return client->state == SP_CLIENT_GUEST_5 || client->state == SP_CLIENT_GUEST_311;
}

/* ---- challenge ---- */

bool sp_guard_keep_nonce(struct sp_client *client, const uint8_t *nonce)
{
    struct sp_client_work *work = sp_client_work(client);
    if (work == NULL) {
        return false;
    }
    if (work->nonce == NULL) {
        work->nonce = malloc(SP_LINK_NONCE_LEN);
    }
    if (work->nonce != NULL) {
        sp_copy(work->nonce, nonce, SP_LINK_NONCE_LEN);
    }
    return work->nonce != NULL;
}

static void drop_nonce(struct sp_client *client)
{
    struct sp_client_work *work = sp_client_in_flight(client);
    if (work != NULL && work->nonce != NULL) {
        sp_wipe(work->nonce, SP_LINK_NONCE_LEN);
        free(work->nonce);
        work->nonce = NULL;
    }
}

static void publish_challenge(struct sp_client *client)
{
    const struct sp_mqtt_publish publish = {
        .qos = 1,
        .packet_id = SP_CHALLENGE_ID,
        .topic = SP_VIEW_LIT(SP_LINK_TOPIC_CHALLENGE),
        .payload = sp_view(sp_client_now(client)->nonce, SP_LINK_NONCE_LEN),
    };
    client->challenge_unacked = true;
    sp_client_publish(client, &publish);
    drop_nonce(client);
}

static void send_auth(struct sp_client *client)
{
    const struct sp_mqtt_reasoned auth = {
        .reason = SP_MQTT_RC_CONTINUE_AUTHENTICATION,
        .props =
            {
                .present = (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) |
                                      SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA)),
                .auth_method = sp_view_str(sp_link_method((enum sp_link_binding)client->binding)),
                .auth_data = sp_view(sp_client_now(client)->nonce, SP_LINK_NONCE_LEN),
            },
    };
    sp_client_send_reasoned(client, SP_MQTT_AUTH, &auth);
    drop_nonce(client);
}

static void challenged(struct sp_client *client)
{
    uint32_t own_ms = sp_client_more(client)->answer_timeout_ms;
    uint32_t timeout_ms =
        own_ms != 0 ? own_ms : client->home->config->attestation.answer_timeout_ms;
    sp_metric_inc(SP_M_ATTEST_CHALLENGES);
    client->guard = SP_GUARD_CHALLENGED;
    client->attest_due_ms = client->home->timers->now_ms + timeout_ms;
    sp_client_arm(client);
}

/* There is one to be resumed: not one that ends with the connection that is there now. */
static bool has_session(const struct sp_device *device)
{
    return sp_device_session(device) != NULL &&
           (sp_device_client(device) == NULL || sp_device_client(device)->session_expiry_s > 0);
}

void sp_guard_begin(struct sp_client *client)
{
    if (client->version == SP_MQTT_5) {
        client->state = SP_CLIENT_GUEST_5;
        send_auth(client);
    } else {
        const struct sp_mqtt_connack connack = {.session_present =
                                                    !sp_client_in_flight(client)->clean_start &&
                                                    has_session(sp_client_device(client))};
        client->state = SP_CLIENT_GUEST_311;
        sp_client_send_connack(client, &connack);
        publish_challenge(client);
    }
    challenged(client);
}

/* On an admitted client the challenge takes one place of the peer's Receive Maximum; sp_client_window() keeps it. */
void sp_guard_pump(struct sp_client *client)
{
    if (client->guard == SP_GUARD_NONCE && !client->challenge_unacked &&
        sp_session_queue(sp_client_session(client))->in_flight < client->window) {
        publish_challenge(client);
        challenged(client);
    }
}

static void ask_nonce(struct sp_client *client)
{
    struct sp_view identity = sp_client_identity(client);
    struct sp_msg_nonce ask = {.identity_len = (uint8_t)identity.len};
    sp_copy(ask.identity, identity.ptr, identity.len);
    const struct sp_view body = sp_view(&ask, sizeof(ask));
    client->attest_due_ms = UINT64_MAX;
    if (sp_edge_send(&client->home->keys, SP_MSG_NONCE, sp_client_tag(client), &body, 1) == SP_OK) {
        client->guard = SP_GUARD_ASKED;
    } else {
        client->attest_due_ms = client->home->timers->now_ms + AGAIN_LATER_MS;
    }
    sp_client_arm(client);
}

void sp_guard_again(struct sp_client *client)
{
    if (client->state == SP_CLIENT_OPEN && client->guard == SP_GUARD_IDLE) {
        client->again = false;
        ask_nonce(client);
    } else {
        client->again = true;
    }
}

void sp_guard_configure(struct sp_client *client)
{
    uint64_t interval_ms = (uint64_t)client->home->config->attestation.reattest_interval_s * 1000;
    uint64_t latest = client->home->timers->now_ms + interval_ms;
    if (client->attested && client->guard == SP_GUARD_IDLE && interval_ms != 0 &&
        client->attest_due_ms > latest) {
        client->attest_due_ms = latest;
        sp_client_arm(client);
    }
}

void sp_guard_nonce(struct sp_client *client, const struct sp_msg_nonce_answer *answer)
{
    if (client->state != SP_CLIENT_OPEN || client->guard != SP_GUARD_ASKED) {
        return;
    }
    if (answer->ok == 0 || !sp_guard_keep_nonce(client, answer->nonce)) {
        client->guard = SP_GUARD_IDLE;
        client->attest_due_ms = client->home->timers->now_ms + AGAIN_LATER_MS;
        sp_client_arm(client);
        return;
    }
    client->nonce_open = true;
    client->guard = SP_GUARD_NONCE;
    /* Whoever acknowledges nothing would never be asked again, and keep its rights for ever. */
    client->attest_due_ms =
        client->home->timers->now_ms + client->home->config->attestation.answer_timeout_ms;
    sp_client_arm(client);
    sp_guard_pump(client);
}

/* ---- token ---- */

void sp_on_guest_auth(struct sp_client *client, const struct sp_mqtt_header *header,
                      struct sp_view body)
{
    struct sp_mqtt_reasoned auth;
    enum sp_err err = sp_mqtt_decode_reasoned(SP_MQTT_5, header->type, body, &auth);
    struct sp_view method = sp_view_str(sp_link_method((enum sp_link_binding)client->binding));
    if (err != SP_OK) {
        sp_client_protocol_error(client,
                                 err == SP_ERR_PROTOCOL ? SP_MQTT_RC_PROTOCOL_ERROR
                                                        : SP_MQTT_RC_MALFORMED_PACKET,
                                 "AUTH");
    } else if (auth.reason != SP_MQTT_RC_CONTINUE_AUTHENTICATION ||
               !sp_view_equal(auth.props.auth_method, method) ||
               (auth.props.present & SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA)) == 0) {
        sp_client_protocol_error(client, SP_MQTT_RC_PROTOCOL_ERROR,
                                 "AUTH with another reason or method, or without data");
    } else {
        sp_guard_token(client, auth.props.auth_data);
    }
}

static bool send_token(struct sp_client *client, struct sp_view token)
{
    struct sp_view identity = sp_client_identity(client);
    struct sp_msg_appraise ask = {.identity_len = (uint8_t)identity.len};
    sp_copy(ask.identity, identity.ptr, identity.len);
    if (client->binding == SP_LINK_BINDING_TLS) {
        if (client->home->exporter(client, ask.exporter) != SP_OK) {
            return false;
        }
        ask.has_exporter = 1;
    }
    /* One byte beyond the limit is enough for the check `size`. */
    token = sp_view_first(token, SP_LINK_TOKEN_MAX + 1);
    ask.token_len = (uint32_t)token.len;
    const struct sp_view parts[] = {sp_view(&ask, sizeof(ask)), token};
    return sp_edge_send(&client->home->keys, SP_MSG_APPRAISE, sp_client_tag(client), parts, 2) ==
           SP_OK;
}

/* No verdict can be had now. A guest has to come back; an admitted device keeps its rights (docs/protocol.md 3.3). */
static void unavailable(struct sp_client *client)
{
    if (is_guest(client)) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_CONNECT_REFUSED,
                                                      .event = "appraisal_unavailable",
                                                      .code = SP_MQTT_RC_SERVER_UNAVAILABLE});
        return;
    }
    client->guard = SP_GUARD_IDLE;
    client->attest_due_ms = client->home->timers->now_ms + AGAIN_LATER_MS;
    sp_client_arm(client);
}

void sp_guard_token(struct sp_client *client, struct sp_view token)
{
    if (client->guard != SP_GUARD_CHALLENGED) {
        sp_client_protocol_error(client, SP_MQTT_RC_PROTOCOL_ERROR, "token without a challenge");
        return;
    }
    client->guard = SP_GUARD_APPRAISING;
    client->attest_due_ms = UINT64_MAX;
    sp_client_arm(client);
    if (client->nonce_open && send_token(client, token)) {
        client->nonce_open = false;
        client->judged = sp_client_more(client)->group != NULL;
    } else {
        unavailable(client);
    }
}

/* ---- verdict ---- */

static void refuse(struct sp_client *client, enum sp_attest_check check, const char *detail)
{
    char text[SP_ATTEST_DETAIL_MAX + 32];
    (void)snprintf(text, sizeof(text), "%s: %s", sp_attest_check_name(check), detail);
    sp_device_refused(sp_client_device(client));
    if (client->state != SP_CLIENT_GUEST_5) {
        sp_client_tell(client, SP_LINK_TOPIC_VERDICT, sp_view_str(text));
    }
    sp_client_refuse(client, &(struct sp_refusal){
                                 .metric = (enum sp_metric)(SP_M_ATTEST_REFUSED + (int)check),
                                 .event = "attest_refused",
                                 .check = sp_attest_check_name(check),
                                 .detail = detail,
                                 .reason = text,
                                 .code = SP_MQTT_RC_NOT_AUTHORIZED,
                                 .untrusted = true,
                             });
}

static void tell_time(struct sp_client *client)
{
    uint8_t text[24];
    struct sp_writer w;
    sp_writer_init(&w, text, sizeof(text));
    sp_write_dec(&w, (int64_t)(client->home->timers->wall_ms / 1000));
    sp_client_tell(client, SP_LINK_TOPIC_TIME, sp_writer_view(&w));
}

/* When keys cannot be told, it has forgotten the verdict too, and asks for another one when it is back. */
static void ready_for_keys(struct sp_client *client)
{
    if (sp_client_more(client)->group != NULL) {
        (void)!sp_edge_send(&client->home->keys, SP_MSG_GRANT_READY, sp_client_tag(client), NULL,
                            0);
    }
}

void sp_guard_admitted(struct sp_client *client)
{
    if (!client->attested || client->state != SP_CLIENT_OPEN) {
        return;
    }
    tell_time(client);
    ready_for_keys(client);
    if (client->again) {
        sp_guard_again(client);
    }
}

static void accept(struct sp_client *client)
{
    bool was_attested = client->attested;
    uint32_t interval_s = client->home->config->attestation.reattest_interval_s;
    client->guard = SP_GUARD_IDLE;
    client->attested = true;
    if (interval_s != 0) {
        client->attest_due_ms = client->home->timers->now_ms + (uint64_t)interval_s * 1000;
    }
    sp_metric_inc(SP_M_ATTEST_OK);
    if (client->state != SP_CLIENT_GUEST_5) {
        sp_client_tell(client, SP_LINK_TOPIC_VERDICT, SP_VIEW_LIT(SP_LINK_VERDICT_OK));
    }
    if (is_guest(client)) {
        sp_client_admit(client);
        return;
    }
    sp_metric_add(SP_M_DEVICES_ATTESTED, was_attested ? 0 : 1);
    sp_log_info(SP_EVENT("device_reattested"), SP_F_VIEW("device", sp_client_identity(client)));
    sp_client_arm(client);
    sp_guard_admitted(client);
}

void sp_guard_verdict(struct sp_client *client, const struct sp_msg_verdict *verdict)
{
    if (client->state == SP_CLIENT_CLOSED || client->guard != SP_GUARD_APPRAISING) {
        return;
    }
    bool early =
        sp_client_now(client)->in.used > 0 || (client->early && client->state == SP_CLIENT_GUEST_5);
    if (is_guest(client) && early) {
        /* The beginning of a packet, or of a record, was sent before the verdict. */
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_GUEST_EARLY,
                                                      .event = "guest_out_of_turn",
                                                      .code = SP_MQTT_RC_PROTOCOL_ERROR});
    } else if (verdict->unavailable != 0 || verdict->check >= SP_ATTEST_CHECK_COUNT) {
        unavailable(client);
    } else if (verdict->check != SP_ATTEST_OK) {
        char detail[SP_ATTEST_DETAIL_MAX];
        (void)snprintf(detail, sizeof(detail), "%.*s", (int)sizeof(verdict->detail) - 1,
                       verdict->detail);
        refuse(client, (enum sp_attest_check)verdict->check, detail);
    } else {
        accept(client);
    }
}

void sp_guard_due(struct sp_client *client)
{
    if (client->guard == SP_GUARD_CHALLENGED) {
        refuse(client, SP_ATTEST_TIMEOUT, "no answer to the challenge");
    } else if (client->guard == SP_GUARD_NONCE) {
        refuse(client, SP_ATTEST_TIMEOUT, "no room for the challenge");
    } else if (client->guard == SP_GUARD_IDLE && client->state == SP_CLIENT_OPEN) {
        ask_nonce(client);
    }
}

void sp_guard_lost(struct sp_client *client)
{
    /* A device that was asked may have answered already: its token must not count as unasked. */
    bool waits = client->guard != SP_GUARD_IDLE && client->guard != SP_GUARD_CHALLENGED;
    client->nonce_open = false;
    if (is_guest(client) || (client->state == SP_CLIENT_OPEN && waits)) {
        unavailable(client);
    }
}

void sp_guard_forget(struct sp_client *client)
{
    drop_nonce(client);
    if (client->nonce_open || client->judged) {
        client->nonce_open = false;
        client->judged = false;
        /* When keys cannot be told, it has forgotten already. */
        (void)!sp_edge_send(&client->home->keys, SP_MSG_FORGET, sp_client_tag(client), NULL, 0);
    }
}
