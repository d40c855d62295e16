/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Telling the journal what happens to kept sessions, and waiting for it. */
#include "gateway/gate/session/keep_internal.h"

#include "gateway/gate/route/mail.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/device.h"
#include "gateway/gate/session/session.h"
#include "gateway/log/log.h"

#include <stdlib.h>

#define BATCH_MAX (1U << 20) /* bytes; a fuller one is sent before the turn is over */
#define AGAIN_MS  1000U      /* after the journal could not take something */

enum wait_kind {
    WAIT_MESSAGE, /* its session by `tag`, its `number` */
    WAIT_BEGUN,   /* a session */
    WAIT_ADMIT,   /* a client */
    WAIT_SUBACK,  /* a client, and `suback` */
};

/* A SUBACK that is held back. */
struct suback {
    uint16_t packet_id;
    uint16_t count;
    uint8_t codes[];
};

/* What is to be done once a ticket is answered. */
struct sp_keep_wait {
    uint64_t ticket;
    sp_slot_tag tag;
    union {
        uint64_t number;
        struct suback *suback;
    };
    enum wait_kind kind;
};

static void due(struct sp_timer *timer);

void sp_keep_init(struct sp_home *home)
{
    home->keep.timer.fire = due;
    home->keep.parked_end = &home->keep.parked;
}

/* ---- the batch ---- */

static void look_again(struct sp_home *home, uint64_t in_ms)
{
    uint64_t when = home->timers->now_ms + in_ms;
    if (home->keep.timer.when == 0 || home->keep.timer.when > when) {
        sp_timer_set(home->timers, &home->keep.timer, when);
    }
}

void sp_keep_flush(struct sp_home *home)
{
    struct sp_keep *keep = &home->keep;
    if (keep->batch_count == 0) {
        return;
    }
    struct sp_view batch = sp_buf_view(&keep->batch);
    enum sp_err err = sp_edge_send(&home->tickets.store, SP_MSG_KEPT, keep->batch_count, &batch, 1);
    keep->batch_count = 0;
    keep->batch.used = 0;
    if (keep->batch.cap > BATCH_MAX) {
        sp_buf_free(&keep->batch);
    }
    if (err != SP_OK) {
        sp_log_warn(SP_EVENT("store_unreachable"), SP_F_ERR(err));
        keep->failed = true; /* who called may be in the middle of what that changes */
        look_again(home, 0);
    }
}

static void tell_again(struct sp_home *home)
{
    home->keep.stale = true;
    look_again(home, AGAIN_MS);
}

enum sp_err sp_keep_tell(struct sp_home *home, const struct sp_kept *change)
{
    struct sp_keep *keep = &home->keep;
    struct sp_kept told = *change;
    if (keep->applying) {
        return SP_OK;
    }
    if (keep->stale) {
        return SP_ERR_CLOSED; /* the journal would not know what this belongs to: first it is told all */
    }
    size_t size = sp_kept_size(change);
    if (keep->batch.used > 0 && keep->batch.used + size > BATCH_MAX) {
        sp_keep_flush(home);
    }
    uint8_t *at = home->tickets.store.send == NULL ? NULL : sp_buf_reserve(&keep->batch, size);
    if (at == NULL) {
        tell_again(home);
        return home->tickets.store.send == NULL ? SP_ERR_CLOSED : SP_ERR_NOMEM;
    }
    told.head.ticket = change->head.kind == SP_KEPT_SETTLED ? 0 : ++keep->last_ticket;
    struct sp_writer w;
    sp_writer_init(&w, at, size);
    sp_kept_write(&w, &told);
    keep->batch.used += (uint32_t)size;
    keep->batch_count++;
    return SP_OK;
}

/* ---- the ring of what waits ---- */

static enum sp_err ring_grow(struct sp_keep *keep)
{
    size_t cap = keep->ring_cap == 0 ? 16 : keep->ring_cap * 2;
    struct sp_keep_wait *ring = malloc(cap * sizeof(*ring));
    if (ring == NULL) {
        return SP_ERR_NOMEM;
    }
    for (size_t i = 0; i < keep->ring_count; i++) {
        ring[i] = keep->ring[(keep->ring_head + i) & (keep->ring_cap - 1)];
    }
    free(keep->ring);
    keep->ring = ring;
    keep->ring_cap = cap;
    keep->ring_head = 0;
    return SP_OK;
}

static enum sp_err ring_room(struct sp_keep *keep)
{
    return keep->ring_count < keep->ring_cap ? SP_OK : ring_grow(keep);
}

/* Behind everything that was told so far. There is room. */
static void wait_for(struct sp_keep *keep, struct sp_keep_wait wait)
{
    wait.ticket = keep->last_ticket;
    keep->ring[(keep->ring_head + keep->ring_count) & (keep->ring_cap - 1)] = wait;
    keep->ring_count++;
}

/* Nothing is under way, or it is known that it will not be. */
static void go_on(struct sp_client *client)
{
    client->keeping = false;
    if (!client->holding && !client->stalled) {
        client->paused = false;
        sp_client_mark(client);
    }
}

static void not_now(struct sp_client *client)
{
    bool open = client->state == SP_CLIENT_OPEN;
    sp_client_refuse(client,
                     &(struct sp_refusal){
                         .metric = SP_M_CONNECT_REFUSED,
                         .event = "session_not_stored",
                         .detail = "the session cannot be made durable now",
                         .code = open ? SP_MQTT_RC_SERVER_BUSY : SP_MQTT_RC_SERVER_UNAVAILABLE,
                     });
}

static void client_waited(struct sp_home *home, const struct sp_keep_wait *wait, bool durable)
{
    struct sp_client *client = sp_slots_find(&home->clients, wait->tag);
    if (client != NULL && client->state != SP_CLIENT_CLOSED) {
        go_on(client);
        if (!durable) {
            not_now(client);
        } else if (wait->kind == WAIT_ADMIT) {
            sp_client_admit(client);
        } else {
            const struct sp_mqtt_suback suback = {
                .packet_id = wait->suback->packet_id,
                .codes = sp_view(wait->suback->codes, wait->suback->count)};
            sp_client_send_suback(client, SP_MQTT_SUBACK, &suback);
            sp_client_writable(client); /* retained messages come behind it */
        }
    }
    if (wait->kind == WAIT_SUBACK) {
        free(wait->suback);
    }
}

static void session_waited(struct sp_home *home, const struct sp_keep_wait *wait, bool durable)
{
    struct sp_session *session = sp_slots_find(&home->sessions, wait->tag);
    if (session == NULL) {
        return;
    }
    if (wait->kind == WAIT_BEGUN) {
        session->begun = session->begun || durable;
    } else {
        sp_session_stored(home, session, wait->number, durable);
    }
}

static void release(struct sp_home *home, uint64_t up_to, bool durable)
{
    struct sp_keep *keep = &home->keep;
    while (keep->ring_count > 0 && keep->ring[keep->ring_head].ticket <= up_to) {
        const struct sp_keep_wait wait = keep->ring[keep->ring_head];
        keep->ring_head = (keep->ring_head + 1) & (keep->ring_cap - 1);
        keep->ring_count--;
        if (wait.kind == WAIT_ADMIT || wait.kind == WAIT_SUBACK) {
            client_waited(home, &wait, durable);
        } else {
            session_waited(home, &wait, durable);
        }
    }
}

/* NULL: no memory, and nothing left of the reserve. */
static struct sp_keep_ended *new_ended(struct sp_keep *keep)
{
    struct sp_keep_ended *ended = calloc(1, sizeof(*ended));
    for (size_t i = 0; ended == NULL && i < SP_KEEP_ENDED_RESERVE; i++) {
        ended = keep->reserve[i].identity_len == 0 ? &keep->reserve[i] : NULL;
    }
    return ended;
}

/* Take it off the list. */
static void forget_ended(struct sp_keep *keep, struct sp_keep_ended **at)
{
    struct sp_keep_ended *ended = *at;
    *at = ended->next;
    if (ended >= keep->reserve && ended < keep->reserve + SP_KEEP_ENDED_RESERVE) {
        ended->identity_len = 0;
    } else {
        free(ended);
    }
}

/* Ends that are durable are forgotten; the others have to be told again. */
static void settle_ended(struct sp_keep *keep, uint64_t up_to, bool durable)
{
    struct sp_keep_ended **at = &keep->ended;
    while (*at != NULL) {
        struct sp_keep_ended *ended = *at;
        bool answered = ended->ticket != 0 && ended->ticket <= up_to;
        if (answered && durable) {
            forget_ended(keep, at);
            continue;
        }
        ended->ticket = answered ? 0 : ended->ticket;
        at = &ended->next;
    }
}

enum sp_err sp_keep_durable(struct sp_home *home, const struct sp_msg_durable *durable)
{
    if (durable->up_to > home->keep.last_ticket) {
        return SP_ERR_MALFORMED;
    }
    bool ok = durable->err == SP_OK;
    uint64_t up_to = durable->up_to;
    if (!ok && durable->err != SP_ERR_LIMIT) { /* a full journal only refuses messages */
        tell_again(home);
        up_to = UINT64_MAX; /* what follows may be durable, and build on what is not */
    }
    settle_ended(&home->keep, up_to, ok);
    release(home, up_to, ok);
    return SP_OK;
}

void sp_keep_lost(struct sp_home *home)
{
    struct sp_keep *keep = &home->keep;
    keep->batch.used = 0;
    keep->batch_count = 0;
    keep->stale = true;
    keep->failed = false;
    settle_ended(keep, UINT64_MAX, false);
    release(home, UINT64_MAX, false);
}

/* ---- telling everything again ---- */

static void tell_settled(struct sp_home *home, const struct sp_session *session, uint64_t first,
                         uint64_t last)
{
    const struct sp_kept settled = {
        .head = {.kind = SP_KEPT_SETTLED, .number = first, .last = last},
        .device = sp_device_identity(sp_session_device(session)),
    };
    if (first <= last) {
        (void)!sp_keep_tell(home, &settled);
    }
}

/* What is not in the queue is not to be in the journal: nor what was refused, which it may have got nevertheless. */
static void tell_gaps(struct sp_home *home, const struct sp_session *session)
{
    uint64_t from = 0;
    for (const struct sp_delivery *d = sp_session_queue(session)->first; d != NULL; d = d->next) {
        tell_settled(home, session, from, d->number - 1);
        from = d->number + 1;
    }
    tell_settled(home, session, from, sp_session_more(session)->number);
}

static void tell_session(struct sp_home *home, struct sp_session *session)
{
    sp_keep_change(home, session);
    const struct sp_kept none = {.head = {.kind = SP_KEPT_UNSUBSCRIBE},
                                 .device = sp_device_identity(sp_session_device(session))};
    (void)!sp_keep_tell(home, &none);
    for (uint32_t i = 0; i < session->sub_count; i++) {
        struct sp_subscriber how;
        if (sp_subs_get(home->subs, sp_session_sub(session, i), home->index,
                        sp_session_tag(session), &how)) {
            sp_keep_subscribe(home, session, sp_filter_text(sp_session_sub(session, i)), &how);
        }
    }
    tell_gaps(home, session);
    sp_keep_store(home, session);
}

static void tell_ended(struct sp_home *home)
{
    struct sp_keep_ended **at = &home->keep.ended;
    while (*at != NULL) {
        struct sp_keep_ended *ended = *at;
        const struct sp_kept end = {.head = {.kind = SP_KEPT_END},
                                    .device = sp_view(ended->identity, ended->identity_len)};
        const struct sp_device *device = sp_device_find(home, end.device);
        if (device != NULL && sp_device_session(device) != NULL &&
            sp_device_session(device)->kept) {
            forget_ended(&home->keep, at); /* its beginning clears away what was before */
            continue;
        }
        if (ended->ticket == 0 && sp_keep_tell(home, &end) == SP_OK) {
            ended->ticket = home->keep.last_ticket;
        }
        at = &ended->next;
    }
}

static void tell_all(struct sp_home *home)
{
    uint32_t index = 0;
    struct sp_session *session;
    home->keep.stale = false;
    tell_ended(home);
    while ((session = sp_slots_each(&home->sessions, &index)) != NULL) {
        if (session->kept) {
            tell_session(home, session);
        }
    }
}

void sp_keep_connected(struct sp_home *home)
{
    struct sp_keep *keep = &home->keep;
    sp_keep_lost(home);
    keep->connection++;
    keep->last_ticket = 0;
    if (!keep->loading || keep->loaded) {
        tell_all(home);
        return;
    }
    keep->stale = false; /* there is nothing here that the journal does not have */
    sp_keep_lay_in(home);
    if (sp_edge_send(&home->tickets.store, SP_MSG_KEPT_LOAD, 0, NULL, 0) != SP_OK) {
        sp_log_error(SP_EVENT("sessions_not_loaded"));
    }
}

/* ---- sessions ---- */

void sp_keep_begin(struct sp_home *home, struct sp_session *session)
{
    session->kept = true;
    session->begun = false;
    (void)sp_session_numbers(home, session); /* without memory: when there is a message */
    sp_session_mark_kept(home, session);
    sp_keep_change(home, session);
}

/* What the journal is to know about its numbers. */
static uint64_t number_of(const struct sp_home *home, const struct sp_session *session)
{
    const struct sp_session_more *more = sp_session_more(session);
    if (more->number == 0) {
        return sp_session_fresh_number(home);
    }
    return session->begun ? more->sent : more->base;
}

void sp_keep_change(struct sp_home *home, const struct sp_session *session)
{
    const struct sp_kept change = {
        .head = {.kind = SP_KEPT_SESSION,
                 .number = number_of(home, session),
                 .expiry_s = session->expiry_s,
                 .time_ms = sp_session_more(session)->left_ms,
                 .version = session->version,
                 .options = (uint8_t)(session->begun ? 0 : SP_KEPT_NEW)},
        .device = sp_device_identity(sp_session_device(session)),
        .part = sp_view_str(sp_session_role(session)->name),
    };
    if (sp_keep_tell(home, &change) != SP_OK || session->begun || home->keep.applying) {
        return;
    }
    if (ring_room(&home->keep) == SP_OK) {
        wait_for(&home->keep,
                 (struct sp_keep_wait){.kind = WAIT_BEGUN, .tag = sp_session_tag(session)});
    } else {
        tell_again(home);
    }
}

/* It must not come back: without anything left to remember that in, we begin anew, as after a crash. */
static void remember_end(struct sp_home *home, struct sp_view identity, uint64_t ticket)
{
    struct sp_keep_ended *ended = new_ended(&home->keep);
    if (ended == NULL) {
        abort();
    }
    ended->ticket = ticket;
    ended->identity_len = (uint8_t)identity.len;
    sp_copy(ended->identity, identity.ptr, identity.len);
    ended->next = home->keep.ended;
    home->keep.ended = ended;
}

void sp_keep_forget(struct sp_home *home, struct sp_view identity)
{
    const struct sp_kept end = {.head = {.kind = SP_KEPT_END}, .device = identity};
    bool told = sp_keep_tell(home, &end) == SP_OK;
    remember_end(home, identity, told ? home->keep.last_ticket : 0);
}

void sp_keep_end(struct sp_home *home, struct sp_session *session)
{
    sp_keep_quiet(session);
    session->kept = false;
    session->begun = false;
    sp_session_mark_kept(home, session);
    sp_keep_forget(home, sp_device_identity(sp_session_device(session)));
}

void sp_keep_subscribe(struct sp_home *home, const struct sp_session *session,
                       struct sp_view filter, const struct sp_subscriber *how)
{
    const struct sp_kept change = {
        .head = {.kind = SP_KEPT_SUBSCRIBE,
                 .qos = how->qos,
                 .options = how->options,
                 .identifier = how->id},
        .device = sp_device_identity(sp_session_device(session)),
        .part = filter,
    };
    (void)!sp_keep_tell(home, &change);
}

void sp_keep_unsubscribe(struct sp_home *home, const struct sp_session *session,
                         struct sp_view filter)
{
    const struct sp_kept change = {.head = {.kind = SP_KEPT_UNSUBSCRIBE},
                                   .device = sp_device_identity(sp_session_device(session)),
                                   .part = filter};
    (void)!sp_keep_tell(home, &change);
}

/* ---- messages ---- */

/* Into the list of those with messages in memory alone. */
static void make_fresh(struct sp_home *home, struct sp_session *session)
{
    struct sp_queue *queue = session->more->queue;
    if (queue->fresh_at == NULL) {
        queue->fresh_next = home->keep.fresh;
        queue->fresh_at = &home->keep.fresh;
        if (queue->fresh_next != NULL) {
            queue->fresh_next->more->queue->fresh_at = &queue->fresh_next;
        }
        home->keep.fresh = session;
    }
    look_again(home, SP_KEEP_GRACE_MS / 2);
}

void sp_keep_quiet(struct sp_session *session)
{
    struct sp_queue *queue = sp_session_own_queue(session);
    if (queue != NULL && queue->fresh_at != NULL) {
        *queue->fresh_at = queue->fresh_next;
        if (queue->fresh_next != NULL) {
            queue->fresh_next->more->queue->fresh_at = queue->fresh_at;
        }
        queue->fresh_at = NULL;
    }
}

static uint64_t expires_wall_ms(const struct sp_home *home, const struct sp_mail *message)
{
    if (message->expires_ms == 0) {
        return 0;
    }
    int64_t left = (int64_t)(message->expires_ms - home->timers->now_ms);
    return (uint64_t)((int64_t)home->timers->wall_ms + left);
}

static enum sp_err tell_packet(struct sp_home *home, const struct sp_session *session,
                               const struct sp_delivery *delivery)
{
    struct sp_mqtt_publish publish = {
        .qos = delivery->qos, .packet_id = 1, .retain = delivery->retain};
    (void)sp_mail_packet(delivery->message, home->timers->now_ms, &publish);
    if (delivery->id_count > 0) {
        publish.props.present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID);
        publish.props.subscription_ids = delivery->ids;
        publish.props.subscription_id_count = delivery->id_count;
    }
    size_t size = sp_mqtt_publish_size(SP_MQTT_5, &publish);
    uint8_t *packet = size == 0 ? NULL : malloc(size);
    if (packet == NULL) {
        return SP_ERR_NOMEM;
    }
    struct sp_writer w;
    sp_writer_init(&w, packet, size);
    sp_mqtt_encode_publish(&w, SP_MQTT_5, &publish);
    const struct sp_kept change = {
        .head = {.kind = SP_KEPT_QUEUE,
                 .number = delivery->number,
                 .time_ms = expires_wall_ms(home, delivery->message)},
        .device = sp_device_identity(sp_session_device(session)),
        .part = sp_writer_view(&w),
    };
    enum sp_err err = w.err == SP_OK ? sp_keep_tell(home, &change) : w.err;
    free(packet);
    return err;
}

/* @return false: it cannot be stored, and may have left the queue. */
static bool store_one(struct sp_home *home, struct sp_session *session,
                      struct sp_delivery *delivery)
{
    enum sp_err err = ring_room(&home->keep);
    if (err == SP_OK) {
        err = tell_packet(home, session, delivery);
    }
    if (err == SP_OK) {
        delivery->place = SP_PLACE_STORING;
        wait_for(&home->keep, (struct sp_keep_wait){.kind = WAIT_MESSAGE,
                                                    .tag = sp_session_tag(session),
                                                    .number = delivery->number});
    }
    return err == SP_OK;
}

/* Those that are older than `since_ms`. */
static void store_until(struct sp_home *home, struct sp_session *session, uint64_t since_ms)
{
    struct sp_delivery *delivery = sp_session_queue(session)->first;
    bool left = false;
    while (delivery != NULL) {
        struct sp_delivery *next = delivery->next;
        if (delivery->place == SP_PLACE_MEMORY && delivery->since_ms > since_ms) {
            left = true;
            break; /* they are in order */
        }
        if (delivery->place == SP_PLACE_MEMORY && !store_one(home, session, delivery)) {
            sp_session_stored(home, session, delivery->number, false);
        }
        delivery = next;
    }
    if (!left) {
        sp_keep_quiet(session);
    }
}

void sp_keep_store(struct sp_home *home, struct sp_session *session)
{
    store_until(home, session, UINT64_MAX);
}

void sp_keep_store_all(struct sp_home *home)
{
    while (home->keep.fresh != NULL) {
        struct sp_session *session = home->keep.fresh;
        sp_keep_store(home, session);
        sp_keep_quiet(session);
    }
}

void sp_keep_tell_again(struct sp_home *home)
{
    home->keep.stale = true;
    look_again(home, 0);
}

bool sp_keep_is_calm(const struct sp_home *home)
{
    const struct sp_keep *keep = &home->keep;
    bool told = !keep->stale || home->tickets.store.send == NULL;
    return !keep->loading && told && !keep->failed && keep->ring_count == 0 &&
           keep->batch_count == 0 && keep->ended == NULL && keep->fresh == NULL &&
           sp_receipts_none(home);
}

void sp_keep_offered(struct sp_home *home, struct sp_session *session)
{
    const struct sp_queue *queue = sp_session_queue(session);
    if (sp_session_client(session) == NULL || queue->unsent != NULL) {
        sp_keep_store(home, session);
    } else if (queue->last != NULL && queue->last->place == SP_PLACE_MEMORY) {
        make_fresh(home, session);
    }
}

void sp_keep_leaves(struct sp_home *home, struct sp_session *session, struct sp_delivery *delivery,
                    bool refused)
{
    if (session->kept && delivery->place != SP_PLACE_MEMORY) {
        tell_settled(home, session, delivery->number, delivery->number);
    }
    sp_receipt_settle(home, delivery->receipt, refused);
    delivery->receipt = (struct sp_receipt_ref){0, 0};
}

void sp_keep_unwatched(struct sp_home *home)
{
    home->keep.unwatched = true;
    look_again(home, AGAIN_MS);
}

static void watch_ends(struct sp_home *home)
{
    uint32_t index = 0;
    const struct sp_session *session;
    home->keep.unwatched = false;
    while ((session = sp_slots_each(&home->sessions, &index)) != NULL) {
        struct sp_device *device = sp_session_device(session);
        const struct sp_device_wait *wait = sp_device_wait(device);
        bool timed = wait != NULL && wait->session_ends_ms != UINT64_MAX;
        uint64_t left_ms = sp_session_more(session)->left_ms;
        left_ms =
            left_ms != 0 ? left_ms : home->timers->wall_ms; /* there was no memory to note it */
        uint64_t ends_ms = left_ms + (uint64_t)session->expiry_s * 1000;
        if (sp_session_client(session) == NULL && !timed &&
            sp_device_wait_for(device, ends_ms) != SP_OK) {
            sp_keep_unwatched(home);
        }
    }
}

static void due(struct sp_timer *timer)
{
    struct sp_home *home =
        (struct sp_home *)(void *)((char *)timer - offsetof(struct sp_home, keep.timer));
    uint64_t now = home->timers->now_ms;
    struct sp_session *session = home->keep.fresh;
    if (home->keep.failed) {
        sp_keep_lost(home);
        session = home->keep.fresh;
    }
    if (home->keep.unwatched) {
        watch_ends(home);
    }
    while (session != NULL) {
        struct sp_session *next = session->more->queue->fresh_next;
        store_until(home, session, now - SP_KEEP_GRACE_MS);
        session = next;
    }
    if (home->keep.fresh != NULL) {
        look_again(home, SP_KEEP_GRACE_MS / 2);
    }
    if (home->keep.stale && home->tickets.store.send != NULL &&
        (!home->keep.loading || home->keep.loaded)) {
        tell_all(home);
    }
}

/* ---- answers that wait ---- */

static enum sp_err hold(struct sp_home *home, struct sp_client *client, struct sp_keep_wait wait)
{
    struct sp_keep *keep = &home->keep;
    if (home->tickets.store.send == NULL || keep->stale) {
        return SP_ERR_CLOSED;
    }
    SP_TRY(ring_room(keep));
    wait.tag = sp_client_tag(client);
    wait_for(keep, wait);
    client->keeping = true;
    client->paused = true;
    sp_client_mark(client);
    return SP_OK;
}

enum sp_err sp_keep_admit_later(struct sp_home *home, struct sp_client *client)
{
    return hold(home, client, (struct sp_keep_wait){.kind = WAIT_ADMIT});
}

enum sp_err sp_keep_suback_later(struct sp_home *home, struct sp_client *client,
                                 const struct sp_mqtt_suback *suback)
{
    struct suback *held = malloc(sizeof(*held) + suback->codes.len);
    if (held == NULL) {
        return SP_ERR_NOMEM;
    }
    held->packet_id = suback->packet_id;
    held->count = (uint16_t)suback->codes.len;
    sp_copy(held->codes, suback->codes.ptr, suback->codes.len);
    enum sp_err err =
        hold(home, client, (struct sp_keep_wait){.kind = WAIT_SUBACK, .suback = held});
    if (err != SP_OK) {
        free(held);
    }
    return err;
}

void sp_keep_deinit(struct sp_home *home)
{
    struct sp_keep *keep = &home->keep;
    sp_timer_clear(home->timers, &keep->timer);
    while (keep->ring_count > 0) {
        const struct sp_keep_wait *wait = &keep->ring[keep->ring_head];
        if (wait->kind == WAIT_SUBACK) {
            free(wait->suback);
        }
        keep->ring_head = (keep->ring_head + 1) & (keep->ring_cap - 1);
        keep->ring_count--;
    }
    while (keep->ended != NULL) {
        forget_ended(keep, &keep->ended);
    }
    sp_keep_unpark(home);
    sp_buf_free(&keep->batch);
    free(keep->ring);
    keep->ring = NULL;
    keep->ring_cap = 0;
}
