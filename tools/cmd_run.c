/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <stdio.h>

#include "gateway/proc/proc.h"
#include "gateway/tls/tls.h"
#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/options.h"

static const char help[] =
    "sallyport run: the gateway, in the foreground\n"
    "\n"
    "  sallyport run [--check] -c FILE\n"
    "\n"
    "  --check             say whether this program could take over from one that runs: reads the "
    "configuration,\n"
    "                      tries its suites and certificates, touches nothing; what `reload "
    "--exec` "
    "asks first\n"
    "\n"
    "Logs to stderr, one event per line: event=listening with each address, event=ready once it "
    "serves\n"
    "(systemd is told too). SIGTERM and SIGINT stop it in order; SIGHUP reads the configuration "
    "anew,\n"
    "and a faulty one changes nothing. SIGUSR2 is what `sallyport reload --exec` sends.\n"
    "\n"
    "Exit status: 0 stopped in order, 1 could not start, 2 wrong usage, 77 not permitted,\n"
    "78 the configuration is faulty.\n";

/* What would go wrong in gate is found here, in a process that nobody depends on. */
static int check(const struct sp_config *config)
{
    for (size_t i = 0; i < config->listener_count; i++) {
        struct sp_tls_server *server = NULL;
        char why[160] = "out of memory";
        if (sp_tls_server_create(&config->listeners[i], why, sizeof(why), &server) != SP_OK) {
            return sp_tool_error(SP_EXIT_FAILED, "run", "listener %s: %s",
                                 config->listeners[i].address, why);
        }
        sp_tls_server_destroy(server);
    }
    printf("handover %u\n", SP_HANDOVER_VERSION);
    return SP_EXIT_DONE;
}

int sp_cmd_run(int argc, char **argv)
{
    const char *file = NULL;
    bool check_only = false;
    const struct sp_option options[] = {{.name = "--config", .letter = "-c", .value = &file},
                                        {.name = "--check", .on = &check_only},
                                        {.name = NULL}};
    struct sp_config *config;
    int status = sp_options_config(argc, argv, options, help, &file, sp_parent_load, SP_EXIT_CONFIG,
                                   &config);
    if (status >= 0) {
        return status;
    }
    status = check_only ? check(config) : sp_parent_main(config);
    sp_config_destroy(config);
    return status;
}
