/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/options.h"

static const char help[] =
    "sallyport check: read a configuration, name every fault, touch nothing\n"
    "\n"
    "  sallyport check -c FILE [--print]\n"
    "\n"
    "Faults go to stderr as FILE:LINE: what is wrong; all of them at once, included files too.\n"
    "  -c, --config FILE   the configuration\n"
    "  --print             print it in canonical form, every default filled in\n"
    "\n"
    "Exit status: 0 in order, 1 faulty, 2 wrong usage.\n";

int sp_cmd_check(int argc, char **argv)
{
    const char *file = NULL;
    bool print = false;
    const struct sp_option options[] = {{.name = "--config", .letter = "-c", .value = &file},
                                        {.name = "--print", .on = &print},
                                        {.name = NULL}};
    struct sp_config *config;
    int status = sp_options_config(argc, argv, options, help, &file, sp_config_load, SP_EXIT_FAILED,
                                   &config);
    if (status >= 0) {
        return status;
    }
    if (print) {
        sp_config_print(config, stdout);
    } else {
        printf("%s is in order\n", file);
    }
    sp_config_destroy(config);
    return SP_EXIT_DONE;
}
