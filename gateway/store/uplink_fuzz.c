/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A hostile cloud: the link as it is, over a socket, with a TLS layer that lets bytes through. The input chooses what the cloud says
 * and when; packets that fit the link's state are offered, so that not all end at the first byte. What the link says
 * must decode. No row may get lost or end twice, and none may be taken for delivered without an acknowledgement.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/store/uplink_internal.h"
#include "libs/mqtt/any_packet_test.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define ROWS_MAX 64U

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

/* ---- a TLS layer that lets through; in the place of gateway/tls ---- */

struct sp_tls {
    struct sp_view input;
    bool closed;
};

static struct {
    uint8_t sent[1U << 20]; /* what the link said, and nobody looked at yet */
    size_t len;
    bool version_5;
} said;

enum sp_err sp_tls_connect(struct sp_tls_client *client, struct sp_tls **out)
{
    (void)client;
    *out = calloc(1, sizeof(**out));
    return *out == NULL ? SP_ERR_NOMEM : SP_OK;
}

void sp_tls_destroy(struct sp_tls *tls)
{
    free(tls);
}

void sp_tls_out_deinit(struct sp_tls_out *out)
{
    free(out->buf);
    memset(out, 0, sizeof(*out));
}

enum sp_tls_state sp_tls_state(const struct sp_tls *tls)
{
    return tls->closed ? SP_TLS_CLOSED : SP_TLS_OPEN;
}

void sp_tls_input(struct sp_tls *tls, struct sp_view ciphertext)
{
    tls->input = ciphertext;
}

enum sp_tls_state sp_tls_step(struct sp_tls *tls, struct sp_tls_out *out)
{
    (void)out;
    return sp_tls_state(tls);
}

enum sp_err sp_tls_read(struct sp_tls *tls, uint8_t *buf, size_t cap, size_t *len,
                        struct sp_tls_out *out)
{
    (void)out;
    *len = tls->input.len < cap ? tls->input.len : cap;
    sp_copy(buf, tls->input.ptr, *len);
    tls->input = sp_view_from(tls->input, *len);
    return *len > 0 ? SP_OK : SP_ERR_AGAIN;
}

enum sp_err sp_tls_write(struct sp_tls *tls, struct sp_view plain, struct sp_tls_out *out)
{
    (void)tls, (void)out;
    if (said.len + plain.len <= sizeof(said.sent)) {
        sp_copy(said.sent + said.len, plain.ptr, plain.len);
        said.len += plain.len;
    }
    return SP_OK;
}

void sp_tls_close(struct sp_tls *tls, struct sp_tls_out *out)
{
    (void)out;
    tls->closed = true;
}

const char *sp_tls_describe(const struct sp_tls *tls)
{
    (void)tls;
    return "none";
}

const char *sp_tls_error(const struct sp_tls *tls)
{
    (void)tls;
    return "none";
}

/* ---- a resolver that knows one address ---- */

static struct sp_address address;

enum sp_err sp_resolver_ask(struct sp_resolver *r, uint64_t now_ms, struct sp_address *out,
                            size_t *count, const char **why)
{
    (void)r, (void)now_ms, (void)why;
    out[0] = address;
    *count = 1;
    return SP_OK;
}

/* ---- the world ---- */

static char id[] = "gw";
static char host[] = "cloud";
static char filter[] = "down/#";
static char filter_2[] = "more/#";
static struct sp_command_config commands[] = {{.cloud = filter, .to = filter},
                                              {.cloud = filter_2, .to = filter}};
static struct sp_config config = {
    .id = id,
    .cloud = {.enabled = true,
              .host = host,
              .client_id = id,
              .connections = 1,
              .keep_alive_s = 30,
              .limits = {.in_flight = 4, .packet = 1000, .topic_levels = 7, .topic_bytes = 64}},
    .commands = commands,
    .command_count = 1,
};
static int listener = -1;

static struct {
    struct sp_uplink_env env;
    struct sp_uplink *link;
    int cloud; /* the cloud's end of the connection; -1: none */
    uint64_t now;
    uint64_t given;           /* sequence of the last row */
    bool ended[ROWS_MAX + 1]; /* by sequence */
    unsigned acks; /* that the cloud ever sent, as far as we know: raw bytes count as many */
    unsigned delivered;
    uint64_t commands[8]; /* tags that gate has not taken yet */
    size_t command_count;
} w;

static void listen_once(void)
{
    struct sockaddr_in *in = (struct sockaddr_in *)(void *)&address.storage;
    socklen_t len = sizeof(*in);
    in->sin_family = AF_INET;
    in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    address.len = len;
    listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0);
    require(listener >= 0 && bind(listener, (struct sockaddr *)in, len) == 0 &&
            listen(listener, 16) == 0 && getsockname(listener, (struct sockaddr *)in, &len) == 0);
    sp_log_init("fuzz", SP_LOG_ERROR);
}

static void hang_up(void)
{
    const struct linger now = {1, 0};
    if (w.cloud >= 0) {
        (void)setsockopt(w.cloud, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
        (void)close(w.cloud);
        w.cloud = -1;
    }
}

/* Everything that the link has said are packets of a client. */
static void look_at_said(void)
{
    struct any_packet packet;
    size_t at = 0;
    while (at < said.len) {
        enum sp_err err = any_decode(said.version_5 ? SP_MQTT_5 : SP_MQTT_311,
                                     sp_view(said.sent + at, said.len - at), &packet);
        require(err == SP_OK);
        at += packet.size;
    }
    said.len = 0;
}

/* What the journal thread does with what came back. */
static void collect(void)
{
    struct sp_row_list ended = {0};
    struct sp_command *list = NULL;
    sp_handoff_take_ended(w.env.handoff, &ended, &list);
    for (const struct sp_row *row = ended.head; row != NULL; row = row->next) {
        if (row->seq != 0) {
            require(row->seq <= w.given && !w.ended[row->seq]);
            w.ended[row->seq] = true;
            w.delivered += row->end == SP_ROW_DELIVERED;
        }
    }
    require(w.delivered <= w.acks);
    sp_handoff_released(w.env.handoff, &ended);
    sp_row_list_clear(&ended);
    while (list != NULL) {
        struct sp_command *next = list->next;
        if (list->qos > 0 && w.command_count < sizeof(w.commands) / sizeof(w.commands[0])) {
            w.commands[w.command_count++] = list->tag;
        }
        free(list);
        list = next;
    }
}

static void turn(void)
{
    uint64_t tag;
    uint8_t reason;
    while (sp_handoff_next_taken(w.env.handoff, &tag, &reason)) {
        sp_uplink_command_taken(w.link, tag, reason, w.now);
    }
    sp_uplink_turn(w.link, w.now);
    if (w.link->state == SP_UPLINK_CONNECT) {
        hang_up();
        w.cloud = accept4(listener, NULL, NULL, SOCK_NONBLOCK);
        sp_uplink_ready(w.link, EPOLLOUT, w.now);
    }
    look_at_said();
    collect();
}

static void speak(struct sp_view bytes)
{
    if (w.cloud >= 0 && w.link->fd >= 0 && bytes.len > 0) {
        (void)!send(w.cloud, bytes.ptr, bytes.len, MSG_NOSIGNAL);
        sp_uplink_ready(w.link, EPOLLIN, w.now);
        look_at_said();
        collect();
    }
}

static void speak_packet(const struct sp_writer *packet)
{
    if (packet->err == SP_OK) {
        speak(sp_writer_view(packet));
    }
}

/* ---- moves ---- */

static struct sp_view input;

static uint8_t next(void)
{
    uint8_t byte = input.len > 0 ? input.ptr[0] : 0;
    input = sp_view_from(input, 1);
    return byte;
}

static enum sp_mqtt_version version(void)
{
    return said.version_5 ? SP_MQTT_5 : SP_MQTT_311;
}

static void say_connack(void)
{
    uint8_t buf[128];
    struct sp_writer out;
    uint8_t how = next();
    struct sp_mqtt_connack packet = {.reason = (how & 7) == 7 ? 0x88 : 0};
    if ((how & 8) != 0) {
        packet.props.present =
            SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM) | SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_PACKET_SIZE) |
            SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS_MAXIMUM) | SP_MQTT_HAS(SP_MQTT_P_SERVER_KEEP_ALIVE);
        packet.props.receive_maximum = (uint16_t)(next() + 1U);
        packet.props.max_packet_size = next() + 1U;
        packet.props.topic_alias_maximum = next();
        packet.props.server_keep_alive = next();
    }
    if ((how & 16) != 0) {
        packet.props.present |=
            SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_QOS) | SP_MQTT_HAS(SP_MQTT_P_RETAIN_AVAILABLE);
        packet.props.maximum_qos = how >> 7;
    }
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_connack(&out, version(), &packet);
    speak_packet(&out);
}

static void say_ack(void)
{
    static const uint8_t reasons[] = {0, 0, 0x10, 0x80, 0x87, 0x97, 0x99, 0x83};
    uint8_t buf[64];
    struct sp_writer out;
    uint8_t how = next();
    const struct sp_mqtt_ack packet = {.packet_id = (uint16_t)(next() % 16U + 1U),
                                       .reason = said.version_5 ? reasons[how % 8U] : 0};
    w.acks++;
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_ack(&out, version(), (how & 0xC0) == 0xC0 ? SP_MQTT_PUBREC : SP_MQTT_PUBACK,
                       &packet);
    speak_packet(&out);
}

static void say_suback(void)
{
    uint8_t buf[64];
    struct sp_writer out;
    uint8_t how = next();
    const uint8_t codes[2] = {how & 1, 0x80};
    const struct sp_mqtt_suback packet = {.packet_id = (uint16_t)(how % 8U + 1U),
                                          .codes = sp_view(codes, (how & 0x80) != 0 ? 2 : 1)};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_suback(&out, version(), (how & 0x40) != 0 ? SP_MQTT_UNSUBACK : SP_MQTT_SUBACK,
                          &packet);
    speak_packet(&out);
}

static void say_command(void)
{
    uint8_t buf[256];
    struct sp_writer out;
    uint8_t how = next();
    const struct sp_mqtt_publish packet = {.qos = how % 3U,
                                           .packet_id = how % 3U == 0 ? 0 : how,
                                           .retain = (how & 0x80) != 0,
                                           .topic = SP_VIEW_LIT("down/x"),
                                           .payload = SP_VIEW_LIT("on")};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_publish(&out, version(), &packet);
    speak_packet(&out);
}

static void say_goodbye(void)
{
    uint8_t buf[64];
    struct sp_writer out;
    const struct sp_mqtt_reasoned packet = {.reason = next()};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_reasoned(&out, version(), SP_MQTT_DISCONNECT, &packet);
    speak_packet(&out);
}

static void give_row(void)
{
    static const uint8_t record[] = {0x81, 0xA3, 0x21, 0x62, 'd', '/', 0x00, 0x61, 't', 0x02, 0x05};
    static const uint8_t filling[255 * 8];
    uint8_t how = next();
    struct sp_view payload =
        (how & 0x40) != 0 ? sp_view(filling, (size_t)next() * 8U) : sp_view(record, sizeof(record));
    struct sp_row_list one = {0};
    if (w.given == ROWS_MAX) {
        return;
    }
    struct sp_row *row =
        sp_row_create((how & 1) != 0 ? SP_VIEW_LIT("d") : SP_VIEW_LIT("e"),
                      SP_VIEW_LIT("up/d/climate"), SP_VIEW_LIT("dt/d/climate"), payload);
    require(row != NULL);
    row->qos = (how & 2) != 0 ? 0 : 1;
    row->seq = row->qos == 0 ? 0 : ++w.given;
    row->format = (how >> 2) % 3U;
    row->time_ms = 1700000000000;
    row->expiry_s = (how & 0x80) != 0 ? 1 : 0;
    sp_row_list_push(&one, row);
    sp_handoff_give(w.env.handoff, 0, &one);
    turn();
}

static void move(void)
{
    uint8_t what = next();
    switch (what % 12U) {
    case 0:
        say_connack();
        break;
    case 1:
    case 2:
        say_ack();
        break;
    case 3:
        say_suback();
        break;
    case 4:
        say_command();
        break;
    case 5:
        say_goodbye();
        break;
    case 6: {
        size_t len = next();
        struct sp_view bytes = sp_view_first(input, len);
        input = sp_view_from(input, len);
        w.acks += (unsigned)(bytes.len / 4U);
        speak(bytes);
        break;
    }
    case 7:
    case 8:
        give_row();
        break;
    case 9:
        w.now += (uint64_t)next() * 500U;
        turn();
        break;
    case 10:
        hang_up();
        sp_uplink_ready(w.link, EPOLLIN | EPOLLHUP, w.now);
        turn();
        break;
    default:
        if (w.command_count > 0) {
            sp_handoff_command_taken(w.env.handoff, w.commands[--w.command_count],
                                     SP_MQTT_RC_SUCCESS);
        }
        if ((what & 0x80) != 0) {
            const struct sp_cloud_limits old = config.cloud.limits;
            config.cloud.limits.publishes_per_second = what & 0x40 ? 1 : 0;
            config.command_count = what & 0x20 ? 2 : 1;
            sp_uplink_configure(w.link, &old, w.now);
        }
        turn();
        break;
    }
}

/* Every row is somewhere: ended, or in one of the lists of the link. */
static void count_rows(void)
{
    size_t there = w.link->queue.count + w.link->flying.count;
    for (uint64_t seq = 1; seq <= w.given; seq++) {
        there += w.ended[seq];
    }
    require(there == w.given);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (listener < 0) {
        listen_once();
    }
    if (size == 0 || size > 2000) {
        return 0;
    }
    memset(&w, 0, sizeof(w));
    w.cloud = -1;
    w.now = 1000000;
    input = sp_view(data, size);
    said.len = 0;
    said.version_5 = (next() & 1) == 0;
    config.command_count = 1;
    config.cloud.limits.publishes_per_second = 0;
    config.cloud.version = said.version_5 ? SP_CLOUD_MQTT_5 : SP_CLOUD_MQTT_311;
    w.env = (struct sp_uplink_env){
        .config = &config,
        .epoll = epoll_create1(EPOLL_CLOEXEC),
        .office = {.gateway = id,
                   .epoch = "00000000",
                   .version = version(),
                   .limits = &config.cloud.limits},
    };
    require(sp_handoff_create(1, &w.env.handoff) == SP_OK &&
            sp_uplink_create(&w.env, 0, &w.link) == SP_OK);
    turn();
    while (input.len > 0) {
        move();
    }
    turn();
    count_rows();
    sp_uplink_stop(w.link);
    sp_uplink_farewell(w.link, w.now);
    look_at_said();
    sp_uplink_destroy(w.link);
    hang_up();
    sp_letter_room_deinit(&w.env.room);
    free(w.env.scratch);
    sp_handoff_destroy(w.env.handoff);
    (void)close(w.env.epoll);
    return 0;
}
