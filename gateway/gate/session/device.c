/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/device.h"

#include "gateway/gate/route/mail.h"
#include "gateway/gate/route/route.h"
#include "gateway/gate/session/session.h"

#include <stdlib.h>

#define ATTEMPTS_WINDOW_MS 60000U

struct sp_will *sp_will_create(const struct sp_mqtt_will *from)
{
    struct sp_mqtt_publish publish = {
        .topic = from->topic, .payload = from->payload, .props = from->props};
    struct sp_will *will = calloc(1, sizeof(*will));
    if (will == NULL) {
        return NULL;
    }
    /* Its expiry counts from when it is published, so it has none while it waits. */
    will->message = sp_mail_create(&publish, 0);
    if (will->message == NULL) {
        free(will);
        return NULL;
    }
    will->message->expires_ms = 0;
    will->qos = from->qos > 1 ? 1 : from->qos;
    if ((from->props.present & SP_MQTT_HAS(SP_MQTT_P_WILL_DELAY)) != 0) {
        will->delay_s = from->props.will_delay;
    }
    return will;
}

void sp_will_destroy(struct sp_will *will)
{
    if (will != NULL) {
        sp_mail_release(will->message);
        free(will);
    }
}

struct sp_view sp_device_identity(const struct sp_device *device)
{
    return sp_view(device->identity, device->identity_len);
}

struct sp_device *sp_device_find(const struct sp_home *home, struct sp_view identity)
{
    struct sp_table_node *node = sp_table_find(&home->devices, sp_hash(home->seed, identity));
    while (node != NULL) {
        struct sp_device *device = (struct sp_device *)node;
        if (sp_view_equal(sp_device_identity(device), identity)) {
            return device;
        }
        node = sp_table_next(node);
    }
    return NULL;
}

/* Something that waits is due, or may be forgotten. */
static void device_due(struct sp_timer *timer)
{
    struct sp_device *device =
        (struct sp_device *)(void *)((char *)timer - offsetof(struct sp_device, timer));
    uint64_t now = device->home->timers->now_ms;
    if (device->will != NULL && now >= device->will_due_ms) {
        struct sp_will *will = device->will;
        device->will = NULL;
        sp_device_publish_will(device, will);
    }
    if (device->session != NULL && device->client == NULL && now >= device->session_ends_ms) {
        sp_device_end_session(device);
    }
    sp_device_settle(device);
}

struct sp_device *sp_device_get(struct sp_home *home, struct sp_view identity)
{
    struct sp_device *device = sp_device_find(home, identity);
    if (device != NULL || identity.len > sizeof(device->identity)) {
        return device;
    }
    device = calloc(1, sizeof(*device));
    if (device == NULL) {
        return NULL;
    }
    device->home = home;
    device->timer.fire = device_due;
    device->identity_len = (uint8_t)identity.len;
    sp_copy(device->identity, identity.ptr, identity.len);
    if (sp_table_insert(&home->devices, &device->node, sp_hash(home->seed, identity)) != SP_OK) {
        free(device);
        return NULL;
    }
    return device;
}

void sp_device_publish_will(struct sp_device *device, struct sp_will *will)
{
    struct sp_mqtt_publish publish = {.qos = will->qos};
    if (sp_mail_packet(will->message, device->home->timers->now_ms, &publish)) {
        struct sp_origin origin = {
            .device = sp_device_identity(device),
            .session = device->session == NULL ? 0 : device->session->tag,
            .attested = will->attested,
        };
        (void)sp_route_publish(device->home, &origin, &publish);
    }
    sp_will_destroy(will);
}

void sp_device_end_session(struct sp_device *device)
{
    struct sp_session *session = device->session;
    device->session = NULL;
    sp_session_destroy(device->home, session);
    if (device->will != NULL) {
        struct sp_will *will = device->will;
        device->will = NULL;
        sp_device_publish_will(device, will);
    }
}

void sp_device_leave(struct sp_device *device, uint32_t session_expiry_s, struct sp_will *will)
{
    struct sp_home *home = device->home;
    if (will != NULL && will->delay_s > 0 && session_expiry_s > 0) {
        device->will = will;
        device->will_due_ms = home->timers->now_ms + (uint64_t)will->delay_s * 1000;
        will = NULL;
    }
    if (session_expiry_s == 0) {
        sp_device_end_session(device);
    } else {
        sp_session_detach(home, device->session);
        device->session_ends_ms = home->timers->now_ms + (uint64_t)session_expiry_s * 1000;
    }
    if (will != NULL) {
        sp_device_publish_will(device, will);
    }
}

void sp_device_return(struct sp_device *device)
{
    sp_will_destroy(device->will);
    device->will = NULL;
}

void sp_device_refused(struct sp_device *device)
{
    uint64_t now = device->home->timers->now_ms;
    if (now >= device->refusals_until_ms) {
        device->refusals = 0;
        device->refusals_until_ms = now + ATTEMPTS_WINDOW_MS;
    }
    device->refusals++;
}

bool sp_device_blocked(const struct sp_device *device)
{
    return device->refusals >= device->home->config->limits.attempts &&
           device->home->timers->now_ms < device->refusals_until_ms;
}

void sp_device_destroy(struct sp_device *device)
{
    struct sp_home *home = device->home;
    sp_timer_clear(home->timers, &device->timer);
    sp_session_destroy(home, device->session);
    sp_will_destroy(device->will);
    sp_table_remove(&home->devices, &device->node);
    free(device);
}

void sp_device_settle(struct sp_device *device)
{
    struct sp_home *home = device->home;
    uint64_t next = UINT64_MAX;
    if (device->will != NULL) {
        next = device->will_due_ms;
    }
    if (device->session != NULL && device->client == NULL && device->session_ends_ms < next) {
        next = device->session_ends_ms;
    }
    bool counts = device->refusals > 0 && home->timers->now_ms < device->refusals_until_ms;
    if (counts && device->refusals_until_ms < next) {
        next = device->refusals_until_ms;
    }
    if (device->users == 0 && device->session == NULL && device->will == NULL && !counts) {
        sp_device_destroy(device);
    } else if (next != UINT64_MAX) {
        sp_timer_set(home->timers, &device->timer, next);
    } else {
        sp_timer_clear(home->timers, &device->timer);
    }
}
