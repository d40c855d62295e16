/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Connections on two loops, from the first byte to the last, with GnuTLS as the devices. The test is keys, and time: the clock stands until it is
 * moved, a loop never sleeps, and a socket takes as much as the test says.
 */
#include "gateway/gate/worker.h"
#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/slab/starve_test.h"
#include "libs/base/test.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define PRIORITY "NONE:+VERS-TLS1.2:+COMP-NULL:+SIGN-ALL:+GROUP-ALL:+PSK:+AES-128-CCM:+AEAD"
#define DEVICES  6

/* ---- in place of the C library ---- */

static uint64_t clock_ms;
static ssize_t takes = -1;   /* bytes that a connection's socket takes yet; -1: any */
static int send_error;       /* what a connection's socket says next; 0: nothing */
static unsigned epoll_fails; /* the n-th epoll_ctl() from now on; 0: none */
static uint64_t seed;        /* of the hash that gives identities their loops */

uint64_t __wrap_sp_hash_seed(void);

int __wrap_clock_gettime(clockid_t clock, struct timespec *out);
int __real_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout);
int __wrap_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout);
int __real_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event);
ssize_t __real_send(int fd, const void *buf, size_t len, int flags);
ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags);

uint64_t __wrap_sp_hash_seed(void)
{
    return seed;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *out)
{
    uint64_t ms = clock == CLOCK_REALTIME ? 1700000000000U + clock_ms : clock_ms;
    *out = (struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    return 0;
}

int __wrap_epoll_wait(int epoll, struct epoll_event *events, int max, int timeout)
{
    (void)timeout;
    return __real_epoll_wait(epoll, events, max, 0);
}

int __wrap_epoll_ctl(int epoll, int op, int fd, struct epoll_event *event)
{
    if (epoll_fails > 0 && --epoll_fails == 0) {
        errno = ENOMEM;
        return -1;
    }
    return __real_epoll_ctl(epoll, op, fd, event);
}

ssize_t __wrap_send(int fd, const void *buf, size_t len, int flags)
{
    if ((flags & MSG_DONTWAIT) != 0 && send_error != 0) {
        errno = send_error;
        send_error = 0;
        return -1;
    }
    if (takes < 0 || (flags & MSG_DONTWAIT) == 0) {
        return __real_send(fd, buf, len, flags);
    }
    if (takes == 0) {
        errno = EAGAIN;
        return -1;
    }
    ssize_t sent = __real_send(fd, buf, len < (size_t)takes ? len : (size_t)takes, flags);
    takes -= sent > 0 ? sent : 0;
    return sent;
}

/* ---- the gate ---- */

static char id[] = "gw-1";
static char role_name[] = "client";
static char everything[] = "#";
static char *all[] = {everything, NULL};
static struct sp_role_config role = {.name = role_name, .publish = all, .subscribe = all};

static const struct sp_limits_config usual = {
    .packet = 16384,
    .handshakes = 16,
    .handshakes_per_address = 64,
    .handshakes_per_identity = 2,
    .waiting = 8,
    .waiting_per_address = 6,
    .connections_per_address = 100,
    .connects_per_second = 100000,
    .connects_burst = 100000,
    .crowded_timeout_ms = 1000,
    .descriptor_reserve = 16,
    .stall_timeout_ms = 5000,
    .turn_messages = 256,
    .connections = 100,
    .preauth_timeout_ms = 9000,
    .tls_timeout_ms = 4000,
    .connect_timeout_ms = 3000,
    .receive_maximum = 4,
    .in_flight = 4,
    .session_queue_bytes = 100000,
    .session_queues_bytes = 10000000,
    .session_expiry_s = 600,
    .write_buffer = 20000,
    .write_buffers = 10000000,
    .keep_alive_min_s = 1,
    .keep_alive_max_s = 100000,
    .topic_levels = 6,
    .topic_bytes = 64,
    .subscriptions = 4,
    .attempts = 3,
};

/* What keys says of whoever asks. */
struct answer {
    bool silent;
    bool unknown;
    const char *role;
    enum sp_attestation_mode mode;
    uint32_t timeout_ms;
    uint8_t first_of_key;
};

struct device {
    int fd;
    gnutls_session_t tls;
    gnutls_psk_client_credentials_t credentials;
    bool open; /* the handshake is finished */
    bool mute; /* push_part() sends nothing more */
};

static struct {
    struct sp_gate gate;
    struct sp_worker loops[2];
    int keys[2]; /* our ends */
    int store[2];
    struct answer answer;
    uint64_t asked; /* the tag of who asked last */
    bool spread;    /* each device has an address of its own */
    struct device devices[DEVICES];
} w;

static struct sp_config *config;
static struct sp_tls_server *server;
static const uint8_t key[16] = {7, 7, 7};

static void turn(void)
{
    for (int round = 0; round < 3; round++) {
        SP_CHECK(sp_worker_turn(&w.loops[0]));
        SP_CHECK(sp_worker_turn(&w.loops[1]));
    }
}

static void pass(uint64_t ms)
{
    clock_ms += ms;
    turn();
}

static void keys_says(int loop, uint16_t type, uint64_t tag, const void *body, size_t len)
{
    const struct sp_frame frame = {.length = (uint32_t)len, .type = type, .tag = tag};
    SP_CHECK(__real_send(w.keys[loop], &frame, sizeof(frame), MSG_NOSIGNAL) > 0);
    SP_CHECK(__real_send(w.keys[loop], body, len, MSG_NOSIGNAL) == (ssize_t)len);
}

static void say_psk(int loop, uint64_t tag)
{
    struct sp_msg_psk_answer answer = {
        .known = !w.answer.unknown,
        .psk_len = sizeof(key),
        .nonce_ok = 1,
        .row = {.attestation = (uint8_t)w.answer.mode, .answer_timeout_ms = w.answer.timeout_ms}};
    strcpy(answer.row.role, w.answer.role);
    memcpy(answer.psk, key, sizeof(key));
    answer.psk[0] = w.answer.first_of_key;
    keys_says(loop, SP_MSG_PSK_ANSWER, tag, &answer, sizeof(answer));
}

/* Answers to what the loops have asked. */
static void be_keys(void)
{
    for (int loop = 0; loop < 2; loop++) {
        struct sp_frame frame;
        uint8_t body[512];
        while (recv(w.keys[loop], &frame, sizeof(frame), MSG_DONTWAIT) == (ssize_t)sizeof(frame)) {
            SP_CHECK(frame.length <= sizeof(body));
            (void)!recv(w.keys[loop], body, frame.length, MSG_DONTWAIT);
            if (frame.type == SP_MSG_PSK) {
                w.asked = frame.tag;
            }
            if (frame.type == SP_MSG_PSK && !w.answer.silent) {
                say_psk(loop, frame.tag);
            }
        }
    }
}

static bool begun(void)
{
    int keys[2][2];
    int store[2][2];
    memset(&w, 0, sizeof(w));
    clock_ms = 1000000;
    takes = -1;
    epoll_fails = 0;
    config->limits = usual;
    w.answer =
        (struct answer){.role = role_name, .mode = SP_ATTESTATION_NONE, .first_of_key = key[0]};
    for (int i = 0; i < 2; i++) {
        SP_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, keys[i]) == 0 &&
                 socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, store[i]) == 0);
        w.keys[i] = keys[i][1];
        w.store[i] = store[i][1];
    }
    int keys_ends[2] = {keys[0][0], keys[1][0]};
    int store_ends[2] = {store[0][0], store[1][0]};
    /* Beside another process, which hands over: nothing is loaded from the journal. */
    const struct sp_child child = {
        .config = config, .keys = keys_ends, .store = store_ends, .beside = true};
    w.gate = (struct sp_gate){
        .config = config, .workers = w.loops, .count = 2, .servers = &server, .descriptors = 1000};
    SP_CHECK(sp_subs_create(2, &w.gate.subs) == SP_OK);
    return sp_worker_init(&w.loops[0], &w.gate, 0, &child) == SP_OK &&
           sp_worker_init(&w.loops[1], &w.gate, 1, &child) == SP_OK;
}

static void begin(void)
{
    SP_CHECK(begun());
    turn();
}

static void hang_up(struct device *device)
{
    if (device->tls != NULL) {
        gnutls_deinit(device->tls);
        gnutls_psk_free_client_credentials(device->credentials);
        close(device->fd);
        *device = (struct device){.fd = -1};
    }
}

/* The connection of a loop that its walk shows last; NULL: it has none. */
static struct sp_conn *conn_of(int loop)
{
    struct sp_worker_walk walk = {0};
    struct sp_conn *last = NULL;
    struct sp_conn *conn;
    while ((conn = sp_worker_next(&w.loops[loop], &walk)) != NULL) {
        last = conn;
    }
    return last;
}

static void end(void)
{
    for (int i = 0; i < DEVICES; i++) {
        hang_up(&w.devices[i]);
    }
    takes = -1;
    turn();
    SP_CHECK(conn_of(0) == NULL && conn_of(1) == NULL);
    SP_CHECK(w.loops[0].open == 0 && w.loops[1].open == 0);
    SP_CHECK_INT(atomic_load(&w.gate.connections), 0);
    for (int i = 0; i < 2; i++) {
        sp_worker_deinit(&w.loops[i]);
        close(w.keys[i]);
        close(w.store[i]);
    }
    sp_subs_destroy(w.gate.subs);
}

/* ---- devices ---- */

/* Sends what comes before ChangeCipherSpec, and nothing more: a handshake that stands. GnuTLS pushes record by record. */
static ssize_t push_part(gnutls_transport_ptr_t to, const void *bytes, size_t len)
{
    struct device *device = to;
    device->mute = device->mute || *(const uint8_t *)bytes != 22;
    return device->mute ? (ssize_t)len : __real_send(device->fd, bytes, len, MSG_NOSIGNAL);
}

/* A connection on loop 0. The identities' homes: `home0`, `home1`. */
static struct device *dial(int who, const char *identity)
{
    const uint8_t address[4] = {192, 0, 2, (uint8_t)(w.spread ? who : 9)};
    struct device *device = &w.devices[who];
    struct sp_peer peer = {.family = AF_INET};
    int pair[2];
    memcpy(peer.address, address, sizeof(address));
    SP_CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, pair) == 0);
    *device = (struct device){.fd = pair[1]};
    gnutls_init(&device->tls, GNUTLS_CLIENT | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL);
    SP_CHECK_INT(gnutls_priority_set_direct(device->tls, PRIORITY, NULL), 0);
    gnutls_psk_allocate_client_credentials(&device->credentials);
    gnutls_datum_t name = {(unsigned char *)(uintptr_t)identity, (unsigned)strlen(identity)};
    gnutls_datum_t secret = {(unsigned char *)(uintptr_t)key, sizeof(key)};
    gnutls_psk_set_client_credentials2(device->credentials, &name, &secret, GNUTLS_PSK_KEY_RAW);
    gnutls_credentials_set(device->tls, GNUTLS_CRD_PSK, device->credentials);
    gnutls_transport_set_int(device->tls, device->fd);
    sp_conn_open(&w.loops[0], server, pair[0], &peer);
    return device;
}

/* As far as the handshake goes. */
static void shake(struct device *device)
{
    for (int i = 0; i < 8 && !device->open; i++) {
        int code = gnutls_handshake(device->tls);
        device->open = code == 0;
        turn();
        be_keys();
        turn();
        if (code < 0 && gnutls_error_is_fatal(code)) {
            return;
        }
    }
}

static void say(struct device *device, const void *bytes, size_t len)
{
    SP_CHECK_INT(gnutls_record_send(device->tls, bytes, len), len);
    turn();
}

#define SAY(device, text) say(device, text, sizeof(text) - 1)

/* What has come: how much, or below 0. */
static ssize_t hear(struct device *device, uint8_t *buf, size_t cap)
{
    size_t got = 0;
    for (;;) {
        ssize_t n = gnutls_record_recv(device->tls, buf + got, cap - got);
        if (n <= 0) {
            return got > 0 || n == GNUTLS_E_AGAIN ? (ssize_t)got : n == 0 ? -1 : n;
        }
        got += (size_t)n;
    }
}

static bool hears(struct device *device, const char *bytes, size_t len)
{
    uint8_t buf[1024];
    ssize_t got = hear(device, buf, sizeof(buf));
    return got == (ssize_t)len && memcmp(buf, bytes, len) == 0;
}

#define HEARS(device, text) hears(device, text, sizeof(text) - 1)

/* The gate has closed the socket. */
static bool is_closed(struct device *device)
{
    uint8_t buf[4096];
    ssize_t n;
    while ((n = recv(device->fd, buf, sizeof(buf), MSG_DONTWAIT)) > 0) {
    }
    return n == 0 || errno == ECONNRESET;
}

/* CONNECT as a 3.1.1 client of that name with a keep-alive of 0, six bytes long. */
#define CONNECT(name) "\x10\x11\x00\x04MQTT\x04\x02\x00\x00\x00\x05" name
#define CONNACK       "\x20\x02\x00\x00"

static struct device *connected(int who, const char *identity)
{
    struct device *device = dial(who, identity);
    turn();
    shake(device);
    SP_CHECK(device->open);
    if (strcmp(identity, "home0") == 0) {
        SAY(device, CONNECT("home0"));
    } else {
        SAY(device, CONNECT("home1"));
    }
    SP_CHECK(HEARS(device, CONNACK));
    return device;
}

/* ---- tests ---- */

static void a_device_is_served_on_the_loop_of_its_identity(void)
{
    begin();
    struct device *here = connected(0, "home0");
    struct device *there = connected(1, "home1");
    SP_CHECK(conn_of(0) != NULL && conn_of(1) != NULL);
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_ADMITTED);
    SP_CHECK_INT(conn_of(1)->stage, SP_CONN_ADMITTED);
    SAY(here, "\x82\x06\x00\x01\x00\x01x\x00");
    SP_CHECK(HEARS(here, "\x90\x03\x00\x01\x00"));
    SAY(there, "\x30\x04\x00\x01xy");
    SP_CHECK(HEARS(here, "\x30\x04\x00\x01xy"));
    SAY(there, "\xC0\x00");
    SP_CHECK(HEARS(there, "\xD0\x00"));
    SAY(here, "\xE0\x00");
    SP_CHECK(conn_of(0) == NULL || conn_of(0)->stage >= SP_CONN_CLOSING);
    end();
}

static void who_says_too_little_in_its_time_is_closed(void)
{
    begin();
    struct device *silent = dial(0, "home0");
    struct device *waits_for_keys = dial(1, "home0");
    w.answer.silent = true;
    turn();
    (void)gnutls_handshake(waits_for_keys->tls);
    pass(3999);
    (void)gnutls_handshake(waits_for_keys->tls);
    shake(waits_for_keys);
    SP_CHECK_INT(w.loops[0].admission.in_service, 1);
    SP_CHECK(!is_closed(silent));
    pass(1);
    SP_CHECK(is_closed(silent));
    pass(4000);
    SP_CHECK(conn_of(0) == NULL);
    w.answer.silent = false;
    struct device *mute = dial(2, "home1");
    turn();
    shake(mute);
    pass(2999);
    SP_CHECK(!is_closed(mute));
    struct device *late = dial(3, "home1");
    turn();
    shake(late);
    SAY(late, "\x10");
    pass(1);
    SP_CHECK(is_closed(mute));
    pass(3000);
    SP_CHECK(is_closed(late));
    end();
}

static void half_a_handshake_ends_with_its_time(void)
{
    begin();
    struct device *device = dial(0, "home0");
    turn();
    (void)gnutls_handshake(device->tls);
    turn();
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_HANDSHAKE);
    pass(4000);
    SP_CHECK(conn_of(0) == NULL);
    end();
}

static void a_guest_without_a_verdict_is_closed_in_the_end(void)
{
    begin();
    w.answer.mode = SP_ATTESTATION_REQUIRED;
    w.answer.timeout_ms = 3000; /* two seconds more than others have */
    struct device *device = dial(0, "home0");
    turn();
    shake(device);
    SAY(device, CONNECT("home0"));
    uint8_t buf[512];
    SP_CHECK(hear(device, buf, sizeof(buf)) > 4); /* CONNACK and the challenge */
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_GUEST);
    SAY(device, "\x30\x16\x00\x10$sp/attest/tokentttt");
    SP_CHECK_INT(conn_of(0)->client.guard, SP_GUARD_APPRAISING);
    pass(7000); /* keys may take its time, up to the last moment */
    SP_CHECK(!is_closed(device));
    pass(4000);
    SP_CHECK(conn_of(0) == NULL || conn_of(0)->stage >= SP_CONN_CLOSING);
    hang_up(device);
    turn();
    device = dial(1, "home0");
    turn();
    shake(device);
    SAY(device, CONNECT("home0"));
    pass(2999);
    SP_CHECK(!is_closed(device));
    pass(8001);
    SP_CHECK(conn_of(0) == NULL || conn_of(0)->stage >= SP_CONN_CLOSING);
    end();
}

static void an_unknown_identity_and_a_wrong_key_look_the_same(void)
{
    begin();
    w.answer.unknown = true;
    w.answer.first_of_key = 9;
    struct device *stranger = dial(0, "home0");
    turn();
    shake(stranger);
    SP_CHECK(!stranger->open && conn_of(0) == NULL);
    w.answer.unknown = false;
    struct device *forger = dial(1, "home0");
    turn();
    shake(forger);
    SP_CHECK(!forger->open && conn_of(0) == NULL);
    SP_CHECK_INT(gnutls_alert_get(stranger->tls), gnutls_alert_get(forger->tls));
    end();
}

static void a_decoy_key_that_fits_opens_nothing(void)
{
    begin();
    w.answer.unknown = true;
    struct device *device = dial(0, "home0");
    turn();
    shake(device);
    turn();
    SP_CHECK(conn_of(0) == NULL);
    end();
}

static void a_role_that_the_configuration_does_not_know_is_refused(void)
{
    begin();
    w.answer.role = "other";
    struct device *device = dial(0, "home0");
    turn();
    shake(device);
    SP_CHECK(!device->open && conn_of(0) == NULL);
    end();
}

static void without_keys_who_waits_for_them_is_turned_away(void)
{
    begin();
    struct device *in = connected(3, "home0");
    w.answer.silent = true;
    struct device *device = dial(0, "home0");
    struct device *other = dial(1, "home1");
    turn();
    shake(device);
    shake(other);
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_PSK);
    close(w.keys[0]);
    close(w.keys[1]);
    turn();
    SP_CHECK(is_closed(device) && conn_of(1) == NULL);
    SAY(in, "\xC0\x00"); /* who is in stays in */
    SP_CHECK(HEARS(in, "\xD0\x00"));
    w.keys[0] = -1;
    w.keys[1] = -1;
    struct device *early = dial(2, "home0");
    turn();
    (void)gnutls_handshake(early->tls);
    turn();
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_WAITING);
    end();
}

static void what_comes_while_keys_is_asked_waits_in_the_socket(void)
{
    begin();
    w.answer.silent = true;
    struct device *device = dial(0, "home0");
    turn();
    shake(device);
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_PSK);
    SP_CHECK(__real_send(device->fd, "x", 1, MSG_NOSIGNAL) == 1);
    turn();
    SP_CHECK((conn_of(0)->watch.events & EPOLLIN) == 0);
    w.answer.silent = false;
    say_psk(0, w.asked);
    say_psk(0, w.asked); /* once more than it was asked for */
    turn();
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_GUEST);
    hang_up(device);
    turn();
    say_psk(0, w.asked); /* nobody is there any more */
    turn();
    end();
}

static void a_peer_that_vanishes_leaves_nothing_at_any_stage(void)
{
    for (int stage = 0; stage < 6; stage++) {
        begin();
        struct device *device = dial(0, "home0");
        w.answer.silent = stage == 2;
        w.answer.mode = stage == 3 ? SP_ATTESTATION_REQUIRED : SP_ATTESTATION_NONE;
        turn();
        if (stage == 1) {
            (void)gnutls_handshake(device->tls);
            turn();
        } else if (stage >= 2) {
            shake(device);
        }
        if (stage >= 3) {
            SAY(device, CONNECT("home0"));
        }
        if (stage == 5) {
            (void)gnutls_bye(device->tls, GNUTLS_SHUT_WR);
            turn();
        }
        hang_up(device);
        turn();
        SP_CHECK(conn_of(0) == NULL);
        end();
    }
}

static void a_broken_record_closes_with_an_alert(void)
{
    begin();
    struct device *device = connected(0, "home0");
    SP_CHECK(__real_send(device->fd, "\x17\x03\x03\x00\x20................................", 37,
                         MSG_NOSIGNAL) == 37);
    turn();
    SP_CHECK(conn_of(0) == NULL);
    device = connected(1, "home0");
    SP_CHECK(__real_send(device->fd, "GET / HTTP/1.1\r\n", 16, MSG_NOSIGNAL) == 16);
    turn();
    SP_CHECK(conn_of(0) == NULL);
    end();
}

static void the_last_words_are_written_and_read_before_the_socket_closes(void)
{
    begin();
    uint8_t buf[64];
    struct device *device = connected(0, "home0");
    SAY(device, "\x10\x00"); /* a second CONNECT */
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_LINGER);
    SP_CHECK_INT(hear(device, buf, sizeof(buf)), -1);
    SP_CHECK(__real_send(device->fd, "late", 4, MSG_NOSIGNAL) == 4);
    turn();
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_LINGER);
    pass(1000);
    SP_CHECK(conn_of(0) == NULL);
    /* One that leaves by itself is not waited for. */
    device = connected(1, "home0");
    SAY(device, "\xE0\x00");
    SP_CHECK(conn_of(0) == NULL);
    /* One whose socket takes nothing more is waited for as long as any slow reader. */
    device = connected(2, "home0");
    takes = 0;
    SAY(device, "\x10\x00");
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_CLOSING);
    SAY(device, "\xC0\x00");
    pass(4999);
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_CLOSING);
    pass(1);
    SP_CHECK(conn_of(0) == NULL);
    takes = -1;
    device = connected(3, "home0");
    takes = 0;
    SAY(device, "\x10\x00");
    takes = -1;
    turn();
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_LINGER);
    end();
}

/* Subscribed to x, which `speaker` says `count` times, a kilobyte each. */
static void flood(struct device *speaker, int count)
{
    uint8_t packet[1006] = {0x30, 0xEB, 0x07, 0x00, 0x01, 'x'};
    for (int i = 0; i < count; i++) {
        say(speaker, packet, sizeof(packet));
    }
}

static void a_slow_reader_is_held_back_and_closed_when_it_takes_nothing(void)
{
    begin();
    struct device *reader = connected(0, "home0");
    struct device *speaker = connected(1, "home1");
    SAY(reader, "\x82\x06\x00\x01\x00\x01x\x00");
    SP_CHECK(HEARS(reader, "\x90\x03\x00\x01\x00"));
    takes = 500;
    flood(speaker, 3);
    struct sp_conn *conn = conn_of(0);
    SP_CHECK(sp_client_now(&conn->client)->unsent.used > 2500);
    SP_CHECK_INT(conn->watch.events, EPOLLIN | EPOLLOUT);
    flood(speaker, 12);
    SP_CHECK_INT(conn->watch.events, EPOLLOUT); /* who does not read is not read from */
    flood(speaker, 20);
    SP_CHECK(sp_client_now(&conn->client)->unsent.used <= usual.write_buffer + 1100);
    pass(4000);
    takes = 100;
    pass(999); /* something went: five seconds more */
    takes = 0;
    pass(4500);
    SP_CHECK(conn_of(0) == conn);
    pass(500);
    SP_CHECK(conn_of(0) == NULL);
    end();
}

static void what_slow_readers_leave_together_has_a_bound(void)
{
    begin();
    config->limits.write_buffers = 10000;
    struct device *reader = connected(0, "home0");
    struct device *speaker = connected(1, "home1");
    SAY(reader, "\x82\x06\x00\x01\x00\x01x\x00");
    SP_CHECK(HEARS(reader, "\x90\x03\x00\x01\x00"));
    takes = 0;
    flood(speaker, 3);
    const struct sp_conn *conn = conn_of(0);
    SP_CHECK(conn != NULL && conn->client.home->unread > 3000 &&
             conn->client.home->unread == sp_client_now(&conn->client)->unsent.used);
    const struct sp_home *home = conn == NULL ? NULL : conn->client.home;
    flood(speaker, 12);
    SP_CHECK(conn_of(0) == NULL);
    SP_CHECK(home != NULL && home->unread == 0);
    end();
}

static void a_slow_reader_that_catches_up_gets_all_and_is_forgiven(void)
{
    begin();
    struct device *reader = connected(0, "home0");
    struct device *speaker = connected(1, "home1");
    SAY(reader, "\x82\x06\x00\x01\x00\x01x\x00");
    SP_CHECK(HEARS(reader, "\x90\x03\x00\x01\x00"));
    takes = 0;
    flood(speaker, 5);
    pass(3000);
    takes = -1;
    turn();
    uint8_t buf[8192];
    SP_CHECK_INT(hear(reader, buf, sizeof(buf)), 5 * 1006);
    pass(10000);
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_ADMITTED);
    SAY(reader, "\xC0\x00");
    SP_CHECK(HEARS(reader, "\xD0\x00"));
    SP_CHECK(sp_client_in_flight(&conn_of(0)->client) ==
             NULL); /* nothing of it is left in memory */
    /* One that the network resets while something waits for it. */
    takes = 0;
    flood(speaker, 12);
    SP_CHECK_INT(conn_of(0)->watch.events, EPOLLOUT);
    takes = -1;
    const struct linger hard = {.l_onoff = 1};
    (void)setsockopt(reader->fd, SOL_SOCKET, SO_LINGER, &hard, sizeof(hard));
    takes = 0;
    hang_up(reader);
    turn();
    SP_CHECK(conn_of(0) == NULL);
    end();
}

static void limits_end_connections_with_their_counter(void)
{
    begin();
    config->limits.waiting_per_address = 2;
    (void)dial(0, "home0");
    (void)dial(1, "home0");
    struct device *third = dial(2, "home0");
    SP_CHECK(is_closed(third));
    end();
    begin();
    config->limits.handshakes = 1;
    config->limits.crowded_timeout_ms = 500;
    struct device *slow = dial(0, "home0");
    struct device *next = dial(1, "home0");
    turn();
    (void)gnutls_handshake(slow->tls);
    turn();
    SP_CHECK_INT(w.loops[0].admission.in_service, 1);
    (void)gnutls_handshake(next->tls);
    turn();
    SP_CHECK_INT(w.loops[0].admission.ready, 1);
    pass(1000);
    SP_CHECK(is_closed(slow)); /* it was slow, and somebody waited */
    shake(next);
    SP_CHECK(next->open);
    end();
}

static void the_oldest_handshake_of_an_identity_goes_for_the_newest(void)
{
    begin();
    struct device *devices[3];
    for (int i = 0; i < 3; i++) {
        devices[i] = dial(i, "home0");
        gnutls_transport_set_ptr2(devices[i]->tls, (gnutls_transport_ptr_t)(intptr_t)devices[i]->fd,
                                  devices[i]);
        gnutls_transport_set_push_function(devices[i]->tls, push_part);
        turn();
        shake(devices[i]);
        pass(1);
    }
    SP_CHECK_INT(w.loops[0].admission.in_service, 2);
    SP_CHECK(is_closed(devices[0]));
    end();
}

static void who_waits_for_a_place_is_told_when_there_will_be_none_in_time(void)
{
    begin();
    config->limits.handshakes = 1;
    config->limits.crowded_timeout_ms = 100000;
    config->limits.tls_timeout_ms = 100000;
    config->limits.preauth_timeout_ms = 100000;
    w.answer.silent = true;
    struct device *first = dial(0, "home0");
    turn();
    shake(first);
    config->limits.tls_timeout_ms = 4000;
    config->limits.preauth_timeout_ms = 20000;
    struct device *second = dial(1, "home0");
    turn();
    (void)gnutls_handshake(second->tls);
    pass(4000);
    SP_CHECK(!is_closed(second)); /* it has said hello, and waits on */
    pass(6000);
    SP_CHECK(is_closed(second));
    end();
}

static void a_verdict_finds_what_came_before_it(void)
{
    begin();
    w.answer.mode = SP_ATTESTATION_REQUIRED;
    struct device *device = dial(0, "home0");
    turn();
    shake(device);
    SAY(device, CONNECT("home0"));
    const struct sp_msg_verdict verdict = {.check = SP_ATTEST_OK};
    keys_says(0, SP_MSG_VERDICT, w.asked, &verdict, sizeof(verdict));
    turn();
    SP_CHECK_INT(conn_of(0)->client.attested, 0); /* nobody asked for it */
    end();
}

static void an_event_loop_that_takes_no_more_closes_the_newcomer(void)
{
    begin();
    epoll_fails = 1;
    struct device *device = dial(0, "home0");
    turn();
    SP_CHECK(is_closed(device) && conn_of(0) == NULL);
    /* On its way to the other loop. */
    struct device *other = dial(1, "home1");
    turn();
    (void)gnutls_handshake(other->tls);
    turn();
    (void)gnutls_handshake(other->tls);
    epoll_fails = 2; /* the first takes it off loop 0 */
    turn();
    SP_CHECK(is_closed(other) && conn_of(0) == NULL && conn_of(1) == NULL);
    end();
}

/* Written down on loop 0, and read on a loop of another process, which loop 1 plays. */
static void a_connection_goes_on_in_another_process(void)
{
    begin();
    struct device *device = connected(0, "home0");
    struct sp_conn *conn = conn_of(0);
    struct sp_buf packed = {NULL, 0, 0};
    struct sp_conn *other = NULL;
    w.loops[0].shares = true; /* as before anything is written down */
    SP_CHECK(sp_conn_can_go(conn));
    takes = 0;
    SAY(device, "\xC0\x00"); /* the answer is still to be written */
    SP_CHECK(sp_conn_can_go(conn));
    SP_CHECK_INT(sp_conn_pack(conn, &packed), SP_OK);
    for (size_t cut = 1; cut < packed.used; cut++) {
        int fd = dup(conn->watch.fd);
        SP_CHECK(sp_conn_unpack(&w.loops[1], fd, sp_view(packed.ptr, packed.used - cut), &other) !=
                 SP_OK);
        SP_CHECK(other == NULL);
    }
    int fd = dup(conn->watch.fd);
    sp_client_shutdown(&conn->client);
    sp_conn_close(conn);
    SP_CHECK_INT(sp_conn_unpack(&w.loops[1], fd, sp_buf_view(&packed), &other), SP_OK);
    struct sp_msg_psk_answer answer = {.known = 1, .row.attestation = SP_ATTESTATION_NONE};
    strcpy(answer.row.role, role_name);
    SP_CHECK_INT(sp_client_identify(&other->client, SP_VIEW_LIT("home0"), &answer), SP_OK);
    takes = -1;
    SP_CHECK_INT(sp_conn_go_on(other), SP_OK);
    turn();
    SP_CHECK(HEARS(device, "\xD0\x00"));
    sp_buf_free(&packed);
    /* And one to which nothing is owed. */
    SP_CHECK_INT(sp_conn_pack(other, &packed), SP_OK);
    SP_CHECK_INT(sp_conn_unpack(&w.loops[0], dup(other->watch.fd), sp_buf_view(&packed), &conn),
                 SP_OK);
    SP_CHECK_INT(sp_client_identify(&conn->client, SP_VIEW_LIT("home0"), &answer), SP_OK);
    conn->client.paused = true;
    SP_CHECK_INT(sp_conn_go_on(conn), SP_OK);
    SP_CHECK_INT(conn->watch.events, 0);
    sp_conn_close(conn);
    sp_buf_free(&packed);
    end();
}

static void guests_and_the_dying_stay_behind(void)
{
    begin();
    w.answer.mode = SP_ATTESTATION_REQUIRED;
    struct device *guest = dial(0, "home0");
    turn();
    shake(guest);
    SP_CHECK(!sp_conn_can_go(conn_of(0)));
    w.answer.mode = SP_ATTESTATION_NONE;
    struct device *dying = connected(1, "home1");
    struct sp_conn *conn = conn_of(1);
    SP_CHECK(sp_conn_can_go(conn));
    SP_CHECK(__real_send(dying->fd, "\x17\x03", 2, MSG_NOSIGNAL) == 2);
    turn();
    SP_CHECK(sp_conn_can_go(conn)); /* half a record goes along */
    conn->client.lost = true;
    SP_CHECK(!sp_conn_can_go(conn));
    end();
}

static void a_place_is_taken_from_who_idles_and_not_from_who_is_judged(void)
{
    for (int judged = 0; judged < 2; judged++) {
        begin();
        config->limits.handshakes = 1;
        config->limits.crowded_timeout_ms = 500;
        w.answer.mode = SP_ATTESTATION_REQUIRED;
        struct device *guest = dial(0, "home0");
        struct device *next = dial(1, "home1");
        turn();
        shake(guest);
        SAY(guest, CONNECT("home0"));
        if (judged == 1) {
            SAY(guest, "\x30\x16\x00\x10$sp/attest/tokentttt");
        }
        (void)gnutls_handshake(next->tls);
        turn();
        pass(600);
        SP_CHECK_INT(is_closed(guest), judged == 0);
        end();
    }
}

static void a_handshake_goes_on_when_the_socket_takes_more(void)
{
    begin();
    takes = 20;
    struct device *device = dial(0, "home1");
    turn();
    (void)gnutls_handshake(device->tls);
    turn();
    takes = 20;
    turn();
    SP_CHECK((conn_of(0)->watch.events & EPOLLOUT) != 0);
    takes = -1;
    turn();
    shake(device);
    SP_CHECK(device->open);
    takes = 2; /* its CONNACK goes out bit by bit, and it is in nevertheless */
    SAY(device, CONNECT("home1"));
    SP_CHECK_INT(conn_of(1)->stage, SP_CONN_ADMITTED);
    pass(4999);
    takes = -1;
    turn();
    SP_CHECK(HEARS(device, CONNACK));
    pass(20000);
    SP_CHECK_INT(conn_of(1)->stage, SP_CONN_ADMITTED);
    end();
}

static void an_error_of_the_socket_ends_the_connection_and_an_interruption_does_not(void)
{
    begin();
    struct device *device = connected(0, "home0");
    send_error = EINTR;
    SAY(device, "\xC0\x00");
    turn();
    SP_CHECK(HEARS(device, "\xD0\x00"));
    send_error = EPIPE;
    SAY(device, "\xC0\x00");
    turn();
    SP_CHECK(conn_of(0) == NULL);
    end();
}

static void a_loop_that_stops_takes_nobody_in(void)
{
    begin();
    struct device *device = dial(0, "home1");
    struct device *guest = dial(1, "home0");
    struct device *silent = dial(2, "home0");
    turn();
    shake(guest);
    (void)gnutls_handshake(device->tls);
    turn();
    sp_worker_stop(&w.loops[1]);
    turn();
    (void)gnutls_handshake(device->tls);
    turn();
    SP_CHECK(conn_of(1) == NULL && is_closed(device));
    sp_worker_stop(&w.loops[0]);
    turn();
    SP_CHECK(is_closed(silent));
    pass(6000);
    SP_CHECK(conn_of(0) == NULL);
    end();
}

static void orders_reach_a_loop_without_memory(void)
{
    atomic_uint count = 0;
    begin();
    for (unsigned i = 1; i <= 3 * SP_WORKER_ORDERS; i++) {
        starve(1, UINT64_MAX);
        sp_worker_leave(&w.loops[1], &count);
        sp_worker_freeze(&w.loops[1]);
        SP_CHECK_INT(starve_end(), 2);
        turn();
        SP_CHECK_INT(atomic_load(&count), i);
        SP_CHECK(w.loops[1].leaving && w.loops[1].home.frozen);
        sp_worker_thaw(&w.loops[1]);
    }
    struct device *device = connected(0, "home1");
    starve(1, UINT64_MAX);
    sp_worker_stop(&w.loops[1]);
    SP_CHECK_INT(starve_end(), 1);
    turn();
    SP_CHECK(is_closed(device));
    pass(6000);
    end();
}

static void one_that_says_much_is_read_on_in_the_next_turn(void)
{
    begin();
    config->limits.turn_messages = 2;
    struct device *device = connected(0, "home0");
    SP_CHECK_INT(gnutls_record_send(device->tls, "\xC0\x00\xC0\x00\xC0\x00\xC0\x00\xC0\x00", 10),
                 10);
    SP_CHECK(sp_worker_turn(&w.loops[0]));
    SP_CHECK(HEARS(device, "\xD0\x00\xD0\x00"));
    sp_conn_read(conn_of(0)); /* not now */
    turn();
    SP_CHECK(HEARS(device, "\xD0\x00\xD0\x00\xD0\x00"));
    end();
}

static void an_identity_that_cannot_be_one_is_unknown_whatever_keys_says(void)
{
    begin();
    struct device *device = dial(0, "no identity!");
    turn();
    shake(device);
    turn();
    SP_CHECK(conn_of(0) == NULL && conn_of(1) == NULL);
    end();
}

static void a_handshake_that_keys_has_to_answer_does_not_idle(void)
{
    begin();
    config->limits.handshakes = 1;
    config->limits.crowded_timeout_ms = 500;
    w.answer.silent = true;
    struct device *first = dial(0, "home0");
    struct device *second = dial(1, "home0");
    turn();
    shake(first);
    (void)gnutls_handshake(second->tls);
    pass(600);
    SP_CHECK(!is_closed(first));
    SP_CHECK(__real_send(second->fd, "x", 1, MSG_NOSIGNAL) == 1); /* it cannot wait for its place */
    turn();
    SP_CHECK_INT(w.loops[0].admission.ready, 1);
    end();
}

static void a_client_hello_may_come_in_pieces(void)
{
    begin();
    struct device *device = dial(0, "home0");
    SP_CHECK(__real_send(device->fd, "\x16\x03\x01\x00", 4, MSG_NOSIGNAL) == 4);
    turn();
    SP_CHECK_INT(conn_of(0)->stage, SP_CONN_WAITING);
    SP_CHECK_INT(w.loops[0].admission.ready, 0);
    end();
}

static void much_at_once_is_taken_whole(void)
{
    static uint8_t packet[13008] = {0x30, 0xCD, 0x65, 0x00, 0x01, 'x'};
    begin();
    struct device *device = connected(0, "home0");
    struct device *reader = connected(1, "home1");
    SAY(reader, "\x82\x06\x00\x01\x00\x01x\x00");
    SP_CHECK(HEARS(reader, "\x90\x03\x00\x01\x00"));
    config->limits.write_buffer = 1000000;
    for (int i = 0; i < 6; i++) {
        SP_CHECK_INT(gnutls_record_send(device->tls, packet, sizeof(packet)), sizeof(packet));
    }
    size_t got = 0;
    for (int i = 0; i < 8; i++) {
        static uint8_t buf[100000];
        turn();
        ssize_t n = hear(reader, buf, sizeof(buf));
        got += n > 0 ? (size_t)n : 0;
    }
    SP_CHECK_INT(got, 6 * sizeof(packet));
    /* Good-bye twice, by MQTT and by TLS. */
    SP_CHECK_INT(gnutls_record_send(device->tls, "\xE0\x00", 2), 2);
    (void)gnutls_bye(device->tls, GNUTLS_SHUT_WR);
    turn();
    SP_CHECK(conn_of(0) == NULL);
    end();
}

static void others_of_an_identity_do_not_count_as_handshakes(void)
{
    begin();
    struct device *in = connected(0, "home0");
    for (int i = 1; i < 4; i++) {
        struct device *standing = dial(i, i == 1 ? "home1" : "home0");
        gnutls_transport_set_ptr2(standing->tls, (gnutls_transport_ptr_t)(intptr_t)standing->fd,
                                  standing);
        gnutls_transport_set_push_function(standing->tls, push_part);
        turn();
        shake(standing);
        SP_CHECK(!is_closed(standing));
    }
    SAY(in, "\xC0\x00");
    SP_CHECK(HEARS(in, "\xD0\x00"));
    end();
}

/* @return No allocation failed. */
static bool moved_without_memory(uint64_t nth)
{
    begin();
    struct device *device = connected(0, "home0");
    struct sp_conn *conn = conn_of(0);
    struct sp_conn *other = NULL;
    struct sp_buf packed = {NULL, 0, 0};
    takes = 0;
    SAY(device, "\xC0\x00");
    w.loops[0].home.config = config;
    starve(nth, 1);
    enum sp_err err = sp_conn_pack(conn, &packed);
    if (err == SP_OK) {
        err = sp_conn_unpack(&w.loops[1], dup(conn->watch.fd), sp_buf_view(&packed), &other);
    }
    if (err == SP_OK) {
        err = sp_conn_go_on(other);
    }
    bool whole = starve_end() == 0;
    SP_CHECK_INT(err, whole ? SP_OK : SP_ERR_NOMEM);
    if (other != NULL) {
        sp_conn_close(other);
    }
    takes = -1;
    turn();
    SP_CHECK(HEARS(device, "\xD0\x00")); /* it stays where it was */
    sp_buf_free(&packed);
    end();
    return whole;
}

static void without_memory_for_a_move_a_connection_stays(void)
{
    uint64_t nth = 1;
    int64_t before = starve_live();
    while (!moved_without_memory(nth) && nth < 100) {
        nth++;
    }
    SP_CHECK(nth > 3 && nth < 100);
    SP_CHECK_INT(starve_live(), before);
}

/* From the first byte to the last, with memory that runs out at each allocation in turn: nobody else suffers, nothing is left. */
static void a_lack_of_memory_costs_the_connection_and_nothing_else(void)
{
    uint64_t failed = 1;
    for (uint64_t nth = 1; failed > 0 && sp_test_failures_ == 0; nth++) {
        int64_t before = starve_live();
        begin();
        w.spread = true;
        struct device *bystander = connected(0, "home1");
        starve(nth, 1);
        for (int i = 1; i < 3; i++) {
            struct device *device = dial(i, i == 1 ? "home0" : "home1");
            turn();
            shake(device);
            if (device->open && gnutls_record_send(device->tls, CONNECT("home0"), 19) > 0) {
                turn();
                takes = 1;
                (void)gnutls_record_send(device->tls, "\xC0\x00\xC0", 3);
                turn();
                takes = -1;
                turn();
            }
        }
        failed = starve_end();
        hang_up(&w.devices[1]);
        hang_up(&w.devices[2]);
        pass(0);
        if (!atomic_load(&w.gate.failed)) { /* a channel has no memory: the parent begins anew */
            SAY(bystander, "\xC0\x00");
            SP_CHECK(HEARS(bystander, "\xD0\x00"));
        }
        end();
        SP_CHECK_INT(starve_live(), before);
    }
}

/* @return No allocation failed. */
static bool counted_without_memory(uint64_t nth)
{
    begin();
    struct device *device = connected(0, "home0");
    int64_t before = sp_metric_read(SP_M_SHED_MEMORY);
    starve(nth, 1);
    SAY(device, "\xC0\x00");
    bool whole = starve_end() == 0;
    SP_CHECK_INT(sp_metric_read(SP_M_SHED_MEMORY) - before, whole ? 0 : 1);
    SP_CHECK(whole ? HEARS(device, "\xD0\x00") : conn_of(0) == NULL);
    end();
    return whole;
}

static void whom_a_lack_of_memory_ends_is_counted_once(void)
{
    uint64_t nth = 1;
    SP_CHECK_INT(sp_metrics_init(), SP_OK);
    while (!counted_without_memory(nth) && nth < 100) {
        nth++;
    }
    SP_CHECK(nth > 1 && nth < 100);
}

static const struct sp_test tests[] = {
    SP_TEST(a_device_is_served_on_the_loop_of_its_identity),
    SP_TEST(who_says_too_little_in_its_time_is_closed),
    SP_TEST(half_a_handshake_ends_with_its_time),
    SP_TEST(a_guest_without_a_verdict_is_closed_in_the_end),
    SP_TEST(an_unknown_identity_and_a_wrong_key_look_the_same),
    SP_TEST(a_decoy_key_that_fits_opens_nothing),
    SP_TEST(a_role_that_the_configuration_does_not_know_is_refused),
    SP_TEST(without_keys_who_waits_for_them_is_turned_away),
    SP_TEST(what_comes_while_keys_is_asked_waits_in_the_socket),
    SP_TEST(a_peer_that_vanishes_leaves_nothing_at_any_stage),
    SP_TEST(a_broken_record_closes_with_an_alert),
    SP_TEST(the_last_words_are_written_and_read_before_the_socket_closes),
    SP_TEST(a_slow_reader_is_held_back_and_closed_when_it_takes_nothing),
    SP_TEST(what_slow_readers_leave_together_has_a_bound),
    SP_TEST(a_slow_reader_that_catches_up_gets_all_and_is_forgiven),
    SP_TEST(limits_end_connections_with_their_counter),
    SP_TEST(the_oldest_handshake_of_an_identity_goes_for_the_newest),
    SP_TEST(who_waits_for_a_place_is_told_when_there_will_be_none_in_time),
    SP_TEST(a_verdict_finds_what_came_before_it),
    SP_TEST(an_event_loop_that_takes_no_more_closes_the_newcomer),
    SP_TEST(a_connection_goes_on_in_another_process),
    SP_TEST(guests_and_the_dying_stay_behind),
    SP_TEST(a_place_is_taken_from_who_idles_and_not_from_who_is_judged),
    SP_TEST(a_handshake_goes_on_when_the_socket_takes_more),
    SP_TEST(an_error_of_the_socket_ends_the_connection_and_an_interruption_does_not),
    SP_TEST(a_loop_that_stops_takes_nobody_in),
    SP_TEST(orders_reach_a_loop_without_memory),
    SP_TEST(one_that_says_much_is_read_on_in_the_next_turn),
    SP_TEST(an_identity_that_cannot_be_one_is_unknown_whatever_keys_says),
    SP_TEST(a_handshake_that_keys_has_to_answer_does_not_idle),
    SP_TEST(a_client_hello_may_come_in_pieces),
    SP_TEST(much_at_once_is_taken_whole),
    SP_TEST(others_of_an_identity_do_not_count_as_handshakes),
    SP_TEST(without_memory_for_a_move_a_connection_stays),
    SP_TEST(a_lack_of_memory_costs_the_connection_and_nothing_else),
    SP_TEST(whom_a_lack_of_memory_ends_is_counted_once),
};

int main(void)
{
    static const struct sp_listener_config listener = {.suites = SP_SUITES_PROFILE_SMALL};
    char why[128];
    sp_log_init("test", SP_LOG_ERROR);
    config = calloc(1, sizeof(*config));
    *config = (struct sp_config){
        .id = id,
        .threads = 2,
        .roles = &role,
        .role_count = 1,
        .attestation = {.reattest_interval_s = 3600, .answer_timeout_ms = 1000},
    };
    config = sp_config_hold(config); /* one reference that is never given back */
    if (sp_tls_server_create(&listener, why, sizeof(why), &server) != SP_OK) {
        printf("%s\n", why);
        return 1;
    }
    while (sp_home_of(SP_VIEW_LIT("home0"), 2) != 0 || sp_home_of(SP_VIEW_LIT("home1"), 2) != 1) {
        seed++;
    }
    int status = sp_test_run_all(tests, sizeof(tests) / sizeof(tests[0]));
    sp_tls_server_destroy(server);
    free(config);
    return status;
}
