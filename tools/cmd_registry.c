/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/cmd_registry.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

#include "tools/options.h"

#define INPUT_MAX \
    (2U * SP_LINK_TOKEN_MAX + 4U) /* hex, a newline, and one to see that there is more */

int sp_tool_error(int status, const char *what, const char *format, ...)
{
    char text[512];
    va_list args;
    va_start(args, format);
    (void)vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    (void)fprintf(stderr, "sallyport %s: %s\n", what, text);
    return status;
}

int sp_tool_registry_error(const char *what, const struct sp_registry_tool *tool)
{
    return sp_tool_error(SP_EXIT_FAILED, what, "%s", sp_registry_fault(tool->registry));
}

int sp_registry_tool_open(const char *config_file, struct sp_registry_tool *tool)
{
    *tool = (struct sp_registry_tool){0};
    if (sp_config_load(config_file, stderr, &tool->config) != SP_OK) {
        return SP_EXIT_FAILED;
    }
    struct sp_fault fault = {0};
    if (sp_registry_open(tool->config->state_dir, tool->config->master_key, SP_REGISTRY_TOOL,
                         &tool->registry, &fault) != SP_OK) {
        sp_registry_tool_close(tool);
        return sp_tool_error(SP_EXIT_FAILED, "registry", "%s", fault.text);
    }
    return SP_EXIT_DONE;
}

void sp_registry_tool_close(struct sp_registry_tool *tool)
{
    sp_registry_close(tool->registry);
    sp_config_destroy(tool->config);
    *tool = (struct sp_registry_tool){0};
}

/* The verb of that name; the table's end when there is none. */
static const struct sp_verb *find_verb(const struct sp_verb *verb, const char *name)
{
    while (verb->what != NULL && strcmp(strchr(verb->what, ' ') + 1, name) != 0) {
        verb++;
    }
    return verb;
}

static int no_verb(const char *command, const struct sp_verb *verbs)
{
    char names[128] = "";
    for (const struct sp_verb *v = verbs; v->what != NULL; v++) {
        size_t used = strlen(names);
        (void)snprintf(names + used, sizeof(names) - used, "%s%s", v == verbs ? "" : ", ",
                       strchr(v->what, ' ') + 1);
    }
    return sp_tool_error(SP_EXIT_USAGE, command, "say one of %s; see sallyport %s --help", names,
                         command);
}

int sp_verbs_run(int argc, char **argv, const struct sp_verbs *command,
                 const struct sp_request *request)
{
    struct sp_registry_tool tool;
    const char *name = argv[0];
    if (argc < 2) {
        (void)fputs(command->help, stderr);
        return SP_EXIT_USAGE;
    }
    const struct sp_verb *verb = find_verb(command->verbs, argv[1]);
    bool known = verb->what != NULL;
    argv[1] = known ? argv[0] : argv[1];
    int status =
        sp_options_read(argc - known, argv + known, command->options,
                        known ? strchr(verb->what, ' ') + 1 : NULL, command->help, command->word);
    if (status >= 0) {
        return status;
    }
    if (!known) {
        return no_verb(name, command->verbs);
    }
    if (verb->wants == NULL ? *command->word != NULL : *command->word == NULL && !verb->may_lack) {
        return sp_tool_error(SP_EXIT_USAGE, verb->what, "%s%s; see sallyport %s --help",
                             verb->wants == NULL ? "one word too many" : "name ",
                             verb->wants == NULL ? "" : verb->wants, name);
    }
    if (*command->config == NULL) {
        return sp_options_no_config(name);
    }
    *command->what = verb->what;
    status = sp_registry_tool_open(*command->config, &tool);
    if (status == SP_EXIT_DONE) {
        status = verb->run(request, &tool);
        sp_registry_tool_close(&tool);
    }
    return status;
}

static size_t read_all(int fd, uint8_t *out, size_t cap)
{
    size_t used = 0;
    while (used < cap) {
        ssize_t got = read(fd, out + used, cap - used);
        if (got <= 0) {
            break;
        }
        used += (size_t)got;
    }
    return used;
}

static enum sp_err parse_bytes(struct sp_view text, uint8_t *out, size_t cap, size_t *out_len)
{
    struct sp_view digits = text;
    while (digits.len > 0 && strchr("\r\n", digits.ptr[digits.len - 1]) != NULL) {
        digits.len--;
    }
    enum sp_err err = sp_hex_parse(digits, out, cap, out_len);
    if (err != SP_ERR_MALFORMED) {
        return err;
    }
    if (text.len > cap) {
        return SP_ERR_SPACE;
    }
    sp_copy(out, text.ptr, text.len);
    *out_len = text.len;
    return SP_OK;
}

enum sp_err sp_bytes_read(const char *what, const char *file, uint8_t *out, size_t cap,
                          size_t *out_len)
{
    bool from_stdin = strcmp(file, "-") == 0;
    int fd = from_stdin ? STDIN_FILENO : open(file, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        (void)sp_tool_error(SP_EXIT_FAILED, what, "cannot open %s: %s", file, strerror(errno));
        return SP_ERR_IO;
    }
    uint8_t text[INPUT_MAX];
    size_t len = read_all(fd, text, sizeof(text));
    if (!from_stdin) {
        (void)close(fd);
    }
    enum sp_err err =
        len == sizeof(text) ? SP_ERR_SPACE : parse_bytes(sp_view(text, len), out, cap, out_len);
    sp_wipe(text, sizeof(text));
    if (err != SP_OK) {
        (void)sp_tool_error(SP_EXIT_FAILED, what, "%s holds more than %zu bytes", file, cap);
    } else if (*out_len == 0) {
        (void)sp_tool_error(SP_EXIT_FAILED, what, "%s is empty", file);
        err = SP_ERR_MALFORMED;
    }
    return err;
}
