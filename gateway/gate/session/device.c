/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/session/device.h"

#include "gateway/gate/route/mail.h"
#include "gateway/gate/route/route.h"
#include "gateway/gate/session/keep.h"
#include "gateway/gate/session/session.h"
#include "gateway/slab/slab.h"

#include <stddef.h>
#include <stdlib.h>

#define ATTEMPTS_WINDOW_MS 60000U

static struct sp_slabs slabs = SP_SLABS_INIT;
static struct sp_slab waits = SP_SLAB_INIT(sizeof(struct sp_device_wait));

struct sp_will *sp_will_create(const struct sp_mqtt_will *from)
{
    struct sp_mqtt_publish publish = {.retain = from->retain,
                                      .qos = from->qos,
                                      .topic = from->topic,
                                      .payload = from->payload,
                                      .props = from->props};
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
    will->qos = from->qos;
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

static uint64_t hash_of(const struct sp_table_node *node)
{
    const struct sp_device *device = (const struct sp_device *)node;
    return sp_hash(device->home->seed, sp_device_identity(device));
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

static struct sp_will *take_will(struct sp_device *device)
{
    struct sp_will *will = sp_device_wait(device) == NULL ? NULL : sp_device_wait(device)->will;
    if (will != NULL) {
        sp_device_wait(device)->will = NULL;
    }
    return will;
}

/* Something that waits is due, or may be forgotten. */
static void device_due(struct sp_timer *timer)
{
    struct sp_device_wait *wait = (struct sp_device_wait *)timer;
    struct sp_device *device = wait->device;
    uint64_t now = device->home->timers->now_ms;
    if (wait->will != NULL && now >= wait->will_due_ms) {
        sp_device_publish_will(device, take_will(device));
    }
    if (sp_device_session(device) != NULL && sp_device_client(device) == NULL &&
        now >= wait->session_ends_ms) {
        sp_device_end_session(device);
    }
    sp_device_settle(device);
}

struct sp_device_wait *sp_device_may_wait(struct sp_device *device)
{
    struct sp_device_wait *wait = sp_device_wait(device);
    if (wait == NULL) {
        wait = sp_slab_take(&waits);
        if (wait != NULL) {
            wait->device = device;
            wait->session_ends_ms = UINT64_MAX;
            wait->timer.fire = device_due;
        }
        device->wait_ref = sp_ref_of(wait);
    }
    return wait;
}

static void wait_no_more(struct sp_device *device)
{
    struct sp_device_wait *wait = sp_device_wait(device);
    if (wait != NULL) {
        sp_timer_clear(device->home->timers, &wait->timer);
        sp_will_destroy(wait->will);
        sp_slab_give(&waits, wait);
        device->wait_ref = 0;
    }
}

struct sp_device *sp_device_get(struct sp_home *home, struct sp_view identity)
{
    struct sp_device *device = sp_device_find(home, identity);
    if (device != NULL || identity.len > SP_LINK_IDENTITY_MAX) {
        return device;
    }
    device = sp_slabs_take(&slabs, offsetof(struct sp_device, identity) + identity.len);
    if (device == NULL) {
        return NULL;
    }
    device->home = home;
    device->identity_len = (uint8_t)identity.len;
    sp_copy(device->identity, identity.ptr, identity.len);
    if (sp_table_insert(&home->devices, &device->node, hash_of) != SP_OK) {
        sp_slabs_give(&slabs, device, offsetof(struct sp_device, identity) + identity.len);
        return NULL;
    }
    return device;
}

void sp_device_publish_will(struct sp_device *device, struct sp_will *will)
{
    struct sp_mqtt_publish publish = {.qos = will->qos, .retain = will->message->retain};
    if (sp_mail_packet(will->message, device->home->timers->now_ms, &publish)) {
        struct sp_origin origin = {
            .device = sp_device_identity(device),
            .session =
                sp_device_session(device) == NULL ? 0 : sp_session_tag(sp_device_session(device)),
            .attested = will->attested,
        };
        sp_slot_tag nobody;
        (void)sp_route_publish(device->home, &origin, &publish, &nobody);
    }
    sp_will_destroy(will);
}

void sp_device_end_session(struct sp_device *device)
{
    struct sp_session *session = sp_device_session(device);
    device->session_ref = 0;
    if (session != NULL && session->kept) {
        sp_keep_end(device->home, session);
    }
    sp_session_destroy(device->home, session);
    struct sp_will *will = take_will(device);
    if (will != NULL) {
        sp_device_publish_will(device, will);
    }
}

void sp_device_leave(struct sp_device *device, uint32_t session_expiry_s, struct sp_will *will)
{
    struct sp_home *home = device->home;
    struct sp_device_wait *wait = session_expiry_s == 0 ? NULL : sp_device_may_wait(device);
    if (will != NULL && will->delay_s > 0 && wait != NULL) {
        wait->will = will;
        wait->will_due_ms = home->timers->now_ms + (uint64_t)will->delay_s * 1000;
        will = NULL;
    }
    if (session_expiry_s == 0) {
        sp_device_end_session(device);
    } else {
        sp_device_session(device)->expiry_s = session_expiry_s;
        sp_session_detach(home, sp_device_session(device));
    }
    if (wait != NULL) {
        wait->session_ends_ms = home->timers->now_ms + (uint64_t)session_expiry_s * 1000;
    } else if (session_expiry_s > 0) {
        sp_keep_unwatched(home); /* out of memory ends no session */
    }
    if (will != NULL) {
        sp_device_publish_will(device, will);
    }
}

enum sp_err sp_device_wait_for(struct sp_device *device, uint64_t wall_ms)
{
    const struct sp_timers *timers = device->home->timers;
    struct sp_device_wait *wait = sp_device_may_wait(device);
    if (wait == NULL) {
        return SP_ERR_NOMEM;
    }
    wait->session_ends_ms =
        timers->now_ms + (wall_ms > timers->wall_ms ? wall_ms - timers->wall_ms : 0);
    sp_device_settle(device);
    return SP_OK;
}

void sp_device_return(struct sp_device *device)
{
    sp_will_destroy(take_will(device));
}

void sp_device_refused(struct sp_device *device)
{
    uint64_t now = device->home->timers->now_ms;
    struct sp_device_wait *wait = sp_device_may_wait(device);
    if (wait == NULL) {
        return;
    }
    if (now >= wait->refusals_until_ms) {
        wait->refusals = 0;
        wait->refusals_until_ms = now + ATTEMPTS_WINDOW_MS;
    }
    wait->refusals++;
}

bool sp_device_blocked(const struct sp_device *device)
{
    const struct sp_device_wait *wait = sp_device_wait(device);
    return wait != NULL && wait->refusals >= device->home->config->limits.attempts &&
           device->home->timers->now_ms < wait->refusals_until_ms;
}

void sp_device_destroy(struct sp_device *device)
{
    struct sp_home *home = device->home;
    sp_session_destroy(home, sp_device_session(device));
    wait_no_more(device);
    sp_table_remove(&home->devices, &device->node);
    sp_slabs_give(&slabs, device, offsetof(struct sp_device, identity) + device->identity_len);
}

/* When the next thing that waits is due; UINT64_MAX: nothing waits. */
static uint64_t next_due(const struct sp_device *device)
{
    const struct sp_device_wait *wait = sp_device_wait(device);
    uint64_t next = UINT64_MAX;
    if (wait == NULL) {
        return next;
    }
    if (wait->will != NULL) {
        next = wait->will_due_ms;
    }
    if (sp_device_session(device) != NULL && sp_device_client(device) == NULL &&
        wait->session_ends_ms < next) {
        next = wait->session_ends_ms;
    }
    bool counts = wait->refusals > 0 && device->home->timers->now_ms < wait->refusals_until_ms;
    if (counts && wait->refusals_until_ms < next) {
        next = wait->refusals_until_ms;
    }
    return next;
}

void sp_device_settle(struct sp_device *device)
{
    uint64_t next = next_due(device);
    if (next != UINT64_MAX) {
        sp_timer_set(device->home->timers, &sp_device_wait(device)->timer, next);
    } else if (device->users == 0 && sp_device_session(device) == NULL) {
        sp_device_destroy(device);
    } else {
        wait_no_more(device);
    }
}
