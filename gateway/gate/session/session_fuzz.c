/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Arbitrary bytes after the TLS handshake. The first byte of the input picks who sends them: a client without attestation, a
 * guest of either MQTT version, or one that was admitted; zero bytes split the rest into reads.
 */
#include "gateway/gate/attest/guard.h"
#include "gateway/gate/session/client.h"
#include "gateway/gate/session/home.h"
#include "gateway/gate/session/house_fuzz.h"
#include "gateway/log/log.h"
#include "gateway/slab/slab.h"

#include <string.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char everything[] = "#";
static char name[] = "client";
static char *all[] = {everything, NULL};
static struct sp_role_config role = {.name = name, .publish = all, .subscribe = all};
static struct sp_config config;

static enum sp_err swallow(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                           size_t count)
{
    (void)arg, (void)type, (void)tag, (void)parts, (void)count;
    return SP_OK;
}

static enum sp_err exporter(struct sp_client *client, uint8_t *out)
{
    (void)client;
    memset(out, 0, 32);
    return SP_OK;
}

static void flush(struct sp_client *client)
{
    sp_client_written(client);
}

static void turn(struct sp_home *home)
{
    struct sp_client *client;
    sp_tickets_flush(home);
    while ((client = sp_client_take_dirty(home)) != NULL) {
        sp_client_resume(client);
        sp_client_rest(client);
    }
}

static void feed(struct sp_home *home, struct sp_client *client, struct sp_view bytes)
{
    while (bytes.len > 0) {
        const uint8_t *zero = memchr(bytes.ptr + 1, 0, bytes.len - 1);
        size_t len = zero == NULL ? bytes.len : (size_t)(zero - bytes.ptr);
        sp_client_input(client, sp_view_first(bytes, len));
        turn(home);
        bytes = sp_view_from(bytes, len);
    }
}

static void begin(struct sp_client *client, uint8_t kind)
{
    static const uint8_t connect_5[] =
        "\x10\x1E\x00\x04MQTT\x05\x02\x00\x3C\x0F\x15\x00\x0Csp-psa-iat-1"
        "\x00\x02id";
    static const uint8_t connect_311[] = "\x10\x0E\x00\x04MQTT\x04\x02\x00\x3C\x00\x02id";
    static const uint8_t token[] = "\xF0\x15\x18\x13\x15\x00\x0Csp-psa-iat-1\x16\x00\x01t";
    const struct sp_msg_verdict ok = {.check = SP_ATTEST_OK};
    if ((kind & 3) == 1) {
        sp_client_input(client, sp_view(connect_311, sizeof(connect_311) - 1));
    } else if ((kind & 3) != 0) {
        sp_client_input(client, sp_view(connect_5, sizeof(connect_5) - 1));
        sp_client_input(client, sp_view((kind & 3) == 3 ? token : NULL,
                                        (kind & 3) == 3 ? sizeof(token) - 1 : 0));
        sp_guard_verdict(client, &ok);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    config = fuzz_config(&role, 1);
    config.limits.packet = 16384;
    config.limits.write_buffer = 65536;
    config.limits.session_queue_bytes = 4096;
    struct sp_timers timers = {.now_ms = 1000, .wall_ms = 1000};
    struct sp_outbox outbox = {NULL, NULL};
    struct sp_home home = {
        .config = &config,
        .timers = &timers,
        .outboxes = &outbox,
        .loops = 1,
        .keys = {swallow, NULL},
        .tickets = {.store = {swallow, NULL}},
        .exporter = exporter,
        .flush = flush,
    };
    static struct sp_slab clients = SP_SLAB_INIT(sizeof(struct sp_client));
    struct sp_client *client = sp_slab_take(&clients);
    struct sp_msg_psk_answer answer = {.known = 1, .nonce_ok = 1};
    if (size == 0 || client == NULL || sp_subs_create(1, &home.subs) != SP_OK) {
        sp_slab_give(&clients, client);
        return 0;
    }
    sp_log_init("fuzz", SP_LOG_ERROR);
    memcpy(answer.row.role, name, sizeof(name));
    answer.row.attestation = (data[0] & 4) != 0 ? SP_ATTESTATION_NONE : SP_ATTESTATION_REQUIRED;
    sp_home_init(&home);
    if (sp_client_init(client, &home) == SP_OK &&
        sp_client_identify(client, SP_VIEW_LIT("id"), &answer) == SP_OK) {
        begin(client, data[0]);
        feed(&home, client, sp_view_from(sp_view(data, size), 1));
        const struct sp_msg_durable durable = {.up_to = home.tickets.last_ticket,
                                               .err = data[0] & 8};
        (void)!sp_tickets_durable(&home, &durable);
        turn(&home);
        timers.now_ms += 1000000;
        sp_timers_run(&timers, timers.now_ms);
        turn(&home);
    }
    sp_client_deinit(client);
    turn(&home);
    sp_slab_give(&clients, client);
    sp_home_deinit(&home);
    sp_subs_destroy(home.subs);
    return 0;
}
