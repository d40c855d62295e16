/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <cjson/cJSON.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>

#include "gateway/proc/status_socket.h"
#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/options.h"

#define LOOK_MS 50U
#define WAIT_MS 60000U /* longer than all that an upgrade may take */

static const char help[] =
    "sallyport reload: the running gateway takes up what has changed\n"
    "\n"
    "  sallyport reload [--exec] -c FILE\n"
    "\n"
    "Reads the configuration anew, as SIGHUP does; the gateway's log says what came of it.\n"
    "\n"
    "  -c, --config FILE   the gateway's configuration\n"
    "  --exec              start the program anew as well, by the path that it was started by: "
    "the\n"
    "                      new one, after an upgrade. Connections, sessions and queues are handed\n"
    "                      over; devices notice nothing. Waits until it is done, and says why if "
    "it\n"
    "                      is not: then the old program serves on as before\n"
    "\n"
    "Exit status: 0 done, 1 refused or no gateway runs, 2 wrong usage.\n";

/* What the gateway says of itself. */
struct state {
    pid_t pid;
    bool upgrades; /* it knows about them */
    double asked;
    bool under_way;
    char result[200];
};

static bool number_of(const cJSON *object, const char *name, double *out)
{
    const cJSON *item = cJSON_GetObjectItemCaseSensitive(object, name);
    *out = cJSON_IsNumber(item) ? item->valuedouble : 0;
    return cJSON_IsNumber(item);
}

static bool parse(const char *text, struct state *out)
{
    cJSON *doc = cJSON_Parse(text);
    const cJSON *upgrades = cJSON_GetObjectItemCaseSensitive(doc, "upgrades");
    const cJSON *result = cJSON_GetObjectItemCaseSensitive(upgrades, "result");
    double pid = 0;
    *out = (struct state){.pid = 0};
    (void)number_of(doc, "pid", &pid);
    out->pid = (pid_t)pid;
    out->upgrades = number_of(upgrades, "asked", &out->asked) && cJSON_IsString(result);
    out->under_way = cJSON_IsTrue(cJSON_GetObjectItemCaseSensitive(upgrades, "under_way"));
    if (out->upgrades) {
        (void)snprintf(out->result, sizeof(out->result), "%s", result->valuestring);
    }
    cJSON_Delete(doc);
    return out->pid > 1;
}

static enum sp_err look(const struct sp_config *config, struct state *out)
{
    char *text = NULL;
    enum sp_err err = sp_status_ask(config->state_dir, &text);
    if (err == SP_OK && !parse(text, out)) {
        err = SP_ERR_MALFORMED;
    }
    free(text);
    return err;
}

static int failed(const char *detail)
{
    return sp_tool_error(SP_EXIT_FAILED, "reload", "%s", detail);
}

/* While the program changes, questions wait in the socket. */
static int await_end(const struct sp_config *config, double asked)
{
    const struct timespec nap = {.tv_nsec = (long)LOOK_MS * 1000000L};
    struct state now = {.under_way = true};
    for (unsigned waited = 0; waited < WAIT_MS; waited += LOOK_MS) {
        (void)nanosleep(&nap, NULL);
        if (look(config, &now) == SP_ERR_CLOSED) {
            return failed("the gateway has ended; see its log");
        }
        if (now.upgrades && now.asked > asked && !now.under_way) {
            return strcmp(now.result, "done") == 0 ? SP_EXIT_DONE : failed(now.result);
        }
    }
    return failed("no end within 60 s; see the gateway's log");
}

static int reload(const struct sp_config *config, bool exec)
{
    struct state before;
    enum sp_err err = look(config, &before);
    if (err == SP_ERR_CLOSED) {
        return sp_tool_error(SP_EXIT_FAILED, "reload",
                             "no gateway runs on %s: start it with sallyport run -c FILE",
                             config->state_dir);
    }
    if (err != SP_OK) {
        return sp_tool_error(SP_EXIT_FAILED, "reload", "%s: %s", config->state_dir,
                             err == SP_ERR_IO ? strerror(errno) : sp_err_text(err));
    }
    if (exec && !before.upgrades) {
        return failed("the gateway that runs cannot hand over: it needs a restart");
    }
    if (exec && before.under_way) {
        return failed("an upgrade is under way");
    }
    if (kill(before.pid, exec ? SIGUSR2 : SIGHUP) != 0) {
        return failed(strerror(errno));
    }
    return exec ? await_end(config, before.asked) : SP_EXIT_DONE;
}

int sp_cmd_reload(int argc, char **argv)
{
    const char *file = NULL;
    bool exec = false;
    const struct sp_option options[] = {{.name = "--config", .letter = "-c", .value = &file},
                                        {.name = "--exec", .on = &exec},
                                        {.name = NULL}};
    struct sp_config *config;
    int status = sp_options_config(argc, argv, options, help, &file, sp_config_load, SP_EXIT_FAILED,
                                   &config);
    if (status >= 0) {
        return status;
    }
    status = reload(config, exec);
    sp_config_destroy(config);
    return status;
}
