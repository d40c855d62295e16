/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * One operation of the gateway again and again, without sockets, so that instructions can be counted (bench/instructions.py): the
 * difference between two runs of different length is what the operation takes, with nothing of the set-up in it.
 */
#include "bench/fleet/payload.h"
#include "bench/guard/guard.h"
#include "gateway/gate/session/world_test.h"
#include "gateway/log/log.h"
#include "libs/attest/attest.h"
#include "libs/record/record.h"

static const char help[] = "sallyport-guard: one operation of the gateway, N times\n"
                           "\n"
                           "  sallyport-guard OPERATION N\n"
                           "  sallyport-guard list\n";

#define FAN_OUT 100U

void sp_guard_need(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "sallyport-guard: %s\n", what);
        exit(1);
    }
}

/* ---- messages through a home: bytes in, bytes out ---- */

static struct peer *sensor;
static struct peer *monitors[FAN_OUT];
static size_t monitor_count;

static void open_home(size_t count, uint8_t qos)
{
    begin();
    config.cloud.enabled = false;
    config.route_count = 0;
    sensor = admitted("dev1", sensor_name);
    for (monitor_count = 0; monitor_count < count; monitor_count++) {
        char name[16];
        (void)snprintf(name, sizeof(name), "mon%zu", monitor_count);
        monitors[monitor_count] = admitted(name, monitor_name);
        sp_guard_need(subscribe(monitors[monitor_count], "dt/+/climate", qos) == qos,
                      "no subscription");
    }
}

static void close_home(void)
{
    hang_up(sensor);
    for (size_t i = 0; i < monitor_count; i++) {
        hang_up(monitors[i]);
    }
    end();
}

static struct sp_view publish(uint8_t *buf, size_t cap, uint8_t qos)
{
    uint8_t record[128];
    struct sp_writer senml;
    struct sp_writer out;
    sp_writer_init(&senml, record, sizeof(record));
    sp_payload_climate(&senml, SP_VIEW_LIT("dev1"), 1.7e9, 1);
    const struct sp_mqtt_publish packet = {.qos = qos,
                                           .packet_id = qos != 0,
                                           .topic = SP_VIEW_LIT("dt/dev1/climate"),
                                           .payload = sp_writer_view(&senml)};
    sp_writer_init(&out, buf, cap);
    sp_mqtt_encode_publish(&out, SP_MQTT_5, &packet);
    sp_guard_need(out.err == SP_OK, "no PUBLISH");
    return sp_writer_view(&out);
}

static void acknowledge(struct peer *peer)
{
    static const size_t id_at = 2 + 2 + sizeof("dt/dev1/climate") - 1;
    const uint8_t puback[] = {0x40, 2, peer->inbox[id_at], peer->inbox[id_at + 1]};
    peer->len = 0;
    sp_client_input(&peer->client, SP_VIEW_ARRAY(puback));
}

static void deliver(size_t count, uint8_t qos, unsigned long times)
{
    uint8_t buf[256];
    open_home(count, qos);
    struct sp_view packet = publish(buf, sizeof(buf), qos);
    for (unsigned long i = 0; i < times; i++) {
        sp_client_input(&sensor->client, packet);
        turn();
        for (size_t k = 0; k < count; k++) {
            sp_guard_need(monitors[k]->len >= packet.len, "not delivered");
            if (qos != 0) {
                acknowledge(monitors[k]);
            }
            monitors[k]->len = 0;
        }
        turn();
        sensor->len = 0;
    }
    close_home();
}

static void one_to_one_0(unsigned long times)
{
    deliver(1, 0, times);
}

static void one_to_one_1(unsigned long times)
{
    deliver(1, 1, times);
}

static void fan_out_0(unsigned long times)
{
    deliver(FAN_OUT, 0, times);
}

/* To the cloud: into store's batch, and the PUBACK when store has said that it is durable. */
static void cloud_gate(unsigned long times)
{
    uint8_t buf[256];
    begin();
    sensor = admitted("dev1", sensor_name);
    struct sp_view packet = publish(buf, sizeof(buf), 1);
    for (unsigned long i = 0; i < times; i++) {
        sp_client_input(&sensor->client, packet);
        sp_tickets_flush(&w->home);
        const struct sp_msg_durable durable = {.up_to = w->home.tickets.last_ticket};
        sp_guard_need(sp_tickets_durable(&w->home, &durable) == SP_OK, "nothing to be durable");
        turn();
        sp_guard_need(sensor->len == 4 || sensor->len == 5 || sensor->len == 6, "no PUBACK");
        sensor->len = 0;
    }
    monitor_count = 0;
    close_home();
}

/* ---- who gets it ---- */

static void match(unsigned long times)
{
    struct sp_subs *subs;
    struct sp_matches found = {0};
    struct sp_filter *filter;
    bool existed;
    char text[48];
    sp_guard_need(sp_subs_create(1, &subs) == SP_OK, "no index");
    for (unsigned i = 0; i < 1000; i++) {
        const struct sp_subscriber one = {.session = i + 1};
        (void)snprintf(text, sizeof(text), i % 10 == 0 ? "dt/dev%u/+/x" : "cmd/dev%u/valve", i);
        sp_guard_need(sp_subs_add(subs, sp_view_str(text), &one, &existed, &filter) == SP_OK,
                      "not added");
    }
    for (unsigned long i = 0; i < 100 * times;
         i++) { /* so that the set-up, which hashes with a seed, is small beside it */
        sp_guard_need(sp_subs_match(subs, SP_VIEW_LIT("cmd/dev471/valve"), 0, 0, &found) == SP_OK &&
                          found.count == 1,
                      "not found");
    }
    sp_matches_deinit(&found);
    sp_subs_destroy(subs);
}

/* ---- tokens and sealed records ---- */

static void token(unsigned long times)
{
    static const uint8_t bytes[64] = {1, 2, 3};
    const struct sp_crypto_key key = {.bytes = sp_view(bytes, 32)};
    struct sp_attest_claims claims = {.profile = SP_ATTEST_PROFILE_RFC9783,
                                      .nonce = sp_view(bytes, 32),
                                      .implementation_id = sp_view(bytes, 32),
                                      .boot_seed = sp_view(bytes, 32),
                                      .client_id = -1,
                                      .lifecycle = 0x3000,
                                      .component_count = 1};
    uint8_t ueid[SP_ATTEST_UEID_LEN];
    uint8_t made[1024];
    size_t len = 0;
    sp_guard_need(sp_attest_ueid(key.bytes, ueid) == SP_OK, "no UEID");
    claims.instance_id = SP_VIEW_ARRAY(ueid);
    claims.components[0] = (struct sp_attest_component){
        .type = SP_VIEW_LIT("NSPE"), .value = sp_view(bytes, 32), .signer_id = sp_view(bytes, 32)};
    sp_guard_need(sp_attest_encode(&claims, SP_ATTEST_HMAC256, &key, made, sizeof(made), &len) ==
                      SP_OK,
                  "no token");
    const struct sp_attest_reference_component component = {.type = SP_VIEW_LIT("NSPE"),
                                                            .value = sp_view(bytes, 32)};
    const struct sp_attest_reference reference = {
        .implementation_id = sp_view(bytes, 32), .components = &component, .component_count = 1};
    const struct sp_attest_policy policy = {.key = key,
                                            .algorithm = SP_ATTEST_HMAC256,
                                            .challenge = sp_view(bytes, 32),
                                            .instance_id = SP_VIEW_ARRAY(ueid),
                                            .lifecycles = SP_ATTEST_LIFECYCLE_SECURED,
                                            .references = &reference,
                                            .reference_count = 1};
    for (unsigned long i = 0; i < times; i++) {
        struct sp_attest_verdict verdict;
        sp_attest_appraise(sp_view(made, len), &policy, NULL, &verdict);
        sp_guard_need(verdict.check == SP_ATTEST_OK, verdict.detail);
    }
}

static void sealed_record(unsigned long times)
{
    static const uint8_t bytes[32] = {1, 2, 3};
    const struct sp_crypto_key key = {
        .bytes = sp_view(bytes, sp_record_key_len(SP_COSE_AES_CCM_16_64_128))};
    struct sp_record_head head = {.group = SP_VIEW_LIT("hall"),
                                  .epoch = 1,
                                  .counter = 7,
                                  .algorithm = SP_COSE_AES_CCM_16_64_128};
    uint8_t sealed[256];
    uint8_t plain[SP_RECORD_PLAIN_MAX];
    size_t len = 0;
    struct sp_view topic = SP_VIEW_LIT("dt/dev1/climate");
    sp_guard_need(sp_record_protect(&head, &key, topic, SP_VIEW_LIT(SP_GUARD_RECORD), sealed,
                                    sizeof(sealed), &len) == SP_OK,
                  "not sealed");
    for (unsigned long i = 0; i < times; i++) {
        size_t plain_len = 0;
        sp_guard_need(sp_record_unprotect(sp_view(sealed, len), SP_COSE_AES_CCM_16_64_128, &key,
                                          topic, &head, plain, &plain_len) == SP_OK,
                      "not opened");
    }
}

static const struct {
    const char *name;
    void (*run)(unsigned long times);
} operations[] = {
    {"one-to-one-0", one_to_one_0},
    {"one-to-one-1", one_to_one_1},
    {"fan-out-0", fan_out_0},
    {"cloud-gate", cloud_gate},
    {"cloud-store", sp_guard_store},
    {"match-100", match},
    {"tls-record", sp_guard_tls_record},
    {"token", token},
    {"sealed-record", sealed_record},
};

int main(int argc, char **argv)
{
    bool list = argc == 2 && strcmp(argv[1], "list") == 0;
    sp_log_init("guard", SP_LOG_ERROR);
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
        if (list) {
            (void)puts(operations[i].name);
        } else if (argc == 3 && strcmp(argv[1], operations[i].name) == 0) {
            operations[i].run(strtoul(argv[2], NULL, 10));
            return sp_test_failures_ != 0;
        }
    }
    if (!list) {
        (void)fputs(help, stderr);
    }
    return list ? 0 : 2;
}
