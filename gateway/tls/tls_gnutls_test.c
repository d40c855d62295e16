/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The TLS seam against a GnuTLS client in memory: every suite, every refusal. */
#include "gateway/tls/tls.h"

#include <errno.h>
#include <gnutls/crypto.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>

#include "gateway/tls/record.h"
#include "gateway/tls/suites.h"
#include "libs/base/test.h"

static const uint8_t key[32] = {1, 2, 3, 4, 5, 6, 7, 8, 9};
static const uint8_t other_key[32] = {9, 9, 9};

/* What one run of a handshake is made of, and what came out of it. */
struct run {
    uint32_t sets;
    char **names;
    uint32_t device_suites;
    const char *client_priority; /* whole priority string */
    struct sp_view identity;
    bool wrong_key;
    size_t chunk;        /* bytes given to the server at a time; 0 = all */
    size_t max_fragment; /* RFC 6066 */
    size_t record_limit; /* RFC 8449 */
    struct sp_view glue; /* sent before the client has read our Finished; empty: nothing */
    enum sp_record_suite glue_suite;
    bool glued;

    struct sp_tls *server;
    struct sp_tls_server *listener;
    gnutls_session_t client;
    gnutls_psk_client_credentials_t credentials;
    struct sp_tls_out to_client;
    size_t client_read;
    uint8_t to_server[65536];
    size_t to_server_len;
    bool client_ok;
    int client_alert;
};

static ssize_t client_pull(gnutls_transport_ptr_t ptr, void *buf, size_t cap)
{
    struct run *run = ptr;
    size_t left = run->to_client.used - run->client_read;
    size_t len = left < cap ? left : cap;
    if (len == 0) {
        gnutls_transport_set_errno(run->client, EAGAIN);
        return -1;
    }
    memcpy(buf, run->to_client.buf + run->client_read, len);
    run->client_read += len;
    return (ssize_t)len;
}

static ssize_t client_push(gnutls_transport_ptr_t ptr, const void *buf, size_t len)
{
    struct run *run = ptr;
    memcpy(run->to_server + run->to_server_len, buf, len);
    run->to_server_len += len;
    return (ssize_t)len;
}

static int client_wait(gnutls_transport_ptr_t ptr, unsigned ms)
{
    (void)ptr;
    (void)ms;
    return 1;
}

static void server_steps(struct run *run)
{
    size_t chunk = run->chunk == 0 ? run->to_server_len : run->chunk;
    for (size_t at = 0; at < run->to_server_len; at += chunk) {
        size_t len = run->to_server_len - at < chunk ? run->to_server_len - at : chunk;
        sp_tls_input(run->server, sp_view(run->to_server + at, len));
        if (sp_tls_step(run->server, &run->to_client) == SP_TLS_NEED_PSK) {
            SP_CHECK(sp_view_equal(sp_tls_identity(run->server), run->identity));
            sp_tls_set_psk(run->server, SP_VIEW_ARRAY(key), run->device_suites);
            (void)sp_tls_step(run->server, &run->to_client);
        }
    }
    run->to_server_len = 0;
}

static void client_start(struct run *run)
{
    gnutls_init(&run->client, GNUTLS_CLIENT | GNUTLS_NONBLOCK);
    SP_CHECK_INT(gnutls_priority_set_direct(run->client, run->client_priority, NULL), 0);
    if (run->max_fragment != 0) {
        SP_CHECK_INT(gnutls_record_set_max_size(run->client, run->max_fragment), 0);
    }
    if (run->record_limit != 0) {
        SP_CHECK_INT(gnutls_record_set_max_recv_size(run->client, run->record_limit), 0);
    }
    gnutls_psk_allocate_client_credentials(&run->credentials);
    gnutls_datum_t name = {(unsigned char *)(uintptr_t)run->identity.ptr,
                           (unsigned)run->identity.len};
    gnutls_datum_t secret = {(unsigned char *)(uintptr_t)(run->wrong_key ? other_key : key), 32};
    gnutls_psk_set_client_credentials2(run->credentials, &name, &secret, GNUTLS_PSK_KEY_RAW);
    gnutls_credentials_set(run->client, GNUTLS_CRD_PSK, run->credentials);
    gnutls_transport_set_ptr(run->client, run);
    gnutls_transport_set_pull_function(run->client, client_pull);
    gnutls_transport_set_push_function(run->client, client_push);
    gnutls_transport_set_pull_timeout_function(run->client, client_wait);
}

/* As soon as the client has its key: a record of data behind its Finished, before it has read ours. */
static void glue(struct run *run)
{
    gnutls_datum_t mac;
    gnutls_datum_t iv;
    gnutls_datum_t secret;
    unsigned char number[8];
    if (run->glue.len == 0 || run->glued ||
        gnutls_record_get_state(run->client, 0, &mac, &iv, &secret, number) != 0 ||
        secret.size != 16) {
        return;
    }
    struct sp_tls_record record = {
        .write_sequence = number[7], .send_max = 1000, .suite = (uint8_t)run->glue_suite};
    memcpy(record.write_key, secret.data, 16);
    memcpy(record.write_salt, iv.data, 4);
    SP_CHECK_INT(
        sp_record_seal(&record, SP_RECORD_DATA, run->glue, run->to_server + run->to_server_len),
        SP_OK);
    run->to_server_len += sp_record_sealed(&record, run->glue.len);
    run->glued = true;
}

/* Carry the handshake to its end on both sides. */
static void handshake(struct run *run)
{
    static char host[] = "127.0.0.1";
    struct sp_listener_config config = {
        .address = host, .host = host, .suites = run->sets, .suite_names = run->names};

    char why[200] = "";
    SP_CHECK_INT(sp_tls_server_create(&config, why, sizeof(why), &run->listener), SP_OK);
    SP_CHECK_INT(sp_tls_accept(run->listener, &run->server), SP_OK);
    client_start(run);
    for (int turn = 0; turn < 10; turn++) {
        int code = gnutls_handshake(run->client);
        if (code == 0) {
            run->client_ok = true;
        } else if (code == GNUTLS_E_FATAL_ALERT_RECEIVED) {
            run->client_alert = (int)gnutls_alert_get(run->client);
            return;
        } else if (code != GNUTLS_E_AGAIN && gnutls_error_is_fatal(code)) {
            run->client_alert = code;
            return;
        }
        glue(run);
        server_steps(run);
        if (run->client_ok && sp_tls_state(run->server) != SP_TLS_HANDSHAKE) {
            return;
        }
    }
}

static void finish(struct run *run)
{
    gnutls_deinit(run->client);
    gnutls_psk_free_client_credentials(run->credentials);
    sp_tls_destroy(run->server);
    sp_tls_server_destroy(run->listener);
    sp_tls_out_deinit(&run->to_client);
}

#define PRIORITY(suite) "NONE:+VERS-TLS1.2:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:" suite
#define CCM             PRIORITY("+PSK:+AES-128-CCM:+AEAD")

static struct run make_run(const char *priority)
{
    return (struct run){.sets = SP_SUITES_PROFILE_SMALL,
                        .client_priority = priority,
                        .identity = SP_VIEW_LIT("dev-1")};
}

/* Data both ways, and the exporter the same on both sides. */
static void check_open(struct run *run, const char *name)
{
    SP_CHECK_CASE(run->client_ok && sp_tls_state(run->server) == SP_TLS_OPEN, name);
    if (!run->client_ok || sp_tls_state(run->server) != SP_TLS_OPEN) {
        printf("   %s\n", sp_tls_error(run->server));
        return;
    }
    uint8_t buf[256];
    size_t len = 0;
    SP_CHECK_INT(gnutls_record_send(run->client, "hello", 5), 5);
    sp_tls_input(run->server, sp_view(run->to_server, run->to_server_len));
    run->to_server_len = 0;
    SP_CHECK_CASE(sp_tls_read(run->server, buf, sizeof(buf), &len, &run->to_client) == SP_OK, name);
    SP_CHECK_CASE(sp_view_equal(sp_view(buf, len), SP_VIEW_LIT("hello")), name);
    SP_CHECK_INT(sp_tls_read(run->server, buf, sizeof(buf), &len, &run->to_client), SP_ERR_AGAIN);
    SP_CHECK_INT(sp_tls_write(run->server, SP_VIEW_LIT("world!"), &run->to_client), SP_OK);
    SP_CHECK_INT(gnutls_record_recv(run->client, buf, sizeof(buf)), 6);
    uint8_t ours[32];
    char theirs[32];
    SP_CHECK_INT(sp_tls_exporter(run->server, ours), SP_OK);
    SP_CHECK_INT(gnutls_prf_rfc5705(run->client, 24, "EXPORTER-Channel-Binding", 0, "", 32, theirs),
                 0);
    SP_CHECK_CASE(memcmp(ours, theirs, 32) == 0, name);
    SP_CHECK(sp_tls_write(run->server, (struct sp_view){NULL, 0}, &run->to_client) == SP_OK);
}

static void every_suite_of_its_set_carries_data(void)
{
    for (size_t i = 0; i < sp_tls_suite_count; i++) {
        const struct sp_tls_suite *suite = &sp_tls_suites[i];
        if (strncmp(suite->priority, "+RSA-PSK", 8) == 0) {
            continue; /* needs a certificate: tests/ has it with real clients */
        }
        char priority[256];
        snprintf(priority, sizeof(priority), PRIORITY("%s"), suite->priority);
        static char *names[2];
        names[0] = (char *)(uintptr_t)suite->name;
        struct run run = make_run(priority);
        run.sets = suite->sets;
        run.names = suite->sets == 0 ? names : NULL;
        handshake(&run);
        check_open(&run, suite->name);
        finish(&run);
    }
}

static void tls13_with_an_external_psk_works(void)
{
    struct run run =
        make_run("NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK:-ECDHE-ECDSA:-ECDHE-RSA");
    handshake(&run);
    check_open(&run, "TLS 1.3");
    SP_CHECK(strncmp(sp_tls_describe(run.server), "TLS1.3", 6) == 0);
    finish(&run);
}

static void a_client_with_everything_gets_forward_secrecy(void)
{
    struct run run = make_run("NORMAL:-VERS-ALL:+VERS-TLS1.2:-KX-ALL:+PSK:+DHE-PSK:+ECDHE-PSK");
    handshake(&run);
    check_open(&run, "prefers ECDHE-PSK");
    SP_CHECK(strstr(sp_tls_describe(run.server), "ECDHE_PSK") != NULL);
    finish(&run);
}

static void a_handshake_in_single_bytes_works(void)
{
    struct run run = make_run(CCM);
    run.chunk = 1;
    handshake(&run);
    check_open(&run, "single bytes");
    finish(&run);
}

static void what_is_not_in_the_set_is_refused(void)
{
    static const struct {
        const char *name;
        const char *priority;
        uint32_t sets;
    } cases[] = {
        {"PSK CBC in profile-small", PRIORITY("+PSK:+AES-128-CBC:+SHA256"),
         SP_SUITES_PROFILE_SMALL},
        {"PSK AES-256 in profile-small", PRIORITY("+PSK:+AES-256-CCM:+AEAD"),
         SP_SUITES_PROFILE_SMALL},
        {"plain PSK in forward-secret", CCM, SP_SUITES_FORWARD_SECRET},
        {"NULL in all", PRIORITY("+PSK:+NULL:+SHA256"), SP_SUITES_ALL},
        {"3DES in all", PRIORITY("+PSK:+3DES-CBC:+SHA1"), SP_SUITES_ALL},
        {"RC4 in all", PRIORITY("+PSK:+ARCFOUR-128:+SHA1"), SP_SUITES_ALL},
        {"TLS 1.1", "NONE:+VERS-TLS1.1:+COMP-NULL:+SIGN-ALL:+PSK:+AES-128-CBC:+SHA1",
         SP_SUITES_ALL},
        {"certificates", "NORMAL:-VERS-ALL:+VERS-TLS1.2", SP_SUITES_ALL},
        {"TLS 1.3 psk_ke alone", "NORMAL:-VERS-ALL:+VERS-TLS1.3:-KX-ALL:+PSK", SP_SUITES_ALL},
        {"no extended master secret", CCM ":%NO_SESSION_HASH", SP_SUITES_PROFILE_SMALL},
        {"CBC without encrypt-then-MAC", PRIORITY("+ECDHE-PSK:+AES-128-CBC:+SHA256:%NO_ETM"),
         SP_SUITES_FORWARD_SECRET},
    };
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct run run = make_run(cases[i].priority);
        run.sets = cases[i].sets;
        handshake(&run);
        SP_CHECK_CASE(sp_tls_state(run.server) == SP_TLS_CLOSED, cases[i].name);
        SP_CHECK_CASE(!sp_tls_wrong_key(run.server), cases[i].name);
        finish(&run);
    }
}

static void a_wrong_key_ends_in_one_and_the_same_alert(void)
{
    struct run run = make_run(CCM);
    run.wrong_key = true;
    handshake(&run);
    SP_CHECK(!run.client_ok);
    SP_CHECK(sp_tls_wrong_key(run.server));
    SP_CHECK_INT(run.client_alert, GNUTLS_A_BAD_RECORD_MAC);
    finish(&run);

    struct run narrowed = make_run(CCM);
    narrowed.device_suites = SP_SUITES_FORWARD_SECRET;
    handshake(&narrowed);
    SP_CHECK_INT(narrowed.client_alert, GNUTLS_A_BAD_RECORD_MAC);
    SP_CHECK(strcmp(sp_tls_error(narrowed.server), "suite not allowed for this device") == 0);
    finish(&narrowed);
}

static void identities_come_as_raw_bytes(void)
{
    struct run run = make_run(CCM);
    run.identity = SP_VIEW_LIT("dev1\0evil");
    handshake(&run);
    check_open(&run, "NUL in the identity");
    finish(&run);
}

static void a_tampered_record_closes_and_gives_nothing(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    SP_CHECK_INT(gnutls_record_send(run.client, "hello", 5), 5);
    run.to_server[run.to_server_len - 1] ^= 1;
    uint8_t buf[64];
    size_t len = 77;
    sp_tls_input(run.server, sp_view(run.to_server, run.to_server_len));
    SP_CHECK_INT(sp_tls_read(run.server, buf, sizeof(buf), &len, &run.to_client), SP_ERR_MALFORMED);
    SP_CHECK_INT(len, 77);
    SP_CHECK_INT(sp_tls_read(run.server, buf, sizeof(buf), &len, &run.to_client), SP_ERR_CLOSED);
    SP_CHECK_INT(gnutls_record_recv(run.client, buf, sizeof(buf)), GNUTLS_E_FATAL_ALERT_RECEIVED);
    finish(&run);
}

static void close_notify_is_told_and_said(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    (void)gnutls_bye(run.client, GNUTLS_SHUT_WR);
    uint8_t buf[64];
    size_t len = 0;
    sp_tls_input(run.server, sp_view(run.to_server, run.to_server_len));
    SP_CHECK_INT(sp_tls_read(run.server, buf, sizeof(buf), &len, &run.to_client), SP_ERR_CLOSED);
    sp_tls_close(run.server, &run.to_client);
    SP_CHECK_INT(gnutls_record_recv(run.client, buf, sizeof(buf)), 0);
    finish(&run);
}

static void renegotiation_is_refused(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    (void)gnutls_handshake(run.client);
    static uint8_t buf[SP_TLS_RECORD_MAX];
    size_t len = 0;
    sp_tls_input(run.server, sp_view(run.to_server, run.to_server_len));
    SP_CHECK_INT(sp_tls_read(run.server, buf, sizeof(buf), &len, &run.to_client), SP_ERR_MALFORMED);
    SP_CHECK_INT(sp_tls_state(run.server), SP_TLS_CLOSED);
    SP_CHECK(strcmp(sp_tls_error(run.server), "renegotiation") == 0);
    (void)gnutls_record_recv(run.client, buf, sizeof(buf));
    SP_CHECK_INT(gnutls_alert_get(run.client), GNUTLS_A_NO_RENEGOTIATION);
    finish(&run);
}

static const struct {
    const char *name;
    const char *priority;
} detached[] = {
    {"CCM", PRIORITY("+PSK:+AES-128-CCM:+AEAD")},
    {"CCM-8", PRIORITY("+PSK:+AES-128-CCM-8:+AEAD")},
    {"GCM", PRIORITY("+PSK:+AES-128-GCM:+AEAD")},
};
#define DETACHED (sizeof(detached) / sizeof(detached[0]))

static uint8_t sent[SP_TLS_RECORD_MAX];
static uint8_t got[SP_TLS_RECORD_MAX];

/* What the client has sent, given to the server in pieces of `chunk`. @return Bytes of plaintext, in `got`. */
static size_t server_reads(struct run *run, size_t chunk)
{
    size_t sum = 0;
    for (size_t at = 0; at < run->to_server_len; at += chunk) {
        size_t left = run->to_server_len - at;
        size_t len = 0;
        sp_tls_input(run->server, sp_view(run->to_server + at, left < chunk ? left : chunk));
        while (sp_tls_read(run->server, got + sum, sizeof(got) - sum, &len, &run->to_client) ==
               SP_OK) {
            sum += len;
        }
    }
    run->to_server_len = 0;
    return sum;
}

static void records_of_every_size_go_both_ways_in_any_pieces(void)
{
    static const size_t sizes[] = {1, 2, 15, 16, 17, 100, 1000, 4096, 16383, 16384};
    static const size_t chunks[] = {1, 4, 5, 6, 333, 65536};
    for (size_t i = 0; i < sizeof(sent); i++) {
        sent[i] = (uint8_t)(i * 3 + i / 256);
    }
    for (size_t d = 0; d < DETACHED; d++) {
        struct run run = make_run(detached[d].priority);
        handshake(&run);
        for (size_t c = 0; c < sizeof(chunks) / sizeof(chunks[0]); c++) {
            for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
                size_t size = sizes[i];
                SP_CHECK_INT(gnutls_record_send(run.client, sent, size), size);
                SP_CHECK_CASE(server_reads(&run, chunks[c]) == size, detached[d].name);
                SP_CHECK_CASE(memcmp(sent, got, size) == 0, detached[d].name);
                SP_CHECK_INT(sp_tls_write(run.server, sp_view(sent, size), &run.to_client), SP_OK);
                memset(got, 0, size);
                SP_CHECK_INT(gnutls_record_recv(run.client, got, sizeof(got)), size);
                SP_CHECK_CASE(memcmp(sent, got, size) == 0, detached[d].name);
                run.to_client.used = 0;
                run.client_read = 0;
            }
        }
        finish(&run);
    }
}

static void many_small_records_in_any_pieces_arrive_in_order(void)
{
    for (size_t d = 0; d < DETACHED; d++) {
        for (size_t chunk = 1; chunk < 200; chunk += 7) {
            struct run run = make_run(detached[d].priority);
            handshake(&run);
            for (uint8_t i = 0; i < 100; i++) {
                SP_CHECK_INT(gnutls_record_send(run.client, &i, 1), 1);
            }
            SP_CHECK_INT(server_reads(&run, chunk), 100);
            for (uint8_t i = 0; i < 100; i++) {
                SP_CHECK_INT(got[i], i);
            }
            finish(&run);
        }
    }
}

static void a_record_that_does_not_fit_waits(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    SP_CHECK_INT(gnutls_record_send(run.client, sent, 500), 500);
    size_t len = 0;
    sp_tls_input(run.server, sp_view(run.to_server, run.to_server_len));
    SP_CHECK_INT(sp_tls_read(run.server, got, 499, &len, &run.to_client), SP_ERR_SPACE);
    SP_CHECK_INT(sp_tls_read(run.server, got, 500, &len, &run.to_client), SP_OK);
    SP_CHECK_INT(len, 500);
    finish(&run);
}

/* Write 3000 bytes to a client that wants records of at most 512. */
static void check_small_records(struct run *run, const char *name)
{
    handshake(run);
    SP_CHECK_CASE(run->client_ok && sp_tls_state(run->server) == SP_TLS_OPEN, name);
    size_t before = run->to_client.used;
    SP_CHECK_INT(sp_tls_write(run->server, sp_view(sent, 3000), &run->to_client), SP_OK);
    for (size_t at = before; at < run->to_client.used;) {
        size_t len = (size_t)run->to_client.buf[at + 3] << 8 | run->to_client.buf[at + 4];
        SP_CHECK_CASE(len <= 512 + 8 + 16, name);
        at += 5 + len;
    }
    size_t sum = 0;
    ssize_t len = 0;
    while ((len = gnutls_record_recv(run->client, got, sizeof(got))) > 0) {
        sum += (size_t)len;
    }
    SP_CHECK_INT(sum, 3000);
    finish(run);
}

static void a_client_that_wants_small_records_gets_them(void)
{
    struct run by_fragment = make_run(CCM);
    by_fragment.max_fragment = 512;
    check_small_records(&by_fragment, "max_fragment_length");
    struct run by_limit = make_run(CCM);
    by_limit.record_limit = 512;
    check_small_records(&by_limit, "record_size_limit");
}

static void data_glued_to_the_handshake_is_not_lost(void)
{
    for (size_t d = 0; d < DETACHED; d++) {
        struct run run = make_run(detached[d].priority);
        run.glue = SP_VIEW_LIT("straight behind Finished");
        run.glue_suite = (enum sp_record_suite)(SP_RECORD_CCM + d);
        handshake(&run);
        SP_CHECK(run.client_ok && run.glued && sp_tls_state(run.server) == SP_TLS_OPEN);
        size_t len = 0;
        SP_CHECK_INT(sp_tls_read(run.server, got, sizeof(got), &len, &run.to_client), SP_OK);
        SP_CHECK(sp_view_equal(sp_view(got, len), run.glue));
        SP_CHECK_INT(sp_tls_read(run.server, got, sizeof(got), &len, &run.to_client), SP_ERR_AGAIN);
        finish(&run);
    }
}

static void endless_warnings_close(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    enum sp_err err = SP_ERR_AGAIN;
    size_t len = 0;
    for (int i = 0; i < 100 && err == SP_ERR_AGAIN; i++) {
        (void)gnutls_alert_send(run.client, GNUTLS_AL_WARNING, GNUTLS_A_USER_CANCELED);
        sp_tls_input(run.server, sp_view(run.to_server, run.to_server_len));
        run.to_server_len = 0;
        err = sp_tls_read(run.server, got, sizeof(got), &len, &run.to_client);
    }
    SP_CHECK_INT(err, SP_ERR_MALFORMED);
    SP_CHECK_INT(gnutls_record_recv(run.client, got, sizeof(got)), GNUTLS_E_FATAL_ALERT_RECEIVED);
    SP_CHECK_INT(gnutls_alert_get(run.client), GNUTLS_A_UNEXPECTED_MESSAGE);
    finish(&run);
}

static void a_fatal_alert_is_told_by_its_name(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    size_t len = 0;
    (void)gnutls_alert_send(run.client, GNUTLS_AL_FATAL, GNUTLS_A_INTERNAL_ERROR);
    sp_tls_input(run.server, sp_view(run.to_server, run.to_server_len));
    SP_CHECK_INT(sp_tls_read(run.server, got, sizeof(got), &len, &run.to_client), SP_ERR_CLOSED);
    SP_CHECK(strcmp(sp_tls_error(run.server), "Internal error") == 0);
    size_t before = run.to_client.used;
    sp_tls_close(run.server, &run.to_client);
    SP_CHECK_INT(run.to_client.used, before);
    finish(&run);
}

static void many_records_in_one_piece_are_read_one_after_another(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    for (int i = 0; i < 100; i++) {
        SP_CHECK_INT(gnutls_record_send(run.client, "0123456789", 10), 10);
    }
    sp_tls_input(run.server, sp_view(run.to_server, run.to_server_len));
    uint8_t buf[4096];
    size_t sum = 0;
    size_t len = 0;
    while (sp_tls_read(run.server, buf, sizeof(buf), &len, &run.to_client) == SP_OK) {
        sum += len;
    }
    SP_CHECK_INT(sum, 1000);
    SP_CHECK_INT(sp_tls_state(run.server), SP_TLS_OPEN);
    finish(&run);
}

static void a_part_of_a_record_is_known_to_be_one(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    SP_CHECK(!sp_tls_has_part(run.server));
    SP_CHECK_INT(gnutls_record_send(run.client, "0123456789", 10), 10);
    SP_CHECK_INT(gnutls_record_send(run.client, "0123456789", 10), 10);
    uint8_t buf[64];
    size_t len = 0;
    for (size_t i = 0; i < run.to_server_len; i++) {
        sp_tls_input(run.server, sp_view(run.to_server + i, 1));
        enum sp_err err = sp_tls_read(run.server, buf, sizeof(buf), &len, &run.to_client);
        bool whole = i + 1 == run.to_server_len || i + 1 == run.to_server_len / 2;
        SP_CHECK_INT(err, whole ? SP_OK : SP_ERR_AGAIN);
        SP_CHECK(sp_tls_has_part(run.server) == !whole);
    }
    finish(&run);
}

static void a_session_goes_on_in_another_place(void)
{
    struct run run = make_run(CCM);
    handshake(&run);
    uint8_t before[32];
    uint8_t after[32];
    uint8_t packed[SP_TLS_PACK_MAX];
    uint8_t buf[64];
    size_t len = 0;
    SP_CHECK_INT(sp_tls_exporter(run.server, before), SP_OK);
    SP_CHECK_INT(gnutls_record_send(run.client, "0123456789", 10), 10);
    sp_tls_input(run.server, sp_view(run.to_server, 7)); /* a part of a record goes along */
    SP_CHECK_INT(sp_tls_read(run.server, buf, sizeof(buf), &len, &run.to_client), SP_ERR_AGAIN);
    for (size_t cap = 0; cap < 100; cap++) { /* or not at all */
        struct sp_writer small;
        sp_writer_init(&small, packed, cap);
        SP_CHECK_INT(sp_tls_pack(run.server, &small), SP_ERR_SPACE);
    }
    struct sp_writer w;
    struct sp_reader r;
    sp_writer_init(&w, packed, sizeof(packed));
    SP_CHECK_INT(sp_tls_pack(run.server, &w), SP_OK);
    sp_tls_destroy(run.server);
    for (size_t cut = 0; cut < w.used; cut++) {
        sp_reader_init(&r, sp_view_first(sp_writer_view(&w), cut));
        SP_CHECK_INT(sp_tls_unpack(&r, &run.server), SP_ERR_MALFORMED);
    }
    sp_reader_init(&r, sp_writer_view(&w));
    SP_CHECK_INT(sp_tls_unpack(&r, &run.server), SP_OK);
    SP_CHECK_INT(sp_reader_finish(&r), SP_OK);
    SP_CHECK_INT(sp_tls_exporter(run.server, after), SP_OK);
    SP_CHECK(memcmp(before, after, sizeof(before)) == 0);
    sp_tls_input(run.server, sp_view(run.to_server + 7, run.to_server_len - 7));
    SP_CHECK_INT(sp_tls_read(run.server, buf, sizeof(buf), &len, &run.to_client), SP_OK);
    SP_CHECK(len == 10 && memcmp(buf, "0123456789", 10) == 0);
    SP_CHECK_INT(sp_tls_write(run.server, SP_VIEW_LIT("back"), &run.to_client), SP_OK);
    SP_CHECK_INT(gnutls_record_recv(run.client, buf, sizeof(buf)), 4);
    finish(&run);
}

static void an_attached_session_stays_where_it_is(void)
{
    struct run run =
        make_run("NORMAL:-VERS-ALL:+VERS-TLS1.3:+ECDHE-PSK:+DHE-PSK:-ECDHE-ECDSA:-ECDHE-RSA");
    handshake(&run);
    uint8_t packed[SP_TLS_PACK_MAX];
    struct sp_writer w;
    sp_writer_init(&w, packed, sizeof(packed));
    SP_CHECK(!sp_tls_can_pack(run.server));
    SP_CHECK_INT(sp_tls_pack(run.server, &w), SP_ERR_UNSUPPORTED);
    finish(&run);
}

static void a_key_may_come_late(void)
{
    struct run run = make_run(CCM);
    static char host[] = "127.0.0.1";
    struct sp_listener_config config = {.address = host, .host = host, .suites = run.sets};
    char why[100];
    SP_CHECK_INT(sp_tls_server_create(&config, why, sizeof(why), &run.listener), SP_OK);
    SP_CHECK_INT(sp_tls_accept(run.listener, &run.server), SP_OK);
    client_start(&run);
    (void)gnutls_handshake(run.client);
    server_steps(&run);
    (void)gnutls_handshake(run.client); /* ClientKeyExchange … Finished */
    sp_tls_input(run.server, sp_view(run.to_server, run.to_server_len));
    SP_CHECK_INT(sp_tls_step(run.server, &run.to_client), SP_TLS_NEED_PSK);
    run.to_server_len = 0;
    sp_tls_set_psk(run.server, SP_VIEW_ARRAY(key), 0);
    SP_CHECK_INT(sp_tls_step(run.server, &run.to_client), SP_TLS_OPEN);
    run.client_ok = gnutls_handshake(run.client) == 0;
    check_open(&run, "after a key that came late");
    finish(&run);
}

static void a_handshake_waits_for_a_whole_hello_and_then_for_its_caller(void)
{
    struct run run = make_run(CCM);
    static char host[] = "127.0.0.1";
    struct sp_listener_config config = {.address = host, .host = host, .suites = run.sets};
    char why[100];
    SP_CHECK_INT(sp_tls_server_create(&config, why, sizeof(why), &run.listener), SP_OK);
    SP_CHECK_INT(sp_tls_accept(run.listener, &run.server), SP_OK);
    client_start(&run);
    (void)gnutls_handshake(run.client);
    for (size_t i = 0; i < run.to_server_len; i++) {
        sp_tls_input(run.server, sp_view(run.to_server + i, 1));
        SP_CHECK_INT(sp_tls_greet(run.server), i + 1 == run.to_server_len);
    }
    SP_CHECK_INT(run.to_client.used, 0);
    run.to_server_len = 0;
    SP_CHECK_INT(sp_tls_step(run.server, &run.to_client), SP_TLS_HANDSHAKE);
    SP_CHECK(run.to_client.used > 0);
    (void)gnutls_handshake(run.client);
    server_steps(&run);
    run.client_ok = gnutls_handshake(run.client) == 0;
    check_open(&run, "after a hello that waited");
    finish(&run);
}

static void what_cannot_become_a_hello_need_not_wait(void)
{
    static char host[] = "127.0.0.1";
    static uint8_t flood[9000] = {22, 3, 1, 0x40, 0, 1, 0, 0x0F, 0xF0};
    const struct sp_view nonsense[] = {SP_VIEW_LIT("GET / HTTP/1.0\r\n\r\n"), SP_VIEW_ARRAY(flood)};
    struct sp_listener_config config = {.address = host, .host = host, .suites = SP_SUITES_ALL};
    struct sp_tls_server *listener = NULL;
    struct sp_tls_out out = {NULL, 0, 0};
    char why[100];
    SP_CHECK_INT(sp_tls_server_create(&config, why, sizeof(why), &listener), SP_OK);
    for (size_t i = 0; i < 2; i++) {
        struct sp_tls *tls = NULL;
        SP_CHECK_INT(sp_tls_accept(listener, &tls), SP_OK);
        sp_tls_input(tls, nonsense[i]);
        SP_CHECK(sp_tls_greet(tls));
        SP_CHECK_INT(sp_tls_step(tls, &out), SP_TLS_CLOSED);
        sp_tls_destroy(tls);
    }
    sp_tls_server_destroy(listener);
    sp_tls_out_deinit(&out);
}

static void oversized_messages_are_refused(void)
{
    static char host[] = "127.0.0.1";
    struct sp_listener_config config = {.address = host, .host = host, .suites = SP_SUITES_ALL};
    struct sp_tls_server *listener = NULL;
    struct sp_tls *tls = NULL;
    struct sp_tls_out out = {NULL, 0, 0};
    char why[100];
    SP_CHECK_INT(sp_tls_server_create(&config, why, sizeof(why), &listener), SP_OK);
    SP_CHECK_INT(sp_tls_accept(listener, &tls), SP_OK);
    static const uint8_t huge[] = {22, 3, 1, 0x40, 0, 1, 0, 0x3F, 0xFC};
    sp_tls_input(tls, SP_VIEW_ARRAY(huge));
    SP_CHECK_INT(sp_tls_step(tls, &out), SP_TLS_CLOSED);
    sp_tls_destroy(tls);
    SP_CHECK_INT(sp_tls_accept(listener, &tls), SP_OK);
    sp_tls_input(tls, SP_VIEW_LIT("GET / HTTP/1.0\r\n\r\n"));
    SP_CHECK_INT(sp_tls_step(tls, &out), SP_TLS_CLOSED);
    sp_tls_destroy(tls);
    sp_tls_server_destroy(listener);
    sp_tls_out_deinit(&out);
}

static void an_unknown_suite_name_is_an_error_with_its_name(void)
{
    static char host[] = "127.0.0.1";
    static char bad[] = "TLS_PSK_WITH_MAGIC";
    static char *names[] = {bad, NULL};
    struct sp_listener_config config = {.address = host, .host = host, .suite_names = names};
    struct sp_tls_server *listener = NULL;
    char why[100] = "";
    SP_CHECK_INT(sp_tls_server_create(&config, why, sizeof(why), &listener), SP_ERR_UNSUPPORTED);
    SP_CHECK(strstr(why, "TLS_PSK_WITH_MAGIC") != NULL);
}

static const struct sp_test tests[] = {
    SP_TEST(every_suite_of_its_set_carries_data),
    SP_TEST(tls13_with_an_external_psk_works),
    SP_TEST(a_client_with_everything_gets_forward_secrecy),
    SP_TEST(a_handshake_in_single_bytes_works),
    SP_TEST(a_session_goes_on_in_another_place),
    SP_TEST(an_attached_session_stays_where_it_is),
    SP_TEST(what_is_not_in_the_set_is_refused),
    SP_TEST(a_wrong_key_ends_in_one_and_the_same_alert),
    SP_TEST(identities_come_as_raw_bytes),
    SP_TEST(a_tampered_record_closes_and_gives_nothing),
    SP_TEST(close_notify_is_told_and_said),
    SP_TEST(renegotiation_is_refused),
    SP_TEST(records_of_every_size_go_both_ways_in_any_pieces),
    SP_TEST(many_small_records_in_any_pieces_arrive_in_order),
    SP_TEST(a_record_that_does_not_fit_waits),
    SP_TEST(a_client_that_wants_small_records_gets_them),
    SP_TEST(data_glued_to_the_handshake_is_not_lost),
    SP_TEST(endless_warnings_close),
    SP_TEST(a_fatal_alert_is_told_by_its_name),
    SP_TEST(many_records_in_one_piece_are_read_one_after_another),
    SP_TEST(a_part_of_a_record_is_known_to_be_one),
    SP_TEST(a_key_may_come_late),
    SP_TEST(a_handshake_waits_for_a_whole_hello_and_then_for_its_caller),
    SP_TEST(what_cannot_become_a_hello_need_not_wait),
    SP_TEST(oversized_messages_are_refused),
    SP_TEST(an_unknown_suite_name_is_an_error_with_its_name),
};

SP_TEST_MAIN(tests)
