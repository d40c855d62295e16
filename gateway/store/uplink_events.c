/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/store/uplink_internal.h"

#include <stdio.h>
#include <string.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"

#define BUSY_MS 1000U /* between two log lines about refusals for now */

static void arrived(struct sp_uplink *l, uint64_t now)
{
    if (l->mqtt.limits.maximum_qos == 0) {
        /* A message that was accepted can't be handed to somebody who acknowledges nothing. */
        sp_uplink_lose(l, now, "the cloud takes QoS 0 only", true);
        return;
    }
    const struct sp_cloud_limits *limits = &sp_uplink_cloud(l)->limits;
    l->state = SP_UPLINK_UP;
    l->up_since = now;
    sp_uplink_forget_filters(l);
    l->bucket_wait_until = 0;
    sp_bucket_init(&l->publishes, limits->publishes_per_second, now);
    sp_bucket_init(&l->bytes, limits->bytes_per_second, now);
    sp_handoff_set_up(l->env->handoff, l->index, true);
    sp_metric_inc(SP_M_CLOUD_CONNECTS);
    sp_metric_add(SP_M_CLOUD_CONNECTED, 1);
    sp_log_info(SP_EVENT("cloud_connected"), SP_F_STR("client_id", l->client_id),
                SP_F_STR("endpoint", sp_uplink_cloud(l)->host),
                SP_F_INT("port", sp_uplink_cloud(l)->port),
                SP_F_STR("tls", sp_tls_describe(l->tls)),
                SP_F_INT("receive_maximum", l->mqtt.limits.receive_maximum),
                SP_F_INT("waiting", l->queue.count));
}

static void refused(struct sp_uplink *l, uint64_t now, const struct sp_mqtt_connack *connack)
{
    sp_log_warn(SP_EVENT("cloud_refused"), SP_F_STR("client_id", l->client_id),
                SP_F_INT("reason_code", connack->reason),
                SP_F_VIEW("text", connack->props.reason_string));
    sp_uplink_lose(l, now, "CONNECT was refused", true);
}

/* Refusals of a message that no repetition will change; every other one is worth a wait (D9). */
static const struct {
    uint8_t code;
    const char *reason;
} permanent[] = {
    {SP_MQTT_RC_NOT_AUTHORIZED, "refused by the cloud: not authorized"},
    {SP_MQTT_RC_TOPIC_NAME_INVALID, "refused by the cloud: topic name"},
    {SP_MQTT_RC_PACKET_TOO_LARGE, "refused by the cloud: packet too large"},
    {SP_MQTT_RC_PAYLOAD_FORMAT_INVALID, "refused by the cloud: payload format"},
    {SP_MQTT_RC_RETAIN_NOT_SUPPORTED, "refused by the cloud: retain"},
    {SP_MQTT_RC_QOS_NOT_SUPPORTED, "refused by the cloud: QoS"},
};

static const char *permanent_refusal(uint8_t code)
{
    for (size_t i = 0; i < sizeof(permanent) / sizeof(permanent[0]); i++) {
        if (permanent[i].code == code) {
            return permanent[i].reason;
        }
    }
    return NULL;
}

/* Not now: its device waits, all others go on (D9). */
static void put_back(struct sp_uplink *l, uint64_t now, struct sp_row *row, uint8_t code)
{
    uint64_t seq = row->seq;
    uint32_t wait = sp_lanes_refuse(&l->queue, row, now, sp_uplink_random());
    l->busy_untold++;
    if (l->busy_told == 0 || now - l->busy_told >= BUSY_MS) {
        sp_log_warn(SP_EVENT("cloud_busy"), SP_F_STR("client_id", l->client_id),
                    SP_F_INT("reason_code", code), SP_F_INT("sequence", seq),
                    SP_F_INT("retry_ms", wait), SP_F_INT("refusals", l->busy_untold));
        l->busy_told = now;
        l->busy_untold = 0;
    }
}

static void acknowledged(struct sp_uplink *l, uint64_t now, uint64_t seq, uint8_t code)
{
    struct sp_row *row = sp_uplink_take_row(&l->flying, seq);
    if (row == NULL) {
        return;
    }
    const char *dead = permanent_refusal(code);
    l->careful_left -= l->careful_left > 0 ? 1 : 0;
    if (seq == l->loss_head) {
        l->losses = 0;
    }
    if (code >= 0x80 && dead == NULL) {
        put_back(l, now, row, code);
        return;
    }
    sp_lanes_done(&l->queue, row);
    if (dead != NULL) {
        sp_uplink_end_row(l, row, SP_ROW_DEAD, dead);
    } else {
        sp_metric_inc(SP_M_CLOUD_PUBLISHED);
        sp_uplink_end_row(l, row, SP_ROW_DELIVERED, NULL);
    }
}

static void command(struct sp_uplink *l, uint64_t now, const struct sp_mqtt_publish *publish,
                    struct sp_writer *w)
{
    const struct sp_command given = {
        .tag = publish->qos > 0 ? l->generation << 16 | publish->packet_id : 0,
        .qos = publish->qos,
        .retain = publish->retain,
        .topic = publish->topic,
        .payload = publish->payload,
    };
    sp_metric_inc(SP_M_CLOUD_COMMANDS);
    sp_bucket_take(&l->publishes, 1);
    enum sp_err err = sp_handoff_command(l->env->handoff, &given);
    if (err == SP_OK) {
        return;
    }
    sp_log_warn(SP_EVENT("command_dropped"), SP_F_VIEW("topic", publish->topic), SP_F_ERR(err));
    if (publish->qos > 0 && sp_mqtt_client_ack(&l->mqtt, now, publish->packet_id,
                                               SP_MQTT_RC_QUOTA_EXCEEDED, w) != SP_OK) {
        sp_uplink_lose(l, now, "PUBACK cannot be made", false);
    }
}

static void granted(const struct sp_uplink *l, struct sp_view codes)
{
    for (size_t i = 0; i < codes.len; i++) {
        if (codes.ptr[i] >= 0x80) {
            sp_log_warn(SP_EVENT("commands_refused"), SP_F_STR("client_id", l->client_id),
                        SP_F_INT("reason_code", codes.ptr[i]));
        }
    }
}

/* Reasons for a DISCONNECT that have nothing to do with the message at the head. */
static const uint8_t unrelated[] = {
    SP_MQTT_RC_SERVER_BUSY,           SP_MQTT_RC_SERVER_SHUTTING_DOWN,
    SP_MQTT_RC_KEEP_ALIVE_TIMEOUT,    SP_MQTT_RC_SESSION_TAKEN_OVER,
    SP_MQTT_RC_MESSAGE_RATE_TOO_HIGH, SP_MQTT_RC_QUOTA_EXCEEDED,
    SP_MQTT_RC_ADMINISTRATIVE_ACTION, SP_MQTT_RC_USE_ANOTHER_SERVER,
    SP_MQTT_RC_SERVER_MOVED,          SP_MQTT_RC_CONNECTION_RATE_EXCEEDED,
    SP_MQTT_RC_MAXIMUM_CONNECT_TIME,
};

static void hung_up(struct sp_uplink *l, uint64_t now, const struct sp_mqtt_reasoned *disconnect)
{
    char reason[64];
    (void)snprintf(reason, sizeof(reason), "DISCONNECT 0x%02X", disconnect->reason);
    if (disconnect->props.reason_string.len > 0) {
        sp_log_warn(SP_EVENT("cloud_says"), SP_F_VIEW("text", disconnect->props.reason_string));
    }
    sp_uplink_lose(l, now, reason,
                   memchr(unrelated, disconnect->reason, sizeof(unrelated)) == NULL);
}

void sp_uplink_handle(struct sp_uplink *l, uint64_t now, const struct sp_mqtt_event *event,
                      struct sp_writer *w)
{
    switch (event->type) {
    case SP_MQTT_EVENT_CONNECTED:
        arrived(l, now);
        break;
    case SP_MQTT_EVENT_REFUSED:
        refused(l, now, &event->connack);
        break;
    case SP_MQTT_EVENT_MESSAGE:
        command(l, now, &event->publish, w);
        break;
    case SP_MQTT_EVENT_PUBACK:
        acknowledged(l, now, event->cookie, event->ack.reason);
        break;
    case SP_MQTT_EVENT_SUBACK:
        granted(l, event->suback.codes);
        break;
    case SP_MQTT_EVENT_DISCONNECTED:
        hung_up(l, now, &event->disconnect);
        break;
    case SP_MQTT_EVENT_CHALLENGE:
        sp_uplink_lose(l, now, "the cloud wants an AUTH exchange", true);
        break;
    case SP_MQTT_EVENT_UNSUBACK:
    case SP_MQTT_EVENT_NONE:
        break;
    }
}
