/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Devices go from one world to another: what they are afterwards, and what becomes of items that nobody wrote. */
#include "gateway/gate/session/carry.h"
#include "gateway/gate/session/world_test.h"

#define CONNECTION "the owner's part"

/* What was read into the new world. */
struct arrival {
    struct sp_carry_in in;
    struct peer *peers[4];
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
    struct peer *peer = calloc(1, sizeof(*peer));
    a->peers[a->count++] = peer;
    SP_CHECK_INT(sp_client_init(&peer->client, &w->home), SP_OK);
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
    sp_carry_in_deinit(&a->in);
}

static void leave(struct arrival *a)
{
    for (size_t i = 0; i < a->count; i++) {
        hang_up(a->peers[i]);
    }
    end();
}

/* Write every device of this world; the clients of those that `stay` as if their connections stayed behind. */
static void write_all(struct sp_carry_out *out, bool stay)
{
    const struct sp_table_node *node = NULL;
    *out = (struct sp_carry_out){.mails = 0};
    while ((node = sp_table_each(&w->home.devices, node)) != NULL) {
        const struct sp_device *device = (const struct sp_device *)node;
        (void)sp_carry_device(out, device, stay ? NULL : device->client, sp_view_str(CONNECTION));
    }
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
    begin();
    take_items(&a, sp_buf_view(&out.buf));
    SP_CHECK_INT(a.err, SP_OK);
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
    begin();
    take_items(&a, sp_buf_view(&out.buf));
    SP_CHECK_INT(a.err, SP_OK);
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
    begin();
    take_items(&a, sp_buf_view(&out.buf));
    SP_CHECK_INT(a.err, SP_OK);
    peer = a.peers[0];
    say_publish(peer, "news/x", "one", 2, 7); /* a repeat */
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBREC);
    say_ack(peer, SP_MQTT_PUBREL, 7);
    SP_CHECK_INT(hear(peer, &body).type, SP_MQTT_PUBCOMP);
    say_ack(peer, SP_MQTT_PUBCOMP, 1);
    SP_CHECK(sp_session_queue(peer->client.session)->first == NULL);
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
    begin();
    take_items(&a, sp_buf_view(&out.buf));
    SP_CHECK_INT(a.err, SP_OK);
    say_alias(a.peers[0], "", 2);
    struct sp_mqtt_publish publish = {.qos = 0};
    SP_CHECK(hear_publish(a.peers[0], &publish) && is(publish.topic, "news/x"));
    SP_CHECK_INT(puback(a.peers[0], 2), SP_MQTT_RC_SUCCESS);
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
    begin();
    take_items(&a, sp_buf_view(&out.buf));
    SP_CHECK_INT(a.err, SP_OK);
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

/* Whatever is changed: it is refused, or it is something that could have been written. */
static void what_is_changed_does_no_harm(void)
{
    struct sp_carry_out out;
    struct arrival a;
    write_busy(&out);
    for (size_t at = 0; at < out.buf.used; at++) {
        static const uint8_t changes[] = {0x01, 0x80, 0xFF};
        for (size_t i = 0; i < sizeof(changes); i++) {
            out.buf.ptr[at] ^= changes[i];
            begin();
            take_items(&a, sp_buf_view(&out.buf));
            if (a.err == SP_OK) {
                pass(1000);
            }
            leave(&a);
            out.buf.ptr[at] ^= changes[i];
        }
    }
    sp_carry_out_deinit(&out);
}

static const struct sp_test tests[] = {
    SP_TEST(a_connected_client_goes_on_where_it_was),
    SP_TEST(a_client_that_stays_behind_finds_its_session),
    SP_TEST(qos_2_goes_on_in_both_directions),
    SP_TEST(topic_aliases_keep_their_meaning),
    SP_TEST(a_role_that_is_gone_closes_its_device),
    SP_TEST(counters_of_records_are_kept),
    SP_TEST(what_is_cut_short_is_refused),
    SP_TEST(what_is_changed_does_no_harm),
};
SP_TEST_MAIN(tests)
