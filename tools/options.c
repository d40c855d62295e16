/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/options.h"

#include <stdio.h>
#include <string.h>

#include "tools/cmd_registry.h"

static int wrong(const char *command, const char *why, const char *word)
{
    return sp_tool_error(SP_EXIT_USAGE, command, "%s%s%s; see sallyport %s --help", why,
                         word[0] != '\0' ? " " : "", word, command);
}

/* The option that a word names, and for `--name=value` the value. */
static const struct sp_option *find(const struct sp_option *options, const char *word,
                                    const char **value)
{
    size_t len = strcspn(word, "=");
    *value = word[len] == '=' ? word + len + 1 : NULL;
    for (const struct sp_option *o = options; o->name != NULL; o++) {
        if ((strlen(o->name) == len && strncmp(word, o->name, len) == 0) ||
            (o->letter != NULL && strcmp(word, o->letter) == 0)) {
            return o;
        }
    }
    return NULL;
}

static bool taken_by(const struct sp_option *option, const char *verb)
{
    char word[24];
    if (option->verbs == NULL || verb == NULL) {
        return true;
    }
    (void)snprintf(word, sizeof(word), " %s ", verb);
    return strstr(option->verbs, word) != NULL;
}

/* Why a value cannot be put in its place, or NULL. */
static const char *put(const struct sp_option *option, const char *value)
{
    if (option->count == NULL) {
        *option->value = value;
        return NULL;
    }
    if (*option->count == option->max) {
        return "too often:";
    }
    option->value[(*option->count)++] = value;
    return NULL;
}

/* Why option number *i is wrong, or NULL; *i moves on to its value. */
static const char *take(const struct sp_option *option, const char *verb, const char *value,
                        char **argv, int argc, int *i)
{
    if (!taken_by(option, verb)) {
        return "not an option of this command:";
    }
    if (option->value == NULL) {
        *option->on = true;
        return value == NULL ? NULL : "takes no value:";
    }
    if (value == NULL && ++*i >= argc) {
        return "needs a value:";
    }
    return put(option, value != NULL ? value : argv[*i]);
}

int sp_options_read(int argc, char **argv, const struct sp_option *options, const char *verb,
                    const char *help, const char **word)
{
    if (word != NULL) {
        *word = NULL;
    }
    for (int i = 1; i < argc; i++) {
        const char *value;
        const struct sp_option *option = find(options, argv[i], &value);
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            (void)fputs(help, stdout);
            return SP_EXIT_DONE;
        }
        if (option != NULL) {
            const char *why = take(option, verb, value, argv, argc, &i);
            if (why != NULL) {
                return wrong(argv[0], why, option->name);
            }
        } else if (argv[i][0] == '-' && argv[i][1] != '\0') {
            return wrong(argv[0], "unknown option", argv[i]);
        } else if (word == NULL || *word != NULL) {
            return wrong(argv[0], "one word too many:", argv[i]);
        } else {
            *word = argv[i];
        }
    }
    return -1;
}

int sp_options_wrong(const char *command, const char *why)
{
    return wrong(command, why, "");
}

int sp_options_no_config(const char *command)
{
    return wrong(command, "which gateway? Name its configuration with -c FILE", "");
}

int sp_options_config(int argc, char **argv, const struct sp_option *options, const char *help,
                      const char *const *file, sp_config_load_fn load, int faulty,
                      struct sp_config **config)
{
    int status = sp_options_read(argc, argv, options, NULL, help, NULL);
    if (status >= 0) {
        return status;
    }
    if (*file == NULL) {
        return sp_options_no_config(argv[0]);
    }
    return load(*file, stderr, config) == SP_OK ? -1 : faulty;
}
