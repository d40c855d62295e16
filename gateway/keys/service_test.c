/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/keys/service.h"

#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/proc/messages.h"
#include "libs/base/test.h"

/* --- a service with one gate loop, which is this test --- */

static char folder[64];
static char key_file[96];
static struct sp_registry *tool; /* the command line's */
static struct sp_registry *registry;
static struct sp_keys_service *service;
static struct sp_channel *gate;
static uint64_t now_ms;
static struct sp_config config;

static struct sp_device_secrets secrets_numbered(uint8_t n)
{
    struct sp_device_secrets s = {.psk_len = 20, .iak_len = 32};
    memset(s.psk, n, s.psk_len);
    memset(s.iak, n, s.iak_len);
    memset(s.kek, n, sizeof(s.kek));
    s.psk[0] = 'p';
    s.iak[0] = 'i';
    return s;
}

static void add_device(const char *id, uint8_t n, enum sp_link_binding binding)
{
    struct sp_device d = {.iak_algorithm = SP_ATTEST_HMAC256, .row.binding = (uint8_t)binding};
    sp_copy(d.id, id, strlen(id));
    sp_copy(d.row.role, "sensor", 6);
    struct sp_device_secrets s = secrets_numbered(n);
    SP_CHECK_INT(sp_registry_device_add(tool, &d, &s), SP_OK);
}

static void add_reference(uint8_t value)
{
    struct sp_reference ref = {.implementation_id_len = 32, .component_count = 1};
    memset(ref.implementation_id, 0x77, 32);
    sp_copy(ref.components[0].type, "NSPE", 4);
    memset(ref.components[0].value, value, 32);
    ref.components[0].value_len = 32;
    int64_t number = 0;
    SP_CHECK_INT(sp_registry_reference_add(tool, &ref, &number), SP_OK);
}

static void attach_gate(void)
{
    int pair[2];
    SP_CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), 0);
    SP_CHECK_INT(sp_keys_service_attach(service, 0, pair[0]), SP_OK);
    sp_channel_destroy(gate);
    SP_CHECK_INT(sp_channel_create(pair[1], &gate), SP_OK);
}

static void start_service(void)
{
    struct sp_fault fault;
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_SERVICE, &registry, &fault), SP_OK);
    SP_CHECK_INT(sp_keys_service_create(&config, registry, &service), SP_OK);
    attach_gate();
    SP_CHECK_INT(sp_keys_service_start(service, now_ms), SP_OK);
}

static void stop_service(void)
{
    sp_keys_service_destroy(service);
    sp_registry_close(registry);
    sp_channel_destroy(gate);
    gate = NULL;
}

static void begin_empty(void)
{
    struct sp_fault fault;
    sp_log_init("test", SP_LOG_ERROR);
    (void)snprintf(folder, sizeof(folder), "/tmp/sp-keys-test-XXXXXX");
    SP_CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(key_file, sizeof(key_file), "%s/master.key", folder);
    SP_CHECK_INT(sp_registry_create(folder, key_file, &fault), SP_OK);
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &tool, &fault), SP_OK);
    config = (struct sp_config){
        .threads = 1,
        .limits = {.connections = 64, .preauth_timeout_ms = 15000, .attempts = 3},
        .attestation = {.answer_timeout_ms = 10000, .lifecycles = SP_ATTEST_LIFECYCLE_SECURED}};
    now_ms = 1000000;
}

static void end(void)
{
    char command[128];
    stop_service();
    sp_registry_close(tool);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    SP_CHECK_INT(system(command), 0);
}

/* --- asking --- */

#define ANSWERS_MAX 16U

struct answer {
    uint16_t type;
    uint64_t tag;
    size_t len;
    uint8_t body[512];
};

static struct answer answers[ANSWERS_MAX];
static size_t answer_count;

static enum sp_err take_answer(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    (void)arg;
    struct answer *a = &answers[answer_count % ANSWERS_MAX];
    answer_count++;
    a->type = frame->type;
    a->tag = frame->tag;
    a->len = body.len < sizeof(a->body) ? body.len : sizeof(a->body);
    sp_copy(a->body, body.ptr, a->len);
    return SP_OK;
}

/* Everything that the service has said since the last call; false: it has closed. */
static bool listen_to_service(void)
{
    bool waiting = false;
    answer_count = 0;
    if (sp_keys_service_flush(service, 0, &waiting) != SP_OK) {
        return false;
    }
    struct pollfd p = {.fd = sp_channel_fd(gate), .events = POLLIN};
    while (poll(&p, 1, 0) == 1) {
        if (sp_channel_receive(gate, take_answer, NULL) != SP_OK) {
            return false;
        }
    }
    return true;
}

/* What the service tells at its start is read by the test that is about it. */
static void begin(void)
{
    begin_empty();
    add_device("dev-1", 1, SP_LINK_BINDING_TLS);
    add_device("dev-2", 2, SP_LINK_BINDING_NONE);
    add_reference(0xAB);
    start_service();
    SP_CHECK(listen_to_service());
}

static enum sp_err ask(uint16_t type, uint64_t tag, const struct sp_view *parts, size_t count)
{
    SP_CHECK_INT(sp_channel_send(gate, type, tag, parts, count), SP_OK);
    SP_CHECK_INT(sp_channel_flush(gate), SP_OK);
    enum sp_err err = sp_keys_service_receive(service, 0, now_ms);
    SP_CHECK(err != SP_OK || listen_to_service());
    return err;
}

static struct sp_msg_psk_answer ask_psk(uint64_t tag, struct sp_view identity)
{
    struct sp_msg_psk_answer out = {0};
    SP_CHECK_INT(ask(SP_MSG_PSK, tag, &identity, 1), SP_OK);
    SP_CHECK(answer_count == 1 && answers[0].type == SP_MSG_PSK_ANSWER && answers[0].tag == tag);
    SP_CHECK_INT(answers[0].len, sizeof(out));
    sp_copy(&out, answers[0].body, sizeof(out));
    return out;
}

static struct sp_msg_nonce_answer ask_nonce(uint64_t tag, const char *id)
{
    struct sp_msg_nonce_answer out = {0};
    struct sp_msg_nonce body = {.identity_len = (uint8_t)strlen(id)};
    sp_copy(body.identity, id, strlen(id));
    struct sp_view part = sp_view(&body, sizeof(body));
    SP_CHECK_INT(ask(SP_MSG_NONCE, tag, &part, 1), SP_OK);
    SP_CHECK(answer_count == 1 && answers[0].type == SP_MSG_NONCE_ANSWER);
    SP_CHECK_INT(answers[0].len, sizeof(out));
    sp_copy(&out, answers[0].body, sizeof(out));
    return out;
}

static struct sp_msg_verdict ask_verdict(uint64_t tag, const char *id, struct sp_view exporter,
                                         struct sp_view token)
{
    struct sp_msg_verdict out = {.check = 255};
    struct sp_msg_appraise body = {.identity_len = (uint8_t)strlen(id),
                                   .has_exporter = exporter.len > 0,
                                   .token_len = (uint32_t)token.len};
    sp_copy(body.identity, id, strlen(id));
    sp_copy(body.exporter, exporter.ptr, exporter.len);
    struct sp_view parts[] = {sp_view(&body, sizeof(body)), token};
    SP_CHECK_INT(ask(SP_MSG_APPRAISE, tag, parts, 2), SP_OK);
    SP_CHECK(answer_count == 1 && answers[0].type == SP_MSG_VERDICT && answers[0].tag == tag);
    SP_CHECK_INT(answers[0].len, sizeof(out));
    sp_copy(&out, answers[0].body, sizeof(out));
    SP_CHECK_INT(out.unavailable, 0);
    return out;
}

/* --- a device --- */

static uint8_t exporter[SP_LINK_EXPORTER_LEN] = {1, 2, 3};

struct attester {
    const char *id;
    uint8_t number; /* of its keys */
    enum sp_link_binding binding;
    uint16_t lifecycle;
    uint8_t measurement;
};

static const struct attester dev1 = {"dev-1", 1, SP_LINK_BINDING_TLS, 0x3000, 0xAB};
static const struct attester dev2 = {"dev-2", 2, SP_LINK_BINDING_NONE, 0x3000, 0xAB};

static uint8_t token_bytes[1024];

static struct sp_view token_of(const struct attester *a, const uint8_t *nonce)
{
    struct sp_device_secrets s = secrets_numbered(a->number);
    uint8_t challenge[SP_LINK_CHALLENGE_LEN];
    uint8_t ueid[SP_ATTEST_UEID_LEN];
    uint8_t implementation[32];
    uint8_t seed[32] = {0};
    uint8_t measurement[32];
    memset(implementation, 0x77, sizeof(implementation));
    memset(measurement, a->measurement, sizeof(measurement));
    SP_CHECK_INT(sp_link_challenge(a->binding, sp_view(nonce, SP_LINK_NONCE_LEN),
                                   SP_VIEW_ARRAY(exporter), sp_view_str(a->id), challenge),
                 SP_OK);
    SP_CHECK_INT(sp_attest_ueid(sp_view(s.iak, s.iak_len), ueid), SP_OK);
    struct sp_attest_claims claims = {
        .profile = SP_ATTEST_PROFILE_RFC9783,
        .nonce = SP_VIEW_ARRAY(challenge),
        .instance_id = SP_VIEW_ARRAY(ueid),
        .implementation_id = SP_VIEW_ARRAY(implementation),
        .boot_seed = SP_VIEW_ARRAY(seed),
        .client_id = -1,
        .lifecycle = a->lifecycle,
        .component_count = 1,
        .components = {{.type = SP_VIEW_LIT("NSPE"),
                        .value = SP_VIEW_ARRAY(measurement),
                        .signer_id = SP_VIEW_ARRAY(measurement)}},
    };
    struct sp_crypto_key key = {.bytes = sp_view(s.iak, s.iak_len)};
    size_t len = 0;
    SP_CHECK_INT(
        sp_attest_encode(&claims, SP_ATTEST_HMAC256, &key, token_bytes, sizeof(token_bytes), &len),
        SP_OK);
    return sp_view(token_bytes, len);
}

/* --- PSKs --- */

static void a_known_identity_gets_its_key_row_and_a_nonce(void)
{
    begin();
    struct sp_msg_psk_answer a = ask_psk(7, SP_VIEW_LIT("dev-1"));
    SP_CHECK_INT(a.known, 1);
    SP_CHECK_INT(a.nonce_ok, 1);
    SP_CHECK_INT(a.psk_len, 20);
    SP_CHECK(memcmp(a.psk, secrets_numbered(1).psk, 20) == 0);
    SP_CHECK(strcmp(a.row.role, "sensor") == 0 && a.row.binding == SP_LINK_BINDING_TLS);
    SP_CHECK_INT(a.row.answer_timeout_ms, 0);
    struct sp_msg_psk_answer b = ask_psk(8, SP_VIEW_LIT("dev-1"));
    SP_CHECK(memcmp(a.nonce, b.nonce, sizeof(a.nonce)) != 0);
    end();
}

static void unknown_identities_get_decoys_that_stay(void)
{
    static uint8_t long_one[300];
    static const struct sp_view unknown[] = {SP_VIEW_INIT("dev-3"),   SP_VIEW_INIT("dev-1\0evil"),
                                             SP_VIEW_INIT("dev-1\0"), SP_VIEW_INIT("DEV-1"),
                                             SP_VIEW_INIT("dev-"),    SP_VIEW_INIT(""),
                                             SP_VIEW_INIT("\xff"),    {long_one, sizeof(long_one)}};
    struct sp_msg_psk_answer first[8];
    begin();
    for (size_t i = 0; i < 8; i++) {
        first[i] = ask_psk(i, unknown[i]);
        SP_CHECK_INT(first[i].known, 0);
        SP_CHECK_INT(first[i].psk_len, 32);
        for (size_t j = 0; j < i; j++) {
            SP_CHECK(memcmp(first[i].psk, first[j].psk, 32) != 0);
        }
    }
    SP_CHECK_INT(sp_keys_service_open_nonces(service, 0), 0);
    stop_service();
    start_service();
    SP_CHECK(listen_to_service());
    for (size_t i = 0; i < 8; i++) {
        struct sp_msg_psk_answer again = ask_psk(i, unknown[i]);
        SP_CHECK(memcmp(again.psk, first[i].psk, sizeof(again.psk)) == 0);
    }
    end();
}

/* --- tokens --- */

static void a_good_token_is_accepted_once(void)
{
    begin();
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    struct sp_view token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_OK);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_NONCE);
    SP_CHECK_INT(sp_keys_service_open_nonces(service, 0), 0);
    struct sp_msg_nonce_answer n = ask_nonce(1, "dev-1");
    SP_CHECK_INT(n.ok, 1);
    token = token_of(&dev1, n.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_OK);
    end();
}

static void a_token_without_binding_needs_no_exporter(void)
{
    begin();
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-2"));
    struct sp_view token = token_of(&dev2, a.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-2", (struct sp_view){NULL, 0}, token).check, SP_ATTEST_OK);
    end();
}

static void what_does_not_hold_is_refused_by_its_check(void)
{
    static const struct {
        const char *name;
        struct attester attester;
        enum sp_attest_check check;
    } cases[] = {
        {"other device's key", {"dev-1", 2, SP_LINK_BINDING_TLS, 0x3000, 0xAB}, SP_ATTEST_MAC},
        {"binding none", {"dev-1", 1, SP_LINK_BINDING_NONE, 0x3000, 0xAB}, SP_ATTEST_NONCE},
        {"debug", {"dev-1", 1, SP_LINK_BINDING_TLS, 0x4000, 0xAB}, SP_ATTEST_LIFECYCLE},
        {"unknown software", {"dev-1", 1, SP_LINK_BINDING_TLS, 0x3000, 0xAC}, SP_ATTEST_SOFTWARE},
    };
    begin();
    config.limits.attempts = 0;
    sp_keys_service_configure(service, &config);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct sp_msg_psk_answer a = ask_psk(i, SP_VIEW_LIT("dev-1"));
        struct sp_view token = token_of(&cases[i].attester, a.nonce);
        struct sp_msg_verdict v = ask_verdict(i, "dev-1", SP_VIEW_ARRAY(exporter), token);
        SP_CHECK_CASE(v.check == cases[i].check, cases[i].name);
    }
    end();
}

static void nonce_device_and_connection_belong_together(void)
{
    static const uint8_t other_exporter[SP_LINK_EXPORTER_LEN] = {9};
    struct sp_view none = {NULL, 0};
    begin();
    /* dev-2's nonce, dev-1's token and the other way round */
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-2"));
    struct sp_view token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_NONCE);
    a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-2", none, token).check, SP_ATTEST_MAC);
    /* another connection's nonce, TLS session, no exporter */
    a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    (void)ask_psk(2, SP_VIEW_LIT("dev-1"));
    token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(ask_verdict(2, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_NONCE);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(other_exporter), token).check,
                 SP_ATTEST_NONCE);
    a = ask_psk(3, SP_VIEW_LIT("dev-2"));
    token = token_of(&dev2, a.nonce);
    SP_CHECK_INT(ask_verdict(3, "dev-2", none, token).check, SP_ATTEST_OK);
    SP_CHECK_INT(ask_verdict(4, "nobody", none, token).check, SP_ATTEST_NONCE);
    end();
}

static void a_refused_answer_uses_its_nonce_up(void)
{
    begin();
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), SP_VIEW_LIT("junk")).check,
                 SP_ATTEST_FORM);
    struct sp_view token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_NONCE);
    end();
}

static void too_long_a_token_is_refused_for_its_size(void)
{
    static uint8_t big[SP_LINK_TOKEN_MAX + 1];
    begin();
    (void)ask_psk(1, SP_VIEW_LIT("dev-1"));
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), SP_VIEW_ARRAY(big)).check,
                 SP_ATTEST_SIZE);
    end();
}

static void an_answer_that_comes_too_late_is_a_timeout(void)
{
    begin();
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    struct sp_view token = token_of(&dev1, a.nonce);
    now_ms += 15000 + 10000 + 1;
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_TIMEOUT);
    end();
}

static void refused_tokens_are_limited_per_device_and_minute(void)
{
    begin();
    for (uint64_t tag = 0; tag < 3; tag++) {
        SP_CHECK_INT(ask_psk(tag, SP_VIEW_LIT("dev-1")).nonce_ok, 1);
        (void)ask_verdict(tag, "dev-1", SP_VIEW_ARRAY(exporter), SP_VIEW_LIT("junk"));
    }
    struct sp_msg_psk_answer a = ask_psk(9, SP_VIEW_LIT("dev-1"));
    SP_CHECK(a.known == 1 && a.nonce_ok == 0);
    SP_CHECK_INT(ask_nonce(9, "dev-1").ok, 0);
    struct sp_view token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(ask_verdict(9, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_NONCE);
    SP_CHECK_INT(ask_psk(10, SP_VIEW_LIT("dev-2")).nonce_ok, 1); /* others are undisturbed */
    now_ms += 60001;
    a = ask_psk(9, SP_VIEW_LIT("dev-1"));
    SP_CHECK_INT(a.nonce_ok, 1);
    token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(ask_verdict(9, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_OK);
    end();
}

static void open_nonces_are_bounded_and_the_oldest_goes_first(void)
{
    begin();
    struct sp_msg_psk_answer first = ask_psk(1000, SP_VIEW_LIT("dev-1"));
    struct sp_msg_psk_answer last = {0};
    for (uint64_t tag = 0; tag < 500; tag++) {
        last = ask_psk(tag << 32, SP_VIEW_LIT("dev-1"));
    }
    SP_CHECK_INT(sp_keys_service_open_nonces(service, 0), 64);
    struct sp_view token = token_of(&dev1, first.nonce);
    SP_CHECK_INT(ask_verdict(1000, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_NONCE);
    token = token_of(&dev1, last.nonce);
    SP_CHECK_INT(ask_verdict(UINT64_C(499) << 32, "dev-1", SP_VIEW_ARRAY(exporter), token).check,
                 SP_ATTEST_OK);
    for (uint64_t tag = 0; tag < 500; tag++) {
        SP_CHECK_INT(ask(SP_MSG_FORGET, tag << 32, NULL, 0), SP_OK);
    }
    SP_CHECK_INT(sp_keys_service_open_nonces(service, 0), 0);
    end();
}

static void a_new_channel_starts_without_open_nonces(void)
{
    begin();
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    attach_gate();
    SP_CHECK_INT(sp_keys_service_open_nonces(service, 0), 0);
    struct sp_view token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_NONCE);
    end();
}

static void impossible_messages_end_the_channel(void)
{
    static const struct sp_msg_nonce long_nonce = {.identity_len = SP_LINK_IDENTITY_MAX + 1};
    static const struct sp_msg_appraise long_id = {.identity_len = SP_LINK_IDENTITY_MAX + 1};
    static const struct sp_msg_appraise short_token = {.identity_len = 1, .token_len = 9};
    static uint8_t big[70000];
    const struct {
        uint16_t type;
        struct sp_view body;
    } cases[] = {
        {0, {big, 0}},
        {SP_MSG_PSK_ANSWER, {big, 1}},
        {SP_MSG_VERDICT, {big, sizeof(struct sp_msg_verdict)}},
        {999, {big, 1}},
        {SP_MSG_PSK, {big, sizeof(big)}},
        {SP_MSG_NONCE, {big, 1}},
        {SP_MSG_NONCE, {big, sizeof(struct sp_msg_nonce) + 1}},
        {SP_MSG_NONCE, sp_view(&long_nonce, sizeof(long_nonce))},
        {SP_MSG_APPRAISE, {big, sizeof(struct sp_msg_appraise) - 1}},
        {SP_MSG_APPRAISE, sp_view(&long_id, sizeof(long_id))},
        {SP_MSG_APPRAISE, sp_view(&short_token, sizeof(short_token))},
        {SP_MSG_FORGET, {big, 1}},
    };
    begin();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        SP_CHECK_INT(ask(cases[i].type, 1, &cases[i].body, 1), SP_ERR_MALFORMED);
        attach_gate();
    }
    SP_CHECK_INT(ask_psk(1, SP_VIEW_LIT("dev-1")).known, 1);
    end();
}

/* --- changes of the registry --- */

static void tick(void)
{
    now_ms += 200;
    sp_keys_service_tick(service, now_ms);
    SP_CHECK(listen_to_service());
}

static bool told_of(const char *id)
{
    for (size_t i = 0; i < answer_count && i < ANSWERS_MAX; i++) {
        if (answers[i].type == SP_MSG_REVOKED &&
            sp_view_equal(sp_view(answers[i].body, answers[i].len), sp_view_str(id))) {
            return true;
        }
    }
    return false;
}

static void a_revoked_device_is_unknown_and_the_gate_is_told(void)
{
    begin();
    tick();
    SP_CHECK_INT(answer_count, 0);
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    SP_CHECK_INT(a.known, 1);
    struct sp_view token = token_of(&dev1, a.nonce);
    SP_CHECK_INT(sp_registry_device_set_state(tool, "dev-1", SP_DEVICE_REVOKED), SP_OK);
    tick();
    SP_CHECK(answer_count == 1 && told_of("dev-1"));
    SP_CHECK(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check != SP_ATTEST_OK);
    SP_CHECK_INT(ask_psk(1, SP_VIEW_LIT("dev-1")).known, 0);
    SP_CHECK_INT(ask_nonce(1, "dev-1").ok, 0);
    SP_CHECK_INT(sp_registry_device_set_state(tool, "dev-1", SP_DEVICE_ACTIVE), SP_OK);
    /* no tick: a device may connect at once */
    SP_CHECK_INT(ask_psk(1, SP_VIEW_LIT("dev-1")).known, 1);
    end();
}

static void new_keys_and_removal_are_told_and_new_devices_just_known(void)
{
    begin();
    struct sp_device_secrets s = secrets_numbered(50);
    SP_CHECK_INT(sp_registry_device_rotate(tool, "dev-1", &s), SP_OK);
    tick();
    SP_CHECK(answer_count == 1 && told_of("dev-1"));
    SP_CHECK(memcmp(ask_psk(1, SP_VIEW_LIT("dev-1")).psk, s.psk, 20) == 0);
    SP_CHECK_INT(sp_registry_device_remove(tool, "dev-2"), SP_OK);
    add_device("dev-9", 9, SP_LINK_BINDING_TLS);
    tick();
    SP_CHECK(answer_count == 1 && told_of("dev-2"));
    SP_CHECK_INT(ask_psk(1, SP_VIEW_LIT("dev-2")).known, 0);
    SP_CHECK_INT(ask_psk(1, SP_VIEW_LIT("dev-9")).known, 1);
    end();
}

static void new_references_count_and_have_everybody_attest_again(void)
{
    struct attester updated = dev1;
    updated.measurement = 0xCD;
    begin();
    tick();
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    struct sp_view token = token_of(&updated, a.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_SOFTWARE);
    add_reference(0xCD);
    tick();
    SP_CHECK(answer_count == 1 && answers[0].type == SP_MSG_POLICY_CHANGED);
    a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    token = token_of(&updated, a.nonce);
    SP_CHECK_INT(ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check, SP_ATTEST_OK);
    config.attestation.lifecycles |= SP_ATTEST_LIFECYCLE_DEBUG;
    sp_keys_service_configure(service, &config);
    tick();
    SP_CHECK(answer_count == 1 && answers[0].type == SP_MSG_POLICY_CHANGED);
    tick();
    SP_CHECK_INT(answer_count, 0);
    end();
}

static void what_changed_while_nobody_served_is_told_at_the_start(void)
{
    begin();
    tick(); /* what was there at the start is told … */
    tick(); /* … and remembered */
    stop_service();
    SP_CHECK_INT(sp_registry_device_remove(tool, "dev-1"), SP_OK);
    start_service();
    SP_CHECK(listen_to_service());
    SP_CHECK(answer_count == 1 && told_of("dev-1"));
    tick();
    stop_service();
    start_service();
    SP_CHECK(listen_to_service());
    SP_CHECK_INT(answer_count, 0);
    end();
}

static void verdicts_reach_the_registry(void)
{
    begin();
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    struct sp_view token = token_of(&dev1, a.nonce);
    (void)ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token);
    (void)ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token);
    sp_keys_service_finish(service);
    struct sp_device d;
    struct sp_device_history h;
    SP_CHECK_INT(sp_registry_device_find(tool, "dev-1", &d, &h), SP_OK);
    SP_CHECK(h.ok == 1 && h.refused == 1 && h.last_check == SP_ATTEST_NONCE);
    tick(); /* its own writes are no news */
    SP_CHECK_INT(answer_count, 0);
    end();
}

static void an_empty_registry_knows_nobody(void)
{
    begin_empty();
    start_service();
    SP_CHECK_INT(ask_psk(1, SP_VIEW_LIT("dev-1")).known, 0);
    add_device("dev-1", 1, SP_LINK_BINDING_TLS);
    tick();
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    SP_CHECK_INT(a.known, 1);
    struct sp_view token = token_of(&dev1, a.nonce);
    enum sp_attest_check check =
        (enum sp_attest_check)ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token).check;
    SP_CHECK(check == SP_ATTEST_IMPLEMENTATION_ID || check == SP_ATTEST_SOFTWARE);
    end();
}

static double microseconds(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

/* A generous bound: it is there to notice a scan or an allocation that creeps in, not to measure. */
static void an_answer_takes_microseconds(void)
{
    enum { ROUNDS = 2000 };
    begin();
    for (uint8_t i = 10; i < 250; i++) {
        char id[16];
        (void)snprintf(id, sizeof(id), "many-%d", i);
        add_device(id, i, SP_LINK_BINDING_TLS);
    }
    tick();
    double start = microseconds();
    for (uint64_t i = 0; i < ROUNDS; i++) {
        struct sp_msg_psk_answer a = ask_psk(i, SP_VIEW_LIT("many-100"));
        SP_CHECK(a.known == 1);
    }
    double each = (microseconds() - start) / ROUNDS;
    printf("  a PSK, both pipes included: %.1f us\n", each);
    SP_CHECK(each < 500);
    config.limits.attempts = 0;
    sp_keys_service_configure(service, &config);
    struct sp_msg_psk_answer a = ask_psk(1, SP_VIEW_LIT("dev-1"));
    struct sp_view token = token_of(&dev1, a.nonce);
    start = microseconds();
    for (uint64_t i = 0; i < ROUNDS; i++) {
        (void)ask_verdict(1, "dev-1", SP_VIEW_ARRAY(exporter), token);
    }
    each = (microseconds() - start) / ROUNDS;
    printf("  a token: %.1f us\n", each);
    SP_CHECK(each < 500);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(a_known_identity_gets_its_key_row_and_a_nonce),
    SP_TEST(unknown_identities_get_decoys_that_stay),
    SP_TEST(a_good_token_is_accepted_once),
    SP_TEST(a_token_without_binding_needs_no_exporter),
    SP_TEST(what_does_not_hold_is_refused_by_its_check),
    SP_TEST(nonce_device_and_connection_belong_together),
    SP_TEST(a_refused_answer_uses_its_nonce_up),
    SP_TEST(too_long_a_token_is_refused_for_its_size),
    SP_TEST(an_answer_that_comes_too_late_is_a_timeout),
    SP_TEST(refused_tokens_are_limited_per_device_and_minute),
    SP_TEST(open_nonces_are_bounded_and_the_oldest_goes_first),
    SP_TEST(a_new_channel_starts_without_open_nonces),
    SP_TEST(impossible_messages_end_the_channel),
    SP_TEST(a_revoked_device_is_unknown_and_the_gate_is_told),
    SP_TEST(new_keys_and_removal_are_told_and_new_devices_just_known),
    SP_TEST(new_references_count_and_have_everybody_attest_again),
    SP_TEST(what_changed_while_nobody_served_is_told_at_the_start),
    SP_TEST(verdicts_reach_the_registry),
    SP_TEST(an_empty_registry_knows_nobody),
    SP_TEST(an_answer_takes_microseconds),
};
SP_TEST_MAIN(tests)
