/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/** @file What `sallyport device` and `sallyport reference` share: opening the registry, options, secret files. */
#ifndef SP_TOOLS_CMD_REGISTRY_H
#define SP_TOOLS_CMD_REGISTRY_H

#include "gateway/config/config.h"
#include "gateway/keys/registry.h"

/** argv[0] is "device", "reference". The result is the exit status: 0 done, 1 refused or failed, 2 wrong usage. */
int sp_cmd_device(int argc, char **argv);
int sp_cmd_reference(int argc, char **argv);

#define SP_EXIT_DONE   0
#define SP_EXIT_FAILED 1
#define SP_EXIT_USAGE  2

struct sp_registry_tool {
    struct sp_config *config;
    struct sp_registry *registry;
};

/** Load the configuration, open its registry. Prints what is wrong. @return an exit status, SP_EXIT_DONE = open. */
int sp_registry_tool_open(const char *config_file, struct sp_registry_tool *tool);
void sp_registry_tool_close(struct sp_registry_tool *tool);

/** What the words of a command said; every command has its own. */
struct sp_request;

/** `sallyport device add …`: a table of these ends with `what` NULL. */
struct sp_verb {
    const char *what; /**< "device add"; for messages, too */
    const char *
        wants; /**< what the one word beside the options names: "one device"; NULL: there is none */
    bool may_lack; /**< the word may be missing */
    int (*run)(const struct sp_request *r, struct sp_registry_tool *tool);
};

/** A command of several verbs that work on the registry, and where its words go. */
struct sp_verbs {
    const char *help;
    const struct sp_verb *verbs;
    const struct sp_option *options; /**< `config` is among them */
    const char *const *config;
    const char **what; /**< gets the verb's */
    const char **word; /**< gets the word beside the options, or NULL */
};

/** Find the verb, read its options, open the registry, run it. @return the exit status; what is wrong was printed. */
int sp_verbs_run(int argc, char **argv, const struct sp_verbs *command,
                 const struct sp_request *request);

/** Print `sallyport WHAT: TEXT` to stderr and give the status back. */
__attribute__((format(printf, 3, 4))) int sp_tool_error(int status, const char *what,
                                                        const char *format, ...);

/** Print the registry's last error; SP_EXIT_FAILED. */
int sp_tool_registry_error(const char *what, const struct sp_registry_tool *tool);

/**
 * Read a key or a token from a file, or from standard input for "-": hex digits (with or without a newline at the end), or
 * else the raw bytes. Prints what is wrong.
 *
 * @param[out] out `cap` bytes; the caller wipes them.
 */
SP_MUST_CHECK enum sp_err sp_bytes_read(const char *what, const char *file, uint8_t *out,
                                        size_t cap, size_t *out_len);

#endif
