/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
#include "tests/sim/run.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "gateway/store/journal.h"
#include "tests/sim/world.h"

#define TEXT_MAX     4096U
#define EPOCHS_MAX   16U
#define SEQUENCE_MAX 4096U

/* Which message has which number; a journal that was lost before it held anything starts a new epoch. */
struct epoch {
    char name[SP_JOURNAL_EPOCH_LEN + 1];
    struct sim_message *by_sequence[SEQUENCE_MAX];
    uint64_t highest[SIM_DEVICES_MAX]; /* of those that came for the first time */
};

struct ledger {
    struct sim_message *messages[SIM_DEVICES_MAX];
    uint32_t count[SIM_DEVICES_MAX];
    uint32_t places;
    uint32_t hangups;
    uint32_t repeats;
    struct epoch *epochs[EPOCHS_MAX];
};

static struct ledger ledger;
static uint8_t text[TEXT_MAX];
static char failure[320];

void sim_fail(const char *format, ...)
{
    if (failure[0] != '\0') {
        return;
    }
    va_list args;
    va_start(args, format);
    (void)vsnprintf(failure, sizeof(failure), format, args);
    va_end(args);
    sim_trace("CHECK", "%s", failure);
}

const char *sim_failure(void)
{
    return failure[0] == '\0' ? NULL : failure;
}

void sim_ledger_reset(void)
{
    memset(&ledger, 0, sizeof(ledger));
    failure[0] = '\0';
    for (uint32_t d = 0; d < sim_plan.devices; d++) {
        ledger.messages[d] = sim_keep(sim_plan.messages * sizeof(struct sim_message));
    }
}

struct sim_message *sim_ledger_new(uint32_t device)
{
    struct sim_message *m = &ledger.messages[device][ledger.count[device]++];
    uint32_t kind = sim_below(10);
    m->device = device;
    m->n = ledger.count[device];
    m->qos = kind == 0 ? 0 : kind < 6 ? 1 : 2;
    m->taste = sim_chance(sim_plan.poison)     ? SIM_POISON
               : sim_chance(sim_plan.unwanted) ? SIM_UNWANTED
                                               : SIM_WANTED;
    m->expiry_s = sim_chance(sim_plan.expiring) ? sim_between(1, 60) : 0;
    m->denied = m->qos > 0 && sim_chance(20);
    m->sent_ms = sim_wall_ms();
    m->hangups = ledger.hangups;
    return m;
}

struct sp_view sim_ledger_text(const struct sim_message *m)
{
    int head = snprintf((char *)text, sizeof(text), "%u.%u.%c.", m->device, m->n, (char)m->taste);
    uint32_t mix = (m->device * 2654435761U) ^ (m->n * 40503U);
    size_t len = (size_t)head + mix % sim_plan.payload_max;
    for (size_t i = (size_t)head; i < len; i++) {
        mix = mix * 1664525U + 1013904223U;
        text[i] = (uint8_t)(mix >> 24);
    }
    return sp_view(text, len);
}

struct sim_message *sim_ledger_find(struct sp_view found)
{
    char head[32] = "";
    unsigned device = 0;
    unsigned n = 0;
    sp_copy(head, found.ptr, found.len < sizeof(head) - 1 ? found.len : sizeof(head) - 1);
    if (sscanf(head, "%u.%u.", &device, &n) != 2 || device >= sim_plan.devices || n == 0 ||
        n > ledger.count[device]) {
        return NULL;
    }
    struct sim_message *m = &ledger.messages[device][n - 1];
    return sp_view_equal(sim_ledger_text(m), found) ? m : NULL;
}

void sim_ledger_hangup(void)
{
    ledger.hangups++;
}

static struct epoch *epoch_of(struct sp_view name)
{
    for (uint32_t i = 0; i < EPOCHS_MAX; i++) {
        if (ledger.epochs[i] == NULL) {
            ledger.epochs[i] = sim_keep(sizeof(struct epoch));
            sp_copy(ledger.epochs[i]->name, name.ptr, SP_JOURNAL_EPOCH_LEN);
        }
        if (sp_view_equal(name, sp_view_str(ledger.epochs[i]->name))) {
            return ledger.epochs[i];
        }
    }
    return NULL;
}

static bool first_time(struct sim_message *m, struct sp_view epoch, uint64_t sequence)
{
    struct epoch *e = epoch.len == SP_JOURNAL_EPOCH_LEN ? epoch_of(epoch) : NULL;
    if (e == NULL || sequence == 0 || sequence >= SEQUENCE_MAX) {
        sim_fail("message %u.%u came without an identity", m->device, m->n);
        return false;
    }
    if (e->by_sequence[sequence] != NULL) {
        if (e->by_sequence[sequence] != m) {
            sim_fail("sequence %u is of %u.%u and of %u.%u", (unsigned)sequence, m->device, m->n,
                     e->by_sequence[sequence]->device, e->by_sequence[sequence]->n);
        }
        return false;
    }
    e->by_sequence[sequence] = m;
    m->sequences++;
    if (sequence < e->highest[m->device]) {
        sim_fail("device %u: sequence %u came behind %u", m->device, (unsigned)sequence,
                 (unsigned)e->highest[m->device]);
    }
    e->highest[m->device] = sequence;
    return true;
}

bool sim_ledger_received(struct sim_message *m, struct sp_view epoch, uint64_t sequence)
{
    bool repeat = m->received > 0;
    if (m->denied) {
        sim_fail("message %u.%u was not allowed and came", m->device, m->n);
    }
    m->received++;
    if (m->sends == 0) {
        sim_fail("message %u.%u came and was never sent", m->device, m->n);
    }
    if (m->qos > 0 && sim_plan.cloud_5) {
        repeat = !first_time(m, epoch, sequence);
    }
    if (m->place == 0) {
        m->place = ++ledger.places;
    }
    ledger.repeats += repeat;
    if (m->sequences > m->sends) {
        sim_fail("message %u.%u was sent %u times and accepted %u times", m->device, m->n, m->sends,
                 m->sequences);
    }
    if (m->qos == 2 && !m->refused && !m->forgotten && m->sequences > 1) {
        sim_fail("message %u.%u has QoS 2 and was accepted twice", m->device, m->n);
    }
    return repeat;
}

/* ---- the end ---- */

struct sums {
    uint64_t bytes;
    uint64_t of_device[SIM_DEVICES_MAX];
    bool dead;
};

static void visit(void *arg, const struct sp_journal_entry *entry)
{
    struct sums *sums = arg;
    struct sim_message *m = sim_ledger_find(entry->payload);
    if (m == NULL) {
        sim_fail("the journal holds what nobody has sent");
        return;
    }
    m->dead = m->dead || sums->dead;
    m->waiting = m->waiting || !sums->dead;
    uint64_t cost = entry->device.len + entry->topic.len + entry->origin.len + entry->payload.len +
                    SP_ROW_OVERHEAD;
    sums->bytes += cost;
    sums->of_device[m->device] += sums->dead ? 0 : cost;
    bool late = m->expiry_s > 0 && entry->dead_ms >= m->sent_ms + m->expiry_s * 1000U;
    bool told = m->refused_good > 0 || ledger.hangups - m->hangups >= 3;
    if (sums->dead && !late && !told) {
        sim_fail("message %u.%u became a dead letter (%.*s)", m->device, m->n,
                 (int)entry->reason.len, (const char *)entry->reason.ptr);
    }
}

static void forget_fates(void)
{
    for (uint32_t d = 0; d < sim_plan.devices; d++) {
        for (uint32_t i = 0; i < ledger.count[d]; i++) {
            ledger.messages[d][i].waiting = false;
            ledger.messages[d][i].dead = false;
        }
    }
}

/* What is in it now. @return false: it cannot be read. */
static bool read_journal(struct sums *sums)
{
    char why[160];
    forget_fates();
    for (int dead = 0; dead < 2; dead++) {
        sums->dead = dead == 1;
        enum sp_err err = sp_journal_visit(SIM_STATE_DIR, dead == 1, visit, sums, why, sizeof(why));
        if (err != SP_OK) {
            return false;
        }
    }
    return true;
}

void sim_ledger_caps(void)
{
    struct sums sums = {.bytes = 0};
    if (!read_journal(&sums)) {
        return; /* whether it can be used is for the store to say */
    }
    const struct sp_limits_config *limits = &sim_config()->limits;
    if (sums.bytes > limits->journal_bytes) {
        sim_fail("the journal holds %u bytes", (unsigned)sums.bytes);
    }
    for (uint32_t d = 0; d < sim_plan.devices; d++) {
        if (sums.of_device[d] > limits->journal_device_bytes) {
            sim_fail("the journal holds %u bytes of device %u", (unsigned)sums.of_device[d], d);
        }
    }
}

static void check_fate(const struct sim_message *m)
{
    if (m->accepted && m->qos > 0 && m->acked == 0 && !m->dead && !m->waiting) {
        sim_fail("message %u.%u was accepted and is lost", m->device, m->n);
    }
    if (m->waiting) {
        sim_fail("message %u.%u is still in the journal", m->device, m->n);
    }
}

/* What was never refused came in the order in which it was sent. */
static void check_order(uint32_t device)
{
    const struct sim_message *before = NULL;
    for (uint32_t i = 0; i < ledger.count[device]; i++) {
        const struct sim_message *m = &ledger.messages[device][i];
        bool placed = m->qos > 0 && m->accepted && m->place > 0;
        if (!placed || m->refused || m->uncertain || m->forgotten) {
            continue;
        }
        if (before != NULL && m->place < before->place) {
            sim_fail("device %u: message %u came before %u", device, m->n, before->n);
        }
        before = m;
    }
}

void sim_ledger_check(void)
{
    struct sums sums = {.bytes = 0};
    if (!read_journal(&sums)) {
        sim_fail("the journal cannot be read at the end");
    }
    for (uint32_t d = 0; d < sim_plan.devices; d++) {
        for (uint32_t i = 0; i < ledger.count[d]; i++) {
            check_fate(&ledger.messages[d][i]);
        }
        check_order(d);
    }
}

struct sim_ledger_sums sim_ledger_sums(void)
{
    struct sim_ledger_sums s = {.repeats = ledger.repeats};
    for (uint32_t d = 0; d < sim_plan.devices; d++) {
        for (uint32_t i = 0; i < ledger.count[d]; i++) {
            const struct sim_message *m = &ledger.messages[d][i];
            s.sent++;
            s.accepted += m->accepted;
            s.delivered += m->received > 0;
            s.dead += m->dead;
        }
    }
    return s;
}
