/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* SUBSCRIBE and UNSUBSCRIBE. */
#include "gateway/gate/route/acl.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/keep.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"
#include "libs/mqtt/topic.h"

#include <string.h>

#define FILTERS_MAX 256U /* in one packet */

/* false: the client was closed. */
static bool decode(struct sp_client *client, const struct sp_mqtt_header *header,
                   struct sp_view body, struct sp_mqtt_subscribe *packet)
{
    enum sp_err err =
        sp_mqtt_decode_subscribe((enum sp_mqtt_version)client->version, header->type, body, packet);
    const struct sp_limits_config *limits = &client->home->config->limits;
    uint8_t code = 0;
    if (err == SP_ERR_PROTOCOL) {
        code = SP_MQTT_RC_PROTOCOL_ERROR;
    } else if (err != SP_OK) {
        code = SP_MQTT_RC_MALFORMED_PACKET;
    } else if (packet->filter_count > FILTERS_MAX ||
               packet->props.user_count > limits->user_properties ||
               packet->props.user.len > limits->user_property_bytes) {
        code = SP_MQTT_RC_QUOTA_EXCEEDED;
    }
    if (code != 0) {
        sp_client_protocol_error(client, code,
                                 header->type == SP_MQTT_SUBSCRIBE ? "SUBSCRIBE" : "UNSUBSCRIBE");
    }
    return code == 0;
}

static uint8_t code_for(enum sp_err err, uint8_t qos)
{
    switch (sp_err_class(err)) {
    case SP_CLASS_NONE:
        return qos;
    case SP_CLASS_POLICY:
        return SP_MQTT_RC_QUOTA_EXCEEDED;
    case SP_CLASS_RETRY:
    case SP_CLASS_LOCAL:
    case SP_CLASS_PEER:
    case SP_CLASS_BUG:
    default:
        return SP_MQTT_RC_UNSPECIFIED_ERROR;
    }
}

/* What a filter is refused for by itself; 0: nothing. */
static uint8_t check_filter(const struct sp_client *client, struct sp_view filter)
{
    const struct sp_limits_config *limits = &client->home->config->limits;
    struct sp_view name;
    struct sp_view inner = filter;
    enum sp_err share = sp_topic_share(filter, &name, &inner);
    bool shared = share == SP_OK;
    if (share != SP_ERR_NOT_FOUND && !sp_client_role(client)->shared_subscriptions) {
        return SP_MQTT_RC_SHARED_SUBSCRIPTIONS_NOT_SUPPORTED;
    }
    if (share == SP_ERR_MALFORMED || !sp_topic_filter_valid(inner) ||
        filter.len > limits->topic_bytes || sp_topic_levels(inner) > limits->topic_levels) {
        return SP_MQTT_RC_TOPIC_FILTER_INVALID;
    }
    bool own = sp_view_starts(inner, SP_VIEW_LIT(SP_LINK_TOPIC_PREFIX));
    bool allowed = sp_acl_may_subscribe(sp_client_role(client), sp_client_identity(client), inner);
    return (shared && own) || !allowed ? SP_MQTT_RC_NOT_AUTHORIZED : 0;
}

/* Retain Handling 1: a new subscription only; 2: never. A shared one gets none (MQTT 5, 3.3.1.3). */
static bool wants_retained(const struct sp_client *client, const struct sp_mqtt_filter *wanted,
                           bool existed)
{
    return client->home->retained != NULL && wanted->retain_handling != 2 &&
           !(wanted->retain_handling == 1 && existed) &&
           !sp_view_starts(wanted->filter, SP_VIEW_LIT("$share/"));
}

static uint8_t subscribe_one(struct sp_client *client, const struct sp_mqtt_filter *wanted,
                             uint32_t id, bool *replay)
{
    *replay = false;
    uint8_t refused = check_filter(client, wanted->filter);
    if (refused != 0) {
        return refused;
    }
    if (sp_view_starts(wanted->filter, SP_VIEW_LIT(SP_LINK_TOPIC_PREFIX))) {
        return wanted->qos; /* what is said there is said without a subscription */
    }
    unsigned options = (wanted->no_local ? SP_SUB_NO_LOCAL : 0U) |
                       (wanted->retain_as_published ? SP_SUB_RETAIN_AS_PUBLISHED : 0U);
    struct sp_subscriber subscriber = {
        .qos = wanted->qos,
        .options = (uint8_t)options,
        .id = id,
    };
    bool existed = false;
    enum sp_err err = sp_session_subscribe(client->home, sp_client_session(client), wanted->filter,
                                           subscriber, &existed);
    *replay = err == SP_OK && wants_retained(client, wanted, existed);
    return code_for(err, wanted->qos);
}

static void log_denied(struct sp_client *client, struct sp_view filter, uint8_t code)
{
    char peer[SP_PEER_TEXT_MAX];
    sp_metric_inc(SP_M_SUBSCRIBE_DENIED);
    if (!sp_client_may_log(client)) {
        return;
    }
    sp_log_warn(SP_EVENT("subscribe_denied"), SP_F_VIEW("device", sp_client_identity(client)),
                SP_F_STR("peer", sp_client_peer_text(client, peer)), SP_F_VIEW("filter", filter),
                SP_F_INT("code", code));
}

/* A device that will resume relies on what it was granted: it is durable first. */
static void answer(struct sp_client *client, const struct sp_mqtt_suback *suback)
{
    if (!sp_client_session(client)->kept) {
        sp_client_send_suback(client, SP_MQTT_SUBACK, suback);
    } else if (sp_keep_suback_later(client->home, client, suback) != SP_OK) {
        sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_SUBSCRIBE_DENIED,
                                                      .event = "subscription_not_stored",
                                                      .code = SP_MQTT_RC_SERVER_BUSY});
    }
}

/* After SUBACK, so that the client knows what they are for. */
static void replay(struct sp_client *client, const struct sp_mqtt_subscribe *packet,
                   const bool *wanted)
{
    struct sp_view rest = packet->filters;
    struct sp_mqtt_filter filter;
    for (size_t i = 0; i < FILTERS_MAX && sp_mqtt_filter_next(SP_MQTT_SUBSCRIBE, &rest, &filter);
         i++) {
        if (wanted[i] && sp_client_session(client) != NULL &&
            sp_session_replay(client->home, sp_client_session(client), filter.filter, filter.qos,
                              packet->props.subscription_id) != SP_OK) {
            sp_metric_inc(SP_M_PUBLISH_DROPPED);
        }
    }
}

void sp_on_subscribe(struct sp_client *client, const struct sp_mqtt_header *header,
                     struct sp_view body)
{
    struct sp_mqtt_subscribe packet;
    struct sp_mqtt_filter filter;
    uint8_t codes[FILTERS_MAX];
    bool replays[FILTERS_MAX];
    size_t count = 0;
    if (!decode(client, header, body, &packet)) {
        return;
    }
    struct sp_view rest = packet.filters;
    while (count < FILTERS_MAX && sp_mqtt_filter_next(header->type, &rest, &filter)) {
        uint8_t code =
            subscribe_one(client, &filter, packet.props.subscription_id, &replays[count]);
        if (code >= 0x80) {
            log_denied(client, filter.filter, code);
            code = client->version == SP_MQTT_5 ? code : 0x80;
        }
        codes[count++] = code;
    }
    const struct sp_mqtt_suback suback = {.packet_id = packet.packet_id,
                                          .codes = sp_view(codes, count)};
    answer(client, &suback);
    replay(client, &packet, replays);
}

void sp_on_guest_subscribe(struct sp_client *client, const struct sp_mqtt_header *header,
                           struct sp_view body)
{
    struct sp_mqtt_subscribe packet;
    struct sp_mqtt_filter filter;
    uint8_t codes[FILTERS_MAX];
    size_t count = 0;
    if (!decode(client, header, body, &packet)) {
        return;
    }
    struct sp_view rest = packet.filters;
    while (count < FILTERS_MAX && sp_mqtt_filter_next(header->type, &rest, &filter)) {
        bool exact = memchr(filter.filter.ptr, '#', filter.filter.len) == NULL &&
                     memchr(filter.filter.ptr, '+', filter.filter.len) == NULL;
        if (!exact || !sp_view_starts(filter.filter, SP_VIEW_LIT(SP_LINK_TOPIC_PREFIX))) {
            sp_client_refuse(client, &(struct sp_refusal){.metric = SP_M_GUEST_EARLY,
                                                          .event = "guest_out_of_turn",
                                                          .detail = "SUBSCRIBE before the verdict",
                                                          .code = SP_MQTT_RC_PROTOCOL_ERROR});
            return;
        }
        codes[count++] = filter.qos;
    }
    const struct sp_mqtt_suback suback = {.packet_id = packet.packet_id,
                                          .codes = sp_view(codes, count)};
    sp_client_send_suback(client, SP_MQTT_SUBACK, &suback);
}

void sp_on_unsubscribe(struct sp_client *client, const struct sp_mqtt_header *header,
                       struct sp_view body)
{
    struct sp_mqtt_subscribe packet;
    struct sp_mqtt_filter filter;
    uint8_t codes[FILTERS_MAX];
    size_t count = 0;
    if (!decode(client, header, body, &packet)) {
        return;
    }
    struct sp_view rest = packet.filters;
    while (count < FILTERS_MAX && sp_mqtt_filter_next(header->type, &rest, &filter)) {
        bool there = sp_session_unsubscribe(client->home, sp_client_session(client), filter.filter);
        codes[count++] = there ? SP_MQTT_RC_SUCCESS : SP_MQTT_RC_NO_SUBSCRIPTION_EXISTED;
    }
    const struct sp_mqtt_suback unsuback = {
        .packet_id = packet.packet_id,
        .codes = client->version == SP_MQTT_5 ? sp_view(codes, count) : sp_view(NULL, 0)};
    sp_client_send_suback(client, SP_MQTT_UNSUBACK, &unsuback);
}
