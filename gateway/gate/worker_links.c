/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The channels to keys and store: what comes through them, and what becomes of them. */
#include "gateway/gate/attest/guard.h"
#include "gateway/gate/route/route.h"
#include "gateway/gate/worker_internal.h"
#include "gateway/log/log.h"
#include "libs/mqtt/topic.h"
#include "libs/record/grant.h"

#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

/* ---- messages from keys ---- */

static struct sp_client *client_of(struct sp_worker *worker, const struct sp_frame *frame)
{
    return sp_slots_find(&worker->home.clients, frame->tag);
}

static enum sp_err psk_answer(struct sp_worker *worker, const struct sp_frame *frame,
                              struct sp_view body)
{
    struct sp_msg_psk_answer answer;
    struct sp_client *client = client_of(worker, frame);
    if (body.len != sizeof(answer)) {
        return SP_ERR_MALFORMED;
    }
    if (client != NULL) {
        memcpy(&answer, body.ptr, sizeof(answer));
        answer.row.role[sizeof(answer.row.role) - 1] = '\0';
        sp_conn_psk(sp_conn_of(client), &answer);
        sp_wipe(&answer, sizeof(answer));
    }
    return SP_OK;
}

static enum sp_err nonce_answer(struct sp_worker *worker, const struct sp_frame *frame,
                                struct sp_view body)
{
    struct sp_msg_nonce_answer answer;
    struct sp_client *client = client_of(worker, frame);
    if (body.len != sizeof(answer)) {
        return SP_ERR_MALFORMED;
    }
    if (client != NULL) {
        memcpy(&answer, body.ptr, sizeof(answer));
        sp_guard_nonce(client, &answer);
    }
    return SP_OK;
}

static enum sp_err verdict(struct sp_worker *worker, const struct sp_frame *frame,
                           struct sp_view body)
{
    struct sp_msg_verdict message;
    struct sp_client *client = client_of(worker, frame);
    if (body.len != sizeof(message)) {
        return SP_ERR_MALFORMED;
    }
    if (client == NULL) {
        return SP_OK;
    }
    memcpy(&message, body.ptr, sizeof(message));
    message.detail[sizeof(message.detail) - 1] = '\0';
    if (client->state != SP_CLIENT_OPEN) {
        /* What can be read without waiting was sent before the verdict (docs/protocol.md 3.2). */
        sp_conn_read_early(sp_conn_of(client));
    }
    sp_guard_verdict(client, &message);
    return SP_OK;
}

static enum sp_err grant(struct sp_worker *worker, const struct sp_frame *frame,
                         struct sp_view body)
{
    struct sp_client *client = client_of(worker, frame);
    if (body.len == 0 || body.len > SP_GRANT_MAX) {
        return SP_ERR_MALFORMED;
    }
    if (client != NULL) {
        sp_client_grant(client, body);
    }
    return SP_OK;
}

static enum sp_err revoked(struct sp_worker *worker, const struct sp_frame *frame,
                           struct sp_view body)
{
    if (!sp_link_identity_valid(body)) {
        return SP_ERR_MALFORMED;
    }
    sp_home_revoke(&worker->home, body, frame->tag);
    return SP_OK;
}

static enum sp_err keys_message(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    struct sp_worker *worker = arg;
    switch (frame->type) {
    case SP_MSG_PSK_ANSWER:
        return psk_answer(worker, frame, body);
    case SP_MSG_NONCE_ANSWER:
        return nonce_answer(worker, frame, body);
    case SP_MSG_VERDICT:
        return verdict(worker, frame, body);
    case SP_MSG_REVOKED:
        return revoked(worker, frame, body);
    case SP_MSG_GRANT:
        return grant(worker, frame, body);
    case SP_MSG_GROUPS:
        return sp_home_groups(&worker->home, body);
    case SP_MSG_POLICY_CHANGED:
        sp_home_reattest(&worker->home);
        return SP_OK;
    default:
        return SP_ERR_PROTOCOL;
    }
}

static void keys_lost(struct sp_worker *worker)
{
    sp_home_keys_lost(&worker->home);
    struct sp_conn *conn;
    struct sp_worker_walk walk = {0};
    while ((conn = sp_worker_next(worker, &walk)) != NULL) {
        sp_conn_keys_lost(conn);
    }
}

/* ---- messages from store ---- */

static enum sp_err durable(struct sp_worker *worker, uint16_t type, struct sp_view body)
{
    struct sp_msg_durable message;
    if (body.len != sizeof(message)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(&message, body.ptr, sizeof(message));
    return type == SP_MSG_DURABLE ? sp_tickets_durable(&worker->home, &message)
                                  : sp_keep_durable(&worker->home, &message);
}

static enum sp_err pressure(struct sp_worker *worker, struct sp_view body)
{
    struct sp_msg_pressure message;
    if (body.len != sizeof(message)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(&message, body.ptr, sizeof(message));
    worker->home.tickets.pressure = message.level;
    sp_log_info(SP_EVENT("store_pressure"), SP_F_INT("level", message.level));
    return SP_OK;
}

static enum sp_err command(struct sp_worker *worker, const struct sp_frame *frame,
                           struct sp_view body)
{
    struct sp_msg_command message;
    if (body.len < sizeof(message)) {
        return SP_ERR_MALFORMED;
    }
    memcpy(&message, body.ptr, sizeof(message));
    struct sp_view topic = sp_view_from(body, sizeof(message));
    struct sp_view payload = sp_view_from(topic, message.topic_len);
    topic = sp_view_first(topic, message.topic_len);
    if (body.len != sizeof(message) + message.topic_len + (size_t)message.payload_len ||
        !sp_topic_name_valid(topic)) {
        return SP_ERR_MALFORMED;
    }
    sp_route_command(&worker->home, topic, payload, message.qos, frame->tag);
    return SP_OK;
}

static enum sp_err store_message(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    struct sp_worker *worker = arg;
    switch (frame->type) {
    case SP_MSG_DURABLE:
    case SP_MSG_KEPT_DURABLE:
        return durable(worker, frame->type, body);
    case SP_MSG_KEPT:
        return sp_keep_records(&worker->home, frame->tag, body);
    case SP_MSG_PRESSURE:
        return pressure(worker, body);
    case SP_MSG_COMMAND:
        return command(worker, frame, body);
    case SP_MSG_MARKS:
        return sp_marks_load(&worker->home.marks, body, frame->tag == 1, worker->home.index,
                             worker->home.loops);
    default:
        return SP_ERR_PROTOCOL;
    }
}

static void store_lost(struct sp_worker *worker)
{
    sp_tickets_lost(&worker->home);
    sp_keep_lost(&worker->home);
}

/* ---- channels ---- */

static enum sp_err channel_send(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                                size_t count)
{
    return sp_channel_send(arg, type, tag, parts, count);
}

void sp_worker_drop_link(struct sp_link *link, enum sp_err err)
{
    struct sp_worker *worker = link->worker;
    if (link->channel == NULL) {
        return;
    }
    (void)sp_loop_remove(&worker->loop, &link->watch);
    sp_channel_destroy(link->channel);
    link->channel = NULL;
    if (!worker->stopping) {
        sp_log_warn(SP_EVENT("channel_lost"),
                    SP_F_STR("to", link == &worker->keys ? "keys" : "store"), SP_F_ERR(err));
    }
    link->lost(worker);
    if (err != SP_ERR_CLOSED && !worker->stopping) {
        sp_gate_fail(worker->gate);
    }
}

static void link_ready(struct sp_watch *watch, uint32_t events)
{
    struct sp_link *link = (struct sp_link *)watch;
    enum sp_err err = SP_OK;
    if ((events & EPOLLOUT) != 0) {
        err = sp_channel_flush(link->channel);
    }
    if (err == SP_OK && (events & ~(uint32_t)EPOLLOUT) != 0) {
        err = sp_channel_receive(link->channel, link->message, link->worker);
    }
    if (err != SP_OK) {
        sp_worker_drop_link(link, err);
    }
}

/* Start to use a channel; its edge goes to `edge`. */
static enum sp_err use_channel(struct sp_worker *worker, struct sp_link *link, int fd,
                               struct sp_edge *edge)
{
    sp_worker_drop_link(link, SP_ERR_CLOSED);
    enum sp_err err = sp_channel_create(fd, &link->channel);
    if (err != SP_OK) {
        close(fd);
        return err;
    }
    link->worker = worker;
    link->watch = (struct sp_watch){.fd = fd};
    *edge = (struct sp_edge){channel_send, link->channel};
    return sp_loop_add(&worker->loop, &link->watch, EPOLLIN, link_ready);
}

enum sp_err sp_worker_use_keys(struct sp_worker *worker, int fd)
{
    worker->keys.message = keys_message;
    worker->keys.lost = keys_lost;
    worker->home.keyring.known = false; /* until the new process has told */
    return use_channel(worker, &worker->keys, fd, &worker->home.keys);
}

enum sp_err sp_worker_use_store(struct sp_worker *worker, int fd)
{
    struct sp_edge edge;
    worker->store.message = store_message;
    worker->store.lost = store_lost;
    SP_TRY(use_channel(worker, &worker->store, fd, &edge));
    sp_tickets_connected(&worker->home, &edge);
    sp_keep_connected(&worker->home);
    return SP_OK;
}

void sp_worker_flush_link(struct sp_link *link)
{
    if (link->channel == NULL) {
        return;
    }
    enum sp_err err = sp_channel_flush(link->channel);
    if (err != SP_OK) {
        sp_worker_drop_link(link, err);
        return;
    }
    uint32_t events = EPOLLIN | (sp_channel_pending(link->channel) > 0 ? EPOLLOUT : 0U);
    /* Where the kernel has no memory for it, the next turn asks again. */
    (void)!sp_loop_change(&link->worker->loop, &link->watch, events);
}

static bool has_group(const struct sp_home *home)
{
    const struct sp_client *client;
    uint32_t index = 0;
    while ((client = sp_slots_each(&home->clients, &index)) != NULL) {
        if (sp_client_more(client)->group != NULL) {
            return true;
        }
    }
    return false;
}

enum sp_err sp_worker_await_keys(struct sp_worker *worker, int wait_ms)
{
    uint64_t end_ms = sp_clock_ms() + (uint64_t)wait_ms;
    bool grouped = has_group(&worker->home);
    while (worker->keys.channel != NULL && !worker->home.keyring.known) {
        sp_loop_read_clocks(&worker->loop);
        link_ready(&worker->keys.watch, EPOLLIN);
        if (!grouped) {
            break;
        }
        if (worker->loop.timers.now_ms >= end_ms) {
            return SP_ERR_AGAIN;
        }
        sp_loop_nap();
    }
    if (worker->keys.channel == NULL) {
        return SP_ERR_CLOSED;
    }
    return SP_OK;
}
