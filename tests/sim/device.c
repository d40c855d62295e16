/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Devices that keep to MQTT: what was not answered is sent again, first and in order, on the next connection. Some forget
 * what they had under way now and then, and begin with packet ids anew.
 */
#include "tests/sim/run.h"

#include <stdio.h>
#include <string.h>

#define WINDOW      16U
#define THINK_US    60000U
#define DIAL_US     400000U
#define PATIENCE_US UINT64_C(60000000) /* without the answer to a CONNECT */
#define TOPIC_MAX   64U

enum stage { DOWN, GREETS, OPEN };

/* Under way: a message that waits for PUBACK, PUBREC or, released, PUBCOMP. */
struct flight {
    struct sim_message *message;
    uint16_t packet_id;
    bool released;
    bool sent; /* on this connection */
};

struct device {
    uint32_t index;
    char identity[16];
    enum sp_mqtt_version version;
    bool forgetful;
    bool talks_tls; /* the first byte of the gateway's has come */
    bool admitted;  /* and its verdict, where one is due */
    enum stage stage;
    struct sim_end *end;
    struct sim_timer timer;
    uint64_t patience_us;
    uint16_t window; /* of the gateway */
    uint16_t last_id;
    uint32_t made;
    struct flight flights[WINDOW];
    uint32_t flying;
    struct sim_message *again[WINDOW * 2]; /* refused, to be sent anew */
    uint32_t again_count;
};

static struct device devices[SIM_DEVICES_MAX];
static int listeners[SIM_LOOPS_MAX];

/* ---- sending ---- */

static void send_packet(struct device *d, const struct sp_writer *w)
{
    sim_end_send(d->end, sp_writer_view(w));
}

static void hang_up(struct device *d, bool reset)
{
    if (d->end != NULL) {
        sim_trace(d->identity, reset ? "connection reset" : "closes");
        if (reset) {
            sim_end_reset(d->end);
        }
        sim_end_close(d->end);
        d->end = NULL;
    }
    d->stage = DOWN;
    d->admitted = false;
    for (uint32_t i = 0; i < d->flying; i++) {
        struct flight *f = &d->flights[i];
        f->message->uncertain =
            f->message->uncertain || (f->sent && !f->released && d->version == SP_MQTT_5);
        f->sent = false;
    }
}

static void publish(struct device *d, struct flight *f, bool dup, size_t cut)
{
    uint8_t room[8192];
    char topic[TOPIC_MAX];
    struct sp_writer w;
    (void)snprintf(topic, sizeof(topic), "%s/%s/m", f->message->denied ? "no" : "dt", d->identity);
    struct sp_mqtt_publish p = {
        .dup = dup,
        .qos = f->message->qos,
        .packet_id = f->packet_id,
        .topic = sp_view_str(topic),
        .payload = sim_ledger_text(f->message),
    };
    if (d->version == SP_MQTT_5 && f->message->expiry_s > 0) {
        p.props.present = SP_MQTT_HAS(SP_MQTT_P_MESSAGE_EXPIRY);
        p.props.message_expiry = f->message->expiry_s;
    }
    sp_writer_init(&w, room, sizeof(room));
    sp_mqtt_encode_publish(&w, d->version, &p);
    f->message->sends++;
    f->sent = true;
    sim_trace(d->identity, "PUBLISH %u qos %u id %u%s%s", f->message->n, f->message->qos,
              f->packet_id, dup ? " dup" : "", cut > 0 ? ", cut off" : "");
    struct sp_view packet = sp_writer_view(&w);
    sim_end_send(d->end, cut > 0 ? sp_view_first(packet, cut) : packet);
}

static void release(struct device *d, struct flight *f)
{
    f->released = true;
    f->sent = true;
    sim_wire_ack(d->end, d->version, SP_MQTT_PUBREL, f->packet_id, 0);
}

static bool id_in_use(const struct device *d, uint16_t id)
{
    for (uint32_t i = 0; i < d->flying; i++) {
        if (d->flights[i].packet_id == id) {
            return true;
        }
    }
    return id == 0;
}

/* Few of them, so that they come round. */
static uint16_t next_id(struct device *d)
{
    do {
        d->last_id = (uint16_t)((d->last_id + 1U) % 40U);
    } while (id_in_use(d, d->last_id));
    return d->last_id;
}

static struct sim_message *next_message(struct device *d)
{
    if (d->again_count > 0) {
        struct sim_message *m = d->again[0];
        memmove(d->again, d->again + 1, --d->again_count * sizeof(d->again[0]));
        return m;
    }
    if (sim_healing || d->made >= sim_plan.messages) {
        return NULL;
    }
    d->made++;
    struct sim_message *m = sim_ledger_new(d->index);
    m->denied = m->denied && d->version == SP_MQTT_5; /* MQTT 3.1.1 has no answer to that */
    return m;
}

static void publish_next(struct device *d, size_t cut)
{
    struct sim_message *m = next_message(d);
    if (m == NULL) {
        return;
    }
    struct flight f = {.message = m, .packet_id = m->qos > 0 ? next_id(d) : (uint16_t)0};
    struct flight *kept = &f;
    if (m->qos > 0) {
        kept = &d->flights[d->flying++];
        *kept = f;
    }
    publish(d, kept, false, cut);
}

/* ---- connecting ---- */

static void greet(struct device *d)
{
    uint8_t room[256];
    struct sp_writer w;
    bool attests = d->index < sim_plan.attested;
    struct sp_mqtt_connect c = {
        .version = d->version,
        .clean_start = sim_chance(200),
        .keep_alive = (uint16_t)sim_between(10, 600),
        .client_id = sp_view_str(d->identity),
    };
    if (d->version == SP_MQTT_5) {
        c.props.present = SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY);
        c.props.session_expiry = 300;
        if (attests) {
            c.props.present |= SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD);
            c.props.auth_method = sp_view_str(sp_link_method(SP_LINK_BINDING_NONE));
        }
    }
    sp_writer_init(&w, room, sizeof(room));
    sp_mqtt_encode_connect(&w, &c);
    send_packet(d, &w);
}

static void input(void *arg);

static void dial(struct device *d)
{
    d->end = sim_dial(listeners[sim_below(sim_plan.loops)], sim_chance(100) ? 1500 : 64U << 10);
    if (d->end == NULL) {
        return;
    }
    sim_trace(d->identity, "dials");
    d->stage = GREETS;
    d->talks_tls = false;
    d->patience_us = sim_now_us() + PATIENCE_US;
    sim_end_listen(d->end, input, d);
    uint8_t hello[1 + sizeof(d->identity)];
    size_t len = strlen(d->identity);
    hello[0] = (uint8_t)len;
    memcpy(hello + 1, d->identity, len);
    sim_end_send(d->end, sp_view(hello, 1 + len));
}

/* Those that still wait go first, as they were. */
static void resume(struct device *d)
{
    d->admitted = true;
    for (uint32_t i = 0; i < d->flying; i++) {
        if (d->flights[i].released) {
            release(d, &d->flights[i]);
        } else {
            publish(d, &d->flights[i], true, 0);
        }
    }
}

static void forget(struct device *d)
{
    sim_trace(d->identity, "forgets %u messages", d->flying);
    for (uint32_t i = 0; i < d->flying; i++) {
        d->flights[i].message->forgotten = true;
    }
    d->flying = 0;
    d->last_id = 0;
}

/* ---- what the gateway says ---- */

static void land(struct device *d, uint32_t at)
{
    d->flying--;
    memmove(&d->flights[at], &d->flights[at + 1], (d->flying - at) * sizeof(d->flights[0]));
}

static void refused(struct device *d, uint32_t at)
{
    struct sim_message *m = d->flights[at].message;
    m->refused = true;
    land(d, at);
    if (!m->denied && d->again_count < WINDOW * 2) {
        d->again[d->again_count++] = m;
    }
}

/* In the order in which they were sent, for each QoS (MQTT 5, 4.6). */
static void check_turn(const struct device *d, uint32_t at)
{
    for (uint32_t i = 0; i < at; i++) {
        const struct flight *f = &d->flights[i];
        if (f->sent && !f->released && f->message->qos == d->flights[at].message->qos) {
            sim_fail("%s: message %u was answered before %u", d->identity,
                     d->flights[at].message->n, f->message->n);
        }
    }
}

static void acknowledged(struct device *d, enum sp_mqtt_type type, const struct sp_mqtt_ack *ack)
{
    uint32_t at = 0;
    while (at < d->flying && d->flights[at].packet_id != ack->packet_id) {
        at++;
    }
    uint8_t qos = type == SP_MQTT_PUBACK ? 1 : 2;
    if (at == d->flying || !d->flights[at].sent || d->flights[at].message->qos != qos) {
        sim_fail("%s: packet %u was acknowledged and is not under way", d->identity,
                 ack->packet_id);
        return;
    }
    struct flight *f = &d->flights[at];
    sim_trace(d->identity, "%s %u id %u: 0x%02x", type == SP_MQTT_PUBCOMP ? "PUBCOMP" : "ack of",
              f->message->n, ack->packet_id, ack->reason);
    if (type == SP_MQTT_PUBCOMP) {
        land(d, at);
        return;
    }
    if (!f->released) {
        check_turn(d, at);
    }
    if (ack->reason >= 0x80) {
        refused(d, at);
        return;
    }
    f->message->accepted = true;
    if (qos == 1) {
        land(d, at);
    } else {
        release(d, f);
    }
}

static void welcomed(struct device *d, struct sp_view body)
{
    struct sp_mqtt_connack c;
    if (sp_mqtt_decode_connack(d->version, body, &c) != SP_OK) {
        sim_fail("%s: a CONNACK that cannot be read", d->identity);
        return;
    }
    sim_trace(d->identity, "CONNACK 0x%02x%s", c.reason, c.session_present ? ", session" : "");
    if (c.reason != 0) {
        hang_up(d, false);
        return;
    }
    d->window = WINDOW;
    if ((c.props.present & SP_MQTT_HAS(SP_MQTT_P_RECEIVE_MAXIMUM)) != 0 &&
        c.props.receive_maximum < WINDOW) {
        d->window = c.props.receive_maximum;
    }
    d->stage = OPEN;
    if (d->version == SP_MQTT_5 || d->index >= sim_plan.attested) {
        resume(d);
    }
}

static void challenged(struct device *d)
{
    uint8_t room[128];
    struct sp_writer w;
    const struct sp_mqtt_reasoned auth = {
        .reason = SP_MQTT_RC_CONTINUE_AUTHENTICATION,
        .props = {.present = SP_MQTT_HAS(SP_MQTT_P_AUTH_METHOD) | SP_MQTT_HAS(SP_MQTT_P_AUTH_DATA),
                  .auth_method = sp_view_str(sp_link_method(SP_LINK_BINDING_NONE)),
                  .auth_data = SP_VIEW_LIT("token")},
    };
    sp_writer_init(&w, room, sizeof(room));
    sp_mqtt_encode_reasoned(&w, d->version, SP_MQTT_AUTH, &auth);
    send_packet(d, &w);
}

/* MQTT 3.1.1, and every challenge after the first: by messages beneath `$sp/`. */
static void told(struct device *d, const struct sp_mqtt_header *header, struct sp_view body)
{
    struct sp_mqtt_publish p;
    if (sp_mqtt_decode_publish(d->version, header->flags, body, &p) != SP_OK) {
        sim_fail("%s: a PUBLISH that cannot be read", d->identity);
        return;
    }
    if (p.qos == 1) {
        sim_wire_ack(d->end, d->version, SP_MQTT_PUBACK, p.packet_id, 0);
    }
    if (sp_view_equal(p.topic, SP_VIEW_LIT(SP_LINK_TOPIC_CHALLENGE))) {
        uint8_t room[128];
        struct sp_writer w;
        const struct sp_mqtt_publish token = {.topic = SP_VIEW_LIT(SP_LINK_TOPIC_TOKEN),
                                              .payload = SP_VIEW_LIT("token")};
        sp_writer_init(&w, room, sizeof(room));
        sp_mqtt_encode_publish(&w, d->version, &token);
        send_packet(d, &w);
    } else if (sp_view_equal(p.topic, SP_VIEW_LIT(SP_LINK_TOPIC_VERDICT)) &&
               sp_view_equal(p.payload, SP_VIEW_LIT(SP_LINK_VERDICT_OK)) && !d->admitted) {
        resume(d);
    }
}

static void handle(struct device *d, const struct sp_mqtt_header *header, struct sp_view body)
{
    struct sp_mqtt_ack ack;
    switch (header->type) {
    case SP_MQTT_CONNACK:
        welcomed(d, body);
        break;
    case SP_MQTT_PUBACK:
    case SP_MQTT_PUBREC:
    case SP_MQTT_PUBCOMP:
        if (sp_mqtt_decode_ack(d->version, header->type, body, &ack) == SP_OK) {
            acknowledged(d, header->type, &ack);
        } else {
            sim_fail("%s: an acknowledgement that cannot be read", d->identity);
        }
        break;
    case SP_MQTT_AUTH:
        challenged(d);
        break;
    case SP_MQTT_PUBLISH:
        told(d, header, body);
        break;
    case SP_MQTT_DISCONNECT:
        sim_trace(d->identity, "DISCONNECT from the gateway, 0x%02x",
                  body.len > 0 ? body.ptr[0] : 0);
        break;
    case SP_MQTT_PINGRESP:
        break;
    case SP_MQTT_CONNECT:
    case SP_MQTT_PUBREL:
    case SP_MQTT_SUBSCRIBE:
    case SP_MQTT_SUBACK:
    case SP_MQTT_UNSUBSCRIBE:
    case SP_MQTT_UNSUBACK:
    case SP_MQTT_PINGREQ:
        sim_fail("%s: packet type %d from the gateway", d->identity, (int)header->type);
        break;
    }
}

static void input(void *arg)
{
    struct device *d = arg;
    struct sp_mqtt_header header;
    struct sp_view body;
    if (!d->talks_tls && sim_end_view(d->end).len > 0) {
        d->talks_tls = true;
        sim_end_take(d->end, 1);
        greet(d);
    }
    while (d->end != NULL && d->talks_tls && sim_wire_next(sim_end_view(d->end), &header, &body)) {
        size_t size = (size_t)header.header_len + header.body_len;
        handle(d, &header, body);
        if (d->end != NULL) {
            sim_end_take(d->end, size);
        }
    }
    if (d->end != NULL && sim_end_over(d->end)) {
        hang_up(d, false);
    }
}

/* ---- what they do by themselves ---- */

static bool ready_to_publish(const struct device *d)
{
    return d->admitted && d->flying < d->window;
}

static void say_good_bye(struct device *d)
{
    static const uint8_t disconnect[] = {0xE0, 0};
    sim_end_send(d->end, SP_VIEW_ARRAY(disconnect));
    hang_up(d, false);
}

static void ping(struct device *d)
{
    static const uint8_t request[] = {0xC0, 0};
    sim_end_send(d->end, SP_VIEW_ARRAY(request));
}

static void act_open(struct device *d)
{
    uint32_t what = sim_healing ? 0 : sim_below(100);
    if (what < 94) {
        uint32_t burst = sim_chance(150) ? sim_between(2, WINDOW) : 1;
        for (; burst > 0 && ready_to_publish(d); burst--) {
            publish_next(d, 0);
        }
        if (sim_chance(100)) {
            ping(d);
        }
    } else if (what < 96) {
        say_good_bye(d);
    } else if (what < 97 && ready_to_publish(d)) {
        publish_next(d, 1 + sim_below(12));
        hang_up(d, false);
    } else if (what < 98) {
        hang_up(d, sim_chance(500));
        if (d->forgetful) {
            forget(d);
        }
    }
}

static bool has_work(const struct device *d)
{
    return d->flying > 0 || d->again_count > 0 || (!sim_healing && d->made < sim_plan.messages);
}

static void act(void *arg)
{
    struct device *d = arg;
    uint64_t pause = THINK_US;
    if (d->stage == DOWN) {
        if (has_work(d)) {
            dial(d);
        }
        pause = DIAL_US;
    } else if (d->stage == GREETS) {
        if (sim_now_us() > d->patience_us) {
            hang_up(d, false);
        }
        pause = DIAL_US;
    } else {
        act_open(d);
        /* With nothing left to say it asks now and then whether anybody is there. */
        pause = has_work(d) ? THINK_US : 3000000U;
    }
    sim_timer_set(&d->timer, sim_below((uint32_t)pause));
}

void sim_devices_reset(void)
{
    memset(devices, 0, sizeof(devices));
    listeners[0] = -1;
    listeners[1] = -1;
    for (uint32_t i = 0; i < sim_plan.devices; i++) {
        struct device *d = &devices[i];
        d->index = i;
        (void)snprintf(d->identity, sizeof(d->identity), "dev-%u", i);
        d->version = sim_chance(500) ? SP_MQTT_5 : SP_MQTT_311;
        d->forgetful = sim_chance(200);
        d->timer.fire = act;
        d->timer.arg = d;
        sim_timer_set(&d->timer, sim_below(DIAL_US));
    }
}

void sim_devices_listeners(const int *fds)
{
    memcpy(listeners, fds, sizeof(listeners));
}

bool sim_devices_done(void)
{
    for (uint32_t i = 0; i < sim_plan.devices; i++) {
        if (has_work(&devices[i])) {
            return false;
        }
    }
    return true;
}

void sim_devices_trouble(void)
{
    struct device *d = &devices[sim_below(sim_plan.devices)];
    if (d->end == NULL) {
        return;
    }
    if (sim_chance(500)) {
        hang_up(d, true);
    } else {
        sim_trace(d->identity, "the network is slow");
        sim_end_stall(d->end, sim_below(20000000));
    }
}
