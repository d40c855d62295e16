/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * Drives store in tests: plays the parent and one gate loop.
 *
 *     store_driver CONFIG
 *
 * Commands on stdin, one a line; bytes in hex, `-` for none:
 *     append TICKET QOS DEVICE TOPIC ORIGIN FORMAT TIME_MS EXPIRY_S PAYLOAD
 *     bytes TYPE TAG BODY        any message
 *     replace                    gate died: a new channel
 *     metric NAME
 *     stop
 * Events on stdout: `pid N`, `ready`, `durable UP_TO ERR`, `pressure LEVEL`, `command TAG QOS TOPIC PAYLOAD`,
 * `metric NAME VALUE`, `closed`, `exit STATUS`. At the end of stdin store is stopped.
 */
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "gateway/metrics/metrics.h"
#include "gateway/proc/channel.h"
#include "gateway/proc/proc.h"

#define LINE_CAP (1U << 20)

struct driver {
    pid_t pid;
    int control;
    struct sp_channel *gate;
    char *line;
    size_t used;
};

static void die(const char *what)
{
    perror(what);
    exit(2);
}

static void pair(int type, int fds[2])
{
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds) != 0) {
        die("socketpair");
    }
}

static void start(struct driver *d, const struct sp_config *config)
{
    int control[2];
    int gate[2];
    pair(SOCK_SEQPACKET, control);
    pair(SOCK_STREAM, gate);
    d->pid = fork();
    if (d->pid < 0) {
        die("fork");
    }
    if (d->pid == 0) {
        (void)close(control[0]);
        (void)close(gate[0]);
        (void)close(STDIN_FILENO);
        const struct sp_child child = {.config = config, .control = control[1], .store = &gate[1]};
        exit(sp_store_main(&child));
    }
    (void)close(control[1]);
    (void)close(gate[1]);
    d->control = control[0];
    if (sp_channel_create(gate[0], &d->gate) != SP_OK) {
        die("channel");
    }
    printf("pid %d\n", (int)d->pid);
}

static void print_hex(struct sp_view bytes)
{
    char *text = malloc(bytes.len * 2 + 1);
    if (text == NULL) {
        die("malloc");
    }
    sp_hex_format(bytes, text);
    printf("%s", bytes.len == 0 ? "-" : text);
    free(text);
}

static enum sp_err on_message(void *arg, const struct sp_frame *frame, struct sp_view body)
{
    (void)arg;
    if (frame->type == SP_MSG_DURABLE) {
        struct sp_msg_durable m;
        memcpy(&m, body.ptr, sizeof(m));
        printf("durable %llu %u\n", (unsigned long long)m.up_to, m.err);
    } else if (frame->type == SP_MSG_PRESSURE) {
        struct sp_msg_pressure m;
        memcpy(&m, body.ptr, sizeof(m));
        printf("pressure %u\n", m.level);
    } else if (frame->type == SP_MSG_COMMAND) {
        struct sp_msg_command m;
        memcpy(&m, body.ptr, sizeof(m));
        struct sp_view rest = sp_view_from(body, sizeof(m));
        printf("command %llu %u ", (unsigned long long)frame->tag, m.qos);
        print_hex(sp_view_first(rest, m.topic_len));
        printf(" ");
        print_hex(sp_view_from(rest, m.topic_len));
        printf("\n");
    }
    return SP_OK;
}

/* The bytes of a hex word, in a block of its own. */
static struct sp_view word_bytes(const char *word)
{
    size_t cap = strlen(word) / 2 + 1;
    uint8_t *out = malloc(cap);
    size_t len = 0;
    if (out == NULL ||
        (strcmp(word, "-") != 0 && sp_hex_parse(sp_view_str(word), out, cap, &len) != SP_OK)) {
        die("hex");
    }
    return sp_view(out, len);
}

static char *word(char **save)
{
    char *w = strtok_r(NULL, " ", save);
    if (w == NULL) {
        die("a word is missing");
    }
    return w;
}

static void send_append(struct driver *d, char **save)
{
    struct sp_msg_record head = {.flags = SP_RECORD_ATTESTED};
    head.ticket = strtoull(word(save), NULL, 10);
    head.qos = (uint8_t)strtoul(word(save), NULL, 10);
    struct sp_view parts[5];
    for (int i = 1; i <= 3; i++) {
        parts[i] = sp_view_str(word(save));
    }
    head.format = (uint8_t)strtoul(word(save), NULL, 10);
    head.time_ms = strtoull(word(save), NULL, 10);
    head.expiry_s = (uint32_t)strtoul(word(save), NULL, 10);
    parts[4] = word_bytes(word(save));
    head.device_len = (uint8_t)parts[1].len;
    head.topic_len = (uint16_t)parts[2].len;
    head.origin_len = (uint16_t)parts[3].len;
    head.payload_len = (uint32_t)parts[4].len;
    parts[0] = sp_view(&head, sizeof(head));
    if (sp_channel_send(d->gate, SP_MSG_APPEND, 1, parts, 5) != SP_OK) {
        die("append");
    }
}

static void send_bytes(struct driver *d, char **save)
{
    uint16_t type = (uint16_t)strtoul(word(save), NULL, 10);
    uint64_t tag = strtoull(word(save), NULL, 10);
    struct sp_view body = word_bytes(word(save));
    if (sp_channel_send(d->gate, type, tag, &body, 1) != SP_OK) {
        die("bytes");
    }
}

static void send_control(struct driver *d, uint32_t type, int fd)
{
    const struct sp_control message = {.type = type, .peer = SP_PROCESS_GATE};
    if (sp_control_send(d->control, &message, fd) != SP_OK) {
        printf("closed\n");
    }
}

static void replace_gate(struct driver *d)
{
    int gate[2];
    pair(SOCK_STREAM, gate);
    sp_channel_destroy(d->gate);
    if (sp_channel_create(gate[0], &d->gate) != SP_OK) {
        die("channel");
    }
    send_control(d, SP_CONTROL_CHANNEL, gate[1]);
    (void)close(gate[1]);
}

static void print_metric(const char *name)
{
    for (unsigned m = 0; m < SP_METRIC_COUNT; m++) {
        char have[96];
        sp_metric_name((enum sp_metric)m, have, sizeof(have));
        if (strcmp(have, name) == 0) {
            printf("metric %s %lld\n", name, (long long)sp_metric_read((enum sp_metric)m));
        }
    }
}

static void obey(struct driver *d, char *line)
{
    char *save = NULL;
    const char *verb = strtok_r(line, " ", &save);
    if (verb == NULL) {
        return;
    }
    if (strcmp(verb, "append") == 0) {
        send_append(d, &save);
    } else if (strcmp(verb, "bytes") == 0) {
        send_bytes(d, &save);
    } else if (strcmp(verb, "replace") == 0) {
        replace_gate(d);
    } else if (strcmp(verb, "metric") == 0) {
        print_metric(word(&save));
    } else if (strcmp(verb, "stop") == 0) {
        send_control(d, SP_CONTROL_STOP, -1);
    } else {
        die(verb);
    }
}

/* @return false at the end of stdin. */
static bool read_commands(struct driver *d)
{
    ssize_t n = read(STDIN_FILENO, d->line + d->used, LINE_CAP - d->used - 1);
    if (n <= 0) {
        return false;
    }
    d->used += (size_t)n;
    char *from = d->line;
    char *end;
    while ((end = memchr(from, '\n', d->used - (size_t)(from - d->line))) != NULL) {
        *end = '\0';
        obey(d, from);
        from = end + 1;
    }
    d->used -= (size_t)(from - d->line);
    memmove(d->line, from, d->used);
    return true;
}

static void read_control(struct driver *d)
{
    struct sp_control message;
    int fd;
    enum sp_err err = sp_control_receive(d->control, &message, &fd);
    if (err == SP_ERR_CLOSED) {
        int status = 0;
        (void)waitpid(d->pid, &status, 0);
        printf("exit %d\n", WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status));
        (void)fflush(stdout);
        exit(0);
    }
    if (err == SP_OK && message.type == SP_CONTROL_READY) {
        printf("ready\n");
    }
}

static void read_gate(struct driver *d)
{
    if (sp_channel_receive(d->gate, on_message, NULL) != SP_OK) {
        printf("closed\n");
        replace_gate(d);
    }
}

int main(int argc, char **argv)
{
    struct sp_config *config = NULL;
    struct driver d = {.line = malloc(LINE_CAP)};
    if (argc != 2 || d.line == NULL || sp_config_load(argv[1], stderr, &config) != SP_OK ||
        sp_metrics_init() != SP_OK) {
        return 2;
    }
    (void)signal(SIGPIPE, SIG_IGN);
    start(&d, config);
    bool commands = true;
    for (;;) {
        (void)fflush(stdout);
        short out = sp_channel_pending(d.gate) > 0 ? POLLOUT : 0;
        struct pollfd fds[] = {
            {.fd = d.control, .events = POLLIN},
            {.fd = sp_channel_fd(d.gate), .events = (short)(POLLIN | out)},
            {.fd = commands && out == 0 ? STDIN_FILENO : -1, .events = POLLIN},
        };
        (void)poll(fds, 3, -1);
        if (fds[1].revents != 0) {
            read_gate(&d);
        }
        if (fds[0].revents != 0) {
            read_control(&d);
        }
        if (fds[2].revents != 0 && !read_commands(&d)) {
            commands = false;
            send_control(&d, SP_CONTROL_STOP, -1);
        }
        if (sp_channel_flush(d.gate) != SP_OK) {
            printf("closed\n");
            replace_gate(&d);
        }
    }
}
