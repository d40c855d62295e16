/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A message counts as delivered when this cloud answered it with success, and that is written down before the answer
 * leaves. Answers wait in a queue until they are due, so that they can be late, wrong, doubled or missing.
 */
#include "tests/faults/ledger/cloud.h"

#include "libs/mqtt/mqtt.h"
#include "tests/faults/ledger/entry.h"
#include "tests/faults/ledger/peer.h"
#include "tests/faults/ledger/text.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define LINKS       32U
#define IN_CAP      (512U * 1024U)
#define OUT_CAP     (512U * 1024U)
#define ANSWERS     2048U
#define PACKET_MAX  262144U
#define ID_LISTENER (LINKS + 1U)
#define ID_STDIN    (LINKS + 2U)

struct answer {
    uint64_t due_ms;
    struct sp_entry entry;
    uint16_t packet_id;
};

struct link {
    int fd; /* -1: free */
    uint32_t number;
    uint32_t interest;
    struct sp_peer *peer;
    enum sp_mqtt_version version;
    bool admitted;
    size_t in_used;
    size_t out_used;
    uint8_t in[IN_CAP];
    uint8_t out[OUT_CAP];
    struct answer answers[ANSWERS]; /* ring */
    uint32_t first;
    uint32_t count;
};

/* What the script says. */
static struct {
    bool away;           /* nobody listens */
    bool stall;          /* nothing is read */
    bool mute;           /* PUBLISH is never answered */
    uint8_t refuse;      /* CONNACK code */
    uint8_t nack;        /* code for every nack_every-th PUBLISH */
    uint32_t nack_every; /* 0: none */
    uint32_t poison;     /* numbers divisible by it: hang up; 0: none */
    uint32_t late_ms;
    uint16_t receive_maximum;
    uint32_t twice; /* every so many answers comes twice; 0: none */
    uint32_t stray; /* every so many PUBLISHes an answer for a packet that nobody sent; 0: none */
} rule = {.receive_maximum = 100};

static struct {
    const struct sp_cloud_options *options;
    int epoll;
    int listener;
    uint32_t connections;
    uint64_t got;
    uint64_t answered;
    uint64_t altered;
    uint64_t others;
    bool stop;
    struct sp_ledger log;
    struct link links[LINKS];
} cloud;

static uint64_t now_ms(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000U + (uint64_t)t.tv_nsec / 1000000U;
}

static void watch(int fd, uint32_t id, uint32_t events, int how)
{
    struct epoll_event event = {.events = events, .data = {.u32 = id}};
    (void)epoll_ctl(cloud.epoll, how, fd, &event);
}

/* ---- connections ---- */

static void drop(struct link *l, bool reset)
{
    if (l->fd < 0) {
        return;
    }
    if (reset) {
        const struct linger now = {.l_onoff = 1, .l_linger = 0};
        (void)setsockopt(l->fd, SOL_SOCKET, SO_LINGER, &now, sizeof(now));
    }
    sp_peer_destroy(l->peer);
    (void)close(l->fd);
    l->fd = -1;
}

static void drop_all(void)
{
    for (uint32_t i = 0; i < LINKS; i++) {
        drop(&cloud.links[i], true);
    }
}

static void listen_again(void)
{
    struct sockaddr_in at = {.sin_family = AF_INET,
                             .sin_port = htons((uint16_t)cloud.options->port),
                             .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int on = 1;
    cloud.listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    (void)setsockopt(cloud.listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
    if (bind(cloud.listener, (struct sockaddr *)&at, sizeof(at)) != 0 ||
        listen(cloud.listener, 16) != 0) {
        perror("sallyport-ledger cloud: listen");
        exit(3);
    }
    watch(cloud.listener, ID_LISTENER, EPOLLIN, EPOLL_CTL_ADD);
}

static void take_connection(void)
{
    int on = 1;
    uint32_t i = 0;
    int fd = accept4(cloud.listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) {
        return;
    }
    (void)setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    while (i < LINKS && cloud.links[i].fd >= 0) {
        i++;
    }
    struct link *l = &cloud.links[i < LINKS ? i : 0];
    if (i == LINKS || sp_peer_create(fd, &l->peer) != SP_OK) {
        (void)close(fd);
        return;
    }
    l->fd = fd;
    l->number = ++cloud.connections;
    l->admitted = false;
    l->in_used = l->out_used = 0;
    l->first = l->count = 0;
    l->interest = EPOLLIN;
    watch(fd, i, EPOLLIN, EPOLL_CTL_ADD);
}

/* ---- answers ---- */

static struct sp_writer answer_writer(struct link *l)
{
    struct sp_writer w;
    sp_writer_init(&w, l->out + l->out_used, OUT_CAP - l->out_used);
    return w;
}

static void say(struct link *l, const struct sp_writer *w)
{
    l->out_used += sp_writer_view(w).len;
}

static void say_ack(struct link *l, uint16_t packet_id, uint8_t code)
{
    struct sp_writer w = answer_writer(l);
    const struct sp_mqtt_ack ack = {.packet_id = packet_id, .reason = code};
    sp_mqtt_encode_ack(&w, l->version, SP_MQTT_PUBACK, &ack);
    say(l, &w);
}

static void say_due(struct link *l, uint64_t now)
{
    while (l->count > 0 && l->answers[l->first].due_ms <= now && l->out_used + 64U < OUT_CAP) {
        struct answer *a = &l->answers[l->first];
        if (a->entry.number != 0) {
            sp_ledger_note(&cloud.log, a->entry);
        }
        cloud.answered++;
        say_ack(l, a->packet_id, a->entry.code);
        if (rule.twice != 0 && cloud.answered % rule.twice == 0) {
            say_ack(l, a->packet_id, a->entry.code);
        }
        l->first = (l->first + 1U) % ANSWERS;
        l->count--;
    }
}

static void send_out(struct link *l)
{
    size_t taken = 0;
    enum sp_err err = SP_OK;
    if (l->out_used > 0) {
        sp_ledger_flush(&cloud.log, false); /* written down before it leaves */
        err = sp_peer_write(l->peer, sp_view(l->out, l->out_used), &taken);
    }
    if (err == SP_ERR_CLOSED) {
        drop(l, false);
        return;
    }
    l->out_used -= taken;
    memmove(l->out, l->out + taken, l->out_used);
    uint32_t want =
        (rule.stall ? 0U : (uint32_t)EPOLLIN) | (l->out_used > 0 ? (uint32_t)EPOLLOUT : 0U);
    if (want != l->interest) {
        l->interest = want;
        watch(l->fd, (uint32_t)(l - cloud.links), want, EPOLL_CTL_MOD);
    }
}

/* ---- packets ---- */

static uint64_t sequence_of(const struct sp_mqtt_publish *p)
{
    struct sp_view rest = p->props.user;
    struct sp_view name;
    struct sp_view value;
    while (sp_mqtt_user_next(&rest, &name, &value)) {
        char digits[24] = "";
        if (sp_view_equal(name, SP_VIEW_LIT("sequence")) && value.len < sizeof(digits)) {
            sp_copy(digits, value.ptr, value.len);
            return strtoull(digits, NULL, 10);
        }
    }
    return 0;
}

static void queue_answer(struct link *l, uint16_t packet_id, struct sp_entry entry)
{
    cloud.got++;
    if (rule.stray != 0 && cloud.got % rule.stray == 0) {
        say_ack(l, (uint16_t)(packet_id ^ 0x5555U), 0);
    }
    bool nack = rule.nack_every != 0 && l->version == SP_MQTT_5 && cloud.got % rule.nack_every == 0;
    if (rule.mute || l->count == ANSWERS) {
        return;
    }
    entry.kind = SP_ENTRY_ANSWERED;
    entry.code = nack ? rule.nack : 0;
    l->answers[(l->first + l->count++) % ANSWERS] =
        (struct answer){now_ms() + rule.late_ms, entry, packet_id};
}

/* @return false: hang up. */
static bool on_publish(struct link *l, const struct sp_mqtt_header *header, struct sp_view body)
{
    struct sp_mqtt_publish p;
    struct sp_entry entry = {.kind = SP_ENTRY_GOT, .connection = l->number};
    if (sp_mqtt_decode_publish(l->version, header->flags, body, &p) != SP_OK || p.qos > 1) {
        return false;
    }
    enum sp_err err = sp_text_read(p.payload, cloud.options->seed, &entry.device, &entry.number);
    if (err == SP_ERR_MALFORMED) {
        cloud.others++;
    } else {
        entry.sequence = sequence_of(&p);
        entry.code = err == SP_OK ? 0 : 1;
        cloud.altered += err != SP_OK;
        sp_ledger_note(&cloud.log, entry);
    }
    if (rule.poison != 0 && entry.number != 0 && entry.number % rule.poison == 0) {
        entry.kind = SP_ENTRY_ANSWERED;
        entry.code = SP_ENTRY_HUNG_UP;
        sp_ledger_note(&cloud.log, entry);
        return false;
    }
    if (p.qos > 0) {
        queue_answer(l, p.packet_id, entry);
    }
    return true;
}

static bool on_connect(struct link *l, struct sp_view body)
{
    struct sp_mqtt_connect connect;
    if (sp_mqtt_decode_connect(body, &connect) != SP_OK) {
        return false;
    }
    l->version = connect.version;
    struct sp_writer w = answer_writer(l);
    struct sp_mqtt_connack ack = {.reason = rule.refuse};
    if (rule.receive_maximum != 0) {
        ack.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM);
        ack.props.receive_maximum = rule.receive_maximum;
    }
    if (connect.version == SP_MQTT_311) {
        ack.reason = sp_mqtt_connack_code_311(ack.reason);
    }
    sp_mqtt_encode_connack(&w, l->version, &ack);
    say(l, &w);
    l->admitted = rule.refuse == 0;
    if (l->admitted) {
        sp_ledger_note(&cloud.log,
                       (struct sp_entry){.kind = SP_ENTRY_LINK, .connection = l->number});
    }
    return true;
}

static bool on_subscribe(struct link *l, struct sp_view body)
{
    struct sp_mqtt_subscribe s;
    uint8_t codes[64] = {0};
    if (sp_mqtt_decode_subscribe(l->version, SP_MQTT_SUBSCRIBE, body, &s) != SP_OK ||
        s.filter_count > sizeof(codes)) {
        return false;
    }
    struct sp_writer w = answer_writer(l);
    const struct sp_mqtt_suback ack = {.packet_id = s.packet_id,
                                       .codes = sp_view(codes, s.filter_count)};
    sp_mqtt_encode_suback(&w, l->version, SP_MQTT_SUBACK, &ack);
    say(l, &w);
    return true;
}

static bool on_packet(struct link *l, const struct sp_mqtt_header *header, struct sp_view body)
{
    if (!l->admitted && header->type != SP_MQTT_CONNECT) {
        return false;
    }
    if (header->type == SP_MQTT_CONNECT) {
        return on_connect(l, body);
    }
    if (header->type == SP_MQTT_PUBLISH) {
        return on_publish(l, header, body);
    }
    if (header->type == SP_MQTT_SUBSCRIBE) {
        return on_subscribe(l, body);
    }
    if (header->type == SP_MQTT_PINGREQ) {
        struct sp_writer w = answer_writer(l);
        sp_mqtt_encode_ping(&w, SP_MQTT_PINGRESP);
        say(l, &w);
    }
    return header->type != SP_MQTT_DISCONNECT;
}

/* @return false: hang up. */
static bool take_packets(struct link *l)
{
    struct sp_view in = sp_view(l->in, l->in_used);
    struct sp_mqtt_header header;
    enum sp_err err = sp_mqtt_peek(in, PACKET_MAX, &header);
    while (err == SP_OK && in.len >= header.header_len + header.body_len &&
           l->out_used + 1024U < OUT_CAP) {
        if (!on_packet(l, &header,
                       sp_view_first(sp_view_from(in, header.header_len), header.body_len))) {
            return false;
        }
        in = sp_view_from(in, header.header_len + header.body_len);
        err = sp_mqtt_peek(in, PACKET_MAX, &header);
    }
    memmove(l->in, in.ptr, in.len);
    l->in_used = in.len;
    return err == SP_OK || err == SP_ERR_AGAIN;
}

static void receive(struct link *l)
{
    enum sp_err err = SP_OK;
    for (int turns = 0; turns < 16 && l->in_used < IN_CAP; turns++) {
        size_t len = 0;
        err = sp_peer_read(l->peer, l->in + l->in_used, IN_CAP - l->in_used, &len);
        if (err != SP_OK) {
            break;
        }
        l->in_used += len;
        if (!take_packets(l)) {
            err = SP_ERR_CLOSED;
            break;
        }
    }
    if (err != SP_OK && err != SP_ERR_AGAIN) {
        say_due(l, now_ms());
        send_out(l);
        drop(l, false);
    }
}

/* ---- the script ---- */

static void order_away(uint32_t a, uint32_t b)
{
    (void)b;
    rule.away = a != 0;
    if (rule.away && cloud.listener >= 0) {
        (void)close(cloud.listener);
        cloud.listener = -1;
        drop_all();
    } else if (!rule.away && cloud.listener < 0) {
        listen_again();
    }
}

static void order_reset(uint32_t a, uint32_t b)
{
    (void)a;
    (void)b;
    drop_all();
}

static void order_disconnect(uint32_t a, uint32_t b)
{
    (void)b;
    for (uint32_t i = 0; i < LINKS; i++) {
        struct link *l = &cloud.links[i];
        if (l->fd >= 0 && l->admitted && l->version == SP_MQTT_5) {
            struct sp_writer w = answer_writer(l);
            const struct sp_mqtt_reasoned bye = {.reason = (uint8_t)a};
            sp_mqtt_encode_reasoned(&w, l->version, SP_MQTT_DISCONNECT, &bye);
            say(l, &w);
            send_out(l);
            drop(l, false);
        }
    }
}

static void order_stall(uint32_t a, uint32_t b)
{
    (void)b;
    rule.stall = a != 0; /* epoll is told when the links are looked at next */
}

static void order_nack(uint32_t a, uint32_t b)
{
    rule.nack = (uint8_t)a;
    rule.nack_every = b;
}

static void order_mute(uint32_t a, uint32_t b)
{
    (void)b;
    rule.mute = a != 0;
}

static void order_refuse(uint32_t a, uint32_t b)
{
    (void)b;
    rule.refuse = (uint8_t)a;
}

static void order_poison(uint32_t a, uint32_t b)
{
    (void)b;
    rule.poison = a;
}

static void order_late(uint32_t a, uint32_t b)
{
    (void)b;
    rule.late_ms = a;
}

static void order_window(uint32_t a, uint32_t b)
{
    (void)b;
    rule.receive_maximum = (uint16_t)a;
}

static void order_odd(uint32_t a, uint32_t b)
{
    rule.twice = a;
    rule.stray = b;
}

static void order_count(uint32_t a, uint32_t b)
{
    (void)a;
    (void)b;
    printf("{\"got\":%llu,\"answered\":%llu,\"altered\":%llu,\"others\":%llu,\"connections\":%u}\n",
           (unsigned long long)cloud.got, (unsigned long long)cloud.answered,
           (unsigned long long)cloud.altered, (unsigned long long)cloud.others, cloud.connections);
}

static const struct {
    const char *word;
    void (*obey)(uint32_t a, uint32_t b);
} orders[] = {
    {"away", order_away},             /* 1: no listener, all reset; 0: back */
    {"reset", order_reset},           /* every connection */
    {"disconnect", order_disconnect}, /* CODE */
    {"stall", order_stall},           /* 1: read nothing; 0 */
    {"mute", order_mute},             /* 1: read and never answer; 0 */
    {"nack", order_nack},             /* CODE EVERY: every so many PUBLISHes; EVERY 0: none */
    {"refuse", order_refuse},         /* CODE for CONNECT; 0: none */
    {"poison", order_poison},         /* N: hang up on numbers divisible by N; 0: none */
    {"late", order_late},             /* MS that each answer waits */
    {"window", order_window},         /* Receive Maximum from the next connection on */
    {"odd", order_odd},     /* N M: every Nth answer twice; a stray one at every Mth PUBLISH */
    {"count", order_count}, /* a JSON line */
};

static void obey(char *line)
{
    char word[16];
    unsigned a = 0;
    unsigned b = 0;
    bool known = false;
    int fields = sscanf(line, "%15s %i %i", word, (int *)&a, (int *)&b);
    for (size_t i = 0; fields > 0 && i < sizeof(orders) / sizeof(orders[0]); i++) {
        if (strcmp(word, orders[i].word) == 0) {
            orders[i].obey(a, b);
            known = true;
        }
    }
    printf("%s\n", known ? "ok" : "?");
    (void)fflush(stdout);
}

static void take_orders(void)
{
    char text[1024];
    ssize_t got = read(0, text, sizeof(text) - 1);
    char *rest = NULL;
    if (got <= 0) {
        cloud.stop = true;
        return;
    }
    text[got] = '\0';
    for (char *line = strtok_r(text, "\n", &rest); line != NULL;
         line = strtok_r(NULL, "\n", &rest)) {
        obey(line);
    }
}

/* ---- the loop ---- */

static void turn(void)
{
    struct epoll_event events[LINKS + 2];
    int n = epoll_wait(cloud.epoll, events, LINKS + 2, 5);
    for (int i = 0; i < n; i++) {
        uint32_t id = events[i].data.u32;
        if (id == ID_STDIN) {
            take_orders();
        } else if (id == ID_LISTENER) {
            take_connection();
        } else if (cloud.links[id].fd >= 0 && !rule.stall) {
            receive(&cloud.links[id]);
        }
    }
    uint64_t now = now_ms();
    for (uint32_t i = 0; i < LINKS; i++) {
        struct link *l = &cloud.links[i];
        if (l->fd >= 0) {
            say_due(l, now);
            send_out(l);
        }
    }
    sp_ledger_flush(&cloud.log, false);
}

int sp_cloud_play(const struct sp_cloud_options *options)
{
    (void)signal(SIGPIPE, SIG_IGN);
    cloud.options = options;
    for (uint32_t i = 0; i < LINKS; i++) {
        cloud.links[i].fd = -1;
    }
    cloud.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (sp_peer_setup(options->ca, options->certificate, options->key) != SP_OK ||
        sp_ledger_open(&cloud.log, options->log) != SP_OK) {
        fprintf(stderr, "sallyport-ledger cloud: certificates or log cannot be used\n");
        return 2;
    }
    listen_again();
    watch(0, ID_STDIN, EPOLLIN, EPOLL_CTL_ADD);
    printf("{\"event\":\"ready\"}\n");
    (void)fflush(stdout);
    while (!cloud.stop) {
        turn();
    }
    sp_ledger_flush(&cloud.log, true);
    order_count(0, 0);
    drop_all();
    return 0;
}
