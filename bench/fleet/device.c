/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "bench/fleet/device.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define PACKET_MAX 65536U
#define EVENTS     256

/* A new port range for every so many connections, or TIME-WAIT would use the ports up. */
#define CONNECTIONS_PER_SOURCE 4000U
#define SOURCES                250U

static uint64_t clock_ns(clockid_t id)
{
    struct timespec now;
    clock_gettime(id, &now);
    return (uint64_t)now.tv_sec * 1000000000U + (uint64_t)now.tv_nsec;
}

uint64_t sp_fleet_clock(void)
{
    return clock_ns(CLOCK_MONOTONIC);
}

double sp_fleet_time(void)
{
    return (double)clock_ns(CLOCK_REALTIME) / 1e9;
}

void sp_fleet_complain(struct sp_fleet *fleet, const char *text)
{
    size_t i = 0;
    while (i + 1 < SP_FLEET_COMPLAINTS && fleet->complaints[i].count != 0 &&
           strcmp(fleet->complaints[i].text, text) != 0) {
        i++;
    }
    if (fleet->complaints[i].count == 0) {
        snprintf(fleet->complaints[i].text, sizeof(fleet->complaints[i].text), "%s", text);
    }
    fleet->complaints[i].count++;
}

static enum sp_err address_parse(const char *text, struct sockaddr_in *out)
{
    char host[INET_ADDRSTRLEN];
    const char *colon = strrchr(text, ':');
    size_t len = colon == NULL ? sizeof(host) : (size_t)(colon - text);
    long port = colon == NULL ? 0 : strtol(colon + 1, NULL, 10);
    if (len >= sizeof(host) || port < 1 || port > 65535) {
        return SP_ERR_ARGUMENT;
    }
    memcpy(host, text, len);
    host[len] = '\0';
    *out = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    return inet_pton(AF_INET, host, &out->sin_addr) == 1 ? SP_OK : SP_ERR_ARGUMENT;
}

enum sp_err sp_fleet_open(struct sp_fleet *fleet)
{
    fleet->epoll = -1;
    SP_TRY(address_parse(fleet->options->gateway, &fleet->gateway));
    fleet->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (fleet->epoll < 0) {
        return SP_ERR_IO;
    }
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    if (fleet->options->paced && epoll_ctl(fleet->epoll, EPOLL_CTL_ADD, 0, &event) != 0) {
        return SP_ERR_IO;
    }
    return SP_OK;
}

void sp_fleet_close(struct sp_fleet *fleet)
{
    if (fleet->epoll >= 0) {
        close(fleet->epoll);
    }
}

static void rest_set(struct sp_device_rest *rest, struct sp_view bytes)
{
    uint8_t *kept = NULL;
    if (bytes.len != 0) {
        kept = malloc(bytes.len);
        if (kept == NULL) {
            abort(); /* a load generator without memory has nothing left to measure */
        }
        memcpy(kept, bytes.ptr, bytes.len);
    }
    free(rest->bytes); /* `bytes` may have been a part of it */
    *rest = (struct sp_device_rest){kept, bytes.len};
}

void sp_device_deinit(struct sp_device *device)
{
    struct sp_fleet *fleet = device->fleet;
    if (fleet->sender == device) {
        fleet->sender = NULL;
        fleet->out_used = 0;
    }
    sp_fleet_tls_destroy(device->tls);
    device->tls = NULL;
    if (device->phase != SP_DEVICE_AWAY) {
        close(device->fd);
    }
    device->phase = SP_DEVICE_AWAY;
    rest_set(&device->unsent, sp_view(NULL, 0));
    rest_set(&device->partial, sp_view(NULL, 0));
}

static void lose(struct sp_device *device, const char *why)
{
    bool asked = device->phase == SP_DEVICE_CLOSING;
    if (!asked) {
        sp_fleet_complain(device->fleet, why);
    }
    sp_device_deinit(device);
    device->fleet->hooks->closed(device, asked);
}

/* Write as much of `bytes` as the socket takes; the number of bytes taken, or -1. */
static ssize_t socket_send(struct sp_device *device, struct sp_view bytes)
{
    size_t sent = 0;
    while (sent < bytes.len) {
        ssize_t got = send(device->fd, bytes.ptr + sent, bytes.len - sent, MSG_NOSIGNAL);
        if (got < 0 && errno != EINTR) {
            return errno == EAGAIN ? (ssize_t)sent : -1;
        }
        sent += got > 0 ? (size_t)got : 0;
    }
    return (ssize_t)sent;
}

/* An error here is seen again when the socket is read, and told then. */
static void unsent_send(struct sp_device *device)
{
    struct sp_view waiting = sp_view(device->unsent.bytes, device->unsent.len);
    ssize_t sent = socket_send(device, waiting);
    if (sent > 0) {
        rest_set(&device->unsent, sp_view_from(waiting, (size_t)sent));
    }
}

static void unsent_append(struct sp_device *device, struct sp_view bytes)
{
    uint8_t *more = realloc(device->unsent.bytes, device->unsent.len + bytes.len);
    if (more == NULL) {
        abort();
    }
    memcpy(more + device->unsent.len, bytes.ptr, bytes.len);
    device->unsent = (struct sp_device_rest){more, device->unsent.len + bytes.len};
}

void sp_device_flush(struct sp_device *device)
{
    struct sp_fleet *fleet = device->fleet;
    if (fleet->sender != device || fleet->out_used == 0) {
        return;
    }
    struct sp_view out = sp_view(fleet->out, fleet->out_used);
    ssize_t sent = device->unsent.len == 0 ? socket_send(device, out) : 0;
    if (sent >= 0 && (size_t)sent < out.len) {
        unsent_append(device, sp_view_from(out, (size_t)sent));
    }
    fleet->out_used = 0;
    fleet->sender = NULL;
    device->sent_ns = fleet->now_ns;
}

static void on_ciphertext(void *context, struct sp_view ciphertext)
{
    struct sp_device *device = context;
    struct sp_fleet *fleet = device->fleet;
    if (fleet->out_used + ciphertext.len > sizeof(fleet->out)) {
        sp_device_flush(device);
    }
    fleet->sender = device;
    memcpy(fleet->out + fleet->out_used, ciphertext.ptr, ciphertext.len);
    fleet->out_used += ciphertext.len;
}

static void say(struct sp_device *device, const struct sp_writer *w)
{
    struct sp_view packet = sp_writer_view(w);
    if (packet.len != 0 && sp_fleet_tls_write(device->tls, packet) != SP_OK) {
        sp_fleet_complain(device->fleet, sp_fleet_tls_error(device->tls));
    }
}

static int socket_open(struct sp_fleet *fleet)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) {
        return -1;
    }
    int on = 1;
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
    setsockopt(fd, IPPROTO_IP, IP_BIND_ADDRESS_NO_PORT, &on, sizeof(on));
    struct sockaddr_in source = {.sin_family = AF_INET};
    uint32_t number = fleet->opened++ / CONNECTIONS_PER_SOURCE % SOURCES;
    source.sin_addr.s_addr = htonl(INADDR_LOOPBACK + number);
    bool local = ntohl(fleet->gateway.sin_addr.s_addr) >> 24 == 127;
    if ((local && bind(fd, (struct sockaddr *)&source, sizeof(source)) != 0) ||
        (connect(fd, (struct sockaddr *)&fleet->gateway, sizeof(fleet->gateway)) != 0 &&
         errno != EINPROGRESS)) {
        close(fd);
        return -1;
    }
    return fd;
}

void sp_device_open(struct sp_device *device)
{
    struct sp_fleet *fleet = device->fleet;
    const struct sp_fleet_member *who = device->who;
    struct sp_fleet_tls_key key = {sp_view_str(who->id), sp_view(who->psk, who->psk_len)};
    bool attests = who->attests && !fleet->options->no_attest;
    device->opened_ns = sp_fleet_clock();
    device->in_flight = 0;
    device->talk = (struct sp_talk){
        .identity = key.identity,
        .attester = attests ? &who->attester : NULL,
        .binding = who->binding,
        .keep_alive_s = (uint16_t)fleet->options->keep_alive,
    };
    device->fd = socket_open(fleet);
    if (device->fd < 0) {
        lose(device, strerror(errno));
        return;
    }
    device->phase = SP_DEVICE_CONNECTING;
    struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLET, .data.ptr = device};
    if (sp_fleet_tls_create(&key, on_ciphertext, device, &device->tls) != SP_OK ||
        epoll_ctl(fleet->epoll, EPOLL_CTL_ADD, device->fd, &event) != 0) {
        lose(device, "no TLS session");
    }
}

void sp_device_close(struct sp_device *device)
{
    uint8_t packet[8];
    struct sp_writer w;
    struct sp_mqtt_reasoned bye = {.reason = SP_MQTT_RC_SUCCESS};
    sp_writer_init(&w, packet, sizeof(packet));
    sp_mqtt_encode_reasoned(&w, SP_MQTT_5, SP_MQTT_DISCONNECT, &bye);
    say(device, &w);
    sp_fleet_tls_close(device->tls);
    sp_device_flush(device);
    if (device->unsent.len == 0) {
        shutdown(device->fd, SHUT_WR);
    }
    device->phase = SP_DEVICE_CLOSING;
}

void sp_device_publish(struct sp_device *device, struct sp_view topic, struct sp_view payload,
                       uint8_t qos)
{
    uint8_t packet[16384];
    struct sp_writer w;
    struct sp_mqtt_publish publish = {.qos = qos, .topic = topic, .payload = payload};
    if (qos > 0) {
        device->packet_id = (uint16_t)(device->packet_id == UINT16_MAX ? 1 : device->packet_id + 1);
        device->published_ns[device->packet_id % SP_FLEET_IN_FLIGHT] = sp_fleet_clock();
        device->in_flight++;
        publish.packet_id = device->packet_id;
    }
    sp_writer_init(&w, packet, sizeof(packet));
    sp_mqtt_encode_publish(&w, SP_MQTT_5, &publish);
    say(device, &w);
}

void sp_device_keep_alive(struct sp_device *device)
{
    uint64_t limit_ns = (uint64_t)device->talk.keep_alive_s * 750000000U;
    if (device->phase != SP_DEVICE_READY || limit_ns == 0 ||
        device->fleet->now_ns < device->sent_ns + limit_ns) {
        return;
    }
    uint8_t packet[8];
    struct sp_writer w;
    sp_writer_init(&w, packet, sizeof(packet));
    sp_mqtt_encode_ping(&w, SP_MQTT_PINGREQ);
    say(device, &w);
    sp_device_flush(device);
}

size_t sp_device_fill(const char *template_text, const struct sp_fleet_member *who,
                      const struct sp_fleet_member *peer, char *out, size_t cap)
{
    struct sp_writer w;
    sp_writer_init(&w, out, cap);
    for (const char *at = template_text; *at != '\0';) {
        if (strncmp(at, "{id}", 4) == 0) {
            sp_write_str(&w, who->id);
            at += 4;
        } else if (peer != NULL && strncmp(at, "{peer}", 6) == 0) {
            sp_write_str(&w, peer->id);
            at += 6;
        } else {
            sp_write_u8(&w, (uint8_t)*at++);
        }
    }
    return sp_writer_view(&w).len;
}

static void subscribe(struct sp_device *device)
{
    char text[256];
    uint8_t packet[512];
    struct sp_writer w;
    size_t len = sp_device_fill(device->filter, device->who, device->peer, text, sizeof(text));
    struct sp_mqtt_subscribe subscribe = {.packet_id = 1};
    struct sp_mqtt_filter filter = {.filter = sp_view(text, len),
                                    .qos = (uint8_t)device->fleet->options->qos};
    sp_writer_init(&w, packet, sizeof(packet));
    sp_mqtt_encode_subscribe(&w, SP_MQTT_5, SP_MQTT_SUBSCRIBE, &subscribe, &filter, 1);
    say(device, &w);
}

static void become_ready(struct sp_device *device)
{
    device->phase = SP_DEVICE_READY;
    device->fleet->hooks->ready(device);
}

static void on_acked(struct sp_device *device, const struct sp_talk_event *event)
{
    if (device->published_ns == NULL || device->in_flight == 0) {
        return;
    }
    device->in_flight--;
    device->acked_id = event->packet_id;
    uint64_t since = device->published_ns[event->packet_id % SP_FLEET_IN_FLIGHT];
    device->fleet->hooks->acked(device, event->reason, device->fleet->now_ns - since);
}

/* @return false when the device is lost. */
static bool on_event(struct sp_device *device, const struct sp_talk_event *event)
{
    switch (event->kind) {
    case SP_TALK_NOTHING:
        break;
    case SP_TALK_ADMITTED:
        if (device->filter != NULL) {
            subscribe(device);
        } else {
            become_ready(device);
        }
        break;
    case SP_TALK_SUBSCRIBED:
        become_ready(device);
        break;
    case SP_TALK_MESSAGE:
        device->fleet->hooks->message(device, &event->message);
        break;
    case SP_TALK_ACKED:
        on_acked(device, event);
        break;
    case SP_TALK_REFUSED:
        lose(device, event->text);
        return false;
    }
    return true;
}

/* Deal with every whole packet in `plain` and keep the rest. @return false when the device is lost. */
static bool on_plain(struct sp_device *device, struct sp_view plain)
{
    struct sp_mqtt_header header;
    enum sp_err err = sp_mqtt_peek(plain, PACKET_MAX, &header);
    while (err == SP_OK && plain.len >= header.header_len + header.body_len &&
           device->phase != SP_DEVICE_CLOSING) {
        uint8_t answer[SP_TALK_REPLY_MAX];
        struct sp_writer w;
        struct sp_talk_event event;
        struct sp_view body =
            sp_view_first(sp_view_from(plain, header.header_len), header.body_len);
        sp_writer_init(&w, answer, sizeof(answer));
        sp_talk_packet(&device->talk, &header, body, &w, &event);
        say(device, &w);
        if (!on_event(device, &event)) {
            return false;
        }
        plain = sp_view_from(plain, header.header_len + header.body_len);
        err = sp_mqtt_peek(plain, PACKET_MAX, &header);
    }
    if (err != SP_OK && err != SP_ERR_AGAIN) {
        lose(device, "a broken packet from the gateway");
        return false;
    }
    rest_set(&device->partial, plain);
    return true;
}

/* Decrypt what is there, behind the packet that was begun before. @return false when the device is lost. */
static bool read_plain(struct sp_device *device)
{
    struct sp_fleet *fleet = device->fleet;
    size_t used = device->partial.len;
    sp_copy(fleet->plain, device->partial.bytes, used);
    size_t len = 0;
    enum sp_err err = SP_OK;
    while (used < sizeof(fleet->plain) &&
           (err = sp_fleet_tls_read(device->tls, fleet->plain + used, sizeof(fleet->plain) - used,
                                    &len)) == SP_OK) {
        used += len;
    }
    if (used > device->partial.len && !on_plain(device, sp_view(fleet->plain, used))) {
        return false;
    }
    if (err == SP_ERR_CLOSED) {
        lose(device, sp_fleet_tls_error(device->tls));
    }
    return err != SP_ERR_CLOSED;
}

static bool handshake(struct sp_device *device)
{
    enum sp_err err = sp_fleet_tls_handshake(device->tls);
    if (err == SP_ERR_AGAIN) {
        return true;
    }
    if (err != SP_OK || (device->talk.attester != NULL &&
                         sp_fleet_tls_exporter(device->tls, device->talk.exporter) != SP_OK)) {
        char why[128];
        snprintf(why, sizeof(why), "TLS: %s", sp_fleet_tls_error(device->tls));
        lose(device, why);
        return false;
    }
    uint8_t packet[SP_TALK_REPLY_MAX];
    struct sp_writer w;
    sp_writer_init(&w, packet, sizeof(packet));
    sp_talk_start(&device->talk, &w);
    say(device, &w);
    device->phase = SP_DEVICE_TALKING;
    return true;
}

static bool on_input(struct sp_device *device, struct sp_view ciphertext)
{
    if (device->phase == SP_DEVICE_CLOSING) {
        return true;
    }
    sp_fleet_tls_input(device->tls, ciphertext);
    if (device->phase == SP_DEVICE_HANDSHAKE && !handshake(device)) {
        return false;
    }
    bool kept = device->phase == SP_DEVICE_HANDSHAKE || read_plain(device);
    if (kept) {
        sp_device_flush(device);
    }
    return kept;
}

/* Edge-triggered: read until the socket has nothing left. */
static void on_readable(struct sp_device *device)
{
    struct sp_fleet *fleet = device->fleet;
    for (;;) {
        ssize_t got = recv(device->fd, fleet->in, sizeof(fleet->in), 0);
        if (got < 0 && errno == EINTR) {
            continue;
        }
        if (got < 0 && errno == EAGAIN) {
            return;
        }
        if (got <= 0) {
            lose(device, got == 0 ? "closed by the gateway" : strerror(errno));
            return;
        }
        if (!on_input(device, sp_view(fleet->in, (size_t)got)) || device->phase == SP_DEVICE_AWAY) {
            return;
        }
    }
}

static void on_connected(struct sp_device *device)
{
    int error = 0;
    socklen_t len = sizeof(error);
    getsockopt(device->fd, SOL_SOCKET, SO_ERROR, &error, &len);
    if (error != 0) {
        lose(device, strerror(error));
        return;
    }
    device->phase = SP_DEVICE_HANDSHAKE;
    if (handshake(device)) {
        sp_device_flush(device);
    }
}

static void on_ready(struct sp_device *device, uint32_t events)
{
    device->fleet->now_ns = sp_fleet_clock();
    if (device->phase == SP_DEVICE_CONNECTING && (events & (EPOLLOUT | EPOLLERR | EPOLLHUP)) != 0) {
        on_connected(device);
    }
    if (device->phase != SP_DEVICE_AWAY && device->unsent.len != 0 && (events & EPOLLOUT) != 0) {
        unsent_send(device);
        if (device->phase == SP_DEVICE_CLOSING && device->unsent.len == 0) {
            shutdown(device->fd, SHUT_WR);
        }
    }
    if (device->phase > SP_DEVICE_CONNECTING && (events & (EPOLLIN | EPOLLERR | EPOLLHUP)) != 0) {
        on_readable(device);
    }
}

static void on_stdin(struct sp_fleet *fleet)
{
    char line[64];
    ssize_t got = read(0, line, sizeof(line));
    fleet->told = fleet->told || got > 0;
    fleet->stop = fleet->stop || got == 0;
}

void sp_fleet_poll(struct sp_fleet *fleet, uint64_t timeout_ns)
{
    struct epoll_event events[EVENTS];
    struct timespec timeout = {.tv_sec = (time_t)(timeout_ns / 1000000000U),
                               .tv_nsec = (long)(timeout_ns % 1000000000U)};
    int count = epoll_pwait2(fleet->epoll, events, EVENTS, &timeout, NULL);
    fleet->now_ns = sp_fleet_clock();
    for (int i = 0; i < count; i++) {
        if (events[i].data.ptr == NULL) {
            on_stdin(fleet);
        } else {
            on_ready(events[i].data.ptr, events[i].events);
        }
    }
}
