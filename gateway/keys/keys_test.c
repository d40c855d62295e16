/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* The whole process, forked as the parent does it, in its sandbox; this test is parent, gate and command line. */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/keys/registry.h"
#include "gateway/log/log.h"
#include "gateway/proc/channel.h"
#include "gateway/proc/proc.h"
#include "libs/base/test.h"

#define LOOPS       2
#define PATIENCE_MS 5000

static char folder[64];
static struct sp_config *config;
static struct sp_registry *tool;
static pid_t child;
static int control;
static struct sp_channel *gates[LOOPS];

static void write_config(const char *file, const char *attestation)
{
    FILE *f = fopen(file, "w");
    SP_CHECK(f != NULL);
    if (f != NULL) {
        (void)fprintf(f,
                      "gateway:\n  id: gw-1\n  state_dir: %s\n  threads: %d\n"
                      "listeners:\n  - address: 127.0.0.1:0\n    suites: [profile-small]\n"
                      "attestation:\n  lifecycle: [%s]\n",
                      folder, LOOPS, attestation);
        (void)fclose(f);
    }
}

static void add_device(const char *id)
{
    struct sp_device d = {.iak_algorithm = SP_ATTEST_HMAC256};
    struct sp_device_secrets s = {0};
    sp_copy(d.id, id, strlen(id));
    sp_copy(d.row.role, "sensor", 6);
    SP_CHECK_INT(sp_device_secrets_make(d.iak_algorithm, &s), SP_OK);
    SP_CHECK_INT(sp_registry_device_add(tool, &d, &s), SP_OK);
}

static void start_keys(void)
{
    int pair[2];
    int keys[LOOPS];
    SP_CHECK_INT(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, pair), 0);
    control = pair[0];
    struct sp_child given = {.config = config, .control = pair[1], .keys = keys};
    for (int i = 0; i < LOOPS; i++) {
        int ends[2];
        SP_CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
        SP_CHECK_INT(sp_channel_create(ends[0], &gates[i]), SP_OK);
        keys[i] = ends[1];
    }
    child = fork();
    if (child == 0) {
        (void)close(control);
        for (int i = 0; i < LOOPS; i++) {
            (void)close(sp_channel_fd(gates[i]));
        }
        _exit(sp_keys_main(&given));
    }
    (void)close(pair[1]);
    for (int i = 0; i < LOOPS; i++) {
        (void)close(keys[i]);
    }
}

static int wait_for_keys(void)
{
    int status = 0;
    SP_CHECK(waitpid(child, &status, 0) == child);
    for (int i = 0; i < LOOPS; i++) {
        sp_channel_destroy(gates[i]);
        gates[i] = NULL;
    }
    return status;
}

static bool readable(int fd)
{
    struct pollfd p = {.fd = fd, .events = POLLIN};
    return poll(&p, 1, PATIENCE_MS) == 1;
}

static bool is_ready(void)
{
    struct sp_control message = {0};
    int fd = -1;
    return readable(control) && sp_control_receive(control, &message, &fd) == SP_OK &&
           message.type == SP_CONTROL_READY;
}

static void begin(void)
{
    char file[128];
    char key_file[128];
    struct sp_fault fault;
    sp_log_init("test", SP_LOG_ERROR);
    (void)snprintf(folder, sizeof(folder), "/tmp/sp-keys-test-XXXXXX");
    SP_CHECK(mkdtemp(folder) != NULL);
    (void)snprintf(file, sizeof(file), "%s/sallyport.yaml", folder);
    (void)snprintf(key_file, sizeof(key_file), "%s/master.key", folder);
    write_config(file, "secured");
    SP_CHECK_INT(sp_config_load(file, stdout, &config), SP_OK);
    SP_CHECK_INT(sp_registry_create(folder, key_file, &fault), SP_OK);
    SP_CHECK_INT(sp_registry_open(folder, key_file, SP_REGISTRY_TOOL, &tool, &fault), SP_OK);
    add_device("dev-1");
}

static void end(void)
{
    char command[128];
    sp_registry_close(tool);
    sp_config_destroy(config);
    (void)close(control);
    (void)snprintf(command, sizeof(command), "rm -rf '%s'", folder);
    SP_CHECK_INT(system(command), 0);
}

static void stop_keys(void)
{
    SP_CHECK_INT(sp_control_send(control, &(struct sp_control){.type = SP_CONTROL_STOP}, -1),
                 SP_OK);
    SP_CHECK_INT(wait_for_keys(), 0);
}

/* --- the gate --- */

struct heard {
    uint16_t type;
    struct sp_msg_psk_answer answer;
    bool found;
};

static enum sp_err hear(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    struct heard *h = arg;
    if (frame->type == h->type) {
        h->found = true;
        sp_copy(&h->answer, body.ptr, body.len < sizeof(h->answer) ? body.len : sizeof(h->answer));
    }
    return SP_OK;
}

/* Read until a message of that type comes; others are passed over. */
static bool hears(int loop, uint16_t type, struct heard *h)
{
    *h = (struct heard){.type = type};
    while (!h->found && readable(sp_channel_fd(gates[loop]))) {
        if (sp_channel_receive(gates[loop], hear, h) != SP_OK) {
            return false;
        }
    }
    return h->found;
}

static bool knows(int loop, const char *id)
{
    struct heard h;
    struct sp_view body = sp_view_str(id);
    SP_CHECK_INT(sp_channel_send(gates[loop], SP_MSG_PSK, 1, &body, 1), SP_OK);
    SP_CHECK_INT(sp_channel_flush(gates[loop]), SP_OK);
    SP_CHECK(hears(loop, SP_MSG_PSK_ANSWER, &h));
    return h.answer.known == 1;
}

static bool comes_to_know(int loop, const char *id)
{
    for (int i = 0; i < 50; i++) {
        if (knows(loop, id)) {
            return true;
        }
        (void)usleep(50000);
    }
    return false;
}

/* --- tests --- */

static void it_serves_every_loop_and_follows_the_registry(void)
{
    struct heard h;
    begin();
    start_keys();
    SP_CHECK(is_ready());
    SP_CHECK(knows(0, "dev-1") && knows(1, "dev-1") && !knows(0, "dev-2"));
    add_device("dev-2");
    SP_CHECK(comes_to_know(0, "dev-2"));
    SP_CHECK_INT(sp_registry_device_set_state(tool, "dev-1", SP_DEVICE_REVOKED), SP_OK);
    SP_CHECK(hears(0, SP_MSG_REVOKED, &h) && hears(1, SP_MSG_REVOKED, &h));
    stop_keys();
    end();
}

static void a_gate_that_was_restarted_gets_a_new_channel(void)
{
    int ends[2];
    begin();
    start_keys();
    SP_CHECK(is_ready());
    sp_channel_destroy(gates[0]);
    SP_CHECK_INT(socketpair(AF_UNIX, SOCK_STREAM, 0, ends), 0);
    struct sp_control message = {SP_CONTROL_CHANNEL, SP_PROCESS_GATE, 0};
    SP_CHECK_INT(sp_control_send(control, &message, ends[1]), SP_OK);
    (void)close(ends[1]);
    SP_CHECK_INT(sp_channel_create(ends[0], &gates[0]), SP_OK);
    SP_CHECK(knows(0, "dev-1") && knows(1, "dev-1"));
    stop_keys();
    end();
}

static void a_new_configuration_is_read_inside_the_sandbox(void)
{
    struct heard h;
    char file[128];
    begin();
    start_keys();
    SP_CHECK(is_ready());
    (void)snprintf(file, sizeof(file), "%s/new.yaml", folder);
    write_config(file, "secured, debug");
    int fd = open(file, O_RDONLY | O_CLOEXEC);
    SP_CHECK_INT(sp_control_send(control, &(struct sp_control){.type = SP_CONTROL_RELOAD}, fd),
                 SP_OK);
    (void)close(fd);
    SP_CHECK(hears(0, SP_MSG_POLICY_CHANGED, &h) && hears(1, SP_MSG_POLICY_CHANGED, &h));
    stop_keys();
    end();
}

static void it_comes_back_after_a_kill(void)
{
    begin();
    start_keys();
    SP_CHECK(is_ready() && knows(0, "dev-1"));
    SP_CHECK_INT(kill(child, SIGKILL), 0);
    SP_CHECK(WIFSIGNALED(wait_for_keys()));
    (void)close(control);
    start_keys();
    SP_CHECK(is_ready() && knows(0, "dev-1"));
    stop_keys();
    end();
}

static void it_ends_with_its_parent(void)
{
    begin();
    start_keys();
    SP_CHECK(is_ready());
    (void)shutdown(control, SHUT_RDWR);
    SP_CHECK_INT(wait_for_keys(), 0);
    end();
}

static void it_does_not_start_without_a_registry_it_can_trust(void)
{
    char file[128];
    begin();
    (void)snprintf(file, sizeof(file), "%s/%s", folder, SP_REGISTRY_FILE);
    SP_CHECK_INT(chmod(file, 0644), 0);
    start_keys();
    SP_CHECK(!is_ready());
    int status = wait_for_keys();
    SP_CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 1);
    end();
}

static const struct sp_test tests[] = {
    SP_TEST(it_serves_every_loop_and_follows_the_registry),
    SP_TEST(a_gate_that_was_restarted_gets_a_new_channel),
    SP_TEST(a_new_configuration_is_read_inside_the_sandbox),
    SP_TEST(it_comes_back_after_a_kill),
    SP_TEST(it_ends_with_its_parent),
    SP_TEST(it_does_not_start_without_a_registry_it_can_trust),
};
SP_TEST_MAIN(tests)
