/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/**
 * @file One identity in its home: the guest that waits for a verdict, the client that is admitted, the session, and
 * a will that waits. It exists while any of them does.
 */
#ifndef SP_GATEWAY_GATE_SESSION_DEVICE_H
#define SP_GATEWAY_GATE_SESSION_DEVICE_H

#include "gateway/gate/session/home.h"
#include "gateway/slab/ref.h"
#include "libs/link/link.h"
#include "libs/mqtt/mqtt.h"

#include <stddef.h>

struct sp_client;
struct sp_mail;
struct sp_session;

/** What a client asked to be published when it is lost. */
struct sp_will {
    struct sp_mail *message;
    uint32_t delay_s;
    uint8_t qos;
    bool attested; /**< what its publisher was when it was lost */
};

/** Copy a will. NULL: no memory. */
struct sp_will *sp_will_create(const struct sp_mqtt_will *from);
/** NULL is fine. */
void sp_will_destroy(struct sp_will *will);

/** What waits for a time; only those have it that wait. */
struct sp_device_wait {
    struct sp_timer timer; /* first: found by casting back */
    struct sp_device *device;
    struct sp_will *will;     /**< of a lost client, waits for will_due_ms */
    uint64_t session_ends_ms; /**< while away; UINT64_MAX: not by time */
    uint64_t will_due_ms;
    uint64_t refusals_until_ms; /**< end of the minute in which `refusals` are counted */
    uint32_t refusals;          /**< tokens refused */
};

struct sp_device {
    struct sp_table_node node; /* first: found by casting back */
    sp_ref client_ref;         /* sp_device_client() */
    struct sp_home *home;
    sp_ref session_ref; /* sp_device_session() */
    sp_ref wait_ref;    /* sp_device_wait() */
    uint32_t
        users; /**< clients from their TLS handshake to their end: it stays while there are any */
    bool
        has_guest; /**< one of them waits for its verdict, and has the place for that (client->guest) */
    uint8_t identity_len;
    uint8_t identity[];
};
_Static_assert(SP_REF_IS_POINTER || offsetof(struct sp_device, identity) == 30,
               "what an idle device costs");

/** Admitted; NULL: away. */
static inline struct sp_client *sp_device_client(const struct sp_device *device)
{
    return sp_ref_get(device->client_ref);
}

/** NULL: none is kept. */
static inline struct sp_session *sp_device_session(const struct sp_device *device)
{
    return sp_ref_get(device->session_ref);
}

/** NULL: nothing waits. */
static inline struct sp_device_wait *sp_device_wait(const struct sp_device *device)
{
    return sp_ref_get(device->wait_ref);
}

/** Find or make; sp_device_settle() when nothing was put into it. NULL: no memory. */
struct sp_device *sp_device_get(struct sp_home *home, struct sp_view identity);

/** NULL: nothing is known of it. */
struct sp_device *sp_device_find(const struct sp_home *home, struct sp_view identity);

struct sp_view sp_device_identity(const struct sp_device *device);

/** The client that held the session is gone: keep the session for as long as it asked, and its will. Takes `will`. */
void sp_device_leave(struct sp_device *device, uint32_t session_expiry_s, struct sp_will *will);

/** End the session at once; a will that waits is published (MQTT 5, 3.1.3.2.2). */
void sp_device_end_session(struct sp_device *device);

/** The session of one that is away ends then; milliseconds since 1970. @retval SP_ERR_NOMEM */
SP_MUST_CHECK enum sp_err sp_device_wait_for(struct sp_device *device, uint64_t wall_ms);

/** A client resumed the session: a will that waits is not published. */
void sp_device_return(struct sp_device *device);

/** Room for what waits; NULL: no memory, so nothing can wait. sp_device_settle() when something was put into it. */
struct sp_device_wait *sp_device_may_wait(struct sp_device *device);

/** Count a refused token. */
void sp_device_refused(struct sp_device *device);
/** So many tokens were refused within a minute that another attempt has to wait. */
bool sp_device_blocked(const struct sp_device *device);

/** Publish a will now, and free it. */
void sp_device_publish_will(struct sp_device *device, struct sp_will *will);

/** Set the timer for what waits; free the device when nothing is left in it. */
void sp_device_settle(struct sp_device *device);

/** Free it with its session and will, whatever they wait for. */
void sp_device_destroy(struct sp_device *device);

#endif
