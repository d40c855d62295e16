/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/proc/proc.h"
#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/options.h"

static const char help[] =
    "sallyport run: the gateway, in the foreground\n"
    "\n"
    "  sallyport run -c FILE\n"
    "\n"
    "Logs to stderr, one event per line: event=listening with each address, event=ready once it "
    "serves\n"
    "(systemd is told too). SIGTERM and SIGINT stop it in order; SIGHUP reads the configuration "
    "anew,\n"
    "and a faulty one changes nothing.\n"
    "\n"
    "Exit status: 0 stopped in order, 1 could not start, 2 wrong usage, 77 not permitted,\n"
    "78 the configuration is faulty.\n";

int sp_cmd_run(int argc, char **argv)
{
    const char *file = NULL;
    const struct sp_option options[] = {{.name = "--config", .letter = "-c", .value = &file},
                                        {.name = NULL}};
    struct sp_config *config;
    int status = sp_options_read(argc, argv, options, NULL, help, NULL);
    if (status >= 0) {
        return status;
    }
    if (file == NULL) {
        return sp_options_no_config(argv[0]);
    }
    if (sp_config_load(file, stderr, &config) != SP_OK) {
        return SP_EXIT_CONFIG;
    }
    status = sp_parent_main(config);
    sp_config_destroy(config);
    return status;
}
