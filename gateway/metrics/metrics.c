/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/metrics/metrics.h"

#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define KIND_COUNTER false
#define KIND_GAUGE   true

/* Slots lie on cache lines of their own, so that no two writers share one. The adds are atomic all the
 * same: store has two threads, and a lock prefix on an owned line costs next to nothing. */
struct slot {
    _Alignas(64) int64_t values[SP_METRIC_COUNT];
};

struct metric_info {
    const char *name;
    const char *help;
    bool gauge;
};

static const struct metric_info infos[] = {
#define X(id, text, kind, about) {(text), (about), KIND_##kind},
    SP_METRIC_MAP(X)
#undef X
};

static const char *const check_names[] = {
#define X(id, text) (text),
    SP_ATTEST_CHECK_MAP(X)
#undef X
};

static struct slot *slots; /* SP_METRICS_SLOTS of them, shared by all processes */
static _Thread_local unsigned own_slot;

enum sp_err sp_metrics_init(void)
{
    void *page = mmap(NULL, SP_METRICS_SLOTS * sizeof(struct slot), PROT_READ | PROT_WRITE,
                      MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED) {
        return SP_ERR_NOMEM;
    }
    slots = page;
    return SP_OK;
}

void sp_metrics_use_slot(unsigned slot)
{
    own_slot = slot < SP_METRICS_SLOTS ? slot : 0;
}

void sp_metric_add(enum sp_metric metric, int64_t delta)
{
    if (slots != NULL) {
        __atomic_fetch_add(&slots[own_slot].values[metric], delta, __ATOMIC_RELAXED);
    }
}

void sp_metric_inc(enum sp_metric metric)
{
    sp_metric_add(metric, 1);
}

void sp_metric_set(enum sp_metric metric, int64_t value)
{
    if (slots != NULL) {
        __atomic_store_n(&slots[own_slot].values[metric], value, __ATOMIC_RELAXED);
    }
}

void sp_metrics_clear_gauges(unsigned first_slot, unsigned last_slot)
{
    for (unsigned s = first_slot; slots != NULL && s <= last_slot && s < SP_METRICS_SLOTS; s++) {
        for (unsigned m = 0; m < SP_METRIC_COUNT; m++) {
            if (sp_metric_is_gauge((enum sp_metric)m)) {
                __atomic_store_n(&slots[s].values[m], 0, __ATOMIC_RELAXED);
            }
        }
    }
}

int64_t sp_metric_read(enum sp_metric metric)
{
    int64_t sum = 0;
    for (unsigned s = 0; slots != NULL && s < SP_METRICS_SLOTS; s++) {
        sum += __atomic_load_n(&slots[s].values[metric], __ATOMIC_RELAXED);
    }
    return sum;
}

void sp_metric_name(enum sp_metric metric, char *out, size_t cap)
{
    if (metric < SP_M_ATTEST_REFUSED) {
        (void)snprintf(out, cap, "%s", infos[metric].name);
    } else {
        (void)snprintf(out, cap, "attestations_refused_total{check=\"%s\"}",
                       check_names[metric - SP_M_ATTEST_REFUSED]);
    }
}

const char *sp_metric_help(enum sp_metric metric)
{
    return metric < SP_M_ATTEST_REFUSED ? infos[metric].help : "tokens refused, by failed check";
}

bool sp_metric_is_gauge(enum sp_metric metric)
{
    return metric < SP_M_ATTEST_REFUSED && infos[metric].gauge;
}
