/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * The parent with children that do nothing but talk: gate sends a byte over each wire it gets, keys and store send it
 * back, and gate logs that. A gateway of these runs in a process of its own; the test reads its log.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/proc/proc.h"
#include "gateway/proc/status_socket.h"
#include "libs/base/test.h"

#define LOOPS 2U

/* ---- the children ---- */

static void take_wire(int wires[2][LOOPS], const struct sp_control *message, int fd)
{
    unsigned which = message->peer == SP_PROCESS_STORE ? 1 : 0;
    if (wires[which][message->loop] >= 0) {
        close(wires[which][message->loop]);
    }
    wires[which][message->loop] = fd;
}

static void log_reload(int fd)
{
    struct sp_config *config;
    if (sp_config_load_fd(fd, "reload", stderr, &config) == SP_OK) {
        sp_log_info(SP_EVENT("child_reloaded"),
                    SP_F_INT("interval", config->attestation.reattest_interval_s),
                    SP_F_INT("listeners", config->listener_count),
                    SP_F_INT("handshakes", config->limits.handshakes),
                    SP_F_INT("packet", config->limits.packet), SP_F_STR("host", config->cloud.host),
                    SP_F_INT("rate", config->cloud.limits.publishes_per_second));
        sp_config_destroy(config);
    }
    close(fd);
}

/* false: time to go. */
static bool obey(int control, bool gate, int wires[2][LOOPS])
{
    struct sp_control message;
    int fd;
    enum sp_err err = sp_control_receive(control, &message, &fd);
    if (err == SP_ERR_CLOSED || (err == SP_OK && message.type == SP_CONTROL_STOP)) {
        return false;
    }
    if (err == SP_OK && message.type == SP_CONTROL_RELOAD) {
        log_reload(fd);
    } else if (err == SP_OK && message.type == SP_CONTROL_CHANNEL) {
        take_wire(wires, &message, fd);
        if (gate) {
            (void)!write(fd, "x", 1);
        }
    }
    return true;
}

static void answer_wire(bool gate, int wires[2][LOOPS], unsigned which, unsigned loop)
{
    char byte;
    ssize_t n = read(wires[which][loop], &byte, 1);
    if (n != 1) {
        close(wires[which][loop]);
        wires[which][loop] = -1;
    } else if (gate) {
        sp_log_info(SP_EVENT("echo"), SP_F_STR("peer", which == 0 ? "keys" : "store"),
                    SP_F_INT("loop", loop));
    } else {
        (void)!write(wires[which][loop], &byte, 1);
    }
}

static int talk(const struct sp_child *child, bool gate)
{
    int wires[2][LOOPS];
    const int *given[2] = {child->keys, child->store};
    for (unsigned w = 0; w < 2; w++) {
        for (unsigned i = 0; i < LOOPS; i++) {
            wires[w][i] = given[w] != NULL ? given[w][i] : -1;
            if (gate) {
                (void)!write(wires[w][i], "x", 1);
            }
        }
    }
    if (sp_control_send(child->control, &(struct sp_control){.type = SP_CONTROL_READY}, -1) !=
        SP_OK) {
        return 1;
    }
    for (;;) {
        struct pollfd fds[1 + 2 * LOOPS] = {{.fd = child->control, .events = POLLIN}};
        for (unsigned i = 0; i < 2 * LOOPS; i++) {
            fds[1 + i] = (struct pollfd){.fd = wires[i / LOOPS][i % LOOPS], .events = POLLIN};
        }
        (void)poll(fds, 1 + 2 * LOOPS, -1);
        for (unsigned i = 0; i < 2 * LOOPS; i++) {
            if (fds[1 + i].revents != 0) {
                answer_wire(gate, wires, i / LOOPS, i % LOOPS);
            }
        }
        if (fds[0].revents != 0 && !obey(child->control, gate, wires)) {
            return 0;
        }
    }
}

/* How many descriptors are open in this process. */
static int count_fds(void)
{
    int count = 0;
    for (int fd = 3; fd < 256; fd++) {
        struct stat st;
        count += fstat(fd, &st) == 0;
    }
    return count;
}

int sp_gate_main(const struct sp_child *child)
{
    sp_metric_set(SP_M_DEVICES_ONLINE, 5);
    sp_log_info(SP_EVENT("fds"), SP_F_INT("gate", count_fds()));
    return talk(child, true);
}

/* In place of the registry: keys keeps its wires in the first row, store in the second. */
int sp_keys_main(const struct sp_child *child)
{
    char flag[160];
    (void)snprintf(flag, sizeof(flag), "%s/no-keys", child->config->state_dir);
    if (access(flag, F_OK) == 0) {
        return 3;
    }
    sp_log_info(SP_EVENT("fds"), SP_F_INT("keys", count_fds()));
    return talk(child, false);
}

int sp_store_main(const struct sp_child *child)
{
    return talk(child, false);
}

/* ---- the gateway under test ---- */

static char folder[] = "/tmp/sallyport-parent-XXXXXX";
static char file[128];
static char log_text[65536];
static size_t log_used;
static int log_fd;
static pid_t gateway;

static void write_config(const char *extra)
{
    FILE *out = fopen(file, "w");
    if (out == NULL) {
        abort();
    }
    (void)fprintf(out,
                  "gateway: {id: gw-1, state_dir: %s, threads: %u}\n"
                  "listeners: [{address: '127.0.0.1:0'}, {address: '[::1]:0', suites: "
                  "[null-encryption]}]\n%s",
                  folder, LOOPS, extra);
    (void)fclose(out);
}

static pid_t run_gateway(int err)
{
    (void)fflush(stdout);
    pid_t pid = fork();
    if (pid == 0) {
        struct sp_config *config;
        dup2(err, STDERR_FILENO);
        if (sp_config_load(file, stderr, &config) != SP_OK) {
            _exit(78);
        }
        int status = sp_parent_main(config);
        sp_config_destroy(config);
        exit(status);
    }
    return pid;
}

/* The log since the start holds `text` `times` times, within 5 s. */
static bool logged(const char *text, unsigned times)
{
    for (unsigned turn = 0; turn < 50; turn++) {
        unsigned found = 0;
        for (const char *at = strstr(log_text, text); at != NULL; at = strstr(at + 1, text)) {
            found++;
        }
        if (found >= times) {
            return true;
        }
        struct pollfd wait = {.fd = log_fd, .events = POLLIN};
        if (poll(&wait, 1, 100) > 0 && log_used < sizeof(log_text) - 1U) {
            ssize_t n = read(log_fd, log_text + log_used, sizeof(log_text) - 1U - log_used);
            log_used += n > 0 ? (size_t)n : 0U;
        }
    }
    printf("not in the log: %s\n%s", text, log_text);
    return false;
}

static void start_gateway(void)
{
    int pair[2];
    if (pipe(pair) != 0) {
        abort();
    }
    memset(log_text, 0, sizeof(log_text));
    log_used = 0;
    log_fd = pair[0];
    gateway = run_gateway(pair[1]);
    close(pair[1]);
}

static int stop_gateway(int signal)
{
    int status = -1;
    kill(gateway, signal);
    waitpid(gateway, &status, 0);
    close(log_fd);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static char *ask(void)
{
    char *text = NULL;
    SP_CHECK_INT(sp_status_ask(folder, &text), SP_OK);
    return text != NULL ? text : strdup("");
}

static pid_t pid_of(const char *process)
{
    char *text = ask();
    char key[32];
    (void)snprintf(key, sizeof(key), "\"%s\":", process);
    const char *at = strstr(text, key);
    at = at != NULL ? strstr(at, "\"pid\":") : NULL;
    pid_t pid = at != NULL ? (pid_t)strtol(at + 6, NULL, 10) : 0;
    free(text);
    return pid;
}

static void it_starts_serves_and_stops_in_order(void)
{
    write_config("");
    start_gateway();
    SP_CHECK(logged("event=ready gateway=gw-1", 1));
    SP_CHECK(logged("event=listening address=127.0.0.1:", 1));
    SP_CHECK(logged("event=listening address=[::1]:", 1));
    SP_CHECK(logged("event=null_encryption address=[::1]:", 1));
    SP_CHECK(logged("event=echo", 4));
    /* control, 2 x 2 listeners, 2 x 2 wires; control, 2 wires, the lock */
    SP_CHECK(logged("event=fds gate=9", 1));
    SP_CHECK(logged("event=fds keys=4", 1));
    char *status = ask();
    SP_CHECK(strstr(status, "\"state\":\t\"serving\"") != NULL);
    SP_CHECK(strstr(status, "\"devices_online\":\t5") != NULL);
    SP_CHECK(strstr(status, "\"attestations_refused_total{check=\\\"mac\\\"}\":\t0") != NULL);
    free(status);
    SP_CHECK_INT(stop_gateway(SIGTERM), 0);
    char *gone;
    SP_CHECK_INT(sp_status_ask(folder, &gone), SP_ERR_CLOSED);
}

static void a_dead_child_comes_back_with_new_wires(void)
{
    write_config("");
    start_gateway();
    SP_CHECK(logged("event=ready", 1));
    SP_CHECK(logged("event=echo", 4));
    kill(pid_of("keys"), SIGKILL);
    SP_CHECK(logged("event=process_died process=keys signal=KILL", 1));
    SP_CHECK(logged("event=restarted process=keys", 1));
    SP_CHECK(logged("event=echo peer=keys", 4));
    kill(pid_of("store"), SIGKILL);
    SP_CHECK(logged("event=restarted process=store", 1));
    SP_CHECK(logged("event=echo peer=store", 4));
    kill(pid_of("gate"), SIGKILL);
    SP_CHECK(logged("event=restarted process=gate", 1));
    SP_CHECK(logged("event=echo peer=keys", 6));
    SP_CHECK(logged("event=echo peer=store", 6));
    char *status = ask();
    SP_CHECK(strstr(status, "\"gate_restarts_total\":\t1") != NULL);
    SP_CHECK(strstr(status, "\"keys_restarts_total\":\t1") != NULL);
    SP_CHECK(strstr(status, "\"forbidden_calls_total\":\t0") != NULL);
    free(status);
    SP_CHECK_INT(stop_gateway(SIGINT), 0);
}

static void a_child_that_its_sandbox_killed_is_told_and_counted(void)
{
    write_config("");
    start_gateway();
    SP_CHECK(logged("event=ready", 1));
    kill(pid_of("keys"), SIGSYS);
    SP_CHECK(logged("event=process_died process=keys signal=SYS "
                    "reason=\"a system call that its sandbox forbids\"",
                    1));
    SP_CHECK(logged("event=restarted process=keys", 1));
    char *status = ask();
    SP_CHECK(strstr(status, "\"forbidden_calls_total\":\t1") != NULL);
    free(status);
    SP_CHECK_INT(stop_gateway(SIGTERM), 0);
}

static void a_child_that_cannot_start_ends_the_gateway(void)
{
    write_config("");
    char path[160];
    (void)snprintf(path, sizeof(path), "%s/no-keys", folder);
    FILE *flag = fopen(path, "w");
    SP_CHECK(flag != NULL && fclose(flag) == 0);
    start_gateway();
    SP_CHECK(logged("event=process_died process=keys status=3", 1));
    int status = -1;
    waitpid(gateway, &status, 0);
    SP_CHECK(WIFEXITED(status));
    SP_CHECK_INT(WEXITSTATUS(status), 1);
    close(log_fd);
    unlink(path);
}

static void a_second_gateway_on_the_same_state_is_refused(void)
{
    write_config("");
    start_gateway();
    SP_CHECK(logged("event=ready", 1));
    pid_t second = run_gateway(STDERR_FILENO);
    int status = -1;
    waitpid(second, &status, 0);
    SP_CHECK(WIFEXITED(status));
    SP_CHECK_INT(WEXITSTATUS(status), 1);
    free(ask()); /* the first still answers */
    SP_CHECK_INT(stop_gateway(SIGTERM), 0);
}

static void a_reload_takes_what_it_can_and_refuses_faults(void)
{
    write_config("");
    start_gateway();
    SP_CHECK(logged("event=ready", 1));
    write_config("attestation: {reattest_interval: 2h}\n");
    kill(gateway, SIGHUP);
    SP_CHECK(logged("event=reload_changes section=attestation", 1));
    SP_CHECK(logged("event=child_reloaded interval=7200 listeners=2", 3));
    write_config("limits: {packet: wrong}\n");
    kill(gateway, SIGHUP);
    SP_CHECK(logged("event=config_fault", 1));
    SP_CHECK(logged("event=reload_refused", 1));
    write_config(
        "attestation: {reattest_interval: 3h}\ncloud: {endpoint: 'a.b:1', ca: /a, certificate: /b, "
        "key: /c}\n");
    kill(gateway, SIGHUP);
    SP_CHECK(logged("event=reload_needs_restart section=cloud", 1));
    SP_CHECK(logged("event=child_reloaded interval=10800 listeners=2", 3));
    write_config("attestation: {reattest_interval: 3h}\n");
    kill(gateway, SIGHUP);
    SP_CHECK(logged("event=reload_changes_nothing", 1));
    SP_CHECK_INT(stop_gateway(SIGTERM), 0);
}

static void a_reload_takes_single_keys_of_a_section(void)
{
    static const char cloud[] = "cloud: {endpoint: '%s:1', ca: /a, certificate: /b, key: /c, "
                                "limits: {publishes_per_second: %d}}\n%s";
    char text[400];
    (void)snprintf(text, sizeof(text), cloud, "a.b", 10, "");
    write_config(text);
    start_gateway();
    SP_CHECK(logged("event=ready", 1));
    (void)snprintf(text, sizeof(text), cloud, "c.d", 20,
                   "limits: {packet: 8KiB, connections: 5, handshakes: 7}\n");
    write_config(text);
    kill(gateway, SIGHUP);
    SP_CHECK(logged("event=reload_needs_restart section=cloud waits=\"all but limits\"", 1));
    SP_CHECK(logged("event=reload_changes section=cloud", 1));
    SP_CHECK(logged("event=reload_needs_restart section=limits waits=\"packet, connections\"", 1));
    SP_CHECK(logged("event=reload_changes section=limits", 1));
    SP_CHECK(logged("listeners=2 handshakes=7 packet=16384 host=a.b rate=20", 3));
    SP_CHECK_INT(stop_gateway(SIGTERM), 0);
}

static void an_address_in_use_is_told_even_with_many_loops(void)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    socklen_t len = sizeof(address);
    const int on = 1;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    int taken = socket(AF_INET, SOCK_STREAM, 0);
    SP_CHECK_INT(setsockopt(taken, SOL_SOCKET, SO_REUSEPORT, &on, sizeof(on)), 0);
    SP_CHECK_INT(bind(taken, (struct sockaddr *)&address, len), 0);
    SP_CHECK_INT(listen(taken, 1), 0);
    SP_CHECK_INT(getsockname(taken, (struct sockaddr *)&address, &len), 0);
    FILE *out = fopen(file, "w");
    (void)fprintf(out,
                  "gateway: {id: gw-1, state_dir: %s, threads: %u}\n"
                  "listeners: [{address: '127.0.0.1:%u'}]\n",
                  folder, LOOPS, ntohs(address.sin_port));
    (void)fclose(out);
    start_gateway();
    SP_CHECK(logged("event=cannot_listen", 1));
    SP_CHECK_INT(stop_gateway(0), 1);
    close(taken);
}

static const struct sp_test tests[] = {
    SP_TEST(it_starts_serves_and_stops_in_order),
    SP_TEST(a_dead_child_comes_back_with_new_wires),
    SP_TEST(a_child_that_its_sandbox_killed_is_told_and_counted),
    SP_TEST(a_child_that_cannot_start_ends_the_gateway),
    SP_TEST(a_second_gateway_on_the_same_state_is_refused),
    SP_TEST(a_reload_takes_what_it_can_and_refuses_faults),
    SP_TEST(a_reload_takes_single_keys_of_a_section),
    SP_TEST(an_address_in_use_is_told_even_with_many_loops),
};

int main(void)
{
    if (mkdtemp(folder) == NULL) {
        return 1;
    }
    (void)snprintf(file, sizeof(file), "%s/sallyport.yaml", folder);
    int status = sp_test_run_all(tests, sizeof(tests) / sizeof(tests[0]));
    char lock[160];
    (void)snprintf(lock, sizeof(lock), "%s/lock", folder);
    unlink(lock);
    unlink(file);
    rmdir(folder);
    return status;
}
