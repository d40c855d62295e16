/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/gate/conn/admission.h"

#include <stdlib.h>
#include <sys/socket.h>

#include "libs/base/test.h"

#define NOW 1000000U

static struct sp_limits_config limits;
static struct sp_admission room;

static void begin(void)
{
    limits = (struct sp_limits_config){
        .handshakes = 8,
        .handshakes_per_address = 4,
        .waiting = 100,
        .waiting_per_address = 50,
        .connections_per_address = 60,
        .connects_per_second = 10,
        .connects_burst = 20,
        .crowded_timeout_ms = 1000,
    };
    room = (struct sp_admission){.turn = 0};
}

static struct sp_peer v4(uint8_t last)
{
    return (struct sp_peer){.family = AF_INET, .address = {192, 0, 2, last}};
}

/* A visitor of that address, or NULL and `why`. */
static struct sp_visitor *enter(const struct sp_peer *peer, enum sp_shed *why)
{
    struct sp_visitor *visitor = NULL;
    return sp_admission_enter(&room, &limits, peer, NOW, &visitor, why) == SP_OK ? visitor : NULL;
}

static struct sp_visitor *come(uint8_t last)
{
    enum sp_shed why;
    struct sp_peer peer = v4(last);
    struct sp_visitor *visitor = enter(&peer, &why);
    if (visitor == NULL) {
        abort();
    }
    visitor->owner = (void *)(uintptr_t)last;
    sp_admission_ready(&room, visitor, &limits);
    return visitor;
}

static void go(struct sp_visitor *visitor, bool admitted)
{
    struct sp_peer peer = v4((uint8_t)(uintptr_t)visitor->owner);
    sp_admission_leave(&room, &limits, visitor, admitted);
    sp_admission_gone(&room, &peer, NOW);
}

static int served(uint64_t now)
{
    struct sp_visitor *visitor = sp_admission_next(&room, &limits, now);
    return visitor == NULL ? -1 : (int)(uintptr_t)visitor->owner;
}

/* Everybody goes, wherever he waits. */
static void end(void)
{
    limits.handshakes = limits.handshakes_per_address = 1000;
    while (room.silent.first != NULL) {
        sp_admission_ready(&room, room.silent.first, &limits);
    }
    while (room.served.first != NULL || room.ready > 0) {
        (void)sp_admission_next(&room, &limits, NOW * 2U);
        if (room.served.first != NULL) {
            go(room.served.first, false);
        }
    }
    SP_CHECK_INT(room.waiting, 0);
    SP_CHECK_INT(room.in_service, 0);
    sp_admission_deinit(&room);
}

static void places_go_round_among_addresses(void)
{
    begin();
    for (int i = 0; i < 10; i++) {
        come(1);
    }
    come(2);
    come(3);
    const int order[] = {1, 2, 3, 1, 1, 1, -1};
    for (size_t i = 0; i < sizeof(order) / sizeof(order[0]); i++) {
        SP_CHECK_INT(served(NOW), order[i]);
    }
    SP_CHECK_INT(room.ready, 6); /* of address 1, which has its four handshakes */
    go(room.served.first, false);
    SP_CHECK_INT(served(NOW), 1);
    end();
}

static void there_are_only_so_many_places(void)
{
    begin();
    for (uint8_t i = 1; i <= 12; i++) {
        come(i);
    }
    for (int i = 1; i <= 8; i++) {
        SP_CHECK_INT(served(NOW), i);
    }
    SP_CHECK_INT(served(NOW), -1);
    SP_CHECK_INT((long)sp_admission_due(&room, &limits, NOW), NOW + 1000);
    go(room.served.first, false);
    SP_CHECK_INT(served(NOW), 9);
    end();
}

static void who_was_admitted_before_comes_before_strangers(void)
{
    begin();
    go(come(200), false);
    struct sp_visitor *friend = come(100);
    SP_CHECK_INT(served(NOW), 100);
    go(friend, true);
    for (uint8_t i = 1; i <= 8; i++) {
        come(i);
    }
    come(100);
    come(100);
    int places[4];
    for (size_t i = 0; i < 4; i++) {
        places[i] = served(NOW);
    }
    int known = 0;
    for (size_t i = 0; i < 4; i++) {
        known += places[i] == 100;
    }
    SP_CHECK_INT(known, 2);
    end();
}

static void strangers_are_served_too_while_those_known_come_in_crowds(void)
{
    begin();
    struct sp_visitor *friend = come(100);
    SP_CHECK_INT(served(NOW), 100);
    go(friend, true);
    for (int i = 0; i < 10; i++) {
        come(100);
    }
    come(1);
    bool stranger = false;
    for (int i = 0; i < 4; i++) {
        stranger = served(NOW) == 1 || stranger;
    }
    SP_CHECK(stranger);
    end();
}

static void an_address_has_a_bucket_that_fills_again(void)
{
    begin();
    for (int i = 0; i < 22; i++) {
        come(1);
    }
    for (int i = 0; i < 20; i++) {
        SP_CHECK_INT(served(NOW), 1);
        go(room.served.first, false);
    }
    SP_CHECK_INT(served(NOW), -1);
    SP_CHECK_INT((long)sp_admission_due(&room, &limits, NOW), NOW + 101);
    come(2);
    SP_CHECK_INT(served(NOW), 2);
    SP_CHECK_INT(served(NOW + 101), 1);
    SP_CHECK_INT(served(NOW + 101), -1);
    end();
}

static void bounds_are_named_when_they_are_reached(void)
{
    begin();
    enum sp_shed why = SP_SHED_MEMORY;
    struct sp_peer one = v4(1);
    struct sp_peer two = v4(2);
    struct sp_peer three = v4(3);
    for (int i = 0; i < 50; i++) {
        SP_CHECK(enter(&one, &why) != NULL);
    }
    SP_CHECK(enter(&one, &why) == NULL && why == SP_SHED_WAITING_ADDRESS);
    for (int i = 0; i < 50; i++) {
        SP_CHECK(enter(&two, &why) != NULL);
    }
    SP_CHECK(enter(&three, &why) == NULL && why == SP_SHED_WAITING);
    limits.connections_per_address = 50;
    SP_CHECK(enter(&one, &why) == NULL && why == SP_SHED_ADDRESS);
    for (struct sp_visitor *v = room.silent.first; v != NULL; v = v->next) {
        v->owner = (void *)(uintptr_t)v->source;
    }
    while (room.silent.first != NULL) { /* the oldest first */
        sp_admission_leave(&room, &limits, room.silent.first, false);
        sp_admission_gone(&room, room.waiting >= 50 ? &one : &two, NOW);
    }
    SP_CHECK_INT(room.waiting, 0);
    sp_admission_deinit(&room);
}

static bool anybody(const struct sp_visitor *visitor)
{
    return visitor->owner != NULL;
}

static void the_slowest_stranger_makes_room_first(void)
{
    begin();
    struct sp_visitor *friend = come(100);
    (void)served(NOW);
    go(friend, true);
    come(100);
    come(1);
    come(2);
    SP_CHECK_INT(served(NOW), 100);
    SP_CHECK_INT(served(NOW + 1), 1);
    SP_CHECK_INT(served(NOW + 2), 2);
    SP_CHECK(sp_admission_slow(&room, NOW, anybody) == NULL);
    struct sp_visitor *slow = sp_admission_slow(&room, NOW + 500, anybody);
    SP_CHECK_INT((long)(uintptr_t)slow->owner, 1);
    go(slow, false);
    go(sp_admission_slow(&room, NOW + 500, anybody), false);
    slow = sp_admission_slow(&room, NOW + 500, anybody);
    SP_CHECK_INT((long)(uintptr_t)slow->owner, 100);
    end();
}

static void a_network_of_ipv6_is_one_address(void)
{
    begin();
    enum sp_shed why = SP_SHED_MEMORY;
    struct sp_peer one = {.family = AF_INET6, .address = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 1}};
    struct sp_peer same = {.family = AF_INET6, .address = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 2}};
    struct sp_peer other = {.family = AF_INET6, .address = {0x20, 1, 0xd, 0xb8, 0, 0, 0, 2, 1}};
    limits.waiting_per_address = 1;
    struct sp_visitor *first = enter(&one, &why);
    SP_CHECK(first != NULL && enter(&same, &why) == NULL && why == SP_SHED_WAITING_ADDRESS);
    struct sp_visitor *second = enter(&other, &why);
    SP_CHECK(second != NULL);
    sp_admission_leave(&room, &limits, first, false);
    sp_admission_gone(&room, &same, NOW);
    sp_admission_leave(&room, &limits, second, false);
    sp_admission_gone(&room, &other, NOW);
    sp_admission_deinit(&room);
}

static void addresses_are_forgotten(void)
{
    begin();
    enum sp_shed why;
    for (uint32_t i = 0; i < 200000; i++) {
        struct sp_peer peer = {.family = AF_INET,
                               .address = {10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i}};
        struct sp_visitor *visitor = enter(&peer, &why);
        sp_admission_ready(&room, visitor, &limits);
        SP_CHECK(sp_admission_next(&room, &limits, NOW) == visitor);
        sp_admission_leave(&room, &limits, visitor, i % 2 == 0);
        sp_admission_gone(&room, &peer, NOW);
    }
    SP_CHECK(room.sources.count <= 65536U + 2U);
    sp_admission_deinit(&room);
    SP_CHECK_INT((long)room.sources.count, 0);
}

static void a_visitor_moves_to_another_loop_with_its_handshake(void)
{
    begin();
    struct sp_admission other = {.turn = 0};
    struct sp_peer peer = v4(1);
    struct sp_visitor *visitor = come(1);
    SP_CHECK_INT(served(NOW), 1);
    sp_admission_detach(&room, &limits, visitor, NOW);
    SP_CHECK_INT(room.in_service, 0);
    SP_CHECK_INT(sp_admission_adopt(&other, &peer, visitor), SP_OK);
    SP_CHECK_INT(other.in_service, 1);
    SP_CHECK_INT((long)visitor->since_ms, NOW);
    sp_admission_leave(&other, &limits, visitor, true);
    sp_admission_gone(&other, &peer, NOW);
    sp_admission_deinit(&other);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(places_go_round_among_addresses),
    SP_TEST(there_are_only_so_many_places),
    SP_TEST(who_was_admitted_before_comes_before_strangers),
    SP_TEST(strangers_are_served_too_while_those_known_come_in_crowds),
    SP_TEST(an_address_has_a_bucket_that_fills_again),
    SP_TEST(bounds_are_named_when_they_are_reached),
    SP_TEST(the_slowest_stranger_makes_room_first),
    SP_TEST(a_network_of_ipv6_is_one_address),
    SP_TEST(addresses_are_forgotten),
    SP_TEST(a_visitor_moves_to_another_loop_with_its_handshake),
};
SP_TEST_MAIN(tests)
