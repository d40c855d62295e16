/* SPDX-License-Identifier: Apache-2.0 */
/* Copyright The Sallyport Authors */
/*
 * store: the journal in front of the cloud.
 *
 * Rights, and why:
 * - files beneath state_dir: the journal;
 * - outgoing TCP, and the resolver's files and sockets: the cloud;
 * - the cloud's certificate key, in memory: read before the sandbox is entered;
 * - one channel to each gate loop and the control channel to the parent.
 * It has no device keys, listens nowhere, and starts no program.
 */
#include <signal.h>

#include "gateway/log/log.h"
#include "gateway/metrics/metrics.h"
#include "gateway/proc/proc.h"
#include "gateway/proc/sandbox.h"
#include "gateway/store/cloud.h"
#include "gateway/store/journal.h"
#include "gateway/store/keeper.h"

#define FAREWELL_MS       1500U /* for acknowledgements of the cloud, when stopping … */
#define FAREWELL_SHORT_MS 100U  /* … while devices wait for another store */

struct store {
    struct sp_journal *journal;
    struct sp_handoff *handoff;
    struct sp_cloud *cloud;
    struct sp_keeper *keeper;
};

static bool open_journal(struct store *s, const struct sp_config *config)
{
    char why[256];
    if (sp_journal_open(config->state_dir, why, sizeof(why), &s->journal) != SP_OK) {
        sp_log_error(SP_EVENT("journal_refused"), SP_F_STR("error", why));
        return false;
    }
    struct sp_journal_stats stats = sp_journal_stats(s->journal);
    sp_log_info(SP_EVENT("journal_open"), SP_F_STR("epoch", sp_journal_epoch(s->journal)),
                SP_F_INT("messages", stats.messages), SP_F_INT("bytes", stats.bytes),
                SP_F_INT("dead_letters", stats.dead_letters));
    return true;
}

static bool open_cloud(struct store *s, const struct sp_config *config)
{
    char why[256] = "out of memory";
    if (!config->cloud.enabled) {
        return true;
    }
    if (sp_handoff_create(config->cloud.connections, &s->handoff) != SP_OK ||
        sp_cloud_create(config, s->handoff, sp_journal_epoch(s->journal), why, sizeof(why),
                        &s->cloud) != SP_OK) {
        sp_log_error(SP_EVENT("cloud_config"), SP_F_STR("error", why));
        return false;
    }
    return true;
}

/* In an upgrade the link was up a moment ago. */
static void expect_links(struct store *s, const struct sp_child *child)
{
    for (uint32_t i = 0; child->beside && s->cloud != NULL && i < child->config->cloud.connections;
         i++) {
        sp_handoff_set_up(s->handoff, i, true);
    }
}

static bool serve(struct store *s, const struct sp_child *child)
{
    enum sp_err err = sp_keeper_create(child, s->journal, s->handoff, &s->keeper);
    if (err == SP_OK) {
        err = sp_sandbox_enter(SP_PROCESS_STORE, child->config);
    }
    expect_links(s, child);
    if (err == SP_OK && s->cloud != NULL) {
        err = sp_cloud_start(s->cloud);
    }
    const struct sp_control ready = {.type = SP_CONTROL_READY};
    if (err == SP_OK) {
        err = sp_control_send(child->control, &ready, -1);
    }
    if (err != SP_OK) {
        sp_log_error(SP_EVENT("store_failed"), SP_F_ERR(err));
    } else if (!sp_keeper_run(s->keeper)) {
        err = SP_ERR_PROTOCOL;
    }
    if (s->handoff != NULL) {
        bool hurry = s->keeper != NULL && sp_keeper_in_a_hurry(s->keeper);
        sp_handoff_stop(s->handoff, hurry ? FAREWELL_SHORT_MS : FAREWELL_MS);
        sp_cloud_join(s->cloud);
    }
    if (s->keeper != NULL) {
        sp_keeper_finish(s->keeper);
    }
    return err == SP_OK;
}

int sp_store_main(const struct sp_child *child)
{
    struct store s = {0};
    sp_log_init("store", SP_LOG_INFO);
    sp_metrics_use_slot(SP_METRICS_SLOT_STORE);
    (void)signal(SIGPIPE, SIG_IGN);
    (void)signal(SIGINT, SIG_IGN); /* the parent says when to stop */
    (void)signal(SIGTERM, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN); /* a file limit is a failed write, not an end */
    bool ok = open_journal(&s, child->config) && open_cloud(&s, child->config) && serve(&s, child);
    sp_keeper_destroy(s.keeper);
    sp_cloud_destroy(s.cloud);
    sp_handoff_destroy(s.handoff);
    sp_journal_close(s.journal);
    return ok ? 0 : 1;
}
