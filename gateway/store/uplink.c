/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A link is always in one of six states; each has its deadline.
 *
 *     WAIT ─► RESOLVE ─► CONNECT ─► SHAKE ─► GREET ─► UP
 *       ▲                                             │
 *       └───────────── sp_uplink_lose(): back-off ◄─────────────┘
 *
 * `queue` holds the rows that are to be sent, in lanes (lanes.h); `flying` those that were sent and not acknowledged;
 * `loose` those with QoS 0, sent when up, else dropped. A row that the cloud refuses for now goes back from flying to the
 * front of its lane, which waits. After connections that were lost twice with the same row at the head, all that was
 * under way goes one at a time, so that a message that makes the cloud hang up is known for sure before it becomes a
 * dead letter.
 */
#include "gateway/store/uplink_internal.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"

#define RESOLVE_TIMEOUT_MS 30000U
#define CONNECT_TIMEOUT_MS 20000U
#define SHAKE_TIMEOUT_MS   20000U
#define GREET_TIMEOUT_MS   20000U
#define PING_TIMEOUT_MS    30000U
#define ACK_TIMEOUT_MS     30000U
#define PACKET_IN_MAX      (256U * 1024U) /* bytes of a packet from the cloud */
#define COMMANDS_IN_MAX    32U            /* QoS 1 commands that the cloud may have on their way */
#define SCRATCH_MIN        (64U * 1024U)
#define READ_CHUNK         16384U
#define READS_PER_TURN     8

uint64_t sp_uplink_random(void)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value)) {
        return UINT64_MAX; /* then there is no jitter */
    }
    return value;
}

/* ---- life ---- */

enum sp_err sp_uplink_create(struct sp_uplink_env *env, uint32_t index, struct sp_uplink **out)
{
    *out = NULL;
    const struct sp_cloud_config *cloud = &env->config->cloud;
    struct sp_uplink *l = calloc(1, sizeof(*l));
    struct sp_mqtt_slot *slots = calloc(SP_UPLINK_REPEATS_MAX, sizeof(*slots));
    const struct sp_mqtt_client_opts opts = {
        .slots = slots,
        .slot_count = SP_UPLINK_REPEATS_MAX,
        .max_packet = PACKET_IN_MAX,
        .connect_timeout_ms = GREET_TIMEOUT_MS,
        .ping_timeout_ms = PING_TIMEOUT_MS,
        .ack_timeout_ms = ACK_TIMEOUT_MS,
    };
    if (l == NULL || slots == NULL || sp_mqtt_client_init(&l->mqtt, &opts) != SP_OK) {
        free(slots);
        free(l);
        return SP_ERR_NOMEM;
    }
    l->env = env;
    l->index = index;
    l->slots = slots;
    l->fd = -1;
    /* What 3.1.1 can't refuse can't be overtaken either. */
    sp_lanes_init(&l->queue, cloud->connections,
                  cloud->version == SP_CLOUD_MQTT_5 ? 1 : SP_UPLINK_REPEATS_MAX);
    if (index == 0) {
        (void)snprintf(l->client_id, sizeof(l->client_id), "%s", cloud->client_id);
    } else {
        (void)snprintf(l->client_id, sizeof(l->client_id), "%s-%u", cloud->client_id, index + 1U);
    }
    *out = l;
    return SP_OK;
}

static void shut(struct sp_uplink *l)
{
    if (l->fd >= 0) {
        (void)close(l->fd); /* leaves the epoll set by itself */
    }
    l->fd = -1;
    l->interest = 0;
    sp_tls_destroy(l->tls);
    l->tls = NULL;
    sp_tls_out_deinit(&l->out);
    free(l->in);
    l->in = NULL;
    l->in_used = 0;
    l->in_cap = 0;
}

void sp_uplink_destroy(struct sp_uplink *link)
{
    if (link == NULL) {
        return;
    }
    shut(link);
    sp_lanes_clear(&link->queue);
    sp_row_list_clear(&link->flying);
    sp_row_list_clear(&link->loose);
    sp_row_list_clear(&link->ended);
    sp_uplink_forget_filters(link);
    free(link->slots);
    free(link);
}

void sp_uplink_configure(struct sp_uplink *link, const struct sp_cloud_limits *old, uint64_t now_ms)
{
    const struct sp_cloud_limits *limits = &sp_uplink_cloud(link)->limits;
    if (limits->publishes_per_second != old->publishes_per_second) {
        sp_bucket_init(&link->publishes, limits->publishes_per_second, now_ms);
    }
    if (limits->bytes_per_second != old->bytes_per_second) {
        sp_bucket_init(&link->bytes, limits->bytes_per_second, now_ms);
    }
    link->subscribed = false;
}

/* ---- socket ---- */

static void set_interest(struct sp_uplink *l)
{
    uint32_t want = l->state == SP_UPLINK_CONNECT ? EPOLLOUT : EPOLLIN;
    want |= l->out.used > 0 ? EPOLLOUT : 0U;
    if (l->fd < 0 || want == l->interest) {
        return;
    }
    struct epoll_event event = {.events = want, .data = {.u32 = l->index}};
    int op = l->interest == 0 ? EPOLL_CTL_ADD : EPOLL_CTL_MOD;
    if (epoll_ctl(l->env->epoll, op, l->fd, &event) == 0) {
        l->interest = want;
    }
}

/* And not by a network in between. */
static bool reset_by_peer(void)
{
    return errno == ECONNRESET || errno == EPIPE;
}

/* @return false when the connection was lost. */
static bool flush_socket(struct sp_uplink *l, uint64_t now)
{
    while (l->out.used > 0) {
        ssize_t n = send(l->fd, l->out.buf, l->out.used, MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n < 0) {
            sp_uplink_lose(l, now, strerrordesc_np(errno), reset_by_peer());
            return false;
        }
        l->out.used -= (size_t)n;
        memmove(l->out.buf, l->out.buf + n, l->out.used);
    }
    set_interest(l);
    return true;
}

bool sp_uplink_scratch(struct sp_uplink *l, size_t cap, struct sp_writer *w)
{
    struct sp_uplink_env *env = l->env;
    cap = cap < SCRATCH_MIN ? SCRATCH_MIN : cap;
    if (cap > env->scratch_cap) {
        uint8_t *grown = realloc(env->scratch, cap);
        if (grown == NULL) {
            return false;
        }
        env->scratch = grown;
        env->scratch_cap = cap;
    }
    sp_writer_init(w, env->scratch, env->scratch_cap);
    return true;
}

bool sp_uplink_encrypt(struct sp_uplink *l, uint64_t now, const struct sp_writer *w)
{
    struct sp_view plain = sp_writer_view(w);
    if (plain.len > 0 && sp_tls_write(l->tls, plain, &l->out) != SP_OK) {
        sp_uplink_lose(l, now, sp_tls_error(l->tls), false);
        return false;
    }
    return true;
}

/* ---- losing and making a connection ---- */

static void say_lost(const struct sp_uplink *l, const char *reason, uint32_t wait)
{
    if (l->state == SP_UPLINK_UP) {
        sp_log_warn(SP_EVENT("cloud_lost"), SP_F_STR("client_id", l->client_id),
                    SP_F_STR("reason", reason), SP_F_INT("in_flight", l->flying.count),
                    SP_F_INT("retry_ms", wait));
    } else {
        sp_log_warn(SP_EVENT("cloud_unreachable"), SP_F_STR("client_id", l->client_id),
                    SP_F_STR("endpoint", sp_uplink_cloud(l)->host), SP_F_STR("reason", reason),
                    SP_F_INT("retry_ms", wait));
    }
}

void sp_uplink_lose(struct sp_uplink *l, uint64_t now, const char *reason, bool by_peer)
{
    bool up = l->state == SP_UPLINK_UP;
    if (up && now - l->up_since >= SP_BACKOFF_STABLE_MS) {
        l->reconnect.failures = 0;
    }
    uint32_t wait = sp_backoff_next(&l->reconnect, sp_uplink_random());
    say_lost(l, reason, wait);
    sp_metric_inc(SP_M_CLOUD_FAILURES);
    if (up) {
        sp_metric_add(SP_M_CLOUD_CONNECTED, -1);
        if (by_peer) {
            sp_uplink_count_loss(l);
        }
        sp_lanes_give_back(&l->queue, &l->flying);
    }
    sp_handoff_set_up(l->env->handoff, l->index, false);
    sp_uplink_drop_loose(l);
    shut(l);
    sp_mqtt_client_close(&l->mqtt);
    l->generation++;
    l->state = SP_UPLINK_WAIT;
    l->deadline = now + wait;
}

static void start_resolving(struct sp_uplink *l, uint64_t now)
{
    l->state = SP_UPLINK_RESOLVE;
    l->deadline = now + RESOLVE_TIMEOUT_MS;
}

static void start_connecting(struct sp_uplink *l, uint64_t now, const struct sp_address *to)
{
    l->state = SP_UPLINK_CONNECT;
    l->deadline = now + CONNECT_TIMEOUT_MS;
    l->fd = socket(to->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (l->fd < 0 || setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        (connect(l->fd, (const struct sockaddr *)&to->storage, to->len) != 0 &&
         errno != EINPROGRESS)) {
        sp_uplink_lose(l, now, strerrordesc_np(errno), false);
        return;
    }
    set_interest(l);
}

static void resolve(struct sp_uplink *l, uint64_t now)
{
    struct sp_address found[SP_RESOLVE_MAX];
    size_t count = 0;
    const char *why = "no answer";
    enum sp_err err = sp_resolver_ask(l->env->resolver, now, found, &count, &why);
    if (err == SP_OK) {
        start_connecting(l, now, &found[l->attempts++ % count]);
    } else if (err != SP_ERR_AGAIN) {
        sp_uplink_lose(l, now, why, false);
    }
}

static void shake(struct sp_uplink *l, uint64_t now);

static void connected(struct sp_uplink *l, uint64_t now)
{
    int error = 0;
    socklen_t len = sizeof(error);
    if (getsockopt(l->fd, SOL_SOCKET, SO_ERROR, &error, &len) != 0) {
        error = errno;
    }
    if (error != 0) {
        sp_uplink_lose(l, now, strerrordesc_np(error), false);
        return;
    }
    l->state = SP_UPLINK_SHAKE;
    l->deadline = now + SHAKE_TIMEOUT_MS;
    if (sp_tls_connect(l->env->tls, &l->tls) != SP_OK) {
        sp_uplink_lose(l, now, "no memory for TLS", false);
        return;
    }
    shake(l, now);
}

static void greet(struct sp_uplink *l, uint64_t now)
{
    const struct sp_cloud_config *cloud = sp_uplink_cloud(l);
    const struct sp_mqtt_connect packet = {
        .version = cloud->version == SP_CLOUD_MQTT_5 ? SP_MQTT_5 : SP_MQTT_311,
        .clean_start = true,
        .keep_alive =
            (uint16_t)(cloud->keep_alive_s > UINT16_MAX ? UINT16_MAX : cloud->keep_alive_s),
        .client_id = sp_view_str(l->client_id),
        .props = {.present = SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM),
                  .receive_maximum = COMMANDS_IN_MAX},
    };
    struct sp_writer w;
    bool ready = sp_uplink_scratch(l, 0, &w) && sp_mqtt_client_forget(&l->mqtt) == SP_OK &&
                 sp_mqtt_client_connect(&l->mqtt, now, &packet, &w) == SP_OK;
    if (!ready) {
        sp_uplink_lose(l, now, "CONNECT cannot be made", false);
        return;
    }
    l->state = SP_UPLINK_GREET;
    if (sp_uplink_encrypt(l, now, &w)) {
        (void)flush_socket(l, now);
    }
}

/* Carry the handshake on with what was given to TLS. */
static void shake(struct sp_uplink *l, uint64_t now)
{
    enum sp_tls_state state = sp_tls_step(l->tls, &l->out);
    if (!flush_socket(l, now)) {
        return;
    }
    if (state == SP_TLS_OPEN) {
        greet(l, now);
    } else if (state == SP_TLS_CLOSED) {
        sp_uplink_lose(l, now, sp_tls_error(l->tls), true);
    }
}

/* ---- receiving ---- */

static void break_off(struct sp_uplink *l, uint64_t now, enum sp_err err)
{
    struct sp_writer w;
    if (sp_uplink_scratch(l, 0, &w) &&
        sp_mqtt_client_disconnect(&l->mqtt, sp_mqtt_client_reason(err), &w) == SP_OK &&
        sp_tls_write(l->tls, sp_writer_view(&w), &l->out) == SP_OK) {
        (void)send(l->fd, l->out.buf, l->out.used, MSG_NOSIGNAL);
    }
    /* It was we who closed: an answer that nobody asked for says nothing about the message at the head. */
    sp_uplink_lose(l, now, sp_err_text(err), false);
}

static bool reserve_in(struct sp_uplink *l, size_t cap)
{
    if (cap <= l->in_cap) {
        return true;
    }
    uint8_t *grown = realloc(l->in, cap);
    if (grown != NULL) {
        l->in = grown;
        l->in_cap = cap;
    }
    return grown != NULL;
}

/* Take whole packets from `in`. @return false when the connection was lost. */
static bool take_packets(struct sp_uplink *l, uint64_t now)
{
    size_t taken = 0;
    struct sp_writer w;
    if (!sp_uplink_scratch(l, 0, &w)) {
        return true;
    }
    while (l->state == SP_UPLINK_GREET || l->state == SP_UPLINK_UP) {
        struct sp_mqtt_event event;
        size_t size = 0;
        enum sp_err err = sp_mqtt_client_input(
            &l->mqtt, now, sp_view(l->in + taken, l->in_used - taken), &size, &event);
        if (err == SP_ERR_AGAIN) {
            l->in_used -= taken;
            memmove(l->in, l->in + taken, l->in_used);
            return sp_uplink_encrypt(l, now, &w);
        }
        if (err != SP_OK) {
            break_off(l, now, err);
            return false;
        }
        sp_bucket_take(&l->bytes, size);
        sp_uplink_handle(l, now, &event, &w);
        taken += size;
    }
    return false;
}

/* Decrypt what was given to TLS and take the packets in it. @return false when the connection was lost. */
static bool decrypt(struct sp_uplink *l, uint64_t now)
{
    for (;;) {
        /* Room for a record; what is kept is shorter than a packet, and that is bounded. */
        if (!reserve_in(l, l->in_used + READ_CHUNK)) {
            sp_uplink_lose(l, now, "out of memory", false);
            return false;
        }
        size_t len = 0;
        enum sp_err err =
            sp_tls_read(l->tls, l->in + l->in_used, l->in_cap - l->in_used, &len, &l->out);
        if (err == SP_ERR_AGAIN) {
            return true;
        }
        if (err != SP_OK) {
            sp_uplink_lose(
                l, now, err == SP_ERR_CLOSED ? "closed by the cloud" : sp_tls_error(l->tls), true);
            return false;
        }
        l->in_used += len;
        if (!take_packets(l, now)) {
            return false;
        }
    }
}

/* @return false when the connection was lost. */
static bool digest(struct sp_uplink *l, uint64_t now, struct sp_view ciphertext)
{
    sp_tls_input(l->tls, ciphertext);
    if (l->state == SP_UPLINK_SHAKE) {
        shake(l, now);
    }
    if (l->state != SP_UPLINK_GREET && l->state != SP_UPLINK_UP) {
        return l->state == SP_UPLINK_SHAKE;
    }
    return decrypt(l, now);
}

static void receive(struct sp_uplink *l, uint64_t now)
{
    uint8_t chunk[READ_CHUNK];
    for (int i = 0; i < READS_PER_TURN; i++) {
        ssize_t n = recv(l->fd, chunk, sizeof(chunk), 0);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            break;
        }
        if (n <= 0) {
            sp_uplink_lose(l, now, n == 0 ? "closed by the cloud" : strerrordesc_np(errno),
                           n == 0 || reset_by_peer());
            return;
        }
        if (!digest(l, now, sp_view(chunk, (size_t)n)) || n < (ssize_t)sizeof(chunk)) {
            break;
        }
    }
}

void sp_uplink_ready(struct sp_uplink *link, uint32_t events, uint64_t now_ms)
{
    if (link->fd < 0) {
        return;
    }
    if (link->state == SP_UPLINK_CONNECT) {
        connected(link, now_ms);
        return;
    }
    if ((events & EPOLLOUT) != 0 && !flush_socket(link, now_ms)) {
        return;
    }
    if ((events & (EPOLLIN | EPOLLHUP | EPOLLERR)) != 0) {
        receive(link, now_ms);
    }
}

/* ---- turns ---- */

static const char *late_text(enum sp_mqtt_client_late late)
{
    static const char *const texts[] = {
        [SP_MQTT_LATE_NOTHING] = "silence",
        [SP_MQTT_LATE_CONNACK] = "no CONNACK in time",
        [SP_MQTT_LATE_PINGRESP] = "no PINGRESP in time",
        [SP_MQTT_LATE_PUBACK] = "no PUBACK in time",
        [SP_MQTT_LATE_SUBACK] = "no SUBACK in time",
    };
    return texts[late];
}

static void turn_open(struct sp_uplink *l, uint64_t now)
{
    struct sp_writer w;
    if (!sp_uplink_scratch(l, 0, &w)) {
        return;
    }
    if (sp_mqtt_client_tick(&l->mqtt, now, &w) == SP_ERR_CLOSED) {
        sp_uplink_lose(l, now, late_text(l->mqtt.late), false);
        return;
    }
    if (l->state == SP_UPLINK_UP) {
        sp_uplink_subscribe(l, now, &w);
        sp_uplink_send_rows(l, now, &w);
    }
    if ((l->state == SP_UPLINK_GREET || l->state == SP_UPLINK_UP) &&
        sp_uplink_encrypt(l, now, &w)) {
        (void)flush_socket(l, now);
    }
}

void sp_uplink_turn(struct sp_uplink *link, uint64_t now_ms)
{
    sp_uplink_take_rows(link);
    if (link->state == SP_UPLINK_WAIT && now_ms >= link->deadline && !link->stopping) {
        start_resolving(link, now_ms);
    }
    if (link->state == SP_UPLINK_RESOLVE) {
        resolve(link, now_ms);
    }
    if (link->state == SP_UPLINK_GREET || link->state == SP_UPLINK_UP) {
        turn_open(link, now_ms);
    } else if (link->state != SP_UPLINK_WAIT && now_ms >= link->deadline) {
        sp_uplink_lose(link, now_ms, "no answer in time", false);
    }
    sp_handoff_end(link->env->handoff, &link->ended);
}

size_t sp_uplink_flying(const struct sp_uplink *link)
{
    return link->flying.count;
}

size_t sp_uplink_waiting(const struct sp_uplink *link)
{
    return link->state == SP_UPLINK_UP ? link->queue.count : 0;
}

uint64_t sp_uplink_deadline(const struct sp_uplink *link)
{
    if (link->state != SP_UPLINK_GREET && link->state != SP_UPLINK_UP) {
        return link->state == SP_UPLINK_WAIT && link->stopping ? UINT64_MAX : link->deadline;
    }
    uint64_t due = sp_mqtt_client_deadline(&link->mqtt);
    if (link->queue.count > 0 || link->loose.head != NULL) {
        const uint64_t waits[] = {link->queue.wake_at, link->bucket_wait_until};
        for (size_t i = 0; i < 2; i++) {
            due = waits[i] > 0 && waits[i] < due ? waits[i] : due;
        }
    }
    return due;
}

void sp_uplink_command_taken(struct sp_uplink *link, uint64_t tag, uint8_t reason, uint64_t now_ms)
{
    struct sp_writer w;
    if (link->state != SP_UPLINK_UP || tag >> 16 != (link->generation & (UINT64_MAX >> 16)) ||
        !sp_uplink_scratch(link, 0, &w)) {
        return;
    }
    if (sp_mqtt_client_ack(&link->mqtt, now_ms, (uint16_t)(tag & 0xffffU), reason, &w) == SP_OK &&
        sp_uplink_encrypt(link, now_ms, &w)) {
        (void)flush_socket(link, now_ms);
    }
}

void sp_uplink_stop(struct sp_uplink *link)
{
    link->stopping = true;
}

bool sp_uplink_is_quiet(const struct sp_uplink *link)
{
    if (link->state != SP_UPLINK_UP) {
        return link->loose.head == NULL; /* it may come up in time */
    }
    return link->flying.head == NULL && link->loose.head == NULL && link->out.used == 0;
}

void sp_uplink_farewell(struct sp_uplink *link, uint64_t now_ms)
{
    struct sp_writer w;
    if (link->state == SP_UPLINK_UP && sp_uplink_scratch(link, 0, &w) &&
        sp_mqtt_client_disconnect(&link->mqtt, 0, &w) == SP_OK &&
        sp_uplink_encrypt(link, now_ms, &w)) {
        sp_tls_close(link->tls, &link->out);
        (void)send(link->fd, link->out.buf, link->out.used, MSG_NOSIGNAL);
        sp_metric_add(SP_M_CLOUD_CONNECTED, -1);
    }
    shut(link);
    sp_mqtt_client_close(&link->mqtt);
    sp_uplink_drop_loose(link);
    link->state = SP_UPLINK_WAIT;
    link->deadline = UINT64_MAX;
    sp_handoff_end(link->env->handoff, &link->ended);
}
