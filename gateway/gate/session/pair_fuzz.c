/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Up to four connections of three identities, whose moves the input chooses: packets that are well formed and come at the wrong
 * time, any bytes, lost connections, take-overs, time, answers of store, revocations, new configurations. A sensor must never
 * be sent what is not for it.
 */
#include "gateway/gate/session/world_fuzz.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char everything[] = "#";
static char own_data[] = "dt/{device}/#";
static char own_commands[] = "cmd/{device}/#";
static char records[] = "dt/+/climate";
static char name_client[] = "client";
static char name_monitor[] = "monitor";
static char name_sensor[] = "sensor";
static char id[] = "gw";
static char route_to[] = "up/{rest}";
static char route_from[] = "dt/#";
static char command_from[] = "down/#";
static char command_to[] = "cmd/{rest}";
static char *all[] = {everything, NULL};
static char *own[] = {own_data, NULL};
static char *orders[] = {own_commands, NULL};
static char *watch[] = {own_commands, records, NULL};
static struct sp_role_config roles[] = {
    {.name = name_sensor, .publish = own, .subscribe = orders},
    {.name = name_monitor, .publish = own, .subscribe = watch},
    {.name = name_client,
     .publish = all,
     .subscribe = all,
     .retain = true,
     .shared_subscriptions = true,
     .any_will = true,
     .topic_aliases = 2},
};
static struct sp_route_config route = {.from = route_from, .cloud = route_to, .qos = 1};
static struct sp_command_config command = {.cloud = command_from, .to = command_to};
static const struct sp_config config = {
    .id = id,
    .roles = roles,
    .role_count = 3,
    .attestation = {.reattest_interval_s = 60, .answer_timeout_ms = 1000},
    .cloud = {.enabled = true},
    .routes = &route,
    .route_count = 1,
    .commands = &command,
    .command_count = 1,
    .limits = {.packet = 2048,
               .receive_maximum = 4,
               .in_flight = 3,
               .session_queue_bytes = 1000,
               .session_queues_bytes = 10000000,
               .session_expiry_s = 60,
               .write_buffer = 8192,
               .write_buffers = 10000000,
               .keep_alive_min_s = 1,
               .keep_alive_max_s = 100,
               .topic_levels = 6,
               .topic_bytes = 64,
               .subscriptions = 6,
               .user_properties = 2,
               .user_property_bytes = 100,
               .retained = 4,
               .retained_bytes = 2000,
               .retained_device = 3,
               .retained_device_bytes = 1500,
               .attempts = 3},
};
static struct sp_config
    narrow; /* the same without the last role, no cloud, and less of everything */

static const char *const identities[] = {"a", "b", "c"};
static const char *const topics[] = {
    "dt/a/x", "dt/b/climate",     "dt/c/climate", "cmd/a/x", "cmd/b/y", "cmd/c/z",
    "x",      "$sp/attest/token", "a//b",         "$SYS/x",  "dt/c/",   "$sp/key/ack"};
static const char *const filters[] = {
    "#",          "dt/+/climate", "cmd/a/#",       "cmd/b/+",
    "cmd/c/#",    "+/+/x",        "$share/g/dt/#", "$share/h/cmd/c/#",
    "x",          "$sp/time",     "a/#/b",         "+",
    "$share/g/#", "dt/c/climate"};
static const uint8_t record[] = {0x81, 0xA3, 0x21, 0x62, 'c', '/', 0x00, 0x61, 't', 0x02, 0x05};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static enum sp_err nobody(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                          size_t count)
{
    (void)arg, (void)type, (void)tag, (void)parts, (void)count;
    return SP_OK;
}

static const char *identity_of(const struct seat *seat)
{
    return identities[(size_t)(seat - world.seats) % COUNT(identities)];
}

/* c is a sensor: commands for itself and what the gateway says, nothing else. */
static void heard(struct seat *seat, const struct any_packet *packet)
{
    struct sp_view who = sp_client_identity(&seat->client);
    if (packet->type == SP_MQTT_PUBLISH && sp_view_equal(who, SP_VIEW_LIT("c")) &&
        packet->publish.topic.len > 0) {
        world_require(sp_view_starts(packet->publish.topic, SP_VIEW_LIT("cmd/c/")) ||
                      sp_view_starts(packet->publish.topic, SP_VIEW_LIT("$sp/")));
    }
}

static void connect_seat(struct seat *seat, struct moves *m)
{
    uint8_t buf[512];
    struct sp_writer w;
    uint8_t how = moves_byte(m);
    size_t number = (size_t)(seat - world.seats) % COUNT(identities);
    struct sp_msg_psk_answer answer = {
        .known = 1, .nonce_ok = 1, .row = {.attestation = SP_ATTESTATION_NONE}};
    strcpy(answer.row.role, number == 0 ? "client" : number == 1 ? "monitor" : "sensor");
    if (!world_sit(seat, identity_of(seat), &answer)) {
        return;
    }
    struct sp_mqtt_connect packet = {
        .version = (how & 1) != 0 ? SP_MQTT_311 : SP_MQTT_5,
        .clean_start = (how & 2) != 0,
        .keep_alive = (uint16_t)(how >> 4),
        .client_id = sp_view_str((how & 4) != 0 ? "" : identity_of(seat)),
    };
    if ((how & 8) != 0) {
        packet.will =
            (struct sp_mqtt_will){.present = true,
                                  .qos = how & 1,
                                  .topic = sp_view_str(topics[moves_byte(m) % COUNT(topics)]),
                                  .payload = SP_VIEW_LIT("gone")};
        packet.will.props.present = SP_MQTT_HAS(SP_MQTT_P_WILL_DELAY);
        packet.will.props.will_delay = moves_byte(m);
    }
    if ((how & 0x10) != 0) {
        packet.props.present =
            SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY) | SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM) |
            SP_MQTT_HAS(SP_MQTT_P_MAXIMUM_PACKET_SIZE) | SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS_MAXIMUM);
        packet.props.session_expiry = moves_byte(m);
        packet.props.receive_maximum = (uint16_t)(moves_byte(m) + 1U);
        packet.props.max_packet_size = (uint32_t)moves_byte(m) * 8U + 1U;
        packet.props.topic_alias_maximum = moves_byte(m);
    }
    sp_writer_init(&w, buf, sizeof(buf));
    sp_mqtt_encode_connect(&w, &packet);
    world_say_packet(seat, &w);
}

static void subscribe(struct seat *seat, struct moves *m, enum sp_mqtt_type type)
{
    uint8_t buf[1024];
    struct sp_writer w;
    struct sp_mqtt_filter list[3];
    uint8_t count = moves_byte(m);
    uint8_t number = moves_byte(m);
    struct sp_mqtt_subscribe packet = {.packet_id = (uint16_t)(number % 8U)};
    if ((number & 0x80) != 0) {
        packet.props.present = SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID);
        packet.props.subscription_id = number;
    }
    for (size_t i = 0; i < COUNT(list); i++) {
        uint8_t which = moves_byte(m);
        uint8_t how = moves_byte(m);
        list[i] = (struct sp_mqtt_filter){.filter = sp_view_str(filters[which % COUNT(filters)]),
                                          .qos = how % 3U,
                                          .no_local = (how & 4) != 0,
                                          .retain_as_published = (how & 8) != 0,
                                          .retain_handling = (uint8_t)((how >> 4) % 3U)};
    }
    sp_writer_init(&w, buf, sizeof(buf));
    sp_mqtt_encode_subscribe(&w, (enum sp_mqtt_version)seat->client.version, type, &packet, list,
                             1U + count % COUNT(list));
    world_say_packet(seat, &w);
}

static void publish(struct seat *seat, struct moves *m)
{
    uint8_t buf[2300];
    struct sp_writer w;
    uint8_t how = moves_byte(m);
    uint8_t which = moves_byte(m);
    uint8_t number = moves_byte(m);
    struct sp_mqtt_publish packet = {.qos = how % 3U,
                                     .retain = (how & 4) != 0,
                                     .dup = (how & 8) != 0 && how % 3U != 0,
                                     .topic = sp_view_str(topics[which % COUNT(topics)]),
                                     .payload = sp_view(record, sizeof(record))};
    packet.packet_id = packet.qos == 0 ? 0 : (uint16_t)(number % 12U + 1U);
    if ((how & 0x10) != 0) {
        static const uint8_t filling[255 * 8];
        packet.payload = sp_view(filling, (size_t)number * 8U);
    }
    if ((how & 0x20) != 0) {
        packet.props.present =
            SP_MQTT_HAS(SP_MQTT_P_MESSAGE_EXPIRY) | SP_MQTT_HAS(SP_MQTT_P_RESPONSE_TOPIC) |
            SP_MQTT_HAS(SP_MQTT_P_CORRELATION_DATA) | SP_MQTT_HAS(SP_MQTT_P_CONTENT_TYPE);
        packet.props.message_expiry = number;
        packet.props.response_topic = sp_view_str(topics[number % COUNT(topics)]);
        packet.props.correlation_data = SP_VIEW_LIT("\x00\x01");
        packet.props.content_type = SP_VIEW_LIT("t");
    }
    if ((how & 0x40) != 0) {
        packet.props.present |= SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS);
        packet.props.topic_alias = (uint16_t)(number % 4U + 1U);
        packet.topic = (how & 0x80) != 0 ? sp_view(NULL, 0) : packet.topic;
    }
    sp_writer_init(&w, buf, sizeof(buf));
    sp_mqtt_encode_publish(&w, (enum sp_mqtt_version)seat->client.version, &packet);
    world_say_packet(seat, &w);
}

static void acknowledge(struct seat *seat, struct moves *m)
{
    static const enum sp_mqtt_type types[] = {SP_MQTT_PUBACK, SP_MQTT_PUBREC, SP_MQTT_PUBREL,
                                              SP_MQTT_PUBCOMP};
    uint8_t buf[64];
    struct sp_writer w;
    uint8_t how = moves_byte(m);
    struct sp_mqtt_ack packet = {.packet_id = (uint16_t)(moves_byte(m) % 12U + 1U),
                                 .reason = (how & 0x40) != 0 ? 0x97 : 0};
    packet.packet_id = (how & 0x80) != 0 ? (uint16_t)(65536U - packet.packet_id) : packet.packet_id;
    sp_writer_init(&w, buf, sizeof(buf));
    sp_mqtt_encode_ack(&w, (enum sp_mqtt_version)seat->client.version, types[how % COUNT(types)],
                       &packet);
    world_say_packet(seat, &w);
}

static void disconnect(struct seat *seat, struct moves *m)
{
    static const uint8_t reasons[] = {0x00, 0x04, 0x81, 0x98};
    uint8_t buf[64];
    struct sp_writer w;
    uint8_t how = moves_byte(m);
    struct sp_mqtt_reasoned packet = {.reason = reasons[how % COUNT(reasons)]};
    if ((how & 0x40) != 0) {
        packet.props.present = SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY);
        packet.props.session_expiry = how;
    }
    sp_writer_init(&w, buf, sizeof(buf));
    sp_mqtt_encode_reasoned(&w, (enum sp_mqtt_version)seat->client.version, SP_MQTT_DISCONNECT,
                            &packet);
    world_say_packet(seat, &w);
}

static void durable(struct moves *m)
{
    uint8_t how = moves_byte(m);
    uint64_t last = world.home.tickets.last_ticket;
    uint64_t back = (how >> 1) % 4U;
    const struct sp_msg_durable answer = {.up_to = last > back ? last - back : last,
                                          .err = (how & 1) != 0 ? SP_ERR_LIMIT : SP_OK};
    (void)!sp_tickets_durable(&world.home, &answer);
    world_turn();
}

/* What is not a packet. */
static void event(struct seat *seat, struct moves *m)
{
    uint8_t what = moves_byte(m);
    switch (what % 9U) {
    case 0:
        durable(m);
        break;
    case 1:
        world_pass((uint64_t)moves_byte(m) * ((what & 0x80) != 0 ? 1000U : 10U));
        break;
    case 2:
        sp_route_command(&world.home, sp_view_str((what & 0x40) != 0 ? "down/c/z" : "down/a/x"),
                         sp_view(record, sizeof(record)), (what & 0x80) != 0 ? 1 : 0, 5);
        break;
    case 3:
        sp_home_revoke(&world.home, sp_view_str(identities[(what >> 4) % COUNT(identities)]),
                       what >> 6);
        break;
    case 4:
        sp_tickets_lost(&world.home);
        sp_keep_lost(&world.home);
        world.home.tickets.store.send = NULL;
        break;
    case 5:
        sp_tickets_connected(&world.home, &(const struct sp_edge){world_store, NULL});
        sp_keep_connected(&world.home);
        break;
    case 6:
        world.home.tickets.pressure = (what >> 4) % 3U;
        break;
    case 7:
        sp_home_configure(&world.home, (what & 0x80) != 0 ? &narrow : &config);
        break;
    default:
        if (seat->taken) {
            sp_client_work(&seat->client)->unsent.used = (what & 0x80) != 0 ? 1000000U : 0;
            sp_client_writable(&seat->client);
        }
        break;
    }
    world_turn();
}

static void move(struct moves *m)
{
    uint8_t what = moves_byte(m);
    struct seat *seat = &world.seats[(what >> 4) % WORLD_SEATS];
    if (what % 10U == 0) {
        connect_seat(seat, m);
        return;
    }
    if (what % 10U == 1 && seat->taken) {
        sp_client_lost(&seat->client);
        world_leave(seat);
        return;
    }
    if (what % 10U == 2) {
        world_say(seat, moves_bytes(m, moves_byte(m)));
        return;
    }
    if (what % 10U == 3) {
        event(seat, m);
        return;
    }
    if (!seat->taken || seat->client.version == 0) {
        return;
    }
    switch (what % 10U) {
    case 4:
        subscribe(seat, m, SP_MQTT_SUBSCRIBE);
        break;
    case 5:
        subscribe(seat, m, SP_MQTT_UNSUBSCRIBE);
        break;
    case 6:
    case 7:
        publish(seat, m);
        break;
    case 8:
        acknowledge(seat, m);
        break;
    default:
        disconnect(seat, m);
        break;
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct moves m = {data, size};
    narrow = config;
    narrow.role_count = 2;
    narrow.cloud.enabled = false;
    narrow.limits.subscriptions = 1;
    if (size > 2000 || !world_begin(&config, (struct sp_edge){nobody, NULL})) {
        return 0;
    }
    world.heard = heard;
    while (m.left > 0) {
        move(&m);
    }
    world_end();
    return 0;
}
