/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * sallyport-sim [--seeds A-B] [--first]     those runs (default 1-3000)
 * sallyport-sim --seed S [--trace]          one of them, line by line
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>

#include "gateway/metrics/metrics.h"
#include "tests/sim/disk.h"
#include "tests/sim/run.h"

#define LINE_MAX_BYTES 512

struct task {
    unsigned long long from;
    unsigned long long to;
    bool first; /* stop at the first failure */
    bool loud;
};

static int usage(void)
{
    (void)fputs("usage: sallyport-sim [--seeds A-B] [--first] [--verbose] | --seed S [--trace]\n",
                stderr);
    return 2;
}

static bool parse(int argc, char **argv, struct task *task)
{
    static const struct option options[] = {
        {"seeds", required_argument, NULL, 's'}, {"seed", required_argument, NULL, 'o'},
        {"trace", no_argument, NULL, 't'},       {"first", no_argument, NULL, 'f'},
        {"verbose", no_argument, NULL, 'v'},     {NULL, 0, NULL, 0},
    };
    int option;
    bool right = true;
    while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
        switch (option) {
        case 's':
            right = right && sscanf(optarg, "%llu-%llu", &task->from, &task->to) == 2;
            break;
        case 'o':
            right = right && sscanf(optarg, "%llu", &task->from) == 1;
            task->to = task->from;
            task->loud = true;
            break;
        case 't':
            sim_tracing = true;
            break;
        case 'f':
            task->first = true;
            break;
        case 'v':
            task->loud = true;
            break;
        default:
            right = false;
        }
    }
    return right && optind == argc && task->from <= task->to;
}

int main(int argc, char **argv)
{
    struct task task = {.from = 1, .to = 3000};
    unsigned long long passed = 0;
    unsigned long long failed = 0;
    if (!parse(argc, argv, &task)) {
        return usage();
    }
    sim_disk_init();
    if (sp_metrics_init() != SP_OK) {
        return 1;
    }
    for (unsigned long long seed = task.from; seed <= task.to; seed++) {
        char line[LINE_MAX_BYTES];
        bool well = sim_run(seed, line, sizeof(line));
        passed += well;
        failed += !well;
        if (task.loud || !well) {
            printf("%s%s\n", well ? "" : "FAIL ", line);
        }
        if (!well && task.first) {
            break;
        }
    }
    printf("%llu passed, %llu failed\n", passed, failed);
    return failed == 0 ? 0 : 1;
}
