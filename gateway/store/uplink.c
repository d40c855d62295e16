/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A link is always in one of six states; each has its deadline.
 *
 *     WAIT ─► RESOLVE ─► CONNECT ─► SHAKE ─► GREET ─► UP
 *       ▲                                             │
 *       └───────────── lose(): back-off ◄─────────────┘
 *
 * Three lists hold its rows, each in journal order: `queue` (to be sent), `flying` (sent, not acknowledged), `loose`
 * (QoS 0, sent when up, else dropped). A row that the cloud refuses for now goes back from flying to queue and the link
 * pauses. After that, and after connections that were lost twice with the same row at the head, the link goes
 * on carefully: up to `careful_upto` one row at a time, so that a message that makes the cloud hang up is known for
 * sure before it becomes a dead letter.
 */
#include "gateway/store/uplink.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/store/pace.h"
#include "libs/mqtt/client.h"

#define RESOLVE_TIMEOUT_MS 30000U
#define CONNECT_TIMEOUT_MS 20000U
#define SHAKE_TIMEOUT_MS   20000U
#define GREET_TIMEOUT_MS   20000U
#define PING_TIMEOUT_MS    30000U
#define ACK_TIMEOUT_MS     30000U
#define PACKET_IN_MAX      (256U * 1024U) /* bytes of a packet from the cloud */
#define COMMANDS_IN_MAX    32U            /* QoS 1 commands that the cloud may have on their way */
#define OUT_HIGH           (256U * 1024U) /* ciphertext waiting for the socket: send no more */
#define SCRATCH_MIN        (64U * 1024U)
#define READ_CHUNK         16384U
#define READS_PER_TURN     8
#define SUBSCRIBE_FILTERS  8U     /* per SUBSCRIBE: as many as AWS takes */
#define LOSSES_MAX         3U     /* connections lost in a row with the same row at the head */
#define STREAM_CARE_MS     60000U /* after a refusal: one row of a device at a time */

enum state { ST_WAIT, ST_RESOLVE, ST_CONNECT, ST_SHAKE, ST_GREET, ST_UP };

struct sp_uplink {
    struct sp_uplink_env *env;
    uint32_t index;
    char client_id[160];
    enum state state;
    uint64_t deadline; /* end of WAIT, or of the patience with any other state but UP */
    int fd;
    uint32_t interest; /* what epoll knows */
    unsigned attempts; /* picks the address */
    struct sp_tls *tls;
    struct sp_tls_out out;
    uint8_t *in; /* plaintext that is not a whole packet yet */
    size_t in_used;
    size_t in_cap;
    struct sp_mqtt_client mqtt;
    struct sp_mqtt_slot *slots;
    struct sp_row_list queue;
    struct sp_row_list flying;
    struct sp_row_list loose;
    struct sp_row_list ended; /* to be handed back at the end of a turn */
    struct sp_backoff reconnect;
    struct sp_backoff refused;
    uint64_t up_since;
    uint64_t pause_until; /* the cloud said: not now */
    uint64_t stream_care_until;
    uint64_t careful_upto; /* sequence; 0 = none */
    uint64_t loss_head;    /* sequence at the head of the last lost connection */
    unsigned losses;
    struct sp_bucket publishes;
    struct sp_bucket bytes;
    uint64_t bucket_wait_until;
    size_t subscribed;   /* filters asked for on this connection */
    uint64_t generation; /* of the connection: packet ids of an older one mean nothing */
    bool stopping;
};

static void lose(struct sp_uplink *l, uint64_t now, const char *reason, bool by_peer);

static uint64_t wall_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * 1000U + (uint64_t)t.tv_nsec / 1000000U;
}

static uint64_t random_u64(void)
{
    uint64_t value = 0;
    if (getrandom(&value, sizeof(value), 0) != (ssize_t)sizeof(value)) {
        return UINT64_MAX; /* then there is no jitter */
    }
    return value;
}

static const struct sp_cloud_config *cloud_of(const struct sp_uplink *l)
{
    return &l->env->config->cloud;
}

/* ---- life ---- */

enum sp_err sp_uplink_create(struct sp_uplink_env *env, uint32_t index, struct sp_uplink **out)
{
    *out = NULL;
    const struct sp_cloud_config *cloud = &env->config->cloud;
    uint32_t window = cloud->limits.in_flight < SP_UPLINK_REPEATS_MAX ? cloud->limits.in_flight
                                                                      : SP_UPLINK_REPEATS_MAX;
    struct sp_uplink *l = calloc(1, sizeof(*l));
    struct sp_mqtt_slot *slots = calloc(window, sizeof(*slots));
    const struct sp_mqtt_client_opts opts = {
        .slots = slots,
        .slot_count = (uint16_t)window,
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
    sp_row_list_clear(&link->queue);
    sp_row_list_clear(&link->flying);
    sp_row_list_clear(&link->loose);
    sp_row_list_clear(&link->ended);
    free(link->slots);
    free(link);
}

/* ---- rows ---- */

/* Put the rows of `from` back among those of `into`; both are in order. */
static void merge(struct sp_row_list *into, struct sp_row_list *from)
{
    struct sp_row_list both = {0};
    while (into->head != NULL || from->head != NULL) {
        bool first =
            from->head == NULL || (into->head != NULL && into->head->seq < from->head->seq);
        sp_row_list_push(&both, sp_row_list_pop(first ? into : from));
    }
    *into = both;
}

static struct sp_row *take_row(struct sp_row_list *list, uint64_t seq)
{
    if (list->head != NULL && list->head->seq == seq) {
        return sp_row_list_pop(list);
    }
    struct sp_row_list rest = {0};
    struct sp_row *found = NULL;
    for (struct sp_row *row = sp_row_list_pop(list); row != NULL; row = sp_row_list_pop(list)) {
        if (row->seq == seq && found == NULL) {
            found = row;
        } else {
            sp_row_list_push(&rest, row);
        }
    }
    *list = rest;
    return found;
}

static void end_row(struct sp_uplink *l, struct sp_row *row, enum sp_row_end end,
                    const char *reason)
{
    row->end = end;
    row->reason = reason;
    row->end_ms = wall_ms();
    sp_row_list_push(&l->ended, row);
}

static void drop_loose(struct sp_uplink *l)
{
    sp_metric_add(SP_M_CLOUD_DROPPED, (int64_t)l->loose.count);
    sp_row_list_append(&l->ended, &l->loose);
}

static void take_rows(struct sp_uplink *l)
{
    struct sp_row_list given = {0};
    sp_handoff_take(l->env->handoff, l->index, &given);
    for (struct sp_row *row = sp_row_list_pop(&given); row != NULL; row = sp_row_list_pop(&given)) {
        sp_row_list_push(row->seq == 0 ? &l->loose : &l->queue, row);
    }
    if (l->state != ST_UP) {
        drop_loose(l);
    }
}

/* ---- socket ---- */

static void set_interest(struct sp_uplink *l)
{
    uint32_t want = l->state == ST_CONNECT ? EPOLLOUT : EPOLLIN;
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
            lose(l, now, strerrordesc_np(errno), reset_by_peer());
            return false;
        }
        l->out.used -= (size_t)n;
        memmove(l->out.buf, l->out.buf + n, l->out.used);
    }
    set_interest(l);
    return true;
}

/* The scratch buffer as a writer; at least `cap` bytes. */
static bool scratch(struct sp_uplink *l, size_t cap, struct sp_writer *w)
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

/* What was written goes into TLS. @return false when the connection was lost. */
static bool encrypt(struct sp_uplink *l, uint64_t now, const struct sp_writer *w)
{
    struct sp_view plain = sp_writer_view(w);
    if (plain.len > 0 && sp_tls_write(l->tls, plain, &l->out) != SP_OK) {
        lose(l, now, sp_tls_error(l->tls), false);
        return false;
    }
    return true;
}

/* ---- losing and making a connection ---- */

/* D9: is the row at the head the reason that the cloud hangs up? */
static void count_loss(struct sp_uplink *l)
{
    struct sp_row *head = l->flying.head;
    if (head == NULL) {
        return;
    }
    l->losses = head->seq == l->loss_head ? l->losses + 1 : 1;
    l->loss_head = head->seq;
    if (l->losses + 1 == LOSSES_MAX) {
        l->careful_upto = l->flying.tail->seq;
    }
    if (l->losses >= LOSSES_MAX) {
        end_row(l, sp_row_list_pop(&l->flying), SP_ROW_DEAD,
                "the cloud closed three times in a row on it");
        l->losses = 0;
        l->loss_head = 0;
    }
}

static void say_lost(const struct sp_uplink *l, const char *reason, uint32_t wait)
{
    if (l->state == ST_UP) {
        sp_log_warn(SP_EVENT("cloud_lost"), SP_F_STR("client_id", l->client_id),
                    SP_F_STR("reason", reason), SP_F_INT("in_flight", l->flying.count),
                    SP_F_INT("retry_ms", wait));
    } else {
        sp_log_warn(SP_EVENT("cloud_unreachable"), SP_F_STR("client_id", l->client_id),
                    SP_F_STR("endpoint", cloud_of(l)->host), SP_F_STR("reason", reason),
                    SP_F_INT("retry_ms", wait));
    }
}

static void lose(struct sp_uplink *l, uint64_t now, const char *reason, bool by_peer)
{
    bool up = l->state == ST_UP;
    if (up && now - l->up_since >= SP_BACKOFF_STABLE_MS) {
        l->reconnect.failures = 0;
    }
    uint32_t wait = sp_backoff_next(&l->reconnect, random_u64());
    say_lost(l, reason, wait);
    sp_metric_inc(SP_M_CLOUD_FAILURES);
    if (up) {
        sp_metric_add(SP_M_CLOUD_CONNECTED, -1);
        sp_handoff_set_up(l->env->handoff, l->index, false);
        if (by_peer) {
            count_loss(l);
        }
        merge(&l->queue, &l->flying);
        drop_loose(l);
    }
    shut(l);
    sp_mqtt_client_close(&l->mqtt);
    l->generation++;
    l->state = ST_WAIT;
    l->deadline = now + wait;
}

static void start_resolving(struct sp_uplink *l, uint64_t now)
{
    l->state = ST_RESOLVE;
    l->deadline = now + RESOLVE_TIMEOUT_MS;
}

static void start_connecting(struct sp_uplink *l, uint64_t now, const struct sp_address *to)
{
    l->state = ST_CONNECT;
    l->deadline = now + CONNECT_TIMEOUT_MS;
    l->fd = socket(to->storage.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int on = 1;
    if (l->fd < 0 || setsockopt(l->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on)) != 0 ||
        (connect(l->fd, (const struct sockaddr *)&to->storage, to->len) != 0 &&
         errno != EINPROGRESS)) {
        lose(l, now, strerrordesc_np(errno), false);
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
        lose(l, now, why, false);
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
        lose(l, now, strerrordesc_np(error), false);
        return;
    }
    l->state = ST_SHAKE;
    l->deadline = now + SHAKE_TIMEOUT_MS;
    if (sp_tls_connect(l->env->tls, &l->tls) != SP_OK) {
        lose(l, now, "no memory for TLS", false);
        return;
    }
    shake(l, now);
}

static void greet(struct sp_uplink *l, uint64_t now)
{
    const struct sp_cloud_config *cloud = cloud_of(l);
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
    bool ready = scratch(l, 0, &w) && sp_mqtt_client_forget(&l->mqtt) == SP_OK &&
                 sp_mqtt_client_connect(&l->mqtt, now, &packet, &w) == SP_OK;
    if (!ready) {
        lose(l, now, "CONNECT cannot be made", false);
        return;
    }
    l->state = ST_GREET;
    if (encrypt(l, now, &w)) {
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
        lose(l, now, sp_tls_error(l->tls), true);
    }
}

/* ---- events from the cloud ---- */

static void arrived(struct sp_uplink *l, uint64_t now)
{
    if (l->mqtt.limits.maximum_qos == 0) {
        /* A message that was accepted can't be handed to somebody who acknowledges nothing. */
        lose(l, now, "the cloud takes QoS 0 only", true);
        return;
    }
    const struct sp_cloud_limits *limits = &cloud_of(l)->limits;
    l->state = ST_UP;
    l->up_since = now;
    l->subscribed = 0;
    l->bucket_wait_until = 0;
    sp_bucket_init(&l->publishes, limits->publishes_per_second, now);
    sp_bucket_init(&l->bytes, limits->bytes_per_second, now);
    sp_handoff_set_up(l->env->handoff, l->index, true);
    sp_metric_inc(SP_M_CLOUD_CONNECTS);
    sp_metric_add(SP_M_CLOUD_CONNECTED, 1);
    sp_log_info(SP_EVENT("cloud_connected"), SP_F_STR("client_id", l->client_id),
                SP_F_STR("endpoint", cloud_of(l)->host), SP_F_INT("port", cloud_of(l)->port),
                SP_F_STR("tls", sp_tls_describe(l->tls)),
                SP_F_INT("receive_maximum", l->mqtt.limits.receive_maximum),
                SP_F_INT("waiting", l->queue.count));
}

static void refused(struct sp_uplink *l, uint64_t now, const struct sp_mqtt_connack *connack)
{
    sp_log_warn(SP_EVENT("cloud_refused"), SP_F_STR("client_id", l->client_id),
                SP_F_INT("reason_code", connack->reason),
                SP_F_VIEW("text", connack->props.reason_string));
    lose(l, now, "CONNECT was refused", true);
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

/* One pause for a whole flight: what was sent before it and is refused too has nothing new to say. */
static void put_back(struct sp_uplink *l, uint64_t now, struct sp_row *row, uint8_t code)
{
    if (row->seq > l->careful_upto || l->flying.head == NULL) {
        uint32_t wait = sp_backoff_next(&l->refused, random_u64());
        sp_log_warn(SP_EVENT("cloud_busy"), SP_F_STR("client_id", l->client_id),
                    SP_F_INT("reason_code", code), SP_F_INT("sequence", row->seq),
                    SP_F_INT("retry_ms", wait));
        l->pause_until = now + wait;
        l->stream_care_until = now + wait + STREAM_CARE_MS;
    }
    uint64_t last = l->flying.tail != NULL ? l->flying.tail->seq : row->seq;
    last = last > row->seq ? last : row->seq;
    l->careful_upto = last > l->careful_upto ? last : l->careful_upto;
    struct sp_row_list one = {0};
    sp_row_list_push(&one, row);
    merge(&l->queue, &one);
}

static void acknowledged(struct sp_uplink *l, uint64_t now, uint64_t seq, uint8_t code)
{
    struct sp_row *row = take_row(&l->flying, seq);
    if (row == NULL) {
        return;
    }
    const char *dead = permanent_refusal(code);
    if (code < 0x80) {
        sp_metric_inc(SP_M_CLOUD_PUBLISHED);
        end_row(l, row, SP_ROW_DELIVERED, NULL);
    } else if (dead != NULL) {
        end_row(l, row, SP_ROW_DEAD, dead);
    } else {
        put_back(l, now, row, code);
        return;
    }
    if (seq <= l->careful_upto && l->flying.head == NULL) {
        l->refused.failures = 0;
    }
    if (seq == l->loss_head) {
        l->losses = 0;
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
        lose(l, now, "PUBACK cannot be made", false);
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
    lose(l, now, reason, memchr(unrelated, disconnect->reason, sizeof(unrelated)) == NULL);
}

static void handle(struct sp_uplink *l, uint64_t now, const struct sp_mqtt_event *event,
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
        lose(l, now, "the cloud wants an AUTH exchange", true);
        break;
    case SP_MQTT_EVENT_UNSUBACK:
    case SP_MQTT_EVENT_NONE:
        break;
    }
}

static void break_off(struct sp_uplink *l, uint64_t now, enum sp_err err)
{
    struct sp_writer w;
    if (scratch(l, 0, &w) &&
        sp_mqtt_client_disconnect(&l->mqtt, sp_mqtt_client_reason(err), &w) == SP_OK &&
        sp_tls_write(l->tls, sp_writer_view(&w), &l->out) == SP_OK) {
        (void)send(l->fd, l->out.buf, l->out.used, MSG_NOSIGNAL);
    }
    lose(l, now, sp_err_text(err), true);
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
    if (!scratch(l, 0, &w)) {
        return true;
    }
    while (l->state == ST_GREET || l->state == ST_UP) {
        struct sp_mqtt_event event;
        size_t size = 0;
        enum sp_err err = sp_mqtt_client_input(
            &l->mqtt, now, sp_view(l->in + taken, l->in_used - taken), &size, &event);
        if (err == SP_ERR_AGAIN) {
            l->in_used -= taken;
            memmove(l->in, l->in + taken, l->in_used);
            return encrypt(l, now, &w);
        }
        if (err != SP_OK) {
            break_off(l, now, err);
            return false;
        }
        sp_bucket_take(&l->bytes, size);
        handle(l, now, &event, &w);
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
            lose(l, now, "out of memory", false);
            return false;
        }
        size_t len = 0;
        enum sp_err err =
            sp_tls_read(l->tls, l->in + l->in_used, l->in_cap - l->in_used, &len, &l->out);
        if (err == SP_ERR_AGAIN) {
            return true;
        }
        if (err != SP_OK) {
            lose(l, now, err == SP_ERR_CLOSED ? "closed by the cloud" : sp_tls_error(l->tls), true);
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
    if (l->state == ST_SHAKE) {
        shake(l, now);
    }
    if (l->state != ST_GREET && l->state != ST_UP) {
        return l->state == ST_SHAKE;
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
            lose(l, now, n == 0 ? "closed by the cloud" : strerrordesc_np(errno),
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
    if (link->state == ST_CONNECT) {
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

/* ---- sending ---- */

static void subscribe(struct sp_uplink *l, uint64_t now, struct sp_writer *w)
{
    const struct sp_config *config = l->env->config;
    while (l->index == 0 && l->subscribed < config->command_count) {
        struct sp_mqtt_filter filters[SUBSCRIBE_FILTERS] = {0};
        size_t count = 0;
        while (count < SUBSCRIBE_FILTERS && l->subscribed + count < config->command_count) {
            const struct sp_command_config *c = &config->commands[l->subscribed + count];
            filters[count++] = (struct sp_mqtt_filter){.filter = sp_view_str(c->cloud), .qos = 1};
        }
        uint16_t id;
        enum sp_err err = sp_mqtt_client_subscribe(&l->mqtt, now, filters, count, w, &id);
        if (err == SP_ERR_AGAIN || err == SP_ERR_SPACE) {
            return;
        }
        if (err != SP_OK) {
            sp_log_warn(SP_EVENT("commands_refused"), SP_F_STR("client_id", l->client_id),
                        SP_F_ERR(err));
        }
        l->subscribed += count;
    }
}

static bool stream_flies(const struct sp_uplink *l, uint32_t stream)
{
    for (const struct sp_row *row = l->flying.head; row != NULL; row = row->next) {
        if (row->stream == stream) {
            return true;
        }
    }
    return false;
}

/* The window of D5, and the care after trouble. */
static bool may_go(struct sp_uplink *l, uint64_t now, const struct sp_row *row)
{
    if (now < l->pause_until || sp_mqtt_client_window(&l->mqtt) == 0) {
        return false;
    }
    const struct sp_row *first = l->flying.head;
    if (first != NULL && (row->seq <= l->careful_upto || first->seq <= l->careful_upto)) {
        return false;
    }
    if (now < l->stream_care_until && stream_flies(l, row->stream)) {
        return false;
    }
    size_t gone = sp_handoff_unreleased(l->env->handoff, l->index) + l->ended.count;
    return l->flying.count + gone < SP_UPLINK_REPEATS_MAX;
}

static bool buckets_ready(struct sp_uplink *l, uint64_t now, size_t size)
{
    uint64_t a = sp_bucket_wait(&l->publishes, 1, now);
    uint64_t b = sp_bucket_wait(&l->bytes, size, now);
    l->bucket_wait_until = a == 0 && b == 0 ? 0 : now + (a > b ? a : b);
    return l->bucket_wait_until == 0;
}

/* A row that can never go: to the dead letters, or, with QoS 0, dropped. */
static void give_up(struct sp_uplink *l, struct sp_row_list *from, const char *reason)
{
    struct sp_row *row = sp_row_list_pop(from);
    if (row->seq == 0) {
        sp_metric_inc(SP_M_CLOUD_DROPPED);
        sp_row_list_push(&l->ended, row);
    } else {
        end_row(l, row, SP_ROW_DEAD, reason);
    }
}

static void departed(struct sp_uplink *l, struct sp_row_list *from, size_t size)
{
    struct sp_row *row = sp_row_list_pop(from);
    sp_row_list_push(row->seq == 0 ? &l->ended : &l->flying, row);
    sp_bucket_take(&l->publishes, 1);
    sp_bucket_take(&l->bytes, size);
    sp_metric_inc(SP_M_CLOUD_SENT);
}

/* Write the first row of a list. @return false: no more for now. */
static bool send_row(struct sp_uplink *l, uint64_t now, struct sp_row_list *from,
                     struct sp_writer *w)
{
    struct sp_mqtt_publish publish;
    const char *reason = NULL;
    struct sp_row *row = from->head;
    enum sp_err err =
        sp_letter_write(&l->env->office, row, wall_ms(), &l->env->room, &publish, &reason);
    if (err == SP_ERR_NOMEM) {
        return false;
    }
    if (err != SP_OK) {
        give_up(l, from, reason);
        return true;
    }
    size_t size = sp_mqtt_publish_size(l->env->office.version, &publish);
    if (!buckets_ready(l, now, size)) {
        return false;
    }
    err = sp_mqtt_client_publish(&l->mqtt, now, &publish, row->seq, w);
    if (err == SP_ERR_SPACE) {
        if (!encrypt(l, now, w) || !scratch(l, size + 64U, w)) {
            return false;
        }
        err = sp_mqtt_client_publish(&l->mqtt, now, &publish, row->seq, w);
    }
    if (err == SP_OK) {
        departed(l, from, size);
        return true;
    }
    if (err == SP_ERR_LIMIT) {
        give_up(l, from, "packet larger than the cloud's Maximum Packet Size");
        return true;
    }
    if (err == SP_ERR_ARGUMENT || err == SP_ERR_UNSUPPORTED) {
        give_up(l, from, "cannot be put into a packet");
        return true;
    }
    return false;
}

/* QoS 0 goes when nothing that was accepted can. */
static struct sp_row_list *next_list(struct sp_uplink *l, uint64_t now)
{
    if (l->queue.head != NULL && may_go(l, now, l->queue.head)) {
        return &l->queue;
    }
    return l->loose.head != NULL ? &l->loose : NULL;
}

static void send_rows(struct sp_uplink *l, uint64_t now, struct sp_writer *w)
{
    l->bucket_wait_until = 0;
    l->pause_until = now < l->pause_until ? l->pause_until : 0;
    while (l->state == ST_UP && !l->stopping && l->out.used < OUT_HIGH) {
        struct sp_row_list *from = next_list(l, now);
        if (from == NULL || !send_row(l, now, from, w)) {
            return;
        }
    }
}

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
    if (!scratch(l, 0, &w)) {
        return;
    }
    if (sp_mqtt_client_tick(&l->mqtt, now, &w) == SP_ERR_CLOSED) {
        lose(l, now, late_text(l->mqtt.late), false);
        return;
    }
    if (l->state == ST_UP) {
        subscribe(l, now, &w);
        send_rows(l, now, &w);
    }
    if ((l->state == ST_GREET || l->state == ST_UP) && encrypt(l, now, &w)) {
        (void)flush_socket(l, now);
    }
}

void sp_uplink_turn(struct sp_uplink *link, uint64_t now_ms)
{
    take_rows(link);
    if (link->state == ST_WAIT && now_ms >= link->deadline && !link->stopping) {
        start_resolving(link, now_ms);
    }
    if (link->state == ST_RESOLVE) {
        resolve(link, now_ms);
    }
    if (link->state == ST_GREET || link->state == ST_UP) {
        turn_open(link, now_ms);
    } else if (link->state != ST_WAIT && now_ms >= link->deadline) {
        lose(link, now_ms, "no answer in time", false);
    }
    sp_handoff_end(link->env->handoff, &link->ended);
}

uint64_t sp_uplink_deadline(const struct sp_uplink *link)
{
    if (link->state != ST_GREET && link->state != ST_UP) {
        return link->state == ST_WAIT && link->stopping ? UINT64_MAX : link->deadline;
    }
    uint64_t due = sp_mqtt_client_deadline(&link->mqtt);
    if (link->queue.head != NULL || link->loose.head != NULL) {
        const uint64_t waits[] = {link->pause_until, link->bucket_wait_until};
        for (size_t i = 0; i < 2; i++) {
            due = waits[i] > 0 && waits[i] < due ? waits[i] : due;
        }
    }
    return due;
}

void sp_uplink_command_taken(struct sp_uplink *link, uint64_t tag, uint64_t now_ms)
{
    struct sp_writer w;
    if (link->state != ST_UP || tag >> 16 != (link->generation & (UINT64_MAX >> 16)) ||
        !scratch(link, 0, &w)) {
        return;
    }
    if (sp_mqtt_client_ack(&link->mqtt, now_ms, (uint16_t)(tag & 0xffffU), 0, &w) == SP_OK &&
        encrypt(link, now_ms, &w)) {
        (void)flush_socket(link, now_ms);
    }
}

void sp_uplink_stop(struct sp_uplink *link)
{
    link->stopping = true;
}

bool sp_uplink_is_quiet(const struct sp_uplink *link)
{
    return link->state != ST_UP || link->flying.head == NULL;
}

void sp_uplink_farewell(struct sp_uplink *link, uint64_t now_ms)
{
    struct sp_writer w;
    if (link->state == ST_UP && scratch(link, 0, &w) &&
        sp_mqtt_client_disconnect(&link->mqtt, 0, &w) == SP_OK && encrypt(link, now_ms, &w)) {
        sp_tls_close(link->tls, &link->out);
        (void)send(link->fd, link->out.buf, link->out.used, MSG_NOSIGNAL);
        sp_metric_add(SP_M_CLOUD_CONNECTED, -1);
    }
    shut(link);
    sp_mqtt_client_close(&link->mqtt);
    link->state = ST_WAIT;
    link->deadline = UINT64_MAX;
    sp_handoff_end(link->env->handoff, &link->ended);
}
