/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "gateway/proc/parent_internal.h"

#define VARIABLE "SALLYPORT_BATON"

/* ---- writing ---- */

static void write_lines(FILE *out, const struct sp_baton *b)
{
    (void)fprintf(out, "version %u\nback %d\nattempts %u\nstarted %llu\n", SP_HANDOVER_VERSION,
                  b->back, b->attempts, (unsigned long long)b->started_ms);
    (void)fprintf(out, "lock %d\nstatus %d\nmetrics %d\nconfig %d\nexe %d\n", b->lock, b->status,
                  b->metrics, b->config, b->exe);
    (void)fprintf(out, "program %s\nstate_dir %s\n", b->program, b->state_dir);
    if (b->why != NULL) {
        (void)fprintf(out, "why %s\n", b->why);
    }
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        const struct sp_offspring *o = &b->children[p];
        (void)fprintf(out, "child %u %d %d %u\n", p, (int)o->pid, o->control, o->restarts);
    }
    for (size_t i = 0; i < b->listener_count; i++) {
        const struct sp_given_listener *l = &b->listeners[i];
        (void)fprintf(out, "listener %u %u %d %s\n", l->loop, l->port, l->fd, l->address);
    }
}

static int write_baton(const struct sp_baton *b)
{
    int fd = memfd_create("sallyport.baton", MFD_CLOEXEC);
    int copy = fd >= 0 ? dup(fd) : -1;
    FILE *out = copy >= 0 ? fdopen(copy, "w") : NULL;
    if (out != NULL) {
        write_lines(out, b);
    } else if (copy >= 0) {
        close(copy);
    }
    if (out == NULL || fclose(out) != 0 || lseek(fd, 0, SEEK_SET) != 0) {
        if (fd >= 0) {
            close(fd);
        }
        return -1;
    }
    return fd;
}

static void set_inherited(int fd, bool inherited)
{
    if (fd >= 0) {
        (void)fcntl(fd, F_SETFD, inherited ? 0 : FD_CLOEXEC);
    }
}

static void set_all_inherited(const struct sp_baton *b, bool inherited)
{
    const int fds[] = {b->lock, b->status, b->metrics, b->config, b->exe};
    for (size_t i = 0; i < sizeof(fds) / sizeof(fds[0]); i++) {
        set_inherited(fds[i], inherited);
    }
    for (unsigned p = 0; p < SP_PROCESS_COUNT; p++) {
        set_inherited(b->children[p].control, inherited);
    }
    for (size_t i = 0; i < b->listener_count; i++) {
        set_inherited(b->listeners[i].fd, inherited);
    }
}

void sp_baton_pass(const struct sp_baton *baton, const char *program, int exe, const char *file)
{
    char name[] = "sallyport";
    char run[] = "run";
    char option[] = "-c";
    char *path = strdup(file);
    char *const argv[] = {name, run, option, path, NULL};
    char number[16];
    int fd = path != NULL ? write_baton(baton) : -1;
    if (fd >= 0) {
        (void)snprintf(number, sizeof(number), "%d", fd);
        set_all_inherited(baton, true);
        set_inherited(fd, true);
        if (setenv(VARIABLE, number, 1) == 0) {
            if (program != NULL) {
                (void)execv(program, argv);
            } else {
                (void)fexecve(exe, argv, environ);
            }
        }
        int saved = errno;
        set_all_inherited(baton, false);
        (void)unsetenv(VARIABLE);
        close(fd);
        errno = saved;
    }
    free(path);
}

/* ---- reading ---- */

static bool read_listener(struct sp_baton *b, const char *text)
{
    struct sp_given_listener l = {.fd = -1};
    int at = 0;
    if (sscanf(text, "%u %u %d %n", &l.loop, &l.port, &l.fd, &at) != 3 || at == 0) {
        return false;
    }
    struct sp_given_listener *grown =
        realloc(b->listeners, (b->listener_count + 1U) * sizeof(*grown));
    if (grown == NULL) {
        return false;
    }
    b->listeners = grown;
    l.address = strdup(text + at);
    b->listeners[b->listener_count++] = l;
    return l.address != NULL;
}

static bool read_child(struct sp_baton *b, const char *text)
{
    unsigned which;
    int pid;
    struct sp_offspring o = {.ready = true};
    if (sscanf(text, "%u %d %d %u", &which, &pid, &o.control, &o.restarts) != 4 ||
        which >= SP_PROCESS_COUNT) {
        return false;
    }
    o.pid = pid;
    o.ready = pid != 0;
    b->children[which] = o;
    return true;
}

static bool read_number(const char *text, int *out)
{
    return sscanf(text, "%d", out) == 1;
}

static bool read_text(const char *text, char **out)
{
    free(*out);
    *out = strdup(text);
    return *out != NULL;
}

static bool read_line(struct sp_baton *b, const char *name, const char *text)
{
    const struct {
        const char *name;
        int *number;
        char **text;
    } fields[] = {
        {"lock", &b->lock, NULL},
        {"status", &b->status, NULL},
        {"metrics", &b->metrics, NULL},
        {"config", &b->config, NULL},
        {"exe", &b->exe, NULL},
        {"program", NULL, &b->program},
        {"state_dir", NULL, &b->state_dir},
        {"why", NULL, &b->why},
    };
    for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++) {
        if (strcmp(name, fields[i].name) == 0) {
            return fields[i].number != NULL ? read_number(text, fields[i].number)
                                            : read_text(text, fields[i].text);
        }
    }
    if (strcmp(name, "child") == 0) {
        return read_child(b, text);
    }
    if (strcmp(name, "listener") == 0) {
        return read_listener(b, text);
    }
    if (strcmp(name, "back") == 0) {
        b->back = text[0] == '1';
    } else if (strcmp(name, "attempts") == 0) {
        b->attempts = (unsigned)strtoul(text, NULL, 10);
    } else if (strcmp(name, "started") == 0) {
        b->started_ms = strtoull(text, NULL, 10);
    } else {
        return strcmp(name, "version") == 0; /* was asked for before */
    }
    return true;
}

static bool read_lines(struct sp_baton *b, FILE *in)
{
    char *line = NULL;
    size_t cap = 0;
    bool ok = true;
    while (ok && getline(&line, &cap, in) > 0) {
        char *text = line;
        text[strcspn(text, "\n")] = '\0';
        const char *name = strsep(&text, " ");
        ok = text != NULL && read_line(b, name, text);
    }
    free(line);
    return ok && b->program != NULL && b->state_dir != NULL && b->lock >= 0;
}

struct sp_baton *sp_baton_given(void)
{
    static struct sp_baton *given;
    const char *number = getenv(VARIABLE);
    if (number == NULL) {
        return given;
    }
    struct sp_baton *b = calloc(1, sizeof(*b));
    if (b == NULL) {
        return NULL;
    }
    *b = (struct sp_baton){.lock = -1, .status = -1, .metrics = -1, .config = -1, .exe = -1};
    int fd = (int)strtol(number, NULL, 10);
    FILE *in = fdopen(fd, "r");
    (void)unsetenv(VARIABLE);
    bool ok = in != NULL && read_lines(b, in);
    if (in != NULL) {
        (void)fclose(in);
    }
    if (!ok) {
        sp_baton_destroy(b);
        return NULL;
    }
    set_all_inherited(b, false);
    given = b;
    return b;
}

void sp_baton_destroy(struct sp_baton *baton)
{
    if (baton == NULL) {
        return;
    }
    for (size_t i = 0; i < baton->listener_count; i++) {
        free(baton->listeners[i].address);
    }
    free(baton->listeners);
    free(baton->program);
    free(baton->state_dir);
    free(baton->why);
    free(baton);
}
