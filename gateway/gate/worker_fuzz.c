/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * keys and store in wrong hands against a loop of gate: frames of every type, with tags of connections that are there (one that
 * has asked for its key, one that has said nothing) and that are not, bodies that are nearly right, and any bytes. The loop goes on;
 * a channel that says what cannot be is dropped.
 */
#include "gateway/gate/loop_fuzz.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct sp_tls_server *server;

static void set_up(void)
{
    char why[128];
    const struct sp_listener_config listener = {.suites = SP_SUITES_PROFILE_SMALL};
    fuzz_require(sp_tls_server_create(&listener, why, sizeof(why), &server) == SP_OK);
}

/* ---- what the others write ---- */

static uint8_t buf[1U << 16];
static size_t used;
static struct moves input;
static uint64_t tags[4]; /* of connections that asked; 0: none */

static uint8_t next(void)
{
    return moves_byte(&input);
}

static struct sp_view some_bytes(size_t len)
{
    return moves_bytes(&input, len);
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
    memcpy(answer.row.role, "client", sizeof("client"));
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

static int devices[2]; /* far ends */

static void dial(int *device, struct sp_view hello)
{
    struct sp_peer peer;
    int ours;
    memset(&peer, 0, sizeof(peer));
    house_pair(&ours, device, SOCK_NONBLOCK);
    fuzz_require(send(*device, hello.ptr, hello.len, MSG_NOSIGNAL) == (ssize_t)hello.len);
    sp_conn_open(&house.worker, server, ours, &peer);
}

/* Something to happen, so that no turn waits. */
static bool turn(int fd)
{
    if (send(fd, buf, used, MSG_NOSIGNAL) < 0) {
        return false; /* the loop has dropped the channel */
    }
    used = 0;
    fuzz_require(sp_worker_turn(&house.worker));
    return true;
}

/* The tags of those who have asked keys for something. */
static void learn_tags(void)
{
    struct sp_frame frame;
    uint8_t body[256];
    size_t count = 0;
    while (count < 4 &&
           recv(house.keys, &frame, sizeof(frame), MSG_DONTWAIT) == (ssize_t)sizeof(frame)) {
        fuzz_require(frame.length <= sizeof(body));
        (void)!recv(house.keys, body, frame.length, MSG_DONTWAIT);
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
    memset(tags, 0, sizeof(tags));
    house_begin(false);
    dial(&devices[0], sp_view(hello, sizeof(hello) - 1));
    dial(&devices[1], sp_view(hello, 20));
    fuzz_require(sp_worker_turn(&house.worker));
    fuzz_require(send(devices[0], exchange, sizeof(exchange) - 1, MSG_NOSIGNAL) > 0);
    fuzz_require(sp_worker_turn(&house.worker));
    learn_tags();
    fuzz_require(tags[0] != 0);
    tags[1] = tags[0] + 1;
}

static void end(void)
{
    (void)close(devices[0]);
    (void)close(devices[1]);
    house_end();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (server == NULL) {
        set_up();
    }
    if (size > 1000) {
        return 0;
    }
    input = (struct moves){data, size};
    used = 0;
    begin();
    bool going = true;
    while (going && input.left > 0) {
        bool from_keys = (next() & 1) != 0;
        for (unsigned i = 0; i < 4 && input.left > 0; i++) {
            if (from_keys) {
                move_keys();
            } else {
                move_store();
            }
        }
        going = used == 0 || turn(from_keys ? house.keys : house.store);
    }
    end();
    return 0;
}
