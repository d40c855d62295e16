/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The cloud: an MQTT server that writes down what comes, and is not always in a good mood. */
#include "tests/sim/run.h"

#include <stdlib.h>
#include <string.h>

#define LINKS_MAX   16U
#define PENDING_MAX 512U
#define REPEATS_MAX 256U /* D5 */

/* Chances per mille, and delays. Zeroed = well. */
struct mood {
    bool away;
    bool mute;
    uint32_t ack_us; /* an acknowledgement takes up to so long */
    uint32_t refuse_later;
    uint32_t ack_twice;
    uint32_t ack_odd;
    uint32_t refuse_connect;
    uint32_t disconnect;
    uint32_t reset;
    uint16_t window;
};

/* A PUBLISH that waits for its acknowledgement. */
struct pending {
    struct sim_message *message;
    uint64_t sequence;
    uint16_t packet_id;
};

struct link {
    struct sim_end *end; /* NULL: free */
    bool greeted;
    char client_id[32];
    uint16_t window;
    uint32_t repeats;
    uint32_t count;
    struct sim_timer timer;
    struct pending pending[PENDING_MAX];
    uint64_t latest[SIM_DEVICES_MAX]; /* sequence on this connection */
};

static struct mood mood;
static struct link links[LINKS_MAX];

static enum sp_mqtt_version version(void)
{
    return sim_plan.cloud_5 ? SP_MQTT_5 : SP_MQTT_311;
}

static void hang_up(struct link *l, bool by_us, bool reset)
{
    if (by_us) {
        sim_trace("cloud", reset ? "resets" : "hangs up");
        sim_ledger_hangup();
    }
    if (reset) {
        sim_end_reset(l->end);
    }
    sim_end_close(l->end);
    l->end = NULL;
}

/* ---- acknowledgements ---- */

static void plan_acks(struct link *l)
{
    if (l->count > 0 && !mood.mute && l->timer.due_us == 0) {
        sim_timer_set(&l->timer, sim_below(mood.ack_us + 1));
    }
}

static uint8_t answer_to(const struct sim_message *m)
{
    static const uint8_t later[] = {0x80, 0x83, 0x97};
    static const uint8_t never[] = {0x87, 0x90, 0x99};
    if (!sim_plan.cloud_5) {
        return 0;
    }
    if (m->taste == SIM_UNWANTED) {
        return never[sim_below(3)];
    }
    if (sim_chance(mood.refuse_later)) {
        return later[sim_below(3)];
    }
    return sim_chance(100) ? SP_MQTT_RC_NO_MATCHING_SUBSCRIBERS : 0;
}

static void acknowledge(struct link *l, uint32_t at)
{
    struct pending p = l->pending[at];
    uint8_t code = answer_to(p.message);
    l->count--;
    memmove(&l->pending[at], &l->pending[at + 1], (l->count - at) * sizeof(l->pending[0]));
    p.message->acked += code < 0x80;
    p.message->refused_good += p.message->taste == SIM_UNWANTED;
    p.message->put_off = p.message->put_off || code >= 0x80;
    sim_trace("cloud", "PUBACK %u.%u id %u: 0x%02x", p.message->device, p.message->n, p.packet_id,
              code);
    sim_wire_ack(l->end, version(), SP_MQTT_PUBACK, p.packet_id, code);
    if (sim_chance(mood.ack_twice)) {
        sim_ledger_hangup();
        sim_wire_ack(l->end, version(), SP_MQTT_PUBACK, p.packet_id, code);
    }
}

static void ack_some(void *arg)
{
    struct link *l = arg;
    if (l->end == NULL || mood.mute) {
        return;
    }
    if (sim_chance(mood.ack_odd)) {
        sim_trace("cloud", "PUBACK for what was never sent");
        sim_ledger_hangup(); /* the gateway will take it as one */
        sim_wire_ack(l->end, version(), SP_MQTT_PUBACK, (uint16_t)sim_between(1, 65535), 0);
    }
    for (uint32_t some = sim_below(l->count + 1); some > 0; some--) {
        acknowledge(l, 0);
    }
    plan_acks(l);
}

/* ---- what comes ---- */

struct identity {
    struct sp_view gateway;
    struct sp_view epoch;
    struct sp_view device;
    uint64_t sequence;
};

static struct identity identity_of(const struct sp_mqtt_publish *p)
{
    struct identity id = {.sequence = 0};
    struct sp_view rest = p->props.user;
    struct sp_view name;
    struct sp_view value;
    while (sp_mqtt_user_next(&rest, &name, &value)) {
        if (sp_view_equal(name, SP_VIEW_LIT("gateway"))) {
            id.gateway = value;
        } else if (sp_view_equal(name, SP_VIEW_LIT("epoch"))) {
            id.epoch = value;
        } else if (sp_view_equal(name, SP_VIEW_LIT("device"))) {
            id.device = value;
        } else if (sp_view_equal(name, SP_VIEW_LIT("sequence"))) {
            char digits[24] = "";
            sp_copy(digits, value.ptr, value.len < sizeof(digits) - 1 ? value.len : 0);
            id.sequence = strtoull(digits, NULL, 10);
        }
    }
    return id;
}

static void check_identity(const struct sim_message *m, const struct identity *id)
{
    bool right = sp_view_equal(id->gateway, SP_VIEW_LIT(SIM_GATEWAY)) && id->device.len == 5 &&
                 (uint32_t)(id->device.ptr[4] - '0') == m->device;
    if (!right) {
        sim_fail("message %u.%u has the identity of another", m->device, m->n);
    }
}

static void check_flow(struct link *l, const struct sim_message *m, const struct identity *id,
                       bool repeat)
{
    l->repeats += repeat;
    if (l->repeats > REPEATS_MAX) {
        sim_fail("more than %u repeats on a connection", REPEATS_MAX);
    }
    if (sim_plan.cloud_5 && !m->put_off) {
        if (id->sequence <= l->latest[m->device]) {
            sim_fail("device %u: sequence %u came behind %u on one connection", m->device,
                     (unsigned)id->sequence, (unsigned)l->latest[m->device]);
        }
        l->latest[m->device] = id->sequence;
    }
    if (l->count >= l->window) {
        sim_fail("more in flight than Receive Maximum %u", l->window);
    }
}

static void take(struct link *l, const struct sp_mqtt_publish *p)
{
    struct sim_message *m = sim_ledger_find(p->payload);
    if (m == NULL) {
        sim_fail("the cloud got what nobody has sent (%zu bytes)", p->payload.len);
        return;
    }
    struct identity id = identity_of(p);
    bool repeat = sim_ledger_received(m, id.epoch, id.sequence);
    sim_trace("cloud", "got %u.%u sequence %u id %u%s", m->device, m->n, (unsigned)id.sequence,
              p->packet_id, repeat ? ", again" : "");
    if (p->qos == 0) {
        return;
    }
    if (sim_plan.cloud_5) {
        check_identity(m, &id);
    }
    check_flow(l, m, &id, repeat);
    for (uint32_t i = 0; i < l->count; i++) {
        if (l->pending[i].packet_id == p->packet_id) {
            sim_fail("packet id %u is used twice at a time", p->packet_id);
        }
    }
    if (m->taste == SIM_POISON) {
        hang_up(l, true, false);
        return;
    }
    if (l->count < PENDING_MAX) {
        l->pending[l->count++] = (struct pending){m, id.sequence, p->packet_id};
    }
    plan_acks(l);
}

static void got_publish(struct link *l, const struct sp_mqtt_header *header, struct sp_view body)
{
    struct sp_mqtt_publish p;
    if (sp_mqtt_decode_publish(version(), header->flags, body, &p) != SP_OK) {
        sim_fail("the cloud got a PUBLISH that cannot be read");
        return;
    }
    take(l, &p);
    if (l->end != NULL && sim_chance(mood.reset)) {
        hang_up(l, true, true);
    } else if (l->end != NULL && sim_chance(mood.disconnect)) {
        static const uint8_t packet[] = {0xE0, 1, SP_MQTT_RC_UNSPECIFIED_ERROR};
        if (sim_plan.cloud_5) {
            sim_end_send(l->end, SP_VIEW_ARRAY(packet));
        }
        hang_up(l, true, false);
    }
}

/* A client has one connection: what is still under way on an older one is nobody's. */
static void take_over(struct link *l, struct sp_view client_id)
{
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        struct link *other = &links[i];
        if (other != l && other->end != NULL && other->greeted &&
            sp_view_equal(client_id, sp_view_str(other->client_id))) {
            hang_up(other, false, false);
        }
    }
    sp_copy(l->client_id, client_id.ptr, client_id.len);
}

static void got_connect(struct link *l, struct sp_view body)
{
    struct sp_mqtt_connect packet;
    if (sp_mqtt_decode_connect(body, &packet) != SP_OK || packet.version != version() ||
        packet.client_id.len >= sizeof(l->client_id)) {
        sim_fail("the cloud got a CONNECT that is not right");
        return;
    }
    take_over(l, packet.client_id);
    uint8_t room[64];
    struct sp_writer w;
    bool refuses = sim_chance(mood.refuse_connect);
    struct sp_mqtt_connack c = {.reason =
                                    refuses ? (sim_plan.cloud_5 ? SP_MQTT_RC_SERVER_BUSY : 3) : 0};
    l->greeted = !refuses;
    l->window = PENDING_MAX;
    if (sim_plan.cloud_5 && mood.window > 0) {
        c.props.present = SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM);
        c.props.receive_maximum = mood.window;
        l->window = mood.window;
    }
    sp_writer_init(&w, room, sizeof(room));
    sp_mqtt_encode_connack(&w, version(), &c);
    sim_end_send(l->end, sp_writer_view(&w));
    sim_trace("cloud", "CONNACK 0x%02x", c.reason);
}

static void handle(struct link *l, const struct sp_mqtt_header *header, struct sp_view body)
{
    static const uint8_t pong[] = {0xD0, 0};
    if (header->type == SP_MQTT_CONNECT) {
        got_connect(l, body);
    } else if (!l->greeted) {
        sim_fail("the gateway spoke before the cloud had welcomed it");
    } else if (header->type == SP_MQTT_PUBLISH) {
        got_publish(l, header, body);
    } else if (header->type == SP_MQTT_PINGREQ) {
        sim_end_send(l->end, SP_VIEW_ARRAY(pong));
    }
}

static void input(void *arg)
{
    struct link *l = arg;
    struct sp_mqtt_header header;
    struct sp_view body;
    while (l->end != NULL && sim_wire_next(sim_end_view(l->end), &header, &body)) {
        struct sim_end *end = l->end;
        handle(l, &header, body);
        if (l->end == end) {
            sim_end_take(end, (size_t)header.header_len + header.body_len);
        }
    }
    if (l->end != NULL && sim_end_over(l->end)) {
        hang_up(l, false, false);
    }
}

static struct sim_end *answer_dial(struct sim_end *end)
{
    for (uint32_t i = 0; i < LINKS_MAX && !mood.away; i++) {
        struct link *l = &links[i];
        if (l->end == NULL) {
            struct sim_timer timer = l->timer;
            *l = (struct link){.end = end, .timer = timer};
            l->timer.fire = ack_some;
            l->timer.arg = l;
            sim_end_listen(end, input, l);
            return end;
        }
    }
    return NULL;
}

/* ---- moods ---- */

void sim_cloud_reset(void)
{
    memset(links, 0, sizeof(links));
    mood = (struct mood){.ack_us = 1 + sim_below(100000)};
    sim_on_dial_out = answer_dial;
}

void sim_cloud_heal(void)
{
    mood = (struct mood){.ack_us = 1000};
    for (uint32_t i = 0; i < LINKS_MAX; i++) {
        if (links[i].end != NULL) {
            plan_acks(&links[i]);
        }
    }
}

static void trouble_link(bool reset)
{
    struct link *l = &links[sim_below(sim_plan.links + 1)];
    if (l->end != NULL && reset) {
        hang_up(l, true, true);
    } else if (l->end != NULL) {
        sim_end_stall(l->end, sim_below(40000000));
    }
}

void sim_cloud_trouble(void)
{
    uint32_t what = sim_below(12);
    mood.ack_us = 1 + sim_below(sim_chance(200) ? 40000000 : 200000);
    sim_trace("cloud", "mood %u", what);
    switch (what) {
    case 0:
        mood.away = true;
        break;
    case 1:
        mood.mute = true;
        break;
    case 2:
        mood.refuse_later = sim_below(300);
        break;
    case 3:
        mood.ack_twice = sim_below(100);
        break;
    case 4:
        mood.ack_odd = sim_below(100);
        break;
    case 5:
        mood.refuse_connect = sim_below(800);
        break;
    case 6:
        mood.disconnect = sim_below(100);
        break;
    case 7:
        mood.reset = sim_below(100);
        break;
    case 8:
        mood.window = (uint16_t)sim_between(1, 20);
        break;
    case 9:
    case 10:
        trouble_link(what == 9);
        break;
    default:
        sim_cloud_heal();
        break;
    }
}
