/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "gateway/metrics/metrics.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define KIND_COUNTER false
#define KIND_GAUGE   true
#define NAME_MAX_    96U /* bytes of a name, with the NUL */

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

/* The page says itself what lies in it, for a program in which other metrics lie elsewhere. */
struct head {
    uint32_t metrics;
    uint32_t slot_count;
    uint32_t slots_at;  /* bytes from the start of the page */
    uint32_t slot_size; /* bytes from one slot to the next */
};

struct page {
    struct head head;
    char names[SP_METRIC_COUNT][NAME_MAX_];
    struct slot slots[SP_METRICS_SLOTS];
};

static struct slot *slots; /* SP_METRICS_SLOTS of them, shared by all processes */
static int page_fd = -1;
static int64_t inherited[SP_METRIC_COUNT]; /* of another page, taken so far */
static _Thread_local unsigned own_slot;

static struct page *map_page(int fd)
{
    void *at = mmap(NULL, sizeof(struct page), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    return at == MAP_FAILED ? NULL : at;
}

static void use_page(struct page *page, int fd)
{
    if (page_fd >= 0) {
        close(page_fd);
    }
    page_fd = fd;
    slots = page->slots;
}

enum sp_err sp_metrics_init(void)
{
    int fd = memfd_create("sallyport.metrics", MFD_CLOEXEC);
    struct page *page = fd >= 0 && ftruncate(fd, sizeof(*page)) == 0 ? map_page(fd) : NULL;
    if (page == NULL) {
        if (fd >= 0) {
            close(fd);
        }
        return SP_ERR_NOMEM;
    }
    page->head.metrics = SP_METRIC_COUNT;
    page->head.slot_count = SP_METRICS_SLOTS;
    page->head.slots_at = offsetof(struct page, slots);
    page->head.slot_size = sizeof(struct slot);
    for (unsigned m = 0; m < SP_METRIC_COUNT; m++) {
        sp_metric_name((enum sp_metric)m, page->names[m], sizeof(page->names[m]));
    }
    use_page(page, fd);
    return SP_OK;
}

int sp_metrics_fd(void)
{
    return page_fd;
}

enum sp_err sp_metrics_adopt(int fd)
{
    struct stat state;
    bool same_size = fstat(fd, &state) == 0 && state.st_size == (off_t)sizeof(struct page);
    struct page *page = same_size ? map_page(fd) : NULL;
    if (page == NULL) {
        return SP_ERR_UNSUPPORTED;
    }
    bool same = page->head.metrics == SP_METRIC_COUNT && page->head.slot_count == SP_METRICS_SLOTS;
    for (unsigned m = 0; same && m < SP_METRIC_COUNT; m++) {
        char name[NAME_MAX_] = "";
        sp_metric_name((enum sp_metric)m, name, sizeof(name));
        same = strncmp(page->names[m], name, sizeof(name)) == 0;
    }
    if (!same) {
        (void)munmap(page, sizeof(*page));
        return SP_ERR_UNSUPPORTED;
    }
    use_page(page, fd);
    return SP_OK;
}

/* The sum over the slots of a metric of another program's page; 0: it has none of that name. */
static int64_t read_other(const uint8_t *at, size_t size, const char *name)
{
    struct head head;
    int64_t sum = 0;
    memcpy(&head, at, sizeof(head));
    size_t names_end = offsetof(struct page, names) + (size_t)head.metrics * NAME_MAX_;
    if (head.metrics > size / NAME_MAX_ || names_end > head.slots_at ||
        head.slot_size < head.metrics * sizeof(sum) ||
        head.slots_at + (uint64_t)head.slot_count * head.slot_size > size) {
        return 0;
    }
    for (uint32_t m = 0; m < head.metrics; m++) {
        const uint8_t *have = at + offsetof(struct page, names) + (size_t)m * NAME_MAX_;
        if (strncmp((const char *)have, name, NAME_MAX_) != 0) {
            continue;
        }
        for (uint32_t s = 0; s < head.slot_count; s++) {
            int64_t value;
            memcpy(&value, at + head.slots_at + (size_t)s * head.slot_size + m * sizeof(value),
                   sizeof(value));
            sum += value;
        }
    }
    return sum;
}

void sp_metrics_inherit(int fd)
{
    struct stat state;
    if (fstat(fd, &state) != 0 || state.st_size < (off_t)offsetof(struct page, names)) {
        return;
    }
    size_t size = (size_t)state.st_size;
    void *at = mmap(NULL, size, PROT_READ, MAP_SHARED, fd, 0);
    if (at == MAP_FAILED) {
        return;
    }
    for (unsigned m = 0; m < SP_METRIC_COUNT; m++) {
        char name[NAME_MAX_] = "";
        sp_metric_name((enum sp_metric)m, name, sizeof(name));
        if (!sp_metric_is_gauge((enum sp_metric)m)) {
            int64_t sum = read_other(at, size, name);
            sp_metric_add((enum sp_metric)m, sum - inherited[m]);
            inherited[m] = sum;
        }
    }
    (void)munmap(at, size);
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
