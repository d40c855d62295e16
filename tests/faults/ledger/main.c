/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/faults/ledger/cloud.h"
#include "tests/faults/ledger/produce.h"
#include "tests/faults/ledger/verdict.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const char help[] =
    "sallyport-ledger: proof of docs/delivery.md; tests/faults/ runs it\n"
    "\n"
    "  sallyport-ledger produce GATEWAY FLEET LOG SEED [name=value …]\n"
    "      devices publish until stdin closes; count, window, rate, longest, topic, suite, qos,\n"
    "      no-attest=1\n"
    "  sallyport-ledger cloud PORT CA CERTIFICATE KEY LOG SEED\n"
    "      the cloud; orders on stdin\n"
    "  sallyport-ledger check BOUND LOG …\n"
    "      compare the logs; exit status 1 when a promise was broken\n";

struct setting {
    const char *name;
    const char **text;
    uint32_t *number;
};

static bool set(const struct setting *settings, size_t count, const char *word)
{
    const char *equals = strchr(word, '=');
    for (size_t i = 0; equals != NULL && i < count; i++) {
        size_t len = strlen(settings[i].name);
        if (len != (size_t)(equals - word) || memcmp(settings[i].name, word, len) != 0) {
            continue;
        }
        if (settings[i].text != NULL) {
            *settings[i].text = equals + 1;
        } else {
            *settings[i].number = (uint32_t)strtoul(equals + 1, NULL, 10);
        }
        return true;
    }
    fprintf(stderr, "sallyport-ledger: what is %s?\n", word);
    return false;
}

static int produce(int argc, char **argv)
{
    uint32_t no_attest = 0;
    struct sp_produce_options o = {.longest = 400,
                                   .fleet = {.suite = "ccm-8",
                                             .topic = "dt/{id}/n",
                                             .publishers = 16,
                                             .window = 16,
                                             .qos = 1,
                                             .keep_alive = 60}};
    const struct setting settings[] = {
        {"count", NULL, &o.fleet.publishers}, {"window", NULL, &o.fleet.window},
        {"rate", NULL, &o.fleet.rate},        {"longest", NULL, &o.longest},
        {"topic", &o.fleet.topic, NULL},      {"suite", &o.fleet.suite, NULL},
        {"qos", NULL, &o.fleet.qos},          {"no-attest", NULL, &no_attest}};
    if (argc < 4) {
        return -1;
    }
    o.fleet.gateway = argv[0];
    o.fleet.fleet = argv[1];
    o.log = argv[2];
    o.seed = strtoull(argv[3], NULL, 10);
    for (int i = 4; i < argc; i++) {
        if (!set(settings, sizeof(settings) / sizeof(settings[0]), argv[i])) {
            return 2;
        }
    }
    o.fleet.no_attest = no_attest != 0;
    return sp_produce(&o);
}

static int cloud(int argc, char **argv)
{
    if (argc != 6) {
        return -1;
    }
    const struct sp_cloud_options o = {.port = (uint32_t)strtoul(argv[0], NULL, 10),
                                       .ca = argv[1],
                                       .certificate = argv[2],
                                       .key = argv[3],
                                       .log = argv[4],
                                       .seed = strtoull(argv[5], NULL, 10)};
    return sp_cloud_play(&o);
}

static bool read_log(struct sp_verdict *v, const char *path)
{
    struct sp_entry e;
    FILE *in = fopen(path, "rb");
    bool good = in != NULL;
    while (good && fread(&e, sizeof(e), 1, in) == 1) {
        good = sp_verdict_add(v, &e) == SP_OK;
    }
    if (in == NULL || fclose(in) != 0 || !good) {
        fprintf(stderr, "sallyport-ledger: %s is no log of ours\n", path);
        return false;
    }
    return true;
}

static void print_lost(void *arg, uint32_t device, uint64_t number)
{
    unsigned *shown = arg;
    if ((*shown)++ < 20) {
        fprintf(stderr, "lost: device %" PRIu32 " number %" PRIu64 "\n", device, number);
    }
}

static void print_findings(const struct sp_findings *f)
{
    const struct {
        const char *name;
        uint64_t value;
    } list[] = {
        {"sent", f->sent},
        {"acked", f->acked},
        {"refused", f->refused},
        {"delivered", f->delivered},
        {"dead", f->dead},
        {"unexplained", f->unexplained},
        {"expired", f->expired},
        {"copies", f->copies},
        {"repeats", f->repeats},
        {"most_repeats", f->most},
        {"cloud_connections", f->connections},
        {"lost", f->lost},
        {"invented", f->invented},
        {"altered", f->altered},
        {"disorder", f->disorder},
        {"overtaken", f->overtaken},
        {"backwards", f->backwards},
        {"renamed", f->renamed},
        {"swamped", f->swamped},
    };
    for (size_t i = 0; i < sizeof(list) / sizeof(list[0]); i++) {
        printf("%s\"%s\":%" PRIu64, i == 0 ? "{" : ",", list[i].name, list[i].value);
    }
    printf("}\n");
}

static int check(int argc, char **argv)
{
    struct sp_verdict *v = NULL;
    unsigned shown = 0;
    if (argc < 2) {
        return -1;
    }
    bool good = sp_verdict_create(strtoull(argv[0], NULL, 10), &v) == SP_OK;
    for (int i = 1; good && i < argc; i++) {
        good = read_log(v, argv[i]);
    }
    if (!good) {
        sp_verdict_destroy(v);
        return 2;
    }
    const struct sp_findings f = sp_verdict_find(v);
    print_findings(&f);
    sp_verdict_lost(v, print_lost, &shown);
    sp_verdict_destroy(v);
    return sp_findings_good(&f) ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {{"produce", produce}, {"cloud", cloud}, {"check", check}};
    for (size_t i = 0; argc > 1 && i < sizeof(commands) / sizeof(commands[0]); i++) {
        if (strcmp(argv[1], commands[i].name) == 0) {
            int status = commands[i].run(argc - 2, argv + 2);
            if (status >= 0) {
                return status;
            }
        }
    }
    fputs(help, stderr);
    return 2;
}
