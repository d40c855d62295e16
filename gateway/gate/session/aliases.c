/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/aliases.h"

#include <stdlib.h>

#define ALIAS_COST 4U /* bytes that a packet grows by: the property, and a longer length */

struct topic {
    uint16_t len; /* 0: not set */
    uint8_t *text;
};

struct sp_aliases {
    uint16_t in_max;
    uint16_t out_max;
    uint16_t out_count;
    struct topic topics[]; /* the client's, then ours */
};

struct sp_aliases *sp_aliases_create(uint16_t in_max, uint16_t out_max)
{
    size_t count = (size_t)in_max + out_max;
    struct sp_aliases *aliases = calloc(1, sizeof(*aliases) + count * sizeof(struct topic));
    if (aliases != NULL) {
        aliases->in_max = in_max;
        aliases->out_max = out_max;
    }
    return aliases;
}

void sp_aliases_destroy(struct sp_aliases *aliases)
{
    for (size_t i = 0; aliases != NULL && i < (size_t)aliases->in_max + aliases->out_max; i++) {
        free(aliases->topics[i].text);
    }
    free(aliases);
}

static bool set(struct topic *topic, struct sp_view text)
{
    uint8_t *copy = malloc(text.len);
    if (copy == NULL) {
        return false;
    }
    sp_copy(copy, text.ptr, text.len);
    free(topic->text);
    *topic = (struct topic){(uint16_t)text.len, copy};
    return true;
}

enum sp_err sp_aliases_resolve(struct sp_aliases *aliases, struct sp_mqtt_publish *publish)
{
    uint16_t alias = publish->props.topic_alias;
    if (alias == 0 || alias > aliases->in_max) {
        return SP_ERR_LIMIT;
    }
    struct topic *topic = &aliases->topics[alias - 1];
    if (publish->topic.len > 0) {
        if (!set(topic, publish->topic)) {
            return SP_ERR_NOMEM;
        }
    } else if (topic->len == 0) {
        return SP_ERR_PROTOCOL;
    }
    publish->topic = sp_view(topic->text, topic->len);
    publish->props.present &= ~(uint32_t)SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS);
    return SP_OK;
}

void sp_aliases_apply(struct sp_aliases *aliases, struct sp_mqtt_publish *publish, size_t room)
{
    struct topic *ours = &aliases->topics[aliases->in_max];
    uint16_t i = 0;
    while (i < aliases->out_count &&
           !sp_view_equal(sp_view(ours[i].text, ours[i].len), publish->topic)) {
        i++;
    }
    if (i < aliases->out_count) {
        /* What the alias takes, a topic this short does not give back. */
        if (publish->topic.len < ALIAS_COST && room < ALIAS_COST) {
            return;
        }
        publish->topic = sp_view(NULL, 0);
    } else if (aliases->out_count == aliases->out_max || room < ALIAS_COST ||
               !set(&ours[i], publish->topic)) {
        return;
    } else {
        aliases->out_count++;
    }
    publish->props.present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS);
    publish->props.topic_alias = (uint16_t)(i + 1);
}

/* ---- to another process, and from one ---- */

static size_t count_of(const struct sp_aliases *aliases)
{
    return (size_t)aliases->in_max + aliases->out_max;
}

size_t sp_aliases_size(const struct sp_aliases *aliases)
{
    size_t size = 3 * sizeof(uint16_t);
    for (size_t i = 0; i < count_of(aliases); i++) {
        size += sizeof(uint16_t) + aliases->topics[i].len;
    }
    return size;
}

void sp_aliases_write(const struct sp_aliases *aliases, struct sp_writer *w)
{
    sp_write_u16(w, aliases->in_max);
    sp_write_u16(w, aliases->out_max);
    sp_write_u16(w, aliases->out_count);
    for (size_t i = 0; i < count_of(aliases); i++) {
        sp_write_u16(w, aliases->topics[i].len);
        sp_write_view(w, sp_view(aliases->topics[i].text, aliases->topics[i].len));
    }
}

struct sp_aliases *sp_aliases_read(struct sp_reader *r)
{
    uint16_t in_max = sp_read_u16(r);
    uint16_t out_max = sp_read_u16(r);
    uint16_t out_count = sp_read_u16(r);
    if (out_count > out_max || sp_reader_left(r) / sizeof(uint16_t) < (size_t)in_max + out_max) {
        sp_reader_fail(r, SP_ERR_MALFORMED);
    }
    struct sp_aliases *aliases = r->err == SP_OK ? sp_aliases_create(in_max, out_max) : NULL;
    for (size_t i = 0; aliases != NULL && i < count_of(aliases); i++) {
        struct sp_view text = sp_read_bytes(r, sp_read_u16(r));
        if (text.len > 0 && !set(&aliases->topics[i], text)) {
            sp_reader_fail(r, SP_ERR_NOMEM);
        }
    }
    if (aliases == NULL || r->err != SP_OK) {
        sp_reader_fail(r, SP_ERR_NOMEM);
        sp_aliases_destroy(aliases);
        return NULL;
    }
    aliases->out_count = out_count;
    return aliases;
}
