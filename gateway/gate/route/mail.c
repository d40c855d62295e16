/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/route/mail.h"

#include <stdlib.h>

/* The properties that travel with a message from publisher to receiver (MQTT 5, 3.3.2.3). */
#define TRAVELS                                                                                 \
    ((uint32_t)(SP_MQTT_HAS(SP_MQTT_P_PAYLOAD_FORMAT) | SP_MQTT_HAS(SP_MQTT_P_MESSAGE_EXPIRY) | \
                SP_MQTT_HAS(SP_MQTT_P_CONTENT_TYPE) | SP_MQTT_HAS(SP_MQTT_P_RESPONSE_TOPIC) |   \
                SP_MQTT_HAS(SP_MQTT_P_CORRELATION_DATA) | SP_MQTT_HAS(SP_MQTT_P_USER_PROPERTY)))

struct with_props {
    struct sp_mail message;
    struct sp_mqtt_props props;
};

static struct sp_view keep(struct sp_writer *w, struct sp_view bytes)
{
    uint8_t *at = sp_write_reserve(w, bytes.len);
    if (at == NULL || bytes.len == 0) {
        return (struct sp_view){NULL, 0};
    }
    sp_copy(at, bytes.ptr, bytes.len);
    return sp_view(at, bytes.len);
}

static struct sp_view keep_user(struct sp_writer *w, struct sp_view block)
{
    struct sp_view name;
    struct sp_view value;
    size_t from = w->used;
    while (sp_mqtt_user_next(&block, &name, &value)) {
        sp_mqtt_user_encode(w, name, value);
    }
    return sp_view_from(sp_writer_view(w), from);
}

static void keep_props(struct sp_writer *w, const struct sp_mqtt_props *from,
                       struct sp_mqtt_props *to)
{
    *to = (struct sp_mqtt_props){
        .present = from->present & TRAVELS,
        .payload_format = from->payload_format,
        .message_expiry = from->message_expiry,
    };
    to->content_type = keep(w, from->content_type);
    to->response_topic = keep(w, from->response_topic);
    to->correlation_data = keep(w, from->correlation_data);
    to->user = keep_user(w, from->user);
}

struct sp_mail *sp_mail_create(const struct sp_mqtt_publish *publish, uint64_t now_ms)
{
    const struct sp_mqtt_props *props = &publish->props;
    bool has_props = (props->present & TRAVELS) != 0;
    size_t head = has_props ? sizeof(struct with_props) : sizeof(struct sp_mail);
    size_t size = publish->topic.len + publish->payload.len;
    if (has_props) {
        size += props->content_type.len + props->response_topic.len + props->correlation_data.len +
                props->user.len;
    }
    uint8_t *block = malloc(head + size);
    if (block == NULL) {
        return NULL;
    }
    struct sp_mail *message = (struct sp_mail *)(void *)block;
    *message = (struct sp_mail){.qos = publish->qos, .retain = publish->retain};
    atomic_init(&message->references, 1);
    struct sp_writer w;
    sp_writer_init(&w, block + head, size);
    message->topic = keep(&w, publish->topic);
    message->payload = keep(&w, publish->payload);
    if (has_props) {
        struct sp_mqtt_props *kept = &((struct with_props *)(void *)block)->props;
        keep_props(&w, props, kept);
        message->props = kept;
        if ((props->present & SP_MQTT_HAS(SP_MQTT_P_MESSAGE_EXPIRY)) != 0) {
            message->expires_ms = now_ms + (uint64_t)props->message_expiry * 1000 + 1;
        }
    }
    return message;
}

struct sp_mail *sp_mail_hold(struct sp_mail *message)
{
    atomic_fetch_add_explicit(&message->references, 1, memory_order_relaxed);
    return message;
}

void sp_mail_release(struct sp_mail *message)
{
    if (message != NULL &&
        atomic_fetch_sub_explicit(&message->references, 1, memory_order_acq_rel) == 1) {
        free(message);
    }
}

bool sp_mail_packet(const struct sp_mail *message, uint64_t now_ms, struct sp_mqtt_publish *out)
{
    out->topic = message->topic;
    out->payload = message->payload;
    out->props.present = 0;
    if (message->expires_ms != 0 && now_ms >= message->expires_ms) {
        return false;
    }
    if (message->props != NULL) {
        out->props = *message->props;
    }
    if (message->expires_ms != 0) {
        /* What is left, rounded down (MQTT 5, 3.3.2.3.3). */
        out->props.message_expiry = (uint32_t)((message->expires_ms - now_ms) / 1000);
    }
    return true;
}
