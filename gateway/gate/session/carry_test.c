/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Devices go from one world to another: what they are afterwards, and what becomes of items that nobody wrote. */
#include "gateway/gate/session/carry.h"
#include "gateway/gate/session/world_test.h"
#include "gateway/log/log.h"
#include "gateway/slab/starve_test.h"

#include <sys/socket.h>

#define CONNECTION "the owner's part"
#define MOST       8 /* clients that arrive */

/* What was read into the new world. */
struct arrival {
    struct sp_carry_in in;
    struct peer *peers[MOST];
    size_t count;
    bool whole; /* the owner's part came with it */
    enum sp_err err;
};

static struct sp_writer wrote(uint8_t *buf, size_t cap)
{
    struct sp_writer out;
    sp_writer_init(&out, buf, cap);
    return out;
}

static void say_ack(struct peer *peer, enum sp_mqtt_type type, uint16_t id)
{
    uint8_t buf[16];
    struct sp_writer out = wrote(buf, sizeof(buf));
    const struct sp_mqtt_ack packet = {.packet_id = id};
    sp_mqtt_encode_ack(&out, peer->version, type, &packet);
    say(peer, &out);
}

static struct peer *lasting(const char *identity)
{
    config.cloud.enabled = false;
    struct peer *peer = dial(identity, client_name, SP_ATTESTATION_NONE);
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    packet.clean_start = false;
    packet.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY);
    packet.props.session_expiry = 100;
    packet.will = (struct sp_mqtt_will){.present = true,
                                        .topic = SP_VIEW_LIT("news/lost"),
                                        .payload = sp_view_str(identity),
                                        .qos = 1};
    say_connect(peer, &packet);
    SP_CHECK_INT(connack_code(peer), 0);
    return peer;
}

/* ---- from one world to the other ---- */

static enum sp_err take_device(struct arrival *a, struct sp_view body)
{
    struct sp_carried carried;
    if (sp_carry_identity(body).len == 0) {
        return SP_ERR_MALFORMED;
    }
    SP_TRY(sp_carry_read_device(&a->in, &w->home, body, &carried));
    if (carried.client.len == 0) {
        return SP_OK;
    }
    struct peer *peer = a->count < MOST ? sp_slab_take(&peer_slab) : NULL;
    if (peer == NULL) {
        return SP_ERR_NOMEM;
    }
    enum sp_err err = sp_client_init(&peer->client, &w->home);
    if (err != SP_OK) {
        sp_client_free_work(&peer->client);
        sp_slab_give(&peer_slab, peer);
        return err;
    }
    a->peers[a->count++] = peer;
    SP_TRY(sp_carry_read_client(&a->in, &peer->client, &carried));
    a->whole = sp_view_equal(carried.connection, sp_view_str(CONNECTION));
    peer->version = (enum sp_mqtt_version)peer->client.version;
    return SP_OK;
}

static enum sp_err take_item(struct arrival *a, uint8_t type, struct sp_view body)
{
    switch (type) {
    case SP_CARRY_MAIL:
        return sp_carry_read_mail(&a->in, body);
    case SP_CARRY_MARK:
        return sp_carry_read_mark(&w->home, body);
    case SP_CARRY_RETAINED:
        return sp_carry_read_retained(&a->in, &w->home, body);
    case SP_CARRY_DEVICE:
        return take_device(a, body);
    default:
        return SP_ERR_MALFORMED;
    }
}

static void take_items(struct arrival *a, struct sp_view items)
{
    *a = (struct arrival){.err = SP_OK};
    config.cloud.enabled = false;
    while (a->err == SP_OK && items.len > 0) {
        struct sp_reader r;
        sp_reader_init(&r, items);
        uint8_t type = sp_read_u8(&r);
        struct sp_view body = sp_read_bytes(&r, sp_read_u32(&r));
        a->err = r.err == SP_OK ? take_item(a, type, body) : r.err;
        items = sp_view_from(items, SP_CARRY_HEADER + body.len);
    }
    if (a->err == SP_OK) {
        sp_home_configure(&w->home, &config);
    }
}

/* Another gateway takes all of it. */
static void arrive(struct arrival *a, const struct sp_carry_out *out)
{
    begin();
    take_items(a, sp_buf_view(&out->buf));
    SP_CHECK_INT(a->err, SP_OK);
}

static void leave(struct arrival *a)
{
    for (size_t i = 0; i < a->count; i++) {
        hang_up(a->peers[i]);
    }
    end();
    sp_carry_in_deinit(&a->in); /* after an error, sessions have roles out of it */
}

/* Write every device of this world; the clients of those that `stay` as if their connections stayed behind. */
static void write_devices(struct sp_carry_out *out, bool stay)
{
    const struct sp_table_node *node = NULL;
    *out = (struct sp_carry_out){.mails = 0};
    while ((node = sp_table_each(&w->home.devices, node)) != NULL) {
        const struct sp_device *device = (const struct sp_device *)node;
        (void)sp_carry_device(out, device, stay ? NULL : sp_device_client(device),
                              sp_view_str(CONNECTION));
    }
}

static void write_all(struct sp_carry_out *out, bool stay)
{
    write_devices(out, stay);
    SP_CHECK(!out->failed);
}

/* ---- tests ---- */

static unsigned hear_number(struct peer *peer, const char *payload)
{
    struct sp_mqtt_publish publish = {.qos = 0};
    SP_CHECK_CASE(hear_publish(peer, &publish) && is(publish.payload, payload), payload);
    return publish.packet_id;
}

/* One that is connected, with three messages in flight and one that waits. */
static void write_busy(struct sp_carry_out *out)
{
    begin();
    struct peer *peer = lasting("reader");
    struct peer *writer = tool("writer", true);
    SP_CHECK_INT(subscribe(peer, "news/#", 1), 1);
    const char *const texts[] = {"one", "two", "three", "four"};
    for (uint16_t i = 0; i < 4; i++) {
        say_publish(writer, "news/x", texts[i], 1, (uint16_t)(i + 1));
        SP_CHECK_INT(puback(writer, (uint16_t)(i + 1)), 0);
    }
    hang_up(writer);
    for (unsigned i = 0; i < 3; i++) {
        SP_CHECK_INT(hear_number(peer, texts[i]), i + 1);
    }
    sp_client_input(&peer->client, SP_VIEW_LIT("\xC0")); /* half of a PINGREQ */
    write_all(out, false);
    hang_up(peer);
    end();
}

static void a_connected_client_goes_on_where_it_was(void)
{
    struct sp_carry_out out;
    struct arrival a;
    struct sp_view body;
    write_busy(&out);
    SP_CHECK_INT(out.mails, 5); /* and the will */
    arrive(&a, &out);
    SP_CHECK(a.count == 1 && a.whole);
    struct peer *peer = a.peers[0];
    turn();
    SP_CHECK_INT(peer->len, 0); /* nothing is said again */
    sp_client_input(&peer->client, sp_view("\0", 1));
    turn();
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PINGRESP);
    say_puback(peer, 2);
    SP_CHECK_INT(hear_number(peer, "four"),
                 4); /* the window has room again, and the next id is in turn */
    struct peer *writer = tool("writer", true);
    say_publish(writer, "news/x", "five", 1, 1);
    SP_CHECK_INT(puback(writer, 1), 0);
    say_puback(peer, 1);
    SP_CHECK_INT(hear_number(peer, "five"), 5);
    SP_CHECK_INT(subscribe(writer, "news/lost", 1), 1);
    sp_client_lost(&peer->client);
    turn();
    (void)hear_number(writer, "reader"); /* its will */
    hang_up(writer);
    leave(&a);
    sp_carry_out_deinit(&out);
}

static void a_client_that_stays_behind_finds_its_session(void)
{
    struct sp_carry_out out;
    struct arrival a;
    begin();
    struct peer *peer = lasting("reader");
    struct peer *writer = tool("writer", true);
    SP_CHECK_INT(subscribe(peer, "news/#", 1), 1);
    say_publish(writer, "news/x", "one", 1, 1);
    hang_up(writer);
    SP_CHECK_INT(hear_number(peer, "one"), 1);
    write_all(&out, true);
    hang_up(peer);
    end();
    arrive(&a, &out);
    SP_CHECK_INT(a.count, 0);
    pass(99000);
    peer = lasting("reader");
    SP_CHECK_INT(hear_number(peer, "one"), 1); /* again, with its id */
    hang_up(peer);
    pass(100000);
    SP_CHECK(sp_device_find(&w->home, SP_VIEW_LIT("reader")) == NULL);
    leave(&a);
    sp_carry_out_deinit(&out);
}

/* One of IPv4 lies in the client, any other beside it. */
static void a_peers_address_goes_along_whatever_its_family(void)
{
    static const struct sp_peer peers[] = {
        {.family = AF_INET, .port = 4711, .address = {192, 0, 2, 1}},
        {.family = AF_INET6, .port = 65535, .address = {0x20, 1, 0xd, 0xb8, [15] = 1}},
    };
    static const char *const texts[] = {"192.0.2.1:4711", "[2001:db8::1]:65535"};
    for (size_t i = 0; i < 2; i++) {
        struct sp_carry_out out;
        struct arrival a;
        char text[SP_PEER_TEXT_MAX];
        begin();
        struct peer *peer = lasting("reader");
        SP_CHECK_INT(sp_client_set_peer(&peer->client, &peers[i]), SP_OK);
        write_all(&out, false);
        hang_up(peer);
        end();
        arrive(&a, &out);
        SP_CHECK_INT(a.count, 1);
        SP_CHECK_CASE(strcmp(sp_client_peer_text(&a.peers[0]->client, text), texts[i]) == 0, text);
        leave(&a);
        sp_carry_out_deinit(&out);
    }
}

static void qos_2_goes_on_in_both_directions(void)
{
    struct sp_carry_out out;
    struct arrival a;
    struct sp_view body;
    begin();
    struct peer *peer = lasting("reader");
    SP_CHECK_INT(subscribe(peer, "news/#", 2), 2);
    say_publish(peer, "news/x", "one", 2,
                7); /* to itself: taken, not released; and on its way out */
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBLISH);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBREC);
    say_ack(peer, SP_MQTT_PUBREC, 1);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBREL);
    write_all(&out, false);
    hang_up(peer);
    end();
    arrive(&a, &out);
    peer = a.peers[0];
    say_publish(peer, "news/x", "one", 2, 7); /* a repeat */
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBREC);
    say_ack(peer, SP_MQTT_PUBREL, 7);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBCOMP);
    say_ack(peer, SP_MQTT_PUBCOMP, 1);
    SP_CHECK(sp_session_queue(sp_client_session(&peer->client))->first == NULL);
    leave(&a);
    sp_carry_out_deinit(&out);
}

static void say_alias(struct peer *peer, const char *topic, uint16_t id)
{
    uint8_t buf[200];
    struct sp_writer out = wrote(buf, sizeof(buf));
    struct sp_mqtt_publish packet = {
        .qos = 1, .packet_id = id, .topic = sp_view_str(topic), .payload = SP_VIEW_LIT("x")};
    packet.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS);
    packet.props.topic_alias = 1;
    sp_mqtt_encode_publish(&out, SP_MQTT_5, &packet);
    say(peer, &out);
}

static void topic_aliases_keep_their_meaning(void)
{
    struct sp_carry_out out;
    struct arrival a;
    begin();
    struct peer *peer = lasting("speaker");
    say_alias(peer, "news/x", 1);
    SP_CHECK_INT(puback(peer, 1), SP_MQTT_RC_SUCCESS);
    SP_CHECK_INT(subscribe(peer, "news/#", 1), 1);
    write_all(&out, false);
    hang_up(peer);
    end();
    arrive(&a, &out);
    say_alias(a.peers[0], "", 2);
    struct sp_mqtt_publish publish = {.qos = 0};
    SP_CHECK(hear_publish(a.peers[0], &publish) && is(publish.topic, "news/x"));
    SP_CHECK_INT(puback(a.peers[0], 2), SP_MQTT_RC_SUCCESS);
    leave(&a);
    sp_carry_out_deinit(&out);
}

static void who_is_held_back_for_its_message_rate_goes_on_with_what_it_had_said(void)
{
    struct sp_carry_out out;
    struct arrival a;
    begin();
    roles[2].message_rate = 1;
    roles[2].message_burst = 2;
    struct peer *peer = lasting("speaker");
    SP_CHECK_INT(subscribe(peer, "news/#", 0), 0);
    for (int i = 0; i < 5; i++) {
        say_publish(peer, "news/x", "x", 0, 0);
    }
    SP_CHECK(!sp_client_reads(&peer->client));
    write_all(&out, false);
    hang_up(peer);
    end();
    arrive(&a, &out);
    for (unsigned i = 0; i < 3; i++) { /* its bucket is full again, and for the third it waits */
        struct sp_mqtt_publish publish = {.qos = 1};
        turn();
        if (i == 2) {
            SP_CHECK(!hear_publish(a.peers[0], &publish) && !sp_client_reads(&a.peers[0]->client));
            pass(1000);
        }
        SP_CHECK(hear_publish(a.peers[0], &publish) && is(publish.topic, "news/x"));
    }
    roles[2].message_rate = 0;
    leave(&a);
    sp_carry_out_deinit(&out);
}

static void a_role_that_is_gone_closes_its_device(void)
{
    struct sp_carry_out out;
    struct arrival a;
    write_busy(&out);
    begin();
    config.role_count = 2;
    take_items(&a, sp_buf_view(&out.buf));
    config.role_count = 3;
    SP_CHECK_INT(a.err, SP_OK);
    turn();
    SP_CHECK_INT(disconnect_code(a.peers[0]), SP_MQTT_RC_ADMINISTRATIVE_ACTION);
    leave(&a);
    sp_carry_out_deinit(&out);
}

static void counters_of_records_are_kept(void)
{
    struct sp_carry_out out = {.mails = 0};
    struct arrival a;
    struct sp_view device = SP_VIEW_LIT("dev");
    struct sp_view group = SP_VIEW_LIT("hall");
    begin();
    struct sp_mark *mark = sp_marks_get(&w->home.marks, device, group, 3);
    mark->counter = 77;
    mark->fed = 78;
    sp_carry_mark(&out, mark);
    end();
    arrive(&a, &out);
    mark = sp_marks_find(&w->home.marks, device, group, 3);
    SP_CHECK(mark != NULL && mark->counter == 77 && mark->fed == 78 && mark->pending == 0);
    leave(&a);
    sp_carry_out_deinit(&out);
}

static void what_is_cut_short_is_refused(void)
{
    struct sp_carry_out out;
    struct arrival a;
    write_busy(&out);
    for (size_t cut = 1; cut < out.buf.used; cut++) {
        begin();
        take_items(&a, sp_view_first(sp_buf_view(&out.buf), out.buf.used - cut));
        SP_CHECK(a.err != SP_OK ||
                 a.count == 0); /* between two items nothing is wrong but the end */
        leave(&a);
    }
    sp_carry_out_deinit(&out);
}

/* Take what was written with its byte `at` changed, in three ways. */
static void take_changed(struct sp_carry_out *out, size_t at)
{
    static const uint8_t changes[] = {0x01, 0x80, 0xFF};
    struct arrival a;
    for (size_t i = 0; i < sizeof(changes); i++) {
        out->buf.ptr[at] ^= changes[i];
        begin();
        take_items(&a, sp_buf_view(&out->buf));
        if (a.err == SP_OK) {
            pass(1000);
        }
        leave(&a);
        out->buf.ptr[at] ^= changes[i];
    }
}

/* Whatever is changed: it is refused, or it is something that could have been written. */
static void what_is_changed_does_no_harm(void)
{
    struct sp_carry_out out;
    write_busy(&out);
    for (size_t at = 0; at < out.buf.used; at++) {
        take_changed(&out, at);
    }
    sp_carry_out_deinit(&out);
}

/* ---- a world with something of everything ---- */

static struct peer *there[4];

static void say_filter(struct peer *peer, const char *filter)
{
    uint8_t buf[200];
    struct sp_view body;
    struct sp_writer out = wrote(buf, sizeof(buf));
    struct sp_mqtt_subscribe packet = {.packet_id = 78};
    const struct sp_mqtt_filter one = {.filter = sp_view_str(filter), .qos = 2};
    packet.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID);
    packet.props.subscription_id = 9;
    sp_mqtt_encode_subscribe(&out, SP_MQTT_5, SP_MQTT_SUBSCRIBE, &packet, &one, 1);
    say(peer, &out);
    enum sp_mqtt_type type;
    while ((type = hear(peer, &body).type) != SP_MQTT_SUBACK && type != 0) {
    }
    SP_CHECK_INT(type, SP_MQTT_SUBACK);
}

static void to_be_missed(struct sp_mqtt_connect *packet)
{
    packet->props.present |= (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY);
    packet->props.session_expiry = 100;
    packet->will = (struct sp_mqtt_will){
        .present = true, .topic = SP_VIEW_LIT("own/lost"), .payload = SP_VIEW_LIT("w"), .qos = 1};
    packet->will.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_WILL_DELAY);
    packet->will.props.will_delay = 50;
}

/* Retained messages, more than a queue takes: the rest waits for its turn. */
static void retain_some(struct peer *writer)
{
    uint8_t buf[512];
    char payload[251];
    char topic[32];
    memset(payload, 'x', 250);
    payload[250] = '\0';
    for (int i = 0; i < 10; i++) {
        snprintf(topic, sizeof(topic), "kept/%d", i);
        struct sp_writer out = wrote(buf, sizeof(buf));
        const struct sp_mqtt_publish packet = {.qos = 1,
                                               .packet_id = 1,
                                               .retain = true,
                                               .topic = sp_view_str(topic),
                                               .payload = sp_view_str(payload)};
        sp_mqtt_encode_publish(&out, SP_MQTT_311, &packet);
        say(writer, &out);
        SP_CHECK_INT(puback(writer, 1), 0);
    }
}

/* Blocked, and nothing else is known of it. */
static void be_refused(const char *identity)
{
    for (int i = 0; i < 2; i++) {
        struct peer *peer = dial(identity, sensor_name, SP_ATTESTATION_REQUIRED);
        struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
        present_token(peer, &packet);
        judge(peer, SP_ATTEST_FORM);
        hang_up(peer);
    }
}

static void open_rich(void)
{
    begin();
    sp_log_init("test", SP_LOG_ERROR);
    there[0] = lasting("reader");
    struct peer *writer = tool("writer", true);
    retain_some(writer);
    say_filter(there[0], "news/#");
    say_filter(there[0], "$share/g/shared/+");
    say_alias(there[0], "own/x", 9);
    SP_CHECK_INT(puback(there[0], 9), SP_MQTT_RC_SUCCESS);
    say_publish(there[0], "own/x", "taken", 2, 8);
    say_publish(writer, "shared/1", "of the group", 1, 2);
    say_publish(writer, "news/x", "one", 2, 3);
    say_filter(there[0], "kept/#");
    there[1] = admitted_with("attested", client_name, to_be_missed);
    const struct sp_msg_nonce_answer nonce = {.ok = 1};
    sp_home_reattest(&w->home);
    sp_guard_nonce(&there[1]->client, &nonce);
    sp_client_grant(&there[1]->client, SP_VIEW_LIT("a grant"));
    sp_client_grant(&there[1]->client, SP_VIEW_LIT("a newer grant"));
    there[2] = tool("brief", true);
    hang_up(admitted_with("missed", client_name, to_be_missed));
    hang_up(writer);
    be_refused("refused");
    sp_client_input(&there[0]->client, SP_VIEW_LIT("\xC0"));
}

static void close_rich(void)
{
    for (int i = 0; i < 3; i++) {
        hang_up(there[i]);
    }
    end();
}

static void write_one_retained(void *arg, struct sp_view owner, struct sp_mail *message)
{
    sp_carry_retained(arg, owner, message);
}

static void write_rich(struct sp_carry_out *out, bool stay)
{
    write_devices(out, stay);
    sp_retained_each(w->home.retained, write_one_retained, out);
}

static struct peer *arrived(struct arrival *a, const char *identity)
{
    for (size_t i = 0; i < a->count; i++) {
        if (is(sp_client_identity(&a->peers[i]->client), identity)) {
            return a->peers[i];
        }
    }
    return NULL;
}

static void all_that_is_known_of_devices_goes_along(void)
{
    struct sp_carry_out out;
    struct arrival a;
    struct sp_mqtt_publish got;
    open_rich();
    write_rich(&out, false);
    SP_CHECK(!out.failed);
    close_rich();
    arrive(&a, &out);
    SP_CHECK_INT(a.count, 3);
    SP_CHECK_INT(sp_retained_count(w->home.retained), 10);
    struct peer *reader = arrived(&a, "reader");
    int more = 0;
    sp_client_input(&reader->client, sp_view("\0", 1)); /* the other half */
    for (uint16_t id = 1; id < 40; id++) { /* what was in flight there is acknowledged here */
        say_ack(reader, SP_MQTT_PUBREC, id);
        say_ack(reader, SP_MQTT_PUBCOMP, id);
        say_puback(reader, id);
        enum sp_mqtt_type type;
        while ((type = hear(reader, &(struct sp_view){NULL, 0}).type) != 0) {
            more += type == SP_MQTT_PUBLISH;
        }
    }
    SP_CHECK_INT(more, 9); /* one of the ten was in flight */
    SP_CHECK(sp_session_queue(sp_client_session(&reader->client))->first == NULL);
    SP_CHECK(sp_client_session(&reader->client)->more != NULL); /* one of its own is not released */
    SP_CHECK(sp_device_blocked(sp_device_find(&w->home, SP_VIEW_LIT("refused"))));
    struct peer *watcher = tool("watcher", true);
    SP_CHECK_INT(subscribe(watcher, "own/lost", 1), 1);
    pass(49000);
    SP_CHECK_INT(watcher->len, 0);
    pass(2000);
    SP_CHECK(hear_publish(watcher, &got) && is(got.payload, "w")); /* of the one that is missed */
    hang_up(watcher);
    leave(&a);
    sp_carry_out_deinit(&out);
}

static void changes_in_what_rich_devices_left_do_no_harm(void)
{
    struct sp_carry_out out;
    open_rich();
    write_rich(&out, false);
    close_rich();
    for (size_t at = 0; at < out.buf.used; at++) {
        bool filler = at > 0 && out.buf.ptr[at] == 'x' && out.buf.ptr[at - 1] == 'x';
        if (!filler) {
            take_changed(&out, at);
        }
    }
    sp_carry_out_deinit(&out);
}

static void without_memory_to_write_everybody_stays(void)
{
    open_rich();
    for (int stay = 0; stay < 2; stay++) {
        uint64_t failed = 1;
        int64_t before = starve_live();
        for (uint64_t nth = 1; failed > 0; nth++) {
            struct sp_carry_out out;
            starve(nth, 1);
            write_rich(&out, stay == 1);
            failed = starve_end();
            SP_CHECK_INT(out.failed, failed > 0);
            sp_carry_out_deinit(&out);
            SP_CHECK_INT(starve_live(), before);
        }
    }
    close_rich();
}

static void without_memory_to_read_nothing_is_left_behind(void)
{
    struct sp_carry_out out;
    struct arrival a;
    uint64_t failed = 1;
    open_rich();
    write_rich(&out, false);
    close_rich();
    for (uint64_t nth = 1; failed > 0; nth++) {
        int64_t before = starve_live();
        begin();
        starve(nth, 1);
        take_items(&a, sp_buf_view(&out.buf));
        failed = starve_end();
        SP_CHECK_INT(a.err != SP_OK, failed > 0);
        leave(&a);
        SP_CHECK_INT(starve_live(), before);
    }
    sp_carry_out_deinit(&out);
}

/* One item of a device, as somebody else may have written it. */
static enum sp_err read_device(uint8_t has, struct sp_view rest)
{
    struct sp_carry_out out = {.mails = 0};
    struct arrival a;
    size_t begun = sp_carry_begin(&out, SP_CARRY_DEVICE);
    sp_carry_block(&out, SP_VIEW_LIT("dev"));
    sp_carry_number(&out, has, 1);
    SP_CHECK_INT(sp_buf_append(&out.buf, rest), SP_OK);
    sp_carry_end(&out, begun);
    begin();
    take_items(&a, sp_buf_view(&out.buf));
    leave(&a);
    sp_carry_out_deinit(&out);
    return a.err;
}

static void a_device_of_which_nothing_is_left_is_not_written_nor_read(void)
{
    struct sp_carry_out out = {.mails = 0};
    begin();
    struct peer *brief = tool("brief", true);
    SP_CHECK(!sp_carry_device(&out, sp_client_device(&brief->client), NULL, SP_VIEW_LIT("")));
    SP_CHECK_INT(out.buf.used, 0);
    hang_up(brief);
    end();
    SP_CHECK_INT(read_device(0, SP_VIEW_LIT("")), SP_ERR_MALFORMED);
    SP_CHECK_INT(read_device(2, SP_VIEW_LIT("")), SP_ERR_MALFORMED); /* a client, and no session */
    SP_CHECK(read_device(4, SP_VIEW_LIT("\xFF\xFF\xFF")) != SP_OK);
}

static const struct sp_test tests[] = {
    SP_TEST(a_connected_client_goes_on_where_it_was),
    SP_TEST(a_client_that_stays_behind_finds_its_session),
    SP_TEST(a_peers_address_goes_along_whatever_its_family),
    SP_TEST(qos_2_goes_on_in_both_directions),
    SP_TEST(topic_aliases_keep_their_meaning),
    SP_TEST(who_is_held_back_for_its_message_rate_goes_on_with_what_it_had_said),
    SP_TEST(a_role_that_is_gone_closes_its_device),
    SP_TEST(counters_of_records_are_kept),
    SP_TEST(what_is_cut_short_is_refused),
    SP_TEST(what_is_changed_does_no_harm),
    SP_TEST(all_that_is_known_of_devices_goes_along),
    SP_TEST(changes_in_what_rich_devices_left_do_no_harm),
    SP_TEST(without_memory_to_write_everybody_stays),
    SP_TEST(without_memory_to_read_nothing_is_left_behind),
    SP_TEST(a_device_of_which_nothing_is_left_is_not_written_nor_read),
};
SP_TEST_MAIN(tests)
