/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * From CONNECT to the verdict, with the real appraisal in the place of keys. The input chooses what a guest sends: the token
 * it should, the token with bytes changed, any bytes as a token, packets out of turn. Nobody may be in without an `ok` over his
 * own challenge, and nothing that he sent before may reach the store.
 */
#include "gateway/gate/session/world_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char name_client[] = "client";
static char everything[] = "#";
static char *all[] = {everything, NULL};
static struct sp_role_config role = {.name = name_client, .publish = all, .subscribe = all};
static struct sp_config config;

static const uint8_t iak[32] = "a key that fuzzing may know, 32";
static const struct sp_crypto_key key = {.bytes = {iak, sizeof(iak)}};
static const uint8_t implementation[32] = {1};
static const uint8_t measurement[32] = {2};

/* What keys knows: the nonce that is open for each connection, and what it has been asked. */
static struct {
    uint8_t nonce[SP_LINK_NONCE_LEN]; /* of the next challenge; counts up */
    struct {
        uint64_t tag; /* 0: nothing asked */
        bool nonce;   /* a new one is wanted, not a verdict */
        struct sp_attest_verdict verdict;
    } asked[16];
    size_t count;
    bool passed[WORLD_SEATS]; /* the connection there may be in */
} keys;

static void challenge_now(uint8_t *out)
{
    uint8_t exporter[32];
    (void)world_exporter(NULL, exporter);
    fuzz_require(sp_link_challenge(SP_LINK_BINDING_TLS, SP_VIEW_ARRAY(keys.nonce),
                                   SP_VIEW_ARRAY(exporter), SP_VIEW_LIT("a"), out) == SP_OK);
}

static void appraise(struct sp_view body, struct sp_attest_verdict *verdict)
{
    struct sp_msg_appraise ask;
    uint8_t challenge[SP_LINK_CHALLENGE_LEN];
    fuzz_require(body.len >= sizeof(ask));
    memcpy(&ask, body.ptr, sizeof(ask));
    struct sp_view token = sp_view_from(body, sizeof(ask));
    fuzz_require(token.len == ask.token_len && token.len <= SP_LINK_TOKEN_MAX + 1);
    fuzz_require(ask.identity_len == 1 && ask.identity[0] == 'a' && ask.has_exporter == 1);
    challenge_now(challenge);
    const struct sp_attest_policy policy = {.key = key,
                                            .algorithm = SP_ATTEST_HMAC256,
                                            .challenge = SP_VIEW_ARRAY(challenge),
                                            .lifecycles = SP_ATTEST_LIFECYCLE_SECURED,
                                            .any_software = true};
    sp_attest_appraise(token, &policy, NULL, verdict);
    keys.nonce[0]++; /* spent */
}

static enum sp_err ask_keys(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                            size_t count)
{
    static uint8_t body[8192];
    size_t len = 0;
    (void)arg;
    if (type != SP_MSG_APPRAISE && type != SP_MSG_NONCE) {
        return SP_OK;
    }
    for (size_t i = 0; i < count; i++) {
        fuzz_require(len + parts[i].len <= sizeof(body));
        sp_copy(body + len, parts[i].ptr, parts[i].len);
        len += parts[i].len;
    }
    if (keys.count == sizeof(keys.asked) / sizeof(keys.asked[0])) {
        return SP_ERR_LIMIT;
    }
    keys.asked[keys.count].tag = tag;
    keys.asked[keys.count].nonce = type == SP_MSG_NONCE;
    if (type == SP_MSG_APPRAISE) {
        appraise(sp_view(body, len), &keys.asked[keys.count].verdict);
    }
    keys.count++;
    return SP_OK;
}

static void answer_one(size_t i)
{
    struct sp_client *client = sp_slots_find(&world.home.clients, keys.asked[i].tag);
    if (client == NULL) {
        return;
    }
    if (keys.asked[i].nonce) {
        struct sp_msg_nonce_answer answer = {.ok = 1};
        memcpy(answer.nonce, keys.nonce, sizeof(answer.nonce));
        sp_guard_nonce(client, &answer);
        return;
    }
    struct sp_msg_verdict verdict = {.check = (uint8_t)keys.asked[i].verdict.check};
    struct seat *seat = (struct seat *)(void *)client;
    keys.passed[seat - world.seats] |= verdict.check == SP_ATTEST_OK;
    sp_guard_verdict(client, &verdict);
}

static void answer_all(void)
{
    size_t count = keys.count;
    for (size_t i = 0; i < count; i++) {
        answer_one(i);
    }
    memmove(keys.asked, keys.asked + count, (keys.count - count) * sizeof(keys.asked[0]));
    keys.count -= count;
    world_turn();
}

/* The token that the open challenge asks for. */
static size_t make_token(uint8_t *out, size_t cap)
{
    uint8_t challenge[SP_LINK_CHALLENGE_LEN];
    uint8_t ueid[SP_ATTEST_UEID_LEN] = {1};
    size_t len = 0;
    challenge_now(challenge);
    struct sp_attest_claims claims = {
        .profile = SP_ATTEST_PROFILE_RFC9783,
        .nonce = SP_VIEW_ARRAY(challenge),
        .instance_id = SP_VIEW_ARRAY(ueid),
        .implementation_id = SP_VIEW_ARRAY(implementation),
        .boot_seed = SP_VIEW_ARRAY(implementation),
        .client_id = -1,
        .lifecycle = 0x3000,
        .component_count = 1,
        .components = {{.type = SP_VIEW_INIT("NSPE"),
                        .value = SP_VIEW_ARRAY(measurement),
                        .signer_id = SP_VIEW_ARRAY(measurement)}},
    };
    fuzz_require(sp_attest_encode(&claims, SP_ATTEST_HMAC256, &key, out, cap, &len) == SP_OK);
    return len;
}

static void say_token(struct seat *seat, struct sp_view token, uint8_t how)
{
    uint8_t buf[6000];
    struct sp_writer w;
    sp_writer_init(&w, buf, sizeof(buf));
    if (seat->client.version == SP_MQTT_5 && (how & 1) == 0) {
        struct sp_mqtt_reasoned packet = {.reason = (how & 2) != 0 ? 0x19 : 0x18};
        packet.props.present =
            SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) | SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA);
        packet.props.auth_method =
            sp_view_str((how & 4) != 0 ? "other" : sp_link_method(SP_LINK_BINDING_TLS));
        packet.props.auth_data = token;
        sp_mqtt_encode_reasoned(&w, SP_MQTT_5, SP_MQTT_AUTH, &packet);
    } else {
        const struct sp_mqtt_publish packet = {.qos = (how & 8) != 0 ? 0 : 1,
                                               .packet_id = (how & 8) != 0 ? 0 : 7,
                                               .topic = sp_view_str(SP_LINK_TOPIC_TOKEN),
                                               .payload = token};
        sp_mqtt_encode_publish(&w, (enum sp_mqtt_version)seat->client.version, &packet);
    }
    world_say_packet(seat, &w);
}

static void token_move(struct seat *seat, struct moves *m, bool made)
{
    uint8_t token[5000];
    uint8_t how = moves_byte(m);
    size_t len = 0;
    if (seat->client.version == 0) {
        return;
    }
    if (!made) {
        size_t wanted = (size_t)moves_byte(m) * ((how & 0x10) != 0 ? 17U : 1U);
        memset(token, 0xA1, sizeof(token));
        struct sp_view part = moves_bytes(m, wanted);
        sp_copy(token, part.ptr, part.len);
        len = wanted;
    } else {
        len = make_token(token, sizeof(token));
        for (uint8_t changes = (how >> 5) % 4U; changes > 0; changes--) {
            size_t at = ((size_t)moves_byte(m) << 8 | moves_byte(m)) % len;
            token[at] ^= moves_byte(m);
        }
    }
    say_token(seat, sp_view(token, len), how);
}

static void connect_move(struct seat *seat, struct moves *m)
{
    uint8_t buf[256];
    struct sp_writer w;
    uint8_t how = moves_byte(m);
    struct sp_msg_psk_answer answer = {.known = 1, .nonce_ok = (how & 0x80) == 0};
    strcpy(answer.row.role, name_client);
    answer.row.attestation = (how & 0x40) != 0 ? SP_ATTESTATION_OPTIONAL : SP_ATTESTATION_REQUIRED;
    memcpy(answer.nonce, keys.nonce, sizeof(answer.nonce));
    if (!world_sit(seat, "a", &answer)) {
        return;
    }
    keys.passed[seat - world.seats] = answer.row.attestation == SP_ATTESTATION_OPTIONAL;
    struct sp_mqtt_connect packet = {.version = (how & 1) != 0 ? SP_MQTT_311 : SP_MQTT_5,
                                     .clean_start = (how & 2) != 0,
                                     .keep_alive = 60,
                                     .client_id = SP_VIEW_LIT("a")};
    if ((how & 4) == 0) {
        packet.props.present = SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD);
        packet.props.auth_method = sp_view_str((how & 8) != 0 ? "other" : "sp-psa-iat-1");
    }
    if ((how & 0x30) == 0x30) {
        packet.props.present |= SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA);
        packet.props.auth_data = SP_VIEW_LIT("x");
    }
    sp_writer_init(&w, buf, sizeof(buf));
    sp_mqtt_encode_connect(&w, &packet);
    world_say_packet(seat, &w);
}

static void early_move(struct seat *seat, struct moves *m)
{
    uint8_t buf[256];
    struct sp_writer w;
    uint8_t how = moves_byte(m);
    const struct sp_mqtt_publish packet = {.qos = how % 3U,
                                           .packet_id = how % 3U == 0 ? 0 : 9,
                                           .topic = SP_VIEW_LIT("dt/a/x"),
                                           .payload = SP_VIEW_LIT("early")};
    if (seat->client.version != 0) {
        sp_writer_init(&w, buf, sizeof(buf));
        sp_mqtt_encode_publish(&w, (enum sp_mqtt_version)seat->client.version, &packet);
        world_say_packet(seat, &w);
    }
}

static void move(struct moves *m)
{
    uint8_t what = moves_byte(m);
    struct seat *seat = &world.seats[what >> 7];
    switch (what % 9U) {
    case 0:
        connect_move(seat, m);
        break;
    case 1:
        token_move(seat, m, true);
        break;
    case 2:
        token_move(seat, m, false);
        break;
    case 3:
        answer_all();
        break;
    case 4:
        early_move(seat, m);
        break;
    case 5:
        world_say(seat, moves_bytes(m, moves_byte(m)));
        break;
    case 6:
        world_pass((uint64_t)moves_byte(m) * 100U);
        break;
    case 7:
        sp_home_reattest(&world.home);
        world_turn();
        break;
    default:
        sp_home_keys_lost(&world.home);
        keys.count = 0;
        world_turn();
        break;
    }
}

static void check_doors(void)
{
    bool passed = false;
    for (size_t i = 0; i < WORLD_SEATS; i++) {
        const struct seat *seat = &world.seats[i];
        fuzz_require(!seat->taken || seat->client.state != SP_CLIENT_OPEN || keys.passed[i]);
        passed |= keys.passed[i];
    }
    fuzz_require(world.appended == 0 || passed);
    world.appended = 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moves m = {data, size};
    memset(&keys, 0, sizeof(keys));
    config = fuzz_config(&role, 1);
    config.limits.packet = 8192;
    config.limits.write_buffer = 16384;
    config.limits.attempts = 5;
    if (size > 4000 || !world_begin(&config, (struct sp_edge){ask_keys, NULL})) {
        return 0;
    }
    while (m.left > 0) {
        move(&m);
        check_doors();
    }
    world_end();
    return 0;
}
