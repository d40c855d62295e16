/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include <stdlib.h>
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
    "  sallyport journal export [--dead-letters] -c FILE all of it, payloads too: one JSON object "
    "per line\n"
    "  sallyport journal requeue [--sequence N] -c FILE  dead letters (or that one) go to the "
    "cloud again,\n"
    "                                                    behind all others; refused records "
    "stay\n"
    "\n"
    "  -c, --config FILE   the gateway's configuration\n"
    "  --json              a JSON array: sequence, accepted, device, topic, bytes, died, reason\n"
    "  --dead-letters      export them instead of the messages that wait\n"
    "  --sequence N        of a dead letter\n"
    "\n"
    "The gateway may run or not.\n"
    "Exit status: 0 done, 1 failed, 2 wrong usage.\n";

struct listing {
    bool json;
    bool dead;
    bool lines; /* export */
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
           (int)e->device.len, (const char *)e->device.ptr, e->payload.len, (int)e->topic.len,
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

/* Everything but the payload, without the closing brace. */
static struct sp_view json_head(const struct listing *l, const struct sp_journal_entry *e)
{
    static char buf[1024U * 1024U]; /* the longest topics, every byte escaped */
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
    sp_json_number(&w, (int64_t)e->payload.len);
    if (l->dead) {
        sp_json_key(&w, "died");
        sp_json_time(&w, (int64_t)(e->dead_ms / 1000U));
        json_view(&w, "reason", e->reason);
    }
    if (l->lines) {
        json_view(&w, "origin", e->origin);
    }
    return sp_writer_view(&w);
}

static void print_json(const struct listing *l, const struct sp_journal_entry *e)
{
    struct sp_view text = json_head(l, e);
    printf("%s%.*s}", l->count == 0 ? "" : ",\n ", (int)text.len, (const char *)text.ptr);
}

static void print_line(const struct listing *l, const struct sp_journal_entry *e)
{
    struct sp_view text = json_head(l, e);
    printf("%.*s,\"payload\":\"", (int)text.len, (const char *)text.ptr);
    for (size_t i = 0; i < e->payload.len; i++) {
        printf("%02x", e->payload.ptr[i]);
    }
    printf("\"}\n");
}

static void print_entry(void *arg, const struct sp_journal_entry *entry)
{
    struct listing *l = arg;
    if (l->lines) {
        print_line(l, entry);
    } else if (l->json) {
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

static int requeue(const struct sp_config *config, const char *sequence)
{
    char why[256];
    char *end = NULL;
    uint64_t count = 0;
    uint64_t seq = sequence == NULL ? 0 : strtoull(sequence, &end, 10);
    if (sequence != NULL && (seq == 0 || *end != '\0')) {
        return sp_tool_error(SP_EXIT_USAGE, "journal", "--sequence takes a number from 1");
    }
    enum sp_err err = sp_journal_requeue(config->state_dir, seq, &count, why, sizeof(why));
    if (err != SP_OK && err != SP_ERR_NOT_FOUND) {
        return sp_tool_error(SP_EXIT_FAILED, "journal", "%s", why);
    }
    if (seq != 0 && count == 0) {
        return sp_tool_error(SP_EXIT_FAILED, "journal",
                             "no dead letter that the cloud may have is %s", sequence);
    }
    printf("%llu dead letters put back\n", (unsigned long long)count);
    return SP_EXIT_DONE;
}

static bool known(const char *what)
{
    static const char *const words[] = {"list", "dead-letters", "export", "requeue"};
    for (size_t i = 0; what != NULL && i < sizeof(words) / sizeof(words[0]); i++) {
        if (strcmp(what, words[i]) == 0) {
            return true;
        }
    }
    return false;
}

int sp_cmd_journal(int argc, char **argv)
{
    const char *file = NULL;
    const char *what = NULL;
    const char *sequence = NULL;
    struct listing listing = {0};
    const struct sp_option options[] = {{.name = "--config", .letter = "-c", .value = &file},
                                        {.name = "--json", .on = &listing.json},
                                        {.name = "--dead-letters", .on = &listing.dead},
                                        {.name = "--sequence", .value = &sequence},
                                        {.name = NULL}};
    struct sp_config *config;
    int status = sp_options_read(argc, argv, options, NULL, help, &what);
    if (status >= 0) {
        return status;
    }
    if (!known(what)) {
        return sp_tool_error(SP_EXIT_USAGE, "journal",
                             "say list, dead-letters, export or requeue; see --help");
    }
    listing.lines = strcmp(what, "export") == 0;
    listing.dead = listing.lines ? listing.dead : strcmp(what, "dead-letters") == 0;
    if (file == NULL) {
        return sp_options_no_config(argv[0]);
    }
    if (sp_config_load(file, stderr, &config) != SP_OK) {
        return SP_EXIT_FAILED;
    }
    status = strcmp(what, "requeue") == 0 ? requeue(config, sequence) : list(config, &listing);
    sp_config_destroy(config);
    return status;
}
