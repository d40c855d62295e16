/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Options of a subcommand, by a table. */
#ifndef SP_TOOLS_OPTIONS_H
#define SP_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#include "libs/base/err.h"

struct sp_config;

struct sp_option {
    const char *name;   /**< `--config`; NULL ends a table */
    const char *letter; /**< `-c`, or NULL */
    const char **value; /**< takes the next word, or what stands behind `=`; NULL: a switch */
    bool *on;
    const char *verbs; /**< those that take it, a blank around each: " add rotate "; NULL: all */
    size_t *count; /**< `value` is an array of `max`, so many are used; NULL: one, the last holds */
    size_t max;
};

/**
 * Read a subcommand's words: options, and at most one word beside them.
 *
 * @param[in]  argv argv[0] is the subcommand, for messages.
 * @param[in]  verb Options of other verbs are refused; NULL: the subcommand has none.
 * @param[in]  help Printed on stdout for `--help`.
 * @param[out] word The word that is no option; NULL: there is none. Pass NULL where no word is taken.
 * @return -1 = go on, else the exit status; what is wrong was printed.
 */
int sp_options_read(int argc, char **argv, const struct sp_option *options, const char *verb,
                    const char *help, const char **word);

/** The words are wrong: say why, and where the help is. @return the exit status. */
int sp_options_wrong(const char *command, const char *why);

/** `-c FILE` was not given: say so. @return the exit status. */
int sp_options_no_config(const char *command);

/** Reads a configuration and names its faults: sp_config_load() or one with its contract. */
typedef enum sp_err (*sp_config_load_fn)(const char *file, FILE *faults, struct sp_config **out);

/**
 * Read the words of a subcommand that works on one configuration, and then that configuration.
 *
 * @param[in]  file   Where `-c` of `options` puts its value.
 * @param[in]  faulty The exit status where the configuration is.
 * @param[out] config The caller owns it when the result is -1, and destroys it.
 * @return like sp_options_read().
 */
int sp_options_config(int argc, char **argv, const struct sp_option *options, const char *help,
                      const char *const *file, sp_config_load_fn load, int faulty,
                      struct sp_config **config);

#endif
