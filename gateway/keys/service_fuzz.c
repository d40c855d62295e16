/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * A gate in wrong hands against keys: frames of every type with lengths, tags and bodies that the input chooses, pieces of frames,
 * and time. keys answers each question once or ends the channel; a token that the fuzzer cannot make is never `ok`.
 */
#include "gateway/keys/service.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "gateway/log/log.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char folder[64];
static struct sp_registry *registry;
static struct sp_config config = {
    .threads = 1,
    .limits = {.connections = 16, .preauth_timeout_ms = 1000, .attempts = 3},
    .attestation = {.answer_timeout_ms = 1000, .lifecycles = SP_ATTEST_LIFECYCLE_SECURED}};

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void remove_all(void)
{
    static const char *const names[] = {"registry.db", "registry.db-wal", "registry.db-shm",
                                        "master.key"};
    char path[128];
    sp_registry_close(registry);
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        (void)snprintf(path, sizeof(path), "%s/%s", folder, names[i]);
        (void)unlink(path);
    }
    (void)rmdir(folder);
}

static void add_device(const char *id, uint8_t number, const char *role)
{
    struct sp_device device = {.iak_algorithm = SP_ATTEST_HMAC256,
                               .row = {.binding = number & 1, .records = SP_RECORDS_SEALED}};
    struct sp_device_secrets secrets = {.psk_len = 20, .iak_len = 32};
    strcpy(device.id, id);
    strcpy(device.row.role, role);
    strcpy(device.group, "g");
    memset(secrets.psk, number, secrets.psk_len);
    memset(secrets.iak, number, secrets.iak_len);
    memset(secrets.kek, number, sizeof(secrets.kek));
    secrets.psk[0] = 'p';
    secrets.iak[0] = 'i';
    require(sp_registry_device_add(registry, &device, &secrets) == SP_OK);
}

static void set_up(void)
{
    char key[96];
    struct sp_fault fault;
    const struct sp_group group = {.name = "g", .algorithm = 10, .grace_s = 600};
    sp_log_init("fuzz", SP_LOG_ERROR);
    (void)snprintf(folder, sizeof(folder), "%s/sp-keys-fuzz-XXXXXX",
                   access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    require(mkdtemp(folder) != NULL);
    (void)atexit(remove_all);
    (void)snprintf(key, sizeof(key), "%s/master.key", folder);
    require(sp_registry_create(folder, key, &fault) == SP_OK);
    require(sp_registry_open(folder, key, SP_REGISTRY_SERVICE, &registry, &fault) == SP_OK);
    require(sp_registry_group_add(registry, &group) == SP_OK);
    add_device("a", 1, "sensor");
    add_device("b", 2, "monitor");
}

/* ---- what the gate writes ---- */

static struct {
    uint8_t buf[1U << 16];
    size_t used;
} out;

static struct sp_view input;

static uint8_t next(void)
{
    uint8_t byte = input.len > 0 ? input.ptr[0] : 0;
    input = sp_view_from(input, 1);
    return byte;
}

static void put(const void *bytes, size_t len)
{
    if (out.used + len <= sizeof(out.buf)) {
        sp_copy(out.buf + out.used, bytes, len);
        out.used += len;
    }
}

static void put_frame(uint16_t type, uint64_t tag, struct sp_view head, struct sp_view rest,
                      int off)
{
    const struct sp_frame frame = {
        .length = (uint32_t)((int)(head.len + rest.len) + off), .type = type, .tag = tag};
    put(&frame, sizeof(frame));
    put(head.ptr, head.len);
    put(rest.ptr, rest.len);
}

static struct sp_view some_bytes(size_t len)
{
    struct sp_view part = sp_view_first(input, len);
    input = sp_view_from(input, len);
    return part;
}

static void put_appraise(uint8_t how, uint64_t tag, int off)
{
    struct sp_msg_appraise ask = {.identity_len = 1, .has_exporter = how & 1};
    uint8_t len = next();
    struct sp_view token = some_bytes((how & 2) != 0 ? (size_t)len * 16U : len);
    ask.identity[0] = (how & 4) != 0 ? 'a' : 'b';
    ask.identity_len = (how & 8) != 0 ? len : 1;
    ask.token_len = (uint32_t)token.len + ((how & 16) != 0 ? len : 0);
    put_frame(SP_MSG_APPRAISE, tag, sp_view(&ask, sizeof(ask)), token, off);
}

static void put_ack(uint8_t how, uint64_t tag, int off)
{
    struct sp_msg_grant_ack ack = {.mark = next()};
    struct sp_view bytes = some_bytes(next());
    ack.ack_len = (uint32_t)bytes.len + ((how & 16) != 0 ? 1U : 0);
    put_frame(SP_MSG_GRANT_ACK, tag, sp_view(&ack, sizeof(ack)), bytes, off);
}

static void put_nonce(uint8_t how, uint64_t tag, int off)
{
    struct sp_msg_nonce ask = {.identity_len = (how & 8) != 0 ? next() : 1};
    ask.identity[0] = (how & 4) != 0 ? 'a' : 'b';
    put_frame(SP_MSG_NONCE, tag, sp_view(&ask, sizeof(ask)), sp_view(NULL, 0), off);
}

static void move(void)
{
    static const struct sp_view nothing = {NULL, 0};
    uint8_t what = next();
    uint8_t how = next();
    uint64_t tag = how >> 5;
    int off = (how & 0x1F) == 0x1F ? (int)next() - 128 : 0;
    switch (what % 8U) {
    case 0:
        put_frame(SP_MSG_PSK, tag, nothing, (how & 4) != 0 ? SP_VIEW_LIT("a") : SP_VIEW_LIT("b"),
                  off);
        break;
    case 1:
        put_frame(SP_MSG_PSK, tag, nothing, some_bytes(next()), off);
        break;
    case 2:
        put_nonce(how, tag, off);
        break;
    case 3:
        put_appraise(how, tag, off);
        break;
    case 4:
        put_frame(SP_MSG_FORGET, tag, nothing, nothing, off);
        break;
    case 5:
        put_frame(SP_MSG_GRANT_READY, tag, nothing, nothing, off);
        break;
    case 6:
        put_ack(how, tag, off);
        break;
    default: {
        struct sp_view raw = some_bytes(next());
        put(raw.ptr, raw.len);
        break;
    }
    }
}

/* ---- what keys answers ---- */

static enum sp_err check_answer(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    (void)arg;
    if (frame->type == SP_MSG_VERDICT) {
        struct sp_msg_verdict verdict;
        require(body.len == sizeof(verdict));
        memcpy(&verdict, body.ptr, sizeof(verdict));
        require(verdict.check != SP_ATTEST_OK || verdict.unavailable);
        require(memchr(verdict.detail, 0, sizeof(verdict.detail)) != NULL);
    }
    require(frame->type == SP_MSG_VERDICT || frame->type == SP_MSG_PSK_ANSWER ||
            frame->type == SP_MSG_NONCE_ANSWER || frame->type == SP_MSG_GROUPS ||
            frame->type == SP_MSG_REVOKED || frame->type == SP_MSG_POLICY_CHANGED);
    return SP_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sp_keys_service *service = NULL;
    struct sp_channel *gate = NULL;
    int pair[2];
    uint64_t now = 1000000;
    if (registry == NULL) {
        set_up();
    }
    if (size > 4000) {
        return 0;
    }
    input = sp_view(data, size);
    require(sp_keys_service_create(&config, registry, &service) == SP_OK);
    require(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    require(sp_keys_service_attach(service, 0, pair[0]) == SP_OK);
    require(sp_channel_create(pair[1], &gate) == SP_OK);
    require(sp_keys_service_start(service, now) == SP_OK);
    while (input.len > 0 && sp_keys_service_fd(service, 0) >= 0) {
        bool waiting = false;
        out.used = 0;
        for (unsigned i = 0; i < 4 && input.len > 0; i++) {
            move();
        }
        (void)!send(pair[1], out.buf, out.used, MSG_NOSIGNAL | MSG_DONTWAIT);
        now += next();
        if (sp_keys_service_receive(service, 0, now) != SP_OK ||
            sp_keys_service_flush(service, 0, &waiting) != SP_OK) {
            sp_keys_service_detach(service, 0);
        }
        (void)!sp_channel_receive(gate, check_answer, NULL);
    }
    require(sp_keys_service_open_nonces(service, 0) <= 16);
    sp_keys_service_destroy(service);
    sp_channel_destroy(gate);
    return 0;
}
