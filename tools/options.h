/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file Options of a subcommand, by a table. */
#ifndef SP_TOOLS_OPTIONS_H
#define SP_TOOLS_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>

struct sp_option {
    const char *name;   /**< `--config`; NULL ends a table */
    const char *letter; /**< `-c`, or NULL */
    const char **value; /**< takes the next word, or what stands behind `=`; NULL: a switch */
    bool *on;
};

/**
 * Read a subcommand's words: options, and at most one word beside them.
 *
 * @param[in]  help Printed on stdout for `--help`.
 * @param[out] word The word that is no option; NULL: there is none. Pass NULL where no word is taken.
 * @return -1 = go on, else the exit status; what is wrong was printed.
 */
int sp_options_read(int argc, char **argv, const struct sp_option *options, const char *help,
                    const char **word);

/** `-c FILE` was not given: say so. @return the exit status. */
int sp_options_no_config(const char *command);

#endif
