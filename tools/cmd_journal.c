/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <string.h>

#include "gateway/store/journal.h"
#include "tools/cmd.h"
#include "tools/cmd_registry.h"
#include "tools/json_write.h"
#include "tools/options.h"

static const char help[] =
    "sallyport journal: what is kept for the cloud\n"
    "\n"
    "  sallyport journal list [--json] -c FILE           messages that wait for the cloud\n"
    "  sallyport journal dead-letters [--json] -c FILE   messages that the cloud will not take, "
    "and why\n"
    "\n"
    "  -c, --config FILE   the gateway's configuration\n"
    "  --json              a JSON array: sequence, accepted, device, topic, bytes, died, reason\n"
    "\n"
    "Only reads; the gateway may run or not.\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

struct listing {
    bool json;
    bool dead;
    size_t count;
};

static void print_text(const struct listing *l, const struct sp_journal_entry *e)
{
    char accepted[SP_TIME_TEXT_MAX];
    sp_time_format((int64_t)(e->time_ms / 1000U), accepted);
    if (l->count == 0) {
        printf("%-12s %-20s %-20s %8s  %s\n", "SEQUENCE", "ACCEPTED", "DEVICE", "BYTES",
               l->dead ? "TOPIC: REASON" : "TOPIC");
    }
    printf("%-12llu %-20s %-20.*s %8zu  %.*s%s%.*s\n", (unsigned long long)e->seq, accepted,
           (int)e->device.len, (const char *)e->device.ptr, e->payload_len, (int)e->topic.len,
           (const char *)e->topic.ptr, l->dead ? ": " : "", (int)e->reason.len,
           (const char *)e->reason.ptr);
}

/* Names and topics were checked before they came into the journal: no quotes in ids, no control characters anywhere. */
static void json_view(struct sp_writer *w, const char *key, struct sp_view text)
{
    char copy[65536];
    size_t len = text.len < sizeof(copy) ? text.len : sizeof(copy) - 1U;
    sp_copy(copy, text.ptr, len);
    copy[len] = '\0';
    sp_json_key(w, key);
    sp_json_text(w, copy);
}

static void print_json(const struct listing *l, const struct sp_journal_entry *e)
{
    static char buf[512U * 1024U]; /* the longest topic, every byte escaped */
    struct sp_writer w;
    sp_writer_init(&w, buf, sizeof(buf));
    sp_json_open(&w, '{');
    sp_json_key(&w, "sequence");
    sp_json_number(&w, (int64_t)e->seq);
    sp_json_key(&w, "accepted");
    sp_json_time(&w, (int64_t)(e->time_ms / 1000U));
    json_view(&w, "device", e->device);
    json_view(&w, "topic", e->topic);
    sp_json_key(&w, "bytes");
    sp_json_number(&w, (int64_t)e->payload_len);
    if (l->dead) {
        sp_json_key(&w, "died");
        sp_json_time(&w, (int64_t)(e->dead_ms / 1000U));
        json_view(&w, "reason", e->reason);
    }
    sp_json_close(&w, '}');
    struct sp_view text = sp_writer_view(&w);
    printf("%s%.*s", l->count == 0 ? "" : ",\n ", (int)text.len, (const char *)text.ptr);
}

static void print_entry(void *arg, const struct sp_journal_entry *entry)
{
    struct listing *l = arg;
    if (l->json) {
        print_json(l, entry);
    } else {
        print_text(l, entry);
    }
    l->count++;
}

static int list(const struct sp_config *config, struct listing *l)
{
    char why[256];
    if (l->json) {
        printf("[");
    }
    enum sp_err err =
        sp_journal_visit(config->state_dir, l->dead, print_entry, l, why, sizeof(why));
    if (l->json) {
        printf("]\n");
    }
    if (err == SP_ERR_NOT_FOUND) {
        return SP_EXIT_DONE; /* a gateway that never ran holds nothing */
    }
    return err == SP_OK ? SP_EXIT_DONE : sp_tool_error(SP_EXIT_FAILED, "journal", "%s", why);
}

int sp_cmd_journal(int argc, char **argv)
{
    const char *file = NULL;
    const char *what = NULL;
    struct listing listing = {0};
    const struct sp_option options[] = {
        {"--config", "-c", &file, NULL}, {"--json", NULL, NULL, &listing.json}, {.name = NULL}};
    struct sp_config *config;
    int status = sp_options_read(argc, argv, options, help, &what);
    if (status >= 0) {
        return status;
    }
    listing.dead = what != NULL && strcmp(what, "dead-letters") == 0;
    if (what == NULL || (!listing.dead && strcmp(what, "list") != 0)) {
        return sp_tool_error(SP_EXIT_USAGE, "journal", "say list or dead-letters; see --help");
    }
    if (file == NULL) {
        return sp_options_no_config(argv[0]);
    }
    if (sp_config_load(file, stderr, &config) != SP_OK) {
        return SP_EXIT_FAILED;
    }
    status = list(config, &listing);
    sp_config_destroy(config);
    return status;
}
