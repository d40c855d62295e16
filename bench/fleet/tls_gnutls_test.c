/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The fleet's client against the gateway's server, in memory. */
#include "bench/fleet/tls.h"

#include "gateway/tls/tls.h"
#include "libs/base/test.h"

#include <stdlib.h>
#include <string.h>

static const uint8_t psk[32] = "thirty-two bytes that are no key";

struct pipe {
    uint8_t bytes[16384];
    size_t used;
};

static struct pipe to_server;
static struct sp_tls_out to_client;
static struct sp_tls_server *server;
static struct sp_tls *door;
static struct sp_fleet_tls *client;

static void on_ciphertext(void *context, struct sp_view ciphertext)
{
    struct pipe *pipe = context;
    SP_CHECK(pipe->used + ciphertext.len <= sizeof(pipe->bytes));
    memcpy(pipe->bytes + pipe->used, ciphertext.ptr, ciphertext.len);
    pipe->used += ciphertext.len;
}

static void server_turn(struct sp_view key)
{
    sp_tls_input(door, sp_view(to_server.bytes, to_server.used));
    enum sp_tls_state state = sp_tls_step(door, &to_client);
    if (state == SP_TLS_NEED_PSK) {
        SP_CHECK(sp_view_equal(sp_tls_identity(door), SP_VIEW_LIT("dev-1")));
        sp_tls_set_psk(door, key, 0);
        (void)sp_tls_step(door, &to_client);
    }
    to_server.used = 0;
}

/* As far as both sides get in ten turns. */
static enum sp_err handshake(const char *suite, struct sp_view server_key)
{
    static char address[] = "127.0.0.1:0";
    struct sp_listener_config listener = {.address = address, .suites = SP_SUITES_PROFILE_SMALL};
    struct sp_fleet_tls_key key = {SP_VIEW_INIT("dev-1"), SP_VIEW_ARRAY(psk)};
    char why[128] = "";
    enum sp_err err = SP_ERR_AGAIN;
    to_server.used = 0;
    SP_CHECK_INT(sp_tls_server_create(&listener, why, sizeof(why), &server), SP_OK);
    SP_CHECK_INT(sp_tls_accept(server, &door), SP_OK);
    SP_CHECK_INT(sp_fleet_tls_init(suite), SP_OK);
    SP_CHECK_INT(sp_fleet_tls_create(&key, on_ciphertext, &to_server, &client), SP_OK);
    for (int turn = 0; turn < 10 && err == SP_ERR_AGAIN; turn++) {
        sp_fleet_tls_input(client, sp_view(to_client.buf, to_client.used));
        err = sp_fleet_tls_handshake(client);
        to_client.used = 0;
        server_turn(server_key);
    }
    return err;
}

static void teardown(void)
{
    sp_fleet_tls_destroy(client);
    sp_fleet_tls_deinit();
    sp_tls_destroy(door);
    sp_tls_server_destroy(server);
    sp_tls_out_deinit(&to_client);
    to_client = (struct sp_tls_out){0};
}

static void every_suite_shakes_hands_and_both_sides_export_the_same(void)
{
    static const char *const suites[] = {"ccm-8", "ccm", "gcm"};
    for (size_t i = 0; i < sizeof(suites) / sizeof(suites[0]); i++) {
        uint8_t ours[32] = {0};
        uint8_t theirs[32] = {1};
        SP_CHECK_CASE(handshake(suites[i], SP_VIEW_ARRAY(psk)) == SP_OK, suites[i]);
        SP_CHECK_CASE(sp_fleet_tls_exporter(client, ours) == SP_OK, suites[i]);
        SP_CHECK_CASE(sp_tls_exporter(door, theirs) == SP_OK, suites[i]);
        SP_CHECK_CASE(memcmp(ours, theirs, sizeof(ours)) == 0, suites[i]);
        teardown();
    }
}

static void data_and_the_close_get_across(void)
{
    uint8_t buf[64];
    size_t len = 0;
    SP_CHECK_INT(handshake("ccm-8", SP_VIEW_ARRAY(psk)), SP_OK);
    SP_CHECK_INT(sp_tls_write(door, SP_VIEW_LIT("world"), &to_client), SP_OK);
    sp_fleet_tls_input(client, sp_view(to_client.buf, to_client.used));
    SP_CHECK_INT(sp_fleet_tls_read(client, buf, sizeof(buf), &len), SP_OK);
    SP_CHECK(sp_view_equal(sp_view(buf, len), SP_VIEW_LIT("world")));
    SP_CHECK_INT(sp_fleet_tls_read(client, buf, sizeof(buf), &len), SP_ERR_AGAIN);
    SP_CHECK_INT(sp_fleet_tls_write(client, SP_VIEW_LIT("hello")), SP_OK);
    sp_fleet_tls_close(client);
    sp_tls_input(door, sp_view(to_server.bytes, to_server.used));
    SP_CHECK_INT(sp_tls_read(door, buf, sizeof(buf), &len, &to_client), SP_OK);
    SP_CHECK(sp_view_equal(sp_view(buf, len), SP_VIEW_LIT("hello")));
    SP_CHECK_INT(sp_tls_read(door, buf, sizeof(buf), &len, &to_client), SP_ERR_CLOSED);
    teardown();
}

static void a_wrong_key_is_refused_with_an_alert(void)
{
    SP_CHECK_INT(handshake("ccm-8", SP_VIEW_LIT("another key of thirty-two bytes.")),
                 SP_ERR_UNTRUSTED);
    SP_CHECK(strlen(sp_fleet_tls_error(client)) > 0);
    teardown();
}

static void a_suite_that_is_not_there_is_refused(void)
{
    SP_CHECK_INT(sp_fleet_tls_init("null"), SP_ERR_ARGUMENT);
}

static const struct sp_test tests[] = {
    SP_TEST(every_suite_shakes_hands_and_both_sides_export_the_same),
    SP_TEST(data_and_the_close_get_across),
    SP_TEST(a_wrong_key_is_refused_with_an_alert),
    SP_TEST(a_suite_that_is_not_there_is_refused),
};
SP_TEST_MAIN(tests)
