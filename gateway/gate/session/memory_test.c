/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Memory runs out, at each allocation in turn, in the middle of conversations between devices on two loops. Whatever fails: nobody crashes,
 * nothing leaks, what is said stays MQTT, and what was acknowledged is with the cloud and with every kept session.
 */
#include "gateway/gate/session/keep_internal.h"
#include "gateway/gate/session/world_test.h"
#include "gateway/log/log.h"
#include "gateway/slab/starve_test.h"
#include "libs/mqtt/topic.h"

#define WORDS_MAX 32U

/* Words that were published or heard, each once. */
struct words {
    char text[WORDS_MAX][8];
    size_t count;
};

enum { READER, WRITER, OTHER, PEERS };

static const char *const names[PEERS] = {"reader", "writer", "other"};

/* What outlives a connection, for the books. */
struct person {
    struct peer *peer;
    bool there;           /* the client is initialised */
    unsigned granted;     /* by the last SUBACK; 0xFF: none came */
    bool present;         /* CONNACK said so */
    struct words heard;   /* in messages */
    struct words pending; /* by packet identifier: published, not answered */
    struct words due;     /* published while the reader's subscription was durable */
    struct words acked;
};

static struct person people[PEERS];
static struct world *loops[2];
static uint8_t stored[1U << 16]; /* all that the store was ever given */
static size_t stored_len;
static uint8_t told[1U << 16]; /* and what the journal of sessions was told */
static size_t told_len;
static bool reads; /* the reader was granted news/#, in a session that is to last */

static bool has_word(const struct words *words, const char *text)
{
    for (size_t i = 0; i < words->count; i++) {
        if (strcmp(words->text[i], text) == 0) {
            return true;
        }
    }
    return false;
}

static void add_word(struct words *words, struct sp_view word)
{
    char text[8] = "";
    sp_copy(text, word.ptr, word.len < 7 ? word.len : 7);
    if (!has_word(words, text) && words->count < WORDS_MAX) {
        memcpy(words->text[words->count++], text, sizeof(text));
    }
}

/* ---- two loops ---- */

static void keep_bytes(uint8_t *buf, size_t *len, struct sp_view bytes)
{
    if (*len + bytes.len <= 1U << 16) {
        sp_copy(buf + *len, bytes.ptr, bytes.len);
        *len += bytes.len;
    }
}

static enum sp_err store_hears(void *arg, uint16_t type, uint64_t tag, const struct sp_view *parts,
                               size_t count)
{
    if (type == SP_MSG_APPEND) {
        keep_bytes(stored, &stored_len, parts[0]);
    } else if (type == SP_MSG_KEPT) {
        keep_bytes(told, &told_len, parts[0]);
    }
    return post(arg, type, tag, parts, count);
}

static void run_parcels(struct world *from, uint16_t to)
{
    struct sp_parcel *parcel = from->outboxes[to].first;
    from->outboxes[to] = (struct sp_outbox){NULL, NULL};
    while (parcel != NULL) {
        struct sp_parcel *next = parcel->next;
        parcel->run(&loops[to]->home, parcel);
        parcel = next;
    }
}

static void settle_all(void)
{
    for (int round = 0; round < 4; round++) {
        for (uint16_t i = 0; i < 2; i++) {
            w = loops[i];
            turn();
            durable(w->home.tickets.last_ticket, SP_OK);
            run_parcels(w, 0);
            run_parcels(w, 1);
        }
    }
}

static void later(uint64_t ms)
{
    for (int i = 0; i < 2; i++) {
        w = loops[i];
        pass(ms);
    }
    settle_all();
}

static void open_loops(void)
{
    memset(people, 0, sizeof(people));
    for (size_t i = 0; i < PEERS; i++) {
        people[i].peer = sp_slab_take(&peer_slab);
    }
    reads = false;
    stored_len = 0;
    told_len = 0;
    for (uint16_t i = 0; i < 2; i++) {
        begin();
        loops[i] = w;
        w->home.index = i;
        w->home.loops = 2;
        w->home.tickets.store = (struct sp_edge){store_hears, &w->store};
    }
    sp_subs_destroy(loops[1]->home.subs);
    sp_retained_destroy(loops[1]->home.retained);
    loops[1]->home.subs = loops[0]->home.subs;
    loops[1]->home.retained = loops[0]->home.retained;
}

static void leave(struct person *person)
{
    if (person->there) {
        w = (struct world *)(void *)((char *)person->peer->client.home -
                                     offsetof(struct world, home));
        sp_client_deinit(&person->peer->client);
        person->there = false;
    }
}

static void close_loops(void)
{
    for (int i = 0; i < PEERS; i++) {
        leave(&people[i]);
    }
    settle_all();
    for (int i = 1; i >= 0; i--) {
        w = loops[i];
        sp_home_deinit(&w->home);
        SP_CHECK(w->timers.root == NULL);
    }
    run_parcels(loops[0], 1);
    run_parcels(loops[1], 0);
    SP_CHECK_INT(sp_subs_size(w->home.subs), 0);
    sp_subs_destroy(w->home.subs);
    sp_retained_destroy(w->home.retained);
    free(loops[0]);
    free(loops[1]);
    for (size_t i = 0; i < PEERS; i++) {
        sp_slab_give(&peer_slab, people[i].peer);
    }
}

/* ---- people that go on with whatever comes ---- */

static struct peer *peer_of(int who)
{
    struct peer *peer = people[who].peer;
    if (people[who].there) {
        w = (struct world *)(void *)((char *)peer->client.home - offsetof(struct world, home));
    }
    return peer;
}

static bool is_in(int who)
{
    return people[who].there && people[who].peer->client.state == SP_CLIENT_OPEN;
}

static void say_id(struct peer *peer, enum sp_mqtt_type type, uint16_t id)
{
    uint8_t buf[16];
    struct sp_writer out;
    const struct sp_mqtt_ack packet = {.packet_id = id};
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_ack(&out, peer->version, type, &packet);
    say(peer, &out);
}

/* An answer to a message of its own. */
static void hear_answer(struct person *person, const struct sp_mqtt_header *header,
                        struct sp_view body)
{
    struct sp_mqtt_ack ack;
    SP_CHECK_INT(sp_mqtt_decode_ack(person->peer->version, header->type, body, &ack), SP_OK);
    if (header->type == SP_MQTT_PUBREL) {
        say_id(person->peer, SP_MQTT_PUBCOMP, ack.packet_id);
    } else if (header->type != SP_MQTT_PUBCOMP && ack.reason < 0x80) {
        SP_CHECK(ack.packet_id >= 1 && ack.packet_id <= person->pending.count);
        add_word(&person->acked, sp_view_str(person->pending.text[ack.packet_id - 1]));
        if (header->type == SP_MQTT_PUBREC) {
            say_id(person->peer, SP_MQTT_PUBREL, ack.packet_id);
        }
    }
}

static void hear_message(struct person *person, const struct sp_mqtt_header *header,
                         struct sp_view body)
{
    struct sp_mqtt_publish publish;
    SP_CHECK_INT(sp_mqtt_decode_publish(person->peer->version, header->flags, body, &publish),
                 SP_OK);
    add_word(&person->heard, publish.payload);
    if (publish.qos > 0) {
        say_id(person->peer, publish.qos == 1 ? SP_MQTT_PUBACK : SP_MQTT_PUBREC, publish.packet_id);
    }
}

static void hear_one(struct person *person, const struct sp_mqtt_header *header,
                     struct sp_view body)
{
    struct sp_mqtt_connack connack;
    struct sp_mqtt_suback suback;
    switch ((unsigned)header->type) {
    case SP_MQTT_CONNACK:
        SP_CHECK_INT(sp_mqtt_decode_connack(person->peer->version, body, &connack), SP_OK);
        person->present = connack.reason == 0 && connack.session_present;
        break;
    case SP_MQTT_SUBACK:
        SP_CHECK_INT(sp_mqtt_decode_suback(person->peer->version, header->type, body, &suback),
                     SP_OK);
        person->granted = suback.codes.ptr[0];
        break;
    case SP_MQTT_PUBLISH:
        hear_message(person, header, body);
        break;
    case SP_MQTT_PUBACK:
    case SP_MQTT_PUBREC:
    case SP_MQTT_PUBREL:
    case SP_MQTT_PUBCOMP:
        hear_answer(person, header, body);
        break;
    default:
        break;
    }
}

/* Until nothing more is said. */
static void all_listen(void)
{
    bool more = true;
    while (more) {
        more = false;
        settle_all();
        for (int i = 0; i < PEERS; i++) {
            struct peer *peer = peer_of(i);
            struct sp_view body;
            struct sp_mqtt_header header;
            while (people[i].there && (header = hear(peer, &body)).type != 0) {
                uint8_t copy[4096];
                sp_copy(copy, body.ptr, body.len);
                hear_one(&people[i], &header, sp_view(copy, body.len));
                more = true;
            }
            SP_CHECK_INT(peer->len, 0); /* whole packets only */
        }
    }
}

/* ---- what they do ---- */

typedef void (*change_fn)(struct sp_mqtt_connect *packet);

static void identified(struct person *person, uint16_t loop, const char *role,
                       enum sp_attestation_mode mode)
{
    struct sp_msg_psk_answer answer = {
        .known = 1, .nonce_ok = 1, .row = {.attestation = (uint8_t)mode}, .group = "hall"};
    struct peer *peer = person->peer;
    strcpy(answer.row.role, role);
    memset(peer, 0, sizeof(*peer));
    w = loops[loop];
    if (sp_client_init(&peer->client, &w->home) != SP_OK) {
        sp_client_free_work(&peer->client);
    } else if (sp_client_identify(&peer->client, sp_view_str(names[person - people]), &answer) !=
               SP_OK) {
        sp_client_deinit(&peer->client);
    } else {
        person->there = true;
    }
}

static void judged(struct peer *peer)
{
    if (peer->client.guard == SP_GUARD_APPRAISING) {
        judge(peer, SP_ATTEST_OK);
    }
}

static void enter(int who, uint16_t loop, const char *role, enum sp_attestation_mode mode,
                  change_fn change)
{
    struct person *person = &people[who];
    leave(person);
    settle_all();
    identified(person, loop, role, mode);
    if (!person->there) {
        return;
    }
    struct peer *peer = person->peer;
    struct sp_mqtt_connect packet = hello(peer, SP_MQTT_5);
    change(&packet);
    say_connect(peer, &packet);
    if (mode == SP_ATTESTATION_REQUIRED) {
        say_auth(peer, SP_MQTT_RC_CONTINUE_AUTHENTICATION, "sp-psa-iat-1", "token");
        judged(peer);
    }
    all_listen();
}

static void to_last(struct sp_mqtt_connect *packet)
{
    packet->clean_start = false;
    packet->props.present |= (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_SESSION_EXPIRY) |
                                        SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS_MAXIMUM));
    packet->props.session_expiry = 500;
    packet->props.topic_alias_maximum = 2;
}

static void with_will(struct sp_mqtt_connect *packet)
{
    to_last(packet);
    packet->will = (struct sp_mqtt_will){
        .present = true, .topic = SP_VIEW_LIT("news/w"), .payload = SP_VIEW_LIT("will"), .qos = 1};
    packet->will.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_WILL_DELAY);
    packet->will.props.will_delay = 5;
}

static void for_now(struct sp_mqtt_connect *packet)
{
    (void)packet;
}

/* One filter, with an identifier. */
static void ask_for(int who, const char *filter, uint8_t qos)
{
    uint8_t buf[512];
    struct sp_writer out;
    struct sp_mqtt_subscribe packet = {.packet_id = 77};
    const struct sp_mqtt_filter one = {.filter = sp_view_str(filter), .qos = qos};
    packet.props.present = (uint32_t)SP_MQTT_HAS(SP_MQTT_P_SUBSCRIPTION_ID);
    packet.props.subscription_id = 9;
    sp_writer_init(&out, buf, sizeof(buf));
    sp_mqtt_encode_subscribe(&out, SP_MQTT_5, SP_MQTT_SUBSCRIBE, &packet, &one, 1);
    people[who].granted = 0xFF;
    if (is_in(who)) {
        say(peer_of(who), &out);
    }
    all_listen();
}

static void tell(int who, const char *topic, const char *word, uint8_t qos, bool retain)
{
    uint8_t buf[512];
    struct sp_writer out;
    struct person *person = &people[who];
    if (is_in(who)) {
        add_word(&person->pending, sp_view_str(word));
        if (reads && sp_topic_matches(SP_VIEW_LIT("news/#"), sp_view_str(topic))) {
            add_word(&person->due, sp_view_str(word));
        }
        struct sp_mqtt_publish packet = {.qos = qos,
                                         .packet_id =
                                             (uint16_t)(qos > 0 ? person->pending.count : 0),
                                         .retain = retain,
                                         .topic = sp_view_str(topic),
                                         .payload = sp_view_str(word)};
        packet.props.present =
            (uint32_t)(SP_MQTT_HAS(SP_MQTT_P_MESSAGE_EXPIRY) | SP_MQTT_HAS(SP_MQTT_P_TOPIC_ALIAS) |
                       SP_MQTT_HAS(SP_MQTT_P_CONTENT_TYPE));
        packet.props.message_expiry = 1000;
        packet.props.topic_alias = 1;
        packet.props.content_type = SP_VIEW_LIT("text/plain");
        sp_writer_init(&out, buf, sizeof(buf));
        sp_mqtt_encode_publish(&out, SP_MQTT_5, &packet);
        say(peer_of(who), &out);
    }
    all_listen();
}

static void command(const char *word)
{
    w = loops[1];
    sp_route_command(&w->home, SP_VIEW_LIT("down/reader/x"), sp_view_str(word), 1, 50);
    all_listen();
}

/* ---- conversations ---- */

/* A reader whose session is kept and a writer, on loops of their own; the reader goes and comes. */
static void news(void)
{
    enter(READER, 0, "client", SP_ATTESTATION_NONE, to_last);
    ask_for(READER, "news/#", 2);
    reads = people[READER].granted <= 2;
    ask_for(READER, "cmd/#", 1);
    enter(WRITER, 1, "client", SP_ATTESTATION_NONE, with_will);
    tell(WRITER, "news/a", "one", 1, true);
    tell(WRITER, "news/a", "two", 2, false);
    tell(WRITER, "dt/writer/x", "three", 1, false);
    tell(WRITER, "dt/writer/x", "four", 2, false);
    leave(&people[READER]);
    tell(WRITER, "news/b", "five", 1, true);
    tell(WRITER, "news/b", "six", 2, false);
    command("do");
    enter(READER, 0, "client", SP_ATTESTATION_NONE, to_last);
    ask_for(READER, "news/+", 1);
    tell(WRITER, "news/a", "seven", 0, false);
    enter(WRITER, 1, "client", SP_ATTESTATION_NONE, with_will);
    tell(WRITER, "news/a", "eight", 1, false);
}

/* Attested ones; one takes over from itself, wills and shared subscriptions. */
static void guests(void)
{
    enter(READER, 0, "client", SP_ATTESTATION_NONE, for_now);
    ask_for(READER, "$share/g/dt/#", 1);
    enter(WRITER, 1, "client", SP_ATTESTATION_REQUIRED, with_will);
    enter(OTHER, 1, "client", SP_ATTESTATION_NONE, for_now);
    ask_for(OTHER, "$share/g/dt/#", 1);
    ask_for(OTHER, "#", 2);
    tell(WRITER, "dt/writer/x", "one", 1, false);
    tell(WRITER, "dt/writer/x", "two", 1, false);
    leave(&people[READER]);
    later(3000);
    enter(WRITER, 1, "client", SP_ATTESTATION_REQUIRED, to_last);
    tell(WRITER, "news/a", "three", 2, true);
    ask_for(WRITER, "news/#", 1);
    leave(&people[WRITER]);
    later(3000);
    w = loops[1];
    sp_home_revoke(&w->home, SP_VIEW_LIT("writer"), 7);
    settle_all();
}

/* ---- the books ---- */

static bool is_stored(const char *word)
{
    return memmem(stored, stored_len, word, strlen(word)) != NULL;
}

/* Memory is back, and everybody comes once more. */
static void check_books(void)
{
    later(3000);
    for (int i = 0; i < PEERS; i++) {
        leave(&people[i]);
    }
    settle_all();
    enter(READER, 0, "client", SP_ATTESTATION_NONE, to_last);
    enter(WRITER, 1, "client", SP_ATTESTATION_NONE, to_last);
    SP_CHECK(is_in(READER) && is_in(WRITER));
    SP_CHECK(!reads || people[READER].present);
    tell(WRITER, "dt/writer/x", "last", 1, false);
    SP_CHECK(has_word(&people[WRITER].acked, "last"));
    for (size_t i = 0; i < people[WRITER].acked.count; i++) {
        const char *word = people[WRITER].acked.text[i];
        bool cloud = strstr("three four last", word) != NULL;
        SP_CHECK_CASE(!cloud || is_stored(word), word);
        SP_CHECK_CASE(!has_word(&people[WRITER].due, word) || has_word(&people[READER].heard, word),
                      word);
    }
    for (int i = 0; i < PEERS; i++) {
        leave(&people[i]);
    }
    later(600000);
    SP_CHECK_INT(loops[0]->home.devices.count + loops[1]->home.devices.count, 0);
}

/* @return It went on to its end without an allocation that failed. */
static bool starved_at(uint64_t nth, uint64_t count, void (*talk)(void), void (*check)(void))
{
    int64_t before = starve_live();
    sp_log_init("test", SP_LOG_ERROR);
    open_loops();
    starve(nth, count);
    talk();
    uint64_t failed = starve_end();
    if (check != NULL) {
        check();
    }
    close_loops();
    SP_CHECK_INT(starve_live(), before);
    if (sp_test_failures_ > 0) {
        printf("… with %u failures from allocation %u on\n", (unsigned)count, (unsigned)nth);
    }
    return failed == 0;
}

static void starve_everywhere(void (*talk)(void), void (*check)(void))
{
    static const uint64_t counts[] = {1, 2, 7};
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        uint64_t nth = 1;
        while (!starved_at(nth, counts[i], talk, check) && sp_test_failures_ == 0) {
            nth++;
        }
        SP_CHECK(nth > 50); /* it asks for memory at all */
    }
}

static void what_is_acknowledged_survives_a_lack_of_memory_anywhere(void)
{
    starve_everywhere(news, check_books);
}

static void guests_and_members_of_groups_survive_a_lack_of_memory_anywhere(void)
{
    starve_everywhere(guests, NULL);
}

static const struct sp_test tests[] = {
    SP_TEST(what_is_acknowledged_survives_a_lack_of_memory_anywhere),
    SP_TEST(guests_and_members_of_groups_survive_a_lack_of_memory_anywhere),
};
SP_TEST_MAIN(tests)
