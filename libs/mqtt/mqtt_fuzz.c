/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* Whatever decodes must encode again to something that decodes to the same. The first byte chooses the
 * version, or the client as the one who reads. */
#include "libs/mqtt/any_packet_test.h"
#include "libs/mqtt/client.h"
#include "libs/mqtt/topic.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static uint8_t encoded[2000000];

static void require(bool condition)
{
    if (!condition) {
        abort();
    }
}

static void try_codec(enum sp_mqtt_version version, struct sp_view in)
{
    struct any_packet first;
    struct any_packet second;
    struct sp_writer w;
    if (any_decode(version, in, &first) != SP_OK) {
        return;
    }
    bool filters = first.type == SP_MQTT_SUBSCRIBE || first.type == SP_MQTT_UNSUBSCRIBE;
    if (filters && first.subscribe.filter_count > ANY_FILTERS) {
        return;
    }
    sp_writer_init(&w, encoded, sizeof(encoded));
    any_encode(&w, version, &first);
    require(w.err == SP_OK);
    require(any_decode(version, sp_writer_view(&w), &second) == SP_OK);
    require(second.size == w.used);
    require(any_equal(&first, &second));
    if (first.type == SP_MQTT_PUBLISH) {
        require(sp_mqtt_publish_size(version, &first.publish) == w.used);
    }
}

/* A client with two messages and a subscription under way reads what a hostile server sends. */
static void try_client(enum sp_mqtt_version version, bool up, struct sp_view in)
{
    struct sp_mqtt_slot slots[2];
    struct sp_mqtt_client_opts opts = {.slots = slots, .slot_count = 2, .max_packet = 4096};
    struct sp_mqtt_connect connect = {.version = version};
    struct sp_mqtt_publish message = {.qos = 1, .topic = SP_VIEW_INIT("t")};
    struct sp_mqtt_filter filter = {.filter = SP_VIEW_INIT("f"), .qos = 1};
    struct sp_view connack =
        version == SP_MQTT_5 ? SP_VIEW_LIT("\x20\x03\0\0\0") : SP_VIEW_LIT("\x20\x02\0\0");
    struct sp_mqtt_client c;
    struct sp_mqtt_event event;
    struct sp_writer w;
    size_t used = 0;
    uint16_t id;
    connect.props.present = SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD);
    connect.props.auth_method = SP_VIEW_LIT("m");
    sp_writer_init(&w, encoded, sizeof(encoded));
    require(sp_mqtt_client_init(&c, &opts) == SP_OK);
    require(sp_mqtt_client_connect(&c, 0, &connect, &w) == SP_OK);
    if (up) {
        require(sp_mqtt_client_input(&c, 0, connack, &used, &event) == SP_OK);
        require(sp_mqtt_client_publish(&c, 0, &message, 1, &w) == SP_OK);
        require(sp_mqtt_client_publish(&c, 0, &message, 2, &w) == SP_OK);
        require(sp_mqtt_client_subscribe(&c, 0, &filter, 1, &w, &id) == SP_OK);
    }
    enum sp_err err = SP_OK;
    while ((err = sp_mqtt_client_input(&c, 0, in, &used, &event)) == SP_OK) {
        require(used > 0 && used <= in.len);
        in = sp_view_from(in, used);
    }
    require(err != SP_ERR_AGAIN || (used > in.len && used <= opts.max_packet));
    require(sp_mqtt_client_window(&c) <= 2);
}

static void try_topics(struct sp_view in)
{
    struct sp_view a = sp_view_first(in, in.len / 2);
    struct sp_view b = sp_view_from(in, in.len / 2);
    struct sp_view name;
    struct sp_view inner;
    if (sp_topic_name_valid(a)) {
        require(sp_utf8_valid(a) && sp_topic_filter_valid(a) && sp_topic_matches(a, a));
    }
    if (sp_topic_filter_valid(a) && sp_topic_filter_valid(b)) {
        require(sp_topic_covers(a, a) && sp_topic_overlaps(a, a));
        require(sp_topic_overlaps(a, b) == sp_topic_overlaps(b, a));
        require(!sp_topic_covers(a, b) || sp_topic_overlaps(a, b));
    }
    if (sp_topic_share(a, &name, &inner) == SP_OK) {
        require(name.len > 0 && sp_topic_filter_valid(inner));
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size == 0) {
        return 0;
    }
    struct sp_view in = sp_view_from(sp_view(data, size), 1);
    enum sp_mqtt_version version = (data[0] & 1) != 0 ? SP_MQTT_5 : SP_MQTT_311;
    switch (data[0] >> 1 & 3) {
    case 0:
    case 1:
        try_codec(version, in);
        break;
    case 2:
        try_client(version, (data[0] & 8) != 0, in);
        break;
    default:
        try_topics(in);
        break;
    }
    return 0;
}
