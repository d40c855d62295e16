/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * keys and store in wrong hands against a loop of gate: frames of every type, with tags of connections that are there (one that
 * has asked for its key, one that has said nothing) and that are not, bodies that are nearly right, and any bytes. The loop goes on;
 * a channel that says what cannot be is dropped.
 */
#include "gateway/gate/worker.h"

#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/log/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char id[] = "gw";
static char everything[] = "#";
static char rest[] = "cmd/{rest}";
static char down[] = "down/#";
static char name_sensor[] = "sensor";
static char *all[] = {everything, NULL};
static struct sp_role_config role = {.name = name_sensor, .publish = all, .subscribe = all};
static struct sp_command_config command = {.cloud = down, .to = rest};
static struct sp_route_config route = {.from = everything, .cloud = id, .qos = 1};

/* On the heap and counted, as the loop takes a reference: made by the loader once. */
static struct sp_config *make_config(void)
{
    struct sp_config *config = calloc(1, sizeof(*config));
    if (config == NULL) {
        abort();
    }
    *config = (struct sp_config){
        .id = id,
        .threads = 1,
        .roles = &role,
        .role_count = 1,
        .attestation = {.reattest_interval_s = 60, .answer_timeout_ms = 1000},
        .cloud = {.enabled = true},
        .routes = &route,
        .route_count = 1,
        .commands = &command,
        .command_count = 1,
        .limits = {.packet = 2048,
                   .handshakes = 16,
                   .handshakes_per_address = 64,
                   .handshakes_per_identity = 8,
                   .waiting = 1000,
                   .waiting_per_address = 1000,
                   .connections_per_address = 1000,
                   .connects_per_second = 100000,
                   .connects_burst = 100000,
                   .crowded_timeout_ms = 1000,
                   .descriptor_reserve = 16,
                   .stall_timeout_ms = 10000,
                   .turn_messages = 256,
                   .connections = 16,
                   .preauth_timeout_ms = 10000,
                   .tls_timeout_ms = 10000,
                   .connect_timeout_ms = 10000,
                   .receive_maximum = 4,
                   .in_flight = 4,
                   .session_queue_bytes = 1000,
                   .session_queues_bytes = 10000000,
                   .write_buffer = 8192,
                   .write_buffers = 10000000,
                   .keep_alive_min_s = 1,
                   .keep_alive_max_s = 100,
                   .topic_levels = 6,
                   .topic_bytes = 64,
                   .subscriptions = 4,
                   .attempts = 3},
    };
    return config;
}

static struct sp_config *config;
static struct sp_tls_server *server;

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void set_up(void)
{
    char why[128];
    const struct sp_listener_config listener = {.suites = SP_SUITES_PROFILE_SMALL};
    sp_log_init("fuzz", SP_LOG_ERROR);
    config = sp_config_hold(make_config()); /* one reference that is never given back */
    require(sp_tls_server_create(&listener, why, sizeof(why), &server) == SP_OK);
}

/* ---- what the others write ---- */

static uint8_t buf[1U << 16];
static size_t used;
static struct sp_view input;
static uint64_t tags[4]; /* of connections that asked; 0: none */

static uint8_t next(void)
{
    uint8_t byte = input.len > 0 ? input.ptr[0] : 0;
    input = sp_view_from(input, 1);
    return byte;
}

static struct sp_view some_bytes(size_t len)
{
    struct sp_view part = sp_view_first(input, len);
    input = sp_view_from(input, len);
    return part;
}

static void put(struct sp_view bytes)
{
    if (used + bytes.len <= sizeof(buf)) {
        sp_copy(buf + used, bytes.ptr, bytes.len);
        used += bytes.len;
    }
}

static void put_frame(uint16_t type, uint64_t tag, struct sp_view head, struct sp_view body,
                      size_t off)
{
    const struct sp_frame frame = {
        .length = (uint32_t)(head.len + body.len + off), .type = type, .tag = tag};
    put(sp_view(&frame, sizeof(frame)));
    put(head);
    put(body);
}

static void put_psk(uint64_t tag, uint8_t how, size_t off)
{
    struct sp_msg_psk_answer answer = {.known = how & 1, .psk_len = 32, .nonce_ok = 1};
    memcpy(answer.row.role, name_sensor, sizeof(name_sensor));
    if ((how & 2) != 0) {
        memset(&answer, next(), sizeof(answer));
    }
    if ((how & 4) != 0) {
        ((uint8_t *)&answer)[(size_t)next() % sizeof(answer)] = next();
    }
    put_frame(SP_MSG_PSK_ANSWER, tag, sp_view(&answer, sizeof(answer)), sp_view(NULL, 0), off);
}

static void put_groups(uint8_t how, size_t off)
{
    struct sp_msg_epoch epochs[3];
    memset(epochs, (how & 8) != 0 ? next() : 0, sizeof(epochs));
    for (size_t i = 0; i < 3 && (how & 8) == 0; i++) {
        memcpy(epochs[i].group, "g", 2);
        epochs[i].epoch = next();
        epochs[i].algorithm = (how & 16) != 0 ? 10 : next();
    }
    put_frame(SP_MSG_GROUPS, 0, sp_view(epochs, sizeof(epochs[0]) * (how % 4U)), sp_view(NULL, 0),
              off);
}

static void move_keys(void)
{
    static const struct sp_view nothing = {NULL, 0};
    uint8_t what = next();
    uint8_t how = next();
    uint64_t tag = tags[what >> 6];
    size_t off = (how & 0xF0) == 0xF0 ? next() : 0;
    struct sp_msg_verdict verdict = {.check = how % 16U, .unavailable = how >> 7};
    struct sp_msg_nonce_answer nonce = {.ok = how & 1};
    switch (what % 8U) {
    case 0:
        put_psk(tag, how, off);
        break;
    case 1:
        put_frame(SP_MSG_NONCE_ANSWER, tag, sp_view(&nonce, sizeof(nonce)), nothing, off);
        break;
    case 2:
        put_frame(SP_MSG_VERDICT, tag, sp_view(&verdict, sizeof(verdict)), nothing, off);
        break;
    case 3:
        put_frame(SP_MSG_REVOKED, 0, nothing, (how & 1) != 0 ? SP_VIEW_LIT("a") : some_bytes(how),
                  off);
        break;
    case 4:
        put_frame(SP_MSG_POLICY_CHANGED, 0, nothing, nothing, off);
        break;
    case 5:
        put_frame(SP_MSG_GRANT, tag, nothing, some_bytes(how), off);
        break;
    case 6:
        put_groups(how, off);
        break;
    default:
        put(some_bytes(how));
        break;
    }
}

static void put_command(uint8_t how, size_t off)
{
    struct sp_view topic = (how & 1) != 0 ? SP_VIEW_LIT("down/a") : some_bytes(how >> 4);
    struct sp_view payload = some_bytes(how >> 5);
    const struct sp_msg_command head = {
        .topic_len = (uint16_t)(topic.len + ((how & 2) != 0 ? 7U : 0)),
        .payload_len = (uint32_t)payload.len,
        .qos = (how >> 2) % 4U,
        .retain = how >> 7,
    };
    put_frame(SP_MSG_COMMAND, how, sp_view(&head, sizeof(head)), topic, off + payload.len);
    put(payload);
}

static void put_marks(uint8_t how, size_t off)
{
    struct sp_msg_mark marks[3];
    memset(marks, (how & 8) != 0 ? next() : 0, sizeof(marks));
    for (size_t i = 0; i < 3 && (how & 8) == 0; i++) {
        marks[i] =
            (struct sp_msg_mark){.counter = next(), .epoch = 1, .device_len = 1, .group_len = 1};
        marks[i].device[0] = 'a';
        marks[i].group[0] = 'g';
    }
    put_frame(SP_MSG_MARKS, how >> 7, sp_view(marks, sizeof(marks[0]) * (how % 4U)),
              sp_view(NULL, 0), off);
}

static void move_store(void)
{
    static const struct sp_view nothing = {NULL, 0};
    uint8_t what = next();
    uint8_t how = next();
    size_t off = (how & 0xF0) == 0xF0 ? next() : 0;
    const struct sp_msg_durable durable = {.up_to = how & 3, .err = how >> 4};
    const struct sp_msg_pressure pressure = {.level = how};
    switch (what % 5U) {
    case 0:
        put_frame(SP_MSG_DURABLE, 0, sp_view(&durable, sizeof(durable)), nothing, off);
        break;
    case 1:
        put_frame(SP_MSG_PRESSURE, 0, sp_view(&pressure, sizeof(pressure)), nothing, off);
        break;
    case 2:
        put_command(how, off);
        break;
    case 3:
        put_marks(how, off);
        break;
    default:
        put(some_bytes(how));
        break;
    }
}

/* ---- the loop, and the far ends of all it has ---- */

static struct {
    struct sp_gate gate;
    struct sp_worker worker;
    int keys;
    int store;
    int devices[2];
} w;

static void dial(int *device, struct sp_view hello)
{
    struct sp_peer peer;
    int pair[2];
    memset(&peer, 0, sizeof(peer));
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    *device = pair[1];
    require(send(pair[1], hello.ptr, hello.len, MSG_NOSIGNAL) == (ssize_t)hello.len);
    sp_conn_open(&w.worker, server, pair[0], &peer);
}

/* Something to happen, so that no turn waits. */
static bool turn(int fd)
{
    if (send(fd, buf, used, MSG_NOSIGNAL) < 0) {
        return false; /* the loop has dropped the channel */
    }
    used = 0;
    require(sp_worker_turn(&w.worker));
    return true;
}

/* The tags of those who have asked keys for something. */
static void learn_tags(void)
{
    struct sp_frame frame;
    uint8_t body[256];
    size_t count = 0;
    while (count < 4 &&
           recv(w.keys, &frame, sizeof(frame), MSG_DONTWAIT) == (ssize_t)sizeof(frame)) {
        require(frame.length <= sizeof(body));
        (void)!recv(w.keys, body, frame.length, MSG_DONTWAIT);
        tags[count++] = frame.tag;
    }
}

static void begin(void)
{
    static const uint8_t hello[] =
        "\x16\x03\x03\x00\x33\x01\x00\x00\x2F\x03\x03"
        "................................\x00\x00\x02\xC0\xA8\x01\x00\x00\x04\x00\x17\x00\x00";
    static const uint8_t exchange[] = "\x16\x03\x03\x00\x07\x10\x00\x00\x03\x00\x01"
                                      "a";
    int keys[2];
    int store[2];
    memset(&w, 0, sizeof(w));
    memset(tags, 0, sizeof(tags));
    require(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, keys) == 0 &&
            socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, store) == 0);
    w.keys = keys[1];
    w.store = store[1];
    const struct sp_child child = {.config = config, .keys = &keys[0], .store = &store[0]};
    w.gate = (struct sp_gate){.config = config, .workers = &w.worker, .count = 1};
    require(sp_subs_create(1, &w.gate.subs) == SP_OK);
    require(sp_worker_init(&w.worker, &w.gate, 0, &child) == SP_OK);
    dial(&w.devices[0], sp_view(hello, sizeof(hello) - 1));
    dial(&w.devices[1], sp_view(hello, 20));
    require(sp_worker_turn(&w.worker));
    require(send(w.devices[0], exchange, sizeof(exchange) - 1, MSG_NOSIGNAL) > 0);
    require(sp_worker_turn(&w.worker));
    learn_tags();
    require(tags[0] != 0);
    tags[1] = tags[0] + 1;
}

static void end(void)
{
    (void)close(w.keys);
    (void)close(w.store);
    (void)close(w.devices[0]);
    (void)close(w.devices[1]);
    sp_worker_deinit(&w.worker);
    sp_subs_destroy(w.gate.subs);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (config == NULL) {
        set_up();
    }
    if (size > 1000) {
        return 0;
    }
    input = sp_view(data, size);
    used = 0;
    begin();
    bool going = true;
    while (going && input.len > 0) {
        bool from_keys = (next() & 1) != 0;
        for (unsigned i = 0; i < 4 && input.len > 0; i++) {
            if (from_keys) {
                move_keys();
            } else {
                move_store();
            }
        }
        going = used == 0 || turn(from_keys ? w.keys : w.store);
    }
    end();
    return 0;
}
