/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * What finding the subscribers of a topic costs while the number of filters grows: one exact filter for each device, and a
 * thousand with wildcards, of which the topic matches two.
 */
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "gateway/gate/route/subs.h"

#define WILDCARDS 1000U
#define MATCHES   200000U

static double cpu_ns(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
    return (double)now.tv_sec * 1e9 + (double)now.tv_nsec;
}

static void need(bool condition, const char *what)
{
    if (!condition) {
        (void)fprintf(stderr, "sallyport-index-bench: %s\n", what);
        exit(1);
    }
}

static void add(struct sp_subs *subs, const char *filter, sp_slot_tag session)
{
    bool existed;
    struct sp_filter *made;
    const struct sp_subscriber one = {.session = session};
    need(sp_subs_add(subs, sp_view_str(filter), &one, &existed, &made) == SP_OK, "no memory");
}

static void fill(struct sp_subs *subs, unsigned devices)
{
    char filter[48];
    for (unsigned k = 0; k < devices; k++) {
        (void)snprintf(filter, sizeof(filter), "cmd/dev%u/valve", k);
        add(subs, filter, k + 1);
    }
    for (unsigned k = 0; k < WILDCARDS - 2; k++) {
        (void)snprintf(filter, sizeof(filter), "dt/+/kind%u/#", k);
        add(subs, filter, devices + k + 1);
    }
    add(subs, "cmd/+/valve", devices + WILDCARDS);
    add(subs, "cmd/#", devices + WILDCARDS + 1);
}

/* Topics in an order that no cache likes. */
static void find(struct sp_subs *subs, unsigned devices)
{
    struct sp_matches found = {0};
    uint32_t device = 1;
    double start = cpu_ns();
    for (unsigned i = 0; i < MATCHES; i++) {
        char topic[48];
        device = device * 1664525U + 1013904223U;
        (void)snprintf(topic, sizeof(topic), "cmd/dev%u/valve", device % devices);
        need(sp_subs_match(subs, sp_view_str(topic), 0, 0, &found) == SP_OK && found.count == 3,
             "a topic has three subscribers");
    }
    printf("%9u exact filters, %u with wildcards: %5.0f ns for a match\n", devices, WILDCARDS,
           (cpu_ns() - start) / MATCHES);
    sp_matches_deinit(&found);
}

int main(void)
{
    static const unsigned sizes[] = {1000, 10000, 100000, 1000000};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct sp_subs *subs;
        need(sp_subs_create(1, &subs) == SP_OK, "no memory");
        fill(subs, sizes[i]);
        find(subs, sizes[i]);
        sp_subs_destroy(subs);
    }
    return 0;
}
