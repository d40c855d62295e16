/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* What a client is answered for its messages: in their order, and once what they wait for is durable. */
#include "gateway/gate/route/receipts.h"
#include "gateway/gate/session/client_internal.h"
#include "gateway/gate/session/session.h"

static void say_answer(struct sp_client *client, const struct sp_client_answer *answer)
{
    if (client->state == SP_CLIENT_CLOSED || client->stalled) {
        return;
    }
    if (answer->reason == SP_MQTT_RC_QUOTA_EXCEEDED && client->version == SP_MQTT_311) {
        sp_client_stall(client);
        return;
    }
    if (answer->reason != SP_MQTT_RC_SUCCESS && answer->type == SP_MQTT_PUBCOMP) {
        sp_client_no_release(client);
        return;
    }
    if (answer->type == SP_MQTT_PUBREC && answer->reason < 0x80) {
        sp_client_in_flight(client)->unreleased++;
    } else if (answer->type == SP_MQTT_PUBREC && sp_client_session(client) != NULL) {
        (void)sp_session_release(sp_client_session(client), answer->packet_id);
    }
    sp_client_send_ack(client, (enum sp_mqtt_type)answer->type, answer->packet_id, answer->reason);
    if (client->paused && !client->holding && !client->keeping) {
        client->paused = false;
        sp_client_mark(client);
    }
}

void sp_client_receipted(struct sp_client *client)
{
    while (sp_client_now(client)->receipts != NULL && sp_client_now(client)->receipts->waits == 0) {
        struct sp_client_work *work = sp_client_in_flight(client);
        struct sp_receipt *receipt = work->receipts;
        struct sp_client_answer answer = receipt->answer;
        /* What the journal has for the cloud is accepted, whoever else has no room for it. */
        bool refused = receipt->refused && !receipt->in_cloud;
        answer.reason = refused && answer.reason == SP_MQTT_RC_SUCCESS
                            ? (uint8_t)SP_MQTT_RC_QUOTA_EXCEEDED
                            : answer.reason;
        work->receipts = receipt->next;
        work->held--;
        sp_receipt_free(client->home, receipt);
        say_answer(client, &answer);
    }
}

/* All that it still may wait for are kept sessions, its own or those of answers before it. */
static void answer_due(struct sp_client *client, const struct sp_client_answer *answer)
{
    struct sp_receipt *receipt = sp_receipt_find(client->home, answer->receipt);
    struct sp_client_work *work = sp_client_work(client);
    if (work != NULL && receipt == NULL && work->receipts == NULL) {
        say_answer(client, answer);
        return;
    }
    if (work != NULL && receipt == NULL) {
        receipt = sp_receipt_open(client->home, sp_client_tag(client), 0);
    }
    if (work == NULL || receipt == NULL) {
        sp_client_starve(client);
        return;
    }
    receipt->answer = *answer;
    receipt->held = true;
    struct sp_receipt **end = &work->receipts;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    *end = receipt;
    work->held++;
    sp_client_receipted(client);
}

void sp_client_forget_receipts(struct sp_client_work *work, struct sp_home *home)
{
    while (work->receipts != NULL) {
        struct sp_receipt *receipt = work->receipts;
        work->receipts = receipt->next;
        sp_receipt_orphan(home, receipt->tag);
    }
}

static void acknowledge(struct sp_client *client, const struct sp_mqtt_publish *publish,
                        uint8_t reason, sp_slot_tag receipt)
{
    const struct sp_client_answer answer = {
        .receipt = receipt,
        .packet_id = publish->packet_id,
        .reason = reason,
        .type = publish->qos == 2 ? SP_MQTT_PUBREC : SP_MQTT_PUBACK,
    };
    if (sp_client_in_flight(client)->unacked == 0 ||
        sp_tickets_follow(client->home, sp_client_tag(client), &answer) != SP_OK) {
        answer_due(client, &answer);
    } else {
        sp_client_in_flight(client)->unacked++;
    }
}

void sp_client_acknowledge(struct sp_client *client, const struct sp_mqtt_publish *publish,
                           uint8_t reason)
{
    acknowledge(client, publish, reason, 0);
}

void sp_client_accept(struct sp_client *client, const struct sp_mqtt_publish *publish,
                      sp_slot_tag receipt)
{
    acknowledge(client, publish, SP_MQTT_RC_SUCCESS, receipt);
}

/* docs/protocol.md 3.5, "cannot store now", 3.1.1: it may neither be acknowledged nor refused. */
void sp_client_stall(struct sp_client *client)
{
    client->paused = true;
    client->stalled = true;
    client->heard_ms = client->home->timers->now_ms;
    sp_client_arm(client);
    sp_client_mark(client);
}

/* PUBCOMP knows no "not now": the client has to send its PUBREL again, and it does that on a new connection. */
void sp_client_no_release(struct sp_client *client)
{
    sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_PUBLISH_REFUSED,
                                                  .event = "release_refused",
                                                  .detail = "PUBREL cannot be stored now",
                                                  .code = SP_MQTT_RC_SERVER_BUSY});
}

void sp_client_stored(struct sp_client *client, const struct sp_client_answer *answer)
{
    if (sp_client_now(client)->unacked > 0) {
        sp_client_in_flight(client)->unacked--;
    }
    answer_due(client, answer);
}
