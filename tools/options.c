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

int sp_options_read(int argc, char **argv, const struct sp_option *options, const char *help,
                    const char **word)
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
        if (option == NULL && argv[i][0] == '-' && argv[i][1] != '\0') {
            return wrong(argv[0], "unknown option", argv[i]);
        }
        if (option == NULL && (word == NULL || *word != NULL)) {
            return wrong(argv[0], "one word too many:", argv[i]);
        }
        if (option == NULL) {
            *word = argv[i];
        } else if (option->value == NULL && value != NULL) {
            return wrong(argv[0], "takes no value:", option->name);
        } else if (option->value == NULL) {
            *option->on = true;
        } else if (value == NULL && i + 1 >= argc) {
            return wrong(argv[0], "needs a value:", option->name);
        } else {
            *option->value = value != NULL ? value : argv[++i];
        }
    }
    return -1;
}

int sp_options_no_config(const char *command)
{
    return wrong(command, "which gateway? Name its configuration with -c FILE", "");
}
