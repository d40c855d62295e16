/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/* `sallyport group`: whose records are sealed under which keys. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/json_write.h"
#include "tools/options.h"

static const char help[] =
    "sallyport group: app keys, under which devices seal what they report\n"
    "\n"
    "  sallyport group add NAME [options] -c FILE     a new group with its first key\n"
    "  sallyport group list [--json] -c FILE          every group and its epochs; never keys\n"
    "  sallyport group rotate NAME -c FILE            a new epoch: monitors get its key first, "
    "then\n"
    "                                                 sensors; the old one ends with its grace "
    "period\n"
    "  sallyport group remove NAME -c FILE            forget it; no device may be in it\n"
    "  sallyport group export NAME --out OUT -c FILE  its keys, for who opens records elsewhere: "
    "JSON,\n"
    "                                                 mode 0600; see sallyport record --help\n"
    "\n"
    "  -c, --config FILE   the gateway's configuration\n"
    "  --mode MODE         open (default): the gateway opens, checks, parses and fuses\n"
    "                      end-to-end: the gateway only forwards, and holds no key at its front\n"
    "  --algorithm NAME    ccm (default): sealed, AES-CCM; mac: readable, HMAC-SHA-256\n"
    "  --grace TIME        how long an old epoch is accepted: 600s (default), 10m, 1h\n"
    "  --out OUT           the file to write; - is standard output\n"
    "\n"
    "A running gateway sees every change within a second.\n"
    "For example:  sallyport group add hall -c gw.yaml\n"
    "              sallyport device add hall-1 --role sensor --group hall --bundle hall-1.json -c "
    "gw.yaml\n"
    "\n"
    "Exit status: 0 done, 1 refused or failed, 2 wrong usage.\n";

#define TEXT_MAX_BYTES 65536U

struct sp_request {
    const char *what; /* "group add", for messages */
    const char *name;
    const char *config;
    const char *mode;
    const char *algorithm;
    const char *grace;
    const char *out;
    bool json;
};

/* "600", "600s", "10m", "1h"; up to 30 days. */
static bool parse_grace(const char *text, uint32_t *out)
{
    static const struct {
        const char *unit;
        unsigned long long seconds;
    } units[] = {{"", 1}, {"s", 1}, {"m", 60}, {"h", 3600}, {"d", 86400}};
    char *end = NULL;
    if (text[0] < '0' || text[0] > '9') {
        return false;
    }
    unsigned long long number = strtoull(text, &end, 10);
    for (size_t i = 0; i < sizeof(units) / sizeof(units[0]); i++) {
        if (strcmp(end, units[i].unit) == 0 && number >= 1 &&
            number <= 2592000 / units[i].seconds) {
            *out = (uint32_t)(number * units[i].seconds);
            return true;
        }
    }
    return false;
}

static int outcome(const struct sp_request *r, const struct sp_registry_tool *tool, enum sp_err err)
{
    return err == SP_OK ? SP_EXIT_DONE : sp_tool_registry_error(r->what, tool);
}

static int run_add(const struct sp_request *r, struct sp_registry_tool *tool)
{
    struct sp_group g = {.mode = SP_GROUP_OPEN, .algorithm = 10, .grace_s = SP_GROUP_GRACE_S};
    if (strlen(r->name) >= sizeof(g.name)) {
        return sp_tool_error(SP_EXIT_USAGE, r->what, "a group's name has at most 32 characters");
    }
    sp_copy(g.name, r->name, strlen(r->name));
    if (r->mode != NULL && !sp_group_mode_parse(r->mode, &g.mode)) {
        return sp_tool_error(SP_EXIT_USAGE, r->what, "--mode %s: say open or end-to-end", r->mode);
    }
    if (r->algorithm != NULL && !sp_group_algorithm_parse(r->algorithm, &g.algorithm)) {
        return sp_tool_error(SP_EXIT_USAGE, r->what, "--algorithm %s: say ccm or mac",
                             r->algorithm);
    }
    if (r->grace != NULL && !parse_grace(r->grace, &g.grace_s)) {
        return sp_tool_error(SP_EXIT_USAGE, r->what, "--grace %s: 1s to 30d, as 600s, 10m, 1h",
                             r->grace);
    }
    return outcome(r, tool, sp_registry_group_add(tool->registry, &g));
}

static int run_rotate(const struct sp_request *r, struct sp_registry_tool *tool)
{
    return outcome(r, tool, sp_registry_group_rotate(tool->registry, r->name, false));
}

static int run_remove(const struct sp_request *r, struct sp_registry_tool *tool)
{
    return outcome(r, tool, sp_registry_group_remove(tool->registry, r->name));
}

/* ---- list and export ---- */

struct listing {
    struct sp_registry *registry;
    struct sp_writer *w; /* JSON; NULL: lines of text */
    bool keys;
    size_t count;
};

static enum sp_err write_epoch(void *arg, const struct sp_group_epoch *e)
{
    const struct listing *l = arg;
    if (l->w == NULL) {
        char since[SP_TIME_TEXT_MAX];
        char until[SP_TIME_TEXT_MAX];
        sp_time_format(e->active_ms / 1000, since);
        sp_time_format(e->until_ms / 1000, until);
        (void)printf("  epoch %-6u in use since %-20s accepted until %s\n", e->epoch, since, until);
        return SP_OK;
    }
    sp_json_open(l->w, '{');
    sp_json_key(l->w, "epoch");
    sp_json_number(l->w, e->epoch);
    if (l->keys) {
        sp_json_key(l->w, "key");
        sp_json_hex(l->w, SP_VIEW_ARRAY(e->key));
    }
    sp_json_key(l->w, "created");
    sp_json_time(l->w, e->created_ms / 1000);
    sp_json_key(l->w, "in_use_since");
    sp_json_time(l->w, e->active_ms / 1000);
    sp_json_key(l->w, "accepted_until");
    sp_json_time(l->w, e->until_ms / 1000);
    sp_json_close(l->w, '}');
    return l->w->err;
}

static enum sp_err write_group(void *arg, const struct sp_group *g)
{
    struct listing *l = arg;
    if (l->w == NULL) {
        (void)printf("%s  %s  %s  grace %us\n", g->name, sp_group_mode_name(g->mode),
                     sp_group_algorithm_name(g->algorithm), g->grace_s);
        return sp_registry_group_epochs(l->registry, g->name, write_epoch, l);
    }
    sp_json_open(l->w, '{');
    sp_json_key(l->w, "version");
    sp_json_number(l->w, 1);
    sp_json_key(l->w, "group");
    sp_json_text(l->w, g->name);
    sp_json_key(l->w, "mode");
    sp_json_text(l->w, sp_group_mode_name(g->mode));
    sp_json_key(l->w, "algorithm");
    sp_json_text(l->w, sp_group_algorithm_name(g->algorithm));
    sp_json_key(l->w, "grace_seconds");
    sp_json_number(l->w, g->grace_s);
    sp_json_key(l->w, "epochs");
    sp_json_open(l->w, '[');
    SP_TRY(sp_registry_group_epochs(l->registry, g->name, write_epoch, l));
    sp_json_close(l->w, ']');
    sp_json_close(l->w, '}');
    return l->w->err;
}

static enum sp_err print_group(void *arg, const struct sp_group *g)
{
    static char text[TEXT_MAX_BYTES];
    struct listing *l = arg;
    struct sp_writer w;
    sp_writer_init(&w, text, sizeof(text));
    l->w = &w;
    SP_TRY(write_group(l, g));
    (void)printf("%s%.*s", l->count++ == 0 ? "" : ",\n ", (int)w.used, text);
    return SP_OK;
}

static int run_list(const struct sp_request *r, struct sp_registry_tool *tool)
{
    struct listing l = {.registry = tool->registry};
    if (!r->json) {
        return outcome(r, tool, sp_registry_group_each(tool->registry, write_group, &l));
    }
    (void)printf("[");
    int status = outcome(r, tool, sp_registry_group_each(tool->registry, print_group, &l));
    (void)printf("]\n");
    return status;
}

static int write_out(const char *what, const char *place, struct sp_view text)
{
    if (strcmp(place, "-") == 0) {
        bool ok = fwrite(text.ptr, 1, text.len, stdout) == text.len && fflush(stdout) == 0;
        return ok ? SP_EXIT_DONE : SP_EXIT_FAILED;
    }
    (void)unlink(place); /* never into a file that others may have open */
    int fd = open(place, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    bool ok = fd >= 0 && write(fd, text.ptr, text.len) == (ssize_t)text.len && fsync(fd) == 0;
    int cause = errno;
    if (fd >= 0) {
        ok = close(fd) == 0 && ok;
    }
    return ok ? SP_EXIT_DONE
              : sp_tool_error(SP_EXIT_FAILED, what, "cannot write %s: %s", place, strerror(cause));
}

static int run_export(const struct sp_request *r, struct sp_registry_tool *tool)
{
    static char text[TEXT_MAX_BYTES];
    struct sp_group g;
    struct sp_writer w;
    if (r->out == NULL) {
        return sp_tool_error(SP_EXIT_USAGE, r->what, "where to? Name a file with --out");
    }
    enum sp_err err = sp_registry_group_find(tool->registry, r->name, &g);
    sp_writer_init(&w, text, sizeof(text));
    struct listing l = {.registry = tool->registry, .w = &w, .keys = true};
    if (err == SP_OK) {
        err = write_group(&l, &g);
    }
    sp_write_u8(&w, '\n');
    int status =
        err == SP_OK ? write_out(r->what, r->out, sp_writer_view(&w)) : outcome(r, tool, err);
    sp_wipe(text, sizeof(text));
    return status;
}

/* ---- words ---- */

static const struct sp_verb verbs[] = {
    {"group add", "one group", false, run_add},
    {"group list", NULL, false, run_list},
    {"group rotate", "one group", false, run_rotate},
    {"group remove", "one group", false, run_remove},
    {"group export", "one group", false, run_export},
    {.what = NULL},
};

int sp_cmd_group(int argc, char **argv)
{
    struct sp_request r = {0};
    const struct sp_option options[] = {
        {.name = "--config", .letter = "-c", .value = &r.config},
        {.name = "--mode", .value = &r.mode, .verbs = " add "},
        {.name = "--algorithm", .value = &r.algorithm, .verbs = " add "},
        {.name = "--grace", .value = &r.grace, .verbs = " add "},
        {.name = "--out", .value = &r.out, .verbs = " export "},
        {.name = "--json", .on = &r.json, .verbs = " list "},
        {.name = NULL},
    };
    const struct sp_verbs command = {.help = help,
                                     .verbs = verbs,
                                     .options = options,
                                     .config = &r.config,
                                     .what = &r.what,
                                     .word = &r.name};
    return sp_verbs_run(argc, argv, &command, &r);
}
